//! The table of a core's sessions.

use super::{ClientNumber, Entry};
use foldhash::{HashMap, HashMapExt as _};
use std::rc::Rc;

/// Sessions by their places.
///
/// A place is part of the number by which clients name each other, so one that was left is taken again only after all
/// others: a number that somebody has noted means nobody for a long time before it means somebody else. Where the first
/// place is, is random, so that two routers hardly give out the same numbers.
#[derive(Default)]
pub struct Sessions {
    at: HashMap<usize, Rc<Entry>>,
    next: usize,
}

impl Sessions {
    /// None yet.
    pub fn new() -> Self {
        Self {
            at: HashMap::new(),
            next: rand::random_range(0..ClientNumber::MAX_SLOT),
        }
    }

    /// Gives a session a place, if one is free.
    pub fn insert(&mut self, entry: &Rc<Entry>) -> Option<usize> {
        if self.at.len() >= ClientNumber::MAX_SLOT {
            return None;
        }
        while self.at.contains_key(&self.next) {
            self.next = (self.next + 1) % ClientNumber::MAX_SLOT;
        }
        let place = self.next;
        self.next = (place + 1) % ClientNumber::MAX_SLOT;
        self.at.insert(place, Rc::clone(entry));
        Some(place)
    }

    /// The session at a place.
    pub fn get(&self, place: usize) -> Option<&Rc<Entry>> {
        self.at.get(&place)
    }

    /// A session has left.
    pub fn remove(&mut self, place: usize) {
        self.at.remove(&place);
        if self.at.len() * 8 < self.at.capacity() {
            self.at.shrink_to(self.at.len() * 2);
        }
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<Entry>> {
        self.at.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.at.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.at.is_empty()
    }
}
