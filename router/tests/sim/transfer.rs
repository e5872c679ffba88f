//! A transaction over two or three shards: the order of `session::transact`, the steps of [`Commit`].

use crate::requests::{Answer, Body, Kind, Verdict};
use crate::server::Item;
use crate::world::{CONTROL, PREPARE, WINDOW, World};
use mothership::commit::gid::TransactionId;
use mothership::commit::parts::{Participant, Terms, Work};
use mothership::commit::steps::{Commit, End, Reply, Via};
use mothership::config::{Label, Name};
use mothership::topology::shard_id;
use mothership_pool::health::Scope;
use rand::RngExt;
use std::collections::BTreeMap;

#[derive(Debug)]
pub struct Transfer {
    pub id: TransactionId,
    pub shards: Vec<usize>,
    pub items: Vec<Item>,
    /// The connection to each shard that it has joined.
    connections: BTreeMap<usize, u64>,
    /// How many have done their work.
    worked: usize,
    commit: Option<Commit>,
    /// What is under way on each shard: by which connection, until when, and whether that is the control role's.
    under_way: BTreeMap<usize, (u64, u64, Via)>,
}

impl Transfer {
    pub fn new(id: TransactionId, shards: Vec<usize>, items: Vec<Item>) -> Transfer {
        Transfer {
            id,
            shards,
            items,
            connections: BTreeMap::new(),
            worked: 0,
            commit: None,
            under_way: BTreeMap::new(),
        }
    }

    fn item(&self, shard: usize) -> Item {
        let at = self.shards.iter().position(|s| *s == shard);
        self.items[at.expect("it takes part")]
    }
}

impl World {
    fn transfer(&mut self, number: u64) -> &mut Transfer {
        match &mut self.requests.get_mut(&number).unwrap().kind {
            Kind::Transfer(transfer) => transfer,
            other => panic!("{other:?}"),
        }
    }

    /// It joins its next shard.
    pub fn join_next(&mut self, number: u64) {
        let transfer = self.transfer(number);
        let Some(shard) = transfer.shards.get(transfer.worked).copied() else {
            return;
        };
        if transfer.connections.contains_key(&shard) {
            return;
        }
        if self.waits_for_doubts(number, shard) {
            return;
        }
        match self.writer(shard) {
            Ok(server) => self.lease(number, shard, server),
            Err(_) => self.hold_transfer(number),
        }
    }

    pub fn hold_transfer(&mut self, number: u64) {
        let limit = match self.transfer(number).worked {
            0 => WINDOW,
            // What it holds on other shards, others may wait for.
            _ => 500,
        };
        self.hold(number, limit);
        if self.requests[&number].over {
            self.leave(number);
        }
    }

    pub fn work(&mut self, number: u64, shard: usize, connection: u64) {
        self.requests.get_mut(&number).unwrap().holding = None;
        let transfer = self.transfer(number);
        transfer.connections.insert(shard, connection);
        let item = transfer.item(shard);
        self.send(number, connection, Body::Work(item));
    }

    pub fn transfer_said(&mut self, number: u64, shard: usize, connection: u64, answer: Answer) {
        if self.requests[&number].over {
            return;
        }
        match answer {
            Answer::Worked => {
                let transfer = self.transfer(number);
                transfer.worked += 1;
                match transfer.worked == transfer.shards.len() {
                    true => self.commit(number),
                    false => self.join_next(number),
                }
            }
            Answer::Said(reply) => {
                let way = self.transfer(number).under_way.remove(&shard);
                if let Some((_, _, Via::Control)) = way {
                    self.close(connection);
                }
                self.step_said(number, shard, &reply);
            }
            _ => {
                self.health
                    .report_lost(shard, self.connections[&connection].server);
                self.fail(number);
            }
        }
    }

    pub fn transfer_lost(&mut self, number: u64, shard: usize, connection: u64) {
        let transfer = self.transfer(number);
        if transfer.connections.get(&shard) == Some(&connection) {
            transfer.connections.remove(&shard);
        }
        if transfer.commit.is_none() {
            return self.fail(number);
        }
        if transfer
            .under_way
            .get(&shard)
            .is_some_and(|way| way.0 == connection)
        {
            transfer.under_way.remove(&shard);
            self.step_said(number, shard, &Reply::Lost);
        }
    }

    /// Nothing was committed: what is open goes with its connections.
    fn fail(&mut self, number: u64) {
        self.leave(number);
        self.end(number, Verdict::Failed);
    }

    fn leave(&mut self, number: u64) {
        let connections = std::mem::take(&mut self.transfer(number).connections);
        connections
            .into_values()
            .for_each(|connection| self.close(connection));
    }

