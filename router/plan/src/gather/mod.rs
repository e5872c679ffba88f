//! Gather: the rows that a statement needs are fetched from their shards and handed to one PostgreSQL, which runs the
//! statement on them.
//!
//! So PostgreSQL itself sorts, groups, joins and computes. Each place of the text where a sharded table is read becomes
//! a fragment: a query of the columns that the statement mentions and of the conditions that are about that table
//! alone, sent to the shards that own its keys. What runs on the rows is the residue: the statement, with a CTE in
//! the place of each fragment. Rows are handed over as one array for each column, which `unnest` in a select list
//! makes rows of again; that writes nothing, works in read-only transactions and on replicas, and needs no rights.
//!
//! The statement itself is parsed on the same server first. What that says of its parameters and columns is what the
//! client is told, and what the residue is held against: if PostgreSQL should see another statement in it, it is
//! refused.

mod fragment;
mod locks;
pub mod narrow;
pub mod notes;
pub(crate) mod partial;
mod rewrite;
pub mod together;
pub mod views;
pub mod waves;
pub mod within;

pub use fragment::within_xml;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use mothership_proto::report::sqlstate;
use mothership_shardmap::{Encoding, TextContext};
use sqlparser::ast::{ObjectName, Query, Statement, TableAlias, TableFactor};
use sqlparser::tokenizer::{Location, Token};

use mothership_catalog::{Catalog, Column, Name, Relation, RelationKind};
use mothership_merge::{Shape, SortKey};

use super::condition::Scalar;
use super::decide::{keyed_by, role};
use super::documents::Hidden;
use super::names::fold;
use super::parse::Parsed;
use super::refuse::{Reason, Refusal};
use super::scope::{Analysis, Instance, Locks, Node, Source};
use super::slots::{self, Literals};
use super::sorted;
use super::{KeyedBy, MaxChars, Params, Role, SameSharded};

use narrow::Sources;
pub use narrow::{Keys, Narrowing};
pub use notes::Notes;
use notes::Read;
use within::TakenOut;

/// A statement whose rows are gathered.
#[derive(Debug, Clone, PartialEq)]
pub struct Gather {
    /// It reads documents, which no shard of PostgreSQL has.
    pub documents: bool,
    /// It locks documents for as long as it runs, and nothing else may be in its transaction.
    pub alone: bool,
    /// It is gathered even if one shard has all that it reads.
    pub always: bool,
    /// Which server of each shard.
    pub role: Role,
    /// The keys of every sharded table of the statement: if all lie on one shard, it runs there untouched.
    pub keyed: Vec<KeyedBy>,
    /// Whether the residue reads tables of the home shard.
    pub home: bool,
    /// What is fetched.
    pub fragments: Vec<Fragment>,
    /// What runs on it. Its parameters are the statement's own, then an array for each column of each fragment.
    pub residue: String,
    /// How many parameters come before the arrays.
    pub parameters: usize,
    /// What becomes of what the residue gives.
    pub ending: Ending,
    /// Arrays, or constants of views, are handed over as texts, which settings may change.
    pub texts: bool,
    /// The views that have become part of it.
    pub opened: Vec<Name>,
    /// Why nothing cheaper will do.
    pub why: Refusal,
}

/// What becomes of what the residue gives.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// It is a query, and its rows are the answer.
    Answer,
    /// It is an UPDATE, DELETE or MERGE, or an INSERT at home.
    Write(Written),
    /// It is the source of an INSERT or MERGE, whose rows go where they belong.
    Store(Box<Store>),
    /// It is the query of a statement that keeps its rows on one server.
    Keep(Box<Keep>),
    /// It says what documents become.
    Change(Box<Change>),
}

/// A write to documents that are there, or may be, which is told to MongoDB as a residue computes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The shard of the documents: there may be one only.
    pub by: KeyedBy,
    /// What is told, of each row one.
    pub told: Vec<DocumentStatement>,
    /// Of several, the residue's first column says which, from 1 on; the second is true where it would depend on the
    /// order of the rows what becomes of them.
    pub chooses: bool,
    /// So many of the residue's first columns are values. RETURNING shows those behind them.
    pub bound: usize,
    /// What the client asked for.
    pub command: DocumentWrite,
}

/// What a client asked for that is told to MongoDB row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentWrite {
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// MERGE.
    Merge,
    /// INSERT … ON CONFLICT DO UPDATE.
    Upsert,
}

