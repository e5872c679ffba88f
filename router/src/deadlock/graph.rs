//! Who waits for whom over all shards, and whether somebody waits for himself.
//!
//! Pure. A transaction has a server process on each of its shards: that is where waits
//! of single servers, which these see themselves, become cycles that none of them
//! can see. Routers that see the same waits choose the same victims, whatever the
//! order in which they see them.

use crate::commit::mark::Mark;
use crate::core::Attempt;
use mothership_shardmap::ShardId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

/// Somebody who holds locks or waits for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// A session of this router, with all its server processes.
    Session(u64),
    /// A transaction of another router, with all its server processes.
    Transaction(Mark),
    /// A process of somebody else: its server, by its first shard, and its number there.
    Process(ShardId, i32),
}

/// One waits for another.
#[derive(Clone, Debug, PartialEq)]
pub struct Wait {
    /// The server on which, by its first shard.
    pub server: ShardId,
    /// The shard on which: several may be on one server.
    pub shard: ShardId,
    /// Who.
    pub waiter: Node,
    /// Its process there.
    pub pid: i32,
    /// For whom.
    pub blocker: Node,
    /// Its process there; 0 for what is prepared.
    pub blocker_pid: i32,
    /// What makes this wait another than a later one of the same process: its transaction, statement and lock.
    pub identity: String,
    /// Since when it is known.
    pub since: Instant,
    /// Since when, at the latest, the blocker has what is waited for, as far as it is known.
    pub held_since: Instant,
}

/// How young a transaction over several shards is. The youngest is ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Age {
    /// It carries no mark, so that no other router can tell that it is one: only its own can end it.
    Hidden,
    /// When its first part began, in seconds, and what other routers know it by.
    Since(f64, Mark),
}

impl Age {
    /// The age of both parts of a transaction.
    pub fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Since(a, mark), Self::Since(b, _)) => Self::Since(a.min(b), mark),
            (since @ Self::Since(..), Self::Hidden) | (Self::Hidden, since) => since,
        }
    }

    fn is_younger(self, other: Self) -> bool {
        match (self, other) {
            (Self::Since(a, mine), Self::Since(b, theirs)) => {
                a.total_cmp(&b).then(mine.cmp(&theirs)).is_gt()
            }
            (Self::Hidden, Self::Since(..)) => true,
            (_, Self::Hidden) => false,
        }
    }
}

/// A cycle, as the waits that make it, each waiting for the next one's waiter. The first one's waiter is its victim.
pub type Cycle<'w> = Vec<&'w Wait>;

