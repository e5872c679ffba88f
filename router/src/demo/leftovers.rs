//! Processes of an earlier demo that are still ending.
//!
//! A supervising process that was killed takes its servers with it, a moment later
//! (`cluster/process.rs`). Every server works in its data folder and the router in a
//! folder of its own, so they are found by their working folders, whatever their ids;
//! a mongod, which may have to stand in its program's folder, by its data folder.

use super::error::DemoError;
use super::replica_set::DATA_FOLDER;
use crate::cluster::poll_until;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// A server that got SIGQUIT ends within five seconds or kills its children; a router may drain.
const LIMIT: Duration = Duration::from_secs(20);

/// What works there, as the kernel names it.
const PROGRAMS: [&str; 2] = ["postgres", "mothership"];

/// Waits until nothing works in `state` any more.
pub(super) fn wait(state: &Path) -> Result<(), DemoError> {
    let Ok(state) = state.canonicalize() else {
        return Ok(());
    };
    let mut pids = Vec::new();
    let gone = poll_until(LIMIT, || {
        pids = working_in(&state);
        pids.is_empty()
    });
    match gone {
        true => Ok(()),
        false => Err(DemoError::Leftovers { pids }),
    }
}

/// After [`wait`] such a file names a process that is gone, or whose number another has by now.
/// PostgreSQL cannot tell the two apart and would not start beside the second.
pub(super) fn forget_postmaster(data: &Path) {
    // If it stays PostgreSQL says so itself.
    let _ = std::fs::remove_file(data.join("postmaster.pid"));
}

fn working_in(state: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            // A shell may stand there, too.
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            let ours = name.is_ok_and(|name| PROGRAMS.contains(&name.trim_end()));
            let folder = std::fs::read_link(format!("/proc/{pid}/cwd"));
            ours && folder.is_ok_and(|folder| folder != state && folder.starts_with(state))
                || has_data_in(state, *pid)
        })
        .collect()
}

/// Whether a process was given a data folder in `state`, as [`super::replica_set`] gives it.
fn has_data_in(state: &Path, pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0);
    words.any(|word| word == DATA_FOLDER.as_bytes())
        && words
            .next()
            .is_some_and(|folder| Path::new(OsStr::from_bytes(folder)).starts_with(state))
}
