//! A router without any shard of PostgreSQL: what it answers, it answers as PostgreSQL does.

use super::declared::mothership;
use super::stage;
use crate::shards::stage::{extended, lines, say, send};
use mothership_tests::message::V3_0;
use mothership_tests::mongo::ReplicaSet;
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Endpoint, Router, Shards, Wire, message};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const TABLE: &str = r#"
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
name = "at"
sql_type = "timestamptz"
"#;

const TWIN: &str = "CREATE TABLE events (id int8 PRIMARY KEY, kind text COLLATE \"C\" NOT NULL DEFAULT 'plain', \
    amount numeric, at timestamptz)";

/// A router of documents only, and a PostgreSQL that has the same table.
struct Alone {
    router: Router,
    config: String,
    set: Arc<ReplicaSet>,
    databases: Vec<String>,
    twin: Shards,
}

impl Alone {
    fn over(shards: usize) -> Option<Alone> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let set = stage::shared()?;
        let mut config = format!(
            "[listen]\naddress = [\"127.0.0.1\"]\nport = @port@\n\
             [[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n"
        );
        let (mut names, mut databases, mut on) = (Vec::new(), Vec::new(), Vec::new());
        for shard in 0..shards {
            config += &format!("[[shard]]\nname = \"docs{shard}\"\nengine = \"mongodb\"\n");
            for address in set.addresses() {
                config += &format!("[[shard.server]]\naddress = \"{address}\"\n");
            }
            let database = format!("alone_{}_{number}_{shard}", std::process::id());
            on.push(format!("docs{shard} = \"{database}\""));
            names.push(format!("\"docs{shard}\""));
            databases.push(database);
        }
        config += &format!(
            "[[database]]\nname = \"app\"\non = {{ {} }}\n",
            on.join(", ")
        );
        config += &TABLE.replace("@shards@", &names.join(", "));
        let twin = Shards::new(1);
        twin.sql(0, TWIN);
        Some(Alone {
            router: Router::start(&config),
            config,
            set,
            databases,
            twin,
        })
    }

    fn endpoint(&self) -> Endpoint {
        self.router.endpoint(USER, PASSWORD, "app")
    }

    /// A client of the router, and one of PostgreSQL.
    fn wires(&self) -> [Wire; 2] {
        [self.endpoint(), self.twin.endpoint(0)].map(|endpoint| Wire::login(&endpoint))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        for database in &self.databases {
            self.set.drop_database(database);
        }
    }
}

/// What both are asked, one after the other.
const STATEMENTS: &[&str] = &[
    "SELECT 1",
    "SELECT 1, 'x' AS y, NULL, true AS \"T\", 9999999999",
    "",
    "SELECT current_user, session_user, current_schema(), pg_catalog.pg_is_in_recovery()",
    "SHOW transaction_isolation",
    "SHOW standard_conforming_strings",
    "SHOW search_path",
    "SET search_path TO \"A b\", 'c', PUBLIC",
    "SHOW search_path",
    "SELECT current_schema",
    "RESET search_path",
    "SELECT set_config('app.note', 'n', false)",
    "SELECT current_setting('app.note'), current_setting('app.none', true)",
    "SHOW app.note",
    "SHOW app.none",
    "SET statement_timeout = 90000",
    "SHOW statement_timeout",
    "SET timezone = 'Nowhere'",
    "SET TIME ZONE 'Asia/Tokyo'",
    "SHOW timezone",
    "SET server_version = '9'",
    "INSERT INTO events (id, at) VALUES (1, '2024-02-29 12:00+00'), (2, NULL)",
    "INSERT INTO events VALUES (3, 'c', 1.50, '1969-12-31 23:59:59+00'), (4, 'd', -0.5, NULL) RETURNING *",
    "INSERT INTO events (id) VALUES (3)",
    "INSERT INTO events (id, kind) VALUES (9, NULL)",
    "SELECT * FROM events WHERE id = 3",
    "SELECT id, at FROM events WHERE kind = 'plain' ORDER BY id DESC",
    "SELECT count(*), max(id) FROM events",
    "SELECT kind, count(*) FROM events GROUP BY kind ORDER BY kind",
    "UPDATE events SET amount = 7 WHERE id = 1 RETURNING id, amount",
    "BEGIN",
    "SELECT 1",
    "INSERT INTO events (id) VALUES (5)",
    "SELECT id FROM events WHERE id = 5",
    "SELECT current_setting('transaction_read_only')",
    "COMMIT",
    "BEGIN",
    "SET LOCAL timezone = 'UTC'",
    "UPDATE events SET kind = 'gone' WHERE id = 5",
    "SELECT at FROM events WHERE id = 1",
    "SELECT nothing FROM nowhere",
    "SELECT 1",
    "ROLLBACK",
    "SELECT kind FROM events WHERE id = 5",
    "SELECT at FROM events WHERE id = 1",
    "SELECT * FROM nowhere",
    "INSERT INTO elsewhere.nothing VALUES (1)",
    "BEGIN READ ONLY",
    "DELETE FROM events WHERE id = 1",
    "ROLLBACK",
    "SET default_transaction_read_only = on",
    "DELETE FROM events WHERE id = 1",
    "RESET ALL",
    "DELETE FROM events WHERE id = 1",
    "SELECT 1; SELECT id FROM events WHERE id = 2; SELECT 'end'",
    "DISCARD ALL",
    "CLOSE ALL; UNLISTEN *; RESET ALL",
    "SELECT id FROM events ORDER BY id",
];

