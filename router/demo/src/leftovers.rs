//! Processes of an earlier demo that are still ending.
//!
//! A supervising process that was killed takes its servers with it, a moment later
//! (`cluster/process.rs`). Every server works in its data folder and the router in a
//! folder of its own, so they are found by their working folders, whatever their ids;
//! a mongod, which may have to stand in its program's folder, by its data folder.

use super::error::DemoError;
use super::lock::Lock;
use super::replica_set::DATA_FOLDER;
use mothership_cluster::poll_until;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// A server that got SIGQUIT ends within five seconds or kills its children; a router may drain.
const LIMIT: Duration = Duration::from_secs(20);
/// How long the kernel may take to carry out SIGKILL.
const KERNEL_LIMIT: Duration = Duration::from_secs(20);

/// What works there, as the kernel names it.
const PROGRAMS: [&str; 2] = ["postgres", "mothership"];

/// Waits until nothing works in `state` any more.
pub(super) fn wait(state: &Path) -> Result<(), DemoError> {
    match working_after(state, LIMIT) {
        pids if pids.is_empty() => Ok(()),
        pids => Err(DemoError::Leftovers { pids }),
    }
}

/// The same, and kills what does not end by itself. Whoever has the lock is the only demo of the folder, so that it belongs
/// to nobody any more; data that are there outlive it.
pub(super) fn end(state: &Path, _: &Lock) -> Result<(), DemoError> {
    for pid in working_after(state, LIMIT) {
        if let Ok(pid) = pid.try_into() {
            // SAFETY: kill touches no memory. The process works in a folder of this demo.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
    match working_after(state, KERNEL_LIMIT) {
        pids if pids.is_empty() => Ok(()),
        pids => Err(DemoError::Leftovers { pids }),
    }
}

/// What still works in `state` when nothing does or the limit is over.
fn working_after(state: &Path, limit: Duration) -> Vec<u32> {
    let Ok(state) = state.canonicalize() else {
        return Vec::new();
    };
    let mut pids = Vec::new();
    poll_until(limit, || {
        pids = working_in(&state);
        pids.is_empty()
    });
    pids
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
