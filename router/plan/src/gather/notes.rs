//! What the walk through a statement writes down for the case that its rows must be gathered: which names read
//! tables, which conditions hold of one table alone, and what speaks against it.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use sqlparser::ast::{BinaryOperator as Op, Expr, Function, ObjectName};
use sqlparser::tokenizer::Location;

use crate::expr::{operands, strip};
use crate::functions::{self, Call};
use crate::names::folded;
use crate::query::{Kind, OutColumn, Tree};
use crate::scope::{Analysis, Node, Scope, Scopes, Source};
use crate::visit::any_expr;
use mothership_catalog::Relation;

use super::within::NestedWrite;

/// A name in a FROM clause of the statement's own text.
#[derive(Debug, Clone, Copy)]
pub struct Read<'n> {
    /// Where the name begins.
    pub place: Location,
    /// Its FROM entry. A CTE is walked at each reference: then there are several reads at one place.
    pub instance: usize,
    /// The view that it is.
    pub view: Option<View<'n>>,
}

/// A view, and what the walk through its definition found.
#[derive(Debug, Clone, Copy)]
pub struct View<'n> {
    /// What the catalog knows of it.
    pub relation: &'n Relation,
    /// Who may compute its rows.
    pub computed: Computed,
    /// Its definition asks for the time, which nobody can put into the texts that shards get.
    pub timed: bool,
    /// Row security guards a table below it, by the rights of the view's owner.
    pub secured: bool,
}

/// Who may compute the rows of a view that a statement reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Computed {
    /// Each shard its own: all of them together are the rows of the view.
    Apart,
    /// Only one server that has all rows of the tables below.
    Together,
}

/// The notes of one statement.
#[derive(Debug, Clone, Default)]
pub struct Notes<'n> {
    /// Names that read tables and views.
    pub reads: Vec<Read<'n>>,
    /// Conditions without which no row of the instance matters, on its columns alone, of sharded and reference tables.
    pub filters: Vec<(usize, Expr)>,
    /// Such conditions that need not be asked again of the rows that satisfy them, as no outer join adds others; by the
    /// place of their first name, which that of a condition around them may be, too.
    pub settled: HashMap<Location, (usize, Expr)>,
    /// All columns of some table are used: `*`, NATURAL.
    pub stars: bool,
    /// How deep the queries are of which only their existence matters: no column of their `*` is used.
    pub existence: Vec<u32>,
    /// FROM entries all columns of which are named by the `*` of such a query: who runs it must be allowed to read them.
    pub unseen_stars: HashSet<usize>,
    /// Names that stand for a whole row.
    pub rows: Vec<(Location, usize)>,
    /// GROUP BY with the columns that it lists, by the place of its SELECT.
    pub groups: Vec<(Location, Vec<Node>)>,
    /// Something that the rows' stand-ins cannot give: TABLESAMPLE.
    pub sampled: bool,
    /// Every SELECT, once for each walk through it.
    pub levels: Vec<Level>,
    /// What names in expressions were found to mean: the instance, `None` if that is not certain.
    pub meant: HashMap<Location, Vec<Option<usize>>>,
    /// The column that a column of a subquery shows unchanged.
    pub shown: HashMap<Node, Node>,
    /// There are joins with USING or NATURAL.
    pub merged: bool,
    /// Names in FROM that mean a CTE.
    pub ctes: HashSet<Location>,
    /// Writes within WITH, and the one behind it.
    pub within: Vec<NestedWrite>,
}

/// A SELECT of the statement's own text.
#[derive(Debug, Clone)]
pub struct Level {
    /// Where it begins.
    pub place: Location,
    /// The shards may compute its FROM and WHERE apart, as far as that is a matter of joins and subqueries.
    pub apart: bool,
    /// The instances of its FROM and WHERE, with all below.
    pub instances: Range<usize>,
    /// What its expressions may name.
    pub scope: Scope,
    /// What `*` stands for, if that is known.
    pub star: Option<Vec<OutColumn>>,
    /// It has aggregates, GROUP BY or HAVING.
    pub aggregates: bool,
    /// It has windows.
    pub windows: bool,
}

