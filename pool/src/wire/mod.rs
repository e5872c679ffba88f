//! One connection with its buffers: bytes in, bytes out, plain or under TLS.
//!
//! A [`Wire`] knows no protocol. It reads what is there, keeps it until it is consumed, and collects what is to be sent
//! until the batch of its thread is flushed (see [`batch`]). An idle wire owns a descriptor and a few words.
//!
//! A wire belongs to the thread on which it was made: it may move between the tasks of that thread, and it is `Send` so
//! that pools accept it, but using it on another thread panics, because the output of its thread's batch is reached by
//! an index. Dropped on another thread it closes without sending.

mod breaker;
mod buffer;
mod pipe;
mod socket;

pub mod batch;
mod outbox;
mod ring;
mod tls;

#[cfg(test)]
mod pipe_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

pub use batch::{SendMode, SendStats, SendWay, flush_now, install, send_stats, send_way};
pub use breaker::Breaker;
pub use pipe::{Pipe, Watch, pipe};
pub use socket::{Address, Keepalive};
pub use tls::{Nameless, TlsInfo, common_name, server_end_point};

use batch::Woken;
use buffer::Input;
use outbox::{Outbox, Stage};
use socket::Socket;
use tls::{Received, Tls};

/// [`Wire::finish`] throws away at most this much of what the peer still sends, in bytes.
const DISCARDED_AT_END: usize = 1024 * 1024;

/// A connected socket, or an end of a stream within this process, with its buffers. The module says on which thread it
/// may be used.
pub struct Wire {
    socket: Socket,
    input: Input,
    /// Index of the outbox in the batch of `thread`.
    conn: usize,
    thread: u32,
    /// Whether the outbox may hold the waker of a task that waited on this wire.
    waits: bool,
    /// Set once, when the handshake is complete. Boxed, because most connections of a sidecar have none.
    tls: Option<Box<TlsInfo>>,
    /// Whether bytes pass through the outbox's TLS state.
    encrypted: bool,
    /// Output that waits until it is known whether it is to be sent at all.
    #[allow(clippy::box_collection)] // One word of every connection; hardly any ever holds.
    held: Option<Box<Vec<u8>>>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tls = self.tls.as_ref().map(|info| info.version);
        f.debug_struct("Wire")
            .field("fd", &self.fd())
            .field("tls", &tls)
            .finish_non_exhaustive()
    }
}

/// Making one, and what it is connected to.
impl Wire {
    /// Takes over a TCP connection and turns Nagle's algorithm off.
    pub fn tcp(stream: TcpStream) -> io::Result<Wire> {
        stream.set_nodelay(true)?;
        Ok(Wire::new(Socket::Tcp(stream)))
    }

    /// Takes over a unix connection.
    pub fn unix(stream: UnixStream) -> Wire {
        Wire::new(Socket::Unix(stream))
    }

    /// Takes over an end of a stream within this process.
    pub fn pipe(end: Pipe) -> Wire {
        Wire::new(Socket::Pipe(end))
    }

    fn new(socket: Socket) -> Wire {
        let outbox = Outbox::new(socket.sink());
        let (conn, thread) =
            batch::with(|batch| (batch.open(outbox), batch.thread())).expect("the thread is alive");
        Wire {
            socket,
            input: Input::default(),
            conn,
            thread,
            waits: false,
            tls: None,
            encrypted: false,
            held: None,
        }
    }

    /// The other end.
    pub fn peer(&self) -> io::Result<Address> {
        self.socket.peer()
    }

    /// This end.
    pub fn local(&self) -> io::Result<Address> {
        self.socket.local()
    }

    /// The operating system's user at the other end of a unix socket (`peer` authentication).
    pub fn peer_uid(&self) -> Option<u32> {
        self.socket.peer_uid()
    }

    /// What ends the connection though somebody else has this wire.
    pub fn breaker(&self) -> Breaker {
        self.socket.breaker()
    }

    /// The descriptor, to be shown and not to be used.
    pub fn fd(&self) -> RawFd {
        self.socket.fd()
    }

