//! What planning costs beside one parse of the same text, as the benchmark `benches/planning.rs` measures it.
//!
//! That benchmark is built with optimisation, which this program is not, and criterion leaves its figures in files. Here
//! it is run and the files are read; what is reported are ratios of medians of one statement in one run.

use crate::child;
use mothership_cluster::spawn_tied;
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long each of its functions is run before it counts, and how long it is measured, in seconds. Medians of so little
/// differ by some percent from run to run; what they are held against is tens of percent away.
const LENGTHS: [&str; 2] = ["0.2", "0.5"];
/// For all of them together, which take some 25 s.
const LIMIT: Duration = Duration::from_secs(300);

/// A way from a text to where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// The shape of the text has a plan.
    Known,
    /// A prepared statement gets its values.
    Bind,
    /// The shape was not seen.
    New,
    /// It was seen once: the text is planned for itself and for all others.
    Second,
}

impl Route {
    /// All of them.
    pub const ALL: [Route; 4] = [Route::Known, Route::Bind, Route::New, Route::Second];

    /// The functions of the benchmark: this, and the parse of the same text.
    fn functions(self) -> [&'static str; 2] {
        match self {
            Route::Known => ["known", "parse"],
            Route::Bind => ["bind", "parse_prepared"],
            Route::New => ["new", "parse"],
            Route::Second => ["second", "parse"],
        }
    }
}

/// The ratios of all statements, by routes.
#[derive(Debug, Clone, PartialEq)]
pub struct Planning(Vec<(String, [f64; Route::ALL.len()])>);

impl Planning {
    /// The geometric mean over the statements.
    pub fn mean(&self, route: Route) -> f64 {
        let logarithms: f64 = self.of(route).map(|(_, ratio)| ratio.ln()).sum();
        (logarithms / self.0.len() as f64).exp()
    }

    /// The largest ratio, and the statement's name.
    pub fn worst(&self, route: Route) -> (f64, &str) {
        let larger = |a: (f64, _), b: (f64, _)| if b.0 > a.0 { b } else { a };
        self.of(route)
            .map(|(name, ratio)| (ratio, name))
            .fold((0.0, ""), larger)
    }

    fn of(&self, route: Route) -> impl Iterator<Item = (&str, f64)> {
        self.0
            .iter()
            .map(move |(name, ratios)| (name.as_str(), ratios[route as usize]))
    }

    /// As one JSON object.
    pub fn json(&self) -> Value {
        let each = self.0.iter().map(|(statement, ratios)| {
            let [known, bind, new, second] = ratios;
            json!({ "statement": statement, "known": known, "bind": bind, "new": new, "second": second })
        });
        json!({ "planning_in_parses": each.collect::<Vec<_>>() })
    }
}

/// Runs the benchmark, which is `program`; `folder` is for what it writes.
pub fn measure(program: &Path, folder: &Path) -> Result<Planning, String> {
    let doing = |what: &Path| {
        let what = what.display().to_string();
        move |error: std::io::Error| format!("{what}: {error}")
    };
    let (said, results) = (folder.join("planning.said"), folder.join("planning"));
    let out = File::create(&said).map_err(doing(&said))?;
    let mut command = Command::new(program);
    let [before, measured] = LENGTHS;
    command.args(["--bench", "--noplot", "--warm-up-time", before]);
    command.args(["--measurement-time", measured]);
    // A folder of its own: no figure of an earlier run is taken for one of this.
    command.env("CRITERION_HOME", &results);
    let err = out.try_clone().map_err(doing(&said))?;
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    let mut child = spawn_tied(command, libc::SIGKILL).map_err(doing(program))?;
    match child::finish(&mut child, LIMIT)? {
        Some(status) if status.success() => read(&results),
        _ => {
            let text = std::fs::read_to_string(&said).unwrap_or_default();
            let said = child::last_lines(&text);
            Err(format!("the benchmark of planning failed:\n{said}"))
        }
    }
}

/// Reads what criterion has left: a folder for each statement, in it one for each function.
fn read(results: &Path) -> Result<Planning, String> {
    let told = |error: std::io::Error| format!("{}: {error}", results.display());
    let mut statements = Vec::new();
    for entry in std::fs::read_dir(results).map_err(told)? {
        let path = entry.map_err(told)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut ratios = [0.0; Route::ALL.len()];
        for route in Route::ALL {
            let [ours, parse] = route.functions().map(|function| median(&path, function));
            ratios[route as usize] = ours? / parse?;
        }
        statements.push((name.into_owned(), ratios));
    }
    match statements.is_empty() {
        true => Err(format!("{} is empty", results.display())),
        false => Ok(Planning(statements)),
    }
}

/// The median time of a function, in nanoseconds.
fn median(statement: &Path, function: &str) -> Result<f64, String> {
    let file = statement.join(function).join("new/estimates.json");
    let told = |what: String| format!("{}: {what}", file.display());
    let text = std::fs::read_to_string(&file).map_err(|e| told(e.to_string()))?;
    let found: Value = serde_json::from_str(&text).map_err(|e| told(e.to_string()))?;
    let median = found["median"]["point_estimate"].as_f64();
    let above_zero = median.filter(|median| *median > 0.0);
    above_zero.ok_or_else(|| told("it has no median".to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use mothership_tests::Folder;

    #[test]
    fn ratios_are_of_medians_of_one_statement() {
        let folder = Folder::new("planning");
        let put = |statement: &str, function: &str, median: f64| {
            let path = folder.path().join(statement).join(function).join("new");
            std::fs::create_dir_all(&path).unwrap();
            let text = json!({ "mean": { "point_estimate": 1e9 }, "median": { "point_estimate": median } });
            std::fs::write(path.join("estimates.json"), text.to_string()).unwrap();
        };
        for (statement, slow) in [("short", 1.0), ("long", 4.0)] {
            put(statement, "parse", 1_000.0);
            put(statement, "parse_prepared", 2_000.0);
            put(statement, "known", 10.0 * slow);
            put(statement, "bind", 20.0 * slow);
            put(statement, "new", 3_000.0 * slow);
            put(statement, "second", 2_000.0 * slow);
        }
        let planning = read(folder.path()).unwrap();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        near(planning.mean(Route::Known), 0.02);
        near(planning.mean(Route::Bind), 0.02);
        near(planning.mean(Route::New), 6.0);
        assert_eq!(planning.worst(Route::Second), (8.0, "long"));
        std::fs::remove_dir_all(folder.path().join("short/bind")).unwrap();
        assert!(read(folder.path()).unwrap_err().contains("bind"));
    }
}
