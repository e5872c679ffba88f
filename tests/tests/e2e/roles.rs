//! Roles over clusters of their own: a password that is set through the router is the
//! same on all of them, so that a client that is passed through gets to each.

use mothership_tests::fleet::Shard;
use mothership_tests::router::binary;
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Endpoint, Fleet, Folder, Router, connect, poll_until};
use std::process::Command;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

const TABLES: &str = "[[table]]\nname = \"items\"\nkey = [\"id\"]\nkey_type = [\"int8\"]\n";

struct Stage {
    router: Router,
    fleet: Fleet,
    config: String,
}

impl Stage {
    fn new() -> Stage {
        Stage::remembering("1h")
    }

    /// With so long a time for which the router remembers what a server keeps of a password.
    fn remembering(cache: &str) -> Stage {
        let fleet = Fleet::new(3, 0);
        let mut config = format!(
            "[listen]\naddress = [\"127.0.0.1\"]\nport = @port@\n[auth]\ncache = \"{cache}\"\n\
             [control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n{TABLES}"
        );
        for (number, shard) in fleet.shards.iter().enumerate() {
            config += &format!(
                "[[shard]]\nname = \"s{number}\"\n[[shard.server]]\naddress = \"127.0.0.1:{}\"\n",
                shard.primary.port()
            );
        }
        // The superuser of the clusters has three verifiers, and its password here.
        config += &format!("[[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n");
        Stage {
            router: Router::start(&config),
            fleet,
            config,
        }
    }

    fn endpoint(&self, user: &str, password: &str) -> Endpoint {
        Endpoint {
            user: user.into(),
            password: password.into(),
            ..Shard::endpoint(&self.fleet.shards[0].primary).at_port(self.router.port())
        }
    }

    fn on_all(&self, sql: &str) -> Vec<String> {
        let ask = |shard: &Shard| shard.primary.sql("postgres", sql).unwrap();
        self.fleet.shards.iter().map(ask).collect()
    }

