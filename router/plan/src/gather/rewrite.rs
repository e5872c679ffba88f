//! The residue: the statement with a CTE in the place of each table whose rows were fetched.

use mothership_sql::quote;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;
use std::rc::Rc;

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, DataType, Expr, GroupByExpr, Ident, JoinConstraint,
    JoinOperator, ObjectName, ObjectNamePart, OrderByExpr, OrderByKind, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, Statement, TableAlias, TableFactor, TableWithJoins,
    UnaryOperator, Value, With,
};
use sqlparser::tokenizer::Location;

use crate::expr::{chain, strip};
use crate::names::folded;
use crate::parens;
use crate::refuse::Refusal;
use crate::scope::{Analysis, Source};
use crate::visit::{Change, Look, change, look};

use super::fragment::{Entries, Fetched, Made};
use super::notes::{Read, first_name, place_of};
use super::partial::Pushed;
use super::{Fragment, Root, cast_of_text, named};

/// The FROM entries that read tables and views.
pub fn entries<'p>(root: Root<'_>, places: impl Iterator<Item = &'p Location>) -> Entries {
    struct Find {
        places: HashSet<Location>,
        found: Entries,
    }
    impl Look for Find {
        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            if let Some((name, alias)) = named(factor)
                && let Some(place) = place_of(name).filter(|place| self.places.contains(place))
            {
                self.found.insert(place, (name.clone(), alias.cloned()));
            }
            ControlFlow::Continue(())
        }
    }
    let mut find = Find {
        places: places.copied().collect(),
        found: Entries::new(),
    };
    let _ = match root {
        Root::Query(query) | Root::Source(query, _) => look(query, &mut find),
        Root::Write(statement, _) => look(statement, &mut find),
    };
    find.found
}

/// A statement without the conditions that hold of all rows that are fetched.
pub enum Pruned {
    Query(Box<Query>),
    Write(Box<Statement>),
}

impl Pruned {
    /// `stand_ins` are the instances whose rows are fetched.
    pub fn of(root: Root<'_>, analysis: &Analysis<'_>, stand_ins: &HashSet<usize>) -> Pruned {
        let mut pruning = Pruning {
            settled: &analysis.notes.settled,
            stand_ins,
        };
        match root {
            Root::Query(query) | Root::Source(query, _) => {
                let mut query = Box::new(query.clone());
                let _ = change(&mut *query, &mut pruning);
                Pruned::Query(query)
            }
            Root::Write(statement, _) => {
                let mut statement = Box::new(statement.clone());
                let _ = change(&mut *statement, &mut pruning);
                Pruned::Write(statement)
            }
        }
    }

    /// In the place of `root`.
    pub fn root<'p>(&'p self, root: Root<'_>) -> Root<'p> {
        match (self, root) {
            (Pruned::Query(query), Root::Source(_, target)) => Root::Source(query, target),
            (Pruned::Query(query), _) => Root::Query(query),
            (Pruned::Write(statement), Root::Write(_, target)) => Root::Write(statement, target),
            // It was made of a root of the same kind.
            (Pruned::Write(statement), _) => Root::Write(statement, usize::MAX),
        }
    }

    /// What it names.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn text(&self) -> Result<String, Refusal> {
        match self {
            Pruned::Query(query) => parens::query(query),
            Pruned::Write(statement) => parens::statement(statement),
        }
    }
}

struct Pruning<'a> {
    settled: &'a HashMap<Location, (usize, Expr)>,
    stand_ins: &'a HashSet<usize>,
}

