//! The number of its process that a client is told at login: the same wherever it looks, and good for signals.

use super::stage::{LIMIT, Stage, one, one_each, say};
use mothership_tests::message::Format;
use mothership_tests::{Endpoint, Wire, endpoint, message, poll_until};

/// Reads up to the next notification; the number of its sender.
fn heard(wire: &mut Wire) -> u32 {
    loop {
        let frame = wire.frame();
        if frame.kind == b'A' {
            return u32::from_be_bytes(*frame.body.first_chunk().unwrap());
        }
    }
}

/// Other clients' notifications have the numbers that those were told, and never that of somebody else.
fn others_are_heard(login: &dyn Fn() -> Wire) {
    let number = |wire: &Wire| wire.key.as_ref().unwrap().0;
    let (mut listener, mut one, mut other) = (login(), login(), login());
    say(&mut listener, "LISTEN here");
    for sql in [
        "NOTIFY here, 'a'",
        "SELECT pg_notify('here', 'b')",
        "BEGIN; NOTIFY here; COMMIT",
    ] {
        say(&mut one, sql);
        assert_eq!(heard(&mut listener), number(&one), "{sql}");
        say(&mut other, sql);
        assert_eq!(heard(&mut listener), number(&other), "{sql}");
    }
    say(&mut one, "PREPARE tell AS SELECT pg_notify('here', 'c')");
    say(&mut one, "EXECUTE tell");
    assert_eq!(heard(&mut listener), number(&one));
    // What code behind a name tells is of an unknown client, whoever used the connection before.
    say(
        &mut one,
        "CREATE OR REPLACE FUNCTION hidden_notice() RETURNS int LANGUAGE plpgsql AS \
         $$ BEGIN NOTIFY here, 'hidden'; RETURN 1; END $$",
    );
    say(&mut one, "NOTIFY here");
    heard(&mut listener);
    say(&mut other, "SELECT hidden_notice()");
    assert_ne!(heard(&mut listener), number(&one));
    say(&mut one, "DROP FUNCTION hidden_notice()");
}

/// What is true of a client's number on a router with tables and on one without.
fn holds(login: &dyn Fn() -> Wire) {
    let mut wire = login();
    let number = wire.key.as_ref().unwrap().0.to_string();
    let n = number.as_str();
    for (sql, expected) in [
        ("SELECT pg_backend_pid()", vec![n]),
        (
            "SELECT pid FROM pg_stat_activity WHERE pid = pg_backend_pid()",
            vec![n],
        ),
        (
            "SELECT a.pid FROM pg_catalog.pg_stat_activity a JOIN pg_stat_ssl USING (pid) WHERE query LIKE '%pg_stat_ssl%' AND a.datname = current_database()",
            vec![n],
        ),
        (
            "SELECT DISTINCT l.pid FROM pg_locks AS l, pg_stat_activity WHERE l.pid = pg_stat_activity.pid AND pg_stat_activity.pid = pg_backend_pid()",
            vec![n],
        ),
        ("SELECT pg_blocking_pids(pg_backend_pid())", vec!["{}"]),
        ("SELECT p FROM pg_backend_pid() AS p", vec![n]),
        (
            "WITH w AS (SELECT pg_backend_pid() AS p) SELECT p::text FROM w",
            vec![n],
        ),
        (
            "SELECT count(*) FROM generate_series(1, 2) g WHERE pg_backend_pid() > g GROUP BY pg_backend_pid()",
            vec!["2"],
        ),
        ("SELECT current_schemas(true)", vec!["{pg_catalog,public}"]),
        // The text that the client sent, not the one that is made of it.
        (
            "SELECT current_query() LIKE 'SELECT current_query() %' || pg_backend_pid() IS NULL, current_query()",
            vec![
                "f",
                "SELECT current_query() LIKE 'SELECT current_query() %' || pg_backend_pid() IS NULL, current_query()",
            ],
        ),
        (
            "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()",
            vec!["SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()"],
        ),
    ] {
        assert_eq!(wire.rows(sql), [expected], "{sql}");
    }
    shown_texts(&mut wire);
    let named = wire.query(
        "SELECT pg_backend_pid(), pg_backend_pid()::text, pid FROM pg_stat_activity LIMIT 1",
    );
    assert_eq!(
        named[0].columns(),
        ["pg_backend_pid", "pg_backend_pid", "pid"]
    );
    // A place in the client's own text.
    for sql in [
        "SELECT pg_backend_pid(), nope",
        "SELECT pid, pid FROM pg_stat_activity WHERE nope",
    ] {
        let place = (sql.find("nope").unwrap() + 1).to_string();
        assert_eq!(wire.query(sql)[0].field('P'), Some(place), "{sql}");
    }
    // Prepared under a name of the client's.
    assert_eq!(
        say(&mut wire, "PREPARE mine AS SELECT pg_backend_pid()")[0],
        "CommandComplete PREPARE"
    );
    assert_eq!(wire.rows("EXECUTE mine"), [[n]]);
    // Its own notifications.
    say(&mut wire, "LISTEN here");
    let answer = wire.query("NOTIFY here, 'now'");
    let heard = answer
        .iter()
        .find(|frame| frame.kind == b'A')
        .expect("a notification");
    assert_eq!(heard.body[..4], wire.key.as_ref().unwrap().0.to_be_bytes());
    say(&mut wire, "UNLISTEN *");

    others_are_heard(login);
    signals(login, &mut wire);
    blockers(login, &mut wire);
}

