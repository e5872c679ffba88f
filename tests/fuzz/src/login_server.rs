//! Our own login to a server that may be hostile.
//!
//! Promises: where SCRAM is required, a server that does not know the verifier is never taken for ready, and never
//! sees the password or its hash, whatever it sends; nobody makes us pay for more iterations, bytes or notices than the
//! limits say; a login ends; memory follows the bytes.

use mothership_proto::auth::server::{MAX_LOGIN_BODY, MAX_LOGIN_BYTES, MAX_NOTICES};
use mothership_proto::auth::{
    ClientLogin, Credentials, LoginRules, LoginStep, LookedUp, Md5Hash, Method, Nonces, Password,
    Secret, SecretKind, ServerLogin, ServerReport, ServerStep, StandIn, Target,
};
use mothership_proto::frame::{self, Next};
use mothership_proto::startup::Protocol;

use crate::input::Input;
use crate::login_client::{FEW, PASSWORD, USER, verifier};
use crate::memory::bounded;

/// Iterations that are derived here, at most.
const MAX_ITERATIONS: u32 = 5;

/// Rules and credentials, then who answers: the input alone, or a real server with one changed byte.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    let rules = LoginRules {
        require_scram: choice & 1 != 0,
        require_channel_binding: choice & 6 == 6,
        certificate_hash: (choice & 8 != 0).then(|| b"certificate".to_vec()),
        max_iterations: MAX_ITERATIONS,
    };
    let credentials = match input.below(4) {
        0 => Credentials::None,
        1 => Credentials::Md5(Md5Hash::from_password(&Password::new(PASSWORD), USER)),
        _ => Credentials::Password(Password::new(PASSWORD)),
    };
    let target = Target {
        protocol: input.one_of(&[Protocol::V3_0, Protocol::V3_2]),
        user: USER.into(),
        database: "d".into(),
        parameters: Vec::new(),
    };
    let login = ServerLogin::new(target, credentials, rules.clone(), [9; 18]);
    match input.below(3) {
        0 => by_a_server(login, &rules, &mut input),
        1 => hostile(login, &rules, messages(&mut input)),
        _ => hostile(login, &rules, authentication(&mut input)),
    }
    let body = &data[..data.len().min(MAX_LOGIN_BODY)];
    // A field becomes a string, with replacements three times as long, and a vector that doubles.
    bounded(4096 + body.len() * 64, "reading an error", || {
        ServerReport::parse(body)
    });
}

/// Any tags and bodies.
fn messages(input: &mut Input<'_>) -> Vec<(u8, Vec<u8>)> {
    let mut messages = Vec::new();
    while !input.is_empty() {
        let tag = input.one_of(b"RRRRSKZENv1D");
        let body = match tag {
            b'Z' => vec![input.one_of(b"IITE")],
            _ => input.bytes(255).to_vec(),
        };
        messages.push((tag, body));
    }
    messages
}

/// Requests for authentication by their codes, so that their insides are reached.
fn authentication(input: &mut Input<'_>) -> Vec<(u8, Vec<u8>)> {
    let mut messages = Vec::new();
    while !input.is_empty() {
        let code: u32 = input.one_of(&[0, 3, 5, 10, 11, 12, 2, 99]);
        let mut body = code.to_be_bytes().to_vec();
        match code {
            10 => body.extend_from_slice(input.one_of(&[
                &b"SCRAM-SHA-256\0\0"[..],
                b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
                b"SCRAM-SHA-256-PLUS\0\0",
                b"\0",
            ])),
            11 if input.below(2) == 0 => {
                // Our own nonce is known to a server that was asked.
                body.extend_from_slice(b"r=CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJ");
                body.extend_from_slice(input.bytes(100));
            }
            _ => body.extend_from_slice(input.bytes(100)),
        }
        messages.push((b'R', body));
        if input.below(4) == 0 {
            messages.push((b'Z', b"I".to_vec()));
        }
    }
    messages
}

/// A server that does not know the password.
fn hostile(mut login: ServerLogin, rules: &LoginRules, messages: Vec<(u8, Vec<u8>)>) {
    let mut out = Vec::new();
    login.start(&mut out).expect("a good target");
    let mut received = 0;
    let mut said = false;
    let mut asked_clear = false;
    let mut asked_md5 = false;
    for (tag, body) in messages {
        received += body.len() + 5;
        asked_clear |= tag == b'R' && body.starts_with(&[0, 0, 0, 3]);
        asked_md5 |= tag == b'R' && body.starts_with(&[0, 0, 0, 5]);
        let limit = 16 * 1024 + body.len() * 64 + received * 2;
        let step = bounded(limit, "a login", || login.on_message(tag, &body, &mut out));
        let step = match step {
            Ok(ServerStep::Derive(derivation)) => {
                assert!(
                    derivation.iterations().get() <= MAX_ITERATIONS,
                    "iterations are capped"
                );
                login.on_derived(&derivation.run(), &mut out)
            }
            step => step,
        };
        // Our last word repeats the server's nonce: what it has said itself is no secret.
        said |= contains(&body, PASSWORD.as_bytes());
        let secret = contains(&out, PASSWORD.as_bytes()) && !said;
        assert!(
            !secret || asked_clear && !rules.require_scram,
            "the password was sent"
        );
        let hash = out.len().checked_sub(36).map(|from| &out[from..]);
        let hashed = hash.is_some_and(|last| last.starts_with(b"md5") && last.ends_with(b"\0"));
        assert!(
            !hashed || asked_md5 && !rules.require_scram,
            "a hash was sent"
        );
        match step {
            Ok(ServerStep::Continue) => assert!(received <= MAX_LOGIN_BYTES, "bytes are counted"),
            Ok(ServerStep::Derive(_)) => panic!("a second derivation"),
            Ok(ServerStep::Ready(session)) => {
                assert!(
                    !rules.require_scram && !rules.require_channel_binding,
                    "not proven"
                );
                assert!(session.notices.len() <= MAX_NOTICES);
                assert!(session.key.is_empty() || (4..=256).contains(&session.key.len()));
                assert!(session.protocol <= Protocol::V3_2);
                return over(login);
            }
            Err(error) => {
                let _ = error.to_string();
                return over(login);
            }
        }
    }
}

