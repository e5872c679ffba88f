//! What a session knows, and how each message from a server changes it.
//!
//! Everything here is sync and decides; nothing here waits. [`State::on_server`]
//! takes one judged message and writes to the client's output what the client is
//! to see. The socket side is in `serve.rs`.

use super::names::{Names, Prepared};
use super::settings::{Change, SessionSettings};
use super::step::{Defines, Kind, Pins, Step};
use crate::metrics::tally::Tally;
use crate::sql::effect::DiscardWhat;
use mothership_pool::connection::{Flow, remember};
use mothership_pool::health::{CommitClock, Moment, Scope};
use mothership_pool::wire::Wire;
use mothership_proto::backend::{self, TxStatus, tag};
use mothership_proto::frame::Frame;
use mothership_proto::ledger::{Audience, Event, Step as Reply};
use mothership_proto::report::{Fields, Severity};
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::rc::Rc;
use std::sync::Arc;

/// Where the conversation with the client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Between requests.
    Idle,
    /// A simple query or function call is being answered.
    Query,
    /// Extended messages came, Sync did not yet.
    Segment,
    /// Sync was sent on and is not answered.
    Syncing,
    /// The client sends COPY data.
    CopyIn {
        /// It was begun by Execute, so that a Sync ends it.
        extended: bool,
    },
}

/// The transaction block as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// None.
    None,
    /// BEGIN was answered; no server knows of it yet.
    Begun,
    /// Servers have it open.
    Open,
    /// It failed on its servers, which still hold it.
    Failed,
    /// It failed and no server holds it: the connection was lost, or it never had one.
    Lost,
}

impl Block {
    /// What ReadyForQuery says.
    pub fn status(&self) -> TxStatus {
        match self {
            Self::None => TxStatus::Idle,
            Self::Begun | Self::Open => TxStatus::Open,
            Self::Failed | Self::Lost => TxStatus::Failed,
        }
    }
}

/// What is to be done when a statement has ended well.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Nothing.
    None,
    /// What its [`Step`] says.
    Of(Rc<Prepared>, usize),
    /// A statement was made by PREPARE under this name.
    Defined(Box<[u8]>, Rc<Prepared>),
}

/// What arrived from one server since the session looked last.
#[derive(Debug, Default)]
pub struct Inbox {
    /// The settings that the connection carries.
    pub carried: SessionSettings,
    /// Outcomes of the statements under way, in order.
    pub outcomes: VecDeque<Outcome>,
    /// Statements that Parse has confirmed.
    pub parsed: Vec<u64>,
    /// Statements sent to be prepared and not confirmed.
    pub preparing: Vec<u64>,
    /// Statements sent to be closed and not confirmed, least recent first.
    pub closing: VecDeque<u64>,
    /// Describes under way, in order; a portal's has no statement.
    pub describing: VecDeque<Option<Rc<Prepared>>>,
    /// A statement is described otherwise than before: a table was changed.
    pub changed: bool,
    /// The digest of the description that is being read.
    digest: Digest,
    /// An error of the router's own request.
    pub router_error: Option<Vec<u8>>,
    /// The router's own request is private: its errors are not the client's.
    pub private: bool,
    /// The server's prepared statements are gone.
    pub discarded: bool,
    /// The server said that it ends the connection.
    pub fatal: bool,
    /// Something of the statement under way was passed to the client.
    pub passed: bool,
    /// A statement under way may write, so that its loss leaves the outcome unknown.
    pub may_write: bool,
    /// A COMMIT is under way.
    pub committing: bool,
    /// BEGIN went ahead of the client's statement and is not answered.
    pub beginning: bool,
    /// The transaction block is open here.
    pub in_block: bool,
    /// Something may have been written in it.
    pub wrote: bool,
    /// The session must stay on this server.
    pub pinned: bool,
    /// Extended messages were sent since the last Sync.
    pub in_segment: bool,
    /// The shard of the server.
    pub shard: usize,
    /// The first of several that run one statement: its notices are shown.
    pub first_leg: bool,
    /// The server refused a write because it is read-only (25006).
    pub read_only: bool,
    /// Counts the acknowledged writes of the shard.
    pub clock: Option<Arc<CommitClock>>,
}

