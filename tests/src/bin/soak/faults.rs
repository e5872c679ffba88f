//! What goes wrong, and how it ends: when a fault returns, all that belongs together is there again.

use crate::world::{SHARDS, World};
use mothership_tests::proof;
use mothership_tests::proxy::{End, Travel};
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Wire, poll_until};
use rand::RngExt;
use rand::rngs::StdRng;
use std::time::Duration;

/// How long servers and routers may take to come, and to go.
const SOON: Duration = Duration::from_secs(60);

/// One kind of fault.
#[derive(Clone, Copy)]
pub struct Kind {
    /// What it is called.
    pub name: &'static str,
    /// Lets it happen, and says where.
    act: fn(&mut World, &mut StdRng) -> String,
}

impl Kind {
    /// Lets it happen, and says where.
    pub fn strike(&self, world: &mut World, rng: &mut StdRng) -> String {
        (self.act)(world, rng)
    }
}

const fn kind(name: &'static str, act: fn(&mut World, &mut StdRng) -> String) -> Kind {
    Kind { name, act }
}

/// All of them.
pub const KINDS: &[Kind] = &[
    kind("primary killed, standby promoted", promotion),
    kind("switchover", switchover),
    kind("primary killed and started again", restart),
    kind("backend killed", backend_killed),
    kind("backends terminated", terminated),
    kind("standby killed and started again", standby_killed),
    kind("primary frozen", frozen),
    kind("connections reset", |world, rng| {
        cut(world, rng, End::Reset)
    }),
    kind("connections closed", |world, rng| {
        cut(world, rng, End::Finish)
    }),
    kind("slow network", slow),
    kind("silent network", silent),
    kind("router killed", router_killed),
    kind("router drained", router_drained),
    kind("router frozen", router_frozen),
    kind("router reloaded", reloaded),
];

/// A shard, and the way to its primary is broken by some.
fn shard(rng: &mut StdRng) -> usize {
    rng.random_range(0..SHARDS)
}

/// For as long as this a fault lasts that has to end by itself.
fn last(rng: &mut StdRng, most: u64) {
    std::thread::sleep(Duration::from_millis(rng.random_range(200..most)));
}

fn promotion(world: &mut World, rng: &mut StdRng) -> String {
    let at = shard(rng);
    let shard = &mut world.fleet.shards[at];
    shard.primary.kill9();
    let old = shard.succeed();
    // The old one is back while clients work with the new one.
    shard.rejoin(old);
    shard.wait_replayed();
    format!("s{}", at + 1)
}

fn switchover(world: &mut World, rng: &mut StdRng) -> String {
    let at = shard(rng);
    let router = rng.random_range(0..world.routers.len());
    let shard = &world.fleet.shards[at];
    let candidate = rng.random_range(0..shard.replicas.len());
    // Otherwise it might come to have more than the candidate.
    shard.gather_behind(candidate);
    let way = world.way(at, shard.replicas[candidate].port()).port();
    let command = format!("SWITCHOVER s{} '127.0.0.1:{way}'", at + 1);
    // A standby is fit when it follows; routers may have seen the last fault just now.
    let mut said = String::new();
    let done = poll_until(SOON, || {
        said = order(world, router, &command);
        said.is_empty()
    });
    let shard = &mut world.fleet.shards[at];
    if shard.promoted() != Some(candidate) {
        shard.gather();
        return format!("s{}: {said}", at + 1);
    }
    assert!(done, "SWITCHOVER: {said}");
    shard.crown(candidate);
    shard.rejoin(candidate);
    shard.wait_replayed();
    format!("s{} by router {router}", at + 1)
}

/// A command of the console; empty if it was done, else its error.
fn order(world: &World, router: usize, command: &str) -> String {
    let endpoint = world.routers[router].endpoint(USER, PASSWORD, "mothership");
    let mut console = Wire::login(&endpoint);
    console.set_limit(SOON);
    let frames = console.query(command);
    let error = frames.iter().find(|frame| frame.kind == b'E');
    error.map(ToString::to_string).unwrap_or_default()
}

