//! One run of pgbench against one address, and what it and the proxy say of it.
//!
//! A run that ends late, in error or with a failed transaction is an error, never a figure.

use crate::case::{Case, Work};
use crate::child;
use crate::figures::{Figures, Latency};
use crate::options::Options;
use crate::proxy::{DATABASE, PASSWORD, USER, one_of_several};
use crate::scripts;
use crate::trace::Trace;
use mothership_cluster::{Binaries, spawn_tied};
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
/// The file of a script that is not pgbench's own.
const SCRIPT: &str = "script.sql";
/// How pgbench's files of latencies begin.
const PREFIX: &str = "latency";

/// Accounts for each unit of pgbench's scale.
const ACCOUNTS: u32 = 100_000;

/// The program, and a folder for what it writes.
#[derive(Debug)]
pub struct Pgbench {
    program: PathBuf,
    psql: PathBuf,
    folder: PathBuf,
    scale: u32,
    documents: u32,
}

/// One run.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// What is asked.
    pub case: Case,
    /// For how long.
    pub duration: Duration,
    /// Of pgbench's random numbers.
    pub seed: u32,
    /// Transactions a second, if not as many as there can be.
    pub rate: Option<f64>,
    /// The databases among which the clients are divided; 1 is the one of all runs.
    pub databases: u32,
}

impl Pgbench {
    /// With the programs of an installation and a folder that the caller removes.
    pub fn new(binaries: &Binaries, folder: &Path, options: &Options) -> Pgbench {
        Pgbench {
            program: binaries.program("pgbench"),
            psql: binaries.program("psql"),
            folder: folder.to_owned(),
            scale: options.scale,
            documents: options.documents,
        }
    }

    /// Makes pgbench's tables and fills them.
    pub fn fill(&self, port: u16) -> Result<(), String> {
        let mut command = self.command(port);
        command.args(["-i", "-q", "-s", &self.scale.to_string()]);
        self.finish(vec![command], FILL_LIMIT).map(drop)
    }

    /// Runs statements, each for itself.
    pub fn say(&self, port: u16, statements: &[String]) -> Result<(), String> {
        let mut command = Command::new(&self.psql);
        command.args(["-XqAt", "-v", "ON_ERROR_STOP=1"]);
        self.reach(&mut command, port);
        for statement in statements {
            command.args(["-c", statement]);
        }
        self.finish(vec![command], FILL_LIMIT).map(drop)
    }

    /// Loads what listens on a port; `proxy` is the process whose CPU counts.
    pub fn run(&self, port: u16, proxy: Option<u32>, run: &Run) -> Result<Figures, String> {
        let Run {
            case,
            duration,
            databases,
            ..
        } = *run;
        let accounts = self.scale * ACCOUNTS;
        let script = match databases {
            1 => scripts::script(case.work, accounts, self.documents),
            _ => Some(scripts::select(accounts)),
        };
        if let Some(text) = &script {
            let file = self.folder.join(SCRIPT);
            std::fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
        }
        let parts = (0..databases).map(|database| self.part(port, run, database, script.is_some()));
        let parts: Vec<Command> = parts.collect();
        let trace = match (case.work, proxy) {
            (Work::Traced, Some(pid)) => Some(Trace::start(pid, &self.folder)?),
            _ => None,
        };
        let meter = Meter::start(proxy)?;
        let outputs = self.finish(parts, duration + GRACE);
        let used = meter.end();
        // All of the load is within, and nothing else.
        let calls = trace.map(Trace::end).transpose()?;
        if calls == Some(0) {
            return Err("strace has counted nothing".into());
        }
        let latencies = self.take_latencies()?;
        let outputs = outputs?;
        let told = outputs.iter().map(|output| Told::read(output));
        let told = Told::all(told.collect::<Result<Vec<_>, _>>()?);
        let count = told.transactions as f64;
        let (cpu, machine) = used?.each(count);
        Ok(Figures {
            transactions: told.transactions,
            tps: told.tps,
            cpu,
            machine: Some(machine),
            calls: calls.map(|calls| calls as f64 / count),
            connecting: told.connecting,
            latency: Latency::of(latencies),
        })
    }

    /// pgbench for the clients of one of the databases of a run.
    fn part(&self, port: u16, run: &Run, database: u32, has_script: bool) -> Command {
        let Run { case, rate, .. } = *run;
        let clients = share(case.clients, run.databases, database);
        let mut command = self.command(port);
        if run.databases > 1 {
            command.env("PGDATABASE", one_of_several(database));
        }
        match has_script {
            true => command.args(["-f", SCRIPT]),
            false => command.arg("-S"),
        };
        command.args(["-n", "-M", case.mode.word()]);
        if matches!(case.work, Work::Connect | Work::Login) {
            command.arg("-C");
        }
        let sampled = match rate {
            // There are fewer of them, and the slowest count.
            Some(rate) => {
                let rate = rate * f64::from(clients) / f64::from(case.clients);
                command.args(["-R", &format!("{rate:.0}")]);
                "1"
            }
            None => SAMPLED,
        };
        command.args(["-c", &clients.to_string()]);
        let threads = match case.work {
            // One for each of several.
            _ if run.databases > 1 => 1,
            // To prepare a statement pgbench holds up a whole thread, and with it clients of the thread that have a
            // connection which the prepare may wait for.
            Work::Branch => case.clients,
            _ => THREADS.min(case.clients),
        };
        command.args(["-j", &threads.to_string()]);
        command.args(["-T", &run.duration.as_secs().max(1).to_string()]);
        let prefix = format!("{PREFIX}-{database}");
        command.args(["--log", "--sampling-rate", sampled, "--log-prefix", &prefix]);
        command.args(["--random-seed", &run.seed.to_string()]);
        command
    }

