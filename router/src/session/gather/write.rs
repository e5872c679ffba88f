//! Writes with gathered rows: a residue that runs on the shards of its target, and the rows of a query that are
//! stored where their keys belong.

use super::conflict::Attempts;
use super::divide::Dividing;
use super::residue::{without_position, wrong_statement};
use super::send::Ask;
use super::{Described, GatherWork, Value};
use crate::session::choose::Wants;
use crate::session::dispatch;
use crate::session::inbox::Notices;
use crate::session::many::{Held, Merging, WaitingRows};
use crate::session::servers::AttachedId;
use crate::session::state::Phase;
use crate::session::turns::{Turns, patiently};
use crate::session::{Halt, Session};
use crate::statements::names::Prepared;
use crate::topology::Topology;
use mothership_merge::Arrays;
use mothership_plan::gather::{Ending, Store, Written};
use mothership_plan::{Merge, Reason, Refusal};
use mothership_proto::backend::{self, Column, tag};
use mothership_proto::frontend::Bind;
use mothership_proto::ledger::Event;
use mothership_proto::report::Fields;
use mothership_shardmap::ShardId;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// A portal of a write that gathers: everything is done when it is executed.
pub struct GatherPortal {
    work: GatherWork,
    /// The values of its Bind, as they came.
    bind: Box<[u8]>,
    /// The client's text.
    sql: Box<[u8]>,
    /// The shard that has described it.
    shard: ShardId,
    described: Described,
    formats: Vec<i16>,
    /// How often it may run again, if it meets other writes.
    attempts: Cell<Attempts>,
    /// And if others and it wait for each other.
    turns: Cell<Turns>,
    /// How many requests had been taken when it was bound.
    bound_at: u64,
    /// The rows of RETURNING that a client has not asked for yet, and the command.
    pub held: RefCell<Option<Held>>,
}

impl GatherPortal {
    /// The columns of RETURNING, in the formats that were asked for.
    pub(in crate::session) fn columns(&self) -> Option<Vec<u8>> {
        if self.described.columns.is_empty() {
            return None;
        }
        let mut out = Vec::new();
        backend::put_columns(&mut out, &formatted(&self.described.columns, &self.formats));
        Some(out)
    }

    /// It has run and shown all its rows: who asks for more gets none of them.
    pub(in crate::session) fn leave_none(&self, command: &[u8]) {
        if !self.described.columns.is_empty() {
            self.held.replace(Some((VecDeque::new(), command.to_vec())));
        }
    }

    /// Whether rows are held when a client wants so many of them: all is done at once, as in PostgreSQL.
    pub(in crate::session) fn holds(&self, rows: i32) -> bool {
        rows > 0 && !self.described.columns.is_empty()
    }
}

/// The parts of one run.
pub(super) struct Run<'r> {
    /// The client's text.
    pub sql: &'r [u8],
    pub values: &'r [Value<'r>],
    /// Of the results.
    pub formats: &'r [i16],
    pub arrays: &'r [Vec<u8>],
    pub described: &'r Described,
    /// The client is to be told the columns (simple protocol).
    pub describes: bool,
    /// Where rows are kept and not passed on.
    pub held: Option<&'r RefCell<Option<Held>>>,
    /// How this attempt goes to its shards.
    pub turns: Turns,
}

/// A statement for one shard, with the arrays that it gets.
struct Part<'r> {
    at: AttachedId,
    sql: &'r str,
    arrays: &'r [Vec<u8>],
}

impl Session {
    /// Parses, binds and executes a statement with the statement's own parameters and arrays behind them.
    pub(super) fn send_statement(
        &mut self,
        at: AttachedId,
        work: &GatherWork,
        (sql, arrays): (&str, &[Vec<u8>]),
        run: &Run<'_>,
        formats: &[i16],
        describes: bool,
    ) {
        let segment = self.state.phase == Phase::Segment;
        let attached = &mut self.servers[at];
        attached.inbox.in_segment |= segment;
        attached.inbox.touched.add(None);
        let types = attached.inbox.types_on_shard(&run.described.parameters);
        let values = run.values.iter().copied().take(work.plan.parameters);
        let arrays = arrays.iter().map(|array| (1, Some(array.as_slice())));
        let values: Vec<Value<'_>> = values.chain(arrays).collect();
        attached.ask(&Ask {
            reading: None,
            sql,
            types: &types,
            values: &values,
            describes: describes.then_some(sql),
            formats,
            rows: 0,
        });
        attached.lease.flush_or_sync(segment);
    }
}

