//! What PostgreSQL's grammar has and the parser has not: operators that it does not take behind any operand.
//!
//! Trees for these are made of nodes that the parser has: COLLATE behind a cast is `Collate`, `LIKE ANY` is the operator
//! `~~` with ANY, as in PostgreSQL itself, and BETWEEN SYMMETRIC is `Between` with a mark on its lower bound. The first
//! entry of GROUP BY DISTINCT is a mark, and so is the first of the names behind FOR UPDATE OF, which are the parts of one
//! there. A query in parentheses that begins with one in parentheses, or with VALUES, is a subquery. What PostgreSQL's own
//! grammar makes a call of is one: COLLATION FOR, normalize with a form, OVERLAPS.

use sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, LockClause, LockType, ObjectName, Statement, UnaryOperator, Value,
};
use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

/// The mark of BETWEEN SYMMETRIC on its lower bound.
const SYMMETRIC: &str = "SYMMETRIC";

/// The lower bound of a BETWEEN, and whether it is BETWEEN SYMMETRIC.
pub fn lower_bound(low: &Expr) -> (&Expr, bool) {
    match low {
        Expr::Prefixed { prefix, value } if prefix.value == SYMMETRIC => (value, true),
        low => (low, false),
    }
}

/// The quotes of a name that stands for a word of the grammar. Nobody can write them.
pub const MARK: char = '`';
/// The name that stands for DISTINCT as the first entry of GROUP BY.
pub const DISTINCT: &str = "distinct";
/// The name that stands for expressions and the condition of an index that ON CONFLICT names, behind its columns.
pub const ARBITER: &str = "arbiter";

/// The name that stands for an element of a column that SET gives a value.
pub const ELEMENT: &str = "element";

/// How strongly rows are locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strength {
    /// FOR UPDATE.
    Update,
    /// FOR NO KEY UPDATE.
    NoKeyUpdate,
    /// FOR SHARE.
    Share,
    /// FOR KEY SHARE.
    KeyShare,
}

impl Strength {
    /// The name that stands for it before the names that are locked.
    pub fn mark(self) -> &'static str {
        match self {
            Strength::Update => "update",
            Strength::NoKeyUpdate => "no key update",
            Strength::Share => "share",
            Strength::KeyShare => "key share",
        }
    }
}

/// How strongly a lock holds, and the names behind OF.
pub fn locked(lock: &LockClause) -> (Strength, Vec<&Ident>) {
    let plain = match lock.lock_type {
        LockType::Update => Strength::Update,
        LockType::Share => Strength::Share,
    };
    let parts = lock.of.iter().flat_map(|of| &of.0);
    let mut parts = parts.filter_map(|part| part.as_ident());
    let mark = parts.next().map(|mark| mark.value.as_str());
    let weak = [Strength::NoKeyUpdate, Strength::KeyShare];
    let weak = weak.into_iter().find(|s| mark == Some(s.mark()));
    (weak.unwrap_or(plain), parts.collect())
}

/// What stands behind OF if a lock of that strength names nothing.
pub fn unnamed(lock: &LockClause) -> Option<ObjectName> {
    let mark = lock.of.as_ref()?.0.first()?;
    Some(ObjectName(vec![mark.clone()]))
}

/// The entries of a GROUP BY, and whether it is GROUP BY DISTINCT.
pub fn grouped(exprs: &[Expr]) -> (&[Expr], bool) {
    match exprs {
        [Expr::Identifier(mark), entries @ ..] if mark.quote_style == Some(MARK) => (entries, true),
        entries => (entries, false),
    }
}

/// PostgreSQL's dialect with more of its grammar.
#[derive(Debug, Default)]
pub struct Grammar(PostgreSqlDialect);

