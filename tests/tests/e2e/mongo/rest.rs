//! The column that has all fields of a document that no other column has: it does what a jsonb column with the default
//! `{}` does in PostgreSQL, and its keys are fields of the document.

use super::declared::{checked, mothership};
use super::stage::{Documents, shared};
use crate::shards::stage::{extended, lines, one, say, send};
use mongodb::bson::{Bson, Document, Timestamp, doc, oid::ObjectId};
use mothership_tests::Wire;
use mothership_tests::message::{self, Format};

const TABLE: &str = r#"
[[table]]
name = "people"
kind = "documents"
shards = [@shards@]
@nulls@
[[table.column]]
name = "id"
path = "_id"
sql_type = "int8"
[[table.column]]
name = "more"
sql_type = "jsonb"
rest = true
[[table.column]]
name = "kind"
sql_type = "text"
not_null = true
default = "plain"
[[table.column]]
name = "city"
sql_type = "text"
path = "addr.city"
[[table.column]]
name = "lat"
sql_type = "float8"
path = "addr.geo.lat"
[[table.column]]
name = "score"
sql_type = "int4"
"#;

const TWIN: &str = "CREATE TABLE twin_people (id int8 PRIMARY KEY, more jsonb NOT NULL DEFAULT '{}', \
    kind text COLLATE \"C\" NOT NULL DEFAULT 'plain', city text COLLATE \"C\", lat float8, score int4)";

