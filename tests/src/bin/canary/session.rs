//! One logged-in client: sends bytes, takes messages, and judges each of them.
//!
//! Every message is searched for marks of others. Every wait has a deadline, which
//! starts anew with each request. What is not as it must be is a [`Fault`].

use crate::mark::Mark;
use crate::world::World;
use mothership_tests::frame::{Frame, show};
use mothership_tests::message::{self, SSL_REQUEST, V3_0};
use mothership_tests::shared::PASSWORD;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::client::TlsStream;

/// The role of all clients.
pub const ROLE: &str = "canary";
/// Keys that a session has for itself.
pub const KEYS: i64 = 12;

/// What must never happen.
#[derive(Debug)]
pub enum Fault {
    /// Something of another client: its mark, or its cancel.
    Foreign(String),
    /// No answer within the deadline.
    Hang(String),
    /// An answer that is not the one of this request.
    Order(String),
    /// The router closed a connection that had done nothing wrong.
    Closed(String),
    /// A limit of time or number was met, and the client was told so: no fault unless there are many.
    TurnedAway(String),
}

/// What a busy router says: no connection within the time, or none of a further shard, or no answer of a server.
const BUSY: [&str; 4] = ["53300", "40P01", "57P03", "08006"];

/// A plain connection, or one with TLS.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.write_all(bytes).await,
            Stream::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    async fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read_buf(into).await,
            Stream::Tls(stream) => stream.read_buf(into).await,
        }
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
        }
    }
}

/// One session and what it has made.
pub struct Session {
    stream: Stream,
    unread: Vec<u8>,
    deadline: Instant,
    limit: Duration,
    /// What it puts into everything.
    pub mark: Mark,
    /// Its keys are this one and the [`KEYS`] - 1 behind it.
    pub first_key: i64,
    /// The rows that it has in `marks`, by key, with their `n`.
    pub rows: BTreeMap<i64, i64>,
    /// Which of its prepared statements are there.
    pub prepared: [bool; 4],
    /// What `canary.mark` is set to.
    pub setting: Option<String>,
    /// What `application_name` is set to.
    pub application: String,
    /// Process id and cancel key.
    pub key: (u32, Vec<u8>),
}

/// The address of the router.
pub async fn dial(port: u16) -> Result<TcpStream, Fault> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
    let stream = stream.map_err(|error| Fault::Closed(format!("connect: {error}")))?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// What a client with this mark says first; some bring a setting of their own.
pub fn greeting(mark: Mark) -> Vec<u8> {
    let name = mark.to_string();
    let all = [
        ("user", ROLE),
        ("database", "postgres"),
        ("application_name", &*name),
        ("canary.origin", &*name),
    ];
    let count = if has_origin(mark) { 4 } else { 3 };
    message::startup(V3_0, &all[..count])
}

/// Whether the session has set `canary.origin` at its login.
pub fn has_origin(mark: Mark) -> bool {
    mark.0.is_multiple_of(4)
}

impl Session {
    /// Connects and logs in: with TLS by SCRAM, else without being asked.
    pub async fn open(world: &World, tls: bool) -> Result<Session, Fault> {
        let (mark, first_key) = world.next_session();
        let limit = world.limit;
        let deadline = Instant::now() + limit;
        let mut tcp = dial(world.port).await?;
        let stream = match tls {
            false => Stream::Plain(tcp),
            true => {
                let secure = async {
                    tcp.write_all(&message::request(SSL_REQUEST)).await?;
                    match tcp.read_u8().await? {
                        b'S' => world.tls.connect(world.host(), tcp).await,
                        other => Err(io::Error::other(format!("SSLRequest: {other}"))),
                    }
                };
                let done = timeout_at(deadline, secure).await;
                let done = done.map_err(|_| Fault::Hang("TLS handshake".into()))?;
                let done = done.map_err(|e| Fault::Closed(format!("TLS handshake: {e}")))?;
                Stream::Tls(Box::new(done))
            }
        };
        let mut session = Session {
            stream,
            unread: Vec::new(),
            deadline,
            limit,
            mark,
            first_key,
            rows: BTreeMap::new(),
            prepared: [false; 4],
            setting: None,
            application: mark.to_string(),
            key: (0, Vec::new()),
        };
        session.login().await?;
        Ok(session)
    }

    async fn login(&mut self) -> Result<(), Fault> {
        self.send(&greeting(self.mark)).await?;
        let mut scram = ScramSha256::new(PASSWORD.as_bytes(), ChannelBinding::unsupported());
        let mut names = Vec::new();
        loop {
            let frame = self.frame().await?;
            match frame.kind {
                b'R' => {
                    let (code, data) = frame.body.split_first_chunk::<4>().unwrap();
                    let answer = match u32::from_be_bytes(*code) {
                        0 => continue,
                        10 => message::sasl_initial(SCRAM_SHA_256, scram.message()),
                        11 => {
                            let read = scram.update(data);
                            read.map_err(|e| Fault::Order(format!("SCRAM: {e}")))?;
                            message::sasl_response(scram.message())
                        }
                        12 => {
                            let proof = scram.finish(data);
                            proof.map_err(|e| Fault::Order(format!("SCRAM: {e}")))?;
                            continue;
                        }
                        other => return Err(Fault::Order(format!("authentication {other}"))),
                    };
                    self.send(&answer).await?;
                }
                b'S' => names.push(String::from_utf8_lossy(&frame.body).into_owned()),
                b'K' => {
                    let (pid, key) = frame.body.split_first_chunk::<4>().unwrap();
                    self.key = (u32::from_be_bytes(*pid), key.to_vec());
                }
                b'Z' if frame.transaction() == 'I' => break,
                _ => return Err(wrong("login", &[frame])),
            }
        }
        let own = format!("application_name\0{}\0", self.mark);
        match names.contains(&own) && !self.key.1.is_empty() {
            true => Ok(()),
            false => Err(Fault::Order(format!("told at login: {names:?}"))),
        }
    }

