//! The shards: three primaries, each with a streaming replica.
//!
//! Ports are any free ones, new with each start, so that no start fails for a port
//! of theirs; a replica therefore gets its primary's address with its settings
//! instead of keeping the one that pg_basebackup wrote.

use super::error::{DemoError, Doing};
use super::events::COLLECTION;
use super::folder;
use super::leftovers;
use super::stop::Stop;
use mothership_cluster::{Account, Binaries, Cluster, ClusterError, Mode, Slot, Spec, poll_until};
use mothership_documents::REMARK;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// The shards' names.
pub(super) const NAMES: [&str; 3] = ["s1", "s2", "s3"];
/// The role of the router's own questions: the superuser that initdb makes.
pub(super) const CONTROL: &str = "mothership";
/// The role and the database of clients.
pub(super) const CLIENT: &str = "demo";
/// The client role's password on the servers. It gives nothing that the router does not
/// give to everybody on this machine, so it is no secret.
pub(super) const CLIENT_PASSWORD: &str = "demo";

const PRIMARY: &str = "primary";
const REPLICA: &str = "replica";
/// The replication slot on each primary.
const SLOT: &str = "replica";
/// How long one step of PostgreSQL's may take on a busy machine with a slow disk.
const STEP_LIMIT: Duration = Duration::from_secs(120);
/// How long a replica may need to have replayed the shop.
const CATCH_UP: Duration = Duration::from_secs(60);

/// A primary and its replica.
#[derive(Debug)]
pub(super) struct Shard {
    pub name: &'static str,
    pub replica: Cluster,
    pub primary: Cluster,
    /// The roles whose servers are known to have ended by themselves.
    ended: Vec<&'static str>,
}

/// All shards. Dropped, their servers are killed; see [`Fleet::stop`] for the orderly end.
#[derive(Debug)]
pub(super) struct Fleet {
    pub shards: Vec<Shard>,
}

/// Where the control role's password is.
pub(super) fn password_file(state: &Path) -> PathBuf {
    state.join("router/control-password")
}

impl Fleet {
    /// Makes and starts new shards, with the client's role and database.
    pub(super) fn create(
        state: &Path,
        binaries: &Binaries,
        stop: &Stop,
    ) -> Result<Fleet, DemoError> {
        write_password(state)?;
        let shards = side_by_side(|name| {
            let folder = state.join(name);
            folder::make(&folder)?;
            let of = |role| {
                move |cause| DemoError::Server {
                    shard: name,
                    role,
                    cause,
                }
            };
            let primary = primary_spec(state, name);
            let primary = Cluster::create(binaries, primary).map_err(of(PRIMARY))?;
            make_client(&primary).map_err(of(PRIMARY))?;
            stop.check()?;
            let replica = replica_spec(state, name, &primary);
            let slot = Slot::Named(SLOT.into());
            let replica = Cluster::replica_of(&primary, binaries, replica, &slot);
            let replica = replica.map_err(of(REPLICA))?;
            forget_primary(&replica)?;
            stop.check()?;
            Ok(Shard {
                name,
                replica,
                primary,
                ended: Vec::new(),
            })
        })?;
        Ok(Fleet { shards })
    }

    /// Starts the shards of an earlier demo.
    pub(super) fn open(state: &Path, binaries: &Binaries, stop: &Stop) -> Result<Fleet, DemoError> {
        let shards = side_by_side(|name| {
            let of = |role| {
                move |cause| DemoError::Server {
                    shard: name,
                    role,
                    cause,
                }
            };
            let open = |spec: Spec, role| {
                leftovers::forget_postmaster(&spec.folder.join("data"));
                Cluster::open(binaries, spec).map_err(of(role))
            };
            let primary = open(primary_spec(state, name), PRIMARY)?;
            stop.check()?;
            let replica = open(replica_spec(state, name, &primary), REPLICA)?;
            Ok(Shard {
                name,
                replica,
                primary,
                ended: Vec::new(),
            })
        })?;
        Ok(Fleet { shards })
    }

    /// Whether every replica has replayed, within a limit, all that its primary has written so far.
    pub(super) fn replicas_catch_up(&self, stop: &Stop) -> Result<bool, DemoError> {
        let mut all = true;
        for shard in &self.shards {
            let of = |role| {
                move |cause| DemoError::Server {
                    shard: shard.name,
                    role,
                    cause,
                }
            };
            let written = shard
                .primary
                .sql("postgres", "SELECT pg_current_wal_insert_lsn()");
            let written = written.map_err(of(PRIMARY))?;
            let question = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
            all &= poll_until(CATCH_UP, || {
                let answer = shard.replica.sql("postgres", &question);
                stop.is_asked() || answer.is_ok_and(|answer| answer == "t")
            });
            stop.check()?;
        }
        Ok(all)
    }

    /// Whether somebody has made a table `events` by hand; the router would not hide it, and not start. The one that
    /// stands for the events in MongoDB is the router's.
    pub(super) fn has_other_events(&self) -> Result<bool, DemoError> {
        let Some(home) = self.shards.first() else {
            return Ok(false);
        };
        // No row: there is no such table.
        let sql = format!(
            "SELECT 'made for: ' || coalesce(obj_description(oid, 'pg_class'), '') FROM pg_class \
             WHERE oid = to_regclass('public.{COLLECTION}')"
        );
        let answer = home.primary.sql(CLIENT, &sql);
        let answer = answer.map_err(|cause| DemoError::Server {
            shard: home.name,
            role: PRIMARY,
            cause,
        })?;
        let stands_for_documents = format!("made for: {REMARK}");
        Ok(!answer.is_empty() && !answer.starts_with(&stands_for_documents))
    }