impl DocumentWrite {
    /// The word that it begins with.
    pub fn verb(self) -> &'static str {
        match self {
            DocumentWrite::Update => "UPDATE",
            DocumentWrite::Delete => "DELETE",
            DocumentWrite::Merge => "MERGE",
            DocumentWrite::Upsert => "INSERT",
        }
    }

    /// What the client is told of so many rows.
    pub fn tag(self, rows: u64) -> String {
        match self {
            DocumentWrite::Upsert => format!("INSERT 0 {rows}"),
            other => format!("{} {rows}", other.verb()),
        }
    }
}

/// A statement that changes one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentStatement {
    /// Its text.
    pub sql: String,
    /// The columns of the residue that are its parameters.
    pub values: Vec<usize>,
    /// The columns of the residue that say which document it is: no two rows may have the same in all of them. None of
    /// a row that is stored, whose key keeps it apart.
    pub apart: Vec<usize>,
}

impl Change {
    /// The texts of all that is told.
    pub fn texts(&self) -> String {
        let texts: Vec<&str> = self.told.iter().map(|told| told.sql.as_str()).collect();
        texts.join("; ")
    }
}

/// A statement around a query, which keeps the rows of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Keep {
    /// What keeps them.
    pub by: Keeper,
    /// The statement up to the query.
    pub head: String,
    /// And behind it.
    pub tail: String,
    /// The query alone, its places being those of the client's text.
    pub asked: String,
}

/// What keeps the rows of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    /// A cursor of this name, wherever the residue runs.
    Cursor(String),
    /// A table of the home shard.
    Table,
}

impl Keeper {
    /// Why the rows of a query that shards could compute apart are gathered.
    pub fn reason(&self) -> Reason {
        match self {
            Keeper::Cursor(_) => Reason::Cursor,
            Keeper::Table => Reason::CreateFromSharded,
        }
    }
}

/// Where a residue runs that writes.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// On the home shard.
    Home,
    /// On every shard alike.
    Everywhere,
    /// On the shards that may have rows of the target.
    Owners(Box<KeyedBy>),
}

/// An INSERT of rows that a query gives, or a MERGE of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// How keys lead to shards; none for a reference table, which gets all rows everywhere.
    pub sharded: Option<SameSharded>,
    /// The rows become documents: all of them on one shard. Without a key that is the table's only one.
    pub documents: bool,
    /// Where the columns of the key are among the rows'.
    pub key: Vec<usize>,
    /// How long they may be.
    pub max_chars: MaxChars,
    /// What becomes of rows without a key.
    pub nulls: Nulls,
    /// What the client is told.
    pub verb: Verb,
    /// The statement up to its source.
    pub head: String,
    /// And behind it.
    pub tail: String,
    /// How the columns that are filled are handed over.
    pub columns: Vec<Filled>,
    /// So many of them, the last ones, the client's text leaves to sequences. Those before may be left to the time.
    pub made: usize,
    /// What RETURNING shows of the rows that are stored, as a query of arrays of these, where who stores them cannot
    /// compute it.
    pub shown: Option<String>,
}

/// What becomes of rows of which a column of the key is NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nulls {
    /// They have no shard.
    Refused,
    /// They find no row on any shard, and none stores them.
    Anywhere,
}

impl Nulls {
    /// Whether a row is refused for which no key could be computed, as `refusal` says.
    pub fn refuses(self, refusal: &Refusal) -> bool {
        !(refusal.reason == Reason::InsertNullKey && self == Nulls::Anywhere)
    }
}

/// What the client is told that was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// What the servers say.
    Own,
    /// It was an UPDATE that moves rows: the servers say INSERT.
    Update,
}

/// How a column of the source is handed over.
#[derive(Debug, Clone, PartialEq)]
pub struct Filled {
    /// The object id of the type that its values should have.
    pub oid: u32,
    /// What that is called.
    pub name: String,
    /// What they are to become, where they come as texts.
    pub cast: Option<String>,
}

impl Filled {
    /// A column of rows again, of the array that is the parameter of this number.
    pub fn unnested(&self, parameter: usize, name: &str) -> String {
        let list = format!("unnest(${parameter}::{name}[])");
        match &self.cast {
            // What comes behind the last one is no name of it.
            Some(cast) => format!("{} AS a{parameter}", cast_of_text(&list, cast)),
            None => format!("{list} AS a{parameter}"),
        }
    }
}

