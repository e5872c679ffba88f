//! What tokens show of one statement: its kinds, the relations that it names, and
//! what it calls.
//!
//! In: the text of one statement. Out: [`Facts`], which miss nothing that the text
//! shows: a name that may stand for a relation is taken for one, and a word that may
//! begin a write inside of a query is reported as possible. What names mean, the
//! [`survey`](super::survey) of a catalog knows.

use super::kinds::Kinds;
use crate::config::StatementKind as Kind;
use crate::config::shape::shape;
use mothership_sql::cursor::Cursor;
use mothership_sql::effect::{
    CopyEnd, CopySource, Direction, Effects, Object, Other, Statement, Verb, Writes, analyse,
};
use mothership_sql::functions::{Trait, special};
use mothership_sql::lexer::{Kind as Token, Token as At};
use mothership_sql::name::{Name, strings};
use std::borrow::Cow;

/// A name as it is written, the last two parts of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// What stands before the name.
    pub schema: Option<String>,
    /// The name.
    pub name: String,
}

/// The statement that one explains or prepares; itself, if it does neither.
fn meant(sql: &[u8], conforming: bool) -> &[u8] {
    match analyse(sql, conforming).statement {
        Statement::Prepare { body, .. } => meant(body.of(sql), conforming),
        Statement::Explain { inner, .. } => meant(inner.of(sql), conforming),
        _ => sql,
    }
}

/// What tokens show of one statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// It ends something or does nothing, and no rule speaks of it: COMMIT, CLOSE, DEALLOCATE and the like.
    pub exempt: bool,
    /// What it is.
    pub kinds: Kinds,
    /// What it may be besides.
    pub perhaps: Kinds,
    /// What may name a relation.
    pub relations: Vec<Path>,
    /// Names that it gives to queries of its own (WITH), which may also be those of relations.
    pub ctes: Vec<String>,
    /// The relations are those in the places of relations; else every name is among them.
    pub by_place: bool,
    /// What it calls, and what it may call in the form `x.f`.
    pub calls: Vec<Path>,
    /// Whole schemas may be meant by one of these names.
    pub schemas: Vec<String>,
    /// Code in its strings, decoded, and the statement around it.
    pub code: Option<String>,
    /// Every name that stands in it. A function may be called by any of them: `f(x)`, `x.f`, `(x).f`.
    pub names: Vec<String>,
    /// Every operator that stands in it.
    pub operators: Vec<String>,
    /// Names in it may be hidden from us.
    pub unclear: bool,
    /// Its shape, if it was asked for and can be told.
    pub shape: Option<String>,
}

impl Facts {
    /// What must be assumed of a request that has no text, or one that cannot be read.
    pub fn unknown() -> Self {
        Facts {
            kinds: Kinds::NONE.with(Kind::Other),
            perhaps: Kinds::all(),
            unclear: true,
            ..Facts::default()
        }
    }

    /// Reads one statement. `conforming` is standard_conforming_strings.
    pub fn of(sql: &[u8], conforming: bool) -> Self {
        let analysis = analyse(sql, conforming);
        let inner = match &analysis.statement {
            Statement::Prepare { body, .. } => Some(*body),
            Statement::Explain { inner, .. } => Some(*inner),
            _ => None,
        };
        if let Some(inner) = inner {
            return Self::of(inner.of(sql), conforming);
        }
        let mut facts = Facts::default();
        facts.classify(&analysis.statement, &analysis.effects, sql, conforming);
        if facts.exempt {
            return facts;
        }
        if has_code(&analysis.statement) {
            facts.read_code(sql, conforming);
        }
        facts.unclear |= analysis.effects.uncertain || std::str::from_utf8(sql).is_err();
        let calls = analysis.effects.functions.iter();
        facts.calls.extend(calls.map(|call| Path {
            schema: call.schema.as_ref().map(ToString::to_string),
            name: call.name.to_string(),
        }));
        let by_place = matches!(
            analysis.statement,
            Statement::Select
                | Statement::Insert
                | Statement::Update
                | Statement::Delete
                | Statement::Merge
                | Statement::Declare { .. }
                | Statement::Copy {
                    source: CopySource::Query(_),
                    ..
                }
        );
        facts.by_place = by_place;
        let mut cursor = Cursor::new(sql, conforming);
        while cursor.skip_semicolon() {}
        let of_schemas = matches!(analysis.statement, Statement::Ddl { .. })
            && has_word(cursor.clone(), &["schema", "owned"]);
        facts.read_tokens(cursor.clone());
        if may_name_relations(&analysis.statement) {
            facts.read_names(cursor, by_place);
        }
        if of_schemas {
            facts.schemas = facts.relations.iter().map(|r| r.name.clone()).collect();
        }
        facts.called();
        facts.settle();
        facts
    }

