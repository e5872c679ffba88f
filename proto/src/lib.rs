//! The PostgreSQL wire protocol as bytes and states.
//!
//! Nothing here knows a socket or a runtime. Bytes come in as slices, leave as
//! appended `Vec<u8>`, and what may follow what is kept in small state machines.
//! The protocol is described in the PostgreSQL manual, chapter "Frontend/Backend
//! Protocol"; names of messages here are the manual's.
//!
//! Modules in reading order: a frame is cut from the stream, the messages of
//! each side are read and written, an error gets its fields, and the ledger
//! says which replies a server still owes to whom.

pub mod frame;

pub mod frontend;

pub mod segment;

pub mod backend;

pub mod report;

pub mod ledger;

pub mod startup;

pub mod auth;
