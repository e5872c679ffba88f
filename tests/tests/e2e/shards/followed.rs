//! Settings that no statement shows, because code sets them or a parameter says them, hold on every shard.

use super::stage::{Stage, extended, keys_of, one, say, segment, send};
use mothership_tests::Wire;
use mothership_tests::message::{self, Format};

const DECLARED: &str = r#"
[[table]]
name = "rented"
key = ["id"]
key_type = ["int8"]
[[table]]
name = "other.items"
key = ["id"]
key_type = ["int8"]
"#;

/// Two rows of each tenant on every shard, shown by a policy that asks for a setting of the application's own.
fn tenants() -> (Stage, String) {
    let stage = Stage::with(DECLARED);
    let role = format!("tenant_{}", stage.shards.endpoint(0).database);
    let mut wire = stage.wire();
    let set = |kind: &str, name: &str, local: bool| {
        format!(
            "CREATE {kind} {name} LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.tenant', x, {local}); END $$"
        )
    };
    for sql in [
        format!("CREATE ROLE {role}"),
        "CREATE TABLE rented (id int8 PRIMARY KEY, tenant text, at timestamptz)".into(),
        format!("GRANT ALL ON rented TO {role}"),
        "ALTER TABLE rented ENABLE ROW LEVEL SECURITY".into(),
        "CREATE POLICY own ON rented USING (tenant = current_setting('app.tenant', true))".into(),
        set("FUNCTION", "be(x text) RETURNS void", false),
        set("FUNCTION", "be_here(x text) RETURNS void", true),
        set("PROCEDURE", "become(x text)", false),
        "CREATE FUNCTION go_east() RETURNS void LANGUAGE sql \
         AS $$ SELECT set_config('timezone', 'Asia/Tokyo', false) $$"
            .into(),
    ] {
        let told = say(&mut wire, &sql);
        assert!(told[0].starts_with("CommandComplete"), "{sql}: {told:?}");
    }
    for shard in 0..3 {
        for (n, id) in keys_of(shard, 4).into_iter().enumerate() {
            let tenant = ["a", "b"][n % 2];
            let sql =
                format!("INSERT INTO rented VALUES ({id}, '{tenant}', '2024-01-13 00:00+00')");
            assert_eq!(say(&mut wire, &sql)[0], "CommandComplete INSERT 0 1");
        }
    }
    (stage, role)
}

fn seen(wire: &mut Wire) -> String {
    one(
        wire,
        "SELECT string_agg(DISTINCT tenant, ',') || count(*) FROM rented",
    )
}

#[test]
fn what_code_sets_for_the_session_holds_on_every_shard() {
    let (stage, role) = tenants();
    for sets in [
        "SELECT be('b')",
        "SELECT FROM be('b')",
        "CALL become('b')",
        "DO $$ BEGIN PERFORM set_config('app.tenant', 'b', false); END $$",
        "DO $$ BEGIN SET app.tenant = 'b'; END $$",
        "SELECT set_config('app.' || 'tenant', 'b', false)",
    ] {
        for before in ["", "SET app.tenant = 'a'"] {
            let mut wire = stage.wire();
            say(&mut wire, &format!("SET ROLE {role}"));
            say(&mut wire, before);
            assert!(!say(&mut wire, sets)[0].starts_with("Error"), "{sets}");
            assert_eq!(seen(&mut wire), "b6", "{sets}");
            let id = keys_of(2, 1)[0];
            let sql = format!("DELETE FROM rented WHERE id = {id}");
            assert_eq!(
                say(&mut wire, &sql)[0],
                "CommandComplete DELETE 0",
                "{sets}"
            );
            say(&mut wire, "SET app.tenant = 'a'");
            assert_eq!(seen(&mut wire), "a6", "{sets}");
        }
    }
    let mut wire = stage.wire();
    say(&mut wire, "SELECT go_east()");
    let told = say(&mut wire, "SELECT DISTINCT at FROM rented");
    assert_eq!(told[1], "DataRow 2024-01-13 09:00:00+09");
    assert_eq!(told.len(), 4, "{told:?}");
}

