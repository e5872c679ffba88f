//! BEGIN, COMMIT and ROLLBACK in texts of several statements and where a block is open already: what clients are told
//! and what is stored, beside one PostgreSQL.

use super::stage::{Stage, one, one_each, say};
use mothership_tests::Wire;

#[test]
fn blocks_begin_and_end_as_in_one_postgresql() {
    let stage = Stage::new();
    let plain = super::stage::plain();
    let [a, b, c] = one_each();
    let add = |ids: &[i64]| {
        let rows: Vec<String> = ids.iter().map(|id| format!("({id})")).collect();
        format!("INSERT INTO items (id) VALUES {}", rows.join(", "))
    };
    let (two, third) = (add(&[a, b]), add(&[c]));
    let (first, all) = (add(&[a]), "SELECT count(*) FROM items");
    let cases: &[&[&str]] = &[
        // A block takes over what was done before it, and has its own modes from there on.
        &[&format!("{two}; BEGIN; {third}"), "ROLLBACK"],
        &[&format!("{two}; BEGIN READ ONLY; {third}"), "COMMIT"],
        &[&format!("{two}; BEGIN READ ONLY"), &third, "COMMIT"],
        &[&format!("{first}; BEGIN READ ONLY; {all}; COMMIT")],
        &[&format!(
            "{two}; BEGIN ISOLATION LEVEL SERIALIZABLE; {third}"
        )],
        &[&format!(
            "{two}; START TRANSACTION READ WRITE; {third}; COMMIT"
        )],
        // Settings ahead of it are no queries.
        &[
            &format!("SET work_mem = '5MB'; BEGIN ISOLATION LEVEL REPEATABLE READ; {third}"),
            "SHOW transaction_isolation",
            all,
            "COMMIT",
        ],
        &[
            "SET work_mem = '5MB'; SET search_path = public; BEGIN READ ONLY",
            &third,
            "COMMIT",
        ],
        &[&format!(
            "SET work_mem = '5MB'; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; {all}; SHOW transaction_isolation"
        )],
        &["SELECT set_config('work_mem', '5MB', false); BEGIN ISOLATION LEVEL REPEATABLE READ"],
        // What ends a transaction where no block is.
        &[&format!("{two}; COMMIT; {third}; SELECT 1 / 0")],
        &[&format!("{two}; ROLLBACK; {third}")],
        &[&format!("{two}; COMMIT AND CHAIN; {third}")],
        &[&format!("{two}; ROLLBACK AND CHAIN; {third}")],
        &[&format!("{two}; COMMIT; BEGIN; {third}"), "ROLLBACK"],
        // A block that failed before any server knew of it.
        &["BEGIN", "EXECUTE unknown", "ROLLBACK; SELECT 7"],
        &[
            "BEGIN",
            "EXECUTE unknown",
            &format!("COMMIT; BEGIN; {two}"),
            "COMMIT",
        ],
        &[
            "BEGIN",
            "EXECUTE unknown",
            &format!("ROLLBACK AND CHAIN; {third}"),
            "COMMIT",
        ],
        &[
            "BEGIN",
            "SAVEPOINT s",
            "EXECUTE unknown",
            &format!("ROLLBACK TO s; {two}; COMMIT"),
        ],
        &[
            "BEGIN",
            "EXECUTE unknown",
            &format!("SELECT 1; ROLLBACK; {third}"),
            "ROLLBACK",
        ],
        &[
            "BEGIN",
            "EXECUTE unknown",
            &format!("ROLLBACK; SELECT 1 / 0; {third}"),
        ],
        // A second BEGIN: those that join later have its modes and those of the first.
        &["BEGIN", "BEGIN READ ONLY", &third, "COMMIT"],
        &["BEGIN READ ONLY", all, "BEGIN", &third, "COMMIT"],
        &["BEGIN READ ONLY; BEGIN", &third, "COMMIT"],
        &["BEGIN", &first, "BEGIN READ ONLY", &third, "COMMIT"],
        &["BEGIN", &two, "BEGIN READ ONLY", &third, "ROLLBACK"],
        &[
            "BEGIN",
            &first,
            "SAVEPOINT s",
            "BEGIN READ ONLY",
            "ROLLBACK TO s",
            &third,
            "COMMIT",
        ],
        &[
            "BEGIN",
            all,
            "BEGIN ISOLATION LEVEL REPEATABLE READ",
            "COMMIT",
        ],
        &[
            "BEGIN",
            "BEGIN ISOLATION LEVEL REPEATABLE READ",
            "SHOW transaction_isolation",
            "COMMIT",
        ],
        &[
            "BEGIN ISOLATION LEVEL REPEATABLE READ",
            &first,
            "BEGIN",
            &third,
            "SHOW transaction_isolation",
            "COMMIT",
        ],
        // A chained one has what was set meanwhile.
        &[
            "BEGIN",
            "SET TRANSACTION READ ONLY",
            all,
            "COMMIT AND CHAIN",
            &third,
            "COMMIT",
        ],
        &[
            "BEGIN",
            "BEGIN READ ONLY",
            "COMMIT AND CHAIN",
            &third,
            "COMMIT",
        ],
        &[
            "BEGIN READ ONLY",
            "SET TRANSACTION READ WRITE",
            &first,
            "COMMIT AND CHAIN",
            &third,
            "COMMIT",
        ],
        &[
            "BEGIN",
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            all,
            "COMMIT AND CHAIN",
            "SHOW transaction_isolation",
            "COMMIT",
        ],
        &[
            "BEGIN ISOLATION LEVEL REPEATABLE READ",
            all,
            "SELECT 1 / 0",
            "ROLLBACK AND CHAIN",
            "SHOW transaction_isolation",
            "COMMIT",
        ],
        &[
            "BEGIN READ ONLY",
            &third,
            "ROLLBACK AND CHAIN",
            &third,
            "COMMIT",
        ],
        &[
            "BEGIN READ ONLY",
            all,
            "ROLLBACK AND CHAIN",
            &third,
            "COMMIT",
        ],
        // The router's own savepoint and mark end with the transaction.
        &[
            "BEGIN",
            "SELECT id FROM kinds FOR UPDATE",
            "COMMIT AND CHAIN",
            "UPDATE items SET v = v + 1",
            "COMMIT",
        ],
        &[
            "BEGIN",
            "SELECT id FROM kinds FOR UPDATE",
            "ROLLBACK AND CHAIN",
            "UPDATE kinds SET name = 'a'",
            "COMMIT AND CHAIN",
            "UPDATE items SET v = v + 1",
            "ROLLBACK AND CHAIN",
            "DELETE FROM kinds",
            "COMMIT",
        ],
        // What it took over outlives its errors, unlike the modes of a BEGIN.
        &[
            "BEGIN ISOLATION LEVEL REPEATABLE READ",
            "COMMIT AND CHAIN",
            "SELEC",
            "ROLLBACK AND CHAIN",
            "SHOW transaction_isolation",
            "COMMIT",
        ],
        &[
            "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            "ROLLBACK AND CHAIN",
            "SET datestyle = 'bad'",
            "COMMIT AND CHAIN",
            "SHOW transaction_isolation",
            &third,
            "COMMIT",
        ],
        &[
            "BEGIN ISOLATION LEVEL REPEATABLE READ",
            all,
            "COMMIT AND CHAIN",
            all,
            "SET TRANSACTION READ ONLY",
            "SELECT 1 / 0",
            "ROLLBACK AND CHAIN",
            &third,
            "SHOW transaction_isolation",
            "COMMIT",
        ],
        &[
            "BEGIN ISOLATION LEVEL REPEATABLE READ",
            "COMMIT AND CHAIN",
            "COMMIT",
            "BEGIN READ ONLY",
            "SELEC",
            "ROLLBACK AND CHAIN",
            "SHOW transaction_isolation",
            &third,
            "COMMIT",
        ],
        // The next transaction has nothing of it.
        &["BEGIN READ ONLY; BEGIN; ROLLBACK", &two],
    ];
    for case in cases {
        let mut wires = [Wire::login(&plain.endpoint(0)), stage.wire()];
        let mut told: Vec<Vec<Vec<String>>> = Vec::new();
        for wire in &mut wires {
            told.push(case.iter().map(|sql| say(wire, sql)).collect());
        }
        assert_eq!(told[1], told[0], "{case:?}");
        let stored = plain.sql(0, "SELECT id FROM items ORDER BY id");
        let stored: Vec<i64> = stored.lines().map(|id| id.parse().unwrap()).collect();
        assert_eq!(stage.ids("items"), stored, "{case:?}");
        stage.assert_nothing_open();
        plain.sql(0, "TRUNCATE items");
        stage.shards.sql_all("TRUNCATE items");
    }
    stage.assert_nothing_prepared();
}

