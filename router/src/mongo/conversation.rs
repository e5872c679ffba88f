//! One connection, seen from the server's side: PostgreSQL's messages come in, and their answers go out.
//!
//! What a transaction block is here follows PostgreSQL's rules: after an error everything but its end is refused, what
//! comes between two Syncs is one transaction, and so is what one simple query has.

mod copy;

use super::alone;
use super::decisions::Decisions;
use super::direct::Direct;
use super::member::Running;
use super::outcome::{Stop, stop, timed_out};
use super::rows::Shape;
use super::run::Answer;
use super::settings::Settings;
use super::text::{Task, task};
use super::work::{KILLED, Worker};
use super::{probe, text};
use crate::commit::question::Question;
use crate::retry::Retry;
use mongodb::Client;
use mongodb::SessionCursor;
use mongodb::bson::{RawDocumentBuf, doc, rawdoc};
use mothership_documents::Collection;
use mothership_documents::snapshot;
use mothership_documents::translate::{BoundValue, Command, Output, Source, Translated, Value};
use mothership_documents::value::Forms;
use mothership_pool::wire::{Pipe, Watch};
use mothership_proto::backend::{self, TxStatus};
use mothership_proto::frame::{self, Next};
use mothership_proto::frontend::{self, Bind, Parse, Target, tag};
use mothership_proto::report::{Report, sqlstate};
use mothership_proto::startup::{FirstPacket, Startup};
use mothership_sql::split;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

/// What is held back before it is sent.
const FULL: usize = 32 * 1024;
/// How long a member may take for what is under way when nobody waits for it any longer. One that cannot be reached would
/// take for ever.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much later than a member has to end a read by itself it is ended from here: the member's word takes its time.
const WORD: Duration = Duration::from_millis(100);
/// The longest message; the router's own limit is below it.
const LONGEST: usize = 1 << 30;

/// Who is at this end.
pub(super) enum Party {
    /// A member of a replica set.
    Member {
        /// The driver's.
        client: Client,
        /// Where decisions are.
        decisions: Decisions,
        /// For reads past the driver.
        direct: Box<Direct>,
    },
    /// Nobody but the router, see [`alone`].
    Nobody,
}

/// Holds the conversation at this end until the other one leaves, or until something is not certain.
pub(super) async fn hold(
    stream: Pipe,
    party: Party,
    collections: Arc<[Arc<Collection>]>,
    running: Running,
) {
    let other = stream.watch();
    let mut line = Line {
        stream,
        input: Vec::new(),
        output: Vec::new(),
        flushed: 0,
    };
    let client = match &party {
        Party::Member { client, .. } => Some(client),
        Party::Nobody => None,
    };
    let Some(startup) = greet(&mut line, client, &running).await else {
        return;
    };
    let (number, secret, cancelled) = running.enter();
    let server = match party {
        Party::Nobody => Server::Nobody(alone::Session::new(&startup, &collections)),
        Party::Member {
            client,
            decisions,
            direct,
        } => Server::Member(Box::new(Worker::new(
            client,
            &startup.database,
            Arc::clone(&collections),
            decisions,
            *direct,
            cancelled,
        ))),
    };
    let mut conversation = Conversation {
        line,
        server,
        collections,
        statements: HashMap::new(),
        portals: HashMap::new(),
        settings: Settings::default(),
        block: Block::None,
        is_skipping: false,
        is_simple: false,
        now: now(),
        running: running.clone(),
        number,
    };
    conversation.welcome(number, secret);
    let is_over = tokio::select! {
        biased;
        // Whatever ended it, the stream's end says so.
        _ = conversation.go_on() => true,
        () = has_left_for(other, PATIENCE) => false,
    };
    running.leave(number);
    match (is_over, &mut conversation.server) {
        (_, Server::Nobody(_)) => {}
        (true, Server::Member(worker)) => drop(worker.end(false).await),
        (false, Server::Member(worker)) => drop(worker.kill().await),
    }
}

/// Waits until whoever is at the other end has left for so long.
async fn has_left_for(other: Watch, time: Duration) {
    other.ended().await;
    tokio::time::sleep(time).await;
}

/// The stream and what has come and is to go.
struct Line {
    stream: Pipe,
    input: Vec<u8>,
    output: Vec<u8>,
    /// How often something was sent.
    flushed: u64,
}

