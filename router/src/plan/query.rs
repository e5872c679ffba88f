//! Queries: FROM clauses become instances, conditions become facts and links.
//!
//! `query` walks one query with all below it and says what its rows are: the
//! columns they come from, whether conditions from above may be passed down,
//! and whether each shard may compute its own rows (`Local`). The reasons why a
//! condition may be recorded stand at each place; where outer joins forbid it, it is not.

use std::cell::Cell;
use std::rc::Rc;

use mothership_shardmap::KeyType;
use sqlparser::ast::{
    BinaryOperator as Op, Cte, Distinct, Expr, GroupByExpr, Ident, Join, JoinConstraint,
    JoinOperator, LimitClause, NamedWindowExpr, ObjectName, OrderByKind, Query, Select,
    SelectFlavor, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement, TableAlias,
    TableFactor, TableWithJoins, UnaryOperator, Values, WildcardAdditionalOptions,
};

use crate::catalog::{Persistence, Relation, RelationKind};

use super::condition::{Cond, Item, Scalar};
use super::expr::{Level, chain, strip};
use super::functions::{self, Call};
use super::merge::{self, AggregateMerge};
use super::names::{Place, Resolved};
use super::refuse::{Reason, Refusal};
use super::scope::{Analysis, ColumnInfo, Entry, Instance, Link, Node, Scope, Scopes, Source};

/// Queries may nest this deep; the parser has a limit of its own, but views nest outside of it.
const MAX_DEPTH: u32 = 40;

/// The CTEs that are visible somewhere, innermost first.
#[derive(Clone, Default)]
pub struct Ctes<'q>(Option<Rc<CteNode<'q>>>);

struct CteNode<'q> {
    name: String,
    body: CteBody<'q>,
    used: Cell<bool>,
    outer: Ctes<'q>,
}

enum CteBody<'q> {
    /// A plain query: each reference is walked like a derived table.
    Inline(&'q Cte),
    /// Recursive or data-modifying: walked once; its references say nothing.
    Opaque,
}

impl<'q> Ctes<'q> {
    fn with(&self, name: String, body: CteBody<'q>) -> Ctes<'q> {
        Ctes(Some(Rc::new(CteNode {
            name,
            body,
            used: Cell::new(false),
            outer: self.clone(),
        })))
    }

    fn find(&self, name: &str) -> Option<&Rc<CteNode<'q>>> {
        let mut at = self.0.as_ref();
        while let Some(node) = at {
            if node.name == name {
                return Some(node);
            }
            at = node.outer.0.as_ref();
        }
        None
    }
}

/// Whether each shard may compute its own rows of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    /// The rows of all shards together are the rows of the query.
    Rows,
    /// One row of aggregates, merged column by column.
    Aggregates(Vec<AggregateMerge>),
    /// No, for this reason.
    No(Refusal),
}

/// Which output columns pass conditions from above down to their sources.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Open {
    All,
    Only(Vec<Node>),
    None,
}

/// The result of walking a query.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its columns in order.
    pub columns: Vec<OutColumn>,
    /// Whether `columns` are all of them.
    pub complete: bool,
    /// Whether a sharded table is read anywhere in it.
    pub sharded: bool,
    /// Whether shards may compute it separately. Meaningful only if `sharded`.
    pub local: Local,
    /// Whether it could differ between shards though it reads no sharded table.
    pub unstable: Option<Refusal>,
    open: Open,
    /// The first instance of its own: columns of earlier ones come from queries around it.
    first_instance: usize,
}

/// An output column.
#[derive(Debug, Clone)]
pub struct OutColumn {
    /// Its name.
    pub name: String,
    /// The column it shows unchanged.
    pub node: Option<Node>,
    /// The constants it shows, one for each row of a VALUES list.
    pub constants: Option<Vec<Scalar>>,
    /// Its type, if it can be a key and is certain.
    pub key_type: Option<KeyType>,
}

/// A FROM clause as a tree of joins.
#[derive(Debug)]
pub enum Tree<'q> {
    /// One entry.
    Leaf(usize),
    /// A join.
    Join {
        /// Inner, left or full; right joins are turned around.
        kind: Kind,
        /// The preserved side of a left join.
        left: Box<Tree<'q>>,
        /// The other side.
        right: Box<Tree<'q>>,
        /// ON.
        on: Option<&'q Expr>,
        /// The columns of USING, left and right.
        pairs: Vec<(Node, Node)>,
    },
}

/// The kinds of joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Both sides match.
    Inner,
    /// The left side is preserved.
    Left,
    /// Both are.
    Full,
}

impl Tree<'_> {
    /// The instances below.
    pub fn instances(&self) -> Vec<usize> {
        let mut found = Vec::new();
        let mut open = vec![self];
        while let Some(tree) = open.pop() {
            match tree {
                Tree::Leaf(instance) => found.push(*instance),
                Tree::Join { left, right, .. } => {
                    open.push(right);
                    open.push(left);
                }
            }
        }
        found
    }
}

/// A FROM clause that has been walked.
#[derive(Debug, Default)]
pub struct From<'q> {
    /// The joins, None without FROM.
    pub tree: Option<Tree<'q>>,
    /// What expressions may refer to.
    pub scope: Scope,
    /// The columns of `*`, in order.
    pub star: Vec<OutColumn>,
    /// Whether `star` is complete.
    pub complete: bool,
    /// Why the shards cannot compute parts of it separately.
    pub obstacle: Option<Refusal>,
}

impl Output {
    fn opaque() -> Output {
        Output {
            columns: Vec::new(),
            complete: false,
            sharded: false,
            local: Local::Rows,
            unstable: None,
            open: Open::None,
            first_instance: 0,
        }
    }
}

