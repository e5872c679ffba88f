//! What code of users leaves in a session reaches no other client of the same pool.
//!
//! Each round picks a deed (a setting, a lock, a temporary table), a way to write it so that it is hard to see, and a place
//! from which PostgreSQL runs it without a statement saying so. One client runs it, over the only connection of the pool;
//! the next one looks at its session. That the deed was done at all is seen by the first client, which has to find what a
//! plain connection finds.

use crate::stage::{Stage, client, error};
use mothership_tests::message::{self, Format};
use mothership_tests::shared::USER;
use mothership_tests::{Frame, Router, Wire};
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};

/// What is left, as code of PL/pgSQL that may stand anywhere, and in another way where bodies are read.
const DEEDS: [(&str, &[&str]); 5] = [
    (
        "a setting",
        &[
            "PERFORM set_config('app.tenant', '7', false);",
            "PERFORM \"set_config\"('app.tenant', '7', 1 > 2);",
            "PERFORM SET_CONFIG('app.tenant', '7', NOT true);",
            "SET app.tenant = '7';",
            "EXECUTE 'SELECT set_' || 'config(''app.tenant'', ''7'', false)';",
            "PERFORM query_to_xml('SELECT set_' || 'config(''app.tenant'', ''7'', false)', true, true, '');",
            "PERFORM U&\"set\\005fconfig\"('app.tenant', '7', false);",
        ],
    ),
    (
        "a setting of PostgreSQL",
        &[
            "UPDATE pg_settings SET setting = '77MB' WHERE name = 'work_mem';",
            "UPDATE ONLY (pg_settings) SET setting = '77MB' WHERE name = 'work_mem';",
            "WITH q AS (SELECT 1) UPDATE pg_settings SET setting = '77MB' WHERE name = 'work_mem';",
            "UPDATE apart.settings SET setting = '77MB' WHERE name = 'work_mem';",
            "PERFORM set_config('work_mem', '77MB', false);",
        ],
    ),
    (
        "a search path",
        &[
            "PERFORM set_config('search_path', 'apart, public', false);",
            "SET search_path TO apart, public;",
        ],
    ),
    (
        "a lock",
        &[
            "PERFORM pg_advisory_lock(4711);",
            "PERFORM (4711::bigint).pg_advisory_lock;",
            "PERFORM pg_try_advisory_lock_shared(4711);",
            "PERFORM pg_advisory_lock(4711); PERFORM pg_advisory_lock(4711); PERFORM pg_advisory_unlock(4711);",
        ],
    ),
    (
        "a table",
        &[
            "DROP TABLE IF EXISTS pg_temp.shared; CREATE TEMP TABLE shared (a int);",
            "PERFORM set_config('search_path', 'pg_' || 'temp', true); IF to_regclass('shared') IS NULL THEN CREATE TABLE shared (a int); END IF;",
            "EXECUTE 'CREATE TEMP TABLE IF NOT EXISTS shared (a int)';",
            "CREATE OR REPLACE TEMP VIEW shared AS SELECT 1 AS a;",
        ],
    ),
];

