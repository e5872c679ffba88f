//! Several statements in one request: texts of simple queries and pipelines of the
//! extended protocol are one transaction over all shards.

use super::stage::{Stage, extended, keys_of, lines, one, one_each, say, segment, send};
use mothership_tests::Wire;
use mothership_tests::message::{self, Format};

fn insert(id: i64) -> [Vec<u8>; 3] {
    [
        message::parse("", "INSERT INTO items (id, v) VALUES ($1, 1)", &[]),
        message::bind_text(&[&id.to_string()]),
        message::execute("", 0),
    ]
}

fn pipeline(ids: &[i64]) -> Vec<Vec<u8>> {
    ids.iter().flat_map(|id| insert(*id)).collect()
}

#[test]
fn a_text_of_several_statements_holds_on_all_shards_or_on_none() {
    let stage = Stage::new();
    let [a, b, c] = one_each();
    let mut wire = stage.wire();
    let add = |id: i64| format!("INSERT INTO items (id, v) VALUES ({id}, 1)");
    let failing = [
        format!("{}; {}; SELECT 1 / 0; {}", add(a), add(b), add(c)),
        format!("{}; {}; {}", add(a), add(b), add(b)),
        format!(
            "{}; UPDATE items SET v = 1 / (id - {c}); {}",
            add(c),
            add(a)
        ),
        format!("{}; INSERT INTO kinds VALUES (1, 'a'), (1, 'b')", add(b)),
    ];
    for sql in failing {
        let answer = say(&mut wire, &sql);
        let errors = answer.iter().filter(|line| line.starts_with("Error"));
        assert_eq!(errors.count(), 1, "{sql}: {answer:?}");
        assert_eq!(answer.last().unwrap(), "ReadyForQuery I", "{sql}");
        assert_eq!(stage.ids("items"), [] as [i64; 0], "{sql}");
        assert_eq!(stage.copies("kinds"), [] as [&str; 0], "{sql}");
        assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "0");
    }
    let sql = format!(
        "{}; {}; SELECT count(*) FROM items; {}",
        add(a),
        add(b),
        add(c)
    );
    assert_eq!(
        say(&mut wire, &sql),
        [
            "CommandComplete INSERT 0 1",
            "CommandComplete INSERT 0 1",
            "RowDescription count",
            "DataRow 2",
            "CommandComplete SELECT 1",
            "CommandComplete INSERT 0 1",
            "ReadyForQuery I"
        ]
    );
    assert_eq!(stage.ids("items").len(), 3);
    // With transaction control of its own.
    let [d, e, _] = [keys_of(0, 5)[4], keys_of(1, 5)[4], 0];
    let sql = format!(
        "BEGIN; {}; {}; COMMIT; DELETE FROM items WHERE id = {a}",
        add(d),
        add(e)
    );
    let answer = say(&mut wire, &sql);
    assert_eq!(answer.last().unwrap(), "ReadyForQuery I", "{answer:?}");
    assert_eq!(
        answer[3..5],
        ["CommandComplete COMMIT", "CommandComplete DELETE 1"]
    );
    let mut kept = vec![b, c, d, e];
    kept.sort_unstable();
    assert_eq!(stage.ids("items"), kept);
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

#[test]
fn a_pipeline_over_shards_is_one_transaction() {
    let stage = Stage::new();
    let [a, b, c] = one_each();
    let mut wire = stage.wire();
    let mut messages = pipeline(&[a, b, c, a]);
    messages.extend(pipeline(&[keys_of(1, 3)[2]]));
    messages.push(message::sync());
    let answer = send(&mut wire, &messages);
    let errors = answer.iter().filter(|line| line.starts_with("Error 23505"));
    assert_eq!(errors.count(), 1, "{answer:?}");
    let done = answer.iter().filter(|line| line.starts_with("Command"));
    assert_eq!(done.count(), 3, "{answer:?}");
    assert_eq!(answer.last().unwrap(), "ReadyForQuery I");
    assert_eq!(stage.ids("items"), [] as [i64; 0]);
    messages = pipeline(&[a, b, c]);
    messages.push(message::sync());
    let answer = send(&mut wire, &messages);
    assert_eq!(answer.len(), 10, "{answer:?}");
    assert!(
        !answer.iter().any(|line| line.starts_with("Error")),
        "{answer:?}"
    );
    assert_eq!(stage.ids("items").len(), 3);
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "3");
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

