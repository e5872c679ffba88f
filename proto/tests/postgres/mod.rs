//! One throw-away PostgreSQL with users for each method of authentication.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const HBA: &str = "
host all postgres  127.0.0.1/32 trust
host all trusted   127.0.0.1/32 trust
host all plain     127.0.0.1/32 password
host all hashed    127.0.0.1/32 md5
host all either    127.0.0.1/32 md5
host all refused   127.0.0.1/32 reject
host all all       127.0.0.1/32 scram-sha-256
";

/// A running server, stopped and removed when dropped.
pub struct Postgres {
    binaries: PathBuf,
    folder: PathBuf,
    pub port: u16,
}

impl Postgres {
    pub fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let folder =
            std::env::temp_dir().join(format!("mothership-login-{}-{port}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let server = Self {
            binaries: binaries(),
            folder,
            port,
        };
        if is_root() {
            succeed(Command::new("chown").arg("postgres").arg(&server.folder));
        }
        let data = server.folder.join("data");
        let data = data.to_str().unwrap();
        succeed(server.command("initdb").args([
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-N",
            "-E",
            "UTF8",
            "--no-locale",
        ]));
        fs::write(format!("{data}/pg_hba.conf"), HBA).unwrap();
        let socket = server.folder.display();
        let options = format!(
            "-p {port} -k {socket} -c listen_addresses=127.0.0.1 -c fsync=off -c shared_buffers=16MB"
        );
        drop(free);
        let log = server.folder.join("log");
        succeed(
            server
                .command("pg_ctl")
                .args(["-D", data, "-w", "-t", "20", "-o", &options, "-l"])
                .arg(log)
                .arg("start"),
        );
        server
    }

    /// A client program of PostgreSQL, run as whoever runs the test.
    pub fn client(&self, program: &str) -> Command {
        Command::new(self.binaries.join(program))
    }

    /// A server program; PostgreSQL does not run as root.
    fn command(&self, program: &str) -> Command {
        let program = self.binaries.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir("/");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.folder.join("data");
        let _ = self
            .command("pg_ctl")
            .arg("-D")
            .arg(data)
            .args(["-m", "immediate", "stop"])
            .output();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn binaries() -> PathBuf {
    let asked = Command::new("pg_config").arg("--bindir").output().ok();
    let asked = asked.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut installed: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    installed.sort();
    let complete = |folder: &PathBuf| Path::new(folder).join("initdb").exists();
    let found = asked
        .into_iter()
        .chain(installed.into_iter().rev())
        .find(complete);
    found.expect("PostgreSQL's server programs are installed")
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout.starts_with(b"0\n")
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output
}
