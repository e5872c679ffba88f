//! Three shards of PostgreSQL, a replica set, a router, and a table of documents with its twin in PostgreSQL.

use crate::shards::stage::Stage;
use mothership_tests::mongo::ReplicaSet;
use mothership_tests::shared::USER;
use mothership_tests::{Endpoint, Shards, Wire};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

/// One replica set for all tests that break nothing.
static SHARED: LazyLock<Option<Arc<ReplicaSet>>> =
    LazyLock::new(|| ReplicaSet::start("documents", 1).map(Arc::new));

/// What the tests declare: `events` on the shards of MongoDB that are given, and tables of PostgreSQL beside it.
const TABLES: &str = r#"
[[table]]
name = "items"
key = ["id"]
key_type = ["int8"]
[[table]]
name = "kinds"
kind = "reference"
[[table]]
name = "events"
kind = "documents"
shards = [@shards@]
key = ["id"]
[[table.column]]
name = "id"
path = "_id"
sql_type = "int8"
[[table.column]]
name = "kind"
sql_type = "text"
not_null = true
default = "plain"
[[table.column]]
name = "amount"
sql_type = "numeric"
[[table.column]]
name = "small"
sql_type = "int2"
[[table.column]]
name = "count"
sql_type = "int4"
path = "of.count"
[[table.column]]
name = "ratio"
sql_type = "float8"
[[table.column]]
name = "is_on"
sql_type = "bool"
[[table.column]]
name = "at"
sql_type = "timestamptz"
[[table.column]]
name = "day"
sql_type = "date"
[[table.column]]
name = "tag"
sql_type = "uuid"
[[table.column]]
name = "data"
sql_type = "jsonb"
[[table.column]]
name = "words"
sql_type = "text[]"
[[table.column]]
name = "raw"
sql_type = "bytea"
[[table.column]]
name = "name"
sql_type = "varchar(10)"
path = "of.name"
"#;

/// The tables of PostgreSQL that are declared.
const DECLARED: &str = "CREATE TABLE items (id int8 PRIMARY KEY, v int8, note text); \
    CREATE TABLE kinds (name text PRIMARY KEY, title text)";

/// As `events`, a table of PostgreSQL that is not declared.
pub const TWIN: &str = "CREATE TABLE twin (id int8 PRIMARY KEY, kind text COLLATE \"C\" NOT NULL DEFAULT 'plain', \
    amount numeric, small int2, count int4, ratio float8, is_on bool, at timestamptz, day date, tag uuid, data jsonb, \
    words text[] COLLATE \"C\", raw bytea, name varchar(10) COLLATE \"C\")";

/// The replica set of all tests that break nothing. `None`, said loudly, without a mongod.
pub fn shared() -> Option<Arc<ReplicaSet>> {
    said(SHARED.as_ref().map(Arc::clone))
}

fn said(set: Option<Arc<ReplicaSet>>) -> Option<Arc<ReplicaSet>> {
    if set.is_none() {
        // Not by a macro, whose output the harness would keep to itself.
        let _ = writeln!(std::io::stderr(), "SKIP mongo: no mongod can be had");
    }
    set
}

/// Lines that a configuration has besides.
#[derive(Clone, Copy, Default)]
struct More<'a> {
    of_shard: &'a str,
    of_server: &'a str,
    at_end: &'a str,
}

/// A router with all of it.
pub struct Documents {
    /// The router and the shards of PostgreSQL.
    pub stage: Stage,
    /// The replica set.
    pub set: Arc<ReplicaSet>,
    /// The names of the databases there.
    pub databases: Vec<String>,
}

impl Documents {
    /// With so many shards of documents, each a database of one replica set. `None`, said loudly, without a mongod.
    pub fn over(shards: usize) -> Option<Documents> {
        Some(Documents::made(shared()?, shards, ""))
    }

