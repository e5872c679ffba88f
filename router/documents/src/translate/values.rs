//! A SELECT without FROM, of constants and of functions that are called with constants.

use bson::Bson;
use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, LimitClause, SelectItem,
    SetExpr, Statement, Value as Token, ValueWithSpan,
};

use super::scope::{folded, words};
use super::select::{Parts, constant};
use super::{Output, Result, Source, because};

const SCHEMA: &str = "current_schema";

/// A column of the answer to such a SELECT.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// The statement has its value as a constant.
    Constant(Output),
    /// A function gives its value.
    Call(Call),
}

/// A call of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Its name, without `pg_catalog`.
    pub function: String,
    /// Constants.
    pub arguments: Vec<Bson>,
    /// What the column is called.
    pub name: String,
}

/// The columns that such a statement asks for; None if it is no SELECT without FROM.
///
/// # Errors
/// It is a SELECT without FROM, but has other clauses, or a column that is neither a constant nor a call with
/// constants.
pub fn values(statement: &Statement) -> Result<Option<Vec<Value>>> {
    let Statement::Query(query) = statement else {
        return Ok(None);
    };
    let SetExpr::Select(clauses) = &*query.body else {
        return Ok(None);
    };
    if !clauses.from.is_empty() {
        return Ok(None);
    }
    let parts = Parts::of(clauses)?;
    let is_plain = query.with.is_none()
        && query.order_by.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty()
        && parts.selection.is_none()
        && !parts.has_groups();
    let is_whole = match &query.limit_clause {
        None => true,
        Some(LimitClause::LimitOffset {
            limit,
            offset,
            limit_by,
        }) => limit.is_none() && offset.is_none() && limit_by.is_empty(),
        Some(_) => false,
    };
    if !(is_plain && is_whole) || parts.projection.is_empty() {
        return Err(because(
            "a SELECT without FROM that has other clauses or no columns",
        ));
    }
    let value = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) => value(expr, None),
        SelectItem::ExprWithAlias { expr, alias } => value(expr, Some(folded(alias)?)),
        _ => Err(because("`*` in a SELECT without FROM")),
    };
    parts
        .projection
        .iter()
        .map(value)
        .collect::<Result<_>>()
        .map(Some)
}

fn value(expr: &Expr, alias: Option<String>) -> Result<Value> {
    match expr {
        Expr::Nested(expr) => value(expr, alias),
        Expr::Function(function) => call(function, alias).map(Value::Call),
        // Without parentheses `current_schema` is a keyword that calls the function.
        Expr::Identifier(name) if name.quote_style.is_none() && folded(name)? == SCHEMA => {
            Ok(Value::Call(Call {
                function: SCHEMA.to_owned(),
                arguments: Vec::new(),
                name: alias.unwrap_or_else(|| SCHEMA.to_owned()),
            }))
        }
        _ => match constant(expr, alias.as_deref())? {
            Some(output) => Ok(Value::Constant(output)),
            None => Err(because(
                "an expression without FROM that has to be computed",
            )),
        },
    }
}

fn call(function: &Function, alias: Option<String>) -> Result<Call> {
    let Function {
        name,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args,
        filter: None,
        null_treatment: None,
        over: None,
        within_group,
    } = function
    else {
        return Err(because(
            "a call of a function that has more than plain arguments",
        ));
    };
    let parts = words(name)?;
    let function = match parts.as_slice() {
        [function] => function,
        [schema, function] if schema == "pg_catalog" => function,
        _ => return Err(because("a function of another schema")),
    };
    let arguments = match args {
        FunctionArguments::None => Vec::new(),
        FunctionArguments::List(list)
            if list.clauses.is_empty() && list.duplicate_treatment.is_none() =>
        {
            list.args.iter().map(argument).collect::<Result<_>>()?
        }
        _ => {
            return Err(because(
                "a call of a function that has more than plain arguments",
            ));
        }
    };
    if !within_group.is_empty() {
        return Err(because(
            "a call of a function that has more than plain arguments",
        ));
    }
    Ok(Call {
        name: alias.unwrap_or_else(|| function.clone()),
        function: function.clone(),
        arguments,
    })
}

fn argument(argument: &FunctionArg) -> Result<Bson> {
    let other = || because("an argument of a function that is no constant");
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument else {
        return Err(other());
    };
    if let Expr::Value(ValueWithSpan {
        value: Token::EscapedStringLiteral(text),
        span: _,
    }) = expr
    {
        return Ok(Bson::String(text.clone()));
    }
    match constant(expr, None)?.map(|output| output.source) {
        Some(Source::Constant(value)) => Ok(value),
        _ => Err(other()),
    }
}
