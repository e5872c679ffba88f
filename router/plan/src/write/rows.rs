//! The rows of a VALUES list: the key of each, and how the list is divided by shard.

use std::collections::HashMap;

use mothership_shardmap::KeyType;
use sqlparser::ast::{DataType, Expr, Value, Values};
use sqlparser::tokenizer::Location;

use crate::condition::{Cond, Scalar};
use crate::decide::{finish, keyed_by};
use crate::expr::{ExprContext, Level, cast_oid, is_default, placeholder, strip};
use crate::names::{Keyed, Place};
use crate::parse::{Parsed, Places};
use crate::query::{Ctes, Local};
use crate::refuse::{Reason, Refusal, not_understood};
use crate::scope::{Analysis, Source};
use crate::{MaxChars, Nulls, Plan, SameSharded, Split, SplitRows, Touches, ValuesRow};
use mothership_catalog::types::builtin_array_oid;
use mothership_catalog::{Name, Relation};

use super::insert::{Filled, without_key};
use super::{Written, nulls};

/// A VALUES list with the keys of its rows.
pub(super) struct Rows {
    table: Name,
    keys: Vec<Vec<Scalar>>,
    spans: Vec<(Location, Location)>,
    max_chars: MaxChars,
    nulls: Nulls,
    /// Parameters that stand alone in a row, with their column's type, or that of their cast.
    parameters: Vec<(u16, u32)>,
}

impl Rows {
    /// The key of each row as a condition; columns count from the first of the key.
    pub(super) fn conditions(&self) -> Vec<Cond> {
        let equal =
            |all: Cond, (at, value): (usize, &Scalar)| all.and(Cond::equals(at, value.clone()));
        let keys = self.keys.iter();
        keys.map(|key| key.iter().enumerate().fold(Cond::Any, equal))
            .collect()
    }
}

impl<'n> Analysis<'n> {
    /// Walks a VALUES list; the keys of its rows if they are those of a sharded table.
    pub(super) fn insert_values(
        &mut self,
        values: &Values,
        filled: &Filled<'n>,
        ctes: &Ctes<'_>,
        level: &mut Level,
    ) -> Result<Option<Rows>, Refusal> {
        let mut here = ExprContext::around(None, ctes, level);
        let parameters = self.walk_rows(values, filled, &mut here)?;
        let Place::Sharded(keyed) = &filled.place else {
            return Ok(None);
        };
        let relation = filled.relation;
        if !keyed.routable {
            return Err(Refusal::of_table(Reason::KeyType, &relation.name));
        }
        let (at, max_chars) = key_places(filled, keyed)?;
        let keys = self.row_keys(values, relation, keyed, &at)?;
        // For a write inside WITH the rows are conditions: all must lead to one shard.
        let columns: Vec<usize> = keyed.columns.iter().flatten().copied().collect();
        let any = keys.iter().fold(Cond::Never, |any, key| {
            let row = columns.iter().zip(key).fold(Cond::Any, |all, (c, s)| {
                all.and(Cond::equals(*c, s.clone()))
            });
            any.or(row)
        });
        self.facts.push((filled.instance, any));
        self.stored.insert(filled.instance, max_chars.clone());
        let rows = values.rows.iter();
        let spans = rows.map(|r| (r.opening_token.0.span.start, r.closing_token.0.span.start));
        Ok(Some(Rows {
            table: relation.name.clone(),
            keys,
            spans: spans.collect(),
            max_chars,
            nulls: nulls(relation, keyed),
            parameters,
        }))
    }

    /// Walks all values; the parameters among them that stand alone, with their column's type.
    fn walk_rows(
        &mut self,
        values: &Values,
        filled: &Filled<'n>,
        here: &mut ExprContext<'_>,
    ) -> Result<Vec<(u16, u32)>, Refusal> {
        let columns = &filled.relation.columns;
        let mut parameters = Vec::new();
        for row in &values.rows {
            for (at, expr) in row.content.iter().enumerate() {
                self.walk(expr, here)?;
                let position = filled.positions.get(at);
                let Some(column) = position.and_then(|p| columns.get(*p)) else {
                    continue;
                };
                let base = self.names.catalog.base_type(column.type_oid);
                if let Some(key_type) = KeyType::from_oid(base) {
                    self.note_use(expr, key_type);
                }
                if column.type_oid < FIRST_USER_OID
                    && let Some(number) = bare_parameter(expr)
                {
                    parameters.push((number, column.type_oid));
                } else if let Some(parameter) = cast_parameter(expr) {
                    parameters.push(parameter);
                }
            }
        }
        Ok(parameters)
    }

    /// The key of each row: constants, or parameters whose type is certain.
    fn row_keys(
        &self,
        values: &Values,
        relation: &Relation,
        keyed: &Keyed,
        at: &[usize],
    ) -> Result<Vec<Vec<Scalar>>, Refusal> {
        let mut keys = Vec::new();
        for row in &values.rows {
            let mut key = Vec::new();
            for (at, (name, _)) in at.iter().zip(&keyed.sharded.columns) {
                let refusal = |reason| Refusal::of_column(reason, &relation.name, name);
                let expr = row.content.get(*at).filter(|e| !is_default(e));
                let expr = expr.ok_or_else(|| refusal(Reason::InsertWithoutKey))?;
                let scalar = self.scalar(expr);
                key.push(scalar.ok_or_else(|| refusal(Reason::InsertKey))?);
            }
            keys.push(key);
        }
        let certain = self.certain_params();
        let unclear = keys.iter().flatten().any(
            |scalar| matches!(scalar, Scalar::Param { number, as_type: 0 } if !certain(*number)),
        );
        if unclear {
            return Err(Refusal::of_table(Reason::InsertKey, &relation.name));
        }
        Ok(keys)
    }
}

