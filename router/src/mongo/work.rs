//! Carries out commands on a member of MongoDB, in the transaction that the connection has open. Repeats a command if
//! another transaction is in its way.

use super::decisions::Decisions;
use super::direct::{Asked, Direct, Read, ending};
use super::outcome::{
    Stop, cancelled, ended_early, failed_at, is_conflict, is_duplicate, is_ended, not_primary,
    of_code, stop, stop_of,
};
use super::rows::Shape;
use super::run::{Answer, Done, Failure, Run};
use crate::retry::Retry;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::options::{ReadConcern, WriteConcern};
use mongodb::{Client, ClientSession, Database};
use mothership_documents::Collection;
use mothership_documents::translate::{Command, Output};
use mothership_documents::value::Forms;
use mothership_proto::report::Report;
use rand::RngExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How often a command with ON CONFLICT is tried, if a key appears after the command has looked for it.
const LOOKS: u32 = 4;
/// How long the other members may take to receive a write.
const REPLICATED: Duration = Duration::from_secs(10);

/// Servers with this wire version or a later one can read by snapshots without a transaction: MongoDB 5.0.
const SNAPSHOTS: i32 = 13;

/// How long ending a running command may take.
pub(super) const KILLED: Duration = Duration::from_secs(5);

/// A database of a member, and the session in which all commands run there.
pub(super) struct Worker {
    client: Client,
    database: Database,
    collections: Arc<[Arc<Collection>]>,
    decisions: Decisions,
    direct: Direct,
    pub session: Option<ClientSession>,
    /// The part of a command about the session, for reads that bypass the driver; known while there is a session.
    ending: Option<RawDocumentBuf>,
    /// The session for reads that share a snapshot number, see [`mothership_documents::snapshot`].
    snapshot: Option<(u64, ClientSession)>,
    /// The next command is a read with that number.
    pub by_snapshot: bool,
    /// A transaction of MongoDB's is open.
    pub in_transaction: bool,
    /// The client has asked to cancel the running command.
    cancelled: Arc<AtomicBool>,
}

