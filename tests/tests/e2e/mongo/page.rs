//! The tables of docs/mongodb.md: what becomes of statements on documents, as the router itself explains them.

use super::stage::Documents;
use crate::shards::stage::say;
use mothership_tests::Wire;
use std::fmt::Write as _;

/// Where the tables stand in the page.
const BEGIN: &str =
    "<!-- Made by `UPDATE_DOCS=1 cargo test -p mothership-tests --test e2e mongo::page`. -->\n";
const END: &str = "<!-- End of what is made. -->\n";

/// Statements by what they are about; `items` is a table of PostgreSQL, over three shards.
const STATEMENTS: &[(&str, &[&str])] = &[
    (
        "Conditions and columns",
        &[
            "SELECT * FROM events WHERE id = 7",
            "SELECT id, kind::text FROM events WHERE small > 3 AND kind <> 'a'",
            "SELECT id FROM events WHERE small IN (1, 2) OR count IS NULL",
            "SELECT id FROM events WHERE NOT (small BETWEEN 1 AND 5)",
            "SELECT id FROM events WHERE small NOT IN (1, NULL)",
            "SELECT id FROM events WHERE kind LIKE 'a%'",
            "SELECT id FROM events WHERE kind ILIKE 'a%'",
            "SELECT id FROM events WHERE kind LIKE 'a!%' ESCAPE '!'",
            "SELECT id FROM events WHERE small IS DISTINCT FROM 3",
            "SELECT id FROM events WHERE ratio > 0.5",
            "SELECT id FROM events WHERE words @> ARRAY['a']",
            "SELECT id FROM events WHERE words && ARRAY['a', 'b']",
            "SELECT id FROM events WHERE 'a' = ANY (words)",
            "SELECT id FROM events WHERE data->>'a' = 'b'",
            "SELECT id FROM events WHERE data->>'a' = 'b' OR small = 1",
            "SELECT id FROM events WHERE data @> '{\"a\": {\"b\": 1}}'",
            "SELECT id FROM events WHERE data ? 'a'",
            "SELECT count(*) FROM events WHERE data->>'a' = 'b'",
            "SELECT id FROM events WHERE small = count",
            "SELECT id FROM events WHERE amount = ratio",
            "SELECT id FROM events WHERE length(kind) = 3 AND small = 1",
            "SELECT upper(kind), small + 1 FROM events WHERE id = 7",
        ],
    ),
    (
        "Order, limits, aggregates",
        &[
            "SELECT id FROM events ORDER BY id LIMIT 5 OFFSET 2",
            "SELECT id FROM events ORDER BY small, upper(kind) LIMIT 5",
            "SELECT id FROM events ORDER BY small",
            "SELECT id FROM events ORDER BY small NULLS FIRST",
            "SELECT id FROM events ORDER BY upper(kind)",
            "SELECT count(*) FROM events WHERE small = 1",
            "SELECT min(small), max(amount), sum(count) FROM events",
            "SELECT sum(amount) FROM events",
            "SELECT avg(count) FROM events",
            "SELECT upper(kind), count(*) + 1 FROM events WHERE small > 3 GROUP BY kind",
            "SELECT kind, count(*) FROM events GROUP BY kind",
            "SELECT kind FROM events GROUP BY kind HAVING count(*) > 1",
            "SELECT DISTINCT kind FROM events",
            "SELECT count(DISTINCT kind) FROM events",
            "SELECT string_agg(kind, ',' ORDER BY id) FROM events",
        ],
    ),
    (
        "Several tables, subqueries, windows",
        &[
            "SELECT i.note, e.kind FROM items i JOIN events e ON e.id = i.id",
            "SELECT a.id FROM events a LEFT JOIN events b ON b.small = a.small",
            "SELECT id FROM events WHERE id IN (SELECT v FROM items)",
            "SELECT count(*) FROM (SELECT id FROM events WHERE small = 1 OFFSET 0) AS sub",
            "WITH few AS (SELECT * FROM events WHERE small = 1) SELECT count(*) FROM few",
            "SELECT id FROM events UNION SELECT id FROM items",
            "SELECT rank() OVER (ORDER BY small) FROM events",
            "COPY (SELECT id, kind FROM events) TO STDOUT",
            "DECLARE c CURSOR FOR SELECT id FROM events",
        ],
    ),
    (
        "Writes",
        &[
            "INSERT INTO events (id, kind) VALUES (1, 'a')",
            "INSERT INTO events (id, kind) VALUES (1, 'a') RETURNING *",
            "INSERT INTO events (id, kind) VALUES (1, upper('a'))",
            "INSERT INTO events (id, kind) SELECT id, note FROM items WHERE note IS NOT NULL",
            "INSERT INTO events (id) VALUES (1) ON CONFLICT DO NOTHING",
            "INSERT INTO events (id, small) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET small = EXCLUDED.small",
            "INSERT INTO events (id, small) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET small = events.small + EXCLUDED.small",
            "INSERT INTO events (id, small) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET small = events.small * 2",
            "INSERT INTO events (id, small) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET small = 2 WHERE events.small < 2",
            "UPDATE events SET kind = 'b', small = NULL WHERE id = 1",
            "UPDATE events SET small = small + 1 WHERE kind = 'a'",
            "UPDATE events SET kind = upper(kind) WHERE id = 1",
            "UPDATE events e SET kind = i.note FROM items i WHERE i.id = e.id AND i.note IS NOT NULL",
            "UPDATE events SET id = 2 WHERE id = 1",
            "UPDATE events SET id = id + 1",
            "DELETE FROM events WHERE small < 3",
            "DELETE FROM events WHERE length(kind) > 3 RETURNING id",
            "MERGE INTO events e USING items i ON i.id = e.id WHEN MATCHED THEN DELETE",
            "MERGE INTO items i USING events e ON i.id = e.id WHEN MATCHED THEN DELETE",
            "WITH w AS (DELETE FROM events WHERE id = 1 RETURNING *) SELECT count(*) FROM w",
            "WITH w AS (UPDATE events SET kind = upper(kind) WHERE id = 1 RETURNING *) SELECT count(*) FROM w",
            "WITH few AS (SELECT id FROM items WHERE v > 3) DELETE FROM events WHERE id IN (SELECT id FROM few)",
            "COPY events FROM STDIN",
            "TRUNCATE events",
            "ALTER TABLE events ADD COLUMN more text",
        ],
    ),
    (
        "Locks",
        &[
            "SELECT id FROM events WHERE id = 1 FOR UPDATE",
            "SELECT e.id FROM events e JOIN items i ON i.id = e.id FOR UPDATE",
        ],
    ),
];

