//! Where a statement goes, once it has been walked: home, any shard, or the
//! shards that own the keys that its conditions allow (`finish`).
//!
//! Several shards are only for what `query` proved to be computed apart and for
//! joins along the whole key. Which shards the keys are on is asked of the map at
//! each Bind (`route`).

use super::condition::Cond;
use super::functions::{self, Call};
use super::query::Local;
use super::refuse::{Reason, Refusal, refuse};
use super::scope::{Analysis, Instance, Locks, Source};
use super::touches::Touches;
use super::{KeyedBy, LeafBy, LockScope, Merge, Plan, Role, Scatter, Single, SplitRows, Target};
use mothership_catalog::{LeafBound, Strategy};

/// The plan of a statement that has been walked. `target` is the instance that it writes to, if it writes.
pub fn finish(
    analysis: &Analysis<'_>,
    local: Local,
    target: Option<usize>,
) -> Result<Plan, Refusal> {
    let roots = match target {
        Some(target) => vec![target],
        None => analysis.sharded().map(|(index, _, _)| index).collect(),
    };
    finish_from(analysis, local, target, roots)
}

/// The same where each row of the whole is one of an instance among `roots`.
pub fn finish_from(
    analysis: &Analysis<'_>,
    local: Local,
    target: Option<usize>,
    roots: Vec<usize>,
) -> Result<Plan, Refusal> {
    if analysis.seen.copies {
        // No shard alone may do that.
        return refuse(Reason::ReferenceWrite);
    }
    let home = home_table(analysis);
    if let Some(refusal) = of_one_server(analysis, home.is_some()) {
        return Err(refusal);
    }
    let sharded: Vec<usize> = analysis.sharded().map(|(index, _, _)| index).collect();
    match (sharded.is_empty(), home, worst(analysis)) {
        (true, None, None) => Ok(reference_or_home(analysis, target)),
        (true, _, _) => Ok(Plan::Single(single(analysis, target, Target::Home))),
        (false, Some(name), _) => Err(Refusal::about(
            Reason::HomeAndSharded,
            format!("table \"{name}\""),
        )),
        (false, None, _) => by_keys(analysis, local, &sharded, (target, roots)),
    }
}

/// The plan of a statement that may run on one shard only, as `refusal` says; any plan without one.
pub fn on_one_shard(plan: Plan, refusal: Option<Refusal>) -> Result<Plan, Refusal> {
    let Some(refusal) = refusal else {
        return Ok(plan);
    };
    match plan {
        Plan::Single(single) => Ok(Plan::Single(Single {
            fallback: None,
            gather: None,
            otherwise: refusal,
            ..single
        })),
        Plan::Split(mut split) => match &mut split.rows {
            SplitRows::Values { whole, .. } => {
                whole.get_or_insert(refusal);
                Ok(Plan::Split(split))
            }
            SplitRows::Copy { .. } => Err(refusal),
        },
        Plan::Fill(_) => Ok(plan),
        _ => Err(refusal),
    }
}

/// The refusal of calls that belong to one server, or reach further than is known, beside rows that are elsewhere;
/// `at_home` if they are all made on the home shard.
pub fn of_one_server(analysis: &Analysis<'_>, at_home: bool) -> Option<Refusal> {
    let (call, name) = worst(analysis)?;
    let elsewhere = analysis.sharded().next().is_some();
    let reason = match call {
        Call::Anything => Reason::FunctionUnproven,
        _ if !elsewhere => return None,
        // The connection would take it to others.
        Call::Session => Reason::FunctionOfServer,
        _ if at_home => return None,
        Call::Home => Reason::FunctionUnproven,
        _ => Reason::FunctionOfServer,
    };
    Some(about_function(reason, name))
}

/// The call that reaches furthest, if it belongs to one server or reaches further than is known.
fn worst<'a>(analysis: &'a Analysis<'_>) -> Option<(Call, &'a str)> {
    let (call, name) = analysis.seen.calls.iter().next_back()?;
    (*call > Call::Volatile).then_some((*call, name.as_str()))
}

/// A table of the home shard that it reads, if it reads one.
pub fn home_table<'a>(analysis: &'a Analysis<'_>) -> Option<&'a String> {
    analysis.instances.iter().find_map(|i| match &i.source {
        Source::Home(name) => Some(name),
        _ => None,
    })
}

fn about_function(reason: Reason, name: &str) -> Refusal {
    Refusal::about(reason, functions::told("function ", name))
}

