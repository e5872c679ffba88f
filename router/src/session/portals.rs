//! The open portals and cursors of a session: one name space, whatever server each of them is on.
//!
//! Pure. In PostgreSQL portals (of Bind) and cursors (of DECLARE) share their names: SQL finds a portal, and Execute
//! finds a cursor. A transaction may have servers on several shards, and each server knows only its own names. So all
//! names are noted here: where each of them is, and when it ends. Only cursors that functions have opened are known to
//! their server alone.

use super::touched::Parts;
use crate::rare::Rare;
use crate::statements::names::Prepared;
use crate::statements::step::Kind;
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;
use mothership_sql::name::NAME_LIMIT;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Everything that is open.
pub struct Portals {
    /// Nearly every portal has no name, and is replaced by the next.
    unnamed: Option<Box<Portal>>,
    named: Rare<BTreeMap<Box<[u8]>, Open>>,
    changes: Changes,
    /// A server may have a cursor WITH HOLD that is not among the names.
    held_unclear: bool,
}

/// Whether the names that are noted here are certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changes {
    /// They are certain.
    Told,
    /// A statement that is under way may change them.
    UnderWay,
}

/// What a name means.
pub enum Open {
    /// Bind has made it.
    Portal(Portal),
    /// DECLARE has made it, on a shard.
    Cursor {
        /// Which.
        shard: ShardId,
        /// What it ends with.
        life: Life,
    },
}

/// What a cursor ends with. Portals end with their transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It ends with its transaction, or with ROLLBACK TO a savepoint that was set before it was made. The number: how
    /// many events the transaction had when it was made.
    Transaction(usize),
    /// WITH HOLD, of an open transaction: until COMMIT it ends as above. The number is the same.
    Held(usize),
    /// WITH HOLD, of a transaction that is over: it ends with the session.
    Session,
}

/// A portal as the router knows it.
#[derive(Clone)]
pub struct Portal {
    /// What it runs.
    pub statement: Rc<Prepared>,
    /// Who runs it.
    pub place: Place,
    /// The parts of the data that it touches on the server of its shard; `None`: it may touch anything.
    pub parts: Option<Parts>,
    /// The EXECUTE that the client has bound, if `statement` is the prepared statement that it runs.
    pub executes: Option<Rc<Prepared>>,
    /// How many events the transaction had done when it was bound.
    pub events: usize,
    /// How far it is.
    pub progress: Progress,
}

/// How far a portal is. It is noted for portals that no server has (a server knows it of its own), and for COMMIT and
/// the like, which may move from a server to the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It can be executed.
    Ready,
    /// It was executed, and it has no rows that a second Execute could fetch.
    Done,
}

/// Who runs a portal.
#[derive(Clone)]
pub enum Place {
    /// No server has it: the router runs it itself, or sends it to a server when it is executed.
    Here,
    /// The server of a shard.
    Shard(ShardId),
    /// Several.
    Many(Rc<super::extended::ManyPortal>),
    /// The servers of several shards, but only when it is executed: a write that gathers.
    Gathered(Rc<super::gather::GatherPortal>),
    /// The router: EXPLAIN (ROUTE).
    Explained(Rc<super::explain::Explained>),
    /// The servers of several shards, but only when it is executed: EXPLAIN over several shards.
    Explaining(Rc<super::explain::ExplainPortal>),
}

impl Open {
    /// The shard whose server has it under its name, if only that server has it.
    pub fn shard(&self) -> Option<ShardId> {
        match self {
            Open::Cursor { shard, .. } => Some(*shard),
            Open::Portal(portal) => match portal.place {
                Place::Shard(shard) => Some(shard),
                _ => None,
            },
        }
    }

    /// Whether it is a cursor WITH HOLD of a transaction that is over. PostgreSQL has kept its rows, so FETCH changes
    /// no data.
    pub fn is_kept(&self) -> bool {
        match self {
            Open::Cursor { life, .. } => *life == Life::Session,
            Open::Portal(_) => false,
        }
    }
}

impl Life {
    /// How many events the transaction had when it was made; `None` if no savepoint can end it.
    fn events(&mut self) -> Option<&mut usize> {
        match self {
            Life::Transaction(events) | Life::Held(events) => Some(events),
            Life::Session => None,
        }
    }
}

