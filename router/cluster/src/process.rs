//! Starts, watches, signals and ends one PostgreSQL server: a postmaster and its children.
//!
//! The server must not outlive this program, however the program ends. So the postmaster is a direct child of this
//! program (not of pg_ctl). It asks the kernel for SIGQUIT when its parent dies, and PostgreSQL obeys SIGQUIT at once.
//! There are three traps:
//!
//! - A change of uid clears that request to the kernel, so the request is made after the change.
//! - To the kernel, the parent is the *thread* that forked, and threads of tests end early. So one thread that never
//!   ends does all the forking.
//! - The parent may have died before the request was made. The child notices that by asking who its parent is.
//!
//! PostgreSQL makes each child the leader of a session of its own, so a signal to a process group reaches only the
//! postmaster. To stop or kill a whole server, its children are looked up in /proc.

use super::error::{ClusterError, Doing};
use super::wait::poll_until;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

/// How long a postmaster may take for an immediate shutdown. It kills its children after five seconds.
const QUIT_LIMIT: Duration = Duration::from_secs(8);

/// How long the kernel may take to carry out SIGKILL or SIGSTOP.
const KERNEL_LIMIT: Duration = Duration::from_secs(20);

/// A running server. When it is dropped, it and all its children end at once.
#[derive(Debug)]
pub(super) struct Process {
    // While this is here the process is not reaped, so no other process gets its pid.
    child: Child,
}

impl Process {
    /// Starts `command`. The process ends when this program ends.
    pub(super) fn spawn(command: Command) -> io::Result<Process> {
        spawn_tied(command, libc::SIGQUIT).map(|child| Process { child })
    }

    /// The postmaster's process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status if it has ended.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        // An error would mean that there is no such child. But there is: it has not been reaped yet.
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end, at most for `limit`.
    pub(super) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let mut status = None;
        poll_until(limit, || {
            status = self.ended();
            status.is_some()
        });
        status
    }

    /// Sends a signal to the postmaster alone.
    pub(super) fn signal(&mut self, signal: i32) {
        if self.ended().is_none() {
            send(self.pid(), signal);
        }
    }

    /// Stops the postmaster and all its children; returns when they are stopped.
    pub(super) fn pause(&mut self) -> bool {
        self.signal(libc::SIGSTOP);
        // Once the postmaster is stopped it cannot fork, so the list is complete.
        let postmaster = self.pid();
        let stopped = poll_until(KERNEL_LIMIT, || rests(postmaster));
        let children = children_of(postmaster);
        children.iter().for_each(|pid| send(*pid, libc::SIGSTOP));
        stopped && poll_until(KERNEL_LIMIT, || children.iter().all(|pid| rests(*pid)))
    }

    /// Lets a paused server go on, children first.
    pub(super) fn resume(&mut self) {
        let children = children_of(self.pid());
        children.iter().for_each(|pid| send(*pid, libc::SIGCONT));
        self.signal(libc::SIGCONT);
    }

    /// Kills the postmaster and all its children, as a power failure would.
    pub(super) fn kill(&mut self) {
        if self.ended().is_some() {
            return;
        }
        self.pause();
        let children = children_of(self.pid());
        children.iter().for_each(|pid| send(*pid, libc::SIGKILL));
        send(self.pid(), libc::SIGKILL);
        let _ = self.child.wait();
        let gone = |pid: &u32| matches!(state_of(*pid), None | Some('Z'));
        poll_until(KERNEL_LIMIT, || children.iter().all(gone));
    }
}

/// Ends the server with SIGQUIT. A killed server leaves its shared memory behind until a server starts again on the
/// same data, so the server is killed only if it does not end.
impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        self.resume();
        self.signal(libc::SIGQUIT);
        if self.wait(QUIT_LIMIT).is_none() {
            self.kill();
        }
    }
}

/// Runs one of PostgreSQL's programs to its end, at most for `limit`, and writes its output to the file `log`.
pub(super) fn run_tool(
    program: &'static str,
    mut command: Command,
    log: &Path,
    limit: Duration,
) -> Result<(), ClusterError> {
    let out = std::fs::File::create(log).doing("create", log)?;
    let err = out.try_clone().doing("open", log)?;
    command.stdin(std::process::Stdio::null());
    command.stdout(out).stderr(err);
    let child = spawn_tied(command, libc::SIGTERM).doing("start", program)?;
    let mut process = Process { child };
    let outcome = match process.wait(limit) {
        Some(status) if status.success() => return Ok(()),
        Some(status) => format!("failed ({status})"),
        None => format!("did not end within {limit:?}"),
    };
    Err(ClusterError::Tool {
        program,
        outcome,
        output: tail(log),
    })
}

/// The last 2,000 bytes or so of a log, for an error message.
pub(super) fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let from = text.len().saturating_sub(2_000);
    let end = String::from_utf8_lossy(&text[from..]);
    end.trim().to_string()
}

/// Starts a process in a process group of its own. It gets `signal` when this program dies.
pub fn spawn_tied(mut command: Command, signal: i32) -> io::Result<Child> {
    let parent = std::process::id();
    command.process_group(0);
    // SAFETY: between fork and exec only prctl, getppid and _exit are called,
    // which are async-signal-safe; std runs this after the change of uid.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, signal) != 0 {
                return Err(io::Error::last_os_error());
            }
            if u32::try_from(libc::getppid()) != Ok(parent) {
                libc::_exit(1);
            }
            Ok(())
        });
    }
    forker::spawn(command)
}

/// The thread that forks.
mod forker {
    use super::*;

    type Job = (Command, mpsc::Sender<io::Result<Child>>);

    pub(super) fn spawn(command: Command) -> io::Result<Child> {
        static JOBS: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
        let jobs = JOBS.get_or_init(|| Mutex::new(start()));
        let (answer, result) = mpsc::channel();
        let gone = || io::Error::other("the forking thread has ended");
        // A panic in another thread cannot leave a sender half changed.
        let jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.send((command, answer)).map_err(|_| gone())?;
        drop(jobs);
        result.recv().map_err(|_| gone())?
    }

    fn start() -> mpsc::Sender<Job> {
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in queue {
                // The receiver waits for this answer, so it is still there.
                let _ = answer.send(command.spawn());
            }
        });
        jobs
    }
}

fn send(pid: u32, signal: i32) {
    let Ok(pid) = libc::pid_t::try_from(pid) else {
        return;
    };
    // SAFETY: kill has no memory preconditions. The pid is a child that we hold
    // unreaped, or was a child of it a moment ago.
    unsafe { libc::kill(pid, signal) };
}

/// Whether a process does not run: it is stopped, traced, ended or gone.
fn rests(pid: u32) -> bool {
    matches!(state_of(pid), None | Some('T' | 't' | 'Z'))
}

/// The state letter in /proc/PID/stat; None when there is no such process.
fn state_of(pid: u32) -> Option<char> {
    stat(pid).map(|(state, _)| state)
}

/// All processes whose parent is `parent`.
fn children_of(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent))
        .collect()
}

/// The state and the parent of a process. The command name stands before them and may contain any character, so reading
/// starts behind its closing parenthesis; see proc(5).
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}