/// One shard; `target` is the instance that is written.
fn single(analysis: &Analysis<'_>, target: Option<usize>, shard: Target) -> Single {
    Single {
        target: shard,
        role: role(analysis, target.is_none()),
        fallback: None,
        gather: None,
        otherwise: Refusal::new(Reason::SeveralShards),
        unknown: analysis.seen.unknown.iter().cloned().collect(),
        locks_copies: analysis.seen.locks_copies && target.is_none(),
        touches: Touches::Anything,
    }
}

/// No sharded table and none of the home shard: reads of reference tables may go anywhere.
fn reference_or_home(analysis: &Analysis<'_>, target: Option<usize>) -> Plan {
    let seen = &analysis.seen;
    let mut instances = analysis.instances.iter();
    let anywhere = instances.any(|i| matches!(i.source, Source::Reference(_)))
        && target.is_none()
        && !seen.writes
        && seen.locks == Locks::No
        && !seen.calls.contains_key(&Call::Volatile);
    let shard = if anywhere {
        Target::AnyShard
    } else {
        Target::Home
    };
    Plan::Single(single(analysis, target, shard))
}

/// The shards that own the keys, by the conditions on each sharded instance.
fn by_keys(
    analysis: &Analysis<'_>,
    local: Local,
    sharded: &[usize],
    (target, roots): (Option<usize>, Vec<usize>),
) -> Result<Plan, Refusal> {
    let keyed = sharded.iter().filter_map(|i| keyed_by(analysis, *i));
    let mut keyed: Vec<KeyedBy> = keyed.collect();
    let pinned = keyed
        .iter()
        .all(|k| k.cond.is_point(k.sharded.columns.len()));
    let listed = keyed.iter().all(|k| k.cond != Cond::Any);
    let single = |keyed| single(analysis, target, Target::Keys(keyed));
    match merge(analysis, local, sharded, roots) {
        Ok((merge, root)) => {
            // The root's keys are those of every row; the other instances follow it.
            let root = sharded.iter().position(|i| *i == root).unwrap_or(0);
            keyed.swap(0, root);
            if pinned {
                return Ok(Plan::Single(Single {
                    fallback: Some(merge),
                    ..single(keyed)
                }));
            }
            keyed.truncate(1);
            Ok(Plan::Scatter(Scatter {
                target: Target::Keys(keyed),
                role: role(analysis, target.is_none()),
                merge,
                locks: LockScope::Rows,
            }))
        }
        Err(_) if pinned => Ok(Plan::Single(single(keyed))),
        Err(refusal) if listed => Ok(Plan::Single(Single {
            otherwise: refusal,
            ..single(keyed)
        })),
        Err(refusal) => Err(about_table(analysis, sharded, refusal)),
    }
}

/// Names the first sharded table, and the key that is missing.
fn about_table(analysis: &Analysis<'_>, sharded: &[usize], refusal: Refusal) -> Refusal {
    if refusal.detail.is_some() {
        return refusal;
    }
    let unbound = sharded
        .iter()
        .find(|i| analysis.key_condition(**i) == Cond::Any)
        .or(sharded.first());
    match unbound.map(|i| &analysis.instances[*i].source) {
        Some(Source::Sharded(relation, keyed)) => {
            let columns: Vec<&str> = keyed
                .sharded
                .columns
                .iter()
                .map(|(n, _)| n.as_str())
                .collect();
            Refusal::about(
                refusal.reason,
                format!(
                    "table \"{}\" is sharded by \"{}\"",
                    relation.name.name,
                    columns.join("\", \"")
                ),
            )
        }
        _ => refusal,
    }
}

/// How a statement over several shards is merged, and the instance whose keys say which shards.
fn merge(
    analysis: &Analysis<'_>,
    local: Local,
    sharded: &[usize],
    roots: Vec<usize>,
) -> Result<(Merge, usize), Refusal> {
    let merge = match local {
        Local::Rows => Merge::Concat,
        Local::Aggregates(list) => Merge::Aggregates(list),
        Local::No(refusal) => return Err(refusal),
    };
    if analysis.seen.writes {
        return refuse(Reason::Subquery);
    }
    match analysis.seen.locks {
        Locks::Otherwise => return refuse(Reason::Locking),
        Locks::Within => return refuse(Reason::Subquery),
        Locks::No | Locks::Apart | Locks::Documents => {}
    }
    if let Some(name) = &analysis.seen.once {
        return Err(about_function(Reason::ComputedOnce, name));
    }
    let root = roots
        .into_iter()
        .find(|root| colocated(analysis, *root, sharded));
    root.map(|root| (merge, root))
        .ok_or_else(|| Refusal::new(Reason::Join))
}