/// Nobody is there any more, or nobody can be spoken to.
struct Over;

impl From<std::io::Error> for Over {
    fn from(_: std::io::Error) -> Over {
        Over
    }
}

impl Line {
    async fn more(&mut self) -> Result<(), Over> {
        self.flush().await?;
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(Over),
            _ => Ok(()),
        }
    }

    async fn flush(&mut self) -> Result<(), Over> {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output).await?;
            self.output.clear();
            self.flushed += 1;
        }
        Ok(())
    }

    /// The next message, in place of the last one.
    async fn message(&mut self, message: &mut Vec<u8>) -> Result<(), Over> {
        message.clear();
        message.shrink_to(FULL);
        loop {
            match frame::next(&self.input, LONGEST) {
                Ok(Next::Whole(frame)) => {
                    message.extend_from_slice(frame.bytes);
                    self.input.drain(..message.len());
                    return Ok(());
                }
                Ok(Next::Partial { .. }) => self.more().await?,
                Err(_) => return Err(Over),
            }
        }
    }

    /// Whether Sync follows, with nothing before it that does anything, as far as it has come.
    fn is_at_sync(&self) -> bool {
        let mut rest = &self.input[..];
        while let Ok(Next::Whole(frame)) = frame::next(rest, LONGEST) {
            match frame.tag() {
                tag::SYNC => return true,
                tag::CLOSE | tag::FLUSH => rest = &rest[frame.bytes.len()..],
                _ => return false,
            }
        }
        false
    }
}

/// Reads the first packet. A cancel is carried out; a login is returned.
async fn greet(line: &mut Line, client: Option<&Client>, running: &Running) -> Option<Startup> {
    loop {
        match FirstPacket::parse(&line.input) {
            Ok(None) => line.more().await.ok()?,
            Ok(Some((FirstPacket::Startup(startup), length))) => {
                line.input.drain(..length);
                return Some(startup);
            }
            Ok(Some((FirstPacket::Cancel { pid, secret }, _))) => {
                let secret = secret.try_into().map(i32::from_be_bytes).ok()?;
                let (session, client) = (running.cancel(pid, secret)?, client?);
                let kill = doc! { "killSessions": [session] };
                let admin = client.database("admin");
                match timeout(KILLED, admin.run_command(kill)).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "a statement on MongoDB could not be cancelled");
                    }
                    Err(_) => tracing::warn!("a statement on MongoDB is not cancelled in time"),
                }
                return None;
            }
            _ => return None,
        }
    }
}

/// The transaction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    /// None.
    None,
    /// Of what comes before the next Sync, or of one simple query.
    Implicit,
    /// Between BEGIN and its end.
    Open,
    /// The same after an error.
    Failed,
}

struct Prepared {
    task: Task,
    types: Vec<u32>,
}

struct Portal {
    statement: Arc<Prepared>,
    shape: Shape,
    command: Option<Command>,
    forms: Forms,
    rows: Option<Rows>,
}

/// Rows that are still to be told.
struct Rows {
    source: RowSource,
    /// What the statement is called.
    verb: &'static str,
    /// See [`Worker::reader`].
    by_snapshot: bool,
}

/// What a command has come to.
enum Carried {
    /// It is done, and this is its tag.
    Done(String),
    /// It has rows, which may take until then.
    Rows(Option<Instant>),
}

enum RowSource {
    Cursor(Box<SessionCursor<RawDocumentBuf>>),
    Ready(std::vec::IntoIter<RawDocumentBuf>),
}

/// Who does the work.
enum Server {
    /// A member of a replica set.
    Member(Box<Worker>),
    /// Nobody: what needs somebody is refused.
    Nobody(alone::Session),
}

impl Server {
    /// Who carries out what is about documents.
    fn worker(&mut self) -> Result<&mut Worker, Stop> {
        match self {
            Server::Member(worker) => Ok(worker),
            Server::Nobody(_) => Err(alone::needs_postgresql(None)),
        }
    }

    /// The transaction ends.
    async fn end(&mut self, commits: bool) -> Result<(), Stop> {
        match self {
            Server::Member(worker) => worker.end(commits).await,
            Server::Nobody(_) => Ok(()),
        }
    }
}

