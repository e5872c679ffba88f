//! What the names in a statement mean: which relations are sharded, reference
//! or at home, and which words of a text could lead to a sharded or reference table.
//!
//! Made once per pair of catalog and map, used by every plan. The word test is
//! deliberately blind to SQL: it looks at the raw text, strings and comments
//! included, so that no difference between two lexers can hide a name from it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use foldhash::HashSet;
use mothership_shardmap::{Declared, KeyType, Placement, ShardMap, ShardSet, Sharded};
use sqlparser::ast::Ident;

use mothership_catalog::types::{may_name, without_quotes, words};
use mothership_catalog::{
    Catalog, Function, FunctionKind, Name, Relation, RelationKind, Volatility,
};
use mothership_documents::Collection;
use mothership_shardmap::TablePattern;
use mothership_sql::keywords;
use mothership_sql::lexer::{Kind, Lexer};

use super::apart::{Apart, Leading, Named, is_plain};
use super::context::PlanContext;
use super::functions::{is_of_one_server, is_opaque};
use super::left::{Left, left};
use super::lengths::ViewLengths;
use super::reached::{TableLinks, is_named};
use super::refuse::Reason;
use super::touches::Provable;
use super::unnamed::ImplicitCalls;

/// PostgreSQL cuts identifiers after this many bytes.
pub(super) const MAX_NAME: usize = 63;

/// A sharded table with its key found among its columns.
#[derive(Debug, Clone)]
pub struct Keyed {
    /// The map's description.
    pub sharded: Arc<Sharded>,
    /// For each key column, its position in the relation; None if the catalog does not have it.
    pub columns: Vec<Option<usize>>,
    /// Whether conditions on the key may be trusted: types as declared, collations deterministic.
    pub routable: bool,
}

impl Keyed {
    /// The position in the key of a column of the relation.
    pub fn position(&self, column: usize) -> Option<usize> {
        self.columns.iter().position(|c| *c == Some(column))
    }

    /// The types of the key's columns.
    pub fn types(&self) -> Vec<KeyType> {
        self.sharded.columns.iter().map(|(_, t)| *t).collect()
    }
}

/// Where a relation lives.
#[derive(Debug, Clone)]
pub enum Place {
    /// Divided by key.
    Sharded(Arc<Keyed>),
    /// A copy everywhere.
    Reference,
    /// On the home shard.
    Home,
}

impl Place {
    /// The same as the map says it.
    pub fn placement(&self) -> Placement {
        match self {
            Place::Home => Placement::Home,
            Place::Reference => Placement::Reference,
            Place::Sharded(keyed) => Placement::Sharded(Arc::clone(&keyed.sharded)),
        }
    }
}

/// What a name in a FROM clause turned out to be.
#[derive(Debug, Clone)]
pub enum Resolved<'a> {
    /// A relation of the catalog.
    Relation(&'a Relation, Place),
    /// A catalog of PostgreSQL.
    System,
    /// A temporary table of the session.
    Temporary,
    /// Declared in the map, absent from the catalog.
    Missing(Name),
    /// On all shards, and nothing tells where its rows are.
    KeyGone(Name, Reason),
    /// What is behind it could not be read.
    Unread(Name),
    /// Neither declared nor in the catalog: PostgreSQL will say that it does not exist.
    Unknown(String),
    /// It could be several things.
    Unclear,
}

/// How far a user function may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// No table at all.
    Nothing,
    /// Tables of the home shard only.
    Home,
    /// Sharded or reference tables, or what cannot be told.
    Anything,
}

/// Whether a definition may call what runs SQL that stands in texts.
pub(super) fn runs_texts(definition: &str) -> bool {
    words(&definition.to_ascii_lowercase()).any(is_opaque)
}

/// Whether a word of a text is the BY of ORDER BY, GROUP BY or PARTITION BY. Both are written in one line with nothing but
/// blanks between: so they are two tokens that follow each other, or stand in one string or comment, wherever those begin
/// and end. Behind these words there is no place for a table's name. `word` is a part of `text`.
fn is_of_clause(text: &str, word: &str) -> bool {
    let begins = word.as_ptr().addr() - text.as_ptr().addr();
    let before = text[..begins].trim_end_matches([' ', '\t']);
    let is_apart = before.len() < begins;
    let last = words(before).next_back();
    let clause = last.filter(|last| before.ends_with(last));
    word == "by" && is_apart && matches!(clause, Some("order" | "group" | "partition"))
}