impl Session {
    /// Bind of a write: what it means is asked now, and done later.
    pub(in crate::session) async fn bind_gathered_write(
        &mut self,
        bind: &Bind<'_>,
        statement: &Rc<Prepared>,
        work: GatherWork,
    ) -> Result<GatherPortal, Halt> {
        let attempts = self.transaction.attempts(&self.servers, &self.state, &work);
        let turns = self.gathering_turns(&statement.sql, &work);
        self.transaction.begin_implicit(&mut self.state);
        let shard = self.residue_shard(&work);
        let at = self.attach(shard).await?;
        if turns.saves() {
            // Ahead of all that belongs to the segment.
            self.servers.begin_saving();
            self.servers.save_on(&self.state, at);
        }
        let (_, described) = self.describe_gathered(bind, statement, shard).await?;
        self.answer(backend::BIND_COMPLETE);
        Ok(GatherPortal {
            work,
            bind: bind.rest.into(),
            sql: statement.sql.as_ref().into(),
            shard,
            described,
            formats: bind.result_formats().collect(),
            attempts: Cell::new(attempts),
            turns: Cell::new(turns),
            bound_at: self.request.taken,
            held: RefCell::default(),
        })
    }

    /// Execute of a write, up to its CommandComplete, which is returned and not written.
    pub(in crate::session) async fn execute_gathered_write(
        &mut self,
        portal: &GatherPortal,
        rows: i32,
    ) -> Result<Vec<u8>, Halt> {
        let mut attempts = portal.attempts.take();
        let mut turns = portal.turns.get();
        let others = self.servers.len() > 1 || self.servers.iter().any(|s| self.state.stakes(s));
        // Something else was done since it was bound, which would be undone with it.
        if others {
            attempts = Attempts::default();
        }
        let alone = match turns.saves() {
            true => portal.bound_at + 1 == self.request.taken,
            false => !others,
        };
        if !alone {
            turns = turns.without_undoing();
        }
        self.transaction.conflict = attempts.allow();
        let shared = std::sync::Arc::clone(&self.core.shared);
        self.begin_attempts();
        loop {
            self.begin_attempt(turns);
            let attempt = self.execute_gathered_once(portal, rows, turns);
            let done = patiently(&shared.stuck, attempt).await;
            if !self
                .goes_again(&portal.sql, &mut turns, &mut attempts)
                .await?
            {
                let command = done?;
                let planned_by = portal.work.planned_by.as_ref();
                self.check_not_overtaken(&portal.sql, planned_by).await?;
                return Ok(command);
            }
        }
    }

    async fn execute_gathered_once(
        &mut self,
        portal: &GatherPortal,
        rows: i32,
        turns: Turns,
    ) -> Result<Vec<u8>, Halt> {
        let GatherPortal {
            work, described, ..
        } = portal;
        self.transaction.begin_implicit(&mut self.state);
        let nameless = [b"\0\0", &*portal.bind].concat();
        let bind = Bind::read(&nameless).map_err(crate::session::malformed)?;
        let values: Vec<Value<'_>> = bind.values().collect();
        let legs = self
            .attach_legs(work, portal.shard, &Wants::Primary)
            .await?;
        self.servers.save_legs(&self.state, &legs, turns);
        let mut fetching = self.topology.fetching(work);
        let given = (&*described.parameters, &*values);
        self.fetch(&legs, work, given, &mut fetching).await?;
        let legs = (&*legs, turns.order);
        self.lock_within(legs, work, &portal.sql, given, &mut fetching)
            .await?;
        let at = self.servers.place_of(portal.shard)?;
        let given = (described, &*values);
        self.write_within(at, legs, work, &portal.sql, given, &mut fetching)
            .await?;
        let (arrays, _) = self.fetched(fetching)?;
        let run = Run {
            sql: &portal.sql,
            values: &values,
            formats: &portal.formats,
            arrays: &arrays,
            described,
            describes: false,
            held: portal.holds(rows).then_some(&portal.held),
            turns,
        };
        self.write_gathered(at, work, &run).await
    }

    /// A portal that has made a table: what follows for the session.
    pub(in crate::session) fn note_kept(&mut self, portal: &GatherPortal, command: &[u8]) {
        if let Ok(at) = self.servers.place_of(portal.shard) {
            self.keeps(&portal.sql, at, &portal.work, command);
        }
    }

