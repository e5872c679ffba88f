//! Scripts of ordinary applications, statement by statement beside one PostgreSQL.
//!
//! `scripts/*.sql` has one statement in each line. Comments in front declare the tables: `-- sharded: table key type` and
//! `-- reference: table`. Each statement is answered as by one PostgreSQL, or it is marked with `!` and refused. The same
//! holds where tables are declared by their primary key when they are created, but that more may be refused there, and
//! where nothing is declared, where nothing is.

use super::stage::{Stage, say};
use mothership_tests::{Shards, Wire};

const SCRIPTS: [(&str, &str); 10] = [
    ("around", include_str!("scripts/around.sql")),
    ("code", include_str!("scripts/code.sql")),
    ("columns", include_str!("scripts/columns.sql")),
    ("conflicts", include_str!("scripts/conflicts.sql")),
    ("filled", include_str!("scripts/filled.sql")),
    ("found", include_str!("scripts/found.sql")),
    ("ids", IDS),
    ("repeatable", include_str!("scripts/repeatable.sql")),
    ("tenants", include_str!("scripts/tenants.sql")),
    ("usual", include_str!("scripts/usual.sql")),
];

/// Tables that refer to each other by their ids alone, with constraints that no shard can enforce.
const IDS: &str = include_str!("scripts/ids.sql");

/// What sequences gave, asked for in the transaction and behind it.
const NUMBERS: &str = include_str!("scripts/numbers.sql");

/// How tables are declared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Declared {
    /// As the scripts say.
    ByName,
    /// By their primary keys, when they are created.
    Auto,
    /// Not at all.
    Never,
}

fn declarations() -> String {
    let mut config = String::new();
    for line in SCRIPTS.iter().flat_map(|(_, script)| script.lines()) {
        if let Some(table) = line.strip_prefix("-- sharded: ") {
            let words: Vec<&str> = table.split(' ').collect();
            let [name, key, key_type] = words.as_slice() else {
                panic!("{line}");
            };
            config += &format!(
                "[[table]]\nname = \"{name}\"\nkey = [\"{key}\"]\nkey_type = [\"{key_type}\"]\n"
            );
        }
        if let Some(name) = line.strip_prefix("-- reference: ") {
            config += &format!("[[table]]\nname = \"{name}\"\nkind = \"reference\"\n");
        }
    }
    config
}

