//! Gathers from all cores what the page for Prometheus shows.

use crate::console::view::{self, ClientView, PoolView};
use crate::core::Shared;
use crate::metrics::latency::{Place, Spans};
use crate::metrics::page::Page;
use crate::metrics::{OTHER, Snapshot, names};
use crate::pressure::most_descriptors;
use crate::topology::Topology;
use mothership_pool::health::{BreakerState, State};
use mothership_shardmap::ShardId;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

/// The whole page as text.
pub async fn scrape(shared: &Shared) -> String {
    let answers = shared
        .ask(|core| {
            (
                core.metrics.snapshot(),
                view::clients(core),
                view::pools(core),
            )
        })
        .await;
    let cores = answers.len();
    let mut all = Snapshot::default();
    let (mut clients, mut pools) = (Vec::new(), Vec::new());
    for (snapshot, of_clients, of_pools) in answers {
        all.add(snapshot);
        clients.extend(of_clients);
        pools.extend(of_pools);
    }
    let topology = shared.topology();
    let mut page = Page::new(topology.config.limits.metric_labels.get() as usize);
    page.add(&names::CORES, &[], cores as f64);
    put_process(&mut page, shared);
    clients
        .iter()
        .for_each(|client| put_client(&mut page, client));
    put_traffic(&mut page, &all);
    pools
        .iter()
        .for_each(|pool| put_pool(&mut page, &topology, pool));
    put_servers(&mut page, &topology);
    put_in_doubt(&mut page, &topology, shared);
    for (rule, count) in topology.rules.rules().zip(topology.rules.counts()) {
        page.add(&names::RULE_MATCHES, &[rule.name.as_str()], count as f64);
    }
    for (rule, used) in topology.rules.rules().zip(topology.rules.used()) {
        let labels = [rule.name.as_str()];
        if !rule.caps.are_none() {
            page.add(&names::RULE_REFUSED, &labels, used.refused as f64);
            page.add(&names::RULE_RUNNING, &labels, f64::from(used.running));
            page.add(&names::RULE_WAITING, &labels, f64::from(used.waiting));
        }
    }
    for (key, spans) in &all.latencies {
        let shard = match key.place {
            Place::Router => "none",
            Place::Several => "several",
            // A reload may have taken the shard away.
            Place::Shard(at) => topology
                .shards
                .get(ShardId(at))
                .map_or(OTHER, |shard| &shard.name),
        };
        put_spans(&mut page, &[shard, key.role.word(), key.kind.word()], spans);
    }
    page.text()
}

fn put_process(page: &mut Page, shared: &Shared) {
    page.add(&names::INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
    if let Ok(since) = shared.started.duration_since(UNIX_EPOCH) {
        page.add(&names::START_TIME, &[], since.as_secs_f64());
    }
    let logins = shared.logins.load(Ordering::Relaxed);
    page.add(&names::LOGINS_UNDER_WAY, &[], f64::from(logins));
    let (_, limit) = shared.pressure.memory();
    page.add(&names::MEMORY_LIMIT, &[], limit as f64);
    let level = shared.pressure.level() as u8;
    page.add(&names::MEMORY_LEVEL, &[], f64::from(level));
    page.add(&names::QUEUED, &[], f64::from(shared.lines.waiting()));
    let (held, bytes) = shared.held.now();
    page.add(&names::HELD, &[], held as f64);
    page.add(&names::HELD_BYTES, &[], bytes as f64);
    let before = shared.other_process.old_process_clients();
    page.add(&names::PREDECESSOR, &[], f64::from(before));
    let shed = shared.shed_clients.load(Ordering::Relaxed);
    page.add(&names::SHED_CLIENTS, &[], shed as f64);
    let consoles = shared.consoles.load(Ordering::Relaxed);
    page.add(&names::CONSOLES, &[], f64::from(consoles));
    if let Some(seconds) = cpu_seconds() {
        page.add(&names::CPU, &[], seconds);
    }
    if let Some(bytes) = resident_bytes() {
        page.add(&names::MEMORY, &[], bytes as f64);
    }
    if let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") {
        page.add(&names::DESCRIPTORS, &[], descriptors.count() as f64);
    }
    page.add(&names::DESCRIPTORS_MAX, &[], most_descriptors() as f64);
}

fn put_client(page: &mut Page, client: &ClientView) {
    let who = &client.who;
    if who.is_console {
        return;
    }
    let labels = [&*who.names.database, &*who.names.user, client.state.word()];
    page.add(&names::CLIENTS, &labels, 1.0);
    let reasons = client.pins.iter().flat_map(|(pins, _)| pins.reasons());
    for reason in reasons {
        page.add(
            &names::PINNED,
            &[&who.names.database, &who.names.user, reason],
            1.0,
        );
    }
}

