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
    // A simple query that fails in a block leaves a portal without a name, also where the router has refused it.
    let unnamed = |lines: &[String]| text(lines, "Error 34000 portal \"\" does not exist");
    if unnamed(router) && (error(plain, "25P02") || plain == ["NoData"]) {
        return Some("the unnamed portal of a query that the router has refused");
    }
    // The router asks first whether the transaction has failed, and not for a savepoint.
    if error(plain, "3B001") && error(router, "25P02") {
        return Some("a missing savepoint in a failed block");
    }
    // Both refuse it, in other words.
    if error(plain, "25001") && error(router, "25001") && text(plain, "within a pipeline") {
        return Some("what cannot be done in a pipeline");
    }
    // PostgreSQL counts the values of Bind before it looks at the transaction.
    if counted(plain) && error(router, "25P02") {
        return Some("the number of values in a failed block");
    }
    // A Parse that fails has dropped the statement without a name; the router keeps the one before.
    let bound_or_described = router
        .first()
        .is_some_and(|line| line == "BindComplete" || line.starts_with("ParameterDescription"));
    if error(plain, "26000") && (bound_or_described || counted(router)) {
        return Some("the unnamed statement behind a Parse that failed");
    }
    // What makes a transaction read-only behind its writes makes it so for the router's decision, too.
    let read_only = text(router, "Error 25006 cannot execute INSERT in a read-only");
    if read_only && (!failed(plain) || error(plain, "25006")) {
        return Some("a transaction that is read-only behind its writes");
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
        && ["S", "DEALLOCATE", "CLOSE"]
            .iter()
            .any(|command| text(router, &format!("CommandComplete {command}")))
    {
        return Some("the end of a command of the router whose text is not committed");
    }
    // docs/differences.md: the pipeline ends before it.
    if text(plain, "DISCARD ALL cannot be executed within a pipeline") && !failed(router) {
        return Some("a query in the middle of a pipeline");
    }
    // A pipeline may be in a transaction of the router's own, in which servers do not warn.
    let warned = |lines: &[String]| {
        text(lines, "can only be used in transaction blocks")
            || text(lines, "there is no transaction in progress")
    };
    if warned(plain) && !warned(router) {
        return Some("the warning of what needs a block, in a pipeline");
    }
    // PostgreSQL parses the text, or counts the values, before it looks whether the name is taken.
    if (failed(plain) && error(router, "42P05")) || (counted(plain) && error(router, "42P03")) {
        return Some("two errors of one message");
    }
    // docs/differences.md: the rows come from arrays.
    let described = matches!(sent, Sent::DescribePortal(_) | Sent::DescribeStatement(_));
    if (sent.to_string().contains("FETCH") || described) && unnamed_tables(plain, router) {
        return Some("gathered rows name no table");
    }
    // The router parses a statement where it runs, and asks first whether the transaction has failed.
    if error(router, "25P02") && !error(plain, "25P02") {
        match sent {
            Sent::Parse { .. } => return Some("Parse in a failed block"),
            Sent::DescribeStatement(_) => return Some("Describe in a failed block"),
            Sent::Query(_) if error(plain, "42601") => {
                return Some("a syntax error in a failed block");
            }
            _ => {}
        }
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

/// Whether the answers differ only in what RowDescription says of tables.
fn unnamed_tables(plain: &[String], router: &[String]) -> bool {
    let without = |lines: &[String]| -> Vec<String> {
        let rows = |line: &&String| !line.starts_with("RowDescription ");
        lines.iter().filter(rows).cloned().collect()
    };
    let describes = |lines: &[String], part| {
        let mut described = lines.iter().filter(|l| l.starts_with("RowDescription "));
        described.any(|line| line.contains(part))
    };
    describes(plain, ":true:") && describes(router, ":false:") && without(plain) == without(router)
}
