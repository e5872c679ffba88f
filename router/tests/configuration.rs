//! The command line, the reference page and the example file agree with the code.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use expect_test::{expect, expect_file};
use mothership::config::{Config, Surroundings, reference};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// Every file and every variable holds the same secret.
struct Everywhere;

impl Surroundings for Everywhere {
    fn variable(&self, _: &str) -> Option<String> {
        Some("secret".to_owned())
    }

    fn file(&self, _: &Path) -> std::io::Result<String> {
        Ok("secret\n".to_owned())
    }
}

fn mothership(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mothership"))
        .args(arguments)
        .output()
        .expect("the binary runs")
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    format!(
        "{:?}\n{}{}",
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr)
    )
}

#[test]
fn the_reference_page_is_what_the_code_says() {
    // To write it anew: UPDATE_EXPECT=1 cargo test -p mothership --test configuration
    expect_file![docs().join("configuration.md")].assert_eq(&reference());
    assert_eq!(
        String::from_utf8_lossy(&mothership(&["config-reference"]).stdout),
        reference()
    );
}

#[test]
fn the_example_is_a_right_configuration() {
    let path = docs().join("mothership.example.toml");
    let text = std::fs::read_to_string(&path).expect("the example is there");
    let config =
        Config::parse(&path, &text, &Everywhere).unwrap_or_else(|problems| panic!("{problems}"));
    expect![[r#"
        listens on 0.0.0.0:6432
        listens on /run/mothership/.s.PGSQL.6432
        shard s1: 5461 of 16384 slots, home; db1a.example.com:5432 (auto), db1b.example.com:5432 (auto)
        shard s2: 5462 of 16384 slots; db2a.example.com:5432 (auto), db2b.example.com:5432 (auto)
        shard s3: 5461 of 16384 slots; /run/postgresql/.s.PGSQL.5432 (auto)
        tables: 3 sharded, 1 reference; others: home
        databases: 2 declared; others: pass
        users: 1 declared; others: as the servers know them
        rules: 3 of login, 3 of routing
        note: database "archive_1" of the servers is reached as "archive" only
        note: database "archive_2" of the servers is reached as "archive" only
        note: database "archive_3" of the servers is reached as "archive" only"#]]
    .assert_eq(&config.summary().to_string());
    // Each section of the reference is shown in the example, so that it stays complete.
    for section in [
        "listen",
        "tls",
        "auth",
        "pool",
        "balance",
        "control",
        "limits",
        "transactions",
        "metrics",
        "console",
        "logging",
    ] {
        assert!(text.contains(&format!("\n[{section}]")), "[{section}]");
    }
}

#[test]
fn a_wrong_command_line_ends_with_2_and_the_usage() {
    for (arguments, complaint) in [
        (&[][..], "no command"),
        (&["sail"], "unknown command \"sail\""),
        (&["check-config"], "--config FILE is missing"),
        (
            &["check-config", "--config"],
            "missing argument for option '--config'",
        ),
        (
            &["check-config", "--config", "a", "--config", "b"],
            "--config is given twice",
        ),
        (&["check-config", "--file", "a"], "invalid option '--file'"),
        (&["version", "extra"], "unexpected argument \"extra\""),
    ] {
        let output = mothership(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            errors.starts_with(&format!(
                "mothership: {complaint}\nusage: mothership COMMAND"
            )),
            "{arguments:?}: {errors}"
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn version_and_help_end_with_0() {
    assert_eq!(
        said(&mothership(&["version"])),
        format!("Some(0)\nmothership {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(
        said(&mothership(&["--version"])),
        said(&mothership(&["version"]))
    );
    assert_eq!(said(&mothership(&["help"])), said(&mothership(&["--help"])));
    assert_eq!(mothership(&["help"]).status.code(), Some(0));
}

#[test]
fn check_config_prints_all_problems_and_ends_with_1() {
    let folder =
        std::env::temp_dir().join(format!("mothership-check-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a file for the test");
        path.to_str().expect("UTF-8").to_owned()
    };
    let good = write(
        "good.toml",
        "[[shard]]\nname = \"a\"\n[[shard.server]]\naddress = \"db\"\n",
    );
    let bad = write("bad.toml", "[listen]\nprot = 1\n[pool]\nmax = 0\n");
    let check = |path: &str| {
        said(&mothership(&["check-config", "--config", path]))
            .replace(folder.to_str().expect("UTF-8"), "FOLDER")
    };
    let (good, bad, none) = (
        check(&good),
        check(&bad),
        check(&format!("{}/none.toml", folder.display())),
    );
    std::fs::remove_dir_all(&folder).expect("the test's own folder");
    expect![[r#"
        Some(0)
        listens on 127.0.0.1:6432
        shard a: 16384 of 16384 slots, home; db:5432 (auto)
        tables: 0 sharded, 0 reference; others: home
        databases: 0 declared; others: pass
        users: 0 declared; others: as the servers know them
        rules: 0 of login, 0 of routing
    "#]]
    .assert_eq(&good);
    expect![[r#"
        Some(1)
        FOLDER/bad.toml:2:1: unknown key `prot` in [listen]; did you mean `port`?
        FOLDER/bad.toml:4:7: `pool.max` = 0 is out of range; from 1 to 100000
    "#]]
    .assert_eq(&bad);
    expect![[r#"
        Some(1)
        cannot read FOLDER/none.toml
          because: No such file or directory (os error 2)
    "#]]
    .assert_eq(&none);
}
