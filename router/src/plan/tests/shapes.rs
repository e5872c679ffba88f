//! A plan of a shape is the plan of each text that it serves.
//!
//! All cases, each with other literals, letters and white space: what is planned for the text itself and
//! what the first text of its shape left must be routed alike, refusals included.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::plan::shaped::is_tame;
use crate::plan::slots::Literals;
use crate::plan::tests::vary::vary;
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
    let mut known: HashMap<Vec<u8>, Option<ShapedPlan>> = HashMap::new();
    let mut seen = Seen::default();
    let strings = context.standard_conforming_strings;
    for case in cases {
        for _ in 0..rounds {
            let sql = vary(&mut rng, case);
            seen.texts += 1;
            let Some(shape) = shape(sql.as_bytes(), strings, &mut scratch) else {
                continue;
            };
            if !is_tame(sql.as_bytes(), &shape, strings) {
                continue;
            }
            let Some(shaped) = known.get(shape.text) else {
                let planned = planner.plan_shape(&sql, shape.literals, context);
                seen.shapes += 1;
                seen.shared += usize::from(planned.shaped.is_some());
                known.insert(shape.text.to_vec(), planned.shaped);
                continue;
            };
            let Some(shaped) = shaped.as_ref().filter(|s| planner.serves(s, &sql)) else {
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

/// Not asserted: figures to read, with `--release --ignored --nocapture`.
#[test]
#[ignore = "figures, not a claim"]
fn speed() {
    use crate::session::shapes::{Known, Room, Shapes};
    use std::hint::black_box;
    use std::rc::Rc;
    let (catalog, map) = (catalog(), map());
    let planner = Planner::new(&catalog, &map);
    let context = Rc::new(PlanContext::default());
    let room = Room {
        shapes: 100,
        bytes: 1 << 20,
    };
    for sql in [
        "SELECT a FROM t WHERE id = 77123;",
        "UPDATE t SET a = 'x', b = b + 1 WHERE id = 77123",
        "INSERT INTO t (id, a, b) VALUES (77123, 'some text', 5)",
        "SELECT t.a, u.b FROM t JOIN u ON t.id = u.id WHERE t.id = 5 AND u.b > 100 AND t.a LIKE 'x%'",
    ] {
        let shapes = Shapes::default();
        let by_shape = |sql: &str| {
            let shaped = shapes.find(sql.as_bytes(), true, room).expect("a shape");
            let text = &sql[shaped.span.start..shaped.span.end];
            let known = match shaped.entry.plan(1, &context, &[]) {
                Known::Plan(known) if planner.serves(&known, text) => known,
                _ => {
                    let of = (&context, &[][..]);
                    let at = (&planner, 1);
                    shaped
                        .entry
                        .make_plan(at, of, text, &shaped.literals, &context);
                    return;
                }
            };
            let params = Params {
                literals: Literals::new(text.as_bytes(), &shaped.literals),
                ..Params::NONE
            };
            black_box(route(&known.plan, &params, &map, &TextContext::UTC, None).expect("a route"));
        };
        let parse = |sql: &str| {
            let dialect = sqlparser::dialect::PostgreSqlDialect {};
            black_box(sqlparser::parser::Parser::parse_sql(&dialect, sql).expect("it parses"));
        };
        let anew = |sql: &str| {
            let plan = planner.plan(sql.trim_end_matches(';'), &context);
            black_box(route(&plan, &Params::NONE, &map, &TextContext::UTC, None).expect("a route"));
        };
        // In turns, so that a busy machine is as busy for each; the best round of each counts.
        let mut best = [f64::INFINITY; 3];
        for _ in 0..40 {
            let works: [&dyn Fn(&str); 3] = [&by_shape, &parse, &anew];
            for (work, best) in works.into_iter().zip(&mut best) {
                let start = std::time::Instant::now();
                (0..500).for_each(|_| work(black_box(sql)));
                *best = best.min(start.elapsed().as_secs_f64() * 1e6 / 500.0);
            }
        }
        let [known, parsed, planned] = best;
        println!(
            "{known:.2} us by shape, {parsed:.2} us parsed, {planned:.2} us planned: {:.3} of a parse, {sql}",
            known / parsed
        );
    }
}

#[test]
fn what_is_asked_of_a_value_is_planned_for_each_text() {
    let (catalog, map) = (catalog(), map());
    let planner = Planner::new(&catalog, &map);
    let mut scratch = Scratch::new(4096, 256);
    let mut has_plan = |sql: &str| {
        let shape = shape(sql.as_bytes(), true, &mut scratch).expect("one statement");
        let context = PlanContext::default();
        is_tame(sql.as_bytes(), &shape, true)
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
