//! A plan of a shape is the plan of each text that it serves.
//!
//! All cases, each with other literals, letters and white space: what is planned for the text itself and
//! what the first text of its shape left must be routed alike, refusals included.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::vary::vary;
use super::*;
use crate::shaped::has_only_plain_tokens;
use crate::slots::Literals;
use mothership_sql::shape::{Scratch, shape};

/// Values for parameters.
const BOUND: &[Option<&[u8]>] = &[
    Some(b"5"),
    Some(b"6"),
    Some(b"a"),
    Some(b"{1,2}"),
    Some(b""),
    Some(b"2020-01-01"),
    None,
];

/// What a session takes from a plan beside its route.
fn rest(plan: &Plan) -> String {
    match plan {
        Plan::Single(single) => format!(
            "single home={} {:?}",
            single.target == Target::Home,
            single.unknown
        ),
        Plan::Scatter(_) => "scatter".to_owned(),
        Plan::Gather(gather) => format!("gather {} {}", gather.fragments.len(), gather.home),
        Plan::Split(split) => match &split.rows {
            SplitRows::Values {
                rows,
                parameter_types,
                ..
            } => format!("split {} {parameter_types:?}", rows.len()),
            SplitRows::Copy { .. } => "copy".to_owned(),
        },
        Plan::Fill(fill) => format!("{fill:?}"),
        Plan::Ddl(ddl) => format!("{ddl:?}"),
        Plan::Local(local) => format!("{local:?}"),
        Plan::Refuse(refusal) => format!("{refusal:?}"),
        Plan::Guarded(guarded) => format!("guarded {}", rest(&guarded.plan)),
    }
}

#[derive(Default)]
struct Seen {
    texts: usize,
    shapes: usize,
    shared: usize,
    served: usize,
}

/// The texts of the cases.
fn cases() -> Vec<String> {
    let lines = include_str!("cases.txt").lines();
    lines
        .filter(|l| !l.starts_with("    ") && !l.starts_with('#') && !l.trim().is_empty())
        .map(|l| l.replace("\\n", "\n"))
        .collect()
}

fn compare(cases: &[String], rounds: usize, seed: u64, context: &PlanContext) -> Seen {
    let (catalog, map) = (catalog(), map());
    let planner = Planner::new(&catalog, &map);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut scratch = Scratch::new(4096, 256);
    let mut known: HashMap<Vec<u8>, Option<GenericPlan>> = HashMap::new();
    let mut seen = Seen::default();
    let strings = context.standard_conforming_strings;
    for case in cases {
        for _ in 0..rounds {
            let sql = vary(&mut rng, case);
            seen.texts += 1;
            let Some(shape) = shape(sql.as_bytes(), strings, &mut scratch) else {
                continue;
            };
            if !has_only_plain_tokens(sql.as_bytes(), &shape, strings) {
                continue;
            }
            let Some(shaped) = known.get(shape.text) else {
                let planned = planner.plan_shape(&sql, shape.literals, context);
                seen.shapes += 1;
                seen.shared += usize::from(planned.shaped.is_some());
                known.insert(shape.text.to_vec(), planned.shaped);
                continue;
            };
            let Some(shaped) = shaped.as_ref().filter(|s| planner.is_valid_for(s, &sql)) else {
                continue;
            };
            seen.served += 1;
            let own = planner.plan(&sql, context);
            let shown = || {
                format!(
                    "seed {seed}\n{sql}\nby shape {:?}\nitself   {own:?}",
                    shaped.plan
                )
            };
            assert_eq!(rest(&shaped.plan), rest(&own), "{}", shown());
            let values: Vec<_> = (0..4)
                .map(|_| BOUND[rng.random_range(0..BOUND.len())])
                .collect();
            let text = TextContext::UTC;
            let params = Params {
                values: &values,
                ..Params::NONE
            };
            let with = Params {
                literals: Literals::new(sql.as_bytes(), shape.literals),
                ..params
            };
            let routed = route(&shaped.plan, &with, &map, &text, None);
            assert_reads_alike(&shaped.plan, &with, &map, &routed);
            assert_eq!(
                routed,
                route(&own, &params, &map, &text, None),
                "{}",
                shown()
            );
        }
    }
    seen
}

