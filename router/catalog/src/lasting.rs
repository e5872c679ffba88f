//! What leaves something behind in the session that uses it without saying so in a statement: a setting, a lock, a
//! temporary table, by a function, a view, a policy, a trigger or a default.
//!
//! A connection on which that was done belongs to its client from then on. Statements that bodies build at run time are
//! seen as far as their words stand in the bodies.

use super::behind::{Behind, HiddenEffect};
use super::types::words;
use super::{Catalog, Function, NOWHERE};
use mothership_sql::cursor::Cursor;
use mothership_sql::functions::{Trait, acts_as_field, special};
use mothership_sql::lexer::{Kind, Token};
use std::collections::BTreeSet;

/// Built-in functions that run code of users which they know by a number or a text that no catalog shows: checks of
/// domains, indexes, hashes of partitions.
pub const BY_NUMBER: [&str; 16] = [
    "array_in",
    "array_recv",
    "brin_summarize_new_values",
    "brin_summarize_range",
    "domain_in",
    "domain_recv",
    "multirange_in",
    "multirange_recv",
    "pg_input_error_info",
    "pg_input_is_valid",
    "pg_restore_attribute_stats",
    "range_in",
    "range_recv",
    "record_in",
    "record_recv",
    "satisfies_hash_partition",
];
/// Statements that run the code of indexes and statistics of tables which they need not name.
pub const MAINTAINS: [&str; 5] = ["analyze", "analyse", "cluster", "reindex", "vacuum"];
/// Texts within texts are read so deep.
const DEEPEST: u32 = 4;
/// Words of PL/pgSQL behind which a statement begins.
const BEGINS: [&str; 5] = ["begin", "then", "else", "loop", "atomic"];

/// What leaves something behind.
#[derive(Debug, Default)]
pub struct Lasting(Behind);

impl Lasting {
    /// Reads a catalog.
    pub fn of(catalog: &Catalog) -> Self {
        Self(Behind::of(catalog, &Leaves))
    }

    /// Whether a statement may leave something behind in its session by what it names. It does not mean functions that are
    /// only in the schemas `apart`.
    pub fn is_left_by(
        &self,
        sql: &str,
        strings: bool,
        writes: bool,
        apart: &BTreeSet<String>,
    ) -> bool {
        self.0.is_done_by(sql, strings, writes, apart)
    }
}

/// What may set something for the transaction, or builds statements, which may.
#[derive(Debug, Default)]
pub struct SetsLocally(Behind);

impl SetsLocally {
    /// Reads a catalog.
    pub fn of(catalog: &Catalog) -> Self {
        Self(Behind::of(catalog, &Self::default()))
    }

    /// Whether a statement may do so by what it names.
    pub fn is_done_by(&self, sql: &str, strings: bool, writes: bool) -> bool {
        self.0.is_done_by(sql, strings, writes, &NOWHERE)
    }
}

impl HiddenEffect for SetsLocally {
    fn is_in(&self, code: &str) -> bool {
        const WORDS: [&str; 4] = ["set_config", "local", "execute", "pg_settings"];
        let lower = code.to_ascii_lowercase();
        words(&lower).any(|word| WORDS.contains(&word))
    }

    fn is_known_of(&self, function: &Function) -> Option<bool> {
        let is_compiled = || matches!(function.language.as_str(), "c" | "internal");
        (!function.is_readable()).then(|| !is_compiled())
    }
}

/// Whether the definition of something has code that may leave something in a session, or builds statements when it
/// runs. Other than for [`Lasting`], a lock that is given back counts too: an error may come between.
pub fn may_leave(code: &str) -> bool {
    leaves(code, false)
}

/// The same of the body of a function. What it makes is temporary where `pg_temp` comes first in the search path, which
/// the body need not say: its caller may have said so, or the function's own settings.
pub fn body_may_leave(code: &str, is_sql: bool) -> bool {
    let lower = code.to_ascii_lowercase();
    let mut before = "";
    let makes_by_into = words(&lower).any(|word| {
        let makes = word == "into" && !matches!(before, "insert" | "merge");
        before = word;
        makes
    });
    // Where this string ends, standard_conforming_strings says when the function is called.
    let is_ambiguous = code.contains("\\'");
    is_sql && makes_by_into || is_ambiguous || leaves(code, true)
}

