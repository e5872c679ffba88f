//! Where a statement goes, as the router itself says it: `EXPLAIN (ROUTE)` through
//! both protocols, `mothership explain` and `check-config` on the command line, and
//! the console's tables of the map.

use mothership_tests::message::{self, Format};
use mothership_tests::{Endpoint, Router, Shards, Wire, connect};

const PASSWORD: &str = "open sesame";

/// Three shards with `orders` divided by `customer_id`, in three partitions each.
struct World {
    _router: Router,
    shards: Shards,
    client: Endpoint,
}

const SHOP: &str = "CREATE TABLE orders (customer_id int8 NOT NULL, note text, PRIMARY KEY (customer_id)) \
    PARTITION BY HASH (customer_id); \
    CREATE TABLE orders_0 PARTITION OF orders FOR VALUES WITH (MODULUS 3, REMAINDER 0); \
    CREATE TABLE orders_1 PARTITION OF orders FOR VALUES WITH (MODULUS 3, REMAINDER 1); \
    CREATE TABLE orders_2 PARTITION OF orders FOR VALUES WITH (MODULUS 3, REMAINDER 2); \
    CREATE TABLE products (id int8 PRIMARY KEY)";

const TABLES: &str = "[[table]]\nname = \"orders\"\nkey = \"customer_id\"\n\
    [[table]]\nname = \"products\"\nkind = \"reference\"\n\
    [[table]]\nname = \"events\"\nkey = \"id\"\n";

fn config(shards: &Shards, tables: &str) -> String {
    let server = shards.endpoint(0);
    let mut config = format!(
        "{tables}[listen]\nport = @port@\nworkers = 2\n[pool]\nmin = 0\n[auth]\npassthrough = false\n\
         [console]\nadmin_users = [\"root\"]\n[[user]]\nname = \"root\"\npassword = \"{PASSWORD}\"\n\
         [[user]]\nname = \"{0}\"\npassword = \"{1}\"\n\
         [control]\nuser = \"{0}\"\npassword = \"{1}\"\n",
        server.user, server.password
    );
    let databases =
        (0..shards.count()).map(|at| format!("s{at} = \"{}\"", shards.endpoint(at).database));
    let databases: Vec<String> = databases.collect();
    config += &format!(
        "[[database]]\nname = \"shop\"\non = {{ {} }}\n",
        databases.join(", ")
    );
    for at in 0..shards.count() {
        config += &format!(
            "[[shard]]\nname = \"s{at}\"\n[[shard.server]]\naddress = \"127.0.0.1:{}\"\nrole = \"primary\"\n",
            server.port
        );
    }
    config
}

impl World {
    fn new(tables: &str) -> World {
        let shards = Shards::new(3);
        shards.sql_all(SHOP);
        let router = Router::start(&config(&shards, tables));
        let client = Endpoint {
            database: "shop".into(),
            ..shards.endpoint(0).at_port(router.port())
        };
        World {
            _router: router,
            shards,
            client,
        }
    }

    fn wire(&self) -> Wire {
        Wire::login(&self.client)
    }
}

fn lines(wire: &mut Wire, sql: &str) -> Vec<String> {
    wire.rows(sql).into_iter().flatten().collect()
}

