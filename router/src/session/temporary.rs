//! The names of the temporary relations that a session may have made: they hide those of the same name.
//!
//! What is dropped, renamed away or rolled back stays among them, so that a name which a table of the catalog shares is
//! never certain again before DISCARD. All other names mean what they say. What PostgreSQL itself makes and names after a
//! table is known to the planner ([`Temporary::may_hide`](mothership_plan::Temporary)). Of code that cannot be seen (DO, CALL)
//! the server tells afterwards what it has made.

use super::step::Pins;
use mothership_sql::cursor::Cursor;
use mothership_sql::effect::{Object, Pin, Statement, Verb};
use std::collections::BTreeSet;

/// What the temporary relations of a session may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemporaryNames {
    /// Like these and no others.
    Among(BTreeSet<String>),
    /// It is not known before the server is asked.
    Unclear {
        /// Some of them.
        known: BTreeSet<String>,
        /// It was known when the open transaction began. Otherwise the transaction may have dropped what a rollback
        /// brings back, and the server cannot be asked within it.
        since_begin: bool,
    },
}

/// No session makes so many in good faith, and each is compared whenever a statement is planned.
const MOST: usize = 200;

impl Default for TemporaryNames {
    fn default() -> Self {
        Self::Among(BTreeSet::new())
    }
}

impl TemporaryNames {
    /// A statement has ended well that makes these, in a transaction block or outside of one.
    pub fn follow(&mut self, makes: &Makes, in_block: bool) {
        let (Self::Among(names) | Self::Unclear { known: names, .. }) = self;
        match makes {
            Makes::Nothing => return,
            // Where there is nothing temporary, what it concerns is not.
            Makes::Perhaps(_) | Makes::Something { perhaps: true } if names.is_empty() => return,
            Makes::Temporary(name) | Makes::Perhaps(name) if names.len() < MOST => {
                names.insert(name.to_string());
                return;
            }
            Makes::Temporary(_) | Makes::Perhaps(_) | Makes::Something { .. } => {}
        }
        if let Self::Among(names) = self {
            *self = Self::Unclear {
                known: std::mem::take(names),
                since_begin: in_block,
            };
        }
    }

    /// A transaction has ended: whoever asks now is told for certain.
    pub fn end_block(&mut self) {
        if let Self::Unclear { since_begin, .. } = self {
            *since_begin = false;
        }
    }

    /// Whether the server can say what is not known.
    pub fn can_be_asked(&self, in_block: bool) -> bool {
        matches!(self, Self::Unclear { since_begin, .. } if !in_block || *since_begin)
    }

    /// The server has said that these are all.
    pub fn are(&mut self, told: Vec<String>) {
        let (Self::Among(names) | Self::Unclear { known: names, .. }) = self;
        names.extend(told);
        if names.len() <= MOST {
            *self = Self::Among(std::mem::take(names));
        }
    }
}

/// What code that cannot be seen may have changed, as the server tells it.
#[derive(Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Told {
    /// All temporary relations of the session.
    pub names: Vec<String>,
    /// Whether there are temporary types beside those of relations: names of types mean something else then.
    pub types: bool,
    /// The setting `search_path`.
    pub search_path: String,
    /// The current role, which is the schema `$user`.
    pub role: String,
}

/// Asks for [`Told`], as one row of JSON.
pub const ASK: &str = "SELECT pg_catalog.json_build_object(\
    'names', (SELECT coalesce(pg_catalog.json_agg(relname), '[]') FROM pg_catalog.pg_class \
    WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()), \
    'types', EXISTS (SELECT FROM pg_catalog.pg_type \
    WHERE typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() \
    AND typtype OPERATOR(pg_catalog.<>) 'c' \
    AND NOT (typtype OPERATOR(pg_catalog.=) 'b' AND typcategory OPERATOR(pg_catalog.=) 'A')), \
    'search_path', pg_catalog.current_setting('search_path'), 'role', current_user)::pg_catalog.text";

/// What a statement does to the temporary names of its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Makes {
    /// Nothing.
    Nothing,
    /// It makes a temporary relation of this name.
    Temporary(Box<str>),
    /// It gives this name to a relation, which is temporary if it belongs to one that is.
    Perhaps(Box<str>),
    /// How it is called is not clear.
    Something {
        /// Nor is it sure that it is temporary.
        perhaps: bool,
    },
}

