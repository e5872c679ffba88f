//! Settings in transactions over shards: whatever order they are given in, and whenever
//! a shard joins, a session sees what it would see on one PostgreSQL.

use super::stage::{LIMIT, Stage, extended, keys_of, lines, one, owner, say, segment, send};
use mothership_tests::{Endpoint, Router, Shards, Wire};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;

/// The same tables on both sides: one of each name in two schemas, with different rows.
const OTHER: &str = r#"
[[table]]
name = "other.items"
key = ["id"]
key_type = ["int8"]
"#;

/// One random statement. What it does shows in [`read`].
fn statement(rng: &mut StdRng) -> String {
    let styles = ["iso_8601", "sql_standard", "postgres", "postgres_verbose"];
    let paths = ["public", "other", "other, public", "public, other"];
    let (name, value) = match rng.random_range(0..3) {
        0 => (
            "intervalstyle",
            *styles.choose(rng).expect("there are styles"),
        ),
        1 => ("search_path", *paths.choose(rng).expect("there are paths")),
        _ => *REPORTED.choose(rng).expect("there are some"),
    };
    let savepoint = ["s", "T", "u"].choose(rng).expect("there are names");
    match rng.random_range(0..14) {
        0 | 1 => format!("SET {name} = {value}"),
        2 | 3 => format!("SET LOCAL {name} TO {value}"),
        4 => format!("SELECT set_config('{name}', '{value}', false)"),
        5 | 6 => format!("SELECT set_config('{name}', '{value}', true)"),
        7 => format!("RESET {name}"),
        8 => format!("SET LOCAL {name} TO DEFAULT"),
        9 => "RESET ALL".to_owned(),
        10 | 11 => format!("SAVEPOINT {savepoint}"),
        12 => format!("ROLLBACK TO {savepoint}"),
        _ => format!("RELEASE {savepoint}"),
    }
}

/// What servers report of other settings.
const REPORTED: [(&str, &str); 8] = [
    ("application_name", "one"),
    ("application_name", "other"),
    ("client_encoding", "latin1"),
    ("client_encoding", "utf8"),
    ("datestyle", "german"),
    ("standard_conforming_strings", "off"),
    ("timezone", "japan"),
    ("timezone", "utc"),
];

/// What a client believes of its settings: what it was told last.
type Believed = BTreeMap<String, String>;

/// The settings that are reported and that a session changes.
const BELIEVED: [&str; 6] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "IntervalStyle",
    "standard_conforming_strings",
    "TimeZone",
];

fn believed(wire: &mut Wire) -> Believed {
    let shown = |name: &str| (name.to_owned(), one(wire, &format!("SHOW {name}")));
    BELIEVED.map(shown).into()
}

/// Shows the interval style, and by `v` which table the path leads to.
fn read(id: i64) -> String {
    format!("SELECT interval '1 day', v FROM items WHERE id = {id}")
}

/// The answer to one request: statements in one text, or in one segment of the extended protocol. What it reports of
/// settings is believed.
fn answer(
    wire: &mut Wire,
    believed: &mut Believed,
    statements: &[String],
    in_one_text: bool,
) -> Vec<String> {
    let frames = if in_one_text {
        wire.query(&statements.join("; "))
    } else {
        wire.send_all(&segment(statements.iter().map(String::as_str)));
        wire.until_ready()
    };
    for frame in frames.iter().filter(|frame| frame.kind == b'S') {
        let texts: Vec<_> = frame.body.split(|byte| *byte == 0).collect();
        let text = |at: usize| String::from_utf8_lossy(texts[at]).into_owned();
        if let Some(value) = believed.get_mut(&text(0)) {
            *value = text(1);
        }
    }
    lines(&frames)
}

