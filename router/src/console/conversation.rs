//! The messages between the console and its client, in both protocols.
//!
//! PgBouncer speaks the simple one only; drivers that prepare everything need the
//! extended one as well. Statements have no parameters. BEGIN and COMMIT are
//! answered and mean nothing, but a failed block stays failed, as drivers expect.

use super::act::{act, undo};
use super::command::{
    ACTS, Act, Argument, Arguments, Block, Command, Role, SHOWS, ShowTopic, parse,
};
use super::show;
use super::table::{Column, Row, put_columns, put_row, row};
use super::{POOL_USER, columns};
use crate::core::goodbye::say_goodbye;
use crate::core::place::{Place, limited};
use crate::core::{CancelSecret, ClientNumber, Core, Entry, Life, LoginNames, SessionIdentity};
use mothership_pool::wire::Wire;
use mothership_proto::backend::{self, TxStatus};
use mothership_proto::frame::{self, Next};
use mothership_proto::frontend::{self, Bind, Parse, Target, tag};
use mothership_proto::report::{Report, sqlstate};
use mothership_proto::startup::{Startup, put_backend_key};
use mothership_sql::split::split;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

/// Consoles open at once; they do not count as clients, so that an administrator
/// comes in when there are too many.
const MAX_CONSOLES: u32 = 100;
/// Bytes of one message.
const MAX_MESSAGE: usize = 64 * 1024;
/// Prepared statements, and portals, of one console.
const MAX_NAMES: usize = 1_000;
/// If more bytes than this wait for the client, no further message of its is read until they are sent.
const UNREAD: usize = 256 * 1024;

/// Why the conversation ends.
enum End {
    /// The client is gone, or said goodbye.
    Gone,
    /// It is told.
    Told(Report),
}

/// A statement in the extended protocol; none is an empty text.
type Statement = Option<Command>;

/// A portal; its rows once it ran.
struct Portal {
    statement: Statement,
    formats: Vec<i16>,
    left: Option<(Vec<Column>, VecDeque<Row>, String)>,
}

/// The answer to one command.
struct Answer {
    notice: Option<Report>,
    table: Option<(Vec<Column>, Vec<Row>)>,
    tag: String,
}

struct Conversation {
    core: Rc<Core>,
    client: Wire,
    entry: Rc<Entry>,
    role: Role,
    status: TxStatus,
    /// An extended message failed: everything up to Sync is ignored.
    skipping: bool,
    statements: HashMap<Vec<u8>, Statement>,
    portals: HashMap<Vec<u8>, Portal>,
}

pub(super) async fn converse(core: Rc<Core>, mut client: Wire, startup: &Startup, role: Role) {
    let shared = Arc::clone(&core.shared);
    let Some(_counted) = limited(&shared.consoles, MAX_CONSOLES) else {
        let message = "sorry, too many consoles already";
        return say_goodbye(
            &shared,
            client,
            Report::fatal(sqlstate::TOO_MANY_CONNECTIONS, message),
        )
        .await;
    };
    let who = SessionIdentity {
        number: shared.session_number(),
        names: Arc::new(LoginNames {
            user: startup.user.as_str().into(),
            server_user: POOL_USER.into(),
            database: startup.database.as_str().into(),
        }),
        remote: client.peer().ok(),
        local: client.local().ok().map(Arc::new),
        tls: client
            .tls()
            .map(|tls| format!("{}/{}", tls.version, tls.cipher).into()),
        since: Instant::now(),
        is_console: true,
    };
    let protocol = startup.protocol();
    let entry = Entry::new(CancelSecret::random(protocol), who);
    let Some(place) = Place::take(&core, &entry) else {
        let message = "sorry, too many clients already";
        return say_goodbye(
            &shared,
            client,
            Report::fatal(sqlstate::TOO_MANY_CONNECTIONS, message),
        )
        .await;
    };
    let name = startup
        .settings
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case("application_name"));
    if let Some((_, name)) = name {
        entry.seen.application_name.replace(name.as_str().into());
    }
    let version = shared.topology().config.console.version.clone();
    let number = ClientNumber {
        process: core.shared.other_process.process,
        core: core.index,
        slot: place.slot,
    };
    client.with_output(|out| {
        for (name, value) in [
            ("server_version", &*format!("{version}/bouncer")),
            ("client_encoding", "UTF8"),
            ("server_encoding", "UTF8"),
            ("DateStyle", "ISO"),
            ("TimeZone", "GMT"),
            ("standard_conforming_strings", "on"),
            ("integer_datetimes", "on"),
            ("is_superuser", "on"),
        ] {
            backend::put_parameter(out, name.as_bytes(), value.as_bytes());
        }
        put_backend_key(out, protocol, number.encode(), entry.secret.bytes())
            .expect("the secret was made for this protocol");
        backend::put_ready(out, TxStatus::Idle);
    });
    let mut conversation = Conversation {
        core,
        client,
        entry,
        role,
        status: TxStatus::Idle,
        skipping: false,
        statements: HashMap::new(),
        portals: HashMap::new(),
    };
    let end = loop {
        if let Err(end) = conversation.turn().await {
            break end;
        }
    };
    if let End::Told(report) = end {
        say_goodbye(&conversation.core.shared, conversation.client, report).await;
    }
}