    /// What all clusters keep of a role's password; they must agree.
    fn kept(&self, role: &str) -> String {
        let mut all = self.on_all(&format!(
            "SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'"
        ));
        all.dedup();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// A client of this role gets to every shard.
    async fn gets_through(&self, role: &str, password: &str) {
        let client = connect(&self.endpoint(role, password)).await;
        let row = client
            .query_one("SELECT count(*) FROM items", &[])
            .await
            .unwrap();
        assert_eq!(row.get::<_, i64>(0), 30);
    }

    async fn is_kept_out(&self, role: &str, password: &str) {
        let conninfo = self.endpoint(role, password).conninfo();
        let refused = tokio_postgres::connect(&conninfo, tokio_postgres::NoTls).await;
        assert!(refused.is_err());
    }
}

#[tokio::test]
async fn a_password_set_through_the_router_is_the_same_on_all_clusters() {
    let stage = Stage::new();
    stage.on_all("ALTER SYSTEM SET log_statement = 'all'");
    stage.on_all("SELECT pg_reload_conf()");
    let admin = connect(&stage.endpoint(USER, PASSWORD)).await;
    admin
        .batch_execute("CREATE TABLE items (id int8 PRIMARY KEY)")
        .await
        .unwrap();
    let rows: Vec<String> = (1..=30).map(|id| format!("({id})")).collect();
    let insert = format!("INSERT INTO items VALUES {}", rows.join(", "));
    admin.batch_execute(&insert).await.unwrap();

    // The simple protocol.
    let create = "CREATE ROLE app LOGIN PASSWORD 'se''same-1'; GRANT SELECT ON items TO app";
    admin.batch_execute(create).await.unwrap();
    assert!(stage.kept("app").starts_with("SCRAM-SHA-256$4096:"));
    stage.gets_through("app", "se'same-1").await;
    stage.is_kept_out("app", "sesame-1").await;
    // The extended one.
    let alter = "ALTER USER app WITH ENCRYPTED PASSWORD E'sesame-2\\x41'";
    assert_eq!(admin.execute(alter, &[]).await.unwrap(), 0);
    let second = stage.kept("app");
    stage.gets_through("app", "sesame-2A").await;
    stage.is_kept_out("app", "se'same-1").await;
    // In a transaction, undone and kept.
    admin
        .batch_execute("BEGIN; ALTER ROLE app PASSWORD 'sesame-3'; ROLLBACK")
        .await
        .unwrap();
    assert_eq!(stage.kept("app"), second);
    for sql in ["BEGIN", "ALTER ROLE app PASSWORD 'sesame-4ß'", "COMMIT"] {
        admin.batch_execute(sql).await.unwrap();
    }
    stage.gets_through("app", "sesame-4ß").await;
    // What is hashed already passes as it is; so do the old hash and none at all.
    let ready = format!("ALTER ROLE app PASSWORD '{second}'");
    admin.batch_execute(&ready).await.unwrap();
    assert_eq!(stage.kept("app"), second);
    stage.gets_through("app", "sesame-2A").await;
    admin
        .batch_execute("BEGIN; SET LOCAL password_encryption = 'md5'; ALTER ROLE app PASSWORD 'sesame-5'; COMMIT")
        .await
        .unwrap();
    assert!(stage.kept("app").starts_with("md5"));
    admin
        .batch_execute("ALTER ROLE app PASSWORD NULL")
        .await
        .unwrap();
    assert_eq!(stage.kept("app"), "");
    // What is not read is refused, and not repeated.
    let refused = admin
        .batch_execute("ALTER ROLE app PASSWORD U&'sesame-6\\D800'")
        .await;
    let refused = refused.unwrap_err();
    let refused = refused.as_db_error().unwrap();
    assert_eq!(refused.code().code(), "0A000");
    assert!(!format!("{refused:?}").contains("sesame"), "{refused:?}");
    assert_eq!(stage.kept("app"), "");
    // An error of a server leaves the session whole.
    let missing = admin
        .batch_execute("ALTER ROLE nobody PASSWORD 'sesame-7'")
        .await;
    assert_eq!(missing.unwrap_err().code().unwrap().code(), "42704");
    stage.kept("app");

    assert!(!stage.router.log().contains("sesame"));
    for shard in &stage.fleet.shards {
        let log = std::fs::read_to_string(shard.primary.log()).unwrap();
        // The old hash is made of the password by each server.
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("ALTER ROLE") || line.contains("CREATE ROLE"))
            .collect();
        assert!(lines.iter().any(|line| line.contains("SCRAM-SHA-256")));
        for line in lines {
            assert!(
                !line.contains("sesame") || line.contains("sesame-5"),
                "{line}"
            );
        }
    }
}

// A pool logs in with what its first client has proven.
#[tokio::test]
async fn pools_log_in_with_a_password_that_was_changed_past_the_router() {
    let stage = Stage::remembering("0s");
    let admin = connect(&stage.endpoint(USER, PASSWORD)).await;
    for sql in [
        "CREATE TABLE items (id int8 PRIMARY KEY)",
        "CREATE ROLE app LOGIN PASSWORD 'first'",
        "GRANT SELECT ON items TO app",
    ] {
        admin.batch_execute(sql).await.unwrap();
    }
    let rows: Vec<String> = (1..=30).map(|id| format!("({id})")).collect();
    let insert = format!("INSERT INTO items VALUES {}", rows.join(", "));
    admin.batch_execute(&insert).await.unwrap();
    // Enough that every core has some of them, and its own pools.
    let mut before = Vec::new();
    for _ in 0..12 {
        let client = connect(&stage.endpoint("app", "first")).await;
        assert_eq!(count(&client).await.unwrap(), 30);
        before.push(client);
    }
    let backends =
        || stage.on_all("SELECT pid FROM pg_stat_activity WHERE usename = 'app' ORDER BY pid");
    let open = backends();
    assert!(open.iter().all(|pids| !pids.is_empty()), "{open:?}");

    let change = |password: &str| {
        let first = &stage.fleet.shards[0].primary;
        first
            .sql("postgres", &format!("ALTER ROLE app PASSWORD '{password}'"))
            .unwrap();
        let kept = "SELECT rolpassword FROM pg_authid WHERE rolname = 'app'";
        let kept = first.sql("postgres", kept).unwrap();
        stage.on_all(&format!("ALTER ROLE app PASSWORD '{kept}'"));
    };
    change("second");
    stage.gets_through("app", "second").await;
    stage.is_kept_out("app", "first").await;
    let now = backends();
    for (before, now) in open.iter().zip(&now) {
        assert!(
            before.lines().all(|pid| now.lines().any(|p| p == pid)),
            "{open:?} {now:?}"
        );
    }
    // All pools have to open new connections, those of sessions that knew the old password too.
    stage.on_all("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'");
    let none = poll_until(SOON, || backends().iter().all(String::is_empty));
    assert!(none, "{:?}", backends());
    stage.gets_through("app", "second").await;
    for client in &before {
        let deadline = Instant::now() + SOON;
        // What was lost while it lay idle may be noticed by the first statement.
        while let Err(error) = count(client).await {
            assert!(Instant::now() < deadline, "{error:?}");
            assert_ne!(error.code().unwrap().code(), "28P01", "{error:?}");
        }
    }
    change("third");
    stage.gets_through("app", "third").await;
    stage.is_kept_out("app", "second").await;
}

