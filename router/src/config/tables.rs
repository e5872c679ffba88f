//! Which tables are sharded, by what, and where the rest lives.

use std::sync::Arc;

use mothership_shardmap::{KeyBytes, KeyType};

use super::documents::{NullsWord, WrittenColumn, WrittenUnique};
use super::names::Name;
use super::section::{Node, Reader, settings};
use super::value::{At, Value, mismatch, quote, text_values, words};
use mothership_shardmap::{Label, TablePattern};

/// Everything the file says about tables, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Tables {
    /// What a table is that nothing is said about.
    pub default: DefaultTable,
    /// What becomes of an UPDATE that leads a row to another shard.
    pub key_updates: KeyUpdates,
    /// The declarations in the order of the file.
    pub declared: Vec<Table>,
}

impl Tables {
    /// The declaration of a table: its own, else the first pattern that covers it.
    pub fn find(&self, schema: &str, table: &str) -> Option<&Table> {
        let covers = |declared: &&Table| declared.name.matches(schema, table);
        let own = self
            .declared
            .iter()
            .filter(|declared| declared.name.is_exact())
            .find(covers);
        own.or_else(|| self.declared.iter().find(covers))
    }
}

/// The declaration of a table, or of all that fit a pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Which tables.
    pub name: TablePattern,
    /// Where their rows live.
    pub place: Place,
    /// Accept UNIQUE and the like that sharding cannot enforce.
    pub allow_unenforced_unique: bool,
}

/// Where the rows of a table live.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// On the home shard.
    Home,
    /// On every shard, all of them.
    Reference,
    /// On the shard that owns the key.
    Sharded {
        /// The columns of the key, at least one, in order.
        key: Vec<Name>,
        /// Their types where the file gives them; then as many as columns.
        key_types: Vec<KeyType>,
        /// The strategy that maps keys to shards; `None` is the slots.
        strategy: Option<Label>,
        /// The table whose rows with equal keys live on the same shard; itself one that is not colocated with another.
        colocate: Option<TablePattern>,
    },
    /// In a collection of MongoDB, on the shard that owns the key.
    Documents {
        /// The columns of the key: those of the primary key where no other is given.
        key: Vec<Name>,
        /// Their types.
        key_types: Vec<KeyType>,
        /// Shards of MongoDB, at least one; each has an equal part of the slots, in this order.
        shards: Vec<Label>,
        /// What its columns are.
        collection: Arc<mothership_documents::Collection>,
    },
}

settings! {
    /// Settings for all tables, and for tables that are not declared.
    pub struct TableDefaults {
        /// What becomes of them.
        restart default: DefaultTable = DefaultTable::Home;
        /// An UPDATE that sets the shard key of a sharded table, so that rows belong to another shard.
        restart key_updates: KeyUpdates = KeyUpdates::Refuse;
    }
}

words! {
    /// What becomes of a table that is not declared.
    pub enum DefaultTable {
        /// It lives on the home shard.
        Home = "home",
        /// It is sharded by the first column of its primary key, when it is new and has one, and if shards can enforce all its other constraints; else it lives on the home shard.
        Auto = "auto",
    }
}

words! {
    /// What becomes of an UPDATE that leads rows to other shards.
    pub enum KeyUpdates {
        /// It fails.
        Refuse = "refuse",
        /// The rows are deleted where they are and inserted where they belong, in one transaction.
        Move = "move",
    }
}

settings! {
    /// One table, or a pattern of tables; also for tables that are created later. A table's own entry takes precedence over patterns. If several patterns match, the first one applies.
    pub struct WrittenTable {
        /// `orders` (in schema public), `shop.orders`, `shop.*`.
        restart name: At<TablePattern>;
        /// What kind of table it is; `sharded` when a key is given.
        restart kind: Option<At<TableKind>>;
        /// The column of the key, or a list of columns.
        restart key: Vec<At<Name>>;
        /// The type of each key column. If it is not set, the router reads the type from the catalog. If it is set, the catalog must have the same type.
        restart key_type: Vec<At<KeyType>>;
        /// A [[strategy]]; without it, the slots of the shards.
        restart strategy: Option<At<Label>>;
        /// Rows with the same key live on the same shard as those of this table.
        restart colocate: Option<At<TablePattern>>;
        /// Accept UNIQUE, PRIMARY KEY and EXCLUDE constraints that the shards cannot enforce. `SHOW MAP` lists them. A foreign key must refer to rows of the same shard all the same: a shard would refuse rows whose target is on another one.
        reload allow_unenforced_unique: bool = false;
        /// Of kind "documents": shards of MongoDB; the slots are divided evenly among them, in this order.
        restart shards: Vec<At<Label>>;
        /// Of kind "documents": the name of the collection; the table's own when it is not set.
        restart collection: Option<String>;
        /// Of kind "documents": the role that owns the table on the home shard, and so grants rights on it; If it is not set: the role that owns the table by now (ALTER TABLE ... OWNER TO), initially the control role.
        restart owner: Option<String>;
        /// Of kind "documents": how NULL is written.
        restart nulls: NullsWord = NullsWord::Store;
        /// Of kind "documents": its columns in the order of `SELECT *`.
        restart column: Vec<WrittenColumn>;
        /// Of kind "documents": its unique keys; the primary key on `_id` when none is given.
        restart unique: Vec<WrittenUnique>;
    }
}