/// Who is to undo what they do, and then who is to be ended: without their waits there is no cycle that no server sees.
#[derive(Debug, Default)]
pub struct Victims<'w> {
    /// These undo this attempt. It is not asked whether a server sees the cycle: that takes the server some time.
    pub undone: Vec<(Cycle<'w>, Attempt)>,
    /// So do these, which are in no cycle yet.
    pub crowd: Vec<(&'w Wait, Attempt)>,
    /// These are ended. A cycle without a transaction of several processes is left to its server.
    pub ended: Vec<Cycle<'w>>,
}

/// A victim for each cycle.
pub fn deadlocks<'w>(
    waits: &'w [Wait],
    ages: &BTreeMap<Node, Age>,
    attempts: &BTreeMap<Node, Attempt>,
) -> Victims<'w> {
    let mut of: BTreeMap<Node, Vec<&Wait>> = BTreeMap::new();
    for wait in waits {
        of.entry(wait.waiter).or_default().push(wait);
    }
    let all = &attempts;
    let mut attempts: Vec<(&Node, &Attempt)> = attempts.iter().collect();
    attempts.sort_by_key(|(_, attempt)| (attempt.undone, attempt.is_part));
    let mut undone = Vec::new();
    for (node, attempt) in attempts {
        // What it had before the attempt began an earlier statement holds, and that stays.
        let helps = |last: &Wait| last.held_since > attempt.began;
        let leaving = of.get(node).into_iter().flatten().copied();
        let cycle = leaving.filter_map(|first| back_to(first, &of, |_, last| helps(last)));
        let shortest = cycle.min_by_key(Vec::len);
        if let Some(cycle) = shortest.filter(|cycle| !is_lasting(cycle, all)) {
            of.remove(node);
            undone.push((cycle, *attempt));
        }
    }
    let crowd = crowd(&undone, &mut of, all);
    let mut candidates: Vec<(Node, Age)> = of
        .keys()
        .filter(|node| !matches!(node, Node::Process(..)))
        .map(|node| (*node, ages.get(node).copied().unwrap_or(Age::Hidden)))
        .collect();
    // The youngest first; among those that only this router knows, any order will do.
    candidates.sort_by(|(_, a), (_, b)| b.is_younger(*a).cmp(&a.is_younger(*b)));
    let mut ended = Vec::new();
    for (candidate, _) in candidates {
        // Such a cycle comes to some transaction at one process and leaves it at another.
        let arrives = |first: &Wait, last: &Wait| {
            (last.server, last.blocker_pid) != (first.server, first.pid)
        };
        let leaving = of[&candidate].iter().copied();
        if let Some(cycle) = leaving
            .clone()
            .find_map(|first| back_to(first, &of, arrives))
        {
            of.remove(&candidate);
            ended.push(cycle);
        }
    }
    Victims {
        undone,
        crowd,
        ended,
    }
}

/// Whether undoing the last statement of the blocker gives free what is waited for.
pub fn can_free(wait: &Wait, attempts: &BTreeMap<Node, Attempt>) -> bool {
    let attempt = attempts.get(&wait.blocker);
    attempt.is_some_and(|attempt| wait.held_since > attempt.began)
}

/// So often all of a cycle were undone when it is plain that this is of no use.
const OFTEN: u8 = 8;

/// Whether a cycle comes again however often somebody in it is undone: all are in transactions whose earlier statements hold
/// something of it, and were undone often. With each attempt another one of them waits for what the others keep.
fn is_lasting(cycle: &[&Wait], attempts: &BTreeMap<Node, Attempt>) -> bool {
    let is_undone_often = |wait: &&Wait| {
        let attempt = attempts.get(&wait.waiter);
        attempt.is_some_and(|attempt| attempt.is_part && attempt.undone >= OFTEN)
    };
    cycle.iter().all(is_undone_often) && !cycle.iter().all(|wait| can_free(wait, attempts))
}

/// Who has asked all its shards at once and waits, through others or not, for somebody in a cycle of such statements. Of many
/// that came at the same time each would be in the next cycle, one look after the other. With all but one of each cycle
/// undone, that one goes on, and the others come again in one order.
fn crowd<'w>(
    undone: &[(Cycle<'w>, Attempt)],
    of: &mut BTreeMap<Node, Vec<&'w Wait>>,
    attempts: &BTreeMap<Node, Attempt>,
) -> Vec<(&'w Wait, Attempt)> {
    let at_once = |node: &Node| attempts.get(node).filter(|attempt| attempt.at_once);
    let cycles = undone.iter().filter(|(_, attempt)| attempt.at_once);
    let mut met: BTreeSet<Node> = cycles
        .clone()
        .flat_map(|(c, _)| c.iter().map(|w| w.waiter))
        .collect();
    let kept: BTreeSet<Node> = cycles.map(|(cycle, _)| cycle[0].blocker).collect();
    let mut crowd = Vec::new();
    loop {
        let joins = |node: &Node, waits: &Vec<&'w Wait>| {
            let wait = waits.iter().find(|wait| met.contains(&wait.blocker))?;
            let attempt = at_once(node).filter(|_| !kept.contains(node))?;
            Some((*wait, *attempt))
        };
        let Some(found) = of.iter().find_map(|(node, waits)| joins(node, waits)) else {
            return crowd;
        };
        of.remove(&found.0.waiter);
        met.insert(found.0.waiter);
        crowd.push(found);
    }
}

