//! Random conditions on keys of every type: the shards that a plan goes to are compared with the shards that hold
//! rows for which PostgreSQL itself finds the condition true.
//!
//! A table holds each key with its owner, read from what PostgreSQL sends for it. One query answers hundreds of
//! conditions: for each, the shards of the rows that meet it. Run by `make routing`; `COUNT` is the number for each
//! type, `SEED` makes a run again, `TYPES` names some types.

mod write;

use std::collections::{BTreeMap, HashMap};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_postgres::error::ErrorPosition;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::*;
use crate::slots::Literals;
use mothership_shardmap::{Cut, KeyBytes, Placement};
use write::{Column, Condition, Pools};

/// Conditions in one query; PostgreSQL allows 1664 columns.
const BATCH: usize = 300;

/// What columns hold, and what constants are drawn from.
fn values(key_type: KeyType) -> Vec<&'static str> {
    let small = [
        "-3", "-1", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "11", "100", "300",
    ];
    match key_type {
        KeyType::Bool => vec!["t", "f"],
        KeyType::Int2 => [&small[..], &["32767", "-32768", "12000"]].concat(),
        KeyType::Int4 => [
            &small[..],
            &["2147483647", "-2147483648", "16777217", "40000"],
        ]
        .concat(),
        KeyType::Int8 => [
            &small[..],
            &[
                "9007199254740992",
                "9007199254740993",
                "9223372036854775807",
                "3000000000",
                "16777216",
                "16777217",
            ],
        ]
        .concat(),
        KeyType::Numeric => [
            &small[..],
            &[
                "0.1",
                "1.0",
                "1.00",
                "5.5",
                "-0.5",
                "9007199254740993",
                "123456789.123",
                "NaN",
                "Infinity",
                "0.10000000000000001",
            ],
        ]
        .concat(),
        KeyType::Text | KeyType::Varchar => vec![
            "", "a", "b", "A", "B", "ab", "abc", "a ", " a", "a  ", "é", "ß", "NULL", "5", "05",
            "x'y", "a\\b", "{}", "\"", "x,y", "t", "%", "日本",
        ],
        KeyType::Uuid => vec![
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            "6ba7b811-9dad-11d1-80b4-00c04fd430c8",
            "0a000000-0000-0000-0000-0000000000a0",
            "123e4567-e89b-12d3-a456-426614174000",
            "abcdefab-cdef-abcd-efab-cdefabcdefab",
            "d9428888-122b-11e1-b85c-61cd3cbb3210",
        ],
        KeyType::Date => vec![
            "2024-01-01",
            "2024-01-02",
            "2024-01-03",
            "2024-02-29",
            "2023-12-31",
            "2000-01-01",
            "1999-12-31",
            "1970-01-01",
            "infinity",
            "-infinity",
            "0044-03-15 BC",
            "5874897-12-31",
            "2024-03-31",
            "1582-10-10",
        ],
        KeyType::Timestamp => vec![
            "2024-01-01 00:00:00",
            "2024-01-01 00:00:00.5",
            "2024-01-01 00:00:00.000001",
            "2024-01-02 00:00:00",
            "2024-01-02 12:34:56",
            "2024-01-02 12:34:56.789",
            "2000-01-01 00:00:00",
            "1999-12-31 23:59:59.999999",
            "infinity",
            "-infinity",
            "0044-03-15 12:00:00 BC",
            "2024-03-31 02:30:00",
            "1582-10-10 00:00:00",
        ],
        KeyType::TimestampTz => vec![
            "2024-01-01 00:00:00+00",
            "2024-01-01 01:00:00+01",
            "2024-01-01 00:00:00.5+00",
            "2024-01-02 00:00:00+00",
            "2024-01-02 12:34:56+00",
            "2024-01-02 12:34:56.789+05:45",
            "2000-01-01 00:00:00+00",
            "1999-12-31 23:59:59.999999+00",
            "infinity",
            "-infinity",
            "2024-03-31 02:30:00+02",
            "2024-01-01 00:00:00",
        ],
        KeyType::Bytea => vec![
            "\\x",
            "\\x00",
            "\\x00ff",
            "\\x61",
            "\\x6161",
            "\\xDEADBEEF",
            "\\x5c",
            "\\x0000",
            "\\x27",
        ],
    }
}

