//! Cancel requests of a client that keeps its server.

use super::stage::{Stage, say};
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
