//! Which parts of the data a statement touches, where that can be proven: for the freshness of reads from replicas.
//!
//! A part is a table with one key's slot. A write of a part may be counted as one of that part alone, and a read of
//! another part need not see it. So a write must change nothing but rows of its table with that key, and a read must
//! look at nothing but such rows. Whatever else is in the statement, or may follow from it, makes it touch anything.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use mothership_shardmap::{KeyBytes, Sharded, TextContext, slot};
use sqlparser::tokenizer::Token;

use super::condition::{Values, evaluate};
use super::decide::role;
use super::functions::Call;
use super::names::{Names, Place, fold};
use super::parse::Parsed;
use super::route::{Route, stored_key, types_of};
use super::scope::{Analysis, Locks, Source};
use super::{KeyedBy, Params, Plan, Role, SplitRows, Target};
use mothership_catalog::{Catalog, Name, Persistence, Relation, RelationKind, TypeKind};

/// What a planned statement touches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Touches {
    /// It is not proven.
    #[default]
    Anything,
    /// Rows of these tables with the keys of the plan, and no others.
    Tables(Vec<Name>),
}

/// More parts than this are not told apart.
pub const MAX_PARTS: usize = 8;

impl Plan {
    /// The plan of a statement that touches these tables by their keys.
    pub(super) fn touching(mut self, touches: Touches) -> Plan {
        match &mut self {
            Plan::Single(single) if matches!(single.target, Target::Keys(_)) => {
                single.touches = touches;
            }
            Plan::Split(split) if matches!(split.rows, SplitRows::Values { .. }) => {
                split.touches = touches;
            }
            _ => {}
        }
        self
    }
}

/// What a statement touches that writes to `target`, or only reads.
pub fn touches(analysis: &Analysis<'_>, target: Option<usize>, parsed: &Parsed) -> Touches {
    let seen = &analysis.seen;
    let names = analysis.names;
    let unclear = seen.writes
        || seen.locks != Locks::No
        || seen.catalogs
        || seen.not_on_replicas
        || seen.secured_by_copies
        || seen.views
        || !seen.unknown.is_empty()
        || seen.calls.keys().any(|call| *call > Call::Volatile);
    let reads_only = || role(analysis, true) == Role::Replica;
    if unclear || (target.is_none() && !reads_only()) || runs_code(names, parsed) {
        return Touches::Anything;
    }
    let mut tables = Vec::new();
    for (index, instance) in analysis.instances.iter().enumerate() {
        match &instance.source {
            Source::Sharded(relation, keyed)
                if keyed.routable && names.parts.tables.contains(&relation.name) =>
            {
                if target.is_none_or(|target| target == index) {
                    tables.push(relation.name.clone());
                }
            }
            Source::Derived | Source::Rows => {}
            Source::Sharded(..) | Source::Reference(_) | Source::Home(_) => {
                return Touches::Anything;
            }
        }
    }
    tables.sort();
    tables.dedup();
    Touches::Tables(tables)
}

/// Whether a word of the statement may be a function or a type of a user. Which of several functions is called, and
/// whether `t.f` is a column, is not asked.
fn runs_code(names: &Names<'_>, parsed: &Parsed) -> bool {
    parsed.tokens.iter().any(|token| match &token.token {
        Token::Word(word) => {
            let name = fold(&word.value, word.quote_style.is_some());
            name.starts_with("pg_temp") || names.parts.code.contains(&*name)
        }
        _ => false,
    })
}

/// What of a catalog the parts depend on.
#[derive(Default)]
pub struct Provable {
    /// Tables that a write changes alone, and that are read alone.
    tables: HashSet<Name>,
    /// Names that may run a user's code.
    code: HashSet<String>,
}