fn put_traffic(page: &mut Page, all: &Snapshot) {
    let seconds = |micros: u64| micros as f64 / 1e6;
    for (owner, traffic) in &all.traffic {
        let labels = [&*owner.database, &*owner.user];
        let t = &traffic.now;
        for (family, number) in [
            (&names::TRANSACTIONS, t.transactions as f64),
            (&names::QUERIES, t.queries as f64),
            (&names::ERRORS, t.errors as f64),
            (&names::SHED_REQUESTS, t.shed as f64),
            (&names::LOGINS, t.logins as f64),
            (&names::RECEIVED, t.received as f64),
            (&names::SENT, t.sent as f64),
            (&names::TRANSACTION_TIME, seconds(t.transaction_time)),
            (&names::QUERY_TIME, seconds(t.query_time)),
            (&names::WAIT_TIME, seconds(t.wait_time)),
            (&names::ASSIGNMENTS, t.assignments as f64),
            (&names::FAST_REQUESTS, t.fast as f64),
            (&names::REPEATS, t.repeats as f64),
            (&names::CLIENT_PARSES, t.client_parses as f64),
            (&names::SERVER_PARSES, t.server_parses as f64),
            (&names::BINDS, t.binds as f64),
        ] {
            page.add(family, &labels, number);
        }
    }
}

fn put_pool(page: &mut Page, topology: &Topology, pool: &PoolView) {
    let (shard, server) = pool.place(topology);
    let labels = [&*shard, &*server, &*pool.key.database, &*pool.key.user];
    let f = &pool.figures;
    for (state, number) in [
        ("active", f.active),
        ("idle", f.idle),
        ("opening", f.opening),
    ] {
        let [shard, server, database, user] = labels;
        let labels = [shard, server, database, user, state];
        page.add(&names::CONNECTIONS, &labels, f64::from(number));
    }
    for (family, number) in [
        (&names::CONNECTIONS_MAX, f64::from(pool.max)),
        (&names::OPENED, f.opened as f64),
        (&names::OPEN_FAILED, f.failed as f64),
        (&names::WAITING, f64::from(f.waiting)),
        (&names::OLDEST_WAIT, f.oldest_wait.as_secs_f64()),
        (&names::REFUSED, f.refused as f64),
        (
            &names::NARROWED,
            f64::from(u8::from(pool.max_now < pool.max)),
        ),
        (&names::PAUSED, f64::from(u8::from(f.paused))),
    ] {
        page.add(family, &labels, number);
    }
}

fn put_servers(page: &mut Page, topology: &Topology) {
    for shard in topology.health.snapshot() {
        for (at, server) in shard.servers.iter().enumerate() {
            let address = server.endpoint.address.to_string();
            let labels = [&*shard.name, &*address];
            let truth = |is: bool| f64::from(u8::from(is));
            let (lag, latency) = (server.view.lag, server.latency);
            for (family, number) in [
                (&names::SERVER_UP, Some(truth(server.state == State::Up))),
                (&names::SERVER_BREAKER, Some(breaker(server.view.breaker))),
                (&names::SERVER_PRIMARY, Some(truth(shard.primary == Ok(at)))),
                (&names::SERVER_LAG, lag.map(|lag| lag.time.as_secs_f64())),
                (&names::SERVER_LAG_BYTES, lag.map(|lag| lag.bytes as f64)),
                (&names::SERVER_IN_FLIGHT, Some(f64::from(server.in_flight))),
                (&names::SERVER_LATENCY, latency.map(|l| l.as_secs_f64())),
                (&names::SERVER_WEIGHT, Some(f64::from(server.weight))),
                (
                    &names::SERVER_DISABLED,
                    Some(truth(server.hand.out.is_some())),
                ),
                (&names::SERVED, Some(server.served as f64)),
            ] {
                if let Some(number) = number {
                    page.add(family, &labels, number);
                }
            }
        }
    }
}

fn breaker(state: BreakerState) -> f64 {
    match state {
        BreakerState::Closed => 0.0,
        BreakerState::HalfOpen => 1.0,
        BreakerState::Open => 2.0,
    }
}

/// What SHOW TRANSACTIONS lists, counted by shards.
fn put_in_doubt(page: &mut Page, topology: &Topology, shared: &Shared) {
    for shard in &topology.shards {
        page.add(&names::IN_DOUBT, &[&shard.name], 0.0);
        page.add(&names::IN_DOUBT_OLDEST, &[&shard.name], 0.0);
    }
    let mut add = |shard: &str, age: Duration| {
        page.add(&names::IN_DOUBT, &[shard], 1.0);
        page.add(&names::IN_DOUBT_OLDEST, &[shard], age.as_secs_f64());
    };
    let swept = shared.swept.borrow();
    for part in &swept.left {
        add(&part.site.shard, part.age);
    }
    for (site, id, noted) in shared.doubts.all() {
        if !swept.has_left(&site, id) {
            add(&site.shard, noted.elapsed());
        }
    }
}

fn put_spans(page: &mut Page, labels: &[&str; 3], spans: &Spans) {
    page.add_span(&names::REQUEST_WAITING, labels, &spans.waiting);
    page.add_span(&names::REQUEST_PLANNING, labels, &spans.planning);
    page.add_span(&names::REQUEST_SERVER, labels, &spans.server);
    page.add_span(&names::REQUEST_TOTAL, labels, &spans.total);
}

fn cpu_seconds() -> Option<f64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage writes one rusage, and zeroes are a valid one should it fail.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) != 0 {
            return None;
        }
        usage.assume_init()
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Some(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

/// VmRSS of proc(5).
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}
