//! What unqualified names mean where the search path is known, in `apart`.

use std::collections::BTreeSet;

use mothership_catalog::text;
use mothership_shardmap::{KeyType, ShardMap, ShardMapBuilder};

use crate::tests::hash;
use crate::{PlanContext, Planner, Temporary};

const CATALOG: &str = "
server_version 150004
schema alice
schema app
table public.t
  column id bigint not null
  column b text
  contained
  primary key id
table alice.begin
  column id bigint not null
  column total int
  contained
  primary key id
table public.s
  column id bigint not null
  contained
  primary key id
  policy own (s.id > 0)
table public.u
  column id bigint not null
  contained
  primary key id
  trigger u before public.checks
type alice.text domain text check alice.dig(VALUE)
function public.checks volatile plpgsql begin return new; end
function alice.lower volatile plpgsql BEGIN EXECUTE 'x'; END
function alice.dig volatile plpgsql BEGIN EXECUTE 'x'; END
aggregate alice.count immutable internal dig
aggregate public.total immutable internal dig
function public.calls volatile sql SELECT lower('A')
function public.calls_qualified volatile sql SELECT \"alice\" . lower('A')
function public.along volatile path=alice,public sql SELECT lower('A')
function public.along_safely volatile path=pg_catalog,pg_temp sql SELECT lower('A')
function public.as_its_owner volatile path=\"$user\" sql SELECT lower('A')
function public.turns volatile plpgsql BEGIN PERFORM set_config('search_path', 'ali' || 'ce', true); END
function public.turns_first volatile plpgsql BEGIN PERFORM turns(); PERFORM lower('A'); END
view public.v (b) as SELECT lower(t.b) AS b FROM public.t
view public.w (b) as SELECT alice.lower(t.b) AS b FROM public.t
";

/// Three sharded tables on the search path of everybody, and one that is not.
fn declared() -> ShardMap {
    let mut builder = ShardMapBuilder::new(1);
    for shard in ["s0", "s1", "s2"] {
        builder.shard(shard);
    }
    for (schema, table) in [
        ("public", "t"),
        ("public", "s"),
        ("public", "u"),
        ("alice", "begin"),
    ] {
        builder.table(schema, table, hash(&[("id", KeyType::Int8)]));
    }
    builder.build().unwrap()
}

/// The plan of a statement, as a model makes it.
fn planned(sql: &str, path: &[&str], temporary: Temporary) -> String {
    let (catalog, map) = (text::parse(CATALOG).unwrap(), declared());
    let planner = Planner::new(&catalog, &map);
    let context = PlanContext {
        search_path: path.iter().map(|s| (*s).to_owned()).collect(),
        temporary,
        ..PlanContext::default()
    };
    let apart: BTreeSet<String> = planner.not_meant(sql, &context);
    let narrower = (!apart.is_empty()).then(|| planner.without(&apart));
    let any = planner.plan(sql, &context).to_string();
    match narrower {
        Some(narrower) if any.starts_with("Refuse") => narrower.plan(sql, &context).to_string(),
        _ => any,
    }
}

#[test]
fn functions_of_other_schemas_stop_no_statement() {
    for sql in [
        "SELECT lower('A')",
        "SELECT lower(b) FROM t WHERE id = 5",
        "SELECT count(*) FROM t",
        "SELECT b::text FROM t WHERE id = 5",
        "SELECT calls()",
        "SELECT along_safely()",
        "SELECT b FROM v",
        "SELECT dig('A')",
        "SELECT s.id FROM s WHERE id = 5",
        "INSERT INTO u VALUES (5)",
    ] {
        for path in [
            &["public"][..],
            &["bob", "public"],
            &["pg_catalog", "public"],
        ] {
            let found = planned(sql, path, Temporary::None);
            assert!(!found.starts_with("Refuse"), "{sql} {path:?}: {found}");
        }
        let found = [
            planned(sql, &["alice", "public"], Temporary::None),
            planned(sql, &["public", "alice"], Temporary::None),
            // The path is not certain.
            planned(sql, &["public"], Temporary::Unclear),
        ];
        let is_built_in = ["along_safely", "FROM v", "FROM s"]
            .iter()
            .any(|own| sql.contains(own));
        assert!(
            is_built_in || found.iter().all(|found| found.starts_with("Refuse")),
            "{sql}: {found:?}"
        );
    }
}

#[test]
fn functions_that_a_statement_may_call_count() {
    for sql in [
        "SELECT alice.lower('A')",
        "SELECT \"alice\".lower('A')",
        "SELECT lower('A') FROM alice.dig('A')",
        "SELECT alice.count(b) FROM t",
        "SELECT total(b) FROM t",
        "SELECT b::alice.text FROM t WHERE id = 5",
        "SELECT b FROM w",
        "SELECT calls_qualified()",
        "SELECT along()",
        "SELECT as_its_owner()",
        "SELECT turns_first()",
        "SELECT set_config('search_path', 'alice', true), calls()",
        "SELECT turns(), calls()",
        "SELECT U&\"al\\0069ce\".lower('A')",
        "DO 'BEGIN PERFORM alice.dig(1); END'",
        "DO 'BEGIN DELETE FROM alice.begin; END'",
        "SELECT total(id) FROM alice.begin",
    ] {
        let found = planned(sql, &["public"], Temporary::None);
        assert!(found.starts_with("Refuse"), "{sql}: {found}");
    }
}

#[test]
fn tables_are_declared_where_all_of_them_are_in_other_schemas() {
    let catalog = text::parse(CATALOG).unwrap();
    let mut builder = ShardMapBuilder::new(1);
    for shard in ["s0", "s1", "s2"] {
        builder.shard(shard);
    }
    builder.table("alice", "begin", hash(&[("id", KeyType::Int8)]));
    let map = builder.build().unwrap();
    let (planner, context) = (Planner::new(&catalog, &map), PlanContext::default());
    for sql in [
        "DELETE FROM alice.begin WHERE ctid = '(0,1)'",
        "SELECT id FROM alice.begin WHERE alice.dig('A') = id",
    ] {
        let apart = planner.not_meant(sql, &context);
        for planner in [&planner, &planner.without(&apart)] {
            let found = planner.plan(sql, &context).to_string();
            assert!(found.starts_with("Refuse"), "{sql}: {found}");
        }
    }
    // A definition is judged by all names.
    let cast = "CREATE CAST (alice.text AS int) WITH FUNCTION calls(alice.text)";
    assert!(planner.not_meant(cast, &context).is_empty());
}
