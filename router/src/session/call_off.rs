//! What servers still do for a client that is gone.
//!
//! A server notices that its own client has left when it has something to say, which may be in an hour. So what it does
//! is cancelled, as PostgreSQL does by itself where `client_connection_check_interval` is set: nobody was told that it
//! is done. What ends a transaction goes on; so does all of a client that has said goodbye behind it: it knows what it
//! does.

use super::{Attached, Session, TERMINATE, working_by};
use std::rc::Rc;

impl Session {
    /// Cancels what is for nobody any longer. The servers are closed by whoever lets go of them.
    pub(super) fn call_off(&self) {
        if self.transaction.commits || self.client.input().ends_with(TERMINATE) {
            return;
        }
        let busy = |s: &&Attached| !s.lease.ledger().is_empty() && !s.inbox.committing;
        self.cancel_on(self.servers.iter().filter(busy));
    }

    /// Cancels what these servers do.
    pub(super) fn cancel_on<'a>(&self, servers: impl Iterator<Item = &'a Attached>) {
        let working: Vec<_> = servers.map(|server| working_by(&server.lease)).collect();
        crate::core::cancel_each(&self.core, &working, Rc::new(()));
    }
}
