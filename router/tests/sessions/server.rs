//! A simulated server's side of the protocol: one task for each connection, which may die at every step.

use crate::engine::{Answer, Backend, Row, SqlError, Tx};
use crate::sql::{Statement, Value, read};
use crate::world::{Fault, World};
use mothership_pool::wire::Pipe;
use mothership_proto::backend::{self, Column};
use mothership_proto::frame::{self, Next};
use mothership_proto::frontend::{self, Bind, Parse, Target, tag};
use mothership_proto::startup::FirstPacket;
use mothership_sql::split::split;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The connection is over.
struct Over;

impl From<std::io::Error> for Over {
    fn from(_: std::io::Error) -> Over {
        Over
    }
}

struct Prepared {
    statement: Rc<Statement>,
    text: Rc<str>,
    types: Vec<u32>,
}

struct Portal {
    statement: Rc<Statement>,
    text: Rc<str>,
    values: Vec<Value>,
    formats: Vec<i16>,
    /// What is left of its rows, once it was executed, and its command.
    left: Option<(VecDeque<Vec<u8>>, String)>,
}

struct Connection {
    world: Rc<World>,
    shard: usize,
    stream: Pipe,
    input: Vec<u8>,
    output: Vec<u8>,
    backend: Backend,
    prepared: HashMap<Vec<u8>, Prepared>,
    portals: HashMap<Vec<u8>, Portal>,
    skipping: bool,
    /// It is the control role's: what it asks is not told of a failed run.
    is_control: bool,
}

/// Serves a connection to a shard's server until one of both leaves.
pub async fn serve(world: Rc<World>, shard: usize, mut stream: Pipe) {
    let mut input = Vec::new();
    let startup = loop {
        match FirstPacket::parse(&input) {
            Ok(Some((FirstPacket::Startup(startup), length))) => {
                input.drain(..length);
                break startup;
            }
            Ok(Some((FirstPacket::Cancel { pid, .. }, _))) => {
                world.pause().await;
                world.cancel(shard, pid);
                world.pause().await;
                return;
            }
            Ok(None) => match stream.read_buf(&mut input).await {
                Ok(n) if n > 0 => {}
                _ => return,
            },
            _ => return,
        }
    };
    let pid = world.enter(shard);
    let mut backend = Backend::new(&world.shards[shard], pid);
    for (name, value) in &startup.settings {
        backend.startup(name, value);
    }
    let mut connection = Connection {
        world: Rc::clone(&world),
        shard,
        stream,
        input,
        output: Vec::new(),
        backend,
        prepared: HashMap::new(),
        portals: HashMap::new(),
        skipping: false,
        is_control: startup
            .settings
            .contains(&("application_name".into(), "mothership".into())),
    };
    // Every way out is the same to whoever is at the other end.
    let _ = connection.hold().await;
    connection.backend.leave();
    world.leave(shard, pid);
}

fn put_error(out: &mut Vec<u8>, severity: &str, SqlError(code, message): &SqlError) {
    frame::put(out, b'E', |body| {
        for (field, text) in [(b'S', severity), (b'V', severity), (b'C', *code)] {
            body.push(field);
            frame::put_str(body, text.as_bytes());
        }
        body.push(b'M');
        frame::put_str(body, message.as_bytes());
        body.push(0);
    });
}

