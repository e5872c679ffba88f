//! What rules have found out about the statements of a text.

use super::names::Prepared;
use crate::rules::RequestFacts;
use crate::rules::facts::Facts;
use crate::rules::survey::Scope;
use std::cell::RefCell;
use std::rc::Rc;

/// What rules look at in the statements of one text, kept with it.
#[derive(Debug, Default)]
pub struct Requests {
    facts: RefCell<Vec<(usize, Rc<Facts>)>>,
    known: RefCell<Vec<(RequestKey, Rc<RequestFacts>)>>,
}

/// What [`RequestFacts`] were made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// The statement's place in its text.
    pub at: usize,
    /// The number of the rules.
    pub rules: u64,
    /// The version of what is known of the database.
    pub model: u64,
    /// How its names are looked up.
    pub scope: Rc<Scope>,
}

/// Answers kept for one text, for sessions that differ in search_path and the like.
const KEPT: usize = 4;

impl Requests {
    /// What was made for this, if it is still known.
    pub fn known(&self, asked: &RequestKey) -> Option<Rc<RequestFacts>> {
        let known = self.known.borrow();
        let found = known.iter().find(|(known, _)| known == asked);
        found.map(|(_, request)| Rc::clone(request))
    }

    /// Keeps what was made for this, in a text of so many statements.
    pub fn remember(&self, asked: RequestKey, request: &Rc<RequestFacts>, statements: usize) {
        let mut known = self.known.borrow_mut();
        if known.len() >= KEPT.max(statements) {
            known.remove(0);
        }
        known.push((asked, Rc::clone(request)));
    }

    /// What rules look at in one of a text's statements; with its shape, if `shaped`.
    pub fn facts(
        &self,
        statement: &Prepared,
        at: usize,
        (conforming, shaped): (bool, bool),
    ) -> Rc<Facts> {
        let known = self.facts.borrow().iter().find(|(n, _)| *n == at).cloned();
        if let Some((_, facts)) = known
            && (!shaped || facts.shape.is_some())
        {
            return facts;
        }
        let read = match shaped {
            true => Facts::with_shape,
            false => Facts::of,
        };
        let text = match statement.steps.get(at) {
            Some(step) => statement.sql.get(step.span.start..step.span.end),
            None => None,
        };
        let facts = Rc::new(text.map_or_else(Facts::unknown, |text| read(text, conforming)));
        let mut known = self.facts.borrow_mut();
        known.retain(|(n, _)| *n != at);
        known.push((at, Rc::clone(&facts)));
        drop(known);
        facts
    }
}
