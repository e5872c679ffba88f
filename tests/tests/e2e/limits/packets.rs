//! Who attacks with packets: the first ones, handshakes, lengths that cannot be true.

use super::stage::{LIMIT, Stage, certificate, last_words, state};
use mothership_tests::message::{self, V3_0};
use mothership_tests::wire::Silence;
use mothership_tests::{Folder, Wire, poll_until};

// R2
#[test]
fn a_first_packet_over_a_limit_is_refused_before_its_bytes_arrive() {
    let stage = Stage::with("[listen]\nport = @port@\n[limits]\nstartup_packet = \"4000B\"");
    let bystander = stage.bystander();
    let user = ("user", "a");
    let many: Vec<_> = (0..101).map(|n| (format!("a.p{n}"), "1")).collect();
    let mut parameters = vec![user];
    parameters.extend(many.iter().map(|(name, value)| (name.as_str(), *value)));
    let long = "x".repeat(4000);
    let options = "-c a.b=1 ".repeat(101);
    let first = |length: u32| length.to_be_bytes().to_vec();
    // A length that no first packet has is not answered, as PostgreSQL does not: who sends it does not speak the protocol.
    let refused: [(&str, Vec<u8>, Option<&str>); 9] = [
        ("no length", first(0), None),
        ("less than itself", first(3), None),
        ("nothing in it", first(4), None),
        ("over the setting", first(4005), None),
        ("2 GiB", first(0x7fff_ffff), None),
        ("negative", first(0xffff_ffff), None),
        (
            "a long value",
            message::startup(V3_0, &[user, ("a.b", &long)]),
            None,
        ),
        (
            "many parameters",
            message::startup(V3_0, &parameters),
            Some("54000"),
        ),
        (
            "many options",
            message::startup(V3_0, &[user, ("options", &options)]),
            Some("54000"),
        ),
    ];
    for (what, bytes, expected) in refused {
        let mut wire = Wire::connect(stage.router.port());
        wire.send(&bytes);
        let said = last_words(&mut wire).map(|error| error.sqlstate().to_owned());
        assert_eq!(said.as_deref(), expected, "{what}");
    }
    bystander.noticed_nothing();
}

// R3
#[test]
fn handshakes_that_stall_or_lie_end_and_plain_clients_are_served() {
    let folder = Folder::new("handshakes");
    let [certificate, key] = certificate(&folder);
    let stage = Stage::with(&format!(
        "[listen]\nport = @port@\nlogin_timeout = \"6s\"\n[tls]\nmode = \"allow\"\ndirect = true\n\
         certificate = \"{certificate}\"\nkey = \"{key}\""
    ));
    let off = Stage::with("[listen]\nport = @port@\nlogin_timeout = \"1h\"");
    let bystander = stage.bystander();
    let record = |length: u16| [&[0x16, 3, 1], length.to_be_bytes().as_slice()].concat();
    let port = stage.router.port();
    let mut ends = Vec::new();
    for (asks, bytes) in [
        // Nothing follows; less than was said; more than a record may have; no handshake.
        (true, Vec::new()),
        (true, record(512)),
        (true, [record(0xffff), vec![1; 20_000]].concat()),
        (true, [record(64), vec![0xff; 64]].concat()),
        (false, record(512)),
        (false, [record(0xffff), vec![1; 20_000]].concat()),
    ] {
        let mut wire = Wire::connect(port);
        if asks {
            wire.send(&message::request(message::SSL_REQUEST));
            assert_eq!(wire.byte(), Ok(b'S'));
        }
        // It may close before all of it was sent.
        let _ = wire.try_send(&bytes);
        ends.push(wire);
    }
    // TLS where there is none: no deadline is needed to see it.
    let mut wire = Wire::connect(off.router.port());
    let _ = wire.try_send(&record(512));
    ends.push(wire);
    // Bytes in plain text behind a request for encryption are not for the router.
    let mut wire = Wire::connect(port);
    let login = message::startup(V3_0, &[("user", "a")]);
    wire.send(&[message::request(message::SSL_REQUEST), login].concat());
    ends.push(wire);
    for (at, mut wire) in ends.into_iter().enumerate() {
        let ended = poll_until(LIMIT, || match wire.byte() {
            Ok(_) => false,
            Err(silence) => silence == Silence::Closed,
        });
        assert!(ended, "handshake {at} goes on");
    }
    // Another protocol over the same port.
    let mut other = std::process::Command::new("timeout");
    other.args(["20", "openssl", "s_client", "-alpn", "h2", "-connect"]);
    let other = other
        .arg(format!("127.0.0.1:{port}"))
        .stdin(std::process::Stdio::null());
    let other = other.output().unwrap();
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(said.contains("no application protocol"), "{said}");
    bystander.noticed_nothing();
}

// R5
#[test]
fn lengths_that_cannot_be_true_allocate_nothing_and_end_one_session() {
    let stage = Stage::with("[listen]\nport = @port@\n[limits]\nlogin_message = \"1KiB\"");
    let bystander = stage.bystander();
    let before = stage.router.resident_bytes();
    let header = |kind: u8, length: u32| [&[kind], length.to_be_bytes().as_slice()].concat();
    for length in [0, 3, 1100, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        let mut wire = Wire::connect(stage.router.port());
        wire.send(&message::startup(V3_0, &[("user", "a")]));
        assert_eq!(wire.frame().kind, b'R');
        wire.send(&header(b'p', length));
        let error = last_words(&mut wire).unwrap();
        assert_eq!(error.sqlstate(), "08P01", "{length}: {error}");
    }
    for length in [0, 3, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        for kind in [b'Q', b'P', b'B', b'd'] {
            let mut wire = stage.wire();
            wire.send(&header(kind, length));
            let error = last_words(&mut wire).unwrap();
            let known = ["08P01", "54000"].contains(&error.sqlstate().as_str());
            assert!(known, "{length}: {error}");
        }
    }
    // Lengths inside of a message: of a parameter, and how many there are.
    let bodies: [&[u8]; 4] = [
        b"\0\0\0\0\0\x01\x80\0\0\0\0\0",
        b"\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0",
        b"\0\0\0\0\xff\xff",
        b"\0\0\xff\xff",
    ];
    for body in bodies {
        let request = [
            message::parse("", "SELECT $1::text", &[]),
            message::message(b'B', body),
            message::sync(),
        ];
        assert_eq!(
            state(&mut stage.wire(), &request.concat()),
            "08P01",
            "{body:?}"
        );
    }
    let grown = stage.router.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
    bystander.noticed_nothing();
}
