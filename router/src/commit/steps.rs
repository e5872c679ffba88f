//! One commit over several shards as a value: which statements may be sent now, and
//! what follows from their answers.
//!
//! The session asks [`Commit::steps`], runs all of them at once, hands every answer
//! to [`Commit::on_reply`] as it comes, and asks again, until there is an
//! [`End`]. Once begun it must be driven to its end, whether the client is there
//! or not. Pure: no socket, no clock. A time limit is the session's: it closes the
//! connection and says [`Reply::Lost`].
//!
//! Order. Parts that only read commit at any time, because nobody can tell; under
//! SERIALIZABLE before the decision, because their commit may be refused. Parts
//! that only hold locks commit after it, because the locks guard what others
//! write. Writers are prepared side by side, then the decider decides, then what
//! is prepared is committed side by side.

use super::gid::{Backend, Gid};
use super::parts::{Participant, Refusal, Terms, Work, decider, may_join, writers};
use super::text;
use crate::config::Label;
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;

/// Where a statement is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// On the connection that holds the shard's part of the transaction.
    Session,
    /// On a connection of the control role to the shard's primary and database: see [`super::errand::perform`].
    Control,
}

/// What a statement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// Ask which backend it is. Answers a row.
    Ask,
    /// Prepare. Answers a row or none before its end.
    Prepare,
    /// Write the decision and commit. Answers rows before its end.
    Decide,
    /// Commit a part that needs no other.
    Commit,
    /// Roll back an open part.
    Rollback,
    /// Commit (true) or roll back what is prepared.
    Finish(bool),
    /// Find out what was decided, and make it final. Answers a row.
    Fence,
}

/// One statement to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The shard.
    pub shard: ShardId,
    /// Its connection.
    pub via: Via,
    /// What it is for.
    pub act: Act,
    /// What is prepared, for [`Act::Finish`].
    pub gid: Option<Gid>,
    /// One simple query message.
    pub sql: String,
}

/// What a server said, when it was ready for the next query (ReadyForQuery).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// All went well.
    Done {
        /// The last command tag, such as `COMMIT`.
        tag: String,
        /// The first column of the last row, if there was one.
        row: Option<String>,
    },
    /// ErrorResponse of severity ERROR.
    Refused {
        /// Its code.
        sqlstate: String,
        /// ReadyForQuery says `I`: no transaction is open.
        idle: bool,
    },
    /// FATAL, PANIC, the end of the connection, or the end of patience with it. It must not be used again.
    Lost,
}

/// Why a transaction was rolled back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The shard said so: the client gets that ErrorResponse.
    Refused {
        /// The shard.
        shard: ShardId,
        /// What it said.
        sqlstate: String,
    },
    /// COMMIT or PREPARE TRANSACTION was answered by ROLLBACK: the part had failed before.
    RolledBack {
        /// The shard.
        shard: ShardId,
    },
    /// The connection to the shard broke, or it took too long.
    Lost {
        /// The shard.
        shard: ShardId,
    },
    /// The shard's answer to [`Act::Ask`] makes no sense.
    Strange {
        /// The shard.
        shard: ShardId,
    },
}

/// How it ended. `pending` are shards on which something prepared may be left, which recovery will finish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// On all shards. Statements of this router on the pending ones must wait.
    Committed {
        /// Shards.
        pending: Vec<ShardId>,
    },
    /// On none.
    Aborted {
        /// Why.
        cause: Cause,
        /// Shards.
        pending: Vec<ShardId>,
    },
    /// On all or none, and nobody can be asked: 08007.
    Unknown {
        /// Shards.
        pending: Vec<ShardId>,
    },
}

impl End {
    /// What the client is told instead of COMMIT. `None` for success, and when it gets the server's own error.
    pub fn report(&self, name: impl Fn(ShardId) -> String) -> Option<Report> {
        match self {
            Self::Committed { .. } => None,
            Self::Aborted { cause, .. } => cause.report(name),
            Self::Unknown { .. } => Some(
                Report::error(
                    sqlstate::UNKNOWN_OUTCOME,
                    "outcome of the transaction is unknown",
                )
                .detail("the connection to the shard that decides was lost during COMMIT")
                .hint(
                    "All shards get the same outcome. Read what was written before trying again.",
                ),
            ),
        }
    }
}

