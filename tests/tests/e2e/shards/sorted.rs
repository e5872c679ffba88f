//! Queries whose rows the shards sort: they come in the order and the number that one PostgreSQL gives, and none of
//! them is held back to be sorted.

use super::stage::{LIMIT, Stage, extended, owner, say, send};
use mothership_tests::message::Format;
use mothership_tests::{Shards, Wire, message};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// With this nothing can be gathered: what is answered has been merged as it came.
const TABLES: &str = r#"
[[table]]
name = "things"
key = ["id"]
key_type = ["int8"]

[limits]
gathered_rows = 1
"#;

const DEFINITIONS: [&str; 3] = [
    "CREATE DOMAIN small AS smallint",
    "CREATE TABLE things (id int8 PRIMARY KEY, a int, s small, n numeric, m numeric(12,3), f float8, r real, b bool, \
     t text, c text COLLATE \"C\", p char(5) COLLATE \"C\", v varchar(9) COLLATE \"C\", y bytea, u uuid, d date, ts timestamp, \
     tz timestamptz, i interval, w time, o oid, mo money)",
    "INSERT INTO things SELECT g, \
     CASE WHEN g % 7 <> 0 THEN g * 37 % 11 - 5 END, (g % 5)::smallint, \
     (ARRAY['NaN', '-Infinity', 'Infinity', '0', '-0.00', '1.0', '1.00', '-1', '1e-20', '12345678901234567890.5', NULL])[1 + g % 11]::numeric, \
     g * 17 % 23 / 8.0 - 1, \
     (ARRAY['NaN', '-Infinity', 'Infinity', '0', '-0', '1.5', '1e308', '-1e-300', NULL])[1 + g % 9]::float8, \
     (g * 29 % 31)::real / 3, CASE WHEN g % 3 <> 0 THEN g % 2 = 0 END, \
     'x' || g % 4, (ARRAY['a', 'B', 'é', '', 'ab', 'A b', NULL])[1 + g % 7], 'p' || repeat(' ', g % 3), \
     chr(97 + g * 11 % 13), decode(md5((g % 6)::text), 'hex'), md5((g % 8)::text)::uuid, \
     (ARRAY['infinity', '-infinity', '0044-03-15 BC', '2024-02-29', NULL])[1 + g % 5]::date, \
     timestamp '2000-01-01' + (g * 7919 % 40) * interval '1 day', \
     (ARRAY['infinity', '4714-11-24 00:00+00 BC', '1999-12-31 23:59:59.999999+05', NULL])[1 + g % 4]::timestamptz, \
     (ARRAY['1 mon', '30 days', '720 hours', '-1 us', '1 year -12 mons', NULL])[1 + g % 6]::interval, \
     time '12:00' + g * interval '7 min', (g::int8 * 2147483647 % 4294967291)::oid, (g * 13 % 19)::int::money \
     FROM generate_series(1, 60) g",
];

fn both() -> (Stage, Shards) {
    let stage = Stage::bare(TABLES);
    let one = Shards::new(1);
    let mut wire = stage.wire();
    for sql in &DEFINITIONS[..2] {
        let said = say(&mut wire, sql);
        assert!(said[0].starts_with("CommandComplete"), "{sql}: {said:?}");
        one.sql(0, sql);
    }
    one.sql(0, DEFINITIONS[2]);
    for shard in 0..3 {
        let ids: Vec<i64> = (1..=60).filter(|id| owner(*id) == shard).collect();
        let mine = format!("unnest(ARRAY{ids:?}::int[]) g");
        stage.shards.sql(
            shard,
            &DEFINITIONS[2].replace("generate_series(1, 60) g", &mine),
        );
    }
    (stage, one)
}

