//! How much a rule lets through: at once, in a time, for how long; and when and for which statements.

use super::stage::{DECLARED, SOON, UNDECLARED, World, code, error, extended};
use mothership_tests::{Wire, message, poll_until};

fn rule(more: &str) -> String {
    format!("[[rule]]\nname = \"few\"\napplications = \"few-*\"\n{more}\n")
}

impl World {
    /// A figure of the first rule.
    fn figure(&self, column: &str) -> u64 {
        let endpoint = self
            .router
            .endpoint("root", super::stage::PASSWORD, "mothership");
        let frames = Wire::login(&endpoint).query("SHOW RULES");
        let at = frames[0].columns().iter().position(|name| name == column);
        let row = frames.iter().find(|f| f.kind == b'D').unwrap().row_text();
        row[at.unwrap()].parse().unwrap()
    }
}

#[test]
fn no_more_run_at_once_than_a_rule_says_and_a_transaction_counts_to_its_end() {
    for tables in [DECLARED, UNDECLARED] {
        let world = World::new(2, tables, &rule("concurrency = 1"));
        let (mut first, mut second) = (world.named("few-1"), world.named("few-2"));
        let mut other = world.named("many");
        first.query("BEGIN");
        assert_eq!(code(&first.query("SELECT * FROM audit")), "");
        assert_eq!(world.figure("running"), 1);
        let frames = second.query("SELECT * FROM audit");
        assert_eq!(code(&frames), "53300");
        let told = error(&frames).unwrap();
        let message = told.field('M').unwrap_or_default();
        assert_eq!(message, "too many requests of rule \"few\"");
        let detail = told.field('D').unwrap_or_default();
        assert!(detail.starts_with("1 of at most 1 run"), "{detail}");
        assert_eq!(code(&extended(&mut second, "SELECT * FROM audit")), "53300");
        // Neither those whom the rule does not concern nor the transaction itself.
        assert_eq!(code(&other.query("SELECT * FROM audit")), "");
        assert_eq!(code(&extended(&mut first, "SELECT * FROM audit")), "");
        assert_eq!(code(&first.query("COMMIT")), "");
        assert!(poll_until(SOON, || world.figure("running") == 0));
        assert_eq!(code(&second.query("SELECT * FROM audit")), "");
        assert_eq!(code(&extended(&mut second, "SELECT * FROM audit")), "");
        assert_eq!(world.figure("refused"), 2);
        // Who leaves in the middle counts no more.
        first.query("BEGIN");
        assert_eq!(code(&first.query("SELECT * FROM audit")), "");
        drop(first);
        assert!(poll_until(SOON, || world.figure("running") == 0));
        assert_eq!(code(&second.query("SELECT * FROM audit")), "");
    }
}

#[test]
fn who_may_wait_comes_in_when_another_has_ended_and_may_cancel() {
    let world = World::new(1, DECLARED, &rule("concurrency = 1\nwait = \"10min\""));
    let (mut first, mut second) = (world.named("few-1"), world.named("few-2"));
    first.query("BEGIN");
    assert_eq!(code(&first.query("SELECT * FROM audit")), "");
    second.send(&message::query("SELECT * FROM audit"));
    let waits = || poll_until(SOON, || world.figure("waiting") == 1);
    assert!(waits());
    second.cancel();
    assert_eq!(code(&second.until_ready()), "57014");
    second.send(&message::query("SELECT * FROM audit"));
    assert!(waits());
    assert_eq!(code(&first.query("ROLLBACK")), "");
    assert_eq!(code(&second.until_ready()), "");
    assert_eq!(world.figure("waiting"), 0);
    // A reload keeps what runs, and takes new limits.
    first.query("BEGIN");
    assert_eq!(code(&first.query("SELECT * FROM audit")), "");
    world.reload(&rule("concurrency = 2\nwait = \"10min\""));
    let both = poll_until(SOON, || {
        let told = world.console("SHOW RULES").concat();
        told.contains(&"at most 2 at once, waits 600s".to_owned())
    });
    assert!(both);
    assert_eq!(code(&second.query("SELECT * FROM audit")), "");
    assert_eq!(world.figure("running"), 1);
}

