//! What is sent to a server, together with what the server owes for it.
//!
//! The ledger lists every request in the order in which it was sent. If one is missing or out of place, somebody gets an
//! answer that belongs to another, or the connection is lost. Therefore only this file writes to a server that is ready,
//! and only this file enters anything in its ledger: one call sends a message and enters it.
//!
//! The unnamed statement follows from the same messages: a simple query drops it, and a Parse without a name replaces it.
//! So it is noted here, too.

use super::ServerConnection;
use mothership_proto::frame;
use mothership_proto::frontend::{self, Bind, Parse, Target};
use mothership_proto::ledger::{Audience, Ledger, Owed};
use std::borrow::Cow;
use std::io;
use std::task::{Context, Poll};

/// Sending.
impl<N> ServerConnection<N> {
    /// Sends the requests that `write` writes, in one piece. Their answers are owed `to` the client or the router.
    pub fn request<R>(&mut self, to: Audience, write: impl FnOnce(&mut Requests<'_>) -> R) -> R {
        let (ledger, unnamed) = (&mut self.ledger, &mut self.unnamed);
        self.wire.with_output(|out| {
            write(&mut Requests {
                out,
                ledger,
                unnamed,
                to,
            })
        })
    }

    /// Sends a simple query.
    pub fn query(&mut self, sql: &[u8], to: Audience) {
        self.request(to, |send| send.query(sql));
    }

    /// Sends a simple query in the client's bytes, the whole message.
    pub fn query_as_sent(&mut self, message: &[u8], to: Audience) {
        self.wire.send(message);
        self.unnamed = None;
        self.ledger.push(Owed::Query(to));
    }

    /// Sends a segment that runs one statement once (see [`mothership_proto::segment`]) in the client's bytes. `parsed` is
    /// the number of the statement, if its Parse is among them; `describes` is true if a Describe is.
    pub fn segment_as_sent(&mut self, messages: &[u8], parsed: Option<u64>, describes: bool) {
        self.wire.send(messages);
        if parsed.is_some() {
            self.unnamed = parsed;
            self.ledger.push(Owed::Parse(0, Audience::Client));
        }
        self.ledger.push(Owed::Bind(Audience::Client));
        owe_tail(&mut self.ledger, describes);
    }

    /// Sends the client's function call, by the body of its message.
    pub fn function_call(&mut self, body: &[u8]) {
        self.wire.with_output(|out| {
            frame::put(out, frontend::tag::FUNCTION_CALL, |b| {
                b.extend_from_slice(body)
            });
        });
        self.ledger.push(Owed::FunctionCall);
    }

    /// Ends a segment.
    pub fn sync(&mut self, to: Audience) {
        self.wire.send(frontend::SYNC);
        self.ledger.push(Owed::Sync(to));
    }

    /// Asks for the answers to what was sent. Nothing is owed for that.
    pub fn flush(&mut self) {
        self.wire.send(frontend::FLUSH);
    }

    /// Ends requests of the router's own; see [`Requests::flush_or_sync`].
    pub fn flush_or_sync(&mut self, in_segment: bool) {
        match in_segment {
            true => self.flush(),
            false => self.sync(Audience::Router),
        }
    }

    /// Puts an answer of the router's own behind the answers that the client is owed. Nothing is sent.
    pub fn answer_in_turn(&mut self, messages: Cow<'static, [u8]>) {
        self.ledger.push(Owed::Answer(messages));
    }

    /// Passes on what a client sends while a COPY FROM STDIN takes its rows. The request that began it is owed already.
    pub fn pass_copy(&mut self, messages: &[u8]) {
        self.wire.send(messages);
    }

    /// Sends rows to a COPY FROM STDIN.
    pub fn copy_data(&mut self, rows: &[u8]) {
        self.wire.with_output(|out| {
            frame::put(out, frontend::tag::COPY_DATA, |b| b.extend_from_slice(rows))
        });
    }

    /// Ends a COPY FROM STDIN, or lets it fail for this reason.
    pub fn end_copy(&mut self, failed: Option<&[u8]>) {
        self.wire.with_output(|out| match failed {
            None => out.extend_from_slice(frontend::COPY_DONE),
            Some(reason) => frontend::put_copy_fail(out, reason),
        });
    }

    /// See [`crate::wire::Wire::unsent`].
    pub fn unsent(&self) -> usize {
        self.wire.unsent()
    }

    /// See [`crate::wire::Wire::poll_drained`].
    pub fn poll_drained(&mut self, cx: &mut Context<'_>, below: usize) -> Poll<io::Result<()>> {
        self.wire.poll_drained(cx, below)
    }

    /// See [`crate::wire::Wire::drained`].
    pub async fn drained(&mut self, below: usize) -> io::Result<()> {
        self.wire.drained(below).await
    }
}

/// Requests on their way to a server, each with its entry in the ledger. See [`ServerConnection::request`].
pub struct Requests<'a> {
    out: &'a mut Vec<u8>,
    ledger: &'a mut Ledger,
    unnamed: &'a mut Option<u64>,
    to: Audience,
}

