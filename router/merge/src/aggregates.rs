//! Merges the single rows of ungrouped aggregates into one.
//!
//! Every shard answers with exactly one row; each column is merged on its own, in
//! the format in which it comes. Only integers, and sums that are numeric: they are
//! exact whatever the order of the rows.

use mothership_proto::backend::{Column, put_row, row_values};

use super::error::MergeError;
use super::numeric::NumericSum;

const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const NUMERIC: u32 = 1700;

/// How one column of aggregates is merged. NULL is no value; without any value the result is
/// NULL, except for counts, which are never NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateMerge {
    /// Sum of counts: bigint. An overflow is 22003.
    Count,
    /// Sum of `sum(int2)` or `sum(int4)`: bigint. An overflow is 22003.
    SumBigint,
    /// Sum of `sum(bigint)` or `sum(numeric)`: numeric of any size.
    SumNumeric,
    /// The smallest integer.
    Min,
    /// The largest integer.
    Max,
}

/// Rows of aggregates on their way to one.
#[derive(Debug)]
pub struct Aggregates {
    columns: Vec<Merged>,
    rows: usize,
}

#[derive(Debug)]
struct Merged {
    form: Form,
    binary: bool,
    state: Total,
}

/// How an integer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Int2,
    Int4,
    Int8,
    Numeric,
}

#[derive(Debug)]
enum Total {
    Count(i64),
    Sum(Option<i64>),
    Numeric(Option<NumericSum>),
    Min(Option<i64>),
    Max(Option<i64>),
}

impl Aggregates {
    /// For rows with these columns, as the shards describe them, with the formats in which they come.
    pub fn new(merges: &[AggregateMerge], columns: &[Column]) -> Result<Aggregates, MergeError> {
        if merges.len() != columns.len() {
            return Err(MergeError::ColumnCount {
                found: columns.len(),
                expected: merges.len(),
            });
        }
        let pairs = merges.iter().zip(columns).enumerate();
        let columns = pairs.map(|(index, (merge, column))| merged(*merge, column, index + 1));
        Ok(Aggregates {
            columns: columns.collect::<Result<_, _>>()?,
            rows: 0,
        })
    }

    /// Adds the body of a shard's DataRow.
    pub fn row(&mut self, body: &[u8]) -> Result<(), MergeError> {
        let values = row_values(body).map_err(|_| MergeError::Row)?;
        if values.len() != self.columns.len() {
            return Err(MergeError::ColumnCount {
                found: values.len(),
                expected: self.columns.len(),
            });
        }
        self.rows += 1;
        for (index, (column, value)) in self.columns.iter_mut().zip(values).enumerate() {
            column.add(value, index)?;
        }
        Ok(())
    }

    /// Writes the one DataRow, when each of `shards` has sent its own.
    pub fn finish(&self, shards: usize, out: &mut Vec<u8>) -> Result<(), MergeError> {
        if self.rows != shards {
            return Err(MergeError::Rows {
                found: self.rows,
                expected: shards,
            });
        }
        let values = self.columns.iter().enumerate();
        let values: Vec<Option<Vec<u8>>> = values
            .map(|(index, column)| column.value(index))
            .collect::<Result<_, _>>()?;
        put_row(out, values.iter().map(Option::as_deref));
        Ok(())
    }
}

fn merged(merge: AggregateMerge, column: &Column, number: usize) -> Result<Merged, MergeError> {
    let form = match column.type_oid {
        INT2 => Form::Int2,
        INT4 => Form::Int4,
        INT8 => Form::Int8,
        NUMERIC => Form::Numeric,
        type_oid => {
            let column = number;
            return Err(MergeError::Type { column, type_oid });
        }
    };
    let state = match (merge, form) {
        (AggregateMerge::Count, Form::Int8) => Total::Count(0),
        (AggregateMerge::SumBigint, Form::Int8) => Total::Sum(None),
        (AggregateMerge::SumNumeric, Form::Numeric) => Total::Numeric(None),
        (AggregateMerge::Min, Form::Int2 | Form::Int4 | Form::Int8) => Total::Min(None),
        (AggregateMerge::Max, Form::Int2 | Form::Int4 | Form::Int8) => Total::Max(None),
        _ => {
            return Err(MergeError::Type {
                column: number,
                type_oid: column.type_oid,
            });
        }
    };
    let binary = match column.format {
        0 => false,
        1 => true,
        code => return Err(MergeError::Format { code }),
    };
    Ok(Merged {
        form,
        binary,
        state,
    })
}

