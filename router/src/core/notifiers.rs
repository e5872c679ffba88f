//! Whose notifications come from which server process.
//!
//! A NotificationResponse names the server's process that sent it. Clients know each other by the numbers that they were
//! told at login, so the router says which client used that process. It knows that for certain of statements that say
//! NOTIFY or call `pg_notify`, up to the moment when another client gets the connection; of others it says nothing.

use foldhash::HashMap;
use mothership_shardmap::ShardId;
use std::sync::{Arc, Mutex, PoisonError};

/// A server process: its shard, and its number there.
pub type Process = (ShardId, i32);

/// The numbers of clients that have notified others, by the server process that they did it with.
#[derive(Debug, Default)]
pub struct Notifiers(Mutex<HashMap<Process, i32>>);

impl Notifiers {
    /// The client whose notifications come from this process, if that is known.
    pub fn client_of(&self, process: Process) -> Option<i32> {
        self.known().get(&process).copied()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Process, i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that notifies others by one server connection. It lasts as long as the connection is nobody else's.
#[derive(Debug)]
pub struct Notifier {
    all: Arc<Notifiers>,
    process: Process,
    client: i32,
}

impl Notifier {
    /// From now on notifications of this process are this client's.
    pub fn new(all: &Arc<Notifiers>, process: Process, client: i32) -> Self {
        all.known().insert(process, client);
        Self {
            all: Arc::clone(all),
            process,
            client,
        }
    }

    /// The number of the client.
    pub fn client(&self) -> i32 {
        self.client
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.all.known().remove(&self.process);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_known_as_long_as_the_connection_is_its_own() {
        let all = Arc::new(Notifiers::default());
        let first = Notifier::new(&all, (ShardId(0), 40), 7);
        assert_eq!(all.client_of((ShardId(0), 40)), Some(7));
        assert_eq!(all.client_of((ShardId(1), 40)), None);
        drop(first);
        assert_eq!(all.client_of((ShardId(0), 40)), None);
    }
}
