//! Runs a statement on several shards and makes one answer of theirs.
//!
//! Every shard gets its text at once; their answers are taken in the order of the
//! shards and pass to the client as they come, so memory is bounded by what the
//! client does not read. What changes something holds on all shards or on none: it
//! runs in a transaction of the router's own where the client has none.

use super::choose::Wants;
use super::dispatch::{Many, refused};
use super::inbox::{Inbox, Notices};
use super::passage::Passage;
use super::room::over_limit;
use super::servers::AttachedId;
use super::snapshots::Copies;
use super::state::{Block, Phase, State};
use super::turns::{AttemptOutcome, Order, Turns, patiently};
use super::{End, Halt, Servers, Session};
use crate::core::clock::Doing;
use crate::statements::errors::{Written, place_of, placed, placed_notice};
use crate::statements::step::Step;
use crate::topology::{Topology, shard_id};
use mothership_copy::{CopyOptions, CopyOut};
use mothership_merge::{Aggregates, CommandTag, reconcile};
use mothership_plan::{Course, Merge, Reason, Refusal};
use mothership_pool::connection::{Broken, Flow};
use mothership_pool::wire::Wire;
use mothership_proto::backend::{self, Column, tag};
use mothership_proto::frame::{self, Frame};
use mothership_proto::frontend::Target;
use mothership_proto::ledger::{Audience, Event, Step as Reply};
use mothership_proto::report::{Fields, Report, sqlstate};
use mothership_shardmap::ShardId;
use mothership_sql::effect::{Statement, analyse};
use mothership_sql::places::Characters;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};

/// The types of parameters, and their values with their formats.
pub(super) type ParameterValues<'g> = (&'g [u8], &'g [(i16, Option<&'g [u8]>)]);

/// The portal of a text with parameters that the router runs.
const PORTAL: &[u8] = b"mothership_bound";

/// Answers of shards on their way to one.
pub(super) struct Merging {
    merge: Merge,
    shards: usize,
    columns: Option<Vec<Column>>,
    /// As a shard has described them; most say the same.
    described: Vec<u8>,
    aggregates: Option<Aggregates>,
    copy: Option<CopyOut>,
    /// Rows that wait until they are asked for.
    hold: Option<Hold>,
    command: CommandTag,
    /// The first error of a shard, whole.
    pub(super) error: Option<Vec<u8>>,
    /// Which shard's it is.
    failed: Option<usize>,
    /// Those of other shards.
    more: Vec<(usize, Vec<u8>)>,
    /// The leg whose command counts if all do the same.
    speaker: usize,
    /// The shards that have done it.
    completed: Vec<usize>,
    /// What the router itself found wrong.
    wrong: Option<Report>,
    /// Whether a shard may have changed rows, for each leg.
    may_change: Option<Vec<bool>>,
    /// What the copies of a reference table say, if those are what is written.
    copies: Option<Copies>,
}

/// Rows that were kept, and the command of the statement that gave them.
pub(super) type Held = (VecDeque<Box<[u8]>>, Vec<u8>);

impl Merging {
    pub(super) fn new(merge: &Merge, shards: usize) -> Self {
        Self::of(merge.clone(), shards)
    }

    /// The same with a merge that nobody else needs.
    pub(super) fn of(merge: Merge, shards: usize) -> Self {
        Self {
            merge,
            shards,
            columns: None,
            described: Vec::new(),
            aggregates: None,
            copy: None,
            hold: None,
            command: CommandTag::new(),
            error: None,
            failed: None,
            more: Vec::new(),
            speaker: 0,
            completed: Vec::new(),
            wrong: None,
            may_change: None,
            copies: None,
        }
    }

    /// The shards write copies of a reference table, which must say the same.
    pub(super) fn of_copies(mut self, copies: Option<Copies>) -> Self {
        self.copies = copies;
        self
    }

    /// A row that is changed where `many` does not allow it is an error: its new key is of another shard.
    pub(super) fn staying(mut self, many: &Many) -> Self {
        self.may_change = many
            .only_on
            .map(|only| many.legs.iter().map(|(shard, _)| *shard == only).collect());
        self
    }

    /// Whether rows were changed that would have to move.
    fn has_moved(&self, leg: usize, command: &[u8]) -> bool {
        let may_change = |legs: &Vec<bool>| legs.get(leg).copied().unwrap_or_default();
        self.may_change
            .as_ref()
            .is_some_and(|legs| !may_change(legs))
            && backend::affected(command).is_none_or(|rows| rows > 0)
    }

    /// The columns of the answer are known before it begins (extended protocol).
    pub(super) fn with_columns(mut self, columns: Vec<Column>) -> Result<Self, Report> {
        self.describe(columns)?;
        Ok(self)
    }

    /// Rows are kept and not passed on; see [`Merging::held`].
    pub(super) fn holding(mut self, most: usize) -> Self {
        self.hold = Some(Hold {
            rows: VecDeque::new(),
            bytes: 0,
            most,
        });
        self
    }

    /// The rows that were kept.
    pub(super) fn held(&mut self) -> VecDeque<Box<[u8]>> {
        self.hold.take().map(|hold| hold.rows).unwrap_or_default()
    }

    /// Of COPY TO, headers and trailers come once.
    pub(super) fn copies(&mut self, sql: &[u8], standard_strings: bool) {
        if let Ok(options) = CopyOptions::parse(sql, standard_strings) {
            self.copy = Some(CopyOut::new(&options.format, self.shards));
        }
    }

