//! Logging in, both ways, as state machines without sockets, clocks or global state.
//!
//! [`client::ClientLogin`] is the server's part towards a client, [`server::ServerLogin`]
//! the client's part towards PostgreSQL. Both take message bodies, append their answers
//! to a buffer, and say what comes next. PBKDF2, the one expensive step, is never done
//! inside: it is handed out as a [`keys::Derivation`] for a thread that may take its time
//! (R7), and its result is worth caching ([`keys::KeyCache`]).
//!
//! Secrets are zeroed when dropped, compared in constant time (S16), and have a `Debug`
//! that does not show them (S12).

pub mod secret;

pub mod keys;

pub mod md5;

pub mod scram;

pub mod exchange;

pub mod client;

pub mod server;

pub mod report;

pub use client::{AuthError, Authenticated, ClientLogin, LoginStep, Method, Nonces, Proof};
pub use exchange::ExchangeError;
pub use keys::{Derivation, KeyCache, Password, ScramKeys};
pub use md5::Md5Hash;
pub use report::ServerReport;
pub use scram::Verifier;
pub use secret::{LookedUp, Secret, SecretKind, StandIn};
pub use server::{
    Credentials, LoginRules, ServerLogin, ServerLoginError, ServerSession, ServerStep, Target,
};

#[cfg(test)]
mod tests;
