//! The names of the temporary tables that a session may have made: they hide tables of the same name.
//!
//! What is dropped, renamed away or rolled back stays among them, so that a name which a table of the catalog shares is
//! never certain again before DISCARD. All other names mean what they say.

use super::step::Pins;
use crate::sql::cursor::Cursor;
use crate::sql::effect::{Object, Pin, Statement, Verb};
use std::collections::BTreeSet;

/// What the temporary tables of a session may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemporaryNames {
    /// Like these and no others.
    Among(BTreeSet<String>),
    /// It is not known.
    Unclear,
}

/// No session makes so many in good faith, and each is compared whenever a statement is planned.
const MOST: usize = 200;

impl Default for TemporaryNames {
    fn default() -> Self {
        Self::Among(BTreeSet::new())
    }
}

impl TemporaryNames {
    /// A statement has ended well that makes these.
    pub fn follow(&mut self, makes: &Makes) {
        let Self::Among(names) = self else {
            return;
        };
        match makes {
            Makes::Nothing => {}
            Makes::Table(name) if names.len() < MOST => {
                names.insert(name.to_string());
            }
            // No table that could be renamed.
            Makes::NewName if names.is_empty() => {}
            Makes::Table(_) | Makes::NewName | Makes::Something => *self = Self::Unclear,
        }
    }
}

/// What a statement does to the temporary names of its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Makes {
    /// Nothing.
    Nothing,
    /// It makes this table.
    Table(Box<str>),
    /// It may give another name to one that is there.
    NewName,
    /// It makes what is no table, or how it is called is not clear.
    Something,
}

impl Makes {
    /// Of a statement with these pins.
    pub fn of(statement: &Statement<'_>, pins: Pins, text: &[u8], strings: bool) -> Self {
        let ddl = match statement {
            Statement::Ddl { verb, object } => Some((verb, object)),
            _ => None,
        };
        match (pins.has(Pin::TempObject), ddl) {
            (true, Some((Verb::Create, Object::Table))) => table(Cursor::new(text, strings)),
            (true, _) => Self::Something,
            (false, Some((Verb::Alter, _)))
                if mentions(Cursor::new(text, strings), &["rename"]) =>
            {
                Self::NewName
            }
            (false, _) => Self::Nothing,
        }
    }
}

fn table(mut c: Cursor<'_>) -> Makes {
    let begins = c.eat("create");
    c.eat_any(&["local", "global"]);
    if !begins || !c.eat_any(&["temp", "temporary"]) || !c.eat("table") {
        return Makes::Something;
    }
    c.eat_all(&["if", "not", "exists"]);
    match c.path().as_deref() {
        Some([name]) if !mentions(c, &MAKES_SEQUENCES) => match name.as_str() {
            Some(name) => Makes::Table(name.into()),
            None => Makes::Something,
        },
        _ => Makes::Something,
    }
}

/// By these a table gets sequences, which hide those of their names.
const MAKES_SEQUENCES: [&str; 8] = [
    "serial",
    "serial2",
    "serial4",
    "serial8",
    "smallserial",
    "bigserial",
    "identity",
    "like",
];

fn mentions(mut c: Cursor<'_>, words: &[&str]) -> bool {
    while !c.at_end() {
        if words.iter().any(|word| c.sees(word)) {
            return true;
        }
        c.bump();
    }
    false
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
    fn the_name_of_a_temporary_table_is_read_where_it_is_plain() {
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
        ] {
            assert_eq!(makes(sql), Makes::Table(name.into()), "{sql}");
        }
        for sql in [
            "CREATE TEMP VIEW a AS SELECT 1",
            "CREATE TEMP SEQUENCE a",
            "CREATE TEMP TABLE a (id bigserial, v int)",
            "CREATE TEMP TABLE a (id int GENERATED ALWAYS AS IDENTITY)",
            "CREATE TEMP TABLE a (LIKE b INCLUDING ALL)",
            "CREATE TABLE pg_temp.a (id int)",
            "CREATE TEMP TABLE pg_temp.a (id int)",
            "SELECT 1 AS x INTO TEMP a",
            "CREATE OR REPLACE TEMP VIEW a AS SELECT 1",
            "SELECT set_config('search_path', 'pg_temp, public', false)",
        ] {
            assert_eq!(makes(sql), Makes::Something, "{sql}");
        }
        assert_eq!(makes("ALTER TABLE a RENAME TO b"), Makes::NewName);
        for sql in [
            "ALTER TABLE a ADD COLUMN b int",
            "CREATE TABLE a (id int)",
            "SELECT 1",
            "DROP TABLE a",
        ] {
            assert_eq!(makes(sql), Makes::Nothing, "{sql}");
        }
    }

    #[test]
    fn a_new_name_of_a_temporary_table_is_not_followed() {
        let among = |names: &[&str]| {
            TemporaryNames::Among(names.iter().map(|name| (*name).to_owned()).collect())
        };
        let mut names = TemporaryNames::default();
        names.follow(&Makes::NewName);
        names.follow(&Makes::Table("a".into()));
        names.follow(&Makes::Table("b".into()));
        assert_eq!(names, among(&["a", "b"]));
        names.follow(&Makes::NewName);
        assert_eq!(names, TemporaryNames::Unclear);
        names.follow(&Makes::Table("c".into()));
        assert_eq!(names, TemporaryNames::Unclear);
    }
}
