//! Lets somebody end a connection who does not own it: a pool ends connections that clients are using when their server
//! is no longer the primary or is down. (This is not the circuit breaker of a server.)

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use super::pipe::{Lane, Pipe};

/// Stands for a descriptor that is closed.
const CLOSED: RawFd = -1;

/// Ends a connection whose wire somebody else owns.
#[derive(Debug)]
pub struct Breaker(Way);

#[derive(Debug)]
enum Way {
    /// The descriptor, while it is open.
    Socket(AtomicI32),
    Pipe([Arc<Lane>; 2]),
}

impl Breaker {
    pub(super) fn socket(fd: RawFd) -> Breaker {
        Breaker(Way::Socket(AtomicI32::new(fd)))
    }

    pub(super) fn pipe(pipe: &Pipe) -> Breaker {
        let lanes = [pipe.incoming(), pipe.outgoing()].map(Arc::clone);
        Breaker(Way::Pipe(lanes))
    }

    /// Ends the connection: its owner sees the end of the stream, as if the other side had closed it. Call it on the
    /// connection's own thread, so that nobody closes the socket in the meantime.
    pub fn break_off(&self) {
        match &self.0 {
            Way::Socket(fd) => {
                let fd = fd.load(Ordering::Relaxed);
                if fd != CLOSED {
                    // SAFETY: the call takes no memory of ours. The descriptor is open: before the connection that owns
                    // it closes it, it calls `close` on this thread.
                    let _ = unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
                }
            }
            Way::Pipe(lanes) => lanes.iter().for_each(|lane| lane.end()),
        }
    }

    /// Call this before the owner closes the connection.
    pub fn close(&self) {
        if let Way::Socket(fd) = &self.0 {
            fd.store(CLOSED, Ordering::Relaxed);
        }
    }
}
