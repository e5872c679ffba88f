//! How fast messages are cut from a stream, and held against what a server owes: bytes a second.
//!
//! The streams are what a connection brings at once: the answers to pipelined reads, or rows of a large answer.
//!
//! `cargo bench -p mothership-benches --bench framing`

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mothership_proto::backend::tag;
use mothership_proto::frame::{self, Next};
use mothership_proto::ledger::{Audience, Ledger, Owed, Until};
use std::hint::black_box;

/// The longest message that is allowed.
const LIMIT: usize = 1 << 20;

/// A DataRow with one value.
fn row(out: &mut Vec<u8>, value: &[u8]) {
    frame::put(out, tag::DATA_ROW, |body| {
        body.extend_from_slice(&1i16.to_be_bytes());
        let length = i32::try_from(value.len()).expect("values are short");
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(value);
    });
}

/// The answer to a simple query with these rows, without its ReadyForQuery.
fn answer(rows: usize, width: usize) -> Vec<u8> {
    let mut out = Vec::new();
    // What describes the rows is not looked at here: one column.
    frame::put(&mut out, tag::ROW_DESCRIPTION, |body| {
        body.extend_from_slice(&1i16.to_be_bytes());
        frame::put_str(body, b"abalance");
        body.extend_from_slice(&[0; 18]);
    });
    for _ in 0..rows {
        row(&mut out, &vec![b'x'; width]);
    }
    frame::put(&mut out, tag::COMMAND_COMPLETE, |body| {
        frame::put_str(body, format!("SELECT {rows}").as_bytes());
    });
    out
}

fn count(stream: &[u8]) -> usize {
    let (mut rest, mut count) = (stream, 0);
    while let Ok(Next::Whole(frame)) = frame::next(rest, LIMIT) {
        rest = &rest[frame.bytes.len()..];
        count += 1;
    }
    assert!(rest.is_empty());
    count
}

fn framing(criterion: &mut Criterion) {
    for (name, rows, width) in [
        ("one short row", 1, 4),
        ("1000 rows of 100 bytes", 1_000, 100),
        ("16 rows of 8 KiB", 16, 8 << 10),
    ] {
        let stream = answer(rows, width);
        let mut group = criterion.benchmark_group(format!("framing, {name}"));
        group.throughput(Throughput::Bytes(stream.len() as u64));
        group.bench_function("cut", |bencher| bencher.iter(|| count(black_box(&stream))));
        group.bench_function("pass", |bencher| {
            let owing = || {
                let mut ledger = Ledger::default();
                ledger.push(Owed::Query(Audience::Client));
                ledger
            };
            bencher.iter_batched_ref(
                owing,
                |ledger| {
                    let passed = ledger.pass(Audience::Client, black_box(&stream), LIMIT, false);
                    assert!(passed.until == Until::Partial && passed.bytes == stream.len());
                },
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, framing);
criterion_main!(benches);
