//! The commit against a small model of servers that fail, and of routers that
//! recover, clean up and come too late: every order of events is tried.

use super::*;
use crate::commit::gid::{Place, TransactionId};
use crate::config::Name;
use crate::topology::shard_id;
use std::collections::HashSet;

const DECIDER: Backend = Backend::Process {
    place: Place {
        system: 1,
        database: 5,
    },
    pid: 7,
    started: 11,
};

fn part(shard: u16, work: Work) -> Participant {
    Participant {
        shard: ShardId(shard),
        name: Label::new(&format!("s{shard}")).unwrap(),
        work,
        preparable: true,
        backend: None,
    }
}

fn terms(serializable: bool) -> Terms {
    Terms {
        router: Label::new("r1").unwrap(),
        schema: Name::new("mothership").unwrap(),
        id: TransactionId(3),
        serializable,
        two_phase: true,
        fence_wait: 1000,
    }
}

fn shown(steps: &[Step]) -> Vec<String> {
    let line = |step: &Step| format!("{} {:?} {:?}", step.shard, step.via, step.act);
    steps.iter().map(line).collect()
}

fn done(tag: &str) -> Reply {
    Reply::Done {
        tag: tag.into(),
        row: None,
    }
}

fn told(row: &str) -> Reply {
    Reply::Done {
        tag: "SELECT 1".into(),
        row: Some(row.into()),
    }
}

#[test]
fn one_writer_commits_plainly_beside_its_readers() {
    let parts = vec![
        part(0, Work::Read),
        part(1, Work::Write),
        part(2, Work::Lock),
    ];
    let mut commit = Commit::new(parts, terms(false)).unwrap();
    assert_eq!(
        shown(&commit.steps()),
        ["0 Session Commit", "1 Session Commit"]
    );
    commit.on_reply(ShardId(1), &done("COMMIT"));
    // The lock guards what the writer wrote, so it goes after it.
    assert_eq!(shown(&commit.steps()), ["2 Session Commit"]);
    commit.on_reply(ShardId(0), &Reply::Lost);
    commit.on_reply(ShardId(2), &done("COMMIT"));
    assert_eq!(commit.end(), Some(End::Committed { pending: vec![] }));
}

#[test]
fn under_serializable_readers_pass_their_checks_first() {
    let parts = vec![part(0, Work::Read), part(1, Work::Write)];
    let mut commit = Commit::new(parts, terms(true)).unwrap();
    assert_eq!(shown(&commit.steps()), ["0 Session Commit"]);
    let refused = Reply::Refused {
        sqlstate: "40001".into(),
        idle: true,
    };
    commit.on_reply(ShardId(0), &refused);
    assert_eq!(shown(&commit.steps()), ["1 Session Rollback"]);
    commit.on_reply(ShardId(1), &done("ROLLBACK"));
    let End::Aborted { cause, .. } = commit.end().unwrap() else {
        panic!("it must be aborted")
    };
    let sqlstate = "40001".into();
    assert_eq!(
        cause,
        Cause::Refused {
            shard: ShardId(0),
            sqlstate
        }
    );
}

