//! Attacks on resources. In each of them a bystander is served as if nothing happened.

use super::stage::{LIMIT, Stage, certificate, state};
use mothership_tests::message::{self, Format, V3_0};
use mothership_tests::proxy::Proxy;
use mothership_tests::wire::Silence;
use mothership_tests::{Endpoint, Folder, Frame, Wire, poll_until};
use std::time::{Duration, Instant};

/// Answers of a server until it closes.
fn last_words(wire: &mut Wire) -> Option<mothership_tests::Frame> {
    let mut last = None;
    loop {
        match wire.try_frame(LIMIT) {
            Ok(frame) => last = Some(frame),
            Err(Silence::Closed) => return last,
            Err(Silence::Late) => panic!("the router does not close"),
        }
    }
}

/// Logins that are under way in the test below. One process holds their other ends, and has few descriptors left.
const SLOW: usize = 10_000;
/// What each of them may cost in memory of the router before anybody has said who he is.
const SLOW_COST: u64 = 2 << 10;

// R1, R4
#[test]
fn logins_that_send_a_byte_at_a_time_end_at_one_deadline_and_cost_two_kilobytes_each() {
    mothership_tests::proof::raise_descriptor_limit();
    let stage = Stage::with(&format!(
        "[listen]\nport = @port@\nunix_socket = \"@folder@\"\nworkers = 2\nmax_logins = {SLOW}\n\
         login_timeout = \"30s\"\n[pool]\nmin = 1"
    ));
    let port = stage.router.port();
    let bystander = stage.bystander();
    let startup = message::startup(V3_0, &[("user", "slow"), ("database", "slow")]);
    let idle = stage.router.open_descriptors();
    let begun = Instant::now();
    let mut slow: Vec<Wire> = Vec::new();
    let mut open = |count: usize| {
        slow.resize_with(count, || {
            let mut wire = Wire::connect(port);
            wire.send(&startup[..1]);
            wire
        });
        let accepted = || stage.router.open_descriptors() >= idle + count;
        assert!(poll_until(LIMIT, accepted), "they are not accepted");
        stage.router.resident_bytes()
    };
    // The first ones warm what is there for all.
    let (few, all) = (open(SLOW / 4), open(SLOW));
    let sum = all.saturating_sub(few);
    let cost = sum / (SLOW as u64 * 3 / 4);
    println!("{cost} bytes for each login that is under way, {sum} for all but the first");
    assert!(cost < SLOW_COST, "{cost} bytes each");
    for _ in 0..20 {
        let mut wire = Wire::connect(port);
        let told = last_words(&mut wire).expect("it is told why");
        assert_eq!(told.sqlstate(), "53300", "{told}");
        let hint = told.field('H').unwrap_or_default();
        assert!(hint.contains("listen.max_logins"), "{hint}");
    }
    // Who administers the machine finds a place.
    let psql = std::process::Command::new(mothership_tests::binaries().program("psql"))
        .args(["-X", "-w", "-At", "-c", "SHOW STATE"])
        .arg(format!(
            "host='{}' port={port} user=pgbouncer dbname=pgbouncer",
            stage.router.unix_folder()
        ))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&psql.stderr);
    assert!(psql.status.success(), "{said}");
    let mut at = 1;
    let all_gone = poll_until(LIMIT * 6, || {
        // One byte a round keeps a deadline for each read alive for ever.
        let byte = &startup[at..][..1];
        at = (at + 1).min(startup.len() - 2);
        slow.retain_mut(|wire| {
            wire.try_send(byte).is_ok()
                && wire.try_frame(Duration::from_micros(100)) == Err(Silence::Late)
        });
        slow.is_empty()
    });
    assert!(all_gone, "{} logins are still open", slow.len());
    println!("all were gone after {:?}", begun.elapsed());
    let given_back = || stage.router.open_descriptors() <= idle + 20;
    assert!(poll_until(LIMIT, given_back), "their descriptors are kept");
    stage.wire();
    bystander.noticed_nothing();
}

