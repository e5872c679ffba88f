//! The tables that a run prints. Pure: samples become text.

use crate::bars::{Beside, Level, Verdict, base};
use crate::case::Case;
use crate::figures::{CPU, Figures, MACHINE, P50, P99, Samples, Spread, TPS};
use std::fmt::Write;

/// One table for each case: medians of the rounds, and ratios with their spread.
pub fn comparison(samples: &Samples, targets: &[&'static str], cases: &[Case]) -> String {
    let mut text = String::new();
    for case in cases {
        let _ = writeln!(text, "\n{case}");
        let (one, several) = case.work.unit();
        let mut rows = vec![
            [
                "target",
                &format!("{several}/s"),
                "ratio",
                "(min to max)",
                &format!("CPU us/{one}"),
                "ratio",
                "(min to max)",
                "machine",
                "p50 ms",
                "p99 ms",
            ]
            .map(str::to_owned)
            .to_vec(),
        ];
        for target in targets {
            if samples.of(target, *case, TPS).is_none() {
                continue;
            }
            let of = |measure| samples.of(target, *case, measure).map(|s| s.median);
            let ratio = |measure| samples.ratio(target, base(case.work), *case, measure);
            let (tps, cpu) = (ratio(TPS), ratio(CPU));
            rows.push(vec![
                (*target).to_owned(),
                number(of(TPS), 0),
                number(tps.map(|r| r.median), 2),
                apart(tps),
                number(of(CPU), 1),
                number(cpu.map(|r| r.median), 2),
                apart(cpu),
                number(of(MACHINE), 1),
                number(of(P50), 2),
                number(of(P99), 2),
            ]);
        }
        text.push_str(&table(&rows));
    }
    text
}

/// What the router costs beside an earlier build of it, in the cases in which both were loaded; nothing without any.
pub fn beside(samples: &Samples, [ours, earlier]: [&str; 2], cases: &[Case]) -> String {
    let head = [
        "what",
        "CPU us",
        earlier,
        "ratio",
        "95 %",
        "rate: ratio",
        "95 %",
        "",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for case in cases {
        let of = |target| samples.of(target, *case, CPU).map(|s| s.median);
        let Some(cpu) = samples.ratio(ours, earlier, *case, CPU) else {
            continue;
        };
        let rate = samples.ratio(ours, earlier, *case, TPS);
        let between = |s: Spread| format!("{:.2} to {:.2}", s.interval.0, s.interval.1);
        let word = match cpu.interval {
            (least, _) if least > 1.0 => "dearer",
            (_, most) if most < 1.0 => "cheaper",
            _ => "",
        };
        rows.push(vec![
            case.to_string(),
            number(of(ours), 1),
            number(of(earlier), 1),
            number(Some(cpu.median), 2),
            between(cpu),
            number(rate.map(|s| s.median), 2),
            rate.map(between).unwrap_or_default(),
            word.to_owned(),
        ]);
    }
    match rows.len() {
        1 => String::new(),
        _ => table(&rows),
    }
}

/// What became of the bars: a line for each that was measured, or that could have been.
pub fn bars(verdicts: &[Verdict]) -> String {
    let mut rows = vec![BAR_COLUMNS.map(str::to_owned).to_vec()];
    rows.extend(verdicts.iter().map(|verdict| bar_cells(verdict).to_vec()));
    table(&rows)
}

/// The heads of a table of bars.
pub const BAR_COLUMNS: [&str; 10] = [
    "what", "target", "figure", "ours", "beside", "theirs", "ratio", "95 %", "bar", "verdict",
];

/// What such a table says of one.
pub fn bar_cells(verdict: &Verdict) -> [String; 10] {
    let bar = &verdict.bar;
    let judged = verdict.measured.map(|measured| measured.judged);
    let ratio = judged.filter(|_| matches!(bar.beside, Beside::Ratio(_)));
    let between = |ratio: Spread| format!("{:.2} to {:.2}", ratio.interval.0, ratio.interval.1);
    [
        bar.case.to_string(),
        bar.target.to_owned(),
        bar.figure.to_owned(),
        figure(verdict.measured.map(|measured| measured.ours)),
        bar.beside.target().to_owned(),
        figure(verdict.measured.and_then(|measured| measured.theirs)),
        number(ratio.map(|ratio| ratio.median), 2),
        judged.map(between).unwrap_or_default(),
        bar.limit.to_string(),
        verdict.word().to_owned(),
    ]
}

/// What became of the levels.
pub fn levels(levels: &[Level]) -> String {
    let rows: Vec<_> = levels
        .iter()
        .map(|level| level_cells(level).to_vec())
        .collect();
    table(&rows)
}

/// What a table says of one: what, how much, the most that it may be, the verdict.
pub fn level_cells(level: &Level) -> [String; 4] {
    let most = level.most.map(|most| format!("<= {most}"));
    [
        level.what.clone(),
        figure(Some(level.value)),
        most.unwrap_or_default(),
        level.word().to_owned(),
    ]
}

/// With as many digits as mean something.
fn figure(value: Option<f64>) -> String {
    let digits = match value {
        Some(value) if value >= 1000.0 => 0,
        Some(value) if value >= 10.0 => 1,
        Some(value) if value < 0.1 => 3,
        _ => 2,
    };
    number(value, digits)
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
    use crate::bars::BASE;
    use crate::case::Mode;
    use crate::figures::{Latency, Sample};

    const CASE: Case = Case::select(Mode::Prepared, 16);

    fn samples() -> Samples {
        let mut samples = Samples::default();
        let mut add = |target, round, tps, cpu| {
            let latency = Latency::of(vec![250, 500, 1000]);
            let figures = Figures {
                transactions: 1,
                tps,
                cpu,
                machine: cpu.map(|cpu| cpu * 3.0),
                calls: None,
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
        }
        samples
    }

    #[test]
    fn an_earlier_build_is_beside_this_one() {
        let text = beside(&samples(), ["ours", BASE], &[CASE]);
        let expected = "  what                                CPU us  pgbouncer  ratio          95 %  rate: ratio          95 %
  point select, prepared, 16 clients    32.0       20.0   1.60  1.20 to 2.00         1.10  1.10 to 1.10  dearer
";
        assert_eq!(text, expected);
        assert_eq!(beside(&samples(), ["ours", "another"], &[CASE]), "");
    }

    #[test]
    fn a_table_has_medians_and_ratios_with_their_spread() {
        let text = comparison(&samples(), &["direct", BASE, "ours", "another"], &[CASE]);
        let expected = "
point select, prepared, 16 clients
  target     queries/s  ratio    (min to max)  CPU us/query  ratio    (min to max)  machine  p50 ms  p99 ms
  direct         40000   2.00  (2.00 to 2.00)             -      -                        -    0.50    1.00
  pgbouncer      20000   1.00  (1.00 to 1.00)          20.0   1.00  (1.00 to 1.00)     60.0    0.50    1.00
  ours           22000   1.10  (1.10 to 1.10)          32.0   1.60  (1.20 to 2.00)     96.0    0.50    1.00
";
        assert_eq!(text, expected);
    }
}
