//! Differences that are known, each with its cause. One of them ends its conversation and is counted by its name, as a
//! refusal is; nothing that follows it is judged.

use crate::sent::Sent;

/// The name of a known difference between the answers to one message.
pub fn known(sent: &Sent, plain: &[String], router: &[String]) -> Option<&'static str> {
    let error = |lines: &[String], code: &str| {
        let begin = format!("Error {code} ");
        lines.iter().any(|line| line.starts_with(&begin))
    };
    let failed = |lines: &[String]| lines.iter().any(|line| line.starts_with("Error "));
    let text = |lines: &[String], part: &str| lines.iter().any(|line| line.contains(part));
    // docs/differences.md: the router's name of a prepared statement in PostgreSQL's message.
    let counted = |lines: &[String]| text(lines, "Error 08P01 bind message supplies");
    if text(router, "__mothership_") || (counted(plain) && counted(router)) {
        return Some("the router's name of a statement in a message");
    }
    // A statement over several shards is parsed where it runs, which is known at Bind: only there its error comes.
    if matches!(sent, Sent::Parse { .. }) && failed(plain) && router == ["ParseComplete"] {
        return Some("an error of Parse that is told at Bind");
    }
    // PostgreSQL looks for the statement first. What it was before a Parse that failed is kept by the router.
    if error(plain, "26000") && error(router, "25P02") {
        return Some("a missing statement in a failed block");
    }
    // A Parse without an answer of its own counts as a query before SET TRANSACTION.
    if error(plain, "25001") && text(plain, "must be called before any query") {
        return Some("SET TRANSACTION behind a Parse");
    }
    // Lines that are sent but not yet read by the shards when the client gives up.
    if failed(plain) && error(router, "57014") {
        return Some("lines ahead of CopyFail");
    }
    // What the router answers itself, as the last statement of a text that cannot be committed: it has been answered.
    let complete = |line: &&String| line.starts_with("CommandComplete ");
    if failed(plain)
        && failed(router)
        && router.iter().filter(complete).count() > plain.iter().filter(complete).count()
        && matches!(sent, Sent::Query(_))
        && text(router, "CommandComplete S")
    {
        return Some("the end of a setting whose text is not committed");
    }
    // A pipeline may be in a transaction of the router's own, in which servers do not warn.
    let warned = |lines: &[String]| text(lines, "can only be used in transaction blocks");
    if warned(plain) && !warned(router) {
        return Some("the warning of what needs a block, in a pipeline");
    }
    // The router parses a statement where it runs, and asks first whether the transaction has failed.
    if matches!(sent, Sent::Parse { .. }) && error(router, "25P02") && !error(plain, "25P02") {
        return Some("Parse in a failed block");
    }
    // A transaction of the router's own has begun with a question.
    if error(router, "25001") && text(router, "must be called before any query") {
        return Some("SET TRANSACTION in a text of several statements");
    }
    // PostgreSQL reads all of a text before it runs any of it; the router hands its statements on one by one.
    if error(plain, "42601") && matches!(sent, Sent::Query(sql) if sql.contains("; ")) {
        return Some("a syntax error behind another statement of a text");
    }
    None
}
