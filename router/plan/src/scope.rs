//! The relations of a statement, the conditions on their columns, and the links
//! by which a condition on one relation also holds for another.
//!
//! Every entry of every FROM clause is an instance. A row or a value matters if
//! it can affect the statement's result. A fact is a condition on the columns of
//! one instance: rows that do not meet it do not matter. A link says that the
//! values of one column that matter are among the values of another column that
//! matter. From facts and links follows the condition on the key of each sharded
//! instance (`key_condition`).
//!
//! Why this is sound: imagine that the rows that do not meet their condition are
//! removed, one instance after the other. No step changes the statement's
//! result, given the steps before. `query` only records facts and links for
//! which this holds.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use mothership_shardmap::KeyType;
use sqlparser::ast::Ident;
use sqlparser::tokenizer::Location;

use mothership_catalog::Relation;

use super::MaxChars;
use super::condition::{Cond, Scalar};
use super::context::PlanContext;
use super::functions::Call;
use super::gather::Notes;
use super::names::{Keyed, Names, folded, same_family};
use super::parse::Size;
use super::refuse::{Reason, Refusal, refuse};
use super::slots::{Looked, Text};

/// A statement with more FROM entries than this is refused. Those of inlined views and CTEs count too.
const MAX_INSTANCES: usize = 400;

/// One column of one instance.
pub type Node = (usize, usize);

/// Where the rows of an instance come from.
#[derive(Debug, Clone)]
pub enum Source<'n> {
    /// A sharded table.
    Sharded(&'n Relation, Arc<Keyed>),
    /// A reference table.
    Reference(&'n Relation),
    /// A table of the home shard, a temporary table or a catalog of PostgreSQL.
    Home(String),
    /// A subquery, a view or a CTE. Its tables are instances of their own.
    Derived,
    /// A function or VALUES: no table.
    Rows,
}

/// One entry of a FROM clause.
#[derive(Debug, Clone)]
pub struct Instance<'n> {
    /// Where its rows come from.
    pub source: Source<'n>,
    /// Its columns, by output name.
    pub columns: Vec<ColumnInfo>,
    /// Whether `columns` is all of them.
    pub complete: bool,
}

/// A column as the planner knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// Its type, if a shard key can have this type.
    pub key_type: Option<KeyType>,
}

/// Each value of `to` that matters is among those of `from` that matter. So conditions on `from` hold for `to` too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The column whose conditions are known.
    pub from: Node,
    /// The column for which they hold too.
    pub to: Node,
    /// Whether both columns are equal within each joined row. If not, only the sets of their values are related.
    pub by_row: bool,
}

/// Which rows FOR UPDATE and the like lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Locks {
    /// No rows.
    #[default]
    No,
    /// Rows that the outermost query locks, and each of which lies on one shard only: a lock on that shard is enough.
    Apart,
    /// Documents that the outermost query locks. A document has no lock that could keep another session out.
    Documents,
    /// Rows of one sharded table that one query inside the statement locks.
    Within,
    /// All others: for example rows of which several shards have copies, or that a view locks.
    Otherwise,
}

/// What else the analysis has found in the statement.
#[derive(Debug, Clone, Default)]
pub struct StatementFindings {
    /// The sorts of function calls in the statement, with the name of one function of each sort.
    pub calls: BTreeMap<Call, String>,
    /// A function in a subquery that returns another value at each call. PostgreSQL may call it once for all rows.
    pub once: Option<String>,
    /// What a query of it without sharded tables gives depends on the order of its rows, which nothing says: copies of a
    /// reference table may have another order on each shard.
    pub unordered: bool,
    /// The same in the definition of a view.
    pub unordered_view: bool,
    /// Which rows FOR UPDATE and the like lock.
    pub locks: Locks,
    /// Whether it locks rows of a reference table with FOR UPDATE or FOR NO KEY UPDATE, as a writer of these rows does,
    /// and waits for the locks.
    pub locks_copies: bool,
    /// Whether a query in it writes: a data-modifying CTE, or a write behind WITH.
    pub writes: bool,
    /// Whether such a write is to a reference table, of which each shard has a copy.
    pub copies: bool,
    /// Whether it reads a catalog of PostgreSQL.
    pub catalogs: bool,
    /// Whether it reads a temporary, unlogged or foreign table, which replicas do not have, or a sequence, which has
    /// later values on replicas.
    pub not_on_replicas: bool,
    /// Whether row security of a table in it reads reference tables.
    pub secured_by_copies: bool,
    /// Whether it reads a view. The definition of the view may call functions that the statement does not show.
    pub views: bool,
    /// Names of relations that neither the catalog nor the map knows. Also unqualified names of temporary tables: once
    /// the temporary table is gone, the name may be that of a table which is not known yet.
    pub unknown: BTreeSet<String>,
    /// The refusal if the statement runs on several shards, because it fires a trigger that PostgreSQL fires once for
    /// all rows.
    pub fires_once: Option<Refusal>,
}

