//! A stream between two tasks of this process, for servers that a task of ours speaks for.
//!
//! It does what a pair of sockets does, without the kernel: bytes keep their order, a writer waits for a reader that is
//! slow, and whoever leaves is missed by the other. One end may be a [`Wire`](super::Wire), which then sends with its
//! thread's batch like any other; the other end is read and written by the task itself.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What lies in one direction at most, in bytes; about what a unix socket holds.
const ROOM: usize = 128 * 1024;
/// A buffer above this size is freed when it is empty, because an idle stream keeps it.
const KEPT: usize = 4 * 1024;

/// One end of a stream. Dropped, it is closed in both directions; what was written before is still read.
#[derive(Debug)]
pub struct Pipe {
    incoming: Arc<Lane>,
    outgoing: Arc<Lane>,
}

/// Tells when the other end of a stream was closed, also while nobody reads what it said.
#[derive(Debug)]
pub struct Watch(Arc<Lane>);

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Lane(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// So many of the bytes were taken.
    start: usize,
    /// Nothing more is written: one of the two has closed it.
    has_ended: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    watcher: Option<Waker>,
}

/// The two ends of a new stream.
pub fn pipe() -> (Pipe, Pipe) {
    let (there, back) = (Arc::<Lane>::default(), Arc::<Lane>::default());
    let far = Pipe {
        incoming: Arc::clone(&there),
        outgoing: Arc::clone(&back),
    };
    let near = Pipe {
        incoming: back,
        outgoing: there,
    };
    (near, far)
}

impl Pipe {
    /// Watches the other end.
    pub fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.incoming))
    }

    pub(super) fn incoming(&self) -> &Arc<Lane> {
        &self.incoming
    }

    pub(super) fn outgoing(&self) -> &Arc<Lane> {
        &self.outgoing
    }

    /// Closes it as `shutdown` of a socket does: what was written before can still be read.
    pub(super) fn shutdown(&self, how: Shutdown) {
        if how != Shutdown::Read {
            self.outgoing.end();
        }
        if how != Shutdown::Write {
            self.incoming.end();
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.shutdown(Shutdown::Both);
        self.incoming.forget();
    }
}

impl Watch {
    /// Waits for the end. Cancel safe; the last of those who wait is told.
    pub async fn ended(&self) {
        std::future::poll_fn(|cx| {
            let state = self.0.state();
            match state.has_ended {
                true => Poll::Ready(()),
                false => wait(state, |state| &mut state.watcher, cx),
            }
        })
        .await;
    }
}

impl Lane {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two of its changes that belong together.
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Takes as many of the bytes as there is room for, and returns their count with the reader, who is to be woken; an
    /// error if the direction is closed.
    pub(super) fn put(&self, bytes: &[u8]) -> io::Result<(usize, Option<Waker>)> {
        let mut state = self.state();
        if state.has_ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = ROOM.saturating_sub(state.held());
        let taken = &bytes[..bytes.len().min(room)];
        if taken.is_empty() {
            return Ok((0, None));
        }
        if state.start > 0 && state.bytes.capacity() - state.bytes.len() < taken.len() {
            let start = std::mem::take(&mut state.start);
            state.bytes.drain(..start);
        }
        state.bytes.extend_from_slice(taken);
        Ok((taken.len(), state.reader.take()))
    }

    /// Fills the room with what is there, and returns how much that is; 0 is the end.
    pub(super) fn poll_take(&self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<usize> {
        let mut state = self.state();
        let Some((n, writer)) = state.take(room) else {
            return wait(state, |state| &mut state.reader, cx);
        };
        drop(state);
        wake(writer);
        Poll::Ready(n)
    }

    /// The same without waiting, so without replacing the waker of a task that waits. `None` if nothing is there.
    pub(super) fn take(&self, room: &mut [u8]) -> Option<usize> {
        let (n, writer) = self.state().take(room)?;
        wake(writer);
        Some(n)
    }

    /// Ready when bytes or the end can be read.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let state = self.state();
        match state.has_news() {
            true => Poll::Ready(()),
            false => wait(state, |state| &mut state.reader, cx),
        }
    }

    /// Ready when bytes are taken, or will never be.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let state = self.state();
        match state.held() < ROOM || state.has_ended {
            true => Poll::Ready(()),
            false => wait(state, |state| &mut state.writer, cx),
        }
    }

    /// Whether bytes or the end can be read.
    pub(super) fn has_news(&self) -> bool {
        self.state().has_news()
    }

    /// Nothing more is written from now on.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.has_ended = true;
        let told = [
            state.reader.take(),
            state.writer.take(),
            state.watcher.take(),
        ];
        drop(state);
        told.into_iter().for_each(wake);
    }

    /// Nobody will read what is there.
    fn forget(&self) {
        let mut state = self.state();
        state.bytes = Vec::new();
        state.start = 0;
    }
}

impl State {
    fn held(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn has_news(&self) -> bool {
        self.held() > 0 || self.has_ended
    }

    /// How much was taken, and the writer if there is room again. `None` if there is nothing to be told.
    fn take(&mut self, room: &mut [u8]) -> Option<(usize, Option<Waker>)> {
        if self.held() == 0 {
            return self.has_ended.then_some((0, None));
        }
        let n = self.held().min(room.len());
        room[..n].copy_from_slice(&self.bytes[self.start..self.start + n]);
        self.start += n;
        if self.held() == 0 {
            self.start = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
        }
        // Half of it, so that a writer is not woken for a few bytes.
        let has_room = self.held() <= ROOM / 2;
        Some((n, has_room.then(|| self.writer.take()).flatten()))
    }
}

/// Notes who waits. The one before is dropped when the lane is free, because that may run code that uses it.
fn wait<T>(
    mut state: MutexGuard<'_, State>,
    place: fn(&mut State) -> &mut Option<Waker>,
    cx: &Context<'_>,
) -> Poll<T> {
    let place = place(&mut state);
    let is_known = place
        .as_ref()
        .is_some_and(|known| known.will_wake(cx.waker()));
    let before = match is_known {
        true => None,
        false => place.replace(cx.waker().clone()),
    };
    drop(state);
    drop(before);
    Poll::Pending
}

fn wake(waker: Option<Waker>) {
    waker.into_iter().for_each(Waker::wake);
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.incoming
            .poll_take(cx, room.initialize_unfilled())
            .map(|n| {
                room.advance(n);
                Ok(())
            })
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let (taken, reader) = self.outgoing.put(bytes)?;
            wake(reader);
            if taken > 0 || bytes.is_empty() {
                return Poll::Ready(Ok(taken));
            }
            std::task::ready!(self.outgoing.poll_writable(cx));
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.end();
        Poll::Ready(Ok(()))
    }
}
