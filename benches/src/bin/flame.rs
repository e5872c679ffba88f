//! `make flame`: where the router's CPU goes under point selects, as a flame graph.
//!
//! The router stands before three shards, as in `make bench`, and pgbench loads it while `perf record -g` samples its
//! stacks. perf walks them by frame pointers, which the router must have been built with. inferno's programs, which
//! `make flame` installs, make one SVG of them, to be opened by a browser, in which a click enlarges a function.

use lexopt::prelude::*;
use mothership_benches::case::{Case, Mode, Work};
use mothership_benches::child;
use mothership_benches::interrupt;
use mothership_benches::load::{Pgbench, Run};
use mothership_benches::options::Options;
use mothership_benches::stage::{Stage, Target};
use mothership_cluster::{Binaries, spawn_tied};
use mothership_tests::Folder;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

const USAGE: &str = "\
usage: flame --router PROGRAM --inferno FOLDER --out FILE
  --mode M      simple, extended or prepared (simple)
  --clients N   at the same time (16)
  --seconds N   of the load (10)
       flame --check    ends with 0 if perf is there
";

/// Samples a second of each core: many, and not in step with anything that happens every so many milliseconds.
const FREQUENCY: &str = "997";
/// How long perf may take to write what it has.
const LIMIT: Duration = Duration::from_secs(60);

const MISSING: &str = "perf is not installed: on Debian it is in linux-perf, on Ubuntu in linux-tools-generic, on Fedora in perf";

/// What is asked for.
struct Asked {
    router: PathBuf,
    /// Where inferno's programs are.
    inferno: PathBuf,
    out: PathBuf,
    case: Case,
    duration: Duration,
}