    fn describe(&mut self, columns: Vec<Column>) -> Result<(), Report> {
        if let Merge::Aggregates(list) = &self.merge {
            let list: Vec<_> = list.iter().map(|m| merge_of(*m)).collect();
            self.aggregates = Some(Aggregates::new(&list, &columns).map_err(|e| e.report())?);
        }
        self.columns = Some(columns);
        Ok(())
    }

    /// Takes one message of the `leg`-th shard. True when its answer has ended.
    pub(super) fn take(
        &mut self,
        leg: usize,
        frame: Frame<'_>,
        event: Event,
        client: &mut Wire,
    ) -> bool {
        match event {
            Event::Failed => {
                if self.error.is_none() {
                    self.error = Some(frame.body().to_vec());
                    self.failed = Some(leg);
                } else {
                    self.more.push((leg, frame.body().to_vec()));
                }
                return false;
            }
            Event::Ready(_) => return true,
            Event::Completed => {
                self.completed.push(leg);
                if frame.tag() == tag::COMMAND_COMPLETE
                    && backend::command(frame.body()).is_ok_and(|tag| self.has_moved(leg, tag))
                {
                    let refusal = Refusal::new(Reason::KeyUpdate);
                    self.wrong.get_or_insert(refused(&refusal));
                }
                if frame.tag() == tag::COMMAND_COMPLETE
                    && let Some(copies) = &mut self.copies
                    && let Ok(command) = backend::command(frame.body())
                    && let Err(report) = copies.hear(command)
                {
                    self.wrong.get_or_insert(report);
                }
                if frame.tag() == tag::COMMAND_COMPLETE
                    && let Ok(command) = backend::command(frame.body())
                    && (leg == self.speaker || self.merge != Merge::First)
                    && let Err(error) = self.command.add(command)
                {
                    self.wrong.get_or_insert(error.report());
                }
                return false;
            }
            _ => {}
        }
        if self.is_wrong() {
            return false;
        }
        if let Err(report) = self.part(leg, frame, client) {
            self.wrong = Some(report);
        }
        false
    }

    /// True after the first error: nothing more is passed on.
    pub(super) fn is_wrong(&self) -> bool {
        self.error.is_some() || self.wrong.is_some()
    }

    /// Whether those that are asked in turn need not be asked any more. Which row of a divided INSERT fails first is known
    /// when all have answered.
    pub(super) fn is_decided(&self, many: &Many) -> bool {
        self.wrong.is_some() || self.error.is_some() && many.order.is_none()
    }

    /// The errors of shards, the first one first.
    fn take_errors(&mut self) -> Vec<(usize, Vec<u8>)> {
        let first = self.failed.take().zip(self.error.take());
        first.into_iter().chain(self.more.drain(..)).collect()
    }

    /// The same back; the first one is told.
    fn put_errors(&mut self, errors: Vec<(usize, Vec<u8>)>) {
        let mut errors = errors.into_iter();
        (self.failed, self.error) = errors.next().unzip();
        self.more = errors.collect();
    }

    fn part(&mut self, leg: usize, frame: Frame<'_>, client: &mut Wire) -> Result<(), Report> {
        let malformed =
            || Report::error(sqlstate::INTERNAL_ERROR, "server sent a malformed message");
        match frame.tag() {
            tag::ROW_DESCRIPTION if self.described == frame.body() => {}
            tag::ROW_DESCRIPTION => {
                let columns = backend::columns(frame.body()).map_err(|_| malformed())?;
                match &self.columns {
                    None => {
                        self.describe(columns)?;
                        self.described = frame.body().to_vec();
                        client.send(frame.bytes);
                    }
                    Some(first) => {
                        reconcile(first, &columns).map_err(|d| d.report(&leg.to_string()))?
                    }
                }
            }
            tag::DATA_ROW => match (&mut self.aggregates, &self.merge) {
                (Some(aggregates), _) => aggregates.row(frame.body()).map_err(|e| e.report())?,
                (None, Merge::First) if leg > 0 => {}
                _ => match &mut self.hold {
                    Some(hold) => hold.keep(frame.bytes)?,
                    None => client.send(frame.bytes),
                },
            },
            tag::COPY_OUT if leg == 0 => client.send(frame.bytes),
            tag::COPY_DATA => {
                let passed = match &mut self.copy {
                    Some(copy) => copy.message(leg, frame.body()).map_err(|e| e.report())?,
                    None => Some(frame.body()),
                };
                if let Some(body) = passed {
                    client.with_output(|out| {
                        frame::put(out, tag::COPY_DATA, |b| b.extend_from_slice(body))
                    });
                }
            }
            tag::COPY_DONE if leg + 1 == self.shards => {
                if let Some(end) = self.copy.as_ref().and_then(CopyOut::finish) {
                    client.with_output(|out| {
                        frame::put(out, tag::COPY_DATA, |b| b.extend_from_slice(end))
                    });
                }
                client.send(frame.bytes);
            }
            _ => {}
        }
        Ok(())
    }

    /// Errors about texts that were written from `sql` are about it from now on. PostgreSQL reads all of it before it runs
    /// anything, so of several with a place it tells the one that comes first.
    fn place_errors(&mut self, many: &Many, sql: &[u8], characters: Characters) {
        let errors = self.take_errors().into_iter();
        let first = first_error(many, sql, characters, errors);
        (self.failed, self.error) = first.unzip();
    }

