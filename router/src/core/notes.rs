//! What the router notes about a server connection: the settings it carries and
//! the statements it has prepared.
//!
//! The notes travel with the connection through the pool. They are `Send`, as the
//! pool demands, though they never leave their core.

use super::Notifier;
use crate::commit::gid::Backend;
use crate::statements::names::is_given;
use crate::statements::settings::Settings;
use foldhash::{HashMap, HashSet};
use mothership_catalog::own::Asked;
use mothership_pool::connection::Parameters;
use std::sync::Arc;

/// Whose numbers the server of a connection remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Remembers {
    /// Nobody's.
    #[default]
    Nothing,
    /// Those of the session of this number, and all of them were taken in one go.
    Of(u64),
    /// Perhaps those of several, or old ones.
    Several,
}

/// Notes of one connection.
#[derive(Debug, Default)]
pub struct Notes {
    /// The settings that it carries beyond the server's own defaults.
    pub settings: Arc<Settings>,
    /// Named statements.
    pub prepared: PreparedSet,
    /// What their names meant something by: see [`DatabaseModel::names`](crate::model::DatabaseModel::names).
    pub names: u64,
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
    /// Those that have a client's names: they stay until the client drops them.
    given: HashSet<u64>,
    clock: u64,
    /// How the router's own question for the catalog is asked.
    catalog: Asked,
}

impl PreparedSet {
    /// How the catalog of a transaction is asked for now. The next time it is asked plainly, unless this was answered.
    pub fn ask_catalog(&mut self) -> Asked {
        std::mem::replace(&mut self.catalog, Asked::Plainly)
    }

    /// Whether the server keeps that question.
    pub fn keeps_catalog(&self) -> bool {
        self.catalog == Asked::Again
    }

    /// It keeps it no longer.
    pub fn forget_catalog(&mut self) {
        self.catalog = Asked::First;
    }

    /// The question that was asked so was answered.
    pub fn answered_catalog(&mut self, asked: Asked) {
        if asked != Asked::Plainly {
            self.catalog = Asked::Again;
        }
    }

    /// True if the statement is there; counts as a use.
    pub fn touch(&mut self, id: u64) -> bool {
        if is_given(id) {
            return self.given.contains(&id);
        }
        self.clock += 1;
        match self.used.get_mut(&id) {
            Some(at) => {
                *at = self.clock;
                true
            }
            None => false,
        }
    }

    /// The same without counting as a use.
    pub fn has(&self, id: u64) -> bool {
        self.used.contains_key(&id) || self.given.contains(&id)
    }

    /// Whether any has a client's name.
    pub fn has_given(&self) -> bool {
        !self.given.is_empty()
    }

    /// The server has confirmed a statement.
    pub fn insert(&mut self, id: u64) {
        if is_given(id) {
            self.given.insert(id);
            return;
        }
        self.clock += 1;
        self.used.insert(id, self.clock);
    }

    /// A statement is gone.
    pub fn remove(&mut self, id: u64) {
        self.used.remove(&id);
        self.given.remove(&id);
    }

    /// All are gone.
    pub fn clear(&mut self) {
        self.used.clear();
        self.given.clear();
        self.catalog = Asked::First;
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
        self.used.len() + self.given.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

    #[test]
    fn what_a_client_has_named_gives_way_to_nothing() {
        const GIVEN: u64 = 1 << 63;
        let mut set = PreparedSet::default();
        (1..=3).for_each(|id| set.insert(GIVEN | id));
        assert!(set.touch(GIVEN | 1) && set.has(GIVEN | 3) && !set.has(3));
        assert_eq!(
            (set.surplus(0), set.len(), set.has_given()),
            (None, 3, true)
        );
        set.insert(1);
        assert_eq!(set.surplus(0), Some(1));
        set.remove(GIVEN | 1);
        assert!(!set.touch(GIVEN | 1));
        set.clear();
        assert!(set.is_empty() && !set.has_given());
    }
}
