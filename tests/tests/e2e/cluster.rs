//! The local clusters themselves: started, broken, left behind.

use mothership_tests::cluster::{Auth, Cluster, ClusterError, Mode, Slot};
use mothership_tests::{Folder, binaries, poll_until, spec};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

fn primary(folder: &Folder) -> Cluster {
    Cluster::create(&binaries(), spec(folder, "primary")).unwrap_or_else(|e| panic!("{e}"))
}

/// Whether a process runs. An orphan that has ended stays as a zombie (`Z`) until init looks after it.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn backends(cluster: &Cluster) -> Vec<u32> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type <> 'client backend'";
    let pids = cluster.sql("postgres", sql).unwrap();
    pids.lines().map(|pid| pid.parse().unwrap()).collect()
}

fn port_is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[test]
fn a_cluster_starts_stops_and_starts_again_with_its_rows() {
    let folder = Folder::new("cluster");
    let mut cluster = primary(&folder);
    let port = cluster.port();
    cluster
        .sql("postgres", "CREATE TABLE t AS SELECT 7 AS a")
        .unwrap();
    cluster.restart(Mode::Fast).unwrap();
    assert_eq!(cluster.port(), port);
    assert_eq!(cluster.sql("postgres", "SELECT a FROM t").unwrap(), "7");
    cluster.stop(Mode::Immediate).unwrap();
    assert!(port_is_free(port));
    let wrong = cluster.sql("postgres", "SELECT 1");
    assert!(matches!(wrong, Err(ClusterError::Io { .. })), "{wrong:?}");
}

#[test]
fn an_existing_data_folder_is_opened_and_never_overwritten() {
    let folder = Folder::new("cluster");
    let mut first = primary(&folder);
    let taken = Cluster::create(&binaries(), spec(&folder, "primary"));
    assert!(matches!(
        taken,
        Err(ClusterError::DataFolder { exists: true, .. })
    ));
    first.sql("postgres", "CREATE TABLE t()").unwrap();
    first.stop(Mode::Fast).unwrap();
    let second = Cluster::open(&binaries(), spec(&folder, "primary")).unwrap();
    assert_eq!(
        second.sql("postgres", "SELECT count(*) FROM t").unwrap(),
        "0"
    );
    let none = Cluster::open(&binaries(), spec(&folder, "other"));
    assert!(matches!(
        none,
        Err(ClusterError::DataFolder { exists: false, .. })
    ));
}

#[test]
fn a_replica_streams_pauses_and_is_promoted() {
    let folder = Folder::new("cluster");
    let mut primary = primary(&folder);
    let slot = Slot::Named("r1".into());
    let mut replica =
        Cluster::replica_of(&primary, &binaries(), spec(&folder, "replica"), &slot).unwrap();
    primary
        .sql("postgres", "CREATE TABLE t AS SELECT 1 AS a")
        .unwrap();
    let seen = || {
        replica
            .sql("postgres", "SELECT a FROM t")
            .is_ok_and(|a| a == "1")
    };
    assert!(poll_until(SOON, seen), "not replicated");
    let count = "SELECT count(*) FROM pg_replication_slots WHERE active";
    assert_eq!(primary.sql("postgres", count).unwrap(), "1");

    replica
        .configure(&[("recovery_min_apply_delay", "1h")])
        .unwrap();
    let delay = || {
        replica
            .sql("postgres", "SHOW recovery_min_apply_delay")
            .unwrap()
            == "1h"
    };
    assert!(poll_until(SOON, delay), "the new setting was not read");
    replica
        .configure(&[("recovery_min_apply_delay", "0")])
        .unwrap();

    primary.kill9();
    replica.promote().unwrap();
    replica.sql("postgres", "INSERT INTO t VALUES (2)").unwrap();
}

