//! Decides where a statement runs, and what makes one answer of several.
//!
//! Pure: a text, a catalog, a map and the session's context go in, a `Plan`
//! comes out, with everything the executor needs but the values of parameters;
//! `route` adds those. No clock, no chance, no sockets, no await. What is not
//! proven to be PostgreSQL's own answer is `Plan::Refuse`.
//!
//! To the shard of a statement: `expr::implied` makes a condition of
//! `customer_id = 5`, `query::conditions` says for which tables it holds,
//! `scope` collects what must hold of a table's key, `decide::finish` makes a
//! plan of that, and `route` asks the map. Keys of rows to be stored are in
//! `write::rows`.

pub mod condition;
pub mod context;
pub mod explain;
pub mod merge;
pub mod parens;
pub mod pin;
pub mod reached;
pub mod refuse;
pub mod report;
pub mod route;

mod apart;
mod array;
mod copy;
mod ddl;
mod decide;
mod defines;
mod dialect;
pub mod documents;
mod expr;
pub mod fill;
mod fired;
mod functions;
pub mod gather;
mod grammar;
mod keep;
mod left;
mod lengths;
mod misread;
mod names;
mod parse;
mod policy;
mod position;
mod query;
mod read;
mod rights;
pub mod sample;
mod scope;
mod setval;
pub mod shaped;
pub mod slots;
pub mod sorted;
mod spelled;
mod spread;
pub mod touches;
mod unnamed;
mod utility;
pub mod visit;
mod write;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use mothership_shardmap::{KeyBytes, KnownTable, Placement, ShardMap, Sharded, TablePattern};

use mothership_catalog::{Catalog, Name};
use mothership_documents::Collection;
use mothership_sql::effect::{self, Statement};

use condition::{Cond, Scalar};
pub use context::{Bound, Params, PlanContext, Temporary, TextContext};
pub use copy::rows_of;
pub use explain::explain;
pub use functions::is_opaque;
pub use gather::{Gather, Nulls};
pub use keep::alone;
pub use merge::{AggregateMerge, Merge};
use names::Names;
pub use names::RUNS_SQL;
pub use pin::{About, Elsewhere, NoRoute, Pin};
pub use refuse::{Reason, Refusal};
pub use report::report;
pub use route::{ReadRoute, Route, reading, route};
pub use shaped::GenericPlan;
pub use slots::Literals;
use slots::Text;
pub use sorted::{ShardQuery, SortedMerge};
use spelled::Spelled;
pub use touches::{Touches, parts};
pub use unnamed::OF_WORDS as OPERATORS_OF_WORDS;

/// What is to be done with a statement. Complete: executing it takes no further decision
/// but the choice of a healthy server.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// The router answers itself.
    Local(Local),
    /// One shard; the client's bytes are passed on as they are.
    Single(Single),
    /// Several shards; their answers are merged.
    Scatter(Scatter),
    /// A write whose rows are divided by shard.
    Split(Split),
    /// Rows of several shards, on which one server runs the statement.
    Gather(Arc<Gather>),
    /// An INSERT that is planned when the router has written values into it.
    Fill(fill::Fill),
    /// A change of definitions.
    Ddl(Ddl),
    /// Any of the others, before which the home shard has to be asked whether the client's role may run the statement.
    Guarded(Guarded),
    /// Not answered.
    Refuse(Refusal),
}

/// A plan that is carried out when a question has been answered without an error.
#[derive(Debug, Clone, PartialEq)]
pub struct Guarded {
    /// What is done then.
    pub plan: Arc<Plan>,
    /// What the home shard is to run before it, on the client's behalf.
    pub question: Arc<str>,
}

impl Plan {
    /// What is done, whatever has to be asked before.
    pub fn unguarded(&self) -> &Plan {
        match self {
            Plan::Guarded(guarded) => &guarded.plan,
            plan => plan,
        }
    }
}

/// What the router answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// No statement: EmptyQueryResponse.
    Empty,
}

/// One shard.
#[derive(Debug, Clone, PartialEq)]
pub struct Single {
    /// Which one.
    pub target: Target,
    /// Which of its servers.
    pub role: Role,
    /// How answers are merged if the key of a Bind cannot be read with certainty, so that every shard that the
    /// first condition allows is asked.
    pub fallback: Option<Merge>,
    /// How it is answered if the keys turn out to lie on several shards and `fallback` is none.
    pub gather: Option<Arc<Gather>>,
    /// The refusal if the keys turn out to lie on several shards and there is no fallback.
    pub otherwise: Refusal,
    /// Names of relations that are neither in the catalog nor declared. If the catalog may be
    /// stale, refresh it and plan again before sending.
    pub unknown: Vec<String>,
    /// It locks rows of a reference table as who writes them does.
    pub locks_copies: bool,
    /// What it touches.
    pub touches: Touches,
}

