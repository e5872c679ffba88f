//! Rules that steer requests by type and origin.

use std::net::IpAddr;

use super::names::{Label, Name, Network, TablePattern, glob};
use super::section::settings;
use super::value::{At, words};

/// One rule, checked. The first rule that fits decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// For `SHOW RULES`, metrics and `explain`.
    pub name: Label,
    /// When it fits.
    pub when: When,
    /// What then happens.
    pub action: Action,
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
    /// Does the origin fit? Kinds and tables are for the planner to compare.
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
    Pool(Label),
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
        /// Kinds of statement; `read` and `write` stand for several.
        reload kinds: Vec<StatementKind>;
        /// Tables; it fits a statement that names any of them.
        reload tables: Vec<TablePattern>;
        /// What happens.
        reload action: At<ActionWord>;
        /// Of `shard`: which one.
        reload shard: Option<At<Label>>;
        /// Of `pool`: its name.
        reload pool: Option<At<Label>>;
        /// Of `replica`: only servers with this label.
        reload label: Option<At<Label>>;
        /// Of `refuse`: what the client reads.
        reload message: Option<At<String>>;
    }
}

words! {
    /// What a rule does.
    pub enum ActionWord {
        /// Use the primary.
        Primary = "primary",
        /// Use a replica where that is right.
        Replica = "replica",
        /// Use this shard for statements without tables.
        Shard = "shard",
        /// Use pools of their own.
        Pool = "pool",
        /// Refuse with a message.
        Refuse = "refuse",
    }
}

words! {
    /// Kinds of statement that rules tell apart.
    pub enum StatementKind {
        /// Everything that cannot write.
        Read = "read",
        /// Everything that may write.
        Write = "write",
        /// SELECT, VALUES, TABLE.
        Select = "select",
        /// INSERT.
        Insert = "insert",
        /// UPDATE.
        Update = "update",
        /// DELETE.
        Delete = "delete",
        /// MERGE.
        Merge = "merge",
        /// COPY in either direction.
        Copy = "copy",
        /// CREATE, ALTER, DROP, TRUNCATE, GRANT and the like.
        Ddl = "ddl",
        /// Anything else.
        Other = "other",
    }
}