impl Default for Portals {
    fn default() -> Self {
        Self {
            unnamed: None,
            named: Rare::default(),
            changes: Changes::Told,
            held_unclear: false,
        }
    }
}

impl Portals {
    /// What a name means. [`Portals::portal`] also finds the portal without a name.
    pub fn get(&self, name: &[u8]) -> Option<&Open> {
        self.named.get()?.get(known(name))
    }

    /// The portal that Bind has made under this name, or under none.
    pub fn portal(&self, name: &[u8]) -> Option<&Portal> {
        match name {
            b"" => self.unnamed.as_deref(),
            name => match self.get(name)? {
                Open::Portal(portal) => Some(portal),
                Open::Cursor { .. } => None,
            },
        }
    }

    /// The same, to be changed.
    pub fn portal_mut(&mut self, name: &[u8]) -> Option<&mut Portal> {
        match name {
            b"" => self.unnamed.as_deref_mut(),
            name => match self.named.get_mut()?.get_mut(known(name))? {
                Open::Portal(portal) => Some(portal),
                Open::Cursor { .. } => None,
            },
        }
    }

    /// Bind was sent. If it fails, so does the transaction or savepoint with which the portal ends.
    pub fn bind(&mut self, name: &[u8], portal: Portal) {
        match name {
            b"" => self.unnamed = Some(Box::new(portal)),
            name => drop(
                self.named
                    .made()
                    .insert(known(name).into(), Open::Portal(portal)),
            ),
        }
    }

    /// DECLARE was done.
    pub fn declare(&mut self, name: &[u8], shard: ShardId, life: Life) {
        let cursor = Open::Cursor { shard, life };
        let other = self.named.made().insert(known(name).into(), cursor);
        // Names that are not UTF-8 may be one here and two on the server.
        self.held_unclear |= other.is_some();
    }

    /// Whether the name is that of a cursor WITH HOLD.
    pub fn is_held(&self, name: &[u8]) -> bool {
        let open = self.get(name);
        open.is_some_and(|open| {
            matches!(open, Open::Cursor { life, .. } if !matches!(life, Life::Transaction(_)))
        })
    }

    /// The portal was executed, and has no rows to come back for.
    pub fn done(&mut self, name: &[u8]) {
        if let Some(portal) = self.portal_mut(name) {
            portal.progress = Progress::Done;
        }
    }

    /// The name is free again.
    pub fn close(&mut self, name: &[u8]) {
        match name {
            b"" => self.unnamed = None,
            name => drop(self.named.get_mut().and_then(|all| all.remove(known(name)))),
        }
    }

    /// All names are free again.
    pub fn close_all(&mut self) {
        *self = Self::default();
    }

    /// Whether there is, or may be, a cursor WITH HOLD.
    pub fn has_held(&self) -> bool {
        let lasts = |life| !matches!(life, Life::Transaction(_));
        self.held_unclear || self.cursors().any(|(_, life)| lasts(life))
    }

    /// Whether the open transaction has made a cursor WITH HOLD on this shard.
    pub fn declares_held_on(&self, on: ShardId) -> bool {
        self.cursors()
            .any(|(shard, life)| shard == on && matches!(life, Life::Held(_)))
    }

    /// The cursors that SQL has declared: where they are, and what they end with.
    fn cursors(&self) -> impl Iterator<Item = (ShardId, Life)> {
        let all = self.named.get().into_iter().flat_map(BTreeMap::values);
        all.filter_map(|open| match open {
            Open::Cursor { shard, life } => Some((*shard, *life)),
            Open::Portal(_) => None,
        })
    }

    /// The transaction has committed: cursors WITH HOLD stay.
    pub fn commit(&mut self) {
        self.end(|life| !matches!(life, Life::Transaction(_)));
    }

    /// The transaction was rolled back, and all that it had opened with it.
    pub fn roll_back(&mut self) {
        self.end(|life| matches!(life, Life::Session));
    }

    fn end(&mut self, stays: impl Fn(&Life) -> bool) {
        self.unnamed = None;
        self.changes = Changes::Told;
        let Some(named) = self.named.get_mut() else {
            return;
        };
        named.retain(|_, open| match open {
            Open::Portal(_) => false,
            Open::Cursor { life, .. } => {
                let stays = stays(life);
                *life = Life::Session;
                stays
            }
        });
    }