/// Sessions that do the same at random on both sides see the same. What RESET goes back to is the startup packet's, if
/// it says something.
fn same_on_both(seed: u64, ours: &Endpoint, theirs: &Endpoint, keys: &[i64]) {
    let mut rng = StdRng::seed_from_u64(seed);
    let began: &[(&str, &str)] = match rng.random_bool(0.5) {
        true => &[
            ("intervalstyle", "sql_standard"),
            ("search_path", "other"),
            ("client_encoding", "latin1"),
            ("application_name", "begun"),
            ("options", "-c standard_conforming_strings=off"),
        ],
        false => &[],
    };
    let mut ours = Wire::login_with(ours, began);
    let mut theirs = Wire::login_with(theirs, began);
    ours.set_limit(LIMIT);
    // Servers report settings at the end of a request. What was in force between its statements nobody hears.
    let one_by_one = rng.random_bool(0.5);
    let (mut we_believe, mut they_believe) = (believed(&mut ours), believed(&mut theirs));
    let mut told = Vec::new();
    let mut ways = StdRng::seed_from_u64(seed ^ 1);
    let mut both = |statements: &[String]| {
        let in_one_text = ways.random_bool(0.6);
        told.push((in_one_text, statements.join("; ")));
        let ours = answer(&mut ours, &mut we_believe, statements, in_one_text);
        let theirs = answer(&mut theirs, &mut they_believe, statements, in_one_text);
        if !one_by_one {
            we_believe.clone_from(&they_believe);
        }
        assert_eq!(
            (ours, &we_believe),
            (theirs, &they_believe),
            "SEED={seed}, began with {began:?}, after {told:#?}"
        );
    };
    for _ in 0..120 {
        both(&["BEGIN".to_owned()]);
        let mut failed = false;
        for _ in 0..rng.random_range(1..10) {
            let read = read(*keys.choose(&mut rng).expect("there are keys"));
            match rng.random_range(0..10) {
                0..3 => both(&[read]),
                3 if !failed && !one_by_one => {
                    both(&[statement(&mut rng), read, statement(&mut rng)])
                }
                // The router fails it, and no server knows of that.
                4 => {
                    both(&["EXECUTE nosuch".to_owned()]);
                    failed = true;
                }
                _ => both(&[statement(&mut rng)]),
            }
        }
        keys.iter().for_each(|id| both(&[read(*id)]));
        let end = match rng.random_bool(0.5) {
            true => "COMMIT",
            false => "ROLLBACK",
        };
        both(&[end.to_owned()]);
        keys.iter().for_each(|id| both(&[read(*id)]));
        // Outside of a transaction, too: the request is one.
        match one_by_one {
            true => both(&[statement(&mut rng)]),
            false => both(&[statement(&mut rng), read(keys[0]), statement(&mut rng)]),
        }
        keys.iter().for_each(|id| both(&[read(*id)]));
    }
}

/// The tables of [`OTHER`] with their rows, and one PostgreSQL that has the same.
fn two_tables(stage: &Stage, keys: &[i64]) -> Shards {
    let mut made = stage.wire();
    for sql in [
        "CREATE SCHEMA other",
        "CREATE TABLE other.items (id int8 PRIMARY KEY, v int8)",
    ] {
        assert!(
            say(&mut made, sql)[0].starts_with("CommandComplete"),
            "{sql}"
        );
    }
    let one = Shards::new(1);
    one.sql(
        0,
        "CREATE TABLE items (id int8 PRIMARY KEY, v int8, note text); CREATE SCHEMA other; \
         CREATE TABLE other.items (id int8 PRIMARY KEY, v int8)",
    );
    for &id in keys {
        for (table, v) in [("public.items", 0), ("other.items", 1)] {
            let sql = format!("INSERT INTO {table} (id, v) VALUES ({id}, {v})");
            stage.shards.sql(owner(id), &sql);
            one.sql(0, &sql);
        }
    }
    one
}

fn seed() -> u64 {
    let seed = std::env::var("SEED").map_or_else(|_| rand::random(), |s| s.parse().unwrap());
    println!("SEED={seed}");
    seed
}

#[test]
#[ignore = "long"]
fn settings_are_in_a_transaction_over_shards_what_they_are_on_one_postgres() {
    let seed = seed();
    let stage = Stage::with(OTHER);
    let keys: Vec<i64> = (0..3).flat_map(|shard| keys_of(shard, 2)).collect();
    let one = two_tables(&stage, &keys);
    same_on_both(seed, &stage.endpoint(), &one.endpoint(0), &keys);
}

#[test]
#[ignore = "long"]
fn settings_are_through_a_pool_what_they_are_on_one_postgres() {
    let seed = seed();
    let stage = Stage::with(OTHER);
    let one = two_tables(&stage, &[1, 2]);
    let direct = one.endpoint(0);
    let router = Router::start(&format!(
        r#"
[listen]
port = @port@
workers = 2
[control]
user = "{user}"
password = "{password}"
[[shard]]
name = "one"
[[shard.server]]
address = "{host}:{port}"
"#,
        user = direct.user,
        password = direct.password,
        host = direct.host,
        port = direct.port,
    ));
    same_on_both(seed, &direct.at_port(router.port()), &direct, &[1, 2]);
}

