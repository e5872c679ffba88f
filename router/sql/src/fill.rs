//! Adds columns that a client left out to the text of its INSERT ... VALUES, with a value in each row.
//!
//! The router does this for defaults that would differ between shards, such as `now()`: all shards get the same value.
//! Pure; it works on tokens.

use super::cursor::{Cursor, Span};
use super::lexer::Kind;
use super::places::Change;

/// The beginning of an INSERT, COPY or MERGE: the table that it writes to, and the columns that it lists, if it lists
/// any.
pub struct Target {
    /// The schema before the table's name, as PostgreSQL folds it.
    pub schema: Option<String>,
    /// The table's name likewise.
    pub name: String,
    /// The columns; `None` if the statement lists none.
    pub columns: Option<Vec<String>>,
    /// Where the list of columns ends, before its closing parenthesis.
    list_end: Option<usize>,
    /// Where the rest of the statement begins.
    rest: usize,
}

impl Target {
    /// Reads the beginning of a statement. `None` if it is another kind of statement, or is not understood.
    pub fn of(sql: &str, strings: bool) -> Option<Self> {
        let mut cursor = Cursor::new(sql.as_bytes(), strings);
        while cursor.skip_semicolon() {}
        if cursor.eat("copy") {
            cursor.eat("binary");
        } else if !(cursor.eat_all(&["insert", "into"]) || cursor.eat_all(&["merge", "into"])) {
            return None;
        }
        cursor.eat("only");
        let path = cursor.path()?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let (name, before) = path.split_last()?;
        let name = text(name.as_bytes())?;
        let schema = match before.last() {
            Some(schema) => Some(text(schema.as_bytes())?),
            None => None,
        };
        if cursor.eat("as") {
            cursor.name()?;
        }
        let (mut columns, mut list_end) = (None, None);
        let mut inside = cursor.clone();
        if let Some(group) = cursor.group() {
            inside.eat_kind(Kind::LParen);
            let mut listed = Vec::new();
            loop {
                listed.push(text(inside.name()?.as_bytes())?);
                match inside.bump()?.kind {
                    Kind::Comma => {}
                    Kind::RParen => break,
                    // The parenthesis holds a query, or a part of a column is named, as in `a[1]`.
                    _ => return None,
                }
            }
            (columns, list_end) = (Some(listed), Some(group.end));
        }
        Some(Self {
            schema,
            name,
            columns,
            list_end,
            rest: cursor.at(),
        })
    }

    /// Behind VALUES, from where positions count from `rest`; `None` if something else follows.
    fn rows<'s>(&self, sql: &'s str, strings: bool) -> Option<Cursor<'s>> {
        let mut cursor = Cursor::new(&sql.as_bytes()[self.rest..], strings);
        if cursor.eat("overriding") {
            cursor.bump();
            cursor.eat("value");
        }
        cursor.eat("values").then_some(cursor)
    }
}

/// How many values each row of an INSERT ... VALUES has. `None` for other statements, and if the rows differ in length.
pub fn width(sql: &str, strings: bool) -> Option<usize> {
    let target = Target::of(sql, strings)?;
    let mut cursor = target.rows(sql, strings)?;
    let mut widths = Vec::new();
    loop {
        let mut inside = cursor.clone();
        let group = cursor.group()?;
        inside.bump();
        let (mut depth, mut width) = (0usize, 1);
        while let Some(token) = inside.bump() {
            match token.kind {
                Kind::LParen | Kind::LBracket => depth += 1,
                Kind::RParen if token.start >= group.end => break,
                Kind::RParen | Kind::RBracket => depth = depth.saturating_sub(1),
                Kind::Comma if depth == 0 => width += 1,
                _ => {}
            }
        }
        widths.push(width);
        if !cursor.eat_kind(Kind::Comma) {
            break;
        }
    }
    let first = *widths.first()?;
    widths.iter().all(|width| *width == first).then_some(first)
}

