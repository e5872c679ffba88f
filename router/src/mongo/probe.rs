//! The questions that the router asks of a server itself, answered for a member of a replica set.
//!
//! Positions in the log of PostgreSQL are positions in MongoDB's oplog: the seconds and the number within them are the
//! two halves. The term of an election is the timeline.

use super::outcome::{Stop, stop};
use crate::config::Label;
use mongodb::Client;
use mongodb::bson::{Document, Timestamp, doc};
use mothership_proto::report::{Report, sqlstate};
use std::hash::{Hash, Hasher};

/// The answer to [`mothership_pool::health::report::QUESTION`]: a row.
pub(super) async fn health(client: &Client) -> Result<Vec<Option<String>>, Stop> {
    let admin = client.database("admin");
    let hello = admin.run_command(doc! { "hello": 1 }).await;
    let hello = hello.map_err(|error| stop(&error, None))?;
    row(&hello).ok_or_else(|| {
        Report::fatal(
            sqlstate::CANNOT_CONNECT_NOW,
            "the database system is not yet accepting connections",
        )
        .detail("the member is neither primary nor secondary of a replica set")
        .into()
    })
}

/// The answer of the router that stands for a home shard itself: a primary that nobody replicates.
pub(super) fn of_nobody() -> Vec<Option<String>> {
    let text = |text: &str| Some(text.to_owned());
    vec![
        text("f"),
        text("1"),
        text("0/1"),
        text("000000010000000000000000"),
        None,
        text("0"),
        text("0"),
        None,
        text("off"),
        text(""),
    ]
}

fn row(hello: &Document) -> Option<Vec<Option<String>>> {
    let is_primary = hello.get_bool("isWritablePrimary").unwrap_or(false);
    let is_secondary = hello.get_bool("secondary").unwrap_or(false);
    if !(is_primary || is_secondary) {
        return None;
    }
    let written = hello
        .get_document("lastWrite")
        .ok()?
        .get_document("opTime")
        .ok()?;
    let Timestamp { time, increment } = written.get_timestamp("ts").ok()?;
    let term = u32::try_from(written.get_i64("t").ok()?.max(1)).ok()?;
    let position = format!("{time:X}/{increment:X}");
    let on = |is: bool| if is { "t" } else { "f" };
    let in_log = is_primary.then(|| format!("{term:08X}0000000000000000"));
    Some(vec![
        Some(on(is_secondary).to_owned()),
        Some(system(hello.get_str("setName").ok()?).to_string()),
        Some(position),
        in_log,
        is_secondary.then(|| term.to_string()),
        Some("0".to_owned()),
        Some("0".to_owned()),
        None,
        Some("off".to_owned()),
        Some(labels(hello)),
    ])
}

/// The member's tags as labels of a server: of `{dc: "eu"}` it is `dc-eu`. What no label can be is none.
fn labels(hello: &Document) -> String {
    let tags = hello.get_document("tags").into_iter().flatten();
    let labels = tags.filter_map(|(name, value)| {
        let label = format!("{name}-{}", value.as_str()?);
        Label::new(&label).map(|label| label.as_str().to_owned())
    });
    let mut labels: Vec<String> = labels.collect();
    // MongoDB tells them in any order.
    labels.sort_unstable();
    labels.join(" ")
}

/// A number for the replica set, from its name: positions of different sets say nothing of each other.
fn system(set: &str) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    set.hash(&mut hasher);
    hasher.finish() >> 1 | 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use mothership_pool::health::report::{Report, ReportedRole};

    #[test]
    fn tags_are_labels() {
        let told = |tags: Document| labels(&doc! { "tags": tags });
        assert_eq!(
            told(doc! { "dc": "eu", "use": "reports" }),
            "dc-eu use-reports"
        );
        assert_eq!(told(doc! { "a b": "c", "d": "ä", "n": 1, "x": "y" }), "x-y");
        assert_eq!(labels(&doc! {}), "");
    }

    #[test]
    fn a_member_reports_as_a_server_of_postgresql_does() {
        let hello = |primary: bool| {
            doc! {
                "isWritablePrimary": primary,
                "secondary": !primary,
                "setName": "docs0",
                "lastWrite": { "opTime": { "ts": Timestamp { time: 0x6000_0001, increment: 2 }, "t": 7_i64 } },
            }
        };
        let report = |primary| {
            let row = row(&hello(primary)).expect("it is a member");
            Report::parse(|at| row[at].as_deref()).expect("it can be read")
        };
        let ReportedRole::Primary { timeline, written } = report(true).says else {
            panic!("it is the primary");
        };
        assert_eq!(
            (timeline, written.to_string()),
            (7, "60000001/2".to_owned())
        );
        let ReportedRole::Replica {
            timeline, replayed, ..
        } = report(false).says
        else {
            panic!("it is a secondary");
        };
        assert_eq!((timeline, replayed), (Some(7), written));
        assert_eq!(row(&doc! { "setName": "docs0" }), None);
    }
}
