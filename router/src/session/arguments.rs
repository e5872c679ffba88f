//! The arguments of an EXECUTE as values, and what it runs as a parsed statement that they are bound to.
//!
//! PostgreSQL computes the arguments once and makes values of the parameters' types of them. Where each is a literal of
//! which that is certain, its text is the value. Otherwise the home shard's server does it, with PostgreSQL's own rules:
//! it runs an EXECUTE with these arguments of a statement that only gives its parameters back.

use super::dispatch::{not_utf8, refused};
use super::execute::{Argument, Arguments, arguments};
use super::inbox::Notices;
use super::servers::AttachedId;
use super::simple::named::prepared_over_shards;
use super::state::{Block, Phase};
use super::{Attached, Halt, Session};
use crate::statements::errors::Written;
use crate::statements::names::renamed;
use crate::statements::names::{Origin, Prepared};
use crate::statements::step::{Kind, Step};
use mothership_plan::{Params, Plan, Reason, Refusal, Single, Target};
use mothership_proto::backend::{self, tag};
use mothership_proto::frontend::{Parse, Target as Described};
use mothership_proto::ledger::{Audience, Event};
use mothership_proto::report::{Report, sqlstate};
use mothership_sql::cursor::Span;
use mothership_sql::effect::{Statement, analyse};
use mothership_sql::lexer::{Kind as TokenKind, Lexer};
use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;

/// The statement that gives its parameters back. Its name is not one of those that are numbered.
const ECHO: &str = "__mothership_arguments";
/// The portal of the EXECUTE of it.
const PORTAL: &[u8] = b"mothership_arguments";
/// A select list has no more columns than 1664.
const MAX_PARAMETERS: usize = 1_600;

/// What an EXECUTE runs, with the values that its arguments are.
pub(super) struct Bound {
    /// The body of the PREPARE, all of whose parameter types are known.
    pub statement: Rc<Prepared>,
    formats: Vec<i16>,
    values: Vec<Option<Vec<u8>>>,
}

impl Bound {
    /// The values with their formats.
    pub fn values(&self) -> Vec<(i16, Option<&[u8]>)> {
        let values = self.values.iter().map(Option::as_deref);
        self.formats.iter().copied().zip(values).collect()
    }

    /// With further values, as texts, for what the router has made of the statement.
    pub fn filled(mut self, statement: Rc<Prepared>, more: Vec<String>) -> Bound {
        self.formats.resize(self.formats.len() + more.len(), 0);
        self.values
            .extend(more.into_iter().map(|text| Some(text.into_bytes())));
        Bound { statement, ..self }
    }

    /// Does something with them as parameters.
    pub fn with<T>(&self, then: impl FnOnce(&Params<'_>) -> T) -> T {
        let values: Vec<Option<&[u8]>> = self.values.iter().map(Option::as_deref).collect();
        then(&Params {
            formats: &self.formats,
            values: &values,
            ..Params::NONE
        })
    }
}

impl Session {
    /// What an EXECUTE of `name` runs. The span is that of the name.
    ///
    /// # Errors
    /// Those of the arguments, and for arguments that cannot be computed on one server.
    pub(super) async fn bound(
        &mut self,
        (sql, span): (&[u8], Span),
        own: &Step,
        (name, prepared): (&[u8], &Rc<Prepared>),
    ) -> Result<Bound, Halt> {
        let strings = self.standard_strings();
        let Statement::Execute { args, .. } = analyse(sql, strings).statement else {
            return Err(prepared_over_shards().into());
        };
        let plain = |step: &Step| step.kind == Kind::Plain;
        if !own.pins.is_empty() || !prepared.steps.iter().all(plain) {
            return Err(prepared_over_shards().into());
        }
        let given = args.map_or(&b""[..], |span| span.of(sql));
        let statement = self.typed(prepared).await?;
        let Origin::Parse(types) = &statement.origin else {
            return Err(prepared_over_shards().into());
        };
        let expected = types.len() / 4;
        // PostgreSQL does not look at the arguments of a statement that has no parameters.
        let given = if expected == 0 { b"" } else { given };
        let count = count(given, strings);
        if count != expected {
            self.say_bound();
            return Err(wrong_arguments(name, count, expected));
        }
        let oids = types.chunks_exact(4);
        let oids = oids.map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        let oids: Vec<u32> = oids.collect();
        let literals = arguments(sql, strings, prepared);
        let changes = literals.is_none();
        // A literal may be 'now'.
        let moves = |literals: &Arguments| literals.list().iter().any(Argument::is_moving);
        let alone = literals.as_ref().is_some_and(|literals| !moves(literals));
        let certain = literals.filter(Arguments::are_certain);
        if let Some(values) = certain.and_then(|literals| texts(&literals.list(), &oids)) {
            return Ok(Bound {
                formats: vec![0; values.len()],
                values,
                statement,
            });
        }
        if expected > MAX_PARAMETERS {
            return Err(prepared_over_shards().into());
        }
        if changes {
            self.check_given(given)?;
        }
        if !alone {
            // What a function changes holds with what the body does, and the time is one.
            self.transaction.begin_implicit(&mut self.state);
        }
        let (formats, values) = self.computed((sql, span), (given, changes), types).await?;
        Ok(Bound {
            statement,
            formats,
            values,
        })
    }

