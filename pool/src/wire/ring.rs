//! Sends of many connections in one `io_uring_enter`.
//!
//! Each send carries `MSG_DONTWAIT | MSG_WAITALL` and skips its completion when it succeeds, so that the kernel
//! executes it inside the enter and reports only what it refused or took in part. Nothing is in flight between two
//! calls: entries are written, submitted and answered within [`Ring::send`], so no entry outlives a buffer or a
//! descriptor. Where io_uring is missing, forbidden or behaves differently, [`Ring::new`] says so by a probe.

use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use io_uring::{IoUring, opcode, squeue, types};
use slab::Slab;

use super::batch::{MAX_QUEUED, send_plainly};
use super::outbox::{Outbox, Shortfall, Sink};

pub(super) struct Ring {
    ring: IoUring,
}

/// The ring failed, and must not be used again.
#[derive(Debug)]
pub(super) struct RingFailed;

impl Ring {
    /// A ring that was seen to work on this thread; `None` where plain sends must do.
    pub(super) fn new() -> Option<Ring> {
        let made = Ring::make().and_then(|mut ring| ring.probe().map(|()| ring));
        made.inspect_err(|error| tracing::info!(%error, "io_uring is not used, sends are plain"))
            .ok()
    }

    fn make() -> io::Result<Ring> {
        let entries = u32::try_from(MAX_QUEUED).expect("a small constant");
        let ring = IoUring::builder()
            .dontfork()
            .setup_submit_all()
            .build(entries)?;
        if !ring.params().is_feature_skip_cqe_on_success() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Ring { ring })
    }

    /// Offers the outboxes of `conns`, all of sockets and each named once, and notes those that were not taken in full.
    ///
    /// After a failure of the ring itself the rest was sent plainly, so the notes are complete in any case.
    pub(super) fn send(
        &mut self,
        outboxes: &Slab<Outbox>,
        conns: &[usize],
        shortfalls: &mut Vec<(usize, Shortfall)>,
    ) -> Result<(), RingFailed> {
        let mut rest = conns;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(MAX_QUEUED));
            let unsent = self.enter(outboxes, now, shortfalls);
            if unsent > 0 {
                send_plainly(outboxes, &now[now.len() - unsent..], shortfalls);
                send_plainly(outboxes, later, shortfalls);
                return Err(RingFailed);
            }
            rest = later;
        }
        Ok(())
    }

    /// Submits at most [`MAX_QUEUED`] sends and returns how many of them, at the end, the kernel never saw.
    fn enter(
        &mut self,
        outboxes: &Slab<Outbox>,
        conns: &[usize],
        shortfalls: &mut Vec<(usize, Shortfall)>,
    ) -> usize {
        for &conn in conns {
            let outbox = &outboxes[conn];
            let offer = outbox.offer();
            let len = u32::try_from(offer.len()).expect("an offer is at most 1 GiB");
            let entry = opcode::Send::new(types::Fd(outbox.fd()), offer.as_ptr(), len)
                .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(conn as u64);
            // SAFETY: the entry points into an outbox, which is borrowed until this function has returned. By then the
            // kernel has executed it (MSG_DONTWAIT: it never waits and never goes to a worker) or the entry is thrown
            // away with the ring. The ring is empty here and holds MAX_QUEUED entries, so there is room.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            pushed.expect("the ring has room for a whole batch");
        }
        let unsent = self.submit();
        for completion in self.ring.completion() {
            let shortfall = match usize::try_from(completion.result()) {
                Ok(taken) => Shortfall::Took(taken),
                Err(_) => Shortfall::from_errno(-completion.result()),
            };
            let conn = usize::try_from(completion.user_data()).expect("an index of the slab");
            shortfalls.push((conn, shortfall));
        }
        unsent
    }

    /// Returns how many entries the kernel has not consumed: 0 unless the ring failed.
    fn submit(&mut self) -> usize {
        loop {
            let result = self.ring.submit();
            let left = self.ring.submission().len();
            match result {
                _ if left == 0 => return 0,
                Ok(consumed) if consumed > 0 => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) => return left,
                Err(error) => {
                    tracing::warn!(%error, "io_uring failed, sends of this thread are plain from now on");
                    return left;
                }
            }
        }
    }

    /// Sends to a socket of our own: accepted, accepted in part, refused, broken. Each must be reported as assumed.
    fn probe(&mut self) -> io::Result<()> {
        let (sender, mut receiver) = UnixStream::pair()?;
        let mut outboxes = Slab::new();
        let conn = outboxes.insert(Outbox::new(Sink::Kernel(sender.as_raw_fd())));
        let mut outcome = |ring: &mut Ring, bytes: &[u8]| {
            outboxes[conn] = Outbox::new(Sink::Kernel(sender.as_raw_fd()));
            outboxes[conn].open_buffer().extend_from_slice(bytes);
            let mut shortfalls = Vec::new();
            let sent = ring.send(&outboxes, &[conn], &mut shortfalls);
            sent.map(|()| shortfalls.pop().map(|(_, shortfall)| shortfall))
        };
        let large = vec![0; 4 * 1024 * 1024];
        let accepted = outcome(self, b"mothership");
        let mut echo = [0; 10];
        receiver.read_exact(&mut echo)?;
        let partial = outcome(self, &large);
        let refused = outcome(self, &large);
        drop(receiver);
        let broken = outcome(self, b"mothership");
        let as_assumed = matches!(accepted, Ok(None))
            && &echo == b"mothership"
            && matches!(partial, Ok(Some(Shortfall::Took(n))) if 0 < n && n < large.len())
            && matches!(refused, Ok(Some(Shortfall::Took(0))))
            && matches!(broken, Ok(Some(Shortfall::Failed(libc::EPIPE))));
        as_assumed
            .then_some(())
            .ok_or_else(|| io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_ring_can_be_made_the_probe_accepts_it() {
        // A kernel that forbids io_uring is a supported one; a ring that is made and does not work is not.
        if let Ok(mut ring) = Ring::make() {
            ring.probe().expect("the kernel behaves as assumed");
        }
    }
}
