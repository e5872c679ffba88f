//! What a client was told and what it sent, in a statement's text: the number of its process, and the text itself.
//!
//! Pure, by tokens. A client is told a number at login that no process of a server has. Where its statements ask for the
//! number of their own process, they get that one: a call of `pg_backend_pid()` becomes the number, and a view of the
//! server's processes becomes a query on that view, in which the row of the own process has it. Functions that take a
//! number get the real one in its place. A call of `current_query()` becomes the client's text, because the server may get
//! another one. What is behind the names that stand in the text is not seen here.

mod rows;

pub use rows::{SignalRows, Signalled, numbers};

use super::clauses::{Clause, Clauses};
use super::cursor::{Cursor, Span};
use super::effect::{Object, Statement, Verb, analyse};
use super::lexer::{Kind, Token};
use super::name::identifier;
use super::places::Change;
use super::split::split;

/// No process of a server has a greater number (`pid_max` of Linux).
pub const GREATEST: i32 = 1 << 22;

/// A server's error about a number that only the router knows begins so.
pub const MARK: &str = "mothership: number of a client: ";

/// Where a name of PostgreSQL's tells or takes a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProcessReference {
    /// `pg_backend_pid()`
    Own,
    /// A view with a column `pid`.
    View,
    /// The same, which also names the leader of a parallel query.
    ViewWithLeader,
    /// A function without arguments that gives the rows of this view.
    RowsOf(&'static str),
    /// A function that takes a number and gives a list of them.
    List,
    /// A function that gives a number.
    Gives,
    /// A function that takes a number first.
    Takes,
    /// The same, and does something to that process.
    Signal,
    /// A function whose rows have numbers.
    Rows,
    /// `current_schemas(...)`, which names the schema of temporary tables of the process.
    Schemas,
    /// `pg_my_temp_schema()`
    TemporarySchema,
    /// `current_query()`
    Query,
}

const NAMES: [(&str, ProcessReference); 23] = [
    ("current_query", ProcessReference::Query),
    ("current_schemas", ProcessReference::Schemas),
    ("pg_backend_pid", ProcessReference::Own),
    ("pg_blocking_pids", ProcessReference::List),
    ("pg_cancel_backend", ProcessReference::Signal),
    (
        "pg_isolation_test_session_is_blocked",
        ProcessReference::Takes,
    ),
    ("pg_lock_status", ProcessReference::RowsOf("pg_locks")),
    ("pg_locks", ProcessReference::View),
    ("pg_log_backend_memory_contexts", ProcessReference::Takes),
    ("pg_my_temp_schema", ProcessReference::TemporarySchema),
    ("pg_safe_snapshot_blocking_pids", ProcessReference::List),
    ("pg_stat_activity", ProcessReference::ViewWithLeader),
    ("pg_stat_get_activity", ProcessReference::Rows),
    ("pg_stat_get_backend_pid", ProcessReference::Gives),
    ("pg_stat_gssapi", ProcessReference::View),
    ("pg_stat_progress_analyze", ProcessReference::View),
    ("pg_stat_progress_basebackup", ProcessReference::View),
    ("pg_stat_progress_cluster", ProcessReference::View),
    ("pg_stat_progress_copy", ProcessReference::View),
    ("pg_stat_progress_create_index", ProcessReference::View),
    ("pg_stat_progress_vacuum", ProcessReference::View),
    ("pg_stat_ssl", ProcessReference::View),
    ("pg_terminate_backend", ProcessReference::Signal),
];

fn known(name: &[u8]) -> Option<(&'static str, ProcessReference)> {
    if !name.starts_with(b"pg_") && !name.starts_with(b"curr") {
        return None;
    }
    let at = NAMES.binary_search_by(|(known, _)| known.as_bytes().cmp(name));
    at.ok().map(|at| NAMES[at])
}

/// Whether a name tells the number of a process or the client's text, or a call of it takes a number.
pub fn is_told_by(name: &[u8]) -> bool {
    known(name).is_some()
}

/// What is true of a client and not of the process that works for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The number of its process, as it was told.
    pub number: i32,
    /// It may have temporary tables. Without, those of the process were somebody else's.
    pub has_temporary: bool,
}

/// A text that was written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewrittenQuery {
    /// The text.
    pub sql: Vec<u8>,
    /// How it differs.
    pub changes: Vec<Change>,
}

/// The text with this number wherever it asks for that of its own process; `None` if it does not. `is_resolved`: the
/// router looks up the number of another client in it, as it does for a [`Signal`] and a [`Question`].
///
/// # Errors
/// What asks so that nothing can be put in its place.
pub fn told(
    sql: &[u8],
    strings: bool,
    own: ClientIdentity,
    is_resolved: bool,
) -> Result<Option<RewrittenQuery>, String> {
    let mut edits = Vec::new();
    for part in split(sql, strings).filter(|part| !part.empty) {
        let text = part.span.of(sql);
        let manner = match manner(text, strings)? {
            Some(manner) => manner,
            None => continue,
        };
        let mut cursor = Cursor::new(text, strings);
        let tokens: Vec<Token> = std::iter::from_fn(|| cursor.bump()).collect();
        let mut writer = Writer {
            sql: text,
            whole: sql,
            // The text is that of what runs it later.
            runs_now: !is_kept(text, strings),
            tokens: &tokens,
            number: own.number,
            has_temporary: own.has_temporary,
            manner,
            is_resolved,
            edits: Vec::new(),
            added: 0,
            open: Vec::new(),
        };
        writer.write()?;
        let moved = writer.edits.into_iter().map(|edit| Edit {
            at: edit.at.start + part.span.start..edit.at.end + part.span.start,
            put: edit.put,
        });
        edits.extend(moved);
    }
    if edits.is_empty() {
        return Ok(None);
    }
    let mut text = Vec::with_capacity(sql.len() + 64 * edits.len());
    let mut from = 0;
    for edit in &edits {
        text.extend_from_slice(&sql[from..edit.at.start]);
        text.extend_from_slice(edit.put.as_bytes());
        from = edit.at.end;
    }
    text.extend_from_slice(&sql[from..]);
    let changes = edits.iter().map(|e| Change::new(e.at.clone(), &e.put));
    Ok(Some(RewrittenQuery {
        sql: text,
        changes: changes.collect(),
    }))
}