impl Worker {
    pub fn new(
        client: Client,
        database: &str,
        collections: Arc<[Arc<Collection>]>,
        decisions: Decisions,
        direct: Direct,
        cancelled: Arc<AtomicBool>,
    ) -> Worker {
        Worker {
            database: client.database(database),
            client,
            collections,
            decisions,
            direct,
            session: None,
            ending: None,
            snapshot: None,
            by_snapshot: false,
            in_transaction: false,
            cancelled,
        }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    fn declared(&self, name: &str) -> Option<&Collection> {
        let found = self.collections.iter().find(|one| one.collection == name);
        found.map(|found| &**found)
    }

    /// The number of the database.
    pub async fn number(&self) -> Done<i64> {
        let database = self.database.name();
        self.decisions.number(&self.client, database).await
    }

    /// The decisions of the database, read and written by majority.
    pub fn decisions(&self) -> mongodb::Collection<Document> {
        self.decisions.of(&self.client, self.database.name())
    }

    /// The same within the open transaction.
    pub fn decisions_in_transaction(&self) -> mongodb::Collection<Document> {
        self.database.collection(self.decisions.name())
    }

    /// The session; it is begun if there is none.
    pub async fn session(&mut self) -> Result<&mut ClientSession, Stop> {
        if self.session.is_none() {
            let begun = self.client.start_session().causal_consistency(false).await;
            let begun = begun.map_err(|error| stop(&error, None))?;
            self.ending = ending(begun.id(), self.database.name());
            self.session = Some(begun);
        }
        self.session.as_mut().ok_or(Stop::Lost)
    }

    /// Makes all reads with this number see the same documents: those that this member has when the first of them
    /// begins. False if the server is too old for that.
    pub async fn snapshot(&mut self, number: u64) -> Result<bool, Stop> {
        if self
            .snapshot
            .as_ref()
            .is_some_and(|(known, _)| *known != number)
        {
            self.snapshot = None;
        }
        if self.snapshot.is_none() {
            // MongoDB's default would be the newest state that this member knows to be on a majority. That may be older
            // than what the client has already seen.
            let admin = self.client.database("admin");
            let said = admin.run_command(doc! { "hello": 1 }).await;
            let said = said.map_err(|error| stop(&error, None))?;
            let (Ok(time), Ok(SNAPSHOTS..)) = (
                said.get_timestamp("operationTime"),
                said.get_i32("maxWireVersion"),
            ) else {
                return Ok(false);
            };
            let begun = self.client.start_session().snapshot(true);
            let begun = begun.snapshot_time(time).await;
            self.snapshot = Some((number, begun.map_err(|error| stop(&error, None))?));
        }
        Ok(true)
    }

    /// The session for a read and for the rows of its cursor.
    pub fn reader(&mut self, by_snapshot: bool) -> Option<&mut ClientSession> {
        match (by_snapshot, &mut self.snapshot) {
            (true, Some((_, session))) => Some(session),
            _ => self.session.as_mut(),
        }
    }

    /// Begins a transaction of MongoDB's. `first` is its first command, if that is known and the transaction may write.
    pub async fn begin(&mut self, first: Option<&Command>) -> Result<(), Stop> {
        if let Some(collection) = first.and_then(collection_of) {
            self.decisions.make(&self.database, collection).await;
        }
        if let Err(error) = self.number().await {
            // Only a transaction that also writes on PostgreSQL needs the number, and fails with a message of its own
            // without it.
            tracing::debug!(%error, "the database has no number");
        }
        let begun = self.session().await?.start_transaction();
        let begun = begun
            .read_concern(ReadConcern::snapshot())
            .write_concern(durably())
            .await;
        begun.map_err(|error| stop(&error, None))?;
        self.in_transaction = true;
        Ok(())
    }

    /// Ends the transaction.
    pub async fn end(&mut self, commits: bool) -> Result<(), Stop> {
        if !std::mem::take(&mut self.in_transaction) {
            return Ok(());
        }
        let session = self.session().await?;
        if !commits {
            // If the server has undone the transaction already, it cannot be undone again. If the server cannot be
            // reached, it undoes it by itself.
            let _ = tokio::time::timeout(KILLED, session.abort_transaction()).await;
            return Ok(());
        }
        match session.commit_transaction().await {
            Ok(()) => Ok(()),
            // The transaction has done nothing.
            Err(error) if is_conflict(&error) => Err(stop(&error, None)),
            Err(error) => {
                tracing::debug!(%error, "the outcome of a commit on MongoDB is not known");
                Err(Stop::Lost)
            }
        }
    }

    /// Ends what runs in the session, and the session with its transaction. False if that is not certain.
    pub async fn kill(&mut self) -> bool {
        self.in_transaction = false;
        let snapshot = self.snapshot.take().map(|(_, session)| session);
        self.ending = None;
        let sessions = self.session.take().into_iter().chain(snapshot);
        let ids: Vec<Document> = sessions.map(|session| session.id().clone()).collect();
        if ids.is_empty() {
            return true;
        }
        let admin = self.client.database("admin");
        let kill = admin.run_command(doc! { "killSessions": ids });
        matches!(tokio::time::timeout(KILLED, kill).await, Ok(Ok(_)))
    }

    /// Carries out a command. `returning` are the columns that a write returns; `forms` says how errors write values.
    /// If no transaction is open, and the command might be done only in part, it runs in a transaction of its own. At
    /// `limit` the server itself ends a read, with its cursor.
    pub async fn carry_out(
        &mut self,
        (command, returning): (&Command, &[Output]),
        forms: &Forms,
        limit: Option<Instant>,
        retry: Retry,
    ) -> Result<Answer, Stop> {
        if let Some(done) = self.directly(command, limit.map(left)).await {
            return done;
        }
        let done = self.repeatedly((command, returning), forms, limit, retry);
        let done = done.await;
        done.map_err(|ended| self.told(ended, command, forms))
    }

    /// The same without the driver, for commands that are simple enough. `None` if the driver has to do it.
    async fn directly(
        &mut self,
        command: &Command,
        time: Option<Duration>,
    ) -> Option<Result<Answer, Stop>> {
        if self.in_transaction || self.by_snapshot {
            return None;
        }
        let asked = Asked {
            database: self.database.name(),
            ending: self.ending.as_deref()?,
            time,
        };
        match self.direct.find(command, asked).await {
            Read::Rows(rows) => Some(Ok(Answer::Rows(rows))),
            Read::Failed(code, message) => {
                let declared = collection_of(command).and_then(|name| self.declared(name));
                Some(Err(of_code(code, &message, declared)))
            }
            Read::Lost => Some(Err(Stop::Lost)),
            Read::ForTheDriver => None,
        }
    }

    /// The same for an INSERT that is part of a COPY. An error also says the index of the document that it is about.
    pub async fn load(
        &mut self,
        command: &Command,
        forms: &Forms,
        retry: Retry,
    ) -> Result<(), (Stop, usize)> {
        let loaded = self.repeatedly((command, &[]), forms, None, retry);
        match loaded.await {
            Ok(_) => Ok(()),
            Err(Ended::Failed(Failure::Driver(error, _))) if is_ended(&error) => {
                Err((ended_early().into(), usize::MAX))
            }
            Err(ended) => {
                let at = match &ended {
                    Ended::Failed(Failure::Driver(error, _)) => failed_at(error),
                    _ => usize::MAX,
                };
                Err((self.told(ended, command, forms), at))
            }
        }
    }

    fn told(&self, ended: Ended, command: &Command, forms: &Forms) -> Stop {
        match ended {
            Ended::Stopped(stop) => stop,
            Ended::Failed(Failure::Told(report)) => report.into(),
            Ended::Failed(Failure::Driver(error, step)) => {
                let name = collection_of(command);
                let declared = name.and_then(|name| self.declared(name));
                stop_of(&error, declared, (command, step), forms)
            }
        }
    }

    /// Carries out the command, again and again while another transaction is in its way.
    async fn repeatedly(
        &mut self,
        (command, returning): (&Command, &[Output]),
        forms: &Forms,
        limit: Option<Instant>,
        mut retry: Retry,
    ) -> Result<Answer, Ended> {
        let several = !self.in_transaction && is_several(command, returning);
        self.cancelled.store(false, Ordering::Relaxed);
        for attempt in 1.. {
            if several {
                self.begin(Some(command)).await?;
            }
            let done = self.once((command, returning), limit).await;
            let done = match done {
                // A value that cannot be written makes the statement fail, and then it must have done nothing.
                Ok(answer) if several => match shown(&answer, returning, forms) {
                    Ok(()) => Ok(answer),
                    Err(stop) => {
                        self.end(false).await?;
                        return Err(stop.into());
                    }
                },
                done => done,
            };
            let (ended, may_try_again) = match done {
                Ok(answer) if !several => return Ok(answer),
                Ok(answer) => match self.end(true).await {
                    Ok(()) => return Ok(answer),
                    Err(stop) => {
                        let met = matches!(&stop, Stop::Report(report) if report.code == "40001");
                        (stop.into(), met)
                    }
                },
                Err(failure) => {
                    let may = self.may_try_again(&failure, command, several, attempt);
                    (Ended::Failed(failure), may)
                }
            };
            if several {
                self.end(false).await?;
            }
            if !may_try_again {
                return Err(ended);
            }
            let chosen = rand::rng().random();
            match retry.next(Instant::now().into_std(), chosen) {
                Ok(pause) => tokio::time::sleep(pause).await,
                Err(None) => return Err(ended),
                Err(Some(report)) => return Err(Stop::from(report).into()),
            }
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(Stop::from(cancelled()).into());
            }
        }
        Err(Stop::Lost.into())
    }

