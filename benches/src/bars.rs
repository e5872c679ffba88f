//! What the router is to reach beside PgBouncer, and whether it did. Pure: samples become verdicts.

use crate::case::{Case, Mode, Work};
use crate::figures::{CALLS, CPU, MACHINE, Measure, P50, P99, Samples, Spread, TPS};
use crate::idle::Idle;
use crate::planning::{Planning, Route};
use crate::stage::Target;
use mothership_driver::order::Ask;
use std::fmt;

/// The target that others are compared with, where nothing else is said.
pub const BASE: &str = "pgbouncer";
/// PgBouncer before as many servers as there are shards.
const SPREAD: &str = "pgbouncer-shards";
/// The one that is compared with in what is about documents.
const DRIVER: &str = "driver";

/// The target that others are compared with in a work.
pub fn base(work: Work) -> &'static str {
    match work.ask() {
        Some(_) => DRIVER,
        None => BASE,
    }
}

/// A median may miss its bar by so much if the interval of the ratios reaches it.
const TOLERANCE: f64 = 0.02;

/// What a figure is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// The figure of this target in the same round: the bar is about the ratio of the two.
    Ratio(&'static str),
    /// Nothing: the bar is about the figure itself. That of this target is told.
    Itself(&'static str),
}

impl Beside {
    /// The other target.
    pub fn target(self) -> &'static str {
        match self {
            Beside::Ratio(target) | Beside::Itself(target) => target,
        }
    }
}

/// On which side of the bar a ratio, or a figure, has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Not above.
    AtMost(f64),
    /// Not below.
    AtLeast(f64),
    /// There is no bar: it is only told.
    None,
}

impl Limit {
    /// Whether what was found in the rounds holds it.
    pub fn holds(self, ratio: &Spread) -> bool {
        let (low, high) = ratio.interval;
        match self {
            Limit::AtMost(bar) => low <= bar && ratio.median <= bar * (1.0 + TOLERANCE),
            Limit::AtLeast(bar) => high >= bar && ratio.median >= bar * (1.0 - TOLERANCE),
            Limit::None => true,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::AtMost(bar) => write!(f, "<= {bar:.2}"),
            Limit::AtLeast(bar) => write!(f, ">= {bar:.2}"),
            Limit::None => f.write_str("no bar"),
        }
    }
}

/// What is to be reached by a figure of a target.
#[derive(Debug, Clone, Copy)]
pub struct Bar {
    /// The target's name.
    pub target: &'static str,
    /// What is asked.
    pub case: Case,
    /// What the figure is.
    pub figure: &'static str,
    /// The figure.
    pub measure: Measure,
    /// What it is held against.
    pub beside: Beside,
    /// Its bar.
    pub limit: Limit,
}

/// The names of figures.
const PROXY: &str = "CPU of the proxy";
const ALL: &str = "CPU of the machine";
const SPEED: &str = "transactions/s";
const EACH_MB: &str = "CPU of the proxy for each MB";
const ROWS: &str = "rows/s";
const EACH_ROW: &str = "CPU of the proxy for each row";
const SYSTEM_CALLS: &str = "system calls of the proxy";