/// The names of one catalog under one map.
pub struct Names<'a> {
    /// The catalog.
    pub catalog: &'a Catalog,
    /// The map.
    pub map: &'a ShardMap,
    /// Sharded tables that are declared and not created, and whose key types nobody knows yet.
    pending: &'a [TablePattern],
    places: HashMap<Name, Place>,
    /// Tables on all shards of which nothing tells where their rows are, and why.
    key_gone: HashMap<Name, Reason>,
    /// Words that may lead to a declared table, folded to lower case.
    touching: HashSet<String>,
    /// The same for names that are not single words.
    touching_odd: Vec<String>,
    pub(super) reach: HashMap<String, Reach>,
    /// Functions by their own names: with their schemas there may be thousands.
    pub(super) named: HashMap<&'a str, Vec<(&'a Name, &'a [Function])>>,
    /// How far they reach, by their names with their schemas.
    pub(super) reach_in: HashMap<Name, Reach>,
    /// What unqualified names do not mean.
    pub(super) apart: Apart,
    leading: OnceLock<Leading>,
    pub(super) links: TableLinks<'a>,
    /// Relations of which a write may reach what is not at home, by triggers for example.
    pub(super) far: BTreeMap<Name, Reason>,
    /// What of them is proven of the tables and names.
    pub(super) parts: Provable,
    anything_declared: bool,
    /// The names of all relations, folded to lower case.
    relations: HashSet<String>,
    /// What the definitions of views add to the texts that name them.
    views: ViewLengths,
    /// What of it reaches tables without any name in a statement.
    unnamed: ImplicitCalls,
    /// Tables whose rows are documents.
    pub(super) documents: HashMap<Name, Arc<Collection>>,
    /// Names of views that may read them, in lower case.
    pub(super) over_documents: BTreeSet<String>,
    /// An UPDATE may lead rows to other shards.
    pub moves_rows: bool,
}

impl<'a> Names<'a> {
    /// Looks at every relation, view and function once. A name may mean what is called so in any schema.
    pub fn new(catalog: &'a Catalog, map: &'a ShardMap, pending: &'a [TablePattern]) -> Names<'a> {
        Names::with(catalog, map, pending, Apart::default(), HashMap::new())
    }

    /// The same names where unqualified ones mean no function or domain in these schemas.
    pub fn without(&self, schemas: &BTreeSet<String>) -> Names<'a> {
        let apart = Apart::new(schemas, self);
        let known = self.reach_in.iter();
        let known = known.filter(|(name, _)| schemas.contains(&name.schema));
        let known = known.map(|(name, reach)| (name.clone(), *reach)).collect();
        Names::with(self.catalog, self.map, self.pending, apart, known)
    }