impl Cause {
    fn report(&self, name: impl Fn(ShardId) -> String) -> Option<Report> {
        let broken = |shard: ShardId, detail: &'static str| {
            let message = format!("transaction was rolled back: shard \"{}\"", name(shard));
            Some(Report::error(sqlstate::CONNECTION_FAILURE, message).detail(detail))
        };
        match self {
            Self::Refused { .. } => None,
            Self::RolledBack { shard } => Some(
                Report::error(
                    sqlstate::IN_FAILED_TRANSACTION,
                    "transaction was rolled back",
                )
                .detail(format!(
                    "its part on shard \"{}\" had failed before",
                    name(*shard)
                )),
            ),
            Self::Lost { shard } => broken(
                *shard,
                "the connection was lost, or the answer took too long",
            ),
            Self::Strange { shard } => broken(
                *shard,
                "it does not say which backend serves the transaction",
            ),
        }
    }
}

/// What is to become of one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    /// Commit at any time.
    Read,
    /// Commit after the decision.
    Release,
    /// Prepare, then commit.
    Prepare,
    /// Decide.
    Decide,
    /// The only writer: commit.
    Single,
}

/// Where one part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its transaction is open.
    Open,
    /// A statement is under way.
    Sent(Act, Via),
    /// It is prepared, or was; the next to try is this connection.
    Prepared(Via),
    /// The connection was lost while it was being prepared.
    Perhaps,
    /// The connection was lost while it decided.
    Undecided,
    /// Nothing is left.
    Done,
    /// It is left to recovery.
    Owed,
}

#[derive(Clone, Debug)]
struct Part {
    participant: Participant,
    job: Job,
    state: State,
    /// It has said that it is prepared.
    acknowledged: bool,
    /// Its transaction has ended by COMMIT or PREPARE TRANSACTION.
    keeps_settings: bool,
}

/// How far all of it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Ask,
    Prepare,
    Decide,
    Fence,
    Finish,
    Undo(Cause),
    /// The outcome is unknown.
    Leave,
}

/// A commit under way.
#[derive(Clone, Debug)]
pub struct Commit {
    terms: Terms,
    parts: Vec<Part>,
    stage: Stage,
    backend: Option<Backend>,
    /// The decision was sent, nobody heard the answer, and then no decision was found.
    /// That is an abort, or a commit that others have finished and forgotten.
    vanished: bool,
    /// Something prepared was rolled back by us, so that nobody can have committed.
    undone: bool,
}

impl Commit {
    /// Plans the commit.
    ///
    /// # Errors
    /// As [`may_join`].
    pub fn new(participants: Vec<Participant>, terms: Terms) -> Result<Self, Refusal> {
        may_join(&participants, &terms)?;
        let writers: Vec<ShardId> = writers(&participants, terms.serializable)
            .iter()
            .map(|part| part.shard)
            .collect();
        let decider = decider(&participants, &writers);
        let job = |part: &Participant| match part.work {
            _ if writers.contains(&part.shard) => match decider {
                Some(decider) if decider == part.shard => Job::Decide,
                Some(_) => Job::Prepare,
                None => Job::Single,
            },
            Work::Lock if !writers.is_empty() => Job::Release,
            _ => Job::Read,
        };
        let parts: Vec<Part> = participants
            .into_iter()
            .map(|participant| Part {
                job: job(&participant),
                participant,
                state: State::Open,
                acknowledged: false,
                keeps_settings: false,
            })
            .collect();
        let backend = parts
            .iter()
            .find(|part| part.job == Job::Decide)
            .and_then(|part| part.participant.backend);
        let mut commit = Self {
            terms,
            parts,
            stage: match decider.is_some() && backend.is_none() {
                true => Stage::Ask,
                false => Stage::Prepare,
            },
            backend,
            vanished: false,
            undone: false,
        };
        commit.advance();
        Ok(commit)
    }

