use proptest::prelude::*;

use super::*;
use crate::auth::{
    server::{Credentials, LoginRules, ServerLogin},
    tests::{End, FEW, messages, nonces, stand_in, talk, target},
};

fn verifier() -> Verifier {
    Verifier::from_password(&Password::new("secret"), b"0123456789abcdef", FEW).unwrap()
}

fn secret(kind: SecretKind) -> LookedUp {
    LookedUp::Known(match kind {
        SecretKind::Plain => Secret::Plain {
            password: Password::new("secret"),
            verifier: Some(verifier()),
        },
        SecretKind::Md5 => Secret::Md5(Md5Hash::from_password(&Password::new("secret"), "alice")),
        SecretKind::Scram => Secret::Scram(verifier()),
    })
}

fn login(method: Method, kind: SecretKind) -> ClientLogin {
    ClientLogin::new("alice", method, secret(kind), &stand_in(kind), &nonces())
}

fn initial(mechanism: &str, first: &str) -> Vec<u8> {
    [
        mechanism.as_bytes(),
        &[0],
        &(first.len() as u32).to_be_bytes(),
        first.as_bytes(),
    ]
    .concat()
}

/// A login by SCRAM whose challenge has been sent, and the challenge.
fn challenged(
    certificate: Option<&[u8]>,
    mechanism: &str,
    first: &str,
) -> Result<(ClientLogin, String), AuthError> {
    let login = login(Method::Scram, SecretKind::Scram);
    let mut login = certificate
        .into_iter()
        .fold(login, ClientLogin::with_certificate_hash);
    let mut out = Vec::new();
    login.start(&mut out)?;
    out.clear();
    login.on_message(b'p', &initial(mechanism, first), &mut out)?;
    Ok((login, String::from_utf8(out[9..].to_vec()).unwrap()))
}

/// Logins in every state that waits for a message or for keys.
fn waiting() -> Vec<ClientLogin> {
    let mut all = Vec::new();
    for (method, kind) in [
        (Method::Password, SecretKind::Plain),
        (Method::Password, SecretKind::Md5),
        (Method::Password, SecretKind::Scram),
        (Method::Md5, SecretKind::Md5),
        (Method::Scram, SecretKind::Scram),
    ] {
        let mut login = login(method, kind);
        login.start(&mut Vec::new()).unwrap();
        all.push(login);
    }
    all.push(challenged(None, SCRAM_SHA_256, "n,,n=,r=abc").unwrap().0);
    let mut deriving = login(Method::Password, SecretKind::Scram);
    deriving.start(&mut Vec::new()).unwrap();
    deriving
        .on_message(b'p', b"secret\0", &mut Vec::new())
        .unwrap();
    all.push(deriving);
    all.push(login(Method::Scram, SecretKind::Scram));
    all
}

// S2
#[test]
fn every_other_message_in_every_state_ends_the_login_for_good() {
    for tag in 0..=255_u8 {
        for mut login in waiting() {
            if tag == b'p' && login.max_body() > 0 {
                continue;
            }
            let mut out = Vec::new();
            let error = login
                .on_message(tag, b"secret\0", &mut out)
                .expect_err("refused");
            assert_eq!((error.sqlstate(), out.as_slice()), ("08P01", &b""[..]));
            assert!(
                login.on_message(b'p', b"secret\0", &mut out).is_err(),
                "no second chance"
            );
            assert!(login.start(&mut out).is_err());
        }
    }
}

// S7
#[test]
fn no_body_is_longer_than_its_cap() {
    for mut login in waiting() {
        let longest = login.max_body();
        if longest > 0 {
            let error = login
                .on_message(b'p', &vec![b'a'; longest + 1], &mut Vec::new())
                .expect_err("too long");
            assert_eq!(
                error,
                AuthError::TooLong {
                    bytes: longest + 1,
                    longest
                }
            );
        }
    }
}

#[test]
fn a_password_message_is_one_string() {
    for body in [
        &b""[..],
        b"secret",
        b"secret\0x",
        b"secret\0\0",
        b"\0secret\0",
    ] {
        let mut login = login(Method::Password, SecretKind::Plain);
        login.start(&mut Vec::new()).unwrap();
        assert_eq!(
            login.on_message(b'p', body, &mut Vec::new()).unwrap_err(),
            AuthError::PasswordPacket,
            "{body:?}"
        );
    }
}

