//! Settings are said again on other connections by their values. However they were written, and by whatever settings, they
//! become no statement there.

use crate::spelling::{identifier, literal};
use crate::stage::{Stage, client, error};
use mothership_tests::{Endpoint, Frame, Wire};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// What values are made of.
const PIECES: [&str; 14] = [
    "'",
    "\\",
    "\"",
    "$$",
    "--",
    "/*",
    "\n",
    "x",
    " ",
    ";",
    "'; SET own.b TO stolen; --",
    "\\'; SET own.b TO stolen; --",
    "\\'; CREATE TEMP TABLE shared (a int); --",
    "E'",
];

/// What a session has.
const SEEN: &str = "SELECT coalesce(current_setting('own.a', true), ''), coalesce(current_setting('own.b', true), ''), \
    current_setting('search_path'), current_setting('application_name'), current_user, \
    current_setting('standard_conforming_strings'), \
    (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname LIKE 'pg\\_temp%')";

fn value(rng: &mut StdRng) -> String {
    let count = rng.random_range(1..5);
    (0..count).map(|_| *PIECES.choose(rng).unwrap()).collect()
}

/// Statements that set it, one way or another.
fn sets(rng: &mut StdRng, value: &str, role: &str, conforming: bool) -> Vec<String> {
    let mut written = |text: &str| literal(rng, text, conforming);
    let (a, role_text) = (written(value), written(role));
    let other = written(&value.chars().rev().collect::<String>());
    let (name, role_name) = (identifier(rng, value), identifier(rng, role));
    let short = value.len() < 60;
    let ways = [
        vec![format!("SET own.a TO {a}")],
        vec![format!("SET SESSION own.a = {a}")],
        vec![format!("SELECT set_config('own.a', {a}, false)")],
        vec![format!(
            "SELECT pg_catalog . set_config({}, {a}, False)",
            literal(rng, "own.a", conforming)
        )],
        vec![format!("SET own.a TO {}", if short { &name } else { &a })],
        vec![format!(
            "SET search_path TO {a}, {}",
            if short { &name } else { &other }
        )],
        vec![format!("SET SCHEMA {a}")],
        vec![format!("SELECT set_config('search_path', {a}, false)")],
        vec![format!("SET application_name TO {a}")],
        vec![format!("SET ROLE {role_text}"), format!("SET own.a TO {a}")],
        vec![format!("SET ROLE {role_name}")],
        vec![format!("SELECT set_config('role', {role_text}, false)")],
        vec![
            format!("BEGIN; SET own.a TO {a}; SAVEPOINT s; SET own.a TO {other}"),
            "ROLLBACK TO s; COMMIT".to_owned(),
        ],
        vec![format!(
            "BEGIN; SET own.a TO {other}; SET LOCAL own.a TO {a}; COMMIT"
        )],
    ];
    ways.choose(rng).unwrap().clone()
}

fn look(wire: &mut Wire) -> Result<Vec<String>, String> {
    let answer = wire.query(SEEN);
    let row = answer.iter().find(|frame| frame.kind == b'D');
    row.map(Frame::row_text)
        .ok_or_else(|| error(&answer).unwrap_or_default())
}

/// A session of its own; what its startup packet says is at first what the round sets.
fn begin(endpoint: &Endpoint, startup: &[(String, String)]) -> Wire {
    let startup: Vec<(&str, &str)> = startup.iter().map(|(n, v)| (&**n, &**v)).collect();
    Wire::login_with(endpoint, &startup)
}

pub fn again(stage: &mut Stage) -> Result<String, String> {
    let database = stage.database();
    let role = format!("it's \\{} \"; SET own.b TO stolen; --", stage.word());
    let quoted = role.replace('"', "\"\"");
    stage.at_home(
        &database,
        &format!("CREATE ROLE \"{quoted}\"; GRANT \"{quoted}\" TO alice"),
    );
    let router = stage.pooled(1, "");
    let home = stage.fleet.shards[0].primary.port();
    let through = router.endpoint("alice", "alice", &database);
    let past = Endpoint {
        port: home,
        ..through.clone()
    };
    // About one in six keeps its connection: a third of so many hardly comes by chance.
    let (rounds, mut changed, mut kept) = (40, 0, 0);
    let mut other = client(&router, "alice", &database);
    let plain = look(&mut stage.direct(0, "alice", &database))?;
    'rounds: for round in 0..rounds {
        let conforming = stage.rng.random();
        let [own, others] = if conforming {
            ["on", "off"]
        } else {
            ["off", "on"]
        };
        let text = value(&mut stage.rng);
        let in_options: String = text
            .chars()
            .flat_map(|c| [(c.is_whitespace() || c == '\\').then_some('\\'), Some(c)])
            .flatten()
            .collect();
        let startup = match stage.rng.random_range(0..6) {
            0 => vec![("own.a".to_owned(), text.clone())],
            1 => vec![("options".to_owned(), format!("-c own.a={in_options}"))],
            2 => vec![("application_name".to_owned(), text.clone())],
            _ => Vec::new(),
        };
        let mut said = vec![format!(
            "SET standard_conforming_strings = {own}; SET backslash_quote = on"
        )];
        if startup.is_empty() {
            said.extend(sets(&mut stage.rng, &text, &role, conforming));
        }
        let what = format!("{startup:?} {said:?}");
        let (mut client, mut alone) = (begin(&through, &startup), begin(&past, &startup));
        for sql in &said {
            let told = [&mut client, &mut alone].map(|wire| error(&wire.query(sql)));
            if told[0] != told[1] {
                return Err(format!("{sql}: {:?}, and alone {:?}", told[0], told[1]));
            }
        }
        let right = look(&mut alone)?;
        changed += u32::from(right[..5] != plain[..5]);
        for _ in 0..2 {
            // The connection goes to somebody who reads strings in another way, and comes back.
            other.query(&format!("SET standard_conforming_strings = {others}"));
            let of_other = match look(&mut other) {
                // What is not certain keeps its connection, which is closed when it leaves.
                Err(code) if code == "53300" => {
                    kept += 1;
                    drop(client);
                    let left = look(&mut other);
                    if left.as_ref().is_ok_and(|left| left[..5] == plain[..5]) {
                        continue 'rounds;
                    }
                    return Err(format!("{what}: left {left:?}"));
                }
                answer => answer.map_err(|code| format!("{what}: {code} to somebody else"))?,
            };
            let mut wanted = plain.clone();
            others.clone_into(&mut wanted[5]);
            if of_other != wanted {
                return Err(format!("{what}: somebody else has {of_other:?}"));
            }
            let got = look(&mut client).map_err(|code| format!("{what}: {code}"))?;
            if got != right {
                return Err(format!("round {round}, {what}: {got:?} and not {right:?}"));
            }
        }
    }
    stage.at_home(&database, &format!("DROP ROLE \"{quoted}\""));
    match changed * 2 > rounds && kept * 3 < rounds {
        true => Ok(format!(
            "{rounds} values, {kept} of which kept a connection"
        )),
        false => Err(format!(
            "of {rounds} rounds {changed} set anything, {kept} kept a connection"
        )),
    }
}