impl Pruning<'_> {
    fn is_settled(&self, expr: &Expr) -> bool {
        let settled = first_name(expr).and_then(|place| self.settled.get(&place));
        settled.is_some_and(|(instance, condition)| {
            self.stand_ins.contains(instance) && strip(condition) == strip(expr)
        })
    }

    /// What is left of a condition.
    fn left(&self, expr: &Expr) -> Option<Expr> {
        let conjuncts = chain(expr, &BinaryOperator::And);
        if !conjuncts.iter().any(|conjunct| self.is_settled(conjunct)) {
            return Some(expr.clone());
        }
        let left = conjuncts.into_iter().filter(|e| !self.is_settled(e));
        left.cloned().reduce(|left, right| Expr::BinaryOp {
            left: Box::new(Expr::Nested(Box::new(left))),
            op: BinaryOperator::And,
            right: Box::new(Expr::Nested(Box::new(right))),
        })
    }
}

impl Change for Pruning<'_> {
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if let Some(selection) = &select.selection {
            select.selection = self.left(selection);
        }
        for item in &mut select.from {
            self.joins(item);
        }
        ControlFlow::Continue(())
    }
}

impl Pruning<'_> {
    fn joins(&self, item: &mut TableWithJoins) {
        if let TableFactor::NestedJoin {
            table_with_joins, ..
        } = &mut item.relation
        {
            self.joins(table_with_joins);
        }
        for join in &mut item.joins {
            if let TableFactor::NestedJoin {
                table_with_joins, ..
            } = &mut join.relation
            {
                self.joins(table_with_joins);
            }
            let constraint = match &mut join.join_operator {
                JoinOperator::Join(constraint)
                | JoinOperator::Inner(constraint)
                | JoinOperator::Left(constraint)
                | JoinOperator::LeftOuter(constraint)
                | JoinOperator::Right(constraint)
                | JoinOperator::RightOuter(constraint)
                | JoinOperator::FullOuter(constraint) => constraint,
                _ => continue,
            };
            if let JoinConstraint::On(on) = constraint {
                let left = self.left(on);
                *on = left.unwrap_or_else(|| Expr::value(Value::Boolean(true)));
            }
        }
    }
}

/// What stands in for a table.
struct StandIn {
    /// The CTE.
    cte: String,
    /// What the statement calls it.
    alias: String,
    /// The table's row type.
    row_type: ObjectName,
    /// The columns that it has and that can be grouped by, by the statement's names for them.
    columns: Vec<String>,
}

/// Makes the residue of a statement.
pub struct Rewriting<'a, 'n> {
    analysis: &'a Analysis<'n>,
    /// By the place of the table's name.
    places: HashMap<Location, Rc<StandIn>>,
    /// The same by the instances.
    instances: HashMap<usize, Rc<StandIn>>,
    /// Qualified names of tables: their columns lose the schema.
    unqualified: Vec<(String, String)>,
    ctes: Vec<String>,
    /// Levels that the shards compute, with what is left of them.
    levels: HashMap<Location, (Select, Vec<OrderByExpr>)>,
}

impl<'a, 'n> Rewriting<'a, 'n> {
    /// Of a statement that has been walked.
    pub fn new(analysis: &'a Analysis<'n>) -> Self {
        Rewriting {
            analysis,
            places: HashMap::new(),
            instances: HashMap::new(),
            unqualified: Vec::new(),
            ctes: Vec::new(),
            levels: HashMap::new(),
        }
    }

