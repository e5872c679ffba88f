//! How the login of a client ends that does not end well.
//!
//! One sentence for every kind of failure, so that nothing is learned from it (S11); what the
//! reason was is for the log. Violations of the protocol say so, as they do not depend on who asks.

use crate::{auth::scram::Malformed, report::Report};

/// Why a login failed: for the log, never for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reason {
    /// Nobody of this name.
    #[error("user is not known")]
    Unknown,
    /// The user has no password.
    #[error("user has no password")]
    NoPassword,
    /// Its validity is over.
    #[error("user has an expired password")]
    Expired,
    /// An empty password was sent, or is the user's.
    #[error("password is empty")]
    EmptyPassword,
    /// The secret is an md5 hash and the method SCRAM.
    #[error("user has no SCRAM secret")]
    NoScramSecret,
    /// Password or proof is wrong.
    #[error("password does not match")]
    WrongPassword,
}

/// A login that ended. `Display` is the message for the client; see [`AuthError::put`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// He is not let in, for whatever reason.
    #[error("password authentication failed for user \"{user}\"")]
    Failed {
        /// The name he gave.
        user: String,
        /// For the log.
        reason: Reason,
    },
    /// The method is `reject`.
    #[error("authentication failed for user \"{user}\": host rejected")]
    Rejected {
        /// The name he gave.
        user: String,
    },
    /// Another message than the one that was due.
    #[error("expected {expected} response, got message type {tag}")]
    Unexpected {
        /// Its type byte.
        tag: u8,
        /// What was due.
        expected: &'static str,
    },
    /// A body that is longer than any real one.
    #[error("invalid message length")]
    TooLong {
        /// Bytes of the body.
        bytes: usize,
        /// Bytes that it may have.
        longest: usize,
    },
    /// A PasswordMessage that is not one C string.
    #[error("invalid password packet size")]
    PasswordPacket,
    /// A mechanism that was not offered.
    #[error("client selected an invalid SASL authentication mechanism")]
    Mechanism,
    /// A SCRAM message that is not one.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The client says that we did not offer channel binding. We did.
    #[error("SCRAM channel binding negotiation error")]
    Downgrade,
    /// The client saw another certificate than ours.
    #[error("SCRAM channel binding check failed")]
    ChannelBinding,
    /// Our own mistake: a step was called that was not due.
    #[error("login step out of order")]
    OutOfOrder,
}

impl AuthError {
    /// What PostgreSQL gives for it.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::Failed { .. } => "28P01",
            Self::Rejected { .. } | Self::Downgrade | Self::ChannelBinding => "28000",
            Self::OutOfOrder => "XX000",
            Self::Unexpected { .. }
            | Self::TooLong { .. }
            | Self::PasswordPacket
            | Self::Mechanism
            | Self::Malformed(_) => "08P01",
        }
    }

    /// The same as a report.
    pub fn report(&self) -> Report {
        Report::fatal(self.sqlstate(), self.to_string())
    }

    /// Appends the FATAL ErrorResponse, after which the connection is closed.
    pub fn put(&self, out: &mut Vec<u8>) {
        self.report().put(out);
    }
}
