//! One PostgreSQL server: its data folder made, started, stopped, broken.
//!
//! Below the folder that the caller names: `data`, `socket` (a unix socket that
//! only the server's account and root can reach, trusted), `log` (what the
//! server says) and `tool.log` (what initdb and the like said last).

use super::account::Account;
use super::ask::{Asking, NoAnswer, accepts};
use super::binaries::Binaries;
use super::conf;
use super::error::{ClusterError, Doing};
use super::port::free_port;
use super::process::{Process, run_tool, tail};
use super::wait::poll_until;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The longest path that fits `sockaddr_un` with its closing zero.
const SOCKET_PATH_LIMIT: usize = 107;

/// How often a start is tried anew because its port was taken meanwhile.
const PORT_TRIES: usize = 5;

/// How clients that come by TCP prove who they are. The unix socket is trusted: only our account reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// They need not.
    Trust,
    /// SCRAM-SHA-256; the superuser's password is in this file, which the server's account can read.
    Scram {
        /// A file whose first line is the password.
        password_file: PathBuf,
    },
}

/// What a server is to be like.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Everything of the server lies below it. It is created if need be and never removed here.
    pub folder: PathBuf,
    /// The name of the superuser that initdb creates.
    pub superuser: String,
    /// How clients that come by TCP log in.
    pub auth: Auth,
    /// A fixed port, or any free one.
    pub port: Option<u16>,
    /// Lines of postgresql.conf; a later one of the same name wins.
    pub settings: Vec<(String, String)>,
    /// How long initdb, pg_basebackup, a start or a stop may take.
    pub limit: Duration,
}

impl Spec {
    /// A trusting server with the superuser `postgres`, on a free port, with a minute for each step.
    pub fn new(folder: impl Into<PathBuf>) -> Spec {
        Spec {
            folder: folder.into(),
            superuser: "postgres".into(),
            auth: Auth::Trust,
            port: None,
            settings: Vec::new(),
            limit: Duration::from_secs(60),
        }
    }

    /// With one more line of postgresql.conf.
    pub fn set(mut self, name: &str, value: &str) -> Spec {
        self.settings.push((name.into(), value.into()));
        self
    }
}

/// How a server is asked to stop; see "Shutting Down the Server".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Ends all sessions, writes a checkpoint.
    Fast,
    /// Ends at once; the next start recovers from the WAL.
    Immediate,
}

/// A PostgreSQL server and its data folder. Dropped, the server is killed; the folder stays.
#[derive(Debug)]
pub struct Cluster {
    pub(super) binaries: Binaries,
    pub(super) account: Account,
    pub(super) spec: Spec,
    port: u16,
    process: Option<Process>,
}

impl Cluster {
    /// Makes a new data folder with initdb and starts its server.
    pub fn create(binaries: &Binaries, spec: Spec) -> Result<Cluster, ClusterError> {
        let mut cluster = Cluster::prepare(binaries, spec)?;
        cluster.make_data(|cluster, data| cluster.initdb(data))?;
        cluster.start()?;
        Ok(cluster)
    }

    /// Starts the server of a data folder that an earlier process has made.
    pub fn open(binaries: &Binaries, spec: Spec) -> Result<Cluster, ClusterError> {
        let mut cluster = Cluster::prepare(binaries, spec)?;
        let path = cluster.data();
        if !path.join("PG_VERSION").is_file() {
            let exists = false;
            return Err(ClusterError::DataFolder { path, exists });
        }
        cluster.start()?;
        Ok(cluster)
    }

    /// The folders and the port; nothing is started.
    pub(super) fn prepare(binaries: &Binaries, spec: Spec) -> Result<Cluster, ClusterError> {
        let account = Account::choose()?;
        let cluster = Cluster {
            binaries: binaries.clone(),
            account,
            port: spec.port.map_or_else(free_port, Ok)?,
            spec,
            process: None,
        };
        let path = cluster.socket_folder().join(".s.PGSQL.65535");
        if path.as_os_str().len() > SOCKET_PATH_LIMIT {
            let limit = SOCKET_PATH_LIMIT;
            return Err(ClusterError::SocketPath { path, limit });
        }
        let folder = &cluster.spec.folder;
        std::fs::create_dir_all(folder).doing("create", folder)?;
        cluster.account.give(folder)?;
        cluster.account.make_folder(&cluster.socket_folder())?;
        Ok(cluster)
    }

    /// Makes the data folder under another name first: a half-made one is never taken for a whole one.
    pub(super) fn make_data(
        &self,
        make: impl FnOnce(&Cluster, &Path) -> Result<(), ClusterError>,
    ) -> Result<(), ClusterError> {
        let path = self.data();
        if path.exists() {
            let exists = true;
            return Err(ClusterError::DataFolder { path, exists });
        }
        let half = self.spec.folder.join("data.new");
        if half.exists() {
            std::fs::remove_dir_all(&half).doing("remove", &half)?;
        }
        make(self, &half)?;
        std::fs::rename(&half, &path).doing("rename", &half)
    }

