//! The real router as a process, ended with the test.
//!
//! The binary is the one that `make test` built just before: in the target
//! folder that this test binary came from.

use crate::{Endpoint, Folder};
use mothership_cluster::{free_port, poll_until, spawn_tied};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a start may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running router. Dropped, it is killed; if the test failed, its log is printed.
#[derive(Debug)]
pub struct Router {
    child: Child,
    folder: Arc<Folder>,
    /// The name of its log in the folder.
    log: String,
    port: u16,
    metrics_port: u16,
    /// It sees its own /etc/hosts.
    own_hosts: bool,
    /// What gives it a clock of its own.
    clock: Option<PathBuf>,
}

impl Router {
    /// Starts `mothership run` with this configuration and waits until it accepts connections.
    ///
    /// In the text `@port@`, `@metrics_port@` and `@folder@` stand for a free
    /// port each and a folder that is removed with the router.
    pub fn start(config: &str) -> Router {
        let mut router = Router::launch(config);
        let port = router.port;
        let mut ended = None;
        let up = poll_until(START_LIMIT, || {
            ended = router.exit_status();
            ended.is_some() || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        assert!(ended.is_none(), "the router ended: {ended:?}");
        assert!(up, "the router does not listen on {port}");
        router
    }

    /// Starts it with a file of its own in the place of /etc/hosts, which [`Self::write_hosts`] changes. Needs what
    /// [`may_have_own_hosts`] says.
    pub fn start_with_hosts(config: &str, hosts: &str) -> Router {
        let mut router = Router::prepare(config);
        router.own_hosts = true;
        router.write_hosts(hosts);
        router.spawn(&[]);
        let port = router.port;
        let up = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        assert!(poll_until(START_LIMIT, up), "the router does not listen");
        router
    }

    /// Starts it with a wall clock of its own, which [`Self::set_clock`] sets. `library` is what [`clock_library`] finds.
    pub fn start_with_clock(config: &str, library: PathBuf) -> Router {
        let mut router = Router::prepare(config);
        router.clock = Some(library);
        router.set_clock(0);
        router.spawn(&[]);
        let port = router.port;
        let up = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        assert!(poll_until(START_LIMIT, up), "the router does not listen");
        router
    }

    /// Its wall clock is so many seconds before or behind the right one from now on.
    pub fn set_clock(&self, seconds: i64) {
        // Whoever reads it finds the old text or the new one.
        let next = self.folder.path().join("clock.next");
        std::fs::write(&next, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(&next, self.clock_path()).unwrap();
    }

    fn clock_path(&self) -> PathBuf {
        self.folder.path().join("clock")
    }

    /// What its names mean from now on.
    pub fn write_hosts(&self, hosts: &str) {
        // The file that is mounted stays the same one.
        std::fs::write(self.folder.path().join("hosts"), hosts).unwrap();
    }

    /// Starts it and does not wait: for configurations that are to be refused.
    pub fn launch(config: &str) -> Router {
        let mut router = Router::prepare(config);
        router.spawn(&[]);
        router
    }

    fn prepare(config: &str) -> Router {
        let folder = Folder::new("router");
        let (port, metrics_port) = (free_port().unwrap(), free_port().unwrap());
        let mut router = Router {
            child: Command::new("true").spawn().unwrap(),
            folder: Arc::new(folder),
            log: "router.log".to_owned(),
            port,
            metrics_port,
            own_hosts: false,
            clock: None,
        };
        router.child.wait().unwrap();
        router.write_config(config);
        router
    }

    /// Starts another process with the same file, ports and folder, which takes over from this one; does not wait.
    pub fn launch_new_process(&self) -> Router {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut new_process = Router {
            child: Command::new("true").spawn().unwrap(),
            folder: Arc::clone(&self.folder),
            log: format!("router-{number}.log"),
            port: self.port,
            metrics_port: self.metrics_port,
            own_hosts: self.own_hosts,
            clock: self.clock.clone(),
        };
        new_process.child.wait().unwrap();
        new_process.spawn(&["--take-over"]);
        new_process
    }

    /// The same, and waits until it has taken over.
    pub fn take_over(&self) -> Router {
        let mut new_process = self.launch_new_process();
        let mut ended = None;
        let serves = poll_until(START_LIMIT, || {
            ended = new_process.exit_status();
            ended.is_some() || new_process.log().contains("serving")
        });
        assert!(serves && ended.is_none(), "no takeover: {ended:?}");
        new_process
    }

    /// Starts it anew with the same file, port and folder, after it has ended.
    pub fn start_again(&mut self) {
        assert!(self.exit_status().is_some(), "the router still runs");
        self.spawn(&[]);
        let port = self.port;
        let up = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        assert!(poll_until(START_LIMIT, up), "the router does not listen");
    }

    fn spawn(&mut self, more: &[&str]) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        let mut command = match self.own_hosts {
            false => Command::new(binary()),
            true => {
                let mut command = Command::new("unshare");
                let mount = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
                command.args(["-m", "sh", "-c", mount]);
                command.arg(self.folder.path().join("hosts")).arg(binary());
                command
            }
        };
        command
            .arg("run")
            .args(more)
            .arg("--config")
            .arg(self.config_path());
        if let Some(library) = &self.clock {
            command.env("LD_PRELOAD", library);
            command.env("FAKETIME_TIMESTAMP_FILE", self.clock_path());
            command.env("FAKETIME_NO_CACHE", "1");
            // As in a real jump, the clock that measures intervals goes on.
            command.env("DONT_FAKE_MONOTONIC", "1");
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.child = spawn_tied(command, libc::SIGKILL).unwrap();
    }

    /// Replaces the configuration file; `sighup` makes the router read it.
    pub fn write_config(&self, config: &str) {
        let mut text = config.to_owned();
        if !text.contains("\nworkers = ") {
            // On every machine: what workers share is to be tested, too.
            text = text.replace("port = @port@", "port = @port@\nworkers = 2");
        }
        let text = text
            .replace("@port@", &self.port.to_string())
            .replace("@metrics_port@", &self.metrics_port.to_string())
            .replace("@folder@", &self.folder.path().display().to_string());
        std::fs::write(self.config_path(), text).unwrap();
    }

    /// The TCP port for clients.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The TCP port for metrics, if the configuration uses it.
    pub fn metrics_port(&self) -> u16 {
        self.metrics_port
    }

    /// What it tells Prometheus, if the configuration has the port.
    pub fn metrics(&self) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.metrics_port)).unwrap();
        let request = b"GET /metrics HTTP/1.0\r\n\r\n";
        stream.write_all(request).unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    }