#[test]
fn what_wrote_on_several_shards_and_is_read_only_then_is_undone() {
    let stage = Stage::new();
    let [a, b, _] = one_each();
    let mut wire = stage.wire();
    let sql = format!("INSERT INTO items (id) VALUES ({a}), ({b})");
    wire.query("BEGIN");
    say(&mut wire, &sql);
    say(&mut wire, "SET TRANSACTION READ ONLY");
    // Its record is a row, which nobody may write any longer.
    let ended = say(&mut wire, "COMMIT");
    assert!(ended[0].starts_with("Error 25006"), "{ended:?}");
    assert_eq!(ended[1], "ReadyForQuery I");
    assert_eq!(stage.ids("items"), [] as [i64; 0]);
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

#[test]
fn deallocate_may_be_one_of_several_statements() {
    for stage in [Stage::new(), Stage::bare("")] {
        let mut wire = stage.wire();
        wire.query("PREPARE p AS SELECT 1");
        assert_eq!(
            say(&mut wire, "SELECT 7; DEALLOCATE p; SELECT 8"),
            [
                "RowDescription ?column?",
                "DataRow 7",
                "CommandComplete SELECT 1",
                "CommandComplete DEALLOCATE",
                "RowDescription ?column?",
                "DataRow 8",
                "CommandComplete SELECT 1",
                "ReadyForQuery I"
            ]
        );
        let gone = say(&mut wire, "EXECUTE p");
        assert!(gone[0].starts_with("Error 26000"), "{gone:?}");
        assert_eq!(one(&mut wire, "SELECT 9"), "9");
    }
}

#[test]
fn statements_of_prepare_are_as_few_on_a_server_as_its_limit_says() {
    let more = "[pool]\nprepared_statements = 5\n";
    let stage = Stage::on_one_core_with(more);
    let mut wire = stage.wire();
    // A client may not ask by a query: it would see what others have prepared.
    let view = "CREATE VIEW held AS SELECT count(*) FROM pg_prepared_statements";
    stage.shards.sql(0, view);
    for turn in 0..40 {
        let name = format!("p{turn}");
        let made = say(&mut wire, &format!("PREPARE {name} AS SELECT {turn}"));
        assert_eq!(made[0], "CommandComplete PREPARE");
        assert_eq!(one(&mut wire, &format!("EXECUTE {name}")), turn.to_string());
        // Every other one is kept, and made anew where it is not any longer.
        if turn % 2 == 0 {
            assert_eq!(one(&mut wire, "EXECUTE p0"), "0");
            continue;
        }
        say(&mut wire, &format!("DEALLOCATE {name}"));
    }
    // The home shard alone has worked, by one connection.
    wire.query("BEGIN");
    let tell = "DO $$ BEGIN RAISE NOTICE '%', (SELECT * FROM held); END $$";
    let told = say(&mut wire, tell);
    let held = told[0].strip_prefix("Notice 00000 ").expect("a notice");
    assert!(held.parse::<u32>().unwrap() <= 5, "{held} statements");
    assert_eq!(one(&mut wire, "EXECUTE p38"), "38");
    say(&mut wire, "COMMIT");
}

#[test]
fn a_text_ends_a_block_whose_server_is_lost() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    let [a, ..] = one_each();
    for ends in ["ROLLBACK", "COMMIT"] {
        for sql in ["BEGIN", "SAVEPOINT s"] {
            say(&mut wire, sql);
        }
        let insert = format!("INSERT INTO items VALUES ({a}, 1)");
        assert_eq!(say(&mut wire, &insert)[0], "CommandComplete INSERT 0 1");
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
            AND state = 'idle in transaction' AND application_name NOT LIKE 'mothership%'";
        assert_eq!(stage.shards.sql(0, kill), "t");
        let told = say(&mut wire, "SELECT 1");
        assert!(told[0].starts_with("Error"), "{told:?}");
        assert_eq!(told.last().unwrap(), "ReadyForQuery E");
        // Its savepoints are lost as well.
        for sql in [
            "ROLLBACK TO s",
            "ROLLBACK TO s; SELECT 1",
            "SELECT 1; COMMIT",
        ] {
            let told = say(&mut wire, sql);
            assert!(told[0].starts_with("Error 25P02"), "{sql}: {told:?}");
            assert_eq!(told.last().unwrap(), "ReadyForQuery E", "{sql}");
        }
        let told = say(&mut wire, &format!("{ends}; SELECT 7"));
        assert_eq!(told[0], "CommandComplete ROLLBACK", "{told:?}");
        assert!(told.contains(&"DataRow 7".into()), "{told:?}");
        assert_eq!(told.last().unwrap(), "ReadyForQuery I");
        assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "0");
    }
    stage.assert_nothing_open();
}
