//! A configuration with what follows from it: servers numbered, TLS settings read, secrets prepared.

mod asking;
mod groups;
mod secrets;
mod terms;

use crate::config::{self, Config};
use crate::rules::RuleSet;
use mothership_pool::endpoint::{Address, Encryption, Endpoint, EndpointId, Interpreter};
use mothership_pool::health::{Health, Prober};
use mothership_pool::http::Service;
use mothership_pool::open::OpenSettings;
use mothership_pool::patroni::PatroniClient;
use mothership_pool::pool::PoolSettings;
use mothership_pool::resolve::Resolving;
use mothership_pool::wire::Keepalive;
use mothership_proto::auth::{LoginRules, Secret, StandIn};
use mothership_shardmap::ShardId;
use std::collections::HashMap;
use std::ops::Index;
use std::sync::Arc;
use std::time::Duration;

pub use asking::{SETTINGS, asking, towards};
pub use groups::shard_id;
pub use terms::Terms;

/// A configuration with what follows from it: TLS settings read, servers numbered.
pub struct Topology {
    /// The file.
    pub config: Arc<Config>,
    /// The shards in the order of the file.
    pub shards: Shards,
    /// How many of them are of PostgreSQL; the others, of MongoDB, come behind.
    pub postgres: usize,
    /// The home shard.
    pub home: ShardId,
    /// Some table is declared, so that statements are planned.
    pub declared: bool,
    /// What the logins of configured users are measured against.
    pub secrets: HashMap<String, Secret>,
    /// TLS towards clients.
    pub tls: Option<crate::tls::Offer>,
    /// The rules, ready to be asked.
    pub rules: Arc<RuleSet>,
    /// What is known of the servers; its groups are the shards, in order.
    pub health: Arc<Health>,
    /// The number of the next server that was not there before.
    next_endpoint: u32,
}

/// Which pool: one server, one user, one database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// The server.
    pub endpoint: EndpointId,
    /// The role on the server.
    pub user: String,
    /// The database on the server.
    pub database: String,
    /// The name that a rule gives to pools of their own.
    pub label: Option<config::Label>,
}

/// One server of a shard, ready to be connected to.
#[derive(Clone, Debug)]
pub struct Server {
    /// Number, address, encryption.
    pub endpoint: Arc<Endpoint>,
    /// What the configuration says it is.
    pub role: config::Role,
    /// Rules of login.
    pub login: LoginRules,
}

/// One shard with its servers.
#[derive(Clone, Debug)]
pub struct ShardServers {
    /// Its name.
    pub name: String,
    /// Its servers in the order of the file.
    pub servers: Vec<Server>,
    /// Those that know which of them is the leader.
    pub patroni: Vec<PatroniClient>,
}

/// The shards with their servers, in the order of the file.
#[derive(Clone, Debug)]
pub struct Shards(Vec<ShardServers>);

impl Index<ShardId> for Shards {
    type Output = ShardServers;

    fn index(&self, shard: ShardId) -> &ShardServers {
        &self.0[shard.index()]
    }
}

impl<'s> IntoIterator for &'s Shards {
    type Item = &'s ShardServers;
    type IntoIter = std::slice::Iter<'s, ShardServers>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Shards {
    /// How many there are.
    #[allow(clippy::len_without_is_empty)]
    // There is always one.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// A shard, if there is one with this id.
    pub fn get(&self, shard: ShardId) -> Option<&ShardServers> {
        self.0.get(shard.index())
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, ShardServers> {
        self.0.iter()
    }

    /// All of them with their ids.
    pub fn by_id(&self) -> impl Iterator<Item = (ShardId, &ShardServers)> {
        self.ids().zip(self.iter())
    }

    /// All ids.
    pub fn ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.len()).map(shard_id)
    }

    /// Those of PostgreSQL, or those behind them.
    pub fn split_at(&self, postgres: usize) -> (&[ShardServers], &[ShardServers]) {
        self.0.split_at(postgres)
    }

    /// The shard of this name.
    pub fn named(&self, name: &str) -> Option<ShardId> {
        self.iter()
            .position(|shard| shard.name == name)
            .map(shard_id)
    }
}

impl ShardServers {
    /// The server that is declared to take writes, or the first one.
    pub fn declared_primary(&self) -> &Server {
        self.servers
            .iter()
            .find(|server| server.role == config::Role::Primary)
            .unwrap_or(&self.servers[0])
    }
}

/// Why a configuration cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsError),
    /// Servers cannot be watched.
    #[error("start to watch the servers")]
    Watch(#[source] std::io::Error),
}

