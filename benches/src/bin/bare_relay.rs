//! A transaction-pooling relay that knows no SQL, to measure what the runtime's shape and the send batch cost.
//!
//! Clients are let in without a password and share a few server connections per thread; a client holds one from its
//! first message to the `ReadyForQuery` that ends its transaction. There is no cancel, no reset, no limit and no
//! pooled prepared statement: this program answers one question (docs/adr/0001) and is not a pooler.
//!
//! `bare_relay --listen 7432 --server 127.0.0.1:5432 --user postgres --database bench
//!             [--servers 20] [--threads 1] [--send auto|plain|immediate]`

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use mothership_pool::wire::{self, SendMode, Wire};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

/// Above this many unsent bytes towards one side, the other side is not read.
const UNSENT: usize = 256 * 1024;

#[derive(Clone)]
struct Options {
    listen: SocketAddr,
    server: SocketAddr,
    user: String,
    database: String,
    servers: usize,
    threads: usize,
    send: Option<SendMode>,
}

fn main() -> io::Result<()> {
    let options = options(std::env::args().skip(1))?;
    // The share of servers of the first threads is larger by one where they do not divide evenly.
    let share = |thread: usize| (options.servers + options.threads - 1 - thread) / options.threads;
    let threads: Vec<_> = (0..options.threads)
        .map(|thread| {
            let (options, servers) = (options.clone(), share(thread));
            std::thread::spawn(move || run_thread(&options, servers))
        })
        .collect();
    for thread in threads {
        thread
            .join()
            .map_err(|_| io::Error::other("a thread panicked"))??;
    }
    Ok(())
}

fn options(mut arguments: impl Iterator<Item = String>) -> io::Result<Options> {
    let mut options = Options {
        listen: ([127, 0, 0, 1], 7432).into(),
        server: ([127, 0, 0, 1], 5432).into(),
        user: "postgres".into(),
        database: "postgres".into(),
        servers: 20,
        threads: 1,
        send: Some(SendMode::Auto),
    };
    let wrong = |what: &str| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("wrong or missing value: {what}"),
        )
    };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| wrong(&name))?;
        match name.as_str() {
            "--listen" => options
                .listen
                .set_port(value.parse().map_err(|_| wrong(&name))?),
            "--server" => options.server = value.parse().map_err(|_| wrong(&name))?,
            "--user" => options.user = value,
            "--database" => options.database = value,
            "--servers" => options.servers = value.parse().map_err(|_| wrong(&name))?,
            "--threads" => options.threads = value.parse().map_err(|_| wrong(&name))?,
            "--send" => {
                options.send = match value.as_str() {
                    "auto" => Some(SendMode::Auto),
                    "plain" => Some(SendMode::Plain),
                    "immediate" => None,
                    _ => return Err(wrong(&name)),
                }
            }
            _ => return Err(wrong(&name)),
        }
    }
    if options.threads == 0 || options.servers < options.threads {
        return Err(wrong("--threads"));
    }
    Ok(options)
}

/// One runtime with its own listener, pool and sessions; it runs until the process is killed.
fn run_thread(options: &Options, servers: usize) -> io::Result<()> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all();
    options
        .send
        .into_iter()
        .for_each(|mode| wire::install(&mut builder, mode));
    builder.build()?.block_on(async {
        for _ in 0..servers {
            let server = open_server(options).await?;
            POOL.with_borrow_mut(|pool| pool.idle.push(server));
        }
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseport(true)?;
        socket.set_reuseaddr(true)?;
        socket.bind(options.listen)?;
        let listener = socket.listen(1024)?;
        eprintln!(
            "listening on {}, sending: {:?}",
            options.listen,
            wire::send_way()
        );
        loop {
            let (stream, _) = listener.accept().await?;
            let client = Wire::tcp(stream)?;
            tokio::spawn(async move {
                if let Err(error) = serve(client).await {
                    eprintln!("client lost: {error}");
                }
            });
        }
    })
}