fn restart(world: &mut World, rng: &mut StdRng) -> String {
    let at = shard(rng);
    let primary = &mut world.fleet.shards[at].primary;
    primary.kill9();
    primary.start().unwrap();
    world.fleet.shards[at].wait_replayed();
    format!("s{}", at + 1)
}

/// A process of a server ends with SIGKILL: the server restarts by itself.
fn backend_killed(world: &mut World, rng: &mut StdRng) -> String {
    let at = shard(rng);
    let primary = &mut world.fleet.shards[at].primary;
    let pids = "SELECT pid FROM pg_stat_activity WHERE usename = 'bank' LIMIT 1";
    let mut pid = String::new();
    poll_until(SOON, || {
        pid = primary.sql("postgres", pids).unwrap_or_default();
        !pid.is_empty()
    });
    // SAFETY: the process is a backend of a server that this program has started.
    unsafe { libc::kill(pid.parse().unwrap(), libc::SIGKILL) };
    primary.wait_ready(SOON).unwrap();
    format!("s{}", at + 1)
}

fn terminated(world: &mut World, rng: &mut StdRng) -> String {
    let at = shard(rng);
    let end =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'bank'";
    let count = world.fleet.shards[at].primary.sql("postgres", end).unwrap();
    format!("{count} on s{}", at + 1)
}

fn standby_killed(world: &mut World, rng: &mut StdRng) -> String {
    let at = shard(rng);
    let shard = &mut world.fleet.shards[at];
    let which = rng.random_range(0..shard.replicas.len());
    shard.replicas[which].kill9();
    last(rng, 3_000);
    shard.replicas[which].start().unwrap();
    shard.wait_replayed();
    format!("s{}", at + 1)
}

fn frozen(world: &mut World, rng: &mut StdRng) -> String {
    let at = shard(rng);
    let primary = &mut world.fleet.shards[at].primary;
    primary.pause().unwrap();
    last(rng, 4_000);
    primary.resume().unwrap();
    format!("s{}", at + 1)
}

fn cut(world: &mut World, rng: &mut StdRng, end: End) -> String {
    let which = rng.random_range(0..world.ways.len());
    world.ways[which].cut(end);
    format!("way {which}")
}

fn slow(world: &mut World, rng: &mut StdRng) -> String {
    let at = shard(rng);
    let way = world.way(at, world.fleet.shards[at].primary.port());
    way.travel_both(Travel {
        latency: Duration::from_millis(rng.random_range(5..60)),
        jitter: Duration::from_millis(20),
        slice: Some(rng.random_range(1..200)),
        ..Travel::default()
    });
    last(rng, 3_000);
    way.heal();
    format!("s{}", at + 1)
}

fn silent(world: &mut World, rng: &mut StdRng) -> String {
    let at = shard(rng);
    let way = world.way(at, world.fleet.shards[at].primary.port());
    way.blackhole();
    last(rng, 8_000);
    way.heal();
    format!("s{}", at + 1)
}

fn router(world: &World, rng: &mut StdRng) -> usize {
    rng.random_range(0..world.routers.len())
}

fn router_killed(world: &mut World, rng: &mut StdRng) -> String {
    let which = router(world, rng);
    world.routers[which].kill9();
    world.routers[which].start_again();
    format!("router {which}")
}

fn router_drained(world: &mut World, rng: &mut StdRng) -> String {
    let which = router(world, rng);
    world.routers[which].sigterm();
    world.routers[which].wait(SOON);
    world.routers[which].start_again();
    format!("router {which}")
}

fn router_frozen(world: &mut World, rng: &mut StdRng) -> String {
    let which = router(world, rng);
    world.routers[which].sigstop();
    last(rng, 4_000);
    world.routers[which].sigcont();
    format!("router {which}")
}

fn reloaded(world: &mut World, rng: &mut StdRng) -> String {
    let which = router(world, rng);
    world.routers[which].sighup();
    let shown = proof::console(&world.routers[which], "SHOW ENDPOINTS");
    format!("router {which}, {} servers", shown.len())
}