/// Statements with an order for every row, so that answers are equal line by line.
const STATEMENTS: &[&str] = &[
    "SELECT * FROM things ORDER BY id",
    "SELECT id, a FROM things ORDER BY a, id",
    "SELECT id FROM things ORDER BY a DESC, id DESC",
    "SELECT id FROM things ORDER BY a NULLS FIRST, s DESC NULLS LAST, id",
    "SELECT n, id FROM things ORDER BY n, id",
    "SELECT n, id FROM things ORDER BY n DESC, id",
    "SELECT id, m FROM things ORDER BY m, id",
    "SELECT id, f FROM things ORDER BY f, id DESC",
    "SELECT id, r, b FROM things ORDER BY b DESC, r, id",
    "SELECT id, c FROM things ORDER BY c, id",
    "SELECT id, t FROM things ORDER BY t COLLATE \"C\" DESC, id",
    "SELECT id, p, v FROM things ORDER BY p, v, id",
    "SELECT y, u, id FROM things ORDER BY y, u DESC, id",
    "SELECT d, id FROM things ORDER BY d, id",
    "SELECT ts, id FROM things ORDER BY ts DESC, id",
    "SELECT tz, id FROM things ORDER BY tz, id",
    "SELECT i, id FROM things ORDER BY i, id",
    "SELECT w, o, mo FROM things ORDER BY mo, o, w",
    "SELECT id AS a, a AS id FROM things ORDER BY a",
    "SELECT a AS x FROM things ORDER BY x, things.id",
    "SELECT *, id + 1 FROM things ORDER BY 1",
    "SELECT t, c FROM things ORDER BY a + s, -n, id",
    "SELECT id FROM things WHERE a > 0 ORDER BY id LIMIT 5",
    "SELECT id FROM things ORDER BY a, id LIMIT 7 OFFSET 9",
    "SELECT id FROM things ORDER BY id OFFSET 55",
    "SELECT id FROM things ORDER BY id OFFSET 100",
    "SELECT id FROM things ORDER BY id LIMIT 0",
    "SELECT id FROM things ORDER BY id LIMIT 9223372036854775807 OFFSET 58",
    "SELECT id FROM things ORDER BY id LIMIT NULL",
    "SELECT id FROM things ORDER BY id LIMIT ALL OFFSET 57",
    "SELECT id FROM things ORDER BY id FETCH FIRST 3 ROWS ONLY",
    "SELECT a FROM things ORDER BY a FETCH FIRST 3 ROWS WITH TIES",
    "SELECT a FROM things ORDER BY a DESC OFFSET 2 FETCH NEXT 9 ROWS WITH TIES",
    "SELECT DISTINCT a FROM things ORDER BY a",
    "SELECT DISTINCT a, b FROM things ORDER BY b, a DESC LIMIT 5 OFFSET 1",
    "SELECT DISTINCT c, 7, t FROM things ORDER BY c DESC, t COLLATE \"C\"",
    "SELECT DISTINCT i FROM things WHERE i > '1 day' ORDER BY i LIMIT 0",
    "SELECT DISTINCT ON (a) a, id FROM things ORDER BY a, id",
    "SELECT DISTINCT ON (b, a) a, b, id FROM things ORDER BY a DESC, b, id DESC LIMIT 6",
    "SELECT DISTINCT ON (2) id, s FROM things ORDER BY s, id",
    "SELECT DISTINCT ON (a, id) a, id FROM things ORDER BY a, a, id",
    "SELECT DISTINCT ON (a, b) a, b, id FROM things ORDER BY a, a DESC, b, id",
    "SELECT a FROM things ORDER BY a, a FETCH FIRST 3 ROWS WITH TIES",
    "SELECT x.id FROM things x JOIN things y ON x.id = y.id WHERE y.a < 3 ORDER BY y.a, x.id",
    "SELECT id, unnest(ARRAY[id, -id]) FROM things ORDER BY id LIMIT 5",
    "SELECT id FROM things WHERE ts < now() ORDER BY id LIMIT 2",
    "SELECT id FROM things WHERE id IN (3, 1, 2, 40) ORDER BY id DESC",
    "SELECT id FROM things WHERE false ORDER BY id",
    "SELECT id FROM things WHERE id = 5 ORDER BY a",
    "SELECT FROM things ORDER BY id LIMIT 2",
    // Errors of PostgreSQL itself.
    "SELECT nothing FROM things ORDER BY id",
    "SELECT id FROM things WHERE a = 'x' ORDER BY id",
    "SELECT id FROM things ORDER BY a LIMIT 'x'",
    "SELECT 1 / (id - 60) FROM things WHERE id = 60 OR id = 1 ORDER BY id DESC",
];

fn compare(asks: impl Fn(&mut Wire, &str) -> Vec<String>) {
    compare_each(STATEMENTS, asks);
}

