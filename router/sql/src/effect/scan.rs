//! Raises the flags: one walk over the tokens, then what the kind of statement adds.

use super::super::cursor::Cursor;
use super::super::functions::{Trait, acts_as_field};
use super::super::keywords::never_a_function;
use super::super::lexer::{Kind, Token};
use super::super::name::Name;
use super::super::process::is_told_by;
use super::effects::{Argument, Effects, FunctionName, SetConfig, SetConfigCall, Writes};
use super::statement::{CopyEnd, Direction, Object, Other, SetValue, Statement, Verb};

/// The effects of the statement at the cursor, which was read as `statement`.
pub(super) fn effects<'a>(c: Cursor<'a>, statement: &Statement<'a>) -> Effects<'a> {
    match statement {
        Statement::Explain { analyze, inner, .. } => explained(&c, inner.of(c.sql()), *analyze),
        Statement::Prepare { .. } | Statement::Empty => Effects::default(),
        Statement::Unclear => Effects {
            functions: walk(c).functions,
            ..Effects::unknown()
        },
        _ => {
            let mut effects = walk(c.clone());
            by_kind(&mut effects, &c, statement);
            effects
        }
    }
}

/// Without ANALYZE the inner statement is planned, which runs no volatile function.
fn explained<'a>(c: &Cursor<'a>, inner: &'a [u8], analyze: bool) -> Effects<'a> {
    let effects = super::analyse(inner, c.conforming()).effects;
    if analyze {
        return effects;
    }
    Effects {
        functions: effects.functions,
        uncertain: effects.uncertain,
        processes: effects.processes,
        ..Effects::default()
    }
}

fn by_kind<'a>(effects: &mut Effects<'a>, c: &Cursor<'a>, statement: &Statement<'a>) {
    use Statement::*;
    let writes = match statement {
        Insert | Update | Delete | Merge | Truncate | Notify(_) => Writes::Yes,
        PrepareTransaction(_) => Writes::Yes,
        CommitPrepared(_) | RollbackPrepared(_) => {
            effects.outside_block = true;
            Writes::Yes
        }
        Copy {
            direction: Direction::In,
            ..
        } => Writes::Yes,
        // A file or a program on the server.
        Copy {
            end: CopyEnd::Server,
            ..
        } => Writes::Perhaps,
        Do | Call => {
            effects.opaque = true;
            Writes::Perhaps
        }
        Execute { .. } | Unlisten(_) => Writes::Perhaps,
        Listen(_) => {
            effects.listen = true;
            Writes::Perhaps
        }
        Lock => {
            effects.locking = true;
            Writes::Perhaps
        }
        Declare { hold, .. } => {
            effects.with_hold = *hold;
            effects.writes
        }
        Set { name, value, .. } => {
            setting(effects, c, name, value);
            Writes::No
        }
        Discard(what) => {
            effects.outside_block = *what == super::DiscardWhat::All;
            Writes::No
        }
        Ddl { verb, object } => {
            definition(effects, c.clone(), *verb, *object);
            Writes::Yes
        }
        Other(other) => utility(effects, c.clone(), *other),
        _ => effects.writes,
    };
    effects.writes = effects.writes.max(writes);
}

/// Temporary objects can be created through search_path.
fn setting(effects: &mut Effects<'_>, c: &Cursor<'_>, name: &Name<'_>, value: &SetValue<'_>) {
    effects.seed |= *name == "seed";
    if let SetValue::Given { span, .. } = value {
        effects.temp_object |= *name == "search_path" && mentions_temp(span.of(c.sql()));
    }
}

fn mentions_temp(text: &[u8]) -> bool {
    text.windows(7).any(|part| part.eq_ignore_ascii_case(b"pg_temp"))
        // Spelled with escapes: cannot be told.
        || text.contains(&b'\\')
}

fn utility(effects: &mut Effects<'_>, mut c: Cursor<'_>, other: Other) -> Writes {
    c.bump();
    match other {
        Other::Load => {
            effects.load = true;
            return Writes::No;
        }
        Other::Vacuum => effects.outside_block = true,
        // Without a table: every table, each in its own transaction.
        Other::Cluster => {
            c.eat("verbose");
            c.group();
            effects.outside_block = c.at_end();
        }
        Other::Reindex => {
            effects.outside_block = mentions(c.clone(), "concurrently");
            c.group();
            // Partitioned tables and indexes are refused in a block too, which tokens do not show.
            effects.outside_block |= c.sees_any(&["database", "system", "schema"]);
        }
        Other::Analyze | Other::Checkpoint => {}
    }
    Writes::Yes
}

