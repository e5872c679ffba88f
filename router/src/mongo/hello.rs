//! What the members of a shard say they are, and whether that is a replica set which the router can use.
//!
//! Pure: in come the answers to `hello`, out go findings and which member is asked further.

use mongodb::bson::Document;
use mothership_documents::drift::{Finding, Weight};
use std::collections::BTreeSet;

/// The first wire version that has all commands of the router's: that of MongoDB 4.4.
const LEAST_WIRE_VERSION: i32 = 9;

/// A server of the shard, and what it answered.
#[derive(Clone, Debug)]
pub struct Asked {
    /// As the configuration names it.
    pub address: String,
    /// The answer to `hello`, or why there is none.
    pub answer: Result<Document, String>,
}

/// Whom to ask further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The primary.
    Primary(usize),
    /// There is none, but this one has documents.
    Secondary(usize),
    /// Nobody.
    None,
}

impl Choice {
    /// A member that has documents.
    pub fn readable(self) -> Option<usize> {
        match self {
            Choice::Primary(member) | Choice::Secondary(member) => Some(member),
            Choice::None => None,
        }
    }
}

/// Whom to ask, of these.
pub fn choose(members: &[Asked]) -> Choice {
    let is = |word: &str| {
        let mut answers = members.iter();
        answers.position(|member| {
            let answer = member.answer.as_ref().ok();
            answer.is_some_and(|hello| is_member(hello) && says(hello, word))
        })
    };
    match (is("isWritablePrimary"), is("secondary")) {
        (Some(primary), _) => Choice::Primary(primary),
        (None, Some(secondary)) => Choice::Secondary(secondary),
        (None, None) => Choice::None,
    }
}

/// What is wrong with them.
pub fn findings(members: &[Asked]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let choice = choose(members);
    for Asked { address, answer } in members {
        match answer {
            // The others do its work, as long as they can.
            Err(why) => {
                let weight = match choice {
                    Choice::None => Weight::Error,
                    _ => Weight::Warning,
                };
                findings.push(Finding::new(weight, format!("server {address}: {why}")));
            }
            Ok(hello) => findings.extend(of_member(address, hello)),
        }
    }
    let answers: Vec<&Document> = members.iter().flat_map(|one| &one.answer).collect();
    let sets: BTreeSet<&str> = answers.iter().filter_map(|hello| set(hello)).collect();
    if sets.len() > 1 {
        let names: Vec<&str> = sets.into_iter().collect();
        let what = format!(
            "its servers are of several replica sets ({}): give each a shard of its own",
            names.join(", ")
        );
        findings.push(Finding::new(Weight::Error, what));
    }
    let what = match choice {
        Choice::Primary(_) => None,
        Choice::Secondary(_) => Some("no server is the primary: nothing can be written"),
        Choice::None => Some("no server is a member that can be read"),
    };
    findings.extend(what.map(|what| Finding::new(Weight::Error, what)));
    findings.extend(unlisted(members, &answers));
    findings
}

fn of_member(address: &str, hello: &Document) -> Option<Finding> {
    let wrong = |what: String| {
        Some(Finding::new(
            Weight::Error,
            format!("server {address} {what}"),
        ))
    };
    if hello.get_str("msg").is_ok_and(|word| word == "isdbgrid") {
        return wrong("is a mongos: name the members of a replica set".to_owned());
    }
    if set(hello).is_none() {
        return wrong(
            "is no member of a replica set, without which there are no transactions: start it with --replSet".to_owned(),
        );
    }
    let version = hello.get_i32("maxWireVersion").unwrap_or(0);
    if version < LEAST_WIRE_VERSION {
        return wrong(format!(
            "is too old (wire version {version}): MongoDB 4.4 is the oldest that will do"
        ));
    }
    let what = match is_member(hello) {
        true => return None,
        false => "is neither primary nor secondary now: it takes no part until it is",
    };
    let what = format!("server {address} {what}");
    Some(Finding::new(Weight::Warning, what))
}