    /// The same with its shape: that of what it explains or prepares, if it does.
    pub fn with_shape(sql: &[u8], conforming: bool) -> Self {
        let mut facts = Self::of(sql, conforming);
        facts.shape = shape(meant(sql, conforming), conforming);
        facts
    }

    /// It concerns the session, not rows: SET, SHOW, LISTEN and the like.
    pub fn is_of_session(&self) -> bool {
        let of_session = Kinds::NONE.with(Kind::Other);
        (self.kinds == of_session || self.kinds == of_session.with(Kind::Read))
            && self.perhaps.is_empty()
            && self.code.is_none()
    }

    fn is(&mut self, kinds: &[Kind]) {
        self.kinds = kinds.iter().fold(self.kinds, |all, kind| all.with(*kind));
    }

    fn classify(
        &mut self,
        statement: &Statement<'_>,
        effects: &Effects<'_>,
        sql: &[u8],
        conforming: bool,
    ) {
        use Statement as S;
        match statement {
            S::Empty
            | S::Begin { .. }
            | S::Commit { .. }
            | S::Rollback { .. }
            | S::Savepoint(_)
            | S::RollbackTo(_)
            | S::Release(_)
            | S::Deallocate(_)
            | S::Close(_) => self.exempt = true,
            S::Select => {
                self.is(&[Kind::Select]);
                self.written_within(effects, sql, conforming, true);
            }
            S::Insert => self.write(Kind::Insert, effects, sql, conforming),
            S::Update => self.write(Kind::Update, effects, sql, conforming),
            S::Delete => self.write(Kind::Delete, effects, sql, conforming),
            S::Merge => self.write(Kind::Merge, effects, sql, conforming),
            S::Declare { query, .. } => {
                let inner = Self::of(query.of(sql), conforming);
                (self.kinds, self.perhaps) = (inner.kinds, inner.perhaps);
            }
            S::Copy {
                direction,
                end,
                source,
            } => {
                self.is(&[Kind::Copy]);
                if *direction == Direction::In || *end == CopyEnd::Server {
                    self.is(&[Kind::Write]);
                }
                if let CopySource::Query(query) = source {
                    let inner = Self::of(query.of(sql), conforming);
                    self.kinds = self.kinds.and(inner.kinds);
                    self.perhaps = self.perhaps.and(inner.perhaps);
                }
            }
            S::Ddl { verb, object } => {
                self.is(&[Kind::Ddl, Kind::Write]);
                let with_query = matches!(object, Object::Table | Object::MaterializedView);
                if *verb == Verb::Create && with_query {
                    self.written_within(effects, sql, conforming, false);
                }
            }
            S::Truncate => self.is(&[Kind::Ddl, Kind::Write]),
            S::Do | S::Call => {
                self.is(&[Kind::Other, Kind::Write]);
                self.perhaps = Kinds::all();
            }
            S::Other(Other::Checkpoint | Other::Load) => self.is(&[Kind::Other]),
            S::Other(_) | S::Notify(_) | S::CommitPrepared(_) | S::RollbackPrepared(_) => {
                self.is(&[Kind::Other, Kind::Write]);
            }
            S::Show(_) | S::ShowAll => self.is(&[Kind::Other, Kind::Read]),
            S::Unclear | S::Several => *self = Self::unknown(),
            _ => self.is(&[Kind::Other]),
        }
    }

    fn write(&mut self, kind: Kind, effects: &Effects<'_>, sql: &[u8], conforming: bool) {
        self.is(&[kind, Kind::Write]);
        self.written_within(effects, sql, conforming, false);
    }

    /// Writes inside of a query: data-modifying CTEs and SELECT INTO. `everywhere`: words that
    /// look like a write in other places count as possible ones.
    fn written_within(
        &mut self,
        effects: &Effects<'_>,
        sql: &[u8],
        conforming: bool,
        everywhere: bool,
    ) {
        if everywhere && effects.writes == Writes::Yes {
            self.is(&[Kind::Write]);
        }
        let mut cursor = Cursor::new(sql, conforming);
        while cursor.skip_semicolon() {}
        let (mut before, mut word_before) = (None::<At>, String::new());
        while let Some(token) = cursor.bump() {
            if token.kind != Token::Word {
                (before, word_before) = (Some(token), String::new());
                continue;
            }
            let word = String::from_utf8_lossy(token.text(sql)).to_ascii_lowercase();
            let kind = match word.as_str() {
                "insert" => Some(Kind::Insert),
                "update" => Some(Kind::Update),
                "delete" => Some(Kind::Delete),
                "merge" => Some(Kind::Merge),
                "into" if everywhere && !matches!(&*word_before, "insert" | "merge") => {
                    self.is(&[Kind::Ddl, Kind::Write]);
                    None
                }
                _ => None,
            };
            let dotted = before.is_some_and(|b| b.kind == Token::Dot);
            if let Some(kind) = kind.filter(|_| !dotted) {
                let begins = before.is_none_or(|b| matches!(b.kind, Token::LParen | Token::RParen));
                if begins {
                    self.is(&[kind, Kind::Write]);
                } else if everywhere && !matches!(&*word_before, "for" | "key" | "as") {
                    self.perhaps = self.perhaps.with(kind).with(Kind::Write);
                }
            }
            (before, word_before) = (Some(token), word);
        }
    }