/// Several shards.
#[derive(Debug, Clone, PartialEq)]
pub struct Scatter {
    /// Which ones; if it turns out to be one, the client's bytes pass untouched.
    pub target: Target,
    /// Which server of each.
    pub role: Role,
    /// What makes one answer.
    pub merge: Merge,
    /// What others wait for.
    pub locks: LockScope,
}

/// What a statement over several shards locks, which says in which order the shards are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockScope {
    /// Rows of each shard, if anything: all at once.
    Rows,
    /// Sharded tables as a whole, on every shard: the home shard first.
    Tables,
    /// All copies of reference tables: the home shard first, with the lock of whoever writes copies (ADR 35).
    Copies,
    /// The same, and policies that read other reference tables choose the rows.
    SecuredCopies,
}

/// Where to go.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// The home shard.
    Home,
    /// Any one shard: reference tables only.
    AnyShard,
    /// Every shard.
    AllShards,
    /// The shards that own the keys, by all of these conditions together. For `Single`
    /// all must lead to the same shard.
    Keys(Vec<KeyedBy>),
}

/// A sharded table and what is known of its keys.
#[derive(Debug, Clone)]
pub struct KeyedBy {
    /// The table.
    pub table: Name,
    /// How its keys lead to shards.
    pub sharded: Arc<Sharded>,
    /// What must hold of the key; columns count from the first of the key.
    pub cond: Cond,
    /// The partition within the shard, where the condition may name one.
    pub leaf: Option<LeafBy>,
    /// For UPDATE of the key to the value that it has: each key column and its new value.
    pub kept: Vec<(usize, Scalar)>,
    /// Of a row with this key that is stored. Then the key must be known, not only restricted.
    pub stored: Option<MaxChars>,
}

impl PartialEq for KeyedBy {
    fn eq(&self, other: &KeyedBy) -> bool {
        self.table == other.table && self.cond == other.cond && self.kept == other.kept
    }
}

/// For each column of a key that is a varchar(n), n. A longer text is an error when it is stored, or loses spaces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MaxChars(pub Vec<Option<usize>>);

impl MaxChars {
    /// Whether a column, counted from the first of the key, stores this value as it is.
    pub fn take(&self, column: usize, value: &KeyBytes) -> bool {
        let longest = self.0.get(column).copied().flatten();
        let chars = || String::from_utf8_lossy(value.as_bytes()).chars().count();
        longest.is_none_or(|longest| chars() <= longest)
    }
}

/// How a hash partition is found.
#[derive(Debug, Clone, PartialEq)]
pub struct LeafBy {
    /// The partition key's columns and their types.
    pub columns: Vec<(String, mothership_shardmap::KeyType)>,
    /// What must hold of them.
    pub cond: Cond,
    /// The leaves with modulus and remainder.
    pub leaves: Vec<(Name, u64, u64)>,
}

/// Which server of a shard may answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The primary only, and why.
    Primary(String),
    /// A replica as well: proven to read only what replicas have.
    Replica,
}

/// Rows divided by shard.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// The table.
    pub table: Name,
    /// How its keys lead to shards.
    pub sharded: SameSharded,
    /// Where the rows are.
    pub rows: SplitRows,
    /// Sharded tables that the statement reads: with any, all must be on one shard.
    pub others: Vec<KeyedBy>,
    /// What it touches.
    pub touches: Touches,
}

/// A description of sharding inside a plan; plans are compared by its key columns.
#[derive(Debug, Clone)]
pub struct SameSharded(pub Arc<Sharded>);

impl PartialEq for SameSharded {
    fn eq(&self, other: &SameSharded) -> bool {
        self.0.columns == other.0.columns && self.0.group == other.0.group
    }
}

/// Rows to be divided.
#[derive(Debug, Clone, PartialEq)]
pub enum SplitRows {
    /// The rows of a VALUES list in the client's own text.
    Values {
        /// Each row: where it stands in the text, parentheses included, and its key.
        rows: Vec<ValuesRow>,
        /// Types for the statement's parameters, so that those of absent rows keep theirs; 0 where unknown.
        parameter_types: Vec<u32>,
        /// For each key column of type varchar(n), n: longer values are not stored as they are.
        max_chars: MaxChars,
        /// What becomes of rows without a key.
        nulls: Nulls,
        /// The refusal if the rows lie on several shards.
        whole: Option<Refusal>,
    },
    /// The rows of COPY FROM STDIN.
    Copy {
        /// The positions of the key's columns among the copied ones, from 0.
        key_positions: Vec<usize>,
        /// How many columns are copied.
        columns: usize,
        /// The form of the rows.
        format: CopyFormat,
    },
}