    /// The end of the answer: the merged row, or the error. The command is returned and
    /// not written, because where the transaction is the router's own it is said only
    /// after the commit, as PostgreSQL does.
    pub(super) fn finish(mut self, client: &mut Wire) -> Result<Vec<u8>, Halt> {
        if let Some(body) = self.error.take() {
            client.with_output(|out| crate::statements::errors::put_as_error(out, &body));
            return Err(Halt::Failed);
        }
        if let Some(report) = self.wrong.take() {
            return Err(Halt::Fail(report));
        }
        self.end(client).map_err(Halt::Fail)
    }

    /// The same of an answer with which nothing was wrong until now. Where something is, nothing was written.
    pub(super) fn end(&self, client: &mut Wire) -> Result<Vec<u8>, Report> {
        if let Some(aggregates) = &self.aggregates {
            let done = client.with_output(|out| aggregates.finish(self.shards, out));
            done.map_err(|e| e.report())?;
            return Ok(b"SELECT 1".to_vec());
        }
        Ok(self.command.bytes().unwrap_or_default())
    }

    /// What makes one answer.
    pub(super) fn merge(&self) -> &Merge {
        &self.merge
    }
}

/// A simple query whose answers are being taken, as the fast path leaves it. Its servers are attached in the order of
/// its legs.
pub(super) struct Halfway {
    /// What has come.
    pub merging: Merging,
    /// So many servers, the first ones, have answered.
    pub answered: usize,
}

/// Rows of a statement that goes to its shards in turn, until those are there that come before them in the client's list.
pub(super) struct WaitingRows {
    /// Of each leg; none where any order will do.
    rows: Vec<VecDeque<Box<[u8]>>>,
    bytes: usize,
    most: usize,
}

impl WaitingRows {
    pub(super) fn new(ordered: bool, legs: usize, most: usize) -> WaitingRows {
        WaitingRows {
            rows: vec![VecDeque::new(); if ordered { legs } else { 0 }],
            bytes: 0,
            most,
        }
    }

    /// Keeps a row of a leg. False if it is none, or need not wait.
    pub(super) fn takes(&mut self, leg: usize, frame: Frame<'_>) -> bool {
        let Some(rows) = self
            .rows
            .get_mut(leg)
            .filter(|_| frame.tag() == tag::DATA_ROW)
        else {
            return false;
        };
        self.bytes += frame.bytes.len();
        if self.bytes <= self.most {
            rows.push_back(frame.bytes.into());
        }
        true
    }

    /// # Errors
    /// There are more than may wait.
    pub(super) fn check(&self) -> Result<(), Report> {
        match self.bytes > self.most {
            true => Err(over_limit(
                format!(
                    "rows of more than {} bytes wait for those of other shards",
                    self.most
                ),
                "limits.held_rows",
            )),
            false => Ok(()),
        }
    }

    /// Passes the rows on in the order of the client's list, of which each row is stored by such a leg; a shard that has
    /// skipped some has fewer. If there are errors, no row is shown, as with PostgreSQL, and that one is told whose row
    /// comes first in the list.
    pub(super) fn pass(mut self, order: &[usize], merging: &mut Merging, client: &mut Wire) {
        if self.rows.is_empty() {
            return;
        }
        let mut errors = merging.take_errors();
        for &leg in order {
            if let Some(bytes) = self.rows[leg].pop_front() {
                if errors.is_empty() {
                    merging.take(leg, Frame { bytes: &bytes }, Event::Part, client);
                }
            } else if let Some(at) = errors.iter().position(|(failed, _)| *failed == leg) {
                errors.swap(0, at);
                break;
            }
        }
        if errors.is_empty() {
            for leg in 0..self.rows.len() {
                for bytes in std::mem::take(&mut self.rows[leg]) {
                    merging.take(leg, Frame { bytes: &bytes }, Event::Part, client);
                }
            }
        }
        merging.put_errors(errors);
    }
}

/// Shows the client what a server says beside the answers that are collected: notices, settings, notifications, and
/// replies for the client itself. `None` if the message belongs to an answer.
fn show_aside(
    frame: Frame<'_>,
    reply: Reply,
    (client, state, inbox): (&mut Wire, &mut State, &mut Inbox),
    written: Option<&Written>,
) -> Option<Flow> {
    if reply.event == Event::Notification && client.held().is_some() {
        // It is not of the statement, which may be undone.
        state.notifications.made().extend_from_slice(frame.bytes);
        return Some(Flow::Continue);
    }
    let is_aside = matches!(
        reply.event,
        Event::Notice | Event::Parameter | Event::Notification | Event::Own
    );
    if !is_aside && reply.to != Audience::Client {
        return None;
    }
    let notice = reply.event == Event::Notice;
    // What answers the client itself is of one server alone.
    if notice && reply.to != Audience::Client && !inbox.notices.shows(frame.body()) {
        return Some(Flow::Continue);
    }
    let shown = Reply {
        to: Audience::Client,
        ..reply
    };
    let moved = written.filter(|_| notice).and_then(|written| {
        let own = |place| written.place(state.told.characters(), place);
        placed_notice(frame.body(), own)
    });
    let frame = moved.as_deref().map_or(frame, |bytes| Frame { bytes });
    // Its neighbours are merged, so it goes by itself.
    let mut passage = Passage::new(client, b"", false);
    Some(state.on_server(frame, shown, inbox, &mut passage))
}

