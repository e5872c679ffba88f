//! Transactions over several shards: they hold on all or on none, and a shard that
//! joins later is where the others are.

use super::stage::{Stage, extended, keys_of, lines, one, one_each, say, send, within};
use mothership_tests::Wire;
use mothership_tests::message::{self, Format};

const ABORTED: &str =
    "Error 25P02 current transaction is aborted, commands ignored until end of transaction block";

fn add(wire: &mut Wire, ids: &[i64]) {
    for id in ids {
        let sql = format!("INSERT INTO items (id, v) VALUES ({id}, 0)");
        assert_eq!(
            say(wire, &sql),
            ["CommandComplete INSERT 0 1", "ReadyForQuery T"]
        );
    }
}

#[test]
fn a_commit_holds_on_every_shard_and_a_rollback_on_none() {
    let stage = Stage::new();
    let [a, b, c] = one_each();
    let mut wire = stage.wire();
    // By itself each shard commits, whichever it is.
    for id in [a, b, c] {
        assert_eq!(
            say(&mut wire, "BEGIN"),
            ["CommandComplete BEGIN", "ReadyForQuery T"]
        );
        add(&mut wire, &[id]);
        assert_eq!(
            say(&mut wire, "COMMIT"),
            ["CommandComplete COMMIT", "ReadyForQuery I"]
        );
        assert!(stage.ids("items").contains(&id));
    }
    say(&mut wire, "TRUNCATE items");
    for (end, kept) in [("ROLLBACK", vec![]), ("COMMIT", vec![a, b, c])] {
        wire.query("BEGIN");
        add(&mut wire, &[c, a, b]);
        // What it has written it sees itself, and nobody else does.
        assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "3");
        assert_eq!(stage.ids("items"), [] as [i64; 0]);
        assert_eq!(
            say(&mut wire, end),
            [&format!("CommandComplete {end}"), "ReadyForQuery I"]
        );
        let mut kept = kept;
        kept.sort_unstable();
        assert_eq!(stage.ids("items"), kept, "{end}");
    }
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

#[test]
fn the_extended_protocol_commits_over_shards_too() {
    let stage = Stage::new();
    let [a, b, c] = one_each();
    let mut wire = stage.wire();
    for end in ["ROLLBACK", "COMMIT"] {
        let begun = send(&mut wire, &extended("BEGIN", &[], &[]));
        assert_eq!(begun[2..], ["CommandComplete BEGIN", "ReadyForQuery T"]);
        for id in [b, a, c] {
            let sql = "INSERT INTO items (id, v) VALUES ($1, 1)";
            let done = send(&mut wire, &extended(sql, &[], &[&id.to_string()]));
            assert_eq!(done[2..], ["CommandComplete INSERT 0 1", "ReadyForQuery T"]);
        }
        let ended = send(&mut wire, &extended(end, &[], &[]));
        assert_eq!(
            ended[2..],
            [&format!("CommandComplete {end}"), "ReadyForQuery I"]
        );
        let kept = if end == "COMMIT" { 3 } else { 0 };
        assert_eq!(stage.ids("items").len(), kept, "{end}");
    }
    stage.assert_nothing_prepared();
}

#[tokio::test]
async fn a_driver_commits_and_drops_transactions_over_shards() {
    let stage = Stage::new();
    let mut client = stage.client().await;
    let sql = "INSERT INTO items (id, v) VALUES ($1, $2)";
    let insert = within(client.prepare(sql)).await.unwrap();
    for round in 0..3_i64 {
        let tx = within(client.transaction()).await.unwrap();
        for id in 1..=9_i64 {
            let done = within(tx.execute(&insert, &[&(round * 10 + id), &id])).await;
            assert_eq!(done.unwrap(), 1);
        }
        match round {
            1 => within(tx.rollback()).await.unwrap(),
            _ => within(tx.commit()).await.unwrap(),
        }
    }
    let wanted: Vec<i64> = (1..=9).chain(21..=29).collect();
    assert_eq!(stage.ids("items"), wanted);
    stage.assert_nothing_prepared();
}

