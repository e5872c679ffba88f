//! The configuration: one TOML file, read and checked once, at the door.
//!
//! `text -> Written (every setting as it stands in the file) -> Config (checked,
//! with references resolved)`. Every problem of a file is reported in one run, with
//! its line and what would be right. Nothing here connects to anything; files and
//! environment variables are read only for secrets, through [`Surroundings`].
//!
//! Settings are declared once each, with `settings!`; the reference page
//! (`docs/configuration.md`), the comparison of two files and the console's SHOW
//! CONFIG come from the same declarations.

mod auth;
mod documents;
mod failover;
mod limits;
mod listen;
mod observe;
mod pool;
mod rules;
pub mod shape;

mod shards;
mod tables;
mod times;
mod transactions;

mod names;
mod secret;
mod units;

mod check;
mod diff;
mod held;
mod map;
mod reference;
mod summary;
mod written;

#[cfg(test)]
mod tests;

mod problem;
mod section;
mod value;

use mothership_documents::Collection;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

pub use mothership_shardmap::{KeyType, KnownTable, Label, TablePattern};

pub use auth::{Auth, AuthMethod, AuthRule, User};
pub use diff::Change;
pub use failover::Failover;
pub use held::Reloaded;
pub use limits::{Limits, MemoryLimit};
pub use listen::{ClientTls, FileMode, Listen, SendBatch, Tls, TlsVersion, Undeclared, Workers};
pub use map::{BuiltMap, MapMistake, Misfit};
pub use names::{Name, Network, SLOTS, ServerAddress, SlotRange};
pub use observe::{Console, LogFormat, LogLevel, LogStatements, Logging, Metrics};
pub use pool::{Balance, Freshness, Pool, PoolMode, Reads};
pub use problem::{ConfigError, Problem, Problems};
pub use reference::reference;
pub use rules::{Action, Caps, Level, Origin, Rule, RuleConditions, RulePool, StatementKind};
pub use secret::Secret;
pub use section::{Applies, Entries, Group, Process, Setting, Shown, Surroundings};
pub use shards::{
    ChannelBinding, Database, Engine, PatroniApi, Role, Server, ServerTls, Shard, ShardReads,
};
pub use tables::{
    DefaultTable, KeyList, KeyRange, KeyUpdates, Place, Strategy, StrategyKind, Table, Tables,
};
pub use times::{Rate, TimeOfWeek, Zone, moment};
pub use transactions::{Catalog, Control, Sequences, Transactions};
pub use units::{ByteSize, Share, parse_duration};
pub use value::At;

/// The mode and size of the pools of one user and database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolShape {
    /// When a server connection is given back.
    pub mode: PoolMode,
    /// Connections that stay open; at most `max`.
    pub min: u32,
    /// The most connections.
    pub max: NonZeroU32,
}

