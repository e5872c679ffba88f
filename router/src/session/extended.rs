//! The extended protocol: Parse, Bind, Describe, Execute, Close, Flush, Sync.
//!
//! Messages go to the server as they come; nothing waits for a reply that the
//! client does not wait for itself, except where a statement must be prepared anew
//! on a server that does not know it.

use super::choose::Wants;
use super::dispatch::{Dispatch, Many};
use super::many::Merging;
use super::names::{Origin, Prepared};
use super::simple::{duplicate_statement, no_such_statement, renamed};
use super::state::{Block, Outcome, Phase, Place, Portal};
use super::step::{Kind, prepared_steps, steps};
use super::{Halt, Session, violation};
use crate::plan::Params;
use crate::sql::effect::{Statement, analyse};
use mothership_proto::backend::{self, Column};
use mothership_proto::frontend::{self, Bind, Parse, Target};
use mothership_proto::ledger::{Audience, Event, Owed};
use mothership_proto::report::{Report, sqlstate};
use std::cell::Cell;
use std::rc::Rc;

impl Session {
    pub(super) async fn on_parse(&mut self, body: &[u8]) -> Result<(), Halt> {
        self.begin_segment().await?;
        self.flush_held().await?;
        let parse = Parse::read(body).map_err(|e| violation(e.to_string()))?;
        if !parse.name.is_empty() {
            if self.state.names.get(parse.name).is_some() {
                return Err(duplicate_statement(parse.name).into());
            }
            self.check_room(parse.name, parse.sql)?;
        }
        let statement = self.statement(&parse)?;
        if let Some(Kind::Refuse(report)) = statement.step().map(|s| &s.kind) {
            return Err(Halt::Fail((**report).clone()));
        }
        if self.explained_by(&statement)?.is_some()
            || statement.step().is_some_and(|s| self.runs_here(&s.kind))
        {
            self.state.names.define(parse.name, statement);
            self.answer(backend::PARSE_COMPLETE);
            return Ok(());
        }
        self.check_steps(&statement.steps)?;
        if self.world.is_some() {
            if statement.steps.len() > 1 {
                return Err(Report::error(
                    sqlstate::SYNTAX_ERROR,
                    "cannot insert multiple commands into a prepared statement",
                )
                .into());
            }
            self.look_for_unknown(&statement, 0).await?;
            // What is refused whatever its parameters are is refused now.
            self.refuse_now(&statement)?;
            // Which server it goes to is known at Bind, which often follows at once.
            self.held = Some((parse.name.into(), Rc::clone(&statement)));
            self.state.names.define(parse.name, statement);
            return Ok(());
        }
        self.state.names.define(parse.name, Rc::clone(&statement));
        self.parse_on(self.topology.home, parse.name, &statement)
            .await
    }

    /// A segment begins with its first message: the newest knowledge holds for all of it.
    async fn begin_segment(&mut self) -> Result<(), Halt> {
        if self.state.phase == Phase::Idle {
            self.state.phase = Phase::Segment;
            self.refresh_world().await?;
        }
        self.state.phase = Phase::Segment;
        Ok(())
    }

    /// Sends a Parse of the client to the server of a shard.
    async fn parse_on(
        &mut self,
        shard: usize,
        name: &[u8],
        statement: &Rc<Prepared>,
    ) -> Result<(), Halt> {
        let at = self.attach(shard).await?;
        if let Some(needed) = self.needed_by(statement) {
            self.ensure_prepared(at, &needed).await?;
        }
        let named = !name.is_empty();
        let attached = &mut self.servers[at];
        if named && attached.lease.notes.prepared.touch(statement.id) {
            self.answer(backend::PARSE_COMPLETE);
            return Ok(());
        }
        self.send_parse(at, statement, named, Audience::Client);
        Ok(())
    }

    /// The held Parse can wait no longer: any server that knows the tables will do.
    pub(super) async fn flush_held(&mut self) -> Result<(), Halt> {
        let Some((name, statement)) = self.held.take() else {
            return Ok(());
        };
        self.parse_on(self.topology.home, &name, &statement).await
    }

