//! Finds what the name of a portal or cursor means, and sees to what several servers have under one name.
//!
//! What is open is in [`super::portals`]; a name that is not there may still be that of a cursor which a function has
//! opened on one of the session's servers.

use super::allowed::failed_transaction;
use super::dispatch::Dispatch;
use super::portals::{Life, Open, Place, duplicate};
use super::servers::AttachedId;
use super::state::{Block, Phase, State};
use super::{Attached, Halt, Servers, Session};
use crate::statements::step::{Kind, Pins, Step};
use crate::topology::Topology;
use mothership_proto::backend::TxStatus;
use mothership_proto::frontend::Target;
use mothership_proto::ledger::Audience;
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;

impl State {
    /// The shard that holds the cursor, or the portal, which a statement works on.
    ///
    /// # Errors
    /// For rows of a portal that no one server has, or with which more is done than to pass rows on.
    pub(super) fn cursor_shard(&self, kind: &Kind) -> Result<Option<ShardId>, Report> {
        let (Kind::Cursor(name) | Kind::Close(name)) = kind else {
            return Ok(None);
        };
        let Some(open) = self.portals.get(name.as_bytes()) else {
            return Ok(None);
        };
        let fetches = matches!(kind, Kind::Cursor(_));
        match open {
            Open::Portal(portal) if fetches && portal.statement.step().is_some_and(is_followed) => {
                Err(fetch_refused(
                    name,
                    "the router follows what its statement does to the session only where it is executed by the protocol",
                ))
            }
            _ => match open.shard() {
                None if fetches => Err(fetch_refused(name, "no single server has all of it")),
                shard => Ok(shard),
            },
        }
    }

    /// Whether a statement only reads what a cursor WITH HOLD has kept of a transaction that is over.
    pub(super) fn is_kept(&self, kind: &Kind) -> bool {
        match kind {
            Kind::Cursor(name) => {
                let open = self.portals.get(name.as_bytes());
                open.is_some_and(Open::is_kept)
            }
            _ => false,
        }
    }

    /// Whether a CLOSE concerns what no single server has under its name.
    pub(super) fn closes_here(&self, name: &str) -> bool {
        let open = self.portals.get(name.as_bytes());
        open.is_some_and(|open| open.shard().is_none())
    }

    /// Fails if DECLARE is about to give a shard a name that is taken where that shard cannot say so.
    pub(super) fn check_declared(&self, step: Option<&Step>, shard: ShardId) -> Result<(), Report> {
        let Some((Kind::Declare(name), step)) = step.map(|step| (&step.kind, step)) else {
            return Ok(());
        };
        let holds = step.pins.has(mothership_sql::effect::Pin::HoldCursor);
        let taken = self.portals.get(name.as_bytes());
        match taken {
            // That it is in no block is said before.
            _ if self.block == Block::None && !holds => Ok(()),
            Some(open) if open.shard() != Some(shard) => Err(duplicate(name.as_bytes())),
            _ => Ok(()),
        }
    }
}

impl Servers {
    /// The shard whose server is asked for a name that is not known to be open.
    pub(super) fn shard_of_unknown(&self, topology: &Topology) -> ShardId {
        let only = self.only().map(|only| only.shard);
        only.filter(|shard| topology.is_postgres(*shard))
            .unwrap_or(topology.home)
    }

    /// The server on which a block has failed. It alone knows whether the statement that failed there, a simple query,
    /// has left an unnamed portal, as PostgreSQL does from the beginning of its execution.
    pub(super) fn failed(&self) -> Option<AttachedId> {
        self.find(|server| server.lease.status == TxStatus::Failed)
    }

    /// Closes a portal on the servers of these shards, without telling the client: their places.
    pub(super) fn send_closes(
        &mut self,
        state: &State,
        name: &[u8],
        shards: impl Iterator<Item = ShardId>,
    ) -> Vec<AttachedId> {
        let mut closing = Vec::new();
        for shard in shards {
            if let Some(at) = self.of_shard(shard) {
                let Attached { lease, inbox, .. } = &mut self[at];
                inbox.in_segment |= state.phase == Phase::Segment;
                lease.request(Audience::Router, |send| send.close(Target::Portal, name));
                closing.push(at);
            }
        }
        closing
    }
}