/// The client's own text in `pg_stat_activity`: cut between characters where the server cuts it, and a parameter may be it.
fn shown_texts(wire: &mut Wire) {
    // `track_activity_query_size` is 1 kB.
    const KEPT: usize = 1023;
    for filling in ["x", "é", "€", "xé"] {
        let long = format!(
            "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid() /* {} */",
            filling.repeat(600)
        );
        let mut cut = KEPT.min(long.len());
        while !long.is_char_boundary(cut) {
            cut -= 1;
        }
        assert_eq!(wire.rows(&long), [[&long[..cut]]], "{filling}");
    }
    let counted = "SELECT count(*) FROM pg_stat_activity WHERE query = $1";
    let run = [
        message::parse("", counted, &[25]),
        message::bind(
            "",
            "",
            Format::Text,
            &[Some(counted.as_bytes())],
            Format::Text,
        ),
        message::execute("", 0),
        message::sync(),
    ];
    wire.send(&run.concat());
    let told = wire.until_ready();
    let row = told.iter().find(|frame| frame.kind == b'D').expect("a row");
    assert_eq!(row.row_text(), ["1"]);
}

/// Who blocks whom is told by the numbers of clients, in every spelling of the question that has an answer.
fn blockers(login: &dyn Fn() -> Wire, wire: &mut Wire) {
    let number = |wire: &Wire| wire.key.as_ref().unwrap().0;
    let (mut holds, mut waits, idle) = (login(), login(), login());
    let (h, w, i) = (number(&holds), number(&waits), number(&idle));
    let lock = "SELECT pg_advisory_xact_lock(4711)";
    say(&mut holds, "BEGIN");
    say(&mut holds, lock);
    waits.send(&message::query(lock));
    let question = format!("SELECT pg_blocking_pids({w})");
    assert!(poll_until(LIMIT, || wire.rows(&question) != [["{}"]]));
    let is_blocked = |of: &str, by: &str| {
        format!("SELECT pg_catalog.pg_isolation_test_session_is_blocked({of}, '{{{by}}}')")
    };
    for (sql, expected) in [
        (question.clone(), format!("{{{h}}}")),
        (format!("SELECT pg_blocking_pids({h})"), "{}".into()),
        (format!("SELECT pg_blocking_pids({i})"), "{}".into()),
        (
            format!("SELECT pg_safe_snapshot_blocking_pids({w})"),
            "{}".into(),
        ),
        (is_blocked(&w.to_string(), &format!("{i},{h}")), "t".into()),
        (is_blocked(&w.to_string(), &i.to_string()), "f".into()),
        (is_blocked(&h.to_string(), &w.to_string()), "f".into()),
    ] {
        assert_eq!(wire.rows(&sql), [[expected.as_str()]], "{sql}");
    }
    // By a parameter, prepared once and asked about several.
    let sql = is_blocked("$1", &format!("{h},{w}"));
    let parsed = [message::parse("asks", &sql, &[]), message::sync()].concat();
    wire.send(&parsed);
    wire.until_ready();
    for (of, expected) in [(w, "t"), (h, "f"), (i, "f"), (w, "t")] {
        let value = of.to_string();
        let run = [
            message::bind(
                "",
                "asks",
                Format::Text,
                &[Some(value.as_bytes())],
                Format::Text,
            ),
            message::execute("", 0),
            message::sync(),
        ];
        wire.send(&run.concat());
        let told = wire.until_ready();
        let row = told.iter().find(|frame| frame.kind == b'D').expect("a row");
        assert_eq!(row.row_text(), [expected], "{of}");
    }
    // Where only the server knows the number, it would say that there is no such process.
    let refused = say(
        wire,
        &format!("SELECT pg_blocking_pids(n) FROM (VALUES ({w})) v (n)"),
    );
    assert!(refused[0].starts_with("Error 0A000"), "{refused:?}");
    say(&mut holds, "COMMIT");
    waits.until_ready();
    assert_eq!(wire.rows(&question), [["{}"]]);
}