#[test]
fn what_a_transaction_is_set_to_by_name_ends_with_it() {
    let stage = Stage::new();
    let began = [("application_name", "mine")];
    let mut wire = Wire::login_with(&stage.endpoint(), &began);
    wire.set_limit(LIMIT);
    let ids: Vec<i64> = (0..3).map(|shard| keys_of(shard, 1)[0]).collect();
    for (set, name, value, usual) in [
        (
            "SET transaction_isolation = 'serializable'",
            "transaction_isolation",
            "serializable",
            "read committed",
        ),
        (
            "SET LOCAL transaction_isolation TO 'repeatable read'",
            "transaction_isolation",
            "repeatable read",
            "read committed",
        ),
        (
            "SELECT set_config('transaction_read_only', 'on', false)",
            "transaction_read_only",
            "on",
            "off",
        ),
    ] {
        say(&mut wire, "BEGIN");
        let answer = say(&mut wire, set);
        assert_eq!(answer.last().unwrap(), "ReadyForQuery T", "{set}");
        let show = format!("SHOW {name}");
        assert_eq!(wire.rows(&show), [[value]]);
        say(&mut wire, "COMMIT");
        // Whoever comes next, on whichever connection, and this session on all shards.
        let mut other = Wire::login_with(&stage.endpoint(), &[("application_name", "other")]);
        for wire in [&mut other, &mut wire] {
            assert_eq!(wire.rows(&show), [[usual]]);
            for id in &ids {
                assert!(
                    wire.rows(&format!("SELECT v FROM items WHERE id = {id}"))
                        .is_empty()
                );
            }
        }
    }
}

#[test]
fn a_local_setting_outlives_a_reset_before_it_on_the_server_that_ran_the_reset() {
    let stage = Stage::with(OTHER);
    let mut wire = stage.wire();
    say(&mut wire, "CREATE SCHEMA other");
    say(
        &mut wire,
        "CREATE TABLE other.items (id int8 PRIMARY KEY, v int8)",
    );
    let ids: Vec<i64> = (0..3).map(|shard| keys_of(shard, 1)[0]).collect();
    for &id in &ids {
        for (table, v) in [("public.items", 0), ("other.items", 1)] {
            let sql = format!("INSERT INTO {table} (id, v) VALUES ({id}, {v})");
            stage.shards.sql(owner(id), &sql);
        }
    }
    let read = |shard: usize| format!("SELECT v FROM items WHERE id = {}", ids[shard]);
    for local in [
        "SELECT set_config('search_path', 'other', true)",
        "SET LOCAL search_path TO other",
    ] {
        say(&mut wire, "BEGIN");
        assert_eq!(wire.rows(&read(2)), [["0"]]);
        say(&mut wire, "SET search_path = other, public");
        assert_eq!(wire.rows(&read(0)), [["1"]]);
        // On the server that was asked last.
        send(&mut wire, &extended("RESET ALL", &[], &[]));
        // The next is given on another, and the first one hears of it when it works again.
        for shard in [1, 2] {
            assert_eq!(wire.rows(&read(shard)), [["0"]]);
        }
        say(&mut wire, local);
        for shard in [0, 1, 2, 0] {
            assert_eq!(wire.rows(&read(shard)), [["1"]], "{local}, shard {shard}");
        }
        say(&mut wire, "COMMIT");
        assert_eq!(wire.rows(&read(0)), [["0"]]);
    }
}

