//! Who uses a state folder: a file that the supervising process keeps locked, and
//! in which it says who it is and how far it has come.
//!
//! The kernel releases the lock however the process ends. The process ID in the file
//! counts only while the file is locked, so a killed demo leaves nothing that misleads.
//! The file also marks the folder as the demo's own.

use super::error::{DemoError, Doing};
use super::folder;
use std::fs::{File, TryLockError};
use std::io::{Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file's name.
pub(super) const FILE: &str = "mothership-demo.lock";

/// How far a demo has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It starts or stops; clients cannot connect.
    Busy,
    /// Clients can connect.
    Ready,
}

/// The process that supervises a demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holder {
    pub pid: u32,
    pub phase: Phase,
}

/// A state folder that is ours until this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the folder, making it if need be.
    pub(super) fn take(state: &Path) -> Result<Lock, DemoError> {
        let path = state.join(FILE);
        for _ in 0..TRIES {
            folder::check_ours(state)?;
            folder::make(state)?;
            let mut options = File::options();
            options.create(true).truncate(false).read(true).write(true);
            let file = match options.open(&path) {
                // Whoever removed the folder did so between our two steps.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                opened => opened.doing("open", &path)?,
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    check_free(state)?;
                    continue;
                }
                Err(TryLockError::Error(cause)) => return Err(cause).doing("lock", &path),
            }
            let path = path.clone();
            let mut lock = Lock { file, path };
            // A lock on a file that was removed meanwhile keeps nobody out.
            if lock.is_in_place() {
                lock.say(Phase::Busy)?;
                return Ok(lock);
            }
        }
        // Somebody who is no demo keeps it locked.
        Err(std::io::ErrorKind::WouldBlock.into()).doing("lock", path)
    }

    /// Whether the file still is where it was: not removed, nor another one in its place.
    pub(super) fn is_in_place(&self) -> bool {
        let identity = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        let there = self.path.metadata().map(identity);
        let held = self.file.metadata().map(identity);
        matches!((there, held), (Ok(there), Ok(held)) if there == held)
    }

    /// Tells others how far we are.
    pub(super) fn say(&mut self, phase: Phase) -> Result<(), DemoError> {
        let text = render(std::process::id(), phase);
        // One write over the old text, of the same length: whoever reads sees the one or the other.
        let write = |file: &mut File| {
            file.rewind()?;
            file.write_all(text.as_bytes())?;
            file.set_len(text.len() as u64)
        };
        write(&mut self.file).doing("write", &self.path)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removes our process ID. When the file is closed, the lock is released.
        let _ = self.file.set_len(0);
    }
}

/// The process that holds the folder, if there is one.
pub(super) fn holder(state: &Path) -> Result<Option<Holder>, DemoError> {
    let path = state.join(FILE);
    for _ in 0..TRIES {
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.doing("open", &path)?,
        };
        match file.try_lock_shared() {
            Ok(()) => return Ok(None),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(cause)) => return Err(cause).doing("lock", &path),
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        // Between taking the lock and saying so, the text is that of an earlier holder.
        if let Some(holder) = parse(&text).filter(|holder| is_demo(holder.pid)) {
            return Ok(Some(holder));
        }
        std::thread::sleep(PAUSE);
    }
    // Another program holds the lock, which is no demo.
    Ok(None)
}

/// Fails if a demo holds the folder and still does so after half a second: it may be just ending.
pub(super) fn check_free(state: &Path) -> Result<(), DemoError> {
    let mut last = None;
    for _ in 0..TRIES {
        last = holder(state)?;
        if last.is_none() {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    match last {
        None => Ok(()),
        Some(Holder { pid, .. }) => Err(DemoError::Running {
            folder: state.to_path_buf(),
            pid,
        }),
    }
}

/// How often we look, and the pause between two looks. A new holder writes its process ID within microseconds.
const TRIES: u32 = 50;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

fn is_demo(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|word| word == b"demo")
        // The unit tests of this file hold locks, too.
        || (cfg!(test) && pid == std::process::id())
}

fn render(pid: u32, phase: Phase) -> String {
    let phase = match phase {
        Phase::Busy => "busy ",
        Phase::Ready => "ready",
    };
    format!("{pid:>10} {phase}\n")
}

fn parse(text: &str) -> Option<Holder> {
    let mut words = text.split_whitespace();
    Some(Holder {
        pid: words.next()?.parse().ok()?,
        phase: match words.next()? {
            "busy" => Phase::Busy,
            "ready" => Phase::Ready,
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_holder_at_a_time_and_no_stale_one() {
        let name = format!("mothership-lock-{}", std::process::id());
        let state = std::env::temp_dir().join(name);
        assert_eq!(holder(&state).unwrap(), None);
        let mut first = Lock::take(&state).unwrap();
        let me = std::process::id();
        let holding = |phase| Some(Holder { pid: me, phase });
        assert_eq!(holder(&state).unwrap(), holding(Phase::Busy));
        first.say(Phase::Ready).unwrap();
        assert_eq!(holder(&state).unwrap(), holding(Phase::Ready));
        let second = Lock::take(&state);
        assert!(matches!(second, Err(DemoError::Running { pid, .. }) if pid == me));
        drop(first);
        // What a killed process leaves: its number without its lock.
        std::fs::write(state.join(FILE), render(1, Phase::Ready)).unwrap();
        assert_eq!(holder(&state).unwrap(), None);
        let third = Lock::take(&state).unwrap();
        folder::remove(&state).unwrap();
        assert!(!third.is_in_place());
        assert!(!state.exists());
    }
}
