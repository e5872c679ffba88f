//! Gets a server for a statement: leases a connection and brings it to where the
//! session is, settings and transaction included.

use super::choose::{Chosen, Wants};
use super::history::TransactionEvent;
use super::inbox::Inbox;
use super::knowledge::Knowledge;
use super::repeat::MAX_REPEATS;
use super::servers::AttachedId;
use super::state::{Block, DoneBefore, Phase, Unfollowed};
use super::{Attached, End, Halt, Servers, Session};
use crate::config::Role;
use crate::core::notes::Remembers;
use crate::core::{Core, Notifier};
use crate::statements::reported_parameters::FORMS;
use crate::statements::settings::SessionSettings;
use mothership_catalog::Oids;
use mothership_pool::line::{Full, LimitScope};
use mothership_pool::open::OpenError;
use mothership_pool::pool::{LeaseError, Priority};
use mothership_proto::auth::ServerLoginError;
use mothership_proto::ledger::Audience;
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;
use mothership_sql::effect::Pin;
use mothership_sql::quote::push_literal;
use mothership_sql::split::split;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

impl Servers {
    /// The server that got the message before is not waited for if it owes nothing to the client, but only what went ahead
    /// of a statement that will follow.
    pub(super) fn leave_ahead(&mut self) {
        let owes_ahead = |s: &Attached| s.inbox.ahead as usize == s.lease.ledger().len();
        if self
            .active
            .and_then(|at| self.get(at))
            .is_some_and(owes_ahead)
        {
            self.active = None;
        }
    }
}

impl Knowledge {
    /// How the object ids of a shard differ from those that clients are told.
    pub(super) fn oids(&self, shard: ShardId) -> Option<&Arc<Oids>> {
        self.model.as_ref()?.oids(shard)
    }
}

impl Session {
    /// The place of the server that serves `shard`, ready for a statement.
    ///
    /// Waits for a connection, for its settings and, where the transaction has
    /// modes, for its BEGIN. Fails with the report for the client.
    pub(super) async fn attach(&mut self, shard: ShardId) -> Result<AttachedId, Halt> {
        match self.ready_server(shard) {
            Some(at) => Ok(at),
            None => self.attach_to(shard, Wants::Primary).await,
        }
    }

    /// The same for a request that may want no more than a read. A server that works
    /// for the session on that shard already is kept.
    pub(super) async fn attach_to(
        &mut self,
        shard: ShardId,
        wants: Wants,
    ) -> Result<AttachedId, Halt> {
        self.check_followed(shard)?;
        self.wait_for_doubts(shard).await?;
        self.wait_for_finishing(shard).await?;
        let takes_part = !matches!(wants, Wants::NoPart);
        if takes_part {
            self.leave_bystanders(shard).await?;
        }
        let at = match self.servers.of_shard(shard) {
            Some(at) => at,
            None => self.join(shard, wants).await?,
        };
        self.servers[at].inbox.stands_by &= !takes_part;
        if let Some(other) = self.servers.active
            && other != at
        {
            // Replies go to the client in the order of its requests.
            self.servers[other].lease.flush();
            self.settle(other).await?;
        }
        if self.state.block == Block::None {
            // Should this fail here, what the segment did elsewhere must fail, too.
            self.join_segment(Some(shard), false).await?;
        }
        self.servers.active = Some(at);
        self.servers[at].inbox.oids = self.known.oids(shard).map(Arc::clone);
        let begins = matches!(self.state.block, Block::Begun | Block::Open) && {
            let inbox = &self.servers[at].inbox;
            !(inbox.in_block || inbox.in_segment)
        };
        self.servers[at].inbox.stands_by |= begins && !takes_part;
        self.bring_into_block(at).await?;
        self.mark_branches(shard).await?;
        self.note_use(at);
        self.bring_settings(at).await?;
        Ok(at)
    }

