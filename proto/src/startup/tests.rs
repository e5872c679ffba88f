use proptest::prelude::*;

use super::{
    outgoing::{
        OutgoingError, SslAnswer, SslAnswerError, put_cancel, put_ssl_request, put_startup,
        ssl_answer,
    },
    *,
};

fn packet(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

fn startup_packet(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(format!("{name}\0{value}\0").bytes());
    }
    body.push(0);
    packet(&body)
}

fn parse(bytes: &[u8]) -> Result<Option<(FirstPacket<'_>, usize)>, StartupError> {
    FirstPacket::parse(bytes)
}

fn started(version: u32, parameters: &[(&str, &str)]) -> Result<Startup, StartupError> {
    let bytes = startup_packet(version, parameters);
    match parse(&bytes)? {
        Some((FirstPacket::Startup(startup), taken)) if taken == bytes.len() => Ok(startup),
        other => panic!("not a startup packet: {other:?}"),
    }
}

const V3_0: u32 = 0x3_0000;

#[test]
fn every_kind_of_first_packet_is_told_apart() {
    let cases: [(Vec<u8>, FirstPacket<'_>, usize); 5] = [
        (packet(&SSL_REQUEST.to_be_bytes()), FirstPacket::Ssl, 8),
        (packet(&GSS_REQUEST.to_be_bytes()), FirstPacket::Gss, 8),
        (vec![0x16, 3, 1], FirstPacket::DirectTls, 0),
        (
            packet(&[&CANCEL_REQUEST.to_be_bytes()[..], &[0, 0, 0, 7, 1, 2, 3, 4]].concat()),
            FirstPacket::Cancel {
                pid: 7,
                secret: &[1, 2, 3, 4],
            },
            16,
        ),
        (
            packet(&[&CANCEL_REQUEST.to_be_bytes()[..], &[0xff; 4], &[9; 256]].concat()),
            FirstPacket::Cancel {
                pid: -1,
                secret: &[9; 256],
            },
            268,
        ),
    ];
    for (mut bytes, expected, taken) in cases {
        for end in 0..taken {
            assert_eq!(parse(&bytes[..end]), Ok(None), "{expected:?} cut at {end}");
        }
        assert_eq!(parse(&bytes), Ok(Some((expected, taken))));
        // The caller sees that more came than was taken, and closes after SSLRequest (S4).
        bytes.push(b'x');
        assert_eq!(
            parse(&bytes).expect("still valid").expect("still whole").1,
            taken
        );
    }
}

// S7, R2, R5: judged by its four bytes alone, before a body is there.
#[test]
fn impossible_lengths_are_refused_at_once() {
    for claimed in [
        0,
        1,
        2,
        3,
        4,
        7,
        10_005,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        0x4745_5420,
    ] {
        assert_eq!(
            parse(&u32::to_be_bytes(claimed)),
            Err(StartupError::Length { claimed })
        );
    }
    for claimed in [8_u32, 10_004] {
        assert_eq!(parse(&claimed.to_be_bytes()), Ok(None));
    }
}

#[test]
fn malformed_packets_get_postgresqls_answers() {
    let body = |text: &[u8]| packet(&[&V3_0.to_be_bytes(), text].concat());
    let cancel = |bytes: &[u8]| packet(&[&CANCEL_REQUEST.to_be_bytes(), bytes].concat());
    let cases: Vec<(Vec<u8>, &str, &str)> = vec![
        (
            body(b""),
            "08P01",
            "invalid startup packet layout: expected terminator as last byte",
        ),
        (
            body(b"user"),
            "08P01",
            "invalid startup packet layout: expected terminator as last byte",
        ),
        (
            body(b"user\0"),
            "08P01",
            "invalid startup packet layout: expected terminator as last byte",
        ),
        (
            body(b"user\0x"),
            "08P01",
            "invalid startup packet layout: expected terminator as last byte",
        ),
        (
            body(b"user\0x\0"),
            "08P01",
            "invalid startup packet layout: expected terminator as last byte",
        ),
        (
            body(b"user\0x\0\0y"),
            "08P01",
            "invalid startup packet layout: expected terminator as last byte",
        ),
        (
            body(b"\0"),
            "28000",
            "no PostgreSQL user name specified in startup packet",
        ),
        (
            body(b"user\0\0\0"),
            "28000",
            "no PostgreSQL user name specified in startup packet",
        ),
        (
            body(b"database\0x\0\0"),
            "28000",
            "no PostgreSQL user name specified in startup packet",
        ),
        (
            body(b"user\0\xff\0\0"),
            "22021",
            "invalid byte sequence for encoding \"UTF8\" in startup packet",
        ),
        (
            cancel(b""),
            "08P01",
            "invalid length of cancel request packet",
        ),
        (
            cancel(&[0; 4]),
            "08P01",
            "invalid length of cancel request packet",
        ),
        (
            cancel(&[0; 261]),
            "08P01",
            "invalid length of cancel request packet",
        ),
        (
            packet(&[&SSL_REQUEST.to_be_bytes()[..], b"x"].concat()),
            "08P01",
            "invalid length of encryption request packet",
        ),
    ];
    for (bytes, sqlstate, message) in cases {
        let error = parse(&bytes).expect_err(message);
        assert_eq!(
            (error.sqlstate(), error.to_string().as_str()),
            (sqlstate, message),
            "{bytes:?}"
        );
    }
}

#[test]
fn versions_are_negotiated_like_postgresql_18_does() {
    // Asked, spoken, whether NegotiateProtocolVersion is sent.
    for (asked, spoken, sent) in [
        (0x3_0000, 0x3_0000, false),
        (0x3_0001, 0x3_0001, false),
        (0x3_0002, 0x3_0002, false),
        (0x3_0003, 0x3_0002, true),
        (0x3_270f, 0x3_0002, true),
    ] {
        let startup = started(asked, &[("user", "u")]).unwrap();
        let mut out = Vec::new();
        assert_eq!(startup.protocol().number(), spoken);
        assert_eq!(startup.put_negotiation(&mut out), sent);
        let expected = [b"v\0\0\0\x0c", &spoken.to_be_bytes()[..], &[0; 4]].concat();
        assert_eq!(out, if sent { expected } else { Vec::new() });
        assert_eq!(
            startup.protocol().has_long_cancel_keys(),
            spoken == 0x3_0002
        );
    }
    let startup = started(V3_0, &[("user", "u"), ("_pq_.grease", "1"), ("_pq_.x", "")]).unwrap();
    let mut out = Vec::new();
    assert!(startup.put_negotiation(&mut out));
    assert_eq!(out, b"v\0\0\0\x1f\0\x03\0\0\0\0\0\x02_pq_.grease\0_pq_.x\0");
    assert_eq!(startup.settings, []);

    for (major, minor) in [
        (0, 0),
        (1, 0),
        (2, 0),
        (4, 0),
        (1234, 5681),
        (65_535, 65_535),
    ] {
        let error = started(major << 16 | minor, &[("user", "u")]).expect_err("major");
        assert_eq!(error.sqlstate(), "0A000");
        let expected =
            format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2");
        assert_eq!(error.to_string(), expected);
        let mut out = Vec::new();
        error.put(&mut out);
        // Protocol 2 has no lengths and no fields.
        assert_eq!(out.starts_with(b"EFATAL:  unsupported"), major < 3);
    }
}

#[test]
fn the_user_and_database_are_postgresqls() {
    type Pairs = &'static [(&'static str, &'static str)];
    let cases: [(Pairs, (&str, &str)); 5] = [
        (&[("user", "u")], ("u", "u")),
        (&[("user", "u"), ("database", "")], ("u", "u")),
        (&[("database", "d"), ("user", "u")], ("u", "d")),
        (
            &[
                ("user", "a"),
                ("user", "b"),
                ("database", "c"),
                ("database", "d"),
            ],
            ("b", "d"),
        ),
        (
            &[("user", "-x"), ("database", "a b;--\\")],
            ("-x", "a b;--\\"),
        ),
    ];
    for (parameters, (user, database)) in cases {
        let startup = started(V3_0, parameters).unwrap();
        assert_eq!(
            (startup.user.as_str(), startup.database.as_str()),
            (user, database)
        );
    }
}

// S1
#[test]
fn long_names_are_cut_like_postgresql_cuts_them() {
    for length in [1, 62, 63, 64, 128, 4_900] {
        let name = "n".repeat(length);
        let startup = started(V3_0, &[("user", &name), ("database", &name)]).unwrap();
        assert_eq!(
            (startup.user.len(), startup.database.len()),
            (length.min(63), length.min(63))
        );
    }
    let startup = started(V3_0, &[("user", &format!("{}é", "n".repeat(62)))]).unwrap();
    assert_eq!(
        startup.user,
        "n".repeat(62),
        "a character is not cut in two"
    );
    let name = "n".repeat(10_000);
    let bytes = startup_packet(V3_0, &[("user", &name)]);
    assert!(matches!(parse(&bytes), Err(StartupError::Length { .. })));
}

#[test]
fn settings_keep_their_order_and_those_of_options_come_first() {
    let startup = started(
        V3_0,
        &[
            ("user", "u"),
            ("search_path", "a"),
            ("options", "-c search_path=b --geqo-threshold=3"),
            ("Search_Path", "c"),
        ],
    )
    .unwrap();
    let settings: Vec<_> = startup
        .settings
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        settings,
        [
            ("search_path", "b"),
            ("geqo_threshold", "3"),
            ("search_path", "a"),
            ("Search_Path", "c")
        ]
    );
    assert_eq!(startup.setting("SEARCH_PATH"), Some("c"));
    assert_eq!(startup.setting("absent"), None);

    let many: Vec<_> = (0..1_000).map(|n| format!("a{n}")).collect();
    let mut parameters: Vec<_> = many.iter().map(|name| (name.as_str(), "1")).collect();
    parameters.push(("user", "u"));
    assert_eq!(started(V3_0, &parameters).unwrap().settings.len(), 1_000);

    let bytes = packet(
        &[
            &V3_0.to_be_bytes()[..],
            b"user\0u\0application_name\0caf\xe9\0\0",
        ]
        .concat(),
    );
    let Ok(Some((FirstPacket::Startup(startup), _))) = parse(&bytes) else {
        panic!("refused")
    };
    assert_eq!(startup.setting("application_name"), Some("caf?"));
}