    /// Sends a request; its deadline starts.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.deadline = Instant::now() + self.limit;
        let sent = timeout_at(self.deadline, self.stream.send(bytes)).await;
        sent.map_err(|_| Fault::Hang("nobody reads what is sent".into()))?
            .map_err(|error| Fault::Closed(format!("send: {error}")))
    }

    /// Sends a request in pieces of this size.
    pub async fn send_pieces(&mut self, bytes: &[u8], size: usize) -> Result<(), Fault> {
        for piece in bytes.chunks(size) {
            self.send(piece).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// The next message, searched for marks of others.
    pub async fn frame(&mut self) -> Result<Frame, Fault> {
        self.fill(5).await?;
        let length = u32::from_be_bytes(self.unread[1..5].try_into().unwrap());
        if !(4..64 << 20).contains(&length) {
            return Err(Fault::Order(format!("a message of {length} bytes")));
        }
        let whole = 1 + length as usize;
        self.fill(whole).await?;
        let frame = Frame {
            kind: self.unread[0],
            body: self.unread[5..whole].to_vec(),
        };
        self.unread.drain(..whole);
        match self.mark.foreign(&frame.body) {
            None => Ok(frame),
            Some(other) => Err(Fault::Foreign(format!("{other} in {frame}"))),
        }
    }

    async fn fill(&mut self, count: usize) -> Result<(), Fault> {
        while self.unread.len() < count {
            let read = timeout_at(self.deadline, self.stream.receive(&mut self.unread)).await;
            match read.map_err(|_| Fault::Hang(format!("no answer in {:?}", self.limit)))? {
                Ok(0) => return Err(Fault::Closed("closed".into())),
                Ok(_) => {}
                Err(error) => return Err(Fault::Closed(format!("receive: {error}"))),
            }
        }
        Ok(())
    }

    /// All messages up to the `syncs`-th ReadyForQuery, without what is reported of settings.
    pub async fn until_ready(&mut self, mut syncs: usize) -> Result<Vec<Frame>, Fault> {
        let mut frames = Vec::new();
        while syncs > 0 {
            let frame = match self.frame().await {
                Ok(frame) => frame,
                Err(fault) => return Err(fault.after(&frames)),
            };
            syncs -= usize::from(frame.kind == b'Z');
            if frame.kind != b'S' {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    /// A simple query's answer.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Frame>, Fault> {
        self.send(&message::query(sql)).await?;
        self.until_ready(1).await.map_err(|fault| fault.at(sql))
    }

    /// A simple query that must be answered by exactly these lines.
    pub async fn expect(&mut self, sql: &str, lines: &[&str]) -> Result<(), Fault> {
        let frames = self.query(sql).await?;
        check(sql, &frames, lines)
    }

    /// Messages that must be answered by exactly these lines, up to the `syncs`-th ReadyForQuery.
    pub async fn exchange(
        &mut self,
        what: &str,
        messages: &[Vec<u8>],
        lines: &[&str],
    ) -> Result<(), Fault> {
        self.send(&messages.concat()).await?;
        let syncs = lines.iter().filter(|l| l.starts_with("Ready")).count();
        let frames = self.until_ready(syncs).await;
        check(what, &frames.map_err(|fault| fault.at(what))?, lines)
    }

    /// Says good-bye and closes.
    pub async fn leave(mut self) -> Result<(), Fault> {
        self.send(&message::terminate()).await
    }

    /// Sends bytes to whoever still reads them.
    pub async fn send_blindly(&mut self, bytes: &[u8]) {
        let until = Instant::now() + Duration::from_millis(200);
        let _ = timeout_at(until, self.stream.send(bytes)).await;
    }

    /// Closes by RST, or by FIN.
    pub fn cut(self, reset: bool) {
        if reset {
            let _ = self.stream.tcp().set_zero_linger();
        }
    }
}

/// Compares an answer with what it has to be.
pub fn check(what: &str, frames: &[Frame], lines: &[&str]) -> Result<(), Fault> {
    let same = frames.len() == lines.len()
        && std::iter::zip(frames, lines).all(|(frame, line)| frame.to_string() == *line);
    match same {
        true => Ok(()),
        false => Err(wrong(what, frames)),
    }
}

/// The fault of an answer that does not fit; a cancel that nobody here asked for is foreign.
pub fn wrong(what: &str, frames: &[Frame]) -> Fault {
    let text = format!("{what}\n{}", show(frames));
    let mut codes = frames
        .iter()
        .filter(|f| f.kind == b'E')
        .map(Frame::sqlstate);
    match codes.next() {
        Some(code) if code == "57014" => Fault::Foreign(format!("a cancel of somebody: {text}")),
        Some(code) if BUSY.contains(&&*code) => Fault::TurnedAway(text),
        _ => Fault::Order(text),
    }
}

impl Fault {
    fn after(self, frames: &[Frame]) -> Fault {
        self.map(|text| format!("{text}, after:\n{}", show(frames)))
    }

    fn at(self, what: &str) -> Fault {
        self.map(|text| format!("{what}: {text}"))
    }

    /// The same with more words.
    pub fn map(self, words: impl FnOnce(String) -> String) -> Fault {
        match self {
            Fault::Foreign(text) => Fault::Foreign(words(text)),
            Fault::Hang(text) => Fault::Hang(words(text)),
            Fault::Order(text) => Fault::Order(words(text)),
            Fault::Closed(text) => Fault::Closed(words(text)),
            Fault::TurnedAway(text) => Fault::TurnedAway(words(text)),
        }
    }
}
