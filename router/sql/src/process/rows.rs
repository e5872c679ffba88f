//! Signals to processes whose numbers stand in the rows of a table: `SELECT pg_cancel_backend(pid) FROM workers`.
//!
//! Only the router knows which number is that of another client. So it reads the numbers first, sends the signals to its
//! own clients itself, and then runs the statement with a call that leaves those out.

use super::{BEHIND_FROM, GREATEST, MARK, OWN, ProcessAction, RewrittenQuery, is_told_by};
use crate::cursor::{Cursor, Span};
use crate::lexer::Kind;
use crate::name::identifier;
use crate::places::Change;
use crate::split::split;

/// Who keeps more numbers of clients than this in one table does not get them signalled.
pub const MAX_NUMBERS: usize = 1000;

/// One call for each row, of a column, and no other clause than FROM and WHERE, in which nothing is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalRows {
    /// Which of the two functions.
    pub action: ProcessAction,
    /// The call.
    call: Span,
    /// Its first argument.
    number: Span,
    /// What follows it in the call: how long to wait.
    wait: Span,
    /// FROM and WHERE.
    from: Span,
}

/// What became of the numbers that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signalled {
    /// Their clients were signalled.
    pub done: Vec<i32>,
    /// No client has them: the server says so in its own words.
    pub unknown: Vec<i32>,
}

impl SignalRows {
    /// Reads a text of one statement; `None` if it is another one.
    pub fn of(sql: &[u8], strings: bool) -> Option<SignalRows> {
        let mut cursor = Cursor::new(sql, strings);
        if !cursor.eat("select") {
            return None;
        }
        let start = cursor.at();
        let path = cursor.path()?;
        let name = match path.as_slice() {
            [name] => name,
            [schema, name] if *schema == "pg_catalog" => name,
            _ => return None,
        };
        let mut actions = [ProcessAction::Cancel, ProcessAction::Terminate].into_iter();
        let action = actions.find(|action| *name == action.function())?;
        if !cursor.eat_kind(Kind::LParen) {
            return None;
        }
        let at = cursor.at();
        cursor.path()?;
        let number = Span {
            start: at,
            end: cursor.taken(),
        };
        if cursor.eat_kind(Kind::Comma) && !cursor.eat_kind(Kind::Integer) {
            return None;
        }
        let wait = Span {
            start: number.end,
            end: cursor.taken(),
        };
        if !cursor.eat_kind(Kind::RParen) {
            return None;
        }
        let call = Span {
            start,
            end: cursor.taken(),
        };
        if cursor.eat("as") || !cursor.sees("from") {
            cursor.name()?;
        }
        let from = cursor.rest();
        if !cursor.eat("from") {
            return None;
        }
        while let Some(token) = cursor.bump() {
            let is_called = matches!(token.kind, Kind::LParen | Kind::Param);
            let another = BEHIND_FROM.iter().any(|word| cursor.is(token, word));
            let name = identifier(token, sql, b'\\');
            if is_called || another || name.is_some_and(|name| is_told_by(name.as_bytes())) {
                return None;
            }
        }
        let parts = split(sql, strings).filter(|part| !part.empty);
        (cursor.at_end() && parts.count() == 1).then_some(SignalRows {
            action,
            call,
            number,
            wait,
            from,
        })
    }

    /// The question which numbers of clients it names: one row with an array of them, one more than [`MAX_NUMBERS`] at most,
    /// or NULL. It fails as the statement does where the call is none for the type of the column.
    pub fn question(&self, sql: &[u8]) -> Vec<u8> {
        let (number, from) = (self.number.of(sql), self.from.of(sql));
        let call = [b"CASE WHEN false THEN ", self.call.of(sql), b" END"].concat();
        let head = b"SELECT pg_catalog.array_agg(mothership.pid)::pg_catalog.text FROM \
            (SELECT DISTINCT mothership.pid FROM (SELECT (";
        let tail = format!(
            ") AS mothership (pid, call) WHERE mothership.pid OPERATOR(pg_catalog.>) {GREATEST} LIMIT {}) AS mothership (pid)",
            MAX_NUMBERS + 1
        );
        let number = [number, b")::pg_catalog.int4, ".as_slice()].concat();
        [head.as_slice(), &number, &call, b" ", from, tail.as_bytes()].concat()
    }