#[test]
fn a_pipeline_of_writes_over_all_shards_is_one_transaction() {
    let stage = Stage::new();
    stage.fill(1..=20);
    let [a, _, _] = one_each();
    let mut wire = stage.wire();
    let all = |sql: &str| {
        vec![
            message::parse("", sql, &[]),
            message::bind_text(&[]),
            message::execute("", 0),
        ]
    };
    let wrong = [
        all("UPDATE items SET v = v + 1"),
        all("DELETE FROM items WHERE id IN (1, 2, 3, 4)"),
        all(&format!(
            "INSERT INTO items (id) VALUES ({a}), (6), (7), (8)"
        )),
        vec![message::sync()],
    ];
    let answer = send(&mut wire, &wrong.concat());
    assert!(
        answer.iter().any(|line| line.starts_with("Error 23505")),
        "{answer:?}"
    );
    assert_eq!(answer.last().unwrap(), "ReadyForQuery I");
    assert_eq!(one(&mut wire, "SELECT sum(v) FROM items"), "420");
    let right = [
        all("UPDATE items SET v = v + 1"),
        all("DELETE FROM items WHERE id IN (1, 2, 3, 4)"),
        all("INSERT INTO items (id, v) VALUES (1, 0), (2, 0), (3, 0), (4, 0), (21, 5)"),
        all("SELECT sum(v), count(*) FROM items"),
        vec![message::sync()],
    ];
    assert_eq!(
        send(&mut wire, &right.concat()),
        [
            "ParseComplete",
            "BindComplete",
            "CommandComplete UPDATE 20",
            "ParseComplete",
            "BindComplete",
            "CommandComplete DELETE 4",
            "ParseComplete",
            "BindComplete",
            "CommandComplete INSERT 0 5",
            "ParseComplete",
            "BindComplete",
            // 420 + 20 - (1+2+3+4)*2 - 4 + 5
            "DataRow 421 21",
            "CommandComplete SELECT 1",
            "ReadyForQuery I"
        ]
    );
    assert_eq!(stage.ids("items").len(), 21);
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

#[test]
fn what_follows_an_error_up_to_sync_is_skipped_on_every_shard() {
    let stage = Stage::new();
    stage.fill(1..=9);
    let [a, b, c] = one_each();
    let mut wire = stage.wire();
    let read = |id: i64| {
        [
            message::parse(
                "",
                "SELECT 10 / (v - $2::int8) FROM items WHERE id = $1::int8",
                &[],
            ),
            message::bind_text(&[&id.to_string(), "2"]),
            message::execute("", 0),
        ]
        .concat()
    };
    let one_is_two = 1; // v = 2 for id 1
    for order in [[a, b, c], [b, one_is_two, c], [one_is_two, c, a]] {
        let answer = send(
            &mut wire,
            &[
                read(order[0]),
                read(order[1]),
                read(order[2]),
                message::sync(),
            ],
        );
        let rows = order.iter().take_while(|id| **id != 1).count();
        let got = answer.iter().filter(|l| l.starts_with("DataRow")).count();
        assert_eq!(got, rows, "{order:?}: {answer:?}");
        let errors = answer
            .iter()
            .filter(|l| l.starts_with("Error 22012"))
            .count();
        assert_eq!(
            errors,
            usize::from(order.contains(&1)),
            "{order:?}: {answer:?}"
        );
        assert_eq!(answer.last().unwrap(), "ReadyForQuery I");
    }
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "9");
}

#[test]
fn who_only_prepares_what_is_known_takes_no_connection() {
    let stage = Stage::new();
    let id = keys_of(2, 1)[0];
    stage.fill([id]);
    let mut wire = stage.wire();
    let text = "SELECT note FROM items WHERE id = $1";
    let parse = |name: &str| [message::parse(name, text, &[]), message::sync()];
    let parsed = ["ParseComplete", "ReadyForQuery I"];
    assert_eq!(send(&mut wire, &parse("first")), parsed);
    // In a transaction that no server knows of yet it stays so.
    wire.query("BEGIN");
    assert_eq!(send(&mut wire, &parse("second"))[0], "ParseComplete");
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND state = 'idle in transaction'";
    assert_eq!(stage.shards.sql_all(open), ["0", "0", "0"]);
    let run = [
        message::bind(
            "",
            "second",
            Format::Text,
            &[Some(id.to_string().as_bytes())],
            Format::Text,
        ),
        message::execute("", 0),
        message::sync(),
    ];
    let row = format!("DataRow n{id}");
    assert_eq!(send(&mut wire, &run)[1], row);
    assert_eq!(stage.shards.sql_all(open), ["0", "0", "1"]);
    wire.query("ROLLBACK");
    // What was valid may not be so any longer: a server is asked again.
    let mut other = stage.wire();
    let dropped = say(&mut other, "ALTER TABLE items DROP COLUMN note");
    assert_eq!(dropped[0], "CommandComplete ALTER TABLE");
    let refused = send(&mut wire, &parse("third"));
    assert!(refused[0].starts_with("Error 42703"), "{refused:?}");
}

