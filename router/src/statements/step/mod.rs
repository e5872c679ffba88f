//! What the session has to do about one statement, besides passing it on.
//!
//! Pure. [`steps`] reads a text into [`Step`]s that own what the session needs
//! after the server has answered: the change of a setting, the end of a
//! transaction, the reason to keep the server. The analysis itself is `sql`'s;
//! this file turns it into decisions.

mod kind;
mod replay;
#[cfg(test)]
mod tests;

pub use kind::create_as_execute_refused;
pub use kind::{Kind, refusal};
pub use mothership_sql::effect::Pins;
pub use replay::written;

use kind::{clouds, local_config, refused_config, set_config, stored};

use super::temporary::CreatesTemporary;
use mothership_catalog::types::words;
use mothership_proto::report::{Report, sqlstate};
use mothership_sql::cursor::{Cursor, Span};
use mothership_sql::effect::{
    Analysis, CopyEnd, Direction, DiscardWhat, Effects, FunctionName, Object, Pin, Statement, Verb,
    Writes, analyse,
};
use mothership_sql::functions::is_known_to_read;
use mothership_sql::lexer::{Lexer, Token};
use mothership_sql::split::split;

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
    /// It may lock rows or tables, and wait for others who do.
    pub locks: bool,
    /// The functions that it calls and that are not known to PostgreSQL: they may write.
    pub calls: Box<[Box<str>]>,
    /// Changes definitions: prepared statements and the catalog are older than it.
    pub changes_schema: bool,
    /// What it changes are temporary relations of its own session, which no catalog that others plan by has.
    pub only_temporary: bool,
    /// A sequence may stand elsewhere after it: values that were taken from it are old.
    pub moves_sequence: bool,
    /// The same, and nobody else can ask the sequence before the transaction ends: TRUNCATE ... RESTART IDENTITY.
    pub locks_sequence: bool,
    /// Takes the name of the statement for PREPARE and EXECUTE.
    pub name_span: Option<Span>,
    /// CREATE TABLE AS EXECUTE, or an EXPLAIN of it.
    pub stores: bool,
    /// COPY FROM STDIN.
    pub copy_in: bool,
    /// What it does to the temporary names of the session.
    pub makes: CreatesTemporary,
    /// Makes or changes what the planner must know to place other statements.
    pub defines: Defines,
    /// Reads or writes rows of something that it names.
    pub names_rows: bool,
    /// EXPLAIN of a query or a write: where that stands.
    pub explains: Option<Span>,
    /// What the code that it defines may leave in a session.
    pub makes_code: CodeEffects,
    /// It creates a function or procedure, and calls none that its text names.
    pub creates_function: bool,
    /// Afterwards names may have code behind them that had none, even if it touches nothing that has.
    pub changes_code: bool,
    /// Whose defaults it changes.
    pub alters: Alters,
    /// Sets something of PostgreSQL's for the transaction to a value that tokens do not show.
    pub clouds: bool,
    /// Names something that tells or takes numbers of processes.
    pub processes: bool,
    /// NOTIFY, or a call of `pg_notify`.
    pub notifies: bool,
    /// The database in which nobody may be while it runs.
    pub empties: Option<Box<str>>,
}

/// What the code of a definition may leave in a session, until it is known with all other code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CodeEffects {
    /// There is none.
    #[default]
    Nothing,
    /// What the code that it calls leaves, by whatever name.
    Calls,
    /// Anything.
    Leaves,
}

impl Step {
    /// Whether it runs code that was opened or put off before it: the query of a cursor, deferred triggers.
    pub fn runs_late(&self) -> bool {
        match &self.kind {
            Kind::Cursor(_) => true,
            Kind::SetTransaction(text) => text.starts_with("SET CONSTRAINTS"),
            _ => false,
        }
    }

