//! The names of temporary relations that a session may have created. Such a relation hides a permanent one of the same name.
//!
//! Names of dropped, renamed or rolled-back relations stay in the set. So a name that a permanent table also has is
//! uncertain until DISCARD. All other names are certain. The planner knows the names that PostgreSQL derives from a
//! table's name ([`Temporary::may_hide`](mothership_plan::Temporary)). After code that the router cannot see (DO, CALL),
//! the router asks the server which temporary relations exist.

use super::settings::{Change, Setting, Settings, Value};
use super::step::Pins;
use mothership_sql::cursor::Cursor;
use mothership_sql::effect::{Object, Pin, Statement, Verb};
use mothership_sql::quote::push_literal;
use std::collections::{BTreeMap, BTreeSet};

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
const MAX_NAMES: usize = 200;

impl Default for TemporaryNames {
    fn default() -> Self {
        Self::Among(BTreeSet::new())
    }
}

impl TemporaryNames {
    /// A statement has ended well that makes these, in a transaction block or outside of one.
    pub fn record(&mut self, makes: &CreatesTemporary, in_block: bool) {
        let (Self::Among(names) | Self::Unclear { known: names, .. }) = self;
        match makes {
            CreatesTemporary::Nothing => return,
            // Without temporary relations, the relation that the statement refers to cannot be temporary.
            CreatesTemporary::Perhaps(_) | CreatesTemporary::Something { perhaps: true }
                if names.is_empty() =>
            {
                return;
            }
            CreatesTemporary::Temporary(name) | CreatesTemporary::Perhaps(name)
                if names.len() < MAX_NAMES =>
            {
                names.insert(name.to_string());
                return;
            }
            CreatesTemporary::Temporary(_)
            | CreatesTemporary::Perhaps(_)
            | CreatesTemporary::Something { .. } => {}
        }
        if let Self::Among(names) = self {
            *self = Self::Unclear {
                known: std::mem::take(names),
                since_begin: in_block,
            };
        }
    }

    /// The transaction has ended. From now on the server's answer is complete.
    pub fn end_block(&mut self) {
        if let Self::Unclear { since_begin, .. } = self {
            *since_begin = false;
        }
    }

    /// Whether the names are incomplete and the server's list would complete them.
    pub fn can_ask_server(&self, in_block: bool) -> bool {
        matches!(self, Self::Unclear { since_begin, .. } if !in_block || *since_begin)
    }

    /// The server has said that these are all.
    pub fn complete_with(&mut self, told: Vec<String>) {
        let (Self::Among(names) | Self::Unclear { known: names, .. }) = self;
        names.extend(told);
        if names.len() <= MAX_NAMES {
            *self = Self::Among(std::mem::take(names));
        }
    }
}

/// The session state on the server after code that the router cannot see.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct ServerSessionState {
    /// All temporary relations of the session.
    pub names: Vec<String>,
    /// Whether there are temporary types beside those of relations: names of types mean something else then.
    pub types: bool,
    /// The setting `search_path`.
    pub search_path: String,
    /// The current role, which is the schema `$user`.
    pub role: String,
    /// The setting `role`.
    pub set_role: String,
    /// The session's user.
    pub session: String,
    /// The settings that differ from what RESET would make of them.
    pub settings: BTreeMap<String, String>,
    /// Those that were asked for by name; none that the session does not know.
    pub asked: BTreeMap<String, Option<String>>,
}

