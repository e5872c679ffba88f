//! PREPARE and EXECUTE as simple queries: a statement with the client's name for it comes in, the same with ours goes to
//! the servers that have to have it.

use super::{alone_report, changes_plans, must_be_alone, prepared_alone};
use crate::core::lists::Outcome;
use crate::session::dispatch::{Dispatch, Many};
use crate::session::execute::arguments;
use crate::session::servers::AttachedId;
use crate::session::state::Block;
use crate::session::{Halt, Session};
use crate::statements::errors::Written;
use crate::statements::names::{Origin, Prepared, renamed};
use crate::statements::step::{Kind, Step};
use mothership_proto::backend;
use mothership_proto::frontend::Parse;
use mothership_proto::ledger::Audience;
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;
use mothership_sql::cursor::Span;
use mothership_sql::effect::{Statement, analyse};
use std::rc::Rc;

impl Session {
    /// PREPARE: the statement gets its name on the server.
    pub(super) async fn prepare(
        &mut self,
        sql: &[u8],
        step: &Step,
        name: &[u8],
    ) -> Result<(), Halt> {
        self.check_steps(std::slice::from_ref(step))?;
        let Some(span) = step.name_span else {
            return Err(alone_report(step).into());
        };
        let is_taken = self.state.names.get(name).is_some();
        let prepared = self.prepared_by(sql, span, name)?;
        if is_taken && prepared.is_given() {
            return Err(duplicate_statement(name).into());
        }
        let at = self.attach(self.topology.home).await?;
        if !prepared.is_given() {
            self.request.written = Some(renaming(&prepared, span, &prepared));
        }
        if prepared.has_open_types() && !prepared.is_given() {
            self.typed(&prepared).await?;
        }
        if is_taken {
            // PostgreSQL looks at the statement before it looks for the name.
            self.make_known(at, &prepared).await?;
            return Err(duplicate_statement(name).into());
        }
        if self.servers[at].lease.notes.prepared.touch(prepared.id) {
            self.state.names.define_now(name, prepared);
            self.client
                .with_output(|out| backend::put_complete(out, b"PREPARE"));
            self.state.ready_alone(&mut self.client);
            return Ok(());
        }
        self.servers.make_room(&self.topology, at);
        let text = prepared.definition();
        self.send_query(
            at,
            &text,
            std::iter::once(Outcome::Defined(name.into(), Rc::clone(&prepared))),
        );
        Ok(())
    }

    /// What a PREPARE makes whose name stands there.
    ///
    /// # Errors
    /// There is no room.
    pub(in crate::session) fn prepared_by(
        &self,
        sql: &[u8],
        span: Span,
        name: &[u8],
    ) -> Result<Rc<Prepared>, Halt> {
        self.check_room(name, sql)?;
        let strings = self.standard_strings();
        let prepared = self.core.interner.intern(
            (sql, strings),
            Origin::Prepare(span),
            &self.moment(),
            || crate::statements::step::prepared_steps(sql, strings),
        );
        Ok(self.given(name, prepared))
    }

    /// EXECUTE: the statement is prepared where it is not yet, under our name.
    pub(super) async fn execute(
        &mut self,
        sql: &[u8],
        step: &Step,
        name: &[u8],
        statement: &Rc<Prepared>,
    ) -> Result<(), Halt> {
        self.check_steps(std::slice::from_ref(step))?;
        self.known.check_stores(step)?;
        let Some(prepared) = self.state.names.get(name) else {
            return Err(self.state.lacks_statement(name).into());
        };
        let prepared = self.as_it_runs(prepared)?;
        let Some(span) = step.name_span else {
            return Err(alone_report(step).into());
        };
        self.step_of(sql, &prepared)?;
        self.check_steps(&prepared.steps)?;
        self.ask_rights(&prepared, 0).await?;
        let (shard, writes) = match self.dispatch_execute(sql, &prepared)? {
            Some(Dispatch::One { shard, writes, .. }) => (shard, writes),
            Some(Dispatch::Many(many)) => {
                let result =
                    Box::pin(self.execute_many_prepared(statement, span, &prepared, *many)).await;
                return self.end_execute(result).await;
            }
            _ => {
                let named = (name, &prepared);
                let result = Box::pin(self.execute_bound((sql, span), step, named)).await;
                return self.end_execute(result).await;
            }
        };
        self.servers
            .check_second_set(&self.topology, shard, writes)?;
        let at = self.attach(shard).await?;
        let plain = arguments(sql, self.standard_strings(), &prepared).is_some();
        let may_write = !plain || self.known.may_write(&prepared.steps);
        let inbox = &mut self.servers[at].inbox;
        inbox.wrote |= writes;
        if writes || may_write {
            inbox.touched.add(None);
        }
        self.make_known(at, &prepared).await?;
        let text = renamed(sql, span, prepared.server_name());
        self.request.written = Some(renaming(statement, span, &prepared));
        self.send_query(
            at,
            &text,
            std::iter::once(Outcome::Runs(Rc::clone(statement), 0, Rc::clone(&prepared))),
        );
        self.servers[at].inbox.may_write = may_write;
        Ok(())
    }

