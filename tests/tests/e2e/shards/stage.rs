//! Three shards, a router, and the tables that all of these tests use.
//!
//! `items` is sharded by `id`, `accounts` as well, `kinds` is on every shard, and
//! `notes` is not declared: it lives on the first shard. Which shard owns a key is
//! computed here anew, so that a mistake of the router is not repeated by its test.

use mothership_tests::message;
use mothership_tests::{Endpoint, Frame, Router, Shards, Wire, connect, poll_until};
use std::future::Future;
use std::time::Duration;
use tokio_postgres::Client;

/// Every answer and every wait of these tests ends within it.
pub const LIMIT: Duration = Duration::from_secs(10);

const TABLES: &str = r#"
[[table]]
name = "items"
key = ["id"]
key_type = ["int8"]
[[table]]
name = "accounts"
key = ["id"]
key_type = ["int8"]
[[table]]
name = "kinds"
kind = "reference"
"#;

/// The tables.
pub const DEFINITIONS: [&str; 4] = [
    "CREATE TABLE items (id int8 PRIMARY KEY, v int8, note text)",
    "CREATE TABLE accounts (id int8 PRIMARY KEY, balance int8 NOT NULL CHECK (balance >= 0))",
    "CREATE TABLE kinds (id int4 PRIMARY KEY, name text)",
    "CREATE TABLE notes (id int4 PRIMARY KEY, body text)",
];

/// A plain PostgreSQL with these tables.
pub fn plain() -> Shards {
    let plain = Shards::new(1);
    plain.sql(0, &DEFINITIONS.join(";"));
    plain
}

/// A router with its shards.
pub struct Stage {
    /// The router, ended before the databases are dropped.
    pub router: Router,
    /// The databases behind it.
    pub shards: Shards,
    /// What the router was told.
    config: String,
}

impl Stage {
    /// With the tables, all empty.
    pub fn new() -> Stage {
        Stage::with("")
    }

    /// The same with more lines of configuration.
    pub fn with(more: &str) -> Stage {
        Stage::defined("", more)
    }

    /// The same on one core, where clients share what is known of statements.
    pub fn on_one_core() -> Stage {
        Stage::on_one_core_with("")
    }

    /// The same with more lines of configuration.
    pub fn on_one_core_with(more: &str) -> Stage {
        Stage::defined("workers = 1", more)
    }

    /// The tables are there before the router is: CREATE TABLE through the router takes ten times as long, and has tests of its
    /// own.
    fn defined(listen: &str, more: &str) -> Stage {
        let shards = Shards::with_schema(3);
        let [.., notes] = DEFINITIONS;
        shards.sql_all(&DEFINITIONS[..DEFINITIONS.len() - 1].join(";"));
        shards.sql(0, notes);
        Stage::over(shards, listen, "", &format!("{TABLES}{more}"))
    }

    /// Without tables; `more` declares what the test wants.
    pub fn bare(more: &str) -> Stage {
        Stage::over(Shards::with_schema(3), "", "", more)
    }

    /// A router before these databases. `listen` are lines of its first section. `more` declares what the test wants; the
    /// further shards in it have the databases of `others`: `, name = "database"` for each.
    pub fn over(shards: Shards, listen: &str, others: &str, more: &str) -> Stage {
        let direct = shards.endpoint(0);
        let (host, port) = (&direct.host, direct.port);
        let mut config = format!(
            "[listen]\naddress = [\"127.0.0.1\"]\nport = @port@\n{listen}\n\
             [control]\nuser = \"{}\"\npassword = \"{}\"\n",
            direct.user, direct.password
        );
        let mut on = Vec::new();
        for shard in 0..shards.count() {
            let name = shard + 1;
            config += &format!(
                "[[shard]]\nname = \"s{name}\"\n[[shard.server]]\naddress = \"{host}:{port}\"\n"
            );
            on.push(format!("s{name} = \"{}\"", shards.endpoint(shard).database));
        }
        config += &format!(
            "[[database]]\nname = \"app\"\non = {{ {}{others} }}\n{more}",
            on.join(", ")
        );
        let router = Router::start(&config);
        Stage {
            router,
            shards,
            config,
        }
    }

    /// Another router for the same shards.
    pub fn another_router(&self) -> Router {
        Router::start(&self.config)
    }

