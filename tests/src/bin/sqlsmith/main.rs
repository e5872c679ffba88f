//! sqlsmith as an independent judge: a generator of statements that knows nothing of this project.
//!
//! sqlsmith reads the schema of a plain PostgreSQL and prints statements. Each runs on two plain databases, which hold
//! the same rows in opposite order, and through the router over shards. Where the two plain databases agree, PostgreSQL
//! has only one answer, and the router must give the same one or refuse (0A000). Where they differ the answer depends
//! on the order of rows or on the moment, and nothing is judged; nor is it where a function asks for the server's state.
//!
//! Most statements of sqlsmith have LIMIT without ORDER BY, or TABLESAMPLE: they would hardly ever be judged. So
//! TABLESAMPLE and such LIMITs are taken out of the text, and rows picked by `LIMIT 1 OFFSET n` are sorted first.
//!
//! COUNT, SEED and SHARDS come from the environment; VERBOSE=1 prints the reasons of refusals. See `make sqlsmith`.

#![allow(clippy::unwrap_used)] // A proof that cannot go on has nothing better than to say where.

mod answer;
mod statement;

use crate::answer::Answer;
use mothership_tests::proof::{self, number};
use mothership_tests::{Endpoint, Router, Shards, Wire, shared};
use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

const PROGRAM: &str = "sqlsmith";
const SCHEMA: &str = include_str!("schema.sql");
/// Statements of one run of sqlsmith.
const BATCH: u64 = 500;
/// sqlsmith reads its seed as a signed number of 32 bits, and prints nothing for one beyond.
const SEEDS: u64 = 1 << 31;
/// How long a statement may run on a plain PostgreSQL; what takes longer is not judged.
const PATIENCE: &str = "SET statement_timeout = '1s'";
/// How long through the router. Beyond it an answer is a fault of the router.
const BOUND: &str = "SET statement_timeout = '10s'";
const SILENCE: Duration = Duration::from_secs(40);