    /// The server that got the message before, if it lacks nothing that [`Session::attach_to`] sees to: most messages
    /// of a segment follow one for the same server.
    pub(super) fn ready_server(&mut self, shard: ShardId) -> Option<AttachedId> {
        let at = self.servers.active?;
        let ready = |s: &&Attached| s.shard == shard && !s.inbox.stands_by;
        let attached = self.servers.get(at).filter(ready)?;
        let inbox = &attached.inbox;
        let told_all = inbox.told == self.state.history.events().len();
        let in_block = match self.state.block {
            Block::Begun | Block::Open => {
                inbox.in_block
                    && told_all
                    && self
                        .transaction
                        .unmarked(&self.servers, &self.state)
                        .is_none()
                    && !self.transaction.must_stay(&self.servers, &self.state)
            }
            Block::None => told_all,
            Block::Refused | Block::Failed | Block::Lost => true,
        };
        let same_oids = match (self.known.oids(shard), &inbox.oids) {
            (None, None) => true,
            (Some(now), Some(then)) => Arc::ptr_eq(now, then),
            _ => false,
        };
        let ready = in_block
            && same_oids
            && self.core.shared.doubts.count() == 0
            && self.state.marks.unfollowed != Unfollowed::Before
            && self.state.settings.same_as(&inbox.carried);
        if !ready {
            return None;
        }
        self.note_use(at);
        Some(at)
    }

    /// A statement goes to this server.
    fn note_use(&mut self, at: AttachedId) {
        let attached = &mut self.servers[at];
        if self.state.runs_unseen() {
            attached.inbox.pins = attached.inbox.pins.with(Pin::Opaque);
        }
        attached.inbox.unfollowed |= self.state.marks.unfollowed == Unfollowed::Now;
        if attached.shard == self.topology.home {
            let (me, process) = (self.entry.who.number, attached.inbox.process);
            let remembers = &mut attached.lease.notes.numbers;
            if self.state.numbers.go_to(me, process, remembers) {
                self.state.pins = self.state.pins.with(Pin::SequenceState);
                attached.inbox.pins = attached.inbox.pins.with(Pin::SequenceState);
            }
        }
        if self.state.notifies {
            let process = (attached.shard, attached.inbox.process);
            let all = &self.core.shared.notifiers;
            let notifier = &mut attached.lease.notes.notifier;
            notifier.get_or_insert_with(|| Notifier::new(all, process, self.state.process));
        }
        let role = match attached.is_primary {
            true => Role::Primary,
            false => Role::Replica,
        };
        self.state.tally.uses(attached.shard, role.into());
    }

    /// Leases a connection, with the settings that hold outside of the transaction. One that is lost before it has got
    /// anything of the client's is replaced by another.
    pub(super) async fn join(
        &mut self,
        shard: ShardId,
        mut wants: Wants,
    ) -> Result<AttachedId, Halt> {
        if self.servers.is_empty() {
            self.state.done_before = DoneBefore::Nothing;
        }
        let mut lost = 0;
        let altered = self.core.see_altered();
        loop {
            let Chosen {
                mut lease,
                waited,
                server,
                is_primary,
                flight,
            } = match self.choose(shard, &wants).await {
                Err(Halt::Fail(report)) => return Err(self.topology.named(shard, report).into()),
                chosen => chosen?,
            };
            lease.standing.set_borrower(self.entry.who.number);
            lease.notes.lend(self.state.process);
            self.state.tally.assigned(waited);
            let carried = SessionSettings::carried(Arc::clone(&lease.notes.settings));
            let mut inbox = Inbox::new(shard, carried, self.core.take_lists());
            inbox.process = lease.cancel.key.pid;
            inbox.notifiers = Some(Arc::clone(&self.core.shared.notifiers));
            inbox.clock = self.topology.health.clock(shard.index()).map(Arc::clone);
            let id = self.servers.next_id();
            let at = self.servers.add(Attached {
                id,
                shard,
                server,
                is_primary,
                flight,
                lease,
                inbox,
                kept: None,
                unused: lost < MAX_REPEATS,
            });
            self.show_working();
            if !is_primary && !self.replica_will_do(at).await {
                if let Some(attached) = self.servers.remove(at) {
                    give_back(attached, None, &self.core);
                }
                self.show_working();
                wants = Wants::Primary;
                continue;
            }
            let (prepared, untold) = self.prepare_joined(at, altered).await;
            if untold && matches!(prepared, Err(Halt::Failed)) && self.servers.is_empty() {
                lost += 1;
                continue;
            }
            prepared?;
            let attached = &mut self.servers[at];
            attached.unused = false;
            if let Some(flight) = &mut attached.flight {
                flight.take_off(attached.lease.notes.warm);
            }
            // Not those that the open transaction has changed: this server gets them with its BEGIN.
            let settled = self.state.settings.outside() == self.state.in_force();
            if settled && !self.state.told.is_same(&mut attached.lease.parameters) {
                self.state
                    .tell_differences(&attached.lease.parameters, &mut self.client);
            }
            return Ok(at);
        }
    }

