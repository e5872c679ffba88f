//! The bank that runs behind faults: undisturbed it finds nothing, and what is planted it finds.

use mothership_tests::bank::{self, Bank, Terms};
use mothership_tests::proof::{self, on_all_in};
use mothership_tests::{Fleet, Router};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn the_judge_finds_what_is_planted_and_nothing_else() {
    let fleet = Fleet::new(2, 0);
    bank::make_role(&fleet);
    let more = bank::user() + bank::TABLES;
    let router = Router::start(&proof::config(&fleet, "", "", &more));
    let terms = Terms {
        clients: 3,
        accounts: 40,
        seed: 1,
        patience: LIMIT,
    };
    let bank = Bank::open(&router, &fleet, "postgres", terms);
    assert!(bank.goes_on(30, LIMIT));
    assert!(bank.serves(0, 1, LIMIT) && bank.serves(1, 1, LIMIT));
    assert!(bank.hold(LIMIT));
    let figures = bank.figures();
    assert_eq!(figures.unknown + figures.failed, 0, "{figures}");
    assert_eq!(figures.strange, Vec::<String>::new());
    let right = bank.judge(&fleet);
    assert!(right.is_right(), "{right}");
    assert_eq!(right.present as u64, figures.acknowledged);

    let [mine, theirs] = [0, 1].map(|shard| bank.accounts()[shard][0]);
    let on = |shard: usize, sql: &str| {
        let server = &fleet.shards[shard].primary;
        server.sql("postgres", sql).unwrap()
    };
    let known = on(0, "SELECT min(id) FROM ledger");
    // Each of these is undone before the next.
    for (plant, undo, expected) in [
        (
            format!("INSERT INTO ledger VALUES ({mine}, 77, -5), ({mine}, 77, 5)"),
            "DELETE FROM ledger WHERE id = 77".to_owned(),
            "lost=0 doubled=0 ghost=1 torn=0 sums=0",
        ),
        (
            format!("CREATE TABLE kept AS SELECT * FROM ledger WHERE id = {known}; DELETE FROM ledger WHERE id = {known}; \
                UPDATE accounts a SET balance = balance - k.amount FROM kept k WHERE k.account = a.id"),
            "INSERT INTO ledger SELECT * FROM kept; \
                UPDATE accounts a SET balance = balance + k.amount FROM kept k WHERE k.account = a.id; DROP TABLE kept"
                .to_owned(),
            // If its other part is on the other shard it is torn, else it is lost.
            "sums=1",
        ),
        (
            format!("INSERT INTO ledger VALUES ({mine}, {known}, -50), ({mine}, {known}, 50)"),
            format!("DELETE FROM ledger WHERE id = {known} AND account = {mine} AND amount IN (-50, 50)"),
            "doubled=1",
        ),
        (
            format!("UPDATE accounts SET balance = balance + 1 WHERE id = {mine}"),
            format!("UPDATE accounts SET balance = balance - 1 WHERE id = {mine}"),
            "lost=0 doubled=0 ghost=0 torn=0 sums=2",
        ),
        (
            format!("INSERT INTO ledger VALUES ({theirs}, 78, 0)"),
            "DELETE FROM ledger WHERE id = 78".to_owned(),
            "lost=0 doubled=0 ghost=1 torn=1 sums=1",
        ),
    ] {
        on(0, &plant);
        let found = bank.judge(&fleet);
        assert!(!found.is_right(), "{plant}");
        if expected != "sums=1" {
            assert!(found.to_string().contains(expected), "{plant}: {found}");
        } else {
            assert_eq!(found.lost.len() + found.torn.len(), 1, "{plant}: {found}");
        }
        on(0, &undo);
    }
    bank.release();
    assert!(bank.goes_on(10, LIMIT));
    assert!(bank.hold(LIMIT));
    let right = bank.judge(&fleet);
    assert!(right.is_right(), "{right}");
    let totals = on_all_in(&fleet, "postgres", "SELECT sum(balance) FROM accounts");
    let total: i64 = totals.iter().map(|t| t.parse::<i64>().unwrap()).sum();
    assert_eq!(total, bank.total());
}
