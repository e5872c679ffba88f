//! Changes of definitions: on all shards alike, at once or shard after shard.

use super::stage::{Stage, extended, one, one_each, say, send};
use mothership_tests::message::{self, Format};
use mothership_tests::{Frame, Shards, Wire};
use std::time::Duration;

/// Whether each shard has it.
fn everywhere(stage: &Stage, condition: &str) -> Vec<String> {
    stage.shards.sql_all(&format!("SELECT {condition}"))
}

#[test]
fn definitions_change_on_every_shard() {
    let stage = Stage::new();
    stage.fill(1..=30);
    let mut wire = stage.wire();
    let cases = [
        (
            "ALTER TABLE items ADD COLUMN extra text DEFAULT 'e'",
            "ALTER TABLE",
        ),
        ("CREATE INDEX items_v ON items (v)", "CREATE INDEX"),
        (
            "ALTER TABLE items ADD CONSTRAINT positive CHECK (v >= 0)",
            "ALTER TABLE",
        ),
        ("COMMENT ON TABLE items IS 'things'", "COMMENT"),
        ("ANALYZE items", "ANALYZE"),
    ];
    for (sql, tag) in cases {
        assert_eq!(
            say(&mut wire, sql),
            [format!("CommandComplete {tag}"), "ReadyForQuery I".into()],
            "{sql}"
        );
    }
    let all = ["t"; 3];
    assert_eq!(
        everywhere(&stage, "to_regclass('items_v') IS NOT NULL"),
        all
    );
    assert_eq!(
        everywhere(&stage, "obj_description('items'::regclass) = 'things'"),
        all
    );
    assert_eq!(
        everywhere(
            &stage,
            "count(*) FILTER (WHERE extra = 'e') = count(*) FROM items"
        ),
        all
    );
    assert_eq!(one(&mut wire, "SELECT count(extra) FROM items"), "30");
    // Through the extended protocol, and the router knows the new table at once.
    let dropped = send(&mut wire, &extended("DROP INDEX items_v", &[], &[]));
    assert_eq!(dropped.last().unwrap(), "ReadyForQuery I", "{dropped:?}");
    assert!(
        dropped.contains(&"CommandComplete DROP INDEX".into()),
        "{dropped:?}"
    );
    assert_eq!(everywhere(&stage, "to_regclass('items_v') IS NULL"), all);
    say(&mut wire, "DROP TABLE items");
    assert_eq!(everywhere(&stage, "to_regclass('items') IS NULL"), all);
    say(
        &mut wire,
        "CREATE TABLE items (id int8 PRIMARY KEY, v int8, note text)",
    );
    let [a, b, c] = one_each();
    let sql = format!("INSERT INTO items VALUES ({a}), ({b}), ({c})");
    assert_eq!(say(&mut wire, &sql)[0], "CommandComplete INSERT 0 3");
    assert_eq!(stage.ids("items").len(), 3);
    stage.assert_nothing_prepared();
}

#[test]
fn a_definition_that_fails_on_one_shard_changes_none() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    stage.shards.sql(2, "CREATE TABLE items_w (x int)");
    let failed = say(&mut wire, "CREATE INDEX items_w ON items (v)");
    assert!(failed[0].starts_with("Error 42P07"), "{failed:?}");
    assert_eq!(failed[1..], ["ReadyForQuery I"]);
    let sql = "SELECT count(*) FROM pg_class WHERE relname = 'items_w' AND relkind = 'i'";
    assert_eq!(stage.shards.sql_all(sql), ["0"; 3]);
    // In a transaction with rows, undone together.
    let [a, b, _] = one_each();
    wire.query("BEGIN");
    assert_eq!(
        say(&mut wire, "ALTER TABLE items ADD COLUMN w int8")[1],
        "ReadyForQuery T"
    );
    say(
        &mut wire,
        &format!("INSERT INTO items (id, v) VALUES ({a}, 1), ({b}, 1)"),
    );
    say(&mut wire, "ROLLBACK");
    let sql =
        "SELECT count(*) FROM pg_attribute WHERE attrelid = 'items'::regclass AND attname = 'w'";
    assert_eq!(stage.shards.sql_all(sql), ["0"; 3]);
    assert_eq!(stage.ids("items"), [] as [i64; 0]);
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

/// What is the same on all shards cannot name what one of them has. In PL/pgSQL it need not be there before it runs.
#[test]
fn a_definition_that_names_what_is_at_home_is_refused_by_name() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    say(&mut wire, "CREATE TABLE at_home (v int)");
    say(&mut wire, "INSERT INTO at_home VALUES (7)");
    let refused = [
        "CREATE FUNCTION seen() RETURNS SETOF at_home LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION seen() RETURNS SETOF at_home LANGUAGE plpgsql AS 'BEGIN END'",
    ];
    for sql in refused {
        let said = wire.query(sql);
        assert_eq!(said[0].field('C').unwrap(), "0A000", "{sql}: {said:?}");
        let detail = "Shard s2: type \"at_home\" does not exist";
        assert_eq!(said[0].field('D').unwrap(), detail, "{sql}");
        let found = stage.shards.sql_all("SELECT to_regproc('seen') IS NULL");
        assert_eq!(found, ["t"; 3], "{sql}");
    }
    let by_name = [
        "CREATE FUNCTION seen() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT v FROM at_home); END'",
        "CREATE OR REPLACE FUNCTION seen() RETURNS int LANGUAGE sql AS 'SELECT v FROM at_home'",
    ];
    for sql in by_name {
        assert_eq!(say(&mut wire, sql)[0], "CommandComplete CREATE FUNCTION");
        assert_eq!(one(&mut wire, "SELECT seen()"), "7", "{sql}");
    }
    // What nobody has is PostgreSQL's to say.
    let said =
        wire.query("CREATE FUNCTION absent() RETURNS SETOF nowhere LANGUAGE sql AS 'SELECT 1'");
    assert_eq!(said[0].field('C').unwrap(), "42704", "{said:?}");
}

