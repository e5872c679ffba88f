//! SELECT: its clauses in the order in which PostgreSQL gives names to them,
//! and the columns that come out.

use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, NamedWindowExpr, OrderByExpr, Select, SelectItem,
    SelectItemQualifiedWildcardKind,
};

use crate::dialect;
use crate::expr::{ExprContext, Level, strip};
use crate::gather::notes;
use crate::grammar::grouped;
use crate::misread;
use crate::names::folded;
use crate::refuse::{Reason, Refusal, not_understood, refuse};
use crate::scope::{Analysis, Node, Scope, Scopes};

use super::from::{From, Tree};
use super::with::Ctes;
use super::{Open, OutColumn, Output, common_type};

impl<'n> Analysis<'n> {
    pub(super) fn select<'q>(
        &mut self,
        select: &'q Select,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
        order: &'q [OrderByExpr],
    ) -> Result<Output, Refusal> {
        if !dialect::knows_select(select) {
            return not_understood();
        }
        if select.into.is_some() {
            return refuse(Reason::CreateFromSharded);
        }
        let first = self.instances.len();
        let around = (
            std::mem::replace(&mut self.outermost_read, usize::MAX),
            std::mem::take(&mut self.unordered_below),
        );
        let from = self.from(&select.from, outer, ctes)?;
        let mut level = Level::default();
        let mut here = from.here(outer, ctes, &mut level);
        if let Some(condition) = &select.selection {
            self.walk(condition, &mut here)?;
        }
        let from_obstacle = self.conditions(&from, select.selection.as_ref(), &here.scopes);
        let apart = from_obstacle.is_none()
            && from.obstacle.is_none()
            && here.level.unmovable_subquery.is_none();
        let below = first..self.instances.len();

        let grouped = self.grouping(select, &mut here)?;
        for window in &select.named_window {
            self.ident(&window.0);
            match &window.1 {
                NamedWindowExpr::NamedWindow(name) => drop(self.ident(name)),
                NamedWindowExpr::WindowSpec(spec) => self.window(spec, &mut here)?,
            }
        }
        let distinct_on = match &select.distinct {
            Some(Distinct::On(list)) => {
                for expr in list {
                    self.walk(expr, &mut here)?;
                }
                true
            }
            _ => false,
        };
        let (columns, complete) = self.projection(&select.projection, &from, &mut here)?;
        // An output name in ORDER BY is no column, but its parts have been walked already.
        self.order(order, &mut here)?;

        let instances = from.tree.as_ref().map(Tree::instances).unwrap_or_default();
        let in_from = instances.iter().any(|i| self.reads_sharded(*i));
        if self.in_view == 0 {
            self.notes.levels.push(notes::Level {
                place: select.select_token.0.span.start,
                apart: apart && in_from,
                instances: below,
                scope: from.scope.clone(),
                star: from.complete.then(|| from.star.clone()),
                aggregates: here.level.aggregates || !matches!(grouped, Grouped::No),
                windows: here.level.windows || !select.named_window.is_empty(),
            });
        }
        let sharded = in_from
            || here
                .level
                .unmovable_subquery
                .as_ref()
                .is_some_and(|r| r.reason == Reason::Subquery);
        let local = self.locality(
            select,
            &here,
            from_obstacle.or_else(|| from.obstacle.clone()),
            in_from,
        );
        let below = from.obstacle.clone().filter(|_| !in_from);
        let inherited = here.level.unmovable_subquery.clone().or(below);
        let inherited = inherited.filter(|r| r.reason != Reason::Subquery);
        let unordered = match () {
            () if in_from => None,
            () if here.level.unordered || self.unordered_below => Some(Reason::Aggregate),
            () if here.level.windows || !select.named_window.is_empty() => Some(Reason::Window),
            () => None,
        };
        // What is computed for each row of a query around it may come in any order in PostgreSQL, too.
        let for_each_row = self.outermost_read < first;
        let unstable = match () {
            () if distinct_on => Some(Refusal::new(Reason::Distinct)),
            () if inherited.is_some() || for_each_row => inherited,
            () => unordered.map(Refusal::new),
        };
        if unstable.is_some() && !in_from {
            self.note_unordered();
        }
        self.outermost_read = around.0.min(self.outermost_read);
        self.unordered_below = around.1 || (for_each_row && unordered.is_some());
        let open = match (grouped, distinct_on, here.level.windows) {
            (Grouped::No, false, false) if !here.level.aggregates => Open::All,
            (Grouped::By(nodes), false, false) => Open::Only(nodes),
            _ => Open::None,
        };
        Ok(Output {
            columns,
            complete,
            sharded,
            local,
            unstable,
            open,
            first_instance: 0,
        })
    }

    fn grouping(
        &mut self,
        select: &Select,
        here: &mut ExprContext<'_>,
    ) -> Result<Grouped, Refusal> {
        let (exprs, modifiers) = match &select.group_by {
            GroupByExpr::All(_) => return not_understood(),
            GroupByExpr::Expressions(exprs, modifiers) => (grouped(exprs).0, modifiers),
        };
        if !modifiers.is_empty() {
            return not_understood();
        }
        let mut nodes = Vec::new();
        let mut plain = true;
        for expr in exprs {
            self.walk(expr, here)?;
            // A column name in GROUP BY means the input column first, as here.
            nodes.extend(self.node(expr, &here.scopes));
            plain &= !matches!(
                strip(expr),
                Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_)
            );
        }
        if let Some(having) = &select.having {
            self.walk(having, here)?;
        }
        if plain && !nodes.is_empty() && self.in_view == 0 {
            let place = select.select_token.0.span.start;
            self.notes.groups.push((place, nodes.clone()));
        }
        Ok(match (exprs.is_empty(), plain) {
            (true, _) if select.having.is_none() => Grouped::No,
            (false, true) => Grouped::By(nodes),
            _ => Grouped::Otherwise,
        })
    }

    /// The select list or a RETURNING list.
    pub fn projection<'q>(
        &mut self,
        items: &'q [SelectItem],
        from: &From<'q>,
        here: &mut ExprContext<'_>,
    ) -> Result<(Vec<OutColumn>, bool), Refusal> {
        let mut columns = Vec::new();
        let mut complete = true;
        for item in items {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    self.walk(expr, here)?;
                    columns.push(self.out_column(expr, None, &here.scopes));
                }
                SelectItem::ExprWithAlias { expr, alias } if misread::is_name(alias) => {
                    self.walk(expr, here)?;
                    let name = self.ident(alias);
                    columns.push(self.out_column(expr, Some(name), &here.scopes));
                }
                SelectItem::Wildcard(options) if dialect::knows_wildcard(options) => {
                    if self.notes.existence.last() == Some(&self.depth) {
                        let entries = here.scopes.scope.entries.iter();
                        self.notes
                            .unseen_stars
                            .extend(entries.map(|entry| entry.instance));
                    } else {
                        self.notes.stars = true;
                    }
                    columns.extend(from.star.iter().cloned());
                    complete &= from.complete;
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    options,
                ) if dialect::knows_wildcard(options) => {
                    self.notes.stars = true;
                    let parts = self.object_name(name);
                    match self.qualified_star(&parts, here.scopes.scope) {
                        Some(instance) => {
                            complete &= self.instances[instance].complete;
                            columns.extend(self.star_of(instance));
                        }
                        None => complete = false,
                    }
                }
                _ => return not_understood(),
            }
        }
        // An aggregate level with a node as output: the node is a group key or PostgreSQL refuses.
        Ok((columns, complete))
    }

    fn qualified_star(&self, parts: &[String], scope: &Scope) -> Option<usize> {
        let alias = parts.last()?;
        let mut meant = scope.entries.iter().filter(|e| e.alias == *alias);
        let first = meant.next()?;
        meant.next().is_none().then_some(first.instance)
    }

    fn out_column(&self, expr: &Expr, alias: Option<String>, scopes: &Scopes<'_>) -> OutColumn {
        let node = self.node(expr, scopes);
        let own_name = || match strip(expr) {
            Expr::Identifier(i) => folded(i),
            Expr::CompoundIdentifier(parts) => parts.last().map(folded).unwrap_or_default(),
            _ => "?column?".to_owned(),
        };
        let constants = self.scalar(expr).map(|s| vec![s]);
        let constant_type = constants.as_deref().and_then(common_type);
        OutColumn {
            name: alias.unwrap_or_else(own_name),
            node,
            key_type: node.and_then(|n| self.key_type(n)).or(constant_type),
            constants: constants.filter(|_| constant_type.is_some()),
        }
    }
}

/// What GROUP BY says.
enum Grouped {
    /// Nothing, and there is no HAVING.
    No,
    /// Plain expressions, the columns among them.
    By(Vec<Node>),
    Otherwise,
}
