//! What has an effect that its transaction's end does not undo, without a statement's saying so: another connection, a
//! file, a lock of the session, a sequence that is set.
//!
//! What may do so runs once and is never undone and run again unseen. Code that cannot be read is taken for such code,
//! unless it belongs to an extension that is known to compute only.

use super::behind::{Behind, HiddenEffect};
use super::types::words;
use super::{Catalog, Function, NOWHERE};
use mothership_sql::functions::{Trait, special};

/// Extensions in C whose functions have no effects, or such as end with the transaction.
const COMPUTE: [&str; 22] = [
    "bloom",
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "earthdistance",
    "fuzzystrmatch",
    "hstore",
    "intarray",
    "isn",
    "ltree",
    "pg_trgm",
    "pgcrypto",
    "postgis",
    "seg",
    "tablefunc",
    "tcn",
    "tsm_system_rows",
    "tsm_system_time",
    "unaccent",
    "uuid-ossp",
    "vector",
];

/// What reaches outside of its transaction.
#[derive(Debug, Default)]
pub struct Outside(Behind);

impl Outside {
    /// Reads a catalog.
    pub fn of(catalog: &Catalog) -> Self {
        Self(Behind::of(catalog, &Reaches))
    }

    /// Whether a statement that writes may reach outside by what it names.
    pub fn is_reached_by(&self, sql: &str, strings: bool) -> bool {
        self.0.is_done_by(sql, strings, true, &NOWHERE)
    }
}

/// Whether a function of this name reaches outside.
pub fn reaches(name: &str) -> bool {
    let locks = matches!(
        special(name.as_bytes()),
        Some(Trait::LockSession | Trait::UnlockSession)
    );
    locks
        || name.starts_with("dblink")
        || name.starts_with("lo_import")
        || name.starts_with("lo_export")
        || name.starts_with("pg_file_")
        || matches!(
            name,
            "setval" | "pg_cancel_backend" | "pg_terminate_backend" | "pg_reload_conf"
        )
}

struct Reaches;

impl HiddenEffect for Reaches {
    fn is_in(&self, code: &str) -> bool {
        let lower = code.to_ascii_lowercase();
        words(&lower).any(|word| reaches(word) || matches!(word, "program" | "copy"))
    }

    fn is_known_of(&self, function: &Function) -> Option<bool> {
        if function.is_readable() {
            return None;
        }
        let computes = |extension: &str| COMPUTE.contains(&extension);
        let safe = match function.language.as_str() {
            "internal" => true,
            "c" => function.extension.as_deref().is_some_and(computes),
            _ => false,
        };
        Some(!safe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Events, FunctionKind, Name, Relation, Trigger, Volatility};

    fn catalog(language: &str, body: &str, extension: Option<&str>) -> Catalog {
        let mut catalog = Catalog::default();
        let function = Function {
            volatility: Volatility::Volatile,
            kind: FunctionKind::Function,
            strict: false,
            returns_set: false,
            language: language.into(),
            body: body.into(),
            defaults: String::new(),
            extension: extension.map(Into::into),
            search_path: None,
        };
        let name = |name: &str| Name::new("public", name);
        catalog.functions.insert(name("f"), vec![function]);
        let mut table = Relation::table(name("t"));
        table.triggers.push(Trigger {
            name: "g".into(),
            function: name("f"),
            may_change_row: true,
            each_row: true,
            sees_all_rows: false,
            events: Events::ANY,
            condition: None,
        });
        catalog.relations.insert(table.name.clone(), table);
        catalog
    }

    #[test]
    fn a_trigger_that_reaches_outside_is_found_by_its_table() {
        let cases = [
            (
                "plpgsql",
                "BEGIN INSERT INTO log VALUES (1); END",
                None,
                false,
            ),
            (
                "plpgsql",
                "BEGIN PERFORM dblink_exec('a', 'b'); END",
                None,
                true,
            ),
            (
                "plpgsql",
                "BEGIN EXECUTE 'SELECT setval(1, 2)'; END",
                None,
                true,
            ),
            (
                "plpgsql",
                "BEGIN PERFORM pg_advisory_lock(1); END",
                None,
                true,
            ),
            (
                "plpgsql",
                "BEGIN PERFORM pg_advisory_xact_lock(1); END",
                None,
                false,
            ),
            ("plpgsql", "BEGIN COPY a TO PROGRAM 'x'; END", None, true),
            ("plpython3u", "pass", None, true),
            ("c", "uuid_generate_v4", Some("uuid-ossp"), false),
            ("c", "anything", Some("http"), true),
            ("c", "anything", None, true),
        ];
        for (language, body, extension, expected) in cases {
            let outside = Outside::of(&catalog(language, body, extension));
            let found = outside.is_reached_by("UPDATE t SET a = 1", true);
            assert_eq!(found, expected, "{language} {body}");
            assert!(!outside.is_reached_by("UPDATE u SET a = 1", true), "{body}");
        }
    }
}