#[test]
fn replication_is_refused_and_its_absence_may_be_said() {
    for value in ["false", "off", "no", "0", "F", "of"] {
        assert!(
            started(V3_0, &[("user", "u"), ("replication", value)]).is_ok(),
            "{value}"
        );
    }
    for (value, sqlstate) in [
        ("true", "0A000"),
        ("database", "0A000"),
        ("1", "0A000"),
        ("o", "22023"),
        ("", "22023"),
        ("maybe", "22023"),
    ] {
        let error = started(V3_0, &[("user", "u"), ("replication", value)]).expect_err(value);
        assert_eq!(error.sqlstate(), sqlstate, "{value}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn options_are_split_and_read_like_postgresql_does() {
    let good: [(&str, &[(&str, &str)]); 10] = [
        ("", &[]),
        (" \t\n ", &[]),
        ("-c a=b", &[("a", "b")]),
        ("-ca=b", &[("a", "b")]),
        ("--a=b", &[("a", "b")]),
        ("  -c   a=b=c  ", &[("a", "b=c")]),
        ("-c a=", &[("a", "")]),
        (r"-c a=x\ y\\z\q", &[("a", r"x y\zq")]),
        (
            "--work-mem=1MB -c enable-seqscan=off",
            &[("work_mem", "1MB"), ("enable_seqscan", "off")],
        ),
        ("-c a=b\\", &[("a", "b")]),
    ];
    for (text, expected) in good {
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        assert_eq!(options::parse(text), Ok(expected), "{text}");
    }
    let bad = [
        (
            "-c",
            "42601",
            "invalid command-line argument for server process: -c",
        ),
        (
            "x",
            "42601",
            "invalid command-line argument for server process: x",
        ),
        (
            "-",
            "42601",
            "invalid command-line argument for server process: -",
        ),
        ("-c a", "42601", "-c a requires a value"),
        ("--a", "42601", "-c a requires a value"),
        (
            "-c =b",
            "42704",
            "unrecognized configuration parameter \"\"",
        ),
        (
            "-p 5433",
            "0A000",
            "command-line switch \"-p\" is not supported in \"options\"",
        ),
        (
            "-c a=b -W 5",
            "0A000",
            "command-line switch \"-W\" is not supported in \"options\"",
        ),
    ];
    for (text, sqlstate, message) in bad {
        let error = options::parse(text).expect_err(text);
        assert_eq!(
            (error.sqlstate(), error.to_string().as_str()),
            (sqlstate, message)
        );
    }
}

#[test]
fn our_packets_are_read_by_pgwire_as_they_were_meant() {
    use pgwire::messages::{DecodeContext, Message, startup as theirs};
    let mut out = Vec::new();
    let parameters = [
        ("client_encoding".to_owned(), "UTF8".to_owned()),
        ("options_".to_owned(), String::new()),
    ];
    put_startup(&mut out, Protocol::V3_2, "u", "-d", &parameters).unwrap();
    let read = theirs::Startup::decode(&mut out.as_slice().into(), &DecodeContext::default())
        .unwrap()
        .unwrap();
    assert_eq!(
        (read.protocol_number_major, read.protocol_number_minor),
        (3, 2)
    );
    let pairs: Vec<_> = read
        .parameters
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        pairs,
        [
            ("client_encoding", "UTF8"),
            ("database", "-d"),
            ("options_", ""),
            ("user", "u")
        ]
    );

    let mut out = Vec::new();
    put_ssl_request(&mut out);
    assert!(theirs::SslRequest::is_ssl_request_packet(&out));

    let mut out = Vec::new();
    put_backend_key(&mut out, Protocol::V3_0, 7, &[1, 2, 3, 4]).unwrap();
    assert_eq!(out, b"K\0\0\0\x0c\0\0\0\x07\x01\x02\x03\x04");
    for (protocol, bytes, good) in [
        (Protocol::V3_0, 3, false),
        (Protocol::V3_0, 5, false),
        (Protocol::V3_2, 3, false),
        (Protocol::V3_2, 256, true),
        (Protocol::V3_2, 257, false),
    ] {
        assert_eq!(
            put_backend_key(&mut Vec::new(), protocol, 1, &vec![0; bytes]).is_ok(),
            good
        );
    }

    let mut out = Vec::new();
    put_cancel(&mut out, -5, &[8; 32]).unwrap();
    assert_eq!(
        parse(&out),
        Ok(Some((
            FirstPacket::Cancel {
                pid: -5,
                secret: &[8; 32]
            },
            44
        )))
    );
    assert!(put_cancel(&mut out, 1, &[]).is_err());
    assert!(put_cancel(&mut out, 1, &[0; 257]).is_err());
}

// S19
#[test]
fn no_value_becomes_a_parameter_of_a_server_session() {
    let nul = |what: &str| OutgoingError::Nul { what: what.into() };
    let reserved = |name: &str| OutgoingError::Reserved { name: name.into() };
    let cases = [
        (("u\0options\0-c x=y", "d", ("a", "b")), nul("user")),
        (("u", "d\0replication\0true", ("a", "b")), nul("database")),
        (("u", "d", ("a", "b\0options\0-c x=y")), nul("a")),
        (("u", "d", ("a\0b", "c")), nul("parameter name")),
        (("u", "d", ("options", "-c x=y")), reserved("options")),
        (
            ("u", "d", ("replication", "database")),
            reserved("replication"),
        ),
        (("u", "d", ("user", "postgres")), reserved("user")),
        (("u", "d", ("database", "x")), reserved("database")),
        (("u", "d", ("_pq_.x", "")), reserved("_pq_.x")),
        (
            ("u", "d", ("", "b")),
            OutgoingError::Empty {
                what: "parameter name".into(),
            },
        ),
        (
            ("", "d", ("a", "b")),
            OutgoingError::Empty {
                what: "user".into(),
            },
        ),
        (
            ("u", "", ("a", "b")),
            OutgoingError::Empty {
                what: "database".into(),
            },
        ),
    ];
    for ((user, database, (name, value)), expected) in cases {
        let mut out = Vec::new();
        let refused = put_startup(
            &mut out,
            Protocol::V3_0,
            user,
            database,
            &[(name.into(), value.into())],
        );
        assert_eq!((refused, out), (Err(expected), Vec::new()));
    }
    let long = [("a".to_owned(), "x".repeat(10_000))];
    assert!(matches!(
        put_startup(&mut Vec::new(), Protocol::V3_0, "u", "d", &long),
        Err(OutgoingError::TooLong { .. })
    ));
}

// S4, S15
#[test]
fn only_one_byte_answers_a_request_for_tls() {
    type Answer = Result<Option<SslAnswer>, SslAnswerError>;
    let cases: [(&[u8], Answer); 7] = [
        (b"", Ok(None)),
        (b"S", Ok(Some(SslAnswer::Yes))),
        (b"N", Ok(Some(SslAnswer::No))),
        (b"Sx", Err(SslAnswerError::BytesAfter)),
        (b"NE", Err(SslAnswerError::BytesAfter)),
        (b"E\0\0\0\x10SFATAL\0", Err(SslAnswerError::Error)),
        (b"G", Err(SslAnswerError::Unknown { byte: b'G' })),
    ];
    for (bytes, expected) in cases {
        assert_eq!(ssl_answer(bytes), expected);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), sized in any::<bool>()) {
        let bytes = if sized { packet(&[&V3_0.to_be_bytes()[..], &bytes].concat()) } else { bytes };
        if let Ok(Some((first, taken))) = parse(&bytes) {
            prop_assert!(taken <= bytes.len());
            if let FirstPacket::Startup(startup) = first {
                prop_assert!(!startup.user.is_empty() && startup.user.len() <= MAX_NAME);
                startup.put_negotiation(&mut Vec::new());
            }
        } else if let Err(error) = parse(&bytes) {
            error.put(&mut Vec::new());
        }
    }

    #[test]
    fn written_options_are_read_back(settings in proptest::collection::vec(("[a-z_.]{1,9}", "[^\0]{0,20}"), 0..5)) {
        prop_assert_eq!(options::parse(&options::write(&settings)), Ok(settings));
    }

    #[test]
    fn what_we_say_is_what_we_read(
        user in "[^\0]{1,15}", database in "[^\0]{1,15}",
        settings in proptest::collection::vec(("[a-z_]{1,9}", "[^\0]{0,20}"), 0..5),
    ) {
        let mut out = Vec::new();
        put_startup(&mut out, Protocol::V3_0, &user, &database, &settings).expect("nothing reserved");
        let (first, _) = parse(&out).expect("valid").expect("whole");
        let expected = Startup { asked_minor: 0, user, database, settings, protocol_options: vec![] };
        prop_assert_eq!(first, FirstPacket::Startup(expected));
    }
}
