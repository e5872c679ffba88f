//! The planner and the router of plans.
//!
//! Promises: any text gets a plan or a refusal, in bounded memory, the same each time, and the same with comments and a
//! `;` around it; a plan with any values gets shards of the map or a refusal; and the literals of a statement lead to
//! the shards to which the same values lead as parameters. Of reads one of the two forms may know more than the other,
//! so that its shards are some of the other's; a row to be stored has one owner in both.

use mothership_catalog::{Catalog, text};
use mothership_plan::route::shards_of;
use mothership_plan::{Params, Plan, PlanContext, Planner, SplitRows, Target, TextContext, route};
use mothership_shardmap::{
    Cut, KeyType, ShardMap, ShardMapBuilder, ShardSet, ShardedDecl, StrategyDecl, TableDecl,
};
use mothership_sql::lexer::{Kind, Lexer};
use mothership_sql::name::string;
use mothership_sql::shape::{LiteralKind, Scratch, shape};
use mothership_sql::split::split;

use crate::input::Input;
use crate::memory::bounded;

/// Memory that planning one statement may ask for in all: a tree of sqlparser is some hundred times its text.
const FIXED: usize = 8 << 20;
const FOR_EACH_BYTE: usize = 64 << 10;

/// Values of parameters, then the statement.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let formats = [i16::from(input.below(2) == 1)];
    let values: Vec<Option<&[u8]>> = (0..input.below(4))
        .map(|_| match input.below(8) {
            0 => None,
            _ => Some(input.bytes(16)),
        })
        .collect();
    let Ok(sql) = std::str::from_utf8(input.rest()) else {
        return;
    };
    with_planner(|planner, map| {
        let context = PlanContext::default();
        let limit = FIXED + sql.len() * FOR_EACH_BYTE;
        let plan = bounded(limit, "planning", || planner.plan(sql, &context));
        let shown = plan.to_string();
        assert_eq!(
            planner.plan(sql, &context).to_string(),
            shown,
            "planned twice"
        );
        if is_one_certain_statement(sql) {
            let around = format!("/* a */ -- b\n\t{sql}\n;");
            assert_eq!(
                planner.plan(&around, &context).to_string(),
                shown,
                "with comments: {sql}"
            );
        }
        for params in [
            Params::NONE,
            Params {
                formats: &formats,
                values: &values,
                ..Params::NONE
            },
        ] {
            let routed = route(&plan, &params, map, &TextContext::UTC, None);
            assert_eq!(
                route(&plan, &params, map, &TextContext::UTC, None),
                routed,
                "routed twice"
            );
            if let Ok(routed) = routed {
                assert!(!routed.shards.is_empty() && routed.shards.is_subset(&map.all()));
                assert!(
                    routed
                        .rows
                        .keys()
                        .all(|shard| routed.shards.contains(*shard))
                );
                assert!(routed.merge.is_none() || routed.shards.len() > 1);
            }
        }
        by_parameters(planner, map, sql, &plan, &context);
    });
}

fn is_one_certain_statement(sql: &str) -> bool {
    let mut parts = split(sql.as_bytes(), true);
    let one = parts
        .next()
        .is_some_and(|part| !part.empty && !part.uncertain);
    one && parts.next().is_none()
        && !Lexer::new(sql.as_bytes(), true).any(|token| token.kind == Kind::Semicolon)
}

/// The literals of the statement as parameters.
fn by_parameters(
    planner: &Planner<'_>,
    map: &ShardMap,
    sql: &str,
    literal: &Plan,
    context: &PlanContext,
) {
    if matches!(literal, Plan::Refuse(_))
        || Lexer::new(sql.as_bytes(), true).any(|token| token.kind == Kind::Param)
    {
        return;
    }
    let mut scratch = Scratch::new(4096, 64);
    let Some(found) = shape(sql.as_bytes(), true, &mut scratch) else {
        return;
    };
    if found.literals.is_empty() {
        return;
    }
    let mut text = String::new();
    let mut values = Vec::new();
    let mut parameter_types = Vec::new();
    let mut at = 0;
    for literal in found.literals {
        let own = &sql[literal.span.start..literal.span.end];
        let token = Lexer::new(own.as_bytes(), true)
            .next()
            .expect("a literal is a token");
        let (oid, value) = match literal.kind {
            LiteralKind::Int4 => (23, own.as_bytes().to_vec()),
            LiteralKind::Int8 => (20, own.as_bytes().to_vec()),
            LiteralKind::Numeric => (1700, own.as_bytes().to_vec()),
            _ => match string(token, own.as_bytes(), true) {
                Some(value) => (0, value.value.into_owned()),
                None => return,
            },
        };
        values.push(value);
        parameter_types.push(oid);
        text += &sql[at..literal.span.start];
        text += &format!(" ${} ", values.len());
        at = literal.span.end;
    }
    text += &sql[at..];
    let context = PlanContext {
        parameter_types,
        ..context.clone()
    };
    let bound = planner.plan(&text, &context);
    let values: Vec<Option<&[u8]>> = values.iter().map(|value| Some(&value[..])).collect();
    let params = Params {
        formats: &[],
        values: &values,
        ..Params::NONE
    };
    let (Ok(one), Ok(other)) = (
        route(literal, &Params::NONE, map, &TextContext::UTC, None),
        route(&bound, &params, map, &TextContext::UTC, None),
    ) else {
        return;
    };
    if is_stored(literal) || is_stored(&bound) {
        assert_eq!(
            (one.shards, one.rows),
            (other.shards, other.rows),
            "{sql}\n{literal}\n{text}\n{bound}"
        );
        return;
    }
    let (one, other) = (
        owners(literal, &Params::NONE, map),
        owners(&bound, &params, map),
    );
    assert!(
        one.is_subset(&other) || other.is_subset(&one),
        "{sql}\n{literal} {one:?}\n{text}\n{bound} {other:?}"
    );
}