impl Topology {
    /// Reads certificates, prepares secrets, numbers servers and starts to watch them.
    /// A server keeps its number as long as nothing about its connections changes,
    /// and no number is given twice: pools go by it.
    pub fn new(
        config: Config,
        stand_in: &StandIn,
        before: Option<&Topology>,
    ) -> Result<(Self, Option<Prober>), TopologyError> {
        let numbered = numbered(&config, before)?;
        let (health, prober) =
            groups::watch(&config, &numbered.0, before).map_err(TopologyError::Watch)?;
        let topology = Self::of(config, numbered, health, stand_in, before)?;
        Ok((topology, prober))
    }

    /// The same for a simulation: `speaks` gives who stands for a server, by its shard and its place there. Nobody watches
    /// these servers; the simulation tells `health` how they are.
    ///
    /// # Errors
    /// A certificate or key cannot be used.
    pub fn simulated(
        config: Config,
        stand_in: &StandIn,
        speaks: impl Fn(usize, usize) -> Arc<dyn Interpreter>,
    ) -> Result<Self, TopologyError> {
        let (mut shards, next) = numbered(&config, None)?;
        for (at, shard) in shards.iter_mut().enumerate() {
            for (place, server) in shard.servers.iter_mut().enumerate() {
                let endpoint = Arc::make_mut(&mut server.endpoint);
                endpoint.interpreter = Some(speaks(at, place));
            }
        }
        let health = groups::unwatched(&config, &shards);
        Self::of(config, (shards, next), health, stand_in, None)
    }

    fn of(
        config: Config,
        (shards, next_endpoint): (Vec<ShardServers>, u32),
        health: Arc<Health>,
        stand_in: &StandIn,
        before: Option<&Topology>,
    ) -> Result<Self, TopologyError> {
        let home = config
            .shards
            .iter()
            .position(|shard| shard.home)
            .unwrap_or(0);
        let tls = crate::tls::towards_clients(&config.tls)?;
        let secrets = config.users.iter().filter_map(|user| {
            let secret = secrets::prepare_secret(user, stand_in)?;
            Some((user.name.value.as_str().to_owned(), secret))
        });
        Ok(Self {
            secrets: secrets.collect(),
            health,
            next_endpoint,
            declared: config.declares_tables(),
            rules: Arc::new(RuleSet::new(&config, before.map(|before| &*before.rules))),
            postgres: config.postgres_shards(),
            config: Arc::new(config),
            shards: Shards(shards),
            home: shard_id(home),
            tls,
        })
    }

    /// The number of a server that is connected to in the same way.
    fn number_of(&self, shard: &config::Label, server: &config::Server) -> Option<EndpointId> {
        let same = |known: &config::Server| {
            let judged = config::Server {
                role: known.role.clone(),
                weight: known.weight,
                labels: known.labels.clone(),
                ..server.clone()
            };
            judged == *known
        };
        let mut shards = self.config.shards.iter();
        let shard = shard_id(shards.position(|known| known.name == *shard)?);
        let servers = &self.config_of(shard).servers;
        let place = servers.iter().position(same)?;
        Some(self.shards[shard].servers[place].endpoint.id)
    }
}

impl Topology {
    /// The most connections of a pool.
    pub fn pool_max(&self, key: &PoolKey) -> u32 {
        let of_rule = key
            .label
            .as_ref()
            .and_then(|pool| self.rules.pool_max(pool));
        if let Some(max) = of_rule {
            return max.get();
        }
        let user = self.config.user(&key.user).and_then(|user| user.pool_max);
        let database = self
            .config
            .database(self.client_database(key))
            .and_then(|database| database.pool_max);
        user.or(database).unwrap_or(self.config.pool.max).get()
    }

    pub(crate) fn pool_min(&self, key: &PoolKey) -> u32 {
        let user = self.config.user(&key.user).and_then(|user| user.pool_min);
        let database = self
            .config
            .database(self.client_database(key))
            .and_then(|database| database.pool_min);
        user.or(database).unwrap_or(self.config.pool.min)
    }

    /// The password of a role on the servers, if the configuration has it: nobody's proof
    /// is passed through then.
    pub fn password_of(&self, role: &str) -> Option<&config::Secret> {
        self.config.users.iter().find_map(|user| {
            let name = user.server_user.as_ref().unwrap_or(&user.name.value);
            let password = user.server_password.as_ref().or(user.password.as_ref());
            password.filter(|_| name.as_str() == role)
        })
    }