/// Statements on `{t}`, one after the other; what each answers, and what is there then, is compared.
const STATEMENTS: [&str; 63] = [
    "INSERT INTO {t} (id) VALUES (1) RETURNING *",
    "INSERT INTO {t} (id, more) VALUES (2, '{\"b\": 1, \"aa\": [1, 2.50, null, \"$x\"], \"a\": null}') RETURNING more, id",
    "INSERT INTO {t} (id, more, city, score) VALUES (3, '{\"addr\": {\"zip\": \"89073\", \"geo\": {\"lon\": 9.99}}}', 'Ulm', 7), (4, '{}', NULL, 1)",
    "INSERT INTO {t} VALUES (5, '{\"n\": {\"addr\": 1, \"kind\": {\"_id\": 2}}}', 'k', 'Bonn', 1.5, 2) RETURNING more AS x",
    "INSERT INTO {t} (id, more) VALUES (6, NULL)",
    "INSERT INTO {t} (id, more, kind) VALUES (6, NULL, NULL)",
    "INSERT INTO {t} (id, more) VALUES (6, DEFAULT)",
    "INSERT INTO {t} (id, more) VALUES (7, '{\"a\"')",
    "INSERT INTO {t} (id, more, kind) VALUES (7, '{\"a\": 1}', NULL)",
    "INSERT INTO {t} (id, more) VALUES (8, jsonb_build_object('n', 1 + 1)), (9, '{\"n\": 3}') RETURNING id, more",
    "INSERT INTO {t} (id, more) SELECT id + 10, more || '{\"copied\": true}' FROM {t} WHERE id < 6",
    "INSERT INTO {t} (id, kind) SELECT 30 + id, 'computed' FROM {t} WHERE id = 1",
    "SELECT more FROM {t} WHERE id = 3",
    "SELECT more, more::text AS text, kind, more AS again FROM {t} WHERE id < 5 ORDER BY id",
    "SELECT id FROM {t} WHERE more IS NULL",
    "SELECT id FROM {t} WHERE more IS NOT NULL AND id < 3 ORDER BY id",
    "SELECT id FROM {t} WHERE more = '{}' ORDER BY id",
    "SELECT id FROM {t} WHERE more IS DISTINCT FROM '{}' AND score > 1 ORDER BY id",
    "SELECT id FROM {t} WHERE more->>'n' = '2'",
    "SELECT id FROM {t} WHERE more @> '{\"addr\": {\"zip\": \"89073\"}}' ORDER BY id",
    "SELECT id FROM {t} WHERE more ? 'copied' ORDER BY id",
    "SELECT id, more FROM {t} ORDER BY more, id",
    "SELECT id, more FROM {t} ORDER BY more->>'b' NULLS LAST, id",
    "SELECT * FROM {t} ORDER BY score, id",
    "SELECT * FROM {t} ORDER BY lat DESC, id LIMIT 3",
    "SELECT more, score FROM {t} WHERE score > 1 ORDER BY score DESC NULLS LAST, id",
    "SELECT count(more), count(DISTINCT more), count(*) FROM {t}",
    "SELECT more, count(*) FROM {t} GROUP BY more ORDER BY more",
    "SELECT DISTINCT more FROM {t} ORDER BY more",
    "SELECT jsonb_agg(more ORDER BY id) FROM {t}",
    "SELECT {t}.more FROM {t} WHERE {t}.id = 2",
    "SELECT a.id, b.id FROM {t} a JOIN {t} b ON a.more = b.more AND a.id < b.id ORDER BY 1, 2",
    "SELECT i.id, p.more FROM items i LEFT JOIN {t} p ON p.id = i.id AND p.more <> '{}' ORDER BY i.id",
    "SELECT id, key, value FROM {t}, jsonb_each(more) WHERE id < 6 ORDER BY id, key",
    "WITH x AS (SELECT id, more - 'aa' AS less FROM {t}) SELECT * FROM x ORDER BY id",
    "UPDATE {t} SET score = 1 WHERE id = 2",
    "UPDATE {t} SET score = score + 1, city = 'Köln' WHERE id IN (3, 4, 5) RETURNING id, more, score",
    "UPDATE {t} SET city = NULL, lat = NULL WHERE id = 3",
    "UPDATE {t} SET more = '{\"new\": \"$kind\", \"z\": {\"$\": 1}}' WHERE id = 1",
    "UPDATE {t} SET more = '{\"new\": \"$kind\", \"z\": [{\"zz\": 1}]}' WHERE id = 1 RETURNING *",
    "UPDATE {t} SET more = '{\"addr\": {\"street\": \"x\"}, \"q\": 1}' WHERE id = 3 RETURNING *",
    "UPDATE {t} SET more = '{}' WHERE id = 3",
    "UPDATE {t} SET more = DEFAULT, kind = '$kind', score = NULL WHERE id = 2 RETURNING *",
    "UPDATE {t} SET more = '{\"s\": 1}', score = score + 5, city = 'Rom', lat = 41.9 WHERE id = 5 RETURNING *",
    "UPDATE {t} SET more = '{\"s\": 1}', score = score + 2147483647 WHERE id = 5",
    "UPDATE {t} SET more = NULL WHERE id = 5",
    "UPDATE {t} SET more = NULL, city = 'Rom' WHERE id = 999",
    "UPDATE {t} SET more = '{\"many\": 1}' WHERE score IS NOT NULL RETURNING id, more",
    "UPDATE {t} SET more = more || '{\"x\": [1, 2]}' WHERE id < 4 RETURNING id, more",
    "UPDATE {t} SET more = more - 'many', score = 3 WHERE id > 3 AND id < 20",
    "UPDATE {t} SET more = jsonb_set(more, '{x,0}', '9') WHERE more ? 'x' RETURNING more",
    "UPDATE {t} SET more = jsonb_build_object('kind_was', kind), kind = upper(kind) WHERE id = 4 RETURNING *",
    "UPDATE {t} AS p SET more = jsonb_build_object('v', i.v) FROM items i WHERE i.id = p.id AND i.id < 3",
    "UPDATE {t} SET more = NULLIF(more, more) WHERE id = 4",
    "UPDATE {t} SET score = length(more::text) WHERE id = 4 RETURNING more, score",
    "INSERT INTO {t} (id, more) VALUES (1, '{\"ex\": 1}'), (50, '{\"ex\": 2}') ON CONFLICT (id) DO UPDATE SET more = EXCLUDED.more RETURNING *",
    "INSERT INTO {t} (id, more) VALUES (1, '{\"ex\": 1}') ON CONFLICT (id) DO UPDATE SET more = '{\"addr\": {\"x\": 1}}', score = 9 RETURNING *",
    "INSERT INTO {t} (id, more, score) VALUES (1, '{\"ex\": 4}', 77) ON CONFLICT (id) DO UPDATE SET score = EXCLUDED.score RETURNING *",
    "INSERT INTO {t} (id, more) VALUES (1, '{\"ex\": 5}'), (51, '{\"ex\": 5}') ON CONFLICT DO NOTHING RETURNING id, more",
    "DELETE FROM {t} WHERE id = 5 RETURNING more, id",
    "DELETE FROM {t} WHERE more ? 'copied' RETURNING id, more",
    "DELETE FROM {t} WHERE score = 3 RETURNING *",
    "SELECT * FROM {t} ORDER BY id",
];

