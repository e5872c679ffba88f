//! What one connection still has to send, and how the kernel answered.
//!
//! An outbox lies in the batch of its thread, not in the connection, so that its bytes stay where they are until the
//! kernel has taken them, whatever the connection's owner does meanwhile.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::task::Waker;

use super::batch::Woken;
use super::buffer;
use super::pipe::Lane;
use super::tls::Tls;

/// One send never offers more, so that its length fits every interface of the kernel.
const LARGEST_SEND: usize = 1 << 30;

/// Whether more may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The next flush sends what there is.
    Open,
    /// The kernel refused some bytes. Only a task that polls the connection goes on, when the socket is writable.
    Refused,
    /// A send failed with this error number; whatever follows is thrown away, and readers and drainers are told.
    Broken(i32),
}

/// How the kernel answered a send that it did not take in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shortfall {
    /// It took only so many bytes, perhaps none.
    Took(usize),
    /// It failed with this error number.
    Failed(i32),
}

impl Shortfall {
    /// Reads an error number: a full socket is not a failure.
    pub(super) fn from_errno(errno: i32) -> Shortfall {
        match errno {
            libc::EAGAIN => Shortfall::Took(0),
            errno => Shortfall::Failed(errno),
        }
    }
}

/// Where bytes are sent.
pub(super) enum Sink {
    /// The open descriptor of the connection, which removes its outbox before it closes the descriptor.
    Kernel(RawFd),
    /// Another task of this process.
    Task(Arc<Lane>),
}

pub(super) struct Outbox {
    pub(super) sink: Sink,
    pub(super) stage: Stage,
    /// Whether the batch's list names this outbox: once, or one batch would send the same bytes twice.
    pub(super) queued: bool,
    /// Bytes to be sent; the first `sent` were taken.
    pending: Vec<u8>,
    sent: usize,
    /// The task that last waited on this connection while there were unsent bytes.
    pub(super) waker: Option<Waker>,
    pub(super) tls: Option<Box<Tls>>,
}

impl Outbox {
    pub(super) fn new(sink: Sink) -> Outbox {
        Outbox {
            sink,
            stage: Stage::Open,
            queued: false,
            pending: Vec::new(),
            sent: 0,
            waker: None,
            tls: None,
        }
    }

    /// The socket of one that has one.
    pub(super) fn fd(&self) -> RawFd {
        match self.sink {
            Sink::Kernel(fd) => fd,
            Sink::Task(_) => -1,
        }
    }

    /// Bytes that were not accepted, TLS overhead of what is not yet encrypted left aside.
    pub(super) fn unsent(&self) -> usize {
        self.pending.len().saturating_sub(self.sent)
            + self.tls.as_ref().map_or(0, |tls| tls.plain.len())
    }

    /// The buffer to which messages are appended: plain text, encrypted later if this connection uses TLS.
    pub(super) fn open_buffer(&mut self) -> &mut Vec<u8> {
        let buffer = self.buffer();
        if buffer.capacity() == 0 {
            *buffer = buffer::take_output();
        }
        buffer
    }

    /// Takes the open buffer out, for somebody who appends to it and brings it back by [`Outbox::put_buffer`].
    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(self.open_buffer())
    }

    /// The buffer of [`Outbox::take_buffer`], which nothing was appended to in the meantime.
    pub(super) fn put_buffer(&mut self, buffer: Vec<u8>) {
        let place = self.buffer();
        debug_assert_eq!(place.capacity(), 0, "the place is empty");
        *place = buffer;
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        match &mut self.tls {
            Some(tls) => &mut tls.plain,
            None => &mut self.pending,
        }
    }

    /// Encrypts what waits in plain text. A connection without TLS has nothing to do.
    pub(super) fn seal(&mut self) {
        let Some(tls) = &mut self.tls else { return };
        if !tls.has_output() {
            return;
        }
        if self.pending.capacity() == 0 {
            self.pending = buffer::take_output();
        }
        if let Err(error) = tls.seal(&mut self.pending) {
            tracing::debug!(%error, "tls encryption failed");
            self.fail(libc::EIO);
        }
    }

    /// What the next send offers to the kernel.
    pub(super) fn offer(&self) -> &[u8] {
        let rest = &self.pending[self.sent..];
        &rest[..rest.len().min(LARGEST_SEND)]
    }

    /// Offers the bytes once. The task to which they went, if it is one of this process, is to be woken.
    pub(super) fn send_once(&mut self, woken: &mut Woken) -> Stage {
        let sent = match &self.sink {
            Sink::Kernel(fd) => send_to_kernel(*fd, self.offer()),
            Sink::Task(lane) => lane
                .put(self.offer())
                .map(|(taken, reader)| {
                    woken.add(reader);
                    taken
                })
                .map_err(|_| Shortfall::Failed(libc::EPIPE)),
        };
        match sent {
            Ok(n) | Err(Shortfall::Took(n)) => self.took(n),
            Err(Shortfall::Failed(errno)) => self.fail(errno),
        }
        self.stage
    }

    /// The kernel took the whole offer.
    pub(super) fn accepted(&mut self) {
        self.took(self.offer().len());
    }

    /// The kernel took `n` bytes of the offer.
    pub(super) fn took(&mut self, n: usize) {
        self.sent += n;
        debug_assert!(self.sent <= self.pending.len());
        if self.sent == self.pending.len() {
            self.empty();
            self.stage = Stage::Open;
        } else {
            self.stage = Stage::Refused;
        }
    }

    /// Nothing more will leave: the first error is kept, the bytes are thrown away.
    pub(super) fn fail(&mut self, errno: i32) {
        if !matches!(self.stage, Stage::Broken(_)) {
            self.stage = Stage::Broken(errno);
        }
        if let Some(tls) = &mut self.tls {
            tls.plain = Vec::new();
        }
        self.empty();
    }

    pub(super) fn error(&self) -> Option<io::Error> {
        match self.stage {
            Stage::Broken(errno) => Some(io::Error::from_raw_os_error(errno)),
            Stage::Open | Stage::Refused => None,
        }
    }

    fn empty(&mut self) {
        self.sent = 0;
        let buffer = std::mem::take(&mut self.pending);
        if buffer.capacity() > 0 {
            buffer::give_output(buffer);
        }
    }
}

/// Offers bytes to the kernel once, by an ordinary `send` that never waits and raises no signal.
pub(super) fn send_to_kernel(fd: RawFd, offer: &[u8]) -> Result<usize, Shortfall> {
    loop {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: `offer` is a live slice for the whole call, and `send` only reads it. A wrong descriptor would be an
        // error of ours (see `Sink`), not undefined behaviour.
        let sent = unsafe { libc::send(fd, offer.as_ptr().cast(), offer.len(), flags) };
        if let Ok(sent) = usize::try_from(sent) {
            return Ok(sent);
        }
        match io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO)
        {
            libc::EINTR => continue,
            errno => return Err(Shortfall::from_errno(errno)),
        }
    }
}