impl<'n> Analysis<'n> {
    /// Walks a query with everything below it.
    pub fn query<'q>(
        &mut self,
        query: &'q Query,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
    ) -> Result<Output, Refusal> {
        if self.depth >= MAX_DEPTH {
            return Err(Refusal::new(Reason::TooComplex));
        }
        self.depth += 1;
        let first_instance = self.instances.len();
        let output = self.query_inner(query, outer, ctes);
        self.depth -= 1;
        output.map(|output| Output {
            first_instance,
            ..output
        })
    }

    fn query_inner<'q>(
        &mut self,
        query: &'q Query,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
    ) -> Result<Output, Refusal> {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        if for_clause.is_some()
            || settings.is_some()
            || format_clause.is_some()
            || !pipe_operators.is_empty()
        {
            return Err(Refusal::new(Reason::NotUnderstood));
        }
        let mut ctes = ctes.clone();
        let mut defined = Vec::new();
        if let Some(with) = with {
            for cte in &with.cte_tables {
                ctes = self.define(cte, with.recursive, outer, &ctes)?;
                defined.extend(ctes.0.clone());
            }
        }
        let order: &[_] = match order_by {
            None => &[],
            Some(order) => match &order.kind {
                OrderByKind::Expressions(list) if order.interpolate.is_none() => list,
                _ => return Err(Refusal::new(Reason::NotUnderstood)),
            },
        };
        let mut output = self.body(body, outer, &ctes, order)?;
        for node in defined {
            // PostgreSQL checks an unused CTE, though it does not run it.
            if let CteBody::Inline(cte) = &node.body
                && !node.used.get()
            {
                let before = self.instances.len();
                self.query(&cte.query, outer, &node.outer)?;
                for instance in &mut self.instances[before..] {
                    // Tables of the home shard must still be there for the check.
                    if matches!(instance.source, Source::Sharded(..)) {
                        instance.source = Source::Derived;
                    }
                }
            }
        }
        let empty = Scope::default();
        let scopes = Scopes {
            scope: &empty,
            outer,
        };
        let mut level = Level::default();
        let limited = self.limits(
            limit_clause.as_ref(),
            fetch.as_ref(),
            &scopes,
            &ctes,
            &mut level,
        )?;
        if !order.is_empty() && output.sharded {
            output.local = Local::No(first(&output.local, Reason::OrderBy));
        }
        if limited {
            output.local = Local::No(first(&output.local, Reason::Limit));
            output.unstable = Some(Refusal::new(Reason::Limit));
            output.open = Open::None;
        }
        if !locks.is_empty() {
            for lock in locks {
                lock.of.iter().for_each(|name| drop(self.object_name(name)));
            }
            self.seen.locks = true;
            output.local = Local::No(first(&output.local, Reason::Locking));
            output.open = Open::None;
        }
        if let Some(refusal) = level.unmovable_subquery {
            output.local = Local::No(refusal);
        }
        Ok(output)
    }

    /// LIMIT, OFFSET and FETCH; whether there is any but LIMIT ALL.
    fn limits<'q>(
        &mut self,
        limit: Option<&'q LimitClause>,
        fetch: Option<&'q sqlparser::ast::Fetch>,
        scopes: &Scopes<'_>,
        ctes: &Ctes<'q>,
        level: &mut Level,
    ) -> Result<bool, Refusal> {
        let mut limited = false;
        match limit {
            None => {}
            Some(LimitClause::LimitOffset {
                limit,
                offset,
                limit_by,
            }) if limit_by.is_empty() => {
                for expr in limit.iter().chain(offset.as_ref().map(|o| &o.value)) {
                    self.walk(expr, scopes, ctes, level)?;
                    limited = true;
                }
            }
            Some(_) => return Err(Refusal::new(Reason::NotUnderstood)),
        }
        if let Some(fetch) = fetch {
            if fetch.percent {
                return Err(Refusal::new(Reason::NotUnderstood));
            }
            if let Some(expr) = &fetch.quantity {
                self.walk(expr, scopes, ctes, level)?;
            }
            limited = true;
        }
        Ok(limited)
    }

    /// Makes a CTE visible.
    fn define<'q>(
        &mut self,
        cte: &'q Cte,
        recursive: bool,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
    ) -> Result<Ctes<'q>, Refusal> {
        if cte.from.is_some() {
            return Err(Refusal::new(Reason::NotUnderstood));
        }
        let name = self.ident(&cte.alias.name);
        for column in &cte.alias.columns {
            self.ident(&column.name);
        }
        if matches!(
            *cte.query.body,
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_)
        ) {
            self.seen.writes = true;
            self.query(&cte.query, outer, ctes)?;
            return Ok(ctes.with(name, CteBody::Opaque));
        }
        if recursive {
            let before = (self.instances.len(), self.facts.len(), self.links.len());
            let inner = ctes.with(name.clone(), CteBody::Opaque);
            let output = self.query(&cte.query, outer, &inner)?;
            if inner.0.as_ref().is_some_and(|node| node.used.get()) {
                let _ = output;
                return Ok(ctes.with(name, CteBody::Opaque));
            }
            // RECURSIVE was said of another one. Each reference walks it again.
            self.instances.truncate(before.0);
            self.facts.truncate(before.1);
            self.links.truncate(before.2);
            self.sharded_below.retain(|instance| *instance < before.0);
        }
        Ok(ctes.with(name, CteBody::Inline(cte)))
    }

    fn body<'q>(
        &mut self,
        body: &'q SetExpr,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
        order: &'q [sqlparser::ast::OrderByExpr],
    ) -> Result<Output, Refusal> {
        match body {
            SetExpr::Select(select) => self.select(select, outer, ctes, order),
            SetExpr::Query(query) => {
                let output = self.query(query, outer, ctes)?;
                self.outer_order(order, &output, outer, ctes)?;
                Ok(output)
            }
            SetExpr::SetOperation { .. } => self.set_operation(body, outer, ctes, order),
            SetExpr::Values(values) => self.values(values, outer, ctes, order),
            // The parser takes three tokens after TABLE, whatever they are; it is not given any.
            SetExpr::Table(_) => Err(Refusal::new(Reason::NotUnderstood)),
            SetExpr::Insert(Statement::Insert(_))
            | SetExpr::Update(_)
            | SetExpr::Delete(_)
            | SetExpr::Merge(_)
            | SetExpr::Insert(_) => {
                self.seen.writes = true;
                self.nested_write(body, ctes)?;
                Ok(Output::opaque())
            }
        }
    }

    /// ORDER BY over something whose columns are only known by name.
    fn outer_order<'q>(
        &mut self,
        order: &'q [sqlparser::ast::OrderByExpr],
        _output: &Output,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
    ) -> Result<(), Refusal> {
        let empty = Scope::default();
        let scopes = Scopes {
            scope: &empty,
            outer,
        };
        self.order(order, &scopes, ctes, &mut Level::default())
    }

    /// UNION, INTERSECT, EXCEPT: chains of them are walked without recursion.
    fn set_operation<'q>(
        &mut self,
        body: &'q SetExpr,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
        order: &'q [sqlparser::ast::OrderByExpr],
    ) -> Result<Output, Refusal> {
        let mut arms = Vec::new();
        let mut open = vec![body];
        while let Some(at) = open.pop() {
            match at {
                SetExpr::SetOperation { left, right, .. } => {
                    open.push(right);
                    open.push(left);
                }
                arm => arms.push(arm),
            }
        }
        let mut result: Option<Output> = None;
        for arm in arms {
            let output = self.body(arm, outer, ctes, &[])?;
            result = Some(match result {
                None => output,
                Some(mut so_far) => {
                    so_far.sharded |= output.sharded;
                    so_far.unstable = so_far.unstable.or(output.unstable);
                    so_far
                }
            });
        }
        let mut output = result.unwrap_or_else(Output::opaque);
        self.outer_order(order, &output, outer, ctes)?;
        for column in &mut output.columns {
            (column.node, column.constants, column.key_type) = (None, None, None);
        }
        output.local = Local::No(Refusal::new(Reason::SetOperation));
        output.open = Open::None;
        Ok(output)
    }

    fn values<'q>(
        &mut self,
        values: &'q Values,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
        order: &'q [sqlparser::ast::OrderByExpr],
    ) -> Result<Output, Refusal> {
        if values.explicit_row {
            return Err(Refusal::new(Reason::NotUnderstood));
        }
        let empty = Scope::default();
        let scopes = Scopes {
            scope: &empty,
            outer,
        };
        let mut level = Level::default();
        for row in &values.rows {
            for expr in &row.content {
                self.walk(expr, &scopes, ctes, &mut level)?;
            }
        }
        self.order(order, &scopes, ctes, &mut level)?;
        let width = values.rows.first().map_or(0, |row| row.content.len());
        let columns = (0..width)
            .map(|position| {
                let constants: Option<Vec<Scalar>> = values
                    .rows
                    .iter()
                    .map(|row| self.scalar(row.content.get(position)?))
                    .collect();
                let key_type = constants.as_deref().and_then(common_type);
                OutColumn {
                    name: format!("column{}", position + 1),
                    node: None,
                    constants: constants.filter(|_| key_type.is_some()),
                    key_type,
                }
            })
            .collect();
        Ok(Output {
            columns,
            complete: true,
            sharded: level.unmovable_subquery.is_some(),
            local: match level.unmovable_subquery {
                Some(refusal) => Local::No(refusal),
                None => Local::Rows,
            },
            unstable: None,
            open: Open::None,
            first_instance: 0,
        })
    }

    // ---- SELECT

    fn select<'q>(
        &mut self,
        select: &'q Select,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
        order: &'q [sqlparser::ast::OrderByExpr],
    ) -> Result<Output, Refusal> {
        if !is_postgres(select) {
            return Err(Refusal::new(Reason::NotUnderstood));
        }
        if select.into.is_some() {
            return Err(Refusal::new(Reason::CreateFromSharded));
        }
        let from = self.from(&select.from, outer, ctes)?;
        let scopes = Scopes {
            scope: &from.scope,
            outer,
        };
        let mut level = Level::default();
        if let Some(condition) = &select.selection {
            self.walk(condition, &scopes, ctes, &mut level)?;
        }
        let from_obstacle = self.conditions(&from, select.selection.as_ref(), &scopes);

        let grouped = self.grouping(select, &scopes, ctes, &mut level)?;
        let mut windows: Vec<&sqlparser::ast::WindowSpec> = Vec::new();
        for window in &select.named_window {
            self.ident(&window.0);
            match &window.1 {
                NamedWindowExpr::NamedWindow(name) => drop(self.ident(name)),
                NamedWindowExpr::WindowSpec(spec) => {
                    self.window(spec, &scopes, ctes, &mut level)?;
                    windows.push(spec);
                }
            }
        }
        let distinct_on = match &select.distinct {
            Some(Distinct::On(list)) => {
                for expr in list {
                    self.walk(expr, &scopes, ctes, &mut level)?;
                }
                true
            }
            _ => false,
        };
        let (columns, complete) =
            self.projection(&select.projection, &from, &scopes, ctes, &mut level)?;
        // An output name in ORDER BY is no column, but its parts have been walked already.
        self.order(order, &scopes, ctes, &mut level)?;

        let instances = from.tree.as_ref().map(Tree::instances).unwrap_or_default();
        let in_from = instances.iter().any(|i| self.reads_sharded(*i));
        let sharded = in_from
            || level
                .unmovable_subquery
                .as_ref()
                .is_some_and(|r| r.reason == Reason::Subquery);
        let distinct = matches!(select.distinct, Some(Distinct::Distinct));
        let local = self.locality(
            select,
            &level,
            from_obstacle.or(from.obstacle),
            in_from,
            &scopes,
        );
        let unstable = if distinct_on {
            Some(Refusal::new(Reason::Distinct))
        } else {
            level
                .unmovable_subquery
                .clone()
                .filter(|r| r.reason != Reason::Subquery)
        };
        let open = match (&grouped, distinct, distinct_on, level.windows) {
            (Grouped::No, _, false, false) if !level.aggregates => Open::All,
            (Grouped::By(nodes), _, false, false) => Open::Only(nodes.clone()),
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

    /// Whether the shards may compute a SELECT separately, and what merges their rows.
    fn locality(
        &self,
        select: &Select,
        level: &Level,
        from_obstacle: Option<Refusal>,
        sharded_from: bool,
        scopes: &Scopes<'_>,
    ) -> Local {
        let no = |reason| Local::No(Refusal::new(reason));
        if let Some(refusal) = level.unmovable_subquery.clone() {
            return Local::No(refusal);
        }
        if let Some(refusal) = from_obstacle {
            return Local::No(refusal);
        }
        let group_by = !matches!(&select.group_by, GroupByExpr::Expressions(e, m) if e.is_empty() && m.is_empty());
        if !sharded_from {
            return Local::Rows;
        }
        if level.windows || !select.named_window.is_empty() {
            return no(Reason::Window);
        }
        if group_by || select.having.is_some() {
            return no(Reason::GroupBy);
        }
        if matches!(select.distinct, Some(Distinct::Distinct | Distinct::On(_))) {
            return no(Reason::Distinct);
        }
        if level.aggregates {
            return match merge::aggregates(self, &select.projection, scopes) {
                Some(merges) => Local::Aggregates(merges),
                None => no(Reason::Aggregate),
            };
        }
        Local::Rows
    }

    fn grouping<'q>(
        &mut self,
        select: &'q Select,
        scopes: &Scopes<'_>,
        ctes: &Ctes<'q>,
        level: &mut Level,
    ) -> Result<Grouped, Refusal> {
        let (exprs, modifiers) = match &select.group_by {
            GroupByExpr::All(_) => return Err(Refusal::new(Reason::NotUnderstood)),
            GroupByExpr::Expressions(exprs, modifiers) => (exprs, modifiers),
        };
        if !modifiers.is_empty() {
            return Err(Refusal::new(Reason::NotUnderstood));
        }
        let mut nodes = Vec::new();
        let mut plain = true;
        for expr in exprs {
            self.walk(expr, scopes, ctes, level)?;
            // A column name in GROUP BY means the input column first, as here.
            nodes.extend(self.node(expr, scopes));
            plain &= !matches!(
                strip(expr),
                Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_)
            );
        }
        if let Some(having) = &select.having {
            self.walk(having, scopes, ctes, level)?;
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
        scopes: &Scopes<'_>,
        ctes: &Ctes<'q>,
        level: &mut Level,
    ) -> Result<(Vec<OutColumn>, bool), Refusal> {
        let mut columns = Vec::new();
        let mut complete = true;
        for item in items {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    self.walk(expr, scopes, ctes, level)?;
                    columns.push(self.out_column(expr, None, scopes));
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    self.walk(expr, scopes, ctes, level)?;
                    let name = self.ident(alias);
                    columns.push(self.out_column(expr, Some(name), scopes));
                }
                SelectItem::Wildcard(options) if plain_wildcard(options) => {
                    columns.extend(from.star.iter().cloned());
                    complete &= from.complete;
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    options,
                ) if plain_wildcard(options) => {
                    let parts = self.object_name(name);
                    match self.qualified_star(&parts, scopes.scope) {
                        Some(instance) => {
                            complete &= self.instances[instance].complete;
                            columns.extend(self.star_of(instance));
                        }
                        None => complete = false,
                    }
                }
                _ => return Err(Refusal::new(Reason::NotUnderstood)),
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
            Expr::Identifier(i) => super::names::fold(&i.value, i.quote_style.is_some()),
            Expr::CompoundIdentifier(parts) => parts
                .last()
                .map(|i| super::names::fold(&i.value, i.quote_style.is_some()))
                .unwrap_or_default(),
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

    // ---- FROM

    /// Walks a FROM list.
    pub fn from<'q>(
        &mut self,
        list: &'q [TableWithJoins],
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
    ) -> Result<From<'q>, Refusal> {
        let mut from = From {
            complete: true,
            ..From::default()
        };
        for table in list {
            let (tree, star) = self.joins(table, &mut from, outer, ctes)?;
            from.star.extend(star);
            from.tree = Some(match from.tree.take() {
                None => tree,
                Some(left) => Tree::Join {
                    kind: Kind::Inner,
                    left: Box::new(left),
                    right: Box::new(tree),
                    on: None,
                    pairs: Vec::new(),
                },
            });
        }
        Ok(from)
    }

    fn joins<'q>(
        &mut self,
        table: &'q TableWithJoins,
        from: &mut From<'q>,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
    ) -> Result<(Tree<'q>, Vec<OutColumn>), Refusal> {
        let (mut tree, mut star) = self.factor(&table.relation, from, outer, ctes)?;
        for Join {
            relation,
            global,
            join_operator,
        } in &table.joins
        {
            if *global {
                return Err(Refusal::new(Reason::NotUnderstood));
            }
            let (right, right_star) = self.factor(relation, from, outer, ctes)?;
            let (kind, turned, constraint) = join_kind(join_operator)?;
            let (on, pairs) =
                self.constraint(constraint, kind, turned, &mut star, right_star, from)?;
            if let Some(on) = on {
                let scopes = Scopes {
                    scope: &from.scope,
                    outer,
                };
                let mut level = Level::default();
                self.walk(on, &scopes, ctes, &mut level)?;
                from.obstacle = from.obstacle.take().or(level.unmovable_subquery);
            }
            let (left, right) = if turned { (right, tree) } else { (tree, right) };
            tree = Tree::Join {
                kind,
                left: Box::new(left),
                right: Box::new(right),
                on,
                pairs,
            };
        }
        Ok((tree, star))
    }

    /// ON or USING; `star` becomes the columns of the whole join.
    #[allow(clippy::type_complexity)]
    fn constraint<'q>(
        &mut self,
        constraint: &'q JoinConstraint,
        kind: Kind,
        turned: bool,
        star: &mut Vec<OutColumn>,
        right: Vec<OutColumn>,
        from: &mut From<'q>,
    ) -> Result<(Option<&'q Expr>, Vec<(Node, Node)>), Refusal> {
        let names: Vec<String> = match constraint {
            JoinConstraint::On(expr) => {
                star.extend(right);
                return Ok((Some(expr), Vec::new()));
            }
            JoinConstraint::None => {
                star.extend(right);
                return Ok((None, Vec::new()));
            }
            JoinConstraint::Using(names) => names
                .iter()
                .map(|name| self.object_name(name).pop().unwrap_or_default())
                .collect(),
            JoinConstraint::Natural => {
                if !from.complete {
                    return Err(Refusal::new(Reason::NotUnderstood));
                }
                star.iter()
                    .filter(|l| right.iter().any(|r| r.name == l.name))
                    .map(|c| c.name.clone())
                    .collect()
            }
        };
        let mut pairs = Vec::new();
        let mut merged = Vec::new();
        for name in &names {
            let one = |columns: &[OutColumn]| {
                let mut same = columns.iter().filter(|c| c.name == *name);
                let found = same.next().cloned();
                found.filter(|_| same.next().is_none())
            };
            let (Some(l), Some(r)) = (one(star), one(&right)) else {
                // An unknown column, or one that PostgreSQL will call ambiguous.
                from.scope.merged.push((name.clone(), None));
                continue;
            };
            if let (Some(a), Some(b)) = (l.node, r.node) {
                pairs.push((a, b));
            }
            // The merged column is the preserved side's; of a full join it is neither.
            let shown = match (kind, turned) {
                (Kind::Full, _) => OutColumn {
                    node: None,
                    constants: None,
                    key_type: None,
                    ..l
                },
                (_, true) => r,
                (_, false) => l,
            };
            from.scope.merged.retain(|(known, _)| known != name);
            from.scope.merged.push((name.clone(), shown.node));
            merged.push(shown);
        }
        let rest = |columns: Vec<OutColumn>| {
            columns
                .into_iter()
                .filter(|c| !names.contains(&c.name))
                .collect::<Vec<_>>()
        };
        let left = rest(std::mem::take(star));
        star.extend(merged);
        star.extend(left);
        star.extend(rest(right));
        Ok((None, pairs))
    }

    /// One entry of a FROM clause.
    pub fn factor<'q>(
        &mut self,
        factor: &'q TableFactor,
        from: &mut From<'q>,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
    ) -> Result<(Tree<'q>, Vec<OutColumn>), Refusal> {
        let instance = match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                if !with_hints.is_empty()
                    || version.is_some()
                    || !partitions.is_empty()
                    || json_path.is_some()
                    || !index_hints.is_empty()
                {
                    return Err(Refusal::new(Reason::NotUnderstood));
                }
                if let Some(args) = args {
                    if args.settings.is_some() || sample.is_some() {
                        return Err(Refusal::new(Reason::NotUnderstood));
                    }
                    self.table_function(name, &args.args, from, outer, ctes)?;
                    let _ = with_ordinality;
                    self.rows(alias.as_ref(), name)?
                } else {
                    if sample.is_some() {
                        // A sample of each shard is not a sample of the whole.
                        from.obstacle = Some(Refusal::new(Reason::NotUnderstood));
                        self.sampled(sample.as_ref(), outer, ctes)?;
                    }
                    return self.named_table(name, alias.as_ref(), from, ctes);
                }
            }
            TableFactor::Derived {
                lateral,
                subquery,
                alias,
                sample: None,
            } => {
                return self.derived_table(*lateral, subquery, alias.as_ref(), from, outer, ctes);
            }
            TableFactor::Function {
                lateral: _,
                name,
                args,
                with_ordinality: _,
                alias,
            } => {
                self.table_function(name, args, from, outer, ctes)?;
                self.rows(alias.as_ref(), name)?
            }
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset: false,
                with_offset_alias: None,
                ..
            } => {
                let scopes = Scopes {
                    scope: &from.scope,
                    outer,
                };
                let mut level = Level::default();
                for expr in array_exprs {
                    self.walk(expr, &scopes, ctes, &mut level)?;
                }
                from.obstacle = from.obstacle.take().or(level.unmovable_subquery);
                let name = ObjectName::from(vec![Ident::new("unnest")]);
                self.rows(alias.as_ref(), &name)?
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias: None,
            } => {
                return self.joins(table_with_joins, from, outer, ctes);
            }
            _ => return Err(Refusal::new(Reason::NotUnderstood)),
        };
        let name = match factor {
            TableFactor::Table { alias, name, .. } | TableFactor::Function { alias, name, .. } => {
                self.alias_of(alias.as_ref(), name)
            }
            TableFactor::UNNEST {
                alias: Some(alias), ..
            } => self.ident(&alias.name),
            _ => "unnest".to_owned(),
        };
        from.complete = false;
        from.scope.entries.push(Entry {
            alias: name,
            schema: None,
            instance,
        });
        Ok((Tree::Leaf(instance), Vec::new()))
    }

    fn sampled<'q>(
        &mut self,
        sample: Option<&'q sqlparser::ast::TableSampleKind>,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
    ) -> Result<(), Refusal> {
        use sqlparser::ast::TableSampleKind as Kind;
        let Some(Kind::BeforeTableAlias(sample) | Kind::AfterTableAlias(sample)) = sample else {
            return Ok(());
        };
        let empty = Scope::default();
        let scopes = Scopes {
            scope: &empty,
            outer,
        };
        if let Some(quantity) = &sample.quantity {
            self.walk(&quantity.value, &scopes, ctes, &mut Level::default())?;
        }
        self.note(Call::Volatile, "tablesample");
        Ok(())
    }

    fn alias_of(&mut self, alias: Option<&TableAlias>, name: &ObjectName) -> String {
        match alias {
            Some(alias) => self.ident(&alias.name),
            None => self.object_name(name).pop().unwrap_or_default(),
        }
    }

    fn table_function<'q>(
        &mut self,
        name: &ObjectName,
        args: &'q [sqlparser::ast::FunctionArg],
        from: &mut From<'q>,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
    ) -> Result<(), Refusal> {
        let parts = self.object_name(name);
        let (schema, function) = match parts.as_slice() {
            [name] => (None, name.as_str()),
            [schema, name] => (Some(schema.as_str()), name.as_str()),
            _ => return Err(Refusal::new(Reason::NotUnderstood)),
        };
        self.note(functions::call(self.names, schema, function), function);
        let scopes = Scopes {
            scope: &from.scope,
            outer,
        };
        let mut level = Level::default();
        for arg in args {
            self.argument(arg, &scopes, ctes, &mut level)?;
        }
        from.obstacle = from.obstacle.take().or(level.unmovable_subquery);
        Ok(())
    }

    /// An instance without a table.
    fn rows(&mut self, alias: Option<&TableAlias>, _name: &ObjectName) -> Result<usize, Refusal> {
        let mut columns = Vec::new();
        for column in alias.iter().flat_map(|a| &a.columns) {
            columns.push(ColumnInfo {
                name: self.ident(&column.name),
                key_type: None,
            });
            if let Some(data_type) = &column.data_type {
                self.data_type(data_type)?;
            }
        }
        self.add(Instance {
            source: Source::Rows,
            columns,
            complete: false,
        })
    }

    fn named_table<'q>(
        &mut self,
        name: &'q ObjectName,
        alias: Option<&'q TableAlias>,
        from: &mut From<'q>,
        ctes: &Ctes<'q>,
    ) -> Result<(Tree<'q>, Vec<OutColumn>), Refusal> {
        // FROM ONLY t is read by the parser as a table "only" with an alias.
        if let [part] = name.0.as_slice()
            && part
                .as_ident()
                .is_some_and(|i| i.quote_style.is_none() && i.value.eq_ignore_ascii_case("only"))
        {
            return Err(Refusal::new(Reason::NotUnderstood));
        }
        let parts = self.object_name(name);
        let (instance, output) = self.table(&parts, ctes)?;
        if let Some(output) = &output {
            from.obstacle = from.obstacle.take().or_else(|| obstacle_of(output));
        }
        let schema = match (alias, parts.as_slice()) {
            (None, [.., schema, _]) => Some(schema.clone()),
            (None, [_]) => self.schema_of(instance),
            _ => None,
        };
        self.finish_entry(
            instance,
            alias,
            parts.last().cloned().unwrap_or_default(),
            schema,
            from,
        )
    }

    fn schema_of(&self, instance: usize) -> Option<String> {
        match &self.instances[instance].source {
            Source::Sharded(relation, _) | Source::Reference(relation) => {
                Some(relation.name.schema.clone())
            }
            _ => None,
        }
    }

    fn derived_table<'q>(
        &mut self,
        lateral: bool,
        subquery: &'q Query,
        alias: Option<&'q TableAlias>,
        from: &mut From<'q>,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
    ) -> Result<(Tree<'q>, Vec<OutColumn>), Refusal> {
        let output = if lateral {
            let scopes = Scopes {
                scope: &from.scope,
                outer,
            };
            self.query(subquery, Some(&scopes), ctes)?
        } else {
            self.query(subquery, outer, ctes)?
        };
        from.obstacle = from.obstacle.take().or_else(|| obstacle_of(&output));
        let instance = self.derive(&output)?;
        self.finish_entry(instance, alias, String::new(), None, from)
    }

    /// Renames columns by the alias and makes the entry visible.
    fn finish_entry<'q>(
        &mut self,
        instance: usize,
        alias: Option<&'q TableAlias>,
        own_name: String,
        schema: Option<String>,
        from: &mut From<'q>,
    ) -> Result<(Tree<'q>, Vec<OutColumn>), Refusal> {
        let mut name = own_name;
        if let Some(alias) = alias {
            if alias.at.is_some() {
                return Err(Refusal::new(Reason::NotUnderstood));
            }
            name = self.ident(&alias.name);
            for (position, column) in alias.columns.iter().enumerate() {
                let renamed = self.ident(&column.name);
                let entry = &mut self.instances[instance];
                match entry.columns.get_mut(position).filter(|_| entry.complete) {
                    Some(info) => info.name = renamed,
                    // Positions are not known: neither are the names.
                    None => {
                        entry.columns.clear();
                        entry.complete = false;
                        break;
                    }
                }
            }
        }
        from.complete &= self.instances[instance].complete;
        from.scope.entries.push(Entry {
            alias: name,
            schema,
            instance,
        });
        Ok((Tree::Leaf(instance), self.star_of(instance)))
    }

    fn star_of(&self, instance: usize) -> Vec<OutColumn> {
        let columns = self.instances[instance].columns.iter().enumerate();
        columns
            .map(|(position, column)| OutColumn {
                name: column.name.clone(),
                node: Some((instance, position)),
                constants: None,
                key_type: column.key_type,
            })
            .collect()
    }

    /// The instance of a table, view or CTE; the output of a view or CTE as well.
    fn table(
        &mut self,
        parts: &[String],
        ctes: &Ctes<'_>,
    ) -> Result<(usize, Option<Output>), Refusal> {
        if let [name] = parts
            && let Some(node) = ctes.find(name)
        {
            let node = Rc::clone(node);
            return self.cte_reference(&node);
        }
        match self.names.resolve(parts, self.context) {
            Resolved::Relation(relation, place) => self.relation(relation, place),
            Resolved::System => {
                self.seen.catalogs = true;
                let source = Source::Home(parts.join("."));
                Ok((
                    self.add(Instance {
                        source,
                        columns: Vec::new(),
                        complete: false,
                    })?,
                    None,
                ))
            }
            Resolved::Temporary => {
                let name = parts.last().cloned().unwrap_or_default();
                self.seen.not_on_replicas = true;
                let source = Source::Home(name);
                Ok((
                    self.add(Instance {
                        source,
                        columns: Vec::new(),
                        complete: false,
                    })?,
                    None,
                ))
            }
            Resolved::Unknown(name) => {
                self.seen.unknown.insert(name.clone());
                let source = Source::Home(name);
                Ok((
                    self.add(Instance {
                        source,
                        columns: Vec::new(),
                        complete: false,
                    })?,
                    None,
                ))
            }
            Resolved::Missing(name) => Err(Refusal::about(
                Reason::NotInCatalog,
                format!("table \"{}\"", name.name),
            )),
            Resolved::Unclear => Err(Refusal::about(Reason::NameUnclear, parts.join("."))),
        }
    }

    fn cte_reference(
        &mut self,
        node: &Rc<CteNode<'_>>,
    ) -> Result<(usize, Option<Output>), Refusal> {
        node.used.set(true);
        let output = match &node.body {
            CteBody::Opaque => Output {
                local: Local::No(Refusal::new(Reason::Subquery)),
                ..Output::opaque()
            },
            CteBody::Inline(cte) => {
                // A CTE sees the scopes around its WITH, but correlated ones are rare: none here
                // means that an outer column stays unknown, which is safe.
                let mut output = self.query(&cte.query, None, &node.outer)?;
                for (position, column) in cte.alias.columns.iter().enumerate() {
                    if !output.complete {
                        output.columns.clear();
                        break;
                    }
                    if let Some(out) = output.columns.get_mut(position) {
                        let ident = &column.name;
                        out.name = super::names::fold(&ident.value, ident.quote_style.is_some());
                    }
                }
                output
            }
        };
        Ok((self.derive(&output)?, Some(output)))
    }

    fn relation(
        &mut self,
        relation: &'n Relation,
        place: Place,
    ) -> Result<(usize, Option<Output>), Refusal> {
        if relation.persistence != Persistence::Permanent
            || relation.kind == RelationKind::ForeignTable
        {
            self.seen.not_on_replicas = true;
        }
        if relation.kind == RelationKind::View {
            return self.view(relation);
        }
        self.row_security(relation, &place)?;
        let source = match place {
            Place::Sharded(keyed) => Source::Sharded(relation, keyed),
            Place::Reference => Source::Reference(relation),
            Place::Home => Source::Home(relation.name.to_string()),
        };
        let columns = self.columns_of(relation);
        Ok((
            self.add(Instance {
                source,
                columns,
                complete: true,
            })?,
            None,
        ))
    }

    /// A relation's columns as the planner sees them.
    pub fn columns_of(&self, relation: &Relation) -> Vec<ColumnInfo> {
        let info = relation.columns.iter().map(|column| ColumnInfo {
            name: column.name.clone(),
            key_type: KeyType::from_oid(self.names.catalog.base_type(column.type_oid))
                .filter(|_| column.collation.is_deterministic()),
        });
        info.collect()
    }

    /// Refuses policies that look at other tables.
    pub fn row_security(&self, relation: &Relation, place: &Place) -> Result<(), Refusal> {
        let Some(policies) = &relation.row_security else {
            return Ok(());
        };
        let foreign = |policy: &crate::catalog::Policy| {
            self.names
                .mentions(&policy.expression.replace(relation.name.name.as_str(), ""))
                || policy.expression.to_ascii_lowercase().contains("select")
        };
        match place {
            Place::Home if !self.names.anything_declared() => Ok(()),
            _ if policies.iter().any(foreign) => Err(Refusal::about(
                Reason::RowSecurity,
                format!("table \"{}\"", relation.name.name),
            )),
            _ => Ok(()),
        }
    }

    fn view(&mut self, relation: &'n Relation) -> Result<(usize, Option<Output>), Refusal> {
        let definition = relation.definition.as_deref().unwrap_or_default();
        let home = !self.names.mentions(definition) && !self.names.mentions(&relation.name.name);
        let unknown = || {
            Refusal::about(
                Reason::NotUnderstood,
                format!("view \"{}\"", relation.name.name),
            )
        };
        let output = match super::parse::view(definition) {
            None => Err(unknown()),
            Some(parsed) => {
                // A view's names are qualified by pg_get_viewdef; its columns may have been renamed.
                self.in_view += 1;
                let output = self.query(&parsed, None, &Ctes::default());
                self.in_view -= 1;
                output
            }
        };
        let mut output = match output {
            Err(_) if home => {
                // It is certain where it is read, but not whether it only reads.
                let columns = self.columns_of(relation);
                let source = Source::Home(relation.name.to_string());
                self.note(Call::Volatile, &relation.name.name);
                return Ok((
                    self.add(Instance {
                        source,
                        columns,
                        complete: true,
                    })?,
                    None,
                ));
            }
            output => output?,
        };
        if output.complete && output.columns.len() == relation.columns.len() {
            for (out, column) in output.columns.iter_mut().zip(&relation.columns) {
                out.name.clone_from(&column.name);
            }
        } else {
            output.columns.clear();
            output.complete = false;
        }
        Ok((self.derive(&output)?, Some(output)))
    }

    /// An instance that stands for a subquery's rows.
    pub fn derive(&mut self, output: &Output) -> Result<usize, Refusal> {
        let columns = output
            .columns
            .iter()
            .map(|c| ColumnInfo {
                name: c.name.clone(),
                key_type: c.key_type,
            })
            .collect();
        let instance = self.add(Instance {
            source: Source::Derived,
            columns,
            complete: output.complete,
        })?;
        for (position, column) in output.columns.iter().enumerate() {
            let here = (instance, position);
            if let Some(node) = column.node {
                // The column's values are among its source's, whatever else the query does.
                self.links.push(Link {
                    from: node,
                    to: here,
                    by_row: true,
                });
                // Taking source rows away removes exactly their output rows.
                // A column of a query around this one is not restricted by what is asked of its copy.
                let open = match &output.open {
                    _ if node.0 < output.first_instance => false,
                    Open::All => true,
                    Open::Only(nodes) => nodes.contains(&node),
                    Open::None => false,
                };
                if open {
                    self.links.push(Link {
                        from: here,
                        to: node,
                        by_row: true,
                    });
                }
            }
            if let Some(constants) = &column.constants {
                let items = constants.iter().cloned().map(Item::One).collect();
                self.facts.push((
                    instance,
                    Cond::In {
                        column: position,
                        items,
                        nulls_match: false,
                    },
                ));
            }
        }
        if output.sharded {
            self.sharded_below.insert(instance);
        }
        Ok(instance)
    }

    /// Whether an instance is a sharded table, or a subquery over one.
    pub fn reads_sharded(&self, instance: usize) -> bool {
        matches!(self.instances[instance].source, Source::Sharded(..))
            || self.sharded_below.contains(&instance)
    }

    /// A subquery in an expression, as an instance.
    pub fn subquery(
        &mut self,
        query: &Query,
        scopes: &Scopes<'_>,
        ctes: &Ctes<'_>,
        level: &mut Level,
    ) -> Result<Output, Refusal> {
        let output = self.query(query, Some(scopes), ctes)?;
        if output.sharded {
            level.unmovable_subquery = Some(Refusal::new(Reason::Subquery));
        } else if level.unmovable_subquery.is_none() {
            level.unmovable_subquery.clone_from(&output.unstable);
        }
        let instance = self.derive(&output)?;
        self.subqueries
            .insert(std::ptr::from_ref(query) as usize, instance);
        Ok(output)
    }

    // ---- Conditions

    /// Records what ON and WHERE say. Returns why the shards could not compute the joins separately.
    pub fn conditions(
        &mut self,
        from: &From<'_>,
        selection: Option<&Expr>,
        scopes: &Scopes<'_>,
    ) -> Option<Refusal> {
        let tree = from.tree.as_ref()?;
        let all = tree.instances();
        let conjuncts: Vec<&Expr> = selection.map(|e| chain(e, &Op::And)).unwrap_or_default();
        let mut required: Vec<usize> = Vec::new();
        for conjunct in &conjuncts {
            // Every row that WHERE lets through satisfies all conjuncts, so they restrict every
            // entry; where one is on a nullable side, `strict` has made the join an inner one.
            self.conjunct(conjunct, &all, scopes);
            required.extend(self.strict(conjunct, true, scopes));
        }
        self.join_conditions(tree, required, scopes)
    }

    /// The ON of a MERGE, which decides which of the target's rows match.
    pub fn on_target(&mut self, on: &Expr, target: usize, scopes: &Scopes<'_>) {
        for conjunct in chain(on, &Op::And) {
            self.conjunct(conjunct, &[target], scopes);
        }
    }

    fn join_conditions(
        &mut self,
        tree: &Tree<'_>,
        mut required: Vec<usize>,
        scopes: &Scopes<'_>,
    ) -> Option<Refusal> {
        let Tree::Join {
            kind,
            left,
            right,
            on,
            pairs,
        } = tree
        else {
            return None;
        };
        let (lefts, rights) = (left.instances(), right.instances());
        let needs = |side: &[usize]| required.iter().any(|i| side.contains(i));
        // A condition above that is never true of nulls makes an outer join an inner one,
        // as in PostgreSQL's reduce_outer_joins.
        let (kind, turned) = match (kind, needs(&lefts), needs(&rights)) {
            (Kind::Inner, _, _) | (Kind::Left, _, true) | (Kind::Full, true, true) => {
                (Kind::Inner, false)
            }
            (Kind::Left, _, false) | (Kind::Full, true, false) => (Kind::Left, false),
            (Kind::Full, false, true) => (Kind::Left, true),
            (Kind::Full, false, false) => (Kind::Full, false),
        };
        let (left, right) = if turned { (right, left) } else { (left, right) };
        let (lefts, rights) = if turned {
            (rights, lefts)
        } else {
            (lefts, rights)
        };
        let scope: Vec<usize> = match kind {
            Kind::Inner => lefts.iter().chain(&rights).copied().collect(),
            // ON decides which rows of the right side match; of the left side all stay.
            Kind::Left => rights.clone(),
            Kind::Full => Vec::new(),
        };
        let mut strict = Vec::new();
        for conjunct in on.map(|e| chain(e, &Op::And)).unwrap_or_default() {
            self.conjunct(conjunct, &scope, scopes);
            strict.extend(self.strict(conjunct, true, scopes));
        }
        for (a, b) in pairs {
            self.equate(*a, *b, &scope, true);
            strict.extend([a.0, b.0]);
        }
        let any = |side: &[usize]| side.iter().any(|i| self.reads_sharded(*i));
        let obstacle = match kind {
            Kind::Inner => None,
            // Unmatched rows of a side without sharded tables would appear once per shard.
            Kind::Left if !any(&lefts) && any(&rights) => Some(Refusal::new(Reason::OuterJoin)),
            Kind::Left => None,
            Kind::Full if !any(&lefts) && !any(&rights) => None,
            Kind::Full => Some(Refusal::new(Reason::OuterJoin)),
        };
        let mut below = required.clone();
        below.extend(&strict);
        let (for_left, for_right) = match kind {
            Kind::Inner => (below.clone(), below),
            Kind::Left => (std::mem::take(&mut required), below),
            Kind::Full => (required.clone(), std::mem::take(&mut required)),
        };
        let left = self.join_conditions(left, for_left, scopes);
        let right = self.join_conditions(right, for_right, scopes);
        obstacle.or(left).or(right)
    }

    /// One condition that holds of every row that matters, restricting the instances in `scope`.
    fn conjunct(&mut self, expr: &Expr, scope: &[usize], scopes: &Scopes<'_>) {
        for &instance in scope {
            match self.implied(expr, true, instance, scopes) {
                Cond::Any => {}
                cond => self.facts.push((instance, cond)),
            }
        }
        match strip(expr) {
            Expr::BinaryOp {
                left,
                op: Op::Eq,
                right,
            } => {
                let pairs: Vec<(&Expr, &Expr)> = match (strip(left), strip(right)) {
                    (Expr::Tuple(a), Expr::Tuple(b)) if a.len() == b.len() => {
                        a.iter().zip(b).collect()
                    }
                    _ => vec![(left, right)],
                };
                for (a, b) in pairs {
                    if let (Some(a), Some(b)) = (self.node(a, scopes), self.node(b, scopes)) {
                        self.equate(a, b, scope, true);
                    }
                }
            }
            // x IN (SELECT y ..): x is among the y, and no other y matters.
            Expr::InSubquery {
                expr,
                subquery,
                negated: false,
            } => {
                let instance = self
                    .subqueries
                    .get(&(std::ptr::from_ref(&**subquery) as usize))
                    .copied();
                if let (Some(node), Some(instance)) = (self.node(expr, scopes), instance)
                    && self.instances[instance].columns.len() == 1
                    && self.instances[instance].complete
                {
                    let mut scope = scope.to_vec();
                    scope.push(instance);
                    self.equate(node, (instance, 0), &scope, false);
                }
            }
            Expr::IsTrue(inner) => self.conjunct(inner, scope, scopes),
            _ => {}
        }
    }

    /// The instances without a row of which the expression cannot be `wanted`: it is then null.
    fn strict(&self, expr: &Expr, wanted: bool, scopes: &Scopes<'_>) -> Vec<usize> {
        // Comparisons of key types are strict; of other types an operator of a user might not be.
        let column = |e: &Expr| {
            let node = self
                .node(e, scopes)
                .filter(|node| self.key_type(*node).is_some());
            node.map(|node| node.0).into_iter().collect::<Vec<_>>()
        };
        match strip(expr) {
            expr @ Expr::BinaryOp {
                op: op @ (Op::And | Op::Or),
                ..
            } => {
                let mut each = chain(expr, op)
                    .into_iter()
                    .map(|e| self.strict(e, wanted, scopes));
                if (*op == Op::And) == wanted {
                    return each.flatten().collect();
                }
                let first = each.next().unwrap_or_default();
                each.fold(first, |both, one| {
                    both.into_iter().filter(|i| one.contains(i)).collect()
                })
            }
            Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr,
            } => self.strict(expr, !wanted, scopes),
            Expr::BinaryOp {
                left,
                op: Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq,
                right,
            } => {
                if matches!(strip(left), Expr::Tuple(_)) {
                    return Vec::new();
                }
                [column(left), column(right)].concat()
            }
            Expr::InList { expr, .. } | Expr::Between { expr, .. } => column(expr),
            // An empty array makes ANY false without looking at the column: not true, but not null.
            Expr::AnyOp { left, .. }
            | Expr::InSubquery {
                expr: left,
                negated: false,
                ..
            } if wanted => column(left),
            Expr::IsNotNull(e) if wanted => column(e),
            Expr::IsNull(e) if !wanted => column(e),
            Expr::IsTrue(e) if wanted => self.strict(e, true, scopes),
            Expr::IsFalse(e) if wanted => self.strict(e, false, scopes),
            _ => Vec::new(),
        }
    }
}

