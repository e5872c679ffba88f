//! The cases that read, executed: four databases as shards give the rows of one that holds them all.
//!
//! Runs where `MOTHERSHIP_TEST_POSTGRES` (see `make test-planner`) names a connection of a superuser; the databases are made anew. Answers are
//! compared as multisets, so statements whose answer is not determined are left out.

use std::collections::BTreeMap;

use mothership_shardmap::{KeyBytes, Placement};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::*;

const TABLES: &str = "
    CREATE TABLE t (id bigint PRIMARY KEY, a int, b text, n numeric, f float8, ts timestamptz);
    CREATE TABLE u (id bigint PRIMARY KEY, t_id bigint, c int);
    CREATE TABLE i4 (id int PRIMARY KEY, v text);
    CREATE TABLE w (k bigint PRIMARY KEY, x int);
    CREATE TABLE c2 (x int, y text, z int, PRIMARY KEY (x, y));
    CREATE TABLE txt (k text PRIMARY KEY, v int);
    CREATE TABLE rng (id int PRIMARY KEY, v int);
    CREATE TABLE r (id int PRIMARY KEY, name text, at timestamptz);
    CREATE TABLE r2 (id int PRIMARY KEY, name text);
    CREATE VIEW tv (id, aa) AS SELECT t.id, t.a AS aa FROM t;
    CREATE VIEW tv5 (x) AS SELECT tv.id AS x FROM tv WHERE tv.aa = 5;
    CREATE VIEW tagg (id, c) AS SELECT t.id, count(*) AS c FROM t GROUP BY t.id;
    INSERT INTO r SELECT i, 'n' || i, '2024-01-01' FROM generate_series(1, 6) i;
    INSERT INTO r2 SELECT i, 'm' || i FROM generate_series(3, 8) i;
    CREATE FUNCTION pure(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + 1';";

const HOME: &str = "CREATE TABLE s (id int PRIMARY KEY, v text); CREATE TABLE s2 (id int);
    INSERT INTO s SELECT i, 'x' FROM generate_series(1, 5) i; INSERT INTO s2 VALUES (1), (2);
    CREATE VIEW sv (id) AS SELECT s.id FROM s;";

async fn connect(config: &Config, database: &str) -> Client {
    let (client, connection) = config
        .clone()
        .dbname(database)
        .connect(NoTls)
        .await
        .expect("connects");
    tokio::spawn(connection);
    client
}

fn owner(map: &ShardMap, table: &str, key: &[KeyBytes]) -> usize {
    match map.placement("public", table, &[] as &[(&str, KeyType)]) {
        Placement::Sharded(sharded) => sharded.owner(key).expect("every key has an owner").index(),
        _ => panic!("{table} is sharded"),
    }
}

/// One row with its table, key and SQL.
fn data(map: &ShardMap) -> Vec<(usize, String)> {
    let mut rows = Vec::new();
    let integer = |value: i64| KeyType::Int8.from_integer(value.into()).expect("fits");
    for id in 1..=12i64 {
        let key = [integer(id)];
        let a = if id % 4 == 0 {
            "NULL".to_owned()
        } else {
            (id % 5).to_string()
        };
        rows.push((
            owner(map, "t", &key),
            format!(
                "INSERT INTO t VALUES ({id}, {a}, 'b{}', {id}.5, {id}, '2024-01-0{}')",
                id % 3,
                1 + id % 9
            ),
        ));
        if id % 3 != 0 {
            rows.push((
                owner(map, "u", &key),
                format!("INSERT INTO u VALUES ({id}, {}, {})", 13 - id, id % 5),
            ));
            rows.push((
                owner(map, "i4", &key),
                format!("INSERT INTO i4 VALUES ({id}, 'v{id}')"),
            ));
        }
        if id % 2 == 1 {
            rows.push((
                owner(map, "w", &key),
                format!("INSERT INTO w VALUES ({id}, {})", id % 4),
            ));
        }
        let wide = [integer(id * 30)];
        rows.push((
            owner(map, "rng", &wide),
            format!("INSERT INTO rng VALUES ({}, {id})", id * 30),
        ));
        let text = [KeyBytes::from_canonical(
            format!("{}", (b'A' + id as u8) as char).as_bytes(),
        )];
        rows.push((
            owner(map, "txt", &text),
            format!("INSERT INTO txt VALUES (chr({}), {id})", 65 + id),
        ));
        for y in ["a", "b"] {
            let pair = [integer(id), KeyBytes::from_canonical(y.as_bytes())];
            rows.push((
                owner(map, "c2", &pair),
                format!("INSERT INTO c2 VALUES ({id}, '{y}', {id})"),
            ));
        }
    }
    rows
}

type Rows = Vec<Vec<Option<String>>>;

async fn answer(client: &Client, sql: &str) -> Result<Rows, String> {
    let messages = client.simple_query(sql).await.map_err(|e| {
        e.code()
            .map_or_else(|| e.to_string(), |code| code.code().to_owned())
    })?;
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

fn merge(parts: Vec<Rows>, how: &Merge) -> Rows {
    let Merge::Aggregates(merges) = how else {
        return parts.concat();
    };
    let column = |at: usize| {
        parts
            .iter()
            .filter_map(move |rows| rows[0][at].as_ref()?.parse::<i128>().ok())
    };
    let one = merges.iter().enumerate().map(|(at, merge)| match merge {
        AggregateMerge::Count => Some(column(at).sum::<i128>()),
        AggregateMerge::SumBigint | AggregateMerge::SumNumeric => column(at).reduce(|a, b| a + b),
        AggregateMerge::Min => column(at).min(),
        AggregateMerge::Max => column(at).max(),
    });
    vec![one.map(|value| value.map(|v| v.to_string())).collect()]
}

async fn compare(config: Config) {
    let (catalog, map) = (catalog(), map());
    let planner = Planner::new(&catalog, &map);
    let names = [
        "ms_plan_s0",
        "ms_plan_s1",
        "ms_plan_s2",
        "ms_plan_s3",
        "ms_plan_all",
    ];
    let admin = connect(&config, "postgres").await;
    let mut clients = Vec::new();
    for name in names {
        admin
            .batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            .await
            .unwrap();
        admin
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .unwrap();
        let client = connect(&config, name).await;
        client
            .batch_execute("SET statement_timeout = '5s'")
            .await
            .unwrap();
        client.batch_execute(TABLES).await.unwrap();
        clients.push(client);
    }
    let (all, shards) = clients.split_last().expect("there are five");
    for client in [all, &shards[0]] {
        client.batch_execute(HOME).await.unwrap();
    }
    for (owner, sql) in data(&map) {
        shards[owner].batch_execute(&sql).await.unwrap();
        all.batch_execute(&sql).await.unwrap();
    }
    let undetermined = [
        "random",
        "now()",
        "LIMIT 1",
        "LIMIT 3",
        "ctid",
        "version()",
        "pg_",
        "txid",
        "FETCH",
        "$",
        "nextval",
        "TABLESAMPLE",
        // The database's own name is shown.
        "information_schema",
        // Without an end.
        "JOIN x ON t.a = x.a",
    ];
    let (mut equal, mut refused, mut errors, mut gathered) = (0, 0, 0, 0);
    let mut wrong = Vec::new();
    let mut reasons: BTreeMap<&str, u32> = BTreeMap::new();
    for sql in include_str!("cases.txt").lines() {
        let reads = ["SELECT", "WITH", "VALUES", "TABLE", "(SELECT"]
            .iter()
            .any(|w| sql.starts_with(w));
        let writes = ["INTO", "INSERT", "UPDATE", "DELETE"]
            .iter()
            .any(|w| sql.contains(w));
        if !reads || writes || undetermined.iter().any(|w| sql.contains(w)) {
            continue;
        }
        let sql = sql.replace("\\n", "\n");
        let expected = answer(all, &sql).await;
        let plan = planner.plan(&sql, &PlanContext::default());
        let route =
            match route(&plan, &Params::NONE, &map, &TextContext::UTC, None).map_err(refusal) {
                Ok(route) => route,
                Err(refusal) => {
                    refused += 1;
                    *reasons.entry(refusal.reason.text().code).or_default() += 1;
                    continue;
                }
            };
        if route.gathered.is_some() || matches!(route.merge, Some(Merge::Flow(_))) {
            // The router's own to run: `make oracle`, and the tests of sorted rows.
            gathered += 1;
            continue;
        }
        let mut parts = Vec::new();
        let mut failed = None;
        for shard in route.shards.iter() {
            match answer(&shards[shard.index()], &sql).await {
                Ok(rows) => parts.push(rows),
                Err(code) => failed = Some(code),
            }
        }
        match (expected, failed) {
            (Err(expected), Some(actual)) if actual == expected => errors += 1,
            (Ok(mut expected), None) => {
                let mut actual = match &route.merge {
                    Some(how) => merge(parts, how),
                    None => parts.concat(),
                };
                actual.sort();
                expected.sort();
                if actual == expected {
                    equal += 1;
                } else {
                    wrong.push(format!(
                        "{sql}\n{plan}\nexpected {expected:?}\nactual {actual:?}"
                    ));
                }
            }
            (expected, failed) => {
                wrong.push(format!(
                    "{sql}\n{plan}\nexpected {expected:?}, failed {failed:?}"
                ));
            }
        }
    }
    println!(
        "equal {equal}, same error {errors}, gathered or sorted {gathered}, refused {refused}: {reasons:?}"
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(equal > 200);
    drop(clients);
    for name in names {
        admin
            .batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            .await
            .unwrap();
    }
}

#[test]
#[ignore = "needs a server: make test-planner"]
fn shards_together_give_the_rows_of_one_database() {
    let dsn = std::env::var("MOTHERSHIP_TEST_POSTGRES").expect("MOTHERSHIP_TEST_POSTGRES");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(compare(dsn.parse().expect("a connection string")));
}
