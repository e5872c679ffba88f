//! The first bytes of a connection: what a client says before it logs in.
//!
//! In: bytes, however they were cut. Out: a request for encryption, a cancel, or a
//! [`Startup`] with a user, a database and ordered settings. Nothing here is believed
//! before its bytes have arrived, and nothing is allocated by a claimed length.
//! What we say first to a server is in [`outgoing`]; the `options` parameter is read
//! in [`options`]. See <https://www.postgresql.org/docs/current/protocol-flow.html>
//! and PostgreSQL's `backend_startup.c`, whose answers these are.

use bytes::BufMut;

use crate::frame::{put, put_str, take_str};

mod error;
pub mod options;
pub mod outgoing;

pub use error::StartupError;

/// Bytes after the length field of a first packet, at most: PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`.
pub const MAX_STARTUP_PACKET: usize = 10_000;

/// Bytes of a user or database name that count: PostgreSQL's `NAMEDATALEN - 1`.
pub const MAX_NAME: usize = 63;

/// Bytes of a cancel key in protocol 3.2, at most.
pub const MAX_CANCEL_KEY: usize = 256;

const CANCEL_REQUEST: u32 = (1234 << 16) | 5678;
const SSL_REQUEST: u32 = (1234 << 16) | 5679;
const GSS_REQUEST: u32 = (1234 << 16) | 5680;

/// What a first packet may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes after the length field; not more than [`MAX_STARTUP_PACKET`].
    pub packet: usize,
    /// Parameters, those in `options` included; user and database are not counted.
    pub parameters: usize,
}

impl Bounds {
    /// PostgreSQL's own: a packet of 10,000 bytes, with whatever fits in.
    pub const POSTGRES: Self = Self {
        packet: MAX_STARTUP_PACKET,
        parameters: MAX_STARTUP_PACKET,
    };
}

/// What a connection begins with.
#[derive(Debug, PartialEq, Eq)]
pub enum FirstPacket<'a> {
    /// SSLRequest. Bytes after it, before it is answered, are an attack (S4). A second one, or one
    /// inside TLS, is to PostgreSQL a [`StartupError::Version`] 1234.5679.
    Ssl,
    /// GSSENCRequest. The same holds for it, with 1234.5680.
    Gss,
    /// CancelRequest. It is never answered; the connection is closed.
    Cancel {
        /// The process that is said to work for the client.
        pid: i32,
        /// 1 to 256 bytes; 4 in protocol 3.0.
        secret: &'a [u8],
    },
    /// StartupMessage.
    Startup(Startup),
    /// A TLS ClientHello without asking. No byte of it is consumed. Refuse it where TLS already runs.
    DirectTls,
}

impl<'a> FirstPacket<'a> {
    /// Reads the first packet and says how many bytes it took; `None` if more bytes are needed.
    ///
    /// # Errors
    /// Whatever PostgreSQL refuses; the length is judged as soon as its four bytes are there.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, StartupError> {
        Self::parse_within(bytes, Bounds::POSTGRES)
    }

    /// The same within narrower bounds.
    ///
    /// # Errors
    /// Also what is over them.
    pub fn parse_within(
        bytes: &'a [u8],
        bounds: Bounds,
    ) -> Result<Option<(Self, usize)>, StartupError> {
        let most = bounds.packet.min(MAX_STARTUP_PACKET);
        // A TLS record begins with 0x16; a packet of such a length would be far over the cap.
        if bytes.first() == Some(&0x16) {
            return Ok(Some((Self::DirectTls, 0)));
        }
        let Some((head, rest)) = bytes.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let claimed = u32::from_be_bytes(*head);
        let length = usize::try_from(claimed)
            .ok()
            .and_then(|claimed| claimed.checked_sub(4))
            .filter(|length| (4..=most).contains(length))
            .ok_or(StartupError::Length { claimed })?;
        let Some(packet) = rest.get(..length) else {
            return Ok(None);
        };
        Ok(Some((Self::from_packet(packet, bounds)?, 4 + length)))
    }

    fn from_packet(packet: &'a [u8], bounds: Bounds) -> Result<Self, StartupError> {
        let (code, rest) = packet
            .split_first_chunk::<4>()
            .expect("the length was checked to be 4 at least");
        match u32::from_be_bytes(*code) {
            CANCEL_REQUEST => parse_cancel(rest),
            SSL_REQUEST if rest.is_empty() => Ok(Self::Ssl),
            GSS_REQUEST if rest.is_empty() => Ok(Self::Gss),
            SSL_REQUEST | GSS_REQUEST => Err(StartupError::EncryptionRequestLength),
            version => Startup::parse(version, rest, bounds).map(Self::Startup),
        }
    }
}