/// A text as the value of a type that it is the text of. The cast from text to regclass takes names alone, the type itself
/// also `-` and the number of what is no longer there: it is asked where the text comes as bpchar, which has no such cast.
fn cast_of_text(text: &str, name: &str) -> String {
    match name.strip_prefix("pg_catalog.").unwrap_or(name) {
        "regclass" => format!("{text}::pg_catalog.bpchar::{name}"),
        _ => format!("{text}::{name}"),
    }
}

/// The rows of one FROM entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Fragment {
    /// The table or view.
    pub table: Name,
    /// The query that the shards get; its parameters are the statement's.
    pub sql: String,
    /// Which shards have the rows.
    pub of: Holders,
    /// The type of each of its columns as it comes from a shard, by the object ids of the home shard.
    pub elements: Vec<u32>,
    /// What these types are called.
    pub types: Vec<String>,
    /// How what others have fetched leaves out rows of it.
    pub narrowing: Narrowing,
    /// It writes the table and returns its rows: it runs when all others have been fetched.
    pub writes: bool,
    /// It locks its rows, after the others have been fetched.
    pub locks: Option<Locked>,
}

/// How the rows of a fragment are locked.
#[derive(Debug, Clone, PartialEq)]
pub struct Locked {
    /// What they are sorted by, where only the first ones are: it stands in so many columns before those of the fragment.
    pub keys: Vec<SortKey>,
    /// Texts are among them.
    pub texts: bool,
    /// How many are wanted of all shards' rows.
    pub limit: Option<Box<Scalar>>,
    /// So many before these are locked as well.
    pub offset: Option<Box<Scalar>>,
}

impl Locked {
    /// What is made of the rows, for the values of one Bind. `None` if that is not known, or are too many.
    pub fn shape(&self, params: &Params<'_>, text: &TextContext) -> Option<Shape> {
        if self.texts && text.encoding != Encoding::Utf8 {
            return None;
        }
        let amount =
            |scalar: &Option<Box<Scalar>>| sorted::row_count(scalar.as_deref(), params, text);
        let shape = Shape {
            keys: self.keys.clone(),
            limit: amount(&self.limit)?,
            offset: amount(&self.offset)?.unwrap_or(0),
            locks: true,
            ..Shape::default()
        };
        let is_known = self.limit.is_some() == shape.limit.is_some();
        (is_known && sorted::may_lock(&shape)).then_some(shape)
    }

    fn with_literals(&self, literals: &Literals<'_>) -> Option<Locked> {
        let filled = |scalar: &Option<Box<Scalar>>| match scalar {
            Some(scalar) => Some(Some(Box::new(slots::scalar(scalar, literals)?))),
            None => Some(None),
        };
        Some(Locked {
            limit: filled(&self.limit)?,
            offset: filled(&self.offset)?,
            ..self.clone()
        })
    }
}

/// Which shards have the rows of a fragment.
#[derive(Debug, Clone, PartialEq)]
pub enum Holders {
    /// Those that the keys of its uses lead to.
    Keys(Vec<KeyedBy>),
    /// It stores rows, each on the shard of its key.
    Rows(ListedRows),
    /// Any may have some.
    All,
    /// The home shard has all.
    Home,
    /// Each shard has all of them, and is to change them alike.
    Copies,
}

/// The rows of a VALUES list, which stand behind the text of their fragment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListedRows {
    /// The key of each, and its text.
    pub rows: Vec<(KeyedBy, String)>,
    /// What stands behind them.
    pub tail: String,
}

impl ListedRows {
    fn with_literals(&self, literals: &Literals<'_>) -> Option<ListedRows> {
        let (keys, texts): (Vec<KeyedBy>, Vec<&String>) = self
            .rows
            .iter()
            .map(|(by, text)| (by.clone(), text))
            .unzip();
        let texts = texts.into_iter();
        let texts = texts.map(|text| Some(slots::filled(text, literals)?.into_owned()));
        let texts: Vec<String> = texts.collect::<Option<_>>()?;
        let keys = slots::all(&keys, literals)?;
        Some(ListedRows {
            rows: keys.into_iter().zip(texts).collect(),
            tail: slots::filled(&self.tail, literals)?.into_owned(),
        })
    }
}

