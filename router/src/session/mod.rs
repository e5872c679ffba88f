//! One client's session, from its login to its end.
//!
//! A session reads requests, finds out what each is (`step`), leases the server
//! that it needs (`attach`), passes it on (`simple`, `extended`), and passes on what
//! comes back (`serve`). What it knows is in [`state::State`], which decides and
//! never waits. One task on one core serves the client and its servers.

mod emptied;
mod settled;

mod servers;

pub mod beginning;
pub mod code;
mod resets;
mod rests;
mod rights;

pub mod history;

/// The names of the temporary tables that a session may have made.
pub mod touched;

pub mod digest;

pub mod inbox;

mod passage;

pub mod portals;

pub mod state;

mod dispatch;

mod cursors;

mod fill;

pub mod numbers;

mod bind_count;

mod planning;

mod knowledge;

/// What definitions have overtaken is planned and run once more.
mod overtaken;

/// What a transaction plans by that has changed definitions.
pub mod own;

mod allowed;

mod here;

mod simple;

mod execute;

mod given;

mod arguments;

mod extended;

mod fast;

mod explain;

mod many;

mod turns;

pub mod sorted;

mod locked;

mod gather;

mod passwords;

mod copy_in;
mod copy_times;

mod choose;

mod primary;
mod process;

mod judged;

pub mod repeat;

pub mod room;

pub mod rules;

mod attach;
mod away;
mod blocks;
mod bystanders;
mod call_off;

mod transact;

pub(crate) mod marks;

mod prepared;

mod snapshots;

mod time;
mod told;

mod serve;

mod large;

mod welcome;

use crate::config::{LogStatements, PoolMode};
use crate::core::clock::Overdue;
use crate::core::code::Behind;
use crate::core::{Core, Entry, Lease, Spread, Working};
use crate::log::client_text;
use crate::statements::reported_parameters::ReportedParameters;
use crate::statements::settings::{SessionSettings, Settings};
use crate::statements::step::{Alters, CodeEffects, Defines};
use crate::topology::Topology;
use inbox::Inbox;
use mothership_pool::wire::Wire;
use mothership_proto::auth::Credentials;
use mothership_proto::frontend;
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;
use mothership_sql::effect::{Pin, Pins};
use mothership_sql::redact::redact;
use own::Definitions;
use servers::{AttachedId, Servers};
use state::{Block, Phase, State};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

/// A server that works for the session.
pub struct Attached {
    /// What it is called while it works for the session.
    id: AttachedId,
    /// The shard that it serves.
    pub shard: ShardId,
    /// The server's place in its shard.
    pub server: usize,
    /// It was the primary when it was chosen.
    pub is_primary: bool,
    /// What it does for the session counts as its load.
    pub flight: Option<choose::Flight>,
    /// The connection.
    pub lease: Lease,
    /// What came from it.
    pub inbox: Inbox,
    /// The request that it works for, while that could be sent again.
    kept: Option<Box<repeat::Kept>>,
    /// Nothing of the client's was sent to it, and another may take its place.
    unused: bool,
}

/// A logged-in client.
///
/// A part of it owns what belongs together, and decides what needs no more than that. What only the whole can do is a
/// method of the session.
pub struct Session {
    core: Rc<Core>,
    topology: Arc<Topology>,
    client: Wire,
    entry: Rc<Entry>,
    login: beginning::Login,
    state: State,
    servers: Servers,
    fast: fast::FastPath,
    request: repeat::RequestAtHand,
    transaction: transact::Transaction,
    known: knowledge::Knowledge,
    /// The rules, and what they make of the request at hand.
    rules: rules::Ruled,
}

/// How a session ends.
#[derive(Debug)]
pub enum End {
    /// The client said goodbye or is gone.
    Gone,
    /// The client must be told why.
    Told(Report),
}

/// Why one request cannot go on.
#[derive(Debug)]
pub enum Halt {
    /// The session ends.
    End(End),
    /// The request fails; the session goes on.
    Fail(Report),
    /// The request failed and the client was told by the server.
    Failed,
}

