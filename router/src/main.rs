//! The command line of `mothership`.
//!
//! It only reads arguments, calls the library and says how it went: exit code 0 for
//! success, 1 for failure, 2 for a wrong command line. Errors go to standard error, a line each.

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::prelude::*;
use mothership::config::moment;
use mothership::config::{self, Config};
#[cfg(feature = "mongo")]
use mothership::offline::mongo;
use mothership::offline::{self, Asker, Source};
use mothership::takeover::successor;
use mothership_demo as demo;

const USAGE: &str = "\
usage: mothership COMMAND

  run --config FILE            serve until SIGTERM; SIGHUP reads the file again
       [--take-over]           take the ports over from the process that has them, if there is one
  upgrade --config FILE        have the running process start the program anew, which takes over from it
  check-config --config FILE   read the configuration, print what it amounts to, or what is wrong
       [--connect]             ask the servers, too: what differs, what is missing
  explain --config FILE        say where a statement would go, and why, without executing it
       [--catalog FILE | --database NAME]
                               the catalog from a file, or from the shards of a database
       [--search-path a,b]     schemas of unqualified names, public
       [--user NAME] [--application NAME] [--from ADDRESS | --from local] [--at TIME]
                               who would send it: then the rule that decides is named, too
       [SQL]                   the statement, else standard input
  mongo infer --config FILE SHARD COLLECTION
                               look at a collection of MongoDB and propose the declaration of a table for it
       [--database NAME]       in which database, where several are declared
       [--sample N]            from so many documents, 1000
  mongo ensure-indexes --config FILE
                               make the indexes of MongoDB that declared unique keys need; drops none
       [--dry-run]             only say which
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
        take_over: bool,
    },
    Upgrade {
        config: PathBuf,
    },
    CheckConfig {
        config: PathBuf,
        connect: bool,
    },
    Explain {
        config: PathBuf,
        source: Source,
        search_path: Option<Vec<String>>,
        asker: Option<Asker>,
        /// None: standard input.
        sql: Option<String>,
    },
    #[cfg(feature = "mongo")]
    Infer {
        config: PathBuf,
        wanted: mongo::Wanted,
    },
    #[cfg(feature = "mongo")]
    EnsureIndexes {
        config: PathBuf,
        dry_run: bool,
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
            "run" => {
                let (config, take_over) = config_and(arguments, "take-over")?;
                Ok(Command::Run { config, take_over })
            }
            "upgrade" => Ok(Command::Upgrade {
                config: config_file(arguments)?,
            }),
            "check-config" => {
                let (config, connect) = config_and(arguments, "connect")?;
                Ok(Command::CheckConfig { config, connect })
            }
            "explain" => explain(arguments),
            "mongo" => of_mongo(arguments),
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

/// `--config FILE`, and perhaps this word without a value.
fn config_and(mut arguments: lexopt::Parser, word: &str) -> Result<(PathBuf, bool), lexopt::Error> {
    let (mut config, mut is_there) = (None, false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("config") | Short('c') => once("--config", &mut config, arguments.value()?)?,
            Long(given) if given == word => is_there = true,
            other => return Err(other.unexpected()),
        }
    }
    Ok((config.ok_or("--config FILE is missing")?.into(), is_there))
}

fn explain(mut arguments: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let (mut config, mut catalog, mut database) = (None, None, None);
    let (mut search_path, mut sql) = (None, None);
    let (mut user, mut application, mut from, mut at) = (None, None, None, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("config") | Short('c') => once("--config", &mut config, arguments.value()?)?,
            Long("catalog") => once("--catalog", &mut catalog, arguments.value()?)?,
            Long("database") => once("--database", &mut database, arguments.value()?)?,
            Long("search-path") => once("--search-path", &mut search_path, arguments.value()?)?,
            Long("user") => once("--user", &mut user, arguments.value()?)?,
            Long("application") => once("--application", &mut application, arguments.value()?)?,
            Long("from") => once("--from", &mut from, arguments.value()?)?,
            Long("at") => once("--at", &mut at, arguments.value()?)?,
            Value(text) => once("the statement", &mut sql, text)?,
            other => return Err(other.unexpected()),
        }
    }
    let source = match (catalog, database) {
        (None, None) => Source::None,
        (Some(file), None) => Source::File(file.into()),
        (None, Some(name)) => Source::Database(name.string()?),
        (Some(_), Some(_)) => return Err("--catalog and --database exclude each other".into()),
    };
    let is_asked = user.is_some() || application.is_some() || from.is_some() || at.is_some();
    let text = |given: Option<OsString>| given.map_or(Ok(String::new()), |text| text.string());
    let address = match text(from)?.as_str() {
        "" | "local" => None,
        address => Some(
            address
                .parse()
                .map_err(|_| "--from takes an IP address, or local")?,
        ),
    };
    let at = match at {
        None => None,
        Some(at) => {
            Some(moment(&at.string()?).ok_or("--at takes a time such as 2026-01-05T08:30:00Z")?)
        }
    };
    let asker = Asker {
        user: text(user)?,
        application: text(application)?,
        address,
        at,
    };
    let schemas = |path: String| path.split(',').map(|s| s.trim().to_owned()).collect();
    Ok(Command::Explain {
        config: config.ok_or("--config FILE is missing")?.into(),
        source,
        search_path: search_path.map(|p| p.string()).transpose()?.map(schemas),
        asker: is_asked.then_some(asker),
        sql: sql.map(|sql| sql.string()).transpose()?,
    })
}