    /// Whether the planner may need the catalog as it is afterwards. It knows no temporary objects.
    pub fn redefines(&self) -> bool {
        let keeps = self.moves_sequence && !self.locks_sequence;
        self.changes_schema && !keeps && !self.pins.has(Pin::TempObject)
    }

    /// Whether what others know of definitions may be old after it.
    pub fn concerns_others(&self) -> bool {
        self.changes_schema && !self.only_temporary
    }

    /// Whether it may run the functions that its text `sql` names, and does not only define what will.
    pub fn runs_code(&self, sql: &str) -> bool {
        let fills = || words(sql).any(|word| word.eq_ignore_ascii_case("as"));
        match self.defines {
            Defines::Nothing => true,
            // CREATE TABLE AS
            Defines::Table | Defines::Altered => fills(),
            Defines::More => false,
        }
    }
}

/// What a statement defines, for statements after it in the same transaction, which
/// the planner cannot see in the catalog yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Defines {
    /// Nothing that matters.
    #[default]
    Nothing,
    /// A new table, whose place may follow from its definition.
    Table,
    /// Something else about a table: what is stored in it, and where, may follow from that.
    Altered,
    /// A view, function, trigger, rule or policy, behind which other tables are.
    More,
}

/// Whose defaults or rights to connect a statement changes: what their sessions begin with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Alters {
    /// Nobody's.
    #[default]
    Nothing,
    /// Nobody's, but how a role logs in.
    Login,
    /// Perhaps everybody's.
    All,
    /// Those of the session's own role.
    Own,
    /// Those of a role.
    Role(Box<str>),
    /// Those of a database.
    Database(Box<str>),
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
    let known = kind::of(&statement, text, scs);
    let replayable = known.is_some();
    let stored = stored(&statement, text, scs);
    let mut kind = match &stored {
        Some((name, _)) => Kind::Execute(name.clone()),
        None => known.unwrap_or(Kind::Plain),
    };
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
    if let Some(report) = refused_config(&kind) {
        kind = Kind::Refuse(report);
    }
    if is_setting && !text.is_ascii() || !replayable {
        pins = pins.with(Pin::UnclearSetting);
        kind = Kind::Plain;
    }
    let read = matches!(
        statement,
        Statement::Select | Statement::Show(_) | Statement::ShowAll
    );
    let moves_sequence = sets_sequence(&statement, &effects, text, scs);
    let makes_code = makes_code(&statement, text);
    let makes = CreatesTemporary::of(&statement, pins, text, scs);
    Step {
        span,
        pins,
        unpins: unpins(&statement),
        reads_only: read && effects.reads_only(),
        writes: effects.writes != Writes::No || !read,
        locks: effects.locking || effects.writes != Writes::No,
        calls: calls(&effects),
        changes_schema: matches!(
            statement,
            Statement::Ddl { .. } | Statement::Do | Statement::Call
        ) || effects.opaque
            || moves_sequence,
        locks_sequence: moves_sequence && statement == Statement::Truncate,
        moves_sequence,
        only_temporary: matches!(makes, CreatesTemporary::Temporary(_)) && !joins_another(text),
        makes,
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
        makes_code,
        creates_function: matches!(
            statement,
            Statement::Ddl {
                verb: Verb::Create,
                object: Object::Routine
            }
        ),
        changes_code: effects.opaque || changes_code(&statement, makes_code),
        alters: alters(&statement, text, scs),
        clouds: clouds(&effects.set_config),
        name_span: match &stored {
            Some((_, span)) => Some(*span),
            None => name_span(&statement, text, scs),
        }
        .map(|s| shift(s, span.start)),
        stores: stored.is_some(),
        explains: explains(&statement, text, scs).map(|s| shift(s, span.start)),
        processes: match &statement {
            Statement::Prepare { body, .. } => analyse(body.of(text), scs).effects.processes,
            _ => effects.processes,
        },
        notifies: matches!(statement, Statement::Notify(_))
            || effects
                .functions
                .iter()
                .any(|function| function.name == "pg_notify"),
        empties: empties(&statement, text, scs),
        kind,
    }
}

