//! What `EXPLAIN (ROUTE)` and `mothership explain` say of a statement: its plan, the
//! shards, the partition, the server and why, and what differs from one PostgreSQL.
//!
//! Pure, and the same text on both ways. A statement that is refused has a report as
//! any other: the reason with its code and hint.

use mothership_shardmap::{ShardId, ShardMap, TextContext};

use super::condition::{Cond, Edge, Item, Scalar, Shown};
use super::context::Params;
use super::fill::Fill;
use super::gather::{Ending, Gather};
use super::pin::{Elsewhere, NoRoute, Pin, unplanned};
use super::refuse::Refusal;
use super::route::{Route, route};
use super::{Course, DdlPlace, KeyedBy, Merge, Plan, Role, Scatter, Split, SplitRows, Target};
use mothership_catalog::types::builtin_array_oid;
use mothership_sql::lexer::{Kind, Lexer};

/// `text`, whose OID is the same on every server.
const TEXT: u32 = 25;

/// What stands for a reason where it is no reason of the planner.
const RULE: &str = "rule";

/// The lines about one statement. Parameters that have no value leave open which shards it is.
pub fn report(
    sql: &str,
    plan: &Plan,
    params: &Params<'_>,
    map: &ShardMap,
    text: &TextContext,
    pin: Option<&Pin>,
) -> Vec<String> {
    if let Plan::Guarded(guarded) = plan {
        let mut lines = report(sql, &guarded.plan, params, map, text, pin);
        lines.push("Rights: the home shard is asked first".to_owned());
        return lines;
    }
    let open = usize::from(parameters(sql.as_bytes())) > params.values.len();
    match (plan, route(plan, params, map, text, pin)) {
        (Plan::Local(_), _) => vec!["Plan: Local".to_owned(), "Shards: none".to_owned()],
        (Plan::Refuse(refusal), _) => refused(refusal, None),
        (Plan::Fill(fill), _) => filled(fill, map),
        (_, Ok(route)) => routed(plan, &route, map, open),
        (_, Err(NoRoute::Refused(refusal))) if open => {
            undecided(plan, (refusal.reason.text().code, refusal.sqlstate()), map)
        }
        (_, Err(NoRoute::Refused(refusal))) => refused(&refusal, Some(plan)),
        // Other values may lead to the shard of the rule.
        (_, Err(NoRoute::Elsewhere(_))) if open && is_led(plan) => {
            undecided(plan, (RULE, Elsewhere::SQLSTATE), map)
        }
        (_, Err(NoRoute::Elsewhere(elsewhere))) => kept_away(&elsewhere, Some(plan)),
    }
}

/// The lines about any statement of a database without declared tables. `home` is the
/// home shard with its name.
pub fn undeclared((home, name): (ShardId, &str), pin: Option<&Pin>) -> Vec<String> {
    let (name, why) = match (unplanned(home, pin), pin) {
        (Err(elsewhere), _) => return kept_away(&elsewhere, None),
        (Ok(shard), Some(pin)) if shard != home => {
            (pin.name.as_str(), "a rule keeps it on this shard")
        }
        (Ok(_), _) => (name, "every statement goes to the home shard"),
    };
    vec![
        "Plan: Single".to_owned(),
        format!("Shards: {name}"),
        format!("Server: primary (no tables are declared, so {why})"),
    ]
}