// R4: who has said who he is and proves nothing.
#[test]
fn logins_that_stop_before_their_proof_are_as_many_as_the_setting_says_and_cost_little() {
    const MOST: usize = 500;
    let stage = Stage::with(&format!(
        "[listen]\nport = @port@\nworkers = 2\nmax_logins = {MOST}\nlogin_timeout = \"30s\"\n[pool]\nmin = 1"
    ));
    let bystander = stage.bystander();
    let startup = message::startup(V3_0, &[("user", "slow"), ("database", "slow")]);
    let mut open = Vec::new();
    let mut stop_before_proof = |count: usize| {
        open.resize_with(count, || {
            let mut wire = Wire::connect(stage.router.port());
            wire.send(&startup);
            assert_eq!(wire.frame().kind, b'R');
            wire
        });
        stage.router.resident_bytes()
    };
    let (few, all) = (stop_before_proof(MOST / 5), stop_before_proof(MOST));
    let cost = all.saturating_sub(few) / (MOST as u64 * 4 / 5);
    println!("{cost} bytes for each that has not proved anything");
    assert!(cost < 16 << 10, "{cost} bytes each");
    let told = last_words(&mut Wire::connect(stage.router.port())).expect("it is told why");
    assert_eq!(told.sqlstate(), "53300", "{told}");
    bystander.noticed_nothing();
}

// R2
#[test]
fn a_first_packet_over_a_limit_is_refused_before_its_bytes_arrive() {
    let stage = Stage::with("[listen]\nport = @port@\n[limits]\nstartup_packet = \"4000B\"");
    let bystander = stage.bystander();
    let user = ("user", "a");
    let many: Vec<_> = (0..101).map(|n| (format!("a.p{n}"), "1")).collect();
    let mut parameters = vec![user];
    parameters.extend(many.iter().map(|(name, value)| (name.as_str(), *value)));
    let long = "x".repeat(4000);
    let options = "-c a.b=1 ".repeat(101);
    let first = |length: u32| length.to_be_bytes().to_vec();
    let refused: [(&str, Vec<u8>, &str); 9] = [
        ("no length", first(0), "08P01"),
        ("less than itself", first(3), "08P01"),
        ("nothing in it", first(4), "08P01"),
        ("over the setting", first(4005), "08P01"),
        ("2 GiB", first(0x7fff_ffff), "08P01"),
        ("negative", first(0xffff_ffff), "08P01"),
        (
            "a long value",
            message::startup(V3_0, &[user, ("a.b", &long)]),
            "08P01",
        ),
        (
            "many parameters",
            message::startup(V3_0, &parameters),
            "54000",
        ),
        (
            "many options",
            message::startup(V3_0, &[user, ("options", &options)]),
            "54000",
        ),
    ];
    for (what, bytes, expected) in refused {
        let mut wire = Wire::connect(stage.router.port());
        wire.send(&bytes);
        let error = last_words(&mut wire).unwrap_or_else(|| panic!("{what}: nothing was said"));
        assert_eq!(error.sqlstate(), expected, "{what}: {error}");
    }
    bystander.noticed_nothing();
}

