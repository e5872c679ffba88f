//! The shard that a rule keeps a statement on, and whether the statement belongs there.
//!
//! Pure. A [`Pin`] is what the rules leave to [`route`](super::route()): the shard that
//! the rule names, and what the statement has to do with rows. Out comes the shard, or
//! [`Elsewhere`]: a statement is never answered without rows that belong to it.

use mothership_proto::report::sqlstate;
use mothership_shardmap::{Label, ShardId};

use super::refuse::Refusal;

/// A rule keeps a statement on a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The rule's name.
    pub rule: Label,
    /// The name of the shard.
    pub name: Label,
    /// The shard; None where no shard has that name, because rules and shards are of
    /// different configurations: then nothing belongs to it.
    pub shard: Option<ShardId>,
    /// What the statement is about.
    pub about: About,
}

/// What a statement is about, as far as tokens and a catalog tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// It is a query that names no table: every shard answers it, each for itself.
    NoTables,
    /// The session or the transaction, which have no rows anywhere.
    Session,
    /// Rows, or something that may be.
    Rows,
}

/// Where a statement would go without the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// To any shard, which all answer the same.
    Anywhere,
    /// To the home shard, because nothing leads elsewhere.
    Home(ShardId),
    /// To this one, by its keys.
    Keyed(ShardId),
    /// To several.
    Several,
}

impl Pin {
    /// The shard of a statement that would go to `place`.
    ///
    /// # Errors
    /// It does not belong to the shard of the rule.
    pub fn shard_of(&self, place: Place) -> Result<ShardId, Elsewhere> {
        let its_own = match (place, self.about) {
            (Place::Anywhere, _) | (Place::Home(_), About::NoTables) => self.shard,
            (Place::Home(home), About::Session) => return Ok(home),
            (Place::Home(shard) | Place::Keyed(shard), _) => {
                self.shard.filter(|pinned| *pinned == shard)
            }
            (Place::Several, _) => None,
        };
        its_own.ok_or_else(|| Elsewhere {
            rule: self.rule.clone(),
            shard: self.name.clone(),
        })
    }
}

/// The shard of a statement of a database without declared tables, for which nothing is
/// planned, and of a call of a function by its number: home, or that of the rule.
///
/// # Errors
/// It does not belong to the shard of the rule.
pub fn unplanned(home: ShardId, pin: Option<&Pin>) -> Result<ShardId, Elsewhere> {
    pin.map_or(Ok(home), |pin| pin.shard_of(Place::Home(home)))
}

/// A statement does not belong to the shard that a rule keeps it on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("statement does not belong to shard \"{shard}\"")]
pub struct Elsewhere {
    /// The rule.
    pub rule: Label,
    /// Its shard.
    pub shard: Label,
}

impl Elsewhere {
    /// The SQLSTATE for the client.
    pub const SQLSTATE: &str = sqlstate::FEATURE_NOT_SUPPORTED;

    /// The hint for the client.
    pub const HINT: &str = "A rule with the action \"shard\" is for statements without tables, with reference tables only, or with a key of that shard.";

    /// The detail for the client.
    pub fn detail(&self) -> String {
        format!(
            "Rule \"{}\" of the router keeps it there, but its rows are, or may be, elsewhere.",
            self.rule
        )
    }
}

/// Why a statement has no route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// The planner's reason.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A rule's.
    #[error(transparent)]
    Elsewhere(#[from] Elsewhere),
}
