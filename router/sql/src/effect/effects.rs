//! What any statement may do to the session beside its own purpose.

use super::super::functions::Trait;
use super::super::name::Name;

/// Flags of one statement. If none is set, the tokens show no effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects<'a> {
    /// Whether it changes data, or must run where data may be changed.
    pub writes: Writes,
    /// `FOR UPDATE`, `FOR SHARE` and the like, and LOCK.
    pub locking: bool,
    /// Creates a temporary object, or names the schema pg_temp.
    pub temp_object: bool,
    /// Calls of set_config. A statement that may write and names `pg_settings` counts as an unclear one.
    pub set_config: SetConfig<'a>,
    /// Takes an advisory lock of the session.
    pub session_lock: bool,
    /// Gives back an advisory lock of the session.
    pub session_unlock: bool,
    /// Takes an advisory lock of the transaction. It must be taken on the same server
    /// by all clients.
    pub transaction_lock: bool,
    /// Asks for something that belongs to this backend: its temporary schema, its cursors.
    pub backend_identity: bool,
    /// Asks which statements this backend has prepared.
    pub prepared: bool,
    /// Names a function or view that shows or takes process numbers (pg_backend_pid, pg_stat_activity), or shows the
    /// client's text (current_query).
    pub processes: bool,
    /// `nextval`, `setval`: the backend will remember the value for currval.
    pub sequence_write: bool,
    /// `currval`, `lastval`: what the backend remembers.
    pub sequence_read: bool,
    /// `setseed` and `SET seed`.
    pub seed: bool,
    /// `LISTEN`
    pub listen: bool,
    /// `DECLARE ... WITH HOLD`
    pub with_hold: bool,
    /// `LOAD`
    pub load: bool,
    /// Creates a replication slot, or begins a backup.
    pub slot: bool,
    /// Runs code that tokens do not show: DO, CALL, query_to_xml, dblink. EXECUTE does what the prepared statement
    /// does, and does not set this flag.
    pub opaque: bool,
    /// PostgreSQL refuses it in a transaction block, always or in some of its forms.
    pub outside_block: bool,
    /// It has a token without an end, a byte that begins no token, a token that versions of PostgreSQL read
    /// differently, or a name that PostgreSQL refuses.
    pub uncertain: bool,
    /// What looks like a call of a function, each name once, in order of appearance. It may have names that are no
    /// calls (`t (a, b)`, an alias of a table without AS). It has every call with parentheses that the statement may
    /// run, so not those that a definition only stores.
    pub functions: Vec<FunctionName<'a>>,
}

impl<'a> Effects<'a> {
    /// What must be assumed of a text that was not understood.
    pub(super) fn unknown() -> Self {
        Effects {
            writes: Writes::Perhaps,
            opaque: true,
            uncertain: true,
            set_config: SetConfig::Unclear,
            ..Effects::default()
        }
    }

    /// Why the session must stay on its server after this statement, in the order of [`Pin::ALL`]. A clear set_config
    /// is no reason here; the session follows it.
    pub fn pins(&self) -> impl Iterator<Item = Pin> + '_ {
        [
            (self.temp_object, Pin::TempObject),
            (self.session_lock, Pin::AdvisoryLock),
            (self.listen, Pin::Listen),
            (self.with_hold, Pin::HoldCursor),
            (self.backend_identity, Pin::BackendIdentity),
            (self.prepared, Pin::Prepared),
            (self.sequence_read, Pin::SequenceState),
            (self.seed, Pin::Seed),
            (self.load, Pin::Load),
            (self.slot, Pin::Slot),
            (self.set_config == SetConfig::Speed, Pin::SpeedSetting),
            (self.set_config == SetConfig::Unclear, Pin::UnclearSetting),
            (self.opaque, Pin::Opaque),
        ]
        .into_iter()
        .filter_map(|(raised, pin)| raised.then_some(pin))
    }

    /// Whether tokens prove that it only reads, and reads the same on any server that
    /// has the rows, provided that its functions which are not built in only read too.
    pub fn reads_only(&self) -> bool {
        self.writes == Writes::No
            && !self.locking
            && !self.uncertain
            && self.pins().next().is_none()
            && self.set_config == SetConfig::None
            && self
                .functions
                .iter()
                .all(|function| function.special().is_none())
    }
}