struct Conversation {
    line: Line,
    server: Server,
    collections: Arc<[Arc<Collection>]>,
    statements: HashMap<Vec<u8>, Arc<Prepared>>,
    portals: HashMap<Vec<u8>, Portal>,
    settings: Settings,
    block: Block,
    /// Everything is passed over to the next Sync.
    is_skipping: bool,
    /// It is a simple query, whose rows are described without being asked.
    is_simple: bool,
    /// Milliseconds since 1970 at the beginning of the transaction.
    now: i64,
    running: Running,
    number: i32,
}

impl Conversation {
    fn welcome(&mut self, number: i32, secret: i32) {
        let out = &mut self.line.output;
        frame::put(out, backend::tag::AUTHENTICATION, |body| {
            body.extend_from_slice(&0_i32.to_be_bytes());
        });
        if let Server::Nobody(session) = &mut self.server {
            session.tell(&self.settings, out);
        }
        frame::put(out, backend::tag::BACKEND_KEY, |body| {
            body.extend_from_slice(&number.to_be_bytes());
            body.extend_from_slice(&secret.to_be_bytes());
        });
        backend::put_ready(out, TxStatus::Idle);
    }

    async fn go_on(&mut self) -> Result<(), Over> {
        let mut message = Vec::new();
        loop {
            self.line.message(&mut message).await?;
            let (tag, body) = (message[0], &message[frame::HEADER..]);
            if self.is_skipping && !matches!(tag, tag::SYNC | tag::TERMINATE) {
                continue;
            }
            self.is_simple = tag == tag::QUERY;
            let done = match tag {
                tag::QUERY => {
                    self.query(body).await?;
                    continue;
                }
                tag::PARSE => self.parse(body),
                tag::BIND => self.bind(body),
                tag::DESCRIBE => self.describe(body),
                tag::EXECUTE => self.execute(body).await,
                tag::CLOSE => self.close(body),
                // Left over from a COPY that has failed: PostgreSQL ignores them, too.
                tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => Ok(()),
                tag::FLUSH => {
                    self.line.flush().await?;
                    Ok(())
                }
                tag::SYNC => {
                    self.sync().await?;
                    continue;
                }
                _ => return Err(Over),
            };
            match done {
                Ok(()) => {}
                Err(Stop::Lost) => return Err(Over),
                Err(Stop::Report(report)) => {
                    self.fail(&report).await;
                    self.is_skipping = true;
                }
            }
            if self.line.output.len() > FULL {
                self.line.flush().await?;
            }
        }
    }

    /// The client is told, and the transaction has failed.
    async fn fail(&mut self, report: &Report) {
        report.put(&mut self.line.output);
        self.portals.clear();
        // What a transaction has done is undone when it has failed; its end only says so.
        let _ = self.server.end(false).await;
        if self.block == Block::Open {
            self.settings.end(false);
        }
        self.block = match self.block {
            Block::Open | Block::Failed => Block::Failed,
            Block::Implicit | Block::None => Block::None,
        };
    }

    async fn query(&mut self, body: &[u8]) -> Result<(), Over> {
        let sql = frontend::query(body).map_err(|_| Over)?;
        let sql = std::str::from_utf8(sql).map_err(|_| Over)?.to_owned();
        let parts: Vec<String> = match sql == mothership_pool::health::report::QUESTION {
            true => vec![sql],
            false => split::split(sql.as_bytes(), true)
                .filter(|part| !part.empty)
                .map(|part| sql[part.span.start..part.span.end].to_owned())
                .collect(),
        };
        let mut is_empty = true;
        for part in &parts {
            let is_alone = parts.len() == 1;
            match self.simple(part, is_alone).await {
                Ok(said) => is_empty &= !said,
                Err(Stop::Lost) => return Err(Over),
                Err(Stop::Report(report)) => {
                    is_empty = false;
                    self.fail(&report).await;
                    break;
                }
            }
        }
        if is_empty {
            self.line.output.extend_from_slice(backend::EMPTY_QUERY);
        }
        self.end_of_implicit().await?;
        self.ready().await
    }

