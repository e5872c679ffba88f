//! A new configuration while the router runs: what says where rows are stays until a restart, all else goes in force.

use super::stage::{LIMIT, Stage, one, say};
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Wire, poll_until};

fn admin() -> String {
    format!(
        "[console]\nadmin_users = [\"{USER}\"]\n[[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n"
    )
}

fn console(stage: &Stage) -> Wire {
    Wire::login(&stage.router.endpoint(USER, PASSWORD, "mothership"))
}

fn in_force(console: &mut Wire, setting: &str) -> String {
    let config = console.rows("SHOW CONFIG");
    let row = config.iter().find(|row| row[0] == setting);
    row.unwrap_or_else(|| panic!("no setting {setting}"))[1].clone()
}

/// Other slots and another key.
fn moved(config: &str) -> String {
    let mut moved = config.replace("key = [\"id\"]", "key = [\"v\"]");
    for (name, slots) in [("s1", "0-9"), ("s2", "10-19"), ("s3", "20-16383")] {
        let line = format!("name = \"{name}\"\n");
        moved = moved.replace(&line, &format!("{line}slots = \"{slots}\"\n"));
    }
    moved
}

#[test]
fn slots_and_keys_stay_until_a_restart_and_the_rest_of_the_file_goes_in_force() {
    let stage = Stage::with(&admin());
    stage.fill(1..=60);
    let mut wire = stage.wire();
    let found = |wire: &mut Wire| {
        for id in 1..=60 {
            let sql = format!("SELECT v FROM items WHERE id = {id}");
            assert_eq!(one(wire, &sql), (id * 2).to_string());
        }
    };
    found(&mut wire);
    let mut console = console(&stage);
    let slots = in_force(&mut console, "shard.s1.slots");
    let new = moved(stage.config());

    stage
        .router
        .write_config(&format!("{new}[pool]\nmax = 7\n"));
    let frames = console.query("RELOAD");
    let warning = &frames[0];
    assert_eq!(
        (warning.kind, &*warning.sqlstate()),
        (b'N', "01000"),
        "{frames:?}"
    );
    let named = warning.field('D').unwrap();
    for setting in [
        "shard.s1.slots",
        "shard.s3.slots",
        "table.public.items.key",
        "table.public.accounts.key",
    ] {
        let each: Vec<&str> = named.split(", ").collect();
        assert!(each.contains(&setting), "{named}");
    }
    assert!(!named.contains("pool"), "{named}");
    assert_eq!(in_force(&mut console, "pool.max"), "7");
    assert_eq!(in_force(&mut console, "shard.s1.slots"), slots);
    found(&mut wire);

    stage
        .router
        .write_config(&format!("{new}[pool]\nmax = 8\n"));
    stage.router.sighup();
    assert!(poll_until(LIMIT, || in_force(&mut console, "pool.max") == "8"));
    assert_eq!(in_force(&mut console, "shard.s1.slots"), slots);
    let log = stage.router.log();
    let told = |setting: &str| {
        let mut lines = log.lines();
        lines.any(|line| line.contains("waits for a restart") && line.contains(setting))
    };
    assert!(
        told("table.public.items.key") && told("shard.s2.slots"),
        "{log}"
    );
    found(&mut wire);
    let rows: Vec<String> = (61..=90).map(|id| format!("({id}, {id})")).collect();
    let sql = format!("INSERT INTO items VALUES {}", rows.join(", "));
    assert_eq!(say(&mut wire, &sql)[0], "CommandComplete INSERT 0 30");
    // Each lies where its key belongs.
    assert_eq!(stage.ids("items").len(), 90);

    // What is right only with what waits is refused as a whole.
    let shard = "[[shard]]\nname = \"s4\"\n[[shard.server]]\naddress = \"127.0.0.1:1\"\n\
        [[rule]]\nname = \"r\"\naction = \"shard\"\nshard = \"s4\"\n[pool]\nmax = 9\n";
    stage
        .router
        .write_config(&format!("{}{shard}", stage.config()));
    let frames = console.query("RELOAD");
    assert_eq!(frames[0].sqlstate(), "F0000", "{frames:?}");
    let why = frames[0].field('D').unwrap();
    assert!(
        why.contains("after a restart") && why.contains("`s4`"),
        "{why}"
    );
    assert_eq!(in_force(&mut console, "pool.max"), "8");
    // Without a difference nothing is told.
    stage.router.write_config(stage.config());
    assert_eq!(console.query("RELOAD")[0].kind, b'C');
    found(&mut wire);
}

#[test]
fn recovery_begins_when_a_reload_brings_two_phase_commits() {
    let off = "[transactions]\ntwo_phase = false\nprepare_timeout = \"1s\"\nrecovery_interval = \"500ms\"\n";
    let table = "[[table]]\nname = \"items\"\nkey = \"id\"\n";
    let stage = Stage::bare(&format!("{}{off}{table}", admin()));
    stage
        .shards
        .sql_all("CREATE TABLE items (id int8 PRIMARY KEY)");
    // A router that is gone has left a part behind, and its decider never decided.
    let decider = "SELECT system_identifier || ' ' || (SELECT oid FROM pg_database WHERE datname = current_database()) \
        FROM pg_control_system()";
    let decider = stage.shards.sql(0, decider);
    let (system, database) = decider.split_once(' ').unwrap();
    let base36 = |number: &str| {
        let (mut number, mut digits) = (number.parse::<u64>().unwrap(), Vec::new());
        while number > 0 {
            digits.push(char::from_digit((number % 36) as u32, 36).unwrap());
            number /= 36;
        }
        digits.iter().rev().collect::<String>()
    };
    let gid = format!(
        "ms1:gone:{:025}:s1:s2:{}:{}:7:b",
        5,
        base36(system),
        base36(database)
    );
    let mut direct = Wire::login(&stage.shards.endpoint(1));
    direct.query(&format!(
        "BEGIN; INSERT INTO items VALUES (-1); PREPARE TRANSACTION '{gid}'"
    ));
    assert_eq!(stage.prepared(), 1);
    let on = stage
        .config()
        .replace("two_phase = false", "two_phase = true");
    stage.router.write_config(&on);
    assert_eq!(console(&stage).query("RELOAD")[0].kind, b'C');
    // The decision tables come with the first statement.
    say(&mut stage.wire(), "SELECT count(*) FROM items");
    stage.assert_nothing_prepared();
    assert_eq!(
        stage
            .shards
            .sql(1, "SELECT count(*) FROM items WHERE id = -1"),
        "0"
    );
}
