//! Writes within WITH, when what is around them is gathered.
//!
//! To PostgreSQL all parts of a statement see the same rows, those from before it, and of a write within WITH the
//! others see what it returns and nothing else. So first all is fetched that the other parts read, copies and tables of
//! the home shard as well. Then each write runs where its rows are and returns the columns of its table, and at last the
//! residue makes of these what RETURNING says. That is the same only where no write can notice that another has run
//! before it, which is asked of the tables here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{ControlFlow, Range};

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    Expr, FromTable, Insert, ObjectName, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, Statement, TableAlias, TableFactor, TableObject,
    TableWithJoins, UpdateTableFromKind, Values, Visit, With,
};
use sqlparser::tokenizer::{Location, Token};

use crate::KeyedBy;
use crate::condition::Cond;
use crate::decide::colocated;
use crate::documents;
use crate::expr::strip;
use crate::functions::{self, Call};
use crate::names::folded;
use crate::parens;
use crate::parse::{self, Parsed};
use crate::query::Local;
use crate::refuse::{Reason, Refusal};
use crate::scope::{Analysis, Source};
use crate::visit::{Look, any_expr, any_relation, look};
use mothership_catalog::{Catalog, Name};

use super::fragment::Made;
use super::notes::{Read, place_of};
use super::{Fragment, Holders, ListedRows, inherits};

/// A write within WITH, or behind it, as the walk found it.
#[derive(Debug, Clone)]
pub struct NestedWrite {
    /// Where the name of its CTE begins; `None` behind WITH.
    pub cte: Option<Location>,
    /// The instance that is written, or that stands for the stored rows.
    pub target: usize,
    /// All its instances.
    pub instances: Range<usize>,
    /// Whether each shard may do its part.
    pub apart: bool,
    /// Whether it adds rows and changes none.
    pub adds: bool,
    /// Of an INSERT, the columns that are given.
    pub positions: Option<Vec<usize>>,
    /// Of a VALUES list into a sharded table, what the key of each row is; columns count from the first of the key.
    pub rows: Vec<Cond>,
}

impl NestedWrite {
    /// Of what walking a write gave; `instances` are all that it added.
    pub fn new(
        statement: &Statement,
        target: usize,
        instances: Range<usize>,
        local: &Local,
    ) -> NestedWrite {
        NestedWrite {
            cte: None,
            target,
            instances,
            apart: matches!(local, Local::Rows),
            adds: matches!(statement, Statement::Insert(insert) if insert.on.is_none()),
            positions: None,
            rows: Vec::new(),
        }
    }
}

/// The writes within WITH of a statement, taken out of it.
pub struct TakenOut {
    /// The statement with what they return in their place.
    pub query: Query,
    /// By the place of the table's name.
    writes: BTreeMap<Location, Write>,
    /// The instances of all writes; these are read where the write runs.
    own: Vec<Range<usize>>,
    /// The instance that the statement itself writes.
    pub target: Option<usize>,
}

struct Write {
    target: usize,
    /// Its table and alias.
    entry: (ObjectName, Option<TableAlias>),
    /// Without RETURNING, and without rows that are listed.
    sql: String,
    /// The rows that it stores on their shards.
    listed: Option<Listed>,
    /// What becomes of its rows.
    rows: Returned,
    /// Each shard has a copy of the table.
    copies: bool,
}

/// The rows of a VALUES list.
struct Listed {
    /// The key of each, and its text.
    rows: Vec<(Cond, String)>,
    /// What stands behind them.
    tail: String,
    /// Whether OVERRIDING SYSTEM VALUE stands before them.
    overrides: bool,
}

/// What becomes of the rows of a write.
enum Returned {
    /// Nobody asks for them.
    Unseen,
    /// They are fetched, and these expressions are computed of them there, because PostgreSQL would and it may fail.
    Shown(Vec<String>),
}

