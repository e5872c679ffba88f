//! Transactions over several servers: BEGIN where a shard joins, savepoints and
//! settings on all, and the commit, which holds on all or on none.
//!
//! What the commit does, and in which order, is [`crate::commit::steps`]'s to
//! decide; this file carries its statements to the servers and their answers back.

use super::attach::give_back;
use super::gather::{Bound, Conflict};
use super::inbox::Inbox;
use super::many::Merging;
use super::marks::Joint;
use super::servers::AttachedId;
use super::state::{Block, DoneBefore, Ended, State};
use super::touched::WrittenParts;
use super::{Attached, Halt, Servers, Session};
use crate::commit::doubt::{Site, unfinished};
use crate::commit::finishing::{CommitUnderWay, StillFinishing};
use crate::commit::gid::Backend;
use crate::commit::parts::{Participant, Terms, Work};
use crate::commit::steps::{Cause, Commit, End as Outcome, Reply, Step, Via};
use crate::core::code::Behind;
use crate::core::{Changing, Shared};
use crate::statements::step::{Kind, Pins};
use crate::topology::Topology;
use mothership_plan::Merge;
use mothership_pool::connection::Broken;
use mothership_pool::health::{CommitClock, Scope};
use mothership_proto::backend::{self, TxStatus, tag};
use mothership_proto::frame::Frame;
use mothership_proto::ledger::{Audience, Event, Step as Judged};
use mothership_proto::report::{Fields, Report, sqlstate};
use mothership_shardmap::ShardId;
use mothership_sql::effect::{DiscardWhat, Pin};
use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

/// What a session knows of its transaction that no server tells: what the router has made of it, and what it may have
/// changed. Whether a block is open is in [`State`](super::state::State).
#[derive(Default)]
pub(super) struct Transaction {
    /// The transaction block is the router's own.
    pub implicit: bool,
    /// All its servers are being told to commit.
    pub commits: bool,
    /// What the open segment has bound.
    pub bound: Bound,
    /// What becomes of a conflict of the write that runs.
    pub conflict: Conflict,
    /// The shard that has what the COMMIT PREPARED at hand names. Small, as every session has room for it.
    pub prepared_on: Option<ShardId>,
    /// The transaction over several shards that the marks on servers name.
    pub joint: Option<Box<Joint>>,
    /// Definitions may be changed by what is under way.
    pub changing: Option<Box<Changing>>,
    /// CommandComplete of a write over several shards, which waits for the Sync that commits it.
    #[allow(clippy::box_collection)]
    // Nearly no session has one, and each keeps the place for it.
    pub waiting_command: Option<Box<Vec<u8>>>,
}

impl Transaction {
    /// Definitions may change from now on until the transaction ends, and with them the code behind names.
    pub fn begin_change(&mut self, behind: Behind, shared: &Arc<Shared>) {
        match &mut self.changing {
            Some(changing) => changing.behind = changing.behind.and(behind),
            None => self.changing = Some(Box::new(Changing::new(shared, behind))),
        }
    }

    /// The same, by a statement.
    pub fn begin_change_by(&mut self, step: &crate::statements::step::Step, shared: &Arc<Shared>) {
        let judged = self.changing.is_some() && !step.changes_code;
        let behind = match judged {
            true => Behind::Same,
            false => Behind::Changed,
        };
        self.begin_change(behind, shared);
    }

    /// A transaction of the router's own begins, for a statement that changes several
    /// shards and that the client did not put into one.
    pub(super) fn begin_implicit(&mut self, state: &mut State) {
        if state.block == Block::None {
            self.implicit = true;
            state.block = Block::Begun;
            state.chain(false);
            state.settings.begin();
        }
    }

    fn after_block(&mut self, state: &mut State, chain: bool, ended: Ended) {
        state.chain(chain);
        state.end_block(ended);
        self.implicit = false;
        if chain {
            state.block = Block::Begun;
            state.settings.begin();
        }
    }
}

