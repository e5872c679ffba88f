//! What is a client's own stays its own where clients share connections and prepared statements: the values of its
//! settings, however they were written, and what its statements meant by them.

use crate::shards::stage::{
    DEFINITIONS as TABLES, LIMIT, Stage, extended, one, say, segment, send,
};
use mothership_tests::endpoint::{Served, endpoint_listening};
use mothership_tests::message::{self, Format, V3_0};
use mothership_tests::{Endpoint, Frame, Shards, Wire, poll_until};

/// A router of one core that pools one database, so that clients share all that they may.
fn pooled(max: u32) -> Served {
    endpoint_listening("workers = 1", &format!("[pool]\nmax = {max}\n"))
}

/// The same database without the router.
fn direct(served: &Served) -> Wire {
    Wire::login(&served.shards.endpoint(0))
}

/// One client sets what only a superuser may set, and takes a role. The connection goes to another client with that role.
#[test]
fn what_a_role_may_not_set_stands_in_nobodys_way() {
    let served = pooled(1);
    let (mut with, mut without) = (Wire::login(&served), Wire::login(&served));
    say(&mut with, "SET log_statement = 'mod'");
    for taken in [
        "SET ROLE pg_monitor",
        "SET SESSION AUTHORIZATION pg_monitor",
    ] {
        for wire in [&mut with, &mut without] {
            say(wire, taken);
        }
        for _ in 0..2 {
            for (wire, setting) in [(&mut with, "mod"), (&mut without, "none")] {
                assert_eq!(one(wire, "SHOW log_statement"), setting, "{taken}");
                assert_eq!(one(wire, "SELECT current_user"), "pg_monitor", "{taken}");
            }
        }
    }
}

/// A value for each way in which a text may end early, and the SET that gives it under standard_conforming_strings = on
/// and off.
const VALUES: [(&str, &str, &str); 5] = [
    ("plain", "'plain'", "'plain'"),
    ("C:\\", "'C:\\'", "'C:\\\\'"),
    (
        "x'; SET own.b TO stolen; --",
        "'x''; SET own.b TO stolen; --'",
        "'x\\'; SET own.b TO stolen; --'",
    ),
    (
        "\\'; SET own.b TO stolen; --",
        "$$\\'; SET own.b TO stolen; --$$",
        "E'\\\\\\'; SET own.b TO stolen; --'",
    ),
    ("a\nb /* ' */", "'a\nb /* '' */'", "'a\\nb /* '' */'"),
];

#[test]
fn a_setting_is_said_again_by_its_value() {
    let served = pooled(1);
    let mut other = Wire::login(&served);
    for strings in ["on", "off"] {
        let others = if strings == "on" { "off" } else { "on" };
        for (value, on, off) in VALUES {
            let mut client = Wire::login(&served);
            let written = if strings == "on" { on } else { off };
            say(
                &mut client,
                &format!("SET standard_conforming_strings = {strings}"),
            );
            for sql in [
                format!("SET own.a TO {written}"),
                format!("SET own.c TO {written}"),
                format!("BEGIN; SAVEPOINT s; SET LOCAL own.a TO {written}; COMMIT"),
            ] {
                let answer = say(&mut client, &sql);
                assert!(
                    !answer.iter().any(|line| line.starts_with("Error")),
                    "{sql}: {answer:?}"
                );
            }
            // The connection goes to somebody who reads strings in the other way, and comes back.
            say(
                &mut other,
                &format!("SET standard_conforming_strings = {others}"),
            );
            assert_eq!(
                one(
                    &mut other,
                    "SELECT count(*) FROM pg_settings WHERE name LIKE 'own.%'"
                ),
                "0"
            );
            for name in ["own.a", "own.c"] {
                assert_eq!(
                    one(&mut client, &format!("SELECT current_setting('{name}')")),
                    value
                );
            }
            let stolen = "SELECT coalesce(current_setting('own.b', true), '')";
            assert_eq!(one(&mut client, stolen), "", "{written}");
            assert_eq!(one(&mut other, stolen), "", "{written}");
        }
    }
}

/// Statements whose meaning PostgreSQL settles when it parses or plans them, by one setting or another.
const PROBES: [&str; 22] = [
    "SELECT '01/02/2020'::date::text",
    "SELECT extract(epoch from '2020-01-01 00:00'::timestamptz)::text",
    "SELECT extract(epoch from '-1 2:03:04'::interval)::text",
    "SELECT '2020-01-01 00:00'::timestamptz::text, '1 day 02:00'::interval::text",
    "SELECT '{a,NULL}'::text[] @> ARRAY['NULL']",
    "SELECT NULL = NULL",
    "SELECT (1.1::float4)::text, (0.1::float8 + 0.2)::text",
    "SELECT '\\x4142'::bytea::text, E'\\\\x41'::bytea::text",
    "SELECT 'a\\\\b'",
    "SELECT xmlparse(content '<a>&lt;</a>')::text",
    "SELECT '<a/>'::xml::text, xmlelement(name a, '\\x41'::bytea)::text",
    "SELECT to_tsvector('the quick foxes')::text, 'running'::tsquery::text",
    "SELECT 12.5::money::text, '1234.5'::money::text",
    "SELECT to_char(DATE '2020-03-01', 'TMMonth'), to_char(1234.5, '9G999D9')",
    "SELECT name FROM probed",
    "SELECT 'probed'::regclass::oid <> 0, 'probed'::regclass::text",
    "SELECT pg_get_viewdef('public.shows'::regclass)",
    "SELECT current_user::text, current_schema()::text",
    "SELECT own_setting()",
    "SELECT count(*)::text FROM (SELECT name FROM probed GROUP BY name) g",
    "SELECT current_setting('enable_seqscan'), nullif(current_setting('own.a', true), '')",
    "SELECT 'a' < 'B', lower('I'), U&'\\0041'",
];

const DEFINITIONS: &str = "CREATE SCHEMA aside; CREATE TABLE public.probed AS SELECT 'public'::text AS name; \
    CREATE TABLE aside.probed AS SELECT 'aside'::text AS name; \
    CREATE VIEW public.shows AS SELECT name FROM public.probed WHERE name <> ''; \
    CREATE FUNCTION public.own_setting() RETURNS text LANGUAGE sql IMMUTABLE AS \
    $$ SELECT coalesce(current_setting('own.a', true), 'none') $$";