    /// A text of several statements of which some are EXECUTE, as the home shard's server is to get it, which knows then
    /// what they run.
    ///
    /// # Errors
    /// For what the router takes part in otherwise, and where it is not certain by which settings an EXECUTE would run.
    pub(super) async fn executed_within(
        &mut self,
        sql: &[u8],
        statement: &Rc<Prepared>,
    ) -> Result<Executed, Halt> {
        let mut bodies: Vec<(usize, Span, Rc<Prepared>)> = Vec::new();
        let mut changed = false;
        for (at, step) in statement.steps.iter().enumerate() {
            let alone = || Halt::from(alone_report(step));
            if let Kind::Execute(name) = &step.kind {
                let span = step.name_span.ok_or_else(alone)?;
                let body = self.state.names.get(name).ok_or_else(alone)?;
                let body = self.as_it_runs(body)?;
                self.step_of(step.span.of(sql), &body)?;
                self.check_steps(&body.steps)?;
                // Servers keep the plan of its first run, and another client may get it.
                if changed && !body.is_given() {
                    return Err(alone());
                }
                bodies.push((at, span, body));
            } else if must_be_alone(&step.kind) {
                return Err(alone());
            }
            changed |= changes_plans(step) || !step.pins.is_empty() || ends_settings(&step.kind);
        }
        let alone = || Halt::from(prepared_alone());
        for (.., body) in &bodies {
            if self.shard_unplanned(body, 0)? != self.topology.home {
                return Err(alone());
            }
        }
        let at = self.attach(self.topology.home).await?;
        for (.., body) in &bodies {
            let is_there = self.servers[at].lease.notes.prepared.touch(body.id);
            if !is_there && self.state.block == Block::Failed {
                return Err(alone());
            }
            self.make_known(at, body).await?;
        }
        // One may have given way to another.
        let prepared = &self.servers[at].lease.notes.prepared;
        if !bodies.iter().all(|(.., body)| prepared.has(body.id)) {
            return Err(alone());
        }
        Ok(Executed::of(statement, bodies))
    }

    /// Where an EXECUTE goes as it is written, by the literals that it gives as arguments; `None` if what it runs has to be
    /// bound to their values.
    pub(in crate::session) fn dispatch_execute(
        &mut self,
        sql: &[u8],
        prepared: &Rc<Prepared>,
    ) -> Result<Option<Dispatch>, Halt> {
        if self.known.model.is_none() {
            return Ok(Some(Dispatch::One {
                shard: self.shard_unplanned(prepared, 0)?,
                writes: true,
                parts: None,
            }));
        }
        let Some(arguments) = arguments(sql, self.standard_strings(), prepared) else {
            return Ok(None);
        };
        let work = match arguments.with(|params| self.dispatch_body(prepared, params)) {
            Ok(work) => work,
            Err(halt) if explains(sql, self.standard_strings()) => return Err(halt),
            // More is known when a server has been asked.
            Err(_) => return Ok(None),
        };
        self.check_explained(sql, &work)?;
        let of_sql = |shard: ShardId| self.topology.is_postgres(shard);
        Ok(match work {
            // MongoDB knows no statements by name.
            Dispatch::One { shard, .. } if !of_sql(shard) => None,
            // What begins elsewhere has another time for a literal that asks for it.
            Dispatch::One { shard, .. }
                if arguments.are_certain()
                    || self
                        .transaction
                        .first_shard(&self.servers)
                        .is_none_or(|first| first == shard)
                    || explains(sql, self.standard_strings()) =>
            {
                Some(work)
            }
            Dispatch::Many(many)
                if arguments.are_certain()
                    && !many.timed
                    && many
                        .legs
                        .iter()
                        .all(|(shard, text)| of_sql(*shard) && text.is_none()) =>
            {
                Some(Dispatch::Many(many))
            }
            _ => None,
        })
    }

