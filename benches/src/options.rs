//! The command line of the benchmark.

use crate::case::{Case, Mode, Work};
use crate::stage::Target;
use lexopt::prelude::*;
use std::path::PathBuf;
use std::time::Duration;

/// What the program takes.
pub const USAGE: &str = "\
usage: bench --router PROGRAM [--pgbouncer PROGRAM]
  --rounds N        each round loads every target once in every case (8)
  --seconds N       of one load (1)
  --works A,B       of select, paced, traced, connect, login, branch, pipeline, rows, copy, and of tables on MongoDB
                    find, scan, group, insert (all)
  --clients A,B     clients at the same time, for select (1,16,64)
  --modes A,B       of simple, extended, prepared, for select (all)
  --targets A,B     of direct, pgbouncer, shards, shards-plain, shards-cores, pool, pool-cores, documents, driver
                    (all but those with a runtime for each core)
  --earlier PROGRAM an earlier build of the router, loaded in turn with this one as the target earlier
  --crowd N         clients of a last run, which looks for hangs and errors; 0: none (1000)
  --idle N          1: what silent clients cost; 0: not (1)
  --scale N         of pgbench's tables: 100,000 rows each (10)
  --rows N          of the tables that are read and filled as a whole (500000)
  --documents N     of the collection that is read; a scan reads half of them (200000)
  --driver PROGRAM  what reads and writes documents by MongoDB's driver; without it these are not measured
  --planning FILE   the benchmark of planning, as cargo has built it; without it planning is not measured
  --out FILE        every sample as a line of JSON
  --report FILE     a page with plots
  --document FILE   the page of the documentation
  --seed N          of the order in which targets take turns
";

/// What a run is to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// The router's program.
    pub router: PathBuf,
    /// An earlier build of the router to compare with.
    pub earlier: Option<PathBuf>,
    /// PgBouncer's program; without it there is nothing to compare with.
    pub pgbouncer: Option<PathBuf>,
    /// How often every target is loaded in every case.
    pub rounds: u32,
    /// How long one load takes.
    pub duration: Duration,
    /// What is asked of the targets.
    pub cases: Vec<Case>,
    /// Who is asked.
    pub targets: Vec<Target>,
    /// Clients of the last run, or 0.
    pub crowd: u32,
    /// Whether silent clients are measured.
    pub idle: bool,
    /// The size of pgbench's tables.
    pub scale: u32,
    /// Rows of the tables that are read and filled as a whole.
    pub rows: u32,
    /// Documents of the collection that is read.
    pub documents: u32,
    /// The program that reads and writes documents by MongoDB's own driver.
    pub driver: Option<PathBuf>,
    /// The program that measures planning.
    pub planning: Option<PathBuf>,
    /// Where the samples go.
    pub out: Option<PathBuf>,
    /// Where a page with plots goes.
    pub report: Option<PathBuf>,
    /// Where the page of the documentation goes.
    pub document: Option<PathBuf>,
    /// Decides the order of the targets.
    pub seed: u64,
}