/// Another value than its own for each setting that a session may have.
const OTHERS: &str = "SELECT name, CASE \
    WHEN name = 'DateStyle' THEN 'SQL, DMY' WHEN name = 'TimeZone' THEN 'Asia/Tokyo' \
    WHEN name = 'timezone_abbreviations' THEN 'India' WHEN name = 'search_path' THEN 'aside, public' \
    WHEN name = 'client_encoding' THEN 'LATIN1' WHEN name = 'default_text_search_config' THEN 'pg_catalog.simple' \
    WHEN name LIKE 'lc\\_%' THEN 'C' \
    WHEN vartype = 'bool' THEN CASE setting WHEN 'on' THEN 'off' ELSE 'on' END \
    WHEN vartype = 'enum' THEN (SELECT v FROM unnest(enumvals) v WHERE v <> setting ORDER BY v LIMIT 1) \
    WHEN unit IN ('ms', 's', 'min') THEN '1h' \
    WHEN vartype = 'integer' THEN (CASE WHEN setting::int8 < max_val::int8 THEN setting::int8 + 1 ELSE setting::int8 - 1 END)::text \
    WHEN vartype = 'real' THEN (CASE WHEN setting::float8 < max_val::float8 THEN max_val ELSE min_val END) END \
    FROM pg_settings WHERE context IN ('user', 'superuser') \
    AND name NOT IN ('transaction_read_only', 'transaction_isolation', 'transaction_deferrable', 'zero_damaged_pages', \
        'ignore_system_indexes', 'debug_discard_caches', 'backtrace_functions', 'trace_sort', 'log_statement_stats', \
        'default_transaction_read_only') \
    AND name NOT LIKE 'log%' AND name NOT LIKE 'debug%' ORDER BY name";

/// Prepares every probe and runs it, each as a whole of its own; what each said.
fn probe(wire: &mut Wire, prepare: bool) -> Vec<String> {
    let said = PROBES.iter().enumerate().map(|(at, sql)| {
        let name = format!("probe{at}");
        let mut messages = Vec::new();
        if prepare {
            messages.push(message::parse(&name, sql, &[]));
        }
        messages.push(message::bind("", &name, Format::Text, &[], Format::Text));
        messages.push(message::execute("", 0));
        messages.push(message::sync());
        wire.send_all(&messages);
        let frames = wire.until_ready();
        let shown = frames.iter().filter_map(|frame| match frame.kind {
            b'D' => Some(format!("{:?}", frame.row())),
            b'E' => Some(frame.sqlstate()),
            _ => None,
        });
        format!("{sql}: {}", shown.collect::<Vec<_>>().join(" "))
    });
    said.collect()
}

#[test]
fn a_shared_statement_means_what_it_means_under_each_clients_settings() {
    let served = pooled(1);
    served.shards.sql(0, DEFINITIONS);
    let mut alone = direct(&served);
    let settings: Vec<(String, String)> = alone
        .rows(OTHERS)
        .into_iter()
        .filter_map(|row| match <[String; 2]>::try_from(row) {
            Ok([name, value]) if !value.is_empty() && value != "∅" => Some((name, value)),
            _ => None,
        })
        .chain([
            ("own.a".to_owned(), "mine".to_owned()),
            ("role".to_owned(), "pg_monitor".to_owned()),
        ])
        .collect();
    assert!(settings.len() > 120, "{} settings", settings.len());
    let mut first = Wire::login(&served);
    let plain = probe(&mut first, true);
    assert_eq!(plain, probe(&mut alone, true));
    say(&mut alone, "DEALLOCATE ALL");
    let mut other = Wire::login(&served);
    for (name, value) in settings {
        let set = format!(
            "SET {name} TO {}",
            match &*name {
                "search_path" => value.clone(),
                _ => format!("'{value}'"),
            }
        );
        if alone.query(&set).iter().any(|frame| frame.kind == b'E') {
            continue;
        }
        say(&mut other, &set);
        let right = probe(&mut alone, true);
        let got = probe(&mut other, true);
        let own = probe(&mut first, false);
        for wire in [&mut alone, &mut other] {
            say(wire, "RESET ALL");
            say(wire, "RESET ROLE");
            say(wire, "DEALLOCATE ALL");
        }
        for ((right, got), (own, plain)) in right.iter().zip(&got).zip(own.iter().zip(&plain)) {
            assert_eq!(right, got, "by {set}");
            assert_eq!(own, plain, "of the first, while another has {set}");
        }
    }
}

/// Settings that say nothing of a statement's literals: a stranger's `SET work_mem` made each `IS NULL` refused.
#[test]
fn a_prepared_statement_outlives_settings_that_read_none_of_its_literals() {
    const STATEMENTS: [&str; 7] = [
        "SELECT id FROM items WHERE note IS NULL ORDER BY id",
        "SELECT NULL::int8, coalesce(NULL, v) FROM items WHERE id = 1",
        "UPDATE items SET note = NULL WHERE id = 2 RETURNING note IS NULL",
        "INSERT INTO items VALUES (7, NULL, 'seven') ON CONFLICT DO NOTHING",
        "SELECT count(*) FROM items WHERE note = 'n' OR note IS NOT NULL",
        "SELECT id FROM items WHERE v = '3' AND '{}'::jsonb = '{}'",
        "SELECT body FROM notes WHERE body IS NOT NULL",
    ];
    const SETTINGS: [&str; 9] = [
        "work_mem = '5MB'",
        "jit = off",
        "enable_seqscan = off",
        "plan_cache_mode = force_custom_plan",
        "default_transaction_isolation = 'read committed'",
        "bytea_output = escape",
        "extra_float_digits = 0",
        "timezone = 'Asia/Tokyo'",
        "datestyle = 'SQL, DMY'",
    ];
    let (stage, plain) = (Stage::on_one_core(), Shards::new(1));
    let fill = "INSERT INTO items SELECT g, g, CASE WHEN g % 2 = 0 THEN 'n' END FROM generate_series(1, 6) g";
    let mut wires = [stage.wire(), Wire::login(&plain.endpoint(0))];
    for sql in TABLES.iter().chain([&fill]) {
        say(&mut wires[1], sql);
    }
    say(&mut wires[0], fill);
    for (at, sql) in STATEMENTS.iter().enumerate() {
        for wire in &mut wires {
            wire.send_all(&[message::parse(&format!("p{at}"), sql, &[]), message::sync()]);
            wire.until_ready();
        }
    }
    for setting in SETTINGS {
        for local in [false, true] {
            let (begin, end) = match local {
                true => (format!("BEGIN; SET LOCAL {setting}"), "COMMIT"),
                false => (format!("SET {setting}"), "RESET ALL"),
            };
            for (at, sql) in STATEMENTS.iter().enumerate() {
                let run = [
                    message::bind("", &format!("p{at}"), Format::Text, &[], Format::Text),
                    message::execute("", 0),
                    message::sync(),
                ];
                let [routed, right] = wires.each_mut().map(|wire| {
                    say(wire, &begin);
                    let answer = send(wire, &run);
                    say(wire, end);
                    answer
                });
                assert_eq!(routed, right, "{sql}, {begin}");
            }
        }
    }
}

