//! COPY divided by key, against PostgreSQL: what three tables hold after the
//! divided streams is what one table holds after the whole stream, and what
//! PostgreSQL refuses whole is refused divided.

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt};
use mothership_copy::{
    CopyError, CopyOptions, CopyOut, KeyColumn, LineMap, Piece, RowKey, Rules, Splitter,
};
use mothership_shardmap::{Encoding, KeyBytes, KeyType, TextContext, TimeZone};
use mothership_tests::{Shards, connect};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::pin::pin;
use tokio_postgres::Client;

const SHARDS: usize = 3;
const TRIALS: u32 = 400;

/// Key columns: SQL type, key type, typmod, values as SQL literals.
const KEYS: [(&str, KeyType, i32, &[&str]); 14] = [
    (
        "int8",
        KeyType::Int8,
        -1,
        &["0", "-9223372036854775808", "7", "123456789012"],
    ),
    (
        "int4",
        KeyType::Int4,
        -1,
        &["0", "-5", "2147483647", "41", "42"],
    ),
    ("int2", KeyType::Int2, -1, &["0", "-32768", "12"]),
    ("text", KeyType::Text, -1, &[]),
    ("varchar", KeyType::Varchar, -1, &[]),
    ("varchar(40)", KeyType::Varchar, 44, &[]),
    ("varchar(3)", KeyType::Varchar, 7, &["", "ab ", "abc", "ü"]),
    (
        "numeric(6,2)",
        KeyType::Numeric,
        ((6 << 16) | 2) + 4,
        &["1.50", "-0.01", "1234"],
    ),
    (
        "uuid",
        KeyType::Uuid,
        -1,
        &[
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "00000000-0000-0000-0000-000000000000",
        ],
    ),
    (
        "date",
        KeyType::Date,
        -1,
        &["2024-02-29", "1999-12-31", "infinity"],
    ),
    (
        "timestamp",
        KeyType::Timestamp,
        -1,
        &["2024-02-29 12:34:56.789", "1970-01-01"],
    ),
    (
        "bytea",
        KeyType::Bytea,
        -1,
        &["\\x", "\\x00ff5c2e0a", "\\x61"],
    ),
    ("bool", KeyType::Bool, -1, &["t", "f"]),
    (
        "numeric",
        KeyType::Numeric,
        -1,
        &["0", "-1.50", "1e20", "NaN", "3.14159"],
    ),
];

/// What makes trouble in text and CSV.
const PIECES: &[&str] = &[
    "", "\\N", "\\.", "NULL", ",", "\"", "'", "\t", "\n", "\r", "\r\n", "\\", "a", "ü", "\\n", ";",
    "|", "nil", " ", "!", "\u{8}", "0", "\"\"", "\\\\", "\n\\.\n", "-", "\\x41", "\\101",
];

struct Trial {
    columns: Vec<(&'static str, &'static str)>,
    key: KeyColumn,
    values: &'static [&'static str],
    to: String,
    from: String,
    binary: bool,
    csv: bool,
}

