//! A new process takes over the ports of the one that serves: no client notices, and whatever goes wrong with the new
//! one costs nothing. The same for the end of a process under load.

use mothership_tests::load::{self, Load};
use mothership_tests::proof::{self, console};
use mothership_tests::router::binary;
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Endpoint, Fleet, Router, Shards, Wire, message, poll_until};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const SHARDS: usize = 2;

/// Two databases as shards, and the process that serves.
struct Stage {
    router: Router,
    shards: Shards,
}

impl Stage {
    fn new(listen: &str) -> Stage {
        let shards = Shards::new(SHARDS);
        for sql in load::make() {
            shards.sql_all(&sql);
        }
        let router = Router::start(&config(&shards, listen));
        let stage = Stage { router, shards };
        // Each shard has its own keys only.
        for shard in 0..SHARDS {
            stage.shards.sql(shard, "DELETE FROM counted");
        }
        let frames = stage.client().query(&load::make()[1]);
        assert!(frames.iter().all(|frame| frame.kind != b'E'), "{frames:?}");
        stage
    }

    fn endpoint(&self) -> Endpoint {
        self.router.endpoint(USER, PASSWORD, "shop")
    }

    /// A process that has taken over, and lets in whoever is new: in the moment of the takeover somebody may still come in
    /// at the old one.
    fn take_over(&self) -> Router {
        let new_process = self.router.take_over();
        let let_in = || new_process.log().matches("client logged in").count();
        let mut in_a_row = 0;
        let all = poll_until(SOON, || {
            let before = let_in();
            drop(self.client());
            in_a_row = if let_in() > before { in_a_row + 1 } else { 0 };
            in_a_row == 5
        });
        assert!(all, "the new process lets nobody in");
        new_process
    }

    fn client(&self) -> Wire {
        let mut wire = Wire::login(&self.endpoint());
        wire.set_limit(SOON);
        wire
    }

    /// Transactions that the load has committed.
    fn counted(&self) -> i64 {
        let counts = self
            .shards
            .sql_all("SELECT COALESCE(sum(n), 0) FROM counted");
        counts
            .iter()
            .map(|count| count.parse::<i64>().unwrap())
            .sum()
    }

    fn get(&self, page: &str) -> Option<String> {
        let mut stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.router.metrics_port())).ok()?;
        stream.set_read_timeout(Some(SOON)).unwrap();
        write!(stream, "GET {page} HTTP/1.1\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    fn readiness(&self) -> Option<String> {
        let answer = self.get("/ready")?;
        answer.split(' ').nth(1).map(str::to_owned)
    }

    fn place(&self) -> PathBuf {
        PathBuf::from(self.router.unix_folder()).join("takeover")
    }

    /// By somebody who cannot read the process' secrets.
    fn upgrade(&self) -> Output {
        let mut command = Command::new(binary());
        command
            .arg("upgrade")
            .arg("--config")
            .arg(self.router.config_path());
        command.output().unwrap()
    }
}

fn config(shards: &Shards, listen: &str) -> String {
    let mut text = format!(
        "[listen]\naddress = [\"127.0.0.1\"]\nport = @port@\nunix_socket = \"@folder@\"\n\
         takeover = \"@folder@/takeover\"\n{listen}\n\
         [metrics]\nport = @metrics_port@\n\
         [control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\ndatabase = \"postgres\"\n\
         [console]\nadmin_users = [\"{USER}\"]\n[[auth.rule]]\nmethod = \"trust\"\n[pool]\nmax = 6\n\
         [[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n{}\
         [[database]]\nname = \"shop\"\non = {{ {} }}\n",
        load::TABLE,
        (0..shards.count())
            .map(|shard| format!("s{shard} = \"{}\"", shards.endpoint(shard).database))
            .collect::<Vec<_>>()
            .join(", ")
    );
    for shard in 0..shards.count() {
        let port = shards.endpoint(shard).port;
        text += &format!(
            "[[shard]]\nname = \"s{shard}\"\n[[shard.server]]\naddress = \"127.0.0.1:{port}\"\ntls = \"disable\"\n"
        );
    }
    text
}

fn error_of(wire: &mut Wire) -> String {
    let frame = wire.frame();
    assert_eq!(frame.kind, b'E', "{frame}");
    frame.sqlstate().to_owned()
}

fn assert_cancelled(wire: &mut Wire) {
    let frames = wire.until_ready();
    let error = frames.iter().find(|frame| frame.kind == b'E');
    assert_eq!(error.unwrap().sqlstate(), "57014", "{frames:?}");
}