// R3
#[test]
fn handshakes_that_stall_or_lie_end_and_plain_clients_are_served() {
    let folder = Folder::new("handshakes");
    let [certificate, key] = certificate(&folder);
    let stage = Stage::with(&format!(
        "[listen]\nport = @port@\nlogin_timeout = \"6s\"\n[tls]\nmode = \"allow\"\ndirect = true\n\
         certificate = \"{certificate}\"\nkey = \"{key}\""
    ));
    let off = Stage::with("[listen]\nport = @port@\nlogin_timeout = \"1h\"");
    let bystander = stage.bystander();
    let record = |length: u16| [&[0x16, 3, 1], length.to_be_bytes().as_slice()].concat();
    let port = stage.router.port();
    let mut ends = Vec::new();
    for (asks, bytes) in [
        // Nothing follows; less than was said; more than a record may have; no handshake.
        (true, Vec::new()),
        (true, record(512)),
        (true, [record(0xffff), vec![1; 20_000]].concat()),
        (true, [record(64), vec![0xff; 64]].concat()),
        (false, record(512)),
        (false, [record(0xffff), vec![1; 20_000]].concat()),
    ] {
        let mut wire = Wire::connect(port);
        if asks {
            wire.send(&message::request(message::SSL_REQUEST));
            assert_eq!(wire.byte(), Ok(b'S'));
        }
        // It may close before all of it was sent.
        let _ = wire.try_send(&bytes);
        ends.push(wire);
    }
    // TLS where there is none: no deadline is needed to see it.
    let mut wire = Wire::connect(off.router.port());
    let _ = wire.try_send(&record(512));
    ends.push(wire);
    // Bytes in plain text behind a request for encryption are not for the router.
    let mut wire = Wire::connect(port);
    let login = message::startup(V3_0, &[("user", "a")]);
    wire.send(&[message::request(message::SSL_REQUEST), login].concat());
    ends.push(wire);
    for (at, mut wire) in ends.into_iter().enumerate() {
        let ended = poll_until(LIMIT, || match wire.byte() {
            Ok(_) => false,
            Err(silence) => silence == Silence::Closed,
        });
        assert!(ended, "handshake {at} goes on");
    }
    // Another protocol over the same port.
    let mut other = std::process::Command::new("timeout");
    other.args(["20", "openssl", "s_client", "-alpn", "h2", "-connect"]);
    let other = other
        .arg(format!("127.0.0.1:{port}"))
        .stdin(std::process::Stdio::null());
    let other = other.output().unwrap();
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(said.contains("no application protocol"), "{said}");
    bystander.noticed_nothing();
}

// R5
#[test]
fn lengths_that_cannot_be_true_allocate_nothing_and_end_one_session() {
    let stage = Stage::with("[listen]\nport = @port@\n[limits]\nlogin_message = \"1KiB\"");
    let bystander = stage.bystander();
    let before = stage.router.resident_bytes();
    let header = |kind: u8, length: u32| [&[kind], length.to_be_bytes().as_slice()].concat();
    for length in [0, 3, 1100, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        let mut wire = Wire::connect(stage.router.port());
        wire.send(&message::startup(V3_0, &[("user", "a")]));
        assert_eq!(wire.frame().kind, b'R');
        wire.send(&header(b'p', length));
        let error = last_words(&mut wire).unwrap();
        assert_eq!(error.sqlstate(), "08P01", "{length}: {error}");
    }
    for length in [0, 3, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        for kind in [b'Q', b'P', b'B', b'd'] {
            let mut wire = stage.wire();
            wire.send(&header(kind, length));
            let error = last_words(&mut wire).unwrap();
            let known = ["08P01", "54000"].contains(&error.sqlstate().as_str());
            assert!(known, "{length}: {error}");
        }
    }
    // Lengths inside of a message: of a parameter, and how many there are.
    let bodies: [&[u8]; 4] = [
        b"\0\0\0\0\0\x01\x80\0\0\0\0\0",
        b"\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0",
        b"\0\0\0\0\xff\xff",
        b"\0\0\xff\xff",
    ];
    for body in bodies {
        let request = [
            message::parse("", "SELECT $1::text", &[]),
            message::message(b'B', body),
            message::sync(),
        ];
        assert_eq!(
            state(&mut stage.wire(), &request.concat()),
            "08P01",
            "{body:?}"
        );
    }
    let grown = stage.router.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
    bystander.noticed_nothing();
}

