//! Joins shards to groups: what the health of servers is asked by, and who the
//! primary of a shard is.
//!
//! The group of a shard has the shard's place in the order of the file, and its
//! servers theirs. The only module that knows both words.

use super::{Server, ShardServers, Topology, asking};
use crate::config::{Config, Freshness, Level, Reads, Role};
use mothership_pool::health::breaker::Limits;
use mothership_pool::health::{
    self, CommitClock, Declared, GroupSpec, Health, NoPrimary, Prober, Rules, ServerSpec, Source,
    Watch, WhyNot,
};
use mothership_shardmap::ShardId;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The id of the shard at this place in the order of the file.
pub fn shard_id(place: usize) -> ShardId {
    ShardId(u16::try_from(place).expect("the configuration has at most 65,535 shards"))
}

/// What is asked of a server: a probe while something goes on is due after this part of the usual time.
const QUICK: u32 = 10;
/// Probes of one server are never nearer than this.
const QUICKEST: Duration = Duration::from_millis(10);

/// Starts to watch the servers of a configuration, or goes on with what already
/// watches them. A new prober goes on counting where the one before it has counted.
pub fn watch(
    config: &Config,
    shards: &[ShardServers],
    before: Option<&Topology>,
) -> io::Result<(Arc<Health>, Option<Prober>)> {
    if let Some(before) = before
        && before.config.shards == config.shards
        && before.config.control == config.control
        && before.config.balance == config.balance
        && before.config.pool.resolve_interval == config.pool.resolve_interval
    {
        return Ok((Arc::clone(&before.health), None));
    }
    let specs = shards
        .iter()
        .enumerate()
        .map(|(shard, servers)| group(config, shard, servers, before));
    let prober = Prober::spawn(specs.collect(), &settings(config))?;
    Ok((Arc::clone(prober.health()), Some(prober)))
}

/// What is known of servers that nobody watches: nothing.
pub fn unwatched(config: &Config, shards: &[ShardServers]) -> Arc<Health> {
    let specs = shards
        .iter()
        .enumerate()
        .map(|(shard, servers)| group(config, shard, servers, None));
    let specs: Vec<GroupSpec> = specs.collect();
    let source = Arc::new(Source::Machine);
    Arc::new(Health::new(&specs, &settings(config), source))
}

fn group(
    config: &Config,
    shard: usize,
    servers: &ShardServers,
    before: Option<&Topology>,
) -> GroupSpec {
    let known = before.and_then(|before| {
        let place = before.shards.iter().position(|s| s.name == servers.name)?;
        Some((place, &before.health))
    });
    let clock = known.and_then(|(place, health)| health.clock(place).map(Arc::clone));
    let gate = known.and_then(|(place, health)| health.gate(place).map(Arc::clone));
    let patroni = servers.patroni.clone();
    let both = servers.servers.iter().zip(&config.shards[shard].servers);
    let servers = both.map(|(server, declared)| ServerSpec {
        endpoint: (*server.endpoint).clone(),
        declared: match server.role {
            Role::Auto => Declared::Auto,
            Role::Primary => Declared::Primary,
            Role::Replica => Declared::Replica,
        },
        weight: declared.weight,
        control: Some(asking(config, shard_id(shard), server)),
        kept: known.and_then(|(place, health)| health.kept(place, server.endpoint.id)),
    });
    GroupSpec {
        name: config.shards[shard].name.as_str().to_owned(),
        servers: servers.collect(),
        clock: clock.unwrap_or_else(|| Arc::new(CommitClock::default())),
        gate: gate.unwrap_or_default(),
        fence: known.and_then(|(place, health)| health.fence(place)),
        trust_single: config.shards[shard].trust_single,
        patroni,
    }
}

fn settings(config: &Config) -> health::Settings {
    let balance = &config.balance;
    let quick = (balance.probe_interval / QUICK).max(QUICKEST);
    health::Settings {
        watch: Watch {
            interval: balance.probe_interval,
            quick_interval: quick.min(balance.probe_interval),
            timeout: balance.probe_timeout,
            down_after: balance.down_after.get(),
            up_after: balance.up_after.get(),
            resolve_interval: config.pool.resolve_interval,
            breaker: Limits {
                failures: balance.breaker_failures.get(),
                pause: balance.breaker_time,
            },
            ..Watch::default()
        },
        rules: Rules {
            max_lag: balance.max_lag,
            max_lag_bytes: balance.max_lag_bytes.map(|size| size.0),
            ..Rules::default()
        },
        latency_half_life: balance.latency_half_life,
    }
}

