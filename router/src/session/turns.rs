//! In which order a statement over several shards takes its locks, and what becomes of it where it and others wait for
//! each other ([ADR 33](../../../docs/adr/0033-locks-over-shards-are-taken-at-once-and-given-up.md)).
//!
//! One PostgreSQL takes the locks of a statement in one order, so that two of the same kind never wait for each other. As
//! long as nothing speaks against it, all shards are asked at once here, and where a circle comes of it, one of those who
//! can undo their statement without the client's noticing does so ([`Yielding`](crate::core::Yielding)), and runs it
//! again, one shard after the other. The tables are remembered for a while ([`Contention`](crate::contention::Contention)):
//! what names them goes in that order at once. So does what cannot be undone. Within a block a savepoint stands on each
//! server before a statement does something there, also on those that it comes to know late.

use super::dispatch::Many;
use super::extended::put_quietly;
use super::inbox::Saved;
use super::repeat::RequestMarks;
use super::servers::AttachedId;
use super::state::{Block, State};
use super::transact::Transaction;
use super::{Attached, Halt, Servers, Session, working_by};
use crate::commit::steps::Reply;
pub(super) use crate::contention::{Order, Pace};
use crate::core::Attempt;
use crate::statements::names::Prepared;
use crate::statements::step::{Pins, Step};
use crate::topology::Topology;
use mothership_catalog::behind::names;
use mothership_catalog::outside::reaches;
use mothership_plan::Merge;
use mothership_proto::ledger::Audience;
use mothership_proto::report::{Fields, sqlstate};
use mothership_shardmap::ShardId;
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// Who waits for so long asks to be looked at; then it waits twice as long before it asks again.
const PATIENCE: Duration = Duration::from_millis(8);
/// And at most, as long as what it waits for may soon end.
const LONGER: Duration = Duration::from_millis(32);
/// After so long it does not seem so.
const LONG: Duration = Duration::from_secs(1);
/// And then at most.
const LONGEST: Duration = Duration::from_millis(128);
/// A statement is undone and run again so often; after that it is one of those who wait.
const MAX_ATTEMPTS: u8 = 100;
/// One that changes definitions may have done much, such as an index: a second of it counts as so many attempts.
const ATTEMPTS_IN_A_SECOND: u64 = 8;
/// It lets others go first for so long at most before it comes again. Who has locked its tables on one shard may have
/// something to do on another, which it would hold up.
const LONGEST_PAUSE: Duration = Duration::from_millis(64);
/// So long at most a transaction that begins waits for it then.
const LONGEST_DRAIN: Duration = Duration::from_millis(500);
/// More of an answer is not held back.
pub(super) const HELD: usize = 256 * 1024;

/// What of a statement is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ground {
    /// Its transaction, of which it is all.
    Transaction,
    /// What came after a savepoint of the router's own.
    Savepoint,
}

/// Whether an attempt has met others and is undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AttemptOutcome {
    #[default]
    Nobody,
    /// The watch for deadlocks has asked it to give way, or a server has found a deadlock.
    Others,
}

/// The attempts of a statement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turns {
    /// How the next one goes.
    pub order: Order,
    /// So often it may be undone.
    left: u8,
    /// It changes definitions: of two who wait for each other the other one is undone.
    changes: bool,
    ground: Ground,
}

/// The savepoint of the router's own, before a statement within a block.
const SAVE: &str = "SAVEPOINT mothership_step";
/// The same in place of the one of the statement before, which still stands.
const SAVE_ANEW: &str = "RELEASE SAVEPOINT mothership_step; SAVEPOINT mothership_step";
const GO_BACK: &str = "ROLLBACK TO SAVEPOINT mothership_step";

/// So many of these savepoints stand in one another behind a savepoint of the client.
///
/// Whoever waits for a row that was locked behind a savepoint waits for the whole transaction once that savepoint is
/// released (`XactLockTableWait` in PostgreSQL's lmgr.c), also if the client goes back to a savepoint of its own. Without
/// the router there would be no such savepoint. Servers get slower with many that stand.
const MOST_NESTED: u8 = 32;

