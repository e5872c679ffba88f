//! What is to be done with what somebody left behind. Pure: observations in,
//! verdicts out; the asking and doing is in `recover.rs`.
//!
//! Two rules carry everything. Nothing prepared is finished before its outcome is
//! final, and what makes it final (the fence) is asked last, so that old
//! observations do no harm: they decide only whether to ask. And what is
//! forgotten can never be asked for again: a commit when no cluster that took part
//! holds anything prepared of it, seen after the decision was seen; an abort when
//! the backend is gone that alone could still commit.

use super::doubt::Site;
use super::gid::{Backend, Gid, Place, TransactionId};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Limits of recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// What is decided, or can be decided by nobody any more, is left to its own router so long.
    pub short: Duration,
    /// What its own router may still decide is left to it so long; longer than preparing may take.
    pub long: Duration,
    /// Commits are remembered at least so long, for servers that are restored from a replica that lagged.
    pub keep: Duration,
}

/// Something prepared under a name of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedTransaction {
    /// Its name.
    pub gid: Gid,
    /// The role that may finish it, besides superusers.
    pub owner: String,
    /// Since it was prepared.
    pub age: Duration,
    /// It belongs to the database that was asked, not to another one of the cluster.
    pub here: bool,
}

/// A row of the decision table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The transaction.
    pub id: TransactionId,
    /// Who decided.
    pub backend: Backend,
    /// Commit or abort.
    pub committed: bool,
    /// The shards that were prepared.
    pub participants: Participants,
    /// Since it was made.
    pub age: Duration,
    /// Aborts only: the backend is there, or may be.
    pub alive: bool,
}

/// Whom a decision names. Every role of a database may write a row for its own backend, so it may name anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Participants {
    /// These, by their names.
    Shards(Vec<String>),
    /// Some that this router does not know: it is longer than all names that it knows. It was not read.
    Strange,
}

/// A decision that names a shard which nobody knows is kept so long: a shard may be taken out of a configuration and
/// come back, with something prepared. A client can make such rows, and they must not stay for ever.
const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3_600);

/// What is known of the decider of something prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decider {
    /// No site of ours is the database that its name says.
    Unknown,
    /// It did not answer.
    Unreachable,
    /// It did.
    Seen {
        /// What was decided, if anything.
        outcome: Option<bool>,
        /// The backend is there, or may be.
        alive: bool,
    },
}

/// Why something prepared is left as it is for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaveReason {
    /// Its router may be about to finish it.
    Young,
    /// The decider is on no site that this router knows.
    DeciderUnknown,
    /// The deciding shard cannot be reached.
    DeciderUnreachable,
    /// The decider is just committing.
    Deciding,
    /// The control role may not finish it.
    Denied,
    /// Another one is finishing it, or its shard went away.
    Busy,
}

impl LeaveReason {
    /// For the console and logs.
    pub fn text(self) -> &'static str {
        match self {
            Self::Young => "its router may be about to finish it",
            Self::DeciderUnknown => "the deciding database is none of this configuration",
            Self::DeciderUnreachable => "the deciding shard cannot be reached",
            Self::Deciding => "the decision is being made",
            Self::Denied => "the control role may not finish it",
            Self::Busy => "its shard did not finish it yet",
        }
    }
}

/// What to do with something prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Leave it, and look again.
    Wait(LeaveReason),
    /// Commit it (true) or roll it back.
    Finish(bool),
    /// Make the outcome final first.
    Fence,
}

/// Judges something prepared.
pub fn judge(held: &PreparedTransaction, decider: Decider, patience: &Patience) -> Verdict {
    let Decider::Seen { outcome, alive } = decider else {
        return Verdict::Wait(match decider {
            Decider::Unknown => LeaveReason::DeciderUnknown,
            _ => LeaveReason::DeciderUnreachable,
        });
    };
    let limit = match outcome.is_none() && alive {
        true => patience.long,
        false => patience.short,
    };
    if held.age < limit {
        return Verdict::Wait(LeaveReason::Young);
    }
    outcome.map_or(Verdict::Fence, Verdict::Finish)
}

/// What the look at all sites has shown: first all decisions were read, then what is prepared.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Sites that answered both questions.
    pub seen: HashMap<Site, SeenSite>,
}

/// What one site said.
#[derive(Clone, Debug)]
pub struct SeenSite {
    /// Which database it is.
    pub place: Place,
    /// The rows of its decision table, or some of them.
    pub decisions: Vec<Decision>,
    /// All that is prepared under our names in the whole cluster, asked after all decisions were read.
    pub held: Vec<PreparedTransaction>,
}

impl Look {
    /// The site that is this database.
    pub fn at(&self, place: Place) -> Option<&Site> {
        let mut sites = self.seen.iter().filter(|(_, seen)| seen.place == place);
        sites.next().map(|(site, _)| site)
    }

    /// Everything that is to be judged, with its site.
    pub fn held(&self) -> impl Iterator<Item = (&Site, &PreparedTransaction)> {
        let of = |(site, seen)| own(seen).map(move |held| (site, held));
        self.seen.iter().flat_map(of)
    }

    /// The decisions of a site that may be forgotten.
    pub fn forgettable<'a>(
        &'a self,
        site: &Site,
        patience: &'a Patience,
    ) -> impl Iterator<Item = &'a Decision> {
        let seen = self.seen.get(site);
        seen.into_iter().flat_map(move |seen| {
            let decisions = seen.decisions.iter();
            decisions.filter(move |decision| match decision.committed {
                true => decision.age >= patience.keep && self.finished(decision),
                false => !decision.alive,
            })
        })
    }

    /// Whether nothing is prepared any more of a committed transaction.
    fn finished(&self, decision: &Decision) -> bool {
        let of = |gid: &Gid| gid.id == decision.id && gid.backend == decision.backend;
        let seen = |name: &String| self.seen.keys().any(|site| site.shard == *name);
        let known = match &decision.participants {
            Participants::Shards(names) => names.iter().all(seen),
            Participants::Strange => false,
        };
        (known || decision.age >= ABANDONED)
            && !self
                .seen
                .values()
                .any(|site| site.held.iter().any(|held| of(&held.gid)))
    }
}

fn own(seen: &SeenSite) -> impl Iterator<Item = &PreparedTransaction> {
    seen.held.iter().filter(|held| held.here)
}

/// The transactions that a site's own database holds.
pub fn ids(seen: &SeenSite) -> HashSet<TransactionId> {
    own(seen).map(|held| held.gid.id).collect()
}

#[cfg(test)]
mod tests;
