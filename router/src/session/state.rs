//! What a session knows, and how each message from a server changes it.
//!
//! Everything here is sync and decides; nothing here waits. [`State::on_server`]
//! takes one judged message and writes to the client's output what the client is
//! to see. The socket side is in `serve.rs`.

use super::digest::Digest;
use super::history::{History, TransactionEvent};
use super::inbox::{Inbox, follow};
use super::numbers::Numbers;
use super::own::Definitions;
use super::passage::Passage;
use super::portals::{Life, Portals};
use super::process::unknown_to_server;
use super::told::Unreported;
use crate::core::lists::{Describing, Outcome};
use crate::metrics::tally::Tally;
use crate::rare::Rare;
use crate::statements::errors::{Written, named_as_client, placed_notice, put_as_error, put_error};
use crate::statements::names::{Names, Prepared};
use crate::statements::reported_parameters::ReportedParameters;
use crate::statements::settings::{SessionSettings, Value, local_sql};
use crate::statements::step::{Alters, CodeEffects, Defines, Kind, Pins, Step, currval_refused};
use crate::statements::temporary::{CreatesTemporary, TemporaryNames};
use mothership_pool::connection::{Flow, IN_HOT_STANDBY};
use mothership_pool::health::{Failure, WriteNumber};
use mothership_pool::wire::Wire;
use mothership_proto::backend::{self, TxStatus, tag};
use mothership_proto::frame::Frame;
use mothership_proto::ledger::{Audience, Event, Step as Reply};
use mothership_proto::report::{Fields, Report, sqlstate};
use mothership_shardmap::ShardId;
use mothership_sql::effect::{DiscardWhat, Pin};
use mothership_sql::process::ProcessAction;
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU16;

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

/// Whether the settings of a session are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unfollowed {
    /// They are.
    #[default]
    Nothing,
    /// The statement at hand may change them in a way that is not followed.
    Now,
    /// An earlier one may have.
    Before,
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
    /// It failed before any server knew of it: its savepoints are there to go back to.
    Refused,
    /// It failed on its servers, which still hold it.
    Failed,
    /// It failed and no server holds it any longer: the connection was lost.
    Lost,
}

impl Block {
    /// What ReadyForQuery says.
    pub fn status(&self) -> TxStatus {
        match self {
            Self::None => TxStatus::Idle,
            Self::Begun | Self::Open => TxStatus::Open,
            Self::Refused | Self::Failed | Self::Lost => TxStatus::Failed,
        }
    }

    /// Whether it is open for the client and no server holds it: only the router can end it.
    pub fn is_nowhere(&self) -> bool {
        matches!(self, Self::Refused | Self::Lost)
    }
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
    pub modes: Box<str>,
    /// Whether AND CHAIN began the block. Then an error in it takes nothing from its modes: what BEGIN says is undone with
    /// the transaction, as a SET LOCAL is, and what a chained transaction took over is not.
    pub chained: bool,
    /// The statement at hand only sets something: modes of the transaction may still follow, and no query may go ahead.
    pub sets: bool,
    /// Whether a server would not take the session's settings when it was brought to them last: a role that was taken away
    /// from it, a search configuration that was dropped.
    pub stuck: bool,
    /// What the transaction may have done before the statement at hand.
    pub done_before: DoneBefore,
    /// What was done since, for all shards that take part.
    pub history: History,
    /// The settings that outlive the transaction.
    pub settings: SessionSettings,
    /// The same with those of SET LOCAL, from the first one to the end of the transaction.
    pub(super) local: Option<Box<SessionSettings>>,
    /// The prepared statements.
    pub names: Names,
    /// The portals and cursors that are open.
    pub portals: Portals,
    /// Why the session stays on its server.
    pub pins: Pins,
    /// What no list of settings says.
    pub marks: Marks,
    /// What code may leave that was defined in the transaction that is open, be it that of a pipeline.
    pub makes_code: CodeEffects,
    /// The search path that it began with has the schema of temporary objects: what it makes may be temporary without
    /// saying so, also after RESET.
    pub makes_temporary: bool,
    /// Whose defaults it has altered since the transaction began.
    #[allow(clippy::box_collection)]
    // Nearly no session has one, and each keeps the place for it.
    pub alters: Option<Box<Vec<Alters>>>,
    /// How its temporary tables may be called.
    pub temporary: TemporaryNames,
    /// It has notified others since the transaction began, or is about to.
    pub notifies: bool,
    /// Code has run since the transaction began, or is about to, that may leave something on its servers.
    runs_unseen: bool,
    /// What the client was told by ParameterStatus.
    pub told: ReportedParameters,
    /// Definitions changed: raised for whoever keeps count.
    pub schema_changed: bool,
    /// They changed in the transaction that is open: nobody else sees it before its end.
    pub schema_changed_in_block: bool,
    /// By whose definitions its statements are planned.
    pub definitions: Definitions,
    /// What was defined in it.
    pub defined_in_block: Defines,
    /// What is counted of the session.
    pub tally: Tally,
    /// The transaction was lost between requests, and the client does not know yet.
    pub untold: Cell<bool>,
    /// The server has ended the session, by a timeout of the client's or because the client said so.
    pub farewell: Option<Box<Report>>,
    /// The server is lost on which the session had what no other has.
    pub orphaned: bool,
    /// The last write on each shard that the client was told of.
    pub(super) acknowledged: Rare<BTreeMap<ShardId, WriteNumber>>,
    /// Notifications that came while the router ended a transaction: they go ahead of ReadyForQuery, as in PostgreSQL.
    pub(super) notifications: Rare<Vec<u8>>,
    /// What the client must know of its settings that no server reports.
    pub(super) unreported: Rare<Unreported>,
    /// The number of the client's process, as the client was told.
    pub process: i32,
    /// What it has taken from sequences.
    pub numbers: Numbers,
    /// Something failed since the last ReadyForQuery.
    failed: bool,
}