/// Whether a temporary table may become a part of another one, which changes that.
fn joins_another(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let joins = |word: &str| ["inherits", "partition"].contains(&&*word.to_ascii_lowercase());
    words(&text).any(joins)
}

/// The database that a statement drops, renames, moves or copies.
fn empties(statement: &Statement<'_>, text: &[u8], scs: bool) -> Option<Box<str>> {
    let Statement::Ddl {
        verb,
        object: Object::Database,
    } = statement
    else {
        return None;
    };
    let mut c = Cursor::new(text, scs);
    c.bump();
    c.bump();
    let named = match verb {
        Verb::Drop => {
            c.eat_all(&["if", "exists"]);
            true
        }
        Verb::Alter => {
            let mut rest = c.clone();
            rest.name()?;
            rest.eat_all(&["rename", "to"]) || rest.eat_all(&["set", "tablespace"])
        }
        Verb::Create => return copied(c),
        _ => false,
    };
    let name = c.name().filter(|_| named)?;
    Some(Box::from(name.as_str()?))
}

/// The database that CREATE DATABASE copies; `c` is at the new one's name.
fn copied(mut c: Cursor<'_>) -> Option<Box<str>> {
    /// What PostgreSQL copies if nothing is said.
    const TEMPLATE: &str = "template1";
    c.bump();
    while !c.eat("template") {
        if c.bump().is_none() {
            return Some(TEMPLATE.into());
        }
    }
    c.eat_operator("=");
    if c.eat("default") {
        return Some(TEMPLATE.into());
    }
    let name = c.string().or_else(|| c.name())?;
    Some(name.as_str()?.into())
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
        locks: false,
        calls: Box::default(),
        changes_schema: false,
        only_temporary: false,
        moves_sequence: false,
        locks_sequence: false,
        name_span: None,
        stores: false,
        copy_in: false,
        makes: CreatesTemporary::Nothing,
        defines: Defines::Nothing,
        names_rows: false,
        explains: None,
        makes_code: CodeEffects::Nothing,
        creates_function: false,
        changes_code: false,
        alters: Alters::Nothing,
        clouds: false,
        processes: false,
        notifies: false,
        empties: None,
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

fn defines(statement: &Statement<'_>) -> Defines {
    match statement {
        Statement::Ddl {
            verb: Verb::Create,
            object: Object::Table,
        } => Defines::Table,
        Statement::Ddl {
            verb: Verb::Alter,
            object: Object::Table,
        } => Defines::Altered,
        Statement::Ddl {
            verb: Verb::Create | Verb::Alter,
            object:
                Object::View
                | Object::MaterializedView
                | Object::Routine
                | Object::Trigger
                | Object::Rule
                | Object::Policy
                | Object::Extension
                | Object::Schema,
        }
        | Statement::Do
        | Statement::Call => Defines::More,
        _ => Defines::Nothing,
    }
}

fn makes_code(statement: &Statement<'_>, text: &[u8]) -> CodeEffects {
    let Statement::Ddl {
        verb: Verb::Create | Verb::Alter,
        object,
    } = statement
    else {
        return CodeEffects::Nothing;
    };
    let may_leave = |text| mothership_catalog::lasting::may_leave(without_temporary(text));
    // What an extension consists of stands elsewhere.
    let leaves = *object == Object::Extension || std::str::from_utf8(text).map_or(true, may_leave);
    match leaves {
        true => CodeEffects::Leaves,
        false => CodeEffects::Calls,
    }
}

/// Whether a statement may put code behind names that had none. A relation whose definition says nothing that leaves
/// something gets it only from what has it already, which the text then names.
fn changes_code(statement: &Statement<'_>, makes_code: CodeEffects) -> bool {
    match statement {
        Statement::Ddl {
            verb: Verb::Comment | Verb::Grant | Verb::Revoke | Verb::Refresh,
            ..
        } => false,
        Statement::Ddl {
            verb: Verb::Create | Verb::Alter | Verb::Drop,
            object:
                Object::Table
                | Object::Index
                | Object::View
                | Object::MaterializedView
                | Object::Sequence
                | Object::Role,
        } => makes_code == CodeEffects::Leaves,
        Statement::Ddl { .. } | Statement::Do | Statement::Call => true,
        _ => false,
    }
}

/// What follows `CREATE TEMPORARY`, whose word is not that of code; else all.
fn without_temporary(text: &str) -> &str {
    let mut c = Cursor::new(text.as_bytes(), true);
    c.eat("create");
    c.eat_all(&["or", "replace"]);
    c.eat_any(&["global", "local"]);
    match c.eat_any(&["temporary", "temp"]) {
        true => text.get(c.taken()..).unwrap_or(text),
        false => text,
    }
}

fn alters(statement: &Statement<'_>, text: &[u8], scs: bool) -> Alters {
    let Statement::Ddl { verb, object } = statement else {
        return Alters::Nothing;
    };
    match (verb, object) {
        (Verb::Alter, Object::Role | Object::Database) => {}
        (Verb::Drop, Object::Role) => return Alters::All,
        (Verb::Create, Object::Role) => return Alters::Login,
        (Verb::Grant | Verb::Revoke, _) => return rights_on_databases(text, scs),
        _ => return Alters::Nothing,
    }
    let is = |token: &Token, word: &str| token.text(text).eq_ignore_ascii_case(word.as_bytes());
    let defaults = ["set", "reset", "rename"];
    let mut tokens = Lexer::new(text, scs);
    if *object == Object::Role && !tokens.any(|token| defaults.iter().any(|w| is(&token, w))) {
        // Options such as PASSWORD are no defaults: open sessions go on, and so do their connections.
        return Alters::Login;
    }
    let mut c = Cursor::new(text, scs);
    c.bump();
    c.bump();
    let own = ["current_user", "current_role", "session_user"];
    if c.sees_any(&own) {
        return Alters::Own;
    }
    if c.sees("all") {
        return Alters::All;
    }
    match c.name().and_then(|name| Some(Box::from(name.as_str()?))) {
        Some(name) if *object == Object::Role => Alters::Role(name),
        Some(name) => Alters::Database(name),
        None => Alters::All,
    }
}

/// GRANT and REVOKE on a database: a role that may no longer connect gets no connection that another session has left.
fn rights_on_databases(text: &[u8], scs: bool) -> Alters {
    let mut c = Cursor::new(text, scs);
    while !c.eat_all(&["on", "database"]) {
        if c.bump().is_none() {
            return Alters::Nothing;
        }
    }
    let name = c.name().and_then(|name| Some(Box::from(name.as_str()?)));
    match name {
        Some(name) if !c.sees_kind(mothership_sql::lexer::Kind::Comma) => Alters::Database(name),
        _ => Alters::All,
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

fn shift(span: Span, by: usize) -> Span {
    Span {
        start: span.start + by,
        end: span.end + by,
    }
}

/// Which reasons to stay a statement removes.
fn unpins(statement: &Statement<'_>) -> Pins {
    match statement {
        Statement::Unlisten(None) => Pins::NONE.with(Pin::Listen),
        Statement::Close(None) => Pins::NONE.with(Pin::HoldCursor),
        Statement::Discard(DiscardWhat::Sequences) => Pins::NONE.with(Pin::SequenceState),
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

/// The refusal of `currval` and `lastval` away from the connection that knows.
pub fn currval_refused() -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "currval and lastval need the server connection that called nextval",
    )
    .detail("in transaction pooling the next statement may run on another connection")
    .hint("Use INSERT ... RETURNING, or pool_mode = \"session\" for this user or database.")
}
