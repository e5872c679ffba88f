//! The socket side of a session: takes messages from the client, waits for either
//! side, and hands what a server says to [`State`](super::state::State).

use super::inbox::Inbox;
use super::large::ReadText;
use super::passage::Passage;
use super::primary;
use super::repeat::{Abandoned, Again, RequestMarks, renew};
use super::servers::AttachedId;
use super::state::{Block, DoneBefore, Ended, Phase, State};
use super::turns::AttemptOutcome;
use super::{
    Attached, End, Halt, Servers, Session, belongs_to_copy, too_long, unexpected_in_copy, violation,
};
use crate::core::Life;
use crate::core::clock::Doing;
use crate::pressure::HOARD;
use mothership_pool::connection::{Broken, Fate, Flow, Reader};
use mothership_pool::wire::Wire;
use mothership_proto::backend::{self, TxStatus};
use mothership_proto::frame::{self, Frame, FrameError, Next};
use mothership_proto::frontend::tag;
use mothership_proto::ledger::{Audience, Event, Step};
use mothership_proto::report::{Fields, Report, sqlstate};
use mothership_sql::quote::identifier;
use std::borrow::Cow;
use std::future::poll_fn;
use std::task::{Context, Poll};

/// Bytes read ahead from a client while its request is being answered.
pub(super) const READ_AHEAD: usize = 64 * 1024;
/// So many bytes of a message that is not whole are read before others have their turn.
const AT_ONCE: usize = 1024 * 1024;

impl Servers {
    /// Whether a server that the session keeps may still get a cancel that was meant for an earlier request.
    fn is_being_cancelled(&self, state: &State) -> bool {
        let pending = |s: &Attached| s.lease.cancel.is_pending();
        state.phase == Phase::Idle && self.iter().any(pending)
    }
}

impl Session {
    /// Takes one message from the client's input, if a whole one is there.
    pub(super) async fn take_frame(&mut self) -> Result<bool, End> {
        if self.servers.is_being_cancelled(&self.state) {
            Box::pin(self.wait_for_cancels()).await;
        }
        let read = match self.large_text() {
            Some(text) => Box::pin(self.read_large(text)).await,
            None => None,
        };
        if read.is_none() && self.take_overtaken().await? {
            return Ok(true);
        }
        match self.take_segment().await {
            Ok(false) => {}
            taken => return self.taken(taken.map(|_| ())).await,
        }
        let limit = self.topology.config.limits.client_message.bytes();
        let message = match frame::next(self.client.input(), limit) {
            Ok(Next::Whole(frame)) => frame,
            Ok(Next::Partial { tag: Some(tag), .. }) if !is_known(tag) => return Err(unknown(tag)),
            Ok(Next::Partial { .. }) => return Ok(false),
            Err(FrameError::Invalid { tag, .. } | FrameError::TooLong { tag, .. })
                if !is_known(tag) =>
            {
                return Err(unknown(tag));
            }
            Err(FrameError::Invalid { .. }) => {
                return Err(End::Told(violation("invalid message length")));
            }
            Err(FrameError::TooLong { length, limit, .. }) => {
                return Err(End::Told(too_long(length, limit)));
            }
        };
        self.entry.pulse.begin(Doing::Running);
        let length = message.bytes.len();
        self.state.tally.took(message.tag(), length);
        if let Phase::CopyIn { extended } = self.state.phase {
            let tag = message.tag();
            self.copy_in(tag, extended, length).await?;
            return Ok(true);
        }
        // The message is moved out of the input, because serving it may wait for the
        // client: to see that it is gone, or for the next message.
        let mut bytes = self.core.take_scratch();
        bytes.extend_from_slice(message.bytes);
        self.client.consume(length);
        self.request.again = Again::Never;
        self.request.buffers = primary::buffers(length);
        let result = self.on_frame(bytes[0], &bytes[frame::HEADER..], read).await;
        self.request.buffers = 0;
        self.keep_request(bytes);
        self.taken(result).await
    }

    /// PostgreSQL signals a backend and then its process group, so that the second signal may come when the request has
    /// ended. Its next request waits until the server has closed the connection of the cancel.
    async fn wait_for_cancels(&mut self) {
        for attached in self.servers.iter() {
            attached.lease.cancel.settled().await;
        }
    }

