//! Bob Jenkins' lookup3 hash as PostgreSQL uses it, 64 bits of it with a seed, on little-endian machines.

/// A hash in the making.
struct State {
    a: u32,
    b: u32,
    c: u32,
}

/// `hash_bytes_extended`.
pub fn hash_bytes(bytes: &[u8], seed: u64) -> u64 {
    let mut state = State::new(bytes.len() as u32, seed);
    let (blocks, tail) = bytes.as_chunks::<12>();
    for block in blocks {
        state.add(block);
        state.mix();
    }
    // The lowest byte of c is reserved for the length, so the last word of the tail moves up by one.
    let mut last = [0; 12];
    let (head, rest) = tail.split_at(tail.len().min(8));
    last[..head.len()].copy_from_slice(head);
    last[9..9 + rest.len()].copy_from_slice(rest);
    state.add(&last);
    state.finish()
}

/// `hash_bytes_uint32_extended`.
pub fn hash_u32(value: u32, seed: u64) -> u64 {
    let mut state = State::new(size_of::<u32>() as u32, seed);
    state.a = state.a.wrapping_add(value);
    state.finish()
}

impl State {
    fn new(length: u32, seed: u64) -> State {
        let start = 0x9e37_79b9u32.wrapping_add(length).wrapping_add(3_923_095);
        let mut state = State {
            a: start,
            b: start,
            c: start,
        };
        if seed != 0 {
            state.a = state.a.wrapping_add((seed >> 32) as u32);
            state.b = state.b.wrapping_add(seed as u32);
            state.mix();
        }
        state
    }

    fn add(&mut self, block: &[u8; 12]) {
        let word = |at: usize| {
            u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
        };
        self.a = self.a.wrapping_add(word(0));
        self.b = self.b.wrapping_add(word(4));
        self.c = self.c.wrapping_add(word(8));
    }

    fn mix(&mut self) {
        let State { a, b, c } = self;
        // Each line: subtract, turn, add; the roles move on by one.
        step(a, c, b, 4);
        step(b, a, c, 6);
        step(c, b, a, 8);
        step(a, c, b, 16);
        step(b, a, c, 19);
        step(c, b, a, 4);
    }

    fn finish(mut self) -> u64 {
        let State { a, b, c } = &mut self;
        last(c, *b, 14);
        last(a, *c, 11);
        last(b, *a, 25);
        last(c, *b, 16);
        last(a, *c, 4);
        last(b, *a, 14);
        last(c, *b, 24);
        (u64::from(*b) << 32) | u64::from(*c)
    }
}

/// `x -= y; x ^= rot(y, turn); y += z`
fn step(x: &mut u32, y: &mut u32, z: &u32, turn: u32) {
    *x = x.wrapping_sub(*y) ^ y.rotate_left(turn);
    *y = y.wrapping_add(*z);
}

/// `x ^= y; x -= rot(y, turn)`
fn last(x: &mut u32, y: u32, turn: u32) {
    *x = (*x ^ y).wrapping_sub(y.rotate_left(turn));
}