    /// What the file says of a shard.
    pub fn config_of(&self, shard: ShardId) -> &config::Shard {
        &self.config.shards[shard.index()]
    }

    /// Whether a shard is of PostgreSQL.
    pub fn is_postgres(&self, shard: ShardId) -> bool {
        shard.index() < self.postgres
    }

    /// The shards of PostgreSQL.
    pub fn postgres_shards(&self) -> impl Iterator<Item = ShardId> + Clone + use<> {
        (0..self.postgres).map(shard_id)
    }

    /// The shard of a server and the server itself.
    pub fn server(&self, id: EndpointId) -> Option<(ShardId, &Server)> {
        self.shards.by_id().find_map(|(shard, servers)| {
            let server = servers.servers.iter().find(|s| s.endpoint.id == id)?;
            Some((shard, server))
        })
    }

    /// True if the pool serves clients of the database that they call `name`.
    pub fn pool_serves(&self, key: &PoolKey, name: &str) -> bool {
        self.server(key.endpoint)
            .is_some_and(|(shard, _)| self.database_on(name, shard) == key.database)
    }

    /// What clients call the database of a pool: the first declared one that means
    /// it, else the database by its own name.
    pub fn client_database<'a>(&'a self, key: &'a PoolKey) -> &'a str {
        let declared = self.config.databases.iter();
        let mut names = declared.map(|database| database.name.as_str());
        names
            .find(|name| self.pool_serves(key, name))
            .unwrap_or(&key.database)
    }

    /// The name on a shard's servers of the database that clients call `name`.
    pub fn database_on(&self, name: &str, shard: ShardId) -> String {
        self.config.database_on(name, &self.config_of(shard).name)
    }

    /// How long sessions may take.
    pub fn terms(&self) -> Terms {
        let pool = &self.config.pool;
        Terms {
            idle: self.config.listen.idle_timeout,
            in_transaction: pool.idle_in_transaction_timeout,
            query: pool.query_timeout,
            send: pool.send_timeout,
            message: self.config.listen.message_timeout,
            ruled: self.rules.shortest_timeout(),
            reset: pool.reset_timeout,
        }
    }

    /// Whether there is anything on a shard: not if the router stands for it itself.
    pub fn has_rows(&self, shard: ShardId) -> bool {
        self.config.has_postgres() || shard != self.home
    }

    /// Limits of opening a connection.
    pub fn open_settings(&self) -> OpenSettings {
        open_settings(&self.config)
    }

    pub(crate) fn pool_settings(&self, max: u32) -> PoolSettings {
        let pool = &self.config.pool;
        PoolSettings {
            min: pool.min,
            idle_timeout: pool.idle_timeout.unwrap_or(Duration::MAX),
            queue_timeout: pool.queue_timeout,
            join_timeout: pool.join_timeout,
            join_reserve: pool.join_reserve.of(max),
            retry_pause: pool.retry_pause,
            retry_pause_max: pool.retry_pause_max,
        }
    }
}

/// The servers of a configuration with their numbers, and the number of the next one.
fn numbered(
    config: &Config,
    before: Option<&Topology>,
) -> Result<(Vec<ShardServers>, u32), TopologyError> {
    let mut next = before.map_or(0, |before| before.next_endpoint);
    let mut shards = Vec::new();
    for shard in &config.shards {
        let mut servers = Vec::new();
        for server in &shard.servers {
            let known = before.and_then(|before| before.number_of(&shard.name, server));
            let id = known.unwrap_or_else(|| {
                next += 1;
                EndpointId(next - 1)
            });
            servers.push(Server {
                endpoint: Arc::new(Endpoint {
                    id,
                    address: address(&server.address.value),
                    encryption: match shard.engine {
                        config::Engine::Postgresql => crate::tls::towards_server(server)?,
                        config::Engine::Mongodb => Encryption::Disable,
                    },
                    tls_name: server.tls_name.clone(),
                    tls_direct: server.tls_direct,
                    interpreter: interpreter(config, shard, server)?,
                }),
                role: server.role.value,
                login: LoginRules {
                    require_channel_binding: server.channel_binding
                        == config::ChannelBinding::Require,
                    ..LoginRules::default()
                },
            });
        }
        shards.push(ShardServers {
            name: shard.name.as_str().to_owned(),
            servers,
            patroni: patroni(&shard.patroni)?,
        });
    }
    Ok((shards, next))
}

