//! Clients in a network of their own, whose packets are lost.

use crate::ask::{ask, both, say};
use crate::world::{PLAIN, Place, SOON, Setup, World};
use mothership_tests::proof::Verdict;
use mothership_tests::{Wire, bank, poll_until};
use std::fs::File;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};

/// A client of whom nothing is heard is asked soon.
pub const KEEPALIVE: Setup = Setup {
    listen: "keepalive = \"2s\"\nunacknowledged_timeout = \"5s\"",
    place: Place::Everywhere,
    ..PLAIN
};
/// Nothing but defaults.
pub const LOSSY: Setup = Setup {
    place: Place::Everywhere,
    ..PLAIN
};
/// The router's side of the way between.
const HERE: Ipv4Addr = Ipv4Addr::new(10, 213, 79, 1);
/// The client's side.
const THERE: Ipv4Addr = Ipv4Addr::new(10, 213, 79, 2);
/// Statements over a network that loses packets.
const STATEMENTS: usize = 100;

/// A network namespace with one way to this one.
struct Apart {
    name: String,
}

impl Apart {
    /// The reason if this process may not make one.
    fn new() -> Result<Apart, String> {
        let id = std::process::id();
        let apart = Apart {
            name: format!("faults{id}"),
        };
        let Apart { name } = &apart;
        let (here, there) = (format!("fa{id}"), format!("fb{id}"));
        for command in [
            format!("ip netns add {name}"),
            format!("ip link add {here} type veth peer name {there} netns {name}"),
            format!("ip addr add {HERE}/30 dev {here}"),
            format!("ip link set {here} up"),
            format!("ip -n {name} addr add {THERE}/30 dev {there}"),
            format!("ip -n {name} link set {there} up"),
            // Whether rules can be made at all.
            format!("ip netns exec {name} iptables -L -n"),
        ] {
            run(&command)?;
        }
        Ok(apart)
    }

    /// Packets of both directions are lost by this rule.
    fn lose(&self, rule: &str) {
        for chain in ["INPUT", "OUTPUT"] {
            let rule = format!(
                "ip netns exec {} iptables -A {chain} {rule} -j DROP",
                self.name
            );
            run(&rule).unwrap();
        }
    }

    /// No packet is lost any longer.
    fn heal(&self) {
        run(&format!("ip netns exec {} iptables -F", self.name)).unwrap();
    }

    /// A client there that is logged in.
    fn client(&self, world: &World<'_>) -> Wire {
        let namespace = File::open(format!("/var/run/netns/{}", self.name)).unwrap();
        let port = world.router.port();
        let connect = move || {
            // SAFETY: setns touches no memory; of all threads only this one moves, and ends.
            let moved = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(moved, 0, "{}", std::io::Error::last_os_error());
            TcpStream::connect((HERE, port)).unwrap()
        };
        // A connection stays in the network in which it was made.
        let stream = std::thread::spawn(connect).join().unwrap();
        let mut wire = Wire::over(stream).unwrap();
        wire.set_limit(SOON * 2);
        let endpoint = world.router.endpoint(bank::ROLE, "", &world.database);
        let own = [("user", &*endpoint.user), ("database", &*endpoint.database)];
        wire.send(&mothership_tests::message::startup(
            mothership_tests::message::V3_0,
            &own,
        ));
        wire.finish_login(&endpoint).unwrap();
        wire
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // Its end of the way goes with it, and so the other. A socket may keep it for a while.
        let _ = run(&format!("ip link del fa{}", std::process::id()));
        let _ = run(&format!("ip netns del {}", self.name));
    }
}

fn run(command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    let done = Command::new(program).args(words).output();
    let done = done.map_err(|error| format!("{command}: {error}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("{command}: {}", said.trim())),
    }
}

/// A network, or the row cannot be shown.
fn network(world: &mut World<'_>) -> Option<Apart> {
    let made = Apart::new();
    made.map_err(|why| world.cannot = Some(format!("it needs a network namespace: {why}")))
        .ok()
}

/// 9: a client from which and to which nothing comes.
pub fn silent(world: &mut World<'_>, verdict: &mut Verdict) {
    let Some(apart) = network(world) else { return };
    let key = world.key(0);
    let insert = format!("INSERT INTO victims VALUES ({key}, 'apart')");
    let mut client = apart.client(world);
    say(&mut client, "BEGIN");
    let answer = say(&mut client, &insert);
    assert_eq!(answer.last(), "ReadyForQuery T", "{answer}");
    let open = "query LIKE '%apart%' AND state = 'idle in transaction'";
    assert_eq!(world.backends(open), 1);
    apart.lose("-p tcp");
    let begun = Instant::now();
    world.claim_served(verdict);
    let freed = poll_until(SOON * 3, || world.backends(open) == 0);
    let figure = format!("after {:.1?}", begun.elapsed());
    let claim = "the server of a client that is gone without a word is free";
    verdict.claim(freed, claim, figure);
    let left = world.marked("apart");
    verdict.claim(left == 0, "and its transaction undone", left);
    world.claim_served(verdict);
    apart.heal();
    let answer = say(&mut client, "COMMIT");
    verdict.claim(
        !answer.is_done(),
        "it is not told that it has committed",
        answer,
    );
}

/// 18: one packet in ten is lost, in each direction.
pub fn lossy(world: &mut World<'_>, verdict: &mut Verdict) {
    let Some(apart) = network(world) else { return };
    let key = world.key(0);
    let mut client = apart.client(world);
    apart.lose("-p tcp -m statistic --mode random --probability 0.1");
    let begun = Instant::now();
    let mut wrong = Vec::new();
    for number in 0..STATEMENTS {
        let text = format!("{number} {}", "p".repeat(5000));
        let sql = format!("SELECT id, '{text}' FROM accounts WHERE id = {key}");
        let answer = ask(&mut client, &both(&sql)[number % 2]);
        if answer.rows() != [format!("{key} {text}")] {
            wrong.push(answer.to_string());
        }
    }
    let took = begun.elapsed();
    let figure = format!(
        "{} wrong of {STATEMENTS} in {took:.1?}: {:?}",
        wrong.len(),
        wrong.first()
    );
    verdict.claim(wrong.is_empty(), "all are answered rightly", figure);
    let slow = took > Duration::from_millis(200);
    verdict.claim(slow, "packets were lost", format!("{took:.1?}"));
    world.claim_served(verdict);
    apart.heal();
}
