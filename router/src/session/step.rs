//! What the session has to do about one statement, besides passing it on.
//!
//! Pure. [`steps`] reads a text into [`Step`]s that own what the session needs
//! after the server has answered: the change of a setting, the end of a
//! transaction, the reason to keep the server. The analysis itself is `sql`'s;
//! this file turns it into decisions.

use super::settings::{Change, Setting, Value};
use super::temporary::Makes;
use crate::sql::cursor::{Cursor, Span};
use crate::sql::effect::{
    Analysis, Argument, CopyEnd, Direction, DiscardWhat, Effects, FunctionName, Isolation, Object,
    Pin, Scope, SetConfig, SetConfigCall, SetValue, Statement, Target, Verb, Writes, analyse,
};
use crate::sql::encoding::safe_encoding;
use crate::sql::functions::is_known_to_read;
use crate::sql::lexer::{Lexer, Token};
use crate::sql::name::Name;
use crate::sql::split::split;
use mothership_proto::report::{Report, sqlstate};

/// Reasons to stay on a server, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pins(u16);

impl Pins {
    /// No reason.
    pub const NONE: Self = Self(0);

    /// One more reason.
    pub fn with(self, pin: Pin) -> Self {
        Self(self.0 | 1 << pin as u16)
    }

    /// All reasons of both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The reasons of `self` that are not in `other`.
    pub fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// True without a reason.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The reasons in words.
    pub fn reasons(self) -> impl Iterator<Item = &'static str> {
        Pin::ALL
            .into_iter()
            .filter(move |&pin| self.has(pin))
            .map(Pin::reason)
    }

    /// True if `pin` is one of the reasons.
    pub fn has(self, pin: Pin) -> bool {
        self.0 & (1 << pin as u16) != 0
    }
}

/// What a statement means for the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: it goes to a server as it stands.
    Plain,
    /// It begins a transaction block; the modes as written.
    Begin(String),
    /// It ends the block, and with `chain` begins another.
    Commit {
        /// `AND CHAIN`
        chain: bool,
    },
    /// It undoes the block.
    Rollback {
        /// `AND CHAIN`
        chain: bool,
    },
    /// PREPARE TRANSACTION: the block ends and its settings stay.
    PrepareTransaction,
    /// COMMIT PREPARED or ROLLBACK PREPARED: the name.
    FinishPrepared(String),
    /// It sets a savepoint.
    Savepoint(String),
    /// It goes back to one.
    RollbackTo(String),
    /// It forgets one.
    Release(String),
    /// It changes settings of the session.
    Settings(Vec<Change>),
    /// It makes a prepared statement at the SQL level.
    Prepare(Vec<u8>),
    /// It runs one; also EXPLAIN EXECUTE.
    Execute(Vec<u8>),
    /// It drops one, or all.
    Deallocate(Option<Vec<u8>>),
    /// SET TRANSACTION, SET CONSTRAINTS: whole, for every server of the transaction.
    SetTransaction(String),
    /// SET LOCAL: the same, and what it changes.
    SetLocal(Change, String),
    /// set_config(..., true) with literals; `None` with parameters, which cannot be told
    /// to a server that joins later.
    LocalConfig(Option<Vec<Change>>),
    /// It declares a cursor.
    Declare(String),
    /// It works on a cursor: FETCH, MOVE.
    Cursor(String),
    /// CLOSE of one cursor.
    Close(String),
    /// CLOSE ALL: every server of the session closes its own.
    CloseAll,
    /// It throws away what belongs to the session.
    Discard(DiscardWhat),
    /// EXPLAIN (ROUTE): the router says where this statement would go.
    ExplainRoute(Span),
    /// It is not done.
    Refuse(Report),
}

