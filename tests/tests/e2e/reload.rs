//! Reloads while clients work: servers come and go, passwords, rules and limits change, and no client sees an error.

use mothership_tests::message::V3_0;
use mothership_tests::proof::{console, sum};
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Endpoint, Fleet, Router, Wire, poll_until};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const RELOADS: usize = 10;
const ROWS: i64 = 40;
const WORKERS: i64 = 4;

/// What the configuration says at a time.
struct Version {
    number: usize,
    replicas: usize,
}

impl Version {
    fn of(number: usize) -> Version {
        Version {
            number,
            replicas: 1 - number % 2,
        }
    }

    fn password(&self) -> String {
        format!("secret {}", self.number)
    }

    fn config(&self, fleet: &Fleet) -> String {
        let Version { number, replicas } = self;
        let mut text = format!(
            "[listen]\naddress = [\"127.0.0.1\"]\nport = @port@\n\
             [control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
             [console]\nadmin_users = [\"{USER}\"]\n\
             [balance]\nprobe_interval = \"200ms\"\nprobe_timeout = \"{}s\"\n\
             [pool]\nmax = {}\n[limits]\nclient_statements = {}\nplans = {}\n\
             [[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
             [[user]]\nname = \"shop\"\npassword = \"{}\"\nserver_user = \"{USER}\"\nserver_password = \"{PASSWORD}\"\n\
             [[table]]\nname = \"t\"\nkey = \"id\"\nkey_type = \"int8\"\n",
            3 + number % 3,
            8 + number,
            1_000 + number,
            100 + number,
            self.password(),
        );
        if number % 3 == 0 {
            text += "[[rule]]\nname = \"reads\"\nusers = [\"shop\"]\nkinds = [\"select\"]\naction = \"primary\"\n";
        }
        for (at, shard) in fleet.shards.iter().enumerate() {
            text += &format!("[[shard]]\nname = \"s{at}\"\n");
            let replicas = shard.replicas.iter().take(*replicas);
            for server in replicas.chain([&shard.primary]) {
                text += &format!(
                    "[[shard.server]]\naddress = \"127.0.0.1:{}\"\ntls = \"disable\"\nweight = {}\n",
                    server.port(),
                    50 + number
                );
            }
        }
        text
    }
}

/// Tells the workers to end, whatever happens.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn shop(router: &Router, version: &Version) -> Endpoint {
    router.endpoint("shop", &version.password(), "postgres")
}

/// Reads and writes of one shard and of both, until the end; each must be answered.
fn work(mut wire: Wire, worker: i64, end: &AtomicBool, done: &AtomicU64) {
    wire.set_limit(SOON);
    let mut rounds = 0_i64;
    while !end.load(Ordering::SeqCst) {
        let (a, b) = (rounds % ROWS + 1, (rounds + 7) % ROWS + 1);
        for sql in [
            format!("SELECT n FROM t WHERE id = {a}"),
            format!("UPDATE t SET n = n + 1 WHERE id = {}", ROWS + worker),
            "SELECT count(*) FROM t".to_owned(),
            "BEGIN".to_owned(),
            format!("UPDATE t SET n = n + 1 WHERE id = {a}"),
            format!("UPDATE t SET n = n - 1 WHERE id = {b}"),
            if rounds % 2 == 0 {
                "COMMIT"
            } else {
                "ROLLBACK"
            }
            .to_owned(),
        ] {
            let frames = wire.query(&sql);
            let error = frames.iter().find(|frame| frame.kind == b'E');
            // Two of them may want each other's rows.
            let deadlock = error.is_some_and(|error| error.sqlstate() == "40P01");
            assert!(error.is_none() || deadlock, "{sql}: {}", error.unwrap());
            if deadlock {
                wire.query("ROLLBACK");
                break;
            }
            done.fetch_add(1, Ordering::SeqCst);
        }
        rounds += 1;
    }
}

