//! TLS over a wire's buffers, by rustls: bytes in, bytes out, no socket.
//!
//! Records towards the peer hold at most 8 KiB of text: libpq's asynchronous reading hangs on larger ones.
//! See: supavisor#993. Whatever rustls wants to answer while it reads (a KeyUpdate, an alert) is appended to the output
//! like any other bytes, so reading never waits for writing.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::buffer::{self, Input};

/// The most text in one record, in bytes.
const RECORD: usize = 8 * 1024;

/// What was negotiated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsInfo {
    /// As PostgreSQL prints it in pg_stat_ssl: `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite's IANA name.
    pub cipher: String,
    /// The application protocol, for instance `postgresql`.
    pub alpn: Option<Vec<u8>>,
    /// The host name that the client asked for, on the server's side.
    pub server_name: Option<String>,
    /// The peer's certificate, checked as the configuration demanded.
    pub peer_certificate: Option<CertificateDer<'static>>,
    /// On the client's side the data of `tls-server-end-point` channel binding, where it is defined. A server computes
    /// it with [`server_end_point`] from the certificate that it was configured with.
    pub server_end_point: Option<Vec<u8>>,
}

pub(super) struct Tls {
    conn: Connection,
    /// Text to send, not yet encrypted, so that many small messages become one record.
    pub(super) plain: Vec<u8>,
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Received {
    /// Bytes of text, appended to the input.
    pub(super) text: usize,
    /// The peer has said that nothing follows.
    pub(super) closed: bool,
}

impl Tls {
    pub(super) fn server(config: Arc<ServerConfig>) -> io::Result<Tls> {
        ServerConnection::new(config)
            .map(|conn| Tls::new(conn.into()))
            .map_err(invalid)
    }

    pub(super) fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Tls> {
        ClientConnection::new(config, name)
            .map(|conn| Tls::new(conn.into()))
            .map_err(invalid)
    }

    fn new(conn: Connection) -> Tls {
        Tls {
            conn,
            plain: Vec::new(),
        }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.conn.is_handshaking()
    }

    pub(super) fn has_output(&self) -> bool {
        !self.plain.is_empty() || self.conn.wants_write()
    }

    /// Appends records with all text and everything rustls wants to say itself.
    pub(super) fn seal(&mut self, records: &mut Vec<u8>) -> io::Result<()> {
        for text in self.plain.chunks(RECORD) {
            self.conn.writer().write_all(text)?;
            // At once, so that rustls buffers one record at most.
            write_records(&mut self.conn, records)?;
        }
        if self.plain.capacity() > 0 {
            buffer::give_output(std::mem::take(&mut self.plain));
        }
        write_records(&mut self.conn, records)
    }

    /// Nothing follows; the next `seal` says so to the peer.
    pub(super) fn close(&mut self) {
        self.conn.send_close_notify();
    }