#[cfg(feature = "mongo")]
fn of_mongo(mut arguments: lexopt::Parser) -> Result<Command, lexopt::Error> {
    match arguments.next()? {
        Some(Value(word)) if word == "infer" => infer(arguments),
        Some(Value(word)) if word == "ensure-indexes" => {
            let (config, dry_run) = config_and(arguments, "dry-run")?;
            Ok(Command::EnsureIndexes { config, dry_run })
        }
        Some(other) => Err(other.unexpected()),
        None => Err("mongo what? infer or ensure-indexes".into()),
    }
}

#[cfg(not(feature = "mongo"))]
fn of_mongo(_: lexopt::Parser) -> Result<Command, lexopt::Error> {
    Err("this build has no driver for MongoDB (cargo's feature \"mongo\")".into())
}

#[cfg(feature = "mongo")]
fn infer(mut arguments: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let (mut config, mut database, mut sample) = (None, None, None);
    let (mut shard, mut collection) = (None, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("config") | Short('c') => once("--config", &mut config, arguments.value()?)?,
            Long("database") => once("--database", &mut database, arguments.value()?)?,
            Long("sample") => once("--sample", &mut sample, arguments.value()?)?,
            Value(text) if shard.is_none() => shard = Some(text),
            Value(text) => once("COLLECTION", &mut collection, text)?,
            other => return Err(other.unexpected()),
        }
    }
    let sample = match sample {
        Some(number) => number.parse()?,
        None => mongo::SAMPLE,
    };
    Ok(Command::Infer {
        config: config.ok_or("--config FILE is missing")?.into(),
        wanted: mongo::Wanted {
            shard: shard.ok_or("SHARD is missing")?.string()?,
            collection: collection.ok_or("COLLECTION is missing")?.string()?,
            database: database.map(|name| name.string()).transpose()?,
            sample,
        },
    })
}

fn once(what: &str, slot: &mut Option<OsString>, value: OsString) -> Result<(), lexopt::Error> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{what} is given twice").into()),
    }
}

fn alone(mut arguments: lexopt::Parser, command: Command) -> Result<Command, lexopt::Error> {
    match arguments.next()? {
        None => Ok(command),
        Some(extra) => Err(extra.unexpected()),
    }
}

fn obey(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Run {
            config: path,
            take_over,
        } => {
            let config = Config::load(&path)?;
            mothership::log::start(&config.logging, config.limits.log_rate.get())?;
            Ok(mothership::run::run(&path, config, take_over)?)
        }
        Command::Upgrade { config } => print(&successor::upgrade(&successor::config(&config)?)?),
        Command::CheckConfig {
            config,
            connect: false,
        } => print(&format!("{}\n", Config::load(&config)?.summary())),
        Command::CheckConfig { config, .. } => {
            line_by_line(|say| Ok(offline::connect(&config, say)?))
        }
        Command::Explain {
            config,
            source,
            search_path,
            asker,
            sql,
        } => {
            let sql = match sql {
                Some(sql) => sql,
                None => std::io::read_to_string(std::io::stdin().lock())?,
            };
            print(&offline::explain(
                &config,
                &source,
                search_path,
                asker.as_ref(),
                &sql,
            )?)
        }
        #[cfg(feature = "mongo")]
        Command::Infer { config, wanted } => print(&mongo::infer(&config, &wanted)?),
        #[cfg(feature = "mongo")]
        Command::EnsureIndexes { config, dry_run } => {
            line_by_line(|say| Ok(mongo::ensure_indexes(&config, dry_run, say)?))
        }
        Command::Demo(options) => Ok(demo::run(options)?),
        Command::ConfigReference => print(&config::reference()),
        Command::Version => print(&format!("mothership {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Help => print(USAGE),
    }
}

/// Prints each line that is said, when it is said.
fn line_by_line(
    act: impl FnOnce(&mut dyn FnMut(&str)) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let mut failed = None;
    act(&mut |line| {
        failed = failed.take().or(print(&format!("{line}\n")).err());
    })?;
    failed.map_or(Ok(()), Err)
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
