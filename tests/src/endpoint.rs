//! Where a test's client connects to.

use crate::{Router, Shards};
use std::ops::Deref;
use tokio_postgres::{Client, NoTls};

/// One address with what is needed to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name, an address or the folder of a unix socket.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
    /// The database.
    pub database: String,
}

impl Endpoint {
    /// The same with another port: a router in front of the same databases.
    pub fn at_port(&self, port: u16) -> Endpoint {
        Endpoint {
            port,
            ..self.clone()
        }
    }

    /// In libpq's keyword form, which psql and tokio-postgres take.
    pub fn conninfo(&self) -> String {
        let quote = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
        format!(
            "host='{}' port={} user='{}' password='{}' dbname='{}'",
            quote(&self.host),
            self.port,
            quote(&self.user),
            quote(&self.password),
            quote(&self.database)
        )
    }

    /// As environment for programs that use libpq or its names.
    pub fn env(&self) -> [(&'static str, String); 5] {
        [
            ("PGHOST", self.host.clone()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", self.user.clone()),
            ("PGPASSWORD", self.password.clone()),
            ("PGDATABASE", self.database.clone()),
        ]
    }
}

/// An endpoint that lives as long as this: what stands behind it ends with it.
#[derive(Debug)]
pub struct Served {
    endpoint: Endpoint,
    /// The router, ended before the database is dropped.
    pub router: Router,
    /// The database behind it.
    pub shards: Shards,
}

impl Deref for Served {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

/// What tests of clients connect to: a router that pools one plain database, with
/// nothing declared.
pub fn endpoint() -> Served {
    endpoint_with("")
}

/// The same with more lines of configuration.
pub fn endpoint_with(more: &str) -> Served {
    endpoint_listening("", more)
}

/// The same with more lines in `[listen]`, and more behind everything.
pub fn endpoint_listening(listen: &str, more: &str) -> Served {
    let shards = Shards::new(1);
    let direct = shards.endpoint(0);
    let router = Router::start(&format!(
        r#"
[listen]
address = ["127.0.0.1"]
port = @port@
{listen}
[control]
user = "{user}"
password = "{password}"
[[shard]]
name = "one"
[[shard.server]]
address = "{host}:{port}"
{more}
"#,
        user = direct.user,
        password = direct.password,
        host = direct.host,
        port = direct.port,
    ));
    Served {
        endpoint: direct.at_port(router.port()),
        router,
        shards,
    }
}

/// Connects with tokio-postgres; the connection is driven by a task of its own.
pub async fn connect(endpoint: &Endpoint) -> Client {
    let (client, connection) = tokio_postgres::connect(&endpoint.conninfo(), NoTls)
        .await
        .unwrap_or_else(|e| panic!("connect to port {}: {e:?}", endpoint.port));
    // Its error, if any, is also what the next call of the client returns.
    tokio::spawn(async move { drop(connection.await) });
    client
}
