//! What one server has said since its session looked last, and what follows when its statements end.
//!
//! Pure. [`State::on_server`](super::state::State::on_server) writes it, a message at a time; the socket side reads it.

use super::digest::Digest;
use super::touched::WrittenParts;
use super::turns::StandingSavepoint;
use crate::core::Notifiers;
use crate::core::lists::{Describing, Lists, Outcome};
use crate::statements::errors::Written;
use crate::statements::settings::{Change, SessionSettings};
use crate::statements::step::{Kind, Pins};
use mothership_catalog::Oids;
use mothership_plan::Merge;
use mothership_pool::health::CommitClock;
use mothership_proto::backend;
use mothership_proto::frame::{Frame, HEADER};
use mothership_proto::report::Fields;
use mothership_shardmap::ShardId;
use mothership_sql::effect::DiscardWhat;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

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
    /// Describes under way, in order; a portal's has no statement.
    pub describing: VecDeque<Describing>,
    /// A statement is described otherwise than before: a table was changed.
    pub changed: bool,
    /// The digest of the description that is being read.
    pub digest: Digest,
    /// The first value of the first row that answered a question of the router's own since this was emptied.
    pub row: Option<String>,
    /// An error of the router's own request.
    pub router_error: Option<Vec<u8>>,
    /// The router's own request is private: its errors are not the client's.
    pub private: bool,
    /// The server's prepared statements are gone.
    pub discarded: bool,
    /// Something failed: a Parse that did leaves no unnamed statement behind.
    pub unnamed_lost: bool,
    /// The server said that it ends the connection.
    pub fatal: bool,
    /// It said so because it goes or starts itself, or because an administrator ended this session.
    pub leaving: bool,
    /// Something of the statement under way was passed to the client.
    pub passed: bool,
    /// A statement under way may write, so that its loss leaves the outcome unknown.
    pub may_write: bool,
    /// A COMMIT is under way.
    pub committing: bool,
    /// So many requests of our own, such as BEGIN, went ahead of the client's statement and are not answered.
    pub ahead: u32,
    /// A lock of the router's own went ahead of the Execute under way and is not answered.
    pub locks_ahead: bool,
    /// The transaction block is open here.
    pub in_block: bool,
    /// Nothing that the server has done in it needs the server: it has described, or set what each one is told that joins.
    pub stands_by: bool,
    /// Something may have been written in it.
    pub wrote: bool,
    /// What that was, since the last transaction ended.
    pub touched: WrittenParts,
    /// Why the session must stay on this server.
    pub pins: Pins,
    /// A statement has run here that may have changed settings in a way that is not followed.
    pub unfollowed: bool,
    /// The connection can serve nobody else: what was left on it, no statement takes away.
    pub spoiled: bool,
    /// Extended messages were sent since the last Sync.
    pub in_segment: bool,
    /// How the shard's object ids differ from those that clients are told.
    pub oids: Option<Arc<Oids>>,
    /// How many events of the transaction the server was told.
    pub told: usize,
    /// The branch carries the transaction's mark, taken after so many events.
    pub mark: Option<usize>,
    /// The number of the server's own process.
    pub process: i32,
    /// Whose notifications come from other processes.
    pub notifiers: Option<Arc<Notifiers>>,
    /// The savepoint of the router's own that stands.
    pub saved: Option<StandingSavepoint>,
    /// The one that was set for the statement that runs.
    pub saved_now: Option<Saved>,
    /// The shard of the server.
    pub shard: ShardId,
    /// Which notices the client is shown, where several servers run one statement.
    pub notices: Notices,
    /// The server refused a write because it is read-only (25006).
    pub read_only: bool,
    /// Counts the acknowledged writes of the shard.
    pub clock: Option<Arc<CommitClock>>,
    /// Where the text of the simple query under way comes from, if it is not the client's own.
    pub written: Option<Rc<Written>>,
}

/// The savepoint of the router's own that was set for the statement that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The server had the mark of the transaction before.
    pub marked: bool,
}

/// Notices of one server among several that run one statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Notices {
    /// Another one says the same.
    #[default]
    None,
    /// Those that a function has raised, which are about rows of this shard alone.
    OfRows,
    /// All of them.
    All,
}

impl Notices {
    /// Of a statement that each server runs in the same way.
    pub fn of_same(leg: usize) -> Notices {
        match leg {
            0 => Notices::All,
            _ => Notices::None,
        }
    }

