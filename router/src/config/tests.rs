//! What is accepted, and what is refused with which words.

use std::collections::BTreeMap;
use std::path::Path;

use expect_test::{Expect, expect};

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
    let problems = parse(text.trim_start()).expect_err("this must be refused");
    assert!(!problems.list.is_empty());
    expected.assert_eq(&problems.to_string());
}

#[test]
fn the_smallest_file_is_a_pooler_of_one_server() {
    let config = accepted(SMALLEST);
    expect![[r#"
        listens on 127.0.0.1:6432
        shard main: 16384 of 16384 slots, home; 127.0.0.1:5432 (auto)
        tables: 0 sharded, 0 reference; others: home
        databases: 0 declared; others: pass
        users: 0 declared; others: as the servers know them
        rules: 0 of login, 0 of routing"#]]
    .assert_eq(&config.summary().to_string());
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    refused(
        "[listen]\nprot = 5432",
        expect![[r#"/etc/ms/m.toml:2:1: unknown key `prot` in [listen]; did you mean `port`?"#]],
    );
    refused_alone(
        "",
        expect![[
            r#"/etc/ms/m.toml:1:1: there is no shard; add a [[shard]] with a name and a [[shard.server]] with its address"#
        ]],
    );
}