    /// The statement of a Parse. EXECUTE and PREPARE are rewritten to the names that
    /// servers know.
    fn statement(&self, parse: &Parse<'_>) -> Result<Rc<Prepared>, Halt> {
        let strings = self.standard_strings();
        let origin = || Origin::Parse(parse.types.into());
        let read = || steps(parse.sql, strings);
        let statement = self
            .core
            .interner
            .intern(parse.sql, origin(), self.epoch(), read);
        let Some(step) = statement.step() else {
            return Ok(statement);
        };
        match (&step.kind, step.name_span) {
            (Kind::Execute(name), Some(span)) => {
                let Some(prepared) = self.state.names.get(name) else {
                    return Err(no_such_statement(name).into());
                };
                let sql = renamed(parse.sql, span, &prepared.server_name());
                let read = || {
                    let mut steps = prepared_steps(&prepared.sql, strings);
                    steps
                        .iter_mut()
                        .for_each(|s| s.kind = Kind::Execute(name.clone()));
                    steps
                };
                Ok(self
                    .core
                    .interner
                    .intern(&sql, origin(), self.epoch(), read))
            }
            (Kind::Prepare(_), _) => Err(Report::error(
                sqlstate::FEATURE_NOT_SUPPORTED,
                "PREPARE cannot be sent through the extended protocol",
            )
            .hint("Send it as a simple query, or use the protocol's own Parse.")
            .into()),
            _ => Ok(statement),
        }
    }

    /// The statement that an EXECUTE runs.
    fn needed_by(&self, statement: &Prepared) -> Option<Rc<Prepared>> {
        match statement.step().map(|s| &s.kind) {
            Some(Kind::Execute(name)) => self.state.names.get(name).cloned(),
            _ => None,
        }
    }

    fn check_room(&self, name: &[u8], sql: &[u8]) -> Result<(), Halt> {
        let limits = &self.topology.config.limits;
        let (count, bytes) = self.state.names.size();
        let most = limits.client_statements.get() as usize;
        if count >= most {
            return Err(over_limit(
                format!("a client may have {most} prepared statements"),
                "limits.client_statements",
            )
            .into());
        }
        let room = limits.client_statements_size.bytes();
        if bytes + name.len() + sql.len() > room {
            return Err(over_limit(
                format!("a client's prepared statements may have {room} bytes"),
                "limits.client_statements_size",
            )
            .into());
        }
        Ok(())
    }

    fn send_parse(&mut self, at: usize, statement: &Rc<Prepared>, named: bool, to: Audience) {
        let Origin::Parse(types) = &statement.origin else {
            debug_assert!(false, "only what was parsed is parsed again");
            return;
        };
        self.make_room(at);
        let attached = &mut self.servers[at];
        attached.inbox.in_segment = true;
        let name = if named {
            statement.server_name()
        } else {
            String::new()
        };
        let parse = Parse {
            name: name.as_bytes(),
            sql: &statement.sql,
            types,
        };
        attached.lease.wire.with_output(|out| parse.put(out));
        if named {
            attached.inbox.preparing.push(statement.id);
            attached.lease.ledger.push(Owed::Parse(statement.id, to));
        } else {
            attached.lease.notes.unnamed = Some(statement.id);
            attached.lease.ledger.push(Owed::Parse(0, to));
        }
    }

    /// Drops the least recently used statement of a connection that has too many.
    fn make_room(&mut self, at: usize) {
        let limit = self.topology.config.pool.prepared_statements as usize;
        let attached = &mut self.servers[at];
        let pending = attached.inbox.preparing.len();
        let Some(id) = attached
            .lease
            .notes
            .prepared
            .surplus(limit.saturating_sub(pending + 1))
        else {
            return;
        };
        attached.lease.notes.prepared.remove(id);
        attached.inbox.closing.push_back(id);
        let name = super::names::server_name(id);
        attached
            .lease
            .wire
            .with_output(|out| frontend::put_close(out, Target::Statement, name.as_bytes()));
        attached.lease.ledger.push(Owed::Close(Audience::Router));
    }

    /// Makes a statement of the client known to this server, if it is not yet.
    async fn ensure_prepared(&mut self, at: usize, statement: &Rc<Prepared>) -> Result<(), Halt> {
        let attached = &mut self.servers[at];
        if attached.lease.notes.prepared.touch(statement.id)
            || attached.inbox.preparing.contains(&statement.id)
        {
            return Ok(());
        }
        match &statement.origin {
            Origin::Parse(_) => self.parse_again(at, statement, true).await,
            _ => {
                let text = statement.definition();
                self.run_quietly(at, &text).await?;
                self.servers[at].lease.notes.prepared.insert(statement.id);
                Ok(())
            }
        }
    }

