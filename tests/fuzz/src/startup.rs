//! The first packet of a connection.
//!
//! Promises: a packet is judged as soon as it is whole, at the latest, and what follows it changes nothing; what is
//! accepted has a user and names that PostgreSQL would keep, and can be said again to a server with the same meaning;
//! NegotiateProtocolVersion is sent for what is not known and for nothing else; memory follows the bytes.

use mothership_proto::frame::{self, Next};
use mothership_proto::startup::outgoing::{
    SslAnswer, put_cancel, put_ssl_request, put_startup, ssl_answer,
};
use mothership_proto::startup::{
    FirstPacket, MAX_CANCEL_KEY, MAX_NAME, MAX_STARTUP_PACKET, Protocol, Startup, StartupError,
    options,
};

use crate::memory::bounded;

/// Names and forms that a first packet may have.
pub const WORDS: &[&str] = &[
    "user\0",
    "database\0",
    "options\0",
    "replication\0",
    "application_name\0",
    "_pq_.",
    "-c ",
    "--",
    "search_path=",
    "client_encoding\0",
    "true\0",
    "\\ ",
    "\0\0",
    "DateStyle\0",
];

/// The whole input is what arrived.
pub fn check(data: &[u8]) {
    // Settings are pairs of strings, each in a vector that doubles: some dozen bytes for one on the wire.
    let limit = 64 * 1024 + data.len().min(MAX_STARTUP_PACKET) * 64;
    let found = bounded(limit, "reading a first packet", || FirstPacket::parse(data));
    match &found {
        Ok(None) => assert!(
            data.len() < 4 + MAX_STARTUP_PACKET,
            "a packet is whole in time"
        ),
        Ok(Some((packet, used))) => {
            assert!(*used <= data.len() && *used <= 4 + MAX_STARTUP_PACKET);
            let mut longer = data[..*used].to_vec();
            longer.extend_from_slice(if *used == 0 {
                data
            } else {
                b"\0\0\0\x08what follows"
            });
            assert_eq!(
                FirstPacket::parse(&longer),
                found,
                "what follows changes nothing"
            );
            for cut in [0, 1, 3, 4, used / 2, used.saturating_sub(1)] {
                if cut < *used {
                    assert_eq!(FirstPacket::parse(&data[..cut]), Ok(None), "cut at {cut}");
                }
            }
            accepted(packet, &data[..*used]);
        }
        Err(error) => refused(error),
    }
    let answer = ssl_answer(data);
    assert_eq!(matches!(answer, Ok(Some(SslAnswer::Yes))), data == b"S");
    assert_eq!(matches!(answer, Ok(Some(SslAnswer::No))), data == b"N");
    if let Ok(text) = std::str::from_utf8(data) {
        let longest = text.len().min(2000);
        let end = (0..=longest).rev().find(|end| text.is_char_boundary(*end));
        let text = &text[..end.unwrap_or(0)];
        if let Ok(settings) = options::parse(text) {
            let again = options::parse(&options::write(&settings));
            assert_eq!(again, Ok(settings), "options are written as they were read");
        }
    }
}

fn accepted(packet: &FirstPacket<'_>, bytes: &[u8]) {
    let mut out = Vec::new();
    match packet {
        FirstPacket::DirectTls => assert!(bytes.is_empty()),
        FirstPacket::Gss => assert_eq!(bytes, b"\0\0\0\x08\x04\xd2\x16\x30"),
        FirstPacket::Ssl => {
            put_ssl_request(&mut out);
            assert_eq!(bytes, out);
        }
        FirstPacket::Cancel { pid, secret } => {
            assert!((1..=MAX_CANCEL_KEY).contains(&secret.len()));
            put_cancel(&mut out, *pid, secret).expect("a key of the right length");
            assert_eq!(bytes, out);
        }
        FirstPacket::Startup(startup) => {
            for name in [&startup.user, &startup.database] {
                assert!(!name.is_empty() && name.len() <= MAX_NAME && !name.contains('\0'));
            }
            negotiation(startup);
            again(startup);
        }
    }
}