fn routed(plan: &Plan, route: &Route, map: &ShardMap, open: bool) -> Vec<String> {
    let led = open && route.shards.len() > 1;
    // With values the key of a plan for one shard leads to one.
    let several = route.shards.len() > 1 && !(open && matches!(plan, Plan::Single(_)));
    let mut lines = vec![format!("Plan: {}", kind(plan, several))];
    let names: Vec<&str> = route.shards.iter().map(|s| map.shard_name(s)).collect();
    let names = names.join(", ");
    lines.push(match plan {
        _ if route.anywhere => format!("Shards: any one of {}", map.shards().join(", ")),
        Plan::Ddl(ddl) if ddl.place == DdlPlace::OncePerCluster => {
            format!("Shards: the first of each PostgreSQL cluster among {names}")
        }
        _ if led => {
            format!("Shards: of {names} those that the parameters lead to")
        }
        _ => format!("Shards: {names}"),
    });
    for (shard, rows) in &route.rows {
        lines.push(format!(
            "Rows on {}: {}",
            map.shard_name(*shard),
            rows.len()
        ));
    }
    if let Some(leaf) = &route.leaf {
        lines.push(format!("Partition: {leaf}"));
    }
    lines.push(server(&route.role));
    match (gathers(plan), &route.gathered) {
        (Some(gather), Some(gathered)) => {
            lines.push(format!("Because: {}", gather.why.message()));
            for (fragment, shards) in gather.fragments.iter().zip(&gathered.fragments) {
                let names: Vec<&str> = shards.iter().map(|s| map.shard_name(s)).collect();
                lines.push(format!(
                    "Fragment: {} on {}",
                    fragment.whole(),
                    names.join(", ")
                ));
                for keys in &fragment.narrowing.by {
                    lines.push(format!(
                        "Keys: {} may be only those of fragment {}, column {}",
                        keys.column,
                        keys.from + 1,
                        keys.at + 1
                    ));
                }
            }
            let targets: Vec<&str> = gathered.target.iter().map(|s| map.shard_name(s)).collect();
            let changes = matches!(gather.ending, Ending::Change(_));
            let place = match targets.is_empty() || changes {
                false => targets.join(", "),
                true if gather.home => "the home shard".to_owned(),
                true => "one of the shards".to_owned(),
            };
            lines.push(format!("Residue on {place}: {}", gather.residue));
            match &gather.ending {
                Ending::Store(store) => lines.push(format!(
                    "Rows are stored by their keys: {}...{}",
                    store.head, store.tail
                )),
                Ending::Keep(keep) => lines.push(format!(
                    "Rows are kept there: {}...{}",
                    keep.head, keep.tail
                )),
                Ending::Change(change) => {
                    let on = targets.join(", ");
                    lines.push(format!("Documents on {on}: {}", change.texts()));
                }
                Ending::Answer | Ending::Write(_) => {}
            }
        }
        _ if several => lines.push(format!("Merge: {}", merge(plan, route))),
        _ => {}
    }
    about(plan, several, &mut lines);
    lines
}

/// An INSERT whose keys are not made yet.
fn filled(fill: &Fill, map: &ShardMap) -> Vec<String> {
    let mut sources: Vec<String> = fill.values.iter().map(|v| v.source.to_string()).collect();
    sources.sort();
    sources.dedup();
    vec![
        format!("Plan: {}", kind(&Plan::Fill(fill.clone()), false)),
        format!("Table: {}", fill.table),
        format!("Values: {}", sources.join(", ")),
        format!(
            "Shards: those of {} that the keys lead to",
            map.shards().join(", ")
        ),
        server(&Role::Primary("writes".to_owned())),
    ]
}

/// Where a statement may go whose parameters have no values.
fn undecided(plan: &Plan, (reason, sqlstate): (&str, &str), map: &ShardMap) -> Vec<String> {
    let mut lines = vec![
        format!("Plan: {}", kind(plan, false)),
        format!(
            "Shards: the one of {} that the parameters lead to",
            map.shards().join(", ")
        ),
    ];
    match plan {
        Plan::Single(single) => lines.push(server(&single.role)),
        Plan::Scatter(scatter) => lines.push(server(&scatter.role)),
        Plan::Gather(gather) => lines.push(server(&gather.role)),
        _ => {}
    }
    about(plan, false, &mut lines);
    lines.push(format!(
        "Otherwise: refused as {reason} (SQLSTATE {sqlstate})"
    ));
    lines
}

/// Refused by a rule that keeps it on another shard.
fn kept_away(elsewhere: &Elsewhere, plan: Option<&Plan>) -> Vec<String> {
    let mut lines = vec![
        "Plan: Refuse".to_owned(),
        format!("Reason: {RULE}"),
        format!("SQLSTATE: {}", Elsewhere::SQLSTATE),
        format!("Message: {elsewhere}"),
        format!("Detail: {}", elsewhere.detail()),
        format!("Hint: {}", Elsewhere::HINT),
    ];
    lines.extend(plan.into_iter().flat_map(tables));
    lines
}