/// Where the range strategy divides a type; without any, only hashes are looked at.
fn cuts(key_type: KeyType) -> Option<[&'static str; 3]> {
    match key_type {
        KeyType::Int2 | KeyType::Int4 | KeyType::Int8 | KeyType::Numeric => Some(["0", "5", "9"]),
        KeyType::Date => Some(["2000-01-01", "2024-01-02", "2024-02-29"]),
        KeyType::Timestamp => Some([
            "2000-01-01 00:00:00",
            "2024-01-01 00:00:00.5",
            "2024-01-02 12:34:56",
        ]),
        KeyType::TimestampTz => Some([
            "2000-01-01 00:00:00+00",
            "2024-01-01 00:00:00.5+00",
            "2024-01-02 12:34:56+00",
        ]),
        _ => None,
    }
}

/// One kind of key: its columns.
struct Kind {
    name: &'static str,
    key: Vec<(&'static str, KeyType)>,
}

fn kinds() -> Vec<Kind> {
    let single = KeyType::ALL.into_iter().map(|key_type| Kind {
        name: key_type.name(),
        key: vec![("k", key_type)],
    });
    let pair = Kind {
        name: "composite",
        key: vec![("x", KeyType::Int4), ("y", KeyType::Text)],
    };
    single.chain([pair]).collect()
}

impl Kind {
    fn type_of(key_type: KeyType) -> &'static str {
        match key_type {
            KeyType::Varchar => "varchar(6)",
            other => other.name(),
        }
    }

    /// `t` and `u` are sharded by the key, `r` is on every shard.
    fn catalog(&self) -> Catalog {
        let key: String = self
            .key
            .iter()
            .map(|(name, key_type)| {
                format!("  column {name} {} not null\n", Self::type_of(*key_type))
            })
            .collect();
        let names = self.names("");
        let shown = self.names("t.");
        let text = format!(
            "server_version 150004\nschema public\n\
             table public.t\n{key}  column a int\n  primary key {names}\n\
             table public.u\n{key}  column b int\n  primary key {names}\n\
             table public.r\n{key}  column c int\n  primary key {names}\n\
             view public.v ({names}, a) as SELECT {shown}, t.a FROM public.t\n"
        );
        text::parse(&text).expect("the catalog is well formed")
    }

    fn names(&self, prefix: &str) -> String {
        let names: Vec<String> = self
            .key
            .iter()
            .map(|(name, _)| format!("{prefix}{name}"))
            .collect();
        names.join(", ")
    }

    fn joined(&self, a: &str, b: &str) -> String {
        let pairs: Vec<String> = self
            .key
            .iter()
            .map(|(name, _)| format!("{a}.{name} = {b}.{name}"))
            .collect();
        pairs.join(" AND ")
    }

    fn map(&self, strategy: &StrategyDecl) -> ShardMap {
        let mut builder = ShardMapBuilder::new(1);
        for shard in ["s0", "s1", "s2", "s3"] {
            builder.shard(shard);
        }
        for table in ["t", "u"] {
            let columns = self
                .key
                .iter()
                .map(|(name, key_type)| ((*name).to_owned(), *key_type));
            let decl = ShardedDecl {
                columns: columns.collect(),
                strategy: strategy.clone(),
                group: Some("one".to_owned()),
                allow_unenforced_unique: false,
            };
            builder.table("public", table, TableDecl::Sharded(decl));
        }
        builder.table("public", "r", TableDecl::Reference);
        builder.build().expect("the map is well formed")
    }

    fn maps(&self) -> Vec<ShardMap> {
        let mut maps = vec![self.map(&StrategyDecl::Hash)];
        if let [(_, key_type)] = self.key.as_slice()
            && let Some(cuts) = cuts(*key_type)
        {
            let cut = |text: &str| {
                vec![Cut::Value(
                    key_type
                        .from_text(text.as_bytes(), &TextContext::UTC)
                        .expect("a cut is a value"),
                )]
            };
            let [a, b, c] = cuts.map(cut);
            let ranges = vec![
                (vec![Cut::Min], a.clone(), "s0".to_owned()),
                (a, b.clone(), "s1".to_owned()),
                (b, c.clone(), "s2".to_owned()),
                (c, vec![Cut::Max], "s3".to_owned()),
            ];
            maps.push(self.map(&StrategyDecl::Range {
                ranges,
                default: None,
            }));
        }
        maps
    }