#[test]
fn what_code_sets_in_a_transaction_holds_on_every_shard_as_long_as_it() {
    let (stage, role) = tenants();
    for (sets, after) in [
        ("SELECT be_here('b')", "a6"),
        ("SELECT be('b')", "b6"),
        ("SELECT set_config('app.' || 'tenant', 'b', true)", "a6"),
    ] {
        for joined in [false, true] {
            for end in ["COMMIT", "ROLLBACK"] {
                let mut wire = stage.wire();
                say(&mut wire, &format!("SET ROLE {role}"));
                say(&mut wire, "SET app.tenant = 'a'");
                say(&mut wire, "BEGIN");
                if joined {
                    assert_eq!(seen(&mut wire), "a6");
                }
                say(&mut wire, "SAVEPOINT s");
                say(&mut wire, sets);
                assert_eq!(seen(&mut wire), "b6", "{sets} {joined}");
                say(&mut wire, "ROLLBACK TO s");
                assert_eq!(seen(&mut wire), "a6", "{sets} {joined}");
                say(&mut wire, sets);
                assert_eq!(seen(&mut wire), "b6", "{sets} {joined}");
                let told = say(&mut wire, end);
                assert_eq!(told[0], format!("CommandComplete {end}"));
                let after = if end == "COMMIT" { after } else { "a6" };
                assert_eq!(seen(&mut wire), after, "{sets} {joined} {end}");
            }
        }
    }
    // As drivers send it, and in one pipeline.
    let mut wire = stage.wire();
    say(&mut wire, &format!("SET ROLE {role}"));
    for local in ["true", "false"] {
        let sets = extended(
            &format!("SELECT set_config('app.tenant', $1, {local})"),
            &[],
            &["b"],
        );
        say(&mut wire, "BEGIN");
        send(&mut wire, &sets);
        assert_eq!(seen(&mut wire), "b6", "{local}");
        say(&mut wire, "ROLLBACK");
        let mut pipeline = sets;
        pipeline.pop();
        pipeline.extend(segment(["SELECT count(*) FROM rented"]));
        let told = send(&mut wire, &pipeline);
        assert!(told.contains(&"DataRow 6".into()), "{local}: {told:?}");
    }
}

#[test]
fn where_servers_differ_nothing_runs_before_the_session_is_cleared() {
    let (stage, role) = tenants();
    let mut wire = stage.wire();
    say(&mut wire, &format!("SET ROLE {role}"));
    say(
        &mut wire,
        "SET app.tenant = 'a'; SELECT be('b'); SELECT count(*) FROM rented",
    );
    for sql in [
        "SELECT DISTINCT tenant FROM public.rented",
        "DELETE FROM public.rented",
    ] {
        let told = say(&mut wire, sql);
        let right = ["DataRow b", "CommandComplete DELETE 6"];
        let is_right = told[0].starts_with("Error 0A000")
            || right.iter().any(|line| told.contains(&(*line).into()))
                && !told.contains(&"DataRow a".into());
        assert!(is_right, "{sql}: {told:?}");
    }
    assert_eq!(
        say(&mut wire, "DISCARD ALL")[0],
        "CommandComplete DISCARD ALL"
    );
    say(&mut wire, &format!("SET ROLE {role}"));
    say(&mut wire, "SET app.tenant = 'a'");
    assert_eq!(seen(&mut wire), "a6");
}

#[test]
fn a_role_that_a_parameter_names_is_taken_on_every_shard() {
    let (stage, role) = tenants();
    let mut wire = stage.wire();
    say(&mut wire, "INSERT INTO notes VALUES (1, 'x')");
    let sets = extended("SELECT set_config('role', $1, false)", &[], &[&role]);
    send(&mut wire, &sets);
    for shard in 0..3 {
        let sql = format!("SELECT v FROM items WHERE id = {}", keys_of(shard, 1)[0]);
        let told = say(&mut wire, &sql);
        assert_eq!(told[0], "Error 42501 permission denied for table items");
    }
    say(&mut wire, "RESET ROLE");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "0");
}

