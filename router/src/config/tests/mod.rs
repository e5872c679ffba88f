//! What is accepted, and what is refused with which words.

mod accepted;
mod demo;
mod held;
#[cfg(feature = "mongo")]
mod inferred;
mod refused_together;
mod refused_values;

use std::collections::BTreeMap;
use std::path::Path;

use expect_test::Expect;

use super::*;

/// The smallest useful file.
const SMALLEST: &str = r#"
[[shard]]
name = "main"
[[shard.server]]
address = "127.0.0.1:5432"
"#;

/// A world without the process's own files and variables.
#[derive(Default)]
struct World {
    variables: BTreeMap<&'static str, &'static str>,
    files: BTreeMap<&'static str, &'static str>,
}

impl Surroundings for World {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).map(|text| (*text).to_owned())
    }

    fn file(&self, path: &Path) -> std::io::Result<String> {
        let text = path.to_str().and_then(|path| self.files.get(path));
        text.map(|text| (*text).to_owned())
            .ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

fn world() -> World {
    World {
        variables: BTreeMap::from([("ALICE", "wonderland")]),
        files: BTreeMap::from([
            ("/etc/ms/alice", "queen of hearts\n"),
            ("/etc/ms/empty", "\n"),
        ]),
    }
}

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(Path::new("/etc/ms/m.toml"), text, &world())
}

fn accepted(text: &str) -> Config {
    parse(text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Puts `text` before a good shard and shows what is wrong with it.
fn refused(text: &str, expected: Expect) {
    refused_alone(&format!("{}\n{SMALLEST}", text.trim_start()), expected);
}

fn refused_alone(text: &str, expected: Expect) {
    let problems = parse(text.trim_start())
        .map(|_| text)
        .expect_err("this must be refused");
    assert!(!problems.list.is_empty());
    expected.assert_eq(&problems.to_string());
}
