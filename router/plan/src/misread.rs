//! Where sqlparser's tree may not be PostgreSQL's, in one place.
//!
//! Two readers of one operator grammar agree if every operand binds as tightly
//! as PostgreSQL's precedence table asks of its place: for a given row of
//! tokens only one tree does. So `agrees` checks each operator against that
//! table (parentheses are kept as `Nested` and always fit). `-2 ^ 2` read as
//! `-(2 ^ 2)`, or `a IS DISTINCT FROM (1 OR b)`, do not pass, and nothing is
//! concluded from such a statement. What PostgreSQL has and the table below
//! does not know does not pass either.
//! <https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-PRECEDENCE>

use std::borrow::Cow;

use sqlparser::ast::{
    BinaryOperator as Op, CastKind, Expr, Function, FunctionArguments, Ident, UnaryOperator, Value,
};

use mothership_sql::keywords;
use mothership_sql::lexer::{Kind, Lexer, Token};

use super::grammar::{is_of_catalog, lower_bound};
use super::parse::{self, Parsed};
use super::slots::Slot;

/// Whether the parser cut the text into the same tokens as our own lexer, which follows PostgreSQL's, and none of
/// them means something else to it.
pub fn same_tokens(sql: &str, parsed: &Parsed, standard_conforming_strings: bool) -> bool {
    let ours = Lexer::new(sql.as_bytes(), standard_conforming_strings);
    let theirs = parse::byte_starts(sql, &parsed.tokens);
    let mut context = Context::default();
    let known = |token: Token| (!context.misleads(token, sql)).then_some(token.start);
    let same = ours.map(known).eq(theirs.into_iter().map(Some));
    same && !context.wants_operator()
}

/// The words around a token, in lower case where it is a word.
#[derive(Default)]
struct Context<'s> {
    before: Cow<'s, str>,
    last: Cow<'s, str>,
    kind: Option<Kind>,
}

impl<'s> Context<'s> {
    /// The parser takes whatever follows USING in an ORDER BY for an operator, the end of the statement included.
    fn wants_operator(&self) -> bool {
        self.last == "using" && self.kind == Some(Kind::Word)
    }

    /// Whether the parser takes a token for something else here.
    fn misleads(&mut self, token: Token, sql: &'s str) -> bool {
        let text = keywords::lower(&sql[token.start..token.end]);
        let misread = match &*text {
            // No other name of `=`, but an operator that somebody may have made.
            "==" => true,
            // BETWEEN ASYMMETRIC (1) AND 2 is no call of a function of that name.
            "asymmetric" => self.last == "between",
            // INTERVAL (3) '1 s' loses its precision. As a type it keeps it.
            "(" => self.last == "interval" && !matches!(&*self.before, "::" | "as"),
            // `JSON_OBJECTAGG(interval : a)` has a key and a value.
            ":" => self.last == "interval",
            // A cast to a type of that name is none to the parser, which sees IS NULL.
            "isnull" | "notnull" => self.last == "::",
            // COLLATION FOR (a) inside of SUBSTRING is no FOR of its own. As a type's name or a label it is one.
            "for" => self.last == "collation" && matches!(&*self.before, "::" | "as"),
            // The parser would keep its schema and lose the word.
            "operator" => self.last == "using",
            // The bound of a frame: the parser makes an interval of any string. A plain one is given to it in parentheses.
            "preceding" | "following" => {
                let bound = matches!(
                    &*self.before,
                    "between" | "and" | "rows" | "range" | "groups"
                );
                bound
                    && self
                        .kind
                        .is_some_and(|kind| kind.is_string() && kind != Kind::String)
            }
            // `FROM t global`: the parser loses the alias.
            "global" => match self.kind {
                Some(Kind::QuotedIdent | Kind::RParen) => true,
                Some(Kind::Word) => !is_reserved_word(&self.last),
                _ => false,
            },
            ";" | "," | ")" => self.wants_operator(),
            // 0x1F is no bit string.
            _ => token.kind == Kind::UncertainNumber,
        };
        self.before = std::mem::replace(&mut self.last, text);
        self.kind = Some(token.kind);
        misread
    }
}