impl From<End> for Halt {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl From<Report> for Halt {
    fn from(report: Report) -> Self {
        Self::Fail(report)
    }
}

/// A client that has logged in.
pub struct Client {
    /// Its connection.
    pub wire: Wire,
    /// Its place in the core's table.
    pub entry: Rc<Entry>,
    /// What the router logs in to servers with for it.
    pub credentials: Option<Box<Credentials>>,
    /// How long it keeps a server's connection.
    pub pool_mode: PoolMode,
    /// What its startup packet sets.
    pub settings: Settings,
}

impl Session {
    /// The session of a client that has logged in; it has heard nothing from a server yet.
    pub fn new(core: Rc<Core>, topology: Arc<Topology>, client: Client) -> Session {
        let state = State::new(
            SessionSettings::new(client.settings),
            ReportedParameters::new(Arc::default()),
            client.entry.process.get(),
        );
        Session {
            state,
            servers: Servers::default(),
            fast: Default::default(),
            request: Default::default(),
            transaction: Default::default(),
            known: Default::default(),
            rules: rules::Ruled::default(),
            core,
            topology,
            client: client.wire,
            login: beginning::Login::new(client.credentials, client.pool_mode),
            entry: client.entry,
        }
    }
}

impl Session {
    /// Serves the client until it leaves or must leave. What is kept for a client that does nothing is small.
    pub async fn run(mut self: Box<Self>) {
        let entry = Rc::clone(&self.entry);
        let end = loop {
            let fast = poll_fn(|cx| {
                entry.watch(cx);
                match entry.pulse.overdue() {
                    Some(overdue) => Poll::Ready(Err(overdue)),
                    None => self.poll_fast(cx).map(Ok),
                }
            });
            if let Err(overdue) = fast.await {
                break self.too_late(overdue);
            }
            if self.says_goodbye() {
                break End::Gone;
            }
            let turn = {
                let mut turn = Box::pin(self.take_turns());
                // Whatever is half done when its time is over: all servers are closed.
                poll_fn(|cx| {
                    entry.watch(cx);
                    match entry.pulse.overdue() {
                        Some(overdue) => Poll::Ready(Err(overdue)),
                        None => turn.as_mut().poll(cx).map(Ok),
                    }
                })
                .await
            };
            match turn {
                Ok(Ok(())) => {}
                Ok(Err(end)) => break end,
                Err(overdue) => break self.too_late(overdue),
            }
        };
        Box::pin(self.leave(end)).await;
    }

    /// It ends with nothing under way, as most do: nothing of the general path is needed for that.
    fn says_goodbye(&self) -> bool {
        let rests = self.state.phase == Phase::Idle && self.servers.is_empty();
        rests && self.fast.halfway.is_none() && self.client.input().starts_with(TERMINATE)
    }

    /// The session has done the same for too long.
    fn too_late(&mut self, overdue: Overdue) -> End {
        self.unfold();
        let unknown = self.servers.is_outcome_unknown();
        for attached in self.servers.iter_mut() {
            attached.lease.doubt();
        }
        let report = match overdue {
            Overdue::Idle => Report::fatal(
                sqlstate::IDLE_SESSION_TIMEOUT,
                "terminating connection due to idle-session timeout",
            )
            .hint("The setting is listen.idle_timeout."),
            Overdue::InTransaction => Report::fatal(
                sqlstate::IDLE_IN_TRANSACTION_TIMEOUT,
                "terminating connection due to idle-in-transaction timeout",
            )
            .hint("The setting is pool.idle_in_transaction_timeout."),
            Overdue::Query if unknown => Report::fatal(
                sqlstate::UNKNOWN_OUTCOME,
                "statement took too long and could not be cancelled, its outcome is not known",
            )
            .hint("The settings are pool.query_timeout and pool.reset_timeout."),
            Overdue::Query => Report::fatal(
                sqlstate::QUERY_CANCELED,
                "statement took too long and could not be cancelled",
            )
            .hint("The settings are pool.query_timeout and pool.reset_timeout."),
            Overdue::Reading => Report::fatal(
                sqlstate::CONNECTION_FAILURE,
                "terminating connection because its client does not read",
            )
            .hint("The setting is pool.send_timeout."),
            Overdue::Sending => Report::fatal(
                sqlstate::CONNECTION_FAILURE,
                "terminating connection because its client does not finish a message",
            )
            .hint("The setting is listen.message_timeout."),
            // They are the client's own, who knows of them.
            Overdue::OwnIdle => Report::fatal(
                sqlstate::IDLE_SESSION_TIMEOUT,
                "terminating connection due to idle-session timeout",
            ),
            Overdue::OwnInTransaction => Report::fatal(
                sqlstate::IDLE_IN_TRANSACTION_TIMEOUT,
                "terminating connection due to idle-in-transaction timeout",
            ),
            Overdue::Hoarding => {
                let held = self.client.input().len();
                // At once: to tell the client may take a while.
                self.client.consume(held);
                Report::fatal(
                    sqlstate::TOO_MANY_CONNECTIONS,
                    "terminating connection because the router is short of memory",
                )
                .detail(format!(
                    "of all messages that are not whole, its own of {held} bytes was the largest"
                ))
                .hint("The settings are limits.memory and limits.client_message.")
            }
        };
        End::Told(report)
    }

    /// Takes turns until, after one, no server works for the session. A turn's future takes a few kilobytes; with a server
    /// attached it is kept instead of allocated anew.
    async fn take_turns(&mut self) -> Result<(), End> {
        loop {
            self.turn().await?;
            if self.servers.is_empty() {
                return Ok(());
            }
        }
    }

