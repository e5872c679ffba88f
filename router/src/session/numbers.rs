//! What `currval` and `lastval` say: the numbers that a session has taken from sequences.
//!
//! PostgreSQL's process remembers the last number that it gave of each sequence. In transaction pooling a process serves
//! many sessions, and a session many processes. So each connection notes whose numbers its server remembers, and each
//! session which connection has its last ones, and a server is asked only where no number but the session's own can be
//! the answer ([ADR 37](../../../docs/adr/0037-numbers-are-asked-of-who-gave-them.md)). From then on the session keeps the
//! connection. Only servers of the home shard give numbers. Those that the router has taken for a session itself, for rows
//! of sharded tables, no server knows: they are written into the statement that asks.

use super::here::is_common;
use super::servers::AttachedId;
use super::state::{Block, State};
use super::{Halt, Session};
use crate::core::notes::Remembers;
use crate::statements::errors::{Values, Written};
use crate::statements::names::Prepared;
use crate::statements::step::{Kind, Step, currval_refused};
use mothership_catalog::Name;
use mothership_plan::Plan;
use mothership_plan::fill::{Edit, Fill, Piece};
use mothership_sql::effect::Pin;
use mothership_sql::lexer::{Kind as Token, Lexer, Token as Lexeme};
use std::rc::Rc;

/// Where the last numbers of a session are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    /// It has taken none.
    #[default]
    Nowhere,
    /// With this process of the home shard's server.
    With(i32),
    /// With one that may mix them up with others.
    Unclear,
}

/// What is known of a session's numbers: nothing of most that only read.
#[derive(Debug, Default)]
pub struct Numbers(Option<Box<Known>>);

/// The same where there is something to know.
#[derive(Debug, Default)]
struct Known {
    last: Last,
    /// Other processes may remember older ones.
    older: bool,
    /// The request at hand may take numbers.
    takes: bool,
    /// The server that remembers them is at hand.
    ready: bool,
    /// It has asked once, so that what it takes from then on stays at hand.
    follows: bool,
    /// Those that the router has taken.
    made: Option<Box<Made>>,
}

/// Numbers that the router has taken for a session.
#[derive(Debug, Default)]
struct Made {
    /// The last of each sequence.
    values: Vec<(Name, i64)>,
    /// The last of all.
    last: Option<i64>,
    /// A server may have given others since, or what they were for has failed, and with it nobody knows how many were used.
    unclear: bool,
    /// There were others of which the same is true.
    lost: bool,
    /// What they are for may fail yet.
    in_use: bool,
}

/// What is known of a number that a statement asks for.
enum SequenceValue {
    /// It is this.
    Here(i64),
    /// A server gave it, if there is one.
    Elsewhere,
    /// Nobody can say.
    Unclear,
}

impl Made {
    /// The last number of a sequence, or of all.
    fn find(&self, sequence: Option<&str>) -> SequenceValue {
        let Some(sequence) = sequence else {
            return match self.last.filter(|_| !self.unclear) {
                Some(last) => SequenceValue::Here(last),
                None => SequenceValue::Unclear,
            };
        };
        let mut values = self.values.iter();
        match values.find(|(name, _)| name.quoted() == sequence) {
            Some((_, value)) if !self.unclear => SequenceValue::Here(*value),
            None if !self.lost => SequenceValue::Elsewhere,
            _ => SequenceValue::Unclear,
        }
    }
}

impl Numbers {
    fn known(&mut self) -> &mut Known {
        self.0.get_or_insert_default()
    }

    fn last(&self) -> Last {
        self.0.as_ref().map_or(Last::Nowhere, |known| known.last)
    }

    fn made(&self) -> Option<&Made> {
        self.0.as_ref()?.made.as_deref()
    }

    /// A request begins.
    pub fn begin(&mut self, takes: bool) {
        if takes || self.0.is_some() {
            self.known().begin(takes);
        }
    }

    /// What it runs takes none.
    pub fn takes_none(&mut self) {
        self.begin(false);
    }

    /// A statement goes to a server of the home shard. True if its connection is to be kept for the session.
    pub fn go_to(&mut self, me: u64, process: i32, remembers: &mut Remembers) -> bool {
        let known = self.0.as_mut();
        known.is_some_and(|known| known.go_to(me, process, remembers))
    }

    /// Something has failed: of what it was for, fewer numbers may have been used than were made.
    pub fn failed(&mut self) {
        let known = self.0.as_mut();
        if let Some(made) = known.and_then(|known| known.made.as_mut())
            && made.in_use
        {
            made.unclear = true;
        }
    }

