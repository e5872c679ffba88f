//! How many requests wait for connections: for each pool and for all of them, over all cores.
//!
//! Pools are local to a core, how many may wait is not. A request that would be one too many is refused, or takes the
//! places of one that has fewer points of priority. That one may stand in line on another core: a place is taken from
//! it at once, as a debt of its pool, and the pool is [called](Line::called) to send the newest such request away. If
//! an equal one leaves by itself first, that pays the debt as well.
//!
//! Transactions that join one more shard are not counted: they hold connections, which are counted.

use slab::Slab;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// All lines of a process.
#[derive(Debug)]
pub struct Lines {
    max: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    all: Crowd,
    pools: Slab<Waiting>,
}

/// What waits for one pool.
#[derive(Debug)]
struct Waiting {
    /// Those that have a place.
    crowd: Crowd,
    /// Those that have lost theirs and are still there.
    owed: Crowd,
    /// Those of the owed that no pool has been told to send away.
    called: Crowd,
    bell: Arc<Bell>,
}

/// Tells the cores of a pool that somebody is to be sent away.
#[derive(Debug, Default)]
struct Bell {
    /// How many.
    calls: AtomicU32,
    rung: Notify,
}

/// The line before one pool, on all cores.
#[derive(Debug)]
pub struct Line {
    lines: Arc<Lines>,
    key: usize,
    max: AtomicU32,
    bell: Arc<Bell>,
}

/// A place in a line, until it is dropped.
#[derive(Debug)]
pub struct Ticket {
    line: Arc<Line>,
    points: i8,
}

/// One more cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// How many wait.
    pub waiting: u32,
    /// Where so many wait already.
    pub of: LimitScope,
}

/// What has a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitScope {
    /// The line of one pool.
    Pool,
    /// All lines together.
    Router,
}

impl Lines {
    /// In which `max` requests may wait.
    pub fn new(max: u32) -> Arc<Self> {
        Arc::new(Self {
            max: AtomicU32::new(max),
            state: Mutex::default(),
        })
    }

    /// Changes how many may wait. Those that do go on waiting.
    pub fn set_max(&self, max: u32) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// How many wait.
    pub fn waiting(&self) -> u32 {
        self.state().all.len
    }