    /// What was taken from the input was served, or has failed.
    pub(super) async fn taken(&mut self, result: Result<(), Halt>) -> Result<bool, End> {
        match result {
            Ok(()) => Ok(true),
            Err(Halt::Failed) => {
                self.hear_ahead().await;
                // The error was passed on; a simple query still owes its end.
                if self.state.phase == Phase::Query {
                    self.state.ready_alone(&mut self.client);
                }
                Ok(true)
            }
            Err(Halt::End(end)) => Err(end),
            Err(Halt::Fail(report)) => {
                self.raise(report).await?;
                Ok(true)
            }
        }
    }

    /// `read` is its statement, if it was read before.
    pub(super) async fn on_frame(
        &mut self,
        message: u8,
        body: &[u8],
        read: Option<ReadText>,
    ) -> Result<(), Halt> {
        if self.state.skipping && !matches!(message, tag::SYNC | tag::TERMINATE) {
            return if is_known(message) {
                Ok(())
            } else {
                Err(unknown(message).into())
            };
        }
        self.request.written = None;
        if !matches!(message, tag::DESCRIBE | tag::FLUSH) {
            self.request.taken += 1;
            if self.state.block != Block::None {
                self.state.done_before = self.state.done_before.max(DoneBefore::Something);
            }
        }
        if message != tag::SYNC {
            self.say_waiting_command();
        }
        match message {
            tag::QUERY => self.on_query(body, read).await,
            tag::PARSE => self.on_parse(body).await,
            tag::BIND => self.on_bind(body).await,
            tag::DESCRIBE => self.on_describe(body).await,
            tag::EXECUTE => self.on_execute(body).await,
            tag::CLOSE => self.on_close(body).await,
            tag::FLUSH => self.on_flush().await,
            tag::SYNC => self.on_sync().await,
            tag::FUNCTION_CALL => Box::pin(self.on_function_call(body)).await,
            // Left over from a COPY that failed: PostgreSQL ignores them, too.
            tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => Ok(()),
            tag::TERMINATE => Err(End::Gone.into()),
            tag => Err(unknown(tag).into()),
        }
    }

    /// COPY FROM STDIN: the message goes straight to the server.
    async fn copy_in(&mut self, message: u8, extended: bool, length: usize) -> Result<(), End> {
        if !belongs_to_copy(message) {
            return Err(End::Told(unexpected_in_copy(message)));
        }
        let Some(at) = self.servers.active else {
            self.client.consume(length);
            return Ok(());
        };
        let server = &mut self.servers[at];
        // The server ignores Flush and Sync here, "for the convenience of client
        // libraries".
        if !matches!(message, tag::FLUSH | tag::SYNC) {
            server.lease.pass_copy(&self.client.input()[..length]);
        }
        self.client.consume(length);
        if matches!(message, tag::COPY_DONE | tag::COPY_FAIL) {
            self.state.phase = if extended {
                Phase::Segment
            } else {
                Phase::Query
            };
        } else if message == tag::TERMINATE {
            return Err(End::Gone);
        }
        Ok(())
    }

