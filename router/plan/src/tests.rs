//! Cases: statements and the plans that they must have.
//!
//! `cases.txt` holds statements, each followed by its plan and, where no parameter
//! is missing, its shards. `UPDATE_EXPECT=1` writes the file anew; every change of it is to be read.

mod apart;
mod oracle;
mod random;
mod routing;
mod shapes;
mod touches;
mod unit;
pub(crate) mod vary;

use mothership_shardmap::{
    KeyType, ShardMap, ShardMapBuilder, ShardedDecl, StrategyDecl, TableDecl,
};

use super::*;
use mothership_catalog::text;
use mothership_sql::places::{shows, sketched};

/// The catalog of the cases.
fn catalog() -> Catalog {
    text::parse(include_str!("tests/catalog.txt")).expect("the catalog of the cases is well formed")
}

fn hash(columns: &[(&str, KeyType)]) -> TableDecl {
    sharded(columns, StrategyDecl::Hash)
}

fn sharded(columns: &[(&str, KeyType)], strategy: StrategyDecl) -> TableDecl {
    TableDecl::Sharded(ShardedDecl {
        columns: columns.iter().map(|(n, t)| ((*n).to_owned(), *t)).collect(),
        strategy,
        group: None,
        allow_unenforced_unique: false,
    })
}