#[test]
fn the_end_of_a_write_over_shards_is_said_when_it_has_committed() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    let mut servers: Vec<Wire> = (0..3)
        .map(|shard| Wire::login(&stage.shards.endpoint(shard)))
        .collect();
    let [a, b, c] = one_each();
    let sql = format!("INSERT INTO items (id, v) VALUES ({a}, $1), ({b}, $1), ({c}, $1)");
    for round in 0..30 {
        let value = round.to_string();
        // Drivers that copy or insert go on at CommandComplete.
        wire.send_all(&extended(&sql, &[20], &[&value]));
        loop {
            let frame = wire.frame();
            assert_ne!(frame.kind, b'E', "{frame}");
            if frame.kind == b'C' {
                break;
            }
        }
        for server in &mut servers {
            assert_eq!(one(server, "SELECT v FROM items"), value);
        }
        assert_eq!(wire.frame().kind, b'Z');
        assert_eq!(
            say(&mut wire, "DELETE FROM items")[0],
            "CommandComplete DELETE 3"
        );
    }
    // Who asks for the answers so far gets them before.
    let mut messages = extended(&sql, &[20], &["1"]);
    messages.pop();
    messages.push(message::flush());
    wire.send_all(&messages);
    while wire.frame().kind != b'C' {}
    assert_eq!(
        stage.shards.sql_all("SELECT count(*) FROM items"),
        ["0", "0", "0"]
    );
    wire.send_all(&[message::sync()]);
    assert_eq!(lines(&wire.until_ready()), ["ReadyForQuery I"]);
    assert_eq!(
        stage.shards.sql_all("SELECT count(*) FROM items"),
        ["1", "1", "1"]
    );
    // A commit that fails is told behind the statement's end, as PostgreSQL does.
    stage.shards.sql(
        2,
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'; \
         CREATE CONSTRAINT TRIGGER no AFTER INSERT ON items DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION no()",
    );
    say(&mut wire, "DELETE FROM items");
    let told = send(&mut wire, &extended(&sql, &[20], &["1"]));
    let expected = [
        "ParseComplete",
        "BindComplete",
        "CommandComplete INSERT 0 3",
        "Error P0001 no",
        "ReadyForQuery I",
    ];
    assert_eq!(told, expected);
    assert_eq!(
        stage.shards.sql_all("SELECT count(*) FROM items"),
        ["0", "0", "0"]
    );
    stage.assert_nothing_prepared();
}

#[test]
fn a_savepoint_is_there_after_a_failure_behind_which_another_shard_was_asked_for() {
    let stage = Stage::new();
    let [a, b, _] = one_each();
    let mut wire = stage.wire();
    say(&mut wire, "BEGIN");
    say(
        &mut wire,
        &format!("INSERT INTO items (id, v) VALUES ({a}, 1)"),
    );
    say(&mut wire, "SAVEPOINT t");
    let mut messages = extended("ROLLBACK TO s", &[], &[]);
    messages.pop();
    messages.extend(insert(b));
    messages.push(message::sync());
    let answer = send(&mut wire, &messages);
    assert_eq!(
        answer[2..],
        [
            "Error 3B001 savepoint \"s\" does not exist",
            "ReadyForQuery E"
        ]
    );
    assert_eq!(
        say(&mut wire, "ROLLBACK TO t"),
        ["CommandComplete ROLLBACK", "ReadyForQuery T"]
    );
    say(&mut wire, "COMMIT");
    assert_eq!(stage.ids("items"), [a]);
}

/// What statements of one segment are answered, without what Parse and Bind are.
fn in_one_segment(wire: &mut Wire, statements: &[&str]) -> Vec<String> {
    let mut answer = send(wire, &segment(statements.iter().copied()));
    answer.retain(|line| !["ParseComplete", "BindComplete"].contains(&line.as_str()));
    answer
}

#[test]
fn a_begin_behind_a_read_is_the_clients_own() {
    let stage = Stage::new();
    let [a, b, _] = one_each();
    let mut wire = stage.wire();
    let read = format!("SELECT v FROM items WHERE id = {a}");
    let insert = format!("INSERT INTO items (id, v) VALUES ({b}, 1)");
    let answer = in_one_segment(&mut wire, &[&read, "BEGIN", &insert]);
    assert_eq!(answer.last().unwrap(), "ReadyForQuery T", "{answer:?}");
    assert_eq!(
        say(&mut wire, "ROLLBACK"),
        ["CommandComplete ROLLBACK", "ReadyForQuery I"]
    );
    assert_eq!(stage.ids("items"), [] as [i64; 0]);
    stage.assert_nothing_open();
}