    /// Statements for a condition `{c}`, and the rows that it is true or not of.
    fn shapes(&self) -> Vec<Shape> {
        let (tu, ur) = (self.joined("t", "u"), self.joined("u", "r"));
        let (ut, tr, names) = (self.joined("u", "t"), self.joined("t", "r"), self.names(""));
        let shape =
            |from: String, tables: &[&'static str], weight: u32, statements: &[&str]| Shape {
                columns: tables
                    .iter()
                    .flat_map(|table| self.columns(table))
                    .collect(),
                statements: statements
                    .iter()
                    .map(|s| {
                        s.replace("{tu}", &tu)
                            .replace("{ut}", &ut)
                            .replace("{ur}", &ur)
                            .replace("{tr}", &tr)
                            .replace("{names}", &names)
                    })
                    .collect(),
                from,
                weight,
            };
        vec![
            shape(
                "t".into(),
                &["t"],
                10,
                &[
                    "SELECT * FROM t WHERE {c}",
                    "SELECT * FROM t WHERE {c}",
                    "SELECT count(*) FROM t WHERE {c}",
                    "SELECT * FROM (SELECT * FROM t) t WHERE {c}",
                    "SELECT * FROM (SELECT * FROM t WHERE {c}) s",
                    "WITH s AS (SELECT * FROM t WHERE {c}) SELECT * FROM s",
                    "SELECT * FROM v t WHERE {c}",
                    "DELETE FROM t WHERE {c}",
                    "UPDATE t SET a = 2 WHERE {c}",
                ],
            ),
            shape(
                format!("t JOIN u ON {tu}"),
                &["t", "u"],
                4,
                &[
                    "SELECT * FROM t JOIN u ON {tu} WHERE {c}",
                    "SELECT * FROM t, u WHERE {tu} AND ({c})",
                    "SELECT * FROM u, t WHERE ({c}) AND {ut}",
                    "SELECT * FROM t JOIN u ON {tu} AND ({c})",
                    "SELECT * FROM t JOIN u USING ({names}) WHERE {c}",
                    "SELECT * FROM t WHERE EXISTS (SELECT 1 FROM u WHERE {tu} AND ({c}))",
                ],
            ),
            shape(
                format!("t LEFT JOIN u ON {tu}"),
                &["t", "u"],
                2,
                &[
                    "SELECT * FROM t LEFT JOIN u ON {tu} WHERE {c}",
                    "SELECT * FROM u RIGHT JOIN t ON {ut} WHERE {c}",
                ],
            ),
            shape(
                format!("t FULL JOIN u ON {tu}"),
                &["t", "u"],
                1,
                &["SELECT * FROM t FULL JOIN u ON {tu} WHERE {c}"],
            ),
            shape(
                format!("t JOIN u ON {tu} JOIN r ON {ur}"),
                &["t", "u", "r"],
                2,
                &[
                    "SELECT * FROM t JOIN u ON {tu} JOIN r ON {ur} WHERE {c}",
                    "SELECT * FROM r, t, u WHERE {tu} AND {ur} AND ({c})",
                    "SELECT * FROM t, u JOIN r ON {ur} WHERE {tr} AND {tu} AND ({c})",
                ],
            ),
        ]
    }

    fn columns(&self, table: &str) -> Vec<Column> {
        let column = |name: &str, key_type, is_key| Column {
            name: format!("{table}.{name}"),
            key_type,
            is_key,
        };
        let mut columns: Vec<Column> = self
            .key
            .iter()
            .map(|(name, t)| column(name, *t, true))
            .collect();
        let other = HashMap::from([("t", "a"), ("u", "b"), ("r", "c")])[table];
        columns.push(column(other, KeyType::Int4, false));
        columns
    }
}

/// Statements whose condition is about the same rows.
struct Shape {
    from: String,
    columns: Vec<Column>,
    statements: Vec<String>,
    weight: u32,
}

/// What was seen of a kind.
#[derive(Default)]
struct Tally {
    conditions: usize,
    invalid: usize,
    refused: BTreeMap<&'static str, usize>,
    routed: usize,
    minimal: usize,
    exact: usize,
    misses: Vec<String>,
}

