//! A shard, or several, with replicas behind a router that watches them closely.

use mothership_tests::message::V3_0;
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Endpoint, Fleet, Router, Wire, poll_until};
use std::collections::HashMap;
use std::time::Duration;

/// What is to happen in the end happens within it.
pub const SOON: Duration = Duration::from_secs(20);

/// Shards with their replicas behind a router that watches them closely and keeps no verifier.
pub struct Stage {
    pub router: Router,
    pub config: String,
    pub fleet: Fleet,
}

impl Stage {
    pub fn new(shards: usize, replicas: usize) -> Stage {
        Stage::with(shards, replicas, "")
    }

    /// With these settings of `failover`.
    pub fn with(shards: usize, replicas: usize, failover: &str) -> Stage {
        let fleet = Fleet::new(shards, replicas);
        let mut config = format!(
            "[listen]\nport = @port@\n[auth]\ncache = \"0s\"\n[failover]\n{failover}\n\
             [balance]\nprobe_interval = \"200ms\"\nprobe_timeout = \"2s\"\n\
             [control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\ntimeout = \"2s\"\n\
             [console]\nadmin_users = [\"{USER}\"]\n\
             [[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
             [[table]]\nname = \"items\"\nkey = [\"id\"]\nkey_type = [\"int8\"]\n"
        );
        for (number, shard) in fleet.shards.iter().enumerate() {
            config += &format!("[[shard]]\nname = \"s{number}\"\n");
            for server in shard.replicas.iter().chain([&shard.primary]) {
                let port = server.port();
                config += &format!("[[shard.server]]\naddress = \"127.0.0.1:{port}\"\n");
            }
        }
        let stage = Stage {
            router: Router::start(&config),
            config,
            fleet,
        };
        stage.wait("all servers up", |server| server["health"] == "up");
        stage
    }

    pub fn endpoint(&self, user: &str, password: &str) -> Endpoint {
        self.router.endpoint(user, password, "postgres")
    }

    /// A row of SHOW ENDPOINTS for each server, in the order of the file.
    pub fn shown(&self) -> Vec<HashMap<String, String>> {
        let mut console = Wire::login(&self.router.endpoint(USER, PASSWORD, "mothership"));
        let frames = console.query("SHOW ENDPOINTS");
        let names = frames[0].columns();
        let rows = frames.iter().filter(|frame| frame.kind == b'D');
        rows.map(|row| names.iter().cloned().zip(row.row_text()).collect())
            .collect()
    }

    /// How many clients wait for a server.
    pub fn waiting(&self) -> usize {
        let mut console = Wire::login(&self.router.endpoint(USER, PASSWORD, "mothership"));
        let frames = console.query("SHOW CLIENTS");
        let state = frames[0].columns().iter().position(|name| name == "state");
        let rows = frames.iter().filter(|frame| frame.kind == b'D');
        rows.filter(|row| row.row_text()[state.unwrap()] == "waiting")
            .count()
    }

    pub fn wait_for_waiting(&self, count: usize) {
        let wait = poll_until(SOON, || self.waiting() == count);
        assert!(wait, "{} clients wait, not {count}", self.waiting());
    }

    /// Waits until this is so of each server.
    pub fn wait(&self, what: &str, so: impl Fn(&HashMap<String, String>) -> bool) {
        let all = poll_until(SOON, || self.shown().iter().all(&so));
        assert!(all, "{what}: {:#?}", self.shown());
    }

    /// Waits until the server at this place is shown so.
    pub fn wait_for(&self, server: usize, column: &str, value: &str) {
        let so = poll_until(SOON, || self.shown()[server][column] == value);
        assert!(so, "server {server} is not {value}: {:#?}", self.shown());
    }
}

/// What the console answers: nothing, or an error's SQLSTATE and message.
pub fn order(stage: &Stage, command: &str) -> Result<(), (String, String)> {
    let mut console = Wire::login(&stage.router.endpoint(USER, PASSWORD, "mothership"));
    let frames = console.query(command);
    match frames.iter().find(|frame| frame.kind == b'E') {
        None => Ok(()),
        Some(error) => Err((error.sqlstate(), error.field('M').unwrap())),
    }
}

/// The SQLSTATE with which a client is turned away, if it is.
pub fn turned_away(endpoint: &Endpoint) -> Option<String> {
    let mut wire = Wire::connect(endpoint.port);
    let refused = wire.try_login(endpoint, V3_0, &[]).err();
    refused.map(|error| error.sqlstate())
}
