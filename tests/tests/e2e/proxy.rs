//! The fault proxy: each fault is what its name says, and healed it is gone.

use mothership_tests::message::{self, V3_0};
use mothership_tests::proxy::{Effect, End, Proxy, Side, Trap, Travel};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(10);
/// For what is not to come.
const A_MOMENT: Duration = Duration::from_millis(150);

/// Both ends of connections through a proxy.
struct Line {
    far: TcpListener,
    proxy: Proxy,
}

impl Line {
    fn new() -> Line {
        let far = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = Proxy::to(far.local_addr().unwrap().port());
        Line { far, proxy }
    }

    /// Who has connected, and whom the proxy has connected to.
    fn connect(&self) -> [TcpStream; 2] {
        let near = TcpStream::connect((Ipv4Addr::LOCALHOST, self.proxy.port())).unwrap();
        let (far, _) = self.far.accept().unwrap();
        [near, far].map(|stream| {
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            stream
        })
    }
}

fn arrives(stream: &mut TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(read, bytes);
}

/// Nothing comes for a moment.
fn is_silent(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(A_MOMENT)).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut
    ));
    stream.set_read_timeout(Some(LIMIT)).unwrap();
}

/// Everything until the end, and whether the end was FIN.
fn rest(stream: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes);
    if let Err(error) = &end {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    (bytes, end.is_ok())
}

#[test]
fn bytes_pass_and_so_does_the_end() {
    let line = Line::new();
    let [mut near, mut far] = line.connect();
    let long: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    for slice in [None, Some(1000), Some(7)] {
        line.proxy.travel_both(Travel {
            slice,
            ..Travel::default()
        });
        let sent = long.clone();
        let mut sender = near.try_clone().unwrap();
        let sending = std::thread::spawn(move || sender.write_all(&sent).unwrap());
        arrives(&mut far, &long);
        sending.join().unwrap();
    }
    near.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(rest(&mut far), (vec![], true));
    far.write_all(b"late").unwrap();
    drop(far);
    assert_eq!(rest(&mut near), (b"late".to_vec(), true));
}

#[test]
fn latency_and_rate_take_their_time_and_end_when_healed() {
    let line = Line::new();
    let [mut near, mut far] = line.connect();
    let latency = Duration::from_millis(80);
    let slow = |near: &mut TcpStream, far: &mut TcpStream| {
        let begun = Instant::now();
        near.write_all(&[1; 20_000]).unwrap();
        arrives(far, &[1; 20_000]);
        begun.elapsed()
    };
    line.proxy.travel(
        Side::Client,
        Travel {
            latency,
            jitter: latency,
            ..Travel::default()
        },
    );
    assert!(slow(&mut near, &mut far) >= latency);
    line.proxy.travel(
        Side::Client,
        Travel {
            rate: Some(100_000),
            slice: Some(1000),
            ..Travel::default()
        },
    );
    assert!(slow(&mut near, &mut far) >= Duration::from_millis(180));
    line.proxy.heal();
    assert!(slow(&mut near, &mut far) < latency);
}

#[test]
fn what_is_held_arrives_when_healed() {
    let line = Line::new();
    let [mut near, mut far] = line.connect();
    line.proxy.hold(Side::Client);
    near.write_all(b"question").unwrap();
    is_silent(&mut far);
    far.write_all(b"answer").unwrap();
    arrives(&mut near, b"answer");
    line.proxy.blackhole();
    far.write_all(b"more").unwrap();
    is_silent(&mut near);
    line.proxy.heal();
    arrives(&mut far, b"question");
    arrives(&mut near, b"more");
}

#[test]
fn connections_end_as_told_on_both_sides() {
    for (end, is_fin) in [(End::Reset, false), (End::Finish, true)] {
        let line = Line::new();
        let [mut near, mut far] = line.connect();
        let [mut other, _far] = line.connect();
        near.write_all(b"before").unwrap();
        arrives(&mut far, b"before");
        line.proxy.cut(end);
        assert_eq!(rest(&mut near), (vec![], is_fin));
        assert_eq!(rest(&mut far), (vec![], is_fin));
        assert_eq!(rest(&mut other), (vec![], is_fin));
        let [mut near, mut far] = line.connect();
        near.write_all(b"after").unwrap();
        arrives(&mut far, b"after");
    }
}

#[test]
fn refused_connections_are_refused_and_open_ones_stay() {
    let line = Line::new();
    let [mut near, mut far] = line.connect();
    line.proxy.refuse();
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, line.proxy.port()));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    near.write_all(b"still").unwrap();
    arrives(&mut far, b"still");
    line.proxy.heal();
    let [mut near, mut far] = line.connect();
    near.write_all(b"again").unwrap();
    arrives(&mut far, b"again");
}