impl Conversation {
    /// Answers one message, or waits for more.
    async fn turn(&mut self) -> Result<(), End> {
        let message = match frame::next(self.client.input(), MAX_MESSAGE) {
            Ok(Next::Whole(frame)) => frame.bytes.to_vec(),
            Ok(Next::Partial { .. }) => return self.wait().await,
            Err(error) => {
                let report = Report::fatal(sqlstate::PROTOCOL_VIOLATION, error.to_string());
                return Err(End::Told(report));
            }
        };
        self.client.consume(message.len());
        self.entry.seen.requested.set(Some(Instant::now()));
        let body = &message[frame::HEADER..];
        if self.skipping && !matches!(message[0], tag::SYNC | tag::TERMINATE) {
            return Ok(());
        }
        match self.on_message(message[0], body).await {
            Ok(()) => {}
            Err(Failed::End(end)) => return Err(end),
            Err(Failed::Told(report)) => {
                self.fail(&report);
                self.skipping = true;
            }
        }
        self.entry.seen.prepared.set(self.statements.len() as u32);
        if self.client.unsent() > UNREAD {
            self.client.drained(UNREAD).await.map_err(|_| End::Gone)?;
        }
        Ok(())
    }

    /// Waits for the client, or for an order to end.
    async fn wait(&mut self) -> Result<(), End> {
        poll_fn(|cx| {
            self.entry.watch(cx);
            if self.core.life.get() == Life::Ending || self.entry.killed.get() {
                let message = "terminating connection due to administrator command";
                let report = Report::fatal(sqlstate::ADMIN_SHUTDOWN, message);
                return Poll::Ready(Err(End::Told(report)));
            }
            match self.client.poll_fill(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(n)) if n > 0 => Poll::Ready(Ok(())),
                Poll::Ready(_) => Poll::Ready(Err(End::Gone)),
            }
        })
        .await
    }

    /// Writes an error; an open block has failed.
    fn fail(&mut self, report: &Report) {
        self.client.with_output(|out| report.put(out));
        if self.status == TxStatus::Open {
            self.status = TxStatus::Failed;
        }
    }

    fn ready(&mut self) {
        let status = self.status;
        if status == TxStatus::Idle {
            self.portals.clear();
        }
        self.client
            .with_output(|out| backend::put_ready(out, status));
    }

    async fn on_message(&mut self, message: u8, body: &[u8]) -> Result<(), Failed> {
        match message {
            tag::QUERY => {
                let text = frontend::query(body).map_err(malformed)?;
                if let Err(report) = self.query(text).await? {
                    self.fail(&report);
                }
                self.ready();
                Ok(())
            }
            tag::PARSE => self.on_parse(Parse::read(body).map_err(malformed)?),
            tag::BIND => self.on_bind(&Bind::read(body).map_err(malformed)?),
            tag::DESCRIBE => {
                let (target, name) = frontend::target(body).map_err(malformed)?;
                self.on_describe(target, name)
            }
            tag::EXECUTE => {
                let (name, rows) = frontend::execute(body).map_err(malformed)?;
                self.on_execute(name, rows).await
            }
            tag::CLOSE => {
                let (target, name) = frontend::target(body).map_err(malformed)?;
                match target {
                    Target::Statement => drop(self.statements.remove(name)),
                    Target::Portal => drop(self.portals.remove(name)),
                }
                self.client.send(backend::CLOSE_COMPLETE);
                Ok(())
            }
            tag::SYNC => {
                self.skipping = false;
                self.ready();
                Ok(())
            }
            tag::FLUSH | tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => Ok(()),
            tag::FUNCTION_CALL => {
                let message = "the console has no functions";
                self.fail(&Report::error(sqlstate::FEATURE_NOT_SUPPORTED, message));
                self.ready();
                Ok(())
            }
            tag::TERMINATE => Err(Failed::End(End::Gone)),
            other => {
                let message = format!("invalid frontend message type {other}");
                let report = Report::fatal(sqlstate::PROTOCOL_VIOLATION, message);
                Err(Failed::End(End::Told(report)))
            }
        }
    }

    /// All statements of a simple query, up to the first that fails.
    async fn query(&mut self, text: &[u8]) -> Result<Result<(), Report>, End> {
        let text = match utf8(text) {
            Ok(text) => text,
            Err(report) => return Ok(Err(report)),
        };
        let parts: Vec<&str> = statements(text).collect();
        if parts.is_empty() {
            self.client.send(backend::EMPTY_QUERY);
        }
        for part in parts {
            let answer = match parse(part) {
                Ok(command) => self.run(&command).await?,
                Err(report) => Err(report),
            };
            match answer {
                Ok(answer) => self.put(answer),
                Err(report) => return Ok(Err(report)),
            }
        }
        Ok(Ok(()))
    }

    fn put(&mut self, answer: Answer) {
        self.client.with_output(|out| {
            if let Some(notice) = answer.notice {
                notice.put(out);
            }
            if let Some((columns, rows)) = answer.table {
                put_columns(out, &columns, &[]);
                rows.iter().for_each(|row| put_row(out, &columns, row, &[]));
            }
            backend::put_complete(out, answer.tag.as_bytes());
        });
    }

    fn on_parse(&mut self, parse_message: Parse<'_>) -> Result<(), Failed> {
        let text = utf8(parse_message.sql)?;
        let parts: Vec<&str> = statements(text).collect();
        let statement = match parts[..] {
            [] => None,
            [one] => Some(parse(one)?),
            _ => {
                let message = "cannot insert multiple commands into a prepared statement";
                return Err(Report::error(sqlstate::SYNTAX_ERROR, message).into());
            }
        };
        let name = parse_message.name;
        if !name.is_empty() && self.statements.contains_key(name) {
            let name = String::from_utf8_lossy(name);
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(Report::error(sqlstate::DUPLICATE_STATEMENT, message).into());
        }
        if self.statements.len() >= MAX_NAMES {
            let message = format!("a console may have {MAX_NAMES} prepared statements");
            return Err(Report::error(sqlstate::LIMIT_EXCEEDED, message).into());
        }
        self.statements.insert(name.to_vec(), statement);
        self.client.send(backend::PARSE_COMPLETE);
        Ok(())
    }

    fn on_bind(&mut self, bind: &Bind<'_>) -> Result<(), Failed> {
        let statement = self.statement(bind.statement)?.clone();
        if !bind.is_empty() {
            let message = format!(
                "bind message supplies {} parameters, but console commands have none",
                bind.len()
            );
            return Err(Report::error(sqlstate::PROTOCOL_VIOLATION, message).into());
        }
        if self.portals.len() >= MAX_NAMES {
            let message = format!("a console may have {MAX_NAMES} portals");
            return Err(Report::error(sqlstate::LIMIT_EXCEEDED, message).into());
        }
        let portal = Portal {
            statement,
            formats: bind.result_formats().collect(),
            left: None,
        };
        self.portals.insert(bind.portal.to_vec(), portal);
        self.client.send(backend::BIND_COMPLETE);
        Ok(())
    }

    fn statement(&self, name: &[u8]) -> Result<&Statement, Report> {
        self.statements.get(name).ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            let message = format!("prepared statement \"{name}\" does not exist");
            Report::error(sqlstate::INVALID_STATEMENT_NAME, message)
        })
    }

    fn on_describe(&mut self, target: Target, name: &[u8]) -> Result<(), Failed> {
        let with_logins = self.with_logins();
        let columns = |statement: &Statement| {
            let command = statement.as_ref()?;
            command.columns(with_logins)
        };
        let (columns, formats) = match target {
            Target::Statement => {
                let columns = columns(self.statement(name)?);
                self.client.send(backend::NO_PARAMETERS);
                (columns, Vec::new())
            }
            Target::Portal => match self.portals.get(name) {
                Some(portal) => (columns(&portal.statement), portal.formats.clone()),
                None => return Err(no_portal(name).into()),
            },
        };
        match columns {
            Some(columns) => self
                .client
                .with_output(|out| put_columns(out, &columns, &formats)),
            None => self.client.send(backend::NO_DATA),
        }
        Ok(())
    }

    async fn on_execute(&mut self, name: &[u8], most: i32) -> Result<(), Failed> {
        let Some(mut portal) = self.portals.remove(name) else {
            return Err(no_portal(name).into());
        };
        let Some(command) = &portal.statement else {
            self.client.send(backend::EMPTY_QUERY);
            self.portals.insert(name.to_vec(), portal);
            return Ok(());
        };
        if portal.left.is_none() {
            let answer = self.run(command).await??;
            if let Some(notice) = answer.notice {
                self.client.with_output(|out| notice.put(out));
            }
            let (columns, rows) = answer.table.unwrap_or_default();
            portal.left = Some((columns, rows.into(), answer.tag));
        }
        if let Some((columns, rows, tag)) = &mut portal.left {
            let most = usize::try_from(most).ok().filter(|&most| most > 0);
            let count = most.unwrap_or(usize::MAX).min(rows.len());
            let formats = &portal.formats;
            self.client.with_output(|out| {
                rows.drain(..count)
                    .for_each(|row| put_row(out, columns, &row, formats));
                // As PostgreSQL: suspended when the limit was reached, even at the last row.
                if most == Some(count) {
                    out.extend_from_slice(backend::PORTAL_SUSPENDED);
                } else {
                    backend::put_complete(out, tag.as_bytes());
                }
            });
        }
        self.portals.insert(name.to_vec(), portal);
        Ok(())
    }

    fn with_logins(&self) -> bool {
        show::with_logins(&self.core.shared.topology().config.console)
    }

    /// Runs a command, if this user may and the block allows it.
    async fn run(&mut self, command: &Command) -> Result<Result<Answer, Report>, End> {
        if command.needs() > self.role {
            let report = Report::error(sqlstate::INSUFFICIENT_PRIVILEGE, "admin access needed");
            return Ok(Err(report.hint("The setting is console.admin_users.")));
        }
        let ends = matches!(command, Command::Block(Block::Commit | Block::Rollback));
        if self.status == TxStatus::Failed && !ends {
            let message =
                "current transaction is aborted, commands ignored until end of transaction block";
            return Ok(Err(Report::error(sqlstate::IN_FAILED_TRANSACTION, message)));
        }
        Ok(Ok(match command {
            Command::Show(what) => {
                let mut facts = show::gather(&self.core.shared).await;
                if what.what == ShowTopic::Plans {
                    facts.plans = super::view::plans(&self.core.shared).await;
                }
                let columns = what.columns(show::with_logins(&facts.topology.config.console));
                Answer {
                    table: Some((columns, show::rows(what.what, &facts))),
                    ..done("SHOW")
                }
            }
            Command::Help => Answer {
                notice: Some(help()),
                ..done("SHOW")
            },
            Command::ShowDriverSetting(name, value) => Answer {
                table: Some((vec![(name, columns::VERSION[0].1)], vec![row![*value]])),
                ..done("SHOW")
            },
            Command::SetDriverSetting => Answer {
                notice: Some(Report::notice("SET ignored")),
                ..done("SET")
            },
            Command::Set { key, .. } => return Ok(Err(cannot_set(&self.core, key))),
            Command::Block(block) => self.block(*block),
            Command::Act(action, argument) => match self.act(action, argument).await? {
                Ok(notice) => Answer {
                    notice,
                    ..done(action.word)
                },
                Err(report) => return Ok(Err(report)),
            },
        }))
    }

    fn block(&mut self, block: Block) -> Answer {
        let (status, tag) = match (block, self.status) {
            (Block::Begin, _) => (TxStatus::Open, "BEGIN"),
            (Block::Commit, TxStatus::Failed) => (TxStatus::Idle, "ROLLBACK"),
            (Block::Commit, _) => (TxStatus::Idle, "COMMIT"),
            (Block::Rollback, _) => (TxStatus::Idle, "ROLLBACK"),
        };
        self.status = status;
        done(tag)
    }

    /// Runs a command. If the client cancels it or disconnects meanwhile, the command stops and is undone.
    async fn act(
        &mut self,
        action: &Act,
        argument: &Argument,
    ) -> Result<Result<Option<Report>, Report>, End> {
        enum Stop {
            Cancelled,
            Gone,
        }
        let shared = Arc::clone(&self.core.shared);
        let entry = Rc::clone(&self.entry);
        entry.begin_wait();
        let result = {
            let by = Arc::from(&*entry.who.names.user);
            let mut doing = pin!(act(&shared, action, argument, by));
            let client = &mut self.client;
            poll_fn(|cx| {
                entry.watch(cx);
                if let Poll::Ready(result) = doing.as_mut().poll(cx) {
                    return Poll::Ready(Ok(result));
                }
                if entry.is_wait_cancelled() {
                    return Poll::Ready(Err(Stop::Cancelled));
                }
                while client.input().len() < MAX_MESSAGE {
                    match client.poll_fill(cx) {
                        Poll::Pending => break,
                        Poll::Ready(Ok(n)) if n > 0 => {}
                        Poll::Ready(_) => return Poll::Ready(Err(Stop::Gone)),
                    }
                }
                Poll::Pending
            })
            .await
        };
        entry.end_wait();
        let stop = match result {
            Ok(result) => return Ok(result),
            Err(stop) => stop,
        };
        undo(&shared, action, argument).await;
        match stop {
            Stop::Gone => Err(End::Gone),
            Stop::Cancelled => {
                let message = "canceling statement due to user request";
                Ok(Err(Report::error(sqlstate::QUERY_CANCELED, message)))
            }
        }
    }
}