    /// Runs a statement of the router inside of the client's segment and waits.
    pub(super) async fn run_quietly(&mut self, at: usize, sql: &[u8]) -> Result<(), Halt> {
        self.servers[at].inbox.in_segment = true;
        let lease = &mut self.servers[at].lease;
        lease.notes.unnamed = None;
        lease.wire.with_output(|out| {
            Parse {
                name: b"",
                sql,
                types: &[],
            }
            .put(out);
            frontend::put_plain_bind(out, b"", b"");
            frontend::put_execute(out, b"", 0);
            out.extend_from_slice(frontend::FLUSH);
        });
        for owed in [
            Owed::Parse(0, Audience::Router),
            Owed::Bind(Audience::Router),
            Owed::Execute(Audience::Router),
        ] {
            lease.ledger.push(owed);
        }
        self.settle(at).await
    }

    /// Parses a known statement on another server. If the server describes it
    /// otherwise than the first one did, the client's idea of its columns is wrong:
    /// PostgreSQL says so for a plan that outlived a change of its table.
    async fn parse_again(
        &mut self,
        at: usize,
        statement: &Rc<Prepared>,
        named: bool,
    ) -> Result<(), Halt> {
        self.send_parse(at, statement, named, Audience::Router);
        if statement.described.get().is_none() {
            return Ok(());
        }
        let name = if named {
            statement.server_name()
        } else {
            String::new()
        };
        let attached = &mut self.servers[at];
        attached.inbox.changed = false;
        attached
            .inbox
            .describing
            .push_back(Some(Rc::clone(statement)));
        attached.lease.wire.with_output(|out| {
            frontend::put_describe(out, Target::Statement, name.as_bytes());
            out.extend_from_slice(frontend::FLUSH);
        });
        attached
            .lease
            .ledger
            .push(Owed::DescribeStatement(Audience::Router));
        self.settle(at).await?;
        if std::mem::take(&mut self.servers[at].inbox.changed) {
            return Err(Report::error(
                sqlstate::FEATURE_NOT_SUPPORTED,
                "cached plan must not change result type",
            )
            // asyncpg tells this case from others by the routine.
            .routine("RevalidateCachedQuery")
            .into());
        }
        Ok(())
    }

    /// The statement of a name, known to the server `at`, and its name there.
    async fn on_server(
        &mut self,
        at: usize,
        name: &[u8],
        statement: &Rc<Prepared>,
    ) -> Result<String, Halt> {
        if let Some(needed) = self.needed_by(statement) {
            self.ensure_prepared(at, &needed).await?;
        }
        if !name.is_empty() {
            self.ensure_prepared(at, statement).await?;
            return Ok(statement.server_name());
        }
        if self.servers[at].lease.notes.unnamed != Some(statement.id) {
            self.parse_again(at, statement, false).await?;
        }
        Ok(String::new())
    }

    pub(super) async fn on_bind(&mut self, body: &[u8]) -> Result<(), Halt> {
        self.begin_segment().await?;
        let bind = Bind::read(body).map_err(|e| violation(e.to_string()))?;
        let Some(statement) = self.state.names.get(bind.statement).cloned() else {
            self.flush_held().await?;
            return Err(no_such_statement(bind.statement).into());
        };
        if !bind.portal.is_empty() && !self.state.portals.contains_key(bind.portal) {
            let most = self.topology.config.limits.client_portals.get() as usize;
            if self.state.portals.len() >= most {
                return Err(over_limit(
                    format!("a client may have {most} portals"),
                    "limits.client_portals",
                )
                .into());
            }
        }
        let place = if let Some(inner) = self.explained_by(&statement)? {
            self.bind_explain(&bind, &statement, inner).await?
        } else if statement.step().is_some_and(|s| self.runs_here(&s.kind)) {
            self.flush_held().await?;
            self.answer(backend::BIND_COMPLETE);
            Place::Here
        } else {
            self.bind_on_servers(&bind, &statement).await?
        };
        let portal = Portal { statement, place };
        match self.state.portals.get_mut(bind.portal) {
            Some(known) => *known = portal,
            None => {
                self.state.portals.insert(bind.portal.into(), portal);
            }
        }
        Ok(())
    }

