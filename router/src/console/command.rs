//! The commands of the console: one table of them, and their grammar.
//!
//! Text in, a [`Command`] or an error out; nothing is done here. What is not in the
//! tables does not exist; `docs/console.md` is made from them.

use super::columns;
use super::table::Column;
use mothership_proto::report::{Report, sqlstate};
use std::borrow::Cow;

/// What a user of the console may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Stats,
    /// Everything.
    Admin,
}

/// One command, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A table.
    Show(&'static Show),
    /// The list of commands.
    Help,
    /// A setting that drivers ask for.
    ShowDriverSetting(&'static str, &'static str),
    /// A setting that drivers set, to no effect.
    SetDriverSetting,
    /// Transaction control, to no effect.
    Block(Block),
    /// Something is done, with its argument.
    Act(&'static Act, Argument),
    /// SET of a setting of the router.
    Set {
        /// Its name.
        key: String,
        /// The value as text.
        value: String,
    },
}

impl Command {
    /// Who may give it.
    pub fn needs(&self) -> Role {
        match self {
            Self::Show(show) => show.needs,
            Self::Act(..) | Self::Set { .. } => Role::Admin,
            Self::Help | Self::ShowDriverSetting(..) | Self::SetDriverSetting | Self::Block(_) => {
                Role::Stats
            }
        }
    }

    /// The columns of its answer, if it has rows. `with_logins`: see [`columns::STATS`].
    pub fn columns(&self, with_logins: bool) -> Option<Vec<Column>> {
        match self {
            Self::Show(show) => Some(show.columns(with_logins)),
            Self::ShowDriverSetting(name, _) => Some(vec![(name, super::table::Type::Text)]),
            _ => None,
        }
    }
}

/// Transaction control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// BEGIN, START.
    Begin,
    /// COMMIT, END.
    Commit,
    /// ROLLBACK, ABORT.
    Rollback,
}

/// What a SHOW command shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The words are the commands.
pub enum ShowTopic {
    Stats,
    StatsTotals,
    StatsAverages,
    Totals,
    Pools,
    Databases,
    Clients,
    Servers,
    Sockets,
    ActiveSockets,
    Lists,
    Config,
    Users,
    Peers,
    PeerPools,
    Fds,
    Mem,
    DnsHosts,
    DnsZones,
    Version,
    State,
    Shards,
    Map,
    Endpoints,
    Rules,
    Pins,
    Plans,
    Transactions,
    PoolsExtended,
}

/// A SHOW command.
#[derive(Debug, PartialEq, Eq)]
pub struct Show {
    /// What it shows.
    pub what: ShowTopic,
    /// Its word.
    pub word: &'static str,
    /// Who may give it.
    pub needs: Role,
    /// False for commands that PgBouncer does not have.
    pub is_pgbouncers: bool,
    columns: &'static [Column],
    /// For the documentation.
    pub about: &'static str,
}

impl Show {
    /// Its columns.
    pub fn columns(&self, with_logins: bool) -> Vec<Column> {
        let all = match self.what {
            ShowTopic::Sockets | ShowTopic::ActiveSockets => {
                [columns::SOCKET, columns::SOCKET_MORE].concat()
            }
            _ => self.columns.to_vec(),
        };
        let is_login = |name: &str| name.ends_with("client_login_count");
        all.into_iter()
            .filter(|(name, _)| with_logins || !is_login(name))
            .collect()
    }
}

const fn theirs(
    what: ShowTopic,
    word: &'static str,
    columns: &'static [Column],
    about: &'static str,
) -> Show {
    Show {
        what,
        word,
        needs: Role::Stats,
        is_pgbouncers: true,
        columns,
        about,
    }
}

const fn ours(
    what: ShowTopic,
    word: &'static str,
    columns: &'static [Column],
    about: &'static str,
) -> Show {
    Show {
        is_pgbouncers: false,
        ..theirs(what, word, columns, about)
    }
}