fn compare_each(statements: &[&str], asks: impl Fn(&mut Wire, &str) -> Vec<String>) {
    let (stage, one) = both();
    let mut ours = stage.wire();
    let mut theirs = Wire::login(&one.endpoint(0));
    theirs.set_limit(LIMIT);
    let mut wrong = Vec::new();
    for sql in statements {
        let (found, wanted) = (asks(&mut ours, sql), asks(&mut theirs, sql));
        if found != wanted {
            wrong.push(format!(
                "{sql}\n  router:     {found:?}\n  postgresql: {wanted:?}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        statements.len(),
        wrong.join("\n")
    );
}

#[test]
fn sorted_rows_of_several_shards_are_those_of_one_postgresql() {
    compare(say);
}

#[test]
fn in_the_extended_protocol_too() {
    compare(|wire, sql| send(wire, &extended(sql, &[], &[])));
}

/// In which order ties come is left open.
#[test]
fn ties_are_those_of_the_statement_though_shards_sort_by_more() {
    let in_any_order = |wire: &mut Wire, sql: &str| {
        let mut said = say(wire, sql);
        said.sort();
        said
    };
    compare_each(
        &[
            "SELECT DISTINCT s, id FROM things ORDER BY 1 FETCH FIRST 2 ROWS WITH TIES",
            "SELECT DISTINCT s, id FROM things ORDER BY s DESC NULLS LAST FETCH NEXT 1 ROWS WITH TIES",
            "SELECT DISTINCT ON (s, id) s, id, a FROM things ORDER BY s FETCH FIRST 3 ROWS WITH TIES",
        ],
        in_any_order,
    );
}

#[test]
fn in_a_transaction_too() {
    compare(|wire, sql| {
        say(wire, "BEGIN");
        let said = say(wire, sql);
        say(wire, "ROLLBACK");
        said
    });
}

#[test]
fn a_portal_of_sorted_rows_is_fetched_in_parts() {
    for parts in [&[1, 1, 7, 0, 0][..], &[7; 12], &[100, 3], &[3, 1000]] {
        compare(|wire, sql| {
            let mut messages = vec![message::parse("", sql, &[]), message::bind_text(&[])];
            messages.extend(parts.iter().map(|rows| message::execute("", *rows)));
            messages.push(message::sync());
            send(wire, &messages)
        });
    }
}

/// Equal values of these look the same, so that it does not matter which of them is shown.
const SAFE: [&str; 16] = [
    "a", "s", "m", "b", "c", "v", "y", "u", "d", "ts", "tz", "w", "o", "mo", "r", "id",
];
/// These do not, or need more words.
const ODD: [&str; 6] = ["n", "f", "i", "p", "t COLLATE \"C\"", "a * s - id"];

/// Random statements with an order for every row.
fn random(seed: u64, count: usize) -> Vec<String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut statements = Vec::new();
    for _ in 0..count {
        let number = rng.random_range(1..4);
        let columns: Vec<&str> = SAFE.sample(&mut rng, number).copied().collect();
        let odd = ODD.choose(&mut rng).unwrap();
        let mut by = |column: &str| {
            let direction = ["", " ASC", " DESC"].choose(&mut rng).unwrap();
            let nulls = ["", "", " NULLS FIRST", " NULLS LAST"]
                .choose(&mut rng)
                .unwrap();
            format!("{column}{direction}{nulls}")
        };
        let all: Vec<String> = columns.iter().map(|column| by(column)).collect();
        let (list, all) = (columns.join(", "), all.join(", "));
        let id = by("id");
        let odd = by(odd);
        let filter = [
            "",
            "",
            "WHERE a > -2",
            "WHERE b",
            "WHERE id IN (3, 14, 15, 9, 26)",
            "WHERE id < 0",
        ];
        let from = format!("FROM things {}", filter.choose(&mut rng).unwrap());
        let (limit, offset) = (rng.random_range(0..30), rng.random_range(0..12));
        let end = match rng.random_range(0..4) {
            0 => String::new(),
            1 => format!(" LIMIT {limit}"),
            2 => format!(" LIMIT {limit} OFFSET {offset}"),
            _ => format!(" OFFSET {offset} FETCH FIRST {limit} ROWS ONLY"),
        };
        statements.push(match rng.random_range(0..5) {
            0 => format!("SELECT DISTINCT {list} {from} ORDER BY {all}{end}"),
            1 => format!("SELECT DISTINCT ON ({list}) {list}, id AS x {from} ORDER BY {all}, {id}{end}"),
            2 => format!(
                "SELECT {list} {from} ORDER BY {all} OFFSET {offset} FETCH NEXT {limit} ROWS WITH TIES"
            ),
            3 => format!("SELECT * {from} ORDER BY {odd}, {all}, {id}{end}"),
            _ => format!("SELECT {list}, t {from} ORDER BY {all}, {odd}, {id}{end}"),
        });
    }
    statements
}

#[test]
#[ignore = "long"]
fn random_sorted_statements_are_those_of_one_postgresql() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number("SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let count = number("COUNT").unwrap_or(300);
    println!("SEED={seed} COUNT={count}");
    let statements = random(
        seed,
        usize::try_from(count).expect("a number of statements"),
    );
    let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
    compare_each(&statements, say);
    compare_each(&statements, |wire, sql| {
        let binary = message::bind("", "", Format::Text, &[], Format::Binary);
        let parse = message::parse("", sql, &[]);
        let (some, all) = (message::execute("", 5), message::execute("", 0));
        send(
            wire,
            &[parse, binary, some.clone(), some, all, message::sync()],
        )
    });
}