#[test]
fn what_follows_a_commit_in_a_pipeline_holds_on_all_shards_or_on_none() {
    let stage = Stage::new();
    let [a, b, _] = one_each();
    let other = keys_of(0, 2)[1];
    assert_ne!(a, other);
    stage.fill([b]);
    let add = |id: i64| format!("INSERT INTO items (id, v) VALUES ({id}, 1)");
    let mut wire = stage.wire();
    say(&mut wire, "BEGIN");
    say(&mut wire, &add(a));
    let answer = in_one_segment(&mut wire, &["COMMIT", &add(other), &add(b)]);
    assert!(
        answer.iter().any(|l| l.starts_with("Error 23505")),
        "{answer:?}"
    );
    assert_eq!(answer.last().unwrap(), "ReadyForQuery I", "{answer:?}");
    let mut ids = vec![a, b];
    ids.sort_unstable();
    assert_eq!(stage.ids("items"), ids);
    let c = keys_of(2, 1)[0];
    say(&mut wire, "BEGIN");
    say(&mut wire, &format!("DELETE FROM items WHERE id = {a}"));
    let answer = in_one_segment(&mut wire, &["COMMIT", &add(other), &add(c)]);
    assert_eq!(
        answer,
        [
            "CommandComplete COMMIT",
            "CommandComplete INSERT 0 1",
            "CommandComplete INSERT 0 1",
            "ReadyForQuery I"
        ]
    );
    let mut ids = vec![other, b, c];
    ids.sort_unstable();
    assert_eq!(stage.ids("items"), ids);
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

#[test]
fn a_text_that_begins_with_the_end_of_no_transaction_is_one_transaction_behind_it() {
    let stage = Stage::new();
    let [a, b, _] = one_each();
    stage.fill([b]);
    let mut wire = stage.wire();
    for (end, failing) in [
        (
            "COMMIT",
            format!("INSERT INTO items (id, v) VALUES ({b}, 1)"),
        ),
        ("ROLLBACK", "SELECT 1 / 0".to_owned()),
    ] {
        let sql = format!(
            "{end}; SET work_mem = '1GB'; INSERT INTO items (id, v) VALUES ({a}, 1); {failing}"
        );
        let answer = say(&mut wire, &sql);
        assert_eq!(
            answer[..2],
            [
                "Notice 25P01 there is no transaction in progress".to_owned(),
                format!("CommandComplete {end}")
            ]
        );
        assert_eq!(answer.last().unwrap(), "ReadyForQuery I", "{answer:?}");
        assert_eq!(stage.ids("items"), [b], "{sql}");
        assert_eq!(one(&mut wire, "SHOW work_mem"), "4MB");
        assert_eq!(one(&mut stage.wire(), "SHOW work_mem"), "4MB");
    }
    assert_eq!(
        say(&mut wire, "COMMIT AND CHAIN; SELECT 1"),
        [
            "Error 25P01 COMMIT AND CHAIN can only be used in transaction blocks",
            "ReadyForQuery I"
        ]
    );
}

#[test]
fn a_setting_falls_with_the_segment_that_read_on_two_shards_before_it() {
    let stage = Stage::new();
    let [a, b, _] = one_each();
    stage.fill([a, b]);
    let read = |id: i64| format!("SELECT v FROM items WHERE id = {id}");
    for set in [
        "SET intervalstyle = 'iso_8601'",
        "SELECT set_config('intervalstyle', 'iso_8601', false)",
    ] {
        let mut wire = stage.wire();
        let answer = in_one_segment(&mut wire, &[&read(a), &read(b), set, "SELECT 1 / 0"]);
        assert!(
            answer.iter().any(|l| l.starts_with("Error 22012")),
            "{answer:?}"
        );
        // Also for whoever gets the connections next.
        for wire in [&mut wire, &mut stage.wire()] {
            for id in [a, b] {
                let sql = format!("SELECT interval '1 day' FROM items WHERE id = {id}");
                assert_eq!(one(wire, &sql), "1 day", "{set} {id}");
            }
        }
    }
    stage.assert_nothing_open();
}

#[test]
fn statements_of_the_router_leave_the_clients_unnamed_portal_alone() {
    let stage = Stage::new();
    let mut wire = Wire::login_with(&stage.endpoint(), &[("application_name", "mine")]);
    let bind = |portal: &str, statement: &str| {
        message::bind(portal, statement, Format::Text, &[], Format::Text)
    };
    let answer = send(
        &mut wire,
        &[
            message::parse("reset", "RESET application_name", &[]),
            bind("p", "reset"),
            message::parse("read", "SELECT 7", &[]),
            bind("", "read"),
            message::execute("p", 0),
            message::execute("", 0),
            message::sync(),
        ],
    );
    assert_eq!(
        answer[4..],
        [
            "CommandComplete RESET",
            "DataRow 7",
            "CommandComplete SELECT 1",
            "ReadyForQuery I"
        ]
    );
    assert_eq!(one(&mut wire, "SHOW application_name"), "mine");
}

#[test]
fn a_function_call_comes_in_its_turn() {
    let stage = Stage::new();
    let mut wires = [Wire::login(&stage.shards.endpoint(0)), stage.wire()];
    // abs(-5), its argument and result in text.
    let mut call = 1397u32.to_be_bytes().to_vec();
    call.extend([0, 0, 0, 1]);
    call.extend(2u32.to_be_bytes());
    call.extend(b"-5\0\0");
    let messages = [
        message::parse("s", "SELECT 7", &[]),
        message::message(b'F', &call),
    ];
    let said = wires.each_mut().map(|wire| send(wire, &messages));
    assert_eq!(said[1], said[0]);
    assert_eq!(said[1][0], "ParseComplete");
    let bound = [
        message::bind("", "s", Format::Text, &[], Format::Text),
        message::execute("", 0),
        message::sync(),
    ];
    let said = wires.each_mut().map(|wire| send(wire, &bound));
    assert_eq!(said[1], said[0]);
}

#[test]
fn an_error_that_several_shards_have_is_told_once() {
    let stage = Stage::new();
    let [a, b, _] = one_each();
    let mut wire = stage.wire();
    let values = [a.to_string(), b.to_string(), "1".to_owned()];
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let sql = "INSERT INTO items (id, v) VALUES ($1, 6), ($2, 6)";
    wire.send_all(&[
        message::parse("", sql, &[]),
        message::bind_text(&values),
        message::flush(),
    ]);
    while wire.frame().kind != b'E' {}
    // The other shard's has come by then, too.
    assert_eq!(one(&mut stage.wire(), "SELECT count(*) FROM items"), "0");
    wire.send(&message::sync());
    assert_eq!(lines(&wire.until_ready()), ["ReadyForQuery I"]);
}

#[test]
fn the_last_statement_of_a_text_ends_with_its_commit() {
    let stage = Stage::new();
    let [a, b, c] = one_each();
    stage.shards.sql(
        2,
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'; \
         CREATE CONSTRAINT TRIGGER no AFTER INSERT ON items DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION no()",
    );
    let mut wire = stage.wire();
    let add = |id: i64| format!("INSERT INTO items (id) VALUES ({id})");
    let whole = format!("INSERT INTO items (id) VALUES ({a}), ({c})");
    for last in [&add(c), &whole] {
        assert_eq!(
            say(&mut wire, &format!("{}; {last}", add(b))),
            [
                "CommandComplete INSERT 0 1",
                "Error P0001 no",
                "ReadyForQuery I"
            ]
        );
    }
    assert_eq!(stage.ids("items"), [0i64; 0]);
    stage.assert_nothing_prepared();
}

#[test]
fn notices_of_rows_come_from_every_shard() {
    let stage = Stage::new();
    let [a, b, c] = one_each();
    stage.shards.sql_all(
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''%'', NEW.v; RETURN NEW; END'; \
         CREATE TRIGGER tell BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION tell()",
    );
    let mut wire = stage.wire();
    let sql = format!("INSERT INTO items (id, v) VALUES ({a}, 1), ({b}, 2), ({c}, 3)");
    let expected = ["Notice 00000 1", "Notice 00000 2", "Notice 00000 3"];
    let notices = |told: Vec<String>| -> Vec<String> {
        let mut notices: Vec<String> = told
            .into_iter()
            .filter(|line| line.starts_with("Notice"))
            .collect();
        notices.sort();
        notices
    };
    assert_eq!(notices(say(&mut wire, &sql)), expected);
    say(&mut wire, "DELETE FROM items");
    assert_eq!(
        notices(send(&mut wire, &extended(&sql, &[], &[]))),
        expected
    );
    // Those of a query, too, however its rows are merged.
    say(
        &mut wire,
        "CREATE FUNCTION noisy(int8) RETURNS int8 IMMUTABLE LANGUAGE plpgsql AS \
            'BEGIN RAISE NOTICE ''%'', $1; RETURN $1; END'",
    );
    for query in [
        "SELECT noisy(v) FROM items",
        "SELECT noisy(v) FROM items ORDER BY id",
        "SELECT count(noisy(v)) FROM items",
    ] {
        assert_eq!(notices(say(&mut wire, query)), expected, "{query}");
        let told = send(&mut wire, &extended(query, &[], &[]));
        assert_eq!(notices(told), expected, "{query}");
    }
    // What each of them says of the same text is said once.
    assert_eq!(
        notices(say(&mut wire, "DROP TABLE IF EXISTS nowhere")).len(),
        1
    );
}

#[test]
fn a_client_is_told_of_settings_that_end_with_a_text() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    let mut told = |sql: &str| -> Vec<String> {
        let frames = wire.query(sql);
        let named = frames
            .iter()
            .filter(|f| f.kind == b'S' && f.text() == "TimeZone");
        let value = |f: &mothership_tests::Frame| {
            String::from_utf8_lossy(&f.body[9..f.body.len() - 1]).into_owned()
        };
        named.map(value).collect()
    };
    let zone = "SET TIME ZONE 'Asia/Tokyo'";
    let kept = told(&format!("{zone}; SELECT count(*) FROM items"));
    assert_eq!(kept.last().map(String::as_str), Some("Asia/Tokyo"));
    let undone = told("SET TIME ZONE 'UTC'; SELECT count(*) FROM items; ROLLBACK");
    assert!(
        undone.last().is_none_or(|zone| zone == "Asia/Tokyo"),
        "{undone:?}"
    );
}

