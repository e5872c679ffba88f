//! Shards, their servers, and the databases that clients see on them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use mothership_pool::http::Url;

use super::names::{Name, SLOTS, ServerAddress, SlotRange};
use super::pool::{Freshness, PoolMode, Reads};
use super::rules::Level;
use super::secret::Secret;
use super::section::settings;
use super::value::{At, nonzero, words};
use mothership_shardmap::Label;

/// One shard, checked: its slots overlap with nobody's, at most one server is a declared primary.
#[derive(Debug, Clone, PartialEq)]
pub struct Shard {
    /// Unique.
    pub name: Label,
    /// What its servers are.
    pub engine: Engine,
    /// The slots it owns; empty for a shard that owns none yet.
    pub slots: Vec<RangeInclusive<u16>>,
    /// Undeclared tables live here. True for exactly one shard.
    pub home: bool,
    /// The router answers for it itself, because there is no shard of PostgreSQL.
    pub is_router: bool,
    /// At least one; addresses are unique over all shards unless the servers hold several shards as databases.
    pub servers: Vec<Server>,
    /// In place of [`Control`](super::Control)'s.
    pub control_user: Option<Name>,
    /// In place of [`Control`](super::Control)'s.
    pub control_password: Option<Secret>,
    /// A primary that nobody has confirmed is believed.
    pub trust_single: bool,
    /// Who knows which server is the leader.
    pub patroni: PatroniApi,
    /// In place of what [`Balance`](super::Balance) says of all shards.
    pub reads: ShardReads,
}

/// What the router calls the home shard that it stands for itself.
pub const ROUTER: &str = "router";

impl Shard {
    /// The home shard where there is no shard of PostgreSQL.
    pub fn router() -> Shard {
        let address = ServerAddress::Unix(PathBuf::from("(router)"));
        Shard {
            name: Label::new(ROUTER).expect("it is a label"),
            engine: Engine::Postgresql,
            slots: vec![0..=SLOTS - 1],
            home: true,
            is_router: true,
            servers: vec![Server {
                address: At {
                    value: address,
                    offset: 0,
                },
                role: At {
                    value: Role::Primary,
                    offset: 0,
                },
                weight: 100,
                tls: ServerTls::Disable,
                tls_ca: None,
                tls_certificate: None,
                tls_key: None,
                tls_name: None,
                tls_direct: false,
                channel_binding: ChannelBinding::Disable,
                labels: Vec::new(),
            }],
            control_user: None,
            control_password: None,
            trust_single: false,
            patroni: PatroniApi {
                urls: Vec::new(),
                user: None,
                password: None,
                ca: None,
            },
            reads: ShardReads::default(),
        }
    }
}

/// What a shard says of its reads; nothing leaves it to [`Balance`](super::Balance).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShardReads {
    /// Which servers serve them.
    pub by: Option<Reads>,
    /// What they must find on a replica.
    pub level: Option<Level>,
    /// Only servers with this label.
    pub label: Option<Label>,
}

/// Patroni's REST API on the servers of a shard.
#[derive(Debug, Clone, PartialEq)]
pub struct PatroniApi {
    /// None: the servers themselves are believed.
    pub urls: Vec<Url>,
    /// Given with the password or not at all.
    pub user: Option<String>,
    /// Given with the user or not at all.
    pub password: Option<Secret>,
    /// The system's authorities when it is not set.
    pub ca: Option<PathBuf>,
}

settings! {
    /// One shard: a primary and its replicas.
    pub struct WrittenShard {
        /// Its name in messages, metrics and rules.
        restart name: At<Label>;
        /// What its servers are. Where no shard is of PostgreSQL, the router itself stands for the home shard: see
        /// docs/mongodb.md, "Without PostgreSQL".
        restart engine: At<Engine> = At { value: Engine::Postgresql, offset: 0 };
        /// The slots of hashed keys that it owns. Left out for all shards, they are divided evenly in the order of the file. The router refuses slots that differ from those by which the rows were stored: see docs/guide.md, "Move the rows".
        restart slots: Option<Vec<At<SlotRange>>>;
        /// This shard is the home shard, where undeclared tables are. If no shard has `home = true`, the first shard is the home shard.
        restart home: Option<At<bool>>;
        /// In place of [control] user.
        restart control_user: Option<Name>;
        /// In place of [control] password.
        reload control_password: Option<Secret>;
        /// The REST API of Patroni on the shard's servers, such as `["http://db1:8008", "http://db2:8008"]`: who it names
        /// as the leader takes the writes, if it is on the newest timeline. Each is asked once in balance.probe_interval.
        reload patroni: Vec<Url>;
        /// Name for the REST API, if it wants one.
        reload patroni_user: Option<String>;
        /// The password for it.
        reload patroni_password: Option<Secret>;
        /// PEM file with the authorities that sign the certificates of `https` addresses; the system's when it is not set.
        reload patroni_ca: Option<PathBuf>;
        /// When the router starts and reaches only one server of several, believe it if it says that it is the primary.
        /// Otherwise it gets no write until another server or Patroni has confirmed that, unless its role is "primary".
        reload trust_single: bool = false;
        /// Which servers its reads may use, in place of `balance.reads`.
        reload reads: Option<Reads>;
        /// Its reads may use only servers with this label, and the primary where `reads` leads to it; of MongoDB a
        /// member's tag `dc: "eu"` is the label `dc-eu`. A rule with `reads`, or with the action `replica` or `group`,
        /// says otherwise.
        reload label: Option<At<Label>>;
        /// How fresh a replica must be for reads of this shard; replaces `balance.freshness`. Rules and session settings override it.
        reload freshness: Option<Freshness>;
        /// Of `freshness = "bounded"`: how old it may be, in place of `balance.max_lag`, which drops what is older.
        reload max_lag: Option<At<Duration>>, Duration::from_millis(1)..=Duration::from_secs(86_400);
        /// The servers of the shard, at least one.
        reload server: Vec<Server>;
    }
}

