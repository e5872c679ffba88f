//! Rules that steer requests by type and origin.

use std::net::IpAddr;
use std::num::NonZeroU32;

use super::names::{Label, Name, Network, TablePattern, glob};
use super::section::settings;
use super::value::{At, nonzero, words};

/// One rule, checked. The first rule that fits decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// For `SHOW RULES`, metrics and `explain`.
    pub name: Label,
    /// When it fits.
    pub when: When,
    /// What then happens.
    pub action: Action,
    /// How far ahead of others it waits for a connection; 0 without a word.
    pub priority: i8,
}

/// What a rule looks at; what is empty fits everything.
#[derive(Debug, Clone, PartialEq)]
pub struct When {
    /// Users.
    pub users: Vec<Name>,
    /// Databases, by the names that clients use.
    pub databases: Vec<Name>,
    /// Application names, with `*`.
    pub applications: Vec<String>,
    /// Networks of the client.
    pub networks: Vec<Network>,
    /// Kinds of statement.
    pub kinds: Vec<StatementKind>,
    /// Tables that the statement names, any of them.
    pub tables: Vec<TablePattern>,
}

/// Where a request comes from; the same for all requests of a session but for the application name.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The user who logged in.
    pub user: &'a str,
    /// The database by the client's name for it.
    pub database: &'a str,
    /// The application name as it is now.
    pub application: &'a str,
    /// `None` on the unix socket.
    pub address: Option<IpAddr>,
}

impl When {
    /// Does the origin fit? Kinds and tables are for `crate::rules` to compare.
    pub fn fits_origin(&self, origin: &Origin<'_>) -> bool {
        let named = |names: &[Name], name: &str| {
            names.is_empty() || names.iter().any(|one| one.as_str() == name)
        };
        named(&self.users, origin.user)
            && named(&self.databases, origin.database)
            && (self.applications.is_empty()
                || self
                    .applications
                    .iter()
                    .any(|pattern| glob(pattern, origin.application)))
            && (self.networks.is_empty()
                || self
                    .networks
                    .iter()
                    .any(|network| network.contains(origin.address)))
    }
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The primary serves it.
    Primary,
    /// A replica serves it when it is a read that a replica may serve. With a label, only servers that have it.
    Replica {
        /// A label of servers.
        label: Option<Label>,
    },
    /// A statement without tables runs on this shard; all others are refused when they belong elsewhere.
    Shard(Label),
    /// It uses pools of its own under this name, with its own connections and queue.
    Pool {
        /// The name.
        name: Label,
        /// The most connections of one such pool; that of other pools when it is not given.
        max: Option<NonZeroU32>,
    },
    /// It is refused.
    Refuse {
        /// What the client reads.
        message: String,
    },
}

settings! {
    /// One rule. The first that fits decides; what is left out fits everything.
    pub struct WrittenRule {
        /// Its name in `SHOW RULES`, metrics and `explain`.
        reload name: At<Label>;
        /// Users.
        reload users: Vec<Name>;
        /// Databases, by the names that clients use.
        reload databases: Vec<Name>;
        /// Application names; `*` stands for any characters.
        reload applications: Vec<String>;
        /// Networks of the client.
        reload networks: Vec<Network>;
        /// Kinds of statement, any of them.
        reload kinds: Vec<StatementKind>;
        /// Tables; it fits a statement that names any of them, a partition, a view or a function over one.
        reload tables: Vec<TablePattern>;
        /// What happens.
        reload action: At<ActionWord>;
        /// Of `shard`: which one.
        reload shard: Option<At<Label>>;
        /// Of `pool`: its name.
        reload pool: Option<At<Label>>;
        /// Of `pool`: the most connections of each of its pools, in place of the others' maximum.
        reload pool_max: Option<At<NonZeroU32>>, nonzero(1)..=nonzero(100_000);
        /// Of `replica`: only servers with this label.
        reload label: Option<At<Label>>;
        /// Of all but `refuse`: whoever waits for a connection is served before those of a lower priority. Without
        /// it 0. Each point counts as 100 ms of waiting, so that nobody waits for ever.
        reload priority: Option<At<i8>>, -100..=100;
        /// Of `refuse`: what the client reads.
        reload message: Option<At<String>>;
    }
}

words! {
    /// What a rule does.
    pub enum ActionWord {
        /// The primary answers reads, too.
        Primary = "primary",
        /// A replica answers what a replica may answer; the primary when none is fit.
        Replica = "replica",
        /// Statements without tables run on this shard; what belongs elsewhere is refused.
        Shard = "shard",
        /// They use pools of their own.
        Pool = "pool",
        /// They are refused with a message, before anything of them runs.
        Refuse = "refuse",
    }
}

words! {
    /// Kinds of statement that rules tell apart.
    pub enum StatementKind {
        /// Queries, COPY of their rows, and SHOW, if they cannot write.
        Read = "read",
        /// Everything that changes data or definitions, or may.
        Write = "write",
        /// SELECT, VALUES, TABLE, and cursors of them.
        Select = "select",
        /// INSERT, also inside of a query. Its ON CONFLICT makes no update of it.
        Insert = "insert",
        /// UPDATE, also inside of a query.
        Update = "update",
        /// DELETE, also inside of a query.
        Delete = "delete",
        /// MERGE.
        Merge = "merge",
        /// COPY in either direction.
        Copy = "copy",
        /// CREATE, ALTER, DROP, TRUNCATE, GRANT and the like, and SELECT INTO.
        Ddl = "ddl",
        /// Anything else: SET, DO, CALL, LISTEN, VACUUM and so on.
        Other = "other",
    }
}