impl TakenOut {
    /// Of a query that has been walked.
    ///
    /// # Errors
    /// Where it could be noticed.
    pub fn of(
        analysis: &Analysis<'_>,
        query: &Query,
        parsed: &Parsed,
    ) -> Result<TakenOut, Refusal> {
        let refused = |why: &str| Refusal::about(Reason::WritesWithin, why);
        let within = &analysis.notes.within;
        let last = analysis.seen.calls.iter().next_back();
        if let Some((_, name)) = last.filter(|(call, _)| **call > Call::Time) {
            return Err(refused(&functions::told("function ", name)));
        }
        if analysis.seen.views || analysis.seen.catalogs {
            return Err(refused("it reads a view or a catalog"));
        }
        if !apart(analysis, within) {
            return Err(refused("one of its writes could notice another"));
        }
        let mut taken = TakenOut {
            query: query.clone(),
            writes: BTreeMap::new(),
            own: within
                .iter()
                .filter(|w| w.cte.is_some())
                .map(|w| w.instances.clone())
                .collect(),
            target: within.iter().find(|w| w.cte.is_none()).map(|w| w.target),
        };
        let list = query.with.as_ref().map_or(&[][..], |with| &with.cte_tables);
        let of = |place: Location| within.iter().find(|w| w.cte == Some(place));
        let mut found = 0;
        let mut left = Vec::new();
        for cte in list {
            let Some(write) = of(cte.alias.name.span.start) else {
                left.push(cte.clone());
                continue;
            };
            found += 1;
            if !is_local(analysis, write) {
                return Err(refused("one of its writes needs rows of other shards"));
            }
            let bare = cte.query.with.is_none()
                && cte.query.order_by.is_none()
                && cte.query.limit_clause.is_none()
                && cte.query.fetch.is_none();
            let (SetExpr::Insert(statement)
            | SetExpr::Update(statement)
            | SetExpr::Delete(statement)) = &*cte.query.body
            else {
                return Err(refused("one of its writes is a MERGE"));
            };
            if names_cte(analysis, statement) {
                return Err(refused("one of its writes reads another part of WITH"));
            }
            let parts = Parts::of(statement).filter(|_| bare);
            let parts = parts.ok_or_else(|| refused("one of its writes is not understood"))?;
            if !parts.returning_is_about_target() {
                return Err(refused(
                    "RETURNING shows more than the rows that are written",
                ));
            }
            if analysis.is_documents(write.target) {
                let sql = parens::statement(statement)?;
                let types = &analysis.context.parameter_types;
                if !documents::takes(analysis.names, analysis.context, types, &sql) {
                    return Err(Refusal::about(
                        Reason::DocumentsWrite,
                        "a write within WITH",
                    ));
                }
            }
            let place = place_of(parts.name).ok_or_else(|| refused("a name"))?;
            let bare = without_returning(statement);
            let (sql, listed) = match Listed::of(&bare, &write.rows, parsed)? {
                Some((head, listed)) => (head, Some(listed)),
                None => (parens::statement(&bare)?, None),
            };
            let write = Write {
                target: write.target,
                entry: (parts.name.clone(), parts.alias.clone()),
                sql,
                listed,
                rows: Returned::of(parts.returning)?,
                copies: matches!(
                    analysis.instances[write.target].source,
                    Source::Reference(_)
                ),
            };
            taken.writes.insert(place, write);
            if !parts.returning.is_empty() {
                let mut cte = cte.clone();
                cte.query = parts.shown().ok_or_else(|| refused("RETURNING"))?;
                left.push(cte);
            }
        }
        if found != within.iter().filter(|w| w.cte.is_some()).count() {
            return Err(refused("it is not in the statement's own WITH"));
        }
        taken.query.with = match (&query.with, left.is_empty()) {
            (Some(with), false) => Some(With {
                cte_tables: left,
                ..with.clone()
            }),
            _ => None,
        };
        Ok(taken)
    }

    /// Of an UPDATE that moves rows: `sql` deletes those of `target`, and `query` shows them as they are to be.
    pub fn moved(
        target: usize,
        entry: (ObjectName, Option<TableAlias>),
        sql: String,
        query: Query,
    ) -> Option<TakenOut> {
        let write = Write {
            target,
            rows: Returned::Shown(Vec::new()),
            copies: false,
            sql,
            listed: None,
            entry,
        };
        Some(TakenOut {
            writes: BTreeMap::from([(place_of(&write.entry.0)?, write)]),
            query,
            own: std::iter::once(target..target + 1).collect(),
            target: None,
        })
    }

    /// Whether there is any within WITH.
    pub fn writes(&self) -> bool {
        !self.writes.is_empty()
    }

    /// How many of the writes have OVERRIDING SYSTEM VALUE, which the tree does not tell.
    pub fn overriding(&self) -> usize {
        let listed = self
            .writes
            .values()
            .filter_map(|write| write.listed.as_ref());
        listed.filter(|listed| listed.overrides).count()
    }

    /// Whether this is read where one of the writes runs.
    pub fn is_own(&self, instance: usize) -> bool {
        self.own.iter().any(|own| own.contains(&instance))
    }

