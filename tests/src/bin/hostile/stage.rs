//! Two shards, the roles that take part, and routers before them.

use mothership_tests::proof;
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Endpoint, Fleet, Frame, Router, Wire, poll_until};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is waited for is there by then.
pub const SOON: Duration = Duration::from_secs(30);

/// What others may wait for at most. A build without optimisation reads a text thirty times as long.
pub const WAIT: Duration = Duration::from_millis(match cfg!(debug_assertions) {
    true => 15_000,
    false => 1_000,
});

/// Roles without any rights of an administrator; each one's password is its name.
pub const ROLES: [&str; 3] = ["alice", "bob", "owner"];

/// The servers, and what the proof at hand chooses by.
pub struct Stage {
    /// Two shards.
    pub fleet: Fleet,
    /// Choices.
    pub rng: StdRng,
    databases: u32,
}

impl Stage {
    pub fn new() -> Stage {
        let fleet = Fleet::new(2, 0);
        for role in ROLES {
            proof::on_all(
                &fleet,
                &format!("CREATE ROLE {role} LOGIN PASSWORD '{role}'"),
            );
        }
        Stage {
            fleet,
            rng: StdRng::seed_from_u64(0),
            databases: 0,
        }
    }

    /// An empty database of `owner` on both shards, in which all may make what they like.
    pub fn database(&mut self) -> String {
        self.databases += 1;
        let name = format!("d{}_{}", self.databases, self.rng.random::<u16>());
        proof::on_all(&self.fleet, &format!("CREATE DATABASE {name} OWNER owner"));
        self.on_all(&name, "GRANT ALL ON SCHEMA public TO PUBLIC");
        name
    }

    /// The same with the sharded table that others work with meanwhile.
    pub fn database_with_accounts(&mut self) -> String {
        let name = self.database();
        self.on_all(
            &name,
            "CREATE TABLE accounts (id int8 PRIMARY KEY, n int); GRANT ALL ON accounts TO PUBLIC",
        );
        name
    }

    /// Runs SQL past the router, as a superuser.
    pub fn on_all(&self, database: &str, sql: &str) -> Vec<String> {
        proof::on_all_in(&self.fleet, database, sql)
    }

    /// The same on the home shard.
    pub fn at_home(&self, database: &str, sql: &str) -> String {
        let primary = &self.fleet.shards[0].primary;
        primary.sql(database, sql).unwrap_or_else(|e| panic!("{e}"))
    }

    /// A router that knows the roles; `listen` is more for that section, `more` stands at the end.
    pub fn router(&self, listen: &str, more: &str) -> Router {
        Router::start(&self.config(listen, more))
    }

    /// What [`router`](Self::router) would be told.
    pub fn config(&self, listen: &str, more: &str) -> String {
        let users =
            ROLES.map(|role| format!("[[user]]\nname = \"{role}\"\npassword = \"{role}\"\n"));
        let tables = "[[table]]\nname = \"accounts\"\nkey = \"id\"\n";
        let more = format!("{}{tables}{more}", users.concat());
        proof::config(&self.fleet, listen, "", &more)
    }

    /// A router that pools the home shard alone, with nothing declared and one core: all clients of a role have `max`
    /// connections by turns.
    pub fn pooled(&self, max: u32, more: &str) -> Router {
        let port = self.fleet.shards[0].primary.port();
        let home = proof::shards_at(&[vec![port]], "tls = \"disable\"");
        let users = ROLES.map(|role| (role, role));
        let users = users.into_iter().chain([(USER, PASSWORD)]);
        let users = users.map(|(role, password)| {
            format!("[[user]]\nname = \"{role}\"\npassword = \"{password}\"\n")
        });
        Router::start(&format!(
            "[listen]\naddress = [\"127.0.0.1\"]\nport = @port@\nworkers = 1\n\
             [control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
             [pool]\nmax = {max}\nqueue_timeout = \"1s\"\n{home}{}{more}",
            users.collect::<String>()
        ))
    }

    /// A way to a server past the router.
    pub fn direct(&self, shard: usize, role: &str, database: &str) -> Wire {
        let port = self.fleet.shards[shard].primary.port();
        Wire::login(&Endpoint {
            host: "127.0.0.1".into(),
            port,
            user: role.into(),
            password: password(role).into(),
            database: database.into(),
        })
    }

