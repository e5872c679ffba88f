//! A view is answered as its definition is, whatever it joins: beside one PostgreSQL.

use super::stage::{Stage, one, say};
use mothership_tests::{Shards, Wire};

/// The keys that join rows of different shards: what is billed for is elsewhere than what bills it.
const TABLES: &str = r#"
[[table]]
name = "bill"
key = ["shop"]
key_type = ["int8"]
[[table]]
name = "ware"
key = ["id"]
key_type = ["int8"]
[[table]]
name = "unit"
kind = "reference"
"#;

const ROWS: [&str; 7] = [
    "CREATE TABLE bill (shop int8, nr int8, ware int8, pieces int, PRIMARY KEY (shop, nr))",
    "CREATE TABLE ware (id int8 PRIMARY KEY, title text, unit int)",
    "CREATE TABLE unit (id int PRIMARY KEY, sign text)",
    "CREATE TABLE kept (nr int8, title text)",
    "INSERT INTO ware SELECT n, 'w' || n, n % 4 FROM generate_series(1, 12) n",
    "INSERT INTO bill SELECT n % 7, n, n % 15, n % 5 FROM generate_series(1, 60) n",
    "INSERT INTO unit VALUES (0, 'kg'), (1, 'm'), (2, 'l'), (7, 's')",
];

const VIEWS: [&str; 19] = [
    "sold AS SELECT b.shop, b.nr, w.title, b.pieces FROM bill b JOIN ware w ON w.id = b.ware",
    "maybe AS SELECT b.shop, b.nr, coalesce(w.title, '?') AS title FROM bill b LEFT JOIN ware w ON w.id = b.ware",
    "unsold AS SELECT b.nr, w.id FROM bill b RIGHT JOIN ware w ON w.id = b.ware AND b.pieces = 4",
    "pairs (one, two) AS SELECT b.nr, o.nr FROM bill b JOIN bill o ON o.pieces = b.pieces AND o.nr < b.nr",
    "every AS SELECT b.nr, w.id FROM bill b CROSS JOIN ware w WHERE b.pieces = 1",
    "listed AS SELECT b.nr, w.title FROM bill b, ware w WHERE w.id = b.ware",
    "named AS WITH w AS (SELECT id, title FROM ware) SELECT b.shop, b.nr, w.title FROM bill b JOIN w ON w.id = b.ware",
    "lateral_ones AS SELECT b.nr, l.title FROM bill b CROSS JOIN LATERAL (SELECT w.title FROM ware w WHERE w.id = b.ware) l",
    "semi AS SELECT b.nr FROM bill b WHERE EXISTS (SELECT 1 FROM ware w WHERE w.id = b.ware)",
    "anti AS SELECT b.nr FROM bill b WHERE b.ware NOT IN (SELECT w.id FROM ware w)",
    "signs AS SELECT u.sign, w.title FROM unit u LEFT JOIN ware w ON w.unit = u.id",
    "own_shop AS SELECT b.nr, o.nr AS other FROM bill b JOIN bill o ON o.shop = b.shop AND o.nr < b.nr",
    "deep (number, what) AS SELECT nr, title FROM sold WHERE pieces > 1",
    "deeper AS SELECT d.what, u.sign FROM deep d JOIN ware w ON w.title = d.what JOIN unit u ON u.id = w.unit",
    "sums AS SELECT w.unit, count(*) AS n, sum(b.pieces) AS pieces FROM bill b JOIN ware w ON w.id = b.ware GROUP BY w.unit",
    "ranked AS SELECT nr, rank() OVER (PARTITION BY title ORDER BY nr) AS place FROM sold",
    "firsts AS SELECT nr, title FROM sold ORDER BY nr LIMIT 5",
    "twice AS SELECT nr FROM semi UNION SELECT id FROM ware",
    "guarded WITH (security_barrier) AS SELECT nr, title FROM sold WHERE shop = 3",
];

