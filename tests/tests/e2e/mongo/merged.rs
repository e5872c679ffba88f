//! MERGE into documents, and UPDATE that gives them other keys.

use super::alike::{both, filled};
use super::stage::Documents;
use crate::shards::stage::{one, say};
use mongodb::bson::doc;

/// Writes to `{t}`, one after the other; what each answers, and what is there then, is compared.
const KEYS: [&str; 15] = [
    "UPDATE {t} SET id = 50 WHERE id = 1 RETURNING *",
    "UPDATE {t} SET id = 2 WHERE id = 50",
    "UPDATE {t} SET id = 51, kind = upper(kind), count = NULL WHERE id = 50 RETURNING id, kind, lower(kind)",
    "UPDATE {t} SET id = 51 WHERE id = 51",
    "UPDATE {t} SET id = 2 WHERE id = 51 AND length(kind) > 0",
    "UPDATE {t} SET id = NULL WHERE id = 51",
    "UPDATE {t} SET id = NULL WHERE id = 999",
    "UPDATE {t} SET id = 52 WHERE id IN (2, 3)",
    "UPDATE {t} SET id = 52 WHERE id > 1000 AND length(kind) > 0",
    "UPDATE {t} SET id = 'x' WHERE id = 2 AND length(kind) > 0",
    "UPDATE {t} SET id = 53, name = 'moved' WHERE id = 2 RETURNING {t}.*, id + 1 AS next",
    "UPDATE {t} AS e SET id = 54, kind = 'to ' || e.id FROM items WHERE items.id = e.id AND e.id = 3 RETURNING e.id, e.kind",
    "UPDATE {t} SET id = 55, data = '{}', words = '{w}', at = '2022-02-02 02:02:02.002+00', small = NULL WHERE id = 54 RETURNING id, data, words",
    "UPDATE {t} SET nothing = 1 WHERE id = 53",
    "UPDATE {t} SET id = 4 WHERE id = 4 OR id = 53",
];

/// The same.
const MERGES: [&str; 20] = [
    "MERGE INTO {t} AS e USING items AS i ON i.id = e.id WHEN MATCHED THEN UPDATE SET count = i.v, kind = upper(e.kind) \
     WHEN NOT MATCHED THEN INSERT (id, kind, count) VALUES (i.id, DEFAULT, i.v + 1)",
    "MERGE INTO {t} USING items ON items.id = {t}.id WHEN MATCHED AND {t}.count > 900 THEN DELETE WHEN MATCHED THEN DO NOTHING",
    "MERGE INTO {t} USING items ON items.id = {t}.id WHEN MATCHED AND items.v > 600 THEN DELETE \
     WHEN MATCHED AND {t}.small IS NULL THEN UPDATE SET small = items.id, name = DEFAULT \
     WHEN NOT MATCHED AND items.v > 1000 THEN INSERT (id, name) VALUES (items.id, 'again')",
    "MERGE INTO {t} USING (SELECT name, length(title) AS n FROM kinds) AS k ON k.name = lower({t}.kind) WHEN MATCHED THEN UPDATE SET small = k.n",
    "MERGE INTO {t} USING items ON items.id < 4 AND {t}.id = 4 WHEN MATCHED THEN UPDATE SET count = items.v",
    "MERGE INTO {t} USING items ON items.id < 4 AND {t}.id = 4 WHEN MATCHED THEN DELETE",
    "MERGE INTO {t} USING items ON items.id < 4 AND {t}.id = 4 WHEN MATCHED AND items.id = 2 THEN UPDATE SET count = items.v",
    "MERGE INTO {t} USING items ON items.id = {t}.id AND items.id = 1 WHEN NOT MATCHED THEN INSERT (id) VALUES (items.id)",
    "MERGE INTO {t} USING items ON items.id = {t}.id WHEN NOT MATCHED AND items.id > 1000 THEN INSERT (id) VALUES (items.id)",
    "MERGE INTO {t} USING items ON items.id = {t}.id WHEN MATCHED THEN UPDATE SET small = 40000 * items.id",
    "MERGE INTO {t} USING items ON items.id = {t}.id WHEN MATCHED THEN UPDATE SET name = 'much too long a name'",
    "MERGE INTO {t} USING items ON items.id = {t}.id WHEN MATCHED AND items.id = 4 THEN UPDATE SET kind = NULL",
    "MERGE INTO {t} USING items ON items.id = {t}.id WHEN MATCHED THEN UPDATE SET count = 'x'",
    "MERGE INTO {t} USING items ON items.id = {t}.id WHEN NOT MATCHED THEN INSERT (id, kind) VALUES (items.id, NULL)",
    "MERGE INTO {t} USING (SELECT 2000 + g AS id FROM generate_series(1, 700) AS g) AS s ON s.id = {t}.id \
     WHEN NOT MATCHED THEN INSERT (id, kind, words, data) VALUES (s.id, 'made', ARRAY['a', s.id::text], jsonb_build_object('n', s.id))",
    "MERGE INTO {t} USING {t} AS o ON o.id = {t}.id - 1 AND o.id > 2000 WHEN MATCHED THEN UPDATE SET count = o.id",
    "MERGE INTO {t} USING (SELECT 2001 AS id) AS s ON s.id = {t}.id WHEN MATCHED THEN DO NOTHING WHEN NOT MATCHED THEN DO NOTHING",
    "MERGE INTO {t} USING items ON items.id = {t}.id WHEN MATCHED THEN UPDATE SET nothing = 1",
    "MERGE INTO {t} USING items ON items.id = {t}.id WHEN NOT MATCHED THEN INSERT (id, nothing) VALUES (items.id, 1)",
    "MERGE INTO {t} USING (SELECT id FROM {t} WHERE id > 2000) AS s ON s.id = {t}.id WHEN MATCHED AND s.id % 2 = 0 THEN DELETE",
];