/// The savepoint of the router's own that stands on a server.
#[derive(Clone, Copy, Debug)]
pub struct StandingSavepoint {
    /// The number of events of the transaction when it was set.
    pub events: usize,
    /// So many others of the router's own stand around it, behind the same savepoint of the client.
    nested: u8,
}

impl StandingSavepoint {
    /// The next one, and how it is set where `before` stands. `behind` a savepoint of the client?
    fn after(before: Option<Self>, events: usize, behind: bool) -> (Self, &'static str) {
        let nested = |nested| Self { events, nested };
        match before.filter(|before| before.events == events) {
            Some(before) if behind && before.nested < MOST_NESTED => {
                (nested(before.nested + 1), SAVE)
            }
            Some(before) => (nested(before.nested), SAVE_ANEW),
            None => (nested(0), SAVE),
        }
    }
}

/// "moth" and "copy" as numbers: who writes reference tables holds this lock on every server until its transaction ends. No
/// row comes of it, so that it is not taken for the answer to a question.
const LOCK_COPIES: &str =
    "SELECT WHERE pg_catalog.pg_advisory_xact_lock(1836020840, 1668247673) IS NULL";

impl Turns {
    /// Of what takes no locks on several shards.
    pub const ONE: Turns = Turns {
        order: Order::AT_ONCE,
        left: 0,
        changes: false,
        ground: Ground::Transaction,
    };

    /// Whether a savepoint must stand on each server before an attempt does something there.
    pub fn saves(self) -> bool {
        self.ground == Ground::Savepoint && self.can_undo()
    }

    /// The same where only a whole transaction can be undone.
    pub fn of_transactions(self) -> Turns {
        match self.ground {
            Ground::Transaction => self,
            Ground::Savepoint => self.without_undoing(),
        }
    }

    /// So often the statement was undone.
    fn undone(self) -> u8 {
        let undone = MAX_ATTEMPTS.saturating_sub(self.left);
        undone + u8::from(self.changes) * MAX_ATTEMPTS
    }

    /// Whether an attempt may be undone.
    pub fn can_undo(self) -> bool {
        self.left > 0
    }

    /// The same where it may not.
    pub fn without_undoing(self) -> Turns {
        match self.can_undo() {
            true => Turns {
                order: Order::IN_TURN,
                left: 0,
                ..self
            },
            false => self,
        }
    }
}

impl Servers {
    /// A statement begins, of which no savepoint stands.
    pub(super) fn begin_saving(&mut self) {
        for attached in self.iter_mut() {
            attached.inbox.saved_now = None;
        }
    }

    /// Takes the lock of whoever writes reference tables on a server, ahead of the statement, in the same packet. The home
    /// shard's is the first one, and the others are sent when the home shard has answered.
    ///
    /// A writer reads each copy by a snapshot of its own. Without the lock it could see a transaction that is committed
    /// on one server and still prepared on another: it would find a row on one copy only, and the copies would differ for
    /// good. A prepared transaction keeps the lock until its end, so that whoever gets it sees all before it everywhere.
    pub(super) fn lock_copy(&mut self, at: AttachedId) {
        let Attached { lease, inbox, .. } = &mut self[at];
        if inbox.in_segment {
            inbox.locks_ahead = true;
            put_quietly(lease, LOCK_COPIES.as_bytes());
        } else {
            inbox.ahead += 1;
            lease.query(LOCK_COPIES.as_bytes(), Audience::Router);
        }
    }

    /// Whether a savepoint can go ahead of the statement that begins now: in the middle of a pipeline it would have to be
    /// waited for.
    fn can_be_saved(&self, state: &State) -> bool {
        let open = matches!(state.block, Block::Begun | Block::Open);
        open && !self.iter().any(|s| s.inbox.in_segment)
    }