    /// Everything was answered that was asked.
    pub fn answered(&mut self) {
        let known = self.0.as_mut();
        if let Some(made) = known.and_then(|known| known.made.as_mut()) {
            made.in_use = false;
        }
    }

    /// DISCARD: the session has none.
    pub fn forget(&mut self) {
        if let Some(known) = &mut self.0 {
            **known = Known {
                follows: known.follows,
                ..Known::default()
            };
        }
    }

    /// Whether an error that there is no number yet may be wrong.
    pub fn may_lack(&self) -> bool {
        let known = self.0.as_ref();
        known.is_some_and(|known| known.ready && known.older)
    }
}

impl Known {
    fn begin(&mut self, takes: bool) {
        (self.takes, self.ready) = (takes, false);
    }

    fn go_to(&mut self, me: u64, process: i32, remembers: &mut Remembers) -> bool {
        if !self.takes {
            return false;
        }
        if let Some(made) = &mut self.made {
            made.unclear = true;
        }
        let here = Last::With(process);
        let alone = match *remembers {
            Remembers::Nothing => true,
            // What it has of an earlier visit may be older than what others have.
            Remembers::Of(whose) => whose == me && self.last == here,
            Remembers::Several => false,
        };
        *remembers = match alone {
            true => Remembers::Of(me),
            false => Remembers::Several,
        };
        let last = match alone {
            true => here,
            false => Last::Unclear,
        };
        self.older |= !matches!(self.last, Last::Nowhere) && self.last != last;
        self.last = last;
        self.follows && alone
    }

    /// Whether the server of a connection must forget what it remembers, before the request at hand takes numbers there.
    fn lacks_room(&self, me: u64, process: i32, remembers: Remembers) -> bool {
        let own = remembers == Remembers::Of(me) && self.last == Last::With(process);
        self.takes && remembers != Remembers::Nothing && !own
    }

    /// The router has taken these numbers for an INSERT, in the order of its rows.
    fn make(&mut self, taken: &[(&Name, i64)], within: bool) {
        self.ready = false;
        let made = self.made.get_or_insert_default();
        if made.unclear {
            made.lost |= !made.values.is_empty();
            made.values.clear();
            made.unclear = false;
        }
        (made.last, made.in_use) = (None, true);
        for (sequence, value) in taken {
            made.values.retain(|(known, _)| known != *sequence);
            made.values.push(((*sequence).clone(), *value));
        }
        let mut of = taken.iter().map(|(sequence, _)| sequence);
        let first = of.next();
        let single = of.all(|other| Some(other) == first);
        if single {
            made.last = taken.last().map(|(_, value)| *value);
        }
        // Several within WITH run in an order of their own.
        made.unclear = within && taken.len() > 1;
    }
}

/// Whether a statement may take numbers.
fn takes(step: &Step) -> bool {
    let kind = &step.kind;
    let settings = matches!(kind, Kind::Settings(_) | Kind::LocalConfig(_));
    let own = kind.is_control() || is_common(kind) || settings;
    !own && (step.writes || !step.calls.is_empty() || matches!(kind, Kind::Execute(_)))
}

fn asks(statement: &Prepared) -> bool {
    let asks = |step: &Step| step.pins.has(Pin::SequenceState);
    statement.steps.iter().any(asks)
}

/// Whether some code that no statement shows takes numbers where rows are only read: views, policies, operators, casts,
/// domains. Of functions of users every volatile one may.
const HIDDEN: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_rewrite WHERE ev_type OPERATOR(pg_catalog.=) '1' AND ev_class OPERATOR(pg_catalog.>=) 16384 \
    AND ev_action::pg_catalog.text OPERATOR(pg_catalog.~) ':funcid (1574|1576|1765) ') \
    OR EXISTS (SELECT FROM pg_catalog.pg_policy WHERE pg_catalog.concat(polqual, polwithcheck) OPERATOR(pg_catalog.~) ':funcid (1574|1576|1765) ') \
    OR EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) d.refobjid \
    WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid OPERATOR(pg_catalog.>=) 16384 AND p.provolatile OPERATOR(pg_catalog.=) 'v' \
    AND p.prorettype OPERATOR(pg_catalog.<>) 'pg_catalog.trigger'::pg_catalog.regtype AND d.classid OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog.pg_rewrite'::pg_catalog.regclass, \
    'pg_catalog.pg_policy'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass, \
    'pg_catalog.pg_cast'::pg_catalog.regclass, 'pg_catalog.pg_constraint'::pg_catalog.regclass]::pg_catalog.oid[]))";