fn documents(shards: usize, nulls: &str) -> Option<Documents> {
    let names: Vec<String> = (0..shards)
        .map(|shard| format!("\"docs{shard}\""))
        .collect();
    let table = TABLE
        .replace("@shards@", &names.join(", "))
        .replace("@nulls@", nulls);
    let documents = Documents::on(shared(), shards, &table)?;
    let mut wire = documents.stage.wire();
    for sql in [
        TWIN,
        "INSERT INTO items (id, v) VALUES (1, 100), (2, 200), (3, 300), (4, 400)",
    ] {
        let answer = say(&mut wire, sql);
        assert!(answer[0].starts_with("CommandComplete"), "{answer:?}");
    }
    Some(documents)
}

fn both(wire: &mut Wire, sql: &str, is_extended: bool) -> [Vec<String>; 2] {
    ["people", "twin_people"].map(|table| {
        let text = sql.replace("{t}", table);
        let mut answer = match is_extended {
            false => say(wire, &text),
            true => send(wire, &extended(&text, &[], &[])),
        };
        // A value that is none is told at another message than by PostgreSQL.
        answer.retain(|line| !["ParseComplete", "BindComplete"].contains(&line.as_str()));
        if !sql.contains("ORDER BY") {
            answer.sort();
        }
        let lines = answer.into_iter();
        lines
            .map(|line| line.replace("twin_people", "people"))
            .collect()
    })
}

/// Whether it is done over several shards as well: reads, and INSERT of one row.
fn is_of_several_shards(sql: &str) -> bool {
    let is_read = sql.starts_with("SELECT") || sql.starts_with("WITH");
    let is_one_row = sql.starts_with("INSERT INTO {t} (id")
        && !["), (", "SELECT", "CONFLICT"]
            .iter()
            .any(|more| sql.contains(more));
    // An ORDER BY of rows with a column that is no column of the table is not done there.
    is_one_row || is_read && !sql.contains("more::text AS")
}

/// The document of a row, as it is stored.
fn stored(documents: &Documents, id: i64) -> Document {
    let database = &documents.databases[0];
    let mut found = documents.set.find(database, "people", doc! { "_id": id });
    assert_eq!(found.len(), 1, "{id}");
    found.remove(0)
}