impl StatementFindings {
    /// Adds what was found in a part of the statement.
    pub fn add(&mut self, part: StatementFindings) {
        for (call, name) in part.calls {
            self.calls.entry(call).or_insert(name);
        }
        self.once = self.once.take().or(part.once);
        self.unordered |= part.unordered;
        self.unordered_view |= part.unordered_view;
        self.locks = self.locks.max(part.locks);
        self.writes |= part.writes;
        self.copies |= part.copies;
        self.locks_copies |= part.locks_copies;
        self.catalogs |= part.catalogs;
        self.not_on_replicas |= part.not_on_replicas;
        self.secured_by_copies |= part.secured_by_copies;
        self.views |= part.views;
        self.unknown.extend(part.unknown);
        self.fires_once = self.fires_once.take().or(part.fires_once);
    }
}

/// The analysis of one statement.
pub struct Analysis<'n> {
    /// The names of relations, by one catalog and one map.
    pub names: &'n Names<'n>,
    /// What the planner knows of the session.
    pub context: &'n PlanContext,
    /// All FROM entries.
    pub instances: Vec<Instance<'n>>,
    /// Facts: an instance, and a condition. Rows of the instance that do not meet the condition do not matter.
    pub facts: Vec<(usize, Cond)>,
    /// Links, by which a condition on one column also holds for another.
    pub links: Vec<Link>,
    /// What else was found in the statement.
    pub seen: StatementFindings,
    /// The places of the identifiers that the analysis has understood.
    pub explained: HashSet<Location>,
    /// Uses of undeclared parameters whose type is certain, for example beside a column or in a cast. For each place:
    /// the parameter's number and the type.
    pub typed_uses: BTreeMap<Location, (u16, KeyType)>,
    /// All places of parameters in the text, with their numbers.
    pub placeholders: Vec<(Location, u16)>,
    /// How many view definitions the walk is inside of: 0 in the client's own text.
    pub in_view: u32,
    /// How large the definitions are together that the walk has gone through, each time that it did.
    pub views: Size,
    /// How many queries the walk is inside of.
    pub depth: u32,
    /// The depth of the query whose rows are the rows of the statement. 0 if the rows of the statement are those of a
    /// table, as in UPDATE.
    pub rows_depth: u32,
    /// Derived instances that read a sharded table.
    pub sharded_below: BTreeSet<usize>,
    /// The instance of each subquery in an expression. The key is the subquery's address in memory, which is valid
    /// while the query around it is walked.
    pub subqueries: std::collections::HashMap<usize, usize>,
    /// Values that UPDATE gives to columns of a key: the instance, the position in the key, and the value.
    pub kept: Vec<(usize, usize, Scalar)>,
    /// Instances that stand for rows to be stored, with the length limits of their key columns.
    pub stored: BTreeMap<usize, MaxChars>,
    /// How many aggregates were found that may belong to a query around the one in which they are written.
    pub aggregates_around: usize,
    /// The first instance of which the query at hand names a column: one of a query around it, if that was there before.
    /// What is not certain to be a column of one does not count.
    pub outermost_read: usize,
    /// Within the query at hand is one for each row of a query around it, and its answer depends on the order of rows.
    pub unordered_below: bool,
    /// What the planner has asked of literals that a plan by shape leaves out.
    pub looked: Rc<Looked>,
    /// How an INSERT of a query fills the columns that it leaves to a sequence.
    pub sequences: LeftToSequences,
    /// Notes for the case that the rows are gathered.
    pub notes: Notes<'n>,
}

/// How an INSERT of a query into a sharded table fills the columns that it leaves to a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeftToSequences {
    /// Not at all: the INSERT is refused, because each shard would take the values from a sequence of its own.
    #[default]
    Refused,
    /// The server that runs the query makes the values. Only for the statement's own INSERT, not for one in a CTE.
    Made,
}

