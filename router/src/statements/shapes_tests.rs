//! Texts of one shape mean the same; the cache keeps its limits.

use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use vary::{statements, vary};

// Of the planner's tests, which a crate above it does not see.
#[path = "../../plan/src/tests/vary.rs"]
mod vary;

const ROOM: Room = Room {
    shapes: 100_000,
    bytes: 1 << 30,
};

#[test]
fn texts_of_a_shape_mean_what_each_means_for_itself() {
    let seed: u64 = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| rand::rng().random());
    println!("SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut served = 0;
    for strings in [true, false] {
        let shapes = Shapes::default();
        for statement in statements() {
            for _ in 0..12 {
                let sql = vary(&mut rng, &statement);
                let Some(shaped) = shapes.find(sql.as_bytes(), strings, ROOM) else {
                    continue;
                };
                let own = steps(sql.as_bytes(), strings);
                let shared: Vec<Step> = shaped.step().into_iter().collect();
                assert_eq!(shared, own, "seed {seed}: {sql}");
                served += usize::from(shaped.entry.uses.get() > 1);
            }
        }
    }
    println!("{served} texts by the shape of another");
    assert!(served > 5_000, "too few to prove anything: {served}");
}

#[test]
fn what_changes_the_session_is_read_for_itself() {
    let shapes = Shapes::default();
    for sql in [
        "SET search_path = 'a'",
        "SELECT set_config('search_path', 'a', false)",
        "SELECT 1; SELECT 2",
        "BEGIN",
        "PREPARE q AS SELECT 1",
        "EXPLAIN SELECT 1",
        "COPY t FROM STDIN",
        "",
    ] {
        for _ in 0..2 {
            assert!(shapes.find(sql.as_bytes(), true, ROOM).is_none(), "{sql}");
        }
    }
}

#[test]
fn the_least_recently_used_gives_way() {
    let shapes = Shapes::default();
    let three = Room { shapes: 3, ..ROOM };
    let find = |sql: &str, room| shapes.find(sql.as_bytes(), true, room).expect("a query");
    for sql in ["SELECT a FROM t", "SELECT b FROM t", "SELECT c FROM t"] {
        find(sql, three);
    }
    let uses = |sql: &str| find(sql, three).entry.uses.get();
    assert_eq!(uses("select a from t;"), 2);
    find("SELECT d FROM t", three);
    assert_eq!(shapes.size().0, 3);
    assert_eq!(uses("SELECT a FROM t"), 3);
    assert_eq!(uses("SELECT b FROM t"), 1, "it gave way");
    let small = Room {
        bytes: 10_000,
        ..ROOM
    };
    for at in 0..100 {
        find(&format!("SELECT c{at} FROM t"), small);
        assert!(shapes.size().1 <= 10_000);
    }
    assert!((1..5).contains(&shapes.size().0));
}

#[test]
fn a_shape_is_shown_without_any_value() {
    let shapes = Shapes::default();
    let sql = "SELECT 'secret', 42, $1, B'101' FROM t WHERE a = 'hidden' AND b=7 LIMIT 3";
    for _ in 0..2 {
        shapes.find(sql.as_bytes(), true, ROOM).expect("a query");
    }
    let views = shapes.views();
    let [view] = views.as_slice() else {
        panic!("{views:?}")
    };
    assert_eq!(
        view.shape,
        "select ? , ? , $1 , ? from t where a = ? and b = ? limit ?"
    );
    assert_eq!((view.uses, view.plan), (2, ""));
}