    /// Every statement that may be sent now and was not handed out before.
    pub fn steps(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        for index in 0..self.parts.len() {
            if let Some((act, via)) = self.next(&self.parts[index]) {
                steps.push(self.step(&self.parts[index], act, via));
                self.parts[index].state = State::Sent(act, via);
            }
        }
        steps
    }

    /// Takes the answer to the step of this shard.
    pub fn on_reply(&mut self, shard: ShardId, reply: &Reply) {
        let found = self
            .parts
            .iter()
            .position(|part| part.participant.shard == shard);
        let Some(index) = found else {
            debug_assert!(false, "shard {shard} takes no part");
            return;
        };
        let State::Sent(act, via) = self.parts[index].state else {
            debug_assert!(false, "shard {shard} was asked nothing");
            return;
        };
        self.parts[index].keeps_settings |= via == Via::Session
            && matches!(reply, Reply::Done { tag, .. } if tag == "COMMIT" || tag == "PREPARE TRANSACTION");
        self.parts[index].state = match act {
            Act::Ask => self.asked(shard, reply),
            Act::Prepare => self.prepared(index, reply),
            Act::Decide => self.decided(shard, reply),
            Act::Commit => self.committed(index, reply),
            Act::Rollback => State::Done,
            Act::Finish(commit) => self.finished(index, commit, via, reply),
            Act::Fence => self.fenced(shard, reply),
        };
        self.advance();
    }

    /// Whether all parts are to be committed, or may be: then locks may be free on some shards and not on others.
    pub fn may_be_decided(&self) -> bool {
        matches!(self.stage, Stage::Finish | Stage::Fence)
    }

    /// Whether the session on this shard keeps the settings of the transaction, however all of it ends: COMMIT and PREPARE
    /// TRANSACTION make them last, and ROLLBACK PREPARED does not undo them. `None` if the shard takes no part.
    pub fn keeps_settings(&self, shard: ShardId) -> Option<bool> {
        let mut parts = self.parts.iter();
        let own = parts.find(|part| part.participant.shard == shard)?;
        Some(own.keeps_settings)
    }

    /// Whether nothing is left of it on this shard.
    pub fn is_done(&self, shard: ShardId) -> bool {
        let mut own = self
            .parts
            .iter()
            .filter(|part| part.participant.shard == shard);
        own.all(|part| part.state == State::Done)
    }

    /// How it ended, as soon as nothing is under way any more.
    pub fn end(&self) -> Option<End> {
        let over = |part: &Part| matches!(part.state, State::Done | State::Owed);
        if !self.parts.iter().all(over) {
            return None;
        }
        let pending = self.pending();
        match &self.stage {
            Stage::Finish => Some(End::Committed { pending }),
            Stage::Undo(_) if self.vanished && !self.undone => Some(End::Unknown { pending }),
            Stage::Undo(cause) => Some(End::Aborted {
                cause: cause.clone(),
                pending,
            }),
            Stage::Leave => Some(End::Unknown { pending }),
            Stage::Ask | Stage::Prepare | Stage::Decide | Stage::Fence => None,
        }
    }

    /// What the deciding connection said of itself: to be kept with the connection.
    pub fn backend(&self) -> Option<(ShardId, Backend)> {
        let decider = self.parts.iter().find(|part| part.job == Job::Decide)?;
        Some((decider.participant.shard, self.backend?))
    }

    /// The names of what is left to recovery.
    pub fn owed(&self) -> Vec<(ShardId, Gid)> {
        let owed = self.parts.iter().filter(|part| part.state == State::Owed);
        owed.filter_map(|part| Some((part.participant.shard, self.gid(part)?)))
            .collect()
    }

    fn pending(&self) -> Vec<ShardId> {
        let owed = self.parts.iter().filter(|part| part.state == State::Owed);
        owed.map(|part| part.participant.shard).collect()
    }

