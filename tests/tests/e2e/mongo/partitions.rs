//! Members that are alive and that nobody reaches: what is sent to them is neither answered nor refused.

use super::stage::{Documents, served};
use crate::shards::stage::{LIMIT, one, say};
use mothership_tests::mongo::ReplicaSet;
use mothership_tests::{Wire, poll_until};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

/// A server is down after two questions that were not answered, which are 200 ms apart.
const DOWN_AFTER: Duration = Duration::from_millis(2 * (200 + 500));
/// Who waits for one that is down is told that it is lost after so long.
const SILENCE: Duration = Duration::from_secs(1);
/// For looks at the clock in between, and for a machine with other work.
const SLACK: Duration = Duration::from_secs(4);
/// An election begins again after a second without votes: beside other work it takes a few.
const ELECTED: Duration = LIMIT.saturating_mul(6);
/// How far behind a member may be that serves reads, where that is asked for.
const MAX_LAG: Duration = Duration::from_secs(2);

fn watched(freshness: &str) -> String {
    format!(
        "[balance]\nreads = \"prefer-replicas\"\nprobe_interval = \"200ms\"\nprobe_timeout = \"500ms\"\n\
         down_after = 2\n{freshness}[failover]\nsilence = \"1s\"\nwindow = \"{}s\"\n",
        ELECTED.as_secs()
    )
}

/// What one row was set to, and when that was acknowledged.
#[derive(Default)]
struct Written(Mutex<Vec<Instant>>);

impl Written {
    fn acknowledge(&self) {
        self.0.lock().unwrap().push(Instant::now());
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// How old what was read was when it was asked for: the next value was acknowledged so long before.
    fn age(&self, count: usize, asked: Instant) -> Duration {
        let written = self.0.lock().unwrap();
        let next = written.get(count);
        next.map_or(Duration::ZERO, |next| {
            asked.saturating_duration_since(*next)
        })
    }
}

/// What the readers have seen.
#[derive(Debug, Default)]
struct Seen {
    reads: usize,
    longest: Duration,
    oldest: Duration,
    errors: Vec<String>,
}

/// Reads the row until it is told to stop.
fn read(mut wire: Wire, written: &Written, stop: &AtomicBool) -> Seen {
    wire.set_limit(ELECTED + LIMIT);
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let answer = say(&mut wire, "SELECT count FROM events WHERE id = 1");
        seen.longest = seen.longest.max(asked.elapsed());
        seen.reads += 1;
        let row = answer.iter().find_map(|line| line.strip_prefix("DataRow "));
        match row.and_then(|row| row.parse().ok()) {
            Some(count) => seen.oldest = seen.oldest.max(written.age(count, asked)),
            None => seen.errors.push(answer.concat()),
        }
    }
    seen
}

/// Sets the row to one more after the other; the answers that it did not expect.
fn write(mut wire: Wire, written: &Written, stop: &AtomicBool) -> Vec<String> {
    wire.set_limit(ELECTED + LIMIT);
    let mut odd = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let next = written.count() + 1;
        let sql = format!("UPDATE events SET count = {next} WHERE id = 1");
        match say(&mut wire, &sql).swap_remove(0) {
            done if done == "CommandComplete UPDATE 1" => written.acknowledge(),
            other => odd.push(other),
        }
    }
    odd
}

/// Ends the threads of a scope whatever becomes of the test, which would wait for them.
struct Stops<'s>(&'s AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn ended(readers: Vec<ScopedJoinHandle<'_, Seen>>) -> Vec<Seen> {
    let ended = readers.into_iter().map(|reader| reader.join().unwrap());
    ended.collect()
}

/// A secondary is cut off while clients read and write, and comes back. `oldest` is how old may be what they read.
fn without_a_secondary(set: &Arc<ReplicaSet>, freshness: &str, oldest: Duration) {
    let set = Some(Arc::clone(set));
    let documents = Documents::on(set, 1, &watched(freshness)).unwrap();
    let mut wire = documents.stage.wire();
    say(&mut wire, "INSERT INTO events (id, count) VALUES (1, 0)");
    let primary = documents.set.primary();
    let secondary = (0..3).find(|member| *member != primary).unwrap();
    let (written, stop) = (Written::default(), AtomicBool::new(false));
    let (odd, seen) = std::thread::scope(|scope| {
        let stops = Stops(&stop);
        let begin = || scope.spawn(|| read(documents.stage.wire(), &written, &stop));
        let readers: Vec<_> = (0..4).map(|_| begin()).collect();
        let writer = scope.spawn(|| write(documents.stage.wire(), &written, &stop));
        let goes_on = |what: &str| {
            let before = written.count();
            // A member that followed the one that is cut off looks for another one first.
            let goes_on = poll_until(LIMIT * 3, || written.count() > before + 50);
            assert!(goes_on, "{what}: no writes");
        };
        goes_on("before");
        documents.set.cut_off(secondary);
        // Longer than it takes to notice, and than it may lag.
        let begun = Instant::now();
        let over = DOWN_AFTER + SILENCE + MAX_LAG + Duration::from_secs(1);
        while begun.elapsed() < over {
            goes_on("cut off");
        }
        let alone = served(&documents, secondary);
        goes_on("still cut off");
        assert_eq!(served(&documents, secondary), alone, "it serves");
        documents.set.heal();
        goes_on("healed");
        drop(stops);
        (writer.join().unwrap(), ended(readers))
    });
    assert_eq!(odd, [""; 0]);
    for seen in seen {
        eprintln!("{freshness:?} {seen:?}");
        assert!(seen.reads > 0 && seen.errors.is_empty(), "{seen:?}");
        assert!(seen.longest < DOWN_AFTER + SILENCE + SLACK, "{seen:?}");
        assert!(seen.oldest <= oldest, "{seen:?}");
    }
    let before = served(&documents, secondary);
    let last = written.count().to_string();
    let serves = poll_until(LIMIT * 3, || {
        assert_eq!(
            one(&mut wire, "SELECT count FROM events WHERE id = 1"),
            last
        );
        served(&documents, secondary) > before
    });
    assert!(serves, "it does not serve again");
}

