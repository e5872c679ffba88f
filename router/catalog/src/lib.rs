//! The catalog: what the shards say about their tables, types and functions, as an immutable snapshot.
//!
//! The planner reads this snapshot and never asks a server. `decode` makes it from the answers to `queries`; `text`
//! reads it from a file (for tests and `mothership explain`); `drift` compares the catalogs of shards. Nothing here
//! knows which tables are sharded: that is the job of the shard map.

pub mod behind;
pub mod custom_settings;
pub mod decode;
pub mod drift;
pub mod fingerprint;
pub mod lasting;

pub mod oids;
pub mod one_server;
pub mod outside;
pub mod own;
pub mod prepared;
pub mod queries;
pub mod relation;
pub mod rights;
pub mod text;
pub mod times;
pub mod types;
pub mod unread;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use mothership_sql::quote;

pub use drift::{Drift, drift};
pub use fingerprint::Fingerprint;
pub use oids::Oids;
pub use relation::{
    Action, Check, Column, DefaultKind, Events, ForeignKey, FromSequence, Handed, Key, Leaf,
    LeafBound, Partitioning, Persistence, Policy, Relation, RelationKind, Strategy, Trigger,
};
pub use rights::{Rights, TablePrivileges};
pub use types::{BoundFunction, Collation, Function, FunctionKind, TypeInfo, TypeKind, Volatility};

/// A schema-qualified name, already folded as PostgreSQL folds it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The schema, `public` for example.
    pub schema: String,
    /// The object's own name.
    pub name: String,
}

impl Name {
    /// A name from its two parts.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Name {
        Name {
            schema: schema.into(),
            name: name.into(),
        }
    }

    /// Both parts as SQL.
    pub fn quoted(&self) -> String {
        format!(
            "{}.{}",
            quote::identifier(&self.schema),
            quote::identifier(&self.name)
        )
    }

    /// Whether the name is in a schema of PostgreSQL itself.
    pub fn is_system(&self) -> bool {
        is_system_schema(&self.schema)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// `FirstNormalObjectId` of PostgreSQL: the object ids below it are its own.
const FIRST_OF_USERS: u32 = 16_384;

/// No schema at all.
pub static NOWHERE: BTreeSet<String> = BTreeSet::new();

/// Whether a schema belongs to PostgreSQL itself.
pub fn is_system_schema(schema: &str) -> bool {
    matches!(schema, "pg_catalog" | "information_schema" | "pg_toast")
}

/// The objects of one database at one moment. It has only objects of users; the planner knows those in `pg_catalog` by
/// name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// `server_version_num`, 150004 for 15.4; 0 when unknown.
    pub server_version: u32,
    /// The database's encoding and collation with the versions of the libraries behind them, in words. Databases where
    /// these words are equal sort texts in the same order.
    pub text_order: String,
    /// Another shard sorts texts in another order, so the shards sort and compare texts differently.
    pub text_order_differs: bool,
    /// The schemas that are not PostgreSQL's own.
    pub schemas: BTreeSet<String>,
    /// The roles that have USAGE on a schema, if not everybody has it. To all others a search path does not have the schema.
    pub schema_users: BTreeMap<String, BTreeSet<String>>,
    /// Tables, views, sequences.
    pub relations: BTreeMap<Name, Relation>,
    /// The table of each index, by the index's name.
    pub indexes: BTreeMap<Name, Name>,
    /// The table of each set of extended statistics, by the name of the statistics.
    pub statistics: BTreeMap<Name, Name>,
    /// Enums, domains, composites and other types of users.
    pub types: BTreeMap<Name, TypeInfo>,
    /// Functions, procedures and aggregates of users; several by overloading.
    pub functions: BTreeMap<Name, Vec<Function>>,
    /// Operators of users, by symbol, in any schema but `pg_catalog`, with their functions by name.
    pub operators: BTreeMap<String, BTreeMap<String, BoundFunction>>,
    /// A user's operator compares values of one of PostgreSQL's own types, so it is not known what `=` means.
    pub compares_otherwise: bool,
    /// The names of users' functions that are casts. A statement need not name them to call them.
    pub cast_functions: BTreeMap<String, BoundFunction>,
    /// Installed extensions by name, with their version.
    pub extensions: BTreeMap<String, String>,
    /// Tables that the other shards do not have: they were made before tables were sharded automatically, or have no
    /// column to shard them by. A table that no declaration names stays where it is.
    pub home_only: BTreeSet<Name>,
    /// Tables that do not fit their declaration: nothing says where their rows are. Empty in a catalog that was just read.
    pub misfits: BTreeSet<Name>,
    /// Tables that every other shard has as well. Empty if there is only one shard.
    pub everywhere: BTreeSet<Name>,
    /// The rights on tables whose rows are documents, as far as they are certain.
    pub rights: Rights,
}

