//! Why the answers of several shards do not become one.

use mothership_proto::report::{Report, sqlstate};

use super::numeric::NumericError;

/// `numeric_value_out_of_range`
const OUT_OF_RANGE: &str = "22003";

/// Why rows of aggregates cannot be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// A sum beyond int8: what PostgreSQL says itself.
    #[error("bigint out of range")]
    BigintOutOfRange,
    /// A sum beyond numeric.
    #[error("value overflows numeric format")]
    NumericOverflow,
    /// The rows have another number of columns than the plan.
    #[error("shards answer with {found} columns, expected {expected}")]
    ColumnCount {
        /// As the shards say.
        found: usize,
        /// As planned.
        expected: usize,
    },
    /// A column is not of a type that this merge is exact for.
    #[error("column {column} has a type that cannot be merged (OID {type_oid})")]
    Type {
        /// Counted from 1.
        column: usize,
        /// The type.
        type_oid: u32,
    },
    /// The client wants a format that is neither text nor binary: what PostgreSQL says itself.
    #[error("unsupported format code: {code}")]
    Format {
        /// As Bind has it.
        code: i16,
    },
    /// A value that is not as its type is written.
    #[error("a shard sent a malformed value in column {column}")]
    Value {
        /// Counted from 1.
        column: usize,
    },
    /// A row that is cut short.
    #[error("a shard sent a malformed row")]
    Row,
    /// Rows that are locked have changed since they were sorted.
    #[error("could not serialize access due to concurrent update")]
    Changed,
    /// More or fewer rows than one of each shard.
    #[error("shards sent {found} rows of aggregates, expected {expected}")]
    Rows {
        /// As many came.
        found: usize,
        /// One of each shard.
        expected: usize,
    },
}

impl MergeError {
    /// An error of the arithmetic, or of the column, counted from 0.
    pub(super) fn of_numeric(error: NumericError, column: usize) -> MergeError {
        match error {
            NumericError::Overflow => MergeError::NumericOverflow,
            NumericError::Malformed => MergeError::Value { column: column + 1 },
        }
    }

    /// As the client sees it.
    pub fn report(&self) -> Report {
        let code = match self {
            MergeError::BigintOutOfRange | MergeError::NumericOverflow => OUT_OF_RANGE,
            MergeError::Changed => sqlstate::SERIALIZATION_FAILURE,
            MergeError::Format { .. } => sqlstate::INVALID_PARAMETER_VALUE,
            _ => sqlstate::INTERNAL_ERROR,
        };
        Report::error(code, self.to_string())
    }
}