/// The literals of a statement stay what they were when it was prepared, whichever connection it runs on.
#[test]
fn a_prepared_statement_keeps_its_literals_on_every_connection() {
    const SQL: &str = "SELECT '01/02/2020'::date - '2020-01-01'::date";
    let run = |wire: &mut Wire, protocol: bool| -> String {
        let frames = if protocol {
            wire.send_all(&[
                message::bind("", "dated", Format::Text, &[], Format::Text),
                message::execute("", 0),
                message::sync(),
            ]);
            wire.until_ready()
        } else {
            wire.query("EXECUTE dated")
        };
        let rows: Vec<String> = frames
            .iter()
            .filter(|frame| frame.kind == b'D' || frame.kind == b'E')
            .map(Frame::to_string)
            .collect();
        rows.join(" ")
    };
    let story = |client: &mut Wire, busy: Option<&Endpoint>, protocol: bool, block: bool| {
        if protocol {
            client.send_all(&[message::parse("dated", SQL, &[]), message::sync()]);
            client.until_ready();
        } else {
            say(client, &format!("PREPARE dated AS {SQL}"));
        }
        let before = run(client, protocol);
        let mut holder = busy.map(Wire::login);
        if let Some(holder) = &mut holder {
            // It takes the connection that has the statement.
            say(holder, "BEGIN");
            say(holder, "SELECT 1");
        }
        match block {
            true => say(client, "BEGIN; SET LOCAL datestyle TO 'ISO, DMY'"),
            false => say(client, "SET datestyle TO 'ISO, DMY'"),
        };
        let after = run(client, protocol);
        let style = one(client, "SHOW datestyle");
        say(client, "ROLLBACK");
        (before, after, style)
    };
    for protocol in [true, false] {
        for block in [true, false] {
            let served = pooled(2);
            let right = story(&mut direct(&served), None, protocol, block);
            let mut client = Wire::login(&served);
            let got = story(&mut client, Some(&served), protocol, block);
            assert_eq!(got, right, "protocol {protocol}, in a block {block}");
        }
    }
}

/// What a session has of what roles and databases say.
fn begun(wire: &mut Wire) -> String {
    let names = ["timezone", "statement_timeout", "work_mem", "search_path"];
    let own = one(
        wire,
        "SELECT coalesce(current_setting('app.own', true), '')",
    );
    names
        .map(|name| one(wire, &format!("SHOW {name}")))
        .join(" ")
        + &format!(" own {own}")
}

/// A role's sessions before, between and after changes of what they begin with.
fn beginnings(
    admin: &mut Wire,
    database: &str,
    role: &str,
    login: impl Fn() -> Wire,
) -> Vec<String> {
    let mut seen = Vec::new();
    say(admin, &format!("CREATE ROLE {role} LOGIN PASSWORD 'own'"));
    seen.push(format!("without {}", begun(&mut login())));
    say(
        admin,
        &format!("ALTER ROLE {role} SET app.own TO 'its first'"),
    );
    let (mut old, mut own) = (login(), login());
    seen.push(format!("at first {}", begun(&mut old)));
    say(
        &mut own,
        "SET timezone TO 'Asia/Tokyo'; SET work_mem TO '7MB'",
    );
    for sql in [
        format!("ALTER ROLE {role} SET timezone TO 'Europe/Lisbon'"),
        format!("ALTER ROLE {role} SET statement_timeout TO '9s'"),
        format!("ALTER ROLE {role} SET app.own TO 'its second'"),
        format!("ALTER DATABASE {database} SET app.own TO 'not heard'"),
        format!("ALTER ROLE {role} IN DATABASE {database} SET work_mem TO '6MB'"),
    ] {
        say(admin, &sql);
    }
    seen.push(format!("old {}", begun(&mut old)));
    seen.push(format!("its own {}", begun(&mut own)));
    say(&mut own, "SET app.own TO 'said'");
    seen.push(format!("its own, said {}", begun(&mut own)));
    say(&mut own, "RESET app.own");
    say(&mut own, "RESET timezone");
    seen.push(format!("its own, reset {}", begun(&mut own)));
    say(&mut own, "RESET work_mem");
    seen.push(format!("its own, all reset {}", begun(&mut own)));
    let mut new = login();
    seen.push(format!("new {}", begun(&mut new)));
    say(&mut new, "SET timezone = 'Asia/Tokyo'");
    seen.push(format!("set {}", begun(&mut new)));
    say(&mut new, "RESET timezone");
    seen.push(format!("reset {}", begun(&mut new)));
    say(
        &mut old,
        "SET work_mem TO '7MB'; SET timezone TO 'Asia/Tokyo'",
    );
    say(&mut old, "RESET ALL");
    seen.push(format!("old reset {}", begun(&mut old)));
    say(&mut new, "RESET ALL");
    seen.push(format!("reset all {}", begun(&mut new)));
    say(
        admin,
        &format!("ALTER DATABASE {database} SET search_path TO aside"),
    );
    say(
        admin,
        &format!("BEGIN; ALTER ROLE {role} SET work_mem TO '8MB'; ROLLBACK"),
    );
    seen.push(format!("of the database {}", begun(&mut login())));
    say(admin, &format!("ALTER DATABASE {database} RESET ALL"));
    say(admin, &format!("ALTER ROLE {role} RESET ALL"));
    say(
        admin,
        &format!("ALTER ROLE {role} IN DATABASE {database} RESET ALL"),
    );
    // Whom a role begins as is kept, too.
    say(admin, &format!("CREATE ROLE {role}_as"));
    say(admin, &format!("GRANT {role}_as TO {role}"));
    say(admin, &format!("ALTER ROLE {role} SET role TO {role}_as"));
    let mut as_another = login();
    let mut who = |when: &str| {
        for wire in [&mut old, &mut own, &mut as_another] {
            let asks = ["SELECT current_user", "SHOW role", "SHOW timezone"];
            seen.push(format!("{when} {:?}", asks.map(|sql| one(wire, sql))));
            say(wire, "RESET ROLE");
            seen.push(format!("{when}, reset {}", one(wire, "SHOW role")));
        }
    };
    who("who");
    say(admin, &format!("ALTER ROLE {role} RESET role"));
    who("who, at last");
    drop(as_another);
    say(admin, &format!("DROP ROLE {role}_as"));
    seen.push(format!("at last {}", begun(&mut login())));
    seen.push(format!("new, at last {}", begun(&mut new)));
    seen.push(format!("old, at last {}", begun(&mut old)));
    seen
}

