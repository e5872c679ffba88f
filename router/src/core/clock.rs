//! Timeouts of sessions: who does the same for too long.
//!
//! A request costs no reading of a clock and no timer for it. A session says what it
//! does and counts its steps; once in a while its core looks at all sessions, and one
//! that does the same at the same step as before has done it since then. So a timeout
//! comes late by an eighth of itself, or a second, and never early.
//!
//! What a client has set for itself ([`IdleTimeouts`]) is another matter: few do, and any of them may set a millisecond. Those
//! sessions have a timer each, so that nobody else is looked at more often for it.

use crate::rests::IdleTimeouts;
use crate::topology::Terms;
use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// What a session waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doing {
    /// Its client, outside of any transaction.
    #[default]
    Idle,
    /// Its client, in a transaction or between the messages of a pipeline.
    InTransaction,
    /// A server.
    Running,
    /// Its client to read what is ready.
    Stalled,
    /// Its client to send the rest of a message.
    Unfinished,
}

impl Doing {
    fn term(self, terms: &Terms) -> Option<Duration> {
        match self {
            Doing::Idle => terms.idle,
            Doing::InTransaction => terms.in_transaction,
            Doing::Running => terms.query,
            Doing::Stalled => terms.send,
            Doing::Unfinished => terms.message,
        }
    }
}

/// What took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// `listen.idle_timeout`
    Idle,
    /// `pool.idle_in_transaction_timeout`
    InTransaction,
    /// `pool.query_timeout`, and the cancel changed nothing.
    Query,
    /// `pool.send_timeout`
    Reading,
    /// `listen.message_timeout`
    Sending,
    /// `idle_session_timeout`, as the client or its role or database has it.
    OwnIdle,
    /// `idle_in_transaction_session_timeout`, the same.
    OwnInTransaction,
    /// Nothing: of all clients it holds the most of a message that is not whole, and memory is short.
    Hoarding,
}

/// What is to be done with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// Its statement is cancelled.
    Cancel,
    /// It ends.
    End(Overdue),
}

/// What a session does, for its core to see.
#[derive(Debug, Default)]
pub struct Pulse {
    doing: Cell<Doing>,
    /// What was noticed is forgotten before a number comes again.
    step: Cell<u32>,
    /// What the core saw when it last saw something new.
    noticed: Cell<Option<(Doing, u32, Instant)>>,
    cancelled: Cell<Option<Instant>>,
    /// How many milliseconds its statement may run by the rule that decided about it.
    ruled: Cell<Option<NonZeroU32>>,
    unfinished: Cell<u32>,
    /// How long it may rest by its own settings.
    rests: Cell<IdleTimeouts>,
    /// The number behind that of the step that its own timer was set for: a session waits before its first step, too.
    timed: Cell<u32>,
    overdue: Cell<Option<Overdue>>,
}

impl Pulse {
    /// It does this now; the same as before is the same step.
    pub fn set(&self, doing: Doing) {
        if self.doing.replace(doing) != doing {
            self.next();
        }
    }

    /// It does something anew.
    pub fn begin(&self, doing: Doing) {
        self.doing.set(doing);
        self.next();
    }

    fn next(&self) {
        self.step.set(self.step.get().wrapping_add(1));
        if self.step.get() == 0 {
            self.noticed.set(None);
        }
    }

    /// How long it may rest by its own settings, from the next request on.
    pub fn set_rests(&self, rests: IdleTimeouts) {
        self.rests.set(rests);
    }

    /// How long it may do what it does now by its own settings.
    pub fn own_limit(&self) -> Option<Duration> {
        match self.doing.get() {
            Doing::Idle => self.rests.get().idle(),
            Doing::InTransaction => self.rests.get().in_transaction(),
            Doing::Running | Doing::Stalled | Doing::Unfinished => None,
        }
    }

    /// Whether the timer for that has to be set: once for each step.
    pub fn sets_timer(&self) -> bool {
        let behind = self.step.get().wrapping_add(1);
        self.timed.replace(behind) != behind
    }

    /// Its own timer is over.
    pub fn end_rest(&self) {
        self.end(match self.doing.get() {
            Doing::InTransaction => Overdue::OwnInTransaction,
            _ => Overdue::OwnIdle,
        });
    }