/// Takes a message about what went ahead of a statement, such as BEGIN, which has no answer of its own. True if it
/// failed: then the statement does.
fn fails_ahead(frame: Frame<'_>, reply: Reply, inbox: &mut Inbox) -> bool {
    match reply.event {
        Event::Ready(_) => inbox.ahead -= 1,
        Event::Part if frame.tag() == tag::DATA_ROW => inbox.keep_row(frame),
        _ => {}
    }
    reply.event == Event::Failed
}

/// Why no more messages of a server are taken.
enum Stopped {
    /// The statement gives way to others.
    GivesWay,
    /// The session ends.
    Ended(End),
    /// The server is gone.
    Lost(Broken),
}

/// The error of several shards that PostgreSQL would tell, as one about `sql`, and whose it is.
pub(super) fn first_error(
    many: &Many,
    sql: &[u8],
    characters: Characters,
    errors: impl Iterator<Item = (usize, Vec<u8>)>,
) -> Option<(usize, Vec<u8>)> {
    let in_own_text = |(leg, body): (usize, Vec<u8>)| {
        let place = |place| many.place(sql, leg, characters, place);
        let found = place_of(&body).and_then(place);
        (found, leg, placed(&body, |_| found))
    };
    let first = errors
        .map(in_own_text)
        .min_by_key(|(place, ..)| place.unwrap_or(usize::MAX));
    first.map(|(_, leg, body)| (leg, body))
}

fn merge_of(merge: mothership_plan::AggregateMerge) -> mothership_merge::AggregateMerge {
    use mothership_merge::AggregateMerge as M;
    use mothership_plan::AggregateMerge as P;
    match merge {
        P::Count => M::Count,
        P::SumBigint => M::SumBigint,
        P::SumNumeric => M::SumNumeric,
        P::Min => M::Min,
        P::Max => M::Max,
    }
}

/// Rows that wait until they are asked for.
struct Hold {
    rows: VecDeque<Box<[u8]>>,
    bytes: usize,
    most: usize,
}

impl Hold {
    fn keep(&mut self, row: &[u8]) -> Result<(), Report> {
        self.bytes += row.len();
        if self.bytes > self.most {
            return Err(over_limit(
                format!("rows of more than {} bytes wait to be fetched", self.most),
                "limits.held_rows",
            ));
        }
        self.rows.push_back(row.into());
        Ok(())
    }
}

impl Servers {
    /// Sends a statement over several shards to one of them. `rank` says whose notices are shown.
    fn send_leg(
        &mut self,
        many: &Many,
        (at, text): (AttachedId, &[u8]),
        rank: usize,
        bound: Option<ParameterValues<'_>>,
    ) {
        self[at].inbox.notices = Notices::of(rank, &many.merge);
        if many.locks_copies() && !many.copy_in {
            self.lock_copy(at);
        }
        match bound {
            None => self.send_router_query(at, text, many.writes),
            Some(given) => self.send_router_bound(at, text, given, many.writes),
        }
    }

    pub(super) fn send_router_query(&mut self, at: AttachedId, sql: &[u8], writes: bool) {
        let attached = &mut self[at];
        // Outside of a block it ends with its own end, and a segment that was open there ends with it.
        attached.inbox.in_segment &= attached.inbox.in_block;
        attached.inbox.wrote |= writes;
        attached.inbox.touched.add(None);
        attached.lease.query(sql, Audience::Router);
    }

    /// The same of a text with parameters; it is answered as a simple query is, with texts. The columns are those of the
    /// statement, as EXECUTE tells them: what planning makes of an expression may have another type modifier.
    fn send_router_bound(
        &mut self,
        at: AttachedId,
        sql: &[u8],
        (types, values): ParameterValues<'_>,
        writes: bool,
    ) {
        let super::Attached { lease, inbox, .. } = &mut self[at];
        inbox.wrote |= writes;
        inbox.touched.add(None);
        let types = inbox.types_on_shard(types);
        lease.request(Audience::Router, |send| {
            send.parse(sql, &types);
            send.bind((PORTAL, b""), values.iter().copied(), &[0]);
            send.describe(Target::Statement, b"");
            send.execute(PORTAL, 0);
            send.close(Target::Portal, PORTAL);
            send.sync();
        });
    }
}

impl Session {
    /// Writes CommandComplete, or what stands for it when there was no statement.
    pub(super) fn put_command(&mut self, command: &[u8]) {
        if command.is_empty() {
            self.client.send(backend::EMPTY_QUERY);
        } else {
            self.client
                .with_output(|out| backend::put_complete(out, command));
        }
    }

    /// Runs a simple query on several shards, up to its CommandComplete, which is
    /// returned and not written. By its steps a replica may do.
    pub(super) async fn query_many(
        &mut self,
        sql: &[u8],
        steps: &[Step],
        many: &Many,
    ) -> Result<Vec<u8>, Halt> {
        self.run_many(sql, steps, many, None).await
    }

    /// The same of a text with parameters, of these types and values.
    pub(super) async fn run_many(
        &mut self,
        sql: &[u8],
        steps: &[Step],
        many: &Many,
        bound: Option<ParameterValues<'_>>,
    ) -> Result<Vec<u8>, Halt> {
        if many.is_step_by_step() {
            return self.step_by_step(sql, many).await;
        }
        let turns = self.turns(sql, steps, many);
        self.run_in_turns((sql, sql), steps, many, bound, turns)
            .await
    }

