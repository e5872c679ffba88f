//! What planning a text costs, beside one sqlparser parse of it, and what routing a planned one costs.
//!
//! `cargo bench -p mothership-benches --bench planning`

use criterion::{Criterion, criterion_group, criterion_main};
use mothership::catalog::{Catalog, text};
use mothership::plan::context::{Params, PlanContext, TextContext};
use mothership::plan::{Plan, Planner, route};
use mothership_shardmap::{
    KeyType, ShardMap, ShardMapBuilder, ShardedDecl, StrategyDecl, TableDecl,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use std::hint::black_box;

const CATALOG: &str = "
server_version 150004
schema public
table public.pgbench_accounts
  column aid int not null
  column bid int
  column abalance int
  column filler char
  primary key aid
table public.orders
  column customer_id bigint not null
  column id bigint not null
  column status text
  column total numeric
  column placed timestamptz
  primary key customer_id, id
table public.customers
  column customer_id bigint not null
  column name text
  primary key customer_id
";

const STATEMENTS: [(&str, &str); 4] = [
    (
        "pgbench",
        "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
    ),
    (
        "update",
        "UPDATE orders SET status = 'sent', total = total + 1 WHERE customer_id = 7 AND id = 8",
    ),
    (
        "insert",
        "INSERT INTO orders (customer_id, id, status, total, placed) VALUES (7, 8, 'new', 9.99, now())",
    ),
    (
        "join",
        "SELECT c.name, o.id, o.total FROM customers c JOIN orders o ON o.customer_id = c.customer_id \
         WHERE c.customer_id = 7 AND o.status IN ('new', 'paid') ORDER BY o.placed DESC LIMIT 10",
    ),
];

fn catalog() -> Catalog {
    text::parse(CATALOG).expect("the catalog is well formed")
}

fn map() -> ShardMap {
    let mut builder = ShardMapBuilder::new(1);
    for shard in ["s0", "s1", "s2"] {
        builder.shard(shard);
    }
    let tables = [
        ("pgbench_accounts", "aid", KeyType::Int4, None),
        ("customers", "customer_id", KeyType::Int8, Some("customer")),
        ("orders", "customer_id", KeyType::Int8, Some("customer")),
    ];
    for (table, key, key_type, group) in tables {
        let declared = ShardedDecl {
            columns: vec![(key.to_owned(), key_type)],
            strategy: StrategyDecl::Hash,
            group: group.map(str::to_owned),
            allow_unenforced_unique: false,
        };
        builder.table("public", table, TableDecl::Sharded(declared));
    }
    builder.build().expect("the map is whole")
}

fn planning(criterion: &mut Criterion) {
    let (catalog, map) = (catalog(), map());
    let planner = Planner::new(&catalog, &map);
    let context = PlanContext::default();
    for (name, sql) in STATEMENTS {
        let plan = planner.plan(sql, &context);
        assert!(
            matches!(plan, Plan::Single(_) | Plan::Split(_)),
            "{name}: {plan:?}"
        );
        let mut group = criterion.benchmark_group(name);
        group.bench_function("parse", |bencher| {
            bencher.iter(|| Parser::parse_sql(&PostgreSqlDialect {}, black_box(sql)));
        });
        group.bench_function("plan", |bencher| {
            bencher.iter(|| planner.plan(black_box(sql), &context));
        });
        group.bench_function("route", |bencher| {
            bencher.iter(|| {
                route::route(
                    black_box(&plan),
                    &Params::NONE,
                    &map,
                    &TextContext::UTC,
                    None,
                )
            });
        });
        group.finish();
    }
}

criterion_group!(benches, planning);
criterion_main!(benches);
