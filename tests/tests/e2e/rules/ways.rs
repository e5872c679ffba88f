//! Which rule decides, and where it sends a statement: to a shard, a pool, a replica.

use super::stage::{DECLARED, NO_SALARIES, SOON, UNDECLARED, World, code, error, extended};
use mothership_tests::message;
use mothership_tests::shared::{PASSWORD as SECRET, USER};
use mothership_tests::{Fleet, Frame, Router, Wire, connect, poll_until};

#[test]
fn the_first_rule_that_fits_the_origin_decides_and_is_counted() {
    let rule = |name: &str, when: &str, action: &str| {
        format!("[[rule]]\nname = \"{name}\"\n{when}\naction = {action}\n")
    };
    let refuse = "\"refuse\"\nmessage = \"not here\"";
    let rules = [
        rule(
            "boss",
            "applications = [\"boss-*\"]\ntables = [\"salaries\"]",
            "\"primary\"",
        ),
        rule("secret", "tables = [\"salaries\"]", refuse),
        rule("web", "applications = \"web\"\nkinds = [\"ddl\"]", refuse),
        rule("far", "networks = [\"203.0.113.0/24\", \"local\"]", refuse),
        rule("other", "users = \"nobody\"", refuse),
        rule("elsewhere", "databases = \"postgres\"", refuse),
        rule(
            "near",
            "applications = \"near\"\nnetworks = \"127.0.0.0/8\"",
            refuse,
        ),
    ];
    let world = World::new(2, DECLARED, &rules.concat());
    let (mut plain, mut boss, mut web) = (world.wire(), world.named("boss-1"), world.named("web"));
    assert_eq!(code(&boss.query("TABLE salaries")), "");
    assert_eq!(code(&plain.query("TABLE salaries")), "42501");
    assert_eq!(code(&web.query("TABLE salaries")), "42501");
    assert_eq!(code(&web.query("CREATE TABLE x (a int)")), "42501");
    assert_eq!(code(&web.query("SELECT 1")), "");
    assert_eq!(world.matched(), [1, 2, 1, 0, 0, 0, 0]);
    // The name holds from the next message on, however it is set.
    for (sql, then) in [
        ("SET application_name = 'boss-2'", ""),
        ("RESET application_name", "42501"),
        ("SELECT set_config('application_name', 'boss-3', false)", ""),
        ("SET application_name = 'anything'", "42501"),
    ] {
        assert_eq!(code(&plain.query(sql)), "", "{sql}");
        assert_eq!(code(&plain.query("TABLE salaries")), then, "{sql}");
        assert_eq!(code(&extended(&mut plain, "TABLE salaries")), then, "{sql}");
    }
    // Everything of an origin is refused but the end of its transaction.
    let mut near = world.named("near");
    near.query("BEGIN");
    for sql in [
        "SELECT 1",
        "SET work_mem = '4MB'",
        "SHOW work_mem",
        "LISTEN x",
        "NOTIFY x",
    ] {
        assert_eq!(code(&near.query(sql)), "42501", "{sql}");
        assert_eq!(code(&near.query("ROLLBACK")), "", "{sql}");
        assert_eq!(code(&extended(&mut near, sql)), "42501", "{sql}");
        assert_eq!(code(&near.query("BEGIN")), "", "{sql}");
    }
    // Counts stay where a rule of that name stays; SHOW and metrics agree.
    let before = world.matched();
    world.reload(&rules[1..].concat());
    assert!(poll_until(SOON, || world.matched().len() == rules.len() - 1));
    assert_eq!(world.matched(), before[1..]);
}

