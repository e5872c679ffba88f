//! Limits that are not about connections: messages, memory, caches, rates.
//!
//! Everything that could grow has one here, with a name that errors and metrics use.

use std::num::NonZeroU32;
use std::time::Duration;

use super::section::{Node, Reader, settings};
use super::units::{ByteSize, Share};
use super::value::{Value, mismatch, nonzero, quote};

/// PostgreSQL refuses messages of 1 GiB and more (`PQ_LARGE_MESSAGE_LIMIT`).
const LARGEST_MESSAGE: ByteSize = ByteSize((1 << 30) - 1);
// What is passed on may get another name: half as much again still has a length on the wire.
const _: () = assert!(mothership_proto::frame::fits(
    LARGEST_MESSAGE.0 as usize / 2 * 3
));
const MIB: ByteSize = ByteSize::mib(1);
const KIB: ByteSize = ByteSize::kib(1);
const GIB: ByteSize = ByteSize::mib(1024);

settings! {
    /// The largest of everything that is not a connection. Over a limit is an error, never a shorter answer.
    pub struct Limits {
        /// The first packet of a connection; PostgreSQL's own limit is 10000 bytes.
        reload startup_packet: ByteSize = ByteSize(10_000), ByteSize(512)..=ByteSize(10_000);
        /// Parameters in the first packet, those in `options` included.
        reload startup_parameters: NonZeroU32 = nonzero(100), nonzero(1)..=nonzero(1_000);
        /// One message during login; PostgreSQL's own limit is 65535 bytes.
        reload login_message: ByteSize = ByteSize(65_535), KIB..=ByteSize(65_535);
        /// One message from a client after login.
        reload client_message: ByteSize = ByteSize::mib(256), ByteSize::kib(64)..=LARGEST_MESSAGE;
        /// One message from a server, a row included. The connection of a longer one is closed.
        reload server_message: ByteSize = ByteSize::mib(256), ByteSize::kib(64)..=LARGEST_MESSAGE;
        /// Text of one statement. A longer one is refused with 54000.
        reload statement: ByteSize = ByteSize::mib(128), ByteSize::kib(1)..=LARGEST_MESSAGE;
        /// Text that is parsed. A longer statement is sent on where that is provably right without parsing, else refused.
        reload parsed_statement: ByteSize = ByteSize::mib(1), KIB..=ByteSize::mib(64);
        /// Requests of one client that await their replies; above it the client is not read.
        reload pipeline: NonZeroU32 = nonzero(10_000), nonzero(1)..=nonzero(1_000_000);
        /// Bytes of such requests that the router holds.
        reload pipeline_size: ByteSize = ByteSize::mib(16), ByteSize::kib(64)..=GIB;
        /// Prepared statements of one client.
        reload client_statements: NonZeroU32 = nonzero(10_000), nonzero(1)..=nonzero(1_000_000);
        /// Their texts and names together.
        reload client_statements_size: ByteSize = ByteSize::mib(64), ByteSize::kib(64)..=GIB;
        /// Open portals of one client.
        reload client_portals: NonZeroU32 = nonzero(1_000), nonzero(1)..=nonzero(100_000);
        /// Different prepared statements of all clients of a worker. Above it whoever holds more than its share may prepare no more.
        reload shared_statements: NonZeroU32 = nonzero(100_000), nonzero(1)..=nonzero(10_000_000);
        /// Their texts together.
        reload shared_statements_size: ByteSize = ByteSize::mib(128), MIB..=ByteSize::mib(65_536);
        /// Cached plans, for each worker; the least recently used gives way.
        reload plans: NonZeroU32 = nonzero(10_000), nonzero(1)..=nonzero(1_000_000);
        /// Their size together.
        reload plans_size: ByteSize = ByteSize::mib(64), MIB..=ByteSize::mib(65_536);
        /// Keys of a lookup table (strategy `directory`), which are held in memory.
        reload directory_keys: NonZeroU32 = nonzero(100_000), nonzero(1)..=nonzero(100_000_000);
        /// Settings (SET, SET LOCAL, set_config, startup packet) of one session that are replayed.
        reload session_settings: NonZeroU32 = nonzero(500), nonzero(1)..=nonzero(10_000);
        /// Their names and values together.
        reload session_settings_size: ByteSize = ByteSize::kib(64), KIB..=ByteSize::mib(16);
        /// Savepoints and changes of settings of one transaction, which shards that join it
        /// later are told.
        reload savepoints: NonZeroU32 = nonzero(10_000), nonzero(1)..=nonzero(1_000_000);
        /// Bytes that wait for one client before its server is no longer read.
        reload client_buffer: ByteSize = ByteSize::kib(256), ByteSize::kib(16)..=GIB;
        /// Rows that a write on several shards has returned and that wait for a client that fetches them in pieces.
        reload held_rows: ByteSize = ByteSize::mib(16), ByteSize::kib(64)..=GIB;
        /// Bytes of a divided COPY that wait for one shard before the client is no longer read.
        reload copy_buffer: ByteSize = MIB, ByteSize::kib(16)..=GIB;
        /// One row of a divided COPY.
        reload copy_row: ByteSize = ByteSize::mib(64), ByteSize::kib(64)..=LARGEST_MESSAGE;
        /// Rows that one statement gathers from several shards. More are an error (54000), never a shorter answer.
        reload gathered_rows: NonZeroU32 = nonzero(5_000_000), nonzero(1)..=nonzero(1_000_000_000);
        /// Their size together, in memory of the router and of the server that they are handed to.
        reload gathered_size: ByteSize = ByteSize::mib(64), ByteSize::kib(64)..=ByteSize::mib(900);
        /// Pools (server, user and database) of a worker that exist at once.
        reload pools: NonZeroU32 = nonzero(10_000), nonzero(1)..=nonzero(1_000_000);
        /// Transactions that may wait for connections of all pools together. One more is refused with 53300, or takes the place of one of a lower priority.
        reload queue_length: u32 = 1_000, 0..=1_000_000;
        /// Cancel requests that are being delivered at once.
        reload cancels: NonZeroU32 = nonzero(100), nonzero(1)..=nonzero(10_000);
        /// Cancel requests that wait for that; more are dropped, as PostgreSQL may do.
        reload cancel_queue: u32 = 1_000, 0..=100_000;
        /// Cancel requests that one address may send in a second, and as many at once (an IPv6 network of 64 bits counts as one address); more are dropped before anybody looks at their keys. 0 is no limit. Unix sockets have none.
        reload cancel_rate: u32 = 1_000, 0..=1_000_000;
        /// Passwords being checked at once, because SCRAM is made to be slow.
        reload password_checks: NonZeroU32 = nonzero(4), nonzero(1)..=nonzero(1_000);
        /// After each wrong password the answer to the same user and address waits longer, up to this.
        reload wrong_password_pause: Duration = Duration::from_secs(2), Duration::ZERO..=Duration::from_secs(60);
        /// Pairs of user and address for which wrong passwords are remembered.
        reload wrong_passwords: NonZeroU32 = nonzero(10_000), nonzero(1)..=nonzero(1_000_000);
        /// Pause before accepting again when the process is out of descriptors or memory.
        reload accept_pause: Duration = Duration::from_millis(50), Duration::from_millis(1)..=Duration::from_secs(10);
        /// The share of the descriptors that the process may have (`ulimit -n`) which is kept for server connections, metrics and consoles; a client that would need one of them is refused with 53300.
        reload descriptor_reserve: Share = Share::percent(20), Share::percent(0)..=Share::percent(90);
        /// Memory of the whole process. From 85 % of it on new clients are refused with 53300 and what lies idle is freed, from 95 % on new transactions are refused, too. `auto` is 90 % of what the control group of the process allows.
        reload memory: MemoryLimit = MemoryLimit::Auto;
        /// Addresses of one host name that are used.
        reload host_addresses: NonZeroU32 = nonzero(16), nonzero(1)..=nonzero(1_000);
        /// Different values of one metric label; further ones are counted together as `other`.
        reload metric_labels: NonZeroU32 = nonzero(1_000), nonzero(1)..=nonzero(100_000);
        /// Characters of a text from a client (user, application name, statement) in one log line.
        reload log_text: NonZeroU32 = nonzero(1_000), nonzero(16)..=nonzero(1_000_000);
        /// Log lines a second of each kind; how many more there were is logged.
        reload log_rate: NonZeroU32 = nonzero(100), nonzero(1)..=nonzero(1_000_000);
    }
}

/// How much memory the process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLimit {
    /// As its control group says, less a tenth.
    Auto,
    /// Whatever there is.
    Off,
    /// So much.
    Size(ByteSize),
}

impl Value for MemoryLimit {
    type Bound = ();

    fn kind() -> String {
        "\"auto\", \"off\" or a size such as \"512MiB\", at least 64MiB".to_owned()
    }

    fn read(node: &Node<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref().as_str() {
            Some("auto") => return Some(MemoryLimit::Auto),
            Some("off") => return Some(MemoryLimit::Off),
            Some(_) => {}
            None => {
                mismatch(node, path, &Self::kind(), reader);
                return None;
            }
        }
        let size = ByteSize::read(node, path, reader)?;
        if size < ByteSize::mib(64) {
            let fix = "at least 64MiB".to_owned();
            reader.wrong(
                node.span().start,
                format!("`{path}` = {} is out of range", size.show()),
                fix,
            );
            return None;
        }
        Some(MemoryLimit::Size(size))
    }

    fn show(&self) -> String {
        match self {
            MemoryLimit::Auto => quote("auto"),
            MemoryLimit::Off => quote("off"),
            MemoryLimit::Size(size) => size.show(),
        }
    }
}