#[test]
fn names_are_looked_up_by_a_path_that_nothing_shows() {
    let stage = Stage::with(DECLARED);
    let mut wire = stage.wire();
    say(&mut wire, "CREATE SCHEMA other");
    say(
        &mut wire,
        "CREATE TABLE other.rows (id int8 PRIMARY KEY, v int8)",
    );
    say(
        &mut wire,
        "CREATE TABLE other.items (id int8 PRIMARY KEY, v int8, w int8)",
    );
    for shard in 0..3 {
        let id = keys_of(shard, 1)[0];
        say(
            &mut wire,
            &format!("INSERT INTO other.items VALUES ({id}, 1, 1)"),
        );
    }
    for sets in [
        "SELECT set_config('search_path', 'other' || '', false)",
        "DO $$ BEGIN SET search_path = other; END $$",
        "UPDATE pg_settings SET setting = 'other' WHERE name = 'search_path'",
    ] {
        let mut wire = stage.wire();
        say(&mut wire, sets);
        assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "3", "{sets}");
        assert_eq!(one(&mut wire, "SELECT sum(w) FROM items"), "3", "{sets}");
        // What was another table's name under the path of before.
        let told = say(&mut wire, "SELECT count(*) FROM notes");
        assert!(told[0].starts_with("Error 42P01"), "{sets}: {told:?}");
    }
    // In one pipeline.
    for sets in [
        "SET search_path = other",
        "SET SCHEMA 'other'",
        "SELECT set_config('search_path', 'other', false)",
        "SELECT set_config('search_path', 'other' || '', false)",
    ] {
        let mut wire = stage.wire();
        let told = send(&mut wire, &segment([sets, "SELECT sum(w) FROM items"]));
        assert!(told.contains(&"DataRow 3".into()), "{sets}: {told:?}");
    }
}

#[test]
fn what_follows_in_a_pipeline_is_planned_by_what_came_before() {
    let stage = Stage::with(DECLARED);
    let mut wire = stage.wire();
    say(
        &mut wire,
        "CREATE TABLE rented (id int8 PRIMARY KEY, tenant text, at date)",
    );
    for shard in 0..3 {
        let id = keys_of(shard, 1)[0];
        let sql = format!("INSERT INTO rented VALUES ({id}, 'a', '2024-01-13')");
        say(&mut wire, &sql);
    }
    for set in [
        "SET TimeZone = 'Asia/Kolkata'",
        "SET DateStyle = 'SQL, DMY'",
    ] {
        let many = "SELECT count(*) FROM rented WHERE at = '2024-01-13'";
        let told = send(&mut wire, &segment([set, many]));
        assert!(told.contains(&"DataRow 3".into()), "{told:?}");
        let change = "UPDATE rented SET tenant = 'b' WHERE at >= '2024-01-13'";
        let told = send(&mut wire, &segment([set, change]));
        assert!(
            told.contains(&"CommandComplete UPDATE 3".into()),
            "{told:?}"
        );
    }
    // A failure that the pipeline itself ends.
    let insert = format!("INSERT INTO items VALUES ({}, 1)", keys_of(1, 1)[0]);
    for (opens, ends) in [
        (vec!["BEGIN"], vec!["ROLLBACK", &*insert]),
        (vec!["BEGIN"], vec!["COMMIT", "SELECT count(*) FROM rented"]),
        (
            vec!["BEGIN", "SAVEPOINT s"],
            vec!["ROLLBACK TO s", "SELECT 1", "COMMIT"],
        ),
        (
            vec!["BEGIN", "SELECT count(*) FROM rented", "SAVEPOINT s"],
            vec!["ROLLBACK TO s", "DELETE FROM items", "COMMIT"],
        ),
    ] {
        for sql in &opens {
            say(&mut wire, sql);
        }
        assert!(say(&mut wire, "SELECT 1 / 0")[0].starts_with("Error 22012"));
        let told = send(&mut wire, &segment(ends.iter().copied()));
        let errors = told.iter().filter(|line| line.starts_with("Error"));
        assert_eq!(errors.count(), 0, "{ends:?}: {told:?}");
        assert_eq!(told.last().unwrap(), "ReadyForQuery I", "{ends:?}");
    }
    stage.assert_nothing_open();
}

#[test]
fn a_text_that_changes_how_backslashes_are_read_has_none_behind_that() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    let [a, b] = [keys_of(0, 1)[0], keys_of(1, 1)[0]];
    for set in [
        "SET standard_conforming_strings = off",
        "SET LOCAL standard_conforming_strings = off",
        "SET backslash_quote = off",
    ] {
        let sql = format!(
            "{set}; INSERT INTO items VALUES ({a}, 1, 'x'); INSERT INTO items VALUES ({b}, 1, E'a\\\\b')"
        );
        let told = say(&mut wire, &sql);
        assert!(
            told.iter()
                .any(|line| line.starts_with("Error 0A000 how backslashes are read")),
            "{set}: {told:?}"
        );
        assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "0");
    }
}

