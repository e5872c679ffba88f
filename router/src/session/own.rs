//! What a transaction plans by that has changed definitions: the catalog as its own connections see it.
//!
//! Nobody else sees such definitions before COMMIT, and the router's own connections would wait for what the transaction
//! has locked. So its servers are asked within it; shards that take no part in it are read as always.

use super::servers::AttachedId;
use super::state::{Block, Phase, State};
use super::{Attached, Halt, Session};
use crate::model::{LoadError, ModelError};
use crate::topology::Topology;
use mothership_catalog::Catalog;
use mothership_catalog::own::{self, TransactionCatalog};
use mothership_proto::ledger::Audience;
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;
use mothership_sql::effect::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// By whose definitions a session plans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Definitions {
    /// Those that all see.
    #[default]
    Common,
    /// The transaction has changed them, and they were not read since.
    Changed,
    /// Those that the transaction sees.
    Own,
}

/// What is to be done about shards that take no part in the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    /// Nothing.
    AreKnown,
    /// They may have changed.
    AreRead,
}

const LOCK_NOT_AVAILABLE: &str = "55P03";

impl State {
    /// Whether the open transaction plans by definitions of its own, or would have to.
    pub(super) fn has_own_definitions(&self, topology: &Topology) -> bool {
        self.definitions != Definitions::Common && topology.declared
    }
}

impl Session {
    /// Reads them, unless that was done since they changed. Without servers that can be asked, all stays as it is, and
    /// `check_defined` refuses what may concern them.
    pub(super) async fn see_own_definitions(&mut self) -> Result<(), Halt> {
        let epoch = self.core.shared.schema_epoch.load(Ordering::SeqCst);
        let is_current = self
            .known
            .model
            .as_ref()
            .is_some_and(|model| model.epoch >= epoch);
        match self.state.definitions {
            Definitions::Own if is_current => Ok(()),
            // Nobody else has changed anything: what the transaction takes no part in is as it was.
            _ if is_current => self.read_own_definitions(epoch, Others::AreKnown).await,
            _ => self.read_own_definitions(epoch, Others::AreRead).await,
        }
    }

    /// Reads them in any case.
    pub(super) async fn read_own_definitions(
        &mut self,
        epoch: u64,
        others: Others,
    ) -> Result<(), Halt> {
        let Some(model) = self.known.model.clone() else {
            return Ok(());
        };
        let open = matches!(self.state.block, Block::Begun | Block::Open);
        let takes_part = |s: &Attached| s.inbox.in_block;
        let in_segment = self.servers.iter().any(|s| s.inbox.in_segment);
        let home = self.topology.home;
        let has_home = self
            .servers
            .iter()
            .any(|s| s.shard == home && takes_part(s));
        if !open || in_segment || !has_home {
            return Ok(());
        }
        let part = |shard: ShardId| self.servers.find(|s| s.shard == shard && takes_part(s));
        let parts: Vec<Option<AttachedId>> = self.topology.postgres_shards().map(part).collect();
        let asked: Vec<AttachedId> = parts.iter().flatten().copied().collect();
        let Some(own) = self.own_catalogs(&asked).await? else {
            return Ok(());
        };
        let mut own = own.into_iter();
        let mut catalogs = Vec::with_capacity(parts.len());
        for (shard, part) in self.topology.postgres_shards().zip(parts) {
            catalogs.push(match (part, others) {
                (Some(_), _) => own.next(),
                (None, Others::AreKnown) => None,
                // What leads there is refused.
                (None, Others::AreRead) if model.why_away(shard).is_some() => None,
                (None, Others::AreRead) => Some(self.common_catalog(shard).await?),
            });
        }
        let own = model.with_catalogs(home, catalogs, epoch);
        let own = own.map_err(|error| Halt::Fail(unreadable(&error)))?;
        self.put_model(Arc::new(own));
        self.state.definitions = Definitions::Own;
        Ok(())
    }

