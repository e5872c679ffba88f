//! What a failure of MongoDB's means in PostgreSQL's words, or that the connection is to end.

use mongodb::bson::Bson;
use mongodb::error::{Error, ErrorKind, WriteFailure};
use mothership_documents::told::{changed_key, existing_key};
use mothership_documents::translate::{Command, NO_INT2, NO_ROOM};
use mothership_documents::value::Forms;
use mothership_documents::{Collection, Fault, Unique};
use mothership_proto::report::{Report, sqlstate};

/// Why a statement has no answer.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client is told.
    Report(Report),
    /// Nobody knows what became of it, or the member is not there: the connection ends without a word, as a server's
    /// does that dies, and the router says what follows for the client.
    Lost,
}

impl From<Report> for Stop {
    fn from(report: Report) -> Stop {
        Stop::Report(report)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Report(report(fault))
    }
}

/// What is wrong with a statement, as PostgreSQL says it.
pub(super) fn report(fault: Fault) -> Report {
    let mut report = Report::error(fault.sqlstate, fault.message);
    if let Some(detail) = fault.detail {
        report = report.detail(detail);
    }
    if let Some(hint) = fault.hint {
        report = report.hint(hint);
    }
    let (schema, table) = fault.table.map(|both| *both).unzip();
    let more = [(b's', schema), (b't', table), (b'c', fault.column)];
    for (code, text) in more {
        if let Some(text) = text {
            report = report.field(code, text);
        }
    }
    report
}

/// Where in a command it was that something was wrong: a row by its number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// This row was to be new.
    Inserted(usize),
    /// This row was there, and was to be changed.
    Changed(usize),
}

/// What the driver says of a command on a collection, with what is certain of the row that was wrong.
pub(super) fn stop_of(
    error: &Error,
    collection: Option<&Collection>,
    (command, step): (&Command, Option<Step>),
    forms: &Forms,
) -> Stop {
    let Stop::Report(report) = stop(error, collection) else {
        return Stop::Lost;
    };
    let detail = || {
        let collection = collection.filter(|_| is_duplicate(error))?;
        let (_, message) = code(error)?;
        let key = (collection, violated(message, collection)?);
        match (command, step) {
            (Command::Insert { documents, .. }, Some(Step::Inserted(row))) => {
                existing_key(key, documents.get(row)?, forms)
            }
            (Command::Insert { documents, .. }, _) => {
                existing_key(key, documents.get(failed_at(error))?, forms)
            }
            (Command::Upsert { rows, .. }, Some(Step::Inserted(row))) => {
                existing_key(key, &rows.get(row)?.document, forms)
            }
            (Command::Upsert { rows, .. }, Some(Step::Changed(row))) => {
                let row = rows.get(row)?;
                changed_key(key, (row.filter.as_ref()?, &row.change), forms)
            }
            (Command::Update { filter, change, .. } | Command::Move { filter, change, .. }, _) => {
                changed_key(key, (filter, change), forms)
            }
            _ => None,
        }
    };
    Stop::Report(match detail() {
        Some(detail) => report.detail(detail),
        None => report,
    })
}

/// The number of the document that was not inserted.
pub(super) fn failed_at(error: &Error) -> usize {
    match &*error.kind {
        ErrorKind::InsertMany(many) => {
            let first = many.write_errors.as_ref().and_then(|all| all.first());
            first.map_or(0, |write| write.index)
        }
        _ => 0,
    }
}