/// The state of one session.
pub struct State {
    /// Where the conversation stands.
    pub phase: Phase,
    /// An extended message failed: everything up to Sync is ignored.
    pub skipping: bool,
    /// The transaction block.
    pub block: Block,
    /// What followed BEGIN, for shards that join later.
    pub modes: String,
    /// SET TRANSACTION and SET LOCAL since, for the same, each with the number of
    /// savepoints that were set before it.
    pub set_transaction: Vec<(usize, String)>,
    /// Savepoints that are set, in order, for the same.
    pub savepoints: Vec<String>,
    /// SET LOCAL search_path, until the transaction ends.
    pub local_search_path: Option<Vec<String>>,
    /// Cursors of this transaction, and the shards that hold them.
    pub cursors: HashMap<String, usize>,
    /// The settings.
    pub settings: SessionSettings,
    /// The prepared statements.
    pub names: Names,
    /// The portals bound since the transaction began.
    pub portals: HashMap<Box<[u8]>, Portal>,
    /// Why the session stays on its server.
    pub pins: Pins,
    /// What the client was told by ParameterStatus.
    pub told: Vec<(Vec<u8>, Vec<u8>)>,
    /// Definitions changed: raised for whoever keeps count.
    pub schema_changed: bool,
    /// They changed in the transaction that is open: nobody else sees it before its end.
    pub schema_changed_in_block: bool,
    /// What was defined in it.
    pub defined_in_block: Defines,
    /// What is counted of the session.
    pub tally: Tally,
    /// The transaction was lost between requests, and the client does not know yet.
    pub untold: Cell<bool>,
    /// The last write on each shard that the client was told of.
    pub acknowledged: HashMap<usize, Moment>,
    /// Something failed since the last ReadyForQuery.
    failed: bool,
}

/// A portal as the router knows it.
#[derive(Clone)]
pub struct Portal {
    /// What it runs.
    pub statement: Rc<Prepared>,
    /// Who runs it.
    pub place: Place,
}

/// Who runs a portal.
#[derive(Clone)]
pub enum Place {
    /// No server has it: the router runs it itself.
    Here,
    /// The server of a shard.
    Shard(usize),
    /// Several.
    Many(Rc<super::extended::ManyPortal>),
    /// The router: EXPLAIN (ROUTE).
    Explained(Rc<super::explain::Explained>),
}

/// What a statement that ended well does to a list of settings.
fn follow(settings: &mut SessionSettings, kind: &Kind, command: &[u8]) {
    match kind {
        Kind::Begin(_) => settings.begin(),
        Kind::PrepareTransaction => settings.commit(),
        // COMMIT of a failed transaction says ROLLBACK.
        Kind::Commit { .. } | Kind::Rollback { .. } => match command {
            b"COMMIT" => settings.commit(),
            _ => settings.rollback(),
        },
        Kind::Savepoint(name) => settings.savepoint(name),
        Kind::RollbackTo(name) => settings.rollback_to(name),
        Kind::Release(name) => settings.release(name),
        Kind::Settings(changes) => {
            settings.begin();
            changes.iter().for_each(|change| settings.apply(change));
        }
        Kind::Discard(DiscardWhat::All) => settings.apply(&Change::DiscardAll),
        _ => {}
    }
}

impl Inbox {
    /// The connection followed a statement.
    pub fn follow(&mut self, kind: &Kind, command: &[u8]) {
        follow(&mut self.carried, kind, command);
    }

    /// For a connection to `shard` that carries these settings.
    pub fn new(shard: usize, carried: SessionSettings) -> Self {
        Self {
            shard,
            carried,
            ..Self::default()
        }
    }
}