/// Where it is run from: definitions, with `code(int)` for the function that does the deed, and the statements that come
/// there. `{t}` is a name of their own.
const PLACES: [(&str, &str, &[&str]); 37] = [
    ("a call", "", &["SELECT {f}(1)"]),
    ("a long name", "", &["SELECT {f}_and_more(1)"]),
    (
        "a call in a body",
        "CREATE FUNCTION {t}() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN {f}(1); END $$",
        &["SELECT {t}()"],
    ),
    (
        "a longer name in a body",
        "CREATE FUNCTION {t}() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN {f}_and_more(1); END $$",
        &["SELECT {t}()"],
    ),
    (
        "a body that was parsed",
        "CREATE FUNCTION {t}() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT {f}(1); END",
        &["SELECT {t}()"],
    ),
    (
        "an argument's default",
        "CREATE FUNCTION {t}(a int DEFAULT {f}(1)) RETURNS int LANGUAGE sql AS 'SELECT a'",
        &["SELECT {t}()"],
    ),
    (
        "a procedure",
        "CREATE PROCEDURE {t}() LANGUAGE plpgsql AS $$ BEGIN PERFORM {f}(1); END $$",
        &["CALL {t}()"],
    ),
    (
        "a field that is none",
        "CREATE TYPE {t} AS (a int); CREATE FUNCTION {t}_of({t}) RETURNS int LANGUAGE sql AS 'SELECT {f}(1)'",
        &["SELECT (ROW(1)::{t}).{t}_of"],
    ),
    (
        "a domain",
        "CREATE DOMAIN {t} AS int CHECK ({f}(VALUE) = 1)",
        &["SELECT 1::{t}"],
    ),
    (
        "an array of a domain of a domain",
        "CREATE DOMAIN {t}_in AS int CHECK ({f}(VALUE) = 1); CREATE DOMAIN {t} AS {t}_in",
        &["SELECT '{1}'::{t}[]"],
    ),
    (
        "a domain by its number",
        "CREATE DOMAIN {t} AS int CHECK ({f}(VALUE) = 1)",
        &["SELECT domain_in('1', {oid}, -1) IS NULL"],
    ),
    (
        "a record of a document",
        "CREATE DOMAIN {t}_in AS int CHECK ({f}(VALUE) = 1); CREATE TYPE {t} AS (a {t}_in)",
        &["SELECT * FROM json_populate_record(NULL::{t}, '{\"a\": 1}')"],
    ),
    (
        "an operator",
        "CREATE FUNCTION {t}_o(int, int) RETURNS int LANGUAGE sql AS 'SELECT {f}($1)'; \
         CREATE OPERATOR <%> (leftarg = int, rightarg = int, function = {t}_o)",
        &["SELECT 1 <%> 2", "DROP OPERATOR <%> (int, int)"],
    ),
    (
        "a cast",
        "CREATE TYPE {t} AS (a int); \
         CREATE FUNCTION {t}_c({t}) RETURNS int LANGUAGE sql AS 'SELECT {f}(1)'; \
         CREATE CAST ({t} AS int) WITH FUNCTION {t}_c({t}) AS IMPLICIT; \
         CREATE TABLE {t}_t (a {t}); INSERT INTO {t}_t VALUES (ROW(1)::{t})",
        &["SELECT a + 1 FROM {t}_t"],
    ),
    (
        "an aggregate",
        "CREATE FUNCTION {t}_s(int, int) RETURNS int LANGUAGE sql AS 'SELECT {f}(1)'; \
         CREATE AGGREGATE {t} (int) (sfunc = {t}_s, stype = int, initcond = '0')",
        &["SELECT {t}(1)"],
    ),
    (
        "a window function",
        "CREATE FUNCTION {t}_s(int, int) RETURNS int LANGUAGE sql AS 'SELECT {f}(1)'; \
         CREATE AGGREGATE {t} (int) (sfunc = {t}_s, stype = int, initcond = '0')",
        &["SELECT {t}(1) OVER ()"],
    ),
    (
        "a default",
        "CREATE TABLE {t} (a int, b int DEFAULT {f}(1))",
        &["INSERT INTO {t} (a) VALUES (1)"],
    ),
    (
        "a generated column",
        "CREATE TABLE {t} (a int, b int GENERATED ALWAYS AS ({f}(a)) STORED)",
        &["INSERT INTO {t} (a) VALUES (1)"],
    ),
    (
        "a check",
        "CREATE TABLE {t} (a int CHECK ({f}(a) = 1))",
        &["INSERT INTO {t} VALUES (1)"],
    ),
    (
        "a column of a domain",
        "CREATE DOMAIN {t}_d AS int CHECK ({f}(VALUE) = 1); CREATE TABLE {t} (a {t}_d)",
        &["INSERT INTO {t} VALUES (1)"],
    ),
    (
        "an index",
        "CREATE TABLE {t} (a int); CREATE INDEX ON {t} ({f}(a))",
        &["INSERT INTO {t} VALUES (1)"],
    ),
    (
        "a part of an index",
        "CREATE TABLE {t} (a int); CREATE INDEX ON {t} (a) WHERE {f}(a) = 1",
        &["INSERT INTO {t} VALUES (1)"],
    ),
    (
        "statistics of tables that nobody names",
        "CREATE TABLE {t} (a int); INSERT INTO {t} VALUES (1), (2); CREATE INDEX ON {t} ({f}(a))",
        &["ANALYZE", "DROP TABLE {t}"],
    ),
    (
        "a rule",
        "CREATE TABLE {t} (a int); CREATE RULE r AS ON UPDATE TO {t} DO ALSO SELECT {f}(1)",
        &["UPDATE {t} SET a = 1"],
    ),
    (
        "a view of a view",
        "CREATE VIEW {t}_in AS SELECT {f}(1) AS a; CREATE VIEW {t} AS SELECT a FROM {t}_in",
        &["TABLE {t}"],
    ),
    (
        "a policy",
        "CREATE TABLE {t} (a int); INSERT INTO {t} VALUES (1); ALTER TABLE {t} ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY p ON {t} USING ({f}(a) = 1)",
        &["SELECT a FROM {t}"],
    ),
    (
        "a check of a policy",
        "CREATE TABLE {t} (a int); ALTER TABLE {t} ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY p ON {t} WITH CHECK ({f}(a) = 1)",
        &["INSERT INTO {t} VALUES (1)"],
    ),
    (
        "a trigger of a partition",
        "CREATE TABLE {t} (a int) PARTITION BY RANGE (a); \
         CREATE TABLE {t}_p PARTITION OF {t} FOR VALUES FROM (0) TO (9); \
         CREATE FUNCTION {t}_f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM {f}(1); RETURN NEW; END $$; \
         CREATE TRIGGER t BEFORE INSERT ON {t}_p FOR EACH ROW EXECUTE FUNCTION {t}_f()",
        &["INSERT INTO {t} VALUES (1)"],
    ),
    (
        "a condition of a trigger",
        "CREATE TABLE {t} (a int); \
         CREATE FUNCTION {t}_f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; \
         CREATE TRIGGER t AFTER INSERT ON {t} FOR EACH ROW WHEN ({f}(1) = 2) EXECUTE FUNCTION {t}_f()",
        &["INSERT INTO {t} VALUES (1)"],
    ),
    (
        "a trigger at the end",
        "CREATE TABLE {t} (a int); \
         CREATE FUNCTION {t}_f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM {f}(1); RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER t AFTER INSERT ON {t} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {t}_f()",
        &["BEGIN", "INSERT INTO {t} VALUES (1)", "COMMIT"],
    ),
    (
        "a cascade",
        "CREATE TABLE {t} (a int PRIMARY KEY); INSERT INTO {t} VALUES (1), (2); \
         CREATE TABLE {t}_b (a int REFERENCES {t} ON DELETE CASCADE); INSERT INTO {t}_b VALUES (1), (2); \
         CREATE FUNCTION {t}_f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM {f}(1); RETURN OLD; END $$; \
         CREATE TRIGGER t BEFORE DELETE ON {t}_b FOR EACH ROW EXECUTE FUNCTION {t}_f()",
        &["DELETE FROM {t} WHERE a = (SELECT min(a) FROM {t})"],
    ),
    (
        "a cascade of TRUNCATE",
        "CREATE TABLE {t} (a int PRIMARY KEY); CREATE TABLE {t}_b (a int PRIMARY KEY REFERENCES {t}); \
         CREATE TABLE {t}_c (a int REFERENCES {t}_b); \
         CREATE FUNCTION {t}_f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM {f}(1); RETURN NULL; END $$; \
         CREATE TRIGGER t AFTER TRUNCATE ON {t}_c FOR EACH STATEMENT EXECUTE FUNCTION {t}_f(); \
         GRANT ALL ON {t}, {t}_b, {t}_c TO alice",
        &["TRUNCATE {t} CASCADE"],
    ),
    (
        "what the same text defines",
        "",
        &["CREATE FUNCTION {t}() RETURNS int LANGUAGE sql AS 'SELECT {f}(1)'; SELECT {t}()"],
    ),
    (
        "what the same transaction defines",
        "",
        &[
            "BEGIN",
            "CREATE FUNCTION {t}() RETURNS int LANGUAGE sql AS 'SELECT {f}(1)'",
            "SELECT {t}()",
            "COMMIT",
        ],
    ),
    (
        "what the same transaction calls otherwise",
        "ALTER FUNCTION {f}(int) OWNER TO alice",
        &[
            "BEGIN",
            "ALTER FUNCTION {f}(int) RENAME TO {t}",
            "SELECT {t}(1)",
            "COMMIT",
            "ALTER FUNCTION {t}(int) RENAME TO {f}",
        ],
    ),
    (
        "what the same pipeline defines",
        "",
        &["CREATE FUNCTION {t}() RETURNS int LANGUAGE sql AS 'SELECT {f}(1)'| SELECT {t}()"],
    ),
    (
        "an order of values that PostgreSQL does not order",
        "CREATE FUNCTION {t}_l(json, json) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT {f}(1) = 2'; \
         CREATE FUNCTION {t}_c(json, json) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT {f}(1) - 1'; \
         CREATE OPERATOR <<% (leftarg = json, rightarg = json, function = {t}_l); \
         CREATE OPERATOR <<=% (leftarg = json, rightarg = json, function = {t}_l); \
         CREATE OPERATOR ==% (leftarg = json, rightarg = json, function = {t}_l); \
         CREATE OPERATOR >>=% (leftarg = json, rightarg = json, function = {t}_l); \
         CREATE OPERATOR >>% (leftarg = json, rightarg = json, function = {t}_l); \
         CREATE OPERATOR CLASS {t} DEFAULT FOR TYPE json USING btree AS OPERATOR 1 <<%, OPERATOR 2 <<=%, OPERATOR 3 ==%, \
         OPERATOR 4 >>=%, OPERATOR 5 >>%, FUNCTION 1 {t}_c(json, json)",
        &[
            "SELECT count(*) FROM (SELECT DISTINCT j FROM (VALUES ('{}'::json), ('{}'), ('[]')) v (j)) d",
            "DROP OPERATOR FAMILY {t} USING btree CASCADE",
            "DROP OPERATOR <<% (json, json), <<=% (json, json), ==% (json, json), >>=% (json, json), >>% (json, json)",
        ],
    ),
];

