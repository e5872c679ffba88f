//! Clients that share prepared statements and have other settings each mean their own by the same text.

use crate::stage::{Stage, client};
use mothership_tests::message::{self, Format};
use mothership_tests::{Frame, Wire};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Texts whose meaning PostgreSQL settles when it parses or plans them.
const TEXTS: [&str; 30] = [
    "SELECT '01/02/2020'::date::text",
    "SELECT date '3-4-05' + 1, '1999 Jan 08'::timestamp",
    "SELECT extract(epoch FROM '2020-01-01 00:00'::timestamptz)",
    "SELECT '2020-06-01 12:00 EST'::timestamptz, timestamptz '2020-06-01'",
    "SELECT 'today'::date - 'yesterday'::date, 'epoch'::timestamptz",
    "SELECT extract(epoch FROM '-1 2:03:04'::interval)",
    "SELECT interval '1-2 3 4:05:06', '1 day -2 hours'::interval",
    "SELECT ARRAY['01/02/2020'::date], '{01/02/2020}'::date[]",
    "SELECT '[01/02/2020,03/02/2020]'::daterange",
    "SELECT '{a,NULL}'::text[] @> ARRAY['NULL']",
    "SELECT NULL = NULL, 1 = NULL",
    "SELECT 1.1::float4, 0.1::float8 + 0.2, '1e-7'::float8",
    "SELECT '\\x4142'::bytea, E'\\\\x41'::bytea, 'a\\\\b'::bytea",
    "SELECT 'a\\nb', 'a' || '\\\\' || 'b', length('\\t')",
    "SELECT 'C:\\dir'::text, ('(\"a\\\\b\",1)'::sh.pair).a",
    "SELECT 'abc' ~ '^a\\w+$', 'a.c' ~ 'a\\.c', regexp_replace('aXb', '[[:upper:]]', '\\\\')",
    "SELECT 'a_c' LIKE 'a\\_c', 'abc' SIMILAR TO 'a(b|x)c'",
    "SELECT '<a>&lt;</a>'::xml, xmlparse(content 'x')",
    "SELECT xmlelement(name a, '\\x41'::bytea), '2020-01-02'::date",
    "SELECT to_tsvector('the quick foxes'), 'running'::tsquery",
    "SELECT 12.5::money, '1234.5'::money",
    "SELECT to_char(date '2020-03-01', 'TMMonth'), to_char(1234.5, '9G999D9')",
    "SELECT name FROM probed",
    "SELECT 'probed'::regclass, 'probed'::regclass::oid = 'public.probed'::regclass",
    "SELECT own_setting(), current_setting('DateStyle')",
    "SELECT count(*) FROM (SELECT name FROM probed GROUP BY name) g",
    "SELECT U&'\\0041', 'a' < 'B', lower('I')",
    "SELECT $1::text || '01/02/2020'::date::text",
    "SELECT jsonb_build_object('a', '01/02/2020'::timestamp)",
    "SELECT justify_interval('40 days 30:00'), '2020-03-01'::timestamp - '01/02/2020'::timestamp",
];

const DEFINITIONS: &str = "CREATE SCHEMA sh; GRANT USAGE ON SCHEMA sh TO PUBLIC; CREATE TYPE sh.pair AS (a text, b int); \
    CREATE TABLE public.probed AS SELECT 'public'::text AS name; CREATE TABLE sh.probed AS SELECT 'sh'::text AS name; \
    GRANT ALL ON public.probed, sh.probed TO PUBLIC; \
    CREATE FUNCTION public.own_setting() RETURNS text LANGUAGE sql IMMUTABLE AS \
    $$ SELECT coalesce(nullif(current_setting('own.a', true), ''), 'none') $$";

/// Another value than its own for each setting that alice may have.
const OTHERS: &str = "SELECT name, CASE \
    WHEN name = 'DateStyle' THEN 'SQL, DMY' WHEN name = 'TimeZone' THEN 'Asia/Tokyo' \
    WHEN name = 'timezone_abbreviations' THEN 'Australia' WHEN name = 'search_path' THEN 'sh' \
    WHEN name = 'client_encoding' THEN 'LATIN1' WHEN name = 'default_text_search_config' THEN 'pg_catalog.simple' \
    WHEN name LIKE 'lc\\_%' THEN 'C' \
    WHEN vartype = 'bool' THEN CASE setting WHEN 'on' THEN 'off' ELSE 'on' END \
    WHEN vartype = 'enum' THEN (SELECT v FROM unnest(enumvals) v WHERE v <> setting ORDER BY v LIMIT 1) \
    WHEN unit IN ('ms', 's', 'min') THEN '1h' \
    WHEN vartype = 'integer' THEN (CASE WHEN setting::int8 < max_val::int8 THEN setting::int8 + 1 ELSE setting::int8 - 1 END)::text \
    WHEN vartype = 'real' THEN (CASE WHEN setting::float8 < max_val::float8 THEN max_val ELSE min_val END) END \
    FROM pg_settings WHERE context = 'user' AND name NOT IN ('transaction_read_only', 'transaction_isolation', \
    'transaction_deferrable', 'default_transaction_read_only', 'exit_on_error') AND name NOT LIKE 'log%' AND name NOT LIKE 'debug%' ORDER BY name";

