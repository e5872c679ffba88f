//! Choices of a server, as the cores make them.

use super::*;
use crate::endpoint::{Address, EndpointId};
use crate::health::report::{Lsn, ReportedRole};
use crate::health::{Declared, Out};
use rand::SeedableRng;
use rand::rngs::SmallRng;

fn endpoint(id: u32) -> Endpoint {
    Endpoint {
        id: EndpointId(id),
        address: Address::Tcp("10.0.0.1".into(), 5432),
        encryption: crate::endpoint::Encryption::Disable,
        tls_name: None,
        tls_direct: false,
        interpreter: None,
    }
}

fn spec(weights: &[u32]) -> GroupSpec {
    let servers = weights.iter().zip(0..).map(|(weight, id)| ServerSpec {
        endpoint: endpoint(100 + id),
        declared: Declared::Auto,
        weight: *weight,
        control: Some(tokio_postgres::Config::new()),
        kept: None,
    });
    GroupSpec {
        name: "s0".into(),
        servers: servers.collect(),
        clock: Arc::new(CommitClock::new(16)),
        gate: Arc::default(),
        fence: None,
        trust_single: false,
        patroni: Vec::new(),
    }
}

struct Story {
    health: Health,
    rng: SmallRng,
}

impl Story {
    /// Server 0 is the primary, the others are replicas that have everything.
    fn new(weights: &[u32]) -> Story {
        let health = Health::new(&[spec(weights)], &Settings::default(), Arc::default());
        let story = Story {
            health,
            rng: SmallRng::seed_from_u64(11),
        };
        story.primary(100);
        for replica in 1..weights.len() {
            story.replica(replica, 100);
        }
        story
    }

    fn primary(&self, written: u64) {
        let says = ReportedRole::Primary {
            timeline: 1,
            written: Lsn(written),
        };
        self.tell(0, says);
    }

    fn replica(&self, server: usize, replayed: u64) {
        let says = ReportedRole::Replica {
            replayed: Lsn(replayed),
            timeline: Some(1),
            age: None,
        };
        self.tell(server, says);
    }

    fn tell(&self, server: usize, says: ReportedRole) {
        let moment = self.health.clock(0).unwrap().now();
        let report = Report {
            system: 1,
            says,
            read_only: false,
        };
        self.health
            .on_report(0, server, report, moment, Instant::now());
    }

    fn now(&self) -> Freshness {
        Freshness::Seen(
            self.health
                .clock(0)
                .unwrap()
                .needed(super::super::Scope::All),
        )
    }

    fn choose(&mut self, read: Read) -> Result<usize, WhyNot> {
        let choice = self.health.choose(0, Need::Read(read), &mut self.rng);
        choice.map(|c| c.server).map_err(|e| e.why)
    }

    /// How often of 10,000 times each server is chosen.
    fn counts(&mut self, read: Read) -> Vec<u32> {
        let mut counts = vec![0; self.health.groups[0].servers.len()];
        for _ in 0..10_000 {
            counts[self.choose(read).unwrap()] += 1;
        }
        counts
    }
}

fn read(freshness: Freshness) -> Read {
    Read {
        freshness,
        reads: Reads::Any,
        among: Among::ALL,
    }
}

#[test]
fn reads_are_spread_and_writes_go_to_the_primary() {
    let mut story = Story::new(&[100, 100, 100]);
    let counts = story.counts(read(story.now()));
    assert!(
        counts.iter().all(|n| (3_100..3_570).contains(n)),
        "{counts:?}"
    );
    let choice = story.health.choose(0, Need::Write, &mut story.rng).unwrap();
    assert_eq!((choice.server, choice.is_primary), (0, true));
    assert_eq!(choice.endpoint, EndpointId(100));
    assert!(choice.covers(Instant::now()));
}

#[test]
fn a_replica_that_lacks_an_acknowledged_write_is_not_chosen_until_it_has_it() {
    let mut story = Story::new(&[100, 100]);
    let scope = super::super::Scope::Part(3);
    story.health.clock(0).unwrap().acknowledge(scope);
    let now = read(story.now());
    assert_eq!(story.counts(now), [10_000, 0]);
    // Other parts of the data are not concerned.
    let elsewhere = story
        .health
        .clock(0)
        .unwrap()
        .needed(super::super::Scope::Part(4));
    assert!(story.counts(read(Freshness::Seen(elsewhere)))[1] > 4_000);
    story.primary(200);
    assert_eq!(story.counts(now), [10_000, 0], "it has not replayed it");
    story.replica(1, 200);
    assert!(story.counts(now)[1] > 4_000);
    story.health.report_lost(0, 1);
    assert_eq!(story.counts(now), [10_000, 0], "it may have crashed");
    assert!(story.counts(read(Freshness::Any))[1] > 4_000);
}