/// Passes questions on to the dialect of the parser.
macro_rules! asks {
    ($($name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        $(fn $name(&self, $($arg: $type),*) -> $result {
            self.0.$name($($arg),*)
        })*
    };
}

impl Dialect for Grammar {
    fn dialect(&self) -> std::any::TypeId {
        self.0.dialect()
    }

    asks! {
        identifier_quote_style(identifier: &str) -> Option<char>;
        is_delimited_identifier_start(ch: char) -> bool;
        is_identifier_start(ch: char) -> bool;
        is_identifier_part(ch: char) -> bool;
        supports_unicode_string_literal() -> bool;
        is_reserved_for_identifier(kw: Keyword) -> bool;
        is_table_alias(kw: &Keyword, parser: &mut Parser) -> bool;
        is_custom_operator_part(ch: char) -> bool;
        supports_filter_during_aggregation() -> bool;
        supports_group_by_expr() -> bool;
        supports_alter_user_as_alter_role() -> bool;
        prec_value(prec: Precedence) -> u8;
        allow_extract_custom() -> bool;
        allow_extract_single_quotes() -> bool;
        supports_create_index_with_clause() -> bool;
        supports_explain_with_utility_options() -> bool;
        supports_listen_notify() -> bool;
        supports_exclude_constraint() -> bool;
        supports_factorial_operator() -> bool;
        supports_bitwise_shift_operators() -> bool;
        supports_comment_on() -> bool;
        supports_load_extension() -> bool;
        supports_named_fn_args_with_colon_operator() -> bool;
        supports_named_fn_args_with_expr_name() -> bool;
        supports_empty_projections() -> bool;
        supports_nested_comments() -> bool;
        supports_string_escape_constant() -> bool;
        supports_numeric_literal_underscores() -> bool;
        supports_array_typedef_with_brackets() -> bool;
        supports_geometric_types() -> bool;
        supports_order_by_using_operator() -> bool;
        supports_set_names() -> bool;
        supports_alter_column_type_using() -> bool;
        supports_left_associative_joins_without_parens() -> bool;
        supports_notnull_operator() -> bool;
        supports_interval_options() -> bool;
        supports_insert_table_alias() -> bool;
        supports_create_table_like_parenthesized() -> bool;
        supports_select_wildcard_with_alias() -> bool;
        supports_comma_separated_trim() -> bool;
        supports_xml_expressions() -> bool;
        supports_aliased_function_args() -> bool;
        supports_comment_optimizer_hint() -> bool;
        parse_statement(parser: &mut Parser) -> Option<Result<Statement, ParserError>>;
    }

    /// ON is a name only behind AS (manual, SQL Key Words): `INSERT INTO t SELECT 1 ON CONFLICT ...`
    fn is_column_alias(&self, kw: &Keyword, parser: &mut Parser) -> bool {
        *kw != Keyword::ON && self.0.is_column_alias(kw, parser)
    }

    /// OPERATOR(...) binds like every operator that has no precedence of its own, whatever stands in it.
    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        if is_keyword(parser, 0, Keyword::OPERATOR) {
            return Some(Ok(self.prec_value(Precedence::PgOther)));
        }
        // Of two rows: nothing can come between the parentheses and the word.
        if is_keyword(parser, 0, Keyword::OVERLAPS) {
            return Some(Ok(self.prec_value(Precedence::Period)));
        }
        self.0.get_next_precedence(parser)
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        if is_quantified_query(parser) {
            return Some(parser.parse_query().map(Expr::Subquery));
        }
        if opens_set_operation(parser) || opens_values(parser) {
            parser.advance_token();
            let query = parser.parse_query();
            return Some(query.and_then(|query| {
                parser.expect_token(&Token::RParen)?;
                Ok(Expr::Subquery(query))
            }));
        }
        if is_keyword(parser, 0, Keyword::NOT) && is_keyword(parser, 1, Keyword::EXISTS) {
            return Some(self.not_exists(parser));
        }
        if let Some(call) = called_by_words(parser) {
            return Some(call);
        }
        self.0.parse_prefix(parser)
    }

    fn parse_infix(
        &self,
        parser: &mut Parser,
        left: &Expr,
        _precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        let word = |at: usize| match &parser.peek_nth_token_ref(at).token {
            Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_lowercase(),
            _ => String::new(),
        };
        let (negated, first) = match word(0).as_str() {
            "not" => (true, word(1)),
            other => (false, other.to_owned()),
        };
        let second = word(1 + usize::from(negated));
        let words = 1 + usize::from(negated);
        match (first.as_str(), second.as_str()) {
            ("collate", _) if !negated => {
                parser.advance_token();
                Some(
                    parser
                        .parse_object_name(false)
                        .map(|collation| Expr::Collate {
                            expr: Box::new(left.clone()),
                            collation,
                        }),
                )
            }
            ("between", "symmetric") => {
                (0..=words).for_each(|_| parser.advance_token());
                Some(self.between(parser, left, negated))
            }
            ("like" | "ilike", "any" | "some" | "all") => {
                (0..=words).for_each(|_| parser.advance_token());
                let operator = match (first.as_str(), negated) {
                    ("like", false) => BinaryOperator::PGLikeMatch,
                    ("like", true) => BinaryOperator::PGNotLikeMatch,
                    (_, false) => BinaryOperator::PGILikeMatch,
                    (_, true) => BinaryOperator::PGNotILikeMatch,
                };
                Some(quantified(parser, left, operator, &second))
            }
            ("overlaps", _) if !negated => {
                parser.advance_token();
                Some(overlaps(parser, left))
            }
            ("operator", _) if !negated => {
                let quantifier = word(NAMED);
                if !matches!(quantifier.as_str(), "any" | "some" | "all") {
                    return None;
                }
                let operator = named_operator(parser)?;
                (0..=NAMED).for_each(|_| parser.advance_token());
                Some(quantified(parser, left, operator, &quantifier))
            }
            _ => None,
        }
    }
}

