//! First packets and logins.

use super::stage::{Bystanders, KINDS, LIMIT, answers, with_length};
use mothership_tests::endpoint::endpoint_listening;
use mothership_tests::message::{self, GSSENC_REQUEST, SSL_REQUEST, V3_0};
use mothership_tests::{Wire, endpoint, poll_until};
use std::time::{Duration, Instant};

#[test]
fn every_message_before_its_time_ends_a_login() {
    let server = endpoint();
    let mut bystanders = Bystanders::of(&server);
    let startup = message::startup(
        V3_0,
        &[("user", &server.user), ("database", &server.database)],
    );
    for kind in 0..=255u8 {
        // Before any StartupMessage a typed message is a length that cannot be.
        let mut wire = Wire::connect(server.port);
        let said = answers(&mut wire, &message::message(kind, b"\0\0\0\0\0\0\0\0"), 1);
        assert_eq!(
            said.last().map(String::as_str),
            Some("closed"),
            "{kind}: {said:?}"
        );
        assert!(
            said.len() == 1 || said[0].starts_with("FATAL Error "),
            "{kind}: {said:?}"
        );
        if kind == b'p' || (kind % 3 != 0 && !KINDS.contains(&kind)) {
            continue;
        }
        // While a proof is asked for, only a proof is one.
        let mut wire = Wire::connect(server.port);
        wire.send(&startup);
        assert_eq!(wire.frame().kind, b'R');
        let said = answers(&mut wire, &message::message(kind, b"SELECT 1\0"), 1);
        let [error, end] = &said[..] else {
            panic!("{kind}: {said:?}")
        };
        assert!(error.starts_with("FATAL Error 08P01 "), "{kind}: {error}");
        assert_eq!(end, "closed");
    }
    for length in [0, 3, 1_000_000, -1, i32::MAX] {
        let mut wire = Wire::connect(server.port);
        wire.send(&startup);
        assert_eq!(wire.frame().kind, b'R');
        let said = answers(
            &mut wire,
            &with_length(b'p', length, b"SCRAM-SHA-256\0\xff\xff\xff\xff"),
            1,
        );
        assert_eq!(
            said.last().map(String::as_str),
            Some("closed"),
            "{length}: {said:?}"
        );
        assert!(
            said[0].starts_with("FATAL Error 08P01 "),
            "{length}: {said:?}"
        );
    }
    bystanders.noticed_nothing();
}

#[test]
fn first_packets_of_wrong_lengths_and_contents_are_refused_as_postgres_refuses_them() {
    let server = endpoint();
    let mut bystanders = Bystanders::of(&server);
    let direct = server.shards.endpoint(0);
    let user = ("user", &*server.user);
    let long = "x".repeat(11_000);
    let mut cases: Vec<(String, Vec<u8>)> = [0, 3, 4, 7, 10_005, 1 << 20, -1, i32::MIN, i32::MAX]
        .into_iter()
        .map(|length: i32| {
            (
                format!("length {length}"),
                [&length.to_be_bytes()[..], &[0; 16]].concat(),
            )
        })
        .collect();
    cases.extend([
        (
            "no user".to_owned(),
            message::startup(V3_0, &[("database", "d")]),
        ),
        (
            "an empty user".to_owned(),
            message::startup(V3_0, &[("user", "")]),
        ),
        (
            "a long value".to_owned(),
            message::startup(V3_0, &[user, ("application_name", &long)]),
        ),
        (
            "no terminator".to_owned(),
            message::untyped(&[&V3_0.to_be_bytes()[..], b"user\0x"].concat()),
        ),
        (
            "no value".to_owned(),
            message::untyped(&[&V3_0.to_be_bytes()[..], b"user\0"].concat()),
        ),
        (
            "bytes behind the terminator".to_owned(),
            message::untyped(&[&V3_0.to_be_bytes()[..], b"user\0x\0\0more"].concat()),
        ),
        ("protocol 4".to_owned(), message::startup(4 << 16, &[user])),
        (
            "a cancel key that nobody has".to_owned(),
            message::cancel(4711, b"none"),
        ),
        (
            "a cancel without a key".to_owned(),
            message::cancel(4711, b""),
        ),
    ]);
    for (what, bytes) in &cases {
        let expected = answers(&mut Wire::connect(direct.port), bytes, 1);
        let actual = answers(&mut Wire::connect(server.port), bytes, 1);
        // Which versions there are differs between servers; that it is refused does not.
        let known = |lines: Vec<String>| {
            lines
                .into_iter()
                .map(|l| l.split(": server").next().unwrap_or("").to_owned())
                .collect::<Vec<_>>()
        };
        let (actual, expected) = (known(actual), known(expected));
        assert_eq!(actual, expected, "{what}");
    }
    println!("{} first packets", cases.len());
    bystanders.noticed_nothing();
}

