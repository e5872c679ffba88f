//! How a login to a server ends that does not end well: for logs and operators, not for clients.

use crate::{
    auth::{exchange::ExchangeError, report::ServerReport},
    startup::outgoing::OutgoingError,
};

/// What a server asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It let us in without asking.
    Nothing,
    /// Password in clear text.
    Cleartext,
    /// md5.
    Md5,
    /// SCRAM-SHA-256 without channel binding.
    Scram,
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "no authentication",
            Self::Cleartext => "a clear text password",
            Self::Md5 => "md5",
            Self::Scram => "SCRAM-SHA-256 without channel binding",
        })
    }
}

/// A login to a server that ended. For logs and operators: clients get their own words (S11).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerLoginError {
    /// The server says no, or not now; its SQLSTATE tells which.
    #[error("server refused the login: {0}")]
    Refused(ServerReport),
    /// The rules require more than the server offers, or more than somebody in between lets us see (S25).
    #[error("server asks for {asked}, and the settings require more")]
    Downgrade {
        /// What it asked for.
        asked: Asked,
    },
    /// The server wants a proof that we have not.
    #[error("server asks for {asked}, and there is nothing to answer it with")]
    NoCredentials {
        /// What it asked for.
        asked: Asked,
    },
    /// Salt or count of a server's verifier are not those of the client's keys. The verifier must
    /// be byte for byte the same on all servers.
    #[error("server has another SCRAM verifier than the one that the client logged in with")]
    OtherVerifier,
    /// The exchange of SCRAM went wrong.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// No mechanism that we know.
    #[error("server offers no SASL mechanism that is supported")]
    Mechanism,
    /// Kerberos, GSSAPI, SSPI or something new.
    #[error("server asks for authentication method {code}, which is not supported")]
    Method {
        /// Its code.
        code: i32,
    },
    /// NegotiateProtocolVersion with a version or with options that we did not ask for.
    #[error("server negotiates protocol version {version:#x}, which was not asked for")]
    Version {
        /// As it came.
        version: i32,
    },
    /// A body that is not as the protocol has it.
    #[error("server sent a malformed message of type {tag:#04x}")]
    Body {
        /// Type byte.
        tag: u8,
    },
    /// A message that does not belong here.
    #[error("server sent a message of type {tag:#04x} out of turn")]
    Unexpected {
        /// Type byte.
        tag: u8,
    },
    /// More than [`MAX_LOGIN_BYTES`](super::MAX_LOGIN_BYTES).
    #[error("server sent too much before it was ready")]
    TooMuch,
    /// The target cannot be said.
    #[error(transparent)]
    Outgoing(#[from] OutgoingError),
    /// Our own mistake: a step was called that was not due.
    #[error("login step out of order")]
    OutOfOrder,
}

impl ServerLoginError {
    /// The SQLSTATE that the server gave, if it did: `28P01` and `28000` mean the credentials,
    /// `53300` and `57P03` that it may be tried again, `3D000` that there is no such database.
    pub fn server_sqlstate(&self) -> Option<&str> {
        match self {
            Self::Refused(report) => report.sqlstate.as_deref(),
            _ => None,
        }
    }
}