    fn with(
        catalog: &'a Catalog,
        map: &'a ShardMap,
        pending: &'a [TablePattern],
        apart: Apart,
        reach_in: HashMap<Name, Reach>,
    ) -> Names<'a> {
        let mut names = Names {
            catalog,
            map,
            pending,
            places: HashMap::new(),
            key_gone: HashMap::new(),
            touching: HashSet::default(),
            touching_odd: Vec::new(),
            reach: HashMap::new(),
            named: HashMap::new(),
            reach_in,
            apart,
            leading: OnceLock::new(),
            links: TableLinks::of(catalog),
            far: BTreeMap::new(),
            parts: Provable::default(),
            anything_declared: false,
            relations: HashSet::default(),
            views: ViewLengths::of(catalog),
            unnamed: ImplicitCalls::default(),
            documents: HashMap::new(),
            over_documents: BTreeSet::new(),
            moves_rows: false,
        };
        for (name, functions) in &catalog.functions {
            let of_name = names.named.entry(&name.name).or_default();
            of_name.push((name, functions));
        }
        let folded = catalog.relations.keys();
        let folded = folded.filter(|name| names.apart.may_mean(name));
        names.relations = folded.map(|name| name.name.to_ascii_lowercase()).collect();
        let left = left(catalog, map, |root| placement_of(root, catalog, map));
        for relation in catalog.relations.values() {
            let place = place_of(relation, catalog, map, &left);
            let key_gone = key_gone(relation, &place, catalog, map, &left);
            if let Some(reason) = key_gone {
                names.key_gone.insert(relation.name.clone(), reason);
            }
            if key_gone.is_some() || relation.unread || !matches!(place, Place::Home) {
                names.touch_if_meant(&relation.name);
            }
            names.places.insert(relation.name.clone(), place);
        }
        for (schema, name, placement) in map.tables() {
            if !matches!(placement, Placement::Home) {
                names.touch_if_meant(&Name::new(schema, name));
            }
        }
        for pattern in pending.iter().filter(|pattern| pattern.is_exact()) {
            names.touch(&pattern.table);
        }
        names.anything_declared = !names.touching.is_empty()
            || !names.touching_odd.is_empty()
            || names.apart.is_given()
            || map.patterns().next().is_some()
            || !pending.is_empty()
            || matches!(map.declared("mothership", "undeclared"), Declared::Auto);
        if names.anything_declared {
            names.spread();
            names.unnamed = ImplicitCalls::of(&names);
            names.parts = Provable::new(catalog, &names.places);
        }
        names
    }

    /// Whether a text has more than so many bytes, together with the definitions of the views that it may name.
    pub fn is_longer_with_views(&self, sql: &str, most: usize) -> bool {
        self.views.exceed(sql, most)
    }

    /// What unqualified names do not mean is known from the names that they may mean in any schema.
    pub(super) fn touch_if_meant(&mut self, name: &Name) -> bool {
        self.apart.may_mean(name) && self.touch(&name.name)
    }

    pub(super) fn touch(&mut self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        if words(&name).next() == Some(name.as_str()) {
            self.touching.insert(name)
        } else {
            // A text has its quotes doubled, perhaps twice.
            let name = without_quotes(&name).into_owned();
            let new = !self.touching_odd.contains(&name);
            if new {
                self.touching_odd.push(name);
            }
            new
        }
    }

    /// Whether code that runs on the home shard may touch what is not there: it names it, runs SQL that it puts together,
    /// or writes where triggers do so.
    pub fn code_may_leave_home(&self, code: &str) -> bool {
        if !self.anything_declared() {
            return false;
        }
        let lower = code.to_ascii_lowercase();
        let is_dynamic = || words(&lower).any(|w| w == "execute" || is_opaque(w));
        let is_far = || is_writing(code) && self.far_named(code).is_some();
        self.mentions(code) || is_dynamic() || is_far() || self.changes_view(code)
    }

    /// Whether code may define a view that all shards have and that names no declared table any longer: it would change
    /// it on one shard.
    pub(super) fn changes_view(&self, code: &str) -> bool {
        let lower = code.to_ascii_lowercase();
        let defines = |word: &str| matches!(word, "view" | "rule" | "grant" | "revoke");
        let is_view = |name: &&Name| {
            let relation = self.catalog.relation(name);
            relation.is_some_and(|relation| relation.kind == RelationKind::View)
        };
        words(&lower).any(defines)
            && self
                .catalog
                .everywhere
                .iter()
                .filter(is_view)
                .any(|view| is_named(&lower, &view.name))
    }

    pub(super) fn function_reach(&self, function: &Function) -> Reach {
        if function.kind == FunctionKind::Aggregate {
            let called = function.body.lines();
            let reaches = called.filter_map(|name| self.reach.get(name).copied());
            return reaches.max().unwrap_or(Reach::Nothing);
        }
        if !function.is_readable() {
            let harmless = function.volatility != Volatility::Volatile
                || matches!(function.extension.as_deref(), Some(name) if !RUNS_SQL.contains(&name));
            return if harmless {
                Reach::Nothing
            } else {
                Reach::Anything
            };
        }
        let body = function.body.to_ascii_lowercase();
        let named = self.apart.named_in(&body);
        let any_relation = |word: &str| {
            self.relations.contains(word)
                || self.reach.get(word).is_some_and(|r| *r > Reach::Nothing)
                || named.reach(word) > Reach::Nothing
        };
        let names_any = || self.code_mentions(&body) || words(&body).any(any_relation);
        let of_one_server = words(&body).any(is_of_one_server) || notifies(&function.body);
        // An immutable function must not read tables; PostgreSQL folds it on that promise, and does not check it. What it
        // calls may write all the same.
        let reads = || names_relations(&function.body) && names_any();
        if function.volatility == Volatility::Immutable
            && !(of_one_server || function.is_dynamic() || reads())
            && self.code_reach(&function.body) == Reach::Nothing
        {
            return Reach::Nothing;
        }
        // What reads only fires nothing.
        let writes = || function.volatility == Volatility::Volatile && is_writing(&function.body);
        let is_far = || self.far_named(&function.body).is_some() && writes();
        if function.is_dynamic() || self.code_mentions(&function.body) || is_far() {
            return Reach::Anything;
        }
        if of_one_server || words(&body).any(any_relation) {
            Reach::Home
        } else {
            Reach::Nothing
        }
    }

    /// Whether an expression of a statement may run code that reaches tables, and that no name in it leads to. Without a
    /// context it is code as PostgreSQL prints it.
    pub fn calls_unnamed(&self, sql: &str, context: Option<&PlanContext>) -> bool {
        self.unnamed.may_be_used_by(sql, context)
    }

    /// How far the functions may reach that any word of a statement may name: one that makes an operator, a cast or an
    /// event trigger of a function calls it by its bare name.
    pub fn named_reach(&self, sql: &str) -> Reach {
        let lower = sql.to_ascii_lowercase();
        let named = self.apart.named_in(&lower);
        let reach = |word: &str| {
            let meant = self.reach.get(word).copied();
            named.reach(word).max(meant.unwrap_or(Reach::Nothing))
        };
        let reaches = words(&lower).map(reach);
        let odd = self.odd_reach().filter(|(name, _)| may_name(&lower, name));
        let odd = odd.map(|(_, reach)| reach);
        reaches.chain(odd).max().unwrap_or(Reach::Nothing)
    }

    /// Whether any table is sharded or a reference, or might become so.
    pub fn anything_declared(&self) -> bool {
        self.anything_declared
    }

    /// Whether there are names that `mentions` does not find word by word.
    pub fn has_odd(&self) -> bool {
        !self.touching_odd.is_empty()
    }

    /// Whether the text has a word that could lead to a declared table.
    pub fn mentions(&self, text: &str) -> bool {
        self.mentions_known(text)
            || self.anything_declared && {
                let lower = keywords::lower(text);
                let named = self.apart.named_in(&lower);
                words(&lower).any(|word| self.matches_pattern(word, &named))
            }
    }

    /// The same of tables that are in the catalog or declared by their own names: for a text that can only name what is
    /// there, or whose names were resolved.
    pub fn mentions_known(&self, text: &str) -> bool {
        if !self.anything_declared {
            return false;
        }
        let lower = keywords::lower(text);
        let leads = |word: &str| {
            word.len() > MAX_NAME || self.touching.contains(word) && !is_of_clause(&lower, word)
        };
        lower.contains("u&\"")
            || words(&lower).any(leads)
            || self.apart.is_mentioned(&lower)
            || self.has_odd() && {
                let unquoted = without_quotes(&lower);
                let mut odd = self.touching_odd.iter();
                odd.any(|name| unquoted.contains(name.as_str()))
            }
    }

    /// The same of the code of a function. What it does not make itself is there when it runs, so it was in the catalog.
    fn code_mentions(&self, code: &str) -> bool {
        let makes = || {
            let lower = keywords::lower(code);
            words(&lower).any(|word| matches!(word, "create" | "alter" | "into"))
        };
        self.mentions_known(code) || makes() && self.mentions(code)
    }

    fn matches_pattern(&self, word: &str, named: &Named<'_>) -> bool {
        let is_meant = |schema: &&str| self.apart.may_be_in(schema) || named.has(schema);
        let schemas = || {
            let own = self.catalog.schemas.iter().map(String::as_str);
            std::iter::once("public").chain(own.filter(is_meant))
        };
        // A pattern on tables alone is what a word can match; the schema is left open.
        self.pending.iter().any(|one| {
            // The word was folded to lower case, the pattern was not.
            let table = one.table.to_ascii_lowercase();
            let schema = one.schema.clone();
            let folded = TablePattern { schema, table };
            schemas().any(|schema| folded.matches(schema, word))
        }) || self.map.patterns().any(|(pattern, placement)| {
            !matches!(placement, Placement::Home)
                && schemas().any(|schema| pattern.matches(schema, word))
        })
    }

    /// How far the user functions may reach that this unqualified name may mean; `None` if there is none.
    pub fn reach(&self, function: &str) -> Option<Reach> {
        let known = self.reach.get(function).copied();
        known.or_else(|| {
            let mut meant = self.functions_named(None, function);
            meant.next().map(|_| Reach::Nothing)
        })
    }

    /// The same of a name with the schema before it, if it has one.
    pub fn reach_of(&self, schema: Option<&str>, function: &str) -> Option<Reach> {
        let name = schema.map(|schema| Name::new(schema, function));
        match name.filter(|name| self.catalog.functions.contains_key(name)) {
            Some(name) => Some(self.reach_in.get(&name).copied().unwrap_or(Reach::Nothing)),
            None => self.reach(function),
        }
    }

    /// The user functions that a name may mean. If no schema has it that stands before it, it is taken as unqualified.
    pub fn functions_named(
        &self,
        schema: Option<&str>,
        function: &str,
    ) -> impl Iterator<Item = &'a Function> {
        let functions = &self.catalog.functions;
        let exact = schema.and_then(|schema| functions.get(&Name::new(schema, function)));
        let all = self.named.get(function).into_iter().flatten();
        let all = all.filter(move |(name, _)| exact.is_none() && self.apart.may_mean(name));
        let all = all.flat_map(|(_, functions)| *functions);
        exact.into_iter().flatten().chain(all)
    }

    /// The relations in a schema, and the functions that may reach one, by their own names, and how far they reach.
    pub(super) fn reaching_in(&self, schema: &str) -> impl Iterator<Item = (&str, Reach)> {
        let functions = self.reach_in.iter();
        let functions = functions.map(|(name, reach)| (name, *reach));
        let relations = self.catalog.relations.keys();
        let relations = relations.map(|name| match self.touching.contains(&name.name) {
            true => (name, Reach::Anything),
            false => (name, Reach::Home),
        });
        let of_schema = functions.chain(relations);
        let of_schema = of_schema.filter(move |(name, _)| name.schema == schema);
        let of_schema = of_schema.map(|(name, reach)| (name.name.as_str(), reach));
        let declared = self.map.tables().filter(move |(of, _, _)| *of == schema);
        of_schema.chain(declared.map(|(_, name, _)| (name, Reach::Anything)))
    }

    /// How far functions may reach, by their own names.
    pub(super) fn all_reach(&self) -> &HashMap<String, Reach> {
        &self.reach
    }

    /// How far functions of this name may reach, in any schema.
    pub fn reach_of_any(&self, function: &str) -> Reach {
        let meant = || self.reach(function).unwrap_or(Reach::Nothing);
        self.apart.reach_of_any(function).unwrap_or_else(meant)
    }

    /// What unqualified names do not mean.
    pub(super) fn apart(&self) -> &Apart {
        &self.apart
    }

    /// What leads a statement to other names than those of its search path.
    pub(super) fn leading(&self) -> &Leading {
        self.leading
            .get_or_init(|| Leading::of(self.catalog, self.map))
    }

    /// How far those functions may reach that are not named by one word in lower case; the names are in lower case.
    pub(super) fn odd_reach(&self) -> impl Iterator<Item = (String, Reach)> {
        let odd = self.reach.iter().filter(move |(name, _)| !is_plain(name));
        odd.map(|(name, reach)| (name.to_ascii_lowercase(), *reach))
    }

    /// Where a relation of the catalog lives.
    pub fn place(&self, name: &Name) -> Place {
        self.places.get(name).cloned().unwrap_or(Place::Home)
    }

    /// Where a table that is there would live by another name.
    pub fn place_renamed(&self, relation: &Relation, name: &Name) -> Placement {
        let place = self.place(&relation.name);
        match self.map.declared(&name.schema, &name.name) {
            // A part lives with the whole, whatever it is called.
            _ if relation.parent.is_some() => place.placement(),
            Declared::Placement(placement) => placement.clone(),
            // What it was a part of, its columns tell.
            Declared::Home if self.is_left(relation) => place.placement(),
            Declared::Home => Placement::Home,
            Declared::Auto if matches!(place, Place::Home) => Placement::Home,
            Declared::Auto => self
                .map
                .auto_placement(&key_columns(relation, self.catalog)),
        }
    }

    /// Whether a table lives as one does of which it was a part.
    fn is_left(&self, relation: &Relation) -> bool {
        let Name { schema, name } = &relation.name;
        let is_undeclared = matches!(self.map.declared(schema, name), Declared::Home);
        is_undeclared && !matches!(self.place(&relation.name), Place::Home)
    }

    /// Whether a relation or an index in any schema has this name that other shards than the home shard do not have.
    pub fn is_used_at_home(&self, name: &str) -> bool {
        let is_at_home = |relation: &Name| matches!(self.place(relation), Place::Home);
        let mut relations = self.catalog.relations.keys();
        let mut indexes = self.catalog.indexes.iter();
        relations.any(|relation| relation.name == name && is_at_home(relation))
            || indexes.any(|(index, table)| index.name == name && is_at_home(table))
    }

    /// Whether the home shard has a relation that others do not have.
    pub fn is_only_at_home(&self, name: &Name) -> bool {
        let documents = |shard| self.map.has_documents(&ShardSet::one(shard));
        let shards = self.map.all();
        let others = shards.iter().filter(|shard| !documents(*shard)).count() > 1;
        let is_at_home = matches!(self.place(name), Place::Home);
        others && is_at_home && !self.catalog.everywhere.contains(name)
    }

    /// Whether a relation or an index on the home shard has this name that others do not have.
    pub fn is_taken_at_home(&self, name: &Name) -> bool {
        let indexed = self.catalog.indexes.get(name);
        let relation = self.catalog.relation(name).map(|relation| &relation.name);
        let mut taken = relation.into_iter().chain(indexed);
        taken.any(|relation| self.is_only_at_home(relation))
    }

    /// Whether a constraint of a table that others do not have is called so, in the schema of the table.
    pub fn is_constraint_at_home(&self, name: &Name) -> bool {
        let mut tables = self.tables_with(name);
        tables.any(|table| self.is_only_at_home(&table.name))
    }

    /// Whether anything is called so that keeps PostgreSQL from choosing the name.
    pub fn is_taken(&self, name: &Name) -> bool {
        self.catalog.relations.contains_key(name)
            || self.catalog.indexes.contains_key(name)
            || self.catalog.types.contains_key(name)
            || self.tables_with(name).next().is_some()
    }

    /// The names in a schema of relations, indexes and constraints that others do not have.
    pub fn all_at_home(&self, schema: &str) -> impl Iterator<Item = &'a str> {
        let catalog = self.catalog;
        let indexes = catalog.indexes.iter();
        let indexes = indexes.map(|(index, table)| (index.name.as_str(), table));
        let relations = catalog.relations.values();
        let relations = relations.flat_map(|relation| {
            let own = std::iter::once(relation.name.name.as_str());
            own.chain(constraints(relation))
                .map(|name| (name, &relation.name))
        });
        let all = relations.chain(indexes);
        all.filter(move |(_, table)| table.schema == schema && self.is_only_at_home(table))
            .map(|(name, _)| name)
    }

    fn tables_with(&self, constraint: &Name) -> impl Iterator<Item = &'a Relation> {
        let tables = self.catalog.relations.values();
        tables.filter(move |table| {
            table.name.schema == constraint.schema
                && constraints(table).any(|name| name == constraint.name)
        })
    }

    /// The partitions and children of a table.
    pub fn parts_of(&self, table: &Name) -> &[&'a Relation] {
        self.links.children_of(table)
    }

    /// Where a table is declared to live that is taken out of another one; `None` if nothing declares it, so that it
    /// stays where it is.
    pub fn place_detached(&self, relation: &Relation) -> Option<Placement> {
        match self
            .map
            .declared(&relation.name.schema, &relation.name.name)
        {
            Declared::Home | Declared::Auto => None,
            Declared::Placement(placement) => Some(placement.clone()),
        }
    }

    /// Where a table would live that the catalog does not have yet, given its primary key.
    pub fn future_place(&self, name: &Name, primary_key: &[(String, KeyType)]) -> Placement {
        self.map.placement(&name.schema, &name.name, primary_key)
    }

    /// What a table name of one or two parts means.
    pub fn resolve(&self, parts: &[String], context: &PlanContext) -> Resolved<'a> {
        match parts {
            [name] => self.resolve_unqualified(name, context),
            [schema, name] => self.resolve_qualified(schema, name, context),
            // database.schema.table: PostgreSQL accepts its own database's name only.
            [_, schema, name] => self.resolve_qualified(schema, name, context),
            _ => Resolved::Unclear,
        }
    }

    fn resolve_unqualified(&self, name: &str, context: &PlanContext) -> Resolved<'a> {
        let found = self.catalog.find(name, &context.search_path);
        if found.is_some() && context.temporary.may_hide(name) {
            return Resolved::Unclear;
        }
        let system = name.starts_with("pg_");
        match found {
            Some(relation) if system && !matches!(self.place(&relation.name), Place::Home) => {
                Resolved::Unclear
            }
            Some(relation) => self.found(relation),
            None if system => Resolved::System,
            None if context.temporary.has(name) => Resolved::Temporary,
            // Who does not know the path does not know that the name is not in it.
            None if context.temporary == crate::Temporary::Unclear && self.mentions(name) => {
                Resolved::Unclear
            }
            None => match context
                .search_path
                .iter()
                .find_map(|s| self.declared(s, name))
            {
                Some(missing) => Resolved::Missing(missing),
                None => Resolved::Unknown(name.to_owned()),
            },
        }
    }

    fn resolve_qualified(&self, schema: &str, name: &str, context: &PlanContext) -> Resolved<'a> {
        if mothership_catalog::is_system_schema(schema) {
            return Resolved::System;
        }
        if schema.starts_with("pg_temp") {
            return match context.temporary.may_hide(name) {
                true => Resolved::Temporary,
                false => Resolved::Unknown(name.to_owned()),
            };
        }
        let qualified = Name::new(schema, name);
        match self.catalog.relation(&qualified) {
            Some(relation) => self.found(relation),
            None => match self.declared(schema, name) {
                Some(missing) => Resolved::Missing(missing),
                None => Resolved::Unknown(qualified.to_string()),
            },
        }
    }

    fn found(&self, relation: &'a Relation) -> Resolved<'a> {
        match self.key_gone.get(&relation.name) {
            Some(reason) => Resolved::KeyGone(relation.name.clone(), *reason),
            None if relation.unread => Resolved::Unread(relation.name.clone()),
            None => Resolved::Relation(relation, self.place(&relation.name)),
        }
    }

    /// Whether a table is divided by its primary key, because nobody declares another.
    pub fn is_by_primary_key(&self, relation: &Relation) -> bool {
        let root = root_of(relation, self.catalog);
        is_by_default(root, self.map) && matches!(self.place(&root.name), Place::Sharded(_))
    }

    /// Whether nothing is declared for a table of this name but that primary keys divide what is new.
    pub fn is_by_default(&self, name: &Name) -> bool {
        matches!(self.map.declared(&name.schema, &name.name), Declared::Auto)
    }

    fn declared(&self, schema: &str, name: &str) -> Option<Name> {
        match self.map.declared(schema, name) {
            Declared::Placement(Placement::Home) | Declared::Home | Declared::Auto => self
                .is_pending(schema, name)
                .then(|| Name::new(schema, name)),
            Declared::Placement(_) => Some(Name::new(schema, name)),
        }
    }

    /// Whether a table that does not exist is declared as sharded by a key of unknown type, so that its place is not
    /// known before the statement that creates it.
    pub fn is_pending(&self, schema: &str, name: &str) -> bool {
        self.pending.iter().any(|one| one.matches(schema, name))
            && !self.map.tables().any(|(s, n, _)| s == schema && n == name)
            && !self
                .catalog
                .relations
                .contains_key(&Name::new(schema, name))
    }
}

