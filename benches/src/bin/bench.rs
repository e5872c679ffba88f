//! `make bench`: the router, PgBouncer and PostgreSQL itself under `pgbench -S`, in one run.
//!
//! Targets take turns in random order within each round, and ratios are formed within rounds. Then
//! come silent clients and planning. At the end very many clients come at once, where only hangs
//! and errors count. Exit status 0 means that every load went through without a failed transaction
//! and no bar that was measured is missed, 1 that one is missed or a load failed.

use mothership_benches::bars::{self, Levels};
use mothership_benches::bulk::{self, Bulk};
use mothership_benches::case::{Case, Mode, Work};
use mothership_benches::figures::{Figures, Latency, Sample, Samples};
use mothership_benches::idle::Idle;
use mothership_benches::load::{Meter, Pgbench, Run};
use mothership_benches::options::{Options, USAGE};
use mothership_benches::setting::Setting;
use mothership_benches::stage::{CONNECTIONS, Stage, Target};
use mothership_benches::statements::Statements;
use mothership_benches::trace::Trace;
use mothership_benches::{document, idle, interrupt, page, planning, report};
use mothership_cluster::Binaries;
use mothership_driver::order::{Ask, Done};
use mothership_tests::Folder;
use mothership_tests::mongo::mongod;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long very many clients are served; connecting is not part of it.
const CROWD_DURATION: Duration = Duration::from_secs(3);