words! {
    /// What the servers of a shard are.
    pub enum Engine {
        /// PostgreSQL.
        Postgresql = "postgresql",
        /// A MongoDB replica set. It stores only the `documents` tables that name it in `shards`.
        Mongodb = "mongodb",
    }
}

settings! {
    /// One server of a shard.
    pub struct Server {
        /// `host:port`, or the path of a unix socket or of its folder.
        reload address: At<ServerAddress>;
        /// Its role in the shard.
        reload role: At<Role>= At { value: Role::Auto, offset: 0 };
        /// The server's share of the reads, relative to the other servers of the shard. A server with weight 0 gets reads only if no other server can serve them.
        reload weight: u32 = 100, 0..=10_000;
        /// How much TLS the connection needs.
        reload tls: ServerTls = ServerTls::Prefer;
        /// PEM file with the authorities that sign server certificates; the system's when it is not set.
        reload tls_ca: Option<PathBuf>;
        /// PEM file with the router's own certificate.
        reload tls_certificate: Option<PathBuf>;
        /// PEM file with its key.
        reload tls_key: Option<PathBuf>;
        /// The name that the server's certificate must have, when it is not the host of the address.
        reload tls_name: Option<String>;
        /// Start with TLS at once instead of asking for it first (PostgreSQL 17).
        reload tls_direct: bool = false;
        /// Whether the login has to be bound to the TLS connection (SCRAM-SHA-256-PLUS).
        reload channel_binding: ChannelBinding = ChannelBinding::Prefer;
        /// Labels by which rules and `label` select servers.
        reload labels: Vec<Label>;
    }
}

words! {
    /// What a server is declared to be.
    pub enum Role {
        /// What it says itself, asked again and again (`pg_is_in_recovery`).
        Auto = "auto",
        /// The primary; at most one in a shard.
        Primary = "primary",
        /// A replica; it never gets writes.
        Replica = "replica",
    }
}

words! {
    /// How much TLS a server connection needs; libpq's `sslmode`.
    pub enum ServerTls {
        /// None.
        Disable = "disable",
        /// When the server has it. No protection against an active attacker.
        Prefer = "prefer",
        /// Always, with any certificate.
        Require = "require",
        /// Always, with a certificate of a known authority.
        VerifyCa = "verify-ca",
        /// Always, and the certificate names the host.
        VerifyFull = "verify-full",
    }
}

words! {
    /// Binding of the login to the TLS connection; libpq's `channel_binding`.
    pub enum ChannelBinding {
        /// Never.
        Disable = "disable",
        /// When the server offers it.
        Prefer = "prefer",
        /// The login fails without it.
        Require = "require",
    }
}

/// One database as clients see it, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Database {
    /// The name that clients use.
    pub name: Name,
    /// Its name on the servers, except on the shards of `on`.
    pub server_name: Name,
    /// Its name on single shards.
    pub on: BTreeMap<Label, Name>,
    /// In place of the pool's.
    pub pool_mode: Option<PoolMode>,
    /// In place of the pool's.
    pub pool_min: Option<u32>,
    /// In place of the pool's.
    pub pool_max: Option<NonZeroU32>,
    /// Clients of this database at once.
    pub max_clients: Option<NonZeroU32>,
    /// Connections to one server for this database, over all users.
    pub max_per_server: Option<NonZeroU32>,
}

impl Database {
    /// A database that is only passed through.
    pub fn passed_through(name: Name) -> Self {
        Database {
            server_name: name.clone(),
            name,
            on: BTreeMap::new(),
            pool_mode: None,
            pool_min: None,
            pool_max: None,
            max_clients: None,
            max_per_server: None,
        }
    }

    /// Its names on servers.
    pub fn server_names(&self) -> impl Iterator<Item = &Name> {
        std::iter::once(&self.server_name).chain(self.on.values())
    }

    /// Its name on the servers of `shard`.
    pub fn name_on(&self, shard: &Label) -> &Name {
        self.on.get(shard).unwrap_or(&self.server_name)
    }
}

settings! {
    /// One database as clients see it. Without any, each name means the database of that name on every shard.
    pub struct WrittenDatabase {
        /// The name that clients use.
        reload name: At<Name>;
        /// The name of the database on the servers, if it differs from `name`. Clients cannot use this name.
        restart server_name: Option<Name>;
        /// Its name on single shards: `on = { s1 = "app_1", s2 = "app_2" }`. Shards may so be databases of one server.
        restart on: At<BTreeMap<String, Name>> = At { value: BTreeMap::new(), offset: 0 };
        /// In place of the pool's.
        reload pool_mode: Option<PoolMode>;
        /// In place of the pool's.
        reload pool_min: Option<u32>, 0..=100_000;
        /// In place of the pool's.
        reload pool_max: Option<NonZeroU32>, nonzero(1)..=nonzero(100_000);
        /// Clients of this database at once.
        reload max_clients: Option<NonZeroU32>, nonzero(1)..=nonzero(1_000_000);
        /// Connections to one server for this database, over all users.
        reload max_per_server: Option<NonZeroU32>, nonzero(1)..=nonzero(1_000_000);
    }
}
