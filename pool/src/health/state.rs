//! Whether one server may be used: a state machine fed by probes and by traffic.
//!
//! Pure: time and randomness are passed in. A server serves nothing before its
//! first good probe. It goes down after some failures in a row, or at once when it
//! refuses connections, and comes back after some good probes in a row; the more
//! often it has come and gone lately, the more of them. While it is down it is
//! asked ever less often, up to a limit.

use super::breaker::Limits;
use crate::open::OpenError;
use mothership_proto::auth::ServerLoginError;
use rand::{Rng, RngExt};
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

/// When a server counts as dead or alive, and how often it is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// Time between two probes of a healthy server. Also: a failure seen by traffic counts once in so long.
    pub interval: Duration,
    /// Time between probes while something is going on: writes are being acknowledged, or the group has no primary. Also the first pause after
    /// a failure, which doubles each time.
    pub quick_interval: Duration,
    /// The longest pause between probes of a server that is down.
    pub pause_max: Duration,
    /// An unanswered probe, connecting included, has failed after so long.
    pub timeout: Duration,
    /// Failures in a row after which a server is down.
    pub down_after: u32,
    /// Good probes in a row after which it is up again.
    pub up_after: u32,
    /// A server that goes down again within so long after it came up needs twice as many good probes, up to eight times as many.
    pub flap_window: Duration,
    /// The name of a server is looked up again after so long, to see whether it means another one now.
    pub resolve_interval: Duration,
    /// When a server that answers probes gets no traffic, because that fails.
    pub breaker: Limits,
}

impl Default for Watch {
    fn default() -> Self {
        Watch {
            interval: Duration::from_secs(1),
            quick_interval: Duration::from_millis(100),
            pause_max: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            down_after: 3,
            up_after: 2,
            flap_window: Duration::from_secs(60),
            resolve_interval: Duration::from_secs(15),
            breaker: Limits::default(),
        }
    }
}

/// Why a probe, or a client's connection attempt, failed. A client's own errors (a
/// wrong password, a statement that fails) are none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens, or there is no way to the host.
    Refused,
    /// The server says that it starts, stops or crashed (57P01, 57P02, 57P03).
    NotReady,
    /// The connection broke.
    Broken,
    /// No answer in time.
    TimedOut,
    /// The server answers but does not let the probe in, with this SQLSTATE.
    Rejected([u8; 5]),
    /// TLS was demanded and could not be had, or the answer made no sense.
    Unusable,
}

impl Failure {
    /// What a pool's failed attempt to open a connection says about the server: nothing when it answered and refused this
    /// client only, or when this process or its machine has run out of something.
    pub fn of_opening(error: &OpenError) -> Option<Failure> {
        match error {
            OpenError::Connect { cause, .. } => Failure::of_connecting(cause),
            OpenError::TimedOut { .. } => Some(Failure::TimedOut),
            OpenError::Broken { .. } => Some(Failure::Broken),
            OpenError::Login {
                cause: ServerLoginError::Refused(refused),
                ..
            } => refused.sqlstate.as_deref().and_then(Failure::of_sqlstate),
            OpenError::Login { .. } => None,
            OpenError::NoTls { .. }
            | OpenError::SslAnswer { .. }
            | OpenError::Tls { .. }
            | OpenError::Frame { .. } => Some(Failure::Unusable),
        }
    }

    /// What a system call's error says about the server; nothing if it never got as far as that.
    pub fn of_connecting(error: &io::Error) -> Option<Failure> {
        use io::ErrorKind as Kind;
        if error.raw_os_error().is_some_and(is_our_own) {
            return None;
        }
        Some(match error.kind() {
            // No socket file is as good as nobody listening.
            Kind::ConnectionRefused | Kind::NotFound => Failure::Refused,
            Kind::HostUnreachable | Kind::NetworkUnreachable => Failure::Refused,
            Kind::TimedOut => Failure::TimedOut,
            Kind::InvalidData | Kind::Unsupported => Failure::Unusable,
            _ => Failure::Broken,
        })
    }

    /// A server that says why it takes nobody. Other errors are the client's.
    pub fn of_sqlstate(code: &str) -> Option<Failure> {
        matches!(code, "57P01" | "57P02" | "57P03").then_some(Failure::NotReady)
    }

    /// Whether there is no point in waiting for a second one.
    fn is_certain(self) -> bool {
        matches!(self, Failure::Refused | Failure::NotReady)
    }
}

