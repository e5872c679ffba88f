//! Decides what recovery does with transactions that a router or a server left prepared, and which decisions may be
//! forgotten. Pure: observations come in, verdicts go out. `recover.rs` asks the servers and carries the verdicts out.
//!
//! Everything rests on two rules:
//!
//! 1. Nothing prepared is finished before its outcome is final. The fence, which makes it final, is asked last. So old
//!    observations do no harm: they only decide whether to ask.
//! 2. A decision is forgotten only when nobody can ask for it any more. For a commit: no cluster that took part holds
//!    anything prepared of it. This was seen after the decision was seen, and again after the synchronous standbys of
//!    these clusters had everything up to then: one of them may be the primary later. For an abort: the backend is gone
//!    that alone could still commit.

use super::doubt::Site;
use super::gid::{Backend, Gid, Place, TransactionId};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How long recovery waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long a prepared transaction is left to its own router if it is decided, or if nobody can decide it any more.
    pub short: Duration,
    /// How long it is left to its own router if that router may still decide it; longer than preparing may take.
    pub long: Duration,
    /// How long decisions to commit are kept at least, for servers that are restored from a replica that lagged.
    pub keep: Duration,
}

/// A transaction that is prepared under a name of the router's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedTransaction {
    /// Its name.
    pub gid: Gid,
    /// The role that may finish it, besides superusers.
    pub owner: String,
    /// The time since it was prepared.
    pub age: Duration,
    /// It belongs to the database that was asked, not to another database of the cluster.
    pub here: bool,
}

/// A row of the decision table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The transaction.
    pub id: TransactionId,
    /// The backend that decided.
    pub backend: Backend,
    /// Commit or abort.
    pub committed: bool,
    /// The shards that were prepared.
    pub participants: Participants,
    /// The time since the decision.
    pub age: Duration,
    /// For aborts only: the backend still exists, or may exist.
    pub alive: bool,
}

/// The shards that a decision names. Every role of a database may write a row for its own backend, so it may name
/// anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Participants {
    /// The names of the shards.
    Shards(Vec<String>),
    /// The list is longer than all names that this router knows together, so it names others. It was not read.
    Strange,
}

impl Participants {
    /// Whether this shard is one of them.
    pub fn include(&self, shard: &str) -> bool {
        match self {
            Self::Shards(names) => names.iter().any(|name| name == shard),
            Self::Strange => false,
        }
    }
}

/// How long a decision is kept that names a shard which nobody knows. A shard may be taken out of a configuration and
/// come back with something prepared. But clients can make such rows, too, so they must not stay for ever.
const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3_600);

/// What is known of the database that decides about a prepared transaction, and of the backend that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decider {
    /// The database in its name is none of this configuration.
    Unknown,
    /// The database did not answer.
    Unreachable,
    /// The database answered.
    Seen {
        /// What was decided, if anything.
        outcome: Option<bool>,
        /// The backend still exists, or may exist.
        alive: bool,
    },
}

/// Why a prepared transaction is left alone for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaveReason {
    /// Its router may be about to finish it.
    Young,
    /// The deciding database is none that this router knows.
    DeciderUnknown,
    /// The deciding shard cannot be reached.
    DeciderUnreachable,
    /// The deciding backend is committing at this moment.
    Deciding,
    /// The control role may not finish it.
    Denied,
    /// Another router is finishing it, or its shard has become unreachable.
    Busy,
}

impl LeaveReason {
    /// The reason in words, for the console and logs.
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

/// What to do with a prepared transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Leave it alone, and look again later.
    Wait(LeaveReason),
    /// Commit it (true) or roll it back.
    Finish(bool),
    /// Make the outcome final first.
    Fence,
}

/// Decides about a prepared transaction.
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
    match outcome {
        // The decision may be on no standby yet. The fence waits for that.
        None | Some(true) => Verdict::Fence,
        Some(false) => Verdict::Finish(false),
    }
}

/// What was seen at all sites (databases on shards). All decisions were read first, and then what is prepared.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// The sites that answered both queries.
    pub seen: HashMap<Site, SeenSite>,
}

/// What one site answered.
#[derive(Clone, Debug)]
pub struct SeenSite {
    /// Which database it is.
    pub place: Place,
    /// The rows of its decision table, or some of them.
    pub decisions: Vec<Decision>,
    /// All that is prepared under names of the router's form in the whole cluster. It was read after all decisions.
    pub held: Vec<PreparedTransaction>,
}

impl Look {
    /// The site that is this database.
    pub fn at(&self, place: Place) -> Option<&Site> {
        let mut sites = self.seen.iter().filter(|(_, seen)| seen.place == place);
        sites.next().map(|(site, _)| site)
    }

    /// All prepared transactions that have to be judged, each with its site.
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

    /// Whether no part of a committed transaction is still prepared.
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

/// The ids of the transactions that are prepared in a site's own database.
pub fn ids(seen: &SeenSite) -> HashSet<TransactionId> {
    own(seen).map(|held| held.gid.id).collect()
}

#[cfg(test)]
mod tests;
