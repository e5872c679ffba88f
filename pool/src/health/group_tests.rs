//! Elections, fences, lag and freshness of a group, as stories.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct Story {
    group: Group,
    now: Instant,
    moment: WriteNumber,
}

impl Story {
    fn new(declared: &[Declared]) -> Story {
        Story::with(declared, Rules::default(), None)
    }

    fn with(declared: &[Declared], rules: Rules, fence: Option<Fence>) -> Story {
        let now = Instant::now();
        let members: Vec<MemberSpec> = declared
            .iter()
            .map(|declared| MemberSpec {
                declared: *declared,
                watched: true,
            })
            .collect();
        Story {
            group: Group::new(&members, Watch::default(), rules, fence, now),
            now,
            moment: 0,
        }
    }

    /// `server` answers that it is a primary on `timeline` and has written so far.
    fn primary(&mut self, server: usize, timeline: u32, written: u64) -> Result<usize, NoPrimary> {
        self.of(
            1,
            server,
            ReportedRole::Primary {
                timeline,
                written: Lsn(written),
            },
        )
    }

    fn replica(&mut self, server: usize, timeline: u32, replayed: u64) -> Result<usize, NoPrimary> {
        self.of(
            1,
            server,
            ReportedRole::Replica {
                replayed: Lsn(replayed),
                timeline: Some(timeline),
                age: None,
            },
        )
    }

    fn of(&mut self, system: u64, server: usize, says: ReportedRole) -> Result<usize, NoPrimary> {
        let report = Report {
            system,
            says,
            read_only: false,
        };
        self.group
            .on_report(server, report, self.moment, self.now, self.now);
        self.group.primary()
    }

    /// A discovery source says who the leader is.
    fn leader(&mut self, leader: Option<usize>) -> Result<usize, NoPrimary> {
        self.group.on_leader(leader);
        self.group.primary()
    }

    fn refused(&mut self, server: usize) -> Result<usize, NoPrimary> {
        self.group
            .on_failed_probe(server, Failure::Refused, self.now);
        self.group.primary()
    }

    fn seen(&self, server: usize) -> Option<WriteNumber> {
        let view = self.group.view(server, self.now).unwrap();
        view.fresh.map(|fresh| fresh.seen)
    }

    fn fit(&self, server: usize) -> bool {
        self.group.view(server, self.now).unwrap().fit
    }

    fn role(&self, server: usize) -> Role {
        self.group.view(server, self.now).unwrap().role
    }
}

use Declared::{Auto, Primary, Replica};

#[test]
fn nobody_is_elected_before_all_were_asked_once() {
    let mut story = Story::new(&[Auto, Auto]);
    assert_eq!(story.group.primary(), Err(NoPrimary::Asking));
    assert_eq!(story.primary(0, 1, 10), Err(NoPrimary::Asking));
    assert_eq!(story.replica(1, 1, 10), Ok(0));
    assert_eq!(
        (story.role(0), story.role(1)),
        (Role::Primary, Role::Replica)
    );
}

#[test]
fn a_lone_voice_is_believed_only_if_declared_or_alone_or_trusted() {
    let lone = |declared: &[Declared], trust_single| {
        let rules = Rules {
            trust_single,
            ..Rules::default()
        };
        let mut story = Story::with(declared, rules, None);
        for other in 1..declared.len() {
            let _ = story.refused(other);
        }
        story.primary(0, 1, 10)
    };
    assert_eq!(lone(&[Auto, Auto], false), Err(NoPrimary::Unconfirmed(0)));
    assert_eq!(lone(&[Auto, Auto], true), Ok(0));
    assert_eq!(lone(&[Primary, Auto], false), Ok(0));
    assert_eq!(lone(&[Auto], false), Ok(0));
    assert_eq!(lone(&[Replica], false), Err(NoPrimary::OnlyReplicas));
}

#[test]
fn a_lone_voice_is_believed_when_it_is_the_leader() {
    let mut story = Story::new(&[Auto, Auto, Auto]);
    let _ = (story.refused(1), story.refused(2));
    assert_eq!(story.primary(0, 1, 10), Err(NoPrimary::Unconfirmed(0)));
    assert_eq!(story.leader(Some(1)), Err(NoPrimary::NotLeader(0)));
    // No leader: the source neither confirms nor denies.
    assert_eq!(story.leader(None), Err(NoPrimary::Unconfirmed(0)));
    assert_eq!(story.leader(Some(0)), Ok(0));
    // Once believed it stays so when the source is silent.
    assert_eq!(story.leader(None), Ok(0));
    // One that is no server of the group says nothing.
    assert_eq!(story.leader(Some(3)), Ok(0));
}

