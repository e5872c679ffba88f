//! A statement that definitions have overtaken: they changed while it waited for locks on its tables.
//!
//! PostgreSQL analyses a statement once it has these locks, so that one that waits for ALTER TABLE is answered by the
//! table as it is then. The router plans a statement before servers make it wait. By what they know afterwards it may
//! fail, although nothing is wrong with it, or it may need another plan: rows of a view that has become an aggregate are
//! no answer as they come, and what a new default or trigger computes on each shard may not be stored.
//!
//! So the plan of whatever runs on several shards is compared, before it is told as done and before it is committed, with
//! the one that it would have now. If they differ it fails with 40001. While a client of this router changes definitions,
//! a write on one shard is treated alike, and of a request that is all of its transaction the answer is held back: if
//! definitions have overtaken it, the client sees nothing of that, and the request runs once more.

use super::repeat::{Again, RequestMarks};
use super::state::{Block, Phase};
use super::{End, Halt, Session, primary};
use crate::core::clock::Doing;
use crate::model::DatabaseModel;
use crate::statements::names::Prepared;
use crate::statements::step::{Kind, Step};
use mothership_catalog::types::may_name;
use mothership_catalog::{Catalog, Column, DefaultKind, Name, Relation};
use mothership_plan::{Plan, Reason, Refusal};
use mothership_proto::backend;
use mothership_proto::frame::{self, Frame, Next};
use mothership_proto::frontend::{self, tag};
use mothership_proto::report::{Fields, Report, sqlstate};
use mothership_proto::segment::{self, Segment};
use mothership_shardmap::ShardId;
use mothership_sql::spelled::spells_columns;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request runs so often at most.
const MAX_RUNS: u8 = 8;

/// Whoever commits a change of definitions has told one shard, and all of them so much later at most.
const LATE: Duration = Duration::from_secs(2);

/// The same where one server has the change to itself, and its answer is on the way. An error that has nothing to do with
/// definitions is held back no longer.
const HARDLY_LATE: Duration = Duration::from_millis(10);

/// The pause between two looks whether that has happened.
const PAUSE: Duration = Duration::from_millis(1);

/// The same where a catalog is read for it.
const PAUSE_UNREAD: Duration = Duration::from_millis(10);

/// What a statement fails with if what its plan knows of tables is no longer so: objects, columns and types that are not
/// there (class 42), what the router refuses by it, and what is said here. Of a read also what servers or the router say
/// of answers and values of another form; of a write it must be certain that nothing was committed.
fn is_of_definitions(code: &[u8], writes: bool) -> bool {
    let refused = code.starts_with(b"42") || matches!(code, b"0A000" | b"40001");
    refused || !writes && matches!(code, b"08P01" | b"22P03" | b"XX000")
}

/// Whether a plan refuses what somebody held while the catalog was read.
fn is_unread(plan: &Plan) -> bool {
    matches!(plan, Plan::Refuse(refusal) if refusal.reason == Reason::Unread)
}

/// Whether a statement has locked what it names so that nobody else can read its definition.
fn has_to_itself(sql: &str) -> bool {
    let first = sql
        .trim_start()
        .split(|c: char| !c.is_ascii_alphabetic())
        .next();
    let is = |word: &str| first.is_some_and(|first| first.eq_ignore_ascii_case(word));
    is("alter") || is("drop") || is("truncate")
}

/// The messages of a conversation, whole ones, in one direction.
fn messages_of(mut rest: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || match frame::next(rest, usize::MAX) {
        Ok(Next::Whole(message)) => {
            rest = &rest[message.bytes.len()..];
            Some(message)
        }
        _ => None,
    })
}

/// Why a request has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// What is known of tables may no longer be so.
    ByDefinitions,
    /// It is a read that has run into a deadlock. If it locks no rows, it was with a change of definitions, which waited for
    /// it on another shard; one PostgreSQL takes both locks at one place.
    ByDeadlock,
    Otherwise,
}

/// What the first error among these messages says; `None` if there is no error.
fn failure(messages: &[u8], writes: bool) -> Option<Failure> {
    let error = messages_of(messages).find(|message| message.tag() == backend::tag::ERROR)?;
    let fields = Fields::read(error.body());
    let is_unread = || fields.message == Some(Refusal::new(Reason::Unread).message().as_bytes());
    Some(match fields.code {
        Some(b"40P01") if !writes => Failure::ByDeadlock,
        Some(b"55P03") if is_unread() => Failure::ByDefinitions,
        Some(code) if is_of_definitions(code, writes) => Failure::ByDefinitions,
        _ => Failure::Otherwise,
    })
}