// R6
#[test]
fn a_flood_of_cancels_with_random_keys_reaches_no_server_and_a_true_one_does() {
    let stage = Stage::with("[listen]\nport = @port@\n[pool]\nmin = 1\n[limits]\ncancel_rate = 0");
    let bystander = stage.bystander();
    let mut victim = stage.wire();
    victim.send(&message::query("SELECT pg_sleep(60)"));
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' \
                    AND datname = current_database() AND state = 'active'";
    assert!(poll_until(LIMIT, || stage.shards.sql(0, sleeping).trim() == "1"));
    let (backends, memory) = (stage.backends(), stage.router.resident_bytes());
    let port = stage.router.port();
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let (pid, key) = victim.key.clone().unwrap();
    let floods: Vec<_> = (0..4_u64)
        .map(|n| {
            let key = key.clone();
            std::thread::spawn(move || {
                use rand::{RngExt, SeedableRng, rngs::StdRng};
                let mut random = StdRng::seed_from_u64(seed + n);
                for _ in 0..1000 {
                    let mut guess = key.clone();
                    random.fill(&mut guess[..]);
                    let slot = if random.random() {
                        pid
                    } else {
                        random.random()
                    };
                    if guess != key {
                        let mut wire = Wire::connect(port);
                        let _ = wire.try_send(&message::cancel(slot, &guess));
                    }
                }
            })
        })
        .collect();
    floods.into_iter().for_each(|flood| flood.join().unwrap());
    assert_eq!(stage.backends(), backends, "a server was connected to");
    assert_eq!(stage.shards.sql(0, sleeping).trim(), "1", "a guess hit");
    let grown = stage.router.resident_bytes().saturating_sub(memory);
    println!("{grown} bytes more after 4,000 guesses");
    assert!(grown < 16 << 20, "{grown} bytes");
    victim.cancel();
    let frames = victim.until_ready();
    let error = frames.iter().find(|frame| frame.kind == b'E').unwrap();
    assert_eq!(error.sqlstate(), "57014");
    bystander.noticed_nothing();
}

// R6
#[test]
fn a_flood_of_cancels_with_the_right_key_is_delivered_one_by_one_and_what_is_too_much_is_dropped() {
    let proxy = std::cell::OnceCell::new();
    let stage = Stage::through(
        "[listen]\nport = @port@\n[pool]\nmin = 1\n[limits]\ncancels = 1\ncancel_queue = 5",
        |port| proxy.get_or_init(|| Proxy::to(port)).port(),
    );
    let proxy = proxy.get().expect("the router reaches its server by it");
    let bystander = stage.bystander();
    let mut victim = stage.wire();
    victim.send(&message::query("SELECT pg_sleep(60)"));
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' \
                    AND datname = current_database() AND state = 'active'";
    assert!(poll_until(LIMIT, || stage.shards.sql(0, sleeping).trim() == "1"));
    let (pid, key) = victim.key.clone().unwrap();
    let before = proxy.open();
    let mut most = before;
    for _ in 0..500 {
        let mut wire = Wire::connect(stage.router.port());
        let _ = wire.try_send(&message::cancel(pid, &key));
        most = most.max(proxy.open());
    }
    // One that delivers, and one of the router's own questions.
    assert!(most <= before + 2, "{most} connections, {before} before");
    let frames = victim.until_ready();
    let error = frames.iter().find(|frame| frame.kind == b'E').unwrap();
    assert_eq!(error.sqlstate(), "57014");
    // The few that were let wait may meet what it asks next, as they may with PostgreSQL, and nobody else's.
    let mut served = 0;
    let all_delivered = poll_until(LIMIT, || {
        let frames = victim.query("SELECT 1");
        let error = frames.iter().find(|frame| frame.kind == b'E');
        served = match error.map(Frame::sqlstate) {
            None => served + 1,
            Some(code) => {
                assert_eq!(code, "57014");
                0
            }
        };
        served > 20 && proxy.open() <= before
    });
    assert!(all_delivered, "cancels are still delivered");
    bystander.noticed_nothing();
}

