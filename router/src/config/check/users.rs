//! Users and databases.

use crate::config::auth::User;
use crate::config::observe::Console;
use crate::config::problem::Findings;
use crate::config::secret::Secret;
use crate::config::shards::{Database, Engine, WrittenDatabase, WrittenShard};
use crate::config::written::Written;
use mothership_shardmap::Label;

use super::{Names, duplicates};

pub(super) fn check(written: &Written, findings: &mut Findings) {
    duplicates(
        "users",
        written.user.iter().map(|user| &user.name),
        findings,
    );
    written
        .user
        .iter()
        .for_each(|user| verifier(user, findings));
    let of_documents = |shard: &WrittenShard| shard.engine.value == Engine::Mongodb;
    if let (Some(first), true, true) = (
        written.shard.first(),
        written.user.is_empty(),
        written.shard.iter().all(of_documents),
    ) {
        findings.add(
            first.name.offset,
            "nobody can log in: no shard is of PostgreSQL, which would know users",
            "add a [[user]] with a name and a password",
        );
    }
}

fn verifier(user: &User, findings: &mut Findings) {
    let Some(verifier) = &user.verifier else {
        return;
    };
    let name = &user.name;
    if user.password.is_some() {
        let what = format!("user `{}` has a password and a verifier", name.value);
        findings.add(name.offset, what, "keep one of them");
    }
    if !well_formed(verifier) {
        let what = format!("the verifier of user `{}` has an unknown form", name.value);
        let fix = "copy it from pg_authid.rolpassword: SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>, or md5 and 32 hexadecimal digits";
        findings.add(name.offset, what, fix);
    }
}

/// The form only; the keys are decoded where they are used.
fn well_formed(verifier: &Secret) -> bool {
    let text = verifier.reveal();
    if let Some(hash) = text.strip_prefix("md5") {
        return hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    }
    let Some(rest) = text.strip_prefix("SCRAM-SHA-256$") else {
        return false;
    };
    let Some((costs, keys)) = rest.split_once('$') else {
        return false;
    };
    let (Some((iterations, salt)), Some((stored, server))) =
        (costs.split_once(':'), keys.split_once(':'))
    else {
        return false;
    };
    let base64 = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
    };
    // 32 bytes are 44 characters.
    let key = |text: &str| text.len() == 44 && base64(text);
    iterations
        .parse::<u32>()
        .is_ok_and(|iterations| iterations > 0)
        && base64(salt)
        && key(stored)
        && key(server)
}

pub(super) fn databases(
    written: Vec<WrittenDatabase>,
    console: &Console,
    known: &Names<'_>,
    findings: &mut Findings,
) -> Vec<Database> {
    duplicates(
        "databases",
        written.iter().map(|database| &database.name),
        findings,
    );
    for database in &written {
        if console.databases.contains(&database.name.value) {
            let what = format!(
                "database `{}` is also a name of the console",
                database.name.value
            );
            findings.add(
                database.name.offset,
                what,
                "give it another name, or set `console.databases`",
            );
        }
        database
            .on
            .value
            .keys()
            .for_each(|shard| known.shard(shard, database.on.offset, findings));
    }
    written.into_iter().map(database).collect()
}

fn database(written: WrittenDatabase) -> Database {
    let named = |(shard, name): (String, _)| Some((Label::new(&shard)?, name));
    Database {
        server_name: written
            .server_name
            .unwrap_or_else(|| written.name.value.clone()),
        name: written.name.value,
        on: written.on.value.into_iter().filter_map(named).collect(),
        pool_mode: written.pool_mode,
        pool_min: written.pool_min,
        pool_max: written.pool_max,
        max_clients: written.max_clients,
        max_per_server: written.max_per_server,
    }
}
