//! A process that stands between pgbench and PostgreSQL: the router or PgBouncer, started and ended.

use crate::interrupt;
use mothership_cluster::{Account, Binaries, poll_until, spawn_tied};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a start may take on a busy machine; the router reads the catalogs of all shards.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Of a log, in an error.
const TAIL: usize = 2_000;

/// The user of all runs, a superuser that every server trusts.
pub const USER: &str = "postgres";
/// Its password, which only the proxies ask for that stand for logins by SCRAM.
pub const PASSWORD: &str = "not a secret";
/// The database of all runs.
pub const DATABASE: &str = "bench";

/// One of the databases by which a proxy that does not route reaches several servers.
pub fn one_of_several(number: u32) -> String {
    format!("{DATABASE}{number}")
}

/// A running proxy. Dropped, it is killed.
#[derive(Debug)]
pub struct Proxy {
    name: String,
    child: Child,
    log: PathBuf,
    port: u16,
}

impl Proxy {
    /// Starts `mothership run` with the text of a configuration, which says that it listens on `port`.
    pub fn router(
        program: &Path,
        folder: &Path,
        name: &str,
        port: u16,
        text: &str,
    ) -> Result<Proxy, String> {
        let file = folder.join(format!("{name}.toml"));
        write(&file, text)?;
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(file);
        Proxy::spawn(command, folder, name, port)
    }

    /// Starts PgBouncer with the text of a configuration, which says that it listens on `port`.
    ///
    /// It refuses to run as root, so it gets the account that PostgreSQL runs as.
    pub fn pgbouncer(
        program: &Path,
        folder: &Path,
        port: u16,
        text: &str,
    ) -> Result<Proxy, String> {
        let file = folder.join("pgbouncer.ini");
        write(&file, text)?;
        let account = Account::choose().map_err(|e| e.to_string())?;
        let program = match account {
            Account::Own => program.to_owned(),
            Account::Other { .. } => reachable(program, folder)?,
        };
        let mut command = account.command(&program);
        command.arg("-q").arg(file);
        Proxy::spawn(command, folder, "pgbouncer", port)
    }

    fn spawn(mut command: Command, folder: &Path, name: &str, port: u16) -> Result<Proxy, String> {
        let log = folder.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let copy = file.try_clone().map_err(|e| e.to_string())?;
        command.stdin(Stdio::null()).stdout(copy).stderr(file);
        let child = spawn_tied(command, libc::SIGKILL).map_err(|e| format!("start {name}: {e}"))?;
        Ok(Proxy {
            name: name.to_owned(),
            child,
            log,
            port,
        })
    }

    /// Waits until it answers a query.
    pub fn ready(&mut self, binaries: &Binaries) -> Result<(), String> {
        let mut ended = None;
        let (child, port) = (&mut self.child, self.port);
        let up = poll_until(START_LIMIT, || {
            ended = child.try_wait().ok().flatten();
            ended.is_some() || interrupt::is_asked() || answers(binaries, port)
        });
        interrupt::check()?;
        match (ended, up) {
            (None, true) => Ok(()),
            (Some(status), _) => Err(self.failed(&format!("ended ({status})"))),
            (None, false) => Err(self.failed("does not answer")),
        }
    }

    /// An error about it, with the end of its log.
    pub fn failed(&self, what: &str) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let end = log
            .get(log.len().saturating_sub(TAIL)..)
            .unwrap_or_default();
        let end = String::from_utf8_lossy(end);
        format!("{} {what}; its log ends:\n{}", self.name, end.trim())
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answers(binaries: &Binaries, port: u16) -> bool {
    let mut psql = Command::new(binaries.program("psql"));
    psql.args(["-XqAt", "-h", "127.0.0.1", "-U", USER, "-d", DATABASE]);
    psql.args(["-p", &port.to_string(), "-c", "SELECT 1"]);
    psql.env("PGSSLMODE", "disable")
        .env("PGPASSWORD", PASSWORD)
        .env("PGCONNECT_TIMEOUT", "5");
    psql.stdin(Stdio::null()).stderr(Stdio::null());
    psql.output().is_ok_and(|out| out.stdout == b"1\n")
}

/// A copy of the program and of what lies beside it, where another account may read: a home folder is often closed.
fn reachable(program: &Path, folder: &Path) -> Result<PathBuf, String> {
    let name = program.file_name().ok_or("PgBouncer's path has no name")?;
    let beside = program
        .parent()
        .filter(|parent| parent.join("lib").is_dir());
    let target = folder.join("pgbouncer");
    let mut copy = Command::new("cp");
    match beside {
        Some(parent) => copy.arg("-rL").arg(parent).arg(&target),
        // A program of the system's own lies where everybody may read.
        None => return Ok(program.to_owned()),
    };
    match copy.status() {
        Ok(status) if status.success() => Ok(target.join(name)),
        other => Err(format!("copy PgBouncer: {other:?}")),
    }
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|e| format!("write {}: {e}", file.display()))
}
