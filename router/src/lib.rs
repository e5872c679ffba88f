//! Skeleton.

pub mod cluster;