    /// A word that is no keyword.
    pub fn word(&mut self) -> String {
        format!("w{:x}", self.rng.random::<u32>())
    }

    /// Nobody was made a superuser; if somebody was, that is undone.
    pub fn nobody_rose(&self) -> Result<(), String> {
        let risen = "SELECT string_agg(rolname, ',') FROM pg_roles WHERE rolsuper AND rolname = ANY ('{alice,bob,owner}')";
        let risen = proof::on_all(&self.fleet, risen).concat();
        for role in risen.split(',').filter(|role| !role.is_empty()) {
            proof::on_all(&self.fleet, &format!("ALTER ROLE {role} NOSUPERUSER"));
        }
        match risen.is_empty() {
            true => Ok(()),
            false => Err(format!("{risen} became a superuser")),
        }
    }
}

fn password(role: &str) -> &str {
    if role == USER { PASSWORD } else { role }
}

/// A client of a router.
pub fn client(router: &Router, role: &str, database: &str) -> Wire {
    let mut wire = Wire::login(&router.endpoint(role, password(role), database));
    wire.set_limit(SOON);
    wire
}

/// The same where it may be refused; what it is told then.
pub fn try_client(router: &Router, role: &str, database: &str) -> Result<Wire, Frame> {
    let mut wire = Wire::connect(router.port());
    wire.set_limit(SOON);
    let endpoint = router.endpoint(role, password(role), database);
    wire.try_login(&endpoint, mothership_tests::message::V3_0, &[])?;
    Ok(wire)
}

/// The SQLSTATE of an answer, if it is an error.
pub fn error(frames: &[Frame]) -> Option<String> {
    let error = frames.iter().find(|frame| frame.kind == b'E');
    error.map(Frame::sqlstate)
}

/// Somebody else's work while a proof goes on: reads of one row by its key, one behind the other.
pub struct Victim {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: Option<JoinHandle<()>>,
}

/// What it has met.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub reads: u64,
    pub longest: Duration,
    /// The longest of them since somebody asked.
    pub lately: Duration,
    pub errors: Vec<String>,
    /// The most that the router had in memory.
    pub memory: u64,
}

impl Victim {
    /// Begins; returns when its first read was answered.
    pub fn begin(router: &Router, database: &str) -> Victim {
        let mut wire = client(router, "bob", database);
        let pid = router.pid();
        wire.query("SELECT n FROM accounts WHERE id = 1");
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (stopped, told) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            let mut id = 0;
            while !stopped.load(Ordering::Relaxed) {
                id += 1;
                let begun = Instant::now();
                let answer = wire.query(&format!("SELECT n FROM accounts WHERE id = {id}"));
                let mut seen = told.lock().unwrap();
                seen.reads += 1;
                let took = begun.elapsed();
                seen.longest = seen.longest.max(took);
                seen.lately = seen.lately.max(took);
                seen.memory = seen.memory.max(resident(pid));
                seen.errors.extend(error(&answer));
                if seen.errors.len() > 10 {
                    return;
                }
            }
        });
        Victim {
            stop,
            seen,
            thread: Some(thread),
        }
    }

    /// The longest that it has waited since it was asked last.
    pub fn so_far(&self) -> Duration {
        let mut seen = self.seen.lock().unwrap();
        std::mem::take(&mut seen.lately)
    }

    /// Ends it; what it has met since it began.
    pub fn end(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.seen.lock().unwrap().clone()
    }
}

impl Seen {
    /// Nothing failed, nothing took longer than `wait`, and the router stayed below `memory` MiB.
    pub fn was_spared(&self, wait: Duration, memory: u64) -> Result<String, String> {
        let said = format!(
            "others waited for {:?} at most, {} MiB at most, {} reads",
            self.longest,
            self.memory >> 20,
            self.reads
        );
        match () {
            () if !self.errors.is_empty() => {
                Err(format!("others were told {:?}; {said}", self.errors))
            }
            () if self.longest > wait || self.memory >> 20 > memory => Err(said),
            () => Ok(said),
        }
    }
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = status.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok());
    pages.unwrap_or_default() * 4096
}

/// Whether something is so before long.
pub fn soon(is: impl FnMut() -> bool) -> bool {
    poll_until(SOON, is)
}