impl Fragment {
    /// The text with all that it writes, whichever shards share it.
    pub fn whole(&self) -> Cow<'_, str> {
        match &self.of {
            Holders::Rows(listed) => Cow::Owned(self.storing(listed, 0..listed.rows.len())),
            Holders::Keys(_) | Holders::All | Holders::Home | Holders::Copies => {
                Cow::Borrowed(&self.sql)
            }
        }
    }

    /// The text that stores these of the rows.
    pub fn storing(&self, listed: &ListedRows, rows: impl IntoIterator<Item = usize>) -> String {
        let rows = rows.into_iter().filter_map(|row| listed.rows.get(row));
        let texts: Vec<&str> = rows.map(|(_, text)| text.as_str()).collect();
        format!("{}{}{}", self.sql, texts.join(", "), listed.tail)
    }
}

impl Gather {
    /// The texts with their literals, for a plan of a shape. `None` if the text has no such literal.
    pub fn with_literals(&self, literals: &Literals<'_>) -> Option<Gather> {
        let fragment = |fragment: &Fragment| {
            Some(Fragment {
                sql: slots::filled(&fragment.sql, literals)?.into_owned(),
                of: match &fragment.of {
                    Holders::Keys(keys) => Holders::Keys(slots::all(keys, literals)?),
                    Holders::Rows(listed) => Holders::Rows(listed.with_literals(literals)?),
                    of @ (Holders::All | Holders::Home | Holders::Copies) => of.clone(),
                },
                locks: match &fragment.locks {
                    Some(locks) => Some(locks.with_literals(literals)?),
                    None => None,
                },
                ..fragment.clone()
            })
        };
        Some(Gather {
            keyed: slots::all(&self.keyed, literals)?,
            fragments: self.fragments.iter().map(fragment).collect::<Option<_>>()?,
            residue: slots::filled(&self.residue, literals)?.into_owned(),
            ending: self.ending.with_literals(literals)?,
            ..self.clone()
        })
    }
}

impl Ending {
    fn with_literals(&self, literals: &Literals<'_>) -> Option<Ending> {
        Some(match self {
            Ending::Write(Written::Owners(by)) => {
                let mut filled = slots::all(std::slice::from_ref(&**by), literals)?;
                Ending::Write(Written::Owners(Box::new(filled.pop()?)))
            }
            Ending::Store(store) => Ending::Store(Box::new(Store {
                head: slots::filled(&store.head, literals)?.into_owned(),
                tail: slots::filled(&store.tail, literals)?.into_owned(),
                ..(**store).clone()
            })),
            // There is no plan of it for all texts of a shape.
            Ending::Change(_) => return None,
            ending @ (Ending::Answer | Ending::Write(_) | Ending::Keep(_)) => ending.clone(),
        })
    }
}

impl fmt::Display for Gather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.ending {
            Ending::Write(Written::Home) => "home",
            Ending::Keep(keep) if keep.by == Keeper::Table => "home",
            Ending::Write(Written::Everywhere) => "every shard",
            Ending::Write(Written::Owners(_)) => "the shards of the target",
            _ if self.home => "home",
            _ => "any shard",
        };
        write!(
            f,
            "Gather on {place} role={} because={}",
            self.role, self.why
        )?;
        for fragment in &self.fragments {
            write!(f, "; {}", fragment.whole())?;
            for keys in &fragment.narrowing.by {
                write!(f, " [{keys}]")?;
            }
        }
        write!(f, "; {}", self.residue)?;
        match &self.ending {
            Ending::Store(store) => write!(f, "; {}...{}", store.head, store.tail),
            Ending::Keep(keep) => write!(f, "; {}...{}", keep.head, keep.tail),
            Ending::Change(change) => write!(f, "; {}", change.texts()),
            Ending::Answer | Ending::Write(_) => Ok(()),
        }
    }
}

impl Gather {
    /// Why a server's error is no answer: it is about rights on a table that a view has, whose owner reads it. `message`
    /// is what the server says.
    pub fn hidden_right(&self, code: Option<&[u8]>, message: Option<&[u8]>) -> Option<Refusal> {
        let denied = code == Some(sqlstate::INSUFFICIENT_PRIVILEGE.as_bytes());
        if self.opened.is_empty() || !denied {
            return None;
        }
        let message = String::from_utf8_lossy(message.unwrap_or_default()).to_lowercase();
        // Whoever may not read the view itself is told that, as PostgreSQL does.
        let mut opened = self.opened.iter();
        let of_view = opened.any(|view| fragment::is_named(&message, &view.name));
        (!of_view).then(|| Refusal::new(Reason::ViewRights))
    }
}