    /// Decrypts what was received; none is the end of the connection.
    pub(super) fn receive(
        &mut self,
        mut records: &[u8],
        input: &mut Input,
    ) -> io::Result<Received> {
        let mut received = Received {
            text: 0,
            closed: records.is_empty(),
        };
        while !records.is_empty() && !received.closed {
            let before = records.len();
            self.conn.read_tls(&mut records)?;
            let state = self.conn.process_new_packets().map_err(invalid)?;
            received.text += self.read_text(state.plaintext_bytes_to_read(), input)?;
            received.closed = state.peer_has_closed();
            if records.len() == before && !received.closed {
                // rustls takes nothing and is not at its end: it would never take more.
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(received)
    }

    fn read_text(&mut self, waiting: usize, input: &mut Input) -> io::Result<usize> {
        let mut text = 0;
        while text < waiting {
            let n = match self.conn.reader().read(input.room()) {
                Ok(n) => n,
                Err(error) => {
                    input.filled(0);
                    return Err(error);
                }
            };
            input.filled(n);
            if n == 0 {
                break;
            }
            text += n;
        }
        Ok(text)
    }

    pub(super) fn info(&self) -> TlsInfo {
        let (server_name, is_client) = match &self.conn {
            Connection::Server(conn) => (conn.server_name().map(str::to_owned), false),
            Connection::Client(_) => (None, true),
        };
        let peer = self
            .conn
            .peer_certificates()
            .and_then(|chain| chain.first())
            .cloned();
        let end_point = peer
            .as_ref()
            .filter(|_| is_client)
            .and_then(|certificate| server_end_point(certificate));
        TlsInfo {
            version: match self.conn.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "unknown",
            },
            cipher: self
                .conn
                .negotiated_cipher_suite()
                .map(|s| format!("{:?}", s.suite()))
                .unwrap_or_default(),
            alpn: self.conn.alpn_protocol().map(<[u8]>::to_vec),
            server_name,
            peer_certificate: peer,
            server_end_point: end_point,
        }
    }

    #[cfg(test)]
    pub(super) fn update_keys(&mut self) {
        self.conn
            .refresh_traffic_keys()
            .expect("TLS 1.3 after the handshake");
    }
}

fn write_records(conn: &mut Connection, records: &mut Vec<u8>) -> io::Result<()> {
    while conn.wants_write() {
        conn.write_tls(records)?;
    }
    Ok(())
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The hash of a server's certificate that `tls-server-end-point` (RFC 5929, 4.1) binds a login to.
///
/// `None` where the RFC leaves it open or this function does not know the signature (Ed25519, RSA-PSS): then a login
/// with channel binding must not be offered.
pub fn server_end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    // Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OBJECT IDENTIFIER, .. }, .. }
    let (certificate_body, _) = der(certificate, 0x30)?;
    let (_, after_tbs) = der(certificate_body, 0x30)?;
    let (algorithm, _) = der(after_tbs, 0x30)?;
    let (oid, _) = der(algorithm, 0x06)?;
    match oid {
        // RSA with MD5 and SHA-1, ECDSA with SHA-1: the RFC replaces these by SHA-256, as it uses SHA-256 itself.
        [
            0x2a,
            0x86,
            0x48,
            0x86,
            0xf7,
            0x0d,
            0x01,
            0x01,
            0x04 | 0x05 | 0x0b,
        ]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02] => {
            Some(Sha256::digest(certificate).to_vec())
        }
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03] => {
            Some(Sha384::digest(certificate).to_vec())
        }
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04] => {
            Some(Sha512::digest(certificate).to_vec())
        }
        _ => None,
    }
}

/// Why a certificate names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Nameless {
    /// Its subject has no common name.
    #[error("the certificate has no common name")]
    Absent,
    /// The common name ends before its end for whoever reads it as a C string.
    #[error("the certificate's common name contains a zero byte")]
    ZeroByte,
}

/// The common name of a certificate's subject as PostgreSQL reads it: the first one, its bytes as they stand.
///
/// # Errors
/// [`Nameless`]: nobody may be taken for its owner.
pub fn common_name<'c>(certificate: &'c CertificateDer<'_>) -> Result<&'c [u8], Nameless> {
    match subject_common_name(certificate) {
        None | Some([]) => Err(Nameless::Absent),
        Some(name) if name.contains(&0) => Err(Nameless::ZeroByte),
        Some(name) => Ok(name),
    }
}

fn subject_common_name(certificate: &[u8]) -> Option<&[u8]> {
    // id-at-commonName, 2.5.4.3
    const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    const SEQUENCE: u8 = 0x30;
    let (certificate, _) = der(certificate, SEQUENCE)?;
    let (body, _) = der(certificate, SEQUENCE)?;
    // TBSCertificate ::= SEQUENCE { [0] version OPTIONAL, serial, signature, issuer, validity, subject, .. }
    let body = der(body, 0xa0).map_or(body, |(_, rest)| rest);
    let (_, body) = der(body, 0x02)?;
    let (_, body) = der(body, SEQUENCE)?;
    let (_, body) = der(body, SEQUENCE)?;
    let (_, body) = der(body, SEQUENCE)?;
    let (mut names, _) = der(body, SEQUENCE)?;
    // Name ::= SEQUENCE OF SET OF SEQUENCE { OBJECT IDENTIFIER, a string of some kind }
    while !names.is_empty() {
        let (mut set, rest) = der(names, 0x31)?;
        names = rest;
        while !set.is_empty() {
            let (attribute, rest) = der(set, SEQUENCE)?;
            set = rest;
            let (kind, value) = der(attribute, 0x06)?;
            if kind == COMMON_NAME {
                let (text, _) = der(value, *value.first()?)?;
                return Some(text);
            }
        }
    }
    None
}

/// The content of the DER value with this tag at the front of `bytes`, and what follows it.
fn der(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if found != tag {
        return None;
    }
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (
                digits
                    .iter()
                    .fold(0usize, |len, &digit| len << 8 | usize::from(digit)),
                rest,
            )
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}
