//! One `now()` for all shards: in reads, writes and defaults of a transaction or statement over several, and a refusal
//! where it would be asked for out of sight.

use super::copying::copy_in;
use super::stage::{Stage, extended, keys_of, one, one_each, say, segment, send};
use mothership_tests::message::{self, Format};
use mothership_tests::{Frame, Shards, Wire};
use std::collections::BTreeSet;

const TABLES: &str = "[[table]]\nname = \"stamped\"\nkey = [\"id\"]\nkey_type = [\"int8\"]\n\
    [[table]]\nname = \"touched\"\nkey = [\"id\"]\nkey_type = [\"int8\"]\n";

const REFUSED: &str = "Error 0A000 a statement or transaction over several shards asks for the time where the router cannot \
    give all shards the same one";

fn stage() -> Stage {
    let stage = Stage::with(TABLES);
    let mut wire = stage.wire();
    for sql in [
        "CREATE TABLE stamped (id int8 PRIMARY KEY, note text, at timestamptz DEFAULT now(), day date DEFAULT CURRENT_DATE, \
            later timestamptz DEFAULT (now() + '1 day'::interval))",
        "CREATE TABLE touched (id int8 PRIMARY KEY, at timestamptz)",
        "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.at := now(); RETURN NEW; END $$",
        "CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON touched FOR EACH ROW EXECUTE FUNCTION stamp()",
        "CREATE FUNCTION since(timestamptz) RETURNS interval STABLE LANGUAGE sql AS 'SELECT now() - $1'",
        "CREATE FUNCTION twice(int8) RETURNS int8 STABLE LANGUAGE sql AS 'SELECT $1 * 2'",
        "CREATE VIEW recent AS SELECT id, note FROM stamped WHERE at > now() - interval '1 day'",
    ] {
        let told = say(&mut wire, sql);
        assert!(told[0].starts_with("CommandComplete"), "{sql}: {told:?}");
    }
    stage
}

/// The different values that the shards have of an expression over the rows of a table.
fn values(stage: &Stage, expression: &str, table: &str) -> BTreeSet<String> {
    let all = stage
        .shards
        .sql_all(&format!("SELECT {expression} FROM {table}"));
    all.iter()
        .flat_map(|text| text.lines().map(str::to_owned))
        .collect()
}

fn ok(wire: &mut Wire, sql: &str, by_parse: bool) {
    let told = match by_parse {
        false => say(wire, sql),
        true => send(wire, &extended(sql, &[], &[])),
    };
    assert!(
        !told.iter().any(|line| line.starts_with("Error")),
        "{sql}: {told:?}"
    );
}

#[test]
fn a_statement_over_shards_writes_one_time() {
    let stage = stage();
    let ids = one_each();
    let mut wire = stage.wire();
    for by_parse in [false, true] {
        let rows = ids.map(|id| format!("({id}, 'x')")).join(", ");
        ok(
            &mut wire,
            &format!("INSERT INTO stamped (id, note) VALUES {rows}"),
            by_parse,
        );
        assert_eq!(values(&stage, "id", "stamped").len(), 3);
        assert_eq!(
            values(&stage, "(at, day, later, later - at)", "stamped").len(),
            1
        );
        let written = values(&stage, "at", "stamped");
        ok(
            &mut wire,
            "UPDATE stamped SET at = now(), note = CURRENT_TIMESTAMP(2)::text || LOCALTIME",
            by_parse,
        );
        assert_eq!(values(&stage, "(at, note)", "stamped").len(), 1);
        assert_ne!(values(&stage, "at", "stamped"), written);
        // A value, and no default.
        ok(
            &mut wire,
            "DELETE FROM stamped WHERE at <= statement_timestamp()",
            by_parse,
        );
        assert_eq!(values(&stage, "id", "stamped").len(), 0);
    }
    let rows = ids
        .map(|id| format!("({id}, 'x', NULL, NULL, NULL)"))
        .join(", ");
    ok(
        &mut wire,
        &format!("INSERT INTO stamped VALUES {rows}"),
        false,
    );
    assert_eq!(
        values(&stage, "(at, day, later)", "stamped"),
        BTreeSet::from(["(,,)".to_owned()])
    );
    stage.assert_nothing_prepared();
}

