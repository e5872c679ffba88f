//! What asks for the time of its transaction without saying so in a statement: functions, views, policies,
//! triggers, defaults.
//!
//! Each shard has a time of its own, so that a statement on several may not use such a thing.

use super::behind::{Behind, HiddenEffect, SchemaOf, Writes, names};
use super::{Catalog, Function, Volatility};
use mothership_sql::time::may_ask;
use std::collections::BTreeSet;

/// Extensions whose functions, which cannot be read, ask for the time.
const EXTENSIONS: [&str; 3] = ["moddatetime", "temporal_tables", "timetravel"];

/// What asks for the time.
#[derive(Debug, Default)]
pub struct Times(Behind);

struct Asks;

impl HiddenEffect for Asks {
    fn is_in(&self, code: &str) -> bool {
        may_ask(code)
    }

    fn is_known_of(&self, function: &Function) -> Option<bool> {
        match (&function.extension, function.is_readable()) {
            _ if function.volatility == Volatility::Immutable => Some(false),
            (Some(extension), false) => Some(EXTENSIONS.contains(&&**extension)),
            (None, false) => Some(true),
            (_, true) => function.is_dynamic().then_some(true),
        }
    }
}

/// What a statement has to do with such things.
#[derive(Debug, PartialEq, Eq)]
pub struct TimeUse {
    /// Why it cannot be on several shards.
    pub hidden: Option<String>,
    /// It names a table with such a default.
    pub has_defaults: bool,
    /// It has the word DEFAULT.
    pub says_default: bool,
    /// It has the word INSERT.
    pub inserts: bool,
}

impl Times {
    /// Reads a catalog.
    pub fn of(catalog: &Catalog) -> Self {
        Self(Behind::of(catalog, &Asks))
    }

