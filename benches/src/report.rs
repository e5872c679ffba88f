//! The tables that a run prints. Pure: samples become text.

use crate::figures::{CPU, Case, Figures, P50, P99, Samples, Spread, TPS};
use std::fmt::Write;

/// The target that others are compared with.
pub const BASE: &str = "pgbouncer";

/// CPU for each query, as a multiple of the base, that the router is to stay within at [`BAR_CLIENTS`] clients.
pub const BAR: f64 = 1.5;
/// Where the bar is measured.
pub const BAR_CLIENTS: u32 = 16;

/// One table for each case: medians of the rounds, and ratios with their spread.
pub fn comparison(samples: &Samples, targets: &[&'static str], cases: &[Case]) -> String {
    let mut text = String::new();
    for case in cases {
        let (mode, clients) = (case.mode.word(), case.clients);
        let _ = writeln!(text, "\n{mode}, {clients} clients");
        let mut rows = vec![
            [
                "target",
                "queries/s",
                "ratio",
                "(min to max)",
                "CPU us/query",
                "ratio",
                "(min to max)",
                "p50 ms",
                "p99 ms",
            ]
            .map(str::to_owned)
            .to_vec(),
        ];
        for target in targets {
            let of = |measure| samples.of(target, *case, measure).map(|s| s.median);
            let ratio = |measure| samples.ratio(target, BASE, *case, measure);
            let (tps, cpu) = (ratio(TPS), ratio(CPU));
            rows.push(vec![
                (*target).to_owned(),
                number(of(TPS), 0),
                number(tps.map(|r| r.median), 2),
                apart(tps),
                number(of(CPU), 1),
                number(cpu.map(|r| r.median), 2),
                apart(cpu),
                number(of(P50), 2),
                number(of(P99), 2),
            ]);
        }
        text.push_str(&table(&rows));
    }
    text
}

/// Whether the router stays within [`BAR`], a line for each of its targets and cases that were measured.
pub fn bars(samples: &Samples, ours: &[&'static str], cases: &[Case]) -> String {
    let mut text = String::new();
    for case in cases.iter().filter(|case| case.clients == BAR_CLIENTS) {
        for target in ours {
            let Some(ratio) = samples.ratio(target, BASE, *case, CPU) else {
                continue;
            };
            let verdict = match ratio.median <= BAR {
                true => "met",
                false => "MISSED",
            };
            let (mode, median) = (case.mode.word(), ratio.median);
            let _ = writeln!(
                text,
                "{verdict}: {target}, {mode}, {BAR_CLIENTS} clients: CPU {median:.2} of {BASE}'s, bar {BAR}"
            );
        }
    }
    text
}

/// The run with very many clients: one row for each target and mode.
pub fn crowd(rows: &[(&'static str, Case, Figures)]) -> String {
    let mut lines = vec![
        [
            "target",
            "mode",
            "clients",
            "queries/s",
            "CPU us/query",
            "connecting ms",
            "p50 ms",
            "p99 ms",
            "max ms",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for (target, case, figures) in rows {
        lines.push(vec![
            (*target).to_owned(),
            case.mode.word().to_owned(),
            case.clients.to_string(),
            number(Some(figures.tps), 0),
            number(figures.cpu, 1),
            number(Some(figures.connecting), 0),
            number(figures.latency.map(|l| l.p50), 1),
            number(figures.latency.map(|l| l.p99), 1),
            number(figures.latency.map(|l| l.max), 1),
        ]);
    }
    table(&lines)
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn apart(spread: Option<Spread>) -> String {
    spread.map_or_else(String::new, |s| format!("({:.2} to {:.2})", s.min, s.max))
}

/// Columns as wide as their widest cell; the first to the left, the others to the right.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|at| {
            let cells = rows.iter().filter_map(|row| row.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::from(" ");
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = match at {
                0 => write!(line, " {cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Latency, Mode, Sample};

    const CASE: Case = Case {
        mode: Mode::Prepared,
        clients: 16,
    };

    fn samples() -> Samples {
        let mut samples = Samples::default();
        let mut add = |target, round, tps, cpu| {
            let latency = Latency::of(vec![250, 500, 1000]);
            let figures = Figures {
                transactions: 1,
                tps,
                cpu,
                connecting: 1.0,
                latency,
            };
            samples.push(Sample {
                target,
                case: CASE,
                round,
                figures,
            });
        };
        for round in 0..2 {
            add("direct", round, 40_000.0, None);
            add(BASE, round, 20_000.0, Some(20.0));
            add("ours", round, 22_000.0, Some([24.0, 40.0][round as usize]));
            add("theirs", round, 10_000.0, Some(15.0));
        }
        samples
    }

    #[test]
    fn a_table_has_medians_and_ratios_with_their_spread() {
        let text = comparison(&samples(), &["direct", BASE, "ours"], &[CASE]);
        let expected = "
prepared, 16 clients
  target     queries/s  ratio    (min to max)  CPU us/query  ratio    (min to max)  p50 ms  p99 ms
  direct         40000   2.00  (2.00 to 2.00)             -      -                    0.50    1.00
  pgbouncer      20000   1.00  (1.00 to 1.00)          20.0   1.00  (1.00 to 1.00)    0.50    1.00
  ours           22000   1.10  (1.10 to 1.10)          32.0   1.60  (1.20 to 2.00)    0.50    1.00
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_bar_is_judged_by_the_median_and_only_where_it_was_set() {
        let text = bars(&samples(), &["ours", "theirs"], &[CASE]);
        assert_eq!(
            text,
            "MISSED: ours, prepared, 16 clients: CPU 1.60 of pgbouncer's, bar 1.5\n\
             met: theirs, prepared, 16 clients: CPU 0.75 of pgbouncer's, bar 1.5\n"
        );
        let other = Case {
            clients: 64,
            ..CASE
        };
        assert_eq!(bars(&samples(), &["ours"], &[other]), "");
    }
}
