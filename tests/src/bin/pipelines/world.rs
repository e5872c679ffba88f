//! A plain PostgreSQL and the router over shards, with the same tables and rows; and what must hold when a conversation
//! is over: the same is stored, and nothing of the client is left.

use crate::side::Side;
use mothership_tests::shared;
use mothership_tests::{Endpoint, Router, Shards, Wire, poll_until};
use std::sync::Once;
use std::time::Duration;

/// How long something may be left behind.
const SOON: Duration = Duration::from_secs(3);

/// On all databases.
const EVERYWHERE: [&str; 6] = [
    "CREATE TABLE items (id int8 PRIMARY KEY, v int8 CHECK (v < 1000), note text)",
    "CREATE TABLE lines (item int8 REFERENCES items DEFERRABLE INITIALLY DEFERRED, n int4, PRIMARY KEY (item, n))",
    "CREATE TABLE watched (id int8 PRIMARY KEY, v int8)",
    "CREATE TABLE kinds (id int4 PRIMARY KEY, name text NOT NULL)",
    "CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
       IF NEW.v < 0 THEN RAISE NOTICE 'below zero: %', NEW.v; END IF; \
       IF NEW.v = 13 THEN RAISE EXCEPTION 'not thirteen'; END IF; \
       RETURN NEW; END $$",
    "CREATE TRIGGER watch AFTER INSERT OR UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION watch()",
];

/// A superuser whose password takes next to no time to check.
const QUICK: &str = "CREATE ROLE quick SUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$1:cGlwZWxpbmVzIG9mIHNhbA==$\
    XV1Jv86H1bmazq0VAHjy4z2Q6bfXKWXA6phbv+HBmD8=:O3hlUKVTB0InFdHxImG93k1hC3DBBHqHyVkouXIAXwI='";

/// On the first shard and the plain server.
const AT_HOME: &str = "CREATE TABLE notes (id int4 PRIMARY KEY, body text)";

/// The tables of which each shard has its part.
const SHARDED: [&str; 3] = ["items", "lines", "watched"];

const TABLES: &str = r#"
[pool]
max = 1
[[table]]
name = "items"
key = ["id"]
key_type = ["int8"]
[[table]]
name = "lines"
key = ["item"]
key_type = ["int8"]
[[table]]
name = "watched"
key = ["id"]
key_type = ["int8"]
[[table]]
name = "kinds"
kind = "reference"
"#;

/// What shows the settings that conversations change and shards show in values: DateStyle, TimeZone.
pub const SHOWN: &str = "to_timestamp(id)::text";

/// Keys that conversations use; half of them are there at first.
pub const KEYS: std::ops::RangeInclusive<i64> = 1..=12;

/// Over how many shards, and how long a client keeps its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Layout {
    shards: usize,
    mode: &'static str,
}

impl Layout {
    pub const ONE_SHARD: Self = Self::of(1, "transaction");
    pub const THREE_SHARDS: Self = Self::of(3, "transaction");
    /// What a transaction has left on the connections that it used is there in the next one.
    pub const SESSION_MODE: Self = Self::of(3, "session");

    const fn of(shards: usize, mode: &'static str) -> Self {
        Self { shards, mode }
    }
}

/// Both sides.
pub struct World {
    layout: Layout,
    plain: Endpoint,
    router: Endpoint,
    // By shard; the last is the plain server.
    direct: Vec<Wire>,
    /// The keys of each shard.
    keys: Vec<Vec<i64>>,
    // In this order: the router is ended before its databases are dropped.
    _router: Router,
    _databases: Shards,
}

