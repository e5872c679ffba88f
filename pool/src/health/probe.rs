//! Asks the servers: one task for each, on a thread of its own, over connections
//! of its own, so that no traffic can starve a probe.
//!
//! A probe is one round trip ([`QUESTION`]). The answer, or the failure, goes to
//! [`Health`]; nothing is decided here. The end of a connection is noticed at once
//! and is no failure by itself: the server is asked again over a new one.

use super::discover::Source;
use super::report::{COLUMNS, QUESTION, Report};
use super::spec::{GroupSpec, ServerSpec, Settings};
use super::state::Failure;
use super::tls::ControlTls;
use super::view::Health;
use crate::endpoint::{Address, Interpreter};
use crate::resolve::{adopt, has_moved};
use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Two probes of a server are never nearer than this, whoever asks for them.
pub(super) const MIN_GAP: Duration = Duration::from_millis(10);

/// A name is looked up no more often than this.
const MIN_LOOK: Duration = Duration::from_millis(200);

/// The running probes. They end, and are waited for, when this is dropped; whoever waits for news of them is told.
#[derive(Debug)]
pub struct Prober {
    health: Arc<Health>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Prober {
    /// Starts to ask the servers of all groups. Returns at once; [`Health::ready`] waits for the first answers.
    pub fn spawn(groups: Vec<GroupSpec>, settings: &Settings) -> io::Result<Prober> {
        let health = Arc::new(Health::new(&groups, settings, Arc::default()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let watched = Arc::clone(&health);
        let thread = std::thread::Builder::new()
            .name("health".into())
            .spawn(move || {
                runtime.block_on(watch_all(&watched, groups, stopped));
                // A name that is being looked up must not hold the process.
                runtime.shutdown_background();
            })?;
        Ok(Prober {
            health,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// What the probes know.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        // Dropping the sender is the signal.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has logged its own panic, if any.
            let _ = thread.join();
        }
        self.health.end();
    }
}

async fn watch_all(health: &Arc<Health>, groups: Vec<GroupSpec>, stopped: oneshot::Receiver<()>) {
    let mut tasks = JoinSet::new();
    for (group, mut spec) in groups.into_iter().enumerate() {
        let sources = std::mem::take(&mut spec.patroni);
        for source in Source::of_group(health, group, sources, &spec.servers) {
            tasks.spawn(source.run());
        }
        let servers = spec.servers.into_iter().take(super::MAX_SERVERS);
        for (server, spec) in servers.enumerate() {
            if let Some(probe) = Probe::new(Arc::clone(health), group, server, spec) {
                tasks.spawn(probe.run());
            }
        }
    }
    // An error says that the sender was dropped.
    let _ = stopped.await;
    // The tasks are ended by dropping the set: none of them has to leave anything in order.
}

/// The probes of one server.
struct Probe {
    health: Arc<Health>,
    group: usize,
    server: usize,
    config: tokio_postgres::Config,
    tls: ControlTls,
    interpreter: Option<Arc<dyn Interpreter>>,
    connection: Option<Connection>,
    name: Option<Name>,
}

/// A server that is given by name.
struct Name {
    host: String,
    port: u16,
    /// What it meant last.
    addresses: Vec<IpAddr>,
    looked: Option<Instant>,
}

struct Connection {
    client: Client,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Probe {
    /// None if the server is not to be asked.
    fn new(health: Arc<Health>, group: usize, server: usize, spec: ServerSpec) -> Option<Probe> {
        let mut config = spec.control?;
        let tls = ControlTls::new(&spec.endpoint);
        let name = match &spec.endpoint.address {
            Address::Tcp(host, port)
                if host.parse::<IpAddr>().is_err() && spec.endpoint.interpreter.is_none() =>
            {
                Some(Name {
                    host: host.clone(),
                    port: *port,
                    addresses: Vec::new(),
                    looked: None,
                })
            }
            Address::Tcp(..) | Address::Unix(_) => None,
        };
        config
            .ssl_mode(tls.mode())
            .application_name("mothership health");
        Some(Probe {
            health,
            group,
            server,
            config,
            tls,
            interpreter: spec.endpoint.interpreter.clone(),
            connection: None,
            name,
        })
    }

    async fn run(mut self) {
        let (group, server) = (self.group, self.server);
        let mut before = 0;
        loop {
            let asked = Instant::now();
            // Before the question is sent; see `clock`.
            let moment = self.moment();
            let limit = self.health.watch().timeout;
            match tokio::time::timeout(limit, self.ask()).await {
                Ok(Ok(report)) => self.health.on_report(group, server, report, moment, asked),
                Ok(Err(Some(failure))) => self.fail(failure, asked),
                // It was this process that could not ask.
                Ok(Err(None)) => self.connection = None,
                // This process itself had no processor for that long: it says nothing about the server.
                Err(_) if asked.elapsed() > limit + limit / 2 => self.connection = None,
                Err(_) => self.fail(Failure::TimedOut, asked),
            }
            self.rest(asked, moment != before).await;
            before = moment;
        }
    }

    fn moment(&self) -> u64 {
        self.health.clock(self.group).map_or(0, |clock| clock.now())
    }

    fn fail(&mut self, failure: Failure, asked: Instant) {
        self.connection = None;
        self.health
            .on_failed_probe(self.group, self.server, failure, asked);
    }

    /// Waits until the next probe is due (sooner when there were writes since the last one), somebody wants one, or the connection ends.
    async fn rest(&mut self, asked: Instant, wrote: bool) {
        let pause = self.health.pause(self.group, self.server, wrote);
        let lost = async {
            match &mut self.connection {
                Some(connection) => {
                    let _ = (&mut connection.driver).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.health.woken(self.group, self.server) => {}
            () = lost => {
                self.connection = None;
                self.health.report_lost(self.group, self.server);
            }
        }
        tokio::time::sleep_until((asked + MIN_GAP).into()).await;
    }

    /// Looks whether the server's name means another one now: from time to time, and at once without a connection.
    async fn follow_name(&mut self) {
        let pause = match &self.connection {
            Some(_) => self.health.watch().resolve_interval,
            None => MIN_LOOK,
        };
        let Some(name) = &mut self.name else {
            return;
        };
        if name.looked.is_some_and(|at| at.elapsed() < pause) {
            return;
        }
        name.looked = Some(Instant::now());
        // A name that cannot be resolved means what it meant.
        let found = tokio::net::lookup_host((&*name.host, name.port)).await;
        let found: Vec<IpAddr> = found.into_iter().flatten().map(|a| a.ip()).collect();
        if has_moved(&name.addresses, &found) {
            tracing::warn!(host = name.host, before = ?name.addresses, now = ?found, "a server's name means another address");
            self.connection = None;
            // First nobody goes there, then the way there is another.
            self.health.on_moved(self.group, self.server);
            adopt(&name.host, &found);
        }
        if !found.is_empty() {
            name.addresses = found;
        }
    }

    /// Without a failure nothing is known about the server.
    async fn ask(&mut self) -> Result<Report, Option<Failure>> {
        self.follow_name().await;
        if let Some(connection) = &self.connection {
            match question(&connection.client).await {
                // It had ended without our noticing; whether the server lives is seen on a new one.
                Err(Some(Failure::Broken | Failure::NotReady)) => {
                    self.connection = None;
                    self.health.report_lost(self.group, self.server);
                }
                answer => return answer.map(|answer| self.told(answer)),
            }
        }
        let connection = self.connect().await?;
        let answer = question(&self.connection.insert(connection).client).await;
        answer.map(|answer| self.told(answer))
    }

    fn told(&self, (report, labels): (Report, Option<String>)) -> Report {
        if let Some(labels) = labels {
            self.health.on_labels(self.group, self.server, &labels);
        }
        report
    }

    /// A new connection, and who drives it: its error is also what the client's next question gets.
    async fn connect(&self) -> Result<Connection, Option<Failure>> {
        let Some(interpreter) = &self.interpreter else {
            let connected = self.config.connect(self.tls.clone()).await;
            let (client, connection) = connected.map_err(|error| failure(&error))?;
            let driver = tokio::spawn(async move { drop(connection.await) });
            return Ok(Connection { client, driver });
        };
        // Nothing is known of the server then.
        let stream = interpreter.dial().map_err(|_| None)?;
        let connected = self.config.connect_raw(stream, NoTls).await;
        let (client, connection) = connected.map_err(|error| failure(&error))?;
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { client, driver })
    }
}

/// The answer; and behind it the labels that a server has told, if it is of a kind that has some.
async fn question(client: &Client) -> Result<(Report, Option<String>), Option<Failure>> {
    let messages = client
        .simple_query(QUESTION)
        .await
        .map_err(|error| failure(&error))?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row
        .filter(|row| [COLUMNS, COLUMNS + 1].contains(&row.len()))
        .ok_or(Some(Failure::Unusable))?;
    let report = Report::parse(|column| row.get(column)).map_err(|error| {
        tracing::warn!(%error, "probe");
        Some(Failure::Unusable)
    })?;
    let labels = (row.len() > COLUMNS).then(|| row.get(COLUMNS).unwrap_or_default());
    Ok((report, labels.map(str::to_owned)))
}

/// What an error says about the server, if anything.
fn failure(error: &tokio_postgres::Error) -> Option<Failure> {
    if let Some(state) = error.code() {
        let code = state.code();
        let rejected = || Failure::Rejected(code.as_bytes().try_into().unwrap_or(*b"XX000"));
        return Some(Failure::of_sqlstate(code).unwrap_or_else(rejected));
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let failure = Failure::of_connecting(error);
            if failure.is_none() {
                tracing::warn!(%error, "a server cannot be asked for its health");
            }
            return failure;
        }
        cause = error.source();
    }
    Some(match error.is_closed() {
        true => Failure::Broken,
        false => Failure::Unusable,
    })
}