#[test]
fn a_failed_block_can_be_left_after_a_reset() {
    let stage = Stage::new();
    for reset in ["RESET ALL", "RESET search_path"] {
        for end in ["ROLLBACK", "COMMIT"] {
            let mut wire = stage.wire();
            for sql in ["BEGIN", reset] {
                say(&mut wire, sql);
            }
            let told = say(&mut wire, "DEALLOCATE nosuch");
            assert!(told[0].starts_with("Error 26000"), "{told:?}");
            assert_eq!(
                say(&mut wire, end),
                ["CommandComplete ROLLBACK", "ReadyForQuery I"]
            );
            assert_eq!(one(&mut wire, "SELECT 1"), "1");
        }
    }
}

#[test]
fn what_code_sets_in_a_pipeline_holds_for_what_follows_on_every_shard() {
    let (stage, role) = tenants();
    for before in [None, Some("BEGIN")] {
        for id in [keys_of(0, 4), keys_of(1, 4), keys_of(2, 4)].concat() {
            let mut wire = stage.wire();
            say(&mut wire, &format!("SET ROLE {role}; SET app.tenant = 'a'"));
            if let Some(begin) = before {
                say(&mut wire, begin);
            }
            let row = format!("SELECT tenant FROM rented WHERE id = {id}");
            let all = "SELECT string_agg(DISTINCT tenant, ',') || count(*) FROM rented";
            let told = send(&mut wire, &segment(["SELECT be_here('b')", &row, all]));
            assert!(!told.contains(&"DataRow a".to_owned()), "{told:?}");
            assert!(told.contains(&"DataRow b6".to_owned()), "{told:?}");
        }
    }
}

// A stranger found it: the router panicked.
#[test]
fn nothing_is_asked_of_a_server_that_skips_to_the_end_of_a_pipeline() {
    let stage = Stage::bare("[tables]\ndefault = \"auto\"");
    let mut wire = stage.wire();
    for sql in [
        "CREATE SCHEMA s1",
        "CREATE SCHEMA s2",
        "CREATE TABLE s1.x (id int PRIMARY KEY, v text)",
        "CREATE TABLE s2.x (id int PRIMARY KEY, v text)",
        "CREATE FUNCTION be(a text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN \
         PERFORM set_config('app.tenant', a, false); RETURN current_setting('app.tenant'); END $$",
    ] {
        assert!(
            say(&mut wire, sql)[0].starts_with("CommandComplete"),
            "{sql}"
        );
    }
    for follows in ["SELECT v FROM x", "SELECT v FROM x WHERE id = 2"] {
        let told = send(&mut wire, &segment(["SELECT be('b')", follows, "SELECT 1"]));
        // PostgreSQL says 42P01; the router does not look further than it is sure of the search path.
        let refused = told.iter().any(|line| line.starts_with("Error"));
        assert!(refused, "{told:?}");
        assert_eq!(one(&mut wire, "SELECT 1"), "1");
    }
}

// A stranger found it: drivers read text and times by what they are told.
#[test]
fn a_shard_that_joins_does_not_tell_of_settings_that_the_transaction_has_changed() {
    let stage = Stage::new();
    stage.fill(1..=12);
    let told = |wire: &mut Wire, sql: &str| -> Vec<String> {
        let frames = wire.query(sql);
        let told = frames.iter().filter(|frame| frame.kind == b'S');
        told.map(|frame| frame.text()).collect()
    };
    for local in ["", "LOCAL "] {
        let mut wire = stage.wire();
        say(&mut wire, "BEGIN");
        say(&mut wire, &format!("SET {local}timezone TO 'Asia/Tokyo'"));
        say(
            &mut wire,
            &format!("SET {local}client_encoding TO 'latin1'"),
        );
        for sql in [
            "SELECT count(*) FROM items",
            "SELECT v FROM items WHERE id = 3",
        ] {
            assert_eq!(told(&mut wire, sql), [""; 0], "{local}");
        }
        let mut ended = told(&mut wire, "ROLLBACK");
        ended.sort();
        assert_eq!(ended, ["TimeZone", "client_encoding"], "{local}");
    }
}