impl Makes {
    /// Of a statement with these pins.
    pub fn of(statement: &Statement<'_>, pins: Pins, text: &[u8], strings: bool) -> Self {
        let c = Cursor::new(text, strings);
        if pins.has(Pin::Opaque) {
            return Self::Something { perhaps: false };
        }
        if pins.has(Pin::TempObject) {
            let name = match statement {
                Statement::Ddl {
                    verb: Verb::Create,
                    object: Object::Table | Object::View | Object::Sequence,
                } if !mentions(c.clone(), "constraint") => created(c, true),
                Statement::Ddl { .. } => None,
                _ => stored_into(c),
            };
            return name.map_or(Self::Something { perhaps: false }, Self::Temporary);
        }
        let named = match statement {
            Statement::Ddl {
                verb: Verb::Create,
                object: Object::Index,
            } => return index(c),
            Statement::Ddl {
                verb: Verb::Alter,
                object: Object::Table | Object::View | Object::Sequence | Object::Index,
            } if mentions(c.clone(), "rename") => new_name(c),
            // Its index has the name of the constraint.
            Statement::Ddl {
                verb: Verb::Alter,
                object: Object::Table,
            } if mentions(c.clone(), "constraint") => None,
            // It is temporary if one of its tables is.
            Statement::Ddl {
                verb: Verb::Create,
                object: Object::View,
            } => created(c, false),
            _ => return Self::Nothing,
        };
        named.map_or(Self::Something { perhaps: true }, Self::Perhaps)
    }
}

/// The name after CREATE, TEMP where it is said, and what it makes.
fn created(mut c: Cursor<'_>, said: bool) -> Option<Box<str>> {
    let begins = c.eat("create");
    c.eat_all(&["or", "replace"]);
    c.eat_any(&["local", "global"]);
    if !begins || said != c.eat_any(&["temp", "temporary"]) {
        return None;
    }
    c.eat("recursive");
    if !c.eat_any(&["table", "view", "sequence"]) {
        return None;
    }
    c.eat_all(&["if", "not", "exists"]);
    plain(c)
}

/// The name after INTO TEMP of a query, if it has only one INTO.
fn stored_into(mut c: Cursor<'_>) -> Option<Box<str>> {
    let mut found = None;
    while !c.at_end() {
        if !c.eat("into") {
            c.bump();
            continue;
        }
        c.eat_any(&["local", "global"]);
        if found.is_some() || !c.eat_any(&["temp", "temporary"]) {
            return None;
        }
        c.eat("table");
        found = Some(plain(c.clone())?);
    }
    found
}

/// The name of an index that CREATE INDEX names; without one PostgreSQL names it after its table.
fn index(mut c: Cursor<'_>) -> Makes {
    c.eat("create");
    c.eat("unique");
    c.eat("index");
    c.eat("concurrently");
    c.eat_all(&["if", "not", "exists"]);
    match c.sees("on") {
        true => Makes::Nothing,
        false => plain(c).map_or(Makes::Something { perhaps: true }, Makes::Perhaps),
    }
}

fn mentions(mut c: Cursor<'_>, word: &str) -> bool {
    while !c.at_end() {
        if c.sees(word) {
            return true;
        }
        c.bump();
    }
    false
}

/// The name after the last TO, of a relation, a constraint or a column.
fn new_name(mut c: Cursor<'_>) -> Option<Box<str>> {
    let mut found = None;
    while !c.at_end() {
        match c.eat("to") {
            true => found = plain(c.clone()),
            false => drop(c.bump()),
        }
    }
    found
}