    /// The same, as it was decided before how it goes to its shards. `named` is the text that names its tables.
    pub(super) async fn run_in_turns(
        &mut self,
        (sql, named): (&[u8], &[u8]),
        steps: &[Step],
        many: &Many,
        bound: Option<ParameterValues<'_>>,
        mut turns: Turns,
    ) -> Result<Vec<u8>, Halt> {
        let shared = std::sync::Arc::clone(&self.core.shared);
        self.begin_attempts();
        self.servers.begin_saving();
        loop {
            self.begin_attempt(turns);
            let attempt = self.attempt_many(sql, steps, many, bound, turns);
            let done = match many.writes {
                true => patiently(&shared.stuck, attempt).await,
                false => attempt.await,
            };
            if !self.end_attempt(&mut turns, named).await? {
                let command = done?;
                self.check_not_overtaken(named, many.planned_by.as_ref())
                    .await?;
                return Ok(command);
            }
        }
    }

    async fn attempt_many(
        &mut self,
        sql: &[u8],
        steps: &[Step],
        many: &Many,
        bound: Option<ParameterValues<'_>>,
        turns: Turns,
    ) -> Result<Vec<u8>, Halt> {
        self.servers.check_second_set_of(&self.topology, many)?;
        let refused;
        let many = match self.lock_without_block(sql, many) {
            Some(one) => {
                refused = one;
                &refused
            }
            None => {
                if many.writes {
                    self.transaction.begin_implicit(&mut self.state);
                }
                many
            }
        };
        self.open_snapshots(many).await?;
        let wants = self.wants_of_many(steps, many);
        let servers = self.attach_all(many, &wants).await?;
        if turns.saves() {
            self.servers.save(&self.state, many);
        }
        if many.locks_copies() && many.copy_in {
            self.lock_copies(&servers).await?;
        }
        let order = turns.order;
        let timed = match servers.first() {
            Some(&at) => self.timed(many, sql, at).await?,
            None => None,
        };
        let legs = timed.as_ref().map_or(&many.legs, |timed| &timed.legs);
        let texts = legs.iter().map(|(_, text)| text.as_deref().unwrap_or(sql));
        let mut places: Vec<(AttachedId, &[u8])> = servers.iter().copied().zip(texts).collect();
        let rewritten;
        if many.password {
            rewritten = self.with_one_verifier(sql, &servers).await?;
            if let Some(text) = &rewritten {
                places.iter_mut().for_each(|place| place.1 = text);
            }
        }
        if let Some(plan) = many.sorted() {
            return self.query_sorted(plan, (sql, bound), &places, order).await;
        }
        let many = timed.as_ref().unwrap_or(many);
        self.ask_many(sql, many, &places, bound, order).await
    }

    /// Sends their texts to the servers of `places`, and makes one answer of theirs.
    async fn ask_many(
        &mut self,
        sql: &[u8],
        many: &Many,
        places: &[(AttachedId, &[u8])],
        bound: Option<ParameterValues<'_>>,
        order: Order,
    ) -> Result<Vec<u8>, Halt> {
        let mut merging = self.merging(many, places.len())?;
        merging.copies(sql, self.standard_strings());
        let at: Vec<AttachedId> = places.iter().map(|place| place.0).collect();
        let ends = |event| matches!(event, Event::Ready(_));
        let speaker = merging.speaker;
        let batches = self.topology.batches(many, order);
        let several = batches.len() > 1;
        let mut kept = WaitingRows::new(
            many.order.is_some(),
            at.len(),
            self.topology.config.limits.held_rows.bytes(),
        );
        for batch in batches {
            for &leg in &batch {
                // The one that speaks for all counts as the first.
                let rank = match leg {
                    leg if leg == speaker => 0,
                    leg => leg.max(1),
                };
                self.servers.send_leg(many, places[leg], rank, bound);
            }
            if many.copy_in {
                return self.copy_many(sql, many, &at).await;
            }
            if several {
                self.collect_batch(&batch, &at, (&mut merging, &mut kept), ends)
                    .await?;
            } else {
                self.collect_all(many, &at, &mut merging, ends).await?;
            }
            if merging.is_decided(many) {
                break;
            }
        }
        if several {
            let listed = many.order.as_deref().unwrap_or_default();
            kept.pass(listed, &mut merging, &mut self.client);
        }
        if many.is_written() {
            merging.place_errors(many, sql, self.state.told.characters());
        }
        self.finish_many(merging)
    }

    /// Attaches the servers of a statement over several shards, in the order of its legs.
    async fn attach_all(&mut self, many: &Many, wants: &Wants) -> Result<Vec<AttachedId>, Halt> {
        let mut servers = Vec::new();
        for (shard, _) in &many.legs {
            if !many.password {
                self.servers.leave_ahead();
            }
            let at = self.attach_to(*shard, wants.clone()).await?;
            self.check_isolation(at, many.legs.len()).await?;
            servers.push(at);
        }
        Ok(servers)
    }