    /// Brings a connection that joins to what the session has outside of its transaction. Also whether nobody has to be told
    /// if the connection is lost meanwhile.
    async fn prepare_joined(&mut self, at: AttachedId, altered: u64) -> (Result<(), Halt>, bool) {
        let outside = Arc::clone(self.state.settings.outside());
        let mut untold = self.transaction.is_unused(&self.servers, &self.state, at);
        let carried = &mut self.servers[at].inbox.carried;
        let prepared = if *carried.current() == outside {
            // Equal lists become one, which is compared faster.
            carried.bring_to(&outside);
            Ok(())
        } else {
            self.servers[at].lease.notes.forms = None;
            let brought = self.bring_to(at, &outside).await;
            // From here on its loss is told.
            if let Some(attached) = self.servers.get_mut(at) {
                attached.unused = false;
                untold = false;
            }
            brought
        };
        let prepared = match prepared {
            Ok(()) if !self.topology.is_postgres(self.servers[at].shard) => {
                self.tell_forms(at).await
            }
            Ok(()) if self.login.beginning.seen != altered => {
                self.keep_beginning(at, altered).await
            }
            other => other,
        };
        let prepared = match prepared {
            Ok(()) if self.must_forget_numbers(at) => self.forget_numbers(at).await,
            other => other,
        };
        let prepared = match prepared {
            Ok(()) => self.forget_meanings(at).await,
            other => other,
        };
        (prepared, untold)
    }

    /// Lets a server forget the statements that it has prepared while names may have meant something else.
    async fn forget_meanings(&mut self, at: AttachedId) -> Result<(), Halt> {
        let names = self.known.model.as_ref().map_or(0, |model| model.names());
        let lease = &mut self.servers[at].lease;
        let before = std::mem::replace(&mut lease.notes.names, names);
        if before == names {
            return Ok(());
        }
        lease.unnamed = None;
        let prepared = &lease.notes.prepared;
        if prepared.is_empty() || prepared.has_given() {
            return Ok(());
        }
        self.ask(at, b"DEALLOCATE ALL").await?;
        let attached = self.servers.get_mut(at).ok_or(Halt::Failed)?;
        attached.lease.notes.prepared.clear();
        Ok(())
    }

    /// Lets a server forget the numbers that other clients have taken from sequences. The statement must not run where that
    /// fails, so it is waited for.
    async fn forget_numbers(&mut self, at: AttachedId) -> Result<(), Halt> {
        self.ask(at, b"DISCARD SEQUENCES").await?;
        let attached = self.servers.get_mut(at).ok_or(Halt::Failed)?;
        attached.lease.notes.numbers = Remembers::Nothing;
        Ok(())
    }

    /// One that has no settings of its own for a client is told how that one's times are written: by the defaults of a
    /// role or a database, the client may not have said it.
    async fn tell_forms(&mut self, at: AttachedId) -> Result<(), Halt> {
        if self
            .state
            .told
            .has_forms(&mut self.servers[at].lease.notes.forms)
        {
            return Ok(());
        }
        let mut sql = String::new();
        for name in FORMS {
            let value = self.state.told.value(name.as_bytes()).unwrap_or_default();
            sql.push_str("SELECT pg_catalog.set_config(");
            push_literal(&mut sql, name);
            sql.push(',');
            push_literal(&mut sql, &String::from_utf8_lossy(value));
            sql.push_str(",false);");
        }
        self.ask(at, sql.as_bytes()).await?;
        if let Some(attached) = self.servers.get_mut(at) {
            attached.lease.notes.forms = Some(Arc::clone(self.state.told.list()));
        }
        Ok(())
    }

