//! `SELECT unnest($1::int8[]), unnest($2::text[])`: rows whose columns come as arrays, as the router hands them over.

use bson::{Bson, RawDocumentBuf};
use sqlparser::ast::{
    CastKind, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Query, SelectItem,
};

use super::super::value;
use super::super::{Collection, Fault, Kind};
use super::assigned::{self, Assigned, takes, written};
use super::constant::{Bound, Constant, Literal, kind_of};
use super::scope::{Parameters, Scope, words};
use super::select::shown;
use super::{Result, because};

/// An array, each of whose elements is a row's value.
#[derive(Clone, Debug)]
pub(super) struct Unnested {
    array: Constant,
    /// The elements are texts of the column's type.
    as_text: bool,
}

/// The arrays of a query that is nothing else than rows made of them, with the positions of their columns; none if it is
/// another one.
pub(super) fn unnested(
    query: &Query,
    scope: &Scope,
    targets: &[usize],
    parameters: &mut Parameters,
) -> Result<Option<Vec<(usize, Unnested)>>> {
    let Some(items) = shown(query) else {
        return Ok(None);
    };
    let calls: Option<Vec<Call<'_>>> = items.iter().map(call).collect();
    let Some(calls) = calls.filter(|calls| !calls.is_empty()) else {
        return Ok(None);
    };
    if calls.len() > targets.len() {
        return Err(because("as many values as columns are needed"));
    }
    let mut columns = Vec::new();
    for (target, call) in targets.iter().zip(calls) {
        columns.push((*target, call.read(&scope.at(*target).kind, parameters)?));
    }
    Ok(Some(columns))
}

/// `unnest(array)`, and what it is cast to.
struct Call<'e> {
    array: &'e Expr,
    cast: Option<&'e sqlparser::ast::DataType>,
}

fn call(item: &SelectItem) -> Option<Call<'_>> {
    let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, alias: _ }) = item
    else {
        return None;
    };
    let (expr, cast) = match expr {
        Expr::Cast {
            kind: CastKind::DoubleColon,
            expr,
            data_type,
            format: None,
        } => (&**expr, Some(data_type)),
        expr => (expr, None),
    };
    let Expr::Function(Function {
        name,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args:
            FunctionArguments::List(FunctionArgumentList {
                duplicate_treatment: None,
                args,
                clauses,
            }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group,
    }) = expr
    else {
        return None;
    };
    let is_unnest = words(name).is_ok_and(|words| words == ["unnest"]);
    match args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(array))]
            if is_unnest && clauses.is_empty() && within_group.is_empty() =>
        {
            Some(Call { array, cast })
        }
        _ => None,
    }
}

impl Call<'_> {
    fn read(&self, column: &Kind, parameters: &mut Parameters) -> Result<Unnested> {
        let no_array = || because("unnest of something else than an array");
        let literal = Literal::read(self.array, parameters)?.ok_or_else(no_array)?;
        let kind = literal.own_kind(parameters).ok_or_else(no_array)?;
        let array = literal.typed(&kind, parameters)?;
        let Kind::Array(element) = &array.kind else {
            return Err(no_array());
        };
        let as_text = match self.cast {
            None if takes(column, element) => false,
            Some(cast) if **element == Kind::Text && kind_of(cast)? == written(column) => true,
            _ => return Err(because("a value of another type")),
        };
        Ok(Unnested { array, as_text })
    }
}

impl Unnested {
    /// The values of its column, one for each row.
    fn values(
        &self,
        column: &Kind,
        bound: &Bound<'_>,
    ) -> std::result::Result<Vec<Option<Bson>>, Fault> {
        let given = Kind::Array(Box::new(column.clone()));
        let elements = match self.array.for_column(&given, bound)? {
            None => Vec::new(),
            Some(Bson::Array(elements)) => elements,
            Some(_) => return Err(Fault::new("XX000", "an array's value is no array")),
        };
        let value = |element: Bson| match element {
            Bson::Null => Ok(None),
            Bson::String(text) if self.as_text => {
                let value = value::from_text(column, &text, bound.forms)?;
                assigned::stored(column, value, bound.forms).map(Some)
            }
            element => assigned::stored(column, element, bound.forms).map(Some),
        };
        elements.into_iter().map(value).collect()
    }
}

/// The rows, see [`assigned::documents`]. Of arrays of different lengths the longest says how many there are, as in
/// PostgreSQL.
pub(super) fn documents(
    collection: &Collection,
    columns: &[(usize, Unnested)],
    bound: &Bound<'_>,
) -> std::result::Result<(Vec<RawDocumentBuf>, Option<Fault>), Fault> {
    let mut given: Vec<Option<Vec<Option<Bson>>>> = vec![None; collection.columns.len()];
    let mut count = 0;
    for (at, unnested) in columns {
        let values = unnested.values(&collection.columns[*at].kind, bound)?;
        count = count.max(values.len());
        given[*at] = Some(values);
    }
    let row = |number: usize| {
        assigned::document(collection, bound.forms, |at, column| match &mut given[at] {
            Some(values) => Ok(values.get_mut(number).and_then(Option::take)),
            None => Assigned::Default.value(column, bound),
        })
        // The row may have values that are stored, and that the client may not read.
        .map_err(|fault| Fault {
            detail: None,
            ..fault
        })
    };
    assigned::documents((0..count).map(row))
}
