//! Tables, views and sequences, as far as the planner needs to know them.

use super::{Collation, Name};

/// A table, view or sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Its qualified name.
    pub name: Name,
    /// Its object id on this shard, 0 when read from a file.
    pub oid: u32,
    /// What it is.
    pub kind: RelationKind,
    /// Whether it survives a crash, and whether replicas have it.
    pub persistence: Persistence,
    /// Columns in their order, dropped ones left out.
    pub columns: Vec<Column>,
    /// The primary key and unique constraints and indexes.
    pub keys: Vec<Key>,
    /// Exclusion constraints by name, with their plain columns.
    pub exclusions: Vec<Key>,
    /// Foreign keys of this table.
    pub foreign_keys: Vec<ForeignKey>,
    /// CHECK constraints.
    pub checks: Vec<Check>,
    /// How it is partitioned, if it is.
    pub partitioning: Option<Partitioning>,
    /// The table that this one is a partition or an inheritance child of.
    pub parent: Option<Name>,
    /// Whether it has or once had partitions or inheritance children.
    pub has_children: bool,
    /// Triggers of users (not those of foreign keys).
    pub triggers: Vec<Trigger>,
    /// Whether rules rewrite statements on it.
    pub has_rules: bool,
    /// These rules as `pg_get_ruledef` prints them with an empty search path.
    pub rules: String,
    /// The expressions of its partition key and of its indexes, with their conditions.
    pub key_code: String,
    /// Row security: the policies, if it is enabled.
    pub row_security: Option<Vec<Policy>>,
    /// Proven: nothing that lies with the table runs a user's code when it is read or written, and nothing follows its
    /// changes into other tables, but for triggers, rules and policies, which are told above. False when unknown.
    pub contained: bool,
    /// The definition of a view, as `pg_get_viewdef` prints it with an empty search path.
    pub definition: Option<String>,
    /// The owner's name, empty when unknown.
    pub owner: String,
    /// Its definitions could not be read: somebody held it, or they are too long.
    pub unread: bool,
    /// A digest of what its definitions are printed from, empty when unknown. Object ids are part of it.
    pub stamp: String,
}

impl Relation {
    /// An ordinary permanent table without columns.
    pub fn table(name: Name) -> Relation {
        Relation {
            name,
            oid: 0,
            kind: RelationKind::Table,
            persistence: Persistence::Permanent,
            columns: Vec::new(),
            keys: Vec::new(),
            exclusions: Vec::new(),
            foreign_keys: Vec::new(),
            checks: Vec::new(),
            partitioning: None,
            parent: None,
            has_children: false,
            triggers: Vec::new(),
            has_rules: false,
            rules: String::new(),
            key_code: String::new(),
            row_security: None,
            contained: false,
            definition: None,
            owner: String::new(),
            unread: false,
            stamp: String::new(),
        }
    }

    /// The column of that name and its position.
    pub fn column(&self, name: &str) -> Option<(usize, &Column)> {
        self.columns
            .iter()
            .enumerate()
            .find(|(_, c)| c.name == name)
    }
}

/// The kinds of relations, after `pg_class.relkind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    /// `r` and `p`.
    Table,
    /// `v`.
    View,
    /// `m`.
    MaterializedView,
    /// `f`.
    ForeignTable,
    /// `S`.
    Sequence,
}

/// After `pg_class.relpersistence`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Logged, on replicas too.
    Permanent,
    /// Not logged: a replica cannot read it.
    Unlogged,
    /// Of one session.
    Temporary,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The type's object id on this shard.
    pub type_oid: u32,
    /// The type's name as `format_type` prints it without modifier.
    pub type_name: String,
    /// The type modifier, -1 for none.
    pub typmod: i32,
    /// How its texts compare.
    pub collation: Collation,
    /// NOT NULL.
    pub not_null: bool,
    /// Where a value comes from when the client gives none.
    pub default: DefaultKind,
    /// GENERATED ALWAYS AS (expression) STORED: the expression.
    pub generated: Option<String>,
    /// How its values are handed to another server.
    pub handed: Handed,
}

/// How a column's values are handed to another server as an array, so that they come out as of the same type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handed {
    /// The type without its modifier, as SQL (`format_type(type, -1)`).
    pub base: String,
    /// With it.
    pub full: String,
    /// The column's collation as SQL, where it is not that of its type.
    pub collate: Option<String>,
    /// As texts: arrays, which an array of them would flatten; what has another binary form on each server, or none;
    /// `tsquery`, as PostgreSQL does not read the binary form of an empty one; and XML, whose declaration only the text
    /// keeps.
    pub as_text: bool,
    /// It has XML within, in an array or a composite value, and no form keeps the declaration of that.
    pub loses_xml: bool,
}

impl Handed {
    /// The type in which values leave their shard, as SQL.
    pub fn sent_as(&self) -> String {
        match self.as_text {
            true => "text".to_owned(),
            false => self.base.clone(),
        }
    }