fn signals(login: &dyn Fn() -> Wire, wire: &mut Wire) {
    let number = |wire: &Wire| wire.key.as_ref().unwrap().0;
    let mut other = login();
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(61)' AND state = 'active' AND datname = current_database()";
    other.send(&message::query("SELECT pg_sleep(61)"));
    assert!(poll_until(LIMIT, || wire.rows(sleeping) == [["1"]]));
    // Where the number is known to the server only, nobody is hit.
    let refused = say(
        wire,
        &format!(
            "SELECT pg_cancel_backend(n) FROM (VALUES ({})) v (n)",
            number(&other)
        ),
    );
    assert!(refused[0].starts_with("Error 0A000"), "{refused:?}");
    signals_to_rows(wire, &mut other);
    let cancel = format!("SELECT pg_cancel_backend({})", number(&other));
    assert_eq!(wire.rows(&cancel), [["t"]]);
    let told = other.until_ready();
    let error = told.iter().find(|frame| frame.kind == b'E');
    assert_eq!(error.expect("it is cancelled").sqlstate(), "57014");
    let end = format!("SELECT pg_terminate_backend({}) AS ended", number(&other));
    assert_eq!(wire.rows(&end), [["t"]]);
    let farewell = other.frame();
    assert_eq!(farewell.sqlstate(), "57P01");
    assert!(other.is_closed_within(LIMIT));
    // Nobody has it any longer, as soon as it is gone.
    drop(other);
    let unknown = |line: &String| line.contains("is not a PostgreSQL");
    let is_gone = poll_until(LIMIT, || say(wire, &end).iter().any(unknown));
    assert!(is_gone);
    // Whoever signals oneself.
    let answer = say(
        wire,
        "SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(10)",
    );
    assert!(
        answer.iter().any(|line| line.starts_with("Error 57014")),
        "{answer:?}"
    );
    for sql in [
        "SELECT pg_terminate_backend(pg_backend_pid())".to_owned(),
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = pg_backend_pid()"
            .to_owned(),
    ] {
        let mut ends = login();
        ends.send(&message::query(&sql));
        let mut frame = ends.frame();
        while b"TDSC".contains(&frame.kind) {
            frame = ends.frame();
        }
        assert_eq!(
            (frame.sqlstate().as_str(), frame.field('S').as_deref()),
            ("57P01", Some("FATAL")),
            "{sql}"
        );
        assert!(ends.is_closed_within(LIMIT), "{sql}");
    }
    // A timeout of the client's own ends it.
    let mut idle = login();
    for sql in [
        "SET idle_in_transaction_session_timeout = '500ms'",
        "BEGIN",
        "SELECT 1",
    ] {
        idle.query(sql);
    }
    let frame = idle.frame();
    assert_eq!(frame.sqlstate(), "25P03");
    assert_eq!(frame.field('S').as_deref(), Some("FATAL"));
    assert!(idle.is_closed_within(LIMIT));
}