#[test]
fn an_error_on_one_shard_fails_the_transaction_on_all() {
    let stage = Stage::new();
    stage.fill(1..=20);
    let [a, b, c] = one_each();
    let mut wire = stage.wire();
    let fresh = keys_of(0, 20)[19];
    for failing in [
        format!("INSERT INTO items VALUES ({b}, 0)"),
        format!("UPDATE items SET v = 1 / 0 WHERE id = {b}"),
        format!("UPDATE items SET v = 1 / (id - {b})"),
        "SELECT id FROM items ORDER BY id LIMIT 1 FOR UPDATE NOWAIT".into(),
    ] {
        wire.query("BEGIN");
        add(&mut wire, &[fresh]);
        wire.query(&format!("UPDATE items SET v = 0 WHERE id IN ({b}, {c})"));
        let failed = say(&mut wire, &failing);
        assert!(failed[0].starts_with("Error"), "{failing}: {failed:?}");
        assert_eq!(failed[1..], ["ReadyForQuery E"], "{failing}");
        for next in [
            format!("SELECT v FROM items WHERE id = {a}"),
            format!("SELECT v FROM items WHERE id = {b}"),
            "SELECT count(*) FROM items".into(),
            "SELECT 1".into(),
            "SAVEPOINT x".into(),
            "SET work_mem = '1MB'".into(),
            "INSERT INTO kinds VALUES (1, 'a')".into(),
        ] {
            assert_eq!(
                say(&mut wire, &next),
                [ABORTED, "ReadyForQuery E"],
                "{next}"
            );
        }
        let next = extended("SELECT v FROM items WHERE id = $1", &[], &["1"]);
        assert_eq!(send(&mut wire, &next), [ABORTED, "ReadyForQuery E"]);
        assert_eq!(
            say(&mut wire, "COMMIT"),
            ["CommandComplete ROLLBACK", "ReadyForQuery I"],
            "{failing}"
        );
        assert_eq!(
            one(&mut wire, "SELECT sum(v) FROM items"),
            "420",
            "{failing}"
        );
    }
    assert_eq!(stage.ids("items"), (1..=20).collect::<Vec<_>>());
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

#[test]
fn savepoints_hold_on_shards_that_join_later() {
    let stage = Stage::new();
    let [a, b, c] = one_each();
    let mut wire = stage.wire();
    // A savepoint before any shard has joined.
    wire.query("BEGIN");
    assert_eq!(
        say(&mut wire, "SAVEPOINT early"),
        ["CommandComplete SAVEPOINT", "ReadyForQuery T"]
    );
    add(&mut wire, &[a]);
    say(&mut wire, "SAVEPOINT \"La ter\"");
    add(&mut wire, &[b, c]);
    assert_eq!(
        say(&mut wire, "ROLLBACK TO \"La ter\""),
        ["CommandComplete ROLLBACK", "ReadyForQuery T"]
    );
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "1");
    // An error on one shard, and back to before it on all.
    add(&mut wire, &[c]);
    say(&mut wire, "SAVEPOINT last");
    add(&mut wire, &[b]);
    let failed = say(&mut wire, &format!("INSERT INTO items VALUES ({c}, 1)"));
    assert!(failed[0].starts_with("Error 23505"), "{failed:?}");
    assert_eq!(say(&mut wire, "SELECT 1"), [ABORTED, "ReadyForQuery E"]);
    assert_eq!(
        say(&mut wire, "ROLLBACK TO last"),
        ["CommandComplete ROLLBACK", "ReadyForQuery T"]
    );
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "2");
    assert_eq!(
        say(&mut wire, "RELEASE last"),
        ["CommandComplete RELEASE", "ReadyForQuery T"]
    );
    // The same in the extended protocol.
    send(&mut wire, &extended("SAVEPOINT again", &[], &[]));
    let sql = "INSERT INTO items VALUES ($1, 1)";
    let failed = send(&mut wire, &extended(sql, &[], &[&a.to_string()]));
    assert_eq!(failed.last().unwrap(), "ReadyForQuery E", "{failed:?}");
    let back = send(&mut wire, &extended("ROLLBACK TO again", &[], &[]));
    assert_eq!(back[2..], ["CommandComplete ROLLBACK", "ReadyForQuery T"]);
    let unknown = say(&mut wire, "ROLLBACK TO nothing");
    assert!(unknown[0].starts_with("Error 3B001"), "{unknown:?}");
    assert_eq!(unknown[1..], ["ReadyForQuery E"]);
    say(&mut wire, "ROLLBACK TO early");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "0");
    add(&mut wire, &[b, a]);
    say(&mut wire, "COMMIT");
    let mut kept = vec![a, b];
    kept.sort_unstable();
    assert_eq!(stage.ids("items"), kept);
    stage.assert_nothing_prepared();
}