fn open_settings(config: &Config) -> OpenSettings {
    let pool = &config.pool;
    OpenSettings {
        timeout: pool.connect_timeout,
        lifetime_jitter: pool.lifetime_jitter.fraction(),
        server_message: config.limits.server_message.bytes(),
        resolving: Resolving {
            interval: pool.resolve_interval,
            most: config.limits.host_addresses.get() as usize,
        },
        lifetime: pool.lifetime.unwrap_or(Duration::from_secs(365 * 86_400)),
        user_timeout: pool.unacknowledged_timeout,
        keepalive: keepalive(pool.keepalive),
    }
}

/// Who stands before a server that is not PostgreSQL.
#[cfg(feature = "mongo")]
fn interpreter(
    config: &Config,
    shard: &config::Shard,
    server: &config::Server,
) -> Result<Option<Arc<dyn Interpreter>>, TopologyError> {
    if shard.is_router {
        return Ok(Some(Arc::new(crate::mongo::Alone::new(collections(
            config,
        )))));
    }
    let Some(member) = member(config, shard, server) else {
        return Ok(None);
    };
    let config::ServerAddress::Tcp { host, port } = &server.address.value else {
        return Ok(None);
    };
    let way = crate::mongo::DirectOptions::new(
        (host, *port),
        crate::tls::towards_member(server)?,
        control_login(shard),
        open_settings(config),
    );
    Ok(Some(Arc::new(member.with(way))))
}

/// How the router logs in to the members of a replica set.
#[cfg(feature = "mongo")]
fn control_login(shard: &config::Shard) -> Option<(&str, &str)> {
    let user = shard.control_user.as_ref()?;
    let password = shard.control_password.as_ref()?;
    Some((user.as_str(), password.reveal()))
}

/// A server as a member of a replica set; none if it is PostgreSQL's.
#[cfg(feature = "mongo")]
pub fn member(
    config: &Config,
    shard: &config::Shard,
    server: &config::Server,
) -> Option<crate::mongo::Member> {
    use crate::mongo::{Encryption, Login, Member};
    let config::ServerAddress::Tcp { host, port } = &server.address.value else {
        return None;
    };
    if shard.engine == config::Engine::Postgresql {
        return None;
    }
    let tls = match server.tls {
        config::ServerTls::Disable | config::ServerTls::Prefer => None,
        tls => Some(Encryption {
            ca: server.tls_ca.clone(),
            certificate: server.tls_certificate.clone(),
            verifies: tls != config::ServerTls::Require,
        }),
    };
    let login = Login {
        user: control_login(shard).map(|(user, password)| (user.to_owned(), password.to_owned())),
        tls,
        connect_timeout: config.pool.connect_timeout,
    };
    let schema = config.transactions.schema.as_str();
    Some(Member::new(host, *port, login, collections(config), schema))
}

#[cfg(feature = "mongo")]
fn collections(config: &Config) -> Arc<[Arc<mothership_documents::Collection>]> {
    let declared = config.collections();
    declared.into_iter().map(Arc::clone).collect()
}

#[cfg(not(feature = "mongo"))]
fn interpreter(
    _: &Config,
    _: &config::Shard,
    _: &config::Server,
) -> Result<Option<Arc<dyn Interpreter>>, TopologyError> {
    Ok(None)
}

/// The REST APIs of a shard, each with what it takes to be let in.
fn patroni(api: &config::PatroniApi) -> Result<Vec<PatroniClient>, TopologyError> {
    let tls = match api.urls.iter().any(|url| url.tls) {
        true => Some(crate::tls::towards_service(api.ca.as_deref())?),
        false => None,
    };
    let login = api.user.as_ref().zip(api.password.as_ref());
    let login = login.map(|(user, password)| (user.clone(), password.reveal().to_owned()));
    let urls = api.urls.iter().map(|url| {
        PatroniClient(Service {
            url: url.clone(),
            tls: tls.clone(),
            login: login.clone(),
        })
    });
    Ok(urls.collect())
}

fn address(address: &config::ServerAddress) -> Address {
    match address {
        config::ServerAddress::Tcp { host, port } => Address::Tcp(host.clone(), *port),
        config::ServerAddress::Unix(path) => Address::Unix(path.clone()),
    }
}

/// Keepalive that starts after `idle` of silence, and gives up when there was none of an answer for as long again: the
/// system's own values would let eleven minutes pass.
pub fn keepalive(idle: Option<Duration>) -> Keepalive {
    const PROBES: u32 = 3;
    Keepalive {
        idle,
        interval: idle.map(|idle| (idle / PROBES).max(Duration::from_secs(1))),
        count: idle.map(|_| PROBES),
    }
}