#[test]
fn a_session_begins_with_what_roles_and_databases_say_at_that_moment() {
    for (number, mode) in ["transaction", "session", "statement"]
        .into_iter()
        .enumerate()
    {
        let more = format!("[pool]\nmode = \"{mode}\"\n");
        let served = endpoint_listening("workers = 2", &more);
        let database = served.shards.endpoint(0).database;
        let role = format!("beginner_{number}_{database}");
        let of_role = |at: &Endpoint| Endpoint {
            user: role.clone(),
            password: "own".into(),
            ..at.clone()
        };
        let mut alone = direct(&served);
        let right = beginnings(&mut alone, &database, &role, || {
            Wire::login(&of_role(&served.shards.endpoint(0)))
        });
        say(&mut alone, &format!("DROP ROLE {role}"));
        let mut admin = Wire::login(&served);
        let login = || Wire::login(&of_role(&served));
        let got = beginnings(&mut admin, &database, &role, login);
        assert_eq!(got, right, "{mode}");
        // Nobody tells the router of this one.
        served
            .shards
            .sql(0, &format!("ALTER ROLE {role} SET work_mem TO '5MB'"));
        let seen = mothership_tests::poll_until(std::time::Duration::from_secs(10), || {
            one(&mut login(), "SHOW work_mem") == "5MB"
        });
        assert!(seen, "{mode}: a change past the router is not seen");
        drop(served.shards.sql(0, &format!("ALTER ROLE {role} NOLOGIN")));
    }
}

/// What takes or leaves a role. Nobody keeps the connection for it.
const TAKES_ROLE: [&str; 16] = [
    "SELECT 1",
    "SET ROLE NONE",
    "RESET ROLE",
    "SET ROLE 'none'",
    "SET role TO DEFAULT",
    "SELECT set_config('role', 'none', false)",
    "RESET ALL",
    "DISCARD ALL",
    "RESET ROLE",
    "SET ROLE OTHER",
    "RESET SESSION AUTHORIZATION",
    "RESET ROLE",
    "BEGIN; SET LOCAL ROLE NONE; COMMIT",
    "BEGIN; SET ROLE NONE; ROLLBACK",
    "BEGIN; SAVEPOINT a; SET ROLE NONE; ROLLBACK TO a; COMMIT",
    "BEGIN; SET ROLE NONE; COMMIT",
];

/// The same by code: its client keeps the connection until DISCARD ALL.
const TAKES_ROLE_BY_CODE: [&str; 8] = [
    "SELECT become('none')",
    "RESET ROLE",
    "SELECT become('OTHER')",
    "SELECT become('none')",
    "DISCARD ALL",
    "SET ROLE OTHER",
    "SELECT become('none')",
    "RESET ROLE",
];

/// Who two sessions of one role are, after each statement of the first.
fn roles_taken(
    login: impl Fn(&[(&str, &str)]) -> Wire,
    statements: &[&str],
    other: &str,
) -> Vec<String> {
    let mut seen = Vec::new();
    let option = format!("-c role={other}");
    for startup in ["", &option, "-c role=none"] {
        let (mut first, mut next) = (login(&[("options", startup)]), login(&[]));
        for sql in statements {
            say(&mut first, &sql.replace("OTHER", other));
            for (who, wire) in [("first", &mut first), ("next", &mut next)] {
                let asks = ["SELECT current_user", "SHOW role"].map(|ask| one(wire, ask));
                seen.push(format!("{startup} {sql}: {who} {asks:?}"));
            }
        }
    }
    seen
}

// A stranger found it: after SET ROLE NONE of one client the next one was nobody, too.
#[test]
fn a_role_that_sessions_begin_with_is_left_by_none_but_the_one_that_leaves_it() {
    for (connections, statements) in [(1, &TAKES_ROLE[..]), (2, &TAKES_ROLE_BY_CODE[..])] {
        let served = pooled(connections);
        let at = served.shards.endpoint(0);
        let role = format!("begins_{}", at.database);
        let mut admin = Wire::login(&served);
        for sql in [
            format!("CREATE ROLE {role} LOGIN PASSWORD 'own'"),
            format!("CREATE ROLE {role}_as ROLE {role}"),
            format!("CREATE ROLE {role}_other ROLE {role}"),
            format!("ALTER ROLE {role} SET role TO {role}_as"),
            "CREATE FUNCTION become(x text) RETURNS void LANGUAGE plpgsql \
             AS $$ BEGIN PERFORM set_config('role', x, false); END $$"
                .to_owned(),
        ] {
            say(&mut admin, &sql);
        }
        let seen = |at: &Endpoint| {
            let own = Endpoint {
                user: role.clone(),
                password: "own".into(),
                ..at.clone()
            };
            let login = |more: &[(&str, &str)]| Wire::login_with(&own, more);
            roles_taken(login, statements, &format!("{role}_other"))
        };
        let (right, got) = (seen(&at), seen(&served));
        drop(served.shards.sql(0, &format!("ALTER ROLE {role} NOLOGIN")));
        let wrong: Vec<_> = right.iter().zip(&got).filter(|(r, g)| r != g).collect();
        assert!(wrong.is_empty() && right.len() == got.len(), "{wrong:#?}");
    }
}

