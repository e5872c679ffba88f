//! The router's configuration: also an example of one, so it explains itself.

use super::child::is_free;
use super::error::{DemoError, Doing};
use super::events::DECLARATION;
use super::fleet::{CLIENT, CLIENT_PASSWORD, CONTROL, Fleet, password_file};
use super::options::PORT;
use super::replica_set::{NAME, ReplicaSet};
use mothership_cluster::free_port;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// How long clients may end their transactions when the demo stops.
const DRAIN: &str = "3s";
/// Where exporters are expected; taken when it is free.
const METRICS_PORT: u16 = 9187;

/// The router's folder.
pub(super) fn folder(state: &Path) -> PathBuf {
    state.join("router")
}

/// Its configuration.
pub(super) fn path(state: &Path) -> PathBuf {
    folder(state).join("mothership.toml")
}

/// The ports of the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Of PostgreSQL's protocol.
    pub clients: u16,
    /// Of the exporter's page.
    pub metrics: u16,
}

impl Ports {
    /// The metrics go to the well-known port only beside the well-known port for clients:
    /// whoever asks for another one has something else running.
    pub(super) fn choose(clients: u16) -> Result<Ports, DemoError> {
        let metrics = match clients == PORT && is_free(METRICS_PORT) {
            true => METRICS_PORT,
            false => free_port()?,
        };
        Ok(Ports { clients, metrics })
    }
}

/// Writes the file for shards that run.
pub(super) fn write(
    state: &Path,
    fleet: &Fleet,
    set: Option<&ReplicaSet>,
    ports: Ports,
) -> Result<(), DemoError> {
    let shards: Vec<_> = fleet
        .shards
        .iter()
        .map(|shard| (shard.name, shard.primary.port(), shard.replica.port()))
        .collect();
    let password = password_file(state);
    // Relative paths are relative to the folder of the file, where this one is.
    let password = password.file_name().unwrap_or_default().to_string_lossy();
    let path = path(state);
    let members = set.map(ReplicaSet::addresses).unwrap_or_default();
    let text = configuration(&shards, &members, ports, &password);
    std::fs::write(&path, text).doing("write", path)
}

/// The text of it: of the shards their names, and the ports of primary and replica; members of the replica set, without which
/// there are no events.
pub fn configuration(
    shards: &[(&str, u16, u16)],
    members: &[String],
    ports: Ports,
    password_file: &str,
) -> String {
    let mut text = format!(
        r#"# Written by `mothership demo` at each start: changes get lost. As an example it is yours to copy;
# docs/configuration.md says what else there is.

[listen]
address = "127.0.0.1"
port = {clients}
drain_timeout = "{DRAIN}"

# Whoever is on this machine may be the user {CLIENT}, without a password.
[auth]
passthrough = false

[[auth.rule]]
network = ["127.0.0.1", "::1"]
users = "{CLIENT}"
method = "trust"

# On the servers the user has a password.
[[user]]
name = "{CLIENT}"
server_password = "{CLIENT_PASSWORD}"

[[database]]
name = "{CLIENT}"

# psql -h 127.0.0.1 -p {clients} -U {CLIENT} mothership
[console]
admin_users = ["{CLIENT}"]

# The router's own questions to the servers: health, lag, catalog, recovery.
[control]
user = "{CONTROL}"
password_file = "{password_file}"

[metrics]
port = {metrics}

# Idle server connections are kept ready, as many as a laptop has use for.
[pool]
min = 2
max = 50
"#,
        clients = ports.clients,
        metrics = ports.metrics,
    );
    text.push_str("\n# Three shards, each a primary and a streaming replica. Which is which they say themselves.\n");
    for (number, (name, primary, replica)) in shards.iter().enumerate() {
        let home = match number {
            0 => "home = true                 # what is not declared below lives here\n",
            _ => "",
        };
        let _ = write!(
            text,
            r#"
[[shard]]
name = "{name}"
{home}
[[shard.server]]
address = "127.0.0.1:{primary}"

[[shard.server]]
address = "127.0.0.1:{replica}"
"#
        );
    }
    if !members.is_empty() {
        let _ = write!(
            text,
            "\n# A replica set of MongoDB. Its members say themselves which of them is the primary.\n\
             [[shard]]\nname = \"{NAME}\"\nengine = \"mongodb\"\n"
        );
    }
    for address in members {
        let _ = write!(text, "\n[[shard.server]]\naddress = \"{address}\"\n");
    }
    text.push_str(TABLES);
    if !members.is_empty() {
        text.push_str(DECLARATION);
    }
    text
}

/// The shop's tables and pgbench's. `settings` is not declared and so lives on the home shard.
const TABLES: &str = r#"
# The shop. Rows with the same customer_id live on the same shard, in whichever table.
[[table]]
name = "customers"
key = "customer_id"
key_type = "int8"

[[table]]
name = "orders"
key = "customer_id"
key_type = "int8"
colocate = "customers"

[[table]]
name = "order_items"
key = "customer_id"
key_type = "int8"
colocate = "customers"

# Every shard has a copy, so it can be joined with any table.
[[table]]
name = "products"
kind = "reference"

# pgbench's tables, for `pgbench -i`.
[[table]]
name = "pgbench_accounts"
key = "aid"
key_type = "int4"

[[table]]
name = "pgbench_branches"
key = "bid"
key_type = "int4"

[[table]]
name = "pgbench_tellers"
key = "tid"
key_type = "int4"

[[table]]
name = "pgbench_history"
key = "aid"
key_type = "int4"
"#;
