//! The processes of the replica set with the shop's events: three mongods on this machine.
//!
//! Ports are any free ones, new with each start, as those of the shards are; so the set is told where its members are
//! by each start (`unite.rs`). A member that is killed has on disk what it acknowledged, and recovers by itself.

use super::error::{DemoError, Doing};
use super::folder;
use super::mongod;
use super::stop::Stop;
#[cfg(feature = "mongo")]
use super::unite;
use mothership_cluster::{Account, free_port, poll_until, spawn_tied};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

/// The name of the set, and of the router's shard.
pub(super) const NAME: &str = "docs";
/// mongod's option before the folder of its data.
pub(super) const DATA_FOLDER: &str = "--dbpath";

const MEMBERS: [&str; 3] = ["m1", "m2", "m3"];
/// Small, and open to whoever is on this machine, as the router is. A member that is to end does so at once instead
/// of serving for 15 seconds those who have not heard yet that there is another primary.
const OPTIONS: &str = "--bind_ip 127.0.0.1 --nounixsocket --wiredTigerCacheSizeGB 0.25 --oplogSize 64 \
    --setParameter diagnosticDataCollectionEnabled=false --setParameter shutdownTimeoutMillisForSignaledShutdown=100";
/// How long one may take to accept connections, on a busy machine with a slow disk.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long one may take to write what it has in memory.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How many ports are tried for a member: another process may take one before it does.
const PORTS: u32 = 5;
/// Of a log, in an error.
const TAIL: usize = 2_000;

/// Whether the members were a set before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Past {
    /// They are new, and empty.
    None,
    /// They were one, at other addresses.
    Set,
}

/// Three members that run. Dropped, they are killed; see [`ReplicaSet::stop`] for the orderly end.
#[derive(Debug)]
pub(super) struct ReplicaSet {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    name: &'static str,
    folder: PathBuf,
    port: u16,
    child: Child,
    /// It is known to have ended by itself.
    is_known_to_have_ended: bool,
}

impl ReplicaSet {
    /// Starts a set, new or the one that is there; returns when it has a primary that all others follow.
    pub(super) fn start(
        program: &Path,
        state: &Path,
        past: Past,
        stop: &Stop,
    ) -> Result<ReplicaSet, DemoError> {
        let folder = state.join(NAME);
        if past == Past::None && folder.exists() {
            std::fs::remove_dir_all(&folder).doing("remove", &folder)?;
        }
        folder::make(&folder)?;
        let members = MEMBERS.map(|name| Member::spawn(program, name, &folder));
        let members: Result<Vec<Member>, DemoError> = members.into_iter().collect();
        let mut set = ReplicaSet { members: members? };
        for member in &mut set.members {
            member.accept(program, stop)?;
        }
        unite::unite(&set.addresses(), past, stop)?;
        Ok(set)
    }

    /// Where the members are.
    pub(super) fn addresses(&self) -> Vec<String> {
        let ports = self.members.iter().map(|member| member.port);
        ports.map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// How many events there are.
    pub(super) fn count(&self) -> Result<u64, DemoError> {
        unite::count(&self.addresses())
    }

    /// Members that have ended by themselves since this was asked last.
    pub(super) fn newly_ended(&mut self) -> Vec<&'static str> {
        let ended = self.members.iter_mut().filter_map(|member| {
            let is_new = !member.is_known_to_have_ended && member.exit_status().is_some();
            member.is_known_to_have_ended |= is_new;
            is_new.then_some(member.name)
        });
        ended.collect()
    }

    /// Asks all to end and waits for that; past the limit they are killed.
    pub(super) fn stop(mut self) {
        for member in &mut self.members {
            if let (None, Ok(pid)) = (member.exit_status(), member.child.id().try_into()) {
                // SAFETY: kill touches no memory; the child is ours and unreaped.
                unsafe { libc::kill(pid, libc::SIGTERM) };
            }
        }
        let members = &mut self.members;
        poll_until(STOP_LIMIT, || {
            members
                .iter_mut()
                .all(|member| member.exit_status().is_some())
        });
    }
}

impl Member {
    /// Starts it in a folder of its own, which may be there.
    fn spawn(program: &Path, name: &'static str, set: &Path) -> Result<Member, DemoError> {
        let folder = set.join(name);
        folder::make(&folder)?;
        let data = folder.join("data");
        Account::choose()?.make_folder(&data)?;
        let port = free_port()?;
        let mut command = mongod::command(program)?;
        command.args(OPTIONS.split_whitespace());
        command.args(["--replSet", NAME, "--port", &port.to_string(), DATA_FOLDER]);
        command.arg(data);
        let log = folder.join("log");
        let mut options = std::fs::File::options();
        let file = options.create(true).append(true).open(&log);
        let file = file.doing("open", &log)?;
        command.stdout(file.try_clone().doing("open", &log)?);
        command.stderr(file);
        command.stdin(Stdio::null());
        let child = spawn_tied(command, libc::SIGKILL).doing("start", program)?;
        Ok(Member {
            name,
            folder,
            port,
            child,
            is_known_to_have_ended: false,
        })
    }

    /// Waits until it accepts connections. One that ends before may have lost its port to another program, so it is
    /// started anew a few times.
    fn accept(&mut self, program: &Path, stop: &Stop) -> Result<(), DemoError> {
        let mut tries = 1;
        loop {
            let mut ended = None;
            let accepts = poll_until(START_LIMIT, || {
                ended = self.exit_status();
                stop.is_asked() || ended.is_some() || self.accepts()
            });
            stop.check()?;
            match ended {
                None if accepts => return Ok(()),
                Some(_) if tries < PORTS => {
                    tries += 1;
                    let set = self.folder.parent().unwrap_or(&self.folder).to_path_buf();
                    *self = Member::spawn(program, self.name, &set)?;
                }
                _ => {
                    return Err(DemoError::Member {
                        name: self.name,
                        log: self.log_tail(),
                    });
                }
            }
        }
    }

    fn accepts(&self) -> bool {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
    }

    fn exit_status(&mut self) -> Option<ExitStatus> {
        // An error means that there is no such child, which we hold unreaped.
        self.child.try_wait().ok().flatten()
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read(self.folder.join("log")).unwrap_or_default();
        let end = &text[text.len().saturating_sub(TAIL)..];
        String::from_utf8_lossy(end).trim().to_owned()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nobody gets here: without the driver no mongod is started.
#[cfg(not(feature = "mongo"))]
mod unite {
    use super::super::mongod::Missing;
    use super::{DemoError, Past, Stop};

    pub(super) fn unite(_: &[String], _: Past, _: &Stop) -> Result<(), DemoError> {
        Err(Missing::Driver.into())
    }

    pub(super) fn count(_: &[String]) -> Result<u64, DemoError> {
        Err(Missing::Driver.into())
    }
}