impl State {
    /// Whether something that this server did in the open segment would be lost, or kept, with its end.
    pub(super) fn stakes(&self, attached: &super::Attached) -> bool {
        let inbox = &attached.inbox;
        let set = !self.history.events().is_empty();
        inbox.in_segment && (inbox.wrote || inbox.may_write || set)
    }
}

impl Servers {
    /// Whether the transaction has done something on another shard before the statement at hand.
    fn has_worked_beside(&self, state: &State, shard: ShardId) -> bool {
        let beside = |s: &Attached| s.shard != shard && (s.inbox.in_block || s.inbox.in_segment);
        state.done_before > DoneBefore::Nothing && self.iter().any(beside)
    }

    /// These reasons to stay on its servers are gone.
    fn unpin_all(&mut self, state: &mut State, unpins: Pins) {
        state.unpin(unpins);
        self.keep_pins(state.pins);
    }

    /// The servers of the transaction that is to be committed, with what is known of their part in it.
    fn participants(&self, state: &State, topology: &Topology) -> Vec<Participant> {
        // What PostgreSQL does not prepare. Code that cannot be seen may have made such things too: then PREPARE
        // TRANSACTION itself fails, and all is rolled back.
        let has_such = |pins: Pins| pins.has(Pin::TempObject) || pins.has(Pin::Listen);
        // NOTIFY and pg_notify() run on the home shard.
        let notifies = |shard: ShardId| state.notifies && shard == topology.home;
        let stores_nothing = state.stores_nothing();
        let servers = self.iter().filter(|s| s.inbox.in_block);
        let wrote = |attached: &super::Attached| {
            attached.inbox.wrote && !stores_nothing && topology.has_rows(attached.shard)
        };
        // COMMIT computes the rows of a cursor WITH HOLD, and fails if that fails.
        let declares = |attached: &super::Attached| state.portals.declares_held_on(attached.shard);
        let participants = servers.map(|attached| Participant {
            shard: attached.shard,
            name: topology.config_of(attached.shard).name.clone(),
            work: match wrote(attached) || declares(attached) {
                true => Work::Write,
                false => Work::Read,
            },
            preparable: !has_such(attached.inbox.pins.both(state.pins))
                && !declares(attached)
                && !notifies(attached.shard)
                && topology.is_postgres(attached.shard),
            backend: attached.lease.notes.backend,
        });
        participants.collect()
    }
}

impl Session {
    /// A segment in which something is written or set goes over to another shard, `shard`
    /// or any: what it did before and what it does now hold together.
    pub(super) async fn join_segment(
        &mut self,
        shard: Option<ShardId>,
        writes: bool,
    ) -> Result<(), Halt> {
        let others = |s: &&super::Attached| s.inbox.in_segment && Some(s.shard) != shard;
        let goes_over = self.servers.iter().any(|s| others(&s));
        if !goes_over {
            return Ok(());
        }
        // What was done so far is known when it is answered, a BEGIN or COMMIT of the client's too.
        self.settle_active().await?;
        if self.state.block != Block::None {
            return Ok(());
        }
        match writes || self.servers.iter().any(|s| self.state.stakes(s)) {
            true => self.own_segment().await,
            false => Ok(()),
        }
    }

    /// What the servers of a segment did becomes a transaction of the router's own.
    async fn own_segment(&mut self) -> Result<(), Halt> {
        self.transaction.begin_implicit(&mut self.state);
        for at in self.servers.ids() {
            if self.servers[at].inbox.in_segment && !self.servers[at].inbox.in_block {
                self.begin_on(at).await?;
            }
        }
        Ok(())
    }

    /// A pipeline ends without its Sync, and its transaction goes on into a query. Where nothing depends on how that
    /// ends, it ends here.
    pub(super) async fn leave_segment(&mut self) -> Result<(), Halt> {
        self.settle_active().await?;
        if self.state.block != Block::None || self.transaction.implicit {
            return Ok(());
        }
        // What the pipeline has bound can be fetched by the query.
        if self.state.portals.has_named() || self.servers.iter().any(|s| self.state.stakes(s)) {
            return self.own_segment().await;
        }
        for at in self.servers.ids() {
            if self.servers[at].inbox.in_segment {
                self.sync_quietly(at).await?;
            }
        }
        match self.state.has_failed() {
            // It was told.
            true => Err(Halt::Failed),
            false => Ok(()),
        }
    }