/// Whether rows with their keys are stored.
fn is_stored(plan: &Plan) -> bool {
    match plan {
        Plan::Split(split) => matches!(split.rows, SplitRows::Values { .. }),
        Plan::Single(single) => {
            matches!(&single.target, Target::Keys(keyed) if keyed.iter().any(|by| by.stored.is_some()))
        }
        _ => false,
    }
}

/// The shards that may have a row which the conditions allow: none, if they contradict each other.
fn owners(plan: &Plan, params: &Params<'_>, map: &ShardMap) -> ShardSet {
    let target = match plan {
        Plan::Single(single) => &single.target,
        Plan::Scatter(scatter) => &scatter.target,
        _ => return map.all(),
    };
    match target {
        Target::Keys(keyed) => keyed
            .iter()
            .map(|by| shards_of(by, params, &TextContext::UTC))
            .fold(map.all(), |all, own| all.intersect(&own)),
        // Where it is answered says nothing about rows of sharded tables.
        Target::Home | Target::AnyShard | Target::AllShards => map.all(),
    }
}

/// One catalog and map for each thread, as large as those of the planner's own cases.
fn with_planner(work: impl FnOnce(&Planner<'_>, &ShardMap)) {
    thread_local! {
        static WORLD: (&'static Planner<'static>, &'static ShardMap) = {
            // They live as long as the process.
            let catalog: &'static Catalog = Box::leak(Box::new(catalog()));
            let map: &'static ShardMap = Box::leak(Box::new(map()));
            (Box::leak(Box::new(Planner::new(catalog, map))), map)
        };
    }
    WORLD.with(|(planner, map)| work(planner, map));
}

fn catalog() -> Catalog {
    let cases = include_str!("../../../router/plan/src/tests/catalog.txt");
    text::parse(cases).expect("the catalog of the cases is well formed")
}

fn map() -> ShardMap {
    let mut builder = ShardMapBuilder::new(1);
    builder.shard("s0").shard("s1").shard("s2").shard("s3");
    let sharded = |columns: &[(&str, KeyType)], strategy| {
        TableDecl::Sharded(ShardedDecl {
            columns: columns
                .iter()
                .map(|(name, key)| ((*name).to_owned(), *key))
                .collect(),
            strategy,
            group: None,
            allow_unenforced_unique: false,
        })
    };
    for (table, column, key_type) in [
        ("t", "id", KeyType::Int8),
        ("u", "id", KeyType::Int8),
        ("p", "id", KeyType::Int8),
        ("ser", "id", KeyType::Int8),
        ("trg", "id", KeyType::Int8),
        ("rls", "id", KeyType::Int8),
        ("w", "k", KeyType::Int8),
        ("i4", "id", KeyType::Int4),
        ("txt", "k", KeyType::Text),
        ("vc", "k", KeyType::Varchar),
        ("uid", "id", KeyType::Uuid),
        ("ev", "id", KeyType::TimestampTz),
        ("d", "id", KeyType::Date),
    ] {
        builder.table(
            "public",
            table,
            sharded(&[(column, key_type)], StrategyDecl::Hash),
        );
    }
    builder.table(
        "public",
        "c2",
        sharded(
            &[("x", KeyType::Int4), ("y", KeyType::Text)],
            StrategyDecl::Hash,
        ),
    );
    let middle = || vec![Cut::Value(KeyType::Int4.from_integer(100).expect("fits"))];
    let ranges = vec![
        (vec![Cut::Min], middle(), "s0".to_owned()),
        (middle(), vec![Cut::Max], "s3".to_owned()),
    ];
    builder.table(
        "public",
        "rng",
        sharded(
            &[("id", KeyType::Int4)],
            StrategyDecl::Range {
                ranges,
                default: None,
            },
        ),
    );
    for table in ["r", "r2", "rs"] {
        builder.table("public", table, TableDecl::Reference);
    }
    builder.build().expect("the map is well formed")
}

/// The statements of the planner's cases.
pub fn statements() -> impl Iterator<Item = &'static str> {
    let cases = include_str!("../../../router/plan/src/tests/cases.txt");
    cases
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with([' ', '#']))
}

/// The planner's cases, with values for those that have parameters, and some that go to the bounds.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = statements()
        .map(|sql| [&[0, 2, 1, 1, b'5', 1, 1, b'7'][..], sql.as_bytes()].concat())
        .collect();
    let nested = |open: &str, inside: &str, close: &str, depth: usize| {
        [
            b"\0\0",
            "SELECT ".as_bytes(),
            open.repeat(depth).as_bytes(),
            inside.as_bytes(),
            close.repeat(depth).as_bytes(),
        ]
        .concat()
    };
    seeds.push(nested("(", "1", ")", 59));
    seeds.push(nested("(", "1", ")", 2000));
    seeds.push(nested("(SELECT ", "1", ")", 50));
    seeds.push(nested("-", " 1", "", 500));
    seeds.push(nested("NOT ", "true", "", 500));
    seeds.push(nested("1 + ", "1", "", 1500));
    seeds.push(nested("ARRAY[", "1", "]", 100));
    seeds.push(nested("CASE WHEN true THEN ", "1", " END", 100));
    seeds
}
