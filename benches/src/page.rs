//! Writes a run as one self-contained HTML page: plots as inline SVG, and tables of the bars (the limits that the
//! figures of the router have to keep). Pure: samples become text.

use crate::bars::{Levels, Verdict};
use crate::case::{Case, Mode, Work};
use crate::figures::{CPU, Measure, P99, Samples, TPS};
use crate::idle::Idle;
use crate::report::{BAR_COLUMNS, bar_cells, level_cells};
use crate::setting::Setting;
use std::fmt::Write;

/// The plane of a plot (the rectangle of the values) and the margins around it, in pixels.
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 58.0;
const TOP: f64 = 30.0;
const BELOW: f64 = 40.0;

/// How many lines the grid has above its lowest line.
const STEPS: u32 = 4;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;\
color:#1c2126;background:#fff}table{border-collapse:collapse;font-size:13px}\
td,th{padding:.25rem .7rem;border-bottom:1px solid #d9dee3;text-align:right}td:not(:first-child){white-space:nowrap}\
td:nth-child(-n+3),th:nth-child(-n+3),td:nth-child(5),th:nth-child(5){text-align:left}.missed{color:#b3261e;font-weight:600}.holds{color:#1b6e3c}\
.plots{display:flex;flex-wrap:wrap;gap:1rem;margin:1rem 0}svg{font:11px system-ui,sans-serif;fill:currentColor}\
.grid{stroke:#d9dee3}.legend span{margin-right:1.2rem}.legend i{display:inline-block;width:.8rem;height:.8rem;\
margin-right:.35rem;vertical-align:-.1rem}\
@media(prefers-color-scheme:dark){body{color:#e4e7ea;background:#16191c}td,th{border-color:#333a41}\
.grid{stroke:#333a41}.missed{color:#ff8a80}.holds{color:#7bd19b}}";

/// The colors of the targets, in the order of the targets. A target has the same color in all plots.
const COLORS: [&str; 11] = [
    "#7d8790", "#c77700", "#1a66c9", "#1498a3", "#7a3fc0", "#38934b", "#b0417c", "#8a6d3b",
    "#4d5560", "#c2a000", "#5b7a8c",
];

/// The whole page.
pub fn page(
    setting: &Setting,
    (samples, targets, cases, silent): (&Samples, &[&'static str], &[Case], &[Idle]),
    (verdicts, levels): (&[Verdict], &Levels),
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
            let ticks = cases.iter().enumerate().map(|(at, case)| Tick {
                at: (at as f64 + 0.5) / cases.len() as f64,
                label: case.clients.to_string(),
            });
            let ticks: Vec<_> = ticks.collect();
            let of = |target: &&str| -> Vec<Option<f64>> {
                let value = |case: &&Case| Some(samples.of(target, **case, measure)?.median);
                cases.iter().map(value).collect()
            };
            let series: Vec<_> = targets.iter().map(of).collect();
            let title = format!("{title}: {}, over clients", mode.word());
            text.push_str(&lines(&title, &ticks, &series));
        }
        text.push_str("</div>");
    }
    text.push_str("<div class=\"plots\">");
    text.push_str(&by_kind(samples, targets, cases));
    text.push_str(&memory(targets, silent));
    text.push_str("</div><table><tr>");
    for head in BAR_COLUMNS {
        let _ = write!(text, "<th>{}</th>", escaped(head));
    }
    text.push_str("</tr>");
    for verdict in verdicts {
        let class = match verdict.word() {
            "MISSED" => "missed",
            "holds" => "holds",
            _ => "",
        };
        let _ = write!(text, "<tr class=\"{class}\">");
        for cell in bar_cells(verdict) {
            let _ = write!(text, "<td>{}</td>", escaped(&cell));
        }
        text.push_str("</tr>");
    }
    text.push_str("</table>");
    for (title, levels) in levels.titled() {
        let _ = write!(text, "<p>Of {}:</p><table>", escaped(title));
        for level in levels {
            let class = match level.word() {
                "MISSED" => "missed",
                "" => "",
                _ => "holds",
            };
            let cells = level_cells(level).map(|cell| format!("<td>{}</td>", escaped(&cell)));
            let _ = write!(text, "<tr class=\"{class}\">{}</tr>", cells.concat());
        }
        text.push_str("</table>");
    }
    text.push_str("</html>\n");
    text
}

/// Plots the CPU for each query. Each kind of work that consists of queries is a group of columns. Point selects run
/// with several numbers of clients; only those with 16 clients are shown.
fn by_kind(samples: &Samples, targets: &[&'static str], cases: &[Case]) -> String {
    let most = |case: &&Case| case.work != Work::Select || case.clients == 16;
    let kinds = cases.iter().filter(|case| !is_slowed(case.work));
    let kinds = kinds.filter(most);
    let kinds: Vec<_> = kinds
        .filter_map(|case| Some((case, case.work.queries()?)))
        .collect();
    let labels = kinds.iter().map(|(case, _)| match case.work {
        Work::Select => case.mode.word().to_owned(),
        Work::Connect => "connect".to_owned(),
        Work::Login => "SCRAM".to_owned(),
        Work::Branch => "TPC-B".to_owned(),
        Work::Pipeline(statements) => format!("pipe {statements}"),
        other => other.to_string(),
    });
    let labels: Vec<_> = labels.collect();
    let of = |target: &&str| -> Vec<Option<f64>> {
        let each = |(case, queries): &(&Case, u32)| {
            let all = samples.of(target, **case, CPU)?.median;
            Some(all / f64::from(*queries))
        };
        kinds.iter().map(each).collect()
    };
    let series: Vec<_> = targets.iter().map(of).collect();
    columns("CPU for each query, us, by kind", &labels, &series)
}

/// Whether the CPU of this work says nothing: paced work is limited to a rate, and traced work waits for strace.
fn is_slowed(work: Work) -> bool {
    matches!(work, Work::Paced(_) | Work::Traced)
}

/// Plots memory over the number of idle clients, for the targets whose idle clients were measured.
fn memory(targets: &[&'static str], silent: &[Idle]) -> String {
    if silent.is_empty() {
        return String::new();
    }
    let most = Idle::CLIENTS[Idle::CLIENTS.len() - 1] as f64;
    let ticks = Idle::CLIENTS.map(|clients| Tick {
        // The axis is linear, so memory is a straight line if each client takes the same amount.
        at: clients as f64 / most * 0.95,
        label: clients.to_string(),
    });
    let of = |target: &&'static str| match silent.iter().find(|idle| idle.target == *target) {
        Some(idle) => idle.held.map(|bytes| Some(bytes / 1e6)).to_vec(),
        None => Vec::new(),
    };
    let series: Vec<_> = targets.iter().map(of).collect();
    lines("memory, MB, over silent clients", &ticks, &series)
}

/// A place on the horizontal axis.
struct Tick {
    /// The distance from the left edge of the plane, as a share of its width.
    at: f64,
    label: String,
}

/// Plots each series as a line over the ticks. The vertical axis starts at 0. A series may lack values.
fn lines(title: &str, ticks: &[Tick], series: &[Vec<Option<f64>>]) -> String {
    let plane = Plane::of(WIDTH, series);
    let mut text = plane.frame(title, ticks);
    for (values, color) in series.iter().zip(COLORS) {
        let points = values.iter().zip(ticks);
        let points: Vec<_> = points
            .filter_map(|(value, tick)| Some((plane.x(tick.at), plane.y((*value)?))))
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

/// Plots a group of columns for each label. The group has one column for each series with a value for that label.
fn columns(title: &str, labels: &[String], series: &[Vec<Option<f64>>]) -> String {
    let plane = Plane::of(WIDTH * 2.0, series);
    let group = 1.0 / labels.len().max(1) as f64;
    let ticks = labels.iter().enumerate().map(|(at, label)| Tick {
        at: (at as f64 + 0.5) * group,
        label: label.clone(),
    });
    let ticks: Vec<_> = ticks.collect();
    let mut text = plane.frame(title, &ticks);
    for (at, tick) in ticks.iter().enumerate() {
        let there = series.iter().zip(COLORS);
        let there = there.filter_map(|(values, color)| Some(((*values.get(at)?)?, color)));
        let there: Vec<_> = there.collect();
        let width = plane.width * group * 0.8 / there.len().max(1) as f64;
        let left = plane.x(tick.at) - width * there.len() as f64 / 2.0;
        for (number, (value, color)) in there.into_iter().enumerate() {
            let (x, y) = (left + width * number as f64, plane.y(value));
            let height = TOP + HEIGHT - y;
            let _ = write!(
                text,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{color}\">\
                 <title>{value:.1}</title></rect>"
            );
        }
    }
    text.push_str("</svg>");
    text
}

/// The rectangle in which a plot draws its values.
struct Plane {
    width: f64,
    /// The value at its upper edge.
    top: f64,
}

impl Plane {
    /// A plane that is high enough for all values.
    fn of(width: f64, series: &[Vec<Option<f64>>]) -> Plane {
        let values = series.iter().flatten().flatten();
        let top = round_up(values.fold(0.0, |a: f64, b| a.max(*b)));
        Plane { width, top }
    }

    fn x(&self, share: f64) -> f64 {
        LEFT + self.width * share
    }

    fn y(&self, value: f64) -> f64 {
        TOP + HEIGHT * (1.0 - value / self.top)
    }

    /// The beginning of a plot: title, grid and labels.
    fn frame(&self, title: &str, ticks: &[Tick]) -> String {
        let (width, height) = (LEFT + self.width + 12.0, TOP + HEIGHT + BELOW);
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" role=\"img\">\
             <title>{0}</title><text x=\"0\" y=\"14\">{0}</text>",
            escaped(title)
        );
        for step in 0..=STEPS {
            // Rounded, so that the label does not show the error of a binary fraction.
            let value = (self.top * f64::from(step) / f64::from(STEPS) * 1e6).round() / 1e6;
            let (at, right) = (self.y(value), LEFT + self.width);
            let _ = write!(
                text,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                LEFT - 6.0,
                at + 4.0
            );
        }
        for tick in ticks {
            let _ = write!(
                text,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                self.x(tick.at),
                TOP + HEIGHT + 18.0,
                escaped(&tick.label)
            );
        }
        text
    }
}

/// The smallest number that is not below `value` and is 1, 2, 4, 8 or 10 times a power of ten. The labels of its
/// [`STEPS`] equal parts are then short. Returns 1 if `value` is not positive.
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
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number_that_holds_all() {
        let ends = [0.0, 0.7, 1.0, 1.1, 39.0, 41.0, 85_000.0].map(round_up);
        assert_eq!(ends, [1.0, 0.8, 1.0, 2.0, 40.0, 80.0, 100_000.0]);
    }

    #[test]
    fn a_plot_has_a_point_for_each_value_that_there_is() {
        let ticks = [0.25, 0.75].map(|at| Tick {
            at,
            label: "<1>".to_owned(),
        });
        let series = [
            vec![Some(1.0), Some(4.0)],
            vec![None, Some(2.0)],
            vec![None, None],
        ];
        let drawn = lines("a < b", &ticks, &series);
        well_formed(&drawn);
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

    #[test]
    fn a_group_has_a_column_for_each_value_that_there_is() {
        let labels = ["simple", "TPC-B & more"].map(str::to_owned);
        let series = [
            vec![Some(10.0), None],
            vec![None, None],
            vec![Some(20.0), Some(5.0)],
        ];
        let drawn = columns("by kind", &labels, &series);
        well_formed(&drawn);
        assert_eq!(drawn.matches("<rect").count(), 3);
        // The highest fills the plane; two share a group, one has it to itself.
        assert!(
            drawn.contains("width=\"120.0\" height=\"180.0\""),
            "{drawn}"
        );
        assert!(drawn.contains("width=\"240.0\" height=\"45.0\""), "{drawn}");
    }

    /// Every tag is closed, in order, and every attribute is quoted.
    fn well_formed(svg: &str) {
        let mut open = Vec::new();
        for part in svg.split('<').skip(1) {
            let (tag, text) = part.split_once('>').unwrap();
            assert!(!text.contains('>') && !tag.contains("NaN"), "{part}");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            let name = |tag: &str| tag.split_whitespace().next().unwrap().to_owned();
            match (tag.strip_prefix('/'), tag.ends_with('/')) {
                (Some(closed), _) => assert_eq!(open.pop(), Some(name(closed))),
                (None, true) => {}
                (None, false) => open.push(name(tag)),
            }
        }
        assert_eq!(open, [] as [String; 0]);
    }
}
