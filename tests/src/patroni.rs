//! A real Patroni cluster: three PostgreSQL servers, each under a Patroni of its own, and one etcd that holds the lock.
//!
//! Patroni starts and ends the servers, so they are its children or nobody's. When
//! this process ends, however it does, the kernel tells each Patroni to stop, and
//! that stops its server.

use crate::shared::{PASSWORD, USER};
use crate::{Endpoint, Folder, binaries, poll_until};
use mothership_cluster::{Account, free_port, spawn_tied};
use mothership_pool::http::{Service, Url};
use mothership_pool::patroni::{Cluster, MemberRole};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Patroni takes its time for everything that is no switchover.
const LONG: Duration = Duration::from_secs(180);
/// How long a leader that is gone keeps the lock: the least that Patroni takes.
pub const TTL: Duration = Duration::from_secs(20);

/// The cluster. Dropped, all of it ends.
#[derive(Debug)]
pub struct Patroni {
    nodes: Vec<Node>,
    etcd: Child,
    account: Account,
    // Behind the servers, so that it is removed after them.
    folder: Folder,
}

#[derive(Debug)]
struct Node {
    api: u16,
    postgres: u16,
    folder: PathBuf,
    child: Option<Child>,
}

/// Whether all programs are there; if not, which one is missing.
pub fn missing() -> Option<&'static str> {
    let there = |program: &&str| program_of(program).is_none();
    ["patroni", "patronictl", "etcd"].into_iter().find(there)
}

fn program_of(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push("/usr/bin".into());
    let mut programs = folders.iter().map(|folder| folder.join(name));
    programs.find(|program| program.is_file())
}

impl Patroni {
    /// Starts `nodes` servers, synchronous, and waits until they are a cluster.
    ///
    /// # Panics
    /// If they do not become one.
    pub fn start(nodes: usize) -> Patroni {
        let folder = Folder::new("patroni");
        let account = Account::choose().unwrap();
        let (client, peer) = (free_port().unwrap(), free_port().unwrap());
        let etcd = etcd(&folder, &account, client, peer);
        let nodes = (0..nodes).map(|number| {
            let node = Node {
                api: free_port().unwrap(),
                postgres: free_port().unwrap(),
                folder: folder.path().join(format!("p{number}")),
                child: None,
            };
            make_folder(&node.folder, &account);
            std::fs::write(node.config(), node.settings(number, client)).unwrap();
            node
        });
        let mut patroni = Patroni {
            nodes: nodes.collect(),
            etcd,
            account,
            folder,
        };
        for node in 0..patroni.nodes.len() {
            patroni.start_node(node);
        }
        patroni.wait_whole();
        patroni
    }

    /// Starts the Patroni of a node that was killed.
    pub fn start_node(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        let mut command = self.account.command(&program_of("patroni").unwrap());
        command.arg(node.config());
        log_to(&mut command, &node.folder.join("patroni.log"));
        // On SIGTERM it stops its server.
        node.child = Some(spawn_tied(command, libc::SIGTERM).unwrap());
    }

    /// Ends a node as a power failure would: Patroni, the server and all of its processes.
    pub fn kill9(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        if let Some(mut patroni) = node.child.take() {
            patroni.kill().unwrap();
            patroni.wait().unwrap();
        }
        node.kill_server();
    }

    /// How to reach a node's server directly.
    pub fn endpoint(&self, node: usize) -> Endpoint {
        Endpoint {
            host: "127.0.0.1".into(),
            port: self.nodes[node].postgres,
            user: USER.into(),
            password: PASSWORD.into(),
            database: "postgres".into(),
        }
    }

    /// The ports of all servers.
    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.postgres).collect()
    }

    /// The REST APIs, as the router's configuration names them.
    pub fn urls(&self) -> Vec<String> {
        let urls = self
            .nodes
            .iter()
            .map(|node| format!("http://127.0.0.1:{}", node.api));
        urls.collect()
    }

    /// What the first member that answers says of the cluster.
    pub fn cluster(&self) -> Option<Cluster> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            for url in self.urls() {
                let service = Service {
                    url: Url::parse(&url).unwrap(),
                    tls: None,
                    login: None,
                };
                let patroni = mothership_pool::patroni::PatroniClient(service);
                let asked = tokio::time::timeout(Duration::from_secs(5), patroni.cluster());
                if let Ok(Ok(cluster)) = asked.await {
                    return Some(cluster);
                }
            }
            None
        })
    }

    /// The node that holds the lock.
    pub fn leader(&self) -> Option<usize> {
        let cluster = self.cluster()?;
        number_of(&cluster.leader()?.name)
    }

    /// A node that has every commit.
    pub fn synchronous(&self) -> Option<usize> {
        let cluster = self.cluster()?;
        let mut members = cluster.members.iter();
        number_of(&members.find(|m| m.role == MemberRole::SyncStandby)?.name)
    }

    /// Waits until there is a leader, and all others follow it, one of them synchronously.
    ///
    /// # Panics
    /// If that is not so within minutes.
    pub fn wait_whole(&self) {
        let whole = || {
            let Some(cluster) = self.cluster() else {
                return false;
            };
            let Some(leader) = cluster.leader() else {
                return false;
            };
            let mut members = cluster.members.iter();
            let follows = members.all(|m| m.timeline.is_some() && m.timeline == leader.timeline);
            let mut members = cluster.members.iter();
            let synchronous = members.any(|m| m.role == MemberRole::SyncStandby);
            cluster.members.len() == self.nodes.len() && follows && synchronous
        };
        let is_whole = poll_until(LONG, whole);
        assert!(is_whole, "{:#?}\n{}", self.cluster(), self.logs());
    }

    /// `patronictl switchover` from one node to another; its output.
    ///
    /// # Panics
    /// If Patroni does not do it.
    pub fn patronictl_switchover(&self, from: usize, to: usize) -> String {
        let mut command = self.account.command(&program_of("patronictl").unwrap());
        command.env("LANG", "C.UTF-8");
        command.arg("-c").arg(self.nodes[from].config());
        command.args(["switchover", "--force"]);
        command.args([
            "--master",
            &format!("p{from}"),
            "--candidate",
            &format!("p{to}"),
            "shard",
        ]);
        let done = command.stdin(Stdio::null()).output().unwrap();
        let said = [done.stdout, done.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(done.status.success(), "patronictl: {said}");
        said
    }

    /// What the Patronis have logged last.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            let log = node.folder.join("patroni.log");
            let log = std::fs::read(&log).unwrap_or_default();
            let from = log.len().saturating_sub(3_000);
            let tail = String::from_utf8_lossy(&log[from..]).into_owned();
            text += &format!("---- {}\n{tail}\n", node.folder.display());
        }
        text
    }
}