    /// Ends the transaction of the router's own as `result` says.
    pub(super) async fn end_implicit(&mut self, result: Result<(), Halt>) -> Result<(), Halt> {
        if !self.transaction.implicit {
            return result;
        }
        let ended = match result {
            Ok(()) => Box::pin(self.commit_all()).await,
            Err(halt) => {
                self.rollback_all().await;
                Err(halt)
            }
        };
        self.transaction.implicit = false;
        self.state.block = Block::None;
        if ended.is_err() {
            self.state.settings.rollback();
        }
        self.tell_settings();
        ended
    }

    /// Servers that the router itself has asked to end a transaction have told what became of its settings to nobody.
    fn tell_settings(&mut self) {
        let settings = &self.state.settings;
        let same = |s: &&super::Attached| settings.same_as(&s.inbox.carried);
        if let Some(attached) = self.servers.iter().find(same) {
            self.state
                .tell_differences(&attached.lease.parameters, &mut self.client);
        }
    }

    /// Transaction control and settings on all servers of the transaction. Writes the
    /// answer up to CommandComplete.
    pub(super) async fn run_on_all(&mut self, kind: &Kind, sql: &[u8]) -> Result<(), Halt> {
        let ends = matches!(kind, Kind::Commit { .. } | Kind::Rollback { .. });
        if ends && self.state.block == Block::None {
            // What a pipeline did without a block ends here, too, on servers that know of none.
            self.leave_segment().await?;
        }
        if matches!(kind, Kind::Commit { .. } | Kind::PrepareTransaction) {
            self.leave_bystanders_at_end().await?;
        }
        match kind {
            Kind::Commit { chain } => {
                let failed = self.state.block == Block::Failed;
                let ended = if failed {
                    self.rollback_all().await;
                    Ok(())
                } else {
                    Box::pin(self.commit_all()).await
                };
                // A COMMIT that fails ends the block as well, and begins no other.
                match (failed, &ended) {
                    (false, Ok(())) => {
                        self.transaction
                            .after_block(&mut self.state, *chain, Ended::Committed)
                    }
                    (true, _) => {
                        self.transaction
                            .after_block(&mut self.state, *chain, Ended::Undone)
                    }
                    (false, Err(_)) => {
                        self.transaction
                            .after_block(&mut self.state, false, Ended::Undone)
                    }
                }
                self.tell_settings();
                ended?;
                let command: &[u8] = if failed { b"ROLLBACK" } else { b"COMMIT" };
                self.client
                    .with_output(|out| backend::put_complete(out, command));
                Ok(())
            }
            Kind::Rollback { chain } => {
                self.rollback_block(*chain).await;
                self.client
                    .with_output(|out| backend::put_complete(out, b"ROLLBACK"));
                Ok(())
            }
            Kind::PrepareTransaction if self.state.block == Block::Failed => {
                self.rollback_block(false).await;
                self.client
                    .with_output(|out| backend::put_complete(out, b"ROLLBACK"));
                Ok(())
            }
            // Not every server may know of the failure.
            _ if self.state.block == Block::Failed && !matches!(kind, Kind::RollbackTo(_)) => {
                Err(super::allowed::failed_transaction().into())
            }
            Kind::PrepareTransaction if self.servers.is_joint() => {
                // As any PREPARE TRANSACTION that fails, it ends the transaction.
                self.rollback_block(false).await;
                Err(super::prepared::over_shards().into())
            }
            Kind::PrepareTransaction if !self.has_room_to_prepare().await? => {
                self.rollback_block(false).await;
                Err(super::prepared::no_room().into())
            }
            Kind::PrepareTransaction => {
                let done = match self.name_is_taken(sql).await {
                    Some(taken) => Err(taken.into()),
                    None => self.broadcast(kind, sql).await,
                };
                if let Err(Halt::Fail(_) | Halt::Failed) = &done {
                    self.rollback_block(false).await;
                }
                done
            }
            _ => self.broadcast(kind, sql).await,
        }
    }

