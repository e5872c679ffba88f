//! What statements become, and which do not become anything.

use std::sync::Arc;

use sqlparser::ast::{Expr, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::super::{Column, Filled, Nulls, Unique};
use super::*;

const NOW: i64 = 1_700_000_000_123;

fn column(name: &str, kind: &str, path: &str) -> Column {
    Column::nullable(name, Kind::from_name(kind).unwrap(), path)
}

fn required(name: &str, kind: &str, path: &str, default: Option<Filled>) -> Column {
    Column {
        not_null: true,
        default,
        ..column(name, kind, path)
    }
}

fn unique(name: &str, index: &str, columns: &[usize]) -> Unique {
    Unique {
        name: name.to_owned(),
        index: index.to_owned(),
        columns: columns.to_vec(),
    }
}

/// `t` has a column of every kind, `people` has an ObjectId and omits NULL, `k` is small.
fn collection(schema: Option<&str>, table: &str) -> Option<Arc<Collection>> {
    let (columns, unique, nulls) = match (schema, table) {
        (None | Some("public"), "t") => (
            vec![
                required("id", "int8", "_id", None),
                required("n", "int4", "n", Some(Filled::Constant("7".to_owned()))),
                column("i", "int4", "i"),
                column("s", "int2", "s"),
                column("b", "bool", "b"),
                column("r", "real", "r"),
                column("f", "float8", "f"),
                column("num", "numeric", "num"),
                column("txt", "text", "txt"),
                column("v", "varchar(3)", "v"),
                column("u", "uuid", "u"),
                column("bin", "bytea", "bin"),
                column("ts", "timestamptz", "at.ts"),
                column("day", "date", "at.day"),
                column("j", "jsonb", "j"),
                column("tags", "text[]", "tags"),
                column("User", "text", "User"),
            ],
            vec![
                unique("t_pkey", "_id_", &[0]),
                unique("t_key", "key", &[1, 8]),
            ],
            Nulls::Store,
        ),
        (None, "people") => (
            vec![
                required("name", "text", "name", None),
                column("friend", "objectid", "friend"),
                column("city", "text", "home.city"),
                column("age", "int2", "age"),
                required("made", "timestamptz", "made", Some(Filled::Now)),
            ],
            vec![unique("people_name", "name", &[0])],
            Nulls::Omit,
        ),
        (None, "k") => (
            vec![
                required("id", "int8", "_id", None),
                required("n", "int4", "n", Some(Filled::Constant("7".to_owned()))),
                column("v", "varchar(3)", "in.v"),
                column("num", "numeric", "in.num"),
                column("r", "real", "r"),
            ],
            vec![
                unique("k_pkey", "_id_", &[0]),
                unique("k_key", "key", &[1, 2]),
            ],
            Nulls::Store,
        ),
        _ => return None,
    };
    Some(Arc::new(Collection {
        schema: "public".to_owned(),
        table: table.to_owned(),
        collection: table.to_owned(),
        columns,
        unique,
        nulls,
        owner: None,
    }))
}

fn parse(sql: &str) -> Statement {
    let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap();
    assert_eq!(statements.len(), 1, "{sql}");
    statements.remove(0)
}

fn translated(sql: &str) -> Result<Translated> {
    translate(&parse(sql), &collection, &[])
}

fn command(sql: &str, given: &[BoundValue<'_>]) -> std::result::Result<Command, Fault> {
    let translated = translated(sql).unwrap_or_else(|reason| panic!("{sql}: {reason}"));
    translated.bind(given, &Forms::default(), NOW)
}

/// The command; of a plain `SELECT i FROM t` only the filter.
fn shown(sql: &str, given: &[BoundValue<'_>]) -> String {
    match command(sql, given) {
        Err(fault) => format!("{} {fault}", fault.sqlstate),
        Ok(command) => {
            let text = command.to_string();
            let filter = text
                .strip_prefix("{\"find\":\"t\",\"filter\":")
                .and_then(|text| text.strip_suffix(",\"projection\":{\"i\":1,\"_id\":0}}"));
            filter.map_or(text.clone(), str::to_owned)
        }
    }
}

/// A statement without parameters.
#[track_caller]
fn check(sql: &str, expected: &str) {
    assert_eq!(shown(sql, &[]), expected, "{sql}");
}

/// One with parameters.
#[track_caller]
fn bound(sql: &str, values: &[&str], expected: &str) {
    assert_eq!(shown(sql, &given(values)), expected, "{sql}");
}

#[track_caller]
fn refuse(sql: &str, reason: &str) {
    match translated(sql) {
        Err(refused) => assert_eq!(refused.to_string(), reason, "{sql}"),
        Ok(_) => panic!("{sql}: {}", shown(sql, &[])),
    }
}

/// The filter of a fragment with this condition.
fn wide(condition: &str, values: &[&str]) -> String {
    let sql = format!("SELECT i FROM t WHERE {}", marked(condition));
    let fetched = fetching(&parse(&sql), &collection, &[]);
    let fetched = fetched.unwrap_or_else(|reason| panic!("{sql}: {reason}"));
    let command = fetched.bind(&given(values), &Forms::default(), NOW);
    let text = command.unwrap().to_string();
    let filter = text
        .strip_prefix("{\"find\":\"t\",\"filter\":")
        .and_then(|text| text.strip_suffix(",\"projection\":{\"i\":1,\"_id\":0}}"));
    filter.map_or(text.clone(), str::to_owned)
}

fn given<'a>(values: &[&'a str]) -> Vec<BoundValue<'a>> {
    let given = |value: &&'a str| match *value {
        "NULL" => BoundValue::Null,
        text => BoundValue::Text(text),
    };
    values.iter().map(given).collect()
}

#[test]
fn selects_read_declared_fields() {
    check(
        "SELECT * FROM t",
        r#"{"find":"t","filter":{},"projection":{"_id":1,"n":1,"i":1,"s":1,"b":1,"r":1,"f":1,"num":1,"txt":1,"v":1,"u":1,"bin":1,"at.ts":1,"at.day":1,"j":1,"tags":1,"User":1}}"#,
    );
    check(
        r#"SELECT id, t.i, public.t.s, "User", ts AS x FROM public.t"#,
        r#"{"find":"t","filter":{},"projection":{"_id":1,"i":1,"s":1,"User":1,"at.ts":1}}"#,
    );
    // Of one document nothing is left out that has a column.
    check(
        "SELECT * FROM t WHERE id = 7",
        r#"{"find":"t","filter":{"_id":7},"projection":{}}"#,
    );
    check(
        "SELECT id, n FROM t WHERE id = 7",
        r#"{"find":"t","filter":{"_id":7},"projection":{"_id":1,"n":1}}"#,
    );
    check(
        "SELECT x.* FROM t x",
        r#"{"find":"t","filter":{},"projection":{"_id":1,"n":1,"i":1,"s":1,"b":1,"r":1,"f":1,"num":1,"txt":1,"v":1,"u":1,"bin":1,"at.ts":1,"at.day":1,"j":1,"tags":1,"User":1}}"#,
    );
    check(
        "SELECT true, 1 AS one, 'x', NULL FROM t",
        r#"{"find":"t","filter":{},"projection":{"_id":1}}"#,
    );
    check(
        "SELECT i::text, CAST(ts AS text) AS w FROM t",
        r#"{"find":"t","filter":{},"projection":{"i":1,"at.ts":1,"_id":0}}"#,
    );
}