    /// Sends the BEGIN that was answered already, with what followed it.
    pub(super) async fn begin_on(&mut self, at: AttachedId) -> Result<(), Halt> {
        let mut sql = String::from("BEGIN");
        if !self.state.modes.is_empty() {
            sql.push(' ');
            sql.push_str(&self.state.modes);
        }
        let in_segment = self.servers[at].inbox.in_segment;
        if in_segment {
            // It takes what the segment has done into the block.
            self.run_quietly(at, sql.as_bytes()).await?;
        } else if self.state.modes.is_empty() {
            // The statement follows it at once, and is not run where BEGIN fails.
            let attached = &mut self.servers[at];
            attached.inbox.ahead += 1;
            attached
                .lease
                .request(Audience::Router, |send| send.begin());
        } else {
            self.ask(at, sql.as_bytes()).await?;
        }
        let inbox = &mut self.servers[at].inbox;
        inbox.carried.begin();
        inbox.told = 0;
        let told = self.tell_deeds(at).await;
        // It knows of the block also where it takes no part of it: MongoDB has no savepoints. Who is lost is not there.
        if let Some(attached) = self.servers.get_mut(at)
            && (told.is_ok() || self.state.block == Block::Begun)
        {
            attached.inbox.in_block = true;
            self.state.block = Block::Open;
        }
        told
    }

    /// Sees to it that a server is in the open transaction, and where the others are.
    pub(super) async fn bring_into_block(&mut self, at: AttachedId) -> Result<(), Halt> {
        match self.state.block {
            Block::Begun | Block::Open if self.servers[at].inbox.in_block => {
                self.tell_deeds(at).await
            }
            Block::Begun | Block::Open => self.begin_on(at).await,
            // What holds for the segment.
            Block::None if self.servers[at].inbox.in_segment => self.tell_deeds(at).await,
            Block::None | Block::Refused | Block::Failed | Block::Lost => Ok(()),
        }
    }

    /// Repeats on a server what the transaction has done elsewhere since it was told last.
    async fn tell_deeds(&mut self, at: AttachedId) -> Result<(), Halt> {
        // One that ran a RESET itself has its own defaults since. What it lacks of the
        // startup packet's must come before a later SET LOCAL, or it would hide that.
        let history = &self.state.history;
        if let Some(after) = history.settings_between(self.servers[at].inbox.told) {
            let after = Arc::clone(after);
            self.bring_to(at, &after).await?;
        }
        while let Some(event) = self.state.history.events().get(self.servers[at].inbox.told) {
            let event = event.clone();
            if event.is_snapshot() {
                return Err(another_snapshot().into());
            }
            self.tell(at, &event.sql()).await?;
            let inbox = &mut self.servers[at].inbox;
            inbox.told += 1;
            match event {
                TransactionEvent::Savepoint(name) => inbox.carried.savepoint(&name),
                TransactionEvent::Session { after, .. } => {
                    inbox.carried.begin();
                    inbox.carried.bring_to(&after);
                }
                TransactionEvent::Local(_) => {}
            }
        }
        Ok(())
    }

    /// Sees to it that a server has the session's settings. Before each statement: after a
    /// RESET it has its own defaults instead of the startup packet's, and what is set later
    /// than a SET LOCAL would hide that.
    pub(super) async fn bring_settings(&mut self, at: AttachedId) -> Result<(), Halt> {
        // In a failed transaction nothing can be set, and all that comes is its end.
        let failed = matches!(
            self.state.block,
            Block::Failed | Block::Refused | Block::Lost
        );
        if failed || self.state.settings.same_as(&self.servers[at].inbox.carried) {
            return Ok(());
        }
        let wanted = Arc::clone(self.state.settings.current());
        self.bring_to(at, &wanted).await
    }

    pub(super) async fn bring_to(
        &mut self,
        at: AttachedId,
        wanted: &Arc<crate::statements::settings::Settings>,
    ) -> Result<(), Halt> {
        let sql = wanted.sql_from(self.servers[at].inbox.carried.current());
        if !sql.is_empty() {
            let told = self.tell(at, &sql).await;
            self.state.stuck = matches!(told, Err(Halt::Fail(_)));
            told?;
        }
        let inbox = &mut self.servers[at].inbox;
        if inbox.in_segment {
            inbox.carried.begin();
        }
        inbox.carried.bring_to(wanted);
        Ok(())
    }

    /// Runs statements of the router's own on a server: within the segment that is open there, which a simple query
    /// would end, and its implicit transaction with it.
    pub(super) async fn tell(&mut self, at: AttachedId, sql: &str) -> Result<(), Halt> {
        if !self.servers[at].inbox.in_segment {
            return self.ask(at, sql.as_bytes()).await;
        }
        let strings = self.standard_strings();
        for part in split(sql.as_bytes(), strings).filter(|part| !part.empty) {
            self.run_quietly(at, part.span.of(sql.as_bytes())).await?;
        }
        Ok(())
    }