    /// Waits until the client has sent more or a server has answered.
    pub(super) async fn wait(&mut self) -> Result<(), End> {
        let suspended = self.core.suspended.get();
        poll_fn(|cx| {
            if suspended && !self.core.suspended.get() {
                // What came meanwhile may be taken now.
                return Poll::Ready(Ok(()));
            }
            self.poll_wait(cx)
        })
        .await
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        if let Some(report) = self.must_go() {
            return Poll::Ready(Err(End::Told(report)));
        }
        let limits = &self.topology.config.limits;
        let buffer = limits.client_buffer.bytes();
        let copy_buffer = limits.copy_buffer.bytes();
        // A client that does not read costs bounded memory: its servers wait.
        if self.client.unsent() > buffer {
            match self.client.poll_drained(cx, buffer / 2) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(End::Gone)),
                Poll::Pending => {
                    self.entry.pulse.set(Doing::Stalled);
                    return Poll::Pending;
                }
            }
        }
        let doing = self.doing();
        if doing == Doing::Idle {
            self.rules.rest();
        }
        match doing {
            Doing::Unfinished => {
                let held = self.client.input().len();
                self.entry.pulse.set_unfinished(held);
            }
            doing => self.entry.pulse.set(doing),
        }
        for at in self.servers.ids() {
            if let Poll::Ready(()) = self.poll_server(cx, at) {
                return Poll::Ready(Ok(()));
            }
        }
        // A server that does not take COPY data holds the client back.
        if let Some(at) = self.servers.active
            && let Some(server) = self.servers.get_mut(at)
            && server.lease.unsent() > copy_buffer
        {
            match server.lease.poll_drained(cx, copy_buffer / 2) {
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        let reads_ahead = self.may_take() || self.client.input().len() < READ_AHEAD;
        if !reads_ahead {
            return Poll::Pending;
        }
        let before = self.client.input().len();
        let hoards = doing == Doing::Unfinished && before >= HOARD as usize;
        let pressure = &self.core.shared.pressure;
        // It is held back until memory is measured again.
        if self.request.marks.take(RequestMarks::YIELDS) || hoards && pressure.holds_back() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.client.poll_fill(cx) {
            Poll::Pending => {
                self.poll_rest(cx);
                Poll::Pending
            }
            Poll::Ready(Ok(n)) if n > 0 => {
                if hoards {
                    pressure.grew(n);
                }
                // Whoever sends faster than is read would have the core for as long as he sends.
                if before / AT_ONCE != (before + n) / AT_ONCE {
                    self.request.marks.set(RequestMarks::YIELDS);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(_) => Poll::Ready(Err(End::Gone)),
        }
    }

    /// What the session waits for.
    fn doing(&self) -> Doing {
        let owed = || self.servers.iter().any(|s| !s.lease.ledger().is_empty());
        // Of whole messages nothing is left in the input then.
        let begun = !self.client.input().is_empty() && self.may_take();
        let copies = matches!(self.state.phase, Phase::CopyIn { .. });
        if begun && (copies || !owed()) {
            return Doing::Unfinished;
        }
        match self.state.phase {
            Phase::Idle if self.state.block == Block::None => Doing::Idle,
            Phase::Idle => Doing::InTransaction,
            Phase::Segment if !owed() => Doing::InTransaction,
            Phase::Segment | Phase::Query | Phase::Syncing | Phase::CopyIn { .. } => Doing::Running,
        }
    }

    /// The process ends, an administrator wants this client gone, or what it had on its server is gone.
    pub(super) fn must_go(&self) -> Option<Report> {
        if let Some(report) = &self.state.farewell {
            return Some((**report).clone());
        }
        if self.state.orphaned {
            let message = "server connection was lost, and with it what the session had there";
            return Some(Report::fatal(sqlstate::CONNECTION_FAILURE, message));
        }
        let idle = self.state.phase == Phase::Idle && self.state.block == Block::None;
        let goes = match self.core.life.get() {
            Life::Serving | Life::Announced | Life::HandedOver | Life::Closing => false,
            Life::Draining => idle,
            Life::Ending => true,
        };
        (goes || self.entry.killed.get()).then(|| match self.servers.is_outcome_unknown() {
            false => Report::fatal(
                sqlstate::ADMIN_SHUTDOWN,
                "terminating connection due to administrator command",
            ),
            true => Report::fatal(
                sqlstate::UNKNOWN_OUTCOME,
                "terminating connection due to administrator command before the outcome was known",
            )
            .hint("The statement may have taken effect. Look before repeating it."),
        })
    }

    /// Handles what a server has sent; ready if that may change what happens next.
    pub(super) fn poll_server(&mut self, cx: &mut Context<'_>, at: AttachedId) -> Poll<()> {
        match self.poll_farewell(cx, at) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(false) if self.takes_back_refused(at) => return Poll::Ready(()),
            Poll::Ready(false) => {}
            Poll::Ready(true) => {
                self.lost(at, &Broken::Closed);
                return Poll::Ready(());
            }
        }
        let Self {
            client,
            state,
            servers,
            ..
        } = self;
        let Attached { lease, inbox, .. } = &mut servers[at];
        let polled = lease.poll_messages(
            cx,
            Relay {
                client,
                state,
                inbox,
            },
        );
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => {
                self.after_messages(at);
                Poll::Ready(())
            }
            Poll::Ready(Err(error)) => {
                self.lost(at, &error);
                Poll::Ready(())
            }
        }
    }

    /// Brings the notes of the connection up to date.
    pub(super) fn after_messages(&mut self, at: AttachedId) {
        let Attached { lease, inbox, .. } = &mut self.servers[at];
        let unforgotten = lease.take_unforgotten();
        let is_news = !inbox.parsed.is_empty() || !unforgotten.is_empty() || inbox.discarded;
        for id in inbox.parsed.drain(..).chain(unforgotten) {
            lease.notes.prepared.insert(id);
        }
        if std::mem::take(&mut inbox.discarded) {
            lease.notes.prepared.clear();
            lease.unnamed = None;
        }
        if std::mem::take(&mut inbox.unnamed_lost) {
            lease.unnamed = None;
        }
        if is_news {
            lease
                .standing
                .set_prepared(lease.notes.prepared.len() as u32);
        }
        let read_only = std::mem::take(&mut inbox.read_only);
        let (shard, server) = (self.servers[at].shard, self.servers[at].server);
        if read_only && self.servers[at].is_primary {
            // Perhaps it is none any longer.
            self.topology.report_lost(shard, server);
        }
        let Attached { inbox, .. } = &mut self.servers[at];
        if inbox.fatal {
            let gone = Broken::Closed;
            self.lost(at, &gone);
        }
    }

    /// The transaction, and what else the session had on its servers, is gone with one of them.
    fn lose_transaction(&mut self) {
        if self.state.block != Block::None {
            self.state.end_block(Ended::Undone);
            if !self.transaction.implicit {
                self.state.block = Block::Lost;
            }
            self.state.untold.set(self.state.phase == Phase::Idle);
            self.state.settings.rollback();
        }
        // Its other parts cannot go on without it: closing undoes them.
        for mut other in self.servers.take_all() {
            other.lease.doubt();
        }
        self.transaction.implicit = false;
        self.show_working();
        self.state.portals.close_all();
        // As with PostgreSQL itself: who listens there, or has a lock, would wait for nothing.
        self.state.orphaned |= !self.state.pins.is_empty();
        self.state.pins = crate::statements::step::Pins::NONE;
    }

    /// A server connection is gone: the request fails, and so does its transaction.
    pub(super) fn lost(&mut self, at: AttachedId, error: &Broken) {
        let unreplicated = matches!(error, Broken::Unreplicated);
        let unbegun = matches!(error, Broken::Unbegun(_));
        // What a server has committed is not sent again, nor what somebody has cancelled.
        let may_repeat = !unreplicated && !unbegun;
        if may_repeat && (self.takes_back(at) || self.drops_unused(at) || self.reads_again(at)) {
            return;
        }
        let Some(mut attached) = self.servers.remove(at) else {
            return;
        };
        match error {
            // Backends outlive a postmaster that was killed by a moment: nothing else is begun on one.
            Broken::Closed | Broken::Io(_) => renew(&mut attached.lease),
            Broken::Frame(_) | Broken::Desync(_) | Broken::Unreplicated | Broken::Unbegun(_) => {
                attached.lease.doubt()
            }
        }
        let own_matter = match error {
            Broken::Frame(FrameError::TooLong { .. }) | Broken::Unreplicated => true,
            _ => attached.inbox.fatal && !attached.inbox.leaving,
        };
        match own_matter {
            // The server is well.
            _ if unbegun => {}
            true => self.topology.report_lost(attached.shard, attached.server),
            false => self.topology.report_broken(attached.shard, attached.server),
        }
        self.servers.active = None;
        // What it said to a question of the router's own, nobody else has heard.
        let was_told = attached.inbox.fatal && attached.inbox.router_error.is_none();
        let committing = attached.inbox.committing;
        let autocommit = self.state.block == Block::None;
        let abandoned = Abandoned {
            committing,
            unreplicated,
            autocommit,
            may_write: attached.inbox.may_write,
        };
        let unknown = !unbegun && abandoned.is_unknown();
        if unknown || attached.inbox.wrote {
            // It may end without anybody to tell.
            attached.inbox.touched.add(None);
            self.state.acknowledge(&attached.inbox);
        }
        self.lose_transaction();
        tracing::warn!(
            server = %attached.lease.pool().opener().endpoint().address,
            error = %error,
            said = ?attached.lease.farewell(),
            repeated = self.request.repeated,
            "lost a server connection",
        );
        // Of a request that has failed the client has heard already: nothing follows but its ReadyForQuery.
        let ends = matches!(self.state.phase, Phase::Query | Phase::Syncing);
        let failed = self.state.skipping || ends && self.state.has_failed();
        let heard = was_told || (failed && !unknown);
        if !heard && self.state.phase != Phase::Idle {
            let report = match error {
                Broken::Unbegun(body) => self.state.report_for_client(body),
                error => self.topology.named(attached.shard, abandoned.report(error)),
            };
            self.client.with_output(|out| report.put(out));
        }
        if committing {
            self.state.block = Block::None;
        }
        self.state.note_failure();
        if self.state.farewell.is_some() {
            // The client gets nothing more but that.
            return;
        }
        match self.state.phase {
            Phase::Query | Phase::Syncing | Phase::CopyIn { extended: false } => {
                self.state.ready_alone(&mut self.client);
            }
            Phase::Segment | Phase::CopyIn { extended: true } => {
                self.state.phase = Phase::Segment;
                self.state.skipping = true;
            }
            Phase::Idle => {}
        }
    }

    /// Waits until a server owes nothing. Fails if it failed meanwhile, or if the statement is to give way to others: what
    /// the router asks for itself may wait for a lock, too.
    pub(super) async fn settle(&mut self, at: AttachedId) -> Result<(), Halt> {
        if let Some(attached) = self.servers.get_mut(at)
            && attached.inbox.in_segment
            && !attached.lease.ledger().is_empty()
        {
            // Without it a server keeps its answers until Sync. Whoever sent the last message may not have known of this wait.
            attached.lease.flush();
        }
        loop {
            let Some(attached) = self.servers.get(at) else {
                return Err(Halt::Failed);
            };
            let ledger = attached.lease.ledger();
            if ledger.is_empty() {
                return Ok(());
            }
            if ledger.is_skipping() || self.state.skipping {
                return Err(Halt::Failed);
            }
            let gives_way = poll_fn(|cx| match self.entry.yielding.is_asked() {
                true => Poll::Ready(true),
                false => self.poll_server(cx, at).map(|()| false),
            });
            if gives_way.await {
                self.request.met = AttemptOutcome::Others;
                return Err(Halt::Failed);
            }
        }
    }

    /// Reports an error of the router's own in its turn, and makes the transaction
    /// fail where a server holds it, as if the server had raised it.
    pub(super) async fn raise(&mut self, report: Report) -> Result<(), End> {
        let phase = self.state.phase;
        if phase == Phase::Segment
            && let Some(at) = self.servers.active
        {
            self.servers[at].lease.flush();
            match self.settle(at).await {
                Ok(()) => {}
                // The server's error came first: the client ignores what follows it.
                Err(Halt::Failed) if self.state.skipping => {
                    self.hear_ahead().await;
                    return Ok(());
                }
                // It was the answer to a question of the router's own.
                Err(Halt::Failed) => {}
                Err(Halt::End(end)) => return Err(end),
                Err(Halt::Fail(_)) => unreachable_in_debug(),
            }
        }
        self.request.held = None;
        self.client.with_output(|out| report.put(out));
        self.state.note_report(&report);
        self.hear_ahead().await;
        if self.transaction.implicit && self.state.phase != Phase::Segment {
            self.rollback_all().await;
            self.transaction.implicit = false;
            self.state.end_block(Ended::Undone);
        } else if self.servers.len() <= 1 || self.state.block == Block::None {
            self.fail_servers().await?;
        }
        match &self.state.block {
            Block::Begun if !self.transaction.implicit => {
                // Servers that have not begun this block are given back. A segment keeps its own up to Sync.
                if !self.servers.iter().any(|s| s.inbox.in_segment) {
                    self.leave_outsiders();
                }
                self.state.block = match self.servers.is_empty() {
                    true => Block::Refused,
                    false => Block::Failed,
                };
            }
            Block::Open if self.transaction.implicit => {}
            Block::Open if self.servers.is_empty() => self.state.block = Block::Lost,
            Block::Open => self.state.block = Block::Failed,
            _ => {}
        }
        if self.state.phase == Phase::Segment {
            self.state.skipping = true;
        } else {
            self.state.ready_alone(&mut self.client);
        }
        Ok(())
    }

    /// Takes the answers of servers that were sent only what goes ahead of a statement, such as BEGIN: the request has failed
    /// before its statement was sent there. Nobody waits for these answers, and they must not be taken for those to a later
    /// request.
    pub(super) async fn hear_ahead(&mut self) {
        for at in self.servers.ids() {
            let Attached { lease, inbox, .. } = &self.servers[at];
            let owes = inbox.ahead > 0 && inbox.ahead as usize == lease.ledger().len();
            if owes && !self.hear_out_attempt(at).await {
                // Without its part of the transaction nothing of it can go on.
                self.servers.active = None;
                self.lose_transaction();
                return;
            }
        }
    }

    /// Waits for the end of a private request and gives its error to the client.
    pub(super) async fn finish_private(&mut self, at: AttachedId) -> Result<(), Halt> {
        let owes = |s: &Attached| !s.lease.ledger().is_empty();
        while self.servers.get(at).is_some_and(owes) {
            poll_fn(|cx| self.poll_server(cx, at)).await;
        }
        let Some(attached) = self.servers.get_mut(at) else {
            return Err(Halt::Failed);
        };
        attached.inbox.private = false;
        match attached.inbox.router_error.take() {
            None => Ok(()),
            Some(body) => Err(self.failed_by_server(&body)),
        }
    }

    /// Gives back what a failed block has locked on all its servers. PostgreSQL keeps nothing but what was locked before the
    /// last savepoint of the client; an error takes back what came after the last one, which may be the router's own.
    pub(super) async fn free_failed(&mut self) -> Result<(), End> {
        if self.state.block != Block::Failed || self.state.phase != Phase::Idle {
            return Ok(());
        }
        let last = self.state.history.last_savepoint();
        let told = match last {
            Some((_, name)) => format!("ROLLBACK TO SAVEPOINT {}", identifier(name)),
            None => "ROLLBACK;BEGIN".to_owned(),
        };
        let behind = last.map_or(0, |(at, _)| at + 1);
        for at in self.servers.ids() {
            let Attached { inbox, lease, .. } = &mut self.servers[at];
            let rests = lease.ledger().is_empty() && lease.status != TxStatus::Idle;
            let own = inbox.saved.is_some_and(|saved| saved.events >= behind);
            // Named portals and cursors can be asked for until the block ends.
            if rests && own && inbox.told >= behind && self.state.portals.count() == 0 {
                inbox.saved = None;
                self.private_query(at, &told).await;
            }
        }
        let limit = self.topology.config.pool.reset_timeout;
        let freed = tokio::time::timeout(limit, self.fail_servers()).await;
        freed.unwrap_or_else(|_| {
            // The client goes on with the others; ROLLBACK closes what does not answer.
            let late = |s: &&mut Attached| !s.lease.ledger().is_empty();
            self.servers
                .iter_mut()
                .filter(late)
                .for_each(|s| s.lease.doubt());
            Ok(())
        })
    }

    /// Makes the open transactions on the servers fail.
    async fn fail_servers(&mut self) -> Result<(), End> {
        let in_segment = self.state.phase == Phase::Segment;
        let several = self.servers.len() > 1;
        for at in self.servers.ids().into_iter().rev() {
            if several && in_segment && !self.state.stakes(&self.servers[at]) {
                continue;
            }
            let inbox = &self.servers[at].inbox;
            // What one that has not heard of the last savepoint has locked was locked before it.
            let last = self.state.history.last_savepoint();
            let is_told = last.is_none_or(|(at, _)| inbox.told > at);
            let rests = self.servers[at].lease.ledger().is_empty();
            if several && !in_segment && !(is_told && rests) {
                continue;
            }
            let attached = &mut self.servers[at];
            let lease = &mut attached.lease;
            // One that is kept and has no part in the segment has nothing to fail, and would get no Sync. In a segment a
            // transaction that had failed at its beginning may go on by now, or have ended: ROLLBACK TO, ROLLBACK.
            let takes_part = in_segment && attached.inbox.in_segment;
            if lease.ledger().is_skipping() || (lease.status != TxStatus::Open && !takes_part) {
                continue;
            }
            // A statement that PostgreSQL cannot parse fails without doing anything.
            const NONSENSE: &[u8] = b"mothership: an error was raised by the router";
            // Whoever waits may give up, and the answer comes later.
            attached.inbox.private = true;
            if in_segment {
                attached.inbox.in_segment = true;
                lease.request(Audience::Router, |send| {
                    send.parse(NONSENSE, &[]);
                    send.flush();
                });
            } else {
                lease.query(NONSENSE, Audience::Router);
            }
            let heard = self.hear_failure(at).await;
            let attached = &mut self.servers[at];
            attached.inbox.private = false;
            if !heard {
                let (shard, server) = (attached.shard, attached.server);
                self.topology.report_broken(shard, server);
                self.servers.active = None;
                self.lose_transaction();
                break;
            }
        }
        Ok(())
    }

    /// Takes what a server says to a statement that it cannot parse. False if the server is lost; the client has heard of
    /// its error already.
    async fn hear_failure(&mut self, at: AttachedId) -> bool {
        let Attached { lease, inbox, .. } = &mut self.servers[at];
        inbox.preparing.clear();
        inbox.describing.clear();
        let (notifications, own) = (&mut self.state.notifications, self.state.process);
        let mut fatal = false;
        let mut take = |frame: Frame<'_>, reply: Step| {
            fatal |= reply.event == Event::Failed && Fields::read(frame.body()).is_fatal();
            if reply.event == Event::Notification {
                match inbox.notification(frame, own) {
                    Some(bytes) => notifications.made().extend_from_slice(&bytes),
                    None => notifications.made().extend_from_slice(frame.bytes),
                }
            }
            Flow::Continue
        };
        while !lease.ledger().is_empty() && !lease.ledger().is_skipping() {
            let heard = poll_fn(|cx| lease.poll_messages(cx, &mut take));
            if heard.await.is_err() {
                return false;
            }
        }
        !fatal
    }

    /// Writes an answer of the router's own, in its turn.
    pub(super) fn answer(&mut self, bytes: impl Into<Cow<'static, [u8]>>) {
        let bytes = bytes.into();
        if let Some(at) = self.servers.active
            && !self.servers[at].lease.ledger().is_empty()
        {
            self.servers[at].lease.answer_in_turn(bytes);
        } else {
            confirm(&bytes, &mut self.state);
            self.client.send(&bytes);
        }
    }
}

