//! Who is served first of those that wait for one pool.

use super::stage::{DECLARED, PASSWORD, SCHEMA, SOON, UNDECLARED, World, code, config};
use mothership_tests::{Frame, Router, Shards, Wire, message, poll_until};

/// One connection of the pool `slow` for everyone, on one core, so that there is one queue; whose requests go first,
/// their application's name says.
const QUEUED: &str = "[[rule]]\nname = \"low\"\napplications = \"low*\"\naction = \"pool\"\npool = \"slow\"\n\
    pool_max = 1\npriority = -100\n\
    [[rule]]\nname = \"high\"\napplications = \"high*\"\naction = \"pool\"\npool = \"slow\"\npriority = 100\n\
    [[rule]]\nname = \"little\"\napplications = \"little\"\naction = \"pool\"\npool = \"slow\"\npriority = 1\n\
    [[rule]]\nname = \"rest\"\napplications = \"plain*\"\naction = \"pool\"\npool = \"slow\"\n";

fn queued(shards: usize, tables: &'static str) -> World {
    let shards = Shards::new(shards);
    shards.sql_all(SCHEMA);
    let config = config(&shards, tables, QUEUED);
    World {
        router: Router::start(&config.replace("workers = 2", "workers = 1")),
        shards,
        tables,
    }
}

impl World {
    /// A number of SHOW POOLS for the clients' database.
    fn of_pools(&self, column: &str) -> u64 {
        let endpoint = self.router.endpoint("root", PASSWORD, "mothership");
        let frames = Wire::login(&endpoint).query("SHOW POOLS");
        let at = |name: &str| frames[0].columns().iter().position(|c| c == name).unwrap();
        let rows = frames
            .iter()
            .filter(|f| f.kind == b'D')
            .map(Frame::row_text);
        let of_shop = rows.filter(|row| row[at("database")] == "shop");
        of_shop
            .map(|row| row[at(column)].parse::<u64>().unwrap())
            .sum()
    }

    fn wait_for(&self, column: &str, is_so: impl Fn(u64) -> bool) {
        let seen = || is_so(self.of_pools(column));
        assert!(poll_until(SOON, seen), "{}", self.of_pools(column));
    }
}

/// What is served notes itself in a table; the connection is held until its holder commits.
fn held() -> (World, Wire) {
    let world = queued(1, UNDECLARED);
    let table = "CREATE TABLE served (n serial, who text)";
    world.shards.sql(0, table);
    let mut holder = world.named("plain");
    holder.query("BEGIN");
    assert_eq!(code(&holder.query("SELECT * FROM audit")), "");
    (world, holder)
}

#[test]
fn who_waits_with_a_higher_priority_is_served_first_and_equals_in_their_order() {
    let (world, mut holder) = held();
    let mut waiting: Vec<Wire> = Vec::new();
    for who in ["low-1", "plain-1", "low-2", "plain-2", "high-1", "high-2"] {
        let mut wire = world.named(who);
        let insert = format!("INSERT INTO served (who) VALUES ('{who}')");
        // Through both protocols.
        match waiting.len() % 2 {
            0 => wire.send(&message::query(&insert)),
            _ => wire.send_all(&[
                message::parse("", &insert, &[]),
                message::bind_text(&[]),
                message::execute("", 0),
                message::sync(),
            ]),
        }
        waiting.push(wire);
        let count = waiting.len() as u64;
        world.wait_for("cl_waiting", |waiting| waiting == count);
    }
    assert_eq!(code(&holder.query("COMMIT")), "");
    for wire in &mut waiting {
        assert_eq!(code(&wire.until_ready()), "");
    }
    let order = "SELECT string_agg(who, ' ' ORDER BY n) FROM served";
    assert_eq!(
        world.shards.sql(0, order),
        "high-1 high-2 plain-1 plain-2 low-1 low-2"
    );
    let told = world.console("SHOW RULES");
    let priorities: Vec<_> = told.iter().map(|row| row[row.len() - 2].as_str()).collect();
    assert_eq!(priorities, ["-100", "100", "1", "0"]);
}

#[test]
fn who_has_waited_longer_than_the_points_between_them_goes_before_a_higher_priority() {
    let (world, mut holder) = held();
    let mut waiting: Vec<Wire> = Vec::new();
    for who in ["plain", "little"] {
        let mut wire = world.named(who);
        let insert = format!("INSERT INTO served (who) VALUES ('{who}')");
        wire.send(&message::query(&insert));
        waiting.push(wire);
        // A point is a tenth of a second.
        world.wait_for("maxwait", |seconds| seconds >= 1);
    }
    world.wait_for("cl_waiting", |waiting| waiting == 2);
    assert_eq!(code(&holder.query("COMMIT")), "");
    for wire in &mut waiting {
        assert_eq!(code(&wire.until_ready()), "");
    }
    let order = "SELECT string_agg(who, ' ' ORDER BY n) FROM served";
    assert_eq!(world.shards.sql(0, order), "plain little");
}

#[test]
fn a_transaction_that_joins_a_shard_goes_before_every_priority() {
    let world = queued(2, DECLARED);
    let (here, there) = (world.key_of("s0"), world.key_of("s1"));
    let read = |key: i32| format!("SELECT * FROM orders WHERE customer_id = {key}");
    let mut holder = world.named("low");
    holder.query("BEGIN");
    assert_eq!(code(&holder.query(&read(there))), "");
    let mut joining = world.named("low");
    joining.query("BEGIN");
    assert_eq!(code(&joining.query(&read(here))), "");
    let mut high = world.named("high");
    high.send(&message::query(&read(there)));
    world.wait_for("cl_waiting", |waiting| waiting == 1);
    joining.send(&message::query(&read(there)));
    world.wait_for("cl_waiting", |waiting| waiting == 2);
    assert_eq!(code(&holder.query("COMMIT")), "");
    // It came last, and has what the other one still waits for.
    assert_eq!(code(&joining.until_ready()), "");
    assert_eq!(world.of_pools("cl_waiting"), 1);
    assert_eq!(code(&joining.query("COMMIT")), "");
    assert_eq!(code(&high.until_ready()), "");
}