#[test]
fn what_runs_outside_of_transactions_goes_from_shard_to_shard() {
    let stage = Stage::new();
    stage.fill(1..=30);
    let mut wire = stage.wire();
    let done = ["CommandComplete CREATE INDEX", "ReadyForQuery I"];
    assert_eq!(
        say(&mut wire, "CREATE INDEX CONCURRENTLY items_v ON items (v)"),
        done
    );
    let valid = "count(*) = 1 FROM pg_index WHERE indexrelid = 'items_v'::regclass AND indisvalid";
    assert_eq!(everywhere(&stage, valid), ["t"; 3]);
    assert_eq!(
        say(&mut wire, "CLUSTER VERBOSE")[0],
        "CommandComplete CLUSTER"
    );
    assert_eq!(
        say(&mut wire, "VACUUM items"),
        ["CommandComplete VACUUM", "ReadyForQuery I"]
    );
    let answer = send(
        &mut wire,
        &extended("DROP INDEX CONCURRENTLY items_v", &[], &[]),
    );
    assert!(
        answer.contains(&"CommandComplete DROP INDEX".into()),
        "{answer:?}"
    );
    assert_eq!(
        everywhere(&stage, "to_regclass('items_v') IS NULL"),
        ["t"; 3]
    );
    // Where it stops, the client is told: nobody knows the names that servers give.
    stage.shards.sql(1, "INSERT INTO items VALUES (31, 0)");
    let failed = wire.query("CREATE UNIQUE INDEX CONCURRENTLY ON items (id, (1 / v))");
    let error = failed.iter().find(|frame| frame.kind == b'E').unwrap();
    assert_eq!(error.sqlstate(), "22012");
    let notice = failed.iter().find(|frame| frame.kind == b'N').unwrap();
    assert_eq!(notice.field('M').unwrap(), "statement failed on shard s2");
    assert_eq!(notice.field('D').unwrap(), "Done before on: s1.");
    assert_eq!(failed.last().unwrap().transaction(), 'I');
    stage.shards.sql(1, "DELETE FROM items WHERE v = 0");
    // In a transaction PostgreSQL refuses it, and so do we.
    wire.query("BEGIN");
    let refused = say(&mut wire, "CREATE INDEX CONCURRENTLY items_x ON items (v)");
    assert!(refused[0].starts_with("Error 25001"), "{refused:?}");
    assert_eq!(refused[1..], ["ReadyForQuery E"]);
    say(&mut wire, "ROLLBACK");
    assert_eq!(
        everywhere(&stage, "to_regclass('items_x') IS NULL"),
        ["t"; 3]
    );
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "30");
}

#[test]
fn an_index_made_without_a_transaction_is_on_all_shards_or_on_none() {
    let stage = Stage::new();
    stage.fill(1..=30);
    let mut wire = stage.wire();
    let nowhere = |name: &str| {
        let found = everywhere(&stage, &format!("to_regclass('{name}') IS NULL"));
        assert_eq!(found, ["t"; 3], "{name}");
    };
    let error = |frames: &[Frame]| {
        let told: Vec<u8> = frames.iter().map(|frame| frame.kind).collect();
        assert_eq!(told, *b"EZ", "{frames:?}");
        frames[0].sqlstate()
    };
    // On each shard in turn, the expression cannot be computed for one row.
    for shard in 0..3 {
        stage.shards.sql(shard, "INSERT INTO items VALUES (31, 0)");
        let sql = "CREATE INDEX CONCURRENTLY \"It's \\ 1\" ON items ((1 / v))";
        assert_eq!(error(&wire.query(sql)), "22012", "{shard}");
        nowhere("\"It''s \\ 1\"");
        let all = send(
            &mut wire,
            &extended(
                "CREATE INDEX CONCURRENTLY items_e ON items ((1 / v))",
                &[],
                &[],
            ),
        );
        assert!(
            all.iter().any(|said| said.starts_with("Error 22012")),
            "{all:?}"
        );
        nowhere("items_e");
        stage.shards.sql(shard, "DELETE FROM items WHERE v = 0");
    }
    // What somebody else has under that name stays.
    stage.shards.sql(1, "CREATE INDEX items_v ON items (id)");
    let sql = "CREATE INDEX CONCURRENTLY items_v ON items (v)";
    assert_eq!(error(&wire.query(sql)), "42P07");
    assert_eq!(
        everywhere(&stage, "to_regclass('items_v') IS NULL"),
        ["t", "f", "t"]
    );
    stage.shards.sql(1, "DROP INDEX items_v");
    // With IF NOT EXISTS a shard may have it from somebody else, and nobody knows which one: it stays, and can be dropped.
    for shard in [0, 1] {
        stage
            .shards
            .sql(shard, "CREATE INDEX items_e ON items (id)");
    }
    stage.shards.sql(2, "INSERT INTO items VALUES (31, 0)");
    let failed = wire.query("CREATE INDEX CONCURRENTLY IF NOT EXISTS items_e ON items ((1 / v))");
    let found = failed.iter().find(|frame| frame.kind == b'E').unwrap();
    assert_eq!(found.sqlstate(), "22012");
    assert_eq!(
        everywhere(&stage, "to_regclass('items_e') IS NULL"),
        ["f"; 3]
    );
    stage.shards.sql(2, "DELETE FROM items WHERE v = 0");
    for shard in 0..3 {
        stage.shards.sql(shard, "DROP INDEX items_e");
    }
    // And what is there already, where the new one fails for another reason.
    say(&mut wire, sql);
    let sql = "CREATE INDEX CONCURRENTLY items_v ON items (nothing)";
    assert_eq!(error(&wire.query(sql)), "42703");
    assert_eq!(
        everywhere(&stage, "to_regclass('items_v') IS NULL"),
        ["f"; 3]
    );
    // One that a shard keeps can be dropped again, and is known as long.
    let mut direct = Wire::login(&stage.shards.endpoint(2));
    direct.query("BEGIN");
    direct.query("LOCK TABLE items IN SHARE UPDATE EXCLUSIVE MODE");
    wire.query("SET lock_timeout = '100ms'");
    let drop = "DROP INDEX CONCURRENTLY items_v";
    let failed = wire.query(drop);
    let told: Vec<u8> = failed.iter().map(|frame| frame.kind).collect();
    assert_eq!(told, *b"NEZ", "{failed:?}");
    assert_eq!(failed[0].field('D').unwrap(), "Done before on: s2.");
    assert_eq!(
        failed[0].field('H').unwrap(),
        "Repeat it after mending the cause."
    );
    assert_eq!(failed[1].sqlstate(), "55P03");
    assert_eq!(
        everywhere(&stage, "to_regclass('items_v') IS NULL"),
        ["f", "t", "f"]
    );
    direct.query("COMMIT");
    assert_eq!(
        wire.query(drop).iter().filter(|f| f.kind == b'C').count(),
        1
    );
    nowhere("items_v");
    assert_eq!(error(&wire.query(drop)), "42704");
}

