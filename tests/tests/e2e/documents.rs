//! The documents: links lead somewhere, files that they name exist, configurations that they show are accepted.

use mothership::config::{Config, Surroundings};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The documents that are written by hand, by their paths from the root.
fn documents() -> Vec<PathBuf> {
    let folders = ["", "docs", "docs/adr"].map(|folder| root().join(folder));
    let files = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let paths = files.map(|file| file.unwrap().path());
    let mut pages: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .filter(|path| !path.ends_with("docs/configuration.md"))
        .collect();
    pages.sort();
    assert!(pages.len() > 12, "{pages:?}");
    pages
}

/// What stands between two marks, each time.
fn between<'a>(text: &'a str, from: &'a str, to: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(from)
        .skip(1)
        .filter_map(move |rest| Some(rest.split_once(to)?.0))
}

/// A heading as forges make an anchor of it.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-');
    heading
        .trim_start_matches(['#', ' '])
        .to_lowercase()
        .chars()
        .filter(kept)
        .collect::<String>()
        .replace(' ', "-")
}

#[test]
fn links_lead_somewhere() {
    for page in documents() {
        let text = std::fs::read_to_string(&page).unwrap();
        let links = between(&text, "](", ")").filter(|link| !link.contains("://"));
        for link in links {
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{}: {link}", page.display());
            if !fragment.is_empty() {
                let there = std::fs::read_to_string(&target).unwrap();
                let mut headings = there
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .map(anchor);
                assert!(
                    headings.any(|heading| heading == fragment),
                    "{}: {link}",
                    page.display()
                );
            }
        }
    }
}

#[test]
fn files_that_are_named_are_there() {
    let crates = [
        "proto/",
        "shardmap/",
        "pool/",
        "router/",
        "tests/",
        "benches/",
        "deploy/",
    ];
    for page in documents() {
        let text = std::fs::read_to_string(&page).unwrap();
        // Code spans do not cross lines here; a fence has no name.
        let lines = text.lines().filter(|line| !line.starts_with("```"));
        let spans = lines.flat_map(|line| line.split('`').skip(1).step_by(2));
        let named = spans.filter(|name| crates.iter().any(|start| name.starts_with(start)));
        for name in named.filter(|name| !name.contains([' ', '*', '\n'])) {
            assert!(root().join(name).exists(), "{}: {name}", page.display());
        }
    }
}

/// Every file and every variable holds a secret.
pub struct Anything;

impl Surroundings for Anything {
    fn variable(&self, _: &str) -> Option<String> {
        Some("secret".into())
    }

    fn file(&self, _: &Path) -> std::io::Result<String> {
        Ok("secret".into())
    }
}

/// What recipes are about.
const SERVERS: &str = "[[shard]]\nname = \"s1\"\n[[shard.server]]\naddress = \"db1\"\n\
    [[shard.server]]\naddress = \"db2\"\nlabels = [\"reports\"]\n";

#[test]
fn configurations_that_are_shown_are_accepted() {
    let mut shown = 0;
    for page in documents() {
        let text = std::fs::read_to_string(&page).unwrap();
        for toml in between(&text, "```toml\n", "```") {
            // A recipe need not repeat what is in front of which servers.
            let toml = match toml.contains("[[shard]]") {
                true => toml.to_owned(),
                false => format!("{toml}{SERVERS}"),
            };
            if let Err(problems) = Config::parse(&page, &toml, &Anything) {
                panic!("{}: {problems}\n{toml}", page.display());
            }
            shown += 1;
        }
    }
    assert!(shown >= 4);
}
