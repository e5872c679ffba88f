//! The prepared statements of one client, under the names that the client gave.
//!
//! One namespace for Parse and SQL's PREPARE, as in PostgreSQL. A name is entered
//! when the message is read, because a Bind may follow in the same packet, and is
//! taken back if the server never confirms it: [`Names::confirm`] and
//! [`Names::undo`] keep the two apart. What a statement *is* does not belong to
//! the client: equal texts share one [`Prepared`] and its number.

use super::step::Step;
use crate::sql::cursor::Span;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};

/// How a statement is made known to a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// By Parse, with declared parameter types, four bytes each.
    Parse(Box<[u8]>),
    /// By `PREPARE name ...`; the span is that of the name.
    Prepare(Span),
    /// Not at all: it is the text of a simple query.
    Query,
}

/// A statement that servers may have prepared.
#[derive(Debug)]
pub struct Prepared {
    /// Its number in this process; part of its name on the servers.
    pub id: u64,
    /// The text.
    pub sql: Box<[u8]>,
    /// How it is made known.
    pub origin: Origin,
    /// What each of its statements means for a session; one, or none for an empty text.
    pub steps: Vec<Step>,
    /// Its plans, each for one of its statements.
    pub plans: RefCell<Vec<(usize, super::dispatch::Planned)>>,
    /// Digest of its parameter and result types, as the first server described them.
    pub described: Cell<Option<u128>>,
}

impl Prepared {
    /// Its name on the servers. Clients cannot take it by accident, and one that
    /// takes it on purpose reaches only what it may run itself.
    pub fn server_name(&self) -> String {
        server_name(self.id)
    }

    /// The PREPARE that makes it known, under our name.
    pub fn definition(&self) -> Vec<u8> {
        match self.origin {
            Origin::Prepare(span) => super::simple::renamed(&self.sql, span, &self.server_name()),
            Origin::Parse(_) | Origin::Query => self.sql.to_vec(),
        }
    }

    /// What the statement means, if it is not empty.
    pub fn step(&self) -> Option<&Step> {
        self.steps.first()
    }
}