#[test]
fn kill9_takes_the_sessions_too_and_committed_rows_survive() {
    let folder = Folder::new("cluster");
    let mut cluster = primary(&folder);
    cluster.sql("postgres", "CREATE TABLE t (a int)").unwrap();
    let children = backends(&cluster);
    assert!(!children.is_empty());
    cluster.sql("postgres", "INSERT INTO t VALUES (1)").unwrap();
    cluster.kill9();
    assert!(!cluster.is_running());
    assert!(children.iter().all(|pid| !runs(*pid)), "children are left");
    assert!(port_is_free(cluster.port()));
    cluster.start().unwrap();
    assert_eq!(cluster.sql("postgres", "SELECT a FROM t").unwrap(), "1");
}

#[test]
fn a_paused_server_answers_nobody_until_it_is_resumed() {
    let folder = Folder::new("cluster");
    let mut cluster = primary(&folder);
    cluster.pause().unwrap();
    // A short wait for something that must not happen; the lower bound of a failure, not a synchronisation.
    let quiet = cluster.wait_ready(Duration::from_millis(50));
    assert!(
        matches!(quiet, Err(ClusterError::TooSlow { .. })),
        "{quiet:?}"
    );
    cluster.resume().unwrap();
    cluster.wait_ready(SOON).unwrap();
    assert_eq!(cluster.sql("postgres", "SELECT 1").unwrap(), "1");
}

#[test]
fn a_paused_server_ends_when_it_is_dropped() {
    let folder = Folder::new("cluster");
    let mut cluster = primary(&folder);
    let pids = [backends(&cluster), vec![cluster.pid().unwrap()]].concat();
    cluster.pause().unwrap();
    drop(cluster);
    assert!(pids.iter().all(|pid| !runs(*pid)));
}

#[test]
fn a_server_ends_when_its_parent_is_killed() {
    outlives_nobody(&[]);
}

#[test]
fn even_a_paused_server_ends_when_its_parent_is_killed() {
    outlives_nobody(&["paused"]);
}

fn outlives_nobody(arguments: &[&str]) {
    let folder = Folder::new("orphan");
    let mut helper = Command::new(env!("CARGO_BIN_EXE_hold-cluster"));
    helper.arg(folder.path().join("primary")).args(arguments);
    let mut helper = helper.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(helper.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let pid: u32 = line.trim().parse().unwrap();
    let of_folder = || processes_naming(&folder.path().display().to_string());
    assert!(of_folder().contains(&pid), "{:?}", of_folder());
    helper.kill().unwrap();
    helper.wait().unwrap();
    assert!(poll_until(SOON, || !runs(pid)), "postgres {pid} is left");
    assert!(
        poll_until(SOON, || of_folder().is_empty()),
        "children are left"
    );
}

/// Processes whose command line or working folder names a path.
fn processes_naming(path: &str) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let names = |pid: &u32| {
        let folder = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        folder.starts_with(path)
    };
    pids.filter(names).collect()
}

#[test]
fn a_wrong_setting_is_an_error_with_the_log_of_this_start() {
    let folder = Folder::new("cluster");
    let wrong = spec(&folder, "primary").set("shared_buffers", "much");
    let error = Cluster::create(&binaries(), wrong).unwrap_err();
    assert!(matches!(error, ClusterError::Exited { .. }), "{error:?}");
    assert!(error.to_string().contains("shared_buffers"), "{error}");
}

#[test]
fn a_fixed_port_that_is_taken_is_an_error_that_says_so() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let folder = Folder::new("cluster");
    let mut spec = spec(&folder, "primary");
    spec.port = Some(listener.local_addr().unwrap().port());
    let error = Cluster::create(&binaries(), spec).unwrap_err().to_string();
    assert!(error.contains("Address already in use"), "{error}");
}

#[test]
fn tcp_asks_for_the_password_that_initdb_was_given() {
    let folder = Folder::new("cluster");
    let mut spec = spec(&folder, "primary");
    spec.auth = Auth::Scram {
        password_file: mothership_tests::shared::password_file(&folder),
    };
    let cluster = Cluster::create(&binaries(), spec).unwrap();
    let verifier =
        "SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = current_user";
    assert_eq!(cluster.sql("postgres", verifier).unwrap(), "t");
}