fn plain(mut c: Cursor<'_>) -> Option<Box<str>> {
    match c.path().as_deref() {
        Some([name]) => Some(name.as_str()?.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::step::steps;

    fn makes(sql: &str) -> Makes {
        let steps = steps(sql.as_bytes(), true);
        let [step] = steps.as_slice() else {
            panic!("{sql}");
        };
        step.makes.clone()
    }

    #[test]
    fn the_names_of_temporary_relations_are_read_where_they_are_plain() {
        for (sql, name) in [
            ("CREATE TEMP TABLE a (id int)", "a"),
            (
                "create local temporary table if not exists \"A b\" as select 1",
                "A b",
            ),
            (
                "/* x */ CREATE GLOBAL TEMP TABLE Abc ON COMMIT DROP AS SELECT 1",
                "abc",
            ),
            // Its sequence is named after it, which the planner knows.
            ("CREATE TEMP TABLE a (id bigserial, v int)", "a"),
            ("CREATE OR REPLACE TEMP VIEW a AS SELECT 1", "a"),
            ("CREATE TEMP RECURSIVE VIEW a (n) AS SELECT 1", "a"),
            ("CREATE TEMP SEQUENCE IF NOT EXISTS a", "a"),
            ("SELECT 1 AS x INTO TEMP a", "a"),
            (
                "WITH c AS (SELECT 1) SELECT * INTO LOCAL TEMPORARY TABLE a FROM c",
                "a",
            ),
        ] {
            assert_eq!(makes(sql), Makes::Temporary(name.into()), "{sql}");
        }
        for (sql, name) in [
            ("ALTER TABLE a RENAME TO b", "b"),
            ("ALTER TABLE IF EXISTS ONLY a RENAME b TO \"to\"", "to"),
            ("ALTER TABLE a RENAME CONSTRAINT b TO c", "c"),
            ("ALTER INDEX a RENAME TO b", "b"),
            ("CREATE OR REPLACE VIEW a AS SELECT 1", "a"),
            (
                "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON a (v)",
                "i",
            ),
        ] {
            assert_eq!(makes(sql), Makes::Perhaps(name.into()), "{sql}");
        }
        for sql in [
            "CREATE TABLE pg_temp.a (id int)",
            "CREATE TEMP TABLE pg_temp.a (id int)",
            "CREATE TYPE pg_temp.a AS (b int)",
            "SELECT 1 AS x INTO TEMP pg_temp.a",
            "CREATE TEMP TABLE a (id int CONSTRAINT b PRIMARY KEY)",
            "SELECT set_config('search_path', 'pg_temp, public', false)",
        ] {
            assert_eq!(makes(sql), Makes::Something { perhaps: false }, "{sql}");
        }
        let add = "ALTER TABLE a ADD CONSTRAINT b UNIQUE (id)";
        assert_eq!(makes(add), Makes::Something { perhaps: true });
        for sql in [
            "ALTER TABLE a ADD COLUMN b int",
            "CREATE TABLE a (id int)",
            "SELECT 1",
            "SELECT 1 INTO a",
            "DROP TABLE a",
            "CREATE INDEX ON a (v)",
            "ALTER TYPE a RENAME VALUE 'b' TO 'c'",
        ] {
            assert_eq!(makes(sql), Makes::Nothing, "{sql}");
        }
    }

    #[test]
    fn what_may_belong_to_a_temporary_table_is_one_of_its_names() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let among = |names: &[&str]| TemporaryNames::Among(set(names));
        let mut names = TemporaryNames::default();
        names.follow(&Makes::Perhaps("a".into()), false);
        names.follow(&Makes::Something { perhaps: true }, false);
        assert_eq!(names, among(&[]));
        names.follow(&Makes::Temporary("b".into()), false);
        names.follow(&Makes::Perhaps("c".into()), false);
        assert_eq!(names, among(&["b", "c"]));
        names.follow(&Makes::Something { perhaps: true }, false);
        names.follow(&Makes::Temporary("d".into()), false);
        let unclear = TemporaryNames::Unclear {
            known: set(&["b", "c", "d"]),
            since_begin: false,
        };
        assert_eq!(names, unclear);
    }

    #[test]
    fn what_a_rollback_may_bring_back_is_not_asked_for() {
        let unseen = Makes::Something { perhaps: false };
        let mut names = TemporaryNames::default();
        assert!(!names.can_be_asked(false));
        names.follow(&unseen, false);
        assert!(names.can_be_asked(false));
        // The transaction may drop what only that code has made.
        names.follow(&unseen, true);
        assert!(!names.can_be_asked(true));
        names.end_block();
        names.are(vec!["a".to_owned()]);
        names.follow(&Makes::Temporary("b".into()), true);
        names.follow(&unseen, true);
        assert!(names.can_be_asked(true));
        // Dropped by now, for as long as it is not rolled back.
        names.are(vec!["c".to_owned()]);
        let all = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(names, TemporaryNames::Among(all.into()));
    }
}
