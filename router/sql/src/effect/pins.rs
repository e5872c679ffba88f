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
