//! pgbench as clients that must not notice anything: some that stay connected, and some that connect for each
//! transaction.

use crate::{Folder, Router, binaries};
use std::process::{Child, Command, Stdio};

/// What it does, on a table `counted (id int8, n int8)` with the keys 1 to [`KEYS`]: each transaction adds one.
const SCRIPT: &str = "\\set id random(1, 40)\n\
    SELECT n FROM counted WHERE id = :id;\n\
    UPDATE counted SET n = n + 1 WHERE id = :id;\n";
/// Rows that it needs.
pub const KEYS: i64 = 40;
/// Its table in the configuration.
pub const TABLE: &str = "[[table]]\nname = \"counted\"\nkey = \"id\"\nkey_type = \"int8\"\n";

/// The statements that make the table and its rows.
pub fn make() -> [String; 2] {
    [
        "CREATE TABLE counted (id int8 PRIMARY KEY, n int8 NOT NULL)".to_owned(),
        format!("INSERT INTO counted SELECT g, 0 FROM generate_series(1, {KEYS}) g"),
    ]
}

/// Both kinds of clients at the same time.
#[derive(Debug)]
pub struct Load {
    runs: Vec<(&'static str, Child)>,
    _folder: Folder,
}

/// What became of one kind.
#[derive(Debug)]
pub struct Done {
    /// Transactions.
    pub transactions: i64,
    /// What went wrong, in pgbench's words.
    pub wrong: Option<String>,
}

impl Load {
    /// Runs for so many seconds.
    pub fn start(
        router: &Router,
        user: &str,
        password: &str,
        database: &str,
        seconds: u64,
    ) -> Load {
        let folder = Folder::new("load");
        let script = folder.path().join("script.sql");
        std::fs::write(&script, SCRIPT).unwrap();
        let start = |what, more: &[&str]| {
            let mut command = Command::new(binaries().program("pgbench"));
            command.envs(router.endpoint(user, password, database).env());
            command.args(["-n", "-j", "1", "-T", &seconds.to_string(), "-f"]);
            command.arg(&script).args(more);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            (what, command.spawn().unwrap())
        };
        let stay = start("stay", &["-c", "4", "-M", "prepared"]);
        let connect = start("connect", &["-c", "2", "-C"]);
        Load {
            runs: vec![stay, connect],
            _folder: folder,
        }
    }

    /// Whether both kinds are still at work.
    pub fn runs(&mut self) -> bool {
        self.runs
            .iter_mut()
            .all(|(_, child)| child.try_wait().unwrap().is_none())
    }

    /// Waits for their ends.
    pub fn end(mut self) -> Vec<(&'static str, Done)> {
        let runs = std::mem::take(&mut self.runs).into_iter();
        runs.map(|(what, child)| (what, Done::of(child))).collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for (_, child) in &mut self.runs {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Done {
    fn of(child: Child) -> Done {
        let out = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let number = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<i64>().ok()
        };
        let failed = number("number of failed transactions:");
        let fine = out.status.success() && failed == Some(0);
        let errors = String::from_utf8_lossy(&out.stderr);
        Done {
            transactions: number("number of transactions actually processed:").unwrap_or(0),
            wrong: (!fine).then(|| format!("{}: {errors}", out.status)),
        }
    }
}