fn assert_fine(wire: &mut Wire, sql: &str) {
    let frames = wire.query(sql);
    let error = frames.iter().find(|frame| frame.kind == b'E');
    assert!(error.is_none(), "{sql}: {}", error.unwrap());
}

#[test]
#[ignore = "long"]
fn ten_takeovers_under_pgbench_cost_no_client_an_error() {
    let mut stage = Stage::new("");
    let (mut shown, mut seconds, mut counted) = (0, 2, 0);
    while shown < 10 {
        let mut load = Load::start(&stage.router, USER, PASSWORD, "shop", seconds);
        let works = poll_until(SOON, || stage.counted() > counted + 10 || !load.runs());
        assert!(works);
        let new_process = stage.router.take_over();
        let was_beside = load.runs();
        for (kind, done) in load.end() {
            assert_eq!(
                done.wrong,
                None,
                "{kind}, repetition {shown}\n{}",
                new_process.log()
            );
            assert!(done.transactions > 0);
            counted += done.transactions;
        }
        assert_eq!(stage.counted(), counted, "repetition {shown}");
        let mut old_process = std::mem::replace(&mut stage.router, new_process);
        // Its clients have left.
        assert!(old_process.wait(SOON).success(), "{}", old_process.log());
        let told = || {
            stage
                .router
                .log()
                .contains("the process before this one has ended")
        };
        assert!(poll_until(SOON, told));
        match was_beside {
            true => shown += 1,
            // The machine was too slow for a takeover in this time.
            false => seconds = (seconds * 2).min(30),
        }
    }
    println!("{counted} transactions beside {shown} takeovers, {seconds} s each");
}

#[test]
fn the_old_process_serves_its_clients_the_new_one_whoever_is_new() {
    let mut stage = Stage::new("");
    let (mut open, mut session) = (stage.client(), stage.client());
    assert_fine(&mut open, "BEGIN");
    assert_fine(&mut open, "UPDATE counted SET n = n + 1 WHERE id = 1");
    assert_fine(&mut session, "SET application_name = 'mine'");
    assert_fine(
        &mut session,
        "PREPARE p AS SELECT n FROM counted WHERE id = 2",
    );
    let new_process = stage.take_over();
    let mut old_process = std::mem::replace(&mut stage.router, new_process);
    assert!(old_process.exit_status().is_none());
    let mut new = stage.client();
    assert_fine(&mut new, "UPDATE counted SET n = n + 1 WHERE id = 3");
    let of_shop = || {
        let clients = console(&stage.router, "SHOW CLIENTS");
        let of_shop = clients.iter().filter(|client| client["database"] == "shop");
        of_shop.count()
    };
    assert!(poll_until(SOON, || of_shop() == 1), "{}", of_shop());
    assert_eq!(stage.readiness().as_deref(), Some("200"));
    let metric = || stage.get("/metrics").unwrap_or_default();
    let told = || metric().contains("\nmothership_predecessor_clients 2\n");
    assert!(poll_until(SOON, told), "{}", metric());
    assert_fine(&mut open, "UPDATE counted SET n = n + 1 WHERE id = 2");
    assert_fine(&mut open, "COMMIT");
    assert_eq!(session.rows("EXECUTE p"), [["1"]]);
    assert_eq!(session.rows("SHOW application_name"), [["mine"]]);
    drop((open, session));
    assert!(old_process.wait(SOON).success());
    // It leaves what is the new one's now.
    let socket =
        PathBuf::from(stage.router.unix_folder()).join(format!(".s.PGSQL.{}", stage.router.port()));
    for file in [&socket, &stage.place()] {
        UnixStream::connect(file).unwrap();
    }
    assert_eq!(new.rows("SELECT sum(n) FROM counted"), [["3"]]);
    drop(new);
    stage.router.sigterm();
    assert!(stage.router.wait(SOON).success());
    assert!(!socket.exists() && !stage.place().exists());
}