/// What may stand in a statement in place of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Any expression.
    Query,
    /// No subquery.
    Arguments,
}

/// How a statement is written anew. `None` where it keeps what it says for later, as the body of a view does.
fn manner(text: &[u8], strings: bool) -> Result<Option<Manner>, String> {
    use Statement as S;
    let statement = analyse(text, strings).statement;
    Ok(match statement {
        S::Select | S::Insert | S::Update | S::Delete | S::Merge => Some(Manner::Query),
        S::Declare { .. } | S::Explain { .. } | S::Copy { .. } | S::Prepare { .. } => {
            Some(Manner::Query)
        }
        S::Call | S::Execute { .. } => Some(Manner::Arguments),
        S::Ddl {
            verb: Verb::Create | Verb::Alter,
            object: Object::Table | Object::MaterializedView,
        } => {
            if is_filled(text, strings) {
                return Ok(Some(Manner::Query));
            }
            match calls_own(text, strings) {
                true => return Err("a default that calls pg_backend_pid()".into()),
                false => None,
            }
        }
        _ => None,
    })
}

/// The statement keeps a query that something else runs: EXECUTE, FETCH.
fn is_kept(text: &[u8], strings: bool) -> bool {
    use Statement as S;
    matches!(
        analyse(text, strings).statement,
        S::Declare { .. } | S::Explain { .. } | S::Prepare { .. }
    )
}

/// A text as a literal that means the same whatever `standard_conforming_strings` is.
fn literal(text: &[u8]) -> Result<String, String> {
    let text =
        std::str::from_utf8(text).map_err(|_| "current_query() in a text that is not UTF8")?;
    let text = text.replace('\\', "\\\\").replace('\'', "''");
    Ok(format!("E'{text}'::pg_catalog.text"))
}

/// `CREATE TABLE ... AS` a query.
fn is_filled(text: &[u8], strings: bool) -> bool {
    let mut cursor = Cursor::new(text, strings);
    while let Some(token) = cursor.bump() {
        if cursor.is(token, "as")
            && cursor.sees_any(&["select", "with", "values", "table", "execute"])
        {
            return true;
        }
    }
    false
}

fn calls_own(text: &[u8], strings: bool) -> bool {
    let mut cursor = Cursor::new(text, strings);
    while let Some(token) = cursor.bump() {
        let name = identifier(token, text, b'\\');
        if name.is_some_and(|name| name == "pg_backend_pid") && cursor.sees_kind(Kind::LParen) {
            return true;
        }
    }
    false
}

/// `SELECT pg_terminate_backend(...)` or `SELECT pg_cancel_backend(...)` and nothing else, of a process whose number
/// stands in the text or is a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Which of the two.
    pub action: ProcessAction,
    /// Whom it is for.
    pub target: Target,
    /// The call.
    call: Span,
}

/// What is done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessAction {
    /// Its statement is cancelled.
    Cancel,
    /// It is ended.
    Terminate,
}

impl ProcessAction {
    /// The function.
    pub fn function(self) -> &'static str {
        match self {
            ProcessAction::Cancel => "pg_cancel_backend",
            ProcessAction::Terminate => "pg_terminate_backend",
        }
    }
}

/// Which process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This one.
    Number(i32),
    /// That of a parameter, from 1.
    Parameter(u16),
}

impl Signal {
    /// Reads a text.
    pub fn of(sql: &[u8], strings: bool) -> Option<Signal> {
        let actions = [ProcessAction::Cancel, ProcessAction::Terminate];
        let behind = |_: ProcessAction, cursor: &mut Cursor<'_>| {
            (!cursor.eat_kind(Kind::Comma) || cursor.eat_kind(Kind::Integer)).then_some(())
        };
        let (action, target, (), call) =
            lone_call(sql, strings, &actions, ProcessAction::function, behind)?;
        Some(Signal {
            action,
            target,
            call,
        })
    }

    /// The text of one that was carried out. It has the same parameters.
    pub fn carried_out(&self, sql: &[u8]) -> RewrittenQuery {
        instead_of_call(sql, self.call, self.target, self.action.function(), "true")
    }
}

/// `SELECT pg_blocking_pids(...)` or a similar function and nothing else, about a process whose number stands in the text
/// or is a parameter. Only the router knows which process works for another client at that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What is asked.
    pub ask: Ask,
    /// Of which process.
    pub target: Target,
    /// The processes that may block it, if only these are asked about.
    pub others: Vec<i32>,
    /// The call.
    call: Span,
}

/// What is asked about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Which processes block it.
    Blocking,
    /// Which keep it from a safe snapshot.
    SnapshotBlocking,
    /// Whether one of a list blocks it: what PostgreSQL's isolation tester asks.
    IsBlocked,
}

impl Ask {
    /// The function.
    pub fn function(self) -> &'static str {
        match self {
            Ask::Blocking => "pg_blocking_pids",
            Ask::SnapshotBlocking => "pg_safe_snapshot_blocking_pids",
            Ask::IsBlocked => "pg_isolation_test_session_is_blocked",
        }
    }
}

/// The processes that a [`Question`] is about, as a server knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processes {
    /// The process that is asked about; none if none works for that client.
    pub target: Option<i32>,
    /// Those that may block it, as [`Question::others`].
    pub others: Vec<i32>,
    /// Clients by their processes there, the own one among them: (process, number of the client).
    pub clients: Vec<(i32, i32)>,
}

