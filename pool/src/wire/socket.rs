//! The kinds of streams behind one small face. Nothing here has a buffer or decides anything.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::breaker::Breaker;
use super::outbox::Sink;
use super::pipe::Pipe;

pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Pipe(Pipe),
    /// Given away while it is being dropped; every operation fails.
    Gone,
}

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP socket.
    Tcp(SocketAddr),
    /// A unix socket; the connecting end has no path, and so has a stream within this process.
    Unix(Option<PathBuf>),
}

/// When the kernel looks whether a silent peer is still there (`man 7 tcp`); `None` leaves the system's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keepalive {
    /// Silence before the first probe (`TCP_KEEPIDLE`).
    pub idle: Option<Duration>,
    /// Time between probes (`TCP_KEEPINTVL`).
    pub interval: Option<Duration>,
    /// Probes without an answer before the connection is dead (`TCP_KEEPCNT`).
    pub count: Option<u32>,
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl Socket {
    pub(super) fn fd(&self) -> RawFd {
        match self {
            Socket::Tcp(stream) => stream.as_raw_fd(),
            Socket::Unix(stream) => stream.as_raw_fd(),
            Socket::Pipe(_) | Socket::Gone => -1,
        }
    }

    /// Where its bytes are sent.
    pub(super) fn sink(&self) -> Sink {
        match self {
            Socket::Pipe(pipe) => Sink::Task(Arc::clone(pipe.outgoing())),
            _ => Sink::Kernel(self.fd()),
        }
    }

    /// What ends it from outside.
    pub(super) fn breaker(&self) -> Breaker {
        match self {
            Socket::Pipe(pipe) => Breaker::pipe(pipe),
            _ => Breaker::socket(self.fd()),
        }
    }

    /// Ready when a read may find something. Where nothing came it needs no room to say so.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(stream) => stream.poll_read_ready(cx),
            Socket::Unix(stream) => stream.poll_read_ready(cx),
            Socket::Pipe(pipe) => pipe.incoming().poll_readable(cx).map(Ok),
            Socket::Gone => Poll::Ready(Err(gone())),
        }
    }

    /// Reads once. `poll_read` of tokio waits for more after a short read without asking the kernel again.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(room);
        match self {
            Socket::Tcp(stream) => ready!(Pin::new(stream).poll_read(cx, &mut buf))?,
            Socket::Unix(stream) => ready!(Pin::new(stream).poll_read(cx, &mut buf))?,
            Socket::Pipe(pipe) => return pipe.incoming().poll_take(cx, room).map(Ok),
            Socket::Gone => return Poll::Ready(Err(gone())),
        }
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Reads what is there without waiting, so without replacing the waker of a task that waits.
    pub(super) fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_read(room),
            Socket::Unix(stream) => stream.try_read(room),
            Socket::Pipe(pipe) => take(pipe, room),
            Socket::Gone => Err(gone()),
        }
    }

    /// Reads what is there, whatever the runtime believes about it.
    pub(super) fn read_now(&self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Pipe(pipe) => take(pipe, room),
            _ => io::Read::read(&mut &*self.reference()?, room),
        }
    }

    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(stream) => stream.poll_write_ready(cx),
            Socket::Unix(stream) => stream.poll_write_ready(cx),
            Socket::Pipe(pipe) => pipe.outgoing().poll_writable(cx).map(Ok),
            Socket::Gone => Poll::Ready(Err(gone())),
        }
    }

    /// Runs `io` if the socket is known to be ready, and notes from its `WouldBlock` that it is not.
    pub(super) fn try_io<R>(
        &self,
        interest: Interest,
        io: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        match self {
            Socket::Tcp(stream) => stream.try_io(interest, io),
            Socket::Unix(stream) => stream.try_io(interest, io),
            Socket::Pipe(_) => io(),
            Socket::Gone => Err(gone()),
        }
    }

    /// Whether bytes, the end or an error wait. Asks the kernel only if there was news since the last read.
    pub(super) fn has_news(&self) -> bool {
        if let Socket::Pipe(pipe) = self {
            return pipe.incoming().has_news();
        }
        // Readiness may be stale: a read that exactly filled its room leaves it set. So look before saying yes.
        let peek = || {
            let mut byte = [std::mem::MaybeUninit::<u8>::uninit()];
            let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
            self.reference()?
                .recv_with_flags(&mut byte, flags)
                .map(|_| ())
        };
        match self.try_io(Interest::READABLE, peek) {
            Ok(()) => true,
            Err(e) => e.kind() != io::ErrorKind::WouldBlock,
        }
    }

    pub(super) fn peer(&self) -> io::Result<Address> {
        match self {
            Socket::Tcp(stream) => stream.peer_addr().map(Address::Tcp),
            Socket::Unix(stream) => stream.peer_addr().map(unix_address),
            Socket::Pipe(_) => Ok(Address::Unix(None)),
            Socket::Gone => Err(gone()),
        }
    }

    pub(super) fn local(&self) -> io::Result<Address> {
        match self {
            Socket::Tcp(stream) => stream.local_addr().map(Address::Tcp),
            Socket::Unix(stream) => stream.local_addr().map(unix_address),
            Socket::Pipe(_) => Ok(Address::Unix(None)),
            Socket::Gone => Err(gone()),
        }
    }

    pub(super) fn peer_uid(&self) -> Option<u32> {
        match self {
            Socket::Unix(stream) => stream.peer_cred().ok().map(|cred| cred.uid()),
            Socket::Tcp(_) | Socket::Pipe(_) | Socket::Gone => None,
        }
    }

    pub(super) fn shutdown(&self, how: std::net::Shutdown) -> io::Result<()> {
        match self {
            Socket::Pipe(pipe) => {
                pipe.shutdown(how);
                Ok(())
            }
            _ => self.reference()?.shutdown(how),
        }
    }

    /// Unacknowledged bytes make the connection fail after this time (`TCP_USER_TIMEOUT`); nothing for unix sockets.
    pub(super) fn set_user_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Socket::Tcp(_) => self.reference()?.set_tcp_user_timeout(Some(timeout)),
            _ => Ok(()),
        }
    }

    pub(super) fn set_keepalive(&self, keepalive: Keepalive) -> io::Result<()> {
        let mut wanted = TcpKeepalive::new();
        if let Some(idle) = keepalive.idle {
            wanted = wanted.with_time(idle);
        }
        if let Some(interval) = keepalive.interval {
            wanted = wanted.with_interval(interval);
        }
        if let Some(count) = keepalive.count {
            wanted = wanted.with_retries(count);
        }
        match self {
            Socket::Tcp(_) => self.reference()?.set_tcp_keepalive(&wanted),
            _ => Ok(()),
        }
    }

    fn reference(&self) -> io::Result<SockRef<'_>> {
        match self {
            Socket::Tcp(stream) => Ok(SockRef::from(stream)),
            Socket::Unix(stream) => Ok(SockRef::from(stream)),
            Socket::Pipe(_) | Socket::Gone => Err(gone()),
        }
    }
}

fn take(pipe: &Pipe, room: &mut [u8]) -> io::Result<usize> {
    pipe.incoming()
        .take(room)
        .ok_or_else(|| io::ErrorKind::WouldBlock.into())
}

fn unix_address(address: tokio::net::unix::SocketAddr) -> Address {
    Address::Unix(address.as_pathname().map(|path| path.to_path_buf()))
}