    /// Fails if this member is not the primary, as a write would.
    pub async fn check_primary(&self) -> Result<(), Stop> {
        let admin = self.client.database("admin");
        let hello = admin.run_command(doc! { "hello": 1 }).await;
        let hello = hello.map_err(|error| stop(&error, None))?;
        match hello.get_bool("isWritablePrimary") {
            Ok(true) => Ok(()),
            _ => Err(not_primary().into()),
        }
    }

    fn may_try_again(
        &self,
        failure: &Failure,
        command: &Command,
        several: bool,
        attempt: u32,
    ) -> bool {
        let Failure::Driver(error, _) = failure else {
            return false;
        };
        let own = several || !self.in_transaction;
        // A key appeared after the command had looked for it. The next attempt finds it, unless the duplicate is in
        // another unique index.
        let is_found_next = minds_conflicts(command) && is_duplicate(error) && attempt < LOOKS;
        own && (is_found_next || is_conflict(error))
    }

    async fn once(
        &mut self,
        (command, returning): (&Command, &[Output]),
        limit: Option<Instant>,
    ) -> Result<Answer, Failure> {
        match self.session().await {
            Ok(_) => {}
            Err(Stop::Report(report)) => return Err(Failure::Told(report)),
            Err(Stop::Lost) => return Err(lost()),
        }
        let (database, collections) = (self.database.clone(), Arc::clone(&self.collections));
        let concern = (!self.in_transaction).then(durably);
        let run = Run {
            database: &database,
            collections: &collections,
            session: self.reader(self.by_snapshot).ok_or_else(lost)?,
            time: limit.map(left),
            concern,
        };
        run.command(command, returning).await
    }
}