/// A real server, whose user has this password or another one; one byte of its messages may be changed.
fn by_a_server(mut login: ServerLogin, rules: &LoginRules, input: &mut Input<'_>) {
    let method = input.one_of(&[Method::Scram, Method::Md5, Method::Password, Method::Trust]);
    let knows = input.below(2) == 0;
    let secret = Secret::Scram(verifier(if knows { PASSWORD } else { "another" }));
    let stand_in = StandIn::new([7; 32], FEW, SecretKind::Scram);
    let nonces = Nonces {
        scram: [1; 18],
        md5: [1; 4],
    };
    let mut server = ClientLogin::new(USER, method, LookedUp::Known(secret), &stand_in, &nonces);
    let changed_message = input.below(5);
    let (place, by) = (
        u16::from_be_bytes([input.byte(), input.byte()]),
        input.byte(),
    );
    let mut sent = Vec::new();
    login.start(&mut sent).expect("a good target");
    sent.clear();
    let mut answers = Vec::new();
    let mut step = server.start(&mut answers);
    let (mut number, mut changed) = (0, false);
    loop {
        while let Ok(LoginStep::Derive(derivation)) = step {
            step = server.on_derived(derivation.run(), &mut answers);
        }
        let Ok(done) = step else { return };
        let done = matches!(done, LoginStep::Done(_));
        let messages = std::mem::take(&mut answers);
        let mut rest = &messages[..];
        while let Ok(Next::Whole(frame)) = frame::next(rest, 1 << 20) {
            number += 1;
            let mut body = frame.body().to_vec();
            if number == changed_message && by != 0 && !body.is_empty() {
                let at = usize::from(place) % body.len();
                body[at] ^= by;
                changed = true;
            }
            let judged = match login.on_message(frame.tag(), &body, &mut sent) {
                Ok(ServerStep::Derive(derivation)) => {
                    login.on_derived(&derivation.run(), &mut sent)
                }
                judged => judged,
            };
            match judged {
                Ok(ServerStep::Continue) => {}
                Ok(other) => panic!("{other:?} before ReadyForQuery"),
                Err(error) => {
                    assert!(
                        changed
                            || rules.require_scram
                            || rules.require_channel_binding
                            || number == 1,
                        "a right server was refused: {error}"
                    );
                    return over(login);
                }
            }
            rest = &rest[frame.bytes.len()..];
        }
        if done {
            break;
        }
        let Ok(Next::Whole(frame)) = frame::next(&sent, 1 << 20) else {
            return;
        };
        let body = frame.body().to_vec();
        step = server.on_message(frame.tag(), &body, &mut answers);
        sent.clear();
    }
    let ready = matches!(
        login.on_message(b'Z', b"I", &mut sent),
        Ok(ServerStep::Ready(_))
    );
    assert!(ready || changed, "a server that let us in is ready");
    assert!(
        !ready || knows || method == Method::Trust,
        "the server has let somebody in with a wrong password"
    );
    assert!(
        // Asked for md5, a server with a SCRAM verifier does SCRAM.
        !ready || matches!(method, Method::Scram | Method::Md5) || !rules.require_scram,
        "less than the rules require"
    );
    over(login);
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

/// After its end a login takes nothing any more.
fn over(mut login: ServerLogin) {
    let mut out = Vec::new();
    assert!(login.on_message(b'R', &[0, 0, 0, 0], &mut out).is_err());
    assert!(login.start(&mut out).is_err());
    assert!(out.is_empty());
}

/// Every method of a real server, right and changed; what no server may ask for; errors with missing fields.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for choice in [0, 1, 9, 15] {
        for credentials in 0..3 {
            for method in 0..4 {
                seeds.push(vec![choice, credentials, 0, 0, method, 0, 0, 0, 0, 0]);
                seeds.push(vec![choice, credentials, 0, 0, method, 1, 2, 0, 9, 3]);
            }
            seeds.push(vec![choice, credentials, 0, 1, 0, 4, 0, 0, 0, 0, 6, 0]);
            seeds.push(
                [
                    &[choice, credentials, 0, 1, 7, 20][..],
                    b"SFATAL\0C28000\0Mno\0\0",
                ]
                .concat(),
            );
            seeds.push(
                [
                    &[choice, credentials, 1, 1, 9, 8][..],
                    b"\0\x03\0\x02\0\0\0\0",
                ]
                .concat(),
            );
            let challenge = b"Server,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=3";
            let mut scram = vec![
                choice,
                credentials,
                0,
                2,
                3,
                0,
                1,
                4,
                0,
                challenge.len() as u8,
            ];
            scram.extend_from_slice(challenge);
            scram.extend_from_slice(&[1, 5, 46]);
            scram.extend_from_slice(b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
            seeds.push(scram);
        }
    }
    seeds
}