/// One statement of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it stands.
    pub span: Span,
    /// What it means for the session.
    pub kind: Kind,
    /// Why the session must stay on the server after it.
    pub pins: Pins,
    /// Reasons that it removes.
    pub unpins: Pins,
    /// Only reads, as far as tokens can prove.
    pub reads_only: bool,
    /// Whether its loss would leave the outcome unknown.
    pub writes: bool,
    /// The functions that it calls and that are not known to PostgreSQL: they may write.
    pub calls: Box<[Box<str>]>,
    /// Changes definitions: prepared statements and the catalog are older than it.
    pub changes_schema: bool,
    /// A sequence may stand elsewhere after it: values that were taken from it are old.
    pub moves_sequence: bool,
    /// Takes the name of the statement for PREPARE and EXECUTE.
    pub name_span: Option<Span>,
    /// COPY FROM STDIN.
    pub copy_in: bool,
    /// What it does to the temporary names of the session.
    pub makes: Makes,
    /// Makes or changes what the planner must know to place other statements.
    pub defines: Defines,
    /// Reads or writes rows of something that it names.
    pub names_rows: bool,
    /// EXPLAIN of a query or a write: where that stands.
    pub explains: Option<Span>,
}

impl Step {
    /// Whether the planner may need the catalog as it is afterwards. It knows no temporary objects.
    pub fn redefines(&self) -> bool {
        self.changes_schema && !self.moves_sequence && !self.pins.has(Pin::TempObject)
    }
}

/// What a statement defines, for statements after it in the same transaction, which
/// the planner cannot see in the catalog yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Defines {
    /// Nothing that matters.
    #[default]
    Nothing,
    /// A table, whose place may follow from its definition.
    Table,
    /// A view, function, trigger or rule, behind which other tables are.
    More,
}

/// Reads every statement of `sql`; none for an empty text.
pub fn steps(sql: &[u8], standard_conforming_strings: bool) -> Vec<Step> {
    split(sql, standard_conforming_strings)
        .filter(|part| !part.empty)
        .map(|part| step(sql, part.span, standard_conforming_strings))
        .collect()
}

/// What the body of a `PREPARE` means when it is executed. Any other text is its own body.
pub fn prepared_steps(sql: &[u8], standard_conforming_strings: bool) -> Vec<Step> {
    match analyse(sql, standard_conforming_strings).statement {
        Statement::Prepare { body, .. } => {
            let mut steps = steps(body.of(sql), standard_conforming_strings);
            for step in &mut steps {
                step.span = shift(step.span, body.start);
                step.name_span = step.name_span.map(|span| shift(span, body.start));
            }
            steps
        }
        _ => steps(sql, standard_conforming_strings),
    }
}

fn step(sql: &[u8], span: Span, scs: bool) -> Step {
    let text = span.of(sql);
    let Analysis { statement, effects } = analyse(text, scs);
    if let Statement::Explain {
        route: true, inner, ..
    } = statement
    {
        return explain_route(span, shift(inner, span.start));
    }
    let mut pins = effects.pins().fold(Pins::NONE, Pins::with);
    let mut kind = kind(&statement, text);
    match (&kind, set_config(&effects.set_config)) {
        (_, None) => pins = pins.with(Pin::UnclearSetting),
        (Kind::Plain, Some(changes)) => match (local_config(&effects.set_config), changes) {
            (None, changes) if changes.is_empty() => {}
            (None, changes) => kind = Kind::Settings(changes),
            (Some(local), changes) if changes.is_empty() => kind = local,
            // Some for the session and some for the transaction, in one statement.
            (Some(_), _) => pins = pins.with(Pin::UnclearSetting),
        },
        _ => {}
    }
    // What replay would have to repeat in another encoding cannot be replayed.
    let is_setting = matches!(
        kind,
        Kind::Settings(_) | Kind::SetLocal(..) | Kind::LocalConfig(_)
    );
    let client_encoding = effects_encoding(&kind);
    if let Some(encoding) = client_encoding {
        kind = Kind::Refuse(unsafe_encoding(&encoding));
    }
    if stores_prepared(&statement, text, scs) {
        kind = Kind::Refuse(create_as_execute_refused());
    }
    if is_setting && !text.is_ascii() || unreplayable(&statement) {
        pins = pins.with(Pin::UnclearSetting);
        kind = Kind::Plain;
    }
    let read = matches!(
        statement,
        Statement::Select | Statement::Show(_) | Statement::ShowAll
    );
    let moves_sequence = sets_sequence(&statement, &effects, text, scs);
    Step {
        span,
        pins,
        unpins: unpins(&statement),
        reads_only: read && effects.reads_only(),
        writes: effects.writes != Writes::No || !read,
        calls: calls(&effects),
        changes_schema: matches!(
            statement,
            Statement::Ddl { .. } | Statement::Do | Statement::Call
        ) || effects.opaque
            || moves_sequence,
        moves_sequence,
        makes: Makes::of(&statement, pins, text, scs),
        defines: defines(&statement),
        names_rows: names_rows(&statement, text, scs),
        copy_in: matches!(
            statement,
            Statement::Copy {
                direction: Direction::In,
                end: CopyEnd::Client,
                ..
            }
        ),
        name_span: name_span(&statement, text, scs).map(|s| shift(s, span.start)),
        explains: explains(&statement, text, scs).map(|s| shift(s, span.start)),
        kind,
    }
}

