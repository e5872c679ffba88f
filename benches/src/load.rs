//! One run of pgbench against one address, and what it and the proxy say of it.
//!
//! A run that ends late, in error or with a failed transaction is an error, never a figure.

use crate::figures::{Case, Figures, Latency};
use crate::interrupt;
use crate::proxy::{DATABASE, USER};
use mothership::cluster::{Binaries, poll_until, spawn_tied};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a run may take longer than it was asked to: connecting, and answers under way.
const GRACE: Duration = Duration::from_secs(60);
/// Filling all servers with rows.
const FILL_LIMIT: Duration = Duration::from_secs(600);
/// Threads of pgbench.
const THREADS: u32 = 2;
/// The share of transactions whose latency is noted: enough for a percentile, cheap for pgbench.
const SAMPLED: &str = "0.1";
/// How pgbench's files of latencies begin.
const PREFIX: &str = "latency";

/// The program, and a folder for what it writes.
#[derive(Debug)]
pub struct Pgbench {
    program: PathBuf,
    folder: PathBuf,
}

impl Pgbench {
    /// With the programs of an installation and a folder that the caller removes.
    pub fn new(binaries: &Binaries, folder: &Path) -> Pgbench {
        Pgbench {
            program: binaries.program("pgbench"),
            folder: folder.to_owned(),
        }
    }

    /// Makes pgbench's tables and fills them, `scale` times 100,000 accounts.
    pub fn fill(&self, port: u16, scale: u32) -> Result<(), String> {
        let mut command = self.command(port);
        command.args(["-i", "-q", "-s", &scale.to_string()]);
        self.finish(command, FILL_LIMIT).map(drop)
    }

    /// Reads single accounts by their key for `duration`; `proxy` is the process whose CPU counts.
    pub fn select(
        &self,
        port: u16,
        proxy: Option<u32>,
        case: Case,
        duration: Duration,
        seed: u64,
    ) -> Result<Figures, String> {
        let mut command = self.command(port);
        command.args(["-S", "-n", "-M", case.mode.word()]);
        command.args(["-c", &case.clients.to_string()]);
        command.args(["-j", &THREADS.min(case.clients).to_string()]);
        command.args(["-T", &duration.as_secs().max(1).to_string()]);
        command.args(["--log", "--sampling-rate", SAMPLED, "--log-prefix", PREFIX]);
        command.args(["--random-seed", &seed.to_string()]);
        let before = proxy.map(cpu_time).transpose()?;
        let output = self.finish(command, duration + GRACE);
        let after = proxy.map(cpu_time).transpose()?;
        let latencies = self.take_latencies()?;
        let told = Told::read(&output?)?;
        let used = after.zip(before);
        let used = used.map(|(after, before)| after.saturating_sub(before));
        Ok(Figures {
            transactions: told.transactions,
            tps: told.tps,
            cpu: used.map(|used| used.as_secs_f64() * 1e6 / told.transactions as f64),
            connecting: told.connecting,
            latency: Latency::of(latencies),
        })
    }

    fn command(&self, port: u16) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", USER]);
        command
            .env("PGSSLMODE", "disable")
            .env("PGDATABASE", DATABASE);
        command.current_dir(&self.folder);
        command
    }

    /// Runs it to its end; returns what it said.
    fn finish(&self, mut command: Command, limit: Duration) -> Result<String, String> {
        let path = self.folder.join("pgbench.out");
        let out = File::create(&path).map_err(|e| format!("create {}: {e}", path.display()))?;
        let err = out.try_clone().map_err(|e| e.to_string())?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = spawn_tied(command, libc::SIGKILL);
        let mut child = child.map_err(|e| format!("start pgbench: {e}"))?;
        let mut status = None;
        poll_until(limit, || {
            status = child.try_wait().ok().flatten();
            status.is_some() || interrupt::is_asked()
        });
        if status.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        interrupt::check()?;
        let output = std::fs::read(&path).map_err(|e| format!("read {}: {e}", path.display()))?;
        let output = String::from_utf8_lossy(&output).into_owned();
        let last = |output: &str| {
            let lines: Vec<_> = output.lines().rev().take(8).collect();
            lines.into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        match status {
            Some(status) if status.success() => Ok(output),
            Some(status) => Err(format!(
                "failed under pgbench ({status}):\n{}",
                last(&output)
            )),
            None => Err(format!("hung: pgbench did not end within {limit:?}")),
        }
    }

    /// Reads and removes the files of latencies: microseconds, in the third column.
    fn take_latencies(&self) -> Result<Vec<u64>, String> {
        let doing = |path: &Path| {
            let path = path.display().to_string();
            move |e: std::io::Error| format!("{path}: {e}")
        };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(doing(&self.folder))? {
            let path = entry.map_err(doing(&self.folder))?.path();
            let ours = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(PREFIX);
            if path.file_name().is_some_and(ours) {
                let text = std::fs::read_to_string(&path).map_err(doing(&path))?;
                found.extend(text.lines().filter_map(elapsed));
                std::fs::remove_file(&path).map_err(doing(&path))?;
            }
        }
        Ok(found)
    }
}

