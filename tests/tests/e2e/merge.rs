//! Aggregates of parts, merged, against PostgreSQL's aggregate of the whole: the
//! same bytes in both formats.

use mothership_merge::{AggregateMerge, Aggregates, NumericSum};
use mothership_proto::backend::{Column, put_row, row_values};
use mothership_tests::{Shards, connect};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::{RngExt, seq::IndexedRandom};
use tokio_postgres::Client;

/// The aggregates of one column: SQL, type, function that sends it, merge.
const INTEGERS: [(&str, u32, &str, AggregateMerge); 10] = [
    ("count(*)", 20, "int8send", AggregateMerge::Count),
    ("count(b)", 20, "int8send", AggregateMerge::Count),
    ("sum(a)", 20, "int8send", AggregateMerge::SumBigint),
    ("sum(b)", 20, "int8send", AggregateMerge::SumBigint),
    ("sum(c)", 1700, "numeric_send", AggregateMerge::SumNumeric),
    ("sum(d)", 1700, "numeric_send", AggregateMerge::SumNumeric),
    ("min(a)", 21, "int2send", AggregateMerge::Min),
    ("max(b)", 23, "int4send", AggregateMerge::Max),
    ("min(c)", 20, "int8send", AggregateMerge::Min),
    ("max(c)", 20, "int8send", AggregateMerge::Max),
];

fn seed() -> u64 {
    let seed = std::env::var("SEED").map_or_else(|_| rand::random(), |s| s.parse().unwrap());
    println!("SEED={seed}");
    seed
}

type Values = Vec<Option<Vec<u8>>>;

/// One row of aggregates, each as text and as binary.
async fn ask(client: &Client, filter: &str) -> [Values; 2] {
    let texts = INTEGERS.map(|(sql, ..)| format!("convert_to(({sql})::text, 'UTF8')"));
    let binaries = INTEGERS.map(|(sql, _, send, _)| format!("{send}({sql})"));
    let list = [texts.join(", "), binaries.join(", ")].join(", ");
    let row = client
        .query_one(&format!("SELECT {list} FROM t {filter}"), &[])
        .await
        .unwrap();
    let part = |from: usize| (0..INTEGERS.len()).map(|i| row.get(from + i)).collect();
    [part(0), part(INTEGERS.len())]
}

#[tokio::test]
async fn merged_aggregates_are_the_bytes_of_postgres() {
    let mut rng = StdRng::seed_from_u64(seed());
    let shards = Shards::new(1);
    let client = connect(&shards.endpoint(0)).await;
    // 30,000 rows of four values, scales from 0 to 40, sizes from 10^-40 to 10^40.
    let share: f64 = rng.random_range(0.0..1.0);
    let sql = format!(
        "SELECT setseed({share}); CREATE UNLOGGED TABLE t AS SELECT \
         (random() * 65535 - 32768)::int2 AS a, \
         CASE WHEN random() < 0.9 THEN (random() * 4294967295 - 2147483648)::int4 END AS b, \
         (random() * 18446744073709549568 - 9223372036854774784)::int8 AS c, \
         CASE WHEN random() < 0.9 THEN \
           round((random() - 0.5)::numeric * 10::numeric ^ (random() * 80 - 40)::int, (random() * 40)::int) END AS d, \
         i, (random() * 1000)::int AS g FROM generate_series(1, 30000) i"
    );
    client.batch_execute(&sql).await.unwrap();
    for round in 0..60 {
        // Random parts of a random part of the rows; some are empty.
        let count = rng.random_range(1..8);
        let most = *[0, 3, 50, 1001].choose(&mut rng).unwrap();
        let mut rows = Vec::new();
        for part in 0..count {
            let filter = format!("WHERE g < {most} AND (i * 7919 + g) % {count} = {part}");
            rows.push(ask(&client, &filter).await);
        }
        let wanted = ask(&client, &format!("WHERE g < {most}")).await;
        for format in [0, 1] {
            let merges = INTEGERS.map(|(.., merge)| merge);
            let columns = INTEGERS.map(|(_, oid, ..)| Column {
                format: format as i16,
                ..Column::of("c", oid, 8)
            });
            let mut merged = Aggregates::new(&merges, &columns).unwrap();
            for row in &rows {
                let mut message = Vec::new();
                put_row(&mut message, row[format].iter().map(Option::as_deref));
                merged.row(&message[5..]).unwrap();
            }
            let mut message = Vec::new();
            merged.finish(count, &mut message).unwrap();
            let found = row_values(&message[5..]).unwrap();
            let wanted: Vec<_> = wanted[format].iter().map(Option::as_deref).collect();
            assert_eq!(
                found, wanted,
                "round {round} format {format} of {count}, g < {most}"
            );
        }
    }
}

#[tokio::test]
async fn numeric_sums_are_those_of_postgres_to_the_last_digit() {
    let mut rng = StdRng::seed_from_u64(seed());
    let shards = Shards::new(1);
    let client = connect(&shards.endpoint(0)).await;
    let mut numbers = 0;
    for round in 0..600 {
        let count = *[1, 2, 3, 10, 300, 1000].choose(&mut rng).unwrap();
        let values: Vec<String> = (0..count)
            .map(|_| numeric(&mut rng, round % 8 == 0))
            .collect();
        numbers += count;
        let sql = "WITH v AS (SELECT x::numeric AS n FROM unnest($1::text[]) x) SELECT sum(n)::text, numeric_send(sum(n)), \
                   array_agg(n::text), array_agg(numeric_send(n)) FROM v";
        let row = client.query_one(sql, &[&values]).await.unwrap();
        let (text, binary): (&str, Vec<u8>) = (row.get(0), row.get(1));
        let (texts, binaries): (Vec<&str>, Vec<Vec<u8>>) = (row.get(2), row.get(3));
        let mut sums = [NumericSum::new(), NumericSum::new()];
        texts
            .iter()
            .for_each(|text| sums[0].add_text(text.as_bytes()).unwrap());
        binaries
            .iter()
            .for_each(|bytes| sums[1].add_binary(bytes).unwrap());
        for sum in &sums {
            assert_eq!(
                String::from_utf8(sum.text().unwrap()).unwrap(),
                text,
                "{values:?}"
            );
            assert_eq!(sum.binary().unwrap(), binary, "{values:?}");
        }
    }
    println!("{numbers} numerics in 600 sums");
    assert!(numbers > 100_000);
}

/// Any numeric: of few digits that cancel out, of many, sometimes special.
fn numeric(rng: &mut StdRng, specials: bool) -> String {
    if specials && rng.random_bool(0.02) {
        return (*["NaN", "Infinity", "-Infinity"].choose(rng).unwrap()).into();
    }
    let longest = *[1, 4, 5, 20, 200].choose(rng).unwrap();
    let digits = |rng: &mut StdRng, count: usize| -> String {
        let fixed = rng
            .random_bool(0.5)
            .then(|| *['0', '9'].choose(rng).unwrap());
        (0..count)
            .map(|_| fixed.unwrap_or_else(|| char::from(rng.random_range(b'0'..=b'9'))))
            .collect()
    };
    let sign = if rng.random_bool(0.5) { "-" } else { "" };
    let (whole, scale) = (rng.random_range(1..=longest), rng.random_range(0..=longest));
    let whole = digits(rng, whole);
    match scale {
        0 => format!("{sign}{whole}"),
        scale => format!("{sign}{whole}.{}", digits(rng, scale)),
    }
}
