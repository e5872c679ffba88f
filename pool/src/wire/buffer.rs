//! Byte buffers that are lent by the thread and given back when they are empty.
//!
//! An idle connection owns no buffer: it takes one from the list of its thread when bytes arrive or are to be sent, and
//! gives it back as soon as it is empty. Both lists have limits, so that the buffers of a busy moment do not stay, and
//! a buffer that a large message has grown is freed instead of kept.

use std::cell::RefCell;

/// Size of a fresh buffer, and so of the largest single read from a socket with little traffic.
pub(super) const BUFFER: usize = 16 * 1024;
/// Size of a buffer that holds the beginning of a message for long.
const SMALL: usize = 128;
/// A buffer above this size is freed when it is empty. See: pg_doorman 3.6.3, where 100 MB became 4 GB.
pub(super) const LARGEST_KEPT: usize = 256 * 1024;
/// From this size on a buffer grows in place by this much: a copy of a large message would for a moment double it.
const STEP: usize = LARGEST_KEPT;
/// What one list of one thread keeps at most, in bytes.
const KEPT: usize = 4 * 1024 * 1024;

#[derive(Default)]
struct Spare {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Spare {
    fn take(&mut self) -> Option<Vec<u8>> {
        let buffer = self.buffers.pop()?;
        self.bytes -= buffer.capacity();
        Some(buffer)
    }

    fn give(&mut self, buffer: Vec<u8>) {
        let size = buffer.capacity();
        if (BUFFER..=LARGEST_KEPT).contains(&size) && self.bytes + size <= KEPT {
            self.bytes += size;
            self.buffers.push(buffer);
        }
    }
}

thread_local! {
    /// Buffers for reading: their length is their size and every byte is initialised, so that taking one costs nothing.
    static FOR_INPUT: RefCell<Spare> = RefCell::default();
    /// Buffers for writing: their length is zero.
    static FOR_OUTPUT: RefCell<Spare> = RefCell::default();
}

/// A buffer of at least [`BUFFER`] initialised bytes.
pub(super) fn take_input() -> Vec<u8> {
    let kept = FOR_INPUT.try_with(|spare| spare.borrow_mut().take());
    kept.ok().flatten().unwrap_or_else(|| vec![0; BUFFER])
}

/// Gives back a buffer of [`take_input`], whatever is in it.
pub(super) fn give_input(mut buffer: Vec<u8>) {
    let size = buffer.capacity();
    if size <= LARGEST_KEPT && buffer.len() < size {
        buffer.resize(size, 0);
    }
    let _ = FOR_INPUT.try_with(|spare| spare.borrow_mut().give(buffer));
}

/// An empty buffer to append to.
pub(super) fn take_output() -> Vec<u8> {
    let kept = FOR_OUTPUT.try_with(|spare| spare.borrow_mut().take());
    kept.ok()
        .flatten()
        .unwrap_or_else(|| Vec::with_capacity(BUFFER))
}

/// Gives back a buffer of [`take_output`].
pub(super) fn give_output(mut buffer: Vec<u8>) {
    buffer.clear();
    let _ = FOR_OUTPUT.try_with(|spare| spare.borrow_mut().give(buffer));
}

/// Received bytes that nobody has consumed yet: `data[start..end]`.
#[derive(Default)]
pub(super) struct Input {
    /// Empty, without an allocation, while there are no bytes; else initialised in its whole length.
    data: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Forgets the first `n` bytes. More than there are is a mistake of the caller, and forgets all.
    pub(super) fn consume(&mut self, n: usize) {
        debug_assert!(
            n <= self.end - self.start,
            "consume at most what was received"
        );
        self.start = self.start.saturating_add(n).min(self.end);
        self.release_if_empty();
    }

    /// Puts bytes before what is there.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        let rest = self.bytes().to_vec();
        self.consume(rest.len());
        self.append(bytes);
        self.append(&rest);
    }

    /// Moves a few bytes that lie in a large buffer into a small one, which grows with what follows.
    pub(super) fn fit(&mut self) {
        let few = self.bytes().len();
        if few == 0 || few > BUFFER / 8 || self.data.len() < BUFFER {
            return;
        }
        let mut small = vec![0; (2 * few).max(SMALL)];
        small[..few].copy_from_slice(self.bytes());
        give_input(std::mem::replace(&mut self.data, small));
        (self.start, self.end) = (0, few);
    }

