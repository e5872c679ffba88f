//! ORDER BY, LIMIT and OFFSET.
//!
//! MongoDB has NULL before every value and NaN before every number; PostgreSQL has NaN after the numbers, and NULL after
//! everything unless told otherwise. Where that matters, documents are sorted by a rank first, which tells values, NaN
//! and NULL apart.

use bson::{Bson, Document, doc};
use sqlparser::ast::{
    Expr, Fetch, LimitClause, Offset, OrderBy, OrderByExpr, OrderByKind, OrderByOptions,
    OrderBySort,
};

use super::super::{Fault, Kind};
use super::condition::Condition;
use super::constant::{Bound, Constant, Literal};
use super::scope::Parameters;
use super::{Result, because};

/// The name of a rank is this and a number.
pub(crate) const RANK: &str = "mothership_rank_";

/// MongoDB's limit.
const MAX_KEYS: usize = 16;

/// What the rows are sorted by.
#[derive(Clone, Debug, Default)]
pub(super) struct Order(Vec<Key>);

/// Something that rows can be sorted by.
#[derive(Clone, Debug)]
pub(super) struct Sortable {
    /// Where it is, with dots.
    pub path: String,
    /// Its type.
    pub kind: Kind,
    /// The column that may be NULL, and that WHERE may exclude.
    pub nullable: Option<usize>,
}

#[derive(Clone, Debug)]
struct Key {
    by: Sortable,
    descending: bool,
    nulls_first: bool,
}

impl Order {
    /// Of ORDER BY, whose expressions the caller understands.
    pub fn of(
        order_by: Option<&OrderBy>,
        mut sortable: impl FnMut(&Expr) -> Result<Sortable>,
    ) -> Result<Order> {
        let Some(OrderBy { kind, interpolate }) = order_by else {
            return Ok(Order::default());
        };
        let (OrderByKind::Expressions(list), None) = (kind, interpolate) else {
            return Err(because("an order that PostgreSQL does not know"));
        };
        let mut keys: Vec<Key> = Vec::new();
        for OrderByExpr {
            expr,
            options,
            with_fill,
        } in list
        {
            if with_fill.is_some() {
                return Err(because("an order that PostgreSQL does not know"));
            }
            let key = Key::of(sortable(expr)?, options)?;
            // What is equal already cannot be sorted by the same again.
            if keys.iter().all(|other| other.by.path != key.by.path) {
                keys.push(key);
            }
        }
        match keys.len() {
            0..=MAX_KEYS => Ok(Order(keys)),
            _ => Err(because("an order of too many columns")),
        }
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The stages that sort; none without ORDER BY. `$sort` alone is what `find` can do, too.
    pub fn stages(&self, condition: &Condition) -> Vec<Document> {
        let mut ranks = Document::new();
        let mut sort = Document::new();
        for (position, key) in self.0.iter().enumerate() {
            let direction = if key.descending { -1 } else { 1 };
            if let Some(rank) = key.rank(condition) {
                let name = format!("{RANK}{position}");
                sort.insert(&name, direction);
                ranks.insert(name, rank);
            }
            sort.insert(&key.by.path, direction);
        }
        let mut stages = Vec::new();
        if !ranks.is_empty() {
            stages.push(doc! { "$addFields": ranks });
        }
        if !sort.is_empty() {
            stages.push(doc! { "$sort": sort });
        }
        stages
    }
}

impl Key {
    fn of(by: Sortable, options: &OrderByOptions) -> Result<Key> {
        let OrderByOptions { sort, nulls_first } = options;
        if matches!(by.kind, Kind::Bytea | Kind::Jsonb | Kind::Array(_)) {
            return Err(because("an order that MongoDB does not have"));
        }
        let descending = match sort {
            None | Some(OrderBySort::Asc) => false,
            Some(OrderBySort::Desc) => true,
            Some(OrderBySort::Using(_)) => return Err(because("an order by an operator")),
        };
        Ok(Key {
            by,
            descending,
            nulls_first: nulls_first.unwrap_or(descending),
        })
    }