#[test]
fn names_of_any_length_are_cut_or_refused_and_end_nothing() {
    let server = endpoint();
    let mut bystanders = Bystanders::of(&server);
    for length in [1, 63, 64, 128, 4_000, 9_000] {
        let name = "n".repeat(length);
        for (user, database) in [(&name, &server.database), (&server.user, &name)] {
            let mut other = server.at_port(server.port);
            (other.user, other.database) = (user.clone(), database.clone());
            let error = Wire::connect(server.port)
                .try_login(&other, V3_0, &[])
                .unwrap_err();
            let state = if user == &name { "28P01" } else { "3D000" };
            assert_eq!(error.sqlstate(), state, "{length} {error}");
        }
    }
    // Which databases there are is nobody's business before the login.
    let mut stranger = server.at_port(server.port);
    (stranger.password, stranger.database) = ("guess".into(), "no_such_database".into());
    let error = Wire::connect(server.port)
        .try_login(&stranger, V3_0, &[])
        .unwrap_err();
    assert_eq!(error.sqlstate(), "28P01");
    bystanders.noticed_nothing();
}

#[test]
fn bytes_behind_a_request_for_encryption_are_an_attack() {
    let server = endpoint();
    let mut bystanders = Bystanders::of(&server);
    for code in [SSL_REQUEST, GSSENC_REQUEST] {
        let startup = message::startup(V3_0, &[("user", "mother")]);
        for more in [&b"x"[..], &message::query("SELECT 1"), &startup] {
            let mut wire = Wire::connect(server.port);
            let said = answers(&mut wire, &[&message::request(code)[..], more].concat(), 1);
            let [error, end] = &said[..] else {
                panic!("{said:?}")
            };
            assert!(
                error.starts_with("FATAL Error 08P01 received unencrypted data"),
                "{error}"
            );
            assert_eq!(end, "closed");
        }
        // After the answer a client may go on in clear text, as libpq does.
        let mut wire = Wire::connect(server.port);
        wire.send(&message::request(code));
        assert_eq!(wire.byte(), Ok(b'N'));
        wire.try_login(&server, V3_0, &[]).unwrap();
        assert_eq!(wire.rows("SELECT 1"), [["1"]]);
    }
    bystanders.noticed_nothing();
}

#[test]
fn encryption_is_asked_for_once() {
    let server = endpoint();
    let mut bystanders = Bystanders::of(&server);
    let direct = server.shards.endpoint(0);
    // Which versions there are differs between servers; that it is refused does not.
    let said = |port: u16, codes: &[u32]| {
        let mut wire = Wire::connect(port);
        let (last, first) = codes.split_last().unwrap();
        for code in first {
            wire.send(&message::request(*code));
            assert_eq!(wire.byte(), Ok(b'N'), "{codes:?}");
        }
        let mut said = answers(&mut wire, &message::request(*last), 1);
        let known = said[0].find(": server").unwrap_or(said[0].len());
        said[0].truncate(known);
        said
    };
    for (codes, minor) in [
        (&[SSL_REQUEST, SSL_REQUEST][..], 5679),
        (&[GSSENC_REQUEST, GSSENC_REQUEST], 5680),
        (&[GSSENC_REQUEST, SSL_REQUEST, SSL_REQUEST], 5679),
        (&[SSL_REQUEST, GSSENC_REQUEST, GSSENC_REQUEST], 5680),
    ] {
        let expected = format!("FATAL Error 0A000 unsupported frontend protocol 1234.{minor}");
        let actual = said(server.port, codes);
        assert_eq!(actual, [expected, "closed".to_owned()], "{codes:?}");
        // PostgreSQL may be built with GSSAPI, and agrees to it then.
        if !codes.contains(&GSSENC_REQUEST) {
            assert_eq!(actual, said(direct.port, codes), "{codes:?}");
        }
    }
    // Each once, in any order, as libpq may ask.
    for codes in [[SSL_REQUEST, GSSENC_REQUEST], [GSSENC_REQUEST, SSL_REQUEST]] {
        let mut wire = Wire::connect(server.port);
        for code in codes {
            wire.send(&message::request(code));
            assert_eq!(wire.byte(), Ok(b'N'));
        }
        wire.try_login(&server, V3_0, &[]).unwrap();
        assert_eq!(wire.rows("SELECT 1"), [["1"]]);
    }
    bystanders.noticed_nothing();
}

