//! Tables that a change of definitions wants to itself, while transactions have locked them on one shard and may want them
//! on another.
//!
//! One PostgreSQL has one queue for each table: who comes after an ALTER TABLE waits behind it. Over several shards it may
//! have a shard already that a transaction which began before it still needs, so that it has to give way, and with many
//! transactions it would do so again and again. So once it has given way, transactions that begin wait for a while before
//! they go to its tables ([ADR 33](../../../docs/adr/0033-locks-over-shards-are-taken-at-once-and-given-up.md)).
//! All cores share this.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// What is drained.
#[derive(Debug, Default)]
pub struct Drains {
    /// How many there are. Mostly none, so that nothing else is looked at.
    count: AtomicUsize,
    tables: Mutex<Vec<Drained>>,
    next: AtomicUsize,
    ended: Notify,
}

#[derive(Debug)]
struct Drained {
    number: usize,
    database: Arc<str>,
    /// Without their schemas.
    names: Vec<String>,
}

/// Tables are drained until this is dropped.
#[derive(Debug)]
pub struct Drain {
    drains: Arc<Drains>,
    number: usize,
}

impl Drains {
    /// New transactions wait before they go to these tables of a database.
    pub fn begin(self: &Arc<Self>, database: &Arc<str>, names: Vec<String>) -> Drain {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::SeqCst);
        self.locked().push(Drained {
            number,
            database: Arc::clone(database),
            names,
        });
        Drain {
            drains: Arc::clone(self),
            number,
        }
    }

    /// Whether anything is drained.
    pub fn is_any(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// Whether one of these names is that of a table of the database which is drained.
    pub fn has_any(&self, database: &str, names: &[String]) -> bool {
        let all = self.locked();
        let mut of_database = all.iter().filter(|drained| *drained.database == *database);
        of_database.any(|drained| drained.names.iter().any(|name| names.contains(name)))
    }

    /// Waits until none of these tables is drained.
    pub async fn wait(&self, database: &str, names: &[String]) {
        loop {
            let ended = self.ended.notified();
            let mut ended = std::pin::pin!(ended);
            // What ends from here on wakes it.
            ended.as_mut().enable();
            if !self.has_any(database, names) {
                return;
            }
            ended.await;
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Vec<Drained>> {
        self.tables.lock().expect("nobody panics while holding it")
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        let drains = &self.drains;
        drains.locked().retain(|one| one.number != self.number);
        drains.count.fetch_sub(1, Ordering::SeqCst);
        drains.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::pin::pin;

    #[test]
    fn who_wants_a_drained_table_waits_until_the_last_drain_has_ended() {
        let drains = Arc::new(Drains::default());
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| name.to_string())
                .collect::<Vec<_>>()
        };
        assert!(!drains.is_any());
        let first = drains.begin(&one, names(&["t", "u"]));
        let second = drains.begin(&one, names(&["u"]));
        let third = drains.begin(&other, names(&["v"]));
        for (database, wanted, waits) in [
            (&one, names(&["x", "u"]), true),
            (&one, names(&["x", "v"]), false),
            (&other, names(&["u"]), false),
        ] {
            let waiting = drains.wait(database, &wanted).now_or_never();
            assert_eq!(waiting.is_none(), waits, "{database} {wanted:?}");
        }
        let wanted = names(&["u"]);
        let mut waiting = pin!(drains.wait(&one, &wanted));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(first);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(second);
        assert!(waiting.as_mut().now_or_never().is_some());
        assert!(drains.is_any());
        drop(third);
        assert!(!drains.is_any());
    }
}