#[test]
fn two_writers_are_prepared_decided_and_finished() {
    let parts = vec![part(0, Work::Write), part(1, Work::Write)];
    let mut commit = Commit::new(parts, terms(false)).unwrap();
    let ask = commit.steps();
    assert_eq!(ask[0].sql, r#"SELECT "mothership".backend()"#);
    commit.on_reply(ShardId(0), &told("1 5 7 11"));
    let prepare = commit.steps();
    assert_eq!(shown(&prepare), ["1 Session Prepare"]);
    assert!(
        prepare[0]
            .sql
            .ends_with("; PREPARE TRANSACTION 'ms1:r1:0000000000000000000000003:s0:s1:1:5:7:b'")
    );
    commit.on_reply(ShardId(1), &done("PREPARE TRANSACTION"));
    let decide = commit.steps();
    assert!(decide[0].sql.ends_with(
        "; SELECT \"mothership\".decide('00000000-0000-0000-0000-000000000003', 7, 11, 's1'); COMMIT"
    ));
    commit.on_reply(ShardId(0), &done("COMMIT"));
    let finish = commit.steps();
    assert_eq!(
        finish[0].sql,
        "COMMIT PREPARED 'ms1:r1:0000000000000000000000003:s0:s1:1:5:7:b'"
    );
    commit.on_reply(ShardId(1), &done("COMMIT PREPARED"));
    assert_eq!(commit.end(), Some(End::Committed { pending: vec![] }));
    assert_eq!(commit.backend(), Some((ShardId(0), DECIDER)));
}

#[test]
fn the_part_that_cannot_be_prepared_decides_and_there_may_be_one() {
    let mut parts = vec![
        part(0, Work::Write),
        part(1, Work::Write),
        part(2, Work::Write),
    ];
    parts[0].backend = Some(DECIDER);
    parts[2].preparable = false;
    let mut commit = Commit::new(parts.clone(), terms(false)).unwrap();
    assert_eq!(shown(&commit.steps()), ["2 Session Ask"]);
    parts[1].preparable = false;
    let refusal = may_join(&parts, &terms(false)).unwrap_err();
    assert_eq!(refusal.report().code, "0A000");
    // A part that has only read needs no preparing.
    parts[1].work = Work::Read;
    assert_eq!(may_join(&parts, &terms(false)), Ok(()));
}

#[test]
fn without_two_phases_a_second_writer_is_refused() {
    let terms = Terms {
        two_phase: false,
        ..terms(false)
    };
    let mut parts = vec![part(0, Work::Write), part(1, Work::Lock)];
    assert_eq!(may_join(&parts, &terms), Ok(()));
    parts[1].work = Work::Write;
    assert!(matches!(
        may_join(&parts, &terms),
        Err(Refusal::OnePhase { .. })
    ));
}

#[test]
fn a_refused_finish_is_tried_by_the_control_role() {
    let parts = vec![part(0, Work::Write), part(1, Work::Write)];
    let mut commit = Commit::new(parts, terms(false)).unwrap();
    for reply in [
        (0, told("1 5 7 11")),
        (1, done("PREPARE TRANSACTION")),
        (0, done("COMMIT")),
    ] {
        commit.steps();
        commit.on_reply(ShardId(reply.0), &reply.1);
    }
    commit.steps();
    // SET LOCAL ROLE made another role the owner.
    let denied = Reply::Refused {
        sqlstate: "42501".into(),
        idle: true,
    };
    commit.on_reply(ShardId(1), &denied);
    assert_eq!(shown(&commit.steps()), ["1 Control Finish(true)"]);
    commit.on_reply(ShardId(1), &Reply::Lost);
    assert_eq!(
        commit.end(),
        Some(End::Committed {
            pending: vec![ShardId(1)]
        })
    );
    assert_eq!(commit.owed().len(), 1);
}

#[test]
fn nobody_takes_part() {
    let mut commit = Commit::new(vec![], terms(true)).unwrap();
    assert_eq!(commit.steps(), []);
    assert_eq!(commit.end(), Some(End::Committed { pending: vec![] }));
}

/// A writer's part as its server has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    Open,
    Prepared,
    Committed,
    RolledBack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    None,
    Commit,
    Abort,
}

#[derive(Clone, Debug)]
struct World {
    truth: Vec<Truth>,
    row: Row,
    /// The decider's backend is there.
    alive: bool,
    /// Statements that servers still work on while nobody listens any more.
    late: Vec<Step>,
    /// Connections of the session that are gone.
    cut: Vec<bool>,
}

#[derive(Clone, Debug)]
struct Node {
    commit: Commit,
    waiting: Vec<Step>,
    world: World,
    decider: Option<usize>,
    writers: Vec<usize>,
    faults: usize,
}

impl World {
    /// What the server of the step does, and says.
    fn run(&mut self, step: &Step, decider: Option<usize>) -> Reply {
        let truth = self.truth[step.shard.index()];
        let refused = |sqlstate: &str| Reply::Refused {
            sqlstate: sqlstate.into(),
            idle: true,
        };
        let (new, reply) = match (step.act, truth) {
            (Act::Ask, Truth::Open) => (truth, told("1 5 7 11")),
            (Act::Prepare, Truth::Open) => (Truth::Prepared, done("PREPARE TRANSACTION")),
            (Act::Decide, Truth::Open) => match self.row {
                Row::None => {
                    self.row = Row::Commit;
                    (Truth::Committed, done("COMMIT"))
                }
                Row::Abort => (Truth::RolledBack, refused("40001")),
                Row::Commit => panic!("decided twice"),
            },
            (Act::Commit, Truth::Open) => (Truth::Committed, done("COMMIT")),
            (Act::Rollback, _) => (Truth::RolledBack, done("ROLLBACK")),
            (Act::Finish(true), Truth::Prepared) => (Truth::Committed, done("COMMIT PREPARED")),
            (Act::Finish(false), Truth::Prepared) => (Truth::RolledBack, done("ROLLBACK PREPARED")),
            (Act::Finish(_), _) => (truth, refused("42704")),
            (Act::Fence, _) => {
                if self.row == Row::None {
                    self.row = Row::Abort;
                }
                let row = match self.row {
                    Row::Commit => "commit",
                    Row::None | Row::Abort => "abort",
                };
                (truth, told(row))
            }
            (act, truth) => panic!("{act:?} while {truth:?}"),
        };
        self.truth[step.shard.index()] = new;
        if step.act == Act::Decide {
            self.alive &= decider == Some(step.shard.index());
        }
        reply
    }

