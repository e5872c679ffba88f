//! The login of a client: we are the server, and the client sends what it likes.
//!
//! Promises: whoever does not prove the password of a user who may log in is not let in, however right proofs are
//! changed on their way; whoever does is let in; a login ends after two messages at most, and after its end nothing
//! is accepted; what is said to an unknown user has the form of what is said to a known one.

use std::num::NonZeroU32;

use mothership_proto::auth::{
    ClientLogin, Credentials, Derivation, LoginRules, LoginStep, LookedUp, Md5Hash, Method, Nonces,
    Password, Secret, SecretKind, ServerLogin, ServerStep, StandIn, Target, Verifier,
};
use mothership_proto::frame::{self, Next};
use mothership_proto::startup::Protocol;

use crate::input::Input;

/// Forms that the messages of a login have.
pub const WORDS: &[&str] = &[
    "SCRAM-SHA-256",
    "SCRAM-SHA-256-PLUS",
    "n,,",
    "y,,",
    "p=tls-server-end-point,,",
    "n=",
    "r=",
    "c=biws",
    "c=eSws",
    "p=",
    "s=",
    "i=3",
    "i=4096",
    "i=0",
    "v=",
    "e=",
    ",",
    "md5",
    "a=",
    "m=",
];

/// The one user who may log in.
pub const USER: &str = "alice";

/// His password.
pub const PASSWORD: &str = "correct horse battery staple";

/// Cheap keys: it is not the cost that is tested.
pub const FEW: NonZeroU32 = NonZeroU32::new(3).expect("not zero");

/// Messages of a login at most, whatever they say.
const MAX_MESSAGES: usize = 3;

/// Method, what is known of the user, who logs in and what changes on the way; then messages, if he makes up his own.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let method = input.one_of(&[
        Method::Scram,
        Method::Scram,
        Method::Md5,
        Method::Password,
        Method::Trust,
        Method::Reject,
    ]);
    let looked_up = known(input.below(8));
    let kind = input.one_of(&[SecretKind::Scram, SecretKind::Md5, SecretKind::Plain]);
    // Random bytes of a login are never used twice: no recorded proof fits.
    let nonces = nonces(data);
    let stand_in = StandIn::new([7; 32], FEW, kind);
    let login = ClientLogin::new(USER, method, looked_up.clone(), &stand_in, &nonces);
    let login = match input.below(4) {
        0 => login.with_certificate_hash(b"certificate"),
        _ => login,
    };
    match input.below(3) {
        0 => freely(login, method, &looked_up, &mut input, nonces.md5),
        _ => by_a_client(login, method, &looked_up, &mut input),
    }
}

fn nonces(data: &[u8]) -> Nonces {
    let mut nonces = Nonces {
        scram: [1; 18],
        md5: [1; 4],
    };
    for (at, byte) in data.iter().enumerate() {
        let here = &mut nonces.scram[at % 18];
        *here = here.rotate_left(3) ^ byte;
        nonces.md5[at % 4] = nonces.md5[at % 4].rotate_left(3) ^ byte;
    }
    nonces
}

/// What may be known of the user.
fn known(which: usize) -> LookedUp {
    match which {
        0 => LookedUp::Unknown,
        1 => LookedUp::Expired,
        2 => LookedUp::NoPassword,
        3 | 4 => LookedUp::Known(Secret::Scram(verifier(PASSWORD))),
        5 => LookedUp::Known(Secret::Md5(Md5Hash::from_password(
            &Password::new(PASSWORD),
            USER,
        ))),
        6 => LookedUp::Known(Secret::Plain {
            password: Password::new(PASSWORD),
            verifier: None,
        }),
        _ => LookedUp::Known(Secret::Plain {
            password: Password::new(PASSWORD),
            verifier: Some(verifier(PASSWORD)),
        }),
    }
}

/// The verifier of a password.
pub fn verifier(password: &str) -> Verifier {
    let keys = Derivation::new(Password::new(password), *b"0123456789abcdef", FEW).run();
    Verifier::from_keys(&keys)
}

/// Whether this user may come in at all.
fn may_come(method: Method, looked_up: &LookedUp) -> bool {
    match method {
        Method::Reject => false,
        Method::Trust => !matches!(looked_up, LookedUp::Unknown),
        _ => matches!(looked_up, LookedUp::Known(_)),
    }
}

