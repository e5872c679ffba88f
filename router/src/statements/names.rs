//! The prepared statements of one client, under the names that the client gave.
//!
//! One namespace for Parse and SQL's PREPARE, as in PostgreSQL. A name is entered
//! when the message is read, because a Bind may follow in the same packet, and is
//! taken back if the server never confirms it: [`Names::confirm`] and
//! [`Names::undo`] keep the two apart. What a statement *is* does not belong to
//! the client: equal texts share one [`Prepared`] and its number.

use super::environment::{Environment, LiteralKinds};
use super::errors::Written;
use super::memo::Memo;
use super::named_settings::named_by;
use super::planned::Planned;
use super::requests::Requests;
use super::rewritten::Rewritten;
use super::shapes::Shaped;
use super::step::Step;
use crate::rare::Rare;
use foldhash::HashMap;
use mothership_plan::{Literals, PlanContext};
use mothership_sql::cursor::Span;
use smallvec::{SmallVec, smallvec};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};

/// How a statement is made known to a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// By Parse, with declared parameter types, four bytes each.
    Parse(Box<[u8]>),
    /// By `PREPARE name ...`; the span is that of the name.
    Prepare(Span),
    /// Not at all: it is the text of a simple query.
    Query,
}

impl Origin {
    /// The parameter types that were declared by Parse, four bytes each.
    pub fn types(&self) -> &[u8] {
        match self {
            Origin::Parse(types) => types,
            Origin::Prepare(_) | Origin::Query => &[],
        }
    }
}

/// A statement that servers may have prepared.
#[derive(Debug)]
pub struct Prepared {
    /// Its number in this process; part of its name on the servers.
    pub id: u64,
    /// The text.
    pub sql: Box<[u8]>,
    /// How it is made known.
    pub origin: Origin,
    /// What each of its statements means for a session; one, or none for an empty text.
    pub steps: Steps,
    /// Its shape, if texts of the shape share their meaning and plans.
    pub shaped: Option<Shaped>,
    /// Its own plans, each for one of its statements.
    pub plans: RefCell<Vec<(usize, Planned)>>,
    /// The plan of its shape that was found to serve it last.
    pub served: RefCell<Option<Planned>>,
    /// What it runs, if it is an EXECUTE as servers know it.
    pub runs: Option<Runs>,
    /// A parsed EXECUTE as servers know it, for each of the bodies that its name meant of late.
    running: RefCell<Vec<Rc<Prepared>>>,
    /// The client's name of it, if servers know it by that. Then it is this client's alone.
    pub given: Option<Box<str>>,
    /// Our name of it, once it was said.
    own_name: OnceCell<Box<str>>,
    /// Itself with further parameters for values that the router makes.
    pub filled: RefCell<Option<Rc<Prepared>>>,
    /// Itself as Parse would have it with all types of its parameters, which a server has found.
    pub typed: RefCell<Option<Rc<Prepared>>>,
    /// The types of its parameters as the first server found them, in the home shard's object ids, four bytes each.
    /// Unknown if nothing has asked, as for most unnamed statements. It shares them with its other forms for other settings.
    pub parameter_types: Rc<OnceCell<Box<[u8]>>>,
    /// The number of the definitions that it was parsed by.
    pub epoch: u64,
    /// Itself with these types for sessions that use it after definitions or the search path have changed.
    fixed: OnceCell<Rc<Prepared>>,
    /// What it was made of, if it is a client's text with the number of the client's process.
    pub rewritten: OnceCell<Rewritten>,
    /// Whether it may run code that leaves something in its session, as names behind which there is code say.
    pub names_code: Memo,
    /// Whether the catalog has code behind its names that leaves something, or shows what others have prepared.
    pub leaves: Memo,
    /// Whether the catalog has code behind its names that says something about its server.
    pub tells_server: Memo,
    /// Whether code that it runs may set something for the transaction, as the catalog says.
    pub sets_locally: Memo,
    /// The settings of an application's own that it names, once somebody has asked.
    named_settings: OnceCell<Box<[String]>>,
    /// What rules look at in each of its statements.
    pub requests: Requests,
    /// Digest of its parameter and result types, as the first server described them.
    pub described: Cell<Option<u128>>,
    /// The epoch in which that was last seen to hold.
    pub described_in: Cell<u64>,
    /// What it was parsed by.
    pub environment: Rc<Environment>,
    /// The number of the environment in which it runs: servers keep the plan of its first run.
    pub used_in: u64,
    /// The number of the statement that it is itself another form of, for another environment; else its own.
    pub base: u64,
    /// The kinds of its literals, which the settings of the moment of Parse have a say in.
    pub literal_kinds: LiteralKinds,
    /// Itself for sessions that have come to other settings since it was parsed.
    elsewhere: RefCell<Vec<Rc<Prepared>>>,
    /// The last context in which a server has parsed it without an error.
    pub valid_in: RefCell<Option<Rc<PlanContext>>>,
    /// Counts it while it lives, if it is shared.
    _counted: Option<Counted>,
}

