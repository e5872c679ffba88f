//! The shape of a statement, as rules name it: its tokens without values.
//!
//! Text in, text out. Comments and white space are gone, words are in lower case, and each value is a `?`; values in a
//! row, with commas between them, are one, so that lists of any length have one shape. What comes out has itself for
//! its shape: it may be copied from EXPLAIN (ROUTE) into a rule. Plans have another notion of shapes
//! ([`mothership_sql::shape`]), which has to be finer.

use mothership_sql::lexer::{Kind, Lexer};

/// Before a `?` that was written without a space, these are operators of their own.
const COMPARISONS: &[&str] = &["=", "<", ">", "<=", ">=", "<>", "!=", "+", "-", "*", "/"];

/// The shape of one statement. None if its text cannot be read for certain.
pub fn shape(sql: &[u8], conforming: bool) -> Option<String> {
    let mut out = Shape::default();
    for token in Lexer::new(sql, conforming) {
        let text = std::str::from_utf8(token.text(sql)).ok()?;
        match token.kind {
            Kind::Unterminated | Kind::Unknown => return None,
            Kind::Semicolon => {}
            Kind::Param => out.value(),
            kind if kind.is_value() => out.value(),
            Kind::Word => out.put(&text.to_ascii_lowercase()),
            Kind::Operator => match text.strip_suffix('?') {
                Some("") => out.value(),
                Some(operator) if COMPARISONS.contains(&operator) => {
                    out.put(operator);
                    out.value();
                }
                _ => out.put(text),
            },
            _ => out.put(text),
        }
    }
    Some(out.finish())
}

#[derive(Default)]
struct Shape {
    text: String,
    /// The last token was a value, and so many bytes were written up to it.
    value: Option<usize>,
    /// A comma behind a value is not written before it is known what follows.
    comma: bool,
}

impl Shape {
    fn put(&mut self, token: &str) {
        if token == "," && self.value.is_some() && !self.comma {
            self.comma = true;
            return;
        }
        self.settle();
        self.value = None;
        self.write(token);
    }

    fn value(&mut self) {
        if self.comma {
            // One more in a row.
            self.comma = false;
            return;
        }
        self.write("?");
        self.value = Some(self.text.len());
    }

    fn settle(&mut self) {
        if std::mem::take(&mut self.comma) {
            self.text.push(',');
        }
    }

    fn write(&mut self, token: &str) {
        let glued = matches!(token, "," | ")" | "]" | "." | "::" | "[");
        let after = self.text.ends_with(['(', '.', '[']) || self.text.ends_with("::");
        if !self.text.is_empty() && !glued && !after {
            self.text.push(' ');
        }
        self.text.push_str(token);
    }

    fn finish(mut self) -> String {
        self.settle();
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_differ_in_values_comments_and_spaces_have_one_shape() {
        for (texts, expected) in [
            (
                &[
                    "SELECT * FROM Orders WHERE id = 5 AND note = 'a'",
                    "select *\n from orders -- x\n where id=$1 and note=E'b\\'';",
                    "select * from orders where id=? and note = ?",
                ][..],
                "select * from orders where id = ? and note = ?",
            ),
            (
                &[
                    "SELECT a.b FROM t a WHERE x IN (1, 2, 3) LIMIT 10",
                    "SELECT a . b FROM t a WHERE x IN ($1) LIMIT $2",
                    "SELECT a.b FROM t a WHERE x IN (?, ?) LIMIT ?",
                ],
                "select a.b from t a where x in (?) limit ?",
            ),
            (
                &["INSERT INTO t VALUES (1, 'x', now()), (2, DEFAULT, 3)"],
                "insert into t values (?, now ()), (?, default, ?)",
            ),
            (&["SELECT '1'::int8, -1"], "select ?::int8, - ?"),
            (&["SELECT \"A\" FROM s.\"T\""], "select \"A\" from s.\"T\""),
            (&["SELECT j @? '$.a'"], "select j @? ?"),
        ] {
            for text in texts {
                assert_eq!(
                    shape(text.as_bytes(), true).as_deref(),
                    Some(expected),
                    "{text}"
                );
            }
            let again = shape(expected.as_bytes(), true);
            assert_eq!(again.as_deref(), Some(expected), "a shape is its own");
        }
        assert_eq!(shape(b"SELECT 'a", true), None);
    }
}