#[test]
#[ignore = "long"]
fn reads_go_on_while_a_secondary_is_cut_off_and_none_is_older_than_declared() {
    let Some(set) = ReplicaSet::start_apart("apart", 3).map(Arc::new) else {
        return;
    };
    without_a_secondary(&set, "", Duration::ZERO);
    set.wait_whole();
    let bounded = format!(
        "freshness = \"bounded\"\nmax_lag = \"{}s\"\n",
        MAX_LAG.as_secs()
    );
    without_a_secondary(&set, &bounded, MAX_LAG);
}

#[test]
#[ignore = "long"]
fn a_primary_that_is_cut_off_is_replaced_and_nothing_acknowledged_is_lost() {
    let set = ReplicaSet::start_apart("beheaded", 3).map(Arc::new);
    let Some(documents) = Documents::on(set, 1, &watched("")) else {
        return;
    };
    let mut wire = documents.stage.wire();
    wire.set_limit(ELECTED + LIMIT);
    say(&mut wire, "INSERT INTO events (id, count) VALUES (1, 0)");
    let old = documents.set.primary();
    let (written, stop) = (Written::default(), AtomicBool::new(false));
    let mut told = Vec::new();
    let mut done = Vec::new();
    let (odd, seen) = std::thread::scope(|scope| {
        let stops = Stops(&stop);
        let begin = || scope.spawn(|| read(documents.stage.wire(), &written, &stop));
        let readers: Vec<_> = (0..2).map(|_| begin()).collect();
        let writer = scope.spawn(|| write(documents.stage.wire(), &written, &stop));
        assert!(poll_until(LIMIT, || written.count() > 20), "no writes");
        documents.set.cut_off(old);
        let mut id = 2;
        let served = poll_until(ELECTED, || {
            let sql = format!("INSERT INTO events (id) VALUES ({id})");
            let answer = say(&mut wire, &sql).swap_remove(0);
            let is_done = answer == "CommandComplete INSERT 0 1";
            match is_done {
                true => done.push(id.to_string()),
                false => told.push(answer),
            }
            id += 1;
            is_done
        });
        assert!(served, "{told:?}");
        let before = written.count();
        let goes_on = poll_until(ELECTED, || written.count() > before + 20);
        assert!(goes_on, "no writes with a new primary");
        documents.set.heal();
        let before = written.count();
        let goes_on = poll_until(ELECTED, || written.count() > before + 20);
        assert!(goes_on, "no writes after it is healed");
        drop(stops);
        (writer.join().unwrap(), ended(readers))
    });
    eprintln!("{told:?} {odd:?} {seen:?}");
    // Of a write that had gone out nobody knows what becomes of it; nothing else is told.
    let is_known = |answer: &String| answer.starts_with("Error 08007");
    assert!(told.iter().chain(&odd).all(is_known), "{told:?} {odd:?}");
    for seen in seen {
        assert!(seen.reads > 0 && seen.errors.is_empty(), "{seen:?}");
        assert_eq!(seen.oldest, Duration::ZERO, "{seen:?}");
    }
    documents.set.wait_whole();
    assert_ne!(documents.set.primary(), old, "it was not replaced");
    let ids: Vec<String> = wire.rows("SELECT id FROM events").concat();
    assert!(done.iter().all(|id| ids.contains(id)), "{done:?} {ids:?}");
    let last: usize = one(&mut wire, "SELECT count FROM events WHERE id = 1")
        .parse()
        .unwrap();
    assert!(last >= written.count(), "{last} of {}", written.count());
    let before = served(&documents, old);
    let serves = poll_until(LIMIT * 3, || {
        one(&mut wire, "SELECT count FROM events WHERE id = 1");
        served(&documents, old) > before
    });
    assert!(serves, "the old primary does not serve reads");
}