#[test]
fn a_route_that_is_explained_names_its_rule() {
    let rules = format!(
        "{NO_SALARIES}[[rule]]\nname = \"batch\"\ntables = [\"orders\"]\naction = \"pool\"\npool = \"slow\"\n\
         [[rule]]\nname = \"second\"\ntables = [\"products\"]\naction = \"shard\"\nshard = \"s0\"\n"
    );
    for (shards, tables) in [(1, UNDECLARED), (2, DECLARED)] {
        let world = World::new(shards, tables, &rules);
        let mut wire = world.wire();
        for (sql, rule) in [
            ("SELECT 1 FROM pay", Some("Rule: secret (refuse)")),
            (
                "SELECT whatever('x')",
                Some("Rule: secret (refuse, because it cannot be excluded that it fits)"),
            ),
            (
                "SELECT * FROM orders WHERE customer_id = 1",
                Some("Rule: batch (pool slow)"),
            ),
            ("TABLE products", Some("Rule: second (shard s0)")),
            ("SELECT 1", None),
            ("COMMIT", None),
        ] {
            let explain = format!("EXPLAIN (ROUTE) {sql}");
            let lines: Vec<String> = wire.rows(&explain).into_iter().flatten().collect();
            let told = lines.iter().find(|line| line.starts_with("Rule: "));
            assert_eq!(told.map(String::as_str), rule, "{sql}: {lines:?}");
        }
        assert_eq!(world.matched(), [0, 0, 0], "explaining is no match");
    }
}

#[test]
fn a_shard_rule_keeps_statements_without_tables_and_answers_nothing_from_the_wrong_shard() {
    let rules = "[[rule]]\nname = \"second\"\napplications = \"second\"\naction = \"shard\"\nshard = \"s1\"\n";
    for tables in [UNDECLARED, DECLARED] {
        let world = World::new(2, tables, rules);
        world
            .shards
            .sql_all("INSERT INTO products VALUES (1, current_database())");
        let name = world.shards.endpoint(1).database;
        let mut plain = world.wire();
        for id in 1..40 {
            let sql = format!("INSERT INTO orders VALUES ({id}, 'x')");
            assert_eq!(code(&plain.query(&sql)), "");
        }
        let mut wire = world.named("second");
        let stays = [
            "SELECT current_database()",
            "WITH x AS (SELECT 1) SELECT current_database() FROM x",
        ];
        let both = "SELECT current_database(); SELECT current_database()";
        assert_eq!(wire.rows(both), [[name.as_str()], [name.as_str()]]);
        let one = "SET work_mem = '5MB'; SELECT current_database()";
        assert_eq!(wire.rows(one), [[name.as_str()]]);
        let block = "BEGIN; SELECT current_database(); COMMIT";
        assert_eq!(wire.rows(block), [[name.as_str()]]);
        assert_eq!(wire.rows("SHOW work_mem"), [["5MB"]]);
        for sql in stays {
            assert_eq!(wire.rows(sql), [[name.as_str()]], "{sql}");
            let frames = extended(&mut wire, sql);
            let row = frames.iter().find(|f| f.kind == b'D');
            assert_eq!(row.map(Frame::row_text), Some(vec![name.clone()]), "{sql}");
        }
        for (sql, expected) in [
            ("SELECT current_database()", "Shards: s1"),
            ("SET work_mem = '5MB'", "Shards: s0"),
            ("SELECT * FROM audit", "Reason: rule"),
            ("SELECT 1 FROM audit WHERE id = $1", "Reason: rule"),
            ("SELECT erase()", "Reason: rule"),
        ] {
            let lines = wire.rows(&format!("EXPLAIN (ROUTE) {sql}"));
            let lines: Vec<String> = lines.into_iter().flatten().collect();
            assert_eq!(lines[1], expected, "{sql}: {lines:?}");
            let rule = "Rule: second (shard s1)";
            assert_eq!(lines.last().unwrap(), rule, "{sql}: {lines:?}");
        }
        // What belongs elsewhere is refused, and never answered with too few rows.
        for sql in [
            "SELECT * FROM audit",
            "WITH audit AS (SELECT * FROM audit) SELECT * FROM audit",
            "SELECT count(*) FROM orders",
            "SELECT erase()",
            "INSERT INTO audit VALUES (5)",
            "CREATE TABLE x (a int)",
            "DO $$ BEGIN END $$",
            "SELECT 1; SELECT * FROM audit",
            "SELECT nextval('s')",
        ] {
            for frames in [wire.query(sql), extended(&mut wire, sql)] {
                let found = code(&frames);
                let of_server = sql.contains(';') && found == "42601"
                    // There is no such sequence on any shard.
                    || sql.contains("nextval") && found == "42P01";
                assert!(found == "0A000" || of_server, "{sql}: {found}");
                assert!(!frames.iter().any(|f| f.kind == b'D'), "{sql}");
            }
        }
        wire.query("PREPARE q AS SELECT * FROM audit");
        assert_eq!(code(&wire.query("EXECUTE q")), "0A000");
        // Settings and transactions are nobody's.
        for sql in ["SET work_mem = '5MB'", "BEGIN", "SHOW work_mem", "COMMIT"] {
            assert_eq!(code(&wire.query(sql)), "", "{sql}");
        }
        if tables.is_empty() {
            continue;
        }
        assert_eq!(wire.rows("SELECT name FROM products"), [[name.as_str()]]);
        let (mut here, mut there) = (0, 0);
        for id in 1..40 {
            let sql = format!("SELECT note FROM orders WHERE customer_id = {id}");
            let frames = wire.query(&sql);
            let told = match code(&frames).as_str() {
                "" => {
                    here += 1;
                    "Shards: s1".to_owned()
                }
                "0A000" => {
                    there += 1;
                    let message = error(&frames).and_then(|e| e.field('M')).unwrap();
                    assert_eq!(message, "statement does not belong to shard \"s1\"");
                    format!("Message: {message}")
                }
                other => panic!("{other}"),
            };
            // It is explained as it goes.
            let lines = wire.rows(&format!("EXPLAIN (ROUTE) {sql}")).concat();
            assert!(lines.contains(&told), "{sql}: {lines:?}");
        }
        println!("{here} keys of the shard, {there} of the other");
        let of_shard = world.shards.sql(1, "SELECT count(*) FROM orders");
        assert_eq!(of_shard, here.to_string());
        assert!(here > 0 && there > 0);
    }
}