#[test]
fn a_commit_in_a_pipeline_that_only_reads_leaves_nothing_open() {
    let stage = Stage::on_one_core_with("[pool]\nmax = 1\n");
    for control in ["COMMIT", "ROLLBACK"] {
        for _ in 0..2 {
            let mut wire = stage.wire();
            let mut pipeline = vec![
                message::parse("", "SELECT id, v FROM items ORDER BY v", &[]),
                message::bind("p", "", Format::Text, &[], Format::Text),
            ];
            pipeline.extend(segment([control]));
            let told = send(&mut wire, &pipeline);
            let expected = [
                "ParseComplete",
                "BindComplete",
                "ParseComplete",
                "BindComplete",
                "Notice 25P01 there is no transaction in progress",
                &format!("CommandComplete {control}"),
                "ReadyForQuery I",
            ];
            assert_eq!(told, expected);
            stage.assert_nothing_open();
        }
    }
}

#[test]
fn a_pipeline_beside_a_kept_server_ends_as_it_says() {
    let stage = Stage::new();
    let [_, b, _] = one_each();
    let add = format!("INSERT INTO items (id) VALUES ({b})");
    for (control, ids) in [("ROLLBACK", vec![]), ("COMMIT", vec![b])] {
        let mut wire = stage.wire();
        say(&mut wire, "LISTEN anything");
        let told = send(&mut wire, &segment([add.as_str(), control]));
        assert_eq!(told.last().map(String::as_str), Some("ReadyForQuery I"));
        stage.assert_nothing_open();
        assert_eq!(stage.ids("items"), ids, "{control}");
    }
}

