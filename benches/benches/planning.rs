//! What planning a text costs, beside one sqlparser parse of the same text.
//!
//! Four ways lead to a route. `new`: no text of this shape was seen, and the text is planned for itself alone.
//! `second`: one was seen, and the text is planned for itself and for all texts of its shape. `known`: the shape has a
//! plan, which is routed with the literals of the text. `bind`: the plan of a prepared statement is routed with its
//! values. `make bench` divides the first three by `parse`, and `bind` by `parse_prepared` (see `src/planning.rs`).
//!
//! `cargo bench -p mothership-benches --bench planning`

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use mothership::statements::shapes::{Known, Room, Shaped, Shapes};
use mothership_catalog::{Catalog, text};
use mothership_plan::context::{Params, PlanContext, TextContext};
use mothership_plan::{Literals, Plan, Planner, ReadRoute, reading, route};
use mothership_shardmap::{
    KeyType, ShardMap, ShardMapBuilder, ShardedDecl, StrategyDecl, TableDecl,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use std::hint::black_box;
use std::rc::Rc;

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

/// A statement as pgbench and drivers send it, with literals and with parameters.
struct Sent {
    name: &'static str,
    /// Whether it only reads: then `known` and `bind` find its route by [`reading`], without the general path.
    reads: bool,
    text: &'static str,
    /// Another text of its shape.
    another: &'static str,
    prepared: &'static str,
    values: &'static [&'static str],
}

const STATEMENTS: [Sent; 4] = [
    Sent {
        name: "pgbench",
        reads: true,
        text: "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
        another: "SELECT abalance FROM pgbench_accounts WHERE aid = 7;",
        prepared: "SELECT abalance FROM pgbench_accounts WHERE aid = $1;",
        values: &["12345"],
    },
    Sent {
        name: "update",
        reads: false,
        text: "UPDATE orders SET status = 'sent', total = total + 1 WHERE customer_id = 7 AND id = 8",
        another: "UPDATE orders SET status = 'paid', total = total + 9 WHERE customer_id = 17 AND id = 28",
        prepared: "UPDATE orders SET status = $1, total = total + $2 WHERE customer_id = $3 AND id = $4",
        values: &["sent", "1", "7", "8"],
    },
    Sent {
        name: "insert",
        reads: false,
        text: "INSERT INTO orders (customer_id, id, status, total, placed) VALUES (7, 8, 'new', 9.99, now())",
        another: "INSERT INTO orders (customer_id, id, status, total, placed) VALUES (70, 18, 'old', 1.50, now())",
        prepared: "INSERT INTO orders (customer_id, id, status, total, placed) VALUES ($1, $2, $3, $4, now())",
        values: &["7", "8", "new", "9.99"],
    },
    Sent {
        name: "join",
        reads: true,
        text: "SELECT c.name, o.id, o.total FROM customers c JOIN orders o ON o.customer_id = c.customer_id \
               WHERE c.customer_id = 7 AND o.status IN ('new', 'paid') ORDER BY o.placed DESC LIMIT 10",
        another: "SELECT c.name, o.id, o.total FROM customers c JOIN orders o ON o.customer_id = c.customer_id \
                  WHERE c.customer_id = 70 AND o.status IN ('old', 'sent') ORDER BY o.placed DESC LIMIT 10",
        prepared: "SELECT c.name, o.id, o.total FROM customers c JOIN orders o ON o.customer_id = c.customer_id \
                   WHERE c.customer_id = $1 AND o.status IN ($2, $3) ORDER BY o.placed DESC LIMIT 10",
        values: &["7", "new", "paid"],
    },
];

/// Of another shape than all of these.
const OTHER: &str = "SELECT 1";

/// As many shapes as there are by default, and far more bytes than these take.
const ROOM: Room = Room {
    shapes: 10_000,
    bytes: 64 << 20,
};

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

/// The planner, the map and the context by which texts are planned and routed.
struct World<'a> {
    planner: Planner<'a>,
    map: &'a ShardMap,
    context: Rc<PlanContext>,
}