/// How one step of a login went, derivations done.
#[derive(Debug, PartialEq, Eq)]
enum Now {
    In,
    Out,
    On,
}

fn settle(
    login: &mut ClientLogin,
    step: Result<LoginStep, mothership_proto::auth::AuthError>,
    out: &mut Vec<u8>,
) -> Now {
    let mut step = step;
    loop {
        step = match step {
            Ok(LoginStep::Derive(derivation)) => {
                assert_eq!(derivation.iterations(), FEW);
                login.on_derived(derivation.run(), out)
            }
            Ok(LoginStep::Continue) => return Now::On,
            Ok(LoginStep::Done(authenticated)) => {
                assert_eq!(authenticated.user, USER);
                return Now::In;
            }
            Err(error) => {
                let mut message = Vec::new();
                error.put(&mut message);
                let Ok(Next::Whole(frame)) = frame::next(&message, 1 << 20) else {
                    panic!("not a message")
                };
                assert_eq!((frame.tag(), frame.bytes.len()), (b'E', message.len()));
                return Now::Out;
            }
        }
    }
}

/// Messages out of the input. None of them knows the nonces, so no proof is right; a password may be.
fn freely(
    mut login: ClientLogin,
    method: Method,
    looked_up: &LookedUp,
    input: &mut Input<'_>,
    salt: [u8; 4],
) {
    let mut out = Vec::new();
    let step = login.start(&mut out);
    let mut now = settle(&mut login, step, &mut out);
    let mut right = method == Method::Trust;
    let mut messages = 0;
    while now == Now::On && !input.is_empty() {
        messages += 1;
        assert!(messages <= MAX_MESSAGES, "a login ends");
        let tag = input.one_of(b"pppppppQBX\0");
        let longest = login.max_body();
        let sent = match input.below(4) {
            0 => format!("{PASSWORD}\0").into_bytes(),
            1 => vec![b'x'; longest + 1],
            2 => scram_initial(input),
            _ => input.bytes(255).to_vec(),
        };
        right = tag == b'p'
            && match method {
                // Against a verifier a password is right as SASLprep writes it: a joiner more is no other password.
                Method::Password => match (looked_up, sent.split_last()) {
                    (LookedUp::Known(Secret::Scram(verifier)), Some((0, sent))) => {
                        let keys = verifier.derivation(Password::new(sent)).run();
                        !sent.is_empty() && !sent.contains(&0) && verifier.accepts(&keys)
                    }
                    _ => sent == format!("{PASSWORD}\0").as_bytes(),
                },
                Method::Md5 => {
                    let hash = Md5Hash::from_password(&Password::new(PASSWORD), USER);
                    sent == format!("{}\0", *hash.answer(salt)).as_bytes()
                }
                _ => false,
            };
        let step = login.on_message(tag, &sent, &mut out);
        now = settle(&mut login, step, &mut out);
        assert!(
            sent.len() <= longest || now == Now::Out,
            "longer than is read"
        );
    }
    if now != Now::On {
        assert_eq!(
            now == Now::In,
            right && may_come(method, looked_up),
            "{method:?} {looked_up:?}"
        );
        over(login, &mut out);
    }
}

/// A SASLInitialResponse with its length, so that what is in it is reached.
fn scram_initial(input: &mut Input<'_>) -> Vec<u8> {
    let mut body = input
        .one_of(&["SCRAM-SHA-256\0", "SCRAM-SHA-256-PLUS\0", "SCRAM-SHA-1\0"])
        .as_bytes()
        .to_vec();
    let data = input.bytes(200);
    body.extend_from_slice(&(data.len() as i32).to_be_bytes());
    body.extend_from_slice(data);
    body
}

