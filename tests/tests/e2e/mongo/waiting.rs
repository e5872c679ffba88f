//! Writes outside of transactions that meet one: they wait for its end, as PostgreSQL's do, as long as they may.

use super::stage::Documents;
use crate::shards::stage::{LIMIT, extended, one, say, send};
use mongodb::bson::doc;
use mothership_tests::mongo::ReplicaSet;
use mothership_tests::{Wire, message, poll_until};
use std::sync::Arc;
use std::time::Duration;

/// What PostgreSQL computes, and commands of MongoDB's for several rows, for one and for a new one.
const WRITES: [&str; 5] = [
    "UPDATE events SET count = count + length(kind) WHERE id = 1",
    "UPDATE events SET count = 7 WHERE id IN (1, 2)",
    "UPDATE events SET count = 8 WHERE id = 1 RETURNING id",
    "DELETE FROM events WHERE id < 3 AND length(kind) > 1",
    "INSERT INTO events (id, count) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET count = events.count * EXCLUDED.count",
];

struct Played {
    documents: Documents,
    /// It has a transaction that has written what the others want.
    holder: Wire,
}

impl Played {
    /// On a replica set of its own, where what is counted is this test's.
    fn new(name: &str) -> Option<Played> {
        let set = ReplicaSet::start(name, 1).map(Arc::new);
        let documents = Documents::on(set, 1, "")?;
        let holder = documents.stage.wire();
        Some(Played { documents, holder })
    }

    fn hold(&mut self) {
        say(&mut self.holder, "DELETE FROM events");
        say(
            &mut self.holder,
            "INSERT INTO events (id, count) VALUES (1, 5), (2, 6)",
        );
        say(&mut self.holder, "BEGIN");
        let held = say(
            &mut self.holder,
            "UPDATE events SET count = 100 WHERE id IN (1, 2)",
        );
        assert_eq!(held[0], "CommandComplete UPDATE 2");
    }

    /// How many transactions have been undone.
    fn undone(&self) -> i64 {
        let told = self
            .documents
            .set
            .command("admin", doc! { "serverStatus": 1 });
        let transactions = told.get_document("transactions").unwrap();
        transactions.get_i64("totalAborted").unwrap()
    }
}

#[test]
fn they_go_on_when_the_transaction_has_ended() {
    /// So many take about two seconds.
    const ATTEMPTS: i64 = 15;
    let Some(mut played) = Played::new("waiting") else {
        return;
    };
    let mut wire = played.documents.stage.wire();
    for (number, sql) in WRITES.into_iter().enumerate() {
        played.hold();
        let before = played.undone();
        let commits = number % 2 == 0;
        let answer = std::thread::scope(|scope| {
            let asked = scope.spawn(|| match commits {
                true => say(&mut wire, sql),
                false => send(&mut wire, &extended(sql, &[], &[])),
            });
            // Of one document MongoDB itself waits, and undoes nothing.
            let is_seen = sql.contains("RETURNING")
                || poll_until(LIMIT, || played.undone() >= before + ATTEMPTS);
            say(
                &mut played.holder,
                if commits { "COMMIT" } else { "ROLLBACK" },
            );
            assert!(is_seen, "{sql}: nothing was in the way");
            asked.join().unwrap()
        });
        let failed = answer.iter().any(|line| line.starts_with("Error"));
        assert!(!failed, "{sql}: {answer:?}");
        let shown = "SELECT string_agg(id || ' ' || count, ', ' ORDER BY id) FROM events";
        let expected = match number {
            0 => "1 105, 2 100",
            1 => "1 7, 2 7",
            2 => "1 8, 2 100",
            3 => "∅",
            _ => "1 200, 2 100",
        };
        assert_eq!(one(&mut wire, shown), expected, "{sql}");
    }
}

#[test]
fn they_wait_no_longer_than_the_client_does() {
    let Some(mut played) = Played::new("leaving") else {
        return;
    };
    played.hold();
    let statement = "Error 57014 canceling statement due to statement timeout";
    let lock = "Error 55P03 canceling statement due to lock timeout";
    // One of a single document is waited for by MongoDB, and not ended: nobody could say what has become of it.
    for sql in [WRITES[0], WRITES[1], WRITES[3], WRITES[4]] {
        for (settings, told) in [
            ("SET statement_timeout = '200ms'", statement),
            ("SET lock_timeout = 200", lock),
            (
                "SET statement_timeout = '10s'; SET lock_timeout TO '0.2s'",
                lock,
            ),
        ] {
            let mut wire = played.documents.stage.wire();
            say(&mut wire, settings);
            let answer = say(&mut wire, sql);
            assert_eq!(answer, [told, "ReadyForQuery I"], "{settings}; {sql}");
            let answer = send(&mut wire, &extended(sql, &[], &[]));
            assert!(
                answer.iter().any(|line| line == told),
                "{settings}; {sql}: {answer:?}"
            );
            assert_eq!(one(&mut wire, "SELECT count FROM events WHERE id = 1"), "5");
        }
        let mut wire = played.documents.stage.wire();
        let before = played.undone();
        wire.send(&message::query(sql));
        assert!(poll_until(LIMIT, || played.undone() >= before + 5), "{sql}");
        assert!(wire.try_frame(Duration::from_millis(10)).is_err(), "{sql}");
        wire.cancel();
        let answer: Vec<String> = wire.until_ready().iter().map(ToString::to_string).collect();
        let cancelled = "Error 57014 canceling statement due to user request";
        assert_eq!(answer[0], cancelled, "{sql}: {answer:?}");
        assert_eq!(one(&mut wire, "SELECT count FROM events WHERE id = 1"), "5");
    }
    say(&mut played.holder, "COMMIT");
    assert_eq!(
        one(&mut played.holder, "SELECT sum(count) FROM events"),
        "200"
    );
}