impl State {
    /// The state of a new session.
    pub fn new(settings: SessionSettings, told: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        Self {
            phase: Phase::Idle,
            skipping: false,
            block: Block::None,
            modes: String::new(),
            set_transaction: Vec::new(),
            savepoints: Vec::new(),
            local_search_path: None,
            cursors: HashMap::new(),
            settings,
            names: Names::default(),
            portals: HashMap::new(),
            pins: Pins::NONE,
            told,
            schema_changed: false,
            schema_changed_in_block: false,
            defined_in_block: Defines::Nothing,
            tally: Tally::default(),
            untold: Cell::new(false),
            acknowledged: HashMap::new(),
            failed: false,
        }
    }

    /// Takes one message of a server.
    pub fn on_server(
        &mut self,
        frame: Frame<'_>,
        reply: Reply,
        inbox: &mut Inbox,
        client: &mut Wire,
    ) -> Flow {
        let for_client = reply.to == Audience::Client;
        if for_client {
            self.tally.gave(frame.bytes.len());
        }
        match reply.event {
            Event::Part => {
                if frame.tag() == tag::PARAMETER_DESCRIPTION {
                    inbox.digest.add(frame);
                }
                if for_client {
                    inbox.passed = true;
                    client.send(frame.bytes);
                }
                Flow::Continue
            }
            Event::Completed => {
                if for_client {
                    self.completed(frame, inbox);
                    client.send(frame.bytes);
                }
                Flow::Continue
            }
            Event::Answered => {
                self.answered(frame, inbox);
                if for_client {
                    client.send(frame.bytes);
                }
                Flow::Continue
            }
            Event::Parsed(id) => {
                self.tally.server_parsed();
                inbox.parsed.push(id);
                inbox.preparing.retain(|&p| p != id);
                if for_client {
                    self.names.confirm();
                    client.send(frame.bytes);
                }
                Flow::Continue
            }
            Event::Suspended => {
                // A client that wants one row of set_config or of a lock gets no more,
                // but what the statement did is done.
                self.took_effect(b"", inbox);
                client.send(frame.bytes);
                Flow::Continue
            }
            Event::Ready(status) => {
                if for_client {
                    self.ready(status, inbox);
                    client.send(frame.bytes);
                    return Flow::Stop;
                }
                inbox.beginning = false;
                Flow::Continue
            }
            Event::Own => {
                super::serve::confirm(frame.bytes, self);
                client.send(frame.bytes);
                Flow::Continue
            }
            Event::Failed => self.failed(frame, for_client, inbox, client),
            Event::CopyIn => {
                self.phase = Phase::CopyIn {
                    // The Sync that was under way is ignored by the server.
                    extended: matches!(self.phase, Phase::Segment | Phase::Syncing),
                };
                client.send(frame.bytes);
                Flow::Stop
            }
            Event::Notice => {
                if for_client {
                    client.send(frame.bytes);
                }
                Flow::Continue
            }
            Event::Notification => {
                client.send(frame.bytes);
                Flow::Continue
            }
            Event::Parameter => {
                if for_client {
                    self.tell(frame, client);
                }
                Flow::Continue
            }
        }
    }

    /// Passes a ParameterStatus on if it is news to the client.
    fn tell(&mut self, frame: Frame<'_>, client: &mut Wire) {
        if let Ok((name, value)) = backend::parameter(frame.body())
            && !self.told.iter().any(|(n, v)| n == name && v == value)
        {
            remember(&mut self.told, name, value);
            if name == b"application_name" {
                self.tally.application_name(value);
            }
            client.send(frame.bytes);
        }
    }

    /// Tells the client what differs on another server.
    pub fn tell_differences(&mut self, server: &[(Vec<u8>, Vec<u8>)], client: &mut Wire) {
        for (name, value) in server {
            if self.told.iter().any(|(n, v)| n == name && v == value) {
                continue;
            }
            remember(&mut self.told, name, value);
            client.with_output(|out| backend::put_parameter(out, name, value));
        }
    }