impl Notes<'_> {
    /// Forgets what belongs to instances from `first` on.
    pub fn truncate(&mut self, first: usize) {
        self.reads.retain(|read| read.instance < first);
        self.filters.retain(|(instance, _)| *instance < first);
        self.settled.retain(|_, (instance, _)| *instance < first);
        self.rows.retain(|(_, instance)| *instance < first);
        let is_left = |nodes: &[Node]| nodes.iter().all(|(instance, _)| *instance < first);
        self.groups.retain(|(_, nodes)| is_left(nodes));
        self.levels.retain(|level| level.instances.start < first);
        self.meant.retain(|_, meant| {
            meant.retain(|instance| instance.is_none_or(|instance| instance < first));
            !meant.is_empty()
        });
        self.shown.retain(|(instance, _), _| *instance < first);
    }
}

/// Where a name begins.
pub fn place_of(name: &ObjectName) -> Option<Location> {
    Some(name.0.first()?.as_ident()?.span.start)
}

impl<'n> Analysis<'n> {
    /// Notes what a name in FROM reads.
    pub fn note_read(&mut self, name: &ObjectName, instance: usize, view: Option<View<'n>>) {
        if self.in_view == 0
            && let Some(place) = place_of(name)
        {
            self.notes.reads.push(Read {
                place,
                instance,
                view,
            });
        }
    }

    /// Notes what a name in an expression means.
    pub fn note_meaning(&mut self, expr: &Expr, place: Location, scopes: &Scopes<'_>) {
        if self.in_view == 0 {
            let meant = self.node(expr, scopes).map(|(instance, _)| instance);
            self.notes.meant.entry(place).or_default().push(meant);
        }
    }

    /// Notes that an identifier is the name of a FROM entry and no column: a whole row.
    pub fn note_row(&mut self, name: &str, place: Location, scopes: &Scopes<'_>) {
        if self.in_view > 0 || self.resolve(&[name.to_owned()], scopes).is_some() {
            return;
        }
        let mut level = Some(scopes);
        while let Some(at) = level {
            if let Some(entry) = at.scope.entries.iter().find(|entry| entry.alias == name) {
                self.notes.rows.push((place, entry.instance));
                return;
            }
            level = at.outer;
        }
    }

