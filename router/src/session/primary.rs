//! The primary for a request. While its shard has none, the request waits: for the next one to be found, or for the
//! last one to be back.

use super::attach::lease_report;
use super::choose::{Chosen, Use, Wants};
use super::repeat::{Refused, RequestAtHand};
use super::{Halt, Session};
use crate::core::{Full, Holding};
use crate::topology::Topology;
use mothership_pool::health::{Failure, WhyNot};
use mothership_pool::pool::LeaseError;
use mothership_pool::wire::Wire;
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two attempts to reach a primary that does not take connections.
const PAUSE: Duration = Duration::from_millis(50);

/// What a request that waits holds is looked at this often: its client may send more.
const LOOK: Duration = Duration::from_millis(250);

/// So many connections in a row are not opened in time before that is told. One may be late because the router itself
/// did not get to run.
const LATE: u32 = 2;

/// In such pieces a request that has left the input is counted.
pub(super) const BUFFER: usize = 16 << 10;

/// How many pieces a request of so many bytes begins. The longest message of the protocol, 1 GiB, has 65,536.
pub(super) fn buffers(bytes: usize) -> u16 {
    u16::try_from(bytes.div_ceil(BUFFER)).unwrap_or(u16::MAX)
}

/// Whether this is an attempt of our own, to which the server did not answer in time.
fn is_late(error: &LeaseError) -> bool {
    matches!(error, LeaseError::Open(cause) if Failure::of_opening(cause) == Some(Failure::TimedOut))
}

/// A request that waits for a primary.
struct Wait {
    begun: Instant,
    limit: Duration,
    holding: Holding,
}

impl Wait {
    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.begun.elapsed())
    }
}

impl Topology {
    /// Nobody serves a read that only replicas may serve.
    pub(super) fn no_replica(&self, shard: ShardId) -> Report {
        let name = &self.shards[shard].name;
        let message = format!("shard \"{name}\" has no replica that may serve this read");
        Report::error(sqlstate::CANNOT_CONNECT_NOW, message)
            .detail("its reads go to replicas only, and none is up, fresh enough and of the label that is asked for")
            .hint("SHOW ENDPOINTS in the console says what is known of each server. With reads = \"prefer-replicas\" the primary serves such reads.")
    }
}

impl RequestAtHand {
    /// Whether this server has refused the write at hand, and says that it would refuse it again.
    fn is_read_only(&self, topology: &Topology, shard: ShardId, server: usize) -> bool {
        matches!(self.refused, Some(Refused::Write(refused)) if usize::from(refused) == server)
            && topology.health.is_read_only(shard.index(), server)
    }

    /// What the request at hand takes in memory, with all that the client has sent since.
    fn bytes_waiting(&self, client: &Wire) -> usize {
        client.input().len() + usize::from(self.buffers) * BUFFER
    }
}

impl Session {
    /// A connection to the primary. Waits for one to be known and to take connections as `failover` allows.
    pub(super) async fn choose_primary(
        &mut self,
        shard: ShardId,
        wants: &Wants,
    ) -> Result<Chosen, Halt> {
        let used = match wants {
            Wants::FreshRead(_) => Use::ReadOnPrimary,
            Wants::Primary | Wants::NoPart => Use::Primary,
        };
        let mut wait: Option<Wait> = None;
        let mut late = 0;
        self.confirm_refused(shard).await?;
        loop {
            let over = wait.as_ref().is_some_and(|wait| wait.left().is_zero());
            let report = match self.topology.writer(shard) {
                // In the end the client hears it from the server itself.
                Ok(server) if !over && self.request.is_read_only(&self.topology, shard, server) => {
                    no_server(&self.topology, shard, WhyNot::NoneFit)
                }
                Ok(server) => {
                    // A server that never was a primary has not failed over: more likely its address is wrong.
                    let is_primary = self.topology.health.writer(shard.index()) == Ok(server);
                    match self.lease_from(shard, server, used).await? {
                        // It was long in coming: meanwhile another server may be the primary, or about to be.
                        Ok(chosen) if self.topology.writer(shard) != Ok(server) => {
                            drop(chosen);
                            continue;
                        }
                        Ok(mut chosen) => {
                            chosen.is_primary = true;
                            return Ok(chosen);
                        }
                        Err(error) => {
                            let is_down = self.topology.report_failed(shard, server, &error);
                            late += u32::from(is_late(&error));
                            if !is_down
                                || !is_primary
                                || late >= LATE && self.answers(shard, server).await?
                            {
                                return Err(Halt::Fail(lease_report(&error)));
                            }
                            lease_report(&error)
                        }
                    }
                }
                // That does not change. A primary that was disabled may be enabled, or another may take its place.
                Err(why @ WhyNot::NoGroup) => {
                    return Err(Halt::Fail(no_server(&self.topology, shard, why)));
                }
                Err(why) => {
                    // The next one may be another server.
                    late = 0;
                    // Meanwhile a replica may have come to show what it must.
                    if let (WhyNot::Disabled, true, Wants::FreshRead(parts)) =
                        (why, wait.is_some(), wants)
                        && let Some(chosen) = self.choose_replica(shard, parts.as_ref()).await?
                    {
                        return Ok(chosen);
                    }
                    no_server(&self.topology, shard, why)
                }
            };
            let so_far = match wait.take() {
                Some(wait) => wait,
                None => self.begin_wait(shard)?,
            };
            wait = Some(self.wait_on(shard, so_far, report).await?);
        }
    }

