//! What a server says first when it does nothing of a request, for a reason that lies in what it is at present: another
//! server may do the same request.

use mothership_proto::backend::tag;
use mothership_proto::frame::{self, Next};
use mothership_proto::report::Fields;

/// Why a server did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A replica had to replay what the statement stood in the way of: 40001.
    /// <https://www.postgresql.org/docs/current/hot-standby.html#HOT-STANDBY-CONFLICT>
    Conflict,
    /// It takes no writes: 25006.
    ReadOnly,
}

/// The refusal in what has come from a server, if that is the first of the answer to a request. A row or a command that
/// was done before it, and there is none. Messages over `longest` bytes are not looked at.
pub fn refusal(input: &[u8], longest: usize) -> Option<Refusal> {
    let mut rest = input;
    while let Ok(Next::Whole(frame)) = frame::next(rest, longest) {
        match frame.tag() {
            silent if says_nothing(silent) => rest = &rest[frame.bytes.len()..],
            tag::NOTICE | tag::PARAMETER_STATUS => rest = &rest[frame.bytes.len()..],
            tag::ERROR => {
                return match Fields::read(frame.body()).code {
                    Some(b"40001") => Some(Refusal::Conflict),
                    Some(b"25006") => Some(Refusal::ReadOnly),
                    _ => None,
                };
            }
            _ => return None,
        }
    }
    None
}

/// Whether what has come does not tell yet if the server refuses: nothing of it is worth more to a client now than with
/// what follows, and an answer may come in any pieces.
pub fn is_open(input: &[u8], longest: usize) -> bool {
    let mut rest = input;
    loop {
        match frame::next(rest, longest) {
            Ok(Next::Whole(frame)) if says_nothing(frame.tag()) => {
                rest = &rest[frame.bytes.len()..]
            }
            Ok(Next::Whole(_)) | Err(_) => return false,
            Ok(_) => {
                let begun = |tag: &u8| *tag == tag::ERROR || says_nothing(*tag);
                return rest.first().is_none_or(begun);
            }
        }
    }
}

/// What comes before the first row, or before the error in its place.
fn says_nothing(tag: u8) -> bool {
    matches!(
        tag,
        tag::PARSE_COMPLETE | tag::BIND_COMPLETE | tag::ROW_DESCRIPTION | tag::NO_DATA
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use mothership_proto::report::Report;

    const LONGEST: usize = 1 << 20;

    fn error(code: &'static str) -> Vec<u8> {
        let mut bytes = Vec::new();
        Report::error(code, "no").put(&mut bytes);
        bytes
    }

    #[test]
    fn only_what_comes_first_is_a_refusal() {
        let parsed = b"1\0\0\0\x04".as_slice();
        let done = b"C\0\0\0\x0dSELECT 1\0".as_slice();
        let cases: [(&[&[u8]], Option<Refusal>); 6] = [
            (&[], None),
            (&[&error("40001")], Some(Refusal::Conflict)),
            (&[parsed, &error("25006")], Some(Refusal::ReadOnly)),
            (&[&error("57014")], None),
            // The first command of several was done.
            (&[done, &error("25006")], None),
            (&[&error("25006")[..9]], None),
        ];
        for (parts, expected) in cases {
            assert_eq!(refusal(&parts.concat(), LONGEST), expected, "{parts:?}");
        }
    }

    #[test]
    fn whether_it_refuses_is_open_until_its_error_is_whole() {
        let parsed = b"1\0\0\0\x04".as_slice();
        let row = b"D\0\0\0\x06\0\0".as_slice();
        let error = error("40001");
        let cases: [(&[&[u8]], bool); 6] = [
            (&[], true),
            (&[parsed], true),
            (&[parsed, &error[..9]], true),
            (&[parsed, &error], false),
            (&[parsed, row], false),
            (&[parsed, &row[..3]], false),
        ];
        for (parts, expected) in cases {
            assert_eq!(is_open(&parts.concat(), LONGEST), expected, "{parts:?}");
        }
    }
}
