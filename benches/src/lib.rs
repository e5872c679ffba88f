//! What measures the router beside PgBouncer and beside PostgreSQL itself; `make bench` runs it.
//!
//! A run starts everything that it needs ([`stage`]), lets pgbench load the targets in turns
//! ([`load`]), and compares what was seen within each round ([`figures`]). Figures of different
//! runs are never compared: on a machine that does other things, too, they mean nothing.

pub mod options;

pub mod case;

pub mod figures;

pub mod bars;

pub mod scripts;

pub mod report;

pub mod setting;

pub mod document;

pub mod page;

pub mod load;

pub mod client;

pub mod bulk;

pub mod event;

pub mod driver;

pub mod statements;

pub mod mongo;

pub mod trace;

pub mod idle;

pub mod planning;

pub mod stage;

pub mod proxy;

pub mod interrupt;

pub mod child;
