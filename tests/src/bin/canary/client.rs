//! One client: opens sessions, lets them do one thing after the other, ends each in one of the ways there are.

use crate::session::{Fault, Session};
use crate::world::World;
use crate::{ask, cut, keep};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// What a session may do, and how often among a thousand.
const ACTS: [(&str, u32); 16] = [
    ("simple", 180),
    ("extended", 130),
    ("prepared", 180),
    ("pipeline", 150),
    ("rows", 90),
    ("transaction", 50),
    ("copy", 30),
    ("settings", 60),
    ("spoken", 60),
    ("cursor", 25),
    ("large", 5),
    ("elsewhere", 14),
    ("prepared by SQL", 10),
    ("racer", 8),
    ("stray", 4),
    ("holder", 4),
];

/// Does what clients do until the end.
pub async fn run(number: usize, seed: u64, world: Arc<World>) {
    let mut rng = StdRng::seed_from_u64(seed ^ ((number as u64 + 1) << 32));
    let mut stale = None;
    // Clients come one after the other, as many as a second brings.
    sleep(Duration::from_millis(rng.random_range(0..3000))).await;
    while !world.ended() {
        let mut doing = "login";
        let life = live(&world, &mut rng, &mut stale, &mut doing);
        if let Err(fault) = life.await {
            world.fault(number, doing, &fault);
        }
    }
}

async fn live(
    world: &World,
    rng: &mut StdRng,
    stale: &mut Option<(u32, Vec<u8>)>,
    doing: &mut &'static str,
) -> Result<(), Fault> {
    if rng.random_ratio(1, 10) {
        cut::cut_login(world, rng).await?;
        world.count("cut at login");
    }
    let tls = rng.random_ratio(1, 4);
    let mut session = Session::open(world, tls).await?;
    world.count(if tls {
        "login by TLS and SCRAM"
    } else {
        "login"
    });
    for _ in 0..rng.random_range(5..60) {
        if world.ended() {
            break;
        }
        let act = choose(rng);
        *doing = act;
        perform(act, &mut session, world, rng, stale).await?;
        world.count(act);
    }
    *stale = Some(session.key.clone());
    *doing = "the end";
    match rng.random_ratio(2, 3) {
        true => {
            world.count("cut");
            cut::cut(session, rng).await;
            Ok(())
        }
        false => session.leave().await,
    }
}

fn choose(rng: &mut StdRng) -> &'static str {
    let mut at = rng.random_range(0..ACTS.iter().map(|(_, weight)| weight).sum());
    let hit = ACTS.iter().find(|(_, weight)| {
        let hit = at < *weight;
        at = at.saturating_sub(*weight);
        hit
    });
    hit.expect("below the sum of the weights").0
}

async fn perform(
    act: &str,
    s: &mut Session,
    world: &World,
    rng: &mut StdRng,
    stale: &Option<(u32, Vec<u8>)>,
) -> Result<(), Fault> {
    match act {
        "simple" => ask::simple(s, rng).await,
        "extended" => ask::extended(s, rng).await,
        "prepared" => ask::prepared(s, rng).await,
        "prepared by SQL" => ask::prepared_by_sql(s).await,
        "pipeline" => ask::pipeline(s, rng).await,
        "spoken" => ask::spoken(s, rng).await,
        "large" => ask::large(s, rng).await,
        "cursor" => ask::cursor(s).await,
        "rows" => keep::rows(s, rng).await,
        "transaction" => keep::transaction(s, rng).await,
        "copy" => keep::copy(s, rng).await,
        "elsewhere" => keep::elsewhere(s, rng).await,
        "settings" => keep::settings(s, rng).await,
        "racer" => cut::racer(s, world, rng).await,
        "stray" => cut::stray(s, world, stale).await,
        _ => hold(s, world, rng).await,
    }
}

/// What keeps a server connection for itself: only so many at a time.
async fn hold(s: &mut Session, world: &World, rng: &mut StdRng) -> Result<(), Fault> {
    let Ok(_permit) = world.holders.try_acquire() else {
        return Ok(());
    };
    match rng.random_range(0..3) {
        0 => {
            world.count("held: sleeper");
            cut::sleeper(s, world, rng).await
        }
        1 => {
            world.count("held: temporary");
            keep::temporary(s, rng).await
        }
        _ => {
            world.count("held: notify");
            keep::notify(s).await
        }
    }
}