/// Sent for unknown options and newer versions only, and naming exactly those.
fn negotiation(startup: &Startup) {
    assert!(
        startup.protocol() <= Protocol::V3_2 && startup.protocol().minor() <= startup.asked_minor
    );
    let mut out = Vec::new();
    let sent = startup.put_negotiation(&mut out);
    assert_eq!(
        sent,
        startup.asked_minor > 2 || !startup.protocol_options.is_empty()
    );
    assert_eq!(sent, !out.is_empty());
    if !sent {
        return;
    }
    let Ok(Next::Whole(frame)) = frame::next(&out, 1 << 20) else {
        panic!("not a message: {out:?}")
    };
    assert_eq!((frame.tag(), frame.bytes.len()), (b'v', out.len()));
    let (version, rest) = frame.body().split_at(4);
    let (count, mut names) = rest.split_at(4);
    assert_eq!(version, startup.protocol().number().to_be_bytes());
    assert_eq!(count, (startup.protocol_options.len() as u32).to_be_bytes());
    for option in &startup.protocol_options {
        assert!(option.starts_with("_pq_."));
        assert_eq!(frame::take_str(&mut names), Some(option.as_bytes()));
    }
    assert!(names.is_empty());
}

/// What was understood can be said to a server, which understands the same.
fn again(startup: &Startup) {
    let mut out = Vec::new();
    let Startup {
        user,
        database,
        settings,
        ..
    } = startup;
    if put_startup(&mut out, startup.protocol(), user, database, settings).is_err() {
        // A setting that is never passed on, or one that an option spelled with an empty name.
        assert!(out.is_empty());
        return;
    }
    let Ok(Some((FirstPacket::Startup(read), used))) = FirstPacket::parse(&out) else {
        panic!("what we say first is not understood: {out:?}")
    };
    assert_eq!(used, out.len());
    assert_eq!(
        (&read.user, &read.database, &read.settings),
        (user, database, settings)
    );
    assert!(read.protocol_options.is_empty());
}

fn refused(error: &StartupError) {
    let mut out = Vec::new();
    error.put(&mut out);
    if matches!(
        error,
        StartupError::CancelLength | StartupError::Length { .. }
    ) {
        return assert!(out.is_empty(), "neither is answered");
    }
    if matches!(error, StartupError::Version { major: 0..3, .. }) {
        // Whoever speaks the protocol of 1998 gets an error in its form: a text alone.
        assert!(out.starts_with(b"EFATAL") && out.ends_with(b"\n\0"));
        return;
    }
    let Ok(Next::Whole(frame)) = frame::next(&out, 1 << 20) else {
        panic!("not a message: {out:?}")
    };
    assert_eq!((frame.tag(), frame.bytes.len()), (b'E', out.len()));
    assert_eq!(error.sqlstate().len(), 5);
}

/// One of each kind, and what no client may say.
pub fn seeds() -> Vec<Vec<u8>> {
    let packet = |version: u32, pairs: &[(&str, &str)]| {
        let mut body = version.to_be_bytes().to_vec();
        for (name, value) in pairs {
            frame::put_str(&mut body, name.as_bytes());
            frame::put_str(&mut body, value.as_bytes());
        }
        body.push(0);
        let mut out = (body.len() as u32 + 4).to_be_bytes().to_vec();
        out.extend_from_slice(&body);
        out
    };
    let mut ssl = Vec::new();
    put_ssl_request(&mut ssl);
    let mut cancel = Vec::new();
    put_cancel(&mut cancel, 7, b"key!").expect("a key of four bytes");
    let long = "x".repeat(200);
    let user = ("user", "alice");
    vec![
        packet(3 << 16, &[user]),
        packet(
            3 << 16,
            &[
                user,
                ("database", "d"),
                ("options", "-c a=b\\ c --d=e"),
                ("DateStyle", "ISO"),
            ],
        ),
        packet(
            (3 << 16) | 2,
            &[user, ("_pq_.x", "1"), ("application_name", "é")],
        ),
        packet((3 << 16) | 9999, &[user, ("_pq_.report", "")]),
        packet(
            3 << 16,
            &[("user", &long), ("database", &long), ("replication", "off")],
        ),
        packet(3 << 16, &[user, ("replication", "database")]),
        packet(3 << 16, &[("database", "d")]),
        packet(2 << 16, &[user]),
        ssl.clone(),
        [&ssl[..], b"\x16\x03\x01"].concat(),
        b"\0\0\0\x08\x04\xd2\x16\x30".to_vec(),
        cancel,
        b"\x16\x03\x01\x02\0".to_vec(),
        b"\0\0\0\0".to_vec(),
        b"\xff\xff\xff\xff".to_vec(),
        b"\x80\0\0\0".to_vec(),
        b"\0\0\x27\x14".to_vec(),
        b"S".to_vec(),
        b"N".to_vec(),
        b"-c a=b --c=d\\\\ e".to_vec(),
    ]
}