/// They are one statement on the server, which has confirmed neither when the second comes.
#[test]
fn one_text_has_two_names_in_a_pipeline() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    // One goes ahead to a server, for its description; of a table that is not declared, and of one that is.
    for sql in ["SELECT $1::int4 + 1", "SELECT v FROM items WHERE id = $1"] {
        let names = ["one", "two", "three"];
        let parses = names.iter().flat_map(|name| {
            let parse = message::parse(name, sql, &[]);
            [parse, message::describe_statement(name)]
        });
        let mut messages: Vec<Vec<u8>> = parses.collect();
        messages.push(message::sync());
        wire.send_all(&messages);
        let answer = lines(&wire.until_ready());
        let confirmed = answer.iter().filter(|line| *line == "ParseComplete");
        assert_eq!(confirmed.count(), names.len(), "{sql}: {answer:?}");
        assert!(
            !answer.iter().any(|line| line.starts_with("Error")),
            "{sql}: {answer:?}"
        );
        let closes = names.map(message::close_statement);
        wire.send_all(&[&closes[..], &[message::sync()]].concat());
        wire.until_ready();
    }
}

#[test]
fn a_portal_that_was_closed_ahead_of_a_write_on_all_shards_holds_nothing_up() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    let [id, _, other] = one_each();
    for id in [id, other] {
        let mut messages = insert(id).to_vec();
        messages.extend([
            message::close_statement("none"),
            message::close_statement("s1"),
            message::parse("s1", "UPDATE kinds SET name = 'n' WHERE id = $1", &[]),
            message::describe_statement("s1"),
            message::close_portal("p2"),
            message::bind(
                "p2",
                "s1",
                Format::Text,
                &[Some(b"8".as_slice())],
                Format::Text,
            ),
            message::execute("p2", 0),
            message::sync(),
        ]);
        let told = send(&mut wire, &messages);
        assert!(
            told.contains(&"CommandComplete UPDATE 0".into()),
            "{told:?}"
        );
        assert_eq!(told.last().unwrap(), "ReadyForQuery I");
    }
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "2");
    stage.assert_nothing_open();
}

// A stranger found it: what followed on another shard was committed by itself.
#[test]
fn what_follows_a_chained_transaction_in_a_pipeline_belongs_to_the_next() {
    let stage = Stage::new();
    let [a, b, c] = one_each();
    let insert = |id: i64| format!("INSERT INTO items (id, v) VALUES ({id}, 1)");
    let empty = |wire: &mut Wire| assert_eq!(one(wire, "SELECT count(*) FROM items"), "0");
    for ends in ["ROLLBACK AND CHAIN", "COMMIT AND CHAIN"] {
        for before in [insert(a), "SELECT 1/0".to_owned(), "SELECT 1".to_owned()] {
            let mut wire = stage.wire();
            say(&mut wire, "BEGIN");
            say(&mut wire, &before);
            let told = send(&mut wire, &segment([ends, &insert(b), &insert(c)]));
            assert_eq!(
                told.last().unwrap(),
                "ReadyForQuery T",
                "{ends}, {before}: {told:?}"
            );
            let others = format!("SELECT count(*) FROM items WHERE id <> {a}");
            assert_eq!(one(&mut wire, &others), "2");
            say(&mut wire, "ROLLBACK");
            if ends == "COMMIT AND CHAIN" {
                say(&mut wire, "DELETE FROM items");
            }
            empty(&mut wire);
        }
        let whole = ["BEGIN", &insert(a), ends, &insert(b), &insert(c)];
        let mut wire = stage.wire();
        let told = send(&mut wire, &segment(whole));
        assert_eq!(told.last().unwrap(), "ReadyForQuery T", "{ends}: {told:?}");
        say(&mut wire, "ROLLBACK");
        say(&mut wire, &format!("DELETE FROM items WHERE id = {a}"));
        empty(&mut wire);
    }
}