    fn answered(&mut self, frame: Frame<'_>, inbox: &mut Inbox) {
        match frame.tag() {
            tag::ROW_DESCRIPTION | tag::NO_DATA => {
                let Some(Some(statement)) = inbox.describing.pop_front() else {
                    return;
                };
                inbox.digest.add(frame);
                let digest = inbox.digest.take();
                match statement.described.get() {
                    None => statement.described.set(Some(digest)),
                    Some(before) => inbox.changed |= before != digest,
                }
            }
            tag::CLOSE_COMPLETE => {
                inbox.closing.pop_front();
            }
            _ => {}
        }
    }

    fn completed(&mut self, frame: Frame<'_>, inbox: &mut Inbox) {
        inbox.passed = true;
        // With a COMMIT on the way, or without a block, a statement's end may be the
        // first that the client hears of something committed: by CALL, or by a COMMIT
        // in the middle of a text.
        if inbox.committing || (inbox.may_write && self.block == Block::None) {
            self.acknowledge(inbox);
        }
        self.took_effect(backend::command(frame.body()).unwrap_or_default(), inbox);
    }

    fn took_effect(&mut self, command: &[u8], inbox: &mut Inbox) {
        match inbox.outcomes.pop_front() {
            None | Some(Outcome::None) => {}
            Some(Outcome::Defined(name, statement)) => {
                inbox.parsed.push(statement.id);
                self.names.define_now(&name, statement);
            }
            Some(Outcome::Of(statement, at)) => {
                if let Some(step) = statement.steps.get(at) {
                    self.ended_well(step, command, inbox);
                }
            }
        }
    }

    /// A statement has ended well: what follows from it.
    pub fn ended_well(&mut self, step: &Step, command: &[u8], inbox: &mut Inbox) {
        self.pins = self.pins.and(step.pins);
        let mut unpins = step.unpins;
        self.note_definitions(step);
        if !step.pins.is_empty() {
            inbox.pinned = true;
        }
        self.follow(&step.kind, command);
        inbox.follow(&step.kind, command);
        match &step.kind {
            Kind::Declare(name) => {
                self.cursors.insert(name.clone(), inbox.shard);
            }
            Kind::Discard(DiscardWhat::All) => {
                self.names.clear();
                self.portals.clear();
                inbox.discarded = true;
                unpins = self.pins;
            }
            _ => {}
        }
        self.pins = self.pins.minus(unpins);
        if self.pins.is_empty() {
            inbox.pinned = false;
        }
    }

    /// What a statement that ended well changes in the transaction and the settings.
    pub fn follow(&mut self, kind: &Kind, command: &[u8]) {
        follow(&mut self.settings, kind, command);
        match kind {
            Kind::Begin(modes) => self.modes.clone_from(modes),
            Kind::Commit { .. } | Kind::Rollback { .. } | Kind::PrepareTransaction => {
                self.end_block()
            }
            Kind::Savepoint(name) => self.savepoints.push(name.clone()),
            Kind::RollbackTo(name) => {
                if let Some(at) = self.savepoints.iter().rposition(|s| s == name) {
                    self.savepoints.truncate(at + 1);
                    self.set_transaction.retain(|(before, _)| *before <= at);
                }
            }
            Kind::Release(name) => {
                if let Some(at) = self.savepoints.iter().rposition(|s| s == name) {
                    self.savepoints.truncate(at);
                    for (depth, _) in &mut self.set_transaction {
                        *depth = at.min(*depth);
                    }
                }
            }
            Kind::SetTransaction(text) | Kind::LocalConfig(Some(text)) => self.set_in_block(text),
            Kind::LocalPath(path, text) => {
                self.set_in_block(text);
                self.local_search_path = Some(path.clone());
            }
            _ => {}
        }
    }

