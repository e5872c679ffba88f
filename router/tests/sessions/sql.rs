//! What the texts mean that reach a simulated server: the statements of the simulated clients, as they are and as the
//! router rewrites them for shards, and the router's own.
//!
//! A text that is none of them is an error ([`Unknown`]), and the simulation fails with it: a simulated server never
//! guesses.

use mothership_sql::lexer::{Kind, Lexer};
use std::iter::Peekable;
use std::vec::IntoIter;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    Null,
    Int(i64),
    /// A sum: PostgreSQL's numeric.
    Sum(i64),
    Text(String),
}

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Id,
    V,
    W,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Value(Value),
    Param(usize),
    Column(Column),
    /// `current_setting(name)`.
    Setting(String),
    /// An arithmetic operator.
    Binary(char, Box<Expr>, Box<Expr>),
    Count,
    Sum(Column),
    Max(Column),
}

/// `left op right`; `=` with several on the right is IN.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    pub left: Expr,
    pub op: String,
    pub right: Vec<Expr>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    /// What is selected, with its name.
    pub items: Vec<(Expr, String)>,
    pub table: Option<String>,
    pub conditions: Vec<Condition>,
    /// With whether it descends.
    pub order: Vec<(Expr, bool)>,
    pub limit: Option<Expr>,
    /// FOR UPDATE.
    pub locks: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// Only white space.
    Empty,
    Begin,
    Commit,
    Rollback,
    Savepoint(String),
    RollbackTo(String),
    Release(String),
    Prepare(String),
    /// COMMIT PREPARED, or ROLLBACK PREPARED.
    Finish {
        gid: String,
        commit: bool,
    },
    Set {
        name: String,
        value: String,
        local: bool,
    },
    /// None is ALL.
    Reset(Option<String>),
    DiscardAll,
    /// It does nothing here and is answered by this tag.
    Nothing(&'static str),
    /// It gives no row and does nothing.
    NoRow,
    /// The list of a SELECT that calls `set_config` only.
    SetConfig(Vec<(String, Option<String>, bool)>),
    Select(Select),
    Insert {
        table: String,
        rows: Vec<[Expr; 3]>,
        returning: Vec<(Expr, String)>,
    },
    Update {
        table: String,
        set: Vec<(Column, Expr)>,
        conditions: Vec<Condition>,
        returning: Vec<(Expr, String)>,
    },
    Delete {
        table: String,
        conditions: Vec<Condition>,
        returning: Vec<(Expr, String)>,
    },
    CopyIn {
        table: String,
    },
    /// `decide` of the router's schema: its four arguments.
    Decide([String; 4]),
    /// `fence`: its three arguments.
    Fence([String; 3]),
    /// One row of these texts.
    Row(Vec<Said>),
    /// Rows that say what is prepared, and so on: see [`Said`].
    Asked(Asked),
    /// PostgreSQL cannot parse it.
    Broken,
}

/// A value that only the server itself knows.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Text(String),
    /// `backend()` of the router's schema.
    Backend,
    /// The isolation level and the time of the transaction.
    Isolation,
    /// The settings that a connection has of its own, for a session that is asked what it has left.
    State,
}

/// A question of the control role, with what it asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    Place,
    Decisions,
    Held,
    /// Of these: number, id, pid, start.
    Outcomes(Vec<[String; 4]>),
    /// Of these: id, pid, start, committed.
    Forget(Vec<[String; 4]>),
    Owner,
}

/// A text that no simulated server understands.
#[derive(Debug)]
pub struct Unknown(pub String);

/// What a statement means.
pub fn read(sql: &str) -> Result<Statement, Unknown> {
    if let Some(known) = of_the_router(sql) {
        return Ok(known);
    }
    let mut parser = Parser {
        tokens: tokens(sql).into_iter().peekable(),
    };
    let read = parser.statement();
    match read.filter(|_| parser.tokens.peek().is_none()) {
        Some(statement) => Ok(statement),
        None => Err(Unknown(sql.to_owned())),
    }
}