#[test]
fn a_cancel_request_reaches_its_session_in_either_process_and_no_other() {
    let mut stage = Stage::new("");
    let sleep = message::query("SELECT pg_sleep(600) FROM counted WHERE id = 1");
    let mut old: Vec<Wire> = (0..3).map(|_| stage.client()).collect();
    let new_process = stage.take_over();
    let old_process = std::mem::replace(&mut stage.router, new_process);
    let mut new: Vec<Wire> = (0..3).map(|_| stage.client()).collect();
    for wire in old.iter_mut().chain(&mut new) {
        wire.send(&sleep);
    }
    let sleeping = || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()";
        stage
            .shards
            .sql_all(sql)
            .iter()
            .map(|n| n.parse::<usize>().unwrap())
            .sum::<usize>()
    };
    assert!(poll_until(SOON, || sleeping() == 6));
    for (at, wires) in [&mut old, &mut new].into_iter().enumerate() {
        for (left, wire) in (0..wires.len()).rev().zip(wires) {
            // All of them are taken by the new process.
            wire.cancel();
            assert_cancelled(wire);
            assert_eq!(sleeping(), left + 3 * (1 - at));
        }
    }
    for wire in old.iter_mut().chain(&mut new) {
        assert_fine(wire, "SELECT n FROM counted WHERE id = 2");
    }
    drop((old, old_process));
    let told = || {
        stage
            .router
            .log()
            .contains("the process before this one has ended")
    };
    assert!(poll_until(SOON, told));
    new[0].send(&sleep);
    assert!(poll_until(SOON, || sleeping() == 1));
    new[0].cancel();
    assert_cancelled(&mut new[0]);
}

#[test]
fn a_takeover_that_fails_changes_nothing() {
    let stage = Stage::new("");
    let mut client = stage.client();
    let serves = |client: &mut Wire| {
        assert_fine(client, "SELECT n FROM counted WHERE id = 1");
        assert_fine(&mut stage.client(), "SELECT n FROM counted WHERE id = 2");
        assert_eq!(stage.readiness().as_deref(), Some("200"));
    };
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = taken.local_addr().unwrap().port();
    let good = config(&stage.shards, "");
    let other_port = good.replace("port = @metrics_port@", &format!("port = {taken}"));
    let _held = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, taken));
    for (bad, why) in [
        (good.replace("[metrics]", "[metrix]"), "metrix"),
        (
            format!(
                "{good}[tls]\nmode = \"require\"\ncertificate = \"nowhere\"\nkey = \"nowhere\"\n"
            ),
            "nowhere",
        ),
        (other_port, "listen on"),
        (
            good.replace("key = \"id\"", "key = \"n\""),
            "table.public.counted.key",
        ),
    ] {
        stage.router.write_config(&bad);
        let mut new_process = stage.router.launch_new_process();
        assert_eq!(new_process.wait(SOON).code(), Some(1));
        assert!(new_process.log().contains(why), "{}", new_process.log());
        drop(new_process);
        serves(&mut client);
        let upgrade = stage.upgrade();
        assert_eq!(upgrade.status.code(), Some(1), "{upgrade:?}");
        serves(&mut client);
    }
    stage.router.write_config(&good);
    // One that breaks off at any word.
    for said in [
        "",
        "\n",
        "{\"word\":\"take_over\",\"version\":1,\"pid\":1}\n",
        "{\"word\":\"take_over\",\"version\":99,\"pid\":1}\n",
    ] {
        let mut stream = UnixStream::connect(stage.place()).unwrap();
        stream.write_all(said.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        serves(&mut client);
    }
    let mut admin = Wire::login(&stage.router.endpoint(USER, PASSWORD, "mothership"));
    assert_fine(&mut admin, "PAUSE shop");
    let mut new_process = stage.router.launch_new_process();
    assert_eq!(new_process.wait(SOON).code(), Some(1));
    assert!(
        new_process.log().contains("RESUME"),
        "{}",
        new_process.log()
    );
    assert_fine(&mut admin, "RESUME shop");
    serves(&mut client);
    // A second process without the word is told that the port is taken, as ever.
    let mut plain = Command::new(binary());
    plain
        .arg("run")
        .arg("--config")
        .arg(stage.router.config_path());
    let plain = plain.output().unwrap();
    assert_eq!(plain.status.code(), Some(1));
    serves(&mut client);
    drop(new_process);
    let new_process = stage.router.take_over();
    let log = new_process.log();
    assert!(log.contains("taken over"), "{log}");
    assert_fine(&mut client, "SELECT n FROM counted WHERE id = 1");
}

#[test]
fn if_the_new_process_dies_the_old_one_serves_again() {
    let stage = Stage::new("");
    let mut client = stage.client();
    for _ in 0..3 {
        let mut new_process = stage.router.take_over();
        assert_fine(&mut stage.client(), "SELECT n FROM counted WHERE id = 2");
        new_process.kill9();
        // Who comes meanwhile waits in the kernel's queue.
        assert_fine(&mut stage.client(), "SELECT n FROM counted WHERE id = 2");
        assert_fine(&mut client, "SELECT n FROM counted WHERE id = 1");
        assert_eq!(stage.readiness().as_deref(), Some("200"));
    }
    let mut new_process = stage.router.take_over();
    // One that is told to end takes the ports with it.
    new_process.sigterm();
    assert!(new_process.wait(SOON).success());
    let closed = || TcpStream::connect((Ipv4Addr::LOCALHOST, stage.router.port())).is_err();
    assert!(poll_until(SOON, closed));
    assert_fine(&mut client, "SELECT n FROM counted WHERE id = 1");
    drop(client);
    let mut stage = stage;
    assert!(stage.router.wait(SOON).success());
}