// R7
#[test]
fn guessing_passwords_takes_longer_each_time_and_holds_up_nobody_else() {
    let stage = Stage::with(
        "[listen]\nport = @port@\n[limits]\nwrong_password_pause = \"800ms\"\n\
         [auth]\ncache = \"1h\"",
    );
    let bystander = stage.bystander();
    let wrong = Endpoint {
        password: "wrong".into(),
        ..stage.endpoint()
    };
    let unknown = Endpoint {
        user: "nobody".into(),
        ..wrong.clone()
    };
    for guessed in [&wrong, &unknown] {
        let begun = Instant::now();
        for _ in 0..4 {
            let mut wire = Wire::connect(guessed.port);
            let error = wire.try_login(guessed, V3_0, &[]).unwrap_err();
            assert_eq!(error.sqlstate(), "28P01");
        }
        // 100, 200, 400 and 800 ms are the least that a sleep may take.
        assert!(begun.elapsed() >= Duration::from_millis(1500));
    }
    // Many at once, while the right password is let in without a pause.
    let guesses: Vec<_> = (0..40)
        .map(|_| {
            let wrong = wrong.clone();
            std::thread::spawn(move || {
                let mut wire = Wire::connect(wrong.port);
                wire.try_login(&wrong, V3_0, &[]).unwrap_err().sqlstate()
            })
        })
        .collect();
    stage.wire();
    for guess in guesses {
        assert_eq!(guess.join().unwrap(), "28P01");
    }
    bystander.noticed_nothing();
}

// R7: a password in clear text is checked by PBKDF2, and there the router pays.
#[test]
fn passwords_that_are_slow_to_check_are_checked_a_few_at_a_time() {
    let stage = Stage::with(
        "[listen]\nport = @port@\nworkers = 1\n[limits]\npassword_checks = 1\nwrong_password_pause = \"0s\"\n\
         [[auth.rule]]\nmethod = \"password\"",
    );
    let bystander = stage.bystander();
    let before = stage.router.threads();
    let endpoint = stage.endpoint();
    let logins: Vec<_> = (0..24)
        .map(|n| {
            let endpoint = Endpoint {
                password: if n % 2 == 0 {
                    "wrong".into()
                } else {
                    endpoint.password.clone()
                },
                ..endpoint.clone()
            };
            std::thread::spawn(move || {
                let mut wire = Wire::connect(endpoint.port);
                wire.try_login(&endpoint, V3_0, &[]).is_ok()
            })
        })
        .collect();
    // Each check has a thread for itself; one that has just ended may still be there.
    let mut most = before;
    while logins.iter().any(|login| !login.is_finished()) {
        most = most.max(stage.router.threads());
        std::thread::yield_now();
    }
    println!("{most} threads at most, {before} before");
    assert!(most <= before + 3, "{most} threads, {before} before");
    let let_in = logins.into_iter().map(|login| login.join().unwrap());
    assert_eq!(let_in.filter(|let_in| *let_in).count(), 12);
    bystander.noticed_nothing();
}

// R11
#[test]
fn nobody_fills_the_log_or_writes_lines_of_his_own() {
    let stage = Stage::with(
        "[listen]\nport = @port@\n[limits]\nlog_rate = 3\nlog_text = 40\nwrong_password_pause = \"0s\"",
    );
    let bystander = stage.bystander();
    let begun = Instant::now();
    for n in 0..60 {
        let endpoint = Endpoint {
            user: format!("u{n}\n2026-01-01 ERROR forged {}", "x".repeat(30)),
            ..stage.endpoint()
        };
        let mut wire = Wire::connect(endpoint.port);
        assert!(wire.try_login(&endpoint, V3_0, &[]).is_err());
    }
    let left_out = || stage.router.log().contains("log lines were left out");
    assert!(
        poll_until(LIMIT, left_out),
        "it is not told that lines are missing"
    );
    let log = stage.router.log();
    let seconds = begun.elapsed().as_secs() as usize + 1;
    let failed = log.matches("login failed").count();
    println!("{failed} lines in {seconds} s");
    assert!(failed <= 3 * (seconds + 1), "{failed} lines in {seconds} s");
    assert!(!log.contains("\n2026-01-01 ERROR forged"), "{log}");
    assert!(
        !log.contains("xxxxxxxxxx"),
        "a text is longer than limits.log_text"
    );
    bystander.noticed_nothing();
}