/// So many of them each time.
const ROUNDS: usize = 26;

/// Names for the function that does it. One is as long as names are, one has to be quoted, and its quote doubled.
const NAMES: [&str; 3] = ["{w}", "\"Has \"\"{w}\"\" $\"", "{l}"];

/// All of a session that such code may leave.
const LEFT: &str = "SELECT current_setting('search_path'), current_setting('work_mem'), coalesce(current_setting('app.tenant', true), ''), \
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
    (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()), \
    current_user, to_regclass('shared') = to_regclass('public.shared')";

fn look(wire: &mut Wire) -> Result<Vec<String>, String> {
    let answer = wire.query(LEFT);
    let row = answer.iter().find(|frame| frame.kind == b'D');
    row.map(Frame::row_text)
        .ok_or_else(|| format!("{:?}", error(&answer)))
}

/// Statements between bars, prepared and run before one Sync.
fn pipeline(wire: &mut Wire, texts: &str) -> Vec<Frame> {
    let mut messages = Vec::new();
    for sql in texts.split('|') {
        messages.push(message::parse("", sql, &[]));
        messages.push(message::bind("", "", Format::Text, &[], Format::Text));
        messages.push(message::execute("", 0));
    }
    messages.push(message::sync());
    wire.send_all(&messages);
    wire.until_ready()
}

