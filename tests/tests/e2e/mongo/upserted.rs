//! ON CONFLICT DO UPDATE of documents, of what MongoDB computes and of what PostgreSQL does.

use super::alike::{both, filled};
use super::stage::Documents;
use crate::shards::stage::{extended, one, say, send};

/// Writes to `{t}`, one after the other; what each answers, and what is there then, is compared.
const WRITES: [&str; 53] = [
    // Counters, which MongoDB adds to.
    "INSERT INTO {t} (id, count) VALUES (1, 5) ON CONFLICT (id) DO UPDATE SET count = {t}.count + 1",
    "INSERT INTO {t} (id, count) VALUES (100, 5) ON CONFLICT (id) DO UPDATE SET count = {t}.count + 1 RETURNING *",
    "INSERT INTO {t} (id, count) VALUES (1, 5) ON CONFLICT (id) DO UPDATE SET count = {t}.count + EXCLUDED.count RETURNING id, count",
    "INSERT INTO {t} AS e (id, count) VALUES (100, 7) ON CONFLICT (id) DO UPDATE SET count = EXCLUDED.count + e.count, kind = 'seen'",
    "INSERT INTO {t} (id, count) VALUES (1, 7), (101, 1), (5, 2) ON CONFLICT (id) DO UPDATE SET count = {t}.count - EXCLUDED.count RETURNING id, count",
    "INSERT INTO {t} (id, count) VALUES (2, 7) ON CONFLICT (id) DO UPDATE SET count = {t}.count + 1",
    "INSERT INTO {t} (id, count) VALUES (1, NULL) ON CONFLICT (id) DO UPDATE SET count = {t}.count + EXCLUDED.count RETURNING count",
    "INSERT INTO {t} (id, count) VALUES (3, 1) ON CONFLICT (id) DO UPDATE SET count = {t}.count + 1",
    "INSERT INTO {t} (id, small) VALUES (3, 1) ON CONFLICT (id) DO UPDATE SET small = {t}.small + EXCLUDED.small",
    "INSERT INTO {t} (id, small) VALUES (6, 1) ON CONFLICT (id) DO UPDATE SET small = {t}.small + EXCLUDED.small, count = {t}.small + 1",
    "INSERT INTO {t} (id, count) VALUES (6, 1) ON CONFLICT (id) DO UPDATE SET count = count + 1",
    // What PostgreSQL computes.
    "INSERT INTO {t} (id, kind) VALUES (5, 'x') ON CONFLICT (id) DO UPDATE SET kind = {t}.kind || EXCLUDED.kind RETURNING id, kind",
    "INSERT INTO {t} (id, kind) VALUES (102, 'x') ON CONFLICT (id) DO UPDATE SET kind = {t}.kind || EXCLUDED.kind RETURNING *",
    "INSERT INTO {t} (id, kind) VALUES (102, upper('y')) ON CONFLICT (id) DO UPDATE SET kind = EXCLUDED.kind || {t}.kind",
    "INSERT INTO {t} (id, data) VALUES (102, '{\"a\": 1}') ON CONFLICT (id) DO UPDATE SET data = COALESCE({t}.data, '{}') || EXCLUDED.data RETURNING data",
    "INSERT INTO {t} (id, data) VALUES (102, '{\"b\": [2]}') ON CONFLICT (id) DO UPDATE SET data = {t}.data || EXCLUDED.data RETURNING data",
    "INSERT INTO {t} (id, words) VALUES (102, '{a}') ON CONFLICT (id) DO UPDATE SET words = array_append({t}.words, 'b')",
    "INSERT INTO {t} (id, amount, ratio) VALUES (102, 1.5, 2) ON CONFLICT (id) DO UPDATE SET amount = GREATEST({t}.amount, EXCLUDED.amount), ratio = EXCLUDED.ratio / 4",
    "INSERT INTO {t} AS e (id, count) VALUES (102, 3), (103, 4), (104, 2 + 3) ON CONFLICT (id) DO UPDATE SET count = COALESCE(e.count, 0) + EXCLUDED.count, name = DEFAULT RETURNING e.id, e.count * 2 AS twice, e.kind",
    "INSERT INTO {t} (id, count) VALUES (104, 3), (103, 4), (105, 5) ON CONFLICT (id) DO UPDATE SET count = {t}.count * EXCLUDED.count RETURNING {t}.*",
    "INSERT INTO {t} (id, kind, day) VALUES (105, 'd', '2020-02-29') ON CONFLICT ON CONSTRAINT {t}_pkey DO UPDATE SET day = EXCLUDED.day + 1, kind = lower(EXCLUDED.kind)",
    "INSERT INTO {t} (id, kind) VALUES (105, 'again') ON CONFLICT (id) DO UPDATE SET id = EXCLUDED.id, kind = EXCLUDED.kind RETURNING id, kind",
    "INSERT INTO {t} (id, kind, count) SELECT id, note, v FROM items ON CONFLICT (id) DO UPDATE SET count = COALESCE({t}.count, 0) / 2 + EXCLUDED.count, kind = EXCLUDED.kind",
    "INSERT INTO {t} (id, count) SELECT id, max(v) FROM items WHERE id < 4 GROUP BY id ON CONFLICT (id) DO UPDATE SET count = (SELECT max(v) FROM items) - {t}.count",
    // Conditions.
    "INSERT INTO {t} (id, count) VALUES (102, 9) ON CONFLICT (id) DO UPDATE SET count = EXCLUDED.count WHERE {t}.count < EXCLUDED.count",
    "INSERT INTO {t} (id, count) VALUES (102, 8) ON CONFLICT (id) DO UPDATE SET count = EXCLUDED.count WHERE {t}.count < EXCLUDED.count RETURNING id",
    "INSERT INTO {t} (id, count) VALUES (102, 8), (106, 1) ON CONFLICT (id) DO UPDATE SET count = EXCLUDED.count WHERE {t}.kind IS DISTINCT FROM EXCLUDED.kind RETURNING id, count",
    "INSERT INTO {t} (id, count) VALUES (3, 1) ON CONFLICT (id) DO UPDATE SET count = 7 WHERE {t}.small = 1",
    "INSERT INTO {t} (id, count) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET count = 7 WHERE {t}.kind = 'plain'",
    "INSERT INTO {t} (id, count) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET count = 7 WHERE NULL",
    "INSERT INTO {t} (id, count) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET count = EXCLUDED.count WHERE length({t}.kind) > 100",
    // What is wrong.
    "INSERT INTO {t} (id, kind) VALUES (1, NULL) ON CONFLICT (id) DO UPDATE SET kind = lower({t}.kind)",
    "INSERT INTO {t} (id, kind) VALUES (NULL, 'x') ON CONFLICT (id) DO UPDATE SET kind = lower({t}.kind)",
    "INSERT INTO {t} (id, name) VALUES (1, 'much too long a name') ON CONFLICT (id) DO UPDATE SET kind = lower({t}.kind)",
    "INSERT INTO {t} (id, name) VALUES (1, 'n') ON CONFLICT (id) DO UPDATE SET name = repeat({t}.kind, 4)",
    "INSERT INTO {t} (id, kind) VALUES (1, 'n') ON CONFLICT (id) DO UPDATE SET kind = NULLIF({t}.kind, {t}.kind)",
    "INSERT INTO {t} (id, count) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET count = {t}.count / 0",
    "INSERT INTO {t} (id, small) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET small = {t}.small * 40000",
    "INSERT INTO {t} (id, count) VALUES (1, 1), (1, 2) ON CONFLICT (id) DO UPDATE SET count = {t}.count * 2",
    "INSERT INTO {t} (id, count) VALUES (200, 1), (200, 2) ON CONFLICT (id) DO UPDATE SET count = {t}.count * 2",
    "INSERT INTO {t} (id, count) VALUES (1, 1), (1, 2) ON CONFLICT (id) DO UPDATE SET count = {t}.count + 1",
    "INSERT INTO {t} (id, count) VALUES (200, 1), (200, 2) ON CONFLICT (id) DO UPDATE SET count = {t}.count + 1",
    "INSERT INTO {t} (id, count) VALUES (1, 1), (1, 2) ON CONFLICT (id) DO UPDATE SET count = 0 WHERE {t}.kind = 'nothing'",
    // What is wrong first is told.
    "INSERT INTO {t} (id, count) VALUES (200, 1), (NULL, 2), (200, 3) ON CONFLICT (id) DO UPDATE SET count = {t}.count * 2",
    "INSERT INTO {t} (id, count) VALUES (200, 1), (200, 2), (NULL, 3) ON CONFLICT (id) DO UPDATE SET count = {t}.count * 2",
    "INSERT INTO {t} (id, kind) VALUES (200, NULL), (1, 'x') ON CONFLICT (id) DO UPDATE SET kind = NULLIF({t}.kind, {t}.kind)",
    "INSERT INTO {t} (id, kind) VALUES (1, 'x'), (200, NULL) ON CONFLICT (id) DO UPDATE SET kind = NULLIF({t}.kind, {t}.kind)",
    "INSERT INTO {t} (id, kind) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET kind = kind || 'x'",
    "INSERT INTO {t} AS e (id, kind) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET kind = e.nothing || 'x'",
    "INSERT INTO {t} (id, kind) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET count = {t}.kind || 'x'",
    "INSERT INTO {t} (id, kind) VALUES (1, 'x') ON CONFLICT (kind) DO UPDATE SET kind = {t}.kind || 'x'",
    "INSERT INTO {t} (id, kind) SELECT id, NULL FROM items WHERE id = 1 ON CONFLICT (id) DO UPDATE SET kind = {t}.kind || 'x'",
    "INSERT INTO {t} (id) SELECT id FROM items WHERE id < 0 ON CONFLICT (id) DO UPDATE SET kind = {t}.kind || 'x' RETURNING *",
];