    /// As the transaction sees it on these servers; `None` if one of them cannot tell.
    async fn own_catalogs(&mut self, of: &[AttachedId]) -> Result<Option<Vec<Catalog>>, Halt> {
        let mut catalogs = Vec::with_capacity(of.len());
        for (&at, answer) in of.iter().zip(self.ask_own_catalogs(of).await?) {
            let seen = own::read(&answer).map_err(|cause| {
                let shard = self.topology.shards[self.servers[at].shard].name.clone();
                let cause = LoadError::Row(cause);
                Halt::Fail(unreadable(&ModelError::Load { shard, cause }))
            })?;
            match seen {
                TransactionCatalog::Catalog(catalog) => catalogs.push(*catalog),
                TransactionCatalog::ByOldSnapshot => return Ok(None),
            }
        }
        Ok(Some(catalogs))
    }

    /// Asks them at once. All have answered when this ends, unless the statement gives way to others or a server is lost.
    async fn ask_own_catalogs(&mut self, of: &[AttachedId]) -> Result<Vec<String>, Halt> {
        for &at in of {
            if self.state.phase == Phase::Segment {
                self.settle(at).await?;
            }
            self.ready_for_row(at).await?;
            // Code may have dropped what the server has prepared.
            let is_seen = !self.state.pins.has(Pin::Opaque) && !self.is_session_mode();
            let prepared = &self.servers[at].lease.notes.prepared;
            if !is_seen
                && prepared.keeps_catalog()
                && self.ask_row(at, own::IS_KEPT).await?.is_none()
            {
                self.servers[at].lease.notes.prepared.forget_catalog();
            }
        }
        let mut asked = Vec::with_capacity(of.len());
        for &at in of {
            let Attached { lease, inbox, .. } = &mut self.servers[at];
            let way = lease.notes.prepared.ask_catalog();
            inbox.private = true;
            lease.query(own::query(way).as_bytes(), Audience::Router);
            asked.push(way);
        }
        let mut settled = Ok(());
        for &at in of {
            let done = self.settle(at).await;
            settled = settled.and(done);
            if let Some(attached) = self.servers.get_mut(at) {
                attached.inbox.private = false;
                attached.inbox.ahead = 0;
            }
        }
        let mut failed = None;
        let mut answers = Vec::with_capacity(of.len());
        for (&at, way) in of.iter().zip(asked) {
            let Some(Attached { lease, inbox, .. }) = self.servers.get_mut(at) else {
                break;
            };
            match inbox.router_error.take() {
                None if settled.is_ok() => lease.notes.prepared.answered_catalog(way),
                None => {}
                Some(error) => drop(failed.get_or_insert(error)),
            }
            answers.push(inbox.row.take().unwrap_or_default());
        }
        settled?;
        match failed {
            None => Ok(answers),
            Some(error) => Err(match self.failed_by_server(&error) {
                // PostgreSQL would not have waited.
                Halt::Fail(report) if report.code == LOCK_NOT_AVAILABLE => Halt::Fail(
                    unknown_definitions("another transaction has locked what has to be read"),
                ),
                halt => halt,
            }),
        }
    }

    /// That of a shard which takes no part in the transaction.
    async fn common_catalog(&self, shard: ShardId) -> Result<Catalog, Halt> {
        let (control, database) = (&self.core.control, &self.entry.who.names.database);
        let read = crate::model::catalog_of(control, &self.topology, shard, database);
        let read = Box::pin(read).await;
        read.map_err(|error| Halt::Fail(unreadable(&error)))
    }

    /// Between two statements of one text: what the one before has changed is known to the next.
    pub(super) async fn refresh_between(&mut self) -> Result<(), Halt> {
        self.announce_change();
        self.refresh_model().await
    }
}

/// Refuses what may concern definitions that only the transaction knows.
pub(super) fn unknown_definitions(why: &'static str) -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "definitions of this transaction are not known to the router before it commits",
    )
    .detail(why)
    .hint("Commit the definitions first.")
}

fn unreadable(error: &ModelError) -> Report {
    let message = "the catalog of the shards could not be read";
    Report::error(sqlstate::CANNOT_CONNECT_NOW, message)
        .detail(crate::log::Chain(error).to_string())
        .hint("The router plans nothing by old knowledge. Mend the cause and try again.")
}