/// The statements of a text, whose bodies stand between `$$` or in BEGIN ATOMIC.
fn statements(text: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for part in text.split_inclusive("; ") {
        let last = all.last_mut().expect("there is one");
        last.push_str(part);
        let in_body = last.contains("ATOMIC") && !last.contains(" END");
        if last.matches("$$").count() % 2 == 0 && !in_body {
            all.push(String::new());
        }
    }
    all.retain(|statement| !statement.trim().is_empty());
    all
}

struct Round {
    what: String,
    make: Vec<String>,
    runs: Vec<String>,
    number_of: String,
}

impl Round {
    /// A deed in a place, by its numbers.
    fn new(stage: &mut Stage, deed: usize, place: usize) -> Round {
        let (whence, make, runs) = PLACES[place];
        // There PostgreSQL wants functions that are immutable by their own word, and those run no utilities.
        let immutable = make.contains("INDEX") || make.contains("GENERATED");
        let may = |way: &&&str| !immutable || way.starts_with("PERFORM") && !way.contains("CREATE");
        let ways = |deed: usize| DEEDS[deed].1.iter().filter(may).collect::<Vec<_>>();
        let deed = if ways(deed).is_empty() { 3 } else { deed };
        let left = DEEDS[deed].0;
        let way = **ways(deed).choose(&mut stage.rng).unwrap();
        let longs = make.contains("_and_more") || runs.concat().contains("_and_more");
        let word = stage.word();
        let name = match longs {
            true => NAMES[2],
            false => NAMES.choose(&mut stage.rng).unwrap(),
        };
        let long = format!("{word}{}", "x".repeat(63 - word.len()));
        let function = name.replace("{w}", &word).replace("{l}", &long);
        let own = stage.word();
        let says = if immutable { "IMMUTABLE" } else { "VOLATILE" };
        let code = format!(
            "CREATE FUNCTION {function}(int) RETURNS int {says} LANGUAGE plpgsql AS $code$ BEGIN {way} RETURN 1; END $code$"
        );
        let fill = |text: &str| text.replace("{f}", &function).replace("{t}", &own);
        Round {
            what: format!("{left} by {whence}: {way} {function}"),
            make: match stage.rng.random_bool(0.5) {
                true => vec![format!("{code}; {}", fill(make))],
                // The router knows what the function does before anything is made that calls it.
                false => [vec![code], statements(&fill(make))].concat(),
            },
            runs: runs.iter().map(|run| fill(run)).collect(),
            number_of: own,
        }
    }

