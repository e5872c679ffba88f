//! Rights and names of others.

use crate::stage::{Stage, client, error, soon, try_client};
use mothership_tests::shared::USER;
use mothership_tests::{Folder, binaries, poll_until};
use rand::RngExt;
use rand::seq::IndexedRandom;
use std::process::Command;
use std::time::Duration;

/// Code that makes its owner a superuser where it runs with somebody else's rights.
fn greedy(name: &str, returns: &str, value: &str) -> String {
    format!(
        "CREATE FUNCTION {name}() RETURNS {returns} LANGUAGE plpgsql AS $$ BEGIN \
         IF current_user <> 'owner' THEN ALTER ROLE owner SUPERUSER; END IF; RETURN {value}; END $$"
    )
}

/// The owner of a lookup table puts something else in its place, while the router reads it again and again.
pub fn lookup_table(stage: &mut Stage) -> Result<String, String> {
    let (table, function) = (stage.word(), stage.word());
    let database = stage.database();
    stage.on_all(
        &database,
        "SET ROLE owner; CREATE TABLE tenants (id int8 PRIMARY KEY, t text)",
    );
    let define = format!(
        "SET ROLE owner; CREATE TABLE {table} (id int8 PRIMARY KEY, shard text NOT NULL); \
         INSERT INTO {table} VALUES (1, 's1'), (2, 's2'); {}",
        greedy(&function, "text", "'s1'")
    );
    stage.at_home(&database, &define);
    let router = stage.router(
        "",
        &format!(
            "[[table]]\nname = \"tenants\"\nkey = \"id\"\nstrategy = \"places\"\n\
             [[strategy]]\nname = \"places\"\nkind = \"directory\"\ntable = \"{table}\"\n\
             key_column = \"id\"\nshard_column = \"shard\"\n\
             [catalog]\nrefresh_interval = \"200ms\"\n"
        ),
    );
    let mut owner = client(&router, "owner", &database);
    let ask = "SELECT count(*) FROM tenants";
    if let Some(code) = error(&owner.query(ask)) {
        return Err(format!("the lookup table cannot be read at all: {code}"));
    }
    let body = format!("SELECT 1::int8 AS id, {function}() AS shard");
    let swaps = [
        // By names, which a look before would have seen.
        format!("ALTER TABLE {table} RENAME TO {table}_kept; CREATE VIEW {table} AS {body}"),
        format!("DROP VIEW {table}; CREATE MATERIALIZED VIEW {table} AS {body}"),
        format!(
            "DROP MATERIALIZED VIEW {table}; ALTER TABLE {table}_kept RENAME TO {table}; \
             ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; ALTER TABLE {table} FORCE ROW LEVEL SECURITY; \
             CREATE POLICY p ON {table} USING ({function}() = 's1')"
        ),
        format!(
            "DROP POLICY p ON {table}; ALTER TABLE {table} DISABLE ROW LEVEL SECURITY; \
             ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY"
        ),
    ];
    let mut direct = stage.direct(0, "owner", &database);
    for swap in &swaps {
        let done = direct.query(swap);
        if let Some(error) = done.iter().find(|frame| frame.kind == b'E') {
            return Err(format!("{swap}: {error}"));
        }
        for _ in 0..3 {
            // Told or not: it was read.
            owner.query(ask);
            std::thread::sleep(Duration::from_millis(120));
        }
        stage.nobody_rose()?;
    }
    // In a race: table and view change places as fast as they can.
    let rounds = stage.rng.random_range(20..40);
    for _ in 0..rounds {
        let there = format!(
            "BEGIN; ALTER TABLE {table} RENAME TO {table}_kept; CREATE VIEW {table} AS {body}; COMMIT"
        );
        let back =
            format!("BEGIN; DROP VIEW {table}; ALTER TABLE {table}_kept RENAME TO {table}; COMMIT");
        direct.query(&there);
        owner.query(ask);
        direct.query(&back);
    }
    stage.nobody_rose()?;
    match soon(|| error(&owner.query(ask)).is_none()) {
        true => Ok(format!("{} swaps and {rounds} races", swaps.len())),
        false => Err("the lookup table is not read again when it is one".to_owned()),
    }
}

/// The owner of a database makes the router's schema first, or while it is being made.
pub fn own_schema(stage: &mut Stage) -> Result<String, String> {
    let function = stage.word();
    let code = greedy(&format!("mothership.{function}"), "int", "1");
    let ways = [
        format!(
            "CREATE VIEW mothership.installed AS SELECT mothership.{function}() AS version, 0 AS needs"
        ),
        format!(
            "CREATE VIEW mothership.decision AS SELECT gen_random_uuid() AS id, mothership.{function}() AS pid, \
             1::int8 AS started, true AS committed, 's1' AS participants, now() AS decided"
        ),
        format!(
            "CREATE TABLE mothership.installed (version int, needs int); \
             CREATE RULE r AS ON INSERT TO mothership.installed DO ALSO SELECT mothership.{function}(); \
             INSERT INTO mothership.installed VALUES (0, 0)"
        ),
    ];
    let mut tried = 0;
    for way in &ways {
        for waits in [false, true] {
            let database = stage.database();
            let router = stage.router("", "");
            let mut direct = stage.direct(0, "owner", &database);
            let begin = if waits { "BEGIN;" } else { "" };
            let made = direct.query(&format!("{begin} CREATE SCHEMA mothership; {code}; {way}"));
            if let Some(error) = made.iter().find(|frame| frame.kind == b'E') {
                return Err(format!("{way}: {error}"));
            }
            let port = router.port();
            let mut endpoint = router.endpoint("owner", "owner", &database);
            endpoint.port = port;
            // What it is told does not matter: it makes the router look, and install.
            let asked = std::thread::spawn(move || {
                let mut wire = mothership_tests::Wire::connect(port);
                wire.set_limit(crate::stage::SOON);
                if wire
                    .try_login(&endpoint, mothership_tests::message::V3_0, &[])
                    .is_ok()
                {
                    wire.query("SELECT 1");
                }
            });
            if waits {
                let blocked = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted";
                let is_blocked = || stage.at_home("postgres", blocked) == "t";
                poll_until(Duration::from_secs(3), is_blocked);
                direct.query("COMMIT");
            }
            asked
                .join()
                .map_err(|_| "a client was left without an answer".to_owned())?;
            // Recovery has looked twice.
            std::thread::sleep(Duration::from_secs(4));
            stage.nobody_rose()?;
            tried += 1;
        }
    }
    Ok(format!("{tried} ways"))
}

