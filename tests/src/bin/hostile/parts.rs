//! Parts of transactions over several shards, by their names: they are the routers' to finish, however a client writes them.

use crate::spelling::{gap, literal};
use crate::stage::{Stage, client, error};
use mothership_tests::Wire;
use mothership_tests::message::{self, Format};
use rand::RngExt;

/// Says it in one of the protocols; whether it was done.
fn say(wire: &mut Wire, sql: &str, extended: bool) -> bool {
    let answer = match extended {
        false => wire.query(sql),
        true => {
            wire.send_all(&[
                message::parse("", sql, &[]),
                message::bind("", "", Format::Text, &[], Format::Text),
                message::execute("", 0),
                message::sync(),
            ]);
            wire.until_ready()
        }
    };
    error(&answer).is_none()
}

/// Prepares and finishes what has such a name, through a router with shards and one without.
pub fn names(stage: &mut Stage) -> Result<String, String> {
    let database = stage.database_with_accounts();
    let sharded = stage.router("", "");
    let pooled = stage.pooled(2, "");
    let rounds = 30;
    for round in 0..rounds {
        let router = if round % 2 == 0 { &sharded } else { &pooled };
        let name = format!("ms1:{}", stage.word());
        let there = format!("SELECT count(*) FROM pg_prepared_xacts WHERE gid = '{name}'");
        let conforming = stage.rng.random_range(0..3) > 0;
        let set = format!(
            "SET standard_conforming_strings = {}; SET backslash_quote = on",
            if conforming { "on" } else { "off" }
        );
        let written = literal(&mut stage.rng, &name, conforming);
        let [a, b] = [gap(&mut stage.rng), gap(&mut stage.rng)];
        let extended = stage.rng.random();
        let (mut direct, mut wire) = (
            stage.direct(0, "alice", &database),
            client(router, "alice", &database),
        );
        for wire in [&mut direct, &mut wire] {
            wire.query(&set);
        }
        // Somebody's part is there; a client finishes it.
        let prepare = format!("prepare{a}TRANSACTION{b}{written}");
        for sql in ["BEGIN", "INSERT INTO accounts VALUES (-1)", &prepare] {
            let sql = sql.replace("-1", &format!("-{}", round + 1));
            if !say(&mut direct, &sql, false) {
                return Err(format!("{sql} is not SQL"));
            }
        }
        let verb = if stage.rng.random() {
            "Commit"
        } else {
            "ROLLBACK"
        };
        let finish = format!("{verb}{a}prepared{b}{written}");
        let code = format!("DO $do$ BEGIN EXECUTE $in${finish}$in$; END $do$");
        let texts = [
            finish.clone(),
            format!("{finish}; SELECT 1"),
            format!(";{b}{finish};"),
            code,
        ];
        for sql in texts {
            say(&mut wire, &sql, extended);
            if stage.at_home("postgres", &there) != "1" {
                return Err(format!("{sql}: finished by a client, strings {conforming}"));
            }
        }
        if !say(&mut direct, &finish, false) {
            return Err(format!("{finish} is not that name"));
        }
        // A client takes such a name.
        for sql in ["BEGIN", "INSERT INTO accounts VALUES (1)", &prepare] {
            say(&mut wire, sql, extended);
        }
        if stage.at_home("postgres", &there) != "0" {
            return Err(format!(
                "{prepare}: prepared by a client, strings {conforming}"
            ));
        }
    }
    Ok(format!("{rounds} spellings"))
}
