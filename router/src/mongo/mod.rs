//! MongoDB behind PostgreSQL's protocol: each member of a replica set is spoken to as if it were a server of
//! PostgreSQL.
//!
//! Whoever opens a connection to such a server gets one end of a stream within the process; at the other end a
//! [`conversation`] reads PostgreSQL's messages and answers them. So pools, health, balance, merges and gathering know
//! nothing of MongoDB ([ADR 21](../../../docs/adr/0021-a-member-of-mongodb-is-spoken-to-as-a-server-of-postgresql.md)). What a
//! statement means there is decided by [`mothership_documents`]; the driver is named here only.

mod alone;

mod conversation;

mod decisions;

mod direct;

pub mod hello;

pub mod look;

mod member;

mod outcome;

mod probe;

mod rows;

mod run;

mod settings;

mod text;

mod work;

pub use alone::Alone;
pub use direct::DirectOptions;
pub use member::{Encryption, Login, Member};
