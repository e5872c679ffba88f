//! Routing: computes the shards for a plan, the values of one Bind, and the shard that a rule prescribes.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use mothership_shardmap::{
    KeyBytes, KeyType, NoOwner, ShardId, ShardMap, ShardSet, Sharded, partition,
};

use super::condition::{Alternative, Cond, Item, Scalar, Value, Values, evaluate};
use super::context::{Params, TextContext};
use super::gather::{Ending, Fragment, Gather, Holders, Keeper, ListedRows, Written};
use super::pin::{NoRoute, Pin, Place};
use super::refuse::{Reason, Refusal};
use super::{DdlPlace, KeyedBy, LeafBy, MaxChars, Merge, Plan, Role, Split, SplitRows, Target};
use mothership_catalog::Name;
use mothership_merge::Shape;
use mothership_sql::places::Change;

/// Where one execution of a plan goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The shards, at least one. With one, the client's bytes pass untouched.
    pub shards: ShardSet,
    /// Whether any other shard would answer the same, so that the least loaded one may be taken instead.
    pub anywhere: bool,
    /// Which server of each.
    pub role: Role,
    /// What makes one answer of several; None with one shard.
    pub merge: Option<Merge>,
    /// The partition that holds the row, if it is a single one. For EXPLAIN (ROUTE).
    pub leaf: Option<Name>,
    /// For a divided VALUES list on several shards: which rows go to which shard.
    pub rows: BTreeMap<ShardId, Vec<usize>>,
    /// For a plan that gathers, where its parts run.
    pub gathered: Option<Box<Gathered>>,
    /// For an UPDATE that sets the key: the shard of the new one. A row that any other shard changes would have to move.
    pub only_on: Option<ShardId>,
}

/// Where the parts of a plan that gathers run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gathered {
    /// The shards of each fragment.
    pub fragments: Vec<ShardSet>,
    /// Of a fragment that stores rows: which of them go to which shard.
    pub rows: BTreeMap<usize, BTreeMap<ShardId, Vec<usize>>>,
    /// What is made of the rows of a fragment that locks them.
    pub locked: BTreeMap<usize, Shape>,
    /// Where the residue writes; empty if it is a query.
    pub target: ShardSet,
}

/// More combinations of composite key values than this are not looked up one by one.
const MAX_KEYS: usize = 10_000;

/// Routes a plan. The refusal of a `Plan::Refuse` is returned as it is. With a `pin` the route leads to the shard of
/// the rule and no other.
///
/// # Errors
/// The values lead nowhere, or to more shards than the plan can do with, or to another than that of the rule.
pub fn route(
    plan: &Plan,
    params: &Params<'_>,
    map: &ShardMap,
    text: &TextContext,
    pin: Option<&Pin>,
) -> Result<Route, NoRoute> {
    let route = route_without_rule(plan, params, map, text)?;
    let writes = route.gathered.is_none() && route.role != Role::Replica;
    if writes && route.shards.len() > 1 && map.has_documents(&route.shards) {
        return Err(Refusal::new(Reason::DocumentsShards).into());
    }
    let Some(pin) = pin else { return Ok(route) };
    let is_home = matches!(plan.unguarded(), Plan::Single(single) if single.target == Target::Home);
    let place = match route.shards.single() {
        _ if route.anywhere => Place::Anywhere,
        Some(home) if is_home => Place::Home(home),
        Some(shard) => Place::Keyed(shard),
        None => Place::Several,
    };
    let shards = ShardSet::one(pin.shard_of(place)?);
    Ok(Route {
        shards,
        anywhere: false,
        gathered: None,
        only_on: None,
        ..route
    })
}

/// Where one execution of a plan leads that only reads.
#[derive(Debug, PartialEq)]
pub enum ReadRoute<'p> {
    /// To one shard, as it is.
    One(ShardId),
    /// To several, as it is.
    Over(ShardSet, &'p Merge),
}