// R13
#[test]
fn without_descriptors_it_waits_and_whoever_is_connected_is_served() {
    let stage = Stage::with(
        "[listen]\nport = @port@\nworkers = 1\nlogin_timeout = \"1h\"\n[pool]\nmin = 1\n\
         [limits]\naccept_pause = \"100ms\"\ndescriptor_reserve = \"0%\"",
    );
    let bystander = stage.bystander();
    let most = u64::try_from(stage.router.open_descriptors()).unwrap() + 8;
    let before = stage.router.limit_descriptors(most);
    let waiting: Vec<Wire> = (0..60)
        .map(|_| Wire::connect(stage.router.port()))
        .collect();
    let out = || stage.router.log().matches("could not be accepted").count() > 1;
    assert!(poll_until(LIMIT, out), "it is not out of descriptors");
    // It pauses: the accepts that fail are few, and none of them is a spin.
    let pauses = stage.router.log().matches("could not be accepted").count();
    assert!(pauses < 100, "{pauses} attempts");
    bystander.goes_on();
    stage.router.limit_descriptors(before);
    drop(waiting);
    stage.wire();
    bystander.noticed_nothing();
}

// R13
#[test]
fn the_last_descriptors_are_for_servers_and_administrators() {
    let stage = Stage::with(
        "[listen]\nport = @port@\nworkers = 1\n[pool]\nmin = 1\n\
         [limits]\ndescriptor_reserve = \"40%\"",
    );
    let bystander = stage.bystander();
    let mut idle: Vec<Wire> = (0..3).map(|_| stage.wire()).collect();
    let most = u64::try_from(stage.router.open_descriptors()).unwrap() * 2;
    let before = stage.router.limit_descriptors(most);
    let mut clients = Vec::new();
    let refused = (0..most).find_map(|_| {
        let mut wire = Wire::connect(stage.router.port());
        match wire.try_login(&stage.endpoint(), V3_0, &[]) {
            Ok(_) => {
                clients.push(wire);
                None
            }
            Err(error) => Some(error),
        }
    });
    let refused = refused.expect("nobody was refused");
    assert_eq!(refused.sqlstate(), "53300", "{refused}");
    let hint = refused.field('H').unwrap_or_default();
    assert!(hint.contains("limits.descriptor_reserve"), "{hint}");
    // Whoever is in gets a server connection of its own, and the console is open.
    for wire in &mut idle {
        wire.query("BEGIN");
        assert_eq!(wire.rows("SELECT 1"), [["1"]]);
    }
    assert!(!stage.console().query("SHOW VERSION").is_empty());
    assert!(!stage.router.log().contains("could not be accepted"));
    stage.router.limit_descriptors(before);
    stage.wire();
    bystander.noticed_nothing();
}

