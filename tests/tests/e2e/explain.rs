//! Where a statement goes, as the router itself says it: `EXPLAIN (ROUTE)` through
//! both protocols, `mothership explain` and `check-config` on the command line, and
//! the console's tables of the map.

use mothership_tests::message::{self, Format};
use mothership_tests::{Endpoint, Folder, Router, Shards, Wire, connect, router::binary};
use std::process::{Command, Output};

pub const PASSWORD: &str = "open sesame";

/// Three shards with `orders` divided by `customer_id`, in three partitions each.
struct World {
    router: Router,
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

/// The shards under one database `shop`, with these sections before all others.
pub fn config(shards: &Shards, tables: &str) -> String {
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
            router,
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

    let gathered = lines(
        &mut wire,
        "EXPLAIN (ROUTE) SELECT note FROM orders WHERE note > 'a' ORDER BY note",
    );
    assert_eq!(gathered[..2], ["Plan: Gather", "Shards: s0, s1, s2"]);
    assert!(gathered[4].starts_with("Fragment: SELECT"), "{gathered:?}");
    assert!(gathered[5].starts_with("Residue on"), "{gathered:?}");

    let refused = lines(
        &mut wire,
        "EXPLAIN (ROUTE) SELECT * FROM orders ORDER BY 1 LIMIT 1 FOR UPDATE NOWAIT",
    );
    assert_eq!(
        refused[..3],
        [
            "Plan: Refuse",
            "Reason: locking-over-shards",
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
    wire.query("ROLLBACK");
    assert_eq!(
        lines(&mut wire, "EXPLAIN (ROUTE) SELECT 1")[0],
        "Plan: Single"
    );
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

/// Runs the binary on a configuration without a router, and the error output behind the output.
fn mothership(config: &str, arguments: &[&str]) -> (bool, String) {
    let folder = Folder::new("explain");
    let path = folder.path().join("mothership.toml");
    std::fs::write(&path, config.replace("@port@", "6432")).unwrap();
    let mut command = Command::new(binary());
    command.arg(arguments[0]).arg("--config").arg(&path);
    let Output {
        status,
        stdout,
        stderr,
    } = command.args(&arguments[1..]).output().unwrap();
    let said = [stdout, stderr].concat();
    (status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn the_command_line_says_what_the_wire_says() {
    let world = World::new(TABLES);
    let config = config(&world.shards, TABLES);
    let mut wire = world.wire();
    for sql in [
        "SELECT * FROM orders WHERE customer_id = 5",
        "SELECT count(*) FROM orders",
        "INSERT INTO orders VALUES (1, 'a'), (2, 'b'), (3, 'c')",
        "INSERT INTO products VALUES (1)",
        "SELECT * FROM orders ORDER BY note",
    ] {
        let wired = lines(&mut wire, &format!("EXPLAIN (ROUTE) {sql}"));
        let (good, said) = mothership(&config, &["explain", "--database", "shop", sql]);
        assert!(good, "{said}");
        assert_eq!(said.lines().collect::<Vec<_>>(), wired);
    }
    let (good, said) = mothership(&config, &["explain", "SELECT 1"]);
    assert!(!good && said.contains("--catalog"), "{said}");
}

#[test]
fn the_command_line_obeys_rules_as_the_wire_does() {
    let rule = "[[rule]]\nname = \"kept\"\napplications = \"kept\"\naction = \"shard\"\nshard = \"s1\"\npriority = 5\n";
    for tables in [TABLES, ""] {
        let sections = format!("{tables}{rule}");
        let world = World::new(&sections);
        let config = config(&world.shards, &sections);
        let kept = [("application_name", "kept")];
        let mut wire = Wire::login_with(&world.client, &kept);
        let keys = (0..9).map(|key| format!("SELECT * FROM orders WHERE customer_id = {key}"));
        let others = [
            "SELECT version()",
            "SELECT * FROM products",
            "SELECT * FROM nowhere",
            "SELECT count(*) FROM orders",
            "SELECT * FROM orders WHERE customer_id = $1",
            "SET work_mem = '1MB'",
        ];
        let (mut here, mut refused) = (0, 0);
        for sql in keys.chain(others.map(str::to_owned)) {
            let wired = lines(&mut wire, &format!("EXPLAIN (ROUTE) {sql}"));
            let who = ["--database", "shop", "--application", "kept", &*sql];
            let (good, said) = mothership(&config, &[&["explain"], &who[..]].concat());
            assert!(good, "{said}");
            assert_eq!(said.lines().collect::<Vec<_>>(), wired);
            assert_eq!(
                wired.last().map(String::as_str),
                Some("Rule: kept (shard s1, priority 5)")
            );
            here += usize::from(wired[1] == "Shards: s1");
            refused += usize::from(wired[1] == "Reason: rule");
        }
        println!("{here} on the shard, {refused} refused");
        assert!(here > 0 && refused > 0);
    }
}

#[test]
fn a_catalog_file_needs_no_server() {
    let shards = Shards::new(2);
    let config = config(
        &shards,
        "[[table]]\nname = \"orders\"\nkey = \"customer_id\"\n",
    )
    .replace(&format!(":{}\"", shards.endpoint(0).port), ":1\"");
    let folder = Folder::new("catalog");
    let catalog = folder.path().join("catalog.txt");
    let text = "schema public\ntable public.orders\n column customer_id bigint not null\n column note text\n";
    std::fs::write(&catalog, text).unwrap();
    let catalog = catalog.to_str().unwrap();
    let (good, said) = mothership(
        &config,
        &[
            "explain",
            "--catalog",
            catalog,
            "SELECT 1; UPDATE orders SET note = 'x' WHERE customer_id = 7",
        ],
    );
    assert!(good, "{said}");
    assert!(said.contains("> SELECT 1\nPlan: Single\n"), "{said}");
    assert!(
        said.contains("Table: public.orders by customer_id: customer_id = 7\n"),
        "{said}"
    );
    std::fs::write(
        catalog,
        "schema public\ntable public.orders\n column id int8\n",
    )
    .unwrap();
    let (good, said) = mothership(&config, &["explain", "--catalog", catalog, "SELECT 1"]);
    assert!(!good && said.contains("catalog file"), "{said}");
    assert!(said.contains("has no such column"), "{said}");
}

#[test]
fn check_config_asks_the_servers() {
    let world = World::new(TABLES);
    let config = config(&world.shards, TABLES);
    let (good, said) = mothership(&config, &["check-config", "--connect"]);
    assert!(good, "{said}");
    assert!(
        said.contains("note: table public.events does not exist yet"),
        "{said}"
    );

    world
        .shards
        .sql(1, "ALTER TABLE orders ADD COLUMN more int");
    world
        .shards
        .sql_all("CREATE TABLE events (id int8 PRIMARY KEY, n int UNIQUE)");
    let (good, said) = mothership(&config, &["check-config", "--connect"]);
    assert!(good, "{said}");
    assert!(
        said.contains("warning: columns of public.orders differ on s1"),
        "{said}"
    );
    assert!(
        said.contains("constraint \"events_n_key\" of table \"events\""),
        "{said}"
    );

    world
        .shards
        .sql_all("ALTER TABLE orders RENAME customer_id TO customer");
    let (good, said) = mothership(&config, &["check-config", "--connect"]);
    let misfit = "error: table `public.orders` is sharded by `customer_id` and has no such column";
    assert!(!good && said.contains(misfit), "{said}");
    world
        .shards
        .sql_all("ALTER TABLE orders RENAME customer TO customer_id");

    // The router has recorded which shard each database is.
    world.wire().rows("SELECT count(*) FROM orders");
    let other = config.replace("name = \"s1\"\n", "name = \"s1\"\nhome = true\n");
    let (good, said) = mothership(&other, &["check-config", "--connect"]);
    assert!(
        !good && said.contains("when it was s0 (0-5460, home)"),
        "{said}"
    );

    let port = format!(":{}\"", world.shards.endpoint(0).port);
    let (good, said) = mothership(
        &config.replace(&port, ":1\""),
        &["check-config", "--connect"],
    );
    assert!(!good && said.contains("error: shard s2"), "{said}");
    // Without asking, the file alone is right.
    assert!(mothership(&config.replace(&port, ":1\""), &["check-config"]).0);
}

#[test]
fn shards_that_sort_texts_differently_are_told_of() {
    let world = World::new(TABLES);
    let config = config(&world.shards, TABLES);
    let told = "warning: encoding, collation or its version differs on s1";
    let (good, said) = mothership(&config, &["check-config", "--connect"]);
    assert!(good && !said.contains(told), "{said}");

    // Another name of the same order will do here.
    world.shards.sql(
        1,
        "UPDATE pg_database SET datcollate = 'POSIX' WHERE datname = current_database()",
    );
    let (good, said) = mothership(&config, &["check-config", "--connect"]);
    assert!(good && said.contains(told), "{said}");
}

#[test]
fn show_map_tells_tables_slots_and_what_differs() {
    let world = World::new(TABLES);
    world
        .shards
        .sql(2, "ALTER TABLE orders ADD COLUMN more int");
    world
        .shards
        .sql(0, "CREATE TABLE settings (name text PRIMARY KEY)");
    world.wire().rows("SELECT 1");
    let mut console = Wire::login(&Endpoint {
        user: "root".into(),
        password: PASSWORD.into(),
        database: "mothership".into(),
        ..world.client.clone()
    });
    let map = console.rows("SHOW MAP");
    let of = |name: &str| {
        let row = map.iter().find(|row| row[0] == "shop" && row[1] == name);
        row.unwrap_or_else(|| panic!("{name}: {map:?}")).join("|")
    };
    let orders = of("public.orders");
    assert!(
        orders.starts_with("shop|public.orders|sharded|customer_id|int8|hash|"),
        "{orders}"
    );
    assert!(orders.contains("s0 0-5460, s1 5461-"), "{orders}");
    assert!(
        orders.ends_with("|columns of public.orders differ on s2"),
        "{orders}"
    );
    assert!(of("public.products").starts_with("shop|public.products|reference|"));
    assert!(of("public.settings").starts_with("shop|public.settings|home|"));
    assert!(
        map.iter().all(|row| !row[1].starts_with("public.orders_")),
        "{map:?}"
    );
    let warned = world.router.log().matches("differ on s2").count();
    assert_eq!(warned, 1, "{}", world.router.log());
    console.rows("SHOW TRANSACTIONS");
}

#[test]
fn a_pending_table_gets_its_key_type_when_it_is_created() {
    let world = World::new(&format!(
        "{TABLES}[[table]]\nname = \"log_*\"\nkey = \"id\"\n"
    ));
    let mut wire = world.wire();
    // Before it exists, nothing may take it for a table of the home shard.
    for sql in ["INSERT INTO events VALUES (1)", "SELECT * FROM log_1"] {
        let frames = wire.query(sql);
        assert_eq!(frames[0].sqlstate(), "42P01", "{sql}");
    }
    // The type decides: text cannot be read from this statement, and an unfit one is refused.
    for (sql, code) in [
        (
            "CREATE TABLE events AS SELECT 1::int8 AS id",
            "key-type-unknown",
        ),
        ("CREATE TABLE events (id float8)", "key-type"),
        ("CREATE TABLE events (n int8)", "key-type"),
    ] {
        let said = lines(&mut wire, &format!("EXPLAIN (ROUTE) {sql}"));
        assert_eq!(said[1], format!("Reason: {code}"), "{sql}");
    }
    for table in ["events", "log_1"] {
        wire.rows(&format!("CREATE TABLE {table} (id int8 PRIMARY KEY)"));
        for id in 0..20 {
            wire.rows(&format!("INSERT INTO {table} VALUES ({id})"));
        }
        let counts = world
            .shards
            .sql_all(&format!("SELECT count(*) FROM {table}"));
        let counts: Vec<u32> = counts.iter().map(|c| c.trim().parse().unwrap()).collect();
        assert_eq!(counts.iter().sum::<u32>(), 20);
        assert!(counts.iter().all(|count| *count > 0), "{table}: {counts:?}");
    }
}