    /// The schema of the table that a name stands for: this one if it is given, and else none of those `apart`.
    pub fn schema_of(
        &self,
        schema: Option<&str>,
        table: &str,
        apart: &BTreeSet<String>,
    ) -> SchemaOf<'_> {
        self.0.schema_of(schema, table, apart)
    }

    /// The columns of a table whose defaults ask, with these.
    pub fn defaults(&self, schema: &str, table: &str) -> &[(String, String)] {
        self.0.defaults(schema, table)
    }

    /// Whether a call of a function of this name in a default asks.
    pub fn asks(&self, code: &str) -> bool {
        self.0.calls(code)
    }

    /// What a statement has to do with it. It does not mean functions that are only in the schemas `apart`.
    pub fn found(
        &self,
        sql: &str,
        strings: bool,
        writes: bool,
        apart: &BTreeSet<String>,
    ) -> TimeUse {
        let mut found = TimeUse {
            hidden: None,
            has_defaults: false,
            says_default: false,
            inserts: false,
        };
        let written = Writes::of(sql, strings, writes);
        names(sql, strings, |named| {
            if found.hidden.is_none() {
                found.hidden = self.0.by(named, &written, apart);
            }
            let name = named.name.unwrap_or_default();
            found.has_defaults |= self.0.has_defaults(named, apart);
            found.says_default |= named.is_word && name == "default";
            found.inserts |= named.is_word && name == "insert";
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Column, DefaultKind, FunctionKind, Name, Relation};

    fn function(body: &str) -> Vec<Function> {
        vec![Function {
            volatility: Volatility::Stable,
            kind: FunctionKind::Function,
            strict: false,
            returns_set: false,
            language: "sql".into(),
            body: body.into(),
            defaults: String::new(),
            extension: None,
            search_path: None,
        }]
    }

    fn catalog() -> Catalog {
        let name = |name: &str| Name::new("public", name);
        let mut catalog = Catalog::default();
        for (function_name, body) in [
            ("age_of", "SELECT now() - $1"),
            ("indirect", "SELECT age_of($1)"),
            ("plain", "SELECT $1 + 1"),
        ] {
            catalog
                .functions
                .insert(name(function_name), function(body));
        }
        let mut stamped = Relation::table(name("stamped"));
        stamped.columns.push(Column {
            default: DefaultKind::Stable("now()".into()),
            ..column("at")
        });
        // The schema of its type is called like a table that has the time.
        let mut typed = Relation::table(name("typed"));
        typed.columns.push(Column {
            default: DefaultKind::Constant("'a'::stamped.state".into()),
            ..column("state")
        });
        let mut touched = Relation::table(name("touched"));
        touched.triggers.push(crate::Trigger {
            name: "t".into(),
            function: name("indirect"),
            may_change_row: true,
            each_row: true,
            sees_all_rows: false,
            events: crate::Events::ANY,
            condition: None,
        });
        let mut recent = Relation::table(name("recent"));
        recent.definition = Some("SELECT * FROM t WHERE at > CURRENT_DATE".into());
        let mut changed = Relation::table(name("changed"));
        changed.triggers.push(crate::Trigger {
            events: crate::Events::UPDATE,
            ..touched.triggers[0].clone()
        });
        for relation in [
            stamped,
            typed,
            touched,
            changed,
            recent,
            Relation::table(name("t")),
        ] {
            catalog.relations.insert(relation.name.clone(), relation);
        }
        catalog
    }

    fn column(name: &str) -> Column {
        Column {
            name: name.into(),
            type_oid: 20,
            type_name: "bigint".into(),
            typmod: -1,
            collation: crate::Collation::Default,
            not_null: false,
            default: DefaultKind::None,
            generated: None,
            handed: crate::Handed::plain("text"),
        }
    }

    #[test]
    fn what_asks_for_the_time_is_found_however_deep() {
        let times = Times::of(&catalog());
        let hidden = |sql: &str, writes| times.found(sql, true, writes, &crate::NOWHERE).hidden;
        assert_eq!(hidden("SELECT plain(a) FROM t", false), None);
        assert_eq!(hidden("SELECT age_of FROM t", false), None);
        assert_eq!(
            hidden("SELECT indirect(a) FROM t", false).as_deref(),
            Some("function indirect()")
        );
        assert!(hidden("SELECT * FROM \"recent\"", false).is_some());
        assert_eq!(hidden("SELECT * FROM touched", false), None);
        assert!(hidden("UPDATE touched SET a = 1", true).is_some());
        assert!(hidden("UPDATE changed SET a = 1", true).is_some());
        assert_eq!(hidden("INSERT INTO changed VALUES (1)", true), None);
        for does in [
            "INSERT INTO changed VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2",
            "UPDATE public.touched SET a = 1",
            "WITH x AS (INSERT INTO touched VALUES (1)) SELECT 1",
            "MERGE INTO touched USING t ON true WHEN MATCHED THEN DELETE",
            "EXPLAIN ANALYZE UPDATE touched SET a = 1",
            "TRUNCATE touched",
            "UPDATE t SET a = indirect(a)",
            "UPDATE t SET a = 1 FROM recent",
            "DELETE FROM ONLY touched",
            "COPY touched FROM STDIN",
            "SELECT pg_temp.indirect(a) FROM t",
        ] {
            assert!(hidden(does, true).is_some(), "{does}");
        }
        // What fires is a trigger of the table that is written.
        for does_not in [
            "DELETE FROM changed",
            "DELETE FROM t USING touched WHERE t.a = touched.a",
            "UPDATE t SET a = touched.a FROM touched",
            "INSERT INTO t SELECT * FROM touched ON CONFLICT (a) DO UPDATE SET a = 2",
            "SELECT * FROM touched FOR NO KEY UPDATE",
            "LOCK TABLE touched",
            "UPDATE other.touched SET a = 1",
            "SELECT recent.a FROM t AS recent_ones",
        ] {
            assert_eq!(hidden(does_not, true), None, "{does_not}");
        }
        assert!(
            times
                .found(
                    "INSERT INTO stamped VALUES (DEFAULT)",
                    true,
                    true,
                    &crate::NOWHERE
                )
                .says_default
        );
        assert_eq!(
            times.defaults("public", "stamped"),
            [("at".to_owned(), "now()".to_owned())]
        );
        assert_eq!(times.defaults("public", "t"), []);
        assert_eq!(times.defaults("public", "typed"), []);
        let schema_of = |schema, apart: &[&str]| {
            let apart = apart.iter().map(|schema| (*schema).to_owned()).collect();
            let schema = times.schema_of(schema, "stamped", &apart);
            format!("{schema:?}")
        };
        assert_eq!(schema_of(None, &[]), "One(\"public\")");
        assert_eq!(schema_of(Some("other"), &[]), "Nobody");
        assert_eq!(schema_of(None, &["public"]), "Nobody");
    }
}