#[test]
fn tables_that_are_not_declared_are_sharded_by_their_primary_key_if_so_configured() {
    let stage = Stage::bare("[tables]\ndefault = \"auto\"\n");
    let mut wire = stage.wire();
    let created = say(
        &mut wire,
        "CREATE TABLE things (id int8 PRIMARY KEY, v int8)",
    );
    assert_eq!(created, ["CommandComplete CREATE TABLE", "ReadyForQuery I"]);
    let values: Vec<String> = (1..=30).map(|id| format!("({id}, {id})")).collect();
    let sql = format!("INSERT INTO things VALUES {}", values.join(", "));
    assert_eq!(say(&mut wire, &sql)[0], "CommandComplete INSERT 0 30");
    assert_eq!(stage.ids("things"), (1..=30).collect::<Vec<_>>());
    assert_eq!(one(&mut wire, "SELECT sum(v) FROM things"), "465");
    // Without a primary key it lives on the home shard.
    say(&mut wire, "CREATE TABLE heap (x int8)");
    say(&mut wire, "INSERT INTO heap VALUES (1), (2), (3)");
    assert_eq!(stage.shards.sql(0, "SELECT count(*) FROM heap"), "3");
    stage.assert_nothing_prepared();
}

/// Definitions cannot be read while a transaction has changed them: to read CHECK constraints and defaults a server
/// waits for the lock of their table.
#[test]
fn a_change_in_an_open_transaction_holds_up_nobody() {
    let stage = Stage::new();
    let (mut wire, mut other) = (stage.wire(), stage.wire());
    one(&mut other, "SELECT count(*) FROM items");
    for end in ["ROLLBACK", "COMMIT"] {
        say(&mut wire, "BEGIN");
        let changes = [
            "ALTER TABLE accounts ALTER balance SET DEFAULT 5",
            "DROP TABLE accounts",
            "ALTER TABLE items ADD COLUMN more int8 DEFAULT 7",
        ];
        for sql in changes {
            let said = say(&mut wire, sql);
            assert_eq!(said.last().unwrap(), "ReadyForQuery T", "{sql}: {said:?}");
        }
        assert_eq!(one(&mut other, "SELECT 1 WHERE 0 < 1"), "1");
        assert_eq!(one(&mut other, "SELECT count(*) FROM kinds"), "0");
        let ended = say(&mut wire, end);
        assert_eq!(
            ended,
            [format!("CommandComplete {end}"), "ReadyForQuery I".into()]
        );
    }
    // Once it is committed everybody knows it.
    say(&mut other, "INSERT INTO items (id) VALUES (1), (2), (3)");
    assert_eq!(one(&mut other, "SELECT sum(more) FROM items"), "21");
    let gone = say(&mut other, "SELECT count(*) FROM accounts");
    assert!(gone[0].starts_with("Error "), "{gone:?}");
}

#[test]
fn a_described_statement_keeps_its_columns_or_says_that_they_have_changed() {
    let stage = Stage::new();
    stage.fill(one_each());
    let texts = [
        "SELECT v FROM items",
        "SELECT v FROM items ORDER BY id LIMIT 2",
        "SELECT max(v) FROM items",
        "SELECT a.v FROM items a JOIN items b ON a.v = b.id + $1",
        "UPDATE items SET note = 'm' WHERE v > $1 RETURNING v",
        "SELECT v FROM items WHERE id = $1",
    ];
    let (mut wire, mut other) = (stage.wire(), stage.wire());
    let describe = |wire: &mut Wire, text: &str| {
        let messages = [
            message::parse(text, text, &[20].repeat(text.matches('$').count())),
            message::describe_statement(text),
            message::sync(),
        ];
        let told = send(wire, &messages);
        assert_eq!(told.last().unwrap(), "ReadyForQuery I", "{text}: {told:?}");
    };
    let run = |wire: &mut Wire, text: &str| {
        let values: &[Option<&[u8]>] = match text.contains('$') {
            true => &[Some(b"1")],
            false => &[],
        };
        let messages = [
            message::bind("", text, Format::Text, values, Format::Text),
            message::execute("", 0),
            message::sync(),
        ];
        send(wire, &messages)
    };
    for text in texts {
        describe(&mut wire, text);
    }
    // What it was told still holds.
    assert_eq!(
        say(&mut other, "ALTER TABLE items ADD COLUMN more int8")[0],
        "CommandComplete ALTER TABLE"
    );
    for text in texts {
        assert_eq!(run(&mut wire, text)[0], "BindComplete", "{text}");
    }
    assert_eq!(
        say(&mut other, "ALTER TABLE items ALTER COLUMN v TYPE numeric")[0],
        "CommandComplete ALTER TABLE"
    );
    let changed = "Error 0A000 cached plan must not change result type";
    for text in texts {
        let told = run(&mut wire, text);
        assert_eq!(told[0], changed, "{text}: {told:?}");
        // Another client describes it as it is now.
        describe(&mut other, text);
        assert_eq!(run(&mut other, text)[0], "BindComplete", "{text}");
    }
    // By another search path it means another table.
    for sql in [
        "CREATE SCHEMA aside",
        "CREATE TABLE aside.kinds (id int4 PRIMARY KEY)",
    ] {
        assert!(say(&mut other, sql)[0].starts_with("CommandComplete"));
    }
    let text = "SELECT * FROM kinds WHERE id = $1 -- aside";
    describe(&mut wire, text);
    say(&mut wire, "SET search_path = aside");
    let told = run(&mut wire, text);
    assert_eq!(told[0], changed, "{text}: {told:?}");
    stage.assert_nothing_open();
}