/// Every SHOW command but HELP.
pub const SHOWS: &[Show] = &[
    theirs(
        ShowTopic::Stats,
        "STATS",
        columns::STATS,
        "Totals since the start and averages of the last minute, for each database. Times are in microseconds. Averages: counts and bytes a second, times for each transaction, query or assignment.",
    ),
    theirs(
        ShowTopic::StatsTotals,
        "STATS_TOTALS",
        columns::STATS_TOTALS,
        "The totals alone.",
    ),
    theirs(
        ShowTopic::StatsAverages,
        "STATS_AVERAGES",
        columns::STATS_AVERAGES,
        "The averages alone.",
    ),
    theirs(
        ShowTopic::Totals,
        "TOTALS",
        columns::TOTALS,
        "The same over all databases, one number a row.",
    ),
    theirs(
        ShowTopic::Pools,
        "POOLS",
        columns::POOLS,
        "Clients and server connections per database and PostgreSQL role, summed over all servers and workers. `cl_active` also counts idle clients. `maxwait` is the longest time that a currently waiting client has waited.",
    ),
    theirs(
        ShowTopic::Databases,
        "DATABASES",
        columns::DATABASES,
        "Databases by the clients' names. Host and port are those of the home shard's primary.",
    ),
    theirs(
        ShowTopic::Clients,
        "CLIENTS",
        columns::SOCKET,
        "Each client. `id` is what KILL_CLIENT takes; `link` is the `ptr` of its server connection, of several the first.",
    ),
    theirs(
        ShowTopic::Servers,
        "SERVERS",
        columns::SOCKET,
        "Each server connection.",
    ),
    theirs(
        ShowTopic::Sockets,
        "SOCKETS",
        columns::SOCKET,
        "Client and server connections. The buffer positions are always 0.",
    ),
    theirs(
        ShowTopic::ActiveSockets,
        "ACTIVE_SOCKETS",
        columns::SOCKET,
        "Those in use.",
    ),
    theirs(
        ShowTopic::Lists,
        "LISTS",
        columns::LISTS,
        "The number of databases, users, pools, clients, servers and other objects.",
    ),
    theirs(
        ShowTopic::Config,
        "CONFIG",
        columns::CONFIG,
        "Every setting by its own name, and those that PgBouncer has by PgBouncer's. Secrets are `***`.",
    ),
    theirs(
        ShowTopic::Users,
        "USERS",
        columns::USERS,
        "Users that are declared or connected.",
    ),
    theirs(
        ShowTopic::Peers,
        "PEERS",
        columns::PEERS,
        "Always empty: the router has no PgBouncer peers.",
    ),
    theirs(
        ShowTopic::PeerPools,
        "PEER_POOLS",
        columns::PEER_POOLS,
        "Empty.",
    ),
    Show {
        needs: Role::Admin,
        ..theirs(
            ShowTopic::Fds,
            "FDS",
            columns::FDS,
            "Empty: sockets are not handed over, and cancel keys and passwords are not shown.",
        )
    },
    theirs(
        ShowTopic::Mem,
        "MEM",
        columns::MEM,
        "What the router keeps of clients, servers and statements, in bytes.",
    ),
    theirs(
        ShowTopic::DnsHosts,
        "DNS_HOSTS",
        columns::DNS_HOSTS,
        "Always empty: the system's resolver looks up host names, and this table does not list the addresses that the router remembers (`pool.resolve_interval`).",
    ),
    theirs(
        ShowTopic::DnsZones,
        "DNS_ZONES",
        columns::DNS_ZONES,
        "Empty.",
    ),
    theirs(
        ShowTopic::Version,
        "VERSION",
        columns::VERSION,
        "The PgBouncer version that the console emulates (`console.version`), and the router's own version.",
    ),
    theirs(
        ShowTopic::State,
        "STATE",
        columns::STATE,
        "Whether everything is active, paused or suspended.",
    ),
    ours(
        ShowTopic::Shards,
        "SHARDS",
        columns::SHARDS,
        "The shards: their slots, servers and connections.",
    ),
    ours(
        ShowTopic::Map,
        "MAP",
        columns::MAP,
        "Where the rows of tables live. The first rows are the declared tables; their `database` is NULL, and `*` stands for all undeclared tables. The next rows are the existing tables of each database, with their colocation group, the slots or rows of each shard, the constraints that no shard can enforce, and the differences between the shards.",
    ),
    ours(
        ShowTopic::Endpoints,
        "ENDPOINTS",
        columns::ENDPOINTS,
        "Each server: its role, health, lag and load. NULL is what is not known.",
    ),
    ours(
        ShowTopic::Rules,
        "RULES",
        columns::RULES,
        "The rules in order; the first matching rule applies. An empty column matches everything. `matched` counts the requests to which the rule was applied.",
    ),
    ours(
        ShowTopic::Pins,
        "PINS",
        columns::PINS,
        "Clients that keep a server connection, since when and why: a row for each of their servers.",
    ),
    ours(
        ShowTopic::Plans,
        "PLANS",
        columns::PLANS,
        "Cached plans by the shape of the statement, without any value.",
    ),
    ours(
        ShowTopic::Transactions,
        "TRANSACTIONS",
        columns::TRANSACTIONS,
        "Unfinished branches of transactions over several shards. `decision` shows the decision, or why a prepared branch is not finished yet.",
    ),
    ours(
        ShowTopic::PoolsExtended,
        "POOLS_EXTENDED",
        columns::POOLS_EXTENDED,
        "Each pool of each worker by server, with database and user as the server knows them.",
    ),
];

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The words are the commands.
pub enum AdminAction {
    Pause,
    Resume,
    Disable,
    Enable,
    Reconnect,
    Kill,
    KillClient,
    Suspend,
    Reload,
    Shutdown,
    WaitClose,
    Switchover,
    Promoted,
    DisableServer,
    EnableServer,
    DrainServer,
    WeightServer,
    ResetServer,
    ResetServers,
}

