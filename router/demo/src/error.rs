//! What can go wrong with the demo, each with what the reader can do about it.

use super::mongod::Missing;
use mothership_cluster::ClusterError;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why the demo did not start, run or end as it should.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Neither an option nor the environment says where to keep state.
    #[error("there is no HOME to keep the demo's state in: give a folder with --state")]
    NoHome,
    /// The folder has things in it that the demo did not make.
    #[error(
        "{} is not a folder of the demo: give another with --state, or remove it", folder.display()
    )]
    Foreign {
        /// The folder.
        folder: PathBuf,
    },
    /// PostgreSQL's account cannot get to the state folder.
    #[error(
        "the account that runs PostgreSQL may not enter {}: give another folder with --state",
        closed.display()
    )]
    Closed {
        /// The state folder, or one above it, that is closed to it.
        closed: PathBuf,
    },
    /// Too little disk space.
    #[error(
        "{} MiB are free in {}, and the demo needs about {} MiB", free >> 20, folder.display(), needed >> 20
    )]
    Space {
        /// The state folder.
        folder: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// There is a demo in this folder already.
    #[error(
        "a demo is running with {} (process {pid}): the option --stop ends it",
        folder.display()
    )]
    Running {
        /// Its folder.
        folder: PathBuf,
        /// The supervising process.
        pid: u32,
    },
    /// The router's port is taken.
    #[error(
        "port {port} on 127.0.0.1 is taken by another program: end that, or choose another with --port"
    )]
    Port {
        /// The port.
        port: u16,
    },
    /// The shop that is there was made otherwise.
    #[error(
        "the shop in {} was made with --rows {rows} --seed {seed}: the option --clean removes it",
        folder.display()
    )]
    OtherShop {
        /// The state folder.
        folder: PathBuf,
        /// Its rows.
        rows: u32,
        /// Its seed.
        seed: u64,
    },
    /// Reading, writing or creating a file or folder.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done, as a verb.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A thread, a runtime or a signal handler cannot be had.
    #[error("{doing}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A server.
    #[error("shard {shard}, {role}")]
    Server {
        /// Which shard.
        shard: &'static str,
        /// Primary or replica.
        role: &'static str,
        /// What went wrong.
        #[source]
        cause: ClusterError,
    },
    /// Something about PostgreSQL on this machine.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The shop was made with events, and nothing can read them.
    #[error("the shop in {} has its events in MongoDB", folder.display())]
    NoMongod {
        /// The state folder.
        folder: PathBuf,
        /// Why there is no MongoDB now.
        #[source]
        cause: Missing,
    },
    /// A member of the replica set does not start.
    #[error("mongod {name} does not start; the end of its log:\n{log}")]
    Member {
        /// Its name.
        name: &'static str,
        /// The end of what it logged.
        log: String,
    },
    /// The driver of MongoDB failed.
    #[error("{doing}")]
    Documents {
        /// What was being done.
        doing: &'static str,
        /// What it said. Its type is known only where the driver is.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something about MongoDB was asked of a build that has no driver.
    #[error(transparent)]
    Mongod(#[from] Missing),
    /// The router ended although nobody asked it to.
    #[error("the router ended ({status}); the end of its log:\n{log}")]
    RouterEnded {
        /// Its exit status.
        status: ExitStatus,
        /// The end of what it logged.
        log: String,
    },
    /// The router does not answer.
    #[error("the router did not answer on port {port} in time; the end of its log:\n{log}")]
    RouterSilent {
        /// Its port.
        port: u16,
        /// The end of what it logged.
        log: String,
        /// What the last attempt said.
        #[source]
        cause: Option<tokio_postgres::Error>,
    },
    /// A statement through the router failed.
    #[error("{doing}, through the router")]
    Statement {
        /// What was being done.
        doing: String,
        /// What the answer was.
        #[source]
        cause: tokio_postgres::Error,
    },
    /// A step of making the shop takes too long.
    #[error("{doing}, through the router, took longer than {limit:?}")]
    Stalled {
        /// What was being done.
        doing: String,
        /// How long was waited.
        limit: Duration,
    },
    /// Shards hold another number of rows than were sent.
    #[error("table {table}: {sent} rows were sent through the router, the shards have {found}")]
    Rows {
        /// Which table.
        table: &'static str,
        /// Rows sent.
        sent: u64,
        /// Rows found.
        found: u64,
    },
    /// Counting gave something that is no number.
    #[error("shard {shard} answered \"{answer}\" to a count")]
    Count {
        /// Which shard.
        shard: &'static str,
        /// What it said.
        answer: String,
    },
    /// Processes of an earlier demo do not end.
    #[error("processes of an earlier demo still run: {pids:?}")]
    Leftovers {
        /// Their process ids.
        pids: Vec<u32>,
    },
    /// A supervising process does not end.
    #[error("the demo (process {pid}) was asked to end and still runs")]
    DoesNotEnd {
        /// The process.
        pid: u32,
    },
    /// The process in the background ended before the demo was ready; it has said why.
    #[error("the demo did not start ({status})")]
    NotStarted {
        /// Its exit status.
        status: ExitStatus,
    },
    /// Ctrl-C before the demo was ready.
    #[error("stopped before the demo was ready")]
    Stopped,
}

/// Adds what was being done, and to what, to an I/O error.
pub(super) trait Doing<T> {
    fn doing(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T, DemoError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T, DemoError> {
        self.map_err(|cause| DemoError::Io {
            doing,
            path: path.into(),
            cause,
        })
    }
}