impl Connection {
    async fn hold(&mut self) -> Result<(), Over> {
        self.world.pause().await;
        frame::put(&mut self.output, b'R', |body| body.extend([0; 4]));
        for (name, value) in [
            ("server_version", "15.0"),
            ("server_encoding", "UTF8"),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO, MDY"),
            ("IntervalStyle", "postgres"),
            ("TimeZone", "UTC"),
            ("integer_datetimes", "on"),
            ("standard_conforming_strings", "on"),
            ("is_superuser", "on"),
            ("session_authorization", "u"),
            ("application_name", ""),
        ] {
            backend::put_parameter(&mut self.output, name.as_bytes(), value.as_bytes());
        }
        let pid = self.backend.pid;
        frame::put(&mut self.output, b'K', |body| {
            body.extend(pid.to_be_bytes());
            body.extend([1, 2, 3, 4]);
        });
        self.ready().await?;
        loop {
            let (kind, body) = self.message().await?;
            if self.skipping && !matches!(kind, tag::SYNC | tag::TERMINATE) {
                continue;
            }
            match kind {
                tag::QUERY => {
                    let sql = frontend::query(&body).map_err(|_| Over)?;
                    let sql = String::from_utf8_lossy(sql).into_owned();
                    self.simple(&sql).await?;
                }
                tag::SYNC => {
                    self.skipping = false;
                    self.backend.end_implicit();
                    self.close_portals();
                    self.ready().await?;
                }
                tag::FLUSH => self.flush().await?,
                tag::TERMINATE => return Ok(()),
                tag::PARSE => self.parse(&body).await?,
                tag::BIND => self.bind(&body).await?,
                tag::DESCRIBE => self.describe(&body).await?,
                tag::EXECUTE => self.execute(&body).await?,
                tag::CLOSE => {
                    let (target, name) = frontend::target(&body).map_err(|_| Over)?;
                    match target {
                        Target::Statement => drop(self.prepared.remove(name)),
                        Target::Portal => drop(self.portals.remove(name)),
                    }
                    frame::put(&mut self.output, b'3', |_| {});
                }
                tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => {}
                other => panic!("the router sends a message {:?}", char::from(other)),
            }
            if self.skipping {
                // An error is told at once.
                self.flush().await?;
            }
        }
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if !self.is_control {
            let (shard, pid) = (self.shard, self.backend.pid);
            self.world.say(|| format!("s{shard} pid {pid}: {}", what()));
        }
    }

