//! Fragments that lock their rows: each of their shards has a portal, which is asked for those that are wanted of all.

use super::fetch::{Fetching, Leg};
use super::{GatherWork, PORTAL, Value};
use crate::session::servers::AttachedId;
use crate::session::sorted::Streams;
use crate::session::state::Phase;
use crate::session::turns::Order;
use crate::session::{Halt, Servers, Session};
use mothership_merge::{Shape, rest_of};
use mothership_plan::ShardQuery;
use mothership_proto::backend::tag;
use mothership_proto::frontend::Target;
use mothership_proto::ledger::{Audience, Event};
use std::sync::Arc;

impl Servers {
    fn bind_locking(&mut self, at: AttachedId, sql: &[u8], (types, values): (&[u8], &[Value<'_>])) {
        let attached = &mut self[at];
        attached.inbox.in_segment = true;
        attached.inbox.touched.add(None);
        let types = attached.inbox.types_on_shard(types);
        attached.lease.request(Audience::Router, |send| {
            send.parse(sql, &types);
            send.bind((PORTAL, b""), values.iter().copied(), &[1]);
            send.flush();
        });
    }
}

impl Session {
    /// Locks and takes the rows of these fragments, when the others have been fetched. `sql` is the client's text, `given` are
    /// the types and values of its parameters.
    pub(super) async fn lock_within(
        &mut self,
        (legs, order): (&[Leg], Order),
        work: &GatherWork,
        sql: &[u8],
        given: (&[u8], &[Value<'_>]),
        fetching: &mut Fetching,
    ) -> Result<(), Halt> {
        for (&number, shape) in &work.locked {
            if !fetching.is_fine() {
                return Ok(());
            }
            let legs = legs.iter().filter(|leg| leg.fragments.contains(&number));
            let places: Vec<AttachedId> = legs.map(|leg| leg.at).collect();
            let text = self.with_times(sql, &work.fragments[number], false).await?;
            for at in &places {
                self.servers.bind_locking(*at, text.as_bytes(), given);
            }
            let mut streams = Streams::new(&flow(work, number, shape), places.len());
            self.lock_wanted(PORTAL, &places, &mut streams, order)
                .await?;
            self.close_locking(&places, &mut streams).await?;
            for row in streams.legs.iter().flat_map(|leg| &leg.held) {
                match rest_of(row, shape.keys.len()) {
                    Some(rest) => fetching.add(number, &rest),
                    None => fetching.malformed(),
                }
            }
            if let Some(error) = &streams.error {
                fetching.failed(error);
            }
            fetching.fails_with(streams.wrong);
        }
        Ok(())
    }

    /// Ends the portals. Within a segment of the client's, what has failed waits for the client's Sync.
    async fn close_locking(
        &mut self,
        places: &[AttachedId],
        streams: &mut Streams,
    ) -> Result<(), Halt> {
        let segment = self.state.phase == Phase::Segment;
        if segment && streams.is_wrong() {
            return Ok(());
        }
        for at in places {
            let attached = &mut self.servers[*at];
            let lease = &mut attached.lease;
            // A server that has failed takes nothing but Sync, and forgets the portal.
            if !streams.is_wrong() {
                lease.request(Audience::Router, |send| send.close(Target::Portal, PORTAL));
            }
            lease.flush_or_sync(segment);
            attached.inbox.in_segment &= segment;
        }
        for at in places {
            self.each_message(*at, |frame, reply, _| match (reply.event, frame.tag()) {
                (Event::Ready(_), _) => true,
                (Event::Failed, _) => {
                    streams.error.get_or_insert_with(|| frame.body().to_vec());
                    segment
                }
                (_, tag::CLOSE_COMPLETE) => segment,
                _ => false,
            })
            .await?;
        }
        Ok(())
    }
}

/// The flow of a fragment's rows.
fn flow(work: &GatherWork, fragment: usize, shape: &Shape) -> Arc<ShardQuery> {
    Arc::new(ShardQuery {
        sql: work.fragments[fragment].clone(),
        columns: work.plan.fragments[fragment].elements.len(),
        shape: shape.clone(),
    })
}
