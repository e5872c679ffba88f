//! Names, addresses, networks and slots as they are written in the file.
//!
//! Each is checked where it is read and is a type of its own afterwards.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::value::text_values;
use mothership_pool::http::Url;
use mothership_shardmap::names::is_name;
use mothership_shardmap::{Label, TablePattern};

/// A PostgreSQL name (user, database, column) exactly as the catalog has it: no quotes, no folding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// `None` when PostgreSQL could not have such a name.
    pub fn new(text: &str) -> Option<Self> {
        is_name(text).then(|| Name(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerAddress {
    /// A host name or IP address (without brackets) and a port.
    Tcp {
        /// Resolved again for new connections.
        host: String,
        /// Never zero.
        port: u16,
    },
    /// The socket itself, such as `/run/postgresql/.s.PGSQL.5432`.
    Unix(PathBuf),
}

impl ServerAddress {
    /// Reads `host`, `host:port`, `[::1]:5433`, or the path of a socket or of its folder.
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with('/') {
            return unix(text);
        }
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (
                host,
                rest.strip_prefix(':')
                    .map_or_else(|| rest.is_empty().then_some("5432"), Some)?,
            ),
            None => text.split_once(':').unwrap_or((text, "5432")),
        };
        let bracketed = text.starts_with('[');
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let plain = !host.is_empty() && host.len() <= 253 && host.chars().all(known);
        if !(plain && !bracketed || bracketed && host.parse::<std::net::Ipv6Addr>().is_ok()) {
            return None;
        }
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port != 0)?;
        Some(ServerAddress::Tcp {
            host: host.to_owned(),
            port,
        })
    }
}

/// A folder means the socket of port 5432 in it, as with libpq.
fn unix(text: &str) -> Option<ServerAddress> {
    let path = PathBuf::from(text);
    let named = path.file_name()?.to_str()?.starts_with(".s.PGSQL.");
    let path = if named {
        path
    } else {
        path.join(".s.PGSQL.5432")
    };
    // sun_path has 108 bytes with its terminating zero.
    (path.as_os_str().len() < 108).then_some(ServerAddress::Unix(path))
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerAddress::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            ServerAddress::Tcp { host, port } => write!(f, "{host}:{port}"),
            ServerAddress::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// An IP network in CIDR form, or the clients of the unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// Clients of the unix socket.
    Local,
    /// Addresses whose first `bits` bits are those of `address`.
    Ip {
        /// With all bits after the prefix zero.
        address: IpAddr,
        /// 0 to 32, or to 128 for IPv6.
        bits: u8,
    },
}

impl Network {
    /// Reads "10.0.0.0/8", "::1" or "local".
    pub fn parse(text: &str) -> Option<Self> {
        if text == "local" {
            return Some(Network::Local);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address.parse().ok()?, Some(bits)),
            None => (text.parse().ok()?, None),
        };
        let whole = if matches!(address, IpAddr::V4(_)) {
            32
        } else {
            128
        };
        let bits = bits.map_or(Some(whole), |bits| {
            bits.parse().ok().filter(|bits| *bits <= whole)
        })?;
        let network = Network::Ip { address, bits };
        (masked(address, bits) == address).then_some(network)
    }

    /// Does a client from `address` (`None`: the unix socket) belong to it? An IPv4 client
    /// of an IPv6 socket counts as the IPv4 client that it is.
    pub fn contains(&self, client: Option<IpAddr>) -> bool {
        match (self, client) {
            (Network::Local, None) => true,
            (Network::Ip { address, bits }, Some(client)) => {
                let client = client.to_canonical();
                client.is_ipv4() == address.is_ipv4() && masked(client, *bits) == *address
            }
            _ => false,
        }
    }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(bits.min(32)))
                .unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(bits.min(128)))
                .unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Network::Local => f.write_str("local"),
            Network::Ip { address, bits } => write!(f, "{address}/{bits}"),
        }
    }
}

/// Slots from the first to the last, both included.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SlotRange(pub RangeInclusive<u16>);

/// The number of slots that keys are hashed to.
pub const SLOTS: u16 = 16_384;

impl SlotRange {
    /// Reads "0-5461" or "7".
    pub fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.trim().parse::<u16>().ok().filter(|slot| *slot < SLOTS);
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some(SlotRange(first..=last))
    }
}

impl fmt::Display for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.start(), self.0.end())
    }
}

text_values! {
    Name: "a PostgreSQL name of 1 to 63 bytes", Name::new, Name::to_string;
    Label: "a name of 1 to 40 letters, digits, \"_\" or \"-\"", Label::new, Label::to_string;
    ServerAddress: "\"host:port\" or the path of a unix socket", ServerAddress::parse, ServerAddress::to_string;
    Url: "an address such as \"http://host:8008\" or \"https://host:8008\"", Url::parse, Url::to_string;
    Network: "a network such as \"10.0.0.0/8\" (no bits set after the prefix), an address, or \"local\" for the unix socket", Network::parse, Network::to_string;
    SlotRange: "slots such as \"0-5460\", between 0 and 16383", SlotRange::parse, SlotRange::to_string;
    TablePattern: "a table such as \"orders\", \"shop.orders\" or \"shop.*\"", TablePattern::parse, TablePattern::to_string;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_addresses() {
        for (text, shown) in [
            ("db1", "db1:5432"),
            ("db1:6000", "db1:6000"),
            ("10.0.0.1:5433", "10.0.0.1:5433"),
            ("[::1]:5433", "[::1]:5433"),
            ("[::1]", "[::1]:5432"),
            ("/run/postgresql", "/run/postgresql/.s.PGSQL.5432"),
            (
                "/run/postgresql/.s.PGSQL.6000",
                "/run/postgresql/.s.PGSQL.6000",
            ),
        ] {
            assert_eq!(
                ServerAddress::parse(text)
                    .map(|it| it.to_string())
                    .as_deref(),
                Some(shown)
            );
        }
        for text in [
            "",
            ":5432",
            "db:0",
            "db:65536",
            "db:+1",
            "db:",
            "::1",
            "[db]:1",
            "[::1",
            "[::1]x",
            "a b",
            "postgres://db",
            "/",
        ] {
            assert_eq!(ServerAddress::parse(text), None, "{text}");
        }
        assert_eq!(ServerAddress::parse(&format!("/{}", "x".repeat(200))), None);
    }

    #[test]
    fn networks_contain_what_they_say() {
        let contains = |network: &str, client: &str| {
            Network::parse(network)
                .expect(network)
                .contains(client.parse::<IpAddr>().ok())
        };
        assert!(contains("10.0.0.0/8", "10.255.0.1"));
        assert!(!contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(contains("0.0.0.0/0", "1.2.3.4"));
        assert!(!contains("0.0.0.0/0", "::1"));
        assert!(contains("::/0", "2001:db8::1"));
        assert!(contains("127.0.0.1", "127.0.0.1"));
        assert!(contains("local", "no address"));
        assert!(!contains("local", "127.0.0.1"));
        assert!(!contains("0.0.0.0/0", "no address"));
        for text in [
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/",
            "::/129",
            "all",
            "10.0.0.0/8/8",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }

    #[test]
    fn slots() {
        assert_eq!(SlotRange::parse("0-5460"), Some(SlotRange(0..=5460)));
        assert_eq!(SlotRange::parse("7"), Some(SlotRange(7..=7)));
        for text in ["", "-", "5-3", "0-16384", "a-b", "1-2-3", "70000"] {
            assert_eq!(SlotRange::parse(text), None, "{text}");
        }
    }
}