    fn next(&self, part: &Part) -> Option<(Act, Via)> {
        let session = |act| Some((act, Via::Session));
        match (&self.stage, part.state, part.job) {
            (Stage::Undo(_) | Stage::Leave, State::Open, _) => session(Act::Rollback),
            (Stage::Undo(_), State::Prepared(via), _) => Some((Act::Finish(false), via)),
            (Stage::Undo(_), State::Perhaps, _) => Some((Act::Finish(false), Via::Control)),
            (Stage::Ask, State::Open, Job::Decide) => session(Act::Ask),
            (Stage::Ask, ..) => None,
            (_, State::Open, Job::Read) => session(Act::Commit),
            (Stage::Prepare, State::Open, Job::Prepare) => session(Act::Prepare),
            (Stage::Decide, State::Open, Job::Decide) => session(Act::Decide),
            (Stage::Decide, State::Open, Job::Single) => session(Act::Commit),
            (Stage::Fence, State::Undecided, _) => Some((Act::Fence, Via::Control)),
            (Stage::Finish, State::Open, Job::Release) => session(Act::Commit),
            (Stage::Finish, State::Prepared(via), _) => Some((Act::Finish(true), via)),
            _ => None,
        }
    }

    fn step(&self, part: &Part, act: Act, via: Via) -> Step {
        let gid = self.gid(part);
        let schema = &self.terms.schema;
        let known = || {
            self.backend
                .expect("the backend is asked before anything is prepared")
        };
        let named = || gid.as_ref().expect("names follow from the backend");
        let sql = match act {
            Act::Ask => text::ask(schema),
            Act::Prepare => text::prepare(named()),
            Act::Decide => text::decide(schema, self.terms.id, known(), &self.prepared_names()),
            Act::Commit => "COMMIT".into(),
            Act::Rollback => "ROLLBACK".into(),
            Act::Finish(commit) => text::finish(named(), commit),
            Act::Fence => {
                let wait = u128::from(self.terms.fence_wait);
                text::fence(schema, self.terms.id, known(), wait)
            }
        };
        Step {
            shard: part.participant.shard,
            via,
            act,
            gid: gid.filter(|_| matches!(act, Act::Prepare | Act::Finish(_))),
            sql,
        }
    }

    fn prepared_names(&self) -> Vec<Label> {
        let prepared = self.parts.iter().filter(|part| part.job == Job::Prepare);
        prepared.map(|part| part.participant.name.clone()).collect()
    }

    fn gid(&self, part: &Part) -> Option<Gid> {
        let decider = self.parts.iter().find(|part| part.job == Job::Decide)?;
        Some(Gid {
            router: self.terms.router.clone(),
            id: self.terms.id,
            decider: decider.participant.name.clone(),
            own: part.participant.name.clone(),
            backend: self.backend?,
        })
    }

    fn fail(&mut self, cause: Cause) {
        // The first cause is the one that the client hears of.
        if matches!(
            self.stage,
            Stage::Ask | Stage::Prepare | Stage::Decide | Stage::Fence
        ) {
            self.stage = Stage::Undo(cause);
        }
    }

    fn refuse(&mut self, shard: ShardId, sqlstate: &str, idle: bool) -> State {
        let sqlstate = sqlstate.to_owned();
        self.fail(Cause::Refused { shard, sqlstate });
        match idle {
            true => State::Done,
            false => State::Open,
        }
    }

    fn asked(&mut self, shard: ShardId, reply: &Reply) -> State {
        match reply {
            Reply::Done { row, .. } => {
                match row.as_deref().and_then(Backend::parse) {
                    Some(backend) => {
                        self.backend = Some(backend);
                        self.stage = Stage::Prepare;
                    }
                    None => self.fail(Cause::Strange { shard }),
                }
                State::Open
            }
            Reply::Refused { sqlstate, idle } => self.refuse(shard, sqlstate, *idle),
            Reply::Lost => {
                self.fail(Cause::Lost { shard });
                State::Done
            }
        }
    }

    fn prepared(&mut self, index: usize, reply: &Reply) -> State {
        let shard = self.parts[index].participant.shard;
        match reply {
            Reply::Done { tag, .. } if tag == "PREPARE TRANSACTION" => {
                self.parts[index].acknowledged = true;
                State::Prepared(Via::Session)
            }
            Reply::Done { tag, .. } if tag == "ROLLBACK" => {
                self.fail(Cause::RolledBack { shard });
                State::Done
            }
            Reply::Refused { sqlstate, idle } => self.refuse(shard, sqlstate, *idle),
            Reply::Done { .. } | Reply::Lost => {
                self.fail(Cause::Lost { shard });
                State::Perhaps
            }
        }
    }

