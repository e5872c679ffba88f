//! Keeps requests from a server that answers probes while what clients send to it fails.
//!
//! Pure: times, the count of answered requests and randomness are passed in. Failures count, at most one in each interval,
//! because whatever breaks one connection mostly breaks many at once; intervals in which the server only answered take
//! them back. Enough of them open the breaker for a while. Then one good probe half-opens it, requests try the server one
//! at a time, and the first answer closes it. Each time that it opens again soon it stays open twice as long.
//!
//! What an open breaker means is decided in `view`: the server gets nothing that another one can take.

use std::fmt;
use std::time::{Duration, Instant};

/// The longest pause is so many times the first one.
const LONGEST: u32 = 8;

/// When a breaker opens, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// So many failures open it.
    pub failures: u32,
    /// It stays open so long the first time, and up to eight times as long if it opens again soon after.
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            failures: 5,
            pause: Duration::from_secs(60),
        }
    }
}

/// A server's traffic at the moment when something happens.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Now.
    pub now: Instant,
    /// How many requests it has ever answered.
    pub answered: u64,
    /// A random number from 0 to 1: servers that failed together are not tried together.
    pub spread: f64,
    /// Another server can take what this one does not get. Without one it is tried again as soon as a probe is answered.
    pub is_spared: bool,
}

/// One server's breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Breaker {
    /// The server is used.
    Closed {
        /// Failures that count.
        failures: u32,
        /// The last of them: when, and how many requests had been answered.
        counted: Option<(Instant, u64)>,
        /// How long it was open before, and when it was closed.
        before: Option<(Duration, Instant)>,
    },
    /// The server is not used where there is another.
    Open {
        /// A good probe after this moment half-opens it.
        until: Instant,
        /// How long it is open.
        pause: Duration,
    },
    /// Requests try the server, one at a time.
    HalfOpen {
        /// How many it had answered before.
        answered: u64,
        /// How long it was open.
        pause: Duration,
    },
}

/// What a breaker lets through, as the cores and the console see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything.
    #[default]
    Closed,
    /// One request at a time.
    HalfOpen,
    /// What no other server can take.
    Open,
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BreakerState::Closed => "closed",
            BreakerState::HalfOpen => "half-open",
            BreakerState::Open => "open",
        })
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker::Closed {
            failures: 0,
            counted: None,
            before: None,
        }
    }
}

impl Breaker {
    /// What it lets through.
    pub fn state(&self) -> BreakerState {
        match self {
            Breaker::Closed { .. } => BreakerState::Closed,
            Breaker::HalfOpen { .. } => BreakerState::HalfOpen,
            Breaker::Open { .. } => BreakerState::Open,
        }
    }

    /// Something that a client sent, or its attempt to connect, failed. In each `interval` one such failure counts.
    pub fn on_failure(&mut self, traffic: Traffic, interval: Duration, limits: &Limits) {
        let Traffic { now, answered, .. } = traffic;
        let longest = limits.pause.saturating_mul(LONGEST);
        *self = match *self {
            Breaker::Open { .. } => return,
            Breaker::HalfOpen { pause, .. } => {
                Breaker::opened(pause.saturating_mul(2).min(longest), traffic, limits)
            }
            Breaker::Closed {
                failures,
                counted,
                before,
            } => {
                let kept = match counted {
                    Some((at, _)) if now.saturating_duration_since(at) < interval => return,
                    // Where nothing was answered meanwhile, nothing speaks for the server.
                    Some((at, then)) if answered > then => {
                        failures.saturating_sub(quiet(now.saturating_duration_since(at), interval))
                    }
                    _ => failures,
                };
                if kept + 1 >= limits.failures {
                    let pause = match before {
                        Some((pause, at)) if now.saturating_duration_since(at) < pause => {
                            pause.saturating_mul(2).min(longest)
                        }
                        _ => limits.pause,
                    };
                    Breaker::opened(pause, traffic, limits)
                } else {
                    Breaker::Closed {
                        failures: kept + 1,
                        counted: Some((now, answered)),
                        before,
                    }
                }
            }
        };
    }

    /// A probe was answered.
    pub fn on_good_probe(&mut self, traffic: Traffic) {
        let Traffic { now, answered, .. } = traffic;
        *self = match *self {
            Breaker::Open { until, pause } if now >= until || !traffic.is_spared => {
                Breaker::HalfOpen { answered, pause }
            }
            Breaker::HalfOpen {
                answered: then,
                pause,
            } if answered > then => Breaker::Closed {
                failures: 0,
                counted: None,
                before: Some((pause, now)),
            },
            same => same,
        };
    }

    fn opened(pause: Duration, traffic: Traffic, limits: &Limits) -> Breaker {
        let pause = match traffic.is_spared {
            true => pause,
            // It had no choice but to fail again.
            false => limits.pause,
        };
        Breaker::Open {
            until: traffic.now + pause.mul_f64(1.0 + traffic.spread.clamp(0.0, 1.0) / 5.0),
            pause,
        }
    }
}