/// client_id transaction_no time script_no time_epoch time_us; see "Per-Transaction Logging" of pgbench.
fn elapsed(line: &str) -> Option<u64> {
    line.split_whitespace().nth(2)?.parse().ok()
}

/// What pgbench prints at its end.
#[derive(Debug, PartialEq)]
struct Told {
    transactions: u64,
    tps: f64,
    connecting: f64,
}

impl Told {
    fn read(output: &str) -> Result<Told, String> {
        let after = |words: &str| {
            let line = output.lines().find_map(|line| line.strip_prefix(words));
            let word = line.and_then(|rest| rest.split_whitespace().next());
            word.ok_or_else(|| format!("pgbench said nothing of \"{words}\":\n{output}"))
        };
        let number = |word: &str| {
            let number = word.parse::<f64>();
            number.map_err(|_| format!("pgbench said \"{word}\":\n{output}"))
        };
        let failed = after("number of failed transactions: ")?;
        // It reports some failures with exit status 0.
        if failed != "0" || output.contains("aborted") {
            return Err(format!("failed transactions: {failed}\n{output}"));
        }
        let transactions = number(after("number of transactions actually processed: ")?)?;
        if transactions < 1.0 {
            return Err("no transaction was carried out".into());
        }
        Ok(Told {
            transactions: transactions as u64,
            tps: number(after("tps = ")?)?,
            connecting: number(after("initial connection time = ")?)?,
        })
    }
}

/// CPU that a process has used since it was started, of all its threads, ended ones too; see clock_getcpuclockid(3).
///
/// In nanoseconds, where /proc/PID/stat counts ticks of 10 ms, too coarse for loads of a second.
fn cpu_time(pid: u32) -> Result<Duration, String> {
    let gone = || format!("process {pid} is gone");
    let pid = libc::pid_t::try_from(pid).map_err(|_| gone())?;
    let mut clock = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both calls write to what they are given, which lives until they return.
    let read = unsafe {
        libc::clock_getcpuclockid(pid, &mut clock) == 0
            && libc::clock_gettime(clock, &mut time) == 0
    };
    match (read, time.tv_sec.try_into(), time.tv_nsec.try_into()) {
        (true, Ok(seconds), Ok(nanoseconds)) => Ok(Duration::new(seconds, nanoseconds)),
        _ => Err(gone()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const OUTPUT: &str = "pgbench (15.13)
transaction type: <builtin: select only>
scaling factor: 10
number of transactions actually processed: 26481
number of failed transactions: 0 (0.000%)
latency average = 0.604 ms
initial connection time = 18.402 ms
tps = 26479.115310 (without initial connection time)
";

    #[test]
    fn what_pgbench_says_is_read() {
        let told = Told {
            transactions: 26481,
            tps: 26479.11531,
            connecting: 18.402,
        };
        assert_eq!(Told::read(OUTPUT), Ok(told));
        assert_eq!(elapsed("0 199 2241 0 1175850568 995598"), Some(2241));
        assert_eq!(elapsed(""), None);
    }

    #[test]
    fn a_run_with_failures_is_no_figure() {
        for (from, to) in [
            ("failed transactions: 0", "failed transactions: 3"),
            ("processed: 26481", "processed: 0"),
            ("tps = ", "speed = "),
            ("pgbench (15.13)", "pgbench: client 3 aborted in command 1"),
        ] {
            let output = OUTPUT.replace(from, to);
            assert_ne!(output, OUTPUT);
            assert!(Told::read(&output).is_err(), "{output}");
        }
    }

    #[test]
    fn a_process_has_used_cpu_and_one_that_is_gone_is_told() {
        let before = cpu_time(std::process::id()).unwrap();
        let mut sum = 0u64;
        while cpu_time(std::process::id()).unwrap() <= before {
            sum = std::hint::black_box(sum + 1);
        }
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(cpu_time(child.id()).is_err());
    }
}