    /// How long its statement may run by a rule.
    pub fn rule(&self, timeout: Option<Duration>) {
        let millis = |timeout: Duration| u32::try_from(timeout.as_millis()).ok();
        self.ruled
            .set(timeout.and_then(millis).and_then(NonZeroU32::new));
    }

    /// It does this, and holds so many bytes of a message that is not whole.
    pub fn set_unfinished(&self, bytes: usize) {
        self.set(Doing::Unfinished);
        self.unfinished
            .set(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Bytes that it holds of a message that is not whole, while it waits for the rest. One that ends gives them back.
    pub fn unfinished(&self) -> u32 {
        match self.doing.get() {
            _ if self.overdue.get().is_some() => 0,
            Doing::Unfinished => self.unfinished.get(),
            Doing::Idle | Doing::InTransaction | Doing::Running | Doing::Stalled => 0,
        }
    }

    /// It ends for this reason when it looks next.
    pub fn end(&self, why: Overdue) {
        self.overdue.set(Some(why));
    }

    /// What took too long, once that was found.
    pub fn overdue(&self) -> Option<Overdue> {
        self.overdue.get()
    }

    /// Looks at the session; `queued` while it waits for a connection, which has a
    /// timeout of its own.
    pub fn look(&self, now: Instant, queued: bool, terms: &Terms) -> Verdict {
        let (doing, step) = (self.doing.get(), self.step.get());
        let since = match self.noticed.get() {
            Some((before, at, since)) if (before, at) == (doing, step) && !queued => since,
            _ => {
                self.noticed.set(Some((doing, step, now)));
                self.cancelled.set(None);
                return Verdict::Fine;
            }
        };
        let ruled = self.ruled.get().filter(|_| doing == Doing::Running);
        let ruled = ruled.map(|millis| Duration::from_millis(millis.get().into()));
        let Some(limit) = doing.term(terms).into_iter().chain(ruled).min() else {
            return Verdict::Fine;
        };
        if let Some(at) = self.cancelled.get() {
            if now.saturating_duration_since(at) < terms.reset {
                return Verdict::Fine;
            }
        } else if now.saturating_duration_since(since) < limit {
            return Verdict::Fine;
        }
        let overdue = match doing {
            Doing::Idle => Overdue::Idle,
            Doing::InTransaction => Overdue::InTransaction,
            Doing::Stalled => Overdue::Reading,
            Doing::Unfinished => Overdue::Sending,
            Doing::Running if self.cancelled.get().is_none() => {
                self.cancelled.set(Some(now));
                return Verdict::Cancel;
            }
            Doing::Running => Overdue::Query,
        };
        self.overdue.set(Some(overdue));
        Verdict::End(overdue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rests::IdleSettings;

    const SECOND: Duration = Duration::from_secs(1);

    fn terms() -> Terms {
        Terms {
            idle: Some(SECOND * 100),
            in_transaction: Some(SECOND * 10),
            query: Some(SECOND * 20),
            send: None,
            message: Some(SECOND * 30),
            ruled: None,
            reset: SECOND * 5,
        }
    }

    #[test]
    fn who_does_the_same_for_too_long_is_found_and_who_goes_on_is_not() {
        let (pulse, begun) = (Pulse::default(), Instant::now());
        for second in 0..1000 {
            pulse.begin(Doing::InTransaction);
            let verdict = pulse.look(begun + SECOND * second * 30, false, &terms());
            assert_eq!(verdict, Verdict::Fine);
        }
        let begun = begun + SECOND * 1000 * 30;
        pulse.begin(Doing::InTransaction);
        let looks = (0..=10).map(|s| pulse.look(begun + SECOND * s, false, &terms()));
        let looks: Vec<_> = looks.collect();
        assert!(looks[..10].iter().all(|verdict| *verdict == Verdict::Fine));
        assert_eq!(looks[10], Verdict::End(Overdue::InTransaction));
        assert_eq!(pulse.overdue(), Some(Overdue::InTransaction));
    }

    #[test]
    fn what_was_seen_at_a_step_is_not_what_is_done_when_its_number_comes_again() {
        let (pulse, begun) = (Pulse::default(), Instant::now());
        pulse.begin(Doing::InTransaction);
        pulse.look(begun, false, &terms());
        pulse.step.set(u32::MAX);
        pulse.begin(Doing::InTransaction);
        pulse.begin(Doing::InTransaction);
        let verdict = pulse.look(begun + SECOND * 30, false, &terms());
        assert_eq!(verdict, Verdict::Fine);
    }

    #[test]
    fn a_timer_of_its_own_is_set_once_for_each_rest_that_its_settings_limit() {
        let pulse = Pulse::default();
        pulse.set(Doing::Idle);
        assert_eq!(pulse.own_limit(), None);
        let said = IdleSettings {
            idle: Some(300),
            in_transaction: Some(0),
        };
        pulse.set_rests(said.over(IdleSettings::default()));
        assert!(pulse.sets_timer() && !pulse.sets_timer());
        pulse.begin(Doing::Running);
        assert_eq!(pulse.own_limit(), None);
        for _ in 0..2 {
            pulse.set(Doing::Idle);
            assert_eq!(pulse.own_limit(), Some(Duration::from_millis(300)));
            assert!(pulse.sets_timer() && !pulse.sets_timer());
            pulse.begin(Doing::Running);
        }
        pulse.set(Doing::InTransaction);
        assert_eq!(pulse.own_limit(), None);
        pulse.set(Doing::Idle);
        pulse.end_rest();
        assert_eq!(pulse.overdue(), Some(Overdue::OwnIdle));
    }

    #[test]
    fn a_statement_is_cancelled_once_and_then_given_up() {
        let (pulse, begun) = (Pulse::default(), Instant::now());
        pulse.begin(Doing::Running);
        let mut looks = (0..=25).map(|s| pulse.look(begun + SECOND * s, s < 1, &terms()));
        assert!(
            looks
                .by_ref()
                .take(20)
                .all(|verdict| verdict == Verdict::Fine)
        );
        assert_eq!(looks.next(), Some(Verdict::Cancel));
        assert!(
            looks
                .by_ref()
                .take(4)
                .all(|verdict| verdict == Verdict::Fine)
        );
        assert_eq!(looks.next(), Some(Verdict::End(Overdue::Query)));
    }

    #[test]
    fn a_rule_gives_a_statement_less_time_and_nothing_else() {
        let (pulse, begun) = (Pulse::default(), Instant::now());
        pulse.rule(Some(SECOND * 3));
        pulse.begin(Doing::InTransaction);
        let look = |s: u32| pulse.look(begun + SECOND * s, false, &terms());
        assert_eq!((look(0), look(5)), (Verdict::Fine, Verdict::Fine));
        pulse.begin(Doing::Running);
        assert_eq!((look(6), look(8)), (Verdict::Fine, Verdict::Fine));
        assert_eq!(look(9), Verdict::Cancel);
    }

    #[test]
    fn a_message_has_one_deadline_however_often_a_piece_of_it_comes() {
        let (pulse, begun) = (Pulse::default(), Instant::now());
        for second in 0..30 {
            pulse.set_unfinished(10 * second as usize);
            let verdict = pulse.look(begun + SECOND * second, false, &terms());
            assert_eq!(verdict, Verdict::Fine);
        }
        assert_eq!(pulse.unfinished(), 290);
        let verdict = pulse.look(begun + SECOND * 30, false, &terms());
        assert_eq!(verdict, Verdict::End(Overdue::Sending));
        pulse.begin(Doing::Running);
        assert_eq!(pulse.unfinished(), 0);
        pulse.set_unfinished(290);
        pulse.end(Overdue::Hoarding);
        assert_eq!(pulse.unfinished(), 0);
    }

    #[test]
    fn waiting_for_a_connection_is_not_running() {
        let (pulse, begun) = (Pulse::default(), Instant::now());
        pulse.begin(Doing::Running);
        for second in 0..1000 {
            let verdict = pulse.look(begun + SECOND * second, true, &terms());
            assert_eq!(verdict, Verdict::Fine);
        }
    }

    #[test]
    fn short_timeouts_are_looked_at_often_and_long_ones_are_not() {
        let mut terms = terms();
        assert_eq!(terms.tick(), SECOND);
        terms.query = Some(SECOND * 4 / 5);
        assert_eq!(terms.tick(), SECOND / 10);
        terms.query = Some(Duration::from_millis(1));
        assert_eq!(terms.tick(), Duration::from_millis(10));
    }
}