/// What of these messages is not about the request, and would not be told again: settings and notifications.
fn not_of_request(messages: &[u8]) -> Vec<u8> {
    let told_once = [backend::tag::PARAMETER_STATUS, backend::tag::NOTIFICATION];
    messages_of(messages)
        .filter(|message| told_once.contains(&message.tag()))
        .flat_map(|message| message.bytes.iter().copied())
        .collect()
}

fn overtaken() -> Report {
    Report::error(
        sqlstate::SERIALIZATION_FAILURE,
        "definitions changed while the statement waited for its locks",
    )
    .detail("By the new ones it would go to the shards in another way.")
    .hint("The transaction might succeed if retried.")
}

/// Whether a statement goes the same way by both models: its plan is the same, and so are the relations that it names, as far
/// as it uses them.
fn goes_alike(
    sql: &str,
    context: &mothership_plan::PlanContext,
    [before, now]: [&DatabaseModel; 2],
) -> bool {
    before.plan(sql, context).to_string() == now.plan(sql, context).to_string()
        && finds_alike(sql, context, [before.catalog(), now.catalog()])
}

/// Whether a statement finds the same relations in both catalogs. Columns that it does not use may differ.
fn finds_alike(
    sql: &str,
    context: &mothership_plan::PlanContext,
    [before, now]: [&Catalog; 2],
) -> bool {
    let lower = sql.to_lowercase();
    let is_named = |name: &str| may_name(&lower, &name.to_lowercase());
    let [was, is] = [before, now].map(|catalog| {
        let all = catalog.relations.iter();
        all.filter(|(name, _)| is_named(&name.name))
            .collect::<Vec<_>>()
    });
    if was == is {
        return true;
    }
    let both = || was.iter().chain(&is);
    let is_relation = |name: &str| both().any(|(relation, _)| relation.name == name);
    let is_column = |table: &str, name: &str| {
        let mut tables = both().filter(|(relation, _)| relation.name == table);
        tables.any(|(_, relation)| relation.column(name).is_some())
    };
    let strings = context.standard_conforming_strings;
    let does = if is_named("insert") {
        Use::Insert
    } else if ["update", "delete", "merge"].into_iter().any(is_named) {
        Use::Write
    } else {
        Use::Read
    };
    let as_used = |all: &[(&Name, &Relation)]| {
        let of = |(_, relation): &(&Name, &Relation)| as_used(relation, is_named, does);
        all.iter().map(of).collect::<Vec<_>>()
    };
    spells_columns(sql.as_bytes(), strings, is_relation, is_column) && as_used(&was) == as_used(&is)
}

/// What a statement does with tables.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Write,
    /// INSERT, and perhaps more.
    Insert,
}

/// A relation with only those columns that a statement uses: those that it names, and for INSERT those that get their
/// values elsewhere. What it leaves NULL or gets a constant every server stores alike. A statement that only reads has
/// nothing to do with CHECK constraints, which say what may be stored. To a write those matter that call functions, of
/// which more must be known; the others are its server's to check.
fn as_used(relation: &Relation, is_named: impl Fn(&str) -> bool, by: Use) -> Relation {
    let is_computed = |column: &Column| {
        let constant = matches!(column.default, DefaultKind::None | DefaultKind::Constant(_));
        !constant || column.generated.is_some()
    };
    let columns = relation.columns.iter();
    let used =
        columns.filter(|column| is_named(&column.name) || by == Use::Insert && is_computed(column));
    Relation {
        columns: used.cloned().collect(),
        checks: match by {
            Use::Read => Vec::new(),
            Use::Write | Use::Insert => {
                let checks = relation.checks.iter();
                let calling = checks.filter(|check| has_call(&check.expression));
                calling.cloned().collect()
            }
        },
        // It is a digest of the other columns, too.
        stamp: String::new(),
        ..relation.clone()
    }
}

/// Whether an expression, as PostgreSQL prints it, calls a function by its name.
fn has_call(expression: &str) -> bool {
    let is_name =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'"' | b'$' | 128..);
    let mut pairs = expression.as_bytes().windows(2);
    pairs.any(|pair| is_name(pair[0]) && pair[1] == b'(')
}