#[test]
fn conditions_are_true_of_the_same_rows() {
    check("SELECT i FROM t WHERE i = 5", r#"{"i":5}"#);
    check(
        "SELECT i FROM t WHERE 5 = i AND n <> -3",
        r#"{"$and":[{"i":5},{"n":{"$nin":[-3,null]}}]}"#,
    );
    check(
        "SELECT i FROM t WHERE i < 5 OR 7 <= i",
        r#"{"$or":[{"i":{"$lt":5}},{"i":{"$gte":7}}]}"#,
    );
    check(
        "SELECT i FROM t WHERE NOT (i < 5 AND (n > 2 OR b))",
        r#"{"$or":[{"i":{"$gte":5}},{"$and":[{"n":{"$lte":2}},{"b":false}]}]}"#,
    );
    check(
        "SELECT i FROM t WHERE i = 2.5",
        r#"{"i":{"$numberDecimal":"2.5"}}"#,
    );
    check(
        "SELECT i FROM t WHERE i = 3000000000",
        r#"{"i":3000000000}"#,
    );
    check(
        "SELECT i FROM t WHERE i < 99999999999999999999",
        r#"{"i":{"$lt":{"$numberDecimal":"99999999999999999999"}}}"#,
    );
    check("SELECT i FROM t WHERE i > 'NaN'::numeric", r#"{"rows":[]}"#);
    check(
        "SELECT i FROM t WHERE i < 'NaN'::numeric",
        r#"{"i":{"$nin":[{"$numberDecimal":"NaN"},null]}}"#,
    );
    check(
        "SELECT i FROM t WHERE num > 5",
        r#"{"$or":[{"num":{"$gt":5}},{"num":{"$numberDouble":"NaN"}}]}"#,
    );
    check(
        "SELECT i FROM t WHERE num >= 'NaN'",
        r#"{"num":{"$numberDecimal":"NaN"}}"#,
    );
    check(
        "SELECT i FROM t WHERE NOT num < 1.50",
        r#"{"$or":[{"num":{"$gte":{"$numberDecimal":"1.50"}}},{"num":{"$numberDouble":"NaN"}}]}"#,
    );
    check("SELECT i FROM t WHERE f = 1", r#"{"f":1.0}"#);
    check(
        "SELECT i FROM t WHERE f > 1.5",
        r#"{"$or":[{"f":{"$gt":1.5}},{"f":{"$numberDouble":"NaN"}}]}"#,
    );
    check("SELECT i FROM t WHERE f <= 'NaN'", r#"{"f":{"$ne":null}}"#);
    check("SELECT i FROM t WHERE r = 1.1", r#"{"r":1.1}"#);
    check(
        "SELECT i FROM t WHERE r = '1.1'",
        r#"{"r":1.100000023841858}"#,
    );
    bound(
        "SELECT i FROM t WHERE r = $1",
        &["1.1"],
        r#"{"r":1.100000023841858}"#,
    );
    check(
        "SELECT i FROM t WHERE r IN (1.1, 2)",
        r#"{"r":{"$in":[1.100000023841858,2.0]}}"#,
    );
    check("SELECT i FROM t WHERE r IN (1.1)", r#"{"r":{"$in":[1.1]}}"#);
    check(
        "SELECT i FROM t WHERE i IN (1, NULL, 3)",
        r#"{"i":{"$in":[1,3]}}"#,
    );
    check(
        "SELECT i FROM t WHERE i NOT IN (1, 3)",
        r#"{"i":{"$nin":[1,3,null]}}"#,
    );
    check("SELECT i FROM t WHERE i NOT IN (1, NULL)", r#"{"rows":[]}"#);
    check(
        "SELECT i FROM t WHERE i IN (1, '2', 3.5)",
        r#"{"i":{"$in":[1,{"$numberDecimal":"2"},{"$numberDecimal":"3.5"}]}}"#,
    );
    bound(
        "SELECT i FROM t WHERE i = ANY($1)",
        &["{1,2,NULL}"],
        r#"{"i":{"$in":[1,2]}}"#,
    );
    check(
        "SELECT i FROM t WHERE i = ANY('{1,2}')",
        r#"{"i":{"$in":[1,2]}}"#,
    );
    bound(
        "SELECT i FROM t WHERE NOT i = ANY($1::int8[])",
        &["{}"],
        "{}",
    );
    bound(
        "SELECT i FROM t WHERE i <> ALL($1::int8[])",
        &["{4}"],
        r#"{"i":{"$nin":[4,null]}}"#,
    );
    bound(
        "SELECT i FROM t WHERE i = ANY($1)",
        &["NULL"],
        r#"{"rows":[]}"#,
    );
    bound(
        "SELECT i FROM t WHERE i IN (SELECT unnest($1::int4[]))",
        &["{1,2}"],
        r#"{"i":{"$in":[1,2]}}"#,
    );
    check(
        "SELECT i FROM t WHERE i IS NULL OR txt IS NOT NULL",
        r#"{"$or":[{"i":null},{"txt":{"$ne":null}}]}"#,
    );
    check(
        "SELECT i FROM t WHERE NOT i IS NULL",
        r#"{"i":{"$ne":null}}"#,
    );
    check(
        "SELECT i FROM t WHERE b IS TRUE OR b IS NOT FALSE OR b IS UNKNOWN",
        r#"{"$or":[{"b":true},{"b":{"$ne":false}},{"b":null}]}"#,
    );
    check("SELECT i FROM t WHERE b", r#"{"b":true}"#);
    check("SELECT i FROM t WHERE NOT b", r#"{"b":false}"#);
    check(
        "SELECT i FROM t WHERE i IS DISTINCT FROM 5",
        r#"{"i":{"$ne":5}}"#,
    );
    check(
        "SELECT i FROM t WHERE i IS NOT DISTINCT FROM NULL",
        r#"{"i":null}"#,
    );
    check(
        "SELECT i FROM t WHERE i BETWEEN 1 AND 5",
        r#"{"$and":[{"i":{"$gte":1}},{"i":{"$lte":5}}]}"#,
    );
    bound(
        "SELECT i FROM t WHERE i NOT BETWEEN $1 AND 5",
        &["NULL"],
        r#"{"i":{"$gt":5}}"#,
    );
    check(
        r#"SELECT i FROM t WHERE txt LIKE 'a%_\%'"#,
        r#"{"txt":{"$regex":"\\Aa.*.\\%\\z","$options":"s"}}"#,
    );
    check(
        r#"SELECT i FROM t WHERE (txt::text LIKE 'a%_\%')"#,
        r#"{"txt":{"$regex":"\\Aa.*.\\%\\z","$options":"s"}}"#,
    );
    bound(
        "SELECT i FROM t WHERE txt LIKE ('%' || $1 || '%')",
        &["a_"],
        r#"{"txt":{"$regex":"\\A.*a..*\\z","$options":"s"}}"#,
    );
    bound(
        "SELECT i FROM t WHERE txt NOT LIKE $1 || '%'",
        &["NULL"],
        r#"{"rows":[]}"#,
    );
    refuse(
        "SELECT i FROM t WHERE txt LIKE '%' || 4",
        "a text of something else than texts",
    );
    bound(
        "SELECT i FROM t WHERE v NOT LIKE $1",
        &["x."],
        r#"{"v":{"$not":{"$regex":"\\Ax\\.\\z","$options":"s"},"$ne":null}}"#,
    );
    check(
        "SELECT i FROM t WHERE txt = 'x' AND v = 'much longer than three'",
        r#"{"$and":[{"txt":"x"},{"v":"much longer than three"}]}"#,
    );
    check("SELECT i FROM t WHERE txt < 'é'", r#"{"txt":{"$lt":"é"}}"#);
    check(
        "SELECT i FROM t WHERE u = '6f9619ff-8b86-d011-b42d-00c04fc964ff'",
        r#"{"u":{"$uuid":"6f9619ff-8b86-d011-b42d-00c04fc964ff"}}"#,
    );
    check(
        "SELECT i FROM t WHERE u = 'x'",
        r#"22P02 invalid input syntax for type uuid: "x""#,
    );
    check(
        r#"SELECT i FROM t WHERE bin = '\x0102'"#,
        r#"{"bin":{"$binary":{"base64":"AQI=","subType":"00"}}}"#,
    );
    check(
        "SELECT i FROM t WHERE ts > '2024-01-02 03:04:05.123456+00'",
        r#"{"at.ts":{"$gt":{"$date":"2024-01-02T03:04:05.123Z"}}}"#,
    );
    check(
        "SELECT i FROM t WHERE ts >= '2024-01-02 03:04:05.123456+00'",
        r#"{"at.ts":{"$gt":{"$date":"2024-01-02T03:04:05.123Z"}}}"#,
    );
    check(
        "SELECT i FROM t WHERE ts < '2024-01-02 03:04:05.123456+00'",
        r#"{"at.ts":{"$lte":{"$date":"2024-01-02T03:04:05.123Z"}}}"#,
    );
    check(
        "SELECT i FROM t WHERE ts = '2024-01-02 03:04:05.123456+00'",
        r#"{"rows":[]}"#,
    );
    check(
        "SELECT i FROM t WHERE ts <> '2024-01-02 03:04:05.123456+00'",
        r#"{"at.ts":{"$ne":null}}"#,
    );
    check(
        "SELECT i FROM t WHERE ts <= TIMESTAMPTZ '2024-01-02 03:04:05.123+00'",
        r#"{"at.ts":{"$lte":{"$date":"2024-01-02T03:04:05.123Z"}}}"#,
    );
    check(
        "SELECT i FROM t WHERE day = DATE '2024-01-02'",
        r#"{"at.day":{"$date":"2024-01-02T00:00:00Z"}}"#,
    );
    check(
        "SELECT i FROM t WHERE day >= '2024-01-02'",
        r#"{"at.day":{"$gte":{"$date":"2024-01-02T00:00:00Z"}}}"#,
    );
    check(
        "SELECT i FROM t WHERE tags IS NULL",
        r#"{"tags":{"$not":{"$type":"array"}}}"#,
    );
    check(
        "SELECT i FROM t WHERE j IS NOT NULL",
        r#"{"$or":[{"j":{"$ne":null}},{"j":{"$type":"array"}}]}"#,
    );
    check("SELECT i FROM t WHERE 'x' = ANY(tags)", r#"{"tags":"x"}"#);
    bound(
        "SELECT i FROM t WHERE NOT $1 = ANY(tags)",
        &["x"],
        r#"{"tags":{"$type":"array","$nin":["x",null]}}"#,
    );
    check(
        "SELECT i FROM t WHERE tags @> '{a,b}' OR NOT tags @> '{c}'",
        r#"{"$or":[{"tags":{"$all":["a","b"]}},{"tags":{"$type":"array","$not":{"$all":["c"]}}}]}"#,
    );
    check(
        "SELECT i FROM t WHERE tags @> '{}'",
        r#"{"tags":{"$type":"array"}}"#,
    );
    check("SELECT i FROM t WHERE tags @> '{a,NULL}'", r#"{"rows":[]}"#);
    check("SELECT i FROM t WHERE 1 = 1 AND i = 1", r#"{"i":1}"#);
    check("SELECT i FROM t WHERE true", "{}");
    check("SELECT i FROM t WHERE false OR i = 1", r#"{"i":1}"#);
    check("SELECT i FROM t WHERE i = NULL", r#"{"rows":[]}"#);
    check(
        "SELECT name FROM people WHERE friend = '65a1b2c3d4e5f60718293a4b'",
        r#"{"find":"people","filter":{"friend":{"$oid":"65a1b2c3d4e5f60718293a4b"}},"projection":{"name":1,"_id":0}}"#,
    );
    check(
        "SELECT name FROM people WHERE friend <> '65A1b2c3d4e5f60718293a4b'",
        r#"{"find":"people","filter":{"friend":{"$ne":null}},"projection":{"name":1,"_id":0}}"#,
    );
    bound(
        "SELECT name FROM people WHERE friend IN ('65a1b2c3d4e5f60718293a4b', $1)",
        &["x"],
        r#"{"find":"people","filter":{"friend":{"$in":[{"$oid":"65a1b2c3d4e5f60718293a4b"}]}},"projection":{"name":1,"_id":0}}"#,
    );
}

#[test]
fn null_and_nan_are_sorted_where_postgresql_has_them() {
    check(
        "SELECT i FROM t ORDER BY n, id DESC LIMIT 10 OFFSET 5",
        r#"{"find":"t","filter":{},"projection":{"i":1,"_id":0},"sort":{"n":1,"_id":-1},"skip":5,"limit":10}"#,
    );
    check(
        "SELECT i FROM t ORDER BY i",
        r#"{"aggregate":"t","pipeline":[{"$addFields":{"mothership_rank_0":{"$cond":[{"$eq":[{"$ifNull":["$i",null]},null]},2,0]}}},{"$sort":{"mothership_rank_0":1,"i":1}},{"$project":{"i":1,"_id":0}}]}"#,
    );
    check(
        "SELECT i FROM t ORDER BY i DESC NULLS LAST",
        r#"{"find":"t","filter":{},"projection":{"i":1,"_id":0},"sort":{"i":-1}}"#,
    );
    check(
        "SELECT i FROM t ORDER BY i NULLS FIRST",
        r#"{"find":"t","filter":{},"projection":{"i":1,"_id":0},"sort":{"i":1}}"#,
    );
    check(
        "SELECT i FROM t WHERE i > 5 ORDER BY i",
        r#"{"find":"t","filter":{"i":{"$gt":5}},"projection":{"i":1,"_id":0},"sort":{"i":1}}"#,
    );
    check(
        "SELECT i FROM t ORDER BY num DESC, 1",
        r#"{"aggregate":"t","pipeline":[{"$addFields":{"mothership_rank_0":{"$cond":[{"$eq":[{"$ifNull":["$num",null]},null]},2,{"$cond":[{"$eq":["$num",{"$numberDouble":"NaN"}]},1,0]}]},"mothership_rank_1":{"$cond":[{"$eq":[{"$ifNull":["$i",null]},null]},2,0]}}},{"$sort":{"mothership_rank_0":-1,"num":-1,"mothership_rank_1":1,"i":1}},{"$project":{"i":1,"_id":0}}]}"#,
    );
    check(
        "SELECT i AS n FROM t ORDER BY n",
        r#"{"aggregate":"t","pipeline":[{"$addFields":{"mothership_rank_0":{"$cond":[{"$eq":[{"$ifNull":["$i",null]},null]},2,0]}}},{"$sort":{"mothership_rank_0":1,"i":1}},{"$project":{"i":1,"_id":0}}]}"#,
    );
    check("SELECT i FROM t LIMIT 0", r#"{"rows":[]}"#);
    bound(
        "SELECT i FROM t LIMIT $1 OFFSET $2",
        &["5,NULL"],
        "08P01 there is no value of parameter $2",
    );
    bound(
        "SELECT i FROM t LIMIT $1",
        &["-1"],
        "2201W LIMIT must not be negative",
    );
    check(
        "SELECT i FROM t LIMIT 1 OFFSET -1",
        "2201X OFFSET must not be negative",
    );
    check(
        "SELECT i FROM t FETCH FIRST 3 ROWS ONLY",
        r#"{"find":"t","filter":{},"projection":{"i":1,"_id":0},"limit":3}"#,
    );
}

#[test]
fn aggregates_of_nothing_are_postgresqls() {
    check(
        "SELECT count(*) FROM t",
        r#"{"aggregate":"t","pipeline":[{"$group":{"_id":null,"c0":{"$sum":1}}},{"$project":{"c0":1,"_id":0}}],"ifEmpty":{"c0":0}}"#,
    );
    check(
        "SELECT count(*) AS c, count(i), max(txt), sum(i), sum(id) FROM t WHERE n = 1",
        r#"{"aggregate":"t","pipeline":[{"$match":{"n":1}},{"$group":{"_id":null,"c0":{"$sum":1},"c1":{"$sum":{"$cond":[{"$eq":[{"$ifNull":["$i",null]},null]},0,1]}},"c2":{"$max":"$txt"},"c3":{"$sum":{"$toLong":"$i"}},"nc3":{"$sum":{"$cond":[{"$eq":[{"$ifNull":["$i",null]},null]},0,1]}},"c4":{"$sum":{"$toDecimal":{"$toLong":"$_id"}}},"nc4":{"$sum":{"$cond":[{"$eq":[{"$ifNull":["$_id",null]},null]},0,1]}}}},{"$project":{"c0":1,"c1":1,"c2":1,"c3":{"$cond":[{"$eq":["$nc3",0]},null,"$c3"]},"c4":{"$cond":[{"$eq":["$nc4",0]},null,"$c4"]},"_id":0}}],"ifEmpty":{"c0":0,"c1":0,"c2":null,"c3":null,"c4":null}}"#,
    );
    check(
        "SELECT txt, count(*) FROM t GROUP BY txt ORDER BY count DESC, txt",
        r#"{"aggregate":"t","pipeline":[{"$group":{"_id":{"g0":{"$ifNull":["$txt",null]}},"c1":{"$sum":1}}},{"$addFields":{"mothership_rank_1":{"$cond":[{"$eq":[{"$ifNull":["$_id.g0",null]},null]},2,0]}}},{"$sort":{"c1":-1,"mothership_rank_1":1,"_id.g0":1}},{"$project":{"c0":"$_id.g0","c1":1,"_id":0}}]}"#,
    );
    check(
        "SELECT txt FROM t GROUP BY txt, i ORDER BY i LIMIT 3",
        r#"{"aggregate":"t","pipeline":[{"$group":{"_id":{"g0":{"$ifNull":["$txt",null]},"g1":{"$ifNull":["$i",null]}}}},{"$addFields":{"mothership_rank_0":{"$cond":[{"$eq":[{"$ifNull":["$_id.g1",null]},null]},2,0]}}},{"$sort":{"mothership_rank_0":1,"_id.g1":1}},{"$limit":3},{"$project":{"c0":"$_id.g0","_id":0}}]}"#,
    );
    check(
        "SELECT DISTINCT i FROM t",
        r#"{"aggregate":"t","pipeline":[{"$group":{"_id":{"g0":{"$ifNull":["$i",null]}}}},{"$project":{"c0":"$_id.g0","_id":0}}]}"#,
    );
    check(
        "SELECT DISTINCT txt, true, i AS x FROM t WHERE n > 1 ORDER BY x DESC NULLS LAST LIMIT 2",
        r#"{"aggregate":"t","pipeline":[{"$match":{"n":{"$gt":1}}},{"$group":{"_id":{"g0":{"$ifNull":["$txt",null]},"g1":{"$ifNull":["$i",null]}}}},{"$sort":{"_id.g1":-1}},{"$limit":2},{"$project":{"c0":"$_id.g0","c2":"$_id.g1","_id":0}}]}"#,
    );
    check(
        "SELECT DISTINCT 1 FROM t",
        r#"{"aggregate":"t","pipeline":[{"$group":{"_id":null}},{"$project":{"c":{"$literal":1},"_id":0}}]}"#,
    );
    check(
        "SELECT txt FROM t GROUP BY txt HAVING count(*) > 1 AND txt <> 'x' ORDER BY txt",
        r#"{"aggregate":"t","pipeline":[{"$group":{"_id":{"g0":{"$ifNull":["$txt",null]}},"h0":{"$sum":1}}},{"$match":{"$and":[{"h0":{"$gt":1}},{"_id.g0":{"$nin":["x",null]}}]}},{"$addFields":{"mothership_rank_0":{"$cond":[{"$eq":[{"$ifNull":["$_id.g0",null]},null]},2,0]}}},{"$sort":{"mothership_rank_0":1,"_id.g0":1}},{"$project":{"c0":"$_id.g0","_id":0}}]}"#,
    );
    check(
        "SELECT txt, sum(i) FROM t GROUP BY txt HAVING sum(i) IS NULL OR (max(n)) BETWEEN 1 AND 5",
        r#"{"aggregate":"t","pipeline":[{"$group":{"_id":{"g0":{"$ifNull":["$txt",null]}},"c1":{"$sum":{"$toLong":"$i"}},"nc1":{"$sum":{"$cond":[{"$eq":[{"$ifNull":["$i",null]},null]},0,1]}},"h0":{"$sum":{"$toLong":"$i"}},"nh0":{"$sum":{"$cond":[{"$eq":[{"$ifNull":["$i",null]},null]},0,1]}},"h1":{"$max":"$n"},"h2":{"$max":"$n"}}},{"$set":{"h0":{"$cond":[{"$eq":["$nh0",0]},null,"$h0"]}}},{"$match":{"$or":[{"h0":null},{"$and":[{"h1":{"$gte":1}},{"h2":{"$lte":5}}]}]}},{"$project":{"c0":"$_id.g0","c1":{"$cond":[{"$eq":["$nc1",0]},null,"$c1"]},"_id":0}}]}"#,
    );
    check(
        "SELECT txt FROM t GROUP BY txt HAVING count(*) = NULL",
        r#"{"rows":[]}"#,
    );
    bound(
        "SELECT txt FROM t GROUP BY txt HAVING count(n) >= $1 LIMIT $2",
        &["3", "1"],
        r#"{"aggregate":"t","pipeline":[{"$group":{"_id":{"g0":{"$ifNull":["$txt",null]}},"h0":{"$sum":{"$cond":[{"$eq":[{"$ifNull":["$n",null]},null]},0,1]}}}},{"$match":{"h0":{"$gte":3}}},{"$limit":1},{"$project":{"c0":"$_id.g0","_id":0}}]}"#,
    );
    check(
        "SELECT bool_and(b), bool_or(b) FROM t",
        r#"{"aggregate":"t","pipeline":[{"$group":{"_id":null,"c0":{"$min":"$b"},"c1":{"$max":"$b"}}},{"$project":{"c0":1,"c1":1,"_id":0}}],"ifEmpty":{"c0":null,"c1":null}}"#,
    );
    check(
        "SELECT count(*), i FROM t GROUP BY 2, txt ORDER BY 1",
        r#"{"aggregate":"t","pipeline":[{"$group":{"_id":{"g0":{"$ifNull":["$i",null]},"g1":{"$ifNull":["$txt",null]}},"c0":{"$sum":1}}},{"$sort":{"c0":1}},{"$project":{"c0":1,"c1":"$_id.g0","_id":0}}]}"#,
    );
    check(
        "SELECT count(DISTINCT txt) FROM t",
        r#"{"aggregate":"t","pipeline":[{"$group":{"_id":{"value":{"$ifNull":["$txt",null]}}}},{"$group":{"_id":null,"c0":{"$sum":{"$cond":[{"$eq":[{"$ifNull":["$_id.value",null]},null]},0,1]}}}},{"$project":{"c0":1,"_id":0}}],"ifEmpty":{"c0":0}}"#,
    );
    check(
        "SELECT b, count(DISTINCT i) AS x, sum(i), max(n) FROM t GROUP BY b HAVING count(DISTINCT i) > 1 ORDER BY x",
        r#"{"aggregate":"t","pipeline":[{"$group":{"_id":{"g0":{"$ifNull":["$b",null]},"value":{"$ifNull":["$i",null]}},"c2":{"$sum":{"$toLong":"$i"}},"nc2":{"$sum":{"$cond":[{"$eq":[{"$ifNull":["$i",null]},null]},0,1]}},"c3":{"$max":"$n"}}},{"$group":{"_id":{"g0":"$_id.g0"},"c2":{"$sum":"$c2"},"nc2":{"$sum":"$nc2"},"c3":{"$max":"$c3"},"c1":{"$sum":{"$cond":[{"$eq":[{"$ifNull":["$_id.value",null]},null]},0,1]}},"h0":{"$sum":{"$cond":[{"$eq":[{"$ifNull":["$_id.value",null]},null]},0,1]}}}},{"$match":{"h0":{"$gt":1}}},{"$sort":{"c1":1}},{"$project":{"c0":"$_id.g0","c1":1,"c2":{"$cond":[{"$eq":["$nc2",0]},null,"$c2"]},"c3":1,"_id":0}}]}"#,
    );
    check(
        "SELECT (pg_catalog.count(*))::bigint, CAST(max(i) AS int), (sum((id)))::numeric FROM t",
        r#"{"aggregate":"t","pipeline":[{"$group":{"_id":null,"c0":{"$sum":1},"c1":{"$max":"$i"},"c2":{"$sum":{"$toDecimal":{"$toLong":"$_id"}}},"nc2":{"$sum":{"$cond":[{"$eq":[{"$ifNull":["$_id",null]},null]},0,1]}}}},{"$project":{"c0":1,"c1":1,"c2":{"$cond":[{"$eq":["$nc2",0]},null,"$c2"]},"_id":0}}],"ifEmpty":{"c0":0,"c1":null,"c2":null}}"#,
    );
    check(
        "SELECT count(*) FROM t WHERE false",
        r#"{"aggregate":"t","pipeline":[{"$match":{"$expr":false}},{"$group":{"_id":null,"c0":{"$sum":1}}},{"$project":{"c0":1,"_id":0}}],"ifEmpty":{"c0":0}}"#,
    );
    check(
        "SELECT count(*) FROM t LIMIT 1",
        r#"{"aggregate":"t","pipeline":[{"$group":{"_id":null,"c0":{"$sum":1}}},{"$project":{"c0":1,"_id":0}}],"ifEmpty":{"c0":0}}"#,
    );
    check("SELECT count(*) FROM t OFFSET 1", r#"{"rows":[]}"#);
    bound(
        r#"SELECT COUNT(*) FROM (SELECT "public"."t"."id" FROM "public"."t" WHERE 1=1 OFFSET $1) AS "sub""#,
        &["3"],
        r#"{"aggregate":"t","pipeline":[{"$skip":3},{"$group":{"_id":null,"c0":{"$sum":1}}},{"$project":{"c0":1,"_id":0}}],"ifEmpty":{"c0":0}}"#,
    );
    check(
        "SELECT count(*) FROM (SELECT i FROM t LIMIT 0) AS x",
        r#"{"aggregate":"t","pipeline":[{"$match":{"$expr":false}},{"$group":{"_id":null,"c0":{"$sum":1}}},{"$project":{"c0":1,"_id":0}}],"ifEmpty":{"c0":0}}"#,
    );
}

#[test]
fn inserts_build_whole_documents() {
    check(
        "INSERT INTO k VALUES (1, 2, 'abc', 1.50, 1.1)",
        r#"{"insert":"k","documents":[{"_id":1,"n":2,"in":{"v":"abc","num":{"$numberDecimal":"1.50"}},"r":1.100000023841858}]}"#,
    );
    bound(
        "INSERT INTO k (id, v) VALUES ($1, DEFAULT), (2, 'x') RETURNING id, v",
        &["5"],
        r#"{"insert":"k","documents":[{"_id":5,"n":7,"in":{"v":null,"num":null},"r":null},{"_id":2,"n":7,"in":{"v":"x","num":null},"r":null}]}"#,
    );
    bound(
        "INSERT INTO k (v, id) VALUES ($1, $2)",
        &["abc   ", "3"],
        r#"{"insert":"k","documents":[{"_id":3,"n":7,"in":{"v":"abc","num":null},"r":null}]}"#,
    );
    check(
        "INSERT INTO k (id, v) VALUES (1, 'abcd')",
        "22001 value too long for type character varying(3)",
    );
    check(
        "INSERT INTO k (id, n) VALUES (1, 3000000000)",
        "22003 integer out of range",
    );
    check(
        "INSERT INTO k (id, n) VALUES (1, 2.5)",
        r#"{"insert":"k","documents":[{"_id":1,"n":3,"in":{"v":null,"num":null},"r":null}]}"#,
    );
    check(
        "INSERT INTO k (n) VALUES (1)",
        r#"23502 null value in column "id" of relation "k" violates not-null constraint"#,
    );
    bound(
        "INSERT INTO k (id, n) VALUES (1, $1)",
        &["NULL"],
        r#"23502 null value in column "n" of relation "k" violates not-null constraint"#,
    );
    check(
        "INSERT INTO k (id) VALUES ('x')",
        r#"22P02 invalid input syntax for type bigint: "x""#,
    );
    check(
        "INSERT INTO k (id) VALUES (1) ON CONFLICT DO NOTHING",
        r#"{"insert":"k","documents":[{"_id":1,"n":7,"in":{"v":null,"num":null},"r":null}],"ignoreConflict":"any"}"#,
    );
    check(
        "INSERT INTO k (id) VALUES (1) ON CONFLICT (v, n) DO NOTHING",
        r#"{"insert":"k","documents":[{"_id":1,"n":7,"in":{"v":null,"num":null},"r":null}],"ignoreConflict":1}"#,
    );
    check(
        "INSERT INTO k (id) VALUES (1) ON CONFLICT ON CONSTRAINT k_pkey DO NOTHING",
        r#"{"insert":"k","documents":[{"_id":1,"n":7,"in":{"v":null,"num":null},"r":null}],"ignoreConflict":0}"#,
    );
    check(
        "INSERT INTO k (id, v) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v, n = 3, num = DEFAULT",
        r#"{"upsert":"k","key":0,"rows":[{"filter":{"_id":1},"document":{"_id":1,"n":7,"in":{"v":"x","num":null},"r":null},"change":{"$set":{"in.v":"x","n":3,"in.num":null}}}]}"#,
    );
    check(
        "INSERT INTO k (id, n) VALUES (1, 4) ON CONFLICT (id) DO UPDATE SET n = k.n + excluded.n, r = 2",
        r#"{"upsert":"k","key":0,"rows":[{"filter":{"_id":1},"document":{"_id":1,"n":4,"in":{"v":null,"num":null},"r":null},"change":[{"$set":{"n":{"$toInt":{"$add":[{"$toLong":"$n"},4]}},"r":{"$literal":2.0}}}]}]}"#,
    );
    check(
        "INSERT INTO k AS o (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET n = 3 + o.n",
        r#"{"upsert":"k","key":0,"rows":[{"filter":{"_id":1},"document":{"_id":1,"n":7,"in":{"v":null,"num":null},"r":null},"change":[{"$set":{"n":{"$toInt":{"$add":[{"$toLong":"$n"},3]}}}}]}]}"#,
    );
    check(
        "INSERT INTO k (id, n) VALUES (1, 2), (1, 3) ON CONFLICT (id) DO UPDATE SET n = excluded.n",
        "21000 ON CONFLICT DO UPDATE command cannot affect row a second time",
    );
    check(
        "INSERT INTO k (id, n) VALUES (1, 2), (NULL, 4), (2, 3)",
        r#"{"insert":"k","documents":[{"_id":1,"n":2,"in":{"v":null,"num":null},"r":null}],"fault":"null value in column \"id\" of relation \"k\" violates not-null constraint"}"#,
    );
    // Whichever comes first; but a value that is none comes before all rows.
    check(
        "INSERT INTO k (id, n) VALUES (1, 2), (1, 3), (NULL, 4) ON CONFLICT (id) DO UPDATE SET n = excluded.n",
        "21000 ON CONFLICT DO UPDATE command cannot affect row a second time",
    );
    check(
        "INSERT INTO k (id, n) VALUES (1, 2), (NULL, 4), (1, 3) ON CONFLICT (id) DO UPDATE SET n = excluded.n",
        r#"{"upsert":"k","key":0,"rows":[{"filter":{"_id":1},"document":{"_id":1,"n":2,"in":{"v":null,"num":null},"r":null},"change":{"$set":{"n":2}}}],"fault":"null value in column \"id\" of relation \"k\" violates not-null constraint"}"#,
    );
    check(
        "INSERT INTO k (id, n) VALUES (1, 2), (NULL, 4), (2, 99999999999) ON CONFLICT (id) DO UPDATE SET n = excluded.n",
        "22003 integer out of range",
    );
    check(
        "INSERT INTO k (id, n) VALUES (1, 2), (2, 3) ON CONFLICT (n, v) DO UPDATE SET r = 1",
        r#"{"upsert":"k","key":1,"rows":[{"document":{"_id":1,"n":2,"in":{"v":null,"num":null},"r":null},"change":{"$set":{"r":1.0}}},{"document":{"_id":2,"n":3,"in":{"v":null,"num":null},"r":null},"change":{"$set":{"r":1.0}}}]}"#,
    );
}

#[test]
fn updates_and_deletes_change_the_same_rows() {
    check(
        r#"UPDATE t SET i = 5, txt = NULL, "User" = '$x' WHERE id = 1"#,
        r#"{"update":"t","filter":{"_id":1},"change":{"$set":{"i":5,"txt":null,"User":"$x"}},"multi":false}"#,
    );
    refuse(
        "UPDATE t SET i = $1, at = 1",
        "a name of no column of the table",
    );
    bound(
        "UPDATE t SET ts = '2024-01-02 03:04:05.1+00', i = $1 WHERE txt = 'x'",
        &["NULL"],
        r#"{"update":"t","filter":{"txt":"x"},"change":{"$set":{"at.ts":{"$date":"2024-01-02T03:04:05.1Z"},"i":null}},"multi":true}"#,
    );
    bound(
        "UPDATE t SET n = $1 WHERE i > 5",
        &["NULL"],
        r#"{"update":"t","filter":{"i":{"$gt":5}},"fault":"null value in column \"n\" of relation \"t\" violates not-null constraint"}"#,
    );
    check(
        "UPDATE t SET (i, n) = (1, 2)",
        r#"{"update":"t","filter":{},"change":{"$set":{"i":1,"n":2}},"multi":true}"#,
    );
    check(
        "UPDATE t SET i = i + 1, txt = 'x' WHERE id = 1",
        r#"{"update":"t","filter":{"_id":1},"change":[{"$set":{"i":{"$toInt":{"$add":[{"$toLong":"$i"},1]}},"txt":{"$literal":"x"}}}],"multi":false}"#,
    );
    check(
        "UPDATE t SET s = s - 1 WHERE n = 1 AND txt = 'x'",
        r#"{"update":"t","filter":{"$and":[{"n":1},{"txt":"x"}]},"change":[{"$set":{"s":{"$toInt":{"$cond":[{"$and":[{"$or":[{"$lt":[{"$add":[{"$toLong":"$s"},-1]},-32768]},{"$gt":[{"$add":[{"$toLong":"$s"},-1]},32767]}]},{"$gte":[{"$add":[{"$toLong":"$s"},-1]},-2147483648]},{"$lte":[{"$add":[{"$toLong":"$s"},-1]},2147483647]}]},{"$numberDecimal":"1099511627776"},{"$add":[{"$toLong":"$s"},-1]}]}}}}],"multi":false}"#,
    );
    check(
        "UPDATE t SET n = 1 + n",
        r#"{"update":"t","filter":{},"change":[{"$set":{"n":{"$toInt":{"$add":[{"$toLong":"$n"},1]}}}}],"multi":true}"#,
    );
    bound(
        "UPDATE t SET i = (t.i - $1), n = n + $2::int8 WHERE id = $3",
        &["2147483647", "5000000000", "1"],
        r#"{"update":"t","filter":{"_id":1},"change":[{"$set":{"i":{"$toInt":{"$add":[{"$toLong":"$i"},-2147483647]}},"n":{"$toInt":{"$add":[{"$toDecimal":{"$toLong":"$n"}},{"$numberDecimal":"5000000000"}]}}}}],"multi":false}"#,
    );
    bound(
        "UPDATE t SET i = i + $1 WHERE id = 1",
        &["2147483648"],
        "22003 value \"2147483648\" is out of range for type integer",
    );
    bound(
        "UPDATE t SET i = i + $1 WHERE id = 1",
        &["NULL"],
        r#"{"update":"t","filter":{"_id":1},"change":{"$set":{"i":null}},"multi":false}"#,
    );
    check(
        "UPDATE t SET v = 'abcd' WHERE id = 1",
        "22001 value too long for type character varying(3)",
    );
    check(
        "UPDATE people SET city = NULL, age = 3 WHERE name = 'x'",
        r#"{"update":"people","filter":{"name":"x"},"change":{"$set":{"age":3},"$unset":{"home.city":""}},"multi":false}"#,
    );
    check(
        "UPDATE people SET age = age + 1, city = 'x' WHERE name = 'x' RETURNING *",
        r#"{"update":"people","filter":{"name":"x"},"change":[{"$set":{"age":{"$ifNull":[{"$toInt":{"$cond":[{"$and":[{"$or":[{"$lt":[{"$add":[{"$toLong":"$age"},1]},-32768]},{"$gt":[{"$add":[{"$toLong":"$age"},1]},32767]}]},{"$gte":[{"$add":[{"$toLong":"$age"},1]},-2147483648]},{"$lte":[{"$add":[{"$toLong":"$age"},1]},2147483647]}]},{"$numberDecimal":"1099511627776"},{"$add":[{"$toLong":"$age"},1]}]}},"$$REMOVE"]},"home.city":{"$cond":[{"$in":[{"$type":"$home"},["object","missing","null","undefined"]]},{"$literal":"x"},{"$toInt":{"$concat":["mothership: no document on the way to a field",": ",{"$type":"$home"}]}}]}}}],"multi":false}"#,
    );
    bound(
        "DELETE FROM t WHERE id = $1",
        &["5"],
        r#"{"delete":"t","filter":{"_id":5},"multi":false}"#,
    );
    check(
        "DELETE FROM t WHERE id IN (1, 2)",
        r#"{"delete":"t","filter":{"_id":{"$in":[1,2]}},"multi":true}"#,
    );
    check("DELETE FROM t WHERE i = NULL", r#"{"rows":[]}"#);
    check(
        "DELETE FROM t",
        r#"{"delete":"t","filter":{},"multi":true}"#,
    );
}

#[test]
fn patterns_fold_and_escape_as_they_say() {
    check(
        "SELECT i FROM t WHERE txt ILIKE 'aZ%é1_'",
        r#"{"txt":{"$regex":"\\A[aA][zZ].*é1.\\z","$options":"s"}}"#,
    );
    bound(
        "SELECT i FROM t WHERE v NOT ILIKE '%' || $1",
        &["x\\%"],
        r#"{"in.v":{"$not":{"$regex":"\\A.*[xX]\\%\\z","$options":"s"},"$ne":null}}"#
            .replace("in.v", "v")
            .as_str(),
    );
    check(
        r"SELECT i FROM t WHERE txt LIKE 'a!%\!!%' ESCAPE '!'",
        r#"{"txt":{"$regex":"\\Aa\\%\\\\\\!.*\\z","$options":"s"}}"#,
    );
    check(
        r"SELECT i FROM t WHERE txt ILIKE 'x\_' ESCAPE ''",
        r#"{"txt":{"$regex":"\\A[xX]\\\\.\\z","$options":"s"}}"#,
    );
    bound(
        "SELECT i FROM t WHERE txt LIKE $1 ESCAPE '!'",
        &["a!"],
        "22025 LIKE pattern must not end with escape character",
    );
}

#[test]
fn arrays_are_written_in_two_ways() {
    for array in ["ARRAY['a', 'b']", "'{a,b}'", "ARRAY['a', 'b']::text[]"] {
        check(
            &format!("SELECT i FROM t WHERE tags @> {array}"),
            r#"{"tags":{"$all":["a","b"]}}"#,
        );
        check(
            &format!("SELECT i FROM t WHERE {array} <@ tags"),
            r#"{"tags":{"$all":["a","b"]}}"#,
        );
        check(
            &format!("SELECT i FROM t WHERE {array} && tags"),
            r#"{"tags":{"$in":["a","b"]}}"#,
        );
        check(
            &format!("SELECT i FROM t WHERE NOT tags && {array}"),
            r#"{"tags":{"$type":"array","$nin":["a","b"]}}"#,
        );
        check(
            &format!("SELECT i FROM t WHERE txt = ANY({array})"),
            r#"{"txt":{"$in":["a","b"]}}"#,
        );
    }
    bound(
        "SELECT i FROM t WHERE tags && ARRAY[$1, NULL, $2]",
        &["NULL", "x"],
        r#"{"tags":{"$in":["x"]}}"#,
    );
    bound(
        "SELECT i FROM t WHERE tags && $1",
        &["NULL"],
        r#"{"rows":[]}"#,
    );
    check("SELECT i FROM t WHERE tags && '{}'", r#"{"rows":[]}"#);
    check(
        "SELECT i FROM t WHERE NOT tags && '{NULL}'",
        r#"{"tags":{"$type":"array"}}"#,
    );
    check(
        "SELECT i FROM t WHERE tags @> ARRAY[]::text[]",
        r#"{"tags":{"$type":"array"}}"#,
    );
    check(
        "SELECT i FROM t WHERE i = ANY(ARRAY[1, 3000000000, 2.5])",
        r#"{"i":{"$in":[{"$numberDecimal":"1"},{"$numberDecimal":"3000000000"},{"$numberDecimal":"2.5"}]}}"#,
    );
    bound(
        "SELECT i FROM t WHERE id <> ALL(ARRAY[$1, 7])",
        &["5"],
        r#"{"_id":{"$nin":[5,7,null]}}"#,
    );
    check(
        "SELECT i FROM t WHERE u = ANY(ARRAY['00000000-0000-4000-8000-000000000001']::uuid[])",
        r#"{"u":{"$in":[{"$uuid":"00000000-0000-4000-8000-000000000001"}]}}"#,
    );
    check(
        "INSERT INTO t (id, tags) VALUES (1, ARRAY['a', NULL])",
        r#"{"insert":"t","documents":[{"_id":1,"n":7,"i":null,"s":null,"b":null,"r":null,"f":null,"num":null,"txt":null,"v":null,"u":null,"bin":null,"at":{"ts":null,"day":null},"j":null,"tags":["a",null],"User":null}]}"#,
    );
}

#[test]
fn columns_are_compared_where_both_have_a_value() {
    check(
        "SELECT i FROM t WHERE i = s",
        r#"{"$and":[{"i":{"$ne":null}},{"s":{"$ne":null}},{"$expr":{"$eq":["$i","$s"]}}]}"#,
    );
    check(
        "SELECT i FROM t WHERE NOT (txt <= v)",
        r#"{"$and":[{"txt":{"$ne":null}},{"v":{"$ne":null}},{"$expr":{"$gt":["$txt","$v"]}}]}"#,
    );
    for columns in ["id <> i", "ts < ts", "day = day", "u >= u", "b = b"] {
        let _ = shown(&format!("SELECT i FROM t WHERE {columns}"), &[]);
    }
    check(
        "SELECT i FROM t WHERE i < s ORDER BY s",
        r#"{"find":"t","filter":{"$and":[{"i":{"$ne":null}},{"s":{"$ne":null}},{"$expr":{"$lt":["$i","$s"]}}]},"projection":{"i":1,"_id":0},"sort":{"s":1}}"#,
    );
}

#[test]
fn what_mongodb_may_answer_otherwise_is_refused() {
    refuse("SELECT DISTINCT ON (i) i FROM t", "DISTINCT ON");
    refuse(
        "SELECT DISTINCT num FROM t",
        "groups by a type whose equal values look different",
    );
    refuse(
        "SELECT DISTINCT * FROM t",
        "a column of the answer in another form",
    );
    refuse(
        "SELECT DISTINCT i FROM t ORDER BY txt",
        "an order by a column that is not grouped",
    );
    refuse(
        "SELECT i FROM t GROUP BY 2",
        "groups by no column of the answer",
    );
    refuse(
        "SELECT count(*) FROM t GROUP BY 1",
        "an expression where a column is needed",
    );
    refuse(
        "SELECT count(*)::int FROM t",
        "an aggregate as another type",
    );
    refuse("SELECT sum(DISTINCT i) FROM t", "a call of another form");
    refuse(
        "SELECT i::int8 FROM t GROUP BY i",
        "an expression where a column is needed",
    );
    refuse(
        "SELECT DISTINCT bin FROM t",
        "groups by a type whose equal values look different",
    );
    refuse(
        "SELECT txt FROM t GROUP BY txt HAVING max(ts) > '2020-01-01'",
        "HAVING about times or numerics",
    );
    refuse(
        "SELECT txt FROM t GROUP BY txt HAVING sum(id) > 1",
        "HAVING about times or numerics",
    );
    refuse("SELECT DISTINCT i FROM t GROUP BY i", "DISTINCT of groups");
    refuse(
        "SELECT DISTINCT count(*) FROM t",
        "an expression where a column is needed",
    );
    refuse(
        "SELECT count(*) FROM (SELECT DISTINCT i FROM t) x",
        "a count of groups",
    );
    refuse("SELECT i FROM t FOR UPDATE", "a lock on rows");
    refuse("SELECT i FROM t, people", "FROM of other than one table");
    refuse("SELECT i FROM t JOIN people ON true", "a join");
    for columns in [
        "i = num",
        "f = r",
        "i = txt",
        "bin = bin",
        "ts < day",
        "tags = tags",
        "j = j",
    ] {
        refuse(
            &format!("SELECT i FROM t WHERE {columns}"),
            "a comparison of two columns",
        );
    }
    for arrays in [
        "tags @> ARRAY[1]",
        "tags && ARRAY['a'::varchar]",
        "tags && '{a}'::varchar[]",
    ] {
        refuse(
            &format!("SELECT i FROM t WHERE {arrays}"),
            "arrays of different types",
        );
    }
    refuse(
        "SELECT i FROM t WHERE tags @> ARRAY[]",
        "an array without a type",
    );
    refuse(
        "SELECT i FROM t WHERE tags @> ARRAY[ARRAY['a']]",
        "an array of arrays",
    );
    refuse(
        "SELECT i FROM t WHERE i = ANY(ARRAY[1, 2::int8])",
        "an array of different types",
    );
    refuse(
        "SELECT i FROM t WHERE i = ANY(ARRAY['1'])",
        "a comparison of different types",
    );
    refuse(
        "SELECT i FROM t WHERE ts = ANY(ARRAY['2020-01-01'])",
        "a comparison of different types",
    );
    refuse(
        "SELECT i FROM t WHERE i = ANY(ARRAY[1.5]::int4[])",
        "a cast that computes",
    );
    refuse(
        "SELECT i FROM t WHERE ARRAY['a'] @> tags",
        "an expression where a column is needed",
    );
    refuse(
        "SELECT i FROM t WHERE i = ANY(ARRAY[n])",
        "an expression where a constant is needed",
    );
    refuse(
        "SELECT i FROM t WHERE i + 1 = 2",
        "a comparison without a column",
    );
    refuse(
        "SELECT i FROM t WHERE lower(txt) = 'x'",
        "a comparison without a column",
    );
    refuse(
        "SELECT i FROM t WHERE id::text LIKE 'x'",
        "LIKE of something else than text",
    );
    refuse(
        "SELECT i FROM t WHERE j->>'a' ILIKE 'x'",
        "an expression where a column is needed",
    );
    refuse(
        "SELECT i FROM t WHERE txt LIKE 'x' ESCAPE 'ab'",
        "an escape that is no character",
    );
    refuse(
        "SELECT i FROM t WHERE txt LIKE 'x' ESCAPE $1",
        "an escape that is no character",
    );
    refuse(
        "SELECT i FROM t WHERE txt LIKE 'x!' ESCAPE '!'",
        "a pattern that ends with its escape",
    );
    refuse(
        r#"SELECT i FROM t WHERE txt LIKE 'x\'"#,
        "a pattern that ends with its escape",
    );
    refuse(
        "SELECT i FROM t WHERE txt ~ 'x'",
        "an operator that MongoDB may understand otherwise",
    );
    refuse(
        r#"SELECT i FROM t WHERE bin < '\x01'"#,
        "an order that MongoDB does not have",
    );
    refuse(
        "SELECT i FROM t WHERE j = '1'",
        "a comparison of different types",
    );
    refuse(
        "SELECT i FROM t WHERE tags = '{a}'",
        "a comparison of different types",
    );
    refuse(
        "SELECT i FROM t WHERE i = 'now'::text",
        "a comparison of different types",
    );
    refuse(
        "SELECT i FROM t WHERE ts > 'yesterday'",
        "a time that only PostgreSQL reads",
    );
    for text in ["01/05/2024", "20240105", "2024-01-05 12am", "12:00"] {
        let sql = format!("SELECT i FROM t WHERE ts > '{text}'");
        refuse(&sql, "a time that only PostgreSQL reads");
    }
    refuse(
        "SELECT i FROM t WHERE ts > now()",
        "an expression where a constant is needed",
    );
    refuse(
        "SELECT i FROM t WHERE ts > TIMESTAMP '2024-01-01'",
        "a comparison of different types",
    );
    refuse(
        "SELECT i FROM t WHERE i = 1.5::float8",
        "a comparison of different types",
    );
    refuse(
        "SELECT i FROM t WHERE i::text = '1'",
        "a comparison without a column",
    );
    refuse(
        "SELECT i FROM t WHERE nosuch = 1",
        "a name of no column of the table",
    );
    refuse(
        "SELECT i FROM t WHERE User = 'x'",
        "a comparison without a column",
    );
    refuse(
        "SELECT user FROM t",
        "an expression where a column is needed",
    );
    refuse(
        "SELECT i FROM t x WHERE t.i = 1",
        "a name of no column of the table",
    );
    refuse(
        "SELECT i FROM t WHERE i NOT IN (SELECT unnest($1::int4[]))",
        "NOT IN a subquery",
    );
    refuse(
        "SELECT i FROM t WHERE i IN (SELECT id FROM t)",
        "a subquery",
    );
    refuse(
        "SELECT i FROM t WHERE i = $1 AND txt = $1",
        "a parameter of two types",
    );
    refuse("SELECT i FROM t WHERE i = $2", "a parameter without a type");
    refuse(
        "SELECT i FROM t WHERE (i, n) = (1, 2)",
        "a comparison without a column",
    );
    refuse(
        "SELECT i FROM t WHERE b::text = 'x'",
        "a comparison without a column",
    );
    refuse("SELECT b::text FROM t", "a boolean as text");
    refuse(
        "SELECT i::int8 FROM t",
        "an expression where a column is needed",
    );
    refuse("SELECT $1 FROM t", "a constant of this form as a column");
    refuse(
        "SELECT i + 1 FROM t",
        "an expression where a column is needed",
    );
    refuse("SELECT now() FROM t", "a call of another form");
    refuse(
        "SELECT i FROM t ORDER BY bin",
        "an order that MongoDB does not have",
    );
    refuse(
        "SELECT i FROM t ORDER BY i + 1",
        "an expression where a column is needed",
    );
    refuse(
        "SELECT i::text FROM t ORDER BY i",
        "an order by something else than a column",
    );
    refuse(
        r#"SELECT i FROM t ORDER BY txt COLLATE "de""#,
        "an expression where a column is needed",
    );
    refuse("SELECT i FROM t LIMIT 1.5", "a limit that is no integer");
    refuse("SELECT i FROM t LIMIT 1 + 1", "a limit that is computed");
    refuse(
        "SELECT i FROM t FETCH FIRST 3 ROWS WITH TIES",
        "FETCH of another form",
    );
    refuse("SELECT i, count(*) FROM t", "a column that is not grouped");
    refuse(
        "SELECT count(DISTINCT i), count(DISTINCT n) FROM t",
        "values of two columns that are counted once each",
    );
    refuse(
        "SELECT count(DISTINCT num) FROM t",
        "values of a type whose equal values look different",
    );
    refuse(
        "SELECT count(DISTINCT i ORDER BY i) FROM t",
        "an expression where a column is needed",
    );
    refuse(
        "SELECT count(*) FILTER (WHERE b) FROM t",
        "an expression where a column is needed",
    );
    refuse(
        "SELECT count(*) OVER () FROM t",
        "an expression where a column is needed",
    );
    refuse(
        "SELECT avg(i) FROM t",
        "a function that MongoDB may compute otherwise",
    );
    refuse(
        "SELECT max(f) FROM t",
        "a function that MongoDB may compute otherwise",
    );
    refuse("SELECT sum(num) FROM t", "a sum that MongoDB may round");
    refuse(
        "SELECT num, count(*) FROM t GROUP BY num",
        "groups by a type whose equal values look different",
    );
    refuse(
        "SELECT count(*) FROM t HAVING count(*) > 1",
        "HAVING without GROUP BY",
    );
    refuse(
        "SELECT txt FROM t GROUP BY txt HAVING i > 1",
        "a column that is not grouped",
    );
    refuse(
        "SELECT txt FROM t GROUP BY txt HAVING count(*) > min(i)",
        "a comparison of two columns",
    );
    refuse(
        "SELECT bool_and(i) FROM t",
        "a function that MongoDB may compute otherwise",
    );
    refuse(
        "SELECT i FROM t UNION SELECT i FROM t",
        "a query that is no plain SELECT",
    );
    refuse(
        "WITH x AS (SELECT 1) SELECT i FROM t",
        "WITH, or a clause that PostgreSQL does not know",
    );
    refuse("SELECT i FROM (SELECT * FROM t) x", "a subquery");
    refuse(
        "SELECT i FROM t TABLESAMPLE BERNOULLI (10)",
        "what FROM has is not a plain table",
    );
    refuse("SELECT FROM t", "an answer without columns");
    refuse("SELECT 1", "FROM of other than one table");
    refuse(
        "UPDATE t SET id = 2",
        "SET of _id in what may be several documents",
    );
    refuse("UPDATE t SET i = n * 2", "a value that is computed");
    refuse(
        "UPDATE t SET i = i + 1.5",
        "a sum of other things than integers",
    );
    refuse(
        "UPDATE t SET id = i + $1",
        "a sum of another type, or one that may be NULL",
    );
    refuse("UPDATE t SET i = 1, i = 2", "SET of a column twice");
    refuse(
        "UPDATE t SET i = 1 FROM people",
        "an UPDATE with FROM, or that PostgreSQL does not know",
    );
    refuse(
        "DELETE FROM t USING people",
        "a DELETE with USING, or that PostgreSQL does not know",
    );
    refuse("TRUNCATE t", "a statement of another kind");
    refuse(
        "MERGE INTO t USING people ON true WHEN MATCHED THEN DELETE",
        "a statement of another kind",
    );
    refuse("INSERT INTO k SELECT * FROM k", "an INSERT of a query");
    refuse(
        "INSERT INTO k (id, n) VALUES (1, 2 + 3)",
        "a value that is computed",
    );
    refuse(
        "INSERT INTO k (id, n) VALUES (1)",
        "as many values as columns are needed",
    );
    refuse(
        "INSERT INTO k (id, id) VALUES (1, 2)",
        "a column that is named twice",
    );
    refuse(
        "INSERT INTO k (id) VALUES (1), (2, 3)",
        "as many values as columns are needed",
    );
    refuse(
        "INSERT INTO k (id, v) VALUES (1, 5)",
        "a value of another type",
    );
    refuse(
        "INSERT INTO k (id) VALUES (1) ON CONFLICT (n) DO NOTHING",
        "ON CONFLICT of no declared key",
    );
    refuse(
        "INSERT INTO k (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET n = k.n * 2",
        "a value that is computed",
    );
    refuse(
        "INSERT INTO k (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET n = n + 1",
        "a value that is computed",
    );
    refuse(
        "INSERT INTO k (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET n = NULL",
        "a column that is not NULL, and what may be",
    );
    refuse(
        "INSERT INTO k (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 2",
        "SET of _id, or of a column twice",
    );
    refuse(
        "INSERT INTO k (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET n = 1 WHERE k.r = 1",
        "DO UPDATE with a condition, or without a key",
    );
    refuse(
        "INSERT INTO k (id) VALUES (1) ON CONFLICT DO UPDATE SET n = 1",
        "DO UPDATE with a condition, or without a key",
    );
    refuse(
        "INSERT INTO k (id) VALUES (1) RETURNING id + 1",
        "an expression where a column is needed",
    );
    refuse(
        "SELECT sum(c) FROM (SELECT count(*) AS c FROM t) x",
        "a subquery",
    );
    refuse(
        "SELECT count(*) FROM (SELECT count(*) FROM t) x",
        "a count of groups",
    );
    refuse("SELECT count(i) FROM (SELECT i FROM t) x", "a subquery");
}

#[test]
fn parameters_have_the_types_that_postgresql_infers() {
    let kinds = |sql: &str| {
        let kinds = translated(sql).unwrap().parameters;
        kinds.iter().map(Kind::oid).collect::<Vec<_>>()
    };
    assert_eq!(
        kinds("SELECT i FROM t WHERE i = $1 AND v = $2 AND ts < $3"),
        [23, 25, 1184]
    );
    assert_eq!(
        kinds("SELECT i FROM t WHERE v IN ($1, $2) LIMIT $3"),
        [1043, 1043, 20]
    );
    assert_eq!(
        kinds("SELECT i FROM t WHERE i IN ($1, 3000000000) AND s = ANY($2)"),
        [20, 1005]
    );
    assert_eq!(
        kinds("UPDATE t SET v = $2, i = $3::int8 WHERE txt = $1"),
        [25, 1043, 20]
    );
}

#[test]
fn declared_parameters_keep_their_types() {
    let declared = |sql: &str, oids: &[u32]| translate(&parse(sql), &collection, oids);
    let kinds = declared("SELECT i FROM t WHERE id = $1 AND i = $2", &[23, 0])
        .unwrap()
        .parameters;
    assert_eq!(kinds, [Kind::Int4, Kind::Int4]);
    for (sql, oid) in [
        ("SELECT i FROM t WHERE i = $1", 25),
        ("SELECT i FROM t WHERE i = $1", 701),
        ("SELECT i FROM t WHERE ts = $1", 1114),
        ("SELECT i FROM t WHERE i = $1", 600),
        ("SELECT i FROM t WHERE i = $1::int4", 25),
    ] {
        assert!(declared(sql, &[oid]).is_err(), "{sql} {oid}");
    }
}

#[test]
fn binary_values_are_read() {
    let given = [BoundValue::Binary(&[0, 0, 0, 0, 0, 0, 0x30, 0x3a])];
    let sql = "SELECT i FROM t WHERE ts >= $1";
    let expected = r#"{"at.ts":{"$gt":{"$date":"2000-01-01T00:00:00.012Z"}}}"#;
    assert_eq!(shown(sql, &given), expected);
    assert_eq!(shown(sql, &[]), "08P01 there is no value of parameter $1");
}

#[test]
fn columns_are_described_like_postgresqls() {
    let columns = translated(r#"SELECT true, i::text, ts AS x, 'y' FROM t"#)
        .unwrap()
        .columns;
    let described = columns
        .iter()
        .map(|column| (column.name.as_str(), column.described()));
    assert_eq!(
        described.collect::<Vec<_>>(),
        [
            ("?column?", Kind::Bool),
            ("i", Kind::Text),
            ("x", Kind::Timestamptz(crate::Precision::Micros)),
            ("?column?", Kind::Text)
        ]
    );
    assert_eq!(columns[1].kind, Kind::Int4);
    assert_eq!(
        columns[2].source,
        Source::Path(vec!["at".to_owned(), "ts".to_owned()])
    );
}

#[test]
fn a_null_that_may_not_be_names_its_column_and_its_row() {
    let fault = command("INSERT INTO k (id, n, v) VALUES (1, NULL, 'x')", &[]).unwrap_err();
    assert_eq!(fault.sqlstate, "23502");
    assert_eq!(fault.column.as_deref(), Some("n"));
    assert_eq!(
        fault.detail.as_deref(),
        Some("Failing row contains (1, null, x, null, null).")
    );
}

#[test]
fn defaults_are_made_when_a_row_is() {
    let Ok(Command::Insert { documents, .. }) =
        command("INSERT INTO people (name) VALUES ('x'), ('y')", &[])
    else {
        panic!("no insert");
    };
    let made = bson::DateTime::from_millis(NOW);
    let value = |row: usize, field: &str| documents[row].get(field).unwrap();
    assert_eq!(value(0, "made"), Some(made.into()));
    // NULL is left out, with the document around it.
    let fields = documents[0].iter().map(|field| field.unwrap().0.as_str());
    assert_eq!(fields.collect::<Vec<_>>(), ["_id", "name", "made"]);
    assert_ne!(value(0, "_id"), value(1, "_id"));
}

#[test]
fn long_chains_are_no_deep_recursion() {
    let chain = vec!["i = 1"; 5_000].join(" OR ");
    assert!(
        shown(&format!("SELECT i FROM t WHERE {chain}"), &[]).starts_with(r#"{"$or":[{"i":1},"#)
    );
    let Statement::Delete(mut delete) = parse("DELETE FROM t WHERE i = 1") else {
        panic!("no delete");
    };
    for _ in 0..60 {
        delete.selection = delete.selection.map(|expr| Expr::Nested(Box::new(expr)));
    }
    let refused = translate(&Statement::Delete(delete), &collection, &[]).map(|_| ());
    assert_eq!(refused, Err(because("a condition too deep")));
}

#[test]
fn constants_of_having_are_read_where_there_are_no_rows() {
    for sql in [
        "SELECT txt FROM t GROUP BY txt HAVING count(*) > 'abc' LIMIT 0",
        "SELECT txt FROM t WHERE false GROUP BY txt HAVING count(*) > 'abc'",
        "SELECT txt FROM t WHERE i = NULL GROUP BY txt HAVING count(*) > 'abc'",
    ] {
        assert_eq!(command(sql, &[]).unwrap_err().sqlstate, "22P02", "{sql}");
    }
}

#[test]
fn a_text_of_json_may_be_that_of_values_of_many_types() {
    for (condition, filter) in [
        ("j->>'a' = 'x y'", r#"{"j.a":"x y"}"#),
        ("'x y' = (j->>'a')::text", r#"{"j.a":"x y"}"#),
        ("j->'a'->>'b' = '!'", r#"{"j.a.b":"!"}"#),
        ("j#>'{a}'->>'b' = '!'", r#"{"j.a.b":"!"}"#),
        ("j#>>'{a,\"b c\"}' = '!'", r#"{"j.a.b c":"!"}"#),
        ("j#>>ARRAY['a', 'b']::text[] = '!'", r#"{"j.a.b":"!"}"#),
        // Four letters may be bytes.
        (
            "j->>'a' = 'blue'",
            r#"{"$or":[{"j.a":"blue"},{"j.a":{"$type":["binData"]}}]}"#,
        ),
        (
            "j->>'a' = ''",
            r#"{"$or":[{"j.a":""},{"j.a":{"$type":["binData"]}}]}"#,
        ),
        (
            "j->>'a' = '0.1'",
            r#"{"j.a":{"$in":[{"$numberDecimal":"0.1"},0.1,"0.1"]}}"#,
        ),
        (
            "j->>'a' = '-1.50'",
            r#"{"j.a":{"$in":[{"$numberDecimal":"-1.50"},-1.5,"-1.50"]}}"#,
        ),
        (
            "j->>'a' = '12345678901234567890123456789012345'",
            r#"{"$or":[{"j.a":"12345678901234567890123456789012345"},{"j.a":{"$type":["number"]}}]}"#,
        ),
        ("j->>'a' = '1e5'", r#"{"j.a":"1e5"}"#),
        (
            "j->>'a' = 'true'",
            r#"{"$or":[{"j.a":{"$in":[true,"true"]}},{"j.a":{"$type":["binData"]}}]}"#,
        ),
        (
            "j->>'a' = '{\"b\": 1}'",
            r#"{"$or":[{"j.a":"{\"b\": 1}"},{"j.a":{"$type":["object"]}}]}"#,
        ),
        (
            "j->>'a' = '[]'",
            r#"{"$or":[{"j.a":"[]"},{"j.a":{"$type":["array"]}}]}"#,
        ),
        (
            "j->>'a' = 'abababababababababababab'",
            r#"{"$or":[{"j.a":{"$in":["abababababababababababab",{"$oid":"abababababababababababab"}]}},{"j.a":{"$type":["binData"]}}]}"#,
        ),
        (
            "j->>'a' = '00000000-0000-4000-8000-000000000001'",
            r#"{"j.a":{"$in":["00000000-0000-4000-8000-000000000001",{"$uuid":"00000000-0000-4000-8000-000000000001"}]}}"#,
        ),
        (
            "j->>'a' = '2020-01-01T00:00:00.000Z'",
            r#"{"$or":[{"j.a":"2020-01-01T00:00:00.000Z"},{"j.a":{"$type":["date"]}}]}"#,
        ),
        (
            "j->>'a' IN ('x y', NULL, 'z')",
            r#"{"j.a":{"$in":["x y","z"]}}"#,
        ),
        (
            "j->>'a' = ANY(ARRAY['x y', 'z'])",
            r#"{"j.a":{"$in":["x y","z"]}}"#,
        ),
        ("j->>'a' = NULL", r#"{"rows":[]}"#),
        (
            "j->>'a' IS NOT NULL",
            r#"{"$or":[{"j.a":{"$ne":null}},{"j.a":{"$type":["array"]}}]}"#,
        ),
        (
            "j->>'a' <> 'x'",
            r#"{"$or":[{"j.a":{"$ne":null}},{"j.a":{"$type":["array"]}}]}"#,
        ),
        (
            "j->>'a' ILIKE 'x%'",
            r#"{"$or":[{"j.a":{"$ne":null}},{"j.a":{"$type":["array"]}}]}"#,
        ),
        (
            "j->>'a' LIKE 'x%'",
            r#"{"$or":[{"j.a":{"$regex":"\\Ax.*\\z","$options":"s"}},{"j.a":{"$type":["objectId","binData","date","bool","object","array","number"]}}]}"#,
        ),
        ("j->'a' IS NOT NULL", r#"{"j.a":{"$exists":true}}"#),
    ] {
        assert_eq!(wide(condition, &[]), filter, "{condition}");
    }
    assert_eq!(wide("j->>'a' = $1", &["x y"]), r#"{"j.a":"x y"}"#);
    assert_eq!(wide("j->>'a' = $1", &["NULL"]), r#"{"rows":[]}"#);
    assert_eq!(
        wide("j->>'a' = ANY($1)", &["{x y,NULL}"]),
        r#"{"j.a":"x y"}"#
    );
    assert_eq!(wide("j->>'a' LIKE $1", &["x\\"]), "{}");
}

#[test]
fn what_json_may_contain_is_found_at_its_leaves() {
    for (condition, filter) in [
        (
            "j @> '{\"a\": {\"b\": 1}, \"c\": \"!\"}'",
            r#"{"$and":[{"j.a.b":{"$in":[{"$numberDecimal":"1"},1.0]}},{"j.c":"!"}]}"#,
        ),
        (
            "'{\"a\": 0.10}' <@ j",
            r#"{"j.a":{"$in":[{"$numberDecimal":"0.10"},0.1]}}"#,
        ),
        // All digits of a double, of which a cast would leave fifteen.
        (
            "j = '9.990000000000001e-20'",
            r#"{"j":{"$in":[{"$numberDecimal":"9.990000000000001E-20"},9.990000000000001e-20]}}"#,
        ),
        ("j->'x' @> '{\"a\": false}'", r#"{"j.x.a":false}"#),
        (
            "j @> '{\"a\": [\"!\", [1], null, {\"b\": null}]}'",
            r#"{"$and":[{"j.a":{"$type":["array"]}},{"j.a":"!"},{"j.a.b":{"$exists":true}}]}"#,
        ),
        ("j @> '{}'", r#"{"j":{"$type":["object"]}}"#),
        ("j @> '{\"a\": {}}'", r#"{"j.a":{"$type":["object"]}}"#),
        ("j @> '[]'", r#"{"j":{"$type":["array"]}}"#),
        ("j @> '\"!\"'", r#"{"j":"!"}"#),
        ("j = '{\"a\": \"!\"}'", r#"{"j.a":"!"}"#),
        ("j->'a' = 'true'", r#"{"j.a":true}"#),
        ("j->'a' <> '1'", r#"{"j.a":{"$exists":true}}"#),
        // PostgreSQL knows what that is, or what is wrong with it.
        ("j @> '{\"a.b\": 1}'", "{}"),
        ("j @> 'null'", "{}"),
        ("j @> '{'", "{}"),
        ("j ? 'k'", r#"{"$or":[{"j.k":{"$exists":true}},{"j":"k"}]}"#),
        (
            "j ? 'a.b'",
            r#"{"$or":[{"j":{"$type":["object"]}},{"j":"a.b"}]}"#,
        ),
        (
            "j ?& ARRAY['k', 'l']",
            r#"{"$and":[{"$or":[{"j.k":{"$exists":true}},{"j":"k"}]},{"$or":[{"j.l":{"$exists":true}},{"j":"l"}]}]}"#,
        ),
        (
            "j ?| '{k,NULL}'",
            r#"{"$or":[{"j.k":{"$exists":true}},{"j":"k"}]}"#,
        ),
        ("j ? NULL", r#"{"rows":[]}"#),
    ] {
        assert_eq!(wide(condition, &[]), filter, "{condition}");
    }
    assert_eq!(wide("j @> $1", &["{\"a\": \"!\"}"]), r#"{"j.a":"!"}"#);
    assert_eq!(wide("j @> $1", &["{"]), "{}");
}

#[test]
fn a_cast_that_may_fail_has_its_rows() {
    let errors = r#"{"j.a":{"$type":["objectId","binData","date","bool","object","array","string"#;
    assert_eq!(
        wide("(j->>'a')::numeric >= 0.1", &[]),
        format!(
            r#"{{"$or":[{{"j.a":{{"$gte":{{"$numberDecimal":"0.1"}}}}}},{{"j.a":{{"$gte":0.1}}}},{errors}"]}}}}]}}"#
        )
    );
    assert_eq!(
        wide("5 > CAST(j->>'a' AS int2)", &[]),
        format!(
            r#"{{"$or":[{{"j.a":{{"$lt":{{"$numberDecimal":"5"}}}}}},{{"j.a":{{"$lt":5.0}}}},{{"j.a":{{"$lt":-32768}}}},{{"j.a":{{"$gt":32767}}}},{errors}","double","decimal"]}}}}]}}"#
        )
    );
    assert_eq!(
        wide("(j->>'a')::int8 <> $1", &["5"]),
        r#"{"$or":[{"j.a":{"$ne":null}},{"j.a":{"$type":["array"]}}]}"#
    );
}

#[test]
fn conditions_that_may_be_true_are_put_together() {
    for (condition, filter) in [
        (
            "(j->>'a' = '!' OR i = 5)",
            r#"{"$or":[{"j.a":"!"},{"i":5}]}"#,
        ),
        ("(j->>'a' = '!' AND length(txt) = 3)", r#"{"j.a":"!"}"#),
        (
            "((NOT i < 5 AND lower(txt) = 'x') OR (j->>'a' = '!'))",
            r#"{"$or":[{"i":{"$gte":5}},{"j.a":"!"}]}"#,
        ),
    ] {
        assert_eq!(wide(condition, &[]), filter, "{condition}");
    }
    for condition in [
        "NOT (j->>'a' = 'x')",
        "(j->>'a' = 'x') IS NOT TRUE",
        "(j->>'a' = 'x' OR length(txt) = 3)",
        "j->>'a' IS NULL",
        "j->>'a' NOT IN ('x')",
        "j->>'a' = txt",
        "j->>'a' = upper('x')",
        "j->>'a' = 5",
        "j->>0 = 'x'",
        "j->>'0' = 'x'",
        "j#>>'{a,-1}' = 'x'",
        "j#>>'{}' = 'x'",
        "j->>'a.b' = 'x'",
        "j->>'$a' = 'x'",
        "j->>'' = 'x'",
        "j->>$1 = 'x'",
        "txt->>'a' = 'x'",
        "(j->>'a')::float8 > 1",
        "length(j->>'a') > 1",
        "mothership.perhaps(j->>'a' = 'x')",
    ] {
        let sql = format!("SELECT i FROM t WHERE {}", marked(condition));
        let fetched = fetching(&parse(&sql), &collection, &[]);
        assert!(fetched.is_err(), "{condition}");
    }
}

#[test]
fn only_rows_that_are_fetched_may_be_too_many() {
    let condition = marked("j->>'a' = 'x'");
    for statement in [
        "SELECT i FROM t WHERE {c}",
        "SELECT i FROM t WHERE i = 5 AND {c}",
        "UPDATE t SET i = 1 WHERE {c}",
        "DELETE FROM t WHERE {c}",
        "SELECT count(*) FROM t WHERE {c}",
        "SELECT i FROM t WHERE {c} LIMIT 1",
    ] {
        let sql = statement.replace("{c}", &condition);
        assert!(translated(&sql).is_err(), "{sql}");
    }
    for statement in [
        "SELECT i FROM t WHERE NOT {c}",
        "SELECT i FROM t WHERE i = 5 OR {c}",
        "SELECT i FROM t WHERE {c} LIMIT 1",
        "SELECT i FROM t WHERE {c} OFFSET 1",
        "SELECT i FROM t WHERE {c} ORDER BY i",
        "SELECT DISTINCT i FROM t WHERE {c}",
        "SELECT count(*) FROM t WHERE {c}",
        "SELECT count(*) FROM (SELECT i FROM t WHERE {c}) x",
        "SELECT i FROM t WHERE {c} GROUP BY i",
        "SELECT i FROM t GROUP BY i HAVING {c}",
        "SELECT i FROM t WHERE {c} FOR UPDATE",
        "UPDATE t SET i = 1 WHERE {c}",
        "DELETE FROM t WHERE {c}",
    ] {
        let sql = statement.replace("{c}", &condition);
        let fetched = fetching(&parse(&sql), &collection, &[]);
        assert!(fetched.is_err(), "{sql}");
    }
    let sql = format!("SELECT i FROM t WHERE i = 5 AND {condition} AND s = ANY ($1::int2[])");
    let fetched = fetching(&parse(&sql), &collection, &[]).unwrap();
    let command = fetched.bind(&given(&["{7}"]), &Forms::default(), NOW);
    assert_eq!(
        command.unwrap().to_string(),
        r#"{"find":"t","filter":{"$and":[{"i":5},{"j.a":"x"},{"s":{"$in":[7]}}]},"projection":{"i":1,"_id":0}}"#
    );
}
