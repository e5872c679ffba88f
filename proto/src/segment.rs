//! Recognises and reads the segment that runs one statement once. It is what most clients send most of the time.
//!
//! The segment is `[Parse] Bind [Describe] Execute Sync`, all for the unnamed portal. In: the beginning of a client's
//! stream. Out: the messages of such a segment, if it has arrived in full; `None` for anything else, which is not an
//! error.

use crate::frame::{self, Frame, Next};
use crate::frontend::{self, Bind, Parse, Target, tag};

/// The length of such a segment at the beginning of `input`, found by the headers alone. `limit` is the length of the
/// longest allowed message. [`Segment::read`] looks at the contents.
pub fn length(input: &[u8], limit: usize) -> Option<usize> {
    let mut at = 0;
    let mut expected = [
        tag::PARSE,
        tag::BIND,
        tag::DESCRIBE,
        tag::EXECUTE,
        tag::SYNC,
    ]
    .into_iter();
    loop {
        let Ok(Next::Whole(frame)) = frame::next(&input[at..], limit) else {
            return None;
        };
        // Parse and Describe may be missing.
        let found = expected
            .find(|tag| *tag == frame.tag() || !matches!(*tag, tag::PARSE | tag::DESCRIBE))?;
        if found != frame.tag() {
            return None;
        }
        at += frame.bytes.len();
        if found == tag::SYNC {
            return Some(at);
        }
    }
}

/// The messages of such a segment.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Parse of the unnamed statement, which Bind then names.
    pub parse: Option<Parse<'a>>,
    /// Bind, to the unnamed portal.
    pub bind: Bind<'a>,
    /// The segment has a Describe of the portal.
    pub describes: bool,
    /// The row limit of Execute, 0 for none.
    pub rows: i32,
    /// The messages after Bind, as they were sent.
    pub tail: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Reads a segment that [`length`] has measured. `bytes` has its messages and no more.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        let is = |frame: &Frame<'_>, tag| frame.tag() == tag;
        let mut frame = take(&mut rest)?;
        let mut parse = None;
        if is(&frame, tag::PARSE) {
            parse = Some(Parse::read(frame.body()).ok()?);
            frame = take(&mut rest)?;
        }
        if !is(&frame, tag::BIND) {
            return None;
        }
        let bind = Bind::read(frame.body()).ok()?;
        let tail = rest;
        frame = take(&mut rest)?;
        let describes = is(&frame, tag::DESCRIBE);
        if describes {
            if frontend::target(frame.body()) != Ok((Target::Portal, b"")) {
                return None;
            }
            frame = take(&mut rest)?;
        }
        let (portal, rows) = frontend::execute(frame.body()).ok()?;
        let sync = take(&mut rest)?;
        let ordered = is(&frame, tag::EXECUTE) && is(&sync, tag::SYNC);
        let alone = portal.is_empty() && bind.portal.is_empty() && sync.body().is_empty();
        let unnamed = |parse: &Parse<'_>| parse.name.is_empty() && bind.statement.is_empty();
        let whole = ordered && alone && parse.as_ref().is_none_or(unnamed) && rest.is_empty();
        whole.then_some(Self {
            parse,
            bind,
            describes,
            rows,
            tail,
        })
    }
}

/// Splits a message off the front.
fn take<'a>(rest: &mut &'a [u8]) -> Option<Frame<'a>> {
    match frame::next(rest, usize::MAX) {
        Ok(Next::Whole(frame)) => {
            *rest = &rest[frame.bytes.len()..];
            Some(frame)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::{SYNC, put_describe, put_execute};

    fn parse(name: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let (sql, types) = (&b"SELECT $1"[..], &[0, 0, 0, 23][..]);
        Parse { name, sql, types }.put(&mut out);
        out
    }

    fn bind(portal: &[u8], statement: &[u8]) -> Vec<u8> {
        let mut body = [portal, b"\0", statement, b"\0"].concat();
        // One format, one value, no formats of results.
        body.extend_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0, 0, 1, b'7', 0, 0]);
        let mut out = Vec::new();
        frame::put(&mut out, tag::BIND, |out| out.extend_from_slice(&body));
        out
    }

    fn describe(target: Target, name: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_describe(&mut out, target, name);
        out
    }

    fn execute(portal: &[u8], rows: i32) -> Vec<u8> {
        let mut out = Vec::new();
        put_execute(&mut out, portal, rows);
        out
    }

    /// Measures and reads a segment with another message behind it.
    fn read(messages: &[Vec<u8>]) -> Option<(bool, bool, i32, usize)> {
        let bytes = messages.concat();
        let stream = [&bytes[..], SYNC].concat();
        let length = length(&stream, 1 << 20)?;
        let segment = Segment::read(&stream[..length])?;
        assert_eq!(length, bytes.len());
        assert_eq!(segment.bind.value(0), Some((0, Some(&b"7"[..]))));
        let (parsed, rest) = (segment.parse.is_some(), segment.tail.len());
        Some((parsed, segment.describes, segment.rows, rest))
    }

    #[test]
    fn one_statement_run_once_is_read() {
        let portal = || describe(Target::Portal, b"");
        let (run, sync) = (|| execute(b"", 0), || SYNC.to_vec());
        let all = [parse(b""), bind(b"", b""), portal(), run(), sync()];
        assert_eq!(read(&all), Some((true, true, 0, 7 + 10 + 5)));
        let bare = [parse(b""), bind(b"", b""), execute(b"", 5), sync()];
        assert_eq!(read(&bare), Some((true, false, 5, 15)));
        let named = [bind(b"", b"s"), portal(), run(), sync()];
        assert_eq!(read(&named), Some((false, true, 0, 22)));
        for cut in 0..all.concat().len() {
            assert_eq!(length(&all.concat()[..cut], 1 << 20), None, "{cut}");
        }
    }

    #[test]
    fn anything_else_is_left_alone() {
        let (run, sync) = (execute(b"", 0), SYNC.to_vec());
        let statement = describe(Target::Statement, b"");
        let mut long = SYNC.to_vec();
        long[4] += 1;
        long.push(0);
        for messages in [
            vec![parse(b"s"), bind(b"", b"s"), run.clone(), sync.clone()],
            vec![parse(b""), bind(b"", b"s"), run.clone(), sync.clone()],
            vec![bind(b"p", b""), execute(b"p", 0), sync.clone()],
            vec![bind(b"", b""), execute(b"p", 0), sync.clone()],
            vec![bind(b"", b""), statement, run.clone(), sync.clone()],
            vec![bind(b"", b""), run.clone(), run.clone(), sync.clone()],
            vec![bind(b"", b""), bind(b"", b""), run.clone(), sync.clone()],
            vec![bind(b"", b""), parse(b""), run.clone(), sync.clone()],
            vec![parse(b""), run.clone(), sync.clone()],
            vec![run.clone(), sync.clone()],
            vec![bind(b"", b""), sync.clone()],
            vec![bind(b"", b""), run, long],
            vec![sync],
        ] {
            assert_eq!(read(&messages), None, "{messages:?}");
        }
    }
}