/// A call that begins with words of PostgreSQL's grammar. Behind a point they are names.
fn called_by_words(parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
    let opens = |at: usize| parser.peek_nth_token_ref(at).token == Token::LParen;
    let is_collation =
        is_keyword(parser, 0, Keyword::COLLATION) && is_keyword(parser, 1, Keyword::FOR);
    let is_collation = is_collation && opens(2);
    let is_normalize = says(parser, 0, "normalize") && opens(1);
    if !is_collation && !is_normalize || before(parser).next() == Some(&Token::Period) {
        return None;
    }
    Some(match is_collation {
        true => collation_for(parser),
        false => normalize(parser),
    })
}

/// The tokens before the next one, from the last on.
fn before<'p>(parser: &'p Parser<'_>) -> impl Iterator<Item = &'p Token> {
    let tokens = (0..parser.index()).rev();
    tokens
        .map(|at| &parser.token_at(at).token)
        .filter(|token| !matches!(token, Token::Whitespace(_)))
}

/// A call that PostgreSQL's grammar makes of words of its own.
fn call(name: &str, args: Vec<Expr>) -> Expr {
    let unnamed = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new("pg_catalog"), Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.into_iter().map(unnamed).collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// `COLLATION FOR (a)`.
fn collation_for(parser: &mut Parser) -> Result<Expr, ParserError> {
    (0..3).for_each(|_| parser.advance_token());
    let expr = parser.parse_expr()?;
    parser.expect_token(&Token::RParen)?;
    Ok(call("pg_collation_for", vec![expr]))
}

/// `normalize(a)`, and `normalize(a, NFC)`, which has a word for the name of a form.
fn normalize(parser: &mut Parser) -> Result<Expr, ParserError> {
    (0..2).for_each(|_| parser.advance_token());
    let mut args = vec![parser.parse_expr()?];
    if parser.consume_token(&Token::Comma) {
        let forms = ["NFC", "NFD", "NFKC", "NFKD"];
        let form = forms.into_iter().find(|form| says(parser, 0, form));
        let form = form.ok_or_else(|| ParserError::ParserError("a form".to_owned()))?;
        parser.advance_token();
        let form = Value::SingleQuotedString(form.to_owned());
        args.push(Expr::value(form));
    }
    parser.expect_token(&Token::RParen)?;
    Ok(call("normalize", args))
}

/// `(a, b) OVERLAPS (c, d)`, from the second row on.
fn overlaps(parser: &mut Parser, left: &Expr) -> Result<Expr, ParserError> {
    let right = parser.parse_prefix()?;
    match (pair(left), pair(&right)) {
        (Some([a, b]), Some([c, d])) => Ok(call("overlaps", [a, b, c, d].map(Expr::clone).into())),
        _ => Err(ParserError::ParserError("two rows of two".to_owned())),
    }
}

/// The values of a row that has two.
fn pair(row: &Expr) -> Option<[&Expr; 2]> {
    match row {
        Expr::Tuple(list) => match list.as_slice() {
            [a, b] => Some([a, b]),
            _ => None,
        },
        _ => None,
    }
}

/// The tokens of `OPERATOR(schema.=)`.
const NAMED: usize = 6;

/// The operator that `OPERATOR(schema.=)` names, which follows.
fn named_operator(parser: &Parser) -> Option<BinaryOperator> {
    let token = |at: usize| &parser.peek_nth_token_ref(at).token;
    let is_named = *token(1) == Token::LParen
        && *token(3) == Token::Period
        && *token(NAMED - 1) == Token::RParen;
    let parts = [2, 4].map(|at| token(at).to_string());
    is_named.then(|| BinaryOperator::PGCustomBinaryOperator(parts.to_vec()))
}

/// The symbol of an operator that is written as `OPERATOR(pg_catalog.=)`.
fn of_catalog(op: &BinaryOperator) -> Option<&str> {
    match op {
        BinaryOperator::PGCustomBinaryOperator(parts) => match parts.as_slice() {
            [schema, symbol] => {
                let is_it = schema.eq_ignore_ascii_case("pg_catalog") || schema == "\"pg_catalog\"";
                is_it.then_some(symbol.as_str())
            }
            _ => None,
        },
        _ => None,
    }
}

/// Whether an operator is PostgreSQL's own by the name of its schema.
pub fn is_of_catalog(op: &BinaryOperator) -> bool {
    of_catalog(op).is_some()
}

/// The comparison that an operator is, if it is written as `OPERATOR(pg_catalog.=)`; every other one as it is.
pub fn compared_by(op: &BinaryOperator) -> &BinaryOperator {
    match of_catalog(op) {
        Some("=") => &BinaryOperator::Eq,
        Some("<>") => &BinaryOperator::NotEq,
        Some("<") => &BinaryOperator::Lt,
        Some("<=") => &BinaryOperator::LtEq,
        Some(">") => &BinaryOperator::Gt,
        Some(">=") => &BinaryOperator::GtEq,
        _ => op,
    }
}

impl Grammar {
    /// The parser takes nothing behind NOT EXISTS (...) into the NOT, as PostgreSQL does with IS TRUE.
    fn not_exists(&self, parser: &mut Parser) -> Result<Expr, ParserError> {
        parser.advance_token();
        let expr = parser.parse_subexpr(self.prec_value(Precedence::UnaryNot))?;
        Ok(match expr {
            Expr::Exists {
                subquery,
                negated: false,
            } => Expr::Exists {
                subquery,
                negated: true,
            },
            expr => Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr: Box::new(expr),
            },
        })
    }

    fn between(
        &self,
        parser: &mut Parser,
        left: &Expr,
        negated: bool,
    ) -> Result<Expr, ParserError> {
        let precedence = self.prec_value(Precedence::Between);
        let low = parser.parse_subexpr(precedence)?;
        parser.expect_keyword(Keyword::AND)?;
        let high = parser.parse_subexpr(precedence)?;
        Ok(Expr::Between {
            expr: Box::new(left.clone()),
            negated,
            low: Box::new(Expr::Prefixed {
                prefix: Ident::new(SYMMETRIC),
                value: Box::new(low),
            }),
            high: Box::new(high),
        })
    }
}

