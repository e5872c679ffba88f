//! The same rows twice: over three shards behind a router, and in one PostgreSQL.
//!
//! Before each case all tables are what they were; after it they must hold the same
//! rows on both sides, each on the shard of its key.

use super::cases::{Manner, Request};
use crate::shards::stage::{LIMIT, Stage, owner, say};
use mothership_tests::message::{self, Format};
use mothership_tests::{Frame, Shards, Wire};

const DECLARED: &str = include_str!("tables.toml");
const MADE: &str = include_str!("tables.sql");

/// Tables whose rows are put back, in an order in which none refers to a later one.
const TABLES: [&str; 14] = [
    "r", "t", "u", "w", "s", "p", "mk", "tk", "uk", "dk", "zk", "bk", "archive", "child",
];

/// Both sides, with one client of each.
pub struct Scene {
    pub ours: Wire,
    pub theirs: Wire,
    stage: Stage,
    /// Connections past the router: the shards, then the one PostgreSQL.
    direct: Vec<Wire>,
    /// For each of them what puts the rows back.
    rows: Vec<String>,
    _one: Shards,
}

impl Scene {
    pub fn new() -> Scene {
        let stage = Stage::bare(DECLARED);
        let one = Shards::new(1);
        let mut ours = stage.wire();
        let mut theirs = Wire::login(&one.endpoint(0));
        theirs.set_limit(LIMIT);
        for sql in MADE.split(";\n").map(str::trim).filter(|s| !s.is_empty()) {
            for wire in [&mut ours, &mut theirs] {
                let said = say(wire, sql);
                assert!(!said[0].starts_with("Error"), "{sql}: {said:?}");
            }
        }
        let mut endpoints: Vec<_> = (0..3).map(|shard| stage.shards.endpoint(shard)).collect();
        endpoints.push(one.endpoint(0));
        let mut direct: Vec<Wire> = endpoints.iter().map(Wire::login).collect();
        let rows = direct.iter_mut().map(put_back).collect();
        Scene {
            ours,
            theirs,
            stage,
            direct,
            rows,
            _one: one,
        }
    }

    /// Both sessions are new.
    pub fn begin(&mut self) {
        for wire in [&mut self.ours, &mut self.theirs] {
            wire.query("ROLLBACK");
            let said = say(wire, "DISCARD ALL");
            assert_eq!(said[0], "CommandComplete DISCARD ALL", "{said:?}");
        }
    }

    /// All rows are as they were.
    pub fn put_back(&mut self) {
        self.begin();
        for (wire, rows) in self.direct.iter_mut().zip(&self.rows) {
            let said = say(wire, rows);
            assert!(!said.iter().any(|l| l.starts_with("Error")), "{said:?}");
        }
    }

    /// What is wrong with the rows, if anything is.
    pub fn compare_rows(&mut self) -> Option<String> {
        let mut wrong = None;
        for table in TABLES {
            let sql = format!("SELECT whole::text FROM {table} whole ORDER BY 1");
            let held = self
                .direct
                .iter_mut()
                .filter_map(|wire| exists(wire, table).then_some(wire));
            let mut all: Vec<Vec<String>> = held
                .map(|wire| wire.rows(&sql).into_iter().flatten().collect())
                .collect();
            let wanted = all.pop().unwrap();
            let mut found = match table {
                "r" => {
                    assert!(all.iter().all(|copy| *copy == all[0]), "copies: {all:?}");
                    all.swap_remove(0)
                }
                "s" => all.swap_remove(0),
                _ => all.concat(),
            };
            found.sort();
            let mut wanted = wanted;
            wanted.sort();
            if found != wanted {
                wrong = Some(format!("{table} holds {found:?} and not {wanted:?}"));
            }
        }
        for table in ["t", "u", "p"] {
            let sql = format!("SELECT id FROM {table}");
            for (shard, wire) in self.direct[..3].iter_mut().enumerate() {
                for id in wire.rows(&sql).into_iter().flatten() {
                    let right = owner(id.parse().unwrap());
                    assert_eq!(right, shard, "{table} {id}");
                }
            }
        }
        wrong
    }

    /// No transaction is left behind.
    pub fn finish(self) {
        self.stage.assert_nothing_prepared();
    }
}