    /// What was prepared as Parse would have it, with the parameter types that a server has found.
    pub(super) async fn typed(&mut self, prepared: &Rc<Prepared>) -> Result<Rc<Prepared>, Halt> {
        if let Some(typed) = &*prepared.typed.borrow() {
            return Ok(Rc::clone(typed));
        }
        let at = self.attach(self.topology.home).await?;
        let name = self.known_as(at, prepared).await?;
        self.servers[at].lease.request(Audience::Router, |send| {
            send.describe(Described::Statement, name.as_bytes());
        });
        let mut types = Vec::new();
        let answers = |event: Event, kind: u8| {
            event == Event::Answered && matches!(kind, tag::ROW_DESCRIPTION | tag::NO_DATA)
        };
        let failed = self
            .answers_of(at, answers, |kind, body| {
                if kind == tag::PARAMETER_DESCRIPTION {
                    types = body.get(2..).unwrap_or_default().to_vec();
                }
            })
            .await?;
        if let Some(body) = failed {
            return Err(self.failed_with(&body));
        }
        prepared
            .parameter_types
            .get_or_init(|| types.as_slice().into());
        let sql = match prepared.steps.as_slice() {
            [step] => step.span.of(&prepared.sql),
            _ => &prepared.sql,
        };
        let typed = self.statement(&Parse {
            name: b"",
            sql,
            types: &types,
        });
        // It lives as long as what it is made of.
        if !Rc::ptr_eq(&typed, prepared) {
            prepared.typed.replace(Some(Rc::clone(&typed)));
        }
        Ok(typed)
    }

    /// PostgreSQL looks at the arguments when the portal is executed.
    fn say_bound(&mut self) {
        if self.state.phase == Phase::Segment {
            self.client.send(backend::BIND_COMPLETE);
        }
    }

    /// Makes a statement known to a server, and says by which name.
    async fn known_as(&mut self, at: AttachedId, prepared: &Rc<Prepared>) -> Result<String, Halt> {
        match self.state.phase {
            Phase::Segment => self.ensure_prepared(at, prepared).await?,
            _ => self.make_known(at, prepared).await?,
        }
        Ok(prepared.server_name().to_owned())
    }

    /// Ends the router's own requests to a server, and hands what they are answered to `each`. `last` tells the end of
    /// the answers where no Sync may be sent. An error of theirs comes back.
    async fn answers_of(
        &mut self,
        at: AttachedId,
        last: impl Fn(Event, u8) -> bool,
        mut each: impl FnMut(u8, &[u8]),
    ) -> Result<Option<Vec<u8>>, Halt> {
        let segment = self.state.phase == Phase::Segment;
        let Attached { lease, inbox, .. } = &mut self.servers[at];
        inbox.in_segment |= segment;
        lease.flush_or_sync(segment);
        let mut failed = None;
        self.each_message(at, |frame, reply, _| {
            match reply.event {
                Event::Ready(_) => return true,
                Event::Failed => {
                    failed.get_or_insert_with(|| frame.body().to_vec());
                    return segment;
                }
                _ => each(frame.tag(), frame.body()),
            }
            segment && last(reply.event, frame.tag())
        })
        .await?;
        Ok(failed)
    }

    /// Fails for arguments that one server cannot compute: a function in them may look at tables of several.
    fn check_given(&mut self, given: &[u8]) -> Result<(), Halt> {
        let Some(model) = self.known.model.clone() else {
            return Ok(());
        };
        let sql = [b"SELECT ", given].concat();
        let sql = std::str::from_utf8(&sql).map_err(|_| not_utf8())?;
        let context = self.context();
        match model.plan(sql, &context) {
            Plan::Single(Single {
                target: Target::Home | Target::AnyShard,
                ..
            }) => Ok(()),
            _ => Err(prepared_over_shards().into()),
        }
    }

