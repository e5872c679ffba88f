//! What the router is to reach beside PgBouncer, and whether it did. Pure: samples become verdicts.

use crate::case::{Case, Mode, Work};
use crate::figures::{CPU, MACHINE, Measure, P50, P99, Samples, Spread, TPS};
use crate::idle::Idle;
use std::fmt;

/// The target that others are compared with.
pub const BASE: &str = "pgbouncer";

/// A median may miss its bar by so much if the interval of the ratios reaches it.
const TOLERANCE: f64 = 0.02;

/// On which side of the bar a ratio has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Not above.
    AtMost(f64),
    /// Not below.
    AtLeast(f64),
}

impl Limit {
    /// Whether the ratios of the rounds hold it.
    pub fn holds(self, ratio: &Spread) -> bool {
        let (low, high) = ratio.interval;
        match self {
            Limit::AtMost(bar) => low <= bar && ratio.median <= bar * (1.0 + TOLERANCE),
            Limit::AtLeast(bar) => high >= bar && ratio.median >= bar * (1.0 - TOLERANCE),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::AtMost(bar) => write!(f, "<= {bar:.2}"),
            Limit::AtLeast(bar) => write!(f, ">= {bar:.2}"),
        }
    }
}

/// A ratio that is to be reached: of a figure of a target to PgBouncer's in the same round.
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
    /// Its bar.
    pub limit: Limit,
}

/// The names of figures.
const PROXY: &str = "CPU of the proxy";
const ALL: &str = "CPU of the machine";
const SPEED: &str = "transactions/s";

/// All of them, in the order in which they are told.
pub fn all() -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut add = |target, case, figure, measure, limit| {
        bars.push(Bar {
            target,
            case,
            figure,
            measure,
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
            Work::Select => {}
            Work::Paced(_) => {
                add("shards", case, "p50", P50, most(1.0));
                add("shards", case, "p99", P99, most(1.0));
            }
            Work::Connect => add("shards", case, PROXY, CPU, most(1.0)),
            Work::Branch => add("shards", case, PROXY, CPU, most(0.95)),
            Work::Pipeline(_) => add("shards", case, PROXY, CPU, most(0.70)),
        }
    }
    bars
}

/// A bar with what was measured, if it was.
#[derive(Debug, Clone, Copy)]
pub struct Verdict {
    /// The bar.
    pub bar: Bar,
    /// The ratios of the rounds, and the medians of ours and of PgBouncer's figure.
    pub measured: Option<(Spread, f64, f64)>,
}

impl Verdict {
    /// Whether it was measured and not reached.
    pub fn is_missed(&self) -> bool {
        self.measured
            .is_some_and(|(ratio, ..)| !self.bar.limit.holds(&ratio))
    }

    /// In a word.
    pub fn word(&self) -> &'static str {
        match self.measured {
            None => "not measured",
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

/// What silent clients of a target come to; bars are only for the router.
pub fn levels(idle: &Idle) -> Vec<Level> {
    let judged = idle.target != BASE;
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
    if let Some(pss) = idle.crowd {
        levels.push(level("MB for 15,000 of them", pss / 1e6, 60.0));
    }
    if let Some(tps) = idle.active {
        levels.push(Level {
            what: format!(
                "{}: transactions/s of 1,000 active ones beside these, no error",
                idle.target
            ),
            value: tps,
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
        let of = |target| Some(samples.of(target, case, measure)?.median);
        let ratio = samples.ratio(target, BASE, case, measure);
        let measured = ratio.and_then(|ratio| Some((ratio, of(target)?, of(BASE)?)));
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