#[test]
fn a_route_is_explained_through_the_simple_protocol_without_a_server() {
    let world = World::new(TABLES);
    let mut wire = world.wire();
    let one = lines(
        &mut wire,
        "EXPLAIN (ROUTE) SELECT * FROM orders WHERE customer_id = 5",
    );
    assert_eq!(one[0], "Plan: Single");
    // PostgreSQL itself says in which partition the row is.
    let shard: usize = one[1].strip_prefix("Shards: s").unwrap().parse().unwrap();
    world
        .shards
        .sql(shard, "INSERT INTO orders VALUES (5, 'x')");
    let leaf = world.shards.sql(
        shard,
        "SELECT tableoid::regclass FROM orders WHERE customer_id = 5",
    );
    assert_eq!(one[2], format!("Partition: public.{}", leaf.trim()));
    assert_eq!(
        wire.rows("SELECT note FROM orders WHERE customer_id = 5"),
        [["x"]]
    );

    let all = lines(&mut wire, "EXPLAIN (ROUTE) SELECT count(*) FROM orders;");
    assert_eq!(all[..2], ["Plan: Scatter", "Shards: s0, s1, s2"]);
    assert!(
        all.last()
            .unwrap()
            .starts_with("Differs: one snapshot per shard")
    );

    let refused = lines(
        &mut wire,
        "EXPLAIN (ROUTE) SELECT * FROM orders ORDER BY note",
    );
    assert_eq!(
        refused[..3],
        [
            "Plan: Refuse",
            "Reason: order-by-over-shards",
            "SQLSTATE: 0A000"
        ]
    );
    // Nothing is executed, whatever the other options say.
    lines(&mut wire, "EXPLAIN (ANALYZE, ROUTE) DELETE FROM orders");
    assert_eq!(wire.rows("SELECT count(*) FROM orders"), [["1"]]);

    let frames = wire.query("EXPLAIN (ROUTE) SELECT 1");
    assert_eq!(frames[0].columns(), ["QUERY PLAN"]);
    let kinds: Vec<u8> = frames.iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, b"TDDDCZ");
}

#[test]
fn a_failed_transaction_explains_nothing() {
    let world = World::new(TABLES);
    let mut wire = world.wire();
    wire.query("BEGIN");
    assert_eq!(
        lines(&mut wire, "EXPLAIN (ROUTE) SELECT 1")[0],
        "Plan: Single"
    );
    wire.query("SELECT 1 / 0");
    let frames = wire.query("EXPLAIN (ROUTE) SELECT 1");
    assert_eq!(frames[0].sqlstate(), "25P02");
    wire.send_all(&[
        message::parse("", "EXPLAIN (ROUTE) SELECT 1", &[]),
        message::sync(),
    ]);
    assert_eq!(wire.until_ready()[0].sqlstate(), "25P02");
}

#[tokio::test]
async fn parameters_of_the_extended_protocol_lead_to_their_shard() {
    let world = World::new(TABLES);
    let client = connect(&world.client).await;
    let explain = client
        .prepare("EXPLAIN (ROUTE) SELECT * FROM orders WHERE customer_id = $1")
        .await
        .unwrap();
    assert_eq!(explain.params(), [tokio_postgres::types::Type::INT8]);
    let mut wire = world.wire();
    for key in [-7_i64, 0, 5, 1 << 40] {
        let rows = client.query(&explain, &[&key]).await.unwrap();
        let bound: Vec<String> = rows.iter().map(|row| row.get("QUERY PLAN")).collect();
        let written = lines(
            &mut wire,
            &format!("EXPLAIN (ROUTE) SELECT * FROM orders WHERE customer_id = {key}"),
        );
        // The same shard and partition, whether the key is bound or written.
        assert_eq!(bound[..4], written[..4], "{key}");
    }
}

#[test]
fn rows_are_given_in_portions_and_in_their_turn() {
    let world = World::new(TABLES);
    let mut wire = world.wire();
    wire.send_all(&[
        message::parse("", "SELECT 42", &[]),
        message::bind_text(&[]),
        message::execute("", 0),
        message::parse(
            "e",
            "EXPLAIN (ROUTE) SELECT * FROM orders WHERE customer_id = $1",
            &[],
        ),
        message::describe_statement("e"),
        message::bind("p", "e", Format::Text, &[Some(b"5")], Format::Binary),
        message::describe_portal("p"),
        message::execute("p", 2),
        message::execute("p", 0),
        message::close_portal("p"),
        message::sync(),
    ]);
    let frames = wire.until_ready();
    let kinds: Vec<u8> = frames.iter().map(|frame| frame.kind).collect();
    assert_eq!(String::from_utf8_lossy(&kinds), "12DC1tT2TDDsDDDC3Z");
}

#[test]
fn without_declared_tables_everything_goes_to_the_home_shard() {
    let world = World::new("");
    let mut wire = world.wire();
    let said = lines(&mut wire, "EXPLAIN (ROUTE) SELECT * FROM orders");
    assert_eq!(said[1], "Shards: s0");
    assert!(said[2].contains("no tables are declared"), "{said:?}");
}