impl World {
    /// Made, with empty tables.
    pub fn new(layout: Layout) -> World {
        let shards = layout.shards;
        static MADE: Once = Once::new();
        MADE.call_once(|| drop(shared::cluster().sql("postgres", QUICK).unwrap()));
        let databases = Shards::new(shards + 1);
        let mut direct: Vec<Wire> = (0..=shards)
            .map(|at| Wire::login(&databases.endpoint(at)))
            .collect();
        for (at, wire) in direct.iter_mut().enumerate() {
            let home = (at == 0 || at == shards).then_some(AT_HOME);
            EVERYWHERE
                .into_iter()
                .chain(home)
                .for_each(|sql| must(wire, sql));
        }
        let router = Router::start(&config(&databases, layout));
        let plain = Endpoint {
            user: "quick".into(),
            ..databases.endpoint(shards)
        };
        let app = Endpoint {
            database: "app".into(),
            ..plain.at_port(router.port())
        };
        let mut wire = Wire::login(&app);
        let mut keys = vec![Vec::new(); shards];
        for id in KEYS {
            let route = wire.rows(&format!(
                "EXPLAIN (ROUTE) SELECT * FROM items WHERE id = {id}"
            ));
            let route = route.concat();
            let shard =
                (0..shards).find(|shard| route.contains(&format!("Shards: s{}", shard + 1)));
            keys[shard.expect("a key has one shard")].push(id);
        }
        assert!(
            keys.iter().all(|keys| !keys.is_empty()),
            "twelve keys are too few: {keys:?}"
        );
        World {
            layout,
            plain,
            router: app,
            direct,
            keys,
            _router: router,
            _databases: databases,
        }
    }

    /// How it is laid out.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// A client of each side: of PostgreSQL, and of the router.
    pub fn clients(&self) -> [Side; 2] {
        [Side::new(&self.plain), Side::new(&self.router)]
    }

    /// The rows that every conversation begins with, put where they belong past the router.
    pub fn reset(&mut self) {
        let plain = self.direct.len() - 1;
        let clear = "DELETE FROM lines; DELETE FROM items; DELETE FROM watched; DELETE FROM kinds; \
            INSERT INTO kinds VALUES (1, 'one'), (2, 'two')";
        let home = "; DELETE FROM notes; INSERT INTO notes VALUES (1, 'one'), (2, 'two')";
        for (at, wire) in self.direct.iter_mut().enumerate() {
            let home = if at == 0 || at == plain { home } else { "" };
            must(wire, &format!("{clear}{home}"));
        }
        for id in KEYS.step_by(2) {
            let rows = format!(
                "INSERT INTO items VALUES ({id}, {}, 'n{id}'); INSERT INTO lines VALUES ({id}, 1), ({id}, 2); \
                 INSERT INTO watched VALUES ({id}, {id})",
                id * 10
            );
            must(&mut self.direct[plain], &rows);
            let shard = self.keys.iter().position(|keys| keys.contains(&id));
            must(
                &mut self.direct[shard.expect("every key has a shard")],
                &rows,
            );
        }
    }

    /// What is not as it must be after the clients have left: the first of it. What is stored is compared with
    /// PostgreSQL only if `whole` conversations were played on both sides.
    pub fn left_wrong(&mut self, whole: bool) -> Option<String> {
        self.left_open()
            .or_else(|| self.stored_wrong(whole))
            .or_else(|| self.leaked())
    }

    /// A transaction or a temporary table that has not ended with its client.
    fn left_open(&mut self) -> Option<String> {
        let sql = "SELECT 'prepared' FROM pg_prepared_xacts WHERE database = current_database() \
            UNION ALL SELECT 'temporary ' || relname FROM pg_class WHERE relpersistence = 't' AND relkind = 'r' \
            UNION ALL SELECT 'open: ' || query FROM pg_stat_activity WHERE datname = current_database() \
            AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND xact_start IS NOT NULL";
        let mut left = None;
        poll_until(SOON, || {
            left = self.direct.iter_mut().enumerate().find_map(|(at, wire)| {
                let row = wire.rows(sql).into_iter().next()?;
                Some(format!("left on database {at}: {}", row[0]))
            });
            left.is_none()
        });
        left
    }

