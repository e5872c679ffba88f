//! A small HTTP/1.1 server: GET of three pages, one request a connection.
//!
//! It runs beside the cores, on the main thread. A request has one deadline and a
//! limited size, and only so many are served at once, so that nothing that happens
//! on this port costs the clients anything. [`parse`] decides; the rest carries.

use super::scrape::scrape;
use crate::core::{Life, Shared};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Bytes of a request's head.
const MAX_HEAD: usize = 8 * 1024;
/// From accept to the last byte of the answer.
const LIMIT: Duration = Duration::from_secs(10);
/// Requests served at once; one more waits until another has ended.
const MAX_CONNECTIONS: usize = 32;

/// The server's socket.
pub struct Http(std::net::TcpListener);

impl Http {
    /// On this socket, which listens and does not block.
    pub fn new(listener: std::net::TcpListener) -> Self {
        Self(listener)
    }

    /// Serves until dropped.
    pub async fn serve(self, shared: Arc<Shared>) {
        let listener = match TcpListener::from_std(self.0) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(error = %error, "metrics cannot be served");
                return;
            }
        };
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move {
                        // A client that is slow, gone or wrong ends its own request only.
                        let _ = tokio::time::timeout(LIMIT, answer(stream, &shared)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(error = %error, "a request for metrics could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Metrics,
    Live,
    Ready,
}

/// What a head amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    /// More bytes are needed.
    Partial,
    /// A page, with or without its body.
    Page { page: Page, with_body: bool },
    /// Refused with this status.
    Refused(&'static str),
}

fn parse(head: &[u8]) -> Request {
    let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if head.len() >= MAX_HEAD {
            Request::Refused("431 Request Header Fields Too Large")
        } else {
            Request::Partial
        };
    };
    let line = head[..end]
        .split(|&b| b == b'\r')
        .next()
        .unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
    let [method, target, version] = words[..] else {
        return Request::Refused("400 Bad Request");
    };
    if !version.starts_with(b"HTTP/1.") {
        return Request::Refused("400 Bad Request");
    }
    let with_body = match method {
        b"GET" => true,
        b"HEAD" => false,
        _ => return Request::Refused("405 Method Not Allowed"),
    };
    let path = target.split(|&b| b == b'?').next().unwrap_or_default();
    let page = match path {
        b"/metrics" => Page::Metrics,
        b"/health/live" | b"/health" => Page::Live,
        b"/health/ready" | b"/ready" => Page::Ready,
        _ => return Request::Refused("404 Not Found"),
    };
    Request::Page { page, with_body }
}

async fn answer(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut head = Vec::new();
    let (status, body, with_body) = loop {
        let mut chunk = [0; 1024];
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        head.extend_from_slice(&chunk[..read]);
        match parse(&head) {
            Request::Partial => {}
            Request::Page { page, with_body } => {
                let (status, body) = render(page, shared).await;
                break (status, body, with_body);
            }
            Request::Refused(status) => break (status, format!("{status}\n"), true),
        }
    };
    let mut reply = format!(
        "HTTP/1.1 {status}\r\n\
         Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    if with_body {
        reply.push_str(&body);
    }
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await?;
    // What the client still sends is thrown away, because closing with unread bytes
    // resets the connection, and the client might lose the answer.
    let mut rest = [0; 1024];
    for _ in 0..64 {
        if stream.read(&mut rest).await? == 0 {
            break;
        }
    }
    Ok(())
}

async fn render(page: Page, shared: &Shared) -> (&'static str, String) {
    const OK: &str = "200 OK";
    match page {
        Page::Metrics => (OK, scrape(shared).await),
        Page::Live => (OK, "live\n".to_owned()),
        Page::Ready => {
            let serves = *shared.life.borrow() == Life::Serving;
            // A core that has ended no longer takes clients.
            if serves && shared.mail.iter().all(|core| !core.is_closed()) {
                (OK, "ready\n".to_owned())
            } else {
                ("503 Service Unavailable", "draining\n".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_understood_or_refused() {
        let page = |page, with_body| Request::Page { page, with_body };
        let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(MAX_HEAD));
        for (head, expected) in [
            (
                "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
                page(Page::Metrics, true),
            ),
            (
                "GET /metrics?x=1 HTTP/1.0\r\n\r\n",
                page(Page::Metrics, true),
            ),
            (
                "HEAD /health/live HTTP/1.1\r\n\r\n",
                page(Page::Live, false),
            ),
            ("GET /ready HTTP/1.1\r\n\r\n", page(Page::Ready, true)),
            (
                "GET /health/ready HTTP/1.1\r\n\r\n",
                page(Page::Ready, true),
            ),
            ("GET / HTTP/1.1\r\n\r\n", Request::Refused("404 Not Found")),
            (
                "POST /metrics HTTP/1.1\r\n\r\n",
                Request::Refused("405 Method Not Allowed"),
            ),
            ("GET /metrics\r\n\r\n", Request::Refused("400 Bad Request")),
            (
                "GET /metrics SMTP/1.1\r\n\r\n",
                Request::Refused("400 Bad Request"),
            ),
            ("\r\n\r\n", Request::Refused("400 Bad Request")),
            ("GET /metrics HTTP/1.1\r\n", Request::Partial),
            ("", Request::Partial),
            (
                &long,
                Request::Refused("431 Request Header Fields Too Large"),
            ),
        ] {
            assert_eq!(parse(head.as_bytes()), expected, "{head:.60}");
        }
    }
}