    fn initdb(&self, data: &Path) -> Result<(), ClusterError> {
        let mut initdb = self.account.command(&self.binaries.program("initdb"));
        initdb
            .arg("-D")
            .arg(data)
            .arg("-U")
            .arg(&self.spec.superuser);
        initdb.args(["--no-sync", "--locale=C.UTF-8", "--encoding=UTF8"]);
        initdb.arg("--auth-local=trust");
        match &self.spec.auth {
            Auth::Trust => initdb.arg("--auth-host=trust"),
            Auth::Scram { password_file } => initdb
                .arg("--auth-host=scram-sha-256")
                .arg("--pwfile")
                .arg(password_file),
        };
        run_tool("initdb", initdb, &self.tool_log(), self.spec.limit)?;
        let conf = data.join("postgresql.conf");
        let mut text = std::fs::read_to_string(&conf).doing("read", &conf)?;
        text.push_str(conf::INCLUDE);
        std::fs::write(&conf, text).doing("write", &conf)
    }

    /// Starts the server and waits until it accepts connections.
    ///
    /// A port that was not given may still change in the first start; from then
    /// on clients know it, and that it is taken is an error.
    pub fn start(&mut self) -> Result<(), ClusterError> {
        if self.is_running() {
            return Ok(());
        }
        for _ in 1..PORT_TRIES {
            match self.start_once() {
                Err(ClusterError::Exited { log, .. })
                    if self.spec.port.is_none() && log.contains("Address already in use") =>
                {
                    self.port = free_port()?;
                }
                Ok(()) => {
                    self.spec.port = Some(self.port);
                    return Ok(());
                }
                Err(other) => return Err(other),
            }
        }
        self.start_once()
    }