    /// Writes what was gathered. `at` is the server that has described the statement.
    pub(super) async fn write_gathered(
        &mut self,
        at: AttachedId,
        work: &GatherWork,
        run: &Run<'_>,
    ) -> Result<Vec<u8>, Halt> {
        match &work.plan.ending {
            Ending::Store(store) => self.store(at, work, store, run).await,
            Ending::Write(written) => {
                let merge = match written {
                    Written::Everywhere => Merge::First,
                    Written::Home | Written::Owners(_) => Merge::Concat,
                };
                let mut servers = Vec::new();
                for shard in &work.target {
                    servers.push(self.attach_saved(*shard, run.turns).await?);
                }
                let sql = self.with_times(run.sql, &work.residue, true).await?;
                let part = |at: AttachedId| Part {
                    at,
                    sql: &sql,
                    arrays: run.arrays,
                };
                let parts: Vec<Part<'_>> = servers.into_iter().map(part).collect();
                self.write_parts(work, (&parts, &[]), &merge, run).await
            }
            Ending::Keep(keep) => {
                let types = &run.described.parameters;
                let sql = self.with_times(run.sql, &work.residue, true).await?;
                let wanted = self.describe_text(at, keep.asked.as_bytes(), types).await?;
                let found = self.describe_text(at, sql.as_bytes(), types).await?;
                if !same_columns(&wanted.columns, &found.columns) {
                    let said = "its columns would have other names or types";
                    return Err(wrong_statement(&work.plan, said).into());
                }
                let sql = work.keeping(&sql).unwrap_or_default();
                let part = Part {
                    at,
                    sql: &sql,
                    arrays: run.arrays,
                };
                let run = Run {
                    described: &Described {
                        parameters: run.described.parameters.clone(),
                        columns: Vec::new(),
                    },
                    ..*run
                };
                self.write_parts(work, (&[part], &[]), &Merge::Concat, &run)
                    .await
            }
            Ending::Change(change) => self.change(at, work, change, run).await,
            Ending::Answer => Ok(Vec::new()),
        }
    }

    /// Runs the query of an INSERT on one server and stores its rows.
    async fn store(
        &mut self,
        at: AttachedId,
        work: &GatherWork,
        store: &Store,
        run: &Run<'_>,
    ) -> Result<Vec<u8>, Halt> {
        if let Some(shown) = &store.shown {
            let text = self.with_times(run.sql, shown, true).await?;
            let types = &run.described.parameters;
            let found = self.describe_text(at, text.as_bytes(), types).await?;
            if !same_columns(&run.described.columns, &found.columns) {
                let said = "its columns would have other names or types";
                return Err(wrong_statement(&work.plan, said).into());
            }
        }
        let dividing = self.divide_rows(at, work, store, run).await?;
        // MongoDB need not know what the statement itself does not have.
        let without_values = Described {
            parameters: Vec::new(),
            columns: run.described.columns.clone(),
        };
        let is_alone = store.documents && !work.tail.contains('$');
        let asked = run;
        let run = &match is_alone {
            true => Run {
                values: &[],
                described: &without_values,
                ..*run
            },
            false => Run { ..*run },
        };
        let sql = dividing.statement(work, run.values.len());
        let mut stored = Vec::new();
        let mut legs = BTreeMap::new();
        for (leg, (shard, arrays)) in dividing.shards.into_iter().enumerate() {
            legs.insert(shard, leg);
            let place = self.attach_saved(shard, run.turns).await?;
            stored.push((place, arrays.finish()));
        }
        let order = dividing.order.iter().map(|shard| legs.get(shard));
        let order: Vec<usize> = order.map_while(|leg| leg.copied()).collect();
        if stored.is_empty() {
            // Of no rows there is still a tag, and what the statement itself is refused for.
            let none = Arrays::new(&dividing.elements).finish();
            stored.push((at, none));
        }
        let sql = match store.documents {
            // The time is among the rows.
            true => Cow::Borrowed(sql.as_str()),
            false => self.with_times(run.sql, &sql, true).await?,
        };
        if let (Some(shown), [(place, arrays)]) = (&store.shown, stored.as_slice()) {
            let stored = (*place, &*sql, arrays.as_slice());
            return self
                .store_shown((at, shown), work, stored, (run, asked))
                .await;
        }
        let parts: Vec<Part<'_>> = stored
            .iter()
            .map(|(at, arrays)| Part {
                at: *at,
                sql: &sql,
                arrays,
            })
            .collect();
        let merge = match store.sharded {
            Some(_) => Merge::Concat,
            None => Merge::First,
        };
        self.write_parts(work, (&parts, &order), &merge, run).await
    }

