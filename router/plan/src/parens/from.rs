//! FROM clauses with every join in parentheses.

use sqlparser::ast::{
    Join, JoinConstraint, JoinOperator, TableAlias, TableFactor, TableFunctionArgs, TableSample,
    TableSampleKind, TableWithJoins,
};

use crate::refuse::not_understood;

use super::{Done, Writer};

impl Writer {
    pub(super) fn from(&mut self, list: &[TableWithJoins]) -> Done {
        self.list(list, Writer::joins)
    }

    /// The first table and its joins, each in parentheses with all before it.
    fn joins(&mut self, table: &TableWithJoins) -> Done {
        let TableWithJoins { relation, joins } = table;
        self.put(&"(".repeat(joins.len()));
        self.factor(relation)?;
        for Join {
            relation,
            global,
            join_operator,
        } in joins
        {
            if *global {
                return not_understood();
            }
            let (word, constraint) = match join_operator {
                JoinOperator::Join(c) | JoinOperator::Inner(c) => ("JOIN ", c),
                JoinOperator::CrossJoin(c) => ("CROSS JOIN ", c),
                JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => ("LEFT JOIN ", c),
                JoinOperator::Right(c) | JoinOperator::RightOuter(c) => ("RIGHT JOIN ", c),
                JoinOperator::FullOuter(c) => ("FULL JOIN ", c),
                JoinOperator::Semi(_)
                | JoinOperator::LeftSemi(_)
                | JoinOperator::RightSemi(_)
                | JoinOperator::Anti(_)
                | JoinOperator::LeftAnti(_)
                | JoinOperator::RightAnti(_)
                | JoinOperator::CrossApply
                | JoinOperator::OuterApply
                | JoinOperator::AsOf { .. }
                | JoinOperator::StraightJoin(_)
                | JoinOperator::ArrayJoin
                | JoinOperator::LeftArrayJoin
                | JoinOperator::InnerArrayJoin => return not_understood(),
            };
            self.put(match constraint {
                JoinConstraint::Natural => " NATURAL ",
                _ => " ",
            });
            self.put(word);
            self.factor(relation)?;
            match constraint {
                JoinConstraint::On(on) => self.condition(" ON ", Some(on))?,
                JoinConstraint::Using(names) => {
                    self.put(" USING (");
                    self.list(names, Writer::name)?;
                    self.put(")");
                }
                JoinConstraint::Natural | JoinConstraint::None => {}
            }
            self.put(")");
        }
        Ok(())
    }

    pub(super) fn factor(&mut self, factor: &TableFactor) -> Done {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version: None,
                with_ordinality,
                partitions,
                json_path: None,
                sample,
                index_hints,
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => {
                match args {
                    None => self.name(name)?,
                    Some(TableFunctionArgs {
                        args,
                        settings: None,
                    }) if sample.is_none() => self.call(name, args)?,
                    Some(_) => return not_understood(),
                }
                self.ordinality(*with_ordinality);
                self.alias(alias.as_ref())?;
                match sample {
                    None => Ok(()),
                    Some(
                        TableSampleKind::BeforeTableAlias(sample)
                        | TableSampleKind::AfterTableAlias(sample),
                    ) => self.sample(sample),
                }
            }
            TableFactor::Derived {
                lateral,
                subquery,
                alias,
                sample: None,
            } => {
                self.put(if *lateral { "LATERAL " } else { "" });
                self.query_in_parens(subquery)?;
                self.alias(alias.as_ref())
            }
            TableFactor::Function {
                lateral,
                name,
                args,
                with_ordinality,
                alias,
            } => {
                self.put(if *lateral { "LATERAL " } else { "" });
                self.call(name, args)?;
                self.ordinality(*with_ordinality);
                self.alias(alias.as_ref())
            }
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset: false,
                with_offset_alias: None,
                with_ordinality,
            } => {
                self.put("unnest(");
                self.exprs(array_exprs)?;
                self.put(")");
                self.ordinality(*with_ordinality);
                self.alias(alias.as_ref())
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias: None,
            } => self.joins(table_with_joins),
            TableFactor::Table { .. }
            | TableFactor::Derived { .. }
            | TableFactor::TableFunction { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::JsonTable { .. }
            | TableFactor::OpenJsonTable { .. }
            | TableFactor::NestedJoin { .. }
            | TableFactor::Pivot { .. }
            | TableFactor::Unpivot { .. }
            | TableFactor::UnpivotExpr { .. }
            | TableFactor::MatchRecognize { .. }
            | TableFactor::XmlTable { .. }
            | TableFactor::SemanticView { .. } => not_understood(),
        }
    }

    fn ordinality(&mut self, with: bool) {
        self.put(if with { " WITH ORDINALITY" } else { "" });
    }

    pub(super) fn alias(&mut self, alias: Option<&TableAlias>) -> Done {
        match alias {
            None => Ok(()),
            Some(alias) => {
                self.put(" AS ");
                self.alias_and_columns(alias)
            }
        }
    }

    pub(super) fn alias_and_columns(&mut self, alias: &TableAlias) -> Done {
        let TableAlias {
            explicit: _,
            name,
            columns,
            at: None,
        } = alias
        else {
            return not_understood();
        };
        self.ident(name)?;
        if columns.is_empty() {
            return Ok(());
        }
        self.put(" (");
        self.list(columns, |w, column| {
            w.ident(&column.name)?;
            if let Some(data_type) = &column.data_type {
                w.put(&format!(" {data_type}"));
            }
            Ok(())
        })?;
        self.put(")");
        Ok(())
    }

    fn sample(&mut self, sample: &TableSample) -> Done {
        let TableSample {
            modifier,
            name: Some(method),
            quantity: Some(quantity),
            seed,
            bucket: None,
            offset: None,
        } = sample
        else {
            return not_understood();
        };
        self.put(&format!(" {modifier} {method} ("));
        if quantity.unit.is_some() || !quantity.parenthesized {
            return not_understood();
        }
        self.expr(&quantity.value)?;
        self.put(")");
        if let Some(seed) = seed {
            self.put(&format!(" {} (", seed.modifier));
            self.constant(&seed.value.value)?;
            self.put(")");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{PlanContext, parens::parenthesised};

    #[test]
    fn every_word_of_from_is_printed() {
        for from in [
            "t AS a (b, c)",
            "(t AS a CROSS JOIN u AS b)",
            "(t AS a NATURAL LEFT JOIN u AS b)",
            "(t AS a FULL JOIN u AS b USING (id))",
            "t AS a, LATERAL (SELECT (1)) AS b (c)",
            "t AS a, LATERAL generate_series((1), (1)) WITH ORDINALITY AS b (c, d)",
            "unnest((x)) WITH ORDINALITY AS a (b, c)",
            "unnest((x)) AS a (b)",
            "json_to_recordset((x)) AS a (b INT, c TEXT)",
            "t AS a TABLESAMPLE SYSTEM ((1)) REPEATABLE (2)",
        ] {
            let printed = format!("SELECT * FROM {from}");
            // Constants and columns are given parentheses of their own.
            let sql = printed.replace("(1)", "1").replace("(x)", "x");
            let form = parenthesised(&sql, &PlanContext::default());
            assert_eq!(form.ok(), Some(printed));
        }
    }
}
