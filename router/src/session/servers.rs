//! The servers that work for a session.

use super::Attached;
use super::state::{Phase, State};
use crate::statements::step::Pins;
use crate::topology::Topology;
use mothership_shardmap::ShardId;
use smallvec::SmallVec;
use std::num::NonZeroU32;
use std::ops::{Index, IndexMut};

/// Names one of the servers that work for a session, for as long as it does. No other one gets the same name: whoever
/// still has that of a server that is gone finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AttachedId(NonZeroU32);

/// More servers than this hardly ever work for one session.
const FEW: usize = 4;

/// The servers that work for a session, in the order in which they were attached.
pub(super) struct Servers {
    all: Vec<Attached>,
    /// The server whose replies are outstanding in the current segment. Whoever takes a server out of the list sees to it.
    pub(super) active: Option<AttachedId>,
    /// What the next one is called.
    next: NonZeroU32,
}

impl Default for Servers {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            active: None,
            next: NonZeroU32::MIN,
        }
    }
}

impl Index<AttachedId> for Servers {
    type Output = Attached;

    /// # Panics
    /// If the server is gone. After whatever may lose one, use [`Servers::get`].
    fn index(&self, id: AttachedId) -> &Attached {
        self.get(id).expect("the server works for the session")
    }
}

impl IndexMut<AttachedId> for Servers {
    fn index_mut(&mut self, id: AttachedId) -> &mut Attached {
        self.get_mut(id).expect("the server works for the session")
    }
}

impl Servers {
    /// How many work for the session.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether none does.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, Attached> {
        self.all.iter()
    }

    /// The same, to change them.
    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Attached> {
        self.all.iter_mut()
    }

    /// What all are called now. Some may be gone when their turn comes.
    pub(super) fn ids(&self) -> SmallVec<[AttachedId; FEW]> {
        self.iter().map(|attached| attached.id).collect()
    }

    /// The one that has worked longest.
    pub(super) fn first(&self) -> Option<&Attached> {
        self.all.first()
    }

    /// The only one, if no other works.
    pub(super) fn only(&self) -> Option<&Attached> {
        match self.all.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The same, to change it.
    pub(super) fn only_mut(&mut self) -> Option<&mut Attached> {
        match self.all.as_mut_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// `None` if it is gone.
    pub(super) fn get(&self, id: AttachedId) -> Option<&Attached> {
        self.iter().find(|attached| attached.id == id)
    }

    /// `None` if it is gone.
    pub(super) fn get_mut(&mut self, id: AttachedId) -> Option<&mut Attached> {
        self.iter_mut().find(|attached| attached.id == id)
    }

    /// The first one of which this holds.
    pub(super) fn find(&self, is_meant: impl FnMut(&&Attached) -> bool) -> Option<AttachedId> {
        self.iter().find(is_meant).map(|attached| attached.id)
    }

    /// The last one of which this holds.
    pub(super) fn find_last(&self, is_meant: impl FnMut(&&Attached) -> bool) -> Option<AttachedId> {
        let mut all = self.iter().rev();
        all.find(is_meant).map(|attached| attached.id)
    }

    /// The one of this shard.
    pub(super) fn of_shard(&self, shard: ShardId) -> Option<AttachedId> {
        self.find(|attached| attached.shard == shard)
    }

    /// The name of a server that will be added.
    pub(super) fn next_id(&mut self) -> AttachedId {
        let id = AttachedId(self.next);
        self.next = self.next.checked_add(1).unwrap_or(NonZeroU32::MIN);
        id
    }

    /// Adds one, with a name from [`Servers::next_id`].
    pub(super) fn add(&mut self, attached: Attached) -> AttachedId {
        let id = attached.id;
        self.all.push(attached);
        id
    }

    /// Takes one out, if it is there.
    pub(super) fn remove(&mut self, id: AttachedId) -> Option<Attached> {
        let place = self.iter().position(|attached| attached.id == id)?;
        self.active = self.active.filter(|active| *active != id);
        Some(self.all.remove(place))
    }

    /// Takes all out.
    pub(super) fn take_all(&mut self) -> std::vec::Drain<'_, Attached> {
        self.active = None;
        self.all.drain(..)
    }

    /// Takes those out of which this holds.
    pub(super) fn take_those(
        &mut self,
        leaves: impl FnMut(&mut Attached) -> bool,
    ) -> impl Iterator<Item = Attached> {
        self.all.extract_if(.., leaves)
    }

    /// Puts those last of which this holds.
    pub(super) fn put_last(&mut self, is_last: impl Fn(&Attached) -> bool) {
        self.all.sort_by_key(is_last);
    }

    /// A server is kept only for what is still among the session's reasons to keep one.
    pub(super) fn keep_pins(&mut self, pins: Pins) {
        for attached in self.iter_mut() {
            attached.inbox.pins = attached.inbox.pins.both(pins);
        }
    }

    /// A server keeps its replies until it is asked for them, and the client may ask only at its end: without this neither
    /// would go on.
    pub(super) fn flush_pipeline(&mut self) {
        if let Some(active) = self.active.and_then(|active| self.get_mut(active)) {
            active.lease.flush();
        }
    }

    /// Whether nobody could say what became of the request at hand if its servers were left now: what they do in a block is
    /// undone then, anything else may be done all the same.
    pub(super) fn is_outcome_unknown(&self) -> bool {
        let unknown = |s: &Attached| {
            let writes = s.inbox.may_write || s.inbox.wrote;
            s.inbox.committing || (writes && !s.inbox.in_block)
        };
        let mut working = self.iter().filter(|s| !s.lease.ledger().is_empty());
        working.any(unknown)
    }

    /// So many requests await their replies that no more are taken.
    pub(super) fn is_pipeline_full(&self, state: &State, topology: &Topology) -> bool {
        let most = topology.config.limits.pipeline.get() as usize;
        let active = self.active.and_then(|active| self.get(active));
        state.phase == Phase::Segment
            && active.is_some_and(|server| server.lease.ledger().len() >= most)
    }
}
