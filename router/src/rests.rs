//! How long a session may rest by the settings of its own: what `idle_session_timeout` and
//! `idle_in_transaction_session_timeout` say.
//!
//! PostgreSQL counts while a client says nothing to its server. Between transactions a session has none here, and a block
//! that has done nothing yet has none either, so then the router counts. Pure.

use std::num::NonZeroU32;
use std::time::Duration;

/// Ends a session that is silent outside of a transaction.
pub const IDLE: &str = "idle_session_timeout";
/// Ends one that is silent within a transaction.
pub const IN_TRANSACTION: &str = "idle_in_transaction_session_timeout";

/// What somebody says, in milliseconds: nothing, or 0 for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IdleSettings {
    /// Of [`IDLE`].
    pub idle: Option<u32>,
    /// Of [`IN_TRANSACTION`].
    pub in_transaction: Option<u32>,
}

/// What holds. Small, as every session has room for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdleTimeouts {
    idle: Option<NonZeroU32>,
    in_transaction: Option<NonZeroU32>,
}

impl IdleSettings {
    /// What holds where a session that says this began with `begun`.
    pub fn over(self, begun: Self) -> IdleTimeouts {
        IdleTimeouts {
            idle: self.idle.or(begun.idle).and_then(NonZeroU32::new),
            in_transaction: self
                .in_transaction
                .or(begun.in_transaction)
                .and_then(NonZeroU32::new),
        }
    }
}

impl IdleTimeouts {
    /// Outside of a transaction.
    pub fn idle(self) -> Option<Duration> {
        self.idle.map(duration)
    }

    /// Within one.
    pub fn in_transaction(self) -> Option<Duration> {
        self.in_transaction.map(duration)
    }
}

fn duration(millis: NonZeroU32) -> Duration {
    Duration::from_millis(millis.get().into())
}

/// The value of such a setting. `None` if it is none.
pub fn millis(text: &str) -> Option<u32> {
    let limit = mothership_sql::duration::duration(text.trim())?;
    // PostgreSQL takes no more than an int4 has room for, and rounds.
    u32::try_from((limit.as_secs_f64() * 1e3).round_ties_even() as u64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_session_says_itself_goes_before_what_it_began_with() {
        let said = |idle, in_transaction| IdleSettings {
            idle,
            in_transaction,
        };
        let rests = said(Some(300), None).over(said(Some(5), Some(7)));
        assert_eq!(rests.idle(), Some(Duration::from_millis(300)));
        assert_eq!(rests.in_transaction(), Some(Duration::from_millis(7)));
        // 0 is no limit.
        let rests = said(Some(0), None).over(said(Some(5), Some(0)));
        assert_eq!(rests, IdleTimeouts::default());
    }

    #[test]
    fn values_are_read_as_postgresql_reads_them() {
        for (text, expected) in [
            ("300", Some(300)),
            ("300ms", Some(300)),
            ("1.5s", Some(1500)),
            ("600us", Some(1)),
            ("0", Some(0)),
            ("soon", None),
        ] {
            assert_eq!(millis(text), expected, "{text}");
        }
    }
}