    /// The code of DO and of a function that is made. A string that cannot be decoded hides it.
    fn read_code(&mut self, sql: &[u8], conforming: bool) {
        let Ok(strings) = strings(sql, conforming) else {
            self.unclear = true;
            return;
        };
        let texts = strings.iter().map(Cow::as_ref).chain([sql]);
        let texts: Vec<_> = texts.map(String::from_utf8_lossy).collect();
        self.code = Some(texts.join("\n"));
        self.unclear |= names_other_language(Cursor::new(sql, conforming));
    }

    fn read_tokens(&mut self, mut c: Cursor<'_>) {
        while let Some(token) = c.peek() {
            match token.kind {
                Token::Word | Token::QuotedIdent | Token::UnicodeIdent => match c.name() {
                    Some(name) => {
                        add(&mut self.names, name.to_string());
                        continue;
                    }
                    None => self.unclear = true,
                },
                Token::Operator => {
                    let symbol = String::from_utf8_lossy(token.text(c.sql()));
                    add(&mut self.operators, symbol.into_owned());
                }
                _ => {}
            }
            c.bump();
        }
    }

    /// What built-in functions do by their names.
    fn called(&mut self) {
        for call in &self.calls {
            match special(call.name.as_bytes()) {
                Some(Trait::Writes | Trait::Sequence | Trait::Slot) => {
                    self.kinds = self.kinds.with(Kind::Write);
                }
                Some(Trait::Opaque) => {
                    self.perhaps = Kinds::all();
                    self.unclear = true;
                }
                _ if mothership_plan::is_opaque(&call.name) => {
                    self.perhaps = Kinds::all();
                    self.unclear = true;
                }
                _ => {}
            }
        }
    }

    /// What is no write reads.
    fn settle(&mut self) {
        let data = [Kind::Select, Kind::Copy];
        let is_data = data.into_iter().any(|kind| self.kinds.has(kind));
        if !is_data || self.kinds.has(Kind::Write) {
            return;
        }
        if self.perhaps.has(Kind::Write) {
            self.kinds = self.kinds.without(Kind::Read);
            self.perhaps = self.perhaps.with(Kind::Read);
        } else {
            self.kinds = self.kinds.with(Kind::Read);
        }
    }

    /// Collects names. `by_place`: only where the grammar of queries and writes has a
    /// relation; else wherever a name stands.
    fn read_names(&mut self, mut c: Cursor<'_>, by_place: bool) {
        // Whether this level of parentheses is inside of a FROM clause.
        let mut levels = vec![false];
        let mut place = Place::Other;
        let mut as_before = false;
        while let Some(token) = c.peek() {
            let in_from = levels.last().copied().unwrap_or(false);
            let was_as = std::mem::take(&mut as_before);
            match token.kind {
                Token::Word | Token::QuotedIdent | Token::UnicodeIdent => {
                    let word = match token.kind {
                        Token::Word => {
                            String::from_utf8_lossy(token.text(c.sql())).to_ascii_lowercase()
                        }
                        _ => String::new(),
                    };
                    let before = place;
                    place = Place::Other;
                    match word.as_str() {
                        "from" | "using" | "join" | "lateral" => {
                            if let Some(level) = levels.last_mut() {
                                *level = true;
                            }
                            place = Place::Listed;
                        }
                        "into" | "table" | "only" | "copy" => place = Place::Named,
                        "temp" | "temporary" | "unlogged" | "local" | "global"
                            if before == Place::Named =>
                        {
                            place = Place::Named
                        }
                        "where" | "group" | "order" | "having" | "window" | "limit" | "offset"
                        | "fetch" | "union" | "intersect" | "except" | "returning" | "select"
                            if !was_as =>
                        {
                            if let Some(level) = levels.last_mut() {
                                *level = false;
                            }
                        }
                        "as" => as_before = true,
                        "update" => place = Place::Named,
                        _ => {
                            self.name(&mut c, by_place, before);
                            continue;
                        }
                    }
                    // These are not reserved and may be names all the same.
                    let is_free = matches!(
                        &*word,
                        "copy" | "update" | "temp" | "temporary" | "unlogged" | "local" | "global"
                    );
                    if !by_place || (is_free && before != Place::Other) {
                        let mut ahead = c.clone();
                        self.name(&mut ahead, by_place, before);
                    }
                    c.bump();
                }
                Token::LParen => {
                    levels.push(in_from || place == Place::Listed);
                    place = match place {
                        Place::Named => Place::Named,
                        _ if in_from || place == Place::Listed => Place::Listed,
                        _ => Place::Other,
                    };
                    c.bump();
                }
                Token::RParen => {
                    if levels.len() > 1 {
                        levels.pop();
                    }
                    place = Place::Other;
                    c.bump();
                }
                Token::Comma => {
                    place = if in_from { Place::Listed } else { Place::Other };
                    c.bump();
                }
                _ => {
                    place = Place::Other;
                    c.bump();
                }
            }
        }
    }

