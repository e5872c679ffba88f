//! What a shard router must get right: 123 kinds of statements, each with cases that
//! the router over three shards and one PostgreSQL answer alike, or that are refused
//! with the reason that is expected. `docs/sql.md` is made of them.
//!
//! A refused statement is not asked of PostgreSQL; that it did nothing shows in the
//! rows, which are compared after each case.

#[path = "semantics/cases.rs"]
mod cases;
#[path = "semantics/page.rs"]
mod page;
#[path = "semantics/scene.rs"]
mod scene;

use cases::{Expected, Request, Row};
use mothership_plan::Reason;
use mothership_tests::Frame;
use scene::{Scene, ask, comparable};
use std::collections::BTreeMap;
use std::path::Path;

/// How many rows may be refused in all of their cases, and how many statements: both may only become fewer.
const REFUSED_ROWS: usize = 1;
const REFUSED_STATEMENTS: usize = 49;

/// The plan of each statement, by the row's number and the statement.
type Kinds = BTreeMap<(usize, &'static str), String>;

#[test]
fn every_row_is_answered_as_by_one_postgresql_or_refused_as_expected() {
    let rows = cases::rows();
    let kinds = run(&rows, false);
    let refused = rows.iter().filter(|row| row.is_refused()).count();
    let statements = rows.iter().flat_map(Row::requests);
    let statements = statements
        .filter(|request| matches!(request.expected, Expected::Refused(_)))
        .count();
    println!("{refused} rows and {statements} statements are refused");
    assert!(refused <= REFUSED_ROWS, "{refused} rows are refused");
    assert!(
        statements <= REFUSED_STATEMENTS,
        "{statements} statements are refused"
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sql.md");
    let made = page::page(&rows, &kinds);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let written = std::fs::read_to_string(path).expect("docs/sql.md is there");
    assert!(
        written == made,
        "docs/sql.md is not what the cases say: UPDATE_DOCS=1 writes it"
    );
}

#[test]
fn in_the_extended_protocol_too() {
    run(&cases::rows(), true);
}

#[test]
fn no_row_is_left_out_and_every_test_that_is_named_exists() {
    let rows = cases::rows();
    let numbers: Vec<usize> = rows.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=123).collect::<Vec<_>>());
    let mut sources = String::new();
    for folder in ["tests", "router", "pool/src", "shardmap/src"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        read_sources(&root.join(folder), &mut sources);
    }
    for row in &rows {
        assert!(
            row.requests().count() + row.tests.len() > 0 || row.absent.is_some(),
            "row {} has no case",
            row.number
        );
        for test in &row.tests {
            let there = sources.contains(&format!("fn {test}("));
            assert!(there, "row {} names {test}", row.number);
        }
    }
}

fn read_sources(folder: &Path, out: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(&path, out);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            *out += &std::fs::read_to_string(&path).unwrap();
        }
    }
}

impl Row {
    /// All that is asked.
    fn requests(&self) -> impl Iterator<Item = &Request> {
        self.sessions.iter().flatten()
    }

    fn refuses(&self) -> bool {
        let mut requests = self.requests();
        requests.any(|request| matches!(request.expected, Expected::Refused(_)))
    }

    /// Whether nothing of it is answered.
    fn is_refused(&self) -> bool {
        self.absent.is_some()
            || self.tests.is_empty()
                && self
                    .sessions
                    .iter()
                    .all(|s| s.iter().any(|r| matches!(r.expected, Expected::Refused(_))))
    }
}

/// Runs every case; panics with all that is not as expected.
fn run(rows: &[Row], extended: bool) -> Kinds {
    let mut scene = Scene::new();
    let mut wrong = Vec::new();
    let mut kinds = Kinds::new();
    for row in rows {
        for session in &row.sessions {
            scene.begin();
            for request in session {
                if !extended && let Some(kind) = kind(&mut scene, request) {
                    kinds.insert((row.number, request.sql), kind);
                }
                if let Err(what) = judge(&mut scene, request, extended) {
                    wrong.push(format!("{}: {}\n{what}", row.number, request.sql));
                }
            }
            if session.iter().all(Request::only_reads) {
                continue;
            }
            if let Some(what) = scene.compare_rows() {
                wrong.push(format!("{}: {}\n  {what}", row.number, session[0].sql));
            }
            scene.put_back();
        }
    }
    scene.finish();
    assert!(
        wrong.is_empty(),
        "{} are not as expected:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    kinds
}

/// What the router says of its plan.
fn kind(scene: &mut Scene, request: &Request) -> Option<String> {
    let words = [
        "SELECT", "WITH", "VALUES", "TABLE", "INSERT", "UPDATE", "DELETE", "MERGE", "(", "COPY",
        "TRUNCATE", "CREATE", "ALTER", "DROP",
    ];
    if !words.iter().any(|word| request.sql.starts_with(word)) {
        return None;
    }
    let frames = scene
        .ours
        .query(&format!("EXPLAIN (ROUTE) {}", request.sql));
    let first = frames.iter().find(|frame| frame.kind == b'D')?;
    let plan = first.row_text().concat();
    plan.strip_prefix("Plan: ").map(str::to_owned)
}

fn judge(scene: &mut Scene, request: &Request, extended: bool) -> Result<(), String> {
    let ours = ask(&mut scene.ours, request, extended);
    if let Expected::Refused(why) = request.expected {
        return is_refusal(&ours, why);
    }
    let theirs = ask(&mut scene.theirs, request, extended);
    let (mut found, mut wanted) = (
        comparable(request.sql, &ours),
        comparable(request.sql, &theirs),
    );
    if let Expected::Differs(_) = request.expected {
        for lines in [&mut found, &mut wanted] {
            for line in lines.iter_mut().filter(|line| line.starts_with("DataRow")) {
                *line = "DataRow".into();
            }
        }
    }
    match found == wanted {
        true => Ok(()),
        false => Err(format!("  router:     {found:?}\n  postgresql: {wanted:?}")),
    }
}

fn is_refusal(frames: &[Frame], why: &str) -> Result<(), String> {
    let reason = Reason::ALL.iter().find(|reason| reason.text().code == why);
    let message = reason.map_or(why, |reason| reason.text().message);
    let error = frames.iter().find(|frame| frame.kind == b'E');
    let said = error.map(|error| (error.sqlstate(), error.field('M'), error.field('H')));
    match said {
        Some((state, Some(said), Some(hint)))
            if state == "0A000" && said == message && hint.len() > 10 =>
        {
            Ok(())
        }
        _ => Err(format!(
            "  expected:   {why}\n  router:     {}",
            mothership_tests::frame::show(frames)
        )),
    }
}
