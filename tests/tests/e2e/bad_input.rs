//! Input that no client should send: each has PostgreSQL's own answer or a limit with a name, and nobody else notices.
//!
//! Where PostgreSQL has an answer, the same bytes are sent to it, and the answers are compared. In every test two
//! other sessions are there, one in a transaction and one between transactions, and are looked at before and after.

#[path = "bad_input/stage.rs"]
mod stage;

#[path = "bad_input/logins.rs"]
mod logins;
#[path = "bad_input/messages.rs"]
mod messages;
#[path = "bad_input/texts.rs"]
mod texts;