#[test]
fn a_rule_for_the_home_shard_is_kept_as_any_other() {
    let rules = "[[rule]]\nname = \"first\"\napplications = \"first\"\naction = \"shard\"\nshard = \"s0\"\n";
    let world = World::new(2, DECLARED, rules);
    world
        .shards
        .sql_all("INSERT INTO products VALUES (1, current_database())");
    let name = |shard: usize| world.shards.endpoint(shard).database;
    // A transaction that has its server on the other shard already.
    let mut wire = world.wire();
    wire.query("BEGIN");
    let read = |key: i32| format!("SELECT * FROM orders WHERE customer_id = {key}");
    assert_eq!(code(&wire.query(&read(world.key_of("s1")))), "");
    assert_eq!(wire.rows("SELECT name FROM products"), [[name(1)]]);
    assert_eq!(code(&wire.query("SET application_name = 'first'")), "");
    assert_eq!(wire.rows("SELECT name FROM products"), [[name(0)]]);
    assert_eq!(code(&wire.query("COMMIT")), "");
    // A key that cannot be read with certainty may be of any shard. 701 is float8.
    let sql = "SELECT * FROM orders WHERE customer_id = $1";
    for (application, expected) in [("first", "0A000"), ("", "")] {
        let mut wire = world.named(application);
        wire.send_all(&[
            message::parse("", sql, &[701]),
            message::bind_text(&["5"]),
            message::execute("", 0),
            message::sync(),
        ]);
        assert_eq!(code(&wire.until_ready()), expected, "{application}");
    }
}

