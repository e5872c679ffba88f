//! Whether code changes definitions that all shards have, without a name of a table that says so.
//!
//! A function, a procedure or a DO runs on one server. What it does to a table is seen by the table's name; DROP SCHEMA,
//! ALTER TYPE, GRANT ON SCHEMA or CREATE ROLE name none, and would change one shard of all. Statements are found by
//! tokens, where one may begin: in PL/pgSQL behind `;`, BEGIN, THEN, ELSE, LOOP or a label, in SQL behind `;`.

use mothership_catalog::types::words;
use mothership_sql::keywords;
use mothership_sql::lexer::{Kind, Lexer, Token};

/// What CREATE makes on the table that it names, or on the home shard.
const MADE_BY_TABLE: [&str; 14] = [
    "constraint",
    "global",
    "index",
    "local",
    "materialized",
    "policy",
    "rule",
    "recursive",
    "table",
    "temp",
    "temporary",
    "trigger",
    "unique",
    "unlogged",
];

/// The same of sequences and views, which are where what they name is.
const MADE_AT_HOME: [&str; 2] = ["sequence", "view"];

/// What ALTER, DROP and COMMENT ON change that is a table's, and name the table for.
const OF_TABLE: [&str; 7] = [
    "column",
    "materialized",
    "policy",
    "rule",
    "table",
    "trigger",
    "view",
];

/// What GRANT and REVOKE may be about that is no table.
const NO_TABLE: [&str; 14] = [
    "all",
    "database",
    "domain",
    "foreign",
    "function",
    "language",
    "large",
    "parameter",
    "procedure",
    "routine",
    "schema",
    "sequence",
    "tablespace",
    "type",
];

/// Behind these a statement of PL/pgSQL begins.
const BEGINS: [&str; 5] = ["atomic", "begin", "else", "loop", "then"];

/// Whether `body`, code in SQL or PL/pgSQL, has a statement that changes a definition of all shards. The text of
/// `pg_get_functiondef`, which stands for a body that PostgreSQL has parsed, has none: such a body cannot.
pub fn changes_all_shards(body: &str) -> bool {
    // Most code has none of these words, and is not cut into tokens for that.
    if !words(body).any(is_verb) {
        return false;
    }
    // Where this string ends, standard_conforming_strings says when the code runs.
    if body.contains("\\'") {
        return true;
    }
    let mut starts = true;
    let mut tokens = Lexer::new(body.as_bytes(), true).peekable();
    while let Some(token) = tokens.next() {
        let text = &body.as_bytes()[token.start..token.end];
        if starts && token.kind == Kind::Word && is_verb(&body[token.start..token.end]) {
            let mut statement = vec![(word(body, token), token.kind)];
            while let Some(next) = tokens.next_if(|next| next.kind != Kind::Semicolon) {
                statement.push((word(body, next), next.kind));
            }
            if is_of_all_shards(&statement) {
                return true;
            }
            starts = false;
            continue;
        }
        let begins = |word: &str| text.eq_ignore_ascii_case(word.as_bytes());
        starts = match token.kind {
            Kind::Semicolon => true,
            Kind::Word => BEGINS.iter().any(|word| begins(word)),
            _ => text == b">>",
        };
    }
    false
}

/// A word without quotes in lower case; of other tokens an empty text.
fn word(body: &str, token: Token) -> String {
    match token.kind {
        Kind::Word => keywords::lower(&body[token.start..token.end]).into_owned(),
        _ => String::new(),
    }
}

/// Words with which statements begin that change definitions, or code that does.
const VERBS: [&str; 9] = [
    "alter", "comment", "create", "do", "drop", "grant", "reassign", "revoke", "security",
];

fn is_verb(word: &str) -> bool {
    VERBS.iter().any(|verb| word.eq_ignore_ascii_case(verb))
}