impl Catalog {
    /// The relation with exactly this name.
    pub fn relation(&self, name: &Name) -> Option<&Relation> {
        self.relations.get(name)
    }

    /// Whether a search path has this schema for a role: PostgreSQL leaves out those on which the role has no USAGE.
    ///
    /// <https://www.postgresql.org/docs/current/ddl-schemas.html#DDL-SCHEMAS-PRIV>
    pub fn may_use(&self, schema: &str, role: &str) -> bool {
        let users = self.schema_users.get(schema);
        users.is_none_or(|users| users.contains(role))
    }

    /// The first relation with this name along a search path.
    pub fn find<'a>(&'a self, name: &str, search_path: &[String]) -> Option<&'a Relation> {
        // PostgreSQL looks into pg_catalog first unless the path names it.
        search_path
            .iter()
            .find_map(|schema| self.relations.get(&Name::new(schema.clone(), name)))
    }

    /// The user type with that object id on this shard.
    pub fn type_by_oid(&self, oid: u32) -> Option<&TypeInfo> {
        self.types.values().find(|t| t.oid == oid)
    }

    /// Whether texts of the default collation compare byte by byte, in UTF8, on every shard.
    pub fn sorts_bytes(&self) -> bool {
        let words: Vec<&str> = self.text_order.split(' ').collect();
        let library = self.server_version < 150_000 || words.get(3) == Some(&"c");
        let plain = |name: Option<&&str>| matches!(name, Some(&"C" | &"POSIX"));
        words.first() == Some(&"UTF8") && plain(words.get(1)) && library && !self.text_order_differs
    }

    /// The base type of a domain, through all domains below it. For any other type, the type itself.
    pub fn base_type(&self, oid: u32) -> u32 {
        let mut current = oid;
        // A chain of domains ends; the limit protects against a broken catalog.
        for _ in 0..32 {
            match self.type_by_oid(current).map(|t| &t.kind) {
                Some(TypeKind::Domain { base, .. }) => current = *base,
                _ => return current,
            }
        }
        current
    }

    /// The user-defined types that values of a type consist of: a domain and the types below it, the elements of an
    /// array.
    pub fn types_under(&self, oid: u32) -> Vec<(&Name, &TypeKind)> {
        let mut found = Vec::new();
        let mut current = oid;
        // A chain of domains ends; the limit protects against a broken catalog.
        for _ in 0..32 {
            if current < FIRST_OF_USERS {
                break;
            }
            let mut types = self.types.iter();
            let of = |info: &TypeInfo| info.oid == current || info.array_oid == current;
            let Some((name, info)) = types.find(|(_, info)| of(info)) else {
                break;
            };
            found.push((name, &info.kind));
            match &info.kind {
                TypeKind::Domain { base, .. } => current = *base,
                TypeKind::Enum(_) | TypeKind::Other => break,
            }
        }
        found
    }

    /// Whether a function with this unqualified name may write. A function that is not in the catalog counts as one
    /// that may: somebody may have created it since the catalog was read.
    pub fn may_write(&self, name: &str) -> bool {
        let mut known = self.functions_named(name).peekable();
        known.peek().is_none() || known.any(|f| f.volatility == Volatility::Volatile)
    }

    /// All user-defined functions with this unqualified name, in any schema.
    pub fn functions_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Function> {
        self.functions
            .iter()
            .filter(move |(n, _)| n.name == name)
            .flat_map(|(_, list)| list)
    }
}