    /// The same on a replica set of the test's own, with more of a configuration.
    pub fn on(set: Option<Arc<ReplicaSet>>, shards: usize, more: &str) -> Option<Documents> {
        Some(Documents::made(said(set)?, shards, more))
    }

    /// As [`Documents::over`], where the fields of columns that are NULL are left out.
    pub fn omitting(shards: usize) -> Option<Documents> {
        let tables = TABLES.replace(
            "key = [\"id\"]\n[[table.column]]",
            "key = [\"id\"]\nnulls = \"omit\"\n[[table.column]]",
        );
        assert_ne!(tables, TABLES);
        Some(Documents::with_tables(
            shared()?,
            shards,
            &tables,
            More::default(),
        ))
    }

    fn made(set: Arc<ReplicaSet>, shards: usize, more: &str) -> Documents {
        let more = More {
            at_end: more,
            ..More::default()
        };
        Documents::with_tables(set, shards, TABLES, more)
    }

    /// One shard of documents that says more of itself, and more of a configuration.
    pub fn of_shard(set: Option<Arc<ReplicaSet>>, shard: &str, more: &str) -> Option<Documents> {
        let more = More {
            of_shard: shard,
            at_end: more,
            ..More::default()
        };
        Some(Documents::with_tables(said(set)?, 1, TABLES, more))
    }

    /// One shard of documents that says more of itself and of its servers.
    pub fn of_servers(
        set: Option<Arc<ReplicaSet>>,
        of_shard: &str,
        of_server: &str,
    ) -> Option<Documents> {
        let more = More {
            of_shard,
            of_server,
            at_end: "",
        };
        Some(Documents::with_tables(said(set)?, 1, TABLES, more))
    }

    fn with_tables(set: Arc<ReplicaSet>, shards: usize, tables: &str, more: More<'_>) -> Documents {
        let More {
            of_shard,
            of_server,
            at_end,
        } = more;
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut config = String::new();
        let (mut names, mut databases, mut on) = (Vec::new(), Vec::new(), String::new());
        for shard in 0..shards {
            let name = format!("docs{shard}");
            config += &format!("[[shard]]\nname = \"{name}\"\nengine = \"mongodb\"\n{of_shard}\n");
            for address in set.addresses() {
                config += &format!("[[shard.server]]\naddress = \"{address}\"\n{of_server}\n");
            }
            let database = format!("test_{}_{number}_{shard}", std::process::id());
            on += &format!(", {name} = \"{database}\"");
            names.push(format!("\"{name}\""));
            databases.push(database);
        }
        config += &tables.replace("@shards@", &names.join(", "));
        config += &format!("[console]\nadmin_users = [\"{USER}\"]\n{at_end}");
        let shards = Shards::with_schema(3);
        shards.sql_all(DECLARED);
        shards.sql(0, TWIN);
        Documents {
            stage: Stage::over(shards, "", &on, &config),
            set,
            databases,
        }
    }
}

impl Documents {
    /// The router's console.
    pub fn console(&self) -> Wire {
        Wire::login(&Endpoint {
            database: "mothership".into(),
            ..self.stage.endpoint()
        })
    }
}

impl Drop for Documents {
    fn drop(&mut self) {
        for database in &self.databases {
            self.set.drop_database(database);
        }
    }
}

/// How many requests a member has served, as the router counts them.
pub fn served(documents: &Documents, member: usize) -> u64 {
    let address = &documents.set.addresses()[member];
    let frames = documents.console().query("SHOW ENDPOINTS");
    let names = frames.iter().find(|frame| frame.kind == b'T');
    let names = names.unwrap().columns();
    let at = |name: &str| names.iter().position(|known| known == name).unwrap();
    let rows = frames.iter().filter(|frame| frame.kind == b'D');
    let mut rows = rows.map(|row| row.row_text());
    let row = rows.find(|row| row[at("shard")] == "docs0" && row[at("address")] == *address);
    row.unwrap()[at("served")].parse().unwrap()
}
