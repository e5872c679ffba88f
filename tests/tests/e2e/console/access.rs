//! Who is let in, to what, and until when.

use super::stage::{PASSWORD, SOON, World, get, state};
use mothership_tests::Wire;
use mothership_tests::message;

// See: CVE-2026-6667, S10
#[test]
fn who_may_do_what() {
    let world = World::new();
    let shows = [
        "STATS",
        "STATS_TOTALS",
        "STATS_AVERAGES",
        "TOTALS",
        "POOLS",
        "DATABASES",
        "CLIENTS",
        "SERVERS",
        "SOCKETS",
        "ACTIVE_SOCKETS",
        "LISTS",
        "CONFIG",
        "USERS",
        "PEERS",
        "PEER_POOLS",
        "MEM",
        "DNS_HOSTS",
        "DNS_ZONES",
        "VERSION",
        "STATE",
        "HELP",
        "SHARDS",
        "MAP",
        "ENDPOINTS",
        "RULES",
        "PINS",
        "PLANS",
        "TRANSACTIONS",
        "POOLS_EXTENDED",
        "datestyle",
    ];
    let shows = shows.map(|word| format!("SHOW {word}"));
    // With what the administrator gets; the last ones end what the first began.
    let acts = [
        ("SHOW FDS", "ok"),
        ("PAUSE nowhere", "ok"),
        ("RESUME nowhere", "ok"),
        ("PAUSE", "ok"),
        ("RESUME", "ok"),
        ("RESUME", "55000"),
        ("SUSPEND", "ok"),
        ("RESUME", "ok"),
        ("DISABLE nowhere", "ok"),
        ("ENABLE nowhere", "ok"),
        ("RECONNECT", "ok"),
        ("RECONNECT nowhere", "ok"),
        ("WAIT_CLOSE", "ok"),
        ("KILL nowhere", "ok"),
        ("RESUME nowhere", "ok"),
        ("KILL_CLIENT 999999", "42704"),
        ("KILL pgbouncer", "0A000"),
        ("PAUSE mothership", "0A000"),
        ("RELOAD", "ok"),
        ("SET pool.max = 5", "0A000"),
        ("SET nonsense = 5", "42704"),
        ("SET datestyle = ISO", "ok"),
        ("SHUTDOWN WAIT_FOR_CLIENTS", "ok"),
    ];
    let mut stats = world.console("watch");
    for show in &shows {
        assert_eq!(state(&mut stats, show), "ok", "{show}");
    }
    for (command, _) in acts {
        let expected = if command.starts_with("SET datestyle") {
            "ok"
        } else {
            "42501"
        };
        assert_eq!(state(&mut stats, command), expected, "{command}");
        // The same by the extended protocol.
        stats.send_all(&[
            message::parse("", command, &[]),
            message::bind_text(&[]),
            message::execute("", 0),
            message::sync(),
        ]);
        let frames = stats.until_ready();
        let error = frames.iter().find(|f| f.kind == b'E');
        let refused = error.map_or("ok".into(), |e| e.sqlstate());
        assert_eq!(refused, expected, "{command}, extended");
    }
    for (user, password, database, expected) in [
        (
            &*world.endpoint().user,
            &*world.endpoint().password,
            "pgbouncer",
            "42501",
        ),
        (
            &*world.endpoint().user,
            &*world.endpoint().password,
            "mothership",
            "42501",
        ),
        // Over TCP nobody is let in by the word of the operating system.
        ("pgbouncer", "", "pgbouncer", "28P01"),
        ("nobody", PASSWORD, "pgbouncer", "28P01"),
        ("root", "wrong", "mothership", "28P01"),
        ("watch", "wrong", "mothership", "28P01"),
    ] {
        let endpoint = world.router.endpoint(user, password, database);
        let mut wire = Wire::connect(world.router.port());
        let error = wire.try_login(&endpoint, message::V3_0, &[]).unwrap_err();
        assert_eq!(error.sqlstate(), expected, "{user} {database}");
    }
    let mut admin = world.console("root");
    for show in &shows {
        assert_eq!(state(&mut admin, show), "ok", "{show}");
    }
    for (command, expected) in acts {
        assert_eq!(state(&mut admin, command), expected, "{command}");
    }
}

// See: CVE-2023-22332, S12
#[test]
fn no_table_and_no_metric_shows_a_secret() {
    let world = World::new();
    let secret = "hidden in a literal 4711";
    let mut client = world.client();
    client.rows(&format!("SELECT '{secret}'"));
    client.rows("BEGIN");
    client.rows(&format!("SELECT '{secret}'"));
    let key = client.key.clone().unwrap();
    let key = u32::from_be_bytes(key.1.try_into().unwrap());
    let mut wire = world.console("root");
    let mut all = String::new();
    for word in [
        "STATS",
        "POOLS",
        "DATABASES",
        "CLIENTS",
        "SERVERS",
        "SOCKETS",
        "CONFIG",
        "USERS",
        "FDS",
        "LISTS",
        "MEM",
        "SHARDS",
        "MAP",
        "ENDPOINTS",
        "RULES",
        "PINS",
        "PLANS",
        "TRANSACTIONS",
        "POOLS_EXTENDED",
    ] {
        for row in wire.rows(&format!("SHOW {word}")) {
            all.push_str(&row.join("|"));
            all.push('\n');
        }
    }
    all.push_str(&get(&world, "/metrics").1);
    all.push_str(&world.router.log());
    let server = world.shards.endpoint(0);
    for hidden in [
        PASSWORD,
        &*server.password,
        secret,
        "SCRAM-SHA-256$",
        &key.to_string(),
    ] {
        assert!(!all.contains(hidden), "{hidden:?} is shown");
    }
    assert!(all.contains("***"), "passwords are shown as stars");
}

#[test]
fn the_routers_own_user_comes_in_over_the_unix_socket() {
    let world = World::new();
    let psql = mothership_tests::binaries().program("psql");
    let folder = world.router.unix_folder();
    let run = |user: &str| {
        std::process::Command::new(&psql)
            .args(["-X", "-w", "-At", "-c", "SHOW STATE"])
            .arg(format!(
                "host='{folder}' port={} user={user} dbname=pgbouncer",
                world.router.port()
            ))
            .env_remove("PGPASSWORD")
            .output()
            .unwrap()
    };
    let output = run("pgbouncer");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "active|yes\npaused|no\nsuspended|no\n"
    );
    assert!(!run("root").status.success(), "others need their password");
}

#[test]
fn the_console_can_be_reached_until_the_last_client_has_left() {
    let mut world = World::new();
    let mut admin = world.console("root");
    let mut client = world.client();
    client.rows("SELECT 1");
    assert_eq!(get(&world, "/health/ready").0, 200);
    assert_eq!(state(&mut admin, "SHUTDOWN WAIT_FOR_CLIENTS"), "ok");
    assert_eq!(get(&world, "/health/ready").0, 503);
    assert_eq!(get(&world, "/health/live").0, 200);
    client.rows("SELECT 2");
    let psql = mothership_tests::binaries().program("psql");
    let folder = world.router.unix_folder();
    let seen = std::process::Command::new(psql)
        .args(["-X", "-w", "-At", "-c", "SHOW LISTS"])
        .arg(format!(
            "host='{folder}' port={} user=pgbouncer dbname=pgbouncer",
            world.router.port()
        ))
        .output()
        .unwrap();
    assert!(
        seen.status.success(),
        "{}",
        String::from_utf8_lossy(&seen.stderr)
    );
    drop(client);
    assert!(world.router.wait(SOON).success());
}
