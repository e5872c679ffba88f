//! What pgbench runs where its built-in scripts will not do, and the tables for it. Pure text.

use crate::bulk;
use crate::case::Work;
use mothership_driver::event::EVENTS;
use mothership_driver::order::Ask;

/// Branches of TPC-B by branch: many more than clients, which would else wait for each other's rows.
const BRANCHES: u32 = 1000;
/// Accounts of each.
const ACCOUNTS: u32 = 100;
/// Tellers of each.
const TELLERS: u32 = 10;

/// The tables that are sharded by their branch.
pub const BY_BRANCH: [&str; 4] = [
    "branch_accounts",
    "branch_tellers",
    "branch_totals",
    "branch_history",
];

/// Statements that make these tables and fill them.
pub fn definitions() -> Vec<String> {
    let each = |table: &str, rows: u32| {
        format!(
            "INSERT INTO {table} SELECT b, n, 0 \
             FROM generate_series(1, {BRANCHES}) b, generate_series(1, {rows}) n"
        )
    };
    let mut statements = vec![
        "CREATE TABLE branch_accounts (bid int4, aid int4, abalance int4 NOT NULL, PRIMARY KEY (bid, aid))".into(),
        "CREATE TABLE branch_tellers (bid int4, tid int4, tbalance int4 NOT NULL, PRIMARY KEY (bid, tid))".into(),
        "CREATE TABLE branch_totals (bid int4 PRIMARY KEY, bbalance int4 NOT NULL)".into(),
        "CREATE TABLE branch_history (bid int4, tid int4, aid int4, delta int4, mtime timestamp)".into(),
        each("branch_accounts", ACCOUNTS),
        each("branch_tellers", TELLERS),
        format!("INSERT INTO branch_totals SELECT b, 0 FROM generate_series(1, {BRANCHES}) b"),
    ];
    statements.extend(bulk::definitions());
    statements
}

/// pgbench's own script of point selects, which looks for the number of accounts in the tables: a shard has a part of them.
pub fn select(accounts: u32) -> String {
    format!(
        "\\set aid random(1, {accounts})\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n"
    )
}

/// The script of a work for tables of so many accounts and documents; None where pgbench has one.
pub fn script(work: Work, accounts: u32, documents: u32) -> Option<String> {
    match work {
        Work::Select | Work::Paced(_) | Work::Traced | Work::Connect | Work::Login => None,
        // pgbench reads no more than what it keeps, and copies only to fill.
        Work::Rows | Work::Copy | Work::Documents(Ask::Find | Ask::Scan | Ask::Insert) => None,
        Work::Documents(Ask::Group) => {
            let count = Ask::Group.range(documents);
            let last = documents - count + 1;
            Some(format!(
                "\\set first random(1, {last})
\\set end :first + {count}
SELECT kind, count(*), sum(n), max(happened_at) FROM {EVENTS} WHERE id >= :first AND id < :end GROUP BY kind;
"
            ))
        }
        Work::Pipeline(statements) => {
            let read = "SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n";
            let reads = read.repeat(statements as usize);
            Some(format!(
                "\\set aid random(1, {accounts})\n\\startpipeline\n{reads}\\endpipeline\n"
            ))
        }
        Work::Branch => Some(format!(
            "\\set bid random(1, {BRANCHES})
\\set aid random(1, {ACCOUNTS})
\\set tid random(1, {TELLERS})
\\set delta random(-5000, 5000)
BEGIN;
UPDATE branch_accounts SET abalance = abalance + :delta WHERE bid = :bid AND aid = :aid;
SELECT abalance FROM branch_accounts WHERE bid = :bid AND aid = :aid;
UPDATE branch_tellers SET tbalance = tbalance + :delta WHERE bid = :bid AND tid = :tid;
UPDATE branch_totals SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO branch_history (bid, tid, aid, delta, mtime) VALUES (:bid, :tid, :aid, :delta, CURRENT_TIMESTAMP);
END;
"
        )),
    }
}
