//! Tables whose rows are documents of MongoDB: what SQL means there, decided without a server.
//!
//! A declaration says which column is which field ([`table`]). [`value`] turns PostgreSQL's values into BSON and back,
//! byte for byte, or says why there is no such value. [`translate`] makes a command of a statement, or says why none
//! gives PostgreSQL's own answer; then the rows are gathered, and PostgreSQL computes it. [`rest`] is the column of all
//! fields that have no other. [`drift`] says where a
//! collection is not as declared, and [`infer`] proposes a declaration. Nothing here waits, and nothing here knows the
//! driver: `mongo` does.

pub mod fault;
pub mod set;
pub mod snapshot;
pub mod table;

#[cfg(feature = "mongo")]
pub mod translate;
#[cfg(feature = "mongo")]
pub mod value;

#[cfg(feature = "mongo")]
pub mod field;
#[cfg(feature = "mongo")]
pub mod index;
#[cfg(feature = "mongo")]
pub mod rest;

#[cfg(feature = "mongo")]
pub mod drift;
#[cfg(feature = "mongo")]
pub mod infer;
#[cfg(feature = "mongo")]
pub mod told;

pub use fault::Fault;
pub use table::{Collection, Column, Filled, Kind, Nulls, Precision, Unique};

/// The beginning of the comment on each table that stands for documents on a server of PostgreSQL, before a number that stands
/// for the declaration.
pub const REMARK: &str = "rows are documents of MongoDB, see the router's configuration; ";

/// `server_version` where there is no PostgreSQL: the oldest of which all that is shown without one would be the same.
pub const VERSION: &str = "15.0";

/// Whether a text is a value of this type.
#[cfg(feature = "mongo")]
pub fn takes(kind: &Kind, text: &str) -> bool {
    value::from_text(kind, text, &value::Forms::default()).is_ok()
}

/// Whether a text is a value of this type; nobody will ask for it.
#[cfg(not(feature = "mongo"))]
pub fn takes(_: &Kind, _: &str) -> bool {
    true
}
