//! What one statement reads of documents is of one time.

use super::stage::Documents;
use crate::shards::stage::{extended, one, say, send};
use std::sync::atomic::{AtomicBool, Ordering};

/// What both rows have together, whatever is moved from one to the other.
const TOTAL: &str = "SELECT (SELECT sum(count) FROM events WHERE small = 1) + (SELECT sum(count) FROM events WHERE small = 2)";
/// The same by a join of the table with itself.
const JOINED: &str = "SELECT a.count + b.count FROM events AS a JOIN events AS b ON b.small = a.small + 1 WHERE a.small = 1";
/// How often something is moved meanwhile.
const MOVES: usize = 300;

#[test]
fn rows_that_a_statement_fetches_one_after_the_other_are_of_one_snapshot() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    say(
        &mut wire,
        "INSERT INTO events (id, small, count) VALUES (1, 1, 500), (2, 2, 500)",
    );
    for sql in [TOTAL, JOINED] {
        let plan = say(&mut wire, &format!("EXPLAIN (COSTS OFF) {sql}"));
        let is_command = |line: &&String| line.contains("Command: ");
        let fetched = plan.iter().filter(is_command).count();
        assert!(fetched >= 2, "the rows come by two commands: {plan:#?}");
    }
    let is_over = AtomicBool::new(false);
    let mut reads = 0;
    std::thread::scope(|scope| {
        let mut mover = documents.stage.wire();
        let is_over = &is_over;
        scope.spawn(move || {
            for _ in 0..MOVES {
                say(&mut mover, "BEGIN");
                say(
                    &mut mover,
                    "UPDATE events SET count = count - 1 WHERE id = 1",
                );
                say(
                    &mut mover,
                    "UPDATE events SET count = count + 1 WHERE id = 2",
                );
                assert_eq!(say(&mut mover, "COMMIT")[0], "CommandComplete COMMIT");
            }
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            for sql in [TOTAL, JOINED] {
                assert_eq!(one(&mut wire, sql), "1000", "{sql}");
                let answer = send(&mut wire, &extended(sql, &[], &[]));
                assert!(
                    answer.iter().any(|line| line == "DataRow 1000"),
                    "{answer:?}"
                );
                reads += 1;
            }
        }
    });
    assert!(reads > MOVES / 20, "it was read meanwhile: {reads}");
    // What was written before is seen, also by the connection that has read by a snapshot before.
    for count in 1..=20 {
        let sql = format!("UPDATE events SET count = {count}");
        say(&mut wire, &sql);
        assert_eq!(one(&mut wire, TOTAL), (2 * count).to_string());
    }
}
