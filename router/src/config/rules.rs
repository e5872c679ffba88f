//! Rules that steer requests by type and origin.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use mothership_shardmap::names::glob;
use mothership_shardmap::{Label, TablePattern};

use super::names::{Name, Network};
use super::pool::{Freshness, Reads};
use super::section::settings;
use super::times::{Rate, TimeOfWeek, Zone};
use super::value::{At, nonzero, words};

/// One rule, checked. The first rule that fits decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// For `SHOW RULES`, metrics and `explain`.
    pub name: Label,
    /// When it fits.
    pub when: RuleConditions,
    /// Who then serves it, or that nobody does.
    pub action: Action,
    /// Statements without tables run on this shard; a statement that belongs to another shard is refused.
    pub shard: Option<Label>,
    /// The pools that these requests use.
    pub pool: Option<RulePool>,
    /// How far ahead of others it waits for a connection; 0 by default.
    pub priority: i8,
    /// How much of it there may be.
    pub caps: Caps,
    /// A statement that runs longer is cancelled.
    pub timeout: Option<Duration>,
    /// How fresh a replica must be for its reads, in place of what `balance` says.
    pub level: Option<Level>,
    /// The router logs each request.
    pub log: bool,
}

/// How fresh a replica must be for a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// In a word.
    pub freshness: Freshness,
    /// Of `bounded`: how old it may be, if not what `balance` says.
    pub max_lag: Option<Duration>,
}

/// Pools with connections and queues of their own. Rules with the same name share them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulePool {
    /// Their name.
    pub name: Label,
    /// The most connections of one such pool; that of other pools when it is not given.
    pub max: Option<NonZeroU32>,
}

/// How many requests of a rule are let through, of all cores together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caps {
    /// So many at once; a transaction counts from its first statement to its end.
    pub concurrency: Option<NonZeroU32>,
    /// So many in a time.
    pub rate: Option<Rate>,
    /// How long one that is too many waits for its turn before it is refused.
    pub wait: Duration,
}

impl Caps {
    /// Everything is let through.
    pub fn are_none(&self) -> bool {
        self.concurrency.is_none() && self.rate.is_none()
    }
}

/// What a rule looks at; what is empty fits everything.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleConditions {
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
    /// Shapes of the statement, any of them; see [`crate::config::shape`].
    pub statements: Vec<String>,
    /// Times of the week, any of them.
    pub times: Vec<TimeOfWeek>,
    /// By whose clock.
    pub zone: Zone,
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

impl RuleConditions {
    /// True if the conditions depend on the origin alone.
    pub fn fits_all(&self) -> bool {
        self.times.is_empty() && !self.looks_at_statements() && self.statements.is_empty()
    }

    /// Is a catalog needed to tell?
    pub fn looks_at_statements(&self) -> bool {
        !self.kinds.is_empty() || !self.tables.is_empty()
    }

    /// Does a moment fit, in seconds since 1970?
    pub fn fits_time(&self, moment: i64) -> bool {
        self.times.is_empty() || self.zone.is_in(&self.times, moment)
    }

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

/// Who serves what fits a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Whoever does without a rule.
    Any,
    /// The primary serves it.
    Primary,
    /// What a replica may serve is served by these; with a label, only by servers that have it.
    Reads {
        /// By their role; not [`Reads::Primary`].
        by: Reads,
        /// Only servers with this label. It replaces the shard's label.
        label: Option<Label>,
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
        /// Tables. It fits a statement that names one of them, or a partition, a view or a function over one.
        reload tables: Vec<TablePattern>;
        /// Statements, as examples: it fits all that differ from one of them in values, spaces and comments alone.
        reload statements: Vec<At<String>>;
        /// Times of the week. Hours that end before they begin end the next day.
        reload times: Vec<TimeOfWeek>;
        /// Of `times`: the time zone; without it UTC.
        reload zone: Option<At<Zone>>;
        /// Who serves it, or that it is refused. It may be left out when the rule has `reads`, `shard`, `pool`,
        /// `priority`, `concurrency`, `rate`, `timeout`, `freshness` or `log`.
        reload action: Option<At<ActionWord>>;
        /// The shard for statements without tables; what belongs elsewhere is refused.
        reload shard: Option<At<Label>>;
        /// The name of the pools that these requests use, which have connections of their own. Rules with the same name share
        /// them.
        reload pool: Option<At<Label>>;
        /// Of `pool`: the most connections of each of its pools, in place of the others' maximum.
        reload pool_max: Option<At<NonZeroU32>>, nonzero(1)..=nonzero(100_000);
        /// Which servers its reads may use, in place of the shard's `reads` and `balance.reads`. It needs no action;
        /// action `replica` means `reads = "prefer-replicas"`, and `group` means `reads = "any"` with `label`.
        reload reads: Option<At<Reads>>;
        /// Of `replica`, `group` and `reads`: only servers with this label; without, any, whatever the shard's `label`.
        reload label: Option<At<Label>>;
        /// Of all but `refuse`: whoever waits for a connection is served before those of a lower priority. Without
        /// it 0. Each point counts as 100 ms of waiting, so that nobody waits for ever.
        reload priority: Option<At<i8>>, -100..=100;
        /// The most requests at once, over all workers. A transaction counts from its first statement to its end.
        reload concurrency: Option<At<NonZeroU32>>, nonzero(1)..=nonzero(1_000_000);
        /// The most requests in a time, over all workers. After a pause the requests of one period may come at once.
        reload rate: Option<At<Rate>>;
        /// Of `concurrency` and `rate`: how long a request waits for its turn. Without it, it is refused at once with
        /// 53300. No more than `pool.queue_length` wait.
        reload wait: Option<At<Duration>>, Duration::from_millis(1)..=Duration::from_secs(3_600);
        /// A statement that runs longer is cancelled, also where `pool.query_timeout` allows more.
        reload timeout: Option<At<Duration>>, Duration::from_millis(100)..=Duration::from_secs(86_400);
        /// Of all but `refuse`: how fresh a replica must be for these reads, in place of `balance.freshness`. So sessions of a
        /// user, an application or a network share a level.
        reload freshness: Option<At<Freshness>>;
        /// Of `freshness = "bounded"`: the most lag for these reads. Replicas beyond `balance.max_lag` never serve, so only a
        /// smaller value has an effect.
        reload max_lag: Option<At<Duration>>, Duration::from_millis(1)..=Duration::from_secs(86_400);
        /// The router logs each request, without its values.
        reload log: bool = false;
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
        /// Servers with the label answer what a replica may answer, the primary among them if it has it.
        Group = "group",
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
        /// INSERT, also inside of a query; with ON CONFLICT DO UPDATE, too.
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