    /// Takes `a`, `a.b`, `a.b.c` and notes it.
    fn name(&mut self, c: &mut Cursor<'_>, by_place: bool, place: Place) {
        let Some(first) = c.name() else {
            self.unclear = true;
            c.bump();
            return;
        };
        let (mut schema, mut name) = (None, first.to_string());
        loop {
            let mut ahead = c.clone();
            if !ahead.eat_kind(Token::Dot) {
                break;
            }
            let Some(next) = ahead.name() else { break };
            schema = Some(std::mem::replace(&mut name, next.to_string()));
            *c = ahead;
        }
        let path = Path { schema, name };
        let is_call = c.sees_kind(Token::LParen) && place != Place::Named;
        if by_place && path.schema.is_none() && is_cte(c.clone()) {
            self.ctes.push(path.name.clone());
        }
        // `x.f` calls `f(x)` where x has no column f.
        if path.schema.is_some() && !is_call {
            self.calls.push(path.clone());
        }
        if !by_place || (place != Place::Other && !is_call) {
            self.relations.push(path);
        }
    }
}

/// False for statements about the session, whose names are those of settings, cursors,
/// channels and the like.
fn may_name_relations(statement: &Statement<'_>) -> bool {
    use Statement as S;
    !matches!(
        statement,
        S::Set { .. }
            | S::Reset(_)
            | S::ResetAll
            | S::SetRole { .. }
            | S::SetSessionAuthorization { .. }
            | S::SetTransaction(_)
            | S::SetTransactionSnapshot(_)
            | S::SetSessionCharacteristics(_)
            | S::SetConstraints
            | S::Show(_)
            | S::ShowAll
            | S::Discard(_)
            | S::PrepareTransaction(_)
            | S::CommitPrepared(_)
            | S::RollbackPrepared(_)
            | S::Execute { .. }
            | S::Fetch { .. }
            | S::Move { .. }
            | S::Listen(_)
            | S::Unlisten(_)
            | S::Notify(_)
    )
}

fn add(list: &mut Vec<String>, one: String) {
    if !list.contains(&one) {
        list.push(one);
    }
}

/// Whether strings of a statement are code: that of DO, and bodies of functions.
fn has_code(statement: &Statement<'_>) -> bool {
    let makes = matches!(
        statement,
        Statement::Ddl {
            verb: Verb::Create,
            object: Object::Routine,
        }
    );
    makes || *statement == Statement::Do
}

/// Whether it says LANGUAGE and names one whose code no word shows.
fn names_other_language(mut c: Cursor<'_>) -> bool {
    loop {
        if c.eat("language") {
            let language = c.string().map(Name::folded).or_else(|| c.name());
            return language.is_none_or(|name| name != "plpgsql" && name != "sql");
        }
        if c.bump().is_none() {
            return false;
        }
    }
}

fn has_word(mut c: Cursor<'_>, words: &[&str]) -> bool {
    while let Some(token) = c.bump() {
        if words.iter().any(|word| c.is(token, word)) {
            return true;
        }
    }
    false
}

/// Whether `[(columns)] AS [[NOT] MATERIALIZED] (` follows a name.
fn is_cte(mut c: Cursor<'_>) -> bool {
    c.group();
    c.eat("as") && {
        c.eat("not");
        c.eat("materialized");
        c.sees_kind(Token::LParen)
    }
}

/// What the token before a name makes of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// No relation.
    Other,
    /// A relation for certain.
    Named,
    /// A member of a FROM clause, or a function in it.
    Listed,
}