/// Text that the parser may tokenize otherwise than PostgreSQL: nothing is concluded from a statement with it.
pub fn has_unclear_tokens(sql: &str, standard_conforming_strings: bool) -> bool {
    let lower = keywords::lower(sql);
    // Without standard conforming strings a backslash moves the end of a string.
    let moving_strings = !standard_conforming_strings && sql.contains('\\');
    // Escapes in identifiers and strings; operators by name.
    let escapes = lower.contains("u&\"") || lower.contains("u&'");
    moving_strings || escapes || has_named_operator(&lower) || has_control(sql)
}

/// `OPERATOR(schema.=)`, with whatever white space, but for PostgreSQL's own schema; in a string or comment it does no
/// harm to be careful.
fn has_named_operator(lower: &str) -> bool {
    let mut rest = lower;
    while let Some(at) = rest.find("operator") {
        rest = &rest[at + "operator".len()..];
        if rest.trim_start().starts_with(['(', '/', '-']) && !names_catalog(rest) {
            return true;
        }
    }
    false
}

/// Whether `(pg_catalog.` follows.
fn names_catalog(text: &str) -> bool {
    let opened = text.trim_start().strip_prefix('(').map(str::trim_start);
    let schema = |text: &'_ str| {
        let names = ["pg_catalog", "\"pg_catalog\""];
        let mut after = names.iter().filter_map(|name| text.strip_prefix(name));
        after.any(|text| text.trim_start().starts_with('.'))
    };
    opened.is_some_and(schema)
}

