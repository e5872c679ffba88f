//! Splits the query string of a simple query into its statements.
//!
//! A statement ends at every `;` outside of quotes, comments and parentheses (the actions of CREATE RULE stand in them)
//! and outside of the `BEGIN ATOMIC ... END` body of an SQL function. PostgreSQL parses the whole query string before
//! it runs any of it: if one statement has a syntax error, none is executed. A caller that sends the statements one by
//! one has to see to that itself.

use super::cursor::Span;
use super::lexer::{Kind, Lexer, Token};

/// One statement of a simple query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// From its first token to its last, without the `;`. If it has no token, the empty span before the `;`.
    pub span: Span,
    /// It is only white space and comments. PostgreSQL drops such statements, and answers EmptyQueryResponse only if
    /// all statements of a query string are like that.
    pub empty: bool,
    /// It has a token that never ends, that begins nothing PostgreSQL knows, or that versions of PostgreSQL read
    /// differently.
    pub uncertain: bool,
}

/// Splits `sql` into its statements. A final `;` is not followed by another, empty statement; a query string without
/// any token has no statements.
pub fn split(sql: &[u8], standard_conforming_strings: bool) -> Split<'_> {
    Split {
        sql,
        lexer: Lexer::new(sql, standard_conforming_strings),
        done: false,
    }
}

/// Iterates over the statements of a query string. See [`split`].
#[derive(Clone, Debug)]
pub struct Split<'a> {
    sql: &'a [u8],
    lexer: Lexer<'a>,
    done: bool,
}

impl Iterator for Split<'_> {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        if self.done {
            return None;
        }
        let mut body = Body::new(self.sql);
        let mut span: Option<Span> = None;
        let mut uncertain = false;
        let mut depth = 0usize;
        loop {
            let Some(token) = self.lexer.next() else {
                self.done = true;
                return span.map(|span| Part {
                    span,
                    empty: false,
                    uncertain,
                });
            };
            if token.kind == Kind::Semicolon && depth == 0 && !body.open() {
                let empty = span.is_none();
                let span = span.unwrap_or(Span {
                    start: token.start,
                    end: token.start,
                });
                return Some(Part {
                    span,
                    empty,
                    uncertain,
                });
            }
            match token.kind {
                Kind::LParen => depth += 1,
                Kind::RParen => depth = depth.saturating_sub(1),
                _ => {}
            }
            uncertain |= token.kind.is_uncertain();
            body.see(token, depth);
            span = Some(Span {
                start: span.map_or(token.start, |s| s.start),
                end: token.end,
            });
        }
    }
}

/// Recognises the body of `CREATE [OR REPLACE] {FUNCTION | PROCEDURE} ... BEGIN ATOMIC`.
struct Body<'a> {
    sql: &'a [u8],
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Create,
    Or,
    Replace,
    /// In the head of a function or procedure. `begin`: the last token was BEGIN.
    Routine {
        begin: bool,
    },
    /// In the body. Each statement of it ends in `;`, so the END that closes the body stands after a `;` or after
    /// ATOMIC (`between`). Any other END belongs to a CASE or is a label.
    Atomic {
        between: bool,
    },
    Other,
}

impl<'a> Body<'a> {
    fn new(sql: &'a [u8]) -> Self {
        Body {
            sql,
            state: State::Start,
        }
    }

    fn open(&self) -> bool {
        matches!(self.state, State::Atomic { .. })
    }

