//! What is sent to a member, and what its answers mean.
//!
//! Pure.

use mongodb::bson::raw::cstr;
use mongodb::bson::{
    Binary, Bson, Document, RawDocument, RawDocumentBuf, rawdoc, spec::BinarySubtype,
};
use mothership_documents::translate::Command;
use std::time::Duration;

/// Rows that come with the first answer, whatever else is asked for: MongoDB gives 101 documents with it.
const FIRST: u64 = 100;

/// How texts are compared, also in a collection that has a collation of its own: by their bytes.
const BYTES: &str = "simple";
/// Most finds are shorter than that.
const ROOM: usize = 512;
/// A document without fields.
const EMPTY: [u8; 5] = [5, 0, 0, 0, 0];

/// What a find is asked with, beside what it finds.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Asked<'a> {
    /// In which database.
    pub database: &'a str,
    /// See [`ending`].
    pub ending: &'a RawDocument,
    /// The server ends it then.
    pub time: Option<Duration>,
}

/// What all finds in a session of MongoDB's have at their end: the session, by which they can be ended, and the database.
/// `None` if the session's id is no document.
pub(in super::super) fn ending(session: &Document, database: &str) -> Option<RawDocumentBuf> {
    Some(rawdoc! {
        "lsid": raw(session)?,
        "$db": database,
        // Which member it is has been decided: a secondary is to answer as well.
        "$readPreference": { "mode": "primaryPreferred" },
    })
}

fn raw(document: &Document) -> Option<RawDocumentBuf> {
    RawDocumentBuf::try_from(document).ok()
}

/// A find as the server has it, if all its rows come with the first answer; `None` of all other commands.
pub(super) fn find(command: &Command, asked: Asked<'_>) -> Option<RawDocumentBuf> {
    let Command::Find {
        collection,
        filter,
        projection,
        sort,
        skip,
        limit,
        single,
    } = command
    else {
        return None;
    };
    if !(*single || limit.is_some_and(|limit| limit <= FIRST)) {
        return None;
    }
    let mut bytes = Vec::with_capacity(ROOM);
    bytes.extend_from_slice(&EMPTY);
    let mut out = RawDocumentBuf::from_bytes(bytes).ok()?;
    out.append(cstr!("find"), collection.as_str());
    out.append(cstr!("filter"), raw(filter)?);
    if !projection.is_empty() {
        out.append(cstr!("projection"), raw(projection)?);
    }
    if !sort.is_empty() {
        out.append(cstr!("sort"), raw(sort)?);
    }
    if *skip > 0 {
        out.append(cstr!("skip"), i64::try_from(*skip).ok()?);
    }
    if let Some(limit) = limit {
        out.append(cstr!("limit"), i64::try_from(*limit).ok()?);
    }
    // Where no texts are compared it would only be read, which takes its time.
    if !sort.is_empty() || filter.values().any(may_hold_text) {
        out.append(cstr!("collation"), rawdoc! { "locale": BYTES });
    }
    if let Some(time) = asked.time {
        let milliseconds = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        out.append(cstr!("maxTimeMS"), milliseconds);
    }
    for field in asked.ending {
        let (name, value) = field.ok()?;
        out.append(name, value);
    }
    Some(out)
}

/// Whether a part of a filter has a text, be it the name of a field.
fn may_hold_text(part: &Bson) -> bool {
    match part {
        Bson::Document(parts) => parts.values().any(may_hold_text),
        Bson::Array(parts) => parts.iter().any(may_hold_text),
        Bson::Null
        | Bson::Boolean(_)
        | Bson::Int32(_)
        | Bson::Int64(_)
        | Bson::Double(_)
        | Bson::Decimal128(_)
        | Bson::DateTime(_)
        | Bson::ObjectId(_)
        | Bson::Binary(_) => false,
        _ => true,
    }
}