impl State {
    /// Whether a statement that asks for the session's numbers may go to its server.
    pub(super) fn may_ask_numbers(&self) -> bool {
        let known = self.numbers.0.as_ref();
        known.is_some_and(|known| known.ready)
    }

    /// Numbers that were taken for an INSERT, in the order of its rows.
    pub(super) fn made_numbers(&mut self, taken: &[(&Name, i64)], within: bool) {
        if !taken.is_empty() {
            self.numbers.known().make(taken, within);
        }
    }

    fn is_block_well(&self) -> bool {
        matches!(self.block, Block::None | Block::Begun | Block::Open)
    }

    /// A statement is about to run.
    pub(super) fn mind_numbers(&mut self, statement: &Prepared) {
        let runs = statement.runs.as_ref();
        let runs = runs.is_some_and(|runs| runs.body.steps.iter().any(takes));
        let takes = runs || statement.steps.iter().any(takes);
        self.numbers.begin(takes);
    }
}

impl Session {
    /// Whether the server of a connection that was just lent has to forget what it remembers.
    pub(super) fn must_forget_numbers(&self, at: AttachedId) -> bool {
        let attached = &self.servers[at];
        let Some(known) = &self.state.numbers.0 else {
            return false;
        };
        let wanted = self.is_session_mode() || self.core.numbers_asked.get() || known.follows;
        let (me, process) = (self.entry.who.number, attached.inbox.process);
        let remembers = attached.lease.notes.numbers;
        wanted
            && attached.shard == self.topology.home
            && self.topology.is_postgres(attached.shard)
            && known.lacks_room(me, process, remembers)
    }

    /// Sees to it that a statement that asks for the session's numbers finds the server that remembers them.
    ///
    /// # Errors
    /// Where it is not certain which one does.
    pub(super) async fn find_numbers(&mut self, statement: &Prepared) -> Result<(), Halt> {
        let body = statement.runs.as_ref().map(|runs| Rc::clone(&runs.body));
        let mut named = statement.steps.iter().filter_map(|step| match &step.kind {
            Kind::Execute(name) => self.state.names.get(name),
            _ => None,
        });
        let body_asks = body.is_some_and(|body| asks(&body));
        if !asks(statement) && !body_asks && !named.any(|body| asks(body)) {
            return Ok(());
        }
        if !self.state.is_block_well() {
            return Ok(());
        }
        let at = Box::pin(self.attach(self.topology.home)).await?;
        let attached = &self.servers[at];
        let (me, process) = (self.entry.who.number, attached.inbox.process);
        let follows = self.state.pins.has(Pin::SequenceState);
        match (self.state.numbers.last(), attached.lease.notes.numbers) {
            (Last::Nowhere, Remembers::Nothing) => {}
            (Last::Nowhere, _) => {
                self.tell(at, "DISCARD SEQUENCES").await?;
            }
            (Last::With(last), Remembers::Of(whose)) if last == process && whose == me => {}
            _ => return Err(self.numbers_missed()),
        }
        if !follows && !self.is_session_mode() && self.hides_numbers(at).await? {
            return Err(self.numbers_missed());
        }
        let attached = self.servers.get_mut(at).ok_or(Halt::Failed)?;
        attached.lease.notes.numbers = Remembers::Of(me);
        let known = self.state.numbers.known();
        known.last = Last::With(process);
        (known.ready, known.follows) = (true, true);
        Ok(())
    }

    /// Whoever takes numbers on this core from now on has a server that remembers nobody else's.
    fn numbers_missed(&mut self) -> Halt {
        self.core.numbers_asked.set(true);
        self.state.numbers.known().follows = true;
        currval_refused().into()
    }

    async fn hides_numbers(&mut self, at: AttachedId) -> Result<bool, Halt> {
        let row = self.ask_row(at, HIDDEN).await?;
        Ok(row.as_deref() != Some("f"))
    }