    fn commit(&mut self, number: u64) {
        let transfer = self.transfer(number);
        let participant = |shard: &usize| Participant {
            shard: shard_id(*shard),
            name: Label::new(&format!("s{shard}")).unwrap(),
            work: Work::Write,
            preparable: true,
            backend: None,
        };
        let mut participants: Vec<Participant> = transfer.shards.iter().map(participant).collect();
        participants.sort_by_key(|p| p.shard);
        let terms = Terms {
            router: Label::new("r1").unwrap(),
            schema: Name::new("mothership").unwrap(),
            id: transfer.id,
            serializable: false,
            two_phase: true,
            fence_wait: 1_000,
        };
        transfer.commit = Some(Commit::new(participants, terms).unwrap());
        self.drive(number);
    }

    fn step_said(&mut self, number: u64, shard: usize, reply: &Reply) {
        let commit = self.transfer(number).commit.as_mut();
        commit.expect("it commits").on_reply(shard_id(shard), reply);
        self.drive(number);
    }

    /// Sends what may be sent, until it has ended.
    fn drive(&mut self, number: u64) {
        loop {
            let commit = self.transfer(number).commit.as_mut().expect("it commits");
            if let Some(end) = commit.end() {
                return self.committed(number, end);
            }
            let steps = commit.steps();
            let mut lost = Vec::new();
            for step in steps {
                let shard = step.shard.index();
                let (id, item) = (self.transfer(number).id, self.transfer(number).item(shard));
                let via = step.via;
                let connection = match via {
                    Via::Session => self.transfer(number).connections.get(&shard).copied(),
                    Via::Control => self.control(shard),
                };
                let connection =
                    connection.filter(|c| self.connections.get(c).is_some_and(|c| !c.closed));
                let Some(connection) = connection else {
                    lost.push(shard);
                    continue;
                };
                self.send(number, connection, Body::Act(Box::new(step), id, item));
                let limit = match via {
                    Via::Session => PREPARE,
                    Via::Control => CONTROL,
                };
                let until = self.at + limit;
                self.transfer(number)
                    .under_way
                    .insert(shard, (connection, until, via));
            }
            if lost.is_empty() {
                return;
            }
            for shard in lost {
                let commit = self.transfer(number).commit.as_mut().expect("it commits");
                commit.on_reply(shard_id(shard), &Reply::Lost);
            }
        }
    }

    /// A connection of the control role to the primary, if that takes one.
    fn control(&mut self, shard: usize) -> Option<u64> {
        let server = self.health.primary(shard).ok()?;
        let of = &self.shards[shard].servers[server];
        (of.alive && of.ready && of.reached).then(|| self.open(shard, server))
    }

    fn committed(&mut self, number: u64, end: End) {
        let owed = self
            .transfer(number)
            .commit
            .as_ref()
            .expect("it has")
            .owed();
        let shards = self.transfer(number).shards.clone();
        // What a server may have committed counts before the client hears of it.
        for shard in shards {
            self.clocks[shard].acknowledge(Scope::All);
        }
        for (shard, gid) in owed {
            self.doubts.note(self.site(shard.index()), &gid);
        }
        self.say(|_| format!("request {number}: {end:?}"));
        let verdict = match end {
            End::Committed { pending } => {
                self.counts.transfers += 1;
                self.counts.pending += u64::from(!pending.is_empty());
                Verdict::Done
            }
            End::Aborted { .. } => {
                self.counts.aborted += 1;
                Verdict::Failed
            }
            End::Unknown { .. } => Verdict::Unknown,
        };
        if verdict == Verdict::Done {
            let connections = std::mem::take(&mut self.transfer(number).connections);
            for connection in connections.into_values() {
                if let Some(c) = self.connections.get_mut(&connection).filter(|c| !c.closed) {
                    c.idle = c.owed.is_none();
                }
            }
        }
        self.leave(number);
        self.end(number, verdict);
    }

    /// Who waits too long for a step closes the connection. Some sessions end in the middle, as with their router.
    pub fn tick_transfers(&mut self) {
        let mut late = Vec::new();
        let mut killed = Vec::new();
        for (number, request) in &self.requests {
            let Kind::Transfer(transfer) = &request.kind else {
                continue;
            };
            if request.over {
                continue;
            }
            let ways = transfer.under_way.iter();
            let ways = ways.filter(|(_, (_, until, _))| self.at >= *until);
            late.extend(ways.map(|(_, (connection, ..))| *connection));
            if transfer.commit.is_some() && self.at < crate::world::FAULTS {
                killed.push(*number);
            }
        }
        for connection in late {
            self.lose(connection, None);
        }
        for number in killed {
            let dies = self.rng.random_bool(0.02);
            let there = self.requests.get(&number).is_some_and(|r| !r.over);
            if dies && there {
                self.say(|_| format!("request {number}: its session dies"));
                let ways = std::mem::take(&mut self.transfer(number).under_way);
                ways.into_values()
                    .for_each(|(connection, ..)| self.close(connection));
                self.leave(number);
                // What a dead router has acknowledged nobody knows; the next one begins anew.
                for shard in self.transfer(number).shards.clone() {
                    self.clocks[shard].acknowledge(Scope::All);
                }
                self.end(number, Verdict::Unknown);
            }
        }
    }
}