    /// What tells NULL, values and NaN apart, unless MongoDB's own order is right.
    fn rank(&self, condition: &Condition) -> Option<Bson> {
        let nullable = self
            .by
            .nullable
            .is_some_and(|column| !condition.excludes_null(column));
        let misplaced = nullable && self.nulls_first == self.descending;
        let has_nan = matches!(self.by.kind, Kind::Float4 | Kind::Float8 | Kind::Numeric);
        let path = format!("${}", self.by.path);
        let numbers = match has_nan {
            true => doc! { "$cond": [{ "$eq": [&path, f64::NAN] }, 1, 0] }.into(),
            false => Bson::Int32(0),
        };
        let rank_of_null = if self.nulls_first == self.descending {
            2
        } else {
            -1
        };
        let is_null = doc! { "$eq": [{ "$ifNull": [&path, Bson::Null] }, Bson::Null] };
        match (misplaced || has_nan, nullable) {
            (false, _) => None,
            (true, true) => Some(doc! { "$cond": [is_null, rank_of_null, numbers] }.into()),
            (true, false) => Some(numbers),
        }
    }
}

/// LIMIT and OFFSET.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    limit: Option<Constant>,
    offset: Option<Constant>,
}

/// The same with their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Rows before the first.
    pub skip: u64,
    /// At most so many.
    pub limit: Option<u64>,
}

impl Window {
    /// Whether there is neither.
    pub fn is_none(&self) -> bool {
        self.limit.is_none() && self.offset.is_none()
    }

    /// Of a query's clauses.
    pub fn of(
        clause: Option<&LimitClause>,
        fetch: Option<&Fetch>,
        parameters: &mut Parameters,
    ) -> Result<Window> {
        let (limit, offset) = match clause {
            None => (None, None),
            Some(LimitClause::LimitOffset {
                limit,
                offset,
                limit_by,
            }) if limit_by.is_empty() => (limit.as_ref(), offset.as_ref()),
            Some(_) => return Err(because("a limit that PostgreSQL does not know")),
        };
        // PostgreSQL reads OFFSET first.
        let offset = offset
            .map(|Offset { value, rows: _ }| count(value, parameters))
            .transpose()?;
        let limit = match (limit, fetch) {
            (None, None) => None,
            (Some(limit), None) => Some(count(limit, parameters)?),
            (
                None,
                Some(Fetch {
                    with_ties: false,
                    percent: false,
                    quantity: Some(quantity),
                }),
            ) => Some(count(quantity, parameters)?),
            _ => return Err(because("FETCH of another form")),
        };
        Ok(Window { limit, offset })
    }

    /// The values; they may not be negative, and NULL is none.
    pub fn bind(&self, bound: &Bound<'_>) -> std::result::Result<Page, Fault> {
        let offset = rows(
            self.offset.as_ref(),
            bound,
            "2201X",
            "OFFSET must not be negative",
        )?;
        let limit = rows(
            self.limit.as_ref(),
            bound,
            "2201W",
            "LIMIT must not be negative",
        )?;
        Ok(Page {
            skip: offset.unwrap_or(0),
            limit,
        })
    }
}

impl Page {
    /// As stages; a limit is never 0 here, which MongoDB refuses.
    pub fn stages(&self) -> Vec<Document> {
        let count = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
        let skip = (self.skip > 0).then(|| doc! { "$skip": count(self.skip) });
        let limit = self.limit.filter(|limit| *limit > 0);
        skip.into_iter()
            .chain(limit.map(|limit| doc! { "$limit": count(limit) }))
            .collect()
    }
}

fn count(expr: &Expr, parameters: &mut Parameters) -> Result<Constant> {
    let constant = Literal::read(expr, parameters)?
        .ok_or_else(|| because("a limit that is computed"))?
        .typed(&Kind::Int8, parameters)?;
    match constant.kind {
        Kind::Int2 | Kind::Int4 | Kind::Int8 => Ok(constant),
        _ => Err(because("a limit that is no integer")),
    }
}

fn rows(
    constant: Option<&Constant>,
    bound: &Bound<'_>,
    sqlstate: &'static str,
    negative: &'static str,
) -> std::result::Result<Option<u64>, Fault> {
    let number = match constant
        .map(|constant| constant.plain(bound))
        .transpose()?
        .flatten()
    {
        None => return Ok(None),
        Some(Bson::Int32(number)) => i64::from(number),
        Some(Bson::Int64(number)) => number,
        Some(_) => return Err(Fault::new("XX000", "the number of rows is no integer")),
    };
    u64::try_from(number)
        .map(Some)
        .map_err(|_| Fault::new(sqlstate, negative))
}
