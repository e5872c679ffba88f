//! Servers by hand: out of use, back, and their part of the reads.
//!
//! What is set lies with the health of the server, where every choice looks at it, and
//! goes over to the next configuration. Only DRAIN waits, and puts back what was before
//! if it is dropped.

use super::act::{AGAIN, wrong_state};
use super::command::{AdminAction, Argument};
use crate::core::Shared;
use crate::topology::Topology;
use mothership_pool::endpoint::EndpointId;
use mothership_pool::health::{Hand, Out};
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// A server's shard, and its place there.
type Place = (ShardId, usize);

pub(super) async fn act(
    shared: &Arc<Shared>,
    action: AdminAction,
    argument: &Argument,
    by: Arc<str>,
) -> Result<(), Report> {
    let topology = shared.topology();
    let places = match argument {
        Argument::Server(address) | Argument::Weight(address, _) => named(&topology, address)?,
        _ => all(&topology).collect(),
    };
    let by = Some((by, Instant::now()));
    let set = |change: &dyn Fn(&mut Hand)| {
        set_all(&topology, &places, |hand| {
            change(hand);
            hand.by.clone_from(&by);
        });
    };
    match (action, argument) {
        (AdminAction::DisableServer, _) => set(&|hand| hand.out = Some(Out::Disabled)),
        (AdminAction::EnableServer, _) => set(&|hand| hand.out = None),
        (AdminAction::WeightServer, Argument::Weight(_, weight)) => {
            set(&|hand| hand.weight = Some(*weight));
        }
        (AdminAction::ResetServer | AdminAction::ResetServers, _) => {
            set_all(&topology, &places, |hand| *hand = Hand::default());
        }
        (AdminAction::DrainServer, _) => {
            let draining = Draining::begin(&topology, places.clone(), by);
            return drain(shared, &topology, draining).await;
        }
        _ => {}
    }
    Ok(())
}

fn all(topology: &Topology) -> impl Iterator<Item = Place> {
    let shards = topology.shards.by_id();
    shards.flat_map(|(shard, its)| (0..its.servers.len()).map(move |server| (shard, server)))
}

/// Where an address stands.
fn named(topology: &Topology, address: &str) -> Result<Vec<Place>, Report> {
    let with_port = format!("{address}:5432");
    let is_meant = |&(shard, server): &Place| {
        let known = topology.shards[shard].servers[server]
            .endpoint
            .address
            .to_string();
        known == address || known == with_port
    };
    let places: Vec<Place> = all(topology).filter(is_meant).collect();
    match places.is_empty() {
        false => Ok(places),
        true => {
            let message = format!("no server has the address \"{address}\"");
            let report = Report::error(sqlstate::UNDEFINED_OBJECT, message);
            Err(report.hint("SHOW ENDPOINTS has the addresses of all servers."))
        }
    }
}

fn set_all(topology: &Topology, places: &[Place], change: impl Fn(&mut Hand)) {
    for &(shard, server) in places {
        topology.health.set_by_hand(shard.index(), server, &change);
    }
}

/// Servers that get nothing new until what is under way there has ended. Dropped before that, what was before is put
/// back, unless somebody else has set something meanwhile.
struct Draining<'t> {
    topology: &'t Topology,
    before: Vec<(Place, Hand)>,
    by: Option<(Arc<str>, Instant)>,
}

impl<'t> Draining<'t> {
    fn begin(topology: &'t Topology, places: Vec<Place>, by: Option<(Arc<str>, Instant)>) -> Self {
        let begin = |hand: &mut Hand| {
            hand.out = Some(Out::Draining);
            hand.by.clone_from(&by);
        };
        let each = |place: Place| {
            let before = topology
                .health
                .set_by_hand(place.0.index(), place.1, begin)?;
            Some((place, before))
        };
        let before = places.into_iter().filter_map(each).collect();
        Draining {
            topology,
            before,
            by,
        }
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        self.before.iter().map(|(place, _)| *place)
    }

    /// What is set is still what this command has set.
    fn is_own(&self, hand: &Hand) -> bool {
        hand.out == Some(Out::Draining) && hand.by == self.by
    }

    /// Nothing is under way any more.
    fn end(mut self) -> Result<(), Report> {
        let mut ended = true;
        for ((shard, server), _) in std::mem::take(&mut self.before) {
            self.topology
                .health
                .set_by_hand(shard.index(), server, |hand| {
                    ended &= self.is_own(hand);
                    if self.is_own(hand) {
                        hand.out = Some(Out::Drained);
                    }
                });
        }
        match ended {
            true => Ok(()),
            false => Err(wrong_state(
                "another command was given for the server meanwhile",
            )),
        }
    }
}

impl Drop for Draining<'_> {
    fn drop(&mut self) {
        for ((shard, server), before) in std::mem::take(&mut self.before) {
            self.topology
                .health
                .set_by_hand(shard.index(), server, |hand| {
                    if self.is_own(hand) {
                        *hand = before;
                    }
                });
        }
    }
}

async fn drain(
    shared: &Arc<Shared>,
    topology: &Topology,
    draining: Draining<'_>,
) -> Result<(), Report> {
    let endpoint = |(shard, server): Place| topology.shards[shard].servers[server].endpoint.id;
    let servers: BTreeSet<EndpointId> = draining.places().map(endpoint).collect();
    // Who has chosen one of them before has leased from it, or stands in its line, when its core is asked: between the
    // choice and that, a session waits for nothing.
    let ids: Arc<[EndpointId]> = servers.into_iter().collect();
    loop {
        let asked = Arc::clone(&ids);
        let working = shared
            .ask(move |core| asked.iter().map(|id| core.working_on(*id)).sum::<usize>())
            .await;
        // What a reload has left to pools that no core has any more is counted there.
        let snapshot = topology.health.snapshot();
        let in_flight = |(shard, server): Place| snapshot[shard.index()].servers[server].in_flight;
        let quiet = draining.places().all(|place| in_flight(place) == 0);
        if quiet && working.into_iter().sum::<usize>() == 0 {
            break;
        }
        tokio::time::sleep(AGAIN).await;
    }
    draining.end()?;
    shared
        .ask(move |core| ids.iter().for_each(|id| core.close_idle(*id)))
        .await;
    Ok(())
}
