//! FOR UPDATE and the like with LIMIT over several shards: rows are locked until there are enough of them.
//!
//! PostgreSQL sorts the rows and locks one after the other, up to the limit. Here each shard does so with its own rows, and
//! is asked for one row at a time: the first of all is kept, and its shard is asked for the next. In the end every other
//! shard has locked one row that is not wanted. A savepoint goes ahead of each row, so that the last one can be given free.
//! Where no order is wanted, any row will do, and no shard locks more than what is still missing.

use super::extended::put_quietly;
use super::gather::without_position;
use super::room::over_limit;
use super::servers::AttachedId;
use super::sorted::{LegState, Streams};
use super::turns::Order;
use super::{Halt, Session};
use mothership_merge::SortedRows;
use mothership_proto::backend::tag;
use mothership_proto::ledger::Event;

/// The savepoint ahead of a row.
const SAVE: &str = "SAVEPOINT mothership_row";
const KEEP: &str = "RELEASE SAVEPOINT mothership_row";
const FREE: &str = "ROLLBACK TO SAVEPOINT mothership_row";

impl Session {
    /// Has the shards lock the rows that are wanted of all, and takes them: what is left is to merge them. `portal` is bound
    /// on each of these servers, and nothing was taken of it.
    pub(super) async fn lock_wanted(
        &mut self,
        portal: &[u8],
        places: &[AttachedId],
        streams: &mut Streams,
        order: Order,
    ) -> Result<(), Halt> {
        match streams.is_ordered() {
            true => self.lock_first(portal, places, streams, order).await?,
            false => self.lock_any(portal, places, streams, order).await?,
        }
        for leg in 0..places.len() {
            streams.legs[leg].state = LegState::Ended;
        }
        Ok(())
    }

    async fn lock_any(
        &mut self,
        portal: &[u8],
        places: &[AttachedId],
        streams: &mut Streams,
        order: Order,
    ) -> Result<(), Halt> {
        let mut missing = streams.chosen();
        for leg in self.servers.legs_in_order(&self.topology, places, order) {
            // 0 would ask for all.
            let rows = i32::try_from(missing).unwrap_or(i32::MAX);
            if rows == 0 || streams.is_wrong() {
                break;
            }
            self.servers.send_execute(places[leg], portal, rows);
            self.take_locked(leg, places[leg], streams, 0).await?;
            missing = missing.saturating_sub(streams.legs[leg].held.len() as u64);
        }
        Ok(())
    }

    async fn lock_first(
        &mut self,
        portal: &[u8],
        places: &[AttachedId],
        streams: &mut Streams,
        order: Order,
    ) -> Result<(), Halt> {
        let mut choice = streams.choice();
        // How many rows of each have had their say.
        let mut said = vec![0; places.len()];
        let mut saved = vec![false; places.len()];
        let mut due = match choice.wants() {
            Some(_) => self.servers.legs_in_order(&self.topology, places, order),
            None => Vec::new(),
        };
        loop {
            self.ask_locked(portal, places, (&due, order), &mut saved, streams)
                .await?;
            let Some(leg) = choice.wants().filter(|_| !streams.is_wrong()) else {
                break;
            };
            due = streams.say(leg, &mut said[leg], &mut choice);
        }
        if streams.is_wrong() {
            return Ok(());
        }
        for leg in choice.waiting() {
            streams.legs[*leg].held.pop_back();
        }
        self.free_unwanted(places, &saved, choice.waiting(), streams)
            .await
    }