/// The shortest way from a wait back to its waiter by a last wait that will do.
fn back_to<'w>(
    first: &'w Wait,
    of: &BTreeMap<Node, Vec<&'w Wait>>,
    will_do: impl Fn(&Wait, &Wait) -> bool,
) -> Option<Vec<&'w Wait>> {
    let mut came_by: BTreeMap<Node, &Wait> = BTreeMap::from([(first.blocker, first)]);
    let mut seen = BTreeSet::from([first.waiter, first.blocker]);
    let mut open = VecDeque::from([first.blocker]);
    while let Some(node) = open.pop_front() {
        for &wait in of.get(&node).into_iter().flatten() {
            if wait.blocker == first.waiter && will_do(first, wait) {
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

/// The detail of the error, in PostgreSQL's manner.
pub fn detail(cycle: &[&Wait], shards: &[String]) -> String {
    let name = |shard: ShardId| shards.get(shard.index()).map_or("?", String::as_str);
    let lines = cycle.iter().map(|wait| {
        let (shard, pid) = (name(wait.shard), wait.pid);
        match wait.blocker_pid {
            0 => format!("On shard {shard}, process {pid} waits for a prepared transaction."),
            other => format!("On shard {shard}, process {pid} waits for process {other}."),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::gid::TransactionId;
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom;
    use rand::{RngExt, SeedableRng};
    use std::time::Duration;

    fn wait(shard: u16, waiter: Node, blocker: Node) -> Wait {
        let shard = ShardId(shard);
        // One process for each shard.
        let pid = |node| match node {
            Node::Session(number) => number as i32,
            Node::Transaction(_) => 77,
            Node::Process(_, pid) => 100 + pid,
        };
        Wait {
            server: shard,
            shard,
            waiter,
            pid: pid(waiter),
            blocker,
            blocker_pid: pid(blocker),
            identity: String::new(),
            since: Instant::now(),
            held_since: Instant::now(),
        }
    }

    fn mark(number: u64) -> Mark {
        Mark::of(TransactionId(number.into()))
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
            let shards: BTreeSet<ShardId> = path.iter().map(|&p| waits[p].shard).collect();
            let closed = waits[n].blocker == start && shards.len() > 1;
            let found = closed || some_cycle_over_shards(waits, path);
            path.pop();
            found
        })
    }

    fn victims(waits: &[Wait], ages: &BTreeMap<Node, Age>) -> Vec<Node> {
        let cycles = deadlocks(waits, ages, &BTreeMap::new()).ended;
        cycles.iter().map(|cycle| cycle[0].waiter).collect()
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
            let node = |rng: &mut StdRng, shard: ShardId| match rng.random_range(0..4) {
                0 => Node::Process(shard, rng.random_range(0..2)),
                _ => Node::Session(rng.random_range(0..sessions)),
            };
            let waits: Vec<Wait> = (0..count)
                .map(|_| {
                    let shard = rng.random_range(0..3);
                    let of = ShardId(shard);
                    let (waiter, blocker) = (node(&mut rng, of), node(&mut rng, of));
                    wait(shard, waiter, blocker)
                })
                .filter(|wait| wait.waiter != wait.blocker)
                .collect();
            let expected = some_cycle_over_shards(&waits, &mut Vec::new());
            let ages = BTreeMap::new();
            let found = deadlocks(&waits, &ages, &BTreeMap::new()).ended;
            assert_eq!(!found.is_empty(), expected, "{waits:#?}");
            match expected {
                false => without += 1,
                true => with += 1,
            }
            for cycle in &found {
                let next = cycle.iter().skip(1).chain(cycle.first());
                assert!(cycle.iter().zip(next).all(|(a, b)| a.blocker == b.waiter));
                let waiters: BTreeSet<Node> = cycle.iter().map(|w| w.waiter).collect();
                assert_eq!(waiters.len(), cycle.len());
                let shards: BTreeSet<ShardId> = cycle.iter().map(|w| w.shard).collect();
                assert!(shards.len() > 1);
            }
            // With the victims gone nobody waits for himself, and none of them is one for nothing.
            let ended: Vec<Node> = found.iter().map(|cycle| cycle[0].waiter).collect();
            let left: Vec<Wait> = waits
                .iter()
                .filter(|wait| !ended.contains(&wait.waiter))
                .cloned()
                .collect();
            assert!(!some_cycle_over_shards(&left, &mut Vec::new()));
        }
        println!("with a cycle {with}, without {without}");
        assert!(with > 1000 && without > 1000);
    }

    #[test]
    fn two_routers_choose_the_same_victims() {
        let seed: u64 = rand::rng().random();
        println!("SEED={seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let mut with = 0;
        for _ in 0..20_000 {
            let count = rng.random_range(2..6);
            // Transactions with an even number are the first router's, the others the second's.
            let edges: Vec<(u16, u64, u64)> = (0..rng.random_range(2..12))
                .map(|_| {
                    let mut one = || rng.random_range(0..count);
                    (one() as u16 % 3, one(), one())
                })
                .filter(|(_, a, b)| a != b)
                .collect();
            let since: Vec<f64> = (0..count).map(|_| rng.random_range(0..4).into()).collect();
            let mut chosen = [0, 1].map(|router| {
                let node = |number: u64| match number % 2 == router {
                    true => Node::Session(number),
                    false => Node::Transaction(mark(number)),
                };
                let mut waits: Vec<Wait> = edges
                    .iter()
                    .map(|(shard, a, b)| wait(*shard, node(*a), node(*b)))
                    .collect();
                waits.shuffle(&mut rng);
                let ages = (0..count)
                    .map(|n| (node(n), Age::Since(since[n as usize], mark(n))))
                    .collect();
                let numbers = victims(&waits, &ages).into_iter().map(|node| match node {
                    Node::Session(number) => mark(number),
                    Node::Transaction(mark) => mark,
                    Node::Process(..) => panic!("a process is no victim"),
                });
                numbers.collect::<Vec<_>>()
            });
            chosen.iter_mut().for_each(|list| list.sort());
            assert_eq!(chosen[0], chosen[1], "{edges:?} {since:?}");
            with += usize::from(!chosen[0].is_empty());
        }
        println!("with a cycle {with}");
        assert!(with > 1000);
    }

    #[test]
    fn the_youngest_transaction_over_several_shards_is_the_victim() {
        let (a, b) = (Node::Session(1), Node::Transaction(mark(2)));
        let waits = [wait(0, a, b), wait(1, b, a)];
        let ages = |first: f64| {
            BTreeMap::from([
                (a, Age::Since(first, mark(1))),
                (b, Age::Since(4.0, mark(2))),
            ])
        };
        assert_eq!(victims(&waits, &ages(5.0)), [a]);
        assert_eq!(victims(&waits, &ages(3.0)), [b]);
        assert_eq!(victims(&waits, &ages(4.0)), [b]);
        // Nobody else could end what carries no mark.
        assert_eq!(victims(&waits, &BTreeMap::from([(b, ages(9.0)[&b])])), [a]);
        // What waits on one shard only is its server's.
        assert_eq!(victims(&[wait(0, a, b), wait(0, b, a)], &ages(5.0)), []);
    }

    #[test]
    fn who_can_undo_what_others_wait_for_gives_way() {
        let [before, began, after] = [0, 1, 2].map(|n| Instant::now() + Duration::from_secs(n));
        let (a, b) = (Node::Session(1), Node::Session(2));
        let since = |held_since, wait| Wait { held_since, ..wait };
        let found = |waits: &[Wait], attempts: &[(Node, u8, bool)]| {
            let attempts = attempts.iter().map(|&(node, undone, is_part)| {
                let attempt = Attempt {
                    number: 7,
                    began,
                    undone,
                    is_part,
                    at_once: false,
                };
                (node, attempt)
            });
            let found = deadlocks(waits, &BTreeMap::new(), &attempts.collect());
            let undone = found.undone.iter().map(|(cycle, _)| cycle[0].waiter);
            (undone.collect::<Vec<_>>(), found.ended.len())
        };
        let both = [since(after, wait(0, a, b)), since(after, wait(1, b, a))];
        assert_eq!(found(&both, &[]), (vec![], 1));
        assert_eq!(found(&both, &[(b, 4, true)]), (vec![b], 0));
        // Of two, the one that was undone less often, and rather a whole transaction.
        let of_two = |a_is, b_is| found(&both, &[a_is, b_is]).0[0];
        assert_eq!(of_two((a, 0, true), (b, 1, false)), a);
        assert_eq!(of_two((a, 1, true), (b, 1, false)), b);
        assert_eq!(of_two((a, 2, false), (b, 1, false)), b);
        // A cycle that a server would see in its time.
        let seen = [since(after, wait(0, a, b)), since(after, wait(0, b, a))];
        assert_eq!(found(&seen, &[]), (vec![], 0));
        assert_eq!(found(&seen, &[(a, 0, false)]), (vec![a], 0));
        // What b waits for, a had before it began what it could undo.
        let earlier = [since(after, wait(0, a, b)), since(before, wait(1, b, a))];
        assert_eq!(found(&earlier, &[(a, 0, false)]), (vec![], 1));
        assert_eq!(
            found(&earlier, &[(a, 0, false), (b, 4, true)]),
            (vec![b], 0)
        );
        // To undo it once more is of no use where the other one was undone as often.
        let often = |a_undone| found(&earlier, &[(a, a_undone, true), (b, 8, true)]);
        assert_eq!(often(7), (vec![b], 0));
        assert_eq!(often(8), (vec![], 1));
        assert_eq!(found(&both, &[(a, 8, true), (b, 8, true)]), (vec![a], 0));
    }

    #[test]
    fn of_many_that_ask_all_shards_at_once_one_goes_on() {
        let began = Instant::now();
        let nodes = [1, 2, 3, 4, 5].map(Node::Session);
        let [a, b, c, d, alone] = nodes;
        let attempts = |at_once: bool| {
            let attempt = Attempt {
                number: 7,
                began,
                undone: 0,
                is_part: false,
                at_once,
            };
            BTreeMap::from(nodes.map(|node| (node, attempt)))
        };
        let later = began + Duration::from_secs(1);
        let wait = |shard, waiter, blocker| Wait {
            held_since: later,
            ..wait(shard, waiter, blocker)
        };
        let elsewhere = Node::Session(6);
        let waits = [
            wait(0, a, b),
            wait(1, b, a),
            wait(0, c, b),
            wait(1, d, c),
            wait(2, alone, elsewhere),
        ];
        let of = |at_once| {
            let found = deadlocks(&waits, &BTreeMap::new(), &attempts(at_once));
            let undone = found.undone.iter().map(|(cycle, _)| cycle[0].waiter);
            let crowd = found.crowd.iter().map(|(wait, _)| wait.waiter);
            (undone.collect::<Vec<_>>(), crowd.collect::<Vec<_>>())
        };
        assert_eq!(of(true), (vec![a], vec![c, d]));
        assert_eq!(of(false), (vec![a], vec![]));
    }

    #[test]
    fn the_detail_names_processes_and_what_is_prepared() {
        let (a, b) = (Node::Session(1), Node::Session(2));
        let prepared = Wait {
            pid: 3,
            blocker_pid: 0,
            ..wait(1, b, a)
        };
        let first = wait(0, a, b);
        assert_eq!(
            detail(&[&first, &prepared], &["s1".into(), "s2".into()]),
            "On shard s1, process 1 waits for process 2.\n\
             On shard s2, process 3 waits for a prepared transaction."
        );
    }
}