const QUERIES: [&str; 17] = [
    "SELECT count(*) FROM sold",
    "SELECT * FROM sold WHERE shop = 3 ORDER BY nr",
    "SELECT * FROM sold WHERE shop IN (1, 2) AND pieces = 2",
    "SELECT title, count(*) FROM maybe GROUP BY title",
    "SELECT s.nr, p.two FROM sold s JOIN pairs p ON p.one = s.nr WHERE s.shop = 2",
    "SELECT public.sold.nr FROM public.sold WHERE public.sold.title = 'w3'",
    "SELECT x.n FROM sold AS x (s, n, t, p) WHERE x.p = 3",
    "SELECT b.nr FROM bill b WHERE EXISTS (SELECT 1 FROM sold s WHERE s.nr = b.nr AND s.title = 'w5')",
    "SELECT id, (SELECT count(*) FROM listed l WHERE l.title = w.title) FROM ware w",
    "WITH q AS (SELECT * FROM sold), r AS (SELECT * FROM sums) SELECT count(*), sum(r.n) FROM q, r WHERE r.unit = 1",
    "SELECT nr FROM sold UNION ALL SELECT nr FROM semi EXCEPT SELECT nr FROM anti",
    "SELECT DISTINCT title FROM deeper d JOIN sold s ON s.title = d.what",
    "SELECT title, max(nr) FROM sold GROUP BY title HAVING count(*) > 3 ORDER BY 1 LIMIT 3",
    "COPY (SELECT nr, title FROM sold) TO STDOUT",
    "SELECT row_to_json(s) FROM sold s WHERE s.shop = 4",
    "SELECT count(s) FROM sold s",
    "SELECT count(*) FROM firsts f LEFT JOIN ranked r USING (nr) FULL JOIN twice o ON o.nr = f.nr",
];

/// What reads the views and writes, and then what is left.
const WRITES: [&str; 12] = [
    "INSERT INTO kept SELECT nr, title FROM sold",
    "DELETE FROM kept USING semi WHERE semi.nr = kept.nr AND kept.nr % 2 = 0",
    "INSERT INTO ware SELECT nr + 100, title, 1 FROM sold WHERE pieces > 3 RETURNING id",
    "UPDATE bill SET pieces = m.n FROM sums m, ware w WHERE w.id = bill.ware AND m.unit = w.unit AND bill.nr < 20",
    "DELETE FROM bill USING listed l WHERE l.nr = bill.nr AND l.title = 'w7' RETURNING bill.nr",
    "MERGE INTO ware USING (SELECT title, max(nr) AS m FROM sold GROUP BY title) s ON ware.title = s.title \
     WHEN MATCHED THEN UPDATE SET unit = s.m WHEN NOT MATCHED THEN DO NOTHING",
    "WITH gone AS (DELETE FROM ware WHERE id = 3 RETURNING id) SELECT gone.id, s.nr FROM gone, sold s WHERE s.title = 'w3'",
    "WITH gone AS (DELETE FROM ware WHERE id = 4 RETURNING id) SELECT gone.id, o.other FROM gone, own_shop o WHERE o.nr = 9",
    "CREATE TABLE made AS SELECT * FROM deep",
    "PREPARE asked (int8) AS SELECT nr, title FROM sold WHERE shop = $1 OR pieces = 2",
    "EXECUTE asked (5)",
    "EXECUTE asked (6)",
];

fn sorted(mut said: Vec<String>) -> Vec<String> {
    said.sort();
    said
}