impl ServerSessionState {
    /// What several servers of a session say of its settings, in one. `None` if they contradict each other, or none was asked.
    ///
    /// A setting of an application's own that RESET, ROLLBACK or an earlier session has taken back is the empty string on
    /// that server, and unknown to the others. If one says so, it is so for all of them.
    pub fn agreed<'s>(mut all: impl Iterator<Item = &'s Self>) -> Option<Self> {
        let mut agreed = all.next()?.clone();
        for other in all {
            if !agreed.agrees_with(other) {
                return None;
            }
            for (name, value) in &other.asked {
                if value.is_some() {
                    agreed.asked.insert(name.clone(), value.clone());
                }
            }
        }
        Some(agreed)
    }

    fn agrees_with(&self, other: &Self) -> bool {
        let asked = |told: &Self| {
            let mut asked = told.asked.clone();
            asked.retain(|_, value| value.as_ref().is_some_and(|value| !value.is_empty()));
            asked
        };
        let known = |told: &Self| (told.session.clone(), told.set_role.clone());
        known(self) == known(other)
            && self.settings == other.settings
            && asked(self) == asked(other)
    }

    /// How the settings differ from those that are known. The same value in other words counts as a change.
    pub fn changes(&self, known: &Settings) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut note = |name: &str, value: &str| {
            let is_known = known.text(name).is_some_and(|known| known == value);
            if !is_known && name != "client_encoding" {
                let (name, value) = (name.to_owned(), Value::Text(value.to_owned()));
                changes.push(Change::Set(Setting { name, value }));
            }
        };
        for (name, value) in &self.asked {
            // One that nobody has set is none.
            if let Some(value) = value {
                note(name, value);
            }
        }
        let more = self.settings.iter();
        for (name, value) in more.map(|(name, value)| (name.to_ascii_lowercase(), value)) {
            if !self.asked.contains_key(&name) {
                note(&name, value);
            }
        }
        if self.set_role != "none" || known.role().is_some() {
            note("role", &self.set_role);
        }
        changes
    }
}

/// The query that returns [`ServerSessionState`] as one JSON value, with these settings by name.
pub fn session_state_query<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut list = String::new();
    for name in names {
        if !list.is_empty() {
            list.push(',');
        }
        push_literal(&mut list, name);
    }
    SESSION_STATE_QUERY.replace("NAMES", &list)
}

const SESSION_STATE_QUERY: &str = "SELECT pg_catalog.json_build_object(\
    'names', (SELECT coalesce(pg_catalog.json_agg(relname), '[]') FROM pg_catalog.pg_class \
    WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()), \
    'types', EXISTS (SELECT FROM pg_catalog.pg_type \
    WHERE typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() \
    AND typtype OPERATOR(pg_catalog.<>) 'c' \
    AND NOT (typtype OPERATOR(pg_catalog.=) 'b' AND typcategory OPERATOR(pg_catalog.=) 'A')), \
    'search_path', pg_catalog.current_setting('search_path'), 'role', current_user, 'session', session_user, \
    'set_role', pg_catalog.current_setting('role'), \
    'settings', (SELECT coalesce(pg_catalog.json_object_agg(s.name, s.setting), '{}') FROM pg_catalog.pg_settings s \
    WHERE s.source OPERATOR(pg_catalog.=) 'session' AND s.setting IS DISTINCT FROM s.reset_val \
    AND NOT pg_catalog.starts_with(s.name, 'transaction_') \
    AND s.context OPERATOR(pg_catalog.=) ANY (ARRAY['user', 'superuser']::pg_catalog.text[])), \
    'asked', (SELECT coalesce(pg_catalog.json_object_agg(n.name, pg_catalog.current_setting(n.name, true)), '{}') \
    FROM pg_catalog.unnest(ARRAY[NAMES]::pg_catalog.text[]) n (name)))::pg_catalog.text";

/// What a statement does to the temporary names of its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreatesTemporary {
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

impl CreatesTemporary {
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
                } if !mentions(c.clone(), "constraint") => created_name(c, true),
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
            } => created_name(c, false),
            _ => return Self::Nothing,
        };
        named.map_or(Self::Something { perhaps: true }, Self::Perhaps)
    }
}

/// The name after CREATE, TEMP where it is said, and what it makes.
fn created_name(mut c: Cursor<'_>, said: bool) -> Option<Box<str>> {
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
    unqualified_name(c)
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
        found = Some(unqualified_name(c.clone())?);
    }
    found
}

/// The name of an index that CREATE INDEX names; without one PostgreSQL names it after its table.
fn index(mut c: Cursor<'_>) -> CreatesTemporary {
    c.eat("create");
    c.eat("unique");
    c.eat("index");
    c.eat("concurrently");
    c.eat_all(&["if", "not", "exists"]);
    match c.sees("on") {
        true => CreatesTemporary::Nothing,
        false => unqualified_name(c).map_or(
            CreatesTemporary::Something { perhaps: true },
            CreatesTemporary::Perhaps,
        ),
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
            true => found = unqualified_name(c.clone()),
            false => drop(c.bump()),
        }
    }
    found
}