#[test]
fn ten_reloads_under_load_cost_no_client_an_error() {
    let fleet = Fleet::new(2, 1);
    let first = Version::of(0);
    let router = Router::start(&first.config(&fleet));
    let mut setup = Wire::login(&shop(&router, &first));
    for sql in [
        "CREATE TABLE t (id int8 PRIMARY KEY, n int8)".to_owned(),
        format!(
            "INSERT INTO t SELECT g, 0 FROM generate_series(1, {}) g",
            ROWS + WORKERS
        ),
    ] {
        let frames = setup.query(&sql);
        assert!(frames.iter().all(|frame| frame.kind != b'E'), "{frames:?}");
    }
    fleet.shards.iter().for_each(|shard| shard.wait_replayed());
    let (end, done) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for worker in 1..=WORKERS {
            let wire = Wire::login(&shop(&router, &first));
            let (end, done) = (&end, &done);
            scope.spawn(move || work(wire, worker, end, done));
        }
        let _ends = Ends(&end);
        for number in 1..=RELOADS {
            let version = Version::of(number);
            let before = done.load(Ordering::SeqCst);
            router.write_config(&version.config(&fleet));
            match number % 2 {
                0 => router.sighup(),
                _ => {
                    let mut admin = Wire::login(&router.endpoint(USER, PASSWORD, "mothership"));
                    let frames = admin.query("RELOAD");
                    assert_eq!(frames[0].kind, b'C', "{frames:?}");
                }
            }
            let in_force = || {
                let servers = console(&router, "SHOW ENDPOINTS");
                let up = servers.iter().all(|server| server["health"] == "up");
                up && servers.len() == 2 * (version.replicas + 1)
                    && servers[0]["weight"] == (50 + number).to_string()
            };
            assert!(poll_until(SOON, in_force), "{}", router.log());
            // The new password lets in, the old one does not.
            let mut wire = Wire::login(&shop(&router, &version));
            assert_eq!(wire.rows("SELECT count(*) FROM t").len(), 1);
            let old = shop(&router, &Version::of(number - 1));
            let refused = Wire::connect(router.port()).try_login(&old, V3_0, &[]);
            assert_eq!(refused.unwrap_err().sqlstate(), "28P01");
            // All go on by it for a while.
            let more = poll_until(SOON, || done.load(Ordering::SeqCst) > before + 200);
            assert!(more, "{}", router.log());
        }
    });
    println!(
        "{} statements beside {RELOADS} reloads",
        done.load(Ordering::SeqCst)
    );
    // Every transaction took as much as it gave.
    assert_eq!(
        sum(
            &fleet,
            &format!("SELECT COALESCE(sum(n), 0) FROM t WHERE id <= {ROWS}")
        ),
        0
    );
    assert_eq!(sum(&fleet, "SELECT count(*) FROM pg_prepared_xacts"), 0);
}

#[test]
fn a_signal_that_comes_during_the_start_is_obeyed_after_it() {
    // It takes connections and never says anything: the start waits for its answer.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = |plans: u32| {
        format!(
            "[listen]\naddress = [\"127.0.0.1\"]\nport = @port@\n\
             [control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
             [balance]\nprobe_timeout = \"5s\"\n[limits]\nplans = {plans}\n\
             [[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
             [[shard]]\nname = \"s0\"\n[[shard.server]]\naddress = \"127.0.0.1:{}\"\n",
            silent.local_addr().unwrap().port()
        )
    };
    let mut router = Router::launch(&config(1_000));
    let status = format!("/proc/{}/status", router.pid());
    let catches = || {
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
        caught.is_some_and(|bits| bits & 1 != 0)
    };
    assert!(poll_until(SOON, catches), "{}", router.log());
    assert!(!router.log().contains("serving"), "{}", router.log());
    router.write_config(&config(1_001));
    router.sighup();
    let obeyed = || router.log().contains("configuration changed");
    assert!(poll_until(SOON, obeyed), "{}", router.log());
    assert_eq!(router.exit_status(), None);
}