    /// EXECUTE as the protocol would run its body, with the values of its arguments.
    async fn execute_bound(
        &mut self,
        text: (&[u8], Span),
        own: &Step,
        named: (&[u8], &Rc<Prepared>),
    ) -> Result<Vec<u8>, Halt> {
        let bound = self.bound(text, own, named).await?;
        let bound = self.filled_bound(bound).await?;
        let statement = &bound.statement;
        let values = bound.values();
        self.ask_rights(statement, 0).await?;
        let many = match bound.with(|params| self.dispatch_body(statement, params))? {
            Dispatch::Gather(work) => {
                return Box::pin(self.execute_gather(statement, &values, &work)).await;
            }
            Dispatch::One { shard, writes, .. } => Many::one(shard, None, writes),
            Dispatch::Many(many) => *many,
        };
        if many.writes || self.known.may_write(&statement.steps) {
            self.transaction.begin_implicit(&mut self.state);
        }
        let types = crate::session::extended::many_types(&many, statement);
        let command = Box::pin(self.run_many(
            &statement.sql,
            &statement.steps,
            &many,
            Some((&types, &values)),
        ))
        .await?;
        if let ([(shard, _)], Some(step)) = (&*many.legs, statement.step())
            && let Some(attached) = self.servers.iter_mut().find(|s| s.shard == *shard)
        {
            self.state.ended_well(step, &command, &mut attached.inbox);
        }
        Ok(command)
    }

    /// EXECUTE on several shards, each of which has the statement.
    async fn execute_many_prepared(
        &mut self,
        statement: &Rc<Prepared>,
        span: Span,
        prepared: &Rc<Prepared>,
        many: Many,
    ) -> Result<Vec<u8>, Halt> {
        if many.copy_in || many.is_step_by_step() || many.password {
            return Err(prepared_over_shards().into());
        }
        // Before its servers are attached: nothing was done on them.
        let turns = self.turns(&prepared.sql, &prepared.steps, &many);
        if many.writes {
            self.transaction.begin_implicit(&mut self.state);
        }
        for (shard, _) in &many.legs {
            let at = self.attach(*shard).await?;
            self.make_known(at, prepared).await?;
        }
        let text = renamed(&statement.sql, span, prepared.server_name());
        self.request.written = Some(renaming(statement, span, prepared));
        self.run_in_turns((&text, &prepared.sql), &[], &many, None, turns)
            .await
    }

    /// The end of an EXECUTE on several shards.
    async fn end_execute(&mut self, result: Result<Vec<u8>, Halt>) -> Result<(), Halt> {
        let mut command = Vec::new();
        self.end_implicit(result.map(|c| command = c)).await?;
        self.put_command(&command);
        self.state.ready_alone(&mut self.client);
        Ok(())
    }

    /// Prepares a statement on a server outside of a segment, if it is not there.
    pub(in crate::session) async fn make_known(
        &mut self,
        at: AttachedId,
        prepared: &Rc<Prepared>,
    ) -> Result<(), Halt> {
        if self.servers[at].lease.notes.prepared.touch(prepared.id) {
            return Ok(());
        }
        self.make_prepared(at, prepared).await
    }

    /// Prepares a statement on a server outside of a segment, and waits for it.
    async fn make_prepared(&mut self, at: AttachedId, prepared: &Rc<Prepared>) -> Result<(), Halt> {
        self.servers.make_room(&self.topology, at);
        let brought = self.bring_as_parsed(at, prepared).await?;
        match &prepared.origin {
            Origin::Parse(types) => {
                let attached = &mut self.servers[at];
                let name = prepared.server_name();
                let types = attached.inbox.types_on_shard(types).into_owned();
                let parse = Parse {
                    name: name.as_bytes(),
                    sql: &prepared.sql,
                    types: &types,
                };
                attached.inbox.private = true;
                attached.lease.request(Audience::Router, |send| {
                    send.parse_numbered(&parse, prepared.id);
                    send.sync();
                });
                self.finish_private(at).await?;
            }
            _ => {
                // What the server refuses changes nothing there.
                if let Some(body) = self.ask_plainly(at, &prepared.definition()).await? {
                    return Err(self.failed_by_server(&body));
                }
                self.servers[at].lease.notes.prepared.insert(prepared.id);
            }
        }
        self.bring_as_it_was(at, brought).await
    }
}

/// A text of several statements, some of which are EXECUTE.
pub(super) struct Executed {
    /// With the names that its server knows.
    pub text: Vec<u8>,
    /// Where that comes from.
    pub written: Rc<Written>,
    /// What follows from each statement.
    pub outcomes: Vec<Outcome>,
}