/// The texts that the router writes itself, word for word.
fn of_the_router(sql: &str) -> Option<Statement> {
    let text = |text: &str| Some(Statement::Row(vec![Said::Text(text.to_owned())]));
    let is = |start: &str| sql.starts_with(start);
    if sql == "SELECT \"mothership\".backend()" {
        return Some(Statement::Row(vec![Said::Backend]));
    }
    if is("SELECT pg_catalog.set_config('synchronous_commit'") {
        return Some(Statement::NoRow);
    }
    if let Some(call) = sql.strip_prefix("SELECT \"mothership\".decide(") {
        return Some(Statement::Decide(arguments(call)?.try_into().ok()?));
    }
    if let Some(call) = sql.strip_prefix("SELECT \"mothership\".fence(") {
        return Some(Statement::Fence(arguments(call)?.try_into().ok()?));
    }
    if is("SELECT pg_catalog.concat_ws('|', pg_catalog.current_setting('transaction_isolation')") {
        return Some(Statement::Row(vec![
            Said::Isolation,
            Said::Text(String::new()),
        ]));
    }
    if is("SELECT pg_catalog.pg_advisory_xact_lock_shared(") {
        return text("");
    }
    if is("SELECT WHERE ") {
        return Some(Statement::NoRow);
    }
    if is("SELECT pg_catalog.json_object_agg(name, reset_val)") {
        return text("{\"search_path\" : \"\\\"$user\\\", public\"}");
    }
    if is("SELECT pg_catalog.json_object_agg(") {
        return text("{\"TimeZone\" : [\"UTC\", false]}");
    }
    if is("SELECT pg_catalog.json_build_object(") {
        return Some(Statement::Row(vec![Said::State]));
    }
    if is("SELECT reset_val FROM pg_catalog.pg_settings") {
        return text("read committed");
    }
    if is("SELECT c.system_identifier, d.oid, pg_is_in_recovery()") {
        return Some(Statement::Asked(Asked::Place));
    }
    if is("WITH a AS MATERIALIZED") {
        return match sql.split_once("FROM (VALUES ") {
            None => Some(Statement::Asked(Asked::Decisions)),
            Some((_, rest)) => Some(Statement::Asked(Asked::Outcomes(tuples(rest)?))),
        };
    }
    if is("WITH gone AS (DELETE FROM") {
        let (_, rest) = sql.split_once("USING (VALUES ")?;
        return Some(Statement::Asked(Asked::Forget(tuples(rest)?)));
    }
    if is("SELECT gid, owner,") {
        return Some(Statement::Asked(Asked::Held));
    }
    if is("SELECT p.owner FROM pg_prepared_xacts") {
        return Some(Statement::Asked(Asked::Owner));
    }
    if is("mothership: an error was raised by the router") {
        return Some(Statement::Broken);
    }
    if is("DO $mothership_guard$") {
        return Some(Statement::Nothing("DO"));
    }
    if is("SET TRANSACTION") {
        return Some(Statement::Nothing("SET"));
    }
    None
}

/// The arguments of a call up to its parenthesis, without their quotes.
fn arguments(call: &str) -> Option<Vec<String>> {
    let (list, _) = call.split_once(')')?;
    Some(list.split(", ").map(plain).collect())
}

/// The tuples of a list of VALUES.
fn tuples(list: &str) -> Option<Vec<[String; 4]>> {
    let mut tuples = Vec::new();
    let mut rest = list;
    loop {
        let (tuple, behind) = rest.strip_prefix('(')?.split_once(')')?;
        let values: Vec<String> = tuple.split(", ").map(plain).collect();
        tuples.push(values.try_into().ok()?);
        match behind.strip_prefix(", ") {
            Some(more) => rest = more,
            None => return Some(tuples),
        }
    }
}

/// A literal without its quotes and its cast.
fn plain(literal: &str) -> String {
    let literal = literal.split("::").next().unwrap_or_default();
    literal.trim_matches('\'').to_owned()
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Int(i64),
    Text(String),
    Param(usize),
    /// An operator or a bracket.
    Sign(String),
}

/// The tokens of a text. Schemas are left out, and `OPERATOR(pg_catalog.=)` is `=`.
fn tokens(sql: &str) -> Vec<Token> {
    let text = |token: &mothership_sql::lexer::Token| &sql[token.start..token.end];
    let mut all: Vec<Token> = Vec::new();
    for token in Lexer::new(sql.as_bytes(), true) {
        let own = text(&token);
        all.push(match token.kind {
            Kind::Word => Token::Word(own.to_ascii_lowercase()),
            Kind::QuotedIdent => Token::Word(own.trim_matches('"').to_owned()),
            Kind::Integer => own
                .parse()
                .map_or_else(|_| Token::Sign(own.to_owned()), Token::Int),
            Kind::Param => Token::Param(own[1..].parse().unwrap_or_default()),
            Kind::String => Token::Text(own[1..own.len() - 1].replace("''", "'")),
            Kind::EscapeString => Token::Text(
                own[2..own.len() - 1]
                    .replace("''", "'")
                    .replace("\\\\", "\\"),
            ),
            _ => Token::Sign(own.to_owned()),
        });
    }
    let mut plain: Vec<Token> = Vec::new();
    let mut rest = all.into_iter().peekable();
    let dot = Token::Sign(".".into());
    while let Some(token) = rest.next() {
        match &token {
            Token::Word(word)
                if rest.peek() == Some(&dot) && !matches!(word.as_str(), "app" | "mothership") =>
            {
                rest.next();
            }
            Token::Word(word) if word == "operator" => {
                // The sign between the parentheses, without its schema.
                let within = rest.by_ref().take_while(|t| *t != Token::Sign(")".into()));
                plain.extend(within.last());
            }
            _ => plain.push(token),
        }
    }
    plain
}