impl Topology {
    /// The server of a shard that is asked what only the primary knows.
    ///
    /// # Errors
    /// Why there is none.
    pub fn primary(&self, shard: ShardId) -> Result<usize, WhyNot> {
        let known = self.health.primary(shard.index());
        known.or_else(|why| self.stand_in(shard, why).ok_or(why))
    }

    /// The server of a shard that takes writes: the primary, unless the operator has disabled it.
    ///
    /// # Errors
    /// Why there is none.
    pub fn writer(&self, shard: ShardId) -> Result<usize, WhyNot> {
        let known = self.health.writer(shard.index());
        let found = known.or_else(|why| self.stand_in(shard, why).ok_or(why))?;
        match self.health.is_disabled(shard.index(), found) {
            true => Err(WhyNot::Disabled),
            false => Ok(found),
        }
    }

    /// Who has to do where no primary is known. With one server there is nothing to be mistaken about, and where the
    /// control role gets in nowhere there is the operator's word; a server that is none refuses writes itself.
    /// One that was replaced, or belongs to another system, would take them, and one that is down may be back soon.
    fn stand_in(&self, shard: ShardId, why: WhyNot) -> Option<usize> {
        let WhyNot::NoPrimary(why) = why else {
            return None;
        };
        let servers = &self.shards[shard].servers;
        match why {
            NoPrimary::Replaced(_)
            | NoPrimary::Foreign(_)
            | NoPrimary::Two(..)
            | NoPrimary::NotLeader(_)
            | NoPrimary::Moved(_)
            | NoPrimary::Down(_)
            | NoPrimary::Held => None,
            _ if servers.len() == 1 => Some(0),
            NoPrimary::Silent => servers.iter().position(|s| s.role == Role::Primary),
            _ => None,
        }
    }

    /// Its primary, or the best guess while there is none: the server that is declared, or the first. To name it,
    /// never to ask it.
    pub fn likely_primary(&self, shard: ShardId) -> &Server {
        let servers = &self.shards[shard];
        let known = self.primary(shard).ok();
        known
            .and_then(|primary| servers.servers.get(primary))
            .unwrap_or_else(|| servers.declared_primary())
    }

    /// Why a shard has no server, with the servers' addresses.
    pub fn in_words(&self, shard: ShardId, why: WhyNot) -> String {
        let servers = &self.shards[shard].servers;
        why.in_words(|server| match servers.get(usize::from(server)) {
            Some(server) => server.endpoint.address.to_string(),
            None => format!("server {server}"),
        })
    }

    /// The count of acknowledged writes of each shard, by name.
    pub fn clocks(&self) -> HashMap<String, Arc<CommitClock>> {
        let shards = self.shards.by_id();
        shards
            .filter_map(|(at, shard)| {
                Some((
                    shard.name.clone(),
                    Arc::clone(self.health.clock(at.index())?),
                ))
            })
            .collect()
    }

    /// What a read must find on a replica when the session was told of `told`, and it looks at
    /// parts only that say what they need, or at anything. Only who is alone has heard of all writes. Without a `level` of its own the session has that of
    /// `balance`.
    pub fn freshness(
        &self,
        shard: ShardId,
        told: Option<health::WriteNumber>,
        needed: Option<impl FnOnce(&CommitClock) -> health::WriteNumber>,
        is_alone: bool,
        level: Option<Level>,
    ) -> health::Freshness {
        let balance = &self.config.balance;
        let of_shard = self.config_of(shard).reads.level;
        let level = level.or(of_shard).unwrap_or(Level {
            freshness: balance.freshness,
            max_lag: None,
        });
        match level.freshness {
            Freshness::Router if !is_alone => health::Freshness::Seen(u64::MAX),
            Freshness::Router => {
                let clock = self.health.clock(shard.index());
                let needed = clock.map_or(u64::MAX, |clock| match needed {
                    Some(needed) => needed(clock),
                    None => clock.needed(health::Scope::All),
                });
                health::Freshness::Seen(needed)
            }
            Freshness::Session => health::Freshness::Seen(told.unwrap_or(0)),
            Freshness::Bounded => {
                health::Freshness::Within(level.max_lag.unwrap_or(balance.max_lag))
            }
            Freshness::Any => health::Freshness::Any,
        }
    }

    /// Which roles serve reads of a shard; `by` is what a rule says.
    pub fn reads(&self, shard: ShardId, by: Option<Reads>) -> health::Reads {
        let of_shard = self.config_of(shard).reads.by;
        match by.or(of_shard).unwrap_or(self.config.balance.reads) {
            Reads::Any => health::Reads::Any,
            Reads::PreferReplicas => health::Reads::PreferReplicas,
            Reads::PreferPrimary => health::Reads::PreferPrimary,
            Reads::Primary => health::Reads::Primary,
            Reads::Replicas => health::Reads::Replicas,
        }
    }
}