/// Whether gathering the rows helps against this reason.
pub fn helps(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::OrderBy
            | Reason::Limit
            | Reason::Distinct
            | Reason::GroupBy
            | Reason::Aggregate
            | Reason::Window
            | Reason::SetOperation
            | Reason::Subquery
            | Reason::Join
            | Reason::OuterJoin
            | Reason::HomeAndSharded
            | Reason::SeveralShards
            | Reason::InsertSelect
            | Reason::Cursor
            | Reason::CreateFromSharded
            | Reason::Merge
            | Reason::ComputedOnce
            | Reason::ReferenceWrite
            | Reason::Documents
    )
}

pub(super) const TEXT: u32 = 25;
pub(super) const BOOL: u32 = 16;

/// The columns that belong to one server's copy of a row.
pub(super) const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];

/// The first part of the names of our CTEs.
const CTE: &str = "__mothership_g";

/// A statement whose rows are gathered, as far as the residue is made of it.
#[derive(Clone, Copy)]
pub enum Root<'q> {
    /// A query.
    Query(&'q Query),
    /// The source of a MERGE, which also reads its target.
    Source(&'q Query, usize),
    /// UPDATE, DELETE or MERGE, or an INSERT at home; its target is read where it is.
    Write(&'q Statement, usize),
}

/// Plans a query that has been walked. `why` is the reason against anything cheaper.
///
/// # Errors
/// `why`, where gathering would not give PostgreSQL's own answer either, or a reason that says more.
pub fn plan(
    analysis: &Analysis<'_>,
    root: Root<'_>,
    parsed: &Parsed,
    ending: Ending,
    why: Refusal,
) -> Result<Gather, Refusal> {
    let seen = &analysis.seen;
    let is_behind = analysis.notes.within.iter().any(|w| w.cte.is_none());
    let taken = match (seen.writes, root, &ending) {
        (false, ..) => None,
        (true, _, Ending::Write(_) | Ending::Store(_)) if !is_behind => return Err(why),
        (true, Root::Query(query), Ending::Answer | Ending::Write(_) | Ending::Store(_)) => {
            Some(TakenOut::of(analysis, query, parsed)?)
        }
        (true, ..) => return Err(why),
    };
    let (root, ending) = match (&taken, root, ending) {
        // It is done when it is executed, and not when it is bound.
        (Some(taken), _, Ending::Answer) => {
            (Root::Query(&taken.query), Ending::Write(Written::Home))
        }
        (Some(taken), _, ending) => (Root::Query(&taken.query), ending),
        (None, root, ending) => (root, ending),
    };
    residual(analysis, root, taken.as_ref(), parsed, ending, why)
}

/// Plans an UPDATE that moves rows: what it takes away is deleted, and what `taken` shows of it is stored.
///
/// # Errors
/// As of `plan`.
pub fn plan_moved(
    analysis: &Analysis<'_>,
    taken: &TakenOut,
    parsed: &Parsed,
    store: Store,
    why: Refusal,
) -> Result<Gather, Refusal> {
    let root = Root::Query(&taken.query);
    let ending = Ending::Store(Box::new(store));
    residual(analysis, root, Some(taken), parsed, ending, why)
}

/// The same when it is known what is taken out of the statement.
fn residual(
    analysis: &Analysis<'_>,
    root: Root<'_>,
    taken: Option<&TakenOut>,
    parsed: &Parsed,
    ending: Ending,
    why: Refusal,
) -> Result<Gather, Refusal> {
    let seen = &analysis.seen;
    if let (Ending::Write(Written::Owners(_) | Written::Everywhere), Some(name)) =
        (&ending, &seen.once)
    {
        // Each of its servers would call it.
        let detail = crate::functions::told("function ", name);
        return Err(Refusal::about(Reason::ComputedOnce, detail));
    }
    let kept = taken.map_or(0, TakenOut::overriding);
    if !speaks_plainly(parsed, analysis, kept) {
        return Err(why);
    }
    let is_divided = matches!(
        ending,
        Ending::Write(Written::Owners(_) | Written::Everywhere)
    );
    if is_divided && seen.unordered_view {
        // Each server would read the view for itself.
        return Err(why);
    }
    if analysis.notes.sampled {
        // No fragment has the sample of its table.
        return Err(Refusal::about(
            Reason::NotUnderstood,
            "TABLESAMPLE in a statement that needs rows of several shards at once".to_owned(),
        ));
    }
    let target = match root {
        Root::Query(_) => taken.and_then(|taken| taken.target),
        Root::Source(_, target) | Root::Write(_, target) => Some(target),
    };
    let mut places: BTreeMap<Location, Vec<Read<'_>>> = BTreeMap::new();
    let brought = match taken {
        // What the writes change must have been read before.
        Some(_) => FetchScope::Every,
        None => FetchScope::to(&ending, may_choose(parsed) || seen.unordered),
    };
    let is_own = |instance: usize| taken.is_some_and(|t| t.is_own(instance));
    for read in &analysis.notes.reads {
        if Some(read.instance) != target && !is_own(read.instance) && brought.has(analysis, read) {
            places.entry(read.place).or_default().push(*read);
        }
    }
    for read in taken.into_iter().flat_map(TakenOut::reads) {
        places.entry(read.place).or_default().push(read);
    }
    if brought > FetchScope::Sharded && analysis.has_home_beside(target, &is_own, &places) {
        // Its rows would have to go to the other shards.
        return Err(why);
    }
    let numbers = parsed.placeholders.iter();
    let numbers = numbers.map(|(_, number)| usize::from(*number));
    let parameters = numbers
        .max()
        .unwrap_or(0)
        .max(analysis.context.parameter_types.len());
    // What the shards compute themselves reads its tables there.
    let documents = analysis.has_documents();
    let hidden = !documents && analysis.names.hidden_documents(parsed) != Hidden::None;
    let is_answer = ending == Ending::Answer && seen.locks == Locks::No;
    let locked = || {
        // A write within WITH might see which rows are locked.
        let may = taken.is_none_or(|taken| !taken.writes());
        let name = format!("{CTE}p1");
        let locked = may.then(|| partial::locked(analysis, root, &ending, &name));
        let locked = locked.flatten();
        locked.ok_or_else(|| Refusal::new(Reason::Locking))
    };
    let pushed = match root {
        _ if seen.locks == Locks::Within => vec![locked()?],
        Root::Query(_) if taken.is_some() || hidden => Vec::new(),
        Root::Query(_) if documents && !is_answer => Vec::new(),
        Root::Source(..) if documents || hidden => Vec::new(),
        Root::Query(query) | Root::Source(query, _) => {
            partial::all(analysis, query, |number| format!("{CTE}p{}", number + 1))
        }
        Root::Write(..) => Vec::new(),
    };
    for (_, pushed) in &pushed {
        places.retain(|place, _| !pushed.swallowed.contains(place));
    }
    let read = analysis.notes.reads.iter().map(|read| &read.place);
    let mut entries = rewrite::entries(root, places.keys().chain(read));
    for (place, entry) in taken.into_iter().flat_map(TakenOut::silent) {
        entries.insert(place, entry);
    }
    if !places.keys().all(|place| entries.contains_key(place)) {
        return Err(why);
    }
    let mut rewriting = rewrite::Rewriting::new(analysis);
    let mut fragments: Vec<Fragment> = Vec::new();
    let mut next = parameters + 1;
    let mut texts = match &ending {
        Ending::Store(store) => store.columns.iter().any(|column| column.cast.is_some()),
        Ending::Answer | Ending::Write(_) | Ending::Keep(_) | Ending::Change(_) => false,
    };
    texts |= parsed.opened_forms;
    // What is fetched of documents may be more than what a condition leaves.
    let stand_ins = places.values().flatten().map(|read| read.instance);
    let stand_ins = stand_ins.filter(|instance| !analysis.is_documents(*instance));
    let mut pruned = rewrite::Pruned::of(root, analysis, &stand_ins.collect());
    let text = pruned.text()?.to_lowercase();
    let mut sources = Sources::default();
    for (number, (place, reads)) in places.iter().enumerate() {
        let (name, alias) = &entries[place];
        let mut made = fragment::of(
            analysis,
            (&text, &entries),
            reads,
            (name, alias.as_ref()),
            &why,
        )?;
        if let Some(taken) = taken {
            taken.write(*place, &mut made)?;
        }
        let cte = format!("{CTE}{}", number + 1);
        texts |= made.columns.iter().any(|column| column.handed.as_text);
        if !made.fragment.elements.is_empty() {
            rewriting.replace(*place, reads, &cte, &made, &mut next);
        }
        if !made.fragment.writes {
            sources.table(fragments.len(), reads, &made);
        }
        fragments.push(made.fragment);
    }
    for (number, (place, pushed)) in pushed.into_iter().enumerate() {
        let cte = format!("{CTE}p{}", number + 1);
        sources.groups(fragments.len(), &pushed);
        // Texts of documents are texts already.
        let handed = pushed.columns.iter().any(|column| column.handed.as_text);
        let fragment = rewriting.push(place, pushed, &cte, &mut next);
        texts |= handed || !documents && fragment.sql.contains("::text");
        fragments.push(fragment);
    }
    sources.narrow(analysis, &mut fragments);
    for (number, opened) in parsed.opened.iter().enumerate() {
        let (fragment, column) = opened.fragment();
        rewriting.define(&format!("{CTE}v{}", number + 1), &[column], &mut next);
        fragments.push(fragment);
    }
    let locking = locks::take(analysis, &ending, &mut pruned, &mut fragments)?;
    let residue = rewriting.residue(pruned.root(root))?;
    let alone = locking.is_some();
    let residue = match locking {
        Some(locking) => {
            format!("SELECT {CTE}.* FROM ({residue}) AS {CTE} WHERE NOT EXISTS ({locking})")
        }
        None => residue,
    };
    let sharded = analysis.sharded();
    let sharded = sharded.filter(|(instance, _, _)| !analysis.is_documents(*instance));
    let sharded = sharded.filter_map(|(instance, _, _)| keyed_by(analysis, instance));
    let keyed: Vec<KeyedBy> = sharded.collect();
    let at_home = |i: &Instance<'_>| matches!(i.source, Source::Home(_));
    // Only the home shard knows the columns of documents.
    let home = documents || analysis.instances.iter().any(at_home);
    Ok(Gather {
        documents,
        role: role(analysis, ending == Ending::Answer),
        always: false,
        alone,
        keyed,
        home,
        fragments,
        residue,
        parameters,
        ending,
        texts,
        opened: parsed
            .opened
            .iter()
            .map(|opened| opened.view.clone())
            .collect(),
        why,
    })
}

/// Of which tables the rows are brought to where the residue runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum FetchScope {
    /// It runs at home if there are tables of the home shard in it.
    Sharded,
    /// It runs on other shards.
    ShardedAndHome,
    /// It is to do the same everywhere, so that copies, too, are read once: their rows may lie in another order.
    Every,
}

impl FetchScope {
    /// `may_choose`: what it does may depend on the order of rows.
    fn to(ending: &Ending, may_choose: bool) -> FetchScope {
        match ending {
            Ending::Answer
            | Ending::Keep(_)
            | Ending::Store(_)
            | Ending::Change(_)
            | Ending::Write(Written::Home) => FetchScope::Sharded,
            // Which rows come first must not be another matter on each shard.
            Ending::Write(Written::Owners(_)) if may_choose => FetchScope::Every,
            Ending::Write(Written::Owners(_)) => FetchScope::ShardedAndHome,
            Ending::Write(Written::Everywhere) => FetchScope::Every,
        }
    }

    fn has(self, analysis: &Analysis<'_>, read: &Read<'_>) -> bool {
        match (read.view, &analysis.instances[read.instance].source) {
            (Some(_), _) => analysis.reads_sharded(read.instance),
            (None, Source::Sharded(..)) => true,
            (None, Source::Home(_)) => self >= FetchScope::ShardedAndHome,
            (None, Source::Reference(_)) => self == FetchScope::Every,
            (None, Source::Derived | Source::Rows) => false,
        }
    }
}

impl Analysis<'_> {
    /// Whether the statement reads a table of the home shard, other than `target`, elsewhere than at these places.
    fn has_home_beside(
        &self,
        target: Option<usize>,
        is_own: &impl Fn(usize) -> bool,
        places: &BTreeMap<Location, Vec<Read<'_>>>,
    ) -> bool {
        let replaced = |index: usize| places.values().flatten().any(|r| r.instance == index);
        let mut instances = self.instances.iter().enumerate();
        instances.any(|(index, instance)| {
            matches!(instance.source, Source::Home(_))
                && Some(index) != target
                && !is_own(index)
                && !replaced(index)
        })
    }
}