    /// The values of the arguments, computed at home; it may be that this changes something.
    #[allow(clippy::type_complexity)]
    async fn computed(
        &mut self,
        (sql, span): (&[u8], Span),
        (given, changes): (&[u8], bool),
        types: &[u8],
    ) -> Result<(Vec<i16>, Vec<Option<Vec<u8>>>), Halt> {
        let oids = types.chunks_exact(4);
        let oids = oids.map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        let formats: Vec<i16> = oids.map(|oid| i16::from(has_binary(oid))).collect();
        if formats.contains(&0) {
            self.check_forms("arguments")?;
        }
        let at = self.attach(self.topology.home).await?;
        self.check_time(given).await?;
        let text = renamed(sql, span, ECHO);
        let parameters: Vec<String> = (1..=formats.len()).map(|n| format!("${n}")).collect();
        let echo = format!("SELECT {}", parameters.join(", "));
        let Attached { lease, inbox, .. } = &mut self.servers[at];
        inbox.notices = Notices::All;
        if changes {
            inbox.wrote = true;
            inbox.touched.add(None);
        }
        let named = Parse {
            name: ECHO.as_bytes(),
            sql: echo.as_bytes(),
            types: &inbox.types_on_shard(types),
        };
        lease.request(Audience::Router, |send| {
            // It is there still if the arguments had an error before.
            send.close(Described::Statement, named.name);
            send.parse_numbered(&named, 0);
            send.parse(&text, b"");
            send.bind((PORTAL, b""), std::iter::empty(), &formats);
            send.execute(PORTAL, 0);
            send.close(Described::Portal, PORTAL);
            send.close(Described::Statement, named.name);
        });
        let mut row = Vec::new();
        let closes = Cell::new(0);
        let last = |_: Event, kind: u8| {
            closes.set(closes.get() + usize::from(kind == tag::CLOSE_COMPLETE));
            closes.get() == 3
        };
        let failed = self
            .answers_of(at, last, |kind, body| {
                if kind == tag::DATA_ROW {
                    row = body.to_vec();
                }
            })
            .await?;
        if let Some(body) = failed {
            self.say_bound();
            let written = Written::named_in(sql, span, ECHO.len() + 2);
            let body = written.moved(&body, self.state.told.characters());
            return Err(self.failed_with(&body));
        }
        let values = backend::row_values(&row).unwrap_or_default();
        if values.len() != formats.len() {
            let message = "server did not give the arguments of EXECUTE back";
            return Err(Report::error(sqlstate::INTERNAL_ERROR, message).into());
        }
        let values = values.into_iter().map(|value| value.map(<[u8]>::to_vec));
        Ok((formats, values.collect()))
    }
}

impl Session {
    /// Fails for arguments that ask for the time in a transaction that has begun elsewhere: it would be another one.
    async fn check_time(&mut self, given: &[u8]) -> Result<(), Halt> {
        let home = self.topology.home;
        if self.state.block == Block::None
            || self
                .transaction
                .first_shard(&self.servers)
                .is_none_or(|first| first == home)
        {
            return Ok(());
        }
        let asked = [b"SELECT ", given].concat();
        let asked = std::str::from_utf8(&asked).map_err(|_| not_utf8())?;
        match self.with_times(asked.as_bytes(), asked, false).await? {
            Cow::Borrowed(_) => Ok(()),
            Cow::Owned(_) => {
                let what = "an argument of EXECUTE";
                Err(refused(&Refusal::about(Reason::TimeHidden, what)).into())
            }
        }
    }
}

/// The arguments as texts, if each is the value of its parameter on every server.
fn texts(list: &[Argument], oids: &[u32]) -> Option<Vec<Option<Vec<u8>>>> {
    let text = |(argument, oid): (&Argument, &u32)| {
        (argument.fits(*oid) && !argument.is_moving()).then(|| argument.text().map(<[u8]>::to_vec))
    };
    list.iter().zip(oids).map(text).collect()
}

/// How many arguments a list has.
fn count(list: &[u8], strings: bool) -> usize {
    let (mut depth, mut commas, mut any) = (0, 0, false);
    for token in Lexer::new(list, strings) {
        any = true;
        match token.kind {
            TokenKind::LParen | TokenKind::LBracket => depth += 1,
            TokenKind::RParen | TokenKind::RBracket => depth -= 1,
            TokenKind::Comma if depth == 0 => commas += 1,
            _ => {}
        }
    }
    commas + usize::from(any)
}

/// Whether values of a built-in type are handed over in their binary form, which no setting changes and every server
/// reads alike. Names of relations and the like are not, nor what users have made.
fn has_binary(oid: u32) -> bool {
    matches!(
        oid,
        16 | 17
            | 20
            | 21
            | 23
            | 25
            | 114
            | 650
            | 700
            | 701
            | 869
            | 1042
            | 1043
            | 1082
            | 1083
            | 1114
            | 1184
            | 1186
            | 1266
            | 1700
            | 2950
            | 3802
    )
}

/// PostgreSQL's own words.
fn wrong_arguments(name: &[u8], given: usize, expected: usize) -> Halt {
    let name = String::from_utf8_lossy(name);
    let message = format!("wrong number of parameters for prepared statement \"{name}\"");
    Report::error(sqlstate::SYNTAX_ERROR, message)
        .detail(format!("Expected {expected} parameters but got {given}."))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_inside_of_an_argument_count_for_none() {
        for (list, expected) in [
            ("", 0),
            (" ", 0),
            ("1", 1),
            ("1, 'a,b'", 2),
            ("f(1, 2), ARRAY[1, 2], (3)", 3),
            ("$$a,b$$, x[1, 2] -- , ", 2),
        ] {
            assert_eq!(count(list.as_bytes(), true), expected, "{list}");
        }
    }
}
