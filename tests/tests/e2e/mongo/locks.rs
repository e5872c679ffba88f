//! Row locks on documents: taken by a statement that is all of its transaction, and refused to all others.

use super::alike::{both, filled};
use super::stage::Documents;
use crate::shards::stage::{extended, one, say, send};
use mothership_tests::message::{self, Format};

/// Queries of `{t}`, which answer what PostgreSQL does.
const LOCKING: [&str; 12] = [
    "SELECT id, kind FROM {t} WHERE id < 4 ORDER BY id FOR UPDATE",
    "SELECT * FROM {t} WHERE id = 1 FOR NO KEY UPDATE NOWAIT",
    "SELECT upper(kind) FROM {t} ORDER BY id DESC LIMIT 2 FOR SHARE SKIP LOCKED",
    "SELECT e.id, e.kind || '!' AS loud FROM {t} AS e WHERE e.small > 0 ORDER BY e.id FOR KEY SHARE OF e",
    "SELECT a.id, b.id FROM {t} AS a JOIN {t} AS b ON b.kind = a.kind ORDER BY 1, 2 FOR UPDATE OF a FOR SHARE OF b",
    "SELECT id, (SELECT count(*) FROM {t}) FROM {t} ORDER BY id OFFSET 1 FOR UPDATE",
    "SELECT id FROM {t} WHERE false FOR UPDATE",
    // What may not be locked PostgreSQL says.
    "SELECT count(*) FROM {t} FOR UPDATE",
    "SELECT DISTINCT kind FROM {t} FOR SHARE",
    "SELECT kind FROM {t} GROUP BY kind FOR UPDATE",
    "SELECT id FROM {t} FOR UPDATE OF other",
    "SELECT nothing FROM {t} FOR UPDATE",
];

#[test]
fn a_statement_by_itself_may_lock_documents() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    filled(&documents, &mut wire);
    for is_extended in [false, true] {
        for sql in LOCKING {
            let [events, twin] = both(&mut wire, sql, is_extended);
            assert_eq!(events, twin, "{sql}");
        }
    }
    let joined = "SELECT e.id, i.v FROM events AS e JOIN items AS i ON i.id = e.id ORDER BY e.id";
    let locked = say(&mut wire, &format!("{joined} FOR UPDATE OF e"));
    assert_eq!(locked, say(&mut wire, joined));
    assert!(locked.len() > 2, "{locked:?}");
    // Who may not write may not lock either.
    say(&mut wire, "SET default_transaction_read_only = on");
    for sql in [LOCKING[0], LOCKING[2]] {
        let errors = both(&mut wire, sql, false).map(|mut answer| {
            answer.retain(|line| line.starts_with("Error"));
            answer
        });
        let [events, twin] = errors;
        assert!(twin[0].starts_with("Error 25006"), "{twin:?}");
        assert_eq!(events, twin, "{sql}");
    }
}

#[test]
fn over_several_shards_documents_are_locked_as_well() {
    let Some(documents) = Documents::over(3) else {
        return;
    };
    let mut wire = documents.stage.wire();
    filled(&documents, &mut wire);
    for sql in &LOCKING[..7] {
        let [events, twin] = both(&mut wire, sql, false);
        assert_eq!(events, twin, "{sql}");
    }
}

#[test]
fn a_lock_on_documents_reads_what_is_committed() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    let mut other = documents.stage.wire();
    say(&mut wire, "INSERT INTO events (id, count) VALUES (1, 1)");
    let sql = "SELECT count FROM events WHERE id = 1 FOR UPDATE";
    say(&mut other, "BEGIN");
    say(&mut other, "UPDATE events SET count = 2 WHERE id = 1");
    assert_eq!(one(&mut wire, sql), "1");
    say(&mut other, "COMMIT");
    assert_eq!(one(&mut wire, sql), "2");
}

const REFUSED: &str = "Error 0A000 these row locks on documents are not supported";

#[test]
fn no_transaction_of_more_than_the_statement_locks_documents() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    say(&mut wire, "INSERT INTO events (id, count) VALUES (1, 1)");
    let lock = "SELECT count FROM events WHERE id = 1 FOR UPDATE";
    let change = "UPDATE events SET count = count + 1 WHERE id = 1";
    say(&mut wire, "BEGIN");
    assert_eq!(say(&mut wire, lock)[0], REFUSED);
    assert_eq!(say(&mut wire, "COMMIT")[0], "CommandComplete ROLLBACK");
    say(&mut wire, "BEGIN");
    let answer = send(&mut wire, &extended(lock, &[], &[]));
    assert!(answer.iter().any(|line| line == REFUSED), "{answer:?}");
    say(&mut wire, "ROLLBACK");
    for sql in [format!("{lock}; {change}"), format!("{change}; {lock}")] {
        let answer = say(&mut wire, &sql);
        assert!(answer.iter().any(|line| line == REFUSED), "{answer:?}");
    }
    // A pipeline is one transaction up to its Sync.
    let bound = |name: &str, sql: &str| {
        [
            message::parse(name, sql, &[]),
            message::bind(name, name, Format::Text, &[], Format::Text),
            message::execute(name, 0),
        ]
    };
    for pipeline in [[lock, change], [change, lock], [lock, lock]] {
        let [first, second] = pipeline;
        let mut messages = [bound("a", first), bound("b", second)].concat();
        messages.push(message::sync());
        let answer = send(&mut wire, &messages);
        assert!(answer.iter().any(|line| line == REFUSED), "{answer:?}");
        say(&mut wire, "DEALLOCATE ALL");
    }
    // Nothing of all that was done.
    assert_eq!(one(&mut wire, lock), "1");
    // To ask what it means is nothing that a lock would outlive.
    let messages = [
        message::parse("c", lock, &[]),
        message::describe_statement("c"),
        message::bind("c", "c", Format::Text, &[], Format::Text),
        message::execute("c", 0),
        message::sync(),
    ];
    for _ in 0..2 {
        let answer = send(&mut wire, &messages);
        assert!(
            answer.iter().any(|line| line == "CommandComplete SELECT 1"),
            "{answer:?}"
        );
        say(&mut wire, "DEALLOCATE ALL");
    }
}
