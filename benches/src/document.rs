//! The page of the documentation that tells what was measured last. Pure: verdicts become Markdown.

use crate::bars::{Levels, Verdict};
use crate::options::Options;
use crate::report::{BAR_COLUMNS, bar_cells, level_cells};
use crate::setting::Setting;
use crate::stage::CONNECTIONS;
use mothership_driver::event::INSERTED;
use mothership_driver::order::Ask;
use std::fmt::Write;

/// The page.
pub fn page(
    setting: &Setting,
    options: &Options,
    (verdicts, levels, notes): (&[Verdict], &Levels, &[String]),
) -> String {
    let mut text = format!(
        "# Performance

Written by `make bench`; not edited by hand. The router stands in front of three shards, each a PostgreSQL of its own,
and is compared with PgBouncer in front of one PostgreSQL with the same rows. PgBouncer has {CONNECTIONS} server
connections; the router has as many over all shards, rounded up to the same number for each. Everything is connected by
TCP on one machine, which also runs the clients. Targets take turns in random order. Each ratio is formed within a
round; the table has the median of the ratios of all rounds and the 95 % interval of that median. A bar holds if the
interval reaches it and the median misses it by no more than 2 %. Times are microseconds of CPU for each transaction,
latencies are milliseconds. [benchmarks.md](benchmarks.md) explains the targets.

System calls are those that the proxy makes for each transaction, counted by strace. Their bar and their interval are
about the figure itself, not about a ratio. strace slows the proxy down, so that it finds more work at each wake-up:
without strace there are more wake-ups and more calls for each query. `rows out` is one client that reads a table of {}
rows of 100 characters, which the router has on three shards. `COPY in` fills such a table, and is compared with one
PostgreSQL without a proxy.

Documents are rows of a table on a replica set with one member. The router is compared with `driver`: a program with one
thread that does the same with MongoDB's driver for Rust and decodes every field into a struct. Neither figure contains
the CPU of mongod or of the clients that speak SQL. Through the router, a document is read by its key by a program of
the same kind with a driver of PostgreSQL (tokio-postgres), which fills the same struct; grouping is asked for by
pgbench. There are {} documents of eight fields. A statement reads one document, reads a range of {} (prepared: rows in
binary, simple: in text), groups and counts a range of {} by a field, or inserts {}. The program inserts in a
transaction, as the router does, so that both promise the same.
Grouping and inserting have no bar, nor has the latency of a range.

{}. {} rounds of {} s, seed {}.

",
        thousands(options.rows),
        thousands(options.documents),
        thousands(Ask::Scan.range(options.documents)),
        thousands(Ask::Group.range(options.documents)),
        thousands(INSERTED),
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
    for (title, levels) in levels.titled() {
        let _ = writeln!(text, "\n{}:\n", capitalised(title));
        text.push_str("| what | measured | bar | verdict |\n|---|---|---|---|\n");
        for level in levels {
            let mut cells = level_cells(level);
            if level.is_missed() {
                let word = &mut cells[3];
                *word = format!("**{word}**");
            }
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
    }
    for note in notes {
        let _ = writeln!(text, "\n{note}");
    }
    text.push_str("\nWhere the time goes and what was tried: [ADR 1](adr/0001-one-runtime-per-core-and-batched-sends.md), ");
    text.push_str("[ADR 15](adr/0015-reads-of-known-shape-go-a-fast-path.md); where the memory of clients goes: ");
    text.push_str("[ADR 16](adr/0016-a-silent-client-keeps-little.md); plans by shape: [ADR 7](adr/0007-plans-by-shape.md).\n");
    text
}

/// With commas, as people read it.
fn thousands(number: u32) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().collect();
    let groups = groups.into_iter().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

fn capitalised(text: &str) -> String {
    let (first, rest) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
    format!("{}{rest}", first.to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_titles_are_written_for_people() {
        assert_eq!(
            [7, 1_000, 500_000, 1_234_567].map(thousands),
            ["7", "1,000", "500,000", "1,234,567"]
        );
        assert_eq!(capitalised("planning, in parses"), "Planning, in parses");
        assert_eq!(capitalised(""), "");
    }
}
