//! A demo in the background: started, ended and removed from other processes.
//!
//! The supervising process is this program once more, in a session of its own, so
//! that no terminal's Ctrl-C or end reaches it. Until it is ready it writes where
//! we do; that it is ready it says in the lock's file.

use super::error::{DemoError, Doing};
use super::folder;
use super::leftovers;
use super::lock::{self, Holder, Lock, Phase};
use super::mongod;
use super::options::Options;
use super::progress::say;
use super::stop::Stop;
use mothership_cluster::poll_until;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Between two looks at the supervising process.
const PAUSE: Duration = Duration::from_millis(50);
/// For a router that drains, and servers that write a checkpoint to a slow disk.
const STOP_LIMIT: Duration = Duration::from_secs(150);

/// Starts a demo in the background and returns when it is ready.
pub(super) fn start(options: &Options) -> Result<(), DemoError> {
    let state = folder::locate(options)?;
    lock::check_free(&state)?;
    let stop = Stop::on_signals()?;
    let mut child = spawn(options, &state)?;
    let pid = child.id();
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait().doing("wait for", "the demo")? {
            return Err(DemoError::NotStarted { status });
        }
        let ready = Holder {
            pid,
            phase: Phase::Ready,
        };
        if lock::holder(&state)? == Some(ready) {
            return Ok(());
        }
        if stop.is_asked() && !told {
            told = true;
            terminate(pid);
        }
        std::thread::sleep(PAUSE);
    }
}

fn spawn(options: &Options, state: &Path) -> Result<Child, DemoError> {
    let program = std::env::current_exe().doing("find", "the running program")?;
    let options = Options {
        // It works in another folder, so one that was given is named in full.
        state: options.state.as_ref().map(|_| state.to_path_buf()),
        ..options.clone()
    };
    let mut command = Command::new(&program);
    command
        .args(["demo", "--supervise"])
        .args(options.arguments());
    command.current_dir("/").stdin(Stdio::null());
    if let Some(path) = mongod::named() {
        command.env(mongod::VARIABLE, path);
    }
    // SAFETY: setsid is async-signal-safe, and a new process leads no group, so it succeeds.
    unsafe {
        command.pre_exec(|| match libc::setsid() {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    command.spawn().doing("start", program)
}

/// Ends the demo of this folder, if one runs.
pub(super) fn stop(options: &Options) -> Result<(), DemoError> {
    let state = folder::locate(options)?;
    match end(&state)? {
        true => say("The demo has ended."),
        false => say(format_args!("No demo is running with {}.", state.display())),
    }
    Ok(())
}

/// Ends the demo of this folder and removes the folder.
pub(super) fn clean(options: &Options) -> Result<(), DemoError> {
    let state = folder::locate(options)?;
    folder::check_ours(&state)?;
    end(&state)?;
    if !state.exists() {
        say(format_args!("There is nothing in {}.", state.display()));
        return Ok(());
    }
    let lock = Lock::take(&state)?;
    leftovers::end(&state, &lock)?;
    folder::remove(&state)?;
    say(format_args!("Removed {}.", state.display()));
    Ok(())
}

/// Asks the supervising process to end and waits for that; whether there was one.
fn end(state: &Path) -> Result<bool, DemoError> {
    let Some(Holder { pid, .. }) = lock::holder(state)? else {
        leftovers::wait(state)?;
        return Ok(false);
    };
    terminate(pid);
    let mut holder = Ok(None);
    let ended = poll_until(STOP_LIMIT, || {
        holder = lock::holder(state);
        !matches!(holder, Ok(Some(holder)) if holder.pid == pid)
    });
    holder?;
    match ended {
        true => Ok(true),
        false => Err(DemoError::DoesNotEnd { pid }),
    }
}

fn terminate(pid: u32) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: kill touches no memory. The process held the lock a moment ago.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
}
