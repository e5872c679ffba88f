//! What the reader sees while the shop is being filled: a bar that moves, on a
//! terminal; elsewhere one plain line for each table.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const WIDTH: u64 = 30;
/// Between two drawings of the bar.
const INTERVAL: Duration = Duration::from_millis(80);

/// Prints a line. Unlike `println!` it does not panic when nobody reads.
pub(super) fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// A number with commas: 300,000.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// How far the filling has come.
#[derive(Debug)]
pub(super) struct Progress {
    total: u64,
    done: u64,
    started: Instant,
    bar: Bar,
    table: Current,
}

#[derive(Debug)]
enum Bar {
    None,
    Drawn { last: Instant },
}

#[derive(Debug)]
struct Current {
    name: &'static str,
    rows: u64,
    started: Instant,
}

impl Progress {
    pub(super) fn new(total: u64) -> Progress {
        let now = Instant::now();
        Progress {
            total,
            done: 0,
            started: now,
            bar: match std::io::stdout().is_terminal() {
                true => Bar::Drawn { last: now },
                false => Bar::None,
            },
            table: Current {
                name: "",
                rows: 0,
                started: now,
            },
        }
    }

    pub(super) fn begin(&mut self, name: &'static str) {
        self.table = Current {
            name,
            rows: 0,
            started: Instant::now(),
        };
        self.draw();
    }

    pub(super) fn add(&mut self, rows: u64) {
        self.done += rows;
        self.table.rows += rows;
        if matches!(self.bar, Bar::Drawn { last } if last.elapsed() > INTERVAL) {
            self.draw();
        }
    }

    /// The table is done: a line stays.
    pub(super) fn end(&mut self) {
        let took = self.table.started.elapsed().as_secs_f64();
        let line = format!(
            "  {:<12} {:>9} rows in {took:.1} s",
            self.table.name,
            thousands(self.table.rows)
        );
        match self.bar {
            Bar::None => say(line),
            // Over the bar, whose rest is wiped out.
            Bar::Drawn { .. } => say(format_args!("\r{line}\x1b[K")),
        }
        self.draw();
    }

    fn draw(&mut self) {
        let Bar::Drawn { last } = &mut self.bar else {
            return;
        };
        *last = Instant::now();
        let mut out = std::io::stdout().lock();
        let _ = match self.done < self.total {
            true => write!(
                out,
                "\r  {}\x1b[K",
                bar(self.done, self.total, self.started.elapsed())
            ),
            false => write!(out, "\r\x1b[K"),
        };
        let _ = out.flush();
    }
}

fn bar(done: u64, total: u64, elapsed: Duration) -> String {
    let total = total.max(1);
    let full = (done * WIDTH / total).min(WIDTH);
    let (full, rest) = (
        "#".repeat(full as usize),
        ".".repeat((WIDTH - full) as usize),
    );
    let speed = done as f64 / elapsed.as_secs_f64().max(0.001);
    format!(
        "[{full}{rest}] {:>3} %  {} of {} rows, {} a second",
        done * 100 / total,
        thousands(done),
        thousands(total),
        thousands(speed as u64),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn a_bar_grows_from_nothing_to_all() {
        let at = |done| bar(done, 300, Duration::from_secs(1));
        assert_eq!(
            at(0),
            format!("[{}]   0 %  0 of 300 rows, 0 a second", ".".repeat(30))
        );
        assert_eq!(
            at(150),
            format!(
                "[{}{}]  50 %  150 of 300 rows, 150 a second",
                "#".repeat(15),
                ".".repeat(15)
            )
        );
        assert!(at(300).starts_with(&format!("[{}] 100 %", "#".repeat(30))));
        assert!(bar(0, 0, Duration::ZERO).contains("0 %"));
    }
}