    /// One statement of a simple query. Whether it has said anything.
    async fn simple(&mut self, sql: &str, is_alone: bool) -> Result<bool, Stop> {
        let task = self.task(sql, &[])?;
        if matches!(task, Task::Empty) {
            return Ok(false);
        }
        let statement = Arc::new(Prepared {
            task,
            types: Vec::new(),
        });
        let mut portal = self.portal(statement, &[], Vec::new())?;
        self.begin_statement(&portal, is_alone).await?;
        let described = outputs(&portal.statement.task);
        let (begun, flushed) = (self.line.output.len(), self.line.flushed);
        if !described.is_empty() {
            portal.shape.describe(&mut self.line.output);
        }
        let done = self.run(&mut portal, 0).await;
        let streams = match portal.statement.task {
            Task::Values(..) => false,
            _ => portal.command.as_ref().is_none_or(is_read),
        };
        if done.is_err() && !streams && self.line.flushed == flushed {
            // PostgreSQL says nothing of rows before there is one, nor of those of a write before it is done.
            self.line.output.truncate(begun);
        }
        done.map(|_| true)
    }

    /// What a statement asks.
    fn task(&self, sql: &str, types: &[u32]) -> Result<Task, Stop> {
        match &self.server {
            Server::Member(_) => task(sql, types, &self.collections),
            Server::Nobody(_) => alone::task_of(sql, types, &self.collections),
        }
    }

    fn parse(&mut self, body: &[u8]) -> Result<(), Stop> {
        let parse = Parse::read(body).map_err(|_| Stop::Lost)?;
        let sql = std::str::from_utf8(parse.sql).map_err(|_| Stop::Lost)?;
        let types: Vec<u32> = parse.type_oids().collect();
        let task = self.task(sql, &types)?;
        let types = match &task {
            Task::Command(translated) | Task::Explain(translated) => {
                let inferred = translated.parameters.iter().enumerate();
                let declared = |at: usize| types.get(at).copied().filter(|oid| *oid != 0);
                inferred
                    .map(|(at, kind)| declared(at).unwrap_or_else(|| kind.oid()))
                    .collect()
            }
            _ => types,
        };
        let prepared = Arc::new(Prepared { task, types });
        self.statements.insert(parse.name.to_vec(), prepared);
        self.line.output.extend_from_slice(backend::PARSE_COMPLETE);
        Ok(())
    }

    fn bind(&mut self, body: &[u8]) -> Result<(), Stop> {
        let bind = Bind::read(body).map_err(|_| Stop::Lost)?;
        let statement = self.statement(bind.statement)?;
        let formats: Vec<i16> = bind.result_formats().collect();
        let values: Vec<(i16, Option<&[u8]>)> = bind.values().collect();
        let portal = self.portal(statement, &values, formats)?;
        self.portals.insert(bind.portal.to_vec(), portal);
        self.line.output.extend_from_slice(backend::BIND_COMPLETE);
        Ok(())
    }

