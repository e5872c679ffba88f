//! What was measured, and the arithmetic of comparing it. Pure: no clock, no process.
//!
//! A figure means little alone. Each round measures every target once, one after the other; a
//! ratio is formed within a round, and what is reported of the rounds is the median of their
//! ratios, with the smallest and the largest beside it.

use crate::case::Case;
use serde_json::{Value, json};

/// What one target did in one case of one round.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The target's name.
    pub target: &'static str,
    /// What was asked.
    pub case: Case,
    /// The round, from 0.
    pub round: u32,
    /// What came of it.
    pub figures: Figures,
}

/// One load. What is called a transaction here is a megabyte where rows are read, and a row where they are copied
/// ([`Work::unit`](crate::case::Work::unit)).
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Transactions carried out.
    pub transactions: u64,
    /// Transactions a second, without the time that connecting took.
    pub tps: f64,
    /// Microseconds of CPU that the proxy used for each transaction, logins included; None without a proxy.
    pub cpu: Option<f64>,
    /// Microseconds of CPU that the whole machine used for each: the proxy, the servers, the client, and whatever else runs.
    pub machine: Option<f64>,
    /// System calls of the proxy for each, logins included, where they were counted.
    pub calls: Option<f64>,
    /// Milliseconds that all clients took to connect; 0 where they do so all the time.
    pub connecting: f64,
    /// Latencies of a sample of the transactions, if there were any in it.
    pub latency: Option<Latency>,
}

/// Milliseconds from a transaction's start to its end, as a client sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// Half of them took no longer.
    pub p50: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
    /// The longest of the sample.
    pub max: f64,
}

impl Latency {
    /// From microseconds in any order.
    pub fn of(mut elapsed: Vec<u64>) -> Option<Latency> {
        elapsed.sort_unstable();
        let last = elapsed.len().checked_sub(1)?;
        // The nearest rank: the smallest value that at least this share does not exceed.
        let rank = |percent: usize| (elapsed.len() * percent).div_ceil(100).saturating_sub(1);
        let at = |rank: usize| elapsed[rank.min(last)] as f64 / 1e3;
        Some(Latency {
            p50: at(rank(50)),
            p99: at(rank(99)),
            max: at(last),
        })
    }
}

/// The middle of some values, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle one; of an even number the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Where the median of very many such values lies, with 95 % confidence.
    pub interval: (f64, f64),
}

impl Spread {
    /// None of no values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        let out = left_out(values.len());
        let interval = (values[out], values[values.len() - 1 - out]);
        Some(Spread {
            median,
            min,
            max,
            interval,
        })
    }
}

/// How many of `n` sorted values may be left out at either end of a 95 % interval for the median.
///
/// Each value is below the median with probability 1/2, whatever their distribution, so the number of those below it is
/// binomial: Conover, Practical Nonparametric Statistics, 3.2. Fewer than six values allow for nothing less than all.
fn left_out(n: usize) -> usize {
    let (mut probability, mut sum) = (0.5f64.powi(i32::try_from(n).unwrap_or(i32::MAX)), 0.0);
    for below in 0..n {
        sum += probability;
        if sum > 0.025 {
            return below.saturating_sub(1);
        }
        probability *= (n - below) as f64 / (below + 1) as f64;
    }
    0
}

/// A figure of a sample, where it has one.
pub type Measure = fn(&Figures) -> Option<f64>;

/// CPU of the proxy for each transaction.
pub const CPU: Measure = |figures| figures.cpu;
/// CPU of the whole machine for each transaction.
pub const MACHINE: Measure = |figures| figures.machine;
/// System calls of the proxy for each transaction.
pub const CALLS: Measure = |figures| figures.calls;
/// Transactions a second.
pub const TPS: Measure = |figures| Some(figures.tps);
/// Median latency.
pub const P50: Measure = |figures| figures.latency.map(|l| l.p50);
/// 99th percentile of latency.
pub const P99: Measure = |figures| figures.latency.map(|l| l.p99);

/// All samples of a run.
#[derive(Debug, Default)]
pub struct Samples(Vec<Sample>);

impl Samples {
    /// Adds one.
    pub fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// A figure of a target over the rounds.
    pub fn of(&self, target: &str, case: Case, measure: Measure) -> Option<Spread> {
        Spread::of(self.rounds(target, case, measure).map(|(_, value)| value))
    }

    /// The ratios of a figure to that of another target in the same round.
    pub fn ratio(&self, target: &str, base: &str, case: Case, measure: Measure) -> Option<Spread> {
        let ratios = self.rounds(target, case, measure).filter_map(|(n, value)| {
            let (_, base) = self.rounds(base, case, measure).find(|(m, _)| *m == n)?;
            (base > 0.0).then_some(value / base)
        });
        Spread::of(ratios)
    }