impl<'n> Analysis<'n> {
    /// An empty analysis.
    pub fn new(names: &'n Names<'n>, context: &'n PlanContext) -> Analysis<'n> {
        Analysis {
            names,
            context,
            instances: Vec::new(),
            facts: Vec::new(),
            links: Vec::new(),
            seen: StatementFindings::default(),
            explained: HashSet::new(),
            typed_uses: BTreeMap::new(),
            placeholders: Vec::new(),
            in_view: 0,
            views: Size::default(),
            depth: 0,
            rows_depth: 1,
            sharded_below: BTreeSet::new(),
            subqueries: std::collections::HashMap::new(),
            kept: Vec::new(),
            stored: BTreeMap::new(),
            looked: Rc::default(),
            sequences: LeftToSequences::Refused,
            aggregates_around: 0,
            outermost_read: usize::MAX,
            unordered_below: false,
            notes: Notes::default(),
        }
    }

    /// An empty analysis of `text`.
    pub fn of(text: &Text<'_>, names: &'n Names<'n>, context: &'n PlanContext) -> Analysis<'n> {
        Analysis {
            looked: Rc::clone(text.looked()),
            ..Analysis::new(names, context)
        }
    }

    /// Adds an instance.
    pub fn add(&mut self, instance: Instance<'n>) -> Result<usize, Refusal> {
        if self.instances.len() >= MAX_INSTANCES {
            return refuse(Reason::TooComplex);
        }
        self.instances.push(instance);
        Ok(self.instances.len() - 1)
    }

    /// Marks an identifier as understood and returns its name, folded as PostgreSQL folds it.
    pub fn ident(&mut self, ident: &Ident) -> String {
        if self.in_view == 0 {
            self.explained.insert(ident.span.start);
        }
        folded(ident)
    }

    /// Notes a call of a function.
    pub fn note(&mut self, call: Call, name: &str) {
        if call == Call::Volatile && self.depth > self.rows_depth {
            self.seen.once.get_or_insert_with(|| name.to_owned());
        }
        self.seen
            .calls
            .entry(call)
            .or_insert_with(|| name.to_owned());
    }

    /// Notes a query whose answer depends on the order of rows.
    pub fn note_unordered(&mut self) {
        self.seen.unordered = true;
        self.seen.unordered_view |= self.in_view > 0;
    }

    /// The type of a column, if a shard key can have this type.
    pub fn key_type(&self, node: Node) -> Option<KeyType> {
        self.instances[node.0].columns[node.1].key_type
    }

    /// Links two columns that are equal. A column is the end of a link only if its instance is in `scope`.
    pub fn equate(&mut self, a: Node, b: Node, scope: &[usize], by_row: bool) {
        let (Some(x), Some(y)) = (self.key_type(a), self.key_type(b)) else {
            return;
        };
        if !same_family(x, y) || self.names.catalog.compares_otherwise {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            if scope.contains(&to.0) {
                self.links.push(Link { from, to, by_row });
            }
        }
    }

    /// The columns whose conditions hold for `node` too, including `node`. If `by_row`, only links by row are followed.
    pub fn sources_of(&self, node: Node, by_row: bool) -> BTreeSet<Node> {
        let mut known = BTreeSet::from([node]);
        let mut open = vec![node];
        while let Some(at) = open.pop() {
            for link in &self.links {
                if link.to == at && (link.by_row || !by_row) && known.insert(link.from) {
                    open.push(link.from);
                }
            }
        }
        known
    }

    /// The condition that the key of an instance must meet. Its column numbers are positions in the key.
    pub fn key_condition(&self, instance: usize) -> Cond {
        match &self.instances[instance].source {
            Source::Sharded(_, keyed) if keyed.routable => self.condition(instance, &keyed.columns),
            _ => Cond::Any,
        }
    }

    /// The condition that some columns of an instance must meet. Its column numbers are positions in `columns`.
    pub fn condition(&self, instance: usize, columns: &[Option<usize>]) -> Cond {
        let position = |column: usize| columns.iter().position(|c| *c == Some(column));
        let own = self.facts.iter().filter(|(i, _)| *i == instance);
        let mut cond = own.fold(Cond::Any, |all, (_, c)| all.and(c.rename(&position)));
        for (position, column) in columns.iter().enumerate() {
            let Some(column) = column else { continue };
            for node in self.sources_of((instance, *column), false) {
                if node == (instance, *column) {
                    continue;
                }
                for (_, fact) in self.facts.iter().filter(|(i, _)| *i == node.0) {
                    cond = cond.and(fact.rename(&|c| (c == node.1).then_some(position)));
                }
            }
        }
        let certain = self.certain_params();
        cond.keep_scalars(&|scalar| match scalar {
            Scalar::Param { number, as_type: 0 } => certain(*number),
            _ => true,
        })
    }

    /// The sharded instances, in order.
    pub fn sharded(&self) -> impl Iterator<Item = (usize, &'n Relation, &Arc<Keyed>)> {
        self.instances
            .iter()
            .enumerate()
            .filter_map(|(index, instance)| match &instance.source {
                Source::Sharded(relation, keyed) => Some((index, *relation, keyed)),
                _ => None,
            })
    }

