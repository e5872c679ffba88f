//! The relations of a statement, what is known of their columns, and how
//! knowledge travels from one to another.
//!
//! Every entry of every FROM clause is an instance. A fact is a necessary
//! condition on one instance's columns. A link says that the values of one
//! column that matter are among those of another that matter. From both, the
//! condition on each sharded instance's key follows (`key_condition`).
//!
//! Why this is sound: rows outside a condition are taken away one instance at
//! a time, and each step leaves the statement's result as it was, given the
//! steps before. `query` only records facts and links for which that holds.

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
use super::refuse::{Reason, Refusal, refuse};
use super::slots::{Looked, Text};

/// More FROM entries than this, inlined views and CTEs included, are refused.
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
    /// A table of the home shard, a temporary table, a catalog.
    Home(String),
    /// A subquery, a view, a CTE; its tables are instances of their own.
    Derived,
    /// A function, VALUES: no table.
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
    /// Its type, if it can be a key.
    pub key_type: Option<KeyType>,
}

/// The values of `to` that matter are among those of `from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The column that is known.
    pub from: Node,
    /// The column that follows.
    pub to: Node,
    /// Whether both are equal within each joined row, not only as sets.
    pub by_row: bool,
}

/// Which rows FOR UPDATE and the like lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Locks {
    /// None.
    #[default]
    No,
    /// Rows of the outermost query that each lie on one shard: what locks them there locks them.
    Apart,
    /// Documents, of the outermost query: there is nothing that another one could be locked out by.
    Documents,
    /// Rows of one sharded table, of one query inside of the statement.
    Within,
    /// Others, of which the shards may have copies, or of a query inside of another.
    Otherwise,
}

/// What else the statement does.
#[derive(Debug, Clone, Default)]
pub struct StatementFindings {
    /// The calls, with one example of each sort.
    pub calls: BTreeMap<Call, String>,
    /// A function in a subquery that gives another value on each call: PostgreSQL may call it once for all rows.
    pub once: Option<String>,
    /// FOR UPDATE and the like.
    pub locks: Locks,
    /// It locks rows of a reference table as who writes them does, and waits for them.
    pub locks_copies: bool,
    /// A data-modifying CTE.
    pub writes: bool,
    /// One that writes a reference table, of which each shard has a copy.
    pub copies: bool,
    /// A catalog of PostgreSQL.
    pub catalogs: bool,
    /// An unlogged or foreign table, which replicas do not have.
    pub not_on_replicas: bool,
    /// A view, whose text may call what the statement does not show.
    pub views: bool,
    /// Names that neither the catalog nor the map knows.
    pub unknown: BTreeSet<String>,
    /// The refusal if the statement runs on several shards: it fires a trigger that is fired once for all rows.
    pub fires_once: Option<Refusal>,
}

impl StatementFindings {
    /// What was seen of a part of the statement.
    pub fn add(&mut self, part: StatementFindings) {
        for (call, name) in part.calls {
            self.calls.entry(call).or_insert(name);
        }
        self.once = self.once.take().or(part.once);
        self.locks = self.locks.max(part.locks);
        self.writes |= part.writes;
        self.copies |= part.copies;
        self.locks_copies |= part.locks_copies;
        self.catalogs |= part.catalogs;
        self.not_on_replicas |= part.not_on_replicas;
        self.views |= part.views;
        self.unknown.extend(part.unknown);
        self.fires_once = self.fires_once.take().or(part.fires_once);
    }
}