    /// A line in which `max` requests may wait.
    pub fn line(self: &Arc<Self>, max: u32) -> Arc<Line> {
        let bell = Arc::<Bell>::default();
        let key = self.state().pools.insert(Waiting {
            crowd: Crowd::default(),
            owed: Crowd::default(),
            called: Crowd::default(),
            bell: Arc::clone(&bell),
        });
        Arc::new(Line {
            lines: Arc::clone(self),
            key,
            max: AtomicU32::new(max),
            bell,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }
}

impl Line {
    /// Changes how many may wait. Those that do go on waiting.
    pub fn set_max(&self, max: u32) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// How many may wait.
    pub fn max(&self) -> u32 {
        self.max.load(Ordering::Relaxed)
    }

    /// How many wait here.
    pub fn waiting(&self) -> u32 {
        self.lines.state().pools[self.key].crowd.len
    }

    /// A place for a request with so many points of priority.
    ///
    /// # Errors
    /// How many wait, if one more may not and nobody has fewer points.
    pub fn enter(self: &Arc<Self>, points: i8) -> Result<Ticket, Full> {
        let mut state = self.lines.state();
        let State { all, pools } = &mut *state;
        let here = &mut pools[self.key];
        if here.crowd.len >= self.max() {
            let waiting = here.crowd.len;
            let lowest = here.crowd.lowest().filter(|lowest| *lowest < points);
            let Some(lowest) = lowest else {
                let of = LimitScope::Pool;
                return Err(Full { waiting, of });
            };
            here.send_away(lowest, all);
        } else if all.len >= self.lines.max.load(Ordering::Relaxed) {
            let waiting = all.len;
            let lowest = all.lowest().filter(|lowest| *lowest < points);
            let Some(lowest) = lowest else {
                let of = LimitScope::Router;
                return Err(Full { waiting, of });
            };
            // From where most of them are: that is where the trouble is.
            let pools = pools.iter_mut().map(|(_, pool)| pool);
            let most = pools.max_by_key(|pool| pool.crowd.of(lowest));
            let most = most.expect("there is a line: this one");
            most.send_away(lowest, all);
        }
        Ok(self.add(&mut state, points))
    }

    /// The same for one who has waited here before, or whom an administrator makes wait: it is never one too many.
    pub fn enter_again(self: &Arc<Self>, points: i8) -> Ticket {
        self.add(&mut self.lines.state(), points)
    }

    fn add(self: &Arc<Self>, state: &mut State, points: i8) -> Ticket {
        state.all.add(points);
        let here = &mut state.pools[self.key];
        here.crowd.add(points);
        Ticket {
            line: Arc::clone(self),
            points,
        }
    }

    fn leave(&self, points: i8) {
        let mut state = self.lines.state();
        let State { all, pools } = &mut *state;
        let here = &mut pools[self.key];
        if !here.owed.take(points) {
            here.crowd.take(points);
            all.take(points);
        } else if here.called.of(points) > here.owed.of(points) {
            here.called.take(points);
        }
        here.tell_calls();
    }

    /// The points of a request that a pool shall send away; `has` says of which it could. `None` if there is nothing
    /// to do.
    pub fn called(&self, has: impl Fn(i8) -> bool) -> Option<i8> {
        let mut state = self.lines.state();
        let here = &mut state.pools[self.key];
        let points = here.called.points().find(|points| has(*points))?;
        here.called.take(points);
        here.tell_calls();
        Some(points)
    }

    /// Whether anybody is to be sent away.
    pub fn calls(&self) -> bool {
        self.bell.calls.load(Ordering::Acquire) > 0
    }

    /// Wakes when somebody is to be sent away. Cancel safe.
    pub fn bell(&self) -> tokio::sync::futures::Notified<'_> {
        self.bell.rung.notified()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Tickets hold the line, so nobody waits here.
        self.lines.state().pools.remove(self.key);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.line.leave(self.points);
    }
}

impl Waiting {
    fn send_away(&mut self, points: i8, all: &mut Crowd) {
        self.crowd.take(points);
        all.take(points);
        self.owed.add(points);
        self.called.add(points);
        self.tell_calls();
        self.bell.rung.notify_waiters();
    }

    fn tell_calls(&self) {
        self.bell.calls.store(self.called.len, Ordering::Release);
    }
}

/// How many there are of each priority. There are few priorities.
#[derive(Debug, Default)]
struct Crowd {
    len: u32,
    /// The lowest first; some may be none any more.
    by: Vec<(i8, u32)>,
}

impl Crowd {
    fn add(&mut self, points: i8) {
        self.len += 1;
        match self.by.binary_search_by_key(&points, |(points, _)| *points) {
            Ok(at) => self.by[at].1 += 1,
            Err(at) => self.by.insert(at, (points, 1)),
        }
    }

    /// False if there is none.
    fn take(&mut self, points: i8) -> bool {
        if self.len == 0 {
            return false;
        }
        let mut known = self.by.iter_mut();
        let Some((_, count)) = known.find(|(known, count)| *known == points && *count > 0) else {
            return false;
        };
        *count -= 1;
        self.len -= 1;
        true
    }

    fn of(&self, points: i8) -> u32 {
        let known = self.by.iter().find(|(known, _)| *known == points);
        known.map_or(0, |(_, count)| *count)
    }

    /// The priorities that there are, the lowest first.
    fn points(&self) -> impl Iterator<Item = i8> + '_ {
        let some = self.by.iter().filter(|(_, count)| *count > 0);
        some.map(|(points, _)| *points)
    }