    async fn bind_on_servers(
        &mut self,
        bind: &Bind<'_>,
        statement: &Rc<Prepared>,
    ) -> Result<Place, Halt> {
        self.check_steps(&statement.steps)?;
        let (shard, writes) = match self.dispatch_bind(bind, statement)? {
            Dispatch::One { shard, writes } => (shard, writes),
            Dispatch::Many(many) => return self.bind_many(bind, statement, many).await,
        };
        self.join_segment(Some(shard), writes).await?;
        let wants = self.wants(writes, &statement.steps);
        if wants == Wants::FreshRead && self.is_alone_in_segment(bind.portal) {
            // What follows for this segment finds it attached.
            self.attach_to(shard, wants).await?;
        }
        match self.held.take() {
            Some((name, held)) if *name == *bind.statement => {
                self.parse_on(shard, &name, &held).await?
            }
            other => {
                self.held = other;
                self.flush_held().await?;
            }
        }
        let at = self.attach(shard).await?;
        let name = self.on_server(at, bind.statement, statement).await?;
        let attached = &mut self.servers[at];
        attached.inbox.in_segment = true;
        attached.inbox.wrote |= writes;
        attached
            .lease
            .wire
            .with_output(|out| bind.put_as(out, name.as_bytes()));
        attached.lease.ledger.push(Owed::Bind(Audience::Client));
        Ok(Place::Shard(shard))
    }

    /// Where a statement goes with the parameters of a Bind.
    fn dispatch_bind(
        &mut self,
        bind: &Bind<'_>,
        statement: &Rc<Prepared>,
    ) -> Result<Dispatch, Halt> {
        if self.world.is_none() {
            return self.dispatch(statement, 0, &Params::NONE);
        }
        let (formats, values): (Vec<i16>, Vec<Option<&[u8]>>) = bind.values().unzip();
        let params = Params {
            formats: &formats,
            values: &values,
        };
        match self.needed_by(statement) {
            // EXECUTE has its arguments in its text.
            Some(needed) => {
                let arguments = match analyse(&statement.sql, true).statement {
                    Statement::Execute {
                        args: Some(span), ..
                    } => super::dispatch::literals(span.of(&statement.sql)).unwrap_or_default(),
                    _ => Vec::new(),
                };
                let values: Vec<Option<&[u8]>> = arguments.iter().map(|a| a.as_deref()).collect();
                let params = Params {
                    formats: &[],
                    values: &values,
                };
                self.dispatch(&needed, 0, &params)
            }
            None => self.dispatch(statement, 0, &params),
        }
    }

    /// Binds on every shard of the work at once, and waits for all of them: an error
    /// of one is the error of the Bind.
    async fn bind_many(
        &mut self,
        bind: &Bind<'_>,
        statement: &Rc<Prepared>,
        many: Many,
    ) -> Result<Place, Halt> {
        if many.copy_in || many.step_by_step {
            self.flush_held().await?;
            // COPY and maintenance have no parameters: they run as simple queries.
            self.answer(backend::BIND_COMPLETE);
            return Ok(Place::Many(Rc::new(ManyPortal::new(many, None))));
        }
        if let Some((_, _held)) = self.held.take() {
            // Each server gets it with its own Bind.
            self.answer(backend::PARSE_COMPLETE);
        }
        self.join_segment(None, many.writes).await?;
        if many.writes {
            self.begin_implicit();
        }
        let wants = match self.is_alone_in_segment(bind.portal) {
            true => self.wants(many.writes, &statement.steps),
            false => Wants::Primary,
        };
        let types = many_types(&many, statement);
        // First everything that may wait for a server, then what is asked of all at once.
        let mut names = Vec::new();
        for (shard, text) in &many.legs {
            let at = self.attach_to(*shard, wants).await?;
            let name = match text {
                None => self.on_server(at, bind.statement, statement).await?,
                Some(text) => {
                    self.servers[at].inbox.in_segment = true;
                    let lease = &mut self.servers[at].lease;
                    lease.notes.unnamed = None;
                    lease.wire.with_output(|out| {
                        Parse {
                            name: b"",
                            sql: text,
                            types: &types,
                        }
                        .put(out);
                        out.extend_from_slice(frontend::FLUSH);
                    });
                    lease.ledger.push(Owed::Parse(0, Audience::Router));
                    String::new()
                }
            };
            names.push((at, name));
        }
        self.settle_active().await?;
        self.active = None;
        let mut places = Vec::new();
        for (at, name) in names {
            let attached = &mut self.servers[at];
            attached.inbox.in_segment = true;
            attached.inbox.wrote |= many.writes;
            attached.inbox.first_leg = places.is_empty();
            attached.lease.wire.with_output(|out| {
                bind.put_as(out, name.as_bytes());
                frontend::put_describe(out, Target::Portal, bind.portal);
                out.extend_from_slice(frontend::FLUSH);
            });
            attached.lease.ledger.push(Owed::Bind(Audience::Router));
            attached.inbox.describing.push_back(None);
            attached
                .lease
                .ledger
                .push(Owed::DescribePortal(Audience::Router));
            places.push(at);
        }
        let mut columns: Option<Vec<Column>> = None;
        for &at in &places {
            let found = self.described(at).await?;
            match (&columns, found) {
                (None, found) => columns = Some(found),
                (Some(first), found) => {
                    let world = self.world.clone();
                    let (a, b) = (self.servers[places[0]].shard, self.servers[at].shard);
                    let same = |x, y| world.as_ref().is_some_and(|w| w.same_type(a, x, b, y));
                    crate::merge::reconcile(first, &found, same)
                        .map_err(|d| Halt::Fail(d.report(&self.topology.shards[b].name)))?;
                }
            }
        }
        self.active = None;
        self.client.send(backend::BIND_COMPLETE);
        Ok(Place::Many(Rc::new(ManyPortal::new(many, columns))))
    }