/// Numbers that stand in a table: of a client at work, of the one that asks, of none.
fn signals_to_rows(wire: &mut Wire, other: &mut Wire) {
    let own = wire.key.as_ref().unwrap().0;
    let number = other.key.as_ref().unwrap().0;
    for sql in [
        "CREATE TABLE kept_numbers (n int, kind text)".to_owned(),
        format!(
            "INSERT INTO kept_numbers VALUES ({number}, 'works'), (NULL, 'none'), (4194304, 'none')"
        ),
    ] {
        let said = say(wire, &sql);
        assert!(!said[0].starts_with("Error"), "{said:?}");
    }
    let answer = say(
        wire,
        "SELECT pg_cancel_backend(k.n) FROM kept_numbers k WHERE k.kind = 'works'",
    );
    assert_eq!(
        answer,
        [
            "RowDescription pg_cancel_backend",
            "DataRow t",
            "CommandComplete SELECT 1",
            "ReadyForQuery I"
        ]
    );
    let told = other.until_ready();
    let error = told.iter().find(|frame| frame.kind == b'E');
    assert_eq!(error.expect("it is cancelled").sqlstate(), "57014");
    other.send(&message::query("SELECT pg_sleep(61)"));
    // By the extended protocol, and of each row.
    let run = [
        message::parse(
            "",
            "SELECT pg_cancel_backend(n) AS hit FROM kept_numbers",
            &[],
        ),
        message::bind("", "", Format::Text, &[], Format::Text),
        message::execute("", 0),
        message::sync(),
    ];
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(61)' AND state = 'active' AND datname = current_database()";
    assert!(poll_until(LIMIT, || wire.rows(sleeping) == [["1"]]));
    wire.send(&run.concat());
    let told = wire.until_ready();
    let rows = told
        .iter()
        .filter(|frame| frame.kind == b'D')
        .map(|frame| frame.row_text());
    assert_eq!(rows.collect::<Vec<_>>(), [["t"], ["∅"], ["f"]]);
    let told = other.until_ready();
    let error = told.iter().find(|frame| frame.kind == b'E');
    assert_eq!(error.expect("it is cancelled").sqlstate(), "57014");
    other.send(&message::query("SELECT pg_sleep(61)"));
    assert!(poll_until(LIMIT, || wire.rows(sleeping) == [["1"]]));
    // Oneself, and what cannot be read.
    say(wire, &format!("UPDATE kept_numbers SET n = {own}"));
    let answer = say(
        wire,
        "SELECT pg_cancel_backend(n) FROM kept_numbers WHERE kind = 'works'",
    );
    assert!(
        answer.iter().any(|line| line.starts_with("Error 57014")),
        "{answer:?}"
    );
    let answer = say(wire, "SELECT pg_cancel_backend(n) FROM no_such_table");
    assert!(answer[0].starts_with("Error 42P01"), "{answer:?}");
    say(wire, "DROP TABLE kept_numbers");
}

#[test]
fn a_signal_that_fails_costs_the_session_nothing() {
    let stage = Stage::new();
    let [a, b, _] = one_each();
    stage.fill([a, b]);
    let mut wire = stage.wire();
    for (sql, expected) in [
        ("CREATE TEMP TABLE kept (n bigint)", "CommandComplete"),
        ("INSERT INTO kept VALUES (1)", "CommandComplete"),
        // There is no such function of bigint.
        ("SELECT pg_cancel_backend(n) FROM kept", "Error 42883"),
        (
            "SELECT pg_cancel_backend(n) FROM no_such_table",
            "Error 42P01",
        ),
        ("BEGIN", "CommandComplete"),
        (
            &format!("UPDATE items SET v = 1 WHERE id IN ({a}, {b})"),
            "CommandComplete",
        ),
        ("ROLLBACK", "CommandComplete"),
    ] {
        let answer = say(&mut wire, sql);
        assert!(answer[0].starts_with(expected), "{sql}: {answer:?}");
    }
    assert_eq!(wire.rows("SELECT n FROM kept"), [["1"]]);
}

/// Each place in a text may have the whole text once more: that is bounded.
#[test]
fn a_text_that_names_a_view_of_processes_often_is_refused() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    let names = vec!["pg_stat_activity"; 2000].join(", ");
    let answer = say(&mut wire, &format!("SELECT 1 FROM {names}"));
    assert!(answer[0].starts_with("Error 0A000"), "{answer:?}");
    // A query within the statement has the name.
    for sql in [
        "WITH pg_locks AS (SELECT 1 AS pid) SELECT count(*) FROM pg_locks",
        "WITH a AS (SELECT 1), pg_stat_activity (pid) AS NOT MATERIALIZED (SELECT 1) SELECT pid FROM pg_stat_activity",
        "WITH RECURSIVE pg_locks (pid) AS (SELECT 1 UNION ALL SELECT pid + 1 FROM pg_locks WHERE pid < 5) \
            SELECT sum(pid) FROM pg_locks",
    ] {
        let answer = say(&mut wire, sql);
        assert!(answer[0].starts_with("Error 0A000"), "{sql}: {answer:?}");
    }
    for from in [
        "ONLY pg_stat_activity",
        "ONLY (pg_stat_activity)",
        "pg_stat_activity *",
    ] {
        let answer = say(&mut wire, &format!("SELECT count(*) FROM {from}"));
        assert!(answer[0].starts_with("Error 0A000"), "{from}: {answer:?}");
    }
}

