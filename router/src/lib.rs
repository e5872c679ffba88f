//! Mothership: one PostgreSQL endpoint in front of many databases.

pub mod config;
pub mod log;
pub mod sql;