words! {
    /// Where the rows of a table live.
    pub enum TableKind {
        /// Each on the shard that owns its key.
        Sharded = "sharded",
        /// All of them on every shard.
        Reference = "reference",
        /// All of them on the home shard.
        Home = "home",
        /// In a collection of MongoDB.
        Documents = "documents",
    }
}

text_values! {
    KeyType: "a type that can be a key (bool, int2, int4, int8, numeric, text, varchar, uuid, date, timestamp, timestamptz, bytea)", KeyType::from_name, |key_type| key_type.name().to_owned();
}

/// A way to map keys to shards other than the slots, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Strategy {
    /// Unique.
    pub name: Label,
    /// How.
    pub kind: StrategyKind,
}

/// How keys are mapped to shards.
#[derive(Debug, Clone, PartialEq)]
pub enum StrategyKind {
    /// By ranges that do not overlap.
    Range {
        /// The types of the key's columns.
        key_types: Vec<KeyType>,
        /// In the order of the file.
        ranges: Vec<KeyRange>,
        /// The shard of every other key; without it they have none.
        other: Option<Label>,
    },
    /// By lists of keys.
    List {
        /// The types of the key's columns.
        key_types: Vec<KeyType>,
        /// In the order of the file.
        lists: Vec<KeyList>,
        /// The shard of every other key; without it they have none.
        other: Option<Label>,
    },
    /// By a table on the home shard.
    Directory {
        /// The lookup table.
        table: TablePattern,
        /// Its column with the key.
        key_column: Name,
        /// Its column with the name of the shard.
        shard_column: Name,
    },
    /// By PostgreSQL's own hash partitioning: the shard of remainder 0, of 1, and so on; the modulus is their number.
    Postgres {
        /// One for each remainder.
        remainders: Vec<Label>,
    },
}

/// Keys from one up to another, which is not included. A key with fewer columns than
/// the table's stands before all keys that begin with it.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyRange {
    /// The first key; empty: no lower end.
    pub from: Vec<KeyBytes>,
    /// The first key after it; empty: no upper end.
    pub below: Vec<KeyBytes>,
    /// Their shard.
    pub shard: Label,
}

/// Keys one by one.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyList {
    /// Whole keys.
    pub keys: Vec<Vec<KeyBytes>>,
    /// Their shard.
    pub shard: Label,
}

settings! {
    /// A named way to map keys to shards, for tables that do not use the slots.
    pub struct WrittenStrategy {
        /// Its name.
        restart name: At<Label>;
        /// How it maps.
        restart kind: StrategyWord;
        /// Of `range` and `list`: the type of each key column.
        restart key_type: Vec<KeyType>;
        /// Of `range`: its parts.
        restart range: Vec<WrittenRange>;
        /// Of `list`: its parts.
        restart list: Vec<WrittenList>;
        /// Of `range` and `list`: the shard of every other key. Without it such a key has no shard and is refused.
        restart other: Option<At<Label>>;
        /// Of `directory`: the lookup table on the home shard.
        restart table: Option<At<TablePattern>>;
        /// Of `directory`: its column with the key, which is unique.
        restart key_column: Option<Name>;
        /// Of `directory`: its column with the name of the shard.
        restart shard_column: Option<Name>;
        /// Of `postgres`: the shard of each remainder, beginning with 0; their number is the modulus.
        restart remainders: Vec<At<Label>>;
    }
}

words! {
    /// How a strategy maps keys to shards.
    pub enum StrategyWord {
        /// By ranges of keys.
        Range = "range",
        /// By lists of keys.
        List = "list",
        /// By a lookup table.
        Directory = "directory",
        /// By PostgreSQL's own hash partitioning.
        Postgres = "postgres",
    }
}

settings! {
    /// One range of keys.
    pub struct WrittenRange {
        /// The first key, for a key of several columns as a list; left out: no lower end.
        restart from: Vec<At<KeyText>>;
        /// The first key that no longer belongs to it; left out: no upper end.
        restart below: Vec<At<KeyText>>;
        /// Where these keys live.
        restart shard: At<Label>;
    }
}

settings! {
    /// One list of keys.
    pub struct WrittenList {
        /// The keys; those of several columns as lists: `[[1, "a"], [2, "b"]]`.
        restart keys: Vec<Vec<At<KeyText>>>;
        /// Where these keys live.
        restart shard: At<Label>;
    }
}

/// A key as it is written in the file, in PostgreSQL's text form; its type is known elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyText(pub String);

impl Value for KeyText {
    type Bound = ();

    fn kind() -> String {
        "a key as text, a whole number, or true or false".to_owned()
    }

    fn read(node: &Node<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let value = node.get_ref();
        let number =
            || i64::from_str_radix(value.as_integer()?.as_str(), value.as_integer()?.radix()).ok();
        let text = value
            .as_str()
            .filter(|text| !text.contains('\0'))
            .map(str::to_owned);
        let text = text.or_else(|| number().map(|number| number.to_string()));
        let text = text.or_else(|| value.as_bool().map(|value| value.to_string()));
        if text.is_none() {
            mismatch(node, path, &Self::kind(), reader);
        }
        text.map(KeyText)
    }

    fn show(&self) -> String {
        quote(&self.0)
    }
}
