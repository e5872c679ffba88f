//! Makes the values that an INSERT leaves to the router, and the statement that has them.
//!
//! `plan::fill` says which and where. A simple query becomes a text with constants. A parsed statement becomes one with
//! further parameters, the same at each of its Binds, so that servers prepare it once; what the client is told of its
//! parameters and columns is of its own text.

use super::arguments::Bound;
use super::bind_count;
use super::dispatch::{not_utf8, refused};
use super::{Halt, Session};
use crate::statements::errors::{Values, Written};
use crate::statements::names::{AnalysisContext, Origin, Prepared};
use crate::statements::step::steps;
use mothership_catalog::{Column, DefaultKind, Name};
use mothership_plan::fill::{Fill, Source};
use mothership_plan::{Plan, Reason, Refusal};
use mothership_proto::frontend::Bind;
use mothership_proto::report::{Report, sqlstate};
use mothership_sql::cursor::Span;
use std::collections::BTreeMap;
use std::rc::Rc;

impl Session {
    /// The `at`-th statement of a simple query with the values that it leaves to the router, and where what stands in it
    /// comes from; `None` if it leaves none.
    pub(super) async fn filled_query(
        &mut self,
        statement: &Rc<Prepared>,
        at: usize,
    ) -> Result<Option<(Rc<Prepared>, Rc<Written>)>, Halt> {
        let Some(plan) = self.fill_of(statement, at)? else {
            return Ok(None);
        };
        let (Plan::Fill(fill), Some(step)) = (&*plan, statement.steps.get(at)) else {
            return Ok(None);
        };
        self.check_steps(std::slice::from_ref(step))?;
        let sql = std::str::from_utf8(step.span.of(&statement.sql)).map_err(|_| not_utf8())?;
        let values = Box::pin(self.make_values(fill, sql.as_bytes())).await?;
        if statement.steps.len() == 1 {
            // Its row has its number already.
            self.state.numbers.takes_none();
        }
        let text = fill.with_constants(sql, &values).ok_or_else(misplaced)?;
        self.topology.check_text(text.as_bytes())?;
        let values = Values::Constants(values.into());
        let written = Written::filled(statement, step.span, Rc::clone(&plan), values);
        Ok(Some((self.queried(text.as_bytes()), Rc::new(written))))
    }

    /// The text of a simple query, read.
    pub(super) fn queried(&self, sql: &[u8]) -> Rc<Prepared> {
        let strings = self.standard_strings();
        match self.shaped(sql) {
            Some(shaped) => Rc::new(Prepared::query(sql, shaped)),
            None => self.core.interner.intern(
                (sql, strings),
                Origin::Query,
                &AnalysisContext::default(),
                || steps(sql, strings),
            ),
        }
    }

    /// A Bind of a parsed statement that leaves values to the router: the statement with further parameters, the body of
    /// the Bind with their values, and where what stands in the statement comes from.
    pub(super) async fn filled_bind(
        &mut self,
        bind: &Bind<'_>,
        statement: &Rc<Prepared>,
    ) -> Result<Option<(Rc<Prepared>, Vec<u8>, Rc<Written>)>, Halt> {
        let Some(plan) = self.fill_of(statement, 0)? else {
            return Ok(None);
        };
        let Plan::Fill(fill) = &*plan else {
            return Ok(None);
        };
        self.check_steps(&statement.steps)?;
        let (filled, own) = self.filled_statement(statement, fill)?;
        if bind.len() != own || bind.format_count() > 1 && bind.format_count() != own {
            // Parse is answered before.
            self.flush_held().await?;
            bind_count::check(bind, own)?;
        }
        self.state.numbers.takes_none();
        let values = match Box::pin(self.make_values(fill, &statement.sql)).await {
            Ok(values) => values,
            Err(halt) => {
                self.flush_held().await?;
                return Err(halt);
            }
        };
        let body = bind.with_texts(values.iter().map(String::as_str));
        let whole = Span {
            start: 0,
            end: statement.sql.len(),
        };
        let span = statement.step().map_or(whole, |step| step.span);
        let values = Values::Parameters(own);
        let written = Written::filled(statement, span, Rc::clone(&plan), values);
        Ok(Some((filled, body, Rc::new(written))))
    }

    /// The same of what an EXECUTE runs.
    pub(super) async fn filled_bound(&mut self, bound: Bound) -> Result<Bound, Halt> {
        let Some(plan) = self.fill_of(&bound.statement, 0)? else {
            return Ok(bound);
        };
        let Plan::Fill(fill) = &*plan else {
            return Ok(bound);
        };
        self.check_steps(&bound.statement.steps)?;
        let (filled, _) = self.filled_statement(&bound.statement, fill)?;
        self.state.numbers.takes_none();
        let values = Box::pin(self.make_values(fill, &bound.statement.sql)).await?;
        Ok(bound.filled(filled, values))
    }