/// As drivers do that prepare: a round trip of its own tells the types, and only the next one the key.
#[test]
fn a_statement_that_was_described_first_writes_its_time_on_any_shard() {
    let stage = stage();
    let statements = [
        "INSERT INTO stamped (id, note) VALUES ($1, 'x')",
        "UPDATE stamped SET at = now() WHERE id = $1",
        "SELECT count(*) FROM stamped WHERE id = $1 AND at <= now()",
        "DELETE FROM stamped WHERE at <= now() AND id = $1",
    ];
    for id in one_each() {
        for (number, sql) in statements.iter().enumerate() {
            let mut wire = stage.wire();
            say(&mut wire, "BEGIN");
            let name = format!("s{number}");
            let described = [
                message::parse(&name, sql, &[20]),
                message::describe_statement(&name),
                message::sync(),
            ];
            let told = send(&mut wire, &described);
            assert_eq!(told.last().unwrap(), "ReadyForQuery T", "{sql}: {told:?}");
            let bound = [
                message::bind(
                    "",
                    &name,
                    Format::Text,
                    &[Some(id.to_string().as_bytes())],
                    Format::Text,
                ),
                message::execute("", 0),
                message::sync(),
            ];
            let told = send(&mut wire, &bound);
            assert_eq!(told[0], "BindComplete", "{sql} for {id}: {told:?}");
            // The shard that has described it takes part afterwards, with the same time.
            let all = one_each().map(|id| format!("({id}, 'y')")).join(", ");
            let more = format!(
                "INSERT INTO stamped (id, note) VALUES {all} ON CONFLICT (id) DO UPDATE SET at = excluded.at, note = 'y'"
            );
            ok(&mut wire, &more, false);
            assert_eq!(say(&mut wire, "COMMIT")[0], "CommandComplete COMMIT");
            assert_eq!(values(&stage, "at", "stamped").len(), 1, "{sql} for {id}");
        }
        ok(&mut stage.wire(), "DELETE FROM stamped", false);
    }
    stage.assert_nothing_prepared();
}

#[test]
fn a_transaction_over_shards_has_one_time() {
    let stage = stage();
    let ids = one_each();
    let mut wire = stage.wire();
    let read = |id: i64| {
        format!(
            "SELECT now(), current_timestamp(3), current_date, current_time, localtime(1), localtimestamp, transaction_timestamp() FROM stamped WHERE id = {id}"
        )
    };
    for isolation in ["", "ISOLATION LEVEL REPEATABLE READ"] {
        for by_parse in [false, true] {
            say(&mut wire, "DELETE FROM stamped");
            say(&mut wire, &format!("BEGIN {isolation}"));
            for id in ids {
                ok(
                    &mut wire,
                    &format!("INSERT INTO stamped (id) VALUES ({id})"),
                    by_parse,
                );
            }
            assert_eq!(values(&stage, "id", "stamped").len(), 0);
            let mut answers = BTreeSet::new();
            for id in ids {
                let frames = match by_parse {
                    false => wire.query(&read(id)),
                    true => {
                        let described = |frame: &Frame| matches!(frame.kind, b'D' | b'T');
                        let mut frames = Vec::new();
                        wire.send_all(&described_by(&read(id)));
                        frames.extend(wire.until_ready().into_iter().filter(described));
                        frames
                    }
                };
                // Names and types of columns, and values.
                let shown = frames.into_iter().filter(|f| matches!(f.kind, b'D' | b'T'));
                answers.insert(shown.map(|f| without_tables(&f)).collect::<Vec<_>>());
            }
            assert_eq!(answers.len(), 1, "{answers:?}");
            let all = wire.rows("SELECT now()::text, statement_timestamp() FROM stamped");
            assert_eq!(
                (all.len(), all.iter().collect::<BTreeSet<_>>().len()),
                (3, 1),
                "{all:?}"
            );
            assert_eq!(say(&mut wire, "COMMIT")[0], "CommandComplete COMMIT");
            assert_eq!(values(&stage, "(at, day, later)", "stamped").len(), 1);
            assert_eq!(
                values(&stage, "at::text", "stamped"),
                BTreeSet::from([all[0][0].clone()])
            );
        }
    }
    // A pipeline and a text are transactions too.
    say(&mut wire, "DELETE FROM stamped");
    let inserts: Vec<String> = ids
        .iter()
        .map(|id| format!("INSERT INTO stamped (id) VALUES ({id})"))
        .collect();
    let told = send(&mut wire, &segment(inserts.iter().map(String::as_str)));
    assert!(
        !told.iter().any(|line| line.starts_with("Error")),
        "{told:?}"
    );
    assert_eq!(values(&stage, "(at, later)", "stamped").len(), 1);
    say(&mut wire, "DELETE FROM stamped");
    ok(&mut wire, &inserts.join("; "), false);
    assert_eq!(values(&stage, "id", "stamped").len(), 3);
    assert_eq!(values(&stage, "(at, later)", "stamped").len(), 1);
    stage.assert_nothing_open();
}