/// White space that PostgreSQL does not take for white space, or the other way round.
fn has_control(sql: &str) -> bool {
    sql.chars().any(|c| {
        (c.is_control() && !matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c'))
            || (!c.is_ascii() && c.is_whitespace())
            || c == '\u{feff}'
    })
}

// PostgreSQL's precedence, from loose to tight.
const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const IS: u8 = 4;
const COMPARE: u8 = 5;
const IN: u8 = 6;
const OTHER: u8 = 7;
const ADD: u8 = 8;
const MULTIPLY: u8 = 9;
const POWER: u8 = 10;
const AT: u8 = 11;
const COLLATE: u8 = 12;
const SIGN: u8 = 13;
const SUBSCRIPT: u8 = 14;
const CAST: u8 = 15;
const PRIMARY: u8 = 16;

/// Whether this node, with its direct operands, stands as PostgreSQL would have it. The
/// caller asks for every node of the tree.
pub fn agrees(expr: &Expr) -> bool {
    let tighter = |operand: &Expr, than: u8| class(operand).is_some_and(|c| c > than);
    let least = |operand: &Expr, bound: u8| class(operand).is_some_and(|c| c >= bound);
    match expr {
        Expr::BinaryOp { left, op, right } => match binary_class(op) {
            // `<`, `=` and the like do not chain.
            Some(COMPARE) => tighter(left, COMPARE) && tighter(right, COMPARE),
            Some(class) => least(left, class) && tighter(right, class),
            None => false,
        },
        Expr::UnaryOp { op, expr } => match op {
            UnaryOperator::Not => least(expr, NOT),
            UnaryOperator::Plus | UnaryOperator::Minus => least(expr, SIGN),
            UnaryOperator::PGPostfixFactorial => false,
            _ => tighter(expr, OTHER),
        },
        Expr::IsTrue(e)
        | Expr::IsNotTrue(e)
        | Expr::IsFalse(e)
        | Expr::IsNotFalse(e)
        | Expr::IsNull(e)
        | Expr::IsNotNull(e)
        | Expr::IsUnknown(e)
        | Expr::IsNotUnknown(e) => is_whole(e) || tighter(e, IS),
        Expr::IsDistinctFrom(a, b) | Expr::IsNotDistinctFrom(a, b) => {
            (is_whole(a) || tighter(a, IS)) && tighter(b, IS)
        }
        Expr::IsJson { expr, .. } | Expr::IsNormalized { expr, .. } => {
            is_whole(expr) || tighter(expr, IS)
        }
        Expr::InList { expr, .. } | Expr::InSubquery { expr, .. } => tighter(expr, IN),
        Expr::Between {
            expr, low, high, ..
        } => tighter(expr, IN) && tighter(lower_bound(low).0, IN) && tighter(high, IN),
        // The mark of BETWEEN SYMMETRIC.
        marked @ Expr::Prefixed { .. } => lower_bound(marked).1,
        Expr::Like {
            any: false,
            expr,
            pattern,
            escape_char,
            ..
        }
        | Expr::ILike {
            any: false,
            expr,
            pattern,
            escape_char,
            ..
        }
        | Expr::SimilarTo {
            expr,
            pattern,
            escape_char,
            ..
        } => {
            tighter(expr, IN)
                && tighter(pattern, IN)
                && escape_char.as_ref().is_none_or(|e| tighter(e, IN))
        }
        Expr::AnyOp {
            left,
            compare_op,
            right,
            ..
        }
        | Expr::AllOp {
            left,
            compare_op,
            right,
        } => {
            // The parser takes `= ANY (SELECT ..) || x` for `= ANY ((SELECT ..) || x)`.
            least(left, OTHER)
                && binary_class(compare_op).is_some()
                && (matches!(**right, Expr::Subquery(_)) || !begins_with_query(right))
        }
        Expr::AtTimeZone {
            timestamp,
            time_zone,
        } => least(timestamp, AT) && tighter(time_zone, AT),
        Expr::Collate { expr, collation } => {
            // In `SELECT a collate FROM t` it is an alias.
            let name = collation.0.first().and_then(|part| part.as_ident());
            least(expr, COLLATE) && name.is_some_and(|name| !is_reserved(name, &[]))
        }
        Expr::Cast {
            kind: CastKind::DoubleColon,
            expr,
            ..
        } => least(expr, CAST),
        Expr::CompoundFieldAccess { root, .. } => least(root, SUBSCRIPT),
        Expr::Interval(interval) => matches!(*interval.value, Expr::Value(_)),
        Expr::Identifier(name) => !is_reserved(name, &ALONE),
        Expr::CompoundIdentifier(parts) => parts.first().is_none_or(|name| !is_reserved(name, &[])),
        Expr::Function(function) => match function.name.0.as_slice() {
            [part] => part
                .as_ident()
                .is_some_and(|name| is_called(name, function)),
            _ => true,
        },
        Expr::TypedString(typed) => {
            // `JSON_OBJECTAGG(text : a)` has a key and a value.
            let parameter = matches!(&typed.value.value, Value::Placeholder(text) if Slot::of_placeholder(text).is_none());
            !typed.uses_odbc_syntax && !parameter
        }
        Expr::Value(value) => match &value.value {
            // `:a` and `?` are parameters to the parser, not to PostgreSQL.
            Value::Placeholder(text) => {
                text.starts_with('$') || Slot::of_placeholder(text).is_some()
            }
            _ => true,
        },
        // Nested grouping sets are no calls.
        Expr::GroupingSets(sets) => !sets.iter().flatten().any(is_grouping),
        _ => class(expr).is_some(),
    }
}

/// Whether it is an IS that ends with a word: `a IS NULL IS TRUE` can only be read in one way, although IS does not
/// chain behind an operand.
fn is_whole(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
    )
}

