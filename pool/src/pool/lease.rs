//! A connection on loan, and what becomes of it when it is given back.

use super::Pool;
use crate::connection::ServerConnection;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a core with waiters keeps a connection that another core is in want of.
/// Opening one costs some milliseconds: with fewer connections than cores, each core
/// is to have more of its turn than that.
const TURN: Duration = Duration::from_millis(100);

/// A connection on loan. Dropping it gives it back if it is clean, and closes it
/// if there is any doubt.
pub struct Lease<N: Send + 'static> {
    pub(super) connection: Option<InStore<N>>,
    pub(super) pool: Rc<Pool<N>>,
}

impl<N: Send + 'static> Lease<N> {
    /// The pool it came from.
    pub fn pool(&self) -> &Rc<Pool<N>> {
        &self.pool
    }

    /// Gives it back as dropping it does, for who has read the clock just now.
    pub fn give_back(mut self, now: Instant) {
        self.end(now);
    }

    fn end(&mut self, now: Instant) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let pool = &self.pool;
        let waiting = pool.queue.borrow().len() > 0;
        let has_turn = waiting && now.saturating_duration_since(connection.standing.opened) < TURN;
        let unwanted = match has_turn {
            true => pool.limit.is_exceeded(),
            false => pool.wants_one_back(waiting),
        };
        pool.active.set(pool.active.get() - 1);
        connection.idle_since = now;
        connection.standing.take_back();
        let stale = pool
            .stale_before
            .get()
            .is_some_and(|at| connection.opened <= at);
        if !connection.is_clean()
            || connection.cancel.is_pending()
            || unwanted
            || stale
            || pool.paused.get()
            || now >= connection.expires
        {
            connection.doubt();
        } else {
            pool.idle.set(pool.idle.get() + 1);
        }
        // bb8 asks `has_broken` and keeps or closes it.
        drop(connection);
        pool.queue.borrow().wake_heads(true);
    }
}

impl<N: Send + 'static> Deref for Lease<N> {
    type Target = ServerConnection<N>;
    fn deref(&self) -> &Self::Target {
        self.connection
            .as_ref()
            .expect("a lease holds its connection until it is dropped")
    }
}

impl<N: Send + 'static> DerefMut for Lease<N> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.connection
            .as_mut()
            .expect("a lease holds its connection until it is dropped")
    }
}

impl<N: Send + 'static> Drop for Lease<N> {
    fn drop(&mut self) {
        if self.connection.is_some() {
            self.end(Instant::now());
        }
    }
}

/// A connection that goes back to bb8 when it is dropped.
pub(super) type InStore<N> = bb8::PooledConnection<'static, Stored<N>>;

/// What bb8 is told: it stores connections and opens none.
pub(crate) struct Stored<N>(pub(super) PhantomData<fn() -> N>);

impl<N: Send + 'static> bb8::ManageConnection for Stored<N> {
    // Boxed, because bb8 hands it from place to place whenever it is lent and given back.
    type Connection = Box<ServerConnection<N>>;
    type Error = std::convert::Infallible;

    async fn connect(&self) -> Result<Self::Connection, Self::Error> {
        // Never asked: `min_idle` is none and a connection is taken only when one
        // lies idle. Waiting for ever is the one answer that cannot do harm.
        std::future::pending().await
    }

    async fn is_valid(&self, _: &mut Self::Connection) -> Result<(), Self::Error> {
        Ok(())
    }

    fn has_broken(&self, connection: &mut Self::Connection) -> bool {
        connection.is_doubtful()
    }
}
