//! The connection settings with which the control role logs in to a server.

use super::Server;
use crate::config::{Config, Secret};
use mothership_pool::endpoint::Address;
use mothership_shardmap::ShardId;
use tokio_postgres::config::{ChannelBinding, SslNegotiation};

/// The connection settings for a question about the server as a whole, which is asked in the database
/// `control.database`. [`crate::control`] adds the encryption.
pub fn asking(config: &Config, shard: ShardId, server: &Server) -> tokio_postgres::Config {
    let control = &config.control;
    let own = &config.shards[shard.index()];
    let user = own.control_user.as_ref().unwrap_or(&control.user);
    let password = own.control_password.as_ref().or(control.password.as_ref());
    let mut asking = towards(server, user.as_str(), password, control.database.as_str());
    asking.connect_timeout(config.pool.connect_timeout);
    asking
}

/// Options that every connection of the control role begins with. They take precedence over ALTER ROLE and ALTER
/// DATABASE: names are found only in PostgreSQL's own catalog, strings are read in one way, and no policy of a user
/// runs. JIT is off, because compiling the long queries for a catalog takes a server seconds, and running them takes
/// milliseconds (PostgreSQL manual, When to JIT?).
pub const SETTINGS: &str = "-c search_path=pg_catalog,pg_temp -c row_security=off -c standard_conforming_strings=on \
    -c quote_all_identifiers=off -c DateStyle=ISO -c IntervalStyle=postgres -c bytea_output=hex \
    -c extra_float_digits=1 -c jit=off";

/// The connection settings for a server, a user and a database. What answers for a member of MongoDB (`interpreter`)
/// gets no options.
pub fn towards(
    server: &Server,
    user: &str,
    password: Option<&Secret>,
    database: &str,
) -> tokio_postgres::Config {
    let mut towards = tokio_postgres::Config::new();
    towards.user(user).dbname(database);
    if server.endpoint.interpreter.is_none() {
        towards.options(SETTINGS);
    }
    if let Some(password) = password {
        towards.password(password.reveal());
    }
    if server.login.require_channel_binding {
        towards.channel_binding(ChannelBinding::Require);
    }
    if server.endpoint.tls_direct {
        towards.ssl_negotiation(SslNegotiation::Direct);
    }
    match &server.endpoint.address {
        Address::Tcp(host, port) => towards.host(host).port(*port),
        Address::Unix(path) => unix(&mut towards, path),
    };
    towards
}

/// Adds the address of a unix socket. Like libpq, tokio_postgres takes its folder and its port instead of its path.
fn unix<'a>(
    config: &'a mut tokio_postgres::Config,
    path: &std::path::Path,
) -> &'a mut tokio_postgres::Config {
    let port = path
        .extension()
        .and_then(|e| e.to_str())
        .and_then(|e| e.parse().ok());
    if let Some(folder) = path.parent() {
        config.host_path(folder);
    }
    config.port(port.unwrap_or(5432))
}