    /// LOCK TABLE where no block is open, not even one of the router's own that something before it has begun: work for
    /// one shard without one, whose server refuses it in PostgreSQL's own words.
    pub(super) fn lock_without_block(&self, sql: &[u8], many: &Many) -> Option<Many> {
        let alone = self.state.block == Block::None
            && !self.servers.iter().any(|s| s.inbox.in_segment)
            && many.merge == Merge::First;
        let locks = || analyse(sql, self.standard_strings()).statement == Statement::Lock;
        let mut one = (alone && locks()).then(|| many.clone())?;
        one.legs.truncate(1);
        Some(one)
    }

    /// Takes the answers of all shards up to the event that ends each. The rows of a divided INSERT are taken in the
    /// order of the client's list, of which each shard stores its part in order. A shard that skipped some (ON
    /// CONFLICT, a trigger) has fewer; then the order is another one, and nobody is promised any. Of several errors that
    /// one is told whose shard stores the first row of all: without RETURNING nobody knows which rows they are of.
    pub(super) async fn collect_all(
        &mut self,
        many: &Many,
        places: &[AttachedId],
        merging: &mut Merging,
        ends: impl Fn(Event) -> bool,
    ) -> Result<(), Halt> {
        let mut ended = vec![false; places.len()];
        for &leg in many.order.as_deref().unwrap_or_default() {
            if ended[leg] || merging.is_wrong() {
                continue;
            }
            self.each_message(places[leg], |frame, reply, client| {
                merging.take(leg, frame, reply.event, client);
                ended[leg] = ends(reply.event);
                ended[leg] || frame.tag() == tag::DATA_ROW
            })
            .await?;
        }
        for (leg, &at) in places.iter().enumerate() {
            if !ended[leg] {
                self.each_message(at, |frame, reply, client| {
                    merging.take(leg, frame, reply.event, client);
                    ends(reply.event)
                })
                .await?;
                self.stop_if_undone(merging)?;
            }
        }
        Ok(())
    }

    /// The same of some of the shards, where others are asked later: rows whose order is the client's are kept.
    pub(super) async fn collect_batch(
        &mut self,
        batch: &[usize],
        places: &[AttachedId],
        (merging, kept): (&mut Merging, &mut WaitingRows),
        ends: impl Fn(Event) -> bool,
    ) -> Result<(), Halt> {
        for &leg in batch {
            self.each_message(places[leg], |frame, reply, client| {
                if !kept.takes(leg, frame) {
                    merging.take(leg, frame, reply.event, client);
                }
                ends(reply.event)
            })
            .await?;
            self.stop_if_undone(merging)?;
        }
        Ok(kept.check()?)
    }

    /// What the attempt still waits for is of no use where it is undone.
    pub(super) fn stop_if_undone(&mut self, merging: &Merging) -> Result<(), Halt> {
        match merging
            .error
            .as_deref()
            .is_some_and(|error| self.gives_way_to(error))
        {
            true => Err(Halt::Failed),
            false => Ok(()),
        }
    }

    /// What makes one answer of so many shards.
    ///
    /// # Errors
    /// They must not be asked at all, see [`Session::check_copies_read`].
    pub(super) fn merging(&self, many: &Many, shards: usize) -> Result<Merging, Halt> {
        if many.reads_copies && shards > 1 {
            self.check_copies_read()?;
        }
        let writes_copies = many.locks_copies() && !many.locks_alone();
        let copies = writes_copies.then(|| self.copies_written());
        let mut merging = Merging::new(&many.merge, shards).staying(many);
        if many.merge == Merge::First {
            // Only the home shard has all that depends on what a definition removes.
            let at_home = |leg: &(ShardId, Option<_>)| leg.0 == self.topology.home;
            merging.speaker = many.legs.iter().position(at_home).unwrap_or(0);
        }
        Ok(merging.of_copies(copies))
    }

    /// Goes on with a query that the fast path has left, up to its ReadyForQuery.
    pub(super) async fn go_on(&mut self, halfway: Halfway) -> Result<(), Halt> {
        let Halfway {
            mut merging,
            answered,
        } = halfway;
        for (leg, at) in self.servers.ids().into_iter().enumerate().skip(answered) {
            self.collect(leg, at, &mut merging).await?;
        }
        let command = self.finish_many(merging)?;
        self.put_command(&command);
        self.state.ready_alone(&mut self.client);
        Ok(())
    }

    /// Takes the answer of one shard up to its end.
    pub(super) async fn collect(
        &mut self,
        leg: usize,
        at: AttachedId,
        merging: &mut Merging,
    ) -> Result<(), Halt> {
        self.each_message(at, |frame, reply, client| {
            merging.take(leg, frame, reply.event, client)
        })
        .await
    }

    /// Ready when the answer may go on: nobody ends it, and the client has not more than `buffer` bytes to read.
    fn poll_may_go_on(&mut self, cx: &mut Context<'_>, buffer: usize) -> Poll<Result<(), Stopped>> {
        if let Some(report) = self.must_go() {
            return Poll::Ready(Err(Stopped::Ended(End::Told(report))));
        }
        if self.entry.yielding.is_asked() {
            return Poll::Ready(Err(Stopped::GivesWay));
        }
        self.show_held();
        if self.client.unsent() <= buffer {
            return Poll::Ready(Ok(()));
        }
        let drained = self.client.poll_drained(cx, buffer / 2);
        if drained.is_pending() {
            self.entry.pulse.set(Doing::Stalled);
        }
        drained.map_err(|_| Stopped::Ended(End::Gone))
    }

