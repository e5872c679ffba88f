//! Whether one server may be used: a state machine fed by probes and by traffic.
//!
//! Pure: time and randomness are passed in. A server serves nothing before its first good probe. It goes down after
//! some failures in a row, or at once when it refuses connections. It comes up again after some good probes in a row; a
//! server that flaps needs more of them. While a server is down, the pause between its probes grows up to a limit.

use super::breaker::Limits;
use crate::open::OpenError;
use mothership_proto::auth::ServerLoginError;
use rand::{Rng, RngExt};
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

/// When a server is down or up, and how often it is probed.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// Time between two probes of a healthy server. Also: of all failed connects of clients, at most one counts in this time.
    pub interval: Duration,
    /// Time between probes when it matters more: writes are being acknowledged, or the group has no primary. Also the first
    /// pause after a failure; it doubles with each further failure.
    pub quick_interval: Duration,
    /// The longest pause between probes of a server that is down.
    pub pause_max: Duration,
    /// A probe without an answer fails after this time, connecting included.
    pub timeout: Duration,
    /// Failures in a row after which a server is down.
    pub down_after: u32,
    /// Good probes in a row after which it is up again.
    pub up_after: u32,
    /// A server flaps if it goes down within this time after it came up. Each flap doubles the number of good probes that it
    /// needs, up to eight times `up_after`.
    pub flap_window: Duration,
    /// How often the server's name is resolved again, to notice a new address.
    pub resolve_interval: Duration,
    /// When a server that answers probes gets no requests, because requests to it fail.
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
    /// The connection was refused, or the host cannot be reached.
    Refused,
    /// The server says that it starts, stops or crashed (57P01, 57P02, 57P03).
    NotReady,
    /// The connection broke.
    Broken,
    /// No answer in time.
    TimedOut,
    /// The server answers but does not let the probe in, with this SQLSTATE.
    Rejected([u8; 5]),
    /// TLS is required and not available, or the answer could not be understood.
    Unusable,
}

impl Failure {
    /// What a pool's failed connect says about the server. `None` if the server refused only this client, or if this process or
    /// machine has run out of something.
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

    /// What the error of a system call says about the server. `None` if the cause is this process or machine.
    pub fn of_connecting(error: &io::Error) -> Option<Failure> {
        use io::ErrorKind as Kind;
        if error.raw_os_error().is_some_and(is_our_own) {
            return None;
        }
        Some(match error.kind() {
            // A missing socket file means that nobody listens.
            Kind::ConnectionRefused | Kind::NotFound => Failure::Refused,
            Kind::HostUnreachable | Kind::NetworkUnreachable => Failure::Refused,
            Kind::TimedOut => Failure::TimedOut,
            Kind::InvalidData | Kind::Unsupported => Failure::Unusable,
            _ => Failure::Broken,
        })
    }

    /// A failure if the SQLSTATE says that the server takes no connections. All other errors concern only the client.
    pub fn of_sqlstate(code: &str) -> Option<Failure> {
        matches!(code, "57P01" | "57P02" | "57P03").then_some(Failure::NotReady)
    }

    /// Whether one such failure is enough to take the server down.
    fn is_conclusive(self) -> bool {
        matches!(self, Failure::Refused | Failure::NotReady)
    }
}

/// Whether an error of socket(2) or connect(2) means that this machine has no descriptors, ports or memory left.
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
    /// No probe was answered yet. `tried` is set once a probe has failed.
    Unknown {
        /// The last failure.
        tried: Option<Failure>,
    },
    /// The server is up.
    Up,
    /// The server is down.
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
    /// When the last failed connect of a client was counted.
    failed_connect_at: Option<Instant>,
    /// Good probes in a row.
    good: u32,
    /// How often it went down shortly after it came up (at most three count).
    flaps: u32,
}

