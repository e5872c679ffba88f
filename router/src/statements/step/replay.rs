//! What the router says later in place of a statement of the client's: a SET, a SET LOCAL, the modes of a transaction.
//!
//! A client's text means what it means under the settings it was read by. Said again under another value of
//! `standard_conforming_strings`, what stood in a string can become statements. So names and values are read once, here,
//! and written in words that read the same under every setting: quoted identifiers, escape strings, numbers, keywords.
//! What cannot be written so with certainty is `None`, and the caller pins the session or refuses.

use super::super::settings::push_name;
use mothership_sql::cursor::Cursor;
use mothership_sql::effect::{Isolation, Modes, Scope, SetValue, Statement, Target};
use mothership_sql::lexer::Kind;
use mothership_sql::name::Name;
use mothership_sql::quote::push_literal;

/// The router's own text for `statement`, which was read from `text`.
pub(crate) fn replayed(statement: &Statement<'_>, text: &[u8], scs: bool) -> Option<String> {
    use Statement as S;
    match statement {
        S::Set { scope, name, value } => {
            let mut sql = opening(*scope);
            let name = ascii(name)?;
            match value {
                SetValue::Default => {
                    push_name(&mut sql, name);
                    sql.push_str(" TO DEFAULT");
                }
                SetValue::FromCurrent => return None,
                SetValue::Given { span, .. } => {
                    let mut c = Cursor::new(span.of(text), scs);
                    match name == "timezone" && is_interval(&c) {
                        true => {
                            sql.push_str("TIME ZONE ");
                            push_interval(&mut sql, &mut c)?;
                        }
                        false => {
                            push_name(&mut sql, name);
                            sql.push_str(" TO ");
                            push_items(&mut sql, &mut c)?;
                        }
                    }
                }
            }
            Some(sql)
        }
        S::Reset(name) => {
            let mut sql = String::from("RESET ");
            push_name(&mut sql, ascii(name)?);
            Some(sql)
        }
        S::SetRole { scope, role } => {
            let mut sql = opening(*scope);
            match role {
                Target::Role(name) => {
                    sql.push_str("ROLE ");
                    push_literal(&mut sql, ascii(name)?);
                }
                Target::Original => sql.push_str("\"role\" TO DEFAULT"),
            }
            Some(sql)
        }
        S::SetSessionAuthorization { scope, role } => {
            let mut sql = opening(*scope);
            sql.push_str("SESSION AUTHORIZATION ");
            match role {
                Target::Role(name) => push_literal(&mut sql, ascii(name)?),
                Target::Original => sql.push_str("DEFAULT"),
            }
            Some(sql)
        }
        S::SetTransaction(modes) => Some(format!("SET TRANSACTION {}", written(*modes))),
        S::SetTransactionSnapshot(id) => {
            let mut sql = String::from("SET TRANSACTION SNAPSHOT ");
            push_literal(&mut sql, ascii(id)?);
            Some(sql)
        }
        S::SetConstraints => constraints(text, scs),
        _ => None,
    }
}

/// Modes as BEGIN takes them.
pub fn written(modes: Modes) -> String {
    let isolation = modes.isolation.map(|level| match level {
        Isolation::ReadUncommitted => "ISOLATION LEVEL READ UNCOMMITTED",
        Isolation::ReadCommitted => "ISOLATION LEVEL READ COMMITTED",
        Isolation::RepeatableRead => "ISOLATION LEVEL REPEATABLE READ",
        Isolation::Serializable => "ISOLATION LEVEL SERIALIZABLE",
    });
    let access = modes.read_only.map(|only| match only {
        true => "READ ONLY",
        false => "READ WRITE",
    });
    let deferrable = modes.deferrable.map(|deferrable| match deferrable {
        true => "DEFERRABLE",
        false => "NOT DEFERRABLE",
    });
    let words: Vec<_> = [isolation, access, deferrable]
        .into_iter()
        .flatten()
        .collect();
    words.join(", ")
}

fn opening(scope: Scope) -> String {
    let words = match scope {
        Scope::Session => "SET ",
        Scope::Local => "SET LOCAL ",
    };
    words.to_owned()
}

/// A name or a value that is the same bytes in every client encoding.
fn ascii<'n>(name: &'n Name<'_>) -> Option<&'n str> {
    name.as_str()
        .filter(|text| text.is_ascii() && !text.contains('\0'))
}

/// Words, strings and numbers with commas between them, to the end.
fn push_items(sql: &mut String, c: &mut Cursor<'_>) -> Option<()> {
    loop {
        push_item(sql, c)?;
        if !c.eat_kind(Kind::Comma) {
            return c.at_end().then_some(());
        }
        sql.push_str(", ");
    }
}

fn push_item(sql: &mut String, c: &mut Cursor<'_>) -> Option<()> {
    let minus = c.eat_operator("-");
    let signed = minus || c.eat_operator("+");
    let token = c.peek()?;
    if matches!(token.kind, Kind::Integer | Kind::Decimal) {
        c.bump();
        if minus {
            sql.push('-');
        }
        sql.push_str(std::str::from_utf8(token.text(c.sql())).ok()?);
        return Some(());
    }
    if signed {
        return None;
    }
    let value = c.string().or_else(|| c.name())?;
    push_literal(sql, ascii(&value)?);
    Some(())
}

/// Whether `INTERVAL '...'` comes, and not a value that is that word.
fn is_interval(c: &Cursor<'_>) -> bool {
    let mut ahead = c.clone();
    ahead.eat("interval") && !ahead.at_end()
}