/// How long a traced load takes at least, so that its logins hardly count: 16 of them in thousands of transactions.
const TRACED: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let mut options = match Options::read(lexopt::Parser::from_env()) {
        Ok(options) => options,
        Err(error) => {
            eprint!("bench: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    interrupt::watch();
    match run(&mut options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(missed) => {
            eprintln!("bench: {missed} bars are missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Out: how many bars are missed.
fn run(options: &mut Options) -> Result<usize, String> {
    raise_file_limit();
    let binaries = Binaries::find().map_err(|e| e.to_string())?;
    let mut notes = leave_out_documents(options);
    let mut out = match &options.out {
        Some(path) => {
            let file = File::create(path);
            Some(file.map_err(|e| format!("create {}: {e}", path.display()))?)
        }
        None => None,
    };
    let setting = Setting::read(options, &binaries);
    note(&mut out, setting.json(options))?;
    eprintln!("starting servers and proxies, filling tables");
    let stage = Stage::start(options, &binaries)?;
    let folder = Folder::new("pgbench");
    let is_bulk = options.cases.iter().any(|case| case.work.is_bulk());
    let bench = Bench {
        stage: &stage,
        pgbench: Pgbench::new(&binaries, folder.path(), options),
        bulk: is_bulk.then(|| Bulk::new(options.rows)),
        documents: options.documents,
    };
    if let Some(bulk) = &bench.bulk {
        stage.fill_bulk(bulk)?;
    }
    notes.extend(leave_out(options, &stage, &folder));
    // Silence would be taken for success.
    if options.planning.is_none() {
        notes.push("Planning is not measured: it was not asked for.".to_owned());
    }
    if !options.idle {
        notes.push("Silent clients are not measured: it was not asked for.".to_owned());
    }
    let options = &*options;
    println!(
        "seed {}, {} rounds of {} s, {CONNECTIONS} server connections for each proxy",
        options.seed,
        options.rounds,
        options.duration.as_secs()
    );
    let samples = bench.rounds(options, &mut out)?;
    let names: Vec<_> = options.targets.iter().map(|t| t.name()).collect();
    print!("{}", report::comparison(&samples, &names, &options.cases));
    println!(
        "\nRatios are to {}, of documents to {}, formed within rounds: median (min to max).",
        bars::BASE,
        bars::base(Work::Documents(Ask::Find))
    );
    let both = [Target::Shards, Target::Earlier].map(Target::name);
    let beside = report::beside(&samples, both, &options.cases);
    if !beside.is_empty() {
        println!("\nbeside the earlier build, within rounds");
        print!("{beside}");
    }
    let verdicts = bars::verdicts(&samples);
    let measured: Vec<_> = verdicts
        .iter()
        .filter(|v| v.measured.is_some())
        .copied()
        .collect();
    if !measured.is_empty() {
        println!("\nbars");
        print!("{}", report::bars(&measured));
    }
    let silent = match options.idle {
        true => bench.idle(options, &binaries, &mut out)?,
        false => Vec::new(),
    };
    let planned = match &options.planning {
        Some(program) => {
            eprintln!("planning");
            let planning = planning::measure(program, folder.path())?;
            note(&mut out, planning.json())?;
            bars::of_planning(&planning)
        }
        None => Vec::new(),
    };
    let levels = Levels {
        silent: silent.iter().flat_map(bars::levels).collect(),
        planned,
    };
    for (title, levels) in levels.titled() {
        println!("\n{title}");
        print!("{}", report::levels(levels));
    }
    for note in &notes {
        println!("\n{note}");
    }
    if let Some(path) = &options.report {
        let drawn = (&samples, &names[..], &options.cases[..], &silent[..]);
        write(path, &page::page(&setting, drawn, (&verdicts, &levels)))?;
        println!("\nplots: {}", path.display());
    }
    if let Some(path) = &options.document {
        let judged = (&verdicts[..], &levels, &notes[..]);
        write(path, &document::page(&setting, options, judged))?;
    }
    if options.crowd > 0 {
        let rows = bench.crowd(options, &mut out)?;
        println!("\n{} clients, no hang, no error", options.crowd);
        print!("{}", report::crowd(&rows));
    }
    let missed = verdicts
        .iter()
        .filter(|verdict| verdict.is_missed())
        .count();
    Ok(missed + levels.missed())
}

/// Takes out what needs MongoDB where there is none, or nothing to compare with; says so.
fn leave_out_documents(options: &mut Options) -> Vec<String> {
    let of_documents = |target: &Target| target.is_of_documents();
    if !options.targets.iter().any(of_documents) {
        return Vec::new();
    }
    if !options.cases.iter().any(|case| case.work.ask().is_some()) {
        options.targets.retain(|target| !of_documents(target));
        return Vec::new();
    }
    let why = match (&options.driver, mongod()) {
        (Some(_), Some(_)) => return Vec::new(),
        (Some(_), None) => "SKIP mongo: no mongod can be had",
        (None, _) => "there is no program to compare with",
    };
    options.targets.retain(|target| !of_documents(target));
    options.cases.retain(|case| case.work.ask().is_none());
    vec![format!("Tables on MongoDB are not measured: {why}.")]
}

/// Takes out the cases that this machine cannot measure; says which, and why.
fn leave_out(options: &mut Options, stage: &Stage, folder: &Folder) -> Vec<String> {
    let traced = |case: &Case| case.work == Work::Traced;
    let asked = options.targets.iter().filter(|target| {
        let mut cases = options.cases.iter();
        cases.any(|case| traced(case) && target.is_asked(case))
    });
    let pids = asked.filter_map(|target| stage.address(*target, Work::Traced).1);
    let tried = pids.map(|pid| Trace::start(pid, folder.path())?.end());
    match tried.collect::<Result<Vec<u64>, String>>() {
        Ok(_) => Vec::new(),
        Err(why) => {
            options.cases.retain(|case| !traced(case));
            vec![format!("System calls are not measured: {why}")]
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|e| format!("write {}: {e}", path.display()))
}

/// What runs, and what loads it.
struct Bench<'a> {
    stage: &'a Stage,
    pgbench: Pgbench,
    /// The rows of whole tables, if a case needs them.
    bulk: Option<Bulk>,
    /// Documents that there are to be read.
    documents: u32,
}

impl Bench<'_> {
    /// Loads all targets in all cases, round by round.
    fn rounds(&self, options: &Options, out: &mut Option<File>) -> Result<Samples, String> {
        let mut random = StdRng::seed_from_u64(options.seed);
        let mut samples = Samples::default();
        let mut order = options.targets.clone();
        let fastest = self.fastest(options)?;
        let load = |target: Target, case: Case, duration, seed| {
            let rate = match case.work {
                Work::Paced(percent) => Some(fastest * f64::from(percent) / 100.0),
                _ => None,
            };
            let run = Run {
                case,
                duration,
                seed,
                rate,
                databases: target.databases(),
            };
            self.load(target, &run)
        };
        for target in &order {
            // Connections are opened and plans are made before anything counts. The most clients of a mode see to
            // that for fewer of them, and for the same reads that are held back or traced.
            let selects = |mode| {
                let of_mode = move |case: &&Case| case.work == Work::Select && case.mode == mode;
                options.cases.iter().filter(of_mode)
            };
            let warms = |case: &&Case| match case.work {
                Work::Select => selects(case.mode).all(|other| other.clients <= case.clients),
                Work::Paced(_) | Work::Traced => selects(case.mode).next().is_none(),
                _ => true,
            };
            let cases = options.cases.iter().filter(warms);
            for case in cases.filter(|case| target.is_asked(case)) {
                let short = Duration::from_secs(1);
                load(*target, *case, short, random.random_range(1..=u32::MAX))?;
            }
        }
        let length = |case: &Case| match case.work {
            Work::Traced => options.duration.max(TRACED),
            _ => options.duration,
        };
        for round in 0..options.rounds {
            eprintln!("round {} of {}", round + 1, options.rounds);
            for case in &options.cases {
                // All targets read the same accounts.
                let seed = random.random_range(1..=u32::MAX);
                order.shuffle(&mut random);
                for target in order.iter().filter(|target| target.is_asked(case)) {
                    let sample = Sample {
                        target: target.name(),
                        case: *case,
                        round,
                        figures: load(*target, *case, length(case), seed)?,
                    };
                    note(out, sample.json())?;
                    samples.push(sample);
                }
            }
        }
        Ok(samples)
    }

    /// How many reads a second PostgreSQL itself does at its fastest, if a case is paced by that; else 0.
    fn fastest(&self, options: &Options) -> Result<f64, String> {
        let paced = |case: &Case| matches!(case.work, Work::Paced(_));
        if !options.cases.iter().any(paced) {
            return Ok(0.0);
        }
        let run = Run {
            case: Case::select(Mode::Simple, 16),
            duration: options.duration.max(Duration::from_secs(2)),
            seed: 1,
            rate: None,
            databases: 1,
        };
        Ok(self.load(Target::Direct, &run)?.tps)
    }

    /// Silent clients of PgBouncer and of the router over shards.
    fn idle(
        &self,
        options: &Options,
        binaries: &Binaries,
        out: &mut Option<File>,
    ) -> Result<Vec<Idle>, String> {
        let mut all = Vec::new();
        let asked = [Target::PgBouncer, Target::Shards, Target::Earlier];
        for target in asked.into_iter().filter(|t| options.targets.contains(t)) {
            eprintln!("silent clients, {}", target.name());
            let idle = idle::measure(self.stage, target, (options, binaries), &self.pgbench)?;
            note(out, idle.json())?;
            all.push(idle);
        }
        Ok(all)
    }

    /// Very many clients, once for each proxy and mode.
    fn crowd(
        &self,
        options: &Options,
        out: &mut Option<File>,
    ) -> Result<Vec<(&'static str, Case, Figures)>, String> {
        let mut rows = Vec::new();
        let proxies = [Target::PgBouncer, Target::Shards, Target::Pool];
        let selects = options
            .cases
            .iter()
            .filter(|case| case.work == Work::Select);
        let mut modes: Vec<_> = selects.map(|case| case.mode).collect();
        modes.dedup();
        for mode in modes {
            for target in proxies.iter().filter(|t| options.targets.contains(t)) {
                eprintln!(
                    "{} clients, {}, {}",
                    options.crowd,
                    mode.word(),
                    target.name()
                );
                let case = Case::select(mode, options.crowd);
                let run = Run {
                    case,
                    duration: CROWD_DURATION,
                    seed: 1,
                    rate: None,
                    databases: 1,
                };
                let figures = self.load(*target, &run)?;
                let sample = Sample {
                    target: target.name(),
                    case,
                    round: 0,
                    figures,
                };
                note(out, sample.json())?;
                rows.push((sample.target, case, sample.figures));
            }
        }
        Ok(rows)
    }

    fn load(&self, target: Target, run: &Run) -> Result<Figures, String> {
        interrupt::check()?;
        let work = run.case.work;
        let (port, pid) = self.stage.address(target, work);
        let done = match (work, &self.bulk) {
            (Work::Rows, Some(bulk)) => whole(pid, || {
                let megabytes = bulk.read(port)? as f64 / 1e6;
                Ok((megabytes, Vec::new()))
            }),
            (Work::Copy, Some(bulk)) => self.stage.empty(target, bulk::IN).and_then(|()| {
                whole(pid, || {
                    bulk.copy(port, bulk::IN)?;
                    Ok((f64::from(bulk.rows()), Vec::new()))
                })
            }),
            (Work::Documents(ask), _) => self.load_documents(target, ask, run),
            _ => self.pgbench.run(port, pid, run),
        };
        done.map_err(|error| match interrupt::is_asked() {
            true => error,
            false => {
                let told = self.stage.explain(target, work, &error);
                format!("{}: {told}", run.case)
            }
        })
    }

    /// Loads the program, or the router by a client that is cheap for the work.
    fn load_documents(&self, target: Target, ask: Ask, run: &Run) -> Result<Figures, String> {
        let (port, pid) = self.stage.address(target, run.case.work);
        if ask == Ask::Insert {
            self.stage.empty_documents();
        }
        let told = |done: Done| (done.units as f64, done.elapsed);
        match (self.stage.driver(target), ask) {
            (Some(driver), _) => whole(pid, || Ok(told(driver.run(ask, run, self.documents)?))),
            (None, Ask::Scan | Ask::Insert) => {
                let mut statements = Statements::prepare(port, ask, run, self.documents)?;
                whole(pid, || Ok(told(statements.run(run.duration)?)))
            }
            (None, Ask::Find) => {
                let reader = self.stage.reader().ok_or("nobody reads documents")?;
                whole(pid, || Ok(told(reader.run(ask, run, self.documents)?)))
            }
            (None, Ask::Group) => self.pgbench.run(port, pid, run),
        }
    }
}

/// Measures one thing that is done as a whole, which says how many units it was, and how long its statements took if
/// there were several.
fn whole(
    proxy: Option<u32>,
    done: impl FnOnce() -> Result<(f64, Vec<u64>), String>,
) -> Result<Figures, String> {
    let (meter, begun) = (Meter::start(proxy)?, Instant::now());
    let (units, statements) = done()?;
    let elapsed = begun.elapsed();
    let (cpu, machine) = meter.end()?.each(units);
    Ok(Figures {
        transactions: units.round() as u64,
        tps: units / elapsed.as_secs_f64(),
        cpu,
        machine: Some(machine),
        calls: None,
        connecting: 0.0,
        latency: Latency::of(statements),
    })
}

fn note(out: &mut Option<File>, value: Value) -> Result<(), String> {
    let Some(file) = out else { return Ok(()) };
    writeln!(file, "{value}").map_err(|e| format!("write the samples: {e}"))
}

/// A thousand clients are a thousand sockets, in pgbench and in the proxies, which inherit this.
fn raise_file_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls only touch the struct that they are given.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            // What cannot be raised is told by whoever runs out of it.
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