    fn decided(&mut self, shard: ShardId, reply: &Reply) -> State {
        match reply {
            Reply::Done { tag, .. } if tag == "COMMIT" => {
                self.stage = Stage::Finish;
                State::Done
            }
            Reply::Done { tag, .. } if tag == "ROLLBACK" => {
                self.fail(Cause::RolledBack { shard });
                State::Done
            }
            Reply::Refused { sqlstate, idle } => self.refuse(shard, sqlstate, *idle),
            Reply::Done { .. } | Reply::Lost => {
                self.stage = Stage::Fence;
                State::Undecided
            }
        }
    }

    fn committed(&mut self, index: usize, reply: &Reply) -> State {
        let shard = self.parts[index].participant.shard;
        let single = self.parts[index].job == Job::Single;
        match reply {
            Reply::Done { tag, .. } if tag == "COMMIT" => {
                if single {
                    self.stage = Stage::Finish;
                }
            }
            Reply::Done { tag, .. } if tag == "ROLLBACK" => {
                self.before(index, Cause::RolledBack { shard })
            }
            Reply::Refused { sqlstate, .. } => {
                let sqlstate = sqlstate.clone();
                self.before(index, Cause::Refused { shard, sqlstate });
            }
            Reply::Done { .. } | Reply::Lost if single => self.stage = Stage::Leave,
            Reply::Done { .. } | Reply::Lost if self.terms.serializable => {
                self.before(index, Cause::Lost { shard });
            }
            // Nobody can tell how a part that only read has ended.
            Reply::Done { .. } | Reply::Lost => {}
        }
        State::Done
    }

    /// A part was not committed: that counts if the decision is not on its way.
    fn before(&mut self, index: usize, cause: Cause) {
        let single = self.parts[index].job == Job::Single;
        if single || matches!(self.stage, Stage::Ask | Stage::Prepare) {
            self.fail(cause);
        }
    }

    fn finished(&mut self, index: usize, commit: bool, via: Via, reply: &Reply) -> State {
        let part = &self.parts[index];
        let expected = match commit {
            true => "COMMIT PREPARED",
            false => "ROLLBACK PREPARED",
        };
        match reply {
            Reply::Done { tag, .. } if tag == expected => {
                self.undone |= !commit;
                State::Done
            }
            // It was prepared under this name, so somebody else has finished it, in the only way there was.
            Reply::Refused { sqlstate, .. }
                if sqlstate == sqlstate::UNDEFINED_OBJECT && part.acknowledged =>
            {
                State::Done
            }
            // What is missing now may be prepared in a moment, by a server that nobody listens to.
            _ => match via {
                Via::Session => State::Prepared(Via::Control),
                Via::Control => State::Owed,
            },
        }
    }

    fn fenced(&mut self, shard: ShardId, reply: &Reply) -> State {
        let row = match reply {
            Reply::Done { row, .. } => row.as_deref(),
            Reply::Refused { .. } | Reply::Lost => None,
        };
        match row {
            Some("commit") => self.stage = Stage::Finish,
            Some("abort") => {
                self.vanished = true;
                self.fail(Cause::Lost { shard });
            }
            _ => self.stage = Stage::Leave,
        }
        State::Done
    }

    /// Goes on to the next stage when nothing of this one is missing.
    fn advance(&mut self) {
        let waits = |part: &Part| {
            let early = match part.job {
                Job::Prepare => true,
                Job::Read => self.terms.serializable,
                Job::Release | Job::Decide | Job::Single => false,
            };
            early && matches!(part.state, State::Open | State::Sent(..))
        };
        if self.stage == Stage::Prepare && !self.parts.iter().any(waits) {
            let decides = |part: &Part| matches!(part.job, Job::Decide | Job::Single);
            self.stage = match self.parts.iter().any(decides) {
                true => Stage::Decide,
                false => Stage::Finish,
            };
        }
        if self.stage == Stage::Leave {
            for part in &mut self.parts {
                if matches!(part.state, State::Prepared(_) | State::Perhaps) {
                    part.state = State::Owed;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