    /// The folder that `@folder@` stands for: where a unix socket may be made.
    pub fn unix_folder(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The address for psql, as a URL. The password is not in it: give PGPASSWORD.
    pub fn psql_url(&self, user: &str, database: &str) -> String {
        format!("postgresql://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// The address with what is needed to log in.
    pub fn endpoint(&self, user: &str, password: &str, database: &str) -> Endpoint {
        Endpoint {
            host: "127.0.0.1".into(),
            port: self.port,
            user: user.into(),
            password: password.into(),
            database: database.into(),
        }
    }

    /// Asks it to read its configuration again.
    pub fn sighup(&self) {
        self.signal(libc::SIGHUP);
    }

    /// Asks it to drain and end.
    pub fn sigterm(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Asks it to start its successor.
    pub fn sigusr2(&self) {
        self.signal(libc::SIGUSR2);
    }

    /// Asks it to ask all servers at once.
    pub fn sigusr1(&self) {
        self.signal(libc::SIGUSR1);
    }

    /// Freezes it.
    pub fn sigstop(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets it go on.
    pub fn sigcont(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Kills it and waits for its end.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Its exit status, if it has ended.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let ended = poll_until(limit, || self.exit_status().is_some());
        assert!(ended, "the router did not end within {limit:?}");
        self.exit_status().unwrap()
    }

    /// Everything that it has logged so far.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// How many descriptors it holds open: sockets, files, pipes.
    pub fn open_descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.pid());
        std::fs::read_dir(folder).unwrap().count()
    }

    /// Changes how many descriptors it may have, and returns how many those were.
    pub fn limit_descriptors(&self, most: u64) -> u64 {
        let mut old = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        let pid = self.pid().try_into().unwrap();
        // SAFETY: both pointers are null or lead to one `rlimit` of ours.
        let read =
            unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut old) };
        assert_eq!(read, 0);
        let new = libc::rlimit {
            rlim_cur: most,
            ..old
        };
        let nowhere = std::ptr::null_mut();
        // SAFETY: as above.
        let set = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const new, nowhere) };
        assert_eq!(set, 0);
        old.rlim_cur
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid()));
        tasks.unwrap().count()
    }

    /// Its resident memory in bytes; see VmRSS in proc(5).
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() * 1024
    }

    /// Its memory in bytes, shared pages in their part; see Pss in proc(5).
    pub fn memory(&self) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.pid());
        let rollup = std::fs::read_to_string(path).unwrap();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() * 1024
    }

    /// Its configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("mothership.toml")
    }

    /// The file with all that it has logged.
    pub fn log_path(&self) -> PathBuf {
        self.folder.path().join(&self.log)
    }

    fn signal(&self, signal: i32) {
        let pid = self.pid().try_into().unwrap();
        // SAFETY: kill touches no memory. The child is reaped only by `&mut self`.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "the router is gone");
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let status = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- router ({status:?}), its log:\n{}----", self.log());
        }
    }
}

/// Whether a process may be given a file in the place of /etc/hosts: root with its capabilities may.
pub fn may_have_own_hosts() -> bool {
    let mut mount = Command::new("unshare");
    mount.args(["-m", "mount", "--bind", "/etc/hosts", "/etc/hosts"]);
    mount.output().is_ok_and(|done| done.status.success())
}

/// libfaketime for programs with threads, if it is installed (Debian's package faketime).
pub fn clock_library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let mut files = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    files.find(|file| file.is_file())
}

/// `target/proof/mothership` for a test in `target/proof/deps/`, say.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let deps = test.parent().expect("a test binary lies in a folder");
    let found = [Some(deps), deps.parent()]
        .into_iter()
        .flatten()
        .map(|folder| folder.join("mothership"))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "there is no mothership binary beside {}: build it first, with the same profile, as `make test-rust` does",
            test.display()
        )
    })
}
