//! Whether the servers keep the same of each user's password.
//!
//! A client that logs in with SCRAM proves to the router that it knows the password,
//! and the router proves the same to the servers with what it has learned: that works
//! only where salt and iterations are the same. No verifier leaves this module.

use crate::control::Control;
use crate::log::Chain;
use crate::topology::Topology;
use std::collections::{BTreeMap, BTreeSet};
use zeroize::Zeroizing;

/// More roles than this are counted and not named.
const NAMED: usize = 20;

/// Roles that may log in, with what is kept of their passwords.
const QUESTION: &str =
    "SELECT rolname::pg_catalog.text, rolpassword FROM pg_catalog.pg_authid WHERE rolcanlogin";

type Verifiers = BTreeMap<String, Option<Zeroizing<String>>>;

/// What a shard's primary keeps, or why that is not known.
type Kept = (String, Result<Verifiers, String>);

/// Asks the primary of each shard, and says what differs. Users whose password on the servers is in the configuration
/// are left out.
pub async fn compared(control: &Control, topology: &Topology) -> Vec<String> {
    if !topology.config.has_postgres() {
        return Vec::new();
    }
    let database = topology.config.control.database.as_str();
    let limit = topology.config.control.timeout;
    let mut shards: Vec<Kept> = Vec::new();
    for (id, shard) in topology.shards.by_id().take(topology.postgres) {
        let asked = async {
            let lent = control.lend(topology, id, database).await;
            let client = lent.map_err(|error| Chain(&error).to_string())?;
            let rows = client.ask(client.query(QUESTION, &[])).await;
            let rows = rows.map_err(|error| Chain(&error).to_string())?;
            let row = |row: &tokio_postgres::Row| {
                (
                    row.get(0),
                    row.get::<_, Option<String>>(1).map(Zeroizing::new),
                )
            };
            Ok(rows.iter().map(row).collect())
        };
        let kept = match tokio::time::timeout(limit, asked).await {
            Ok(kept) => kept,
            Err(_) => Err("no answer in time".to_owned()),
        };
        shards.push((shard.name.clone(), kept));
    }
    let own_control = topology
        .config
        .shards
        .iter()
        .map(|shard| shard.control_user.as_ref());
    let own = topology
        .config
        .users
        .iter()
        .filter(|user| user.password.is_some() || user.server_password.is_some());
    let configured = own
        .map(|user| {
            user.server_user
                .as_ref()
                .unwrap_or(&user.name.value)
                .as_str()
        })
        .chain([topology.config.control.user.as_str()])
        .chain(own_control.flatten().map(|name| name.as_str()));
    differences(&shards, &configured.collect())
}

/// One line for each role that is not the same everywhere.
fn differences(shards: &[Kept], configured: &BTreeSet<&str>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut known: Vec<(&str, &Verifiers)> = Vec::new();
    for (name, kept) in shards {
        match kept {
            Ok(kept) => known.push((name, kept)),
            Err(why) => lines.push(format!(
                "shard {name}: verifiers of users could not be compared: {why}"
            )),
        }
    }
    let roles: BTreeSet<&String> = known.iter().flat_map(|(_, kept)| kept.keys()).collect();
    let mut unnamed = 0usize;
    for role in roles {
        if configured.contains(role.as_str()) {
            continue;
        }
        // The first shard that has a verifier is what the others are compared with.
        let Some((first, verifier)) = known
            .iter()
            .find_map(|(name, kept)| Some((*name, kept.get(role)?.as_ref()?)))
        else {
            continue;
        };
        let others = known
            .iter()
            .filter(|(_, kept)| kept.get(role).and_then(Option::as_ref) != Some(verifier));
        let others: Vec<&str> = others.map(|(name, _)| *name).collect();
        if others.is_empty() {
            continue;
        }
        if lines.len() >= NAMED {
            unnamed += 1;
            continue;
        }
        lines.push(format!(
            "role \"{role}\": what {} keeps of its password is not what {first} keeps; set the password through the router, or give \
             the user a server_password",
            others.join(", ")
        ));
    }
    if unnamed > 0 {
        lines.push(format!("the same holds of {unnamed} more roles"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(name: &str, roles: &[(&str, Option<&str>)]) -> Kept {
        let roles = roles.iter().map(|(role, verifier)| {
            (
                (*role).to_owned(),
                verifier.map(|v| Zeroizing::new(v.to_owned())),
            )
        });
        (name.to_owned(), Ok(roles.collect()))
    }

    #[test]
    fn roles_that_differ_are_named_and_their_verifiers_are_not() {
        let shards = [
            kept(
                "s1",
                &[
                    ("a", Some("va")),
                    ("b", Some("vb")),
                    ("c", None),
                    ("d", Some("vd")),
                    ("mine", Some("v1")),
                ],
            ),
            kept(
                "s2",
                &[
                    ("a", Some("va")),
                    ("b", Some("other")),
                    ("c", None),
                    ("mine", Some("v2")),
                ],
            ),
            kept(
                "s3",
                &[
                    ("a", Some("va")),
                    ("b", None),
                    ("c", None),
                    ("d", Some("vd")),
                    ("mine", None),
                ],
            ),
            ("s4".to_owned(), Err("gone".to_owned())),
        ];
        let lines = differences(&shards, &BTreeSet::from(["mine"]));
        let said = lines.join("\n");
        assert_eq!(lines.len(), 3, "{said}");
        assert!(
            said.contains("shard s4: verifiers of users could not be compared: gone"),
            "{said}"
        );
        assert!(said.contains("role \"b\": what s2, s3 keeps"), "{said}");
        assert!(said.contains("role \"d\": what s2 keeps"), "{said}");
        assert!(
            !said.contains("other") && !said.contains("vd") && !said.contains("vb"),
            "{said}"
        );
    }

    #[test]
    fn many_differences_are_counted() {
        let names: Vec<String> = (0..50).map(|n| format!("r{n:02}")).collect();
        let with = |verifier| {
            names
                .iter()
                .map(move |n| (n.as_str(), Some(verifier)))
                .collect::<Vec<_>>()
        };
        let shards = [kept("s1", &with("x")), kept("s2", &with("y"))];
        let lines = differences(&shards, &BTreeSet::new());
        assert_eq!(lines.len(), NAMED + 1);
        assert_eq!(lines[NAMED], "the same holds of 30 more roles");
    }
}