    /// Hands every message that server `at` owes the router to `each` until that says
    /// it was the last. Cancel safe.
    pub(super) async fn each_message(
        &mut self,
        at: AttachedId,
        mut each: impl FnMut(Frame<'_>, Reply, &mut Wire) -> bool,
    ) -> Result<(), Halt> {
        let buffer = self.topology.config.limits.client_buffer.bytes();
        let ahead = self.topology.config.limits.pipeline_size.bytes();
        let polled = poll_fn(|cx| {
            loop {
                match self.poll_may_go_on(cx, buffer) {
                    Poll::Ready(Ok(())) => {}
                    other => return other,
                }
                self.entry.pulse.set(Doing::Running);
                let Self {
                    client,
                    state,
                    servers,
                    request,
                    ..
                } = self;
                let super::Attached { lease, inbox, .. } = &mut servers[at];
                let mut done = false;
                let polled = lease.poll_messages(cx, |frame: Frame<'_>, reply: Reply| {
                    inbox.unnamed_lost |= reply.event == Event::Failed;
                    let translated = inbox.translated(frame);
                    let frame = translated.as_deref().map_or(frame, |bytes| Frame { bytes });
                    if let Some(flow) = show_aside(
                        frame,
                        reply,
                        (client, state, inbox),
                        request.written.as_deref(),
                    ) {
                        return flow;
                    }
                    if inbox.ahead > 0 {
                        if fails_ahead(frame, reply, inbox) {
                            each(frame, reply, client);
                        }
                        return Flow::Continue;
                    }
                    if let Event::Parsed(id) = reply.event {
                        inbox.parsed.push(id);
                    }
                    if inbox.locks_ahead {
                        // The first statement that ends is that lock.
                        inbox.locks_ahead =
                            !matches!(reply.event, Event::Completed | Event::Failed);
                        if reply.event != Event::Failed {
                            return Flow::Continue;
                        }
                    }
                    done = each(frame, reply, client);
                    if done || client.unsent() > buffer {
                        Flow::Stop
                    } else {
                        Flow::Continue
                    }
                });
                match polled {
                    Poll::Ready(Ok(())) if done => return Poll::Ready(Ok(())),
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Stopped::Lost(error))),
                    Poll::Pending => {}
                }
                // A client that left must not keep servers busy.
                if self.client.input().len() < ahead {
                    match self.client.poll_fill(cx) {
                        Poll::Ready(Ok(n)) if n > 0 => continue,
                        Poll::Ready(_) => return Poll::Ready(Err(Stopped::Ended(End::Gone))),
                        Poll::Pending => {}
                    }
                }
                return Poll::Pending;
            }
        })
        .await;
        self.after_answer(at, polled)
    }

    /// What follows when the answer of a server is there, or ends before its end.
    fn after_answer(&mut self, at: AttachedId, answer: Result<(), Stopped>) -> Result<(), Halt> {
        match answer {
            Ok(()) => {
                self.after_messages(at);
                Ok(())
            }
            Err(Stopped::Ended(end)) => Err(end.into()),
            Err(Stopped::GivesWay) => {
                self.request.met = AttemptOutcome::Others;
                Err(Halt::Failed)
            }
            Err(Stopped::Lost(error)) => {
                self.lost(at, &error);
                Err(Halt::Failed)
            }
        }
    }

    /// Writes the end of the answer. An error makes the client's transaction fail.
    pub(super) fn finish_many(&mut self, mut merging: Merging) -> Result<Vec<u8>, Halt> {
        self.stop_if_undone(&merging)?;
        if let Some(report) = found_at_home_only(&self.topology, &merging) {
            merging.error = None;
            merging.wrong = Some(report);
        }
        if let Some(body) = &mut merging.error {
            let written = self.request.written.as_deref();
            if let Some(changed) = self.state.error_for_client(body, written) {
                *body = changed;
            }
        }
        let result = merging.finish(&mut self.client);
        if matches!(result, Err(Halt::Failed)) {
            self.state.note_failure();
            if !self.transaction.implicit && self.state.block == Block::Open {
                self.state.block = Block::Failed;
            }
            if self.state.phase == Phase::Segment {
                self.state.skipping = true;
            }
        }
        result
    }

    /// What PostgreSQL refuses in a transaction block runs on one shard after the other. Where it stopped is said, but for
    /// an index, which is dropped again. In a block the first shard refuses it. What it does not refuse is part of the
    /// block, on all shards.
    async fn step_by_step(&mut self, sql: &[u8], many: &Many) -> Result<Vec<u8>, Halt> {
        let mut merging = Merging::new(&Merge::First, many.legs.len());
        if self.state.block != Block::None {
            for (leg, (shard, _)) in many.legs.iter().enumerate() {
                let at = self.attach(*shard).await?;
                self.servers[at].inbox.notices = Notices::of_same(leg);
                self.servers.send_router_query(at, sql, true);
                self.collect(leg, at, &mut merging).await?;
                if merging.is_wrong() {
                    break;
                }
            }
            return self.finish_many(merging);
        }
        // Behind others in a pipeline it fails: first where they were, and nothing is done.
        let was_used = |shard: ShardId| {
            let server = self.servers.iter().find(|s| s.shard == shard);
            server.is_some_and(|s| s.inbox.in_segment && s.inbox.passed)
        };
        let mut legs: Vec<_> = many.legs.iter().collect();
        legs.sort_by_key(|(shard, _)| !was_used(*shard));
        let mut done: Vec<ShardId> = Vec::new();
        for (leg, (shard, text)) in legs.into_iter().enumerate() {
            let text = text.as_deref().unwrap_or(sql);
            let run = self.step(leg, *shard, text, &mut merging).await;
            if run.is_ok() && !merging.is_wrong() {
                done.push(*shard);
                continue;
            }
            match &many.course {
                Course::MakesIndex(index) => self.unmake(index, &done, *shard, &merging).await,
                // The others have nothing of it. What PostgreSQL itself leaves behind it says.
                _ if done.is_empty() => {}
                _ => self.tell_stopped(&many.course, &done, *shard),
            }
            run?;
            break;
        }
        self.finish_many(merging)
    }

    /// Runs a statement on one shard, outside of a transaction.
    async fn step(
        &mut self,
        leg: usize,
        shard: ShardId,
        sql: &[u8],
        merging: &mut Merging,
    ) -> Result<(), Halt> {
        let at = self.attach(shard).await?;
        self.servers[at].inbox.notices = Notices::of_same(leg);
        self.servers.send_router_query(at, sql, true);
        self.collect(leg, at, merging).await?;
        if let Some(attached) = self.servers.get(at) {
            self.state.acknowledge(&attached.inbox);
        }
        Ok(())
    }

    /// Warns the client that some shards have done what another one has not.
    fn tell_stopped(&mut self, course: &Course, done: &[ShardId], failed: ShardId) {
        let message = format!(
            "statement failed on shard {}",
            self.topology.shards[failed].name
        );
        let report = Report::warning("01000", message)
            .detail(format!("Done before on: {}.", names_of(&self.topology, done)))
            .hint(match course {
                Course::DropsIndex => "Repeat it after mending the cause.",
                _ => "Repeat it after mending the cause; shards that have it already may have to be left out.",
            });
        self.client.with_output(|out| report.put(out));
    }

    /// Drops an index where it was made, and what is left of it on the shard that failed. The client is told of what stays.
    async fn unmake(&mut self, index: &str, made: &[ShardId], failed: ShardId, merging: &Merging) {
        let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS {index}");
        let mut stays = Vec::new();
        for &shard in made {
            if self.drops(shard, &drop).await.is_err() {
                stays.push(shard);
            }
        }
        let code = merging
            .error
            .as_deref()
            .and_then(|error| Fields::read(error).code);
        let other = code == Some(sqlstate::DUPLICATE_TABLE.as_bytes());
        if !other
            && self.is_left_invalid(failed, index).await
            && self.drops(failed, &drop).await.is_err()
        {
            stays.push(failed);
        }
        if stays.is_empty() {
            return;
        }
        let report = Report::warning("01000", format!("index {index} could not be dropped again"))
            .detail(format!(
                "It is still on: {}.",
                names_of(&self.topology, &stays)
            ))
            .hint(format!(
                "{drop} on these shards, then the statement can be repeated."
            ));
        self.client.with_output(|out| report.put(out));
    }

    /// Whether a failed CREATE INDEX CONCURRENTLY has left its index behind, which PostgreSQL marks as invalid.
    async fn is_left_invalid(&mut self, shard: ShardId, index: &str) -> bool {
        let literal = index.replace('\'', "''").replace('\\', "\\\\");
        let sql = format!(
            "SELECT 1 FROM pg_catalog.pg_index WHERE indexrelid OPERATOR(pg_catalog.=) \
             pg_catalog.to_regclass(E'{literal}')::pg_catalog.oid AND NOT indisvalid"
        );
        let Ok(at) = self.attach(shard).await else {
            return false;
        };
        matches!(self.ask_row(at, &sql).await, Ok(Some(_)))
    }

    async fn drops(&mut self, shard: ShardId, sql: &str) -> Result<(), Halt> {
        let at = self.attach(shard).await?;
        match self.ask_plainly(at, sql.as_bytes()).await? {
            None => Ok(()),
            Some(error) => Err(Halt::Fail(self.state.report_for_client(&error))),
        }
    }
}