#[test]
fn a_wrong_first_message_is_malformed_and_not_a_wrong_password() {
    let first = "n,,n=,r=abc";
    let good = initial(SCRAM_SHA_256, first);
    let negative = |length: i32| [&good[..14], &length.to_be_bytes(), first.as_bytes()].concat();
    let cases: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"SCRAM-SHA-256".to_vec(),
        b"SCRAM-SHA-256\0".to_vec(),
        b"SCRAM-SHA-256\0\xff\xff\xff\xff".to_vec(),
        good[..good.len() - 1].to_vec(),
        [&good[..], b"x"].concat(),
        negative(-2),
        negative(i32::MIN),
        negative(i32::MAX),
        initial("SCRAM-SHA-1", first),
        initial("", first),
        initial(SCRAM_SHA_256_PLUS, "p=tls-server-end-point,,n=,r=abc"),
    ];
    let texts = [
        "",
        "n",
        "n,",
        "n,,",
        "n,,n=",
        "n,,n=,",
        "n,,n=,r=",
        "n,,r=abc",
        "x,,n=,r=abc",
        "n,a=x,n=,r=abc",
        "n,,m=x,n=,r=abc",
        "n,,n=,r=a c",
        "n,,n=,r=ä",
        "n,,n=,r=abc,",
        "n,,n=,r=abc,m=1",
        "n,,n=,r=abc,xx",
        "n,,n=,r=a\0b",
        "p=tls-unique,,n=,r=abc",
        "p=tls-server-end-point,,n=,r=abc",
        "p,,n=,r=abc",
        " n,,n=,r=abc",
    ];
    for body in cases
        .into_iter()
        .chain(texts.map(|text| initial(SCRAM_SHA_256, text)))
    {
        let mut login = login(Method::Scram, SecretKind::Scram);
        login.start(&mut Vec::new()).unwrap();
        let error = login
            .on_message(b'p', &body, &mut Vec::new())
            .expect_err("malformed");
        assert_eq!(
            error.sqlstate(),
            "08P01",
            "{:?}",
            String::from_utf8_lossy(&body)
        );
    }
    for good in ["n,,n=,r=abc", "y,,n=alice,r=abc", "n,,n=,r=abc,x=ext"] {
        let (_, challenge) = challenged(None, SCRAM_SHA_256, good).expect(good);
        assert!(
            challenge.starts_with("r=abcAQEB")
                && challenge.ends_with(",s=MDEyMzQ1Njc4OWFiY2RlZg==,i=3")
        );
    }
}

#[test]
fn the_binding_that_was_offered_is_the_binding_that_counts() {
    let hash: &[u8] = &[5; 32];
    let bound = "p=tls-server-end-point,,n=,r=abc";
    // Certificate, mechanism, first message, and how it is taken.
    let cases = [
        (Some(hash), SCRAM_SHA_256_PLUS, bound, None),
        (Some(hash), SCRAM_SHA_256, "n,,n=,r=abc", None),
        (Some(hash), SCRAM_SHA_256, "y,,n=,r=abc", Some("28000")),
        (Some(hash), SCRAM_SHA_256_PLUS, "n,,n=,r=abc", Some("08P01")),
        (Some(hash), SCRAM_SHA_256_PLUS, "y,,n=,r=abc", Some("08P01")),
        (Some(hash), SCRAM_SHA_256, bound, Some("08P01")),
        (None, SCRAM_SHA_256, "y,,n=,r=abc", None),
        (None, SCRAM_SHA_256, bound, Some("08P01")),
        (None, SCRAM_SHA_256_PLUS, bound, Some("08P01")),
    ];
    for (certificate, mechanism, first, sqlstate) in cases {
        let taken = challenged(certificate, mechanism, first);
        assert_eq!(
            taken.err().map(|error| error.sqlstate()),
            sqlstate,
            "{mechanism} {first}"
        );
    }
}

/// A right client-final for the challenge, changed by `change`.
fn last(challenge: &str, binding: &str, change: impl Fn(String) -> String) -> Vec<u8> {
    let first = ServerFirst::parse(challenge).unwrap();
    let keys = verifier().derivation(Password::new("secret")).run();
    let without_proof = format!("c={binding},r={}", first.nonce);
    let proof = AuthMessage {
        client_first: "n=,r=abc",
        server_first: challenge,
        client_final: &without_proof,
    }
    .prove(&keys);
    change(format!("{without_proof},p={}", nonce_text(&proof))).into_bytes()
}