    /// Room for one read, at the end of what is there. It must be followed by [`Input::filled`].
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.data.is_empty() {
            self.data = take_input();
        }
        if self.data.len() - self.end < (self.data.len() / 4).min(STEP / 4) {
            self.widen();
        }
        &mut self.data[self.end..]
    }

    /// `n` bytes were written to [`Input::room`]; with 0 an otherwise unused buffer goes back.
    pub(super) fn filled(&mut self, n: usize) {
        self.end += n;
        debug_assert!(self.end <= self.data.len());
        self.release_if_empty();
    }

    pub(super) fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.room();
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.filled(now.len());
            bytes = later;
        }
    }

    /// Moves the bytes to the front if that wins half of the buffer, else makes it larger. All of it costs O(1) per byte
    /// received.
    fn widen(&mut self) {
        if self.start >= self.data.len() / 2 {
            self.data.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        } else if self.data.len() >= STEP {
            // The capacity doubles, which takes no memory before it is written to; the system moves the pages of a large
            // allocation without a copy.
            static ZEROES: [u8; STEP] = [0; STEP];
            self.data.extend_from_slice(&ZEROES);
        } else {
            let mut larger = vec![0; self.data.len() * 2];
            let held = self.end - self.start;
            larger[..held].copy_from_slice(self.bytes());
            give_input(std::mem::replace(&mut self.data, larger));
            (self.start, self.end) = (0, held);
        }
    }

    fn release_if_empty(&mut self) {
        if self.is_empty() {
            self.start = 0;
            self.end = 0;
            if self.data.capacity() > 0 {
                give_input(std::mem::take(&mut self.data));
            }
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.end = self.start;
        self.release_if_empty();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_bytes_can_lie_in_a_small_buffer_that_grows_with_what_follows() {
        let mut input = Input::default();
        put(&mut input, b"?abc");
        input.consume(1);
        input.fit();
        assert_eq!((input.bytes(), input.data.len()), (&b"abc"[..], SMALL));
        let more = vec![b'x'; 3 * BUFFER];
        for part in more.chunks(50) {
            input.append(part);
            input.fit();
        }
        assert_eq!(input.bytes(), [b"abc", &more[..]].concat());
        input.consume(3 + more.len());
        assert_eq!(input.data.capacity(), 0);
    }

    fn put(input: &mut Input, bytes: &[u8]) {
        let room = input.room();
        room[..bytes.len()].copy_from_slice(bytes);
        input.filled(bytes.len());
    }

    #[test]
    fn an_empty_input_owns_no_buffer() {
        let mut input = Input::default();
        put(&mut input, b"abc");
        assert_eq!(input.bytes(), b"abc");
        input.consume(1);
        assert_eq!(input.bytes(), b"bc");
        input.consume(2);
        assert_eq!(input.data.capacity(), 0);
        input.room();
        input.filled(0);
        assert_eq!(input.data.capacity(), 0);
    }

    #[test]
    fn bytes_keep_their_order_while_the_buffer_moves_and_grows() {
        let mut input = Input::default();
        let (mut written, mut read) = (0u32, 0u32);
        for round in 0..20_000u32 {
            put(&mut input, &written.to_be_bytes());
            written += 1;
            if round % 3 == 0 {
                assert_eq!(input.bytes()[..4], read.to_be_bytes());
                input.consume(4);
                read += 1;
            }
        }
        while read < written {
            assert_eq!(input.bytes()[..4], read.to_be_bytes());
            input.consume(4);
            read += 1;
        }
    }

    #[test]
    fn a_large_buffer_grows_in_steps_and_keeps_what_it_has() {
        let mut input = Input::default();
        let piece: Vec<u8> = (0..=250).cycle().take(100_000).collect();
        for held in 1..=80 {
            input.append(&piece);
            assert!(input.data.len() <= 2 * STEP + held * piece.len());
        }
        assert!(input.bytes().chunks(piece.len()).all(|part| part == piece));
        input.consume(6_000_000);
        input.append(&vec![7; 5_000_000]);
        assert_eq!(input.bytes()[..2_000_000], piece.repeat(20));
        assert!(input.bytes()[2_000_000..].iter().all(|byte| *byte == 7));
    }

    #[test]
    fn what_a_thread_keeps_is_limited() {
        give_output(Vec::with_capacity(LARGEST_KEPT + 1));
        assert_eq!(FOR_OUTPUT.with(|spare| spare.borrow().bytes), 0);
        for _ in 0..2 * KEPT / BUFFER {
            give_output(Vec::with_capacity(BUFFER));
        }
        let kept = FOR_OUTPUT.with(|spare| spare.borrow().bytes);
        assert!(kept <= KEPT && kept > KEPT / 2, "{kept}");
    }
}