#[test]
fn rows_that_are_there_become_what_they_become_in_postgresql() {
    for is_extended in [false, true] {
        let Some(documents) = Documents::over(1) else {
            return;
        };
        let mut wire = documents.stage.wire();
        filled(&documents, &mut wire);
        for sql in WRITES {
            // What a constant is computed to, PostgreSQL finds when it binds.
            let [events, twin] = both(&mut wire, sql, is_extended).map(|mut answer| {
                answer.retain(|line| line != "BindComplete");
                answer
            });
            assert_eq!(events, twin, "{sql}");
            let [events, twin] = both(&mut wire, "SELECT * FROM {t} ORDER BY id", false);
            assert_eq!(events, twin, "after {sql}");
        }
    }
}

#[test]
fn of_many_who_count_in_the_same_row_none_fails_and_none_is_lost() {
    const CLIENTS: usize = 4;
    const TIMES: usize = 12;
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let adds = [
        "INSERT INTO events (id, count) VALUES (@, 1) ON CONFLICT (id) DO UPDATE SET count = events.count + 1",
        "INSERT INTO events (id, count) VALUES (@, 1) ON CONFLICT (id) DO UPDATE SET count = abs(events.count) + EXCLUDED.count",
        "INSERT INTO events (id, count) VALUES (@, 1) ON CONFLICT (id) DO UPDATE SET count = events.count + 1 WHERE events.count > 0 RETURNING count",
    ];
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let documents = &documents;
            scope.spawn(move || {
                let mut wire = documents.stage.wire();
                for time in 0..TIMES {
                    // Each row is first stored by one of them, and then changed by all.
                    let add = adds[(client + time) % adds.len()];
                    let add = add.replace('@', &(time / 3).to_string());
                    let answer = match (client + time) % 2 {
                        0 => say(&mut wire, &add),
                        _ => send(&mut wire, &extended(&add, &[], &[])),
                    };
                    let done = answer
                        .iter()
                        .any(|line| line == "CommandComplete INSERT 0 1");
                    assert!(done, "{add}: {answer:?}");
                }
            });
        }
    });
    let mut wire = documents.stage.wire();
    let sum = (CLIENTS * TIMES).to_string();
    assert_eq!(one(&mut wire, "SELECT sum(count) FROM events"), sum);
    assert_eq!(
        one(&mut wire, "SELECT count(*) FROM events"),
        (TIMES / 3).to_string()
    );
}

