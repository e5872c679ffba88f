//! More clients than there are connections to a member: how many wait, for how long, and what they are told.

use super::stage::{Documents, shared};
use crate::shards::stage::{LIMIT, lines, owner, say};
use mothership_tests::{Wire, message, poll_until};
use std::time::{Duration, Instant};

const NARROW: &str =
    "[pool]\nmin = 0\nmax = 2\nqueue_length = 2\nqueue_timeout = \"2s\"\njoin_reserve = \"0%\"\n";

/// How many requests wait for a connection.
fn waiting(console: &mut Wire) -> u64 {
    let frames = console.query("SHOW POOLS_EXTENDED");
    let mut columns = frames[0].columns().into_iter();
    let at = columns.position(|column| column == "waiting").unwrap();
    let rows = frames.iter().filter(|frame| frame.kind == b'D');
    rows.map(|row| row.row_text()[at].parse::<u64>().unwrap())
        .sum()
}

/// Clients of one table whose rows all lie on one server.
struct Clients<'d> {
    documents: &'d Documents,
    console: Wire,
    table: &'static str,
    ids: Box<dyn Iterator<Item = i64>>,
}

impl Clients<'_> {
    fn new<'d>(documents: &'d Documents, table: &'static str) -> Clients<'d> {
        Clients {
            documents,
            console: documents.console(),
            table,
            ids: Box::new((1..).filter(|id| owner(*id) == owner(1))),
        }
    }

    fn insert(&mut self) -> String {
        let id = self.ids.next().unwrap();
        format!("INSERT INTO {} (id) VALUES ({id})", self.table)
    }

    /// One that has a connection, and a row that nobody else sees yet.
    fn holder(&mut self) -> Wire {
        let mut wire = self.documents.stage.wire();
        say(&mut wire, "BEGIN");
        let done = say(&mut wire, &self.insert());
        assert_eq!(done[0], "CommandComplete INSERT 0 1");
        wire
    }

    /// One that has asked for something and waits, as the last of so many.
    fn in_line(&mut self, waiting: u64) -> Wire {
        let mut wire = self.documents.stage.wire();
        wire.send(&message::query(&self.insert()));
        self.wait_for(waiting);
        wire
    }

    fn wait_for(&mut self, count: u64) {
        let mut last = 0;
        let there = poll_until(LIMIT, || {
            last = waiting(&mut self.console);
            last == count
        });
        assert!(there, "{}: {last} wait, not {count}", self.table);
    }
}

/// Everything that clients are told while transactions that are open have all connections.
fn told_when_narrow(documents: &Documents, table: &'static str) -> Vec<String> {
    let mut clients = Clients::new(documents, table);
    let mut told = Vec::new();
    let (mut one, mut two) = (clients.holder(), clients.holder());
    let begun = Instant::now();
    let mut first = clients.in_line(1);
    let second = clients.in_line(2);
    // Nobody waits behind them.
    let mut third = documents.stage.wire();
    told.extend(say(&mut third, &clients.insert()));
    // Who leaves makes room.
    drop(second);
    clients.wait_for(1);
    let mut fourth = clients.in_line(2);
    // What has a connection goes on.
    told.extend(say(&mut one, &clients.insert()));
    // Nobody waits for ever for those who have the connections.
    told.extend(lines(&first.until_ready()));
    assert!(begun.elapsed() >= Duration::from_secs(2), "{table}");
    told.extend(lines(&fourth.until_ready()));
    clients.wait_for(0);
    let mut fifth = clients.in_line(1);
    told.extend(say(&mut one, "COMMIT"));
    told.extend(lines(&fifth.until_ready()));
    for wire in [&mut first, &mut third, &mut fourth] {
        told.extend(say(wire, &clients.insert()));
    }
    told.extend(say(&mut two, &clients.insert()));
    told.extend(say(&mut two, "ROLLBACK"));
    let rows = format!("SELECT count(*) FROM {table}");
    told.extend(third.rows(&rows).concat());
    told
}

#[test]
fn clients_that_wait_for_a_member_are_told_what_those_of_postgresql_are() {
    let Some(documents) = Documents::on(shared(), 1, NARROW) else {
        return;
    };
    let told = told_when_narrow(&documents, "events");
    let without_times = |told: &[String]| {
        let words = told
            .iter()
            .map(|line| line.split(" within ").next().unwrap());
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    let twin = told_when_narrow(&documents, "items");
    assert_eq!(without_times(&told), without_times(&twin));
    let refused = |line: &&String| line.starts_with("Error 53300 ");
    assert_eq!(told.iter().filter(refused).count(), 3, "{told:?}");
    let done = |line: &&String| *line == "CommandComplete INSERT 0 1";
    assert_eq!(told.iter().filter(done).count(), 6, "{told:?}");
    assert_eq!(told.last().unwrap(), "6", "{told:?}");
}

#[test]
fn many_clients_share_a_few_connections_and_all_are_answered() {
    let few = "[pool]\nmin = 0\nmax = 2\n";
    let Some(documents) = Documents::on(shared(), 1, few) else {
        return;
    };
    let work = |client: usize| {
        let mut wire = documents.stage.wire();
        wire.set_limit(LIMIT * 6);
        for number in 0..6 {
            let id = client * 100 + number;
            say(&mut wire, "BEGIN");
            let insert = format!("INSERT INTO events (id) VALUES ({id})");
            assert_eq!(say(&mut wire, &insert)[0], "CommandComplete INSERT 0 1");
            let read = format!("SELECT kind FROM events WHERE id = {id}");
            assert_eq!(wire.rows(&read), [["plain"]]);
            assert_eq!(say(&mut wire, "COMMIT")[0], "CommandComplete COMMIT");
        }
    };
    std::thread::scope(|scope| {
        for client in 0..24 {
            scope.spawn(move || work(client));
        }
    });
    let mut wire = documents.stage.wire();
    assert_eq!(wire.rows("SELECT count(*) FROM events"), [["144"]]);
}