/// What may follow a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// Nothing.
    Nothing,
    /// A database, or nothing for all.
    MaybeDatabase,
    /// A database.
    Database,
    /// The id of a client.
    Client,
    /// How to end.
    Manner,
    /// A shard.
    Shard,
    /// A shard, and perhaps the address of a server.
    ShardAndServer,
    /// The address of a server.
    Server,
    /// The address of a server, and a number.
    ServerAndWeight,
}

/// A command that does something. All of them need the role admin.
#[derive(Debug, PartialEq, Eq)]
pub struct Act {
    /// What it does.
    pub action: AdminAction,
    /// Its word.
    pub word: &'static str,
    /// What may follow.
    pub takes: Arguments,
    /// For the documentation.
    pub about: &'static str,
}

/// Every command that does something, but SET.
pub const ACTS: &[Act] = &[
    Act {
        action: AdminAction::Pause,
        word: "PAUSE",
        takes: Arguments::MaybeDatabase,
        about: "No server connection is lent any more; clients wait. Connections are closed as they are given back, and the command returns when none is left. A cancel of the command, or the end of its client, resumes.",
    },
    Act {
        action: AdminAction::Resume,
        word: "RESUME",
        takes: Arguments::MaybeDatabase,
        about: "Ends PAUSE, KILL and SUSPEND.",
    },
    Act {
        action: AdminAction::Disable,
        word: "DISABLE",
        takes: Arguments::Database,
        about: "New clients of the database are refused.",
    },
    Act {
        action: AdminAction::Enable,
        word: "ENABLE",
        takes: Arguments::Database,
        about: "Ends DISABLE.",
    },
    Act {
        action: AdminAction::Reconnect,
        word: "RECONNECT",
        takes: Arguments::MaybeDatabase,
        about: "Closes each server connection as it is given back, so that new ones are opened.",
    },
    Act {
        action: AdminAction::Kill,
        word: "KILL",
        takes: Arguments::MaybeDatabase,
        about: "Disconnects clients and servers at once and pauses.",
    },
    Act {
        action: AdminAction::KillClient,
        word: "KILL_CLIENT",
        takes: Arguments::Client,
        about: "Disconnects one client with 57P01, and its servers.",
    },
    Act {
        action: AdminAction::Suspend,
        word: "SUSPEND",
        takes: Arguments::Nothing,
        about: "No request is taken from clients; what is under way is finished. Ended by RESUME.",
    },
    Act {
        action: AdminAction::Reload,
        word: "RELOAD",
        takes: Arguments::Nothing,
        about: "Reads the configuration again. If the new file has errors, the router keeps the old configuration and lists all errors in the DETAIL field. A warning names the settings that only a restart changes and that stay as they were.",
    },
    Act {
        action: AdminAction::Shutdown,
        word: "SHUTDOWN",
        takes: Arguments::Manner,
        about: "Ends at once; with WAIT_FOR_SERVERS when transactions have ended (as SIGTERM); with WAIT_FOR_CLIENTS when all clients have left by themselves.",
    },
    Act {
        action: AdminAction::WaitClose,
        word: "WAIT_CLOSE",
        takes: Arguments::MaybeDatabase,
        about: "Returns when RECONNECT or RELOAD has replaced all server connections.",
    },
    Act {
        action: AdminAction::Switchover,
        word: "SWITCHOVER",
        takes: Arguments::ShardAndServer,
        about: "Makes a replica the primary of the shard: the one at this address, or the one that is the least behind. New transactions wait, and open ones may finish within `failover.drain`. Then the old primary refuses all writes, and the router promotes the replica after it has replayed all WAL. If anything fails before the promotion, or the command is cancelled, nothing has changed. docs/failover.md says which rights the control role needs.",
    },
    Act {
        action: AdminAction::Promoted,
        word: "PROMOTED",
        takes: Arguments::Shard,
        about: "Asks the servers of the shard for their roles at once, after somebody else has promoted one, and returns when there is a primary.",
    },
    Act {
        action: AdminAction::DisableServer,
        word: "DISABLE SERVER",
        takes: Arguments::Server,
        about: "The server gets nothing new from clients, in every shard that has its address. What is under way there goes on. See below.",
    },
    Act {
        action: AdminAction::DrainServer,
        word: "DRAIN SERVER",
        takes: Arguments::Server,
        about: "The same, and returns when nothing is under way there any more; then its connections are closed. A cancel of the command, or the end of its client, puts back what was before.",
    },
    Act {
        action: AdminAction::EnableServer,
        word: "ENABLE SERVER",
        takes: Arguments::Server,
        about: "Ends DISABLE SERVER and DRAIN SERVER.",
    },
    Act {
        action: AdminAction::WeightServer,
        word: "WEIGHT SERVER",
        takes: Arguments::ServerAndWeight,
        about: "The server's part of the reads, from 0 to 10000, in place of the `weight` of the configuration; 0 takes none while another can.",
    },
    Act {
        action: AdminAction::ResetServer,
        word: "RESET SERVER",
        takes: Arguments::Server,
        about: "Undoes all that was set of the server by hand.",
    },
    Act {
        action: AdminAction::ResetServers,
        word: "RESET SERVERS",
        takes: Arguments::Nothing,
        about: "The same for all servers.",
    },
];