/// Whether each row of every other instance is only joined to rows of `root` with the same whole key.
pub fn colocated(analysis: &Analysis<'_>, root: usize, sharded: &[usize]) -> bool {
    let Source::Sharded(_, key) = &analysis.instances[root].source else {
        return false;
    };
    sharded.iter().all(|other| {
        if *other == root {
            return true;
        }
        let Source::Sharded(_, theirs) = &analysis.instances[*other].source else {
            return false;
        };
        theirs.routable
            && key.routable
            && theirs.sharded.group == key.sharded.group
            && theirs.columns.len() == key.columns.len()
            && key
                .columns
                .iter()
                .zip(&theirs.columns)
                .all(|(mine, yours)| match (mine, yours) {
                    (Some(mine), Some(yours)) => analysis
                        .sources_of((*other, *yours), true)
                        .contains(&(root, *mine)),
                    _ => false,
                })
    })
}

/// What is known of the keys of one instance.
pub fn keyed_by(analysis: &Analysis<'_>, instance: usize) -> Option<KeyedBy> {
    let Source::Sharded(relation, keyed) = &analysis.instances[instance].source else {
        return None;
    };
    Some(KeyedBy {
        table: relation.name.clone(),
        sharded: keyed.sharded.clone(),
        cond: analysis.key_condition(instance),
        leaf: leaf_by(analysis, instance),
        kept: analysis
            .kept
            .iter()
            .filter(|(i, _, _)| *i == instance)
            .map(|(_, c, s)| (*c, s.clone()))
            .collect(),
        stored: analysis.stored.get(&instance).cloned(),
    })
}

/// How the leaf of a hash-partitioned table follows from the statement.
fn leaf_by(analysis: &Analysis<'_>, instance: usize) -> Option<LeafBy> {
    let Source::Sharded(relation, _) = &analysis.instances[instance].source else {
        return None;
    };
    let partitioning = relation.partitioning.as_ref()?;
    if partitioning.strategy != Strategy::Hash || partitioning.columns.is_empty() {
        return None;
    }
    let mut columns = Vec::new();
    let mut positions = Vec::new();
    for name in &partitioning.columns {
        let (position, _) = relation.column(name)?;
        columns.push((name.clone(), analysis.key_type((instance, position))?));
        positions.push(Some(position));
    }
    let leaves = partitioning.leaves.iter().map(|leaf| match leaf.bound {
        LeafBound::Hash { modulus, remainder } => Some((leaf.name.clone(), modulus, remainder)),
        LeafBound::Text(_) => None,
    });
    let leaves = leaves.collect::<Option<Vec<_>>>()?;
    let cond = analysis.condition(instance, &positions);
    cond.lists_keys(columns.len()).then_some(LeafBy {
        columns,
        cond,
        leaves,
    })
}

/// Why only the primary may answer, or that a replica may too.
pub fn role(analysis: &Analysis<'_>, reads_only: bool) -> Role {
    let seen = &analysis.seen;
    let primary = |why: &str| Role::Primary(why.to_owned());
    if !reads_only || seen.writes {
        return primary("writes");
    }
    if seen.locks != Locks::No {
        return primary("locks rows");
    }
    if let Some((call, name)) = seen
        .calls
        .iter()
        .rev()
        .find(|(call, _)| **call > Call::Time)
    {
        return Role::Primary(match call {
            Call::Server | Call::Session => {
                format!("{} belongs to one server", functions::told("", name))
            }
            _ => format!("{name}() is not proven to only read"),
        });
    }
    if seen.not_on_replicas {
        return primary("a table that replicas do not have");
    }
    // Whether a replica has what is read of the table does not say whether it has the copies.
    if seen.secured_by_copies {
        return primary("its row security reads reference tables");
    }
    if seen.catalogs {
        return primary("reads catalogs");
    }
    if !seen.unknown.is_empty() {
        return primary("a table that is not known");
    }
    // Nothing is gained from a replica, and such a statement must run exactly once.
    let table = |i: &Instance<'_>| !matches!(i.source, Source::Rows | Source::Derived);
    if !analysis.instances.iter().any(table) {
        return primary("no table");
    }
    Role::Replica
}