/// The names of a table's constraints, and of its unique indexes.
fn constraints(table: &Relation) -> impl Iterator<Item = &str> {
    let keys = table.keys.iter().chain(&table.exclusions);
    let keys = keys.map(|key| key.name.as_str());
    let foreign = table.foreign_keys.iter().map(|key| key.name.as_str());
    let checks = table.checks.iter().map(|check| check.name.as_str());
    keys.chain(foreign).chain(checks)
}

/// Whether a body has a word that begins a write.
fn is_writing(body: &str) -> bool {
    words(&body.to_ascii_lowercase())
        .any(|word| matches!(word, "insert" | "update" | "delete" | "merge" | "truncate"))
}

/// Whether a body may have a statement about notifications, which a server keeps for itself.
fn notifies(body: &str) -> bool {
    const WORDS: [&str; 3] = ["notify", "listen", "unlisten"];
    let tokens = Lexer::new(body.as_bytes(), true).map(|token| {
        let text = body.get(token.start..token.end).unwrap_or_default();
        (token.kind, text.to_ascii_lowercase())
    });
    let mut before = Kind::Semicolon;
    tokens.into_iter().any(|(kind, text)| {
        let begins = matches!(
            std::mem::replace(&mut before, kind),
            Kind::Semicolon | Kind::Word
        );
        begins && kind == Kind::Word && WORDS.contains(&text.as_str())
    })
}