/// Rows and their owners: read as PostgreSQL sends them, in both forms.
async fn fill(client: &Client, kind: &Kind, maps: &[ShardMap]) {
    let columns: String = kind
        .key
        .iter()
        .map(|(name, t)| format!("{name} {}, ", Kind::type_of(*t)))
        .collect();
    let mut sql = String::new();
    for (table, other) in [("t", "a"), ("u", "b"), ("r", "c")] {
        sql += &format!(
            "DROP TABLE IF EXISTS {table}; CREATE TEMP TABLE {table} ({columns}{other} int, s0 int, s1 int);"
        );
    }
    client.batch_execute(&sql).await.unwrap();
    let first = values(kind.key[0].1);
    let keys: Vec<Vec<&str>> = match kind.key.as_slice() {
        [_] => first.into_iter().map(|v| vec![v]).collect(),
        [_, (_, second)] => {
            let pairs = first.iter().enumerate().flat_map(|(i, x)| {
                let ys = values(*second);
                [vec![*x, ys[(i * 2) % 8]], vec![*x, ys[(i * 3 + 1) % 8]]]
            });
            pairs.collect()
        }
        _ => unreachable!("keys have one or two columns"),
    };
    for (index, key) in keys.iter().enumerate() {
        let quoted: Vec<String> = key
            .iter()
            .zip(&kind.key)
            .map(|(v, (_, t))| format!("'{}'::{}", v.replace('\'', "''"), Kind::type_of(*t)))
            .collect();
        let sent: Vec<String> = quoted
            .iter()
            .zip(&kind.key)
            .map(|(q, (_, t))| format!("{q}::text, encode({}({q}), 'hex')", send(*t)))
            .collect();
        let answer = rows(client, &format!("SELECT {}", sent.join(", ")))
            .await
            .unwrap();
        let canonical: Vec<KeyBytes> = kind
            .key
            .iter()
            .zip(answer[0].chunks(2))
            .map(|((_, t), forms)| {
                let [text, hex] = forms else {
                    unreachable!("two forms of each")
                };
                let binary = t
                    .from_binary(t.oid(), &unhex(hex.as_ref().unwrap()), &TextContext::UTC)
                    .expect("PostgreSQL's own value");
                let text = t
                    .from_text(text.as_ref().unwrap().as_bytes(), &TextContext::UTC)
                    .expect("PostgreSQL's own text");
                assert_eq!(binary, text, "{key:?}");
                binary
            })
            .collect();
        let owner = |map: &ShardMap| match map.placement("public", "t", &[] as &[(&str, KeyType)]) {
            Placement::Sharded(sharded) => {
                1 << sharded
                    .owner(&canonical)
                    .expect("every key has an owner")
                    .index()
            }
            _ => unreachable!("t is sharded"),
        };
        let (s0, s1): (i32, i32) = (owner(&maps[0]), owner(maps.last().expect("there is one")));
        let key = quoted.join(", ");
        let mut sql = format!(
            "INSERT INTO t VALUES ({key}, NULL, {s0}, {s1}), ({key}, 1, {s0}, {s1}), ({key}, 5, {s0}, {s1});
             INSERT INTO r VALUES ({key}, {}, {s0}, {s1});", index % 3
        );
        if index % 3 != 0 {
            sql +=
                &format!("INSERT INTO u VALUES ({key}, NULL, {s0}, {s1}), ({key}, 1, {s0}, {s1});");
        }
        client.batch_execute(&sql).await.unwrap();
    }
    // Rows of u without one of t, for FULL JOIN.
    client.batch_execute("DELETE FROM t WHERE ctid IN (SELECT ctid FROM t ORDER BY md5(t::text) LIMIT 9); ANALYZE t, u, r").await.unwrap();
}

fn send(key_type: KeyType) -> String {
    match key_type {
        KeyType::Timestamp
        | KeyType::TimestampTz
        | KeyType::Date
        | KeyType::Numeric
        | KeyType::Uuid => format!("{}_send", key_type.name()),
        other => format!("{}send", other.name()),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex digits"))
        .collect()
}

async fn rows(
    client: &Client,
    sql: &str,
) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(
            (0..row.len())
                .map(|i| row.get(i).map(str::to_owned))
                .collect(),
        ),
        _ => None,
    });
    Ok(rows.collect())
}

