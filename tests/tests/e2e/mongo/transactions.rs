//! Transactions on documents.

use super::stage::Documents;
use crate::shards::stage::{LIMIT, one, say, segment, send};

const ABORTED: &str =
    "Error 25P02 current transaction is aborted, commands ignored until end of transaction block";

fn count(documents: &Documents) -> usize {
    let found = documents
        .set
        .find(&documents.databases[0], "events", Default::default());
    found.len()
}

#[test]
fn a_transaction_is_all_or_nothing_and_nobody_sees_it_before() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    for (end, left) in [("ROLLBACK", 0), ("COMMIT", 2)] {
        say(&mut wire, "BEGIN");
        for id in [1, 2] {
            let sql = format!("INSERT INTO events (id) VALUES ({id})");
            assert_eq!(
                say(&mut wire, &sql),
                ["CommandComplete INSERT 0 1", "ReadyForQuery T"]
            );
        }
        assert_eq!(one(&mut wire, "SELECT count(*) FROM events"), "2");
        assert_eq!(count(&documents), 0);
        assert_eq!(
            say(&mut wire, end),
            [format!("CommandComplete {end}").as_str(), "ReadyForQuery I"]
        );
        assert_eq!(count(&documents), left, "{end}");
    }
}

#[test]
fn a_silent_client_is_told_to_go_by_its_own_timeouts() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    for (setting, begins, code) in [
        (
            "idle_in_transaction_session_timeout",
            &["BEGIN", "INSERT INTO events (id) VALUES (1)"][..],
            "25P03",
        ),
        (
            "idle_session_timeout",
            &["SELECT count(*) FROM events"],
            "57P05",
        ),
    ] {
        let mut wire = documents.stage.wire();
        say(&mut wire, &format!("SET {setting} = '2s'"));
        for sql in begins {
            say(&mut wire, sql);
        }
        assert_eq!(wire.frame().sqlstate(), code);
        assert!(wire.is_closed_within(LIMIT));
    }
    assert_eq!(count(&documents), 0);
}

#[test]
fn an_error_undoes_the_transaction_and_what_follows_is_refused() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    say(&mut wire, "BEGIN");
    say(&mut wire, "INSERT INTO events (id) VALUES (1)");
    let twice = say(&mut wire, "INSERT INTO events (id) VALUES (1)");
    assert_eq!(
        twice,
        [
            "Error 23505 duplicate key value violates unique constraint \"events_pkey\"",
            "ReadyForQuery E"
        ]
    );
    assert_eq!(say(&mut wire, "SELECT id FROM events")[0], ABORTED);
    assert_eq!(
        say(&mut wire, "COMMIT"),
        ["CommandComplete ROLLBACK", "ReadyForQuery I"]
    );
    assert_eq!(count(&documents), 0);
    let savepoint = ["BEGIN", "INSERT INTO events (id) VALUES (1)", "SAVEPOINT s"];
    let answers: Vec<String> = savepoint
        .iter()
        .map(|sql| say(&mut wire, sql)[0].clone())
        .collect();
    assert!(answers[2].starts_with("Error 0A000"), "{answers:?}");
    say(&mut wire, "ROLLBACK");
}

#[test]
fn statements_of_one_message_or_one_segment_are_one_transaction() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    let first = "INSERT INTO events (id) VALUES (1)";
    let wrong = "INSERT INTO events (id, kind) VALUES (2, NULL)";
    let answer = say(&mut wire, &format!("{first}; {wrong}"));
    assert!(
        answer.iter().any(|line| line.starts_with("Error 23502")),
        "{answer:?}"
    );
    assert_eq!(count(&documents), 0);
    let answer = send(&mut wire, &segment([first, wrong]));
    assert!(
        answer.iter().any(|line| line.starts_with("Error 23502")),
        "{answer:?}"
    );
    assert_eq!(count(&documents), 0);
    send(
        &mut wire,
        &segment([first, "INSERT INTO events (id) VALUES (2)"]),
    );
    assert_eq!(count(&documents), 2);
}

#[test]
fn of_many_who_insert_the_same_key_one_stores_it_and_none_fails() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    for (end, done) in [
        ("DO NOTHING", ["INSERT 0 0", "INSERT 0 1"]),
        ("(id) DO UPDATE SET kind = EXCLUDED.kind", ["INSERT 0 1"; 2]),
    ] {
        let stored = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..8)
                .map(|client| {
                    let mut wire = documents.stage.wire();
                    scope.spawn(move || {
                        let mut stored = 0;
                        for id in 1..=10 {
                            let sql = format!(
                                "INSERT INTO events (id, kind) VALUES ({id}, 'by {client}') ON CONFLICT {end}"
                            );
                            let answer = say(&mut wire, &sql)[0].clone();
                            let tag = answer.strip_prefix("CommandComplete ").unwrap_or(&answer);
                            assert!(done.contains(&tag), "{sql}: {answer}");
                            stored += usize::from(tag == done[1]);
                        }
                        stored
                    })
                })
                .collect();
            clients
                .into_iter()
                .map(|client| client.join().unwrap())
                .sum::<usize>()
        });
        assert_eq!(count(&documents), 10, "{end}");
        if end == "DO NOTHING" {
            assert_eq!(stored, 10);
        }
    }
}

#[test]
fn a_transaction_that_has_come_to_documents_only_asks_postgresql_what_is_its() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    let cases = [
        ("SELECT set_config('work_mem', '1024kB', true)", "1MB"),
        ("SHOW work_mem", "1MB"),
        ("SELECT count(*) FROM kinds", "0"),
        (
            "SELECT count(*) FROM events e JOIN kinds k ON e.kind = k.name",
            "0",
        ),
        ("SELECT count(*) FROM events e, events f", "1"),
    ];
    say(&mut wire, "INSERT INTO events (id) VALUES (1)");
    for (sql, expected) in cases {
        for before in ["", "SET LOCAL work_mem = '1MB'"] {
            say(&mut wire, "BEGIN");
            assert_eq!(one(&mut wire, "SELECT count(*) FROM events"), "1");
            if !before.is_empty() {
                assert_eq!(say(&mut wire, before)[0], "CommandComplete SET");
            }
            if !(before.is_empty() && sql.starts_with("SHOW")) {
                assert_eq!(one(&mut wire, sql), expected, "{before} {sql}");
            }
            say(&mut wire, "COMMIT");
        }
    }
    say(&mut wire, "BEGIN");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM events"), "1");
    let insert = "INSERT INTO items (id) SELECT g FROM generate_series(1, 9) g";
    assert_eq!(say(&mut wire, insert)[0], "CommandComplete INSERT 0 9");
    let wrong = say(&mut wire, "SET LOCAL work_mem = 'much'");
    assert!(wrong[0].starts_with("Error 22023"), "{wrong:?}");
    assert_eq!(say(&mut wire, "COMMIT")[0], "CommandComplete ROLLBACK");
    let fetch = ["BEGIN", "SELECT count(*) FROM events", "FETCH FROM nothing"];
    let answers = fetch.map(|sql| say(&mut wire, sql)[0].clone());
    assert!(answers[2].starts_with("Error 34000"), "{answers:?}");
    say(&mut wire, "ROLLBACK");
}
