//! One time for all shards: `now()` and its relatives are the same in all parts of a transaction, and in all parts of a
//! statement.
//!
//! The first server of a transaction has a time, and what runs there asks for it as it
//! stands. What runs elsewhere, or on several, gets a text in which that time stands as a
//! value, defaults that the client left out included. Where the time is asked for out
//! of sight, in a function's body or a trigger, the statement is refused.

use super::copy_times::left_out;
use super::dispatch::{Dispatch, Many, refused};
use super::servers::AttachedId;
use super::state::Block;
use super::{Halt, Session};
use crate::model::DatabaseModel;
use crate::statements::names::Prepared;
use crate::statements::shapes::Shaped;
use crate::statements::step::{Kind, Step};
use mothership_catalog::behind::SchemaOf;
use mothership_catalog::times::TimeUse;
use mothership_catalog::{NOWHERE, Name};
use mothership_plan::{Bound, Params, Plan, PlanContext, Reason, Refusal, TimedDefault};
use mothership_proto::report::{Report, sqlstate};
use mothership_sql::fill::{Target, filled, width, without_defaults};
use mothership_sql::places::Change;
use mothership_sql::time::{Moments, Unclear, Uses, is_moving};
use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// The parameters that are no times, whatever they say: text, varchar, char, name, json, jsonb.
const TEXTS: [u32; 6] = [25, 1043, 1042, 19, 114, 3802];

impl Session {
    /// The same work, with texts of its own where it would tell another time than the other parts of the transaction.
    pub(super) fn with_one_time(
        &mut self,
        work: Dispatch,
        (statement, sql): (&Prepared, &str),
        step: Option<&Step>,
        params: &Params<'_>,
        model: &Arc<DatabaseModel>,
    ) -> Result<Dispatch, Halt> {
        let (writes, elsewhere) = match &work {
            Dispatch::One { shard, writes, .. } => {
                let first = self.transaction.first_shard(&self.servers);
                let block = self.state.block != Block::None || *writes;
                (*writes, block && first.is_some_and(|first| first != *shard))
            }
            Dispatch::Many(many) => (many.writes, many.legs.len() > 1),
            Dispatch::Gather(work) => (work.writes(), true),
        };
        if !elsewhere {
            return Ok(work);
        }
        let strings = self.standard_strings();
        let context = self.context();
        let some = Moments::default();
        let hidden = |what: String| Halt::Fail(refused(&Refusal::about(Reason::TimeHidden, what)));
        // The texts of what gathers are written when its servers are known.
        let shaped = statement.shaped.as_ref();
        let shaped = shaped.filter(|_| !writes && !self.state.has_own_definitions(&self.topology));
        if let Dispatch::Many(many) = &work
            && let Some(split) = many.copy.as_deref().filter(|_| many.copy_in)
        {
            let left_out = left_out((sql, &context), strings, model, split).map_err(hidden)?;
            let uses = Uses::of(sql, strings).map_err(|Unclear(what)| hidden(what))?;
            return Ok(match (work, !left_out.is_empty() || !uses.is_empty()) {
                (Dispatch::Many(many), timed) => Dispatch::Many(Box::new(Many { timed, ..*many })),
                (other, _) => other,
            });
        }
        let timed = match &work {
            Dispatch::Gather(_) => None,
            _ if shaped.is_some_and(|shaped| asks_no_time(shaped, (sql, strings), model)) => None,
            _ => with_moments((sql, Some(&context)), strings, writes, model, &some)
                .map_err(hidden)?,
        };
        let types = statement.origin.types();
        let is_text = |at: usize| {
            let oid = types.chunks_exact(4).nth(at);
            oid.is_some_and(|oid| {
                TEXTS.contains(&u32::from_be_bytes([oid[0], oid[1], oid[2], oid[3]]))
            })
        };
        let count = u16::try_from(params.values.len()).unwrap_or(u16::MAX);
        let mut numbers = 1..=count;
        let moving = |number: u16| match params.get(number) {
            Some(Bound::Text(value)) => !is_text(usize::from(number) - 1) && is_moving(value),
            _ => false,
        };
        if numbers.any(moving) {
            return Err(hidden("a parameter that may be the time".into()));
        }
        if timed.is_none() {
            return Ok(work);
        }
        let plain = step.is_none_or(|step| step.kind == Kind::Plain && step.pins.is_empty());
        match work {
            Dispatch::Many(many) if many.copy_in => Ok(Dispatch::Many(many)),
            Dispatch::Many(many) => Ok(Dispatch::Many(Box::new(Many {
                timed: true,
                ..*many
            }))),
            Dispatch::One { shard, writes, .. } if plain => Ok(Dispatch::Many(Box::new(Many {
                timed: true,
                ..Many::one(shard, None, writes)
            }))),
            Dispatch::One { .. } | Dispatch::Gather(_) => Err(hidden(
                "a cursor, or a statement that stays with its server".into(),
            )),
        }
    }

