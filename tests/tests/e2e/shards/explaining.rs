//! EXPLAIN of statements over several shards: the servers' plans under the router's, and what ANALYZE does is done once.

use super::gathered::compare;
use super::stage::{Stage, extended, keys_of, one, one_each, say, send};
use mothership_tests::Wire;
use mothership_tests::message::{self, Format};
use serde_json::Value;

fn plan(wire: &mut Wire, sql: &str) -> Vec<String> {
    let rows = wire.rows(sql);
    rows.into_iter().flatten().collect()
}

fn filled() -> Stage {
    let stage = Stage::new();
    stage.fill(1..=30);
    stage
}

#[test]
fn every_shard_explains_its_part_of_a_scatter() {
    let stage = filled();
    let mut wire = stage.wire();
    let lines = plan(
        &mut wire,
        "EXPLAIN (COSTS off) SELECT * FROM items WHERE v > 5",
    );
    assert_eq!(
        lines,
        [
            "Scatter",
            "  Shards: s1, s2, s3",
            "  Server: primary or replica (it only reads, and only what replicas have)",
            "  Merge: concat (rows follow each other, counts are added)",
            "  Table: public.items by id: any",
            "  Differs: one snapshot per shard, so a concurrent commit over several shards may be seen on one and not yet on another",
            "  ->  Shard s1",
            "        Seq Scan on items",
            "          Filter: (v > 5)",
            "  ->  Shard s2",
            "        Seq Scan on items",
            "          Filter: (v > 5)",
            "  ->  Shard s3",
            "        Seq Scan on items",
            "          Filter: (v > 5)",
        ]
    );
    let [a, b, _] = one_each();
    let sql = format!("EXPLAIN SELECT * FROM items WHERE id IN ({a}, {b})");
    let lines = plan(&mut wire, &sql);
    assert!(lines.contains(&"  Pruned: s3".to_owned()), "{lines:#?}");
    assert!(
        !lines.iter().any(|line| line.contains("Shard s3")),
        "{lines:#?}"
    );
}

