//! What springs at a moment in the stream of one connection, and how far a connection has come towards it.

use super::Side;
use super::cutter::Piece;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// RST on both sides.
    Reset,
    /// FIN on both sides.
    Finish,
}

/// What happens when a trap springs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The connection ends; what came before has passed.
    End(End),
    /// The connection freezes, with the message before which it sprang; `heal` resets it.
    Freeze,
    /// A byte of the message (or of what arrived behind the counted bytes) is changed, and passes.
    Flip {
        /// Which byte, from 0.
        at: usize,
        /// Which of its bits.
        mask: u8,
    },
}

/// When a trap springs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Moment {
    /// Behind so many bytes of this side.
    Bytes(Side, usize),
    /// Before a message of this side, of this type (or any), in which this text occurs.
    Message(Side, Option<u8>, String),
}

/// Springs once, on the first connection that comes to its moment.
#[derive(Debug, Clone)]
pub struct Trap {
    seen: Option<(Side, String)>,
    moment: Moment,
    skip: usize,
    effect: Effect,
}

impl Trap {
    /// After so many bytes of this side, counted from when the connection meets the trap.
    pub fn after_bytes(side: Side, count: usize, effect: Effect) -> Trap {
        Trap::new(Moment::Bytes(side, count), effect)
    }

    /// Before a message of this type.
    pub fn before(side: Side, kind: u8, effect: Effect) -> Trap {
        Trap::before_text(side, Some(kind), "", effect)
    }

    /// Before a message in which this text occurs, of this type or any.
    pub fn before_text(side: Side, kind: Option<u8>, text: &str, effect: Effect) -> Trap {
        Trap::new(Moment::Message(side, kind, text.to_owned()), effect)
    }

    fn new(moment: Moment, effect: Effect) -> Trap {
        Trap {
            seen: None,
            moment,
            skip: 0,
            effect,
        }
    }

    /// Only on a connection on which this side has sent this text before.
    pub fn once_seen(mut self, side: Side, text: &str) -> Trap {
        self.seen = Some((side, text.to_owned()));
        self
    }

    /// So many such messages pass before.
    pub fn skipping(mut self, count: usize) -> Trap {
        self.skip = count;
        self
    }
}

/// How far one connection has come.
pub(super) struct Progress {
    /// Which of the traps that were ever set it is.
    pub(super) id: u64,
    trap: Trap,
    is_seen: bool,
    left: usize,
}

/// A piece as it passes, and what happens behind it.
pub(super) struct Passed {
    pub(super) bytes: Vec<u8>,
    pub(super) effect: Option<Effect>,
}

impl Progress {
    pub(super) fn new(id: u64, trap: &Trap) -> Progress {
        let left = match trap.moment {
            Moment::Bytes(_, count) => count,
            Moment::Message(..) => trap.skip,
        };
        Progress {
            id,
            is_seen: trap.seen.is_none(),
            trap: trap.clone(),
            left,
        }
    }

    /// Whether it looks at messages of this side at all.
    pub(super) fn watches(&self, from: Side) -> bool {
        match (&self.trap.seen, &self.trap.moment) {
            (Some((side, _)), _) if !self.is_seen => *side == from,
            (_, Moment::Message(side, ..)) => *side == from,
            (_, Moment::Bytes(..)) => false,
        }
    }

    /// Whether it has to look at whole messages of this type.
    pub(super) fn wants(&self, from: Side, kind: u8) -> bool {
        match &self.trap.moment {
            Moment::Message(_, Some(wanted), _) if self.is_seen => {
                *wanted == kind && self.watches(from)
            }
            _ => self.watches(from),
        }
    }

    /// Looks at what this side has sent.
    pub(super) fn pass(&mut self, from: Side, piece: Piece) -> Passed {
        let Piece { kind, bytes } = piece;
        if !self.is_seen {
            let seen = self.trap.seen.as_ref();
            self.is_seen = seen.is_some_and(|(side, text)| *side == from && has(&bytes, text));
            return Passed {
                bytes,
                effect: None,
            };
        }
        match &self.trap.moment {
            Moment::Bytes(side, _) if *side == from => self.count(bytes),
            Moment::Message(side, wanted, text)
                if *side == from
                    && kind.is_some_and(|kind| wanted.is_none_or(|wanted| wanted == kind))
                    && has(&bytes, text) =>
            {
                self.meet(bytes)
            }
            _ => Passed {
                bytes,
                effect: None,
            },
        }
    }

    fn count(&mut self, mut bytes: Vec<u8>) -> Passed {
        if bytes.len() <= self.left {
            self.left -= bytes.len();
            return Passed {
                bytes,
                effect: None,
            };
        }
        if let Effect::Flip { at, mask } = self.trap.effect {
            let at = (self.left + at).min(bytes.len() - 1);
            bytes[at] ^= mask;
        } else {
            bytes.truncate(self.left);
        }
        let effect = Some(self.trap.effect);
        Passed { bytes, effect }
    }

    fn meet(&mut self, mut bytes: Vec<u8>) -> Passed {
        if self.left > 0 {
            self.left -= 1;
            return Passed {
                bytes,
                effect: None,
            };
        }
        match self.trap.effect {
            Effect::Flip { at, mask } => {
                let at = at.min(bytes.len() - 1);
                bytes[at] ^= mask;
            }
            Effect::End(_) | Effect::Freeze => bytes.clear(),
        }
        let effect = Some(self.trap.effect);
        Passed { bytes, effect }
    }
}

fn has(bytes: &[u8], text: &str) -> bool {
    text.is_empty()
        || bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
}
