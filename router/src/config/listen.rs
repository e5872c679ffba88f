//! Where clients connect, and the TLS that they are offered.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::section::{Node, Reader, settings};
use super::value::{Value, mismatch, nonzero, quote, text_values, words};

settings! {
    /// Where clients connect.
    pub struct Listen {
        /// Addresses to listen on; `0.0.0.0` or `::` for all. An empty list leaves only the unix socket.
        restart address: Vec<IpAddr> = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        /// TCP port, also the number in the name of the unix socket.
        restart port: u16 = 6432, 1..=65535;
        /// Folder in which the socket `.s.PGSQL.<port>` is made.
        restart unix_socket: Option<PathBuf>;
        /// Permissions of the unix socket.
        restart unix_socket_mode: FileMode = FileMode(0o777);
        /// Connections that the kernel keeps until they are accepted (`listen(2)`).
        restart backlog: u32 = 4096, 1..=65535;
        /// Threads that serve clients, each with pools of its own; `"auto"` is one for every two cores that the process may use.
        restart workers: Workers = Workers::Auto;
        /// Send the replies of one wake-up in one system call where io_uring is allowed.
        restart send_batch: SendBatch = SendBatch::Auto;
        /// Clients that may be logged in at once, over all workers. One more is refused with 53300.
        reload max_clients: NonZeroU32 = nonzero(10_000), nonzero(1)..=nonzero(1_000_000);
        /// Connections that may be in TLS handshake or login at once; they do not count as clients.
        reload max_logins: NonZeroU32 = nonzero(1_000), nonzero(1)..=nonzero(1_000_000);
        /// The maximum time from accept to the end of the login, including TLS.
        reload login_timeout: Duration = Duration::from_secs(15), Duration::from_millis(100)..=Duration::from_secs(3600);
        /// The router disconnects a client that sends nothing for this time outside of a transaction.
        reload idle_timeout: Option<Duration> = None, Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);
        /// A client that has begun a message has to send all of it within so long; else it is disconnected. One row of COPY is a message, a statement with its parameters another.
        reload message_timeout: Option<Duration> = Some(Duration::from_secs(300)), Duration::from_millis(100)..=Duration::from_secs(86_400);
        /// TCP keepalive: probes start after so long without traffic; unanswered for as long again, the connection has ended.
        reload keepalive: Option<Duration> = Some(Duration::from_secs(60)), Duration::from_secs(1)..=Duration::from_secs(86_400);
        /// The connection is closed if the client acknowledges no data for this time (`TCP_USER_TIMEOUT`).
        reload unacknowledged_timeout: Option<Duration> = Some(Duration::from_secs(60)), Duration::from_secs(1)..=Duration::from_secs(86_400);
        /// After SIGTERM clients may finish their transactions for so long; then they are disconnected with 57P01.
        reload drain_timeout: Duration = Duration::from_secs(30), Duration::ZERO..=Duration::from_secs(86_400);
        /// After SIGTERM `/health/ready` returns 503 for this time before the router closes its ports and disconnects clients. So load balancers can stop sending clients to this router.
        reload drain_delay: Duration = Duration::ZERO, Duration::ZERO..=Duration::from_secs(3600);
        /// Path of the Unix socket through which a new router process takes over the listening ports of this process. The new process must run as the same user. By default there is none.
        restart takeover: Option<PathBuf>;
        /// After a takeover the old process serves the clients that it has for so long; then it drains as after SIGTERM. `"off"`: until they leave.
        reload handover_timeout: Option<Duration> = Some(Duration::from_secs(3600)), Duration::ZERO..=Duration::from_secs(30 * 86_400);
        /// What to do with a database that has no [[database]] of its own: use the database of the same name on the shards, or refuse.
        reload undeclared_databases: Undeclared = Undeclared::Pass;
    }
}

settings! {
    /// TLS towards clients.
    pub struct Tls {
        /// Whether clients may or must use TLS.
        reload mode: ClientTls = ClientTls::Disable;
        /// PEM file with the certificate and its chain. Needed unless the mode is `disable`.
        reload certificate: Option<PathBuf>;
        /// PEM file with the private key. Needed unless the mode is `disable`.
        reload key: Option<PathBuf>;
        /// PEM file with the authorities whose client certificates are accepted.
        reload client_ca: Option<PathBuf>;
        /// The oldest version that is spoken.
        reload min_version: TlsVersion = TlsVersion::V12;
        /// Accept TLS without a request before it (ALPN `postgresql`, libpq's `sslnegotiation=direct`).
        reload direct: bool = true;
    }
}

words! {
    /// Whether replies leave in batches.
    pub enum SendBatch {
        /// io_uring where the kernel allows it, else plain sends.
        Auto = "auto",
        /// Plain sends.
        Off = "off",
    }
}

words! {
    /// What happens to a database name that is not declared.
    pub enum Undeclared {
        /// It means the database of that name on every shard.
        Pass = "pass",
        /// It does not exist.
        Refuse = "refuse",
    }
}

words! {
    /// How much TLS a client needs.
    pub enum ClientTls {
        /// None is offered.
        Disable = "disable",
        /// Plain connections are also accepted.
        Allow = "allow",
        /// Plain connections over TCP are refused.
        Require = "require",
        /// Also a certificate signed by `client_ca` is needed.
        VerifyCa = "verify-ca",
        /// Also its common name must be the user's name, byte for byte.
        VerifyFull = "verify-full",
    }
}

words! {
    /// A version of TLS.
    pub enum TlsVersion {
        /// RFC 5246.
        V12 = "1.2",
        /// RFC 8446.
        V13 = "1.3",
    }
}

/// How many threads serve clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// One for every two cores that the process may use: the servers, the clients and the kernel need the rest where
    /// they are on the same machine, and fewer threads with more clients each send more with every wake-up.
    Auto,
    /// So many.
    Count(NonZeroU32),
}

impl Workers {
    /// The most that can be asked for: cancel keys name the worker in 10 bits.
    const MAX: u32 = 1_024;
}

impl Value for Workers {
    type Bound = ();

    fn kind() -> String {
        format!("\"auto\" or a whole number, from 1 to {}", Workers::MAX)
    }

    fn read(node: &Node<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        if node.get_ref().as_str() == Some("auto") {
            return Some(Workers::Auto);
        }
        if !node.get_ref().is_integer() {
            mismatch(node, path, &Self::kind(), reader);
            return None;
        }
        let count = NonZeroU32::read(node, path, reader)?;
        if count.get() > Workers::MAX {
            let fix = format!("from 1 to {}", Workers::MAX);
            reader.wrong(
                node.span().start,
                format!("`{path}` = {count} is out of range"),
                fix,
            );
            return None;
        }
        Some(Workers::Count(count))
    }

    fn show(&self) -> String {
        match self {
            Workers::Auto => quote("auto"),
            Workers::Count(count) => count.to_string(),
        }
    }
}

/// Permissions of a file, such as "0770".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl FileMode {
    fn parse(text: &str) -> Option<Self> {
        let octal =
            (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        let mode = u32::from_str_radix(text, 8)
            .ok()
            .filter(|mode| octal && *mode <= 0o777)?;
        Some(FileMode(mode))
    }
}

text_values! {
    FileMode: "permissions in octal such as \"0770\"", FileMode::parse, |mode| format!("{:04o}", mode.0);
}