#[test]
fn it_does_what_a_column_of_postgresql_does() {
    for (shards, nulls, is_extended) in [
        (1, "", false),
        (1, "nulls = \"omit\"", true),
        (2, "", false),
    ] {
        let Some(documents) = documents(shards, nulls) else {
            return;
        };
        let mut wire = documents.stage.wire();
        let mut wrong = Vec::new();
        for sql in STATEMENTS {
            if shards > 1 && !is_of_several_shards(sql) {
                continue;
            }
            let [people, twin] = both(&mut wire, sql, is_extended);
            if sql.contains("\"$\": 1") {
                assert!(people[0].contains("0A000"), "{people:?}");
                say(&mut wire, "UPDATE twin_people SET more = '{}' WHERE id = 1");
                continue;
            }
            if people != twin {
                wrong.push(format!(
                    "{sql}\n  documents  {people:?}\n  postgresql {twin:?}"
                ));
            }
            let [people, twin] = both(&mut wire, "SELECT * FROM {t} ORDER BY id", false);
            if people != twin {
                wrong.push(format!(
                    "after {sql}\n  documents  {people:?}\n  postgresql {twin:?}"
                ));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[test]
fn its_keys_are_fields_beside_those_of_columns() {
    let Some(documents) = documents(1, "") else {
        return;
    };
    let mut wire = documents.stage.wire();
    say(
        &mut wire,
        "INSERT INTO people (id, more, city) VALUES (1, '{\"z\": 1, \"addr\": {\"zip\": 5, \"geo\": {\"lon\": 9.5}}}', 'Ulm')",
    );
    let geo = doc! { "lat": Bson::Null, "lon": 9.5 };
    assert_eq!(
        stored(&documents, 1),
        doc! {
            "_id": 1_i64, "kind": "plain", "addr": { "city": "Ulm", "geo": geo, "zip": 5 }, "score": Bson::Null, "z": 1
        }
    );
    say(
        &mut wire,
        "UPDATE people SET more = '{\"y\": [1]}', score = 3 WHERE id = 1",
    );
    assert_eq!(
        stored(&documents, 1),
        doc! {
            "_id": 1_i64, "kind": "plain", "addr": { "city": "Ulm", "geo": { "lat": Bson::Null } }, "score": 3, "y": [1]
        }
    );
}

#[test]
fn what_others_have_stored_is_read_and_left_as_it_is() {
    let Some(documents) = documents(1, "") else {
        return;
    };
    let (database, time) = (
        &documents.databases[0],
        Timestamp {
            time: 1,
            increment: 1,
        },
    );
    let id = ObjectId::from_bytes([1; 12]);
    let date = mongodb::bson::DateTime::from_millis(0);
    let people = vec![
        doc! { "_id": 1_i64, "kind": "a", "who": id, "when": date, "$odd": { "a.b": 1 }, "x.y": 2, "addr": "Ulm" },
        doc! { "_id": 2_i64, "kind": "b", "addr": [{ "city": "Ulm" }], "mothership_rank_0": 1 },
        doc! { "_id": 3_i64, "kind": "c", "addr": { "geo": Bson::Null, "zip": Bson::Null }, "score": 1 },
        doc! { "_id": 4_i64, "kind": "d", "time": time },
    ];
    documents.set.insert(database, "people", people.clone());
    let mut wire = documents.stage.wire();
    let rows = wire.rows("SELECT id, more, city FROM people WHERE id < 4 ORDER BY kind, score");
    assert_eq!(
        rows.iter().map(|row| row.join("|")).collect::<Vec<_>>(),
        [
            "1|{\"who\": \"010101010101010101010101\", \"x.y\": 2, \"$odd\": {\"a.b\": 1}, \"addr\": \"Ulm\", \
             \"when\": \"1970-01-01T00:00:00.000Z\"}|∅",
            "2|{\"addr\": [{\"city\": \"Ulm\"}]}|∅",
            "3|{\"addr\": {\"zip\": null}}|∅",
        ]
    );
    // A type that JSON has nothing for is an error, and only for who reads it.
    let answer = say(&mut wire, "SELECT more FROM people WHERE id = 4");
    assert!(
        answer.iter().any(|line| line.contains("42804")),
        "{answer:?}"
    );
    assert_eq!(one(&mut wire, "SELECT kind FROM people WHERE id = 4"), "d");

    let answer = say(&mut wire, "UPDATE people SET kind = 'changed', score = 5");
    assert_eq!(answer[0], "CommandComplete UPDATE 4");
    let answer = say(
        &mut wire,
        "UPDATE people SET score = length(kind) WHERE id < 5",
    );
    assert_eq!(answer[0], "CommandComplete UPDATE 4", "{answer:?}");
    for mut before in people {
        before.insert("kind", "changed");
        before.insert("score", 7);
        let now = stored(&documents, before.get_i64("_id").unwrap());
        assert_eq!(now, before);
    }
    // What is no document on the way to a column is gone with the others.
    let answer = say(
        &mut wire,
        "UPDATE people SET more = '{\"a\": 1}', city = 'Bonn' WHERE id < 3",
    );
    assert_eq!(answer[0], "CommandComplete UPDATE 2");
    let answer = say(
        &mut wire,
        "UPDATE people SET more = '{\"a\": 1}' WHERE id > 2",
    );
    assert_eq!(answer[0], "CommandComplete UPDATE 2");
    for at in 1..=4_i64 {
        let mut left = doc! { "_id": at, "kind": "changed" };
        if at < 3 {
            left.insert("addr", doc! { "city": "Bonn" });
        }
        left.insert("score", 7);
        left.insert("a", 1);
        assert_eq!(stored(&documents, at), left);
    }
}

#[test]
fn keys_that_are_not_its_own_are_refused_and_nothing_is_stored() {
    let Some(documents) = documents(1, "") else {
        return;
    };
    let mut wire = documents.stage.wire();
    say(
        &mut wire,
        "INSERT INTO people (id, more) VALUES (1, '{\"a\": 1}')",
    );
    let before = stored(&documents, 1);
    for (value, code, what) in [
        ("{\"kind\": 1}", "22030", "cannot have the key \"kind\""),
        ("{\"_id\": 1}", "22030", "cannot have the key \"_id\""),
        (
            "{\"addr\": {\"city\": 1}}",
            "22030",
            "cannot have the key \"addr.city\"",
        ),
        ("{\"addr\": 1}", "22030", "cannot have the key \"addr\""),
        (
            "{\"addr\": {\"geo\": {}}}",
            "0A000",
            "cannot have an empty object at \"addr.geo\"",
        ),
        (
            "{\"mothership_rank_1\": 1}",
            "22030",
            "cannot have the key \"mothership_rank_1\"",
        ),
        ("{\"$a\": 1}", "0A000", "the key \"$a\" cannot be stored"),
        ("{\"a.b\": 1}", "0A000", "the key \"a.b\" cannot be stored"),
        ("[1]", "22023", "takes JSON objects only"),
        ("\"a\"", "22023", "takes JSON objects only"),
    ] {
        for sql in [
            format!("INSERT INTO people (id, more) VALUES (2, '{{}}'), (3, '{value}')"),
            format!(
                "INSERT INTO people (id, more) SELECT g, '{value}' FROM generate_series(2, 3) g"
            ),
            format!("UPDATE people SET more = '{value}' WHERE id = 1"),
            format!("UPDATE people SET more = coalesce('{value}'::jsonb, more)"),
            format!(
                "INSERT INTO people (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET more = '{value}'"
            ),
        ] {
            let answer = say(&mut wire, &sql);
            assert!(
                answer[0].contains(code) && answer[0].contains(what),
                "{sql}: {answer:?}"
            );
        }
        wire.send(&message::query(
            "COPY people (id, more) FROM STDIN (FORMAT csv, QUOTE '~')",
        ));
        assert_eq!(wire.frame().kind, b'G');
        wire.send(&message::copy_data(format!("2,~{value}~\n").as_bytes()));
        wire.send(&message::copy_done());
        let answer = lines(&wire.until_ready());
        assert!(
            answer[0].contains(code) && answer[0].contains(what),
            "{value}: {answer:?}"
        );
        assert_eq!(one(&mut wire, "SELECT count(*) FROM people"), "1");
        assert_eq!(stored(&documents, 1), before);
    }
}

#[test]
fn it_is_copied_prepared_and_sent_in_binary_like_any_other() {
    let Some(documents) = documents(1, "") else {
        return;
    };
    let mut wire = documents.stage.wire();
    for table in ["people", "twin_people"] {
        wire.send(&message::query(&format!(
            "COPY {table} (id, more, city) FROM STDIN"
        )));
        assert_eq!(wire.frame().kind, b'G');
        wire.send(&message::copy_data(
            b"1\t{\"a\": 1, \"addr\": {\"zip\": 2}}\tUlm\n2\t{}\t\\N\n",
        ));
        wire.send(&message::copy_done());
        assert_eq!(lines(&wire.until_ready())[0], "CommandComplete COPY 2");
    }
    let answers = ["people", "twin_people"].map(|table| {
        let copy = wire.query(&format!(
            "COPY (SELECT * FROM {table} ORDER BY id) TO STDOUT (FORMAT binary)"
        ));
        let mut prepared = Vec::new();
        for value in ["{\"b\": [true]}", "{\"addr\": {\"zip\": 1}}"] {
            let sql = format!("UPDATE {table} SET more = $1 WHERE id = $2 RETURNING more, id");
            prepared.extend(send(&mut wire, &extended(&sql, &[3802, 20], &[value, "2"])));
        }
        let select = format!("SELECT more FROM {table} ORDER BY id");
        let messages = [
            message::parse("", &select, &[]),
            message::bind("", "", Format::Text, &[], Format::Binary),
            message::describe_portal(""),
            message::execute("", 0),
            message::sync(),
        ];
        for one in &messages {
            wire.send(one);
        }
        let binary = wire.until_ready();
        let bodies = |frames: Vec<mothership_tests::Frame>| {
            let rows = frames
                .into_iter()
                .filter(|frame| matches!(frame.kind, b'D' | b'd'));
            rows.map(|frame| frame.body).collect::<Vec<_>>()
        };
        (bodies(copy), prepared, bodies(binary))
    });
    let [people, twin] = answers;
    assert_eq!(people, twin);
    assert_eq!((people.0.len() > 1, people.2.len()), (true, 2));
}

#[test]
fn catalogs_and_the_command_line_know_it() {
    let Some(documents) = documents(1, "") else {
        return;
    };
    let mut wire = documents.stage.wire();
    assert_eq!(
        wire.rows(
            "SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns \
             WHERE table_name = 'people' AND column_name = 'more'"
        ),
        [["more", "jsonb", "NO", "'{}'::jsonb"]]
    );
    let database = &documents.databases[0];
    let time = Timestamp {
        time: 1,
        increment: 1,
    };
    let people = vec![
        doc! { "_id": 1_i64, "kind": "a", "addr": { "city": "Ulm", "zip": 1, "geo": { "lat": 1.5 } }, "score": 1, "x": 1 },
        doc! { "_id": 2_i64, "kind": "b", "x": [1], "y": "z" },
    ];
    documents.set.insert(database, "people", people);
    let of_people = |config: &str| {
        let (_, said) = checked(config);
        let said = said
            .into_iter()
            .filter(|line| line.contains("public.people"));
        said.collect::<Vec<_>>()
    };
    assert_eq!(
        of_people(documents.stage.config()),
        [
            "note: shard docs0: table public.people: fields of column \"more\", of 2 documents sampled: \"addr.zip\" in 1, \
             \"x\" in 2, \"y\" in 1"
        ]
    );
    documents.set.insert(
        database,
        "people",
        vec![doc! { "_id": 3_i64, "kind": "c", "time": time }],
    );
    let said = of_people(documents.stage.config());
    assert!(
        said[0].starts_with("error: shard docs0: table public.people: column \"more\" has all other fields: value is of BSON type Timestamp"),
        "{said:?}"
    );

    // What no path can name is proposed for such a column.
    documents.set.insert(
        database,
        "odd",
        vec![doc! { "_id": 1, "a": 1, "7": 2, "none": Bson::Null }],
    );
    let config = documents.stage.config();
    let (code, proposed, error) = mothership(config, &["mongo", "infer"], &["docs0", "odd"]);
    assert_eq!((code, error.as_str()), (0, ""));
    let comment = proposed
        .split("# These and all other fields in one column, as a jsonb object:\n")
        .nth(1);
    let lines = comment
        .unwrap()
        .lines()
        .map(|line| line.trim_start_matches("# "));
    let column: Vec<&str> = lines.collect();
    let config = format!("{config}{proposed}\n{}\n", column.join("\n"));
    let (_router, mut wire) = super::declared::wire_of(&documents.stage, &config);
    assert_eq!(
        one(&mut wire, "SELECT rest FROM odd"),
        "{\"7\": 2, \"none\": null}"
    );
}