    fn stored_wrong(&mut self, whole: bool) -> Option<String> {
        let plain = self.direct.len() - 1;
        let mut stored = |at: usize, table: &str| {
            let wire = &mut self.direct[at];
            wire.rows(&format!("SELECT x::text FROM {table} AS x ORDER BY 1"))
                .concat()
        };
        for shard in 1..plain {
            let (first, other) = (stored(0, "kinds"), stored(shard, "kinds"));
            if first != other {
                return Some(format!("copies of kinds differ: {first:?} and {other:?}"));
            }
        }
        let tables = SHARDED.into_iter().chain(["kinds", "notes"]);
        for table in tables.filter(|_| whole) {
            let shards = if SHARDED.contains(&table) { plain } else { 1 };
            let mut rows: Vec<String> =
                (0..shards).flat_map(|shard| stored(shard, table)).collect();
            rows.sort();
            let mut all = stored(plain, table);
            all.sort();
            if rows != all {
                return Some(format!("{table} has {rows:?}, and in PostgreSQL {all:?}"));
            }
        }
        None
    }

    /// A setting that a new client sees otherwise than one of PostgreSQL does, on any shard.
    fn leaked(&mut self) -> Option<String> {
        let mut plain = Wire::login(&self.plain);
        let mut router = Wire::login(&self.router);
        for keys in &self.keys {
            let key = keys[0];
            let shown = format!(
                "SELECT count(*), max({SHOWN}) FROM (SELECT count(*) AS id FROM items WHERE id = {key} AND v < -9) x"
            );
            let (right, seen) = (plain.rows(&shown), router.rows(&shown));
            if seen != right {
                return Some(format!("settings leaked: {seen:?}, and not {right:?}"));
            }
            let explain =
                format!("EXPLAIN (SETTINGS, COSTS OFF) SELECT * FROM items WHERE id = {key}");
            let settings = |wire: &mut Wire| {
                let lines = wire.rows(&explain).concat();
                lines.into_iter().find(|line| line.contains("Settings:"))
            };
            let (right, seen) = (settings(&mut plain), settings(&mut router));
            if seen != right {
                return Some(format!("settings leaked: {seen:?}, and not {right:?}"));
            }
        }
        let show = "SHOW default_transaction_isolation; SHOW default_transaction_read_only; SHOW statement_timeout; \
            SHOW search_path; SHOW application_name; SHOW extra_float_digits";
        let (right, seen) = (plain.rows(show), router.rows(show));
        if seen != right {
            return Some(format!("settings leaked: {seen:?}, and not {right:?}"));
        }
        // The new client has used all connections, so none has the name of the one before.
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'me' AND datname = current_database()";
        let shards = self.direct.len() - 1;
        let named = self.direct[..shards]
            .iter_mut()
            .position(|wire| wire.rows(sql) != [["0"]]);
        named.map(|at| format!("settings leaked: application_name on shard {at}"))
    }
}

fn config(databases: &Shards, Layout { shards, mode }: Layout) -> String {
    let direct = databases.endpoint(0);
    let (user, password, host, port) = (&direct.user, &direct.password, &direct.host, direct.port);
    let mut config = format!(
        "[listen]\naddress = [\"127.0.0.1\"]\nport = @port@\nworkers = 1\n\
         [control]\nuser = \"{user}\"\npassword = \"{password}\"\n"
    );
    let mut on = Vec::new();
    for shard in 0..shards {
        let name = shard + 1;
        config += &format!(
            "[[shard]]\nname = \"s{name}\"\n[[shard.server]]\naddress = \"{host}:{port}\"\n"
        );
        on.push(format!(
            "s{name} = \"{}\"",
            databases.endpoint(shard).database
        ));
    }
    config
        + &format!(
            "[[database]]\nname = \"app\"\non = {{ {} }}\npool_mode = \"{mode}\"\n{TABLES}",
            on.join(", ")
        )
}

fn must(wire: &mut Wire, sql: &str) {
    let frames = wire.query(sql);
    let error = frames.iter().find(|frame| frame.kind == b'E');
    assert!(error.is_none(), "{sql}: {}", error.expect("just seen"));
}