#[test]
fn only_connections_from_before_the_last_probe_are_covered() {
    let mut story = Story::new(&[0, 100]);
    let before = Instant::now();
    story.primary(100);
    story.replica(1, 100);
    let choose = |story: &mut Story, freshness| {
        let need = Need::Read(read(freshness));
        let choice = story.health.choose(0, need, &mut story.rng).unwrap();
        assert!(!choice.is_primary);
        choice
    };
    let now = story.now();
    let choice = choose(&mut story, now);
    assert!(choice.covers(before));
    assert!(!choice.covers(Instant::now()));
    assert!(choose(&mut story, Freshness::Any).covers(Instant::now()));
}

#[test]
fn bounded_reads_look_at_the_time() {
    let mut story = Story::new(&[0, 100]);
    let minute = Duration::from_secs(60);
    assert_eq!(story.choose(read(Freshness::Within(minute))), Ok(1));
    std::thread::sleep(Duration::from_millis(2));
    let bound = Duration::from_millis(1);
    assert_eq!(story.choose(read(Freshness::Within(bound))), Ok(0));
}

#[test]
fn what_a_server_tells_of_itself_is_its_labels() {
    let story = Story::new(&[100, 100]);
    let has = |server, label| story.health.has_label(0, server, label);
    assert!(!has(1, ""));
    story.health.on_labels(0, 1, "dc-eu use-reports");
    assert!(has(1, "dc-eu") && has(1, "use-reports") && !has(0, "dc-eu") && !has(1, "dc"));
    assert_eq!(story.health.labels(0, 1), ["dc-eu", "use-reports"]);
    story.health.on_labels(0, 1, "");
    assert!(!has(1, "dc-eu") && story.health.labels(0, 1).is_empty());
}

#[test]
fn while_there_is_no_primary_replicas_serve_what_it_is_preferred_for() {
    let mut story = Story::new(&[100, 100]);
    let preferred = Read {
        freshness: Freshness::Any,
        reads: Reads::PreferPrimary,
        among: Among::ALL,
    };
    assert_eq!(story.choose(preferred), Ok(0));
    story.replica(0, 100);
    assert_eq!(story.choose(preferred), Ok(1));
}

#[test]
fn reads_obey_preference_permission_and_hand() {
    let mut story = Story::new(&[100, 100, 0]);
    let with = |reads, among, story: &mut Story| {
        let read = Read {
            freshness: Freshness::Any,
            reads,
            among,
        };
        let counts = story.counts(read);
        counts.iter().map(|n| *n > 0).collect::<Vec<_>>()
    };
    let all = Among::ALL;
    // Weight 0 takes none while another can.
    assert_eq!(with(Reads::Any, all, &mut story), [true, true, false]);
    assert_eq!(
        with(Reads::PreferReplicas, all, &mut story),
        [false, true, false]
    );
    assert_eq!(with(Reads::Primary, all, &mut story), [true, false, false]);
    assert_eq!(
        with(Reads::PreferPrimary, all, &mut story),
        [true, false, false]
    );
    assert_eq!(with(Reads::Replicas, all, &mut story), [false, true, false]);
    let not_1 = all.without(1);
    assert_eq!(
        with(Reads::PreferReplicas, not_1, &mut story),
        [false, false, true]
    );
    assert_eq!(with(Reads::Any, not_1, &mut story), [true, false, false]);
    // See: pgdog#1117, where the primary alone was ignored.
    let only_0 = not_1.without(2);
    assert_eq!(
        with(Reads::PreferReplicas, only_0, &mut story),
        [true, false, false]
    );
    let of_replicas = |among| Read {
        freshness: Freshness::Any,
        reads: Reads::Replicas,
        among,
    };
    assert_eq!(story.choose(of_replicas(only_0)), Err(WhyNot::NoneFit));
    disable(&story.health, 1);
    assert_eq!(with(Reads::Any, all, &mut story), [true, false, false]);
    let weigh = |hand: &mut Hand| hand.weight = Some(100);
    story.health.set_by_hand(0, 2, weigh);
    assert_eq!(with(Reads::Any, all, &mut story), [true, false, true]);
    disable(&story.health, 0);
    let write = story.health.choose(0, Need::Write, &mut story.rng);
    assert_eq!(write.unwrap_err().why, WhyNot::Disabled);
    assert_eq!(story.choose(read(Freshness::Any)), Ok(2));
    let none = Read {
        among: Among(0),
        ..read(Freshness::Any)
    };
    assert_eq!(story.choose(none), Err(WhyNot::NoneFit));
    assert_eq!(
        story
            .health
            .choose(1, Need::Write, &mut story.rng)
            .unwrap_err()
            .why,
        WhyNot::NoGroup
    );
}

