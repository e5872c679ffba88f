//! A thousand clients that come in the same moment.

use crate::ask::{read, say};
use crate::world::{SOON, World};
use mothership_tests::message::{self, V3_0};
use mothership_tests::proof::Verdict;
use mothership_tests::{Wire, bank};
use std::time::{Duration, Instant};

const CROWD: usize = 1000;
/// Who read their answers, each those of its part of the crowd.
const READERS: usize = 8;
/// The longest time in which nobody gets in.
const STALL: Duration = Duration::from_secs(1);

/// 35: all are let in and served.
pub fn at_once(world: &mut World<'_>, verdict: &mut Verdict) {
    let key = world.key(0);
    let own = [("user", bank::ROLE), ("database", &*world.database)];
    let startup = message::startup(V3_0, &own);
    let begun = Instant::now();
    let mut crowd: Vec<Wire> = (0..CROWD)
        .map(|_| {
            let mut wire = Wire::connect(world.router.port());
            wire.set_limit(SOON * 2);
            wire.send(&startup);
            wire
        })
        .collect();
    let sql = format!("SELECT id FROM accounts WHERE id = {key}");
    let (mut moments, mut served) = (vec![begun], 0);
    std::thread::scope(|scope| {
        let parts = crowd.chunks_mut(CROWD / READERS);
        let readers = parts.map(|part| {
            let sql = &sql;
            scope.spawn(move || {
                let let_in =
                    |wire: &mut Wire| (read(wire).last() == "ReadyForQuery I").then(Instant::now);
                let moments: Vec<_> = part.iter_mut().filter_map(let_in).collect();
                let right = |wire: &mut Wire| say(wire, sql).rows() == [key.to_string()];
                let served = part.iter_mut().map(right).filter(|right| *right).count();
                (moments, served)
            })
        });
        for reader in readers.collect::<Vec<_>>() {
            let (some, count) = reader.join().unwrap();
            moments.extend(some);
            served += count;
        }
    });
    moments.sort();
    let gaps = moments.windows(2).map(|pair| pair[1] - pair[0]);
    let longest = gaps.max().unwrap_or_default();
    let took = moments[moments.len() - 1] - begun;
    let let_in = moments.len() - 1;
    verdict.claim(
        let_in == CROWD,
        "all are let in",
        format!("{let_in} after {took:.1?}"),
    );
    let claim = "at no time does nobody get in";
    verdict.claim(longest <= STALL, claim, format!("{longest:.0?} at most"));
    verdict.claim(served == CROWD, "and all are served", served);
    world.claim_served(verdict);
}