/// How often something was done that statements are analysed by and that no list of settings shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks {
    count: u64,
    /// It ends with the transaction.
    transaction: bool,
    /// Reasons to stay on a server that the open transaction has ended, if it is committed. Here there is room for them.
    unpins: Pins,
    /// Whether the settings of the session are known.
    pub unfollowed: Unfollowed,
    /// Settings were found in the open transaction that code had changed.
    pub found_in_block: bool,
    /// Such code has run in the session, or in the open transaction: the number of the last setting that the servers
    /// were asked for by its name, and one more.
    pub asked: Option<NonZeroU16>,
    /// A statement of the segment is on its way by whose end the next one is planned.
    pub awaited: bool,
}

impl Marks {
    /// The settings of the session are known again: nothing that code has set is left.
    pub fn forget_unfollowed(&mut self) {
        self.unfollowed = Unfollowed::Nothing;
        self.asked = None;
    }

    /// A statement has ended well.
    fn note(&mut self, step: &Step) {
        // What is defined in a transaction only its own session sees.
        let own = step.clouds || step.changes_schema;
        self.transaction |= own;
        self.count += u64::from(own || !step.pins.is_empty());
    }

    /// The mark of a session, with these reasons to stay on its server, whose statements are its own.
    pub fn alone(&self, pins: Pins) -> Option<u64> {
        (self.transaction || !pins.is_empty()).then_some(self.count)
    }
}

/// How a transaction has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// What it did holds.
    Committed,
    /// It was rolled back.
    Undone,
}

/// What a transaction has done before the statement at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DoneBefore {
    /// Nothing.
    #[default]
    Nothing,
    /// Something, perhaps: another statement has ended well, or came with another message.
    Something,
    /// It has read rows: from its first query on a REPEATABLE READ transaction keeps its snapshot.
    Read,
}

impl State {
    /// The state of a new session.
    pub fn new(settings: SessionSettings, told: ReportedParameters, process: i32) -> Self {
        Self {
            phase: Phase::Idle,
            skipping: false,
            block: Block::None,
            modes: Box::default(),
            chained: false,
            sets: false,
            stuck: false,
            done_before: DoneBefore::Nothing,
            history: History::default(),
            process,
            farewell: None,
            settings,
            local: None,
            names: Names::default(),
            portals: Portals::default(),
            pins: Pins::NONE,
            marks: Marks::default(),
            makes_code: CodeEffects::Nothing,
            makes_temporary: false,
            alters: None,
            temporary: TemporaryNames::default(),
            notifies: false,
            runs_unseen: false,
            told,
            schema_changed: false,
            schema_changed_in_block: false,
            defined_in_block: Defines::Nothing,
            definitions: Definitions::Common,
            tally: Tally::default(),
            untold: Cell::new(false),
            orphaned: false,
            acknowledged: Rare::default(),
            notifications: Rare::default(),
            unreported: Rare::default(),
            numbers: Numbers::default(),
            failed: false,
        }
    }