/// A row of a VALUES list.
#[derive(Debug, Clone, PartialEq)]
pub struct ValuesRow {
    /// Bytes of the client's text.
    pub span: Range<usize>,
    /// One value for each key column.
    pub key: Vec<Scalar>,
}

/// The form of COPY's rows, with every option that decides where a row or a field ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyFormat {
    /// Text.
    Text {
        /// Between fields.
        delimiter: u8,
        /// NULL.
        null: String,
        /// Whether the first line is a header.
        header: bool,
    },
    /// CSV.
    Csv {
        /// Between fields.
        delimiter: u8,
        /// NULL.
        null: String,
        /// Whether the first line is a header.
        header: bool,
        /// Around fields.
        quote: u8,
        /// Before a quote within quotes.
        escape: u8,
    },
    /// Binary.
    Binary,
}

/// A change of definitions, or maintenance of tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ddl {
    /// Where it is done.
    pub place: DdlPlace,
    /// How it goes to several shards.
    pub course: Course,
    /// Why there.
    pub why: String,
    /// What other shards than the home shard are told instead.
    pub elsewhere: Option<String>,
    /// Defaults of new columns that ask for the time.
    pub times: Vec<TimedDefault>,
}

/// How a change goes to several shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
    /// In one transaction.
    Transaction,
    /// PostgreSQL does not allow it in a transaction block: shard after shard. The client is told where it stopped.
    Steps,
    /// PostgreSQL does it table by table, each in a transaction of its own, but for a transaction block, in which it belongs to
    /// that: shard after shard, or in one transaction.
    StepsOutside,
    /// The same of an index that is made, with its name as SQL: if one shard fails, no shard keeps it.
    MakesIndex(String),
    /// The same of an index that is dropped. The home shard, by whose catalog statements are planned, is the last one, and
    /// the others need not have it: so the statement can be repeated until it is done everywhere.
    DropsIndex,
}

/// The default of a new column that asks for the time. The rows that are there get one time on all shards, and those
/// that follow their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedDefault {
    /// The column, in quotes.
    pub column: String,
    /// IF NOT EXISTS, in bytes of the statement.
    pub unless: Option<Range<usize>>,
    /// The expression.
    pub at: Range<usize>,
    /// Where the change ends that adds the column.
    pub end: usize,
}

/// Where definitions change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DdlPlace {
    /// On every shard, in order.
    AllShards,
    /// On the home shard.
    Home,
    /// Once in each PostgreSQL cluster that holds shards.
    OncePerCluster,
}

/// Texts up to this many bytes are planned on the caller's stack.
const SHORT: usize = 1024;

/// The stack for longer ones: several KiB for each of the operators that `parse` lets pass.
const STACK: usize = 64 << 20;

/// A catalog and a map, looked at once; plans any number of statements.
pub struct Planner<'a> {
    names: Names<'a>,
}