fn leaves(code: &str, is_body: bool) -> bool {
    const RUNS: [&str; 6] = [
        "pg_settings",
        "ts_stat",
        "ts_rewrite",
        "connectby",
        "setseed",
        "pg_replication_origin_session_setup",
    ];
    let lower = code.to_ascii_lowercase();
    let mut all = words(&lower).peekable();
    while let Some(word) = all.next() {
        let next = all.peek().copied();
        let unread = match word {
            "execute" => !matches!(next, Some("function" | "procedure")),
            "language" => !matches!(next, Some("sql" | "plpgsql")),
            _ => {
                // An operator or an aggregate has its function without parentheses.
                let is_part = || !is_body && leaves_by_itself(word);
                RUNS.contains(&word)
                    || is_part()
                    || BY_NUMBER.contains(&word)
                    || word.contains("_to_xml")
                    || ["pg_temp", "dblink", "crosstab"]
                        .iter()
                        .any(|begin| word.starts_with(begin))
            }
        };
        if unread {
            return true;
        }
    }
    let mut seen = Seen {
        is_body,
        ..Seen::default()
    };
    seen.look(code, 0);
    seen.lasts || seen.locks || seen.makes || lower.contains("u&\"") || lower.contains("u&'")
}

/// Whether the built-in function of this name leaves something in a session.
fn leaves_by_itself(name: &str) -> bool {
    matches!(
        special(name.as_bytes()),
        Some(Trait::SetConfig | Trait::Seed | Trait::LockSession | Trait::Slot)
    )
}

struct Leaves;

impl HiddenEffect for Leaves {
    fn is_in(&self, code: &str) -> bool {
        let mut seen = Seen::default();
        seen.look(code, 0);
        seen.lasts || seen.locks && !seen.unlocks
    }

    fn is_known_of(&self, function: &Function) -> Option<bool> {
        if function.is_readable() {
            return None;
        }
        let is_compiled = matches!(function.language.as_str(), "c" | "internal");
        let lower = function.body.to_ascii_lowercase();
        let lasts = |word: &str| {
            leaves_by_itself(word)
                || ["set", "reset", "temp", "temporary", "listen"].contains(&word)
        };
        Some(!is_compiled && words(&lower).any(lasts))
    }
}

/// What stands in code.
#[derive(Debug, Default)]
struct Seen {
    lasts: bool,
    /// The text is a body, and not the definition of something, in whose strings there may be bodies.
    is_body: bool,
    /// A body makes something, which may be temporary, or runs what is behind indexes.
    makes: bool,
    /// Locks of the session, which the same code may give back.
    locks: bool,
    unlocks: bool,
    /// The view of all settings is named.
    settings: bool,
    updates: bool,
}

impl Seen {
    /// Reads code, and what stands in its strings: that may be what it executes.
    fn look(&mut self, code: &str, depth: u32) {
        let mut c = Cursor::new(code.as_bytes(), true);
        let (mut begins, mut behind_dot) = (true, false);
        loop {
            while let Some(token) = c.peek() {
                self.lasts |= begins && statement_lasts(c.clone(), self.is_body);
                let in_body = self.is_body || depth > 0;
                self.makes |= begins && in_body && statement_makes(c.clone());
                begins = self.look_at(&mut c, token, behind_dot, depth);
                behind_dot = token.kind == Kind::Dot;
            }
            begins = true;
            if !c.skip_semicolon() {
                return;
            }
        }
    }

    /// Reads one token; whether a statement begins behind it.
    fn look_at(&mut self, c: &mut Cursor<'_>, token: Token, behind_dot: bool, depth: u32) -> bool {
        if let Some(text) = c.string() {
            if depth < DEEPEST
                && let Ok(text) = std::str::from_utf8(text.as_bytes())
            {
                self.look(text, depth + 1);
            }
            return false;
        }
        let Some(name) = c.name() else {
            c.bump();
            return false;
        };
        let name = name.as_bytes();
        // `x.f` is `f(x)` where x has no such column.
        let is_called = c.sees_kind(Kind::LParen) || behind_dot && acts_as_field(name);
        if is_called {
            match special(name) {
                Some(Trait::SetConfig) => self.lasts |= !is_local(c.clone(), self.is_body),
                Some(Trait::Seed) => self.lasts = true,
                Some(Trait::LockSession) => self.locks = true,
                Some(Trait::UnlockSession) => self.unlocks = true,
                _ => self.lasts |= name.starts_with(b"dblink_connect"),
            }
        }
        self.lasts |= name == b"into" && c.sees_any(&["temp", "temporary"]);
        // The rule of this view is a call of set_config.
        self.settings |= name == b"pg_settings";
        self.updates |= name == b"update";
        self.lasts |= self.settings && self.updates;
        token.kind == Kind::Word && BEGINS.iter().any(|word| name == word.as_bytes())
    }
}