struct Parser {
    tokens: Peekable<IntoIter<Token>>,
}

impl Parser {
    fn is(&mut self, word: &str) -> bool {
        let found = match self.tokens.peek() {
            Some(Token::Word(known)) => known == word,
            Some(Token::Sign(known)) => known == word,
            _ => false,
        };
        if found {
            self.tokens.next();
        }
        found
    }

    fn must(&mut self, word: &str) -> Option<()> {
        self.is(word).then_some(())
    }

    fn word(&mut self) -> Option<String> {
        match self.tokens.next()? {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<String> {
        match self.tokens.next()? {
            Token::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The name of a setting, which may have two parts.
    fn setting(&mut self) -> Option<String> {
        let mut name = self.word()?;
        while self.is(".") {
            name.push('.');
            name.push_str(&self.word()?);
        }
        Some(name)
    }

    fn rest(&mut self) {
        self.tokens.by_ref().for_each(drop);
    }

    fn statement(&mut self) -> Option<Statement> {
        if self.tokens.peek().is_none() {
            return Some(Statement::Empty);
        }
        let verb = self.word()?;
        Some(match verb.as_str() {
            "begin" => {
                self.rest();
                Statement::Begin
            }
            "commit" | "rollback" => {
                let commit = verb == "commit";
                if self.is("prepared") {
                    let gid = self.text()?;
                    return Some(Statement::Finish { gid, commit });
                }
                if self.is("to") {
                    self.is("savepoint");
                    return Some(Statement::RollbackTo(self.word()?));
                }
                match commit {
                    true => Statement::Commit,
                    false => Statement::Rollback,
                }
            }
            "savepoint" => Statement::Savepoint(self.word()?),
            "release" => {
                self.is("savepoint");
                Statement::Release(self.word()?)
            }
            "prepare" => {
                self.must("transaction")?;
                Statement::Prepare(self.text()?)
            }
            "set" => {
                let local = self.is("local");
                if !local {
                    self.is("session");
                }
                let name = self.setting()?;
                let _ = self.is("=") || self.is("to");
                let value = match self.tokens.next()? {
                    Token::Text(text) | Token::Word(text) => text,
                    Token::Int(number) => number.to_string(),
                    _ => return None,
                };
                self.rest();
                Statement::Set { name, value, local }
            }
            "reset" => match self.is("all") {
                true => Statement::Reset(None),
                false if self.is("session") => {
                    self.rest();
                    Statement::Nothing("RESET")
                }
                false => Statement::Reset(Some(self.setting()?)),
            },
            "discard" => match self.is("all") {
                true => Statement::DiscardAll,
                false => {
                    self.rest();
                    Statement::Nothing("DISCARD SEQUENCES")
                }
            },
            "deallocate" => {
                self.rest();
                Statement::Nothing("DEALLOCATE ALL")
            }
            "close" => {
                self.rest();
                Statement::Nothing("CLOSE CURSOR ALL")
            }
            "unlisten" => {
                self.rest();
                Statement::Nothing("UNLISTEN")
            }
            "select" => self.select()?,
            "insert" => self.insert()?,
            "update" => self.update()?,
            "delete" => {
                self.must("from")?;
                Statement::Delete {
                    table: self.word()?,
                    conditions: self.conditions()?,
                    returning: self.returning()?,
                }
            }
            "copy" => {
                let table = self.word()?;
                self.rest();
                Statement::CopyIn { table }
            }
            _ => return None,
        })
    }

    fn select(&mut self) -> Option<Statement> {
        if let Some(settings) = self.set_configs() {
            return Some(Statement::SetConfig(settings));
        }
        let items = self.items()?;
        let table = match self.is("from") {
            true => Some(self.word()?),
            false => None,
        };
        let conditions = self.conditions()?;
        let mut order = Vec::new();
        if self.is("order") {
            self.must("by")?;
            loop {
                let by = self.expr()?;
                let descends = self.is("desc");
                let _ = self.is("asc");
                if self.is("nulls") {
                    self.word()?;
                }
                order.push((by, descends));
                if !self.is(",") {
                    break;
                }
            }
        }
        let limit = match self.is("limit") {
            true => Some(self.expr()?),
            false => None,
        };
        let locks = self.is("for") && self.is("update");
        Some(Statement::Select(Select {
            items,
            table,
            conditions,
            order,
            limit,
            locks,
        }))
    }

    /// The list of a SELECT, if it calls `set_config` and nothing else.
    fn set_configs(&mut self) -> Option<Vec<(String, Option<String>, bool)>> {
        let is_call = |token: &Token| matches!(token, Token::Word(word) if word == "set_config");
        if !self.tokens.peek().is_some_and(is_call) {
            return None;
        }
        let mut settings = Vec::new();
        loop {
            self.must("set_config")?;
            self.must("(")?;
            let name = self.text()?;
            self.must(",")?;
            let value = match self.tokens.next()? {
                Token::Text(text) => Some(text),
                _ => None,
            };
            self.must(",")?;
            settings.push((name, value, self.word()? == "true"));
            self.must(")")?;
            if !self.is(",") {
                return Some(settings);
            }
        }
    }

    fn items(&mut self) -> Option<Vec<(Expr, String)>> {
        let mut items = Vec::new();
        loop {
            let item = self.expr()?;
            let name = match self.is("as") {
                true => self.word()?,
                false => name_of(&item).to_owned(),
            };
            items.push((item, name));
            if !self.is(",") {
                return Some(items);
            }
        }
    }

    fn returning(&mut self) -> Option<Vec<(Expr, String)>> {
        match self.is("returning") {
            true => self.items(),
            false => Some(Vec::new()),
        }
    }

    fn insert(&mut self) -> Option<Statement> {
        self.must("into")?;
        let table = self.word()?;
        if self.is("(") {
            while !self.is(")") {
                self.tokens.next()?;
            }
        }
        self.must("values")?;
        let mut rows = Vec::new();
        loop {
            self.must("(")?;
            let id = self.expr()?;
            self.must(",")?;
            let v = self.expr()?;
            self.must(",")?;
            let w = self.expr()?;
            self.must(")")?;
            rows.push([id, v, w]);
            if !self.is(",") {
                break;
            }
        }
        Some(Statement::Insert {
            table,
            rows,
            returning: self.returning()?,
        })
    }

    fn update(&mut self) -> Option<Statement> {
        let table = self.word()?;
        self.must("set")?;
        let mut set = Vec::new();
        loop {
            let column = column(&self.word()?)?;
            self.must("=")?;
            set.push((column, self.expr()?));
            if !self.is(",") {
                break;
            }
        }
        Some(Statement::Update {
            table,
            set,
            conditions: self.conditions()?,
            returning: self.returning()?,
        })
    }

    fn conditions(&mut self) -> Option<Vec<Condition>> {
        let mut conditions = Vec::new();
        if !self.is("where") {
            return Some(conditions);
        }
        loop {
            let wrapped = self.is("(");
            let left = self.expr()?;
            if self.is("between") {
                let low = self.expr()?;
                self.must("and")?;
                let high = self.expr()?;
                let bound = |op: &str, right| Condition {
                    left: left.clone(),
                    op: op.to_owned(),
                    right: vec![right],
                };
                conditions.extend([bound(">=", low), bound("<=", high)]);
            } else if self.is("in") {
                self.must("(")?;
                let mut right = vec![self.expr()?];
                while self.is(",") {
                    right.push(self.expr()?);
                }
                self.must(")")?;
                let op = "=".to_owned();
                conditions.push(Condition { left, op, right });
            } else {
                let Token::Sign(op) = self.tokens.next()? else {
                    return None;
                };
                let right = vec![self.expr()?];
                conditions.push(Condition { left, op, right });
            }
            if wrapped {
                self.must(")")?;
            }
            if !self.is("and") {
                return Some(conditions);
            }
        }
    }

    fn expr(&mut self) -> Option<Expr> {
        let mut left = self.term()?;
        loop {
            let op = match self.tokens.peek() {
                Some(Token::Sign(sign)) if matches!(sign.as_str(), "+" | "-" | "*" | "/") => {
                    sign.chars().next()?
                }
                _ => return Some(left),
            };
            self.tokens.next();
            let right = self.term()?;
            left = Expr::Binary(op, Box::new(left), Box::new(right));
        }
    }

    fn term(&mut self) -> Option<Expr> {
        let term = match self.tokens.next()? {
            Token::Int(number) => Expr::Value(Value::Int(number)),
            Token::Text(text) => Expr::Value(Value::Text(text)),
            Token::Param(number) => Expr::Param(number),
            Token::Sign(sign) if sign == "(" => {
                let within = self.expr()?;
                self.must(")")?;
                within
            }
            Token::Sign(sign) if sign == "-" => match self.tokens.next()? {
                Token::Int(number) => Expr::Value(Value::Int(-number)),
                _ => return None,
            },
            Token::Word(word) => match word.as_str() {
                "null" => Expr::Value(Value::Null),
                "current_setting" => {
                    self.must("(")?;
                    let name = self.text()?;
                    if self.is(",") {
                        self.word()?;
                    }
                    self.must(")")?;
                    Expr::Setting(name)
                }
                "count" => {
                    self.must("(")?;
                    self.must("*")?;
                    self.must(")")?;
                    Expr::Count
                }
                "sum" | "max" => {
                    self.must("(")?;
                    let of = column(&self.word()?)?;
                    self.must(")")?;
                    match word.as_str() {
                        "sum" => Expr::Sum(of),
                        _ => Expr::Max(of),
                    }
                }
                name => Expr::Column(column(name)?),
            },
            Token::Sign(_) => return None,
        };
        while self.is("::") {
            self.word()?;
        }
        Some(term)
    }
}

fn column(name: &str) -> Option<Column> {
    match name {
        "id" => Some(Column::Id),
        "v" => Some(Column::V),
        "w" => Some(Column::W),
        _ => None,
    }
}

/// The name that PostgreSQL gives to a column of a result.
fn name_of(item: &Expr) -> &'static str {
    match item {
        Expr::Column(Column::Id) => "id",
        Expr::Column(Column::V) => "v",
        Expr::Column(Column::W) => "w",
        Expr::Setting(_) => "current_setting",
        Expr::Count => "count",
        Expr::Sum(_) => "sum",
        Expr::Max(_) => "max",
        Expr::Value(_) | Expr::Param(_) | Expr::Binary(..) => "?column?",
    }
}

impl Expr {
    /// The object id of its type.
    pub fn type_oid(&self) -> u32 {
        match self {
            Expr::Value(Value::Int(_)) => 23,
            Expr::Value(_) | Expr::Setting(_) | Expr::Column(Column::W) => 25,
            Expr::Sum(_) => 1700,
            Expr::Param(_) | Expr::Column(_) | Expr::Count | Expr::Max(_) | Expr::Binary(..) => 20,
        }
    }

    /// Whether it is computed of all rows.
    pub fn is_aggregate(&self) -> bool {
        matches!(self, Expr::Count | Expr::Sum(_) | Expr::Max(_))
    }

    /// Notes the types of the parameters within, where a value of type `oid` is wanted.
    pub fn note_params(&self, oid: u32, types: &mut Vec<u32>) {
        match self {
            Expr::Param(number) => {
                if types.len() < *number {
                    types.resize(*number, 0);
                }
                types[number - 1] = oid;
            }
            Expr::Binary(_, left, right) => {
                left.note_params(20, types);
                right.note_params(20, types);
            }
            _ => {}
        }
    }
}

impl Statement {
    /// The types of its parameters, in order.
    pub fn params(&self) -> Vec<u32> {
        let mut types = Vec::new();
        let conditions_of = |conditions: &[Condition], types: &mut Vec<u32>| {
            for condition in conditions {
                for right in &condition.right {
                    right.note_params(condition.left.type_oid(), types);
                }
            }
        };
        match self {
            Statement::Select(select) => {
                for (item, _) in &select.items {
                    item.note_params(25, &mut types);
                }
                conditions_of(&select.conditions, &mut types);
                if let Some(limit) = &select.limit {
                    limit.note_params(20, &mut types);
                }
            }
            Statement::Insert { rows, .. } => {
                for [id, v, w] in rows {
                    id.note_params(20, &mut types);
                    v.note_params(20, &mut types);
                    w.note_params(25, &mut types);
                }
            }
            Statement::Update {
                set, conditions, ..
            } => {
                for (column, value) in set {
                    value.note_params(Expr::Column(*column).type_oid(), &mut types);
                }
                conditions_of(conditions, &mut types);
            }
            Statement::Delete { conditions, .. } => conditions_of(conditions, &mut types),
            _ => {}
        }
        types
    }
}