    fn statement(&self, name: &[u8]) -> Result<Arc<Prepared>, Stop> {
        let found = self.statements.get(name).map(Arc::clone);
        found.ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            Report::error(
                sqlstate::INVALID_STATEMENT_NAME,
                format!("prepared statement \"{name}\" does not exist"),
            )
            .into()
        })
    }

    /// A statement with its values.
    fn portal(
        &mut self,
        statement: Arc<Prepared>,
        values: &[(i16, Option<&[u8]>)],
        formats: Vec<i16>,
    ) -> Result<Portal, Stop> {
        let refused = self.block == Block::Failed && !ends(&statement.task);
        if refused {
            return Err(aborted());
        }
        let translated = match &statement.task {
            Task::Command(translated) | Task::Explain(translated) => Some(translated),
            _ => None,
        };
        let mut forms = Forms::default();
        let command = match translated {
            None => None,
            Some(translated) => {
                self.settings.check()?;
                forms = self.settings.forms()?;
                let given: Vec<BoundValue<'_>> = values
                    .iter()
                    .map(|(format, value)| match (format, value) {
                        (_, None) => Ok(BoundValue::Null),
                        (0, Some(text)) => Ok(BoundValue::Text(
                            std::str::from_utf8(text).map_err(|_| not_utf8())?,
                        )),
                        (_, Some(bytes)) => Ok(BoundValue::Binary(bytes)),
                    })
                    .collect::<Result<_, Stop>>()?;
                if given.len() != translated.parameters.len() {
                    return Err(other_count(given.len(), translated.parameters.len()));
                }
                Some(translated.bind(&given, &forms, self.now())?)
            }
        };
        Ok(Portal {
            shape: Shape::new(outputs(&statement.task), formats),
            statement,
            command,
            forms,
            rows: None,
        })
    }

    /// The time of the transaction, or of the statement that is one by itself.
    fn now(&self) -> i64 {
        match self.block {
            Block::None => now(),
            _ => self.now,
        }
    }

    fn describe(&mut self, body: &[u8]) -> Result<(), Stop> {
        let (target, name) = frontend::target(body).map_err(|_| Stop::Lost)?;
        match target {
            Target::Statement => {
                let statement = self.statement(name)?;
                let out = &mut self.line.output;
                frame::put(out, backend::tag::PARAMETER_DESCRIPTION, |body| {
                    // Bind has no more of them.
                    body.extend_from_slice(&(statement.types.len() as u16).to_be_bytes());
                    for oid in &statement.types {
                        body.extend_from_slice(&oid.to_be_bytes());
                    }
                });
                Shape::new(outputs(&statement.task), Vec::new()).describe(out);
            }
            Target::Portal => match self.portals.get(name) {
                Some(portal) => portal.shape.describe(&mut self.line.output),
                None => return Err(no_portal(name)),
            },
        }
        Ok(())
    }

    fn close(&mut self, body: &[u8]) -> Result<(), Stop> {
        let (target, name) = frontend::target(body).map_err(|_| Stop::Lost)?;
        match target {
            Target::Statement => drop(self.statements.remove(name)),
            Target::Portal => drop(self.portals.remove(name)),
        }
        self.line.output.extend_from_slice(backend::CLOSE_COMPLETE);
        Ok(())
    }

    async fn execute(&mut self, body: &[u8]) -> Result<(), Stop> {
        let (name, most) = frontend::execute(body).map_err(|_| Stop::Lost)?;
        let Some(mut portal) = self.portals.remove(name) else {
            return Err(no_portal(name));
        };
        // With Sync right behind it, nothing else can belong to its transaction.
        let is_alone = self.line.is_at_sync();
        if portal.rows.is_none() {
            self.begin_statement(&portal, is_alone).await?;
            self.read_together(&portal, snapshot::number(name)).await?;
        }
        let most = u64::try_from(most).unwrap_or(0);
        let is_suspended = self.run(&mut portal, most).await?;
        if is_suspended {
            self.portals.insert(name.to_vec(), portal);
        }
        Ok(())
    }

    /// Sees to it that the statement runs in the transaction that it belongs to.
    async fn begin_statement(&mut self, portal: &Portal, is_alone: bool) -> Result<(), Stop> {
        if self.block == Block::Failed && !ends(&portal.statement.task) {
            return Err(aborted());
        }
        let is_read = match (&portal.statement.task, &portal.command) {
            (Task::Command(_), Some(command)) => is_read(command),
            (Task::Copy(_) | Task::Asked(Question::Backend | Question::Decide { .. }), _) => false,
            _ => return Ok(()),
        };
        let worker = self.server.worker()?;
        let is_new = worker.session.is_none() || worker.by_snapshot;
        worker.by_snapshot = false;
        let session = worker.session().await?;
        if is_new {
            self.running.works_as(self.number, session.id());
        }
        let wants = match self.block {
            Block::Open | Block::Implicit => !worker.in_transaction,
            // What reads has a snapshot of its own, and a secondary has no transactions.
            Block::None => !(is_alone || is_read),
            Block::Failed => false,
        };
        if wants {
            if self.block == Block::None {
                self.block = Block::Implicit;
                self.now = now();
            }
            let first = portal.command.as_ref();
            let first = first.filter(|_| !self.settings.is_read_only());
            worker.begin(first).await?;
        }
        Ok(())
    }

    /// Has a read that belongs to others see the documents that they see. In a transaction it does so anyway.
    async fn read_together(&mut self, portal: &Portal, number: Option<u64>) -> Result<(), Stop> {
        let limit = self.deadline();
        let is_read = portal.command.as_ref().is_some_and(is_read);
        let Some(number) = number.filter(|_| is_read) else {
            return Ok(());
        };
        let worker = self.server.worker()?;
        if worker.in_transaction {
            return Ok(());
        }
        let Some(begun) = until(limit, worker.snapshot(number)).await else {
            return Err(self.late().await);
        };
        worker.by_snapshot = begun?;
        if let Some(session) = worker.reader(worker.by_snapshot) {
            self.running.works_as(self.number, session.id());
        }
        Ok(())
    }

    /// Does it, or goes on telling its rows, at most so many of them unless it is 0. Whether there may be more.
    async fn run(&mut self, portal: &mut Portal, most: u64) -> Result<bool, Stop> {
        let limit = self.deadline();
        if portal.rows.is_some() {
            return self.tell(portal, most, limit).await;
        }
        let tag = match &portal.statement.task {
            Task::Empty => {
                self.line.output.extend_from_slice(backend::EMPTY_QUERY);
                return Ok(false);
            }
            Task::Begin(changes) => {
                if self.block == Block::None || self.block == Block::Implicit {
                    self.block = Block::Open;
                    self.now = now();
                    self.settings.begin();
                    self.settings.apply(changes);
                }
                "BEGIN".to_owned()
            }
            Task::Commit | Task::Rollback => {
                let commits = matches!(portal.statement.task, Task::Commit);
                let commits = commits && self.block != Block::Failed;
                self.block = Block::None;
                self.settings.end(commits);
                self.server.end(commits).await?;
                match commits {
                    true => "COMMIT".to_owned(),
                    false => "ROLLBACK".to_owned(),
                }
            }
            Task::Set(changes, tag) => {
                match &self.server {
                    Server::Member(_) => self.settings.apply(changes),
                    Server::Nobody(_) => self.settings.apply(&alone::checked(changes)?),
                }
                if *tag == "SELECT 1" {
                    return self.row(vec![Some(String::new()); changes.len()]);
                }
                (*tag).to_owned()
            }
            Task::Deallocate(name) => {
                match name {
                    Some(name) => drop(self.statements.remove(name.as_bytes())),
                    None => self.statements.clear(),
                }
                "DEALLOCATE".to_owned()
            }
            Task::Row(values) => return self.row(values.clone()),
            Task::Said => {
                let isolation = match &self.server {
                    Server::Member(_) => "repeatable read",
                    Server::Nobody(_) => "read committed",
                };
                let said = format!("{isolation}|{}", utc(self.now));
                return self.row(vec![Some(said)]);
            }
            Task::Health => {
                let row = match &self.server {
                    Server::Member(worker) => probe::health(worker.client()).await?,
                    Server::Nobody(_) => probe::of_nobody(),
                };
                return self.row(row);
            }
            Task::Asked(question) => {
                let rows = self.server.worker()?.answer(question).await?;
                return self.rows(rows);
            }
            Task::Values(values, tag) => {
                self.values(&portal.shape, values)?;
                (*tag).to_owned()
            }
            Task::Copy(load) => self.copy_in(&Arc::clone(load)).await?,
            Task::Explain(translated) => return self.explain(portal, &Arc::clone(translated)),
            Task::Command(translated) => {
                let translated = Arc::clone(translated);
                match self.carry_out(portal, &translated, most, limit).await? {
                    Carried::Done(tag) => tag,
                    Carried::Rows(limit) => return self.tell(portal, most, limit).await,
                }
            }
        };
        backend::put_complete(&mut self.line.output, tag.as_bytes());
        Ok(false)
    }

    /// Tells the row of a SELECT without a collection, which nobody has to be asked for.
    fn values(&mut self, shape: &Shape, values: &[Value]) -> Result<(), Stop> {
        let now = self.now();
        let Server::Nobody(session) = &self.server else {
            return Err(Stop::Lost);
        };
        let outputs = session.answer(values, &mut self.settings, now)?;
        let (shape, forms) = (shape.with(outputs), self.settings.forms()?);
        shape.put(&rawdoc! {}, &forms, &mut self.line.output)
    }

    /// Carries out the command of a portal. What it has to tell is kept there.
    async fn carry_out(
        &mut self,
        portal: &mut Portal,
        translated: &Translated,
        most: u64,
        mut limit: Option<Instant>,
    ) -> Result<Carried, Stop> {
        let Some(command) = &portal.command else {
            return Err(Stop::Lost);
        };
        let verb = translated.verb();
        if verb != "SELECT" && self.settings.is_read_only() {
            return Err(read_only(verb));
        }
        let reads = is_read(command);
        let returning = match reads {
            true => &[][..],
            false => &translated.columns[..],
        };
        let retry = self.retry();
        // A write by itself is not ended: nobody could say what has become of it.
        let worker = self.server.worker()?;
        limit = limit.filter(|_| reads || worker.in_transaction);
        // The server counts all that a cursor takes, which may be the time of several statements.
        let by_itself = limit.filter(|_| reads && most == 0);
        if by_itself.is_some() {
            limit = limit.and_then(|limit| limit.checked_add(WORD));
        }
        let by_snapshot = worker.by_snapshot;
        let work = worker.carry_out((command, returning), &portal.forms, by_itself, retry);
        let Some(answer) = until(limit, work).await else {
            return Err(self.late().await);
        };
        let source = match answer? {
            Answer::Done(tag) => return Ok(Carried::Done(tag)),
            Answer::Rows(rows) => RowSource::Ready(rows.into_iter()),
            Answer::Cursor(cursor) => RowSource::Cursor(cursor),
        };
        portal.rows = Some(Rows {
            source,
            verb,
            by_snapshot,
        });
        Ok(Carried::Rows(limit))
    }

    async fn tell(
        &mut self,
        portal: &mut Portal,
        most: u64,
        limit: Option<Instant>,
    ) -> Result<bool, Stop> {
        let Portal {
            shape, forms, rows, ..
        } = portal;
        let Some(rows) = rows else {
            return Ok(false);
        };
        // The tag counts the rows of this Execute alone, as PostgreSQL's does.
        let mut told: u64 = 0;
        loop {
            let session = self.server.worker()?.reader(rows.by_snapshot);
            let is_more = match (&mut rows.source, session) {
                (RowSource::Ready(ready), _) => match ready.next() {
                    Some(document) => {
                        shape.put(&document, forms, &mut self.line.output)?;
                        true
                    }
                    None => false,
                },
                (RowSource::Cursor(cursor), Some(session)) => {
                    let Some(advanced) = until(limit, cursor.advance(session)).await else {
                        return Err(self.late().await);
                    };
                    let advanced = advanced.map_err(|error| stop(&error, None))?;
                    if advanced {
                        shape.put(cursor.current(), forms, &mut self.line.output)?;
                    }
                    advanced
                }
                (RowSource::Cursor(_), None) => return Err(Stop::Lost),
            };
            if !is_more {
                break;
            }
            told += 1;
            if self.line.output.len() > FULL {
                self.line.flush().await.map_err(|_| Stop::Lost)?;
            }
            if told == most {
                self.line
                    .output
                    .extend_from_slice(backend::PORTAL_SUSPENDED);
                return Ok(true);
            }
        }
        let tag = match rows.verb {
            "INSERT" => format!("INSERT 0 {told}"),
            verb => format!("{verb} {told}"),
        };
        backend::put_complete(&mut self.line.output, tag.as_bytes());
        Ok(false)
    }

    /// When the statement that begins now has taken as long as the session lets it.
    fn deadline(&self) -> Option<Instant> {
        let limit = self.settings.statement_timeout()?;
        Instant::now().checked_add(limit)
    }

    /// How long the statement that begins now tries again where others are in its way.
    fn retry(&self) -> Retry {
        Retry::new(
            Instant::now().into_std(),
            self.settings.statement_timeout(),
            self.settings.lock_timeout(),
        )
    }

    /// Ends what runs, with its transaction.
    async fn late(&mut self) -> Stop {
        let is_ended = match &mut self.server {
            Server::Member(worker) => worker.kill().await,
            Server::Nobody(_) => true,
        };
        match is_ended {
            true => timed_out().into(),
            false => Stop::Lost,
        }
    }

    fn row(&mut self, values: Vec<Option<String>>) -> Result<bool, Stop> {
        self.rows(vec![values])
    }

    /// Rows of texts, which have as many columns as the first one.
    fn rows(&mut self, rows: Vec<Vec<Option<String>>>) -> Result<bool, Stop> {
        let out = &mut self.line.output;
        let columns: Vec<backend::Column> = rows
            .first()
            .into_iter()
            .flatten()
            .map(|_| backend::Column::text("?column?"))
            .collect();
        if self.is_simple {
            backend::put_columns(out, &columns);
        }
        for values in &rows {
            let values = values
                .iter()
                .map(|value| value.as_ref().map(|v| v.as_bytes()));
            backend::put_row(out, values.collect::<Vec<_>>().into_iter());
        }
        backend::put_complete(out, format!("SELECT {}", rows.len()).as_bytes());
        Ok(false)
    }

    /// The command that is sent, and in the first line as PostgreSQL has it what else the router looks at.
    fn explain(&mut self, portal: &Portal, translated: &Translated) -> Result<bool, Stop> {
        let command = portal.command.as_ref().map(ToString::to_string);
        let width = translated.columns.len() * 8;
        let lines = [
            format!("MongoDB  (cost=0.00..0.00 rows=1000 width={width})"),
            format!("  Command: {}", command.unwrap_or_default()),
        ];
        for line in &lines {
            let out = &mut self.line.output;
            backend::put_row(out, vec![Some(line.as_bytes())].into_iter());
        }
        backend::put_complete(&mut self.line.output, b"EXPLAIN");
        Ok(false)
    }

    async fn sync(&mut self) -> Result<(), Over> {
        self.is_skipping = false;
        self.end_of_implicit().await?;
        self.ready().await
    }

    /// What belonged together without BEGIN is committed.
    async fn end_of_implicit(&mut self) -> Result<(), Over> {
        if matches!(self.block, Block::None | Block::Implicit) {
            self.settings.end_implicit();
        }
        if self.block != Block::Implicit {
            return Ok(());
        }
        self.block = Block::None;
        match self.server.end(true).await {
            Ok(()) => Ok(()),
            Err(Stop::Report(report)) => {
                report.put(&mut self.line.output);
                Ok(())
            }
            Err(Stop::Lost) => Err(Over),
        }
    }

    async fn ready(&mut self) -> Result<(), Over> {
        if self.block == Block::None {
            self.portals.clear();
        }
        if let Server::Nobody(session) = &mut self.server {
            session.tell(&self.settings, &mut self.line.output);
        }
        let status = match self.block {
            Block::None | Block::Implicit => TxStatus::Idle,
            Block::Open => TxStatus::Open,
            Block::Failed => TxStatus::Failed,
        };
        backend::put_ready(&mut self.line.output, status);
        self.line.flush().await
    }
}