    /// Ends the block, and undoes what it did on all of its servers.
    async fn rollback_block(&mut self, chain: bool) {
        self.rollback_all().await;
        self.transaction
            .after_block(&mut self.state, chain, Ended::Undone);
        self.tell_settings();
    }

    /// One statement on every server of the transaction; the first one's answer is shown.
    async fn broadcast(&mut self, kind: &Kind, sql: &[u8]) -> Result<(), Halt> {
        if self.state.block == Block::Failed {
            self.leave_outsiders();
        }
        self.ask_postgres_first(kind).await?;
        let all = self.servers.ids();
        for &at in &all {
            self.bring_into_block(at).await?;
            if self.state.block != Block::Failed {
                self.bring_settings(at).await?;
            }
        }
        for (leg, &at) in all.iter().enumerate() {
            // What is warned of is shown once.
            self.servers[at].inbox.notices = super::inbox::Notices::of_same(leg);
            self.servers.send_router_query(at, sql, false);
        }
        let mut merging = Merging::new(&Merge::First, all.len());
        for (leg, at) in all.into_iter().enumerate() {
            self.collect(leg, at, &mut merging).await?;
        }
        let command = self.finish_many(merging)?;
        self.put_command(&command);
        let done = self.state.as_done(kind);
        self.state.follow(&done, &command);
        let on_servers = self.state.on_servers(&done);
        for attached in self.servers.iter_mut() {
            attached.inbox.follow(&on_servers, &command);
            attached
                .inbox
                .heard(&done, self.state.history.events().len());
        }
        self.state.restore_startup(&done);
        match kind {
            Kind::RollbackTo(_) => self.state.block = Block::Open,
            Kind::CloseAll => {
                self.state.portals.close_all();
                self.servers
                    .unpin_all(&mut self.state, Pins::NONE.with(Pin::HoldCursor));
            }
            Kind::Discard(DiscardWhat::All) => {
                self.state.forget_session();
                let beyond = self.state.pins.both(Pins::beyond_discard());
                let all = self.state.pins.minus(Pins::NONE.with(Pin::Slot));
                self.servers.unpin_all(&mut self.state, all);
                for at in self.servers.ids() {
                    self.servers[at].inbox.spoiled |= !beyond.is_empty();
                    self.servers[at].inbox.discarded = true;
                    self.after_messages(at);
                }
            }
            Kind::Discard(DiscardWhat::Temp) => {
                self.state.unpin_at_commit(Pins::NONE.with(Pin::TempObject));
            }
            Kind::Begin(_) => {
                self.state.block = Block::Open;
                self.servers
                    .iter_mut()
                    .for_each(|s| s.inbox.in_block = true);
            }
            _ => {}
        }
        Ok(())
    }

    /// What settings there are, and what they may be, PostgreSQL knows: it is asked even if the transaction has come to
    /// MongoDB only, and what it says is what the client is told.
    async fn ask_postgres_first(&mut self, kind: &Kind) -> Result<(), Halt> {
        let apart = |shard| !self.topology.is_postgres(shard);
        if !self.servers.iter().any(|s| apart(s.shard)) {
            return Ok(());
        }
        if kind.sets()
            && self.servers.postgres_here(&self.topology).is_none()
            && self.state.block != Block::Failed
        {
            self.attach(self.topology.home).await?;
        }
        self.servers.active = None;
        let topology = &self.topology;
        self.servers.put_last(|s| !topology.is_postgres(s.shard));
        Ok(())
    }

    /// Gives back servers that were taken for the statement that failed and were not in its transaction yet, but none
    /// that keeps something of the session.
    pub(super) fn leave_outsiders(&mut self) {
        self.servers.active = None;
        let session_mode = self.is_session_mode();
        let outsider = |s: &mut super::Attached| {
            let inbox = &s.inbox;
            !(session_mode || inbox.is_pinned() || inbox.in_block || inbox.in_segment)
        };
        for attached in self.servers.take_those(outsider) {
            give_back(attached, None, &self.core);
        }
        self.show_working();
    }