/// Where a pattern declares tables, any word may be one of them, and every statement is read.
#[test]
fn questions_about_the_session_are_answered_beside_a_pattern() {
    let stage = Stage::with("[[table]]\nname = \"sh.*\"\nkey = \"id\"\nkey_type = \"int8\"\n");
    let mut wire = stage.wire();
    say(&mut wire, "CREATE SCHEMA sh");
    say(&mut wire, "CREATE TABLE sh.own (id int8 PRIMARY KEY)");
    assert_eq!(one(&mut wire, "SELECT current_schemas(false)"), "{public}");
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    assert_eq!(one(&mut wire, sql), "1");
    let sql = "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = ANY (current_schemas(false)) AND c.relname = 'items'";
    assert_eq!(one(&mut wire, sql), "items");
}

#[test]
fn a_client_has_one_number_wherever_it_looks() {
    let stage = Stage::new();
    holds(&|| stage.wire());
    // A table that is divided.
    let mut wire = stage.wire();
    let number = wire.key.as_ref().unwrap().0.to_string();
    let n = number.as_str();
    for sql in [
        "INSERT INTO items VALUES (1, pg_backend_pid()), (2, pg_backend_pid()), (3, pg_backend_pid())",
        "UPDATE items SET note = pg_backend_pid()",
    ] {
        assert!(
            say(&mut wire, sql)[0].starts_with("CommandComplete"),
            "{sql}"
        );
    }
    assert_eq!(
        wire.rows("SELECT DISTINCT v, note, pg_backend_pid() FROM items"),
        [[n, n, n]]
    );
    for sql in [
        "SELECT max(a.v), current_query() FROM items a JOIN items b ON b.note = a.note",
        "SELECT DISTINCT 1, current_query() FROM items",
    ] {
        assert_eq!(wire.rows(sql)[0][1], sql);
    }
    let refused = say(
        &mut wire,
        "CREATE TABLE told (id int DEFAULT pg_backend_pid())",
    );
    assert!(refused[0].starts_with("Error 0A000"), "{refused:?}");
}

#[test]
fn a_client_of_a_router_without_tables_has_one_number_as_well() {
    let served = endpoint();
    let at: &Endpoint = &served;
    holds(&|| {
        let mut wire = Wire::login(at);
        wire.set_limit(LIMIT);
        wire
    });
}

// A stranger found it: the home shard was prepared where the process of another one was known and its own was not.
#[test]
fn a_transaction_over_shards_that_notifies_is_decided_on_the_home_shard() {
    let stage = Stage::new();
    let [home, first, second] = one_each();
    stage.fill([home, first, second]);
    let mut wire = stage.wire();
    let set = |ids: &[i64]| {
        let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
        format!(
            "UPDATE items SET v = v + 1 WHERE id IN ({})",
            ids.join(", ")
        )
    };
    // Another shard decides, and its process is known from then on.
    for sql in ["BEGIN", &set(&[first, second]), "COMMIT"] {
        assert!(
            say(&mut wire, sql)[0].starts_with("CommandComplete"),
            "{sql}"
        );
    }
    let begun = [
        "BEGIN",
        &set(&[home, first, second]),
        "SELECT pg_notify('here', 'a')",
    ];
    for sql in begun {
        assert!(!say(&mut wire, sql)[0].starts_with("Error"), "{sql}");
    }
    assert_eq!(say(&mut wire, "COMMIT")[0], "CommandComplete COMMIT");
}

/// It looks like a change of the router's own schema: the router writes its name into such a query.
#[test]
fn a_query_that_calls_what_may_do_anything_is_no_change_of_definitions() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    let told = say(
        &mut wire,
        "SELECT current_schemas(false), pg_catalog.database_to_xmlschema(true, false, '') IS NULL",
    );
    assert!(!told[0].starts_with("Error 42501"), "{told:?}");
}