    /// The texts of a statement's shards with one time. `at` is one of their servers; all are attached.
    pub(super) async fn timed(
        &mut self,
        many: &Many,
        sql: &[u8],
        at: AttachedId,
    ) -> Result<Option<Many>, Halt> {
        let Some(model) = self.known.model.clone().filter(|_| many.timed) else {
            return Ok(None);
        };
        let moments = match self.state.block {
            Block::None if many.legs.len() < 2 => return Ok(None),
            Block::None => {
                let now = self.time_on(at, "now").await?;
                Moments {
                    transaction: now.clone(),
                    statement: now,
                }
            }
            _ => self.moments(sql).await?,
        };
        if many.copy_in {
            return self.copied(many, sql, at, &moments).await.map(Some);
        }
        let strings = self.standard_strings();
        let context = self.context();
        if let Some(Plan::Ddl(ddl)) = many.defaults.as_deref() {
            let begins = many.step.start;
            let text = with_defaults(sql, (begins, strings), &ddl.times, &moments);
            let (text, changes) = text.ok_or_else(|| {
                let what = "a default of a column".to_owned();
                Halt::Fail(refused(&Refusal::about(Reason::TimeHidden, what)))
            })?;
            let text: Rc<[u8]> = Rc::from(text.into_bytes());
            let legs = many.legs.iter();
            let legs: Vec<_> = legs
                .map(|(shard, _)| (*shard, Some(Rc::clone(&text))))
                .collect();
            return Ok(Some(Many {
                times: Some(vec![changes; legs.len()].into()),
                legs,
                ..many.clone()
            }));
        }
        let mut legs = Vec::with_capacity(many.legs.len());
        let mut times = Vec::with_capacity(many.legs.len());
        for (shard, text) in &many.legs {
            let text = std::str::from_utf8(text.as_deref().unwrap_or(sql));
            let text = text.map_err(|_| super::dispatch::not_utf8())?;
            let moments = match self.topology.is_postgres(*shard) {
                true => &moments,
                // Documents have milliseconds.
                false => &moments.in_milliseconds(),
            };
            let written = with_moments(
                (text, Some(&context)),
                strings,
                many.writes,
                &model,
                moments,
            );
            let written =
                written.map_err(|what| refused(&Refusal::about(Reason::TimeHidden, what)))?;
            let (written, changes) = written.unwrap_or_else(|| (text.to_owned(), Vec::new()));
            legs.push((*shard, Some(Rc::from(written.into_bytes()))));
            times.push(changes);
        }
        Ok(Some(Many {
            legs,
            times: Some(times.into()),
            ..many.clone()
        }))
    }