/// A checked configuration. Immutable; a reload makes a new one.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where clients connect.
    pub listen: Listen,
    /// TLS towards clients.
    pub tls: Tls,
    /// Server connections.
    pub pool: Pool,
    /// Which server serves a read.
    pub balance: Balance,
    /// Requests while a shard has no primary.
    pub failover: Failover,
    /// Transactions over several shards.
    pub transactions: Transactions,
    /// What the router knows of tables.
    pub catalog: Catalog,
    /// Values from sequences.
    pub sequences: Sequences,
    /// The router's own logins.
    pub control: Control,
    /// The largest of everything else.
    pub limits: Limits,
    /// How clients log in.
    pub auth: Auth,
    /// Users with something of their own.
    pub users: Vec<User>,
    /// Databases that are declared.
    pub databases: Vec<Database>,
    /// At least one; exactly one is home.
    pub shards: Vec<Shard>,
    /// Tables that are declared, and the rest.
    pub tables: Tables,
    /// Strategies that tables name.
    pub strategies: Vec<Strategy>,
    /// Rules in their order.
    pub rules: Vec<Rule>,
    /// Metrics over HTTP.
    pub metrics: Metrics,
    /// The admin console.
    pub console: Console,
    /// The log.
    pub logging: Logging,
    /// Every setting as text, for [`Config::diff`] and the console.
    entries: Entries,
    /// What all of this was made of.
    written: Box<written::Written>,
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read, or with all of its problems.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        // The text may contain passwords.
        let text = zeroize::Zeroizing::new(text);
        Ok(Config::parse(path, &text, &Process)?)
    }

    /// Checks `text` as if it were the file at `path`, which also says what relative paths are relative to.
    ///
    /// # Errors
    /// With all problems of the text.
    pub fn parse(
        path: &Path,
        text: &str,
        surroundings: &dyn Surroundings,
    ) -> Result<Config, Problems> {
        written::read(path, text, surroundings)
    }

    /// What the servers of a shard call the database that clients call `name`.
    pub fn database_on(&self, name: &str, shard: &Label) -> String {
        match self.database(name) {
            Some(database) => database.name_on(shard).as_str().to_owned(),
            None => name.to_owned(),
        }
    }

    /// The database that clients call `name`: a declared one, or one that is passed through
    /// under its own name; `None` when there is no such database. What a declared one is called on
    /// a server is no name for clients: rules, limits and settings of the declared name would not hold.
    pub fn database(&self, name: &str) -> Option<Database> {
        if let Some(declared) = self
            .databases
            .iter()
            .find(|database| database.name.as_str() == name)
        {
            return Some(declared.clone());
        }
        match self.listen.undeclared_databases {
            Undeclared::Pass if self.is_server_name(name) => None,
            Undeclared::Pass => Name::new(name).map(Database::passed_through),
            Undeclared::Refuse => None,
        }
    }

    /// Whether a declared database has this name on a server.
    fn is_server_name(&self, name: &str) -> bool {
        let mut databases = self.databases.iter();
        databases.any(|database| database.server_names().any(|there| there.as_str() == name))
    }

    /// The user's own entry, if there is one.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users
            .iter()
            .find(|user| user.name.value.as_str() == name)
    }

    /// The mode and size of the pools of one user and database: what the user's entry says,
    /// else the database's, else the common setting.
    pub fn pool_of(&self, user: &str, database: &Database) -> PoolShape {
        let user = self.user(user);
        let max = user
            .and_then(|user| user.pool_max)
            .or(database.pool_max)
            .unwrap_or(self.pool.max);
        let min = user
            .and_then(|user| user.pool_min)
            .or(database.pool_min)
            .unwrap_or(self.pool.min);
        PoolShape {
            mode: user
                .and_then(|user| user.pool_mode)
                .or(database.pool_mode)
                .unwrap_or(self.pool.mode),
            min: min.min(max.get()),
            max,
        }
    }

    /// The shard where undeclared tables live.
    pub fn home(&self) -> &Shard {
        self.shards
            .iter()
            .find(|shard| shard.home)
            .expect("checking made exactly one shard home")
    }

    /// Whether there is a shard of PostgreSQL; without one the router stands for the home shard itself.
    pub fn has_postgres(&self) -> bool {
        !self.home().is_router
    }

    /// Whether any table is declared, so that statements must be planned.
    pub fn declares_tables(&self) -> bool {
        !self.tables.declared.is_empty() || self.tables.default == DefaultTable::Auto
    }

    /// The tables of documents that are declared.
    pub fn collections(&self) -> Vec<&Arc<Collection>> {
        let declared = self.tables.declared.iter();
        let collections = declared.filter_map(|table| match &table.place {
            Place::Documents { collection, .. } => Some(collection),
            Place::Home | Place::Reference | Place::Sharded { .. } => None,
        });
        collections.collect()
    }

    /// How many shards are of PostgreSQL, or stand for it; they come before the others.
    pub fn postgres_shards(&self) -> usize {
        let is_postgres = |shard: &&Shard| shard.engine == Engine::Postgresql;
        self.shards.iter().take_while(is_postgres).count()
    }

    /// Every setting by its path, with its default and whether a reload changes it.
    pub fn entries(&self) -> &Entries {
        &self.entries
    }
}