    /// The session's connection is gone, and what was open on it.
    fn cut(&mut self, shard: usize, decider: Option<usize>) {
        self.cut[shard] = true;
        if self.truth[shard] == Truth::Open {
            self.truth[shard] = Truth::RolledBack;
        }
        if decider == Some(shard) {
            self.alive = false;
        }
    }

    /// Whatever a recovering router may do at this moment, one thing at a time.
    fn recoveries(&self, decider: usize) -> Vec<World> {
        let mut worlds = Vec::new();
        for shard in 0..self.truth.len() {
            if self.truth[shard] == Truth::Prepared {
                let mut world = self.clone();
                if world.row == Row::None {
                    world.row = Row::Abort;
                }
                worlds.push(world.clone());
                world.truth[shard] = match world.row {
                    Row::Commit => Truth::Committed,
                    Row::None | Row::Abort => Truth::RolledBack,
                };
                worlds.push(world);
            }
        }
        let held = self.truth.contains(&Truth::Prepared);
        let deciding = self.late.iter().any(|step| step.shard.index() == decider);
        let forget = match self.row {
            Row::None => false,
            Row::Commit => !held,
            Row::Abort => !self.alive && !deciding,
        };
        if forget {
            let row = Row::None;
            worlds.push(World {
                row,
                ..self.clone()
            });
        }
        worlds
    }
}

impl Node {
    fn new(participants: Vec<Participant>, serializable: bool, faults: usize) -> Node {
        let writers: Vec<ShardId> = writers(&participants, serializable)
            .iter()
            .map(|part| part.shard)
            .collect();
        let decider = decider(&participants, &writers).map(ShardId::index);
        let count = participants.len();
        let mut node = Node {
            commit: Commit::new(participants, terms(serializable)).unwrap(),
            waiting: vec![],
            world: World {
                truth: vec![Truth::Open; count],
                row: Row::None,
                alive: true,
                late: vec![],
                cut: vec![false; count],
            },
            decider,
            writers: writers.into_iter().map(ShardId::index).collect(),
            faults,
        };
        node.waiting = node.commit.steps();
        node
    }

    fn reply(mut self, index: usize, reply: &Reply) -> Node {
        let step = self.waiting.remove(index);
        self.commit.on_reply(step.shard, reply);
        self.waiting.extend(self.commit.steps());
        self
    }

    fn after(&self) -> Vec<Node> {
        let mut nodes = Vec::new();
        for (index, step) in self.waiting.iter().enumerate() {
            if step.via == Via::Session && self.world.cut[step.shard.index()] {
                nodes.push(self.clone().reply(index, &Reply::Lost));
                continue;
            }
            let mut well = self.clone();
            let said = well.world.run(step, self.decider);
            nodes.push(well.clone().reply(index, &said));
            if self.faults == 0 {
                continue;
            }
            // Lost after it was done; the connection goes as well.
            let control = step.via == Via::Control;
            let cut = |mut node: Node| {
                node.faults -= 1;
                if !control {
                    node.world.cut(step.shard.index(), self.decider);
                }
                node.reply(index, &Reply::Lost)
            };
            nodes.push(cut(well));
            // Lost before it arrived.
            nodes.push(cut(self.clone()));
            // Lost, and done later.
            let mut late = self.clone();
            late.faults -= 1;
            late.world.cut[step.shard.index()] |= !control;
            late.world.late.push(step.clone());
            nodes.push(late.reply(index, &Reply::Lost));
            // Refused, with the transaction rolled back.
            let mut refused = self.clone();
            refused.faults -= 1;
            if !control && self.world.truth[step.shard.index()] == Truth::Open {
                refused.world.truth[step.shard.index()] = Truth::RolledBack;
            }
            let refusal = Reply::Refused {
                sqlstate: "XX000".into(),
                idle: true,
            };
            if step.act != Act::Rollback {
                nodes.push(refused.reply(index, &refusal));
            }
        }
        for index in 0..self.world.late.len() {
            let mut node = self.clone();
            let step = node.world.late.remove(index);
            node.world.run(&step, self.decider);
            if step.via == Via::Session {
                node.world.cut(step.shard.index(), self.decider);
            }
            nodes.push(node);
        }
        if let Some(decider) = self.decider {
            for world in self.world.recoveries(decider) {
                nodes.push(Node {
                    world,
                    ..self.clone()
                });
            }
            let idle = !self
                .waiting
                .iter()
                .any(|step| step.shard.index() == decider);
            if self.faults > 0 && idle && !self.world.cut[decider] {
                let mut node = self.clone();
                node.faults -= 1;
                node.world.cut(decider, self.decider);
                nodes.push(node);
            }
        }
        nodes
    }

