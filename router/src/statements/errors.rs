//! Rewrites errors of servers for the client. A FATAL becomes an ERROR, because it ends the server's connection and not
//! the client's. A position in a text that the router has written becomes one in the client's own text. A statement's
//! name on servers becomes the client's name.

use super::names::{self, Names, Prepared};
use mothership_plan::Plan;
use mothership_plan::fill::Fill;
use mothership_proto::backend::tag;
use mothership_proto::report::{Fields, Severity, sqlstate};
use mothership_sql::cursor::Span;
use mothership_sql::places::{Change, Characters, own_place, place_of_part};
use std::rc::Rc;

/// How a text that the router has written was made from the client's text. Positions are computed only when there is an
/// error.
#[derive(Clone, Debug)]
pub struct Written {
    own: ClientText,
    how: How,
}

/// The client's text that another text was made from.
#[derive(Clone, Debug)]
enum ClientText {
    /// The text of a statement.
    Of(Rc<Prepared>),
    /// A copy of the text. What belongs to the statement itself cannot refer to the statement.
    Text(Box<[u8]>),
}

#[derive(Clone, Debug)]
enum How {
    /// All of the client's text.
    Whole,
    /// A part of the client's text.
    Part(Span),
    /// The client's text with names of ours in place of the client's: where each name stands, and how many characters
    /// ours has.
    Named(Box<[(Span, usize)]>),
    /// The part of the client's text that is an INSERT, with the values that it leaves to the router.
    Filled(Span, Rc<Plan>, Values),
}

/// The values of an INSERT, as they were written into its text.
#[derive(Clone, Debug)]
pub enum Values {
    /// As constants.
    Constants(Rc<[String]>),
    /// As parameters. The number of the first one follows this number.
    Parameters(usize),
}

impl Written {
    /// A statement's text.
    pub fn whole(own: &Rc<Prepared>) -> Written {
        Written {
            own: ClientText::Of(Rc::clone(own)),
            how: How::Whole,
        }
    }

    /// A part of a statement's text.
    pub fn part(own: &Rc<Prepared>, span: Span) -> Written {
        Written {
            own: ClientText::Of(Rc::clone(own)),
            how: How::Part(span),
        }
    }

    /// A statement's text with another name, of `ours` characters, in place of what `span` says.
    pub fn named(own: &Rc<Prepared>, span: Span, ours: usize) -> Written {
        Written {
            own: ClientText::Of(Rc::clone(own)),
            how: How::Named(Box::new([(span, ours)])),
        }
    }

    /// The same with several names, in the order in which they stand in the text.
    pub fn with_names(own: &Rc<Prepared>, names: Box<[(Span, usize)]>) -> Written {
        Written {
            own: ClientText::Of(Rc::clone(own)),
            how: How::Named(names),
        }
    }

    /// A text with another name, of `ours` characters, in place of what `span` says.
    pub fn named_in(own: &[u8], span: Span, ours: usize) -> Written {
        Written {
            own: ClientText::Text(own.into()),
            how: How::Named(Box::new([(span, ours)])),
        }
    }

    /// The text that a plan's [`Fill`] makes of the INSERT at `span` in a statement's text.
    pub fn filled(own: &Rc<Prepared>, span: Span, plan: Rc<Plan>, values: Values) -> Written {
        Written {
            own: ClientText::Of(Rc::clone(own)),
            how: How::Filled(span, plan, values),
        }
    }

    /// Turns an error about the text that was written into one about the client's text.
    pub fn moved(&self, body: &[u8], characters: Characters) -> Vec<u8> {
        placed(body, |place| self.place(characters, place))
    }

    /// The position in the client's text of a position in the text that was written.
    pub fn place(&self, characters: Characters, place: usize) -> Option<usize> {
        let own = match &self.own {
            ClientText::Of(statement) => &statement.sql,
            ClientText::Text(text) => text,
        };
        let place = match &self.how {
            How::Whole => Some(place),
            How::Part(span) => place_of_part(own, span.start, characters, place),
            How::Named(names) => {
                let change = |(span, ours): &(Span, usize)| {
                    Change::new(span.start..span.end, &" ".repeat(*ours))
                };
                let changes: Vec<Change> = names.iter().map(change).collect();
                own_place(own, &changes, characters, place)
            }
            How::Filled(span, plan, values) => {
                let Plan::Fill(fill) = &**plan else {
                    return None;
                };
                let place = own_place(span.of(own), &changes(fill, values)?, characters, place)?;
                place_of_part(own, span.start, characters, place)
            }
        };
        match &self.own {
            ClientText::Of(statement) => match statement.rewritten.get() {
                Some(rewritten) => {
                    own_place(&rewritten.sql, &rewritten.changes, characters, place?)
                }
                None => place,
            },
            ClientText::Text(_) => place,
        }
    }
}

fn changes(fill: &Fill, values: &Values) -> Option<Vec<Change>> {
    match values {
        Values::Constants(values) => fill.changes_by_constants(values),
        Values::Parameters(first) => fill.changes_by_parameters(*first),
    }
}