    /// A text that runs for a statement on one server or several, with the times of the open transaction, if others
    /// take part in it.
    ///
    /// # Errors
    /// Where it asks for the time so that nothing can be put in its place.
    pub(super) async fn with_times<'t>(
        &mut self,
        sql: &[u8],
        text: &'t str,
        writes: bool,
    ) -> Result<Cow<'t, str>, Halt> {
        let Some(model) = self
            .known
            .model
            .clone()
            .filter(|_| self.servers.is_marked())
        else {
            return Ok(Cow::Borrowed(text));
        };
        let strings = self.standard_strings();
        let context = self.context();
        let hidden = |what: String| Halt::Fail(refused(&Refusal::about(Reason::TimeHidden, what)));
        let none = Moments::default();
        let asks =
            with_moments((text, Some(&context)), strings, writes, &model, &none).map_err(hidden)?;
        if asks.is_none() {
            return Ok(Cow::Borrowed(text));
        }
        let moments = self.moments(sql).await?;
        let written = with_moments((text, Some(&context)), strings, writes, &model, &moments)
            .map_err(hidden)?;
        Ok(written.map_or(Cow::Borrowed(text), |(written, _)| Cow::Owned(written)))
    }

    /// The text of a simple query that the server `at` is to run, with one time for its transaction and its statement, if
    /// it asks for that of the statement. Outside of a block they are one in PostgreSQL; what runs it here takes several
    /// messages, each of which is a statement to the server.
    pub(super) async fn with_one_moment<'t>(
        &mut self,
        at: AttachedId,
        text: Cow<'t, str>,
    ) -> Result<Cow<'t, str>, Halt> {
        let is_alone = self.state.block == Block::None || self.transaction.implicit;
        let strings = self.standard_strings();
        let asks = Uses::of(&text, strings).is_ok_and(|uses| uses.need_statement());
        if !is_alone || !asks || self.servers.is_marked() {
            return Ok(text);
        }
        let now = self.time_on(at, "now").await?;
        let moments = Moments {
            transaction: now.clone(),
            statement: now,
        };
        let fixed = Uses::of(&text, strings).map(|uses| uses.fixed(&text, &moments));
        Ok(fixed.map_or(text, Cow::Owned))
    }

    /// The times of the open transaction, and of the statement that is about to run.
    async fn moments(&mut self, sql: &[u8]) -> Result<Moments, Halt> {
        let said = self.said().await?;
        let uses = std::str::from_utf8(sql).map(|sql| Uses::of(sql, self.standard_strings()));
        let needs = uses.is_ok_and(|uses| uses.is_ok_and(|uses| uses.need_statement()));
        let first = self.transaction.first_shard(&self.servers);
        let first = self.servers.find(|s| Some(s.shard) == first);
        let statement = match first {
            // A transaction of the router's own for one statement began with it.
            Some(at) if needs && !self.transaction.implicit => {
                self.time_on(at, "statement_timestamp").await?
            }
            _ => said.now.clone(),
        };
        Ok(Moments {
            transaction: said.now,
            statement,
        })
    }

    /// What a server says to such a call, in UTC.
    async fn time_on(&mut self, at: AttachedId, call: &str) -> Result<String, Halt> {
        let sql = format!(
            "SELECT pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.{call}()), 'YYYY-MM-DD HH24:MI:SS.US')"
        );
        let row = self.ask_row(at, &sql).await?;
        row.ok_or_else(|| {
            Report::error(sqlstate::INTERNAL_ERROR, "server does not say the time").into()
        })
    }
}

/// Whether a text that only reads asks for no time, nor anything that it names, whatever the search path. `sql` is the
/// statement of `shaped`, read with or without standard strings.
pub(super) fn asks_no_time(
    shaped: &Shaped,
    (sql, strings): (&str, bool),
    model: &DatabaseModel,
) -> bool {
    let asks = || with_moments((sql, None), strings, false, model, &Moments::default());
    let timeless = &shaped.entry.timeless;
    let timeless = timeless.get((model.version, strings), || asks() == Ok(None));
    // Texts of a shape differ in literals only.
    let mut literals = shaped.literals.iter();
    timeless && !literals.any(|literal| is_moving(literal.span.of(sql.as_bytes())))
}