fn quoted(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn nasty(rng: &mut StdRng) -> String {
    let count = rng.random_range(0..5);
    (0..count).map(|_| *PIECES.choose(rng).unwrap()).collect()
}

fn trial(rng: &mut StdRng) -> Trial {
    let (sql_type, key_type, typmod, values) = *KEYS.choose(rng).unwrap();
    let position = rng.random_range(0..3);
    let mut columns = vec![("v", "text"), ("w", "text")];
    columns.insert(position, ("k", sql_type));
    let key = KeyColumn {
        name: "k".into(),
        position,
        key_type,
        typmod,
    };
    let form = *["text", "text", "csv", "csv", "csv", "binary"]
        .choose(rng)
        .unwrap();
    let (to, from) = options(form, rng);
    Trial {
        columns,
        key,
        values,
        to,
        from,
        binary: form == "binary",
        csv: form == "csv",
    }
}

/// The options of COPY TO and of COPY FROM, sometimes in the old grammar.
fn options(form: &str, rng: &mut StdRng) -> (String, String) {
    if form == "binary" {
        let words = *["BINARY", "WITH (FORMAT binary)"].choose(rng).unwrap();
        return (words.into(), words.into());
    }
    let csv = form == "csv";
    let old = rng.random_bool(0.3);
    let delimiters: &[&str] = if csv {
        &[",", ";", "|", "\t", "\\"]
    } else {
        &["\t", "|", ",", "\"", "'", " "]
    };
    let delimiter = delimiters.choose(rng).unwrap();
    let quote = ["\"", "'", "!"].choose(rng).unwrap();
    let escape = *["\"", "\\", "'", quote, quote].choose(rng).unwrap();
    let nulls: &[&str] = if csv {
        &["", "nil", "\\N", "NULL", "-"]
    } else {
        &["\\N", "", "nil", "-"]
    };
    let null = nulls.choose(rng).unwrap();
    let null = if null.contains(delimiter) {
        "nil"
    } else {
        null
    };
    let mut both = vec![];
    let mut add = |generic: String, words: String| both.push(if old { words } else { generic });
    if csv {
        add("FORMAT csv".into(), "CSV".into());
        if rng.random_bool(0.7) {
            add(
                format!("QUOTE {}", quoted(quote)),
                format!("QUOTE AS {}", quoted(quote)),
            );
            add(
                format!("ESCAPE {}", quoted(escape)),
                format!("ESCAPE {}", quoted(escape)),
            );
        }
    }
    if csv || rng.random_bool(0.7) {
        let text = format!("DELIMITER {}", quoted(delimiter));
        add(text.clone(), text);
    }
    if rng.random_bool(0.6) {
        add(
            format!("NULL {}", quoted(null)),
            format!("NULL AS {}", quoted(null)),
        );
    }
    if rng.random_bool(0.15) {
        add("ENCODING 'LATIN1'".into(), "ENCODING 'LATIN1'".into());
    }
    let (mut to, mut from) = (both.clone(), both);
    let one = |list: &mut Vec<String>, generic: &str, words: &str| {
        list.push(if old { words } else { generic }.into());
    };
    match rng.random_range(0..4) {
        0 => {
            one(&mut to, "HEADER on", "HEADER");
            one(&mut from, "HEADER", "HEADER");
        }
        1 if !old => {
            one(&mut to, "HEADER 1", "");
            one(&mut from, "HEADER match", "");
        }
        _ => {}
    }
    if csv && rng.random_bool(0.3) {
        one(&mut to, "FORCE_QUOTE *", "FORCE QUOTE *");
    }
    if csv && rng.random_bool(0.3) {
        one(&mut from, "FORCE_NULL (k, v)", "FORCE NULL k, v");
    }
    if csv && rng.random_bool(0.3) {
        one(
            &mut from,
            "FORCE_NOT_NULL (k, \"w\")",
            "FORCE NOT NULL k, \"w\"",
        );
    }
    let written = |list: Vec<String>| match (old, list.is_empty()) {
        (_, true) => String::new(),
        (true, _) => list.join(" "),
        (false, _) => format!("WITH ({})", list.join(", ")),
    };
    let mut from = written(from);
    if rng.random_bool(0.1) {
        from += " WHERE w IS DISTINCT FROM 'a' AND v <> ''";
    }
    (written(to), from)
}

impl Trial {
    async fn prepare(&self, client: &Client, rng: &mut StdRng) {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|(n, t)| format!("{n} {t}"))
            .collect();
        let columns = columns.join(", ");
        let mut sql = String::new();
        for table in ["src", "ref", "d0", "d1", "d2"] {
            sql += &format!(
                "DROP TABLE IF EXISTS {table}; CREATE UNLOGGED TABLE {table} ({columns});"
            );
        }
        let nulls = rng.random_bool(0.1);
        for _ in 0..rng.random_range(0..60) {
            let values: Vec<String> = (self.columns.iter())
                .map(|(name, _)| match *name {
                    "k" if nulls && rng.random_bool(0.1) => "NULL".into(),
                    "k" if self.values.is_empty() => quoted(&nasty(rng)),
                    "k" => quoted(self.values.choose(rng).unwrap()),
                    _ if rng.random_bool(0.1) => "NULL".into(),
                    _ => quoted(&nasty(rng)),
                })
                .collect();
            sql += &format!("INSERT INTO src VALUES ({});", values.join(", "));
        }
        client
            .batch_execute(&sql)
            .await
            .unwrap_or_else(|e| panic!("{e}: {sql}"));
    }

    /// What a client might send instead of what the server wrote.
    fn disturb(&self, bytes: &mut Vec<u8>, rng: &mut StdRng) {
        if !self.binary && !self.csv && rng.random_bool(0.3) {
            let end: &[u8] = if rng.random_bool(0.5) { b"\r" } else { b"\r\n" };
            let lines: Vec<&[u8]> = bytes.split(|&b| b == b'\n').collect();
            *bytes = lines.join(end);
        }
        match rng.random_range(0..10) {
            0 if !self.binary => drop(bytes.pop()),
            1 if !self.binary => bytes.extend_from_slice(b"\\.\n"),
            2 if !self.binary => bytes.extend_from_slice(b"\\.\r\nand \"more\\"),
            3 if self.binary => bytes.truncate(bytes.len().saturating_sub(rng.random_range(1..4))),
            _ => {}
        }
        if rng.random_bool(0.5) {
            return;
        }
        const BYTES: &[u8] = b"\n\r\\.\"',;|!\tN0a-\0\x01\xff";
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..=bytes.len());
            let byte = *BYTES.choose(rng).unwrap();
            match rng.random_range(0..3) {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => bytes[at] = byte,
                _ if at < bytes.len() => drop(bytes.remove(at)),
                _ => {}
            }
        }
    }
}

