//! Unique keys, columns that are not NULL, and what is told of a row that breaks one: as PostgreSQL does it.

use super::declared::{checked, mothership, wire_of};
use super::stage::Documents;
use mothership_tests::{Frame, Wire};

const PEOPLE: &str = r#"
[[table]]
name = "people"
kind = "documents"
shards = ["docs0"]
nulls = "omit"
[[table.column]]
name = "id"
path = "_id"
sql_type = "int8"
[[table.column]]
name = "email"
sql_type = "text"
[[table.column]]
name = "city"
sql_type = "text"
path = "address.city"
[[table.column]]
name = "n"
sql_type = "int4"
not_null = true
default = "1"
[[table.unique]]
name = "people_pkey"
columns = ["id"]
[[table.unique]]
name = "people_email_key"
columns = ["email"]
[[table.unique]]
name = "people_city_n_key"
columns = ["city", "n"]
"#;

const TWIN: &str = "CREATE TABLE people_twin (id int8 PRIMARY KEY, email text COLLATE \"C\" UNIQUE, \
    city text COLLATE \"C\", n int4 NOT NULL DEFAULT 1, UNIQUE (city, n))";

/// One after the other; what each answers is compared, and what is there then.
const STATEMENTS: [&str; 30] = [
    "INSERT INTO {t} VALUES (1, 'a', 'Ulm', 1), (2, NULL, NULL, 1), (3, NULL, 'Ulm', 2), (4, 'b', NULL, 1)",
    "INSERT INTO {t} (id) VALUES (1)",
    "INSERT INTO {t} (id, email) VALUES (5, 'a')",
    "INSERT INTO {t} (id, email, city) VALUES (5, 'c', 'Ulm')",
    "INSERT INTO {t} (id, email) VALUES (5, 'c'), (6, 'b')",
    "UPDATE {t} SET email = 'a' WHERE id = 2",
    "UPDATE {t} SET email = 'a' WHERE id = 2 RETURNING id",
    "UPDATE {t} SET city = 'Ulm' WHERE id = 4 AND n = 1",
    "UPDATE {t} SET city = 'Ulm', n = 2 WHERE id = 4",
    "UPDATE {t} SET email = 'a', n = n + 1 WHERE id = 2",
    "UPDATE {t} SET email = 'x' WHERE email IS NULL",
    "INSERT INTO {t} (id, email) VALUES (1, 'b') ON CONFLICT (id) DO UPDATE SET email = EXCLUDED.email",
    "INSERT INTO {t} (id, email) VALUES (9, 'a') ON CONFLICT (id) DO NOTHING",
    "INSERT INTO {t} (id, email) VALUES (9, 'a') ON CONFLICT (id) DO UPDATE SET n = 5",
    "INSERT INTO {t} (id, email) VALUES (9, 'a'), (10, 'd') ON CONFLICT DO NOTHING",
    "INSERT INTO {t} (id, email) VALUES (11, NULL) ON CONFLICT (email) DO UPDATE SET n = 7",
    "INSERT INTO {t} (id, email) VALUES (12, 'b') ON CONFLICT (email) DO UPDATE SET email = NULL RETURNING *",
    "UPDATE {t} SET email = NULL WHERE id = 1",
    "UPDATE {t} SET email = NULL, city = NULL WHERE n = 2 RETURNING *",
    "UPDATE {t} SET n = NULL WHERE id = 999",
    "UPDATE {t} SET n = 2147483647 WHERE id = 1",
    "UPDATE {t} SET n = n + 1, email = NULL WHERE id = 1",
    "INSERT INTO {t} (id, n) VALUES (13, NULL)",
    "INSERT INTO {t} (id, email, city) VALUES (14, 'e', 'Bonn'), (15, '', '')",
    "SELECT id FROM {t} WHERE email IS NULL AND city IS NOT NULL ORDER BY id",
    "SELECT email, id FROM {t} ORDER BY email DESC, id",
    "SELECT city, count(*), count(email), max(email) FROM {t} GROUP BY city ORDER BY city NULLS FIRST",
    "SELECT DISTINCT city FROM {t} ORDER BY city",
    "UPDATE {t} SET city = NULL WHERE city = 'Ulm'",
    "DELETE FROM {t} WHERE email IS NULL RETURNING id",
];

/// What is not certain is left out: which row, what the rest of its key is, and whether the client may read the row.
const WITHOUT_DETAIL: [(&str, &str); 5] = [
    ("UPDATE {t} SET city = 'Ulm' WHERE id = 2", "23505"),
    ("UPDATE {t} SET n = n - 1 WHERE id = 3", "23505"),
    ("UPDATE {t} SET n = NULL WHERE city = 'Ulm'", "23502"),
    ("UPDATE {t} SET n = NULL WHERE id = 1", "23502"),
    (
        "UPDATE {t} SET n = NULL, email = 'new', city = NULL WHERE id = 1",
        "23502",
    ),
];

/// All that matters of an answer.
fn answer(wire: &mut Wire, sql: &str, table: &str) -> Vec<String> {
    let frames = wire.query(&sql.replace("{t}", table));
    let shown = frames.iter().map(|frame| match frame.kind {
        b'E' => {
            let field = |code| frame.field(code).unwrap_or_default();
            let fields = ['C', 'M', 'D', 's', 't', 'c', 'n'].map(field);
            fields.join("|")
        }
        _ => frame.to_string(),
    });
    let mut shown: Vec<String> = shown
        .map(|line| line.replace("people_twin", "people"))
        .collect();
    if !sql.contains("ORDER BY") {
        shown.sort();
    }
    shown
}

#[test]
fn what_breaks_a_key_or_is_null_is_told_as_postgresql_tells_it() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let config = format!("{}{PEOPLE}", documents.stage.config());
    let (code, said, error) = mothership(&config, &["mongo", "ensure-indexes"], &[]);
    assert_eq!(code, 0, "{said}{error}");
    let (code, said) = checked(&config);
    assert_eq!(code, 0, "{said:?}");
    let (_router, mut wire) = wire_of(&documents.stage, &config);
    let done = wire.query(TWIN);
    assert!(done.iter().all(|frame| frame.kind != b'E'), "{done:?}");
    let both = |wire: &mut Wire, sql: &str| {
        let [documents, twin] = ["people", "people_twin"].map(|table| answer(wire, sql, table));
        assert_eq!(documents, twin, "{sql}");
    };
    both(&mut wire, STATEMENTS[0]);
    let told = |frames: &[Frame]| {
        let error = frames.iter().find(|frame| frame.kind == b'E').unwrap();
        (error.sqlstate(), error.field('D'))
    };
    for (sql, code) in WITHOUT_DETAIL {
        let frames = wire.query(&sql.replace("{t}", "people_twin"));
        assert_eq!(told(&frames).0, code, "{sql}");
        let frames = wire.query(&sql.replace("{t}", "people"));
        assert_eq!(told(&frames), (code.to_owned(), None), "{sql}");
    }
    for sql in &STATEMENTS[1..] {
        both(&mut wire, sql);
        both(&mut wire, "SELECT * FROM {t} ORDER BY id");
    }
}
