//! The end of a connection, brought about by somebody who does not own it.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use super::pipe::{Lane, Pipe};

/// Instead of a descriptor that is closed.
const CLOSED: RawFd = -1;

/// Breaks off a connection whose wire somebody else has.
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

    /// Ends the connection: its owner reads an end as if the other side had closed it. To be called on the connection's
    /// own thread, so that nobody closes the socket meanwhile.
    pub fn break_off(&self) {
        match &self.0 {
            Way::Socket(fd) => {
                let fd = fd.load(Ordering::Relaxed);
                if fd != CLOSED {
                    // SAFETY: the call takes no memory of ours. The descriptor is open: the connection that owns it
                    // says so here before it closes it, on this thread.
                    let _ = unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
                }
            }
            Way::Pipe(lanes) => lanes.iter().for_each(|lane| lane.end()),
        }
    }

    /// The connection is about to be closed by its owner.
    pub fn close(&self) {
        if let Way::Socket(fd) = &self.0 {
            fd.store(CLOSED, Ordering::Relaxed);
        }
    }
}
