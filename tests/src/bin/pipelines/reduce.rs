//! Makes a conversation shorter while the same goes wrong in it.

use crate::compare::Verdict;
use crate::play::play;
use crate::sent::{Group, Sent};
use crate::world::World;
use std::time::{Duration, Instant};

/// How long is spent on one conversation.
const PATIENCE: Duration = Duration::from_secs(60);

/// The shortest that was found. What went wrong may have left something in the world, so each attempt that goes wrong
/// may need a new one.
pub fn reduce(world: &mut World, groups: &[Group], kind: &str) -> Vec<Group> {
    let begun = Instant::now();
    let mut best = groups.to_vec();
    let mut shrunk = true;
    while shrunk {
        shrunk = false;
        for candidate in shorter(&best) {
            if begun.elapsed() > PATIENCE {
                return best;
            }
            let verdict = play(world, &candidate);
            if matches!(&verdict, Verdict::Wrong(found) if found.stays()) {
                *world = World::new(world.layout());
            }
            if matches!(&verdict, Verdict::Wrong(found) if found.kind == kind) {
                best = candidate;
                shrunk = true;
                break;
            }
        }
        world.reset();
    }
    best
}

/// Each way to leave something out: groups, then messages, then statements of a text.
fn shorter(groups: &[Group]) -> Vec<Vec<Group>> {
    let mut found = Vec::new();
    for at in (0..groups.len()).rev() {
        let mut fewer = groups.to_vec();
        fewer.remove(at);
        found.push(fewer);
    }
    for (at, group) in groups.iter().enumerate() {
        // What follows the last query or Sync belongs to a COPY, and the group must end with one of these.
        for message in 0..group.len() {
            let mut fewer = groups.to_vec();
            fewer[at].remove(message);
            if is_whole(&fewer[at]) {
                found.push(fewer);
            }
            if let Sent::Query(sql) = &group[message] {
                let parts: Vec<&str> = sql.split("; ").collect();
                for part in 0..parts.len() {
                    let mut rest = parts.clone();
                    rest.remove(part);
                    if rest.is_empty() {
                        continue;
                    }
                    let mut fewer = groups.to_vec();
                    fewer[at][message] = Sent::Query(rest.join("; "));
                    found.push(fewer);
                }
            }
        }
    }
    found
}

/// Whether the group ends as groups do, and its data follow a COPY.
fn is_whole(group: &[Sent]) -> bool {
    let extended = group
        .iter()
        .rposition(|sent| sent.is_extended() && !is_data(sent));
    let sync = group.iter().rposition(|sent| *sent == Sent::Sync);
    let ends = match extended {
        Some(_) => extended < sync,
        None => group.iter().any(|sent| !sent.is_extended()),
    };
    // Data without its end, or without its beginning, would make the server wait or be something else.
    let copies = |sent: &&Sent| match sent {
        Sent::Query(sql) | Sent::Parse { sql, .. } => sql.contains("FROM STDIN"),
        _ => false,
    };
    let ended = |sent: &&Sent| matches!(sent, Sent::CopyDone | Sent::CopyFail);
    ends && group.iter().filter(copies).count() == group.iter().filter(ended).count()
}

fn is_data(sent: &Sent) -> bool {
    matches!(sent, Sent::CopyData(_) | Sent::CopyDone | Sent::CopyFail)
}
