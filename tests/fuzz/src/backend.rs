//! What a server sends, held against what it owes.
//!
//! Promises: whatever comes, the ledger accepts no more answers than were asked for, in their order and for their
//! audience; each Query and Sync gets one ReadyForQuery, or a COPY took its Sync; empty means that all were answered;
//! how the bytes arrive changes nothing; a count that a message claims allocates no more than its bytes allow.

use std::borrow::Cow;
use std::collections::VecDeque;

use mothership_proto::backend::{self, TxStatus, tag};
use mothership_proto::frame::{self, Next};
use mothership_proto::ledger::{Audience, Event, Ledger, Owed};
use mothership_proto::report::Fields;

use crate::input::{Input, pieces};
use crate::memory::bounded;

/// Tags that a stream may be written with by number, so that an input finds them.
const TAGS: &[u8] = b"123CDEGHIKNASTVWZcdnst";

/// Requests by number, then the server's bytes.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let seed = input.byte();
    let count = input.below(12);
    let requests: Vec<u8> = (0..count).map(|_| input.byte()).collect();
    let stream = match input.byte() % 2 {
        0 => input.rest().to_vec(),
        _ => messages(&mut input),
    };
    let whole = run(&requests, [&stream[..]].into_iter());
    let by_pieces = run(&requests, pieces(&stream, seed).into_iter());
    assert_eq!(by_pieces, whole, "by pieces");
    readers(&stream);
}

/// Well-formed messages: a tag, and a body where one matters.
fn messages(input: &mut Input<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    while !input.is_empty() {
        let tag = input.one_of(TAGS);
        match tag {
            tag::READY => {
                let status = input.one_of(b"ITEX");
                frame::put(&mut stream, tag, |body| body.push(status));
            }
            _ => {
                let length = input.below(4);
                let bytes: Vec<u8> = (0..length).map(|_| input.byte()).collect();
                frame::put(&mut stream, tag, |body| body.extend_from_slice(&bytes));
            }
        }
    }
    stream
}

/// What is owed, by the manual and not by the ledger: told apart by what ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// One message of this event, and no other.
    Once(u64),
    /// Something with an end, in the extended protocol.
    Execute,
    /// The router's own BEGIN: ParseComplete, BindComplete, CommandComplete.
    Begin,
    /// Whatever there is, up to ReadyForQuery.
    UpToReady,
    /// ReadyForQuery and nothing before.
    Sync,
    /// The router's own.
    Own,
}

fn owed(request: u8, number: u64) -> (Owed, Due, Audience) {
    let to = match request & 0x80 {
        0 => Audience::Client,
        _ => Audience::Router,
    };
    let (owed, due) = match request % 10 {
        0 => (Owed::Parse(number, to), Due::Once(number)),
        1 => (Owed::Bind(to), Due::Once(0)),
        2 if request & 0xc0 == 0xc0 => (Owed::Forget(number), Due::Once(0)),
        2 => (Owed::Close(to), Due::Once(0)),
        3 => (Owed::DescribeStatement(to), Due::Once(0)),
        4 => (Owed::DescribePortal(to), Due::Once(0)),
        5 => (Owed::Execute(to), Due::Execute),
        7 if request & 0x40 != 0 => (Owed::Begin, Due::Begin),
        6 | 7 => (Owed::Sync(to), Due::Sync),
        8 => (Owed::Query(to), Due::UpToReady),
        _ if request & 0x40 == 0 => (Owed::FunctionCall, Due::UpToReady),
        _ => (Owed::Answer(Cow::Borrowed(b"own")), Due::Own),
    };
    let to = match due {
        Due::Own => Audience::Client,
        Due::Begin => Audience::Router,
        Due::UpToReady if matches!(owed, Owed::FunctionCall) => Audience::Client,
        _ => to,
    };
    (owed, due, to)
}

/// Feeds the stream as `ServerConnection` does and watches what is accepted. Returns every accepted event.
fn run<'a>(
    requests: &[u8],
    arriving: impl Iterator<Item = &'a [u8]>,
) -> (Vec<(Event, Audience)>, bool) {
    let mut ledger = Ledger::default();
    let mut model: VecDeque<(Due, Audience)> = VecDeque::new();
    for (number, &request) in requests.iter().enumerate() {
        let (owed, due, to) = owed(request, number as u64 + 1);
        ledger.push(owed);
        model.push_back((due, to));
    }
    let mut events = Vec::new();
    let mut buffer = Vec::new();
    // The router's own answers come in their turn, whether anything has arrived or not.
    for piece in arriving.chain([&[][..]]) {
        buffer.extend_from_slice(piece);
        loop {
            while let Some(bytes) = ledger.next_answer() {
                assert_eq!(&*bytes, b"own");
                assert_eq!(model.pop_front(), Some((Due::Own, Audience::Client)));
                events.push((Event::Own, Audience::Client));
            }
            let Ok(Next::Whole(frame)) = frame::next(&buffer, 1 << 20) else {
                break;
            };
            let (tag, body) = (frame.tag(), frame.body().to_vec());
            let length = frame.bytes.len();
            buffer.drain(..length);
            let Ok(step) = bounded(0, "judging", || ledger.on(tag, &body)) else {
                return (events, false);
            };
            follow(&mut model, &mut ledger, tag, &body, step.event, step.to);
            events.push((step.event, step.to));
            if ledger.is_skipping() {
                // Only Sync is read by the server now, as a client or the router would send.
                ledger.push(Owed::Sync(Audience::Client));
                model.push_back((Due::Sync, Audience::Client));
            }
        }
    }
    assert_eq!(ledger.len(), model.len(), "the ledger owes what is owed");
    assert_eq!(
        ledger.is_empty(),
        model.is_empty() && !ledger.is_copy_in() && !ledger.is_skipping(),
        "empty means that all were answered"
    );
    (events, true)
}

