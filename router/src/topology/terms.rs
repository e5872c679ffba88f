//! How long sessions may take.

use std::time::Duration;

/// How long each may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Without a request.
    pub idle: Option<Duration>,
    /// With a transaction open.
    pub in_transaction: Option<Duration>,
    /// A statement.
    pub query: Option<Duration>,
    /// Without reading.
    pub send: Option<Duration>,
    /// With a message that was begun.
    pub message: Option<Duration>,
    /// The shortest that a rule gives to a statement.
    pub ruled: Option<Duration>,
    /// From a cancel to the end of the statement.
    pub reset: Duration,
}

impl Terms {
    /// How often sessions must be looked at.
    pub fn tick(&self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(1);
        const SHORTEST: Duration = Duration::from_millis(10);
        let least = self.all().into_iter().flatten().min().unwrap_or(LONGEST);
        // Not more often than a client can notice.
        (least / 8).clamp(SHORTEST, LONGEST)
    }

    /// Nothing is limited.
    pub fn are_none(&self) -> bool {
        self.all().iter().all(Option::is_none)
    }

    fn all(&self) -> [Option<Duration>; 6] {
        [
            self.idle,
            self.in_transaction,
            self.query,
            self.send,
            self.message,
            self.ruled,
        ]
    }
}
