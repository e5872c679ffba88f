//! Queries with every parenthesis written.

use sqlparser::ast::{
    Cte, CteAsMaterialized, Distinct, Expr, Fetch, GroupByExpr, LimitClause, LockClause,
    NamedWindowExpr, NonBlock, OrderByKind, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier, Values, With,
};

use crate::dialect;
use crate::grammar::{self, Strength, grouped};
use crate::misread::is_name;
use crate::refuse::not_understood;

use super::{Done, Writer};

impl Writer {
    pub(super) fn query_in_parens(&mut self, query: &Query) -> Done {
        self.put("(");
        self.query(query)?;
        self.put(")");
        Ok(())
    }

    pub(super) fn query(&mut self, query: &Query) -> Done {
        if !dialect::knows_query(query) {
            return not_understood();
        }
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            ..
        } = query;
        if let Some(with) = with {
            self.with(with)?;
        }
        self.body(body)?;
        if let Some(order) = order_by {
            match &order.kind {
                OrderByKind::Expressions(list) if order.interpolate.is_none() => {
                    self.put(" ORDER BY ");
                    self.order(list)?;
                }
                OrderByKind::Expressions(_) | OrderByKind::All(_) => return not_understood(),
            }
        }
        self.limit(limit_clause.as_ref())?;
        if let Some(fetch) = fetch {
            self.fetch(fetch)?;
        }
        self.locks(locks)
    }

    pub(super) fn with(&mut self, with: &With) -> Done {
        let With {
            with_token: _,
            recursive,
            cte_tables,
        } = with;
        self.put(if *recursive {
            "WITH RECURSIVE "
        } else {
            "WITH "
        });
        self.ctes(cte_tables)?;
        self.put(" ");
        Ok(())
    }

    pub(super) fn ctes(&mut self, list: &[Cte]) -> Done {
        self.list(list, |w, cte| {
            let Cte {
                alias,
                query,
                from: None,
                materialized,
                closing_paren_token: _,
            } = cte
            else {
                return not_understood();
            };
            w.alias_and_columns(alias)?;
            w.put(match materialized {
                None => " AS ",
                Some(CteAsMaterialized::Materialized) => " AS MATERIALIZED ",
                Some(CteAsMaterialized::NotMaterialized) => " AS NOT MATERIALIZED ",
            });
            w.query_in_parens(query)
        })
    }

    fn body(&mut self, body: &SetExpr) -> Done {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query_in_parens(query),
            SetExpr::SetOperation {
                left,
                op,
                set_quantifier,
                right,
            } => {
                self.arm(left)?;
                self.put(match op {
                    SetOperator::Union => " UNION",
                    SetOperator::Except => " EXCEPT",
                    SetOperator::Intersect => " INTERSECT",
                    SetOperator::Minus => return not_understood(),
                });
                self.put(match set_quantifier {
                    SetQuantifier::All => " ALL ",
                    SetQuantifier::Distinct => " DISTINCT ",
                    SetQuantifier::None => " ",
                    SetQuantifier::ByName
                    | SetQuantifier::AllByName
                    | SetQuantifier::DistinctByName => return not_understood(),
                });
                self.arm(right)
            }
            SetExpr::Values(values) => self.values(values),
            SetExpr::Insert(s) | SetExpr::Update(s) | SetExpr::Delete(s) | SetExpr::Merge(s) => {
                self.statement(s)
            }
            SetExpr::Table(_) => not_understood(),
        }
    }

    fn arm(&mut self, arm: &SetExpr) -> Done {
        self.put("(");
        self.body(arm)?;
        self.put(")");
        Ok(())
    }

    fn limit(&mut self, limit: Option<&LimitClause>) -> Done {
        match limit {
            None => Ok(()),
            Some(LimitClause::LimitOffset {
                limit,
                offset,
                limit_by,
            }) if limit_by.is_empty() => {
                if let Some(limit) = limit {
                    self.put(" LIMIT ");
                    self.expr(limit)?;
                }
                if let Some(offset) = offset {
                    self.put(" OFFSET ");
                    self.expr(&offset.value)?;
                }
                Ok(())
            }
            Some(LimitClause::LimitOffset { .. } | LimitClause::OffsetCommaLimit { .. }) => {
                not_understood()
            }
        }
    }

    fn fetch(&mut self, fetch: &Fetch) -> Done {
        let Fetch {
            with_ties,
            percent: false,
            quantity,
        } = fetch
        else {
            return not_understood();
        };
        self.put(" FETCH FIRST ");
        if let Some(quantity) = quantity {
            self.expr(quantity)?;
        }
        self.put(if *with_ties {
            " ROWS WITH TIES"
        } else {
            " ROWS ONLY"
        });
        Ok(())
    }

    pub(super) fn locks(&mut self, locks: &[LockClause]) -> Done {
        locks.iter().try_for_each(|lock| self.lock(lock))
    }

    fn lock(&mut self, lock: &LockClause) -> Done {
        let (strength, names) = grammar::locked(lock);
        self.put(match strength {
            Strength::Update => " FOR UPDATE",
            Strength::NoKeyUpdate => " FOR NO KEY UPDATE",
            Strength::Share => " FOR SHARE",
            Strength::KeyShare => " FOR KEY SHARE",
        });
        for (at, name) in names.into_iter().enumerate() {
            self.put(if at == 0 { " OF " } else { ", " });
            self.ident(name)?;
        }
        self.put(match lock.nonblock {
            None => "",
            Some(NonBlock::Nowait) => " NOWAIT",
            Some(NonBlock::SkipLocked) => " SKIP LOCKED",
        });
        Ok(())
    }

    pub(super) fn values(&mut self, values: &Values) -> Done {
        let Values {
            explicit_row: false,
            value_keyword: _,
            rows,
        } = values
        else {
            return not_understood();
        };
        self.put("VALUES ");
        self.list(rows, |w, row| w.row(&row.content))
    }

    pub(super) fn row(&mut self, fields: &[Expr]) -> Done {
        self.put("(");
        self.list(fields, Writer::value_or_default)?;
        self.put(")");
        Ok(())
    }

    fn select(&mut self, select: &Select) -> Done {
        if !dialect::knows_select(select) {
            return not_understood();
        }
        let Select {
            distinct,
            projection,
            into: None,
            from,
            selection,
            group_by,
            having,
            named_window,
            ..
        } = select
        else {
            return not_understood();
        };
        self.put("SELECT ");
        match distinct {
            None => {}
            Some(Distinct::All) => self.put("ALL "),
            Some(Distinct::Distinct) => self.put("DISTINCT "),
            Some(Distinct::On(list)) => {
                self.put("DISTINCT ON (");
                self.exprs(list)?;
                self.put(") ");
            }
        }
        self.items(projection)?;
        if !from.is_empty() {
            self.put(" FROM ");
            self.from(from)?;
        }
        self.condition(" WHERE ", selection.as_ref())?;
        match group_by {
            GroupByExpr::Expressions(exprs, modifiers) if modifiers.is_empty() => {
                self.group_by(exprs)?;
            }
            GroupByExpr::Expressions(..) | GroupByExpr::All(_) => return not_understood(),
        }
        self.condition(" HAVING ", having.as_ref())?;
        if !named_window.is_empty() {
            self.put(" WINDOW ");
            self.list(named_window, |w, window| {
                w.ident(&window.0)?;
                w.put(" AS ");
                match &window.1 {
                    NamedWindowExpr::NamedWindow(name) => w.ident(name),
                    NamedWindowExpr::WindowSpec(spec) => w.window(spec),
                }
            })?;
        }
        Ok(())
    }

    pub(super) fn condition(&mut self, word: &str, condition: Option<&Expr>) -> Done {
        match condition {
            None => Ok(()),
            Some(condition) => {
                self.put(word);
                self.expr(condition)
            }
        }
    }

    fn group_by(&mut self, exprs: &[Expr]) -> Done {
        if exprs.is_empty() {
            return Ok(());
        }
        let (exprs, distinct) = grouped(exprs);
        self.put(if distinct {
            " GROUP BY DISTINCT "
        } else {
            " GROUP BY "
        });
        self.list(exprs, |w, expr| match expr {
            // Grouping sets are no expressions: nothing may stand around them.
            Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_) => w.bare(expr),
            Expr::Tuple(list) if list.is_empty() => {
                w.put("()");
                Ok(())
            }
            expr => w.expr(expr),
        })
    }

    pub(super) fn items(&mut self, items: &[SelectItem]) -> Done {
        self.list(items, |w, item| match item {
            SelectItem::UnnamedExpr(expr) => w.expr(expr),
            SelectItem::ExprWithAlias { expr, alias } if is_name(alias) => {
                w.expr(expr)?;
                w.put(" AS ");
                w.ident(alias)
            }
            SelectItem::Wildcard(options) if dialect::knows_wildcard(options) => {
                w.put("*");
                Ok(())
            }
            SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name),
                options,
            ) if dialect::knows_wildcard(options) => {
                w.name(name)?;
                w.put(".*");
                Ok(())
            }
            SelectItem::ExprWithAlias { .. }
            | SelectItem::ExprWithAliases { .. }
            | SelectItem::Wildcard(_)
            | SelectItem::QualifiedWildcard(..) => not_understood(),
        })
    }
}