    /// The columns of a portal that is being bound and described.
    async fn described(&mut self, at: usize) -> Result<Vec<Column>, Halt> {
        let mut columns = Ok(Vec::new());
        let mut error = None;
        self.each_message(at, |frame, reply, _| match (reply.event, frame.tag()) {
            (Event::Failed, _) => {
                error = Some(frame.body().to_vec());
                true
            }
            (Event::Answered, backend::tag::ROW_DESCRIPTION) => {
                columns = backend::columns(frame.body());
                true
            }
            (Event::Answered, backend::tag::NO_DATA) => true,
            _ => false,
        })
        .await?;
        self.servers[at].inbox.describing.pop_front();
        match (error, columns) {
            (Some(body), _) => Err(self.failed_in_segment(&body)),
            (None, Ok(columns)) => Ok(columns),
            (None, Err(_)) => Err(Report::error(
                sqlstate::INTERNAL_ERROR,
                "server sent a malformed message",
            )
            .into()),
        }
    }

    /// A server's error in the middle of a segment that several servers share.
    fn failed_in_segment(&mut self, body: &[u8]) -> Halt {
        self.client
            .with_output(|out| super::state::put_as_error(out, body));
        self.state.note_failure();
        self.state.skipping = true;
        if !self.implicit && self.state.block == Block::Open {
            self.state.block = Block::Failed;
        }
        Halt::Failed
    }

    pub(super) async fn on_describe(&mut self, body: &[u8]) -> Result<(), Halt> {
        self.begin_segment().await?;
        self.flush_held().await?;
        let (target, name) = frontend::target(body).map_err(|e| violation(e.to_string()))?;
        match target {
            Target::Statement => self.describe_statement(name).await,
            Target::Portal => self.describe_portal(name).await,
        }
    }

    async fn describe_statement(&mut self, name: &[u8]) -> Result<(), Halt> {
        let Some(statement) = self.state.names.get(name).cloned() else {
            return Err(no_such_statement(name).into());
        };
        if let Some(inner) = self.explained_by(&statement)? {
            return self.describe_explain(&statement, inner);
        }
        if statement.step().is_some_and(|s| self.runs_here(&s.kind)) {
            self.answer(backend::NO_PARAMETERS);
            self.answer(backend::NO_DATA);
            return Ok(());
        }
        self.check_steps(&statement.steps)?;
        let at = self.attach(self.topology.home).await?;
        let server_name = self.on_server(at, name, &statement).await?;
        let attached = &mut self.servers[at];
        attached.inbox.describing.push_back(Some(statement));
        attached.lease.wire.with_output(|out| {
            frontend::put_describe(out, Target::Statement, server_name.as_bytes())
        });
        attached
            .lease
            .ledger
            .push(Owed::DescribeStatement(Audience::Client));
        Ok(())
    }

    async fn describe_portal(&mut self, name: &[u8]) -> Result<(), Halt> {
        let place = self.state.portals.get(name).map(|p| p.place.clone());
        let shard = match place {
            Some(Place::Here) => {
                self.answer(backend::NO_DATA);
                return Ok(());
            }
            Some(Place::Explained(explained)) => {
                self.answer(explained.columns());
                return Ok(());
            }
            Some(Place::Many(many)) => {
                self.settle_active().await?;
                match many.columns.as_deref() {
                    Some([_, ..]) => {
                        let columns = many.columns.as_deref().unwrap_or_default();
                        self.client
                            .with_output(|out| backend::put_columns(out, columns));
                    }
                    _ => self.client.send(backend::NO_DATA),
                }
                return Ok(());
            }
            Some(Place::Shard(shard)) => shard,
            // A portal that is not there is the server's to report.
            None => self.topology.home,
        };
        let at = self.attach(shard).await?;
        let attached = &mut self.servers[at];
        attached.inbox.in_segment = true;
        attached.inbox.describing.push_back(None);
        attached
            .lease
            .wire
            .with_output(|out| frontend::put_describe(out, Target::Portal, name));
        attached
            .lease
            .ledger
            .push(Owed::DescribePortal(Audience::Client));
        Ok(())
    }

