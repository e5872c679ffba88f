//! The time in a statement's text: where it is asked for, and the same text with a fixed time in these places.
//!
//! Pure. `now()` is one value in a transaction of PostgreSQL. Where a transaction is on
//! several servers each has its own, so that texts are given the time of the first. A
//! fixed time is a query of its own, `(SELECT '...'::timestamptz AS "now")`: PostgreSQL
//! names a column after it as it does after the call. What is not certain is
//! [`Unclear`], which the caller refuses.

use super::clauses::{Clause, Clauses};
use super::cursor::Cursor;
use super::lexer::{Kind, Token};
use super::places::Change;

/// A moment for each kind of time, in UTC, as `2026-11-21 01:02:03.000004`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moments {
    /// When the transaction began.
    pub transaction: String,
    /// When the statement began.
    pub statement: String,
}

impl Moments {
    /// Without the microseconds.
    pub fn in_milliseconds(&self) -> Moments {
        let cut = |moment: &String| match moment.split_once('.') {
            Some((seconds, part)) if part.len() > 3 => format!("{seconds}.{}", &part[..3]),
            _ => moment.clone(),
        };
        Moments {
            transaction: cut(&self.transaction),
            statement: cut(&self.statement),
        }
    }
}

/// Where a text asks for the time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    spots: Vec<Spot>,
}

/// A time that cannot be fixed: what stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unclear(pub String);

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Spot {
    start: usize,
    end: usize,
    what: What,
    /// As PostgreSQL names a column after it.
    name: &'static str,
    /// `(3)`
    precision: Option<String>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Statement,
    Transaction(&'static str),
}

const FUNCTIONS: [(&str, What); 3] = [
    ("now", What::Transaction("timestamptz")),
    ("transaction_timestamp", What::Transaction("timestamptz")),
    ("statement_timestamp", What::Statement),
];

const KEYWORDS: [(&str, &str); 5] = [
    ("current_timestamp", "timestamptz"),
    ("current_date", "date"),
    ("current_time", "timetz"),
    ("localtimestamp", "timestamp"),
    ("localtime", "time"),
];

/// Words that dates and times read as times of the transaction, in strings.
const IN_STRINGS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];

/// Words after which an expression stands. After others `current_date` may be the name of a column.
const BEFORE: [&str; 24] = [
    "select",
    "distinct",
    "all",
    "when",
    "then",
    "else",
    "case",
    "and",
    "or",
    "not",
    "where",
    "on",
    "having",
    "by",
    "between",
    "symmetric",
    "like",
    "ilike",
    "to",
    "returning",
    "from",
    "limit",
    "offset",
    "set",
];

/// Whether a body of code, a view or an expression may ask for the time. `age` and `now` may be names of columns: they ask
/// where they are called, or, of `now`, in a string.
pub fn may_ask(code: &str) -> bool {
    let lower = code.to_ascii_lowercase();
    let has_strings = lower.contains(['\'', '$', '\\']);
    // A dollar may end the tag of a quoted text.
    let is_in_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = &*lower;
    while let Some(start) = rest.find(is_in_word) {
        let text = &rest[start..];
        let end = text.find(|c| !is_in_word(c)).unwrap_or(text.len());
        let (word, behind) = text.split_at(end);
        rest = behind;
        let asks = KEYWORDS.iter().any(|(name, _)| *name == word)
            || IN_STRINGS.contains(&word) && has_strings
            || is_called(behind)
                && (word == "age" || FUNCTIONS.iter().any(|(name, _)| *name == word));
        if asks {
            return true;
        }
    }
    false
}

/// Whether what follows a name may be the arguments of a call: a comment may stand before them.
fn is_called(behind: &str) -> bool {
    let behind = behind.trim_start_matches('"').trim_start();
    behind.starts_with('(') || behind.starts_with("--") || behind.starts_with("/*")
}

/// Whether a function of this name asks for the time.
pub fn is_word_of_time(word: &str) -> bool {
    word == "age"
        || FUNCTIONS.iter().any(|(name, _)| *name == word)
        || KEYWORDS.iter().any(|(name, _)| *name == word)
}

