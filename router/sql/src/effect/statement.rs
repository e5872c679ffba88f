//! The kinds of statements, and the first look that tells them apart.

use super::super::cursor::{Cursor, Span};
use super::super::lexer::Kind;
use super::super::name::Name;
use super::{session, settings, transaction};

/// One statement. Spans are of the text that was analysed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement<'a> {
    /// White space and comments.
    Empty,
    /// More than one statement.
    Several,
    /// Begins like nothing we know, or does not go on as its grammar demands. Most
    /// likely PostgreSQL refuses it; if it does not, nothing is known of the session.
    Unclear,

    /// `BEGIN`, `START TRANSACTION`
    Begin {
        /// As given.
        modes: Modes,
        /// The modes' text, to be replayed verbatim after `BEGIN`.
        modes_span: Span,
    },
    /// `COMMIT`, `END`
    Commit {
        /// `AND CHAIN`
        chain: bool,
    },
    /// `ROLLBACK`, `ABORT`
    Rollback {
        /// `AND CHAIN`
        chain: bool,
    },
    /// `SAVEPOINT name`
    Savepoint(Name<'a>),
    /// `ROLLBACK TO [SAVEPOINT] name`
    RollbackTo(Name<'a>),
    /// `RELEASE [SAVEPOINT] name`
    Release(Name<'a>),
    /// `PREPARE TRANSACTION 'gid'`
    PrepareTransaction(Name<'a>),
    /// `COMMIT PREPARED 'gid'`
    CommitPrepared(Name<'a>),
    /// `ROLLBACK PREPARED 'gid'`
    RollbackPrepared(Name<'a>),
    /// `SET TRANSACTION modes`; also with LOCAL or SESSION before it.
    SetTransaction(Modes),
    /// `SET TRANSACTION SNAPSHOT 'id'`
    SetTransactionSnapshot(Name<'a>),
    /// `SET SESSION CHARACTERISTICS AS TRANSACTION modes`
    SetSessionCharacteristics(Modes),
    /// `SET CONSTRAINTS`
    SetConstraints,

    /// `SET`, but for what has a variant of its own.
    Set {
        /// How long it lasts.
        scope: Scope,
        /// The canonical name in lower case, `a.b` for two parts: `TIME ZONE` is `timezone`,
        /// `NAMES` is `client_encoding`, `SCHEMA` is `search_path`, `XML OPTION` is `xmloption`.
        name: Name<'a>,
        /// What it is set to.
        value: SetValue<'a>,
    },
    /// `RESET name`, canonical as in [`Statement::Set`]
    Reset(Name<'a>),
    /// `RESET ALL`
    ResetAll,
    /// `SET ROLE`, `SET role = ...`, and its RESET.
    SetRole {
        /// How long it lasts.
        scope: Scope,
        /// The role.
        role: Target<'a>,
    },
    /// `SET SESSION AUTHORIZATION`, `SET session_authorization = ...`, and its RESET.
    SetSessionAuthorization {
        /// How long it lasts.
        scope: Scope,
        /// The role.
        role: Target<'a>,
    },
    /// `SHOW name`, canonical as in [`Statement::Set`]
    Show(Name<'a>),
    /// `SHOW ALL`
    ShowAll,
    /// `DISCARD`
    Discard(DiscardWhat),

    /// SQL-level `PREPARE`. The effects of the body are not counted: analyse it at EXECUTE.
    Prepare {
        /// The statement's name.
        name: Name<'a>,
        /// What stands between the parentheses after the name.
        types: Option<Span>,
        /// The statement itself.
        body: Span,
    },
    /// `EXECUTE name (args)`
    Execute {
        /// The statement's name.
        name: Name<'a>,
        /// What stands between the parentheses after the name.
        args: Option<Span>,
    },
    /// `DEALLOCATE name`, or ALL without a name.
    Deallocate(Option<Name<'a>>),
    /// `DECLARE ... CURSOR`
    Declare {
        /// The cursor.
        name: Name<'a>,
        /// `WITH HOLD`
        hold: bool,
        /// `SCROLL`: yes, `NO SCROLL`, or not said.
        scroll: Option<bool>,
        /// `BINARY`
        binary: bool,
        /// Its query.
        query: Span,
    },
    /// `FETCH`
    Fetch {
        /// The cursor.
        name: Name<'a>,
        /// Everything between FETCH and the name: `10 FROM`, `FORWARD ALL IN`; may be empty.
        how: Span,
    },
    /// `MOVE`
    Move {
        /// The cursor.
        name: Name<'a>,
        /// As for FETCH.
        how: Span,
    },
    /// `CLOSE name`, or ALL without a name.
    Close(Option<Name<'a>>),

    /// `LISTEN channel`
    Listen(Name<'a>),
    /// `UNLISTEN channel`, or `*` without a name.
    Unlisten(Option<Name<'a>>),
    /// `NOTIFY channel [, payload]`
    Notify(Name<'a>),
    /// `LOCK [TABLE]`
    Lock,

    /// `COPY`
    Copy {
        /// Which way the rows go.
        direction: Direction,
        /// Whether the rows pass through the connection.
        end: CopyEnd,
        /// A table or a query.
        source: CopySource<'a>,
    },
    /// `EXPLAIN`
    Explain {
        /// It also executes the statement.
        analyze: bool,
        /// `EXPLAIN (ROUTE)`, which is ours.
        route: bool,
        /// The statement that is explained.
        inner: Span,
    },
    /// `DO`: runs code that tokens do not show. May end transactions.
    Do,
    /// `CALL`: likewise.
    Call,

    /// SELECT, VALUES, TABLE, or WITH before one of them; data-modifying CTEs and
    /// SELECT INTO included: see [`Effects::writes`](super::Effects::writes).
    Select,
    /// INSERT, also behind WITH.
    Insert,
    /// UPDATE, also behind WITH.
    Update,
    /// DELETE, also behind WITH.
    Delete,
    /// MERGE, also behind WITH.
    Merge,
    /// TRUNCATE
    Truncate,
    /// Changes definitions.
    Ddl {
        /// The first word.
        verb: Verb,
        /// What kind of thing.
        object: Object,
    },
    /// Anything else that has no effect on the session.
    Other(Other),
}

/// How long a setting lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Until the session ends or it is set again; undone if the transaction is rolled back.
    Session,
    /// Until the transaction ends.
    Local,
}

/// What a setting is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetValue<'a> {
    /// `DEFAULT`; for TIME ZONE also `LOCAL`.
    Default,
    /// `FROM CURRENT`: whatever it is now, as known to the server alone.
    FromCurrent,
    /// A value.
    Given {
        /// The text of the value or of the list, as written.
        span: Span,
        /// The value, if it is a single word, string or number: what SHOW would be given.
        /// Unquoted words are in lower case.
        text: Option<Name<'a>>,
    },
}

/// Which role is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// `DEFAULT` or a RESET: back to what the session started with, which may be a role too (`ALTER ROLE ... SET role`).
    Original,
    /// This role. SET ROLE takes `none`, in any spelling, as no role (PostgreSQL, `variable.c`: `check_role`).
    Role(Name<'a>),
}

/// Isolation levels. READ UNCOMMITTED behaves as READ COMMITTED but is shown as given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// `READ UNCOMMITTED`
    ReadUncommitted,
    /// `READ COMMITTED`
    ReadCommitted,
    /// `REPEATABLE READ`
    RepeatableRead,
    /// `SERIALIZABLE`
    Serializable,
}

/// Transaction modes, each as last given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// `ISOLATION LEVEL`
    pub isolation: Option<Isolation>,
    /// `READ ONLY` or `READ WRITE`
    pub read_only: Option<bool>,
    /// `DEFERRABLE` or `NOT DEFERRABLE`
    pub deferrable: Option<bool>,
}

/// What DISCARD throws away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardWhat {
    /// Everything that belongs to the session.
    All,
    /// Cached plans; prepared statements stay.
    Plans,
    /// What currval and lastval remember.
    Sequences,
    /// Temporary tables.
    Temp,
}

/// Which way COPY goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `FROM`: into the table.
    In,
    /// `TO`: out of it.
    Out,
}

/// Where COPY's other end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyEnd {
    /// `STDIN`, `STDOUT`: the connection.
    Client,
    /// A file or program on the server.
    Server,
}

/// What COPY copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySource<'a> {
    /// A table by its path, with the column list's inside.
    Table(Vec<Name<'a>>, Option<Span>),
    /// A query, or INSERT, UPDATE, DELETE with RETURNING.
    Query(Span),
}

/// The first word of a statement that changes definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Verb {
    Create,
    Alter,
    Drop,
    Comment,
    Grant,
    Revoke,
    SecurityLabel,
    Reassign,
    ImportForeignSchema,
    Refresh,
}

/// What kind of thing a definition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Object {
    Table,
    Index,
    View,
    MaterializedView,
    Sequence,
    Schema,
    /// Functions, procedures, routines, aggregates.
    Routine,
    /// Types and domains.
    Type,
    Extension,
    /// Roles, users, groups, and grants of roles.
    Role,
    Database,
    Tablespace,
    /// `ALTER SYSTEM`
    System,
    Trigger,
    Rule,
    Policy,
    Publication,
    Subscription,
    /// Anything else: casts, operators, collations, languages, foreign servers, text search, statistics ...
    Other,
}

/// Statements without effect on the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Other {
    Analyze,
    Vacuum,
    Cluster,
    Reindex,
    Checkpoint,
    /// Loads a library into this backend; see [`Pin::Load`](super::Pin::Load).
    Load,
}

/// Reads the statement at the cursor.
pub(super) fn read(mut c: Cursor<'_>) -> Statement<'_> {
    let at_start = c.clone();
    if c.sees_kind(Kind::LParen) {
        return query(c).unwrap_or(Statement::Unclear);
    }
    let Some(token) = c.peek().filter(|token| token.kind == Kind::Word) else {
        return Statement::Unclear;
    };
    let word = token.text(c.sql()).to_ascii_lowercase();
    c.bump();
    let read = match &*word {
        b"select" | b"values" | b"table" => Some(Statement::Select),
        b"with" => query(at_start),
        b"insert" => Some(Statement::Insert),
        b"update" => Some(Statement::Update),
        b"delete" => Some(Statement::Delete),
        b"merge" => Some(Statement::Merge),
        b"truncate" => Some(Statement::Truncate),

        b"begin" => transaction::begin(c, true),
        b"start" => transaction::begin(c, false),
        b"commit" | b"end" => transaction::commit(c, &word == b"commit"),
        b"rollback" | b"abort" => transaction::rollback(c, &word == b"rollback"),
        b"savepoint" => only(&mut c, Cursor::name).map(Statement::Savepoint),
        b"release" => transaction::release(c),

        b"set" => settings::set(c),
        b"reset" => settings::reset(c),
        b"show" => settings::show(c),
        b"discard" => session::discard(c),

        b"prepare" => session::prepare(c),
        b"execute" => session::execute(c),
        b"deallocate" => session::deallocate(c),
        b"declare" => session::declare(c),
        b"fetch" => session::fetch(c).map(|(name, how)| Statement::Fetch { name, how }),
        b"move" => session::fetch(c).map(|(name, how)| Statement::Move { name, how }),
        b"close" => session::close(c),
        b"listen" => only(&mut c, Cursor::name).map(Statement::Listen),
        b"unlisten" => session::unlisten(c),
        b"notify" => session::notify(c),
        b"lock" => Some(Statement::Lock),
        b"copy" => session::copy(c),
        b"explain" => session::explain(c),
        b"do" => Some(Statement::Do),
        b"call" => Some(Statement::Call),

        b"create" => Some(ddl(Verb::Create, c)),
        b"alter" => Some(ddl(Verb::Alter, c)),
        b"drop" => Some(ddl(Verb::Drop, c)),
        b"comment" => c.eat("on").then(|| ddl(Verb::Comment, c)),
        b"grant" => Some(grant(Verb::Grant, c)),
        b"revoke" => Some(grant(Verb::Revoke, c)),
        b"security" => c.eat("label").then_some(Statement::Ddl {
            verb: Verb::SecurityLabel,
            object: Object::Other,
        }),
        b"reassign" => c.eat("owned").then_some(Statement::Ddl {
            verb: Verb::Reassign,
            object: Object::Other,
        }),
        b"import" => c.eat("foreign").then_some(Statement::Ddl {
            verb: Verb::ImportForeignSchema,
            object: Object::Other,
        }),
        b"refresh" => c.eat("materialized").then_some(Statement::Ddl {
            verb: Verb::Refresh,
            object: Object::MaterializedView,
        }),
        b"analyze" | b"analyse" => Some(Statement::Other(Other::Analyze)),
        b"vacuum" => Some(Statement::Other(Other::Vacuum)),
        b"cluster" => Some(Statement::Other(Other::Cluster)),
        b"reindex" => Some(Statement::Other(Other::Reindex)),
        b"checkpoint" => Some(Statement::Other(Other::Checkpoint)),
        b"load" => Some(Statement::Other(Other::Load)),
        _ => None,
    };
    read.unwrap_or(Statement::Unclear)
}

/// What `read` gives, if nothing follows it.
pub(super) fn only<'a, T>(
    c: &mut Cursor<'a>,
    read: impl Fn(&mut Cursor<'a>) -> Option<T>,
) -> Option<T> {
    let value = read(c)?;
    c.at_end().then_some(value)
}

/// The verb of a query in parentheses or behind WITH. The first such word outside
/// parentheses that is no name of a CTE; a column of that name in SEARCH or CYCLE could be
/// taken for it, and then the statement is taken for a write.
fn query(mut c: Cursor<'_>) -> Option<Statement<'_>> {
    while c.eat_kind(Kind::LParen) {}
    if c.sees_any(&["select", "values", "table"]) {
        return Some(Statement::Select);
    }
    if !c.eat("with") {
        return None;
    }
    c.eat("recursive");
    let mut name_next = true;
    while let Some(token) = c.peek() {
        if c.group().is_some() {
            continue;
        }
        if !name_next && token.kind == Kind::Word {
            match &*token.text(c.sql()).to_ascii_lowercase() {
                b"select" | b"values" | b"table" => return Some(Statement::Select),
                b"insert" => return Some(Statement::Insert),
                b"update" => return Some(Statement::Update),
                b"delete" => return Some(Statement::Delete),
                b"merge" => return Some(Statement::Merge),
                _ => {}
            }
        }
        name_next = token.kind == Kind::Comma;
        c.bump();
        // WITH x AS (...) (SELECT ...): the only place where a group follows a group.
        if token.kind == Kind::LParen {
            return None;
        }
    }
    // All was names and groups: the query itself is the last group.
    Some(Statement::Select)
}

fn ddl(verb: Verb, mut c: Cursor<'_>) -> Statement<'_> {
    loop {
        let noise = [
            "or",
            "replace",
            "global",
            "local",
            "temp",
            "temporary",
            "unlogged",
            "unique",
            "constraint",
            "recursive",
            "foreign",
            "event",
            "trusted",
            "procedural",
            "default",
        ];
        if !c.eat_any(&noise) {
            break;
        }
    }
    Statement::Ddl {
        verb,
        object: object(&mut c),
    }
}

/// `GRANT ... ON object TO ...`, or of roles without ON.
fn grant(verb: Verb, mut c: Cursor<'_>) -> Statement<'_> {
    let object = loop {
        match c.peek() {
            None => break Object::Role,
            Some(_) if c.eat("on") => {
                let mut named = c.clone();
                break match object(&mut named) {
                    // A table without the word TABLE.
                    Object::Other
                        if !c.sees_any(&["foreign", "language", "large", "parameter", "all"]) =>
                    {
                        Object::Table
                    }
                    known => known,
                };
            }
            Some(_) if c.group().is_some() => {}
            Some(_) => {
                c.bump();
            }
        }
    };
    Statement::Ddl { verb, object }
}

fn object(c: &mut Cursor<'_>) -> Object {
    let words: [(&[&str], Object); 26] = [
        (&["table"], Object::Table),
        (&["column"], Object::Table),
        (&["index"], Object::Index),
        (&["materialized"], Object::MaterializedView),
        (&["view"], Object::View),
        (&["sequence"], Object::Sequence),
        (&["schema"], Object::Schema),
        (&["function"], Object::Routine),
        (&["procedure"], Object::Routine),
        (&["routine"], Object::Routine),
        (&["aggregate"], Object::Routine),
        (&["type"], Object::Type),
        (&["domain"], Object::Type),
        (&["extension"], Object::Extension),
        (&["role"], Object::Role),
        (&["user", "mapping"], Object::Other),
        (&["user"], Object::Role),
        (&["group"], Object::Role),
        (&["owned"], Object::Role),
        (&["database"], Object::Database),
        (&["tablespace"], Object::Tablespace),
        (&["system"], Object::System),
        (&["trigger"], Object::Trigger),
        (&["rule"], Object::Rule),
        (&["policy"], Object::Policy),
        (&["publication"], Object::Publication),
    ];
    if c.eat("subscription") {
        return Object::Subscription;
    }
    words
        .iter()
        .find(|(words, _)| c.eat_all(words))
        .map_or(Object::Other, |(_, object)| *object)
}
