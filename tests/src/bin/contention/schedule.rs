//! What the clients of one schedule do.
//!
//! In most schedules every transaction takes its locks in one order: tables as they are listed here, rows by their keys.
//! PostgreSQL knows no deadlock there. Others have no order, and say so.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use std::fmt;

/// The tables: sharded, reference, and on the home shard.
pub const TABLES: [usize; 3] = [0, 1, 2];
/// So many rows they have at first, with the keys from 1.
pub const ROWS: i64 = 40;
/// Rows of the sharded table that are locked, each for a counter so many keys further on. A client reads that, adds one and
/// writes it back: nobody does so without the lock.
pub const LOCKS: std::ops::RangeInclusive<i64> = 101..=104;
/// From a lock to its counter.
pub const COUNTER: i64 = 100;
/// Stands in a text for what was read before.
pub const READ: &str = ":read";

/// The name of a table.
pub fn name(table: usize) -> &'static str {
    ["acc", "cfg", "loc"][table]
}

/// What becomes of the sum of a table's numbers by a statement that has ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adds {
    /// Nothing.
    Nothing,
    /// So much for each row of its tag.
    Each(i64),
    /// What its rows say goes away.
    Returned,
}

/// A statement and its parameters, in the texts of the protocol.
#[derive(Clone, Debug)]
pub struct Statement {
    /// What is read before; the value takes the place of [`READ`] in the text.
    pub reads: Option<String>,
    pub sql: String,
    pub extended: bool,
    pub table: usize,
    pub adds: Adds,
}

/// Statements that hold together, or one.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub block: bool,
    pub statements: Vec<Statement>,
}

/// The isolation of a schedule's transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// READ COMMITTED.
    Default,
    /// REPEATABLE READ, said by BEGIN. What is outside of a block is READ COMMITTED.
    Blocks,
    /// REPEATABLE READ, a setting of the sessions: blocks and single statements.
    Sessions,
}

impl Isolation {
    /// What opens a block.
    pub fn begin(self) -> &'static str {
        match self {
            Isolation::Blocks => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            Isolation::Default | Isolation::Sessions => "BEGIN",
        }
    }

    /// What the sessions are set to.
    pub fn setting(self) -> &'static str {
        match self {
            Isolation::Sessions => "SET default_transaction_isolation = 'repeatable read'",
            Isolation::Default | Isolation::Blocks => "RESET default_transaction_isolation",
        }
    }
}

/// What all clients do.
#[derive(Debug)]
pub struct Schedule {
    pub clients: Vec<Vec<Transaction>>,
    pub isolation: Isolation,
    ordered: bool,
    told: Vec<&'static str>,
}

impl Schedule {
    /// One by chance.
    pub fn random(rng: &mut StdRng, most: usize) -> Schedule {
        let ordered = rng.random_bool(0.85);
        let mut told = Vec::new();
        if !ordered {
            told.push("40P01");
        }
        let clients = rng.random_range(2..=most);
        let same = rng.random_bool(0.3);
        let counts = rng.random_bool(0.1);
        let length = rng.random_range(1..=8);
        let isolation = match rng.random_range(0..10) {
            0 | 1 => Isolation::Blocks,
            2 => Isolation::Sessions,
            _ => Isolation::Default,
        };
        if isolation != Isolation::Default {
            // The router refuses some writes of reference tables there (docs/refused.md).
            told.extend(["40001", "0A000"]);
        }
        let mut script = |rng: &mut StdRng| -> Vec<Transaction> {
            (0..length)
                .map(|_| transaction(rng, ordered, &mut told))
                .collect()
        };
        let clients = match (counts, same) {
            // All of them want one counter.
            (true, _) => vec![vec![counting(rng); 8]; clients],
            (false, true) => vec![script(rng); clients],
            (false, false) => (0..clients).map(|_| script(rng)).collect(),
        };
        Schedule {
            clients,
            isolation,
            ordered,
            told,
        }
    }

