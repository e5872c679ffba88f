//! A raw client: sends any bytes, reads messages with a deadline.
//!
//! Sync on purpose: a test says in which order bytes travel. What a real driver
//! would forbid is easy here; see [`crate::message`] for the messages.

use crate::Endpoint;
use crate::frame::Frame;
use crate::message::{self, V3_0};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use socket2::{Domain, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long an answer may take unless a test says otherwise.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// A message longer than this is taken for garbage.
const LENGTH_LIMIT: usize = 256 << 20;

/// A connection on which the test decides every byte.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    // What has arrived and is not yet a whole message.
    unread: Vec<u8>,
    limit: Duration,
    /// Process id and cancel key, once logged in.
    pub key: Option<(u32, Vec<u8>)>,
}

/// Why there was no message.
#[derive(Debug, PartialEq, Eq)]
pub enum Silence {
    /// The other side has closed, or reset, the connection.
    Closed,
    /// The deadline has passed.
    Late,
}

/// Why nobody is logged in.
#[derive(Debug)]
pub enum Unwelcome {
    /// The server's error.
    Refused(Frame),
    /// No word in the middle of the login.
    Broken(Silence),
}

impl Wire {
    /// Connects to a port on 127.0.0.1 and sends nothing.
    pub fn connect(port: u16) -> Wire {
        Wire::try_connect(port).unwrap()
    }

    /// The same where nobody may listen.
    pub fn try_connect(port: u16) -> io::Result<Wire> {
        Wire::over(TcpStream::connect((Ipv4Addr::LOCALHOST, port))?)
    }