    fn lowest(&self) -> Option<i8> {
        self.points().next()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn one_too_many_is_refused_for_its_pool_and_for_all_together() {
        let lines = Lines::new(3);
        let (one, other) = (lines.line(2), lines.line(2));
        let first = one.enter(0).unwrap();
        let _second = one.enter(0).unwrap();
        let full = |waiting, of| Full { waiting, of };
        assert_eq!(one.enter(0).unwrap_err(), full(2, LimitScope::Pool));
        let third = other.enter(0).unwrap();
        assert_eq!(other.enter(0).unwrap_err(), full(3, LimitScope::Router));
        drop(first);
        assert!(other.enter(0).is_ok());
        drop(third);
        assert_eq!((lines.waiting(), one.waiting(), other.waiting()), (1, 1, 0));
    }

    #[test]
    fn a_higher_priority_takes_the_place_of_the_lowest_and_never_of_an_equal_one() {
        let lines = Lines::new(9);
        let line = lines.line(2);
        let (low, middle) = (line.enter(-5).unwrap(), line.enter(0).unwrap());
        assert!(line.enter(-5).is_err());
        let _high = line.enter(5).unwrap();
        assert_eq!(
            line.called(|points| points == 0),
            None,
            "not the middle one"
        );
        assert_eq!(line.called(|points| points == -5), Some(-5));
        assert_eq!(line.called(|_| true), None, "it is told once");
        drop(low);
        assert_eq!((line.waiting(), lines.waiting()), (2, 2));
        assert!(line.enter(0).is_err());
        drop(middle);
        assert_eq!(line.waiting(), 1);
    }

    #[test]
    fn who_leaves_by_itself_pays_for_one_that_is_to_be_sent_away() {
        let lines = Lines::new(9);
        let line = lines.line(1);
        let low = line.enter(0).unwrap();
        let high = line.enter(1).unwrap();
        drop(low);
        assert!(!line.calls() && line.called(|_| true).is_none());
        assert_eq!((line.waiting(), lines.waiting()), (1, 1));
        drop(high);
        assert_eq!((line.waiting(), lines.waiting()), (0, 0));
    }

    #[test]
    fn where_all_lines_are_full_the_longest_of_the_lowest_gives_way() {
        let lines = Lines::new(4);
        let (long, short) = (lines.line(9), lines.line(9));
        let _waiting: Vec<_> = [(&long, 0), (&long, 0), (&short, 0), (&short, 3)]
            .map(|(line, points)| line.enter(points).unwrap())
            .into();
        let _high = short.enter(1).unwrap();
        assert_eq!((short.calls(), long.called(|_| true)), (false, Some(0)));
        assert_eq!(
            (lines.waiting(), long.waiting(), short.waiting()),
            (4, 1, 3)
        );
    }

    #[test]
    fn whatever_comes_and_goes_nobody_is_counted_who_is_not_there() {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let lines = Lines::new(12);
        let pools = [lines.line(5), lines.line(7), lines.line(0)];
        let mut there: Vec<(usize, Ticket)> = Vec::new();
        let mut sent_away = 0;
        for _ in 0..50_000 {
            let at = random.random_range(0..pools.len());
            match random.random_range(0..3) {
                0 => there.extend(
                    pools[at]
                        .enter(random.random_range(-2..=2))
                        .map(|ticket| (at, ticket)),
                ),
                1 if !there.is_empty() => {
                    there.swap_remove(random.random_range(0..there.len()));
                }
                _ => {
                    let has = |points| there.iter().any(|(of, t)| *of == at && t.points == points);
                    if let Some(points) = pools[at].called(has) {
                        let mut all = there.iter();
                        let gone = all.position(|(of, t)| *of == at && t.points == points);
                        there.swap_remove(gone.unwrap());
                        sent_away += 1;
                    }
                }
            }
            assert!(lines.waiting() <= 12);
            assert!(pools[0].waiting() <= 5 && pools[1].waiting() <= 7);
            assert!(there.len() >= lines.waiting() as usize);
        }
        assert!(sent_away > 0, "nobody was sent away");
        for (at, line) in pools.iter().enumerate() {
            let place = |points, there: &[(usize, Ticket)]| {
                let mut all = there.iter();
                all.position(|(of, ticket)| *of == at && ticket.points == points)
            };
            while let Some(points) = line.called(|points| place(points, &there).is_some()) {
                there.swap_remove(place(points, &there).unwrap());
            }
        }
        there.clear();
        assert_eq!(lines.waiting(), 0);
    }
}
