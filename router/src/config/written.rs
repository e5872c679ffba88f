//! The file as it is written, before values are compared with each other.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::DeTable;

use super::auth::{Auth, User};
use super::failover::Failover;
use super::limits::Limits;
use super::listen::{Listen, Tls};
use super::observe::{Console, Logging, Metrics};
use super::pool::{Balance, Pool};
use super::problem::{Findings, Problems};
use super::rules::WrittenRule;
use super::section::{Applies, Entries, Reader, Shown, Surroundings, settings};
use super::shards::{WrittenDatabase, WrittenShard};
use super::tables::{TableDefaults, WrittenStrategy, WrittenTable};
use super::transactions::{Catalog, Control, Sequences, Transactions};
use super::value::Value;
use super::{Config, check};

settings! {
    /// The whole file.
    pub(crate) struct Written {
        /// Where clients connect.
        restart listen: Listen;
        /// TLS towards clients.
        restart tls: Tls;
        /// How clients log in.
        restart auth: Auth;
        /// Users with something of their own.
        reload user: Vec<User>;
        /// Databases as clients see them.
        reload database: Vec<WrittenDatabase>;
        /// The shards, at least one.
        restart shard: Vec<WrittenShard>;
        /// Tables that nothing is said about.
        restart tables: TableDefaults;
        /// Tables.
        restart table: Vec<WrittenTable>;
        /// Ways to map keys to shards.
        restart strategy: Vec<WrittenStrategy>;
        /// Rules.
        reload rule: Vec<WrittenRule>;
        /// Server connections.
        restart pool: Pool;
        /// Which server serves a read.
        restart balance: Balance;
        /// Requests while a shard has no primary.
        restart failover: Failover;
        /// Transactions over several shards.
        restart transactions: Transactions;
        /// What the router knows of tables.
        restart catalog: Catalog;
        /// Values from sequences.
        restart sequences: Sequences;
        /// The router's own logins.
        restart control: Control;
        /// The largest of everything else.
        restart limits: Limits;
        /// Metrics over HTTP.
        restart metrics: Metrics;
        /// The admin console.
        restart console: Console;
        /// The log.
        restart logging: Logging;
    }
}

impl Written {
    /// Every setting by its path.
    pub(crate) fn entries(&self) -> Entries {
        let mut entries = Entries::new();
        let none = Shown {
            value: String::new(),
            default: None,
            applies: Applies::Restart,
            secret: None,
        };
        self.enter("", &none, &mut entries);
        entries
    }
}

/// Reads and checks `text`.
pub(crate) fn read(
    path: &Path,
    text: &str,
    surroundings: &dyn Surroundings,
) -> Result<Config, Problems> {
    let (table, mistakes) = DeTable::parse_recoverable(text);
    let mut findings = Findings::default();
    for mistake in &mistakes {
        let at = mistake.span().map_or(0, |span| span.start);
        findings.add(at, format!("not TOML: {}", mistake.message()), "");
    }
    // What a broken file was meant to say is anyone's guess.
    if !findings.is_empty() {
        return Err(findings.locate(path, text));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut reader = Reader {
        findings,
        incomplete: false,
        folder,
        surroundings,
        range: None,
        places: BTreeMap::new(),
    };
    let written = Written::read_table(table.get_ref(), 0, "", &mut reader);
    let config = match written {
        Some(written) if !reader.incomplete => {
            check::check(written, &reader.places, &mut reader.findings)
        }
        _ => None,
    };
    match config {
        Some(config) if reader.findings.is_empty() => Ok(config),
        _ => Err(reader.findings.locate(path, text)),
    }
}