#[test]
fn a_dead_server_gets_nothing_and_a_slow_one_little() {
    let mut story = Story::new(&[100, 100, 100]);
    story.health.report_connect_failure(0, 1, Failure::Refused);
    let now = read(story.now());
    assert_eq!(story.counts(now)[1], 0);
    for _ in 0..10 {
        story
            .health
            .begin(0, 0)
            .unwrap()
            .finish(Duration::from_millis(1), Instant::now());
        story
            .health
            .begin(0, 2)
            .unwrap()
            .finish(Duration::from_millis(5), Instant::now());
    }
    let counts = story.counts(now);
    assert!(counts[2] > 50 && counts[2] < 1_000, "{counts:?}");
    story.health.report_connect_failure(0, 0, Failure::Refused);
    let write = story.health.choose(0, Need::Write, &mut story.rng);
    assert_eq!(
        write.unwrap_err().why,
        WhyNot::NoPrimary(NoPrimary::Down(0))
    );
    // It has everything that the primary was known to have acknowledged.
    assert_eq!(story.counts(now), [0, 0, 10_000]);
}

#[test]
fn reasons_survive_their_encoding() {
    use NoPrimary::*;
    let reasons = [
        Asking,
        Silent,
        Down(63),
        OnlyReplicas,
        Replaced(1),
        Foreign(2),
        Two(3, 4),
        Unconfirmed(5),
    ];
    for reason in reasons {
        assert_eq!(decode(encode(Err(reason))), Err(reason));
    }
    for server in [0, 1, 63] {
        assert_eq!(decode(encode(Ok(server))), Ok(server));
    }
}

#[test]
fn console_sees_roles_states_and_lag() {
    let story = Story::new(&[100, 50]);
    let _under_way = story.health.begin(0, 1);
    let [group] = &story.health.snapshot()[..] else {
        panic!("one group")
    };
    assert_eq!((group.primary, group.acknowledged), (Ok(0), 0));
    let shown: Vec<String> = group
        .servers
        .iter()
        .map(|s| {
            let lag = s.view.lag.map(|lag| lag.bytes);
            format!(
                "{} {} {} {} {lag:?}",
                s.view.role, s.state, s.weight, s.in_flight
            )
        })
        .collect();
    assert_eq!(shown, ["primary up 100 0 None", "replica up 50 1 Some(0)"]);
}

fn disable(health: &Health, server: usize) {
    health.set_by_hand(0, server, |hand| hand.out = Some(Out::Disabled));
}

#[test]
fn what_was_set_by_hand_and_what_is_under_way_outlives_a_reload() {
    let before = Story::new(&[100, 100, 100]).health;
    before.set_by_hand(0, 1, |hand| hand.weight = Some(7));
    disable(&before, 2);
    let under_way = before.begin(0, 1).expect("it is there");
    // The order is another one, a server is new, and weights of the file have changed.
    let mut after = spec(&[50, 50, 50]);
    after.servers.rotate_left(1);
    after.servers.push(ServerSpec {
        endpoint: endpoint(200),
        ..after.servers[0].clone()
    });
    for server in &mut after.servers {
        server.kept = before.kept(0, server.endpoint.id);
    }
    let after = Health::new(&[after], &Settings::default(), Arc::default());
    let shown = |health: &Health| -> Vec<(u32, u32, bool, u32, u64)> {
        let servers = health.snapshot().remove(0).servers;
        let of = |s: ServerSnapshot| {
            let number = s.endpoint.id.0;
            (
                number,
                s.weight,
                s.hand.out.is_some(),
                s.in_flight,
                s.served,
            )
        };
        servers.into_iter().map(of).collect()
    };
    assert_eq!(
        shown(&after),
        [
            (101, 7, false, 1, 1),
            (102, 50, true, 0, 0),
            (100, 50, false, 0, 0),
            (200, 50, false, 0, 0)
        ]
    );
    // It ends where both count it.
    drop(under_way);
    assert_eq!(shown(&after)[0], (101, 7, false, 0, 1));
    // What a hand has set is not lost by a second reload.
    let again = after.kept(0, EndpointId(101)).expect("it is there");
    assert_eq!(again.hand.weight(), Some(7));
    let untouched = after.kept(0, EndpointId(100)).expect("it is there");
    assert!(untouched.hand.get().is_empty());
    // What is undone is as the file has it.
    let before = after.set_by_hand(0, 0, |hand| *hand = Hand::default());
    assert_eq!(before.expect("it is there").weight, Some(7));
    assert_eq!(shown(&after)[0], (101, 50, false, 0, 1));
}