async fn count(client: &tokio_postgres::Client) -> Result<i64, tokio_postgres::Error> {
    let row = client.query_one("SELECT count(*) FROM items", &[]).await?;
    Ok(row.get(0))
}

#[tokio::test]
async fn check_config_names_roles_whose_verifiers_differ() {
    let stage = Stage::new();
    let admin = connect(&stage.endpoint(USER, PASSWORD)).await;
    for role in ["same", "other"] {
        let sql = format!("CREATE ROLE {role} LOGIN PASSWORD 'open'");
        admin
            .batch_execute("CREATE TABLE IF NOT EXISTS items (id int8 PRIMARY KEY)")
            .await
            .unwrap();
        admin.batch_execute(&sql).await.unwrap();
    }
    let folder = Folder::new("roles");
    let path = folder.path().join("mothership.toml");
    std::fs::write(&path, stage.config.replace("@port@", "6432")).unwrap();
    let said = || {
        let mut command = Command::new(binary());
        command
            .args(["check-config", "--connect", "--config"])
            .arg(&path);
        let out = command.output().unwrap();
        let said = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
        assert!(out.status.success(), "{said}");
        said
    };
    let before = said();
    assert!(!before.contains("password"), "{before}");
    let changed = &stage.fleet.shards[1].primary;
    changed
        .sql("postgres", "ALTER ROLE other PASSWORD 'open'")
        .unwrap();
    let after = said();
    assert!(
        after.contains(
            "warning: role \"other\": what s1 keeps of its password is not what s0 keeps"
        ),
        "{after}"
    );
    assert!(
        !after.contains("\"same\"") && !after.contains("SCRAM"),
        "{after}"
    );
}

#[tokio::test]
async fn open_sessions_of_a_role_go_on_when_its_password_is_changed() {
    let stage = Stage::new();
    let admin = connect(&stage.endpoint(USER, PASSWORD)).await;
    let made = "CREATE TABLE items (id int8 PRIMARY KEY); CREATE ROLE app LOGIN PASSWORD 'sesame-1'; \
                GRANT SELECT, INSERT ON items TO app";
    admin.batch_execute(made).await.unwrap();
    let rows: Vec<String> = (1..=30).map(|id| format!("({id})")).collect();
    let insert = format!("INSERT INTO items VALUES {}", rows.join(", "));
    let own = connect(&stage.endpoint("app", "sesame-1")).await;
    let other = connect(&stage.endpoint("app", "sesame-1")).await;
    own.batch_execute(&insert).await.unwrap();
    let count = async |client: &tokio_postgres::Client| {
        let row = client.query_one("SELECT count(*) FROM items", &[]).await;
        row.unwrap().get::<_, i64>(0)
    };
    assert_eq!((count(&own).await, count(&other).await), (30, 30));
    for (before, now) in [("sesame-1", "sesame-2"), ("sesame-2", "sesame-3")] {
        let alter = format!("ALTER ROLE app PASSWORD '{now}'");
        own.batch_execute(&alter).await.unwrap();
        assert_eq!((count(&own).await, count(&other).await), (30, 30));
        stage.gets_through("app", now).await;
        stage.is_kept_out("app", before).await;
    }
}