#[test]
fn who_may_no_longer_connect_is_not_let_in() {
    let served = endpoint_listening("workers = 2", "");
    let database = served.shards.endpoint(0).database;
    let role = format!("visitor_{database}");
    let mut admin = Wire::login(&served);
    let (allow, forbid) = (
        format!("GRANT CONNECT ON DATABASE {database} TO PUBLIC"),
        format!("REVOKE CONNECT ON DATABASE {database} FROM PUBLIC"),
    );
    say(
        &mut admin,
        &format!("CREATE ROLE {role} LOGIN PASSWORD 'own'"),
    );
    let visitor = Endpoint {
        user: role.clone(),
        password: "own".into(),
        ..Endpoint::clone(&served)
    };
    let refused = || {
        let login = Wire::connect(visitor.port).try_login(&visitor, message::V3_0, &[]);
        login.map_or_else(|error| error.sqlstate(), |_| String::new())
    };
    // Its server connection stays with the router.
    assert_eq!(one(&mut Wire::login(&visitor), "SELECT 1"), "1");
    say(&mut admin, &forbid);
    assert_eq!(refused(), "42501");
    say(&mut admin, &allow);
    assert_eq!(refused(), "");
    // Nobody tells the router of this one.
    served.shards.sql(0, &forbid);
    assert!(poll_until(LIMIT, || refused() == "42501"));
    drop(admin);
    served.shards.sql(0, &allow);
    served.shards.sql(0, &format!("ALTER ROLE {role} NOLOGIN"));
}