/// What followed a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// Nothing.
    None,
    /// A database.
    Database(String),
    /// A client's id.
    Client(u64),
    /// A shard, and perhaps the address of a server.
    Shard(String, Option<String>),
    /// The address of a server.
    Server(String),
    /// The address of a server, and its part of the reads.
    Weight(String, u32),
    /// `WAIT_FOR_SERVERS`
    WaitForServers,
    /// `WAIT_FOR_CLIENTS`
    WaitForClients,
}

/// Settings that drivers ask for and set, with what they are told. A few stand here
/// because they are often set at the beginning of a session.
pub const DRIVER_SETTINGS: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("default_transaction_isolation", "read committed"),
    ("standard_conforming_strings", "on"),
    ("datestyle", "ISO"),
    ("timezone", "GMT"),
    ("extra_float_digits", "2"),
    ("transaction_isolation", "read committed"),
    ("intervalstyle", "postgres"),
    ("application_name", ""),
    ("search_path", "\"$user\", public"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("client_min_messages", "notice"),
    ("bytea_output", "hex"),
];

/// As `weight` in the configuration.
const MAX_WEIGHT: u32 = 10_000;

/// Reads one statement, without its semicolon.
pub fn parse(text: &str) -> Result<Command, Report> {
    let wrong = || {
        let shown: String = text.trim().chars().take(200).collect();
        Report::error(
            sqlstate::SYNTAX_ERROR,
            format!("invalid command '{shown}', use SHOW HELP;"),
        )
    };
    let words = words(text).ok_or_else(wrong)?;
    let [first, rest @ ..] = words.as_slice() else {
        return Err(wrong());
    };
    let verb = first.keyword().ok_or_else(wrong)?;
    match &*verb {
        "SHOW" | "SELECT" => show(rest).ok_or_else(wrong),
        "SET" => set(rest).ok_or_else(wrong),
        _ if let Some(found) = of_servers(&verb, rest) => {
            let (act, rest) = found;
            let argument = argument(act.takes, rest).ok_or_else(wrong)?;
            Ok(Command::Act(act, argument))
        }
        "RESET" | "DISCARD" | "DEALLOCATE" => Ok(Command::SetDriverSetting),
        "BEGIN" | "START" => Ok(Command::Block(Block::Begin)),
        "COMMIT" | "END" => Ok(Command::Block(Block::Commit)),
        "ROLLBACK" | "ABORT" => Ok(Command::Block(Block::Rollback)),
        _ => {
            let act = ACTS.iter().find(|act| act.word == verb);
            let act = act.ok_or_else(wrong)?;
            let argument = argument(act.takes, rest).ok_or_else(wrong)?;
            Ok(Command::Act(act, argument))
        }
    }
}