    /// Sets the statement's savepoint on a server that is attached, if it does not stand there. It goes ahead of what is
    /// sent next.
    pub(super) fn save_on(&mut self, state: &State, at: AttachedId) {
        let events = state.history.events().len();
        let Attached { lease, inbox, .. } = &mut self[at];
        if inbox.saved_now.is_some() {
            return;
        }
        inbox.saved_now = Some(Saved {
            marked: inbox.mark.is_some(),
        });
        let behind = state.history.last_savepoint().is_some();
        let (saved, sql) = StandingSavepoint::after(inbox.saved, events, behind);
        inbox.saved = Some(saved);
        inbox.ahead += 1;
        lease.query(sql.as_bytes(), Audience::Router);
    }

    /// Sets the statement's savepoint on the servers of these shards, which are attached.
    pub(super) fn save(&mut self, state: &State, many: &Many) {
        for (shard, _) in &many.legs {
            if let Ok(at) = self.place_of(*shard) {
                self.save_on(state, at);
            }
        }
    }
}

impl Topology {
    /// The legs of a statement in the order of locks, those of one batch at once. Where all do the same with copies of the
    /// same, the home shard's is the first, and whoever has that has them all.
    pub(super) fn batches(&self, many: &Many, order: Order) -> Vec<Vec<usize>> {
        let shards: Vec<ShardId> = many.legs.iter().map(|(shard, _)| *shard).collect();
        let has_lock = (many.locks_copies() || many.tables) && !many.copy_in;
        // What the home shard refuses is told in its words.
        let speaks_first = many.tells_others_apart();
        if (has_lock || speaks_first) && order.is_at_once() {
            return self.batches_of(&shards, Order::IN_TURN, many.merge == Merge::First);
        }
        let order = Order {
            first: order.first.filter(|_| !has_lock),
            ..order
        };
        self.batches_of(&shards, order, many.merge == Merge::First)
    }

    /// The same of legs on these shards, which may all do the same with `copies`.
    pub(super) fn batches_of(
        &self,
        shards: &[ShardId],
        order: Order,
        copies: bool,
    ) -> Vec<Vec<usize>> {
        let mut legs: Vec<usize> = (0..shards.len()).collect();
        if order.is_at_once() || legs.is_empty() {
            return vec![legs];
        }
        let first = order.first.filter(|_| !copies);
        legs.sort_by_key(|leg| self.rank(shards[*leg], first));
        if copies || order.pace == Pace::Lead {
            let others = legs.split_off(1);
            return vec![legs, others];
        }
        legs.into_iter().map(|leg| vec![leg]).collect()
    }

    /// The place of a shard in an order of locks with this first shard: after that the home shard, then all others.
    pub(super) fn rank(&self, shard: ShardId, first: Option<ShardId>) -> (bool, bool, ShardId) {
        (first != Some(shard), shard != self.home, shard)
    }
}

impl Transaction {
    /// Whether the statement that begins now is all of its transaction, which is the router's own.
    pub(super) fn is_all(&self, servers: &Servers, state: &State) -> bool {
        let begun = servers.iter().any(|s| s.inbox.in_block);
        let in_segment = servers.iter().any(|s| s.inbox.in_segment);
        match state.block {
            Block::None => !in_segment,
            Block::Begun => self.implicit && !begun && !in_segment,
            Block::Open | Block::Refused | Block::Failed | Block::Lost => false,
        }
    }
}

impl Session {
    /// How a statement of these steps goes to its shards.
    pub(super) fn turns(&self, sql: &[u8], steps: &[Step], many: &Many) -> Turns {
        let locks = steps.is_empty() || steps.iter().any(|step| step.locks);
        let asks_all = many.copy_in || many.is_step_by_step() || many.password;
        let alone = many.legs.len() < 2 && !many.locks_alone();
        if alone || !many.writes || !locks || asks_all {
            return Turns::ONE;
        }
        self.turns_of(sql, steps)
    }

    /// The same of a statement that takes locks on several shards.
    pub(super) fn turns_of(&self, sql: &[u8], steps: &[Step]) -> Turns {
        let ground = match self.transaction.is_all(&self.servers, &self.state) {
            true => Ground::Transaction,
            false => Ground::Savepoint,
        };
        let undone = self.can_be_undone(sql, steps)
            && (ground == Ground::Transaction || self.servers.can_be_saved(&self.state));
        let turns = Turns {
            order: Order::AT_ONCE,
            left: MAX_ATTEMPTS,
            changes: steps.iter().any(|step| step.changes_schema),
            ground,
        };
        match undone {
            false => turns.without_undoing(),
            true => {
                let order = self.order_among_others(sql);
                if turns.changes {
                    // It may hold a table on one shard and wait for it on another: others are to come in its order.
                    self.note_contention(sql, Order::IN_TURN);
                }
                Turns { order, ..turns }
            }
        }
    }