    /// The text that runs then. `own` is the number of the client itself.
    pub fn carried_out(&self, sql: &[u8], own: i32, signalled: &Signalled) -> RewrittenQuery {
        let function = self.action.function();
        let text = |span: Span| String::from_utf8_lossy(span.of(sql)).into_owned();
        let (number, wait) = (text(self.number), text(self.wait));
        let put = format!(
            "(SELECT CASE WHEN mothership.pid OPERATOR(pg_catalog.=) ANY ('{done}'::pg_catalog.int4[]) THEN true \
             ELSE pg_catalog.{function}(CASE WHEN mothership.pid OPERATOR(pg_catalog.=) {own} THEN {OWN} \
             WHEN mothership.pid OPERATOR(pg_catalog.>) {GREATEST} \
             AND mothership.pid OPERATOR(pg_catalog.<>) ALL ('{unknown}'::pg_catalog.int4[]) \
             THEN ('{MARK}' OPERATOR(pg_catalog.||) mothership.pid)::pg_catalog.int4 \
             ELSE mothership.pid END{wait}) END AS \"{function}\" \
             FROM (SELECT ({number})::pg_catalog.int4) AS mothership (pid))",
            done = array(&signalled.done),
            unknown = array(&signalled.unknown),
        );
        let (before, behind) = (&sql[..self.call.start], &sql[self.call.end..]);
        RewrittenQuery {
            sql: [before, put.as_bytes(), behind].concat(),
            changes: vec![Change::new(self.call.start..self.call.end, &put)],
        }
    }
}

/// Reads the answer to [`SignalRows::question`]. `None` if it is not one, or has more than [`MAX_NUMBERS`].
pub fn numbers(answer: Option<&str>) -> Option<Vec<i32>> {
    let Some(answer) = answer else {
        return Some(Vec::new());
    };
    let list = answer.strip_prefix('{')?.strip_suffix('}')?;
    let numbers: Option<Vec<i32>> = list.split(',').map(|number| number.parse().ok()).collect();
    numbers.filter(|numbers| numbers.len() <= MAX_NUMBERS)
}

fn array(numbers: &[i32]) -> String {
    let numbers: Vec<_> = numbers.iter().map(i32::to_string).collect();
    format!("{{{}}}", numbers.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sql: &str) -> Option<SignalRows> {
        SignalRows::of(sql.as_bytes(), true)
    }

    #[test]
    fn a_call_of_a_column_is_read_and_whatever_else_is_computed_is_not() {
        for sql in [
            "SELECT pg_cancel_backend(pid) FROM workers",
            "select pg_catalog.pg_terminate_backend(w.pid, 100) AS ended from app.workers w where w.age > 5 and w.name = 'a';",
            "SELECT pg_cancel_backend(pid) done FROM a JOIN b ON a.id = b.id",
        ] {
            assert!(read(sql).is_some(), "{sql}");
        }
        for sql in [
            "SELECT pg_cancel_backend(pid)",
            "SELECT pg_cancel_backend(12) FROM workers",
            "SELECT pg_cancel_backend(pid), 1 FROM workers",
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity",
            "SELECT pg_cancel_backend(pid) FROM workers WHERE f(pid)",
            "SELECT pg_cancel_backend(pid) FROM workers WHERE id = $1",
            "SELECT pg_cancel_backend(pid) FROM workers LIMIT 1",
            "SELECT pg_cancel_backend(pid) FROM workers UNION SELECT true",
            "SELECT pg_cancel_backend(pid) FROM workers; SELECT 1",
            "SELECT pg_blocking_pids(pid) FROM workers",
        ] {
            assert_eq!(read(sql), None, "{sql}");
        }
    }

    #[test]
    fn the_question_keeps_from_and_where_and_the_rest_keeps_its_place() {
        let sql = b"SELECT pg_cancel_backend(w.pid) FROM workers w WHERE w.age > 5";
        let rows = SignalRows::of(sql, true).unwrap();
        let question = String::from_utf8(rows.question(sql)).unwrap();
        let asked = "(w.pid)::pg_catalog.int4, CASE WHEN false THEN pg_cancel_backend(w.pid) END FROM workers w WHERE w.age > 5)";
        assert!(question.contains(asked), "{question}");
        let signalled = Signalled {
            done: vec![7, 8],
            unknown: vec![9],
        };
        let told = rows.carried_out(sql, 6, &signalled);
        let text = String::from_utf8(told.sql).unwrap();
        assert!(text.contains("'{7,8}'") && text.contains("'{9}'"));
        assert!(text.ends_with(") FROM workers w WHERE w.age > 5"));
    }

    #[test]
    fn an_answer_is_a_list_of_bounded_length() {
        assert_eq!(numbers(None), Some(vec![]));
        assert_eq!(numbers(Some("{5,6}")), Some(vec![5, 6]));
        assert_eq!(numbers(Some("5")), None);
        let many = vec!["5"; MAX_NUMBERS + 1].join(",");
        assert_eq!(numbers(Some(&format!("{{{many}}}"))), None);
    }
}
