//! What ON and WHERE say of the rows that matter, through joins of every kind.
//!
//! Only what holds of every row that reaches the result is recorded, as a fact
//! or a link of `scope`.

use sqlparser::ast::{BinaryOperator as Op, Expr, UnaryOperator};

use crate::condition::Cond;
use crate::expr::{chain, equals_null, strip};
use crate::refuse::{Reason, Refusal};
use crate::scope::{Analysis, Scopes};

use super::from::{From, Kind, Tree};

impl<'n> Analysis<'n> {
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
            let strict = self.strict(conjunct, true, scopes);
            self.note_filter(conjunct, &all, &[tree], &strict, scopes);
            required.extend(strict);
            self.disjunction(conjunct, &all, &[tree], scopes);
        }
        self.join_conditions(tree, required, scopes)
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
            let of_this = self.strict(conjunct, true, scopes);
            let sides = [&**left, &**right];
            self.note_filter(conjunct, &scope, &sides, &of_this, scopes);
            strict.extend(of_this);
            self.disjunction(conjunct, &scope, &sides, scopes);
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
        if self.names.catalog.compares_otherwise {
            return;
        }
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

    /// What an OR says that none of its arms says alone: what each of them repeats, and what each of them asks of one
    /// instance, as `a.x = 1 OR a.x = 2` follows from `a.x = 1 AND b.y = 2 OR a.x = 2 AND b.y = 1`.
    fn disjunction(
        &mut self,
        expr: &Expr,
        scope: &[usize],
        below: &[&Tree<'_>],
        scopes: &Scopes<'_>,
    ) {
        let arms = chain(expr, &Op::Or);
        if arms.len() < 2 {
            return;
        }
        let arms: Vec<Vec<&Expr>> = arms.into_iter().map(|arm| chain(arm, &Op::And)).collect();
        let (first, others) = arms.split_first().expect("there are two");
        // Whether constants are equal is another matter for each text of a shape.
        let is_join = |expr: &Expr| match expr {
            Expr::BinaryOp {
                left,
                op: Op::Eq,
                right,
            } => self.node(left, scopes).is_some() && self.node(right, scopes).is_some(),
            _ => false,
        };
        let shared = first.iter().filter(|conjunct| {
            is_join(conjunct) && others.iter().all(|arm| arm.contains(conjunct))
        });
        for conjunct in shared.copied().collect::<Vec<_>>() {
            self.conjunct(conjunct, scope, scopes);
        }
        if self.is_about_one(expr, &mut None, scopes) {
            return;
        }
        for &instance in scope {
            if let Some(part) = self.part_of_arms(&arms, instance, scopes) {
                let strict = self.strict(&part, true, scopes);
                self.note_part(instance, part, below, &strict);
            }
        }
    }

    /// The instances without a row of which the expression cannot be `wanted`: it is then null.
    fn strict(&self, expr: &Expr, wanted: bool, scopes: &Scopes<'_>) -> Vec<usize> {
        if self.names.catalog.compares_otherwise {
            return Vec::new();
        }
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
                op: Op::Eq,
                right,
            } if equals_null(left, right) => Vec::new(),
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
