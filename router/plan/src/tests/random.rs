//! Random predicates over the key: the routed shards contain all shards with true rows.
//!
//! A small evaluator of three-valued logic is the truth here; a run against
//! PostgreSQL itself is a test of its own. The seed is printed and can be given.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// Keys are small, so that predicates meet them often; `a` may be null.
const KEYS: std::ops::RangeInclusive<i64> = -3..=12;

#[derive(Debug, Clone)]
enum Pred {
    Compare(Operand, &'static str, Operand),
    In(Operand, Vec<Operand>, bool),
    Between(Operand, Operand, Operand, bool),
    And(Vec<Pred>),
    Or(Vec<Pred>),
    Not(Box<Pred>),
    Is(Box<Pred>, &'static str),
    Null(Operand, bool),
    Distinct(Operand, Operand, bool),
    Any(Operand, Vec<Option<i64>>),
    Bool(Option<bool>),
    Rows(Vec<(Operand, Operand)>),
}

#[derive(Debug, Clone)]
enum Operand {
    Key,
    A,
    Const(i64),
    Text(i64),
    Half(i64),
    Sum(i64, i64),
    Null,
    KeyPlus(i64),
}

/// Twice the value, so that halves are integers.
type Number = Option<i64>;

fn number(operand: &Operand, key: i64, a: Option<i64>) -> Number {
    match operand {
        Operand::Key => Some(2 * key),
        Operand::A => a.map(|a| 2 * a),
        Operand::Const(n) | Operand::Text(n) => Some(2 * n),
        Operand::Half(n) => Some(2 * n + 1),
        Operand::Sum(x, y) => Some(2 * (x + y)),
        Operand::Null => None,
        Operand::KeyPlus(n) => Some(2 * (key + n)),
    }
}

fn compare(l: Number, op: &str, r: Number) -> Option<bool> {
    let (l, r) = (l?, r?);
    Some(match op {
        "=" => l == r,
        "<>" => l != r,
        "<" => l < r,
        "<=" => l <= r,
        ">" => l > r,
        _ => l >= r,
    })
}

fn and(parts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let parts: Vec<Option<bool>> = parts.collect();
    if parts.contains(&Some(false)) {
        return Some(false);
    }
    (!parts.contains(&None)).then_some(true)
}

fn or(parts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    and(parts.map(|p| p.map(|b| !b))).map(|b| !b)
}

fn truth(pred: &Pred, key: i64, a: Option<i64>) -> Option<bool> {
    let n = |operand: &Operand| number(operand, key, a);
    match pred {
        Pred::Compare(l, op, r) => compare(n(l), op, n(r)),
        Pred::In(l, list, negated) => {
            or(list.iter().map(|r| compare(n(l), "=", n(r)))).map(|b| b != *negated)
        }
        Pred::Between(x, l, h, negated) => {
            and([compare(n(x), ">=", n(l)), compare(n(x), "<=", n(h))].into_iter())
                .map(|b| b != *negated)
        }
        Pred::And(list) => and(list.iter().map(|p| truth(p, key, a))),
        Pred::Or(list) => or(list.iter().map(|p| truth(p, key, a))),
        Pred::Not(p) => truth(p, key, a).map(|b| !b),
        Pred::Is(p, what) => {
            let value = truth(p, key, a);
            Some(match *what {
                "TRUE" => value == Some(true),
                "NOT TRUE" => value != Some(true),
                "FALSE" => value == Some(false),
                "NOT FALSE" => value != Some(false),
                "UNKNOWN" => value.is_none(),
                _ => value.is_some(),
            })
        }
        Pred::Null(x, negated) => Some(n(x).is_none() != *negated),
        Pred::Distinct(l, r, negated) => Some((n(l) != n(r)) != *negated),
        Pred::Any(l, list) => or(list.iter().map(|r| compare(n(l), "=", r.map(|r| 2 * r)))),
        Pred::Bool(value) => *value,
        Pred::Rows(pairs) => and(pairs.iter().map(|(l, r)| compare(n(l), "=", n(r)))),
    }
}

fn operand_sql(operand: &Operand) -> String {
    match operand {
        Operand::Key => "id".into(),
        Operand::A => "a".into(),
        Operand::Const(n) => n.to_string(),
        Operand::Text(n) => format!("'{n}'"),
        Operand::Half(n) => format!("{}.5", n),
        Operand::Sum(x, y) => format!("({x} + {y})"),
        Operand::Null => "NULL".into(),
        Operand::KeyPlus(n) => format!("(id + {n})"),
    }
}

fn sql(pred: &Pred) -> String {
    let list = |parts: Vec<String>, word: &str| format!("({})", parts.join(word));
    match pred {
        Pred::Compare(l, op, r) => format!("{} {op} {}", operand_sql(l), operand_sql(r)),
        Pred::In(l, items, negated) => {
            let not = if *negated { " NOT" } else { "" };
            let items: Vec<String> = items.iter().map(operand_sql).collect();
            format!("{}{not} IN ({})", operand_sql(l), items.join(", "))
        }
        Pred::Between(x, l, h, negated) => {
            let not = if *negated { " NOT" } else { "" };
            format!(
                "{}{not} BETWEEN {} AND {}",
                operand_sql(x),
                operand_sql(l),
                operand_sql(h)
            )
        }
        Pred::And(parts) => list(parts.iter().map(sql).collect(), " AND "),
        Pred::Or(parts) => list(parts.iter().map(sql).collect(), " OR "),
        Pred::Not(p) => format!("NOT ({})", sql(p)),
        Pred::Is(p, what) => format!("({}) IS {what}", sql(p)),
        Pred::Null(x, negated) => format!(
            "{} IS {}NULL",
            operand_sql(x),
            if *negated { "NOT " } else { "" }
        ),
        Pred::Distinct(l, r, negated) => {
            let not = if *negated { "NOT " } else { "" };
            format!(
                "{} IS {not}DISTINCT FROM {}",
                operand_sql(l),
                operand_sql(r)
            )
        }
        Pred::Any(l, items) => {
            let items: Vec<String> = items
                .iter()
                .map(|i| i.map_or("NULL".into(), |i| i.to_string()))
                .collect();
            format!("{} = ANY('{{{}}}')", operand_sql(l), items.join(","))
        }
        Pred::Bool(value) => value.map_or("NULL".into(), |b| b.to_string()),
        Pred::Rows(pairs) => {
            let side = |f: fn(&(Operand, Operand)) -> &Operand| {
                pairs
                    .iter()
                    .map(|p| operand_sql(f(p)))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            format!("({}) = ({})", side(|p| &p.0), side(|p| &p.1))
        }
    }
}

fn operand(rng: &mut StdRng) -> Operand {
    let n = rng.random_range(-2..=10);
    match rng.random_range(0..24) {
        0..10 => Operand::Key,
        10..18 => Operand::Const(n),
        18 => Operand::Text(n),
        19 => Operand::Half(n.abs()),
        20 => Operand::Sum(n, rng.random_range(-1..=3)),
        21 => Operand::Null,
        22 => Operand::KeyPlus(n),
        _ => Operand::A,
    }
}

/// Strings compare as strings with each other, which the evaluator does not know.
fn pair(rng: &mut StdRng) -> (Operand, Operand) {
    loop {
        let (l, r) = (operand(rng), operand(rng));
        let vague = |o: &Operand| matches!(o, Operand::Text(_) | Operand::Null);
        let half = |o: &Operand| matches!(o, Operand::Half(_));
        let strings = vague(&l) && vague(&r);
        let rounding = vague(&l) && half(&r) || half(&l) && vague(&r);
        if !strings && !rounding {
            return (l, r);
        }
    }
}

fn pred(rng: &mut StdRng, depth: u32) -> Pred {
    let several = |rng: &mut StdRng| {
        let count = rng.random_range(2..=3);
        (0..count).map(|_| pred(rng, depth - 1)).collect::<Vec<_>>()
    };
    let leaf = depth == 0;
    match rng.random_range(0..if leaf { 10 } else { 20 }) {
        0..4 => {
            let (l, r) = pair(rng);
            let ops = ["=", "=", "=", "<>", "<", "<=", ">", ">="];
            Pred::Compare(l, ops[rng.random_range(0..ops.len())], r)
        }
        4 => {
            let count = rng.random_range(1..=3);
            let items = (0..count).map(|_| Operand::Const(rng.random_range(-2..=10)));
            let mut items: Vec<Operand> = items.collect();
            if rng.random_bool(0.2) {
                items.push(Operand::Null);
            }
            Pred::In(Operand::Key, items, rng.random_bool(0.3))
        }
        5 => {
            let (l, h) = (rng.random_range(-2..=10), rng.random_range(-2..=10));
            Pred::Between(
                Operand::Key,
                Operand::Const(l),
                Operand::Const(h),
                rng.random_bool(0.3),
            )
        }
        6 => Pred::Null(operand(rng), rng.random_bool(0.5)),
        7 => {
            let (l, r) = pair(rng);
            Pred::Distinct(l, r, rng.random_bool(0.7))
        }
        8 => {
            let count = rng.random_range(0..=3);
            let items = (0..count).map(|_| rng.random_bool(0.9).then(|| rng.random_range(-2..=10)));
            Pred::Any(Operand::Key, items.collect())
        }
        9 => match rng.random_range(0..4) {
            0 => Pred::Bool(None),
            1 => Pred::Bool(Some(rng.random_bool(0.5))),
            _ => {
                let n = rng.random_range(-2..=10);
                Pred::Rows(vec![
                    (Operand::Key, Operand::Const(n)),
                    (Operand::A, Operand::Const(1)),
                ])
            }
        },
        10..14 => Pred::And(several(rng)),
        14..17 => Pred::Or(several(rng)),
        17 | 18 => Pred::Not(Box::new(pred(rng, depth - 1))),
        _ => {
            let kinds = [
                "TRUE",
                "NOT TRUE",
                "FALSE",
                "NOT FALSE",
                "UNKNOWN",
                "NOT UNKNOWN",
            ];
            Pred::Is(
                Box::new(pred(rng, depth - 1)),
                kinds[rng.random_range(0..kinds.len())],
            )
        }
    }
}

fn owner_of(table: &str, key: i64) -> u16 {
    let map = map();
    let placement = map.placement("public", table, &[] as &[(&str, KeyType)]);
    let mothership_shardmap::Placement::Sharded(sharded) = placement else {
        panic!("{table} is sharded")
    };
    let key = KeyType::Int8.from_integer(key.into()).unwrap();
    sharded.owner(&[key]).unwrap().0
}

#[test]
fn routed_shards_contain_every_true_row() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(0x5eed);
    println!("SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (catalog, map) = (catalog(), map());
    let planner = Planner::new(&catalog, &map);
    let context = PlanContext::default();
    let owners: Vec<(i64, u16, u16)> = KEYS
        .map(|key| (key, owner_of("t", key), owner_of("rng", key * 30)))
        .collect();
    let (mut routed, mut minimal) = (0usize, 0usize);
    for case in 0..50_000 {
        let predicate = pred(&mut rng, 3);
        let text = format!("SELECT * FROM t WHERE {}", sql(&predicate));
        let plan = planner.plan(&text, &context);
        let route = match route(&plan, &Params::NONE, &map, &TextContext::UTC, None) {
            Ok(route) => route,
            Err(refusal) => panic!("case {case} seed {seed}: {text}\n{plan}\n{refusal}"),
        };
        assert_reads_alike(&plan, &Params::NONE, &map, &Ok(route.clone()));
        let mut true_shards = std::collections::BTreeSet::new();
        for (key, owner, _) in &owners {
            for a in [None, Some(1), Some(5)] {
                if truth(&predicate, *key, a) == Some(true) {
                    true_shards.insert(*owner);
                }
            }
        }
        for shard in &true_shards {
            assert!(
                route.shards.iter().any(|s| s.0 == *shard),
                "case {case} seed {seed}: {text}\n{plan}\nrouted {:?}, true {true_shards:?}",
                route.shards
            );
        }
        routed += route.shards.len();
        minimal += true_shards.len().max(1);
    }
    let tightness = routed as f64 / minimal as f64;
    println!("routed / minimal = {tightness:.3}");
    assert!(tightness < 1.5, "routing has become loose: {tightness}");
}

#[test]
fn no_text_makes_the_planner_panic() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(0xf00d);
    println!("SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (catalog, map) = (catalog(), map());
    let planner = Planner::new(&catalog, &map);
    let context = PlanContext::default();
    let statements: Vec<&str> = include_str!("cases.txt")
        .lines()
        .filter(|line| !line.starts_with("    ") && !line.starts_with('#') && !line.is_empty())
        .collect();
    let pieces = [
        "(", ")", "'", "\"", "$1", "$$", "--", "/*", "é", "t", "id", "=", "5", ",", " OR ",
        " AND ", ";", "::", "\\", "E'", "U&\"", "SELECT ", " FROM ", "[", ".", "ONLY ", "TABLE ",
        "\0", " IS ", "NOT ",
    ];
    for _ in 0..15_000 {
        let mut text = statements[rng.random_range(0..statements.len())].to_owned();
        for _ in 0..rng.random_range(1..=3) {
            let mut at = rng.random_range(0..=text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            match rng.random_range(0..3) {
                0 => text.insert_str(at, pieces[rng.random_range(0..pieces.len())]),
                1 => text.truncate(at),
                _ => {
                    let other = statements[rng.random_range(0..statements.len())];
                    text.truncate(at);
                    text.push_str(other.get(other.len() / 2..).unwrap_or_default());
                }
            }
        }
        let plan = planner.plan(&text, &context);
        // Any bytes may be bound.
        let values: [Option<&[u8]>; 3] = [Some(b"\x00\xff"), None, Some(b"{1,\"")];
        for formats in [&[][..], &[1]] {
            let _ = route(
                &plan,
                &Params {
                    formats,
                    values: &values,
                    ..Params::NONE
                },
                &map,
                &TextContext::UNKNOWN,
                None,
            );
        }
        let _ = plan.to_string();
    }
}

/// PostgreSQL's own truth, where `MOTHERSHIP_TEST_POSTGRES` names a connection: the evaluator above agrees
/// with it, and routed shards contain its true rows.
#[test]
#[ignore = "needs a server: make test-planner"]
fn postgres_agrees_with_the_evaluator() {
    let dsn = std::env::var("MOTHERSHIP_TEST_POSTGRES").expect("MOTHERSHIP_TEST_POSTGRES");
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(0x9011);
    println!("SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (catalog, map) = (catalog(), map());
    let planner = Planner::new(&catalog, &map);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let owners: std::collections::HashMap<i64, u16> =
        KEYS.map(|key| (key, owner_of("t", key))).collect();
    let mut work = async |client: tokio_postgres::Client| {
        client
            .batch_execute("CREATE TEMP TABLE t (id bigint, a int)")
            .await
            .unwrap();
        for key in KEYS {
            client
                .batch_execute(&format!(
                    "INSERT INTO t VALUES ({key}, NULL), ({key}, 1), ({key}, 5)"
                ))
                .await
                .unwrap();
        }
        for _ in 0..5_000 {
            let predicate = pred(&mut rng, 3);
            let text = format!("SELECT * FROM t WHERE {}", sql(&predicate));
            let rows = client
                .simple_query(&text)
                .await
                .unwrap_or_else(|e| panic!("{text}: {e:?}"));
            let mut actual: Vec<(i64, Option<i64>)> = Vec::new();
            for row in &rows {
                if let tokio_postgres::SimpleQueryMessage::Row(row) = row {
                    actual.push((
                        row.get(0).unwrap().parse().unwrap(),
                        row.get(1).map(|a| a.parse().unwrap()),
                    ));
                }
            }
            let mut expected = Vec::new();
            for key in KEYS {
                for a in [None, Some(1), Some(5)] {
                    if truth(&predicate, key, a) == Some(true) {
                        expected.push((key, a));
                    }
                }
            }
            assert_eq!(actual, expected, "{text}");
            let plan = planner.plan(&text, &PlanContext::default());
            let route = route(&plan, &Params::NONE, &map, &TextContext::UTC, None).unwrap();
            for (key, _) in actual {
                assert!(route.shards.iter().any(|s| s.0 == owners[&key]), "{text}");
            }
        }
    };
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::select! {
            done = connection => panic!("the connection ended: {done:?}"),
            () = work(client) => {}
        }
    });
}
