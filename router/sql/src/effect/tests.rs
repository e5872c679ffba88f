//! A list of statements and what is read from them.
//!
//! `cases.sql` has one statement a line; `\n`, `\t` and `\\` in it are a line break, a
//! tabulator and a backslash, `#` starts a heading, and `!` marks what PostgreSQL refuses. The
//! answers stand in `cases.expect`; `UPDATE_EXPECT=1` writes them, and then they are read.

use super::*;
use expect_test::expect_file;

fn unescaped(line: &str) -> String {
    line.replace("\\\\", "\u{0}")
        .replace("\\n", "\n")
        .replace("\\t", "\t")
        .replace('\u{0}', "\\")
}

fn cases() -> impl Iterator<Item = (&'static str, String)> {
    include_str!("cases.sql")
        .lines()
        .map(|line| (line, unescaped(line.strip_prefix("! ").unwrap_or(line))))
}

/// The statement with spans replaced by their text, and the flags that are raised.
fn shown(sql: &str) -> String {
    let analysis = analyse(sql.as_bytes(), true);
    let mut statement = format!("{:?}", analysis.statement);
    // Spans are shown as a..b; numbers in names are quoted, so that nothing else looks so.
    while let Some((from, to, span)) = first_span(&statement) {
        statement.replace_range(from..to, &format!("<{}>", &sql[span]));
    }
    let effects = &analysis.effects;
    let mut flags = vec![];
    if effects.writes != Writes::No {
        flags.push(format!("writes={:?}", effects.writes));
    }
    for (raised, name) in [
        (effects.locking, "locking"),
        (effects.session_unlock, "session_unlock"),
        (effects.transaction_lock, "transaction_lock"),
        (effects.sequence_write, "sequence_write"),
        (effects.outside_block, "outside_block"),
        (effects.uncertain, "uncertain"),
        (effects.reads_only(), "reads_only"),
    ] {
        if raised {
            flags.push(name.to_string());
        }
    }
    flags.extend(effects.pins().map(|pin| format!("pin={pin:?}")));
    if let SetConfig::Calls(calls) = &effects.set_config {
        flags.push(format!("{calls:?}"));
    }
    if !effects.functions.is_empty() {
        flags.push(format!("calls={:?}", effects.functions));
    }
    format!("{statement} | {}", flags.join(" "))
}

fn first_span(text: &str) -> Option<(usize, usize, std::ops::Range<usize>)> {
    let dots = text.find("..")?;
    let digits = |part: &str, rev: bool| {
        let count = |mut bytes: Box<dyn Iterator<Item = u8> + '_>| {
            let mut n = 0;
            while bytes.next().is_some_and(|b| b.is_ascii_digit()) {
                n += 1;
            }
            n
        };
        if rev {
            count(Box::new(part.bytes().rev()))
        } else {
            count(Box::new(part.bytes()))
        }
    };
    let from = dots - digits(&text[..dots], true);
    let to = dots + 2 + digits(&text[dots + 2..], false);
    Some((
        from,
        to,
        text[from..dots].parse().ok()?..text[dots + 2..to].parse().ok()?,
    ))
}

#[test]
fn every_statement_is_read_as_written_down() {
    let mut out = String::new();
    for (line, sql) in cases() {
        if line.starts_with('#') {
            out += &format!("{line}\n");
        } else {
            out += &format!("{line}\n    {}\n", shown(&sql));
        }
    }
    expect_file!["cases.expect"].assert_eq(&out);
}

#[test]
fn what_postgresql_refuses_is_never_taken_for_something() {
    for (line, sql) in cases().filter(|(line, _)| line.starts_with('!')) {
        assert_eq!(
            analyse(sql.as_bytes(), true).statement,
            Statement::Unclear,
            "{line}"
        );
        assert!(
            analyse(sql.as_bytes(), true)
                .effects
                .pins()
                .next()
                .is_some()
        );
    }
}

/// The same tokens with other white space, comments and case are the same statement.
#[test]
fn spacing_comments_and_case_change_nothing() {
    use crate::lexer::{Kind, Lexer};
    for (line, sql) in cases().filter(|(line, _)| !line.starts_with('#')) {
        let mut odd = std::string::String::from(" /* a; /* b' */ */");
        let mut canonical = String::new();
        for token in Lexer::new(sql.as_bytes(), true) {
            let text = &sql[token.start..token.end];
            let swapped: String = text
                .chars()
                .map(|c| {
                    if c.is_ascii_uppercase() {
                        c.to_ascii_lowercase()
                    } else {
                        c.to_ascii_uppercase()
                    }
                })
                .collect();
            odd += if token.kind == Kind::Word {
                &swapped
            } else {
                text
            };
            odd += "\n-- it's; \"\n\t/**/";
            canonical += text;
            canonical += " ";
        }
        // Spans are shown as text, so compare what is shown with blanks and case taken out.
        let plain = |sql: &str| {
            let mut text = shown(sql).to_ascii_lowercase();
            text = text.replace("\n-- it's; \"\n\t/**/", "");
            text.retain(|c| !c.is_whitespace());
            text
        };
        if !sql.contains("--") && !analyse(sql.as_bytes(), true).effects.uncertain {
            assert_eq!(plain(&odd), plain(&canonical), "{line}");
        }
    }
}

#[test]
fn the_setting_for_backslashes_is_obeyed() {
    let sql = br"set application_name = 'a\'; commit; --'";
    assert_eq!(analyse(sql, true).statement, Statement::Several);
    assert!(matches!(
        analyse(sql, false).statement,
        Statement::Set { .. }
    ));
}