    /// Connects from an address of this machine, for whom the router tells clients apart by.
    pub fn connect_from(own: [u8; 4], port: u16) -> Wire {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((own, 0)).into()).unwrap();
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        socket.connect(&to.into()).unwrap();
        Wire::over(socket.into()).unwrap()
    }

    /// Over a connection that is there.
    pub fn over(stream: TcpStream) -> io::Result<Wire> {
        stream.set_nodelay(true)?;
        Ok(Wire {
            stream,
            unread: Vec::new(),
            limit: ANSWER_LIMIT,
            key: None,
        })
    }

    /// Connects and logs in.
    pub fn login(endpoint: &Endpoint) -> Wire {
        Wire::login_with(endpoint, &[])
    }

    /// Connects and logs in with more startup parameters.
    pub fn login_with(endpoint: &Endpoint, more: &[(&str, &str)]) -> Wire {
        let mut wire = Wire::connect(endpoint.port);
        let refused = wire.try_login(endpoint, V3_0, more);
        refused.unwrap_or_else(|error| panic!("login refused: {error}"));
        wire
    }

    /// Logs in; returns the messages between the login and ReadyForQuery, or the server's error. A panic if the other side
    /// says neither.
    pub fn try_login(
        &mut self,
        endpoint: &Endpoint,
        version: u32,
        more: &[(&str, &str)],
    ) -> Result<Vec<Frame>, Frame> {
        said(self.ask_in(endpoint, version, more))
    }

    /// The same where the other side may be killed meanwhile.
    pub fn ask_in(
        &mut self,
        endpoint: &Endpoint,
        version: u32,
        more: &[(&str, &str)],
    ) -> Result<Vec<Frame>, Unwelcome> {
        let own = [("user", &*endpoint.user), ("database", &*endpoint.database)];
        let parameters = [own.as_slice(), more].concat();
        self.ask(&message::startup(version, &parameters))?;
        self.welcome(endpoint)
    }

    /// The rest of a login whose startup packet was sent.
    pub fn finish_login(&mut self, endpoint: &Endpoint) -> Result<Vec<Frame>, Frame> {
        said(self.welcome(endpoint))
    }

    fn welcome(&mut self, endpoint: &Endpoint) -> Result<Vec<Frame>, Unwelcome> {
        self.authenticate(&endpoint.user, &endpoint.password)?;
        let frames = match self.try_until_ready() {
            Ok(frames) => frames,
            Err((frames, silence)) => match frames.into_iter().find(|frame| frame.kind == b'E') {
                Some(error) => return Err(Unwelcome::Refused(error)),
                None => return Err(Unwelcome::Broken(silence)),
            },
        };
        if let Some(error) = frames.iter().find(|frame| frame.kind == b'E') {
            return Err(Unwelcome::Refused(error.clone()));
        }
        let key = frames.iter().find(|frame| frame.kind == b'K');
        self.key = key.map(|frame| {
            let (pid, key) = frame.body.split_first_chunk::<4>().unwrap();
            (u32::from_be_bytes(*pid), key.to_vec())
        });
        Ok(frames)
    }

    fn authenticate(&mut self, user: &str, password: &str) -> Result<(), Unwelcome> {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        loop {
            let frame = self.try_frame(self.limit).map_err(Unwelcome::Broken)?;
            match frame.kind {
                b'E' => return Err(Unwelcome::Refused(frame)),
                b'v' => continue,
                kind => assert_eq!(kind, b'R', "unexpected before login: {frame}"),
            }
            let (code, data) = frame.body.split_first_chunk::<4>().unwrap();
            match u32::from_be_bytes(*code) {
                0 => return Ok(()),
                3 => self.ask(&message::password(password))?,
                5 => {
                    let salt = data.try_into().unwrap();
                    let hash = md5_hash(user.as_bytes(), password.as_bytes(), salt);
                    self.ask(&message::password(&hash))?;
                }
                10 => self.ask(&message::sasl_initial(SCRAM_SHA_256, scram.message()))?,
                11 => {
                    scram.update(data).unwrap();
                    self.ask(&message::sasl_response(scram.message()))?;
                }
                12 => scram
                    .finish(data)
                    .expect("the server proves that it knows the verifier"),
                other => panic!("unknown authentication request {other}"),
            }
        }
    }

    /// A message of the login. That it cannot be sent says no more than that the other side is gone; what it said
    /// before may still be read.
    fn ask(&mut self, message: &[u8]) -> Result<(), Unwelcome> {
        match self.stream.write_all(message) {
            Err(error) if !is_gone(error.kind()) => panic!("write: {error}"),
            _ => Ok(()),
        }
    }

    /// How long each following answer may take.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Sends bytes, whatever they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends bytes to a server that may have closed already.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends several messages at once.
    pub fn send_all(&mut self, messages: &[Vec<u8>]) {
        self.send(&messages.concat());
    }

    /// Sends each byte in a packet of its own.
    pub fn send_slowly(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.send(&[*byte]));
    }

    /// Ends our direction only.
    pub fn finish_sending(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The same where the other side may have closed already.
    pub fn try_finish_sending(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes with RST instead of FIN, as a crashed machine's successor does.
    pub fn reset(self) {
        use std::os::fd::AsRawFd;
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        let size = libc::socklen_t::try_from(size_of_val(&linger)).unwrap();
        // SAFETY: the descriptor is open; pointer and size describe one `linger`.
        let done = unsafe {
            let value: *const libc::linger = &raw const linger;
            libc::setsockopt(
                self.stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                value.cast(),
                size,
            )
        };
        assert_eq!(done, 0);
    }

    /// One byte outside of any message: the answer to SSLRequest.
    pub fn byte(&mut self) -> Result<u8, Silence> {
        self.fill(1, Instant::now() + self.limit)?;
        Ok(self.unread.remove(0))
    }

    /// The next message; a panic if there is none in time.
    pub fn frame(&mut self) -> Frame {
        let limit = self.limit;
        let frame = self.try_frame(limit);
        frame.unwrap_or_else(|silence| panic!("no message within {limit:?}: {silence:?}"))
    }

    /// The next message, or why there is none.
    pub fn try_frame(&mut self, limit: Duration) -> Result<Frame, Silence> {
        let deadline = Instant::now() + limit;
        self.fill(5, deadline)?;
        let length = u32::from_be_bytes(self.unread[1..5].try_into().unwrap());
        let length = usize::try_from(length).unwrap();
        assert!((4..LENGTH_LIMIT).contains(&length), "length {length}");
        self.fill(1 + length, deadline)?;
        let rest = self.unread.split_off(1 + length);
        let whole = std::mem::replace(&mut self.unread, rest);
        Ok(Frame {
            kind: whole[0],
            body: whole[5..].to_vec(),
        })
    }

    /// All messages up to ReadyForQuery, with it. Ends also after a FATAL error, which closes the connection.
    pub fn until_ready(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            match self.try_frame(self.limit) {
                Ok(frame) => frames.push(frame),
                Err(Silence::Closed) if frames.last().is_some_and(|f| f.kind == b'E') => {
                    return frames;
                }
                Err(silence) => panic!("{silence:?} after:\n{}", crate::frame::show(&frames)),
            }
            if frames.last().is_some_and(|frame| frame.kind == b'Z') {
                return frames;
            }
        }
    }

    /// All messages up to ReadyForQuery, with it; or what there was when no more came, and why.
    pub fn try_until_ready(&mut self) -> Result<Vec<Frame>, (Vec<Frame>, Silence)> {
        let mut frames = Vec::new();
        loop {
            match self.try_frame(self.limit) {
                Ok(frame) => frames.push(frame),
                Err(silence) => return Err((frames, silence)),
            }
            if frames.last().is_some_and(|frame| frame.kind == b'Z') {
                return Ok(frames);
            }
        }
    }

    /// A simple query with all that is answered.
    pub fn query(&mut self, sql: &str) -> Vec<Frame> {
        self.send(&message::query(sql));
        self.until_ready()
    }

    /// The rows of a simple query, as text; a panic if it is an error.
    pub fn rows(&mut self, sql: &str) -> Vec<Vec<String>> {
        let frames = self.query(sql);
        if let Some(error) = frames.iter().find(|frame| frame.kind == b'E') {
            panic!("{sql}: {error}");
        }
        let rows = frames.iter().filter(|frame| frame.kind == b'D');
        rows.map(Frame::row_text).collect()
    }

    /// Asks for a cancel of what runs on this connection, on a connection of its own.
    pub fn cancel(&self) {
        let (pid, key) = self.key.as_ref().expect("logged in");
        let mut other = Wire::connect(self.stream.peer_addr().unwrap().port());
        other.send(&message::cancel(*pid, key));
        // The server closes when it has passed the request on.
        assert!(other.is_closed_within(ANSWER_LIMIT), "cancel not taken");
    }

    /// The same once nothing has come for so long.
    pub fn cancel_after(&mut self, pause: Duration) {
        assert_eq!(self.try_frame(pause), Err(Silence::Late));
        self.cancel();
    }

    /// Whether the other side closes within `limit` without another message.
    pub fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.try_frame(limit) == Err(Silence::Closed)
    }

    /// Reads until `count` bytes are there.
    fn fill(&mut self, count: usize, deadline: Instant) -> Result<(), Silence> {
        let mut chunk = [0; 16 << 10];
        while self.unread.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Silence::Late);
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Silence::Closed),
                Ok(read) => self.unread.extend(&chunk[..read]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Err(Silence::Late),
                    ErrorKind::Interrupted => {}
                    gone if is_gone(gone) => return Err(Silence::Closed),
                    other => panic!("read: {other}"),
                },
            }
        }
        Ok(())
    }
}

fn is_gone(error: ErrorKind) -> bool {
    matches!(error, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

fn said(login: Result<Vec<Frame>, Unwelcome>) -> Result<Vec<Frame>, Frame> {
    login.map_err(|unwelcome| match unwelcome {
        Unwelcome::Refused(error) => error,
        Unwelcome::Broken(silence) => panic!("no answer to a login: {silence:?}"),
    })
}