/// ALTER TABLE whose new columns get these times in the rows that are there, and ask for the time of those that follow,
/// and how that differs. The statement begins at a place of the text.
fn with_defaults(
    sql: &[u8],
    (begins, strings): (usize, bool),
    defaults: &[TimedDefault],
    moments: &Moments,
) -> Option<(String, Vec<Change>)> {
    let sql = std::str::from_utf8(sql).ok()?;
    let mut text = String::with_capacity(sql.len() + 160 * defaults.len());
    let mut changes = Vec::new();
    let mut from = 0;
    let mut put = |at: Range<usize>, by: &str| {
        text.push_str(sql.get(from..at.start)?);
        text.push_str(by);
        from = at.end;
        changes.push(Change::new(at, by));
        Some(())
    };
    let placed = |at: &Range<usize>| begins + at.start..begins + at.end;
    for default in defaults {
        if let Some(unless) = &default.unless {
            put(placed(unless), "")?;
        }
        let at = placed(&default.at);
        let own = sql.get(at.clone())?;
        let uses = Uses::of(own, strings)
            .ok()
            .filter(|uses| !uses.is_empty())?;
        let value = uses.fixed_plainly(own, moments);
        put(at, &format!(" ({value}) "))?;
        let end = begins + default.end;
        let then = format!(", ALTER COLUMN {} SET DEFAULT {own}", default.column);
        put(end..end, &then)?;
    }
    text.push_str(sql.get(from..)?);
    Some((text, changes))
}

/// What a statement has to do with the time beside its own text.
///
/// # Errors
/// What asks for it out of sight.
pub(super) fn times_of(
    (sql, context): (&str, Option<&PlanContext>),
    strings: bool,
    writes: bool,
    model: &DatabaseModel,
) -> Result<TimeUse, String> {
    let times = model.times();
    let mut found = times.found(sql, strings, writes, &NOWHERE);
    if let Some(context) = context.filter(|_| found.hidden.is_some()) {
        found = times.found(sql, strings, writes, &model.apart(sql, context));
    }
    match found.hidden.take() {
        Some(hidden) => Err(hidden),
        None => Ok(found),
    }
}