    /// The same on several servers, that of the home shard first.
    pub(super) async fn lock_copies(&mut self, legs: &[AttachedId]) -> Result<(), Halt> {
        let mut legs = legs.to_vec();
        legs.sort_by_key(|at| self.topology.rank(self.servers[*at].shard, None));
        for at in legs {
            self.tell(at, LOCK_COPIES).await?;
        }
        Ok(())
    }

    /// Whether nothing of it would last if its transaction were undone.
    pub(super) fn can_be_undone(&self, sql: &[u8], steps: &[Step]) -> bool {
        let plain = |step: &Step| {
            step.pins == Pins::NONE
                && !step.moves_sequence
                && !step.calls.iter().any(|call| reaches(call))
        };
        let Some(model) = &self.known.model else {
            return false;
        };
        let strings = self.standard_strings();
        let reached = || match std::str::from_utf8(sql) {
            Ok(sql) => model.outside().is_reached_by(sql, strings),
            Err(_) => true,
        };
        !steps.is_empty() && steps.iter().all(plain) && self.state.pins.is_empty() && !reached()
    }

    /// How it goes to its shards by what has happened lately on the tables that it names.
    pub(super) fn order_among_others(&self, sql: &[u8]) -> Order {
        let database = &self.entry.who.names.database;
        let hot = self.core.shared.contention.of(database, Instant::now());
        if hot.is_empty() {
            return Order::AT_ONCE;
        }
        let Ok(sql) = std::str::from_utf8(sql) else {
            return Order::IN_TURN;
        };
        let mut order = Order::AT_ONCE;
        names(sql, self.standard_strings(), |named| {
            let hot = hot
                .iter()
                .filter(|hot| named.name.is_none_or(|name| *hot.0 == *name));
            order = hot.map(|hot| hot.1).fold(order, Order::and);
        });
        order
    }

    /// Others were met by a statement with this text: what names its tables goes to its shards like this for a while.
    fn note_contention(&self, sql: &[u8], order: Order) {
        let tables = self.tables_named(sql);
        let tables = tables.iter().map(String::as_str);
        let database = &self.entry.who.names.database;
        let contention = &self.core.shared.contention;
        contention.note(database, tables, order, Instant::now());
    }

    /// The names in a text that tables have, in whatever schema.
    fn tables_named(&self, sql: &[u8]) -> Vec<String> {
        let (Ok(sql), Some(model)) = (std::str::from_utf8(sql), &self.known.model) else {
            return Vec::new();
        };
        let mut named = BTreeSet::new();
        names(sql, self.standard_strings(), |name| {
            named.extend(name.name.map(str::to_owned));
        });
        let tables = model.catalog().relations.values();
        let tables = tables.map(|relation| &relation.name.name);
        let tables: BTreeSet<&String> = tables.filter(|name| named.contains(*name)).collect();
        tables.into_iter().cloned().collect()
    }

    /// A statement that is the first of its transaction to go to a server waits for changes of definitions that want its
    /// tables to themselves and have given way to others, but not for long.
    pub(super) async fn let_changes_go(&mut self, statement: &Prepared) -> Result<(), Halt> {
        let drains = Arc::clone(&self.core.shared.drains);
        let has_begun = |s: &Attached| s.inbox.in_block || s.inbox.in_segment;
        if !drains.is_any()
            || self.transaction.changing.is_some()
            || self.servers.iter().any(has_begun)
        {
            return Ok(());
        }
        let database = Arc::clone(&self.entry.who.names.database);
        let tables = self.tables_named(&statement.sql);
        let ended = drains.wait(&database, &tables);
        let waited = tokio::time::timeout(LONGEST_DRAIN, ended);
        let _in_vain = self.while_client_waits(waited).await?;
        Ok(())
    }

