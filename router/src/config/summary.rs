//! What `check-config` prints about a file that is right.

use std::fmt;

use super::documents::warnings;
use super::names::SLOTS;
use super::tables::Place;
use super::{Config, Server, Shard};

impl Config {
    /// A few lines about what the file amounts to. No secrets.
    pub fn summary(&self) -> impl fmt::Display + '_ {
        Summary(self)
    }
}

struct Summary<'a>(&'a Config);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.0;
        let listen = &config.listen;
        for address in &listen.address {
            writeln!(
                f,
                "listens on {}",
                std::net::SocketAddr::new(*address, listen.port)
            )?;
        }
        if let Some(folder) = &listen.unix_socket {
            writeln!(
                f,
                "listens on {}",
                folder.join(format!(".s.PGSQL.{}", listen.port)).display()
            )?;
        }
        config
            .shards
            .iter()
            .try_for_each(|shard| show_shard(shard, f))?;
        let count = |wanted: fn(&Place) -> bool| {
            config
                .tables
                .declared
                .iter()
                .filter(|table| wanted(&table.place))
                .count()
        };
        let sharded = count(|place| matches!(place, Place::Sharded { .. }));
        let reference = count(|place| matches!(place, Place::Reference));
        writeln!(
            f,
            "tables: {sharded} sharded, {reference} reference{}; others: {}",
            match count(|place| matches!(place, Place::Documents { .. })) {
                0 => String::new(),
                documents => format!(", {documents} of documents"),
            },
            config.tables.default
        )?;
        writeln!(
            f,
            "databases: {} declared; others: {}",
            config.databases.len(),
            listen.undeclared_databases
        )?;
        let passed = if config.auth.passthrough && config.has_postgres() {
            "as the servers know them"
        } else {
            "refused"
        };
        writeln!(
            f,
            "users: {} declared; others: {passed}",
            config.users.len()
        )?;
        write!(
            f,
            "rules: {} of login, {} of routing",
            config.auth.rule.len(),
            config.rules.len()
        )?;
        for table in &config.tables.declared {
            let Place::Documents { collection, .. } = &table.place else {
                continue;
            };
            for warning in warnings(collection) {
                write!(f, "\nwarning: table {}: {warning}", table.name)?;
            }
        }
        Ok(())
    }
}

fn show_shard(shard: &Shard, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let slots: usize = shard.slots.iter().map(ExactSizeIterator::len).sum();
    let home = if shard.home { ", home" } else { "" };
    let servers: Vec<String> = shard.servers.iter().map(show_server).collect();
    writeln!(
        f,
        "shard {}: {slots} of {SLOTS} slots{home}; {}",
        shard.name,
        servers.join(", ")
    )
}

fn show_server(server: &Server) -> String {
    format!("{} ({})", server.address.value, server.role.value)
}
