//! Names that declarations and plans have in common: labels, tables and patterns of tables.

use std::fmt;

use crate::KeyType;

/// The longest name that PostgreSQL keeps (NAMEDATALEN - 1), in bytes.
const NAME_BYTES: usize = 63;

/// The name of a shard, strategy, pool or label: it also appears in metrics and paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

impl Label {
    /// `None` when it has a character other than a-z, A-Z, 0-9, `_`, `-`, or more than 40 of them.
    pub fn new(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        ((1..=40).contains(&text.len()) && text.bytes().all(plain)).then(|| Label(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A table as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownTable {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its columns; `None` for a type that cannot be a key.
    pub columns: Vec<(String, Option<KeyType>)>,
}

/// Schema and name of one table, or of many when it has a `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TablePattern {
    /// `public` when the file does not say.
    pub schema: String,
    /// The table.
    pub table: String,
}

impl TablePattern {
    /// Reads "orders", "shop.orders", "shop.*", "order_*". Names are as the catalog has them.
    pub fn parse(text: &str) -> Option<Self> {
        let (schema, table) = text.split_once('.').unwrap_or(("public", text));
        (is_name(schema) && is_name(table) && !table.contains('.')).then(|| TablePattern {
            schema: schema.to_owned(),
            table: table.to_owned(),
        })
    }

    /// Does it name exactly one table?
    pub fn is_exact(&self) -> bool {
        !self.schema.contains('*') && !self.table.contains('*')
    }

    /// Does it cover this table?
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        glob(&self.schema, schema) && glob(&self.table, table)
    }
}

/// `*` stands for any characters, also none. Linear in the text for each star.
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    // The earliest place of each inner part leaves the most room for those after it.
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// Whether PostgreSQL could have such a name.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES && !text.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_what_they_say() {
        let covers = |pattern: &str, schema: &str, table: &str| {
            TablePattern::parse(pattern)
                .expect(pattern)
                .matches(schema, table)
        };
        assert!(covers("orders", "public", "orders"));
        assert!(!covers("orders", "shop", "orders"));
        assert!(covers("shop.*", "shop", "anything"));
        assert!(covers("*.a*b*c", "x", "a__b__bc"));
        assert!(!covers("a*a", "public", "a"));
        assert!(covers("a*a", "public", "aa"));
        for text in ["", ".", "a.b.c", "a.", ".a"] {
            assert_eq!(TablePattern::parse(text), None, "{text}");
        }
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "orders", true),
            ("tenant_*", "tenant_1", true),
            ("tenant_*", "tenants", false),
            ("*_log", "a_log_log", true),
            ("a*b*c", "axxbyybzc", true),
            ("a*b*c", "axxbyybz", false),
            ("orders", "orders2", false),
            ("", "", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
