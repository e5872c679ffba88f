//! Who waits for whom over all shards, and whether somebody waits for himself.
//!
//! Pure. One session has a server process on each of its shards: that is where waits
//! of single servers, which these see themselves, become cycles that none of them
//! can see.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Somebody who holds locks or waits for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// A session of this router, with all its server processes.
    Session(u64),
    /// A process of somebody else: its shard and its number there.
    Process(usize, i32),
}

/// One waits for another.
#[derive(Clone, Debug, PartialEq)]
pub struct Wait {
    /// The shard on which.
    pub shard: usize,
    /// Who.
    pub waiter: Node,
    /// Its process there.
    pub pid: i32,
    /// For whom.
    pub blocker: Node,
    /// Its process there.
    pub blocker_pid: i32,
    /// What makes this wait another than a later one of the same process: its transaction, statement and lock.
    pub identity: String,
    /// When the waiter's transaction began, in seconds.
    pub since: f64,
}

/// The waits that have lasted from one look to the next.
pub fn lasting(before: &[Wait], now: Vec<Wait>) -> Vec<Wait> {
    now.into_iter()
        .filter(|wait| before.contains(wait))
        .collect()
}

/// A cycle over more than one shard, as the waits that make it, each waiting for the next one's waiter. Cycles on one
/// shard are left to its server.
pub fn deadlock(waits: &[Wait]) -> Option<Vec<&Wait>> {
    let mut of: BTreeMap<Node, Vec<&Wait>> = BTreeMap::new();
    for wait in waits {
        of.entry(wait.waiter).or_default().push(wait);
    }
    // Such a cycle comes to some session on one shard and leaves it on another.
    let first = waits
        .iter()
        .filter(|wait| matches!(wait.waiter, Node::Session(_)));
    first.into_iter().find_map(|first| back_to(first, &of))
}

/// The shortest way from a wait back to its waiter that arrives on another shard.
fn back_to<'w>(first: &'w Wait, of: &BTreeMap<Node, Vec<&'w Wait>>) -> Option<Vec<&'w Wait>> {
    let mut came_by: BTreeMap<Node, &Wait> = BTreeMap::from([(first.blocker, first)]);
    let mut seen = BTreeSet::from([first.waiter, first.blocker]);
    let mut open = VecDeque::from([first.blocker]);
    while let Some(node) = open.pop_front() {
        for &wait in of.get(&node).into_iter().flatten() {
            if wait.blocker == first.waiter && wait.shard != first.shard {
                let mut cycle = vec![wait];
                let mut node = wait.waiter;
                loop {
                    let by = came_by[&node];
                    cycle.push(by);
                    if by.waiter == first.waiter {
                        cycle.reverse();
                        return Some(cycle);
                    }
                    node = by.waiter;
                }
            }
            if seen.insert(wait.blocker) {
                came_by.insert(wait.blocker, wait);
                open.push_back(wait.blocker);
            }
        }
    }
    None
}

/// Whose statement is to be cancelled: the session of the cycle whose transaction is the youngest.
pub fn victim<'w>(cycle: &[&'w Wait]) -> Option<&'w Wait> {
    let sessions = cycle
        .iter()
        .filter(|wait| matches!(wait.waiter, Node::Session(_)));
    sessions
        .copied()
        .max_by(|a, b| a.since.total_cmp(&b.since).then(a.waiter.cmp(&b.waiter)))
}

/// The detail of the error, in PostgreSQL's manner.
pub fn detail(cycle: &[&Wait], shards: &[String]) -> String {
    let name = |shard: usize| shards.get(shard).map_or("?", String::as_str);
    let lines = cycle.iter().map(|wait| {
        let (pid, other) = (wait.pid, wait.blocker_pid);
        format!(
            "On shard {}, process {pid} waits for process {other}.",
            name(wait.shard)
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    fn wait(shard: usize, waiter: Node, blocker: Node) -> Wait {
        Wait {
            shard,
            waiter,
            pid: 1,
            blocker,
            blocker_pid: 2,
            identity: String::new(),
            since: 0.0,
        }
    }

    /// Every simple cycle, by trying all ways.
    fn some_cycle_over_shards(waits: &[Wait], path: &mut Vec<usize>) -> bool {
        let next: Vec<usize> = match path.last() {
            None => (0..waits.len()).collect(),
            Some(&last) => (0..waits.len())
                .filter(|&n| waits[n].waiter == waits[last].blocker)
                .collect(),
        };
        next.into_iter().any(|n| {
            let start = path.first().map_or(waits[n].waiter, |&f| waits[f].waiter);
            if path.iter().any(|&p| waits[p].waiter == waits[n].waiter) {
                return false;
            }
            path.push(n);
            let shards: BTreeSet<usize> = path.iter().map(|&p| waits[p].shard).collect();
            let closed = waits[n].blocker == start && shards.len() > 1;
            let found = closed || some_cycle_over_shards(waits, path);
            path.pop();
            found
        })
    }

    #[test]
    fn a_cycle_is_found_exactly_if_there_is_one_over_several_shards() {
        let seed: u64 = rand::rng().random();
        println!("SEED={seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut with, mut without) = (0, 0);
        for _ in 0..30_000 {
            let sessions = rng.random_range(2..5);
            let count = rng.random_range(1..9);
            let node = |rng: &mut StdRng, shard: usize| match rng.random_range(0..4) {
                0 => Node::Process(shard, rng.random_range(0..2)),
                _ => Node::Session(rng.random_range(0..sessions)),
            };
            let waits: Vec<Wait> = (0..count)
                .map(|_| {
                    let shard = rng.random_range(0..3);
                    let (waiter, blocker) = (node(&mut rng, shard), node(&mut rng, shard));
                    wait(shard, waiter, blocker)
                })
                .filter(|wait| wait.waiter != wait.blocker)
                .collect();
            let expected = some_cycle_over_shards(&waits, &mut Vec::new());
            let found = deadlock(&waits);
            assert_eq!(found.is_some(), expected, "{waits:#?}");
            match found {
                None => without += 1,
                Some(cycle) => {
                    with += 1;
                    let next = cycle.iter().skip(1).chain(cycle.first());
                    assert!(cycle.iter().zip(next).all(|(a, b)| a.blocker == b.waiter));
                    let waiters: BTreeSet<Node> = cycle.iter().map(|w| w.waiter).collect();
                    assert_eq!(waiters.len(), cycle.len());
                    let shards: BTreeSet<usize> = cycle.iter().map(|w| w.shard).collect();
                    assert!(shards.len() > 1);
                    assert!(victim(&cycle).is_some());
                }
            }
        }
        println!("with a cycle {with}, without {without}");
        assert!(with > 1000 && without > 1000);
    }

    #[test]
    fn only_waits_that_last_count_and_the_youngest_transaction_is_the_victim() {
        let (a, b) = (Node::Session(1), Node::Session(2));
        let mut first = wait(0, a, b);
        first.since = 5.0;
        let second = wait(1, b, a);
        let before = [first.clone(), second.clone()];
        let other = Wait {
            identity: "another statement".into(),
            ..second.clone()
        };
        assert_eq!(
            lasting(&before, vec![first.clone(), other]),
            [first.clone()]
        );
        let cycle = deadlock(&before).unwrap();
        assert_eq!(victim(&cycle), Some(&first));
        assert_eq!(
            detail(&cycle, &["s1".into(), "s2".into()]),
            "On shard s1, process 1 waits for process 2.\nOn shard s2, process 1 waits for process 2."
        );
    }
}