    /// A parsed statement with further parameters for the values that it leaves to the router, and how many it has of
    /// its own.
    pub(super) fn filled_statement(
        &self,
        statement: &Prepared,
        fill: &Fill,
    ) -> Result<(Rc<Prepared>, usize), Halt> {
        let Origin::Parse(declared) = &statement.origin else {
            return Err(misplaced().into());
        };
        let declared: Vec<u32> = declared
            .chunks_exact(4)
            .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        let own = declared.len().max(fill.parameters);
        let sql = statement.step().map(|step| step.span.of(&statement.sql));
        let sql = std::str::from_utf8(sql.unwrap_or_default()).map_err(|_| not_utf8())?;
        let Some((text, types)) = fill.with_parameters(sql, &declared) else {
            return Err(Report::error(
                sqlstate::PROGRAM_LIMIT_EXCEEDED,
                "this INSERT has too many rows for one statement",
            )
            .detail("the router adds a parameter for each value that it makes, and a statement has at most 65535")
            .hint("Insert fewer rows at a time, or send them without parameters.")
            .into());
        };
        self.topology.check_text(text.as_bytes())?;
        let types: Vec<u8> = types.iter().flat_map(|oid| oid.to_be_bytes()).collect();
        let parse = mothership_proto::frontend::Parse {
            name: b"",
            sql: text.as_bytes(),
            types: &types,
        };
        let filled = self.statement(&parse);
        // It lives as long as what it is made of, and servers know it as long.
        statement.filled.replace(Some(Rc::clone(&filled)));
        Ok((filled, own))
    }

    /// The plan of a statement, if values are to be written into it. What SQL's PREPARE has named is left alone: its
    /// EXECUTE has no place for them.
    fn fill_of(&mut self, statement: &Prepared, at: usize) -> Result<Option<Rc<Plan>>, Halt> {
        let writes = statement.steps.get(at).is_some_and(|step| step.writes);
        if self.known.model.is_none()
            || !writes
            || statement.runs.is_some()
            || matches!(statement.origin, Origin::Prepare(_))
        {
            return Ok(None);
        }
        let planned = self.plan_by_known(statement, at)?;
        let plan = planned.map(|(plan, _)| plan);
        Ok(plan.filter(|plan| matches!(**plan, Plan::Fill(_))))
    }

    /// The values of a fill, in its order.
    async fn make_values(&mut self, fill: &Fill, sql: &[u8]) -> Result<Vec<String>, Halt> {
        let within = sql.trim_ascii_start();
        let within = within
            .get(..4)
            .is_some_and(|word| word.eq_ignore_ascii_case(b"with"));
        let mut counts: BTreeMap<_, usize> = BTreeMap::new();
        for wanted in &fill.values {
            if let Source::Next(sequence) = &wanted.source {
                *counts.entry(sequence).or_default() += 1;
            }
        }
        // Those that no server knows of.
        let mut own = Vec::new();
        let mut taken = BTreeMap::new();
        let role = self.context().role.clone();
        for (sequence, count) in counts {
            if self.state.has_own_definitions(&self.topology) {
                let values = self.own_values(sequence, count).await?;
                taken.insert(sequence, values.into_iter());
                continue;
            }
            self.check_sequence(sequence, &role).await?;
            own.push(sequence);
            let core = &self.core;
            let of = (&*self.entry.who.names.database, sequence);
            let values = core
                .shared
                .sequences
                .next(
                    (&core.shared.schema_epoch, &core.control),
                    &self.topology,
                    of,
                    count,
                )
                .await
                .map_err(|error| Halt::Fail(error.report()))?;
            taken.insert(sequence, values.into_iter());
        }
        let mut asked = BTreeMap::new();
        for wanted in &fill.values {
            if let Source::Asked(expression) = &wanted.source
                && !asked.contains_key(expression)
            {
                let value = self.value_of_settings(expression, fill).await?;
                asked.insert(expression, value);
            }
        }
        let value = |source: &Source| match source {
            Source::Asked(expression) => asked.get(expression).cloned(),
            Source::Next(sequence) => {
                let values = taken.get_mut(sequence)?;
                values.next().map(|value| value.to_string())
            }
            Source::RandomUuid => Some(random_uuid()),
        };
        let values = fill.values.iter().map(|wanted| &wanted.source).map(value);
        let values: Option<Vec<String>> = values.collect();
        let values = values.ok_or_else(|| Halt::from(gone(fill)))?;
        let made = fill.values.iter().zip(&values);
        let made = made.filter_map(|(wanted, value)| match &wanted.source {
            Source::Next(sequence) if own.contains(&sequence) => {
                Some((sequence, value.parse().ok()?))
            }
            _ => None,
        });
        self.state.made_numbers(&made.collect::<Vec<_>>(), within);
        Ok(values)
    }
}