impl Requests<'_> {
    /// The answers to what follows are owed to somebody else.
    pub fn turn_to(&mut self, to: Audience) {
        self.to = to;
    }

    /// A simple query.
    pub fn query(&mut self, sql: &[u8]) {
        frontend::put_query(self.out, sql);
        *self.unnamed = None;
        self.ledger.push(Owed::Query(self.to));
    }

    /// BEGIN, which the next request may follow at once; see [`Owed::Begin`].
    pub fn begin(&mut self) {
        let (name, sql, types): (&[u8], &[u8], &[u8]) = (b"", b"BEGIN", b"");
        Parse { name, sql, types }.put(self.out);
        frontend::put_plain_bind(self.out, b"", b"");
        frontend::put_execute(self.out, b"", 0);
        self.out.extend_from_slice(frontend::FLUSH);
        *self.unnamed = None;
        self.ledger.push(Owed::Begin);
    }

    /// Parse of a text of the router's own, as the unnamed statement.
    pub fn parse(&mut self, sql: &[u8], types: &[u8]) {
        let name = b"";
        Parse { name, sql, types }.put(self.out);
        *self.unnamed = None;
        self.ledger.push(Owed::Parse(0, self.to));
    }

    /// Parse of the statement that has this number; 0 is one whose number nobody notes.
    pub fn parse_numbered(&mut self, parse: &Parse<'_>, number: u64) {
        parse.put(self.out);
        let named = !parse.name.is_empty();
        if !named {
            *self.unnamed = Some(number);
        }
        let number = if named { number } else { 0 };
        self.ledger.push(Owed::Parse(number, self.to));
    }

    /// Bind of a portal to a statement, by their names. Each value has its own format; `None` is NULL.
    pub fn bind<'v>(
        &mut self,
        names: (&[u8], &[u8]),
        values: impl ExactSizeIterator<Item = (i16, Option<&'v [u8]>)> + Clone,
        result_formats: &[i16],
    ) {
        frontend::put_bind(self.out, names, values, result_formats);
        self.ledger.push(Owed::Bind(self.to));
    }

    /// The client's Bind, to a statement that has this name on the server.
    pub fn bind_as(&mut self, bind: &Bind<'_>, statement: &[u8]) {
        bind.put_as(self.out, statement);
        self.ledger.push(Owed::Bind(self.to));
    }

    /// Bind without parameters and with text results.
    pub fn plain_bind(&mut self, portal: &[u8], statement: &[u8]) {
        frontend::put_plain_bind(self.out, portal, statement);
        self.ledger.push(Owed::Bind(self.to));
    }

    /// Describe.
    pub fn describe(&mut self, target: Target, name: &[u8]) {
        frontend::put_describe(self.out, target, name);
        self.ledger.push(match target {
            Target::Statement => Owed::DescribeStatement(self.to),
            Target::Portal => Owed::DescribePortal(self.to),
        });
    }

    /// Execute; at most so many rows, 0 is all.
    pub fn execute(&mut self, portal: &[u8], rows: i32) {
        frontend::put_execute(self.out, portal, rows);
        self.ledger.push(Owed::Execute(self.to));
    }

    /// Close.
    pub fn close(&mut self, target: Target, name: &[u8]) {
        frontend::put_close(self.out, target, name);
        self.ledger.push(Owed::Close(self.to));
    }

    /// Close of a statement that the router has given this number. Should the server skip it, the ledger says so (see
    /// [`Ledger::take_unforgotten`]). The answer is the router's.
    pub fn forget(&mut self, name: &[u8], number: u64) {
        frontend::put_close(self.out, Target::Statement, name);
        self.ledger.push(Owed::Forget(number));
    }

    /// What follows Bind in a segment that runs one statement once, in the client's bytes; `describes` is true if a
    /// Describe is among them.
    pub fn tail_as_sent(&mut self, messages: &[u8], describes: bool) {
        self.out.extend_from_slice(messages);
        owe_tail(self.ledger, describes);
    }

    /// Sync.
    pub fn sync(&mut self) {
        self.out.extend_from_slice(frontend::SYNC);
        self.ledger.push(Owed::Sync(self.to));
    }

    /// Flush, for which nothing is owed.
    pub fn flush(&mut self) {
        self.out.extend_from_slice(frontend::FLUSH);
    }

    /// The end of requests of the router's own: within a segment of the client's, a Sync would end its transaction.
    pub fn flush_or_sync(&mut self, in_segment: bool) {
        match in_segment {
            true => self.flush(),
            false => self.sync(),
        }
    }
}

/// Enters `[Describe] Execute Sync` of a client.
fn owe_tail(ledger: &mut Ledger, describes: bool) {
    if describes {
        ledger.push(Owed::DescribePortal(Audience::Client));
    }
    ledger.push(Owed::Execute(Audience::Client));
    ledger.push(Owed::Sync(Audience::Client));
}