/// Whether a body has a word behind which the grammar has a relation, or a write of one. A function that only computes
/// may have a parameter that is called like a table.
fn names_relations(body: &str) -> bool {
    let reads = |word: &str| matches!(word, "from" | "join" | "table" | "copy" | "using");
    words(&body.to_ascii_lowercase()).any(reads) || is_writing(body)
}

/// Extensions whose functions run SQL that stands in their arguments, or reach other servers.
pub const RUNS_SQL: [&str; 7] = [
    "dblink",
    "tablefunc",
    "xml2",
    "postgres_fdw",
    "pg_background",
    "pg_cron",
    "lo",
];

fn place_of(
    relation: &Relation,
    catalog: &Catalog,
    map: &ShardMap,
    left: &HashMap<Name, Left>,
) -> Place {
    // Views are judged by what they read; sequences stay with their tables or at home.
    if matches!(relation.kind, RelationKind::View | RelationKind::Sequence) {
        return Place::Home;
    }
    let root = root_of(relation, catalog);
    let placement = match left.get(&root.name) {
        Some(Left::As(placement)) => placement.clone(),
        Some(Left::Unclear) => Placement::Home,
        None => placement_of(root, catalog, map),
    };
    match placement {
        Placement::Home => Place::Home,
        Placement::Reference => Place::Reference,
        Placement::Sharded(sharded) => Place::Sharded(Arc::new(keyed(relation, sharded, catalog))),
    }
}

