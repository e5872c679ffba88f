//! On which tables statements over several shards were in each other's way, for a while.
//!
//! What locks rows on several shards goes to all of them at once as long as nothing speaks against it. Where two of them
//! have met, one had to be undone; so for a time all that name the same table lock the first shard before the others, and
//! where they meet all the same, one shard after the other. The time is short at first and doubles while they go on
//! meeting. Which shard is the first one is remembered as well: the one on which the statement waited that was undone last.
//!
//! All cores share it. Whoever asks pays one load where nobody has met anybody.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a table is remembered after the first time.
const FIRST: Duration = Duration::from_secs(1);
/// And at most.
const LONGEST: Duration = Duration::from_secs(60);
/// So many tables are remembered; of more, those that are forgotten soonest are.
const MOST: usize = 1024;

/// How a statement goes to its shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// To all of them at once.
    AtOnce,
    /// To the first one, and to the others at once when it has answered: who wants the same rows stops at the first.
    Lead,
    /// To one after the other, as each has answered.
    InTurn,
}

impl Order {
    /// Whether the leg of this number, in the order of locks, is waited for before the next one is asked.
    pub fn waits_for(self, number: usize) -> bool {
        match self {
            Order::AtOnce => false,
            Order::Lead => number == 0,
            Order::InTurn => true,
        }
    }

    /// How it goes when it has met others like this.
    pub fn after_meeting(self) -> Order {
        match self {
            Order::AtOnce => Order::Lead,
            Order::Lead | Order::InTurn => Order::InTurn,
        }
    }
}

/// What was learned where statements met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// How what comes next goes to its shards.
    pub order: Order,
    /// The shard on which the last one waited that was undone: it is asked first.
    pub first: Option<usize>,
}

/// Where statements met.
#[derive(Debug)]
pub struct Contention {
    begun: Instant,
    /// Until then, in microseconds since `begun`, something is remembered.
    until: AtomicU64,
    tables: Mutex<HashMap<Table, Heat>>,
}

/// Database and name.
type Table = (Box<str>, Box<str>);

#[derive(Clone, Copy, Debug)]
struct Heat {
    until: Instant,
    lasts: Duration,
    learned: Learned,
}

impl Default for Contention {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            until: AtomicU64::new(0),
            tables: Mutex::default(),
        }
    }
}

impl Contention {
    /// Statements that name these tables of a database have met. Until it is forgotten they go like this, or in what
    /// stricter order they go already. The first shard stays the same where none is given.
    pub fn note<'n>(
        &self,
        database: &str,
        names: impl Iterator<Item = &'n str>,
        learned: Learned,
        now: Instant,
    ) {
        let mut tables = self.tables.lock().expect("nobody panics while holding it");
        for name in names {
            let heat = tables.entry((database.into(), name.into()));
            let heat = heat
                .and_modify(|heat| heat.again(learned, now))
                .or_insert(Heat {
                    until: now + FIRST,
                    lasts: FIRST,
                    learned,
                });
            let until = heat.until.saturating_duration_since(self.begun);
            let until = u64::try_from(until.as_micros()).unwrap_or(u64::MAX);
            self.until.fetch_max(until, Ordering::Relaxed);
        }
        if tables.len() > MOST {
            tables.retain(|_, heat| heat.until > now);
        }
        while tables.len() > MOST {
            let first = tables.iter().min_by_key(|(_, heat)| heat.until);
            let Some(first) = first.map(|(table, _)| table.clone()) else {
                break;
            };
            tables.remove(&first);
        }
    }

    /// The tables of a database on which statements have met lately, and what was learned.
    pub fn of(&self, database: &str, now: Instant) -> Vec<(Box<str>, Learned)> {
        let passed = now.saturating_duration_since(self.begun).as_micros();
        if u128::from(self.until.load(Ordering::Relaxed)) <= passed {
            return Vec::new();
        }
        let tables = self.tables.lock().expect("nobody panics while holding it");
        let hot = tables
            .iter()
            .filter(|((of, _), heat)| **of == *database && heat.until > now);
        hot.map(|((_, name), heat)| (name.clone(), heat.learned))
            .collect()
    }
}

impl Learned {
    /// Both: the stricter order, and the later one's first shard.
    #[must_use]
    pub fn and(self, later: Learned) -> Learned {
        Learned {
            order: self.order.max(later.order),
            first: later.first.or(self.first),
        }
    }
}

impl Heat {
    fn again(&mut self, learned: Learned, now: Instant) {
        let lately = now < self.until + self.lasts;
        (self.lasts, self.learned) = match lately {
            true => ((self.lasts * 2).min(LONGEST), self.learned.and(learned)),
            false => (FIRST, learned),
        };
        self.until = now + self.lasts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAD: Learned = Learned {
        order: Order::Lead,
        first: None,
    };

    #[test]
    fn a_table_is_remembered_for_longer_the_more_often_statements_meet_there() {
        let contention = Contention::default();
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let hot = |ms| contention.of("d", after(ms)).len();
        let note = |ms| contention.note("d", ["t"].into_iter(), LEAD, after(ms));
        assert_eq!(hot(0), 0);
        note(0);
        assert_eq!([hot(1), hot(999), hot(1001)], [1, 1, 0]);
        assert_eq!(contention.of("other", after(1)).len(), 0);
        // Again soon after it was forgotten: twice as long.
        note(1500);
        assert_eq!([hot(3499), hot(3501)], [1, 0]);
        note(3600);
        assert_eq!([hot(7599), hot(7601)], [1, 0]);
        // Long after that it begins anew.
        note(60_000);
        assert_eq!([hot(60_999), hot(61_001)], [1, 0]);
    }

    #[test]
    fn a_table_keeps_the_strictest_order_until_it_is_forgotten() {
        let contention = Contention::default();
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let note = |order, first, ms| {
            let learned = Learned { order, first };
            contention.note("d", ["t"].into_iter(), learned, after(ms));
        };
        let learned = |ms| {
            let learned = contention.of("d", after(ms)).first()?.1;
            Some((learned.order, learned.first))
        };
        note(Order::Lead, Some(1), 0);
        note(Order::InTurn, Some(2), 0);
        note(Order::Lead, None, 0);
        assert_eq!(learned(1), Some((Order::InTurn, Some(2))));
        note(Order::Lead, None, 60_000);
        assert_eq!(learned(60_001), Some((Order::Lead, None)));
    }

    #[test]
    fn only_so_many_tables_are_remembered_and_for_so_long() {
        let contention = Contention::default();
        let now = Instant::now();
        let names: Vec<String> = (0..MOST * 2).map(|n| format!("t{n}")).collect();
        contention.note("d", names.iter().map(String::as_str), LEAD, now);
        assert_eq!(contention.of("d", now).len(), MOST);
        let one = Contention::default();
        let mut at = now;
        for _ in 0..20 {
            one.note("d", ["t"].into_iter(), LEAD, at);
            at += Duration::from_millis(900);
        }
        assert_eq!(one.of("d", at + LONGEST - FIRST).len(), 1);
        assert_eq!(one.of("d", at + LONGEST).len(), 0);
    }
}