    /// Puts the CTE `name` in a place; its arrays are the parameters from `next` on.
    pub(super) fn replace(
        &mut self,
        place: Location,
        reads: &[Read<'_>],
        name: &str,
        made: &Made<'_>,
        next: &mut usize,
    ) {
        self.define(name, &made.columns, next);
        let own = &made.relation.name;
        self.unqualified
            .push((own.schema.clone(), own.name.clone()));
        let parts = [&own.schema, &own.name]
            .map(|part| ObjectNamePart::Identifier(Ident::with_quote('"', part)));
        let columns = made
            .columns
            .iter()
            .filter(|column| has_equality(&column.handed.base));
        let stand_in = Rc::new(StandIn {
            cte: name.to_owned(),
            alias: made.alias.clone(),
            row_type: ObjectName(parts.to_vec()),
            columns: columns.map(|column| column.known.clone()).collect(),
        });
        for read in reads {
            self.instances.insert(read.instance, Rc::clone(&stand_in));
        }
        self.places.insert(place, stand_in);
    }

    /// The level at `place` reads what the shards computed of it.
    pub(super) fn push(
        &mut self,
        place: Location,
        pushed: Pushed,
        name: &str,
        next: &mut usize,
    ) -> Fragment {
        self.define(name, &pushed.columns, next);
        self.levels.insert(place, (pushed.select, pushed.order));
        pushed.fragment
    }

    /// A CTE of arrays, which are the parameters from `next` on.
    pub(super) fn define(&mut self, name: &str, columns: &[Fetched], next: &mut usize) {
        let names: Vec<String> = columns.iter().map(|c| quote::identifier(&c.name)).collect();
        let mut lists = Vec::with_capacity(names.len());
        for Fetched { handed, .. } in columns {
            let mut list = format!("unnest(${next}::{}[])", handed.sent_as());
            if handed.as_text {
                list = cast_of_text(&list, &handed.full);
            } else if handed.full != handed.base {
                list = format!("{list}::{}", handed.full);
            }
            if let Some(collation) = &handed.collate {
                list = format!("{list} COLLATE {collation}");
            }
            lists.push(list);
            *next += 1;
        }
        // Within a subquery it may be read again and again.
        self.ctes.push(format!(
            "{name} ({}) AS MATERIALIZED (SELECT {})",
            names.join(", "),
            lists.join(", ")
        ));
    }

    /// The text.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn residue(&mut self, root: Root<'_>) -> Result<String, Refusal> {
        match root {
            Root::Query(query) | Root::Source(query, _) => {
                let mut query = query.clone();
                let _ = change(&mut query, self);
                let with = query.with.take();
                Ok(format!("{}{}", self.with(with)?, parens::query(&query)?))
            }
            Root::Write(statement, _) => {
                let mut statement = statement.clone();
                let _ = change(&mut statement, self);
                Ok(format!(
                    "{}{}",
                    self.with(None)?,
                    parens::statement(&statement)?
                ))
            }
        }
    }

    /// WITH: our own first, then the statement's.
    fn with(&self, theirs: Option<With>) -> Result<String, Refusal> {
        let recursive = theirs.as_ref().is_some_and(|with| with.recursive);
        let mut list = self.ctes.clone();
        if let Some(with) = &theirs {
            list.push(parens::ctes(&with.cte_tables)?);
        }
        Ok(match (list.is_empty(), recursive) {
            (true, _) => String::new(),
            (false, false) => format!("WITH {} ", list.join(", ")),
            (false, true) => format!("WITH RECURSIVE {} ", list.join(", ")),
        })
    }

    fn is_unqualified(&self, schema: &Ident, table: &Ident) -> bool {
        let name = (folded(schema), folded(table));
        self.unqualified.contains(&name)
    }

    /// PostgreSQL knows that a table's other columns follow from its primary key; of a stand-in it does not, so they
    /// are grouped by, too.
    fn dependent(&self, select: &Select) -> Vec<Expr> {
        let place = select.select_token.0.span.start;
        let mut groups = self.analysis.notes.groups.iter();
        let Some((_, nodes)) = groups.find(|(at, _)| *at == place) else {
            return Vec::new();
        };
        let instances: BTreeSet<usize> = nodes.iter().map(|(instance, _)| *instance).collect();
        let mut found = Vec::new();
        for instance in instances {
            let Source::Sharded(relation, _) = &self.analysis.instances[instance].source else {
                continue;
            };
            let Some(stand_in) = self.instances.get(&instance) else {
                continue;
            };
            let grouped = |column: &String| {
                let found = relation.column(column);
                found.is_some_and(|(at, _)| nodes.contains(&(instance, at)))
            };
            let mut keys = relation.keys.iter();
            if keys.any(|key| key.primary && key.columns.iter().all(grouped)) {
                let column = |name: &String| {
                    let parts = [&stand_in.alias, name];
                    let parts = parts.map(|part| Ident::with_quote('"', part));
                    Expr::CompoundIdentifier(parts.to_vec())
                };
                found.extend(stand_in.columns.iter().map(column));
            }
        }
        found
    }
}