/// Whether a sequence may stand elsewhere afterwards, so that the values which were taken from it are old.
fn sets_sequence(statement: &Statement<'_>, effects: &Effects<'_>, text: &[u8], scs: bool) -> bool {
    let sets = |function: &FunctionName<'_>| function.name == "setval";
    let restarts = |token: Token| token.text(text).eq_ignore_ascii_case(b"restart");
    effects.functions.iter().any(sets)
        || matches!(statement, Statement::Truncate) && Lexer::new(text, scs).any(restarts)
}

/// EXPLAIN (ROUTE) executes nothing, whatever else its options say.
fn explain_route(span: Span, inner: Span) -> Step {
    Step {
        span,
        kind: Kind::ExplainRoute(inner),
        pins: Pins::NONE,
        unpins: Pins::NONE,
        reads_only: true,
        writes: false,
        calls: Box::default(),
        changes_schema: false,
        moves_sequence: false,
        name_span: None,
        copy_in: false,
        makes: Makes::Nothing,
        defines: Defines::Nothing,
        names_rows: false,
        explains: None,
    }
}

/// The query or write that an EXPLAIN explains.
fn explains(statement: &Statement<'_>, text: &[u8], scs: bool) -> Option<Span> {
    use Statement as S;
    let S::Explain {
        inner,
        route: false,
        ..
    } = statement
    else {
        return None;
    };
    let explained = analyse(inner.of(text), scs).statement;
    matches!(
        explained,
        S::Select | S::Insert | S::Update | S::Delete | S::Merge
    )
    .then_some(*inner)
}

/// The functions of others than PostgreSQL that are called, by their names alone.
fn calls(effects: &Effects<'_>) -> Box<[Box<str>]> {
    let unknown = effects.functions.iter().filter(|function| {
        let built_in = function.schema.as_ref().is_none_or(|s| *s == "pg_catalog");
        let known = function.name.as_str().is_some_and(is_known_to_read);
        !(built_in && known) && function.special().is_none()
    });
    let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into();
    unknown.map(|f| name(f.name.as_bytes())).collect()
}

/// Calls of set_config that hold for the transaction only.
fn local_config(calls: &SetConfig<'_>) -> Option<Kind> {
    let SetConfig::Calls(calls) = calls else {
        return None;
    };
    let mut local = calls.iter().filter(|call| is_local(call)).peekable();
    local.peek()?;
    let change = |call: &SetConfigCall<'_>| match (&call.name, &call.value) {
        (Argument::Text(name), Argument::Text(value)) => Some(Change::Set(Setting {
            name: name.as_str()?.to_owned(),
            value: Value::Text(value.as_str()?.to_owned()),
        })),
        (Argument::Text(name), Argument::Null) => Some(Change::Reset(name.as_str()?.to_owned())),
        _ => None,
    };
    Some(Kind::LocalConfig(local.map(change).collect()))
}

/// Whether what a call sets ends with the transaction, whatever its last argument says.
fn is_local(call: &SetConfigCall<'_>) -> bool {
    call.local || matches!(&call.name, Argument::Text(name) if is_of_transaction(name))
}

/// Settings that no session has, only a transaction (manual, SET TRANSACTION).
fn is_of_transaction(name: &Name<'_>) -> bool {
    [
        "transaction_isolation",
        "transaction_read_only",
        "transaction_deferrable",
    ]
    .iter()
    .any(|setting| *name == *setting)
}