    /// The tables that are written, as if they were read.
    pub fn reads(&self) -> impl Iterator<Item = Read<'static>> + '_ {
        self.writes.iter().map(|(place, write)| Read {
            place: *place,
            instance: write.target,
            view: None,
        })
    }

    /// Those that return nothing: the statement that is left does not name them.
    pub fn silent(
        &self,
    ) -> impl Iterator<Item = (Location, (ObjectName, Option<TableAlias>))> + '_ {
        let silent = self
            .writes
            .iter()
            .filter(|(_, write)| matches!(write.rows, Returned::Unseen));
        silent.map(|(place, write)| (*place, write.entry.clone()))
    }

    /// Makes a fragment that reads what is written one that writes it.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn write(&self, place: Location, made: &mut Made<'_>) -> Result<(), Refusal> {
        let Some(write) = self.writes.get(&place) else {
            return Ok(());
        };
        let fragment: &mut Fragment = &mut made.fragment;
        fragment.writes = true;
        if write.copies {
            fragment.of = Holders::Copies;
        }
        fragment.narrowing = Default::default();
        fragment.sql.clone_from(&write.sql);
        let mut returning = String::new();
        if let Returned::Shown(computed) = &write.rows {
            returning = format!(" RETURNING {}", shown(&made.list, computed));
        } else {
            fragment.elements.clear();
        }
        match (&write.listed, &fragment.of) {
            (Some(listed), Holders::Keys(keys)) => {
                let rows = keys.first().map(|by| listed.by_key(by, &returning));
                fragment.of = Holders::Rows(rows.unwrap_or_default());
            }
            _ => fragment.sql += &returning,
        }
        Ok(())
    }
}

/// Whether OVERRIDING SYSTEM VALUE stands between the head of an INSERT and its rows.
fn overrides(insert: &Insert, values: &Values, parsed: &Parsed) -> bool {
    let begins = insert.insert_token.0.span.start;
    let first = values.rows.first();
    let ends = first.map_or(begins, |row| row.opening_token.0.span.start);
    let is_word = |token: &Token| {
        matches!(token, Token::Word(word)
            if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("overriding"))
    };
    parsed
        .tokens
        .iter()
        .any(|t| (begins..ends).contains(&t.span.start) && is_word(&t.token))
}

/// The list of RETURNING, whose first entry also computes these.
fn shown(list: &[String], computed: &[String]) -> String {
    let mut list = list.to_vec();
    if let Some(first) = list.first_mut().filter(|_| !computed.is_empty()) {
        *first = format!(
            "CASE WHEN pg_catalog.num_nonnulls({}) >= 0 THEN {first} END",
            computed.join(", ")
        );
    }
    list.join(", ")
}

impl Listed {
    /// Of an INSERT of rows with these keys, if there are any; and what stands before them.
    fn of(
        statement: &Statement,
        keys: &[Cond],
        parsed: &Parsed,
    ) -> Result<Option<(String, Listed)>, Refusal> {
        let Statement::Insert(insert) = statement else {
            return Ok(None);
        };
        let source = insert.source.as_ref().map(|source| &*source.body);
        let Some(SetExpr::Values(values)) = source.filter(|_| !keys.is_empty()) else {
            return Ok(None);
        };
        let texts = values.rows.iter().map(|row| parens::row(&row.content));
        let texts = texts.collect::<Result<Vec<String>, Refusal>>()?;
        let (mut head, tail) = parens::around_source(insert)?;
        let overrides = overrides(insert, values, parsed);
        if overrides {
            head += "OVERRIDING SYSTEM VALUE ";
        }
        let rows = keys.iter().cloned().zip(texts).collect();
        let listed = Listed {
            rows,
            tail,
            overrides,
        };
        Ok(Some((head + "VALUES ", listed)))
    }

    /// The rows of a table with keys like these, and what is returned of them.
    fn by_key(&self, like: &KeyedBy, returning: &str) -> ListedRows {
        let row = |(cond, text): &(Cond, String)| {
            let by = KeyedBy {
                cond: cond.clone(),
                leaf: None,
                ..like.clone()
            };
            (by, text.clone())
        };
        ListedRows {
            rows: self.rows.iter().map(row).collect(),
            tail: format!("{}{returning}", self.tail),
        }
    }
}

impl Returned {
    fn of(returning: &[SelectItem]) -> Result<Returned, Refusal> {
        if returning.is_empty() {
            return Ok(Returned::Unseen);
        }
        let computed = returning.iter().filter_map(|item| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
            _ => None,
        });
        let computed = computed.filter(|expr| {
            !matches!(
                strip(expr),
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_)
            )
        });
        let computed: Result<_, _> = computed.map(parens::expr).collect();
        computed.map(Returned::Shown)
    }
}