// A stranger found it: one server's own default was taken for the session's.
#[test]
fn a_reset_behind_code_goes_back_to_the_startup_packet() {
    let (stage, role) = tenants();
    for (texts, right) in [
        (vec!["SELECT be('b')", "RESET app.tenant"], "a6"),
        (vec!["SELECT be('b')", "SET app.tenant TO DEFAULT"], "a6"),
        (vec!["SELECT be('b')", "RESET ALL"], "a6"),
        (vec!["SELECT be('b')", "RESET app.tenant", "SELECT 1"], "a6"),
        (vec!["RESET app.tenant", "SELECT be('b')"], "b6"),
        (vec!["RESET ALL", "SELECT be('b')"], "b6"),
        (
            vec!["SELECT be('b')", "RESET app.tenant", "SELECT be('b')"],
            "b6",
        ),
    ] {
        for block in [false, true] {
            for piped in [false, true] {
                let more = [("options", "-c app.tenant=a")];
                let mut wire = Wire::login_with(&stage.endpoint(), &more);
                say(&mut wire, &format!("SET ROLE {role}"));
                if block {
                    say(&mut wire, "BEGIN");
                }
                let told = match piped {
                    true => send(&mut wire, &segment(texts.iter().copied())),
                    false => say(&mut wire, &texts.join("; ")),
                };
                let told_error = told.iter().any(|line| line.starts_with("Error"));
                let context = format!("{texts:?} block={block} piped={piped}: {told:?}");
                assert!(!told_error, "{context}");
                let shown = one(&mut wire, "SHOW app.tenant");
                assert_eq!(shown, right[..1], "{context}");
                assert_eq!(seen(&mut wire), right, "{context}");
                if block {
                    say(&mut wire, "COMMIT");
                    assert_eq!(seen(&mut wire), right, "{context}");
                }
            }
        }
    }
}

// A stranger found it: what code sets for a transaction was lost among what statements set in the same text.
#[test]
fn what_code_sets_in_a_text_stays_among_other_settings() {
    let (stage, role) = tenants();
    let code = "SELECT be_here('b')";
    let local = "SET LOCAL lock_timeout = '3s'";
    let lasting = "SELECT set_config('lock_timeout', '2s', false)";
    for texts in [
        vec![code, local, lasting],
        vec![code, lasting, local],
        vec![local, code, lasting],
        vec![code, "SET lock_timeout = '3s'", lasting],
        vec![code, "SAVEPOINT s", local, "RELEASE s", lasting],
        vec![code, local],
        vec![code, lasting],
    ] {
        for piped in [false, true] {
            let mut wire = stage.wire();
            say(&mut wire, &format!("SET ROLE {role}; SET app.tenant = 'a'"));
            let told = match piped {
                true => {
                    say(&mut wire, "BEGIN");
                    send(&mut wire, &segment(texts.iter().copied()))
                }
                false => say(&mut wire, &format!("BEGIN; {}", texts.join("; "))),
            };
            let told_error = told.iter().any(|line| line.starts_with("Error"));
            let context = format!("{texts:?} piped={piped}: {told:?}");
            assert!(!told_error, "{context}");
            println!("{context}");
            assert_eq!(seen(&mut wire), "b6", "{context}");
            let local = texts.contains(&local) && *texts.last().unwrap() != lasting;
            let right = if texts == [code, lasting] {
                "2s"
            } else if local {
                "3s"
            } else {
                "2s"
            };
            assert_eq!(one(&mut wire, "SHOW lock_timeout"), right, "{context}");
            say(&mut wire, "COMMIT");
            assert_eq!(seen(&mut wire), "a6", "{context}");
        }
    }
}

// The name of the setting is a parameter, and no code of the database names it.
#[test]
fn a_setting_that_is_named_later_is_asked_for_then() {
    let stage = Stage::new();
    stage.fill(1..=12);
    for (local, begin) in [("true", "BEGIN"), ("false", "BEGIN"), ("false", "SELECT 1")] {
        for piped in [false, true] {
            let mut wire = stage.wire();
            say(&mut wire, begin);
            let sets = extended(
                &format!("SELECT set_config($1, $2, {local})"),
                &[],
                &["app.only_here", "7"],
            );
            send(&mut wire, &sets);
            for shard in 0..3 {
                let id = keys_of(shard, 1)[0];
                let sql = format!(
                    "SELECT id, current_setting('app.only_here', true) FROM items WHERE id = {id}"
                );
                let told = match piped {
                    true => send(&mut wire, &segment([&*sql])),
                    false => say(&mut wire, &sql),
                };
                let right = format!("DataRow {id} 7");
                assert!(told.contains(&right), "{local} {begin} {piped}: {told:?}");
            }
            let setting = "current_setting('app.only_here', true)";
            let count = format!("SELECT count(*) FROM items WHERE id > 0 AND {setting} = '7'");
            assert_eq!(one(&mut wire, &count), "12", "{local} {begin} {piped}");
        }
    }
}