/// All of them, in the order in which they are told.
pub fn all() -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut add = |target, case, figure, measure, limit| {
        bars.push(Bar {
            target,
            case,
            figure,
            measure,
            beside: Beside::Ratio(BASE),
            limit,
        });
    };
    let most = Limit::AtMost;
    for (mode, prices) in [
        (Mode::Simple, [1.05, 0.95, 0.82]),
        (Mode::Extended, [1.05, 0.92, 0.82]),
        (Mode::Prepared, [1.00, 0.85, 0.75]),
    ] {
        for (clients, price) in [1, 16, 64].into_iter().zip(prices) {
            add(
                "shards",
                Case::select(mode, clients),
                PROXY,
                CPU,
                most(price),
            );
        }
    }
    add(
        "shards",
        Case::select(Mode::Simple, 64),
        ALL,
        MACHINE,
        most(0.90),
    );
    for mode in Mode::ALL {
        for (clients, speed) in [(1, 0.97), (64, 1.10)] {
            let case = Case::select(mode, clients);
            add("shards", case, SPEED, TPS, Limit::AtLeast(speed));
        }
    }
    for (target, prices) in [("pool", [0.92, 0.80]), ("shards-plain", [1.05, 0.90])] {
        for mode in Mode::ALL {
            for (clients, price) in [16, 64].into_iter().zip(prices) {
                add(target, Case::select(mode, clients), PROXY, CPU, most(price));
            }
        }
    }
    for case in Case::OTHERS {
        match case.work {
            Work::Select | Work::Traced | Work::Copy | Work::Documents(_) => {}
            Work::Paced(_) => {
                add("shards", case, "p50", P50, most(1.0));
                add("shards", case, "p99", P99, most(1.0));
            }
            Work::Connect | Work::Login => add("shards", case, PROXY, CPU, most(1.0)),
            Work::Branch => add("shards", case, PROXY, CPU, most(0.95)),
            Work::Pipeline(_) => add("shards", case, PROXY, CPU, most(0.70)),
            Work::Rows => add("shards", case, EACH_MB, CPU, most(1.0)),
        }
    }
    bars.extend(equals());
    for case in Case::OTHERS {
        match case.work {
            Work::Copy => bars.push(Bar {
                target: "shards",
                case,
                figure: ROWS,
                measure: TPS,
                beside: Beside::Ratio("direct"),
                limit: Limit::AtLeast(0.90),
            }),
            Work::Traced => {
                for (target, calls) in [("shards", 2.8), ("shards-plain", 4.4)] {
                    bars.push(Bar {
                        target,
                        case,
                        figure: SYSTEM_CALLS,
                        measure: CALLS,
                        beside: Beside::Itself(BASE),
                        limit: most(calls),
                    });
                }
            }
            _ => {}
        }
    }
    for case in Case::OTHERS {
        let (figure, price, wait) = match case.work.ask() {
            Some(Ask::Find) => (PROXY, most(1.3), most(1.3)),
            Some(Ask::Scan) => (EACH_ROW, most(1.5), Limit::None),
            Some(Ask::Group) => (PROXY, Limit::None, Limit::None),
            Some(Ask::Insert) => (EACH_ROW, Limit::None, Limit::None),
            None => continue,
        };
        for (figure, measure, limit) in [(figure, CPU, price), ("p50", P50, wait)] {
            bars.push(Bar {
                target: "documents",
                case,
                figure,
                measure,
                beside: Beside::Ratio(DRIVER),
                limit,
            });
        }
    }
    bars
}

/// Comparisons of like with like, which are only told: the router that routes beside PgBouncer before the same servers, and
/// the router as a pooler where its threads do not help it.
fn equals() -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut add = |target, case, beside, figures: &[(&'static str, Measure)]| {
        bars.extend(figures.iter().map(|(figure, measure)| Bar {
            target,
            case,
            figure,
            measure: *measure,
            beside: Beside::Ratio(beside),
            limit: Limit::None,
        }));
    };
    let both = [(PROXY, CPU), (SPEED, TPS)];
    for mode in Mode::ALL {
        for clients in [16, 64] {
            add("shards", Case::select(mode, clients), SPREAD, &both);
        }
        add("pool", Case::select(mode, 1), BASE, &both);
    }
    let paced = |case: &Case| matches!(case.work, Work::Paced(_));
    for case in Case::OTHERS.into_iter().filter(paced) {
        for (target, beside) in [("shards", SPREAD), ("pool", BASE)] {
            add(target, case, beside, &[("p50", P50), ("p99", P99)]);
        }
    }
    bars
}

/// What was measured for a bar.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// What is held against the bar: ratios of the rounds, or figures.
    pub judged: Spread,
    /// The median of the figure.
    pub ours: f64,
    /// The median of the other target's, if it was measured.
    pub theirs: Option<f64>,
}

/// A bar with what was measured, if it was.
#[derive(Debug, Clone, Copy)]
pub struct Verdict {
    /// The bar.
    pub bar: Bar,
    /// What was measured for it.
    pub measured: Option<Measured>,
}

impl Verdict {
    /// Whether it was measured and not reached.
    pub fn is_missed(&self) -> bool {
        self.measured
            .is_some_and(|measured| !self.bar.limit.holds(&measured.judged))
    }

    /// In a word.
    pub fn word(&self) -> &'static str {
        match self.measured {
            None => "not measured",
            Some(_) if self.bar.limit == Limit::None => "",
            Some(_) if self.is_missed() => "MISSED",
            Some(_) => "holds",
        }
    }
}

