//! Does the router compare two values as PostgreSQL does?
//!
//! For every type that the planner lets it compare (`mothership_merge::order::ORDERS`), PostgreSQL itself ranks random
//! values and all the odd ones, as ORDER BY would, and the router compares each pair of them in binary form: at least
//! COUNT pairs of each type, by SEED; TYPE asks for one alone. See `make merge-proof`.

#![allow(clippy::unwrap_used)] // A proof that cannot go on has nothing better than to say where.

use mothership_merge::order::{ORDERS, Ordered};
use mothership_tests::proof::{self, Verdict, number};
use mothership_tests::{Shards, connect};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::error::Error;
use std::process::ExitCode;
use tokio_postgres::types::{FromSql, Type};

/// Values that are ranked together.
const TOGETHER: usize = 300;

/// A value in its binary form.
struct Raw(Vec<u8>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn main() -> ExitCode {
    let seed = proof::seed();
    let count = number("COUNT", 1_000_000);
    let only = std::env::var("TYPE").unwrap_or_default();
    let mut rng = StdRng::seed_from_u64(seed);
    let server = Shards::new(1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut verdict = Verdict::default();
    let asked = ORDERS
        .iter()
        .filter(|known| only.is_empty() || only == known.name);
    for known in asked {
        let (mut pairs, mut equal, mut wrong) = (0, 0, Vec::new());
        while pairs < count {
            let values: Vec<String> = (0..TOGETHER).map(|_| value(known.name, &mut rng)).collect();
            let ranked = runtime.block_on(ranked(&server, known, &values));
            for (a, a_rank) in &ranked {
                for (b, b_rank) in &ranked {
                    pairs += 1;
                    equal += u64::from(a_rank == b_rank);
                    let found = known.order.compare(&a.0, &b.0);
                    if found != Some(a_rank.cmp(b_rank)) {
                        wrong.push(format!("{:02x?} {:02x?}: {found:?}", a.0, b.0));
                    }
                }
            }
        }
        wrong.iter().take(5).for_each(|pair| println!("  {pair}"));
        println!("{}: {pairs} pairs, {equal} of them equal", known.name);
        verdict.claim(
            wrong.is_empty(),
            &format!("wrong pairs of {}", known.name),
            wrong.len(),
        );
    }
    verdict.exit()
}

/// The values as PostgreSQL reads them, each with its rank in an ORDER BY.
async fn ranked(server: &Shards, known: &Ordered, values: &[String]) -> Vec<(Raw, i64)> {
    let client = connect(&server.endpoint(0)).await;
    let collate = if known.needs_bytes {
        " COLLATE \"C\""
    } else {
        ""
    };
    let sql = format!(
        "SELECT v, dense_rank() OVER (ORDER BY v{collate}) FROM (SELECT x::{} AS v FROM unnest($1::text[]) x) y",
        known.name
    );
    let rows = client.query(&sql, &[&values]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// A value as a text: one of the odd ones, or a random one that is often near to others.
fn value(type_name: &str, rng: &mut StdRng) -> String {
    let odd: &[&str] = match type_name {
        "boolean" => &["true", "false"],
        "smallint" => &["-32768", "-1", "0", "1", "32767"],
        "integer" => &["-2147483648", "-1", "0", "1", "2147483647"],
        "bigint" => &[
            "-9223372036854775808",
            "-1",
            "0",
            "1",
            "9007199254740993",
            "9223372036854775807",
        ],
        "oid" => &["0", "1", "2147483647", "2147483648", "4294967295"],
        "money" => &[
            "-92233720368547758.08",
            "0",
            "-0.01",
            "0.01",
            "92233720368547758.07",
        ],
        "real" => &[
            "NaN",
            "Infinity",
            "-Infinity",
            "0",
            "-0",
            "1e-45",
            "-1e-45",
            "3.4028235e38",
            "0.1",
        ],
        "double precision" => &[
            "NaN",
            "Infinity",
            "-Infinity",
            "0",
            "-0",
            "5e-324",
            "-5e-324",
            "1.7976931348623157e308",
            "0.1",
            "9007199254740993",
        ],
        "numeric" => &[
            "NaN",
            "Infinity",
            "-Infinity",
            "0",
            "0.000",
            "-0",
            "1",
            "1.0",
            "1.000000000000000000000",
            "-1",
            "10",
            "10.00",
            "1e-1000",
            "-1e-1000",
            "1e1000",
            "-1e1000",
            "1e131071",
            "9999",
            "10000",
            "9999.9999",
            "10000.0001",
            "0.0001",
            "0.00009999",
            "9007199254740993",
            "9007199254740992",
            "-9999.00010000",
        ],
        "date" => &[
            "infinity",
            "-infinity",
            "4714-11-24 BC",
            "0001-12-31 BC",
            "0001-01-01",
            "2000-01-01",
            "5874897-12-31",
        ],
        "time" => &["00:00", "24:00", "23:59:59.999999", "12:00"],
        "timestamp" => &[
            "infinity",
            "-infinity",
            "4714-11-24 00:00:00 BC",
            "0001-12-31 23:59:59.999999 BC",
            "2000-01-01",
            "294276-12-31 23:59:59.999999",
        ],
        "timestamptz" => &[
            "infinity",
            "-infinity",
            "4714-11-24 00:00:00+00 BC",
            "2000-01-01 00:00+00",
            "2000-01-01 05:00+05",
            "294276-12-31 23:59:59.999999+00",
        ],
        "interval" => &[
            "0",
            "1 mon",
            "30 days",
            "720 hours",
            "1 year",
            "360 days",
            "12 mons",
            "1 day",
            "24 hours",
            "-1 mon 30 days",
            "-1 us",
            "178000000 years",
            "-178000000 years",
            "2147483647 days",
            "-2147483648 days 1 us",
        ],
        "uuid" => &[
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ],
        "macaddr" => &[
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:ff:ff:ff",
            "00:00:01:00:00:00",
        ],
        "bytea" => &["", "\\x00", "\\x0000", "\\xff", "\\x80", "\\x7f"],
        "\"char\"" => &["", "a", "A", "~", "\\200", "\\377"],
        _ => &[
            "",
            " ",
            "a",
            "A",
            "a ",
            "ab",
            "a b",
            "é",
            "e\u{301}",
            "ß",
            "Z",
            "~",
            "\u{10ffff}",
            "\u{ffff}",
            "a\t",
            "a\u{1f}",
        ],
    };
    if rng.random_ratio(1, 4) {
        return (*odd.choose(rng).unwrap()).to_owned();
    }
    let few = rng.random_bool(0.5);
    let small: i64 = if few {
        rng.random_range(-20..20)
    } else {
        rng.random_range(-40_000..40_000)
    };
    match type_name {
        "boolean" => rng.random_bool(0.5).to_string(),
        "smallint" => small.clamp(-32_768, 32_767).to_string(),
        "integer" if few => small.to_string(),
        "integer" => rng.random::<i32>().to_string(),
        "bigint" if few => small.to_string(),
        "bigint" => rng.random::<i64>().to_string(),
        "oid" if few => small.unsigned_abs().to_string(),
        "oid" => rng.random::<u32>().to_string(),
        "money" if few => format!("{}.{:02}", small, rng.random_range(0..100)),
        "money" => format!(
            "{}",
            rng.random_range(-90_000_000_000_000_000i64..90_000_000_000_000_000)
        ),
        "real" if few => format!("{}", small as f32 / 8.0),
        "real" => finite(f64::from(f32::from_bits(rng.random()))),
        "double precision" if few => format!("{}", small as f64 / 8.0),
        "double precision" => finite(f64::from_bits(rng.random())),
        "numeric" => numeric(rng),
        "date" => day(small),
        "time" => clock(rng),
        "timestamp" => at(small, &clock(rng)),
        "timestamptz" => {
            let zone = rng.random_range(-12..13);
            at(small, &format!("{}{zone:+03}", clock(rng)))
        }
        "interval" => format!(
            "{} mons {} days {} us",
            rng.random_range(-3..4),
            rng.random_range(-100..100),
            if few {
                small * 86_400_000_000
            } else {
                rng.random::<i64>() / 4
            }
        ),
        "uuid" => hex(rng, 16, few),
        "macaddr" => hex(rng, 6, few),
        "bytea" => {
            let length = rng.random_range(0..9);
            format!("\\x{}", hex(rng, length, few))
        }
        "\"char\"" => format!("\\{:03o}", rng.random_range(1..256)),
        _ => {
            const LETTERS: [char; 14] = [
                'a',
                'b',
                'A',
                'B',
                ' ',
                '_',
                '1',
                'é',
                'ß',
                '\u{301}',
                '\u{7f}',
                '\u{80}',
                '\u{e000}',
                '\u{1f600}',
            ];
            let length = rng.random_range(0..8);
            (0..length).map(|_| *LETTERS.choose(rng).unwrap()).collect()
        }
    }
}

fn finite(value: f64) -> String {
    if value.is_finite() {
        format!("{value:e}")
    } else {
        "NaN".to_owned()
    }
}

/// Digits before and behind the point, many of them zeros.
fn numeric(rng: &mut StdRng) -> String {
    let mut digits = |most: usize| -> String {
        let length = rng.random_range(0..most);
        (0..length)
            .map(|_| char::from(b'0' + [0, 0, 9, 1, 5][rng.random_range(0..5)]))
            .collect()
    };
    let (whole, fraction) = (digits(14), digits(14));
    let sign = if rng.random_bool(0.5) { "-" } else { "" };
    let exponent = match rng.random_range(0..8) {
        0 => format!("e{}", rng.random_range(-300..300)),
        _ => String::new(),
    };
    format!("{sign}{whole}0.{fraction}0{exponent}")
}

/// A day some days from the first of our era; before it, too.
fn day(number: i64) -> String {
    let year = number / 300;
    let (month, day) = (1 + number.rem_euclid(12), 1 + number.rem_euclid(28));
    let (year, era) = if year > 0 {
        (year, "")
    } else {
        (1 - year, " BC")
    };
    format!("{year:04}-{month:02}-{day:02}{era}")
}

/// The era stands behind the time.
fn at(number: i64, clock: &str) -> String {
    let day = day(number);
    match day.strip_suffix(" BC") {
        Some(day) => format!("{day} {clock} BC"),
        None => format!("{day} {clock}"),
    }
}

fn clock(rng: &mut StdRng) -> String {
    let micros = [0, 1, 999_999][rng.random_range(0..3)];
    format!(
        "{:02}:{:02}:{:02}.{micros:06}",
        rng.random_range(0..24),
        rng.random_range(0..60),
        rng.random_range(0..3)
    )
}

fn hex(rng: &mut StdRng, length: usize, few: bool) -> String {
    let byte = |rng: &mut StdRng| {
        if few {
            [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)]
        } else {
            rng.random::<u8>()
        }
    };
    (0..length).map(|_| format!("{:02x}", byte(rng))).collect()
}