fn shard_of(key: &[KeyBytes]) -> usize {
    let bytes = key.iter().flat_map(|k| k.as_bytes());
    let hash = bytes.fold(0xcbf2_9ce4u32, |h, b| {
        (h ^ u32::from(*b)).wrapping_mul(0x0100_0193)
    });
    (hash >> 8) as usize % SHARDS
}

/// The streams of the shards, and what was found on the way.
struct Divided {
    streams: Vec<Vec<u8>>,
    lines: LineMap,
    error: Option<CopyError>,
    refused: bool,
    declined: bool,
}

fn divide(bytes: &[u8], splitter: &mut Splitter, rng: &mut StdRng) -> Divided {
    let mut all = Divided {
        streams: vec![Vec::new(); SHARDS],
        lines: LineMap::new(SHARDS, 1000),
        error: None,
        refused: false,
        declined: false,
    };
    let mut last = 0;
    let mut emit = |piece: Piece<'_>| match piece {
        Piece::Header(header) => {
            for (shard, stream) in all.streams.iter_mut().enumerate() {
                stream.extend_from_slice(header.bytes);
                all.lines.header(shard, &header);
            }
        }
        Piece::Trailer(bytes) => all
            .streams
            .iter_mut()
            .for_each(|s| s.extend_from_slice(bytes)),
        Piece::Row(row) => {
            match row.key {
                RowKey::Values(key) => last = shard_of(key),
                RowKey::Refused { .. } => all.refused = true,
                RowKey::Null { .. } | RowKey::Unsure { .. } => all.declined = true,
            }
            all.streams[last].extend_from_slice(row.bytes);
            all.lines.row(last, &row);
        }
    };
    let most = *[1, 3, 20, 200, 100_000].choose(rng).unwrap();
    let mut rest = bytes;
    let mut result = Ok(());
    while result.is_ok() && !rest.is_empty() {
        let length = rng.random_range(1..=most.min(rest.len()));
        let (body, after) = rest.split_at(length);
        result = splitter.feed(body, &mut emit);
        rest = after;
    }
    all.error = result.and_then(|()| splitter.finish(&mut emit)).err();
    all
}