impl Question {
    /// Reads a text.
    pub fn of(sql: &[u8], strings: bool) -> Option<Question> {
        let asks = [Ask::Blocking, Ask::SnapshotBlocking, Ask::IsBlocked];
        let behind = |ask: Ask, cursor: &mut Cursor<'_>| match ask {
            Ask::Blocking | Ask::SnapshotBlocking => Some(Vec::new()),
            Ask::IsBlocked => {
                cursor.eat_kind(Kind::Comma).then_some(())?;
                let token = cursor.bump().filter(|token| token.kind == Kind::String)?;
                let list = std::str::from_utf8(token.text(sql)).ok()?;
                let list = list.strip_prefix("'{")?.strip_suffix("}'")?;
                list.split(',').map(|n| n.trim().parse().ok()).collect()
            }
        };
        let (ask, target, others, call) = lone_call(sql, strings, &asks, Ask::function, behind)?;
        Some(Question {
            ask,
            target,
            others,
            call,
        })
    }

    /// The text with the numbers that the server knows. It has the same parameters.
    pub fn asked(&self, sql: &[u8], processes: &Processes) -> RewrittenQuery {
        let function = self.ask.function();
        // No process has the number 0.
        let target = processes.target.unwrap_or(0);
        let answer = match self.ask {
            Ask::IsBlocked => {
                let others: Vec<_> = processes.others.iter().map(i32::to_string).collect();
                format!(
                    "pg_catalog.{function}({target}, '{{{}}}')",
                    others.join(",")
                )
            }
            Ask::Blocking | Ask::SnapshotBlocking => {
                let clients = processes.clients.iter().map(|(process, number)| {
                    format!(" WHEN mothership.pid OPERATOR(pg_catalog.=) {process} THEN {number}")
                });
                format!(
                    "ARRAY(SELECT CASE{} ELSE mothership.pid END \
                     FROM pg_catalog.unnest(pg_catalog.{function}({target})) \
                     WITH ORDINALITY AS mothership (pid, place) ORDER BY mothership.place)",
                    clients.collect::<String>()
                )
            }
        };
        instead_of_call(sql, self.call, self.target, function, &answer)
    }
}

/// `SELECT function(number)` and nothing else, in which `behind` reads further arguments: the function among `functions`,
/// the number, the other arguments, and where the call stands.
fn lone_call<F: Copy, T>(
    sql: &[u8],
    strings: bool,
    functions: &[F],
    name_of: impl Fn(F) -> &'static str,
    behind: impl FnOnce(F, &mut Cursor<'_>) -> Option<T>,
) -> Option<(F, Target, T, Span)> {
    let mut cursor = Cursor::new(sql, strings);
    if !cursor.eat("select") {
        return None;
    }
    let start = cursor.at();
    let path = cursor.path()?;
    let name = match path.as_slice() {
        [name] => name,
        [schema, name] if *schema == "pg_catalog" => name,
        _ => return None,
    };
    let mut known = functions.iter().copied();
    let function = known.find(|function| *name == name_of(*function))?;
    if !cursor.eat_kind(Kind::LParen) {
        return None;
    }
    let token = cursor.bump()?;
    let text = std::str::from_utf8(token.text(sql)).ok()?;
    let target = match token.kind {
        Kind::Integer => Target::Number(text.parse().ok()?),
        Kind::Param => Target::Parameter(text.strip_prefix('$')?.parse().ok()?),
        _ => return None,
    };
    if cursor.eat_kind(Kind::TypeCast)
        && !cursor.eat_any(&["int", "integer", "int4", "bigint", "int8"])
    {
        return None;
    }
    let more = behind(function, &mut cursor)?;
    if !cursor.eat_kind(Kind::RParen) {
        return None;
    }
    let end = cursor.taken();
    // An alias.
    if cursor.eat("as") || !cursor.at_end() {
        cursor.name()?;
    }
    let alone = cursor.at_end() && split(sql, strings).filter(|part| !part.empty).count() == 1;
    alone.then_some((function, target, more, Span { start, end }))
}

/// The text with an expression in place of a call. The column has the name of the call, and a parameter keeps its type.
fn instead_of_call(
    sql: &[u8],
    call: Span,
    target: Target,
    function: &str,
    expression: &str,
) -> RewrittenQuery {
    let from = match target {
        Target::Number(_) => String::new(),
        Target::Parameter(number) => {
            format!(" FROM (SELECT ${number}::pg_catalog.int4) AS mothership_argument")
        }
    };
    let put = format!("(SELECT {expression} AS \"{function}\"{from})");
    let (before, behind) = (&sql[..call.start], &sql[call.end..]);
    RewrittenQuery {
        sql: [before, put.as_bytes(), behind].concat(),
        changes: vec![Change::new(call.start..call.end, &put)],
    }
}

struct Edit {
    at: std::ops::Range<usize>,
    put: String,
}

/// What follows where a parenthesis of the text goes on or ends.
#[derive(Default)]
struct Open {
    /// At its first comma, or at its end.
    behind_first: Option<String>,
    /// Behind it.
    behind: Option<String>,
}

struct Writer<'a> {
    sql: &'a [u8],
    /// What the client sent, with all statements.
    whole: &'a [u8],
    /// The statement is run as it is read.
    runs_now: bool,
    tokens: &'a [Token],
    number: i32,
    has_temporary: bool,
    manner: Manner,
    /// The router looks up numbers of other clients; one that nobody has is for the server to judge.
    is_resolved: bool,
    edits: Vec<Edit>,
    /// Their bytes.
    added: usize,
    open: Vec<Open>,
}

/// A text that would grow by more than this is refused: each place may have the whole of it once more.
const MAX_ADDED: usize = 1 << 20;

const OWN: &str = "pg_catalog.pg_backend_pid()";

/// What follows an argument that [`Writer::real_argument`] has begun.
const BEHIND_REAL: &str = ")::pg_catalog.int4) AS mothership (pid))";

/// Words of a query that begin something behind FROM and WHERE.
const BEHIND_FROM: [&str; 13] = [
    "group",
    "having",
    "window",
    "union",
    "intersect",
    "except",
    "order",
    "limit",
    "offset",
    "fetch",
    "for",
    "tablesample",
    "with",
];

/// Words that may follow a table in FROM and are no alias of it.
const BEHIND_TABLE: [&str; 26] = [
    "where",
    "join",
    "inner",
    "left",
    "right",
    "full",
    "cross",
    "natural",
    "on",
    "using",
    "group",
    "order",
    "limit",
    "offset",
    "having",
    "union",
    "intersect",
    "except",
    "fetch",
    "for",
    "window",
    "tablesample",
    "returning",
    "set",
    "when",
    "with",
];