impl World<'_> {
    /// The number of the model for which shapes keep their plans; there is only one model here.
    const VERSION: u64 = 1;

    /// Routes a text of a shape that was seen, as a session does with a simple query.
    fn known(&self, shapes: &Shapes, sql: &'static str, reads: bool) {
        let shaped = shapes.known(sql.as_bytes(), true);
        let shaped = match reads {
            true => shaped,
            // The general path looks the shape up once more.
            false => shapes.find(sql.as_bytes(), true, ROOM),
        };
        let shaped = shaped.expect("the shape was seen");
        let Known::Plan(known) = shaped.entry.plan(Self::VERSION, &self.context, &[]) else {
            panic!("{sql} has no plan of its shape");
        };
        let own = shaped.span.of(sql.as_bytes());
        let text = std::str::from_utf8(own).expect("it is cut between tokens");
        assert!(known.serves_every_text() || self.planner.is_valid_for(&known, text));
        let params = Params {
            literals: Literals::new(own, &shaped.literals),
            ..Params::NONE
        };
        self.lead(&known.plan, &params, reads);
    }

    /// Plans and routes a text of a shape that has no plan.
    fn without_plan(&self, shapes: &Shapes, sql: &str, room: Room) {
        let shaped = shapes.find(sql.as_bytes(), true, room);
        let shaped = shaped.expect("it has a shape");
        let plan = self.plan_shape(&shaped, sql);
        self.lead(&plan, &Params::NONE, false);
    }

    /// The plan of the text; that of its shape is kept if the text is not the first.
    fn plan_shape(&self, shaped: &Shaped, sql: &str) -> Plan {
        let own = &sql[shaped.span.start..shaped.span.end];
        let (entry, context) = (&shaped.entry, &self.context);
        let planner = (&self.planner, Self::VERSION);
        entry.make_plan(planner, (context, &[]), own, &shaped.literals, context)
    }

    fn lead(&self, plan: &Plan, params: &Params<'_>, reads: bool) {
        let context = &TextContext::UTC;
        if reads && let Some(found) = reading(black_box(plan), params, self.map, context) {
            assert!(matches!(found, ReadRoute::One(_)));
            black_box(found);
            return;
        }
        let found = route::route(black_box(plan), params, self.map, context, None);
        black_box(found).expect("it leads somewhere");
    }
}

fn planning(criterion: &mut Criterion) {
    let (catalog, map) = (catalog(), map());
    let world = World {
        planner: Planner::new(&catalog, &map),
        map: &map,
        context: Rc::default(),
    };
    for sent in STATEMENTS {
        let (sql, reads) = (sent.text, sent.reads);
        let mut group = criterion.benchmark_group(sent.name);
        let parse = |sql| Parser::parse_sql(&PostgreSqlDialect {}, black_box(sql));
        group.bench_function("parse", |bencher| bencher.iter(|| parse(sql)));
        let shapes = Shapes::default();
        let one = Room { shapes: 1, ..ROOM };
        group.bench_function("new", |bencher| {
            // There is room for one shape only, and OTHER takes it: so the shape of `sql` is new each time.
            let forget = || drop(shapes.find(OTHER.as_bytes(), true, one));
            bencher.iter_batched(
                forget,
                |()| world.without_plan(&shapes, black_box(sql), one),
                BatchSize::PerIteration,
            );
        });
        group.bench_function("second", |bencher| {
            let once = || {
                drop(shapes.find(OTHER.as_bytes(), true, one));
                world.without_plan(&shapes, sent.another, one);
            };
            bencher.iter_batched(
                once,
                |()| world.without_plan(&shapes, black_box(sql), one),
                BatchSize::PerIteration,
            );
        });
        // The second text of a shape makes the plan of the shape, and becomes a sample that later texts are compared
        // with.
        for _ in 0..2 {
            world.without_plan(&shapes, sent.another, ROOM);
        }
        group.bench_function("known", |bencher| {
            bencher.iter(|| world.known(&shapes, black_box(sql), reads));
        });
        group.bench_function("parse_prepared", |bencher| {
            bencher.iter(|| parse(sent.prepared));
        });
        let plan = world.planner.plan(sent.prepared, &world.context);
        let values: Vec<_> = sent.values.iter().map(|v| Some(v.as_bytes())).collect();
        group.bench_function("bind", |bencher| {
            bencher.iter(|| {
                let params = Params {
                    values: black_box(&values),
                    ..Params::NONE
                };
                world.lead(&plan, &params, reads);
            });
        });
        group.finish();
    }
}

criterion_group!(benches, planning);
criterion_main!(benches);