fn unqualified_name(mut c: Cursor<'_>) -> Option<Box<str>> {
    match c.path().as_deref() {
        Some([name]) => Some(name.as_str()?.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statements::step::steps;

    fn makes(sql: &str) -> CreatesTemporary {
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
            assert_eq!(
                makes(sql),
                CreatesTemporary::Temporary(name.into()),
                "{sql}"
            );
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
            assert_eq!(makes(sql), CreatesTemporary::Perhaps(name.into()), "{sql}");
        }
        for sql in [
            "CREATE TABLE pg_temp.a (id int)",
            "CREATE TEMP TABLE pg_temp.a (id int)",
            "CREATE TYPE pg_temp.a AS (b int)",
            "SELECT 1 AS x INTO TEMP pg_temp.a",
            "CREATE TEMP TABLE a (id int CONSTRAINT b PRIMARY KEY)",
            "SELECT set_config('search_path', 'pg_temp, public', false)",
        ] {
            assert_eq!(
                makes(sql),
                CreatesTemporary::Something { perhaps: false },
                "{sql}"
            );
        }
        let add = "ALTER TABLE a ADD CONSTRAINT b UNIQUE (id)";
        assert_eq!(makes(add), CreatesTemporary::Something { perhaps: true });
        for sql in [
            "ALTER TABLE a ADD COLUMN b int",
            "CREATE TABLE a (id int)",
            "SELECT 1",
            "SELECT 1 INTO a",
            "DROP TABLE a",
            "CREATE INDEX ON a (v)",
            "ALTER TYPE a RENAME VALUE 'b' TO 'c'",
        ] {
            assert_eq!(makes(sql), CreatesTemporary::Nothing, "{sql}");
        }
    }

    #[test]
    fn what_may_belong_to_a_temporary_table_is_one_of_its_names() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let among = |names: &[&str]| TemporaryNames::Among(set(names));
        let mut names = TemporaryNames::default();
        names.record(&CreatesTemporary::Perhaps("a".into()), false);
        names.record(&CreatesTemporary::Something { perhaps: true }, false);
        assert_eq!(names, among(&[]));
        names.record(&CreatesTemporary::Temporary("b".into()), false);
        names.record(&CreatesTemporary::Perhaps("c".into()), false);
        assert_eq!(names, among(&["b", "c"]));
        names.record(&CreatesTemporary::Something { perhaps: true }, false);
        names.record(&CreatesTemporary::Temporary("d".into()), false);
        let unclear = TemporaryNames::Unclear {
            known: set(&["b", "c", "d"]),
            since_begin: false,
        };
        assert_eq!(names, unclear);
    }

    #[test]
    fn a_setting_that_was_taken_back_is_no_contradiction() {
        let told = |value: Option<&str>| ServerSessionState {
            names: Vec::new(),
            types: false,
            search_path: "public".to_owned(),
            role: "a".to_owned(),
            set_role: "none".to_owned(),
            session: "a".to_owned(),
            settings: BTreeMap::new(),
            asked: BTreeMap::from([("app.t".to_owned(), value.map(str::to_owned))]),
        };
        for (values, agreed) in [
            (&[][..], None),
            (&[None, None], Some(None)),
            // RESET leaves an empty string.
            (&[None, Some(""), None], Some(Some(""))),
            (&[Some("b"), Some("b")], Some(Some("b"))),
            (&[Some(""), Some("b")], None),
            (&[Some("b"), None], None),
        ] {
            let all: Vec<_> = values.iter().map(|value| told(*value)).collect();
            let found = ServerSessionState::agreed(all.iter());
            assert_eq!(found, agreed.map(told), "{values:?}");
        }
    }

    #[test]
    fn the_server_is_not_asked_while_a_rollback_may_restore_names() {
        let unseen = CreatesTemporary::Something { perhaps: false };
        let mut names = TemporaryNames::default();
        assert!(!names.can_ask_server(false));
        names.record(&unseen, false);
        assert!(names.can_ask_server(false));
        // The transaction may drop what only that code has made.
        names.record(&unseen, true);
        assert!(!names.can_ask_server(true));
        names.end_block();
        names.complete_with(vec!["a".to_owned()]);
        names.record(&CreatesTemporary::Temporary("b".into()), true);
        names.record(&unseen, true);
        assert!(names.can_ask_server(true));
        // Dropped by now, for as long as it is not rolled back.
        names.complete_with(vec!["c".to_owned()]);
        let all = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(names, TemporaryNames::Among(all.into()));
    }
}
