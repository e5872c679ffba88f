//! On which tables statements over several shards were in each other's way, for a while.
//!
//! What locks rows on several shards goes to all of them at once as long as nothing speaks against it. Where two of them
//! have met, one had to be undone; so for a time all that name the same table lock the first shard before the others, and
//! where they meet all the same, one shard after the other. The time is short at first and doubles while they go on
//! meeting. Which shard is the first one is remembered as well: the one on which the statement waited that was undone last.
//!
//! All cores share it. Whoever asks pays one load where nobody has met anybody.

use mothership_shardmap::ShardId;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a table is remembered after the first time.
const FIRST: Duration = Duration::from_secs(1);
/// And at most.
const LONGEST: Duration = Duration::from_secs(60);
/// So many tables are remembered; of more, those that are forgotten soonest are.
const MAX_TABLES: usize = 1024;

/// How a statement goes to its shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// How much of it is one after the other.
    pub pace: Pace,
    /// The shard that is asked before the others; without one, the home shard. All others follow by their number.
    pub first: Option<ShardId>,
}

/// Which answers a statement waits for before it asks more shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// None: it goes to all of them at once.
    AtOnce,
    /// The first one's; then it goes to the others at once. Who wants the same rows stops at the first.
    Lead,
    /// Each one's.
    InTurn,
}

/// Whom a statement has met that was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// Others like it: each holds what the others wait for since its last statement, which can be undone.
    Alike,
    /// Others, for which it waited on this shard: what they hold they keep until their transactions end.
    Others(ShardId),
}

impl Order {
    /// Where nothing is known of others.
    pub const AT_ONCE: Order = Order {
        pace: Pace::AtOnce,
        first: None,
    };

    /// Where others are met and no attempt can be undone.
    pub const IN_TURN: Order = Order {
        pace: Pace::InTurn,
        first: None,
    };

    /// Whether the leg of this number, in the order of locks, is waited for before the next one is asked.
    pub fn waits_for(self, number: usize) -> bool {
        match self.pace {
            Pace::AtOnce => false,
            Pace::Lead => number == 0,
            Pace::InTurn => true,
        }
    }

    /// Whether it waits for no answer before it asks more shards.
    pub fn is_at_once(self) -> bool {
        self.pace == Pace::AtOnce
    }

    /// How it goes when it has met these; `None` where nobody knows whom.
    ///
    /// Where it did not go in turn, it is enough that it does. If it did and has met others, these take their locks in
    /// another order. It is best off behind them in the queue where it waited, while it holds nothing. But if all can be
    /// undone, that order comes from this very rule: each would go to where the others began, again and again. They all
    /// begin with the home shard.
    #[must_use]
    pub fn after_meeting(self, met: Option<Met>) -> Order {
        let first = match (self.pace, met) {
            (Pace::InTurn, Some(Met::Alike)) => None,
            (Pace::InTurn, Some(Met::Others(shard))) => Some(shard),
            (Pace::AtOnce | Pace::Lead, _) | (Pace::InTurn, None) => self.first,
        };
        Order {
            pace: Pace::InTurn,
            first,
        }
    }

    /// How others go for a while when this one goes on like that: what is in the way of few need not be in turn.
    #[must_use]
    pub fn lesson(self, next: Order) -> Order {
        let pace = match self.pace {
            Pace::AtOnce => Pace::Lead,
            Pace::Lead | Pace::InTurn => Pace::InTurn,
        };
        Order { pace, ..next }
    }

