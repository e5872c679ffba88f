//! What the router reads of definitions, which everybody may make.

use crate::stage::{Stage, Victim, WAIT, client, error, soon};
use mothership_tests::{Router, Wire};
use rand::RngExt;
use std::time::{Duration, Instant};

/// Functions, views and policies whose texts are as long as PostgreSQL lets them be.
pub fn bodies(stage: &mut Stage) -> Result<String, String> {
    let database = stage.database_with_accounts();
    let router = stage.router("", "");
    let victim = Victim::begin(&router, &database);
    let mut owner = client(&router, "owner", &database);
    owner.set_limit(Duration::from_secs(60));
    let (count, words) = (
        stage.rng.random_range(30..50),
        stage.rng.random_range(150_000..190_000),
    );
    for number in 0..count {
        let sql = format!(
            "CREATE FUNCTION f{number}() RETURNS int LANGUAGE sql AS 'select 1 /* {} */'",
            "word ".repeat(words)
        );
        if let Some(code) = error(&owner.query(&sql)) {
            return Err(format!("function {number}: {code}"));
        }
    }
    // Many of a middle size: their sum counts.
    let make = "DO $$ BEGIN FOR n IN 1..400 LOOP EXECUTE format('CREATE FUNCTION m%s() RETURNS int LANGUAGE sql AS %L', \
                n, 'select 1 /* ' || repeat('word ', 12000) || ' */'); END LOOP; \
                EXECUTE format('CREATE VIEW v AS SELECT %L::text AS t', repeat('x', 2000000)); END $$";
    stage.on_all(&database, make);
    owner.query("CREATE TABLE more (i int)");
    let said = victim.end().was_spared(WAIT, 400)?;
    // What was not read may do anything: it is not sent anywhere as if it were known.
    let mut alice = client(&router, "alice", &database);
    match error(&alice.query("SELECT f0(), n FROM accounts")) {
        None => {
            Err("a function whose body is not known is called beside a sharded table".to_owned())
        }
        Some(_) => Ok(format!("{count} bodies of {} bytes; {said}", words * 5)),
    }
}

/// Control backends that wait for a lock.
fn waiting(stage: &Stage, database: &str) -> u32 {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'mothership%' \
         AND datname = '{database}' AND wait_event_type = 'Lock'"
    );
    stage.at_home("postgres", &sql).parse().unwrap()
}

/// Tables with all that PostgreSQL prints under a lock, and a router that reads again and again.
fn held_stage(stage: &mut Stage) -> (String, Router) {
    let database = stage.database_with_accounts();
    stage.on_all(
        &database,
        "CREATE TABLE log (t text, d int DEFAULT 5 CHECK (d > 0), g int GENERATED ALWAYS AS (d + 1) STORED); \
         CREATE VIEW logv AS SELECT t, d FROM log; CREATE VIEW logvv AS SELECT t FROM logv; \
         CREATE TABLE other (a int); ALTER TABLE other ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY p ON other USING (EXISTS (SELECT 1 FROM log)); \
         CREATE FUNCTION counted() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM log; END; \
         GRANT ALL ON log, logv, logvv, other TO PUBLIC",
    );
    let router = stage.router(
        "",
        "[catalog]\nrefresh_interval = \"1s\"\ntimeout = \"3s\"\n",
    );
    (database, router)
}

fn lock(wire: &mut Wire) -> Result<(), String> {
    for sql in ["BEGIN", "LOCK TABLE log IN ACCESS EXCLUSIVE MODE"] {
        if let Some(code) = error(&wire.query(sql)) {
            return Err(format!("{sql}: {code}"));
        }
    }
    Ok(())
}

/// A client holds a table, and others work with other tables, come anew and change definitions.
pub fn locks(stage: &mut Stage) -> Result<String, String> {
    let (database, router) = held_stage(stage);
    let mut holder = client(&router, "alice", &database);
    holder.query("SELECT count(*) FROM accounts");
    lock(&mut holder)?;
    let victim = Victim::begin(&router, &database);
    let (begun, mut most, mut rounds) = (Instant::now(), 0, 0);
    let lasts = Duration::from_secs(stage.rng.random_range(6..9));
    while begun.elapsed() < lasts {
        rounds += 1;
        let mut owner = client(&router, "owner", &database);
        for sql in [
            format!("CREATE TABLE more{rounds} (i int)"),
            format!("INSERT INTO more{rounds} VALUES (1)"),
            "SELECT count(*) FROM accounts".to_owned(),
        ] {
            if let Some(code) = error(&owner.query(&sql)) {
                return Err(format!("{sql}: {code}"));
            }
        }
        most = most.max(waiting(stage, &database));
        std::thread::sleep(Duration::from_millis(200));
    }
    let said = victim.end().was_spared(WAIT, 400)?;
    if let Some(code) = error(&holder.query("COMMIT")) {
        return Err(format!("the holder's COMMIT: {code}"));
    }
    match most <= 2 {
        true => Ok(format!("{rounds} rounds, {most} backends waited; {said}")),
        false => Err(format!(
            "{most} backends of the control role waited at once"
        )),
    }
}

/// What is held is known as before, or refused; when it is free it is read, and is right.
pub fn unlocked(stage: &mut Stage) -> Result<String, String> {
    let (database, router) = held_stage(stage);
    stage.on_all(&database, "INSERT INTO log VALUES ('a'), ('b')");
    let mut holder = stage.direct(0, "owner", &database);
    stage.on_all(
        &database,
        "ALTER TABLE log OWNER TO owner; ALTER VIEW logv OWNER TO owner",
    );
    lock(&mut holder)?;
    // A router that has never read them.
    let mut alice = client(&router, "alice", &database);
    if let Some(code) = error(&alice.query("SELECT count(*) FROM accounts")) {
        return Err(format!("a table that nobody holds: {code}"));
    }
    let told = error(&alice.query("SELECT count(*) FROM logvv"));
    if told.as_deref() != Some("55P03") {
        return Err(format!("a view that could not be read: {told:?}"));
    }
    holder.query("CREATE OR REPLACE VIEW logv AS SELECT t, d FROM log WHERE t = 'a'");
    holder.query("COMMIT");
    let ask = "SELECT count(*) FROM logvv";
    let right = soon(|| {
        let answer = alice.query(ask);
        error(&answer).is_none() && answer.iter().any(|frame| frame.kind == b'D')
    });
    if !right || alice.rows(ask) != [["1"]] {
        return Err("it is not read when it is free, or wrongly".to_owned());
    }
    // Held again, it is what it was.
    lock(&mut holder)?;
    std::thread::sleep(Duration::from_secs(2));
    let explained = alice.query("EXPLAIN (ROUTE) SELECT t FROM logvv");
    let told = error(&explained);
    holder.query("ROLLBACK");
    match told {
        None => Ok("refused, then right, then as it was".to_owned()),
        Some(code) => Err(format!(
            "what was known is refused while it is held: {code}"
        )),
    }
}