impl Options {
    /// Reads the command line; the error is for the user.
    pub fn read(mut arguments: lexopt::Parser) -> Result<Options, lexopt::Error> {
        let (mut router, mut earlier, mut pgbouncer) = (None, None, None);
        let (mut out, mut report, mut document) = (None, None, None);
        let (mut rounds, mut seconds, mut crowd, mut scale) = (8, 1, 1000, 10);
        let (mut idle, mut rows, mut planning) = (1, 500_000, None);
        let (mut documents, mut driver) = (200_000, None);
        let mut clients = vec![1, 16, 64];
        let mut modes = Mode::ALL.to_vec();
        let mut works = Work::WORDS.to_vec();
        let mut targets = Target::JUDGED.to_vec();
        let mut seed = rand::random::<u32>().into();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("router") => router = Some(PathBuf::from(arguments.value()?)),
                Long("earlier") => earlier = Some(PathBuf::from(arguments.value()?)),
                Long("pgbouncer") => pgbouncer = Some(PathBuf::from(arguments.value()?)),
                Long("out") => out = Some(PathBuf::from(arguments.value()?)),
                Long("report") => report = Some(PathBuf::from(arguments.value()?)),
                Long("document") => document = Some(PathBuf::from(arguments.value()?)),
                Long("rounds") => rounds = at_least_one(arguments.value()?.parse()?)?,
                Long("seconds") => seconds = at_least_one(arguments.value()?.parse()?)?,
                Long("scale") => scale = at_least_one(arguments.value()?.parse()?)?,
                Long("rows") => rows = at_least_one(arguments.value()?.parse()?)?,
                Long("documents") => documents = at_least_one(arguments.value()?.parse()?)?,
                Long("driver") => driver = Some(PathBuf::from(arguments.value()?)),
                Long("planning") => planning = Some(PathBuf::from(arguments.value()?)),
                Long("crowd") => crowd = arguments.value()?.parse()?,
                Long("idle") => idle = arguments.value()?.parse()?,
                Long("seed") => seed = arguments.value()?.parse()?,
                Long("clients") => {
                    let number = |word: &str| word.parse().ok().filter(|n| *n > 0);
                    clients = list(&arguments.value()?.string()?, number)?;
                }
                Long("works") => {
                    let known = |word: &str| Work::WORDS.into_iter().find(|known| *known == word);
                    works = list(&arguments.value()?.string()?, known)?;
                }
                Long("modes") => modes = list(&arguments.value()?.string()?, Mode::of)?,
                Long("targets") => targets = list(&arguments.value()?.string()?, Target::of)?,
                other => return Err(other.unexpected()),
            }
        }
        let of = |mode: &Mode| {
            let mode = *mode;
            clients
                .iter()
                .map(move |&clients| Case::select(mode, clients))
        };
        let selects = modes.iter().flat_map(of);
        let mut cases: Vec<_> = selects.chain(Case::OTHERS).collect();
        cases.retain(|case| works.contains(&case.work.word()));
        if pgbouncer.is_none() {
            targets.retain(|target| *target != Target::PgBouncer);
        }
        if earlier.is_some() && !targets.contains(&Target::Earlier) {
            targets.push(Target::Earlier);
        } else if earlier.is_none() && targets.contains(&Target::Earlier) {
            return Err("--earlier PROGRAM is missing".into());
        }
        Ok(Options {
            router: router.ok_or("--router PROGRAM is missing")?,
            earlier,
            pgbouncer,
            rounds,
            duration: Duration::from_secs(u64::from(seconds)),
            cases,
            targets,
            crowd,
            idle: idle > 0,
            scale,
            rows,
            documents,
            driver,
            planning,
            out,
            report,
            document,
            seed,
        })
    }
}

fn at_least_one(number: u32) -> Result<u32, lexopt::Error> {
    match number {
        0 => Err("must be at least 1".into()),
        _ => Ok(number),
    }
}

/// Words with commas between them.
fn list<T>(words: &str, of: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, lexopt::Error> {
    let one = |word: &str| of(word).ok_or_else(|| format!("\"{word}\" is not known").into());
    words.split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(line: &str) -> Result<Options, lexopt::Error> {
        Options::read(lexopt::Parser::from_args(line.split_whitespace()))
    }

    #[test]
    fn cases_are_all_modes_with_all_numbers_of_clients() {
        let line = "--router r --pgbouncer p --works select --modes simple,prepared --clients 2,4";
        let options = read(line).unwrap();
        let cases: Vec<_> = options.cases.iter().map(|c| (c.mode, c.clients)).collect();
        let (a, b) = (Mode::Simple, Mode::Prepared);
        assert_eq!(cases, [(a, 2), (a, 4), (b, 2), (b, 4)]);
        assert_eq!(options.targets, Target::JUDGED);
    }

    #[test]
    fn an_earlier_build_is_a_target_where_there_is_one() {
        let line = "--router r --pgbouncer p --targets shards";
        assert_eq!(read(line).unwrap().targets, [Target::Shards]);
        assert!(read(&format!("{line},earlier")).is_err());
        for named in ["", ",earlier"] {
            let options = read(&format!("{line}{named} --earlier e")).unwrap();
            assert_eq!(options.targets, [Target::Shards, Target::Earlier]);
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for line in [
            "",
            "--router r --modes simple,fast",
            "--router r --works select,delete",
            "--router r --clients 0",
            "--router r --targets router",
            "--router r --rounds 0",
            "--router r --speed 3",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