/// Whether `(VALUES (` follows. The parser knows subqueries by SELECT and WITH.
fn opens_values(parser: &Parser) -> bool {
    parser.peek_nth_token_ref(0).token == Token::LParen && is_values(parser, 1)
}

/// Whether `VALUES (` follows behind so many tokens.
fn is_values(parser: &Parser, at: usize) -> bool {
    is_keyword(parser, at, Keyword::VALUES)
        && parser.peek_nth_token_ref(at + 1).token == Token::LParen
}

/// Whether this word follows behind so many tokens.
fn is_keyword(parser: &Parser, at: usize, keyword: Keyword) -> bool {
    match &parser.peek_nth_token_ref(at).token {
        Token::Word(word) => word.quote_style.is_none() && word.keyword == keyword,
        _ => false,
    }
}

/// The same of a word in any case, which need not be a keyword to the parser.
fn says(parser: &Parser, at: usize, wanted: &str) -> bool {
    match &parser.peek_nth_token_ref(at).token {
        Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted),
        _ => false,
    }
}

/// Whether VALUES follows behind `ANY (` or the like, or a set operation whose first arm is in parentheses. The parser
/// would take the arm for an operand.
fn is_quantified_query(parser: &Parser) -> bool {
    let mut before = before(parser);
    let opened = before.next() == Some(&Token::LParen);
    let quantifier = match before.next() {
        Some(Token::Word(word)) if word.quote_style.is_none() => {
            matches!(word.keyword, Keyword::ANY | Keyword::SOME | Keyword::ALL)
        }
        _ => false,
    };
    opened && quantifier && (is_values(parser, 0) || is_set_operation(parser))
}