/// What came of a command.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// All rows of a find.
    Rows(Vec<RawDocumentBuf>),
    /// There are more than those that came, in this cursor of this collection.
    More(i64, String),
    /// The server's error.
    Failed(i32, String),
}

/// What the answer to a find says; `None` if it is none.
pub(super) fn found(answer: &RawDocument) -> Option<Answer> {
    if let Some((code, message)) = failed(answer)? {
        return Some(Answer::Failed(code, message));
    }
    let cursor = answer.get_document("cursor").ok()?;
    let id = cursor.get_i64("id").ok()?;
    if id != 0 {
        let (_, collection) = cursor.get_str("ns").ok()?.split_once('.')?;
        return Some(Answer::More(id, collection.to_owned()));
    }
    let batch = cursor.get_array("firstBatch").ok()?;
    let rows = batch
        .into_iter()
        .map(|row| Some(row.ok()?.as_document()?.to_owned()))
        .collect::<Option<_>>()?;
    Some(Answer::Rows(rows))
}

/// Ends a cursor.
pub(super) fn kill_cursor(cursor: i64, collection: &str, database: &str) -> RawDocumentBuf {
    rawdoc! { "killCursors": collection, "cursors": [cursor], "$db": database }
}

/// The error that an answer is, if it is one. The first `None` is of what is no answer.
pub(super) fn failed(answer: &RawDocument) -> Option<Option<(i32, String)>> {
    if answer.get_f64("ok").ok()? == 1.0 {
        return Some(None);
    }
    let code = answer.get_i32("code").ok()?;
    let message = answer.get_str("errmsg").unwrap_or_default();
    Some(Some((code, message.to_owned())))
}

/// The first command of a connection: who we are, and how the user may log in.
pub(super) fn hello(user: Option<&str>) -> RawDocumentBuf {
    let mut out = rawdoc! {
        "hello": 1,
        "client": {
            "application": { "name": "mothership" },
            "driver": { "name": "mothership", "version": env!("CARGO_PKG_VERSION") },
            "os": { "type": std::env::consts::OS },
        },
    };
    if let Some(user) = user {
        out.append(cstr!("saslSupportedMechs"), format!("{LOGIN}.{user}"));
    }
    out.append(cstr!("$db"), LOGIN);
    out
}

/// The database in which users are who log in, as the driver has it.
const LOGIN: &str = "admin";
/// The only mechanism that is known here.
const MECHANISM: &str = "SCRAM-SHA-256";

/// Whether the user of a [`hello`] may log in by what is known here.
pub(super) fn knows_mechanism(hello: &RawDocument) -> bool {
    let known = hello.get_array("saslSupportedMechs").ok();
    let mut known = known.into_iter().flatten().flatten();
    known.any(|name| name.as_str() == Some(MECHANISM))
}

/// Begins a login with the client's first message.
pub(super) fn sasl_start(message: &str) -> RawDocumentBuf {
    rawdoc! {
        "saslStart": 1,
        "mechanism": MECHANISM,
        "payload": payload(message),
        "options": { "skipEmptyExchange": true },
        "$db": LOGIN,
    }
}

/// Goes on with it.
pub(super) fn sasl_continue(conversation: i32, message: &str) -> RawDocumentBuf {
    rawdoc! {
        "saslContinue": 1,
        "conversationId": conversation,
        "payload": payload(message),
        "$db": LOGIN,
    }
}

fn payload(message: &str) -> Binary {
    Binary {
        subtype: BinarySubtype::Generic,
        bytes: message.as_bytes().to_vec(),
    }
}

/// What the server answers to a step of a login.
#[derive(Debug, PartialEq)]
pub(super) struct SaslStep {
    /// The number of the login.
    pub conversation: i32,
    /// The server's message.
    pub payload: Vec<u8>,
    /// It was the last one.
    pub is_done: bool,
}