/// A figure that is not to exceed a number, whatever others need.
#[derive(Debug, Clone)]
pub struct Level {
    /// What it is.
    pub what: String,
    /// What was measured.
    pub value: f64,
    /// The most that it may be; none where it is only told.
    pub most: Option<f64>,
}

impl Level {
    /// Whether it exceeds that.
    pub fn is_missed(&self) -> bool {
        self.most.is_some_and(|most| self.value > most)
    }

    /// In a word.
    pub fn word(&self) -> &'static str {
        match (self.most, self.is_missed()) {
            (None, _) => "",
            (_, true) => "MISSED",
            (_, false) => "holds",
        }
    }
}

/// All levels of a run.
#[derive(Debug, Clone, Default)]
pub struct Levels {
    /// Of silent clients.
    pub silent: Vec<Level>,
    /// Of planning.
    pub planned: Vec<Level>,
}

impl Levels {
    /// Those that were measured, with what they are about.
    pub fn titled(&self) -> impl Iterator<Item = (&'static str, &[Level])> {
        let silent =
            "clients that are connected and silent, of proxies that nobody has used before";
        let planned = "planning, in parses of the same text by sqlparser, as geometric mean over four statements";
        [(silent, &self.silent[..]), (planned, &self.planned[..])]
            .into_iter()
            .filter(|(_, levels)| !levels.is_empty())
    }

    /// How many bars are missed.
    pub fn missed(&self) -> usize {
        let all = self.silent.iter().chain(&self.planned);
        all.filter(|level| level.is_missed()).count()
    }
}

/// What silent clients of a target come to; bars are only for the router.
pub fn levels(idle: &Idle) -> Vec<Level> {
    let judged = ![BASE, Target::Earlier.name()].contains(&idle.target);
    let level = |what: &str, value: f64, most: f64| Level {
        what: format!("{}: {what}", idle.target),
        value,
        most: judged.then_some(most),
    };
    let mut levels = vec![
        level("bytes for each silent client", idle.unused, 2048.0),
        level("the same, each having sent a query", idle.used, 2048.0),
        level("% of a core for 5,000 of them", idle.cpu, 0.2),
    ];
    let told = |what: &str, value: f64| Level {
        what: format!("{}: {what}", idle.target),
        value,
        most: None,
    };
    levels.push(level("MB for 15,000 of them", idle.crowd() / 1e6, 60.0));
    levels.push(told(
        "bytes for each, the slope between 1,000 and 15,000",
        idle.slope(),
    ));
    levels.push(told(
        "MB for 100,000 of them at that slope, reckoned",
        idle.reckoned(100_000) / 1e6,
    ));
    levels.push(told(
        "transactions/s of 1,000 active ones beside these 15,000, no error",
        idle.active,
    ));
    levels
}

/// What planning comes to, beside one parse of the same text.
pub fn of_planning(planning: &Planning) -> Vec<Level> {
    let mut levels = Vec::new();
    for route in Route::ALL {
        let (what, most) = match route {
            Route::Known => ("a text of a known shape", Some(0.10)),
            Route::Bind => ("a prepared statement at Bind", Some(0.05)),
            Route::New => ("a text of a new shape", Some(2.5)),
            Route::Second => ("the second text of a shape, whose plan is kept", None),
        };
        let (mean, (worst, name)) = (planning.mean(route), planning.worst(route));
        levels.push(Level {
            what: what.to_owned(),
            value: mean,
            most,
        });
        levels.push(Level {
            what: format!("{what}: the worst, {name}"),
            value: worst,
            most: None,
        });
    }
    levels
}

