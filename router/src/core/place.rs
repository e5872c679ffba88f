//! Places of clients: among all, among those of their user and database, in the table of their core.

use super::{Core, Entry, Shared};
use crate::throttle::{Crowd, InCrowds};
use crate::topology::Topology;
use mothership_proto::report::{Report, sqlstate};
use mothership_proto::startup::Startup;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The client's place among those of its user and of its database.
pub fn join_crowds(
    core: &Core,
    topology: &Topology,
    startup: &Startup,
) -> Result<InCrowds, Report> {
    let user = topology.config.user(&startup.user);
    let database = topology.config.database(&startup.database);
    let of_user = user.and_then(|user| user.max_clients);
    let of_database = database.and_then(|database| database.max_clients);
    let joined = core.shared.crowds.join(
        (&startup.user, of_user.map(NonZeroU32::get)),
        (&startup.database, of_database.map(NonZeroU32::get)),
    );
    joined.map_err(|full| {
        let (what, hint) = match full {
            Crowd::User(name) => (
                format!("role \"{name}\""),
                "The setting is max_clients of the user.",
            ),
            Crowd::Database(name) => (
                format!("database \"{name}\""),
                "The setting is max_clients of the database.",
            ),
        };
        let message = format!("too many connections for {what}");
        Report::fatal(sqlstate::TOO_MANY_CONNECTIONS, message).hint(hint)
    })
}

/// One more of at most `most`, while the result lives.
pub fn limited(count: &std::sync::atomic::AtomicU32, most: u32) -> Option<impl Drop + '_> {
    Counted::try_new(count, most)
}

/// One of a limited number, while it lives.
pub struct Counted<'a>(&'a std::sync::atomic::AtomicU32);

impl<'a> Counted<'a> {
    /// One more, if there are fewer than `most`.
    pub fn try_new(count: &'a std::sync::atomic::AtomicU32, most: u32) -> Option<Self> {
        // Not `then_some`: one that is made and dropped would count down.
        one_more(count, most).then(|| Self(count))
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn one_more(count: &std::sync::atomic::AtomicU32, most: u32) -> bool {
    let one_more = |n: u32| (n < most).then_some(n + 1);
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
        .is_ok()
}

/// One of all clients of the process, while it lives.
pub struct OfAll(Arc<Shared>);

impl OfAll {
    /// One more, if there are fewer than `most`.
    pub fn try_new(shared: &Arc<Shared>, most: u32) -> Option<Self> {
        one_more(&shared.clients, most).then(|| Self(Arc::clone(shared)))
    }
}

impl Drop for OfAll {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The session's place in the core's table.
pub struct Place {
    core: Rc<Core>,
    /// Its number there.
    pub slot: usize,
}

impl Place {
    /// Enters a session, if there is room for its number in a cancel key.
    pub fn take(core: &Rc<Core>, entry: &Rc<Entry>) -> Option<Self> {
        let slot = core.sessions.borrow_mut().insert(entry)?;
        Some(Self {
            slot,
            core: Rc::clone(core),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.core.sessions.borrow_mut().remove(self.slot);
        self.core.left.notify_one();
    }
}