#[test]
fn a_primary_that_is_not_the_leader_gets_no_write_not_even_a_declared_one() {
    for declared in [Auto, Primary] {
        let mut story = Story::new(&[declared, Auto]);
        let _ = story.replica(1, 1, 10);
        assert_eq!(story.primary(0, 1, 10), Ok(0));
        // The other one has the lock, and is about to be promoted.
        assert_eq!(story.leader(Some(1)), Err(NoPrimary::NotLeader(0)));
        assert_eq!(story.role(0), Role::Claimant);
        assert_eq!(story.primary(1, 2, 12), Ok(1));
        // The source is a moment behind.
        assert_eq!(story.leader(Some(0)), Err(NoPrimary::NotLeader(1)));
        assert_eq!(story.leader(Some(1)), Ok(1));
    }
}

#[test]
fn a_server_whose_name_has_moved_gets_nothing_before_it_was_asked() {
    let mut story = Story::new(&[Auto]);
    assert_eq!(story.primary(0, 2, 10), Ok(0));
    story.group.on_moved(0);
    assert_eq!(story.group.primary(), Err(NoPrimary::Moved(0)));
    assert_eq!(story.primary(0, 1, 99), Err(NoPrimary::Replaced(0)));
    story.group.on_moved(0);
    assert_eq!(story.primary(0, 2, 12), Ok(0));
}

#[test]
fn a_leader_on_a_timeline_that_was_replaced_gets_no_write() {
    let mut story = Story::new(&[Auto, Auto]);
    let _ = story.replica(1, 1, 10);
    let _ = story.primary(0, 1, 10);
    let _ = story.refused(0);
    assert_eq!(story.primary(1, 2, 12), Ok(1));
    let _ = story.refused(1);
    let _ = story.primary(0, 1, 99);
    assert_eq!(story.leader(Some(0)), Err(NoPrimary::Down(1)));
    // Nor does the word of a source make a primary of a replica, or of a server that is down.
    let _ = story.replica(0, 2, 12);
    assert_eq!(story.leader(Some(0)), Err(NoPrimary::Down(1)));
    assert_eq!(story.leader(Some(1)), Err(NoPrimary::Down(1)));
    // Of two on one timeline it says which.
    let mut story = Story::new(&[Auto, Primary, Auto]);
    let _ = story.refused(2);
    let _ = story.primary(0, 1, 10);
    assert_eq!(story.primary(1, 1, 10), Ok(1));
    assert_eq!(story.leader(Some(0)), Ok(0));
    assert_eq!(story.leader(Some(2)), Err(NoPrimary::Two(0, 1)));
}

#[test]
fn the_higher_timeline_wins_and_the_old_primary_never_comes_back() {
    let mut story = Story::new(&[Primary, Auto, Auto]);
    let _ = story.replica(1, 1, 10);
    let _ = story.replica(2, 1, 10);
    assert_eq!(story.primary(0, 1, 10), Ok(0));
    assert_eq!(story.refused(0), Err(NoPrimary::Down(0)));
    // Promoted; it does not matter that another one is declared.
    assert_eq!(story.primary(1, 2, 12), Ok(1));
    for _ in 0..20 {
        assert_eq!(story.primary(0, 1, 99), Ok(1));
    }
    assert_eq!(story.role(0), Role::Claimant);
    // Not even when the new one is gone.
    assert_eq!(story.refused(1), Err(NoPrimary::Down(1)));
    assert_eq!(story.primary(0, 1, 99), Err(NoPrimary::Down(1)));
    // Rewound, it is a replica; promoted in its turn, it is the primary.
    let _ = story.replica(0, 2, 12);
    assert_eq!(story.role(0), Role::Replica);
    assert_eq!(story.primary(0, 3, 13), Ok(0));
    assert_eq!(
        story.group.fence(),
        Some(Fence {
            system: 1,
            timeline: 3,
            forked: false,
        })
    );
}

#[test]
fn a_replica_that_follows_a_newer_primary_gives_the_old_one_away() {
    let mut story = Story::new(&[Auto, Auto]);
    let _ = story.primary(0, 1, 10);
    assert_eq!(story.replica(1, 1, 10), Ok(0));
    assert_eq!(story.replica(1, 2, 11), Err(NoPrimary::Replaced(0)));
    assert_eq!(story.primary(0, 1, 12), Err(NoPrimary::Replaced(0)));
    // What was seen of the old primary's log says nothing now.
    assert_eq!(story.seen(1), None);
}

