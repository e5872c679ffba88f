//! What the command line says: `mothership demo [--detach | --stop | --clean] [--port N] …`.

use lexopt::prelude::*;
use std::path::PathBuf;

/// The port that PgBouncer made known.
pub(super) const PORT: u16 = 6432;
/// Rows of the shop, about.
const ROWS: u32 = 300_000;
/// More would not fit the ids that the generator gives to orders, nor anybody's patience.
const MAX_ROWS: u32 = 100_000_000;
const SEED: u64 = 1957;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Start, and stay until Ctrl-C.
    Foreground,
    /// Start a supervising process in the background; return when the demo is ready.
    Detach,
    /// Be that process. Not for people.
    Supervise,
    /// End a demo that runs in the background.
    Stop,
    /// End it and remove its folder.
    Clean,
}

/// The command line, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What is to be done.
    pub act: Act,
    /// The router's port on 127.0.0.1.
    pub port: u16,
    /// About so many rows; `None`: what the shop has already, or the default.
    pub rows: Option<u32>,
    /// What the rows are made from; `None` likewise.
    pub seed: Option<u64>,
    /// The state folder; `None`: the usual one.
    pub state: Option<PathBuf>,
}

/// What a shop is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recipe {
    pub rows: u32,
    pub seed: u64,
}

impl Options {
    /// Reads what follows the word `demo`.
    ///
    /// # Errors
    /// For an option that there is not, that is given a wrong value, or two that exclude each other.
    pub fn read(mut arguments: lexopt::Parser) -> Result<Options, lexopt::Error> {
        let mut options = Options {
            act: Act::Foreground,
            port: PORT,
            rows: None,
            seed: None,
            state: None,
        };
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("detach") => options.choose(Act::Detach)?,
                Long("supervise") => options.choose(Act::Supervise)?,
                Long("stop") => options.choose(Act::Stop)?,
                Long("clean") => options.choose(Act::Clean)?,
                Long("port") => options.port = number(&mut arguments, "--port", 1, u16::MAX)?,
                Long("rows") => {
                    options.rows = Some(number(&mut arguments, "--rows", 1, MAX_ROWS)?);
                }
                Long("seed") => options.seed = Some(arguments.value()?.parse()?),
                Long("state") => options.state = Some(PathBuf::from(arguments.value()?)),
                other => return Err(other.unexpected()),
            }
        }
        Ok(options)
    }

    fn choose(&mut self, act: Act) -> Result<(), lexopt::Error> {
        if self.act != Act::Foreground {
            return Err("only one of --detach, --stop and --clean can be given".into());
        }
        self.act = act;
        Ok(())
    }

    /// The recipe of a shop that is made now.
    pub(super) fn recipe(&self) -> Recipe {
        Recipe {
            rows: self.rows.unwrap_or(ROWS),
            seed: self.seed.unwrap_or(SEED),
        }
    }

    /// Whether a shop made by `recipe` is what is asked for.
    pub(super) fn accepts(&self, recipe: Recipe) -> bool {
        self.rows.is_none_or(|rows| rows == recipe.rows)
            && self.seed.is_none_or(|seed| seed == recipe.seed)
    }

    /// What to type for `--stop` or `--clean` of this demo, in the way in which it was started.
    pub(super) fn line(&self, option: &str) -> String {
        let by_make = std::env::var_os("MAKELEVEL").is_some();
        self.line_of(by_make, option)
    }

    fn line_of(&self, by_make: bool, option: &str) -> String {
        let state = self.state.as_ref();
        let state = state.map(|state| format!("--state {}", state.display()));
        match (by_make, option, state) {
            (false, _, None) => format!("mothership demo {option}"),
            (false, _, Some(state)) => format!("mothership demo {option} {state}"),
            (true, "--clean", None) => "make demo-clean".to_owned(),
            (true, "--clean", Some(state)) => format!("make demo-clean ARGS=\"{state}\""),
            (true, _, None) => format!("make demo ARGS=\"{option}\""),
            (true, _, Some(state)) => format!("make demo ARGS=\"{option} {state}\""),
        }
    }

    /// The same as arguments for a process of our own.
    pub(super) fn arguments(&self) -> Vec<std::ffi::OsString> {
        let mut arguments = vec!["--port".into(), self.port.to_string().into()];
        if let Some(rows) = self.rows {
            arguments.extend(["--rows".into(), rows.to_string().into()]);
        }
        if let Some(seed) = self.seed {
            arguments.extend(["--seed".into(), seed.to_string().into()]);
        }
        if let Some(state) = &self.state {
            arguments.extend(["--state".into(), state.into()]);
        }
        arguments
    }
}

/// The value of an option as a number between `first` and `last`.
fn number<T>(
    arguments: &mut lexopt::Parser,
    option: &str,
    first: T,
    last: T,
) -> Result<T, lexopt::Error>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let value = arguments.value()?.string()?;
    match value.parse() {
        Ok(number) if first <= number && number <= last => Ok(number),
        _ => Err(format!("{option} takes a whole number from {first} to {last}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, String> {
        let words = line.split_whitespace();
        Options::read(lexopt::Parser::from_args(words)).map_err(|error| error.to_string())
    }

    #[test]
    fn without_options_the_usual_demo_runs_in_the_foreground() {
        let options = read("").unwrap();
        assert_eq!((options.act, options.port), (Act::Foreground, 6432));
        let usual = Recipe {
            rows: 300_000,
            seed: 1957,
        };
        assert_eq!(options.recipe(), usual);
        assert!(options.accepts(Recipe { rows: 1, seed: 2 }));
    }

    #[test]
    fn options_reach_the_process_in_the_background() {
        let line = "--port 7000 --rows 3000 --seed 7 --state /tmp/x";
        let options = read(line).unwrap();
        let again = Options::read(lexopt::Parser::from_args(options.arguments())).unwrap();
        assert_eq!(options, again);
        assert!(!options.accepts(Recipe {
            rows: 3001,
            seed: 7
        }));
    }

    #[test]
    fn the_reader_is_told_what_to_type_in_the_way_of_the_start() {
        let (usual, own) = (read("").unwrap(), read("--state /x").unwrap());
        for (options, by_make, option, line) in [
            (&usual, false, "--stop", "mothership demo --stop"),
            (&own, false, "--clean", "mothership demo --clean --state /x"),
            (&usual, true, "--clean", "make demo-clean"),
            (&own, true, "--clean", "make demo-clean ARGS=\"--state /x\""),
            (&usual, true, "--stop", "make demo ARGS=\"--stop\""),
            (&own, true, "--stop", "make demo ARGS=\"--stop --state /x\""),
        ] {
            assert_eq!(options.line_of(by_make, option), line);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, why) in [
            ("--stop --clean", "only one of"),
            ("--port 0", "--port takes a whole number from 1 to 65535"),
            ("--port 65536", "--port takes"),
            ("--rows 0", "--rows takes a whole number from 1 to"),
            ("--rows many", "--rows takes"),
            ("--seed x", "invalid digit"),
            ("here", "unexpected argument"),
            ("--port", "missing argument"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
