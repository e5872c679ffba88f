//! Who certainly may do what with the tables that stand for documents.
//!
//! PostgreSQL checks rights where a statement runs; what MongoDB answers runs nowhere there. So the home shard says, with
//! its catalog, which roles have which rights on a whole table. Whoever is not among them is not refused by this: the
//! home shard is asked about his statement then, and knows of rights on columns, of views and of what was granted since.

use super::Name;
use std::collections::BTreeMap;

/// Rights on one table, all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TablePrivileges {
    /// SELECT.
    pub select: bool,
    /// INSERT.
    pub insert: bool,
    /// UPDATE.
    pub update: bool,
    /// DELETE.
    pub delete: bool,
}

impl TablePrivileges {
    /// Whether these are enough for what `needed` has.
    pub fn covers(self, needed: TablePrivileges) -> bool {
        let enough = |held: bool, needed: bool| held || !needed;
        enough(self.select, needed.select)
            && enough(self.insert, needed.insert)
            && enough(self.update, needed.update)
            && enough(self.delete, needed.delete)
    }
}

/// What is known of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Rights {
    /// Nothing: the home shard is asked about every statement.
    #[default]
    Unknown,
    /// There is no PostgreSQL that could grant or deny anything.
    Everybody,
    /// By table and role. Who is missing may have rights, too.
    Of(BTreeMap<Name, BTreeMap<String, TablePrivileges>>),
}

impl Rights {
    /// Notes what a role has.
    pub fn note(&mut self, table: Name, role: String, held: TablePrivileges) {
        if !matches!(self, Rights::Of(_)) {
            *self = Rights::Of(BTreeMap::new());
        }
        if let Rights::Of(tables) = self {
            tables.entry(table).or_default().insert(role, held);
        }
    }

    /// Whether a role certainly has them on a table.
    pub fn are_certain(&self, table: &Name, role: &str, needed: TablePrivileges) -> bool {
        match self {
            Rights::Unknown => false,
            Rights::Everybody => true,
            Rights::Of(tables) => tables
                .get(table)
                .and_then(|roles| roles.get(role))
                .is_some_and(|held| held.covers(needed)),
        }
    }
}