#[test]
fn a_fence_that_was_handed_over_holds() {
    let fence = Some(Fence {
        system: 1,
        timeline: 2,
        forked: false,
    });
    let mut story = Story::with(&[Primary, Auto], Rules::default(), fence);
    assert_eq!(story.primary(0, 1, 10), Err(NoPrimary::Replaced(0)));
    assert_eq!(story.primary(1, 2, 10), Ok(1));
}

#[test]
fn two_primaries_on_one_timeline_are_none_unless_one_is_declared() {
    let mut story = Story::new(&[Auto, Auto]);
    let _ = story.primary(0, 1, 10);
    assert_eq!(story.primary(1, 1, 10), Err(NoPrimary::Two(0, 1)));
    let mut story = Story::new(&[Auto, Primary]);
    let _ = story.primary(0, 1, 10);
    assert_eq!(story.primary(1, 1, 10), Ok(1));
    // A declared replica is never asked to write.
    let mut story = Story::new(&[Replica, Auto]);
    let _ = story.primary(0, 9, 10);
    assert_eq!(story.primary(1, 9, 10), Ok(1));
}

#[test]
fn replicas_of_a_forked_timeline_serve_nothing_until_there_is_a_newer_one() {
    let mut story = Story::new(&[Primary, Auto, Auto]);
    let _ = story.replica(1, 2, 10);
    let _ = story.replica(2, 2, 10);
    assert_eq!(story.primary(0, 2, 10), Ok(0));
    assert!(story.fit(1) && story.fit(2));
    // Both were promoted by hand from timeline 1.
    assert_eq!(story.primary(1, 2, 12), Ok(0));
    assert_eq!((story.role(2), story.fit(2)), (Role::Diverged, false));
    assert_eq!(story.seen(2), None);
    // That the other one is gone does not say whom the third one follows.
    let _ = story.refused(1);
    let _ = story.replica(2, 2, 10);
    assert_eq!(story.primary(0, 2, 12), Ok(0));
    assert!(!story.fit(2));
    let fence = story.group.fence();
    let mut heir = Story::with(&[Primary, Auto, Auto], Rules::default(), fence);
    let _ = heir.replica(2, 2, 12);
    let _ = heir.primary(0, 2, 12);
    assert!(!heir.fit(2));
    // After a further promotion the number says it again.
    let _ = story.replica(2, 3, 13);
    assert_eq!(story.primary(0, 3, 13), Ok(0));
    assert!(story.fit(2));
}

#[test]
fn a_replica_that_has_replayed_what_the_primary_never_wrote_serves_nothing() {
    let mut story = Story::new(&[Auto, Auto]);
    let mut tell = |server: Result<u64, u64>| {
        story.now += SECOND;
        let _ = match server {
            Ok(written) => story.primary(0, 1, written),
            Err(replayed) => story.replica(1, 1, replayed),
        };
        story.fit(1)
    };
    tell(Ok(10));
    assert!(tell(Err(10)));
    // The primary may have written that since it was asked.
    assert!(tell(Err(20)));
    assert!(tell(Ok(20)));
    assert!(tell(Err(30)));
    assert!(!tell(Ok(25)));
    // It stays so when the primary's own position has passed that one.
    assert!(!tell(Ok(40)));
    assert!(!tell(Err(30)));
    // It was rebuilt.
    assert!(tell(Err(28)));
    assert!(tell(Ok(40)));
}

#[test]
fn a_server_of_another_system_is_a_stranger() {
    let stranger = ReportedRole::Primary {
        timeline: 7,
        written: Lsn(1),
    };
    let mut story = Story::new(&[Auto, Auto, Auto]);
    let _ = story.primary(0, 1, 10);
    let _ = story.replica(1, 1, 10);
    assert_eq!(story.of(2, 2, stranger), Err(NoPrimary::Two(0, 2)));
    let mut story = Story::new(&[Primary, Auto, Auto]);
    let _ = story.primary(0, 1, 10);
    let _ = story.of(2, 2, stranger);
    assert_eq!(story.replica(1, 1, 10), Ok(0));
    assert_eq!(story.role(2), Role::Foreign);
    let alien = ReportedRole::Replica {
        replayed: Lsn(u64::MAX),
        timeline: Some(1),
        age: None,
    };
    assert_eq!(story.of(2, 1, alien), Ok(0));
    assert_eq!(
        (story.role(1), story.fit(1), story.seen(1)),
        (Role::Foreign, false, None)
    );
    let _ = story.refused(0);
    assert_eq!(story.group.primary(), Err(NoPrimary::Down(0)));
}