fn main() -> ExitCode {
    if !is_installed() {
        println!("SKIP sqlsmith is not installed (Debian's package sqlsmith)");
        return ExitCode::SUCCESS;
    }
    let seed = proof::seed();
    let count = number("COUNT", 100_000);
    let shards = usize::try_from(number("SHARDS", 3)).unwrap();
    shared::cluster()
        .sql("postgres", "ALTER SYSTEM SET jit = off")
        .unwrap();
    shared::cluster()
        .sql("postgres", "SELECT pg_reload_conf()")
        .unwrap();
    let mut sides = Sides::new(shards);
    let mut report = Report::default();
    for batch in 0.. {
        if report.statements >= count {
            break;
        }
        let batch_seed = (seed + batch) % SEEDS;
        for sql in generate(&sides.plain_endpoint(), batch_seed) {
            if report.statements >= count {
                break;
            }
            sides.judge(&sql, &mut report);
        }
    }
    report.print(seed);
    match report.wrong {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Whether the program is there.
fn is_installed() -> bool {
    let mut command = Command::new(PROGRAM);
    command.arg("--version");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}

/// The statements of one run, as they are judged.
fn generate(plain: &Endpoint, seed: u64) -> Vec<String> {
    let out = Command::new(PROGRAM)
        .arg(format!("--target={}", plain.conninfo()))
        .args(["--exclude-catalog", "--dry-run"])
        .arg(format!("--seed={seed}"))
        .arg(format!("--max-queries={BATCH}"))
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let statements: Vec<String> = statement::split(&text).map(statement::settled).collect();
    assert!(!statements.is_empty(), "sqlsmith printed no statement");
    statements
}

/// The plain databases and the router.
struct Sides {
    plain: [Wire; 2],
    routed: Wire,
    endpoint: Endpoint,
    plain_at: usize,
    // In this order: the router ends before its databases are dropped.
    _router: Router,
    databases: Shards,
}

impl Sides {
    fn new(shards: usize) -> Sides {
        let databases = Shards::new(shards + 2);
        let more: Vec<&str> = SCHEMA.lines().filter(|l| !l.starts_with("--")).collect();
        for at in 0..shards + 2 {
            for sql in &more {
                databases.sql(at, sql);
            }
        }
        let router = Router::start(&config(&databases, shards));
        let endpoint = Endpoint {
            database: "app".into(),
            ..databases.endpoint(0).at_port(router.port())
        };
        let mut sides = Sides {
            plain: [shards, shards + 1].map(|at| login(&databases.endpoint(at), PATIENCE)),
            routed: login(&endpoint, BOUND),
            endpoint,
            plain_at: shards,
            _router: router,
            databases,
        };
        let rows = statement::rows();
        for sql in &rows {
            must(&mut sides.plain[0], sql);
            must(&mut sides.routed, sql);
        }
        for sql in rows.iter().rev() {
            must(&mut sides.plain[1], sql);
        }
        sides
    }

    fn plain_endpoint(&self) -> Endpoint {
        self.databases.endpoint(self.plain_at)
    }

    fn judge(&mut self, sql: &str, report: &mut Report) {
        report.statements += 1;
        let [a, b] = &mut self.plain;
        let (a, b) = (answer::ask(a, sql), answer::ask(b, sql));
        if a.code() == Some("57014") || b.code() == Some("57014") {
            report.slow += 1;
            return;
        }
        let routed = answer::ask(&mut self.routed, sql);
        if routed == Answer::Lost {
            report.wrong(sql, &a, &routed);
            self.routed = login(&self.endpoint, BOUND);
            return;
        }
        match (&a, &b, &routed) {
            (_, _, Answer::Error { code, message })
                if a.code() != Some(code) && is_refusal(code) =>
            {
                report.refused(sql, message);
            }
            _ if a != b || statement::is_of_the_moment(sql) => report.open += 1,
            (Answer::Error { code, .. }, _, Answer::Error { code: said, .. }) => {
                report.errors += 1;
                if code != said {
                    *report
                        .codes
                        .entry(format!("{said} for {code}"))
                        .or_default() += 1;
                }
            }
            // Which rows are computed before others are left out is PostgreSQL's freedom.
            (Answer::Error { .. }, _, Answer::Rows { .. }) => report.spared += 1,
            (Answer::Rows { .. }, _, Answer::Error { code, message })
                if is_of_a_value(code, message) =>
            {
                report.early += 1;
            }
            _ if a == routed => report.equal += 1,
            _ if statement::lists_rows(sql) && a.is_in_another_order(&routed) => report.open += 1,
            _ => report.wrong(sql, &a, &routed),
        }
    }
}

/// Whether such an error comes of computing one value. Whether a row is computed that is left out later is PostgreSQL's
/// freedom. It calls wrong flags of a range a syntax error, and `lo_import` looks for a file.
fn is_of_a_value(code: &str, message: &str) -> bool {
    let of_a_file = code == "58P01" && message.starts_with("could not open server file");
    code.starts_with("22") || message.starts_with("invalid range bound flags") || of_a_file
}

/// What the router says where it does not answer.
fn is_refusal(code: &str) -> bool {
    matches!(code, "0A000" | "54001")
}

fn login(endpoint: &Endpoint, patience: &str) -> Wire {
    let mut wire = Wire::login(endpoint);
    wire.set_limit(SILENCE);
    must(&mut wire, patience);
    wire
}

fn must(wire: &mut Wire, sql: &str) {
    let frames = wire.query(sql);
    if let Some(error) = frames.iter().find(|frame| frame.kind == b'E') {
        panic!("{sql}: {error}");
    }
}

/// The router over these shards, with the tables that the schema declares.
fn config(databases: &Shards, shards: usize) -> String {
    let direct = databases.endpoint(0);
    let mut text = format!(
        "[listen]\naddress = [\"127.0.0.1\"]\nport = @port@\n[control]\nuser = \"{}\"\npassword = \"{}\"\n",
        direct.user, direct.password
    );
    let mut on = Vec::new();
    for shard in 0..shards {
        let name = shard + 1;
        text += &format!(
            "[[shard]]\nname = \"s{name}\"\n[[shard.server]]\naddress = \"{}:{}\"\n",
            direct.host, direct.port
        );
        on.push(format!(
            "s{name} = \"{}\"",
            databases.endpoint(shard).database
        ));
    }
    text += &format!(
        "[[database]]\nname = \"app\"\non = {{ {} }}\n",
        on.join(", ")
    );
    let declared = SCHEMA.lines().filter_map(|line| line.strip_prefix("--@ "));
    for words in declared.map(|line| line.split(' ').collect::<Vec<_>>()) {
        text += &match words[..] {
            ["sharded", table, key] => {
                format!("[[table]]\nname = \"{table}\"\nkey = \"{key}\"\n")
            }
            ["reference", table] => {
                format!("[[table]]\nname = \"{table}\"\nkind = \"reference\"\n")
            }
            _ => panic!("{words:?}"),
        };
    }
    text
}

/// What came of all statements.
#[derive(Default)]
struct Report {
    statements: u64,
    equal: u64,
    /// Both said an error.
    errors: u64,
    /// PostgreSQL said an error that the router's plan did not meet.
    spared: u64,
    /// The other way round: the router's plan met an error that PostgreSQL's did not.
    early: u64,
    /// PostgreSQL has more than one answer.
    open: u64,
    slow: u64,
    /// By reason: how many, and the shortest.
    refused: BTreeMap<String, (u64, String)>,
    codes: BTreeMap<String, u64>,
    wrong: u64,
}

impl Report {
    fn refused(&mut self, sql: &str, message: &str) {
        let (count, shortest) = self.refused.entry(answer::reason(message)).or_default();
        *count += 1;
        if shortest.is_empty() || sql.len() < shortest.len() {
            sql.clone_into(shortest);
        }
    }

    fn wrong(&mut self, sql: &str, plain: &Answer, routed: &Answer) {
        self.wrong += 1;
        println!("WRONG {sql}\n  PostgreSQL: {plain}\n  router:     {routed}");
    }

    fn print(&self, seed: u64) {
        let refused: u64 = self.refused.values().map(|(count, _)| count).sum();
        if std::env::var("VERBOSE").is_ok_and(|v| v == "1") {
            for (reason, (count, shortest)) in &self.refused {
                println!("refused {count:6} {reason}\n  {shortest}");
            }
        }
        for (codes, count) in &self.codes {
            println!("other SQLSTATE {count:6} {codes}");
        }
        println!(
            "sqlsmith: statements={} equal={} errors={} spared={} early={} open={} slow={} refused={refused} wrong={} seed={seed}",
            self.statements,
            self.equal,
            self.errors,
            self.spared,
            self.early,
            self.open,
            self.slow,
            self.wrong
        );
    }
}