/// Code that leaves a setting or a lock, behind everything that may run it.
const LEAVES: &str = "
CREATE SCHEMA evil;
CREATE TYPE evil.ct AS (i int);
CREATE FUNCTION evil.f(int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('search_path', 'evil', false); PERFORM set_config('app.tenant', '7', false); RETURN true; END $$;
CREATE FUNCTION evil.built(int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SEL' || 'ECT set_' || 'config(''app.tenant'', ''8'', false)'; RETURN true; END $$;
CREATE FUNCTION evil.calls(int) RETURNS bool LANGUAGE sql AS $$ SELECT evil.built($1) $$;
CREATE DOMAIN evil.d AS int CHECK (evil.f(value));
CREATE FUNCTION evil.o(int, int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.tenant', '9', false); RETURN true; END $$;
CREATE OPERATOR evil.<%> (leftarg = int, rightarg = int, function = evil.o);
CREATE FUNCTION evil.c(evil.ct) RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.tenant', '10', false); RETURN 1; END $$;
CREATE CAST (evil.ct AS int) WITH FUNCTION evil.c(evil.ct);
CREATE FUNCTION evil.i(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.tenant', '11', false); RETURN $1; END $$;
CREATE FUNCTION evil.s(int, int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.tenant', '12', false); RETURN 1; END $$;
CREATE AGGREGATE evil.agg(int) (sfunc = evil.s, stype = int, initcond = '0');
CREATE OPERATOR evil.<?> (leftarg = int, rightarg = int, function = pg_advisory_lock);
CREATE TABLE evil.gen (a text, b text GENERATED ALWAYS AS (evil.i(a)) STORED);
CREATE TABLE evil.idx (a text); CREATE INDEX ON evil.idx (evil.i(a));
CREATE TABLE evil.ruled (a int); CREATE RULE r AS ON UPDATE TO evil.ruled DO ALSO SELECT evil.f(1);
CREATE TABLE evil.filled (a int, b text DEFAULT set_config('app.tenant', '13', false));
CREATE TABLE evil.checked (a int CHECK (set_config('app.tenant', '14', false) <> ''));
CREATE VIEW evil.shown AS SELECT set_config('app.tenant', '15', false) AS a;
CREATE VIEW evil.nested AS SELECT a FROM evil.shown;
CREATE FUNCTION evil.t() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.tenant', '16', false); RETURN NEW; END $$;
CREATE TABLE evil.parted (a int) PARTITION BY RANGE (a); CREATE TABLE evil.part PARTITION OF evil.parted FOR VALUES FROM (0) TO (9);
CREATE TRIGGER t BEFORE INSERT ON evil.part FOR EACH ROW EXECUTE FUNCTION evil.t();
CREATE TABLE evil.above (a int PRIMARY KEY); INSERT INTO evil.above VALUES (1);
CREATE TABLE evil.below (a int REFERENCES evil.above ON DELETE CASCADE); INSERT INTO evil.below VALUES (1);
CREATE FUNCTION evil.td() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.tenant', '17', false); RETURN OLD; END $$;
CREATE TRIGGER t BEFORE DELETE ON evil.below FOR EACH ROW EXECUTE FUNCTION evil.td();
CREATE TABLE evil.typed (a evil.d);
CREATE FUNCTION evil.arg(a text DEFAULT set_config('app.tenant', '19', false)) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN a; END $$;
CREATE FUNCTION evil.same(int, int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RETURN $1 = $2; END $$;
CREATE FUNCTION evil.other(int, int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.tenant', '20', false); RETURN $1 <> $2; END $$;
CREATE OPERATOR evil.=%= (leftarg = int, rightarg = int, function = evil.same);
CREATE OPERATOR evil.!%= (leftarg = int, rightarg = int, function = evil.other, negator = OPERATOR(evil.=%=));
CREATE TABLE clean (a int PRIMARY KEY, b int);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE clean AS row_before SET b = 1 WHERE row_before.a = NEW.a - 1; NEW.b := 2; RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE INSERT ON clean FOR EACH ROW EXECUTE FUNCTION touch();
";

/// Statements that run it.
const RUNS: [(&str, &str); 22] = [
    ("a domain", "SELECT 1::evil.d"),
    ("a column of a domain", "INSERT INTO evil.typed VALUES (1)"),
    (
        "a generated column",
        "INSERT INTO evil.gen (a) VALUES ('x')",
    ),
    ("an index", "INSERT INTO evil.idx VALUES ('x')"),
    ("a default of an argument", "SELECT evil.arg()"),
    (
        "a negator",
        "SELECT NOT (a OPERATOR(evil.=%=) 2) FROM generate_series(1, 2) a",
    ),
    ("a constant of a domain", "SELECT '{1}'::evil.d[]"),
    (
        "a constant that is prepared",
        "PREPARE p AS SELECT '{1}'::evil.d[]",
    ),
    ("an operator", "SELECT 1 OPERATOR(evil.<%>) 2"),
    (
        "an operator of a built-in function",
        "SELECT 1 OPERATOR(evil.<?>) 2",
    ),
    ("a cast", "SELECT ROW(1)::evil.ct::int"),
    ("a rule", "UPDATE evil.ruled SET a = 1"),
    ("an aggregate", "SELECT evil.agg(1)"),
    ("a default", "INSERT INTO evil.filled (a) VALUES (1)"),
    ("a check", "INSERT INTO evil.checked VALUES (1)"),
    ("a view", "SELECT * FROM evil.nested"),
    (
        "a trigger of a partition",
        "INSERT INTO evil.parted VALUES (1)",
    ),
    ("a cascade", "DELETE FROM evil.above"),
    ("what a body builds", "SELECT evil.calls(1)"),
    ("a name with escapes", "SELECT U&\"\\0065vil\".f(1)"),
    (
        "a prepared statement",
        "PREPARE p AS SELECT evil.f(1); EXECUTE p",
    ),
    (
        "what the same text defines",
        "CREATE FUNCTION public.mine() RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.tenant', '18', false) $$; SELECT mine()",
    ),
];

#[test]
fn what_code_behind_names_leaves_reaches_nobody_else() {
    const LEFT: &str = "SELECT current_setting('search_path'), coalesce(current_setting('app.tenant', true), ''), \
        (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())";
    let served = pooled(1);
    served.shards.sql(0, LEAVES);
    for (what, sql) in RUNS {
        let mut client = Wire::login(&served);
        let parts = match sql.contains("PREPARE") {
            true => sql.split("; ").collect(),
            false => vec![sql],
        };
        for part in parts {
            let answer = say(&mut client, part);
            assert!(
                !answer.iter().any(|line| line.starts_with("Error")),
                "{what}: {answer:?}"
            );
        }
        drop(client);
        let mut other = Wire::login(&served);
        let left = other.rows(LEFT);
        assert_eq!(left, [["\"$user\", public", "", "0"]], "left by {what}");
    }
    // To parse it is enough, where a constant has the type.
    let mut client = Wire::login(&served);
    client.send_all(&[
        message::parse("", "SELECT '{1}'::evil.d[]", &[]),
        message::sync(),
    ]);
    client.until_ready();
    drop(client);
    let left = Wire::login(&served).rows(LEFT);
    assert_eq!(left, [["\"$user\", public", "", "0"]], "left by Parse");
    // Code that leaves nothing keeps no connection: there is one, and both work.
    let (mut one_client, mut other) = (Wire::login(&served), Wire::login(&served));
    for wire in [&mut one_client, &mut other] {
        wire.set_limit(std::time::Duration::from_secs(10));
    }
    for at in 1..5 {
        for (wire, at) in [(&mut one_client, at * 2), (&mut other, at * 2 + 1)] {
            let answer = say(wire, &format!("INSERT INTO clean VALUES ({at}, 0)"));
            assert_eq!(answer[0], "CommandComplete INSERT 0 1");
        }
    }
}

// A stranger found it: what a function set for its transaction was in the statement that others shared, and the router read
// the text behind it as before.
#[test]
fn what_code_sets_for_a_transaction_reaches_nobody_else() {
    let served = pooled(2);
    served.shards.sql(
        0,
        "CREATE FUNCTION sets_date() RETURNS int LANGUAGE plpgsql AS \
         $$ BEGIN SET LOCAL datestyle = 'ISO, DMY'; RETURN 1; END $$; \
         CREATE FUNCTION configures_date() RETURNS int LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM set_config('datestyle', 'ISO, DMY', true); RETURN 1; END $$; \
         CREATE FUNCTION reads_otherwise() RETURNS int LANGUAGE plpgsql AS \
         $$ BEGIN SET LOCAL standard_conforming_strings = off; RETURN 1; END $$; \
         CREATE FUNCTION waits_less() RETURNS int LANGUAGE plpgsql AS \
         $$ BEGIN SET LOCAL lock_timeout = '1s'; PERFORM set_config('app.tenant', 'a', true); RETURN 1; END $$; \
         CREATE FUNCTION has_origin() RETURNS int LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_replication_origin_session_setup('unseen'); RETURN 1; END $$; \
         SELECT 1 FROM pg_replication_origin_create('unseen')",
    );
    let text = "SELECT '01/02/2020'::date::text";
    let prepared = |wire: &mut Wire| {
        let name = "dated";
        let bind = message::bind("", name, Format::Text, &[], Format::Text);
        let run = [message::execute("", 0), message::sync()].concat();
        let asked = [message::parse(name, text, &[]), bind, run];
        send(wire, &asked).join(" ")
    };
    for sets in ["SELECT sets_date()", "SELECT configures_date()"] {
        let (mut client, mut other) = (Wire::login(&served), Wire::login(&served));
        say(&mut client, "BEGIN");
        assert_eq!(one(&mut client, sets), "1");
        prepared(&mut client);
        say(&mut client, "COMMIT");
        assert!(prepared(&mut other).contains("2020-01-02"), "{sets}");
    }
    let left = "SELECT coalesce(current_setting('own.leak', true), ''), \
        (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4242)";
    for hidden in [
        "set_config('own.leak', 'evil', false)",
        "pg_advisory_lock(4242)",
    ] {
        let mut client = Wire::login(&served);
        let hides = format!("SELECT '\\'' , {hidden} --'");
        let pipeline = [
            "BEGIN",
            "SELECT reads_otherwise()",
            hides.as_str(),
            "COMMIT",
        ];
        send(&mut client, &segment(pipeline));
        drop(client);
        let mut others = [Wire::login(&served), Wire::login(&served)];
        let is_clean = || {
            others.iter_mut().for_each(|wire| drop(say(wire, "BEGIN")));
            let seen: Vec<_> = others.iter_mut().map(|wire| wire.rows(left)).collect();
            others.iter_mut().for_each(|wire| drop(say(wire, "COMMIT")));
            seen.iter().all(|rows| *rows == [["", "0"]])
        };
        assert!(poll_until(LIMIT, is_clean), "{hidden}");
    }
    let mut client = Wire::login(&served);
    assert_eq!(one(&mut client, "SELECT has_origin()"), "1");
    drop(client);
    let mut others = [Wire::login(&served), Wire::login(&served)];
    for wire in &mut others {
        say(wire, "BEGIN");
    }
    for wire in &mut others {
        let origin = "SELECT pg_replication_origin_session_is_setup()";
        assert_eq!(one(wire, origin), "f");
    }
    // The backend that had it may still be about to end.
    let mut direct = Wire::login(&served.shards.endpoint(0));
    let drop_it = "SELECT pg_replication_origin_drop('unseen')";
    let is_dropped = || say(&mut direct, drop_it)[0].starts_with("RowDescription");
    assert!(poll_until(LIMIT, is_dropped));
}

// A stranger found it: COMMIT ran another function than the one that was judged.
#[test]
fn what_a_deferred_trigger_leaves_reaches_nobody_else() {
    let served = pooled(3);
    let body = |leaves: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN {leaves} RETURN NEW; END $$"
        )
    };
    let harmless = body("");
    let leaves = body("PERFORM set_config('own.leak', 'x', false);");
    let mut owner = Wire::login(&served);
    for sql in [
        &harmless,
        "CREATE TABLE fired_late (a int)",
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON fired_late DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION late()",
    ] {
        assert!(
            say(&mut owner, sql)[0].starts_with("CommandComplete"),
            "{sql}"
        );
    }
    for is_extended in [false, true] {
        say(&mut owner, &harmless);
        let mut client = Wire::login(&served);
        say(&mut client, "BEGIN");
        say(&mut client, "INSERT INTO fired_late VALUES (1)");
        say(&mut owner, &leaves);
        match is_extended {
            true => drop(send(&mut client, &extended("COMMIT", &[], &[]))),
            false => drop(say(&mut client, "COMMIT")),
        }
        drop(client);
        let mut others = [Wire::login(&served), Wire::login(&served)];
        for wire in &mut others {
            say(wire, "BEGIN");
        }
        for wire in &mut others {
            let left = "SELECT coalesce(current_setting('own.leak', true), '')";
            assert_eq!(one(wire, left), "", "{is_extended}");
        }
    }
}

#[test]
fn a_database_that_begins_with_an_unsafe_encoding_lets_nobody_in() {
    let served = pooled(1);
    let database = served.shards.endpoint(0).database;
    let alter = format!("ALTER DATABASE {database} SET client_encoding = 'SJIS'");
    served.shards.sql(0, &alter);
    let mut wire = Wire::connect(served.port);
    let refused = wire.try_login(&served, V3_0, &[]).unwrap_err();
    assert_eq!(refused.sqlstate(), "0A000");
    // Who says another one is let in.
    let mut wire = Wire::login_with(&served, &[("client_encoding", "UTF8")]);
    assert_eq!(one(&mut wire, "SELECT 1"), "1");
}

#[test]
fn a_part_of_datestyle_leaves_the_other_part_of_the_same_client() {
    let served = pooled(1);
    let shown = "SELECT current_setting('DateStyle'), '2001-03-04'::date::text";
    let steps = [
        "SET datestyle TO sql",
        "SET datestyle TO dmy",
        "SET datestyle = iso",
        "SET datestyle TO ymd",
    ];
    let mut alone = direct(&served);
    let (mut one, mut other) = (Wire::login(&served), Wire::login(&served));
    for sql in steps {
        say(&mut alone, sql);
        say(&mut one, sql);
        // Both use one connection, and have said different things of the same setting.
        assert_ne!(other.rows(shown), one.rows(shown), "{sql}");
        assert_eq!(one.rows(shown), alone.rows(shown), "{sql}");
    }
    // Only the order is its own; the style is the server's.
    say(&mut other, "SET datestyle TO dmy");
    assert_eq!(other.rows(shown), [["ISO, DMY", "2001-03-04"]]);
    assert_eq!(one.rows(shown), alone.rows(shown));
}

#[test]
fn what_others_have_prepared_is_not_shown() {
    let served = pooled(1);
    let (mut client, mut other) = (Wire::login(&served), Wire::login(&served));
    let parsed = [
        message::parse("secret", "SELECT 'mine'", &[]),
        message::bind("", "secret", Format::Text, &[], Format::Text),
        message::execute("", 0),
        message::sync(),
    ];
    assert!(send(&mut client, &parsed).contains(&"DataRow mine".into()));
    for sql in [
        "SELECT statement FROM pg_prepared_statements",
        "SELECT s.statement FROM pg_catalog.pg_prepared_statement() s",
    ] {
        let answer = say(&mut other, sql);
        assert!(answer[0].starts_with("Error 0A000"), "{sql}: {answer:?}");
    }
    assert_eq!(one(&mut other, "SELECT 1"), "1");
}

#[test]
fn what_others_have_prepared_is_not_shown_by_code_of_users() {
    let stage = Stage::on_one_core();
    let mut client = stage.wire();
    for definition in [
        "CREATE VIEW seen AS SELECT statement FROM pg_prepared_statements",
        "CREATE VIEW seen_twice AS SELECT * FROM seen",
        "CREATE FUNCTION tell() RETURNS SETOF text LANGUAGE sql AS 'SELECT statement FROM pg_prepared_statement()'",
        "CREATE FUNCTION tell_again() RETURNS text LANGUAGE plpgsql AS \
         $$ BEGIN RETURN (SELECT string_agg(statement, ',') FROM seen); END $$",
        "CREATE TABLE keeper (id int, said text DEFAULT tell_again())",
    ] {
        let answer = say(&mut client, definition);
        assert!(
            answer[0].starts_with("CommandComplete"),
            "{definition}: {answer:?}"
        );
    }
    for sql in [
        "SELECT * FROM seen",
        "SELECT count(*) FROM public.\"seen_twice\"",
        "SELECT * FROM tell()",
        "SELECT tell_again()",
        "INSERT INTO keeper (id) VALUES (1)",
        "CREATE TABLE taken AS SELECT * FROM seen",
    ] {
        let simple = say(&mut client, sql);
        assert!(simple[0].starts_with("Error 0A000"), "{sql}: {simple:?}");
        // The second time its plan is known.
        for _ in 0..2 {
            let told = send(&mut client, &extended(sql, &[], &[]));
            let is_refused = told.iter().any(|line| line.starts_with("Error 0A000"));
            assert!(is_refused, "{sql}: {told:?}");
        }
    }
    assert_eq!(one(&mut client, "SELECT 1"), "1");
}

#[test]
fn a_temporary_replication_slot_ends_with_its_client() {
    let served = pooled(2);
    let (mut client, mut other) = (Wire::login(&served), Wire::login(&served));
    let made = "SELECT slot_name FROM pg_create_physical_replication_slot('own', true, true)";
    assert_eq!(one(&mut client, made), "own");
    say(&mut client, "DISCARD ALL");
    let count = "SELECT count(*) FROM pg_replication_slots";
    assert_eq!(one(&mut other, count), "1");
    drop(client);
    let is_gone = || one(&mut other, count) == "0";
    assert!(poll_until(LIMIT, is_gone), "the slot is still there");
}

#[test]
fn a_session_whose_settings_no_server_takes_can_be_reset() {
    let served = pooled(1);
    let (mut client, mut other) = (Wire::login(&served), Wire::login(&served));
    let lost = |client: &mut Wire, other: &mut Wire, name: &str| {
        say(other, &format!("CREATE ROLE {name}"));
        let set = say(client, &format!("SET ROLE {name}"));
        assert_eq!(set[0], "CommandComplete SET", "{name}");
        // The connection is brought to other settings, and cannot be brought back.
        say(other, &format!("DROP ROLE {name}"));
        let refused = say(client, "SELECT 1");
        assert!(refused[0].starts_with("Error 22023"), "{refused:?}");
    };
    for (sql, tag) in [
        ("RESET ROLE", "RESET"),
        ("RESET ALL; SET ROLE NONE", ""),
        ("SET SESSION AUTHORIZATION DEFAULT", "SET"),
        ("DISCARD ALL", "DISCARD ALL"),
    ] {
        for by_parse in [false, true] {
            lost(&mut client, &mut other, "short");
            for part in sql.split("; ") {
                let answer = match by_parse {
                    false => say(&mut client, part),
                    true => send(&mut client, &extended(part, &[], &[])),
                };
                let well = |line: &String| line.starts_with("CommandComplete");
                assert!(answer.iter().any(well), "{part}: {answer:?}");
                let tagged = format!("CommandComplete {tag}");
                assert!(tag.is_empty() || answer.contains(&tagged), "{answer:?}");
            }
            let whose = "SELECT current_user = session_user";
            assert_eq!(one(&mut client, whose), "t", "{sql}");
        }
    }
    lost(&mut client, &mut other, "short");
    let query = "SELECT set_config('role', NULL, false)";
    let refused = say(&mut client, query);
    assert!(refused[0].starts_with("Error"), "{refused:?}");
}

/// Statements that leave something although they fail, are rolled back or do not look so, one after the other, and `?` in
/// front of those that fail.
const LEFT_BEHIND: [(&str, &[&str]); 15] = [
    (
        "a lock of a statement that fails",
        &["?SELECT pg_advisory_lock(4711), 1 / (random() * 0)::int"],
    ),
    (
        "a lock of a parsed statement that fails",
        &["?SELECT pg_advisory_lock(4711), 1 / $1::int|0"],
    ),
    (
        "a lock by a field",
        &["SELECT (4711::bigint).pg_advisory_lock"],
    ),
    (
        "a lock by a column",
        &["SELECT x.pg_try_advisory_lock FROM generate_series(4711::bigint, 4711) x"],
    ),
    ("a seed by a field", &["SELECT (0.5::float8).setseed"]),
    (
        "a seed of a statement that fails",
        &["?SELECT setseed(0.5), 1 / (random() * 0)::int"],
    ),
    (
        "a seed of the transaction",
        &["SELECT set_config('seed', '0.5', true)"],
    ),
    (
        "a seed that is not discarded",
        &["SELECT setseed(0.5)", "DISCARD ALL"],
    ),
    (
        "a seed of code that is not discarded",
        &["DO $$ BEGIN PERFORM setseed(0.5); END $$", "DISCARD ALL"],
    ),
    (
        "a setting by a text in a field",
        &[
            "SELECT (x).ts_stat FROM (SELECT $$select to_tsvector(set_config('app.tenant','7',false))$$::text AS x) q",
        ],
    ),
    (
        "a setting by a view",
        &["UPDATE ONLY (pg_settings) SET setting = 'evil' WHERE name = 'search_path'"],
    ),
    (
        "a setting by a view behind WITH",
        &[
            "WITH q AS (SELECT 1) UPDATE pg_settings SET setting = 'evil' WHERE name = 'search_path'",
        ],
    ),
    (
        "a table whose end is rolled back",
        &[
            "CREATE TEMP TABLE clean (a int)",
            "BEGIN",
            "DISCARD TEMP",
            "ROLLBACK",
        ],
    ),
    (
        "a table whose end fails in the same text",
        &[
            "CREATE TEMP TABLE clean (a int)",
            "?DISCARD TEMP; SELECT 1 / 0",
        ],
    ),
    (
        "a channel whose end is rolled back",
        &[
            "LISTEN c",
            "BEGIN",
            "SAVEPOINT s",
            "UNLISTEN *",
            "ROLLBACK TO s",
            "COMMIT",
        ],
    ),
];

#[test]
fn what_statements_leave_reaches_nobody_else() {
    const LEFT: &str = "SELECT current_setting('search_path'), coalesce(current_setting('app.tenant', true), ''), \
        (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
        (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()), (SELECT count(*) FROM pg_listening_channels()), \
        random() = 0.9851677175347999";
    let served = pooled(1);
    served.shards.sql(0, "CREATE TABLE clean (a int)");
    for (what, parts) in LEFT_BEHIND {
        let mut client = Wire::login(&served);
        for part in parts {
            let (part, fails) = match part.strip_prefix('?') {
                Some(part) => (part, true),
                None => (*part, false),
            };
            let answer = match part.split_once('|') {
                Some((sql, value)) => {
                    client.send_all(&[
                        message::parse("", sql, &[]),
                        message::bind_text(&[value]),
                        message::execute("", 0),
                        message::sync(),
                    ]);
                    client.until_ready()
                }
                None => client.query(part),
            };
            let failed = answer.iter().any(|frame| frame.kind == b'E');
            assert_eq!(failed, fails, "{what}: {part}: {answer:?}");
        }
        drop(client);
        let left = Wire::login(&served).rows(LEFT);
        let clean = ["\"$user\", public", "", "0", "0", "0", "f"];
        assert_eq!(left, [clean], "left by {what}");
    }
}