/// The route of a read-only plan, if these values determine it completely and each shard gets the client's own query string.
/// `None` means that this function does not know; call [`route`] then.
pub fn reading<'p>(
    plan: &'p Plan,
    params: &Params<'_>,
    map: &ShardMap,
    text: &TextContext,
) -> Option<ReadRoute<'p>> {
    match plan {
        Plan::Single(single) if single.role == Role::Replica && single.unknown.is_empty() => {
            let shard = match &single.target {
                Target::Home | Target::AnyShard => map.home(),
                Target::AllShards => return None,
                Target::Keys(keyed) => match keyed.as_slice() {
                    [by] if by.kept.is_empty() => shards_of(by, params, text).single()?,
                    _ => return None,
                },
            };
            Some(ReadRoute::One(shard))
        }
        Plan::Scatter(scatter) if scatter.role == Role::Replica => {
            let shards = scattered(&scatter.target, params, map, text).ok()?;
            match (shards.single(), &scatter.merge) {
                (Some(shard), _) => Some(ReadRoute::One(shard)),
                (None, merge @ (Merge::Concat | Merge::Aggregates(_))) => {
                    Some(ReadRoute::Over(shards, merge))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// The route without a rule.
fn route_without_rule(
    plan: &Plan,
    params: &Params<'_>,
    map: &ShardMap,
    text: &TextContext,
) -> Result<Route, Refusal> {
    match plan {
        Plan::Refuse(refusal) => Err(refusal.clone()),
        Plan::Guarded(guarded) => route_without_rule(&guarded.plan, params, map, text),
        // The caller must fill in the values first (`session/fill.rs`).
        Plan::Fill(fill) => Err(Refusal::of_table(Reason::InsertSequence, &fill.table)),
        Plan::Local(_) => Ok(route_to(
            ShardSet::one(map.home()),
            Role::Primary("local".into()),
        )),
        Plan::Single(single) => {
            let anywhere = single.target == Target::AnyShard;
            let keyed = match &single.target {
                Target::Keys(keyed) => keyed,
                Target::Home | Target::AnyShard => {
                    let home = route_to(ShardSet::one(map.home()), single.role.clone());
                    return Ok(Route { anywhere, ..home });
                }
                Target::AllShards => return Err(single.otherwise.clone()),
            };
            match (
                one_shard(keyed, params, map, text, &single.otherwise),
                &single.fallback,
                keyed.first(),
            ) {
                (Ok((shard, leaf)), _, _) => Ok(Route {
                    leaf,
                    ..route_to(ShardSet::one(shard), single.role.clone())
                }),
                (Err(_), None, _) if let Some(gather) = &single.gather => {
                    route_gather(gather, params, map, text)
                }
                (Err(refusal), Some(merge), Some(root)) if refusal == single.otherwise => {
                    let shards = shards_of(root, params, text);
                    Ok(merged(shards, single.role.clone(), merge, map))
                }
                (Err(refusal), _, _) => Err(refusal),
            }
        }
        Plan::Scatter(scatter) => {
            let (shards, only_on) = match own_key(&scatter.target, params, text)? {
                Some((by, shard)) => (at_least_one(shards_of(by, params, text), map), Some(shard)),
                None => (scattered(&scatter.target, params, map, text)?, None),
            };
            if let (Some(shard), Target::Keys(keyed)) = (only_on, &scatter.target)
                && shards.single().is_some_and(|single| single != shard)
            {
                // Nobody would count what it changes.
                check_key_unchanged(&keyed[0], params, text)?;
            }
            let role = scatter.role.clone();
            match &scatter.merge {
                Merge::Sorted(sorted) if shards.len() > 1 => {
                    match sorted.with_values(params, text) {
                        Some(flow) => {
                            let merge = Merge::Flow(Arc::new(flow));
                            Ok(merged(shards, role, &merge, map))
                        }
                        None => match &sorted.otherwise {
                            Ok(gather) => route_gather(gather, params, map, text),
                            Err(refusal) => Err(refusal.clone()),
                        },
                    }
                }
                merge => Ok(Route {
                    only_on,
                    ..merged(shards, role, merge, map)
                }),
            }
        }
        Plan::Split(split) => route_split(split, params, map, text),
        Plan::Gather(gather) => route_gather(gather, params, map, text),
        Plan::Ddl(ddl) => {
            let shards = match ddl.place {
                DdlPlace::AllShards | DdlPlace::OncePerCluster => map.all(),
                DdlPlace::Home => ShardSet::one(map.home()),
            };
            Ok(route_to(
                shards,
                Role::Primary("changes definitions".into()),
            ))
        }
    }
}

fn route_to(shards: ShardSet, role: Role) -> Route {
    Route {
        shards,
        anywhere: false,
        role,
        merge: None,
        leaf: None,
        rows: BTreeMap::new(),
        gathered: None,
        only_on: None,
    }
}

/// The route of a gather plan: a single shard if that shard has all the needed rows, otherwise the shards of each fragment.
fn route_gather(
    gather: &Gather,
    params: &Params<'_>,
    map: &ShardMap,
    text: &TextContext,
) -> Result<Route, Refusal> {
    if let Ending::Write(Written::Owners(by)) = &gather.ending {
        check_key_unchanged(by, params, text)?;
    }
    if let Ending::Change(change) = &gather.ending
        && change.by.sharded.shards.single().is_none()
    {
        check_key_unchanged(&change.by, params, text)?;
    }
    for fragment in gather.fragments.iter().filter(|fragment| fragment.writes) {
        if let Holders::Keys(keys) = &fragment.of {
            keys.iter()
                .try_for_each(|by| check_key_unchanged(by, params, text))?;
        }
    }
    let all = |keyed: &[KeyedBy]| {
        let sets = keyed.iter().map(|by| shards_of(by, params, text));
        sets.fold(ShardSet::empty(), |all, set| all.union(&set))
    };
    let mut shards = all(&gather.keyed);
    if gather.home || shards.is_empty() {
        shards = shards.union(&ShardSet::one(map.home()));
    }
    let role = gather.role.clone();
    let copies = match &gather.ending {
        Ending::Write(Written::Everywhere) => true,
        Ending::Store(store) => store.sharded.is_none(),
        Ending::Answer | Ending::Write(_) | Ending::Keep(_) | Ending::Change(_) => false,
    };
    let mut fragments = gather.fragments.iter();
    let copies = copies || fragments.any(|fragment| fragment.of == Holders::Copies);
    let at_home = matches!(&gather.ending, Ending::Keep(keep) if keep.by == Keeper::Table);
    let elsewhere = at_home && shards.single() != Some(map.home());
    // By itself a shard would take values from its own sequence.
    let makes = matches!(&gather.ending, Ending::Store(store) if store.made > 0);
    let changes = matches!(&gather.ending, Ending::Change(_));
    let apart = copies || elsewhere || makes || changes || gather.documents || gather.always;
    if shards.single().is_some() && !apart {
        return Ok(route_to(shards, role));
    }
    let mut rows = BTreeMap::new();
    for (number, fragment) in gather.fragments.iter().enumerate() {
        if let Holders::Rows(listed) = &fragment.of {
            rows.insert(number, group_by_shard(listed, params, text)?);
        }
    }
    let mut locked = BTreeMap::new();
    for (number, fragment) in gather.fragments.iter().enumerate() {
        if let Some(locks) = &fragment.locks {
            let shape = locks.shape(params, text);
            locked.insert(number, shape.ok_or_else(|| Refusal::new(Reason::Locking))?);
        }
    }
    let of = |(number, fragment): (usize, &Fragment)| match &fragment.of {
        Holders::Keys(keys) => all(keys),
        Holders::Rows(_) => rows[&number].keys().copied().collect(),
        Holders::All | Holders::Copies => map.all(),
        Holders::Home => ShardSet::one(map.home()),
    };
    let fragments: Vec<ShardSet> = gather.fragments.iter().enumerate().map(of).collect();
    let target = match &gather.ending {
        Ending::Keep(_) if at_home => ShardSet::one(map.home()),
        Ending::Answer | Ending::Store(_) | Ending::Keep(_) => ShardSet::empty(),
        Ending::Change(change) => match shards_of(&change.by, params, text) {
            several if several.len() > 1 => return Err(Refusal::new(Reason::DocumentsShards)),
            some => some,
        },
        Ending::Write(Written::Home) => ShardSet::one(map.home()),
        Ending::Write(Written::Everywhere) => map.all(),
        Ending::Write(Written::Owners(by)) => match shards_of(by, params, text) {
            // No shard has rows. Any shard can return the column descriptions and the command tag.
            none if none.is_empty() => ShardSet::one(map.home()),
            some => some,
        },
    };
    let mut shards = fragments.iter().fold(shards, |all, set| all.union(set));
    shards = match &gather.ending {
        Ending::Store(_) => map.all(),
        _ => shards.union(&target),
    };
    Ok(Route {
        gathered: Some(Box::new(Gathered {
            fragments,
            rows,
            locked,
            target,
        })),
        ..route_to(shards, role)
    })
}

/// Groups the rows by the shard that stores them.
fn group_by_shard(
    listed: &ListedRows,
    params: &Params<'_>,
    text: &TextContext,
) -> Result<BTreeMap<ShardId, Vec<usize>>, Refusal> {
    let mut rows: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
    for (number, (by, _)) in listed.rows.iter().enumerate() {
        let shards = shards_of(by, params, text);
        let unknown = match shards.is_empty() {
            true => Reason::NoOwner,
            false => Reason::InsertKey,
        };
        let shard = shards.single();
        let shard = shard.ok_or_else(|| Refusal::of_table(unknown, &by.table))?;
        rows.entry(shard).or_default().push(number);
    }
    Ok(rows)
}

/// The table whose key an UPDATE sets to a value that it need not have had, and the shard of that value. What it changes
/// is counted on each shard.
///
/// # Errors
/// Its rows may have to move, and nobody could tell.
fn own_key<'t>(
    target: &'t Target,
    params: &Params<'_>,
    text: &TextContext,
) -> Result<Option<(&'t KeyedBy, ShardId)>, Refusal> {
    let Target::Keys(keyed) = target else {
        return Ok(None);
    };
    let [by] = keyed.as_slice() else {
        return Ok(None);
    };
    let Err(refusal) = check_key_unchanged(by, params, text) else {
        return Ok(None);
    };
    let types = types_of(&by.sharded);
    let key_of = |column: usize| {
        let mut kept = by.kept.iter().filter(|(kept, _)| *kept == column);
        match kept
            .next()
            .map(|(_, scalar)| scalar.value(types[column], params, text))
        {
            Some(Value::Key(key)) => Some(key),
            _ => None,
        }
    };
    let keys: Option<Vec<KeyBytes>> = (0..types.len()).map(key_of).collect();
    match keys.map(|keys| by.sharded.owner(&keys)) {
        Some(Ok(shard)) => Ok(Some((by, shard))),
        Some(Err(_)) | None => Err(refusal),
    }
}

/// The shards of a plan that may lead to several, at least one.
fn scattered(
    target: &Target,
    params: &Params<'_>,
    map: &ShardMap,
    text: &TextContext,
) -> Result<ShardSet, Refusal> {
    let keyed = match target {
        Target::Home | Target::AnyShard => return Ok(ShardSet::one(map.home())),
        Target::AllShards => return Ok(map.all()),
        Target::Keys(keyed) => keyed,
    };
    let mut shards: Option<ShardSet> = None;
    for by in keyed {
        check_key_unchanged(by, params, text)?;
        let own = shards_of(by, params, text);
        shards = Some(shards.map_or(own.clone(), |s| s.intersect(&own)));
    }
    Ok(at_least_one(shards.unwrap_or_default(), map))
}

/// If no shard can have a matching row, the home shard returns the columns, the command tag and the row of an aggregate.
fn at_least_one(shards: ShardSet, map: &ShardMap) -> ShardSet {
    match shards.is_empty() {
        true => ShardSet::one(map.home()),
        false => shards,
    }
}

fn merged(shards: ShardSet, role: Role, merge: &Merge, map: &ShardMap) -> Route {
    let shards = at_least_one(shards, map);
    let merge = (shards.len() > 1).then(|| merge.clone());
    Route {
        merge,
        ..route_to(shards, role)
    }
}

/// The single shard that all conditions lead to. A condition that no key can satisfy is compatible with every shard.
fn one_shard(
    keyed: &[KeyedBy],
    params: &Params<'_>,
    map: &ShardMap,
    text: &TextContext,
    otherwise: &Refusal,
) -> Result<(ShardId, Option<Name>), Refusal> {
    let mut found: Option<ShardId> = None;
    for by in keyed {
        check_key_unchanged(by, params, text)?;
        let shards = shards_of(by, params, text);
        if shards.is_empty() {
            if by.stored.is_some() {
                return Err(Refusal::new(Reason::NoOwner));
            }
            continue;
        }
        let shard = shards.single().ok_or_else(|| otherwise.clone())?;
        if found.is_some_and(|known| known != shard) {
            return Err(Refusal::new(Reason::SeveralShards));
        }
        found = Some(shard);
    }
    let leaf = match keyed {
        [by] => by
            .leaf
            .as_ref()
            .and_then(|leaf| leaf_of(leaf, params, text)),
        _ => None,
    };
    Ok((found.unwrap_or_else(|| map.home()), leaf))
}

/// An UPDATE may set the key to the value that it has, which must be proven for this Bind.
fn check_key_unchanged(
    by: &KeyedBy,
    params: &Params<'_>,
    text: &TextContext,
) -> Result<(), Refusal> {
    if by.kept.is_empty() {
        return Ok(());
    }
    let refusal = || Refusal::about(Reason::KeyUpdate, format!("table \"{}\"", by.table.name));
    let types = types_of(&by.sharded);
    let alternatives = evaluate(&by.cond, &types, params, text, None);
    for (column, scalar) in &by.kept {
        let new = scalar.value(types[*column], params, text);
        let same = alternatives
            .iter()
            .all(|alternative| match (&alternative[*column], &new) {
                (Values::These(old), Value::Key(new)) => old.len() == 1 && old.contains(new),
                _ => false,
            });
        if !same {
            return Err(refusal());
        }
    }
    Ok(())
}

pub(super) fn types_of(sharded: &Sharded) -> Vec<KeyType> {
    sharded
        .columns
        .iter()
        .map(|(_, key_type)| *key_type)
        .collect()
}

/// All shards that may have a row that satisfies the condition.
pub fn shards_of(by: &KeyedBy, params: &Params<'_>, text: &TextContext) -> ShardSet {
    // Fast path for a condition with a single key value. The result is the same as below, without allocating lists.
    if let (
        Cond::In {
            column: 0,
            items,
            nulls_match: false,
        },
        [(_, key_type)],
    ) = (&by.cond, by.sharded.columns.as_slice())
        && let [Item::One(scalar)] = items.as_slice()
        && let Value::Key(key) = scalar.value(*key_type, params, text)
        && by.stored.as_ref().is_none_or(|stored| stored.take(0, &key))
    {
        return by.sharded.owners_with_prefix(&[key]);
    }
    let types = types_of(&by.sharded);
    let alternatives = evaluate(&by.cond, &types, params, text, by.stored.as_ref());
    let sets = alternatives
        .iter()
        .map(|alternative| shards_of_alternative(&by.sharded, alternative));
    sets.fold(ShardSet::empty(), |all, set| all.union(&set))
}

fn shards_of_alternative(sharded: &Sharded, alternative: &Alternative) -> ShardSet {
    if let [Values::Range(low, high)] = alternative.as_slice() {
        return sharded.owners_between(low.as_ref(), high.as_ref());
    }
    let mut prefixes: Vec<Vec<KeyBytes>> = vec![Vec::new()];
    for values in alternative {
        let Values::These(keys) = values else { break };
        if prefixes.len() * keys.len() > MAX_KEYS {
            break;
        }
        prefixes = prefixes
            .iter()
            .flat_map(|prefix| {
                keys.iter()
                    .map(move |key| [prefix.as_slice(), std::slice::from_ref(key)].concat())
            })
            .collect();
    }
    let sets = prefixes
        .iter()
        .map(|prefix| sharded.owners_with_prefix(prefix));
    sets.fold(ShardSet::empty(), |all, set| all.union(&set))
}

/// The hash partition that holds the rows, if the condition leaves one value for each of its columns.
pub fn leaf_of(leaf: &LeafBy, params: &Params<'_>, text: &TextContext) -> Option<Name> {
    let types: Vec<KeyType> = leaf.columns.iter().map(|(_, t)| *t).collect();
    let alternatives = evaluate(&leaf.cond, &types, params, text, None);
    let [alternative] = alternatives.as_slice() else {
        return None;
    };
    let keys: Vec<&KeyBytes> = alternative
        .iter()
        .map(|values| match values {
            Values::These(keys) if keys.len() == 1 => keys.first(),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let values: Vec<Option<(KeyType, &KeyBytes)>> = types
        .iter()
        .zip(keys)
        .map(|(t, key)| Some((*t, key)))
        .collect();
    let holds = |modulus: u64, remainder: u64| {
        let modulus = u32::try_from(modulus).ok().and_then(NonZeroU32::new)?;
        Some(u64::from(partition::leaf_remainder(&values, modulus)?) == remainder)
    };
    leaf.leaves
        .iter()
        .find(|(_, modulus, remainder)| holds(*modulus, *remainder) == Some(true))
        .map(|(name, _, _)| name.clone())
}

fn route_split(
    split: &Split,
    params: &Params<'_>,
    map: &ShardMap,
    text: &TextContext,
) -> Result<Route, Refusal> {
    let role = Role::Primary("writes".to_owned());
    let sharded = &split.sharded.0;
    match &split.rows {
        // Which shards take part is known when the rows come.
        SplitRows::Copy { .. } => Ok(route_to(sharded.shards.clone(), role)),
        SplitRows::Values {
            rows,
            parameter_types,
            max_chars,
            nulls,
            whole,
        } => {
            let mut by_shard: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
            let mut without_key = Vec::new();
            for (index, row) in rows.iter().enumerate() {
                // If PostgreSQL will reject the value, any shard may get the row: every shard returns the same error.
                let shard = match stored_key(&row.key, sharded, max_chars, params, text) {
                    Ok(Some(key)) => owner(sharded, &key)?,
                    Ok(None) => map.home(),
                    Err(refusal) if nulls.refuses(&refusal) => return Err(refusal),
                    Err(refusal) => {
                        without_key.push((index, refusal));
                        continue;
                    }
                };
                by_shard.entry(shard).or_default().push(index);
            }
            if let Some((_, refusal)) = without_key.first() {
                // The row that comes first says what is wrong.
                let shard = match by_shard.len() {
                    0 => map.home(),
                    1 => by_shard.keys().copied().next().unwrap_or(map.home()),
                    _ => return Err(refusal.clone()),
                };
                let rows = by_shard.entry(shard).or_default();
                rows.extend(without_key.iter().map(|(index, _)| *index));
                rows.sort_unstable();
            }
            let shards: ShardSet = by_shard.keys().copied().collect();
            if shards.len() > 1 {
                if let Some(refusal) = whole {
                    return Err(refusal.clone());
                }
                if parameter_types.contains(&0) {
                    return Err(Refusal::new(Reason::ParameterType));
                }
            }
            if !split.others.is_empty() {
                let refusal = Refusal::new(Reason::SeveralShards);
                let here = shards.single().ok_or_else(|| refusal.clone())?;
                let (there, _) = one_shard(&split.others, params, map, text, &refusal)?;
                if here != there {
                    return Err(refusal);
                }
            }
            let rows = if shards.len() > 1 {
                by_shard
            } else {
                BTreeMap::new()
            };
            Ok(Route {
                rows,
                ..route_to(shards, role)
            })
        }
    }
}

impl Split {
    /// For each row of a divided VALUES list: the index of its shard in the route.
    pub fn shard_index_of_rows(&self, route: &Route) -> Option<Vec<usize>> {
        let SplitRows::Values { rows, .. } = &self.rows else {
            return None;
        };
        let mut order = vec![0; rows.len()];
        for (leg, shard) in route.shards.iter().enumerate() {
            for row in route.rows.get(&shard)? {
                *order.get_mut(*row)? = leg;
            }
        }
        Some(order)
    }
}

/// The key of a row to be stored; None if PostgreSQL will refuse the row.
pub fn stored_key(
    scalars: &[Scalar],
    sharded: &Sharded,
    max_chars: &MaxChars,
    params: &Params<'_>,
    text: &TextContext,
) -> Result<Option<Vec<KeyBytes>>, Refusal> {
    let mut key = Vec::with_capacity(scalars.len());
    for (position, (scalar, (name, key_type))) in scalars.iter().zip(&sharded.columns).enumerate() {
        let about = |reason| Refusal::about(reason, format!("column \"{name}\""));
        match scalar.value(*key_type, params, text) {
            Value::Key(value) => {
                // PostgreSQL rejects a longer value, or cuts off its trailing spaces.
                if !max_chars.take(position, &value) {
                    return Err(about(Reason::InsertKey));
                }
                key.push(value);
            }
            Value::Null => return Err(about(Reason::InsertNullKey)),
            Value::Invalid => return Ok(None),
            Value::NoMatch | Value::Unsure => return Err(about(Reason::InsertKey)),
        }
    }
    Ok(Some(key))
}

/// The shard that stores a key.
pub fn owner(sharded: &Sharded, key: &[KeyBytes]) -> Result<ShardId, Refusal> {
    sharded.owner(key).map_err(|error| match error {
        NoOwner::Unmapped | NoOwner::NotInDirectory => Refusal::new(Reason::NoOwner),
        NoOwner::Columns { .. } | NoOwner::NotCanonical => Refusal::new(Reason::InsertKey),
    })
}

/// The text for one shard: the client's own, without the rows of other shards. `check_key_unchanged` are indices of
/// `rows`, whose spans are of `sql`. The parameters stay numbered as they are.
pub fn part_of(sql: &str, rows: &[super::ValuesRow], kept: &[usize]) -> Option<String> {
    let (first, last) = (rows.first()?.span.start, rows.last()?.span.end);
    let kept: BTreeSet<usize> = kept.iter().copied().collect();
    let list: Vec<&str> = kept
        .iter()
        .map(|index| sql.get(rows.get(*index)?.span.clone()))
        .collect::<Option<_>>()?;
    Some(format!(
        "{}{}{}",
        sql.get(..first)?,
        list.join(", "),
        sql.get(last..)?
    ))
}

/// How the text of [`part_of`] differs from the whole; `check_key_unchanged` in the order of the rows.
pub fn changes_of(
    rows: &[super::ValuesRow],
    kept: impl Iterator<Item = usize>,
) -> Option<Vec<Change>> {
    let (first, last) = (rows.first()?.span.start, rows.last()?.span.end);
    let (mut from, mut between) = (first, "");
    let mut changes = Vec::new();
    for index in kept {
        let row = &rows.get(index)?.span;
        changes.push(Change::new(from..row.start, between));
        (from, between) = (row.end, ", ");
    }
    changes.push(Change::new(from..last, ""));
    Some(changes)
}