#[test]
fn a_refused_statement_can_be_undone_by_a_savepoint() {
    let stage = Stage::new();
    let [a, b, _] = one_each();
    let mut wire = stage.wire();
    for joined in [vec![a], vec![b], vec![a, b]] {
        wire.query("BEGIN");
        add(&mut wire, &joined);
        say(&mut wire, "SAVEPOINT s");
        let refused = wire.query("SELECT id FROM items ORDER BY id LIMIT 1 FOR UPDATE NOWAIT");
        assert_eq!(refused[0].sqlstate(), "0A000");
        assert_eq!(lines(&refused)[1..], ["ReadyForQuery E"]);
        assert_eq!(say(&mut wire, "SELECT 1"), [ABORTED, "ReadyForQuery E"]);
        assert_eq!(
            say(&mut wire, "ROLLBACK TO s"),
            ["CommandComplete ROLLBACK", "ReadyForQuery T"]
        );
        let count = joined.len().to_string();
        assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), count);
        say(&mut wire, "ROLLBACK");
        assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "0");
    }
}

#[test]
fn modes_of_a_transaction_hold_on_every_shard() {
    let stage = Stage::new();
    stage.fill(1..=20);
    let [a, b, c] = one_each();
    let mut wire = stage.wire();
    wire.query("BEGIN READ ONLY");
    say(&mut wire, "SAVEPOINT s");
    for id in [a, b, c] {
        let failed = say(
            &mut wire,
            &format!("UPDATE items SET v = 1 WHERE id = {id}"),
        );
        assert!(failed[0].starts_with("Error 25006"), "{failed:?}");
        assert_eq!(say(&mut wire, "ROLLBACK TO s")[1], "ReadyForQuery T");
    }
    let failed = say(&mut wire, "UPDATE items SET v = 1");
    assert!(failed[0].starts_with("Error 25006"), "{failed:?}");
    say(&mut wire, "ROLLBACK");
    // A snapshot that is taken on a shard stays.
    wire.query("BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(one(&mut wire, "SELECT sum(v) FROM items"), "420");
    stage.shards.sql_all("UPDATE items SET v = 0");
    assert_eq!(one(&mut wire, "SELECT sum(v) FROM items"), "420");
    let failed = say(
        &mut wire,
        &format!("UPDATE items SET v = 1 WHERE id IN ({a}, {b})"),
    );
    assert!(failed[0].starts_with("Error 40001"), "{failed:?}");
    assert_eq!(say(&mut wire, "COMMIT")[0], "CommandComplete ROLLBACK");
    assert_eq!(one(&mut wire, "SELECT sum(v) FROM items"), "0");
}

#[test]
fn a_transaction_begins_under_the_name_that_it_was_given() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    for (sql, command) in [
        ("START TRANSACTION", "CommandComplete START TRANSACTION"),
        (
            ";/* x */ start transaction READ ONLY",
            "CommandComplete START TRANSACTION",
        ),
        ("BEGIN TRANSACTION", "CommandComplete BEGIN"),
    ] {
        assert_eq!(say(&mut wire, sql)[0], command, "{sql}");
        say(&mut wire, "ROLLBACK");
        let said = send(&mut wire, &extended(sql, &[], &[]));
        assert_eq!(said[2], command, "{sql}");
        say(&mut wire, "ROLLBACK");
        let said = say(&mut wire, &format!("SELECT count(*) FROM items; {sql}"));
        assert_eq!(said[3], command, "{sql}");
        say(&mut wire, "ROLLBACK");
    }
}