    /// Everything before is answered, so that what is written now comes after it.
    pub(super) async fn settle_active(&mut self) -> Result<(), Halt> {
        if let Some(at) = self.active {
            self.servers[at].lease.wire.send(frontend::FLUSH);
            self.settle(at).await?;
        }
        Ok(())
    }

    pub(super) async fn on_execute(&mut self, body: &[u8]) -> Result<(), Halt> {
        self.begin_segment().await?;
        self.flush_held().await?;
        let (name, rows) = frontend::execute(body).map_err(|e| violation(e.to_string()))?;
        let portal = self.state.portals.get(name).cloned();
        let shard = match portal.as_ref().map(|p| &p.place) {
            Some(Place::Here) => {
                let statement = portal.map(|p| p.statement);
                return match statement {
                    Some(statement) => self.execute_local(name, &statement, rows).await,
                    None => Ok(()),
                };
            }
            Some(Place::Many(many)) => {
                let many = Rc::clone(many);
                let statement = portal.map(|p| p.statement);
                return self.execute_many(name, rows, &many, statement).await;
            }
            Some(Place::Explained(explained)) => {
                self.check_explain()?;
                let rows = explained.rows(rows);
                self.answer(rows);
                return Ok(());
            }
            Some(Place::Shard(shard)) => *shard,
            None => self.topology.home,
        };
        let at = self.attach(shard).await?;
        let inbox = &mut self.servers[at].inbox;
        inbox.in_segment = true;
        match &portal {
            Some(portal) => {
                inbox
                    .outcomes
                    .push_back(Outcome::Of(Rc::clone(&portal.statement), 0));
                if let Some(step) = portal.statement.step() {
                    inbox.may_write |= step.writes;
                    inbox.committing |= matches!(step.kind, Kind::Commit { .. });
                }
            }
            None => inbox.outcomes.push_back(Outcome::None),
        }
        let lease = &mut self.servers[at].lease;
        lease
            .wire
            .with_output(|out| frontend::put_execute(out, name, rows));
        lease.ledger.push(Owed::Execute(Audience::Client));
        Ok(())
    }

    /// Executes a portal of several shards: their rows follow each other. A row limit
    /// holds for all of them together.
    async fn execute_many(
        &mut self,
        name: &[u8],
        rows: i32,
        portal: &Rc<ManyPortal>,
        statement: Option<Rc<Prepared>>,
    ) -> Result<(), Halt> {
        self.settle_active().await?;
        self.active = None;
        let many = &portal.many;
        if portal.columns.is_none() {
            let sql = statement
                .as_ref()
                .map(|s| s.sql.clone())
                .unwrap_or_default();
            let done = self.query_many(&sql, many).await;
            self.active = None;
            let command = done?;
            self.put_command(&command);
            return Ok(());
        }
        let mut places = Vec::new();
        for (shard, _) in &many.legs {
            match self.servers.iter().position(|s| s.shard == *shard) {
                Some(at) => places.push(at),
                None => {
                    return Err(Report::error(
                        sqlstate::INVALID_CURSOR_NAME,
                        format!(
                            "portal \"{}\" does not exist",
                            String::from_utf8_lossy(name)
                        ),
                    )
                    .into());
                }
            }
        }
        let mut merging = Merging::new(&many.merge, places.len());
        if let Some(columns) = &portal.columns {
            merging = merging.with_columns(columns.clone())?;
        }
        if let Some(statement) = &statement {
            merging.copies(&statement.sql, self.standard_strings());
        }
        let limited = rows > 0 && many.merge == crate::plan::Merge::Concat;
        if !limited {
            for &at in &places {
                self.send_execute(at, name, 0);
            }
        }
        let mut left = rows;
        for (leg, &at) in places.iter().enumerate().skip(portal.leg.get()) {
            if limited {
                self.send_execute(at, name, left);
            }
            let mut suspended = false;
            let mut seen = 0;
            self.each_message(at, |frame, reply, client| {
                suspended = reply.event == Event::Suspended;
                seen += i32::from(frame.tag() == backend::tag::DATA_ROW);
                merging.take(leg, frame, reply.event, client, &|_, _| true);
                matches!(
                    reply.event,
                    Event::Completed | Event::Failed | Event::Suspended
                )
            })
            .await?;
            if merging.is_wrong() {
                break;
            }
            left -= seen;
            portal.shown.set(portal.shown.get() + i64::from(seen));
            if limited {
                portal.leg.set(leg + usize::from(!suspended));
                if left <= 0 && (suspended || leg + 1 < places.len()) {
                    self.client.send(backend::PORTAL_SUSPENDED);
                    return Ok(());
                }
            }
        }
        if limited && !merging.is_wrong() {
            let command = format!("SELECT {}", rows - left);
            self.client
                .with_output(|out| backend::put_complete(out, command.as_bytes()));
            return Ok(());
        }
        let result = self
            .finish_many(merging)
            .map(|command| self.put_command(&command));
        if let (Ok(()), Some(step)) = (&result, statement.as_ref().and_then(|s| s.step())) {
            self.state.note_definitions(step);
        }
        result
    }