impl Executed {
    /// The text of a statement in which these bodies are executed: by which step of it, and where their names stand.
    fn of(statement: &Rc<Prepared>, bodies: Vec<(usize, Span, Rc<Prepared>)>) -> Executed {
        let mut text = Vec::with_capacity(statement.sql.len());
        let mut names = Vec::with_capacity(bodies.len());
        let count = statement.steps.len();
        let mut outcomes: Vec<Outcome> = (0..count)
            .map(|at| Outcome::Of(Rc::clone(statement), at))
            .collect();
        let mut from = 0;
        for (at, span, body) in bodies {
            let name = format!("\"{}\"", body.server_name());
            text.extend_from_slice(&statement.sql[from..span.start]);
            text.extend_from_slice(name.as_bytes());
            names.push((span, name.len()));
            from = span.end;
            outcomes[at] = Outcome::Runs(Rc::clone(statement), at, body);
        }
        text.extend_from_slice(&statement.sql[from..]);
        let written = Written::with_names(statement, names.into());
        Executed {
            text,
            written: Rc::new(written),
            outcomes,
        }
    }
}

/// Whether settings may be others behind it, because a transaction or a part of it ends.
fn ends_settings(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Commit { .. }
            | Kind::Rollback { .. }
            | Kind::RollbackTo(_)
            | Kind::PrepareTransaction
    )
}

/// What [`renamed`] makes of a statement; it writes two quotes.
fn renaming(own: &Rc<Prepared>, span: Span, prepared: &Prepared) -> Rc<Written> {
    Rc::new(Written::named(own, span, prepared.server_name().len() + 2))
}

/// Whether it is EXPLAIN of an EXECUTE.
fn explains(sql: &[u8], strings: bool) -> bool {
    matches!(analyse(sql, strings).statement, Statement::Explain { .. })
}

pub(in crate::session) fn prepared_over_shards() -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "this EXECUTE over shards has arguments or a statement that no one server can be asked about",
    )
    .hint("Use the protocol's own prepared statements, as drivers do.")
}

/// PostgreSQL's own words for a name that is not there.
pub(in crate::session) fn no_such_statement(name: &[u8]) -> Report {
    let message = if name.is_empty() {
        "unnamed prepared statement does not exist".to_owned()
    } else {
        format!(
            "prepared statement \"{}\" does not exist",
            String::from_utf8_lossy(name)
        )
    };
    Report::error(sqlstate::INVALID_STATEMENT_NAME, message)
}

/// PostgreSQL's own words for a name that is taken.
pub(in crate::session) fn duplicate_statement(name: &[u8]) -> Report {
    Report::error(
        sqlstate::DUPLICATE_STATEMENT,
        format!(
            "prepared statement \"{}\" already exists",
            String::from_utf8_lossy(name)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statements::names::Interner;
    use crate::statements::step::steps;
    use mothership_sql::places::Characters;

    #[test]
    fn a_text_gets_the_names_of_all_that_it_executes() {
        let interner = Interner::default();
        let intern = |sql: &str, origin: Origin| {
            let read = || steps(sql.as_bytes(), true);
            interner.intern((sql.as_bytes(), true), origin, &Default::default(), read)
        };
        let text = intern("EXECUTE p (x); SELECT y; EXECUTE \"q q\"", Origin::Query);
        let parsed = |sql: &str| intern(sql, Origin::Parse(Box::default()));
        let q = interner.given(&parsed("SELECT 2"), "q q");
        let bodies = [(0, parsed("SELECT 1")), (2, q)].map(|(at, body)| {
            let span = text.steps[at].name_span.expect("it is an EXECUTE");
            (at, span, body)
        });
        let name = bodies[0].2.server_name();
        let executed = Executed::of(&text, bodies.to_vec());
        let expected = format!("EXECUTE \"{name}\" (x); SELECT y; EXECUTE \"q q\"");
        assert_eq!(String::from_utf8_lossy(&executed.text), expected);
        for part in ["x)", "y;", "\"q q\""] {
            let place = |sql: &[u8]| {
                let found = sql.windows(part.len()).position(|w| w == part.as_bytes());
                found.expect("it is there") + 1
            };
            let own = executed
                .written
                .place(Characters::Utf8, place(&executed.text));
            assert_eq!(own, Some(place(&text.sql)), "{part}");
        }
        let shown: Vec<&str> = executed
            .outcomes
            .iter()
            .map(|outcome| match outcome {
                Outcome::Runs(_, 0, _) => "runs first",
                Outcome::Of(_, 1) => "second",
                Outcome::Runs(_, 2, _) => "runs third",
                _ => "something else",
            })
            .collect();
        assert_eq!(shown, ["runs first", "second", "runs third"]);
    }
}