fn parse_cancel(rest: &[u8]) -> Result<FirstPacket<'_>, StartupError> {
    let (pid, secret) = rest
        .split_first_chunk::<4>()
        .ok_or(StartupError::CancelLength)?;
    if secret.is_empty() || secret.len() > MAX_CANCEL_KEY {
        return Err(StartupError::CancelLength);
    }
    Ok(FirstPacket::Cancel {
        pid: i32::from_be_bytes(*pid),
        secret,
    })
}

/// A protocol version with major number 3, as spoken after negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol {
    minor: u16,
}

impl Protocol {
    /// Spoken by everything since 2003.
    pub const V3_0: Self = Self { minor: 0 };
    /// The newest that we speak: PostgreSQL 18, long cancel keys.
    pub const V3_2: Self = Self { minor: 2 };

    /// The newest version both sides speak. 3.1 never existed; like PostgreSQL 18 we let it
    /// stand and speak 3.0 to it.
    pub fn negotiate(asked_minor: u16) -> Self {
        Self {
            minor: asked_minor.min(Self::V3_2.minor),
        }
    }

    /// As on the wire: the major number in the upper half.
    pub fn number(self) -> u32 {
        (3 << 16) | u32::from(self.minor)
    }

    /// The number after the point.
    pub fn minor(self) -> u16 {
        self.minor
    }

    /// Whether a cancel key may have other lengths than 4 bytes.
    pub fn has_long_cancel_keys(self) -> bool {
        self >= Self::V3_2
    }
}

/// A client's StartupMessage, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// The minor version asked for; the one spoken is [`Startup::protocol`].
    pub asked_minor: u16,
    /// Never empty, at most [`MAX_NAME`] bytes (cut like PostgreSQL does).
    pub user: String,
    /// The user's name where none was given; cut in the same way.
    pub database: String,
    /// Settings in the order in which PostgreSQL applies them: those of `options` first. The
    /// last of a name wins; names are compared without case. They are the client's word only:
    /// not checked, and never to be applied to a session that runs our own SQL (S6).
    pub settings: Vec<(String, String)>,
    /// Names of `_pq_.` options, none of which we know.
    pub protocol_options: Vec<String>,
}

impl Startup {
    fn parse(version: u32, body: &[u8], bounds: Bounds) -> Result<Self, StartupError> {
        let (major, minor) = ((version >> 16) as u16, version as u16);
        if major != 3 {
            return Err(StartupError::Version { major, minor });
        }
        let mut fields = Fields::default();
        let mut reader = body;
        loop {
            match take_str(&mut reader) {
                Some(b"") if reader.is_empty() => break,
                None | Some(b"") => return Err(StartupError::Terminator),
                Some(name) => {
                    fields.add(name, take_str(&mut reader).ok_or(StartupError::Terminator)?)?;
                    if fields.parameters() > bounds.parameters {
                        return Err(StartupError::Parameters {
                            most: bounds.parameters,
                        });
                    }
                }
            }
        }
        fields.finish(minor)
    }

    /// The version to speak with this client.
    pub fn protocol(&self) -> Protocol {
        Protocol::negotiate(self.asked_minor)
    }

