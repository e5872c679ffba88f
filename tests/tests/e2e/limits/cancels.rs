//! Who attacks with cancel requests.

use super::stage::{LIMIT, Stage};
use mothership_tests::message;
use mothership_tests::proxy::Proxy;
use mothership_tests::wire::Silence;
use mothership_tests::{Frame, Wire, poll_until};
use std::time::{Duration, Instant};

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
    assert!(stage.backends() <= backends, "a server was connected to");
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

#[test]
fn a_cancel_is_served_when_all_places_for_logins_are_taken() {
    let stage = Stage::with("[listen]\nport = @port@\nmax_logins = 1");
    let mut victim = stage.wire();
    victim.send(&message::query("SELECT pg_sleep(60)"));
    // Whichever comes first has the place; the other one is refused within half a second.
    let mut silent = [(), ()].map(|()| Wire::connect(stage.router.port()));
    let taken = poll_until(LIMIT, || {
        let mut frames = silent
            .iter_mut()
            .map(|wire| wire.try_frame(Duration::from_millis(300)));
        frames.any(|frame| matches!(frame, Ok(frame) if frame.sqlstate() == "53300"))
    });
    assert!(taken, "neither of two silent connections is refused");
    victim.cancel();
    let frames = victim.until_ready();
    let error = frames.iter().find(|frame| frame.kind == b'E').unwrap();
    assert_eq!(error.sqlstate(), "57014");
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

// R6
#[test]
fn an_address_that_floods_with_cancels_is_not_heard_and_others_are() {
    let stage = Stage::with("[listen]\nport = @port@\n[pool]\nmin = 1\n[limits]\ncancel_rate = 1");
    let bystander = stage.bystander();
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' \
                    AND datname = current_database() AND state = 'active'";
    let told = (0..5).any(|_| {
        let mut victim = stage.wire();
        victim.send(&message::query("SELECT pg_sleep(60)"));
        assert!(poll_until(LIMIT, || stage.shards.sql(0, sleeping).trim() == "1"));
        let (pid, key) = victim.key.clone().unwrap();
        let wrong: Vec<u8> = key.iter().map(|byte| !byte).collect();
        let cancel_from = |last: u8, key: &[u8]| {
            let mut wire = Wire::connect_from([127, 0, 0, last], stage.router.port());
            wire.send(&message::cancel(pid, key));
            assert!(wire.is_closed_within(LIMIT), "a cancel is never answered");
        };
        // One in a second is heard, which is the wrong one.
        let begun = Instant::now();
        cancel_from(9, &wrong);
        cancel_from(9, &key);
        let shows = begun.elapsed() < Duration::from_secs(1);
        if shows {
            let silence = victim.try_frame(Duration::from_millis(300));
            assert_eq!(silence, Err(Silence::Late), "a flood was heard");
        }
        cancel_from(10, &key);
        let frames = victim.until_ready();
        let error = frames.iter().find(|frame| frame.kind == b'E').unwrap();
        assert_eq!(error.sqlstate(), "57014");
        shows
    });
    assert!(told, "two cancels take longer than a second here");
    bystander.noticed_nothing();
}

#[test]
fn a_cancel_that_comes_late_meets_nobody_else() {
    let proxy = std::cell::OnceCell::new();
    let stage = Stage::through(
        "[listen]\nport = @port@\n[pool]\nmax = 1\ncancel_timeout = \"10ms\"",
        |port| proxy.get_or_init(|| Proxy::to(port)).port(),
    );
    let proxy = proxy.get().expect("the router reaches its server by it");
    let (mut victim, mut other) = (stage.wire(), stage.wire());
    victim.send(&message::query("SELECT pg_sleep(1)"));
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1)' \
                    AND datname = current_database() AND state = 'active'";
    assert!(poll_until(LIMIT, || stage.shards.sql(0, sleeping).trim() == "1"));
    proxy.keep_new(true);
    victim.cancel();
    // The server has not read it when the router gives it up.
    assert!(!has_error(&victim.until_ready()));
    other.send(&message::query("SELECT pg_sleep(1)"));
    assert!(other.try_frame(Duration::from_millis(300)).is_err());
    proxy.keep_new(false);
    assert!(!has_error(&other.until_ready()));
}

fn has_error(frames: &[Frame]) -> bool {
    frames.iter().any(|frame| frame.kind == b'E')
}