    /// Remembers what servers that join later must be told.
    fn set_in_block(&mut self, text: &str) {
        self.set_transaction
            .push((self.savepoints.len(), text.to_owned()));
    }

    /// If a statement changed definitions, what is read of them before the transaction
    /// ends does not have the change yet, so the end counts as a change, too.
    pub fn note_definitions(&mut self, step: &Step) {
        self.schema_changed |= step.changes_schema;
        self.schema_changed_in_block |= step.changes_schema;
        if self.defined_in_block != Defines::More && step.defines != Defines::Nothing {
            self.defined_in_block = step.defines;
        }
    }

    /// What belonged to the block is gone with it.
    pub fn end_block(&mut self) {
        self.schema_changed |= std::mem::take(&mut self.schema_changed_in_block);
        self.defined_in_block = Defines::Nothing;
        self.block = Block::None;
        self.untold.set(false);
        self.savepoints.clear();
        self.set_transaction.clear();
        self.local_search_path = None;
        self.cursors.clear();
        self.portals.clear();
    }

    /// Counts what the server may have committed, before the client can hear of it: what
    /// is written to it now leaves later. One count too many costs replicas a little
    /// work, one too few would let them show an older state.
    pub fn acknowledge(&mut self, inbox: &Inbox) {
        if let Some(clock) = &inbox.clock {
            let moment = clock.acknowledge(Scope::All);
            self.acknowledged.insert(inbox.shard, moment);
        }
    }

    /// The request, or the segment, has ended on the server of `inbox`.
    pub fn acknowledge_end(&mut self, status: TxStatus, inbox: &Inbox) {
        let ended = status == TxStatus::Idle && (inbox.wrote || inbox.may_write);
        if inbox.committing || ended {
            self.acknowledge(inbox);
        }
    }

    fn failed(
        &mut self,
        frame: Frame<'_>,
        for_client: bool,
        inbox: &mut Inbox,
        client: &mut Wire,
    ) -> Flow {
        let fields = Fields::read(frame.body());
        inbox.fatal |= fields.is_fatal();
        inbox.read_only |= fields.code == Some(b"25006");
        if inbox.committing || (inbox.may_write && self.block == Block::None) {
            // A procedure may have committed something before it failed.
            self.acknowledge(inbox);
        }
        // What was not confirmed did not happen.
        inbox.preparing.clear();
        inbox.describing.clear();
        inbox.digest = Digest::default();
        if inbox.private && !for_client {
            inbox.router_error = Some(frame.body().to_vec());
            return Flow::Continue;
        }
        // Without its BEGIN the client's statement would run on its own.
        inbox.fatal |= inbox.beginning;
        self.note_failure();
        inbox.outcomes.clear();
        if fields.is_fatal() && self.phase == Phase::Idle && self.block != Block::None {
            // An error between requests breaks drivers: the next request is told.
        } else if fields.is_fatal() {
            // The server's connection ends, the client's does not.
            client.with_output(|out| put_as_error(out, frame.body()));
        } else {
            client.send(frame.bytes);
        }
        match self.phase {
            Phase::Segment => self.skipping = true,
            Phase::CopyIn { extended } => {
                self.skipping = extended;
                self.phase = if extended {
                    Phase::Segment
                } else {
                    Phase::Query
                };
            }
            Phase::Idle | Phase::Query | Phase::Syncing => {}
        }
        Flow::Continue
    }

    /// An error was reported to the client.
    pub fn note_failure(&mut self) {
        self.failed = true;
        self.tally.failed();
        self.names.undo();
    }

    fn ready(&mut self, status: TxStatus, inbox: &mut Inbox) {
        self.tally.ready(status);
        self.acknowledge_end(status, inbox);
        self.phase = Phase::Idle;
        self.skipping = false;
        inbox.passed = false;
        inbox.may_write = false;
        inbox.committing = false;
        inbox.outcomes.clear();
        inbox.in_segment = false;
        match status {
            TxStatus::Idle => {
                self.end_block();
                self.modes.clear();
                inbox.in_block = false;
                inbox.wrote = false;
                self.end_implicit(inbox);
            }
            TxStatus::Open => {
                self.block = Block::Open;
                inbox.in_block = true;
                self.settings.begin();
                inbox.carried.begin();
            }
            TxStatus::Failed => self.block = Block::Failed,
        }
        self.failed = false;
    }

