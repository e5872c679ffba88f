//! A session that has rested for as long as its own settings let it.
//!
//! A server that works for it counts by itself. It has what the client has set, and takes it back before others get the
//! connection: PostgreSQL would end it in the pool for what is nobody's silence.

use super::Session;
use super::state::Phase;
use crate::core::{Core, Lease};
use crate::rests::IDLE;
use crate::statements::settings::Settings;
use mothership_proto::frame::Frame;
use mothership_proto::ledger::{Audience, Step};
use mothership_shardmap::ShardId;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

impl Session {
    /// Notes how long it may rest by what holds now.
    pub(super) fn note_rests(&self) {
        let begun = self.login.beginning.begins.as_ref();
        let begun = begun.map(|begins| begins.rests()).unwrap_or_default();
        let said = self.state.in_force().rests();
        self.entry.pulse.set_rests(said.over(begun));
    }

    /// Its client has sent nothing yet: ends the session when that was so for too long.
    pub(super) fn poll_rest(&mut self, cx: &mut Context<'_>) {
        let Some(limit) = self.entry.pulse.own_limit() else {
            return;
        };
        let counts = |shard: ShardId| self.topology.is_postgres(shard);
        // A request that came while none were taken is no silence, and a segment without its Sync is none for PostgreSQL.
        if self.state.phase != Phase::Idle
            || !self.client.input().is_empty()
            || self.servers.iter().any(|server| counts(server.shard))
        {
            return;
        }
        if self.entry.pulse.sets_timer() {
            self.fast.wake_at(Instant::now() + limit);
        }
        let over = self.fast.poll_timer(cx);
        if over.is_some_and(|over| over.is_ready()) {
            self.entry.pulse.end_rest();
            cx.waker().wake_by_ref();
        }
    }
}

/// Gives a connection back, and before that takes from its server what would end it in the pool.
pub(super) fn take_back(lease: Lease, core: &Core) {
    let settings = &lease.notes.settings;
    let limited = settings.rests().idle.is_some_and(|limit| limit > 0);
    // Who speaks PostgreSQL's protocol for another server ends nothing for silence.
    let counts = lease.pool().opener().endpoint().interpreter.is_none();
    if !limited || !counts || !lease.is_clean() {
        return;
    }
    let limit = core.shared.topology().config.pool.reset_timeout;
    tokio::task::spawn_local(reset(lease, limit));
}

async fn reset(mut lease: Lease, limit: Duration) {
    let mut settings = Settings::clone(&lease.notes.settings);
    settings.remove(IDLE);
    lease.notes.settings = Arc::new(settings);
    let sql = format!("RESET {IDLE}");
    lease.query(sql.as_bytes(), Audience::Router);
    let mut failed = false;
    let done = poll_fn(|cx| {
        while !lease.ledger().is_empty() {
            let polled = lease.poll_messages(cx, |frame: Frame<'_>, _: Step| {
                failed |= frame.tag() == mothership_proto::backend::tag::ERROR;
                mothership_pool::connection::Flow::Continue
            });
            match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => break,
            }
        }
        Poll::Ready(())
    });
    if tokio::time::timeout(limit, done).await.is_err() || failed {
        lease.doubt();
    }
}
