//! Statements that are cancelled: by their client, while it keeps its server, and by the router.

use super::stage::{Stage, extended, one_each, say, send};
use mothership_tests::message;
use std::time::Duration;

#[test]
fn a_cancel_does_not_hit_the_next_statement_of_a_client_that_keeps_its_server() {
    let stage = Stage::new();
    for keep in ["CREATE TEMP TABLE kept (a int)", "BEGIN; SAVEPOINT s"] {
        let mut wire = stage.wire();
        say(&mut wire, keep);
        let mut hit = 0;
        for round in 0..100 {
            wire.send(&message::query("SELECT pg_sleep(0.2)"));
            wire.cancel_after(Duration::from_millis(4));
            // A server ignores one that comes before it has begun.
            let told = wire.until_ready();
            hit += usize::from(
                told.iter()
                    .any(|f| f.kind == b'E' && f.sqlstate() == "57014"),
            );
            if keep.starts_with("BEGIN") {
                let back = say(&mut wire, "ROLLBACK TO s");
                assert_eq!(back[0], "CommandComplete ROLLBACK", "{keep} {round}");
            }
            for _ in 0..3 {
                let told = say(&mut wire, "SELECT 1 FROM pg_sleep(0.002)");
                assert_eq!(told[1], "DataRow 1", "{keep}, round {round}: {told:?}");
            }
        }
        assert!(hit > 0, "{keep}");
    }
    stage.assert_nothing_open();
}

#[test]
fn a_statement_over_shards_that_takes_too_long_is_told_so() {
    let stage = Stage::with("[pool]\nquery_timeout = \"300ms\"\n");
    stage.fill(one_each());
    let mut wire = stage.wire();
    for sql in [
        "SELECT count(*) FROM items WHERE pg_sleep(9) IS NOT NULL",
        "SELECT id FROM items WHERE pg_sleep(9) IS NOT NULL ORDER BY id LIMIT 1",
        "SELECT a.id FROM items a JOIN items b ON a.v = b.id WHERE pg_sleep(9) IS NOT NULL",
        "UPDATE items SET v = v WHERE pg_sleep(9) IS NOT NULL",
    ] {
        let late = "Error 57014 canceling statement due to statement timeout";
        for request in [vec![message::query(sql)], extended(sql, &[], &[])] {
            let told = send(&mut wire, &request);
            assert!(told.contains(&late.to_owned()), "{sql}: {told:?}");
        }
    }
    stage.assert_nothing_open();
}