/// `INTERVAL '+02:00' HOUR TO MINUTE`. One that IntervalStyle could have a say in is not written again.
fn push_interval(sql: &mut String, c: &mut Cursor<'_>) -> Option<()> {
    while let Some(token) = c.peek() {
        let text = std::str::from_utf8(token.text(c.sql())).ok()?;
        match token.kind {
            Kind::Word | Kind::Integer | Kind::LParen | Kind::RParen => {
                sql.push_str(&text.to_ascii_lowercase());
                c.bump();
            }
            _ => {
                let value = c.string()?;
                let plain = |b: &u8| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b':');
                if !value.as_bytes().iter().all(plain) {
                    return None;
                }
                push_literal(sql, ascii(&value)?);
            }
        }
        sql.push(' ');
    }
    sql.truncate(sql.trim_end().len());
    Some(())
}

/// `SET CONSTRAINTS {ALL | name [, ...]} {DEFERRED | IMMEDIATE}`. Names stay as the bytes that they are: they are said
/// again in the encoding in which they were said.
fn constraints(text: &[u8], scs: bool) -> Option<String> {
    let mut c = Cursor::new(text, scs);
    if !c.eat_all(&["set", "constraints"]) {
        return None;
    }
    let mut sql = String::from("SET CONSTRAINTS ");
    let ahead = c.clone();
    let all = c.eat("all") && c.sees_any(&["deferred", "immediate"]);
    if all {
        sql.push_str("ALL");
    } else {
        c = ahead;
        loop {
            let path = c.path()?;
            for (i, part) in path.iter().enumerate() {
                if i > 0 {
                    sql.push('.');
                }
                push_identifier(&mut sql, part.as_str()?);
            }
            if !c.eat_kind(Kind::Comma) {
                break;
            }
            sql.push_str(", ");
        }
    }
    let deferred = c.eat("deferred");
    if !deferred && !c.eat("immediate") {
        return None;
    }
    sql.push_str(if deferred { " DEFERRED" } else { " IMMEDIATE" });
    c.at_end().then_some(sql)
}

fn push_identifier(sql: &mut String, name: &str) {
    sql.push('"');
    sql.push_str(&name.replace('"', "\"\""));
    sql.push('"');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use mothership_sql::effect::analyse;

    fn own(sql: &str, scs: bool) -> Option<String> {
        let statement = analyse(sql.as_bytes(), scs).statement;
        replayed(&statement, sql.as_bytes(), scs)
    }

    #[test]
    fn what_is_said_again_reads_the_same_under_every_setting() {
        let cases = [
            (
                "SET a.b TO 'x\\'; DROP TABLE t; --'",
                false,
                "SET \"a\".\"b\" TO E'x''; DROP TABLE t; --'",
            ),
            ("SET a.b TO 'C:\\'", true, "SET \"a\".\"b\" TO E'C:\\\\'"),
            (
                "set session Search_Path = \"$user\", Public, 'x y'",
                true,
                "SET \"search_path\" TO E'$user', E'public', E'x y'",
            ),
            (
                "SET LOCAL work_mem = 64",
                true,
                "SET LOCAL \"work_mem\" TO 64",
            ),
            ("SET x.y TO - 1.5, +2", true, "SET \"x\".\"y\" TO -1.5, 2"),
            ("SET x.y TO $a$it's$a$", true, "SET \"x\".\"y\" TO E'it''s'"),
            (
                "SET a.b TO U&'d\\0061ta'",
                true,
                "SET \"a\".\"b\" TO E'data'",
            ),
            ("SET TIME ZONE 'UTC'", true, "SET \"timezone\" TO E'UTC'"),
            (
                "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE",
                true,
                "SET TIME ZONE interval E'-08:00' hour to minute",
            ),
            (
                "SET NAMES 'utf8'",
                true,
                "SET \"client_encoding\" TO E'utf8'",
            ),
            (
                "SET XML OPTION DOCUMENT",
                true,
                "SET \"xmloption\" TO E'document'",
            ),
            ("SET SCHEMA 'a'", true, "SET \"search_path\" TO E'a'"),
            ("SET ROLE \"Bob\"", true, "SET ROLE E'Bob'"),
            ("SET LOCAL ROLE NONE", true, "SET LOCAL ROLE E'none'"),
            (
                "SET LOCAL role TO DEFAULT",
                true,
                "SET LOCAL \"role\" TO DEFAULT",
            ),
            (
                "SET SESSION AUTHORIZATION 'b\\\\c'",
                false,
                "SET SESSION AUTHORIZATION E'b\\\\c'",
            ),
            (
                "SET TRANSACTION /* ' */ READ ONLY, ISOLATION LEVEL serializable",
                true,
                "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY",
            ),
            (
                "SET TRANSACTION SNAPSHOT '0-1'",
                true,
                "SET TRANSACTION SNAPSHOT E'0-1'",
            ),
            (
                "SET CONSTRAINTS all DEFERRED",
                true,
                "SET CONSTRAINTS ALL DEFERRED",
            ),
            (
                "SET CONSTRAINTS s.a, U&\"\\0062\" IMMEDIATE",
                true,
                "SET CONSTRAINTS \"s\".\"a\", \"b\" IMMEDIATE",
            ),
        ];
        for (sql, scs, want) in cases {
            let said = own(sql, scs).unwrap();
            assert_eq!(said, want, "{sql}");
            for scs in [true, false] {
                assert_eq!(own(&said, scs).as_deref(), Some(want), "{said}");
            }
        }
    }

    #[test]
    fn what_is_not_certain_is_not_said_again() {
        for sql in [
            "SET a.b TO E'\\u00fc'",
            "SET a.b TO 'ü'",
            "SET a.b FROM CURRENT",
            "SET TIME ZONE INTERVAL '-1 2:00' DAY TO MINUTE",
            "SET \"ü.b\" TO 1",
        ] {
            assert_eq!(own(sql, true), None, "{sql}");
        }
    }
}