/// The same where several replica sets have the rows, each of one row: what asks for rows of several is gathered.
const OVER_SETS: &[&str] = &[
    "INSERT INTO events (id, kind) VALUES (1, 'a')",
    "INSERT INTO events (id, kind) VALUES (2, 'b')",
    "INSERT INTO events (id, amount) VALUES (3, 0.1)",
    "INSERT INTO events (id, amount) VALUES (4, 12)",
    "INSERT INTO events (id, kind) VALUES (4, 'x')",
    "SELECT * FROM events WHERE id = 3",
    "UPDATE events SET kind = 'c' WHERE id = 3",
    "SELECT kind, amount FROM events WHERE id = 3",
    "DELETE FROM events WHERE id = 1",
    "SELECT count(*) FROM events WHERE id = 1",
    "BEGIN",
    "INSERT INTO events (id) VALUES (5)",
    "SELECT id FROM events WHERE id = 2",
    "COMMIT",
    "SELECT kind FROM events WHERE id = 5",
];

fn is_as_in_postgresql(shards: usize, statements: &[&str]) {
    let Some(alone) = Alone::over(shards) else {
        return;
    };
    let [mut router, mut twin] = alone.wires();
    for sql in statements {
        // What is reported of settings is part of it.
        let [told, expected] = [&mut router, &mut twin].map(|wire| {
            let frames = wire.query(sql);
            let mut all: Vec<String> = frames.iter().map(ToString::to_string).collect();
            if !sql.contains("ORDER BY") {
                all.sort();
            }
            all
        });
        assert_eq!(told, expected, "{sql}");
    }
}

#[test]
fn sessions_and_documents_are_as_with_postgresql() {
    is_as_in_postgresql(1, STATEMENTS);
}

#[test]
fn documents_of_several_replica_sets_are_as_with_postgresql() {
    is_as_in_postgresql(3, OVER_SETS);
}

#[test]
fn prepared_statements_are_described_and_run() {
    let Some(alone) = Alone::over(1) else {
        return;
    };
    let [mut router, mut twin] = alone.wires();
    let mut both = |messages: &[Vec<u8>]| {
        let [told, expected] = [&mut router, &mut twin].map(|wire| send(wire, messages));
        assert_eq!(told, expected);
        told
    };
    let insert = "INSERT INTO events (id, kind, amount) VALUES ($1, $2, $3)";
    for sql in [
        insert,
        "SELECT * FROM events WHERE id = $1 AND kind = $2",
        "SELECT 1, current_schema()",
        "SHOW timezone",
        "SELECT * FROM nowhere",
    ] {
        both(&[
            message::parse("", sql, &[]),
            message::describe_statement(""),
            message::sync(),
        ]);
    }
    both(&extended(insert, &[], &["1", "a", "2.5"]));
    both(&extended("BEGIN", &[], &[]));
    both(&extended(insert, &[], &["2", "b", "1"]));
    both(&extended(
        "SELECT kind FROM events WHERE id = $1",
        &[],
        &["2"],
    ));
    both(&extended(
        "SELECT set_config('extra_float_digits', '2', true)",
        &[],
        &[],
    ));
    both(&extended("COMMIT", &[], &[]));
    both(&extended(
        "SELECT current_setting('extra_float_digits')",
        &[],
        &[],
    ));
    let rows = both(&extended("SELECT * FROM events ORDER BY id", &[], &[]));
    assert!(
        rows.iter().any(|line| line.starts_with("DataRow 2 b 1")),
        "{rows:?}"
    );
}