/// Where the map has a table that is no part of another one.
fn placement_of(root: &Relation, catalog: &Catalog, map: &ShardMap) -> Placement {
    if is_by_default(root, map) && catalog.home_only.contains(&root.name) {
        return Placement::Home;
    }
    let primary_key = key_columns(root, catalog);
    map.placement(&root.name.schema, &root.name.name, &primary_key)
}

/// A partition lives where its parent does.
fn root_of<'r>(relation: &'r Relation, catalog: &'r Catalog) -> &'r Relation {
    let mut root = relation;
    for _ in 0..32 {
        match root
            .parent
            .as_ref()
            .and_then(|parent| catalog.relation(parent))
        {
            Some(parent) => root = parent,
            None => break,
        }
    }
    root
}

fn is_by_default(root: &Relation, map: &ShardMap) -> bool {
    let Name { schema, name } = &root.name;
    matches!(map.declared(schema, name), Declared::Auto)
}

/// Why nothing tells where the rows are of a table: it does not fit its declaration; or it is on all shards, would live at
/// home, and had a primary key when it was made or may have been a part of another table.
fn key_gone(
    relation: &Relation,
    place: &Place,
    catalog: &Catalog,
    map: &ShardMap,
    left: &HashMap<Name, Left>,
) -> Option<Reason> {
    let root = root_of(relation, catalog);
    if catalog.misfits.contains(&root.name) {
        return Some(Reason::KeyMisfit);
    }
    if relation.kind != RelationKind::Table || !matches!(place, Place::Home) {
        return None;
    }
    let is_gone = catalog.everywhere.contains(&root.name) && is_by_default(root, map);
    match left.get(&root.name) {
        Some(Left::Unclear) => Some(Reason::LeftUnclear),
        _ => is_gone.then_some(Reason::KeyGone),
    }
}