/// The name on the servers of statement `id`.
pub fn server_name(id: u64) -> String {
    format!("__mothership_{id:x}")
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Equal statements of the clients of one core are one.
///
/// The epoch is part of the key: a statement that is parsed after a change of the
/// schema is another one, because PostgreSQL would describe it anew.
#[derive(Debug, Default)]
pub struct Interner {
    known: RefCell<HashMap<Key, Weak<Prepared>>>,
    sweep_at: Cell<usize>,
    /// Statements of simple queries, which nobody else holds, so that their plans are
    /// found again.
    recent: RefCell<VecDeque<Rc<Prepared>>>,
}

/// Simple queries that are remembered.
const RECENT: usize = 256;

type Key = (Box<[u8]>, Origin, u64);

impl Interner {
    /// The statement of this text; `make` reads its steps if it is new.
    pub fn intern(
        &self,
        sql: &[u8],
        origin: Origin,
        epoch: u64,
        make: impl FnOnce() -> Vec<Step>,
    ) -> Rc<Prepared> {
        let key = (Box::from(sql), origin, epoch);
        if let Some(found) = self.known.borrow().get(&key).and_then(Weak::upgrade) {
            return found;
        }
        let prepared = Rc::new(Prepared {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            sql: key.0.clone(),
            origin: key.1.clone(),
            steps: make(),
            plans: RefCell::default(),
            described: Cell::new(None),
        });
        if prepared.origin == Origin::Query {
            let mut recent = self.recent.borrow_mut();
            if recent.len() >= RECENT {
                recent.pop_front();
            }
            recent.push_back(Rc::clone(&prepared));
        }
        let mut known = self.known.borrow_mut();
        if known.len() >= self.sweep_at.get() {
            known.retain(|_, statement| statement.strong_count() > 0);
            self.sweep_at.set(known.len() * 2 + 64);
        }
        known.insert(key, Rc::downgrade(&prepared));
        prepared
    }

    /// Statements in use.
    pub fn len(&self) -> usize {
        self.known.borrow().len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A change of a name that the server has not confirmed yet.
#[derive(Debug)]
struct Pending {
    name: Box<[u8]>,
    before: Option<Rc<Prepared>>,
}

/// The names of one client. The empty name is the unnamed statement.
#[derive(Debug, Default)]
pub struct Names {
    statements: HashMap<Box<[u8]>, Rc<Prepared>>,
    unnamed: Option<Rc<Prepared>>,
    pending: VecDeque<Pending>,
    bytes: usize,
}

impl Names {
    /// The statement of a name.
    pub fn get(&self, name: &[u8]) -> Option<&Rc<Prepared>> {
        if name.is_empty() {
            self.unnamed.as_ref()
        } else {
            self.statements.get(name)
        }
    }

    /// Enters a name, to be confirmed by ParseComplete.
    pub fn define(&mut self, name: &[u8], statement: Rc<Prepared>) {
        let before = self.replace(name, Some(statement));
        self.pending.push_back(Pending {
            name: name.into(),
            before,
        });
    }

    /// Enters a name that is certain.
    pub fn define_now(&mut self, name: &[u8], statement: Rc<Prepared>) {
        self.replace(name, Some(statement));
    }

    /// Removes a name, to be confirmed by CloseComplete.
    pub fn close(&mut self, name: &[u8]) {
        let before = self.replace(name, None);
        self.pending.push_back(Pending {
            name: name.into(),
            before,
        });
    }

    /// A CloseComplete will come that concerns no name.
    pub fn close_nothing(&mut self) {
        self.pending.push_back(Pending {
            name: Box::default(),
            before: self.unnamed.clone(),
        });
    }

    /// Removes a name for certain; false if there was none.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        self.replace(name, None).is_some()
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.statements.clear();
        self.unnamed = None;
        self.pending.clear();
        self.bytes = 0;
    }

    /// Forgets the unnamed statement, as a simple query does.
    pub fn drop_unnamed(&mut self) {
        self.unnamed = None;
    }

    /// The oldest unconfirmed change happened.
    pub fn confirm(&mut self) {
        self.pending.pop_front();
    }

    /// The unconfirmed changes did not happen: the server skipped them.
    pub fn undo(&mut self) {
        while let Some(Pending { name, before }) = self.pending.pop_back() {
            self.replace(&name, before);
        }
    }

    /// Number of named statements, and the bytes of their names and texts.
    pub fn size(&self) -> (usize, usize) {
        (self.statements.len(), self.bytes)
    }

    fn replace(&mut self, name: &[u8], statement: Option<Rc<Prepared>>) -> Option<Rc<Prepared>> {
        if name.is_empty() {
            return std::mem::replace(&mut self.unnamed, statement);
        }
        let cost = |s: &Rc<Prepared>| name.len() + s.sql.len();
        self.bytes += statement.as_ref().map_or(0, cost);
        let before = match statement {
            Some(statement) => self.statements.insert(name.into(), statement),
            None => self.statements.remove(name),
        };
        self.bytes -= before.as_ref().map_or(0, cost);
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(interner: &Interner, sql: &str) -> Rc<Prepared> {
        interner.intern(sql.as_bytes(), Origin::Parse(Box::default()), 0, Vec::new)
    }

    #[test]
    fn equal_texts_are_one_statement_until_the_schema_changes() {
        let interner = Interner::default();
        let a = prepared(&interner, "select 1");
        assert_eq!(a.id, prepared(&interner, "select 1").id);
        assert_ne!(a.id, prepared(&interner, "select 2").id);
        let later = interner.intern(b"select 1", Origin::Parse(Box::default()), 1, Vec::new);
        assert_ne!(a.id, later.id);
    }

    #[test]
    fn forgotten_statements_do_not_pile_up() {
        let interner = Interner::default();
        for i in 0..10_000 {
            prepared(&interner, &format!("select {i}"));
        }
        assert!(interner.len() < 200, "{} are kept", interner.len());
    }

    // See: pg_doorman 3.3.4, pgcat#679
    #[test]
    fn what_the_server_skipped_was_never_prepared() {
        let interner = Interner::default();
        let (a, b) = (prepared(&interner, "a"), prepared(&interner, "b"));
        let mut names = Names::default();
        names.define(b"s", Rc::clone(&a));
        names.confirm();
        names.close(b"s");
        names.define(b"s", Rc::clone(&b));
        names.define(b"t", b);
        names.undo();
        assert_eq!(names.get(b"s").map(|s| s.id), Some(a.id));
        assert!(names.get(b"t").is_none());
        assert_eq!(names.size(), (1, 2));
    }
}
