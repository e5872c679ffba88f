//! Statements whose rows are gathered from several shards: each gets the answer that one PostgreSQL with all the rows
//! gives, in the simple and in the extended protocol.

use super::stage::{LIMIT, Stage, extended, lines, owner, say, send};
use mothership_tests::message::Format;
use mothership_tests::{Shards, Wire, message, poll_until};

const TABLES: &str = r#"
[[table]]
name = "people"
key = ["id"]
key_type = ["int8"]
[[table]]
name = "orders"
key = ["person"]
key_type = ["int8"]
[[table]]
name = "kinds"
kind = "reference"
"#;

const DEFINITIONS: [&str; 9] = [
    "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')",
    "CREATE DOMAIN short AS varchar(8) NOT NULL",
    "CREATE TABLE people (id int8 PRIMARY KEY, name text, \"Nick\" text COLLATE \"C\", age int, money numeric(10,2), \
     f float8, born date, seen timestamptz, feels mood, tags text[], doc jsonb, code char(4), s short DEFAULT 's')",
    "CREATE TABLE orders (id int8, person int8 NOT NULL, kind int, amount numeric, at timestamp, PRIMARY KEY (person, id))",
    "CREATE TABLE kinds (id int PRIMARY KEY, label text)",
    "CREATE TABLE notes (id int PRIMARY KEY, person int8, body text)",
    "CREATE VIEW adults AS SELECT id, name, age FROM people WHERE age >= 18",
    "CREATE VIEW by_kind AS SELECT kind, count(*) AS n, sum(amount) AS total FROM orders GROUP BY kind",
    "CREATE VIEW busy AS SELECT b.kind, b.n, o.person FROM by_kind b JOIN orders o USING (kind) WHERE b.n > 3 ORDER BY o.person, o.id, 1 LIMIT 5",
];

fn rows() -> Vec<String> {
    let mut rows = Vec::new();
    for id in 1..=40i64 {
        let or_null = |some: bool, text: String| if some { text } else { "NULL".to_owned() };
        rows.push(format!(
            "INSERT INTO people VALUES ({id}, {}, 'n{}', {}, {}, {}, date '2000-01-01' + {}, {}, '{}', {}, {}, 'c{}', 's{id}')",
            or_null(id % 7 != 0, format!("'name{}'", id % 11)),
            (id * 7) % 13,
            or_null(id % 9 != 0, (id % 50).to_string()),
            or_null(id % 5 != 0, format!("{}.{:02}", id * 3, id)),
            ["'NaN'", "'-0'", "1.5", "'Infinity'", "0.1"][id as usize % 5],
            id * 30,
            or_null(id % 4 != 0, format!("timestamptz '2020-01-01 00:00:00+00' + interval '{id} hours'")),
            ["sad", "ok", "happy"][id as usize % 3],
            or_null(id % 3 != 0, format!("ARRAY['a{id}', NULL, 'b,\"']")),
            or_null(id % 6 != 0, format!("'{{\"a\": {id}, \"b\": [1, {}]}}'", id % 3)),
            id % 4,
        ));
        for n in 0..id % 4 {
            rows.push(format!(
                "INSERT INTO orders VALUES ({n}, {id}, {}, {}.{}0, timestamp '2021-01-01' + interval '{} min')",
                or_null(n != 2, (id % 5).to_string()),
                id * n,
                n,
                id * 60 + n
            ));
        }
    }
    for id in 0..5 {
        rows.push(format!("INSERT INTO kinds VALUES ({id}, 'kind {id}')"));
        rows.push(format!(
            "INSERT INTO notes VALUES ({id}, {}, 'note {id}')",
            id * 4 + 1
        ));
    }
    rows
}

/// The same tables with the same rows, divided and in one PostgreSQL.
fn both() -> (Stage, Shards) {
    let stage = Stage::bare(TABLES);
    let one = Shards::new(1);
    let mut wire = stage.wire();
    for sql in DEFINITIONS {
        let said = say(&mut wire, sql);
        assert!(said[0].starts_with("CommandComplete"), "{sql}: {said:?}");
        one.sql(0, sql);
    }
    for sql in rows() {
        let said = say(&mut wire, &sql);
        assert!(said[0].starts_with("CommandComplete"), "{sql}: {said:?}");
    }
    one.sql(0, &rows().join("; "));
    (stage, one)
}

