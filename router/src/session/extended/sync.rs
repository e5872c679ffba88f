//! Flush, and Sync, which ends a segment on every server that took part in it.

use crate::session::gather::Bound;
use crate::session::inbox::Notices;
use crate::session::servers::AttachedId;
use crate::session::state::{Block, Phase};
use crate::session::{Attached, Halt, Session};
use crate::statements::errors::put_as_error;
use mothership_proto::backend;
use mothership_proto::ledger::{Audience, Event};

impl Session {
    pub(in crate::session) async fn on_flush(&mut self) -> Result<(), Halt> {
        self.flush_held().await?;
        if let Some(at) = self.servers.active {
            self.servers[at].lease.flush();
        }
        Ok(())
    }

    /// Whatever becomes of the segment, its Sync is answered: the client waits for that and sends no other.
    pub(in crate::session) async fn on_sync(&mut self) -> Result<(), Halt> {
        self.transaction.bound = Bound::Nothing;
        let flushed = match self.state.skipping {
            true => {
                self.request.held = None;
                Ok(())
            }
            false => self.flush_held().await,
        };
        match flushed {
            Ok(()) => {}
            // The client was told.
            Err(Halt::Failed) => self.hear_ahead().await,
            Err(Halt::Fail(report)) => self.raise(report).await?,
            Err(end) => return Err(end),
        }
        match self.end_segment().await {
            // A server was lost and the client told; all others were closed with it.
            Err(Halt::Failed) => {
                self.transaction.waiting_command = None;
                self.state.ready_alone(&mut self.client);
                Ok(())
            }
            ended => ended,
        }
    }

    async fn end_segment(&mut self) -> Result<(), Halt> {
        if self.transaction.implicit {
            return Box::pin(self.sync_implicit()).await;
        }
        if self.state.skipping && self.state.block == Block::None {
            self.undo_unfailed();
        }
        // Every server that took part in the segment must end it.
        let segment = self.state.phase == Phase::Segment;
        let last = self
            .servers
            .active
            .filter(|_| segment)
            .or_else(|| self.servers.find_last(|s| s.inbox.in_segment));
        for at in self.servers.ids() {
            if Some(at) != last && self.servers[at].inbox.in_segment {
                self.sync_quietly(at).await?;
            }
        }
        let Some(at) = last.filter(|_| segment) else {
            self.state.ready_alone(&mut self.client);
            return Ok(());
        };
        let block_failed = self.state.block.status() == backend::TxStatus::Failed
            && self.servers[at].lease.status != backend::TxStatus::Failed;
        if self.servers.len() > 1 || block_failed {
            // The client's status is that of the whole, not of this server.
            self.sync_quietly(at).await?;
            if self.state.block.is_nowhere() {
                // It was asked for something that it does not have either.
                self.leave_outsiders();
            }
            self.state.ready_alone(&mut self.client);
            return Ok(());
        }
        let lease = &mut self.servers[at].lease;
        lease.sync(Audience::Client);
        self.servers.active = Some(at);
        self.state.phase = Phase::Syncing;
        self.state.skipping = false;
        Ok(())
    }

    /// The segment has failed: a server that has not failed with it would commit at Sync. None should be left, since what
    /// is at stake on two servers is a transaction of the router's own; if one is, it is closed.
    fn undo_unfailed(&mut self) {
        let unfailed = |s: &Attached| self.state.stakes(s) && !s.lease.ledger().is_skipping();
        let mut found = false;
        for attached in self.servers.iter_mut().filter(|s| unfailed(s)) {
            attached.lease.doubt();
            found = true;
        }
        if found {
            self.drop_doubtful();
        }
    }

    /// Ends the segment on one server. The client is told only of what goes wrong: Sync commits where no block is open,
    /// and then a deferred constraint may fail.
    pub(in crate::session) async fn sync_quietly(&mut self, at: AttachedId) -> Result<(), Halt> {
        let Attached { lease, inbox, .. } = &mut self.servers[at];
        inbox.notices = Notices::All;
        lease.sync(Audience::Router);
        let mut failure = None;
        self.each_message(at, |frame, reply, _| {
            if reply.event == Event::Failed {
                failure = Some(frame.body().to_vec());
            }
            matches!(reply.event, Event::Ready(_))
        })
        .await?;
        if let Some(body) = failure.filter(|_| !self.state.has_failed()) {
            self.client.with_output(|out| put_as_error(out, &body));
            self.state.note_failure();
        }
        let status = self.servers[at].lease.status;
        let inbox = &mut self.servers[at].inbox;
        self.state.acknowledge_end(status, inbox);
        inbox.in_segment = false;
        if status == backend::TxStatus::Idle {
            self.state.left_segment(inbox);
            inbox.leave_block();
            inbox.may_write = false;
        }
        if self.servers[at].lease.status == backend::TxStatus::Failed
            && self.state.block == Block::Open
        {
            self.state.block = Block::Failed;
        }
        Ok(())
    }

    /// Ends the segment and with it the transaction of the router's own.
    async fn sync_implicit(&mut self) -> Result<(), Halt> {
        for at in self.servers.ids() {
            if self.servers[at].inbox.in_segment {
                self.sync_quietly(at).await?;
            }
        }
        // The last statements may have failed only now.
        let failed = self.state.skipping;
        let result = if failed { Err(Halt::Failed) } else { Ok(()) };
        let ended = self.end_implicit(result).await;
        self.state.skipping = false;
        self.state.phase = Phase::Query;
        // Also before the error of a commit that failed, as PostgreSQL does.
        if matches!(ended, Ok(()) | Err(Halt::Fail(_))) {
            self.say_waiting_command();
        }
        self.transaction.waiting_command = None;
        match ended {
            Err(Halt::Fail(report)) => {
                self.client.with_output(|out| report.put(out));
                self.state.note_report(&report);
            }
            Err(Halt::End(end)) => return Err(Halt::End(end)),
            Ok(()) | Err(Halt::Failed) => {}
        }
        self.state.ready_alone(&mut self.client);
        Ok(())
    }
}
