//! How fast a COPY stream is divided by key: bytes a second, rows copied to their shards included.
//!
//! `cargo bench -p mothership-benches --bench copy`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mothership_copy::{CopyOptions, KeyColumn, Piece, RowKey, Rules, Splitter};
use mothership_shardmap::{KeyType, TextContext, slot};

const SHARDS: usize = 3;
/// As libpq and most drivers fill a CopyData.
const BODY: usize = 8192;

fn divide(options: &CopyOptions, stream: &[u8], out: &mut [Vec<u8>; SHARDS]) {
    let rules = Rules {
        columns: 4,
        key: vec![KeyColumn {
            name: "id".into(),
            position: 0,
            key_type: KeyType::Int8,
            typmod: -1,
        }],
        context: TextContext::UTC,
        major_version: 15,
        row_limit: 1 << 30,
    };
    let mut splitter = Splitter::new(options, rules).expect("the options are known");
    for body in stream.chunks(BODY) {
        let emit = |piece: Piece<'_>| {
            let Piece::Row(row) = piece else { return };
            let RowKey::Values(key) = row.key else { return };
            out[usize::from(slot(key).0) % SHARDS].extend_from_slice(row.bytes);
        };
        splitter.feed(body, emit).expect("the stream is whole");
    }
}

fn rows(line: impl Fn(u64) -> String) -> Vec<u8> {
    (0..100_000)
        .map(|i| line(i * 2_654_435_761 % 10_000_000))
        .collect::<String>()
        .into_bytes()
}

fn copy(criterion: &mut Criterion) {
    let streams = [
        (
            "text",
            "",
            rows(|id| format!("{id}\t2024-01-02 03:04:05.678\tsome words here {id}\t9.99\n")),
        ),
        (
            "csv",
            "CSV",
            rows(|id| format!("{id},2024-01-02 03:04:05.678,some words here {id},9.99\n")),
        ),
        (
            "csv quoted",
            "CSV",
            rows(|id| format!("\"{id}\",\"2024-01-02\",\"some \"\"words\"\" {id}\",\"9.99\"\n")),
        ),
    ];
    let mut group = criterion.benchmark_group("copy");
    for (name, options, stream) in streams {
        let sql = format!("COPY t FROM STDIN {options}");
        let options = CopyOptions::parse(sql.as_bytes(), true).expect("the options are known");
        let mut out = [const { Vec::new() }; SHARDS];
        group.throughput(Throughput::Bytes(stream.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.iter_mut().for_each(Vec::clear);
                divide(&options, &stream, &mut out);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, copy);
criterion_main!(benches);
