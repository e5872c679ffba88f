//! What the router notes about a server connection: the settings it carries and
//! the statements it has prepared.
//!
//! The notes travel with the connection through the pool. They are `Send`, as the
//! pool demands, though they never leave their core.

use super::numbers::Remembers;
use super::settings::Settings;
use crate::commit::gid::Backend;
use crate::core::Notifier;
use foldhash::HashMap;
use mothership_pool::connection::Parameters;
use std::sync::Arc;

/// Notes of one connection.
#[derive(Debug, Default)]
pub struct Notes {
    /// The settings that it carries beyond the server's own defaults.
    pub settings: Arc<Settings>,
    /// The number of the session that was served last.
    pub last_session: u64,
    /// The statement in the unnamed slot, by its number.
    pub unnamed: Option<u64>,
    /// Named statements.
    pub prepared: PreparedSet,
    /// It has served somebody: the server's caches for it are warm.
    pub warm: bool,
    /// By what a client was told it writes times, if it has to be told that itself.
    pub forms: Option<Arc<Parameters>>,
    /// Whether its transactions are SERIALIZABLE by default, where that was asked.
    pub serializable: Option<bool>,
    /// The client whose notifications come from it.
    pub notifier: Option<Notifier>,
    /// Whose numbers from sequences its server remembers.
    pub numbers: Remembers,
    /// The process behind it, where it had to be asked which one would decide.
    pub backend: Option<Backend>,
}

impl Notes {
    /// A client gets the connection. What another one did with it is no longer told apart from what this one does.
    pub fn lend(&mut self, client: i32) {
        if self.notifier.as_ref().is_some_and(|n| n.client() != client) {
            self.notifier = None;
        }
    }
}

/// The statements prepared on one connection, by their numbers, with the time of
/// their last use.
#[derive(Debug, Default)]
pub struct PreparedSet {
    used: HashMap<u64, u64>,
    clock: u64,
}

impl PreparedSet {
    /// True if the statement is there; counts as a use.
    pub fn touch(&mut self, id: u64) -> bool {
        self.clock += 1;
        match self.used.get_mut(&id) {
            Some(at) => {
                *at = self.clock;
                true
            }
            None => false,
        }
    }

    /// The server has confirmed a statement.
    pub fn insert(&mut self, id: u64) {
        self.clock += 1;
        self.used.insert(id, self.clock);
    }

    /// A statement is gone.
    pub fn remove(&mut self, id: u64) {
        self.used.remove(&id);
    }

    /// All are gone.
    pub fn clear(&mut self) {
        self.used.clear();
    }

    /// The least recently used statement, if there are more than `limit`. Asked
    /// between batches only, never inside of one.
    pub fn surplus(&self, limit: usize) -> Option<u64> {
        if self.used.len() <= limit {
            return None;
        }
        self.used
            .iter()
            .min_by_key(|(_, at)| **at)
            .map(|(id, _)| *id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_statement_gives_way() {
        let mut set = PreparedSet::default();
        (1..=3).for_each(|id| set.insert(id));
        assert!(set.touch(1));
        assert!(!set.touch(9));
        assert_eq!(set.surplus(2), Some(2));
        set.remove(2);
        assert_eq!(set.surplus(2), None);
    }
}