/// Takes from the model what an accepted message answers; panics if nothing there allows it.
fn follow(
    model: &mut VecDeque<(Due, Audience)>,
    ledger: &mut Ledger,
    tag: u8,
    body: &[u8],
    event: Event,
    to: Audience,
) {
    if matches!(
        event,
        Event::Notice | Event::Parameter | Event::Notification
    ) {
        assert!(matches!(
            tag,
            tag::NOTICE | tag::PARAMETER_STATUS | tag::NOTIFICATION
        ));
        assert_eq!(to, model.front().map_or(Audience::Client, |front| front.1));
        return;
    }
    let Some(&(front, whose)) = model.front() else {
        assert_eq!(
            (tag, event),
            (tag::ERROR, Event::Failed),
            "nothing was owed"
        );
        return;
    };
    assert_eq!(to, whose, "a reply goes to who asked");
    match (front, event) {
        (_, Event::Failed) => {
            assert_eq!(tag, tag::ERROR);
            // The server reads nothing up to Sync after an error of the extended protocol, simple queries neither.
            if !matches!(front, Due::UpToReady | Due::Sync) {
                while model.front().is_some_and(|(due, _)| *due != Due::Sync) {
                    model.pop_front();
                }
            }
        }
        (Due::Once(number), Event::Parsed(parsed)) => {
            assert_eq!(
                (tag, number),
                (tag::PARSE_COMPLETE, parsed),
                "in their order"
            );
            model.pop_front();
        }
        (Due::Once(0), Event::Answered) => {
            model.pop_front();
        }
        (Due::Once(0), Event::Part) => assert_eq!(tag, tag::PARAMETER_DESCRIPTION),
        (Due::Execute, Event::Completed | Event::Suspended) => {
            model.pop_front();
        }
        (Due::Begin, Event::Part) => {
            assert!(matches!(tag, tag::PARSE_COMPLETE | tag::BIND_COMPLETE));
        }
        (Due::Begin, Event::Ready(TxStatus::Open)) => {
            assert_eq!(tag, tag::COMMAND_COMPLETE);
            model.pop_front();
        }
        (Due::Execute | Due::UpToReady, Event::CopyIn) => {
            assert!(ledger.is_copy_in());
            // The server ignores Sync while it reads COPY data.
            while front == Due::Execute && matches!(model.get(1), Some((Due::Sync, _))) {
                model.remove(1);
            }
        }
        (Due::Execute | Due::UpToReady, Event::Part) | (Due::UpToReady, Event::Completed) => {
            assert_ne!(tag, tag::READY);
        }
        (Due::UpToReady | Due::Sync, Event::Ready(status)) => {
            assert_eq!((tag, body), (tag::READY, &[status.byte()][..]));
            model.pop_front();
        }
        (due, event) => panic!("{event:?} was accepted where {due:?} was owed"),
    }
}

/// Readers of single messages: what they accept is written back as it was.
fn readers(body: &[u8]) {
    // A column of a few bytes becomes a struct of some ten times its size; a list grows by doubling.
    let limit = 4096 + body.len() * 64;
    bounded(limit, "reading a server's message", || {
        if let Ok(columns) = backend::columns(body) {
            let mut out = Vec::new();
            backend::put_columns(&mut out, &columns);
            assert_eq!(&out[frame::HEADER..], body);
        }
        if let Ok(values) = backend::row_values(body) {
            let mut out = Vec::new();
            backend::put_row(&mut out, values.into_iter());
            assert_eq!(&out[frame::HEADER..], body);
        }
        if let Ok(status) = TxStatus::read(body) {
            assert_eq!(body, [status.byte()]);
        }
        let _ = backend::parameter(body).is_ok();
        let _ = backend::command(body).ok().and_then(backend::affected);
        let _ = Fields::read(body).is_fatal();
    });
}

/// A pipeline and its answers, a query, a COPY, and what nobody asked for.
pub fn seeds() -> Vec<Vec<u8>> {
    // A leading zero takes the rest of the bytes as they are, a one numbers of tags.
    let by_number = |requests: &[u8], tags: &[u8]| {
        let mut data = vec![1, requests.len() as u8];
        data.extend_from_slice(requests);
        data.push(1);
        for tag in tags {
            data.push(TAGS.iter().position(|known| known == tag).unwrap_or(0) as u8);
            data.push(0);
        }
        data
    };
    let mut columns = vec![0, 1, 8, 0];
    backend::put_columns(
        &mut columns,
        &[
            backend::Column::text("name"),
            backend::Column::of("id", 23, 4),
        ],
    );
    backend::put_row(&mut columns, [Some(&b"x"[..]), None].into_iter());
    backend::put_complete(&mut columns, b"SELECT 1");
    backend::put_ready(&mut columns, TxStatus::Idle);
    vec![
        by_number(&[0, 1, 4, 5, 6], b"12TDDCZ"),
        by_number(&[0x80, 1, 5, 6, 8], b"12EZTDCCZ"),
        by_number(&[8, 8], b"TDCZEZ"),
        by_number(&[5, 6, 6], b"GCZ"),
        by_number(&[8], b"GEZ"),
        by_number(&[0x49, 1, 0x49, 6], b"2Z"),
        by_number(&[], b"NASE"),
        by_number(&[3, 3, 2, 6], b"tTtn3Z"),
        by_number(&[9], b"VZ"),
        by_number(&[0x43, 8, 0x43, 1, 6], b"12CTDCZ12C2Z"),
        by_number(&[0x43, 8, 6], b"1EZ"),
        columns,
    ]
}