/// What comes next from the client, if it can be run again.
struct Retryable {
    length: usize,
    effects: Effects,
}

/// What running a request may do, if that is all undone when it fails.
#[derive(Clone, Copy)]
struct Effects {
    writes: bool,
    /// It locks rows, and may wait for others that do.
    locks: bool,
}

impl Session {
    /// Whether a write that goes to one shard only has to wait for its commit until its plan has been looked at again.
    pub(super) fn may_be_overtaken(&self, shard: ShardId, step: Option<&Step>) -> bool {
        let plain = |step: &Step| {
            step.kind == Kind::Plain
                && step.pins.is_empty()
                && !step.copy_in
                && !step.changes_schema
                && step.writes
        };
        self.core.shared.is_changing()
            && self.transaction.changing.is_none()
            && self.state.block == Block::None
            && !self.transaction.implicit
            && self.state.pins.is_empty()
            && !self.is_session_mode()
            && self.topology.is_postgres(shard)
            && step.is_some_and(plain)
    }

    /// Looks whether a statement that has run on its shards would go there in the same way by the definitions of now.
    /// `planned_by` is what its plan was made by.
    ///
    /// # Errors
    /// It would not: what it did must be undone, and what it told is no answer.
    pub(super) async fn check_not_overtaken(
        &mut self,
        sql: &[u8],
        planned_by: Option<&Arc<DatabaseModel>>,
    ) -> Result<(), Halt> {
        let Some(before) = planned_by else {
            return Ok(());
        };
        // In this order: who has committed a change has moved the epoch on before it says so.
        let is_committing = self.core.shared.is_committing_change();
        if !is_committing && before.epoch >= self.epoch() {
            return Ok(());
        }
        Box::pin(self.look_at_plan_again(sql, before)).await
    }

    async fn look_at_plan_again(
        &mut self,
        sql: &[u8],
        before: &Arc<DatabaseModel>,
    ) -> Result<(), Halt> {
        let begun = Instant::now();
        while self.core.shared.is_committing_change() && begun.elapsed() < LATE {
            tokio::time::sleep(PAUSE).await;
        }
        if before.epoch >= self.epoch() || self.state.has_own_definitions(&self.topology) {
            return Ok(());
        }
        if !self.knows_model() {
            self.read_model().await?;
        }
        let context = self.context();
        let Ok(sql) = std::str::from_utf8(sql) else {
            return Ok(());
        };
        // The next change may hold the relation already, so that nobody can say what it is. If it is this very statement,
        // nobody else changes it before the end.
        let holds = self.transaction.changing.is_some() && has_to_itself(sql);
        while let Some(now) = self.known.model.clone()
            && is_unread(&now.plan(sql, &context))
            && begun.elapsed() < LATE
        {
            if holds {
                return Ok(());
            }
            tokio::time::sleep(PAUSE_UNREAD).await;
            self.reload_model(move |model: &DatabaseModel| model.version > now.version)
                .await?;
        }
        match &self.known.model {
            Some(now) if !goes_alike(sql, &context, [before, now]) => Err(overtaken().into()),
            _ => Ok(()),
        }
    }

    /// Takes the request at the beginning of the input, if definitions may overtake it, and it has arrived in full and can
    /// run again. False if it is another one; then nothing was taken.
    pub(super) async fn take_overtaken(&mut self) -> Result<bool, End> {
        if !self.core.shared.is_changing() || !self.is_free() {
            return Ok(false);
        }
        // What is asked by a client that has only just come is planned by what others know.
        let known = self.is_up_to_date() || self.knows_model();
        let Some(Retryable { length, effects }) = self.retryable().filter(|_| known) else {
            return Ok(false);
        };
        let mut bytes = self.core.take_scratch();
        bytes.extend_from_slice(&self.client.input()[..length]);
        self.client.consume(length);
        self.entry.pulse.begin(Doing::Running);
        for message in messages_of(&bytes) {
            self.state.tally.took(message.tag(), message.bytes.len());
        }
        let mut untold = Vec::new();
        for run in 1.. {
            let epoch = self.epoch();
            self.client.hold();
            self.client.send(&untold);
            self.request.marks.set(RequestMarks::HELD);
            let ran = Box::pin(self.run_held(&bytes)).await;
            self.request.marks.take(RequestMarks::HELD);
            let again = ran.is_ok()
                && run < MAX_RUNS
                && self.is_between_requests()
                && Box::pin(self.was_overtaken(&bytes, epoch, effects)).await;
            if !again {
                self.client.release();
                self.core.give_scratch(bytes);
                ran?;
                break;
            }
            untold = self
                .client
                .held_bytes()
                .map(not_of_request)
                .unwrap_or_default();
            self.client.discard();
            self.state.tally.repeats();
        }
        Ok(true)
    }

