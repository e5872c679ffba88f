//! Databases with tables that rules speak of, and whether a statement passed.

use mothership_tests::message;
use mothership_tests::{Endpoint, Frame, Router, Shards, Wire};
use std::time::Duration;

pub use crate::explain::PASSWORD;
pub const SOON: Duration = Duration::from_secs(20);

pub const SCHEMA: &str = "
CREATE TABLE orders (customer_id int8 PRIMARY KEY, note text);
CREATE TABLE products (id int8 PRIMARY KEY, name text);
CREATE TABLE salaries (id int8 PRIMARY KEY, amount int8, status text);
CREATE TABLE audit (id int8, salaries text);
CREATE SCHEMA shop; CREATE TABLE shop.salaries (id int8 PRIMARY KEY);
CREATE TABLE hidden (id int8) PARTITION BY RANGE (id);
CREATE TABLE hidden_1 PARTITION OF hidden FOR VALUES FROM (0) TO (1000);
CREATE VIEW pay AS SELECT id, amount FROM salaries;
CREATE VIEW \"Pay Roll\" AS SELECT * FROM pay;
CREATE FUNCTION paid() RETURNS int8 LANGUAGE sql STABLE AS 'SELECT sum(amount)::int8 FROM salaries';
CREATE FUNCTION paid_of(r audit) RETURNS int8 LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN paid(); END $$;
CREATE FUNCTION erase() RETURNS void LANGUAGE plpgsql AS $$ BEGIN DELETE FROM audit; END $$;
CREATE FUNCTION whatever(text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE $1; END $$;
CREATE FUNCTION twice(int8) RETURNS int8 LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE FUNCTION eraser() RETURNS int8 LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM erase(); RETURN 1; END $$;
CREATE VIEW erasing AS SELECT eraser() AS n;
CREATE PROCEDURE wipe() LANGUAGE plpgsql AS $$ BEGIN DELETE FROM salaries; END $$;
INSERT INTO salaries VALUES (1, 100, 'x'); INSERT INTO audit VALUES (1, 'a'); INSERT INTO hidden VALUES (1);
";

/// Shards that are databases of one server, and a router with rules before them.
pub struct World {
    pub router: Router,
    pub shards: Shards,
    pub tables: &'static str,
}

pub const DECLARED: &str = "[[table]]\nname = \"orders\"\nkey = \"customer_id\"\n\
    [[table]]\nname = \"products\"\nkind = \"reference\"\n";

pub const UNDECLARED: &str = "";

impl World {
    pub fn new(shards: usize, tables: &'static str, rules: &str) -> World {
        let shards = Shards::new(shards);
        shards.sql_all(SCHEMA);
        let router = Router::start(&config(&shards, tables, rules));
        World {
            router,
            shards,
            tables,
        }
    }

    pub fn reload(&self, rules: &str) {
        self.router
            .write_config(&config(&self.shards, self.tables, rules));
        self.router.sighup();
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            database: "shop".into(),
            ..self.shards.endpoint(0).at_port(self.router.port())
        }
    }

    pub fn wire(&self) -> Wire {
        Wire::login(&self.endpoint())
    }

    pub fn named(&self, application: &str) -> Wire {
        Wire::login_with(&self.endpoint(), &[("application_name", application)])
    }

    pub fn console(&self, sql: &str) -> Vec<Vec<String>> {
        let endpoint = self.router.endpoint("root", PASSWORD, "mothership");
        Wire::login(&endpoint).rows(sql)
    }

    /// A key of `orders` that is of this shard.
    pub fn key_of(&self, shard: &str) -> i32 {
        let mut wire = self.wire();
        let mut is_of = |key: &i32| {
            let sql = format!("EXPLAIN (ROUTE) SELECT * FROM orders WHERE customer_id = {key}");
            let lines = wire.rows(&sql).concat();
            lines.contains(&format!("Shards: {shard}"))
        };
        let key = (0..100).find(&mut is_of);
        key.expect("one of a hundred keys is of each shard")
    }

    /// How often each rule decided.
    pub fn matched(&self) -> Vec<u64> {
        let rows = self.console("SHOW RULES");
        rows.iter()
            .map(|r| r.last().unwrap().parse().unwrap())
            .collect()
    }
}

pub fn config(shards: &Shards, tables: &str, rules: &str) -> String {
    let sections = format!("{tables}[catalog]\nrefresh_interval = \"1h\"\n{rules}\n");
    crate::explain::config(shards, &sections)
}

pub fn error(frames: &[Frame]) -> Option<&Frame> {
    frames.iter().find(|frame| frame.kind == b'E')
}

pub fn code(frames: &[Frame]) -> String {
    error(frames).map_or_else(String::new, Frame::sqlstate)
}

/// The statement through the extended protocol, unnamed, up to ReadyForQuery.
pub fn extended(wire: &mut Wire, sql: &str) -> Vec<Frame> {
    wire.send_all(&[
        message::parse("", sql, &[]),
        message::bind_text(&[]),
        message::describe_portal(""),
        message::execute("", 0),
        message::sync(),
    ]);
    wire.until_ready()
}

/// What is wrong, if it is not refused in both protocols with the rule's own words before anything of it has run.
pub fn passed(wire: &mut Wire, sql: &str) -> Option<String> {
    let both = [
        ("simple", wire.query(sql)),
        ("extended", extended(wire, sql)),
    ];
    let wrong = both.iter().filter_map(|(how, frames)| {
        let told = error(frames).map(|e| (e.sqlstate(), e.field('M').unwrap_or_default()));
        let rows = frames.iter().any(|f| f.kind == b'D');
        let fine = told == Some(("42501".into(), "not here".into())) && !rows;
        (!fine).then(|| format!("{how}: {sql}: {told:?}"))
    });
    wrong.reduce(|a, b| format!("{a}\n{b}"))
}

/// What is wrong, if a rule refuses it; whether the server likes it is another matter.
pub fn hindered(wire: &mut Wire, sql: &str) -> Option<String> {
    let both = [
        ("simple", wire.query(sql)),
        ("extended", extended(wire, sql)),
    ];
    let wrong = both.iter().filter_map(|(how, frames)| {
        let error = error(frames)?;
        let told = (error.sqlstate(), error.field('M'), error.field('D'));
        (told.0 == "42501" || told.0 == "0A000").then(|| format!("{how}: {sql}: {told:?}"))
    });
    wrong.reduce(|a, b| format!("{a}\n{b}"))
}

/// All of `not` are refused, none of `yes` is.
pub fn check(wire: &mut Wire, not: &[&str], yes: &[&str]) {
    let not = not.iter().filter_map(|sql| passed(wire, sql));
    let mut wrong: Vec<String> = not.collect();
    wrong.extend(yes.iter().filter_map(|sql| hindered(wire, sql)));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

pub const NO_SALARIES: &str = "[[rule]]\nname = \"secret\"\ntables = [\"salaries\", \"hidden_1\"]\n\
    action = \"refuse\"\nmessage = \"not here\"\n";