/// The time until `limit`, at least one millisecond, because to the server 0 means no limit.
fn left(limit: Instant) -> Duration {
    let left = limit.saturating_duration_since(Instant::now());
    left.max(Duration::from_millis(1))
}

/// Why a command was not carried out.
enum Ended {
    Failed(Failure),
    /// Its own transaction could not be begun or ended.
    Stopped(Stop),
}

impl From<Stop> for Ended {
    fn from(stop: Stop) -> Ended {
        Ended::Stopped(stop)
    }
}

fn not_there() -> Report {
    Report::fatal("57P03", "the member of the replica set cannot be reached")
}

fn lost() -> Failure {
    Failure::Told(not_there())
}

/// A write is acknowledged when a majority of the members has it on disk.
pub(super) fn durably() -> WriteConcern {
    WriteConcern::builder()
        .w(mongodb::options::Acknowledgment::Majority)
        .journal(true)
        .w_timeout(REPLICATED)
        .build()
}

/// Whether a command does several things that MongoDB does not do atomically by itself.
fn is_several(command: &Command, returning: &[Output]) -> bool {
    match command {
        Command::Empty
        | Command::Find { .. }
        | Command::Aggregate { .. }
        | Command::Fail { .. } => false,
        Command::Insert {
            documents,
            ignore,
            behind,
            ..
        } => documents.len() > 1 || ignore.is_some() || behind.is_some(),
        Command::Upsert { .. } | Command::Move { .. } => true,
        Command::Update { single, .. } | Command::Delete { single, .. } => {
            !single || !returning.is_empty()
        }
    }
}

/// Fails if a write returns a value that is not of its column's type.
fn shown(answer: &Answer, returning: &[Output], forms: &Forms) -> Result<(), Stop> {
    let (Answer::Rows(rows), false) = (answer, returning.is_empty()) else {
        return Ok(());
    };
    let shape = Shape::new(returning.into(), Vec::new());
    let mut out = Vec::new();
    for row in rows {
        out.clear();
        shape.put(row, forms, &mut out)?;
    }
    Ok(())
}

/// Whether a command has an ON CONFLICT clause.
fn minds_conflicts(command: &Command) -> bool {
    matches!(
        command,
        Command::Upsert { .. }
            | Command::Insert {
                ignore: Some(_),
                ..
            }
    )
}

fn collection_of(command: &Command) -> Option<&str> {
    match command {
        Command::Empty => None,
        Command::Find { collection, .. }
        | Command::Aggregate { collection, .. }
        | Command::Insert { collection, .. }
        | Command::Upsert { collection, .. }
        | Command::Update { collection, .. }
        | Command::Move { collection, .. }
        | Command::Delete { collection, .. }
        | Command::Fail { collection, .. } => Some(collection),
    }
}
