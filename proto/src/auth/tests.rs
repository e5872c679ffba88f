//! Both machines against each other, and against the one test vector that the RFC gives.

use std::num::NonZeroU32;

use super::{
    client::Reason,
    scram::{AuthMessage, ClientFinal, ClientFirst, ServerFirst, parse_server_final},
    *,
};
use crate::{
    frame::{self, Next},
    startup::Protocol,
};

pub(super) const FEW: NonZeroU32 = NonZeroU32::new(3).expect("not zero");

pub(super) fn stand_in(kind: SecretKind) -> StandIn {
    StandIn::new([7; 32], FEW, kind)
}

pub(super) fn nonces() -> Nonces {
    Nonces {
        scram: [1; 18],
        md5: [1, 2, 3, 4],
    }
}

pub(super) fn target(user: &str) -> Target {
    Target {
        protocol: Protocol::V3_0,
        user: user.into(),
        database: "d".into(),
        parameters: Vec::new(),
    }
}

/// Type byte and body of each message.
pub(super) fn messages(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let Ok(Next::Whole(frame)) = frame::next(bytes, 1 << 20) else {
            panic!("not whole: {bytes:?}")
        };
        messages.push((frame.tag(), frame.body().to_vec()));
        bytes = &bytes[5 + frame.body().len()..];
    }
    messages
}

/// What the client's side of a finished login says; derivations are run on the spot.
#[derive(Debug)]
pub(super) enum End {
    In(Authenticated),
    Out(AuthError),
    /// The side that logs in gave up.
    GaveUp(ServerLoginError),
}

/// Lets the two machines talk to each other.
pub(super) fn talk(mut gate: ClientLogin, mut guest: ServerLogin) -> End {
    let mut sent = Vec::new();
    guest.start(&mut sent).expect("a good target");
    let mut answers = Vec::new();
    let mut step = match gate.start(&mut answers) {
        Ok(step) => step,
        Err(error) => return End::Out(error),
    };
    loop {
        while let LoginStep::Derive(derivation) = step {
            step = match gate.on_derived(derivation.run(), &mut answers) {
                Ok(step) => step,
                Err(error) => return End::Out(error),
            };
        }
        sent.clear();
        for (tag, body) in messages(&std::mem::take(&mut answers)) {
            match guest.on_message(tag, &body, &mut sent) {
                Ok(ServerStep::Derive(derivation)) => {
                    guest
                        .on_derived(&derivation.run(), &mut sent)
                        .expect("asked for");
                }
                Ok(_) => {}
                Err(error) => return End::GaveUp(error),
            }
        }
        if let LoginStep::Done(authenticated) = step {
            return End::In(*authenticated);
        }
        let [(tag, body)] = &messages(&sent)[..] else {
            panic!("one message is due")
        };
        step = match gate.on_message(*tag, body, &mut answers) {
            Ok(step) => step,
            Err(error) => return End::Out(error),
        };
    }
}

fn gate(method: Method, looked_up: LookedUp, kind: SecretKind) -> ClientLogin {
    ClientLogin::new("alice", method, looked_up, &stand_in(kind), &nonces())
}

fn guest(credentials: Credentials) -> ServerLogin {
    ServerLogin::new(target("alice"), credentials, LoginRules::default(), [2; 18])
}

fn password(text: &str) -> Credentials {
    Credentials::Password(Password::new(text))
}

fn secrets(text: &str) -> [Secret; 4] {
    let password = Password::new(text);
    let verifier = Derivation::new(password.clone(), *b"0123456789abcdef", FEW).run();
    let verifier = Verifier::from_keys(&verifier);
    [
        Secret::Plain {
            password: password.clone(),
            verifier: None,
        },
        Secret::Plain {
            password: password.clone(),
            verifier: Some(verifier.clone()),
        },
        Secret::Md5(Md5Hash::from_password(&password, "alice")),
        Secret::Scram(verifier),
    ]
}

const KINDS: [SecretKind; 3] = [SecretKind::Plain, SecretKind::Md5, SecretKind::Scram];
const ASKING: [Method; 3] = [Method::Password, Method::Md5, Method::Scram];

