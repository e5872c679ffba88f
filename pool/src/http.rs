//! One request and its answer over HTTP/1.0: what tools beside PostgreSQL are asked by.
//!
//! A connection carries one request, and its end is the end of the answer: nothing
//! is kept open, and nothing comes in chunks. The caller says how long it may take.
//! [`Url::parse`] and [`parse`] decide; the rest carries.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::fmt;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of an answer, head included.
const LONGEST: usize = 1 << 20;

/// Where a service listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    /// `https`.
    pub tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// Never zero.
    pub port: u16,
}

impl Url {
    /// Reads `http://host:port` and `https://host:port`, with or without a slash behind. The port must be there: that of a service is hardly
    /// ever 80.
    pub fn parse(text: &str) -> Option<Url> {
        let (scheme, rest) = text.split_once("://")?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let (host, port) = rest.strip_suffix('/').unwrap_or(rest).rsplit_once(':')?;
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port != 0)?;
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let good = match bracketed {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.len() <= 253 && host.chars().all(known),
        };
        good.then(|| Url {
            tls,
            host: bracketed.unwrap_or(host).to_owned(),
            port,
        })
    }

    /// `host:port`, an IPv6 address in brackets.
    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

/// What is asked of a service.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// GET of a path.
    Get(&'a str),
    /// POST of JSON to a path.
    Post(&'a str, &'a str),
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Such as 200.
    pub status: u16,
    /// Behind the head.
    pub body: Vec<u8>,
}

/// A service with what it takes to be let in.
#[derive(Clone)]
pub struct Service {
    /// Where.
    pub url: Url,
    /// For `https`.
    pub tls: Option<Arc<ClientConfig>>,
    /// User and password, sent with every request.
    pub login: Option<(String, String)>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service({})", self.url)
    }
}

impl Service {
    /// Asks and reads the answer. Cancel safe: a connection that is dropped ends.
    ///
    /// # Errors
    /// No connection, no TLS, or an answer that is none (`InvalidData`), too long or cut short.
    pub async fn ask(&self, request: Request<'_>) -> io::Result<Answer> {
        let socket = TcpStream::connect((&*self.url.host, self.url.port)).await?;
        let head = self.head(request);
        if !self.url.tls {
            return exchange(socket, &head).await;
        }
        let config = self.tls.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let name = ServerName::try_from(self.url.host.clone()).map_err(io::Error::other)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
        exchange(connector.connect(name, socket).await?, &head).await
    }

    fn head(&self, request: Request<'_>) -> String {
        let (method, path, body) = match request {
            Request::Get(path) => ("GET", path, None),
            Request::Post(path, body) => ("POST", path, Some(body)),
        };
        let mut head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nConnection: close\r\nAccept: application/json\r\n",
            self.url.authority()
        );
        if let Some((user, password)) = &self.login {
            let login = STANDARD.encode(format!("{user}:{password}"));
            head += &format!("Authorization: Basic {login}\r\n");
        }
        if let Some(body) = body {
            let length = body.len();
            head += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
        }
        head + "\r\n" + body.unwrap_or_default()
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> io::Result<Answer> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(LONGEST).unwrap_or(u64::MAX) + 1;
    let ended = stream.take(limit).read_to_end(&mut bytes).await;
    match ended {
        // Some servers end TLS without a word; the length of the body tells whether all is there.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
        _ if bytes.len() > LONGEST => return Err(wrong("the answer is too long")),
        _ => {}
    }
    parse(&bytes).map_err(wrong)
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads an answer to its end.
fn parse(bytes: &[u8]) -> Result<Answer, &'static str> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or("the answer is no HTTP, or was cut short")?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "the answer's head is no text")?;
    let body = &bytes[end + 4..];
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().and_then(|status| status.parse().ok());
    let Some(status) = status.filter(|_| version.starts_with("HTTP/1.")) else {
        return Err("the answer is no HTTP/1");
    };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            return Err("the answer's head has a line without a colon");
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") && value != "identity" {
            return Err("the answer is encoded, which was not asked for");
        }
        if name.eq_ignore_ascii_case("content-length") && value != body.len().to_string() {
            return Err("the answer was cut short");
        }
    }
    Ok(Answer {
        status,
        body: body.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_scheme_a_host_and_a_port_and_nothing_else() {
        for text in [
            "http://db1:8008",
            "https://db1.example.com:8008",
            "http://10.0.0.1:80",
            "http://[::1]:8008",
        ] {
            let url = Url::parse(text).map(|url| url.to_string());
            assert_eq!(url.as_deref(), Some(text));
        }
        let slash = Url::parse("http://db1:8008/").map(|url| url.to_string());
        assert_eq!(slash.as_deref(), Some("http://db1:8008"));
        for text in [
            "",
            "db1:8008",
            "http://db1",
            "http://:8008",
            "http://db1:0",
            "http://db1:+1",
            "http://db1:65536",
            "http://db1:8008/cluster",
            "http://user:password@db1:8008",
            "http://[db1]:8008",
            "http://::1:8008",
            "ftp://db1:8008",
            "http://a b:1",
        ] {
            assert_eq!(Url::parse(text), None, "{text}");
        }
    }

    #[test]
    fn answers_are_whole_or_none() {
        let ok = |status, body: &str| {
            let body = body.as_bytes().to_vec();
            Ok(Answer { status, body })
        };
        let cut = Err("the answer was cut short");
        for (text, expected) in [
            ("HTTP/1.0 200 OK\r\n\r\n{}", ok(200, "{}")),
            ("HTTP/1.1 503 x y\r\nA: b\r\n\r\n", ok(503, "")),
            (
                "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
                ok(200, "{}"),
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n{}",
                cut.clone(),
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n{}", cut),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
                Err("the answer is encoded, which was not asked for"),
            ),
            ("HTTP/2 200\r\n\r\n", Err("the answer is no HTTP/1")),
            ("HTTP/1.0 abc\r\n\r\n", Err("the answer is no HTTP/1")),
            (
                "HTTP/1.0 200 OK\r\nA: b\r\n",
                Err("the answer is no HTTP, or was cut short"),
            ),
            ("", Err("the answer is no HTTP, or was cut short")),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_login_goes_with_every_request_and_into_no_log() {
        let service = Service {
            url: Url::parse("http://db1:8008").unwrap(),
            tls: None,
            login: Some(("admin".into(), "secret".into())),
        };
        let head = service.head(Request::Post("/switchover", "{}"));
        assert!(head.contains("\r\nAuthorization: Basic YWRtaW46c2VjcmV0\r\n"));
        assert!(head.ends_with("Content-Length: 2\r\n\r\n{}"), "{head}");
        assert!(!format!("{service:?}").contains("secret"));
    }
}
