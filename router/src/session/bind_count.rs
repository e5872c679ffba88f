//! Checks that a Bind has as many values as its statement takes, for statements that reach no server.

use super::Halt;
use mothership_proto::frontend::Bind;
use mothership_proto::report::{Report, sqlstate};

/// Fails with PostgreSQL's error if a Bind does not have `expected` values.
pub(super) fn check(bind: &Bind<'_>, expected: usize) -> Result<(), Halt> {
    let (formats, values) = (bind.format_count(), bind.len());
    let message = if formats > 1 && formats != values {
        format!("bind message has {formats} parameter formats but {values} parameters")
    } else if values != expected {
        let name = String::from_utf8_lossy(bind.statement);
        format!(
            "bind message supplies {values} parameters, but prepared statement \"{name}\" requires {expected}"
        )
    } else {
        return Ok(());
    };
    Err(Report::error(sqlstate::PROTOCOL_VIOLATION, message).into())
}