#[test]
fn a_flood_of_connections_that_say_nothing_leaves_sessions_and_later_logins_alone() {
    let server = endpoint_listening("max_logins = 200", "");
    let mut bystanders = Bystanders::of(&server);
    let startup = message::startup(
        V3_0,
        &[("user", &server.user), ("database", &server.database)],
    );
    let mut flood: Vec<Wire> = (0..400).map(|_| Wire::connect(server.port)).collect();
    for (number, wire) in flood.iter_mut().enumerate() {
        // Nothing, half a packet, or a login that is not gone on with.
        let bytes = &startup[..[0, 1, 4, 9, startup.len()][number % 5]];
        let _ = wire.try_send(bytes);
    }
    bystanders.noticed_nothing();
    let told = |wire: &mut Wire| match wire.try_frame(Duration::from_millis(1)) {
        Ok(frame) => frame.kind == b'E' && frame.sqlstate() == "53300",
        Err(_) => false,
    };
    let mut refused = 0;
    assert!(poll_until(LIMIT, || {
        refused += flood
            .iter_mut()
            .filter_map(|wire| told(wire).then_some(()))
            .count();
        refused >= 100
    }));
    println!("{refused} of {} refused at once with 53300", flood.len());
    bystanders.noticed_nothing();
    drop(flood);
    assert!(poll_until(LIMIT, || Wire::connect(server.port)
        .try_login(&server, V3_0, &[])
        .is_ok()));
    bystanders.noticed_nothing();
}

#[test]
#[ignore = "long"]
fn a_login_that_is_not_finished_ends_with_its_deadline_however_slowly_it_goes_on() {
    let server = endpoint_listening("login_timeout = \"10s\"", "");
    let mut bystanders = Bystanders::of(&server);
    let startup = message::startup(
        V3_0,
        &[
            ("user", &server.user),
            ("application_name", &"x".repeat(5000)),
        ],
    );
    let mut slow = Wire::connect(server.port);
    let mut silent = Wire::connect(server.port);
    let mut sent = 0;
    // A byte now and then renews nothing: it is one deadline for the whole login.
    let closed = poll_until(LIMIT, || {
        let gone = slow.try_send(&startup[sent..=sent]).is_err();
        sent += 1;
        gone || sent + 1 == startup.len()
    });
    assert!(
        closed && sent + 1 < startup.len(),
        "{sent} bytes were taken"
    );
    assert!(silent.is_closed_within(LIMIT));
    bystanders.noticed_nothing();
}