fn names_of(topology: &Topology, shards: &[ShardId]) -> String {
    let name = |shard: &ShardId| topology.shards[*shard].name.as_str();
    shards.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// The refusal of a definition that the home shard has made and another one could not, because it names what lives at
/// home.
fn found_at_home_only(topology: &Topology, merging: &Merging) -> Option<Report> {
    let (error, failed) = (merging.error.as_ref()?, merging.failed?);
    let home = topology.home;
    let of_all = merging.merge == Merge::First && merging.shards == topology.postgres;
    let fields = Fields::read(error);
    let undefined = [
        sqlstate::UNDEFINED_TABLE,
        sqlstate::UNDEFINED_OBJECT,
        sqlstate::UNDEFINED_FUNCTION,
    ];
    let code = str::from_utf8(fields.code?).ok()?;
    // It goes to all shards in their order: the number of a leg is that of its shard.
    let failed = shard_id(failed);
    if !of_all || !merging.completed.contains(&home.index()) || !undefined.contains(&code) {
        return None;
    }
    let name = |shard: ShardId| &topology.shards[shard].name;
    let said = String::from_utf8_lossy(fields.message?).into_owned();
    let report = Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        format!(
            "this definition is the same on all shards, and it names what only shard {} has",
            name(home)
        ),
    )
    .detail(format!("Shard {}: {said}", name(failed)))
    .hint("A function whose body is a string looks up what its body names when it runs.");
    Some(report)
}
