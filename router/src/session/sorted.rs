//! Runs a query whose rows the shards have sorted: they are taken from all shards at once and go to the client in order.
//!
//! A server is read only when its next row decides what goes on, so that what the client does not take waits in the
//! servers. Of each there is one row here, and in a portal that is fetched in parts, at most [`AT_ONCE`].

use super::dispatch::Many;
use super::gather::without_position;
use super::inbox::Notices;
use super::many::{Merging, ParameterValues};
use super::servers::AttachedId;
use super::turns::Order;
use super::{Halt, Servers, Session};
use crate::topology::Topology;
use mothership_merge::{SortedRows, order_of, reconcile};
use mothership_plan::{Merge, ShardQuery};
use mothership_pool::wire::Wire;
use mothership_proto::backend::{self, Column, tag};
use mothership_proto::frame::Frame;
use mothership_proto::frontend::Target;
use mothership_proto::ledger::{Audience, Event};
use mothership_proto::report::{Report, sqlstate};
use std::collections::VecDeque;
use std::sync::Arc;

/// So many rows are asked of a shard at a time, where the client wants only some.
const AT_ONCE: i32 = 256;

/// The sorted rows of all shards, on their way to the client.
pub struct Streams {
    plan: Arc<ShardQuery>,
    rows: SortedRows,
    pub(super) legs: Vec<Leg>,
    /// What the first shard answers about is the client's own text.
    is_own: bool,
    /// The client's own, once they are known.
    columns: Option<Vec<Column>>,
    pub(super) error: Option<Vec<u8>>,
    pub(super) wrong: Option<Report>,
    /// Bytes of rows that were taken before those of other shards.
    pub(super) held: usize,
}

/// One shard's part.
#[derive(Default)]
pub(super) struct Leg {
    pub(super) state: LegState,
    /// Rows that were asked for and not wanted yet.
    pub(super) held: VecDeque<Box<[u8]>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum LegState {
    /// It waits to be asked for more.
    #[default]
    Resting,
    /// It answers.
    Asked,
    /// It has no more rows.
    Ended,
}

impl Streams {
    /// Of so many shards.
    pub(super) fn new(plan: &Arc<ShardQuery>, shards: usize) -> Streams {
        Streams {
            rows: SortedRows::new(plan.shape.clone(), shards),
            legs: (0..shards).map(|_| Leg::default()).collect(),
            plan: Arc::clone(plan),
            is_own: false,
            columns: None,
            error: None,
            wrong: None,
            held: 0,
        }
    }

    /// Whether its rows are locked one by one, and none of them is yet.
    fn is_to_lock(&self) -> bool {
        let untouched = |leg: &Leg| leg.state == LegState::Resting && leg.held.is_empty();
        self.plan.rows_to_lock().is_some() && self.sent() == 0 && self.legs.iter().all(untouched)
    }

    /// How many rows are locked of all; without a limit, any number.
    pub(super) fn chosen(&self) -> u64 {
        self.plan.rows_to_lock().unwrap_or(u64::MAX)
    }

    /// Whether there is an order in which they come.
    pub(super) fn is_ordered(&self) -> bool {
        !self.plan.shape.keys.is_empty()
    }

    /// Finds which rows are wanted, as the answer will.
    pub(super) fn choice(&self) -> SortedRows {
        SortedRows::new(self.plan.shape.clone(), self.legs.len())
    }

    /// The shard whose next row, or end, must come now.
    fn wants(&self) -> Option<usize> {
        match (&self.error, &self.wrong) {
            (None, None) => self.rows.wants(),
            _ => None,
        }
    }

    /// Takes one message of a shard.
    fn take(&mut self, leg: usize, frame: Frame<'_>, event: Event, client: &mut Wire) {
        match (event, frame.tag()) {
            (Event::Failed, _) => {
                let error = || match self.is_own {
                    true => frame.body().to_vec(),
                    false => without_position(frame.body()),
                };
                self.error.get_or_insert_with(error);
            }
            (Event::Parsed(_), _) => self.is_own = false,
            (Event::Completed, _) => {
                self.legs[leg].state = LegState::Ended;
                self.end(leg, client);
            }
            (Event::Suspended, _) => self.legs[leg].state = LegState::Resting,
            (_, tag::ROW_DESCRIPTION) => self.describe(leg, frame, client),
            (_, tag::DATA_ROW) => self.row(leg, frame.body(), client),
            _ => {}
        }
    }

    fn row(&mut self, leg: usize, body: &[u8], client: &mut Wire) {
        if self.wants() == Some(leg) {
            let passed = client.with_output(|out| self.rows.row(body, out));
            self.wrong = passed.err().map(|error| error.report());
        }
    }

