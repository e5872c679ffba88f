//! What asks for the time of its transaction without saying so in a statement: functions, views, policies,
//! triggers, defaults.
//!
//! Pure, and once for each catalog. Each shard has a time of its own, so that a statement
//! on several may not use such a thing. Names are looked at without their schemas; too
//! many are found, never too few, as far as bodies can be read.

use super::types::words;
use super::{Catalog, DefaultKind, Function, Relation, Volatility};
use crate::sql::cursor::Cursor;
use crate::sql::lexer::Kind;
use crate::sql::time::is_word_of_time;
use std::collections::{BTreeMap, BTreeSet};

/// Extensions whose functions, which cannot be read, ask for the time.
const EXTENSIONS: [&str; 3] = ["moddatetime", "temporal_tables", "timetravel"];

/// The names of what asks for the time.
#[derive(Debug, Default)]
pub struct Times {
    functions: BTreeSet<String>,
    /// Views, and tables with policies.
    reads: BTreeSet<String>,
    /// Relations to which nothing can be written without asking.
    writes: BTreeSet<String>,
    /// Columns and their defaults, by relation.
    defaults: BTreeMap<String, Vec<(String, String)>>,
    /// Several relations have this name.
    shared: BTreeSet<String>,
}

/// What a statement has to do with such things.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
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
        let mut times = Self::default();
        let mut names = BTreeSet::new();
        for relation in catalog.relations.values() {
            if !names.insert(&relation.name.name) {
                times.shared.insert(relation.name.name.clone());
            }
        }
        while times.grow(catalog) {}
        times
    }

    /// One more look; whether something was found.
    fn grow(&mut self, catalog: &Catalog) -> bool {
        let before = self.size();
        for (name, functions) in &catalog.functions {
            if functions.iter().any(|f| self.is_asked_by(f)) {
                self.functions.insert(name.name.clone());
            }
        }
        for relation in catalog.relations.values() {
            self.look_at(relation);
        }
        self.size() != before
    }

    fn size(&self) -> usize {
        self.functions.len() + self.reads.len() + self.writes.len() + self.defaults.len()
    }

    fn is_asked_by(&self, function: &Function) -> bool {
        match (&function.extension, function.is_readable()) {
            _ if function.volatility == Volatility::Immutable => false,
            (Some(extension), false) => EXTENSIONS.contains(&&**extension),
            (None, false) => true,
            (_, true) => function.is_dynamic() || self.mentions(&function.body),
        }
    }

    fn mentions(&self, code: &str) -> bool {
        let lower = code.to_ascii_lowercase();
        words(&lower).any(|word| {
            is_word_of_time(word)
                || [&self.functions, &self.reads, &self.writes]
                    .iter()
                    .any(|set| set.contains(word))
                || self.defaults.contains_key(word)
        })
    }

    fn look_at(&mut self, relation: &Relation) {
        let name = &relation.name.name;
        let policies = relation.row_security.iter().flatten();
        let mut codes = relation
            .definition
            .iter()
            .chain(policies.map(|policy| &policy.expression));
        if codes.any(|code| self.mentions(code)) {
            self.reads.insert(name.clone());
        }
        let asks = relation
            .triggers
            .iter()
            .any(|t| self.functions.contains(&t.function.name))
            || relation
                .checks
                .iter()
                .any(|check| self.mentions(&check.expression));
        if asks {
            self.writes.insert(name.clone());
        }
        if self.writes.contains(name) {
            // What is written to these may go on to this one.
            let cascades = relation.foreign_keys.iter().filter(|key| key.cascades());
            let above = relation
                .parent
                .iter()
                .chain(cascades.map(|key| &key.target));
            self.writes.extend(above.map(|above| above.name.clone()));
        }
        for column in &relation.columns {
            let (DefaultKind::Stable(default)
            | DefaultKind::Volatile(default)
            | DefaultKind::Constant(default)) = &column.default
            else {
                continue;
            };
            if self.mentions(default) {
                let defaults = self.defaults.entry(name.clone()).or_default();
                let found = (column.name.clone(), default.clone());
                if !defaults.contains(&found) {
                    defaults.push(found);
                }
            }
        }
    }

    /// The columns of a table whose defaults ask, with these. `None` if it is not certain which table it is.
    pub fn defaults(&self, table: &str) -> Option<&[(String, String)]> {
        match self.defaults.get(table) {
            None => Some(&[]),
            Some(_) if self.shared.contains(table) => None,
            Some(defaults) => Some(defaults),
        }
    }

    /// Whether a call of a function of this name in a default asks.
    pub fn asks(&self, code: &str) -> bool {
        let lower = code.to_ascii_lowercase();
        words(&lower).any(|word| self.functions.contains(word))
    }

    /// What a statement has to do with it.
    pub fn found(&self, sql: &str, strings: bool, writes: bool) -> Found {
        let mut found = Found {
            hidden: None,
            has_defaults: false,
            says_default: false,
            inserts: false,
        };
        let mut cursor = Cursor::new(sql.as_bytes(), strings);
        let mut after_dot = false;
        while let Some(token) = cursor.peek() {
            let word = token.kind == Kind::Word;
            let named = word || matches!(token.kind, Kind::QuotedIdent | Kind::UnicodeIdent);
            let name = if named { cursor.name() } else { None };
            let Some(name) = name
                .as_ref()
                .and_then(|name| std::str::from_utf8(name.as_bytes()).ok())
            else {
                if named && self.size() > 0 {
                    found
                        .hidden
                        .get_or_insert_with(|| "a name that is not understood".into());
                }
                after_dot = token.kind == Kind::Dot;
                if cursor.peek() == Some(token) {
                    cursor.bump();
                }
                continue;
            };
            let called = after_dot || cursor.sees_kind(Kind::LParen);
            let hidden = if called && self.functions.contains(name) {
                Some(format!("function {name}()"))
            } else if self.reads.contains(name) {
                Some(format!("view or policies of \"{name}\""))
            } else if writes && self.writes.contains(name) {
                Some(format!("triggers or constraints of table \"{name}\""))
            } else {
                None
            };
            found.hidden = found.hidden.or(hidden);
            found.has_defaults |= self.defaults.contains_key(name);
            found.says_default |= word && name == "default";
            found.inserts |= word && name == "insert";
            after_dot = false;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Column, FunctionKind, Name};

    fn function(body: &str) -> Vec<Function> {
        vec![Function {
            volatility: Volatility::Stable,
            kind: FunctionKind::Function,
            strict: false,
            returns_set: false,
            language: "sql".into(),
            body: body.into(),
            extension: None,
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
        let mut touched = Relation::table(name("touched"));
        touched.triggers.push(crate::catalog::Trigger {
            name: "t".into(),
            function: name("indirect"),
            may_change_row: true,
            events: crate::catalog::Events::ANY,
            condition: None,
        });
        let mut recent = Relation::table(name("recent"));
        recent.definition = Some("SELECT * FROM t WHERE at > CURRENT_DATE".into());
        for relation in [stamped, touched, recent, Relation::table(name("t"))] {
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
            collation: crate::catalog::Collation::Default,
            not_null: false,
            default: DefaultKind::None,
            generated: false,
            handed: crate::catalog::Handed::plain("text"),
        }
    }

    #[test]
    fn what_asks_for_the_time_is_found_however_deep() {
        let times = Times::of(&catalog());
        let hidden = |sql: &str, writes| times.found(sql, true, writes).hidden;
        assert_eq!(hidden("SELECT plain(a) FROM t", false), None);
        assert_eq!(hidden("SELECT age_of FROM t", false), None);
        assert_eq!(
            hidden("SELECT indirect(a) FROM t", false).as_deref(),
            Some("function indirect()")
        );
        assert!(hidden("SELECT * FROM \"recent\"", false).is_some());
        assert_eq!(hidden("SELECT * FROM touched", false), None);
        assert!(hidden("UPDATE touched SET a = 1", true).is_some());
        assert!(
            times
                .found("INSERT INTO stamped VALUES (DEFAULT)", true, true)
                .says_default
        );
        assert_eq!(
            times.defaults("stamped").unwrap(),
            [("at".to_owned(), "now()".to_owned())]
        );
        assert_eq!(times.defaults("t").unwrap(), []);
    }
}