    /// Takes what the client has sent, then waits for more from either side.
    async fn turn(&mut self) -> Result<(), End> {
        let mut took = false;
        if let Some(halfway) = self.fast.halfway.take() {
            let result = self.go_on(*halfway).await;
            self.taken(result).await?;
            self.after_request();
        }
        while self.may_take() {
            match self.take_frame().await? {
                true => self.after_request(),
                false => break,
            }
            took = true;
        }
        if took && self.servers.is_pipeline_full(&self.state, &self.topology) {
            self.servers.flush_pipeline();
        }
        self.free_failed().await?;
        self.wait().await?;
        self.after_request();
        Ok(())
    }

    /// One request at a time: nothing is taken while one is being answered.
    fn may_take(&self) -> bool {
        let suspended = self.core.suspended.get() && self.state.phase == Phase::Idle;
        let ready = matches!(
            self.state.phase,
            Phase::Idle | Phase::Segment | Phase::CopyIn { .. }
        );
        // Who has lost what it had on its server is told, whatever it has sent since.
        let told = self.state.orphaned || self.state.farewell.is_some();
        ready && !suspended && !told && !self.servers.is_pipeline_full(&self.state, &self.topology)
    }

    /// Tells everybody that definitions are others now.
    fn announce_change(&mut self) {
        if std::mem::take(&mut self.state.schema_changed) {
            let behind = self
                .transaction
                .changing
                .as_ref()
                .map(|changing| changing.behind);
            let shared = &self.core.shared;
            shared.definitions_changed(behind.unwrap_or(Behind::Changed));
        }
        let ended = self.state.phase == Phase::Idle && self.state.block == Block::None;
        if ended && self.state.alters.is_some() {
            self.announce_defaults();
        }
    }