/// Whether some query of the text may take some of its rows and leave others.
fn may_choose(parsed: &Parsed) -> bool {
    let chooses = |token: &Token| match token {
        Token::Word(word) => {
            let word = fold(&word.value, word.quote_style.is_some());
            matches!(&*word, "limit" | "offset" | "fetch" | "distinct")
        }
        _ => false,
    };
    parsed.tokens.iter().any(|token| chooses(&token.token))
}

/// Whether the text has nothing that its tree does not tell, or that the stand-ins of tables do not have. `kept` is how
/// often OVERRIDING is told otherwise.
fn speaks_plainly(parsed: &Parsed, analysis: &Analysis<'_>, kept: usize) -> bool {
    let word = |at: usize| match parsed.tokens.get(at).map(|t| &t.token) {
        Some(Token::Word(word)) => fold(&word.value, word.quote_style.is_some()),
        _ => Cow::default(),
    };
    // The parser is not given ONLY and OVERRIDING.
    let all = 0..parsed.tokens.len();
    let overriding = all.clone().filter(|at| word(*at) == "overriding").count();
    overriding == kept
        && all.clone().all(|at| {
            let name = word(at);
            let only = name == "only"
                && !matches!(at.checked_sub(1).map(word).as_deref(), Some("row" | "rows"));
            let lost = only && has_children(analysis);
            // Values that were gathered are not stored as those of the table are.
            let is_of_table = SYSTEM_COLUMNS.contains(&&*name) || name == "pg_column_size";
            !lost && !name.starts_with(CTE) && !is_of_table
        })
}

