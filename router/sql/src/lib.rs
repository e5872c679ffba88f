//! What can be known about SQL text without parsing it.
//!
//! Five readers over one lexer, all pure and sync, all over the client's own
//! bytes: where statements end (`split`), what a statement does to the session
//! and the transaction (`effect`), which statements differ only in their
//! literals (`shape`), and what of one may be logged (`redact`); and where a place in a text that was written from one
//! stands in it (`places`). Nothing here knows tables, shards or sockets, and
//! nothing here may be wrong about a statement that PostgreSQL accepts: where
//! tokens do not suffice, the answer is the careful one (`Unclear`, `Perhaps`).

pub mod clauses;
pub mod cursor;
pub mod date_style;
pub mod duration;
pub mod effect;
pub mod encoding;
pub mod fill;
pub mod functions;
pub mod keywords;
pub mod lexer;
pub mod name;
pub mod password;
pub mod places;
pub mod process;
pub mod quote;
pub mod redact;
pub mod shape;
pub mod spelled;
pub mod split;
pub mod time;