#[test]
fn a_pool_rule_gives_connections_a_limit_and_a_queue_of_their_own() {
    let rules = "[[rule]]\nname = \"batch\"\napplications = \"batch\"\naction = \"pool\"\npool = \"slow\"\npool_max = 1\n";
    for (shards, tables) in [(1, UNDECLARED), (2, DECLARED)] {
        let world = World::new(shards, tables, rules);
        let (mut one, mut two, mut plain) =
            (world.named("batch"), world.named("batch"), world.wire());
        one.query("BEGIN");
        assert_eq!(code(&one.query("SELECT * FROM audit")), "");
        // The label stays with the transaction, whatever the name becomes.
        assert_eq!(code(&one.query("SET application_name = 'x'")), "");
        two.send(&message::query("SELECT * FROM audit"));
        let waiting = || {
            let rows = world.console("SHOW POOLS_EXTENDED");
            rows.iter().any(|r| r[16] == "slow" && r[8] == "1")
        };
        assert!(
            poll_until(SOON, waiting),
            "{:?}",
            world.console("SHOW POOLS_EXTENDED")
        );
        // Others do not wait, nor do they get that connection.
        for _ in 0..5 {
            assert_eq!(code(&plain.query("SELECT * FROM audit")), "");
        }
        let pools = world.console("SHOW POOLS_EXTENDED");
        let slow: Vec<_> = pools.iter().filter(|r| r[16] == "slow").collect();
        assert!(slow.iter().all(|r| r[13] == "1"), "{slow:?}");
        let open: u32 = slow
            .iter()
            .map(|r| r[5].parse::<u32>().unwrap() + r[6].parse::<u32>().unwrap())
            .sum();
        assert_eq!(open, 1);
        assert_eq!(code(&one.query("COMMIT")), "");
        assert_eq!(code(&two.until_ready()), "");
        // A session leaves its pool with its name, and comes back to it.
        two.query("BEGIN");
        assert_eq!(code(&two.query("SELECT * FROM audit")), "");
        assert_eq!(code(&one.query("SELECT * FROM audit")), "");
        assert_eq!(code(&one.query("SET application_name = 'batch'")), "");
        one.send(&message::query("SELECT * FROM audit"));
        assert!(poll_until(SOON, waiting), "it has another pool's");
        assert_eq!(code(&two.query("COMMIT")), "");
        assert_eq!(code(&one.until_ready()), "");
    }
}

/// One primary with two replicas, the second of them labelled; three users of the same name for all.
fn replicated(fleet: &Fleet, tables: &str, rules: &str) -> String {
    let shard = &fleet.shards[0];
    let servers = [
        (shard.primary.port(), "primary", ""),
        (shard.replicas[0].port(), "replica", ""),
        (
            shard.replicas[1].port(),
            "replica",
            "labels = \"reports\"\n",
        ),
    ];
    let servers = servers.map(|(port, role, more)| {
        format!("[[shard.server]]\naddress = \"127.0.0.1:{port}\"\ntls = \"disable\"\nrole = \"{role}\"\n{more}")
    });
    let servers = servers.concat();
    format!(
        "[listen]\nport = @port@\n[balance]\nprobe_interval = \"100ms\"\nprobe_timeout = \"2s\"\n\
         [console]\nadmin_users = [\"{USER}\"]\n[control]\nuser = \"{USER}\"\npassword = \"{SECRET}\"\n\
         [[user]]\nname = \"{USER}\"\npassword = \"{SECRET}\"\n{rules}\n[[shard]]\nname = \"s0\"\n{servers}{tables}"
    )
}

fn served(router: &Router) -> Vec<u64> {
    let mut console = Wire::login(&router.endpoint(USER, SECRET, "mothership"));
    let frames = console.query("SHOW ENDPOINTS");
    let at = frames[0]
        .columns()
        .iter()
        .position(|c| c == "served")
        .unwrap();
    let rows = frames.iter().filter(|frame| frame.kind == b'D');
    rows.map(|row| row.row_text()[at].parse().unwrap())
        .collect()
}