    /// Rolls back on every server. What cannot say so is closed, which is the same.
    pub(super) async fn rollback_all(&mut self) {
        for at in self.servers.ids() {
            let attached = &mut self.servers[at];
            if !attached.inbox.in_block && attached.lease.status == TxStatus::Idle {
                continue;
            }
            if !attached.lease.ledger().is_empty() && !attached.lease.ledger().is_skipping() {
                // What it keeps for the session must not be lost with it. Or it is asked for nothing yet but BEGIN.
                let inbox = &attached.inbox;
                let heard =
                    inbox.is_pinned() || inbox.ahead as usize == attached.lease.ledger().len();
                if !heard || !self.hear_out(at).await {
                    // It may go on for hours with what is undone anyway.
                    self.cancel_on(self.servers.get(at).into_iter());
                    self.servers[at].lease.doubt();
                    continue;
                }
            }
            let attached = &mut self.servers[at];
            if attached.lease.ledger().is_skipping() {
                attached.lease.sync(Audience::Router);
                self.private_reply(at).await;
            }
            self.private_query(at, "ROLLBACK").await;
            let inbox = &mut self.servers[at].inbox;
            inbox.carried.rollback();
            inbox.leave_block();
        }
        self.state.settings.rollback();
        self.drop_doubtful();
    }

    /// Waits for all that a server still owes. False if it does not say it in time.
    async fn hear_out(&mut self, at: AttachedId) -> bool {
        let limit = self.topology.config.pool.reset_timeout;
        if self.servers[at].inbox.in_segment {
            // What a pipeline has asked, a Close for example, is answered at its Sync. The block stays open.
            self.servers[at].lease.sync(Audience::Router);
        }
        let heard = async {
            while !self.servers[at].lease.ledger().is_empty() {
                // An error is an answer, too: the transaction is undone anyway.
                if matches!(self.private_reply(at).await.0, Reply::Lost) {
                    return false;
                }
            }
            true
        };
        let heard = tokio::time::timeout(limit, heard).await.unwrap_or(false);
        self.servers[at].inbox.expect_nothing();
        heard
    }

    /// Commits on every server, on all or on none. Fails with what the client is told.
    pub(super) async fn commit_all(&mut self) -> Result<(), Halt> {
        let changing = self.transaction.changing.as_ref();
        let change = changing.map(|changing| changing.commits());
        self.transaction.commits = true;
        let result = Box::pin(self.commit_each()).await;
        self.transaction.commits = false;
        drop(change);
        result
    }

    async fn commit_each(&mut self) -> Result<(), Halt> {
        if let Err(halt) = self.may_commit_joint() {
            self.rollback_all().await;
            return Err(halt);
        }
        let wrote: Vec<_> = self
            .servers
            .iter()
            .filter(|s| s.inbox.in_block && s.inbox.wrote)
            .filter_map(|s| Some((s.shard, Arc::clone(s.inbox.clock.as_ref()?))))
            .collect();
        if let Some(report) = self.too_many_in_doubt() {
            self.rollback_all().await;
            return Err(Halt::Fail(report));
        }
        let participants = self.servers.participants(&self.state, &self.topology);
        let mut commit = match Commit::new(participants, self.terms()) {
            Ok(commit) => commit,
            Err(refusal) => {
                self.rollback_all().await;
                return Err(Halt::Fail(refusal.report()));
            }
        };
        let mut under_way = self.begin_finishing(&wrote);
        let mut errors: HashMap<ShardId, Vec<u8>> = HashMap::new();
        let end = loop {
            if let Some(end) = commit.end() {
                break end;
            }
            let steps = commit.steps();
            if steps.is_empty() {
                debug_assert!(false, "a commit without an end has a next step");
                break Outcome::Unknown {
                    pending: Vec::new(),
                };
            }
            self.run_steps(&steps, &mut commit, &mut errors, &mut under_way)
                .await;
        };
        if let Some((shard, backend @ Backend::Process { .. })) = commit.backend()
            && let Some(attached) = self.servers.iter_mut().find(|s| s.shard == shard)
        {
            attached.lease.notes.backend = Some(backend);
        }
        // Whatever the end is: what a server may have committed counts before the client
        // hears of it. What is owed counts once more when it is settled.
        for (shard, clock) in wrote {
            let moment = clock.acknowledge(Scope::All);
            self.state.acknowledged.made().insert(shard, moment);
        }
        for (shard, gid) in commit.owed() {
            let site = self.site(shard);
            self.core.shared.doubts.note(site, &gid);
        }
        // From here on it is in doubt or done.
        drop(under_way);
        self.end_commit(&end, &commit, errors)
    }

