//! How long a write that meets another one tries again: PostgreSQL's would wait for the end of that one, MongoDB's is
//! undone.

use mothership_proto::report::{Report, sqlstate};
use std::time::{Duration, Instant};

/// No transaction of MongoDB's lives longer than a minute, unless `transactionLifetimeLimitSeconds` says so: by then
/// whoever was in the way is gone.
const LIFETIME: Duration = Duration::from_secs(65);
/// Between the first two attempts; it doubles.
const FIRST: Duration = Duration::from_millis(2);
/// The longest time between two attempts.
const LONGEST: Duration = Duration::from_millis(200);

/// How long one statement goes on, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    pause: Duration,
    until: Instant,
    end: End,
}

/// What ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It took too long.
    Own,
    /// `statement_timeout`.
    Statement,
    /// `lock_timeout`.
    Lock,
}

impl Retry {
    /// Of a statement that begins `now`. What the client has set to 0, or not at all, is `None`.
    pub fn new(
        now: Instant,
        statement_timeout: Option<Duration>,
        lock_timeout: Option<Duration>,
    ) -> Retry {
        let limits = [
            (statement_timeout, End::Statement),
            (lock_timeout, End::Lock),
            (Some(LIFETIME), End::Own),
        ];
        let limits = limits
            .into_iter()
            .filter_map(|(limit, end)| Some((limit?, end)));
        let (limit, end) = limits
            .min_by_key(|(limit, _)| *limit)
            .unwrap_or((LIFETIME, End::Own));
        Retry {
            pause: FIRST,
            until: now + limit,
            end,
        }
    }

    /// How long to pause before the next attempt, of a choice between half and all of it that is `chosen` from 0 to 1.
    ///
    /// # Errors
    /// There is none; what the client is told, if that is not what it met.
    pub fn next(&mut self, now: Instant, chosen: f64) -> Result<Duration, Option<Report>> {
        let left = self.until.saturating_duration_since(now);
        if left.is_zero() {
            return Err(self.end.report());
        }
        let pause = self.pause.mul_f64(0.5 + chosen.clamp(0.0, 1.0) / 2.0);
        self.pause = (self.pause * 2).min(LONGEST);
        Ok(pause.min(left))
    }
}

impl End {
    /// In the words of PostgreSQL's `ProcessInterrupts`.
    fn report(self) -> Option<Report> {
        let (code, what) = match self {
            End::Own => return None,
            End::Statement => (sqlstate::QUERY_CANCELED, "statement"),
            End::Lock => ("55P03", "lock"),
        };
        let message = format!("canceling statement due to {what} timeout");
        Some(Report::error(code, message))
    }
}

/// What a write says that others did not let through.
pub fn concurrent_update() -> Report {
    Report::error(
        sqlstate::SERIALIZATION_FAILURE,
        "could not serialize access due to concurrent update",
    )
    .hint("The transaction might succeed if it is tried again.")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_grow_and_end_with_the_first_limit() {
        let now = Instant::now();
        for (statement, lock, most, code) in [
            (None, None, LIFETIME, None),
            (Some(SECOND * 2), None, SECOND * 2, Some("57014")),
            (Some(SECOND * 2), Some(SECOND), SECOND, Some("55P03")),
            (Some(LIFETIME * 2), Some(LIFETIME * 3), LIFETIME, None),
        ] {
            let mut retry = Retry::new(now, statement, lock);
            let (mut waited, mut last) = (Duration::ZERO, Duration::ZERO);
            let end = loop {
                match retry.next(now + waited, 1.0) {
                    Ok(pause) => {
                        assert!(pause <= LONGEST && (pause >= last || waited + pause == most));
                        waited += pause;
                        last = pause;
                    }
                    Err(end) => break end,
                }
            };
            assert_eq!(waited, most);
            let told = end.map(|report| report.code.to_string());
            assert_eq!(told.as_deref(), code);
        }
    }

    #[test]
    fn chance_chooses_the_upper_half_of_a_pause() {
        let now = Instant::now();
        let pause = |chosen| Retry::new(now, None, None).next(now, chosen).unwrap();
        assert_eq!((pause(0.0), pause(1.0)), (FIRST / 2, FIRST));
    }
}
