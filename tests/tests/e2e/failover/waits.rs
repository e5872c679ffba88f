//! Requests and logins that wait while a shard has no primary.

use super::stage::{SOON, Stage, turned_away};
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Wire, poll_until};
use std::time::{Duration, Instant};

/// A crash is a pause: for clients that have something to ask, and for those that come.
#[test]
fn requests_and_logins_wait_for_a_lone_server_to_be_back() {
    let mut stage = Stage::new(1, 0);
    let create =
        "CREATE TABLE t (a int); CREATE ROLE app LOGIN PASSWORD 'sesame'; GRANT ALL ON t TO app";
    stage.fleet.shards[0]
        .primary
        .sql("postgres", create)
        .unwrap();
    let (admin, app) = (
        stage.endpoint(USER, PASSWORD),
        stage.endpoint("app", "sesame"),
    );
    let mut wires = [Wire::login(&admin), Wire::login(&app)];
    for wire in &mut wires {
        wire.rows("SELECT count(*) FROM t");
    }
    stage.fleet.shards[0].primary.kill9();
    std::thread::scope(|scope| {
        let asked = wires.each_mut().map(|wire| {
            scope.spawn(|| {
                wire.query("INSERT INTO t VALUES (1)")
                    .iter()
                    .find(|f| f.kind == b'E')
                    .map(|error| error.to_string())
            })
        });
        let come = scope.spawn(|| turned_away(&app));
        stage.wait_for_waiting(2);
        stage.fleet.shards[0].primary.start().unwrap();
        for asked in asked {
            assert_eq!(asked.join().unwrap(), None);
        }
        assert_eq!(come.join().unwrap(), None);
    });
    assert_eq!(wires[0].rows("SELECT count(*) FROM t"), [["2"]]);
}

#[test]
fn no_more_requests_wait_than_may_and_none_for_longer() {
    let mut stage = Stage::with(1, 0, "requests = 1\nwindow = \"2s\"");
    let endpoint = stage.endpoint(USER, PASSWORD);
    let (mut first, mut second) = (Wire::login(&endpoint), Wire::login(&endpoint));
    first.rows("SELECT 1");
    second.rows("SELECT 1");
    stage.fleet.shards[0].primary.kill9();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| first.query("SELECT 1")[0].sqlstate());
        stage.wait_for_waiting(1);
        let frames = second.query("SELECT 1");
        assert_eq!(frames[0].sqlstate(), "53300", "{frames:?}");
        assert!(
            frames[0]
                .field('D')
                .is_some_and(|detail| detail.starts_with("1 requests with ")),
            "{frames:?}"
        );
        let refused = waits.join().unwrap();
        assert!(["57P03", "08006"].contains(&&*refused), "{refused}");
        assert!(begun.elapsed() >= Duration::from_secs(2));
    });
    stage.fleet.shards[0].primary.start().unwrap();
    assert_eq!(first.rows("SELECT 1"), [["1"]]);
    assert_eq!(second.rows("SELECT 1"), [["1"]]);
}

#[test]
fn who_waits_for_a_server_that_is_silent_hears_that_it_is_lost() {
    let mut stage = Stage::with(1, 0, "silence = \"1s\"\nwindow = \"1s\"");
    let mut wire = Wire::login(&stage.endpoint(USER, PASSWORD));
    wire.rows("SELECT 1");
    stage.fleet.shards[0].primary.pause().unwrap();
    let frames = wire.query("SELECT 2");
    assert_eq!(frames[0].sqlstate(), "08006", "{frames:?}");
    stage.fleet.shards[0].primary.resume().unwrap();
    let back = poll_until(SOON, || wire.query("SELECT 3")[0].kind == b'T');
    assert!(back);
}