    fn terms(&self) -> Terms {
        let config = &self.topology.config;
        let modes = self.state.modes.to_ascii_lowercase();
        let half = config.control.timeout.as_millis() / 2;
        Terms {
            router: self.core.shared.router.clone(),
            schema: config.transactions.schema.clone(),
            id: self.transaction.transaction_id(&self.servers),
            serializable: modes.contains("serializable"),
            two_phase: config.transactions.two_phase,
            fence_wait: u32::try_from(half).unwrap_or(u32::MAX),
        }
    }

    /// Why the transaction cannot be committed in two phases now, if so many others are in doubt.
    fn too_many_in_doubt(&self) -> Option<Report> {
        let doubts = self.core.shared.doubts.count();
        let most = self.topology.config.transactions.in_doubt.get();
        let wrote = |s: &&Attached| s.inbox.in_block && s.inbox.wrote;
        if doubts < most as usize || self.servers.iter().filter(wrote).count() < 2 {
            return None;
        }
        let message = format!("{doubts} parts of transactions over several shards are in doubt");
        let hint = "The setting is transactions.in_doubt. SHOW TRANSACTIONS in the console lists what is in doubt.";
        Some(Report::error(sqlstate::LIMIT_EXCEEDED, message).hint(hint))
    }

    /// The transaction has ended so. `errors` are what servers said to their part of the commit.
    ///
    /// # Errors
    /// What the client is told if it is not committed for certain.
    fn end_commit(
        &mut self,
        end: &Outcome,
        commit: &Commit,
        mut errors: HashMap<ShardId, Vec<u8>>,
    ) -> Result<(), Halt> {
        for attached in self.servers.iter_mut() {
            let is_committed = matches!(end, Outcome::Committed { .. });
            let carried = &mut attached.inbox.carried;
            match commit.keeps_settings(attached.shard) {
                Some(true) => carried.commit(),
                Some(false) => carried.rollback(),
                None if is_committed => carried.commit(),
                // Nobody has asked it what became of its settings.
                None => {
                    if carried.has_changed() {
                        attached.lease.doubt();
                    }
                    carried.rollback();
                }
            }
            attached.inbox.leave_block();
        }
        self.drop_doubtful();
        match end {
            Outcome::Committed { .. } => {
                self.state.settings.commit();
                Ok(())
            }
            Outcome::Aborted { cause, .. } => {
                self.state.settings.rollback();
                let shard = match cause {
                    Cause::Refused { shard, .. } => Some(*shard),
                    _ => None,
                };
                match shard.and_then(|shard| errors.remove(&shard)) {
                    Some(body) => Err(Halt::Fail(self.state.report_for_client(&body))),
                    None => Err(Halt::Fail(outcome_report(&self.topology, end))),
                }
            }
            Outcome::Unknown { .. } => {
                self.state.settings.rollback();
                Err(Halt::Fail(outcome_report(&self.topology, end)))
            }
        }
    }