// A stranger found it: who opened a cursor over such a function saw the rows of another tenant behind FETCH.
#[test]
fn what_code_sets_that_runs_late_holds_on_every_shard() {
    let (stage, role) = tenants();
    let mut wire = stage.wire();
    for sql in [
        "CREATE FUNCTION be_late() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM set_config('app.tenant', 'b', NEW.here); RETURN NEW; END $$",
        "CREATE TABLE late (here bool)",
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION be_late()",
        "CREATE TABLE turns (n int, tenant text)",
        "INSERT INTO turns VALUES (1, 'a'), (2, 'b')",
        &format!("GRANT ALL ON late, turns TO {role}"),
    ] {
        let told = say(&mut wire, sql);
        assert!(told[0].starts_with("CommandComplete"), "{sql}: {told:?}");
    }
    let begun = || {
        let mut wire = stage.wire();
        say(&mut wire, &format!("SET ROLE {role}"));
        say(&mut wire, "SET app.tenant = 'a'");
        say(&mut wire, "BEGIN");
        wire
    };
    for (opens, runs, after) in [
        ("DECLARE c CURSOR FOR SELECT be_here('b')", "FETCH c", "a6"),
        ("DECLARE c CURSOR FOR SELECT be_here('b')", "MOVE c", "a6"),
        ("DECLARE c CURSOR FOR SELECT be('b')", "FETCH ALL c", "b6"),
        (
            "INSERT INTO late VALUES (true)",
            "SET CONSTRAINTS ALL IMMEDIATE",
            "a6",
        ),
        (
            "INSERT INTO late VALUES (false)",
            "SET CONSTRAINTS ALL IMMEDIATE",
            "b6",
        ),
    ] {
        let mut wire = begun();
        let told = say(&mut wire, opens);
        assert!(!told[0].starts_with("Error"), "{opens}: {told:?}");
        // SET CONSTRAINTS runs on all servers of a transaction, and nobody says where there was a trigger.
        let is_everywhere = runs.starts_with("SET CONSTRAINTS");
        if !is_everywhere {
            assert_eq!(seen(&mut wire), "a6", "{opens}");
        }
        let told = say(&mut wire, runs);
        assert!(!told[0].starts_with("Error"), "{runs}: {told:?}");
        assert_eq!(seen(&mut wire), "b6", "{opens}; {runs}");
        assert_eq!(say(&mut wire, "COMMIT")[0], "CommandComplete COMMIT");
        assert_eq!(seen(&mut wire), after, "{opens}; {runs}; COMMIT");
    }
    // A portal that is executed later, and one in two parts.
    let opened = |sql: &str| {
        let bind = message::bind("p", "", Format::Text, &[], Format::Text);
        [message::parse("", sql, &[]), bind, message::sync()]
    };
    let execute = |rows: u32| [message::execute("p", rows), message::sync()];
    let mut wire = begun();
    send(&mut wire, &opened("SELECT be_here('b')"));
    assert_eq!(seen(&mut wire), "a6");
    send(&mut wire, &execute(0));
    assert_eq!(seen(&mut wire), "b6");
    let mut wire = begun();
    send(
        &mut wire,
        &opened("SELECT be_here(tenant) FROM turns ORDER BY n"),
    );
    for shows in ["a6", "b6"] {
        send(&mut wire, &execute(1));
        assert_eq!(seen(&mut wire), shows);
    }
    // A deferred trigger at the end of a pipeline.
    let mut wire = begun();
    say(&mut wire, "ROLLBACK");
    let pipeline = segment(["BEGIN", "INSERT INTO late VALUES (false)", "COMMIT"]);
    send(&mut wire, &pipeline);
    assert_eq!(seen(&mut wire), "b6");
}

#[test]
fn a_setting_that_another_client_has_taken_back_is_none() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    for sql in [
        "CREATE FUNCTION sets() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET app.k = '1'; END $$",
        "CREATE TABLE named (name text)",
        "INSERT INTO named VALUES ('x')",
        "SELECT set_config('app.t', name, false) FROM named",
        "DISCARD ALL",
    ] {
        let told = say(&mut wire, sql);
        assert!(!told[0].starts_with("Error"), "{sql}: {told:?}");
    }
    drop(wire);
    let mut wire = stage.wire();
    for sql in [
        "BEGIN",
        "CREATE TABLE made (id int8)",
        "SELECT count(*) FROM items",
        "ROLLBACK",
        "SHOW search_path",
        "SELECT count(*) FROM items",
    ] {
        let told = say(&mut wire, sql);
        assert!(!told[0].starts_with("Error"), "{sql}: {told:?}");
    }
}
