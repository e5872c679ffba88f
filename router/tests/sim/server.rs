//! Simulated PostgreSQL servers: a log, what it says, and who follows whom.
//!
//! What is committed is on the primary and on one more server before anybody hears of it (`synchronous_standby_names =
//! 'ANY 1 (...)'`), and a server that starts as a primary, or becomes one, answers when another one has its whole log.

use mothership::commit::gid::{Backend, Gid, TransactionId};
use mothership_pool::health::report::{Lsn, Report, ReportedRole};
use std::collections::BTreeMap;
use std::rc::Rc;

/// A row: its number, which no other one has, and the part of the table in which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    pub id: u32,
    pub part: u64,
}

/// What one record of the log says.
#[derive(Clone, Debug)]
pub enum Record {
    Insert(Item),
    Prepare {
        gid: Gid,
        item: Item,
        at: u64,
    },
    Finish {
        id: TransactionId,
        commit: bool,
    },
    Decide {
        id: TransactionId,
        item: Item,
        row: Row,
    },
    Abort {
        id: TransactionId,
        row: Row,
    },
    Forget {
        id: TransactionId,
    },
}

/// A row of the decision table.
#[derive(Clone, Debug)]
pub struct Row {
    pub backend: Backend,
    pub committed: bool,
    pub participants: Vec<String>,
    pub at: u64,
}

/// A record with a number that no other one has.
#[derive(Debug)]
pub struct Entry {
    pub serial: u64,
    pub record: Record,
}

/// What a log amounts to.
#[derive(Debug, Default)]
pub struct Contents {
    pub visible: Vec<Item>,
    pub prepared: BTreeMap<TransactionId, (Gid, Item, u64)>,
    pub decisions: BTreeMap<TransactionId, Row>,
}

impl Contents {
    pub fn of(log: &[Rc<Entry>]) -> Contents {
        let mut contents = Contents::default();
        for entry in log {
            match &entry.record {
                Record::Insert(item) => contents.visible.push(*item),
                Record::Prepare { gid, item, at } => {
                    let prepared = (gid.clone(), *item, *at);
                    contents.prepared.insert(gid.id, prepared);
                }
                Record::Finish { id, commit } => {
                    let prepared = contents.prepared.remove(id);
                    if let (Some((_, item, _)), true) = (prepared, *commit) {
                        contents.visible.push(item);
                    }
                }
                Record::Decide { id, item, row } => {
                    contents.visible.push(*item);
                    contents.decisions.insert(*id, row.clone());
                }
                Record::Abort { id, row } => {
                    contents.decisions.insert(*id, row.clone());
                }
                Record::Forget { id } => {
                    contents.decisions.remove(id);
                }
            }
        }
        contents
    }
}

/// One server.
#[derive(Debug, Default)]
pub struct Server {
    pub alive: bool,
    /// It answers questions.
    pub ready: bool,
    /// Goes up with each start; a connection belongs to one run.
    pub run: u32,
    pub timeline: u32,
    pub is_primary: bool,
    /// Whose log it receives.
    pub upstream: usize,
    /// As it is on its disk.
    pub log: Vec<Rc<Entry>>,
    /// So much of it a replica shows.
    pub replayed: usize,
    /// After a crash a replica may show no more than this for a while.
    pub restart: usize,
    /// So much of a primary's log is older than itself.
    pub inherited: usize,
    /// So much of a primary's log is on another server.
    pub synced: usize,
    /// The router reaches it.
    pub reached: bool,
    /// Nobody else does.
    pub isolated: bool,
    /// A replica replays nothing.
    pub paused: bool,
    /// What clients send is reset; probes are answered.
    pub resets: bool,
    /// What works here, by the number of its connection.
    pub backends: BTreeMap<u64, Backend>,
    /// Open transactions.
    pub open: BTreeMap<u64, Item>,
}

impl Server {
    /// What its own queries see. Commits that wait for another server are not among it.
    pub fn shown(&self) -> &[Rc<Entry>] {
        match self.is_primary {
            true => &self.log[..self.synced.max(self.inherited).min(self.log.len())],
            false => &self.log[..self.replayed.min(self.log.len())],
        }
    }

    pub fn report(&self) -> Report {
        let says = match self.is_primary {
            true => ReportedRole::Primary {
                timeline: self.timeline,
                written: Lsn(self.log.len() as u64),
            },
            false => ReportedRole::Replica {
                replayed: Lsn(self.replayed as u64),
                timeline: Some(self.timeline),
                age: None,
            },
        };
        Report {
            system: 1,
            read_only: false,
            says,
        }
    }

    /// Whether all of its log is in another's.
    pub fn is_within(&self, other: &Server) -> bool {
        match self.log.last() {
            None => true,
            Some(last) => other
                .log
                .get(self.log.len() - 1)
                .is_some_and(|entry| entry.serial == last.serial),
        }
    }

    /// How much of its log is in another's.
    pub fn common(&self, other: &Server) -> usize {
        let both = self.log.iter().zip(&other.log);
        both.take_while(|(a, b)| a.serial == b.serial).count()
    }

    /// It is gone, with all that was open.
    pub fn stop(&mut self) {
        self.alive = false;
        self.ready = false;
        self.run += 1;
        self.backends.clear();
        self.open.clear();
    }
}
