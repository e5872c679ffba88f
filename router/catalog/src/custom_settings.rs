//! Settings of an application's own (`app.tenant`) that code may read.
//!
//! PostgreSQL lists them in no view: one has to ask for each by its name. So where a session's settings have to be read
//! from a server, the names are collected from the code that could read them: functions, views, policies, checks,
//! defaults and triggers.

use super::{Catalog, DefaultKind};
use mothership_sql::cursor::Cursor;
use mothership_sql::lexer::Kind;
use std::collections::BTreeSet;

/// More names than this are not asked for.
pub const MAX_NAMES: usize = 500;
/// Words behind which the name of a setting may stand.
const BEFORE_NAMES: [&[u8]; 5] = [b"show", b"set", b"reset", b"local", b"session"];
/// Texts within texts are read so deep.
const DEEPEST: u32 = 4;

/// The names in one catalog.
#[derive(Debug, Default)]
pub struct CustomSettings {
    /// In lower case.
    names: BTreeSet<String>,
    /// Some code reads a setting whose name it computes, or cannot be read, or there are too many names.
    unclear: bool,
}

impl CustomSettings {
    /// Reads a catalog.
    pub fn of(catalog: &Catalog) -> Self {
        let mut found = Self::default();
        for function in catalog.functions.values().flatten() {
            match function.is_readable() {
                true => found.look(&function.body, 0, true),
                false => found.unclear |= !matches!(&*function.language, "c" | "internal"),
            }
            found.look(&function.defaults, 0, true);
        }
        for relation in catalog.relations.values() {
            let policies = relation.row_security.iter().flatten();
            let checks = relation.checks.iter().map(|check| &check.expression);
            let conditions = relation
                .triggers
                .iter()
                .filter_map(|t| t.condition.as_ref());
            let defaults = relation.columns.iter().filter_map(|c| match &c.default {
                DefaultKind::Stable(code)
                | DefaultKind::Volatile(code)
                | DefaultKind::Constant(code) => Some(code),
                _ => None,
            });
            let codes = relation.definition.iter();
            let codes = codes.chain(policies.map(|policy| &policy.expression));
            for code in codes.chain(checks).chain(conditions).chain(defaults) {
                found.look(code, 0, true);
            }
        }
        found.unclear |= found.names.len() > MAX_NAMES;
        found
    }

    /// The names; `None` if there may be others.
    pub fn names(&self) -> Option<&BTreeSet<String>> {
        (!self.unclear).then_some(&self.names)
    }

    /// The names that may be settings of an application's own in a statement: in its strings, and behind SET and the like.
    /// Of too many, those that stand first.
    pub fn named_by(sql: &str) -> BTreeSet<String> {
        let mut found = Self::default();
        // How its strings are read is a setting, too.
        found.look(sql, 0, true);
        found.look(sql, 0, false);
        found.names
    }

    /// Reads code, and what stands in its strings: that may be what it executes.
    fn look(&mut self, code: &str, depth: u32, strings: bool) {
        let mut c = Cursor::new(code.as_bytes(), strings);
        loop {
            while let Some(token) = c.peek() {
                if let Some(text) = c.string() {
                    if let Ok(text) = std::str::from_utf8(text.as_bytes()) {
                        self.add(text);
                        if depth < DEEPEST {
                            self.look(text, depth + 1, strings);
                        }
                    }
                    continue;
                }
                let Some(name) = c.name() else {
                    c.bump();
                    continue;
                };
                if token.kind == Kind::Word && BEFORE_NAMES.contains(&name.as_bytes()) {
                    let path = c.clone().path().unwrap_or_default();
                    let path: Vec<&str> = path.iter().filter_map(|part| part.as_str()).collect();
                    self.add(&path.join("."));
                }
                let reads = name.as_bytes() == b"current_setting" && c.eat_kind(Kind::LParen);
                // A name that is put together may be any.
                let is_plain = c.sees_kind(Kind::String) && {
                    let mut behind = c.clone();
                    behind.bump();
                    behind.sees_kind(Kind::Comma)
                        || behind.sees_kind(Kind::RParen)
                        || behind.sees_kind(Kind::TypeCast)
                };
                self.unclear |= reads && !is_plain;
            }
            if !c.skip_semicolon() {
                return;
            }
        }
    }

    fn add(&mut self, text: &str) {
        let is_name = |part: &str| {
            let mut bytes = part.bytes();
            let begins = |b: u8| b.is_ascii_alphabetic() || b == b'_' || !b.is_ascii();
            bytes.next().is_some_and(begins)
                && bytes.all(|b| begins(b) || b.is_ascii_digit() || b == b'$')
        };
        let is_custom = text.contains('.') && text.len() < 128 && text.split('.').all(is_name);
        // One more shows that there are too many.
        if is_custom && self.names.len() <= MAX_NAMES {
            self.names.insert(text.to_ascii_lowercase());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(code: &str) -> Option<Vec<String>> {
        let mut found = CustomSettings::default();
        found.look(code, 0, true);
        found.names().map(|names| names.iter().cloned().collect())
    }

    #[test]
    fn names_are_found_where_code_reads_them() {
        let some = |names: &[&str]| Some(names.iter().map(|n| (*n).to_owned()).collect());
        for (code, expected) in [
            (
                "(ten = current_setting('App.tenant'::text, true))",
                some(&["app.tenant"]),
            ),
            ("SELECT x FROM a.b WHERE y = 'no name. here'", some(&[])),
            (
                "BEGIN EXECUTE 'SELECT current_setting(''a.b'')'; RETURN current_setting('c.d'); END",
                some(&["a.b", "c.d"]),
            ),
            ("SELECT current_setting('app.' || name)", None),
            ("BEGIN RETURN current_setting(name, true); END", None),
            ("SHOW app.tenant", some(&["app.tenant"])),
            (
                "BEGIN SET LOCAL app.a = '1'; EXECUTE 'SET app.b TO 2'; RESET app.c; SELECT t.d FROM t; END",
                some(&["app.a", "app.b", "app.c"]),
            ),
        ] {
            assert_eq!(found(code), expected, "{code}");
        }
    }
}
