//! What becomes of a core's connections when the servers of a shard change their roles.

use super::Core;
use super::notes::Notes;
use crate::topology::Topology;
use mothership_pool::endpoint::EndpointId;
use mothership_pool::pool::Pool;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// Servers that are silent are looked for this often. After a reload others say who was elected, and that is noticed
/// within this time.
const LOOK: Duration = Duration::from_secs(1);

/// Breaks off the connections to servers that were replaced as primaries, to those whose names mean other servers now, and to those that have been down for
/// `failover.silence`: whoever works with one hears of it as of any connection that is lost. What a replaced primary
/// would still take, the new one would not have.
pub async fn watch_roles(core: Rc<Core>) {
    let mut primaries = Primaries::default();
    let mut moves = Moves::default();
    loop {
        let topology = core.shared.topology();
        let mut elections = topology.health.elections();
        let gone = primaries.replaced(&topology).into_iter();
        let gone = gone.chain(moves.moved(&topology));
        for server in gone.chain(silent(&topology)) {
            core.break_off(server);
        }
        // If it does not change, time has come to look for silence.
        let _ = tokio::time::timeout(LOOK, elections.changed()).await;
    }
}

/// The primary that each shard had last.
#[derive(Default)]
struct Primaries(HashMap<String, EndpointId>);

impl Primaries {
    /// Servers in whose place another one is the primary since the last look.
    fn replaced(&mut self, topology: &Topology) -> Vec<EndpointId> {
        let shards = topology.shards.iter().enumerate();
        let replaced = shards.filter_map(|(at, shard)| {
            let primary = topology.health.primary(at).ok()?;
            let now = shard.servers.get(primary)?.endpoint.id;
            let before = self.0.insert(shard.name.clone(), now)?;
            (before != now).then_some(before)
        });
        replaced.collect()
    }
}

/// How often each server's name has come to mean another one.
#[derive(Default)]
struct Moves(HashMap<EndpointId, u64>);

impl Moves {
    /// Servers whose names mean others since the last look.
    fn moved(&mut self, topology: &Topology) -> Vec<EndpointId> {
        let mut moved = Vec::new();
        for (at, shard) in topology.shards.iter().enumerate() {
            for (place, server) in shard.servers.iter().enumerate() {
                let now = topology.health.moves(at, place);
                let before = self.0.insert(server.endpoint.id, now).unwrap_or(0);
                // It is counted anew after a reload.
                if now > before {
                    moved.push(server.endpoint.id);
                }
            }
        }
        moved
    }
}

/// Servers that have been down for too long.
fn silent(topology: &Topology) -> Vec<EndpointId> {
    let Some(limit) = topology.config.failover.silence else {
        return Vec::new();
    };
    let shards = topology.shards.iter().enumerate();
    let servers = shards.flat_map(|(at, shard)| {
        let servers = shard.servers.iter().enumerate();
        servers.map(move |(server, of)| (at, server, of.endpoint.id))
    });
    servers
        .filter(|(shard, server, _)| {
            let down = topology.health.down_for(*shard, *server);
            down.is_some_and(|down| down >= limit)
        })
        .map(|(_, _, endpoint)| endpoint)
        .collect()
}

impl Core {
    /// Ends all connections to a server.
    pub fn break_off(&self, server: EndpointId) {
        self.control.break_off(server);
        self.pools_of(server).for_each(|pool| pool.break_off());
    }

    /// How many sessions work on a server, or are in line for it.
    pub fn working_on(&self, server: EndpointId) -> usize {
        let figures = self.pools_of(server).map(|pool| pool.figures());
        figures.map(|f| (f.active + f.waiting) as usize).sum()
    }

    /// Closes its connections to a server that nobody uses, and each of the others as it is given back.
    pub fn close_idle(&self, server: EndpointId) {
        self.pools_of(server).for_each(|pool| pool.reconnect());
    }

    fn pools_of(&self, server: EndpointId) -> impl Iterator<Item = Rc<Pool<Notes>>> {
        let pools = self.pools().into_iter();
        pools.filter_map(move |(key, pool)| (key.endpoint == server).then_some(pool))
    }
}