/// Settings by which no statement is read, analysed or planned: what code sets for a transaction of these, and of settings
/// with a dot in their names, concerns nobody else. Any other one would be in the statements that clients share on a server
/// connection, and in how the router reads what comes next.
const CONCERNS_NOBODY: [&str; 8] = [
    "client_min_messages",
    "deadlock_timeout",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "log_min_messages",
    "statement_timeout",
    "synchronous_commit",
    "transaction_timeout",
];

fn concerns_nobody(setting: &[u8]) -> bool {
    let is_one = |name: &&str| setting.eq_ignore_ascii_case(name.as_bytes());
    setting.contains(&b'.') || CONCERNS_NOBODY.iter().any(is_one)
}

/// Whether what a statement does, by the words that it begins with, lasts longer than its transaction, or, in a body,
/// concerns others in it.
fn statement_lasts(mut c: Cursor<'_>, is_body: bool) -> bool {
    let names_something = |c: &Cursor<'_>| {
        c.sees_kind(Kind::Word) || c.sees_kind(Kind::QuotedIdent) || c.sees_kind(Kind::String)
    };
    if c.eat("set") {
        // `local.x` is a setting of the user's, as `a.x` is.
        let mut behind = c.clone();
        let is_local = behind.sees("local");
        let stays =
            !behind.eat_any(&["local", "constraints", "transaction"]) || behind.sees("seed");
        let concerns = || {
            let mut name = behind.clone();
            let setting = name.name();
            let is_alone = setting.is_some_and(|setting| concerns_nobody(setting.as_bytes()));
            !is_alone && !name.sees_kind(Kind::Dot)
        };
        let stays = stays || behind.sees_kind(Kind::Dot) || is_body && is_local && concerns();
        return names_something(&c) && stays;
    }
    // Statements of other clients may be prepared on the same connection.
    if c.eat_any(&[
        "deallocate",
        "reset",
        "discard",
        "listen",
        "load",
        "prepare",
    ]) {
        return names_something(&c);
    }
    if c.eat("declare") {
        return has(c, &["with", "hold"]);
    }
    if c.eat("create") {
        c.eat_all(&["or", "replace"]);
        c.eat_any(&["local", "global"]);
        return c.eat_any(&["temp", "temporary"]) && !has(c, &["on", "commit", "drop"]);
    }
    false
}

/// Whether a statement makes something that is temporary if the search path says so, or runs the code of indexes.
fn statement_makes(mut c: Cursor<'_>) -> bool {
    if c.eat("create") {
        c.eat_all(&["or", "replace"]);
        c.eat_any(&["local", "global"]);
        return !c.sees_any(&["temp", "temporary"]);
    }
    c.eat_any(&MAINTAINS)
}

/// Whether these words stand in the statement one behind the other.
fn has(mut c: Cursor<'_>, words: &[&str]) -> bool {
    loop {
        if c.eat_all(words) {
            return true;
        }
        if c.bump().is_none() {
            return false;
        }
    }
}

