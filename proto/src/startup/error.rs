//! First packets that are refused: in PostgreSQL's words, where PostgreSQL has such an error.

use bytes::BufMut;

use super::options;
use crate::{frame::put_str, report::Report};

/// A first packet that is refused. The connection is closed after it; `Display` is the
/// message for the client, with [`StartupError::sqlstate`] and [`StartupError::hint`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// The length field is below 8 or above the cap. Whoever sends it does not speak the protocol: just close, as
    /// PostgreSQL does.
    #[error("invalid length of startup packet")]
    Length {
        /// The field as it came.
        claimed: u32,
    },
    /// SSLRequest and GSSENCRequest have no body.
    #[error("invalid length of encryption request packet")]
    EncryptionRequestLength,
    /// No process number, or a cancel key that is empty or longer than 256 bytes. Cancels are not answered: just close.
    #[error("invalid length of cancel request packet")]
    CancelLength,
    /// The major version of the protocol is not 3.
    #[error("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2")]
    Version {
        /// Number before the point.
        major: u16,
        /// Number after the point.
        minor: u16,
    },
    /// A name without a value, no terminator at the end, or bytes after the terminator.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Terminator,
    /// More parameters than are allowed.
    #[error("startup packet has more than {most} parameters")]
    Parameters {
        /// How many are allowed.
        most: usize,
    },
    /// Not UTF-8.
    #[error("invalid byte sequence for encoding \"UTF8\" in startup packet")]
    Encoding,
    /// No user, or an empty one.
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    /// Physical or logical replication was asked for.
    #[error("replication connections are not supported")]
    Replication,
    /// `replication` is neither a boolean nor `database`.
    #[error("invalid value for parameter \"replication\": \"{value}\"")]
    ReplicationValue {
        /// As it came.
        value: String,
    },
    /// The `options` parameter.
    #[error(transparent)]
    Options(#[from] options::OptionsError),
}

impl StartupError {
    /// The SQLSTATE: PostgreSQL's own, if PostgreSQL has this error.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::Length { .. }
            | Self::EncryptionRequestLength
            | Self::CancelLength
            | Self::Terminator => "08P01",
            Self::Version { .. } | Self::Replication => "0A000",
            Self::Parameters { .. } => "54000",
            Self::Encoding => "22021",
            Self::NoUser => "28000",
            Self::ReplicationValue { .. } => "22023",
            Self::Options(error) => error.sqlstate(),
        }
    }

    /// Advice, where there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Parameters { .. } => Some("The setting is limits.startup_parameters."),
            Self::Replication => Some("Connect to the server itself for replication."),
            Self::ReplicationValue { .. } => {
                Some("Valid values are: \"false\", 0, \"true\", 1, \"database\".")
            }
            Self::Options(error) => Some(error.hint()),
            _ => None,
        }
    }

    /// The same as a report.
    pub fn report(&self) -> Report {
        let report = Report::fatal(self.sqlstate(), self.to_string());
        match self.hint() {
            Some(hint) => report.hint(hint),
            None => report,
        }
    }

    /// Appends the answer: a FATAL ErrorResponse. A client that asked for a protocol below 3 gets it in the form of
    /// protocol 2. A cancel request and a wrong length get no answer.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::CancelLength | Self::Length { .. } => {}
            Self::Version { major: ..3, .. } => {
                out.put_u8(b'E');
                put_str(out, format!("FATAL:  {self}\n").as_bytes());
            }
            _ => self.report().put(out),
        }
    }
}