enum Grouped {
    No,
    By(Vec<Node>),
    Otherwise,
}

/// The first reason stays: it is the outermost in the text.
fn first(known: &Local, reason: Reason) -> Refusal {
    match known {
        Local::No(refusal) => refusal.clone(),
        _ => Refusal::new(reason),
    }
}

/// Why a subquery in FROM keeps the shards from computing the whole separately.
fn obstacle_of(output: &Output) -> Option<Refusal> {
    if !output.sharded {
        return output.unstable.clone();
    }
    match &output.local {
        Local::Rows => None,
        Local::Aggregates(_) => Some(Refusal::new(Reason::Subquery)),
        Local::No(refusal) => Some(Refusal {
            reason: Reason::Subquery,
            ..refusal.clone()
        }),
    }
}

fn join_kind(operator: &JoinOperator) -> Result<(Kind, bool, &JoinConstraint), Refusal> {
    Ok(match operator {
        JoinOperator::Join(c) | JoinOperator::Inner(c) | JoinOperator::CrossJoin(c) => {
            (Kind::Inner, false, c)
        }
        JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => (Kind::Left, false, c),
        JoinOperator::Right(c) | JoinOperator::RightOuter(c) => (Kind::Left, true, c),
        JoinOperator::FullOuter(c) => (Kind::Full, false, c),
        _ => return Err(Refusal::new(Reason::NotUnderstood)),
    })
}

