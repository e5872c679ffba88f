//! The router as a process of its own: started, asked whether it serves, ended.

use super::error::{DemoError, Doing};
use super::fleet::CLIENT;
use super::settings;
use super::stop::Stop;
use mothership_cluster::{poll_until, spawn_tied};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio_postgres::{Client, Config, NoTls};

/// Until the first answer; the router reads the catalog of all shards before.
const START_LIMIT: Duration = Duration::from_secs(45);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// One attempt.
const LOGIN_LIMIT: Duration = Duration::from_secs(5);
/// Clients get `settings::DRAIN` to end their transactions; the rest is for the router itself.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Of a log, in an error.
const TAIL: usize = 2_000;

/// A running router. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Router {
    child: Child,
    log: PathBuf,
    port: u16,
}

impl Router {
    /// Starts `mothership run` with the configuration in the state folder.
    pub(super) fn start(state: &Path, port: u16) -> Result<Router, DemoError> {
        let program = std::env::current_exe().doing("find", "the running program")?;
        let folder = settings::folder(state);
        let log = folder.join("log");
        let mut options = std::fs::File::options();
        let file = options.create(true).append(true).open(&log);
        let file = file.doing("open", &log)?;
        let mut command = Command::new(&program);
        command
            .arg("run")
            .arg("--config")
            .arg(settings::path(state));
        command.current_dir(&folder).stdin(Stdio::null());
        command.stdout(file.try_clone().doing("open", &log)?);
        command.stderr(file);
        let child = spawn_tied(command, libc::SIGTERM).doing("start", program)?;
        Ok(Router { child, log, port })
    }

    /// Waits until the router answers a query.
    pub(super) async fn ready(&mut self, stop: &Stop) -> Result<(), DemoError> {
        let deadline = tokio::time::Instant::now() + START_LIMIT;
        loop {
            stop.check()?;
            self.check()?;
            let cause = match self.ask().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if tokio::time::Instant::now() > deadline {
                let (port, log) = (self.port, self.log_tail());
                return Err(DemoError::RouterSilent { port, log, cause });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask(&self) -> Result<(), Option<tokio_postgres::Error>> {
        let ask = async {
            let client = self.connect().await?;
            client.simple_query("SELECT 1").await
        };
        match tokio::time::timeout(LOGIN_LIMIT, ask).await {
            Ok(answer) => answer.map(drop).map_err(Some),
            Err(_) => Err(None),
        }
    }

    /// A connection as any client would make it.
    pub(super) async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port);
        config.user(CLIENT).dbname(CLIENT);
        config.application_name("mothership demo");
        let (client, connection) = config.connect(NoTls).await?;
        // Its error, if any, is also what the next call of the client returns.
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }

    /// An error if it has ended.
    pub(super) fn check(&mut self) -> Result<(), DemoError> {
        match self.exit_status() {
            None => Ok(()),
            Some(status) => Err(DemoError::RouterEnded {
                status,
                log: self.log_tail(),
            }),
        }
    }

    fn exit_status(&mut self) -> Option<ExitStatus> {
        // An error means that there is no such child, which we hold unreaped.
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to drain and end, and waits for that; past the limit it is killed.
    pub(super) fn stop(mut self) {
        if let (None, Ok(pid)) = (self.exit_status(), self.child.id().try_into()) {
            // SAFETY: kill touches no memory; the child is ours and unreaped.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
        poll_until(STOP_LIMIT, || self.exit_status().is_some());
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let end = text.get(text.len().saturating_sub(TAIL)..);
        String::from_utf8_lossy(end.unwrap_or_default())
            .trim()
            .to_owned()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether nobody listens on this port of 127.0.0.1.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