#[test]
fn what_is_gathered_is_explained_where_it_is_fetched_and_where_it_is_used() {
    let stage = filled();
    let mut wire = stage.wire();
    let sql = "EXPLAIN (ANALYZE, VERBOSE, COSTS off) SELECT count(DISTINCT note), sum(v) FROM items WHERE v > 10";
    let lines = plan(&mut wire, sql);
    assert_eq!(lines[0], "Gather", "{lines:#?}");
    let has = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    assert_eq!(has("->  Fragment 1 on s"), 3, "{lines:#?}");
    assert_eq!(has("->  Fetched from s"), 3, "{lines:#?}");
    assert_eq!(has("->  Residue on s"), 1, "{lines:#?}");
    assert_eq!(has("query=SELECT"), 3, "{lines:#?}");
    assert!(
        has("Because: ") == 1 && has("Filter: (items.v > 10)") == 3,
        "{lines:#?}"
    );
    let fetched: u64 = lines
        .iter()
        .filter_map(|line| {
            line.split_once("rows=")
                .filter(|(title, _)| title.contains("Fetched"))
        })
        .map(|(_, rest)| rest.split(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(fetched, 25, "{lines:#?}");
    assert!(has("unnest('...'") > 0 && has("n20") == 0, "{lines:#?}");
    assert!(
        lines.last().unwrap().starts_with("Execution Time: "),
        "{lines:#?}"
    );
    let calm = "EXPLAIN (ANALYZE, TIMING off, SUMMARY off) SELECT sum(v) FROM items WHERE v > 10 GROUP BY note ORDER BY 1";
    let lines = plan(&mut wire, calm);
    assert!(!lines.iter().any(|line| line.contains(" ms")), "{lines:#?}");
}

#[test]
fn a_plan_is_one_document_of_json() {
    let stage = filled();
    let mut wire = stage.wire();
    for (sql, parts) in [
        ("SELECT * FROM items", 3),
        ("SELECT v FROM items ORDER BY lower(note), id OFFSET 1", 7),
        ("UPDATE items SET v = v + 1", 3),
    ] {
        let frames = wire.query(&format!("EXPLAIN (ANALYZE, FORMAT json, BUFFERS) {sql}"));
        // Behind the name are a table, a column, and the type.
        let body = &frames[0].body;
        let name = 2 + "QUERY PLAN\0".len();
        assert_eq!(body[name + 6..name + 10], 114u32.to_be_bytes(), "{sql}");
        let row = frames[1].to_string();
        let text = row.strip_prefix("DataRow ").unwrap();
        let document: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let plan = &document[0]["Plan"];
        assert!(plan["Node Type"].is_string(), "{text}");
        assert!(document[0]["Execution Time"].is_number(), "{text}");
        let plans = plan["Plans"].as_array().unwrap();
        assert_eq!(plans.len(), parts, "{text}");
        for part in plans.iter().filter(|part| part["Rows"].is_null()) {
            assert!(part["Plans"][0]["Node Type"].is_string(), "{text}");
            assert!(part["Execution Time"].is_number(), "{text}");
        }
        assert_eq!(frames[2].to_string(), "CommandComplete EXPLAIN");
    }
}

#[test]
fn what_lies_on_one_shard_is_its_servers_own_plan() {
    let stage = filled();
    let mut wire = stage.wire();
    let key = keys_of(2, 1)[0];
    for options in [
        "",
        "(COSTS off) ",
        "VERBOSE ",
        "(FORMAT yaml) ",
        "(FORMAT json, COSTS off) ",
    ] {
        let sql = format!("EXPLAIN {options}SELECT v FROM items WHERE id = {key}");
        let mut direct = Wire::login(&stage.shards.endpoint(2));
        assert_eq!(plan(&mut wire, &sql), plan(&mut direct, &sql));
    }
}

#[test]
fn explain_analyze_of_a_write_is_done_once_and_on_all_shards_or_none() {
    let stage = filled();
    let mut wire = stage.wire();
    let sum = "SELECT sum(v) FROM items";
    let before: i64 = one(&mut wire, sum).parse().unwrap();
    let add = "UPDATE items SET v = v + 1";
    plan(&mut wire, &format!("EXPLAIN {add}"));
    assert_eq!(one(&mut wire, sum), before.to_string());
    plan(&mut wire, &format!("EXPLAIN ANALYZE {add}"));
    assert_eq!(one(&mut wire, sum), (before + 30).to_string());
    // What needs rows of other shards.
    let above = "UPDATE items SET v = v + 1 WHERE v >= (SELECT min(v) FROM items)";
    let lines = plan(&mut wire, &format!("EXPLAIN (ANALYZE) {above}"));
    assert_eq!(
        lines.iter().filter(|l| l.contains("Residue on")).count(),
        3,
        "{lines:#?}"
    );
    assert_eq!(one(&mut wire, sum), (before + 60).to_string());
    let ask = |wire: &mut Wire, sql: &str| send(wire, &extended(sql, &[], &[]));
    let said = ask(&mut wire, &format!("EXPLAIN ANALYZE {above}"));
    assert_eq!(
        said[said.len() - 2..],
        ["CommandComplete EXPLAIN", "ReadyForQuery I"],
        "{said:#?}"
    );
    assert_eq!(one(&mut wire, sum), (before + 90).to_string());
    // Rows of a list go where their keys belong.
    let rows: Vec<String> = (101..=110).map(|id| format!("({id}, 1)")).collect();
    let insert = format!(
        "EXPLAIN (ANALYZE, COSTS off) INSERT INTO items (id, v) VALUES {}",
        rows.join(", ")
    );
    let lines = plan(&mut wire, &insert);
    assert_eq!(lines[0], "Split", "{lines:#?}");
    assert_eq!(stage.ids("items").len(), 40);
    // One shard refuses: nothing is done anywhere.
    let failed = say(&mut wire, &insert);
    assert!(failed[0].starts_with("Error 23505"), "{failed:?}");
    let some: Vec<String> = (201..=209)
        .chain([101])
        .map(|id| format!("({id}, 1)"))
        .collect();
    let failed = say(
        &mut wire,
        &format!(
            "EXPLAIN ANALYZE INSERT INTO items (id, v) VALUES {}",
            some.join(", ")
        ),
    );
    assert!(failed[0].starts_with("Error 23505"), "{failed:?}");
    assert_eq!(stage.ids("items").len(), 40);
    // In the client's own transaction it holds or falls with that.
    wire.query("BEGIN");
    plan(&mut wire, "EXPLAIN ANALYZE DELETE FROM items");
    assert_eq!(one(&mut wire, "SELECT count(*) FROM items"), "0");
    wire.query("ROLLBACK");
    assert_eq!(stage.ids("items").len(), 40);
    // Several statements of one text.
    let said = say(
        &mut wire,
        &format!("SELECT 1; EXPLAIN ANALYZE {add}; SELECT 2"),
    );
    assert!(
        said.contains(&"CommandComplete EXPLAIN".to_owned()),
        "{said:?}"
    );
    assert_eq!(said.last().unwrap(), "ReadyForQuery I");
    assert_eq!(one(&mut wire, sum), (before + 90 + 10 + 40).to_string());
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

#[test]
fn parameters_choose_the_shards_that_explain() {
    let stage = filled();
    let mut wire = stage.wire();
    let [a, b, _] = one_each();
    let mut ask = |sql: &str, values: &[&str]| {
        let types = vec![20; values.len()];
        let messages = vec![
            message::parse("s", sql, &types),
            message::describe_statement("s"),
            message::bind("p", "s", Format::Text, &texts(values), Format::Text),
            message::describe_portal("p"),
            message::execute("p", 2),
            message::execute("p", 0),
            message::close_statement("s"),
            message::sync(),
        ];
        send(&mut wire, &messages)
    };
    let said = ask(
        "EXPLAIN SELECT * FROM items WHERE id IN ($1, $2)",
        &[&a.to_string(), &b.to_string()],
    );
    let has = |what: &str| said.iter().filter(|line| line.contains(what)).count();
    assert_eq!(has("RowDescription"), 2, "{said:#?}");
    assert_eq!(has("->  Shard"), 2, "{said:#?}");
    assert_eq!(has("PortalSuspended"), 1, "{said:#?}");
    assert_eq!(has("CommandComplete EXPLAIN"), 1, "{said:#?}");
    let said = ask(
        "EXPLAIN ANALYZE SELECT note FROM items WHERE v > $1 ORDER BY lower(note) OFFSET $2",
        &["7", "1"],
    );
    let has = |what: &str| said.iter().filter(|line| line.contains(what)).count();
    assert_eq!(has("->  Fetched from"), 3, "{said:#?}");
    assert_eq!(has("CommandComplete EXPLAIN"), 1, "{said:#?}");
    let said = ask(
        "EXPLAIN SELECT * FROM items WHERE id = $1",
        &[&a.to_string()],
    );
    assert!(!said.iter().any(|line| line.contains("Shard")), "{said:#?}");
}

#[test]
fn explain_of_an_execute_shows_no_rows() {
    let stage = filled();
    let mut wire = stage.wire();
    let [key, _, _] = one_each();
    for body in [
        "SELECT v FROM items",
        "SELECT v FROM items ORDER BY lower(note), id",
        "UPDATE items SET v = v + 1",
    ] {
        say(&mut wire, &format!("PREPARE p AS {body}"));
        for sql in ["EXPLAIN EXECUTE p", "EXPLAIN ANALYZE EXECUTE p"] {
            let said = say(&mut wire, sql);
            assert!(said[0].starts_with("Error 0A000"), "{said:?}");
            let said = send(&mut wire, &extended(sql, &[], &[]));
            assert!(
                said.iter().any(|line| line.starts_with("Error 0A000")),
                "{said:?}"
            );
        }
        say(&mut wire, "DEALLOCATE ALL");
    }
    say(&mut wire, "PREPARE p AS SELECT v FROM items WHERE id = $1");
    let lines = plan(&mut wire, &format!("EXPLAIN EXECUTE p ({key})"));
    assert!(lines[0].contains("Scan"), "{lines:?}");
    assert_eq!(one(&mut wire, "SELECT sum(v) FROM items"), "930");
}

fn texts<'v>(values: &[&'v str]) -> Vec<Option<&'v [u8]>> {
    values.iter().map(|value| Some(value.as_bytes())).collect()
}

#[test]
fn what_postgresql_says_of_a_statement_is_said_of_its_explain() {
    let statements = [
        "EXPLAIN SELECT nothing FROM people",
        "EXPLAIN (COSTS off) SELECT 'ž', nothing FROM people ORDER BY id",
        "EXPLAIN (WRONG) SELECT id FROM people",
        "EXPLAIN ANALYZE SELECT 1 / (id - id) FROM people",
        "EXPLAIN ANALYZE UPDATE people SET age = 1 / (id - 5)",
        "EXPLAIN (FORMAT wrong) SELECT id FROM people WHERE id = 5",
        "SELECT count(*) FROM people",
    ];
    compare(&statements, say);
}