/// These matter most, and are chosen as often as all others together.
const LIKELY: [(&str, &str); 12] = [
    ("datestyle", "ISO, DMY"),
    ("datestyle", "German, YMD"),
    ("timezone", "America/New_York"),
    ("timezone", "-3"),
    ("intervalstyle", "sql_standard"),
    ("intervalstyle", "iso_8601"),
    ("standard_conforming_strings", "off"),
    ("array_nulls", "off"),
    ("bytea_output", "escape"),
    ("transform_null_equals", "on"),
    ("own.a", "mine"),
    ("extra_float_digits", "-3"),
];

fn set(wire: &mut Wire, settings: &[(String, String)]) {
    for (name, value) in settings {
        wire.query(&format!(
            "SELECT set_config('{name}', $v${value}$v$, false)"
        ));
    }
}

fn choose(rng: &mut StdRng, all: &[(String, String)]) -> Vec<(String, String)> {
    let count = rng.random_range(0..4);
    let one = |rng: &mut StdRng| match rng.random() {
        true => {
            let (name, value) = *LIKELY.choose(rng).unwrap();
            (name.to_owned(), value.to_owned())
        }
        false => all.choose(rng).unwrap().clone(),
    };
    (0..count).map(|_| one(rng)).collect()
}

/// Prepares and runs, or runs again; what was said.
fn run(wire: &mut Wire, name: &str, sql: Option<&str>, takes: bool) -> String {
    let mut messages = Vec::new();
    messages.extend(sql.map(|sql| message::parse(name, sql, &[])));
    let values: &[Option<&[u8]>] = if takes { &[Some(b"v")] } else { &[] };
    messages.push(message::bind("", name, Format::Text, values, Format::Text));
    messages.push(message::execute("", 0));
    messages.push(message::sync());
    wire.send_all(&messages);
    let frames = wire.until_ready();
    let shown = frames.iter().filter_map(|frame| match frame.kind {
        b'D' => Some(format!("{:?}", frame.row_text())),
        b'E' => Some(Frame::sqlstate(frame)),
        _ => None,
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// Whether PostgreSQL may analyse statements anew for a change of these. By which settings it then reads literals is not
/// followed, and refused.
fn is_read_anew(changed: &[(String, String)]) -> bool {
    let names = [
        "search_path",
        "role",
        "row_security",
        "session_replication_role",
    ];
    changed
        .iter()
        .any(|(name, _)| names.contains(&name.as_str()))
}

pub fn shared(stage: &mut Stage) -> Result<String, String> {
    let database = stage.database();
    stage.at_home(&database, DEFINITIONS);
    let router = stage.pooled(1, "");
    let found = stage.direct(0, "alice", &database).rows(OTHERS);
    let all: Vec<(String, String)> = found
        .into_iter()
        .filter_map(|row| <[String; 2]>::try_from(row).ok())
        .filter(|[_, value]| !value.is_empty() && value != "∅")
        .map(|[name, value]| (name, value))
        .collect();
    if all.len() < 100 {
        return Err(format!("only {} settings", all.len()));
    }
    let (rounds, mut differ) = (20, 0);
    for _ in 0..rounds {
        let own = [choose(&mut stage.rng, &all), choose(&mut stage.rng, &all)];
        let later = choose(&mut stage.rng, &all);
        let mut got = own
            .clone()
            .map(|own| (client(&router, "alice", &database), own));
        let mut right = own.map(|own| (stage.direct(0, "alice", &database), own));
        for (wire, own) in got.iter_mut().chain(&mut right) {
            set(wire, own);
        }
        let texts: Vec<&str> = TEXTS.sample(&mut stage.rng, 6).copied().collect();
        for turn in 0..2 {
            for (at, sql) in texts.iter().enumerate() {
                let (name, takes) = (format!("p{at}"), sql.contains("$1"));
                let parse = (turn == 0).then_some(*sql);
                let mut said = Vec::new();
                for who in 0..2 {
                    let mut wanted = run(&mut right[who].0, &name, parse, takes);
                    let told = run(&mut got[who].0, &name, parse, takes);
                    if told != wanted && turn > 0 {
                        // A plan may have what was declared immutable and is not, as `own_setting`.
                        right[who].0.query("DISCARD PLANS");
                        wanted = run(&mut right[who].0, &name, None, takes);
                    }
                    if told != wanted && turn > 0 {
                        // A server that has missed what others defined reads all statements anew, by other settings then.
                        let mut anew = stage.direct(0, "alice", &database);
                        set(&mut anew, &right[who].1);
                        run(&mut anew, &name, Some(*sql), takes);
                        if who == 0 {
                            set(&mut anew, &later);
                        }
                        wanted = run(&mut anew, &name, None, takes);
                    }
                    let anew = turn > 0 && who == 0 && is_read_anew(&later);
                    if told != wanted && !(anew && told == "0A000") {
                        let by = if turn == 0 { &[] } else { &later[..] };
                        return Err(format!(
                            "{sql} by {:?} beside {:?}, then {by:?}: {told} and not {wanted}",
                            got[who].1,
                            got[1 - who].1
                        ));
                    }
                    said.push(told);
                }
                differ += u32::from(said[0] != said[1]);
            }
            // A statement keeps what it meant when it was prepared.
            set(&mut got[0].0, &later);
            set(&mut right[0].0, &later);
        }
    }
    match differ > 5 {
        true => Ok(format!(
            "{rounds} pairs of clients, {differ} answers that differ, {} settings",
            all.len()
        )),
        false => Err(format!("only {differ} answers differ")),
    }
}