    fn start_once(&mut self) -> Result<(), ClusterError> {
        self.write_settings()?;
        let path = self.log();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&path)
            .doing("open", &path)?;
        let begin = log.metadata().doing("read", &path)?.len();
        let mut postgres = self.account.command(&self.binaries.program("postgres"));
        postgres.arg("-D").arg(self.data()).stdin(Stdio::null());
        postgres.stdout(log.try_clone().doing("open", &path)?);
        postgres.stderr(log);
        let process = Process::spawn(postgres).doing("start", "postgres")?;
        self.process = Some(process);
        let ready = self.wait_ready(self.spec.limit);
        if ready.is_err() {
            self.process = None;
        }
        ready.map_err(|error| with_log_from(error, &path, begin))
    }

    /// Waits until the server accepts connections; for a server that is restarting by itself, too.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<(), ClusterError> {
        let begin = Instant::now();
        let mut ended = None;
        let socket = self.socket();
        let superuser = self.spec.superuser.clone();
        let process = self.process.as_mut();
        let folder = self.spec.folder.clone();
        let process = process.ok_or(ClusterError::NotRunning { folder })?;
        let ready = poll_until(limit, || {
            ended = process.ended();
            ended.is_some() || accepts(&socket, &superuser)
        });
        let log = || tail(&self.log());
        match (ended, ready) {
            (Some(status), _) => Err(ClusterError::Exited { status, log: log() }),
            (None, true) => Ok(()),
            (None, false) => Err(ClusterError::TooSlow {
                what: "ready",
                waited: begin.elapsed(),
                log: log(),
            }),
        }
    }

    fn write_settings(&self) -> Result<(), ClusterError> {
        let path = self.data().join(conf::FILE);
        let port = self.port.to_string();
        let socket = self.socket_folder().display().to_string();
        let own = [
            ("listen_addresses", "127.0.0.1"),
            ("port", port.as_str()),
            ("unix_socket_directories", socket.as_str()),
            ("unix_socket_permissions", "0700"),
            ("cluster_name", "mothership"),
        ];
        let given = self.spec.settings.iter();
        let given = given.map(|(name, value)| (name.as_str(), value.as_str()));
        let text = conf::render(own.into_iter().chain(given));
        std::fs::write(&path, text).doing("write", &path)?;
        self.account.give(&path)
    }

    /// Adds lines of postgresql.conf and has a running server read them (SIGHUP); the caller polls for the effect.
    pub fn configure(&mut self, settings: &[(&str, &str)]) -> Result<(), ClusterError> {
        let new = settings.iter().map(|(n, v)| (n.to_string(), v.to_string()));
        self.spec.settings.extend(new);
        self.write_settings()?;
        if let Some(process) = &mut self.process {
            process.signal(libc::SIGHUP);
        }
        Ok(())
    }

    /// Stops the server and waits for its end; past the limit it is killed, and that is an error.
    pub fn stop(&mut self, mode: Mode) -> Result<(), ClusterError> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        process.signal(match mode {
            Mode::Fast => libc::SIGINT,
            Mode::Immediate => libc::SIGQUIT,
        });
        match process.wait(self.spec.limit) {
            Some(_) => Ok(()),
            None => Err(ClusterError::TooSlow {
                what: "stopped",
                waited: self.spec.limit,
                log: tail(&self.log()),
            }),
        }
    }

    /// Kills the server and all its sessions with SIGKILL, as a power failure would.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Stops the server if it runs, and starts it on the same port.
    pub fn restart(&mut self, mode: Mode) -> Result<(), ClusterError> {
        self.stop(mode)?;
        self.start()
    }

    /// Freezes the server and all its sessions (SIGSTOP); returns when they are frozen.
    pub fn pause(&mut self) -> Result<(), ClusterError> {
        let log = self.log();
        match self.running()?.pause() {
            true => Ok(()),
            false => Err(ClusterError::TooSlow {
                what: "paused",
                waited: Duration::ZERO,
                log: tail(&log),
            }),
        }
    }

    /// Lets a frozen server go on.
    pub fn resume(&mut self) -> Result<(), ClusterError> {
        self.running()?.resume();
        Ok(())
    }

    /// Makes a replica a primary and waits until it is one.
    pub fn promote(&mut self) -> Result<(), ClusterError> {
        self.running()?;
        let mut pg_ctl = self.account.command(&self.binaries.program("pg_ctl"));
        pg_ctl.args(["promote", "-w", "-t"]);
        pg_ctl.arg(self.spec.limit.as_secs().max(1).to_string());
        pg_ctl.arg("-D").arg(self.data());
        run_tool("pg_ctl", pg_ctl, &self.tool_log(), self.spec.limit)
    }

    /// Runs SQL on the unix socket as the superuser, in a session of its own, so that it finds nothing that another has set;
    /// returns rows, one per line, columns separated by `|`.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String, ClusterError> {
        self.sql_in(&mut self.session(database)?, sql)
    }

    /// A session as the superuser on the unix socket, for whoever asks often: a login takes a server ten times as long as a
    /// short statement.
    pub fn session(&self, database: &str) -> Result<Asking, ClusterError> {
        let begun = Asking::begin(&self.socket(), &self.spec.superuser, database);
        begun.map_err(|none| self.unanswered(none))
    }

    /// The same as [`sql`](Self::sql) in such a session.
    pub fn sql_in(&self, session: &mut Asking, sql: &str) -> Result<String, ClusterError> {
        session.ask(sql).map_err(|none| self.unanswered(none))
    }

    fn unanswered(&self, none: NoAnswer) -> ClusterError {
        match none {
            NoAnswer::Refused(said) => ClusterError::Refused { said },
            NoAnswer::Broken(cause) => ClusterError::Io {
                doing: "ask the server at",
                path: self.socket(),
                cause,
            },
        }
    }

    fn running(&mut self) -> Result<&mut Process, ClusterError> {
        let folder = self.spec.folder.clone();
        let process = self.process.as_mut();
        process.ok_or(ClusterError::NotRunning { folder })
    }

    /// Whether the server process is there.
    pub fn is_running(&mut self) -> bool {
        let process = self.process.as_mut();
        process.is_some_and(|process| process.ended().is_none())
    }

    /// The postmaster's process id.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's name.
    pub fn superuser(&self) -> &str {
        &self.spec.superuser
    }

    /// The folder with the unix socket, as libpq's `host`.
    pub fn socket_folder(&self) -> PathBuf {
        self.spec.folder.join("socket")
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.spec.folder.join("data")
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.spec.folder.join("log")
    }

    pub(super) fn tool_log(&self) -> PathBuf {
        self.spec.folder.join("tool.log")
    }

    fn socket(&self) -> PathBuf {
        let name = format!(".s.PGSQL.{}", self.port);
        self.socket_folder().join(name)
    }
}

/// An error with the log of this start only: an earlier "Address already in use" says nothing about it.
fn with_log_from(error: ClusterError, path: &Path, begin: u64) -> ClusterError {
    let text = std::fs::read(path).unwrap_or_default();
    let begin = usize::try_from(begin).unwrap_or(usize::MAX);
    let part = text.get(begin..).unwrap_or_default();
    let new = String::from_utf8_lossy(part).trim().to_string();
    match error {
        ClusterError::Exited { status, .. } => ClusterError::Exited { status, log: new },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn a_port_that_is_taken_before_the_first_start_is_changed() {
        let binaries = Binaries::find().unwrap();
        let name = format!("mothership-server-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let mut cluster = Cluster::prepare(&binaries, Spec::new(&folder)).unwrap();
        cluster.make_data(Cluster::initdb).unwrap();
        let first = cluster.port();
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        cluster.start().unwrap();
        assert_ne!(cluster.port(), first);
        drop((taken, cluster));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