    /// Takes one message of a server.
    pub fn on_server(
        &mut self,
        frame: Frame<'_>,
        reply: Reply,
        inbox: &mut Inbox,
        client: &mut Passage<'_>,
    ) -> Flow {
        let for_client = reply.to == Audience::Client;
        if for_client {
            self.tally.gave(frame.bytes.len());
        }
        match reply.event {
            Event::Part => {
                if frame.tag() == tag::PARAMETER_DESCRIPTION {
                    inbox.digest.add(frame);
                    inbox.keep_types(frame);
                }
                if for_client {
                    inbox.passed = true;
                    client.pass(frame);
                } else if frame.tag() == tag::DATA_ROW {
                    inbox.keep_row(frame);
                }
                Flow::Continue
            }
            Event::Completed => {
                if for_client {
                    self.completed(frame, inbox);
                    client.pass(frame);
                }
                Flow::Continue
            }
            Event::Answered => {
                self.answered(frame, inbox);
                if for_client {
                    client.pass(frame);
                }
                Flow::Continue
            }
            Event::Parsed(id) => {
                self.tally.server_parsed();
                inbox.parsed.push(id);
                inbox.preparing.retain(|&p| p != id);
                if for_client {
                    self.names.confirm_parsed();
                    client.pass(frame);
                }
                Flow::Continue
            }
            Event::Suspended => {
                // A client that wants one row of set_config or of a lock gets no more,
                // but what the statement did is done.
                self.took_effect(b"", inbox);
                client.pass(frame);
                Flow::Continue
            }
            Event::Ready(status) => {
                if for_client {
                    self.ready(status, inbox);
                    if self.notifications.get().is_some() || self.unreported.get().is_some() {
                        self.put_ahead_of_ready(client.client());
                    }
                    client.pass(frame);
                    return Flow::Stop;
                }
                inbox.ahead = inbox.ahead.saturating_sub(1);
                Flow::Continue
            }
            Event::Own => {
                super::serve::confirm(frame.bytes, self);
                client.pass(frame);
                Flow::Continue
            }
            Event::Failed => self.failed(frame, for_client, inbox, client),
            Event::CopyIn => {
                self.phase = Phase::CopyIn {
                    // The Sync that was under way is ignored by the server.
                    extended: matches!(self.phase, Phase::Segment | Phase::Syncing),
                };
                client.pass(frame);
                Flow::Stop
            }
            Event::Notice => {
                let written = inbox.written.as_ref().filter(|_| for_client);
                let moved = written.and_then(|written| {
                    let own = |place| written.place(self.told.characters(), place);
                    placed_notice(frame.body(), own)
                });
                if let Some(bytes) = &moved {
                    client.pass(Frame { bytes });
                } else if for_client {
                    client.pass(frame);
                }
                Flow::Continue
            }
            Event::Notification => {
                match inbox.notification(frame, self.process) {
                    Some(bytes) => client.client().send(&bytes),
                    None => client.pass(frame),
                }
                Flow::Continue
            }
            Event::Parameter => {
                match for_client {
                    true => self.tell(frame, client),
                    false => self.note_unheard(frame.body()),
                }
                Flow::Continue
            }
        }
    }

    /// Passes a ParameterStatus on if it is news to the client.
    fn tell(&mut self, frame: Frame<'_>, client: &mut Passage<'_>) {
        if let Ok((name, value)) = backend::parameter(frame.body())
            && name != IN_HOT_STANDBY
            && !self.told.has(name, value)
        {
            self.note_told(name);
            self.told.add(name, value);
            if name == b"application_name" {
                self.tally.application_name(value);
            }
            client.pass(frame);
        }
    }

    /// Tells the client what differs on another server.
    pub fn tell_differences(&mut self, server: &[(Vec<u8>, Vec<u8>)], client: &mut Wire) {
        for (name, value) in server {
            if self.told.has(name, value) {
                continue;
            }
            self.told.add(name, value);
            client.with_output(|out| backend::put_parameter(out, name, value));
        }
    }

