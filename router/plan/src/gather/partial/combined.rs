//! Expressions over groups: what the residue computes from the columns of the shards' groups.

use sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, DataType, DuplicateTreatment, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName, ObjectNamePart,
    Value,
};

use crate::expr::strip;
use crate::functions;
use crate::names::folded;
use crate::parens;
use mothership_catalog::Handed;

use super::Pushing;
use super::typed::{self, column_of, has_order, name_of};

/// Texts are not computed here, but have a smallest and a largest.
const TEXT: u32 = 25;
const VARCHAR: u32 = 1043;

impl Pushing<'_, '_> {
    /// An expression of the level as one over the stand-in's columns.
    pub(super) fn combined(&mut self, expr: &Expr, grouped: &[usize]) -> Option<Expr> {
        let expr = strip(expr);
        if let Some(column) = self.known_key(expr).filter(|c| grouped.contains(c)) {
            return Some(self.reference(column));
        }
        if self.rows && matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
            let column = self.key(expr)?;
            return Some(self.reference(column));
        }
        let mut each = |expr: &Expr| self.combined(expr, grouped).map(nested);
        Some(match expr {
            Expr::Value(_) | Expr::TypedString(_) | Expr::Interval(_) => expr.clone(),
            Expr::BinaryOp { left, op, right } => Expr::BinaryOp {
                left: each(left)?,
                op: op.clone(),
                right: each(right)?,
            },
            Expr::UnaryOp { op, expr } => Expr::UnaryOp {
                op: *op,
                expr: each(expr)?,
            },
            Expr::Cast {
                kind,
                expr,
                data_type,
                format: None,
            } => Expr::Cast {
                kind: kind.clone(),
                expr: each(expr)?,
                data_type: data_type.clone(),
                format: None,
            },
            Expr::IsNull(e) => Expr::IsNull(each(e)?),
            Expr::IsNotNull(e) => Expr::IsNotNull(each(e)?),
            Expr::Between {
                expr,
                negated,
                low,
                high,
            } => Expr::Between {
                expr: each(expr)?,
                negated: *negated,
                low: each(low)?,
                high: each(high)?,
            },
            Expr::Case {
                case_token,
                end_token,
                operand,
                conditions,
                else_result,
            } => Expr::Case {
                case_token: case_token.clone(),
                end_token: end_token.clone(),
                operand: match operand {
                    Some(operand) => Some(each(operand)?),
                    None => None,
                },
                conditions: conditions
                    .iter()
                    .map(|when| {
                        Some(CaseWhen {
                            condition: *each(&when.condition)?,
                            result: *each(&when.result)?,
                        })
                    })
                    .collect::<Option<_>>()?,
                else_result: match else_result {
                    Some(otherwise) => Some(each(otherwise)?),
                    None => None,
                },
            },
            Expr::Function(function) => return self.call(function, grouped),
            _ => return None,
        })
    }

    fn call(&mut self, function: &Function, grouped: &[usize]) -> Option<Expr> {
        let names = self.types.analysis.names;
        let plain = function.over.is_none()
            && function.within_group.is_empty()
            && function.null_treatment.is_none()
            && matches!(function.parameters, FunctionArguments::None);
        let (name, own) = match function.name.0.as_slice() {
            [name] => {
                let name = folded(name.as_ident()?);
                let own = names.reach(&name).is_some();
                (name, own)
            }
            [schema, name] if folded(schema.as_ident()?) == "pg_catalog" => {
                (folded(name.as_ident()?), false)
            }
            _ => return None,
        };
        let FunctionArguments::List(list) = &function.args else {
            return None;
        };
        if !plain || !list.clauses.is_empty() || own {
            return None;
        }
        if functions::is_aggregate(names, Some("pg_catalog"), &name) {
            return self.aggregate(function, &name, list);
        }
        if function.filter.is_some() || list.duplicate_treatment.is_some() {
            return None;
        }
        // One that returns a set would make other rows of the first ones.
        if self.rows && !Self::is_scalar(&name, &function.args) {
            return None;
        }
        let args = list.args.iter().map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => {
                let expr = self.combined(expr, grouped)?;
                Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)))
            }
            _ => None,
        });
        let args = args.collect::<Option<_>>()?;
        Some(Expr::Function(Function {
            args: FunctionArguments::List(FunctionArgumentList {
                args,
                ..list.clone()
            }),
            ..function.clone()
        }))
    }

    fn aggregate(
        &mut self,
        function: &Function,
        name: &str,
        list: &FunctionArgumentList,
    ) -> Option<Expr> {
        let [FunctionArg::Unnamed(argument)] = list.args.as_slice() else {
            return None;
        };
        if let Some(filter) = &function.filter
            && !self.is_movable(filter)
        {
            return None;
        }
        let argument = match argument {
            FunctionArgExpr::Expr(expr) => Some(strip(expr)),
            FunctionArgExpr::Wildcard => None,
            _ => return None,
        };
        if argument.is_some_and(|argument| !self.is_movable(argument)) {
            return None;
        }
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct)
            && !matches!(name, "min" | "max")
        {
            return self.distinct(function, name, argument?, list);
        }
        match (name, argument) {
            ("count", _) => {
                let column = self.partial(function, "count", typed::INT8)?;
                Some(self.sum_of_counts(column))
            }
            ("sum", Some(argument)) => {
                let (partial, whole) = match self.types.of(argument)?.oid {
                    typed::INT2 | typed::INT4 => (typed::INT8, Some(DataType::BigInt(None))),
                    typed::INT8 | typed::NUMERIC => (typed::NUMERIC, None),
                    oid @ (typed::FLOAT4 | typed::FLOAT8) => (oid, None),
                    _ => return None,
                };
                let column = self.partial(function, "sum", partial)?;
                let sum = call("sum", self.reference(column));
                Some(match whole {
                    Some(data_type) => cast(sum, data_type),
                    None => sum,
                })
            }
            // PostgreSQL divides the same two numbers (int8_avg, numeric_avg).
            ("avg", Some(argument)) => {
                let partial = match self.types.of(argument)?.oid {
                    typed::INT2 | typed::INT4 => typed::INT8,
                    typed::INT8 | typed::NUMERIC => typed::NUMERIC,
                    _ => return None,
                };
                let sum = self.partial(function, "sum", partial)?;
                let count = self.partial(function, "count", typed::INT8)?;
                // Both are numeric: sum(bigint) is.
                let sum = cast(
                    call("sum", self.reference(sum)),
                    DataType::Numeric(sqlparser::ast::ExactNumberInfo::None),
                );
                Some(Expr::BinaryOp {
                    left: nested(sum),
                    op: BinaryOperator::Divide,
                    right: nested(call("sum", self.reference(count))),
                })
            }
            ("min" | "max", Some(argument)) => self.extreme(function, name, argument),
            ("bool_and" | "bool_or" | "every", Some(argument))
                if self.types.of(argument)?.oid == typed::BOOL =>
            {
                let column = self.partial(function, name, typed::BOOL)?;
                Some(call(name, self.reference(column)))
            }
            ("bit_and" | "bit_or" | "bit_xor", Some(argument)) => {
                let oid = self.types.of(argument)?.oid;
                if !matches!(oid, typed::INT2 | typed::INT4 | typed::INT8) {
                    return None;
                }
                let column = self.partial(function, name, oid)?;
                Some(call(name, self.reference(column)))
            }
            _ => None,
        }
    }

    /// min and max of a column whose order is PostgreSQL's own, or of a number.
    fn extreme(&mut self, function: &Function, name: &str, argument: &Expr) -> Option<Expr> {
        let analysis = self.types.analysis;
        let column = match analysis.node(argument, &self.types.scopes) {
            Some(node) => Some(column_of(analysis, node)?),
            None => None,
        };
        let (oid, handed) = match (self.types.of(argument), column) {
            (Some(typed), _) if has_order(typed.oid) => {
                (typed.oid, Handed::plain(name_of(typed.oid)?))
            }
            // Of a varchar it is a text, under the column's collation.
            (None, Some(column))
                if matches!(column.type_oid, TEXT | VARCHAR)
                    && !analysis.names.catalog.text_order_differs =>
            {
                let collate = column.handed.collate.clone();
                let text = Handed::plain("text");
                (TEXT, Handed { collate, ..text })
            }
            (None, Some(column)) if has_order(column.type_oid) => {
                (column.type_oid, Handed::plain(&column.handed.base))
            }
            _ => return None,
        };
        let sql = format!("{}::{}", text_of(function, name)?, handed.base);
        let column = self.partial_column(sql, oid, handed);
        Some(call(name, self.reference(column)))
    }

    /// An aggregate of each value once: the shards group by the value, the residue aggregates.
    fn distinct(
        &mut self,
        function: &Function,
        name: &str,
        argument: &Expr,
        list: &FunctionArgumentList,
    ) -> Option<Expr> {
        if function.filter.is_some() || !matches!(name, "count" | "sum" | "avg") {
            return None;
        }
        let column = self.key(argument)?;
        let argument = FunctionArg::Unnamed(FunctionArgExpr::Expr(self.reference(column)));
        Some(Expr::Function(Function {
            args: FunctionArguments::List(FunctionArgumentList {
                args: vec![argument],
                ..list.clone()
            }),
            ..function.clone()
        }))
    }

    /// The column of an aggregate of this name with the arguments and the filter of another one.
    fn partial(&mut self, function: &Function, name: &str, oid: u32) -> Option<usize> {
        let handed = Handed::plain(name_of(oid)?);
        let sql = format!("{}::{}", text_of(function, name)?, handed.base);
        Some(self.partial_column(sql, oid, handed))
    }

    fn partial_column(&mut self, sql: String, oid: u32, handed: Handed) -> usize {
        self.partials += 1;
        if let Some(known) = self.columns.iter().position(|column| column.sql == sql) {
            return known;
        }
        self.add(sql, oid, handed)
    }

    /// How many there were on all shards; none where no shard has answered.
    fn sum_of_counts(&self, column: usize) -> Expr {
        let none = Expr::value(Value::Number("0".to_owned(), false));
        let sum = call("sum", self.reference(column));
        let arguments = [sum, none].map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e)));
        let name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new("coalesce"))]);
        cast(function(name, arguments.to_vec()), DataType::BigInt(None))
    }
}

/// The call as the shards get it.
fn text_of(function: &Function, name: &str) -> Option<String> {
    let mut called = function.clone();
    called.name = ours(name);
    parens::expr(&Expr::Function(called)).ok()
}

/// The built-in function of this name, whatever the search path.
fn ours(name: &str) -> ObjectName {
    let parts = ["pg_catalog", name].map(|part| ObjectNamePart::Identifier(Ident::new(part)));
    ObjectName(parts.to_vec())
}

fn call(name: &str, argument: Expr) -> Expr {
    let argument = FunctionArg::Unnamed(FunctionArgExpr::Expr(argument));
    function(ours(name), vec![argument])
}

fn function(name: ObjectName, args: Vec<FunctionArg>) -> Expr {
    Expr::Function(Function {
        name,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(expr),
        data_type,
        format: None,
    }
}

/// In parentheses, so that it binds wherever it is put.
fn nested(expr: Expr) -> Box<Expr> {
    Box::new(Expr::Nested(Box::new(expr)))
}
