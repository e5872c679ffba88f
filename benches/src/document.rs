//! The page of the documentation that tells what was measured last. Pure: verdicts become Markdown.

use crate::bars::{Level, Verdict};
use crate::options::Options;
use crate::report::{BAR_COLUMNS, bar_cells, level_cells};
use crate::setting::Setting;
use crate::stage::CONNECTIONS;
use std::fmt::Write;

/// What bars are not about yet, though they are set: told, so that nobody takes silence for success.
const UNMEASURED: [&str; 5] = [
    "system calls per query",
    "a new connection per transaction with SCRAM",
    "500,000 rows out, CPU per MB",
    "COPY in divided over three shards",
    "planning beside one parse of sqlparser (`make bench-micro` prints both)",
];

/// The page.
pub fn page(
    setting: &Setting,
    options: &Options,
    verdicts: &[Verdict],
    levels: &[Level],
) -> String {
    let mut text = format!(
        "# Performance

Written by `make bench`; not edited by hand. The router over three shards, each a PostgreSQL of its own, beside PgBouncer
before one PostgreSQL with the same rows, both with {CONNECTIONS} server connections in all, by TCP on one machine, which also runs
pgbench. Targets take turns in random order; a ratio is formed within a round, and of the ratios of all rounds stand here
the median and the 95 % interval of the median. A bar holds when the interval reaches it and the median misses it by no
more than 2 %. Times are microseconds of CPU for each transaction, latencies milliseconds.

{}. {} rounds of {} s, seed {}.

",
        setting.in_words(),
        options.rounds,
        options.duration.as_secs(),
        options.seed
    );
    let _ = writeln!(text, "| {} |", BAR_COLUMNS.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(BAR_COLUMNS.len()));
    for verdict in verdicts {
        let mut cells = bar_cells(verdict);
        if verdict.is_missed() {
            let word = &mut cells[BAR_COLUMNS.len() - 1];
            *word = format!("**{word}**");
        }
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text.push_str(
        "\nClients that are connected and silent, of proxies that nobody has used before:\n\n",
    );
    text.push_str("| what | measured | bar | verdict |\n|---|---|---|---|\n");
    for level in levels {
        let _ = writeln!(text, "| {} |", level_cells(level).join(" | "));
    }
    text.push_str("\nBars that are set and not measured by it yet:\n\n");
    for what in UNMEASURED {
        let _ = writeln!(text, "- {what}");
    }
    text.push_str("\nWhere the time goes and what was tried: [ADR 1](adr/0001-one-runtime-per-core-and-batched-sends.md), ");
    text.push_str("[ADR 15](adr/0015-reads-of-known-shape-go-a-fast-path.md).\n");
    text
}
