//! `EXPLAIN (ROUTE)` through the wire: the router answers it without any server.
//!
//! What it says is `plan::report`'s; here are the messages around it, and the few
//! statements that the session itself knows a place for. A refused statement has an
//! answer as any other; only a failed transaction has none, as in PostgreSQL.

mod options;
mod over;

use super::allowed::failed_transaction;
use super::dispatch::not_utf8;
use super::execute::arguments;
use super::portals::Place;
use super::simple::named::{no_such_statement, prepared_over_shards};
use super::state::State;
use super::turns::Turns;
use super::{Halt, Session};
use crate::statements::names::{Origin, Prepared};
use crate::statements::step::{Kind, steps};
use mothership_plan::report::{parameter_types, report, undeclared};
use mothership_plan::{Params, Pin, Plan};
use mothership_proto::backend::{self, Column, TxStatus};
use mothership_proto::frame;
use mothership_proto::frontend::Bind;
use mothership_sql::cursor::Span;
use over::ExplainParameters;
pub(in crate::session) use over::Explaining;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// As PostgreSQL's EXPLAIN calls it.
const COLUMN: &str = "QUERY PLAN";

/// A portal of EXPLAIN (ROUTE).
pub struct Explained {
    lines: Vec<String>,
    /// The format that Bind asked for; text has the same bytes in both.
    format: i16,
    /// Lines shown.
    shown: Cell<usize>,
}

impl Explained {
    /// RowDescription.
    pub(super) fn columns(&self) -> Vec<u8> {
        columns(self.format)
    }

    /// The next rows, at most `limit` unless that is 0, and what ends them.
    pub(super) fn rows(&self, limit: i32) -> Vec<u8> {
        let (mut out, ended) = self.some(limit);
        match ended {
            true => backend::put_complete(&mut out, b"EXPLAIN"),
            false => out.extend_from_slice(backend::PORTAL_SUSPENDED),
        }
        out
    }

    /// The next rows, and whether they are the last.
    fn some(&self, limit: i32) -> (Vec<u8>, bool) {
        let from = self.shown.get();
        let left = self.lines.len() - from;
        let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0);
        let count = limit.map_or(left, |limit| limit.min(left));
        let mut out = Vec::new();
        put_lines(&mut out, &self.lines[from..from + count]);
        self.shown.set(from + count);
        (out, limit.is_none_or(|limit| limit >= left))
    }
}

fn columns(format: i16) -> Vec<u8> {
    let mut out = Vec::new();
    let column = Column {
        format,
        ..Column::text(COLUMN)
    };
    backend::put_columns(&mut out, &[column]);
    out
}

fn put_lines(out: &mut Vec<u8>, lines: &[String]) {
    for line in lines {
        // No text of PostgreSQL holds a zero.
        let line = line.replace('\0', "");
        backend::put_row(out, std::iter::once(Some(line.as_bytes())));
    }
}

/// A portal of EXPLAIN over several shards: it is done when it is executed.
pub struct ExplainPortal {
    explaining: Explaining,
    statement: Rc<Prepared>,
    /// The name of the statement, and the values of its Bind, as they came.
    bind: Box<[u8]>,
    format: i16,
    /// How it goes to its shards.
    turns: Turns,
    /// How many requests had been taken when it was bound.
    bound_at: u64,
    /// What has come of it.
    explained: RefCell<Option<Rc<Explained>>>,
}

impl ExplainPortal {
    /// RowDescription.
    pub(super) fn columns(&self) -> Vec<u8> {
        columns_of(self.explaining.is_json(), self.format)
    }
}

fn columns_of(json: bool, format: i16) -> Vec<u8> {
    const JSON: u32 = 114;
    if !json {
        return columns(format);
    }
    let mut out = Vec::new();
    let column = Column {
        format,
        type_oid: JSON,
        ..Column::text(COLUMN)
    };
    backend::put_columns(&mut out, &[column]);
    out
}

