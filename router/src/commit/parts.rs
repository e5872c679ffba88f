//! Who takes part in a commit, and whether they can be together in one.
//!
//! Pure. The session keeps a [`Participant`] for each shard that its transaction
//! has joined and asks [`may_join`] before a statement that would add one, or make
//! one do more than before.

use super::gid::{Backend, TransactionId};
use crate::config::{Label, Name};
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;

/// What a transaction has done on one shard. In doubt: more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// It has read, and holds nothing but a snapshot.
    Read,
    /// It holds locks of rows, tables or its own making, and has written nothing.
    Lock,
    /// It has written, or may have, or has called a function that might.
    Write,
}

/// One shard's part of a transaction, open and not failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// What the session calls the shard.
    pub shard: ShardId,
    /// What the configuration calls it.
    pub name: Label,
    /// What has been done there.
    pub work: Work,
    /// False with temporary tables, LISTEN or NOTIFY, WITH HOLD cursors, exported snapshots (PREPARE TRANSACTION), and
    /// on MongoDB.
    pub preparable: bool,
    /// The backend of its connection, if that was asked before. It is worth keeping as long as the connection.
    pub backend: Option<Backend>,
}

/// What a commit must know besides.
#[derive(Clone, Debug)]
pub struct Terms {
    /// This router's part of names.
    pub router: Label,
    /// The schema with the decision table.
    pub schema: Name,
    /// A new random id.
    pub id: TransactionId,
    /// True if the transaction is SERIALIZABLE.
    pub serializable: bool,
    /// The setting of that name.
    pub two_phase: bool,
    /// How long an unknown outcome is waited for, in milliseconds.
    pub fence_wait: u32,
}

/// Why shards cannot be together in one transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Two parts that cannot be prepared.
    #[error("neither {first} nor {second} can be prepared")]
    Unpreparable {
        /// One of them.
        first: Label,
        /// The other.
        second: Label,
    },
    /// Two-phase commit is switched off.
    #[error("writes on {first} and {second} with two-phase commit off")]
    OnePhase {
        /// One shard that is written to.
        first: Label,
        /// Another one.
        second: Label,
    },
}

impl Refusal {
    /// What the client is told.
    pub fn report(&self) -> Report {
        match self {
            Self::Unpreparable { first, second } => Report::error(
                sqlstate::FEATURE_NOT_SUPPORTED,
                "transaction cannot be committed on two shards that cannot be prepared",
            )
            .detail(format!(
                "on shards \"{first}\" and \"{second}\" it has used temporary tables, LISTEN, \
                 NOTIFY, a cursor WITH HOLD, an exported snapshot or MongoDB"
            ))
            .hint("Use these on one shard only, or commit in between."),
            Self::OnePhase { first, second } => Report::error(
                sqlstate::FEATURE_NOT_SUPPORTED,
                "transaction writes on more than one shard",
            )
            .detail(format!(
                "it writes on shards \"{first}\" and \"{second}\", and transactions.two_phase is off"
            ))
            .hint("Commit in between, or set transactions.two_phase to true."),
        }
    }
}

/// Says whether a transaction can be committed with these parts. The session asks
/// before the statement that would make `participants` so.
///
/// # Errors
/// What stands against it.
pub fn may_join(participants: &[Participant], terms: &Terms) -> Result<(), Refusal> {
    let writers = writers(participants, terms.serializable);
    if let [first, second, ..] = writers[..]
        && !terms.two_phase
    {
        let (first, second) = (first.name.clone(), second.name.clone());
        return Err(Refusal::OnePhase { first, second });
    }
    let mut unpreparable = writers.iter().filter(|part| !part.preparable);
    match (unpreparable.next(), unpreparable.next()) {
        (Some(first), Some(second)) => Err(Refusal::Unpreparable {
            first: first.name.clone(),
            second: second.name.clone(),
        }),
        _ => Ok(()),
    }
}

/// The parts that must all commit or none. Under SERIALIZABLE a lock is kept until
/// all have passed their checks, so its holder is prepared as well.
pub(super) fn writers(participants: &[Participant], serializable: bool) -> Vec<&Participant> {
    let writes = participants.iter().any(|part| part.work == Work::Write);
    let least = match serializable {
        true => Work::Lock,
        false => Work::Write,
    };
    let ours = |part: &&Participant| writes && part.work >= least;
    participants.iter().filter(ours).collect()
}

/// Who decides: nobody with fewer than two writers, else the one that cannot be
/// prepared, else one whose backend is known, else the first.
pub(super) fn decider(participants: &[Participant], writers: &[ShardId]) -> Option<ShardId> {
    if writers.len() < 2 {
        return None;
    }
    let writers = participants
        .iter()
        .filter(|part| writers.contains(&part.shard));
    writers
        .min_by_key(|part| (part.preparable, part.backend.is_none(), part.shard))
        .map(|part| part.shard)
}
