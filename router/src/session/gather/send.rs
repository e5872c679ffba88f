//! Statements of the router's own for one server: parsed, bound and executed without a name, all answers for the router.

use super::{PORTAL, Value};
use crate::session::Attached;
use mothership_documents::snapshot::portal;
use mothership_proto::frontend::{self, Parse, Target};
use mothership_proto::ledger::{Audience, Owed};
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
    /// Sends a statement; what ends the batch is sent by `end_asks`.
    pub(super) fn ask(&mut self, ask: &Ask<'_>) {
        let Attached { lease, .. } = self;
        lease.notes.unnamed = None;
        let parse = |out: &mut Vec<u8>, sql: &str| {
            let (name, sql, types) = (&b""[..], sql.as_bytes(), ask.types);
            Parse { name, sql, types }.put(out);
        };
        let name = match ask.reading {
            None => Cow::Borrowed(PORTAL),
            Some(number) => Cow::Owned(portal(number)),
        };
        let other = ask.describes.filter(|described| *described != ask.sql);
        lease.wire.with_output(|out| {
            parse(out, ask.describes.unwrap_or(ask.sql));
            if ask.describes.is_some() {
                frontend::put_describe(out, Target::Statement, b"");
            }
            if other.is_some() {
                parse(out, ask.sql);
            }
            let values = ask.values.iter().copied();
            frontend::put_bind(out, (&name, b""), values, ask.formats);
            frontend::put_execute(out, &name, ask.rows);
            frontend::put_close(out, Target::Portal, &name);
        });
        lease.ledger.push(Owed::Parse(0, Audience::Router));
        if ask.describes.is_some() {
            lease.ledger.push(Owed::DescribeStatement(Audience::Router));
        }
        if other.is_some() {
            lease.ledger.push(Owed::Parse(0, Audience::Router));
        }
        for owed in [
            Owed::Bind(Audience::Router),
            Owed::Execute(Audience::Router),
            Owed::Close(Audience::Router),
        ] {
            lease.ledger.push(owed);
        }
    }

    /// Asks for the parameters and columns of a text; what ends the batch is sent by `end_asks`. `types` are those of its
    /// parameters that are known, in the shard's object ids.
    pub(super) fn ask_description(&mut self, sql: &[u8], types: &[u8]) {
        let Attached { lease, .. } = self;
        lease.notes.unnamed = None;
        lease.wire.with_output(|out| {
            let (name, types) = (b"", types);
            Parse { name, sql, types }.put(out);
            frontend::put_describe(out, Target::Statement, b"");
        });
        lease.ledger.push(Owed::Parse(0, Audience::Router));
        lease.ledger.push(Owed::DescribeStatement(Audience::Router));
    }

    /// The end of a batch: within a segment of the client's it is not that of the transaction.
    pub(super) fn end_asks(&mut self, segment: bool) {
        let Attached { lease, .. } = self;
        if segment {
            lease.wire.send(frontend::FLUSH);
        } else {
            lease.wire.send(frontend::SYNC);
            lease.ledger.push(Owed::Sync(Audience::Router));
        }
    }
}