    /// Whether definitions have changed since `epoch`, when the request began, and it has failed by that, or would go
    /// another way now. Or a change of them and the request have waited for each other.
    async fn was_overtaken(&mut self, request: &[u8], epoch: u64, effects: Effects) -> bool {
        let Some(held) = self.client.held_bytes() else {
            return false;
        };
        match failure(held, effects.writes) {
            Some(Failure::ByDefinitions) => self.change_is_over(epoch).await,
            Some(Failure::ByDeadlock) => !effects.locks,
            Some(Failure::Otherwise) => false,
            // It is committed.
            None if effects.writes => false,
            None => {
                let Some((_, statement)) = self.request_at(request) else {
                    return false;
                };
                let used = self.known.model.clone();
                let checked = self
                    .check_not_overtaken(&statement.sql, used.as_ref())
                    .await;
                matches!(checked, Err(Halt::Fail(_)))
            }
        }
    }

    /// Whether the request has been answered, and left no transaction open.
    fn is_between_requests(&self) -> bool {
        self.state.phase == Phase::Idle
            && self.state.block == Block::None
            && !self.transaction.implicit
            && !self.state.skipping
    }

    /// The request that comes next, if it is one statement that leaves nothing behind when it fails.
    fn retryable(&self) -> Option<Retryable> {
        let (length, statement) = self.request_at(self.client.input())?;
        let [step] = statement.steps.as_slice() else {
            return None;
        };
        let can_run_again = matches!(step.kind, Kind::Plain)
            && !step.changes_schema
            && !step.copy_in
            && self.can_be_undone(&statement.sql, &statement.steps);
        let effects = Effects {
            writes: self.known.may_write(&statement.steps),
            locks: step.locks,
        };
        can_run_again.then_some(Retryable { length, effects })
    }

    /// The request at the beginning of these messages, if it has arrived in full and runs one text: its length and the
    /// text.
    fn request_at(&self, messages: &[u8]) -> Option<(usize, Rc<Prepared>)> {
        let limit = self.topology.config.limits.client_message.bytes();
        match *messages.first()? {
            tag::QUERY => {
                let Ok(Next::Whole(message)) = frame::next(messages, limit) else {
                    return None;
                };
                let statement = self.queried(frontend::query(message.body()).ok()?);
                Some((message.bytes.len(), statement))
            }
            tag::PARSE | tag::BIND => {
                let length = segment::length(messages, limit)?;
                let segment = Segment::read(&messages[..length])?;
                let statement = match &segment.parse {
                    Some(parse) => self.statement(parse),
                    None => Rc::clone(self.state.names.get(segment.bind.statement)?),
                };
                Some((length, statement))
            }
            _ => None,
        }
    }

    /// Serves the messages of a request, and waits until it is answered, unless its answer is too long to be held.
    async fn run_held(&mut self, messages: &[u8]) -> Result<(), End> {
        for message in messages_of(messages) {
            self.state.tally.begin();
            self.request.again = Again::Never;
            self.request.buffers = primary::buffers(message.bytes.len());
            let result = self.on_frame(message.tag(), message.body(), None).await;
            self.request.buffers = 0;
            self.taken(result).await?;
        }
        while self.state.phase != Phase::Idle && self.client.held().is_some() {
            self.wait().await?;
            self.show_held();
        }
        Ok(())
    }

