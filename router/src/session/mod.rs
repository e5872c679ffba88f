//! One client's session, from its login to its end.
//!
//! A session reads requests, finds out what each is (`step`), leases the server
//! that it needs (`attach`), passes it on (`simple`, `extended`), and passes on what
//! comes back (`serve`). What it knows is in [`state::State`], which decides and
//! never waits. One task on one core serves the client and its servers.

pub mod settings;

pub mod step;

pub mod names;

pub mod notes;

pub mod state;

mod dispatch;

mod simple;

mod extended;

mod explain;

mod many;

mod copy_in;

mod choose;

mod attach;

mod transact;

mod serve;

pub mod login;

use crate::core::{Core, Entry, Lease, Topology};
use mothership_pool::wire::Wire;
use mothership_proto::auth::Credentials;
use mothership_proto::report::{Report, sqlstate};
use state::{Block, Inbox, Phase, State};
use std::rc::Rc;
use std::sync::Arc;

/// Who the client is, as its login proved.
pub struct Identity {
    /// The user.
    pub user: String,
    /// The database by the client's name.
    pub database: String,
    /// The role on the servers.
    pub server_user: String,
    /// What opens connections on its behalf.
    pub credentials: Credentials,
    /// True if every session of this user or database keeps its server.
    pub session_mode: bool,
    /// True if transactions of several statements are refused.
    pub statement_mode: bool,
}

/// A server that works for the session.
pub struct Attached {
    /// The shard that it serves.
    pub shard: usize,
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
}

/// A logged-in client.
pub struct Session {
    core: Rc<Core>,
    topology: Arc<Topology>,
    client: Wire,
    identity: Identity,
    entry: Rc<Entry>,
    number: u64,
    state: State,
    servers: Vec<Attached>,
    /// The server whose replies are outstanding in the current segment.
    active: Option<usize>,
    /// The transaction block is the router's own.
    implicit: bool,
    /// What is known of the database, if any table is declared.
    world: Option<Arc<crate::world::World>>,
    /// What plans depend on, as of the last statement.
    context: Option<dispatch::KeptContext>,
    /// The search path of a session that sets none.
    default_path: Vec<String>,
    /// A Parse that waits for its Bind to say which server it goes to.
    held: Option<(Box<[u8]>, std::rc::Rc<names::Prepared>)>,
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

impl Session {
    /// Serves the client until it leaves or must leave.
    pub async fn run(mut self) {
        let end = loop {
            if let Err(end) = self.turn().await {
                break end;
            }
        };
        self.leave(end).await;
    }

    /// Takes what the client has sent, then waits for more from either side.
    async fn turn(&mut self) -> Result<(), End> {
        while self.may_take() {
            match self.take_frame().await? {
                true => self.after_request(),
                false => break,
            }
        }
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
        ready && !suspended
    }

    /// Gives servers back that no longer work for this session.
    fn after_request(&mut self) {
        self.entry.seen.set_pins(self.state.pins);
        self.entry
            .seen
            .prepared
            .set(self.state.names.size().0 as u32);
        if self.state.schema_changed {
            self.state.schema_changed = false;
            self.core
                .shared
                .schema_epoch
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        if self.state.phase != Phase::Idle || self.servers.is_empty() {
            return;
        }
        if self.state.block == Block::None {
            self.active = None;
            self.detach_unpinned();
        }
    }

    /// Ends the session: tells the client why, and gives back or closes its servers.
    async fn leave(mut self, end: End) {
        // A server that is in the middle of something, or keeps something of this
        // session, is closed: its lease sees to it.
        for attached in &mut self.servers {
            let kept = !self.state.pins.is_empty() || self.identity.session_mode;
            if kept || self.state.block != Block::None {
                attached.lease.doubt();
            }
        }
        self.detach_all();
        if let End::Told(report) = end {
            self.client.with_output(|out| report.into_fatal().put(out));
            let limit = std::time::Duration::from_secs(1);
            // The client may be gone, or not read: either way it is over.
            let _ = tokio::time::timeout(limit, self.client.finish()).await;
        }
    }

    /// Gives back what the session does not have to keep.
    fn detach_unpinned(&mut self) {
        let session_mode = self.identity.session_mode;
        let mut kept = Vec::new();
        for attached in self.servers.drain(..) {
            if session_mode || attached.inbox.pinned {
                kept.push(attached);
            } else {
                attach::give_back(attached);
            }
        }
        self.servers = kept;
        self.show_working();
    }

    fn detach_all(&mut self) {
        self.active = None;
        for attached in self.servers.drain(..) {
            attach::give_back(attached);
        }
        self.show_working();
    }

    /// Tells whoever may cancel what works for this session now.
    fn show_working(&self) {
        let mut working = self.entry.working.borrow_mut();
        working.clear();
        for attached in &self.servers {
            let endpoint = attached.lease.pool().opener().endpoint().clone();
            working.push((endpoint, Arc::clone(&attached.lease.cancel)));
        }
    }
}

/// The client broke the protocol so that the stream cannot be followed.
fn violation(message: impl Into<std::borrow::Cow<'static, str>>) -> Report {
    Report::fatal(sqlstate::PROTOCOL_VIOLATION, message)
}
