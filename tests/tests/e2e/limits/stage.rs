//! A router before one database, and a client who must notice nothing.

use mothership_tests::wire::Silence;
use mothership_tests::{Endpoint, Folder, Frame, Router, Shards, Wire};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Every answer and every wait of these tests ends within it.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A router with its database.
pub struct Stage {
    /// The router, ended before the database is dropped.
    pub router: Router,
    /// The database behind it.
    pub shards: Shards,
}

impl Stage {
    /// With these sections in its configuration, besides `[control]` and the shard.
    pub fn with(sections: &str) -> Stage {
        Stage::through(sections, |port| port)
    }

    /// The same with another port than the server's, which leads to it.
    pub fn through(sections: &str, port: impl FnOnce(u16) -> u16) -> Stage {
        let shards = Shards::new(1);
        let server = shards.endpoint(0);
        let port = port(server.port);
        let config = format!(
            "{sections}\n[console]\nadmin_users = [\"{0}\"]\n\
             [control]\nuser = \"{0}\"\npassword = \"{1}\"\n[[shard]]\nname = \"s1\"\n\
             [[shard.server]]\naddress = \"127.0.0.1:{2}\"\nrole = \"primary\"\ntls = \"disable\"\n",
            server.user, server.password, port
        );
        Stage {
            router: Router::start(&config),
            shards,
        }
    }

    /// How to reach the router.
    pub fn endpoint(&self) -> Endpoint {
        self.shards.endpoint(0).at_port(self.router.port())
    }

    /// The router's console.
    pub fn console(&self) -> Wire {
        Wire::login(&Endpoint {
            database: "mothership".into(),
            ..self.endpoint()
        })
    }

    /// A raw client.
    pub fn wire(&self) -> Wire {
        Wire::login(&self.endpoint())
    }

    /// A client that asks and asks until it is stopped.
    pub fn bystander(&self) -> Bystander {
        let bystander = Bystander::begin(self.endpoint());
        bystander.goes_on();
        bystander
    }

    /// The backends of the database that serve clients: the one that asks, and those of the router's own questions, are
    /// not counted.
    pub fn backends(&self) -> u32 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND pid <> pg_backend_pid() AND application_name NOT LIKE 'mothership%'";
        self.shards.sql(0, sql).trim().parse().unwrap()
    }
}

/// Makes a certificate for the name `here`, which is its own authority: the files of it
/// and of its key.
pub fn certificate(folder: &Folder) -> [String; 2] {
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(
        path("openssl.cnf"),
        "[req]\ndistinguished_name = dn\nx509_extensions = v3\nprompt = no\n[dn]\nCN = here\n\
         [v3]\nbasicConstraints = critical,CA:FALSE\nsubjectAltName = DNS:here\n",
    )
    .unwrap();
    let files = [path("cert.pem"), path("key.pem")];
    let made = std::process::Command::new("openssl")
        .args("req -x509 -newkey rsa:2048 -nodes -days 2 -config".split(' '))
        .args([
            &path("openssl.cnf"),
            "-out",
            &files[0],
            "-keyout",
            &files[1],
        ])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    files
}

/// The SQLSTATE of the error among the answers to a request.
pub fn state(wire: &mut Wire, request: &[u8]) -> String {
    wire.send(request);
    let frames = wire.until_ready();
    let error = frames.iter().find(|frame| frame.kind == b'E');
    error.map_or_else(String::new, mothership_tests::Frame::sqlstate)
}

/// The last message of a server that closes.
pub fn last_words(wire: &mut Wire) -> Option<Frame> {
    let mut last = None;
    loop {
        match wire.try_frame(LIMIT) {
            Ok(frame) => last = Some(frame),
            Err(Silence::Closed) => return last,
            Err(Silence::Late) => panic!("the router does not close"),
        }
    }
}

/// One of many sessions of the same router: every answer must be right.
pub struct Bystander {
    asked: Arc<AtomicU64>,
    /// The longest wait for an answer since somebody has looked, in microseconds.
    longest: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bystander {
    fn begin(endpoint: Endpoint) -> Bystander {
        let asked = Arc::<AtomicU64>::default();
        let longest = Arc::<AtomicU64>::default();
        let stop = Arc::<AtomicBool>::default();
        let (count, ends) = (Arc::clone(&asked), Arc::clone(&stop));
        let wait = Arc::clone(&longest);
        let thread = std::thread::spawn(move || {
            let mut wire = Wire::login(&endpoint);
            while !ends.load(Ordering::Relaxed) {
                let n = count.load(Ordering::Relaxed);
                let begun = Instant::now();
                assert_eq!(
                    wire.rows(&format!("SELECT {n} + 1")),
                    [[(n + 1).to_string()]]
                );
                let waited = u64::try_from(begun.elapsed().as_micros()).unwrap();
                wait.fetch_max(waited, Ordering::Relaxed);
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Bystander {
            asked,
            longest,
            stop,
            thread: Some(thread),
        }
    }

    /// It is answered, also now.
    pub fn goes_on(&self) {
        let before = self.asked.load(Ordering::Relaxed);
        let asked = mothership_tests::poll_until(LIMIT, || {
            let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
            assert!(!ended, "the bystander was disturbed");
            self.asked.load(Ordering::Relaxed) > before + 1
        });
        assert!(asked, "the bystander waits");
    }

    /// The longest wait for an answer since this was last asked, that of now included.
    pub fn longest_wait(&self) -> Duration {
        self.goes_on();
        Duration::from_micros(self.longest.swap(0, Ordering::Relaxed))
    }

    /// It noticed nothing, from the beginning until now.
    pub fn noticed_nothing(mut self) {
        self.goes_on();
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().expect("taken once").join();
        assert!(ended.is_ok(), "the bystander was disturbed");
        println!(
            "the bystander asked {} times",
            self.asked.load(Ordering::Relaxed)
        );
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