#[test]
fn an_unknown_user_and_a_wrong_password_are_told_the_same_in_about_the_same_time() {
    // The pause would hide what the answer itself takes.
    let server = endpoint_listening("", "[limits]\nwrong_password_pause = \"0s\"\n");
    let mut bystanders = Bystanders::of(&server);
    Wire::login(&server).rows("DROP ROLE IF EXISTS expired_one");
    Wire::login(&server)
        .rows("CREATE ROLE expired_one LOGIN PASSWORD 'right' VALID UNTIL '2001-01-01'");
    Wire::login(&server).rows("DROP ROLE IF EXISTS without_password");
    Wire::login(&server).rows("CREATE ROLE without_password LOGIN PASSWORD NULL");
    let attempt = |user: &str, password: &str| {
        let mut other = server.at_port(server.port);
        (other.user, other.password) = (user.into(), password.into());
        let began = Instant::now();
        let error = Wire::connect(server.port)
            .try_login(&other, V3_0, &[])
            .unwrap_err();
        let fields = ['S', 'V', 'C', 'M', 'D', 'H']
            .map(|code| error.field(code).unwrap_or_default().replace(user, "USER"));
        (fields, began.elapsed())
    };
    let users = [
        ("mother", "guess"),
        ("nobody_here", "guess"),
        ("expired_one", "right"),
        ("without_password", "anything"),
        ("mother", ""),
    ];
    let mut times = vec![Vec::new(); users.len()];
    for _ in 0..21 {
        let first = attempt("mother", "guess").0;
        for (at, (user, password)) in users.iter().enumerate() {
            let (fields, time) = attempt(user, password);
            assert_eq!(fields, first, "{user}");
            times[at].push(time);
        }
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let medians: Vec<Duration> = times.into_iter().map(median).collect();
    println!("wrong password, unknown, expired and without password, empty: {medians:?}");
    let (least, most) = (medians.iter().min().unwrap(), medians.iter().max().unwrap());
    // A derivation more or less would be a factor of its own; a busy machine makes some difference.
    assert!(*most < 4 * *least, "{medians:?}");
    bystanders.noticed_nothing();
    Wire::login(&server).rows("DROP ROLE expired_one, without_password");
}

#[test]
fn a_wrong_password_fails_while_connections_of_the_same_user_lie_in_the_pool() {
    let server = endpoint();
    let mut bystanders = Bystanders::of(&server);
    for (method, password) in [("scram", "right one"), ("md5", "other one")] {
        let role = format!("pooled_{method}");
        let mut mother = Wire::login(&server);
        mother.rows(&format!("DROP ROLE IF EXISTS {role}"));
        if method == "md5" {
            mother.rows("BEGIN");
            mother.rows("SET LOCAL password_encryption = 'md5'");
        }
        mother.rows(&format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'"));
        if method == "md5" {
            mother.rows("COMMIT");
        }
        let mut right = server.at_port(server.port);
        (right.user, right.password) = (role.clone(), password.into());
        let mut wire = Wire::connect(server.port);
        let usable = wire.try_login(&right, V3_0, &[]).is_ok();
        assert!(usable || method == "md5", "{role} logs in");
        if usable {
            assert_eq!(wire.rows("SELECT current_user"), [[role.as_str()]]);
        }
        for guess in ["", "wrong", "right on", "right one ", "mother"] {
            let mut wrong = right.clone();
            wrong.password = guess.into();
            let error = Wire::connect(server.port)
                .try_login(&wrong, V3_0, &[])
                .unwrap_err();
            assert_eq!(error.sqlstate(), "28P01", "{role} {guess:?}");
        }
        drop(wire);
        assert!(poll_until(LIMIT, || {
            let mut mother = Wire::login(&server);
            mother.query(&format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
            ));
            mother
                .query(&format!("DROP ROLE {role}"))
                .iter()
                .all(|frame| frame.kind != b'E')
        }));
    }
    bystanders.noticed_nothing();
}

#[test]
fn a_schema_in_front_of_the_catalog_lets_nobody_in() {
    let server = endpoint();
    let mut bystanders = Bystanders::of(&server);
    let database = &server.database;
    let verifier = server.shards.sql(
        0,
        "SELECT rolpassword FROM pg_authid WHERE rolname = 'mother'",
    );
    for sql in [
        "CREATE SCHEMA evil".to_owned(),
        format!("CREATE VIEW evil.pg_authid AS SELECT 'ghost'::name AS rolname, '{verifier}'::text AS rolpassword, \
             true AS rolcanlogin, NULL::timestamptz AS rolvaliduntil"),
        "CREATE FUNCTION evil.yes(name, name) RETURNS bool LANGUAGE sql AS 'SELECT true'".to_owned(),
        "CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.yes)".to_owned(),
        "CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS $$SELECT '-infinity'::timestamptz$$".to_owned(),
        format!("ALTER DATABASE {database} SET search_path = evil, pg_catalog"),
    ] {
        server.shards.sql(0, &sql);
    }
    let path = "evil, pg_catalog";
    for more in [
        &[][..],
        &[("search_path", path)],
        &[("options", "-c search_path=evil\\,pg_catalog")],
    ] {
        let mut ghost = server.at_port(server.port);
        ghost.user = "ghost".into();
        let error = Wire::connect(server.port)
            .try_login(&ghost, V3_0, more)
            .unwrap_err();
        assert_eq!(error.sqlstate(), "28P01", "{error}");
        // The path is in force for the client's own statements, and for nothing else.
        let mut wire = Wire::login_with(&server, more);
        let evil = wire.rows("SELECT rolname FROM pg_authid") == [["ghost"]];
        assert!(evil || more.is_empty());
    }
    bystanders.noticed_nothing();
}