#[test]
fn the_query_of_an_insert_has_the_time_of_its_transaction() {
    let stage = stage();
    let ids = one_each();
    let mut wire = stage.wire();
    ok(&mut wire, "CREATE TABLE kept AS SELECT 1 AS one", false);
    for by_parse in [false, true] {
        // A table of the home shard is read there, and the transaction began on another in two cases of three.
        for first in ids {
            say(&mut wire, "DELETE FROM stamped");
            let rows = ids.map(|id| format!("({id}, 'x')")).join(", ");
            ok(
                &mut wire,
                &format!("INSERT INTO stamped (id, note) VALUES {rows}"),
                by_parse,
            );
            ok(&mut wire, "BEGIN", by_parse);
            let begins = format!("UPDATE stamped SET at = now() WHERE id = {first}");
            ok(&mut wire, &begins, by_parse);
            ok(
                &mut wire,
                "INSERT INTO stamped (id, note, at, day, later) \
                 SELECT 1000000 + row_number() OVER (ORDER BY id), 'copy', now(), CURRENT_DATE, now() FROM stamped, kept",
                by_parse,
            );
            ok(&mut wire, "COMMIT", by_parse);
            let copies = format!("stamped WHERE note = 'copy' OR id = {first}");
            assert_eq!(values(&stage, "id", &copies).len(), 4);
            assert_eq!(values(&stage, "at", &copies).len(), 1);
        }
    }
    stage.assert_nothing_open();
}

fn described_by(sql: &str) -> Vec<Vec<u8>> {
    let mut messages = extended(sql, &[], &[]);
    messages.insert(2, mothership_tests::message::describe_portal(""));
    messages
}

/// A RowDescription whose columns are of no table, or a row.
fn without_tables(frame: &Frame) -> String {
    format!("{frame} {:?}", frame.body)
}

#[test]
fn settings_told_by_queries_do_not_hide_the_time() {
    let stage = stage();
    let ids = one_each();
    let mut wire = stage.wire();
    let rows = ids.map(|id| format!("({id}, 'x')")).join(", ");
    for by_parse in [false, true] {
        for local in [
            "SELECT set_config('app.tenant', 'a|b', false)",
            "SELECT set_config('work_mem', '1MB', true)",
        ] {
            for begin in ["BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ"] {
                ok(&mut wire, local, false);
                ok(
                    &mut wire,
                    &format!("INSERT INTO stamped (id, note) VALUES {rows}"),
                    by_parse,
                );
                ok(&mut wire, begin, by_parse);
                ok(&mut wire, local, by_parse);
                ok(&mut wire, "UPDATE stamped SET at = now()", by_parse);
                ok(&mut wire, "COMMIT", by_parse);
                assert_eq!(values(&stage, "at", "stamped").len(), 1);
                ok(&mut wire, "DELETE FROM stamped", by_parse);
            }
        }
    }
    stage.assert_nothing_prepared();
}