    fn run(&self, stage: &Stage, database: &str, router: &Router) -> Result<bool, String> {
        // By the router, which knows of definitions that it has seen at once.
        let mut maker = client(router, USER, database);
        for make in &self.make {
            let made = maker.query(make);
            if let Some(error) = made.iter().find(|frame| frame.kind == b'E') {
                return Err(format!("{}: {make}: {error}", self.what));
            }
        }
        drop(maker);
        let mut direct = stage.direct(0, "alice", database);
        let number = format!("SELECT coalesce(to_regtype('{}')::oid, 0)", self.number_of);
        let number = stage.at_home(database, &number);
        let say = |wire: &mut Wire| {
            let mut told = Vec::new();
            for run in &self.runs {
                let run = run.replace("{oid}", &number);
                told.extend(error(&match run.contains('|') && !run.contains("||") {
                    true => pipeline(wire, &run),
                    false => wire.query(&run),
                }));
            }
            (told, look(wire))
        };
        let clean = look(&mut stage.direct(0, "alice", database))?;
        let begun = look(&mut client(router, "alice", database))?;
        if begun != clean {
            return Err(format!("{}: a client begins with {begun:?}", self.what));
        }
        let mut first = client(router, "alice", database);
        let (told, seen) = say(&mut first);
        drop(first);
        let mut next = client(router, "alice", database);
        for _ in 0..2 {
            let left = look(&mut next)?;
            if left != clean {
                return Err(format!("{}: the next client has {left:?}", self.what));
            }
        }
        drop(next);
        if told.is_empty() && self.runs.concat().contains("CREATE FUNCTION") {
            stage.at_home(database, &format!("DROP FUNCTION {}()", self.number_of));
        }
        // What was not refused did what a server alone does.
        let (alone, there) = say(&mut direct);
        if !told.is_empty() {
            return Ok(false);
        }
        match alone.is_empty() && seen == there {
            true => Ok(there? != clean),
            false => Err(format!(
                "{}: its client has {seen:?} and not {there:?}, which alone is told {alone:?}",
                self.what
            )),
        }
    }
}