/// The row of a stand-in as a row of its table; NULL where an outer join has found none. Rows of tables are never all
/// NULL: they have keys.
fn whole_row(entry: &Ident, row_type: &ObjectName) -> Expr {
    let row = || Box::new(Expr::Identifier(entry.clone()));
    let cast = Expr::Cast {
        kind: CastKind::DoubleColon,
        expr: row(),
        data_type: DataType::Custom(row_type.clone(), Vec::new()),
        format: None,
    };
    let no_token = || AttachedToken::empty();
    Expr::Nested(Box::new(Expr::Case {
        case_token: no_token(),
        end_token: no_token(),
        operand: None,
        conditions: vec![CaseWhen {
            condition: Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr: Box::new(Expr::Nested(Box::new(Expr::IsNull(row())))),
            },
            result: cast,
        }],
        else_result: None,
    }))
}

/// Whether values of a type can be compared, so that they can be grouped by.
fn has_equality(base: &str) -> bool {
    !matches!(
        base,
        "json" | "xml" | "point" | "line" | "lseg" | "box" | "path" | "polygon" | "circle"
    )
}

impl Change for Rewriting<'_, '_> {
    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table {
            name,
            alias,
            args: None,
            ..
        } = factor
            && let Some(stand_in) = place_of(name).and_then(|place| self.places.get(&place))
        {
            *name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new(&stand_in.cte))]);
            if alias.is_none() {
                *alias = Some(TableAlias {
                    explicit: true,
                    name: Ident::with_quote('"', &stand_in.alias),
                    columns: Vec::new(),
                    at: None,
                });
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::Select(select) = &*query.body
            && let Some((_, left)) = self.levels.get(&select.select_token.0.span.start)
        {
            // The shards lock rows, and what stands for them has none.
            query.locks.clear();
            if let Some(order) = &mut query.order_by
                && let OrderByKind::Expressions(list) = &mut order.kind
            {
                list.clone_from(left);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if let Some((left, _)) = self.levels.get(&select.select_token.0.span.start) {
            select.clone_from(left);
            return ControlFlow::Continue(());
        }
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) = item
                && let Expr::Identifier(ident) = strip(expr)
                && self
                    .analysis
                    .notes
                    .rows
                    .iter()
                    .any(|(at, _)| *at == ident.span.start)
            {
                // What stands for it would have another name.
                let alias = Ident::with_quote('"', folded(ident));
                *item = SelectItem::ExprWithAlias {
                    expr: expr.clone(),
                    alias,
                };
            }
            if let SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name),
                _,
            ) = item
                && let [schema, table] = name.0.as_slice()
                && let (Some(schema), Some(table)) = (schema.as_ident(), table.as_ident())
                && self.is_unqualified(schema, table)
            {
                name.0.remove(0);
            }
        }
        let dependent = self.dependent(select);
        if let GroupByExpr::Expressions(list, _) = &mut select.group_by {
            list.extend(dependent);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::CompoundIdentifier(parts) => {
                if let [schema, table, _, ..] = parts.as_slice()
                    && self.is_unqualified(schema, table)
                {
                    parts.remove(0);
                }
            }
            Expr::Identifier(ident) => {
                let place = ident.span.start;
                let mut rows = self.analysis.notes.rows.iter();
                let stand_in = rows
                    .find(|(at, _)| *at == place)
                    .and_then(|(_, instance)| self.instances.get(instance));
                if let Some(stand_in) = stand_in {
                    *expr = whole_row(ident, &stand_in.row_type);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
