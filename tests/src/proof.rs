//! What the long proofs share: `make canary`, `make tpcb`, `make crash`, `make restarts`, `make freshness`,
//! `make deadlocks`, `make tpch`.
//!
//! Each is a program with numbers from the environment, which prints its seed and
//! its counts, and whose exit status is the verdict.

use crate::fleet::Shard;
use crate::shared::{PASSWORD, USER};
use crate::{Fleet, Router, poll_until};
use mothership_cluster::Cluster;
use std::fmt::Display;
use std::time::Duration;

/// A number from the environment; a panic if it is none.
pub fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a whole number")),
        _ => default,
    }
}

/// `SEED`, or a random one. It is printed: with the same seed a run chooses the same things.
pub fn seed() -> u64 {
    let seed = number("SEED", u64::from(rand::random::<u32>()));
    println!("SEED={seed}");
    seed
}

/// As many descriptors as the system lets this process have, and those that it starts.
pub fn raise_descriptor_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls get a pointer to one `rlimit`.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

/// Listener, control role, console and the fleet's shards with all their servers; `listen` and
/// `control` are more for these sections, `more` stands behind the shards.
pub fn config(fleet: &Fleet, listen: &str, control: &str, more: &str) -> String {
    let mut text = format!(
        "[listen]\naddress = [\"127.0.0.1\"]\nport = @port@\n{listen}\n\
         [control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n{control}\n\
         [console]\nadmin_users = [\"{USER}\"]\n\
         [[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n"
    );
    let servers = |shard: &Shard| {
        let servers = shard.replicas.iter().chain([&shard.primary]);
        servers.map(Cluster::port).collect::<Vec<_>>()
    };
    let ports: Vec<Vec<u16>> = fleet.shards.iter().map(servers).collect();
    text += &shards_at(&ports, "tls = \"disable\"");
    text + more
}

/// The sections of shards `s1`, `s2`, … whose servers listen on these ports of 127.0.0.1; `each` is more for every server.
pub fn shards_at(ports: &[Vec<u16>], each: &str) -> String {
    let mut text = String::new();
    for (number, ports) in ports.iter().enumerate() {
        text += &format!("[[shard]]\nname = \"s{}\"\n", number + 1);
        for port in ports {
            text += &format!("[[shard.server]]\naddress = \"127.0.0.1:{port}\"\n{each}\n");
        }
    }
    text
}

/// A table of the console by the names of its columns.
pub fn console(router: &Router, command: &str) -> Vec<std::collections::HashMap<String, String>> {
    let mut wire = crate::Wire::login(&router.endpoint(USER, PASSWORD, "mothership"));
    let frames = wire.query(command);
    let names = frames[0].columns();
    let rows = frames.iter().filter(|frame| frame.kind == b'D');
    rows.map(|row| names.iter().cloned().zip(row.row_text()).collect())
        .collect()
}

/// A server starts again within this, after one of its processes was killed.
const RESTARTED: Duration = Duration::from_secs(20);

/// Runs SQL past the router on every primary and returns what each said.
pub fn on_all(fleet: &Fleet, sql: &str) -> Vec<String> {
    on_all_in(fleet, "postgres", sql)
}

/// The same in another database.
pub fn on_all_in(fleet: &Fleet, database: &str, sql: &str) -> Vec<String> {
    let say = |shard: &Shard| {
        let mut said = shard.primary.sql(database, sql);
        // One of its backends may just have been killed: then it ends all others, and this one with them.
        poll_until(RESTARTED, || {
            if said.is_err() && sql.starts_with("SELECT") {
                said = shard.primary.sql(database, sql);
            }
            said.is_ok() || !sql.starts_with("SELECT")
        });
        said.unwrap_or_else(|error| panic!("{error}"))
    };
    fleet.shards.iter().map(say).collect()
}

/// A number on every shard, added up.
pub fn sum(fleet: &Fleet, sql: &str) -> i64 {
    let numbers = on_all(fleet, sql);
    numbers.iter().map(|n| n.parse::<i64>().unwrap()).sum()
}

/// How many prepared transactions the shards have.
pub fn prepared(fleet: &Fleet) -> i64 {
    sum(fleet, "SELECT count(*) FROM pg_prepared_xacts")
}

/// CPU time of a process, of its children, and of those that it has waited for; see /proc/PID/stat in proc(5).
pub fn cpu_of_family(pid: u32) -> Duration {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let children = children.split_whitespace().filter_map(|n| n.parse().ok());
    ticks(pid, 4) + children.map(|child| ticks(child, 2)).sum::<Duration>()
}

/// The first of utime, stime, cutime and cstime; nothing of a process that is gone.
fn ticks(pid: u32, fields: usize) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before them is in parentheses and may contain anything.
    let behind = text.rsplit_once(')').map_or("", |(_, behind)| behind);
    let times = behind.split_whitespace().skip(11).take(fields);
    let ticks: u64 = times.filter_map(|field| field.parse::<u64>().ok()).sum();
    // SAFETY: sysconf touches no memory of ours.
    let a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs_f64(ticks as f64 / a_second as f64)
}

/// What was claimed and did not hold.
#[derive(Debug, Default)]
pub struct Verdict {
    broken: Vec<String>,
}

impl Verdict {
    /// Notes whether `claim` holds, and prints it with the figure.
    pub fn claim(&mut self, holds: bool, claim: &str, figure: impl Display) {
        println!("{} {claim}: {figure}", if holds { "ok  " } else { "FAIL" });
        if !holds {
            self.broken.push(claim.to_owned());
        }
    }

    /// What did not hold, so far.
    pub fn broken(&self) -> &[String] {
        &self.broken
    }

    /// The exit status of the program.
    pub fn exit(self) -> std::process::ExitCode {
        match self.broken.is_empty() {
            true => std::process::ExitCode::SUCCESS,
            false => std::process::ExitCode::FAILURE,
        }
    }
}
