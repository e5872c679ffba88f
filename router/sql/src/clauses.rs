//! Which clause of a query each token of a statement belongs to, as far as a call reads differently there.
//!
//! Pure. A reader of tokens goes through them in order and tells each to [`Clauses`].

use super::lexer::{Kind, Token};

/// What stands at one level of parentheses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clause {
    /// A list whose expressions name the columns of a result.
    Targets,
    /// An expression, or nothing yet.
    Expression,
    /// The list of FROM, where a call is a table.
    From,
    /// The condition of a join: a comma behind it is of FROM again.
    On,
    /// Arguments in which FROM is no clause, as in `extract(epoch FROM ...)`.
    Arguments,
}

/// The clauses that are open at a token.
#[derive(Debug)]
pub struct Clauses<'a> {
    sql: &'a [u8],
    tokens: &'a [Token],
    levels: Vec<Clause>,
}

impl<'a> Clauses<'a> {
    /// Before the first of these tokens.
    pub fn new(sql: &'a [u8], tokens: &'a [Token]) -> Self {
        Self {
            sql,
            tokens,
            levels: vec![Clause::Expression],
        }
    }

    /// Goes to the token at `at`; a parenthesis that it closes is closed. Returns the clause that it stands in.
    pub fn reach(&mut self, at: usize) -> Clause {
        match self.tokens[at].kind {
            Kind::LParen => self.levels.push(self.opened(at)),
            Kind::RParen => {
                self.levels.pop();
            }
            _ => {}
        }
        // The statement itself is a level, which no parenthesis closes.
        if self.levels.is_empty() {
            self.levels.push(Clause::Expression);
        }
        let level = self.level();
        if self.tokens[at].kind == Kind::Comma && level == Clause::On {
            self.set(Clause::From);
        }
        self.level()
    }

    /// Takes the word at `at` as one of the grammar, which may begin another clause.
    pub fn enter(&mut self, at: usize) {
        let level = self.level();
        if level == Clause::Arguments || self.kind_before(at) == Some(Kind::Dot) {
            return;
        }
        let next = match self.word(at).as_str() {
            // IS DISTINCT FROM
            "from"
                if self.before(at, 1) == "distinct"
                    && ["is", "not"].contains(&&*self.before(at, 2)) =>
            {
                return;
            }
            "from" | "join" | "using" => Clause::From,
            // DISTINCT ON
            "on" if self.before(at, 1) == "distinct" => return,
            "on" => Clause::On,
            "select" | "returning" => Clause::Targets,
            "where" | "group" | "having" | "order" | "limit" | "offset" | "fetch" | "window"
            | "union" | "intersect" | "except" | "set" | "values" | "do" => Clause::Expression,
            "when" if level != Clause::Targets => Clause::Expression,
            _ => return,
        };
        self.set(next);
    }

    fn level(&self) -> Clause {
        self.levels.last().copied().unwrap_or(Clause::Expression)
    }

    fn set(&mut self, clause: Clause) {
        if let Some(level) = self.levels.last_mut() {
            *level = clause;
        }
    }

    /// What begins with the parenthesis at `at`.
    fn opened(&self, at: usize) -> Clause {
        match self.before(at, 1).as_str() {
            "extract" | "substring" | "trim" | "overlay" | "position" => Clause::Arguments,
            _ if self.level() == Clause::Targets => Clause::Targets,
            // A join in parentheses. What is a query there says so by its first word.
            before if self.level() == Clause::From => {
                let joins = ["from", "join", "using", "lateral"].contains(&before);
                let listed = matches!(self.kind_before(at), Some(Kind::Comma | Kind::LParen));
                match joins || listed {
                    true => Clause::From,
                    false => Clause::Expression,
                }
            }
            _ => Clause::Expression,
        }
    }

    fn word(&self, at: usize) -> String {
        match self.tokens.get(at) {
            Some(token) if token.kind == Kind::Word => {
                String::from_utf8_lossy(token.text(self.sql)).to_ascii_lowercase()
            }
            _ => String::new(),
        }
    }

    fn before(&self, at: usize, back: usize) -> String {
        at.checked_sub(back)
            .map(|at| self.word(at))
            .unwrap_or_default()
    }

    fn kind_before(&self, at: usize) -> Option<Kind> {
        Some(self.tokens.get(at.checked_sub(1)?)?.kind)
    }
}