/// Whether a value in text is a time that depends on when it is read.
pub fn is_moving(value: &[u8]) -> bool {
    const LONGEST: usize = 64;
    let Ok(text) = std::str::from_utf8(value) else {
        return false;
    };
    if text.len() > LONGEST {
        return false;
    }
    let lower = text.to_ascii_lowercase();
    let mut words = lower
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|w| !w.is_empty());
    let others = ["utc", "gmt", "z", "am", "pm", "t", "allballs"];
    let known = |word: &str| {
        IN_STRINGS.contains(&word)
            || others.contains(&word)
            || word.starts_with(|c: char| c.is_ascii_digit())
    };
    words.clone().any(|word| IN_STRINGS.contains(&word)) && words.all(known)
}

impl Uses {
    /// Reads a statement.
    ///
    /// # Errors
    /// What asks for a time that cannot be fixed.
    pub fn of(sql: &str, standard_conforming_strings: bool) -> Result<Self, Unclear> {
        let bytes = sql.as_bytes();
        let mut cursor = Cursor::new(bytes, standard_conforming_strings);
        while cursor.skip_semicolon() {}
        let mut tokens: Vec<Token> = Vec::new();
        while let Some(token) = cursor.bump() {
            tokens.push(token);
        }
        let reader = Reader {
            sql,
            tokens: &tokens,
            strings: standard_conforming_strings,
        };
        reader.read()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spots.is_empty()
    }

    /// Whether the time of the statement is among them.
    pub fn need_statement(&self) -> bool {
        self.spots.iter().any(|spot| spot.what == What::Statement)
    }

    /// The text with these times.
    pub fn fixed(&self, sql: &str, moments: &Moments) -> String {
        let mut text = String::with_capacity(sql.len() + 80 * self.spots.len());
        let mut from = 0;
        for spot in &self.spots {
            text.push_str(&sql[from..spot.start]);
            text.push_str(&spot.fixed(moments));
            from = spot.end;
        }
        text.push_str(&sql[from..]);
        text
    }

    /// The same where a query within may not stand, and no column takes its name.
    pub fn fixed_plainly(&self, sql: &str, moments: &Moments) -> String {
        let mut text = String::with_capacity(sql.len() + 80 * self.spots.len());
        let mut from = 0;
        for spot in &self.spots {
            text.push_str(&sql[from..spot.start]);
            text.push_str(&format!("({})", spot.value(moments)));
            from = spot.end;
        }
        text.push_str(&sql[from..]);
        text
    }

    /// How that text differs.
    pub fn plain_changes(&self, moments: &Moments) -> Vec<Change> {
        let by = |spot: &Spot| format!("({})", spot.value(moments));
        let change = |spot: &Spot| Change::new(spot.start..spot.end, &by(spot));
        self.spots.iter().map(change).collect()
    }

    /// How [`Self::fixed`] differs.
    pub fn changes(&self, moments: &Moments) -> Vec<Change> {
        let change = |spot: &Spot| Change::new(spot.start..spot.end, &spot.fixed(moments));
        self.spots.iter().map(change).collect()
    }
}

/// Whether a text with fixed times is one value, however often it is computed: it calls no other function than those
/// that compute with times.
pub fn is_one_value(sql: &str) -> bool {
    const CALLS: [&str; 6] = [
        "timezone",
        "date_trunc",
        "timestamptz",
        "timestamp",
        "time",
        "timetz",
    ];
    let mut cursor = Cursor::new(sql.as_bytes(), true);
    while let Some(token) = cursor.bump() {
        if matches!(token.kind, Kind::Word | Kind::QuotedIdent)
            && cursor.sees_kind(Kind::LParen)
            && !CALLS.contains(&&sql[token.start..token.end])
        {
            return false;
        }
    }
    true
}

impl Spot {
    /// The value in its place, by the name of the call.
    fn fixed(&self, moments: &Moments) -> String {
        format!("(SELECT {} AS \"{}\")", self.value(moments), self.name)
    }

