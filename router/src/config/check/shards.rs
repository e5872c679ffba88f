//! Slots: each belongs to exactly one shard. And the home shard: there is exactly one.

use std::ops::RangeInclusive;

use crate::config::names::{SLOTS, ServerAddress};
use crate::config::pool::Freshness;
use crate::config::problem::{Findings, suggest};
use crate::config::rules::Level;
use crate::config::shards::{
    Engine, PatroniApi, ROUTER, ServerTls, Shard, ShardReads, WrittenShard,
};
use crate::config::value::At;
use mothership_shardmap::Label;

use super::duplicates;

/// More shards than this are a mistake: each costs pools and control connections.
const MAX_SHARDS: usize = 1_024;

pub(super) fn check(written: Vec<WrittenShard>, findings: &mut Findings) -> Vec<Shard> {
    if written.is_empty() {
        findings.add(
            0,
            "there is no shard",
            "add a [[shard]] with a name and a [[shard.server]] with its address",
        );
    }
    if let Some(extra) = written.get(MAX_SHARDS) {
        findings.add(
            extra.name.offset,
            format!("there are more than {MAX_SHARDS} shards"),
            "use fewer, larger shards",
        );
        return Vec::new();
    }
    duplicates("shards", written.iter().map(|shard| &shard.name), findings);
    written.iter().for_each(|shard| reads(shard, findings));
    let (written, documents): (Vec<_>, Vec<_>) = written
        .into_iter()
        .partition(|shard| shard.engine.value == Engine::Postgresql);
    documents
        .iter()
        .for_each(|shard| of_documents(shard, findings));
    if written.is_empty() && !documents.is_empty() {
        without_postgres(&documents, findings);
        let documents = documents
            .into_iter()
            .map(|shard| finished(shard, Vec::new(), false));
        return std::iter::once(Shard::router()).chain(documents).collect();
    }
    let slots = slots(&written, findings);
    let home = home(&written, findings);
    let shards = written.into_iter().zip(slots).enumerate();
    let shards = shards.map(|(index, (shard, slots))| finished(shard, slots, index == home));
    // Behind the others, which have the numbers that everything else counts by.
    let documents = documents
        .into_iter()
        .map(|shard| finished(shard, Vec::new(), false));
    shards.chain(documents).collect()
}

/// What cannot be where the router stands for the home shard.
fn without_postgres(documents: &[WrittenShard], findings: &mut Findings) {
    let taken = |shard: &&WrittenShard| shard.name.value.as_str() == ROUTER;
    if let Some(shard) = documents.iter().find(taken) {
        findings.add(
            shard.name.offset,
            format!("a shard is called `{ROUTER}`"),
            "without a shard of PostgreSQL that is what the router calls itself: give it another name",
        );
    }
}

/// What a shard of MongoDB cannot have.
fn of_documents(shard: &WrittenShard, findings: &mut Findings) {
    let name = &shard.name.value;
    let mut stray = |at: usize, what: &str, fix: &str| {
        findings.add(
            at,
            format!("shard `{name}` of MongoDB has {what}"),
            fix.to_owned(),
        );
    };
    if let Some(home) = shard.home.as_ref().filter(|home| home.value) {
        stray(home.offset, "`home`", "let a shard of PostgreSQL be it");
    }
    if shard.slots.is_some() {
        stray(
            shard.name.offset,
            "`slots`",
            "each table divides them among the shards that it names",
        );
    }
    if !shard.patroni.is_empty() {
        stray(
            shard.name.offset,
            "`patroni`",
            "its servers say themselves who the primary is",
        );
    }
    for server in &shard.server {
        let address = &server.address;
        if matches!(address.value, ServerAddress::Unix(_)) {
            stray(address.offset, "a unix socket", "give a host and a port");
        }
        if matches!(server.tls, ServerTls::VerifyCa) {
            let fix = "set it to \"verify-full\", or to \"require\" for any certificate";
            stray(address.offset, "`tls` = \"verify-ca\"", fix);
        }
    }
    if cfg!(not(feature = "mongo")) {
        let fix = "use a build that has it (cargo's feature \"mongo\", which is on by default)";
        stray(shard.engine.offset, "no driver in this build", fix);
    }
}

fn finished(written: WrittenShard, slots: Vec<RangeInclusive<u16>>, home: bool) -> Shard {
    Shard {
        name: written.name.value,
        engine: written.engine.value,
        slots,
        home,
        is_router: false,
        servers: written.server,
        control_user: written.control_user,
        control_password: written.control_password,
        trust_single: written.trust_single,
        patroni: PatroniApi {
            urls: written.patroni,
            user: written.patroni_user,
            password: written.patroni_password,
            ca: written.patroni_ca,
        },
        reads: ShardReads {
            by: written.reads,
            level: written.freshness.map(|freshness| Level {
                freshness,
                max_lag: written.max_lag.map(|limit| limit.value),
            }),
            label: written.label.map(|label| label.value),
        },
    }
}

