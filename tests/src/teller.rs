//! pgbench in a loop, which is heard of every transaction whose COMMIT was answered, also when it is killed.
//!
//! pgbench logs a line for each, and keeps lines back until a buffer is full, unless the log is a terminal
//! (setvbuf(3)). So it is one, and the lines are counted at its other end.

use crate::Folder;
use crate::bench::Bench;
use crate::poll_until;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// The protocol modes, by turns.
const MODES: [&str; 3] = ["simple", "extended", "prepared"];

/// pgbench, again and again.
#[derive(Debug)]
pub struct Teller {
    clients: u64,
    running: Option<Running>,
    /// Transactions of the runs that have ended.
    told: i64,
    runs: usize,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// The end that pgbench writes to: while it is open here, reading does not end.
    log: OwnedFd,
    lines: JoinHandle<i64>,
    // Its link to that end.
    _folder: Folder,
}

impl Teller {
    /// With so many clients; it does not run yet.
    pub fn new(clients: u64) -> Teller {
        Teller {
            clients,
            running: None,
            told: 0,
            runs: 0,
        }
    }

    /// Begins a run of so many seconds, if none is under way.
    pub fn tend(&mut self, bench: &Bench, seconds: u64) {
        if let Some(running) = &mut self.running
            && running.child.try_wait().unwrap().is_none()
        {
            return;
        }
        self.collect();
        self.running = Some(self.run(bench, seconds));
        self.runs += 1;
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(running) = &mut self.running {
            running.child.kill().unwrap();
            running.child.wait().unwrap();
        }
        self.collect();
    }

    /// Waits for the end of the run; how many transactions there were in all.
    ///
    /// # Panics
    /// If it does not end within the limit.
    pub fn finish(mut self, limit: Duration) -> i64 {
        if let Some(running) = &mut self.running {
            let ended = poll_until(limit, || running.child.try_wait().unwrap().is_some());
            assert!(ended, "pgbench does not end");
        }
        self.collect();
        self.told
    }

    /// Counts what a run that has ended has told.
    fn collect(&mut self) {
        if let Some(running) = self.running.take() {
            drop(running.log);
            self.told += running.lines.join().unwrap();
        }
    }

    fn run(&self, bench: &Bench, seconds: u64) -> Running {
        let folder = Folder::new("teller");
        let (ours, theirs) = terminal();
        let path = std::fs::read_link(format!("/proc/self/fd/{}", theirs.as_raw_fd())).unwrap();
        let prefix = folder.path().join("log");
        let pgbench = bench.pgbench();
        // The name of the log ends with the number of the process, which a shell knows before it becomes pgbench.
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg("ln -s \"$0\" \"$1.$$\" && shift && exec \"$@\"");
        command.arg(path).arg(&prefix);
        command.arg(pgbench.get_program()).args(pgbench.get_args());
        for (name, value) in pgbench.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.args(["-n", "-l", "--log-prefix"]).arg(&prefix);
        command.args(["-M", MODES[self.runs % MODES.len()]]);
        command.args(["-c", &self.clients.to_string(), "-T", &seconds.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null());
        let child = crate::cluster::spawn_tied(command, libc::SIGKILL).unwrap();
        let lines = std::thread::spawn(move || count(ours));
        Running {
            child,
            log: theirs,
            lines,
            _folder: folder,
        }
    }
}

/// Transactions whose COMMIT was answered: client, number, time in µs (or a word for failed ones), …
fn count(log: OwnedFd) -> i64 {
    let done = |line: &String| {
        let time = line.split(' ').nth(2);
        time.is_some_and(|time| time.parse::<u64>().is_ok())
    };
    // When nobody has the other end any longer, reading fails.
    let lines = BufReader::new(File::from(log))
        .lines()
        .map_while(Result::ok);
    i64::try_from(lines.filter(done).count()).unwrap()
}

/// A terminal: its two ends, the one that shows and the one that programs write to. No other program inherits them.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    let none = std::ptr::null_mut();
    // SAFETY: both places outlive the call, and no name, settings or size are given.
    let made = unsafe { libc::openpty(&mut ours, &mut theirs, none, none.cast(), none.cast()) };
    assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: they were opened just now, and nobody else has them.
    let ends = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    for end in [ours, theirs] {
        // SAFETY: it is open, and the call touches no memory.
        let set = unsafe { libc::fcntl(end, libc::F_SETFD, libc::FD_CLOEXEC) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }
    ends
}