/// The parts of INSERT, UPDATE or DELETE that are needed here.
struct Parts<'q> {
    name: &'q ObjectName,
    alias: Option<TableAlias>,
    /// There are other tables that RETURNING may show.
    beside: bool,
    returning: &'q [SelectItem],
}

impl<'q> Parts<'q> {
    fn of(statement: &'q Statement) -> Option<Parts<'q>> {
        let entry = |table: &'q TableWithJoins| match &table.relation {
            TableFactor::Table { name, alias, .. } => Some((name, alias.clone())),
            _ => None,
        };
        let (name, alias, beside, returning) = match statement {
            Statement::Update(update) => {
                let (name, alias) = entry(&update.table)?;
                let beside = matches!(&update.from, Some(UpdateTableFromKind::AfterSet(list)) if !list.is_empty());
                (name, alias, beside, &update.returning)
            }
            Statement::Delete(delete) => {
                let FromTable::WithFromKeyword(list) = &delete.from else {
                    return None;
                };
                let [table] = list.as_slice() else {
                    return None;
                };
                let (name, alias) = entry(table)?;
                (name, alias, delete.using.is_some(), &delete.returning)
            }
            Statement::Insert(insert) => {
                let TableObject::TableName(name) = &insert.table else {
                    return None;
                };
                let alias = insert.table_alias.as_ref().map(|alias| TableAlias {
                    explicit: true,
                    name: alias.alias.clone(),
                    columns: Vec::new(),
                    at: None,
                });
                (name, alias, false, &insert.returning)
            }
            _ => return None,
        };
        Some(Parts {
            name,
            alias,
            beside,
            returning: returning.as_deref().unwrap_or_default(),
        })
    }

    /// Under which RETURNING knows the row.
    fn entry(&self) -> String {
        match &self.alias {
            Some(alias) => folded(&alias.name),
            None => self
                .name
                .0
                .last()
                .and_then(|part| part.as_ident())
                .map(folded)
                .unwrap_or_default(),
        }
    }

    /// Whether RETURNING names columns of the row that is written only, and computes with nothing else.
    fn returning_is_about_target(&self) -> bool {
        let entry = self.entry();
        // To PostgreSQL 18 they are the row before and after.
        if entry == "old" || entry == "new" {
            return false;
        }
        let is_own = |expr: &Expr| match expr {
            Expr::Identifier(_) => !self.beside,
            Expr::CompoundIdentifier(parts) => {
                !self.beside || matches!(parts.as_slice(), [table, _] if folded(table) == entry)
            }
            _ => true,
        };
        !has_query(&self.returning.to_vec())
            && self.returning.iter().all(|item| match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                    !any_expr(expr, |expr| !is_own(expr))
                }
                SelectItem::Wildcard(_) => !self.beside,
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    _,
                ) => matches!(
                    name.0.as_slice(),
                    [table] if table.as_ident().is_some_and(|table| folded(table) == entry)
                ),
                _ => false,
            })
    }

    /// What RETURNING shows, as a query of the table.
    fn shown(&self) -> Option<Box<Query>> {
        let mut query = parse::view("SELECT FROM t")?;
        let SetExpr::Select(select) = &mut *query.body else {
            return None;
        };
        let Select {
            select_token,
            projection,
            from,
            ..
        } = &mut **select;
        // It stands nowhere in the client's text.
        *select_token = AttachedToken::empty();
        projection.clear();
        projection.extend_from_slice(self.returning);
        let [entry] = from.as_mut_slice() else {
            return None;
        };
        let TableFactor::Table { name, alias, .. } = &mut entry.relation else {
            return None;
        };
        name.clone_from(self.name);
        alias.clone_from(&self.alias);
        Some(query)
    }
}