#[test]
fn there_are_two_processes_at_most_and_the_old_one_ends_when_its_time_is_over() {
    let mut stage = Stage::new("handover_timeout = \"3s\"");
    let (mut idle, mut open) = (stage.client(), stage.client());
    assert_fine(&mut open, "BEGIN");
    assert_fine(&mut open, "UPDATE counted SET n = n + 1 WHERE id = 1");
    let new_process = stage.router.take_over();
    let mut old_process = std::mem::replace(&mut stage.router, new_process);
    let mut third = stage.router.launch_new_process();
    assert_eq!(third.wait(SOON).code(), Some(1));
    // It may have been slow to ask.
    let log = third.log();
    assert!(
        log.contains("the process before it still has clients"),
        "{log}"
    );
    assert_eq!(error_of(&mut idle), "57P01");
    assert_fine(&mut open, "UPDATE counted SET n = n + 1 WHERE id = 2");
    assert_fine(&mut open, "COMMIT");
    assert_eq!(error_of(&mut open), "57P01");
    assert!(old_process.wait(SOON).success());
    assert_eq!(stage.counted(), 2);
    assert_fine(&mut stage.client(), "SELECT n FROM counted WHERE id = 1");
}

#[test]
fn upgrade_has_the_running_process_start_its_successor() {
    let stage = Stage::new("");
    let text = config(&stage.shards, "");
    let secret = PathBuf::from(stage.router.unix_folder()).join("secret");
    let own = format!("[[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n");
    let by_file = own.replace("password = ", "password_file = ");
    let by_file = by_file.replace(PASSWORD, &secret.display().to_string());
    stage.router.write_config(&text.replace(&own, &by_file));
    let upgrade = stage.upgrade();
    let said = String::from_utf8_lossy(&upgrade.stderr).into_owned();
    assert!(said.contains("ended with"), "{upgrade:?}");
    std::fs::write(&secret, PASSWORD).unwrap();
    let before = stage.router.pid();
    let mut client = stage.client();
    let upgrade = stage.upgrade();
    let said = String::from_utf8_lossy(&upgrade.stdout).into_owned();
    assert!(
        upgrade.status.success(),
        "{upgrade:?}\n{}",
        stage.router.log()
    );
    let pid: i32 = said.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(said.contains("1 clients stay"), "{said}");
    /// It is no child of the test.
    struct Ends(i32);
    impl Drop for Ends {
        fn drop(&mut self) {
            // SAFETY: kill touches no memory; the process is the one that was just started.
            unsafe { libc::kill(self.0, libc::SIGKILL) };
        }
    }
    let ends = Ends(pid);
    assert_ne!(pid, i32::try_from(before).unwrap());
    assert_fine(&mut client, "SELECT n FROM counted WHERE id = 1");
    let mut new = stage.client();
    assert_fine(&mut new, "SELECT n FROM counted WHERE id = 1");
    drop(client);
    let mut stage = stage;
    assert!(stage.router.wait(SOON).success());
    assert_fine(&mut new, "SELECT n FROM counted WHERE id = 1");
    assert_fine(&mut stage.client(), "SELECT n FROM counted WHERE id = 1");
    drop(ends);
}

