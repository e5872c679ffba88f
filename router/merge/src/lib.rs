//! One answer made of the answers of several shards.
//!
//! Pure and sync: message bodies in, message bytes out, exactly those that one
//! PostgreSQL holding all the rows would send. What is not exactly known (another
//! type, another format, shards with different columns) is an error, never a guess.
//!
//! Where rows are only put one after another, they pass untouched and only their
//! [`RowDescription`](columns) and their [`CommandTag`] are merged; rows of
//! aggregates are merged by [`Aggregates`]; rows that the shards have sorted by [`SortedRows`]. Rows that another server is to work on become [`Arrays`].

pub mod columns;

pub mod plans;

mod aggregates;

mod arrays;

pub mod order;

mod sorted;

mod numeric;

mod tag;

mod error;

pub use aggregates::{AggregateMerge, Aggregates};
pub use arrays::{Arrays, KeyArray, NotTaken};
pub use columns::{Difference, reconcile};
pub use error::MergeError;
pub use numeric::{NumericError, NumericSum};
pub use order::{Order, order_of};
pub use sorted::{Shape, SortKey, SortedRows, rest_of};
pub use tag::{CommandTag, TagError};