/// The same of one statement, which begins with a verb.
fn is_of_all_shards(statement: &[(String, Kind)]) -> bool {
    let at = |place: usize| statement.get(place).map_or("", |(word, _)| word.as_str());
    let is_of_table = |place: usize| OF_TABLE.contains(&at(place)) && at(place + 1) != "all";
    match at(0) {
        "create" => {
            let place = if at(1) == "or" { 3 } else { 1 };
            let routine = matches!(at(place), "function" | "procedure");
            // How PostgreSQL prints a routine that it has parsed; what makes one has its body as a string.
            let mut pairs = statement.windows(2);
            let is_printed = routine && !pairs.any(|p| p[0].0 == "as" && p[1].1.is_string());
            !is_printed && !MADE_BY_TABLE.contains(&at(place)) && !MADE_AT_HOME.contains(&at(place))
        }
        "alter" | "drop" => !is_of_table(1),
        "comment" => at(1) == "on" && !is_of_table(2),
        "grant" | "revoke" => {
            let on = statement.iter().position(|(word, _)| word == "on");
            on.is_none_or(|on| NO_TABLE.contains(&at(on + 1)))
        }
        "security" => at(1) == "label",
        "reassign" => at(1) == "owned",
        // Its code is a string, in which statements are not looked for.
        _ => statement
            .get(1)
            .is_some_and(|(word, kind)| kind.is_string() || word == "language"),
    }
}

#[cfg(test)]
mod tests {
    use super::changes_all_shards;

    #[test]
    fn definitions_without_a_table_are_of_all_shards() {
        for body in [
            "DROP SCHEMA IF EXISTS zz CASCADE",
            "BEGIN DROP TYPE mood CASCADE; END",
            "BEGIN ALTER SCHEMA yy RENAME TO xx; END",
            "BEGIN IF true THEN CREATE ROLE app LOGIN; END IF; END",
            "BEGIN IF true THEN NULL; ELSE CREATE EXTENSION citext; END IF; END",
            "BEGIN << here >> LOOP DROP OWNED BY own; END LOOP; END",
            "SELECT 1; GRANT SELECT ON ALL TABLES IN SCHEMA public TO own",
            "GRANT own TO other",
            "revoke create on schema public from own",
            "BEGIN ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO own; END",
            "BEGIN ALTER TYPE mood ADD VALUE 'y'; EXCEPTION WHEN duplicate_object THEN NULL; END",
            "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "COMMENT ON TYPE mood IS 'x'",
            "DROP INDEX i",
            "BEGIN PERFORM '\\'; -- '; DROP SCHEMA x; END",
            "BEGIN DO $$ BEGIN NULL; END $$; END",
            "ALTER TABLE ALL IN TABLESPACE a SET TABLESPACE b",
        ] {
            assert!(changes_all_shards(body), "{body}");
        }
    }

    #[test]
    fn what_names_its_table_or_changes_none_is_not() {
        for body in [
            "SELECT count(*) FROM a",
            "BEGIN CREATE TEMP TABLE x (a int); DROP TABLE x; END",
            "BEGIN CREATE TABLE IF NOT EXISTS h (a int); CREATE INDEX ON h (a); END",
            "CREATE OR REPLACE VIEW v AS SELECT 1",
            "BEGIN ALTER TABLE h ADD COLUMN x int; COMMENT ON COLUMN h.x IS 'y'; END",
            "GRANT SELECT ON h TO own",
            "GRANT SELECT (a) ON TABLE h TO own",
            "BEGIN RAISE NOTICE 'drop schema x'; END -- DROP SCHEMA x",
            "SELECT \"drop\" FROM h; SELECT 'x' AS alter",
            "CREATE OR REPLACE FUNCTION public.f(a text DEFAULT 'x'::text)\n RETURNS integer\n LANGUAGE sql\n\
             BEGIN ATOMIC\n SELECT 1 AS drop;\nEND\n",
            "CREATE OR REPLACE FUNCTION public.f()\n RETURNS text\n LANGUAGE sql\nRETURN 'x'::text\n",
        ] {
            assert!(!changes_all_shards(body), "{body}");
        }
    }
}