    /// ROLLBACK TO was done, and `events` is how many events the transaction has now. What was opened after the
    /// savepoint is gone. An unnamed portal on one server stays: it may have been bound after ROLLBACK TO was sent, and
    /// if it is gone, the server says so.
    pub fn roll_back_to(&mut self, events: usize) {
        let on_server = |portal: &mut Portal| matches!(portal.place, Place::Shard(_));
        self.unnamed
            .take_if(|portal| portal.events >= events && !on_server(portal));
        if let Some(named) = self.named.get_mut() {
            named.retain(|_, open| match open {
                Open::Portal(portal) => portal.events < events,
                Open::Cursor { life, .. } => life.events().is_none_or(|made| *made < events),
            });
        }
    }

    /// RELEASE was done, and `events` is how many events there were before the savepoint. What was opened after it now
    /// belongs to the savepoint or the transaction around it.
    pub fn release(&mut self, events: usize) {
        if let Some(portal) = &mut self.unnamed {
            portal.events = portal.events.min(events);
        }
        for open in self
            .named
            .get_mut()
            .into_iter()
            .flat_map(BTreeMap::values_mut)
        {
            match open {
                Open::Portal(portal) => portal.events = portal.events.min(events),
                Open::Cursor { life, .. } => {
                    if let Some(made) = life.events() {
                        *made = events.min(*made);
                    }
                }
            }
        }
    }

    /// Whether Bind has made a portal with a name.
    pub fn has_named(&self) -> bool {
        let mut named = self.named.get().into_iter().flat_map(BTreeMap::values);
        named.any(|open| matches!(open, Open::Portal(_)))
    }

    /// How many names are taken.
    pub fn count(&self) -> usize {
        self.named.get().map_or(0, BTreeMap::len)
    }

    /// What Bind has made.
    pub fn bound(&self) -> impl Iterator<Item = &Portal> {
        let named = self.named.get().into_iter().flat_map(BTreeMap::values);
        let named = named.filter_map(|open| match open {
            Open::Portal(portal) => Some(portal),
            Open::Cursor { .. } => None,
        });
        self.unnamed.as_deref().into_iter().chain(named)
    }

    /// A statement was sent, and nobody waits for its answer. If it may change names, they are certain only when the
    /// answer has come.
    pub fn sent(&mut self, kind: &Kind) {
        if moves_names(kind) {
            self.changes = Changes::UnderWay;
        }
    }

    /// Whether an answer must be awaited before names are certain. The caller has to await it: from here on, names
    /// count as certain.
    pub fn take_changes(&mut self) -> bool {
        std::mem::replace(&mut self.changes, Changes::Told) == Changes::UnderWay
    }
}

/// The bytes that PostgreSQL keeps of the name of a portal. It cuts longer names without a notice.
fn known(name: &[u8]) -> &[u8] {
    &name[..name.len().min(NAME_LIMIT)]
}

/// Whether a statement opens or closes names, or begins or ends a transaction or savepoint with which names end.
fn moves_names(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Declare(_)
            | Kind::Close(_)
            | Kind::CloseAll
            | Kind::Discard(_)
            | Kind::Begin(_)
            | Kind::Commit { .. }
            | Kind::Rollback { .. }
            | Kind::PrepareTransaction
            | Kind::Savepoint(_)
            | Kind::RollbackTo(_)
            | Kind::Release(_)
    )
}

/// A name is taken.
pub fn duplicate(name: &[u8]) -> Report {
    let message = format!(
        "cursor \"{}\" already exists",
        String::from_utf8_lossy(name)
    );
    Report::error(sqlstate::DUPLICATE_CURSOR, message)
}

/// Nothing has this name.
pub fn no_such_portal(name: &[u8]) -> Report {
    let message = format!(
        "portal \"{}\" does not exist",
        String::from_utf8_lossy(name)
    );
    Report::error(sqlstate::INVALID_CURSOR_NAME, message)
}