impl<'a> Planner<'a> {
    /// Looks at every relation, view and function once.
    pub fn new(catalog: &'a Catalog, map: &'a ShardMap) -> Planner<'a> {
        Planner::with_pending(catalog, map, &[])
    }

    /// The same where declared tables wait for their creation, because nobody knows the types of their keys.
    pub fn with_pending(
        catalog: &'a Catalog,
        map: &'a ShardMap,
        pending: &'a [TablePattern],
    ) -> Planner<'a> {
        Planner {
            names: Names::new(catalog, map, pending),
        }
    }

    /// The same planner where unqualified names mean nothing in these schemas.
    pub fn without(&self, schemas: &BTreeSet<String>) -> Planner<'a> {
        let mut names = self.names.without(schemas);
        names.moves_rows = self.names.moves_rows;
        names.documents = self.names.documents.clone();
        names.over_documents = self.names.over_documents.clone();
        Planner { names }
    }

    /// The schemas in which the unqualified names of a statement mean nothing. The planner without them may understand what
    /// this one refuses. Empty if there are none, or the search path is not certain.
    pub fn not_meant(&self, sql: &str, context: &PlanContext) -> BTreeSet<String> {
        // What a definition binds is called along other paths, too.
        let analysis = effect::analyse(sql.as_bytes(), context.standard_conforming_strings);
        match analysis.statement {
            Statement::Ddl { .. } => BTreeSet::new(),
            _ => self.names.leading().apart(sql, context),
        }
    }

    /// The same where an UPDATE may lead rows to other shards.
    pub fn moving_rows(mut self) -> Planner<'a> {
        self.names.moves_rows = true;
        self
    }

    /// The same where the rows of these tables are documents.
    pub fn with_documents(mut self, collections: &[Arc<Collection>]) -> Planner<'a> {
        let name = |collection: &Arc<Collection>| Name {
            schema: collection.schema.clone(),
            name: collection.table.clone(),
        };
        let named = collections.iter().map(|one| (name(one), Arc::clone(one)));
        self.names.documents = named.collect();
        self.names.over_documents = rights::views_over_documents(&self.names);
        self
    }

    /// Plans one statement.
    pub fn plan(&self, sql: &str, context: &PlanContext) -> Plan {
        let decided = self.with_stack_for(sql, || self.decide(sql, context));
        match decided {
            Ok(plan) if self.is_misread_for_documents(sql, context, &plan) => {
                Plan::Refuse(Refusal::new(Reason::NotUnderstood))
            }
            Ok(plan) => rights::with_privilege_check(&self.names, sql, context, plan),
            Err(refusal) => Plan::Refuse(refusal),
        }
    }

    /// Whether a text has more than so many bytes, together with the definitions of the views that it may name: planning
    /// takes as long as all of them are.
    pub fn is_longer_with_views(&self, sql: &str, most: usize) -> bool {
        self.names.is_longer_with_views(sql, most)
    }

    /// Whether a text may run code that reaches tables by the operators, casts and types in it.
    pub fn calls_unnamed(&self, sql: &str, context: &PlanContext) -> bool {
        self.names.calls_unnamed(sql, Some(context))
    }

    /// Runs `decide` with a stack that is large enough for the tree of this text.
    ///
    /// Chains of operators become trees as deep as they are long, and even dropping such a tree walks it. A short text
    /// cannot be that deep. For others the pages are only taken when touched.
    fn with_stack_for<T>(&self, sql: &str, decide: impl FnOnce() -> T) -> T {
        match self.is_longer_with_views(sql, SHORT) {
            true => stacker::grow(STACK, decide),
            false => decide(),
        }
    }

    /// Where a relation of the catalog must be: on every shard, or at home only.
    pub fn is_everywhere(&self, relation: &mothership_catalog::Relation) -> bool {
        !matches!(self.names.place(&relation.name), names::Place::Home)
    }

    /// Where a relation of the catalog lives.
    pub fn placement(&self, relation: &mothership_catalog::Relation) -> Placement {
        self.names.place(&relation.name).placement()
    }

    /// The name and columns of the table that a CREATE TABLE makes, with the types that may be keys.
    pub fn created(&self, sql: &str, context: &PlanContext) -> Option<KnownTable> {
        ddl::created(&self.names, sql, context)
    }

    /// Constraints of existing tables that no shard can enforce for the whole table, as they would be refused at
    /// DDL.
    pub fn unenforced(&self) -> Vec<Refusal> {
        let all = self.unenforced_by_table().into_iter();
        all.map(|(_, refusal)| refusal).collect()
    }

    /// The same, each with its table.
    pub fn unenforced_by_table(&self) -> Vec<(Name, Refusal)> {
        ddl::unenforced(&self.names)
    }

    /// What is sent for documents is read from the text again, as it is and without the settings of the session.
    fn is_misread_for_documents(&self, sql: &str, context: &PlanContext, plan: &Plan) -> bool {
        let at_home = matches!(plan, Plan::Single(single) if single.target == Target::Home);
        !self.names.documents.is_empty()
            && !at_home
            && Spelled::of(sql, context.standard_conforming_strings).is_some()
    }

    fn decide(&self, sql: &str, context: &PlanContext) -> Result<Plan, Refusal> {
        if self.names.map.shards().len() > 1 && utility::shows_prepared(sql, context) {
            return Err(Refusal::new(Reason::PreparedOverShards));
        }
        let analysis = effect::analyse(sql.as_bytes(), context.standard_conforming_strings);
        let within = |span: mothership_sql::cursor::Span| &sql[span.start..span.end];
        let of_tables = matches!(
            analysis.statement,
            Statement::Do
                | Statement::Call
                | Statement::Truncate
                | Statement::Lock
                | Statement::Ddl { .. }
                | Statement::Other(_)
                | Statement::Several
                | Statement::Unclear
        );
        // A name with escapes may be any.
        let may_name = || {
            self.names.mentions_documents(sql)
                || !self.names.documents.is_empty() && sql.to_ascii_lowercase().contains("u&\"")
        };
        if of_tables
            && may_name()
            && let Some(plan) = ddl::documents::plan(&self.names, sql, &analysis.statement, context)
        {
            return plan;
        }
        let computes = matches!(
            analysis.statement,
            Statement::Select
                | Statement::Insert
                | Statement::Update
                | Statement::Delete
                | Statement::Merge
                | Statement::Do
                | Statement::Call
                | Statement::Copy { .. }
                | Statement::Declare { .. }
                | Statement::Prepare { .. }
        ) || ddl::computes(sql, &analysis.statement);
        if computes && self.names.calls_unnamed(sql, Some(context)) {
            return refuse::refuse(Reason::FunctionUnproven);
        }
        match &analysis.statement {
            Statement::Empty => Ok(Plan::Local(Local::Empty)),
            Statement::Select => {
                let planned = read::plan(&self.names, &Text::whole(sql), context);
                match planned {
                    Err(refusal) if refusal.reason == Reason::CreateFromSharded => {
                        keep::select_into(&self.names, sql, context)
                    }
                    // The parser knows fewer forms of INTO.
                    Err(refusal) if refusal.reason == Reason::NotUnderstood => {
                        let made = keep::select_into(&self.names, sql, context);
                        made.or_else(|_| self.unless_in_strings(Err(refusal), sql, context))
                    }
                    planned => self.unless_in_strings(planned, sql, context),
                }
            }
            Statement::Insert | Statement::Update | Statement::Delete | Statement::Merge => {
                write::plan(&self.names, &Text::whole(sql), context)
            }
            Statement::Copy {
                direction, source, ..
            } => copy::plan(self, sql, *direction, source, context),
            Statement::Explain { inner, .. } => {
                utility::only_single(self.decide(within(*inner), context)?, Reason::Explain)
            }
            Statement::Declare { query, .. } => {
                let planned = keep::cursor(&self.names, sql, &analysis.statement, context);
                self.unless_in_strings(planned, within(*query), context)
            }
            Statement::Prepare { body, .. } => self.decide(within(*body), context),
            Statement::Do => match utility::definition(&self.names, sql, context) {
                Some(definition) => self.within_do(&definition, sql, context),
                None => utility::code(&self.names, sql, context),
            },
            Statement::Call => utility::code(&self.names, sql, context),
            Statement::Truncate => ddl::truncate(&self.names, sql, context),
            Statement::Lock => ddl::whole_tables(&self.names, sql, context),
            Statement::Ddl { verb, object } => ddl::plan(&self.names, sql, *verb, *object, context),
            Statement::Other(what) => ddl::maintenance(&self.names, sql, *what, context),
            Statement::Several | Statement::Unclear => utility::unclear(&self.names, sql),
            // The session follows these itself; the server hears them as they are.
            _ => Ok(utility::home("a statement about the session")),
        }
    }

    /// DO that does no more than to change a definition. Where it is one that all shards have, all of them run it.
    fn within_do(
        &self,
        definition: &str,
        sql: &str,
        context: &PlanContext,
    ) -> Result<Plan, Refusal> {
        match self.decide(definition, context) {
            Ok(Plan::Ddl(ddl))
                if ddl.place != DdlPlace::Home
                    && ddl.course == Course::Transaction
                    && ddl.elsewhere.is_none()
                    && ddl.times.is_empty() =>
            {
                Ok(Plan::Ddl(ddl))
            }
            _ => utility::code(&self.names, sql, context),
        }
    }

    /// A query that cannot be read, and that names declared tables in strings only, is the home shard's.
    fn unless_in_strings(
        &self,
        planned: Result<Plan, Refusal>,
        sql: &str,
        context: &PlanContext,
    ) -> Result<Plan, Refusal> {
        match planned {
            Err(refusal)
                if refusal.reason == Reason::NotUnderstood
                    && utility::names_nothing_declared(&self.names, sql, context) =>
            {
                Ok(utility::home("names declared tables in strings only"))
            }
            planned => planned,
        }
    }
}

/// The tree of a statement that the planner has understood before.
///
/// # Errors
/// It is not understood.
pub fn parse_plainly(sql: &str) -> Result<sqlparser::ast::Statement, Refusal> {
    let parsed = match sql.len() <= SHORT {
        true => parse::query_or_write(&Text::whole(sql)),
        false => stacker::grow(STACK, || parse::query_or_write(&Text::whole(sql))),
    };
    Ok(parsed?.statement)
}

/// Plans one statement. For many statements make one `Planner`.
pub fn plan(sql: &str, catalog: &Catalog, map: &ShardMap, context: &PlanContext) -> Plan {
    Planner::new(catalog, map).plan(sql, context)
}

#[cfg(test)]
mod tests;