#[test]
fn a_default_that_is_written_down_is_one_time_on_all_shards() {
    let stage = stage();
    let ids = one_each();
    let mut wire = stage.wire();
    let [a, b, c] = ids;
    for (columns, rows) in [
        (
            "(id, note, at)",
            format!("({a}, DEFAULT, DEFAULT), ({b}, 'x', default), ({c}, 'y', now())"),
        ),
        (
            "(id, at, later)",
            format!(
                "({a}, DEFAULT, now() + '1 day'), ({b}, now(), DEFAULT), ({c}, DEFAULT, DEFAULT)"
            ),
        ),
        (
            "",
            format!(
                "({a}, 'x', DEFAULT, DEFAULT, DEFAULT), ({b}, 'x', DEFAULT, DEFAULT, DEFAULT), ({c}, DEFAULT, DEFAULT, DEFAULT, DEFAULT)"
            ),
        ),
    ] {
        for by_parse in [false, true] {
            ok(
                &mut wire,
                &format!("INSERT INTO stamped {columns} VALUES {rows}"),
                by_parse,
            );
            for column in ["at", "day", "later"] {
                assert_eq!(
                    values(&stage, column, "stamped").len(),
                    1,
                    "{columns} {column}"
                );
            }
            assert_eq!(
                values(&stage, "at = later - interval '1 day'", "stamped"),
                ["t".to_owned()].into()
            );
            ok(&mut wire, "DELETE FROM stamped", by_parse);
        }
    }
    stage.assert_nothing_prepared();
}

#[test]
fn where_the_time_is_asked_for_out_of_sight_it_is_refused() {
    let stage = stage();
    let ids = one_each();
    let mut wire = stage.wire();
    let rows = ids.map(|id| format!("({id}, 'x')")).join(", ");
    ok(
        &mut wire,
        &format!("INSERT INTO stamped (id, note) VALUES {rows}"),
        false,
    );
    let (x, y) = (ids[0], ids[1]);
    let over_shards = [
        "SELECT since(at) FROM stamped".to_owned(),
        "UPDATE touched SET id = id".to_owned(),
        "UPDATE touched SET at = NULL".to_owned(),
        format!("INSERT INTO touched (id) VALUES ({x}), ({y})"),
        "UPDATE stamped SET at = DEFAULT".to_owned(),
        "UPDATE stamped SET at = 'now'".to_owned(),
        "SELECT age(at) FROM stamped".to_owned(),
        format!(
            "INSERT INTO stamped VALUES ({}), ({})",
            keys_of(0, 2)[1],
            keys_of(1, 2)[1]
        ),
        format!(
            "INSERT INTO stamped (id, at) VALUES ({x}, DEFAULT), ({y}, now()) ON CONFLICT (id) DO UPDATE SET at = DEFAULT",
        ),
    ];
    for sql in &over_shards {
        let told = say(&mut wire, sql);
        let other = told[0].starts_with("Error 0A000") && sql.starts_with("UPDATE touched SET id");
        assert!(told[0] == REFUSED || other, "{sql}: {told:?}");
        let told = send(&mut wire, &extended(sql, &[], &[]));
        assert!(
            told.iter().any(|line| line.starts_with("Error 0A000")),
            "{sql}: {told:?}"
        );
    }
    // Parameters are looked at.
    let update = "UPDATE stamped SET at = $1";
    assert!(send(&mut wire, &extended(update, &[], &["tomorrow"])).contains(&REFUSED.into()));
    let told = send(&mut wire, &extended(update, &[], &["2026-01-01"]));
    assert!(
        told.contains(&"CommandComplete UPDATE 3".into()),
        "{told:?}"
    );
    let told = send(
        &mut wire,
        &extended("UPDATE stamped SET note = $1", &[25], &["today"]),
    );
    assert!(
        told.contains(&"CommandComplete UPDATE 3".into()),
        "{told:?}"
    );
    // Where a transaction began it may all be.
    let here = |id: i64| {
        [
            format!("SELECT since(at) FROM stamped WHERE id = {id}"),
            format!("SELECT note FROM recent WHERE id = {id}"),
            format!("UPDATE touched SET at = NULL WHERE id = {id}"),
            format!("UPDATE stamped SET at = DEFAULT WHERE id = {id}"),
            format!("SELECT age(at) FROM stamped WHERE id = {id}"),
        ]
    };
    for (of_first, of_second) in here(x).iter().zip(here(y)) {
        ok(&mut wire, of_first, false);
        ok(&mut wire, "BEGIN", false);
        ok(&mut wire, of_first, false);
        ok(&mut wire, of_first, true);
        let told = say(&mut wire, &of_second);
        assert_eq!(told[0], REFUSED, "{of_second}: {told:?}");
        ok(&mut wire, "ROLLBACK", false);
    }
    // What only looks so is not refused.
    for sql in [
        "SELECT twice(id) FROM stamped",
        "SELECT 'call now()' FROM stamped",
        "UPDATE stamped SET note = 'now and then'",
    ] {
        ok(&mut wire, sql, false);
        ok(&mut wire, sql, true);
    }
    stage.assert_nothing_open();
}

