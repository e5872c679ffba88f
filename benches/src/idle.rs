//! Clients that are connected and silent: what they cost in memory and CPU.
//!
//! Each target is started anew for it, or memory that earlier load has left would be used again. Memory is the process's
//! proportional share (Pss, proc_pid_smaps_rollup(5)); buffers of sockets in the kernel are not in it.

use crate::case::{Case, Mode};
use crate::interrupt;
use crate::load::{Pgbench, Run, cpu_time};
use crate::options::Options;
use crate::proxy::{DATABASE, Proxy, USER};
use crate::stage::{Stage, Target};
use mothership_cluster::Binaries;
use mothership_tests::{Endpoint, Wire};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A client's memory is the slope between so many and so many.
const FEW: usize = 1_000;
const MANY: usize = 5_000;
/// With [`ACTIVE`] more these are fewer than nine in ten of 20,000 descriptors; the router of a benchmark keeps the tenth.
const CROWD: usize = 15_000;
/// Of these so many are active in the end.
const ACTIVE: u32 = 1_000;
/// For how long silence is looked at.
const SILENCE: Duration = Duration::from_secs(5);

/// What silent clients of one target cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Idle {
    /// The target's name.
    pub target: &'static str,
    /// Bytes for each client that has sent nothing since it logged in.
    pub unused: f64,
    /// Bytes for each client that has sent one query.
    pub used: f64,
    /// Percent of a core that [`MANY`] of these take.
    pub cpu: f64,
    /// Pss in bytes with [`FEW`], [`MANY`] and [`CROWD`] of them.
    pub held: [f64; 3],
    /// Transactions a second of [`ACTIVE`] others beside the last of these, none of which failed.
    pub active: f64,
}

impl Idle {
    /// Clients, where memory was looked at.
    pub const CLIENTS: [usize; 3] = [FEW, MANY, CROWD];

    /// Pss in bytes with the most of them.
    pub fn crowd(&self) -> f64 {
        self.held[2]
    }

    /// Bytes for each client, from the fewest to the most of them.
    pub fn slope(&self) -> f64 {
        (self.held[2] - self.held[0]) / (CROWD - FEW) as f64
    }

    /// Pss in bytes with so many of them, if each further one takes as much as the slope says.
    pub fn reckoned(&self, clients: usize) -> f64 {
        self.held[0] + self.slope() * (clients as f64 - FEW as f64)
    }

    /// As one JSON object.
    pub fn json(&self) -> Value {
        json!({
            "target": self.target,
            "idle": {
                "unused_bytes": self.unused,
                "used_bytes": self.used,
                "cpu_percent": self.cpu,
                "clients": Idle::CLIENTS,
                "pss_bytes": self.held,
                "active_tps": self.active,
            },
        })
    }
}

/// Measures a target.
pub fn measure(
    stage: &Stage,
    target: Target,
    (options, binaries): (&Options, &Binaries),
    pgbench: &Pgbench,
) -> Result<Idle, String> {
    let unused = {
        let mut clients = Clients::of(stage.fresh(target, "unused", options, binaries)?);
        clients.up_to(FEW, false)?;
        let before = clients.memory()?;
        clients.up_to(MANY, false)?;
        (clients.memory()? - before) / (MANY - FEW) as f64
    };
    let mut clients = Clients::of(stage.fresh(target, "used", options, binaries)?);
    clients.up_to(FEW, true)?;
    let few = clients.memory()?;
    clients.up_to(MANY, true)?;
    let many = clients.memory()?;
    let cpu = clients.silence()?;
    clients.up_to(CROWD, true)?;
    let held = [few, many, clients.memory()?];
    let run = Run {
        case: Case::select(Mode::Prepared, ACTIVE),
        duration: Duration::from_secs(3),
        seed: 1,
        rate: None,
        databases: 1,
    };
    let proxy = &clients.proxy;
    let active = pgbench.run(proxy.port(), Some(proxy.pid()), &run)?.tps;
    Ok(Idle {
        target: target.name(),
        unused,
        used: (many - few) / (MANY - FEW) as f64,
        cpu,
        held,
        active,
    })
}

/// Clients of a proxy that nobody else has.
struct Clients {
    wires: Vec<Wire>,
    proxy: Proxy,
}

impl Clients {
    fn of(proxy: Proxy) -> Clients {
        Clients {
            wires: Vec::new(),
            proxy,
        }
    }

    /// Logs in until there are so many; each sends a query if they are `used`.
    fn up_to(&mut self, count: usize, used: bool) -> Result<(), String> {
        let endpoint = Endpoint {
            host: "127.0.0.1".into(),
            port: self.proxy.port(),
            user: USER.into(),
            password: String::new(),
            database: DATABASE.into(),
        };
        while self.wires.len() < count {
            interrupt::check()?;
            let mut wire = Wire::login(&endpoint);
            if used {
                let key = self.wires.len() + 1;
                let sql = format!("SELECT abalance FROM pgbench_accounts WHERE aid = {key}");
                let rows = wire.rows(&sql);
                if rows.len() != 1 {
                    return Err(self
                        .proxy
                        .failed(&format!("has {} rows for {sql}", rows.len())));
                }
            }
            self.wires.push(wire);
        }
        Ok(())
    }

    /// The proxy's Pss, in bytes.
    fn memory(&self) -> Result<f64, String> {
        let path = format!("/proc/{}/smaps_rollup", self.proxy.pid());
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
        pss(&text).ok_or_else(|| format!("{path} has no Pss"))
    }

    /// The share of a core that the proxy takes, in percent.
    fn silence(&self) -> Result<f64, String> {
        let pid = self.proxy.pid();
        let (begun, before) = (Instant::now(), cpu_time(pid)?);
        mothership_cluster::poll_until(SILENCE, interrupt::is_asked);
        interrupt::check()?;
        let used = cpu_time(pid)?.saturating_sub(before);
        Ok(100.0 * used.as_secs_f64() / begun.elapsed().as_secs_f64())
    }
}

/// The Pss of smaps_rollup, in bytes.
fn pss(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_take_is_reckoned_from_the_fewest_and_the_most() {
        let idle = Idle {
            target: "ours",
            unused: 0.0,
            used: 0.0,
            cpu: 0.0,
            held: [10e6, 20e6, 38e6],
            active: 0.0,
        };
        assert_eq!(idle.slope(), 2_000.0);
        assert_eq!(idle.reckoned(100_000), 208e6);
    }

    #[test]
    fn the_share_of_memory_is_read() {
        let text = "55-7ff ---p [rollup]\nRss:  9000 kB\nPss:  812 kB\nPss_Anon:  4 kB\n";
        assert_eq!(pss(text), Some(812.0 * 1024.0));
        assert_eq!(pss("Rss: 1 kB\n"), None);
    }
}