async fn pools(client: &Client) -> Pools {
    let mut pools = Pools {
        texts: HashMap::new(),
        binary: HashMap::new(),
    };
    for key_type in KeyType::ALL {
        let texts: Vec<String> = values(key_type).into_iter().map(str::to_owned).collect();
        for other in write::relatives(key_type) {
            for text in &texts {
                let quoted = text.replace('\'', "''");
                let sql = format!(
                    "SELECT encode({}('{quoted}'::{}), 'hex')",
                    send(*other),
                    other.name()
                );
                if let Ok(rows) = rows(client, &sql).await {
                    let hex = rows[0][0].as_ref().expect("a value");
                    pools
                        .binary
                        .insert((other.name(), text.clone()), unhex(hex));
                }
            }
        }
        for cast in write::strange_casts(key_type) {
            for text in &texts {
                let sql = format!("SELECT '{}'::{cast}", text.replace('\'', "''"));
                if rows(client, &sql).await.is_ok() {
                    pools.binary.insert((cast, text.clone()), Vec::new());
                }
            }
        }
        pools.texts.insert(key_type, texts);
    }
    pools
}

/// The shards with rows for which each condition is true, as bits; None where PostgreSQL refuses it.
async fn truth(client: &Client, from: &str, owner: &str, asked: &[String]) -> Vec<Option<u32>> {
    let mut answers = vec![None; asked.len()];
    // What PostgreSQL refuses is taken out and the rest asked again, or both halves where it does not say what.
    let mut open: Vec<Vec<usize>> = vec![(0..asked.len()).collect()];
    while let Some(mut places) = open.pop() {
        if places.is_empty() {
            continue;
        }
        let mut sql = "SELECT ".to_owned();
        let mut ends = Vec::new();
        for (index, place) in places.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            sql += &format!("{comma}bit_or({owner}) FILTER (WHERE {})", asked[*place]);
            ends.push(sql.chars().count());
        }
        sql += &format!(" FROM {from}");
        match rows(client, &sql).await {
            Ok(rows) => {
                for (place, bits) in places.iter().zip(&rows[0]) {
                    answers[*place] =
                        Some(bits.as_ref().map_or(0, |b| b.parse().expect("a number")));
                }
            }
            Err(error) => {
                let error = error.as_db_error().expect("only the server refuses");
                let culprit = match error.position() {
                    Some(ErrorPosition::Original(at)) => {
                        ends.iter().position(|end| (*at as usize) <= *end)
                    }
                    _ => None,
                };
                match culprit.or((places.len() == 1).then_some(0)) {
                    Some(culprit) => {
                        let refused = places.remove(culprit);
                        if std::env::var_os("SHOW_INVALID").is_some() {
                            println!("invalid: {}: {}", error.message(), asked[refused]);
                        }
                        open.push(places);
                    }
                    None => {
                        open.push(places.split_off(places.len() / 2));
                        open.push(places);
                    }
                }
            }
        }
    }
    answers
}

/// Where a statement is routed, as bits, or why it is not.
fn routed(
    planner: &Planner<'_>,
    map: &ShardMap,
    text: &str,
    condition: &Condition,
) -> Result<u32, Box<Refusal>> {
    let context = PlanContext {
        parameter_types: condition.params.iter().map(|p| p.declared).collect(),
        ..PlanContext::default()
    };
    let formats: Vec<i16> = condition.params.iter().map(|p| p.format).collect();
    let values: Vec<Option<&[u8]>> = condition
        .params
        .iter()
        .map(|p| p.value.as_deref())
        .collect();
    let params = Params {
        formats: &formats,
        values: &values,
        literals: Literals::NONE,
    };
    let plan = planner.plan(text, &context);
    match route(&plan, &params, map, &TextContext::UTC, None) {
        Ok(route) => Ok(route.shards.iter().map(|s| 1u32 << s.0).sum()),
        Err(no_route) => Err(Box::new(refusal(no_route))),
    }
}