#[test]
fn a_view_of_a_join_over_shards_has_the_rows_that_one_server_has() {
    let (stage, plain) = (Stage::bare(TABLES), Shards::new(1));
    let (mut router, mut one) = (stage.wire(), Wire::login(&plain.endpoint(0)));
    let mut both = |sql: &str| {
        let told = sorted(say(&mut one, sql));
        assert_eq!(sorted(say(&mut router, sql)), told, "{sql}");
        told
    };
    for sql in ROWS {
        both(sql);
    }
    for view in VIEWS {
        both(&format!("CREATE VIEW {view}"));
        let name = view.split(' ').next().unwrap();
        both(&format!("SELECT * FROM {name}"));
        both(&format!("SELECT count(*) FROM {name}"));
        both(&format!("SELECT 1 WHERE EXISTS (SELECT FROM {name})"));
        both(&format!(
            "SELECT w.id FROM ware w WHERE w.id IN (SELECT length(v::text) FROM {name} v)"
        ));
    }
    for sql in QUERIES {
        let told = both(sql);
        assert!(told.len() > 2, "{sql}: {told:?}");
    }
    both("BEGIN");
    both("DECLARE c CURSOR FOR SELECT nr, title FROM sold ORDER BY nr");
    both("FETCH 7 FROM c");
    both("COMMIT");
    for sql in WRITES {
        both(sql);
        for table in ["kept", "ware", "bill"] {
            both(&format!("SELECT * FROM {table}"));
        }
    }
    both("SELECT * FROM made");
    // Through a view nothing is written, by name.
    for sql in [
        "INSERT INTO deep VALUES (1, 'x')",
        "UPDATE semi SET nr = 1",
        "DELETE FROM semi",
    ] {
        let said = say(&mut router, sql);
        assert!(said[0].contains("0A000"), "{sql}: {said:?}");
    }
}

/// A view keeps values, its text only words for them: whoever reads these under other settings has other values.
#[test]
fn settings_of_a_session_do_not_change_the_constants_of_a_view() {
    let (stage, plain) = (Stage::bare(TABLES), Shards::new(1));
    let (mut router, mut one) = (stage.wire(), Wire::login(&plain.endpoint(0)));
    let mut both = |sql: &str| {
        let (said, told) = (sorted(say(&mut router, sql)), sorted(say(&mut one, sql)));
        (said, told)
    };
    let joined = "FROM bill b JOIN ware w ON w.id = b.ware";
    let views = [
        format!(
            "plain_ones AS SELECT '-1 day -2 hours'::interval AS i, '-1 mon +2 days'::interval AS j, '2024-02-03'::date AS d, \
             '0044-03-15 BC'::date AS bc, '2024-02-03 04:05:06+07'::timestamptz AS z, 'back\\slash'::text AS s, \
             '\\x005c'::bytea AS y, '0.1'::float8 / 3 AS f, w.title = NULL AS n {joined}"
        ),
        format!("known AS SELECT b.nr {joined} AND w.title = ANY ('{{w1,w2,NULL}}')"),
        format!(
            "unknown AS SELECT b.nr, '{{NULL}}'::text[] IS NOT DISTINCT FROM ARRAY[NULL::text] AS n {joined}"
        ),
        format!("marked AS SELECT b.nr, '<a/><b/>'::xml::text AS x {joined}"),
        format!("priced AS SELECT b.nr, '$5.00'::money > '1'::money AS m {joined}"),
    ];
    for sql in ROWS {
        both(sql);
    }
    for view in &views {
        both(&format!("CREATE VIEW {view}"));
    }
    for (setting, values, refused) in [
        (
            "IntervalStyle",
            "postgres sql_standard iso_8601 postgres_verbose",
            &[][..],
        ),
        ("DateStyle", "SQL,DMY German Postgres,YMD ISO,DMY", &[]),
        ("TimeZone", "Asia/Kolkata America/New_York", &[]),
        ("extra_float_digits", "-3 0 3", &[]),
        ("bytea_output", "escape hex", &[]),
        ("standard_conforming_strings", "off on", &[]),
        ("backslash_quote", "off", &[]),
        ("transform_null_equals", "on", &[]),
        ("array_nulls", "off", &["known", "unknown"]),
        ("xmloption", "document", &["marked"]),
    ] {
        for value in values.split(' ') {
            both(&format!("SET {setting} = '{value}'"));
            for view in &views {
                let name = view.split(' ').next().unwrap();
                let (said, told) = both(&format!("SELECT * FROM {name}"));
                if refused.contains(&name) || name == "priced" {
                    assert!(
                        said[0].contains("0A000"),
                        "{setting} {value} {name}: {said:?}"
                    );
                } else if said != told {
                    // Other values are handed over as texts.
                    assert!(
                        said[0].contains("0A000"),
                        "{setting} {value} {name}: {said:?} {told:?}"
                    );
                    assert_ne!(name, "plain_ones", "{setting} {value}: {said:?}");
                }
            }
            both(&format!("RESET {setting}"));
        }
        for view in &views[..4] {
            let name = view.split(' ').next().unwrap();
            let (said, told) = both(&format!("SELECT * FROM {name}"));
            assert_eq!(said, told, "{name}");
        }
    }
}