/// Four shards; `rng` is divided at 100, 200 and 300.
fn map() -> ShardMap {
    use mothership_shardmap::Cut;
    let mut builder = ShardMapBuilder::new(1);
    for shard in ["s0", "s1", "s2", "s3"] {
        builder.shard(shard);
    }
    let id8 = [("id", KeyType::Int8)];
    for table in [
        "t",
        "u",
        "p",
        "ser",
        "nokey",
        "trg",
        "trgbad",
        "trgrec",
        "trgread",
        "trgmod",
        "trgall",
        "trgsay",
        "trgonce",
        "trgnotify",
        "rls",
        "rlsbad",
        "rlsref",
        "rlschosen",
        "rlssampled",
        "rlsplaced",
        "rlsrandom",
        "rlscounts",
        "rlscalled",
        "rlsvolatile",
        "rlslies",
        "rlsdeep",
        "rlsmixed",
        "log_a",
    ] {
        builder.table("public", table, hash(&id8));
    }
    builder.table("public", "i4", hash(&[("id", KeyType::Int4)]));
    builder.table("public", "sq", hash(&id8));
    builder.table("public", "idn", hash(&[("id", KeyType::Int4)]));
    builder.table("public", "ud", hash(&[("id", KeyType::Uuid)]));
    builder.table("public", "kd", hash(&[("k", KeyType::Text)]));
    builder.table("public", "w", hash(&[("k", KeyType::Int8)]));
    builder.table(
        "public",
        "c2",
        hash(&[("x", KeyType::Int4), ("y", KeyType::Text)]),
    );
    builder.table("public", "txt", hash(&[("k", KeyType::Text)]));
    builder.table("public", "ci", hash(&[("k", KeyType::Text)]));
    builder.table("public", "vc", hash(&[("k", KeyType::Varchar)]));
    builder.table("public", "uid", hash(&[("id", KeyType::Uuid)]));
    builder.table("public", "ev", hash(&[("id", KeyType::TimestampTz)]));
    builder.table("public", "d", hash(&[("id", KeyType::Date)]));
    builder.table("public", "dom", hash(&[("id", KeyType::Int4)]));
    builder.table("public", "absent", hash(&id8));
    builder.table("public", "coming", hash(&id8));
    let cut = |n: i64| {
        vec![Cut::Value(
            KeyType::Int4.from_integer(n.into()).expect("fits"),
        )]
    };
    let ranges = vec![
        (vec![Cut::Min], cut(100), "s0".to_owned()),
        (cut(100), cut(200), "s1".to_owned()),
        (cut(200), cut(300), "s2".to_owned()),
        (cut(300), vec![Cut::Max], "s3".to_owned()),
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
    for table in ["r", "r2", "rs", "rlsr"] {
        builder.table("public", table, TableDecl::Reference);
    }
    builder
        .build()
        .expect("the map of the cases is well formed")
}

/// The planner's refusal of what no rule speaks of.
fn refusal(no_route: NoRoute) -> Refusal {
    match no_route {
        NoRoute::Refused(refusal) => refusal,
        NoRoute::Elsewhere(elsewhere) => panic!("{elsewhere}"),
    }
}

/// One line of a plan, and where it goes.
fn shown(planner: &Planner<'_>, map: &ShardMap, sql: &str, context: &PlanContext) -> String {
    let plan = planner.plan(sql, context);
    let mut out = plan.to_string();
    if let Plan::Fill(fill) = &plan {
        // As if its values were these.
        let value = |(at, wanted): (usize, &fill::Wanted)| match wanted.source {
            fill::Source::Next(_) => (at + 1).to_string(),
            fill::Source::Asked(_) => (at + 1).to_string(),
            fill::Source::RandomUuid => format!("00000000-0000-4000-8000-{at:012}"),
        };
        let values: Vec<String> = fill.values.iter().enumerate().map(value).collect();
        let filled = fill.with_constants(sql, &values).expect("all are there");
        let changes = fill.changes_by_constants(&values).expect("all are there");
        assert!(shows(&sketched(sql, &changes), &filled), "{filled}");
        let (text, _) = fill.with_parameters(sql, &[]).expect("they are few");
        return format!(
            "{out}: {filled} | {text} = {}",
            shown(planner, map, &filled, context)
        );
    }
    if !sql.contains('$') && !matches!(plan, Plan::Refuse(_) | Plan::Local(_) | Plan::Ddl(_)) {
        match route(&plan, &Params::NONE, map, &TextContext::UTC, None) {
            Ok(route) => {
                out += &format!(" -> {:?}", route.shards);
                if let Some(leaf) = route.leaf {
                    out += &format!(" {leaf}");
                }
            }
            Err(refusal) => out += &format!(" -> refused {refusal}"),
        }
    }
    out
}

#[test]
fn every_case_has_its_plan() {
    let (catalog, map) = (catalog(), map());
    let planner = Planner::new(&catalog, &map);
    let context = PlanContext::default();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/cases.txt");
    let expected = std::fs::read_to_string(path).expect("the cases are there");
    let mut actual = String::new();
    for line in expected.lines() {
        if line.starts_with("    ") {
            continue;
        }
        actual += line;
        actual.push('\n');
        if !line.trim().is_empty() && !line.starts_with('#') {
            actual += &format!(
                "    {}\n",
                shown(&planner, &map, &line.replace("\\n", "\n"), &context)
            );
        }
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, &actual).expect("the cases can be written");
        return;
    }
    for (expected, actual) in expected.lines().zip(actual.lines()) {
        assert_eq!(actual, expected);
    }
    assert_eq!(actual.lines().count(), expected.lines().count());
}

/// What the fast path takes for the way of a read is the route of its plan.
fn assert_reads_alike(
    plan: &Plan,
    params: &Params<'_>,
    map: &ShardMap,
    routed: &Result<Route, NoRoute>,
) {
    let Some(reading) = reading(plan, params, map, &TextContext::UTC) else {
        return;
    };
    let route = routed.as_ref().expect("what can be read has a route");
    assert_eq!(route.role, Role::Replica, "{plan}");
    assert!(route.gathered.is_none() && route.rows.is_empty(), "{plan}");
    match reading {
        ReadRoute::One(shard) => {
            assert_eq!(
                (route.shards.single(), &route.merge),
                (Some(shard), &None),
                "{plan}"
            );
        }
        ReadRoute::Over(shards, merge) => {
            assert!(shards.len() > 1, "{plan}");
            assert_eq!(
                (&route.shards, route.merge.as_ref()),
                (&shards, Some(merge)),
                "{plan}"
            );
        }
    }
}
