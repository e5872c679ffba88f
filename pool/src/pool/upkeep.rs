//! What a pool closes while nobody asks it for a connection.

use super::Pool;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

impl<N: Default + Send + 'static> Pool<N> {
    /// Closes idle connections that are too old or too long idle, the longest idle
    /// first, and keeps `min` of them.
    pub fn reap(self: &Rc<Self>, now: Instant, min: u32) {
        let idle_timeout = self.settings.borrow().idle_timeout;
        let mut kept = Vec::new();
        let mut idle = Vec::new();
        while self.idle.get() > 0 {
            self.idle.set(self.idle.get() - 1);
            let Some(connection) = self.pop() else { break };
            idle.push(connection);
        }
        // One is closed for whoever waits elsewhere and cannot have it: the one that
        // rested longest.
        let nobody_waits = self.queue.borrow().len() == 0;
        if nobody_waits
            && self.wants_one_back(false)
            && let Some(mut connection) = idle.pop()
        {
            connection.doubt();
        }
        // bb8 gives the last one back first: the front of `idle` was used last.
        for mut connection in idle {
            let rested = now.saturating_duration_since(connection.idle_since);
            let surplus = kept.len() >= min as usize && rested >= idle_timeout;
            let stale = self
                .stale_before
                .get()
                .is_some_and(|at| connection.opened <= at);
            if surplus || stale || now >= connection.expires || !connection.survives_idling() {
                connection.doubt();
            } else {
                kept.push(connection);
            }
        }
        for connection in kept.into_iter().rev() {
            drop(connection);
            self.idle.set(self.idle.get() + 1);
        }
        self.wake();
    }

    /// Closes every idle connection.
    pub fn close_idle(&self) {
        while self.idle.get() > 0 {
            self.idle.set(self.idle.get() - 1);
            let Some(mut connection) = self.pop() else {
                break;
            };
            connection.doubt();
        }
    }

    /// Closes idle connections when somebody elsewhere waits for one and this pool has
    /// no use for them, and sends requests away whose place others have; ends with the
    /// pool. Whoever makes a pool lets this run beside it: a core without traffic gives
    /// nothing back that could be closed instead.
    pub fn give_way(self: &Rc<Self>) -> impl Future<Output = ()> + use<N> {
        let (limit, line) = (Arc::clone(&self.limit), Arc::clone(&self.line));
        let pool = Rc::downgrade(self);
        async move {
            loop {
                let (mut asked, mut bell) = (pin!(limit.asked()), pin!(line.bell()));
                // Registered before the look, so that nothing asked falls between.
                asked.as_mut().enable();
                bell.as_mut().enable();
                let Some(pool) = pool.upgrade() else { return };
                pool.close_unneeded();
                if line.calls() {
                    pool.send_away();
                }
                drop(pool);
                tokio::select! {
                    () = asked => {}
                    () = bell => {}
                }
            }
        }
    }

    fn close_unneeded(&self) {
        let needed = || self.queue.borrow().len() > 0;
        while self.idle.get() > 0 && !needed() && self.wants_one_back(false) {
            self.idle.set(self.idle.get() - 1);
            let Some(mut connection) = self.pop() else {
                break;
            };
            connection.doubt();
        }
    }

    /// Ends every connection, also those that are lent: who works with one reads an end, as if the server had closed it.
    pub fn break_off(self: &Rc<Self>) {
        self.reconnect();
        for standing in self.standings() {
            standing.break_off();
        }
    }

    /// Replaces every connection as it is given back.
    pub fn reconnect(self: &Rc<Self>) {
        let now = Instant::now();
        self.stale_before.set(Some(now));
        *self.rest.borrow_mut() = None;
        self.reap(now, self.settings.borrow().min);
    }
}
