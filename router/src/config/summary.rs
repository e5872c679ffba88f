//! What `check-config` prints about a file that is right.

use std::collections::BTreeSet;
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
        for (at, database) in config.databases.iter().enumerate() {
            let own = |name: &&super::Name| name.as_str() != database.name.as_str();
            let names: BTreeSet<&str> = database
                .server_names()
                .filter(own)
                .map(super::Name::as_str)
                .collect();
            let declared =
                |name: &&&str| config.databases.iter().any(|d| d.name.as_str() == **name);
            for name in names.iter().filter(|name| !declared(name)) {
                write!(
                    f,
                    "\nnote: database \"{name}\" of the servers is reached as \"{}\" only",
                    database.name
                )?;
            }
            for other in &config.databases[..at] {
                let shard = config
                    .shards
                    .iter()
                    .find(|shard| other.name_on(&shard.name) == database.name_on(&shard.name));
                if let Some(shard) = shard {
                    write!(
                        f,
                        "\nwarning: databases \"{}\" and \"{}\" are the same on shard {}; rules and limits of the one do \
                         not hold for the other",
                        other.name, database.name, shard.name
                    )?;
                }
            }
        }
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