    /// How numbers of which only the router knows are written into a statement that asks for them.
    pub(super) async fn with_numbers(
        &mut self,
        statement: &Rc<Prepared>,
    ) -> Result<Option<Rc<Plan>>, Halt> {
        let [step] = statement.steps.as_slice() else {
            return Ok(None);
        };
        if self.state.numbers.made().is_none()
            || !step.pins.has(Pin::SequenceState)
            || !self.state.is_block_well()
        {
            return Ok(None);
        }
        let sql = step.span.of(&statement.sql);
        let Some(calls) = calls(sql, self.standard_strings()) else {
            return Err(self.numbers_missed());
        };
        let (mut edits, mut elsewhere) = (Vec::new(), false);
        for call in calls {
            let sequence = match &call.argument {
                None => None,
                Some(argument) => Some(Box::pin(self.named_sequence(argument)).await?),
            };
            let made = self.state.numbers.made();
            let value = match made.map_or(SequenceValue::Elsewhere, |made| {
                made.find(sequence.as_deref())
            }) {
                SequenceValue::Here(value) => value,
                SequenceValue::Elsewhere => {
                    elsewhere = true;
                    continue;
                }
                SequenceValue::Unclear => return Err(self.numbers_missed()),
            };
            let named = match call.is_column {
                true => format!(" AS {}", call.function),
                false => String::new(),
            };
            edits.push(Edit {
                at: call.at,
                put: vec![Piece::Text(format!("'{value}'::pg_catalog.int8{named}"))],
            });
        }
        if elsewhere {
            return match edits.is_empty() {
                true => Ok(None),
                false => Err(self.numbers_missed()),
            };
        }
        let fill = Fill {
            table: Name::new("pg_catalog", "pg_sequence"),
            edits,
            values: Vec::new(),
            parameters: parameters(sql, self.standard_strings()),
        };
        Ok(Some(Rc::new(Plan::Fill(fill))))
    }

    /// The same of a simple query.
    pub(super) async fn numbered_query(
        &mut self,
        statement: &Rc<Prepared>,
    ) -> Result<Option<(Rc<Prepared>, Rc<Written>)>, Halt> {
        let Some(plan) = self.with_numbers(statement).await? else {
            return Ok(None);
        };
        let (Plan::Fill(fill), [step]) = (&*plan, statement.steps.as_slice()) else {
            return Ok(None);
        };
        let sql = std::str::from_utf8(step.span.of(&statement.sql));
        let sql = sql.map_err(|_| super::dispatch::not_utf8())?;
        let text = fill.with_constants(sql, &[]).ok_or_else(currval_refused)?;
        self.topology.check_text(text.as_bytes())?;
        let values = Values::Constants(Rc::from([]));
        let written = Written::filled(statement, step.span, Rc::clone(&plan), values);
        Ok(Some((self.queried(text.as_bytes()), Rc::new(written))))
    }

    /// The same of a parsed statement.
    pub(super) async fn numbered_bind(
        &mut self,
        statement: &Rc<Prepared>,
    ) -> Result<Option<(Rc<Prepared>, Rc<Written>)>, Halt> {
        if statement.runs.is_some() {
            return Ok(None);
        }
        let Some(plan) = self.with_numbers(statement).await? else {
            return Ok(None);
        };
        let (Plan::Fill(fill), [step]) = (&*plan, statement.steps.as_slice()) else {
            return Ok(None);
        };
        let (filled, _) = self.filled_statement(statement, fill)?;
        let values = Values::Constants(Rc::from([]));
        let written = Written::filled(statement, step.span, Rc::clone(&plan), values);
        Ok(Some((filled, Rc::new(written))))
    }

    /// The sequence that the argument of a `currval` names, as [`Name::quoted`] writes it.
    async fn named_sequence(&mut self, argument: &str) -> Result<String, Halt> {
        let at = Box::pin(self.attach(self.topology.home)).await?;
        let sql = format!(
            "SELECT pg_catalog.concat(pg_catalog.replace(n.nspname, '\"', '\"\"'), '\".\"', \
             pg_catalog.replace(c.relname, '\"', '\"\"')) FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace WHERE c.oid OPERATOR(pg_catalog.=) ({argument})::pg_catalog.regclass"
        );
        let row = self.ask_row(at, &sql).await?;
        Ok(format!("\"{}\"", row.unwrap_or_default()))
    }
}

/// A call of `lastval` or `currval` in a text.
#[derive(Debug, PartialEq)]
struct Call {
    /// Where it stands.
    at: std::ops::Range<usize>,
    function: &'static str,
    /// What `currval` was given, as it is written.
    argument: Option<String>,
    /// It is a column of the statement's answer, and named by the function.
    is_column: bool,
}