#[test]
fn new_connections_go_to_the_new_address() {
    let line = Line::new();
    let [mut near, mut far] = line.connect();
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    line.proxy.retarget(other.local_addr().unwrap().port());
    near.write_all(b"old").unwrap();
    arrives(&mut far, b"old");
    let mut near = TcpStream::connect((Ipv4Addr::LOCALHOST, line.proxy.port())).unwrap();
    near.write_all(b"new").unwrap();
    arrives(&mut other.accept().unwrap().0, b"new");
}

/// A client and a server that are logged in.
fn logged_in(line: &Line) -> [TcpStream; 2] {
    let [mut near, mut far] = line.connect();
    let startup = message::startup(V3_0, &[("user", "a")]);
    near.write_all(&startup).unwrap();
    arrives(&mut far, &startup);
    let ready = ready();
    far.write_all(&ready).unwrap();
    arrives(&mut near, &ready);
    [near, far]
}

fn ready() -> Vec<u8> {
    [
        message::message(b'R', &[0; 4]),
        message::message(b'Z', b"I"),
    ]
    .concat()
}

#[test]
fn a_trap_springs_before_its_message_on_its_connection_only() {
    let line = Line::new();
    let [mut near, mut far] = logged_in(&line);
    let [mut other, mut other_far] = logged_in(&line);
    let (mark, commit) = (message::query("SELECT 'mark'"), message::query("COMMIT"));
    line.proxy.set(
        Trap::before_text(Side::Client, Some(b'Q'), "COMMIT", Effect::End(End::Reset))
            .once_seen(Side::Client, "mark"),
    );
    for stream in [&mut other, &mut near] {
        stream.write_all(&commit).unwrap();
    }
    arrives(&mut other_far, &commit);
    arrives(&mut far, &commit);
    assert_eq!(line.proxy.sprung(), 0);
    near.write_all(&[mark.clone(), message::sync(), commit.clone()].concat())
        .unwrap();
    assert!(line.proxy.springs_within(LIMIT));
    let expected = [mark, message::sync()].concat();
    assert_eq!(rest(&mut far), (expected, false));
    assert_eq!(rest(&mut near), (vec![], false));
    other.write_all(&commit).unwrap();
    arrives(&mut other_far, &commit);
    assert_eq!(line.proxy.sprung(), 1);
}

#[test]
fn a_trap_counts_messages_and_bytes() {
    let line = Line::new();
    let [mut near, mut far] = logged_in(&line);
    let row = |n: u8| message::message(b'D', &[0, 1, 0, 0, 0, 1, n]);
    let finish = Effect::End(End::Finish);
    line.proxy
        .set(Trap::before(Side::Server, b'D', finish).skipping(2));
    far.write_all(&[row(1), row(2), row(3)].concat()).unwrap();
    assert_eq!(rest(&mut near), ([row(1), row(2)].concat(), true));

    let [mut near, mut far] = logged_in(&line);
    line.proxy.set(Trap::after_bytes(Side::Server, 5, finish));
    far.write_all(b"0123").unwrap();
    arrives(&mut near, b"0123");
    far.write_all(b"456789").unwrap();
    assert_eq!(rest(&mut near), (b"4".to_vec(), true));
}

#[test]
fn a_flipped_byte_passes_and_only_that_one() {
    let line = Line::new();
    let [mut near, mut far] = logged_in(&line);
    line.proxy.set(Trap::before(
        Side::Server,
        b'C',
        Effect::Flip { at: 4, mask: 0x10 },
    ));
    let done = message::message(b'C', b"SELECT 1\0");
    let mut wrong = done.clone();
    wrong[4] ^= 0x10;
    far.write_all(&[done.clone(), done.clone()].concat())
        .unwrap();
    arrives(&mut near, &[wrong, done].concat());
}

#[test]
fn a_frozen_connection_is_reset_when_healed() {
    let line = Line::new();
    let [mut near, mut far] = logged_in(&line);
    line.proxy
        .set(Trap::before(Side::Client, b'Q', Effect::Freeze));
    near.write_all(&message::query("COMMIT")).unwrap();
    assert!(line.proxy.springs_within(LIMIT));
    is_silent(&mut far);
    far.write_all(b"x").unwrap();
    is_silent(&mut near);
    let [mut other, mut other_far] = logged_in(&line);
    other.write_all(b"x").unwrap();
    arrives(&mut other_far, b"x");
    line.proxy.heal();
    assert_eq!(rest(&mut near), (vec![], false));
    assert_eq!(rest(&mut far), (vec![], false));
}