    /// A statement begins that may need several attempts. A cancel that comes from now on ends it.
    pub(super) fn begin_attempts(&self) {
        self.entry.cancelled.set(false);
    }

    /// An attempt begins. What is told of it is held back while it can be undone.
    pub(super) fn begin_attempt(&mut self, turns: Turns) {
        self.request.met = AttemptOutcome::Nobody;
        if turns.left > 0 {
            self.client.hold();
            self.entry.yielding.begin(|number| Attempt {
                number,
                began: Instant::now(),
                undone: turns.undone(),
                is_part: turns.ground == Ground::Savepoint,
                at_once: turns.order.is_at_once(),
            });
        }
    }

    /// An attempt has ended; whether it was undone and the next one is to begin.
    ///
    /// # Errors
    /// The client waits no longer.
    pub(super) async fn end_attempt(
        &mut self,
        turns: &mut Turns,
        sql: &[u8],
    ) -> Result<bool, Halt> {
        self.entry.yielding.end();
        if std::mem::take(&mut self.request.met) == AttemptOutcome::Nobody {
            if !self.request.marks.has(RequestMarks::HELD) {
                self.client.release();
            }
            return Ok(false);
        }
        self.client.discard();
        let undone = self.undo_attempt(turns.ground).await;
        let next = turns.order.after_meeting(self.entry.yielding.met());
        self.note_contention(sql, turns.order.lesson(next));
        turns.order = next;
        self.state.tally.repeats();
        if let Some(report) = self.must_go() {
            return Err(super::End::Told(report).into());
        }
        undone?;
        if self.entry.cancelled.get() {
            return Err(super::attach::canceled_report().into());
        }
        let took = match turns.changes {
            true => self.entry.yielding.elapsed().as_secs() * ATTEMPTS_IN_A_SECOND,
            false => 0,
        };
        let spent = u8::try_from(took + 1).unwrap_or(MAX_ATTEMPTS);
        turns.left = turns.left.saturating_sub(spent);
        if turns.changes {
            self.let_others_go(*turns, sql).await?;
        }
        Ok(true)
    }

    /// Pauses before the next attempt of a change of definitions, each time for longer.
    async fn let_others_go(&mut self, turns: Turns, sql: &[u8]) -> Result<(), Halt> {
        let tables = self.tables_named(sql);
        if let Some(changing) = &mut self.transaction.changing {
            let shared = &self.core.shared;
            let database = &self.entry.who.names.database;
            changing
                .drain
                .get_or_insert_with(|| shared.drains.begin(database, tables));
        }
        let attempts = u32::from(MAX_ATTEMPTS - turns.left);
        let pause = Duration::from_millis(1 << attempts.min(6)).min(LONGEST_PAUSE);
        self.while_client_waits(tokio::time::sleep(pause)).await
    }

    /// Whether the answer that has come so far can still be taken back.
    pub(super) fn can_give_way(&self) -> bool {
        self.entry.yielding.attempt().is_some() && self.client.held().is_some()
    }

    /// Whether a server's error means that this statement and others waited for each other, and nobody need be told.
    ///
    /// A server finds a deadlock after a second in which the watch found nobody whose undoing ends it. A whole transaction
    /// can be undone all the same. Within a block an earlier statement has what the others wait for: the next attempt would
    /// end so as well, a second later.
    pub(super) fn gives_way_to(&mut self, error: &[u8]) -> bool {
        let deadlock = Fields::read(error).code == Some(sqlstate::DEADLOCK_DETECTED.as_bytes());
        let attempt = self.entry.yielding.attempt();
        let is_all = attempt.is_some_and(|attempt| !attempt.is_part);
        let gives = deadlock && is_all && self.can_give_way();
        if gives {
            self.request.met = AttemptOutcome::Others;
        }
        gives
    }

    /// So much of the answer is held back that it is not held any longer: now the client sees it.
    pub(super) fn show_held(&mut self) {
        if self.client.held().is_some_and(|held| held > HELD) {
            self.entry.yielding.end();
            self.client.release();
        }
    }