#[test]
fn what_needs_postgresql_is_refused_and_says_so() {
    let Some(alone) = Alone::over(1) else {
        return;
    };
    let [mut wire, _] = alone.wires();
    let gathered = "rows of documents would have to be gathered for this statement, and there is no shard of PostgreSQL to do so";
    let needed = "there is no shard of PostgreSQL, which this statement needs";
    for (sql, message) in [
        ("SELECT * FROM events JOIN events o USING (id)", gathered),
        ("SELECT upper(kind) FROM events", gathered),
        (
            "SELECT id FROM events WHERE mothership.perhaps(upper(kind) = 'A')",
            gathered,
        ),
        ("INSERT INTO events SELECT id + 1 FROM events", gathered),
        ("DECLARE c CURSOR FOR SELECT * FROM events", gathered),
        ("CREATE TABLE t (a int)", needed),
        ("SELECT count(*) FROM pg_class", needed),
        ("SELECT 1 + 1", needed),
        ("SELECT pg_sleep(1)", needed),
        ("LISTEN x", needed),
        ("SET ROLE postgres", needed),
    ] {
        let told = say(&mut wire, sql);
        let expected = [
            format!("Error 0A000 {message}"),
            "ReadyForQuery I".to_owned(),
        ];
        assert_eq!(told, expected, "{sql}");
    }
    let told = say(&mut wire, "SET jit_above_cost = 1");
    let unknown =
        "Error 0A000 setting \"jit_above_cost\" is not known without a shard of PostgreSQL";
    assert_eq!(told, [unknown, "ReadyForQuery I"]);
}

#[test]
fn only_users_of_the_configuration_log_in() {
    let Some(alone) = Alone::over(1) else {
        return;
    };
    let known = alone.endpoint();
    for (user, password) in [(USER, "another"), ("nobody", PASSWORD), ("nobody", "")] {
        let endpoint = Endpoint {
            user: user.into(),
            password: password.into(),
            ..known.clone()
        };
        let mut wire = Wire::connect(known.port);
        let refused = wire.try_login(&endpoint, V3_0, &[]).unwrap_err();
        assert_eq!(refused.sqlstate(), "28P01", "{user}");
    }
    let (code, said, error) = mothership(&alone.config, &["check-config"], &["--connect"]);
    assert_eq!((code, error.as_str()), (0, ""), "{said}");
    assert!(
        said.contains("users: 1 declared; others: refused"),
        "{said}"
    );
    let without = alone.config.replace("[[user]]", "[[rule]]");
    assert_ne!(mothership(&without, &["check-config"], &[]).0, 0);
}

#[test]
fn settings_of_a_startup_packet_are_looked_at() {
    let Some(alone) = Alone::over(1) else {
        return;
    };
    let options = [("options", "-c timezone=Europe/Rome -c app.x=1")];
    let [told, expected] = [alone.endpoint(), alone.twin.endpoint(0)].map(|endpoint| {
        let mut wire = Wire::login_with(&endpoint, &options);
        [
            "SHOW timezone",
            "SHOW app.x",
            "RESET timezone",
            "SHOW timezone",
        ]
        .map(|sql| say(&mut wire, sql))
    });
    assert_eq!(told, expected);
    let mut wire = Wire::connect(alone.endpoint().port);
    let refused = wire
        .try_login(&alone.endpoint(), V3_0, &[("datestyle", "never")])
        .unwrap_err();
    assert_eq!(
        lines(&[refused]),
        ["Error 22023 invalid value for parameter \"DateStyle\": \"never\""]
    );
}