/// What the work gives, unless it takes longer.
async fn until<T>(limit: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        None => Some(work.await),
        Some(limit) => tokio::time::timeout_at(limit, work).await.ok(),
    }
}

/// The columns of a task's answer.
fn outputs(task: &Task) -> Arc<[Output]> {
    match task {
        Task::Command(translated) => Arc::clone(&translated.columns),
        Task::Explain(_) => Arc::new([Output {
            name: "QUERY PLAN".to_owned(),
            kind: mothership_documents::Kind::Text,
            source: Source::Path(vec!["line".to_owned()]),
            as_text: false,
        }]),
        Task::Values(values, _) => alone::columns(values),
        _ => Arc::default(),
    }
}

fn is_read(command: &Command) -> bool {
    matches!(
        command,
        Command::Empty | Command::Find { .. } | Command::Aggregate { .. }
    )
}

fn ends(task: &text::Task) -> bool {
    matches!(task, Task::Commit | Task::Rollback)
}

fn read_only(verb: &str) -> Stop {
    Report::error(
        "25006",
        format!("cannot execute {verb} in a read-only transaction"),
    )
    .into()
}

fn aborted() -> Stop {
    Report::error(
        sqlstate::IN_FAILED_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
    .into()
}

fn no_portal(name: &[u8]) -> Stop {
    let name = String::from_utf8_lossy(name);
    Report::error(
        sqlstate::INVALID_CURSOR_NAME,
        format!("portal \"{name}\" does not exist"),
    )
    .into()
}

fn not_utf8() -> Stop {
    Report::error("22021", "invalid byte sequence for encoding \"UTF8\"").into()
}

fn other_count(given: usize, wanted: usize) -> Stop {
    Report::error(
        sqlstate::PROTOCOL_VIOLATION,
        format!("bind message supplies {given} parameters, but the statement requires {wanted}"),
    )
    .into()
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// A time in UTC, as PostgreSQL writes it with microseconds.
fn utc(milliseconds: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(milliseconds).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string()
}