fn defines(statement: &Statement<'_>) -> Defines {
    match statement {
        Statement::Ddl {
            verb: Verb::Create | Verb::Alter,
            object: Object::Table,
        } => Defines::Table,
        Statement::Ddl {
            verb: Verb::Create | Verb::Alter,
            object:
                Object::View
                | Object::MaterializedView
                | Object::Routine
                | Object::Trigger
                | Object::Rule
                | Object::Extension
                | Object::Schema,
        }
        | Statement::Do
        | Statement::Call => Defines::More,
        _ => Defines::Nothing,
    }
}

fn names_rows(statement: &Statement<'_>, text: &[u8], scs: bool) -> bool {
    match statement {
        Statement::Insert
        | Statement::Update
        | Statement::Delete
        | Statement::Merge
        | Statement::Copy { .. } => true,
        Statement::Select | Statement::Declare { .. } | Statement::Explain { .. } => {
            Lexer::new(text, scs).any(|token| {
                ["from", "table"]
                    .iter()
                    .any(|w| token.text(text).eq_ignore_ascii_case(w.as_bytes()))
            })
        }
        _ => false,
    }
}

/// The encoding that set_config chooses, if it is not a safe one.
fn effects_encoding(kind: &Kind) -> Option<String> {
    let Kind::Settings(changes) = kind else {
        return None;
    };
    changes.iter().find_map(|change| match change {
        Change::Set(Setting {
            name,
            value: Value::Text(value),
        }) if name == "client_encoding" && !safe_encoding(value) => Some(value.clone()),
        _ => None,
    })
}

fn shift(span: Span, by: usize) -> Span {
    Span {
        start: span.start + by,
        end: span.end + by,
    }
}

