//! Partitions of a sharded table that come and go: on all shards or on none, with the rows that one PostgreSQL keeps.

use rand::RngExt;
use rand::rngs::StdRng;

/// How many a table has at first.
const COUNT: usize = 3;

/// A partition that DDL has been told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Attached,
    /// A table of its own, with the rows that it had.
    Detached,
    Dropped,
}

/// The hash partitions of a table.
#[derive(Debug, Clone)]
pub struct Partitions {
    table: String,
    pieces: [Piece; COUNT],
}

impl Partitions {
    /// All are there.
    pub fn new(table: &str) -> Partitions {
        Partitions {
            table: table.to_owned(),
            pieces: [Piece::Attached; COUNT],
        }
    }

    /// What makes them.
    pub fn creates(table: &str) -> Vec<String> {
        let created = Partitions::new(table);
        (0..COUNT).map(|at| created.create(at)).collect()
    }

    /// One change, in turn: its statement, and the partitions once it is done.
    pub fn change(&self, rng: &mut StdRng) -> (String, Partitions) {
        let at = rng.random_range(0..COUNT);
        let (table, name) = (&self.table, self.name(at));
        let dropped = (format!("DROP TABLE {name}"), Piece::Dropped);
        let (sql, becomes) = match self.pieces[at] {
            Piece::Attached if rng.random_bool(0.2) => dropped,
            Piece::Attached => (
                format!("ALTER TABLE {table} DETACH PARTITION {name}"),
                Piece::Detached,
            ),
            Piece::Detached if rng.random_bool(0.2) => dropped,
            Piece::Detached => (
                format!("ALTER TABLE {table} ATTACH PARTITION {name} {}", bound(at)),
                Piece::Attached,
            ),
            Piece::Dropped => (self.create(at), Piece::Attached),
        };
        let mut pieces = self.pieces;
        pieces[at] = becomes;
        let table = table.clone();
        (sql, Partitions { table, pieces })
    }

    /// The tables that were partitions.
    pub fn detached(&self) -> Vec<String> {
        let places = (0..COUNT).filter(|at| self.pieces[*at] == Piece::Detached);
        places.map(|at| self.name(at)).collect()
    }

    fn name(&self, at: usize) -> String {
        format!("{}_{at}", self.table)
    }

    fn create(&self, at: usize) -> String {
        let (table, name) = (&self.table, self.name(at));
        format!("CREATE TABLE {name} PARTITION OF {table} {}", bound(at))
    }
}

fn bound(at: usize) -> String {
    format!("FOR VALUES WITH (MODULUS {COUNT}, REMAINDER {at})")
}