/// Whether the first operand of an expression is a query, without parentheses of its own around.
fn begins_with_query(mut expr: &Expr) -> bool {
    loop {
        expr = match expr {
            Expr::Subquery(_) => return true,
            Expr::BinaryOp { left: first, .. }
            | Expr::AnyOp { left: first, .. }
            | Expr::AllOp { left: first, .. }
            | Expr::Cast {
                kind: CastKind::DoubleColon,
                expr: first,
                ..
            }
            | Expr::Collate { expr: first, .. }
            | Expr::AtTimeZone {
                timestamp: first, ..
            }
            | Expr::CompoundFieldAccess { root: first, .. }
            | Expr::InList { expr: first, .. }
            | Expr::InSubquery { expr: first, .. }
            | Expr::Between { expr: first, .. }
            | Expr::Like { expr: first, .. }
            | Expr::ILike { expr: first, .. }
            | Expr::SimilarTo { expr: first, .. }
            | Expr::IsDistinctFrom(first, _)
            | Expr::IsNotDistinctFrom(first, _)
            | Expr::IsTrue(first)
            | Expr::IsNotTrue(first)
            | Expr::IsFalse(first)
            | Expr::IsNotFalse(first)
            | Expr::IsNull(first)
            | Expr::IsNotNull(first)
            | Expr::IsUnknown(first)
            | Expr::IsNotUnknown(first)
            | Expr::IsJson { expr: first, .. }
            | Expr::IsNormalized { expr: first, .. } => first,
            _ => return false,
        };
    }
}

/// `SELECT a 'x'` is a constant of type `a` and no alias.
pub fn is_name(ident: &Ident) -> bool {
    matches!(ident.quote_style, None | Some('"'))
}

/// Reserved words that are expressions on their own.
const ALONE: [&str; 12] = [
    "current_catalog",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "localtime",
    "localtimestamp",
    "session_user",
    "system_user",
    "user",
];

/// Reserved words that may stand before parentheses.
const CALLED: [&str; 13] = [
    "array",
    "current_catalog",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "localtime",
    "localtimestamp",
    "session_user",
    "system_user",
    "user",
    "row",
];

/// Whether it is a call that the parser reads. `(VALUES (1), (2))` is no call of a function `values`, OPERATOR(...) none
/// at all, NFC in `normalize(x, NFC)` is no column, and `position(a = b IN c)` has two operands.
fn is_called(name: &Ident, function: &Function) -> bool {
    let unquoted = |word: &str| name.quote_style.is_none() && name.value.eq_ignore_ascii_case(word);
    let several = matches!(&function.args, FunctionArguments::List(list) if list.args.len() > 1);
    let grammar = unquoted("values") || unquoted("position") || unquoted("operator");
    let misread = grammar || unquoted("normalize") && several;
    !misread && !is_reserved(name, &CALLED)
}

/// ROLLUP and CUBE, which the parser takes for calls inside of GROUPING SETS.
fn is_grouping(expr: &Expr) -> bool {
    let named = |name: &Ident| {
        name.quote_style.is_none() && matches!(&*keywords::lower(&name.value), "rollup" | "cube")
    };
    match expr {
        Expr::Function(function) => match function.name.0.as_slice() {
            [part] => part.as_ident().is_none_or(named),
            _ => false,
        },
        Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_) => true,
        _ => false,
    }
}

/// A word that PostgreSQL takes for part of its grammar, read by the parser as a name: SYMMETRIC, say.
fn is_reserved(name: &Ident, but: &[&str]) -> bool {
    name.quote_style.is_none() && {
        let word = keywords::lower(&name.value);
        is_reserved_word(&word) && !but.contains(&&*word)
    }
}

/// `word` is in lower case. SYSTEM_USER is reserved from PostgreSQL 16 on.
fn is_reserved_word(word: &str) -> bool {
    keywords::is_reserved(word) || word == "system_user"
}