    fn end(&mut self, leg: usize, client: &mut Wire) {
        if self.wants() == Some(leg) {
            let passed = client.with_output(|out| self.rows.end(out));
            self.wrong = passed.err().map(|error| error.report());
        }
    }

    fn describe(&mut self, leg: usize, frame: Frame<'_>, client: &mut Wire) {
        let columns = backend::columns(frame.body());
        let columns = columns
            .ok()
            .and_then(|columns| visible(&self.plan, columns));
        match (columns, &self.columns) {
            (None, _) => self.wrong = Some(unlike_the_plan()),
            (Some(columns), None) => {
                client.with_output(|out| backend::put_columns(out, &columns));
                self.columns = Some(columns);
            }
            (Some(columns), Some(first)) => {
                if let Err(difference) = reconcile(first, &columns) {
                    self.wrong = Some(difference.report(&leg.to_string()));
                }
            }
        }
    }

    /// Shards that have to be asked before anything can go on.
    fn to_ask(&self) -> Vec<usize> {
        let rests = |leg: &usize| {
            let leg = &self.legs[*leg];
            leg.state == LegState::Resting && leg.held.is_empty()
        };
        (0..self.legs.len()).filter(rests).collect()
    }
}

/// The client's columns of those that a shard has described, if these are what was asked for.
pub(super) fn visible(plan: &ShardQuery, mut columns: Vec<Column>) -> Option<Vec<Column>> {
    let keys = &plan.shape.keys;
    if columns.len() != keys.len() + plan.columns {
        return None;
    }
    let own = columns.split_off(keys.len());
    let known = |(column, key): (&Column, &mothership_merge::SortKey)| {
        column.format == 1 && order_of(column.type_oid, true) == Some(key.order)
    };
    columns.iter().zip(keys).all(known).then_some(own)
}

pub(super) fn unlike_the_plan() -> Report {
    let message = "a shard answers with other columns than its definitions say";
    Report::error(sqlstate::INTERNAL_ERROR, message)
        .hint("Bring the shards to the same schema; SHOW MAP lists what differs.")
}

impl Servers {
    /// Sends the statement of a shard up to the description of its unnamed portal.
    fn bind_sorted(
        &mut self,
        (own, (types, values)): (&[u8], ParameterValues<'_>),
        (at, sql): (AttachedId, &[u8]),
        (leg, first): (usize, bool),
        formats: &[i16],
    ) {
        let attached = &mut self[at];
        attached.inbox.notices = Notices::of(leg, &Merge::Concat);
        attached.inbox.touched.add(None);
        let types = attached.inbox.types_on_shard(types);
        attached.lease.request(Audience::Router, |send| {
            if first {
                send.parse(own, &types);
            }
            send.parse(sql, &types);
            send.bind((b"", b""), values.iter().copied(), formats);
            send.describe(Target::Portal, b"");
        });
    }

    fn send_sorted(
        &mut self,
        own: (&[u8], ParameterValues<'_>),
        (at, sql): (AttachedId, &[u8]),
        leg: (usize, bool),
        formats: &[i16],
    ) {
        self.bind_sorted(own, (at, sql), leg, formats);
        let lease = &mut self[at].lease;
        lease.request(Audience::Router, |send| {
            send.execute(b"", 0);
            send.sync();
        });
    }

    /// The legs with these places in the order in which they are asked.
    pub(super) fn legs_in_order(
        &self,
        topology: &Topology,
        places: &[AttachedId],
        order: Order,
    ) -> Vec<usize> {
        let mut legs: Vec<usize> = (0..places.len()).collect();
        if !order.is_at_once() {
            legs.sort_by_key(|leg| topology.rank(self[places[*leg]].shard, order.first));
        }
        legs
    }
}

impl Session {
    /// Runs it as a simple query, on servers that are attached, each with its text. The first one parses the client's
    /// own text before: if that is wrong, it says where. CommandComplete is returned and not written. `bound` are the
    /// parameters of these texts, if they have any.
    pub(super) async fn query_sorted(
        &mut self,
        plan: &Arc<ShardQuery>,
        (own, bound): (&[u8], Option<ParameterValues<'_>>),
        places: &[(AttachedId, &[u8])],
        order: Order,
    ) -> Result<Vec<u8>, Halt> {
        let own = (own, bound.unwrap_or((&[], &[])));
        let formats = plan.formats(&[]);
        let at: Vec<AttachedId> = places.iter().map(|place| place.0).collect();
        let mut streams = Streams::new(plan, places.len());
        streams.is_own = true;
        let ends = |event| matches!(event, Event::Ready(_));
        if streams.is_to_lock() {
            self.query_locked(own, places, &mut streams, order).await?;
            return self.end_sorted(streams);
        }
        let legs = self.servers.legs_in_order(&self.topology, &at, order);
        for (number, &leg) in legs.iter().enumerate() {
            let (at_leg, sql) = places[leg];
            self.servers
                .send_sorted(own, (at_leg, sql), (leg, number == 0), &formats);
            streams.legs[leg].state = LegState::Asked;
            if order.waits_for(number) && !streams.is_wrong() {
                self.lock_all(leg, at_leg, &mut streams, ends).await?;
            }
            if streams.is_wrong() {
                break;
            }
        }
        self.flow(&at, &mut streams, ends).await?;
        self.end_sorted(streams)
    }

    /// The same where rows are locked until there are enough.
    async fn query_locked(
        &mut self,
        own: (&[u8], ParameterValues<'_>),
        places: &[(AttachedId, &[u8])],
        streams: &mut Streams,
        order: Order,
    ) -> Result<(), Halt> {
        let formats = streams.plan.formats(&[]);
        let at: Vec<AttachedId> = places.iter().map(|place| place.0).collect();
        for (leg, place) in places.iter().enumerate() {
            self.servers
                .bind_sorted(own, *place, (leg, leg == 0), &formats);
            let attached = &mut self.servers[place.0];
            attached.lease.flush();
            attached.inbox.in_segment = true;
        }
        for (leg, &at) in at.iter().enumerate() {
            self.each_message(at, |frame, reply, client| {
                streams.take(leg, frame, reply.event, client);
                reply.event == Event::Failed || frame.tag() == tag::ROW_DESCRIPTION
            })
            .await?;
        }
        if !streams.is_wrong() {
            self.lock_wanted(b"", &at, streams, order).await?;
        }
        for &at in &at {
            let attached = &mut self.servers[at];
            attached.lease.sync(Audience::Router);
            attached.inbox.in_segment = false;
        }
        for (leg, &at) in at.iter().enumerate() {
            self.each_message(at, |frame, reply, client| {
                if reply.event == Event::Failed {
                    streams.take(leg, frame, reply.event, client);
                }
                matches!(reply.event, Event::Ready(_))
            })
            .await?;
        }
        self.flow(&at, streams, |event| matches!(event, Event::Ready(_)))
            .await
    }

    /// Takes and keeps all rows of a shard, so that it has locked them before the next one is asked. Of very many rows
    /// the rest is left to come with those of the others.
    async fn lock_all(
        &mut self,
        leg: usize,
        at: AttachedId,
        streams: &mut Streams,
        ends: impl Fn(Event) -> bool,
    ) -> Result<(), Halt> {
        let most = self.topology.config.limits.held_rows.bytes();
        self.each_message(at, |frame, reply, client| {
            match (reply.event, frame.tag()) {
                (Event::Completed, _) => streams.legs[leg].state = LegState::Ended,
                (_, tag::DATA_ROW) => {
                    streams.held += frame.bytes.len();
                    streams.legs[leg].held.push_back(frame.body().into());
                }
                _ => streams.take(leg, frame, reply.event, client),
            }
            if ends(reply.event) {
                streams.legs[leg].state = LegState::Ended;
                return true;
            }
            streams.held > most
        })
        .await
    }

    /// Lets the rows of shards that have been asked for all of them go on in order, up to the event that ends each
    /// shard's answer.
    async fn flow(
        &mut self,
        places: &[AttachedId],
        streams: &mut Streams,
        ends: impl Fn(Event) -> bool,
    ) -> Result<(), Halt> {
        let asked = |leg: &Leg| leg.state == LegState::Asked;
        let mut ended: Vec<bool> = streams.legs.iter().map(|leg| !asked(leg)).collect();
        while let Some(leg) = streams.wants() {
            if let Some(row) = streams.legs[leg].held.pop_front() {
                streams.row(leg, &row, &mut self.client);
            } else if streams.legs[leg].state == LegState::Ended {
                streams.end(leg, &mut self.client);
            } else {
                self.each_message(places[leg], |frame, reply, client| {
                    streams.take(leg, frame, reply.event, client);
                    ended[leg] = ends(reply.event);
                    ended[leg] || streams.wants() != Some(leg)
                })
                .await?;
            }
        }
        for (leg, &at) in places.iter().enumerate() {
            if !ended[leg] {
                self.each_message(at, |frame, reply, client| {
                    streams.take(leg, frame, reply.event, client);
                    ends(reply.event)
                })
                .await?;
            }
            if let Some(error) = &streams.error
                && self.gives_way_to(error)
            {
                // What the others still do is of no use.
                return Err(Halt::Failed);
            }
        }
        Ok(())
    }

    /// Executes a portal of several shards: all its rows, or so many of them. Returns whether there may be more.
    pub(super) async fn execute_sorted(
        &mut self,
        (name, rows): (&[u8], i32),
        places: &[AttachedId],
        streams: &mut Streams,
        order: Order,
    ) -> Result<bool, Halt> {
        if streams.is_to_lock() {
            self.lock_wanted(name, places, streams, order).await?;
            if streams.is_wrong() {
                return Ok(false);
            }
        }
        if rows > 0 {
            return self.some_sorted((name, rows), places, streams, order).await;
        }
        let ends = |event| matches!(event, Event::Completed | Event::Failed | Event::Suspended);
        let legs = self.servers.legs_in_order(&self.topology, places, order);
        for (number, leg) in legs.into_iter().enumerate() {
            if streams.legs[leg].state == LegState::Resting {
                self.servers.send_execute(places[leg], name, 0);
                streams.legs[leg].state = LegState::Asked;
                if order.waits_for(number) {
                    self.lock_all(leg, places[leg], streams, ends).await?;
                }
            }
            if streams.is_wrong() {
                return Ok(false);
            }
        }
        let ends = |event| matches!(event, Event::Completed | Event::Failed | Event::Suspended);
        self.flow(places, streams, ends).await?;
        Ok(false)
    }

    async fn some_sorted(
        &mut self,
        (name, rows): (&[u8], i32),
        places: &[AttachedId],
        streams: &mut Streams,
        order: Order,
    ) -> Result<bool, Halt> {
        let most = streams.rows.sent() + u64::try_from(rows).unwrap_or(0);
        while let Some(leg) = streams.wants() {
            if streams.rows.sent() == most {
                return Ok(true);
            }
            if let Some(row) = streams.legs[leg].held.pop_front() {
                streams.row(leg, &row, &mut self.client);
            } else if streams.legs[leg].state == LegState::Ended {
                streams.end(leg, &mut self.client);
            } else {
                let mut legs = streams.to_ask();
                if !order.is_at_once() {
                    legs.sort_by_key(|leg| {
                        self.topology
                            .rank(self.servers[places[*leg]].shard, order.first)
                    });
                    for leg in legs {
                        self.servers
                            .send_execute(places[leg], name, rows.min(AT_ONCE));
                        self.hold_sorted(leg, places[leg], streams).await?;
                        if streams.is_wrong() {
                            break;
                        }
                    }
                    continue;
                }
                for leg in &legs {
                    self.servers
                        .send_execute(places[*leg], name, rows.min(AT_ONCE));
                }
                for leg in legs {
                    self.hold_sorted(leg, places[leg], streams).await?;
                }
            }
        }
        Ok(streams.rows.sent() == most)
    }

    /// Takes the rows that a shard was asked for, and keeps them.
    async fn hold_sorted(
        &mut self,
        leg: usize,
        at: AttachedId,
        streams: &mut Streams,
    ) -> Result<(), Halt> {
        self.each_message(at, |frame, reply, _| {
            let Streams { legs, error, .. } = streams;
            match (reply.event, frame.tag()) {
                (Event::Completed, _) => legs[leg].state = LegState::Ended,
                (Event::Suspended, _) => legs[leg].state = LegState::Resting,
                (Event::Failed, _) => {
                    error.get_or_insert_with(|| without_position(frame.body()));
                }
                (_, tag::DATA_ROW) => {
                    legs[leg].held.push_back(frame.body().into());
                    return false;
                }
                _ => return false,
            }
            true
        })
        .await
    }

    /// The end of the answer: its tag, or its error.
    pub(super) fn end_sorted(&mut self, streams: Streams) -> Result<Vec<u8>, Halt> {
        if let Some(body) = streams.error {
            let mut merging = Merging::new(&Merge::Concat, 1);
            merging.error = Some(body);
            return self.finish_many(merging);
        }
        match streams.wrong {
            Some(report) => Err(report.into()),
            None => Ok(format!("SELECT {}", streams.rows.sent()).into_bytes()),
        }
    }
}

impl Streams {
    /// Whether something has gone wrong.
    pub(super) fn is_wrong(&self) -> bool {
        self.error.is_some() || self.wrong.is_some()
    }

    /// How many rows the client has got.
    pub(super) fn sent(&self) -> u64 {
        self.rows.sent()
    }
}

impl Many {
    /// The plan, if its rows come sorted.
    pub(super) fn sorted(&self) -> Option<&Arc<ShardQuery>> {
        match &self.merge {
            Merge::Flow(flow) => Some(flow),
            _ => None,
        }
    }
}