    async fn message(&mut self) -> Result<(u8, Vec<u8>), Over> {
        loop {
            match frame::next(&self.input, 1 << 24) {
                Ok(Next::Whole(frame)) => {
                    let (kind, body) = (frame.tag(), frame.body().to_vec());
                    let length = frame.bytes.len();
                    self.input.drain(..length);
                    return Ok((kind, body));
                }
                Ok(Next::Partial { .. }) => {
                    let killed = self.world.killed(self.shard, self.backend.pid);
                    tokio::select! {
                        biased;
                        () = killed => return Err(Over),
                        read = self.stream.read_buf(&mut self.input) => {
                            if read? == 0 {
                                return Err(Over);
                            }
                        }
                    }
                }
                Err(error) => panic!("the router sends what is no message: {error}"),
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Over> {
        let output = std::mem::take(&mut self.output);
        self.stream.write_all(&output).await?;
        Ok(())
    }

    async fn ready(&mut self) -> Result<(), Over> {
        let status = self.backend.status();
        frame::put(&mut self.output, b'Z', |body| body.push(status));
        self.flush().await
    }

    fn close_portals(&mut self) {
        if matches!(self.backend.tx, Tx::Idle) {
            self.portals.clear();
        }
    }

    /// Whatever may happen before and after a statement: time passes, the server dies, somebody cancels it, it fails.
    async fn runs(&mut self, text: &str) -> Result<Result<(), SqlError>, Over> {
        self.say(|| text.to_owned());
        let fault = self.world.fault();
        let cancelled = self.world.work(self.shard, self.backend.pid).await;
        if self.world.is_killed(self.shard, self.backend.pid) {
            return Err(Over);
        }
        match fault {
            Some(Fault::DieBefore) => {
                self.say(|| "dies".to_owned());
                Err(Over)
            }
            Some(Fault::Farewell) => {
                let why = SqlError(
                    "57P01",
                    "terminating connection due to administrator command".into(),
                );
                put_error(&mut self.output, "FATAL", &why);
                self.flush().await?;
                Err(Over)
            }
            Some(Fault::Fails) => Ok(Err(SqlError("53200", "out of memory".into()))),
            _ if cancelled => Ok(Err(SqlError(
                "57014",
                "canceling statement due to user request".into(),
            ))),
            _ => Ok(Ok(())),
        }
    }

    /// The server may die after it has done something, before anybody hears of it, or in the middle of its words.
    async fn told(&mut self) -> Result<(), Over> {
        match self.world.fault() {
            Some(Fault::DieAfter) => {
                self.say(|| "dies behind it".to_owned());
                Err(Over)
            }
            Some(Fault::DieWithin) => {
                self.say(|| "dies within".to_owned());
                let some = self.world.number(self.output.len() + 1);
                self.output.truncate(some);
                self.flush().await?;
                Err(Over)
            }
            _ => Ok(()),
        }
    }

    async fn run(
        &mut self,
        statement: &Statement,
        text: &str,
        values: &[Value],
    ) -> Result<Result<Answer, SqlError>, Over> {
        Ok(match self.runs(text).await? {
            Ok(()) => self.backend.run(statement, values),
            Err(error) => match statement {
                // Its own fate must not depend on memory here: it ends the transaction, however.
                Statement::Rollback => self.backend.run(statement, values),
                _ => Err(error),
            },
        })
    }

    fn failed(&mut self, error: &SqlError) {
        self.say(|| format!("{} {}", error.0, error.1));
        put_error(&mut self.output, "ERROR", error);
        self.backend.fail();
        self.close_portals();
    }

    async fn simple(&mut self, sql: &str) -> Result<(), Over> {
        self.portals.remove(&b""[..]);
        let mut statements = Vec::new();
        for part in split(sql.as_bytes(), true).filter(|part| !part.empty) {
            let text = String::from_utf8_lossy(part.span.of(sql.as_bytes())).into_owned();
            match read(&text) {
                Ok(statement) => statements.push((statement, text)),
                Err(unknown) => {
                    self.world
                        .fails(format!("no server understands: {}", unknown.0));
                    return Err(Over);
                }
            }
        }
        if statements.is_empty() {
            frame::put(&mut self.output, b'I', |_| {});
        }
        for (statement, text) in statements {
            match self.run(&statement, &text, &[]).await? {
                Ok(Answer::Rows {
                    columns,
                    rows,
                    command,
                }) => {
                    self.put_columns(&columns, &[]);
                    let types: Vec<u32> = columns.iter().map(|c| c.1).collect();
                    for row in &rows {
                        let row = encoded(row, &types, &[]);
                        self.output.extend(row);
                    }
                    backend::put_complete(&mut self.output, command.as_bytes());
                }
                Ok(Answer::Done(command)) => {
                    backend::put_complete(&mut self.output, command.as_bytes())
                }
                Ok(Answer::Empty) => {}
                Ok(Answer::CopyIn(table)) => {
                    backend::put_copy_in_text(&mut self.output, 3);
                    self.flush().await?;
                    match self.copied(&table).await? {
                        Ok(command) => backend::put_complete(&mut self.output, command.as_bytes()),
                        Err(error) => {
                            self.failed(&error);
                            break;
                        }
                    }
                }
                Err(error) => {
                    self.failed(&error);
                    break;
                }
            }
            if matches!(statement, Statement::Commit) {
                self.told().await?;
            }
        }
        self.backend.end_implicit();
        self.close_portals();
        let status = self.backend.status();
        frame::put(&mut self.output, b'Z', |body| body.push(status));
        self.told().await?;
        self.flush().await
    }

    async fn copied(&mut self, table: &str) -> Result<Result<String, SqlError>, Over> {
        let mut data = Vec::new();
        loop {
            let (kind, body) = self.message().await?;
            match kind {
                tag::COPY_DATA => data.extend(body),
                tag::COPY_FAIL => {
                    return Ok(Err(SqlError("57014", "COPY from stdin failed".into())));
                }
                tag::COPY_DONE => break,
                tag::FLUSH | tag::SYNC => {}
                other => panic!("the router sends {:?} within a COPY", char::from(other)),
            }
        }
        if let Err(error) = self.runs("(the end of COPY)").await? {
            return Ok(Err(error));
        }
        let text = String::from_utf8_lossy(&data).into_owned();
        let mut rows = Vec::new();
        for line in text.lines() {
            let mut fields = line.split('\t');
            let id = fields.next().and_then(|id| id.parse().ok());
            let v = fields.next().and_then(|v| v.parse().ok());
            let (Some(id), Some(v), Some(w)) = (id, v, fields.next()) else {
                panic!("the router sends a line of COPY that nobody wrote: {line:?}");
            };
            rows.push((id, Row { v, w: w.to_owned() }));
        }
        Ok(self
            .backend
            .insert(table, &rows)
            .map(|()| format!("COPY {}", rows.len())))
    }

    async fn parse(&mut self, body: &[u8]) -> Result<(), Over> {
        let parse = Parse::read(body).map_err(|_| Over)?;
        let text = String::from_utf8_lossy(parse.sql).into_owned();
        let statement = match read(&text) {
            Ok(Statement::Broken) => {
                self.failed(&SqlError("42601", "syntax error".into()));
                self.skipping = true;
                return Ok(());
            }
            Ok(statement) => statement,
            Err(unknown) => {
                self.world
                    .fails(format!("no server understands: {}", unknown.0));
                return Err(Over);
            }
        };
        let ends = matches!(
            statement,
            Statement::Commit | Statement::Rollback | Statement::RollbackTo(_)
        );
        if matches!(self.backend.tx, Tx::Failed(_)) && !ends {
            self.failed(&SqlError("25P02", "current transaction is aborted".into()));
            self.skipping = true;
            return Ok(());
        }
        let mut types = statement.params();
        for (known, declared) in types.iter_mut().zip(parse.type_oids()) {
            if declared != 0 {
                *known = declared;
            }
        }
        let prepared = Prepared {
            statement: Rc::new(statement),
            text: text.into(),
            types,
        };
        if !parse.name.is_empty() && self.prepared.contains_key(parse.name) {
            let name = String::from_utf8_lossy(parse.name);
            self.failed(&SqlError(
                "42P05",
                format!("prepared statement \"{name}\" already exists"),
            ));
            self.skipping = true;
            return Ok(());
        }
        self.prepared.insert(parse.name.to_vec(), prepared);
        frame::put(&mut self.output, b'1', |_| {});
        Ok(())
    }

    async fn bind(&mut self, body: &[u8]) -> Result<(), Over> {
        let bind = Bind::read(body).map_err(|_| Over)?;
        let Some(prepared) = self.prepared.get(bind.statement) else {
            let name = String::from_utf8_lossy(bind.statement);
            self.failed(&SqlError(
                "26000",
                format!("prepared statement \"{name}\" does not exist"),
            ));
            self.skipping = true;
            return Ok(());
        };
        let values = bind
            .values()
            .zip(prepared.types.iter().chain(std::iter::repeat(&25)));
        let values = values
            .map(|((format, value), oid)| decoded(*oid, format, value))
            .collect();
        let portal = Portal {
            statement: Rc::clone(&prepared.statement),
            text: Rc::clone(&prepared.text),
            values,
            formats: bind.result_formats().collect(),
            left: None,
        };
        self.portals.insert(bind.portal.to_vec(), portal);
        frame::put(&mut self.output, b'2', |_| {});
        Ok(())
    }

    async fn describe(&mut self, body: &[u8]) -> Result<(), Over> {
        let (target, name) = frontend::target(body).map_err(|_| Over)?;
        let (statement, formats) = match target {
            Target::Statement => match self.prepared.get(name) {
                Some(prepared) => {
                    let types = prepared.types.clone();
                    frame::put(&mut self.output, b't', |body| {
                        body.extend((types.len() as u16).to_be_bytes());
                        types.iter().for_each(|oid| body.extend(oid.to_be_bytes()));
                    });
                    (Rc::clone(&prepared.statement), Vec::new())
                }
                None => {
                    self.failed(&SqlError("26000", "no such statement".into()));
                    self.skipping = true;
                    return Ok(());
                }
            },
            Target::Portal => match self.portals.get(name) {
                Some(portal) => (Rc::clone(&portal.statement), portal.formats.clone()),
                None => {
                    self.failed(&SqlError("34000", "no such portal".into()));
                    self.skipping = true;
                    return Ok(());
                }
            },
        };
        match columns_of(&statement) {
            Some(columns) => self.put_columns(&columns, &formats),
            None => frame::put(&mut self.output, b'n', |_| {}),
        }
        Ok(())
    }

    async fn execute(&mut self, body: &[u8]) -> Result<(), Over> {
        let (name, most) = frontend::execute(body).map_err(|_| Over)?;
        let Some(portal) = self.portals.get(name) else {
            self.failed(&SqlError("34000", "no such portal".into()));
            self.skipping = true;
            return Ok(());
        };
        if portal.left.is_none() {
            let (statement, text) = (Rc::clone(&portal.statement), Rc::clone(&portal.text));
            let (values, formats) = (portal.values.clone(), portal.formats.clone());
            let answer = match self.run(&statement, &text, &values).await? {
                Ok(answer) => answer,
                Err(error) => {
                    self.failed(&error);
                    self.skipping = true;
                    return Ok(());
                }
            };
            let (rows, command) = match answer {
                Answer::Rows {
                    columns,
                    rows,
                    command,
                } => {
                    let types: Vec<u32> = columns.iter().map(|c| c.1).collect();
                    (
                        rows.iter()
                            .map(|row| encoded(row, &types, &formats))
                            .collect(),
                        command,
                    )
                }
                Answer::Done(command) => (VecDeque::new(), command),
                Answer::Empty => {
                    frame::put(&mut self.output, b'I', |_| {});
                    return Ok(());
                }
                Answer::CopyIn(_) => panic!("no client copies in the extended protocol"),
            };
            if let Some(portal) = self.portals.get_mut(name) {
                portal.left = Some((rows, command));
            } else {
                // It has ended its transaction, and its portal with it.
                backend::put_complete(&mut self.output, command.as_bytes());
                return self.told().await;
            }
        }
        let Some((rows, command)) = self
            .portals
            .get_mut(name)
            .and_then(|portal| portal.left.as_mut())
        else {
            return Ok(());
        };
        let most = usize::try_from(most).unwrap_or(0);
        let mut sent = 0;
        while most == 0 || sent < most {
            let Some(row) = rows.pop_front() else { break };
            self.output.extend(row);
            sent += 1;
        }
        let ended = most == 0 || sent < most;
        let command = match command.strip_prefix("SELECT ") {
            Some(_) => format!("SELECT {sent}"),
            None => command.clone(),
        };
        match ended {
            true => backend::put_complete(&mut self.output, command.as_bytes()),
            false => frame::put(&mut self.output, b's', |_| {}),
        }
        self.told().await
    }

    fn put_columns(&mut self, columns: &[(String, u32)], formats: &[i16]) {
        let columns = columns.iter().enumerate().map(|(at, (name, oid))| {
            let size = match oid {
                20 => 8,
                23 => 4,
                _ => -1,
            };
            let mut column = Column::of(name, *oid, size);
            column.format = format_of(formats, at);
            column
        });
        backend::put_columns(&mut self.output, &columns.collect::<Vec<_>>());
    }
}

fn format_of(formats: &[i16], at: usize) -> i16 {
    match formats {
        [] => 0,
        [all] => *all,
        each => each.get(at).copied().unwrap_or(0),
    }
}

/// The columns that a statement gives, if any.
fn columns_of(statement: &Statement) -> Option<Vec<(String, u32)>> {
    let of = |items: &[(crate::sql::Expr, String)]| {
        let columns = items
            .iter()
            .map(|(item, name)| (name.clone(), item.type_oid()));
        columns.collect::<Vec<_>>()
    };
    match statement {
        Statement::Select(select) => Some(of(&select.items)),
        Statement::Insert { returning, .. }
        | Statement::Update { returning, .. }
        | Statement::Delete { returning, .. }
            if !returning.is_empty() =>
        {
            Some(of(returning))
        }
        Statement::NoRow => Some(Vec::new()),
        Statement::Row(said) => Some(said.iter().map(|_| ("said".to_owned(), 25)).collect()),
        Statement::SetConfig(settings) => Some(
            settings
                .iter()
                .map(|_| ("set_config".to_owned(), 25))
                .collect(),
        ),
        _ => None,
    }
}

fn encoded(row: &[Value], types: &[u32], formats: &[i16]) -> Vec<u8> {
    let values = row.iter().zip(types).enumerate().map(|(at, (value, oid))| {
        let binary = format_of(formats, at) == 1;
        match value {
            Value::Null => None,
            Value::Int(number) if binary && *oid == 23 => {
                Some((*number as i32).to_be_bytes().to_vec())
            }
            Value::Int(number) if binary => Some(number.to_be_bytes().to_vec()),
            Value::Sum(_) if binary => panic!("nobody asks for a binary sum"),
            Value::Int(number) | Value::Sum(number) => Some(number.to_string().into_bytes()),
            Value::Text(text) => Some(text.clone().into_bytes()),
        }
    });
    let values: Vec<Option<Vec<u8>>> = values.collect();
    let mut out = Vec::new();
    backend::put_row(&mut out, values.iter().map(|value| value.as_deref()));
    out
}

fn decoded(oid: u32, format: i16, value: Option<&[u8]>) -> Value {
    let Some(value) = value else {
        return Value::Null;
    };
    match (oid, format) {
        (20, 1) => Value::Int(value.try_into().map_or(0, i64::from_be_bytes)),
        (23, 1) => Value::Int(value.try_into().map_or(0, i32::from_be_bytes).into()),
        (20 | 23, _) => Value::Int(String::from_utf8_lossy(value).parse().unwrap_or(0)),
        _ => Value::Text(String::from_utf8_lossy(value).into_owned()),
    }
}
