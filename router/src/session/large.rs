//! Reads large texts on another thread: the clients of this core go on meanwhile.
//!
//! To read a text is linear in its length, but one of a hundred megabytes takes seconds, and everything that a core does
//! waits for them. So the text of the message that comes next is read before the message is taken. Whoever serves the
//! message gets the statement ([`Session::on_query`]) or finds it with the interner, which knows it as long as the
//! [`ReadText`] lives.

use super::Session;
use super::state::Phase;
use crate::statements::environment::LiteralKinds;
use crate::statements::names::{AnalysisContext, Meaning, Origin, Prepared};
use crate::statements::step::steps;
use mothership_proto::frame::{self, Frame, Next};
use mothership_proto::frontend::{self, Parse, tag};
use std::rc::Rc;
use std::sync::Arc;

/// Longer texts are read on another thread, unless their shape is known.
pub(super) const LARGE: usize = 64 * 1024;
/// The shape of longer texts is not looked for.
pub(super) const SHAPED: usize = 1024 * 1024;

/// A statement whose text was read before its message is taken.
pub(super) struct ReadText {
    /// The statement.
    statement: Rc<Prepared>,
    /// Its strings were read by the standard.
    strings: bool,
}

impl ReadText {
    /// The statement, if it was read so.
    pub(super) fn read_with(self, strings: bool) -> Option<Rc<Prepared>> {
        (self.strings == strings).then_some(self.statement)
    }
}

/// The text of a message, and what else tells its statement from others.
fn text_of<'m>(message: &Frame<'m>) -> Option<(&'m [u8], Origin)> {
    let body = message.body();
    match message.tag() {
        tag::QUERY => Some((frontend::query(body).ok()?, Origin::Query)),
        tag::PARSE => {
            let parse = Parse::read(body).ok()?;
            Some((parse.sql, Origin::Parse(parse.types.into())))
        }
        _ => None,
    }
}

impl Session {
    /// The text of the message that comes next, if the message is whole and its text is large.
    pub(super) fn large_text(&self) -> Option<(Arc<[u8]>, Origin)> {
        let input = self.client.input();
        let is_copied = matches!(self.state.phase, Phase::CopyIn { .. });
        if input.len() <= LARGE || self.state.skipping || is_copied {
            return None;
        }
        let limits = &self.topology.config.limits;
        let next = frame::next(input, limits.client_message.bytes());
        let Ok(Next::Whole(message)) = next else {
            return None;
        };
        let (sql, origin) = text_of(&message)?;
        let is_large = (LARGE..=limits.statement.bytes()).contains(&sql.len());
        is_large.then(|| (Arc::from(sql), origin))
    }

    /// Reads such a text. Of all clients one is served at a time, so that what it takes of memory and of the processors is
    /// taken once.
    ///
    /// Cancel safe: what nobody waits for is thrown away.
    pub(super) async fn read_large(
        &mut self,
        (sql, origin): (Arc<[u8]>, Origin),
    ) -> Option<ReadText> {
        let strings = self.standard_strings();
        let is_query = origin == Origin::Query;
        let meaning = match self.shaped(&sql) {
            Some(shaped) if is_query => {
                let statement = Rc::new(Prepared::query(&sql, shaped));
                return Some(ReadText { statement, strings });
            }
            Some(shaped) => Meaning::from(shaped),
            None => {
                let shared = Arc::clone(&self.core.shared);
                let turn = shared.large_texts.acquire().await;
                let text = Arc::clone(&sql);
                let read = tokio::task::spawn_blocking(move || {
                    let kinds = match is_query {
                        true => LiteralKinds::default(),
                        false => LiteralKinds::of(&text, strings),
                    };
                    (steps(&text, strings), kinds)
                });
                let read = read.await;
                drop(turn);
                // A reader that panics does so again where it is reported.
                let (steps, kinds) = read.ok()?;
                Meaning::from(steps).with_literals(kinds)
            }
        };
        let moment = match is_query {
            true => AnalysisContext::default(),
            false => self.moment(),
        };
        let interner = &self.core.interner;
        let statement = interner.intern((&sql, strings), origin, &moment, || meaning);
        Some(ReadText { statement, strings })
    }
}