/// Whether a statement changes data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Writes {
    /// Not by anything that tokens show.
    #[default]
    No,
    /// Cannot be told.
    Perhaps,
    /// Yes.
    Yes,
}

/// Why a session must keep its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pin {
    /// A temporary table, view, sequence or function.
    TempObject,
    /// An advisory lock that outlives the transaction.
    AdvisoryLock,
    /// Notifications come to the backend that listens.
    Listen,
    /// A cursor that outlives the transaction.
    HoldCursor,
    /// The client was told something that is true of this backend only.
    BackendIdentity,
    /// `pg_prepared_statements`
    Prepared,
    /// currval, lastval.
    SequenceState,
    /// The seed of random().
    Seed,
    /// A library was loaded.
    Load,
    /// A replication slot was created, perhaps a temporary one, which ends with its backend; or a backup is under way.
    Slot,
    /// A setting that changes no answer (`jit`) was changed in a way that cannot be followed.
    SpeedSetting,
    /// Any other setting may have been changed in a way that cannot be followed.
    UnclearSetting,
    /// Code ran that tokens do not show.
    Opaque,
}

impl Pin {
    /// All reasons.
    pub const ALL: [Pin; 13] = [
        Pin::TempObject,
        Pin::AdvisoryLock,
        Pin::Listen,
        Pin::HoldCursor,
        Pin::BackendIdentity,
        Pin::Prepared,
        Pin::SequenceState,
        Pin::Seed,
        Pin::Load,
        Pin::Slot,
        Pin::SpeedSetting,
        Pin::UnclearSetting,
        Pin::Opaque,
    ];

    /// The reason in words, as the console shows it.
    pub fn reason(self) -> &'static str {
        match self {
            Pin::TempObject => "temporary object",
            Pin::AdvisoryLock => "session advisory lock",
            Pin::Listen => "listen",
            Pin::HoldCursor => "cursor with hold",
            Pin::BackendIdentity => "backend identity",
            Pin::Prepared => "prepared statements",
            Pin::SequenceState => "currval or lastval",
            Pin::Seed => "random seed",
            Pin::Load => "loaded library",
            Pin::Slot => "replication slot or backup",
            Pin::SpeedSetting => "set_config of jit",
            Pin::UnclearSetting => "unclear set_config",
            Pin::Opaque => "code that cannot be seen",
        }
    }
}

/// The calls of set_config in a statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SetConfig<'a> {
    /// None.
    #[default]
    None,
    /// The statement is `SELECT` of nothing but such calls, with literals and parameters, and is not
    /// [`SetConfig::Speed`].
    Calls(Vec<SetConfigCall<'a>>),
    /// Calls that set only `jit`, which changes no answer, but not with literals alone as in `Calls`. asyncpg turns
    /// `jit` off in this way while it looks up a type.
    Speed,
    /// Any other mention of it, a write that names `pg_settings`, or a text that was not understood.
    Unclear,
}

/// `set_config(name, value, is_local)`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetConfigCall<'a> {
    /// The setting, in lower case if it is a literal.
    pub name: Argument<'a>,
    /// The value; NULL means the default.
    pub value: Argument<'a>,
    /// Until the end of the transaction only.
    pub local: bool,
}

/// A literal or a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument<'a> {
    /// `NULL`
    Null,
    /// `'...'`, decoded.
    Text(Name<'a>),
    /// `$n`, from 1.
    Param(u16),
}

/// A function as it was called.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FunctionName<'a> {
    /// The last qualifier before the name.
    pub schema: Option<Name<'a>>,
    /// The name.
    pub name: Name<'a>,
}

impl FunctionName<'_> {
    /// What is special about the built-in function of this name. The schema is not looked at: the call may mean a
    /// function of a user with the same name.
    pub fn special(&self) -> Option<Trait> {
        super::super::functions::special(self.name.as_bytes())
    }
}

impl std::fmt::Debug for FunctionName<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}