fn kind(statement: &Statement<'_>, text: &[u8]) -> Kind {
    use Statement as S;
    let name = |n: &Name<'_>| String::from_utf8_lossy(n.as_bytes()).into_owned();
    match statement {
        S::Begin { modes_span, .. } => Kind::Begin(lossy(modes_span.of(text))),
        S::Commit { chain } => Kind::Commit { chain: *chain },
        S::Rollback { chain } => Kind::Rollback { chain: *chain },
        S::PrepareTransaction(_) => Kind::PrepareTransaction,
        S::CommitPrepared(n) | S::RollbackPrepared(n) => Kind::FinishPrepared(name(n)),
        S::Savepoint(n) => Kind::Savepoint(name(n)),
        S::RollbackTo(n) => Kind::RollbackTo(name(n)),
        S::Release(n) => Kind::Release(name(n)),
        // SET TRANSACTION by another name: it ends with the transaction, and comes before its first query.
        S::Set { name: n, .. } | S::Reset(n) if is_of_transaction(n) => {
            Kind::SetTransaction(lossy(text))
        }
        S::Set {
            scope: Scope::Session,
            name: n,
            value,
        } => match value {
            SetValue::Default => Kind::Settings(vec![Change::Reset(name(n))]),
            SetValue::Given { text: value, .. } => match value.as_ref().and_then(Name::as_str) {
                Some(encoding) if *n == "client_encoding" && !safe_encoding(encoding) => {
                    Kind::Refuse(unsafe_encoding(encoding))
                }
                _ => Kind::Settings(vec![written(name(n), text)]),
            },
            SetValue::FromCurrent => Kind::Plain,
        },
        S::SetTransaction(_) | S::SetTransactionSnapshot(_) | S::SetConstraints => {
            Kind::SetTransaction(lossy(text))
        }
        S::Set {
            scope: Scope::Local,
            name: n,
            value,
        } => match value {
            SetValue::Default => Kind::SetLocal(Change::Reset(name(n)), lossy(text)),
            SetValue::Given { text: value, .. } => match value.as_ref().and_then(Name::as_str) {
                Some(encoding) if *n == "client_encoding" && !safe_encoding(encoding) => {
                    Kind::Refuse(unsafe_encoding(encoding))
                }
                _ => Kind::SetLocal(written(name(n), text), lossy(text)),
            },
            SetValue::FromCurrent => Kind::Plain,
        },
        S::SetRole {
            scope: Scope::Local,
            role,
        } => Kind::SetLocal(role_change("role", role, text), lossy(text)),
        S::SetSessionAuthorization {
            scope: Scope::Local,
            role,
        } => Kind::SetLocal(
            role_change("session_authorization", role, text),
            lossy(text),
        ),
        S::Declare { name: n, .. } => Kind::Declare(name(n)),
        S::Fetch { name: n, .. } | S::Move { name: n, .. } => Kind::Cursor(name(n)),
        S::Close(Some(n)) => Kind::Close(name(n)),
        S::Close(None) => Kind::CloseAll,
        S::Reset(n) => Kind::Settings(vec![Change::Reset(name(n))]),
        S::ResetAll => Kind::Settings(vec![Change::RESET_ALL]),
        S::SetRole {
            scope: Scope::Session,
            role,
        } => Kind::Settings(vec![role_change("role", role, text)]),
        S::SetSessionAuthorization {
            scope: Scope::Session,
            role,
        } => Kind::Settings(vec![role_change("session_authorization", role, text)]),
        S::Prepare { name, .. } => Kind::Prepare(name.as_bytes().to_vec()),
        S::Execute { name, .. } => Kind::Execute(name.as_bytes().to_vec()),
        S::Deallocate(n) => Kind::Deallocate(n.as_ref().map(|n| n.as_bytes().to_vec())),
        S::Discard(what) => Kind::Discard(*what),
        S::Explain { inner, .. } => match analyse(inner.of(text), true).statement {
            S::Execute { name, .. } => Kind::Execute(name.as_bytes().to_vec()),
            _ => Kind::Plain,
        },
        S::SetSessionCharacteristics(_) => Kind::Settings(characteristics(statement)),
        _ => Kind::Plain,
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A setting as the client wrote it.
fn written(name: String, text: &[u8]) -> Change {
    let value = Value::Statement(lossy(text));
    Change::Set(Setting { name, value })
}

fn role_change(name: &str, role: &Target<'_>, text: &[u8]) -> Change {
    match role {
        Target::Original => Change::Reset(name.to_owned()),
        Target::Role(_) => written(name.to_owned(), text),
    }
}

/// SET SESSION CHARACTERISTICS is a way to write three settings.
fn characteristics(statement: &Statement<'_>) -> Vec<Change> {
    let Statement::SetSessionCharacteristics(modes) = statement else {
        return Vec::new();
    };
    let on = |b: bool| if b { "on" } else { "off" };
    let isolation = modes.isolation.map(|level| match level {
        Isolation::ReadUncommitted => "read uncommitted",
        Isolation::ReadCommitted => "read committed",
        Isolation::RepeatableRead => "repeatable read",
        Isolation::Serializable => "serializable",
    });
    [
        ("default_transaction_isolation", isolation),
        ("default_transaction_read_only", modes.read_only.map(on)),
        ("default_transaction_deferrable", modes.deferrable.map(on)),
    ]
    .into_iter()
    .filter_map(|(name, value)| {
        Some(Change::Set(Setting {
            name: name.to_owned(),
            value: Value::Text(value?.to_owned()),
        }))
    })
    .collect()
}

/// Settings whose replay would not mean the same.
fn unreplayable(statement: &Statement<'_>) -> bool {
    matches!(
        statement,
        Statement::Unclear
            | Statement::Set {
                value: SetValue::FromCurrent,
                ..
            }
    )
}

/// Clear calls of set_config with literals are SET. With parameters they are not
/// known before Bind: `None`, and the session is pinned.
fn set_config(calls: &SetConfig<'_>) -> Option<Vec<Change>> {
    let SetConfig::Calls(calls) = calls else {
        // Unclear mentions are pinned by the effects already.
        return Some(Vec::new());
    };
    let session = calls.iter().filter(|call| !is_local(call));
    session
        .map(|call| match (&call.name, &call.value) {
            (Argument::Text(name), Argument::Text(value)) => Some(Change::Set(Setting {
                name: name.as_str()?.to_owned(),
                value: Value::Text(value.as_str()?.to_owned()),
            })),
            _ => None,
        })
        .collect()
}

/// Which reasons to stay a statement removes.
fn unpins(statement: &Statement<'_>) -> Pins {
    match statement {
        Statement::Unlisten(None) => Pins::NONE.with(Pin::Listen),
        Statement::Close(None) => Pins::NONE.with(Pin::HoldCursor),
        Statement::Discard(DiscardWhat::Temp) => Pins::NONE.with(Pin::TempObject),
        _ => Pins::NONE,
    }
}

/// Where the name stands that PREPARE and EXECUTE give: it is replaced by ours.
fn name_span(statement: &Statement<'_>, text: &[u8], scs: bool) -> Option<Span> {
    let (start, text) = match statement {
        Statement::Prepare { .. } | Statement::Execute { .. } => (0, text),
        Statement::Explain { inner, .. } => (inner.start, inner.of(text)),
        _ => return None,
    };
    let token = Lexer::new(text, scs).nth(1)?;
    Some(Span {
        start: start + token.start,
        end: start + token.end,
    })
}

/// Whether it is CREATE TABLE ... AS EXECUTE: servers know prepared statements under other names.
fn stores_prepared(statement: &Statement<'_>, text: &[u8], scs: bool) -> bool {
    let create = matches!(
        statement,
        Statement::Ddl {
            verb: Verb::Create,
            object: Object::Table,
        }
    );
    let mut c = Cursor::new(text, scs);
    while create && !c.at_end() {
        if c.eat_all(&["as", "execute"]) {
            return true;
        }
        if c.group().is_none() {
            c.bump();
        }
    }
    false
}

fn create_as_execute_refused() -> Report {
    let message = "CREATE TABLE AS EXECUTE is not supported";
    Report::error(sqlstate::FEATURE_NOT_SUPPORTED, message)
        .hint("Use CREATE TABLE AS with the statement itself.")
}

/// The refusal of an encoding in which a quote may be half of a character.
pub fn unsafe_encoding(name: &str) -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        format!("client_encoding \"{name}\" is not supported"),
    )
    .detail("in this encoding bytes of ASCII characters may be parts of other characters, so statements cannot be read safely")
    .hint("Use UTF8.")
}