#[test]
fn a_process_short_of_memory_refuses_clients_then_transactions_and_recovers() {
    let stage = Stage::with(
        "[listen]\nport = @port@\nworkers = 1\n[limits]\nmemory = \"160MiB\"\n[metrics]\nport = @metrics_port@",
    );
    let (mut known, mut holder) = (stage.wire(), stage.wire());
    holder.query("BEGIN");
    assert_eq!(holder.rows("SELECT 1"), [["1"]]);
    // Messages that are never whole: what has arrived of them is held.
    let claim = [b"Q".as_slice(), &(100_u32 << 20).to_be_bytes()].concat();
    let mut hogs: Vec<Wire> = (0..100).map(|_| stage.wire()).collect();
    hogs.iter_mut().for_each(|hog| hog.send(&claim));
    let more = vec![b' '; 2 << 20];
    let mut hungry = hogs.iter_mut();
    let mut grow = || hungry.next().unwrap().send(&more);
    let newcomer = || {
        let mut wire = Wire::connect(stage.router.port());
        let login = wire.try_login(&stage.endpoint(), V3_0, &[]);
        login.err().map(|error| error.sqlstate())
    };
    let mut refused;
    loop {
        refused = newcomer();
        if refused.is_some() {
            break;
        }
        grow();
    }
    assert_eq!(refused.as_deref(), Some("53300"));
    assert_eq!(known.rows("SELECT 2"), [["2"]], "it was there before");
    let mut told;
    loop {
        told = state(&mut known, &message::query("SELECT 3"));
        if !told.is_empty() {
            break;
        }
        grow();
    }
    assert_eq!(told, "53300", "{}", stage.router.log());
    assert_eq!(holder.rows("SELECT 4"), [["4"]], "its transaction goes on");
    assert!(!stage.console().query("SHOW VERSION").is_empty());
    drop(hogs);
    let serves = || state(&mut known, &message::query("SELECT 5")).is_empty();
    assert!(poll_until(LIMIT, serves), "{}", stage.router.log());
    assert!(poll_until(LIMIT, || newcomer().is_none()));
    holder.query("COMMIT");
}

// R13
#[test]
fn descriptors_that_the_router_lacks_do_not_count_against_the_server() {
    let stage = Stage::with(
        "[listen]\nport = @port@\nworkers = 1\n[pool]\nmin = 0\n\
         [balance]\nprobe_interval = \"200ms\"\ndown_after = 1",
    );
    let mut wires: Vec<Wire> = (0..6).map(|_| stage.wire()).collect();
    let most = u64::try_from(stage.router.open_descriptors()).unwrap();
    let before = stage.router.limit_descriptors(most);
    // Each keeps its server connection, and there is no descriptor for as many.
    let begin = message::query("BEGIN; SELECT 1");
    let answers: Vec<Vec<Frame>> = wires
        .iter_mut()
        .map(|wire| {
            wire.send(&begin);
            wire.until_ready()
        })
        .collect();
    let errors = answers.iter().flatten().filter(|frame| frame.kind == b'E');
    let codes: Vec<String> = errors.map(Frame::sqlstate).collect();
    stage.router.limit_descriptors(before);
    assert!(
        !codes.is_empty() && codes.iter().all(|code| code == "08006"),
        "{codes:?}"
    );
    let log = stage.router.log();
    assert!(!log.contains("server is down"), "{log}");
    let again = poll_until(LIMIT, || {
        wires.iter_mut().all(|wire| {
            wire.query("ROLLBACK");
            wire.query("SELECT 1")
                .iter()
                .all(|frame| frame.kind != b'E')
        })
    });
    assert!(again, "{}", stage.router.log());
}

// R8
#[test]
fn a_pipeline_without_an_end_is_read_no_further_than_its_limit() {
    let stage = Stage::with("[listen]\nport = @port@\n[limits]\npipeline = 10");
    let bystander = stage.bystander();
    let mut wire = stage.wire();
    // Nothing in between makes the server answer; the router must see to it.
    let mut messages = vec![message::parse("s", "SELECT $1::int", &[])];
    for n in 0..200_i32 {
        let value = n.to_be_bytes();
        messages.push(message::bind(
            "",
            "s",
            Format::Binary,
            &[Some(&value)],
            Format::Text,
        ));
        messages.push(message::execute("", 0));
    }
    messages.push(message::sync());
    wire.send_all(&messages);
    let frames = wire.until_ready();
    let rows: Vec<_> = frames
        .iter()
        .filter(|f| f.kind == b'D')
        .map(|f| f.row_text())
        .collect();
    let expected: Vec<_> = (0..200).map(|n| vec![n.to_string()]).collect();
    assert_eq!(rows, expected);
    assert_eq!(state(&mut wire, &message::query("SELECT 1/0")), "22012");
    bystander.noticed_nothing();
}