// A stranger found it: the session could not leave the block any more.
#[test]
fn a_refusal_behind_a_chained_transaction_leaves_a_block_that_can_be_ended() {
    let stage = Stage::new();
    for ends in ["COMMIT AND CHAIN", "ROLLBACK AND CHAIN"] {
        for (n, refused) in [
            "EXECUTE nosuch",
            "PREPARE p AS SELECT 1",
            "COPY items FROM STDIN",
        ]
        .into_iter()
        .enumerate()
        {
            let mut wire = stage.wire();
            say(&mut wire, "BEGIN");
            let told = say(&mut wire, &format!("SELECT 1; {ends}; {refused}"));
            assert!(
                told.iter().any(|line| line.starts_with("Error")),
                "{told:?}"
            );
            let ended = say(&mut wire, ["ROLLBACK", "COMMIT"][n % 2]);
            assert_eq!(ended, ["CommandComplete ROLLBACK", "ReadyForQuery I"]);
            assert_eq!(
                one(&mut wire, "SELECT count(*) FROM items"),
                "0",
                "{ends}; {refused}"
            );
        }
    }
}

/// What a client may have described on the home shard before another shard runs it; the home shard's server has the
/// statement already.
#[test]
fn a_server_that_described_a_statement_is_in_no_transaction_afterwards() {
    let stage = Stage::with("[pool]\nmax = 1\n");
    let mut wire = stage.wire();
    let bind = |portal: &str, id: i64| {
        let id = id.to_string();
        message::bind(
            portal,
            "s",
            Format::Text,
            &[Some(id.as_bytes())],
            Format::Text,
        )
    };
    let sql = "INSERT INTO items (id, v) VALUES ($1, 7)";
    let parse = message::parse("s", sql, &[]);
    send(&mut wire, &[parse, message::sync()]);
    for id in one_each() {
        for portal in ["", "p"] {
            let told = send(
                &mut wire,
                &[
                    message::describe_statement("s"),
                    bind(portal, id),
                    // There is no such portal, so nothing is written.
                    message::describe_portal("none"),
                    message::execute(portal, 0),
                    message::sync(),
                ],
            );
            assert!(told.iter().any(|line| line.contains("34000")), "{told:?}");
            stage.assert_nothing_open();
        }
        let told = send(
            &mut wire,
            &[
                message::describe_statement("s"),
                bind("", id),
                message::execute("", 0),
                message::sync(),
            ],
        );
        assert!(told.contains(&"CommandComplete INSERT 0 1".into()));
        stage.assert_nothing_open();
    }
}

/// COMMIT begins a transaction of its own in the middle of a pipeline, and what follows commits at Sync.
#[test]
fn a_deferred_constraint_that_fails_at_sync_is_told() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    say(
        &mut wire,
        "ALTER TABLE accounts ADD FOREIGN KEY (id) REFERENCES items DEFERRABLE INITIALLY DEFERRED",
    );
    let [a, b, c] = one_each();
    let write = |id: i64| format!("INSERT INTO accounts VALUES ({id}, 1)");
    let every = "SELECT id FROM items ORDER BY id";
    let (one, other, third) = (write(a), write(b), write(c));
    for statements in [
        vec![&*one],
        vec![every, &other],
        vec![every, "COMMIT", &other],
        vec!["COMMIT", every, "COMMIT", &third],
        vec![every, &one, &other],
        vec!["COMMIT", every, "COMMIT", &one, &other],
        vec!["BEGIN", every, "COMMIT", &third],
    ] {
        let told = in_one_segment(&mut wire, &statements);
        let failed = told.iter().any(|line| line.starts_with("Error 23503"));
        assert!(failed, "{statements:?}: {told:?}");
        assert_eq!(told.last().unwrap(), "ReadyForQuery I", "{statements:?}");
        let kept = say(&mut wire, "SELECT count(*) FROM accounts");
        assert!(kept.contains(&"DataRow 0".into()), "{kept:?}");
    }
    stage.assert_nothing_open();
}

/// The statement is parsed on the home shard and runs on another one, whose answers are read when both end the segment.
#[test]
fn a_notice_of_a_trigger_is_told_through_every_portal() {
    let stage = Stage::new();
    stage.shards.sql_all(
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''%'', NEW.v; RETURN NEW; END'; \
         CREATE TRIGGER tell BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION tell()",
    );
    let mut wire = stage.wire();
    for portal in ["", "p"] {
        for id in one_each() {
            // A text that no server has parsed before.
            let sql =
                format!("INSERT INTO items (id, v) VALUES ($1, 3) RETURNING {id} AS a{portal}");
            let id = id.to_string();
            let values = [Some(id.as_bytes())];
            let told = send(
                &mut wire,
                &[
                    message::parse("", &sql, &[]),
                    message::close_portal("p"),
                    message::bind(portal, "", Format::Text, &values, Format::Text),
                    message::execute(portal, 0),
                    message::sync(),
                ],
            );
            assert!(told.contains(&"Notice 00000 3".into()), "{told:?}");
        }
        say(&mut wire, "DELETE FROM items");
    }
}