    fn answered(&mut self, frame: Frame<'_>, inbox: &mut Inbox) {
        match frame.tag() {
            tag::ROW_DESCRIPTION | tag::NO_DATA => {
                inbox.digest.add(frame);
                let digest = inbox.digest.take();
                let Some(Describing::Statement(statement)) = inbox.describing.pop_front() else {
                    return;
                };
                match statement.described.get() {
                    None => statement.described.set(Some(digest)),
                    Some(before) => inbox.changed |= before != digest,
                }
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
            Some(Outcome::Runs(statement, at, body)) => {
                for step in body.step().into_iter().chain(statement.steps.get(at)) {
                    self.ended_well(step, command, inbox);
                }
            }
        }
    }

    /// A statement has ended well: what follows from it.
    pub fn ended_well(&mut self, step: &Step, command: &[u8], inbox: &mut Inbox) {
        self.done_before = self
            .done_before
            .max(match step.reads_only && step.names_rows {
                true => DoneBefore::Read,
                false => DoneBefore::Something,
            });
        self.pins = self.pins.and(step.pins);
        self.marks.note(step);
        self.temporary
            .record(&step.makes, self.block != Block::None);
        self.follow_unseen();
        let mut unpins = step.unpins;
        self.note_definitions(step);
        inbox.pins = inbox.pins.and(step.pins);
        let done = self.as_done(&step.kind);
        self.follow(&done, command);
        inbox.follow(&self.on_servers(&done), command);
        inbox.heard(&done, self.history.events().len());
        self.restore_startup(&done);
        match &step.kind {
            // Known before ReadyForQuery: what follows in a pipeline may go to other servers.
            Kind::Begin(_) => {
                self.block = Block::Open;
                inbox.in_block = true;
            }
            Kind::Commit { chain: false } | Kind::Rollback { chain: false } => {
                inbox.in_block = false;
            }
            Kind::Declare(name) => {
                let events = self.history.events().len();
                let life = match step.pins.has(Pin::HoldCursor) {
                    true => Life::Held(events),
                    false => Life::Transaction(events),
                };
                self.portals.declare(name.as_bytes(), inbox.shard, life);
            }
            Kind::Close(name) => self.portals.close(name.as_bytes()),
            Kind::CloseAll => self.portals.close_all(),
            Kind::Discard(DiscardWhat::Sequences) => self.numbers.forget(),
            Kind::Discard(DiscardWhat::All) => {
                self.forget_session();
                inbox.discarded = true;
                inbox.spoiled |= !self.pins.both(Pins::beyond_discard()).is_empty();
                // A temporary slot lives on.
                unpins = self.pins.minus(Pins::NONE.with(Pin::Slot));
            }
            Kind::RollbackTo(_) => {
                self.marks.unpins = Pins::NONE;
                // Known before ReadyForQuery, as above.
                if self.block == Block::Failed {
                    self.block = Block::Open;
                }
            }
            _ => {}
        }
        self.marks.unpins = self.marks.unpins.minus(step.pins);
        match step.kind {
            // It stands in no transaction.
            Kind::Discard(DiscardWhat::All) => self.unpin(unpins),
            _ => self.unpin_at_commit(unpins),
        }
        inbox.pins = inbox.pins.both(self.pins);
    }

    /// The statement at hand may change settings in a way that is not followed.
    pub fn run_unfollowed(&mut self) {
        self.marks.asked.get_or_insert(NonZeroU16::MIN);
        if self.marks.unfollowed == Unfollowed::Nothing {
            self.marks.unfollowed = Unfollowed::Now;
        }
    }

    /// The next statement begins.
    pub fn end_unfollowed(&mut self) {
        if self.marks.unfollowed == Unfollowed::Now {
            self.marks.unfollowed = Unfollowed::Before;
        }
    }

    /// The transaction has ended, or a part of it is undone: settings that were found in it may have gone back to what
    /// they were before, or not.
    fn look_again_at_settings(&mut self) {
        let is_pinned = self.pins.has(Pin::Opaque) || self.pins.has(Pin::UnclearSetting);
        if self.block == Block::None && !is_pinned {
            // What was set for the transaction has ended with it.
            self.marks.forget_unfollowed();
        } else if self.marks.found_in_block || self.runs_unseen && self.marks.asked.is_some() {
            // Deferred triggers run with COMMIT.
            self.marks.unfollowed = Unfollowed::Before;
        }
        self.marks.found_in_block &= self.block != Block::None;
    }

    /// Code is about to run that the statement does not show, and may leave something on its servers, even if it fails.
    pub fn run_unseen(&mut self) {
        self.pins = self.pins.with(Pin::Opaque);
        self.marks.count += 1;
        self.runs_unseen = true;
    }

    /// Whether such code runs in the open transaction: its servers belong to the session from then on.
    pub fn runs_unseen(&self) -> bool {
        self.runs_unseen
    }

    /// What such code may have made.
    fn follow_unseen(&mut self) {
        if self.runs_unseen {
            let makes = CreatesTemporary::Something { perhaps: false };
            self.temporary.record(&makes, self.block != Block::None);
        }
    }

    /// The transaction has ended, with a server or before it had one.
    pub fn end_unseen(&mut self, has_servers: bool) {
        self.notifies = false;
        self.follow_unseen();
        if std::mem::take(&mut self.runs_unseen) && !has_servers {
            self.unpin(Pins::NONE.with(Pin::Opaque));
        }
    }

    /// DISCARD ALL: what a session has on its servers is gone.
    pub fn forget_session(&mut self) {
        self.runs_unseen = false;
        self.numbers.forget();
        self.names.clear();
        self.portals.close_all();
    }

    /// A statement has failed: what no rollback takes away stays with its session.
    fn left_behind(&mut self, inbox: &mut Inbox) {
        let of = |statement: &Prepared, at: usize| statement.steps.get(at).map(|step| step.pins);
        let pins = match inbox.outcomes.front() {
            Some(Outcome::Of(statement, at)) => of(statement, *at).unwrap_or_default(),
            Some(Outcome::Runs(statement, at, body)) => {
                let own = of(statement, *at).unwrap_or_default();
                own.and(body.step().map(|step| step.pins).unwrap_or_default())
            }
            Some(Outcome::None | Outcome::Defined(..)) | None => Pins::NONE,
        };
        let left = pins.both(Pins::outliving());
        if !left.is_empty() {
            self.pins = self.pins.and(left);
            inbox.pins = inbox.pins.and(left);
        }
    }

    /// The last cursor WITH HOLD was closed, or its transaction was undone.
    pub fn forget_held_cursors(&mut self) {
        if self.pins.has(Pin::HoldCursor) && !self.portals.has_held() {
            self.unpin(Pins::NONE.with(Pin::HoldCursor));
        }
    }

    /// These reasons to stay on a server are gone, some of them only if the transaction is committed.
    pub fn unpin_at_commit(&mut self, unpins: Pins) {
        self.marks.unpins = self.marks.unpins.and(unpins.both(Pins::brought_back()));
        self.unpin(unpins.minus(Pins::brought_back()));
    }

    /// These reasons to stay on a server are gone.
    pub fn unpin(&mut self, unpins: Pins) {
        let was_unclear = self.pins.has(Pin::Opaque) || self.pins.has(Pin::UnclearSetting);
        self.pins = self.pins.minus(unpins);
        if !self.pins.has(Pin::TempObject) && !self.pins.has(Pin::Opaque) {
            self.temporary = TemporaryNames::default();
        }
        let is_unclear = self.pins.has(Pin::Opaque) || self.pins.has(Pin::UnclearSetting);
        if was_unclear && !is_unclear {
            self.marks.forget_unfollowed();
        }
    }

    /// What a statement that ended well, [`State::as_done`], changes in the transaction and the settings.
    pub fn follow(&mut self, kind: &Kind, command: &[u8]) {
        self.note_reported(kind);
        follow(&mut self.settings, kind, command);
        if let Some(local) = &mut self.local {
            follow(local, kind, command);
        }
        match kind {
            Kind::Begin(modes) => self.begin(modes),
            Kind::Commit { chain } | Kind::Rollback { chain } => {
                // COMMIT of a failed transaction says ROLLBACK.
                let failed = matches!(kind, Kind::Commit { .. }) && command == b"ROLLBACK";
                self.chain(*chain);
                match (kind, failed) {
                    (Kind::Commit { .. }, false) => self.end_block(Ended::Committed),
                    _ => self.end_block(Ended::Undone),
                }
                if *chain {
                    // In a pipeline more may follow before the server says so.
                    self.block = Block::Open;
                    self.settings.begin();
                }
            }
            Kind::PrepareTransaction => self.end_block(Ended::Committed),
            Kind::Savepoint(name) => {
                self.history.savepoint(name);
                self.note_reported_at(name);
            }
            Kind::RollbackTo(name) => {
                self.look_again_at_settings();
                self.history.rollback_to(name);
                self.leave_reported_at(name, true);
                self.portals.roll_back_to(self.history.events().len());
                if self.definitions == Definitions::Own {
                    self.definitions = Definitions::Changed;
                }
            }
            Kind::Release(name) => {
                if let Some(left) = self.history.place(name) {
                    self.portals.release(left);
                }
                self.history.release(name);
                self.leave_reported_at(name, false);
            }
            Kind::Settings(_) => {
                if let Kind::Settings(changes) = &*self.on_servers(kind) {
                    self.history.session(changes, self.settings.current());
                }
            }
            Kind::SetTransaction(text) => self.history.local(text),
            Kind::SetLocal(change, text) => {
                self.history.local(text);
                self.apply_local(std::slice::from_ref(change));
            }
            Kind::LocalConfig(Some(changes)) => {
                self.history.local(&local_sql(changes));
                self.apply_local(changes);
            }
            _ => {}
        }
    }

    /// BEGIN was accepted. Within a block PostgreSQL warns, and its modes hold from there on.
    pub fn begin(&mut self, modes: &str) {
        match self.block {
            _ if modes.is_empty() => {}
            // Another one of the same text may have been before it.
            Block::None if self.modes.is_empty() => self.modes = modes.into(),
            Block::None => self.modes = format!("{}, {modes}", self.modes).into(),
            _ => self.history.local(&format!("SET TRANSACTION {modes}")),
        }
    }

    /// Within a savepoint BEGIN cannot change how its transaction is isolated, nor say whether it is deferrable, as SET
    /// TRANSACTION cannot.
    ///
    /// # Errors
    /// PostgreSQL's own, 25001.
    pub fn check_modes_of_block(&self, modes: &str) -> Result<(), Report> {
        let events = self.history.events();
        let within = events
            .iter()
            .any(|event| matches!(event, TransactionEvent::Savepoint(_)));
        let (modes, begun) = (modes.to_ascii_lowercase(), self.modes.to_ascii_lowercase());
        let levels = ["repeatable", "serializable", "uncommitted", "committed"];
        let level_of = |modes: &str| levels.into_iter().find(|level| modes.contains(level));
        let level = level_of(&modes);
        let message = if !within {
            return Ok(());
        } else if level.is_some_and(|level| level_of(&begun).unwrap_or("committed") != level) {
            "SET TRANSACTION ISOLATION LEVEL must not be called in a subtransaction"
        } else if modes.contains("deferrable") {
            "SET TRANSACTION [NOT] DEFERRABLE cannot be called within a subtransaction"
        } else {
            return Ok(());
        };
        Err(Report::error(sqlstate::ACTIVE_TRANSACTION, message))
    }

    /// A setting holds for the session as if its startup packet had said it.
    pub fn keep_setting(&mut self, name: &str, value: &Value) {
        self.settings.keep(name, value);
        if let Some(local) = &mut self.local {
            local.keep(name, value);
        }
    }

    /// If a statement changed definitions, what is read of them before the transaction
    /// ends does not have the change yet, so the end is what counts. To read them earlier would make
    /// everybody wait for what the transaction has locked, this session as well.
    pub fn note_definitions(&mut self, step: &Step) {
        // The next value of a sequence is another one at once, whatever becomes of the transaction.
        let at_once = self.block == Block::None || (step.moves_sequence && !step.locks_sequence);
        self.schema_changed |= step.concerns_others() && at_once;
        self.schema_changed_in_block |= step.concerns_others();
        self.makes_code = self.makes_code.max(step.makes_code);
        if step.alters != Alters::Nothing {
            self.alters
                .get_or_insert_default()
                .push(step.alters.clone());
        }
        if step.redefines() {
            self.definitions = Definitions::Changed;
        }
        self.defined_in_block = self.defined_in_block.max(step.defines);
    }

    /// What belonged to the block is gone with it.
    pub fn end_block(&mut self, ended: Ended) {
        self.schema_changed |= std::mem::take(&mut self.schema_changed_in_block);
        // What it planned by is nobody else's.
        self.schema_changed |= std::mem::take(&mut self.definitions) != Definitions::Common;
        self.defined_in_block = Defines::Nothing;
        self.block = Block::None;
        self.done_before = DoneBefore::Nothing;
        self.sets = false;
        self.temporary.end_block();
        self.look_again_at_settings();
        self.untold.set(false);
        self.history.clear();
        self.end_reported(matches!(ended, Ended::Committed));
        self.local = None;
        self.marks.transaction = false;
        self.makes_code = CodeEffects::Nothing;
        let unpins = std::mem::take(&mut self.marks.unpins);
        match ended {
            Ended::Committed => {
                self.unpin(unpins);
                self.portals.commit();
            }
            Ended::Undone => self.portals.roll_back(),
        }
    }

    /// Counts what the server may have committed, before the client can hear of it: what
    /// is written to it now leaves later. One count too many costs replicas a little
    /// work, one too few would let them show an older state.
    pub fn acknowledge(&mut self, inbox: &Inbox) {
        if let Some(clock) = &inbox.clock {
            let moment = inbox.touched.acknowledge(clock);
            self.acknowledged.made().insert(inbox.shard, moment);
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
        client: &mut Passage<'_>,
    ) -> Flow {
        let fields = Fields::read(frame.body());
        inbox.fatal |= fields.is_fatal();
        let code = fields.code.and_then(|code| std::str::from_utf8(code).ok());
        inbox.leaving |= fields.is_fatal() && code.and_then(Failure::of_sqlstate).is_some();
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
        // What went ahead of the statement has failed, and the statement with it: the client must hear of that once.
        let was_ahead = inbox.ahead > 0;
        inbox.fatal |= was_ahead;
        if was_ahead && (self.skipping || self.phase == Phase::Idle) {
            // The client has heard of an error already, or waits for nothing.
            return Flow::Stop;
        }
        if self.skipping && !for_client && !inbox.fatal {
            // The client was told what another shard has said to the same.
            inbox.outcomes.clear();
            return Flow::Continue;
        }
        self.note_failure();
        self.left_behind(inbox);
        let written = inbox.written();
        let signals = std::mem::take(&mut inbox.outcomes);
        let written = written.filter(|_| for_client);
        match ends_session(&fields, frame.body(), &signals) {
            // As with PostgreSQL itself: the client hears it and is disconnected.
            Some(report) => self.farewell = Some(report),
            None => self.tell_failure(frame, &fields, written.as_deref(), client),
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
        match was_ahead {
            true => Flow::Stop,
            false => Flow::Continue,
        }
    }

    /// Tells the client of an error of its server's. `written` says where places are in the client's own text.
    fn tell_failure(
        &self,
        frame: Frame<'_>,
        fields: &Fields<'_>,
        written: Option<&Written>,
        client: &mut Passage<'_>,
    ) {
        if fields.is_fatal() && self.phase == Phase::Idle && self.block != Block::None {
            // An error between requests breaks drivers: the next request is told.
        } else if fields.is_fatal() {
            // The server's connection ends, the client's does not.
            client
                .client()
                .with_output(|out| put_as_error(out, frame.body()));
        } else if let Some(body) = self.error_for_client(frame.body(), written) {
            client.client().with_output(|out| put_error(out, &body));
        } else {
            client.pass(frame);
        }
    }

    /// The body of the error that the client gets for a server's error: the router's own where it knows the cause, else with
    /// the client's names of statements, and with its position in the client's text where the router has written another
    /// one. `None` if nothing of it changes.
    pub(super) fn error_for_client(
        &self,
        body: &[u8],
        written: Option<&Written>,
    ) -> Option<Vec<u8>> {
        if let Some(report) = self.own_cause(&Fields::read(body)) {
            let mut message = Vec::new();
            report.put(&mut message);
            // Behind the tag and the length.
            return Some(message.split_off(5));
        }
        let moved = written.map(|written| written.moved(body, self.told.characters()));
        named_as_client(moved.as_deref().unwrap_or(body), &self.names).or(moved)
    }

    /// The same as a report.
    pub(super) fn report_for_client(&self, body: &[u8]) -> Report {
        let changed = self.error_for_client(body, None);
        Report::of_server(changed.as_deref().unwrap_or(body))
    }

    /// What the client is told where the router has caused the error, or knows more of it than the server.
    fn own_cause(&self, fields: &Fields<'_>) -> Option<Report> {
        let cancelled = fields.code == Some(sqlstate::QUERY_CANCELED.as_bytes());
        if cancelled && self.tally.timed_out() {
            let message = "canceling statement due to statement timeout";
            let report = Report::error(sqlstate::QUERY_CANCELED, message);
            return Some(report.hint("The setting is pool.query_timeout."));
        }
        let unknown = unknown_to_server(fields).or_else(|| self.lacks_number(fields));
        unknown.or_else(|| self.found_deadlock(fields))
    }

    /// What a statement is told that asked for a number which its server does not have, where another one may have it.
    fn lacks_number(&self, fields: &Fields<'_>) -> Option<Report> {
        let code = sqlstate::NOT_IN_PREREQUISITE_STATE.as_bytes();
        let lacks = self.numbers.may_lack() && fields.code == Some(code);
        lacks.then(currval_refused)
    }

    /// What a cancelled statement is told that was found waiting for itself over several shards.
    fn found_deadlock(&self, fields: &Fields<'_>) -> Option<Report> {
        let detail = self.tally.deadlock()?;
        let cancelled = fields.code == Some(sqlstate::QUERY_CANCELED.as_bytes());
        cancelled.then(|| super::attach::deadlock_report(detail))
    }

    /// An error of the router's own was reported to the client.
    pub fn note_report(&mut self, report: &Report) {
        if report.code == sqlstate::TOO_MANY_CONNECTIONS {
            self.tally.shed();
        }
        self.note_failure();
    }

    /// Whether something has failed since the last ReadyForQuery.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// An error was reported to the client.
    pub fn note_failure(&mut self) {
        self.failed = true;
        self.marks.unpins = Pins::NONE;
        self.tally.failed();
        self.names.undo();
        self.numbers.failed();
    }

    fn ready(&mut self, status: TxStatus, inbox: &mut Inbox) {
        self.tally.ready(status);
        self.numbers.answered();
        self.acknowledge_end(status, inbox);
        self.phase = Phase::Idle;
        self.skipping = false;
        inbox.passed = false;
        inbox.written = None;
        inbox.may_write = false;
        inbox.committing = false;
        inbox.outcomes.clear();
        inbox.in_segment = false;
        match status {
            TxStatus::Idle => {
                self.end_block(self.ended());
                self.chain(false);
                inbox.leave_block();
                self.end_implicit(inbox);
            }
            TxStatus::Open => {
                self.block = Block::Open;
                inbox.in_block = true;
                self.settings.begin();
                inbox.carried.begin();
            }
            TxStatus::Failed => {
                self.block = Block::Failed;
                self.undo_reported();
            }
        }
        self.leave_undone_to_server();
        self.failed = false;
    }

    /// How what was no block has ended.
    fn ended(&self) -> Ended {
        match self.failed {
            true => Ended::Undone,
            false => Ended::Committed,
        }
    }

    /// Settings made outside of a block hold or fall with the whole request.
    fn end_implicit(&mut self, inbox: &mut Inbox) {
        self.left_segment(inbox);
        if self.failed {
            self.settings.rollback();
        } else {
            self.settings.commit();
        }
    }

    /// A server has ended what was no block, one of several maybe.
    pub fn left_segment(&self, inbox: &mut Inbox) {
        inbox.told = 0;
        if self.failed {
            inbox.carried.rollback();
        } else {
            inbox.carried.commit();
        }
    }

    /// The request ends without a server, or after it was lost.
    pub fn ready_alone(&mut self, client: &mut Wire) {
        self.phase = Phase::Idle;
        self.numbers.answered();
        self.skipping = false;
        if self.block == Block::None {
            self.end_block(self.ended());
            self.chain(false);
            if self.failed {
                self.settings.rollback();
            } else {
                self.settings.commit();
            }
        }
        self.failed = false;
        let status = self.block.status();
        if status == TxStatus::Failed {
            self.undo_reported();
        }
        self.tally.ready(status);
        self.put_ahead_of_ready(client);
        client.with_output(|out| backend::put_ready(out, status));
    }

    fn put_ahead_of_ready(&mut self, client: &mut Wire) {
        self.put_unreported(client);
        if let Some(bytes) = self.notifications.take() {
            client.send(&bytes);
        }
    }
}

/// What a client is told with whom its server ends the session, and not only its own connection: a timeout has passed
/// that the client or its role has set, or a statement of the client's own has ended it. `outcomes` are the statements
/// under way.
fn ends_session(
    fields: &Fields<'_>,
    body: &[u8],
    outcomes: &VecDeque<Outcome>,
) -> Option<Box<Report>> {
    if !fields.is_fatal() {
        return None;
    }
    let function = ProcessAction::Terminate.function().as_bytes();
    let says = |outcome: &Outcome| match outcome {
        Outcome::Of(statement, _) | Outcome::Runs(statement, ..) => {
            let mut parts = statement.sql.windows(function.len());
            parts.any(|part| part.eq_ignore_ascii_case(function))
        }
        Outcome::None | Outcome::Defined(..) => false,
    };
    let ends = match fields.code? {
        // idle_in_transaction_session_timeout, transaction_timeout, idle_session_timeout
        b"25P03" | b"25P04" | b"57P05" => true,
        b"57P01" => outcomes.iter().any(says),
        _ => false,
    };
    ends.then(|| Box::new(Report::of_server(body)))
}