    /// Sends the steps to their servers at once and hands their answers over.
    async fn run_steps(
        &mut self,
        steps: &[Step],
        commit: &mut Commit,
        errors: &mut HashMap<ShardId, Vec<u8>>,
        under_way: &mut Option<CommitUnderWay>,
    ) {
        let limit = self.topology.config.transactions.prepare_timeout;
        for step in steps.iter().filter(|step| step.via == Via::Session) {
            if let Some(attached) = self.servers.iter_mut().find(|s| s.shard == step.shard) {
                attached.lease.query(step.sql.as_bytes(), Audience::Router);
            }
        }
        for step in steps {
            let reply = match step.via {
                Via::Control => {
                    let site = self.site(step.shard);
                    let servers = crate::core::primaries::Primaries::new(
                        &self.core.control,
                        &self.core.shared,
                    );
                    crate::commit::errand::perform(&servers, &site, limit, step).await
                }
                Via::Session => match self.servers.find(|s| s.shard == step.shard) {
                    None => Reply::Lost,
                    Some(at) => match tokio::time::timeout(limit, self.private_reply(at)).await {
                        Ok((reply, body)) => {
                            if let Some(body) = body {
                                errors.insert(step.shard, body);
                            }
                            reply
                        }
                        Err(_) => {
                            self.servers[at].lease.doubt();
                            Reply::Lost
                        }
                    },
                },
            };
            commit.on_reply(step.shard, &reply);
            if let Some(under_way) = under_way {
                if commit.may_be_decided() {
                    under_way.decided();
                }
                if commit.is_done(step.shard) {
                    under_way.done(step.shard);
                }
            }
        }
    }

    pub(super) async fn private_query(&mut self, at: AttachedId, sql: &str) {
        let lease = &mut self.servers[at].lease;
        if lease.is_doubtful() {
            // It would not answer, and is closed anyway.
            return;
        }
        lease.query(sql.as_bytes(), Audience::Router);
        let limit = self.topology.config.pool.reset_timeout;
        let reply = tokio::time::timeout(limit, self.private_reply(at)).await;
        if !matches!(reply, Ok((Reply::Done { .. }, _))) {
            self.servers[at].lease.doubt();
        }
    }

