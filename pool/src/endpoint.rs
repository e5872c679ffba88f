//! Where a server is and how one logs in there.
//!
//! Plain data: nothing here connects. A *group* of endpoints (a primary with its
//! replicas) is the router's shard, but this crate does not know shards.

use crate::wire::Pipe;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// The address of one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host name or address, and a port.
    Tcp(String, u16),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Number of a server in the configuration; stable while the router runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub u32);

/// Whether the connection to a server is encrypted, as libpq's sslmode.
#[derive(Clone, Default)]
pub enum Encryption {
    /// Never.
    #[default]
    Disable,
    /// If the server offers it.
    Prefer(Arc<rustls::ClientConfig>),
    /// Always; the configuration says how far the certificate is checked.
    Require(Arc<rustls::ClientConfig>),
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disable => "Disable",
            Self::Prefer(_) => "Prefer",
            Self::Require(_) => "Require",
        })
    }
}

/// Somebody in this process who stands before a server that does not speak PostgreSQL's protocol itself, and speaks it
/// in its place.
pub trait Interpreter: fmt::Debug + Send + Sync {
    /// A new connection: what it answers there is served on the runtime of the caller. Returns at once.
    ///
    /// # Errors
    /// What is to speak there cannot begin.
    fn dial(&self) -> io::Result<Pipe>;
}

/// One server.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its number.
    pub id: EndpointId,
    /// Its address.
    pub address: Address,
    /// Whether to encrypt.
    pub encryption: Encryption,
    /// The name that its certificate must have, if it is not the host of the address.
    pub tls_name: Option<String>,
    /// TLS begins at once, without asking for it (PostgreSQL 17). Never where it is only preferred.
    pub tls_direct: bool,
    /// Who is dialled in the place of the address; encryption is then his matter.
    pub interpreter: Option<Arc<dyn Interpreter>>,
}
