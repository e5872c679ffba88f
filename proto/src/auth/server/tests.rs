use proptest::prelude::*;

use super::*;
use crate::auth::{
    Verifier,
    exchange::{ExchangeError, MAX_SCRAM_MESSAGE},
    scram::{AuthMessage, Malformed, nonce_text},
    tests::{FEW, messages, target},
};

/// Our nonce in every test.
const NONCE: &str = "AgICAgICAgICAgICAgICAgIC";

fn login_with(credentials: Credentials, rules: LoginRules) -> ServerLogin {
    let target = Target {
        protocol: Protocol::V3_2,
        ..target("alice")
    };
    let mut login = ServerLogin::new(target, credentials, rules, [2; 18]);
    login.start(&mut Vec::new()).unwrap();
    login
}

fn login() -> ServerLogin {
    login_with(
        Credentials::Password(Password::new("secret")),
        LoginRules::default(),
    )
}

fn request(code: u32, data: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), data].concat()
}

fn ask(
    login: &mut ServerLogin,
    code: u32,
    data: &[u8],
) -> Result<(ServerStep, Vec<u8>), ServerLoginError> {
    let mut out = Vec::new();
    let step = login.on_message(b'R', &request(code, data), &mut out)?;
    Ok((step, out))
}

/// A login whose first SCRAM message is sent.
fn in_scram() -> ServerLogin {
    let mut login = login();
    ask(&mut login, 10, b"SCRAM-SHA-256\0\0").unwrap();
    login
}

fn ready(
    mut login: ServerLogin,
    messages: &[(u8, &[u8])],
) -> Result<ServerSession, ServerLoginError> {
    for (tag, body) in messages {
        if let ServerStep::Ready(session) = login.on_message(*tag, body, &mut Vec::new())? {
            return Ok(*session);
        }
    }
    panic!("never ready")
}

const OK: (u8, &[u8]) = (b'R', &[0; 4]);
const READY: (u8, &[u8]) = (b'Z', b"I");

#[test]
fn a_session_is_what_the_server_told_of_it() {
    let session = ready(
        login(),
        &[
            (b'v', &[0, 3, 0, 0, 0, 0, 0, 0]),
            (b'N', b"SNOTICE\0Mhello\0\0"),
            OK,
            (b'S', b"server_version\x0015.1\0"),
            (b'S', b"TimeZone\0UTC\0"),
            (b'K', &[0, 0, 0, 9, 1, 2, 3, 4]),
            (b'S', b"TimeZone\0Europe/Berlin\0"),
            READY,
        ],
    )
    .unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        (session.protocol, session.pid, session.key.as_slice()),
        (Protocol::V3_0, 9, &[1, 2, 3, 4][..])
    );
    assert_eq!(
        session.parameters,
        [
            pair("server_version", "15.1"),
            pair("TimeZone", "Europe/Berlin")
        ]
    );
    assert_eq!(session.notices[0].message.as_deref(), Some("hello"));

    for (length, good) in [
        (0, false),
        (3, false),
        (4, true),
        (32, true),
        (256, true),
        (257, false),
    ] {
        let body = [vec![0; 4], vec![1; length]].concat();
        let session = ready(login(), &[OK, (b'K', &body), READY]);
        assert_eq!(
            session.map(|session| session.key.len()).ok(),
            good.then_some(length)
        );
    }
    assert_eq!(ready(login(), &[OK, READY]).unwrap().key, b"");
}