    /// The answer to a request of the router, whether the client is there or not.
    pub(super) async fn private_reply(&mut self, at: AttachedId) -> (Reply, Option<Vec<u8>>) {
        let mut command = String::new();
        let mut row = None;
        let mut error: Option<Vec<u8>> = None;
        let mut idle = true;
        let mut ended = false;
        let Attached { lease, inbox, .. } = &mut self.servers[at];
        let (notifications, own) = (&mut self.state.notifications, self.state.process);
        let polled = poll_fn(|cx| {
            loop {
                let polled = lease.poll_messages(cx, |frame: Frame<'_>, reply: Judged| {
                    match (reply.event, frame.tag()) {
                        (Event::Completed, tag::COMMAND_COMPLETE) => {
                            command = String::from_utf8_lossy(
                                backend::command(frame.body()).unwrap_or_default(),
                            )
                            .into_owned();
                        }
                        (Event::Part, tag::DATA_ROW) => {
                            let values = backend::row_values(frame.body()).unwrap_or_default();
                            row = values
                                .first()
                                .copied()
                                .flatten()
                                .map(|v| String::from_utf8_lossy(v).into_owned());
                        }
                        (Event::Failed, _) => error = Some(frame.body().to_vec()),
                        (Event::Notification, _) => match inbox.notification(frame, own) {
                            Some(bytes) => notifications.made().extend_from_slice(&bytes),
                            None => notifications.made().extend_from_slice(frame.bytes),
                        },
                        (Event::Ready(status), _) => {
                            idle = status == TxStatus::Idle;
                            ended = true;
                            return mothership_pool::connection::Flow::Stop;
                        }
                        _ => {}
                    }
                    mothership_pool::connection::Flow::Continue
                });
                match polled {
                    Poll::Ready(Ok(())) if ended => return Poll::Ready(Ok(())),
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
        for id in lease.take_unforgotten() {
            lease.notes.prepared.insert(id);
        }
        let reply = match (&polled, &error) {
            (Err(error), _) => {
                if !matches!(error, Broken::Unbegun(_)) {
                    tracing::warn!(error = %crate::log::Chain(error), "lost a server connection during commit");
                    self.topology
                        .report_broken(self.servers[at].shard, self.servers[at].server);
                }
                Reply::Lost
            }
            (Ok(()), Some(body)) => {
                let fields = Fields::read(body);
                if fields.is_fatal() {
                    Reply::Lost
                } else {
                    Reply::Refused {
                        sqlstate: String::from_utf8_lossy(fields.code.unwrap_or(b"XX000"))
                            .into_owned(),
                        idle,
                    }
                }
            }
            (Ok(()), None) => Reply::Done { tag: command, row },
        };
        (reply, error)
    }

    /// Closes connections whose state is in doubt. A session that had something on one of them ends with it.
    pub(super) fn drop_doubtful(&mut self) {
        self.servers.active = None;
        let doubtful = |s: &super::Attached| s.lease.is_doubtful();
        if self.servers.iter().any(doubtful) {
            let mut dropped = self.servers.iter().filter(|s| doubtful(s));
            self.state.orphaned |= dropped.any(|s| s.inbox.is_pinned());
            self.servers.take_those(|s| doubtful(s)).for_each(drop);
            self.show_working();
        }
    }

    fn site(&self, shard: ShardId) -> Site {
        Site {
            shard: self.topology.shards[shard].name.clone(),
            database: self
                .topology
                .database_on(&self.entry.who.names.database, shard),
        }
    }

    /// Says where a commit writes, before it begins; None if that is one shard.
    fn begin_finishing(&self, wrote: &[(ShardId, Arc<CommitClock>)]) -> Option<CommitUnderWay> {
        if wrote.len() < 2 {
            return None;
        }
        let shards = wrote.iter().map(|(shard, _)| *shard);
        let sites = shards.map(|shard| (shard, self.site(shard)));
        Some(self.core.shared.finishing.begin(sites.collect()))
    }

    /// A transaction that has worked on another shard waits for what others commit on this one: it may go on because they
    /// have committed there already.
    pub(super) async fn wait_for_finishing(&mut self, shard: ShardId) -> Result<(), Halt> {
        let finishing = Arc::clone(&self.core.shared.finishing);
        if finishing.is_empty() || !self.servers.has_worked_beside(&self.state, shard) {
            return Ok(());
        }
        let site = self.site(shard);
        let limits = &self.topology.config.transactions;
        let (undecided, decided) = (limits.deadlock_timeout, limits.doubt_timeout);
        let waited = finishing.wait(&site, undecided, decided);
        let waited = self.while_client_waits(waited).await?;
        waited.map_err(|StillFinishing| Halt::Fail(unfinished(&site.shard)))
    }

    /// A statement on a shard that has something unfinished of this router waits for it.
    pub(super) async fn wait_for_doubts(&mut self, shard: ShardId) -> Result<(), Halt> {
        let doubts = Arc::clone(&self.core.shared.doubts);
        if doubts.count() == 0 {
            return Ok(());
        }
        let site = self.site(shard);
        let limit = self.topology.config.transactions.doubt_timeout;
        let waited = doubts.wait(&site, limit);
        self.while_client_waits(waited).await?.map_err(Halt::Fail)
    }
}

impl Inbox {
    /// All that was sent is answered, or its answers count no more.
    pub(super) fn expect_nothing(&mut self) {
        self.ahead = 0;
        self.locks_ahead = false;
        self.row = None;
        self.describing.clear();
        self.outcomes.clear();
    }

    /// The block has ended on this server.
    pub(super) fn leave_block(&mut self) {
        self.in_block = false;
        self.stands_by = false;
        self.in_segment = false;
        self.wrote = false;
        self.touched = WrittenParts::Unknown;
        self.told = 0;
        self.mark = None;
        self.saved = None;
    }
}

fn outcome_report(topology: &Topology, end: &Outcome) -> Report {
    let name = |shard: ShardId| topology.shards[shard].name.clone();
    end.report(name).unwrap_or_else(|| {
        Report::error(sqlstate::CONNECTION_FAILURE, "transaction was rolled back")
    })
}
