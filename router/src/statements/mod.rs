//! What is known of clients' statements and of the settings by which they are read: values without a socket.
//!
//! A text is read once ([`step`]) and kept by its shape ([`shapes`]) and its environment ([`environment`]); all that was
//! found out about it stays with it ([`names::Prepared`]).

pub mod environment;
pub mod errors;
pub mod memo;
pub mod named_settings;
pub mod names;
pub mod planned;
pub mod preference;
pub mod reported_parameters;
pub mod requests;
pub mod rewritten;
pub mod settings;
pub mod shapes;
pub mod staleness;
pub mod step;
pub mod temporary;