/// How tightly an expression binds; None for what PostgreSQL does not have or is not listed here.
fn class(expr: &Expr) -> Option<u8> {
    Some(match expr {
        Expr::BinaryOp { op, .. } => binary_class(op)?,
        Expr::UnaryOp { op, .. } => match op {
            UnaryOperator::Not => NOT,
            UnaryOperator::Plus | UnaryOperator::Minus => SIGN,
            UnaryOperator::PGPostfixFactorial => return None,
            _ => OTHER,
        },
        Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::IsJson { .. }
        | Expr::IsNormalized { .. } => IS,
        Expr::InList { .. }
        | Expr::InSubquery { .. }
        | Expr::Between { .. }
        | Expr::Like { .. }
        | Expr::ILike { .. }
        | Expr::SimilarTo { .. } => IN,
        Expr::AnyOp { .. } | Expr::AllOp { .. } => OTHER,
        Expr::AtTimeZone { .. } => AT,
        Expr::Collate { .. } => COLLATE,
        Expr::Cast {
            kind: CastKind::DoubleColon,
            ..
        } => CAST,
        Expr::CompoundFieldAccess { .. } => SUBSCRIPT,
        // NOT EXISTS is one node, and an operator in PostgreSQL.
        Expr::Exists { negated: true, .. } => NOT,
        Expr::Cast {
            kind: CastKind::Cast,
            ..
        }
        | Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::Nested(_)
        | Expr::Value(_)
        | Expr::TypedString(_)
        | Expr::Function(_)
        | Expr::Case { .. }
        | Expr::Exists { .. }
        | Expr::Subquery(_)
        | Expr::Tuple(_)
        | Expr::Array(_)
        | Expr::Interval(_)
        | Expr::Extract { .. }
        | Expr::Ceil { .. }
        | Expr::Floor { .. }
        | Expr::Position { .. }
        | Expr::Substring { .. }
        | Expr::Trim { .. }
        | Expr::Overlay { .. }
        | Expr::GroupingSets(_)
        | Expr::Cube(_)
        | Expr::Rollup(_) => PRIMARY,
        _ => return None,
    })
}

fn binary_class(op: &Op) -> Option<u8> {
    Some(match op {
        Op::Or => OR,
        Op::And => AND,
        Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq => COMPARE,
        Op::Plus | Op::Minus => ADD,
        Op::Multiply | Op::Divide | Op::Modulo => MULTIPLY,
        Op::PGExp => POWER,
        // Not PostgreSQL's, or with rules of their own.
        Op::Spaceship
        | Op::Xor
        | Op::BitwiseXor
        | Op::DuckIntegerDivide
        | Op::MyIntegerDivide
        | Op::Match
        | Op::Regexp
        | Op::Glob
        | Op::Assignment
        | Op::Overlaps => return None,
        Op::PGCustomBinaryOperator(_) if !is_of_catalog(op) => return None,
        _ => OTHER,
    })
}

#[cfg(test)]
mod tests {
    use crate::{PlanContext, parens::parenthesised};

    /// How a condition of a query is understood; None if it is refused.
    fn read(condition: &str) -> Option<String> {
        let sql = format!("SELECT 1 FROM t WHERE {condition}");
        let form = parenthesised(&sql, &PlanContext::default()).ok()?;
        Some(form.split_once(" WHERE ")?.1.to_owned())
    }

    fn refused(statement: &str) -> bool {
        parenthesised(statement, &PlanContext::default()).is_err()
    }

    #[test]
    fn operators_stand_where_postgres_has_them_or_are_refused() {
        for (condition, expected) in [
            ("a = 1 OR b AND c", Some("(((a) = (1)) OR ((b) AND (c)))")),
            ("NOT a = b", Some("(NOT ((a) = (b)))")),
            (
                "a IS DISTINCT FROM 1 OR b",
                Some("(((a) IS DISTINCT FROM (1)) OR (b))"),
            ),
            ("-2 ^ 2 = id", None),
            ("a = b = c", None),
            ("id == 5", None),
            ("id = 5", Some("((id) = (5))")),
            (
                "trim(LEADING FROM (a)[1]) = b",
                Some("((pg_catalog.ltrim((((a))[(1)]))) = (b))"),
            ),
            (
                "a = b OPERATOR(pg_catalog.=) c + 1 OR d",
                Some("(((a) = ((b) OPERATOR(pg_catalog.=) ((c) + (1)))) OR (d))"),
            ),
            (
                "NOT (a, b) OVERLAPS (c, d)::int = 1",
                Some("(NOT ((CAST((pg_catalog.overlaps((a), (b), (c), (d))) AS INT)) = (1)))"),
            ),
        ] {
            assert_eq!(read(condition).as_deref(), expected, "{condition}");
        }
    }