fn main() -> ExitCode {
    let asked = match read(lexopt::Parser::from_env()) {
        Ok(asked) => asked,
        Err(error) => {
            eprint!("flame: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    interrupt::watch();
    let done = is_installed().and_then(|()| asked.map_or(Ok(()), |asked| run(&asked)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flame: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Nothing if only perf is to be looked for.
fn read(mut arguments: lexopt::Parser) -> Result<Option<Asked>, lexopt::Error> {
    let (mut router, mut inferno, mut out) = (None, None, None);
    let (mut mode, mut clients, mut seconds) = (Mode::Simple, 16, 10);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("check") => return Ok(None),
            Long("router") => router = Some(PathBuf::from(arguments.value()?)),
            Long("inferno") => inferno = Some(PathBuf::from(arguments.value()?)),
            Long("out") => out = Some(PathBuf::from(arguments.value()?)),
            Long("clients") => clients = arguments.value()?.parse()?,
            Long("seconds") => seconds = arguments.value()?.parse()?,
            Long("mode") => {
                let word = arguments.value()?.string()?;
                mode = Mode::of(&word).ok_or_else(|| format!("\"{word}\" is not known"))?;
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(Asked {
        router: router.ok_or("--router PROGRAM is missing")?,
        inferno: inferno.ok_or("--inferno FOLDER is missing")?,
        out: out.ok_or("--out FILE is missing")?,
        case: Case::select(mode, clients),
        duration: Duration::from_secs(seconds),
    }))
}

fn is_installed() -> Result<(), String> {
    let mut perf = Command::new("perf");
    perf.arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match perf.status() {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(MISSING.into()),
        // The wrapper of some distributions is there without a perf for this kernel.
        Ok(status) if status.success() => Ok(()),
        Ok(_) | Err(_) => Err("perf --version fails: there is none for this kernel".into()),
    }
}

fn run(asked: &Asked) -> Result<(), String> {
    let binaries = Binaries::find().map_err(|e| e.to_string())?;
    let folder = Folder::new("flame");
    let options = stage_options(asked)?;
    eprintln!("starting servers and the router, filling tables");
    let stage = Stage::start(&options, &binaries)?;
    let pgbench = Pgbench::new(&binaries, folder.path(), &options);
    let (port, pid) = stage.address(Target::Shards, Work::Select);
    let pid = pid.ok_or("the router is not there")?;
    let load = |duration| {
        let run = Run {
            case: asked.case,
            duration,
            seed: 1,
            rate: None,
            databases: 1,
        };
        let done = pgbench.run(port, Some(pid), &run);
        done.map_err(|error| stage.explain(Target::Shards, Work::Select, &error))
    };
    // Connections are opened and plans are made before anything counts.
    load(Duration::from_secs(1))?;
    let samples = folder.path().join("perf.data");
    let perf = Recording::start(pid, &samples, folder.path())?;
    let figures = load(asked.duration)?;
    perf.end()?;
    let title = format!("mothership, {}", asked.case);
    let subtitle = format!(
        "{:.0} transactions a second, {:.1} us of CPU for each under perf",
        figures.tps,
        figures.cpu.unwrap_or_default()
    );
    draw(asked, &samples, folder.path(), (&title, &subtitle))?;
    println!("{title}: {subtitle}\n{}", asked.out.display());
    Ok(())
}

/// What `make bench` starts for the router over shards and nothing else.
fn stage_options(asked: &Asked) -> Result<Options, String> {
    let words = ["--targets", "shards", "--works", "select", "--router"].map(Into::into);
    let words = words
        .into_iter()
        .chain([asked.router.clone().into_os_string()]);
    Options::read(lexopt::Parser::from_args(words)).map_err(|e| e.to_string())
}

/// perf at work.
struct Recording {
    perf: std::process::Child,
    said: PathBuf,
}

impl Recording {
    fn start(pid: u32, samples: &Path, folder: &Path) -> Result<Recording, String> {
        let said = folder.join("perf.said");
        let file = File::create(&said).map_err(|e| format!("{}: {e}", said.display()))?;
        let mut command = Command::new("perf");
        // The clock of the CPU is on every machine, also on virtual ones that have no counters.
        command.args(["record", "-e", "cpu-clock", "-F", FREQUENCY, "-g"]);
        command.args(["-p", &pid.to_string()]);
        command.arg("-o").arg(samples);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        let perf = spawn_tied(command, libc::SIGKILL).map_err(|e| format!("start perf: {e}"))?;
        Ok(Recording { perf, said })
    }

    /// Ends it by SIGINT, upon which it writes what it has.
    fn end(mut self) -> Result<(), String> {
        let said = || std::fs::read_to_string(&self.said).unwrap_or_default();
        match child::end(&mut self.perf, LIMIT) {
            // It ends itself by the signal, once it has written.
            Some(status) if status.code().is_none_or(|code| code == 0) => Ok(()),
            Some(status) => Err(format!("perf record failed ({status}): {}", said().trim())),
            None => Err("perf record does not end".into()),
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let Ok(None) = self.perf.try_wait() {
            let _ = self.perf.kill();
            let _ = self.perf.wait();
        }
    }
}

/// Samples become stacks, stacks a picture.
fn draw(
    asked: &Asked,
    samples: &Path,
    folder: &Path,
    (title, subtitle): (&str, &str),
) -> Result<(), String> {
    let (stacks, folded) = (folder.join("stacks"), folder.join("folded"));
    let mut script = Command::new("perf");
    // Inlined functions would be looked up one by one, which takes minutes.
    script.args(["script", "--no-inline", "-i"]).arg(samples);
    write_by(script, &stacks)?;
    let mut fold = Command::new(asked.inferno.join("inferno-collapse-perf"));
    fold.arg(&stacks);
    write_by(fold, &folded)?;
    let mut picture = Command::new(asked.inferno.join("inferno-flamegraph"));
    picture.args(["--title", title, "--subtitle", subtitle]);
    // Samples of that clock count nanoseconds.
    picture.args(["--countname", "ms", "--factor", "1e-6"]);
    picture.arg(&folded);
    write_by(picture, &asked.out)
}

/// Runs a program whose output is the file.
fn write_by(mut program: Command, file: &Path) -> Result<(), String> {
    let name = program.get_program().to_string_lossy().into_owned();
    let out = File::create(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let done = program.stdin(Stdio::null()).stdout(out).output();
    let done = done.map_err(|e| format!("start {name}: {e}"))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(format!("{name} failed ({}): {}", done.status, said.trim()));
    }
    Ok(())
}