/// What an EXECUTE runs whose text has our name of it in place of the client's.
#[derive(Clone, Debug)]
pub struct Runs {
    /// The statement.
    pub body: Rc<Prepared>,
    /// Where the text comes from.
    pub written: Rc<Written>,
}

/// What the statements of a core hold in all.
#[derive(Clone, Copy, Debug, Default)]
pub struct StatementMemory {
    /// Statements.
    pub count: usize,
    /// Bytes of their texts.
    pub bytes: usize,
}

/// One statement among those that are held.
#[derive(Debug)]
struct Counted {
    all: Rc<Cell<StatementMemory>>,
    bytes: usize,
}

impl Counted {
    fn new(all: &Rc<Cell<StatementMemory>>, bytes: usize) -> Self {
        let held = all.get();
        all.set(StatementMemory {
            count: held.count + 1,
            bytes: held.bytes + bytes,
        });
        Self {
            all: Rc::clone(all),
            bytes,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let held = self.all.get();
        self.all.set(StatementMemory {
            count: held.count - 1,
            bytes: held.bytes - self.bytes,
        });
    }
}

/// The statements of a text; most have one.
pub type Steps = SmallVec<[Step; 1]>;

/// What a text means.
#[derive(Debug, Default)]
pub struct Meaning {
    steps: Steps,
    shaped: Option<Shaped>,
    runs: Option<Runs>,
    /// The kinds of its literals, if they are known.
    literal_kinds: Option<LiteralKinds>,
}

impl Meaning {
    /// The same, where the kinds of its literals are known.
    pub fn with_literals(self, kinds: LiteralKinds) -> Meaning {
        Meaning {
            literal_kinds: Some(kinds),
            ..self
        }
    }

    /// That of an EXECUTE.
    pub fn execute(step: Step, runs: Runs) -> Meaning {
        Meaning {
            steps: smallvec![step],
            runs: Some(runs),
            ..Meaning::default()
        }
    }
}

impl From<Vec<Step>> for Meaning {
    fn from(steps: Vec<Step>) -> Meaning {
        Meaning {
            steps: steps.into(),
            ..Meaning::default()
        }
    }
}

impl From<Shaped> for Meaning {
    fn from(shaped: Shaped) -> Meaning {
        Meaning {
            steps: shaped.step().into_iter().collect(),
            shaped: Some(shaped),
            ..Meaning::default()
        }
    }
}

/// The number of texts of simple queries of a known shape: no server knows them by it.
const NO_ID: u64 = 0;

impl Prepared {
    /// A simple query of a known shape. Nobody looks for its text again.
    pub fn query(sql: &[u8], shaped: Shaped) -> Prepared {
        let nowhere = Rc::default();
        Prepared::new(
            NO_ID,
            sql.into(),
            Origin::Query,
            shaped.into(),
            &nowhere,
            None,
        )
    }

    fn new(
        id: u64,
        sql: Box<[u8]>,
        origin: Origin,
        meaning: Meaning,
        environment: &Rc<Environment>,
        counted: Option<Counted>,
    ) -> Prepared {
        Prepared {
            id,
            base: id,
            environment: Rc::clone(environment),
            used_in: environment.number,
            literal_kinds: LiteralKinds::default(),
            elsewhere: RefCell::default(),
            sql,
            origin,
            steps: meaning.steps,
            shaped: meaning.shaped,
            runs: meaning.runs,
            running: RefCell::default(),
            given: None,
            own_name: OnceCell::new(),
            plans: RefCell::default(),
            served: RefCell::default(),
            filled: RefCell::default(),
            typed: RefCell::default(),
            parameter_types: Rc::default(),
            epoch: 0,
            fixed: OnceCell::new(),
            rewritten: OnceCell::new(),
            names_code: Memo::default(),
            leaves: Memo::default(),
            tells_server: Memo::default(),
            sets_locally: Memo::default(),
            named_settings: OnceCell::new(),
            requests: Requests::default(),
            described: Cell::new(None),
            described_in: Cell::default(),
            valid_in: RefCell::default(),
            _counted: counted,
        }
    }

