//! A run as one HTML page that needs nothing else: the bars, and plots as inline SVG. Pure: samples become text.

use crate::bars::{Level, Verdict};
use crate::case::{Case, Mode, Work};
use crate::figures::{CPU, Measure, P99, Samples, TPS};
use crate::report::{BAR_COLUMNS, bar_cells, level_cells};
use crate::setting::Setting;
use std::fmt::Write;

/// The plane of a plot, in pixels, and what is around it.
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 58.0;
const TOP: f64 = 30.0;
const BELOW: f64 = 40.0;

/// Lines of the grid above the lowest.
const STEPS: u32 = 4;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;\
color:#1c2126;background:#fff}table{border-collapse:collapse;font-size:13px}\
td,th{padding:.25rem .7rem;border-bottom:1px solid #d9dee3;text-align:right}\
td:nth-child(-n+3),th:nth-child(-n+3){text-align:left}.missed{color:#b3261e;font-weight:600}.holds{color:#1b6e3c}\
.plots{display:flex;flex-wrap:wrap;gap:1rem;margin:1rem 0}svg{font:11px system-ui,sans-serif;fill:currentColor}\
.grid{stroke:#d9dee3}.legend span{margin-right:1.2rem}.legend i{display:inline-block;width:.8rem;height:.8rem;\
margin-right:.35rem;vertical-align:-.1rem}\
@media(prefers-color-scheme:dark){body{color:#e4e7ea;background:#16191c}td,th{border-color:#333a41}\
.grid{stroke:#333a41}.missed{color:#ff8a80}.holds{color:#7bd19b}}";

/// Each target has one, whatever is drawn.
const COLORS: [&str; 7] = [
    "#7d8790", "#c77700", "#1a66c9", "#1498a3", "#7a3fc0", "#38934b", "#b0417c",
];

/// The whole page.
pub fn page(
    setting: &Setting,
    samples: &Samples,
    targets: &[&'static str],
    cases: &[Case],
    (verdicts, levels): (&[Verdict], &[Level]),
) -> String {
    let mut text = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Mothership beside PgBouncer</title>\
         <style>{STYLE}</style><h1>Mothership beside PgBouncer</h1><p>{}</p>",
        escaped(&setting.in_words())
    );
    text.push_str("<p class=\"legend\">");
    for (name, color) in targets.iter().zip(COLORS) {
        let _ = write!(
            text,
            "<span><i style=\"background:{color}\"></i>{name}</span>"
        );
    }
    text.push_str("</p>");
    let selects: Vec<_> = cases.iter().filter(|c| c.work == Work::Select).collect();
    let modes = Mode::ALL
        .into_iter()
        .filter(|mode| selects.iter().any(|c| c.mode == *mode));
    let modes: Vec<_> = modes.collect();
    let figures: [(&str, Measure); 3] = [
        ("transactions a second", TPS),
        ("p99, ms", P99),
        ("CPU for each, us", CPU),
    ];
    for (title, measure) in figures {
        text.push_str("<div class=\"plots\">");
        for mode in &modes {
            let cases: Vec<_> = selects
                .iter()
                .filter(|c| c.mode == *mode)
                .copied()
                .collect();
            let labels: Vec<_> = cases.iter().map(|c| c.clients.to_string()).collect();
            let of = |target: &&str| -> Vec<Option<f64>> {
                let value = |case: &&Case| Some(samples.of(target, **case, measure)?.median);
                cases.iter().map(value).collect()
            };
            let series: Vec<_> = targets.iter().map(of).collect();
            let title = format!("{title}: {}, over clients", mode.word());
            text.push_str(&plot(&title, &labels, &series));
        }
        text.push_str("</div>");
    }
    text.push_str("<table><tr>");
    for head in BAR_COLUMNS {
        let _ = write!(text, "<th>{}</th>", escaped(head));
    }
    text.push_str("</tr>");
    for verdict in verdicts {
        let class = match verdict.measured {
            Some(_) if verdict.is_missed() => "missed",
            Some(_) => "holds",
            None => "",
        };
        let _ = write!(text, "<tr class=\"{class}\">");
        for cell in bar_cells(verdict) {
            let _ = write!(text, "<td>{}</td>", escaped(&cell));
        }
        text.push_str("</tr>");
    }
    text.push_str("</table><h2>Silent clients</h2><table>");
    for level in levels {
        let class = match level.word() {
            "MISSED" => "missed",
            "" => "",
            _ => "holds",
        };
        let cells = level_cells(level).map(|cell| format!("<td>{}</td>", escaped(&cell)));
        let _ = write!(text, "<tr class=\"{class}\">{}</tr>", cells.concat());
    }
    text.push_str("</table></html>\n");
    text
}

/// Lines over evenly spaced labels, from 0 up; a series may lack values.
fn plot(title: &str, labels: &[String], series: &[Vec<Option<f64>>]) -> String {
    let highest = series
        .iter()
        .flatten()
        .flatten()
        .fold(0.0, |a: f64, b| a.max(*b));
    let top = round_up(highest);
    let x = |at: usize| LEFT + WIDTH * (at as f64 + 0.5) / labels.len().max(1) as f64;
    let y = |value: f64| TOP + HEIGHT * (1.0 - value / top);
    let (width, height) = (LEFT + WIDTH + 12.0, TOP + HEIGHT + BELOW);
    let mut text = format!(
        "<svg width=\"{width}\" height=\"{height}\" role=\"img\"><title>{0}</title><text x=\"0\" y=\"14\">{0}</text>",
        escaped(title)
    );
    for step in 0..=STEPS {
        // Without the last digits that binary fractions have.
        let value = (top * f64::from(step) / f64::from(STEPS) * 1e6).round() / 1e6;
        let (at, right) = (y(value), LEFT + WIDTH);
        let _ = write!(
            text,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for (at, label) in labels.iter().enumerate() {
        let _ = write!(
            text,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(at),
            TOP + HEIGHT + 18.0,
            escaped(label)
        );
    }
    for (values, color) in series.iter().zip(COLORS) {
        let points = values.iter().enumerate();
        let points: Vec<_> = points
            .filter_map(|(at, v)| v.map(|v| (x(at), y(v))))
            .collect();
        if points.is_empty() {
            continue;
        }
        let path: Vec<_> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = write!(
            text,
            "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" points=\"{}\"/>",
            path.join(" ")
        );
        for (x, y) in points {
            let _ = write!(
                text,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\"/>"
            );
        }
    }
    text.push_str("</svg>");
    text
}

/// The next number that parts into [`STEPS`] round ones; 1 for nothing.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let unit = 10f64.powf(value.log10().floor());
    let enough = [1.0, 2.0, 4.0, 8.0, 10.0]
        .into_iter()
        .find(|times| times * unit >= value);
    enough.unwrap_or(10.0) * unit
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number_that_holds_all() {
        let ends = [0.0, 0.7, 1.0, 1.1, 39.0, 41.0, 85_000.0].map(round_up);
        assert_eq!(ends, [1.0, 0.8, 1.0, 2.0, 40.0, 80.0, 100_000.0]);
    }

    #[test]
    fn a_plot_has_a_point_for_each_value_that_there_is() {
        let labels = ["1", "16"].map(str::to_owned);
        let drawn = plot(
            "a < b",
            &labels,
            &[
                vec![Some(1.0), Some(4.0)],
                vec![None, Some(2.0)],
                vec![None, None],
            ],
        );
        assert_eq!(drawn.matches("<circle").count(), 3);
        assert_eq!(
            drawn.matches("<polyline").count(),
            2,
            "none for what has no value"
        );
        assert!(drawn.contains("a &lt; b") && !drawn.contains("NaN"));
        // The highest value is at the top of the plane, the middle one halfway.
        assert!(
            drawn.contains("cy=\"30.0\"") && drawn.contains("cy=\"120.0\""),
            "{drawn}"
        );
    }
}