/// Whether the last argument of a call of set_config is TRUE, and its first is no seed, which no rollback takes away; in a
/// body one that concerns nobody else. The cursor stands at its parenthesis.
fn is_local(mut c: Cursor<'_>, is_body: bool) -> bool {
    let Some(inside) = c.group() else {
        return false;
    };
    let mut c = Cursor::new(inside.of(c.sql()), true);
    let name = c.clone().string();
    let stays =
        |name: &[u8]| name.eq_ignore_ascii_case(b"seed") || is_body && !concerns_nobody(name);
    if name.is_none_or(|name| stays(name.as_bytes())) {
        return false;
    }
    let (mut last, mut before) = (None, None);
    while let Some(token) = c.bump() {
        before = last.replace(token);
    }
    let behind = [Kind::Comma, Kind::EqualsGreater, Kind::ColonEquals];
    last.is_some_and(|token| c.is(token, "true"))
        && before.is_some_and(|token| behind.contains(&token.kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Events, FunctionKind, Name, Relation, Trigger, Volatility};

    #[test]
    fn code_that_leaves_something_behind_is_told_from_other() {
        let cases = [
            ("SELECT set_config('a.b', $1, false)", true),
            ("SELECT pg_catalog.set_config('a.b', $1, true)", false),
            ("SELECT set_config('a.b', $1, is_local => TRUE)", false),
            ("SELECT set_config('a.b', $1, $2)", true),
            ("SELECT set_config('Seed', '0.5', true)", true),
            ("SELECT set_config(name, '0.5', true)", true),
            ("BEGIN SET LOCAL seed = 0.5; END", true),
            ("SELECT (7::bigint).pg_advisory_lock", true),
            ("SELECT x.setseed FROM t x", true),
            ("SELECT x.age, (x).nextval FROM t x", false),
            ("UPDATE ONLY (pg_settings) SET setting = 'x'", true),
            (
                "WITH q AS (SELECT 1) UPDATE pg_settings SET setting = 'x'",
                true,
            ),
            ("SELECT setting FROM pg_settings", false),
            ("BEGIN CREATE OR REPLACE TEMP VIEW v AS SELECT 1; END", true),
            ("SELECT set_config('a.b', f(1, true), not true)", true),
            ("BEGIN SET ROLE bob; END", true),
            ("BEGIN SET LOCAL ROLE bob; END", false),
            ("BEGIN SET local.x = 'a'; END", true),
            ("BEGIN SET transaction.x = 'a'; END", true),
            ("BEGIN SET LOCAL local.x = 'a'; END", false),
            ("BEGIN SET TRANSACTION READ ONLY; END", false),
            ("BEGIN DEALLOCATE ALL; END", true),
            ("BEGIN IF a THEN RESET ROLE; END IF; END", true),
            ("BEGIN UPDATE t SET a = 1; RETURN NEW; END", false),
            ("BEGIN reset := 1; load = 2; END", false),
            ("BEGIN EXECUTE 'SET a.b = 1'; END", true),
            ("BEGIN EXECUTE format('SET LOCAL a.b = %L', x); END", false),
            (
                "BEGIN EXECUTE 'SELECT set_config(''a'', ''b'', false)'; END",
                true,
            ),
            ("BEGIN CREATE TEMP TABLE x (a int); END", true),
            (
                "BEGIN CREATE TEMP TABLE x (a int) ON COMMIT DROP; END",
                false,
            ),
            (
                "BEGIN EXECUTE $q$CREATE TEMPORARY TABLE x AS SELECT 1$q$; END",
                true,
            ),
            ("SELECT 1 AS a INTO TEMP x", true),
            ("INSERT INTO t VALUES (1)", false),
            ("SELECT pg_advisory_lock(1)", true),
            (
                "BEGIN PERFORM pg_advisory_lock(1); PERFORM f(); PERFORM pg_advisory_unlock(1); END",
                false,
            ),
            ("SELECT pg_advisory_xact_lock(1)", false),
            ("SELECT setseed(0.5)", true),
            (
                "UPDATE pg_settings SET setting = 'x' WHERE name = 'y'",
                true,
            ),
            ("BEGIN LISTEN news; END", true),
            ("BEGIN NOTIFY news; END", false),
            ("-- SET a = 1\nSELECT 1 /* set_config( */", false),
        ];
        for (code, expected) in cases {
            assert_eq!(Leaves.is_in(code), expected, "{code}");
        }
    }

    #[test]
    fn what_a_body_makes_may_be_temporary() {
        let cases = [
            ("BEGIN CREATE TABLE t (a int); END", false, true),
            (
                "BEGIN CREATE OR REPLACE VIEW v AS SELECT 1; END",
                false,
                true,
            ),
            (
                "BEGIN CREATE TEMP TABLE t (a int) ON COMMIT DROP; END",
                false,
                false,
            ),
            ("BEGIN CREATE TEMP TABLE t (a int); END", false, true),
            ("SELECT 1 AS a INTO t", true, true),
            ("BEGIN SELECT 1 INTO v; END", false, false),
            ("INSERT INTO t SELECT 1", true, false),
            ("BEGIN ANALYZE; END", false, true),
            ("BEGIN IF a THEN REINDEX TABLE t; END IF; END", false, true),
            (
                "BEGIN RETURN domain_in('1', 17000, -1) IS NULL; END",
                false,
                true,
            ),
            ("BEGIN create_it := 1; END", false, false),
            ("BEGIN SET LOCAL datestyle = 'ISO, DMY'; END", false, true),
            ("BEGIN SET LOCAL ROLE bob; END", false, true),
            (
                "BEGIN SET LOCAL \"app\".\"tenant\" = 'a'; END",
                false,
                false,
            ),
            ("BEGIN SET LOCAL lock_timeout = '1s'; END", false, false),
            ("BEGIN SET LOCAL local.x = 'a'; END", false, false),
            ("BEGIN SET TRANSACTION READ ONLY; END", false, false),
            ("SELECT set_config('TimeZone', 'UTC', true)", true, true),
            ("SELECT set_config('app.tenant', $1, true)", true, false),
        ];
        for (body, is_sql, expected) in cases {
            assert_eq!(body_may_leave(body, is_sql), expected, "{body}");
        }
        for (definition, expected) in [
            (
                "CREATE OPERATOR <?> (leftarg = int, rightarg = int, function = pg_advisory_lock)",
                true,
            ),
            ("CREATE TABLE t (a int)", false),
            ("CREATE VIEW v AS SELECT 1", false),
            (
                "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CREATE TABLE t (); END $$",
                true,
            ),
        ] {
            assert_eq!(may_leave(definition), expected, "{definition}");
        }
    }

    #[test]
    fn what_is_behind_a_name_is_found_however_deep() {
        let name = |name: &str| Name::new("public", name);
        let mut catalog = Catalog::default();
        for (function, body) in [
            (
                "sets",
                "BEGIN PERFORM set_config('a.b', 'c', false); RETURN NEW; END",
            ),
            ("calls", "SELECT sets()"),
            ("plain", "SELECT 1"),
            // A name in quotes is named by code as well.
            ("It \"keeps\"", "SELECT sets()"),
            ("Keeps", "SELECT \"It \"\"keeps\"\"\"()"),
            ("last", "SELECT \"Keeps\"()"),
        ] {
            let function_of = Function {
                volatility: Volatility::Volatile,
                kind: FunctionKind::Function,
                strict: false,
                returns_set: false,
                language: "plpgsql".into(),
                body: body.into(),
                defaults: String::new(),
                extension: None,
                search_path: None,
            };
            catalog.functions.insert(name(function), vec![function_of]);
        }
        let mut triggered = Relation::table(name("triggered"));
        triggered.triggers.push(Trigger {
            name: "t".into(),
            function: name("sets"),
            may_change_row: true,
            each_row: true,
            sees_all_rows: false,
            events: Events::ANY,
            condition: None,
        });
        let mut view = Relation::table(name("view"));
        view.definition = Some("SELECT public.calls()".into());
        for relation in [triggered, view] {
            catalog.relations.insert(relation.name.clone(), relation);
        }
        let lasting = Lasting::of(&catalog);
        for (sql, writes, expected) in [
            ("SELECT calls()", false, true),
            ("SELECT public.\"calls\"(1)", false, true),
            ("SELECT plain()", false, false),
            ("SELECT \"It \"\"keeps\"\"\"()", false, true),
            ("SELECT \"Keeps\"()", false, true),
            ("SELECT last()", false, true),
            ("SELECT calls FROM t", false, false),
            ("SELECT * FROM view", false, true),
            ("SELECT * FROM triggered", false, false),
            ("INSERT INTO triggered VALUES (1)", true, true),
            ("INSERT INTO other VALUES (1)", true, false),
        ] {
            assert_eq!(
                lasting.is_left_by(sql, true, writes, &NOWHERE),
                expected,
                "{sql}"
            );
        }
        assert!(!Lasting::default().is_left_by("SELECT calls()", true, false, &NOWHERE));
    }
}