    fn send_execute(&mut self, at: usize, name: &[u8], rows: i32) {
        let attached = &mut self.servers[at];
        attached.inbox.in_segment = true;
        attached.lease.wire.with_output(|out| {
            frontend::put_execute(out, name, rows);
            out.extend_from_slice(frontend::FLUSH);
        });
        attached.lease.ledger.push(Owed::Execute(Audience::Router));
    }

    /// Runs what the router answers itself, unless a server has come in between.
    async fn execute_local(
        &mut self,
        name: &[u8],
        statement: &Rc<Prepared>,
        rows: i32,
    ) -> Result<(), Halt> {
        let Some(step) = statement.step() else {
            return Ok(());
        };
        // Answers before this one must be out, because this one is written at once.
        self.settle_active().await?;
        if self.runs_here(&step.kind) {
            self.active = None;
            return self.run_here(&step.kind, &statement.sql).await;
        }
        let at = self.attach(self.topology.home).await?;
        self.ensure_prepared(at, statement).await?;
        let server_name = statement.server_name();
        let attached = &mut self.servers[at];
        attached
            .inbox
            .outcomes
            .push_back(Outcome::Of(Rc::clone(statement), 0));
        attached.inbox.may_write = true;
        attached.inbox.committing |= matches!(step.kind, Kind::Commit { .. });
        attached.lease.wire.with_output(|out| {
            frontend::put_plain_bind(out, name, server_name.as_bytes());
            frontend::put_execute(out, name, rows);
        });
        attached.lease.ledger.push(Owed::Bind(Audience::Router));
        attached.lease.ledger.push(Owed::Execute(Audience::Client));
        Ok(())
    }

    pub(super) async fn on_close(&mut self, body: &[u8]) -> Result<(), Halt> {
        self.begin_segment().await?;
        self.flush_held().await?;
        let (target, name) = frontend::target(body).map_err(|e| violation(e.to_string()))?;
        match target {
            Target::Statement => {
                self.state.names.close(name);
                self.answer(backend::CLOSE_COMPLETE);
            }
            Target::Portal => match self.state.portals.remove(name).map(|p| p.place) {
                Some(Place::Shard(shard)) => self.close_portal(shard, name),
                Some(Place::Many(portal)) => {
                    self.settle_active().await?;
                    for (shard, _) in &portal.many.legs {
                        if let Some(attached) = self.servers.iter_mut().find(|s| s.shard == *shard)
                        {
                            attached
                                .lease
                                .wire
                                .with_output(|out| frontend::put_close(out, Target::Portal, name));
                            attached.lease.ledger.push(Owed::Close(Audience::Router));
                        }
                    }
                    self.client.send(backend::CLOSE_COMPLETE);
                }
                Some(Place::Here | Place::Explained(_)) | None => self.close_nothing(),
            },
        }
        Ok(())
    }

    fn close_portal(&mut self, shard: usize, name: &[u8]) {
        match self.servers.iter().position(|s| s.shard == shard) {
            Some(at) if self.active == Some(at) => {
                let lease = &mut self.servers[at].lease;
                lease
                    .wire
                    .with_output(|out| frontend::put_close(out, Target::Portal, name));
                lease.ledger.push(Owed::Close(Audience::Client));
            }
            _ => self.close_nothing(),
        }
    }

    fn close_nothing(&mut self) {
        if self
            .active
            .is_some_and(|at| !self.servers[at].lease.ledger.is_empty())
        {
            self.state.names.close_nothing();
            self.answer(backend::CLOSE_COMPLETE);
        } else {
            self.client.send(backend::CLOSE_COMPLETE);
        }
    }