/// A command of two words, with what follows it. `DISABLE server` alone is one about a database of that name.
fn of_servers<'w, 'a>(verb: &str, rest: &'w [Word<'a>]) -> Option<(&'static Act, &'w [Word<'a>])> {
    let (second, rest) = rest.split_first()?;
    let word = format!("{verb} {}", second.keyword()?);
    let act = ACTS.iter().find(|act| act.word == word)?;
    (act.takes == Arguments::Nothing || !rest.is_empty()).then_some((act, rest))
}

fn show(rest: &[Word<'_>]) -> Option<Command> {
    let keywords: Option<Vec<String>> = rest.iter().map(Word::keyword).collect();
    let keywords = keywords?;
    let name = match keywords.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["TRANSACTION", "ISOLATION", "LEVEL"] => "TRANSACTION_ISOLATION".to_owned(),
        ["TIME", "ZONE"] => "TIMEZONE".to_owned(),
        [one] => one.to_owned(),
        _ => return None,
    };
    if name == "HELP" {
        return Some(Command::Help);
    }
    let setting = DRIVER_SETTINGS
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case(&name));
    if let Some((name, value)) = setting {
        return Some(Command::ShowDriverSetting(name, value));
    }
    SHOWS
        .iter()
        .find(|show| show.word == name)
        .map(Command::Show)
}

/// `SET [SESSION | LOCAL] key {= | TO} value`, and the forms of SQL that drivers send.
fn set(rest: &[Word<'_>]) -> Option<Command> {
    let rest = match rest.first()?.keyword().as_deref() {
        Some("SESSION" | "LOCAL") => &rest[1..],
        _ => rest,
    };
    let key = rest.first()?;
    // SET TIME ZONE and its like have no sign of equality.
    if let Some("TIME" | "NAMES" | "CHARACTERISTICS" | "TRANSACTION") = key.keyword().as_deref() {
        return Some(Command::SetDriverSetting);
    }
    let key = key.text().to_ascii_lowercase();
    let is_to = |word: &Word<'_>| *word == Word::Equals || word.keyword().as_deref() == Some("TO");
    let value = match rest.get(1..)? {
        [to, value @ ..] if is_to(to) && !value.is_empty() => value,
        _ => return None,
    };
    if DRIVER_SETTINGS.iter().any(|(name, _)| *name == key) {
        return Some(Command::SetDriverSetting);
    }
    match value {
        [Word::Equals] => None,
        [one] => Some(Command::Set {
            key,
            value: one.text().to_owned(),
        }),
        _ => None,
    }
}

fn argument(takes: Arguments, rest: &[Word<'_>]) -> Option<Argument> {
    if let (Arguments::ShardAndServer, [shard, server]) = (takes, rest)
        && ![shard, server].contains(&&Word::Equals)
    {
        let server = Some(server.text().to_owned());
        return Some(Argument::Shard(shard.text().to_owned(), server));
    }
    if let (Arguments::ServerAndWeight, [server, weight]) = (takes, rest)
        && *server != Word::Equals
    {
        let weight = weight.text().parse().ok().filter(|w| *w <= MAX_WEIGHT)?;
        return Some(Argument::Weight(server.text().to_owned(), weight));
    }
    let one = match rest {
        [] => None,
        [one] if *one != Word::Equals => Some(one),
        _ => return None,
    };
    match (takes, one) {
        (Arguments::Nothing | Arguments::MaybeDatabase | Arguments::Manner, None) => {
            Some(Argument::None)
        }
        (Arguments::MaybeDatabase | Arguments::Database, Some(name)) => {
            Some(Argument::Database(name.text().to_owned()))
        }
        (Arguments::Client, Some(id)) => id.text().parse().ok().map(Argument::Client),
        (Arguments::Manner, Some(word)) => match &*word.keyword()? {
            "WAIT_FOR_SERVERS" => Some(Argument::WaitForServers),
            "WAIT_FOR_CLIENTS" => Some(Argument::WaitForClients),
            _ => None,
        },
        (Arguments::Shard | Arguments::ShardAndServer, Some(name)) => {
            Some(Argument::Shard(name.text().to_owned(), None))
        }
        (Arguments::Server, Some(address)) => Some(Argument::Server(address.text().to_owned())),
        (Arguments::Nothing | Arguments::ServerAndWeight, Some(_)) => None,
        (
            Arguments::Database
            | Arguments::Client
            | Arguments::Shard
            | Arguments::ShardAndServer
            | Arguments::Server
            | Arguments::ServerAndWeight,
            None,
        ) => None,
    }
}

/// A word of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word<'a> {
    Bare(&'a str),
    Quoted(Cow<'a, str>),
    Equals,
}

impl Word<'_> {
    fn text(&self) -> &str {
        match self {
            Word::Bare(text) => text,
            Word::Quoted(text) => text,
            Word::Equals => "=",
        }
    }

    /// In upper case; nothing for what was quoted.
    fn keyword(&self) -> Option<String> {
        match self {
            Word::Bare(text) => Some(text.to_ascii_uppercase()),
            Word::Quoted(_) | Word::Equals => None,
        }
    }
}

/// Splits into words; comments are space. `None` if something is left open or is no
/// part of the grammar.
fn words(mut text: &str) -> Option<Vec<Word<'_>>> {
    let is_bare = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '$' | ':');
    let mut words = Vec::new();
    loop {
        text = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ';');
        if let Some(rest) = text.strip_prefix("--") {
            text = rest.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(rest) = text.strip_prefix("/*") {
            text = rest.split_once("*/")?.1;
        } else if let Some(rest) = text.strip_prefix('=') {
            words.push(Word::Equals);
            text = rest;
        } else if text.starts_with(['"', '\'']) {
            let (word, rest) = quoted(text)?;
            words.push(Word::Quoted(word));
            text = rest;
        } else if text.is_empty() {
            return Some(words);
        } else {
            let end = text.find(|c| !is_bare(c)).unwrap_or(text.len());
            if end == 0 {
                return None;
            }
            let (word, rest) = text.split_at(end);
            words.push(Word::Bare(word));
            text = rest;
        }
    }
}

