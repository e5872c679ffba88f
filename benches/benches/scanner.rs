//! How fast texts are cut into tokens, and their shapes found: bytes a second.
//!
//! `tokens` is the lexer alone; `shape` finds what a text is but for its literals, with the hash that plans are kept by;
//! `like a sample` recognises a text that is written like one that was seen, which most are.
//!
//! `cargo bench -p mothership-benches --bench scanner`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mothership_plan::sample::{Found, Sample};
use mothership_sql::lexer::Lexer;
use mothership_sql::shape::{Scratch, shape};
use std::hint::black_box;

/// Room for any of the texts.
const TEXT: usize = 64 << 10;
const LITERALS: usize = 8 << 10;

fn texts() -> [(&'static str, String); 3] {
    let rows: Vec<_> = (0..500)
        .map(|n| format!("({n}, 'name of {n}', {n}.25)"))
        .collect();
    [
        (
            "point select",
            "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;".to_owned(),
        ),
        (
            "join",
            "SELECT c.name, o.id, o.total FROM customers c JOIN orders o ON o.customer_id = c.customer_id \
             WHERE c.customer_id = 7 AND o.status IN ('new', 'paid') /* report */ ORDER BY o.placed DESC LIMIT 10"
                .to_owned(),
        ),
        (
            "insert of 500 rows",
            format!("INSERT INTO items (id, name, price) VALUES {}", rows.join(", ")),
        ),
    ]
}

fn scanner(criterion: &mut Criterion) {
    for (name, text) in texts() {
        let sql = text.as_bytes();
        let mut group = criterion.benchmark_group(format!("scanner, {name}"));
        group.throughput(Throughput::Bytes(sql.len() as u64));
        group.bench_function("tokens", |bencher| {
            bencher.iter(|| Lexer::new(black_box(sql), true).count());
        });
        let mut scratch = Scratch::new(TEXT, LITERALS);
        group.bench_function("shape", |bencher| {
            bencher.iter(|| {
                let found = shape(black_box(sql), true, &mut scratch);
                found.expect("it has a shape").hash
            });
        });
        let found = shape(sql, true, &mut scratch).expect("it has a shape");
        // A long text, or one with decimals, is none that others are compared with.
        if let Some(sample) = Sample::of(sql, true, &found) {
            group.bench_function("like a sample", |bencher| {
                bencher.iter(|| {
                    let mut literals = Found::new();
                    let span = sample.read(black_box(sql), true, &mut literals);
                    span.expect("it is like itself")
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, scanner);
criterion_main!(benches);