    /// Runs the query of an INSERT on one server, and divides its rows among the shards that store them.
    async fn divide_rows<'s>(
        &mut self,
        at: AttachedId,
        work: &GatherWork,
        store: &'s Store,
        run: &Run<'_>,
    ) -> Result<Dividing<'s>, Halt> {
        let all: Vec<ShardId> = self.topology.postgres_shards().collect();
        let mut dividing = Dividing::new(store, &self.topology.fetch_limits());
        let mut failed = None;
        let query = self.with_times(run.sql, &work.residue, false).await?;
        self.send_statement(at, work, (&query, run.arrays), run, &[1], true);
        let context = self.state.text_context();
        let segment = self.state.phase == Phase::Segment;
        let mut parsed = false;
        self.each_message(at, |frame, reply, _| {
            match (reply.event, frame.tag()) {
                (Event::Ready(_), _) => return true,
                (Event::Failed, _) => {
                    failed.get_or_insert_with(|| frame.body().to_vec());
                    return segment;
                }
                (Event::Parsed(_), _) => parsed = true,
                (_, tag::ROW_DESCRIPTION) => dividing.columns(frame.body()),
                (_, tag::DATA_ROW) => dividing.row(frame.body(), &all, &context),
                (_, tag::CLOSE_COMPLETE) => return segment,
                _ => {}
            }
            false
        })
        .await?;
        if let Some(body) = failed {
            return Err(match parsed {
                true => self.failed_with(&without_position(&body)),
                false => self.differs(work, &body),
            });
        }
        if let Some(report) = dividing.wrong {
            return Err(report.into());
        }
        if store.documents && dividing.shards.len() > 1 {
            let refusal = Refusal::new(Reason::DocumentsShards);
            return Err(dispatch::refused(&refusal).into());
        }
        for shard in dividing.shards.keys() {
            self.servers
                .check_second_set(&self.topology, *shard, true)?;
        }
        Ok(dividing)
    }

    /// Runs a statement on several servers and makes one answer of theirs. `order` says of rows that are stored which
    /// part stores each: RETURNING gives them back in that order, unless a part has skipped some.
    async fn write_parts(
        &mut self,
        work: &GatherWork,
        (parts, order): (&[Part<'_>], &[usize]),
        merge: &Merge,
        run: &Run<'_>,
    ) -> Result<Vec<u8>, Halt> {
        if *merge == Merge::First && parts.len() > 1 {
            // The rows of an INSERT were computed once, for all copies.
            if !matches!(work.plan.ending, Ending::Store(_)) {
                self.check_copies_read()?;
            }
            let legs: Vec<AttachedId> = parts.iter().map(|part| part.at).collect();
            self.lock_copies(&legs).await?;
        }
        let segment = self.state.phase == Phase::Segment;
        let columns = formatted(&run.described.columns, run.formats);
        // PostgreSQL tells them when the rows are there.
        let mut untold = (run.describes && !columns.is_empty()).then(|| columns.clone());
        let copies = *merge == Merge::First && parts.len() > 1;
        let copies = copies.then(|| self.copies_written());
        let merging = merging_parts(&self.topology, merge, parts.len(), columns, run)?;
        let mut merging = merging.of_copies(copies);
        let mut unlike = None;
        let mut parsed = vec![false; parts.len()];
        let mut ended = vec![false; parts.len()];
        let shards: Vec<ShardId> = parts.iter().map(|p| self.servers[p.at].shard).collect();
        let batches = self
            .topology
            .batches_of(&shards, run.turns.order, *merge == Merge::First);
        let in_turn = batches.len() > 1;
        // Rows of shards that are asked later may come before those that are there.
        let keeps = in_turn && !order.is_empty() && !run.described.columns.is_empty();
        let most = self.topology.config.limits.held_rows.bytes();
        let mut kept = WaitingRows::new(keeps, parts.len(), most);
        for batch in batches {
            for &leg in &batch {
                let part = &parts[leg];
                let inbox = &mut self.servers[part.at].inbox;
                inbox.notices = Notices::of_same(leg);
                inbox.wrote = true;
                inbox.may_write = true;
                let text = (part.sql, part.arrays);
                self.send_statement(part.at, work, text, run, run.formats, false);
            }
            let one_by_one = order.iter().filter(|_| !in_turn).map(|leg| (*leg, true));
            for (leg, one) in one_by_one.chain(batch.iter().map(|leg| (*leg, false))) {
                if ended[leg] || (one && (merging.is_wrong() || run.described.columns.is_empty())) {
                    continue;
                }
                self.each_message(parts[leg].at, |frame, reply, client| {
                    parsed[leg] |= matches!(reply.event, Event::Parsed(_));
                    if reply.event == Event::Failed && !parsed[leg] {
                        unlike.get_or_insert_with(|| frame.body().to_vec());
                        ended[leg] = segment;
                        return segment;
                    }
                    if kept.takes(leg, frame) {
                        return false;
                    }
                    let shown = frame.tag() == tag::DATA_ROW || reply.event == Event::Completed;
                    if let Some(columns) = untold.take_if(|_| shown) {
                        client.with_output(|out| backend::put_columns(out, &columns));
                    }
                    let done = merging.take(leg, frame, reply.event, client);
                    let failed = reply.event == Event::Failed;
                    let closed = failed || frame.tag() == tag::CLOSE_COMPLETE;
                    ended[leg] = done || (segment && closed);
                    ended[leg] || (one && frame.tag() == tag::DATA_ROW)
                })
                .await?;
                self.stop_if_undone(&merging)?;
            }
            if merging.is_wrong() || unlike.is_some() {
                break;
            }
            kept.check()?;
        }
        kept.pass(order, &mut merging, &mut self.client);
        self.servers.active = None;
        if let Some(body) = unlike {
            return Err(self.differs(work, &body));
        }
        self.finish_parts(work, merging, run)
    }

    /// Writes the end of the answer of all parts.
    fn finish_parts(
        &mut self,
        work: &GatherWork,
        mut merging: Merging,
        run: &Run<'_>,
    ) -> Result<Vec<u8>, Halt> {
        if let Some(body) = &mut merging.error {
            *body = without_position(body);
        }
        let rows = merging.held();
        let command = work.told(self.finish_many(merging)?);
        if let Some(held) = run.held {
            held.replace(Some((rows, command.clone())));
        }
        Ok(command)
    }
}

/// Whether two statements give the same columns.
pub(super) fn same_columns(a: &[Column], b: &[Column]) -> bool {
    let same = |(a, b): (&Column, &Column)| {
        a.name == b.name && a.type_oid == b.type_oid && a.modifier == b.modifier
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}

/// Columns in the formats that Bind asked for: none is text, one is for all.
pub(super) fn formatted(columns: &[Column], formats: &[i16]) -> Vec<Column> {
    let format = |at: usize| match formats {
        [] => 0,
        [one] => *one,
        each => each.get(at).copied().unwrap_or(0),
    };
    let columns = columns.iter().enumerate();
    columns
        .map(|(at, column)| Column {
            format: format(at),
            ..column.clone()
        })
        .collect()
}

impl Session {
    /// What the client is told when a server takes its text and does not take ours.
    pub(super) fn differs(&mut self, work: &GatherWork, body: &[u8]) -> Halt {
        if !is_about_text(body) {
            return self.failed_with(&without_position(body));
        }
        let said = Fields::read(body).message.unwrap_or_default();
        wrong_statement(&work.plan, &String::from_utf8_lossy(said)).into()
    }
}

/// Whether an error of Parse says something about the text: not if the server was told to stop, has no room, or met
/// another transaction.
///
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
pub(super) fn is_about_text(body: &[u8]) -> bool {
    const OF_SERVER: [&[u8]; 6] = [b"40", b"53", b"55", b"57", b"58", b"XX"];
    let code = Fields::read(body).code.unwrap_or_default();
    !OF_SERVER.iter().any(|class| code.starts_with(class))
}

/// What makes one answer of so many parts.
fn merging_parts(
    topology: &Topology,
    merge: &Merge,
    parts: usize,
    columns: Vec<Column>,
    run: &Run<'_>,
) -> Result<Merging, Halt> {
    let mut merging = Merging::new(merge, parts);
    if !columns.is_empty() {
        merging = merging.with_columns(columns)?;
    }
    if run.held.is_some() {
        merging = merging.holding(topology.config.limits.held_rows.bytes());
    }
    Ok(merging)
}

#[cfg(test)]
mod tests {
    use super::is_about_text;

    #[test]
    fn a_server_that_stops_says_nothing_about_the_text() {
        for code in [
            "57014", "57P01", "53200", "40P01", "55P03", "58030", "XX000",
        ] {
            assert!(!is_about_text(format!("C{code}\0\0").as_bytes()), "{code}");
        }
        for code in ["42703", "42P01", "22P02", "0A000", "54001"] {
            assert!(is_about_text(format!("C{code}\0\0").as_bytes()), "{code}");
        }
    }
}
