//! What finding the slot of a key costs: a value in text or binary form is read, brought into one form, and hashed.
//!
//! `cargo bench -p mothership-benches --bench hashing`

use criterion::{Criterion, criterion_group, criterion_main};
use mothership_shardmap::{KeyBytes, KeyType, TextContext, slot};
use std::hint::black_box;

/// A type, a value of it as text, and in binary form.
const KEYS: [(&str, KeyType, &str, &[u8]); 5] = [
    (
        "int8",
        KeyType::Int8,
        "1234567890",
        &1_234_567_890i64.to_be_bytes(),
    ),
    (
        "text",
        KeyType::Text,
        "customer-0012345",
        b"customer-0012345",
    ),
    (
        "uuid",
        KeyType::Uuid,
        "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9fa",
        &0x0b1c_2d3e_4f50_6172_8394_a5b6_c7d8_e9fa_u128.to_be_bytes(),
    ),
    // One base-10000 digit of weight 0, positive, with two decimals; then 12 and 50.
    (
        "numeric",
        KeyType::Numeric,
        "12.50",
        &[0, 2, 0, 0, 0, 0, 0, 2, 0, 12, 0x13, 0x88],
    ),
    // Microseconds since 2000-01-01.
    (
        "timestamptz",
        KeyType::TimestampTz,
        "2024-02-29 12:34:56.789+00",
        &762_525_296_789_000i64.to_be_bytes(),
    ),
];

fn hashing(criterion: &mut Criterion) {
    let context = TextContext::UTC;
    for (name, key_type, text, binary) in KEYS {
        let of_text = |text: &str| -> KeyBytes {
            let key = key_type.from_text(text.as_bytes(), &context);
            key.expect("the text is of the type")
        };
        // OID 0: of the column's type.
        let of_binary = |value: &[u8]| -> KeyBytes {
            let key = key_type.from_binary(0, value, &context);
            key.expect("the value is of the type")
        };
        assert_eq!(
            of_text(text).as_bytes(),
            of_binary(binary).as_bytes(),
            "{name}"
        );
        let key = of_text(text);
        let mut group = criterion.benchmark_group(format!("hashing, {name}"));
        group.bench_function("slot", |bencher| {
            bencher.iter(|| slot(std::slice::from_ref(black_box(&key))));
        });
        group.bench_function("text", |bencher| {
            bencher.iter(|| slot(&[of_text(black_box(text))]));
        });
        group.bench_function("binary", |bencher| {
            bencher.iter(|| slot(&[of_binary(black_box(binary))]));
        });
        group.finish();
    }
}

criterion_group!(benches, hashing);
criterion_main!(benches);