/// Reads one; `None` if it is none.
pub(super) fn sasl_step(answer: &RawDocument) -> Option<SaslStep> {
    Some(SaslStep {
        conversation: answer.get_i32("conversationId").ok()?,
        payload: answer.get_binary("payload").ok()?.bytes.to_vec(),
        is_done: answer.get_bool("done").ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::doc;
    use std::sync::Arc;

    fn asked(ending: &RawDocument) -> Asked<'_> {
        Asked {
            database: "app",
            ending,
            time: Some(Duration::from_millis(1_500)),
        }
    }

    fn read(single: bool, limit: Option<u64>) -> Command {
        Command::Find {
            collection: "events".to_owned(),
            filter: doc! { "_id": 7 },
            projection: Arc::new(doc! { "kind": 1 }),
            sort: doc! { "_id": -1 },
            skip: 2,
            limit,
            single,
        }
    }

    #[test]
    fn a_find_says_all_that_the_command_has() {
        let ending = ending(&doc! { "id": "s" }, "app").expect("it can be written");
        let found = find(&read(false, Some(3)), asked(&ending)).expect("it is one");
        let expected = rawdoc! {
            "find": "events",
            "filter": { "_id": 7 },
            "projection": { "kind": 1 },
            "sort": { "_id": -1 },
            "skip": 2_i64,
            "limit": 3_i64,
            "collation": { "locale": "simple" },
            "maxTimeMS": 1_500_i64,
            "lsid": { "id": "s" },
            "$db": "app",
            "$readPreference": { "mode": "primaryPreferred" },
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_find_that_compares_no_texts_says_nothing_of_how() {
        let ending = RawDocumentBuf::new();
        let says = |filter: Document, sort: Document| {
            let Command::Find {
                collection,
                projection,
                ..
            } = read(true, None)
            else {
                unreachable!()
            };
            let command = Command::Find {
                collection,
                filter,
                projection,
                sort,
                skip: 0,
                limit: None,
                single: true,
            };
            let found = find(&command, asked(&ending)).expect("it is one");
            found.get("collation").unwrap().is_some()
        };
        let none = Document::new;
        assert!(!says(none(), none()));
        assert!(!says(doc! { "a": 1, "b": { "$in": [1.5, null] } }, none()));
        assert!(says(doc! { "a": 1 }, doc! { "b": 1 }));
        assert!(says(doc! { "a": "x" }, none()));
        assert!(says(doc! { "a": { "$in": [1, "x"] } }, none()));
        assert!(says(doc! { "$expr": { "$eq": ["$a", "$b"] } }, none()));
    }

    #[test]
    fn only_finds_of_few_documents_are_asked_here() {
        let ending = RawDocumentBuf::new();
        let is_here = |command: &Command| find(command, asked(&ending)).is_some();
        assert!(is_here(&read(true, None)));
        assert!(is_here(&read(false, Some(FIRST))));
        assert!(!is_here(&read(false, Some(FIRST + 1))));
        assert!(!is_here(&read(false, None)));
        assert!(!is_here(&Command::Empty));
    }

    #[test]
    fn an_answer_has_all_rows_or_says_why_not() {
        let rows = |id: i64| {
            rawdoc! {
                "cursor": { "id": id, "ns": "app.some.events", "firstBatch": [{ "a": 1 }, { "a": 2 }] },
                "ok": 1.0,
            }
        };
        let all = vec![rawdoc! { "a": 1 }, rawdoc! { "a": 2 }];
        assert_eq!(found(&rows(0)), Some(Answer::Rows(all)));
        let more = Answer::More(9, "some.events".to_owned());
        assert_eq!(found(&rows(9)), Some(more));
        let refused = rawdoc! { "ok": 0.0, "code": 50, "errmsg": "late" };
        let failed = Answer::Failed(50, "late".to_owned());
        assert_eq!(found(&refused), Some(failed));
        assert_eq!(found(&rawdoc! { "ok": 0.0 }), None);
        assert_eq!(found(&rawdoc! { "ok": 1.0 }), None);
        assert_eq!(found(&rawdoc! {}), None);
    }
}