impl Session {
    /// Waits until it is certain which names are open.
    pub(super) async fn settle_names(&mut self) -> Result<(), Halt> {
        match self.state.portals.take_changes() {
            true => self.settle_active().await,
            false => Ok(()),
        }
    }

    /// The same before a statement, if it asks for one.
    pub(super) async fn settle_names_for(&mut self, kind: Option<&Kind>) -> Result<(), Halt> {
        match kind {
            Some(Kind::Declare(_) | Kind::Cursor(_) | Kind::Close(_)) => self.settle_names().await,
            _ => Ok(()),
        }
    }

    /// Looks on the session's servers for a name that is not known to be open; if one has it, that is known afterwards.
    pub(super) async fn look_for_name(&mut self, name: &[u8]) -> Result<(), Halt> {
        let failed = self.state.block.status() == TxStatus::Failed;
        let known = name.is_empty() || self.state.portals.get(name).is_some();
        // Of one server nobody has to be told: it is the one that is asked.
        if known || failed || self.servers.len() < 2 {
            return Ok(());
        }
        let sql = format!(
            "SELECT 1 FROM pg_catalog.pg_cursors WHERE name OPERATOR(pg_catalog.=) {}",
            quoted(name)
        );
        for at in self.servers.ids() {
            let row = match self.state.phase {
                Phase::Segment => {
                    self.ready_for_row(at).await?;
                    self.run_quietly(at, sql.as_bytes()).await?;
                    self.servers[at].inbox.row.take()
                }
                _ => self.ask_row(at, &sql).await?,
            };
            if row.is_some() {
                // A savepoint that is older than it ends it, and no other: then it is looked for again.
                let life = Life::Transaction(self.state.history.events().len());
                let shard = self.servers[at].shard;
                self.state.portals.declare(name, shard, life);
                break;
            }
        }
        Ok(())
    }

    /// The same for the name in a statement, which is dispatched next.
    pub(super) async fn look_for_cursor(&mut self, kind: Option<&Kind>) -> Result<(), Halt> {
        match kind {
            Some(Kind::Cursor(name) | Kind::Close(name)) => {
                self.look_for_name(name.as_bytes()).await
            }
            _ => Ok(()),
        }
    }

    /// Does it.
    pub(super) async fn close_here(&mut self, name: &str) -> Result<(), Halt> {
        if self.state.block.status() == TxStatus::Failed {
            return Err(failed_transaction().into());
        }
        let name = name.as_bytes();
        let place = self.state.portals.portal(name).map(|p| p.place.clone());
        self.state.portals.close(name);
        let Some(Place::Many(portal)) = place else {
            return Ok(());
        };
        for at in self.servers.send_closes(&self.state, name, portal.shards()) {
            if self.state.phase != Phase::Segment {
                self.sync_quietly(at).await?;
            }
        }
        Ok(())
    }

    /// The shard that would have the cursor, if this is the work of a DECLARE.
    pub(super) fn shard_declared(&self, work: &Dispatch) -> ShardId {
        match work {
            Dispatch::One { shard, .. } => *shard,
            Dispatch::Gather(work) => self.residue_shard(work),
            Dispatch::Many(_) => self.topology.home,
        }
    }
}

/// Whether a statement may leave more behind than rows that were read or written.
fn is_followed(step: &Step) -> bool {
    step.kind != Kind::Plain || step.pins != Pins::NONE || step.changes_schema
}

fn fetch_refused(name: &str, why: &'static str) -> Report {
    let message = format!("FETCH and MOVE of portal \"{name}\" are not supported");
    Report::error(sqlstate::FEATURE_NOT_SUPPORTED, message)
        .detail(why)
        .hint("Execute it by the protocol, or declare a cursor.")
}

/// A string that means the same whatever backslashes mean.
fn quoted(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