#[test]
fn the_right_password_logs_in_by_every_method_and_every_secret_that_can_tell() {
    for text in ["secret", "pässwörd \u{a0} ½", "x"] {
        for secret in secrets(text) {
            for method in ASKING {
                let hopeless = method == Method::Scram && secret.kind() == SecretKind::Md5;
                match talk(
                    gate(method, LookedUp::Known(secret.clone()), SecretKind::Scram),
                    guest(password(text)),
                ) {
                    End::In(authenticated) if !hopeless => assert_eq!(authenticated.user, "alice"),
                    End::Out(AuthError::Failed {
                        reason: Reason::NoScramSecret,
                        ..
                    }) if hopeless => {}
                    other => panic!("{method:?} {secret:?}: {other:?}"),
                }
            }
        }
    }
}

// S3, S11, S14, S20
#[test]
fn whoever_may_not_come_in_hears_the_same_words_whatever_the_reason() {
    let mut cases: Vec<(LookedUp, &str)> = vec![
        (LookedUp::Unknown, "secret"),
        (LookedUp::NoPassword, "secret"),
        (LookedUp::Expired, "secret"),
        (LookedUp::Unknown, ""),
    ];
    for wrong in ["Secret", "secret ", "secre", ""] {
        cases.extend(secrets("secret").map(|secret| (LookedUp::Known(secret), wrong)));
    }
    // An empty password of the user fails too.
    cases.extend(
        secrets("")
            .into_iter()
            .take(3)
            .map(|secret| (LookedUp::Known(secret), "")),
    );
    for kind in KINDS {
        for method in ASKING {
            for (looked_up, sent) in &cases {
                let End::Out(error) =
                    talk(gate(method, looked_up.clone(), kind), guest(password(sent)))
                else {
                    panic!("{method:?} {looked_up:?} {sent:?} came in")
                };
                let mut out = Vec::new();
                error.put(&mut out);
                let expected = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"alice\"\0\0";
                assert_eq!(out[5..], expected[..], "{method:?} {looked_up:?} {sent:?}");
            }
        }
    }
}

#[test]
fn trust_takes_whoever_exists_and_reject_nobody() {
    for looked_up in [
        LookedUp::NoPassword,
        LookedUp::Expired,
        LookedUp::Known(secrets("x")[0].clone()),
    ] {
        let end = talk(
            gate(Method::Trust, looked_up.clone(), SecretKind::Plain),
            guest(Credentials::None),
        );
        assert!(matches!(
            end,
            End::In(Authenticated {
                proof: Proof::Trusted,
                ..
            })
        ));
        let end = talk(
            gate(Method::Reject, looked_up, SecretKind::Plain),
            guest(password("x")),
        );
        let End::Out(error) = end else {
            panic!("came in")
        };
        assert_eq!(error.sqlstate(), "28000");
    }
    let end = talk(
        gate(Method::Trust, LookedUp::Unknown, SecretKind::Plain),
        guest(Credentials::None),
    );
    assert!(matches!(
        end,
        End::Out(AuthError::Failed {
            reason: Reason::Unknown,
            ..
        })
    ));
}