    /// Undoes all that the attempt did, on every server. They are kept.
    async fn undo_attempt(&mut self, ground: Ground) -> Result<(), Halt> {
        self.transaction.hear_said(&mut self.servers, &self.state);
        let busy = |s: &&Attached| !s.lease.ledger().is_empty() && !s.lease.ledger().is_skipping();
        let busy = self.servers.iter().filter(busy);
        let working: Vec<_> = busy.map(|s| working_by(&s.lease)).collect();
        if !working.is_empty() {
            // A server has its cancel when the connection that brought it is closed: what is sent after that is safe.
            let (said, delivered) = oneshot::channel::<()>();
            crate::core::cancel_each(&self.core, &working, Rc::new(said));
            let _ = delivered.await;
        }
        for at in self.servers.ids() {
            self.hear_out_attempt(at).await;
            let lease = &mut self.servers[at].lease;
            if lease.cancel.is_astray() {
                // It could meet the next attempt.
                lease.doubt();
            }
        }
        self.servers.active = None;
        self.state.skipping = false;
        self.entry.seen.deadlock.take();
        match ground {
            Ground::Transaction => {
                self.rollback_all().await;
                // What the next attempt begins is still the transaction of this statement.
                self.state.block = Block::Begun;
                self.state.settings.begin();
                Ok(())
            }
            Ground::Savepoint => self.go_back().await,
        }
    }

    /// Goes back to the savepoints before the statement.
    async fn go_back(&mut self) -> Result<(), Halt> {
        for at in self.servers.ids() {
            let Some(saved) = self.servers[at].inbox.saved_now else {
                continue;
            };
            self.private_query(at, GO_BACK).await;
            if !saved.marked {
                // A mark that was taken behind the savepoint is gone.
                self.servers[at].inbox.mark = None;
            }
        }
        if self.servers.iter().any(|s| s.lease.is_doubtful()) {
            // Of what was done before on that server nothing is left.
            self.drop_doubtful();
            self.rollback_all().await;
            let detail = "The statement waits for others, and they for it, and a server is lost.";
            return Err(super::attach::deadlock_report(detail.into()).into());
        }
        Ok(())
    }

    /// Takes everything that a server still owes, and throws it away.
    pub(super) async fn hear_out_attempt(&mut self, at: AttachedId) -> bool {
        let attached = &mut self.servers[at];
        if attached.inbox.in_segment {
            attached.lease.sync(Audience::Router);
        }
        let limit = self.topology.config.pool.reset_timeout;
        let heard = async {
            while !self.servers[at].lease.ledger().is_empty() {
                if matches!(self.private_reply(at).await.0, Reply::Lost) {
                    return false;
                }
            }
            true
        };
        let heard = tokio::time::timeout(limit, heard).await.unwrap_or(false);
        let attached = &mut self.servers[at];
        if !heard {
            attached.lease.doubt();
        }
        attached.inbox.in_segment = false;
        attached.inbox.expect_nothing();
        heard
    }
}

/// Does something that may wait for others. If nothing comes for long, somebody looks whether they wait for each other.
pub(super) async fn patiently<T>(stuck: &Notify, work: impl Future<Output = T>) -> T {
    use tokio::time::{Instant, sleep};
    let mut work = pin!(work);
    let mut patience = PATIENCE;
    let mut timer = None;
    let mut heard = Instant::now();
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        let now = Instant::now();
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        if !timer.is_elapsed() {
            // Something has come: a wait that begins now is another one. To set the timer costs more than to look at the
            // clock, so that a short one is set when it rings.
            heard = now;
            if patience > PATIENCE {
                patience = PATIENCE;
                timer.as_mut().reset(now + patience);
            }
        }
        while timer.as_mut().poll(cx).is_ready() {
            let mut due = heard + patience;
            if due <= now {
                stuck.notify_one();
                let most = match now - heard < LONG {
                    true => LONGER,
                    false => LONGEST,
                };
                patience = (patience * 2).min(most);
                due = now + patience;
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    })
    .await
}