#[test]
fn a_clock_of_the_users_own_is_not_taken_for_postgresqls() {
    let stage = Stage::new();
    stage.fill(1..=3);
    let mut wire = stage.wire();
    for sql in [
        "CREATE SCHEMA mock",
        "CREATE FUNCTION mock.now() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT '2000-01-01'::timestamptz $$",
        "SET search_path = mock, pg_catalog, public",
    ] {
        let said = say(&mut wire, sql);
        assert!(!said[0].starts_with("Error"), "{sql}: {said:?}");
    }
    assert_eq!(wire.rows("SELECT now()::date"), [["2000-01-01"]]);
    for sql in [
        "UPDATE items SET v = extract(year FROM now())::int8 WHERE id = 1",
        "INSERT INTO items (id, v) VALUES (7, extract(year FROM now())::int8)",
    ] {
        let said = say(&mut wire, sql);
        assert!(said[0].starts_with("Error 0A000"), "{sql}: {said:?}");
    }
    // Without its schema ahead of PostgreSQL's own, the function is not meant.
    say(&mut wire, "SET search_path = mock, public");
    let said = say(
        &mut wire,
        "UPDATE public.items SET v = extract(year FROM now())::int8 WHERE id = 1",
    );
    assert_eq!(said[0], "CommandComplete UPDATE 1");
}

/// Of a table behind the router and of one in one PostgreSQL.
const LOGS: &str = "CREATE TABLE items (id int8 PRIMARY KEY, v int8 CHECK (v < 1000), note text, \
    at timestamptz NOT NULL DEFAULT now(), day date DEFAULT CURRENT_DATE, \
    \"local Time\" timestamp(3) DEFAULT (now() AT TIME ZONE 'utc'), \
    hour timestamp DEFAULT date_trunc('hour', now()))";