    /// Returns a function that tells whether the type of an undeclared parameter is certain. Every place of
    /// the parameter must be in `typed_uses`, and all of them with the same type: PostgreSQL takes the type
    /// from the first use, which may be `$1 = 5.5`.
    pub fn certain_params(&self) -> impl Fn(u16) -> bool + use<'_> {
        let mut types: BTreeMap<u16, Option<KeyType>> = BTreeMap::new();
        for (number, key_type) in self.typed_uses.values() {
            let entry = types.entry(*number).or_insert(Some(*key_type));
            if entry.is_some_and(|known| known != *key_type) {
                *entry = None;
            }
        }
        for (place, number) in &self.placeholders {
            if !self.typed_uses.contains_key(place) {
                types.insert(*number, None);
            }
        }
        move |number| matches!(types.get(&number), Some(Some(_)))
    }
}

/// The FROM entries that names in an expression may refer to.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The visible entries by alias.
    pub entries: Vec<Entry>,
    /// The merged columns of JOIN USING: the name, and the column that it stands for, if it stands for only one.
    pub merged: Vec<(String, Option<Node>)>,
}

/// The scope of a query without a FROM clause.
static NOTHING: Scope = Scope {
    entries: Vec::new(),
    merged: Vec::new(),
};

/// A visible FROM entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The alias, or the table's name.
    pub alias: String,
    /// The table's schema, if it has no alias.
    pub schema: Option<String>,
    /// The instance.
    pub instance: usize,
}

/// A scope and the scopes of the queries around it.
#[derive(Clone, Copy)]
pub struct Scopes<'s> {
    /// The innermost scope.
    pub scope: &'s Scope,
    /// The scopes of the queries around it.
    pub outer: Option<&'s Scopes<'s>>,
}

impl Entry {
    /// An entry without a schema.
    pub fn named(alias: &str, instance: usize) -> Entry {
        Entry {
            alias: alias.to_owned(),
            schema: None,
            instance,
        }
    }
}

impl<'s> Scopes<'s> {
    /// The scopes where there is no FROM clause: only the entries of the queries around are visible.
    pub fn around(outer: Option<&'s Scopes<'s>>) -> Scopes<'s> {
        Scopes {
            scope: &NOTHING,
            outer,
        }
    }
}

impl Analysis<'_> {
    /// The column that an identifier of one to three parts means. None if no visible entry has such a column, or if it
    /// is not certain which column is meant.
    pub fn resolve(&self, parts: &[String], scopes: &Scopes<'_>) -> Option<Node> {
        let mut level = Some(scopes);
        while let Some(scopes) = level {
            match self.resolve_here(parts, scopes.scope) {
                NameLookup::Column(node) => return node,
                NameLookup::Nothing => level = scopes.outer,
            }
        }
        None
    }

    /// Whether a name is certain to mean a column of this query, and not a column of a query around it.
    pub fn has_column(&self, parts: &[String], scopes: &Scopes<'_>) -> bool {
        matches!(
            self.resolve_here(parts, scopes.scope),
            NameLookup::Column(Some(_))
        )
    }

    fn resolve_here(&self, parts: &[String], scope: &Scope) -> NameLookup {
        let (qualifier, column): (&[String], &str) = match parts {
            [] => return NameLookup::Column(None),
            [qualifier @ .., column] => (qualifier, column),
        };
        if qualifier.is_empty()
            && let Some((_, node)) = scope.merged.iter().find(|(name, _)| name == column)
        {
            return NameLookup::Column(*node);
        }
        let meant = |entry: &&Entry| match qualifier {
            [] => true,
            [alias] => entry.alias == *alias,
            [schema, alias] => entry.alias == *alias && entry.schema.as_ref() == Some(schema),
            _ => false,
        };
        let mut found = None;
        let mut incomplete = false;
        let mut several = false;
        for entry in scope.entries.iter().filter(meant) {
            let instance = &self.instances[entry.instance];
            incomplete |= !instance.complete;
            for (position, _) in instance
                .columns
                .iter()
                .enumerate()
                .filter(|(_, c)| c.name == column)
            {
                several |= found.is_some();
                found = Some((entry.instance, position));
            }
        }
        match found {
            Some(_) if several => NameLookup::Column(None),
            Some(node) => NameLookup::Column(Some(node)),
            None if incomplete
                || !qualifier.is_empty() && scope.entries.iter().any(|e| meant(&e)) =>
            {
                NameLookup::Column(None)
            }
            None => NameLookup::Nothing,
        }
    }
}

enum NameLookup {
    Column(Option<Node>),
    Nothing,
}