/// Certificates of one authority that name this one and that one.
pub fn certificates(stage: &mut Stage) -> Result<String, String> {
    let folder = Folder::new("hostile-tls");
    let at = folder.path();
    let openssl = |line: String| {
        let mut openssl = Command::new("openssl");
        let done = openssl
            .current_dir(at)
            .args(line.split(' '))
            .output()
            .unwrap();
        assert!(done.status.success(), "{line}: {done:?}");
    };
    let new_key = "-newkey rsa:2048 -nodes";
    openssl(format!(
        "req -x509 {new_key} -keyout ca.key -out ca.crt -days 2 -subj /CN=authority"
    ));
    std::fs::write(at.join("ext"), "subjectAltName=DNS:localhost\n").unwrap();
    let stranger = stage.word();
    let names = [
        "router", "alice", "ALICE", "alice.", "alic", USER, &stranger,
    ];
    for name in names {
        openssl(format!(
            "req {new_key} -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ));
        openssl(format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
             -extfile ext -out {name}.crt"
        ));
    }
    let path = at.display();
    let router = stage.router(
        "",
        &format!(
            "[tls]\nmode = \"verify-full\"\ncertificate = \"{path}/router.crt\"\nkey = \"{path}/router.key\"\n\
             client_ca = \"{path}/ca.crt\"\n[[auth.rule]]\nmethod = \"trust\"\n"
        ),
    );
    let asks = |certificate: &str, user: &str, database: &str, sql: &str| {
        let mut psql = Command::new(binaries().program("psql"));
        psql.env("PGSSLCERT", at.join(format!("{certificate}.crt")));
        psql.env("PGSSLKEY", at.join(format!("{certificate}.key")));
        psql.env("PGSSLMODE", "require").args(["-AtXc", sql]);
        psql.arg(router.psql_url(user, database));
        let said = psql.output().unwrap();
        (
            said.status.success(),
            String::from_utf8_lossy(&said.stderr).into_owned(),
        )
    };
    let mut wrong = Vec::new();
    for certificate in &names[1..] {
        for (user, database, sql) in [
            ("alice", "postgres", "SELECT 1"),
            (USER, "postgres", "SELECT 1"),
            (USER, "mothership", "SHOW VERSION"),
        ] {
            let (let_in, said) = asks(certificate, user, database, sql);
            if let_in != (*certificate == user) {
                wrong.push(format!(
                    "CN={certificate} as {user} in {database}: {let_in} {said}"
                ));
            }
        }
    }
    match wrong.is_empty() {
        true => Ok(format!("{} certificates, three doors", names.len() - 1)),
        false => Err(wrong.join("; ")),
    }
}

/// A database is asked for by the names that it has on servers.
pub fn aliases(stage: &mut Stage) -> Result<String, String> {
    let there = stage.database_with_accounts();
    let alias = stage.word();
    let role = *["alice", "bob"].choose(&mut stage.rng).unwrap();
    let other = if role == "alice" { "bob" } else { "alice" };
    let by = if stage.rng.random() {
        format!("server_name = \"{there}\"")
    } else {
        format!("on = {{ s1 = \"{there}\", s2 = \"{there}\" }}")
    };
    let router = stage.router(
        "",
        &format!(
            "[[database]]\nname = \"{alias}\"\n{by}\n\
             [[auth.rule]]\ndatabases = [\"{alias}\"]\nusers = [\"{role}\"]\nmethod = \"reject\"\n\
             [[auth.rule]]\nmethod = \"scram-sha-256\"\n\
             [[rule]]\nname = \"closed\"\ndatabases = [\"{alias}\"]\ntables = [\"accounts\"]\naction = \"refuse\"\nmessage = \"closed\"\n"
        ),
    );
    let ask = "SELECT count(*) FROM accounts";
    for user in [role, other] {
        for name in [&alias, &there] {
            let let_in = try_client(&router, user, name);
            let told = match let_in {
                Err(error) => error.sqlstate(),
                Ok(mut wire) => error(&wire.query(ask)).unwrap_or_default(),
            };
            if told.is_empty() {
                return Err(format!("{user} reads by the name {name}, {by}"));
            }
        }
    }
    Ok(format!("four tries, by {}", by.split(' ').next().unwrap()))
}