    pub(super) async fn on_flush(&mut self) -> Result<(), Halt> {
        self.flush_held().await?;
        if let Some(at) = self.active {
            self.servers[at].lease.wire.send(frontend::FLUSH);
        }
        Ok(())
    }

    pub(super) async fn on_sync(&mut self) -> Result<(), Halt> {
        if self.state.skipping {
            self.held = None;
        } else {
            self.flush_held().await?;
        }
        if self.implicit {
            return self.sync_implicit().await;
        }
        // Every server that took part in the segment must end it.
        let segment = self.state.phase == Phase::Segment;
        let last = self
            .active
            .filter(|_| segment)
            .or_else(|| self.servers.iter().rposition(|s| s.inbox.in_segment));
        for at in 0..self.servers.len() {
            if Some(at) != last && self.servers[at].inbox.in_segment {
                self.sync_quietly(at).await?;
            }
        }
        let Some(at) = last.filter(|_| segment) else {
            self.state.ready_alone(&mut self.client);
            return Ok(());
        };
        let block_failed = self.state.block == Block::Failed
            && self.servers[at].lease.status != backend::TxStatus::Failed;
        if self.servers.len() > 1 || block_failed {
            // The client's status is that of the whole, not of this server.
            self.sync_quietly(at).await?;
            self.state.ready_alone(&mut self.client);
            return Ok(());
        }
        let lease = &mut self.servers[at].lease;
        lease.wire.send(frontend::SYNC);
        lease.ledger.push(Owed::Sync(Audience::Client));
        self.active = Some(at);
        self.state.phase = Phase::Syncing;
        self.state.skipping = false;
        Ok(())
    }

    /// Ends the segment on one server without telling the client.
    async fn sync_quietly(&mut self, at: usize) -> Result<(), Halt> {
        let lease = &mut self.servers[at].lease;
        lease.wire.send(frontend::SYNC);
        lease.ledger.push(Owed::Sync(Audience::Router));
        self.each_message(at, |_, reply, _| matches!(reply.event, Event::Ready(_)))
            .await?;
        let status = self.servers[at].lease.status;
        let inbox = &mut self.servers[at].inbox;
        self.state.acknowledge_end(status, inbox);
        inbox.in_segment = false;
        if self.servers[at].lease.status == backend::TxStatus::Failed
            && self.state.block == Block::Open
        {
            self.state.block = Block::Failed;
        }
        Ok(())
    }

    /// Ends the segment and with it the transaction of the router's own.
    async fn sync_implicit(&mut self) -> Result<(), Halt> {
        for at in 0..self.servers.len() {
            if self.servers[at].inbox.in_segment {
                self.sync_quietly(at).await?;
            }
        }
        // The last statements may have failed only now.
        let failed = self.state.skipping;
        let result = if failed { Err(Halt::Failed) } else { Ok(()) };
        let ended = self.end_implicit(result).await;
        self.state.skipping = false;
        self.state.phase = Phase::Query;
        match ended {
            Err(Halt::Fail(report)) => {
                self.client.with_output(|out| report.put(out));
                self.state.note_failure();
            }
            Err(Halt::End(end)) => return Err(Halt::End(end)),
            Ok(()) | Err(Halt::Failed) => {}
        }
        self.state.ready_alone(&mut self.client);
        Ok(())
    }
}

/// A portal that is open on several shards.
pub struct ManyPortal {
    many: Many,
    /// `None` for what runs as a simple query.
    columns: Option<Vec<Column>>,
    /// The shard whose rows come next.
    leg: Cell<usize>,
    /// Rows shown.
    shown: Cell<i64>,
}

impl ManyPortal {
    fn new(many: Many, columns: Option<Vec<Column>>) -> Self {
        Self {
            many,
            columns,
            leg: Cell::new(0),
            shown: Cell::new(0),
        }
    }
}

/// The types of the parameters, which rows that are left out can no longer show.
fn many_types(many: &Many, statement: &Prepared) -> Vec<u8> {
    if let Some(types) = &many.parameter_types {
        return types.iter().flat_map(|oid| oid.to_be_bytes()).collect();
    }
    match &statement.origin {
        Origin::Parse(types) => types.to_vec(),
        _ => Vec::new(),
    }
}

fn over_limit(message: String, setting: &str) -> Report {
    Report::error(sqlstate::LIMIT_EXCEEDED, message).hint(format!("The setting is {setting}."))
}
