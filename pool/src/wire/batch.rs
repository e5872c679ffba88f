//! The sends of one thread, collected and handed to the kernel together.
//!
//! With plain sends, the woken peer may preempt us at the end of each; when all leave in one system call there is one
//! such moment per wake-up of the runtime. Measured beside PgBouncer in docs/adr/0001. A batch has four operations:
//! it is made for a thread ([`install`]), output is queued, the queue is flushed, and a connection that closes is
//! removed, after what it had queued was sent. How bytes reach the kernel is in `ring.rs` (io_uring) and `outbox.rs`
//! (plain `send`); everything else, so also every rule about order and ownership, is here and the same for both.
//!
//! A batch is flushed when its runtime is about to park, when it is large, when all tasks that were ready have had two
//! turns (a runtime that is never idle does not park), and by [`flush_now`]. A thread without an installed batch sends
//! at once.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::outbox::{Outbox, Shortfall, Sink, Stage, send_to_kernel};
use super::ring::Ring;

/// A batch with this many connections is flushed at once. It is also the size of the ring.
pub(super) const MAX_QUEUED: usize = 256;
/// A batch with this many bytes is flushed at once: more would leave the processor's cache before it is sent.
const MAX_BYTES: usize = 64 * 1024;

/// How the threads of a runtime send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SendMode {
    /// By io_uring where a probe at the start shows that it works, else by plain sends.
    #[default]
    Auto,
    /// io_uring is not touched: one `send` per connection and batch.
    Plain,
}

/// How this thread hands bytes to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendWay {
    /// No batch is installed: each output is sent at once.
    Immediate,
    /// Batched, with one `send` per connection.
    Plain,
    /// Batched, with one `io_uring_enter` for all connections.
    Ring,
}

/// Counters of this thread since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendStats {
    /// Batches that were handed to the kernel.
    pub flushes: u64,
    /// Sends in them.
    pub sends: u64,
    /// Sends that the kernel took only in part or not at all.
    pub refused: u64,
    /// Sends that failed.
    pub failed: u64,
}

enum Sender {
    Immediate,
    Plain,
    Ring(Box<Ring>),
}

pub(super) struct Batch {
    /// Names this thread, see [`Batch::thread`].
    thread: u32,
    outboxes: Slab<Outbox>,
    queued: Vec<usize>,
    queued_bytes: usize,
    sender: Sender,
    shortfalls: Vec<(usize, Shortfall)>,
    /// Wakes the task which flushes when the runtime is too busy to park.
    turns: Option<Waker>,
    stats: SendStats,
}

/// Tasks to wake when the batch is no longer borrowed: a waker may run code that uses the batch.
#[must_use]
#[derive(Default)]
pub(super) struct Woken(Vec<Waker>);

impl Woken {
    pub(super) fn wake(self) {
        self.0.into_iter().for_each(Waker::wake);
    }

    pub(super) fn add(&mut self, waker: Option<Waker>) {
        self.0.extend(waker);
    }
}

thread_local! {
    static BATCH: RefCell<Batch> = RefCell::new(Batch::new());
}

/// Borrows the thread's batch; `None` only while the thread ends. `f` must neither wake nor drop a task.
pub(super) fn with<R>(f: impl FnOnce(&mut Batch) -> R) -> Option<R> {
    BATCH.try_with(|batch| f(&mut batch.borrow_mut())).ok()
}

/// Hands everything that this thread has queued to the kernel.
pub fn flush_now() {
    with(Batch::flush).unwrap_or_default().wake();
}

/// How this thread sends now. It says `Immediate` until an installed runtime parks for the first time.
pub fn send_way() -> SendWay {
    with(|batch| match batch.sender {
        Sender::Immediate => SendWay::Immediate,
        Sender::Plain => SendWay::Plain,
        Sender::Ring(_) => SendWay::Ring,
    })
    .unwrap_or(SendWay::Immediate)
}

/// Counters of this thread.
pub fn send_stats() -> SendStats {
    with(|batch| batch.stats).unwrap_or_default()
}

