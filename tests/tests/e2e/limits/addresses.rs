//! Attacks by those who have an address, and by those who say what a name's addresses are.

use super::stage::{LIMIT, Stage};
use mothership_tests::message;
use mothership_tests::router::may_have_own_hosts;
use mothership_tests::wire::Silence;
use mothership_tests::{Router, Shards, Wire, poll_until};
use std::fmt::Write;
use std::time::{Duration, Instant};

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

// R12
#[test]
fn a_name_with_ten_thousand_addresses_costs_no_more_than_one_with_a_few() {
    const MANY: u32 = 10_000;
    if !may_have_own_hosts() {
        eprintln!("SKIP names of servers: needs root and mount namespaces");
        return;
    }
    let shards = Shards::new(1);
    let server = shards.endpoint(0);
    let config = format!(
        "[listen]\nport = @port@\n[pool]\nmin = 1\nresolve_interval = \"1s\"\n\
         [control]\nuser = \"{0}\"\npassword = \"{1}\"\n[[shard]]\nname = \"s1\"\n\
         [[shard.server]]\naddress = \"many.test:{2}\"\nrole = \"primary\"\ntls = \"disable\"\n",
        server.user, server.password, server.port
    );
    // Behind the right one nobody listens.
    let hosts = |count: u32| {
        (0..count).fold(
            "127.0.0.1 localhost many.test\n".to_owned(),
            |mut text, n| {
                let [.., high, low] = n.to_be_bytes();
                writeln!(text, "127.9.{high}.{low} many.test").unwrap();
                text
            },
        )
    };
    let router = Router::start_with_hosts(&config, &hosts(10));
    let mut wire = Wire::login(&server.at_port(router.port()));
    assert_eq!(wire.rows("SELECT 1"), [["1"]]);
    let before = router.resident_bytes();
    router.write_hosts(&hosts(MANY));
    let begun = Instant::now();
    // Each second it is asked what the name means.
    while begun.elapsed() < Duration::from_secs(5) {
        let asked = Instant::now();
        assert_eq!(wire.rows("SELECT 1"), [["1"]]);
        assert_eq!(
            Wire::login(&server.at_port(router.port())).rows("SELECT 2"),
            [["2"]]
        );
        assert!(
            asked.elapsed() < Duration::from_secs(5),
            "clients wait for names"
        );
    }
    let grown = router.resident_bytes().saturating_sub(before);
    println!("{grown} bytes more with {MANY} addresses");
    assert!(grown < 16 << 20, "{grown} bytes");
}
