use super::*;

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Patience = Patience {
    short: SECOND,
    long: Duration::from_secs(12),
    keep: Duration::from_secs(10),
};
const NAME: &str = "ms1:r1:0000000000000000000000003:s0:s1:1:5:7:b";
const PLACE: Place = Place {
    system: 1,
    database: 5,
};

fn held(seconds: u32) -> PreparedTransaction {
    PreparedTransaction {
        gid: Gid::parse(NAME).unwrap(),
        owner: "app".into(),
        age: SECOND * seconds,
        here: true,
    }
}

fn decision(committed: bool) -> Decision {
    Decision {
        id: TransactionId(3),
        backend: Backend::Process {
            place: PLACE,
            pid: 7,
            started: 11,
        },
        committed,
        participants: Participants::Shards(vec!["s1".into()]),
        age: SECOND * 60,
        alive: false,
    }
}

fn site(shard: &str) -> Site {
    Site {
        shard: shard.into(),
        database: "app".into(),
    }
}

fn look(decisions: Vec<Decision>, held: Vec<PreparedTransaction>) -> Look {
    let own = SeenSite {
        place: PLACE,
        decisions,
        held: vec![],
    };
    let other = SeenSite {
        place: Place {
            system: 2,
            database: 5,
        },
        decisions: vec![],
        held,
    };
    Look {
        seen: [(site("s0"), own), (site("s1"), other)].into(),
    }
}

#[test]
fn each_situation_has_its_verdict() {
    use Decider::{Seen, Unknown, Unreachable};
    let seen = |outcome, alive| Seen { outcome, alive };
    let young = Verdict::Wait(LeaveReason::Young);
    let cases = [
        (99, Unknown, Verdict::Wait(LeaveReason::DeciderUnknown)),
        (
            99,
            Unreachable,
            Verdict::Wait(LeaveReason::DeciderUnreachable),
        ),
        // Its own router is about to finish it.
        (0, seen(Some(true), true), young),
        (0, seen(Some(false), true), young),
        (0, seen(None, false), young),
        // Decided: it does not matter who lives. A commit may be on no standby yet.
        (1, seen(Some(true), true), Verdict::Fence),
        (1, seen(Some(false), true), Verdict::Finish(false)),
        // Undecided, and the decider lives: its router may be preparing other shards.
        (11, seen(None, true), young),
        (12, seen(None, true), Verdict::Fence),
        // Undecided for ever: even so the outcome is made final first.
        (1, seen(None, false), Verdict::Fence),
    ];
    for (age, decider, verdict) in cases {
        let judged = judge(&held(age), decider, &PATIENCE);
        assert_eq!(judged, verdict, "{age} s, {decider:?}");
    }
}

fn forgotten(look: &Look) -> usize {
    look.forgettable(&site("s0"), &PATIENCE).count()
}

#[test]
fn a_commit_is_forgotten_when_nobody_holds_anything_of_it() {
    assert_eq!(forgotten(&look(vec![decision(true)], vec![])), 1);
    let mut elsewhere = held(1);
    assert_eq!(
        forgotten(&look(vec![decision(true)], vec![elsewhere.clone()])),
        0
    );
    // In another database of the cluster, which may be no site of this router.
    elsewhere.here = false;
    assert_eq!(forgotten(&look(vec![decision(true)], vec![elsewhere])), 0);
    let mut other = held(1);
    other.gid.id = TransactionId(4);
    assert_eq!(forgotten(&look(vec![decision(true)], vec![other])), 1);
}

#[test]
fn a_commit_is_kept_while_a_participant_does_not_answer_and_for_a_while() {
    let mut unknown = decision(true);
    unknown.participants = Participants::Shards(vec!["s1".into(), "s2".into()]);
    assert_eq!(forgotten(&look(vec![unknown], vec![])), 0);
    let mut away = look(vec![decision(true)], vec![]);
    away.seen.remove(&site("s1"));
    assert_eq!(forgotten(&away), 0);
    let young = Decision {
        age: SECOND,
        ..decision(true)
    };
    assert_eq!(forgotten(&look(vec![young], vec![])), 0);
}

#[test]
fn an_abort_is_forgotten_when_its_backend_is_gone_and_never_before() {
    let young = Decision {
        age: Duration::ZERO,
        ..decision(false)
    };
    assert_eq!(forgotten(&look(vec![young], vec![held(1)])), 1);
    let stalled = Decision {
        alive: true,
        age: SECOND * 86_400,
        ..decision(false)
    };
    assert_eq!(forgotten(&look(vec![stalled], vec![])), 0);
}

#[test]
fn sites_are_found_by_what_they_are() {
    let look = look(vec![], vec![held(1)]);
    assert_eq!(look.at(PLACE), Some(&site("s0")));
    assert_eq!(
        look.at(Place {
            system: 1,
            database: 6
        }),
        None
    );
    assert_eq!(look.held().count(), 1);
}