    /// What TLS negotiated; `None` in plain text and until the handshake is complete.
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.tls.as_deref()
    }

    /// Fails the connection when sent bytes stay unacknowledged for so long (`TCP_USER_TIMEOUT`). Unix sockets have none.
    pub fn set_user_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.socket.set_user_timeout(timeout)
    }

    /// Turns TCP keepalive on. Unix sockets have none.
    pub fn set_keepalive(&self, keepalive: Keepalive) -> io::Result<()> {
        self.socket.set_keepalive(keepalive)
    }
}

/// Receiving.
impl Wire {
    /// Received bytes that were not consumed yet.
    pub fn input(&self) -> &[u8] {
        self.input.bytes()
    }

    /// Forgets the first `n` bytes of the input. The buffer goes back to the thread when nothing is left.
    pub fn consume(&mut self, n: usize) {
        self.input.consume(n);
    }

    /// Keeps the input in a buffer of about its own size, before a long wait for the rest of a short message.
    pub fn fit_input(&mut self) {
        self.input.fit();
    }

    /// Puts bytes that were consumed back at the beginning of the input.
    pub fn put_back(&mut self, bytes: &[u8]) {
        self.input.put_back(bytes);
    }

    /// Reads what is there and appends it to the input. `Ok(0)` is the end: nothing will ever follow.
    ///
    /// A failed send is reported here, as an error, when nothing is left to read; the peer's last words come first.
    /// While this waits it also sends what the kernel had refused. Cancel safe: bytes that were read are in the input.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let received = if self.encrypted {
            self.poll_text(cx)
        } else {
            self.poll_plain(cx)
        };
        match received {
            Poll::Ready(result) => {
                self.forget_waker();
                Poll::Ready(result)
            }
            Poll::Pending => match self.poll_output(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(self.last_words().unwrap_or(Err(error))),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            },
        }
    }

    /// What the peer said before sending to it failed. The runtime may not have seen that it came; a server explains
    /// in it why it closed the connection.
    fn last_words(&mut self) -> Option<io::Result<usize>> {
        loop {
            let mut bytes = buffer::take_input();
            let read = self.socket.read_now(&mut bytes);
            let result = match read {
                Ok(n) if self.encrypted => self.decrypt(&bytes[..n]),
                Ok(n) => {
                    self.input.append(&bytes[..n]);
                    Ok(Received {
                        text: n,
                        closed: n == 0,
                    })
                }
                Err(error) => Err(error),
            };
            buffer::give_input(bytes);
            match result {
                Ok(Received {
                    text: 0,
                    closed: false,
                }) => {}
                Ok(Received { text, .. }) => return Some(Ok(text)),
                // Nothing came, or a reset, which says less than the failed send.
                Err(_) => return None,
            }
        }
    }

    /// See [`Wire::poll_fill`].
    pub async fn fill(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    fn poll_plain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Most polls find nothing, and a buffer is taken only for something.
        ready!(self.socket.poll_read_ready(cx))?;
        let read = self.socket.poll_read(cx, self.input.room());
        self.input.filled(match read {
            Poll::Ready(Ok(n)) => n,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        });
        read
    }

    /// Reads records until one of them has brought text.
    fn poll_text(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            let received = ready!(self.poll_records(cx))?;
            if received.text > 0 || received.closed {
                return Poll::Ready(Ok(received.text));
            }
        }
    }

    fn poll_records(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Received>> {
        let mut records = buffer::take_input();
        let read = self.socket.poll_read(cx, &mut records);
        let received = match read {
            Poll::Ready(Ok(n)) => Poll::Ready(self.decrypt(&records[..n])),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        buffer::give_input(records);
        received
    }

    /// Decrypts records into the input, and queues what TLS itself answers: a handshake, a KeyUpdate, an alert.
    fn decrypt(&mut self, records: &[u8]) -> io::Result<Received> {
        let (conn, input) = (self.conn, &mut self.input);
        let (result, woken) = batch_of(self.thread, |batch| {
            let outbox = batch.outbox(conn);
            let tls = outbox
                .tls
                .as_mut()
                .expect("an encrypted wire has a TLS state");
            let result = tls.receive(records, input);
            let before = outbox.unsent();
            outbox.seal();
            let added = outbox.unsent().saturating_sub(before);
            let woken = if outbox.unsent() > 0 {
                batch.queue(conn, added)
            } else {
                Default::default()
            };
            (result, woken)
        });
        woken.wake();
        result
    }

    /// Whether bytes, the end of the connection or an error wait to be read or were read already.
    ///
    /// For idle server connections, which should be silent. It asks the kernel only when the runtime has seen an event
    /// on the socket since the last read, so it does not see what came after the runtime last looked.
    pub fn has_news(&mut self) -> bool {
        if !self.input.is_empty() || self.send_error().is_some() {
            return true;
        }
        if !self.encrypted {
            return self.socket.has_news();
        }
        // Records may carry no text (a session ticket, a KeyUpdate), so they have to be read to know.
        let mut records = buffer::take_input();
        let news = loop {
            let received = match self.socket.try_read(&mut records) {
                Ok(n) => self.decrypt(&records[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(_) => break true,
            };
            if !matches!(
                received,
                Ok(Received {
                    text: 0,
                    closed: false
                })
            ) {
                break true;
            }
        };
        buffer::give_input(records);
        news
    }
}

/// Sending.
impl Wire {
    /// Appends bytes to what leaves with the next flush of this thread's batch.
    ///
    /// It never waits and never fails: a failure shows in [`Wire::poll_fill`], [`Wire::poll_drained`] and
    /// [`Wire::send_error`]. There is no limit; the caller watches [`Wire::unsent`]. What the kernel refuses goes on only
    /// while somebody polls this wire, for reading or for draining.
    pub fn send(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Some(held) = &mut self.held {
            held.extend_from_slice(bytes);
            return;
        }
        let conn = self.conn;
        let woken = batch_of(self.thread, |batch| {
            batch.outbox(conn).open_buffer().extend_from_slice(bytes);
            batch.queue(conn, bytes.len())
        });
        woken.wake();
    }

    /// Lets `encode` append messages to the output buffer in place. It must only append: what lies before belongs to
    /// earlier messages.
    pub fn with_output<R>(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        if let Some(held) = &mut self.held {
            return encode(held);
        }
        let conn = self.conn;
        // The buffer is taken out, because `encode` may use other wires. Should it panic, the stage stays broken and
        // nothing is sent that might be half a message.
        let (mut buffer, stage) = batch_of(self.thread, |batch| {
            let outbox = batch.outbox(conn);
            let buffer = outbox.take_buffer();
            (
                buffer,
                std::mem::replace(&mut outbox.stage, Stage::Broken(libc::ECANCELED)),
            )
        });
        let before = buffer.len();
        let result = encode(&mut buffer);
        debug_assert!(before <= buffer.len(), "earlier messages must stay");
        let woken = batch_of(self.thread, |batch| {
            let added = buffer.len().saturating_sub(before);
            let outbox = batch.outbox(conn);
            outbox.stage = stage;
            outbox.put_buffer(buffer);
            batch.queue(conn, added)
        });
        woken.wake();
        result
    }

    /// From now on output is held, until [`Wire::release`] lets it go or [`Wire::discard`] forgets it.
    pub fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    /// So many bytes are held; `None` if output is not.
    pub fn held(&self) -> Option<usize> {
        self.held.as_ref().map(|held| held.len())
    }

    /// What is held; `None` if output is not.
    pub fn held_bytes(&self) -> Option<&[u8]> {
        self.held.as_ref().map(|held| held.as_slice())
    }

    /// Output is held no longer, and what was goes to the batch.
    pub fn release(&mut self) {
        if let Some(held) = self.held.take() {
            self.send(&held);
        }
    }

    /// Output is held no longer, and what was is forgotten.
    pub fn discard(&mut self) {
        self.held = None;
    }

    /// Bytes that were queued and not yet accepted by the kernel.
    pub fn unsent(&self) -> usize {
        batch_of(self.thread, |batch| batch.outbox(self.conn).unsent())
    }

    /// Why sending has failed, if it has. Everything queued since was thrown away.
    pub fn send_error(&self) -> Option<io::Error> {
        batch_of(self.thread, |batch| batch.outbox(self.conn).error())
    }

    /// Ready when at most `below` bytes are unsent, and an error when sending has failed. Cancel safe.
    ///
    /// The back-pressure of a fast sender. It sends at once what is only queued, and registers for writability only
    /// when the kernel has refused bytes. Reads nothing: whoever waits here must also read where the peer may itself
    /// wait for being read (`poll_fill` also drives the output).
    pub fn poll_drained(&mut self, cx: &mut Context<'_>, below: usize) -> Poll<io::Result<()>> {
        if let Some(error) = self.send_error() {
            return Poll::Ready(Err(error));
        }
        if self.unsent() <= below {
            return Poll::Ready(Ok(()));
        }
        flush_now();
        let driven = self.poll_output(cx);
        if let Poll::Ready(Err(error)) = driven {
            return Poll::Ready(Err(error));
        }
        if self.unsent() <= below {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// See [`Wire::poll_drained`].
    pub async fn drained(&mut self, below: usize) -> io::Result<()> {
        poll_fn(|cx| self.poll_drained(cx, below)).await
    }

    /// Sends the rest, says that nothing follows, and waits until the peer has closed too, so that the last message is
    /// not lost by a reset because the peer was still sending. The caller limits the time.
    pub async fn finish(mut self) -> io::Result<()> {
        self.drained(0).await?;
        if self.encrypted {
            batch_of(self.thread, |batch| {
                let outbox = batch.outbox(self.conn);
                outbox.tls.iter_mut().for_each(|tls| tls.close());
                batch.queue(self.conn, 0)
            })
            .wake();
            flush_now();
            self.drained(0).await?;
        }
        self.socket.shutdown(Shutdown::Write)?;
        let mut discarded = 0;
        while discarded < DISCARDED_AT_END {
            match self.fill().await? {
                0 => break,
                n => discarded += n,
            }
            self.consume(self.input().len());
        }
        Ok(())
    }

    /// Goes on with what the kernel has refused, or notes the task while output is queued, so that a refusal wakes it.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let (stage, old) = batch_of(self.thread, |batch| {
                let outbox = batch.outbox(self.conn);
                let waits = outbox.stage != Stage::Open || outbox.queued || outbox.unsent() > 0;
                let known = outbox
                    .waker
                    .as_ref()
                    .is_some_and(|waker| waker.will_wake(cx.waker()));
                self.waits = waits;
                match (waits, known) {
                    (true, true) => (outbox.stage, None),
                    (true, false) => (outbox.stage, outbox.waker.replace(cx.waker().clone())),
                    (false, _) => (outbox.stage, outbox.waker.take()),
                }
            });
            drop(old);
            match stage {
                Stage::Open => return Poll::Ready(Ok(())),
                Stage::Broken(errno) => {
                    return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
                }
                Stage::Refused => {}
            }
            ready!(self.socket.poll_write_ready(cx))?;
            self.send_refused();
        }
    }

    /// Tries again to send. If that is refused too, the runtime's idea that the socket is writable is corrected, and
    /// only then: an event between the first refusal and now must not be forgotten.
    fn send_refused(&mut self) {
        let (conn, socket) = (self.conn, &self.socket);
        let woken = batch_of(self.thread, |batch| {
            let outbox = batch.outbox(conn);
            outbox.seal();
            let (before, mut woken) = (outbox.unsent(), Woken::default());
            // An error says only that the socket is not writable after all.
            let _ = socket.try_io(Interest::WRITABLE, || match outbox.send_once(&mut woken) {
                Stage::Refused if outbox.unsent() == before => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                _ => Ok(()),
            });
            woken
        });
        woken.wake();
    }

    /// A finished wait must not keep its task alive while the wire lies in a pool.
    fn forget_waker(&mut self) {
        if std::mem::take(&mut self.waits) {
            drop(batch_of(self.thread, |batch| {
                batch.outbox(self.conn).waker.take()
            }));
        }
    }
}

/// TLS. A wire whose handshake failed or was cancelled is good for nothing but being dropped.
impl Wire {
    /// Answers a client's handshake, after the `S` that answers its SSLRequest was queued.
    ///
    /// Refuses if anything has been received already: it would be taken for a part of the encrypted conversation
    /// (CVE-2021-23214).
    pub async fn accept_tls(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        self.refuse_plain_text()?;
        self.handshake(Tls::server(config)?, Vec::new()).await
    }

    /// Answers a client that begins with TLS (`sslnegotiation=direct`): the input is the start of its handshake.
    ///
    /// The caller looks at the first byte (0x16) before, and demands the `postgresql` protocol ([`TlsInfo::alpn`])
    /// afterwards.
    pub async fn accept_direct_tls(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        let start = self.input().to_vec();
        self.consume(start.len());
        self.handshake(Tls::server(config)?, start).await
    }

    /// Begins TLS with a server, after its `S` was consumed.
    ///
    /// Refuses if anything follows the `S` in plain text (CVE-2021-23222).
    pub async fn connect_tls(
        &mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<()> {
        self.refuse_plain_text()?;
        self.handshake(Tls::client(config, name)?, Vec::new()).await
    }

    fn refuse_plain_text(&self) -> io::Result<()> {
        if self.encrypted {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the connection is encrypted already",
            ));
        }
        if !self.input.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "received plain text before the TLS handshake",
            ));
        }
        Ok(())
    }

    async fn handshake(&mut self, tls: Tls, start: Vec<u8>) -> io::Result<()> {
        batch_of(self.thread, |batch| {
            batch.outbox(self.conn).tls = Some(Box::new(tls))
        });
        self.encrypted = true;
        // Also sends a client's first message.
        self.decrypt_start(&start)?;
        while batch_of(self.thread, |batch| {
            batch
                .outbox(self.conn)
                .tls
                .as_ref()
                .is_some_and(|tls| tls.is_handshaking())
        }) {
            let received = poll_fn(|cx| match self.poll_records(cx) {
                Poll::Ready(received) => Poll::Ready(received),
                Poll::Pending => match self.poll_output(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                },
            });
            if received.await?.closed {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.forget_waker();
        let info = batch_of(self.thread, |batch| {
            batch.outbox(self.conn).tls.as_ref().map(|tls| tls.info())
        });
        self.tls = info.map(Box::new);
        Ok(())
    }

    /// No bytes are no end of the connection here.
    fn decrypt_start(&mut self, start: &[u8]) -> io::Result<()> {
        if !start.is_empty() {
            return self.decrypt(start).map(|_| ());
        }
        let conn = self.conn;
        batch_of(self.thread, |batch| batch.queue(conn, 0)).wake();
        Ok(())
    }
}

impl Drop for Wire {
    /// Sends what is queued, then closes.
    fn drop(&mut self) {
        let outbox = batch::with(|batch| {
            let mut woken = Woken::default();
            let is_ours = batch.thread() == self.thread;
            is_ours.then(|| (batch.before_close(self.conn, &mut woken), woken))
        });
        match outbox {
            // Dropped here, when the batch is no longer borrowed.
            Some(Some((outbox, woken))) => {
                drop(outbox);
                woken.wake();
            }
            // The thread ends, and nobody will flush its batch.
            None => {}
            // Another thread's batch still names the descriptor. It must never be reused, so it stays, shut down.
            Some(None) => {
                let socket = std::mem::replace(&mut self.socket, Socket::Gone);
                let _ = socket.shutdown(Shutdown::Both);
                std::mem::forget(socket);
                tracing::error!("a connection was dropped on another thread than its own");
            }
        }
    }
}

/// Borrows the batch of the calling thread, which must be `thread`: an index means another connection elsewhere.
fn batch_of<R>(thread: u32, f: impl FnOnce(&mut batch::Batch) -> R) -> R {
    let result = batch::with(|batch| {
        assert_eq!(
            batch.thread(),
            thread,
            "a wire is used only on the thread on which it was made"
        );
        f(batch)
    });
    result.expect("the thread is alive")
}