fn plain_wildcard(options: &WildcardAdditionalOptions) -> bool {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias,
    } = options;
    opt_ilike.is_none()
        && opt_exclude.is_none()
        && opt_except.is_none()
        && opt_replace.is_none()
        && opt_rename.is_none()
        && opt_alias.is_none()
}

/// Whether a SELECT has only clauses that PostgreSQL knows.
fn is_postgres(select: &Select) -> bool {
    select
        .select_modifiers
        .as_ref()
        .is_none_or(|m| !m.is_any_set())
        && select.optimizer_hints.is_empty()
        && select.top.is_none()
        && select.exclude.is_none()
        && select.lateral_views.is_empty()
        && select.prewhere.is_none()
        && select.connect_by.is_empty()
        && select.cluster_by.is_empty()
        && select.distribute_by.is_empty()
        && select.sort_by.is_empty()
        && select.qualify.is_none()
        && select.value_table_mode.is_none()
        && select.flavor == SelectFlavor::Standard
}

/// The type of a column of constants, where PostgreSQL's choice is certain and exact.
fn common_type(constants: &[Scalar]) -> Option<KeyType> {
    let one = |scalar: &Scalar| match scalar {
        Scalar::Integer(_) => Some(KeyType::Int8),
        Scalar::Text { as_type, .. } | Scalar::Param { as_type, .. } => KeyType::from_oid(*as_type),
        _ => None,
    };
    let first = one(constants.first()?)?;
    let family = |key: KeyType| {
        constants
            .iter()
            .all(|s| one(s).is_some_and(|k| super::names::same_family(k, key)))
    };
    family(first).then_some(first)
}