fn definition(effects: &mut Effects<'_>, mut c: Cursor<'_>, verb: Verb, object: Object) {
    c.bump();
    effects.outside_block = match (verb, object) {
        (
            Verb::Create | Verb::Drop,
            Object::Database | Object::Tablespace | Object::Subscription,
        ) => true,
        (Verb::Alter, Object::System | Object::Subscription) => true,
        (Verb::Alter, Object::Database) => mentions(c.clone(), "tablespace"),
        (Verb::Create | Verb::Drop, Object::Index) | (Verb::Alter, Object::Table) => {
            mentions(c.clone(), "concurrently")
        }
        _ => false,
    };
    if verb == Verb::Create {
        while c.eat_any(&["or", "replace", "global", "local"]) {}
        effects.temp_object |= c.sees_any(&["temp", "temporary"]);
    }
    if !runs_expressions(verb, object) {
        forget_calls(effects);
    }
}

/// Whether the definition may run the functions that it mentions. CREATE TABLE AS does,
/// and adding a column with a default; stored queries, code and grants do not.
fn runs_expressions(verb: Verb, object: Object) -> bool {
    let stored = matches!(
        object,
        Object::View | Object::Routine | Object::Rule | Object::Trigger | Object::Policy
    );
    matches!(verb, Verb::Create | Verb::Alter | Verb::Refresh) && !stored
}

fn forget_calls(effects: &mut Effects<'_>) {
    *effects = Effects {
        temp_object: effects.temp_object,
        outside_block: effects.outside_block,
        uncertain: effects.uncertain,
        ..Effects::default()
    };
}

fn mentions(mut c: Cursor<'_>, word: &str) -> bool {
    while let Some(token) = c.bump() {
        if c.is(token, word) {
            return true;
        }
    }
    false
}

/// The token before, as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Start,
    LParen,
    RParen,
    TypeCast,
    Dot,
    As,
    Into,
    Not,
    On,
    For,
    Do,
    Other,
}

/// Looks at every token once.
fn walk(c: Cursor<'_>) -> Effects<'_> {
    let mut effects = Effects::default();
    let (mut set_configs, mut settings) = (false, false);
    let mut at = c.clone();
    let mut before = Before::Start;
    while let Some(token) = at.peek() {
        effects.uncertain |= token.kind.is_uncertain();
        before = match token.kind {
            Kind::Word | Kind::QuotedIdent | Kind::UnicodeIdent => {
                let now = if token.kind == Kind::Word {
                    word(&mut effects, &at, token, before)
                } else {
                    Before::Other
                };
                settings |= names_settings(&at);
                if let Some(call) = identifiers(&mut effects, &mut at, token, before) {
                    set_configs |= called(&mut effects, call);
                }
                now
            }
            kind => {
                at.bump();
                match kind {
                    Kind::LParen => Before::LParen,
                    Kind::RParen => Before::RParen,
                    Kind::TypeCast => Before::TypeCast,
                    Kind::Dot => Before::Dot,
                    _ => Before::Other,
                }
            }
        };
    }
    if set_configs {
        let is_known = |call: &SetConfigCall<'_>| {
            matches!(
                (&call.name, &call.value),
                (Argument::Text(_), Argument::Text(_))
            )
        };
        effects.set_config = match set_config(c.clone()) {
            Some(calls) if calls.iter().all(is_known) => SetConfig::Calls(calls),
            _ if sets_speed(c.clone()) => SetConfig::Speed,
            Some(calls) => SetConfig::Calls(calls),
            None => SetConfig::Unclear,
        };
        if let SetConfig::Calls(calls) = &effects.set_config {
            effects.temp_object |= calls.iter().any(|call| matches!(&call.value, Argument::Text(text) if mentions_temp(text.as_bytes())));
            // No rollback takes a seed away.
            effects.seed |= calls.iter().any(|call| match &call.name {
                Argument::Text(name) => name.as_bytes().eq_ignore_ascii_case(b"seed"),
                _ => call.local,
            });
        }
    }
    if settings && effects.writes != Writes::No {
        effects.set_config = SetConfig::Unclear;
    }
    effects
}