    fn command(&self, port: u16) -> Command {
        let mut command = Command::new(&self.program);
        self.reach(&mut command, port);
        command
    }

    fn reach(&self, command: &mut Command, port: u16) {
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", USER]);
        command
            .env("PGSSLMODE", "disable")
            .env("PGPASSWORD", PASSWORD)
            .env("PGDATABASE", DATABASE);
        command.current_dir(&self.folder);
    }

    /// Runs programs side by side to their end; returns what each said.
    fn finish(&self, commands: Vec<Command>, limit: Duration) -> Result<Vec<String>, String> {
        let mut running = Vec::new();
        for (number, mut command) in commands.into_iter().enumerate() {
            let path = self.folder.join(format!("pgbench-{number}.out"));
            let out = File::create(&path).map_err(|e| format!("create {}: {e}", path.display()))?;
            let err = out.try_clone().map_err(|e| e.to_string())?;
            command.stdin(Stdio::null()).stdout(out).stderr(err);
            let child = spawn_tied(command, libc::SIGKILL);
            running.push((child.map_err(|e| format!("start pgbench: {e}"))?, path));
        }
        let ended = running.into_iter().map(|(mut child, path)| {
            let status = child::finish(&mut child, limit)?;
            let output =
                std::fs::read(&path).map_err(|e| format!("read {}: {e}", path.display()))?;
            let output = String::from_utf8_lossy(&output).into_owned();
            match status {
                Some(status) if status.success() => Ok(output),
                Some(status) => Err(format!(
                    "failed under pgbench ({status}):\n{}",
                    child::last_lines(&output)
                )),
                None => Err(format!("hung: pgbench did not end within {limit:?}")),
            }
        });
        ended.collect()
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

/// The clients of one of several databases.
fn share(clients: u32, databases: u32, database: u32) -> u32 {
    clients / databases + u32::from(database < clients % databases)
}

/// What a proxy and the machine have used since a moment.
pub struct Meter {
    proxy: Option<u32>,
    before: Used,
}

/// CPU that was used.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    proxy: Option<Duration>,
    machine: Duration,
}

impl Meter {
    /// From now on.
    pub fn start(proxy: Option<u32>) -> Result<Meter, String> {
        let before = Used::until_now(proxy)?;
        Ok(Meter { proxy, before })
    }

    /// Up to now.
    pub fn end(self) -> Result<Used, String> {
        let (before, after) = (self.before, Used::until_now(self.proxy)?);
        let both = after.proxy.zip(before.proxy);
        Ok(Used {
            proxy: both.map(|(after, before)| after.saturating_sub(before)),
            machine: after.machine.saturating_sub(before.machine),
        })
    }
}

impl Used {
    fn until_now(proxy: Option<u32>) -> Result<Used, String> {
        Ok(Used {
            proxy: proxy.map(cpu_time).transpose()?,
            machine: machine_time()?,
        })
    }

    /// Microseconds for each of so many: of the proxy, if there is one, and of the machine.
    pub fn each(&self, count: f64) -> (Option<f64>, f64) {
        let each = |used: Duration| used.as_secs_f64() * 1e6 / count;
        (self.proxy.map(each), each(self.machine))
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
    /// Of several at once.
    fn all(parts: Vec<Told>) -> Told {
        Told {
            transactions: parts.iter().map(|told| told.transactions).sum(),
            tps: parts.iter().map(|told| told.tps).sum(),
            connecting: parts.iter().map(|told| told.connecting).fold(0.0, f64::max),
        }
    }

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
            // With a connection for each transaction that is told in another way.
            connecting: after("initial connection time = ").map_or(Ok(0.0), number)?,
        })
    }
}

/// CPU that a process has used since it was started, of all its threads, ended ones too; see clock_getcpuclockid(3).
///
/// In nanoseconds, where /proc/PID/stat counts ticks of 10 ms, too coarse for loads of a second.
pub fn cpu_time(pid: u32) -> Result<Duration, String> {
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

/// CPU that all processes and the kernel have used since the machine was started; see proc_stat(5).
fn machine_time() -> Result<Duration, String> {
    let text = std::fs::read_to_string("/proc/stat").map_err(|e| format!("/proc/stat: {e}"))?;
    let ticks = busy_ticks(&text).ok_or("/proc/stat says nothing of the CPU")?;
    // SAFETY: it reads a constant of the system.
    let each = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok(Duration::from_secs_f64(ticks as f64 / each.max(1) as f64))
}

/// user, nice, system, irq and softirq of all cores: not idle, iowait, nor what others had of the host.
fn busy_ticks(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    [0, 1, 2, 5, 6].into_iter().map(|at| ticks.get(at)).sum()
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
        let stat = "cpu  1 20 300 4000 50000 600000 7000000 80000000 0 0\ncpu0 1 1 1 1\n";
        assert_eq!(busy_ticks(stat), Some(7_600_321));
        assert_eq!(busy_ticks("cpu  1 20 300\n"), None);
    }

    #[test]
    fn clients_are_divided_among_databases() {
        let shares = |clients| [0, 1, 2].map(|database| share(clients, 3, database));
        assert_eq!(
            (shares(16), shares(3), share(5, 1, 0)),
            ([6, 5, 5], [1, 1, 1], 5)
        );
        let told = |tps| Told {
            transactions: 2,
            tps,
            connecting: tps,
        };
        let all = Told {
            transactions: 4,
            tps: 5.0,
            connecting: 3.0,
        };
        assert_eq!(Told::all(vec![told(3.0), told(2.0)]), all);
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