#[test]
fn a_last_message_is_right_to_the_last_byte() {
    type Change = fn(String) -> String;
    let cases: [(&str, Change, Option<&str>); 14] = [
        ("biws", |text| text, None),
        ("eSws", |text| text, Some("08P01")),
        ("", |text| text, Some("08P01")),
        ("biws", |text| text.replace("r=abc", "r=abd"), Some("08P01")),
        ("biws", |text| text.replace(",p=", "x,p="), Some("08P01")),
        ("biws", |text| text.replace(",p=", ",x=1,p="), Some("28P01")),
        ("biws", |text| text.replace(",p=", ",m=1,p="), Some("08P01")),
        ("biws", |text| text + ",x=1", Some("08P01")),
        ("biws", |text| text + "=", Some("08P01")),
        (
            "biws",
            |text| text[..text.len() - 1].to_owned(),
            Some("08P01"),
        ),
        (
            "biws",
            |text| text.split(",p=").next().unwrap().to_owned(),
            Some("08P01"),
        ),
        (
            "biws",
            |text| text.split(",p=").next().unwrap().to_owned() + ",p=",
            Some("08P01"),
        ),
        (
            "biws",
            |text| text.split(",p=").next().unwrap().to_owned() + ",p=" + &nonce_text(&[0; 32]),
            Some("28P01"),
        ),
        ("biws", |text| text.replace("c=", "C="), Some("08P01")),
    ];
    for (binding, change, sqlstate) in cases {
        let (mut login, challenge) = challenged(None, SCRAM_SHA_256, "n,,n=,r=abc").unwrap();
        let body = last(&challenge, binding, change);
        let mut out = Vec::new();
        let ended = login.on_message(b'p', &body, &mut out);
        assert_eq!(
            ended.as_ref().err().map(AuthError::sqlstate),
            sqlstate,
            "{}",
            String::from_utf8_lossy(&body)
        );
        assert_eq!(
            out.is_empty(),
            ended.is_err(),
            "nothing is said to whoever fails"
        );
    }
}

// A proof is good for one challenge only.
#[test]
fn a_replayed_proof_fails() {
    let (_, challenge) = challenged(None, SCRAM_SHA_256, "n,,n=,r=abc").unwrap();
    let proof = last(&challenge, "biws", |text| text);
    let nonces = Nonces {
        scram: [9; 18],
        md5: [0; 4],
    };
    let stand_in = stand_in(SecretKind::Scram);
    let mut login = ClientLogin::new(
        "alice",
        Method::Scram,
        secret(SecretKind::Scram),
        &stand_in,
        &nonces,
    );
    login.start(&mut Vec::new()).unwrap();
    login
        .on_message(
            b'p',
            &initial(SCRAM_SHA_256, "n,,n=,r=abc"),
            &mut Vec::new(),
        )
        .unwrap();
    assert!(login.on_message(b'p', &proof, &mut Vec::new()).is_err());
    assert_ne!(Nonces::fresh().scram, Nonces::fresh().scram);
}

#[test]
fn an_independent_client_logs_in() {
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
    let hash: &[u8] = &[5; 32];
    for (certificate, mechanism, binding) in [
        (None, SCRAM_SHA_256, ChannelBinding::unsupported()),
        (None, SCRAM_SHA_256, ChannelBinding::unrequested()),
        (
            Some(hash),
            SCRAM_SHA_256_PLUS,
            ChannelBinding::tls_server_end_point(hash.to_vec()),
        ),
    ] {
        let login = login(Method::Scram, SecretKind::Scram);
        let mut login = certificate
            .into_iter()
            .fold(login, ClientLogin::with_certificate_hash);
        let mut theirs = ScramSha256::new(b"secret", binding);
        let mut out = Vec::new();
        login.start(&mut out).unwrap();
        out.clear();
        let first = initial(mechanism, std::str::from_utf8(theirs.message()).unwrap());
        login.on_message(b'p', &first, &mut out).unwrap();
        theirs.update(&out[9..]).unwrap();
        out.clear();
        let step = login.on_message(b'p', theirs.message(), &mut out).unwrap();
        assert!(matches!(step, LoginStep::Done(_)));
        let messages = messages(&out);
        theirs
            .finish(&messages[0].1[4..])
            .expect("we proved that we know the verifier");
        assert_eq!(messages[1], (b'R', vec![0; 4]));
    }
}