fn play(declared: Declared) {
    let stage = Stage::bare(&match declared {
        Declared::ByName => declarations(),
        Declared::Auto => "[tables]\ndefault = \"auto\"\n".to_owned(),
        Declared::Never => String::new(),
    });
    let plain = Shards::new(1);
    let mut wrong = Vec::new();
    for (name, script) in SCRIPTS {
        let mut wire = stage.wire();
        let mut direct = Wire::login(&plain.endpoint(0));
        for line in script.lines().filter(|line| !line.starts_with("--")) {
            let (sql, is_refused) = match line.strip_prefix("! ") {
                Some(sql) => (sql, declared != Declared::Never),
                None => (line, false),
            };
            let told = say(&mut wire, sql);
            if is_refused || told[0].starts_with("Error 0A000") && declared == Declared::Auto {
                // Nothing has been done, so that PostgreSQL is not asked either.
                if !told[0].starts_with("Error 0A000") {
                    wrong.push(format!("{name}: {sql} is not refused: {told:?}"));
                }
                continue;
            }
            let expected = say(&mut direct, sql);
            if told != expected {
                wrong.push(format!(
                    "{name}: {sql}\n  router:     {told:?}\n  PostgreSQL: {expected:?}"
                ));
            }
        }
    }
    let count = wrong.len();
    assert!(wrong.is_empty(), "{count} wrong:\n{}", wrong.join("\n"));
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

#[test]
#[ignore = "long"]
fn scripts_are_answered_as_by_one_postgresql() {
    play(Declared::ByName);
}

#[test]
#[ignore = "long"]
fn scripts_are_answered_or_refused_where_primary_keys_declare_tables() {
    play(Declared::Auto);
}

#[test]
fn scripts_are_answered_where_nothing_is_declared() {
    play(Declared::Never);
}

/// With `auto` they live on the home shard, whole.
#[test]
fn tables_that_no_shard_can_guard_live_on_the_home_shard_if_nobody_declares_them() {
    let stage = Stage::bare("[tables]\ndefault = \"auto\"\n");
    let plain = Shards::new(1);
    let (mut wire, mut direct) = (stage.wire(), Wire::login(&plain.endpoint(0)));
    for sql in IDS.lines() {
        assert_eq!(say(&mut wire, sql), say(&mut direct, sql), "{sql}");
    }
    let have = "SELECT to_regclass('users') IS NULL, (SELECT count(*) < 30 FROM logs)";
    assert_eq!(stage.shards.sql_all(have), ["f|t", "t|t", "t|t"]);
    // A declared one is refused as before.
    let refused = [
        "CREATE TABLE wishes (id bigint PRIMARY KEY, log bigint UNIQUE REFERENCES logs (id))",
        "ALTER TABLE logs ADD COLUMN code text UNIQUE",
    ];
    for sql in refused {
        let told = say(&mut wire, sql);
        assert!(told[0].starts_with("Error 0A000"), "{sql}: {told:?}");
    }
}

/// On servers that have worked for nobody else.
#[test]
fn numbers_of_sequences_are_told_whoever_has_taken_them() {
    for declared in ["", "[tables]\ndefault = \"auto\"\n"] {
        let (stage, plain) = (Stage::bare(declared), Shards::new(1));
        let (mut wire, mut direct) = (stage.wire(), Wire::login(&plain.endpoint(0)));
        for sql in NUMBERS.lines() {
            assert_eq!(
                say(&mut wire, sql),
                say(&mut direct, sql),
                "{declared}: {sql}"
            );
        }
    }
}

/// Rows of one column get one time on all shards, and those that follow their own.
#[test]
fn a_new_column_that_asks_for_the_time_has_one_for_all_rows() {
    let stage = Stage::new();
    stage.fill(1..60);
    let mut wire = stage.wire();
    let add = [
        "ALTER TABLE items ADD COLUMN made timestamptz NOT NULL DEFAULT now()",
        "ALTER TABLE items ADD COLUMN day date DEFAULT (current_date - 1) NOT NULL, ADD z int DEFAULT 4 -- and so on",
        "BEGIN",
        "SELECT v FROM items WHERE id = 3",
        "ALTER TABLE items ADD COLUMN IF NOT EXISTS utc timestamp DEFAULT (now() AT TIME ZONE 'utc')",
        "ALTER TABLE items ADD COLUMN IF NOT EXISTS utc timestamp DEFAULT localtimestamp",
        "COMMIT",
        "ALTER TABLE kinds ADD COLUMN made timestamptz DEFAULT CURRENT_TIMESTAMP(3)",
    ];
    for sql in add {
        let told = say(&mut wire, sql);
        assert!(!told[0].starts_with("Error"), "{sql}: {told:?}");
    }
    let said = "SELECT string_agg(DISTINCT concat(made, ' ', day, ' ', utc), ',') FROM items";
    let said = stage.shards.sql_all(said);
    assert_eq!(said[0].split(',').count(), 1, "{said:?}");
    assert!(said.iter().all(|one| *one == said[0]), "{said:?}");
    let defaults = "SELECT string_agg(pg_get_expr(adbin, adrelid), ',' ORDER BY adrelid::regclass::text, adnum) \
        FROM pg_attrdef WHERE adrelid IN ('items'::regclass, 'kinds'::regclass)";
    for told in stage.shards.sql_all(defaults) {
        assert_eq!(
            told,
            "now(),(CURRENT_DATE - 1),4,(now() AT TIME ZONE 'utc'::text),CURRENT_TIMESTAMP(3)"
        );
    }
    let more = "INSERT INTO items (id, v) VALUES (1000, 1), (1001, 1)";
    assert_eq!(say(&mut wire, more)[0], "CommandComplete INSERT 0 2");
    let told =
        wire.rows("SELECT count(DISTINCT made), min(id) FROM items GROUP BY id < 1000 ORDER BY 2");
    assert_eq!(told, [["1", "1"], ["1", "1000"]]);
    let told = wire.rows("SELECT count(DISTINCT made) FROM items");
    assert_eq!(told, [["2"]]);
}

/// Each row has a value of its own; of a table that is on all shards each copy would have another.
#[test]
fn a_new_column_of_random_values_is_for_rows_that_are_on_one_shard() {
    let stage = Stage::new();
    stage.fill(1..60);
    let mut wire = stage.wire();
    let told = say(
        &mut wire,
        "ALTER TABLE items ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid()",
    );
    assert_eq!(told[0], "CommandComplete ALTER TABLE");
    let told = wire.rows("SELECT count(DISTINCT token), count(*) FROM items");
    assert_eq!(told, [["59", "59"]]);
    let refused = [
        "ALTER TABLE kinds ADD COLUMN token uuid DEFAULT gen_random_uuid()",
        "ALTER TABLE items ADD COLUMN at timestamptz DEFAULT 'now'",
        "ALTER TABLE items ADD COLUMN at timestamptz DEFAULT now() + random() * interval '1 s'",
        "ALTER TABLE items ADD COLUMN no serial",
    ];
    for sql in refused {
        let told = say(&mut wire, sql);
        assert!(told[0].starts_with("Error 0A000"), "{sql}: {told:?}");
    }
}
