//! Skeleton.

pub mod sql;