#[cfg(test)]
mod tests {
    use super::*;
    use mothership_proto::frame::Next;
    use mothership_proto::frontend::tag;

    /// What is owed for what `write` writes to the router, and the unnamed statement after it. The entries are those that
    /// the messages ask for, in their order.
    fn owed(write: impl FnOnce(&mut Requests<'_>)) -> (Vec<Owed>, Option<u64>) {
        let (mut out, mut ledger, mut unnamed) = (Vec::new(), Ledger::default(), Some(7));
        write(&mut Requests {
            out: &mut out,
            ledger: &mut ledger,
            unnamed: &mut unnamed,
            to: Audience::Router,
        });
        let owed: Vec<Owed> = ledger.owed().cloned().collect();
        let tags: Vec<u8> = owed.iter().map(tag_of).collect();
        let mut sent = Vec::new();
        let mut rest = &out[..];
        while let Ok(Next::Whole(frame)) = frame::next(rest, usize::MAX) {
            sent.push(frame.tag());
            rest = &rest[frame.bytes.len()..];
        }
        assert!(rest.is_empty(), "only whole messages are sent");
        sent.retain(|tag| *tag != tag::FLUSH);
        assert_eq!(sent, tags, "each message has its entry");
        (owed, unnamed)
    }

    fn tag_of(owed: &Owed) -> u8 {
        match owed {
            Owed::Parse(..) => tag::PARSE,
            Owed::Bind(_) => tag::BIND,
            Owed::Close(_) | Owed::Forget(_) => tag::CLOSE,
            Owed::DescribeStatement(_) | Owed::DescribePortal(_) => tag::DESCRIBE,
            Owed::Execute(_) => tag::EXECUTE,
            Owed::Sync(_) => tag::SYNC,
            Owed::Query(_) => tag::QUERY,
            Owed::FunctionCall => tag::FUNCTION_CALL,
            Owed::Begin | Owed::Answer(_) => 0,
        }
    }

    #[test]
    fn every_message_that_is_answered_is_entered_in_its_place() {
        let named = Parse {
            name: b"s9",
            sql: b"SELECT 1",
            types: b"",
        };
        let (all, _) = owed(|send| {
            send.query(b"BEGIN");
            send.forget(b"s1", 1);
            send.parse_numbered(&named, 9);
            send.parse(b"SELECT $1", b"");
            send.describe(Target::Statement, b"");
            send.bind((b"p", b""), [(0, None)].into_iter(), &[1]);
            send.describe(Target::Portal, b"p");
            send.execute(b"p", 1);
            send.flush();
            send.close(Target::Portal, b"p");
            send.turn_to(Audience::Client);
            send.plain_bind(b"", b"s9");
            send.execute(b"", 0);
            send.flush_or_sync(true);
            send.flush_or_sync(false);
        });
        let (client, router) = (Audience::Client, Audience::Router);
        let expected = [
            Owed::Query(router),
            Owed::Forget(1),
            Owed::Parse(9, router),
            Owed::Parse(0, router),
            Owed::DescribeStatement(router),
            Owed::Bind(router),
            Owed::DescribePortal(router),
            Owed::Execute(router),
            Owed::Close(router),
            Owed::Bind(client),
            Owed::Execute(client),
            Owed::Sync(client),
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn the_tail_of_a_segment_is_owed_to_the_client() {
        let mut tail = Vec::new();
        frontend::put_describe(&mut tail, Target::Portal, b"");
        frontend::put_execute(&mut tail, b"", 0);
        tail.extend_from_slice(frontend::SYNC);
        let (all, _) = owed(|send| send.tail_as_sent(&tail, true));
        let to = Audience::Client;
        let expected = [Owed::DescribePortal(to), Owed::Execute(to), Owed::Sync(to)];
        assert_eq!(all, expected);
    }

    #[test]
    fn the_unnamed_statement_is_the_last_that_was_parsed_without_a_name() {
        let parse = |name| Parse {
            name,
            sql: b"SELECT 1",
            types: b"",
        };
        let unnamed = |write: fn(&mut Requests<'_>)| owed(write).1;
        assert_eq!(unnamed(|send| send.sync()), Some(7));
        assert_eq!(unnamed(|send| send.query(b"SELECT 1")), None);
        assert_eq!(unnamed(|send| send.parse(b"SELECT 1", b"")), None);
        let mut out = Vec::new();
        let (mut ledger, mut unnamed_now) = (Ledger::default(), Some(7));
        let (ledger, unnamed_one) = (&mut ledger, &mut unnamed_now);
        Requests {
            out: &mut out,
            ledger,
            unnamed: unnamed_one,
            to: Audience::Router,
        }
        .begin();
        assert_eq!(unnamed_now, None);
        let after = |name: &'static [u8]| owed(|send| send.parse_numbered(&parse(name), 9)).1;
        assert_eq!(after(b""), Some(9));
        assert_eq!(after(b"s9"), Some(7));
    }
}