/// A quoted text at the beginning, and what follows it. Two quotes mean one.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let quote = text.chars().next()?;
    let inside = &text[quote.len_utf8()..];
    let mut from = 0;
    loop {
        let end = from + inside[from..].find(quote)?;
        let rest = &inside[end + 1..];
        if !rest.starts_with(quote) {
            let doubled: String = [quote, quote].iter().collect();
            let word = &inside[..end];
            let word = match word.contains(&doubled) {
                true => Cow::Owned(word.replace(&doubled, &quote.to_string())),
                false => Cow::Borrowed(word),
            };
            return Some((word, rest));
        }
        from = end + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(action: AdminAction, argument: Argument) -> Command {
        let act = ACTS.iter().find(|act| act.action == action).unwrap();
        Command::Act(act, argument)
    }

    fn server(address: &str) -> Argument {
        Argument::Server(address.to_owned())
    }

    fn database(name: &str) -> Argument {
        Argument::Database(name.to_owned())
    }

    #[test]
    fn commands_are_understood() {
        let setting = |key: &str, value: &str| Command::Set {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        for (text, command) in [
            ("show help", Command::Help),
            (
                "SHOW datestyle",
                Command::ShowDriverSetting("datestyle", "ISO"),
            ),
            (
                "select TimeZone",
                Command::ShowDriverSetting("timezone", "GMT"),
            ),
            (
                "SHOW TRANSACTION ISOLATION LEVEL",
                Command::ShowDriverSetting("transaction_isolation", "read committed"),
            ),
            ("SET extra_float_digits = 3", Command::SetDriverSetting),
            (
                "SET SESSION datestyle TO 'ISO, MDY'",
                Command::SetDriverSetting,
            ),
            ("SET datestyle = ISO", Command::SetDriverSetting),
            ("set time zone 'UTC'", Command::SetDriverSetting),
            (
                "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
                Command::SetDriverSetting,
            ),
            ("set pool.max = 5", setting("pool.max", "5")),
            (
                "SET max_client_conn='a''b'",
                setting("max_client_conn", "a'b"),
            ),
            ("BEGIN READ ONLY", Command::Block(Block::Begin)),
            ("start transaction", Command::Block(Block::Begin)),
            ("END", Command::Block(Block::Commit)),
            ("pause", act(AdminAction::Pause, Argument::None)),
            ("PAUSE my-db", act(AdminAction::Pause, database("my-db"))),
            (
                "Pause \"My \"\"Db\"",
                act(AdminAction::Pause, database("My \"Db")),
            ),
            (
                "-- x\n/* y */ KILL /* z */ a",
                act(AdminAction::Kill, database("a")),
            ),
            (
                "KILL_CLIENT 12",
                act(AdminAction::KillClient, Argument::Client(12)),
            ),
            (
                "SWITCHOVER s1 db1b:5432",
                act(
                    AdminAction::Switchover,
                    Argument::Shard("s1".to_owned(), Some("db1b:5432".to_owned())),
                ),
            ),
            (
                "promoted \"s 1\"",
                act(
                    AdminAction::Promoted,
                    Argument::Shard("s 1".to_owned(), None),
                ),
            ),
            (
                "disable server db1:5432",
                act(AdminAction::DisableServer, server("db1:5432")),
            ),
            (
                "DISABLE server",
                act(AdminAction::Disable, database("server")),
            ),
            (
                "DRAIN SERVER '[::1]:5432'",
                act(AdminAction::DrainServer, server("[::1]:5432")),
            ),
            (
                "weight server db1 0",
                act(
                    AdminAction::WeightServer,
                    Argument::Weight("db1".to_owned(), 0),
                ),
            ),
            (
                "RESET SERVER db1",
                act(AdminAction::ResetServer, server("db1")),
            ),
            (
                "RESET SERVERS",
                act(AdminAction::ResetServers, Argument::None),
            ),
            ("RESET ALL", Command::SetDriverSetting),
            (
                "SHUTDOWN wait_for_clients",
                act(AdminAction::Shutdown, Argument::WaitForClients),
            ),
        ] {
            assert_eq!(parse(text).as_ref(), Ok(&command), "{text}");
        }
        for show in SHOWS {
            for verb in ["SHOW", "select"] {
                let text = format!(" {verb}\t{} ;", show.word.to_lowercase());
                assert_eq!(parse(&text), Ok(Command::Show(show)), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for text in [
            "foo",
            "",
            "SHOW",
            "SHOW STATS POOLS",
            "SHOW 'stats'",
            "SHOW foo",
            "SELECT 1 + 1",
            "PAUSE a b",
            "PAUSE \"a",
            "DISABLE",
            "KILL_CLIENT",
            "KILL_CLIENT x",
            "KILL_CLIENT -1",
            "RELOAD now",
            "SWITCHOVER",
            "SWITCHOVER a b c",
            "PROMOTED a b",
            "DRAIN SERVER",
            "DISABLE SERVER a b",
            "WEIGHT SERVER a",
            "WEIGHT SERVER a -1",
            "WEIGHT SERVER a 10001",
            "WEIGHT a 1",
            "RESET SERVERS a",
            "SHUTDOWN now",
            "SET a",
            "SET a =",
            "SET a = =",
            "SET a = b c",
            "SHOW STATS; DROP",
            "/* open",
            "SHOW $1::text",
            "SHOW \u{0}",
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.code, sqlstate::SYNTAX_ERROR, "{text}");
        }
    }

    #[test]
    fn pgbouncers_tables_have_pgbouncers_number_of_columns() {
        let count = |word: &str, with_logins| {
            let show = SHOWS.iter().find(|show| show.word == word).unwrap();
            show.columns(with_logins).len()
        };
        for (word, before, since) in [
            ("STATS", 23, 25),
            ("STATS_TOTALS", 12, 13),
            ("STATS_AVERAGES", 12, 13),
            ("POOLS", 17, 17),
            ("DATABASES", 17, 17),
            ("CLIENTS", 21, 21),
            ("SERVERS", 21, 21),
            ("SOCKETS", 28, 28),
            ("USERS", 8, 8),
            ("FDS", 15, 15),
        ] {
            assert_eq!(
                (count(word, false), count(word, true)),
                (before, since),
                "{word}"
            );
        }
    }
}