/// Idle server connections of this thread, and who waits for one, longest first.
#[derive(Default)]
struct Pool {
    idle: Vec<Wire>,
    waiting: VecDeque<oneshot::Sender<Wire>>,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

async fn lease() -> io::Result<Wire> {
    let waits = POOL.with_borrow_mut(|pool| match pool.idle.pop() {
        Some(server) => Ok(server),
        None => {
            let (give, wait) = oneshot::channel();
            pool.waiting.push_back(give);
            Err(wait)
        }
    });
    match waits {
        Ok(server) => Ok(server),
        Err(wait) => wait.await.map_err(|_| io::ErrorKind::NotConnected.into()),
    }
}

fn give_back(mut server: Wire) {
    POOL.with_borrow_mut(|pool| {
        while let Some(next) = pool.waiting.pop_front() {
            match next.send(server) {
                Ok(()) => return,
                Err(refused) => server = refused,
            }
        }
        pool.idle.push(server);
    });
}

/// Logs in to the server, which must trust us.
async fn open_server(options: &Options) -> io::Result<Wire> {
    let mut server = Wire::tcp(TcpStream::connect(options.server).await?)?;
    let mut startup = vec![0, 3, 0, 0];
    for text in ["user", &options.user, "database", &options.database] {
        startup.extend_from_slice(text.as_bytes());
        startup.push(0);
    }
    startup.push(0);
    let len = u32::try_from(startup.len() + 4).map_err(io::Error::other)?;
    server.send(&len.to_be_bytes());
    server.send(&startup);
    let mut replies = Messages::default();
    loop {
        if server.fill().await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut ready = false;
        let mut refused = false;
        let n = replies.scan(server.input(), |tag, _| {
            ready |= tag == b'Z';
            refused |= tag == b'E';
        })?;
        if refused {
            return Err(io::Error::other(
                String::from_utf8_lossy(server.input()).into_owned(),
            ));
        }
        server.consume(n);
        if ready {
            return Ok(server);
        }
    }
}

/// One client, from its startup message to its end.
async fn serve(mut client: Wire) -> io::Result<()> {
    if !greet(&mut client).await? {
        return Ok(());
    }
    let mut requests = Messages::default();
    loop {
        while client.input().is_empty() {
            if client.fill().await? == 0 {
                return Ok(());
            }
        }
        if client.input()[0] == b'X' {
            return Ok(());
        }
        let mut server = lease().await?;
        let mut transaction = Transaction {
            requests,
            replies: Messages::default(),
            owed: 0,
            idle: false,
        };
        // If this fails the server is dropped with it: nobody knows what it still has to say.
        std::future::poll_fn(|cx| transaction.poll(cx, &mut client, &mut server)).await?;
        requests = transaction.requests;
        give_back(server);
    }
}

/// Lets the client in. Encryption is declined, a cancel request is ignored (`false`).
async fn greet(client: &mut Wire) -> io::Result<bool> {
    loop {
        let input = client.input();
        let len = input
            .first_chunk()
            .map_or(8, |len| u32::from_be_bytes(*len) as usize);
        if !(8..10_000).contains(&len) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if input.len() < len {
            if client.fill().await? == 0 {
                return Ok(false);
            }
            continue;
        }
        let code = [input[4], input[5], input[6], input[7]];
        client.consume(len);
        match u32::from_be_bytes(code) {
            80_877_103 | 80_877_104 => client.send(b"N"),
            80_877_102 => return Ok(false),
            _ => break,
        }
    }
    client.with_output(|buf| {
        buf.extend_from_slice(b"R\0\0\0\x08\0\0\0\0");
        let parameters = [
            ("server_version", "15.0"),
            ("client_encoding", "UTF8"),
            ("server_encoding", "UTF8"),
            ("standard_conforming_strings", "on"),
            ("integer_datetimes", "on"),
            ("DateStyle", "ISO, MDY"),
        ];
        for (name, value) in parameters {
            buf.push(b'S');
            buf.extend_from_slice(&(name.len() as u32 + value.len() as u32 + 6).to_be_bytes());
            buf.extend_from_slice(name.as_bytes());
            buf.push(0);
            buf.extend_from_slice(value.as_bytes());
            buf.push(0);
        }
        buf.extend_from_slice(b"K\0\0\0\x0c\0\0\0\x01\0\0\0\x01Z\0\0\0\x05I");
    });
    Ok(true)
}

/// A client's hold on a server.
struct Transaction {
    requests: Messages,
    replies: Messages,
    /// `ReadyForQuery`s that the server still has to send.
    owed: usize,
    /// Whether the last `ReadyForQuery` said that no transaction is open, and nothing was sent since.
    idle: bool,
}

impl Transaction {
    /// Moves bytes both ways until the transaction has ended.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Wire,
        server: &mut Wire,
    ) -> Poll<io::Result<()>> {
        loop {
            self.forward_requests(client, server)?;
            self.forward_replies(client, server)?;
            if self.has_ended() {
                return Poll::Ready(Ok(()));
            }
            let from_server = poll_side(cx, server, client)?;
            let from_client = poll_side(cx, client, server)?;
            if from_server.is_pending() && from_client.is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.owed == 0 && self.idle && self.requests.is_between() && self.replies.is_between()
    }

    fn forward_requests(&mut self, client: &mut Wire, server: &mut Wire) -> io::Result<()> {
        if client.input().is_empty() {
            return Ok(());
        }
        let mut ended = false;
        let n = self.requests.scan(client.input(), |tag, _| {
            self.owed += usize::from(matches!(tag, b'Q' | b'S' | b'F'));
            self.idle = false;
            ended |= tag == b'X';
        })?;
        if ended {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        server.send(&client.input()[..n]);
        client.consume(n);
        Ok(())
    }

    fn forward_replies(&mut self, client: &mut Wire, server: &mut Wire) -> io::Result<()> {
        if server.input().is_empty() {
            return Ok(());
        }
        let n = self.replies.scan(server.input(), |tag, first| {
            if tag == b'Z' {
                self.owed = self.owed.saturating_sub(1);
                self.idle = first == b'I';
            }
        })?;
        client.send(&server.input()[..n]);
        server.consume(n);
        Ok(())
    }
}

/// Reads from one side, if the other one takes what it is sent.
fn poll_side(cx: &mut Context<'_>, from: &mut Wire, to: &mut Wire) -> io::Result<Poll<()>> {
    if to.poll_drained(cx, UNSENT)?.is_pending() {
        return Ok(Poll::Pending);
    }
    match from.poll_fill(cx)? {
        Poll::Ready(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Poll::Ready(_) => Ok(Poll::Ready(())),
        Poll::Pending => Ok(Poll::Pending),
    }
}

/// Finds the messages in a stream that is passed on as it comes.
#[derive(Default)]
struct Messages {
    /// Bytes of the current message that are still to come.
    left: usize,
}

impl Messages {
    fn is_between(&self) -> bool {
        self.left == 0
    }

    /// Calls `message` with the type and the first byte of the body of each message that begins in `bytes`, and returns
    /// how many of the bytes may be passed on: all but an incomplete header.
    fn scan(&mut self, bytes: &[u8], mut message: impl FnMut(u8, u8)) -> io::Result<usize> {
        let mut at = self.left.min(bytes.len());
        self.left -= at;
        while let Some((header, body)) = bytes[at..].split_first_chunk::<5>() {
            let len = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
            let body_len = len.checked_sub(4).ok_or(io::ErrorKind::InvalidData)?;
            if body_len > 0 && body.is_empty() {
                break;
            }
            message(header[0], body.first().copied().unwrap_or(0));
            let here = body_len.min(body.len());
            self.left = body_len - here;
            at += 5 + here;
        }
        Ok(at)
    }
}