/// Members that no server of the shard is. Known only if all of them answer, and by the names that they use themselves.
fn unlisted(members: &[Asked], answers: &[&Document]) -> Option<Finding> {
    if answers.len() < members.len() {
        return None;
    }
    let own: BTreeSet<&str> = answers
        .iter()
        .flat_map(|hello| hello.get_str("me"))
        .collect();
    let all: BTreeSet<&str> = answers
        .iter()
        .flat_map(|hello| hello.get_array("hosts"))
        .flatten()
        .filter_map(|host| host.as_str())
        .collect();
    let unlisted: Vec<&str> = all.difference(&own).copied().collect();
    (!unlisted.is_empty()).then(|| {
        let what = format!(
            "the replica set has members that are not declared ({}): when one of them is the primary, nothing can be \
             written",
            unlisted.join(", ")
        );
        Finding::new(Weight::Warning, what)
    })
}

fn set(hello: &Document) -> Option<&str> {
    hello.get_str("setName").ok()
}

fn says(hello: &Document, word: &str) -> bool {
    hello.get_bool(word).unwrap_or(false)
}

fn is_member(hello: &Document) -> bool {
    set(hello).is_some() && (says(hello, "isWritablePrimary") || says(hello, "secondary"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::doc;

    fn member(name: &str, role: &str, hosts: &[&str]) -> Asked {
        let answer =
            doc! { "setName": "rs", "me": name, role: true, "hosts": hosts, "maxWireVersion": 25 };
        Asked {
            address: name.to_owned(),
            answer: Ok(answer),
        }
    }

    fn told(members: &[Asked]) -> Vec<String> {
        findings(members).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_whole_replica_set_is_no_finding() {
        let hosts = ["a:1", "b:1"];
        let members = [
            member("a:1", "secondary", &hosts),
            member("b:1", "isWritablePrimary", &hosts),
        ];
        assert_eq!(told(&members), Vec::<String>::new());
        assert_eq!(choose(&members), Choice::Primary(1));
    }

    #[test]
    fn without_a_primary_nothing_is_written() {
        let mut lost = member("b:1", "secondary", &["a:1", "b:1"]);
        lost.answer = Err("connection refused".to_owned());
        let members = [member("a:1", "secondary", &["a:1", "b:1"]), lost];
        assert_eq!(
            told(&members),
            [
                "warning: server b:1: connection refused",
                "error: no server is the primary: nothing can be written",
            ]
        );
        assert_eq!(choose(&members), Choice::Secondary(0));
        assert_eq!(
            told(&members[1..]),
            [
                "error: server b:1: connection refused",
                "error: no server is a member that can be read",
            ]
        );
    }

    #[test]
    fn what_is_no_replica_set_is_told() {
        let other = |answer: Document| Asked {
            address: "x:1".to_owned(),
            answer: Ok(answer),
        };
        let alone = other(doc! { "isWritablePrimary": true, "maxWireVersion": 25 });
        assert_eq!(
            told(&[alone]),
            [
                "error: server x:1 is no member of a replica set, without which there are no transactions: start it \
                 with --replSet",
                "error: no server is a member that can be read",
            ]
        );
        let gate = other(doc! { "isWritablePrimary": true, "msg": "isdbgrid" });
        assert!(told(&[gate])[0].contains("is a mongos"));
        let old = other(doc! { "isWritablePrimary": true, "setName": "rs", "maxWireVersion": 8 });
        assert!(told(&[old])[0].contains("is too old (wire version 8)"));
        let starting = other(doc! { "setName": "rs", "maxWireVersion": 25 });
        assert!(told(&[starting])[0].starts_with("warning: server x:1 is neither"));
    }

    #[test]
    fn members_of_other_sets_and_members_that_are_not_declared_are_told() {
        let mut other = member("c:1", "secondary", &["c:1"]);
        other.answer = other.answer.map(|mut answer| {
            answer.insert("setName", "other");
            answer
        });
        let members = [member("a:1", "isWritablePrimary", &["a:1", "b:1"]), other];
        assert_eq!(
            told(&members),
            [
                "error: its servers are of several replica sets (other, rs): give each a shard of its own",
                "warning: the replica set has members that are not declared (b:1): when one of them is the primary, \
                 nothing can be written",
            ]
        );
    }
}