#[test]
fn a_plan_of_a_shape_is_the_plan_of_every_text_that_it_serves() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| rand::rng().random());
    let count: usize = std::env::var("COUNT")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(35_000);
    println!("SEED={seed} COUNT={count}");
    let backslashes = PlanContext {
        standard_conforming_strings: false,
        ..PlanContext::default()
    };
    let typed = PlanContext {
        parameter_types: vec![20, 23, 25],
        ..PlanContext::default()
    };
    let contexts = [PlanContext::default(), backslashes, typed];
    let cases = cases();
    let rounds = count.div_ceil(contexts.len() * cases.len());
    let seen = std::thread::scope(|scope| {
        let compare = |context| compare(&cases, rounds, seed, context);
        let comparing = contexts
            .each_ref()
            .map(|context| scope.spawn(move || compare(context)));
        comparing.map(|thread| match thread.join() {
            Ok(seen) => seen,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    });
    for Seen {
        texts,
        shapes,
        shared,
        served,
    } in &seen
    {
        println!(
            "{texts} texts, {shapes} shapes, {shared} of them with a plan, which served {served} other texts"
        );
    }
    let [Seen { shared, served, .. }, ..] = &seen;
    assert!(
        *served > rounds * 200 && *shared > 200,
        "too few to prove anything"
    );
}

#[test]
fn what_is_asked_of_a_value_is_planned_for_each_text() {
    let (catalog, map) = (catalog(), map());
    let planner = Planner::new(&catalog, &map);
    let mut scratch = Scratch::new(4096, 256);
    let mut has_plan = |sql: &str| {
        let shape = shape(sql.as_bytes(), true, &mut scratch).expect("one statement");
        let context = PlanContext::default();
        has_only_plain_tokens(sql.as_bytes(), &shape, true)
            && planner
                .plan_shape(sql, shape.literals, &context)
                .shaped
                .is_some()
    };
    for shared in [
        "SELECT * FROM t WHERE id = 5",
        "SELECT * FROM t WHERE id = - 5",
        "SELECT * FROM t WHERE id = -5",
        "SELECT * FROM t WHERE id = '5'",
        "SELECT * FROM t WHERE id IN (1, 2, 3) AND a = 'x'",
        "SELECT * FROM t WHERE id = 5::bigint AND b > 1.5 LIMIT 3",
        "SELECT * FROM t WHERE id = ANY('{1,2}')",
        "SELECT count(*) FROM t WHERE id BETWEEN 1 AND 5",
        "INSERT INTO t (id, a) VALUES (1, 'x'), (2, 'y')",
        "UPDATE t SET a = 'x' WHERE id = 5",
        "DELETE FROM t WHERE id = 5",
        "SELECT * FROM nowhere WHERE a = 'x'",
    ] {
        assert!(has_plan(shared), "{shared}");
    }
    for own in [
        "SELECT * FROM t WHERE 1 = 0",
        "SELECT * FROM t WHERE id = 2 + 3",
        "SELECT * FROM t WHERE id = 5 AND current_setting('app.tenant') = 'x'",
        "SELECT * FROM t WHERE id = $$5$$",
        "SELECT * FROM t WHERE id = E'5'",
        "SELECT * FROM t WHERE id = 99999999999999999999",
        "SELECT * FROM t WHERE id=-5",
        "SELECT * FROM t -- not simple\n WHERE id = 5",
        "SELECT * FROM t WHERE a = 'x\u{1}'",
        "SET search_path = 'a'",
    ] {
        assert!(!has_plan(own), "{own}");
    }
}
