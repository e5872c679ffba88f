//! Writes within WITH: run where their rows are, when all that the statement reads has been fetched.

use super::fetch::{Fetching, Leg};
use super::residue::wrong_statement;
use super::send::Ask;
use super::write::same_columns;
use super::{Described, GatherWork, Value};
use crate::session::servers::AttachedId;
use crate::session::state::Phase;
use crate::session::turns::Order;
use crate::session::{Halt, Session};
use mothership_plan::gather::{Ending, Holders};
use mothership_proto::backend::tag;
use mothership_proto::ledger::Event;
use mothership_shardmap::ShardId;

impl GatherWork {
    /// The writes within WITH.
    fn writes_within(&self) -> Vec<usize> {
        let fragments = self.plan.fragments.iter().enumerate();
        let writes = fragments.filter(|(_, fragment)| fragment.writes);
        writes.map(|(number, _)| number).collect()
    }

    /// Whether there are any.
    pub(in crate::session) fn writes_first(&self) -> bool {
        !self.writes_within().is_empty()
    }
}

impl Session {
    /// Runs the writes within WITH, one after the other, each in the order of locks. `at` is the server that has described
    /// the statement; what it would see another statement in is refused before anything is written.
    pub(super) async fn write_within(
        &mut self,
        at: AttachedId,
        (legs, order): (&[Leg], Order),
        work: &GatherWork,
        sql: &[u8],
        (described, values): (&Described, &[Value<'_>]),
        fetching: &mut Fetching,
    ) -> Result<(), Halt> {
        let writes = work.writes_within();
        if writes.is_empty() || !fetching.is_fine() {
            return Ok(());
        }
        self.check_described_alike(at, work, sql, described).await?;
        let segment = self.state.phase == Phase::Segment;
        for number in writes {
            let legs = legs.iter().filter(|leg| leg.fragments.contains(&number));
            let places: Vec<AttachedId> = legs.map(|leg| leg.at).collect();
            let shards: Vec<ShardId> = places.iter().map(|at| self.servers[*at].shard).collect();
            for shard in &shards {
                self.servers
                    .check_second_set(&self.topology, *shard, true)?;
            }
            // Copies say the same.
            let copies = matches!(work.plan.fragments[number].of, Holders::Copies);
            let told = places.first().copied().filter(|_| copies);
            if copies && places.len() > 1 {
                self.check_copies_read()?;
                self.lock_copies(&places).await?;
            }
            for batch in self.topology.batches_of(&shards, order, copies) {
                for &leg in &batch {
                    let text = work.text(number, shards[leg]);
                    let text = self.with_times(sql, text, true).await?;
                    let attached = &mut self.servers[places[leg]];
                    attached.inbox.in_segment |= segment;
                    attached.inbox.wrote = true;
                    attached.inbox.may_write = true;
                    attached.inbox.touched.add(None);
                    let types = attached.inbox.types_on_shard(&described.parameters);
                    attached.ask(&Ask {
                        reading: None,
                        sql: &text,
                        types: &types,
                        values,
                        describes: None,
                        formats: &[1],
                        rows: 0,
                    });
                    attached.lease.flush_or_sync(segment);
                }
                for at in batch.iter().map(|leg| places[*leg]) {
                    self.each_message(at, |frame, reply, _| {
                        match (reply.event, frame.tag()) {
                            (Event::Ready(_), _) => return true,
                            (Event::Failed, _) => {
                                fetching.failed(frame.body());
                                return segment;
                            }
                            (_, tag::DATA_ROW) if told.is_none_or(|told| told == at) => {
                                fetching.add(number, frame.body());
                            }
                            (_, tag::CLOSE_COMPLETE) => return segment,
                            _ => {}
                        }
                        false
                    })
                    .await?;
                }
                if !fetching.is_fine() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Refuses a statement that would have other columns as the server gets it than in the client's own text.
    async fn check_described_alike(
        &mut self,
        at: AttachedId,
        work: &GatherWork,
        sql: &[u8],
        described: &Described,
    ) -> Result<(), Halt> {
        if let Ending::Write(_) = &work.plan.ending {
            let residue = self.with_times(sql, &work.residue, true).await?;
            let types = &described.parameters;
            let found = self.describe_text(at, residue.as_bytes(), types).await?;
            if !same_columns(&described.columns, &found.columns) {
                let said = "its columns would have other names or types";
                return Err(wrong_statement(&work.plan, said).into());
            }
        }
        Ok(())
    }
}