/// TRUNCATE, and an INSERT of what there is.
fn put_back(wire: &mut Wire) -> String {
    let mut tables = TABLES.to_vec();
    tables.retain(|table| exists(wire, table));
    let mut sql = format!("TRUNCATE {}; ", tables.join(", "));
    for table in tables {
        let rows = wire.rows(&format!(
            "SELECT 'INSERT INTO {table} SELECT (' || quote_literal(whole::text) || '::{table}).*' FROM {table} whole"
        ));
        rows.iter().for_each(|row| sql += &format!("{}; ", row[0]));
    }
    sql
}

/// A table of the home shard is nowhere else.
fn exists(wire: &mut Wire, table: &str) -> bool {
    wire.rows(&format!("SELECT to_regclass('{table}') IS NOT NULL"))[0][0] == "t"
}

/// Asks and returns the whole answer.
pub fn ask(wire: &mut Wire, request: &Request, extended: bool) -> Vec<Frame> {
    let sql = request.sql;
    let values = |values: &[Option<Vec<u8>>], format| {
        let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
        message::bind("", "", format, &values, format)
    };
    let end = [
        message::describe_portal(""),
        message::execute("", 0),
        message::sync(),
    ]
    .concat();
    match &request.manner {
        Manner::Plain if !extended => wire.send(&message::query(sql)),
        Manner::Simple => wire.send(&message::query(sql)),
        Manner::Plain => {
            wire.send_all(&[message::parse("", sql, &[]), message::bind_text(&[]), end]);
        }
        Manner::Bind(types, given) => {
            let bind = values(given, Format::Text);
            wire.send_all(&[message::parse("", sql, types), bind, end]);
        }
        Manner::Binary(types, given) => {
            let bind = values(given, Format::Binary);
            wire.send_all(&[message::parse("", sql, types), bind, end]);
        }
        Manner::Portions(size) => {
            let begin = [message::parse("", sql, &[]), message::bind_text(&[])].concat();
            let portion = message::execute("", *size);
            wire.send_all(&[begin, portion.repeat(4), end]);
        }
        Manner::Copy(data, given_up) => {
            wire.send(&message::query(sql));
            let first = wire.frame();
            if first.kind != b'G' {
                let mut frames = vec![first];
                frames.extend(wire.until_ready());
                return frames;
            }
            wire.send(&message::message(b'd', data.as_bytes()));
            match given_up {
                true => wire.send(&message::message(b'f', b"enough\0")),
                false => wire.send(&message::message(b'c', b"")),
            }
        }
    }
    wire.until_ready()
}

/// An answer as lines that can be compared: what comes in no order is sorted; of what fails only how it fails counts.
pub fn comparable(sql: &str, frames: &[Frame]) -> Vec<String> {
    let shown = frames.iter().filter(|f| !matches!(f.kind, b'S' | b'2'));
    let mut lines: Vec<String> = shown.map(line).collect();
    if lines.iter().any(|line| line.starts_with("Error")) {
        lines.retain(|line| {
            ["Error", "Ready", "Command"]
                .iter()
                .any(|kept| line.starts_with(kept))
        });
    }
    if !ordered(sql) {
        lines.sort();
    }
    lines
}

/// Whether ORDER BY stands outside of all parentheses.
fn ordered(sql: &str) -> bool {
    let mut depth = 0;
    let outside: String = sql
        .chars()
        .filter(|c| {
            depth += i32::from(*c == '(') - i32::from(*c == ')');
            depth == 0
        })
        .collect();
    outside.contains("ORDER BY")
}

/// With the types of columns; those of users have other numbers in every database.
fn line(frame: &Frame) -> String {
    let mut line = frame.to_string();
    if frame.kind == b'T' {
        let mut rest = &frame.body[2..];
        while let Some(end) = rest.iter().position(|byte| *byte == 0) {
            let kind = u32::from_be_bytes(rest[end + 7..end + 11].try_into().unwrap());
            let modifier = i32::from_be_bytes(rest[end + 13..end + 17].try_into().unwrap());
            line += &match kind {
                16_384.. => " user".to_owned(),
                kind => format!(" {kind}/{modifier}"),
            };
            rest = &rest[end + 19..];
        }
    }
    line
}