    fn rounds(
        &self,
        target: &str,
        case: Case,
        measure: Measure,
    ) -> impl Iterator<Item = (u32, f64)> {
        let of_it = self
            .0
            .iter()
            .filter(move |s| s.target == target && s.case == case);
        of_it.filter_map(move |s| Some((s.round, measure(&s.figures)?)))
    }
}

impl Sample {
    /// The sample as one JSON object; times are in the units of [`Figures`].
    pub fn json(&self) -> Value {
        let Figures {
            transactions,
            tps,
            cpu,
            machine,
            calls,
            connecting,
            latency,
        } = &self.figures;
        json!({
            "target": self.target,
            "work": self.case.work.word(),
            "amount": self.case.work.amount(),
            "mode": self.case.mode.word(),
            "clients": self.case.clients,
            "round": self.round,
            "transactions": transactions,
            "tps": tps,
            "cpu_us": cpu,
            "machine_us": machine,
            "calls": calls,
            "connecting_ms": connecting,
            "p50_ms": latency.map(|l| l.p50),
            "p99_ms": latency.map(|l| l.p99),
            "max_ms": latency.map(|l| l.max),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::case::Mode;

    const CASE: Case = Case::select(Mode::Simple, 16);

    fn sample(target: &'static str, round: u32, cpu: f64) -> Sample {
        let figures = Figures {
            transactions: 1,
            tps: 1e6 / cpu,
            cpu: Some(cpu),
            machine: None,
            calls: None,
            connecting: 0.0,
            latency: None,
        };
        Sample {
            target,
            case: CASE,
            round,
            figures,
        }
    }

    #[test]
    fn a_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied()).unwrap();
        assert_eq!(spread(&[3.0, 1.0, 2.0]).median, 2.0);
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
        let one = spread(&[7.0]);
        assert_eq!((one.min, one.median, one.max), (7.0, 7.0, 7.0));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn an_interval_leaves_out_what_is_too_far_from_the_middle() {
        // Of 5 values all; of 6 the first and the last have 1.6 % each; see tables of the sign test.
        for (n, out) in [
            (1, 0),
            (5, 0),
            (6, 0),
            (8, 0),
            (9, 1),
            (12, 2),
            (15, 3),
            (20, 5),
            (100, 39),
        ] {
            assert_eq!(left_out(n), out, "{n}");
        }
        let spread = Spread::of((1..=12).map(f64::from)).unwrap();
        assert_eq!(spread.interval, (3.0, 10.0));
    }

    #[test]
    fn a_ratio_is_formed_within_a_round_and_not_of_medians() {
        let mut samples = Samples::default();
        // The machine was slow in round 1: both targets took ten times as long.
        for (round, base, ours) in [(0, 10.0, 11.0), (1, 100.0, 120.0), (2, 10.0, 13.0)] {
            samples.push(sample("base", round, base));
            samples.push(sample("ours", round, ours));
        }
        let ratio = samples.ratio("ours", "base", CASE, CPU).unwrap();
        assert_eq!((ratio.min, ratio.median, ratio.max), (1.1, 1.2, 1.3));
        assert_eq!(samples.of("ours", CASE, CPU).unwrap().median, 13.0);
    }

    #[test]
    fn a_round_that_one_of_the_two_lacks_does_not_count() {
        let mut samples = Samples::default();
        samples.push(sample("base", 0, 10.0));
        samples.push(sample("ours", 0, 20.0));
        samples.push(sample("ours", 1, 90.0));
        let ratio = samples.ratio("ours", "base", CASE, CPU).unwrap();
        assert_eq!((ratio.min, ratio.max), (2.0, 2.0));
        let other = Case {
            clients: 64,
            ..CASE
        };
        assert_eq!(samples.ratio("ours", "base", other, CPU), None);
        assert_eq!(samples.ratio("ours", "nobody", CASE, CPU), None);
    }

    #[test]
    fn a_percentile_is_a_value_that_occurred() {
        let latency = Latency::of((1..=200).map(|n| n * 1000).rev().collect()).unwrap();
        assert_eq!(
            (latency.p50, latency.p99, latency.max),
            (100.0, 198.0, 200.0)
        );
        let one = Latency::of(vec![5_000]).unwrap();
        assert_eq!((one.p50, one.p99, one.max), (5.0, 5.0, 5.0));
        assert_eq!(Latency::of(Vec::new()), None);
    }
}