/// Adds columns to the list of a COPY: the text, and what was changed. `None` if the statement lists no columns.
pub fn with_columns(
    sql: &str,
    strings: bool,
    columns: impl Iterator<Item = impl AsRef<str>>,
) -> Option<(String, Change)> {
    let end = Target::of(sql, strings)?.list_end?;
    let name = |name: &str| format!(", \"{}\"", name.replace('"', "\"\""));
    let names: String = columns.map(|column| name(column.as_ref())).collect();
    let text = [&sql[..end], &names, &sql[end..]].concat();
    Some((text, Change::new(end..end, &names)))
}

/// The text of an INSERT with these columns and their values added to every row, and the changes that were made. `None`
/// if the statement is not an INSERT with a list of columns and a list of rows.
pub fn filled(
    sql: &str,
    strings: bool,
    more: &[(String, String)],
) -> Option<(String, Vec<Change>)> {
    let target = Target::of(sql, strings)?;
    let list_end = target.list_end?;
    let mut cursor = target.rows(sql, strings)?;
    let mut ends = Vec::new();
    loop {
        let Span { end, .. } = cursor.group()?;
        ends.push(target.rest + end);
        if !cursor.eat_kind(Kind::Comma) {
            break;
        }
    }
    let names: String = more
        .iter()
        .map(|(name, _)| format!(", \"{}\"", name.replace('"', "\"\"")))
        .collect();
    let values: String = more.iter().map(|(_, value)| format!(", {value}")).collect();
    let mut text = String::with_capacity(sql.len() + names.len() + values.len() * ends.len());
    text.push_str(&sql[..list_end]);
    text.push_str(&names);
    let mut added = vec![Change::new(list_end..list_end, &names)];
    let mut from = list_end;
    for end in ends {
        text.push_str(&sql[from..end]);
        text.push_str(&values);
        added.push(Change::new(end..end, &values));
        from = end;
    }
    text.push_str(&sql[from..]);
    Some((text, added))
}