    /// Of a statement whose answers are merged like this.
    pub fn of(leg: usize, merge: &Merge) -> Notices {
        match (leg, merge) {
            (0, _) => Notices::All,
            (_, Merge::First) => Notices::None,
            _ => Notices::OfRows,
        }
    }

    /// Whether this one is shown. What a function raises says where it was, what is wrong with a text does not.
    pub fn shows(self, body: &[u8]) -> bool {
        match self {
            Notices::None => false,
            Notices::OfRows => Fields::read(body).context.is_some(),
            Notices::All => true,
        }
    }
}

impl Inbox {
    /// Whether the session must stay on this server.
    pub fn is_pinned(&self) -> bool {
        !self.pins.is_empty()
    }

    /// A message of the server in the client's object ids; `None` if it is so already.
    pub fn translated(&self, frame: Frame<'_>) -> Option<Vec<u8>> {
        self.oids.as_ref()?.at_home(frame)
    }

    /// A notification with the number of the client that it comes from, where that is known; the client's own number is
    /// `own`. `None` if it stays as it is.
    pub fn notification(&self, frame: Frame<'_>, own: i32) -> Option<Vec<u8>> {
        let process = i32::from_be_bytes(*frame.body().first_chunk()?);
        let client = match process == self.process {
            true => own,
            false => self.notifiers.as_ref()?.client_of((self.shard, process))?,
        };
        let mut bytes = frame.bytes.to_vec();
        bytes[HEADER..][..size_of::<i32>()].copy_from_slice(&client.to_be_bytes());
        Some(bytes)
    }

    /// Parameter types that a client declares, as the shard calls them.
    pub fn types_on_shard<'a>(&self, types: &'a [u8]) -> Cow<'a, [u8]> {
        match &self.oids {
            Some(oids) => Cow::Owned(oids.on_shard(types)),
            None => Cow::Borrowed(types),
        }
    }

    /// Where the text of the statement under way comes from. Everything before a parsed EXECUTE is answered when it is
    /// sent, so that it is the first whose outcome is awaited.
    pub(super) fn written(&self) -> Option<Rc<Written>> {
        let parsed = match self.outcomes.front() {
            Some(Outcome::Runs(statement, ..)) => statement.runs.as_ref(),
            _ => None,
        };
        parsed
            .map(|runs| &runs.written)
            .or(self.written.as_ref())
            .cloned()
    }

    /// Keeps the types of the parameters of the statement that is described, in the client's object ids.
    pub(super) fn keep_types(&self, frame: Frame<'_>) {
        let Some(statement) = self.describing.front().and_then(Describing::statement) else {
            return;
        };
        let translated = self.translated(frame);
        let body = translated
            .as_deref()
            .map_or(frame.body(), |bytes| &bytes[HEADER..]);
        let types = body.get(2..).unwrap_or_default();
        statement.parameter_types.get_or_init(|| types.into());
    }

    /// Keeps the first value of a row that is for the router.
    pub(super) fn keep_row(&mut self, frame: Frame<'_>) {
        if self.row.is_some() {
            return;
        }
        let values = backend::row_values(frame.body()).unwrap_or_default();
        let first = values.first().copied().flatten();
        self.row = first.map(|value| String::from_utf8_lossy(value).into_owned());
    }

    /// The connection followed a statement.
    pub fn follow(&mut self, kind: &Kind, command: &[u8]) {
        follow(&mut self.carried, kind, command);
    }

    /// For a connection to `shard` that carries these settings, in what is left of another one.
    pub fn new(shard: ShardId, carried: SessionSettings, lists: Lists) -> Self {
        Self {
            shard,
            carried,
            outcomes: lists.outcomes,
            parsed: lists.parsed,
            describing: lists.describing,
            ..Self::default()
        }
    }

    /// Its lists, emptied, for another one.
    pub fn into_lists(self) -> Lists {
        let mut lists = Lists {
            outcomes: self.outcomes,
            parsed: self.parsed,
            describing: self.describing,
        };
        lists.outcomes.clear();
        lists.parsed.clear();
        lists.describing.clear();
        lists
    }
}

/// What a statement that ended well does to a list of settings.
pub(super) fn follow(settings: &mut SessionSettings, kind: &Kind, command: &[u8]) {
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