#[test]
fn a_search_path_of_the_database_is_what_statements_are_planned_by() {
    let stage = Stage::with(OTHER);
    let mut made = stage.wire();
    say(&mut made, "CREATE SCHEMA other");
    say(
        &mut made,
        "CREATE TABLE other.items (id int8 PRIMARY KEY, v int8)",
    );
    let ids: Vec<i64> = (0..3).map(|shard| keys_of(shard, 1)[0]).collect();
    for (shard, id) in ids.iter().enumerate() {
        let database = stage.shards.endpoint(shard).database;
        let sql = format!(
            "INSERT INTO public.items (id, v) VALUES ({id}, 0); \
             INSERT INTO other.items VALUES ({id}, 1); \
             ALTER DATABASE \"{database}\" SET search_path = other, public"
        );
        stage.shards.sql(shard, &sql);
    }
    // Connections from now on begin with it. A change of definitions through the router:
    // sessions from now on ask anew.
    stage.shards.sql_all(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    say(&mut stage.wire(), "CREATE TABLE more (id int8)");
    let told = |wire: &mut Wire| -> Vec<String> {
        let read = |id| format!("SELECT v FROM items WHERE id = {id}");
        ids.iter()
            .map(|id| wire.rows(&read(id)).concat().concat())
            .collect()
    };
    // Who is there keeps what it began with, as in PostgreSQL.
    assert_eq!(told(&mut made), ["0", "0", "0"]);
    let mut wire = stage.wire();
    assert_eq!(wire.rows("SHOW search_path"), [["other, public"]]);
    assert_eq!(told(&mut wire), ["1", "1", "1"]);
    assert!(
        wire.rows("EXPLAIN (ROUTE) SELECT v FROM items")
            .concat()
            .concat()
            .contains("other.items")
    );
    say(&mut wire, "SET search_path = public");
    assert_eq!(told(&mut wire), ["0", "0", "0"]);
    say(&mut wire, "RESET search_path");
    assert_eq!(told(&mut wire), ["1", "1", "1"]);
}

/// What a session keeps on its server stays there when another shard cannot be joined.
#[test]
fn a_shard_that_refuses_a_setting_takes_nothing_from_the_session() {
    let stage = Stage::new();
    let only = "CREATE TEXT SEARCH CONFIGURATION public.only_here (COPY = pg_catalog.simple)";
    stage.shards.sql(0, only);
    let mut wire = stage.wire();
    say(&mut wire, "LISTEN news");
    say(&mut wire, "CREATE TEMP TABLE own AS SELECT 7 AS x");
    let set = say(
        &mut wire,
        "SET default_text_search_config = 'public.only_here'",
    );
    assert_eq!(set[0], "CommandComplete SET");
    let refused = say(&mut wire, "ALTER TABLE public.items ADD COLUMN w int8");
    assert!(refused[0].starts_with("Error 22023"), "{refused:?}");
    assert_eq!(refused.last().unwrap(), "ReadyForQuery I");
    assert_eq!(one(&mut wire, "SELECT pg_listening_channels()"), "news");
    assert_eq!(one(&mut wire, "SELECT x FROM own"), "7");
    say(&mut wire, "RESET default_text_search_config");
    let added = say(&mut wire, "ALTER TABLE public.items ADD COLUMN w int8");
    assert_eq!(added[0], "CommandComplete ALTER TABLE");
    assert_eq!(one(&mut wire, "SELECT x FROM own"), "7");
}

/// What clients believe of their settings after requests that set, reset and undo them, also where the router fails them.
#[test]
fn what_is_set_and_undone_is_told_as_one_postgresql_tells_it() {
    let stage = Stage::with(OTHER);
    let one = two_tables(&stage, &[1, 2]);
    let sessions: [&[&str]; 9] = [
        &[
            "BEGIN",
            "SET timezone = japan",
            "ROLLBACK; SET timezone = utc",
        ],
        &["BEGIN; SET LOCAL timezone = japan; COMMIT; SET timezone = utc"],
        &[
            "BEGIN",
            "SAVEPOINT s",
            "SET timezone = japan",
            "ROLLBACK TO s; SET timezone = utc",
            "COMMIT",
        ],
        &[
            "BEGIN",
            "SET LOCAL timezone = japan",
            "COMMIT; BEGIN; SET timezone = utc",
            "ROLLBACK",
        ],
        &[
            "BEGIN",
            "SAVEPOINT a",
            "SET timezone = japan",
            "ROLLBACK TO a; SAVEPOINT b",
            "EXECUTE nosuch",
            "ROLLBACK",
        ],
        &[
            "BEGIN",
            "SET client_encoding = latin2",
            "EXECUTE nosuch",
            "ROLLBACK",
        ],
        &[
            "BEGIN",
            "SET client_encoding = latin2",
            "SAVEPOINT s",
            "SET client_encoding = win1252",
            "EXECUTE nosuch",
            "ROLLBACK TO s",
            "COMMIT",
        ],
        &[
            "SET timezone = japan; SET standard_conforming_strings = on",
            "RESET timezone",
            "RESET ALL",
            "SET client_encoding = utf8",
            "DISCARD ALL",
        ],
        &[
            "BEGIN",
            "SET timezone = japan",
            "RESET timezone",
            "SET LOCAL timezone = utc",
            "COMMIT",
        ],
    ];
    let began: [&[(&str, &str)]; 2] = [
        &[],
        &[
            ("client_encoding", "latin1"),
            ("timezone", "asia/kolkata"),
            ("options", "-c standard_conforming_strings=off"),
        ],
    ];
    for (session, began) in sessions.iter().flat_map(|s| began.map(|b| (s, b))) {
        let mut ours = Wire::login_with(&stage.endpoint(), began);
        let mut theirs = Wire::login_with(&one.endpoint(0), began);
        let (mut we_believe, mut they_believe) = (believed(&mut ours), believed(&mut theirs));
        for (at, sql) in session.iter().enumerate() {
            let statements = [(*sql).to_owned()];
            let ours = answer(&mut ours, &mut we_believe, &statements, true);
            let theirs = answer(&mut theirs, &mut they_believe, &statements, true);
            assert_eq!(
                (ours, &we_believe),
                (theirs, &they_believe),
                "{began:?} {:?}",
                &session[..=at]
            );
        }
        // What was believed is so.
        assert_eq!(believed(&mut ours), we_believe, "{began:?} {session:?}");
    }
}