impl Writer<'_> {
    fn write(&mut self) -> Result<(), String> {
        if let Some(name) = self.query_within() {
            return Err(format!("a query within it that is called {name}"));
        }
        let mut clauses = Clauses::new(self.sql, self.tokens);
        let mut next = Open::default();
        let mut at = 0;
        while at < self.tokens.len() {
            if self.added > MAX_ADDED {
                return Err("the processes of the server too often".into());
            }
            let token = self.tokens[at];
            let clause = clauses.reach(at);
            match token.kind {
                Kind::LParen => self.open.push(std::mem::take(&mut next)),
                Kind::RParen => {
                    let open = self.open.pop().unwrap_or_default();
                    if let Some(put) = open.behind_first {
                        self.put(token.start, put);
                    }
                    if let Some(put) = open.behind {
                        self.put(token.end, put);
                    }
                }
                Kind::Comma => {
                    let first = self.open.last_mut().and_then(|o| o.behind_first.take());
                    if let Some(put) = first {
                        self.put(token.start, put);
                    }
                }
                Kind::Word | Kind::QuotedIdent | Kind::UnicodeIdent => {
                    match self.name(at, clause)? {
                        Some((open, behind)) => {
                            next = open;
                            at = behind;
                            continue;
                        }
                        None if token.kind == Kind::Word => clauses.enter(at),
                        None => {}
                    }
                }
                _ => {}
            }
            at += 1;
        }
        Ok(())
    }

    /// One of our names that a query of WITH has in this text: behind WITH, RECURSIVE or a comma, before AS or before a list
    /// of columns and AS.
    fn query_within(&self) -> Option<&'static str> {
        let is_word = |at: usize, words: &[&str]| {
            let token = self.tokens.get(at).filter(|t| t.kind == Kind::Word);
            token.is_some_and(|t| {
                let text = t.text(self.sql);
                words
                    .iter()
                    .any(|w| text.eq_ignore_ascii_case(w.as_bytes()))
            })
        };
        // Where the list begins that is open, and the name before it.
        let mut open: Option<&'static str> = None;
        let mut found = None;
        for (at, token) in self.tokens.iter().enumerate() {
            match token.kind {
                Kind::LParen => open = found.take(),
                Kind::RParen => found = open.take(),
                _ if found.is_some() && is_word(at, &["as"]) => {
                    let is_query = self.kind(at + 1) == Some(Kind::LParen)
                        || is_word(at + 1, &["materialized", "not"]);
                    if is_query {
                        return found;
                    }
                    found = None;
                }
                _ => {
                    let begins = at.checked_sub(1).is_some_and(|before| {
                        is_word(before, &["with", "recursive"])
                            || self.kind(before) == Some(Kind::Comma)
                    });
                    let name = identifier(*token, self.sql, b'\\').filter(|_| begins);
                    let name = name.and_then(|name| known(name.as_bytes()));
                    found = name.map(|(name, _)| name);
                }
            }
        }
        None
    }

    /// Writes what stands in place of the name at `at`, if it is one of ours: what is to follow at its parenthesis, and
    /// the token to go on with.
    fn name(&mut self, at: usize, clause: Clause) -> Result<Option<(Open, usize)>, String> {
        let token = self.tokens[at];
        let Some(name) = identifier(token, self.sql, b'\\') else {
            return Ok(None);
        };
        let Some((name, what)) = known(name.as_bytes()) else {
            return Ok(None);
        };
        let dotted = self.kind(at.wrapping_sub(1)) == Some(Kind::Dot);
        if dotted && !self.is_builtin(at) {
            return Ok(None);
        }
        // An alias, or the name of a column.
        let renames = at
            .checked_sub(1)
            .is_some_and(|before| self.is(before, "as"));
        if renames && !dotted {
            return Ok(None);
        }
        let first = if dotted { at - 2 } else { at };
        let start = self.tokens[first].start;
        let called = self.kind(at + 1) == Some(Kind::LParen);
        let empty = called && self.kind(at + 2) == Some(Kind::RParen);
        let number = self.number;
        let own = format!("{number}::pg_catalog.int4");
        match what {
            // PostgreSQL says what is wrong with it.
            ProcessReference::Own if empty && self.is_no_plain_call(at + 3) => Ok(None),
            ProcessReference::Own if empty && clause == Clause::From => {
                if self.stands_in(first, &["rows", "from"]) {
                    return Err(format!("{name}() in ROWS FROM"));
                }
                let end = self.tokens[at + 2].end;
                let mut next = at + 3;
                if self.is(next, "with") && self.is(next + 1, "ordinality") {
                    next += 2;
                }
                let alias = self.alias(next, name);
                self.replace(start..end, format!("pg_catalog.unnest(ARRAY[{own}])"));
                self.put(self.tokens[next - 1].end, alias);
                Ok(Some((Open::default(), next)))
            }
            ProcessReference::Own if empty => {
                let end = self.tokens[at + 2].end;
                // There it is compared with the same expression in another clause, and names no column.
                let is_compared = || {
                    self.stands_in(first, &["distinct", "on"])
                        || self.stands_in(first, &["grouping"])
                };
                let put = match (clause, self.manner) {
                    // PostgreSQL names a column after it as it does after the call.
                    (Clause::Targets, Manner::Query) if !is_compared() => {
                        format!("(SELECT {own} AS \"{name}\")")
                    }
                    _ => own,
                };
                self.replace(start..end, put);
                Ok(Some((Open::default(), at + 3)))
            }
            ProcessReference::View | ProcessReference::ViewWithLeader if !called => {
                let before = |back: usize| first.checked_sub(back);
                let is_only = |at: Option<usize>| at.is_some_and(|at| self.is(at, "only"));
                let in_parens = before(1).and_then(|at| self.kind(at)) == Some(Kind::LParen);
                let in_only = is_only(before(1)) || in_parens && is_only(before(2));
                let starred = clause == Clause::From
                    && self.kind(at + 1) == Some(Kind::Operator)
                    && self.tokens[at + 1].text(self.sql) == b"*";
                if in_only || starred {
                    return Err(format!("{name} with ONLY or *"));
                }
                Ok(self.view(first, at, clause, what))
            }
            ProcessReference::RowsOf(view) if empty && clause == Clause::From => {
                let end = self.tokens[at + 2].end;
                let alias = self.alias(at + 3, name);
                let put = format!("{}{alias}", self.query_on(view, ProcessReference::View));
                self.replace(start..end, put);
                Ok(Some((Open::default(), at + 3)))
            }
            ProcessReference::List | ProcessReference::Gives
                if called && clause == Clause::From =>
            {
                Err(format!("{name}() as a table"))
            }
            ProcessReference::List | ProcessReference::Gives | ProcessReference::Takes
                if called && self.is_own_call(at + 2) =>
            {
                // The argument is right as it stands.
                let behind = self.enclose((first, start), name, what, clause);
                if let Some(put) = behind {
                    self.put(self.tokens[at + 5].end, put);
                }
                Ok(Some((Open::default(), at + 6)))
            }
            ProcessReference::List | ProcessReference::Gives | ProcessReference::Takes
                if called =>
            {
                let behind = self.enclose((first, start), name, what, clause);
                if what == ProcessReference::Gives {
                    let open = Open {
                        behind,
                        ..Open::default()
                    };
                    return Ok(Some((open, at + 1)));
                }
                self.real_argument(at + 2)?;
                let open = Open {
                    behind_first: Some(BEHIND_REAL.into()),
                    behind,
                };
                Ok(Some((open, at + 1)))
            }
            ProcessReference::Signal if called => self.signal(at).map(Some),
            ProcessReference::Schemas
                if called && !self.has_temporary && clause != Clause::From =>
            {
                let open = Open {
                    behind: self.enclose((first, start), name, what, clause),
                    ..Open::default()
                };
                Ok(Some((open, at + 1)))
            }
            ProcessReference::TemporarySchema
                if empty && !self.has_temporary && clause != Clause::From =>
            {
                let end = self.tokens[at + 2].end;
                let none = "0::pg_catalog.oid";
                let put = match (clause, self.manner) {
                    (Clause::Targets, Manner::Query) => format!("(SELECT {none} AS \"{name}\")"),
                    _ => none.to_owned(),
                };
                self.replace(start..end, put);
                Ok(Some((Open::default(), at + 3)))
            }
            ProcessReference::Query if empty && self.runs_now => {
                let end = self.tokens[at + 2].end;
                let text = literal(self.whole)?;
                let put = match (clause, self.manner) {
                    (Clause::From, _) => {
                        let alias = self.alias(at + 3, name);
                        format!("pg_catalog.unnest(ARRAY[{text}]){alias}")
                    }
                    (Clause::Targets, Manner::Query) => format!("(SELECT {text} AS \"{name}\")"),
                    _ => text,
                };
                self.replace(start..end, put);
                Ok(Some((Open::default(), at + 3)))
            }
            ProcessReference::Rows if called => Err(format!("{name}()")),
            _ => Ok(None),
        }
    }

    /// A call that does something to another process.
    fn signal(&mut self, at: usize) -> Result<(Open, usize), String> {
        if self.is_own_call(at + 2) {
            // The argument is right as it stands.
            return Ok((Open::default(), at + 6));
        }
        self.real_argument(at + 2)?;
        let open = Open {
            behind_first: Some(BEHIND_REAL.into()),
            ..Open::default()
        };
        Ok((open, at + 1))
    }

    /// Begins to turn the argument at `at` into the number of a server's process; [`BEHIND_REAL`] ends it. A number of
    /// another client is an error, because the server would say that there is no such process.
    fn real_argument(&mut self, at: usize) -> Result<(), String> {
        let number = self.number;
        let other = match self.is_resolved {
            true => String::new(),
            false => format!(
                "WHEN mothership.pid OPERATOR(pg_catalog.>) {GREATEST} \
                 THEN ('{MARK}' OPERATOR(pg_catalog.||) mothership.pid)::pg_catalog.int4 "
            ),
        };
        let argument = self.argument(at)?;
        self.put(
            argument,
            format!(
                "(SELECT CASE WHEN mothership.pid OPERATOR(pg_catalog.=) {number} THEN {OWN} \
                 {other}ELSE mothership.pid END FROM (SELECT ("
            ),
        );
        Ok(())
    }

    /// Where the first argument begins that stands at `at`.
    fn argument(&self, at: usize) -> Result<usize, String> {
        let named = self
            .kind(at + 1)
            .is_some_and(|kind| matches!(kind, Kind::EqualsGreater | Kind::ColonEquals));
        match named {
            true if self.is(at, "pid") => Ok(self.tokens[at + 1].end),
            true => Err("arguments in another order".into()),
            false => Ok(self
                .tokens
                .get(at)
                .map_or(self.sql.len(), |token| token.start)),
        }
    }

    /// Begins what goes around a call that begins with the token at `first`, and returns its end.
    fn enclose(
        &mut self,
        (first, start): (usize, usize),
        name: &str,
        what: ProcessReference,
        clause: Clause,
    ) -> Option<String> {
        let number = self.number;
        let (before, behind) = match what {
            ProcessReference::List => (
                "pg_catalog.array_replace(".to_owned(),
                format!(", {OWN}, {number})"),
            ),
            ProcessReference::Schemas => (
                "pg_catalog.array_remove(".to_owned(),
                ", (SELECT mothership.nspname FROM pg_catalog.pg_namespace AS mothership \
                 WHERE mothership.oid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()))"
                    .to_owned(),
            ),
            ProcessReference::Gives => {
                self.put(
                    start,
                    format!(
                        "(SELECT CASE WHEN mothership.pid OPERATOR(pg_catalog.=) {OWN} THEN {number} \
                         ELSE mothership.pid END AS \"{name}\" FROM (SELECT "
                    ),
                );
                return Some(") AS mothership (pid))".into());
            }
            _ => return None,
        };
        // A query would be one of rows behind ANY.
        let is_quantified = first.checked_sub(2).is_some_and(|at| {
            self.kind(first - 1) == Some(Kind::LParen)
                && ["any", "all", "some"].iter().any(|word| self.is(at, word))
        });
        if clause == Clause::Targets && self.manner == Manner::Query && !is_quantified {
            self.put(start, format!("(SELECT {before}"));
            return Some(format!("{behind} AS \"{name}\")"));
        }
        self.put(start, before);
        Some(behind)
    }

    /// A view of processes, whose name begins with the token at `first`.
    fn view(
        &mut self,
        first: usize,
        at: usize,
        clause: Clause,
        what: ProcessReference,
    ) -> Option<(Open, usize)> {
        let start = self.tokens[first].start;
        let end = self.tokens[at].end;
        let name = identifier(self.tokens[at], self.sql, b'\\')?;
        let (name, _) = known(name.as_bytes())?;
        let before = first.checked_sub(1);
        let is_before = |word: &str| before.is_some_and(|before| self.is(before, word));
        if is_before("table") {
            let table = self.tokens[first - 1].start;
            let put = format!("SELECT * FROM {} AS {name}", self.query_on(name, what));
            self.replace(table..end, put);
            return Some((Open::default(), at + 1));
        }
        let is_listed = before
            .is_some_and(|before| matches!(self.kind(before), Some(Kind::Comma | Kind::LParen)));
        let is_table = clause == Clause::From
            && (is_listed || ["from", "join", "using"].iter().any(|word| is_before(word)));
        if is_table && self.kind(at + 1) != Some(Kind::Dot) {
            let alias = self.alias(at + 1, name);
            let put = format!("{}{alias}", self.query_on(name, what));
            self.replace(start..end, put);
            return Some((Open::default(), at + 1));
        }
        if first < at && self.kind(at + 1) == Some(Kind::Dot) {
            // `pg_catalog.pg_stat_activity.pid`: the query has no schema.
            self.replace(start..self.tokens[at].start, String::new());
            return Some((Open::default(), at + 1));
        }
        None
    }

    /// A query on a view with the client's number in the row of the own process.
    fn query_on(&self, view: &str, what: ProcessReference) -> String {
        let number = self.number;
        let told = |column: &str| {
            format!(
                "'{column}', CASE WHEN mothership.{column} OPERATOR(pg_catalog.=) {OWN} \
                 THEN {number} ELSE mothership.{column} END"
            )
        };
        let mut columns = told("pid");
        if what == ProcessReference::ViewWithLeader {
            columns = [columns, told("leader_pid")].join(", ");
            if let Some(text) = self.shown_text() {
                columns += &format!(
                    ", 'query', CASE WHEN mothership.pid OPERATOR(pg_catalog.=) {OWN} \
                     THEN {text} ELSE mothership.query END"
                );
            }
        }
        format!(
            "(SELECT mothership_told.* FROM pg_catalog.{view} AS mothership, \
             LATERAL pg_catalog.jsonb_populate_record(mothership, \
             pg_catalog.jsonb_build_object({columns})) AS mothership_told)"
        )
    }

    /// The client's text as `pg_stat_activity.query` shows it: cut where the server cuts what it keeps of a text
    /// (<https://www.postgresql.org/docs/current/runtime-config-statistics.html#GUC-TRACK-ACTIVITY-QUERY-SIZE>).
    /// `None` where the server's text is right.
    fn shown_text(&self) -> Option<String> {
        // The server keeps that many of every text.
        const LEAST: usize = 100;
        if !self.runs_now {
            return None;
        }
        // It may keep up to 1 MB. By default it is 1 kB, and each place has the text once more.
        const LONGEST: usize = 16 << 10;
        let whole = std::str::from_utf8(self.whole).ok()?;
        let mut end = whole.len().min(LONGEST);
        while !whole.is_char_boundary(end) {
            end -= 1;
        }
        let text = literal(&self.whole[..end]).ok()?;
        if self.whole.len() < LEAST {
            return Some(text);
        }
        Some(format!(
            "(SELECT pg_catalog.left(own.text, pg_catalog.max(cut.at)) FROM (SELECT {text} AS text, \
             (SELECT s.setting::pg_catalog.int4 FROM pg_catalog.pg_settings AS s \
             WHERE s.name OPERATOR(pg_catalog.=) 'track_activity_query_size') AS size) AS own, \
             LATERAL pg_catalog.generate_series(0, own.size) AS cut (at) \
             WHERE pg_catalog.octet_length(pg_catalog.left(own.text, cut.at)) OPERATOR(pg_catalog.<) own.size \
             GROUP BY own.text)"
        ))
    }

    /// The name of a table that has no other one; `at` is behind it.
    fn alias(&self, at: usize, name: &str) -> String {
        let other = match self.kind(at) {
            Some(Kind::QuotedIdent | Kind::UnicodeIdent) => true,
            Some(Kind::Word) => !BEHIND_TABLE.iter().any(|word| self.is(at, word)),
            _ => false,
        };
        match other {
            true => String::new(),
            false => format!(" AS {name}"),
        }
    }

    /// Whether what stands at `at`, behind a call, makes an error of it.
    fn is_no_plain_call(&self, at: usize) -> bool {
        let opens = |at| self.kind(at) == Some(Kind::LParen);
        let follows = |word| self.is(at, word) && opens(at + 1);
        let orders = self.is(at, "within") && self.is(at + 1, "group") && opens(at + 2);
        follows("filter") || follows("over") || orders || self.kind(at) == Some(Kind::LBracket)
    }

    /// Whether the parenthesis around `at` follows these words, and is not far away.
    fn stands_in(&self, at: usize, words: &[&str]) -> bool {
        const NEAR: usize = 200;
        let mut depth = 0usize;
        let open = (at.saturating_sub(NEAR)..at)
            .rev()
            .find(|at| match self.kind(*at) {
                Some(Kind::RParen) => {
                    depth += 1;
                    false
                }
                Some(Kind::LParen) if depth == 0 => true,
                Some(Kind::LParen) => {
                    depth -= 1;
                    false
                }
                _ => false,
            });
        let begin = open.and_then(|open| open.checked_sub(words.len()));
        begin.is_some_and(|begin| (begin..).zip(words).all(|(at, word)| self.is(at, word)))
    }

    /// Whether `pg_backend_pid()` stands at `at`, and nothing else up to the end of the parenthesis.
    fn is_own_call(&self, at: usize) -> bool {
        let name = self
            .tokens
            .get(at)
            .and_then(|token| identifier(*token, self.sql, b'\\'));
        name.is_some_and(|name| name == "pg_backend_pid")
            && self.kind(at + 1) == Some(Kind::LParen)
            && self.kind(at + 2) == Some(Kind::RParen)
            && self.kind(at + 3) == Some(Kind::RParen)
    }

    /// Whether `pg_catalog.` stands before the name at `at`.
    fn is_builtin(&self, at: usize) -> bool {
        let schema = at.checked_sub(2).map(|at| self.tokens[at]);
        let name = schema.and_then(|token| identifier(token, self.sql, b'\\'));
        name.is_some_and(|name| name == "pg_catalog")
            && at.checked_sub(3).and_then(|at| self.kind(at)) != Some(Kind::Dot)
    }

    fn is(&self, at: usize, word: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| {
            token.kind == Kind::Word && token.text(self.sql).eq_ignore_ascii_case(word.as_bytes())
        })
    }

    fn kind(&self, at: usize) -> Option<Kind> {
        self.tokens.get(at).map(|token| token.kind)
    }

    fn put(&mut self, at: usize, put: String) {
        self.replace(at..at, put);
    }

    fn replace(&mut self, at: std::ops::Range<usize>, put: String) {
        self.added += put.len();
        self.edits.push(Edit { at, put });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::{shows, sketched};

    fn text(sql: &str) -> Result<Option<String>, String> {
        let own = ClientIdentity {
            number: 777,
            has_temporary: false,
        };
        let signal = Signal::of(sql.as_bytes(), true);
        let told = told(sql.as_bytes(), true, own, signal.is_some())?;
        Ok(told.map(|told| {
            let text = String::from_utf8(told.sql).unwrap();
            assert!(shows(&sketched(sql, &told.changes), &text), "{sql}: {text}");
            text
        }))
    }

    #[test]
    fn calls_become_the_number_with_the_name_of_the_call_where_it_names_a_column() {
        let named = "(SELECT 777::pg_catalog.int4 AS \"pg_backend_pid\")";
        let plain = "777::pg_catalog.int4";
        for (sql, expected) in [
            ("SELECT pg_backend_pid()", format!("SELECT {named}")),
            (
                "select PG_CATALOG . \"pg_backend_pid\" ( )::text",
                format!("select {named}::text"),
            ),
            (
                "INSERT INTO t VALUES (1, pg_backend_pid()) RETURNING pg_backend_pid()",
                format!("INSERT INTO t VALUES (1, {plain}) RETURNING {named}"),
            ),
            (
                "UPDATE t SET a = pg_backend_pid() WHERE b <> pg_backend_pid()",
                format!("UPDATE t SET a = {plain} WHERE b <> {plain}"),
            ),
            (
                "SELECT x FROM pg_backend_pid() AS x, pg_backend_pid()",
                "SELECT x FROM pg_catalog.unnest(ARRAY[777::pg_catalog.int4]) AS x, \
                 pg_catalog.unnest(ARRAY[777::pg_catalog.int4]) AS pg_backend_pid"
                    .to_owned(),
            ),
            (
                "SELECT * FROM pg_backend_pid() WITH ORDINALITY, pg_backend_pid() WITH ORDINALITY n",
                "SELECT * FROM pg_catalog.unnest(ARRAY[777::pg_catalog.int4]) WITH ORDINALITY AS pg_backend_pid, \
                 pg_catalog.unnest(ARRAY[777::pg_catalog.int4]) WITH ORDINALITY n"
                    .to_owned(),
            ),
            (
                "SELECT DISTINCT ON (a, pg_backend_pid()) (pg_backend_pid()) FROM t ORDER BY pg_backend_pid()",
                format!("SELECT DISTINCT ON (a, {plain}) ({named}) FROM t ORDER BY {plain}"),
            ),
            (
                "SELECT grouping(pg_backend_pid()), f(pg_backend_pid()) FROM t GROUP BY pg_backend_pid()",
                format!("SELECT grouping({plain}), f({named}) FROM t GROUP BY {plain}"),
            ),
            ("CALL p(pg_backend_pid())", format!("CALL p({plain})")),
            (
                "SELECT 1; CREATE TABLE t AS SELECT pg_backend_pid(); SELECT 2",
                format!("SELECT 1; CREATE TABLE t AS SELECT {named}; SELECT 2"),
            ),
            (
                "PREPARE p AS SELECT pg_backend_pid()",
                format!("PREPARE p AS SELECT {named}"),
            ),
        ] {
            assert_eq!(text(sql), Ok(Some(expected)), "{sql}");
        }
    }

    #[test]
    fn current_query_becomes_the_whole_text_that_the_client_sent() {
        let sql = r"SELECT current_query(), '\' FROM t WHERE q = current_query(); SELECT 1";
        let told = r"E'SELECT current_query(), ''\\'' FROM t WHERE q = current_query(); SELECT 1'::pg_catalog.text";
        let expected = format!(
            r#"SELECT (SELECT {told} AS "current_query"), '\' FROM t WHERE q = {told}; SELECT 1"#
        );
        assert_eq!(text(sql), Ok(Some(expected)));
        let sql = "SELECT * FROM pg_catalog.current_query()";
        let expected = format!(
            "SELECT * FROM pg_catalog.unnest(ARRAY[E'{sql}'::pg_catalog.text]) AS current_query"
        );
        assert_eq!(text(sql), Ok(Some(expected)));
    }

    #[test]
    fn what_is_kept_for_later_or_only_looks_like_it_stays() {
        for sql in [
            "PREPARE p AS SELECT current_query()",
            "DECLARE c CURSOR FOR SELECT current_query()",
            "CREATE VIEW v AS SELECT current_query()",
            "CREATE VIEW v AS SELECT pg_backend_pid()",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT pg_backend_pid()'",
            "DO 'SELECT pg_backend_pid()'",
            "SELECT pg_backend_pid FROM t",
            "SELECT my.pg_backend_pid(), 'pg_backend_pid()' AS pg_locks",
            "SELECT pg_stat_activity.pid FROM my.pg_stat_activity",
        ] {
            assert_eq!(text(sql), Ok(None), "{sql}");
        }
        for sql in [
            "CREATE TABLE t (a int DEFAULT pg_backend_pid())",
            "SELECT * FROM pg_stat_get_activity(NULL)",
            "SELECT * FROM pg_blocking_pids(5)",
            "SELECT pg_terminate_backend(timeout => 5, pid => 6)",
        ] {
            assert!(text(sql).is_err(), "{sql}");
        }
    }

    #[test]
    fn views_of_processes_become_queries_where_they_are_tables() {
        let query = |view: &str| {
            format!(
                "(SELECT mothership_told.* FROM pg_catalog.{view} AS mothership, \
                 LATERAL pg_catalog.jsonb_populate_record(mothership, pg_catalog.jsonb_build_object('pid', \
                 CASE WHEN mothership.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() THEN 777 \
                 ELSE mothership.pid END)) AS mothership_told)"
            )
        };
        let (locks, ssl) = (query("pg_locks"), query("pg_stat_ssl"));
        let shown = text("SELECT 1 FROM pg_stat_activity").unwrap().unwrap();
        let own = "'query', CASE WHEN mothership.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() \
            THEN E'SELECT 1 FROM pg_stat_activity'::pg_catalog.text ELSE mothership.query END)";
        assert!(shown.contains(own), "{shown}");
        for (sql, expected) in [
            (
                "TABLE pg_locks",
                format!("SELECT * FROM {locks} AS pg_locks"),
            ),
            (
                "SELECT pg_catalog.pg_locks.pid FROM pg_catalog.pg_locks WHERE pg_locks.granted",
                format!("SELECT pg_locks.pid FROM {locks} AS pg_locks WHERE pg_locks.granted"),
            ),
            (
                "SELECT 1 FROM (pg_locks l JOIN pg_stat_ssl USING (pid)), pg_lock_status() x",
                format!(
                    "SELECT 1 FROM ({locks} l JOIN {ssl} AS pg_stat_ssl USING (pid)), {locks} x"
                ),
            ),
        ] {
            assert_eq!(text(sql), Ok(Some(expected)), "{sql}");
        }
    }

    #[test]
    fn a_question_about_a_process_gets_the_numbers_that_the_server_knows() {
        let processes = Processes {
            target: Some(11),
            others: vec![12, 13],
            clients: vec![(11, 777), (12, 888)],
        };
        let read = |sql: &str| {
            let question = Question::of(sql.as_bytes(), true)?;
            let told = question.asked(sql.as_bytes(), &processes);
            Some((question.others, String::from_utf8(told.sql).unwrap()))
        };
        assert_eq!(
            read("SELECT pg_catalog.pg_isolation_test_session_is_blocked($1, '{888, 999}')"),
            Some((
                vec![888, 999],
                "SELECT (SELECT pg_catalog.pg_isolation_test_session_is_blocked(11, '{12,13}') \
                 AS \"pg_isolation_test_session_is_blocked\" \
                 FROM (SELECT $1::pg_catalog.int4) AS mothership_argument)"
                    .into()
            ))
        );
        assert_eq!(
            read("SELECT pg_blocking_pids(777) AS by"),
            Some((
                vec![],
                "SELECT (SELECT ARRAY(SELECT CASE WHEN mothership.pid OPERATOR(pg_catalog.=) 11 THEN 777 \
                 WHEN mothership.pid OPERATOR(pg_catalog.=) 12 THEN 888 ELSE mothership.pid END \
                 FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids(11)) WITH ORDINALITY \
                 AS mothership (pid, place) ORDER BY mothership.place) AS \"pg_blocking_pids\") AS by"
                    .into()
            ))
        );
        for sql in [
            "SELECT pg_blocking_pids(pid) FROM pg_stat_activity",
            "SELECT pg_blocking_pids(1), 1",
            "SELECT pg_isolation_test_session_is_blocked($1, $2)",
            "SELECT pg_isolation_test_session_is_blocked($1, '{a}')",
        ] {
            assert_eq!(read(sql), None, "{sql}");
        }
    }

    #[test]
    fn a_signal_by_a_number_that_stands_there_is_known() {
        let read = |sql: &str| {
            let signal = Signal::of(sql.as_bytes(), true)?;
            let done = signal.carried_out(sql.as_bytes());
            Some((
                signal.action,
                signal.target,
                String::from_utf8(done.sql).unwrap(),
            ))
        };
        assert_eq!(
            read("SELECT pg_cancel_backend(5)"),
            Some((
                ProcessAction::Cancel,
                Target::Number(5),
                "SELECT (SELECT true AS \"pg_cancel_backend\")".into()
            ))
        );
        assert_eq!(
            read("select pg_catalog.pg_terminate_backend($1::int, 100) AS done;"),
            Some((
                ProcessAction::Terminate,
                Target::Parameter(1),
                "select (SELECT true AS \"pg_terminate_backend\" FROM (SELECT $1::pg_catalog.int4) \
                 AS mothership_argument) AS done;"
                    .into()
            ))
        );
        for sql in [
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity",
            "SELECT pg_cancel_backend(5) WHERE false",
            "SELECT pg_cancel_backend(5), 1",
            "SELECT pg_cancel_backend(5); SELECT 1",
            "SELECT my.pg_cancel_backend(5)",
        ] {
            assert_eq!(read(sql), None, "{sql}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_harm(
            sql in "((select|from|pg_locks|pg_backend_pid|pg_blocking_pids|pg_cancel_backend|current_schemas|table|pg_catalog|é|'x'|[(),.;\"' $1-])( ?)){0,14}"
        ) {
            let _ = text(&sql);
            let _ = text(&format!("select {sql}"));
        }
    }
}