#[test]
fn no_more_come_in_a_time_than_a_rule_says() {
    let world = World::new(1, DECLARED, &rule("rate = \"3/h\""));
    let mut wires = [world.named("few-1"), world.named("few-2")];
    let answers: Vec<String> = (0..5)
        .map(|n| code(&wires[n % 2].query("SELECT * FROM audit")))
        .collect();
    assert_eq!(answers, ["", "", "", "53300", "53300"]);
    let frames = wires[0].query("SELECT * FROM audit");
    let detail = error(&frames).unwrap().field('D').unwrap_or_default();
    assert!(detail.starts_with("The rule allows 3/h"), "{detail}");
    // The session goes on, and what no rule speaks of does not count.
    assert_eq!(code(&wires[0].query("BEGIN; COMMIT")), "");
    assert_eq!(world.figure("matched"), 6);
    assert_eq!(world.figure("refused"), 3);
}

#[test]
fn a_statement_runs_no_longer_than_its_rule_says() {
    let world = World::new(1, DECLARED, &rule("timeout = \"1s\"\nlog = true"));
    let (mut few, mut many) = (world.named("few-1"), world.named("many"));
    assert_eq!(code(&few.query("SELECT pg_sleep(300)")), "57014");
    assert_eq!(code(&few.query("SELECT 1")), "");
    assert_eq!(code(&many.query("SELECT pg_sleep(3)")), "");
}

#[test]
fn statements_are_known_by_their_shape_and_explained() {
    let rules = "[[rule]]\nname = \"heavy\"\nstatements = [\"SELECT * FROM audit WHERE id > 5\"]\n\
                 action = \"refuse\"\nmessage = \"not here\"\n";
    for tables in [DECLARED, UNDECLARED] {
        let world = World::new(1, tables, rules);
        let mut wire = world.wire();
        super::stage::check(
            &mut wire,
            &[
                "select * from audit where id > 77 -- all of it",
                "EXPLAIN SELECT * FROM audit WHERE id > 5",
            ],
            &["SELECT * FROM audit WHERE id = 5", "SELECT * FROM audit"],
        );
        let told = wire.rows("EXPLAIN (ROUTE) SELECT * FROM audit WHERE id > 1");
        let told = told.concat();
        assert!(
            told.contains(&"Rule: heavy (refuse)".to_owned()),
            "{told:?}"
        );
        // Also when it is run by its name.
        assert_eq!(code(&wire.query("PREPARE p AS SELECT 1")), "");
        let prepare = "PREPARE q AS SELECT * FROM audit WHERE id > $1";
        assert_eq!(code(&wire.query(prepare)), "42501");
    }
}

#[test]
fn a_rule_without_the_present_time_decides_nothing() {
    // One of the two holds at any time.
    let rules = "[[rule]]\nname = \"early\"\ntimes = \"00:00-12:00\"\naction = \"refuse\"\nmessage = \"early\"\n\
                 [[rule]]\nname = \"late\"\ntimes = \"12:00-24:00\"\nzone = \"UTC\"\naction = \"refuse\"\nmessage = \"late\"\n";
    let world = World::new(1, UNDECLARED, rules);
    let mut wire = world.wire();
    for _ in 0..3 {
        let frames = wire.query("SELECT 1");
        assert_eq!(code(&frames), "42501");
        let frames = extended(&mut wire, "SELECT 1");
        assert_eq!(code(&frames), "42501");
    }
    assert_eq!(world.matched().iter().sum::<u64>(), 6);
    world.reload("[[rule]]\nname = \"other\"\naction = \"primary\"\n");
    assert!(poll_until(SOON, || code(&wire.query("SELECT 1")).is_empty()));
}