    /// Notes a condition that holds of every row that matters, for the one table of `scope` that it is about.
    /// `below` is what has been joined when it is applied: rows of a nullable side may only be left out if
    /// the condition is never true of their absence.
    pub fn note_filter(
        &mut self,
        expr: &Expr,
        scope: &[usize],
        below: &[&Tree<'_>],
        strict: &[usize],
        scopes: &Scopes<'_>,
    ) {
        let mut only = None;
        if !self.is_about_one(expr, &mut only, scopes) {
            return;
        }
        let Some(instance) = only.filter(|instance| scope.contains(instance)) else {
            return;
        };
        let noted = self.note_part(instance, expr.clone(), below, strict);
        if noted && !below.iter().any(|tree| nullable(tree).contains(&instance)) {
            let settled = first_name(expr).map(|place| (place, (instance, expr.clone())));
            self.notes.settled.extend(settled);
        }
    }

    /// Notes a condition on one table that follows from one that holds of every row that matters. Whether it is of use.
    pub fn note_part(
        &mut self,
        instance: usize,
        expr: Expr,
        below: &[&Tree<'_>],
        strict: &[usize],
    ) -> bool {
        let is_table = !matches!(
            self.instances[instance].source,
            Source::Derived | Source::Rows
        );
        let below = below
            .iter()
            .find(|tree| tree.instances().contains(&instance));
        let Some(below) = below.filter(|_| is_table && self.in_view == 0) else {
            return false;
        };
        let holds = strict.contains(&instance) || !nullable(below).contains(&instance);
        if holds {
            self.notes.filters.push((instance, expr));
        }
        holds
    }

    /// What arms of an OR, each a list of conditions, ask of one instance: nothing, if one of them asks nothing.
    pub fn part_of_arms(
        &self,
        arms: &[Vec<&Expr>],
        instance: usize,
        scopes: &Scopes<'_>,
    ) -> Option<Expr> {
        let is_about = |expr: &&&Expr| {
            let mut only = None;
            self.is_about_one(expr, &mut only, scopes) && only == Some(instance)
        };
        let arm = |arm: &Vec<&Expr>| {
            let about = arm.iter().filter(is_about);
            let about = about.map(|expr| Expr::Nested(Box::new((*expr).clone())));
            about.reduce(|left, right| nested(left, Op::And, right))
        };
        let arms: Vec<Expr> = arms.iter().map(arm).collect::<Option<_>>()?;
        arms.into_iter()
            .reduce(|left, right| nested(left, Op::Or, right))
    }

    /// Whether an expression is made of columns of one instance and constants, and is the same on every server.
    pub fn is_about_one(&self, expr: &Expr, only: &mut Option<usize>, scopes: &Scopes<'_>) -> bool {
        match strip(expr) {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => match self.node(expr, scopes) {
                Some((instance, _)) => *only.get_or_insert(instance) == instance,
                None => false,
            },
            Expr::Value(_) | Expr::TypedString(_) | Expr::Interval(_) => true,
            Expr::Function(function) => match self.arguments_of_harmless(function) {
                Some(arguments) => {
                    let mut arguments = arguments.into_iter();
                    arguments.all(|e| self.is_about_one(e, only, scopes))
                }
                None => false,
            },
            // What these give may depend on the version of a server's data.
            Expr::AtTimeZone { .. } | Expr::IsNormalized { .. } => false,
            other => {
                let is_about_one = |e| match self.is_about_one(e, only, scopes) {
                    true => Ok(()),
                    false => Err(()),
                };
                operands::try_each(other, is_about_one) == Ok(true)
            }
        }
    }

    /// The arguments of a plain call of a function that is the same on every server.
    fn arguments_of_harmless<'f>(&self, function: &'f Function) -> Option<Vec<&'f Expr>> {
        use sqlparser::ast::{FunctionArg, FunctionArgExpr, FunctionArguments};
        let parts: Vec<String> = function
            .name
            .0
            .iter()
            .map(|p| p.as_ident().map(folded))
            .collect::<Option<_>>()?;
        let (schema, name) = match parts.as_slice() {
            [name] => (None, name.as_str()),
            [schema, name] => (Some(schema.as_str()), name.as_str()),
            _ => return None,
        };
        let plain = function.over.is_none()
            && function.filter.is_none()
            && function.within_group.is_empty()
            && functions::call(self.names, schema, name) == Call::Harmless
            && !functions::is_aggregate(self.names, schema, name);
        let FunctionArguments::List(list) = &function.args else {
            return None;
        };
        if !plain || list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
            return None;
        }
        let one = |arg: &'f FunctionArg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        };
        list.args.iter().map(one).collect()
    }
}

fn nested(left: Expr, op: Op, right: Expr) -> Expr {
    let (left, right) = (Box::new(left), Box::new(right));
    Expr::Nested(Box::new(Expr::BinaryOp { left, op, right }))
}

/// Where the first name of a condition stands.
pub fn first_name(expr: &Expr) -> Option<Location> {
    let mut first = None;
    any_expr(expr, |expr| {
        first = match expr {
            Expr::Identifier(ident) => Some(ident),
            Expr::CompoundIdentifier(parts) => parts.first(),
            _ => None,
        }
        .map(|ident| ident.span.start);
        first.is_some()
    });
    first
}

/// The instances that outer joins may leave without a row.
fn nullable(tree: &Tree<'_>) -> Vec<usize> {
    match tree {
        Tree::Leaf(_) => Vec::new(),
        Tree::Join {
            kind, left, right, ..
        } => {
            let side = |tree: &Tree<'_>, all: bool| {
                if all {
                    tree.instances()
                } else {
                    nullable(tree)
                }
            };
            let mut found = side(left, *kind == Kind::Full);
            found.extend(side(right, *kind != Kind::Inner));
            found
        }
    }
}