/// Where in a row each column of the key stands, and how long a text it takes.
fn key_places(filled: &Filled<'_>, keyed: &Keyed) -> Result<(Vec<usize>, MaxChars), Refusal> {
    let (mut at, mut max_chars) = (Vec::new(), Vec::new());
    for ((name, _), column) in keyed.sharded.columns.iter().zip(&keyed.columns) {
        let missing = || without_key(filled.relation, name);
        let column = column.ok_or_else(missing)?;
        let position = filled.positions.iter().position(|p| *p == column);
        at.push(position.ok_or_else(missing)?);
        max_chars.push(stored_chars(filled.relation, column)?);
    }
    Ok((at, MaxChars(max_chars)))
}

/// User types have other object ids on each shard, from this one on.
const FIRST_USER_OID: u32 = 16_384;

fn bare_parameter(expr: &Expr) -> Option<u16> {
    match strip(expr) {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(text) => placeholder(text),
            _ => None,
        },
        _ => None,
    }
}

/// A parameter that is cast, whatever follows: PostgreSQL takes it for what the first cast names.
fn cast_parameter(expr: &Expr) -> Option<(u16, u32)> {
    let Expr::Cast {
        expr, data_type, ..
    } = strip(expr)
    else {
        return None;
    };
    match bare_parameter(expr) {
        Some(number) => Some((number, named_type(data_type)?)),
        None => cast_parameter(expr),
    }
}

/// The object id of a type that SQL has a name for, whatever its modifier.
fn named_type(data_type: &DataType) -> Option<u32> {
    use sqlparser::ast::ArrayElemTypeDef::SquareBracket;
    Some(match data_type {
        DataType::Varchar(_) | DataType::CharacterVarying(_) => 1043,
        DataType::Numeric(_) | DataType::Decimal(_) => 1700,
        DataType::Real => 700,
        DataType::DoublePrecision => 701,
        DataType::JSON => 114,
        DataType::JSONB => 3802,
        DataType::Array(SquareBracket(element, _)) => builtin_array_oid(named_type(element)?)?,
        _ => cast_oid(data_type)?,
    })
}

/// The longest text that a varchar(n) stores as it is; other modifiers round, and are refused.
pub(super) fn stored_chars(relation: &Relation, column: usize) -> Result<Option<usize>, Refusal> {
    let info = &relation.columns[column];
    match (info.typmod, info.type_oid) {
        (-1, _) => Ok(None),
        (typmod, 1043) => Ok(usize::try_from(typmod - 4).ok()),
        _ => Err(Refusal::of_table(Reason::InsertKey, &relation.name)),
    }
}

pub(super) fn split(
    analysis: &Analysis<'_>,
    sql: &str,
    parsed: &Parsed,
    rows: &Rows,
    written: &Written,
) -> Result<Plan, Refusal> {
    let Source::Sharded(_, keyed) = &analysis.instances[written.target].source else {
        return not_understood();
    };
    let mut places = Places::new(sql);
    let spans = rows.spans.iter().map(|(open, close)| {
        // The closing parenthesis is one byte.
        let start = places.advance_to(*open);
        start..places.advance_to(*close) + 1
    });
    let values = spans
        .zip(&rows.keys)
        .map(|(span, key)| ValuesRow {
            span,
            key: key.clone(),
        })
        .collect();
    let others: Vec<_> = analysis
        .sharded()
        .filter(|(index, _, _)| *index != written.target)
        .filter_map(|(index, _, _)| keyed_by(analysis, index))
        .collect();
    if let Some(unbound) = others.iter().find(|k| k.cond == Cond::Any) {
        return Err(Refusal::of_table(Reason::Subquery, &unbound.table));
    }
    // What may not happen beside sharded tables is the same as in a query.
    finish(analysis, written.local.clone(), Some(written.target))?;
    let whole = match &written.local {
        Local::No(refusal) => Some(refusal.clone()),
        _ => None,
    };
    Ok(Plan::Split(Split {
        table: rows.table.clone(),
        sharded: SameSharded(keyed.sharded.clone()),
        rows: SplitRows::Values {
            rows: values,
            parameter_types: parameter_types(analysis, parsed, rows),
            max_chars: rows.max_chars.clone(),
            nulls: rows.nulls,
            whole,
        },
        others,
        touches: Touches::Anything,
    }))
}

/// The type of each parameter; 0 where it follows only from how PostgreSQL reads the text.
fn parameter_types(analysis: &Analysis<'_>, parsed: &Parsed, rows: &Rows) -> Vec<u32> {
    let count = parsed
        .placeholders
        .iter()
        .map(|(_, n)| *n)
        .max()
        .unwrap_or(0);
    let mut uses: HashMap<u16, usize> = HashMap::new();
    for (_, number) in &parsed.placeholders {
        *uses.entry(*number).or_default() += 1;
    }
    // How often a parameter stands alone in a row, and the type of its columns if that is one.
    let mut alone: HashMap<u16, (usize, u32)> = HashMap::new();
    for (number, oid) in &rows.parameters {
        let (count, known) = alone.entry(*number).or_insert((0, *oid));
        *count += 1;
        if known != oid {
            *known = 0;
        }
    }
    let declared = |number: u16| {
        let at = usize::from(number).checked_sub(1)?;
        analysis
            .context
            .parameter_types
            .get(at)
            .copied()
            .filter(|oid| *oid != 0)
    };
    let of = |number: u16| match (declared(number), uses.get(&number)) {
        (Some(oid), _) => oid,
        (None, Some(count)) => match alone.get(&number) {
            Some((all, oid)) if all == count => *oid,
            _ => 0,
        },
        (None, None) => 0,
    };
    (1..=count).map(of).collect()
}