    fn value(&self, moments: &Moments) -> String {
        let (moment, to) = match self.what {
            What::Statement => (&moments.statement, "timestamptz"),
            What::Transaction(to) => (&moments.transaction, to),
        };
        let cast = match &self.precision {
            None if to == "timestamptz" => String::new(),
            precision => format!(
                "::pg_catalog.{to}{}",
                precision.as_deref().unwrap_or_default()
            ),
        };
        format!("'{moment}+00'::pg_catalog.timestamptz{cast}")
    }
}

struct Reader<'a> {
    sql: &'a str,
    tokens: &'a [Token],
    strings: bool,
}

impl Reader<'_> {
    fn read(&self) -> Result<Uses, Unclear> {
        let mut uses = Uses::default();
        let mut clauses = Clauses::new(self.sql.as_bytes(), self.tokens);
        for at in 0..self.tokens.len() {
            let token = self.tokens[at];
            let clause = clauses.reach(at);
            if token.kind.is_string() {
                self.string(at)?;
            }
            if !matches!(token.kind, Kind::Word | Kind::QuotedIdent) {
                continue;
            }
            if let Some(spot) = self.spot(at)? {
                if clause == Clause::From {
                    return Err(Unclear(format!("{} as a table", spot.name)));
                }
                uses.spots.push(spot);
            } else if token.kind == Kind::Word {
                clauses.enter(at);
            }
        }
        Ok(uses)
    }

    fn word(&self, at: usize) -> String {
        match self.tokens.get(at) {
            Some(token) if token.kind == Kind::Word => {
                self.sql[token.start..token.end].to_ascii_lowercase()
            }
            _ => String::new(),
        }
    }

    fn before(&self, at: usize, back: usize) -> String {
        at.checked_sub(back)
            .map(|at| self.word(at))
            .unwrap_or_default()
    }

    fn kind(&self, at: usize) -> Option<Kind> {
        self.tokens.get(at).map(|token| token.kind)
    }

    /// The time that is asked for at `at`.
    fn spot(&self, at: usize) -> Result<Option<Spot>, Unclear> {
        let token = self.tokens[at];
        let text = &self.sql[token.start..token.end];
        let quoted = token.kind == Kind::QuotedIdent;
        let name = match quoted {
            true => text.trim_matches('"').to_owned(),
            false => text.to_ascii_lowercase(),
        };
        let dotted = at.checked_sub(1).and_then(|at| self.kind(at)) == Some(Kind::Dot);
        if let Some((_, to)) = KEYWORDS.iter().find(|(word, _)| *word == name)
            && !quoted
            && !dotted
        {
            return self.keyword(at, to).map(Some);
        }
        let called = self.kind(at + 1) == Some(Kind::LParen);
        if !called || (dotted && !self.is_builtin(at)) {
            return Ok(None);
        }
        if name == "age" && self.has_one_argument(at + 1) {
            return Err(Unclear("age() of one argument".into()));
        }
        let function = FUNCTIONS.iter().find(|(word, _)| *word == name);
        let Some((name, what)) = function.filter(|_| self.kind(at + 2) == Some(Kind::RParen))
        else {
            return Ok(None);
        };
        let first = if dotted { at - 2 } else { at };
        Ok(Some(Spot {
            start: self.tokens[first].start,
            end: self.tokens[at + 2].end,
            what: *what,
            name,
            precision: None,
        }))
    }

    /// Whether `pg_catalog.` stands before a name.
    fn is_builtin(&self, at: usize) -> bool {
        let schema = at.checked_sub(2).map(|at| self.tokens[at]);
        schema.is_some_and(|token| {
            let text = &self.sql[token.start..token.end];
            match token.kind {
                Kind::Word => text.eq_ignore_ascii_case("pg_catalog"),
                _ => text == "\"pg_catalog\"",
            }
        })
    }

    /// CURRENT_TIMESTAMP and the like, which are words of the grammar.
    fn keyword(&self, at: usize, to: &'static str) -> Result<Spot, Unclear> {
        let token = self.tokens[at];
        let name = self.word(at);
        let unclear = || Unclear(name.clone());
        let name = KEYWORDS.iter().find(|(word, _)| *word == name);
        let name = name.ok_or_else(unclear)?.0;
        // Behind an operand it is the name of a column, with AS or without.
        let expression = match at.checked_sub(1).and_then(|at| self.kind(at)) {
            // A default begins so.
            None => true,
            Some(Kind::Word) => BEFORE.contains(&&*self.before(at, 1)),
            Some(kind) => matches!(
                kind,
                Kind::Comma
                    | Kind::LParen
                    | Kind::LBracket
                    | Kind::Operator
                    | Kind::EqualsGreater
                    | Kind::ColonEquals
            ),
        };
        if !expression {
            return Err(unclear());
        }
        let mut end = token.end;
        let mut precision = None;
        if self.kind(at + 1) == Some(Kind::LParen) {
            if (self.kind(at + 2), self.kind(at + 3)) != (Some(Kind::Integer), Some(Kind::RParen)) {
                return Err(unclear());
            }
            end = self.tokens[at + 3].end;
            let digits = self.tokens[at + 2];
            precision = Some(format!("({})", &self.sql[digits.start..digits.end]));
        }
        Ok(Spot {
            start: token.start,
            end,
            what: What::Transaction(to),
            name,
            precision,
        })
    }

    /// Whether there is no comma within the parenthesis at `at`, but not within another one.
    fn has_one_argument(&self, at: usize) -> bool {
        let mut depth = 0usize;
        for token in &self.tokens[at..] {
            match token.kind {
                Kind::LParen | Kind::LBracket => depth += 1,
                Kind::RParen | Kind::RBracket => depth = depth.saturating_sub(1),
                Kind::Comma if depth == 1 => return false,
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        true
    }

    /// `'now'` and `'today'` are times if they are read as such, which is not known here.
    fn string(&self, at: usize) -> Result<(), Unclear> {
        let token = self.tokens[at];
        let value = super::name::string(token, self.sql.as_bytes(), self.strings);
        match value {
            Some(constant) if is_moving(&constant.value) => {
                Err(Unclear("a string that may be the time".into()))
            }
            Some(_) => Ok(()),
            None => match is_moving(&self.sql.as_bytes()[token.start..token.end]) {
                true => Err(Unclear("a string that may be the time".into())),
                false => Ok(()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::{shows, sketched};

    #[test]
    fn code_asks_where_it_calls_or_reads_a_string() {
        for code in [
            "SELECT now()",
            "RETURN pg_catalog.age (x)",
            "x := \"now\"()",
            "SELECT now/* the time */()",
            "(at > CURRENT_DATE)",
            "('now'::text)::date",
            "SELECT $$today$$::date",
            "EXECUTE $q$now()$q$",
            "EXECUTE 'SELECT no' || 'w()' || 'now()'",
        ] {
            assert!(may_ask(code), "{code}");
        }
        for code in [
            "(age >= 0)",
            "((age > 17) AND (now < 5) AND (statement_timestamp <> today))",
            "(\"age\" IS NOT NULL)",
            "(name <> 'new'::text)",
            "RETURN NEW.age - 1",
        ] {
            assert!(!may_ask(code), "{code}");
        }
    }

    fn fixed(sql: &str) -> Result<String, Unclear> {
        let moments = Moments {
            transaction: "T".into(),
            statement: "S".into(),
        };
        let uses = Uses::of(sql, true)?;
        let text = uses.fixed(sql, &moments);
        let sketch = sketched(sql, &uses.changes(&moments));
        assert!(shows(&sketch, &text), "{sketch}");
        Ok(text)
    }

    #[test]
    fn calls_become_the_time_with_the_name_of_the_call() {
        let t = |to: &str, name: &str| {
            format!("(SELECT 'T+00'::pg_catalog.timestamptz{to} AS \"{name}\")")
        };
        let now = t("", "now");
        let cases = [
            ("SELECT now()", format!("SELECT {now}")),
            ("select NOW ( ), x", format!("select {now}, x")),
            ("SELECT pg_catalog.now()", format!("SELECT {now}")),
            (
                "SELECT \"now\"() - interval '1 day'",
                format!("SELECT {now} - interval '1 day'"),
            ),
            (
                "UPDATE t SET a = current_timestamp(3), b = now()",
                format!(
                    "UPDATE t SET a = {}, b = {now}",
                    t("::pg_catalog.timestamptz(3)", "current_timestamp")
                ),
            ),
            (
                "INSERT INTO t VALUES (1, CURRENT_DATE)",
                format!(
                    "INSERT INTO t VALUES (1, {})",
                    t("::pg_catalog.date", "current_date")
                ),
            ),
            (
                "SELECT localtime(0) FROM t WHERE x > localtimestamp",
                format!(
                    "SELECT {} FROM t WHERE x > {}",
                    t("::pg_catalog.time(0)", "localtime"),
                    t("::pg_catalog.timestamp", "localtimestamp")
                ),
            ),
            (
                "SELECT extract(epoch FROM now()) FROM t",
                format!("SELECT extract(epoch FROM {now}) FROM t"),
            ),
            (
                "SELECT 1 FROM t WHERE x IS NOT DISTINCT FROM now()",
                format!("SELECT 1 FROM t WHERE x IS NOT DISTINCT FROM {now}"),
            ),
            (
                "SELECT 1 FROM a JOIN b ON a.t > now() WHERE true",
                format!("SELECT 1 FROM a JOIN b ON a.t > {now} WHERE true"),
            ),
            (
                "SELECT 1 FROM generate_series(now(), x) g",
                format!("SELECT 1 FROM generate_series({now}, x) g"),
            ),
            (
                "SELECT CASE WHEN true THEN current_date END",
                format!(
                    "SELECT CASE WHEN true THEN {} END",
                    t("::pg_catalog.date", "current_date")
                ),
            ),
        ];
        for (sql, expected) in cases {
            assert_eq!(fixed(sql), Ok(expected), "{sql}");
        }
        assert_eq!(
            fixed("SELECT statement_timestamp()").unwrap(),
            "SELECT (SELECT 'S+00'::pg_catalog.timestamptz AS \"statement_timestamp\")"
        );
    }

    #[test]
    fn what_only_looks_like_a_time_stays() {
        for sql in [
            "SELECT now FROM t",
            "SELECT t.current_date FROM t",
            "SELECT 'call now()', $$ the current_date $$ -- now()",
            "SELECT my.now()",
            "SELECT now(1)",
            "SELECT clock_timestamp()",
            "SELECT age(a, b), \"current_date\" FROM t",
            "SELECT 'todays', 'yesterday we met', 'unknown'",
        ] {
            assert!(Uses::of(sql, true).unwrap().is_empty(), "{sql}");
            assert_eq!(fixed(sql).unwrap(), sql);
        }
    }

    #[test]
    fn what_is_not_certain_is_unclear() {
        for sql in [
            "SELECT 1 AS current_date",
            "SELECT id current_date FROM t",
            "SELECT (1) current_time",
            "SELECT n FROM t, now() AS n",
            "SELECT 1 FROM t JOIN u ON t.x = u.x, now() n",
            "SELECT age(t.born) FROM t",
            "UPDATE t SET a = 'now'",
            "UPDATE t SET a = 'now()'",
            "UPDATE t SET a = E' Today 12:00'",
            "UPDATE t SET a = 'tomorrow'::timestamptz",
            "SELECT current_timestamp(x)",
        ] {
            assert!(Uses::of(sql, true).is_err(), "{sql}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_harm(
            text in "((now|current_date|age|\"now\"|pg_catalog|from|join|on|as|é|'now'|[(),.;\"' $1-])( ?)){0,12}"
        ) {
            if let Ok(uses) = Uses::of(&text, true) {
                let moments = Moments { transaction: "T".into(), statement: "S".into() };
                let fixed = uses.fixed(&text, &moments);
                proptest::prop_assert_eq!(uses.is_empty(), fixed == text);
            }
            let _ = crate::fill::filled(&format!("insert into {text}"), true, &[("a".into(), "1".into())]);
            let _ = crate::fill::width(&format!("insert into t values {text}"), true);
        }
    }
}