impl Merged {
    fn add(&mut self, value: Option<&[u8]>, index: usize) -> Result<(), MergeError> {
        let malformed = MergeError::Value { column: index + 1 };
        let Some(bytes) = value else {
            // A count is never NULL.
            let wrong = matches!(self.state, Total::Count(_));
            return if wrong { Err(malformed) } else { Ok(()) };
        };
        let (form, binary) = (self.form, self.binary);
        let integer = || integer(form, binary, bytes).ok_or(malformed);
        let bigger = MergeError::BigintOutOfRange;
        match &mut self.state {
            Total::Count(sum) => *sum = sum.checked_add(integer()?).ok_or(bigger)?,
            Total::Sum(sum) => {
                let total = sum.unwrap_or(0).checked_add(integer()?);
                *sum = Some(total.ok_or(bigger)?);
            }
            Total::Numeric(sum) => {
                let sum = sum.get_or_insert_default();
                let added = match binary {
                    true => sum.add_binary(bytes),
                    false => sum.add_text(bytes),
                };
                added.map_err(|error| MergeError::of_numeric(error, index))?;
            }
            Total::Min(least) => {
                let value = integer()?;
                *least = Some(least.map_or(value, |known| known.min(value)));
            }
            Total::Max(most) => {
                let value = integer()?;
                *most = Some(most.map_or(value, |known| known.max(value)));
            }
        }
        Ok(())
    }

    fn value(&self, index: usize) -> Result<Option<Vec<u8>>, MergeError> {
        let integer = match &self.state {
            Total::Count(count) => Some(*count),
            Total::Sum(value) | Total::Min(value) | Total::Max(value) => *value,
            Total::Numeric(sum) => {
                let write = |sum: &NumericSum| match self.binary {
                    true => sum.binary(),
                    false => sum.text(),
                };
                let written = sum.as_ref().map(write).transpose();
                return written.map_err(|error| MergeError::of_numeric(error, index));
            }
        };
        Ok(integer.map(|value| written(self.form, self.binary, value)))
    }
}