impl State {
    /// The statement that `statement` explains, if it is an EXPLAIN (ROUTE).
    ///
    /// # Errors
    /// In a failed transaction.
    pub(super) fn explained_by(&self, statement: &Prepared) -> Result<Option<Span>, Halt> {
        match statement.steps.as_slice() {
            [step] => match step.kind {
                Kind::ExplainRoute(inner) => self.check_explain().map(|()| Some(inner)),
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }

    pub(super) fn check_explain(&self) -> Result<(), Halt> {
        match self.block.status() {
            TxStatus::Failed => Err(failed_transaction().into()),
            _ => Ok(()),
        }
    }
}

impl Session {
    /// EXPLAIN over several shards, as a simple query: its whole answer up to CommandComplete.
    pub(super) async fn explain_query_over(
        &mut self,
        explaining: &Explaining,
    ) -> Result<Vec<u8>, Halt> {
        let given = ExplainParameters {
            types: &[],
            values: &[],
        };
        let turns = self.explaining_turns(explaining);
        self.servers.begin_saving();
        let lines = self.explain_over(explaining, given, turns).await?;
        let mut out = columns_of(explaining.is_json(), 0);
        put_lines(&mut out, &lines);
        backend::put_complete(&mut out, b"EXPLAIN");
        Ok(out)
    }

    /// Bind of EXPLAIN over several shards.
    pub(super) async fn bind_explaining(
        &mut self,
        bind: &Bind<'_>,
        statement: &Rc<Prepared>,
        explaining: Explaining,
    ) -> Result<Place, Halt> {
        // Asked before its own text is sent to a server: what else is in the segment could not be undone.
        let turns = self.explaining_turns(&explaining);
        self.servers.begin_saving();
        self.flush_held().await?;
        self.answer(backend::BIND_COMPLETE);
        let mut named = bind.statement.to_vec();
        named.push(0);
        named.extend_from_slice(bind.rest);
        Ok(Place::Explaining(Rc::new(ExplainPortal {
            explaining,
            statement: Rc::clone(statement),
            bind: named.into(),
            format: bind.result_formats().next().unwrap_or(0),
            turns,
            bound_at: self.request.taken,
            explained: RefCell::default(),
        })))
    }

    /// Execute of EXPLAIN over several shards.
    pub(super) async fn execute_explaining(
        &mut self,
        portal: &ExplainPortal,
        rows: i32,
    ) -> Result<(), Halt> {
        let known = portal.explained.borrow().clone();
        let explained = match known {
            Some(explained) => explained,
            None => {
                let explained = Rc::new(self.explain_portal(portal).await?);
                portal.explained.replace(Some(Rc::clone(&explained)));
                explained
            }
        };
        let (rows, ended) = explained.some(rows);
        self.client.send(&rows);
        match ended {
            // What it has written is not committed yet.
            true => self.command_before_sync(b"EXPLAIN".to_vec()),
            false => self.client.send(backend::PORTAL_SUSPENDED),
        }
        Ok(())
    }

    async fn explain_portal(&mut self, portal: &ExplainPortal) -> Result<Explained, Halt> {
        let explaining = &portal.explaining;
        self.settle_active().await?;
        self.join_segment(None, explaining.writes()).await?;
        self.servers.active = None;
        let turns = match portal.bound_at + 1 == self.request.taken {
            true => portal.turns,
            // Something else may have been done since, which would be undone with it.
            false => portal.turns.without_undoing(),
        };
        if explaining.writes() {
            self.transaction.begin_implicit(&mut self.state);
        }
        let body = [b"\0", &*portal.bind].concat();
        let bind = Bind::read(&body).map_err(super::malformed)?;
        let shard = explaining.first_shard(self);
        self.attach_saved(shard, turns).await?;
        let (_, described) = self
            .describe_gathered(&bind, &portal.statement, shard)
            .await?;
        self.servers.active = None;
        let values: Vec<_> = bind.values().collect();
        let given = ExplainParameters {
            types: &described.parameters,
            values: &values,
        };
        let lines = self.explain_over(explaining, given, turns).await?;
        Ok(Explained {
            lines,
            format: portal.format,
            shown: Cell::new(0),
        })
    }

    /// As a simple query.
    pub(super) fn explain_query(
        &mut self,
        statement: &Rc<Prepared>,
        inner: Span,
    ) -> Result<(), Halt> {
        self.state.check_explain()?;
        let lines = self.explain_lines(statement, inner, &Params::NONE)?;
        let mut out = columns(0);
        put_lines(&mut out, &lines);
        backend::put_complete(&mut out, b"EXPLAIN");
        self.client.send(&out);
        self.state.ready_alone(&mut self.client);
        Ok(())
    }

    /// Bind: the route is that of the parameters.
    pub(super) async fn bind_explain(
        &mut self,
        bind: &Bind<'_>,
        statement: &Rc<Prepared>,
        inner: Span,
    ) -> Result<Place, Halt> {
        self.flush_held().await?;
        let (formats, values): (Vec<i16>, Vec<Option<&[u8]>>) = bind.values().unzip();
        let params = Params {
            formats: &formats,
            values: &values,
            ..Params::NONE
        };
        let explained = Explained {
            lines: self.explain_lines(statement, inner, &params)?,
            format: bind.result_formats().next().unwrap_or(0),
            shown: Cell::new(0),
        };
        self.answer(backend::BIND_COMPLETE);
        Ok(Place::Explained(Rc::new(explained)))
    }

    /// Describe of a statement: its parameters and the column.
    pub(super) fn describe_explain(
        &mut self,
        statement: &Rc<Prepared>,
        inner: Span,
    ) -> Result<(), Halt> {
        let declared: Vec<u32> = match &statement.origin {
            Origin::Parse(types) => types
                .chunks_exact(4)
                .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
            _ => Vec::new(),
        };
        let sql = std::str::from_utf8(inner.of(&statement.sql)).map_err(|_| not_utf8())?;
        let plan = match self.known.model.clone() {
            Some(model) => Some(self.plan(statement, 0, sql, &model)?),
            None => None,
        };
        let types = parameter_types(sql, plan.as_deref(), &declared);
        let mut out = Vec::new();
        frame::put(&mut out, backend::tag::PARAMETER_DESCRIPTION, |body| {
            // A number in a text is at most 65,535, as in the protocol.
            body.extend_from_slice(&(types.len() as u16).to_be_bytes());
            for oid in &types {
                body.extend_from_slice(&oid.to_be_bytes());
            }
        });
        self.answer(out);
        self.answer(columns(0));
        Ok(())
    }

    /// What is to be said of the statement `inner` of the text, and which rule decides
    /// about it.
    fn explain_lines(
        &mut self,
        statement: &Rc<Prepared>,
        inner: Span,
        params: &Params<'_>,
    ) -> Result<Vec<String>, Halt> {
        let (rule, pin) = self.explain_rules(inner.of(&statement.sql));
        let mut lines = self.explain_place(statement, inner, params, pin.as_ref())?;
        lines.extend(rule);
        Ok(lines)
    }

    fn explain_place(
        &mut self,
        statement: &Rc<Prepared>,
        inner: Span,
        params: &Params<'_>,
        pin: Option<&Pin>,
    ) -> Result<Vec<String>, Halt> {
        let text = inner.of(&statement.sql);
        let kind = match steps(text, self.standard_strings()).pop() {
            Some(step) => step.kind,
            None => Kind::Plain,
        };
        if let Some(shard) = self.state.cursor_shard(&kind)? {
            return Ok(vec![
                "Plan: Single".to_owned(),
                format!("Shards: {}", self.topology.shards[shard].name),
                "Server: primary (the cursor is there)".to_owned(),
            ]);
        }
        if kind.is_control() || matches!(kind, Kind::Prepare(_) | Kind::Deallocate(_)) {
            return Ok(vec![
                "Plan: Local (the router follows it for the session)".to_owned(),
                "Shards: those of the transaction".to_owned(),
            ]);
        }
        let Some(model) = self.known.model.clone() else {
            let home = self.topology.home;
            let name = &self.topology.shards[home].name;
            return Ok(undeclared((home, name), pin));
        };
        if let Kind::Execute(name) = &kind {
            return self.explain_execute(text, name, pin);
        }
        let sql = std::str::from_utf8(text).map_err(|_| not_utf8())?;
        let plan = self.plan(statement, 0, sql, &model)?;
        Ok(report(
            sql,
            &plan,
            params,
            model.map(),
            &self.state.text_context(),
            pin,
        ))
    }

    /// EXECUTE goes where its prepared statement goes with these arguments.
    fn explain_execute(
        &mut self,
        text: &[u8],
        name: &[u8],
        pin: Option<&Pin>,
    ) -> Result<Vec<String>, Halt> {
        let (Some(prepared), Some(model)) = (
            self.state.names.get(name).cloned(),
            self.known.model.clone(),
        ) else {
            return Err(no_such_statement(name).into());
        };
        let Some(arguments) = arguments(text, self.standard_strings(), &prepared) else {
            return Err(prepared_over_shards().into());
        };
        let sql = prepared
            .step()
            .map_or(&*prepared.sql, |s| s.span.of(&prepared.sql));
        let sql = std::str::from_utf8(sql).map_err(|_| not_utf8())?;
        let plan: Rc<Plan> = self.plan(&prepared, 0, sql, &model)?;
        let (map, context) = (model.map(), self.state.text_context());
        Ok(arguments.with(|params| report(sql, &plan, params, map, &context, pin)))
    }
}