    fn see(&mut self, token: Token, depth: usize) {
        let is = |word: &str| {
            token.kind == Kind::Word && token.text(self.sql).eq_ignore_ascii_case(word.as_bytes())
        };
        self.state = match self.state {
            State::Start if is("create") => State::Create,
            State::Create if is("or") => State::Or,
            State::Or if is("replace") => State::Replace,
            State::Create | State::Replace if is("function") || is("procedure") => {
                State::Routine { begin: false }
            }
            State::Routine { begin: true } if is("atomic") => State::Atomic { between: true },
            State::Routine { .. } => State::Routine {
                begin: depth == 0 && is("begin"),
            },
            State::Atomic { between: true } if is("end") => State::Other,
            State::Atomic { .. } => State::Atomic {
                between: token.kind == Kind::Semicolon,
            },
            _ => State::Other,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, want: &[&str]) {
        let got: Vec<&str> = split(sql.as_bytes(), true)
            .map(|p| &sql[p.span.start..p.span.end])
            .collect();
        assert_eq!(got, want, "{sql}");
    }

    #[test]
    fn statements_end_at_semicolons_outside_of_everything() {
        check("", &[]);
        check(" -- nothing\n /* at all */ ", &[]);
        check(";", &[""]);
        check(" ; ; ", &["", ""]);
        check("select 1", &["select 1"]);
        check(" select 1 ; ", &["select 1"]);
        check("select 1;select 2", &["select 1", "select 2"]);
        check(
            "select ';', \";\", $$;$$, $a$;$$;$a$, E'\\';', U&';'; x",
            &["select ';', \";\", $$;$$, $a$;$$;$a$, E'\\';', U&';'", "x"],
        );
        check(
            "a /* ; /* ; */ ; */ b; -- ;\nc",
            &["a /* ; /* ; */ ; */ b", "c"],
        );
        check("select 'a;\n' \n ';b'; c", &["select 'a;\n' \n ';b'", "c"]);
        check("a$b$;c$b$;d", &["a$b$", "c$b$", "d"]);
        check("select 1; 'open ; x", &["select 1", "'open ; x"]);
        check("select 1; /* open ; x", &["select 1", "/* open ; x"]);
    }

    #[test]
    fn rule_actions_and_function_bodies_keep_their_semicolons() {
        check(
            "create rule r as on insert to t do also (insert into a values (1); delete from b); x",
            &[
                "create rule r as on insert to t do also (insert into a values (1); delete from b)",
                "x",
            ],
        );
        check(
            "create function f() returns int begin atomic select 1; select case when true then 2 end; end; x",
            &[
                "create function f() returns int begin atomic select 1; select case when true then 2 end; end",
                "x",
            ],
        );
        check(
            "CREATE OR REPLACE PROCEDURE p() LANGUAGE sql BEGIN /* c */ ATOMIC END; x",
            &[
                "CREATE OR REPLACE PROCEDURE p() LANGUAGE sql BEGIN /* c */ ATOMIC END",
                "x",
            ],
        );
        check(
            "create function f() returns int begin atomic select 1 as end; select a.end from a; end; commit",
            &[
                "create function f() returns int begin atomic select 1 as end; select a.end from a; end",
                "commit",
            ],
        );
        // Elsewhere BEGIN starts a transaction or is a name.
        check(
            "begin; create function begin() returns int return 1; end; x",
            &[
                "begin",
                "create function begin() returns int return 1",
                "end",
                "x",
            ],
        );
        check("begin atomic; x; end", &["begin atomic", "x", "end"]);
        check(
            "create function f(begin int) returns int as $$begin atomic; end$$ language sql; x",
            &[
                "create function f(begin int) returns int as $$begin atomic; end$$ language sql",
                "x",
            ],
        );
    }

    #[test]
    fn backslashes_escape_only_where_the_session_says_so() {
        let sql = br"select 'a\'; b'; c";
        assert_eq!(split(sql, true).count(), 2);
        assert_eq!(split(sql, false).count(), 2);
        assert_eq!(
            split(sql, true).next().map(|p| p.span),
            Some(Span { start: 0, end: 11 })
        );
        assert_eq!(
            split(sql, false).next().map(|p| p.span),
            Some(Span { start: 0, end: 15 })
        );
    }

    #[test]
    fn uncertain_parts_are_marked() {
        let flags = |sql: &str| {
            split(sql.as_bytes(), true)
                .map(|p| p.uncertain)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            flags("select 1; select 0x1f; select 'open"),
            [false, true, true]
        );
        assert_eq!(flags("select {; b"), [true, false]);
    }
}
