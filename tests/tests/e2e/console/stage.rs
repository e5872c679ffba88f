//! A router with a console, and what it says.

use mothership_tests::{Endpoint, Router, Shards, Wire};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

pub const SOON: Duration = Duration::from_secs(20);
pub const PASSWORD: &str = "open sesame";

/// A router with two workers in front of one database.
pub struct World {
    pub router: Router,
    pub shards: Shards,
    pub config: String,
}

impl World {
    pub fn new() -> World {
        World::with("")
    }

    pub fn with(more: &str) -> World {
        let shards = Shards::new(1);
        let server = shards.endpoint(0);
        let config = format!(
            r#"
{more}
[listen]
port = @port@
workers = 2
unix_socket = "@folder@"
[pool]
min = 0
max = 4
[auth]
passthrough = false
[control]
user = "{0}"
password = "{1}"
[metrics]
port = @metrics_port@
[console]
admin_users = ["root"]
stats_users = ["watch"]
[[user]]
name = "root"
password = "{PASSWORD}"
[[user]]
name = "watch"
password = "{PASSWORD}"
[[user]]
name = "{0}"
password = "{1}"
[[shard]]
name = "s1"
[[shard.server]]
address = "127.0.0.1:{2}"
role = "primary"
tls = "disable"
labels = ["ssd"]
[[table]]
name = "orders"
key = "customer_id"
key_type = "int8"
[[rule]]
name = "reports"
users = ["watch"]
action = "primary"
"#,
            server.user, server.password, server.port
        );
        World {
            router: Router::start(&config),
            shards,
            config,
        }
    }

    pub fn console(&self, user: &str) -> Wire {
        Wire::login(&self.router.endpoint(user, PASSWORD, "pgbouncer"))
    }

    pub fn endpoint(&self) -> Endpoint {
        self.shards.endpoint(0).at_port(self.router.port())
    }

    pub fn client(&self) -> Wire {
        Wire::login(&self.endpoint())
    }
}

/// One row as a map from column to value.
pub fn rows(wire: &mut Wire, sql: &str) -> Vec<std::collections::BTreeMap<String, String>> {
    let frames = wire.query(sql);
    let columns = frames.iter().find(|f| f.kind == b'T');
    let columns = columns
        .unwrap_or_else(|| panic!("{sql}: {frames:?}"))
        .columns();
    let rows = frames.iter().filter(|f| f.kind == b'D');
    rows.map(|row| columns.iter().cloned().zip(row.row_text()).collect())
        .collect()
}

pub fn state(wire: &mut Wire, sql: &str) -> String {
    let frames = wire.query(sql);
    match frames.iter().find(|f| f.kind == b'E') {
        Some(error) => error.sqlstate(),
        None => "ok".into(),
    }
}

/// One request: status and body.
pub fn get(world: &World, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    send(world, request.as_bytes())
}

pub fn send(world: &World, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", world.router.metrics_port())).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// OIDs of text, int4, int8 and numeric.
pub const S: u32 = 25;
pub const I: u32 = 23;
pub const Q: u32 = 20;
pub const N: u32 = 1700;

/// Name and type OID of each column of a RowDescription.
pub fn described(frame: &mothership_tests::Frame) -> Vec<(String, u32)> {
    let names = frame.columns();
    let mut rest = &frame.body[2..];
    let oid = |_: &String| {
        let end = rest.iter().position(|byte| *byte == 0).unwrap();
        let fields = &rest[end + 1..];
        let oid = u32::from_be_bytes(fields[6..10].try_into().unwrap());
        rest = &fields[18..];
        oid
    };
    let oids: Vec<u32> = names.iter().map(oid).collect();
    names.into_iter().zip(oids).collect()
}