fn refused(refusal: &Refusal, plan: Option<&Plan>) -> Vec<String> {
    let mut lines = vec![
        "Plan: Refuse".to_owned(),
        format!("Reason: {}", refusal.reason.text().code),
        format!("SQLSTATE: {}", refusal.sqlstate()),
        format!("Message: {}", refusal.message()),
    ];
    lines.extend(
        refusal
            .detail
            .iter()
            .map(|detail| format!("Detail: {detail}")),
    );
    lines.push(format!("Hint: {}", refusal.hint()));
    lines.extend(plan.into_iter().flat_map(tables));
    lines
}

fn kind(plan: &Plan, several: bool) -> String {
    match plan {
        Plan::Local(_) => "Local".to_owned(),
        Plan::Single(_) if !several => "Single".to_owned(),
        Plan::Single(single) if single.fallback.is_none() => "Gather".to_owned(),
        Plan::Single(_) => "Scatter (the key cannot be read with certainty)".to_owned(),
        Plan::Scatter(_) if several => "Scatter".to_owned(),
        Plan::Scatter(_) => "Single (its keys lead to one shard)".to_owned(),
        Plan::Split(_) => "Split".to_owned(),
        Plan::Gather(_) if several => "Gather".to_owned(),
        Plan::Gather(_) => "Single (its keys lead to one shard)".to_owned(),
        Plan::Fill(_) => "Fill (planned when the router has made its values)".to_owned(),
        Plan::Ddl(ddl) => format!("Ddl ({})", ddl.why),
        Plan::Guarded(guarded) => kind(&guarded.plan, several),
        Plan::Refuse(_) => "Refuse".to_owned(),
    }
}

fn gathers(plan: &Plan) -> Option<&Gather> {
    match plan {
        Plan::Gather(gather) => Some(gather),
        Plan::Single(single) => single.gather.as_deref(),
        Plan::Scatter(Scatter {
            merge: Merge::Sorted(sorted),
            ..
        }) => sorted.otherwise.as_deref().ok(),
        _ => None,
    }
}

fn server(role: &Role) -> String {
    match role {
        Role::Primary(why) => format!("Server: primary ({why})"),
        Role::Replica => {
            "Server: primary or replica (it only reads, and only what replicas have)".to_owned()
        }
    }
}

fn merge(plan: &Plan, route: &Route) -> String {
    match (plan, &route.merge) {
        (Plan::Ddl(_), _) | (_, Some(Merge::First)) => {
            "first (every shard does the same, one answers)".to_owned()
        }
        (Plan::Split(_), _) => "concat (the counts are added)".to_owned(),
        (_, None | Some(Merge::Concat)) => {
            "concat (rows follow each other, counts are added)".to_owned()
        }
        (_, Some(merge)) => merge.to_string(),
    }
}

/// What is said of the statement wherever it goes.
fn about(plan: &Plan, several: bool, lines: &mut Vec<String>) {
    lines.extend(tables(plan));
    if let Plan::Single(single) = plan
        && !single.unknown.is_empty()
    {
        lines.push(format!("Not in the catalog: {}", single.unknown.join(", ")));
    }
    if !several {
        return;
    }
    lines.push(match plan {
        Plan::Ddl(ddl) if !matches!(ddl.course, Course::Transaction | Course::StepsOutside) => {
            "Differs: PostgreSQL does not allow it in a transaction, so it is done shard after shard"
        }
        Plan::Ddl(_) => return,
        _ => {
            "Differs: one snapshot per shard, so a concurrent commit over several shards may be seen on one and not \
             yet on another"
        }
    }.to_owned());
}

fn tables(plan: &Plan) -> Vec<String> {
    let keyed = |by: &KeyedBy| {
        let columns = by.sharded.columns.iter();
        let names: Vec<String> = columns.map(|(name, _)| name.clone()).collect();
        let cond = Shown(&by.cond, &names);
        format!("Table: {} by {}: {cond}", by.table, names.join(", "))
    };
    match plan {
        Plan::Split(split) => {
            let rows = std::iter::once(format!("Table: {}", divided(split)));
            rows.chain(split.others.iter().map(keyed)).collect()
        }
        _ => conditions(plan).iter().map(keyed).collect(),
    }
}

