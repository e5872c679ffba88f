//! Statements of the router's own for one server: parsed, bound and executed without a name, all answers for the router.

use super::{PORTAL, Value};
use crate::session::Attached;
use mothership_documents::snapshot::portal;
use mothership_proto::frontend::Target;
use mothership_proto::ledger::Audience;
use std::borrow::Cow;

/// One of them.
pub(super) struct Ask<'a> {
    /// What is read under the same number is of one snapshot, where each statement would have its own.
    pub reading: Option<u64>,
    pub sql: &'a str,
    /// The types of its first parameters, in the shard's object ids.
    pub types: &'a [u8],
    pub values: &'a [Value<'a>],
    /// A statement whose columns are asked for first: this one, or another.
    pub describes: Option<&'a str>,
    /// Of its columns.
    pub formats: &'a [i16],
    /// At most so many; 0 is all.
    pub rows: i32,
}

impl Attached {
    /// Sends a statement. The caller ends the batch with `flush_or_sync`.
    pub(super) fn ask(&mut self, ask: &Ask<'_>) {
        let name = match ask.reading {
            None => Cow::Borrowed(PORTAL),
            Some(number) => Cow::Owned(portal(number)),
        };
        self.lease.request(Audience::Router, |send| {
            if let Some(described) = ask.describes {
                send.parse(described.as_bytes(), ask.types);
                send.describe(Target::Statement, b"");
            }
            if ask.describes != Some(ask.sql) {
                send.parse(ask.sql.as_bytes(), ask.types);
            }
            let values = ask.values.iter().copied();
            send.bind((&name, b""), values, ask.formats);
            send.execute(&name, ask.rows);
            send.close(Target::Portal, &name);
        });
    }

    /// Asks for the parameters and columns of a text. The caller ends the batch with `flush_or_sync`. `types` are those of
    /// its parameters that are known, in the shard's object ids.
    pub(super) fn ask_description(&mut self, sql: &[u8], types: &[u8]) {
        self.lease.request(Audience::Router, |send| {
            send.parse(sql, types);
            send.describe(Target::Statement, b"");
        });
    }
}
