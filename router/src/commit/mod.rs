//! Transactions that write on several shards: committed on all or on none.
//!
//! All writers but one are prepared (`PREPARE TRANSACTION`); the last one, the
//! decider, writes a decision row in its own transaction and commits. Whether that
//! row stands there is the outcome, so that it lives in the data and any router
//! can finish what another one left behind.
//!
//! Of MongoDB nothing can be prepared, so that its transaction is always the decider,
//! and one transaction writes on one replica set of it at most. The decision is a
//! document there ([`question`]).
//!
//! A name ([`gid`]) leads from what is prepared to its decision. [`parts`] says who
//! can be together, [`steps`] is the commit as a value that a session drives.
//! [`finishing`] is what this router is about to commit, [`doubt`] what it knows to be unfinished. [`judge`] says what is to
//! be done with what somebody left behind, and [`recover`] does it, by errands of
//! the control role ([`errand`]). [`schema`] is the decision table.
//!
//! The proof that no transaction is split, in short. A commit row is written only
//! when all others are prepared, by the decider's own transaction. An abort row
//! has the same key, and only one of both can be there. Nothing prepared is
//! finished before one of both stands there, except by the committer itself, which
//! then never decides. A commit row is deleted when nothing prepared refers to it
//! any more; an abort row when the decider's backend is gone, which alone could
//! write the commit row. A session of MongoDB is ended before its abort is written,
//! and that is kept for longer than any transaction lives there.

pub mod gid;

pub mod mark;

pub mod said;

pub(crate) mod text;

pub mod question;

pub mod parts;

pub mod steps;

pub mod doubt;

pub mod finishing;

pub mod judge;

pub mod errand;

pub mod recover;

pub mod schema;