    /// The value of a setting, by its name without case.
    pub fn setting(&self, name: &str) -> Option<&str> {
        let found = self
            .settings
            .iter()
            .rev()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Appends NegotiateProtocolVersion if the client asked for more than we know. To be sent
    /// before anything else. Returns whether it was needed.
    pub fn put_negotiation(&self, out: &mut Vec<u8>) -> bool {
        let needed = self.asked_minor > Protocol::V3_2.minor || !self.protocol_options.is_empty();
        if needed {
            put(out, b'v', |out| {
                out.put_u32(self.protocol().number());
                // The packet has at most 10,000 bytes, so there are fewer options than that.
                out.put_u32(self.protocol_options.len() as u32);
                self.protocol_options
                    .iter()
                    .for_each(|name| put_str(out, name.as_bytes()));
            });
        }
        needed
    }
}

/// The parameters of a StartupMessage while it is being read.
#[derive(Default)]
struct Fields {
    user: String,
    database: String,
    from_options: Vec<(String, String)>,
    settings: Vec<(String, String)>,
    protocol_options: Vec<String>,
}

impl Fields {
    /// PostgreSQL lets the last of a repeated user, database or `options` win.
    fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), StartupError> {
        if name == b"application_name" {
            let value = ascii_if_not_utf8(value);
            self.settings.push(("application_name".into(), value));
            return Ok(());
        }
        let (name, value) = (utf8(name)?, utf8(value)?);
        match name {
            "user" => self.user = cut_name(value),
            "database" => self.database = cut_name(value),
            "options" => self.from_options = options::parse(value)?,
            "replication" => refuse_replication(value)?,
            _ if name.starts_with("_pq_.") => self.protocol_options.push(name.into()),
            _ => self.settings.push((name.into(), value.into())),
        }
        Ok(())
    }

    fn parameters(&self) -> usize {
        self.from_options.len() + self.settings.len() + self.protocol_options.len()
    }

    fn finish(self, asked_minor: u16) -> Result<Startup, StartupError> {
        let Self {
            user,
            database,
            mut from_options,
            settings,
            protocol_options,
        } = self;
        if user.is_empty() {
            return Err(StartupError::NoUser);
        }
        let database = if database.is_empty() {
            user.clone()
        } else {
            database
        };
        from_options.extend(settings);
        Ok(Startup {
            asked_minor,
            user,
            database,
            settings: from_options,
            protocol_options,
        })
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, StartupError> {
    std::str::from_utf8(bytes).map_err(|_| StartupError::Encoding)
}

/// PostgreSQL cleans application_name to ASCII instead of refusing it; some drivers put file names there.
fn ascii_if_not_utf8(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => bytes
            .iter()
            .map(|&byte| {
                if byte.is_ascii() {
                    char::from(byte)
                } else {
                    '?'
                }
            })
            .collect(),
    }
}

/// PostgreSQL cuts longer names, as it does in CREATE ROLE: before a character that does not fit.
fn cut_name(name: &str) -> String {
    let fits = |end: &usize| name.is_char_boundary(*end);
    let end = (0..=name.len().min(MAX_NAME)).rev().find(fits).unwrap_or(0);
    name[..end].into()
}

fn refuse_replication(value: &str) -> Result<(), StartupError> {
    match parse_bool(value) {
        Some(false) => Ok(()),
        Some(true) => Err(StartupError::Replication),
        None if value == "database" => Err(StartupError::Replication),
        None => Err(StartupError::ReplicationValue {
            value: value.into(),
        }),
    }
}

/// PostgreSQL's `parse_bool`: any unambiguous beginning of a word, without case.
fn parse_bool(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    let begins = |word: &str, least: usize| lower.len() >= least && word.starts_with(&lower);
    if begins("true", 1) || begins("yes", 1) || lower == "on" || lower == "1" {
        Some(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || lower == "0" {
        Some(false)
    } else {
        None
    }
}

/// Appends BackendKeyData.
///
/// # Errors
/// The key has not 4 bytes (3.0), or not 4 to 256 (3.2).
pub fn put_backend_key(
    out: &mut Vec<u8>,
    protocol: Protocol,
    pid: i32,
    secret: &[u8],
) -> Result<(), KeyLength> {
    let longest = if protocol.has_long_cancel_keys() {
        MAX_CANCEL_KEY
    } else {
        4
    };
    if !(4..=longest).contains(&secret.len()) {
        return Err(KeyLength {
            bytes: secret.len(),
            longest,
        });
    }
    put(out, b'K', |out| {
        out.put_i32(pid);
        out.put_slice(secret);
    });
    Ok(())
}

/// A cancel key that the protocol cannot carry: our own mistake, never the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cancel key of {bytes} bytes instead of 4 to {longest}")]
pub struct KeyLength {
    /// Bytes of the key.
    pub bytes: usize,
    /// What the protocol version allows.
    pub longest: usize,
}

#[cfg(test)]
mod tests;