    #[test]
    fn words_of_the_grammar_are_no_names() {
        for condition in [
            "id BETWEEN asymmetric (3) AND 5",
            "normalize(a, c) = b",
            "position(a = b IN c)",
            "interval(3) '1 s' < a",
            "id = 0x1F",
            "json_objectagg(interval: a) AND id = 5",
            "json_objectagg(interval : a) AND id = 5",
            "a::isnull = id",
            "a :: notnull = id",
            "substring(a::collation for (b)) = a",
            "a OPERATOR(public.=) b",
            "a = b OPERATOR(pg_catalog.=) c = d",
        ] {
            assert_eq!(read(condition), None, "{condition}");
        }
        for condition in [
            "id = (VALUES (1), (2))",
            "id BETWEEN 3 AND 5",
            "id BETWEEN SYMMETRIC (5) AND 3",
            "a::text COLLATE \"C\" < b",
            "b NOT LIKE ALL (ARRAY['x'])",
            "\"symmetric\"(5) < id",
            "trim(a) = b",
            "a = current_user",
            "a = user",
            "normalize(a) = b",
            "normalize(a, NFC) = b",
            "substring(a || collation for (b)) = a",
            "position(a || b IN c) = 1",
            "interval '1 s' < a",
            "a::interval(3) < b",
            "a::int isnull",
            "a isnull",
            "substring(a for 3) = b",
            "ARRAY(SELECT id FROM u) = a",
        ] {
            assert!(read(condition).is_some(), "{condition}");
        }
    }

    #[test]
    fn any_of_a_query_ends_with_the_query() {
        assert_eq!(read("id = ANY (SELECT id FROM u) || a"), None);
        assert_eq!(read("id = ALL (SELECT id FROM u)::int[]"), None);
        let whole = "((id) = ANY (SELECT (id) FROM u))";
        assert_eq!(read("id = ANY (SELECT id FROM u)").as_deref(), Some(whole));
        let elements = "((id) = ANY (((a) || (b))))";
        assert_eq!(read("id = ANY (a || b)").as_deref(), Some(elements));
    }

    #[test]
    fn nothing_of_a_statement_is_left_unread() {
        assert!(refused("SELECT id = 5 end FROM t"));
        assert!(refused(
            "UPDATE t SET a = 1 WHERE id = 5 RETURNING a IS NULL end"
        ));
        assert!(refused("SELECT a collate FROM t"));
        let only = parenthesised("SELECT id only FROM t", &PlanContext::default());
        assert_eq!(only.unwrap(), "SELECT (id) AS only FROM t");
        assert!(!refused(
            "SELECT id FROM ONLY t, ONLY u FETCH FIRST ROW ONLY"
        ));
        assert!(refused("SELECT json_objectagg(text : t.a) FROM t"));
        assert!(refused("SELECT a FROM t ORDER BY a USING"));
        assert!(refused("SELECT a FROM t ORDER BY a USING;"));
        assert!(!refused("SELECT a FROM t ORDER BY a USING >"));
        assert!(!refused("SELECT t.a FROM t JOIN u USING (a)"));
        assert!(refused("SELECT * FROM t global"));
        assert!(refused("SELECT * FROM (SELECT 1) GLOBAL"));
        assert!(!refused("SELECT global FROM t AS global WHERE global = 5"));
        assert!(refused("SELECT \"char\" 'x' FROM t"));
        assert!(refused(
            "SELECT a FROM t GROUP BY GROUPING SETS (a, ROLLUP (b))"
        ));
        assert!(!refused(
            "SELECT a FROM t GROUP BY GROUPING SETS ((a), ()), ROLLUP (b)"
        ));
        assert!(refused("SELECT * FROM t TABLESAMPLE public.mine(10)"));
        assert!(!refused("SELECT * FROM t TABLESAMPLE system (10)"));
        assert!(refused(
            "SELECT sum(a) OVER (ORDER BY a RANGE BETWEEN E'1' PRECEDING AND CURRENT ROW) FROM t"
        ));
        assert!(!refused(
            "SELECT sum(a) OVER (ORDER BY a RANGE INTERVAL '1 d' PRECEDING) FROM t"
        ));
    }
}
