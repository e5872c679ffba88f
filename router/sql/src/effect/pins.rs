//! Reasons to stay on a server.

use super::Pin;

/// Reasons to stay on a server, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pins(u16);

impl Pins {
    /// No reason.
    pub const NONE: Self = Self(0);

    /// One more reason.
    pub fn with(self, pin: Pin) -> Self {
        Self(self.0 | 1 << pin as u16)
    }

    /// All reasons of both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The reasons of `self` that are not in `other`.
    pub fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The reasons that are in both.
    pub fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that a statement leaves behind even if it fails: no rollback takes them away.
    pub fn outliving() -> Self {
        [Pin::AdvisoryLock, Pin::Seed, Pin::Load, Pin::Slot]
            .into_iter()
            .fold(Self::NONE, Self::with)
    }

    /// Those that a rollback brings back after a statement has ended them.
    pub fn brought_back() -> Self {
        Self::NONE.with(Pin::TempObject).with(Pin::Listen)
    }

    /// Those that DISCARD ALL says nothing of, so that the connection can serve nobody else: code that is not seen may
    /// have done the same.
    pub fn beyond_discard() -> Self {
        [Pin::Seed, Pin::Load, Pin::Opaque]
            .into_iter()
            .fold(Self::NONE, Self::with)
    }

    /// True without a reason.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The reasons in words.
    pub fn reasons(self) -> impl Iterator<Item = &'static str> {
        Pin::ALL
            .into_iter()
            .filter(move |&pin| self.has(pin))
            .map(Pin::reason)
    }

    /// True if `pin` is one of the reasons.
    pub fn has(self, pin: Pin) -> bool {
        self.0 & (1 << pin as u16) != 0
    }
}