/// Why a message failed.
enum Failed {
    End(End),
    Told(Report),
}

impl From<End> for Failed {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl From<Report> for Failed {
    fn from(report: Report) -> Self {
        Self::Told(report)
    }
}

fn malformed(error: frontend::Malformed) -> Failed {
    let report = Report::fatal(sqlstate::PROTOCOL_VIOLATION, error.to_string());
    Failed::End(End::Told(report))
}

fn no_portal(name: &[u8]) -> Report {
    let name = String::from_utf8_lossy(name);
    let message = format!("portal \"{name}\" does not exist");
    Report::error(sqlstate::INVALID_CURSOR_NAME, message)
}

fn utf8(text: &[u8]) -> Result<&str, Report> {
    std::str::from_utf8(text).map_err(|_| {
        // character_not_in_repertoire
        Report::error("22021", "invalid byte sequence for encoding \"UTF8\"")
    })
}

/// The statements of a text that are not empty.
fn statements(text: &str) -> impl Iterator<Item = &str> {
    let parts = split(text.as_bytes(), true).filter(|part| !part.empty);
    // A span never cuts a character: it ends at semicolons.
    parts.filter_map(|part| text.get(part.span.start..part.span.end))
}

fn done(tag: &str) -> Answer {
    Answer {
        notice: None,
        table: None,
        tag: tag.to_owned(),
    }
}

fn cannot_set(core: &Core, key: &str) -> Report {
    let topology = core.shared.topology();
    if !topology.config.entries().contains_key(key) {
        let message = format!("unrecognized configuration parameter \"{key}\"");
        return Report::error(sqlstate::UNDEFINED_OBJECT, message);
    }
    let message = format!("parameter \"{key}\" cannot be changed here");
    let report = Report::error(sqlstate::FEATURE_NOT_SUPPORTED, message);
    report.hint("Change the configuration file and give RELOAD.")
}

/// A notice like PgBouncer's. It has an SQLSTATE, because psql prints an error without one.
fn help() -> Report {
    let mut text = String::from("\n");
    let words: Vec<&str> = SHOWS.iter().map(|show| show.word).collect();
    for line in words.chunks(6) {
        text.push_str(&format!("\tSHOW {}\n", line.join("|")));
    }
    text.push_str("\tSHOW HELP\n");
    for act in ACTS {
        let takes = match act.takes {
            Arguments::Nothing => "",
            Arguments::MaybeDatabase => " [<db>]",
            Arguments::Database => " <db>",
            Arguments::Client => " <client_id>",
            Arguments::Shard => " <shard>",
            Arguments::ShardAndServer => " <shard> [<address>]",
            Arguments::Server => " <address>",
            Arguments::ServerAndWeight => " <address> <weight>",
            Arguments::Manner => " [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]",
        };
        text.push_str(&format!("\t{}{takes}\n", act.word));
    }
    text.push_str("\tSET key = arg (ignored)");
    Report::notice("Console usage").detail(text)
}