/// Every deed by some place, in an order that the seed chooses.
pub fn behind(stage: &mut Stage) -> Result<String, String> {
    let database = stage.database();
    stage.at_home(
        &database,
        "CREATE SCHEMA apart; GRANT ALL ON SCHEMA apart TO PUBLIC; CREATE VIEW apart.settings AS SELECT * FROM pg_settings; \
         GRANT ALL ON apart.settings TO PUBLIC; CREATE TABLE public.shared (a int); GRANT ALL ON public.shared TO PUBLIC; \
         ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
    );
    let router = stage.pooled(1, "");
    let mut places: Vec<usize> = (0..PLACES.len()).collect();
    places.shuffle(&mut stage.rng);
    places.truncate(ROUNDS);
    let (mut done, mut held) = (0, 0);
    for (at, place) in places.into_iter().enumerate() {
        let round = Round::new(stage, at % DEEDS.len(), place);
        held += u32::from(round.run(stage, &database, &router)?);
        done += 1;
    }
    match held * 2 > done {
        true => Ok(format!("{done} places, {held} of which left something")),
        false => Err(format!("only {held} of {done} places left anything")),
    }
}

/// What a startup packet sets.
type Startup<'a> = &'a [(&'a str, &'a str)];

/// A session in whose search path the schema of temporary objects comes first makes them without saying so.
pub fn paths(stage: &mut Stage) -> Result<String, String> {
    let database = stage.database();
    stage.at_home(
        &database,
        &format!(
            "CREATE TABLE public.shared (a int); GRANT ALL ON public.shared TO PUBLIC; \
             ALTER ROLE bob IN DATABASE {database} SET search_path TO pg_temp, public"
        ),
    );
    let router = stage.pooled(1, "");
    let mut makes = [
        "CREATE TABLE shared (a int)",
        "SELECT 1 AS a INTO shared",
        "CREATE TABLE shared AS SELECT 1 AS a",
        "CREATE VIEW shared AS SELECT 1 AS a",
        "CREATE SEQUENCE shared",
        "CREATE TYPE shared AS (a int)",
        "DISCARD ALL; CREATE TABLE shared (a int)",
        "RESET ALL; CREATE TABLE shared (a int)",
    ];
    makes.shuffle(&mut stage.rng);
    let begins: [(&str, Startup, &str); 7] = [
        ("bob", &[], ""),
        ("alice", &[("search_path", "pg_temp,public")], ""),
        ("alice", &[("options", "-c search_path=PG_TEMP,public")], ""),
        ("alice", &[("options", "-csearch_path=\"pg_temp\"")], ""),
        ("alice", &[], "SET search_path TO PG_TEMP, public"),
        ("alice", &[], "SET SCHEMA 'pg_temp'"),
        (
            "alice",
            &[],
            "SELECT set_config('search_path', 'pg_' || 'temp', false)",
        ),
    ];
    let mut made = 0;
    for (number, make) in makes.iter().enumerate() {
        for (role, startup, first) in &begins[number % 2..] {
            let endpoint = router.endpoint(role, role, &database);
            let mut wire = Wire::login_with(&endpoint, startup);
            for sql in [*first].into_iter().chain(make.split("; ")) {
                wire.query(sql);
            }
            made += u32::from(look(&mut wire)?[4] != "0");
            drop(wire);
            let left = look(&mut client(&router, role, &database))?;
            if left[4] != "0" {
                return Err(format!("{role} {startup:?} {first} {make}: {left:?}"));
            }
            stage.at_home(
                &database,
                "DROP SEQUENCE IF EXISTS public.shared_seq; DROP TYPE IF EXISTS public.nothing",
            );
        }
    }
    match made > 0 {
        true => Ok(format!("{made} temporary objects")),
        false => Err("nothing temporary was made".to_owned()),
    }
}