    /// What the router was told.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// How to reach the router.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint_of(&self.router)
    }

    fn endpoint_of(&self, router: &Router) -> Endpoint {
        Endpoint {
            database: "app".into(),
            ..self.shards.endpoint(0).at_port(router.port())
        }
    }

    /// A raw client.
    pub fn wire(&self) -> Wire {
        self.wire_of(&self.router)
    }

    /// The same by another router.
    pub fn wire_of(&self, router: &Router) -> Wire {
        let mut wire = Wire::login(&self.endpoint_of(router));
        wire.set_limit(LIMIT);
        wire
    }

    /// A driver.
    pub async fn client(&self) -> Client {
        within(connect(&self.endpoint())).await
    }

    /// The same by another router.
    pub async fn client_of(&self, router: &Router) -> Client {
        within(connect(&self.endpoint_of(router))).await
    }

    /// Fills `items` past the router: for each id its double as `v` and a note.
    pub fn fill(&self, ids: impl IntoIterator<Item = i64>) {
        let mut values = vec![Vec::new(); 3];
        for id in ids {
            values[owner(id)].push(format!("({id}, {}, 'n{id}')", id * 2));
        }
        for (shard, values) in values.iter().enumerate().filter(|(_, v)| !v.is_empty()) {
            let sql = format!("INSERT INTO items VALUES {}", values.join(", "));
            self.shards.sql(shard, &sql);
        }
    }

    /// The rows of a sharded table, over all shards in the order of their keys. Each
    /// must lie where its key belongs.
    pub fn rows(&self, table: &str) -> Vec<String> {
        let mut rows = Vec::new();
        for (shard, text) in self
            .shards
            .sql_all(&format!("SELECT * FROM {table}"))
            .iter()
            .enumerate()
        {
            for line in text.lines() {
                let id: i64 = line.split('|').next().unwrap().parse().unwrap();
                assert_eq!(owner(id), shard, "{table} {line} lies on shard {shard}");
                rows.push((id, line.to_owned()));
            }
        }
        rows.sort();
        rows.into_iter().map(|(_, line)| line).collect()
    }

    /// The keys of a sharded table; each must lie where it belongs.
    pub fn ids(&self, table: &str) -> Vec<i64> {
        let rows = self.rows(&format!("(SELECT id FROM {table}) t"));
        rows.iter().map(|id| id.parse().unwrap()).collect()
    }

    /// The rows of a reference table, which must be the same on every shard.
    pub fn copies(&self, table: &str) -> Vec<String> {
        let all = self
            .shards
            .sql_all(&format!("SELECT * FROM {table} ORDER BY 1"));
        assert!(all.iter().all(|one| *one == all[0]), "{table}: {all:?}");
        all[0].lines().map(str::to_owned).collect()
    }

    /// Waits until no shard has a prepared transaction.
    pub fn assert_nothing_prepared(&self) {
        let gone = poll_until(LIMIT, || self.prepared() == 0);
        assert!(gone, "{} prepared transactions are left", self.prepared());
    }

    /// How many prepared transactions the shards have.
    pub fn prepared(&self) -> usize {
        let sql = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";
        let counts = self.shards.sql_all(sql);
        counts.iter().map(|n| n.parse::<usize>().unwrap()).sum()
    }

    /// Waits until no shard has a transaction open: nobody holds anything.
    pub fn assert_nothing_open(&self) {
        let open = || self.transactions().iter().any(|n| n != "0");
        assert!(poll_until(LIMIT, || !open()), "a transaction is left open");
    }

    /// Waits until no other shard than this one has a transaction open. The router's own questions end by themselves.
    pub fn assert_open_on_no_other(&self, shard: usize, context: &str) {
        let idle = || (0..3).all(|other| other == shard || self.transactions()[other] == "0");
        assert!(
            poll_until(LIMIT, idle),
            "{context}: open are {:?}, expected only shard {shard}",
            self.transactions()
        );
    }

    /// How many transactions of clients are open, by shard.
    fn transactions(&self) -> Vec<String> {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND backend_type = 'client backend'";
        self.shards.sql_all(sql)
    }
}

/// The shard of a key: crc32 (IEEE) of the eight bytes with their sign turned, 16384
/// slots in three even ranges.
pub fn owner(id: i64) -> usize {
    let bytes = ((id as u64) ^ (1 << 63)).to_be_bytes();
    let crc = !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    });
    let slot = crc % 16_384;
    (0..3)
        .rfind(|shard| slot >= shard * 16_384 / 3)
        .expect("the first begins at 0") as usize
}

/// The first positive keys of a shard.
pub fn keys_of(shard: usize, count: usize) -> Vec<i64> {
    (1..).filter(|id| owner(*id) == shard).take(count).collect()
}

/// A key of each shard.
pub fn one_each() -> [i64; 3] {
    [keys_of(0, 1)[0], keys_of(1, 1)[0], keys_of(2, 1)[0]]
}

/// A simple query's whole answer, a line for each message.
pub fn say(wire: &mut Wire, sql: &str) -> Vec<String> {
    lines(&wire.query(sql))
}

/// The answer to these messages up to ReadyForQuery, a line for each message.
pub fn send(wire: &mut Wire, messages: &[Vec<u8>]) -> Vec<String> {
    wire.send_all(messages);
    lines(&wire.until_ready())
}

/// Messages as lines; what a server reports of its settings is left out.
pub fn lines(frames: &[Frame]) -> Vec<String> {
    let shown = frames.iter().filter(|frame| frame.kind != b'S');
    shown.map(Frame::to_string).collect()
}

/// One statement through the unnamed statement and portal, in text, ended by Sync.
pub fn extended(sql: &str, types: &[u32], values: &[&str]) -> Vec<Vec<u8>> {
    vec![
        message::parse("", sql, types),
        message::bind_text(values),
        message::execute("", 0),
        message::sync(),
    ]
}

/// Statements one behind the other in one segment, each through the unnamed statement and portal.
pub fn segment<'a>(statements: impl IntoIterator<Item = &'a str>) -> Vec<Vec<u8>> {
    let messages = statements.into_iter().flat_map(|sql| {
        let mut messages = extended(sql, &[], &[]);
        messages.pop();
        messages
    });
    messages.chain([message::sync()]).collect()
}

/// The only row's only value of a simple query.
pub fn one(wire: &mut Wire, sql: &str) -> String {
    let rows = wire.rows(sql);
    assert_eq!((rows.len(), rows[0].len()), (1, 1), "{sql}: {rows:?}");
    rows[0][0].clone()
}

/// What a client waits for, or a panic when it takes too long.
pub async fn within<T>(what: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(LIMIT, what).await;
    done.unwrap_or_else(|_| panic!("no answer within {LIMIT:?}"))
}