/// The analysis of one statement.
pub struct Analysis<'n> {
    /// Names under one catalog and map.
    pub names: &'n Names<'n>,
    /// The session.
    pub context: &'n PlanContext,
    /// All FROM entries.
    pub instances: Vec<Instance<'n>>,
    /// Necessary conditions on an instance's columns.
    pub facts: Vec<(usize, Cond)>,
    /// How knowledge travels.
    pub links: Vec<Link>,
    /// Effects.
    pub seen: StatementFindings,
    /// Where identifiers stand that were understood.
    pub explained: HashSet<Location>,
    /// Uses of undeclared parameters whose type is certain: by place, the number and the type.
    pub typed_uses: BTreeMap<Location, (u16, KeyType)>,
    /// All places of parameters in the text.
    pub placeholders: Vec<(Location, u16)>,
    /// Whether the text that is walked is the client's (views are not).
    pub in_view: u32,
    /// How many levels of queries are open.
    pub depth: u32,
    /// How deep the query is whose rows are those of the statement; 0 where they are a table's, as in UPDATE.
    pub rows_depth: u32,
    /// Derived instances over sharded tables.
    pub sharded_below: BTreeSet<usize>,
    /// The instance of each subquery in an expression, by its place in memory while its level is walked.
    pub subqueries: std::collections::HashMap<usize, usize>,
    /// New values for key columns: the instance, the position in the key, the value.
    pub kept: Vec<(usize, usize, Scalar)>,
    /// Instances that stand for rows to be stored.
    pub stored: BTreeMap<usize, MaxChars>,
    /// How many aggregates were found that may be of a query around the one in which they stand.
    pub aggregates_around: usize,
    /// What was asked of literals that are not part of the planning.
    pub looked: Rc<Looked>,
    /// What becomes of columns that an INSERT of a query leaves to a sequence.
    pub sequences: LeftToSequences,
    /// For the case that the rows are gathered.
    pub notes: Notes<'n>,
}

/// What becomes of the columns of a sharded table that an INSERT of a query leaves to a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeftToSequences {
    /// It is refused: each shard would take them from a sequence of its own.
    #[default]
    Refused,
    /// The statement's own are made where the query runs.
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
            depth: 0,
            rows_depth: 1,
            sharded_below: BTreeSet::new(),
            subqueries: std::collections::HashMap::new(),
            kept: Vec::new(),
            stored: BTreeMap::new(),
            looked: Rc::default(),
            sequences: LeftToSequences::Refused,
            aggregates_around: 0,
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

    /// Marks an identifier as understood and gives its folded value.
    pub fn ident(&mut self, ident: &Ident) -> String {
        if self.in_view == 0 {
            self.explained.insert(ident.span.start);
        }
        folded(ident)
    }

    /// Notes a call.
    pub fn note(&mut self, call: Call, name: &str) {
        if call == Call::Volatile && self.depth > self.rows_depth {
            self.seen.once.get_or_insert_with(|| name.to_owned());
        }
        self.seen
            .calls
            .entry(call)
            .or_insert_with(|| name.to_owned());
    }

    /// The type of a column, if it can be a key.
    pub fn key_type(&self, node: Node) -> Option<KeyType> {
        self.instances[node.0].columns[node.1].key_type
    }

    /// Links two equal columns, towards those of the instances in `scope` only.
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

    /// The nodes whose conditions hold for `node` too, itself included.
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

    /// What must hold of the key of a sharded instance; columns are positions in the key.
    pub fn key_condition(&self, instance: usize) -> Cond {
        match &self.instances[instance].source {
            Source::Sharded(_, keyed) if keyed.routable => self.condition(instance, &keyed.columns),
            _ => Cond::Any,
        }
    }

    /// What must hold of some columns of an instance; the condition counts them from 0.
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

    /// Whether an undeclared parameter is used only where PostgreSQL gives it a type of one family.
    /// The places of all placeholders are compared with those that were understood, because
    /// PostgreSQL takes the type from the first use, which may be `$1 = 5.5`.
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
    /// Columns of JOIN USING: the name, and the column it stands for if it is only one.
    pub merged: Vec<(String, Option<Node>)>,
}

/// What is visible without a FROM clause.
static NOTHING: Scope = Scope {
    entries: Vec::new(),
    merged: Vec::new(),
};

/// A visible FROM entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The alias, or the table's name.
    pub alias: String,
    /// The table's schema, when it has no alias.
    pub schema: Option<String>,
    /// The instance.
    pub instance: usize,
}

/// A scope and those around it.
#[derive(Clone, Copy)]
pub struct Scopes<'s> {
    /// The innermost.
    pub scope: &'s Scope,
    /// The next one outwards.
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
    /// What is visible beside no FROM clause: that of the queries around.
    pub fn around(outer: Option<&'s Scopes<'s>>) -> Scopes<'s> {
        Scopes {
            scope: &NOTHING,
            outer,
        }
    }
}

impl Analysis<'_> {
    /// The column that an identifier of one to three parts means; None if that is not certain.
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

    /// Whether a name is certain to be a column of this query, and not of one around it.
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