/// What the samples say of each bar.
pub fn verdicts(samples: &Samples) -> Vec<Verdict> {
    let verdict = |bar: Bar| {
        let Bar {
            target,
            case,
            measure,
            ..
        } = bar;
        let ours = samples.of(target, case, measure);
        let theirs = samples.of(bar.beside.target(), case, measure);
        let judged = match bar.beside {
            Beside::Ratio(other) => samples.ratio(target, other, case, measure),
            Beside::Itself(_) => ours,
        };
        let measured = judged.zip(ours).map(|(judged, ours)| Measured {
            judged,
            ours: ours.median,
            theirs: theirs.map(|theirs| theirs.median),
        });
        Verdict { bar, measured }
    };
    all().into_iter().map(verdict).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::figures::{Figures, Sample};

    fn samples(ours: &[f64]) -> Samples {
        let mut samples = Samples::default();
        for (round, ours) in (0..).zip(ours) {
            for (target, cpu) in [(BASE, 10.0), ("shards", ours * 10.0)] {
                let figures = Figures {
                    transactions: 1,
                    tps: 1.0,
                    cpu: Some(cpu),
                    machine: None,
                    calls: None,
                    connecting: 0.0,
                    latency: None,
                };
                let case = Case::select(Mode::Simple, 16);
                samples.push(Sample {
                    target,
                    case,
                    round,
                    figures,
                });
            }
        }
        samples
    }

    /// The bar there is 0.95.
    fn word(ours: &[f64]) -> &'static str {
        let verdicts = verdicts(&samples(ours));
        let bar = verdicts.iter().find(|v| v.bar.limit == Limit::AtMost(0.95));
        bar.unwrap().word()
    }

    #[test]
    fn a_bar_holds_when_the_interval_reaches_it_and_the_median_nearly_does() {
        assert_eq!(word(&[0.90, 0.91, 0.92]), "holds");
        assert_eq!(word(&[0.94, 0.96, 0.97]), "holds", "within two percent");
        assert_eq!(word(&[0.96, 0.96, 0.96]), "MISSED", "no round reached it");
        assert_eq!(word(&[0.80, 0.98, 0.99]), "MISSED", "the median is too far");
        assert_eq!(word(&[]), "not measured");
    }

    #[test]
    fn a_bar_from_below_is_the_mirror_of_one_from_above() {
        let holds = |values: [f64; 3]| Limit::AtLeast(1.1).holds(&Spread::of(values).unwrap());
        assert!(holds([1.05, 1.09, 1.12]));
        assert!(!holds([1.05, 1.07, 1.12]));
        assert!(!holds([1.09, 1.09, 1.09]));
    }

    /// What is said of the bar of a target in a case, with these figures of one round.
    fn judged(target: &str, work: Work, figures: &[(&'static str, Figures)]) -> Verdict {
        let case = Case::OTHERS.into_iter().find(|case| case.work == work);
        let case = case.unwrap();
        let mut samples = Samples::default();
        for (target, figures) in figures.iter().cloned() {
            samples.push(Sample {
                target,
                case,
                round: 0,
                figures,
            });
        }
        let mut verdicts = verdicts(&samples).into_iter();
        let found = verdicts.find(|v| v.bar.target == target && v.bar.case == case);
        found.unwrap()
    }

    fn figures(tps: f64, calls: Option<f64>) -> Figures {
        Figures {
            transactions: 1,
            tps,
            cpu: None,
            machine: None,
            calls,
            connecting: 0.0,
            latency: None,
        }
    }

    #[test]
    fn calls_are_judged_by_themselves_and_stand_beside_those_of_the_other() {
        let ours = ("shards", figures(1.0, Some(2.7)));
        let alone = judged("shards", Work::Traced, std::slice::from_ref(&ours));
        assert_eq!(alone.word(), "holds");
        assert_eq!(alone.measured.unwrap().theirs, None);
        let theirs = (BASE, figures(1.0, Some(2.0)));
        let both = judged("shards", Work::Traced, &[ours, theirs]);
        assert_eq!(
            both.word(),
            "holds",
            "that the other makes fewer is no matter"
        );
        assert_eq!(both.measured.unwrap().theirs, Some(2.0));
        let many = [("shards", figures(1.0, Some(3.0)))];
        assert_eq!(judged("shards", Work::Traced, &many).word(), "MISSED");
    }

    #[test]
    fn rows_copied_in_are_held_against_postgresql_itself() {
        let told = |ours| {
            let direct = ("direct", figures(1_000.0, None));
            let pgbouncer = (BASE, figures(1.0, None));
            judged(
                "shards",
                Work::Copy,
                &[direct, pgbouncer, ("shards", figures(ours, None))],
            )
        };
        assert_eq!(told(950.0).word(), "holds");
        assert_eq!(told(800.0).word(), "MISSED");
        assert_eq!(told(800.0).measured.unwrap().judged.median, 0.8);
    }

    #[test]
    fn every_bar_is_of_a_case_that_is_measured() {
        let select = |case: &Case| case.work == Work::Select;
        for bar in all() {
            assert!(
                select(&bar.case) || Case::OTHERS.contains(&bar.case),
                "{}",
                bar.case
            );
        }
    }
}