    /// What roles or databases begin with is something else now: whoever comes begins with that.
    fn announce_defaults(&mut self) {
        let altered = &self.core.shared.altered;
        for alters in self.state.alters.take().into_iter().flat_map(|all| *all) {
            if !matches!(alters, Alters::Nothing | Alters::Database(_)) {
                let changes = &self.core.shared.role_changes;
                changes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            match alters {
                Alters::Nothing | Alters::Login => {}
                Alters::All => altered.note(None, None),
                Alters::Role(name) => altered.note(Some(&name), None),
                Alters::Database(name) => altered.note_everywhere(&self.topology, None, &name),
                Alters::Own => {
                    let user = &*self.entry.who.names.server_user;
                    let taken = planning::role(self.state.in_force());
                    altered.note(Some(user), None);
                    if let Some(taken) = taken.filter(|taken| taken != user) {
                        altered.note(Some(&taken), None);
                    }
                }
            }
        }
    }

    /// Gives servers back that no longer work for this session.
    fn after_request(&mut self) {
        self.entry.seen.set_pins(self.state.pins);
        self.entry
            .seen
            .prepared
            .set(self.state.names.size().0 as u32);
        self.announce_change();
        if self.state.phase == Phase::Idle && self.state.block == Block::None {
            self.transaction.changing = None;
            self.state.definitions = Definitions::Common;
            self.state.defined_in_block = Defines::Nothing;
            self.state.makes_code = CodeEffects::Nothing;
        }
        if self.state.phase != Phase::Idle {
            return;
        }
        self.note_rests();
        self.forget_request();
        if self.client.input().is_empty() {
            // Else it may be the same that comes.
            self.request.was_answered();
        }
        if self.fast.lined_up.take().is_some() {
            // It was refused, or needed no connection after all.
            self.entry.end_wait();
        }
        if self.state.block == Block::None {
            self.state.end_unseen(!self.servers.is_empty());
        }
        if self.servers.is_empty() {
            return;
        }
        if self.state.block == Block::None {
            self.servers.active = None;
            // The end of a transaction may have ended some.
            self.state.forget_held_cursors();
            self.servers.keep_pins(self.state.pins);
            self.detach_unpinned();
            if self.servers.is_empty() {
                // Where no server is kept there is nothing that such code may have left.
                self.state
                    .unpin(Pins::NONE.with(Pin::Opaque).with(Pin::UnclearSetting));
            }
        }
    }

    /// Ends the session: tells the client why, and gives back or closes its servers.
    async fn leave(mut self: Box<Self>, end: End) {
        self.unfold();
        self.client.release();
        self.call_off();
        // A server that is in the middle of something, or keeps something of this
        // session, is closed: its lease sees to it.
        let kept = !self.state.pins.is_empty() || self.is_session_mode();
        for attached in self.servers.iter_mut() {
            // A segment without its Sync is a transaction that its server says nothing of.
            let open = self.state.block != Block::None || attached.inbox.in_segment;
            if kept || open {
                attached.lease.doubt();
            }
        }
        self.detach_all();
        if self.topology.config.logging.connections {
            let reason = match &end {
                End::Gone => None,
                End::Told(report) => Some(report.message.as_ref()),
            };
            tracing::info!(session = self.entry.who.number, reason, "client left");
        }
        if let End::Told(report) = end {
            self.client.with_output(|out| report.into_fatal().put(out));
            // What it has sent and nobody will read takes no room while it reads its farewell.
            self.client.consume(self.client.input().len());
            let limit = std::time::Duration::from_secs(1);
            // The client may be gone, or not read: either way it is over.
            let _ = tokio::time::timeout(limit, self.client.finish()).await;
        }
    }

    /// Logs a statement in its shape, where that is wanted.
    fn log_statement(&self, sql: &[u8]) {
        let config = &self.topology.config;
        if config.logging.statements == LogStatements::Off {
            return;
        }
        let most = config.limits.log_text.get() as usize;
        let shape = redact(sql, self.standard_strings(), most);
        let shape = client_text(&shape, most);
        tracing::info!(session = self.entry.who.number, statement = %shape, "statement");
    }

    /// True if every session of this user or database keeps its server.
    fn is_session_mode(&self) -> bool {
        self.login.pool_mode == PoolMode::Session
    }

    /// Whether backslashes in plain strings are plain.
    fn standard_strings(&self) -> bool {
        self.state.told.standard_strings()
    }

    /// Gives back what the session does not have to keep.
    fn detach_unpinned(&mut self) {
        let session_mode = self.is_session_mode();
        let leaves = |attached: &mut Attached| !session_mode && !attached.inbox.is_pinned();
        let ended = self.state.tally.ended();
        for attached in self.servers.take_those(leaves) {
            attach::give_back(attached, ended, &self.core);
        }
        self.show_working();
    }

    fn detach_all(&mut self) {
        for attached in self.servers.take_all() {
            attach::give_back(attached, None, &self.core);
        }
        self.show_working();
    }

    /// Tells whoever may cancel what works for this session now.
    fn show_working(&self) {
        if self.servers.is_empty() {
            self.entry.seen.deadlock.take();
        }
        let mut working = self.entry.working.borrow_mut();
        working.clear();
        working.extend(self.servers.iter().map(|s| working_by(&s.lease)));
        let before = self.entry.spread.take();
        let several = working.len() > 1;
        let now = several.then(|| before.unwrap_or_else(|| Spread::new(&self.core.shared)));
        self.entry.spread.set(now);
    }
}

/// The client says goodbye.
const TERMINATE: &[u8] = &[frontend::tag::TERMINATE, 0, 0, 0, 4];

/// A connection as it is shown to others.
fn working_by(lease: &Lease) -> Working {
    Working {
        endpoint: lease.pool().opener().endpoint().clone(),
        target: Arc::clone(&lease.cancel),
        limit: Arc::as_ptr(lease.pool().limit()) as usize,
    }
}

/// The client broke the protocol so that the stream cannot be followed.
fn violation(message: impl Into<std::borrow::Cow<'static, str>>) -> Report {
    Report::fatal(sqlstate::PROTOCOL_VIOLATION, message)
}

fn too_long(length: usize, limit: usize) -> Report {
    let message = format!("message of {length} bytes is over the limit of {limit} bytes");
    Report::fatal(sqlstate::PROGRAM_LIMIT_EXCEEDED, message)
        .hint("The setting is limits.client_message.")
}

/// A message whose length is right and whose body is not: it fails, and the stream goes on behind it.
fn malformed(error: frontend::Malformed) -> Report {
    Report::error(sqlstate::PROTOCOL_VIOLATION, error.to_string())
}

/// Whether PostgreSQL reads this message while it takes the rows of a COPY. Of any other it does not read on, and ends
/// the connection: what follows it was sent by somebody who expects answers that nobody owes.
fn belongs_to_copy(message: u8) -> bool {
    use frontend::tag;
    matches!(
        message,
        tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL | tag::FLUSH | tag::SYNC | tag::TERMINATE
    )
}

fn unexpected_in_copy(message: u8) -> Report {
    violation(format!(
        "unexpected message type 0x{message:02X} during COPY from stdin"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_silent_client_has_stays_small() {
        // docs/adr/0016. Whoever adds to it may ask first whether most sessions need it.
        let (session, entry) = (size_of::<Session>(), size_of::<Entry>());
        assert!(session <= 896, "{session}");
        assert!(entry <= 320, "{entry}");
    }

    #[test]
    fn what_a_turn_allocates_stays_small() {
        fn size<F>(_: impl FnOnce(&'static mut Session) -> F) -> usize {
            size_of::<F>()
        }
        // It is allocated and moved for each request that is not on the fast path. What is rare and large belongs in a box.
        let turns = size(Session::take_turns);
        assert!(turns <= 4096, "{turns}");
    }
}