async fn check(client: &Client, kind: &Kind, count: usize, seed: u64, pools: &Pools) -> Tally {
    let mut rng = StdRng::seed_from_u64(seed);
    let (catalog, maps, shapes) = (kind.catalog(), kind.maps(), kind.shapes());
    let planners: Vec<Planner<'_>> = maps.iter().map(|map| Planner::new(&catalog, map)).collect();
    fill(client, kind, &maps).await;
    let mut tally = Tally::default();
    let weights: Vec<usize> = shapes
        .iter()
        .enumerate()
        .flat_map(|(i, s)| vec![i; s.weight as usize])
        .collect();
    while tally.conditions < count {
        let shape = &shapes[*write::pick(&mut rng, &weights)];
        let which = if rng.random_range(0..3) == 0 {
            maps.len() - 1
        } else {
            0
        };
        let owner = match shape.from.as_str() {
            "t" => format!("t.s{which}"),
            _ => format!("coalesce(t.s{which}, u.s{which})"),
        };
        let batch = BATCH.min(count - tally.conditions);
        let conditions: Vec<Condition> = (0..batch)
            .map(|_| write::condition(&mut rng, pools, &shape.columns))
            .collect();
        let asked: Vec<String> = conditions.iter().map(Condition::with_literals).collect();
        // PostgreSQL computes while we plan.
        let plans = async {
            let mut plans = Vec::new();
            for condition in &conditions {
                let text = write::pick(&mut rng, &shape.statements)
                    .replace("{c}", &condition.with_parameters());
                let routed = routed(&planners[which], &maps[which], &text, condition);
                plans.push((text, routed));
                tokio::task::yield_now().await;
            }
            plans
        };
        let (truths, plans) = tokio::join!(truth(client, &shape.from, &owner, &asked), plans);
        for ((truth, (text, routed)), asked) in truths.into_iter().zip(plans).zip(&asked) {
            tally.conditions += 1;
            let Some(truth) = truth else {
                tally.invalid += 1;
                continue;
            };
            match routed {
                Err(refusal) => *tally.refused.entry(refusal.reason.text().code).or_default() += 1,
                Ok(bits) => {
                    if truth & !bits != 0 {
                        tally.misses.push(format!("map {which}: {text}\n  as {asked}\n  true {truth:04b}, routed {bits:04b}"));
                    }
                    tally.routed += bits.count_ones() as usize;
                    tally.minimal += truth.count_ones().max(1) as usize;
                    tally.exact += usize::from(bits.count_ones() == truth.count_ones().max(1));
                }
            }
        }
        if tally.misses.len() > 20 {
            break;
        }
    }
    tally
}

#[test]
#[ignore = "needs a server: make routing"]
fn routed_shards_hold_every_row_that_postgres_finds() {
    let dsn = std::env::var("MOTHERSHIP_TEST_POSTGRES").expect("MOTHERSHIP_TEST_POSTGRES");
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let count = number("COUNT").unwrap_or(600) as usize;
    let seed = number("SEED").unwrap_or_else(|| rand::rng().random_range(0..1_000_000_000));
    let types = std::env::var("TYPES").unwrap_or_default();
    println!("SEED={seed} COUNT={count}");
    println!("type        conditions  invalid  refused  routed/minimal  exact");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let misses = runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("SET timezone = 'UTC'; SET datestyle = 'ISO, MDY'; SET statement_timeout = '120s'; SET jit = off").await.unwrap();
        let pools = pools(&client).await;
        let mut misses = Vec::new();
        for kind in kinds() {
            if !types.is_empty() && !types.split([',', ' ']).any(|t| t == kind.name) {
                continue;
            }
            let tally = check(&client, &kind, count, seed, &pools).await;
            let judged = tally.conditions - tally.invalid;
            let refused: usize = tally.refused.values().sum();
            println!(
                "{:<11} {:>10} {:>8} {:>8}  {:>14.3}  {:>4.1}%  {:?}",
                kind.name,
                tally.conditions,
                tally.invalid,
                refused,
                tally.routed as f64 / tally.minimal as f64,
                100.0 * tally.exact as f64 / (judged - refused) as f64,
                tally.refused,
            );
            assert!(judged - refused > tally.conditions / 2, "most conditions are to be judged");
            misses.extend(tally.misses.into_iter().map(|miss| format!("{}: {miss}", kind.name)));
        }
        misses
    });
    assert!(
        misses.is_empty(),
        "{} misses, the first:\n{}",
        misses.len(),
        misses[..misses.len().min(20)].join("\n")
    );
}