/// Statements with an order for every row, so that answers are equal line by line.
pub const STATEMENTS: &[&str] = &[
    // Order, limits.
    "SELECT * FROM people ORDER BY id",
    "SELECT id, name FROM people ORDER BY name, id",
    "SELECT id FROM people ORDER BY name DESC NULLS LAST, id DESC LIMIT 7 OFFSET 3",
    "SELECT id, \"Nick\" FROM people ORDER BY \"Nick\", 1 LIMIT 5",
    "SELECT name AS id FROM people ORDER BY id, people.id",
    "SELECT id FROM people ORDER BY f, id",
    "SELECT id FROM people ORDER BY feels DESC, money, id",
    "SELECT id FROM people WHERE age > 20 ORDER BY age * -1, id FETCH FIRST 3 ROWS ONLY",
    "SELECT id, age FROM people WHERE id IN (1, 2, 3, 4, 5, 6) ORDER BY age DESC NULLS LAST",
    "SELECT age FROM people ORDER BY age FETCH FIRST 4 ROWS WITH TIES",
    "TABLE kinds",
    "SELECT id, age AS name FROM people ORDER BY name, id LIMIT 6 OFFSET 2",
    "SELECT id, tags FROM people ORDER BY tags, id LIMIT 9",
    // A number with its minus is a constant.
    "SELECT id, - 2.5 AS c FROM people ORDER BY c, id LIMIT 3",
    "SELECT id, - 2.5 AS c, tags FROM people ORDER BY c, tags, id LIMIT 3",
    "SELECT DISTINCT age, (- 7) AS c FROM people ORDER BY c, 1",
    "SELECT - 5 AS x, count(*), sum(age) FROM people GROUP BY x",
    "SELECT - 5 AS x, age, count(*) FROM people GROUP BY x, age ORDER BY 1, 2",
    "SELECT p.id, o.id, amount + 1 FROM people p JOIN orders o ON o.person = p.id ORDER BY 3 DESC NULLS LAST, 1, o.id LIMIT 7",
    "SELECT name, -id FROM people WHERE age > 3 ORDER BY \"Nick\" DESC, 2 LIMIT 5",
    "SELECT id FROM people ORDER BY feels, money DESC, id LIMIT 3 OFFSET 100",
    "SELECT id FROM people ORDER BY id LIMIT 9223372036854775807 OFFSET 38",
    "SELECT id FROM people ORDER BY id LIMIT 2.5",
    "SELECT id, 7 FROM people ORDER BY 2, 1 LIMIT 4",
    "SELECT id FROM people ORDER BY id LIMIT ALL OFFSET 37",
    "SELECT id FROM people ORDER BY id LIMIT NULL OFFSET 38",
    "SELECT count(*) FROM (SELECT id FROM people LIMIT 5) x",
    "SELECT x.id FROM (SELECT id, age FROM people ORDER BY age DESC NULLS LAST, id LIMIT 4) x ORDER BY 1",
    "SELECT unnest(tags), id FROM people ORDER BY id, 1 LIMIT 4",
    // Aggregates.
    "SELECT avg(age), avg(money), sum(money), min(name), max(\"Nick\"), count(DISTINCT name) FROM people",
    "SELECT count(*)::int FROM people",
    "SELECT 1 + count(*), round(avg(money), 2) FROM people WHERE id > 3",
    "SELECT stddev(age), variance(money), corr(age, id) IS NOT NULL FROM people",
    "SELECT name, count(*), sum(money) FROM people GROUP BY name ORDER BY 1",
    "SELECT age / 10, count(*) FILTER (WHERE money > 30) FROM people GROUP BY 1 HAVING count(*) > 2 ORDER BY 1",
    "SELECT string_agg(name, ',' ORDER BY id) FROM people",
    "SELECT array_agg(tags[1] ORDER BY id), jsonb_agg(doc -> 'b' ORDER BY id) FROM people WHERE id < 9",
    "SELECT kind, grouping(kind), count(*) FROM orders GROUP BY ROLLUP (kind) ORDER BY 1, 2",
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY age), mode() WITHIN GROUP (ORDER BY name) FROM people",
    "SELECT sum(amount) FROM orders HAVING sum(amount) > 0",
    "SELECT p.id, p.name, p.age, count(o.id) FROM people p LEFT JOIN orders o ON o.person = p.id GROUP BY p.id ORDER BY p.id",
    "SELECT bool_and(age > 1), bit_or(age), every(money IS NULL) FROM people",
    "SELECT count(*) FROM people WHERE false",
    "SELECT sum(age) FROM people WHERE id = 1 AND id = 2",
    "SELECT name, max(id) FROM people WHERE id IN (1, 2, 8) GROUP BY name ORDER BY 2",
    // A CTE that is looked at before it is known whether it is recursive is looked at again.
    "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 2), \
     g AS (SELECT k.id, k.label FROM kinds k GROUP BY k.id) \
     SELECT count(*), (SELECT sum(n) FROM c), (SELECT count(label) FROM g) FROM people a JOIN people b ON a.age = b.age",
    "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 2), \
     g AS (SELECT k.id, k.label FROM kinds k GROUP BY k.id) \
     SELECT count(*) FROM people a JOIN people b ON a.age = b.age",
    // Aggregates of parts.
    "SELECT name, count(*), count(age), sum(age), avg(age), min(money), max(born) FROM people GROUP BY name ORDER BY name",
    "SELECT count(*), count(age), sum(age), avg(age), avg(id), avg(money), min(seen) FROM people WHERE id < 0",
    "SELECT sum(money * (1 - money)), avg(money / 3), sum(id), avg(id * 3), sum(age * id) FROM people",
    "SELECT sum(CASE WHEN age > 20 THEN money ELSE 0 END), sum(CASE WHEN age > 20 THEN 1 ELSE 0 END) FROM people",
    "SELECT extract(year FROM born) AS y, feels, code, s, count(*) FROM people GROUP BY y, feels, 3, s ORDER BY 1, 2, 3, 4",
    "SELECT tags, \"Nick\", money, count(*) AS money FROM people GROUP BY tags, \"Nick\", people.money ORDER BY people.money, 2, tags",
    "SELECT min(\"Nick\"), max(name), min(s), max(feels), min(born), max(seen), max(f) FROM people",
    "SELECT min(\"Nick\"), max(name), min(born), max(seen), max(f), min(code) FROM people",
    "SELECT count(DISTINCT name), sum(DISTINCT age), avg(DISTINCT age % 4), count(*), sum(id) FROM people",
    "SELECT name, count(DISTINCT age % 3), sum(money) FROM people GROUP BY name ORDER BY 2 DESC, name LIMIT 4",
    "SELECT count(*) FILTER (WHERE age > 30), avg(money) FILTER (WHERE id > 100) FROM people",
    "SELECT name FROM people GROUP BY name HAVING count(*) > 3 ORDER BY count(*) DESC, max(id)",
    "SELECT 1 FROM people HAVING count(*) > 30",
    "SELECT 2 AS two FROM people WHERE id < 0 HAVING count(*) = 0",
    // The shards group by what DISTINCT counts, too: their groups are not those of HAVING.
    "SELECT sum(DISTINCT id), count(*) FROM people HAVING count(*) > 1",
    "SELECT count(DISTINCT id) FROM people HAVING bool_and(id = 16) < bool_or(age > 1)",
    "SELECT kind, count(DISTINCT id) FROM orders GROUP BY kind HAVING sum(amount) > 20 ORDER BY 1",
    "SELECT count(*) FROM (SELECT p.id FROM people p GROUP BY p.id HAVING count(DISTINCT p.age) > 0) a JOIN people b ON a.id = b.age",
    "SELECT id FROM people WHERE age IN (SELECT o.person FROM orders o GROUP BY o.person HAVING count(*) > 1 AND count(DISTINCT o.kind) > 0) ORDER BY 1",
    "SELECT feels, k.label, count(*), sum(o.amount), avg(o.amount) FROM people p JOIN orders o ON o.person = p.id LEFT JOIN kinds k ON k.id = o.kind GROUP BY feels, k.label ORDER BY 1, 2",
    "SELECT p.name, count(o.id), sum(o.amount) FROM people p LEFT JOIN orders o ON o.person = p.id AND o.amount > 20 GROUP BY p.name ORDER BY 1",
    "SELECT age AS name, count(*) FROM people GROUP BY age ORDER BY name, age",
    "SELECT age AS id, count(*) FROM people GROUP BY id ORDER BY 1",
    "SELECT age + 1, count(*) FROM people GROUP BY age + 1 ORDER BY age + 1",
    "SELECT count(*) > 3, round(avg(money), 3)::text, -sum(age), coalesce(max(age), 0) FROM people GROUP BY feels ORDER BY feels",
    "SELECT x.n, count(*) FROM (SELECT name, count(*) AS n FROM people GROUP BY name) x GROUP BY x.n ORDER BY 1",
    "SELECT id FROM people WHERE money > (SELECT avg(money) FROM people) ORDER BY id",
    "SELECT kind, n FROM (SELECT kind, count(*) AS n FROM orders GROUP BY kind UNION ALL SELECT age, sum(id) FROM people GROUP BY age) u ORDER BY 2, 1",
    "WITH k AS (SELECT kind, sum(amount) AS s FROM orders GROUP BY kind) SELECT a.kind, a.s, b.s FROM k a JOIN k b ON a.kind = b.kind WHERE b.kind > 1 ORDER BY 1",
    "SELECT id, (SELECT max(o.amount) FROM orders o WHERE o.person > p.id) FROM people p ORDER BY id",
    "SELECT bool_and(age > 1), bool_or(money > 100), every(id > 0), bit_and(age), bit_or(id), bit_xor(age) FROM people GROUP BY feels ORDER BY feels",
    "SELECT id, count(*) FROM orders GROUP BY id ORDER BY id",
    "SELECT name, count(*) FROM adults GROUP BY name HAVING sum(age) > 50 ORDER BY name",
    "SELECT name, count(*) FROM people WHERE born < now() GROUP BY name ORDER BY name",
    "SELECT seen > now(), count(*) FROM people GROUP BY 1 ORDER BY 1",
    "SELECT kind, amount, count(*) FROM orders GROUP BY kind, amount ORDER BY 1, 2 LIMIT 5 OFFSET 2",
    "SELECT sum(10 / (age - 5)) FROM people",
    "SELECT sum(id * 9223372036854775) FROM people",
    "SELECT count(*), person FROM (SELECT person, kind FROM orders WHERE amount > 3) o GROUP BY person ORDER BY 2",
    "SELECT DISTINCT count(*) FROM people GROUP BY name ORDER BY 1",
    "SELECT DISTINCT ON (count(*)) count(*), min(id) FROM people GROUP BY name ORDER BY 1, 2",
    "SELECT 'x', 5, count(*) FROM people GROUP BY 1, 2",
    // Distinct.
    "SELECT DISTINCT name FROM people ORDER BY name",
    "SELECT DISTINCT ON (feels) feels, id, money FROM people ORDER BY feels, money DESC NULLS LAST, id",
    "SELECT DISTINCT f = 1.5 FROM people ORDER BY 1",
    // Windows.
    "SELECT id, row_number() OVER (ORDER BY money NULLS FIRST, id), sum(age) OVER (PARTITION BY feels ORDER BY id) FROM people ORDER BY id",
    "SELECT id, lag(age, 2, 0) OVER w, ntile(3) OVER w FROM people WINDOW w AS (ORDER BY id) ORDER BY id",
    "SELECT kind, rank() OVER (ORDER BY count(*) DESC, kind), count(*) FROM orders GROUP BY kind ORDER BY 2",
    // Joins.
    "SELECT p.id, o.id, o.amount FROM people p JOIN orders o ON o.person = p.id ORDER BY 1, 2",
    "SELECT a.id, b.id FROM people a JOIN people b ON a.age = b.age + 1 ORDER BY 1, 2",
    "SELECT p.id, o.id FROM people p JOIN orders o ON o.id = p.id ORDER BY 1, 2, o.person",
    "SELECT k.id, o.person, o.id FROM kinds k LEFT JOIN orders o ON o.kind = k.id AND o.amount > 50 ORDER BY 1, 2, 3",
    "SELECT p.id, o.id FROM people p FULL JOIN orders o ON o.id = p.id AND o.amount > 10 ORDER BY 1, 2, o.person",
    "SELECT n.id, n.body, p.name FROM notes n JOIN people p ON p.id = n.person ORDER BY n.id",
    "SELECT n.id, p.name FROM notes n LEFT JOIN people p ON p.id = n.person AND p.age > 10 ORDER BY n.id",
    "SELECT count(*) FROM people, orders",
    "SELECT id, label, n FROM kinds NATURAL JOIN (SELECT kind AS id, count(*) AS n FROM orders GROUP BY kind) c ORDER BY id",
    "SELECT p.id, l.id FROM people p, LATERAL (SELECT o.id FROM orders o WHERE o.person < p.id AND o.amount > 100 ORDER BY o.amount DESC, o.person LIMIT 1) l ORDER BY p.id",
    "SELECT p.id, u.t FROM people p CROSS JOIN LATERAL unnest(p.tags) WITH ORDINALITY u(t, n) ORDER BY p.id, u.n",
    "SELECT public.people.id, people.name FROM public.people ORDER BY public.people.id LIMIT 3",
    "SELECT public.people.* FROM public.people ORDER BY 1 LIMIT 2",
    "SELECT x.b FROM people AS x (a, b) ORDER BY x.a LIMIT 4",
    // Subqueries.
    "SELECT id FROM people WHERE age = (SELECT max(age) FROM people) ORDER BY id",
    "SELECT id FROM people WHERE id IN (SELECT person FROM orders WHERE amount > 20) ORDER BY id",
    "SELECT id FROM people WHERE id NOT IN (SELECT kind FROM orders) ORDER BY id",
    "SELECT id FROM people p WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.kind = p.age) ORDER BY id",
    "SELECT id, (SELECT count(*) FROM orders o WHERE o.kind < p.id % 4) FROM people p ORDER BY id",
    "SELECT count(*) FROM (SELECT DISTINCT name FROM people) d",
    "SELECT * FROM (SELECT id, name FROM people ORDER BY money DESC NULLS LAST, id LIMIT 5) t ORDER BY id",
    "SELECT id FROM kinds WHERE id < (SELECT count(*) FROM people) - 38 ORDER BY id",
    "SELECT id FROM people ORDER BY (SELECT count(*) FROM orders o WHERE o.id = people.id % 4), id LIMIT 5",
    "SELECT (SELECT id FROM people WHERE name IS NULL)",
    // CTEs.
    "WITH big AS (SELECT * FROM orders WHERE amount > 30) SELECT a.person, b.person FROM big a JOIN big b USING (kind) ORDER BY 1, 2, a.id, b.id",
    "WITH x AS MATERIALIZED (SELECT kind, sum(amount) s FROM orders GROUP BY kind) SELECT * FROM x ORDER BY s DESC NULLS LAST",
    "WITH RECURSIVE r AS (SELECT id, 1 AS d FROM people WHERE id = 1 UNION ALL SELECT p.id, d + 1 FROM r JOIN people p ON p.id = r.id + 3) SELECT * FROM r ORDER BY d",
    "WITH unused AS (SELECT * FROM people) SELECT count(*) FROM orders WHERE kind IS NULL GROUP BY kind",
    // Set operations.
    "SELECT id FROM people UNION SELECT person FROM orders ORDER BY 1",
    "SELECT id % 4 FROM people UNION ALL SELECT kind FROM orders ORDER BY 1",
    "SELECT id FROM people EXCEPT SELECT person FROM orders ORDER BY 1",
    "(SELECT age FROM people INTERSECT ALL SELECT kind FROM orders) ORDER BY 1",
    "SELECT 1, 'a' UNION SELECT id, name FROM people WHERE id < 3 ORDER BY 1, 2",
    // Views.
    "SELECT name, count(*) FROM adults GROUP BY name ORDER BY name",
    "SELECT a.id, o.id FROM adults a JOIN orders o ON o.id = a.id ORDER BY 1, 2, o.person",
    "SELECT * FROM by_kind ORDER BY kind",
    "TABLE by_kind ORDER BY n DESC, kind",
    "SELECT b.n, k.label FROM by_kind b JOIN kinds k ON k.id = b.kind WHERE b.total > 10 ORDER BY 1, 2",
    "SELECT x.k, p.id FROM by_kind AS x (k, c) LEFT JOIN people p ON p.id = x.c ORDER BY 1, 2",
    "SELECT (SELECT max(n) FROM by_kind), count(*) FROM by_kind b WHERE EXISTS (SELECT 1 FROM busy WHERE busy.kind = b.kind)",
    "SELECT busy.* FROM busy ORDER BY kind LIMIT 2",
    "SELECT id FROM ONLY people ORDER BY name, id LIMIT 3",
    "SELECT p.id, n.id FROM ONLY people p JOIN ONLY notes n ON n.person = p.id ORDER BY 1, 2",
    // Whole rows, odd values.
    "SELECT o FROM orders o ORDER BY person, id LIMIT 3",
    "SELECT (o).amount, o.* FROM orders o ORDER BY o.person, o.id LIMIT 3",
    "SELECT to_jsonb(o) FROM orders o ORDER BY person, id LIMIT 2",
    "SELECT count(o) FROM people p LEFT JOIN orders o ON o.person = p.id + 1",
    "SELECT o IS NULL FROM people p LEFT JOIN orders o ON o.person = p.id + 1 ORDER BY p.id, o.id",
    "SELECT code, code || '|', s, length(code) FROM people ORDER BY code, id LIMIT 3",
    "SELECT seen, born, doc, tags FROM people ORDER BY seen NULLS FIRST, id LIMIT 20",
    "SELECT money, sum(money) OVER (ORDER BY id) FROM people ORDER BY id",
    "SELECT feels, count(*) FROM people GROUP BY feels ORDER BY feels",
    "SELECT pg_typeof(code), pg_typeof(s), pg_typeof(feels), pg_typeof(money) FROM people ORDER BY id LIMIT 1",
    "SELECT now() = now(), id FROM people ORDER BY id LIMIT 1",
    // Errors of PostgreSQL itself, with their places.
    "SELECT nothing FROM people ORDER BY id",
    "SELECT name, count(*) FROM people ORDER BY 1",
    "SELECT id FROM people ORDER BY 3",
    "SELECT DISTINCT name FROM people ORDER BY age",
    "SELECT 1 / (id - id) FROM people ORDER BY id",
    "SELECT id FROM people WHERE 1 / (age - 5) > 0 ORDER BY id",
    "SELECT id FROM people WHERE age = 'x' ORDER BY id",
    "SELECT id FROM people ORDER BY id LIMIT -1",
    "SELECT id FROM people p JOIN orders o ON true ORDER BY id",
];