    /// Whether a server goes on for who is there already: then no other takes its place.
    async fn answers(&mut self, shard: ShardId, server: usize) -> Result<bool, Halt> {
        let health = Arc::clone(&self.topology.health);
        let answered = async { health.answers(shard.index(), server).await };
        self.while_client_waits(answered).await
    }

    /// Has the server asked that has refused the write at hand: whether it is the primary, and takes writes.
    async fn confirm_refused(&mut self, shard: ShardId) -> Result<(), Halt> {
        match self.request.refused {
            Some(Refused::Write(server)) => {
                let health = Arc::clone(&self.topology.health);
                let confirmed = async { health.confirm(shard.index(), server.into()).await };
                self.while_client_waits(confirmed).await.map(drop)
            }
            Some(Refused::Read) | None => Ok(()),
        }
    }

    fn begin_wait(&self, shard: ShardId) -> Result<Wait, Halt> {
        let config = &self.topology.config;
        let held = &self.core.shared.held;
        let held = held.hold(self.request.bytes_waiting(&self.client), &config.failover);
        let holding =
            held.map_err(|full| Halt::Fail(too_many_wait(&self.topology, shard, full)))?;
        // What it holds on other shards, others may wait for.
        let limit = match self.servers.is_empty() {
            true => config.failover.window,
            false => config.failover.window.min(config.pool.join_timeout),
        };
        Ok(Wait {
            begun: Instant::now(),
            limit,
            holding,
        })
    }

    /// Waits for a while. Fails with `report` if the time is over.
    async fn wait_on(
        &mut self,
        shard: ShardId,
        mut wait: Wait,
        report: Report,
    ) -> Result<Wait, Halt> {
        let left = wait.left();
        if left.is_zero() {
            return Err(Halt::Fail(report));
        }
        if self.topology.health.writer(shard.index()).is_ok() {
            self.while_client_waits(tokio::time::sleep(PAUSE.min(left)))
                .await?;
        } else {
            let health = Arc::clone(&self.topology.health);
            let known = async {
                tokio::time::timeout(left.min(LOOK), health.has_writer(shard.index())).await
            };
            // Whether there is one is asked again.
            let _ = self.while_client_waits(known).await?;
        }
        let limits = &self.topology.config.failover;
        let grown = wait
            .holding
            .holds(self.request.bytes_waiting(&self.client), limits);
        grown.map_err(|full| Halt::Fail(too_many_wait(&self.topology, shard, full)))?;
        self.take_over_configuration(shard)?;
        Ok(wait)
    }

    /// After a reload nobody asks the servers any more for the configuration that was in force before.
    fn take_over_configuration(&mut self, shard: ShardId) -> Result<(), Halt> {
        if !self.servers.is_empty() || self.core.shared.is_current(&self.topology) {
            return Ok(());
        }
        let topology = self.core.shared.topology();
        let name = &self.topology.shards[shard].name;
        if topology.shards.get(shard).is_none_or(|s| s.name != *name) {
            let report = Report::error(
                sqlstate::CANNOT_CONNECT_NOW,
                format!(
                    "shard \"{name}\" has moved in the configuration while the statement waited for it"
                ),
            );
            return Err(Halt::Fail(report.hint("Send it again.")));
        }
        self.topology = topology;
        Ok(())
    }
}

fn no_server(topology: &Topology, shard: ShardId, why: WhyNot) -> Report {
    let name = &topology.shards[shard].name;
    Report::error(
        sqlstate::CANNOT_CONNECT_NOW,
        format!("shard \"{name}\" has no server for this statement"),
    )
    .detail(topology.in_words(shard, why))
    .hint("SHOW ENDPOINTS in the console says what is known of each server.")
}

fn too_many_wait(topology: &Topology, shard: ShardId, full: Full) -> Report {
    let name = &topology.shards[shard].name;
    let Full { requests, bytes } = full;
    Report::error(
        sqlstate::TOO_MANY_CONNECTIONS,
        format!("shard \"{name}\" has no primary, and too many requests wait for one"),
    )
    .detail(format!(
        "{requests} requests with {bytes} bytes wait already."
    ))
    .hint("The settings are failover.requests and failover.size.")
}