#[test]
fn pgwire_reads_what_we_answer() {
    use pgwire::messages::{DecodeContext, Message, startup::PasswordMessageFamily};
    let read = |out: &[u8]| {
        PasswordMessageFamily::decode(&mut out.into(), &DecodeContext::default())
            .unwrap()
            .unwrap()
    };
    let (_, out) = ask(&mut login(), 3, b"").unwrap();
    assert_eq!(read(&out).into_password().unwrap().password, "secret");
    let (_, out) = ask(&mut login(), 5, &[1, 2, 3, 4]).unwrap();
    let expected = postgres_protocol::authentication::md5_hash(b"alice", b"secret", [1, 2, 3, 4]);
    assert_eq!(read(&out).into_password().unwrap().password, expected);
    let (_, out) = ask(&mut login(), 10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0").unwrap();
    let first = read(&out).into_sasl_initial_response().unwrap();
    assert_eq!(first.auth_method, SCRAM_SHA_256);
    assert_eq!(first.data.unwrap(), format!("n,,n=,r={NONCE}"));
}

// S8
#[test]
fn a_hostile_challenge_is_refused_before_it_costs_anything() {
    let malformed = |part| ServerLoginError::from(ExchangeError::from(Malformed(part)));
    let count = |asked| {
        let most = 1_000_000;
        ServerLoginError::from(ExchangeError::Iterations { asked, most })
    };
    let nonce = || ServerLoginError::from(ExchangeError::Nonce);
    let cases = [
        (format!("r={NONCE}x,s=c2FsdA==,i=0"), count(0)),
        (format!("r={NONCE}x,s=c2FsdA==,i=1000001"), count(1_000_001)),
        (
            format!("r={NONCE}x,s=c2FsdA==,i=2147483648"),
            count(2_147_483_648),
        ),
        (
            format!("r={NONCE}x,s=c2FsdA==,i=4294967296"),
            malformed("iteration count"),
        ),
        (
            format!("r={NONCE}x,s=c2FsdA==,i=-1"),
            malformed("iteration count"),
        ),
        (
            format!("r={NONCE}x,s=c2FsdA==,i=+1"),
            malformed("iteration count"),
        ),
        (
            format!("r={NONCE}x,s=c2FsdA==,i="),
            malformed("iteration count"),
        ),
        (format!("r={NONCE}x,s=c2FsdA=="), malformed("attributes")),
        (format!("r={NONCE}x,s=,i=1"), malformed("salt")),
        (format!("r={NONCE}x,s=!!!,i=1"), malformed("salt")),
        (format!("r={NONCE}x,i=1"), malformed("attributes")),
        (
            format!("r={NONCE}x,s=c2FsdA==,i=1,m=1"),
            malformed("extension"),
        ),
        (format!("r={NONCE},s=c2FsdA==,i=1"), nonce()),
        ("r=x,s=c2FsdA==,i=1".into(), nonce()),
        (format!("r=x{NONCE},s=c2FsdA==,i=1"), nonce()),
        ("r=,s=c2FsdA==,i=1".into(), malformed("nonce")),
        (
            format!("r={NONCE}{},s=c2FsdA==,i=1", "x".repeat(MAX_SCRAM_MESSAGE)),
            malformed("length"),
        ),
        (
            format!("r={NONCE}{},s=c2FsdA==,i=1", "x".repeat(1 << 20)),
            ServerLoginError::TooMuch,
        ),
        (
            format!("r={NONCE}x,s={},i=1", "A".repeat(1 << 12)),
            malformed("length"),
        ),
        ("e=other-error".into(), malformed("attributes")),
        (String::new(), malformed("attributes")),
    ];
    for (text, expected) in cases {
        let error = ask(&mut in_scram(), 11, text.as_bytes()).expect_err(&text);
        assert_eq!(error, expected, "{}", &text[..text.len().min(60)]);
    }
    for count in [1, 4096, 1_000_000] {
        let text = format!("r={NONCE}x,s=c2FsdA==,i={count}");
        assert!(matches!(
            ask(&mut in_scram(), 11, text.as_bytes()),
            Ok((ServerStep::Derive(_), _))
        ));
    }
}

#[test]
fn a_server_that_does_not_know_the_verifier_is_not_believed() {
    let challenge = format!("r={NONCE}x,s=c2FsdA==,i=3");
    let proved = || {
        let mut login = in_scram();
        let Ok((ServerStep::Derive(derivation), _)) = ask(&mut login, 11, challenge.as_bytes())
        else {
            panic!()
        };
        let keys = derivation.run();
        let mut out = Vec::new();
        login.on_derived(&keys, &mut out).unwrap();
        let sent = String::from_utf8(messages(&out)[0].1.clone()).unwrap();
        let (client_final, _) = sent.split_once(",p=").unwrap();
        let first = format!("n=,r={NONCE}");
        let auth_message = AuthMessage {
            client_first: &first,
            server_first: &challenge,
            client_final,
        };
        (
            login,
            nonce_text(&auth_message.sign(&Verifier::from_keys(&keys).server_key)),
        )
    };
    let (mut login, right) = proved();
    ask(&mut login, 12, format!("v={right}").as_bytes()).unwrap();
    ask(&mut login, 0, b"").unwrap();

    let wrong = nonce_text(&[0; 32]);
    for (answer, signature) in [
        (format!("v={wrong}"), true),
        ("v=".into(), false),
        ("v=!".into(), false),
        (format!("v={right}="), false),
        ("e=no".into(), false),
        (String::new(), false),
    ] {
        let (mut login, _) = proved();
        let error = ask(&mut login, 12, answer.as_bytes()).expect_err(&answer);
        assert_eq!(
            error == ExchangeError::Signature.into(),
            signature,
            "{answer}: {error}"
        );
        assert!(ask(&mut login, 0, b"").is_err());
    }
    // AuthenticationOk without its proof is no login.
    assert_eq!(
        ask(&mut proved().0, 0, b"").unwrap_err(),
        ServerLoginError::Unexpected { tag: b'R' }
    );
    assert_eq!(
        ask(&mut in_scram(), 0, b"").unwrap_err(),
        ServerLoginError::Unexpected { tag: b'R' }
    );
    // Nor may it ask for more after the proof, or for something else in the middle.
    for code in [3, 5, 10, 11] {
        assert!(ask(&mut proved().0, code, &[0; 4]).is_err());
    }
    for code in [3, 5, 10, 12] {
        assert!(ask(&mut in_scram(), code, &[0; 4]).is_err());
    }
}

// S25
#[test]
fn no_secret_is_sent_below_what_the_settings_require() {
    let scram = LoginRules {
        require_scram: true,
        ..LoginRules::default()
    };
    let bound = LoginRules {
        require_channel_binding: true,
        certificate_hash: Some(vec![1; 32]),
        ..LoginRules::default()
    };
    let credentials = [
        Credentials::None,
        Credentials::Password(Password::new("secret")),
        Credentials::Md5(Md5Hash::from_password(&Password::new("secret"), "alice")),
    ];
    for (rules, plain_scram) in [(&scram, true), (&bound, false)] {
        for credentials in &credentials {
            for (code, data, asked) in [
                (0, &b""[..], Asked::Nothing),
                (3, b"", Asked::Cleartext),
                (5, b"salt", Asked::Md5),
            ] {
                let error = ask(
                    &mut login_with(credentials.clone(), rules.clone()),
                    code,
                    data,
                )
                .expect_err("downgrade");
                assert_eq!(error, ServerLoginError::Downgrade { asked });
            }
        }
        let mut login = login_with(credentials[1].clone(), rules.clone());
        assert_eq!(
            ask(&mut login, 10, b"SCRAM-SHA-256\0\0").is_ok(),
            plain_scram
        );
    }
    let mut login = login_with(credentials[1].clone(), bound);
    let (_, out) = ask(&mut login, 10, b"SCRAM-SHA-256\0SCRAM-SHA-256-PLUS\0\0").unwrap();
    assert!(out[5..].starts_with(b"SCRAM-SHA-256-PLUS\0\0\0\0\x35p=tls-server-end-point,,n=,r="));
    // Without TLS there is nothing to bind to.
    let unbound = LoginRules {
        require_channel_binding: true,
        ..LoginRules::default()
    };
    assert!(
        ask(
            &mut login_with(credentials[1].clone(), unbound),
            10,
            b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
        )
        .is_err()
    );
}

#[test]
fn a_login_without_the_right_credentials_gives_up() {
    let keys = Derivation::new(Password::new("secret"), *b"salt", FEW).run();
    for (credentials, refused) in [
        (Credentials::None, vec![3, 5, 10]),
        (
            Credentials::Md5(Md5Hash::from_password(&Password::new("x"), "alice")),
            vec![3, 10],
        ),
        (Credentials::Scram(keys), vec![3, 5]),
    ] {
        for code in [3, 5, 10] {
            let data: &[u8] = if code == 5 {
                b"salt"
            } else {
                b"SCRAM-SHA-256\0\0"
            };
            let answer = ask(
                &mut login_with(credentials.clone(), LoginRules::default()),
                code,
                data,
            );
            assert_eq!(
                answer.is_err(),
                refused.contains(&code),
                "{credentials:?} {code}"
            );
        }
    }
}

#[test]
fn messages_out_of_turn_end_the_login() {
    let key: (u8, &[u8]) = (b'K', &[0; 8]);
    let parameter: (u8, &[u8]) = (b'S', b"a\0b\0");
    let negotiate: (u8, &[u8]) = (b'v', &[0, 3, 0, 0, 0, 0, 0, 0]);
    let cases: Vec<Vec<(u8, &[u8])>> = vec![
        vec![READY],
        vec![key],
        vec![parameter],
        vec![OK, OK],
        vec![OK, negotiate],
        vec![negotiate, negotiate],
        vec![OK, (b'R', &[0, 0, 0, 3])],
        vec![OK, (b'Z', b"T")],
        vec![OK, (b'Z', b"E")],
        vec![OK, (b'Z', b"")],
        vec![OK, (b'Z', b"II")],
        vec![OK, (b'D', b"\0\0")],
        vec![OK, (b'S', b"a\0b")],
        vec![OK, (b'S', b"a\0b\0c")],
        vec![OK, (b'K', &[0; 3])],
        vec![(b'R', b"")],
        vec![(b'R', &[0, 0, 0, 5, 1, 2, 3])],
        vec![(b'R', &[0, 0, 0, 5, 1, 2, 3, 4, 5])],
        vec![(b'R', b"\0\0\0\x0aSCRAM-SHA-256")],
        vec![(b'R', b"\0\0\0\x0a\0")],
        vec![(b'R', b"\0\0\0\x0aSCRAM-SHA-1\0\0")],
        vec![(b'R', &[0, 0, 0, 7])],
        vec![(b'R', &[0, 0, 0, 9])],
        vec![(b'R', &[0xff; 4])],
        vec![(b'R', &[0, 0, 0, 11])],
        vec![(b'R', &[0, 0, 0, 12])],
    ];
    for case in cases {
        let mut login = login();
        let (last, before) = case.split_last().unwrap();
        for (tag, body) in before {
            login.on_message(*tag, body, &mut Vec::new()).unwrap();
        }
        let mut out = Vec::new();
        assert!(
            login.on_message(last.0, last.1, &mut out).is_err(),
            "{case:?}"
        );
        assert!(out.is_empty());
        assert!(
            login.on_message(OK.0, OK.1, &mut out).is_err(),
            "no way back: {case:?}"
        );
    }
}

#[test]
fn only_a_lower_version_that_exists_is_negotiated() {
    for (asked, version, options, spoken) in [
        (Protocol::V3_2, 0x3_0000_u32, 0_u32, Some(Protocol::V3_0)),
        (Protocol::V3_2, 0, 0, Some(Protocol::V3_0)),
        (Protocol::V3_2, 0x3_0001, 0, None),
        (Protocol::V3_2, 0x3_0002, 0, None),
        (Protocol::V3_2, 0x3_0003, 0, None),
        (Protocol::V3_2, 0x2_0000, 0, None),
        (Protocol::V3_2, 0x3_0000, 1, None),
        (Protocol::V3_2, 0xffff_ffff, 0, None),
        (Protocol::V3_2, 0x3_0000, 0x7fff_ffff, None),
        (Protocol::V3_0, 0x3_0000, 0, None),
    ] {
        let mut login = ServerLogin::new(
            Target {
                protocol: asked,
                ..target("alice")
            },
            Credentials::None,
            LoginRules::default(),
            [0; 18],
        );
        login.start(&mut Vec::new()).unwrap();
        let body = [version.to_be_bytes(), options.to_be_bytes()].concat();
        let session = ready(login, &[(b'v', &body), OK, READY]).ok();
        assert_eq!(
            session.map(|session| session.protocol),
            spoken,
            "{version:#x} {options}"
        );
    }
}

// S9
#[test]
fn an_error_is_an_error_whatever_it_lacks() {
    for body in [&b""[..], b"\0", b"C28P01\0Mno\0\0", b"C28P01", b"\xff\xff"] {
        for before in [vec![], vec![OK]] {
            let mut login = login();
            before.iter().for_each(|(tag, body)| {
                drop(login.on_message(*tag, body, &mut Vec::new()).unwrap())
            });
            let error = login
                .on_message(b'E', body, &mut Vec::new())
                .expect_err("refused");
            assert_eq!(
                error.server_sqlstate(),
                body.ends_with(b"no\0\0").then_some("28P01")
            );
            assert!(error.to_string().starts_with("server refused the login: "));
        }
    }
}

#[test]
fn a_talkative_server_is_cut_off() {
    for (tag, body) in [(b'N', &b"Mx\0\0"[..]), (b'S', b"a\0b\0")] {
        let mut login = login();
        login.on_message(OK.0, OK.1, &mut Vec::new()).unwrap();
        let error =
            (0..MAX_LOGIN_BYTES).find_map(|_| login.on_message(tag, body, &mut Vec::new()).err());
        assert_eq!(error, Some(ServerLoginError::TooMuch));
        assert!(login.session.notices.len() <= MAX_NOTICES);
    }
}

fn any_message() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..60);
    let challenge =
        "r=(AgICAgICAgICAgICAgICAgIC)?[!-~]{0,8},s=(c2FsdA==|[a-zA-Z0-9+/=]{0,8}),i=[0-9]{1,3}";
    prop_oneof![
        (any::<u8>(), bytes()),
        (
            prop_oneof![
                Just(b'R'),
                Just(b'S'),
                Just(b'K'),
                Just(b'Z'),
                Just(b'v'),
                Just(b'N')
            ],
            bytes()
        ),
        (0_u32..13, bytes()).prop_map(|(code, data)| (b'R', request(code, &data))),
        Just((b'R', request(10, b"SCRAM-SHA-256\0\0"))),
        challenge.prop_map(|text: String| (b'R', request(11, text.as_bytes()))),
        "v=[a-zA-Z0-9+/]{43}=".prop_map(|text| (b'R', request(12, text.as_bytes()))),
        Just((b'R', request(0, b""))),
        Just((b'Z', b"I".to_vec())),
    ]
}

proptest! {
    // With SCRAM required, no server gets a session out of us that does not know the verifier.
    #[test]
    fn no_bytes_make_a_session(messages in proptest::collection::vec(any_message(), 0..12), require_scram in any::<bool>()) {
        let rules = LoginRules { require_scram, ..LoginRules::default() };
        let mut login = login_with(Credentials::Password(Password::new("secret")), rules);
        for (tag, body) in messages {
            let mut out = Vec::new();
            match login.on_message(tag, &body, &mut out) {
                Ok(ServerStep::Derive(derivation)) => drop(login.on_derived(&derivation.run(), &mut out).expect("asked for")),
                Ok(ServerStep::Ready(_)) => prop_assert!(!require_scram),
                Ok(ServerStep::Continue) => {}
                Err(error) => {
                    prop_assert!(out.is_empty() && !error.to_string().contains("secret"));
                    break;
                }
            }
            prop_assert!(!require_scram || !out.windows(6).any(|window| window == b"secret"));
        }
    }
}