/// The primary key as the map wants it: empty unless its first column can be a shard key.
fn key_columns(relation: &Relation, catalog: &Catalog) -> Vec<(String, KeyType)> {
    let Some(key) = relation.keys.iter().find(|k| k.primary) else {
        return Vec::new();
    };
    let typed = key.columns.iter().map_while(|name| {
        let (_, column) = relation.column(name)?;
        let key_type = KeyType::from_oid(catalog.base_type(column.type_oid))?;
        column
            .collation
            .is_deterministic()
            .then(|| (name.clone(), key_type))
    });
    typed.collect()
}

fn keyed(relation: &Relation, sharded: Arc<Sharded>, catalog: &Catalog) -> Keyed {
    let mut routable = true;
    let columns = sharded
        .columns
        .iter()
        .map(|(name, declared)| {
            let found = relation.column(name);
            routable &= found.is_some_and(|(_, column)| {
                let actual = KeyType::from_oid(catalog.base_type(column.type_oid));
                actual.is_some_and(|actual| same_family(actual, *declared))
                    && column.collation.is_deterministic()
            });
            found.map(|(position, _)| position)
        })
        .collect();
    Keyed {
        sharded,
        columns,
        routable,
    }
}

/// Whether two key types have one canonical form and one equality.
pub fn same_family(a: KeyType, b: KeyType) -> bool {
    let text = |t: KeyType| matches!(t, KeyType::Text | KeyType::Varchar);
    a == b || (a.is_integer() && b.is_integer()) || (text(a) && text(b))
}

/// A name of the parser's, as PostgreSQL reads it.
pub fn folded(ident: &Ident) -> String {
    fold(&ident.value, ident.quote_style.is_some()).into_owned()
}

/// The name that a token is, if it is one.
pub fn named(kind: Kind, text: &str) -> Option<String> {
    match kind {
        Kind::Word => Some(fold(text, false).into_owned()),
        Kind::QuotedIdent => {
            let inner = text.get(1..text.len().saturating_sub(1));
            let name = inner.unwrap_or_default().replace("\"\"", "\"");
            Some(fold(&name, true).into_owned())
        }
        _ => None,
    }
}

/// An identifier as PostgreSQL reads it: folded unless quoted, cut after 63 bytes.
pub fn fold(value: &str, quoted: bool) -> Cow<'_, str> {
    let end = value.len().min(MAX_NAME);
    let end = (0..=end).rev().find(|end| value.is_char_boundary(*end));
    let name = &value[..end.unwrap_or_default()];
    if quoted || !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.to_ascii_lowercase())
}