/// An integer as PostgreSQL writes it, and not otherwise.
fn integer(form: Form, binary: bool, bytes: &[u8]) -> Option<i64> {
    if binary {
        return match form {
            Form::Int2 => Some(i16::from_be_bytes(bytes.try_into().ok()?).into()),
            Form::Int4 => Some(i32::from_be_bytes(bytes.try_into().ok()?).into()),
            Form::Int8 => Some(i64::from_be_bytes(bytes.try_into().ok()?)),
            Form::Numeric => None,
        };
    }
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// The smallest and largest are values of the shards, so that they fit; sums are of eight bytes.
fn written(form: Form, binary: bool, value: i64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    match (binary, form) {
        (false, _) => value.to_string().into_bytes(),
        (true, Form::Int2) => bytes[6..].to_vec(),
        (true, Form::Int4) => bytes[4..].to_vec(),
        (true, _) => bytes.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AggregateMerge::*;

    type Values<'a> = &'a [Option<&'a [u8]>];

    fn merge(
        merges: &[AggregateMerge],
        types: &[(u32, i16)],
        rows: &[Values<'_>],
    ) -> Result<Vec<Option<Vec<u8>>>, MergeError> {
        let columns: Vec<Column> = (types.iter())
            .map(|(oid, format)| Column {
                format: *format,
                ..Column::of("c", *oid, 8)
            })
            .collect();
        let mut all = Aggregates::new(merges, &columns)?;
        for row in rows {
            let mut message = Vec::new();
            put_row(&mut message, row.iter().copied());
            all.row(&message[5..])?;
        }
        let mut out = Vec::new();
        all.finish(rows.len(), &mut out)?;
        let values = row_values(&out[5..]).unwrap();
        Ok(values.iter().map(|v| v.map(<[u8]>::to_vec)).collect())
    }

    #[test]
    fn no_shard_counts_zero_and_knows_nothing_else() {
        let merges = [Count, SumBigint, SumNumeric, Min, Max];
        let types = [(20, 0), (20, 1), (1700, 0), (23, 0), (21, 1)];
        let wanted = vec![Some(b"0".to_vec()), None, None, None, None];
        assert_eq!(merge(&merges, &types, &[]), Ok(wanted.clone()));
        let nulls: Values<'_> = &[Some(b"0"), None, None, None, None];
        assert_eq!(merge(&merges, &types, &[nulls, nulls]), Ok(wanted));
    }

    #[test]
    fn each_column_is_merged_in_its_own_format() {
        let merges = [Count, SumBigint, SumNumeric, Min, Max];
        let types = [(20, 1), (20, 0), (1700, 0), (23, 0), (21, 1)];
        let rows: [Values<'_>; 3] = [
            &[
                Some(&[0, 0, 0, 0, 0, 0, 1, 0]),
                Some(b"-5"),
                Some(b"1.50"),
                Some(b"7"),
                Some(&[0xff, 0xfe]),
            ],
            &[Some(&[0; 8]), None, None, None, None],
            &[
                Some(&[0, 0, 0, 0, 0, 0, 0, 1]),
                Some(b"3"),
                Some(b"2"),
                Some(b"-7"),
                Some(&[0, 3]),
            ],
        ];
        let wanted: [&[u8]; 5] = [&[0, 0, 0, 0, 0, 0, 1, 1], b"-2", b"3.50", b"-7", &[0, 3]];
        let wanted = wanted.iter().map(|v| Some(v.to_vec())).collect();
        assert_eq!(merge(&merges, &types, &rows), Ok(wanted));
    }

    #[test]
    fn sums_beyond_bigint_are_an_error_as_in_postgres() {
        let most: Values<'_> = &[Some(b"9223372036854775807")];
        let one: Values<'_> = &[Some(b"1")];
        for kind in [Count, SumBigint] {
            let sum = merge(&[kind], &[(20, 0)], &[most, one]);
            assert_eq!(sum, Err(MergeError::BigintOutOfRange));
        }
        assert_eq!(MergeError::BigintOutOfRange.report().code, "22003");
    }

    #[test]
    fn what_is_not_proven_is_refused() {
        let none: &[Values<'_>] = &[];
        for (kind, oid) in [
            (Count, 23),
            (SumBigint, 1700),
            (SumNumeric, 20),
            (SumNumeric, 701),
            (Min, 25),
            (Max, 1700),
        ] {
            let refused = merge(&[kind], &[(oid, 0)], none);
            assert!(
                matches!(refused, Err(MergeError::Type { .. })),
                "{kind:?} {oid}"
            );
        }
        assert!(merge(&[Min], &[(23, 2)], none).is_err());
        assert!(merge(&[Min, Max], &[(23, 0)], none).is_err());
        let bad: [(i16, &[u8]); 6] = [
            (0, b""),
            (0, b"+1"),
            (0, b"1 "),
            (0, b"99999999999999999999"),
            (1, b"1"),
            (1, &[0; 9]),
        ];
        for (format, bytes) in bad {
            let merged = merge(&[Min], &[(20, format)], &[&[Some(bytes)]]);
            assert_eq!(merged, Err(MergeError::Value { column: 1 }), "{bytes:?}");
        }
        let null = merge(&[Count], &[(20, 0)], &[&[None]]);
        assert_eq!(null, Err(MergeError::Value { column: 1 }));
    }

    #[test]
    fn each_shard_must_have_sent_its_row() {
        let columns = [Column::of("count", 20, 8)];
        let all = Aggregates::new(&[Count], &columns).unwrap();
        let short = all.finish(1, &mut Vec::new());
        assert_eq!(
            short,
            Err(MergeError::Rows {
                found: 0,
                expected: 1
            })
        );
    }
}
