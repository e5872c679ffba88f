//! Logins by SCRAM that lie.

use crate::ask::say;
use crate::world::{NARROW, SOON, World};
use mothership_tests::message::{self, V3_0};
use mothership_tests::proof::Verdict;
use mothership_tests::shared::PASSWORD;
use mothership_tests::{Frame, Wire};
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};

/// Longer than any message of a login.
const LONG: usize = 1 << 20;

/// 55: each is refused, with the same words for the same fault.
pub fn lies(world: &mut World<'_>, verdict: &mut Verdict) {
    let mut known = world.narrow();
    let told = |user: &str, password: &[u8], change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let mut wire = begin(world, user);
        let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
        wire.send(&message::sasl_initial(SCRAM_SHA_256, scram.message()));
        let challenge = match continues(&mut wire) {
            Ok(challenge) => challenge,
            Err(error) => return error,
        };
        scram.update(&challenge).unwrap();
        let proof = change(scram.message().to_vec());
        wire.send(&message::sasl_response(&proof));
        refused(&mut wire)
    };
    let same = |proof: Vec<u8>| proof;
    // What is told of a password that is wrong, whatever is wrong with it.
    let mut shapes = Vec::new();
    let flip = |mut proof: Vec<u8>| {
        let last = proof.len() - 5;
        proof[last] = if proof[last] == b'A' { b'B' } else { b'A' };
        proof
    };
    for (what, frame) in [
        ("a wrong password", told(NARROW, b"guess", &same)),
        ("an empty password", told(NARROW, b"", &same)),
        ("a wrong proof", told(NARROW, PASSWORD.as_bytes(), &flip)),
        (
            "an unknown user",
            told("nobody", PASSWORD.as_bytes(), &same),
        ),
    ] {
        let state = frame.sqlstate();
        verdict.claim(state == "28P01", &format!("{what} is refused"), &frame);
        let user = if what == "an unknown user" {
            "nobody"
        } else {
            NARROW
        };
        let fields = ['S', 'V', 'C', 'M', 'D', 'H'];
        let fields = fields.map(|code| frame.field(code).unwrap_or_default());
        shapes.push(fields.map(|field| field.replace(user, "USER")));
    }
    let alike = shapes.iter().all(|shape| *shape == shapes[0]);
    verdict.claim(alike, "all are told the same", format!("{:?}", shapes[0]));

    let first = |binding: &str| format!("{binding},n=,r=abcdefghijklmnopqrstuvwx");
    for (what, frame) in [
        ("what another login has said", replayed(world)),
        (
            "another nonce",
            told(NARROW, PASSWORD.as_bytes(), &|proof| {
                let text = String::from_utf8(proof).unwrap();
                text.replacen("r=", "r=x", 1).into_bytes()
            }),
        ),
        (
            "another channel binding than was begun with",
            told(NARROW, PASSWORD.as_bytes(), &|proof| {
                let text = String::from_utf8(proof).unwrap();
                text.replacen("c=biws", "c=eSws", 1).into_bytes()
            }),
        ),
        (
            "a channel binding without a channel",
            begun(
                world,
                SCRAM_SHA_256,
                first("p=tls-server-end-point,").as_bytes(),
            ),
        ),
        (
            "a mechanism that was not offered",
            begun(
                world,
                "SCRAM-SHA-256-PLUS",
                first("p=tls-server-end-point,").as_bytes(),
            ),
        ),
        (
            "a first message of 1 MB",
            begun(
                world,
                SCRAM_SHA_256,
                &[first("n,").into_bytes(), vec![b'x'; LONG]].concat(),
            ),
        ),
        (
            "a proof of 1 MB",
            told(NARROW, PASSWORD.as_bytes(), &|proof| {
                [proof, vec![b'x'; LONG]].concat()
            }),
        ),
        (
            "a nonce that is none",
            begun(world, SCRAM_SHA_256, b"n,,n=,r="),
        ),
        (
            "no SCRAM at all",
            begun(world, SCRAM_SHA_256, &[0, 255, b',', 1]),
        ),
    ] {
        let state = frame.sqlstate();
        let right = ["28P01", "08P01"].contains(&&*state);
        verdict.claim(right, &format!("{what} is refused"), &frame);
    }
    let answer = say(&mut known, "SELECT 1");
    verdict.claim(answer.rows() == ["1"], "who is logged in goes on", answer);
    let answer = say(&mut world.narrow(), "SELECT 1");
    let claim = "the right password lets in";
    verdict.claim(answer.rows() == ["1"], claim, answer);
    world.claim_served(verdict);
}

/// A connection of which a proof is asked for.
fn begin(world: &World<'_>, user: &str) -> Wire {
    let mut wire = Wire::connect(world.router.port());
    wire.set_limit(SOON);
    let own = [("user", user), ("database", &*world.database)];
    wire.send(&message::startup(V3_0, &own));
    let asked = wire.frame();
    assert_eq!((asked.kind, asked.body[3]), (b'R', 10), "{asked}");
    wire
}

/// The challenge, or the refusal.
fn continues(wire: &mut Wire) -> Result<Vec<u8>, Frame> {
    let frame = wire.frame();
    match frame.kind {
        b'R' => Ok(frame.body[4..].to_vec()),
        _ => Err(frame),
    }
}

/// The error that ends the login, with nothing behind it.
fn refused(wire: &mut Wire) -> Frame {
    let frame = wire.frame();
    assert_eq!(frame.kind, b'E', "{frame}");
    assert!(wire.is_closed_within(SOON), "{frame}, and it is not closed");
    frame
}

/// What is told of this first message.
fn begun(world: &World<'_>, mechanism: &str, data: &[u8]) -> Frame {
    let mut wire = begin(world, NARROW);
    // It may be closed before all of it is sent.
    let _ = wire.try_send(&message::sasl_initial(mechanism, data));
    refused(&mut wire)
}

/// A login that was good, said again word for word.
fn replayed(world: &World<'_>) -> Frame {
    let mut wire = begin(world, NARROW);
    let mut scram = ScramSha256::new(PASSWORD.as_bytes(), ChannelBinding::unsupported());
    let first = scram.message().to_vec();
    wire.send(&message::sasl_initial(SCRAM_SHA_256, &first));
    scram.update(&continues(&mut wire).unwrap()).unwrap();
    let proof = scram.message().to_vec();
    wire.send(&message::sasl_response(&proof));
    let frame = wire.frame();
    assert_eq!(frame.kind, b'R', "{frame}");
    let mut again = begin(world, NARROW);
    again.send(&message::sasl_initial(SCRAM_SHA_256, &first));
    continues(&mut again).unwrap();
    again.send(&message::sasl_response(&proof));
    refused(&mut again)
}