/// PostgreSQL's verdict on a stream: rows, or SQLSTATE and context.
async fn copy_in(client: &Client, sql: &str, bytes: &[u8]) -> Result<u64, (String, String)> {
    let sink = client
        .copy_in::<str, Bytes>(sql)
        .await
        .unwrap_or_else(|e| panic!("{e}: {sql}"));
    let mut sink = pin!(sink);
    for body in bytes.chunks(5000) {
        // What is wrong is said at the end.
        let _ = sink.send(Bytes::copy_from_slice(body)).await;
    }
    sink.finish().await.map_err(|error| {
        let error = error.as_db_error().unwrap_or_else(|| panic!("{error}"));
        (
            error.code().code().into(),
            error.where_().unwrap_or_default().into(),
        )
    })
}

async fn copy_out(client: &Client, sql: &str) -> Vec<Bytes> {
    let stream = client
        .copy_out(sql)
        .await
        .unwrap_or_else(|e| panic!("{e}: {sql}"));
    stream.try_collect().await.unwrap()
}

async fn context(client: &Client) -> TextContext {
    let encoding = client.query_one("SHOW server_encoding", &[]).await.unwrap();
    TextContext {
        time_zone: TimeZone::Other,
        encoding: Encoding::from_settings("UTF8", encoding.get(0)),
    }
}