#[test]
fn a_lone_server_that_does_not_let_the_probe_in_is_used_all_the_same() {
    let mut story = Story::new(&[Auto]);
    let failure = Failure::Rejected(*b"28P01");
    story.group.on_failed_probe(0, failure, story.now);
    assert_eq!(story.group.primary(), Ok(0));
    let mut story = Story::new(&[Auto, Auto]);
    story.group.on_failed_probe(0, failure, story.now);
    story.group.on_failed_probe(1, failure, story.now);
    assert_eq!(story.group.primary(), Err(NoPrimary::Silent));
}

#[test]
fn a_replica_has_seen_what_the_primary_had_when_it_was_asked() {
    let mut story = Story::new(&[Auto, Auto]);
    let _ = story.primary(0, 1, 10);
    let _ = story.replica(1, 1, 10);
    assert_eq!(story.seen(1), Some(0));
    story.moment = 5;
    let _ = story.primary(0, 1, 20);
    assert_eq!(story.seen(1), Some(0), "it has not replayed that yet");
    let _ = story.replica(1, 1, 19);
    assert_eq!(story.seen(1), Some(0));
    let _ = story.replica(1, 1, 20);
    assert_eq!(story.seen(1), Some(5));
    // It is idle: one more answer of the primary is enough.
    story.moment = 6;
    let _ = story.primary(0, 1, 20);
    assert_eq!(story.seen(1), Some(6));
    // Nothing is certain after a failure, a lost connection, on an unknown or another timeline.
    story.group.on_lost(1);
    assert_eq!((story.seen(1), story.fit(1)), (None, true));
    let _ = story.replica(1, 1, 20);
    assert_eq!(story.seen(1), Some(6));
    let unknown = ReportedRole::Replica {
        replayed: Lsn(30),
        timeline: None,
        age: None,
    };
    let _ = story.of(1, 1, unknown);
    assert_eq!(story.seen(1), None);
    // The primary is down, and what was seen is still so.
    let _ = story.replica(1, 1, 20);
    let _ = story.refused(0);
    assert_eq!(story.seen(1), Some(6));
    // An older state than before: it has crashed.
    let _ = story.replica(1, 1, 12);
    assert_eq!(story.seen(1), Some(0));
}

#[test]
fn a_lagging_replica_is_dropped_and_comes_back_well_within_the_limit() {
    let mut story = Story::new(&[Auto, Auto]);
    let _ = story.primary(0, 1, 0);
    let _ = story.replica(1, 1, 0);
    let mut tell = |seconds: u32, written, replayed| {
        story.now += SECOND * seconds;
        let _ = story.primary(0, 1, written);
        let _ = story.replica(1, 1, replayed);
        let view = story.group.view(1, story.now).unwrap();
        (
            view.fit,
            view.lag.unwrap().time.as_secs(),
            view.lag.unwrap().bytes,
        )
    };
    assert_eq!(tell(1, 0, 0), (true, 0, 0));
    assert_eq!(tell(8, 100, 0), (true, 8, 100));
    assert_eq!(tell(3, 200, 0), (false, 11, 200));
    // Behind what was written 8 s ago: within the limit, but not well within.
    assert_eq!(tell(5, 300, 100), (false, 8, 200));
    assert_eq!(tell(1, 400, 300), (true, 1, 100));
    assert_eq!(tell(60, 400, 400), (true, 0, 0));
}

#[test]
fn a_replica_further_behind_than_we_look_back_is_dropped_unless_its_clock_says_otherwise() {
    let lag = |age| {
        let mut story = Story::new(&[Auto, Auto]);
        let _ = story.primary(0, 1, 1000);
        let says = ReportedRole::Replica {
            replayed: Lsn(1),
            timeline: Some(1),
            age,
        };
        let _ = story.of(1, 1, says);
        let _ = story.primary(0, 1, 1000);
        let _ = story.of(1, 1, says);
        story.fit(1)
    };
    assert!(!lag(None));
    assert!(!lag(Some(SECOND * 11)));
    assert!(lag(Some(SECOND)));
}
