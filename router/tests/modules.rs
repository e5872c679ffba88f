//! No module of the router uses itself by way of others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

type Uses = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_modules_use_each_other_in_circles() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut uses = Uses::new();
    for entry in std::fs::read_dir(&source).expect("the sources are there") {
        let path = entry.expect("an entry").path();
        let module = path.file_stem().expect("a name").to_string_lossy();
        if !matches!(&*module, "lib" | "main") {
            let of = uses.entry(module.into_owned()).or_default();
            read(&path, of);
        }
    }
    let known: BTreeSet<String> = uses.keys().cloned().collect();
    for (module, used) in &mut uses {
        used.retain(|other| other != module && known.contains(other));
    }
    let is_in_circle = |module: &&String| reached(&uses, module).contains(*module);
    let found: Vec<&String> = uses.keys().filter(is_in_circle).collect();
    assert!(found.is_empty(), "in circles: {found:?}");
}

/// Adds the modules that the code of a file or folder names, tests left out.
fn read(path: &Path, used: &mut BTreeSet<String>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("a folder") {
            read(&entry.expect("an entry").path(), used);
        }
        return;
    }
    let name = path.file_name().expect("a name").to_string_lossy();
    let in_tests = path.components().any(|part| part.as_os_str() == "tests");
    if in_tests || name.ends_with("tests.rs") || !name.ends_with(".rs") {
        return;
    }
    let text = std::fs::read_to_string(path).expect("a source file");
    let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or("");
    for line in code.lines() {
        let line = line.split("//").next().unwrap_or("");
        for part in line.split("crate::").skip(1) {
            let end = part.find(|c: char| !(c.is_alphanumeric() || c == '_'));
            used.insert(part[..end.unwrap_or(part.len())].to_owned());
        }
    }
}

/// All that a module uses, by way of others too.
fn reached<'u>(uses: &'u Uses, module: &'u str) -> BTreeSet<&'u String> {
    let mut seen = BTreeSet::new();
    let mut next = vec![module];
    while let Some(module) = next.pop() {
        for other in &uses[module] {
            if seen.insert(other) {
                next.push(other);
            }
        }
    }
    seen
}