#[test]
fn who_may_read_a_view_is_asked_of_the_view_when_it_has_become_part_of_a_statement() {
    let stage = Stage::bare(TABLES);
    let mut wire = stage.wire();
    for sql in ROWS {
        say(&mut wire, sql);
    }
    let role = format!("reader_{}", stage.shards.endpoint(0).database);
    say(&mut wire, &format!("CREATE VIEW {}", VIEWS[0]));
    say(&mut wire, &format!("CREATE VIEW {}", VIEWS[12]));
    stage.shards.sql(0, &format!("CREATE ROLE {role}"));
    for sql in [
        format!("GRANT SELECT ON bill, ware, deep TO {role}"),
        format!("GRANT SELECT (nr) ON sold TO {role}"),
        format!("SET ROLE {role}"),
    ] {
        let said = say(&mut wire, &sql);
        assert!(!said[0].contains("Error"), "{said:?}");
    }
    assert_eq!(wire.rows("SELECT count(*) FROM deep"), [["28"]]);
    assert_eq!(wire.rows("SELECT count(nr) FROM sold"), [["48"]]);
    for sql in [
        "SELECT count(title) FROM sold",
        "SELECT count(*) FROM sold s WHERE title = 'w3'",
        "SELECT * FROM sold",
    ] {
        let said = say(&mut wire, sql);
        assert!(
            said[0].contains("42501") && said[0].contains("view sold"),
            "{sql}: {said:?}"
        );
    }
    for sql in [
        "RESET ROLE".to_owned(),
        format!("REVOKE SELECT ON ware FROM {role}"),
        format!("SET ROLE {role}"),
    ] {
        say(&mut wire, &sql);
    }
    // The view's owner may read the table, but who asks may not: the router has no way to read it for the owner.
    let said = say(&mut wire, "SELECT count(*) FROM deep");
    assert!(said[0].contains("0A000"), "{said:?}");
    say(&mut wire, "RESET ROLE");
    say(&mut wire, &format!("DROP OWNED BY {role}"));
    stage.shards.sql_all(&format!("DROP OWNED BY {role}"));
    stage.shards.sql(0, &format!("DROP ROLE {role}"));
}

#[test]
fn a_view_reads_a_setting_of_the_application() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    for sql in [
        "INSERT INTO items (id, v) SELECT g, g % 3 FROM generate_series(1, 12) g",
        "CREATE VIEW mine AS SELECT id, v FROM items WHERE v = current_setting('app.v')::int",
        "CREATE VIEW perhaps AS SELECT id FROM items WHERE v::text = current_setting('app.v', true)",
    ] {
        let told = say(&mut wire, sql);
        assert!(told[0].starts_with("CommandComplete"), "{sql}: {told:?}");
    }
    assert_eq!(one(&mut wire, "SELECT count(*) FROM perhaps"), "0");
    for v in 0..3 {
        say(&mut wire, &format!("SET app.v = '{v}'"));
        assert_eq!(one(&mut wire, "SELECT count(*) FROM mine"), "4");
        assert_eq!(one(&mut wire, "SELECT max(v) FROM mine"), v.to_string());
        assert_eq!(one(&mut wire, "SELECT count(*) FROM perhaps"), "4");
        let own = format!("SELECT count(*) FROM mine WHERE id = {}", v + 3);
        assert_eq!(one(&mut wire, &own), "1");
        let sql = "SELECT count(*) FROM mine a JOIN mine b ON b.v = a.v";
        assert_eq!(one(&mut wire, sql), "16");
    }
}