// S11: the challenge to an unknown user has the form of a known one's, and is the same at every try.
#[test]
fn a_stand_in_looks_like_a_user() {
    let challenge = |login: &mut ClientLogin| {
        let mut out = Vec::new();
        assert!(matches!(login.start(&mut out), Ok(LoginStep::Continue)));
        if out[8] == 10 {
            out.clear();
            let first = b"SCRAM-SHA-256\0\0\0\0\x09n,,n=,r=x";
            login
                .on_message(b'p', first, &mut out)
                .expect("a good first message");
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    for (kind, secret) in [
        (SecretKind::Plain, 1),
        (SecretKind::Md5, 2),
        (SecretKind::Scram, 3),
    ] {
        for method in ASKING {
            let known = challenge(&mut gate(
                method,
                LookedUp::Known(secrets("secret")[secret].clone()),
                kind,
            ));
            for nobody in [LookedUp::Unknown, LookedUp::NoPassword, LookedUp::Expired] {
                let mock = challenge(&mut gate(method, nobody.clone(), kind));
                assert_eq!(mock.len(), known.len(), "{method:?} {kind:?}");
                assert_eq!(mock, challenge(&mut gate(method, nobody, kind)));
            }
        }
    }
    // A prepared plain password has the salt that its owner would have if he did not exist.
    let plain = secrets("secret")[0]
        .clone()
        .prepared("alice", &stand_in(SecretKind::Plain));
    let known = challenge(&mut gate(
        Method::Scram,
        LookedUp::Known(plain),
        SecretKind::Plain,
    ));
    assert_eq!(
        known,
        challenge(&mut gate(
            Method::Scram,
            LookedUp::Unknown,
            SecretKind::Plain
        ))
    );
    let other = ClientLogin::new(
        "bob",
        Method::Scram,
        LookedUp::Unknown,
        &stand_in(SecretKind::Plain),
        &nonces(),
    );
    assert_ne!(known, challenge(&mut { other }));
}

#[test]
fn the_keys_of_a_scram_login_log_in_wherever_the_verifier_is_the_same() {
    let secret = secrets("secret")[3].clone();
    let end = talk(
        gate(
            Method::Scram,
            LookedUp::Known(secret.clone()),
            SecretKind::Scram,
        ),
        guest(password("secret")),
    );
    let End::In(Authenticated {
        proof: Proof::Scram(keys),
        ..
    }) = end
    else {
        panic!("{end:?}")
    };
    let pass = || guest(Credentials::Scram(keys.clone()));

    let end = talk(
        gate(Method::Scram, LookedUp::Known(secret), SecretKind::Scram),
        pass(),
    );
    assert!(
        matches!(
            end,
            End::In(Authenticated {
                proof: Proof::Scram(_),
                ..
            })
        ),
        "{end:?}"
    );

    for (salt, count) in [(*b"another salt 123", 3), (*b"0123456789abcdef", 4)] {
        let count = NonZeroU32::new(count).expect("not zero");
        let other =
            Verifier::from_password(&Password::new("secret"), &salt, count).expect("not empty");
        let end = talk(
            gate(
                Method::Scram,
                LookedUp::Known(Secret::Scram(other)),
                SecretKind::Scram,
            ),
            pass(),
        );
        assert!(
            matches!(end, End::GaveUp(ServerLoginError::OtherVerifier)),
            "{end:?}"
        );
    }
    for method in [Method::Password, Method::Md5] {
        let end = talk(
            gate(
                method,
                LookedUp::Known(secrets("secret")[2].clone()),
                SecretKind::Scram,
            ),
            pass(),
        );
        assert!(
            matches!(end, End::GaveUp(ServerLoginError::NoCredentials { .. })),
            "{end:?}"
        );
    }
}

#[test]
fn an_md5_hash_logs_in_by_md5_alone() {
    let hash = || Credentials::Md5(Md5Hash::from_password(&Password::new("secret"), "alice"));
    let end = talk(
        gate(
            Method::Md5,
            LookedUp::Known(secrets("secret")[2].clone()),
            SecretKind::Md5,
        ),
        guest(hash()),
    );
    assert!(matches!(
        end,
        End::In(Authenticated {
            proof: Proof::Md5,
            ..
        })
    ));
    for (method, secret) in [(Method::Password, 2), (Method::Scram, 3)] {
        let end = talk(
            gate(
                method,
                LookedUp::Known(secrets("secret")[secret].clone()),
                SecretKind::Md5,
            ),
            guest(hash()),
        );
        assert!(matches!(
            end,
            End::GaveUp(ServerLoginError::NoCredentials { .. })
        ));
    }
}

// S25
#[test]
fn channel_binding_binds_and_its_absence_is_noticed() {
    let known = || LookedUp::Known(secrets("secret")[3].clone());
    let gate = |hash: Option<&[u8]>| {
        let gate = gate(Method::Scram, known(), SecretKind::Scram);
        hash.into_iter()
            .fold(gate, ClientLogin::with_certificate_hash)
    };
    let guest = |hash: Option<&[u8]>, require_channel_binding| {
        let rules = LoginRules {
            require_channel_binding,
            certificate_hash: hash.map(Into::into),
            ..LoginRules::default()
        };
        ServerLogin::new(target("alice"), password("secret"), rules, [2; 18])
    };
    let (one, two): (&[u8], &[u8]) = (&[1; 32], &[2; 32]);
    assert!(matches!(
        talk(gate(Some(one)), guest(Some(one), true)),
        End::In(_)
    ));
    assert!(matches!(
        talk(gate(Some(one)), guest(None, false)),
        End::In(_)
    ));
    assert!(matches!(
        talk(gate(None), guest(Some(one), false)),
        End::In(_)
    ));
    assert!(matches!(
        talk(gate(Some(one)), guest(Some(two), true)),
        End::Out(AuthError::ChannelBinding)
    ));
    for (hash, rules) in [(None, Some(one)), (Some(one), None), (None, None)] {
        let end = talk(gate(hash), guest(rules, true));
        assert!(
            matches!(end, End::GaveUp(ServerLoginError::Downgrade { .. })),
            "{end:?}"
        );
    }
}

#[test]
fn rfc_7677_is_computed_as_it_is_written() {
    let client_first = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    let server_first =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    let client_final = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let server_final = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    let first = ClientFirst::parse(client_first).expect("client-first");
    let challenge = ServerFirst::parse(server_first).expect("server-first");
    let last = ClientFinal::parse(client_final).expect("client-final");
    let count = NonZeroU32::new(challenge.iterations).expect("not zero");
    let keys = Derivation::new(Password::new("pencil"), challenge.salt, count).run();
    let auth_message = AuthMessage {
        client_first: first.bare,
        server_first,
        client_final: last.without_proof,
    };
    assert_eq!(auth_message.prove(&keys), last.proof);
    assert_eq!(
        auth_message.sign(&keys.server_key),
        parse_server_final(server_final).expect("server-final")
    );

    let recovered = Verifier::from_keys(&keys)
        .check(&last.proof, &auth_message)
        .expect("right");
    assert_eq!(recovered.client_key, keys.client_key);
    let server_nonce = challenge
        .nonce
        .strip_prefix(first.nonce)
        .expect("begins with the client's");
    assert_eq!(
        ServerFirst::write(first.nonce, server_nonce, &Verifier::from_keys(&keys)),
        server_first
    );
}

#[test]
fn verifiers_and_hashes_are_those_of_postgres_protocol() {
    for text in ["secret", "päss ½\u{2168}", "a\u{ad}b", "\u{7}bell", "IX"] {
        let theirs = postgres_protocol::password::scram_sha_256(text.as_bytes());
        let verifier = Verifier::parse(&theirs).expect("a verifier");
        assert_eq!(*verifier.to_text(), theirs);
        assert!(
            verifier.accepts(&verifier.derivation(Password::new(text)).run()),
            "{text}"
        );
        assert!(!verifier.accepts(&verifier.derivation(Password::new(format!("{text}x"))).run()));

        let theirs = postgres_protocol::password::md5(text.as_bytes(), "u");
        let hash = Md5Hash::parse(&theirs).expect("a hash");
        assert!(hash.matches(&Md5Hash::from_password(&Password::new(text), "u")));
        let answer =
            postgres_protocol::authentication::md5_hash(b"u", text.as_bytes(), [1, 2, 3, 4]);
        assert_eq!(*hash.answer([1, 2, 3, 4]), answer);
    }
    // A Latin-1 password is no UTF-8 and is taken as it is.
    let latin: &[u8] = b"p\xe4ss";
    let verifier =
        Verifier::parse(&postgres_protocol::password::scram_sha_256(latin)).expect("a verifier");
    assert!(verifier.accepts(&verifier.derivation(Password::new(latin)).run()));
}

#[test]
fn secrets_are_recognised_by_their_form() {
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let scram = |middle: &str| format!("SCRAM-SHA-256${middle}${key}:{key}");
    let cases = [
        (scram("4096:c2FsdA=="), Some(SecretKind::Scram)),
        (scram("0:c2FsdA=="), Some(SecretKind::Plain)),
        (scram("-1:c2FsdA=="), Some(SecretKind::Plain)),
        (scram("4294967296:c2FsdA=="), Some(SecretKind::Plain)),
        (scram("4096:"), Some(SecretKind::Plain)),
        (scram("4096:!"), Some(SecretKind::Plain)),
        (
            format!("SCRAM-SHA-256$4096:c2FsdA==${key}"),
            Some(SecretKind::Plain),
        ),
        (
            format!("SCRAM-SHA-256$4096:c2FsdA==$c2FsdA==:{key}"),
            Some(SecretKind::Plain),
        ),
        (
            "md50123456789abcdef0123456789abcdef".into(),
            Some(SecretKind::Md5),
        ),
        (
            "md50123456789abcdef0123456789abcde".into(),
            Some(SecretKind::Plain),
        ),
        ("md5".into(), Some(SecretKind::Plain)),
        ("secret".into(), Some(SecretKind::Plain)),
        (String::new(), None),
    ];
    for (text, kind) in cases {
        assert_eq!(
            Secret::parse(&text).map(|secret| secret.kind()),
            kind,
            "{text}"
        );
    }
}

#[test]
fn the_cache_finds_only_the_same_password_salt_and_count() {
    let derivation = |password: &str, salt: &str, count: u32| {
        Derivation::new(
            Password::new(password),
            salt,
            NonZeroU32::new(count).expect("not zero"),
        )
    };
    let mut cache = KeyCache::new(2);
    let first = derivation("p", "s", 1);
    cache.insert(first.clone(), first.run());
    assert_eq!(
        cache.get(&first).map(|keys| keys.client_key),
        Some(first.run().client_key)
    );
    for other in [
        derivation("q", "s", 1),
        derivation("p", "t", 1),
        derivation("p", "s", 2),
    ] {
        assert!(cache.get(&other).is_none());
    }
    let (second, third) = (derivation("p", "t", 1), derivation("p", "u", 1));
    cache.insert(second.clone(), second.run());
    assert!(cache.get(&first).is_some());
    cache.insert(third.clone(), third.run());
    assert!(
        cache.get(&second).is_none(),
        "the one that was used the longest ago is forgotten"
    );
    assert!(cache.get(&first).is_some() && cache.get(&third).is_some());

    let mut none = KeyCache::new(0);
    none.insert(first.clone(), first.run());
    assert!(none.get(&first).is_none());
}

// S12
#[test]
fn no_debug_output_shows_a_secret() {
    let mut shown = String::new();
    for secret in secrets("hunter2") {
        let keys = Derivation::new(Password::new("hunter2"), *b"salt", FEW).run();
        shown += &format!("{secret:?} {keys:?} {:?}", stand_in(SecretKind::Plain));
        for method in ASKING {
            let mut login = gate(method, LookedUp::Known(secret.clone()), SecretKind::Scram);
            shown += &format!("{login:?}");
            let step = login.start(&mut Vec::new());
            shown += &format!("{login:?} {step:?}");
            if method == Method::Password {
                let step = login.on_message(b'p', b"hunter2\0", &mut Vec::new());
                shown += &format!("{login:?} {step:?}");
            }
        }
        let login = guest(Credentials::Scram(keys.clone()));
        shown += &format!("{login:?} {:?}", guest(password("hunter2")));
    }
    // The password, the hash's and keys' first bytes as text or as a list of numbers.
    let hash = Md5Hash::from_password(&Password::new("hunter2"), "alice").answer([0; 4]);
    for forbidden in [
        "hunter2",
        "104, 117, 110",
        &hash[3..],
        "stored_key",
        "[7, 7, 7",
    ] {
        assert!(!shown.contains(forbidden), "{forbidden} in {shown}");
    }
}

/// Whether a type has `==`. An inherent constant hides one of a trait, and is there only under its condition.
macro_rules! has_equality {
    ($type:ty) => {{
        struct Probe<T>(std::marker::PhantomData<T>);
        #[allow(dead_code)]
        trait Otherwise {
            const FOUND: bool = false;
        }
        impl<T> Otherwise for Probe<T> {}
        #[allow(dead_code)]
        impl<T: PartialEq> Probe<T> {
            const FOUND: bool = true;
        }
        Probe::<$type>::FOUND
    }};
}

// `==` stops at the first byte that differs. See: pgdog, supavisor
#[test]
fn what_proves_a_user_has_no_comparison_that_stops_early() {
    assert!(has_equality!(Vec<u8>), "the probe finds what is there");
    assert!(!has_equality!(Password));
    assert!(!has_equality!(Md5Hash));
    assert!(!has_equality!(ScramKeys));
    assert!(!has_equality!(Verifier));
    assert!(!has_equality!(Secret));
    assert!(!has_equality!(LookedUp));
    assert!(!has_equality!(Derivation));
    assert!(!has_equality!(Proof));
}

#[test]
fn comparisons_of_secrets_look_at_every_byte_and_at_the_length() {
    let right = "correct horse";
    let mut wrong: Vec<Vec<u8>> = (0..right.len())
        .flat_map(|at| {
            (0..8).map(move |bit| {
                let mut bytes = right.as_bytes().to_vec();
                bytes[at] ^= 1 << bit;
                bytes
            })
        })
        .collect();
    wrong.extend((0..right.len()).map(|length| right.as_bytes()[..length].to_vec()));
    wrong.push(format!("{right}!").into_bytes());
    wrong.push(format!("{right}{right}").into_bytes());
    let password = Password::new(right);
    let hash = Md5Hash::from_password(&password, "alice");
    let verifier = Verifier::from_keys(&Derivation::new(password.clone(), *b"salt", FEW).run());
    let accepts = |guess: &Password| {
        [
            password.matches(guess),
            hash.matches(&Md5Hash::from_password(guess, "alice")),
            verifier.accepts(&verifier.derivation(guess.clone()).run()),
        ]
    };
    assert_eq!(accepts(&Password::new(right)), [true; 3]);
    for guess in wrong {
        assert_eq!(
            accepts(&Password::new(guess.clone())),
            [false; 3],
            "{guess:?}"
        );
    }
}