/// What the driver says of a command on a collection.
pub(super) fn stop(error: &Error, collection: Option<&Collection>) -> Stop {
    if is_done_somewhere(error) {
        return Stop::Lost;
    }
    match code(error) {
        Some((code, message)) => of_code(code, message, collection),
        None => match &*error.kind {
            ErrorKind::Authentication { message, .. } => {
                tracing::warn!(message, "MongoDB does not let the router in");
                let refused = "MongoDB does not let the router in";
                Report::fatal(sqlstate::INVALID_PASSWORD, refused).into()
            }
            ErrorKind::InvalidArgument { message, .. } if message.contains("must be within") => {
                Report::error(
                    sqlstate::PROGRAM_LIMIT_EXCEEDED,
                    "a document would be larger than MongoDB takes",
                )
                .into()
            }
            ErrorKind::InvalidArgument { message, .. } => {
                Report::error(sqlstate::INTERNAL_ERROR, message.clone()).into()
            }
            kind => {
                tracing::debug!(%kind, "a connection to MongoDB is lost");
                Stop::Lost
            }
        },
    }
}

/// Whether it is done on the primary, and the wait for other members has ended before they had it: what becomes of it is
/// not known, whatever has ended the wait.
fn is_done_somewhere(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::Write(WriteFailure::WriteConcernError(_)) => true,
        ErrorKind::InsertMany(many) => many.write_concern_error.is_some(),
        _ => false,
    }
}

/// Whether the whole statement may be tried again: another transaction was in its way, and nothing of it is done.
pub(super) fn is_conflict(error: &Error) -> bool {
    matches!(code(error), Some((112 | 246 | 251, _)))
}

/// Whether a unique key has the value already.
pub(super) fn is_duplicate(error: &Error) -> bool {
    matches!(code(error), Some((11000 | 11001, _)))
}

/// Whether a collection was there before it was to be made.
pub(super) fn is_there(error: &Error) -> bool {
    matches!(code(error), Some((48, _)))
}

/// Whether the user of the router may not do it.
pub(super) fn is_forbidden(error: &Error) -> bool {
    matches!(code(error), Some((13, _)))
}

fn code(error: &Error) -> Option<(i32, &str)> {
    match &*error.kind {
        ErrorKind::Command(command) => Some((command.code, &command.message)),
        ErrorKind::Write(WriteFailure::WriteError(write)) => Some((write.code, &write.message)),
        ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => {
            Some((concern.code, &concern.message))
        }
        ErrorKind::InsertMany(many) => {
            let first = many.write_errors.as_ref().and_then(|all| all.first());
            let concern = many.write_concern_error.as_ref();
            first
                .map(|write| (write.code, &*write.message))
                .or_else(|| concern.map(|concern| (concern.code, &*concern.message)))
        }
        _ => None,
    }
}

/// What the server's error says of a command on a collection.
pub(super) fn of_code(code: i32, message: &str, collection: Option<&Collection>) -> Stop {
    let report = match code {
        11000 | 11001 => duplicate(message, collection),
        // It was not the primary before it had done anything.
        10107 | 13435 | 10058 => not_primary(),
        // A primary that gives up, or a write that was not replicated in time: what became of it is not known.
        64 | 91 | 100 | 189 | 11600 | 11602 | 13436 | 13388 => return Stop::Lost,
        50 => timed_out(),
        262 | 11601 => cancelled(),
        // Another transaction is in the way, or the snapshot is gone or cannot be had.
        112 | 239 | 246 => crate::retry::concurrent_update(),
        251 => Report::error(
            sqlstate::SERIALIZATION_FAILURE,
            "the transaction was ended by MongoDB",
        )
        .hint(
            "It does so after transactionLifetimeLimitSeconds, and when the primary changes. The transaction might \
             succeed if it is tried again.",
        ),
        24 | 46 => Report::error("55P03", "could not obtain lock on documents"),
        13 | 8000 => Report::error(
            sqlstate::INSUFFICIENT_PRIVILEGE,
            "permission denied for collection",
        ),
        18 => Report::fatal(
            sqlstate::INVALID_PASSWORD,
            "MongoDB does not let the router in",
        ),
        66 => Report::error(
            sqlstate::FEATURE_NOT_SUPPORTED,
            "a column at \"_id\" cannot be changed",
        ),
        121 => Report::error("23514", "document failed the collection's validation"),
        28 => no_room(),
        241 if message.contains(NO_ROOM) => no_room(),
        241 if message.contains("Failed to parse") || message.contains("Unsupported conversion") => {
            Report::error("42804", "a document has a value of another type than its column")
        }
        241 => Report::error("22003", format!("{} out of range", overflown(message))),
        // The last one is of a transaction, whose documents are to be in the cache of MongoDB.
        10334 | 17280 | 17419 | 17420 | 8375908 | 292 | 146 | 314 => Report::error(
            sqlstate::PROGRAM_LIMIT_EXCEEDED,
            "MongoDB's limits are too small for this statement",
        )
        .detail(message.to_owned()),
        _ => {
            tracing::warn!(code, "MongoDB refused a command of the router's");
            Report::error(sqlstate::INTERNAL_ERROR, "MongoDB refused the command")
                .detail(format!("error {code}"))
        }
    };
    Stop::Report(report)
}