    /// Asks a server a question of the router's own. The first value of the first row, if it is not NULL. It may have the
    /// client's own words in it: an error is the client's, and leaves the connection as it is.
    pub(super) async fn ask_row(
        &mut self,
        at: AttachedId,
        sql: &str,
    ) -> Result<Option<String>, Halt> {
        self.ready_for_row(at).await?;
        if self.servers[at].inbox.in_segment {
            self.tell(at, sql).await?;
        } else if let Some(body) = self.ask_plainly(at, sql.as_bytes()).await? {
            return Err(self.failed_by_server(&body));
        }
        Ok(self.servers.get_mut(at).and_then(|s| s.inbox.row.take()))
    }

    /// What the client is told of an error of a server to what the router has asked.
    pub(super) fn failed_by_server(&self, body: &[u8]) -> Halt {
        Halt::Fail(self.state.report_for_client(body))
    }

    /// The next row of a server is the answer to what it is asked next. What it says of the transaction came ahead of it.
    pub(super) async fn ready_for_row(&mut self, at: AttachedId) -> Result<(), Halt> {
        if self.servers.is_marked() {
            if self.state.phase == Phase::Segment {
                self.servers[at].lease.flush();
            }
            self.settle(at).await?;
            self.transaction.hear_said(&mut self.servers, &self.state);
        }
        self.servers[at].inbox.row = None;
        Ok(())
    }

    /// Runs the router's own SQL on a server and waits for its end. The client sees
    /// nothing of it but its error, which fails the client's request.
    pub(super) async fn ask(&mut self, at: AttachedId, sql: &[u8]) -> Result<(), Halt> {
        let Some(body) = self.ask_plainly(at, sql).await? else {
            return Ok(());
        };
        if let Some(attached) = self.servers.get_mut(at) {
            // Its settings are neither those before nor those after.
            attached.lease.doubt();
        }
        Err(self.failed_by_server(&body))
    }

    /// The same of what changes nothing: gives the error of the server, if there is one.
    pub(super) async fn ask_plainly(
        &mut self,
        at: AttachedId,
        sql: &[u8],
    ) -> Result<Option<Vec<u8>>, Halt> {
        if self.state.phase == Phase::Segment {
            // A simple query would end the implicit transaction of the segment.
            self.settle(at).await?;
        }
        let attached = &mut self.servers[at];
        attached.inbox.private = true;
        attached.lease.query(sql, Audience::Router);
        let settled = self.settle(at).await;
        let Some(attached) = self.servers.get_mut(at) else {
            return Err(Halt::Failed);
        };
        attached.inbox.private = false;
        attached.inbox.ahead = 0;
        settled?;
        Ok(attached.inbox.router_error.take())
    }

    /// Waits for something, but not longer than the client does.
    pub(super) async fn while_client_waits<T>(
        &mut self,
        something: impl Future<Output = T>,
    ) -> Result<T, Halt> {
        let entry = std::rc::Rc::clone(&self.entry);
        entry.begin_wait();
        let result = {
            let mut something = pin!(something);
            let client = &mut self.client;
            let limit = self.topology.config.limits.pipeline_size.bytes();
            poll_fn(|cx| {
                use std::task::Poll;
                if let Poll::Ready(got) = something.as_mut().poll(cx) {
                    return Poll::Ready(Ok(got));
                }
                if entry.is_wait_cancelled() {
                    let report = match entry.seen.deadlock.take() {
                        Some(detail) => deadlock_report(detail),
                        None => canceled_report(),
                    };
                    return Poll::Ready(Err(Halt::Fail(report)));
                }
                while client.input().len() < limit {
                    match client.poll_fill(cx) {
                        Poll::Pending => break,
                        Poll::Ready(Ok(n)) if n > 0 => {}
                        Poll::Ready(_) => return Poll::Ready(Err(Halt::End(End::Gone))),
                    }
                }
                Poll::Pending
            })
            .await
        };
        entry.end_wait();
        result
    }
}

/// What is told of a request that is cancelled while it waits for a connection.
pub(super) fn canceled_report() -> Report {
    Report::error(
        sqlstate::QUERY_CANCELED,
        "canceling statement due to user request",
    )
}

/// What is told of a deadlock over several shards.
pub(super) fn deadlock_report(detail: Box<str>) -> Report {
    Report::error(sqlstate::DEADLOCK_DETECTED, "deadlock detected")
        .detail(detail.into_string())
        .hint("Roll back and try again. Lock rows of several shards in one order, such as that of their keys.")
}