fn number_of(name: &str) -> Option<usize> {
    name.strip_prefix('p')?.parse().ok()
}

impl Drop for Patroni {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut patroni) = node.child.take() {
                let _ = patroni.kill();
                let _ = patroni.wait();
            }
            node.kill_server();
        }
        let _ = self.etcd.kill();
        let _ = self.etcd.wait();
        if std::thread::panicking() {
            eprintln!("{}\n{}", self.folder.path().display(), self.logs());
        }
    }
}

impl Node {
    fn config(&self) -> PathBuf {
        self.folder.join("patroni.yml")
    }

    fn settings(&self, number: usize, etcd: u16) -> String {
        let Node { api, postgres, .. } = self;
        let (folder, binaries) = (self.folder.display(), binaries());
        let programs = binaries.folder().display();
        let ttl = TTL.as_secs();
        format!(
            r#"scope: shard
name: p{number}
restapi: {{listen: "127.0.0.1:{api}", connect_address: "127.0.0.1:{api}"}}
etcd3: {{hosts: "127.0.0.1:{etcd}"}}
bootstrap:
  dcs:
    ttl: {ttl}
    loop_wait: 1
    retry_timeout: 3
    maximum_lag_on_failover: 1048576
    synchronous_mode: true
    postgresql:
      use_pg_rewind: true
      use_slots: true
      parameters: {{max_connections: 200, max_prepared_transactions: 200, wal_log_hints: "on"}}
  initdb: [{{encoding: UTF8}}, {{locale: C.UTF-8}}]
postgresql:
  listen: "127.0.0.1:{postgres}"
  connect_address: "127.0.0.1:{postgres}"
  data_dir: "{folder}/data"
  bin_dir: "{programs}"
  pgpass: "{folder}/pgpass"
  pg_hba: ["local all all trust", "host all all 127.0.0.1/32 scram-sha-256", "host replication all 127.0.0.1/32 scram-sha-256"]
  authentication:
    superuser: {{username: "{USER}", password: "{PASSWORD}"}}
    replication: {{username: "follower", password: "{PASSWORD}"}}
    rewind: {{username: "rewinder", password: "{PASSWORD}"}}
  parameters: {{unix_socket_directories: "{folder}", fsync: "off", shared_buffers: 32MB, log_min_messages: warning}}
watchdog: {{mode: "off"}}
"#
        )
    }

    /// The server is nobody's child once its Patroni is gone.
    fn kill_server(&self) {
        let file = std::fs::read_to_string(self.folder.join("data/postmaster.pid"));
        let pid = file.ok().and_then(|text| text.lines().next()?.parse().ok());
        // Another process may have the number by now.
        let Some(pid) = pid.filter(|pid| is_server_of(*pid, &self.folder)) else {
            return;
        };
        send(pid, libc::SIGSTOP);
        let children = children_of(pid);
        children
            .iter()
            .for_each(|child| send(*child, libc::SIGKILL));
        send(pid, libc::SIGKILL);
        let gone = |pid: &i32| matches!(stat(*pid), None | Some(('Z', _)));
        let all = children.iter().chain([&pid]);
        let all: Vec<&i32> = all.collect();
        poll_until(LONG, || all.iter().all(|pid| gone(pid)));
    }
}

fn is_server_of(pid: i32, folder: &Path) -> bool {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let folder = folder.display().to_string();
    String::from_utf8_lossy(&command).contains(&folder)
}

fn children_of(parent: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent))
        .collect()
}

/// State and parent of a process; see proc(5).
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

fn send(pid: i32, signal: i32) {
    // SAFETY: kill touches no memory.
    unsafe { libc::kill(pid, signal) };
}

fn make_folder(path: &Path, account: &Account) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir(path).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
    if let Account::Other { uid, gid } = *account {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
    }
}

fn log_to(command: &mut Command, path: &Path) {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(path);
    let log = log.unwrap();
    command.stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
}

fn etcd(folder: &Folder, account: &Account, client: u16, peer: u16) -> Child {
    let data = folder.path().join("etcd");
    make_folder(&data, account);
    let (client, peer) = (
        format!("http://127.0.0.1:{client}"),
        format!("http://127.0.0.1:{peer}"),
    );
    let mut command = account.command(&program_of("etcd").unwrap());
    command.arg("--data-dir").arg(data.join("data"));
    command.args([
        "--listen-client-urls",
        &client,
        "--advertise-client-urls",
        &client,
    ]);
    command.args([
        "--listen-peer-urls",
        &peer,
        "--initial-advertise-peer-urls",
        &peer,
    ]);
    command.args(["--initial-cluster", &format!("default={peer}")]);
    log_to(&mut command, &data.join("etcd.log"));
    spawn_tied(command, libc::SIGKILL).unwrap()
}