    /// The literals of its text, for a plan of its shape.
    pub fn literals(&self) -> Literals<'_> {
        match &self.shaped {
            Some(shaped) => Literals::new(shaped.span.of(&self.sql), &shaped.literals),
            None => Literals::NONE,
        }
    }

    /// The settings of an application's own that it names.
    pub fn named_settings(&self) -> &[String] {
        self.named_settings.get_or_init(|| named_by(&self.sql))
    }

    /// Whether these are known.
    pub fn knows_named_settings(&self) -> bool {
        self.named_settings.get().is_some()
    }

    /// They were found elsewhere.
    pub fn keep_named_settings(&self, names: Box<[String]>) {
        self.named_settings.get_or_init(|| names);
    }

    /// Whether servers know it by the client's name.
    pub fn is_given(&self) -> bool {
        self.given.is_some()
    }

    /// Whether a server has to find the type of a parameter. In doubt it has.
    pub fn has_open_types(&self) -> bool {
        let declared = self.origin.types().chunks_exact(4);
        let given = declared.clone().take_while(|oid| !is_open(oid)).count();
        (self.origin != Origin::Query) && highest_parameter(&self.sql) > given
    }

    /// Its name on the servers. Clients cannot take one of ours by accident, and one that
    /// takes it on purpose reaches only what it may run itself.
    pub fn server_name(&self) -> &str {
        match &self.given {
            Some(name) => name,
            None => self.own_name.get_or_init(|| server_name(self.id).into()),
        }
    }

    /// The PREPARE that makes it known, under its name on the servers.
    pub fn definition(&self) -> Vec<u8> {
        match self.origin {
            Origin::Prepare(span) if !self.is_given() => {
                renamed(&self.sql, span, self.server_name())
            }
            _ => self.sql.to_vec(),
        }
    }

    /// Whether it only begins, ends or divides transactions.
    pub fn is_control(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.all(|step| step.kind.is_control())
    }

    /// What the statement means, if it is not empty.
    pub fn step(&self) -> Option<&Step> {
        self.steps.first()
    }
}

/// Whether Parse leaves a type to the server: by no object id, or by that of `unknown`.
fn is_open(oid: &[u8]) -> bool {
    matches!(oid, [0, 0, 0, 0] | [0, 0, 2, 193])
}

/// The highest number of a parameter in a text, or of what looks like one in a string.
fn highest_parameter(sql: &[u8]) -> usize {
    let number = |at: usize| {
        let digits = sql[at + 1..].iter().take_while(|b| b.is_ascii_digit());
        digits.fold(0, |n: usize, digit| {
            n.saturating_mul(10)
                .saturating_add(usize::from(digit - b'0'))
        })
    };
    let marks = sql.iter().enumerate().filter(|(_, byte)| **byte == b'$');
    marks.map(|(at, _)| number(at)).max().unwrap_or(0)
}

/// How names of ours begin.
pub const OURS: &str = "__mothership_";

/// Of numbers of statements that servers know by the client's names.
const GIVEN: u64 = 1 << 63;

/// Whether servers know the statement of this number by a client's name.
pub fn is_given(id: u64) -> bool {
    id & GIVEN != 0
}

