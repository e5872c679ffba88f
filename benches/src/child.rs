//! Programs that we have started: waiting for their end, and ending them.

use crate::interrupt;
use mothership_cluster::poll_until;
use std::process::{Child, ExitStatus};
use std::time::Duration;

/// Waits until it ends. None if it did not within `limit`: it is killed then.
///
/// # Errors
/// We shall stop; it is killed then, too.
pub fn finish(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>, String> {
    let mut status = None;
    poll_until(limit, || {
        status = child.try_wait().ok().flatten();
        status.is_some() || interrupt::is_asked()
    });
    if status.is_none() {
        kill(child);
    }
    interrupt::check()?;
    Ok(status)
}

/// Asks it by SIGINT to end, as strace and perf want it, which write what they have then. None if it did not within
/// `limit`: it is killed then. One that has ended already is only looked at.
pub fn end(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    if let Ok(Some(status)) = child.try_wait() {
        return Some(status);
    }
    if let Ok(pid) = libc::pid_t::try_from(child.id()) {
        // SAFETY: kill touches no memory; the child is ours and unreaped.
        unsafe { libc::kill(pid, libc::SIGINT) };
    }
    let mut status = None;
    poll_until(limit, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    if status.is_none() {
        kill(child);
    }
    status
}

/// The last of what it has said, which is where errors are.
pub fn last_lines(said: &str) -> String {
    const LINES: usize = 8;
    let lines: Vec<_> = said.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn kill(child: &mut Child) {
    // It may have ended by itself in between: either way it is over.
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::Command;

    const LONG: Duration = Duration::from_secs(30);

    fn sleep(seconds: &str) -> Child {
        let mut command = Command::new("sleep");
        command.arg(seconds);
        // A shell's background jobs ignore interrupts, and hand that down.
        let listen = || {
            // SAFETY: signal is safe between fork and exec.
            unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
            Ok(())
        };
        // SAFETY: the closure calls nothing else.
        unsafe { command.pre_exec(listen) };
        command.spawn().unwrap()
    }

    #[test]
    fn who_does_not_end_is_killed_and_reaped() {
        let mut child = sleep("600");
        assert_eq!(finish(&mut child, Duration::from_millis(50)).unwrap(), None);
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        let status = finish(&mut sleep("0"), LONG).unwrap();
        assert!(status.unwrap().success());
    }

    #[test]
    fn who_is_asked_to_end_is_asked_by_an_interrupt() {
        let status = end(&mut sleep("600"), LONG);
        assert_eq!(status.unwrap().signal(), Some(libc::SIGINT));
    }

    #[test]
    fn the_last_lines_are_the_last() {
        assert_eq!(last_lines("a\nb\n"), "a\nb");
        assert_eq!(last_lines(&"x\n".repeat(20)).lines().count(), 8);
        assert_eq!(last_lines(""), "");
    }
}