/// One shard has prepared its part, and with it kept the setting, when the other one fails.
#[test]
fn a_setting_falls_everywhere_with_a_commit_that_fails_on_one_shard() {
    let stage = Stage::with("[pool]\nmax = 1\n");
    let mut wire = stage.wire();
    say(
        &mut wire,
        "ALTER TABLE accounts ADD FOREIGN KEY (id) REFERENCES items DEFERRABLE INITIALLY DEFERRED",
    );
    let [a, b, c] = one_each();
    say(&mut wire, &format!("INSERT INTO items (id) VALUES ({b})"));
    let write = format!("INSERT INTO accounts VALUES ({a}, 1), ({b}, 1), ({c}, 1)");
    let set = "SET default_transaction_read_only = on";
    let mut other = stage.wire();
    for text in [
        format!("{write}; {set}"),
        format!("{set}; {write}"),
        format!("{set}; {write}; {set}"),
        format!("SELECT id FROM items WHERE id = {a}; {set}; {write}; {set}"),
        format!("BEGIN; {write}; {set}; COMMIT"),
    ] {
        for extended in [false, true] {
            let statements: Vec<&str> = text.split("; ").collect();
            let told = match extended {
                true => in_one_segment(&mut wire, &statements),
                false => say(&mut wire, &text),
            };
            let failed = told.iter().any(|line| line.starts_with("Error 23503"));
            assert!(failed, "{text}: {told:?}");
            let told: Vec<&String> = told
                .iter()
                .filter(|line| line.starts_with("ParameterStatus"))
                .collect();
            assert!(
                told.last().is_none_or(|line| line.ends_with(" off")),
                "{text}: {told:?}"
            );
            for client in [&mut wire, &mut other] {
                for id in [a, b, c] {
                    let sql = format!("UPDATE items SET v = 1 WHERE id = {id}");
                    let told = say(client, &sql);
                    assert!(
                        told[0].starts_with("CommandComplete UPDATE"),
                        "{text}, {id}: {told:?}"
                    );
                    let sql = "SHOW default_transaction_read_only";
                    assert_eq!(one(client, sql), "off", "{text}, {id}");
                }
            }
        }
    }
}

#[test]
fn an_empty_text_is_answered_in_a_failed_block() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    for fails in ["SELECT 1/0", "DEALLOCATE nosuch", "SELECT id/0 FROM items"] {
        say(&mut wire, "INSERT INTO items (id) VALUES (1), (2), (3)");
        say(&mut wire, "BEGIN");
        say(&mut wire, fails);
        for empty in ["", ";", "-- ping"] {
            let told = say(&mut wire, empty);
            assert_eq!(
                told,
                ["EmptyQueryResponse", "ReadyForQuery E"],
                "{fails}, {empty:?}"
            );
        }
        say(&mut wire, "ROLLBACK");
    }
}

#[test]
fn a_statement_has_as_many_parameters_as_the_protocol_can_count() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    say(&mut wire, "INSERT INTO items (id) VALUES (1), (2), (3)");
    let count = usize::from(u16::MAX);
    let list: Vec<String> = (1..=count).map(|n| format!("${n}")).collect();
    let ids: Vec<String> = (1..=count).map(|n| n.to_string()).collect();
    let values: Vec<Option<&[u8]>> = ids.iter().map(|id| Some(id.as_bytes())).collect();
    let sql = format!(
        "SELECT count(*) FROM items WHERE id IN ({})",
        list.join(", ")
    );
    let told = send(
        &mut wire,
        &[
            message::parse("", &sql, &[]),
            message::bind("", "", Format::Text, &values, Format::Text),
            message::execute("", 0),
            message::sync(),
        ],
    );
    assert!(told.contains(&"DataRow 3".into()), "{told:?}");
}

/// A Close of a pipeline that its server need not answer yet is in front of the ROLLBACK of a block that has failed.
#[test]
fn a_close_before_a_rollback_does_not_cost_the_connection_with_the_cursor() {
    let stage = Stage::new();
    stage.fill(1..=9);
    let mut wire = stage.wire();
    let run = |sql: &str| {
        let mut messages = extended(sql, &[], &[]);
        messages.pop();
        messages
    };
    let begins = [
        run("BEGIN"),
        vec![message::close_portal("p2")],
        run(
            "DECLARE c CURSOR WITH HOLD FOR SELECT i.id, k.name FROM items i JOIN kinds k USING (id)",
        ),
        vec![message::sync()],
    ];
    send(&mut wire, &begins.concat());
    assert_eq!(
        say(&mut wire, "SELECT id FROM nowhere"),
        [
            "Error 42P01 relation \"nowhere\" does not exist",
            "ReadyForQuery E"
        ]
    );
    let ends = [
        message::parse("", "ROLLBACK", &[]),
        message::close_portal("p1"),
        message::bind("p1", "", Format::Text, &[], Format::Text),
        message::execute("p1", 0),
        message::close_portal("p1"),
    ];
    let goes_on = extended("UPDATE items SET v = v + 1 WHERE id = 6", &[], &[]);
    assert_eq!(
        send(&mut wire, &[ends.to_vec(), goes_on].concat()),
        [
            "ParseComplete",
            "CloseComplete",
            "BindComplete",
            "CommandComplete ROLLBACK",
            "CloseComplete",
            "ParseComplete",
            "BindComplete",
            "CommandComplete UPDATE 1",
            "ReadyForQuery I"
        ]
    );
    stage.assert_nothing_open();
}
