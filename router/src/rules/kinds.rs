//! Sets of kinds of statement.

use crate::config::StatementKind;

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u16);

impl Kinds {
    /// None.
    pub const NONE: Self = Self(0);

    /// Every kind.
    pub fn all() -> Self {
        StatementKind::ALL.iter().copied().collect()
    }

    /// One more kind.
    #[must_use]
    pub fn with(self, kind: StatementKind) -> Self {
        Self(self.0 | 1 << kind as u16)
    }

    /// All of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// One kind less.
    #[must_use]
    pub fn without(self, kind: StatementKind) -> Self {
        Self(self.0 & !(1 << kind as u16))
    }

    /// True if `kind` is in it.
    pub fn has(self, kind: StatementKind) -> bool {
        self.0 & (1 << kind as u16) != 0
    }

    /// True if some kind is in both.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// True without any.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<StatementKind> for Kinds {
    fn from_iter<I: IntoIterator<Item = StatementKind>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::NONE, Self::with)
    }
}