/// Whether a set operation in parentheses follows whose first arm is in parentheses, too: `((SELECT 1) UNION SELECT 2)`.
/// The parser would take the arm for an operand.
fn opens_set_operation(parser: &Parser) -> bool {
    set_operation_within(parser, 1)
}

/// The same without the parentheses around it.
fn is_set_operation(parser: &Parser) -> bool {
    set_operation_within(parser, 0)
}

/// Whether a set operation follows within so many parentheses, whose first arm is in more of them.
fn set_operation_within(parser: &Parser, around: usize) -> bool {
    let mut ahead = (parser.index()..)
        .map(|at| &parser.token_at(at).token)
        .filter(|token| !matches!(token, Token::Whitespace(_)))
        .take_while(|token| **token != Token::EOF);
    let mut opened = 0;
    let first = ahead.by_ref().find(|token| {
        opened += usize::from(**token == Token::LParen);
        **token != Token::LParen
    });
    let keyword = |token: Option<&Token>| match token {
        Some(Token::Word(word)) if word.quote_style.is_none() => word.keyword,
        _ => Keyword::NoKeyword,
    };
    if opened <= around
        || !matches!(
            keyword(first),
            Keyword::SELECT | Keyword::WITH | Keyword::VALUES
        )
    {
        return false;
    }
    // The end of what the next parenthesis opens.
    let end = ahead.by_ref().find(|token| {
        match token {
            Token::LParen => opened += 1,
            Token::RParen => opened -= 1,
            _ => {}
        }
        opened == around
    });
    let operators = [Keyword::UNION, Keyword::INTERSECT, Keyword::EXCEPT];
    end.is_some() && operators.contains(&keyword(ahead.next()))
}

/// `left operator ANY (right)`, from the parenthesis on.
fn quantified(
    parser: &mut Parser,
    left: &Expr,
    compare_op: BinaryOperator,
    quantifier: &str,
) -> Result<Expr, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let is_query = parser.peek_keyword(Keyword::SELECT)
        || parser.peek_keyword(Keyword::WITH)
        || parser.peek_keyword(Keyword::VALUES);
    let right = match is_query {
        true => Expr::Subquery(parser.parse_query()?),
        false => parser.parse_expr()?,
    };
    parser.expect_token(&Token::RParen)?;
    let (left, right) = (Box::new(left.clone()), Box::new(right));
    Ok(match quantifier {
        "all" => Expr::AllOp {
            left,
            compare_op,
            right,
        },
        _ => Expr::AnyOp {
            left,
            compare_op,
            right,
            is_some: quantifier == "some",
        },
    })
}