    /// Whether one PostgreSQL may tell this SQLSTATE.
    pub fn may_tell(&self, code: &str) -> bool {
        self.told.contains(&code)
    }
}

fn transaction(rng: &mut StdRng, ordered: bool, told: &mut Vec<&'static str>) -> Transaction {
    let block = rng.random_bool(0.5);
    if !block {
        let table = table(rng);
        let keys = keys(rng, 8);
        let statements = vec![statement(rng, table, &keys, ordered, told)];
        return Transaction { block, statements };
    }
    let mut statements = Vec::new();
    let mut tables: Vec<usize> = (0..rng.random_range(1..=2)).map(|_| table(rng)).collect();
    tables.sort();
    tables.dedup();
    for table in tables {
        let all = keys(rng, 9);
        // Parts of the keys, one behind the other.
        let mut rest = &all[..];
        while !rest.is_empty() {
            let (part, more) = rest.split_at(rng.random_range(1..=rest.len()));
            statements.push(statement(rng, table, part, ordered, told));
            rest = more;
        }
        if table == 0 && ordered && rng.random_bool(0.3) {
            statements.extend(counted(rng));
        }
    }
    if !ordered {
        let at = rng.random_range(0..statements.len());
        statements.rotate_left(at);
    }
    Transaction { block, statements }
}

/// A block that only counts.
fn counting(rng: &mut StdRng) -> Transaction {
    Transaction {
        block: true,
        statements: counted(rng).into(),
    }
}

/// A lock, and what it is for. The keys come behind all others.
fn counted(rng: &mut StdRng) -> [Statement; 2] {
    let t = name(0);
    let lock = rng.random_range(LOCKS);
    let counter = lock + COUNTER;
    let lock = match rng.random_bool(0.5) {
        true => format!("SELECT n FROM {t} WHERE id = {lock} FOR UPDATE"),
        false => format!("UPDATE {t} SET n = n WHERE id = {lock}"),
    };
    let statement = |reads, sql, adds| Statement {
        reads,
        sql,
        extended: false,
        table: 0,
        adds,
    };
    let reads = Some(format!("SELECT n FROM {t} WHERE id = {counter}"));
    let write = format!("UPDATE {t} SET n = {READ} + 1 WHERE id = {counter}");
    [
        statement(None, lock, Adds::Nothing),
        statement(reads, write, Adds::Each(1)),
    ]
}

fn table(rng: &mut StdRng) -> usize {
    *[0, 0, 0, 1, 1, 2].choose(rng).unwrap()
}

/// Some keys in their order, mostly among few.
fn keys(rng: &mut StdRng, most: usize) -> Vec<i64> {
    let from = if rng.random_bool(0.7) { 8 } else { ROWS };
    let count = rng.random_range(1..=most);
    let mut keys: Vec<i64> = (0..count).map(|_| rng.random_range(1..=from)).collect();
    keys.sort();
    keys.dedup();
    keys
}