    /// Servers that have ended by themselves since this was asked last, by shard and role.
    pub(super) fn newly_ended(&mut self) -> Vec<(&'static str, &'static str)> {
        let mut all = Vec::new();
        for shard in &mut self.shards {
            for (server, role) in [(&mut shard.primary, PRIMARY), (&mut shard.replica, REPLICA)] {
                if !shard.ended.contains(&role) && !server.is_running() {
                    shard.ended.push(role);
                    all.push((shard.name, role));
                }
            }
        }
        all
    }

    /// Ends all servers in order: replicas, then primaries.
    pub(super) fn stop(mut self) -> Result<(), DemoError> {
        let stop = |shard: &mut Shard| {
            let name = shard.name;
            let of = |role| {
                move |cause| DemoError::Server {
                    shard: name,
                    role,
                    cause,
                }
            };
            let replica = shard.replica.stop(Mode::Fast).map_err(of(REPLICA));
            let primary = shard.primary.stop(Mode::Fast).map_err(of(PRIMARY));
            replica.and(primary)
        };
        let results: Vec<_> = thread::scope(|scope| {
            let stopping: Vec<_> = self
                .shards
                .iter_mut()
                .map(|shard| scope.spawn(|| stop(shard)))
                .collect();
            stopping.into_iter().map(join).collect()
        });
        results.into_iter().collect()
    }
}

/// Does the same for all shards at once; all are waited for, and the first error counts.
fn side_by_side(
    act: impl Fn(&'static str) -> Result<Shard, DemoError> + Sync,
) -> Result<Vec<Shard>, DemoError> {
    let results: Vec<_> = thread::scope(|scope| {
        let act = &act;
        let starting: Vec<_> = NAMES.map(|name| scope.spawn(move || act(name))).into();
        starting.into_iter().map(join).collect()
    });
    results.into_iter().collect()
}

/// A panic of a thread goes on in its owner.
pub(super) fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What primary and replica have in common; a replica needs at least its primary's limits.
fn spec(state: &Path, shard: &str, role: &str) -> Spec {
    let mut spec = Spec::new(state.join(shard).join(role));
    spec.superuser = CONTROL.into();
    spec.auth = mothership_cluster::Auth::Scram {
        password_file: password_file(state),
    };
    spec.limit = STEP_LIMIT;
    spec.set("cluster_name", &format!("{shard}-{role}"))
        .set("max_connections", "250")
        .set("max_prepared_transactions", "100")
        .set("shared_buffers", "64MB")
        .set("min_wal_size", "48MB")
        .set("max_wal_size", "512MB")
        // A replica that is away for long must not fill the disk.
        .set("max_slot_wal_keep_size", "1GB")
        .set("log_checkpoints", "off")
}

fn primary_spec(state: &Path, shard: &str) -> Spec {
    spec(state, shard, PRIMARY)
}

fn replica_spec(state: &Path, shard: &str, primary: &Cluster) -> Spec {
    let quote = |text: String| text.replace('\\', "\\\\").replace('\'', "\\'");
    let primary = format!(
        "host='{}' port={} user={}",
        quote(primary.socket_folder().display().to_string()),
        primary.port(),
        primary.superuser(),
    );
    // Its reads are not cancelled because the primary has removed old rows.
    spec(state, shard, REPLICA)
        .set("primary_conninfo", &primary)
        .set("hot_standby_feedback", "on")
}

/// What pg_basebackup wrote in postgresql.auto.conf goes before our settings, and is wrong after the next start.
fn forget_primary(replica: &Cluster) -> Result<(), DemoError> {
    let path = replica.data().join("postgresql.auto.conf");
    let text = std::fs::read_to_string(&path).doing("read", &path)?;
    let keep = |line: &&str| !line.starts_with("primary_conninfo");
    let text: String = text.lines().filter(keep).flat_map(|l| [l, "\n"]).collect();
    // Written in place, the file keeps its owner.
    std::fs::write(&path, text).doing("write", &path)
}

fn make_client(primary: &Cluster) -> Result<(), ClusterError> {
    for sql in [
        format!("CREATE ROLE {CLIENT} LOGIN PASSWORD '{CLIENT_PASSWORD}'"),
        format!("CREATE DATABASE {CLIENT} OWNER {CLIENT}"),
    ] {
        primary.sql("postgres", &sql)?;
    }
    Ok(())
}

/// A random password for the control role, which is a superuser, in a file for initdb and the router.
fn write_password(state: &Path) -> Result<(), DemoError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = password_file(state);
    if let Some(folder) = path.parent() {
        folder::make(folder)?;
    }
    let password: u128 = rand::random();
    let mut options = std::fs::File::options();
    let file = options.write(true).create_new(true).mode(0o600).open(&path);
    let mut file = file.doing("create", &path)?;
    writeln!(file, "{password:032x}").doing("write", &path)?;
    match Account::choose()? {
        Account::Own => Ok(()),
        Account::Other { uid, gid } => {
            std::os::unix::fs::chown(&path, Some(uid), Some(gid)).doing("change the owner of", path)
        }
    }
}