/// Whether there is a query in it.
pub fn has_query(part: &impl Visit) -> bool {
    struct Find;
    impl Look for Find {
        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    look(part, &mut Find).is_break()
}

/// Whether it reads a CTE: where it runs there is none, and perhaps a table of that name.
fn names_cte(analysis: &Analysis<'_>, statement: &Statement) -> bool {
    let ctes = &analysis.notes.ctes;
    any_relation(statement, |name| {
        place_of(name).is_none_or(|place| ctes.contains(&place))
    })
}

fn without_returning(statement: &Statement) -> Statement {
    let mut statement = statement.clone();
    match &mut statement {
        Statement::Insert(insert) => insert.returning = None,
        Statement::Update(update) => update.returning = None,
        Statement::Delete(delete) => delete.returning = None,
        _ => {}
    }
    statement
}

/// Whether each shard can do its part of a write within WITH, with what it has.
fn is_local(analysis: &Analysis<'_>, write: &NestedWrite) -> bool {
    let of = |instance: usize| &analysis.instances[instance].source;
    let mut instances = write.instances.clone();
    match of(write.target) {
        Source::Home(_) => !instances.any(|at| matches!(of(at), Source::Sharded(..))),
        // It stores rows that are known.
        Source::Sharded(..) if !write.rows.is_empty() => {
            write.apart
                && instances.all(|at| {
                    at == write.target || matches!(of(at), Source::Derived | Source::Rows)
                })
        }
        Source::Sharded(..) => {
            let sharded: Vec<usize> = analysis
                .sharded()
                .map(|(at, _, _)| at)
                .filter(|at| write.instances.contains(at))
                .collect();
            write.apart
                && !analysis.stored.contains_key(&write.target)
                && !instances.any(|at| matches!(of(at), Source::Home(_)))
                && colocated(analysis, write.target, &sharded)
        }
        // Of other tables its copies might read other rows first.
        Source::Reference(_) => instances
            .all(|at| at == write.target || matches!(of(at), Source::Derived | Source::Rows)),
        Source::Derived | Source::Rows => false,
    }
}

/// Whether no write can notice that another ran before it: they and what they read are tables that neither foreign keys
/// nor inheritance connect.
fn apart(analysis: &Analysis<'_>, within: &[NestedWrite]) -> bool {
    let [_, _, ..] = within else {
        return true;
    };
    let catalog = analysis.names.catalog;
    if inherits(catalog) {
        return false;
    }
    let connected = Connected::of(catalog);
    let table = |instance: usize| match &analysis.instances[instance].source {
        Source::Sharded(relation, _) | Source::Reference(relation) => Some(&relation.name),
        Source::Home(name) => Some(&analysis.at_home(name)?.name),
        Source::Derived | Source::Rows => None,
    };
    let is_table = |instance: usize| {
        !matches!(
            analysis.instances[instance].source,
            Source::Derived | Source::Rows
        )
    };
    for (number, write) in within.iter().enumerate() {
        let Some(target) = table(write.target) else {
            return false;
        };
        // They may change other tables of the home shard.
        if catalog
            .relations
            .get(target)
            .is_none_or(|r| !r.triggers.is_empty())
        {
            return false;
        }
        for (other_number, other) in within.iter().enumerate() {
            if other_number == number {
                continue;
            }
            let Some(theirs) = table(other.target) else {
                return false;
            };
            // A row that refers to one that is added before it is found to do so at the end, as PostgreSQL does.
            let (first, second) = match number < other_number {
                true => (target, theirs),
                false => (theirs, target),
            };
            let refers = catalog.relations.get(first).is_none_or(|relation| {
                relation
                    .foreign_keys
                    .iter()
                    .any(|key| key.target == *second)
            });
            let added = write.adds && other.adds && !refers && first != second;
            if connected.are(target, theirs) && !added {
                return false;
            }
            // What the statement itself reads was fetched before.
            let mut reads = other.instances.clone().filter(|at| *at != other.target);
            let local = other.cte.is_some();
            if local
                && reads.any(|at| {
                    is_table(at) && table(at).is_none_or(|read| connected.are(target, read))
                })
            {
                return false;
            }
        }
    }
    true
}

/// Which tables foreign keys, inheritance and partitions connect.
struct Connected<'c> {
    neighbours: HashMap<&'c Name, Vec<&'c Name>>,
}

impl<'c> Connected<'c> {
    fn of(catalog: &'c Catalog) -> Connected<'c> {
        let mut neighbours: HashMap<&Name, Vec<&Name>> = HashMap::new();
        for relation in catalog.relations.values() {
            let targets = relation.foreign_keys.iter().map(|key| &key.target);
            for other in targets.chain(&relation.parent) {
                neighbours.entry(&relation.name).or_default().push(other);
                neighbours.entry(other).or_default().push(&relation.name);
            }
        }
        Connected { neighbours }
    }

    fn are(&self, a: &Name, b: &Name) -> bool {
        let mut known = BTreeSet::from([a]);
        let mut open = vec![a];
        while let Some(at) = open.pop() {
            if at == b {
                return true;
            }
            for next in self.neighbours.get(at).into_iter().flatten() {
                if known.insert(next) {
                    open.push(next);
                }
            }
        }
        false
    }
}