fn statement(
    rng: &mut StdRng,
    table: usize,
    keys: &[i64],
    ordered: bool,
    told: &mut Vec<&'static str>,
) -> Statement {
    let t = name(table);
    let mut keys = keys.to_vec();
    if !ordered && rng.random_bool(0.5) {
        keys.reverse();
    }
    let list = keys
        .iter()
        .map(i64::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    let rows = |n: &str| {
        let rows = keys.iter().map(|key| format!("({key}, {n})"));
        rows.collect::<Vec<_>>().join(", ")
    };
    let (least, most) = (*keys.iter().min().unwrap(), *keys.iter().max().unwrap());
    let (sql, adds) = match rng.random_range(0..13) {
        0..=2 => {
            let returning = if rng.random_bool(0.3) {
                " RETURNING id"
            } else {
                ""
            };
            let sql = format!(
                "INSERT INTO {t} (id, n) VALUES {} ON CONFLICT (id) DO UPDATE SET n = {t}.n + 1{returning}",
                rows("1")
            );
            (sql, Adds::Each(1))
        }
        3..=4 => (
            format!("UPDATE {t} SET n = n + 1 WHERE id IN ({list})"),
            Adds::Each(1),
        ),
        5 => {
            let sql = format!("UPDATE {t} SET n = n + 1 WHERE id BETWEEN {least} AND {most}");
            (sql, Adds::Each(1))
        }
        6 => {
            let how = ["UPDATE", "NO KEY UPDATE", "SHARE"].choose(rng).unwrap();
            // Who shares a lock and then wants it alone waits for others who do.
            let how = if *how == "SHARE" && ordered {
                "UPDATE"
            } else {
                how
            };
            let some = match rng.random_range(0..4) {
                0 => format!("LIMIT {}", rng.random_range(1..=keys.len())),
                _ => String::new(),
            };
            // A block that skips locked rows of a reference table does not wait with its writers (docs/differences.md).
            let skips = if table != 1 && rng.random_bool(0.2) {
                " SKIP LOCKED"
            } else {
                ""
            };
            let sql = format!(
                "SELECT id, n FROM {t} WHERE id IN ({list}) ORDER BY id {some} FOR {how}{skips}"
            );
            (sql, Adds::Nothing)
        }
        7 => (
            format!("DELETE FROM {t} WHERE id IN ({list}) RETURNING n"),
            Adds::Returned,
        ),
        8 if rng.random_bool(0.3) => {
            told.push("23505");
            let more = (0..rng.random_range(1..80)).map(|n| format!("({}, 1)", 1000 + n));
            let more = more.collect::<Vec<_>>().join(", ");
            // The first row is there already, or was until just now.
            (
                format!("INSERT INTO {t} (id, n) VALUES (0, 1), {more}"),
                Adds::Each(1),
            )
        }
        8 => {
            let sql = format!(
                "INSERT INTO {t} (id, n) VALUES {} ON CONFLICT DO NOTHING",
                rows("1")
            );
            (sql, Adds::Each(1))
        }
        9 | 10 => {
            // What it stores comes of a query, whose rows the router divides.
            let source = match rng.random_bool(0.5) {
                true => format!("unnest(ARRAY[{list}])"),
                false => format!("generate_series({least}, {most})"),
            };
            let conflict = match rng.random_range(0..4) {
                0 => "NOTHING".to_owned(),
                1 => format!("UPDATE SET n = {t}.n + 1 RETURNING id"),
                _ => format!("UPDATE SET n = {t}.n + 1"),
            };
            let sql = format!(
                "INSERT INTO {t} (id, n) SELECT g, 1 FROM {source} g ON CONFLICT (id) DO {conflict}"
            );
            (sql, Adds::Each(1))
        }
        11 => {
            let update = format!("UPDATE {t} SET n = n + 1 WHERE id IN ({list}) RETURNING id, n");
            (
                format!("WITH u AS ({update}) SELECT id, n FROM u"),
                Adds::Each(1),
            )
        }
        _ => (
            format!("UPDATE {t} SET n = n + 1 WHERE id = {}", keys[0]),
            Adds::Each(1),
        ),
    };
    Statement {
        reads: None,
        sql,
        extended: rng.random_bool(0.5),
        table,
        adds,
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let isolation = self.isolation;
        writeln!(f, "     ordered {}, isolation {isolation:?}", self.ordered)?;
        for (client, script) in self.clients.iter().enumerate() {
            for transaction in script {
                let texts = transaction.statements.iter().map(|s| {
                    let way = if s.extended { "extended" } else { "simple" };
                    let reads = s.reads.iter().map(|read| format!("{read} -- {READ}; "));
                    format!("{}{} -- {way}", reads.collect::<String>(), s.sql)
                });
                let begin = format!("{}; ", isolation.begin());
                let block = if transaction.block {
                    begin.as_str()
                } else {
                    ""
                };
                writeln!(
                    f,
                    "     {client}: {block}{}",
                    texts.collect::<Vec<_>>().join("; ")
                )?;
            }
        }
        Ok(())
    }
}