    /// Both: the stricter one, with the later one's first shard where that goes in turn or names one.
    #[must_use]
    pub fn and(self, later: Order) -> Order {
        let first = match later.pace {
            Pace::InTurn => later.first,
            Pace::AtOnce | Pace::Lead => later.first.or(self.first),
        };
        Order {
            pace: self.pace.max(later.pace),
            first,
        }
    }
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
    order: Order,
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
        order: Order,
        now: Instant,
    ) {
        let mut tables = self.tables.lock().expect("nobody panics while holding it");
        for name in names {
            let heat = tables.entry((database.into(), name.into()));
            let heat = heat
                .and_modify(|heat| heat.again(order, now))
                .or_insert(Heat {
                    until: now + FIRST,
                    lasts: FIRST,
                    order,
                });
            let until = heat.until.saturating_duration_since(self.begun);
            let until = u64::try_from(until.as_micros()).unwrap_or(u64::MAX);
            self.until.fetch_max(until, Ordering::Relaxed);
        }
        if tables.len() > MAX_TABLES {
            tables.retain(|_, heat| heat.until > now);
        }
        while tables.len() > MAX_TABLES {
            let first = tables.iter().min_by_key(|(_, heat)| heat.until);
            let Some(first) = first.map(|(table, _)| table.clone()) else {
                break;
            };
            tables.remove(&first);
        }
    }

    /// The tables of a database on which statements have met lately, and how they go since.
    pub fn of(&self, database: &str, now: Instant) -> Vec<(Box<str>, Order)> {
        let passed = now.saturating_duration_since(self.begun).as_micros();
        if u128::from(self.until.load(Ordering::Relaxed)) <= passed {
            return Vec::new();
        }
        let tables = self.tables.lock().expect("nobody panics while holding it");
        let hot = tables
            .iter()
            .filter(|((of, _), heat)| **of == *database && heat.until > now);
        hot.map(|((_, name), heat)| (name.clone(), heat.order))
            .collect()
    }
}

impl Heat {
    fn again(&mut self, order: Order, now: Instant) {
        let lately = now < self.until + self.lasts;
        (self.lasts, self.order) = match lately {
            true => ((self.lasts * 2).min(LONGEST), self.order.and(order)),
            false => (FIRST, order),
        };
        self.until = now + self.lasts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAD: Order = Order {
        pace: Pace::Lead,
        first: None,
    };

    #[test]
    fn who_meets_others_in_the_common_order_begins_where_it_waited() {
        let in_turn = |first| Order {
            pace: Pace::InTurn,
            first,
        };
        let others = |shard| Some(Met::Others(ShardId(shard)));
        let cases = [
            (Order::AT_ONCE, others(2), in_turn(None), LEAD),
            (LEAD, others(2), in_turn(None), in_turn(None)),
            (
                in_turn(None),
                others(2),
                in_turn(Some(ShardId(2))),
                in_turn(Some(ShardId(2))),
            ),
            (
                in_turn(Some(ShardId(2))),
                others(1),
                in_turn(Some(ShardId(1))),
                in_turn(Some(ShardId(1))),
            ),
            (
                in_turn(Some(ShardId(2))),
                Some(Met::Alike),
                in_turn(None),
                in_turn(None),
            ),
            (
                in_turn(Some(ShardId(2))),
                None,
                in_turn(Some(ShardId(2))),
                in_turn(Some(ShardId(2))),
            ),
        ];
        for (order, met, next, lesson) in cases {
            assert_eq!(order.after_meeting(met), next, "{order:?}");
            assert_eq!(order.lesson(next), lesson, "{order:?}");
        }
    }

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
        let note = |pace, first, ms| {
            let order = Order { pace, first };
            contention.note("d", ["t"].into_iter(), order, after(ms));
        };
        let order = |ms| {
            let order = contention.of("d", after(ms)).first()?.1;
            Some((order.pace, order.first))
        };
        note(Pace::Lead, Some(ShardId(1)), 0);
        note(Pace::InTurn, Some(ShardId(2)), 0);
        note(Pace::Lead, None, 0);
        assert_eq!(order(1), Some((Pace::InTurn, Some(ShardId(2)))));
        note(Pace::InTurn, None, 2);
        assert_eq!(order(3), Some((Pace::InTurn, None)));
        note(Pace::Lead, None, 60_000);
        assert_eq!(order(60_001), Some((Pace::Lead, None)));
    }

    #[test]
    fn only_so_many_tables_are_remembered_and_for_so_long() {
        let contention = Contention::default();
        let now = Instant::now();
        let names: Vec<String> = (0..MAX_TABLES * 2).map(|n| format!("t{n}")).collect();
        contention.note("d", names.iter().map(String::as_str), LEAD, now);
        assert_eq!(contention.of("d", now).len(), MAX_TABLES);
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
