//! The command line of `mothership`.
//!
//! It only reads arguments, calls the library and says how it went: exit code 0 for
//! success, 1 for failure, 2 for a wrong command line. Errors go to standard error, a line each.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::prelude::*;
use mothership::config::{self, Config};
use mothership::demo;

const USAGE: &str = "\
usage: mothership COMMAND

  run --config FILE            serve until SIGTERM; SIGHUP reads the file again
  check-config --config FILE   read the configuration, print what it amounts to, or what is wrong
  demo                         three shards, the router and a shop on this machine, until Ctrl-C
       [--port N]              the router's port on 127.0.0.1, 6432
       [--rows N] [--seed N]   about so many rows, made from this number
       [--state FOLDER]        where all of it is kept
       [--detach | --stop | --clean]
                               return when ready; end what runs so; remove it
  version                      print the version
  help                         print this
";

/// What the command line asks for.
#[derive(Debug)]
enum Command {
    Run {
        config: PathBuf,
    },
    CheckConfig {
        config: PathBuf,
    },
    Demo(demo::Options),
    /// Not in the usage: it makes `docs/configuration.md`.
    ConfigReference,
    Version,
    Help,
}

fn main() -> ExitCode {
    let command = match command(lexopt::Parser::from_env()) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("mothership: {error}");
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match obey(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

fn command(mut arguments: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let Some(first) = arguments.next()? else {
        return Err("no command".into());
    };
    match first {
        Value(word) => match word.string()?.as_str() {
            "run" => Ok(Command::Run {
                config: config_file(arguments)?,
            }),
            "check-config" => Ok(Command::CheckConfig {
                config: config_file(arguments)?,
            }),
            "demo" => Ok(Command::Demo(demo::Options::read(arguments)?)),
            "config-reference" => alone(arguments, Command::ConfigReference),
            "version" => alone(arguments, Command::Version),
            "help" => alone(arguments, Command::Help),
            other => Err(format!("unknown command \"{}\"", other.escape_debug()).into()),
        },
        Long("version") | Short('V') => alone(arguments, Command::Version),
        Long("help") | Short('h') => alone(arguments, Command::Help),
        other => Err(other.unexpected()),
    }
}

/// `--config FILE`, and nothing else.
fn config_file(mut arguments: lexopt::Parser) -> Result<PathBuf, lexopt::Error> {
    let mut file = None;
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("config") | Short('c') if file.is_none() => {
                file = Some(PathBuf::from(arguments.value()?))
            }
            Long("config") | Short('c') => return Err("--config is given twice".into()),
            other => return Err(other.unexpected()),
        }
    }
    file.ok_or_else(|| "--config FILE is missing".into())
}

fn alone(mut arguments: lexopt::Parser, command: Command) -> Result<Command, lexopt::Error> {
    match arguments.next()? {
        None => Ok(command),
        Some(extra) => Err(extra.unexpected()),
    }
}

fn obey(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Run { config: path } => {
            let config = Config::load(&path)?;
            mothership::log::start(&config.logging)?;
            Ok(mothership::run::run(&path, config)?)
        }
        Command::CheckConfig { config } => {
            print(&format!("{}\n", Config::load(&config)?.summary()))
        }
        Command::Demo(options) => Ok(demo::run(options)?),
        Command::ConfigReference => print(&config::reference()),
        Command::Version => print(&format!("mothership {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Help => print(USAGE),
    }
}

/// Unlike `print!` it does not panic when nobody reads.
fn print(text: &str) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    match std::io::Write::write_all(&mut out, text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// The error and its causes, a line each.
fn report(error: &dyn Error) {
    eprintln!("{error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}
