//! Cancels what servers do for a session.

use super::{Core, Entry, Working};
use crate::log::Chain;
use mothership_pool::open::{OpenError, cancel};
use std::rc::Rc;
use std::sync::Arc;

/// Cancels what a session does at this moment, be it a wait.
pub fn cancel_entry<T: 'static>(core: &Rc<Core>, entry: &Entry, ticket: Rc<T>) {
    entry.cancelled.set(true);
    if !entry.cancel_wait() {
        deliver_cancels(core, entry, ticket);
    }
}

/// Cancels what works for a session on its servers. While a request waits for its turn
/// or is on its way, the connection that it is for is not given back.
pub fn deliver_cancels<T: 'static>(core: &Rc<Core>, entry: &Entry, ticket: Rc<T>) {
    cancel_each(core, &entry.working.borrow(), ticket);
}

/// The same for these connections.
pub fn cancel_each<T: 'static>(core: &Rc<Core>, working: &[Working], ticket: Rc<T>) {
    let topology = core.shared.topology();
    let mut settings = topology.open_settings();
    settings.timeout = topology.config.pool.cancel_timeout;
    for Working {
        endpoint, target, ..
    } in working
    {
        let guard = target.begin();
        let (endpoint, target, settings) = (endpoint.clone(), Arc::clone(target), settings.clone());
        let (shared, ticket) = (Arc::clone(&core.shared), Rc::clone(&ticket));
        tokio::task::spawn_local(async move {
            let _turn = shared.cancels.delivery.enter().await;
            if let Err(error) = cancel(&endpoint, &target.key, &settings).await {
                if matches!(error, OpenError::TimedOut { .. }) {
                    guard.goes_astray();
                }
                tracing::warn!(error = %Chain(&error), "cancel was not delivered");
            }
            drop((guard, ticket));
        });
    }
}
