//! Whether the rows of several shards are rows of one table.
//!
//! Names, types, modifiers and formats must agree. OIDs of tables differ between
//! databases, and attribute numbers where a shard has dropped columns: neither
//! changes a row, so they are taken from the first shard. OIDs from 16384 on belong
//! to types that users have made and differ too; only the catalog can say which are
//! the same.

use mothership_proto::backend::Column;
use mothership_proto::report::{Report, sqlstate};

/// How the columns of a shard differ from those of the first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// Another number of columns.
    #[error("{other} columns instead of {first}")]
    Count {
        /// Of the first shard.
        first: usize,
        /// Of the other.
        other: usize,
    },
    /// Another name.
    #[error("column {column} is \"{other}\" instead of \"{first}\"")]
    Name {
        /// Counted from 1.
        column: usize,
        /// On the first shard.
        first: String,
        /// On the other.
        other: String,
    },
    /// Another type, or one of which it is not known whether it is the same.
    #[error("column {column} \"{name}\" has type {other} instead of {first}")]
    Type {
        /// Counted from 1.
        column: usize,
        /// Its name.
        name: String,
        /// OID on the first shard.
        first: u32,
        /// OID on the other.
        other: u32,
    },
    /// Another size, modifier or format.
    #[error("column {column} \"{name}\" has another length, precision or format")]
    Modifier {
        /// Counted from 1.
        column: usize,
        /// Its name.
        name: String,
    },
}

impl Difference {
    /// As the client sees it; `shard` is the one that differs.
    pub fn report(&self, shard: &str) -> Report {
        Report::error(
            sqlstate::INTERNAL_ERROR,
            "shards answer with different columns",
        )
        .detail(format!("Shard {shard}: {self}."))
        .hint("Bring the shards to the same schema; SHOW MAP lists what differs.")
    }
}

/// Compares the columns of a shard with those of the first, both in home's object ids.
/// Tables may differ: what a column comes from says nothing about its values.
///
/// # Errors
/// The first difference, from which on their rows cannot be rows of one answer.
pub fn reconcile(first: &[Column], other: &[Column]) -> Result<(), Difference> {
    if first.len() != other.len() {
        return Err(Difference::Count {
            first: first.len(),
            other: other.len(),
        });
    }
    let pairs = first.iter().zip(other).enumerate();
    for (index, (a, b)) in pairs {
        let (column, name) = (index + 1, text(&a.name));
        if a.name != b.name {
            return Err(Difference::Name {
                column,
                first: name,
                other: text(&b.name),
            });
        }
        if a.type_oid != b.type_oid {
            return Err(Difference::Type {
                column,
                name,
                first: a.type_oid,
                other: b.type_oid,
            });
        }
        if (a.type_size, a.modifier, a.format) != (b.type_size, b.modifier, b.format) {
            return Err(Difference::Modifier { column, name });
        }
    }
    Ok(())
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, type_oid: u32) -> Column {
        Column::of(name, type_oid, 4)
    }

    #[test]
    fn tables_may_have_other_oids_and_nothing_else_may_differ() {
        let first = [column("id", 23), column("kind", 20001)];
        let mut other = first.clone();
        other[0].table = 99;
        other[0].attribute = 3;
        assert_eq!(reconcile(&first, &other), Ok(()));
        let count = reconcile(&first, &first[..1]);
        assert_eq!(count, Err(Difference::Count { first: 2, other: 1 }));
        for change in [
            (|c| c.name = b"Id".to_vec()) as fn(&mut Column),
            |c| c.type_oid = 20,
            |c| c.type_oid = 20001,
            |c| c.modifier = 8,
            |c| c.type_size = 8,
            |c| c.format = 1,
        ] {
            let mut other = first.clone();
            change(&mut other[0]);
            assert!(reconcile(&first, &other).is_err(), "{other:?}");
        }
    }
}