#[test]
fn while_there_are_two_no_read_misses_a_write_of_the_other() {
    let mut fleet = Fleet::new(1, 1);
    proof::on_all(&fleet, &load::make().join(";"));
    fleet.shards[0].wait_replayed();
    let more = format!(
        "[balance]\nprobe_interval = \"100ms\"\nprobe_timeout = \"2s\"\n{}",
        load::TABLE
    );
    let text = proof::config(&fleet, "takeover = \"@folder@/takeover\"", "", &more);
    let router = Router::start(&text);
    let log_in = |router: &Router| {
        let mut wire = Wire::login(&router.endpoint(USER, PASSWORD, "postgres"));
        wire.set_limit(SOON);
        wire
    };
    let by_replica = |router: &Router| {
        let shown = console(router, "SHOW ENDPOINTS");
        let replica = shown.iter().find(|server| server["role"] == "replica");
        replica.map_or(0, |replica| replica["served"].parse::<u64>().unwrap())
    };
    let mut old = log_in(&router);
    let reads = |router: &Router, wire: &mut Wire| {
        poll_until(SOON, || {
            wire.rows("SELECT n FROM counted WHERE id = 1");
            by_replica(router) > 0
        })
    };
    assert!(reads(&router, &mut old), "the replica serves nothing");
    let replica = &mut fleet.shards[0].replicas[0];
    replica
        .configure(&[("recovery_min_apply_delay", "300ms")])
        .unwrap();
    let new_process = router.take_over();
    // Whoever comes in the moment of the takeover may still be the old one's.
    let mut new = log_in(&new_process);
    let of_heir = poll_until(SOON, || {
        let is_its = new_process.log().contains("client logged in");
        if !is_its {
            new = log_in(&new_process);
        }
        is_its
    });
    assert!(of_heir, "the new process lets nobody in");
    for round in 1..=60 {
        let (writer, reader) = if round % 2 == 0 {
            (&mut old, &mut new)
        } else {
            (&mut new, &mut old)
        };
        assert_fine(
            writer,
            &format!("UPDATE counted SET n = {round} WHERE id = 1"),
        );
        assert_eq!(
            reader.rows("SELECT n FROM counted WHERE id = 1"),
            [[round.to_string()]]
        );
    }
    assert_fine(&mut old, "UPDATE counted SET n = -1 WHERE id = 1");
    drop(old);
    drop(router);
    let told = || {
        new_process
            .log()
            .contains("the process before this one has ended")
    };
    assert!(poll_until(SOON, told));
    assert_eq!(new.rows("SELECT n FROM counted WHERE id = 1"), [["-1"]]);
    let replica = &mut fleet.shards[0].replicas[0];
    replica
        .configure(&[("recovery_min_apply_delay", "0")])
        .unwrap();
    assert!(
        reads(&new_process, &mut new),
        "the replica serves nothing when there is one again"
    );
    assert_eq!(new.rows("SELECT n FROM counted WHERE id = 1"), [["-1"]]);
}

#[test]
fn a_process_that_will_end_says_so_before_it_closes_its_port() {
    let mut stage = Stage::new("drain_delay = \"4s\"");
    let mut idle = stage.client();
    assert_eq!(stage.readiness().as_deref(), Some("200"));
    stage.router.sigterm();
    assert!(poll_until(SOON, || stage.readiness().as_deref() == Some("503")));
    // Still there for whoever has not heard of it.
    assert_fine(&mut idle, "SELECT n FROM counted WHERE id = 1");
    assert_fine(&mut stage.client(), "SELECT n FROM counted WHERE id = 1");
    assert!(!stage.router.log().contains("Draining"));
    assert_eq!(error_of(&mut idle), "57P01");
    assert!(stage.router.wait(SOON).success());
}

#[test]
fn under_load_a_process_that_is_told_to_end_ends_in_time_and_loses_nothing() {
    let mut stage = Stage::new("drain_timeout = \"3s\"");
    let (mut idle, mut open, mut stays) = (stage.client(), stage.client(), stage.client());
    for (wire, id) in [(&mut open, 1), (&mut stays, 2)] {
        assert_fine(wire, "BEGIN");
        assert_fine(wire, &format!("SELECT n FROM counted WHERE id = {id}"));
    }
    let load = Load::start(&stage.router, USER, PASSWORD, "shop", 600);
    assert!(poll_until(SOON, || stage.counted() > 20));
    stage.router.sigterm();
    assert!(poll_until(SOON, || stage.readiness().as_deref() != Some("200")));
    assert_eq!(error_of(&mut idle), "57P01");
    assert_fine(&mut open, "SELECT n FROM counted WHERE id = 3");
    assert_fine(&mut open, "COMMIT");
    assert_eq!(error_of(&mut open), "57P01");
    // One that does not end its transaction is ended.
    assert_eq!(error_of(&mut stays), "57P01");
    assert!(stage.router.wait(SOON).success());
    for (kind, done) in load.end() {
        let wrong = done.wrong.unwrap();
        let told = [
            "administrator command",
            "Connection refused",
            "shutting down",
        ];
        let strange: Vec<&str> = wrong
            .lines()
            .filter(|line| line.contains("rror:") || line.contains("FATAL"))
            .filter(|line| !told.iter().any(|word| line.contains(word)))
            .collect();
        println!("{kind}: {wrong}");
        assert!(
            !wrong.contains("not known"),
            "an outcome is unknown: {strange:?}"
        );
    }
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()";
    assert!(poll_until(SOON, || stage
        .shards
        .sql_all(open)
        .iter()
        .all(|n| n == "0")));
}
