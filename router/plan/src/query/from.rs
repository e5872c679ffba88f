//! FROM clauses: each entry becomes an instance, joins become a tree.

use sqlparser::ast::{Expr, Join, JoinConstraint, JoinOperator, TableWithJoins};

use crate::expr::{ExprContext, Level};
use crate::refuse::{Refusal, not_understood};
use crate::scope::{Analysis, Node, Scope, Scopes};

use super::OutColumn;
use super::with::Ctes;

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

impl<'q> Tree<'q> {
    /// Both, as by a comma.
    pub fn and(self, right: Tree<'q>) -> Tree<'q> {
        Tree::Join {
            kind: Kind::Inner,
            left: Box::new(self),
            right: Box::new(right),
            on: None,
            pairs: Vec::new(),
        }
    }

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

impl<'q> From<'q> {
    /// What an expression sees beside this clause.
    pub fn here<'h>(
        &'h self,
        outer: Option<&'h Scopes<'h>>,
        ctes: &'h Ctes<'h>,
        level: &'h mut Level,
    ) -> ExprContext<'h> {
        let scope = &self.scope;
        ExprContext {
            scopes: Scopes { scope, outer },
            ctes,
            level,
        }
    }

    /// The first reason stays.
    pub(super) fn hinder(&mut self, obstacle: Option<Refusal>) {
        self.obstacle = self.obstacle.take().or(obstacle);
    }
}

impl<'n> Analysis<'n> {
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
                Some(left) => left.and(tree),
            });
        }
        Ok(from)
    }

    pub(super) fn joins<'q>(
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
                return not_understood();
            }
            let (right, right_star) = self.factor(relation, from, outer, ctes)?;
            let (kind, turned, constraint) = join_kind(join_operator)?;
            let (on, pairs) =
                self.constraint(constraint, kind, turned, &mut star, right_star, from)?;
            if let Some(on) = on {
                let mut level = Level::default();
                self.walk(on, &mut from.here(outer, ctes, &mut level))?;
                from.hinder(level.unmovable_subquery);
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
                self.notes.stars = true;
                if !from.complete {
                    return not_understood();
                }
                star.iter()
                    .filter(|l| right.iter().any(|r| r.name == l.name))
                    .map(|c| c.name.clone())
                    .collect()
            }
        };
        self.notes.merged = true;
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
}

fn join_kind(operator: &JoinOperator) -> Result<(Kind, bool, &JoinConstraint), Refusal> {
    Ok(match operator {
        JoinOperator::Join(c) | JoinOperator::Inner(c) | JoinOperator::CrossJoin(c) => {
            (Kind::Inner, false, c)
        }
        JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => (Kind::Left, false, c),
        JoinOperator::Right(c) | JoinOperator::RightOuter(c) => (Kind::Left, true, c),
        JoinOperator::FullOuter(c) => (Kind::Full, false, c),
        _ => return not_understood(),
    })
}