/// The refusal of `currval` and `lastval` away from the connection that knows.
pub fn currval_refused() -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "currval and lastval need the server connection that called nextval",
    )
    .detail("in transaction pooling the next statement may run on another connection")
    .hint("Use INSERT ... RETURNING, or pool_mode = \"session\" for this user or database.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(sql: &str) -> Step {
        let mut all = steps(sql.as_bytes(), true);
        assert_eq!(all.len(), 1, "{sql}");
        all.remove(0)
    }

    #[test]
    fn transaction_control_is_known_however_it_is_written() {
        let modes = "ISOLATION LEVEL SERIALIZABLE, READ ONLY";
        assert_eq!(one("begin").kind, Kind::Begin(String::new()));
        assert_eq!(
            one(&format!("START /* x */ TRANSACTION {modes};")).kind,
            Kind::Begin(modes.into())
        );
        assert_eq!(one("END").kind, Kind::Commit { chain: false });
        assert_eq!(one("ABORT AND CHAIN").kind, Kind::Rollback { chain: true });
        assert_eq!(one("SAVEPOINT \"A b\"").kind, Kind::Savepoint("A b".into()));
        assert_eq!(one("rollback to s").kind, Kind::RollbackTo("s".into()));
    }

    #[test]
    fn settings_are_followed_and_unclear_ones_pin() {
        let Kind::Settings(changes) = one("SET TIME ZONE 'UTC'").kind else {
            panic!("SET is a setting")
        };
        assert_eq!(
            changes,
            [Change::Set(Setting {
                name: "timezone".into(),
                value: Value::Statement("SET TIME ZONE 'UTC'".into())
            })]
        );
        assert_eq!(
            one("SET LOCAL search_path = a, b").kind,
            Kind::SetLocal(
                Change::Set(Setting {
                    name: "search_path".into(),
                    value: Value::Statement("SET LOCAL search_path = a, b".into())
                }),
                "SET LOCAL search_path = a, b".into()
            )
        );
        for sql in [
            "SET transaction_isolation = 'serializable'",
            "SET LOCAL transaction_read_only TO on",
            "RESET transaction_deferrable",
        ] {
            assert_eq!(one(sql).kind, Kind::SetTransaction(sql.into()));
        }
        let local = "SET LOCAL work_mem TO DEFAULT";
        assert_eq!(
            one(local).kind,
            Kind::SetLocal(Change::Reset("work_mem".into()), local.into())
        );
        assert_eq!(
            one("SELECT set_config('Role', 'x', true), set_config('a.b', null, true)").kind,
            Kind::LocalConfig(Some(vec![
                Change::Set(Setting {
                    name: "role".into(),
                    value: Value::Text("x".into())
                }),
                Change::Reset("a.b".into())
            ]))
        );
        assert_eq!(
            one("SELECT set_config('a.b', $1, true)").kind,
            Kind::LocalConfig(None)
        );
        assert!(one("SET LOCAL work_mem = '1MB'").pins.is_empty());
        assert!(matches!(
            one("SELECT pg_catalog.set_config('search_path', '', false)").kind,
            Kind::Settings(_)
        ));
        assert_eq!(
            one("SELECT set_config('transaction_isolation', 'serializable', false)").kind,
            Kind::LocalConfig(Some(vec![Change::Set(Setting {
                name: "transaction_isolation".into(),
                value: Value::Text("serializable".into())
            })]))
        );
        for unclear in [
            "SELECT set_config('search_path', $1, false)",
            "SELECT set_config('a.b', c, false) FROM t",
            "SET application_name = 'žluť'",
            "DO $$ begin perform set_config('a.b', 'c', false); end $$",
            "SELECT set_config('a.b', 'c', false), set_config('a.b', 'd', true)",
        ] {
            assert!(!one(unclear).pins.is_empty(), "{unclear}");
        }
        assert!(one("SELECT set_config('a.b', 'x', true)").pins.is_empty());
    }

    #[test]
    fn a_call_of_a_function_that_is_not_built_in_may_write() {
        for (sql, calls) in [
            (
                "SELECT count(*), coalesce(max(a), 0) FROM t WHERE lower(b) LIKE 'x'",
                &[][..],
            ),
            (
                "SELECT a::varchar(10), pg_catalog.upper(b), now(), random() FROM t",
                &[],
            ),
            (
                "SELECT extract(year FROM d), row_number() OVER (ORDER BY d) FROM t",
                &[],
            ),
            ("SELECT pg_sleep(1), nextval('s')", &[]),
            ("SELECT f(1), app.upper('x'), \"G\"()", &["f", "upper", "G"]),
            ("SELECT * FROM f() WHERE lower(g(a)) = 'x'", &["f", "g"]),
        ] {
            let step = one(sql);
            let found: Vec<&str> = step.calls.iter().map(|name| &**name).collect();
            assert_eq!(found, calls, "{sql}");
        }
    }

    #[test]
    fn the_name_of_a_prepared_statement_is_found_to_be_replaced() {
        for (sql, name) in [
            ("PREPARE q(int) AS SELECT $1", "q"),
            ("EXECUTE \"Q x\"(1)", "\"Q x\""),
            ("EXPLAIN (ANALYZE) EXECUTE q(1)", "q"),
        ] {
            let step = one(sql);
            assert_eq!(
                step.name_span.map(|s| s.of(sql.as_bytes())),
                Some(name.as_bytes())
            );
        }
    }

    #[test]
    fn explain_route_executes_nothing_and_knows_its_statement() {
        let sql =
            "SELECT 1; EXPLAIN (ANALYZE, ROUTE) DELETE FROM t WHERE pg_advisory_lock(1) IS NULL";
        let step = steps(sql.as_bytes(), true).remove(1);
        let Kind::ExplainRoute(inner) = step.kind else {
            panic!("{:?}", step.kind)
        };
        assert!(inner.of(sql.as_bytes()).starts_with(b"DELETE"));
        assert!(step.pins.is_empty() && !step.writes);
        assert_eq!(one("EXPLAIN (ROUTE off) SELECT 1").kind, Kind::Plain);
    }

    #[test]
    fn spans_are_those_of_the_whole_text() {
        let sql = b"select 1;; execute q(2)";
        let all = steps(sql, true);
        assert_eq!(all.len(), 2);
        assert_eq!(all[1].name_span.map(|s| s.of(sql)), Some(&b"q"[..]));
    }
}
