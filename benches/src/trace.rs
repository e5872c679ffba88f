//! Counts the system calls of a process while something else loads it, by strace(1).
//!
//! strace attaches to a process that runs, with all of its threads, and is ended by SIGINT, upon which it lets go and
//! writes its counts. A traced process is slower than another: while it stops at each call its clients go on, so that
//! it finds more work at each wake-up. The kernel's own threads for io_uring cannot be traced and make no calls.

use crate::{child, interrupt};
use mothership_cluster::{poll_until, spawn_tied};
use std::fs::{File, read_dir, read_to_string};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long attaching and letting go may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// A process under strace. Dropped, it is let go.
#[derive(Debug)]
pub struct Trace {
    strace: Child,
    counts: PathBuf,
    said: PathBuf,
}

impl Trace {
    /// Attaches to all threads of a process; `folder` is for what strace writes.
    ///
    /// # Errors
    /// strace is not there, or may not trace: the error says so.
    pub fn start(pid: u32, folder: &Path) -> Result<Trace, String> {
        let (counts, said) = (folder.join("strace.counts"), folder.join("strace.said"));
        // What an earlier one has written is none of this one's.
        let _ = std::fs::remove_file(&counts);
        let file = File::create(&said).map_err(|e| format!("create {}: {e}", said.display()))?;
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-o"]).arg(&counts);
        command.args(["-p", &pid.to_string()]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        let strace = spawn_tied(command, libc::SIGKILL).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "strace is not installed".to_owned(),
            _ => format!("start strace: {error}"),
        })?;
        let mut trace = Trace {
            strace,
            counts,
            said,
        };
        let mut ended = false;
        poll_until(LIMIT, || {
            ended = !matches!(trace.strace.try_wait(), Ok(None));
            ended || interrupt::is_asked() || is_traced(pid)
        });
        interrupt::check()?;
        match !ended && is_traced(pid) {
            true => Ok(trace),
            false => Err(trace.failed("does not attach")),
        }
    }

    /// Lets the process go; returns how many system calls it has made since the start.
    pub fn end(mut self) -> Result<u64, String> {
        self.let_go();
        let text = read_to_string(&self.counts);
        let text = text.map_err(|_| self.failed("has left no counts"))?;
        Ok(total(&text))
    }

    fn failed(&self, what: &str) -> String {
        let said = read_to_string(&self.said).unwrap_or_default();
        format!("strace {what}: {}", said.trim())
    }

    /// The kernel lets go of what a tracer traced that ends in any way; only after SIGINT are there counts.
    fn let_go(&mut self) {
        child::end(&mut self.strace, LIMIT);
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// Whether every thread that can be traced is.
fn is_traced(pid: u32) -> bool {
    let Ok(tasks) = read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    let mut texts = tasks
        .filter_map(|task| read_to_string(task.ok()?.path().join("status")).ok())
        .filter(|text| !is_of_kernel(text))
        .peekable();
    texts.peek().is_some() && texts.all(|text| has_tracer(&text))
}

/// Of a task's status: whether it is a thread that the kernel has made for io_uring.
fn is_of_kernel(status: &str) -> bool {
    status.starts_with("Name:\tiou-")
}

/// Of a task's status: whether somebody traces it.
fn has_tracer(status: &str) -> bool {
    let tracer = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|pid| pid.trim() != "0")
}

/// The sum of the calls in a summary of strace, which is empty if there was none. The columns are: % time, seconds,
/// usecs/call, calls, errors if there were any, and the name; the line of totals lacks some of them in some versions.
fn total(summary: &str) -> u64 {
    let calls = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.first()?.parse::<f64>().ok()?;
        words.last().filter(|name| **name != "total")?;
        words.get(3)?.parse::<u64>().ok()
    };
    summary.lines().filter_map(calls).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_all_kinds_are_added_up_but_for_the_total() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 63.27    1.203000          11    105000           epoll_wait
 36.73    0.698000          13     52000      1200 recvfrom
  0.00    0.000000           0         2           sendto
------ ----------- ----------- --------- --------- ----------------
100.00    1.901000          12    157002      1200 total
";
        assert_eq!(total(summary), 157_002);
        assert_eq!(total(""), 0);
    }

    #[test]
    fn threads_of_the_kernel_need_no_tracer() {
        let status = "Name:\tmothership\nPid:\t7\nTracerPid:\t0\n";
        assert!(!is_of_kernel(status) && !has_tracer(status));
        assert!(has_tracer(&status.replace("Pid:\t0", "Pid:\t81")));
        assert!(is_of_kernel("Name:\tiou-wrk-77\nTracerPid:\t0\n"));
    }

    #[test]
    fn who_is_gone_cannot_be_traced() {
        let folder = mothership_tests::Folder::new("trace");
        // Above what the kernel gives.
        assert!(Trace::start(1 << 30, folder.path()).is_err());
    }
}
