//! How fast the rows of several shards become one answer: rows a second.
//!
//! `sorted` takes rows that each shard has sorted, with the key before the client's columns, and passes them on in one
//! order; `aggregates` makes one row of one row from each shard.
//!
//! `cargo bench -p mothership-benches --bench merge`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mothership_merge::{AggregateMerge, Aggregates, Order, Shape, SortKey, SortedRows};
use mothership_proto::backend::Column;
use std::hint::black_box;

const SHARDS: usize = 3;
/// Rows of each shard.
const ROWS: usize = 10_000;

/// The body of a DataRow.
fn row(values: &[&[u8]]) -> Vec<u8> {
    let count = i16::try_from(values.len()).expect("a row is short");
    let mut body = count.to_be_bytes().to_vec();
    for value in values {
        let length = i32::try_from(value.len()).expect("values are short");
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(value);
    }
    body
}

/// Of each shard, sorted by the first value: whose row is the next is as good as random.
fn sorted_rows(key: impl Fn(u64) -> Vec<u8>) -> Vec<Vec<Vec<u8>>> {
    let all = ROWS as u64 * SHARDS as u64;
    let owner = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
    let mut shards = vec![Vec::new(); SHARDS];
    for n in 0..all {
        let body = row(&[&key(n), n.to_string().as_bytes(), b"some words of this row"]);
        shards[owner(n) as usize % SHARDS].push(body);
    }
    shards
}

fn merged(shards: &[Vec<Vec<u8>>], order: Order, out: &mut Vec<u8>) -> u64 {
    let key = SortKey {
        order,
        descending: false,
        nulls_first: false,
    };
    let shape = Shape {
        keys: vec![key],
        ..Shape::default()
    };
    let mut rows = SortedRows::new(shape, SHARDS);
    let mut next: Vec<_> = shards.iter().map(|rows| rows.iter()).collect();
    while let Some(shard) = rows.wants() {
        let done = match next[shard].next() {
            Some(body) => rows.row(body, out),
            None => rows.end(out),
        };
        done.expect("the rows are whole");
    }
    rows.sent()
}

fn sorted(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merge, sorted");
    let all = (ROWS * SHARDS) as u64;
    group.throughput(Throughput::Elements(all));
    for (name, order, shards) in [
        (
            "bigint",
            Order::Integer,
            sorted_rows(|n| n.to_be_bytes().to_vec()),
        ),
        (
            "text",
            Order::Bytes,
            sorted_rows(|n| format!("customer {n:08}").into_bytes()),
        ),
    ] {
        let mut out = Vec::new();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                assert_eq!(merged(black_box(&shards), order, &mut out), all);
            });
        });
    }
    group.finish();
}

fn aggregates(criterion: &mut Criterion) {
    const INT8: u32 = 20;
    const NUMERIC: u32 = 1700;
    let merges = [
        AggregateMerge::Count,
        AggregateMerge::SumNumeric,
        AggregateMerge::Min,
    ];
    let columns =
        [("count", INT8), ("sum", NUMERIC), ("min", INT8)].map(|(name, type_oid)| Column {
            type_oid,
            ..Column::text(name)
        });
    let bodies: Vec<_> = (1..=SHARDS)
        .map(|n| {
            let (count, sum) = (format!("{n}00123"), format!("{n}234567890.12"));
            row(&[count.as_bytes(), sum.as_bytes(), b"-17"])
        })
        .collect();
    let mut group = criterion.benchmark_group("merge, aggregates");
    group.throughput(Throughput::Elements(SHARDS as u64));
    let mut out = Vec::new();
    group.bench_function("count, sum, min", |bencher| {
        bencher.iter(|| {
            out.clear();
            let mut rows = Aggregates::new(&merges, &columns).expect("the columns fit");
            for body in &bodies {
                rows.row(black_box(body)).expect("the row is whole");
            }
            rows.finish(SHARDS, &mut out).expect("all have answered");
        });
    });
    group.finish();
}

criterion_group!(benches, sorted, aggregates);
criterion_main!(benches);