impl ServerHealth {
    /// A server of which nothing is known.
    pub fn new(now: Instant) -> Self {
        ServerHealth {
            state: State::Unknown { tried: None },
            since: now,
            failures: 0,
            failed_connect_at: None,
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

    /// Whether a first probe has ended, good or failed.
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
            // One good probe is enough for a server that was never up.
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
            State::Up if failure.is_conclusive() || self.failures >= watch.down_after => {
                if now.duration_since(self.since) < watch.flap_window {
                    self.flaps = self.flaps.saturating_add(1);
                }
                self.change(State::Down { reason: failure }, now);
            }
            State::Up => {}
        }
    }

    /// A client's connect failed. At most one counts in each interval, because one cause fails many at once. A conclusive one
    /// always counts.
    pub fn on_failed_connect(&mut self, failure: Failure, now: Instant, watch: &Watch) {
        let counts = self
            .failed_connect_at
            .is_none_or(|at| now.duration_since(at) >= watch.interval);
        // A server that is not up is judged by probes only: a late failure of a connect would keep it down longer.
        if self.is_up() && (counts || failure.is_conclusive()) {
            self.failed_connect_at = Some(now);
            self.on_failed_probe(failure, now, watch);
        }
    }

    /// The pause before the next probe. With `busy` (writes, or no primary), a server that is down is also probed at least once
    /// per interval.
    pub fn pause(&self, busy: bool, watch: &Watch, rng: &mut impl Rng) -> Duration {
        let quick = watch.quick_interval.min(watch.interval);
        let pause = match self.failures {
            0 if busy || !self.is_up() => quick,
            0 => watch.interval,
            // The pause doubles from the quick interval.
            failures => {
                let max = watch.pause_max.max(quick);
                let max = if busy { max.min(watch.interval) } else { max };
                quick.saturating_mul(1 << (failures - 1).min(20)).min(max)
            }
        };
        // Jitter, so that servers that failed together are not probed together.
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
    fn servers_go_up_and_down_after_these_events() {
        let cases = [
            ("", "unknown"),
            // Nothing before the first good probe, and one is enough.
            ("ttttrr", "unknown"),
            ("R", "unknown"),
            ("g", "up"),
            ("tttg", "up"),
            // Three failures in a row take it down, not two. A good probe between them resets the count.
            ("gtt", "up"),
            ("gttgtt", "up"),
            ("gttt", "down"),
            // A refused connection counts at once, by probe or by traffic.
            ("gr", "down"),
            ("gR", "down"),
            // A burst of failed connects counts once; one failed connect per second counts each time.
            ("gTTTTTTTT", "up"),
            ("gT.T.T", "down"),
            ("gT.tt", "down"),
            // Back after two good probes, if it was up for long before.
            ("g_rg", "down"),
            ("g_rgg", "up"),
            ("g_rgtg", "down"),
            ("g_rgRg", "up"),
            // A flapping server needs 2, then 4, 8 and 16 good probes, and never more.
            ("g_rggrggg", "down"),
            ("g_rggrgggg", "up"),
            ("g_rggrggggrggggggg", "down"),
            ("g_rggrggggrgggggggg", "up"),
            ("g_rggrggggrggggggggrgggggggggggggggg", "up"),
            (
                "g_rggrggggrggggggggrggggggggggggggggrgggggggggggggggg",
                "up",
            ),
            // After two minutes up the flaps are forgotten.
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
    fn the_pause_of_a_dead_server_doubles_up_to_a_limit() {
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
        // After its first good probe it is probed quickly.
        story.tell("g");
        within(pause(&story, false), SECOND / 10);
        // A long interval between probes is not waited for.
        story.tell("rrrrrrrrr");
        let rare = Watch {
            interval: SECOND * 30,
            ..watch.clone()
        };
        for busy in [true, false] {
            let pause = story
                .health
                .pause(busy, &rare, &mut SmallRng::seed_from_u64(7));
            within(pause, rare.pause_max);
        }
    }
}