#[test]
fn a_table_that_another_router_has_made_just_now_is_not_taken_for_one_of_the_home_shard() {
    let stage = Stage::with("[tables]\ndefault = \"auto\"\n");
    let other = stage.another_router();
    let (mut wire, mut there) = (stage.wire(), stage.wire_of(&other));
    for n in 0..8 {
        // Whatever it does not know it looks for, and has then seen the catalog just now.
        say(&mut there, "SELECT count(*) FROM nowhere");
        let made = say(
            &mut wire,
            &format!("CREATE TABLE made{n} (id int PRIMARY KEY)"),
        );
        assert_eq!(made[0], "CommandComplete CREATE TABLE");
        let filled = format!("INSERT INTO made{n} SELECT generate_series(1, 9)");
        assert_eq!(say(&mut wire, &filled)[0], "CommandComplete INSERT 0 9");
        match n % 4 {
            0 => assert_eq!(
                one(&mut there, &format!("SELECT count(*) FROM made{n}")),
                "9"
            ),
            1 => {
                let told = say(&mut there, &format!("DELETE FROM made{n}"));
                assert_eq!(told[0], "CommandComplete DELETE 9");
            }
            2 => {
                let more = format!("INSERT INTO made{n} VALUES (11), (12), (13), (14), (15)");
                assert_eq!(say(&mut there, &more)[0], "CommandComplete INSERT 0 5");
                let count =
                    format!("SELECT count(*) FROM made{n} WHERE id = ANY ('{{11,12,13,14,15}}')");
                assert_eq!(one(&mut wire, &count), "5");
            }
            _ => {
                let told = say(&mut there, &format!("DROP TABLE made{n}"));
                assert_eq!(told[0], "CommandComplete DROP TABLE");
                let gone = format!("to_regclass('made{n}') IS NULL");
                assert_eq!(everywhere(&stage, &gone), ["t", "t", "t"]);
            }
        }
    }
}

#[test]
fn a_unique_index_becomes_a_constraint_on_all_shards() {
    let stage = Stage::with("[[table]]\nname = \"dated\"\nkey = [\"id\"]\nkey_type = [\"int8\"]\n");
    let mut wire = stage.wire();
    for sql in [
        "CREATE UNIQUE INDEX items_v ON items (id, v)",
        "ALTER TABLE items ADD CONSTRAINT items_once UNIQUE USING INDEX items_v",
        "ALTER TABLE items ADD COLUMN twice int8 GENERATED ALWAYS AS (v * 2) STORED",
        "ALTER TABLE items ALTER COLUMN twice DROP EXPRESSION",
        "CREATE TABLE dated (id int8, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
        "CREATE TABLE dated_1 PARTITION OF dated FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
        "CREATE INDEX dated_day ON ONLY dated (day)",
        "CREATE INDEX dated_1_own ON dated_1 (day)",
        "ALTER INDEX dated_day ATTACH PARTITION dated_1_own",
    ] {
        let told = say(&mut wire, sql);
        let done = told.iter().any(|line| line.starts_with("CommandComplete"));
        assert!(done, "{sql}: {told:?}");
    }
    for (sql, on_each) in [
        (
            "SELECT count(*) FROM pg_constraint WHERE conname = 'items_once' AND contype = 'u'",
            "1",
        ),
        (
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 'items'::regclass AND attname = 'twice' \
             AND attgenerated = ''",
            "1",
        ),
        (
            "SELECT indisvalid::text FROM pg_index WHERE indexrelid = 'dated_day'::regclass",
            "true",
        ),
    ] {
        assert_eq!(stage.shards.sql_all(sql), [on_each; 3], "{sql}");
    }
    // One without the shard key is unique on each shard alone.
    stage
        .shards
        .sql_all("CREATE UNIQUE INDEX accounts_balance ON accounts (balance)");
    let told = say(
        &mut wire,
        "ALTER TABLE accounts ADD CONSTRAINT accounts_once UNIQUE USING INDEX accounts_balance",
    );
    assert!(told[0].starts_with("Error 0A000"), "{told:?}");
}

/// A change of `items` and what undoes it.
const CHANGES: [(&str, &str); 4] = [
    ("ADD COLUMN more int8 DEFAULT 7", "DROP COLUMN more"),
    (
        "ALTER COLUMN v TYPE text",
        "ALTER COLUMN v TYPE int8 USING v::int8",
    ),
    ("DROP COLUMN note", "ADD COLUMN note text DEFAULT 'n'"),
    ("RENAME COLUMN note TO noted", "RENAME COLUMN noted TO note"),
];

/// A router and one PostgreSQL, with the same twelve items.
fn both() -> (Stage, Shards) {
    let (stage, direct) = (Stage::new(), Shards::new(1));
    let mut alone = Wire::login(&direct.endpoint(0));
    for sql in super::stage::DEFINITIONS {
        assert!(say(&mut alone, sql)[0].starts_with("CommandComplete"));
    }
    let fill = "INSERT INTO items SELECT g, g, 'n' FROM generate_series(1, 12) g";
    for wire in [&mut stage.wire(), &mut alone] {
        assert_eq!(say(wire, fill)[0], "CommandComplete INSERT 0 12");
    }
    (stage, direct)
}