/// A statement with these times wherever it asks for them, also by defaults of columns that it leaves out, and how that
/// differs from it; `None` if it does not.
///
/// # Errors
/// Where it asks so that nothing can be put in its place.
fn with_moments(
    (sql, context): (&str, Option<&PlanContext>),
    strings: bool,
    writes: bool,
    model: &DatabaseModel,
    moments: &Moments,
) -> Result<Option<(String, Vec<Change>)>, String> {
    let times = model.times();
    let found = times_of((sql, context), strings, writes, model)?;
    let unclear = |Unclear(what): Unclear| what;
    let uses = Uses::of(sql, strings).map_err(unclear)?;
    let fixed = (!uses.is_empty()).then(|| (uses.fixed(sql, moments), uses.changes(moments)));
    if !(writes && found.has_defaults) {
        return Ok(fixed);
    }
    let text = fixed.as_ref().map_or(sql, |(text, _)| text);
    let Some(target) = Target::of(text, strings) else {
        return match found.inserts || found.says_default {
            true => Err("a column that is filled with the time".into()),
            // An UPDATE fills nothing.
            false => Ok(fixed),
        };
    };
    let listed_widths = target
        .columns
        .as_ref()
        .map(Vec::len)
        .zip(width(text, strings));
    if listed_widths.is_some_and(|(columns, row)| columns != row) && !text.contains('*') {
        // Rows and columns do not fit. The server says so of what the client has written, and stores nothing.
        return Ok(fixed);
    }
    let schema_of = |apart| times.schema_of(target.schema.as_deref(), &target.name, apart);
    let schema = match (schema_of(&NOWHERE), context) {
        (SchemaOf::Several, Some(context)) => schema_of(&model.apart(sql, context)),
        (found, _) => found,
    };
    let table = match schema {
        SchemaOf::Nobody => None,
        SchemaOf::One(schema) => Some(Name::new(schema, &*target.name)),
        SchemaOf::Several => {
            return Err(format!("default of a column of table \"{}\"", target.name));
        }
    };
    let defaults = match &table {
        Some(table) => times.defaults(&table.schema, &table.name),
        None => &[],
    };
    let columns_of = || {
        let relation = table
            .as_ref()
            .and_then(|table| model.catalog().relation(table));
        let columns = relation.map(|relation| relation.columns.iter());
        columns.map(|columns| columns.map(|c| c.name.clone()).collect::<Vec<_>>())
    };
    let about = |column: &str| {
        format!(
            "default of column \"{column}\" of table \"{}\"",
            target.name
        )
    };
    let written_out = |(column, default): &(String, String)| {
        let uses = Uses::of(default, true).ok().filter(|uses| !uses.is_empty());
        let uses = uses.filter(|_| !times.asks(default));
        let uses = uses.ok_or_else(|| about(column))?;
        Ok((column.clone(), uses.fixed(default, moments)))
    };
    let count = columns_of().map(|columns| columns.len());
    let is_whole = target.columns.is_none() && is_whole(text, strings, count);
    let mut edits = Edits::of(sql, fixed);
    if found.says_default {
        let said = || "DEFAULT of a column that is filled with the time".to_owned();
        let columns = match &target.columns {
            Some(columns) => columns.clone(),
            None => columns_of().ok_or_else(said)?,
        };
        let given = defaults.iter().filter(|(name, _)| columns.contains(name));
        let values: Result<Vec<_>, String> = given.map(written_out).collect();
        let values = values?;
        edits
            .put(|text| without_defaults(text, strings, &columns, &values))
            .ok_or_else(said)?;
    }
    let listed = |column: &str| match &target.columns {
        Some(columns) => columns.iter().any(|listed| listed == column),
        None => false,
    };
    let omitted: Vec<_> = defaults
        .iter()
        .filter(|(column, _)| !listed(column))
        .collect();
    let Some((first, _)) = omitted.first() else {
        return Ok(edits.done());
    };
    if is_whole {
        return Ok(edits.done());
    }
    let more: Result<Vec<_>, String> = omitted.into_iter().map(written_out).collect();
    let more = more?;
    edits
        .put(|text| filled(text, strings, &more))
        .ok_or_else(|| about(first))?;
    Ok(edits.done())
}

/// A statement's text as it is changed step by step, and all changes by their places in the client's text.
struct Edits<'s> {
    sql: &'s str,
    text: Cow<'s, str>,
    changes: Vec<Change>,
}

impl<'s> Edits<'s> {
    fn of(sql: &'s str, fixed: Option<(String, Vec<Change>)>) -> Edits<'s> {
        let (text, changes) = match fixed {
            Some((text, changes)) => (Cow::Owned(text), changes),
            None => (Cow::Borrowed(sql), Vec::new()),
        };
        Edits { sql, text, changes }
    }

    /// Makes an edit that finds the same places in both texts. `None` if it cannot be made.
    fn put(&mut self, edit: impl Fn(&str) -> Option<(String, Vec<Change>)>) -> Option<()> {
        let (text, _) = edit(&self.text)?;
        let (_, changes) = edit(self.sql)?;
        self.text = Cow::Owned(text);
        self.changes.extend(changes);
        Some(())
    }

    /// The text with its changes in order, if there are any.
    fn done(mut self) -> Option<(String, Vec<Change>)> {
        self.changes.sort_by_key(|change| change.at.start);
        (!self.changes.is_empty()).then(|| (self.text.into_owned(), self.changes))
    }
}

/// Whether a statement without a list of columns gives a value to each of so many.
fn is_whole(sql: &str, strings: bool, columns: Option<usize>) -> bool {
    let is_copy = sql
        .trim_start()
        .get(..4)
        .is_some_and(|word| word.eq_ignore_ascii_case("copy"));
    is_copy || columns.is_some() && mothership_sql::fill::width(sql, strings) == columns
}