#[test]
fn columns_that_a_copy_leaves_out_get_one_time() {
    let table = "[[table]]\nname = \"items\"\nkey = [\"id\"]\nkey_type = [\"int8\"]\n";
    let stage = Stage::bare(table);
    let plain = Shards::new(1);
    let mut wires = [Wire::login(&plain.endpoint(0)), stage.wire()];
    for wire in &mut wires {
        say(wire, LOGS);
    }
    let [a, b, c] = one_each();
    let text = format!("{a}\t1\tx\\\ty\n{b}\t2\t\\N\n{c}\t3\t\n");
    let csv = format!("v,note,id\r\n1,\"x,\"\"\ny\",{a}\r\n2,,{b}\r\n3,\"\",{c}\r\n");
    let (plainly, listed) = ("id, v, note", "v, note, id");
    let quoted = "(FORMAT csv, HEADER, QUOTE '''', ESCAPE '\\')";
    for (options, columns, rows) in [
        ("", plainly, text.clone()),
        ("", plainly, text.trim_end().to_owned()),
        ("(DELIMITER ':')", plainly, text.replace('\t', ":")),
        ("(DELIMITER '-')", plainly, text.replace('\t', "-")),
        ("CSV HEADER", listed, csv.clone()),
        (
            "(FORMAT csv, HEADER, DELIMITER ':')",
            listed,
            csv.replace(',', ":"),
        ),
        (quoted, listed, csv.replace('"', "'")),
        (
            "",
            "id, v, note, at",
            text.replace('\n', "\t2020-01-01 00:00Z\n"),
        ),
        ("WHERE v < 3", plainly, text.clone()),
        ("WHERE 'epoch'::timestamptz < now()", plainly, text.clone()),
        // What is wrong is said of what the client has sent.
        ("", plainly, text.replace("\t2\t", "\t2")),
        ("", plainly, text.replace("\t2\t", "\t2\t2020-01-01\t")),
        ("", plainly, text.replace("\t2\t", "\ttwo\t")),
        ("", plainly, text.replace("\t2\t", "\t2000\t")),
        ("", plainly, format!("{text}{text}")),
        ("CSV HEADER", listed, csv.replace("2,,", "2,2,,")),
        ("CSV HEADER", listed, csv.replace("2,,", "2,")),
        ("CSV HEADER", listed, csv.replace("2,,", "2,\",")),
    ] {
        let sql = format!("COPY items ({columns}) FROM STDIN {options}");
        for style in ["SQL, DMY", "German", "ISO"] {
            let settings = format!("SET datestyle = '{style}'; SET timezone = 'Asia/Kathmandu'");
            let told = wires.each_mut().map(|wire| {
                say(wire, &settings);
                wire.send(&message::query(&sql));
                let mut frames = vec![wire.frame()];
                assert_eq!(frames[0].kind, b'G', "{sql}: {}", frames[0]);
                for piece in rows.as_bytes().chunks(11) {
                    wire.send(&message::copy_data(piece));
                }
                wire.send(&message::copy_done());
                frames.extend(wire.until_ready());
                let frames: Vec<String> = frames.iter().map(Frame::to_string).collect();
                (
                    frames,
                    say(wire, "SELECT id, v, note FROM items ORDER BY id"),
                )
            });
            assert_eq!(told[1], told[0], "{sql}, {style}: {rows:?}");
            for wire in &mut wires {
                let wrong = "SELECT count(*) FROM items WHERE at > now() \
                    OR at < now() - interval '1 minute' AND at <> '2020-01-01 00:00Z' \
                    OR day < CURRENT_DATE - 1 \
                    OR abs(extract(epoch FROM \"local Time\" - now() AT TIME ZONE 'utc')) > 60 \
                    OR hour NOT IN (date_trunc('hour', now()::timestamp), \
                        date_trunc('hour', now()::timestamp - interval '1 minute'))";
                assert_eq!(one(wire, wrong), "0", "{sql}, {style}");
                let times = "SELECT count(DISTINCT (at, day, \"local Time\", hour)) < 2 FROM items";
                assert_eq!(one(wire, times), "t", "{sql}, {style}");
                say(wire, "TRUNCATE items");
            }
        }
    }
    // In a block it is the time of the transaction.
    let router = &mut wires[1];
    say(router, "BEGIN");
    let now = one(router, "SELECT now()");
    let copy = "COPY items (id, v, note) FROM STDIN";
    copy_in(router, copy, &[text.as_bytes()]);
    assert_eq!(one(router, "SELECT min(at) FROM items"), now);
    assert_eq!(one(router, "SELECT max(at) FROM items"), now);
    say(router, "ROLLBACK");
    // Wherever the statement stands in its text.
    for before in [";", " ; -- first\n;"] {
        let told = copy_in(router, &format!("{before}{copy}"), &[text.as_bytes()]);
        assert_eq!(told[0], "CommandComplete COPY 3", "{before:?}");
        for update in ["", "UPDATE items SET at = now()"] {
            say(router, &format!("{before}{update}"));
            let times = "SELECT count(DISTINCT at) FROM items";
            assert_eq!(one(router, times), "1", "{before:?}{update}");
        }
        say(router, "TRUNCATE items");
    }
    // What cannot be given one time is refused.
    for sql in [
        "COPY BINARY items (id) FROM STDIN",
        "COPY items FROM STDIN WHERE at < 'now'::timestamptz",
        "COPY items (id) FROM STDIN WHERE 'today'::date < day",
    ] {
        let told = copy_in(router, sql, &[]);
        assert!(told[0].starts_with("Error 0A000"), "{sql}: {told:?}");
    }
    let random = "at SET DEFAULT now() + random() * interval '1 s'";
    for (definition, options) in [
        ("", "(FORMAT binary)"),
        ("", "(FORMAT csv, HEADER MATCH)"),
        (random, ""),
        ("note SET DEFAULT now()", ""),
    ] {
        if !definition.is_empty() {
            say(router, &format!("ALTER TABLE items ALTER {definition}"));
        }
        let sql = format!("COPY items (id) FROM STDIN {options}");
        let told = copy_in(router, &sql, &[]);
        assert!(told[0].starts_with("Error 0A000"), "{sql}: {told:?}");
    }
    stage.assert_nothing_open();
}
