//! Who waits for a connection of a pool, and whether all who could give one back wait in the end for each other.
//!
//! Pure. One who waits for a lock goes on when all in his way have gone; one who waits for
//! a connection, when any of those who hold one has. So what never ends is the largest
//! set in which everybody waits for a lock of somebody in it, or for a pool whose
//! connections are all held in it.

use super::graph::{Node, Wait};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// A session waits for a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Queued {
    /// Who.
    pub waiter: Node,
    /// Who holds connections of that pool.
    pub holders: Vec<Node>,
    /// How many there may be.
    pub most: usize,
    /// Since when; those who came last have least to lose.
    pub since: Instant,
}

/// Who is to be told, so that nobody waits for ever: the last one who came to a pool, and again, until nobody is left.
pub fn victims(waits: &[Wait], queued: &[Queued]) -> Vec<Node> {
    let mut queued: Vec<&Queued> = queued.iter().collect();
    let mut victims = Vec::new();
    loop {
        let stuck = stuck(waits, &queued, &victims);
        let mine = queued.iter().filter(|one| stuck.contains(&one.waiter));
        let Some(last) = mine.max_by_key(|one| one.since) else {
            return victims;
        };
        let victim = last.waiter;
        victims.push(victim);
        queued.retain(|one| one.waiter != victim);
    }
}

/// Everybody who never goes on; the victims do.
fn stuck(waits: &[Wait], queued: &[&Queued], victims: &[Node]) -> BTreeSet<Node> {
    let mut locks: BTreeMap<Node, Vec<Node>> = BTreeMap::new();
    for wait in waits.iter().filter(|wait| !victims.contains(&wait.waiter)) {
        locks.entry(wait.waiter).or_default().push(wait.blocker);
    }
    let mut stuck: BTreeSet<Node> = locks.keys().copied().collect();
    stuck.extend(queued.iter().map(|one| one.waiter));
    loop {
        let held_up = |node: &Node| {
            let lock = locks
                .get(node)
                .is_some_and(|by| by.iter().any(|by| stuck.contains(by)));
            let mut pools = queued.iter().filter(|one| one.waiter == *node);
            let pool = pools.any(|one| {
                // A connection that nobody here holds may be given to him.
                one.holders.len() >= one.most
                    && one.holders.iter().all(|holder| stuck.contains(holder))
            });
            lock || pool
        };
        let left: BTreeSet<Node> = stuck.iter().filter(|node| held_up(node)).copied().collect();
        if left.len() == stuck.len() {
            return stuck;
        }
        stuck = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mothership_shardmap::ShardId;

    const A: Node = Node::Session(1);
    const B: Node = Node::Session(2);
    const C: Node = Node::Session(3);

    fn queued(waiter: Node, holders: &[Node], most: usize, second: u64) -> Queued {
        static BEGIN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        let since = *BEGIN + std::time::Duration::from_secs(second);
        Queued {
            waiter,
            holders: holders.to_vec(),
            most,
            since,
        }
    }

    fn lock(waiter: Node, blocker: Node) -> Wait {
        Wait {
            server: ShardId(0),
            shard: ShardId(0),
            waiter,
            pid: 1,
            blocker,
            blocker_pid: 2,
            identity: String::new(),
            since: Instant::now(),
            held_since: Instant::now(),
        }
    }

    #[test]
    fn a_pool_holds_up_only_who_waits_while_all_its_holders_do() {
        let both = [queued(A, &[B], 1, 1), queued(B, &[A], 1, 2)];
        assert_eq!(victims(&[], &both), [B]);
        // Another connection is free, or C will give his back.
        assert_eq!(victims(&[], &[queued(A, &[B], 2, 1), both[1].clone()]), []);
        let with_c = [queued(A, &[B, C], 2, 1), both[1].clone()];
        assert_eq!(victims(&[], &with_c), []);
        assert_eq!(victims(&[lock(C, A)], &with_c), [B]);
    }

    #[test]
    fn a_lock_and_a_pool_make_a_cycle_too() {
        let pool = [queued(A, &[B], 1, 1)];
        assert_eq!(victims(&[lock(B, A)], &pool), [A]);
        assert_eq!(victims(&[lock(B, C)], &pool), []);
        // Two knots lose one each.
        let two = [queued(A, &[B], 1, 1), queued(C, &[Node::Session(4)], 1, 2)];
        let locks = [lock(B, A), lock(Node::Session(4), C)];
        assert_eq!(victims(&locks, &two), [C, A]);
    }
}