    fn check(&self) {
        let truths = self.writers.iter().map(|shard| self.world.truth[*shard]);
        let truths: Vec<Truth> = truths.collect();
        let some = |truth| truths.contains(&truth);
        assert!(
            !(some(Truth::Committed) && some(Truth::RolledBack)),
            "split: {self:#?}"
        );
        match self.commit.end() {
            Some(End::Committed { pending }) => {
                assert!(!some(Truth::RolledBack) && !some(Truth::Open), "{self:#?}");
                for shard in &self.writers {
                    let held = self.world.truth[*shard] == Truth::Prepared;
                    assert!(!held || pending.contains(&shard_id(*shard)), "{self:#?}");
                }
            }
            Some(End::Aborted { .. }) => assert!(!some(Truth::Committed), "{self:#?}"),
            Some(End::Unknown { .. }) => {}
            None => assert!(!self.waiting.is_empty(), "it hangs: {self:#?}"),
        }
    }

    /// In the end, when all routers are dead and one recovers, nothing is left.
    fn settle(&self) {
        let Some(decider) = self.decider else { return };
        let mut world = self.world.clone();
        for step in std::mem::take(&mut world.late) {
            world.run(&step, self.decider);
        }
        for shard in 0..world.truth.len() {
            world.cut(shard, self.decider);
        }
        // The last of the possibilities does most.
        while let Some(next) = world.recoveries(decider).pop() {
            world = next;
        }
        assert_eq!(world.row, Row::None);
        let settled = Node {
            world,
            ..self.clone()
        };
        assert!(!settled.world.truth.contains(&Truth::Prepared));
        settled.check();
    }
}

/// Tries every order of events; says how many situations there are, and which ends.
fn explore(start: Node) -> (usize, HashSet<&'static str>) {
    let mut seen = HashSet::new();
    let mut ends = HashSet::new();
    let mut open = vec![start];
    while let Some(node) = open.pop() {
        if !seen.insert(format!("{node:?}")) {
            continue;
        }
        node.check();
        node.settle();
        match node.commit.end() {
            Some(End::Committed { pending }) if pending.is_empty() => ends.insert("committed"),
            Some(End::Committed { .. }) => ends.insert("pending"),
            Some(End::Aborted { .. }) => ends.insert("aborted"),
            Some(End::Unknown { .. }) => ends.insert("unknown"),
            None => false,
        };
        open.extend(node.after());
    }
    (seen.len(), ends)
}

#[test]
fn no_order_of_events_splits_a_transaction() {
    use Work::{Lock, Read, Write};
    let works: [&[Work]; 8] = [
        &[Write],
        &[Read, Lock],
        &[Write, Lock],
        &[Write, Write],
        &[Write, Read, Write],
        &[Write, Lock, Write],
        &[Write, Write, Write],
        &[Write, Write, Write, Write],
    ];
    for works in works {
        let all_write = works.iter().all(|work| *work == Write);
        for serializable in [false, true] {
            // Writers are treated alike.
            if serializable && all_write {
                continue;
            }
            let parts = works.iter().enumerate();
            let parts: Vec<_> = parts
                .map(|(shard, work)| part(shard as u16, *work))
                .collect();
            // More parts with as many faults would take too long.
            let faults = match works.len() {
                0..=2 => 4,
                3 => 3,
                _ => 2,
            };
            let (count, ends) = explore(Node::new(parts, serializable, faults));
            println!("{works:?} serializable={serializable}: {count} situations, {ends:?}");
            let writes = works.iter().filter(|work| **work == Write).count();
            assert!(ends.contains("committed"));
            if writes > 1 {
                assert_eq!(ends.len(), 4, "{ends:?}");
            }
        }
    }
}
