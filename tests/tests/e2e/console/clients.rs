//! What clients make of the console: raw messages, a driver, psql.

use super::stage::{PASSWORD, World, state};
use mothership_tests::message::{self, Format};
use mothership_tests::{Wire, connect};
use tokio_postgres::SimpleQueryMessage;

#[test]
fn help_is_a_notice_with_a_sqlstate() {
    let world = World::new();
    let mut wire = world.console("watch");
    let frames = wire.query("SHOW HELP");
    assert_eq!(frames[0].kind, b'N');
    assert_eq!(frames[0].field('C').unwrap(), "00000");
    assert_eq!(frames[0].field('M').unwrap(), "Console usage");
    assert!(
        frames[0]
            .field('D')
            .unwrap()
            .contains("KILL_CLIENT <client_id>")
    );
    assert_eq!(frames[1].to_string(), "CommandComplete SHOW");
}

#[test]
fn what_drivers_send_is_answered() {
    let world = World::new();
    let endpoint = world.router.endpoint("watch", PASSWORD, "mothership");
    let mut wire = Wire::connect(world.router.port());
    let more = [
        ("extra_float_digits", "2"),
        ("client_encoding", "UTF8"),
        ("datestyle", "ISO, MDY"),
    ];
    let welcome = wire.try_login(&endpoint, message::V3_2, &more).unwrap();
    let parameters: Vec<String> = welcome
        .iter()
        .filter(|f| f.kind == b'S')
        .map(|f| f.text())
        .collect();
    for name in [
        "server_version",
        "client_encoding",
        "DateStyle",
        "standard_conforming_strings",
    ] {
        assert!(parameters.iter().any(|p| p == name), "{name}");
    }
    let show = |frames: &[mothership_tests::Frame]| mothership_tests::frame::show(frames);
    let answer =
        show(&wire.query("SET datestyle = ISO; SHOW datestyle; BEGIN; SHOW timezone; COMMIT"));
    expect_test::expect![[r#"
        Notice 00000 SET ignored
        CommandComplete SET
        RowDescription datestyle
        DataRow ISO
        CommandComplete SHOW
        CommandComplete BEGIN
        RowDescription timezone
        DataRow GMT
        CommandComplete SHOW
        CommandComplete COMMIT
        ReadyForQuery I
    "#]]
    .assert_eq(&answer);
    let answer = show(&wire.query("BEGIN; SHOW VERSIONS; SHOW VERSION"));
    expect_test::expect![[r#"
        CommandComplete BEGIN
        Error 42601 invalid command 'SHOW VERSIONS', use SHOW HELP;
        ReadyForQuery E
    "#]]
    .assert_eq(&answer);
    assert_eq!(state(&mut wire, "SHOW VERSION"), "25P02");
    assert_eq!(
        show(&wire.query("COMMIT")),
        "CommandComplete ROLLBACK\nReadyForQuery I\n"
    );
    assert_eq!(
        show(&wire.query("-- ping")),
        "EmptyQueryResponse\nReadyForQuery I\n"
    );
}

#[test]
fn the_extended_protocol_has_limits_formats_and_errors() {
    let world = World::new();
    let mut wire = world.console("watch");
    let show = |frames: Vec<mothership_tests::Frame>| mothership_tests::frame::show(&frames);
    wire.send_all(&[
        message::parse("", "SHOW STATE", &[]),
        message::bind_text(&[]),
        message::describe_portal(""),
        message::execute("", 2),
        message::execute("", 2),
        message::sync(),
    ]);
    expect_test::expect![[r#"
        ParseComplete
        BindComplete
        RowDescription key value
        DataRow active yes
        DataRow paused no
        PortalSuspended
        DataRow suspended no
        CommandComplete SHOW
        ReadyForQuery I
    "#]]
    .assert_eq(&show(wire.until_ready()));
    wire.send_all(&[
        message::parse("", "SHOW nonsense", &[]),
        message::bind_text(&[]),
        message::execute("", 0),
        message::sync(),
        message::parse("", "SHOW VERSION; SHOW STATE", &[]),
        message::sync(),
        message::bind("", "unknown", Format::Text, &[], Format::Text),
        message::sync(),
        message::parse("", "", &[]),
        message::bind_text(&[]),
        message::execute("", 0),
        message::sync(),
    ]);
    let answers: Vec<String> = (0..4).map(|_| show(wire.until_ready())).collect();
    expect_test::expect![[r#"
        Error 42601 invalid command 'SHOW nonsense', use SHOW HELP;
        ReadyForQuery I
        Error 42601 cannot insert multiple commands into a prepared statement
        ReadyForQuery I
        Error 26000 prepared statement "unknown" does not exist
        ReadyForQuery I
        ParseComplete
        BindComplete
        EmptyQueryResponse
        ReadyForQuery I
    "#]]
    .assert_eq(&answers.concat());
    // Binary numbers are PostgreSQL's.
    let mut direct = Wire::login(&world.shards.endpoint(0));
    let sent = |wire: &mut Wire, sql: &str| {
        wire.send_all(&[
            message::parse("", sql, &[]),
            message::bind("", "", Format::Text, &[], Format::Binary),
            message::execute("", 0),
            message::sync(),
        ]);
        let frames = wire.until_ready();
        let rows = frames.into_iter().filter(|f| f.kind == b'D');
        rows.map(|f| f.row()).collect::<Vec<_>>()
    };
    let server = sent(
        &mut direct,
        "SELECT 'pgbouncer', n::numeric FROM (VALUES (0), (0)) v(n)",
    );
    let totals = sent(&mut wire, "SHOW STATS_TOTALS");
    let own = totals.iter().find(|row| row[0] == server[0][0]).unwrap();
    assert_eq!(own[1], server[0][1]);
}

#[tokio::test]
async fn tokio_postgres_reads_it_both_ways() {
    let world = World::new();
    let mut busy = world.client();
    busy.rows("SELECT 1");
    let client = connect(&world.router.endpoint("watch", PASSWORD, "pgbouncer")).await;
    let rows = client.query("SHOW POOLS", &[]).await.unwrap();
    let database = world.endpoint().database.clone();
    let row = rows
        .iter()
        .find(|row| row.get::<_, &str>("database") == database)
        .unwrap();
    assert_eq!(
        (row.get::<_, i32>("cl_active"), row.get::<_, i32>("maxwait")),
        (1, 0)
    );
    assert_eq!(row.get::<_, Option<String>>("load_balance_hosts"), None);
    let lists = client.query("SHOW LISTS", &[]).await.unwrap();
    assert_eq!(lists.len(), 14);
    let messages = client
        .simple_query("SHOW VERSION; SHOW DATABASES")
        .await
        .unwrap();
    let rows = messages
        .iter()
        .filter(|m| matches!(m, SimpleQueryMessage::Row(_)));
    assert!(rows.count() >= 4);
    let error = client.query("SHOW nothing", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42601");
    let error = client.simple_query("RELOAD").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42501");
}

/// psql ignores nothing: a message it does not like is printed.
#[test]
fn psql_reads_it_without_a_complaint() {
    let world = World::new();
    let psql = mothership_tests::binaries().program("psql");
    let output = std::process::Command::new(psql)
        .args([
            "-X",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            "SHOW HELP",
            "-c",
            "SHOW STATS",
        ])
        .args(["-c", "SHOW FDS", "-c", "PAUSE", "-c", "RESUME"])
        .arg(world.router.psql_url("root", "mothership"))
        .env("PGPASSWORD", PASSWORD)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(err.starts_with("NOTICE:  Console usage\nDETAIL:"), "{err}");
    assert!(
        !err.contains("ERROR") && out.contains("RESUME"),
        "{out}\n{err}"
    );
}