#[tokio::test]
async fn replicas_and_the_primary_serve_what_rules_leave_to_them() {
    let fleet = Fleet::new(1, 2);
    let shard = &fleet.shards[0];
    let fill = "CREATE TABLE t (id int8 PRIMARY KEY, n int8); INSERT INTO t SELECT g, 0 FROM generate_series(1, 8) g;
        CREATE FUNCTION bump() RETURNS int8 LANGUAGE sql AS 'UPDATE t SET n = n + 1 RETURNING n'";
    shard.primary.sql("postgres", fill).unwrap();
    shard.wait_replayed();
    let rules = "[[rule]]\nname = \"reports\"\napplications = \"report-*\"\nkinds = \"read\"\naction = \"replica\"\nlabel = \"reports\"\n\
        [[rule]]\nname = \"any\"\napplications = \"any\"\naction = \"replica\"\n\
        [[rule]]\nname = \"exact\"\napplications = \"exact\"\naction = \"primary\"\n";
    for tables in ["", "[[table]]\nname = \"t\"\nkey = \"id\"\n"] {
        let router = Router::start(&replicated(&fleet, tables, rules));
        let endpoint = router.endpoint(USER, SECRET, "postgres");
        let named = |name: &str| Wire::login_with(&endpoint, &[("application_name", name)]);
        let read = "SELECT n FROM t WHERE id = 1";
        // What each server was given while `act` ran.
        let round = |act: &mut dyn FnMut()| {
            let before = served(&router);
            act();
            let after = served(&router);
            after
                .iter()
                .zip(&before)
                .map(|(a, b)| a - b)
                .collect::<Vec<u64>>()
        };
        let (mut report, mut any, mut exact) = (named("report-7"), named("any"), named("exact"));
        // Replicas are fit after a probe; until then the primary answers.
        let only = |wire: &mut Wire, expected: &dyn Fn(&[u64]) -> bool| {
            poll_until(SOON, || {
                let served = round(&mut || {
                    for _ in 0..20 {
                        assert_eq!(wire.rows(read).len(), 1);
                        assert_eq!(code(&extended(wire, read)), "");
                    }
                });
                println!("{served:?}");
                expected(&served)
            })
        };
        assert!(only(&mut report, &|s| s[0] == 0 && s[1] == 0 && s[2] == 40));
        assert!(only(&mut any, &|s| s[0] == 0 && s[1] + s[2] == 40));
        assert!(only(&mut exact, &|s| s[0] == 40 && s[1] + s[2] == 0));
        // A write is none of theirs, nor is anything in a transaction; what was written is read.
        for wire in [&mut report, &mut any] {
            let before = router_reads(&router);
            for sql in [
                "UPDATE t SET n = 1 WHERE id = 2",
                "SELECT n FROM t WHERE id = 2 FOR UPDATE",
                "WITH w AS (UPDATE t SET n = 2 WHERE id = 2 RETURNING n) SELECT n FROM w",
                "DO $$ BEGIN UPDATE t SET n = 3 WHERE id = 2; END $$",
                "SELECT bump()",
                "COPY (SELECT 1) TO STDOUT",
                "/* x */ EXPLAIN ANALYZE UPDATE t SET n = 4 WHERE id = 2",
                "BEGIN; SELECT n FROM t WHERE id = 1; COMMIT",
            ] {
                for frames in [
                    wire.query(sql),
                    if sql.contains(';') {
                        Vec::new()
                    } else {
                        extended(wire, sql)
                    },
                ] {
                    let found = code(&frames);
                    // Over declared tables some of these are refused by the planner.
                    assert!(
                        found.is_empty() || (found == "0A000" && !tables.is_empty()),
                        "{sql}: {found}"
                    );
                    assert_ne!(found, "25006", "{sql}");
                }
            }
            wire.query("BEGIN");
            assert_eq!(wire.rows(read).len(), 1);
            wire.query("COMMIT");
            assert_eq!(router_reads(&router), before, "replicas were not asked");
        }
        let mut written = 0;
        let mut stale = 0;
        for n in 0..200 {
            let write = format!("UPDATE t SET n = {n} WHERE id = 5");
            assert_eq!(code(&exact.query(&write)), "");
            written += 1;
            let rows = any.rows("SELECT n FROM t WHERE id = 5");
            stale += u32::from(rows != [[n.to_string()]]);
        }
        assert_eq!(stale, 0, "of {written}");
        // A write by a function that only the catalog knows of counts as one.
        let bumps = if tables.is_empty() { 50 } else { 0 };
        for _ in 0..bumps {
            assert_eq!(exact.rows("SELECT bump()").len(), 1);
            let of_primary = exact.rows("SELECT sum(n) FROM t");
            assert_eq!(any.rows("SELECT sum(n) FROM t"), of_primary);
        }
        // The driver, with statements of its own.
        let mut report = endpoint.clone();
        report.database = "postgres".into();
        let client = connect(&report).await;
        client
            .batch_execute("SET application_name = 'report-driver'")
            .await
            .unwrap();
        let select = client
            .prepare("SELECT n FROM t WHERE id = $1")
            .await
            .unwrap();
        let before = served(&router);
        let mut on_label = false;
        let deadline = std::time::Instant::now() + SOON;
        while !on_label && std::time::Instant::now() < deadline {
            client.query_one(&select, &[&3_i64]).await.unwrap();
            on_label = served(&router)[2] > before[2];
        }
        assert!(on_label);
        assert_eq!(
            served(&router)[1],
            before[1],
            "never the one without the label"
        );
    }
}