#[test]
fn pgwire_reads_what_we_ask() {
    use pgwire::messages::{DecodeContext, Message, startup::Authentication};
    let ask = |method, kind| {
        let mut out = Vec::new();
        login(method, kind)
            .with_certificate_hash(&[0; 32])
            .start(&mut out)
            .unwrap();
        Authentication::decode(&mut out.as_slice().into(), &DecodeContext::default())
            .unwrap()
            .unwrap()
    };
    assert_eq!(ask(Method::Trust, SecretKind::Plain), Authentication::Ok);
    assert_eq!(
        ask(Method::Password, SecretKind::Plain),
        Authentication::CleartextPassword
    );
    assert_eq!(
        ask(Method::Md5, SecretKind::Md5),
        Authentication::MD5Password(vec![1, 2, 3, 4])
    );
    let mechanisms = vec![SCRAM_SHA_256_PLUS.into(), SCRAM_SHA_256.into()];
    assert_eq!(
        ask(Method::Md5, SecretKind::Scram),
        Authentication::SASL(mechanisms.clone())
    );
    assert_eq!(
        ask(Method::Scram, SecretKind::Scram),
        Authentication::SASL(mechanisms)
    );
}

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let scram = "(n|y|p=tls-server-end-point|),(a=x)?,(n=[a-z]?,)?(r=[!-~]{0,12})?(,[a-z]=.{0,5})?";
    let last = "c=(biws|eSws|[a-zA-Z0-9+/=]{0,8}),r=(abcAQEBAQEBAQEBAQEBAQEBAQEBAQEB|[!-~]{0,9})(,p=[a-zA-Z0-9+/]{43}=)?";
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..120),
        scram.prop_map(|text| initial(SCRAM_SHA_256, &text)),
        last.prop_map(String::into_bytes),
        "[a-z]{0,9}".prop_map(|text| format!("{text}\0").into_bytes()),
    ]
}

proptest! {
    // Whatever is sent without knowing the password, nobody gets in and nothing panics.
    #[test]
    fn no_bytes_authenticate(
        tags in proptest::collection::vec(prop_oneof![9 => Just(b'p'), 1 => any::<u8>()], 3),
        bodies in proptest::collection::vec(any_body(), 3),
        which in 0_usize..8,
    ) {
        let mut login = waiting().swap_remove(which);
        for (tag, body) in tags.into_iter().zip(bodies) {
            prop_assume!(body != b"secret\0");
            let step = match login.on_message(tag, &body, &mut Vec::new()) {
                Ok(LoginStep::Derive(derivation)) => login.on_derived(derivation.run(), &mut Vec::new()),
                other => other,
            };
            prop_assert!(!matches!(step, Ok(LoginStep::Done(_))));
            if let Err(error) = step {
                error.put(&mut Vec::new());
            }
        }
    }

    #[test]
    fn only_the_same_password_logs_in(known in "[^\0]{1,8}", sent in "[^\0]{1,8}", same in any::<bool>(), by in 0_usize..3) {
        let sent = if same { known.clone() } else { sent };
        let method = [Method::Password, Method::Md5, Method::Scram][by];
        let plain = Secret::Plain { password: Password::new(known.clone()), verifier: None };
        let gate = ClientLogin::new("alice", method, LookedUp::Known(plain), &stand_in(SecretKind::Plain), &nonces());
        let guest = ServerLogin::new(target("alice"), Credentials::Password(Password::new(sent.clone())), LoginRules::default(), [3; 18]);
        let entered = matches!(talk(gate, guest), End::In(_));
        let normal = |text: &str| stringprep::saslprep(text).map_or(text.to_owned(), |text| text.into_owned());
        // SCRAM takes passwords for equal that SASLprep makes equal; the others compare bytes.
        let equal = known == sent || (method == Method::Scram && normal(&known) == normal(&sent));
        prop_assert_eq!(entered, equal);
    }
}