/// Whether an error of connect(2), or of socket(2) before it, says that we have no descriptors, local ports or memory.
fn is_our_own(code: i32) -> bool {
    matches!(
        code,
        libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL | libc::ENOBUFS | libc::ENOMEM
    )
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused => f.write_str("connection refused"),
            Failure::NotReady => f.write_str("server is starting, stopping or crashed"),
            Failure::Broken => f.write_str("connection broke"),
            Failure::TimedOut => f.write_str("no answer in time"),
            Failure::Rejected(code) => {
                write!(f, "probe rejected with {}", String::from_utf8_lossy(code))
            }
            Failure::Unusable => f.write_str("unusable answer"),
        }
    }
}

/// The state of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has not answered yet. `tried` once a probe has failed.
    Unknown {
        /// The last failure.
        tried: Option<Failure>,
    },
    /// It serves.
    Up,
    /// It does not.
    Down {
        /// The last failure.
        reason: Failure,
    },
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Unknown { .. } => "unknown",
            State::Up => "up",
            State::Down { .. } => "down",
        })
    }
}

/// One server's health.
#[derive(Clone, Debug)]
pub struct ServerHealth {
    state: State,
    since: Instant,
    /// Failures in a row.
    failures: u32,
    /// When the last failure seen by traffic was counted.
    counted: Option<Instant>,
    /// Good probes in a row.
    good: u32,
    /// How often it went down shortly after it came up.
    flaps: u32,
}

impl ServerHealth {
    /// A server of which nothing is known.
    pub fn new(now: Instant) -> Self {
        ServerHealth {
            state: State::Unknown { tried: None },
            since: now,
            failures: 0,
            counted: None,
            good: 0,
            flaps: 0,
        }
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.state
    }

    /// When it came into this state.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Whether it serves.
    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// Whether its first probe has ended, well or not.
    pub fn was_asked(&self) -> bool {
        self.state != State::Unknown { tried: None }
    }

    /// A probe was answered.
    pub fn on_good(&mut self, now: Instant, watch: &Watch) {
        self.failures = 0;
        self.good = self.good.saturating_add(1);
        let needed = watch.up_after.max(1) << self.flaps.min(3);
        match self.state {
            State::Up if self.flaps > 0 && now.duration_since(self.since) > watch.flap_window => {
                self.flaps = 0;
            }
            State::Up => {}
            // The first answer of all is enough: nothing speaks against the server.
            State::Unknown { .. } => self.change(State::Up, now),
            State::Down { .. } if self.good >= needed => self.change(State::Up, now),
            State::Down { .. } => {}
        }
    }

    /// A probe failed.
    pub fn on_failed_probe(&mut self, failure: Failure, now: Instant, watch: &Watch) {
        self.good = 0;
        self.failures = self.failures.saturating_add(1);
        match self.state {
            State::Unknown { .. } => {
                self.state = State::Unknown {
                    tried: Some(failure),
                }
            }
            State::Down { .. } => self.state = State::Down { reason: failure },
            State::Up if failure.is_certain() || self.failures >= watch.down_after => {
                if now.duration_since(self.since) < watch.flap_window {
                    self.flaps = self.flaps.saturating_add(1);
                }
                self.change(State::Down { reason: failure }, now);
            }
            State::Up => {}
        }
    }

    /// A client's connection attempt failed. Many of them at once have one cause, so they count as one in each interval.
    pub fn on_failed_connect(&mut self, failure: Failure, now: Instant, watch: &Watch) {
        let counts = self
            .counted
            .is_none_or(|at| now.duration_since(at) >= watch.interval);
        // What is not up is judged by probes alone: a failure from before would delay its return.
        if self.is_up() && (counts || failure.is_certain()) {
            self.counted = Some(now);
            self.on_failed_probe(failure, now, watch);
        }
    }

    /// How long to wait before the next probe. `busy` when more than usual depends on it: then also a server that is down
    /// is asked as often as one that is up.
    pub fn pause(&self, busy: bool, watch: &Watch, rng: &mut impl Rng) -> Duration {
        let quick = watch.quick_interval.min(watch.interval);
        let pause = match self.failures {
            0 if busy || !self.is_up() => quick,
            0 => watch.interval,
            // Doubling from the quick interval; 2^20 of it is past any limit.
            failures => quick
                .saturating_mul(1 << (failures - 1).min(20))
                .min(match busy {
                    true => watch.interval,
                    false => watch.pause_max.max(quick),
                }),
        };
        // Servers that failed together are not asked together.
        pause.mul_f64(rng.random_range(0.8..1.0))
    }

