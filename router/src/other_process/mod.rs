//! The other process of the two, while there are two: how to reach it, and what it means for this one.
//!
//! While somebody else serves clients as well, this process does not hear of all writes, so `balance.freshness =
//! "router"` leaves all reads to primaries; and cancel requests may be for clients of the other.

pub mod words;

use words::{Word, digits};

use crate::throttle::CancelTicket;
use mothership_pool::health::{CommitClock, Scope};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Numbers of processes are from 1 to this, see [`crate::core::ClientNumber`].
const NUMBERS: u8 = 15;

/// Who ends waits so long for its last words to leave, and looks so often.
const SAYING: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(2);

/// What is to be said to the other one. A cancel request has its place until then.
pub type Outgoing = (Word, Option<CancelTicket>);

/// Which of the two the other one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It was here before, and ends with its clients.
    Old,
    /// It has taken over.
    New,
}

/// The other one.
#[derive(Debug)]
struct Other {
    side: Side,
    pid: u32,
    words: mpsc::UnboundedSender<Outgoing>,
    /// Clients that it still has, if it is the old process.
    clients: u32,
}

/// This process among the two.
#[derive(Debug)]
pub struct OtherProcess {
    /// Its number in cancel keys.
    pub process: u8,
    other: Mutex<Option<Other>>,
    alone: AtomicBool,
    /// A takeover, or what may become one, is under way.
    busy: AtomicBool,
    /// Words that are not on their way yet.
    unsaid: AtomicUsize,
    /// Who has taken over.
    pub new_process: watch::Sender<Option<u32>>,
}

/// A takeover is under way until it is dropped.
#[derive(Debug)]
pub struct Busy<'a>(&'a AtomicBool);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl OtherProcess {
    /// A process that comes after the one with this number, if there was one.
    pub fn new(before: Option<u8>) -> OtherProcess {
        OtherProcess {
            process: before.map_or(1, |before| before % NUMBERS + 1),
            other: Mutex::default(),
            alone: AtomicBool::new(true),
            busy: AtomicBool::new(false),
            unsaid: AtomicUsize::new(0),
            new_process: watch::Sender::default(),
        }
    }

    /// Whether this process hears of all writes that go through a router of this port.
    pub fn is_alone(&self) -> bool {
        self.alone.load(Ordering::SeqCst)
    }

    /// The process id of the other one, and which it is.
    pub fn other(&self) -> Option<(Side, u32)> {
        let other = self.lock();
        other.as_ref().map(|other| (other.side, other.pid))
    }

    /// Clients of the process before this one.
    pub fn old_process_clients(&self) -> u32 {
        self.lock().as_ref().map_or(0, |other| other.clients)
    }

    /// One takeover at a time.
    pub fn begin(&self) -> Option<Busy<'_>> {
        let was = self.busy.swap(true, Ordering::SeqCst);
        (!was).then(|| Busy(&self.busy))
    }

    /// There are two from now on. Returns what this one has to say to the other.
    pub fn join(&self, side: Side, pid: u32) -> mpsc::UnboundedReceiver<Outgoing> {
        let (words, outgoing) = mpsc::unbounded_channel();
        self.alone.store(false, Ordering::SeqCst);
        self.unsaid.store(0, Ordering::SeqCst);
        *self.lock() = Some(Other {
            side,
            pid,
            words,
            clients: 0,
        });
        outgoing
    }

    /// The other one has ended. What it was the last to acknowledge lies in the logs of its servers, so a replica that
    /// has what the primary has from now on has all of it.
    pub fn part<'c>(&self, clocks: impl IntoIterator<Item = &'c CommitClock>) {
        *self.lock() = None;
        for clock in clocks {
            clock.acknowledge(Scope::All);
        }
        self.alone.store(true, Ordering::SeqCst);
    }

    /// Says something to the other one, if there is one.
    pub fn tell(&self, word: Word) {
        self.pass((word, None));
    }

    /// Passes on a cancel request for a client that is not of this process.
    pub fn forward_cancel(&self, number: i32, secret: &[u8], ticket: CancelTicket) {
        let secret = digits(secret);
        self.pass((Word::Cancel { number, secret }, Some(ticket)));
    }

    fn pass(&self, outgoing: Outgoing) {
        if let Some(other) = &*self.lock() {
            self.unsaid.fetch_add(1, Ordering::SeqCst);
            // It may be ending.
            let _ = other.words.send(outgoing);
        }
    }

    /// A word is on its way.
    pub fn said(&self) {
        self.unsaid.fetch_sub(1, Ordering::SeqCst);
    }

    /// Waits until all that was told is on its way, or there is nobody to tell; not for long.
    pub async fn all_said(&self) {
        let begun = Instant::now();
        let waits = || self.unsaid.load(Ordering::SeqCst) > 0 && self.other().is_some();
        while waits() && begun.elapsed() < SAYING {
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// So many clients the old process still has.
    pub fn note_clients(&self, count: u32) {
        if let Some(other) = &mut *self.lock() {
            other.clients = count;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Other>> {
        self.other.lock().expect("nobody panics while holding it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_next_has_another_number_and_there_are_enough() {
        assert_eq!(OtherProcess::new(None).process, 1);
        assert_eq!(OtherProcess::new(Some(0)).process, 1);
        assert_eq!(OtherProcess::new(Some(1)).process, 2);
        assert_eq!(OtherProcess::new(Some(15)).process, 1);
    }

    #[test]
    fn one_takeover_at_a_time() {
        let other_process = OtherProcess::new(None);
        let first = other_process.begin();
        assert!(first.is_some() && other_process.begin().is_none());
        drop(first);
        assert!(other_process.begin().is_some());
    }
}
