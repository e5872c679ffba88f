//! SHOW TRANSACTIONS: parts of transactions over several shards that are not finished.

use super::Facts;
use crate::console::table::{Row, Value, row};

pub(super) fn transactions(facts: &Facts) -> Vec<Row> {
    let now = facts.now;
    let left = facts.swept.left.iter().map(|part| {
        let prepared = now.instant.checked_sub(part.age);
        row![
            part.gid.to_string(),
            part.site.shard.as_str(),
            part.site.database.as_str(),
            part.owner.as_str(),
            prepared.map(|at| now.text(at)),
            decision(facts, part).unwrap_or(part.why.text()),
        ]
    });
    // What this router has committed and recovery has not seen: the shard cannot be reached, or was not asked yet.
    let all = facts.doubts.iter();
    let doubts = all.filter(|(site, id, _)| !facts.swept.has_left(site, *id));
    let doubts = doubts.map(|(site, id, _)| {
        row![
            id.to_string(),
            site.shard.as_str(),
            site.database.as_str(),
            Value::Null,
            Value::Null,
            COMMITTED,
        ]
    });
    left.chain(doubts).collect()
}

const COMMITTED: &str = "committed; the shard has not finished its part";

/// What this router itself has decided.
fn decision(facts: &Facts, part: &crate::commit::recover::InDoubt) -> Option<&'static str> {
    let known = |(site, id, _): &(_, _, _)| *site == part.site && *id == part.gid.id;
    facts.doubts.iter().any(known).then_some(COMMITTED)
}