/// Whether the names at the cursor are those of `pg_settings`, a view whose rule for UPDATE is a call of `set_config`.
fn names_settings(at: &Cursor<'_>) -> bool {
    let mut at = at.clone();
    at.path()
        .is_some_and(|path| path.last().is_some_and(|name| *name == "pg_settings"))
}

/// Keywords that tell of writes and locks. `at` stands before the word.
fn word(effects: &mut Effects<'_>, at: &Cursor<'_>, token: Token, before: Before) -> Before {
    let mut next = at.clone();
    next.bump();
    let text = token.text(at.sql());
    // Most words are longer or shorter than these.
    if text.len() > 6 || before == Before::As {
        return Before::Other;
    }
    match &*text.to_ascii_lowercase() {
        b"as" => Before::As,
        b"not" => Before::Not,
        b"on" => Before::On,
        b"do" => Before::Do,
        b"into" => {
            into(effects, next);
            Before::Into
        }
        b"for" => {
            effects.locking |= next.sees_any(&["update", "share", "no", "key"]);
            Before::For
        }
        b"insert" | b"update" | b"delete" | b"merge" => {
            let writes = match before {
                Before::Start | Before::LParen | Before::RParen => Writes::Yes,
                Before::For | Before::Do => Writes::No,
                // FOR NO KEY UPDATE, or a column of that name: the lock is noted already.
                _ if effects.locking => Writes::No,
                _ => Writes::Perhaps,
            };
            effects.writes = effects.writes.max(writes);
            Before::Other
        }
        _ => Before::Other,
    }
}

/// After INTO: of INSERT and MERGE, or of SELECT, where it may create a temporary table.
fn into(effects: &mut Effects<'_>, mut next: Cursor<'_>) {
    effects.writes = Writes::Yes;
    next.eat_any(&["local", "global"]);
    // INSERT INTO temp is a table of that name: a pin too many does no harm.
    effects.temp_object |= next.sees_any(&["temp", "temporary"]);
}

/// Takes `a`, `a.b`, `a.b.c`; gives the name if a call's parenthesis follows.
fn identifiers<'a>(
    effects: &mut Effects<'a>,
    at: &mut Cursor<'a>,
    token: Token,
    before: Before,
) -> Option<FunctionName<'a>> {
    let Some(mut name) = at.name() else {
        // A broken U&"" name: PostgreSQL refuses it.
        effects.uncertain = true;
        at.bump();
        return None;
    };
    effects.temp_object |= is_temp(&name);
    let mut schema = None;
    let mut is_field = before == Before::Dot;
    loop {
        let mut ahead = at.clone();
        if !ahead.eat_kind(Kind::Dot) {
            break;
        }
        let Some(next) = ahead.name() else { break };
        schema = Some(std::mem::replace(&mut name, next));
        is_field = true;
        effects.temp_object |= is_temp(&name);
        *at = ahead;
    }
    effects.backend_identity |= name == "pg_cursors" || name == "pg_backend_memory_contexts";
    effects.prepared |= name == "pg_prepared_statements" || name == "pg_prepared_statement";
    effects.processes |= is_told_by(name.as_bytes());
    if is_field && !at.sees_kind(Kind::LParen) && acts_as_field(name.as_bytes()) {
        return Some(FunctionName { schema: None, name });
    }
    if !at.sees_kind(Kind::LParen) || matches!(before, Before::As | Before::Into | Before::TypeCast)
    {
        return None;
    }
    if token.kind == Kind::Word && schema.is_none() {
        let clause = match before {
            Before::RParen => name == "over" || name == "filter",
            Before::Not => name == "materialized",
            Before::On => name == "conflict",
            _ => false,
        };
        if clause || never_a_function(name.as_bytes()) {
            return None;
        }
    }
    Some(FunctionName { schema, name })
}

fn is_temp(name: &Name<'_>) -> bool {
    name.as_bytes() == b"pg_temp" || name.as_bytes().starts_with(b"pg_temp_")
}