#[test]
fn the_page_says_what_becomes_of_statements() {
    let (Some(one), Some(three)) = (Documents::over(1), Documents::over(3)) else {
        return;
    };
    let mut wires = [one.stage.wire(), three.stage.wire()];
    let mut made = String::from(BEGIN);
    for (about, statements) in STATEMENTS {
        let _ = write!(
            made,
            "\n### {about}\n\n| Statement | On one replica set | On three |\n|---|---|---|\n"
        );
        for sql in *statements {
            let [one, three] = wires.each_mut().map(|wire| becomes(wire, sql));
            let three = if one == three { "the same" } else { &three };
            let shown = sql.replace('|', "\\|");
            let _ = writeln!(made, "| `{shown}` | {one} | {three} |");
        }
    }
    made.push('\n');
    made.push_str(END);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/mongodb.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("its begin");
    let (_, after) = rest.split_once(END).expect("its end");
    let page_now = format!("{before}{made}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page_now).unwrap();
    }
    let page = std::fs::read_to_string(path).unwrap();
    assert!(
        page == page_now,
        "docs/mongodb.md is not what the router says: UPDATE_DOCS=1 writes it"
    );
}

/// What becomes of a statement, in the words of the page: as the router explains it, unless it refuses to do it.
fn becomes(wire: &mut Wire, sql: &str) -> String {
    let explained = explained(wire, sql);
    if sql.ends_with("FROM STDIN") {
        return explained;
    }
    let answer = say(wire, sql);
    let refused = answer
        .iter()
        .find_map(|line| line.strip_prefix("Error 0A000 "));
    match refused {
        Some(why) => format!("refused: {why}"),
        None => explained,
    }
}

fn explained(wire: &mut Wire, sql: &str) -> String {
    let route = say(wire, &format!("EXPLAIN (ROUTE) {sql}"));
    let of = |what: &str| {
        let lines = route.iter();
        let mut found = lines.filter_map(|line| line.strip_prefix("DataRow ")?.strip_prefix(what));
        found.next()
    };
    let plan = of("Plan: ").unwrap_or_else(|| panic!("{sql}: {route:?}"));
    match plan {
        "Refuse" => format!("refused: {}", of("Message: ").expect("its message")),
        "Single" if sql.starts_with("COPY") => "`insert`".to_owned(),
        "Split" => "`insert`, the rows divided by their key".to_owned(),
        "Single" | "Scatter" => {
            let explained = say(wire, &format!("EXPLAIN {sql}"));
            let commands: Vec<&str> = explained.iter().filter_map(|line| command(line)).collect();
            let Some(first) = commands.first() else {
                panic!("{sql}: {explained:?}");
            };
            assert!(
                commands.iter().all(|one| one == first),
                "{sql}: {commands:?}"
            );
            let shards = of("Shards: ").map_or(0, |shards| shards.split(", ").count());
            let first = match *first {
                "rows" => return "nothing is asked: there are no such rows".to_owned(),
                "move" => "`delete` and `insert`".to_owned(),
                "upsert" => "`update`, else `insert`".to_owned(),
                name => format!("`{name}`"),
            };
            match shards {
                1 => first,
                several => format!("{first} on {several}, merged"),
            }
        }
        "Gather" if of("Documents on").is_some() || of("Rows are stored").is_some() => {
            "computed, and then written by key".to_owned()
        }
        "Gather" => {
            let explained = say(wire, &format!("EXPLAIN {sql}"));
            let filters = explained.iter().filter_map(|line| filter(line));
            let mut filters: Vec<&str> = filters.collect();
            filters.dedup();
            let commands = || explained.iter().filter_map(|line| command(line));
            let is_limited = explained.iter().any(|line| line.contains(",\"limit\":"));
            match filters.as_slice() {
                [] if commands().any(|name| name == "aggregate") => {
                    "gathered; `aggregate`".to_owned()
                }
                [] => "gathered".to_owned(),
                ["{}"] if is_limited => "gathered; `find` of the first".to_owned(),
                ["{}"] => "gathered; `find` of all".to_owned(),
                filters => format!("gathered; `find` by `{}`", filters.join("`, `")),
            }
        }
        other => panic!("{sql}: {other}"),
    }
}

/// The name of the command in a line of EXPLAIN.
fn command(line: &str) -> Option<&str> {
    let (_, command) = line.split_once("Command: {\"")?;
    command.split('"').next()
}

/// The filter of the find in a line of EXPLAIN.
fn filter(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("\"filter\":")?;
    let (filter, _) = rest.split_once(",\"projection\"")?;
    Some(filter)
}