/// What a shard says of its reads that cannot be.
fn reads(shard: &WrittenShard, findings: &mut Findings) {
    let name = &shard.name.value;
    let bounded = shard.freshness == Some(Freshness::Bounded);
    if let Some(limit) = shard.max_lag.as_ref().filter(|_| !bounded) {
        let what = format!("shard `{name}` has `max_lag`");
        findings.add(
            limit.offset,
            what,
            "it belongs to `freshness = \"bounded\"`",
        );
    }
    if let Some(label) = &shard.label {
        has_label(label, std::slice::from_ref(shard), findings);
    }
}

/// A label that servers of these shards have. What tags members of MongoDB have is not known yet.
pub(super) fn has_label(label: &At<Label>, shards: &[WrittenShard], findings: &mut Findings) {
    let servers = shards.iter().flat_map(|shard| &shard.server);
    let known: Vec<&str> = servers
        .flat_map(|server| &server.labels)
        .map(|label| label.as_str())
        .collect();
    let may_be_tag = label.value.as_str().contains('-')
        && shards
            .iter()
            .any(|shard| shard.engine.value == Engine::Mongodb);
    if !may_be_tag && !known.contains(&label.value.as_str()) {
        let what = format!("no server has the label `{}`", label.value);
        let fix = match known.as_slice() {
            [] => "add it to the `labels` of a server".to_owned(),
            known => suggest(label.value.as_str(), known.iter().copied()),
        };
        findings.add(label.offset, what, fix);
    }
}

/// The position of the home shard: the one that says so, else the first.
fn home(written: &[WrittenShard], findings: &mut Findings) -> usize {
    let says = |shard: &WrittenShard| shard.home.as_ref().is_some_and(|home| home.value);
    let homes: Vec<usize> = (0..written.len())
        .filter(|index| says(&written[*index]))
        .collect();
    for second in homes.iter().skip(1) {
        let shard = &written[*second];
        let first = &written[homes[0]].name.value;
        let at = shard
            .home
            .as_ref()
            .map_or(shard.name.offset, |home| home.offset);
        findings.add(
            at,
            format!("shard `{}` is a second home", shard.name.value),
            format!("`{first}` is home already"),
        );
    }
    homes.first().copied().unwrap_or(0)
}

fn slots(written: &[WrittenShard], findings: &mut Findings) -> Vec<Vec<RangeInclusive<u16>>> {
    let given = written.iter().filter(|shard| shard.slots.is_some()).count();
    if given == 0 {
        return (0..written.len())
            .map(|index| vec![even(index, written.len())])
            .collect();
    }
    for shard in written.iter().filter(|shard| shard.slots.is_none()) {
        let what = format!(
            "shard `{}` has no slots while others have",
            shard.name.value
        );
        findings.add(
            shard.name.offset,
            what,
            "give `slots` to every shard (`slots = []` for none) or to none",
        );
    }
    if given == written.len() {
        covered(written, findings);
    }
    let ranges = |shard: &WrittenShard| {
        shard
            .slots
            .iter()
            .flatten()
            .map(|range| range.value.0.clone())
            .collect()
    };
    written.iter().map(ranges).collect()
}

/// The part of shard `index` of `count`, as even as whole slots allow.
fn even(index: usize, count: usize) -> RangeInclusive<u16> {
    let cut = |index: usize| u16::try_from(index * usize::from(SLOTS) / count).unwrap_or(SLOTS);
    cut(index)..=cut(index + 1) - 1
}

fn covered(written: &[WrittenShard], findings: &mut Findings) {
    let mut ranges: Vec<(u16, u16, usize, &Label)> = Vec::new();
    for shard in written {
        for range in shard.slots.iter().flatten() {
            ranges.push((
                *range.value.0.start(),
                *range.value.0.end(),
                range.offset,
                &shard.name.value,
            ));
        }
    }
    ranges.sort();
    // The next slot that nobody owns yet, and who reached furthest.
    let mut next = 0;
    let mut owner: Option<&Label> = None;
    for (first, last, offset, shard) in ranges {
        match owner {
            Some(owner) if first < next => {
                let both = spell(first, last.min(next - 1));
                findings.add(
                    offset,
                    format!("{both} to shard `{owner}` and to shard `{shard}`"),
                    "give each slot to one shard",
                );
            }
            _ if first > next => missing(next, first - 1, offset, findings),
            _ => {}
        }
        if last >= next {
            next = last + 1;
            owner = Some(shard);
        }
    }
    if next < SLOTS {
        let at = written.last().map_or(0, |shard| shard.name.offset);
        missing(next, SLOTS - 1, at, findings);
    }
}

fn missing(first: u16, last: u16, at: usize, findings: &mut Findings) {
    findings.add(
        at,
        format!("{} to no shard", spell(first, last)),
        format!("the shards together own 0-{}", SLOTS - 1),
    );
}

fn spell(first: u16, last: u16) -> String {
    if first == last {
        format!("slot {first} belongs")
    } else {
        format!("slots {first}-{last} belong")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_parts_cover_every_slot_once_for_any_number_of_shards() {
        for count in 1..=MAX_SHARDS {
            let mut next = 0;
            for index in 0..count {
                let part = even(index, count);
                assert_eq!(*part.start(), next, "{count} shards");
                assert!(
                    part.len() >= usize::from(SLOTS) / count
                        && part.len() <= usize::from(SLOTS).div_ceil(count)
                );
                next = part.end() + 1;
            }
            assert_eq!(next, SLOTS);
        }
    }
}