impl Session {
    /// What an expression of the session's settings is, as a text: a server of the session has them.
    async fn value_of_settings(&mut self, expression: &str, fill: &Fill) -> Result<String, Halt> {
        let shard = self
            .servers
            .postgres_here(&self.topology)
            .unwrap_or(self.topology.home);
        let at = self.attach(shard).await?;
        let sql = format!("SELECT ({expression})::pg_catalog.text");
        let row = self.ask_row(at, &sql).await?;
        row.ok_or_else(|| {
            let refusal = Refusal::of_table(Reason::InsertNullKey, &fill.table);
            Halt::Fail(refused(&refusal))
        })
    }

    /// Values of a sequence that the open transaction may have made or changed: only the transaction itself can ask.
    async fn own_values(&mut self, sequence: &Name, count: usize) -> Result<Vec<i64>, Halt> {
        let name = sequence.quoted().replace('\'', "''");
        let standard = if self.standard_strings() { "" } else { "E" };
        let name = match standard {
            "" => name,
            _ => name.replace('\\', "\\\\"),
        };
        let sql = format!(
            "SELECT pg_catalog.string_agg(pg_catalog.nextval({standard}'{name}'::pg_catalog.regclass)::pg_catalog.text, ',') \
             FROM pg_catalog.generate_series(1, {count})"
        );
        let at = self.attach(self.topology.home).await?;
        self.servers[at].inbox.wrote = true;
        let row = self.ask_row(at, &sql).await?;
        let values = row.iter().flat_map(|row| row.split(','));
        let values: Result<Vec<i64>, _> = values.map(str::parse).collect();
        let values = values.ok().filter(|values| values.len() == count);
        values.ok_or_else(|| {
            Report::error(
                sqlstate::INTERNAL_ERROR,
                "server gave no values of a sequence",
            )
            .into()
        })
    }

    /// Fails as nextval does for a role that may not use a sequence. Whoever may insert may use that of an identity.
    async fn check_sequence(&self, sequence: &Name, role: &str) -> Result<(), Halt> {
        let of = (&*self.entry.who.names.database, sequence);
        let (shared, control) = (&self.core.shared, &self.core.control);
        let by = (&shared.schema_epoch, control);
        let asked = shared.sequences.may_use(by, &self.topology, of, role);
        if asked.await.map_err(|error| Halt::Fail(error.report()))? {
            return Ok(());
        }
        let identity = |column: &Column| match &column.default {
            DefaultKind::Sequence(from) => {
                from.identity && from.sequence.as_ref() == Some(sequence)
            }
            _ => false,
        };
        let relations = self
            .known
            .model
            .iter()
            .flat_map(|model| model.catalog().relations.values());
        if relations
            .flat_map(|relation| &relation.columns)
            .any(identity)
        {
            return Ok(());
        }
        let message = format!("permission denied for sequence {}", sequence.name);
        Err(Report::error(sqlstate::INSUFFICIENT_PRIVILEGE, message).into())
    }
}

/// A random UUID of version 4 (RFC 9562).
fn random_uuid() -> String {
    let random: u128 = rand::random();
    let marks = !(0xf000 << 64 | 0xc000 << 48);
    let uuid = random & marks | 0x4000 << 64 | 0x8000 << 48;
    let digits = format!("{uuid:032x}");
    let groups = [0..8, 8..12, 12..16, 16..20, 20..32].map(|group| &digits[group]);
    groups.join("-")
}

/// A sequence of the catalog that the home shard does not have any longer.
fn gone(fill: &Fill) -> Report {
    let message = "a sequence was dropped while values were taken from it";
    Report::error(sqlstate::UNDEFINED_OBJECT, message)
        .detail(format!("it gives values for table \"{}\"", fill.table.name))
        .hint("Try again.")
}

fn misplaced() -> Report {
    Report::error(
        sqlstate::INTERNAL_ERROR,
        "the places of values were not found in the text of an INSERT",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_uuid_says_that_it_is_random() {
        for _ in 0..1000 {
            let uuid = random_uuid();
            let groups: Vec<&str> = uuid.split('-').collect();
            let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{uuid}");
            assert!(groups[2].starts_with('4'), "{uuid}");
            assert!(groups[3].starts_with(['8', '9', 'a', 'b']), "{uuid}");
        }
        assert_ne!(random_uuid(), random_uuid());
    }
}