fn divided(split: &Split) -> String {
    let columns = split.sharded.0.columns.iter();
    let key: Vec<&str> = columns.map(|(name, _)| name.as_str()).collect();
    format!("{}: rows divided by {}", split.table, key.join(", "))
}

fn conditions(plan: &Plan) -> &[KeyedBy] {
    let target = match plan {
        Plan::Gather(gather) => return &gather.keyed,
        Plan::Single(single) => &single.target,
        Plan::Scatter(scatter) => &scatter.target,
        Plan::Split(split) => return &split.others,
        _ => return &[],
    };
    match target {
        Target::Keys(keyed) => keyed,
        _ => &[],
    }
}

/// The highest `$number` of a text.
fn parameters(sql: &[u8]) -> u16 {
    let params = Lexer::new(sql, true).filter(|token| token.kind == Kind::Param);
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<u16>().ok();
    params
        .filter_map(|token| number(token.text(sql).get(1..)?))
        .max()
        .unwrap_or(0)
}

/// The types of a statement's parameters, as far as routing depends on them: the declared ones, those of casts,
/// those of the keys that they are compared with. Any other is said to be text, because it decides nothing here.
pub fn parameter_types(sql: &str, plan: Option<&Plan>, declared: &[u32]) -> Vec<u32> {
    let count = usize::from(parameters(sql.as_bytes())).max(declared.len());
    let mut types = vec![0; count];
    types[..declared.len()].copy_from_slice(declared);
    for_each_key(plan, &mut |scalar: &Scalar, column: u32| {
        if let Scalar::Param { number, as_type } = scalar
            && let Some(known) = types.get_mut(usize::from(*number).wrapping_sub(1))
            && *known == 0
        {
            *known = if *as_type == 0 { column } else { *as_type };
        }
    });
    let known = |oid: u32| if oid == 0 { TEXT } else { oid };
    types.into_iter().map(known).collect()
}

/// Whether a parameter decides which shards a plan leads to.
fn is_led(plan: &Plan) -> bool {
    let mut is_led = false;
    for_each_key(Some(plan), &mut |scalar, _| {
        is_led |= matches!(scalar, Scalar::Param { .. });
    });
    is_led
}

/// Shows `note` every value that a key is compared with or gets, and the key's type.
fn for_each_key(plan: Option<&Plan>, note: &mut impl FnMut(&Scalar, u32)) {
    for by in plan.map_or(&[][..], conditions) {
        let oids: Vec<u32> = by.sharded.columns.iter().map(|(_, t)| t.oid()).collect();
        walk(&by.cond, &oids, note);
        for (column, scalar) in &by.kept {
            note(scalar, oids.get(*column).copied().unwrap_or(TEXT));
        }
    }
    if let Some(Plan::Split(split)) = plan
        && let SplitRows::Values { rows, .. } = &split.rows
    {
        for row in rows {
            for (scalar, (_, key)) in row.key.iter().zip(&split.sharded.0.columns) {
                note(scalar, key.oid());
            }
        }
    }
}

fn walk(cond: &Cond, oids: &[u32], note: &mut impl FnMut(&Scalar, u32)) {
    let oid = |column: &usize| oids.get(*column).copied().unwrap_or(TEXT);
    match cond {
        Cond::Any | Cond::Never => {}
        Cond::In { column, items, .. } => {
            for item in items {
                match item {
                    Item::One(scalar) => note(scalar, oid(column)),
                    Item::Array { source, element: 0 } => note(source, array(oid(column))),
                    Item::Array { source, element } => note(source, array(*element)),
                }
            }
        }
        Cond::Between { column, low, high } => {
            for Edge { value, .. } in low.iter().chain(high) {
                note(value, oid(column));
            }
        }
        Cond::All(all) | Cond::Either(all) => all.iter().for_each(|one| walk(one, oids, note)),
    }
}

/// The type of arrays of a key type.
fn array(element: u32) -> u32 {
    builtin_array_oid(element).unwrap_or(TEXT)
}