#[test]
fn over_several_replica_sets_rows_go_where_their_keys_are() {
    let Some(documents) = Documents::over(3) else {
        return;
    };
    let mut wire = documents.stage.wire();
    filled(&documents, &mut wire);
    for id in [1, 2, 5, 6, 100, 101, 102] {
        for sql in [
            "INSERT INTO {t} (id, count) VALUES (@, 5) ON CONFLICT (id) DO UPDATE SET count = {t}.count + EXCLUDED.count RETURNING id, count",
            "INSERT INTO {t} (id, kind) VALUES (@, 'x') ON CONFLICT (id) DO UPDATE SET kind = {t}.kind || EXCLUDED.kind RETURNING *",
            "INSERT INTO {t} (id, count) VALUES (@, 7) ON CONFLICT (id) DO UPDATE SET count = 1 WHERE {t}.count > EXCLUDED.count",
        ] {
            let sql = sql.replace('@', &id.to_string());
            let [events, twin] = both(&mut wire, &sql, id % 2 == 0);
            assert_eq!(events, twin, "{sql}");
        }
    }
    let everywhere = "INSERT INTO {t} (id, kind) SELECT g, 'x' FROM generate_series(1, 50) AS g \
        ON CONFLICT (id) DO UPDATE SET kind = {t}.kind || EXCLUDED.kind";
    let answer = say(&mut wire, &everywhere.replace("{t}", "events"));
    assert!(answer[0].starts_with("Error 0A000"), "{answer:?}");
    let [events, twin] = both(&mut wire, "SELECT * FROM {t} ORDER BY id", false);
    assert_eq!(events, twin);
}