    /// Asks these shards for a row each, behind a savepoint, and takes it.
    async fn ask_locked(
        &mut self,
        portal: &[u8],
        places: &[AttachedId],
        (legs, order): (&[usize], Order),
        saved: &mut [bool],
        streams: &mut Streams,
    ) -> Result<(), Halt> {
        let mut asked = Vec::new();
        for (number, &leg) in legs.iter().enumerate() {
            if streams.is_wrong() {
                break;
            }
            let lease = &mut self.servers[places[leg]].lease;
            let before = std::mem::replace(&mut saved[leg], true);
            if before {
                put_quietly(lease, KEEP.as_bytes());
            }
            put_quietly(lease, SAVE.as_bytes());
            self.servers.send_execute(places[leg], portal, 1);
            asked.push((leg, 1 + usize::from(before)));
            if order.waits_for(number) {
                for (leg, ahead) in asked.drain(..) {
                    self.take_locked(leg, places[leg], streams, ahead).await?;
                }
            }
        }
        for (leg, ahead) in asked {
            self.take_locked(leg, places[leg], streams, ahead).await?;
        }
        Ok(())
    }

    /// Takes what a shard was asked for, behind so many statements of the router's own.
    async fn take_locked(
        &mut self,
        leg: usize,
        at: AttachedId,
        streams: &mut Streams,
        mut ahead: usize,
    ) -> Result<(), Halt> {
        self.each_message(at, |frame, reply, _| {
            let its = &mut streams.legs[leg];
            match (reply.event, frame.tag()) {
                (Event::Failed, _) => {
                    let error = || without_position(frame.body());
                    streams.error.get_or_insert_with(error);
                }
                (Event::Completed, _) if ahead > 0 => {
                    ahead -= 1;
                    return false;
                }
                (Event::Completed, _) => its.state = LegState::Ended,
                (Event::Suspended, _) => its.state = LegState::Resting,
                (_, tag::DATA_ROW) => {
                    streams.held += frame.bytes.len();
                    its.held.push_back(frame.body().into());
                    return false;
                }
                _ => return false,
            }
            true
        })
        .await?;
        if let Some(error) = &streams.error
            && self.gives_way_to(error)
        {
            return Err(Halt::Failed);
        }
        let most = self.topology.config.limits.held_rows.bytes();
        match streams.held > most {
            true => Err(over_limit(
                format!("rows of more than {most} bytes wait for those of other shards"),
                "limits.held_rows",
            )
            .into()),
            false => Ok(()),
        }
    }

    /// Keeps what was locked behind savepoints, but for the last row of these shards.
    async fn free_unwanted(
        &mut self,
        places: &[AttachedId],
        saved: &[bool],
        unwanted: &[usize],
        streams: &mut Streams,
    ) -> Result<(), Halt> {
        let mut told = Vec::new();
        for (leg, &at) in places.iter().enumerate().filter(|(leg, _)| saved[*leg]) {
            let lease = &mut self.servers[at].lease;
            let frees = unwanted.contains(&leg);
            if frees {
                put_quietly(lease, FREE.as_bytes());
            }
            put_quietly(lease, KEEP.as_bytes());
            told.push((at, 1 + usize::from(frees)));
        }
        for (at, mut statements) in told {
            self.each_message(at, |frame, reply, _| {
                match reply.event {
                    Event::Failed => {
                        let error = || without_position(frame.body());
                        streams.error.get_or_insert_with(error);
                        return true;
                    }
                    // Each is bound, executed and closed.
                    _ if frame.tag() == tag::CLOSE_COMPLETE => statements -= 1,
                    _ => {}
                }
                statements == 0
            })
            .await?;
        }
        Ok(())
    }
}

impl Streams {
    /// Lets the next row of a shard have its say, or its end. Returns the shard if it has to be asked first.
    fn say(&mut self, leg: usize, said: &mut usize, choice: &mut SortedRows) -> Vec<usize> {
        let its = &self.legs[leg];
        // The client gets what is merged later.
        let mut unseen = Vec::new();
        let done = match its.held.get(*said) {
            Some(row) => {
                *said += 1;
                choice.row(row, &mut unseen)
            }
            None if its.state == LegState::Ended => choice.end(&mut unseen),
            None => return vec![leg],
        };
        self.wrong = done.err().map(|error| error.report());
        Vec::new()
    }
}