    /// Whether definitions have changed since `epoch`. If they are being changed, that is waited for, but not for long.
    async fn change_is_over(&self, epoch: u64) -> bool {
        let begun = Instant::now();
        while self.epoch() == epoch {
            let shared = &self.core.shared;
            let most = match shared.is_committing_change() {
                true => LATE,
                false => HARDLY_LATE,
            };
            if !shared.is_changing() || begun.elapsed() > most {
                return false;
            }
            tokio::time::sleep(PAUSE).await;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_about_definitions_are_forgotten() {
        let told = |codes: &[&'static str], writes: bool| {
            let mut messages = b"N\0\0\0\x05\0".to_vec();
            for code in codes {
                Report::error(*code, "it fails").put(&mut messages);
            }
            failure(&messages, writes)
        };
        assert_eq!(told(&[], false), None);
        let by_definitions = Some(Failure::ByDefinitions);
        for code in ["08P01", "42703", "40001"] {
            assert_eq!(told(&[code, "57014"], false), by_definitions, "{code}");
        }
        assert_eq!(told(&["57014", "42703"], false), Some(Failure::Otherwise));
        assert_eq!(told(&["40P01"], false), Some(Failure::ByDeadlock));
        assert_eq!(told(&["40001"], true), by_definitions);
        assert_eq!(told(&["42703"], true), by_definitions);
        for code in ["08P01", "XX000", "08007", "23505", "40P01"] {
            assert_eq!(told(&[code], true), Some(Failure::Otherwise), "{code}");
        }
    }

    #[test]
    fn a_column_that_a_statement_does_not_use_may_change() {
        let catalog = |columns: &str| {
            let table = format!("table public.t\ncolumn id int4 not null\n{columns}");
            mothership_catalog::text::parse(&table).expect("a catalog")
        };
        let before = catalog("column v int4\n");
        let more = catalog("column v int4\ncolumn z int4\n");
        let other = catalog("column v int8\n");
        let context = mothership_plan::PlanContext::default();
        let alike = |sql: &str, now: &Catalog| finds_alike(sql, &context, [&before, now]);
        for (sql, with_more, with_other) in [
            ("SELECT count(*) FROM t", true, true),
            ("UPDATE t SET v = 1 WHERE id = 5 RETURNING id", true, false),
            ("SELECT id FROM t WHERE z = 1", false, true),
            ("SELECT * FROM t", false, false),
            ("INSERT INTO t VALUES (1)", false, false),
            ("INSERT INTO t (id) VALUES (1)", true, true),
            ("INSERT INTO t (id, v) VALUES (1, 2)", true, false),
            ("SELECT 1", true, true),
        ] {
            assert_eq!(alike(sql, &more), with_more, "{sql}");
            assert_eq!(alike(sql, &other), with_other, "{sql}");
        }
        for (default, stored_alike) in [
            ("5", true),
            ("now()", false),
            ("random()", false),
            ("nextval", false),
        ] {
            let now = catalog(&format!("column v int4\ncolumn z int4 default {default}\n"));
            let sql = "INSERT INTO t (id) VALUES (1)";
            assert_eq!(alike(sql, &now), stored_alike, "{default}");
        }
        // A name of several words.
        let [before, now] = ["int4", "text"].map(|of| {
            let mut catalog = catalog(&format!("column v {of}\n"));
            for relation in catalog.relations.values_mut() {
                relation.columns[1].name = "unit price".to_owned();
            }
            catalog
        });
        let sql = "SELECT id, \"unit price\" FROM t";
        assert!(!finds_alike(sql, &context, [&before, &now]));
    }

    #[test]
    fn what_may_be_stored_is_another_matter_than_what_is_read() {
        let catalog = |check: &str| {
            let table = format!("table public.t\ncolumn id int4 not null\n{check}");
            mothership_catalog::text::parse(&table).expect("a catalog")
        };
        let before = catalog("");
        let plain = catalog("check t_check (id = ANY (ARRAY[1, 2]))\n");
        let calling = catalog("check t_check is_good(id)\n");
        let context = mothership_plan::PlanContext::default();
        for (sql, alike) in [
            ("SELECT count(*) FROM t", true),
            ("SELECT id FROM t WHERE id > 5", true),
            ("UPDATE t SET id = 1", false),
            ("DELETE FROM t", false),
            ("INSERT INTO t (id) VALUES (1)", false),
        ] {
            assert!(finds_alike(sql, &context, [&before, &plain]), "{sql}");
            assert_eq!(
                finds_alike(sql, &context, [&before, &calling]),
                alike,
                "{sql}"
            );
        }
    }

    #[test]
    fn what_is_told_once_is_not_forgotten() {
        let setting = b"S\0\0\0\x09a\0b\0\0";
        let mut messages = b"N\0\0\0\x05\0".to_vec();
        messages.extend_from_slice(setting);
        Report::error("42703", "it fails").put(&mut messages);
        assert_eq!(not_of_request(&messages), setting);
    }
}