fn line_of(context: &str) -> Option<u64> {
    let at = context.find(", line ")? + 7;
    let digits: String = context[at..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

#[tokio::test]
async fn a_divided_copy_does_what_postgres_does() {
    let seed: u64 = std::env::var("SEED").map_or_else(|_| rand::random(), |s| s.parse().unwrap());
    println!("SEED={seed}");
    let shards = Shards::new(1);
    let client = connect(&shards.endpoint(0)).await;
    let context = context(&client).await;
    let mut counts = [0u32; 5];
    for number in 0..TRIALS {
        let rng = &mut StdRng::seed_from_u64(seed.wrapping_add(number.into()));
        let trial = trial(rng);
        trial.prepare(&client, rng).await;
        let mut bytes = copy_out(&client, &format!("COPY src TO STDOUT {}", trial.to))
            .await
            .concat();
        trial.disturb(&mut bytes, rng);
        let sql = |table: &str| format!("COPY {table} FROM STDIN {}", trial.from);
        let note = format!(
            "SEED={seed} trial {number} (alone: SEED={}): {} of {:?}: {}",
            seed.wrapping_add(number.into()),
            sql("ref"),
            trial.columns,
            String::from_utf8_lossy(&bytes)
        );

        let options = CopyOptions::parse(sql("ref").as_bytes(), true)
            .unwrap_or_else(|e| panic!("{e}: {note}"));
        let rules = Rules {
            columns: 3,
            key: vec![trial.key.clone()],
            context,
            major_version: 15,
            row_limit: 1 << 20,
        };
        let mut splitter = Splitter::new(&options, rules).unwrap_or_else(|e| panic!("{e}: {note}"));
        let divided = divide(&bytes, &mut splitter, rng);
        let whole = copy_in(&client, &sql("ref"), &bytes).await;

        let mut rows = 0;
        let mut failed = Vec::new();
        for (shard, stream) in divided.streams.iter().enumerate() {
            let table = format!("d{shard}");
            match copy_in(&client, &sql(&table), stream).await {
                Ok(count) => rows += count,
                Err((code, context)) => {
                    let context = divided.lines.correct_context(shard, &table, &context).0;
                    failed.push((code, context));
                }
            }
        }
        match &whole {
            Ok(_) if divided.declined => counts[0] += 1,
            Ok(count) => {
                assert!(
                    divided.error.is_none() && failed.is_empty() && !divided.refused,
                    "{:?} {failed:?} {} {note}",
                    divided.error,
                    divided.refused
                );
                assert_eq!(*count, rows, "{note}");
                same_rows(&client, &note).await;
                placed(&client, &trial.key, context, &note).await;
                counts[1] += 1;
            }
            Err((code, whole_context)) => {
                if let Some(error) = divided.error {
                    // The session reports the first that it hears of; an encoding is checked ahead of lines.
                    // A binary row that is cut off or too long may have a bad field before that, which
                    // PostgreSQL meets first.
                    let binary = trial.binary;
                    let heard = code == "22021" || failed.iter().any(|(c, _)| c == code);
                    assert!(
                        error.code() == code || heard || binary,
                        "{error:?} {whole:?} {note}"
                    );
                    counts[2] += 1;
                    continue;
                }
                assert!(
                    divided.declined || !failed.is_empty(),
                    "accepted: {whole:?} {note}"
                );
                counts[3] += 1;
                // An encoding is checked for a whole buffer, at whatever line that begins.
                if divided.declined || code == "22021" {
                    continue;
                }
                let first = failed
                    .iter()
                    .filter_map(|(_, context)| line_of(context))
                    .min();
                assert_eq!(first, line_of(whole_context), "{failed:?} {whole:?} {note}");
                assert!(
                    failed.iter().any(|(c, _)| c == code),
                    "{failed:?} {whole:?} {note}"
                );
                counts[4] += 1;
            }
        }
    }
    println!(
        "{TRIALS} streams: declined {}, equal {}, broken {}, refused {} (lines compared {})",
        counts[0], counts[1], counts[2], counts[3], counts[4]
    );
    assert!(counts[1] > TRIALS / 5, "too few streams were divided");
}

async fn same_rows(client: &Client, note: &str) {
    let union = "(TABLE d0 UNION ALL TABLE d1 UNION ALL TABLE d2)";
    let sql = format!(
        "SELECT count(*) FROM ((TABLE ref EXCEPT ALL {union}) UNION ALL ({union} EXCEPT ALL TABLE ref)) x"
    );
    let differences: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
    assert_eq!(differences, 0, "{note}");
}

/// Each row lies where its stored key says, as PostgreSQL prints it.
async fn placed(client: &Client, key: &KeyColumn, context: TextContext, note: &str) {
    for shard in 0..SHARDS {
        for row in client
            .query(&format!("SELECT k::text FROM d{shard}"), &[])
            .await
            .unwrap()
        {
            let text: &str = row.get(0);
            let value = key.key_type.from_text(text.as_bytes(), &context).unwrap();
            assert_eq!(shard_of(&[value]), shard, "{text:?} {note}");
        }
    }
}

#[tokio::test]
async fn streams_of_shards_are_one_stream_with_one_header() {
    let shards = Shards::new(1);
    let client = connect(&shards.endpoint(0)).await;
    let sql = "CREATE TABLE d0 (a int, \"b\nc\" text); CREATE TABLE d1 (LIKE d0); CREATE TABLE d2 (LIKE d0); \
               INSERT INTO d0 VALUES (1, 'x'), (2, NULL); INSERT INTO d2 VALUES (3, E'\\n'), (4, '')";
    client.batch_execute(sql).await.unwrap();
    for options in [
        "",
        "CSV",
        "CSV HEADER",
        "(HEADER)",
        "(FORMAT csv, HEADER, FORCE_QUOTE *)",
        "BINARY",
    ] {
        let mut streams = Vec::new();
        for shard in 0..SHARDS {
            let sql = format!("COPY d{shard} TO STDOUT {options}");
            streams.push(copy_out(&client, &sql).await);
        }
        let one = "TABLE d0 UNION ALL TABLE d1 UNION ALL TABLE d2";
        let wanted = copy_out(&client, &format!("COPY ({one}) TO STDOUT {options}")).await;
        let parsed = CopyOptions::parse(format!("COPY t TO STDOUT {options}").as_bytes(), true);
        let mut out = CopyOut::new(&parsed.unwrap().format, SHARDS);
        let mut bodies = Vec::new();
        for (shard, stream) in streams.iter().enumerate() {
            for body in stream {
                bodies.extend(
                    out.message(shard, body)
                        .unwrap()
                        .map(Bytes::copy_from_slice),
                );
            }
        }
        bodies.extend(out.finish().map(Bytes::from_static));
        // Message by message, not only byte by byte.
        assert_eq!(bodies, wanted, "{options}");
    }
}
