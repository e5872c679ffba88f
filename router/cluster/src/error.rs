//! What can go wrong with a local server, each with what the reader needs to
//! mend it. Nothing here reaches a client of the router.

use std::path::PathBuf;
use std::time::Duration;

/// An error of a local PostgreSQL server or of the machine below it.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No PostgreSQL server programs on this machine.
    #[error(
        "PostgreSQL's server programs were not found: install them (Debian: apt-get install postgresql) or set PG_BIN"
    )]
    NotInstalled,
    /// `PG_BIN` is set, and is wrong.
    #[error("PG_BIN={} has no initdb and postgres", folder.display())]
    WrongPgBin {
        /// The value of `PG_BIN`.
        folder: PathBuf,
    },
    /// Started as root, and there is no account to run PostgreSQL as, which refuses root.
    #[error(
        "PostgreSQL does not run as root and there is no account `postgres` or `nobody` to run it as"
    )]
    NoAccount,
    /// Reading, writing or creating a file or folder.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done, as a verb.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// A unix socket's path is at most 107 bytes long.
    #[error("{} is too long a path for a unix socket (at most {limit} bytes)", path.display())]
    SocketPath {
        /// The path that the socket would have.
        path: PathBuf,
        /// The longest possible path, in bytes.
        limit: usize,
    },
    /// There is a data folder where a new one was to be made, or none where one was to be opened.
    #[error("{} {}", path.display(), if *exists { "exists already" } else { "is not a data folder" })]
    DataFolder {
        /// The data folder.
        path: PathBuf,
        /// Whether it is there.
        exists: bool,
    },
    /// One of PostgreSQL's programs failed or took too long.
    #[error("{program} {outcome}: {output}")]
    Tool {
        /// Which program.
        program: &'static str,
        /// Its exit status, or that it did not end in time.
        outcome: String,
        /// The end of what it printed.
        output: String,
    },
    /// The server did not run a statement.
    #[error("postgres refused it: {said}")]
    Refused {
        /// The message, and its SQLSTATE.
        said: String,
    },
    /// The server ended while it was being waited for.
    #[error("postgres ended ({status}) before it was ready: {log}")]
    Exited {
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The server did not become ready, or did not end, in time.
    #[error("postgres was not {what} within {waited:?}: {log}")]
    TooSlow {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        waited: Duration,
        /// The end of its log.
        log: String,
    },
    /// An operation that needs a running server, on one that is not.
    #[error("the server in {} is not running", folder.display())]
    NotRunning {
        /// The cluster's folder.
        folder: PathBuf,
    },
    /// No port in the searched range could be bound.
    #[error("no free TCP port on 127.0.0.1 between {first} and {last}")]
    NoPort {
        /// The lowest port tried.
        first: u16,
        /// The highest port tried.
        last: u16,
    },
}

/// Adds what was being done, and to what, to an I/O error.
pub(super) trait Doing<T> {
    fn doing(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T, ClusterError>;
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T, ClusterError> {
        self.map_err(|cause| ClusterError::Io {
            doing,
            path: path.into(),
            cause,
        })
    }
}