#[test]
fn a_chained_transaction_goes_on_with_its_modes() {
    let stage = Stage::new();
    let [a, b, c] = one_each();
    let mut wire = stage.wire();
    wire.query("BEGIN");
    add(&mut wire, &[a, b]);
    assert_eq!(
        say(&mut wire, "COMMIT AND CHAIN"),
        ["CommandComplete COMMIT", "ReadyForQuery T"]
    );
    assert_eq!(stage.ids("items").len(), 2);
    add(&mut wire, &[c]);
    assert_eq!(
        say(&mut wire, "ROLLBACK AND CHAIN"),
        ["CommandComplete ROLLBACK", "ReadyForQuery T"]
    );
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "2");
    add(&mut wire, &[c]);
    assert_eq!(
        say(&mut wire, "COMMIT"),
        ["CommandComplete COMMIT", "ReadyForQuery I"]
    );
    assert_eq!(stage.ids("items").len(), 3);
    for id in [a, c] {
        wire.query("BEGIN READ ONLY");
        assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "3");
        assert_eq!(say(&mut wire, "COMMIT AND CHAIN")[1], "ReadyForQuery T");
        assert_eq!(say(&mut wire, "ROLLBACK AND CHAIN")[1], "ReadyForQuery T");
        let failed = say(&mut wire, &format!("DELETE FROM items WHERE id = {id}"));
        assert!(failed[0].starts_with("Error 25006"), "{failed:?}");
        say(&mut wire, "ROLLBACK");
    }
    stage.assert_nothing_prepared();
}

#[test]
fn a_deferred_constraint_that_fails_at_commit_undoes_all_shards() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    say(
        &mut wire,
        "ALTER TABLE items ADD CONSTRAINT one UNIQUE (id, v) DEFERRABLE INITIALLY DEFERRED",
    );
    say(&mut wire, "ALTER TABLE items DROP CONSTRAINT items_pkey");
    stage.fill(1..=9);
    let [a, b, c] = one_each();
    wire.query("BEGIN");
    add(&mut wire, &[a, c]);
    let twice = format!("INSERT INTO items (id, v) VALUES ({b}, {})", b * 2);
    assert_eq!(say(&mut wire, &twice)[1], "ReadyForQuery T");
    let failed = wire.query("COMMIT");
    assert_eq!(failed[0].sqlstate(), "23505");
    let detail = format!("Key (id, v)=({b}, {}) already exists.", b * 2);
    assert_eq!(failed[0].field('D'), Some(detail));
    assert_eq!(failed[0].field('n').as_deref(), Some("one"));
    assert_eq!(failed[1].to_string(), "ReadyForQuery I");
    assert_eq!(stage.ids("items"), (1..=9).collect::<Vec<_>>());
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "9");
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

#[test]
fn cursors_work_on_the_shard_that_holds_them() {
    let stage = Stage::new();
    stage.fill(1..=20);
    let mut wire = stage.wire();
    let [a, b, c] = one_each();
    wire.query("BEGIN");
    for (name, id) in [("x", b), ("y", c)] {
        let sql = format!(
            "DECLARE {name} CURSOR FOR SELECT v FROM items WHERE id = {id} UNION ALL SELECT id FROM items WHERE id = {id}"
        );
        assert_eq!(
            say(&mut wire, &sql),
            ["CommandComplete DECLARE CURSOR", "ReadyForQuery T"]
        );
    }
    add(&mut wire, &[keys_of(0, 20)[19]]);
    assert_eq!(wire.rows("FETCH x"), [[(b * 2).to_string()]]);
    assert_eq!(
        wire.rows("FETCH ALL FROM y"),
        [[(c * 2).to_string()], [c.to_string()]]
    );
    assert_eq!(wire.rows("FETCH x"), [[b.to_string()]]);
    assert_eq!(
        say(&mut wire, "CLOSE x"),
        ["CommandComplete CLOSE CURSOR", "ReadyForQuery T"]
    );
    assert_eq!(
        one(&mut wire, &format!("SELECT v FROM items WHERE id = {a}")),
        (a * 2).to_string()
    );
    assert_eq!(say(&mut wire, "COMMIT")[0], "CommandComplete COMMIT");
    let gone = say(&mut wire, "FETCH y");
    assert!(gone[0].starts_with("Error 34000"), "{gone:?}");
}