    /// Settings made outside of a block hold or fall with the whole request.
    fn end_implicit(&mut self, inbox: &mut Inbox) {
        if self.failed {
            self.settings.rollback();
            inbox.carried.rollback();
        } else {
            self.settings.commit();
            inbox.carried.commit();
        }
    }

    /// The request ends without a server, or after it was lost.
    pub fn ready_alone(&mut self, client: &mut Wire) {
        self.phase = Phase::Idle;
        self.skipping = false;
        if self.block == Block::None {
            self.end_block();
            if self.failed {
                self.settings.rollback();
            } else {
                self.settings.commit();
            }
        }
        self.failed = false;
        let status = self.block.status();
        self.tally.ready(status);
        client.with_output(|out| backend::put_ready(out, status));
    }
}

/// Writes a server's FATAL as an ERROR: it ends the server's connection, not the
/// client's. All other fields stay.
pub(super) fn put_as_error(out: &mut Vec<u8>, mut body: &[u8]) {
    mothership_proto::frame::put(out, tag::ERROR, |out| {
        while let Some((&code, rest)) = body.split_first() {
            body = rest;
            if code == 0 {
                break;
            }
            let Some(text) = mothership_proto::frame::take_str(&mut body) else {
                break;
            };
            let text = match code {
                b'S' | b'V' => Severity::Error.word().as_bytes(),
                _ => text,
            };
            out.push(code);
            mothership_proto::frame::put_str(out, text);
        }
        out.push(0);
    });
}

/// The OID of a built-in type; users' types are all one.
fn shared_oid(oid: u32) -> u32 {
    const FIRST_OF_USERS: u32 = 16_384;
    oid.min(FIRST_OF_USERS)
}

/// A digest of the description of a statement: types, names, order.
#[derive(Clone, Copy, Debug, Default)]
struct Digest(u128);

impl Digest {
    /// Adds ParameterDescription, RowDescription or NoData. OIDs of tables and of users'
    /// types differ between shards and say nothing about the shape of a row.
    fn add(&mut self, frame: Frame<'_>) {
        let mut shape = vec![frame.tag()];
        if frame.tag() == tag::ROW_DESCRIPTION {
            for column in backend::columns(frame.body()).unwrap_or_default() {
                shape.extend_from_slice(&column.name);
                shape.push(0);
                shape.extend_from_slice(&shared_oid(column.type_oid).to_be_bytes());
                shape.extend_from_slice(&column.modifier.to_be_bytes());
            }
        } else {
            let oids = frame.body().get(2..).unwrap_or_default().chunks_exact(4);
            for oid in oids {
                let oid = u32::from_be_bytes([oid[0], oid[1], oid[2], oid[3]]);
                shape.extend_from_slice(&shared_oid(oid).to_be_bytes());
            }
        }
        let half = |seed: u64| {
            let mut hasher = foldhash::quality::FixedState::with_seed(seed).build_hasher();
            hasher.write_u128(self.0);
            hasher.write(&shape);
            hasher.finish()
        };
        self.0 = u128::from(half(1)) << 64 | u128::from(half(2));
    }

    fn take(&mut self) -> u128 {
        std::mem::take(self).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fatal_error_of_a_server_is_an_error_for_the_client() {
        let mut out = Vec::new();
        let body = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0Rfunc\0\0";
        put_as_error(&mut out, body);
        assert_eq!(
            &out[5..],
            b"SERROR\0VERROR\0C57P01\0Mterminating connection\0Rfunc\0\0"
        );
    }
}