/// Gives each thread that runs the runtime a batch, which is flushed when the runtime is about to park.
///
/// Uses the builder's `on_thread_park`, of which there can be only one. The batch ends with the runtime; sends of the
/// thread are immediate before and after. Meant for current_thread runtimes: on another kind each worker gets a batch,
/// but connections must not move between them.
pub fn install(builder: &mut tokio::runtime::Builder, mode: SendMode) {
    builder.on_thread_park(move || {
        let woken = with(|batch| match batch.sender {
            Sender::Immediate => {
                batch.sender = Sender::new(mode);
                batch.turns = Some(Waker::noop().clone());
                None
            }
            Sender::Plain | Sender::Ring(_) => Some(batch.flush()),
        });
        match woken {
            Some(Some(woken)) => woken.wake(),
            // The first time on this thread. The task lives as long as the runtime.
            Some(None) => drop(tokio::spawn(Turns { flushes: 0 })),
            None => {}
        }
    });
}

impl Sender {
    fn new(mode: SendMode) -> Sender {
        match mode {
            SendMode::Plain => Sender::Plain,
            SendMode::Auto => {
                Ring::new().map_or(Sender::Plain, |ring| Sender::Ring(Box::new(ring)))
            }
        }
    }
}

impl Batch {
    fn new() -> Batch {
        static THREADS: AtomicU32 = AtomicU32::new(1);
        Batch {
            thread: THREADS.fetch_add(1, Ordering::Relaxed),
            outboxes: Slab::new(),
            queued: Vec::new(),
            queued_bytes: 0,
            sender: Sender::Immediate,
            shortfalls: Vec::new(),
            turns: None,
            stats: SendStats::default(),
        }
    }

    /// A number that no other thread of this process has had.
    pub(super) fn thread(&self) -> u32 {
        self.thread
    }

    pub(super) fn open(&mut self, outbox: Outbox) -> usize {
        self.outboxes.insert(outbox)
    }

    pub(super) fn outbox(&mut self, conn: usize) -> &mut Outbox {
        &mut self.outboxes[conn]
    }

    /// Notes that `added` bytes were appended to the outbox of `conn`, and flushes if the batch is now large.
    pub(super) fn queue(&mut self, conn: usize, added: usize) -> Woken {
        let outbox = &mut self.outboxes[conn];
        match outbox.stage {
            Stage::Open => {}
            // Whoever polls the connection sends it.
            Stage::Refused => return Woken::default(),
            Stage::Broken(errno) => {
                outbox.fail(errno);
                return Woken::default();
            }
        }
        self.queued_bytes += added;
        if !outbox.queued {
            outbox.queued = true;
            self.queued.push(conn);
            if self.queued.len() == 1
                && let Some(turns) = &self.turns
            {
                turns.wake_by_ref();
            }
        }
        let large = self.queued.len() >= MAX_QUEUED || self.queued_bytes >= MAX_BYTES;
        if large || matches!(self.sender, Sender::Immediate) {
            return self.flush();
        }
        Woken::default()
    }

    /// Hands everything queued to the kernel. Connections that it refused go on when a task polls them.
    pub(super) fn flush(&mut self) -> Woken {
        let mut woken = Woken::default();
        if self.queued.is_empty() {
            return woken;
        }
        let outboxes = &mut self.outboxes;
        self.queued.retain(|&conn| {
            let outbox = &mut outboxes[conn];
            outbox.queued = false;
            outbox.seal();
            if outbox.error().is_some() {
                woken.0.extend(outbox.waker.take());
            }
            let is_to_send = outbox.stage == Stage::Open && !outbox.offer().is_empty();
            let is_for_kernel = matches!(outbox.sink, Sink::Kernel(_));
            if is_to_send && !is_for_kernel {
                outbox.send_once(&mut woken);
                if outbox.stage != Stage::Open {
                    woken.0.extend(outbox.waker.take());
                }
            }
            is_to_send && is_for_kernel
        });
        self.queued_bytes = 0;
        self.stats.flushes += 1;
        self.stats.sends += self.queued.len() as u64;
        self.send_queued();
        for (conn, shortfall) in self.shortfalls.drain(..) {
            let outbox = &mut self.outboxes[conn];
            match shortfall {
                Shortfall::Took(n) => {
                    self.stats.refused += 1;
                    outbox.took(n);
                    // Also when nothing is left, which no kernel does: the outbox is not to be accepted twice.
                    outbox.stage = Stage::Refused;
                }
                Shortfall::Failed(errno) => {
                    self.stats.failed += 1;
                    outbox.fail(errno);
                }
            }
            woken.0.extend(outbox.waker.take());
        }
        for conn in self.queued.drain(..) {
            let outbox = &mut self.outboxes[conn];
            if outbox.stage == Stage::Open {
                outbox.accepted();
            }
        }
        woken
    }