#[test]
fn settings_are_the_same_on_every_shard() {
    let stage = Stage::new();
    stage.fill(1..=20);
    let keys = one_each();
    let mut wire = stage.wire();
    // What a setting does to an answer shows that a shard has it.
    let seen = |wire: &mut Wire| -> Vec<String> {
        let of = |id| format!("SELECT interval '1 day' FROM items WHERE id = {id}");
        keys.iter().map(|id| one(wire, &of(id))).collect()
    };
    let set = |wire: &mut Wire, sql: &str| {
        let done = say(wire, sql);
        assert_eq!(done[0], "CommandComplete SET", "{sql}");
    };
    assert_eq!(seen(&mut wire), ["1 day"; 3]);
    set(&mut wire, "SET intervalstyle = iso_8601");
    assert_eq!(seen(&mut wire), ["P1D"; 3]);
    assert_eq!(one(&mut wire, "SHOW intervalstyle"), "iso_8601");
    let sql = "SET intervalstyle = postgres_verbose";
    assert_eq!(
        send(&mut wire, &extended(sql, &[], &[]))[2],
        "CommandComplete SET"
    );
    assert_eq!(seen(&mut wire), ["@ 1 day"; 3]);
    // SET LOCAL holds where shards join later, and ends with the transaction.
    wire.query("BEGIN");
    add(&mut wire, &[keys_of(1, 20)[19]]);
    set(&mut wire, "SET LOCAL intervalstyle = sql_standard");
    assert_eq!(seen(&mut wire), ["1 0:00:00"; 3]);
    say(&mut wire, "SAVEPOINT s");
    set(&mut wire, "SET LOCAL intervalstyle = postgres");
    assert_eq!(seen(&mut wire), ["1 day"; 3]);
    say(&mut wire, "ROLLBACK TO s");
    assert_eq!(seen(&mut wire), ["1 0:00:00"; 3]);
    say(&mut wire, "COMMIT");
    assert_eq!(seen(&mut wire), ["@ 1 day"; 3]);
    // A SET that is rolled back did not happen; one that is committed did.
    for (end, after) in [("ROLLBACK", "@ 1 day"), ("COMMIT", "P1D")] {
        wire.query("BEGIN");
        set(&mut wire, "SET intervalstyle = iso_8601");
        assert_eq!(seen(&mut wire), ["P1D"; 3]);
        say(&mut wire, end);
        assert_eq!(seen(&mut wire), [after; 3], "{end}");
    }
    // Another client has none of it.
    assert_eq!(seen(&mut stage.wire()), ["1 day"; 3]);
    assert_eq!(
        say(&mut wire, "RESET intervalstyle")[0],
        "CommandComplete RESET"
    );
    assert_eq!(seen(&mut wire), ["1 day"; 3]);
}