pub fn compare(statements: &[&str], ask: impl Fn(&mut Wire, &str) -> Vec<String>) {
    let (stage, one) = both();
    let mut ours = stage.wire();
    let mut theirs = Wire::login(&one.endpoint(0));
    theirs.set_limit(LIMIT);
    let mut wrong = Vec::new();
    for sql in statements {
        let (found, wanted) = (ask(&mut ours, sql), ask(&mut theirs, sql));
        if found != wanted {
            wrong.push(format!(
                "{sql}\n  router:     {found:?}\n  postgresql: {wanted:?}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        statements.len(),
        wrong.join("\n")
    );
}

#[test]
fn a_simple_query_over_gathered_rows_is_answered_as_by_one_postgresql() {
    compare(STATEMENTS, say);
}

#[test]
fn the_extended_protocol_too() {
    compare(STATEMENTS, |wire, sql| send(wire, &extended(sql, &[], &[])));
}

/// Writes that need rows of other shards; the tables are compared after each.
const WRITES: &[&str] = &[
    // Where rows are gathered for a write and that fails, the client is told no columns.
    "UPDATE people SET age = 1 WHERE id IN (SELECT o.id + 1 FROM orders o WHERE 1 / (o.id - o.id) > 0)",
    "DELETE FROM people WHERE id IN (SELECT o.id + 1 FROM orders o WHERE 1 / (o.id - o.id) > 0) RETURNING id",
    "INSERT INTO notes SELECT id::int + 50 FROM people WHERE 1 / (age - age) > 0",
    "CREATE TABLE taken AS SELECT id FROM people WHERE 1 / (age - age) > 0 ORDER BY name LIMIT 3",
    "UPDATE people SET age = age + (SELECT count(*) FROM orders) WHERE id < 10",
    "UPDATE people p SET money = o.amount FROM orders o WHERE o.id = 1 AND o.person = p.id + 1",
    "UPDATE people SET name = 'x' WHERE id IN (SELECT o.id + 20 FROM orders o) RETURNING id, name",
    "UPDATE people SET (age, s) = (SELECT max(k.id), 'sub' FROM kinds k JOIN orders o ON o.kind = k.id) WHERE feels = 'ok'",
    "UPDATE notes SET body = p.name FROM people p WHERE p.id = notes.person",
    "UPDATE notes SET body = body || '!' WHERE person IN (SELECT id FROM people WHERE age > 10) RETURNING id, body",
    "DELETE FROM orders o USING people p WHERE p.age = o.kind AND o.person <> p.id",
    "DELETE FROM orders WHERE amount > (SELECT avg(amount) FROM orders) RETURNING person, id",
    "DELETE FROM people WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.person = people.id + 3) AND id > 30",
    "INSERT INTO orders (id, person, kind, amount) SELECT 10, id + 1000, age, money FROM people WHERE id < 20",
    "INSERT INTO orders (id, person, at) SELECT g, g * 7, '2022-02-02' FROM generate_series(1, 30) g",
    "INSERT INTO people (id, name, tags, doc, feels, code) SELECT id + 5000, NULL, ARRAY[name, 'z'], '{\"k\": 1}', 'sad', 'ab' FROM people WHERE id < 12 RETURNING id, tags, code",
    "INSERT INTO people (id, name, age) SELECT max(id) + 100, 'agg', sum(age) FROM people",
    "INSERT INTO people (id, age) SELECT id, age FROM people WHERE id < 4 ON CONFLICT (id) DO UPDATE SET age = people.age + excluded.age",
    "INSERT INTO people (id) SELECT id FROM people ON CONFLICT DO NOTHING",
    "INSERT INTO kinds SELECT id + 100, name FROM people WHERE id IN (1, 2, 3, 5) RETURNING id, label",
    "DELETE FROM kinds WHERE id IN (SELECT id + 100 FROM people WHERE age > 0)",
    "INSERT INTO notes SELECT id::int + 50, id, name FROM people WHERE id > 10",
    "INSERT INTO notes (id) SELECT count(*) + 1000 FROM orders RETURNING *",
    // Rows of the home shard where sharded rows are written.
    "UPDATE people SET name = n.body FROM notes n WHERE n.person = people.id AND n.id < 5 RETURNING people.id, people.name",
    "UPDATE people p SET s = 'n' || n.id FROM notes n JOIN kinds k ON k.id = n.id WHERE n.person = p.id AND n.id BETWEEN 2 AND 4",
    "DELETE FROM orders WHERE person IN (SELECT person FROM notes WHERE id < 2) AND id = 0",
    "DELETE FROM kinds WHERE id IN (SELECT id + 1 FROM notes WHERE body LIKE '%3')",
    "DELETE FROM kinds k USING notes n, orders o WHERE n.id = k.id AND o.kind = k.id AND o.person > n.person + 20 RETURNING k.id",
    "UPDATE people SET age = (SELECT k.id FROM kinds k ORDER BY k.label DESC LIMIT 1) WHERE id % 9 = 0",
    // MERGE of rows that lie together.
    "MERGE INTO orders o USING people p ON o.person = p.id AND o.id = 1 WHEN MATCHED AND p.age > 20 THEN DELETE WHEN MATCHED THEN UPDATE SET amount = p.money",
    "MERGE INTO orders o USING people p ON o.person = p.id WHEN NOT MATCHED AND p.age < 12 THEN INSERT (id, person, kind) VALUES (77, p.id, p.age) WHEN NOT MATCHED THEN DO NOTHING",
    "MERGE INTO orders o USING (SELECT id, name FROM people WHERE id IN (3, 4, 5, 6)) p ON o.person = p.id AND o.id = 78 WHEN MATCHED THEN UPDATE SET kind = 1 WHEN NOT MATCHED THEN INSERT (id, person) VALUES (78, p.id)",
    "MERGE INTO people USING kinds k ON k.id = people.id WHEN MATCHED THEN UPDATE SET name = k.label",
    // And of others.
    "MERGE INTO people p USING (SELECT person + 1 AS id, count(*)::int AS n, max(at) AS at FROM orders GROUP BY person) o ON o.id = p.id WHEN MATCHED AND o.n > 1 THEN UPDATE SET age = age + o.n WHEN NOT MATCHED THEN INSERT (id, age, name) VALUES (o.id, o.n, 'merged')",
    "MERGE INTO people p USING kinds AS k ON p.id = k.id WHEN MATCHED THEN UPDATE SET name = k.label || '?' WHEN NOT MATCHED THEN INSERT (id, name) VALUES (k.id, k.label)",
    "MERGE INTO people USING notes ON people.id = notes.person AND notes.id < 5 WHEN MATCHED THEN UPDATE SET name = notes.body WHEN NOT MATCHED AND notes.id > 1000 AND notes.id < 1005 THEN INSERT (id, name) VALUES (notes.person, notes.body)",
    "MERGE INTO people p USING (VALUES (3, 'three'), (44, 'four'), (6001, 'new')) AS v (id, name) ON v.id = p.id WHEN MATCHED AND p.age > 1000 THEN DELETE WHEN MATCHED THEN UPDATE SET name = v.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (v.id, v.name)",
    "MERGE INTO people p USING (SELECT id + 9000 AS id, tags, doc, feels, code FROM people WHERE id < 6) AS q ON q.id = p.id WHEN NOT MATCHED THEN INSERT (id, tags, doc, feels, code) VALUES (q.id, q.tags, q.doc, q.feels, q.code)",
    "MERGE INTO people p USING orders o ON p.age = o.kind AND o.id = 0 AND p.id < 9 WHEN MATCHED THEN DELETE",
    "MERGE INTO notes n USING people p ON p.id = n.person WHEN MATCHED AND p.age IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET body = p.name WHEN NOT MATCHED AND p.id < 5 THEN INSERT VALUES (p.id + 900, p.id, p.name)",
    "MERGE INTO kinds k USING (SELECT DISTINCT kind FROM orders WHERE kind IS NOT NULL) o ON o.kind = k.id WHEN MATCHED THEN UPDATE SET label = label || '+' WHEN NOT MATCHED THEN INSERT VALUES (o.kind, 'found')",
    "MERGE INTO kinds k USING notes n ON n.id = k.id + 1 WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (n.id + 300, n.body)",
    "MERGE INTO people p USING orders o ON p.id = o.person WHEN MATCHED THEN UPDATE SET age = 1",
    "MERGE INTO people p USING (SELECT person + 1 AS id FROM orders) o ON o.id = p.id WHEN NOT MATCHED THEN INSERT (id) VALUES (o.id)",
    // Errors leave everything as it was.
    "INSERT INTO people (id) SELECT id FROM orders",
    "INSERT INTO people (id, age) SELECT id + 7000, 1 / (id - 5) FROM people",
    "UPDATE people SET age = (SELECT id FROM orders)",
    "INSERT INTO people (id, s) SELECT id + 8000, 'much too long' FROM people",
    "INSERT INTO people (id, nothing) SELECT id, 1 FROM people",
];

const READS: [&str; 4] = [
    "SELECT * FROM people ORDER BY id",
    "SELECT * FROM orders ORDER BY person, id",
    "SELECT * FROM kinds ORDER BY id",
    "SELECT * FROM notes ORDER BY id",
];

/// Rows of RETURNING come in no order, and what is found wrong at Bind or at Execute differs.
fn sorted(mut said: Vec<String>) -> Vec<String> {
    said.retain(|line| line != "BindComplete");
    said.sort();
    said
}

pub fn compare_writes(writes: &[&str], ask: impl Fn(&mut Wire, &str) -> Vec<String>) {
    let (stage, one) = both();
    let mut ours = stage.wire();
    let mut theirs = Wire::login(&one.endpoint(0));
    theirs.set_limit(LIMIT);
    let mut wrong = Vec::new();
    for sql in writes {
        let (found, wanted) = (sorted(ask(&mut ours, sql)), sorted(ask(&mut theirs, sql)));
        if found != wanted {
            wrong.push(format!(
                "{sql}\n  router:     {found:?}\n  postgresql: {wanted:?}"
            ));
        }
        for read in READS {
            let (found, wanted) = (say(&mut ours, read), say(&mut theirs, read));
            assert_eq!(found, wanted, "after {sql}\n{}", wrong.join("\n"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        writes.len(),
        wrong.join("\n")
    );
    let copies = stage.shards.sql_all("SELECT * FROM kinds ORDER BY id");
    assert!(copies.iter().all(|copy| *copy == copies[0]), "{copies:?}");
    for key in ["people", "orders"] {
        let column = if key == "people" { "id" } else { "person" };
        let all = stage.shards.sql_all(&format!("SELECT {column} FROM {key}"));
        for (shard, ids) in all.iter().enumerate() {
            for id in ids.lines() {
                assert_eq!(
                    super::stage::owner(id.parse().unwrap()),
                    shard,
                    "{key} {id}"
                );
            }
        }
    }
    stage.assert_nothing_prepared();
}

#[test]
#[ignore = "long"]
fn copied_too() {
    let csv = " CSV DELIMITER ';' QUOTE '''' NULL 'none'";
    for options in ["", " WITH (FORMAT csv, HEADER)", csv, " BINARY"] {
        // Of a type's name in binary there is its object id, another one on each server.
        let statements = STATEMENTS.iter().copied();
        let statements: Vec<&str> = statements
            .filter(|sql| !sql.contains("pg_typeof"))
            .collect();
        compare(&statements, |wire, sql| {
            let mut said = say(wire, &format!("COPY ({sql}) TO STDOUT{options}"));
            let failed = said.iter().any(|line| line.starts_with("Error"));
            said.retain(|line| !(failed && line.starts_with("Copy")));
            // The merge of aggregates is of rows.
            match said[0].contains("this aggregate over several shards") {
                true => say(
                    wire,
                    &format!("COPY (SELECT * FROM ({sql}) q) TO STDOUT{options}"),
                ),
                false => said,
            }
        });
    }
}

#[test]
#[ignore = "long"]
fn prepared_by_sql_too() {
    compare(STATEMENTS, |wire, sql| {
        let mut said = say(wire, &format!("PREPARE p AS {sql}"));
        said.extend(say(wire, "EXECUTE p"));
        // Of EXECUTE PostgreSQL describes rows when there are some.
        let failed = said.iter().any(|line| line.starts_with("Error"));
        said.retain(|line| !(failed && line.starts_with("RowDescription")));
        say(wire, "DEALLOCATE ALL");
        said
    });
    let prepared = [
        (
            "int, text",
            "SELECT id, age FROM people WHERE age > $1 AND name <> $2 ORDER BY id",
            "'20'::int, 'name3'::text",
        ),
        (
            "",
            "SELECT count(*) FROM people WHERE money > $1 AND born > $2",
            "10.5, '2000-06-01'",
        ),
        ("", "SELECT sum(age) + $1 FROM people", "NULL"),
        (
            "int",
            "SELECT id FROM people WHERE age = $1 ORDER BY id",
            "7.6",
        ),
        (
            "",
            "UPDATE people SET age = $1 WHERE id IN (SELECT person FROM orders WHERE kind = $2)",
            "77, 3",
        ),
        (
            "",
            "SELECT id FROM people WHERE id = ANY($1) ORDER BY id",
            "'{1,5,9}'",
        ),
        (
            "",
            "SELECT id FROM people WHERE age = $1 ORDER BY id",
            "1, 2",
        ),
        // Computed before anything runs.
        (
            "int8, mood, text[], short",
            "SELECT id, $2, $3, $4, pg_typeof($2) FROM people WHERE id = $1 OR feels = $2 ORDER BY id",
            "2 * 3 + 1, lower('SAD')::mood, ARRAY['a', NULL, upper('b')], repeat('x', 3)",
        ),
        (
            "float8, timestamptz, numeric, jsonb, bytea",
            "SELECT id, $1, $2, $3, $4, $5 FROM people WHERE id < 3 ORDER BY id",
            "1 / 3::float8, '2020-01-01'::timestamptz + '1 day', sqrt(2), jsonb_build_array(1, 'x'), '\\x00'::bytea",
        ),
        (
            "",
            "INSERT INTO people (id, name, feels, s) VALUES ($1, $3, $4, $5), ($2, $3, $4, $5) RETURNING *",
            "100 + 1, 102, 'x' || NULL, NULL::mood, 'abc'::text",
        ),
        ("", "DELETE FROM people WHERE id > $1", "(SELECT 100)"),
        ("", "DELETE FROM people WHERE id > $1", "1 / 0"),
        ("", "DELETE FROM people WHERE id > $1", "true"),
        ("", "DELETE FROM people WHERE id > $1", "nothing"),
        ("", "DELETE FROM people WHERE id > $1", "'x' + 1"),
        ("", "DELETE FROM people WHERE id > $1", "10 * 10"),
        (
            "short",
            "SELECT id FROM people WHERE s = $1 ORDER BY id",
            "'longer than ' || 'short'",
        ),
        (
            "regclass, date",
            "SELECT DISTINCT $1, $2 FROM people",
            "'people'::regclass, 'today'",
        ),
        ("", "SELECT count(*) FROM people WHERE now() = $1", "now()"),
        ("", "SELECT count(*) FROM people WHERE now() = $1", "'now'"),
    ];
    let statements = prepared.map(|(types, sql, arguments)| format!("{types};{sql};{arguments}"));
    let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
    let execute = |wire: &mut Wire, statement: &str, by_parse: bool| {
        let parts: Vec<&str> = statement.split(';').collect();
        let types = match parts[0] {
            "" => String::new(),
            types => format!("({types})"),
        };
        say(wire, &format!("PREPARE p {types} AS {}", parts[1]));
        let sql = format!("EXECUTE p ({})", parts[2]);
        let said = match by_parse {
            true => send(wire, &extended(&sql, &[], &[])),
            false => say(wire, &sql),
        };
        say(wire, "DEALLOCATE ALL");
        said
    };
    compare(&statements, |wire, sql| execute(wire, sql, false));
    compare(&statements, |wire, sql| execute(wire, sql, true));
    compare(&statements, |wire, sql| {
        say(wire, "BEGIN");
        let mut said = execute(wire, sql, false);
        said.extend(say(wire, "COMMIT"));
        said
    });
}

#[test]
fn writes_with_gathered_rows_do_what_one_postgresql_does() {
    compare_writes(WRITES, say);
}

#[test]
fn writes_with_gathered_rows_in_the_extended_protocol_too() {
    compare_writes(WRITES, |wire, sql| send(wire, &extended(sql, &[], &[])));
}

#[test]
#[ignore = "long"]
fn in_a_transaction_and_in_one_text_too() {
    compare_writes(WRITES, |wire, sql| {
        say(wire, "BEGIN");
        let mut said = say(wire, sql);
        said.extend(say(wire, "COMMIT"));
        said
    });
    compare_writes(WRITES, |wire, sql| {
        say(wire, &format!("SELECT count(*) FROM people; {sql}"))
    });
}

#[test]
fn arrays_are_not_gathered_in_a_form_that_may_change_them() {
    let (stage, _one) = both();
    let mut wire = stage.wire();
    let sql = "SELECT tags FROM people ORDER BY doc, id LIMIT 1";
    assert_eq!(say(&mut wire, sql)[1], "DataRow {a1,NULL,\"b,\\\"\"}");
    for exact in [
        "extra_float_digits = 3",
        "DateStyle = 'ISO, DMY'",
        "bytea_output TO hex",
    ] {
        say(&mut wire, &format!("SET {exact}"));
        assert!(say(&mut wire, sql)[1].starts_with("DataRow"), "{exact}");
    }
    let is_refused = |set: &str| {
        let mut wire = stage.wire();
        let begun = say(&mut wire, "BEGIN").concat();
        assert!(begun.starts_with("CommandComplete"), "{begun}");
        say(&mut wire, set);
        let refused = say(&mut wire, sql);
        assert!(refused[0].starts_with("Error 0A000"), "{set}: {refused:?}");
    };
    is_refused("SET array_nulls = off");
    is_refused("SET LOCAL array_nulls = off");
    is_refused("SET LOCAL extra_float_digits = 0");
    is_refused("SELECT set_config('extra_float_digits', '0', true)");
    is_refused("SET LOCAL xmloption = document");
    // Code may have set it out of sight.
    let quiet = "CREATE FUNCTION quiet() RETURNS text LANGUAGE sql \
                 AS $$SELECT set_config('array_nulls', 'off', false)$$";
    assert_eq!(say(&mut wire, quiet)[0], "CommandComplete CREATE FUNCTION");
    is_refused("SELECT quiet()");
    is_refused("DO $$BEGIN PERFORM set_config('array_nulls', 'off', false); END$$");
    let mut after = stage.wire();
    say(&mut after, "SELECT quiet()");
    let refused = say(&mut after, sql);
    assert!(refused[0].starts_with("Error 0A000"), "{refused:?}");
    say(&mut after, "DISCARD ALL");
    assert!(say(&mut after, sql)[1].starts_with("DataRow"));
    say(&mut wire, "SET extra_float_digits = 0");
    let refused = say(&mut wire, sql);
    assert!(refused[0].starts_with("Error 0A000"), "{refused:?}");
    assert_eq!(
        say(&mut wire, "SELECT id FROM people ORDER BY doc, id LIMIT 1").len(),
        4
    );
}

#[test]
fn a_gathered_write_is_done_once_and_shown_whole() {
    let stage = Stage::new();
    stage.fill(1..=20);
    let mut wire = stage.wire();
    let mut ask = |sql: &str, limits: &[u32]| {
        wire.query("BEGIN");
        let mut messages = vec![message::parse("", sql, &[]), message::bind_text(&[])];
        messages.extend(limits.iter().map(|rows| message::execute("", *rows)));
        messages.push(message::sync());
        let said = send(&mut wire, &messages).split_off(2);
        wire.query("ROLLBACK");
        said
    };
    let write = "UPDATE items SET v = v + 1 WHERE v > (SELECT avg(v) FROM items)";
    assert_eq!(ask(write, &[3])[0], "CommandComplete UPDATE 10");
    let twice = ask(write, &[0, 0]);
    assert_eq!(twice[0], "CommandComplete UPDATE 10");
    assert!(twice[1].starts_with("Error 55000"), "{twice:?}");
    // All is done by the first Execute, and the rows are handed out as they are asked for.
    let parts = ask(&format!("{write} RETURNING v"), &[4, 4, 4, 1]);
    let ends: Vec<&String> = parts
        .iter()
        .filter(|said| !said.starts_with("DataRow"))
        .collect();
    assert_eq!(parts.len() - ends.len(), 10, "{parts:?}");
    assert_eq!(
        ends[..4],
        [
            "PortalSuspended",
            "PortalSuspended",
            "CommandComplete UPDATE 2",
            "CommandComplete UPDATE 0"
        ]
    );
    let first = ask(&format!("{write} RETURNING v"), &[4]);
    assert_eq!(first[4], "PortalSuspended", "{first:?}");
}

/// Random statements with aggregates, each with a total order.
fn random_aggregates(seed: u64, count: usize) -> Vec<String> {
    let mut state = seed;
    let mut below = move |n: usize| {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % n as u64).expect("it is small")
    };
    const FROM: &[&str] = &[
        "people p",
        "people p",
        "people p JOIN orders o ON o.person = p.id",
        "people p LEFT JOIN orders o ON o.person = p.id",
        "people p JOIN orders o ON o.id = p.id",
        "people p JOIN kinds k ON k.id = p.age % 5",
        "people p LEFT JOIN (SELECT person, amount FROM orders WHERE amount > 10) o ON o.person = p.id",
        "adults p",
    ];
    const GROUPS: &[&str] = &[
        "p.name",
        "p.age",
        "p.age % 4",
        "p.id % 3",
        "p.name",
        "p.age > 20",
        "p.id",
        "p.age IS NULL",
    ];
    const WHERE: &[&str] = &[
        "",
        "",
        "WHERE p.id > 10",
        "WHERE p.age < 30 OR p.name IS NULL",
        "WHERE p.id IN (1, 2, 3, 4, 5)",
        "WHERE p.id < 0",
        "WHERE p.name = 'name3'",
        "WHERE p.id BETWEEN 5 AND 25 AND p.age <> 7",
    ];
    const AGGREGATES: &[&str] = &[
        "count(*)",
        "count(p.age)",
        "sum(p.age)",
        "sum(p.id)",
        "avg(p.age)",
        "count(DISTINCT p.age)",
        "sum(DISTINCT p.id)",
        "avg(p.age * 1.50)",
        "min(p.name)",
        "max(p.name)",
        "max(p.age)",
        "min(p.id)",
        "count(DISTINCT p.age)",
        "sum(DISTINCT p.age % 5)",
        "avg(DISTINCT p.age)",
        "count(*) FILTER (WHERE p.age > 20)",
        "sum(p.age) FILTER (WHERE p.id % 2 = 0)",
        "bool_or(p.age > 40)",
        "bit_xor(p.age)",
        "sum(CASE WHEN p.age > 10 THEN p.id ELSE 0 END)",
        "sum(coalesce(p.age, 0)) + count(*)",
        "avg(p.id) / 3",
        "stddev(p.age)",
        "string_agg(p.name, ',' ORDER BY p.id, p.name)",
        "round(avg(p.id), 5)",
        "sum(p.id) > 100",
    ];
    let mut statements = Vec::with_capacity(count);
    for _ in 0..count {
        let from = FROM[below(FROM.len())];
        let mut groups: Vec<&str> = (0..below(4)).map(|_| GROUPS[below(GROUPS.len())]).collect();
        groups.dedup();
        let mut items: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        let aggregates = 1 + below(3);
        items.extend((0..aggregates).map(|_| AGGREGATES[below(AGGREGATES.len())].to_owned()));
        let order: Vec<String> = (1..=items.len()).map(|at| at.to_string()).collect();
        let mut sql = format!(
            "SELECT {} FROM {from} {}",
            items.join(", "),
            WHERE[below(WHERE.len())]
        );
        if !groups.is_empty() {
            let places = below(2) == 0;
            let by = if places {
                &order[..groups.len()]
            } else {
                &items[..groups.len()]
            };
            sql += &format!(" GROUP BY {}", by.join(", "));
        }
        if below(4) == 0 {
            sql += &format!(
                " HAVING {} IS NOT NULL AND count(*) > {}",
                AGGREGATES[below(AGGREGATES.len())],
                below(4)
            );
        }
        sql += &format!(" ORDER BY {}", order.join(", "));
        if below(3) == 0 {
            sql += &format!(" LIMIT {} OFFSET {}", below(8), below(3));
        }
        statements.push(sql);
    }
    statements
}

#[test]
fn random_aggregates_over_gathered_groups_are_those_of_one_postgresql() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number("SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let count = number("COUNT").unwrap_or(400);
    println!("SEED={seed} COUNT={count}");
    let count = usize::try_from(count).expect("a number of statements");
    let statements = random_aggregates(seed, count);
    let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
    compare(&statements, say);
}

#[test]
fn what_a_subquery_calls_once_is_one_value_on_all_shards() {
    let stage = Stage::new();
    stage.fill(1..=30);
    let mut wire = stage.wire();
    let rows = wire.rows("SELECT id, (SELECT random()) FROM items");
    assert_eq!(rows.len(), 30);
    assert!(rows.iter().all(|row| row[1] == rows[0][1]), "{rows:?}");
    let refused = say(
        &mut wire,
        "UPDATE items SET v = (SELECT (random() * 1e9)::int8)",
    );
    assert!(refused[0].starts_with("Error 0A000"), "{refused:?}");
}

#[test]
fn a_parameter_that_is_the_time_is_not_read_by_several_servers() {
    let stage = Stage::new();
    stage.fill(1..=30);
    let mut wire = stage.wire();
    let sql =
        "SELECT count(*) FROM items a JOIN items b ON a.v = b.id WHERE $1::timestamptz > 'epoch'";
    let answer = send(&mut wire, &extended(sql, &[], &["2020-01-01"]));
    assert!(!answer[2].starts_with("Error"), "{answer:?}");
    let answer = send(&mut wire, &extended(sql, &[1184], &["now"]));
    let refused = answer.iter().any(|line| line.starts_with("Error 0A000"));
    assert!(refused, "{answer:?}");
}

#[test]
fn a_server_says_of_which_types_the_parameters_of_a_divided_insert_are() {
    let (stage, one) = both();
    let mut ours = stage.wire();
    let mut theirs = Wire::login(&one.endpoint(0));
    theirs.set_limit(LIMIT);
    let sql = "INSERT INTO people (id, feels, s, age) VALUES ($1, $2, $3, $4), ($5, $6, $3, $4 + 1), (9003, 'sad', 'x', $4) RETURNING *";
    let named = |name: &str, values: &[&str]| {
        let values: Vec<_> = values.iter().map(|v| Some(v.as_bytes())).collect();
        vec![
            message::bind("", name, Format::Text, &values, Format::Text),
            message::execute("", 0),
        ]
    };
    let asks = [
        extended(sql, &[], &["9001", "ok", "short", "7", "9002", "happy"]),
        // Once more, and what is wrong is said by PostgreSQL.
        extended(sql, &[], &["9001", "ok", "short", "7", "9002", "happy"]),
        extended(sql, &[], &["9011", "none", "short", "7", "9012", "happy"]),
        extended(
            sql,
            &[],
            &["9011", "ok", "much too long", "7", "9012", "sad"],
        ),
        extended(sql, &[], &["9011", "ok", "short", "7", "9012"]),
        [
            vec![message::parse("p", &sql.replace("9003", "$7"), &[])],
            named("p", &["9021", "ok", "a", "1", "9022", "sad", "9023"]),
            named("p", &["9024", "ok", "a", "1", "9025", "sad", "9026"]),
            vec![message::sync()],
        ]
        .concat(),
    ];
    for ask in asks {
        assert_eq!(send(&mut ours, &ask), send(&mut theirs, &ask));
        let read = "SELECT id, feels, s, age FROM people WHERE id > 9000 ORDER BY id";
        assert_eq!(say(&mut ours, read), say(&mut theirs, read));
    }
    stage.assert_nothing_prepared();
}

#[test]
fn only_is_not_lost_where_a_table_of_the_home_shard_has_children() {
    let (stage, _) = both();
    let mut wire = stage.wire();
    let sql =
        "SELECT n.id FROM people p JOIN ONLY notes n ON n.person = p.id ORDER BY n.id LIMIT 1";
    assert!(say(&mut wire, sql)[0].starts_with("RowDescription"));
    let made = say(&mut wire, "CREATE TABLE more () INHERITS (notes)");
    assert_eq!(made[0], "CommandComplete CREATE TABLE");
    let refused = say(&mut wire, sql);
    assert!(refused[0].starts_with("Error 0A000"), "{refused:?}");
}

#[test]
fn a_statement_that_would_become_another_one_is_refused_in_the_extended_protocol_too() {
    let stage = Stage::new();
    stage.fill(1..=9);
    for shard in 0..3 {
        // It stands before PostgreSQL's own, which makes rows of arrays again.
        stage.shards.sql(shard, "CREATE SCHEMA mine");
        let sql = "CREATE FUNCTION mine.unnest(bigint[]) RETURNS point IMMUTABLE LANGUAGE sql AS 'SELECT point(0, 0)'";
        stage.shards.sql(shard, sql);
    }
    let mut wire = stage.wire();
    say(&mut wire, "SET search_path = mine, public, pg_catalog");
    let sql = "SELECT a.id FROM items a JOIN items b ON a.v + 2 = b.v";
    for answer in [
        say(&mut wire, sql),
        send(&mut wire, &extended(sql, &[], &[])),
    ] {
        let errors = answer.iter().filter(|line| line.starts_with("Error 0A000"));
        assert_eq!(errors.count(), 1, "{answer:?}");
        assert_eq!(answer.last().unwrap(), "ReadyForQuery I");
    }
    assert!(say(&mut wire, "SET search_path = public")[0].starts_with("CommandComplete"));
    assert_eq!(wire.rows(sql).len(), 8);
}

#[test]
fn a_shard_reads_all_tables_of_a_statement_by_one_snapshot() {
    let stage = Stage::new();
    stage.fill(1..=6);
    let mut wire = stage.wire();
    for id in 1..=6 {
        let sql = format!("INSERT INTO accounts VALUES ({id}, 100)");
        assert!(say(&mut wire, &sql)[0].starts_with("CommandComplete"));
    }
    let sums = "SELECT (SELECT sum(v) FROM items) + (SELECT sum(balance) FROM accounts)";
    let rows = "SELECT sum(x) FROM (SELECT v AS x FROM items UNION ALL SELECT balance FROM accounts) AS b, \
        (SELECT 1 FROM items i JOIN accounts a ON i.v = a.balance HAVING count(*) >= 0) AS c";
    let shard = owner(1);
    for sql in [sums, rows] {
        let total = say(&mut wire, sql)[1].clone();
        for table in ["items", "accounts"] {
            for way in ["simple", "extended", "block"] {
                let mut holder = Wire::login(&stage.shards.endpoint(shard));
                for part in [
                    "BEGIN",
                    &format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"),
                    "UPDATE items SET v = v - 1 WHERE id = 1",
                    "UPDATE accounts SET balance = balance + 1 WHERE id = 1",
                ] {
                    let said = holder.query(part);
                    assert_ne!(said[0].kind, b'E', "{}", said[0]);
                }
                if way == "block" {
                    say(&mut wire, "BEGIN");
                }
                wire.send_all(&match way {
                    "extended" => extended(sql, &[], &[]),
                    _ => vec![message::query(sql)],
                });
                let waits = "SELECT count(*) FROM pg_stat_activity \
                    WHERE datname = current_database() AND wait_event_type = 'Lock'";
                let waiting = || stage.shards.sql_all(waits).iter().any(|n| n != "0");
                assert!(poll_until(LIMIT, waiting), "it does not wait");
                holder.query("COMMIT");
                let answer = lines(&wire.until_ready());
                assert!(
                    answer.contains(&total),
                    "{sql} {table} {way}: {total} {answer:?}"
                );
                if way == "block" {
                    say(&mut wire, "COMMIT");
                }
            }
        }
    }
}

#[test]
fn the_star_of_a_query_that_only_has_to_exist_needs_rights_on_all_columns() {
    let stage = Stage::new();
    stage.fill(1..=30);
    let role = format!("reader_{}_stars", std::process::id());
    let mut wire = stage.wire();
    for sql in [
        format!("CREATE ROLE {role}"),
        format!("GRANT SELECT, UPDATE, DELETE ON accounts TO {role}"),
        format!("GRANT SELECT (id, v) ON items TO {role}"),
        "INSERT INTO accounts SELECT i, i FROM generate_series(1, 9) i".into(),
        format!("SET ROLE {role}"),
    ] {
        assert!(
            say(&mut wire, &sql)[0].starts_with("CommandComplete"),
            "{sql}"
        );
    }
    for (exists, allowed) in [
        ("SELECT * FROM items i WHERE i.id = a.balance", false),
        (
            "SELECT DISTINCT * FROM items i WHERE i.id = a.balance",
            false,
        ),
        ("SELECT *, 1 FROM items i WHERE i.id = a.balance", false),
        ("SELECT i.* FROM items i WHERE i.id = a.balance", false),
        ("SELECT i FROM items i WHERE i.id = a.balance", false),
        ("SELECT note FROM items i WHERE i.id = a.balance", false),
        ("SELECT id FROM items i WHERE i.id = a.balance", true),
        ("SELECT 1 FROM items i WHERE i.id = a.balance", true),
        (
            "SELECT * FROM (SELECT id FROM items) i WHERE i.id = a.balance",
            true,
        ),
    ] {
        for sql in [
            format!("SELECT count(*) FROM accounts a WHERE EXISTS ({exists})"),
            format!("SELECT count(*) FROM accounts a WHERE NOT EXISTS ({exists})"),
            format!("UPDATE accounts a SET balance = balance WHERE EXISTS ({exists})"),
        ] {
            let told = say(&mut wire, &sql);
            let denied = told[0] == "Error 42501 permission denied for table items";
            assert_eq!(denied, !allowed, "{sql}: {told:?}");
        }
    }
    say(&mut wire, "RESET ROLE");
    stage.shards.sql_all(&format!("DROP OWNED BY {role}"));
}

// A stranger found it: XML lost its declaration on its way, and was stored without it.
#[test]
fn xml_and_types_without_a_binary_form_are_gathered_as_they_are_stored() {
    let stage = Stage::bare("[tables]\ndefault = \"auto\"");
    let mut wire = stage.wire();
    let whole = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><a/>";
    for sql in [
        "CREATE EXTENSION seg".to_owned(),
        "CREATE DOMAIN page AS xml".to_owned(),
        "CREATE TABLE y (id int PRIMARY KEY, x xml, p page, xs xml[], s seg)".to_owned(),
        "CREATE TABLE z (id int PRIMARY KEY, x xml, p page, xs xml[], s seg)".to_owned(),
    ] {
        let told = say(&mut wire, &sql);
        assert!(told[0].starts_with("CommandComplete"), "{sql}: {told:?}");
    }
    for id in 1..=4 {
        let values = format!("{id}, '{whole}', '{whole}', ARRAY['{whole}'::xml], '1.50'");
        let told = say(&mut wire, &format!("INSERT INTO y VALUES ({values})"));
        assert_eq!(told[0], "CommandComplete INSERT 0 1", "{told:?}");
    }
    for encoding in ["UTF8", "LATIN1"] {
        say(&mut wire, &format!("SET client_encoding TO '{encoding}'"));
        let row = |wire: &mut Wire, sql: &str| say(wire, sql)[1].clone();
        for column in ["x", "p"] {
            assert_eq!(
                row(
                    &mut wire,
                    &format!(
                        "SELECT count(DISTINCT {column}::text), max(octet_length({column}::text)) FROM y"
                    )
                ),
                format!("DataRow 1 {}", whole.len())
            );
            assert_eq!(
                row(
                    &mut wire,
                    &format!(
                        "SELECT count(*) FROM y a JOIN y b ON b.{column}::text = a.{column}::text"
                    )
                ),
                "DataRow 16"
            );
            say(&mut wire, "TRUNCATE z");
            let stores = format!(
                "INSERT INTO z (id, {column}) SELECT a.id, a.{column} FROM y a JOIN y b ON b.id = a.id % 4 + 1"
            );
            assert_eq!(say(&mut wire, &stores)[0], "CommandComplete INSERT 0 4");
            let sets =
                format!("UPDATE z SET {column} = y.{column} FROM y WHERE y.id = z.id % 4 + 1");
            assert_eq!(say(&mut wire, &sets)[0], "CommandComplete UPDATE 4");
            for id in 1..=4 {
                let sql = format!("SELECT {column}::text FROM z WHERE id = {id}");
                assert_eq!(
                    row(&mut wire, &sql),
                    format!("DataRow {whole}"),
                    "{column} {encoding}"
                );
            }
        }
        for refused in [
            "SELECT max((xs[1])::text) FROM y",
            "INSERT INTO z (id, xs) SELECT a.id, a.xs FROM y a JOIN y b ON b.id = a.id % 4 + 1",
            "INSERT INTO z (id, xs) SELECT 9, array_agg(x) FROM y",
        ] {
            let told = say(&mut wire, refused);
            assert!(told[0].starts_with("Error 0A000"), "{refused}: {told:?}");
        }
    }
    say(&mut wire, "SET client_encoding TO 'UTF8'");
    assert_eq!(
        say(&mut wire, "SELECT s, count(*) FROM y GROUP BY s")[1],
        "DataRow 1.50 4"
    );
    say(&mut wire, "TRUNCATE z");
    let told = say(
        &mut wire,
        "INSERT INTO z (id, s) SELECT a.id, a.s FROM y a JOIN y b ON b.id = a.id % 4 + 1",
    );
    assert_eq!(told[0], "CommandComplete INSERT 0 4");
    assert_eq!(
        say(&mut wire, "SELECT count(*) FROM z JOIN y ON z.s = y.s")[1],
        "DataRow 16"
    );
}