fn alike(writes: &[&str]) {
    for is_extended in [false, true] {
        let Some(documents) = Documents::over(1) else {
            return;
        };
        let mut wire = documents.stage.wire();
        filled(&documents, &mut wire);
        for sql in writes {
            let [events, twin] = both(&mut wire, sql, is_extended);
            assert_eq!(events, twin, "{sql}");
            let [events, twin] = both(&mut wire, "SELECT * FROM {t} ORDER BY id", false);
            assert_eq!(events, twin, "after {sql}");
        }
    }
}

#[test]
fn documents_get_other_keys() {
    alike(&KEYS);
}

#[test]
fn documents_are_merged_into() {
    alike(&MERGES);
}

#[test]
fn a_document_with_another_key_keeps_its_fields() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    let database = &documents.databases[0];
    say(&mut wire, "INSERT INTO events (id, count) VALUES (1, 7)");
    let field =
        doc! { "q": { "_id": 1_i64 }, "u": { "$set": { "of.more": "kept", "other": [1, 2] } } };
    documents
        .set
        .command(database, doc! { "update": "events", "updates": [field] });
    for (sql, id) in [
        ("UPDATE events SET id = 2 WHERE id = 1", 2_i64),
        (
            "UPDATE events SET id = 3, kind = upper(kind) WHERE id = 2",
            3,
        ),
    ] {
        assert_eq!(say(&mut wire, sql)[0], "CommandComplete UPDATE 1", "{sql}");
        let found = doc! { "find": "events", "filter": {} };
        let found = documents.set.command(database, found);
        let cursor = found.get_document("cursor").unwrap();
        let rows = cursor.get_array("firstBatch").unwrap();
        let [row] = rows.as_slice() else {
            panic!("{rows:?}");
        };
        let row = row.as_document().unwrap();
        assert_eq!(row.get_i64("_id").unwrap(), id);
        assert_eq!(
            row.get_document("of").unwrap().get_str("more").unwrap(),
            "kept"
        );
        assert_eq!(row.get_array("other").unwrap().len(), 2);
    }
}

#[test]
fn what_would_depend_on_the_order_of_rows_is_refused() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    for id in 1..4 {
        say(
            &mut wire,
            &format!("INSERT INTO events (id, count) VALUES ({id}, {id})"),
        );
    }
    for sql in [
        "UPDATE events SET id = 4 - id",
        "MERGE INTO events USING (VALUES (1, 1), (2, 9)) AS s (id, n) ON events.id = s.id AND s.id = 1 \
         WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id - 1)",
        "MERGE INTO events USING (VALUES (random())) AS s (n) ON events.id > s.n WHEN MATCHED THEN DELETE",
        // A part of a column is not written.
        "UPDATE events SET words[1] = 'w' WHERE id = 1",
        "UPDATE events SET data['a'] = '1', kind = upper(kind)",
        "UPDATE events SET words[1] = upper(kind) FROM items WHERE items.id = events.id",
        "INSERT INTO events (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET words[1] = 'w'",
        "MERGE INTO events USING (VALUES (1)) AS s (id) ON events.id = s.id WHEN MATCHED THEN UPDATE SET words[1] = 'w'",
    ] {
        let answer = say(&mut wire, sql);
        assert!(answer[0].starts_with("Error 0A000"), "{sql}: {answer:?}");
    }
    assert_eq!(one(&mut wire, "SELECT count(*) FROM events"), "3");
    let touched = "SELECT count(*) FROM events WHERE words IS NOT NULL OR data IS NOT NULL";
    assert_eq!(one(&mut wire, touched), "0");
    // Several shards have no common transaction.
    let Some(documents) = Documents::over(3) else {
        return;
    };
    let mut wire = documents.stage.wire();
    say(&mut wire, "INSERT INTO events (id) VALUES (1)");
    for (sql, code) in [
        ("UPDATE events SET id = 2 WHERE id = 1", "Error 0A000"),
        (
            "UPDATE events SET id = 1, kind = upper(kind) WHERE id = 1",
            "CommandComplete UPDATE 1",
        ),
        (
            "MERGE INTO events USING items ON items.id = events.id WHEN MATCHED THEN DELETE",
            "Error 0A000",
        ),
    ] {
        let answer = say(&mut wire, sql);
        assert!(answer[0].starts_with(code), "{sql}: {answer:?}");
    }
    assert_eq!(
        one(&mut wire, "SELECT kind FROM events WHERE id = 1"),
        "PLAIN"
    );
}

#[test]
fn a_merge_is_of_its_transaction() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    filled(&documents, &mut wire);
    let merge = MERGES[0];
    for statements in [
        ["BEGIN", merge, "ROLLBACK"],
        ["BEGIN READ ONLY", merge, "ROLLBACK"],
        ["BEGIN READ ONLY", MERGES[8], "ROLLBACK"],
        ["BEGIN", merge, "COMMIT"],
    ] {
        let [events, twin] = ["events", "twin"].map(|table| {
            let told = statements.map(|sql| say(&mut wire, &sql.replace("{t}", table)));
            told.concat()
        });
        assert_eq!(events, twin, "{statements:?}");
        let [events, twin] = both(&mut wire, "SELECT * FROM {t} ORDER BY id", false);
        assert_eq!(events, twin, "after {statements:?}");
    }
}