#[test]
fn a_role_is_taken_on_every_shard() {
    let stage = Stage::new();
    stage.fill(1..=20);
    let role = format!("reader_{}", std::process::id());
    let mut wire = stage.wire();
    // Roles belong to the server, which all these shards share.
    assert_eq!(
        say(&mut wire, &format!("CREATE ROLE {role}"))[0],
        "CommandComplete CREATE ROLE"
    );
    say(&mut wire, &format!("GRANT SELECT ON items TO {role}"));
    say(&mut wire, &format!("SET ROLE {role}"));
    for id in one_each() {
        let sql = format!("SELECT current_user FROM items WHERE id = {id}");
        assert_eq!(one(&mut wire, &sql), role);
        let denied = say(
            &mut wire,
            &format!("UPDATE items SET v = 0 WHERE id = {id}"),
        );
        assert!(denied[0].starts_with("Error 42501"), "{denied:?}");
    }
    let denied = say(&mut wire, "UPDATE items SET v = 0");
    assert!(denied[0].starts_with("Error 42501"), "{denied:?}");
    assert_eq!(one(&mut wire, "SELECT sum(v) FROM items"), "420");
    say(&mut wire, "RESET ROLE");
    assert_eq!(
        say(&mut wire, "UPDATE items SET v = 0")[0],
        "CommandComplete UPDATE 20"
    );
    say(&mut wire, &format!("REVOKE ALL ON items FROM {role}"));
    assert_eq!(
        say(&mut wire, &format!("DROP ROLE {role}"))[0],
        "CommandComplete DROP ROLE"
    );
}

#[test]
fn a_portal_of_one_shard_survives_statements_on_others() {
    let stage = Stage::new();
    stage.fill(1..=40);
    let mut wire = stage.wire();
    let [a, b, _] = one_each();
    wire.query("BEGIN");
    let sql = format!("SELECT generate_series(1, 5) FROM items WHERE id = {a}");
    let first = send(
        &mut wire,
        &[
            message::parse("", &sql, &[]),
            message::bind("c", "", Format::Text, &[], Format::Text),
            message::execute("c", 2),
            message::sync(),
        ],
    );
    assert_eq!(
        first[2..],
        [
            "DataRow 1",
            "DataRow 2",
            "PortalSuspended",
            "ReadyForQuery T"
        ]
    );
    assert_eq!(
        say(&mut wire, &format!("DELETE FROM items WHERE id = {b}"))[0],
        "CommandComplete DELETE 1"
    );
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "39");
    assert_eq!(
        send(&mut wire, &[message::execute("c", 0), message::sync()]),
        [
            "DataRow 3",
            "DataRow 4",
            "DataRow 5",
            "CommandComplete SELECT 3",
            "ReadyForQuery T"
        ]
    );
    say(&mut wire, "COMMIT");
    assert_eq!(stage.ids("items").len(), 39);
}

// A stranger found it: PREPARE TRANSACTION makes a SET last, and the next client had the role of the one before.
#[test]
fn settings_of_a_transaction_that_is_undone_after_prepare_reach_nobody() {
    let stage = Stage::on_one_core_with("[pool]\nmax = 3\n");
    let role = format!("undone_{}", stage.shards.endpoint(0).database);
    say(&mut stage.wire(), &format!("CREATE ROLE {role}"));
    say(&mut stage.wire(), &format!("GRANT ALL ON items TO {role}"));
    stage.fill(1..=12);
    let ids = one_each();
    let seen = "SELECT current_user || timestamptz 'epoch' FROM public.items WHERE id = ID";
    let right = one(&mut stage.wire(), &seen.replace("ID", &ids[0].to_string()));
    for set in [
        format!("SET ROLE {role}"),
        format!("SET SESSION AUTHORIZATION {role}"),
        "SET timezone TO 'Asia/Tokyo'".to_owned(),
        "SET search_path TO nowhere".to_owned(),
    ] {
        let mut first = stage.wire();
        say(&mut first, "BEGIN");
        let [a, b, c] = ids;
        say(
            &mut first,
            &format!("UPDATE public.items SET v = 1 WHERE id IN ({a}, {b}, {c})"),
        );
        say(&mut first, "SET TRANSACTION READ ONLY");
        say(&mut first, &set);
        let ended = say(&mut first, "COMMIT");
        assert!(ended[0].starts_with("Error 25006"), "{set}: {ended:?}");
        for wire in [&mut first, &mut stage.wire()] {
            for id in ids {
                let seen = seen.replace("ID", &id.to_string());
                assert_eq!(one(wire, &seen), right, "{set}");
            }
        }
    }
    say(
        &mut stage.wire(),
        &format!("DROP OWNED BY {role}; DROP ROLE {role}"),
    );
}