/// It has run, and it has no rows that a second Execute could fetch.
pub fn cannot_be_run(name: &[u8]) -> Report {
    let message = format!("portal \"{}\" cannot be run", String::from_utf8_lossy(name));
    Report::error(sqlstate::NOT_IN_PREREQUISITE_STATE, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statements::names::{Interner, Origin};
    use crate::statements::step::Step;

    fn portal(place: Place, events: usize) -> Portal {
        let origin = Origin::Parse(Box::default());
        let interner = Interner::default();
        Portal {
            statement: interner.intern(
                (b"SELECT 1", true),
                origin,
                &Default::default(),
                Vec::<Step>::new,
            ),
            place,
            parts: None,
            executes: None,
            events,
            progress: Progress::Ready,
        }
    }

    /// The names that are open, each with its shard.
    fn open(portals: &Portals) -> Vec<(String, Option<ShardId>)> {
        let named = portals.named.get().into_iter().flatten();
        let mut all: Vec<_> = named
            .map(|(name, open)| (String::from_utf8_lossy(name).into_owned(), open.shard()))
            .collect();
        all.sort();
        all
    }

    fn filled() -> Portals {
        let mut portals = Portals::default();
        portals.bind(b"before", portal(Place::Shard(ShardId(1)), 0));
        portals.declare(b"held", ShardId(2), Life::Held(0));
        portals.bind(b"behind", portal(Place::Here, 1));
        portals.declare(b"cursor", ShardId(0), Life::Transaction(1));
        portals.declare(b"held behind", ShardId(0), Life::Held(2));
        portals
    }

    fn names(portals: &Portals) -> Vec<String> {
        open(portals).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn both_protocols_share_the_names() {
        let mut portals = filled();
        let found = |portals: &Portals, name: &[u8]| {
            let open = portals.get(name).map(Open::shard);
            (open, portals.portal(name).is_some())
        };
        assert_eq!(found(&portals, b"before"), (Some(Some(ShardId(1))), true));
        assert_eq!(found(&portals, b"behind"), (Some(None), true));
        assert_eq!(found(&portals, b"cursor"), (Some(Some(ShardId(0))), false));
        assert_eq!(found(&portals, b"none"), (None, false));
        portals.close(b"before");
        portals.close(b"cursor");
        assert_eq!(names(&portals), ["behind", "held", "held behind"]);
        portals.close_all();
        assert_eq!(names(&portals), [] as [&str; 0]);
    }

    #[test]
    fn a_portal_without_a_name_takes_no_name() {
        let mut portals = Portals::default();
        portals.bind(b"", portal(Place::Here, 0));
        portals.bind(b"", portal(Place::Shard(ShardId(2)), 0));
        assert!(matches!(
            portals.portal(b"").map(|portal| &portal.place),
            Some(Place::Shard(ShardId(2)))
        ));
        assert!(portals.get(b"").is_none());
        assert_eq!((portals.count(), portals.bound().count()), (0, 1));
        portals.commit();
        assert!(portals.portal(b"").is_none());
    }

    #[test]
    fn what_a_transaction_has_opened_ends_with_it() {
        let mut portals = filled();
        portals.roll_back();
        assert_eq!(names(&portals), [] as [&str; 0]);
        let mut portals = filled();
        portals.commit();
        assert_eq!(names(&portals), ["held", "held behind"]);
        assert!(portals.get(b"held").is_some_and(Open::is_kept));
        portals.roll_back_to(0);
        portals.roll_back();
        assert_eq!(names(&portals), ["held", "held behind"]);
    }

    #[test]
    fn what_a_savepoint_has_opened_ends_with_it() {
        let mut portals = filled();
        portals.roll_back_to(1);
        assert_eq!(names(&portals), ["before", "held"]);
        let mut portals = filled();
        portals.roll_back_to(2);
        assert_eq!(names(&portals), ["before", "behind", "cursor", "held"]);
        let mut portals = filled();
        portals.release(0);
        portals.roll_back_to(1);
        assert_eq!(names(&portals).len(), 5);
    }

    #[test]
    fn the_first_bytes_of_a_name_count() {
        let mut portals = Portals::default();
        portals.bind(&[b'x'; 70], portal(Place::Here, 0));
        assert!(portals.get(&[b'x'; 64]).is_some());
        assert!(portals.get(&[b'x'; 62]).is_none());
    }

    #[test]
    fn names_are_uncertain_while_they_may_change() {
        let mut portals = Portals::default();
        portals.sent(&Kind::Plain);
        assert!(!portals.take_changes());
        portals.sent(&Kind::Declare("c".into()));
        assert!(portals.take_changes());
        assert!(!portals.take_changes());
    }
}