#[test]
#[ignore = "long"]
fn who_waits_for_a_change_is_answered_by_what_has_changed() {
    let (stage, direct) = both();
    let alone = || Wire::login(&direct.endpoint(0));
    let statements = [
        "SELECT * FROM items ORDER BY id",
        "SELECT * FROM items ORDER BY 1 LIMIT 5",
        "SELECT count(*), max(v) FROM items",
        "SELECT v FROM items ORDER BY v LIMIT 2",
        "SELECT a.* FROM items a, items b WHERE a.v = b.v AND a.id < 3 ORDER BY a.id",
        "SELECT max(v::text) FROM items a",
        "UPDATE items SET v = v RETURNING *",
        "WITH d AS (UPDATE items SET v = v WHERE id < 4 RETURNING *) SELECT * FROM d ORDER BY id",
    ];
    let mut wrong = Vec::new();
    for (change, back) in CHANGES.map(|(a, b)| {
        (
            format!("ALTER TABLE items {a}"),
            format!("ALTER TABLE items {b}"),
        )
    }) {
        for sql in statements {
            let ways = [vec![message::query(sql)], extended(sql, &[], &[])];
            for (asked, before) in ways.iter().flat_map(|way| [(way, false), (way, true)]) {
                // Who has asked the same before is known to plan it.
                let wire = |mut wire: Wire| {
                    if before {
                        send(&mut wire, asked);
                    }
                    wire
                };
                let sharded = told_behind(&[&change], asked, || wire(stage.wire()));
                let one = told_behind(&[&change], asked, || wire(alone()));
                if sharded != one {
                    wrong.push(format!(
                        "{change}; {sql}: {sharded:#?}, and one PostgreSQL: {one:#?}"
                    ));
                }
                for wire in [&mut stage.wire(), &mut alone()] {
                    assert_eq!(say(wire, &back)[0], "CommandComplete ALTER TABLE");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is told of a statement that waits for these changes in a transaction of another client.
fn told_behind(changes: &[&str], asked: &[Vec<u8>], wire: impl Fn() -> Wire) -> Vec<String> {
    let (mut first, mut second) = (wire(), wire());
    say(&mut first, "BEGIN");
    for change in changes {
        let said = say(&mut first, change);
        assert!(!said[0].starts_with("Error"), "{change}: {said:?}");
    }
    second.send(&asked.concat());
    let early = second.try_frame(Duration::from_millis(50));
    say(&mut first, "COMMIT");
    let mut frames: Vec<Frame> = early.into_iter().collect();
    frames.extend(second.until_ready());
    let mut lines = super::stage::lines(&frames);
    lines.sort();
    lines
}

const SEEN: &str = "CREATE OR REPLACE VIEW seen AS SELECT id, v FROM items";

#[test]
fn who_waits_for_another_view_gets_its_rows() {
    let (stage, direct) = both();
    let mut alone = Wire::login(&direct.endpoint(0));
    let cases = [
        (
            "SELECT max(id) AS id, count(*) AS v FROM items",
            "SELECT * FROM seen",
        ),
        (
            "SELECT id, v FROM (SELECT * FROM items ORDER BY id LIMIT 2) q",
            "SELECT * FROM seen",
        ),
        (
            "SELECT DISTINCT 1::int8 AS id, v % 2 AS v FROM items",
            "SELECT count(*) FROM seen",
        ),
        (
            "SELECT id, v FROM items UNION ALL SELECT 0, 0",
            "SELECT * FROM seen ORDER BY id",
        ),
        (
            "SELECT id, row_number() OVER (ORDER BY id) AS v FROM items",
            "SELECT * FROM seen",
        ),
        (
            "SELECT 13 - id AS id, v FROM items",
            "SELECT * FROM seen WHERE id = 2",
        ),
        (
            "SELECT 13 - id AS id, v FROM items",
            "SELECT i.v, s.v FROM items i JOIN seen s USING (id)",
        ),
    ];
    let mut wrong = Vec::new();
    for (query, sql) in cases {
        for asked in [vec![message::query(sql)], extended(sql, &[], &[])] {
            for wire in [&mut stage.wire(), &mut alone] {
                assert_eq!(say(wire, SEEN)[0], "CommandComplete CREATE VIEW");
            }
            // Locks that only a change of the table takes make the reader wait, as it does for a view that is replaced.
            let replaces = format!("CREATE OR REPLACE VIEW seen AS {query}");
            let changes = ["LOCK TABLE items", &replaces];
            let sharded = told_behind(&changes, &asked, || stage.wire());
            let one = told_behind(&changes, &asked, || Wire::login(&direct.endpoint(0)));
            if sharded != one {
                wrong.push(format!(
                    "{query}; {sql}: {sharded:#?}, and one PostgreSQL: {one:#?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    stage.assert_nothing_open();
}

#[test]
fn what_waits_for_new_defaults_and_triggers_stores_nothing_that_one_postgresql_would_not() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    for sql in [
        "CREATE SEQUENCE numbers",
        "CREATE FUNCTION up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := NEW.id + 1000; RETURN NEW; END $$",
        "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := random()::text; RETURN NEW; END $$",
        "INSERT INTO kinds VALUES (1, 'a')",
    ] {
        let said = say(&mut wire, sql);
        assert!(said[0].starts_with("CommandComplete"), "{sql}: {said:?}");
    }
    stage.shards.sql(1, "CREATE SEQUENCE numbers");
    stage.shards.sql(2, "CREATE SEQUENCE numbers");
    let [a, b, c] = one_each();
    let rows = format!("INSERT INTO items (id) VALUES ({a}), ({b}), ({c})");
    let row = format!("INSERT INTO items (id) VALUES ({b})");
    let cases = [
        (
            "ALTER TABLE items ALTER note SET DEFAULT clock_timestamp()::text",
            &*rows,
        ),
        (
            "ALTER TABLE items ALTER note SET DEFAULT now()::text",
            &rows,
        ),
        (
            "ALTER TABLE items ALTER v SET DEFAULT nextval('numbers')",
            &rows,
        ),
        (
            "ALTER TABLE items ALTER v SET DEFAULT nextval('numbers')",
            &row,
        ),
        (
            "CREATE TRIGGER up BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION up()",
            &rows,
        ),
        (
            "CREATE TRIGGER up BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION up()",
            &row,
        ),
        (
            "ALTER TABLE kinds ALTER name SET DEFAULT random()::text",
            "INSERT INTO kinds (id) VALUES (2)",
        ),
        (
            "CREATE TRIGGER odd BEFORE INSERT OR UPDATE ON kinds FOR EACH ROW EXECUTE FUNCTION odd()",
            "UPDATE kinds SET id = 3",
        ),
    ];
    let undo = "DROP TRIGGER IF EXISTS up ON items; DROP TRIGGER IF EXISTS odd ON kinds; ALTER TABLE items ALTER v DROP DEFAULT, \
                ALTER note DROP DEFAULT; ALTER TABLE kinds ALTER name DROP DEFAULT; DELETE FROM items; DELETE FROM kinds WHERE id > 1";
    for (change, sql) in cases {
        for asked in [vec![message::query(sql)], extended(sql, &[], &[])] {
            let told = told_behind(&[change], &asked, || stage.wire());
            let what = format!("{change}; {sql}: {told:?}");
            assert!(
                told.iter().all(|line| !line.starts_with("Error 40001")),
                "{what}"
            );
            let kinds = stage.shards.sql_all("SELECT * FROM kinds ORDER BY id");
            assert!(
                kinds.iter().all(|copy| *copy == kinds[0]),
                "{what}: {kinds:?}"
            );
            let items = stage.shards.sql_all("SELECT id, v, note FROM items");
            let items: Vec<&str> = items.iter().flat_map(|rows| rows.lines()).collect();
            let values = |at: usize| {
                items
                    .iter()
                    .map(|row| row.split('|').nth(at).unwrap().to_owned())
                    .filter(|value| !value.is_empty())
                    .collect::<Vec<_>>()
            };
            let mut numbers = values(1);
            let stored = numbers.len();
            numbers.sort();
            numbers.dedup();
            assert_eq!(numbers.len(), stored, "{what}: {items:?}");
            let mut times = values(2);
            times.dedup();
            assert!(
                times.len() <= 1 || change.contains("clock"),
                "{what}: {items:?}"
            );
            for id in values(0) {
                let found = one(
                    &mut stage.wire(),
                    &format!("SELECT count(*) FROM items WHERE id = {id}"),
                );
                assert_eq!(found, "1", "{what}: {id}");
            }
            stage.shards.sql_all(undo);
            say(&mut wire, "COMMENT ON TABLE items IS 'as before'");
        }
    }
    stage.assert_nothing_prepared();
}

/// A change of columns that a transaction does not use does not end it.
#[test]
fn a_block_waits_for_a_change_of_columns_that_it_does_not_use() {
    let (stage, direct) = both();
    let alone = || Wire::login(&direct.endpoint(0));
    let (add, drop) = (
        "ALTER TABLE items ADD COLUMN z int DEFAULT 5",
        "ALTER TABLE items DROP COLUMN z",
    );
    let answers = |wire: &dyn Fn() -> Wire, begin: &str, sql: &str| {
        let (mut first, mut second) = (wire(), wire());
        let mut said = Vec::new();
        for change in [add, drop] {
            say(&mut first, "BEGIN");
            say(&mut first, change);
            say(&mut second, begin);
            second.send(&message::query(sql));
            // It waits by now, or will.
            let early = second.try_frame(Duration::from_millis(50));
            say(&mut first, "COMMIT");
            let mut frames: Vec<Frame> = early.into_iter().collect();
            frames.extend(second.until_ready());
            let mut lines = super::stage::lines(&frames);
            lines.sort();
            said.extend(lines);
            said.extend(say(&mut second, "COMMIT"));
        }
        said
    };
    for begin in ["BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ"] {
        for sql in [
            "SELECT count(*) FROM items",
            "SELECT sum(v) FROM items",
            "UPDATE items SET note = 'q' WHERE id IN (1, 2, 3) RETURNING id",
            "SELECT a.id FROM items a JOIN items b ON a.v = b.v WHERE a.id < 3",
        ] {
            let routed = answers(&|| stage.wire(), begin, sql);
            assert_eq!(routed, answers(&alone, begin, sql), "{begin}; {sql}");
        }
    }
}

/// One client reads what another one changes, over and over: one PostgreSQL fails none of these reads. The router may say
/// that a definition is held (55P03), or that a read which was sent before the change began has met it (40P01).
#[test]
#[ignore = "long"]
fn reads_beside_changes_of_definitions_do_not_fail() {
    let stage = Stage::new();
    stage.fill(1..=30);
    let endpoint = stage.endpoint();
    let login = || {
        let mut wire = Wire::login(&endpoint);
        wire.set_limit(super::stage::LIMIT);
        wire
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut wire = login();
                    let mut unlucky = 0;
                    for _ in 0..60 {
                        for sql in [
                            "SELECT count(*) FROM items a JOIN items b ON a.v = b.v",
                            "SELECT id, v FROM items ORDER BY id",
                        ] {
                            let said = say(&mut wire, sql);
                            let error = said.iter().find(|line| line.starts_with("Error"));
                            let is_known = |line: &String| {
                                ["Error 55P03", "Error 40P01"].contains(&&line[..11])
                            };
                            assert!(error.is_none_or(is_known), "{error:?}");
                            unlucky += usize::from(error.is_some());
                        }
                    }
                    assert!(unlucky < 12, "{unlucky} of 120 reads failed");
                })
            })
            .collect();
        let mut wire = login();
        while !readers.iter().all(|reader| reader.is_finished()) {
            for change in [
                "ALTER TABLE items ADD COLUMN z int DEFAULT 5",
                "ALTER TABLE items DROP COLUMN z",
            ] {
                assert_eq!(say(&mut wire, change)[0], "CommandComplete ALTER TABLE");
            }
        }
    });
}

/// A change of definitions may have locked a table on one shard while a transaction that has it on another comes there. One
/// PostgreSQL has one queue for the table, and nobody fails.
#[test]
#[ignore = "long"]
fn changes_of_definitions_and_transactions_over_shards_let_each_other_go() {
    let stage = Stage::new();
    stage.fill(1..=30);
    let endpoint = stage.endpoint();
    let login = || {
        let mut wire = Wire::login(&endpoint);
        wire.set_limit(super::stage::LIMIT);
        wire
    };
    let done = std::sync::atomic::AtomicBool::new(false);
    let is_done = || done.load(std::sync::atomic::Ordering::Relaxed);
    let [a, b, c] = one_each();
    let add = |id: i64| format!("UPDATE items SET v = v + 1 WHERE id = {id}");
    let all = extended("UPDATE items SET v = v + $1", &[], &["1"]);
    let ran = |said: Vec<String>| {
        let error = said.iter().find(|line| line.starts_with("Error"));
        assert!(error.is_none(), "{said:?}");
    };
    std::thread::scope(|scope| {
        for [first, second] in [[a, b], [b, c], [a, c], [a, b], [b, c], [a, c]] {
            scope.spawn(move || {
                let mut wire = login();
                while !is_done() {
                    for sql in ["BEGIN", &add(first), &add(second), "COMMIT"] {
                        ran(say(&mut wire, sql));
                    }
                }
            });
        }
        scope.spawn(|| {
            let mut wire = login();
            while !is_done() {
                ran(send(&mut wire, &all));
                ran(say(&mut wire, "UPDATE items SET v = v + 1"));
            }
        });
        let mut wire = login();
        for _ in 0..20 {
            ran(say(&mut wire, "ALTER TABLE items ADD COLUMN z int"));
            ran(say(&mut wire, "ALTER TABLE items DROP COLUMN z"));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// What a statement has locked to change it, nobody can read: not even the router, when it looks whether other changes have
/// overtaken the statement.
#[test]
fn changes_of_different_tables_do_not_fail_each_other() {
    let stage = Stage::new();
    let endpoint = stage.endpoint();
    std::thread::scope(|scope| {
        for table in ["items", "accounts"] {
            let endpoint = &endpoint;
            scope.spawn(move || {
                let mut wire = Wire::login(endpoint);
                wire.set_limit(super::stage::LIMIT);
                for _ in 0..10 {
                    for sql in [
                        format!("DROP TABLE IF EXISTS {table} CASCADE"),
                        format!("CREATE TABLE {table} (id int8 PRIMARY KEY, v int8)"),
                        format!("ALTER TABLE {table} ADD COLUMN z int"),
                        format!("INSERT INTO {table} (id) VALUES (1), (2), (3)"),
                    ] {
                        let said = say(&mut wire, &sql);
                        assert!(said[0].starts_with("CommandComplete"), "{sql}: {said:?}");
                    }
                }
            });
        }
    });
    stage.assert_nothing_open();
}

/// The name of a home table means on other shards whatever the next schema of the search path has of that name.
#[test]
#[ignore = "long"]
fn what_is_done_to_home_tables_reaches_no_table_of_their_name_in_another_schema() {
    let stage = Stage::bare(
        "[[table]]\nname = \"aside.*\"\nkey = [\"id\"]\nkey_type = [\"int4\"]\n\
         [[table]]\nname = \"ref.*\"\nkind = \"reference\"\n",
    );
    let plain = Shards::new(1);
    let mut both = [stage.wire(), Wire::login(&plain.endpoint(0))];
    let mut same = |sql: &str| {
        let [router, right] = both.each_mut().map(|wire| say(wire, sql));
        assert_eq!(router, right, "{sql}");
    };
    for sql in ["CREATE SCHEMA aside", "CREATE SCHEMA ref"] {
        same(sql);
    }
    for schema in ["aside", "ref"] {
        for drop in [
            "DROP TABLE t",
            "DROP TABLE t CASCADE",
            "DROP TABLE IF EXISTS t, nope CASCADE",
            "DROP TABLE own, t",
            "BEGIN; DROP TABLE t; COMMIT",
        ] {
            same("RESET search_path");
            same(&format!(
                "CREATE TABLE {schema}.t (id int PRIMARY KEY, x int)"
            ));
            same(&format!(
                "INSERT INTO {schema}.t SELECT g, g FROM generate_series(1, 12) g"
            ));
            same("CREATE TABLE public.t (id int PRIMARY KEY)");
            same("CREATE TABLE public.own (id int PRIMARY KEY)");
            same(&format!("SET search_path = public, {schema}"));
            for sql in [
                "TRUNCATE t",
                "TRUNCATE own, t",
                "GRANT SELECT ON t TO PUBLIC",
                "REVOKE SELECT ON own, t FROM PUBLIC",
                "ALTER INDEX t RENAME TO t2",
                "ALTER INDEX t2 RENAME TO t",
                drop,
            ] {
                same(sql);
                same(&format!("SELECT count(*), sum(x) FROM {schema}.t"));
            }
            same(&format!("TRUNCATE own, {schema}.t"));
            same("SELECT count(*) FROM t");
            same("DROP TABLE IF EXISTS own, t, nope");
            let left = "SELECT count(*) FROM pg_class WHERE relname = 't' OR relname = 'own'";
            assert_eq!(stage.shards.sql_all(left), ["0"; 3], "{schema}, {drop}");
        }
    }
}

/// PostgreSQL renames a table by ALTER INDEX, too.
#[test]
fn a_declared_table_keeps_its_name_also_as_an_index() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    for sql in [
        "ALTER INDEX items RENAME TO things",
        "ALTER INDEX IF EXISTS public.kinds RENAME TO sorts",
        "ALTER INDEX items RENAME TO accounts2",
    ] {
        let told = say(&mut wire, sql);
        assert!(told[0].starts_with("Error 0A000"), "{sql}: {told:?}");
    }
    let told = say(&mut wire, "ALTER INDEX items_pkey RENAME TO items_key");
    assert_eq!(told, ["CommandComplete ALTER INDEX", "ReadyForQuery I"]);
    assert_eq!(
        stage.shards.sql_all("SELECT 'items_key'::regclass"),
        ["items_key"; 3]
    );
}

/// A search path does not have a schema on which the role has no USAGE.
#[test]
fn a_schema_that_the_role_may_not_use_hides_no_table() {
    let stage = Stage::bare(
        "[[table]]\nname = \"shown.*\"\nkey = [\"id\"]\nkey_type = [\"int4\"]\n\
         [[table]]\nname = \"copied.*\"\nkind = \"reference\"\n",
    );
    let plain = Shards::new(1);
    let role = format!("walker_{}", stage.shards.endpoint(0).database);
    let mut both = [stage.wire(), Wire::login(&plain.endpoint(0))];
    say(&mut both[0], &format!("CREATE ROLE {role}"));
    let mut same = |sql: &str| {
        let [router, right] = both.each_mut().map(|wire| say(wire, sql));
        assert_eq!(router, right, "{sql}");
    };
    same("CREATE SCHEMA shown");
    same("CREATE SCHEMA own");
    same("CREATE SCHEMA copied");
    same("CREATE TABLE shown.t (id int PRIMARY KEY, v text)");
    same("INSERT INTO shown.t SELECT g, 'a' FROM generate_series(1, 12) g");
    same("CREATE TABLE own.t (id int PRIMARY KEY, v text)");
    same("CREATE TABLE copied.t (id int PRIMARY KEY, v text)");
    same(&format!("GRANT USAGE ON SCHEMA shown TO {role}"));
    same(&format!("GRANT ALL ON own.t, copied.t, shown.t TO {role}"));
    for hidden in ["own", "copied"] {
        same(&format!("SET search_path = {hidden}, shown"));
        for granted in [false, true, false] {
            match granted {
                true => same(&format!("GRANT USAGE ON SCHEMA {hidden} TO {role}")),
                false => same(&format!("REVOKE USAGE ON SCHEMA {hidden} FROM {role}")),
            }
            same("SELECT count(*) FROM t");
            same(&format!("SET ROLE {role}"));
            for sql in [
                "SELECT count(*) FROM t",
                "UPDATE t SET v = 'x'",
                "INSERT INTO t VALUES (21, 'x'), (22, 'x'), (23, 'x'), (24, 'x')",
                "SELECT v FROM t WHERE id = 23",
                "DELETE FROM t WHERE id > 20",
            ] {
                same(sql);
            }
            same("RESET ROLE");
            same("SELECT count(*) FROM shown.t");
        }
    }
    same("RESET search_path");
    same("DROP TABLE shown.t, own.t, copied.t");
    same(&format!("DROP OWNED BY {role}"));
    say(&mut both[0], &format!("DROP ROLE {role}"));
}

/// A server goes on with what a name meant when it prepared a statement, and the router plans by what it means now.
#[test]
fn a_prepared_statement_follows_its_names_to_another_table() {
    let stage = Stage::new();
    let (mut wire, mut other) = (stage.wire(), stage.wire());
    say(&mut other, "CREATE SCHEMA front");
    say(
        &mut wire,
        "INSERT INTO items (id) SELECT generate_series(1, 12)",
    );
    say(&mut wire, "SET search_path = front, public");
    let statements = [
        ("counted", "SELECT count(*) FROM items WHERE id > $1"),
        ("removed", "DELETE FROM items WHERE id > $1"),
        ("found", "SELECT id FROM items WHERE id = $1"),
    ];
    let run = |wire: &mut Wire, name: &str, value: &str| {
        let bind = message::bind(
            "",
            name,
            Format::Text,
            &[Some(value.as_bytes())],
            Format::Text,
        );
        wire.send(&[bind, message::execute("", 0), message::sync()].concat());
        super::stage::lines(&wire.until_ready())
    };
    for (name, sql) in statements {
        wire.send(&[message::parse(name, sql, &[]), message::sync()].concat());
        wire.until_ready();
        run(&mut wire, name, "99");
    }
    assert_eq!(run(&mut wire, "counted", "0")[1], "DataRow 12");
    for made in [
        "CREATE TABLE front.items (id int8)",
        "ALTER TABLE front.other RENAME TO items",
    ] {
        say(&mut other, made);
        say(&mut other, "INSERT INTO front.items VALUES (1)");
        for id in 1..=12 {
            let found = run(&mut wire, "found", &id.to_string());
            assert_eq!(
                found
                    .iter()
                    .filter(|line| line.starts_with("DataRow"))
                    .count(),
                usize::from(id == 1),
                "{made}"
            );
        }
        assert_eq!(run(&mut wire, "counted", "0")[1], "DataRow 1", "{made}");
        let removed = run(&mut wire, "removed", "0");
        assert!(
            removed.contains(&"CommandComplete DELETE 1".to_owned()),
            "{made}: {removed:?}"
        );
        assert_eq!(
            one(&mut other, "SELECT count(*) FROM public.items"),
            "12",
            "{made}"
        );
        say(&mut other, "ALTER TABLE front.items RENAME TO other");
        assert_eq!(run(&mut wire, "counted", "0")[1], "DataRow 12", "{made}");
    }
    stage.assert_nothing_open();
}

/// PostgreSQL finds the types of parameters once, when a statement is prepared. A server that is given its text again
/// would find others if a column has another type by then, or the search path leads to another function.
#[test]
fn a_prepared_statement_keeps_the_types_of_its_parameters() {
    let stage = Stage::new();
    let (mut wire, mut other) = (stage.wire(), stage.wire());
    for made in [
        "CREATE SCHEMA front",
        "CREATE FUNCTION public.kind(int) RETURNS text LANGUAGE sql AS $$SELECT 'int ' || $1$$",
        "CREATE FUNCTION front.kind(text) RETURNS text LANGUAGE sql AS $$SELECT 'text ' || $1$$",
        "CREATE TABLE at_home (id int8, v int)",
    ] {
        say(&mut other, made);
    }
    let statements = [
        ("sharded", "INSERT INTO items (id, v) VALUES ($1, $2)"),
        ("home", "INSERT INTO at_home VALUES ($1, $2)"),
        ("kind", "SELECT kind($1) WHERE $2 > 0"),
    ];
    for (name, sql) in statements {
        say(&mut wire, &format!("PREPARE {name}_sql AS {sql}"));
        wire.send(&[message::parse(name, sql, &[]), message::sync()].concat());
        wire.until_ready();
    }
    let run = |wire: &mut Wire, name: &str, values: [&str; 2]| {
        let values = values.map(|value| Some(value.as_bytes()));
        let bind = message::bind("", name, Format::Text, &values, Format::Text);
        wire.send(&[bind, message::execute("", 0), message::sync()].concat());
        let by_protocol = super::stage::lines(&wire.until_ready());
        assert_eq!(by_protocol[0], "BindComplete", "{name}");
        let [a, b] = values.map(|value| String::from_utf8_lossy(value.unwrap()).into_owned());
        let by_sql = say(wire, &format!("EXECUTE {name}_sql ('{a}', '{b}')"));
        [by_protocol, by_sql].concat()
    };
    let kinds = |wire: &mut Wire| {
        let mut kinds = run(wire, "kind", ["007", "1"]);
        kinds.retain(|line| line.starts_with("DataRow"));
        kinds
    };
    assert_eq!(kinds(&mut wire), ["DataRow int 7"; 2]);
    for changed in [
        "ALTER TABLE items ALTER v TYPE text",
        "ALTER TABLE at_home ALTER v TYPE text",
    ] {
        say(&mut other, changed);
    }
    // The connections that have prepared the statements serve somebody else.
    let mut busy = [stage.wire(), stage.wire(), stage.wire()];
    for wire in &mut busy {
        say(wire, "BEGIN");
        say(wire, "SELECT count(*) FROM items");
    }
    for id in 1..=6 {
        run(&mut wire, "sharded", [&id.to_string(), "007"]);
        run(&mut wire, "home", [&id.to_string(), "007"]);
    }
    for table in ["items", "at_home"] {
        let stored = format!("SELECT string_agg(DISTINCT v, ',') FROM {table}");
        assert_eq!(one(&mut other, &stored), "7", "{table}");
    }
    say(&mut wire, "SET search_path = front, public");
    assert_eq!(kinds(&mut wire), ["DataRow int 7"; 2]);
    // Who prepares it now gets what it means now.
    say(&mut other, "SET search_path = front, public");
    say(&mut other, "PREPARE kind AS SELECT kind($1)");
    assert_eq!(one(&mut other, "EXECUTE kind('007')"), "text 007");
    drop(busy);
    stage.assert_nothing_open();
}
