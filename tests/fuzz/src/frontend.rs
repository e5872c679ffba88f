//! What a client sends, cut into messages and read.
//!
//! Promises: frames and what is said of the rest do not depend on how the bytes arrived; frames and rest together
//! are the bytes; a claimed length allocates nothing and is refused as soon as it is known; what a reader accepts is
//! written back as the same bytes.

use mothership_proto::frame::{self, FrameError, Next};
use mothership_proto::frontend::{self, Bind, Parse, tag};
use mothership_proto::segment::{self, Segment};

use crate::input::{Input, pieces};
use crate::memory::bounded;

/// What a stream was found to be: its frames, and how it ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Cut {
    frames: Vec<Vec<u8>>,
    end: Result<usize, FrameError>,
}

/// Holds a stream to the promises: two bytes decide about limit and pieces, the rest is the stream.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let limit = input.one_of(&[64, 1 << 10, 1 << 20, usize::MAX]);
    let seed = input.byte();
    let stream = input.rest();
    let whole = cut([stream].into_iter(), limit);
    assert_eq!(
        cut(pieces(stream, seed).into_iter(), limit),
        whole,
        "by pieces"
    );
    let passed: usize = whole.frames.iter().map(Vec::len).sum();
    assert_eq!(
        whole.frames.concat(),
        stream[..passed],
        "frames are the bytes"
    );
    for message in &whole.frames {
        assert!(message.len() <= limit);
        read(message);
    }
    segments(stream, &whole.frames, limit);
}

/// Whatever is taken for a segment of one statement consists of the messages that are cut there, in their order, and
/// says of them what each of them says.
fn segments(stream: &[u8], frames: &[Vec<u8>], limit: usize) {
    let mut at = 0;
    for first in 0..frames.len() {
        let rest = &stream[at..];
        at += frames[first].len();
        let Some(length) = bounded(0, "measuring", || segment::length(rest, limit)) else {
            continue;
        };
        let count = (3..=5).find(|count| {
            let lengths = frames[first..].iter().take(*count).map(Vec::len);
            lengths.sum::<usize>() == length
        });
        let count = count.expect("three to five whole messages");
        let tags: Vec<u8> = frames[first..][..count].iter().map(|f| f[0]).collect();
        let text = String::from_utf8_lossy(&tags);
        assert!(["PBDES", "PBES", "BDES", "BES"].contains(&&*text), "{text}");
        let Some(found) = bounded(0, "reading", || Segment::read(&rest[..length])) else {
            continue;
        };
        let body = |tag: u8| {
            let at = tags.iter().position(|t| *t == tag);
            at.map(|at| &frames[first + at][frame::HEADER..])
        };
        let parse = body(tag::PARSE).map(|body| Parse::read(body).expect("read before"));
        let bind = Bind::read(body(tag::BIND).expect("there")).expect("read before");
        let execute = frontend::execute(body(tag::EXECUTE).expect("there"));
        assert_eq!(
            found.parse.map(|p| (p.name, p.sql, p.types)),
            parse.map(|p| (p.name, p.sql, p.types))
        );
        assert_eq!(
            (found.bind.portal, found.bind.statement, found.bind.rest),
            (bind.portal, bind.statement, bind.rest)
        );
        assert_eq!(execute, Ok((&b""[..], found.rows)));
        assert_eq!(found.describes, body(tag::DESCRIBE).is_some());
        let behind: Vec<u8> = frames[first..][..count]
            .iter()
            .skip(1 + usize::from(found.parse.is_some()))
            .flatten()
            .copied()
            .collect();
        assert_eq!(found.tail, behind);
    }
}

/// Cuts what arrives, as the buffers of a connection do.
pub fn cut<'a>(arriving: impl Iterator<Item = &'a [u8]>, limit: usize) -> Cut {
    let mut buffer = Vec::new();
    let mut frames = Vec::new();
    for piece in arriving {
        buffer.extend_from_slice(piece);
        loop {
            match bounded(0, "cutting", || frame::next(&buffer, limit)) {
                Ok(Next::Whole(frame)) => {
                    let bytes = frame.bytes.to_vec();
                    assert_eq!((frame.tag(), frame.body()), (bytes[0], &bytes[5..]));
                    buffer.drain(..bytes.len());
                    frames.push(bytes);
                }
                Ok(Next::Partial { tag, total }) => {
                    assert!(total > buffer.len() && total <= limit.max(frame::HEADER));
                    assert_eq!(tag, buffer.first().copied());
                    break;
                }
                Err(error) => {
                    let end = Err(error);
                    return Cut { frames, end };
                }
            }
        }
    }
    let end = Ok(buffer.len());
    Cut { frames, end }
}