fn no_room() -> Report {
    Report::error("22000", "a document has no room for a column's field")
        .detail("it has another value than a document on the way to that field")
}

/// The type that a sum does not fit, by the number at the end of what MongoDB says of it.
fn overflown(message: &str) -> &'static str {
    let number = message.rsplit(' ').next().unwrap_or_default();
    match number.parse::<f64>() {
        Ok(number) if number == NO_INT2 as f64 => "smallint",
        Ok(number) if number.abs() > i64::MAX as f64 / 2.0 => "bigint",
        _ => "integer",
    }
}

/// What a statement says that takes longer than `statement_timeout`.
pub(super) fn timed_out() -> Report {
    Report::error(
        sqlstate::QUERY_CANCELED,
        "canceling statement due to statement timeout",
    )
}

/// What a statement says that the client has cancelled.
pub(super) fn cancelled() -> Report {
    Report::error(
        sqlstate::QUERY_CANCELED,
        "canceling statement due to user request",
    )
}

/// What a member says that is not the primary.
pub(super) fn not_primary() -> Report {
    Report::error(
        "25006",
        "cannot execute this statement in a read-only transaction",
    )
    .detail("the member of the replica set is not its primary")
}

/// Whether the server has undone a transaction by itself before its end.
pub(super) fn is_ended(error: &Error) -> bool {
    matches!(code(error), Some((251 | 290, _)))
}

/// What a COPY says then: to try it again would end no better if it takes too long.
pub(super) fn ended_early() -> Report {
    Report::error(
        sqlstate::PROGRAM_LIMIT_EXCEEDED,
        "MongoDB has ended the transaction of this COPY",
    )
    .detail("a transaction may take transactionLifetimeLimitSeconds, and ends with the session that it is in")
    .hint("Copy fewer rows at a time.")
}

/// A key that is there already, in PostgreSQL's words.
fn duplicate(message: &str, collection: Option<&Collection>) -> Report {
    let unique = collection.and_then(|collection| violated(message, collection));
    let Some((collection, unique)) = collection.zip(unique) else {
        let name = index_of(message).unwrap_or("unknown");
        return Report::error(
            "23505",
            format!("duplicate key value violates unique constraint \"{name}\""),
        );
    };
    Report::error(
        "23505",
        format!(
            "duplicate key value violates unique constraint \"{}\"",
            unique.name
        ),
    )
    .field(b's', collection.schema.clone())
    .field(b't', collection.table.clone())
    .field(b'n', unique.name.clone())
}

/// The unique key that a message of MongoDB's is about.
fn violated<'c>(message: &str, collection: &'c Collection) -> Option<&'c Unique> {
    let index = index_of(message)?;
    collection.unique.iter().find(|key| key.index == index)
}

fn index_of(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("index: ")?;
    let (index, _) = rest.split_once(" dup key")?;
    Some(index.trim())
}

/// Of a value that cannot be what its column is declared to be.
pub(super) fn wrong_value(fault: Fault, column: &str, id: Option<Bson>) -> Stop {
    let detail = match id {
        Some(id) => format!("column \"{column}\" of the document with _id {id}"),
        None => format!("column \"{column}\""),
    };
    fault.detail(detail).into()
}