/// The text of an INSERT with these values in place of DEFAULT in every row, and the changes that were made. `columns` are
/// those that the rows give values to, in their order; DEFAULT of one that has no value here stays. `None` if the statement
/// is not an INSERT with a list of rows, or says DEFAULT elsewhere.
pub fn without_defaults(
    sql: &str,
    strings: bool,
    columns: &[String],
    values: &[(String, String)],
) -> Option<(String, Vec<Change>)> {
    let target = Target::of(sql, strings)?;
    let mut cursor = target.rows(sql, strings)?;
    let (mut text, mut changes, mut from) = (String::with_capacity(sql.len()), Vec::new(), 0);
    loop {
        let mut inside = cursor.clone();
        let group = cursor.group()?;
        inside.bump();
        let (mut depth, mut field, mut begins) = (0usize, 0, true);
        while let Some(token) = inside.bump() {
            let is_end = token.kind == Kind::RParen && token.start >= group.end;
            if begins && inside.is(token, "default") {
                if !(inside.sees_kind(Kind::Comma) || inside.sees_kind(Kind::RParen)) {
                    return None;
                }
                let column = columns.get(field)?;
                if let Some((_, value)) = values.iter().find(|(name, _)| name == column) {
                    let at = target.rest + token.start..target.rest + token.end;
                    text.push_str(&sql[from..at.start]);
                    text.push_str(value);
                    from = at.end;
                    changes.push(Change::new(at, value));
                }
            } else if inside.is(token, "default") {
                return None;
            }
            begins = depth == 0 && token.kind == Kind::Comma;
            field += usize::from(begins);
            match token.kind {
                Kind::LParen | Kind::LBracket => depth += 1,
                _ if is_end => break,
                Kind::RParen | Kind::RBracket => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        if !cursor.eat_kind(Kind::Comma) {
            break;
        }
    }
    while let Some(token) = cursor.bump() {
        if cursor.is(token, "default") {
            return None;
        }
    }
    text.push_str(&sql[from..]);
    Some((text, changes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::{shows, sketched};

    #[test]
    fn every_row_gets_the_columns() {
        let more = [
            ("at".to_owned(), "X".to_owned()),
            ("A b".to_owned(), "(Y)".to_owned()),
        ];
        let cases = [
            (
                "INSERT INTO t (id) VALUES (1)",
                "INSERT INTO t (id, \"at\", \"A b\") VALUES (1, X, (Y))",
            ),
            (
                "insert into s.\"T\" as u (id, note) overriding user value values (1, f(')', 2)), ($1, (3)) on conflict (id) do nothing returning id;",
                "insert into s.\"T\" as u (id, note, \"at\", \"A b\") overriding user value values (1, f(')', 2), X, (Y)), ($1, (3), X, (Y)) on conflict (id) do nothing returning id;",
            ),
        ];
        for (sql, expected) in cases {
            let (written, changes) = filled(sql, true, &more).unwrap();
            assert_eq!(written, expected);
            assert!(shows(&sketched(sql, &changes), &written), "{changes:?}");
        }
        for other in [
            "INSERT INTO t VALUES (1)",
            "INSERT INTO t (id) SELECT 1",
            "INSERT INTO t DEFAULT VALUES",
            "INSERT INTO t (a[1]) VALUES (2)",
            "UPDATE t SET a = 1",
        ] {
            assert_eq!(filled(other, true, &more), None, "{other}");
        }
    }

    #[test]
    fn defaults_of_some_columns_are_written_out() {
        let columns = ["id", "at", "n"].map(str::to_owned);
        let values = [("at".to_owned(), "(X)".to_owned())];
        let cases = [
            (
                "INSERT INTO t (id, at, n) VALUES (1, DEFAULT, f(2, 3)), (DEFAULT, default , DEFAULT) RETURNING at;",
                "INSERT INTO t (id, at, n) VALUES (1, (X), f(2, 3)), (DEFAULT, (X) , DEFAULT) RETURNING at;",
            ),
            (
                "INSERT INTO t VALUES (1, 'DEFAULT', ARRAY[1, 2])",
                "INSERT INTO t VALUES (1, 'DEFAULT', ARRAY[1, 2])",
            ),
        ];
        for (sql, expected) in cases {
            let (written, changes) = without_defaults(sql, true, &columns, &values).unwrap();
            assert_eq!(written, expected);
            assert!(shows(&sketched(sql, &changes), &written), "{changes:?}");
        }
        for other in [
            "INSERT INTO t DEFAULT VALUES",
            "INSERT INTO t VALUES (1, DEFAULT) ON CONFLICT (id) DO UPDATE SET at = DEFAULT",
            "INSERT INTO t VALUES (1, 2, 3, DEFAULT)",
            "INSERT INTO t VALUES (1, DEFAULT + 1)",
            "UPDATE t SET at = DEFAULT",
        ] {
            let written = without_defaults(other, true, &columns, &values);
            assert_eq!(written, None, "{other}");
        }
    }

    #[test]
    fn rows_are_as_wide_as_they_are() {
        assert_eq!(
            width(
                "INSERT INTO t VALUES (1, f(2, 3), '(', ARRAY[1, 2]), (1, 2, 3, 4)",
                true
            ),
            Some(4)
        );
        assert_eq!(width("INSERT INTO t VALUES (1), (1, 2)", true), None);
        assert_eq!(width("INSERT INTO t SELECT 1", true), None);
    }

    #[test]
    fn what_is_written_to_is_read() {
        let read = |sql: &str| Target::of(sql, true).map(|t| (t.name, t.columns));
        let listed = |name: &str, columns: &[&str]| {
            Some((
                name.to_owned(),
                Some(columns.iter().map(|c| (*c).to_owned()).collect()),
            ))
        };
        assert_eq!(
            read("COPY S.Items (a, \"B\") FROM STDIN"),
            listed("items", &["a", "B"])
        );
        assert_eq!(read("COPY items FROM STDIN"), Some(("items".into(), None)));
        assert_eq!(
            read("MERGE INTO ONLY items USING x ON true"),
            Some(("items".into(), None))
        );
        assert_eq!(read("COPY (SELECT 1) TO STDOUT"), None);
        assert_eq!(read("SELECT 1"), None);
    }
}