/// What a reader takes for good is written back as it was.
fn read(message: &[u8]) {
    let (tag, body) = (message[0], &message[frame::HEADER..]);
    let mut out = Vec::new();
    bounded(0, "reading", || {
        let _ = (
            frontend::query(body),
            frontend::target(body),
            frontend::execute(body),
        );
        let _ = frontend::copy_fail(body);
        let _ = Parse::read(body).map(|parse| parse.type_oids().count());
        let _ = Bind::read(body).map(|bind| bind.values().count());
    });
    match tag {
        tag::QUERY => {
            let Ok(sql) = frontend::query(body) else {
                return;
            };
            frontend::put_query(&mut out, sql);
        }
        tag::PARSE => {
            let Ok(parse) = Parse::read(body) else { return };
            assert_eq!(parse.type_oids().count() * 4, parse.types.len());
            parse.put(&mut out);
        }
        tag::BIND => {
            let Ok(bind) = Bind::read(body) else { return };
            assert_eq!(bind.values().count(), bind.len());
            let first = bind.value(0);
            assert_eq!(first, bind.values().next());
            assert_eq!(bind.value(bind.len()), None);
            bind.put_as(&mut out, bind.statement);
            let mut other = Vec::new();
            bind.put_as(&mut other, b"another");
            let again =
                Bind::read(&other[frame::HEADER..]).expect("a Bind under another name is one");
            assert_eq!((again.statement, again.rest), (&b"another"[..], bind.rest));
        }
        tag::DESCRIBE | tag::CLOSE => {
            let Ok((target, name)) = frontend::target(body) else {
                return;
            };
            match tag {
                tag::DESCRIBE => frontend::put_describe(&mut out, target, name),
                _ => frontend::put_close(&mut out, target, name),
            }
        }
        tag::EXECUTE => {
            let Ok((portal, rows)) = frontend::execute(body) else {
                return;
            };
            frontend::put_execute(&mut out, portal, rows);
        }
        tag::COPY_FAIL => {
            let Ok(reason) = frontend::copy_fail(body) else {
                return;
            };
            frontend::put_copy_fail(&mut out, reason);
        }
        _ => return,
    }
    assert_eq!(out, message, "written as it was read");
}

/// Streams of good messages, and lengths that are none.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut pipeline = vec![2, 1];
    Parse {
        name: b"s",
        sql: b"select $1::int",
        types: &[0, 0, 0, 23],
    }
    .put(&mut pipeline);
    let mut rest = vec![0, 1, 0, 1, 0, 2, 0, 0, 0, 4];
    rest.extend_from_slice(&[0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0, 1, 0, 1]);
    frame::put(&mut pipeline, tag::BIND, |body| {
        frame::put_str(body, b"p");
        frame::put_str(body, b"s");
        body.extend_from_slice(&rest);
    });
    frontend::put_describe(&mut pipeline, frontend::Target::Portal, b"p");
    frontend::put_execute(&mut pipeline, b"p", 10);
    frontend::put_close(&mut pipeline, frontend::Target::Statement, b"s");
    pipeline.extend_from_slice(frontend::FLUSH);
    pipeline.extend_from_slice(frontend::SYNC);
    let mut segment = vec![2, 1];
    Parse {
        name: b"",
        sql: b"select $1::int",
        types: &[],
    }
    .put(&mut segment);
    frame::put(&mut segment, tag::BIND, |body| {
        body.extend_from_slice(b"\0\0");
        body.extend_from_slice(&rest);
    });
    frontend::put_describe(&mut segment, frontend::Target::Portal, b"");
    frontend::put_execute(&mut segment, b"", 10);
    segment.extend_from_slice(frontend::SYNC);
    let mut simple = vec![3, 0];
    frontend::put_query(&mut simple, b"copy t from stdin");
    frame::put(&mut simple, tag::COPY_DATA, |body| {
        body.extend_from_slice(b"1\tx\n")
    });
    simple.extend_from_slice(frontend::COPY_DONE);
    frontend::put_copy_fail(&mut simple, b"no more");
    simple.extend_from_slice(frontend::TERMINATE);
    let mut seeds = vec![pipeline, segment, simple];
    for length in [i32::MIN, -1, 0, 3, 4, 63, 64, i32::MAX] {
        let mut stream = vec![0, 0, b'Q'];
        stream.extend_from_slice(&length.to_be_bytes());
        stream.extend_from_slice(b"select 1\0");
        seeds.push(stream);
    }
    seeds
}