/// Whether ONLY may mean something: some table of the statement has partitions or children, or is not known.
fn has_children(analysis: &Analysis<'_>) -> bool {
    let relations = &analysis.names.catalog.relations;
    if inherits(analysis.names.catalog) {
        return true;
    }
    let is_parent = |table: &Relation| {
        table.has_children
            || table.partitioning.is_some()
            || relations
                .values()
                .any(|r| r.parent.as_ref() == Some(&table.name))
    };
    analysis
        .instances
        .iter()
        .any(|instance| match &instance.source {
            Source::Sharded(relation, _) | Source::Reference(relation) => is_parent(relation),
            Source::Home(name) => analysis.at_home(name).is_none_or(is_parent),
            Source::Derived | Source::Rows => false,
        })
}

/// Whether some table is the child of another without being a partition: of several parents only the first is known.
fn inherits(catalog: &Catalog) -> bool {
    let of = |name: &Name| catalog.relations.get(name);
    let mut parents = catalog.relations.values().filter_map(|r| r.parent.as_ref());
    parents.any(|parent| of(parent).is_none_or(|parent| parent.partitioning.is_none()))
}

impl<'n> Analysis<'n> {
    /// The column of a table that a column shows unchanged, through subqueries.
    pub fn origin(&self, mut node: Node) -> Option<&'n Column> {
        while let Some(next) = self.notes.shown.get(&node) {
            node = *next;
        }
        let relation = match &self.instances[node.0].source {
            Source::Sharded(relation, _) | Source::Reference(relation) => *relation,
            Source::Home(name) => self.at_home(name)?,
            Source::Derived | Source::Rows => return None,
        };
        relation.columns.get(node.1)
    }

    /// The table of the home shard of that name, if it is an ordinary one that the catalog knows.
    pub fn at_home(&self, name: &str) -> Option<&'n Relation> {
        let mut relations = self.names.catalog.relations.values();
        relations.find(|relation| {
            let kind = matches!(
                relation.kind,
                RelationKind::Table | RelationKind::MaterializedView
            );
            kind && relation.name.to_string() == name
        })
    }
}

/// A FROM entry that names a relation.
fn named(factor: &TableFactor) -> Option<(&ObjectName, Option<&TableAlias>)> {
    match factor {
        TableFactor::Table {
            name,
            alias,
            args: None,
            ..
        } => Some((name, alias.as_ref())),
        _ => None,
    }
}