/// Takes what a server sends for the client.
struct Relay<'a> {
    client: &'a mut Wire,
    state: &'a mut State,
    inbox: &'a mut Inbox,
}

impl Reader for Relay<'_> {
    fn message(&mut self, before: &[u8], frame: Frame<'_>, reply: Step) -> (Flow, Fate) {
        self.inbox.unnamed_lost |= reply.event == Event::Failed;
        let translated = self.inbox.translated(frame);
        let is_original = translated.is_none() && reply.event != Event::Own;
        let frame = translated.as_deref().map_or(frame, |bytes| Frame { bytes });
        let mut passage = Passage::new(self.client, before, is_original);
        let flow = self.state.on_server(frame, reply, self.inbox, &mut passage);
        (flow, passage.end())
    }

    fn pass(&mut self, messages: &[u8]) {
        self.client.send(messages);
    }
}

/// ParseComplete and CloseComplete make a change of names certain.
pub(super) fn confirm(bytes: &[u8], state: &mut super::state::State) {
    if matches!(
        bytes.first(),
        Some(&backend::tag::PARSE_COMPLETE | &backend::tag::CLOSE_COMPLETE)
    ) {
        state.names.confirm();
    }
}

fn is_known(message: u8) -> bool {
    matches!(
        message,
        b'B' | b'C' | b'd' | b'c' | b'f' | b'D' | b'E' | b'H' | b'F' | b'P' | b'Q' | b'S' | b'X'
    )
}

fn unknown(message: u8) -> End {
    End::Told(violation(format!(
        "invalid frontend message type {message}"
    )))
}

/// Settling raises no error of its own.
fn unreachable_in_debug() {
    debug_assert!(false, "settle fails with Failed or End");
}