/// Notes a call; says whether it is set_config.
fn called<'a>(effects: &mut Effects<'a>, function: FunctionName<'a>) -> bool {
    let special = function.special();
    match special {
        // The number that a client gets for it is its own on every server.
        Some(Trait::Session) if function.name == "pg_backend_pid" => {}
        Some(Trait::Session) => effects.backend_identity = true,
        Some(Trait::SequenceSession) => effects.sequence_read = true,
        Some(Trait::Sequence) => {
            effects.sequence_write = true;
            effects.writes = Writes::Yes;
        }
        Some(Trait::Writes) => effects.writes = Writes::Yes,
        Some(Trait::Seed) => effects.seed = true,
        Some(Trait::Slot) => {
            effects.slot = true;
            effects.writes = Writes::Yes;
        }
        Some(Trait::LockSession) => effects.session_lock = true,
        Some(Trait::UnlockSession) => effects.session_unlock = true,
        Some(Trait::LockTransaction) => effects.transaction_lock = true,
        Some(Trait::Opaque) => {
            effects.opaque = true;
            effects.writes = effects.writes.max(Writes::Perhaps);
        }
        Some(Trait::Value | Trait::Server | Trait::SetConfig) | None => {}
    }
    if !effects.functions.contains(&function) {
        effects.functions.push(function);
    }
    special == Some(Trait::SetConfig)
}

/// `SELECT set_config(...) [[AS] label], ...` and nothing else.
fn set_config(mut c: Cursor<'_>) -> Option<Vec<SetConfigCall<'_>>> {
    let mut calls = Vec::new();
    if !c.eat("select") {
        return None;
    }
    loop {
        let path = c.path()?;
        let named = match &path[..] {
            [name] => *name == "set_config",
            [schema, name] => *schema == "pg_catalog" && *name == "set_config",
            _ => false,
        };
        if !named || !c.eat_kind(Kind::LParen) {
            return None;
        }
        calls.push(arguments(&mut c)?);
        let bare = c.peek().is_some_and(|token| token.kind == Kind::Word) && !c.sees_any(&CLAUSES);
        if c.eat("as") || bare {
            c.name()?;
        }
        if !c.eat_kind(Kind::Comma) {
            return c.at_end().then_some(calls);
        }
    }
}

/// Settings that change how long an answer takes, and nothing else.
const SPEED: [&str; 1] = ["jit"];

/// Whether every call of set_config sets one of these, by a literal.
fn sets_speed(mut c: Cursor<'_>) -> bool {
    while let Some(token) = c.peek() {
        if c.eat("set_config") {
            let sets = |name: Name<'_>| {
                let name = name.folded();
                SPEED.iter().any(|known| name == *known)
            };
            if !(c.eat_kind(Kind::LParen)
                && c.string().is_some_and(sets)
                && c.eat_kind(Kind::Comma))
            {
                return false;
            }
            continue;
        }
        // In quotes it is read nowhere here.
        if matches!(token.kind, Kind::QuotedIdent | Kind::UnicodeIdent) {
            return false;
        }
        c.bump();
    }
    true
}

/// What may follow a select list: with any of these a call may run never or often.
const CLAUSES: [&str; 14] = [
    "from",
    "where",
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
    "into",
];

fn arguments<'a>(c: &mut Cursor<'a>) -> Option<SetConfigCall<'a>> {
    let name = match argument(c)? {
        Argument::Text(name) => Argument::Text(name.folded()),
        other => other,
    };
    let value = c.eat_kind(Kind::Comma).then(|| argument(c))??;
    if !c.eat_kind(Kind::Comma) {
        return None;
    }
    let local = c.eat("true");
    if !local && !c.eat("false") {
        return None;
    }
    c.eat_kind(Kind::RParen)
        .then_some(SetConfigCall { name, value, local })
}

fn argument<'a>(c: &mut Cursor<'a>) -> Option<Argument<'a>> {
    let token = c.peek()?;
    let argument = if c.eat("null") {
        Argument::Null
    } else if c.eat_kind(Kind::Param) {
        let digits = std::str::from_utf8(token.text(c.sql()).get(1..)?).ok()?;
        Argument::Param(digits.parse().ok().filter(|n| *n > 0)?)
    } else {
        Argument::Text(c.string()?)
    };
    if c.eat_kind(Kind::TypeCast) && !c.eat_any(&["text", "varchar"]) {
        return None;
    }
    Some(argument)
}
