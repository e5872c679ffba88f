//! What a sample recognises is what the lexer reads.

use super::super::shaped::has_only_plain_tokens;
use super::*;
use crate::tests::vary::{statements, vary};
use mothership_sql::shape::{Scratch, shape};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn scratch() -> Scratch {
    Scratch::new(8 * 1024, 1024)
}

/// The sample of a text, if it has one.
fn sample(sql: &str, strings: bool) -> Option<Sample> {
    let mut scratch = scratch();
    let shape = shape(sql.as_bytes(), strings, &mut scratch)?;
    let tame = has_only_plain_tokens(sql.as_bytes(), &shape, strings);
    tame.then(|| Sample::of(sql.as_bytes(), strings, &shape))?
}

/// Whether the sample recognises the text, after a look whether it is right about it.
fn recognises(sample: &Sample, origin: &str, sql: &str, strings: bool) -> bool {
    let mut found = Found::new();
    let Some(span) = sample.read(sql.as_bytes(), strings, &mut found) else {
        return false;
    };
    let (mut one, mut other) = (scratch(), scratch());
    let own = shape(sql.as_bytes(), strings, &mut one).expect(sql);
    let its = shape(origin.as_bytes(), strings, &mut other).expect(origin);
    assert_eq!(
        (own.hash, own.text),
        (its.hash, its.text),
        "{origin} | {sql}"
    );
    assert_eq!((own.literals, own.span), (&found[..], span), "{sql}");
    assert!(
        has_only_plain_tokens(sql.as_bytes(), &own, strings),
        "{sql}"
    );
    true
}

#[test]
fn a_text_with_other_literals_is_recognised() {
    for (origin, same, others) in [
        (
            "SELECT a FROM t WHERE b = 1;",
            &["SELECT a FROM t WHERE b = 2147483647;"][..],
            &[
                "SELECT a FROM t WHERE b = 2147483648;",
                "SELECT a FROM t WHERE b = 1.5;",
                "SELECT a FROM t WHERE b = 1e5;",
                "SELECT a FROM t WHERE b = 0x1;",
                "SELECT a FROM t WHERE b = 1_0;",
                "SELECT a FROM t WHERE b = '1';",
                "SELECT a FROM t WHERE b = -1;",
                "SELECT a FROM t WHERE b = 1",
                "SELECT a FROM t WHERE b = ;",
                "SELECT a FROM t WHERE b = 1; ",
                "SELECT a FROM t WHERE c = 1;",
                "select a FROM t WHERE b = 1;",
            ][..],
        ),
        (
            " UPDATE t SET a = 'x', b = 'yy' WHERE c IN (1,2) ",
            &[
                " UPDATE t SET a = '', b = 'Peter' WHERE c IN (1000000,0) ",
                " UPDATE t SET a = '2026-11-20 10:00:00', b = 'a.b@c' WHERE c IN (12,2) ",
            ],
            &[
                " UPDATE t SET a = 'it''s', b = 'yy' WHERE c IN (1,2) ",
                " UPDATE t SET a = 'x\\', b = 'yy' WHERE c IN (1,2) ",
                " UPDATE t SET a = 'ž', b = 'yy' WHERE c IN (1,2) ",
                " UPDATE t SET a = 'x--', b = 'yy' WHERE c IN (1,2) ",
                " UPDATE t SET a = '/*', b = 'yy' WHERE c IN (1,2) ",
                " UPDATE t SET a = 'operator', b = 'yy' WHERE c IN (1,2) ",
                " UPDATE t SET a = 'x', b = 'yy' WHERE c IN (1,2,3) ",
                " UPDATE t SET a = E'x', b = 'yy' WHERE c IN (1,2) ",
                " UPDATE t SET a = 'x', b = 'yy",
            ],
        ),
        ("VALUES (1)", &["VALUES (2)"], &["VALUES (2) ", "VALUES (2"]),
        ("SELECT 1", &["SELECT 1"], &["SELECT 2"]),
    ] {
        let known = sample(origin, true).expect(origin);
        for sql in same {
            assert!(recognises(&known, origin, sql, true), "{origin} | {sql}");
        }
        for sql in others {
            assert!(!recognises(&known, origin, sql, true), "{origin} | {sql}");
        }
        assert!(!recognises(&known, origin, origin, false));
    }
}

#[test]
fn texts_with_other_literals_than_plain_ones_are_no_samples() {
    for sql in [
        "SELECT a FROM t WHERE b = 1.5",
        "SELECT a FROM t WHERE b = E'x'",
        "SELECT a FROM t WHERE b = $$x$$",
        "SELECT a FROM t WHERE b = 'it''s'",
    ] {
        assert!(sample(sql, true).is_none(), "{sql}");
    }
}

#[test]
fn whatever_a_sample_recognises_has_its_shape() {
    let seed: u64 = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| rand::rng().random());
    println!("SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut recognised = 0;
    let mut refused = 0;
    for statement in statements() {
        for strings in [true, false] {
            let origin = vary(&mut rng, &statement);
            let Some(known) = sample(&origin, strings) else {
                continue;
            };
            for _ in 0..40 {
                let sql = damaged(&mut rng, &origin);
                match recognises(&known, &origin, &sql, strings) {
                    true => recognised += 1,
                    false => refused += 1,
                }
            }
        }
    }
    println!("{recognised} texts recognised, {refused} not");
    assert!(
        recognised > 1_000,
        "too few to prove anything: {recognised}"
    );
}

/// The text with some of its digits, and of the bytes in and around its literals, replaced.
fn damaged(rng: &mut StdRng, sql: &str) -> String {
    const BYTES: &[u8] = b"0123456789012345678901234567890123456789'\\-*/pPoOeExX_.$ \n;,()ab&u";
    let mut bytes = sql.as_bytes().to_vec();
    let places: Vec<usize> = (0..bytes.len())
        .filter(|&at| bytes[at].is_ascii_digit() || bytes[at] == b'\'')
        .collect();
    if places.is_empty() {
        return sql.to_owned();
    }
    for _ in 0..rng.random_range(1..4) {
        let at = places[rng.random_range(0..places.len())].min(bytes.len());
        let byte = BYTES[rng.random_range(0..BYTES.len())];
        match rng.random_range(0..3) {
            0 if at < bytes.len() => bytes[at] = byte,
            1 if at < bytes.len() => {
                bytes.remove(at);
            }
            _ => bytes.insert((at + rng.random_range(0..2)).min(bytes.len()), byte),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| sql.to_owned())
}