impl Provable {
    /// Looks at every table, function and type once.
    pub fn new(catalog: &Catalog, places: &HashMap<Name, Place>) -> Provable {
        let mut children: HashMap<&Name, Vec<&Relation>> = HashMap::new();
        for relation in catalog.relations.values() {
            if let Some(parent) = &relation.parent {
                children.entry(parent).or_default().push(relation);
            }
        }
        let sharded =
            |relation: &&Relation| matches!(places.get(&relation.name), Some(Place::Sharded(_)));
        // A partition has one name with its parent and one of its own, and a part must have one only.
        let roots = catalog.relations.values().filter(|r| r.parent.is_none());
        let tables = roots
            .filter(sharded)
            .filter(|root| is_alone(root, &children))
            .map(|root| root.name.clone());
        let functions = catalog.functions.keys().map(|name| name.name.clone());
        // Every table has a type of its name, which runs nothing.
        let types = catalog.types.iter().filter(|(name, info)| {
            !matches!(info.kind, TypeKind::Enum(_)) && catalog.relation(name).is_none()
        });
        let types = types.flat_map(|(name, _)| [name.name.clone(), format!("_{}", name.name)]);
        Provable {
            tables: tables.collect(),
            code: functions.chain(types).collect(),
        }
    }
}

/// Whether nothing follows from using a table or one of its partitions.
fn is_alone(root: &Relation, children: &HashMap<&Name, Vec<&Relation>>) -> bool {
    let mut open = vec![root];
    let mut seen = HashSet::new();
    while let Some(relation) = open.pop() {
        let alone = relation.contained
            && relation.kind == RelationKind::Table
            && relation.persistence == Persistence::Permanent
            && relation.triggers.is_empty()
            && !relation.has_rules
            && relation.row_security.is_none();
        if !alone || !seen.insert(&relation.name) {
            return false;
        }
        open.extend(children.get(&relation.name).into_iter().flatten());
    }
    true
}

/// The parts that one execution of a plan touches, each as a hash of its name; `None` if it may be anything. `route`
/// is where the plan goes with these values.
pub fn parts(
    plan: &Plan,
    route: &Route,
    params: &Params<'_>,
    text: &TextContext,
) -> Option<Vec<u64>> {
    route.shards.single()?;
    let mut parts = Vec::new();
    match plan {
        Plan::Single(single) => {
            let (Target::Keys(keyed), Touches::Tables(tables)) = (&single.target, &single.touches)
            else {
                return None;
            };
            for by in keyed.iter().filter(|by| tables.contains(&by.table)) {
                let key = only_key(by, params, text)?;
                parts.push(part(&by.table, &by.sharded, &key));
            }
        }
        Plan::Split(split) => {
            let (
                SplitRows::Values {
                    rows, max_chars, ..
                },
                Touches::Tables(_),
            ) = (&split.rows, &split.touches)
            else {
                return None;
            };
            if rows.len() > MAX_PARTS {
                return None;
            }
            let sharded = &split.sharded.0;
            for row in rows {
                let key = stored_key(&row.key, sharded, max_chars, params, text).ok()??;
                parts.push(part(&split.table, sharded, &key));
            }
        }
        Plan::Local(_)
        | Plan::Scatter(_)
        | Plan::Gather(_)
        | Plan::Fill(_)
        | Plan::Ddl(_)
        | Plan::Guarded(_)
        | Plan::Refuse(_) => {
            return None;
        }
    }
    parts.sort_unstable();
    parts.dedup();
    (1..=MAX_PARTS).contains(&parts.len()).then_some(parts)
}

/// The whole key, if the condition leaves one only.
fn only_key(by: &KeyedBy, params: &Params<'_>, text: &TextContext) -> Option<Vec<KeyBytes>> {
    let types = types_of(&by.sharded);
    let alternatives = evaluate(&by.cond, &types, params, text, by.stored.as_ref());
    let [alternative] = alternatives.as_slice() else {
        return None;
    };
    let columns = alternative.iter().map(|values| match values {
        Values::These(keys) if keys.len() == 1 => keys.first().cloned(),
        _ => None,
    });
    columns.collect()
}

/// A part's hash. The key's columns are part of the name: another key of the same table divides it otherwise.
fn part(table: &Name, sharded: &Sharded, key: &[KeyBytes]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&table.schema, &table.name).hash(&mut hasher);
    slot(key).hash(&mut hasher);
    for (column, _) in &sharded.columns {
        column.hash(&mut hasher);
    }
    hasher.finish()
}