    fn change(&mut self, state: State, now: Instant) {
        self.state = state;
        self.since = now;
        self.good = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    const SECOND: Duration = Duration::from_secs(1);

    struct Story {
        health: ServerHealth,
        now: Instant,
        watch: Watch,
    }

    impl Story {
        fn new() -> Story {
            let now = Instant::now();
            Story {
                health: ServerHealth::new(now),
                now,
                watch: Watch::default(),
            }
        }

        /// `g`ood probe, `t`imed out, `r`efused, `R`efused to traffic, `T`imed out to traffic, `.` a second passes,
        /// `_` two minutes pass.
        fn tell(&mut self, events: &str) -> String {
            for event in events.chars() {
                match event {
                    'g' => self.health.on_good(self.now, &self.watch),
                    't' => self.probe(Failure::TimedOut),
                    'r' => self.probe(Failure::Refused),
                    'T' => self.traffic(Failure::TimedOut),
                    'R' => self.traffic(Failure::Refused),
                    '.' => self.now += SECOND,
                    '_' => self.now += 120 * SECOND,
                    other => panic!("{other}"),
                }
            }
            self.health.state().to_string()
        }

        fn probe(&mut self, failure: Failure) {
            self.health.on_failed_probe(failure, self.now, &self.watch);
        }

        fn traffic(&mut self, failure: Failure) {
            self.health
                .on_failed_connect(failure, self.now, &self.watch);
        }
    }

    #[test]
    fn servers_come_and_go_as_told() {
        let cases = [
            ("", "unknown"),
            // I#1309: nothing before the first good probe, and one is enough.
            ("ttttrr", "unknown"),
            ("R", "unknown"),
            ("g", "up"),
            ("tttg", "up"),
            // Three failures in a row, not two; good probes between start anew.
            ("gtt", "up"),
            ("gttgtt", "up"),
            ("gttt", "down"),
            // I#785: a refused connection counts at once, by probe or by traffic.
            ("gr", "down"),
            ("gR", "down"),
            // A burst of failed connects counts once, a steady trickle counts.
            ("gTTTTTTTT", "up"),
            ("gT.T.T", "down"),
            ("gT.tt", "down"),
            // Back after two good probes, if it was up for long before.
            ("g_rg", "down"),
            ("g_rgg", "up"),
            ("g_rgtg", "down"),
            ("g_rgRg", "up"),
            // It flaps: two, then four, eight, sixteen, and no more than that.
            ("g_rggrggg", "down"),
            ("g_rggrgggg", "up"),
            ("g_rggrggggrggggggg", "down"),
            ("g_rggrggggrgggggggg", "up"),
            ("g_rggrggggrggggggggrgggggggggggggggg", "up"),
            (
                "g_rggrggggrggggggggrggggggggggggggggrgggggggggggggggg",
                "up",
            ),
            // Long calm makes good.
            ("g_rggrgggg_grgg", "up"),
        ];
        for (events, expected) in cases {
            assert_eq!(Story::new().tell(events), expected, "{events}");
        }
    }

    #[test]
    fn what_this_process_has_run_out_of_says_nothing_about_a_server() {
        let of = |code| Failure::of_connecting(&io::Error::from_raw_os_error(code));
        for code in [
            libc::EMFILE,
            libc::ENFILE,
            libc::EADDRNOTAVAIL,
            libc::ENOBUFS,
            libc::ENOMEM,
        ] {
            assert_eq!(of(code), None, "{code}");
            let cause = io::Error::from_raw_os_error(code);
            let address = crate::endpoint::Address::Tcp("db".into(), 5432);
            let error = OpenError::Connect { address, cause };
            assert_eq!(Failure::of_opening(&error), None, "{code}");
        }
        for (code, failure) in [
            (libc::ECONNREFUSED, Failure::Refused),
            (libc::EHOSTUNREACH, Failure::Refused),
            (libc::ENETUNREACH, Failure::Refused),
            (libc::ETIMEDOUT, Failure::TimedOut),
            (libc::ECONNRESET, Failure::Broken),
            (libc::EPIPE, Failure::Broken),
        ] {
            assert_eq!(of(code), Some(failure), "{code}");
        }
    }

    #[test]
    fn a_dead_server_is_asked_ever_less_often_and_never_less_than_the_limit() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut story = Story::new();
        let watch = story.watch.clone();
        let mut pause = |story: &Story, busy| story.health.pause(busy, &watch, &mut rng);
        story.tell("g");
        let within = |pause: Duration, full: Duration| {
            assert!(
                pause <= full && pause >= full.mul_f64(0.79),
                "{pause:?} {full:?}"
            );
        };
        within(pause(&story, false), SECOND);
        within(pause(&story, true), SECOND / 10);
        for tenths in [1, 2, 4, 8, 16, 32, 50, 50, 50] {
            story.tell("r");
            within(pause(&story, false), SECOND * tenths / 10);
        }
        // On its way back it is asked quickly.
        story.tell("g");
        within(pause(&story, false), SECOND / 10);
    }
}