/// A real client with some password, and somebody who may change one byte of one of its messages.
fn by_a_client(
    mut login: ClientLogin,
    method: Method,
    looked_up: &LookedUp,
    input: &mut Input<'_>,
) {
    let password = input.one_of(&[
        PASSWORD,
        PASSWORD,
        "wrong",
        "",
        "correct horse battery staple ",
    ]);
    let changed_message = input.below(4);
    let (place, by) = (
        u16::from_be_bytes([input.byte(), input.byte()]),
        input.byte(),
    );
    let target = Target {
        protocol: Protocol::V3_0,
        user: USER.into(),
        database: "d".into(),
        parameters: Vec::new(),
    };
    let credentials = Credentials::Password(Password::new(password));
    let mut guest = ServerLogin::new(target, credentials, LoginRules::default(), [2; 18]);
    let mut startup = Vec::new();
    guest.start(&mut startup).expect("a good target");
    let mut answers = Vec::new();
    let step = login.start(&mut answers);
    let mut now = settle(&mut login, step, &mut answers);
    let mut changed = false;
    for number in 1..=MAX_MESSAGES {
        if now != Now::On {
            break;
        }
        let mut sent = Vec::new();
        if !answer(&mut guest, &std::mem::take(&mut answers), &mut sent) {
            // The client has given up, over a message that was changed or a method that it cannot do.
            return;
        }
        let Ok(Next::Whole(frame)) = frame::next(&sent, 1 << 20) else {
            panic!("one message is due")
        };
        let mut body = frame.body().to_vec();
        if number == changed_message && by != 0 && !body.is_empty() {
            let at = usize::from(place) % body.len();
            body[at] ^= by;
            changed = true;
        }
        let step = login.on_message(frame.tag(), &body, &mut answers);
        now = settle(&mut login, step, &mut answers);
    }
    assert_ne!(now, Now::On, "a login ends");
    let right = password == PASSWORD && !changed || method == Method::Trust;
    assert_eq!(
        now == Now::In,
        right && may_come(method, looked_up) && fits(method, looked_up),
        "{method:?} {looked_up:?} {password:?} changed {changed}"
    );
    over(login, &mut answers);
}

/// SCRAM needs a verifier or a password to make one of; an md5 hash is neither.
fn fits(method: Method, looked_up: &LookedUp) -> bool {
    method != Method::Scram || !matches!(looked_up, LookedUp::Known(Secret::Md5(_)))
}

/// Lets the client read the server's messages; false if it gives up.
fn answer(guest: &mut ServerLogin, mut messages: &[u8], sent: &mut Vec<u8>) -> bool {
    while let Ok(Next::Whole(frame)) = frame::next(messages, 1 << 20) {
        match guest.on_message(frame.tag(), frame.body(), sent) {
            Ok(ServerStep::Derive(derivation)) => {
                guest
                    .on_derived(&derivation.run(), sent)
                    .expect("asked for");
            }
            Ok(_) => {}
            Err(_) => return false,
        }
        messages = &messages[frame.bytes.len()..];
    }
    true
}

/// After its end a login takes nothing any more, and needs no bytes for that.
fn over(mut login: ClientLogin, out: &mut Vec<u8>) {
    assert_eq!(login.max_body(), 0);
    assert!(login.on_message(b'p', b"x\0", out).is_err());
    assert!(login.start(out).is_err());
}

/// Each method with each kind of user: a right client, a wrong one, a changed message, and messages of no client.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for method in 0..6 {
        for user in 0..8 {
            seeds.push(vec![method, user, 0, 1, 1, 0, 0, 0, 0, 0]);
            seeds.push(vec![method, user, 0, 1, 1, 2, 0, 0, 0, 0]);
            seeds.push(vec![method, user, 1, 1, 2, 0, 1, 0, 30, 1]);
            seeds.push(vec![method, user, 2, 0, 2, 0, 2, 0, 40, 2]);
        }
        seeds.push(vec![method, 6, 0, 1, 0, 0, 0]);
        let mut made_up = vec![method, 3, 0, 1, 0, 0, 2, 0, 16];
        made_up.extend_from_slice(b"n,,n=alice,r=abc");
        made_up.extend_from_slice(&[0, 3, 60]);
        made_up.extend_from_slice(b"c=biws,r=abc,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        seeds.push(made_up);
    }
    // A word joiner (U+2060) is nothing to SASLprep: the password is right for a verifier, as in PostgreSQL.
    seeds.push(b"'li\0\0SCb\xe2\x81\xa0correct horse battery staple\0".to_vec());
    seeds
}