    fn send_queued(&mut self) {
        debug_assert!(self.shortfalls.is_empty());
        // One connection gains nothing from the ring, whose enter costs a little more than a send.
        if let (Sender::Ring(ring), 2..) = (&mut self.sender, self.queued.len()) {
            if ring
                .send(&self.outboxes, &self.queued, &mut self.shortfalls)
                .is_ok()
            {
                return;
            }
            // The ring has sent what was left of this batch plainly, and is not used again.
            self.sender = Sender::Plain;
            return;
        }
        send_plainly(&self.outboxes, &self.queued, &mut self.shortfalls);
    }

    /// Sends what the connection has queued and forgets it; to be called before its descriptor is closed.
    ///
    /// What the kernel refuses now is lost, as with any close; `Wire::finish` waits instead.
    pub(super) fn before_close(&mut self, conn: usize, woken: &mut Woken) -> Outbox {
        let mut outbox = self.outboxes.remove(conn);
        if outbox.queued {
            self.queued.retain(|&queued| queued != conn);
        }
        outbox.seal();
        if let Some(tls) = &mut outbox.tls {
            // Only now: what is encrypted after the farewell is not read by the peer.
            tls.close();
            outbox.seal();
        }
        if !matches!(outbox.stage, Stage::Broken(_)) && !outbox.offer().is_empty() {
            // Nobody is left to be told about a failure.
            outbox.send_once(woken);
        }
        outbox
    }
}

/// One `send` for each connection, which all have sockets.
pub(super) fn send_plainly(
    outboxes: &Slab<Outbox>,
    conns: &[usize],
    shortfalls: &mut Vec<(usize, Shortfall)>,
) {
    for &conn in conns {
        let outbox = &outboxes[conn];
        match send_to_kernel(outbox.fd(), outbox.offer()) {
            Ok(n) if n == outbox.offer().len() => {}
            Ok(n) => shortfalls.push((conn, Shortfall::Took(n))),
            Err(shortfall) => shortfalls.push((conn, shortfall)),
        }
    }
}

/// Flushes for a runtime that has no time to park.
///
/// It is woken when the batch gets its first output, and so comes to the end of the run queue; when it comes there a
/// second time and nothing was flushed, the tasks that were ready have all run, and it flushes.
struct Turns {
    /// The count of flushes at the previous turn.
    flushes: u64,
}

impl Future for Turns {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mine = cx.waker();
        let (old, again, woken) = with(|batch| {
            let known = batch
                .turns
                .as_ref()
                .is_some_and(|turns| turns.will_wake(mine));
            let old = if known {
                None
            } else {
                batch.turns.replace(mine.clone())
            };
            if batch.queued.is_empty() {
                return (old, false, Woken::default());
            }
            if batch.stats.flushes == self.flushes {
                return (old, false, batch.flush());
            }
            self.flushes = batch.stats.flushes;
            (old, true, Woken::default())
        })
        .unwrap_or_default();
        drop(old);
        if again {
            mine.wake_by_ref();
        }
        woken.wake();
        Poll::Pending
    }
}

impl Drop for Turns {
    /// The runtime ends, and nobody would flush any more.
    fn drop(&mut self) {
        let ended = with(|batch| {
            let woken = batch.flush();
            let sender = std::mem::replace(&mut batch.sender, Sender::Immediate);
            (woken, sender, batch.turns.take())
        });
        if let Some((woken, _, _)) = ended {
            woken.wake();
        }
    }
}