// A stranger found it: the session lost its server, and the lock it had there.
#[test]
fn modes_that_come_too_late_in_a_text_leave_the_session_its_server() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    say(&mut wire, "SET default_transaction_read_only TO on");
    say(&mut wire, "SELECT pg_advisory_lock(1)");
    for before in ["SELECT 1", "SELECT count(*) FROM items"] {
        let told = say(&mut wire, &format!("{before}; BEGIN READ WRITE"));
        let told = told.iter().rev().nth(1).unwrap();
        assert!(told.starts_with("Error 25001"), "{before}: {told}");
        assert_eq!(one(&mut wire, "SELECT pg_advisory_unlock(1)"), "t");
        say(&mut wire, "SELECT pg_advisory_lock(1)");
    }
}

// A stranger found it: the session lost its server, and its temporary table with it.
#[test]
fn a_transaction_that_fails_leaves_the_session_its_server_and_its_settings() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    say(
        &mut wire,
        "ALTER TABLE accounts ADD FOREIGN KEY (id) REFERENCES items DEFERRABLE INITIALLY DEFERRED",
    );
    stage.fill(one_each());
    let [a, b, _] = one_each();
    let failing = [
        // At COMMIT, by a deferred constraint, when another shard is prepared.
        (
            vec![
                format!("UPDATE items SET v = 7 WHERE id IN ({a}, {b})"),
                format!("INSERT INTO accounts VALUES ({}, 1)", keys_of(0, 3)[2]),
            ],
            "COMMIT",
        ),
        (
            vec![
                format!("UPDATE items SET v = 7 WHERE id IN ({a}, {b})"),
                format!("INSERT INTO accounts VALUES ({}, 1)", keys_of(1, 3)[2]),
            ],
            "COMMIT",
        ),
        // On all shards, the one with the temporary table among them.
        (
            vec!["UPDATE items SET v = 1 / (id - id)".to_owned()],
            "ROLLBACK",
        ),
        (
            vec!["SELECT 1 / (id - id) FROM items".to_owned()],
            "ROLLBACK",
        ),
        (vec!["SELECT 1 / 0".to_owned()], "ROLLBACK"),
        // A server is asked for the value of the shard key.
        (
            vec![
                "SET LOCAL app.tenant = 'none'".to_owned(),
                "INSERT INTO items VALUES (current_setting('app.tenant')::int8, 7)".to_owned(),
            ],
            "ROLLBACK",
        ),
    ];
    for (statements, end) in failing {
        for set in ["SET app.tenant = '3'", "RESET app.tenant", "SELECT 1"] {
            for within in [false, true] {
                let mut wire = stage.wire();
                say(&mut wire, "SET app.tenant = '2'");
                say(&mut wire, "CREATE TEMP TABLE mine AS SELECT 1 AS a");
                let (before, after) = match within {
                    true => ("SELECT 1", set),
                    false => (set, "SELECT 1"),
                };
                for sql in [before, "BEGIN", "SELECT count(*) FROM items", after] {
                    say(&mut wire, sql);
                }
                let what = format!("{statements:?} {set} {within}");
                for sql in &statements {
                    say(&mut wire, sql);
                }
                say(&mut wire, end);
                let setting = match (set, within) {
                    ("SET app.tenant = '3'", false) => "3",
                    ("RESET app.tenant", false) => "",
                    _ => "2",
                };
                assert_eq!(one(&mut wire, "SELECT a FROM mine"), "1", "{what}");
                let mut seen = vec![one(&mut wire, "SELECT current_setting('app.tenant', true)")];
                for id in one_each() {
                    seen.push(one(
                        &mut wire,
                        &format!(
                            "SELECT current_setting('app.tenant', true) FROM items WHERE id = {id}"
                        ),
                    ));
                }
                let seen: Vec<_> = seen.iter().map(|s| s.trim_matches('∅')).collect();
                assert_eq!(seen, [setting; 4], "{what}");
                let kept = "SELECT count(*) FROM items WHERE v = 7";
                assert_eq!(one(&mut wire, kept), "0", "{what}");
            }
        }
    }
}