fn another_snapshot() -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "a transaction with an imported snapshot cannot work on several shards",
    )
    .detail("the snapshot is that of one shard, and the others would show other states")
    .hint("Let one connection read all tables: with pg_dump leave out --jobs.")
}

/// Gives a server back with the settings that it carries.
///
/// `ended` is when a request of the session was answered last, if one was.
pub(super) fn give_back(mut attached: Attached, ended: Option<Instant>, core: &Core) {
    if attached.inbox.in_segment {
        // Its server has a transaction open without saying so.
        attached.lease.doubt();
    }
    if attached.inbox.spoiled {
        attached.lease.doubt();
    }
    if attached.lease.notes.prepared.has_given() {
        // Its names are the client's.
        attached.lease.doubt();
    }
    attached.lease.notes.settings = Arc::clone(attached.inbox.carried.current());
    attached.lease.notes.warm = true;
    let well = !attached.lease.is_doubtful();
    if let Some(flight) = attached.flight.take().filter(|_| well) {
        flight.land(ended);
    }
    core.give_lists(attached.inbox.into_lists());
    super::rests::take_back(attached.lease, core);
}

/// What a client is told when no connection could be had.
pub(super) fn lease_report(error: &LeaseError) -> Report {
    match error {
        LeaseError::QueueFull(Full { waiting, of }) => {
            let (whose, setting) = match of {
                LimitScope::Pool => ("this pool", "pool.queue_length"),
                LimitScope::Router => ("all pools", "limits.queue_length"),
            };
            Report::error(
                sqlstate::TOO_MANY_CONNECTIONS,
                format!("{waiting} requests already wait for a server connection"),
            )
            .detail(format!("so many wait for {whose}, and no more may"))
            .hint(format!("Repeat it later. The setting is {setting}."))
        }
        LeaseError::SentAway { waiting } => Report::error(
            sqlstate::TOO_MANY_CONNECTIONS,
            "a request of a higher priority took the place in the queue",
        )
        .detail(format!(
            "{waiting} requests wait for a server connection of this pool"
        ))
        .hint("Repeat it later. The settings are pool.queue_length and limits.queue_length."),
        LeaseError::TimedOut {
            waited,
            priority: Priority::New(_),
        } => Report::error(
            sqlstate::TOO_MANY_CONNECTIONS,
            format!(
                "no server connection became free within {} ms",
                waited.as_millis()
            ),
        )
        .hint("The settings are pool.max and pool.queue_timeout."),
        LeaseError::TimedOut {
            waited,
            priority: Priority::Join,
        } => Report::error(
            sqlstate::DEADLOCK_DETECTED,
            format!(
                "transaction got no connection to another shard within {} ms",
                waited.as_millis()
            ),
        )
        .hint("Repeat the transaction. The settings are pool.join_reserve and pool.join_timeout."),
        LeaseError::NoRoom { waited, cause } => {
            let refused = refusal(cause).map_or_else(|| cause.to_string(), |(_, said)| said);
            Report::error(
                sqlstate::TOO_MANY_CONNECTIONS,
                format!(
                    "no server connection became free within {} ms",
                    waited.as_millis()
                ),
            )
            .detail(format!("the server takes no more of them: {refused}"))
            .hint("Lower pool.max, or raise what the server allows: max_connections, or the CONNECTION LIMIT of the role or database.")
        }
        LeaseError::Open(error) | LeaseError::Resting(error) => open_report(error),
    }
}

/// SQLSTATE and message of a server that has refused a login.
fn refusal(error: &OpenError) -> Option<(String, String)> {
    let OpenError::Login {
        cause: ServerLoginError::Refused(refused),
        ..
    } = error
    else {
        return None;
    };
    Some((refused.sqlstate.clone()?, refused.message.clone()?))
}

/// What a client is told when a server refused or could not be reached. It is
/// logged in already, so the server's own words may be passed on.
pub(super) fn open_report(error: &OpenError) -> Report {
    tracing::warn!(error = %crate::log::Chain(error), "could not open a server connection");
    if let Some((code, message)) = refusal(error) {
        return Report::error(code, message);
    }
    Report::error(
        sqlstate::CONNECTION_FAILURE,
        "could not connect to a server",
    )
    .detail(format!("{error}"))
    .hint("The router's log has the reason.")
}