/// Whether the list of columns ends before this word.
fn ends_list(word: &str) -> bool {
    const ENDS: [&str; 14] = [
        "except",
        "fetch",
        "for",
        "from",
        "group",
        "having",
        "intersect",
        "into",
        "limit",
        "offset",
        "order",
        "union",
        "where",
        "window",
    ];
    ENDS.contains(&word)
}

/// The calls in a SELECT; `None` where another constant would not be what it says, or what it is called.
fn calls(sql: &[u8], strings: bool) -> Option<Vec<Call>> {
    let tokens: Vec<_> = Lexer::new(sql, strings).collect();
    let word = |at: usize| -> Option<String> {
        let token = tokens.get(at).filter(|token| token.kind == Token::Word)?;
        Some(String::from_utf8_lossy(token.text(sql)).to_ascii_lowercase())
    };
    let is = |at: usize, kind: Token| tokens.get(at).is_some_and(|token| token.kind == kind);
    // A write may take numbers itself, between one row and the next.
    (word(0).as_deref() == Some("select")).then_some(())?;
    let mut found = Vec::new();
    let (mut depth, mut at) = (0usize, 0);
    // Behind the list of columns a comma may divide tables, or what rows are sorted by.
    let mut in_list = true;
    while at < tokens.len() {
        let name = word(at);
        let function = match name.as_deref() {
            Some("lastval") if is(at + 1, Token::LParen) => "lastval",
            Some("currval") if is(at + 1, Token::LParen) => "currval",
            Some("lastval" | "currval") => return None,
            _ => {
                in_list &= depth > 0 || !name.as_deref().is_some_and(ends_list);
                match tokens[at].kind {
                    Token::LParen => depth += 1,
                    Token::RParen => depth = depth.checked_sub(1)?,
                    Token::QuotedIdent | Token::UnicodeIdent => {
                        let text = String::from_utf8_lossy(tokens[at].text(sql));
                        // It may be the function.
                        if text.contains("val") || text.contains('\\') {
                            return None;
                        }
                    }
                    _ => {}
                }
                at += 1;
                continue;
            }
        };
        let mut begin = at;
        if at > 0 && is(at - 1, Token::Dot) {
            begin = at.checked_sub(2)?;
            if word(begin).as_deref() != Some("pg_catalog") {
                return None;
            }
        }
        let (argument, end) = argument(&tokens, sql, at + 2)?;
        if argument.is_none() != (function == "lastval") {
            return None;
        }
        let before = begin.checked_sub(1)?;
        let behind = end + 1;
        let listed = word(before).as_deref() == Some("select") || is(before, Token::Comma);
        let ends =
            behind >= tokens.len() || is(behind, Token::Semicolon) || is(behind, Token::Comma);
        let labelled = word(behind).as_deref() == Some("as");
        if depth > 0 || !in_list || !listed || !(ends || labelled) {
            return None;
        }
        found.push(Call {
            at: tokens[begin].start..tokens[end].end,
            function,
            argument,
            is_column: ends,
        });
        at = behind;
    }
    Some(found)
}

/// What stands between the parentheses of a call, if it is a constant or asks for the sequence of a column, and where
/// the call ends.
fn argument(tokens: &[Lexeme], sql: &[u8], from: usize) -> Option<(Option<String>, usize)> {
    let mut depth = 1usize;
    for (at, token) in tokens.iter().enumerate().skip(from) {
        match token.kind {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            Token::Word => {
                let word = token.text(sql).to_ascii_lowercase();
                let known: [&[u8]; 4] = [
                    b"regclass",
                    b"text",
                    b"pg_catalog",
                    b"pg_get_serial_sequence",
                ];
                if !known.contains(&&*word) {
                    return None;
                }
            }
            Token::String | Token::TypeCast | Token::Dot | Token::Comma => {}
            _ => return None,
        }
        if depth == 0 {
            let text = sql.get(tokens.get(from)?.start..token.start)?;
            let text = std::str::from_utf8(text).ok()?.trim();
            return Some(((!text.is_empty()).then(|| text.to_owned()), at));
        }
    }
    None
}

/// The highest number of a parameter.
fn parameters(sql: &[u8], strings: bool) -> usize {
    let numbers = Lexer::new(sql, strings).filter(|token| token.kind == Token::Param);
    let numbers = numbers.filter_map(|token| {
        let text = std::str::from_utf8(token.text(sql)).ok()?;
        text.strip_prefix('$')?.parse().ok()
    });
    numbers.max().unwrap_or(0)
}

#[cfg(test)]
mod tests;
