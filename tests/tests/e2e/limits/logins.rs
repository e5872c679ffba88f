//! Who attacks with logins: slow ones, unfinished ones, guessed ones.

use super::stage::{LIMIT, Stage, last_words};
use mothership_tests::message::{self, V3_0};
use mothership_tests::wire::Silence;
use mothership_tests::{Endpoint, Wire, poll_until};
use std::time::{Duration, Instant};

/// Logins that are under way in the test below. One process holds their other ends, and has few descriptors left.
const SLOW: usize = 10_000;
/// What each of them may cost in memory of the router before anybody has said who he is.
const SLOW_COST: u64 = 2 << 10;

// R1, R4
#[test]
#[ignore = "long"]
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
    const MAX_LOGINS: usize = 500;
    let stage = Stage::with(&format!(
        "[listen]\nport = @port@\nworkers = 2\nmax_logins = {MAX_LOGINS}\nlogin_timeout = \"30s\"\n[pool]\nmin = 1"
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
    let (few, all) = (
        stop_before_proof(MAX_LOGINS / 5),
        stop_before_proof(MAX_LOGINS),
    );
    let cost = all.saturating_sub(few) / (MAX_LOGINS as u64 * 4 / 5);
    println!("{cost} bytes for each that has not proved anything");
    assert!(cost < 16 << 10, "{cost} bytes each");
    let told = last_words(&mut Wire::connect(stage.router.port())).expect("it is told why");
    assert_eq!(told.sqlstate(), "53300", "{told}");
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
