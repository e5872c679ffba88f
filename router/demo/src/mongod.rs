//! Which mongod runs the replica set, if any can be had: `MONGOD_BIN`, else the one in PATH, else the one that made
//! the events that are there. The shop does without one.

use mothership_cluster::{Account, ClusterError, poll_until, spawn_tied};
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The environment variable with the path of a mongod.
pub(super) const VARIABLE: &str = "MONGOD_BIN";
/// Older ones do not know all options that they are started with.
const OLDEST: u32 = 5;
/// How long it may take to say its version on a busy machine with a slow disk.
const VERSION_LIMIT: Duration = Duration::from_secs(30);

/// Why there is no MongoDB in the demo.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// The driver was left out.
    #[error(
        "this build has no driver for it: use one with cargo's feature \"mongo\", which is on by default"
    )]
    Driver,
    /// There is none.
    #[error(
        "no mongod is in PATH; install one, or set {VARIABLE} to its path, and start again (in a clone of the sources, \
         tests/mongod gets one where it can)"
    )]
    Program,
    /// What somebody named is none.
    #[error("{VARIABLE}={} is no program; set it to a mongod, and start again", path.display())]
    Named {
        /// What the variable says.
        path: PathBuf,
    },
    /// It cannot even say its version, or it is too old.
    #[error("{} cannot be used: {why}; set {VARIABLE} to one that does, and start again", path.display())]
    Broken {
        /// The program.
        path: PathBuf,
        /// What it said, or how it ended.
        why: String,
    },
    /// Somebody has made a table of that name, which would be hidden.
    #[error("the shop has a table \"events\" of yours: rename it, and start again")]
    Taken,
}

/// What the environment names, in full; nothing is the same as not set.
pub(super) fn named() -> Option<PathBuf> {
    let path = std::env::var_os(VARIABLE).filter(|path| !path.is_empty())?;
    // Only without a working folder; then it is found as it is, or not.
    Some(std::path::absolute(&path).unwrap_or_else(|_| path.into()))
}

/// Finds a mongod that runs; `earlier` is the one that made what is there.
pub(super) fn find(earlier: Option<PathBuf>) -> Result<PathBuf, Missing> {
    if cfg!(not(feature = "mongo")) {
        return Err(Missing::Driver);
    }
    let path = match named() {
        Some(path) if !is_program(&path) => return Err(Missing::Named { path }),
        Some(path) => path,
        None => in_path(&std::env::var_os("PATH").unwrap_or_default())
            .or_else(|| earlier.filter(|path| is_program(path)))
            .ok_or(Missing::Program)?,
    };
    match try_out(&path) {
        Ok(()) => Ok(path),
        Err(why) => Err(Missing::Broken { path, why }),
    }
}

fn in_path(path: &OsStr) -> Option<PathBuf> {
    let folders = std::env::split_paths(path);
    let mut programs = folders.map(|folder| folder.join("mongod"));
    let found = programs.find(|program| is_program(program))?;
    std::path::absolute(found).ok()
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Will run it as the account of the servers. Libraries that the machine lacks are where the environment says.
pub(super) fn command(program: &Path) -> Result<Command, ClusterError> {
    let mut command = Account::choose()?.command_there(program);
    if let Some(folders) = std::env::var_os("LD_LIBRARY_PATH") {
        command.env("LD_LIBRARY_PATH", folders);
    }
    command.stdin(Stdio::null());
    Ok(command)
}

/// Whether it runs at all, and is new enough: a processor may lack what it wants, or the machine a library.
fn try_out(program: &Path) -> Result<(), String> {
    let mut command = command(program).map_err(|error| error.to_string())?;
    command.arg("--version");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = spawn_tied(command, libc::SIGKILL);
    let mut child = child.map_err(|error| error.to_string())?;
    // What it has to say fits a pipe, so it is read when it has ended.
    let ended = poll_until(VERSION_LIMIT, || !matches!(child.try_wait(), Ok(None)));
    if !ended {
        // Whether it has ended meanwhile does not matter.
        let _ = child.kill();
    }
    let output = child.wait_with_output();
    let output = output.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout);
    match (output.status.success(), version(&said)) {
        (true, Some(version)) if version >= OLDEST => Ok(()),
        (true, Some(version)) => Err(format!("it is version {version}, older than {OLDEST}")),
        (true, None) => Err("it says no version".to_owned()),
        (false, _) => {
            let complaint = String::from_utf8_lossy(&output.stderr);
            let line = complaint.lines().next().map(str::to_owned);
            Err(line.unwrap_or_else(|| output.status.to_string()))
        }
    }
}

/// The first number of `db version v8.2.0`.
fn version(said: &str) -> Option<u32> {
    let version = said.lines().next()?.strip_prefix("db version v")?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_the_first_in_path_that_may_be_run() {
        let name = format!("mothership-mongod-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let (empty, plain, good) = (folder.join("a"), folder.join("b"), folder.join("c"));
        for folder in [&empty, &plain, &good] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(plain.join("mongod"), "").unwrap();
        let program = good.join("mongod");
        std::fs::write(&program, "").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = |folders: &[&PathBuf]| std::env::join_paths(folders).unwrap();
        let found = in_path(&path(&[&empty, &plain, &good]));
        let none = in_path(&path(&[&empty, &plain]));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!((found, none), (Some(program), None));
    }

    #[test]
    fn what_does_not_run_says_why() {
        let why = try_out(Path::new("/bin/false")).unwrap_err();
        assert_eq!(why, "exit status: 1");
        let why = try_out(Path::new("/nowhere/mongod")).unwrap_err();
        assert!(why.contains("No such file"), "{why}");
        let why = try_out(Path::new("/bin/true")).unwrap_err();
        assert_eq!(why, "it says no version");
    }

    #[test]
    fn a_version_is_read() {
        assert_eq!(version("db version v8.2.0\nBuild Info: {\n"), Some(8));
        assert_eq!(version("mongod 8\n"), None);
    }
}