    /// A type without a modifier.
    pub fn plain(type_name: &str) -> Handed {
        Handed {
            base: type_name.to_owned(),
            full: type_name.to_owned(),
            collate: None,
            as_text: type_name.ends_with("[]") || matches!(type_name, "xml" | "tsquery"),
            loses_xml: type_name == "xml[]",
        }
    }
}

/// Where an omitted value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultKind {
    /// NULL.
    None,
    /// A constant or an expression of immutable functions, as PostgreSQL prints it.
    Constant(String),
    /// A sequence: `nextval`, `serial`, identity.
    Sequence(FromSequence),
    /// Constant within a transaction: `now()`, `CURRENT_USER`.
    Stable(String),
    /// Another value for each row.
    Volatile(String),
}

/// A default that a sequence gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromSequence {
    /// The sequence, if the default is its next value and nothing else.
    pub sequence: Option<Name>,
    /// GENERATED ALWAYS AS IDENTITY: a value of the client's own needs OVERRIDING SYSTEM VALUE.
    pub always: bool,
    /// GENERATED AS IDENTITY: whoever may insert may use the sequence.
    pub identity: bool,
}

/// A primary key, unique or exclusion constraint or unique index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The constraint's or index's name.
    pub name: String,
    /// The plain columns it covers, in its order.
    pub columns: Vec<String>,
    /// Whether it is the primary key.
    pub primary: bool,
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// The constraint's name.
    pub name: String,
    /// The referencing columns.
    pub columns: Vec<String>,
    /// The referenced table.
    pub target: Name,
    /// The referenced columns, in the order of `columns`.
    pub target_columns: Vec<String>,
    /// What becomes of rows here when the row that they refer to is updated.
    pub on_update: Action,
    /// The same when it is deleted.
    pub on_delete: Action,
    /// The columns that SET NULL or SET DEFAULT sets on delete, if not all of them.
    pub delete_sets: Vec<String>,
}

impl ForeignKey {
    /// Whether a delete or update of the target changes rows here.
    pub fn cascades(&self) -> bool {
        self.on_update != Action::Nothing || self.on_delete != Action::Nothing
    }
}

/// The actions of foreign keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// NO ACTION and RESTRICT: rows stay as they are.
    #[default]
    Nothing,
    /// CASCADE.
    Cascade,
    /// SET NULL and SET DEFAULT.
    Set,
}

/// A CHECK constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// Its expression as PostgreSQL prints it.
    pub expression: String,
}

/// A trigger of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// The function that it calls.
    pub function: Name,
    /// BEFORE or INSTEAD OF each row: it may change the row.
    pub may_change_row: bool,
    /// It is fired once for each row, and not once for a statement.
    pub each_row: bool,
    /// It sees all rows that the statement has changed, as transition tables.
    pub sees_all_rows: bool,
    /// What it is fired by.
    pub events: Events,
    /// A definition with a WHEN, as PostgreSQL prints it.
    pub condition: Option<String>,
}

/// What is done to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Events {
    /// INSERT.
    pub insert: bool,
    /// UPDATE.
    pub update: bool,
    /// DELETE.
    pub delete: bool,
    /// TRUNCATE.
    pub truncate: bool,
}

impl Events {
    /// INSERT alone.
    pub const INSERT: Events = Events::of(true, false, false);
    /// UPDATE alone.
    pub const UPDATE: Events = Events::of(false, true, false);
    /// DELETE alone.
    pub const DELETE: Events = Events::of(false, false, true);
    /// All that MERGE may do.
    pub const ANY: Events = Events::of(true, true, true);
    /// TRUNCATE alone.
    pub const TRUNCATE: Events = Events {
        truncate: true,
        ..Events::of(false, false, false)
    };

    const fn of(insert: bool, update: bool, delete: bool) -> Events {
        Events {
            insert,
            update,
            delete,
            truncate: false,
        }
    }

    /// Whether anything is in both.
    pub fn meets(self, other: Events) -> bool {
        self.insert && other.insert
            || self.update && other.update
            || self.delete && other.delete
            || self.truncate && other.truncate
    }

    /// Both.
    pub fn and(self, other: Events) -> Events {
        Events {
            insert: self.insert || other.insert,
            update: self.update || other.update,
            delete: self.delete || other.delete,
            truncate: self.truncate || other.truncate,
        }
    }
}

/// A row security policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// USING and WITH CHECK, as PostgreSQL prints them.
    pub expression: String,
}

/// How a table is partitioned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partitioning {
    /// HASH, RANGE or LIST.
    pub strategy: Strategy,
    /// The key columns; empty when an expression takes part.
    pub columns: Vec<String>,
    /// The leaves that are known.
    pub leaves: Vec<Leaf>,
}

/// Partition strategies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// PARTITION BY HASH.
    Hash,
    /// PARTITION BY RANGE.
    Range,
    /// PARTITION BY LIST.
    List,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Its name.
    pub name: Name,
    /// What it holds.
    pub bound: LeafBound,
}

/// What a partition holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeafBound {
    /// FOR VALUES WITH (modulus, remainder).
    Hash {
        /// The modulus.
        modulus: u64,
        /// The remainder.
        remainder: u64,
    },
    /// Any other bound, as PostgreSQL prints it.
    Text(String),
}