/// How many whole intervals passed between two failures without one.
fn quiet(gap: Duration, interval: Duration) -> u32 {
    let intervals = gap.as_nanos() / interval.as_nanos().max(1);
    u32::try_from(intervals.saturating_sub(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Story {
        breaker: Breaker,
        start: Instant,
        traffic: Traffic,
    }

    impl Story {
        fn new(is_spared: bool) -> Story {
            let now = Instant::now();
            let traffic = Traffic {
                now,
                answered: 0,
                spread: 0.0,
                is_spared,
            };
            Story {
                breaker: Breaker::default(),
                start: now,
                traffic,
            }
        }

        /// `f`ailure, `a`nswer, good `p`robe, `.` a second passes, `_` a minute passes.
        fn tell(&mut self, events: &str) -> String {
            for event in events.chars() {
                match event {
                    'f' => self
                        .breaker
                        .on_failure(self.traffic, SECOND, &Limits::default()),
                    'a' => self.traffic.answered += 1,
                    'p' => self.breaker.on_good_probe(self.traffic),
                    '.' => self.traffic.now += SECOND,
                    '_' => self.traffic.now += 60 * SECOND,
                    other => panic!("{other}"),
                }
            }
            self.breaker.state().to_string()
        }
    }

    #[test]
    fn breakers_open_and_close_as_told() {
        let cases = [
            ("", "closed"),
            // Five failures, each in an interval of its own.
            ("f.f.f.f", "closed"),
            ("f.f.f.f.f", "open"),
            // An administrator ends twenty sessions, or a server restarts: that is one.
            ("ffffffffffffffffffff.p", "closed"),
            ("fffff.fffff.fffff.fffff", "closed"),
            // Probes speak for the server's life, not for its traffic.
            ("fp.fp.fp.fp.fp", "open"),
            // One session is ended every two seconds, and all others are served: that is no sick server.
            ("fa..fa..fa..fa..fa..fa..fa..fa..f", "closed"),
            ("fa.fa.fa.fa....fa.fa", "closed"),
            // Half of all requests fail.
            ("fa.fa.fa.fa.fa", "open"),
            // Few requests, of which all fail.
            ("f___f___f___f___f", "open"),
            // A minute later one probe half-opens it, not sooner.
            ("f.f.f.f.f.p", "open"),
            ("f.f.f.f.f..........p", "open"),
            ("f.f.f.f.f_", "open"),
            ("f.f.f.f.f_p", "half-open"),
            // An answer closes it; until there is one it stays half-open.
            ("f.f.f.f.f_p.p.p", "half-open"),
            ("f.f.f.f.f_pa", "half-open"),
            ("f.f.f.f.f_pa.p", "closed"),
            // What was answered before is no answer to the trial.
            ("f.f.f.f.fa_p.p", "half-open"),
            // One failed trial opens it, and for twice as long.
            ("f.f.f.f.f_pf", "open"),
            ("f.f.f.f.f_pf_p", "open"),
            ("f.f.f.f.f_pf__p", "half-open"),
            // Up to eight times as long.
            ("f.f.f.f.f_pf__pf____pf________pf_______p", "open"),
            ("f.f.f.f.f_pf__pf____pf________pf________p", "half-open"),
            // Closed, it begins anew.
            ("f.f.f.f.f_pa.pf.f.f.f", "closed"),
            // Open again soon after: twice as long. Later: as long as the first time.
            ("f.f.f.f.f_pa.pf.f.f.f.f_p", "open"),
            ("f.f.f.f.f_pa.pf.f.f.f.f__p", "half-open"),
            ("f.f.f.f.f_pa.p_f.f.f.f.f_p", "half-open"),
        ];
        for (events, expected) in cases {
            assert_eq!(Story::new(true).tell(events), expected, "{events}");
        }
    }

    #[test]
    fn a_server_without_another_one_is_tried_as_soon_as_it_answers() {
        let cases = [
            ("f.f.f.f.f", "open"),
            ("f.f.f.f.fp", "half-open"),
            ("f.f.f.f.fpa.p", "closed"),
            ("f.f.f.f.fpfp", "half-open"),
        ];
        for (events, expected) in cases {
            assert_eq!(Story::new(false).tell(events), expected, "{events}");
        }
    }

    #[test]
    fn a_replica_that_becomes_the_primary_is_tried_at_once() {
        let mut story = Story::new(true);
        assert_eq!(story.tell("f.f.f.f.fp"), "open");
        story.traffic.is_spared = false;
        assert_eq!(story.tell("p"), "half-open");
    }

    #[test]
    fn servers_that_failed_together_are_not_tried_together() {
        let until = |spread| {
            let mut story = Story::new(true);
            story.traffic.spread = spread;
            story.tell("f.f.f.f.f");
            match story.breaker {
                Breaker::Open { until, .. } => until - story.start,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(until(0.0), 64 * SECOND);
        assert_eq!(until(1.0), 76 * SECOND);
    }
}