/// Requests that replicas were given.
fn router_reads(router: &Router) -> u64 {
    served(router)[1..].iter().sum()
}

#[test]
fn without_a_fit_replica_the_primary_answers() {
    let mut fleet = Fleet::new(1, 2);
    let shard = &fleet.shards[0];
    shard
        .primary
        .sql("postgres", "CREATE TABLE t AS SELECT 1::int8 AS id")
        .unwrap();
    shard.wait_replayed();
    let rules = "[[rule]]\nname = \"reports\"\naction = \"replica\"\nlabel = \"reports\"\n";
    let router = Router::start(&replicated(&fleet, "", rules));
    let mut wire = Wire::login(&router.endpoint(USER, SECRET, "postgres"));
    let read = |wire: &mut Wire| assert_eq!(wire.rows("SELECT id FROM t"), [["1"]]);
    assert!(poll_until(SOON, || {
        read(&mut wire);
        served(&router)[2] > 0
    }));
    fleet.shards[0].replicas[1].kill9();
    let before = served(&router);
    // The first ones may meet the dying connection.
    assert!(poll_until(SOON, || code(&wire.query("SELECT id FROM t")).is_empty()));
    for _ in 0..20 {
        read(&mut wire);
    }
    let after = served(&router);
    assert!(after[0] > before[0], "{before:?} {after:?}");
    assert_eq!(after[1], before[1], "not the replica without the label");
}

#[test]
fn a_group_has_the_primary_in_it_if_that_has_the_label() {
    let fleet = Fleet::new(1, 2);
    let shard = &fleet.shards[0];
    let table = "CREATE TABLE t AS SELECT 1::int8 AS id";
    shard.primary.sql("postgres", table).unwrap();
    shard.wait_replayed();
    let rules =
        "[[rule]]\nname = \"group\"\naction = \"group\"\nlabel = \"reports\"\npool = \"g\"\n";
    let config = replicated(&fleet, "", rules);
    // Only a replica has it; then the primary, too.
    let primary = "role = \"primary\"\n";
    let labelled = config.replace(primary, &format!("{primary}labels = \"reports\"\n"));
    for (config, is_primary_in) in [(&config, false), (&labelled, true)] {
        let router = Router::start(config);
        let mut wire = Wire::login(&router.endpoint(USER, SECRET, "postgres"));
        let read = |wire: &mut Wire| assert_eq!(wire.rows("SELECT id FROM t"), [["1"]]);
        let begun = served(&router);
        assert!(poll_until(SOON, || {
            read(&mut wire);
            served(&router)[2] > begun[2]
        }));
        let before = served(&router);
        let primary_serves = || {
            (0..20).for_each(|_| read(&mut wire));
            served(&router)[0] > before[0]
        };
        match is_primary_in {
            true => assert!(poll_until(SOON, primary_serves)),
            false => assert_eq!(router_reads(&router), served(&router)[2]),
        }
        assert_eq!(served(&router)[1], 0, "the other replica is not in it");
        // Writes go where they always go.
        assert_eq!(code(&wire.query("INSERT INTO t SELECT 2 WHERE false")), "");
    }
}