/// Changes the position in an ErrorResponse or NoticeResponse, if it has one, to the position that `own` gives for the
/// client's text. If `own` gives none, the position is left out.
pub(crate) fn placed(body: &[u8], own: impl Fn(usize) -> Option<usize>) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 8);
    for field in body.split_inclusive(|byte| *byte == 0) {
        let [b'P', place @ .., 0] = field else {
            out.extend_from_slice(field);
            continue;
        };
        let place = std::str::from_utf8(place).ok().and_then(|p| p.parse().ok());
        if let Some(found) = place.and_then(&own) {
            out.extend_from_slice(format!("P{found}\0").as_bytes());
        }
    }
    out
}

/// Writes an ErrorResponse unchanged.
pub(crate) fn put_error(out: &mut Vec<u8>, body: &[u8]) {
    mothership_proto::frame::put(out, tag::ERROR, |out| out.extend_from_slice(body));
}

/// A NoticeResponse with its position changed to the one that `own` gives; `None` if it has no position.
pub(crate) fn placed_notice(body: &[u8], own: impl Fn(usize) -> Option<usize>) -> Option<Vec<u8>> {
    place_of(body)?;
    let body = placed(body, own);
    let mut out = Vec::with_capacity(body.len() + 8);
    mothership_proto::frame::put(&mut out, tag::NOTICE, |out| out.extend_from_slice(&body));
    Some(out)
}

/// The position that an error or notice names, in the text that the server got.
pub(crate) fn place_of(body: &[u8]) -> Option<usize> {
    let mut fields = body.split(|byte| *byte == 0);
    let place = fields.find_map(|field| field.strip_prefix(b"P"))?;
    std::str::from_utf8(place).ok()?.parse().ok()
}

/// An ErrorResponse with the client's name of a statement in place of the name on servers; `None` if its message has no
/// such name.
pub(crate) fn named_as_client(body: &[u8], all: &Names) -> Option<Vec<u8>> {
    const OURS: &[u8] = names::OURS.as_bytes();
    let start = body.windows(OURS.len()).position(|part| part == OURS)?;
    let digits = &body[start + OURS.len()..];
    let length = digits.iter().position(|byte| !byte.is_ascii_hexdigit())?;
    let id = u64::from_str_radix(std::str::from_utf8(&digits[..length]).ok()?, 16).ok()?;
    let name = all.name_of(id)?;
    Some([&body[..start], name, &digits[length..]].concat())
}

/// An error about the values of a Bind, with the client's name of the statement. `None` if it is another error, or names a
/// statement. Where shards get texts of the router's own, these are unnamed statements.
pub(crate) fn with_name(body: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    const UNNAMED: &[u8] = b"\"\"";
    let violation = sqlstate::PROTOCOL_VIOLATION.as_bytes();
    let fields = Fields::read(body);
    if fields.code != Some(violation) || name.is_empty() {
        return None;
    }
    let start = body
        .windows(UNNAMED.len())
        .position(|part| part == UNNAMED)?;
    let (before, after) = body.split_at(start + 1);
    Some([before, name, after].concat())
}

/// Writes a server's FATAL as an ERROR: it ends the server's connection, not the client's. All other fields stay as
/// they are.
pub(crate) fn put_as_error(out: &mut Vec<u8>, body: &[u8]) {
    put_changed(out, body, |code, _| {
        let severity = matches!(code, b'S' | b'V');
        severity.then(|| Severity::Error.word().as_bytes().to_vec())
    });
}

/// Writes an ErrorResponse. In fields for which `change` returns a text, that text replaces the server's.
pub(crate) fn put_changed(
    out: &mut Vec<u8>,
    mut body: &[u8],
    mut change: impl FnMut(u8, &[u8]) -> Option<Vec<u8>>,
) {
    mothership_proto::frame::put(out, tag::ERROR, |out| {
        while let Some((&code, rest)) = body.split_first() {
            body = rest;
            if code == 0 {
                break;
            }
            let Some(text) = mothership_proto::frame::take_str(&mut body) else {
                break;
            };
            out.push(code);
            let changed = change(code, text);
            mothership_proto::frame::put_str(out, changed.as_deref().unwrap_or(text));
        }
        out.push(0);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fatal_error_of_a_server_is_an_error_for_the_client() {
        let mut out = Vec::new();
        let body = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0Rfunc\0\0";
        put_as_error(&mut out, body);
        assert_eq!(
            &out[5..],
            b"SERROR\0VERROR\0C57P01\0Mterminating connection\0Rfunc\0\0"
        );
    }

    #[test]
    fn only_the_place_of_an_error_is_another_one_in_the_clients_text() {
        let body = b"SERROR\0C42601\0MP1 is wrong\0P12\0p3\0qSELECT P9\0\0";
        assert_eq!(place_of(body), Some(12));
        let moved = b"SERROR\0C42601\0MP1 is wrong\0P7\0p3\0qSELECT P9\0\0";
        assert_eq!(placed(body, |place| place.checked_sub(5)), moved);
        let without = b"SERROR\0C42601\0MP1 is wrong\0p3\0qSELECT P9\0\0";
        assert_eq!(placed(body, |_| None), without);
        assert_eq!(placed(without, |_| Some(1)), without);
        assert_eq!(place_of(without), None);
    }
}