/// The name on the servers of statement `id`.
pub fn server_name(id: u64) -> String {
    debug_assert!(!is_given(id), "a client has named it");
    format!("{OURS}{id:x}")
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Equal statements of the clients of one core are one.
///
/// The epoch is part of the key: a statement that is parsed after a change of the
/// schema is another one, because PostgreSQL would describe it anew.
#[derive(Debug, Default)]
pub struct Interner {
    known: RefCell<HashMap<Key, Weak<Prepared>>>,
    held: Rc<Cell<StatementMemory>>,
    sweep_at: Cell<usize>,
    known_bytes: Cell<usize>,
    /// The one that was asked for last, and how it is read: drivers send one text over and over.
    last: RefCell<(bool, u64, u64, Weak<Prepared>)>,
    /// Statements of simple queries, which nobody else holds, so that their plans are
    /// found again.
    recent: RefCell<VecDeque<Rc<Prepared>>>,
}

/// Simple queries that are remembered.
const RECENT: usize = 256;
/// Simple queries above this size are not: they are hardly the same twice.
const LARGE: usize = 64 * 1024;
/// Bytes of texts that nobody uses and that may stay for a while.
const UNUSED: usize = 4 << 20;
/// Bodies of one EXECUTE that are remembered: clients may mean different ones by one name.
const BODIES: usize = 4;

/// Statements that one is in other environments.
const ELSEWHERE: usize = 8;

/// What the meaning of a text depends on, besides how it is read.
#[derive(Clone, Debug, Default)]
pub struct AnalysisContext {
    /// Definitions as they are.
    pub epoch: u64,
    /// The settings, as far as they count.
    pub environment: Rc<Environment>,
}

/// Text, whether its backslashes are plain, how it is made known, epoch, environment.
type Key = (Box<[u8]>, bool, Origin, u64, u64);

impl Interner {
    /// The statement of this text, read with `strings` as standard_conforming_strings; `make`
    /// reads what it means if it is new.
    pub fn intern<M: Into<Meaning>>(
        &self,
        (sql, strings): (&[u8], bool),
        origin: Origin,
        moment: &AnalysisContext,
        make: impl FnOnce() -> M,
    ) -> Rc<Prepared> {
        let (epoch, environment) = (moment.epoch, moment.environment.number);
        if let (s, e, n, last) = &*self.last.borrow()
            && (*s, *e, *n) == (strings, epoch, environment)
            && let Some(found) = last.upgrade()
            && *found.sql == *sql
            && found.origin == origin
        {
            return found;
        }
        let key = (Box::from(sql), strings, origin, epoch, environment);
        if let Some(found) = self.known.borrow().get(&key).and_then(Weak::upgrade) {
            let last = (strings, epoch, environment, Rc::downgrade(&found));
            self.last.replace(last);
            return found;
        }
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let (text, origin) = (key.0.clone(), key.2.clone());
        let counted = Counted::new(&self.held, sql.len());
        let meaning: Meaning = make().into();
        let known = meaning.literal_kinds;
        let mut prepared = Prepared::new(
            id,
            text,
            origin,
            meaning,
            &moment.environment,
            Some(counted),
        );
        prepared.described_in.set(epoch);
        prepared.epoch = epoch;
        prepared.literal_kinds = known.unwrap_or_else(|| match prepared.origin {
            // Nothing keeps it until settings have changed.
            Origin::Query => LiteralKinds::default(),
            _ => LiteralKinds::of(sql, strings),
        });
        let prepared = Rc::new(prepared);
        if prepared.origin == Origin::Query {
            if sql.len() > LARGE {
                return prepared;
            }
            let mut recent = self.recent.borrow_mut();
            if recent.len() >= RECENT {
                recent.pop_front();
            }
            recent.push_back(Rc::clone(&prepared));
        }
        let mut known = self.known.borrow_mut();
        let bytes = self.known_bytes.get() + sql.len();
        self.known_bytes.set(bytes);
        // Texts that nobody uses any longer stay until then.
        if known.len() >= self.sweep_at.get() || bytes > 2 * self.held.get().bytes + UNUSED {
            known.retain(|_, statement| statement.strong_count() > 0);
            self.sweep_at.set(known.len() * 2 + 64);
            let left = known.keys().map(|(sql, ..)| sql.len());
            self.known_bytes.set(left.sum::<usize>() + sql.len());
        }
        known.insert(key, Rc::downgrade(&prepared));
        prepared
    }

    /// The parsed EXECUTE `statement` as servers know it where its name means `body`; `make` gives its text and its
    /// meaning. It belongs to the text and the body, so that nobody has it who does not have both.
    pub fn executing(
        &self,
        statement: &Prepared,
        body: &Rc<Prepared>,
        make: impl FnOnce() -> (Vec<u8>, Meaning),
    ) -> Rc<Prepared> {
        let mut running = statement.running.borrow_mut();
        let runs = |known: &&Rc<Prepared>| {
            let runs = known.runs.as_ref();
            runs.is_some_and(|runs| Rc::ptr_eq(&runs.body, body))
        };
        if let Some(known) = running.iter().find(runs) {
            return Rc::clone(known);
        }
        let (sql, meaning) = make();
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let counted = Counted::new(&self.held, sql.len());
        let origin = statement.origin.clone();
        let environment = &statement.environment;
        let new = Prepared::new(id, sql.into(), origin, meaning, environment, Some(counted));
        if running.len() >= BODIES {
            running.remove(0);
        }
        let new = Rc::new(new);
        running.push(Rc::clone(&new));
        new
    }

    /// The statement for a session whose settings are others by now: servers know it by another name, so that nobody gets
    /// the plan of other settings. What it means was fixed when it was parsed.
    pub fn elsewhere(&self, statement: &Rc<Prepared>, environment: u64) -> Rc<Prepared> {
        let mut elsewhere = statement.elsewhere.borrow_mut();
        if let Some(known) = elsewhere.iter().find(|s| s.used_in == environment) {
            return Rc::clone(known);
        }
        let meaning = Meaning {
            steps: statement.steps.clone(),
            shaped: statement.shaped.clone(),
            runs: statement.runs.clone(),
            literal_kinds: None,
        };
        let new = Prepared {
            base: statement.base,
            epoch: statement.epoch,
            parameter_types: Rc::clone(&statement.parameter_types),
            used_in: environment,
            // Its client was told these columns.
            described: Cell::new(statement.described.get()),
            literal_kinds: statement.literal_kinds,
            ..Prepared::new(
                NEXT_ID.fetch_add(1, Ordering::Relaxed),
                statement.sql.clone(),
                statement.origin.clone(),
                meaning,
                &statement.environment,
                Some(Counted::new(&self.held, statement.sql.len())),
            )
        };
        if elsewhere.len() >= ELSEWHERE {
            elsewhere.remove(0);
        }
        let new = Rc::new(new);
        elsewhere.push(Rc::clone(&new));
        new
    }

    /// The statement with the types of its parameters that the first server found. PostgreSQL fixes them when a statement
    /// is prepared, also if a later look at its text would find others. `sql` is what Parse is to get, and `steps` what
    /// that means.
    pub fn fixed(
        &self,
        statement: &Prepared,
        types: &[u8],
        make: impl FnOnce() -> (Box<[u8]>, Meaning),
    ) -> Rc<Prepared> {
        let make = || {
            let (sql, meaning) = make();
            let counted = Counted::new(&self.held, sql.len());
            Rc::new(Prepared {
                base: statement.base,
                used_in: statement.used_in,
                epoch: statement.epoch,
                // Its client was told these columns.
                described: Cell::new(statement.described.get()),
                described_in: Cell::new(statement.described_in.get()),
                literal_kinds: statement.literal_kinds,
                rewritten: match &statement.origin {
                    Origin::Parse(_) => statement.rewritten.clone(),
                    _ => OnceCell::new(),
                },
                ..Prepared::new(
                    NEXT_ID.fetch_add(1, Ordering::Relaxed),
                    sql,
                    Origin::Parse(types.into()),
                    meaning,
                    &statement.environment,
                    Some(counted),
                )
            })
        };
        Rc::clone(statement.fixed.get_or_init(make))
    }

    /// The statement as one client's own, whose servers know it by this name.
    pub fn given(&self, statement: &Prepared, name: &str) -> Rc<Prepared> {
        let meaning = Meaning {
            steps: statement.steps.clone(),
            shaped: statement.shaped.clone(),
            runs: statement.runs.clone(),
            literal_kinds: None,
        };
        Rc::new(Prepared {
            given: Some(name.into()),
            rewritten: statement.rewritten.clone(),
            literal_kinds: statement.literal_kinds,
            ..Prepared::new(
                NEXT_ID.fetch_add(1, Ordering::Relaxed) | GIVEN,
                statement.sql.clone(),
                statement.origin.clone(),
                meaning,
                &statement.environment,
                Some(Counted::new(&self.held, statement.sql.len())),
            )
        })
    }

    /// What the statements that somebody uses hold together.
    pub fn held(&self) -> StatementMemory {
        self.held.get()
    }

    /// Statements in use.
    pub fn len(&self) -> usize {
        self.known.borrow().len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A change of a name that the server has not confirmed yet.
#[derive(Debug)]
struct Pending {
    name: Box<[u8]>,
    before: Option<Rc<Prepared>>,
    /// What a server's ParseComplete proves: the statement is valid in this context.
    proves: Option<(Rc<Prepared>, Rc<PlanContext>)>,
}

/// The names of one client. The empty name is the unnamed statement.
#[derive(Debug, Default)]
pub struct Names {
    statements: Rare<HashMap<Box<[u8]>, Rc<Prepared>>>,
    unnamed: Option<Rc<Prepared>>,
    pending: Rare<VecDeque<Pending>>,
    bytes: usize,
}

impl Names {
    /// The statement of a name.
    pub fn get(&self, name: &[u8]) -> Option<&Rc<Prepared>> {
        if name.is_empty() {
            self.unnamed.as_ref()
        } else {
            self.statements.get()?.get(name)
        }
    }

    /// Enters a name, to be confirmed by ParseComplete. Where statements are planned,
    /// `context` is what its meaning depends on.
    pub fn define(
        &mut self,
        name: &[u8],
        statement: Rc<Prepared>,
        context: Option<Rc<PlanContext>>,
    ) {
        let proves = context.map(|context| (Rc::clone(&statement), context));
        let before = self.replace(name, Some(statement));
        self.pending.made().push_back(Pending {
            name: name.into(),
            before,
            proves,
        });
    }

    /// Enters a name that is certain.
    pub fn define_now(&mut self, name: &[u8], statement: Rc<Prepared>) {
        self.replace(name, Some(statement));
    }

    /// Removes a name, to be confirmed by CloseComplete.
    pub fn close(&mut self, name: &[u8]) {
        let before = self.replace(name, None);
        self.pending.made().push_back(Pending {
            name: name.into(),
            before,
            proves: None,
        });
    }

    /// A CloseComplete will come that concerns no name.
    pub fn close_nothing(&mut self) {
        self.pending.made().push_back(Pending {
            name: Box::default(),
            before: self.unnamed.clone(),
            proves: None,
        });
    }

    /// Removes a name for certain; false if there was none.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        self.replace(name, None).is_some()
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.statements.clear();
        self.pending.clear();
        self.bytes = 0;
    }

    /// Forgets the unnamed statement, as a simple query does.
    pub fn drop_unnamed(&mut self) {
        self.unnamed = None;
    }

    /// The oldest unconfirmed change happened; the router says so.
    pub fn confirm(&mut self) {
        self.pop_oldest();
    }

    /// The same, and a server has said so, having parsed the statement.
    pub fn confirm_parsed(&mut self) {
        let proves = self.pop_oldest().and_then(|pending| pending.proves);
        if let Some((statement, context)) = proves {
            *statement.valid_in.borrow_mut() = Some(context);
        }
    }

    fn pop_oldest(&mut self) -> Option<Pending> {
        self.pending.get_mut()?.pop_front()
    }

    /// The unconfirmed changes did not happen: the server skipped them.
    pub fn undo(&mut self) {
        let pending = self.pending.take().unwrap_or_default();
        for Pending { name, before, .. } in (*pending).into_iter().rev() {
            self.replace(&name, before);
        }
    }

    /// A name of the statement with this number.
    pub fn name_of(&self, id: u64) -> Option<&[u8]> {
        let mut named = self.statements.get()?.iter();
        named
            .find(|(_, statement)| statement.id == id)
            .map(|(name, _)| &**name)
    }

    /// Number of named statements, and the bytes of their names and texts.
    pub fn size(&self) -> (usize, usize) {
        (self.statements.get().map_or(0, HashMap::len), self.bytes)
    }

    fn replace(&mut self, name: &[u8], statement: Option<Rc<Prepared>>) -> Option<Rc<Prepared>> {
        if name.is_empty() {
            return std::mem::replace(&mut self.unnamed, statement);
        }
        let cost = |s: &Rc<Prepared>| name.len() + s.sql.len();
        self.bytes += statement.as_ref().map_or(0, cost);
        let before = match statement {
            Some(statement) => self.statements.made().insert(name.into(), statement),
            None => self.statements.get_mut().and_then(|all| all.remove(name)),
        };
        self.bytes -= before.as_ref().map_or(0, cost);
        before
    }
}

/// The text with another name in place of the client's.
pub fn renamed(sql: &[u8], span: Span, name: &str) -> Vec<u8> {
    [
        &sql[..span.start],
        b"\"",
        name.as_bytes(),
        b"\"",
        &sql[span.end..],
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin::Parse(Box::default())
    }

    fn prepared(interner: &Interner, sql: &str) -> Rc<Prepared> {
        let moment = AnalysisContext::default();
        interner.intern((sql.as_bytes(), true), origin(), &moment, Vec::<Step>::new)
    }

    #[test]
    fn equal_texts_are_one_statement_until_the_schema_changes() {
        let interner = Interner::default();
        let a = prepared(&interner, "select 1");
        assert_eq!(a.id, prepared(&interner, "select 1").id);
        assert_ne!(a.id, prepared(&interner, "select 2").id);
        let intern = |strings: bool, moment: &AnalysisContext| {
            interner.intern((b"select 1", strings), origin(), moment, Vec::<Step>::new)
        };
        let epoch = 1;
        let later = intern(
            true,
            &AnalysisContext {
                epoch,
                ..AnalysisContext::default()
            },
        );
        assert_ne!(a.id, later.id);
        let environment = Rc::new(Environment {
            number: 1,
            ..Environment::default()
        });
        let of_others = AnalysisContext {
            environment,
            ..AnalysisContext::default()
        };
        let of_others = intern(true, &of_others);
        assert_ne!(a.id, of_others.id);
        // Who comes to other settings has another statement on the servers, which is still the first one's meaning.
        let moved = interner.elsewhere(&a, 1);
        assert_ne!(moved.id, a.id);
        assert_ne!(moved.id, of_others.id);
        assert_eq!((moved.base, moved.environment.number), (a.id, 0));
        assert_eq!(moved.id, interner.elsewhere(&a, 1).id);
        // What a backslash means decides where a string ends.
        let other = intern(false, &AnalysisContext::default());
        assert_ne!(a.id, other.id);
    }

    #[test]
    fn forgotten_statements_do_not_pile_up() {
        let interner = Interner::default();
        for i in 0..10_000 {
            prepared(&interner, &format!("select {i}"));
        }
        assert!(interner.len() < 200, "{} are kept", interner.len());
        assert_eq!((interner.held().count, interner.held().bytes), (0, 0));
        let one = prepared(&interner, "select 1");
        assert_eq!((interner.held().count, interner.held().bytes), (1, 8));
        drop(one);
        assert_eq!(interner.held().count, 0);
    }

    #[test]
    fn large_texts_that_nobody_uses_are_forgotten_sooner() {
        let interner = Interner::default();
        for i in 0..50 {
            prepared(&interner, &format!("select {i} {}", " ".repeat(1 << 20)));
            let blank = vec![b' '; LARGE + 1 + i];
            let moment = AnalysisContext::default();
            interner.intern((&blank, true), Origin::Query, &moment, Vec::<Step>::new);
        }
        assert!(interner.len() <= 6, "{} are kept", interner.len());
        assert_eq!(interner.held().bytes, 0);
    }

    #[test]
    fn a_server_finds_the_types_that_parse_leaves_open() {
        let interner = Interner::default();
        let (int, unknown) = (23_u32.to_be_bytes(), 705_u32.to_be_bytes());
        for (sql, types, open) in [
            ("select 1", vec![], false),
            ("select $1", vec![], true),
            ("select $1", int.to_vec(), false),
            ("select $1, $2", int.to_vec(), true),
            ("select $2, $1", [int, [0; 4]].concat(), true),
            ("select $2, $1", [int, unknown].concat(), true),
            ("select $2, $1", [int, int].concat(), false),
            ("select $$a$$", vec![], false),
            ("select $99999999999999999999", int.to_vec(), true),
        ] {
            let origin = Origin::Parse(types.into());
            let moment = AnalysisContext::default();
            let one = interner.intern((sql.as_bytes(), true), origin, &moment, Vec::<Step>::new);
            assert_eq!(one.has_open_types(), open, "{sql}");
        }
    }

    // See: pg_doorman 3.3.4, pgcat#679
    #[test]
    fn what_the_server_skipped_was_never_prepared() {
        let interner = Interner::default();
        let (a, b) = (prepared(&interner, "a"), prepared(&interner, "b"));
        let mut names = Names::default();
        names.define(b"s", Rc::clone(&a), None);
        names.confirm();
        names.close(b"s");
        names.define(b"s", Rc::clone(&b), None);
        names.define(b"t", b, None);
        names.undo();
        assert_eq!(names.get(b"s").map(|s| s.id), Some(a.id));
        assert!(names.get(b"t").is_none());
        assert_eq!(names.size(), (1, 2));
    }
}