#[tokio::test]
async fn who_waits_for_a_primary_is_told_when_nobody_looks_for_one_any_more() {
    let health = Arc::new(Health::new(
        &[spec(&[100])],
        &Settings::default(),
        Arc::default(),
    ));
    let waiting = Arc::clone(&health);
    let waits = tokio::spawn(async move { waiting.has_primary_or_is_over(0).await });
    tokio::task::yield_now().await;
    assert!(!waits.is_finished());
    health.end();
    assert!(!waits.await.expect("it does not panic"));
    assert!(!health.has_primary_or_is_over(0).await);
    assert!(Story::new(&[100]).health.has_primary_or_is_over(0).await);
}

#[tokio::test]
async fn every_server_is_asked_at_once_when_the_primary_is_lost() {
    let story = Story::new(&[100, 100, 100]);
    for server in 0..3 {
        // The primary's answer wakes the replicas' probers; from here on nobody is woken.
        let rest = story.health.woken(0, server);
        let _ = tokio::time::timeout(Duration::ZERO, rest).await;
    }
    let now = story.health.source.now();
    story.health.on_failed_probe(0, 0, Failure::Refused, now);
    assert!(story.health.primary(0).is_err());
    for server in 0..3 {
        let woken = story.health.woken(0, server);
        let woken = tokio::time::timeout(Duration::ZERO, woken).await;
        assert!(woken.is_ok(), "the prober of server {server} sleeps on");
    }
}

#[test]
fn what_is_held_back_is_held_back_after_a_reload() {
    let before = Arc::new(Story::new(&[100]).health);
    let elected = before.writer(0);
    let hold = before.hold(0).expect("nobody holds it");
    assert!(before.hold(0).is_none());
    let held = Err(WhyNot::NoPrimary(NoPrimary::Held));
    assert_eq!((before.writer(0), before.primary(0)), (held, elected));
    hold.seal();
    assert_eq!((before.primary(0), before.elected(0)), (held, elected));
    let mut spec = spec(&[100]);
    spec.gate = Arc::clone(before.gate(0).expect("it is there"));
    let after = Arc::new(Health::new(&[spec], &Settings::default(), Arc::default()));
    assert!(after.hold(0).is_none());
    drop(hold);
    assert_eq!(before.writer(0), elected);
    assert!(after.hold(0).is_some());
}

#[test]
fn what_fails_gets_nothing_that_another_server_can_take() {
    let settings = Settings {
        watch: Watch {
            // Every failure counts.
            interval: Duration::ZERO,
            ..Watch::default()
        },
        ..Settings::default()
    };
    let mut story = Story {
        health: Health::new(&[spec(&[100, 100, 100])], &settings, Arc::default()),
        rng: SmallRng::seed_from_u64(11),
    };
    let tell = |story: &Story| {
        story.primary(100);
        story.replica(1, 100);
        story.replica(2, 100);
    };
    tell(&story);
    let any = read(Freshness::Any);
    let fail = |story: &Story, server| (0..5).for_each(|_| story.health.report_broken(0, server));
    fail(&story, 1);
    tell(&story);
    let counts = story.counts(any);
    assert!(counts[1] == 0 && counts[0] > 4_000, "{counts:?}");
    // A health of its own: probes are answered.
    assert_eq!(
        story.health.snapshot()[0].servers[1].view.breaker,
        BreakerState::Open
    );
    assert_eq!(story.health.snapshot()[0].servers[1].state, State::Up);
    // It is better than none.
    let alone = Read {
        among: Among::ALL.without(0).without(2),
        ..any
    };
    assert_eq!(story.choose(alone), Ok(1));
    // The primary takes the writes whatever becomes of them; reads go elsewhere, until it answers.
    fail(&story, 0);
    assert_eq!(story.counts(any), [0, 0, 10_000]);
    assert!(story.health.choose(0, Need::Write, &mut story.rng).is_ok());
    tell(&story);
    // Half-open: while one request tries it, no other does.
    assert!(story.counts(any)[0] > 4_000);
    let flight = story.health.begin(0, 0).unwrap();
    assert_eq!(story.counts(any), [0, 0, 10_000]);
    flight.answered();
    tell(&story);
    assert!(story.counts(any)[0] > 1_000, "it is closed");
}
