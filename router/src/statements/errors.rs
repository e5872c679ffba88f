//! Errors of servers as the client is to see them: a FATAL ends the server's connection and not the client's, and a
//! place in a text that the router has written is one in the client's own text.

use super::names::{self, Names, Prepared};
use mothership_plan::Plan;
use mothership_plan::fill::Fill;
use mothership_proto::backend::tag;
use mothership_proto::report::Severity;
use mothership_sql::cursor::Span;
use mothership_sql::places::{Change, Characters, own_place, place_of_part};
use std::rc::Rc;

/// How a text that the router has written comes from the client's. What stands where is found out when there is an error.
#[derive(Clone, Debug)]
pub struct Written {
    own: ClientText,
    how: How,
}

/// The client's text.
#[derive(Clone, Debug)]
enum ClientText {
    /// That of a statement.
    Of(Rc<Prepared>),
    /// A copy, for what belongs to the statement itself.
    Text(Box<[u8]>),
}

#[derive(Clone, Debug)]
enum How {
    /// All of it.
    Whole,
    /// A part of it.
    Part(Span),
    /// With names of ours, of so many characters, in place of the client's.
    Named(Box<[(Span, usize)]>),
    /// The part of it that is an INSERT, with the values that it leaves to the router.
    Filled(Span, Rc<Plan>, Values),
}

/// The values of an INSERT, as they were written.
#[derive(Clone, Debug)]
pub enum Values {
    /// These.
    Constants(Rc<[String]>),
    /// Parameters, the first of which has the number behind this one.
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

    /// A statement's text with another name of so many characters in place of what `span` says.
    pub fn named(own: &Rc<Prepared>, span: Span, ours: usize) -> Written {
        Written {
            own: ClientText::Of(Rc::clone(own)),
            how: How::Named(Box::new([(span, ours)])),
        }
    }

    /// The same with several names, in the order in which they stand there.
    pub fn with_names(own: &Rc<Prepared>, names: Box<[(Span, usize)]>) -> Written {
        Written {
            own: ClientText::Of(Rc::clone(own)),
            how: How::Named(names),
        }
    }

    /// A text with another name of so many characters in place of what `span` says.
    pub fn named_in(own: &[u8], span: Span, ours: usize) -> Written {
        Written {
            own: ClientText::Text(own.into()),
            how: How::Named(Box::new([(span, ours)])),
        }
    }

    /// The text of a plan's [`Fill`] of the INSERT that is this part of a statement's text.
    pub fn filled(own: &Rc<Prepared>, span: Span, plan: Rc<Plan>, values: Values) -> Written {
        Written {
            own: ClientText::Of(Rc::clone(own)),
            how: How::Filled(span, plan, values),
        }
    }

    /// An error about what was written, as one about the client's text.
    pub fn moved(&self, body: &[u8], characters: Characters) -> Vec<u8> {
        placed(body, |place| self.place(characters, place))
    }

    /// The place in the client's text of a place in this one.
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

/// An ErrorResponse or NoticeResponse with its place, if it has one, where `own` says that it is in the client's text;
/// without it, if it is nowhere there.
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

/// Writes an ErrorResponse as it is.
pub(crate) fn put_error(out: &mut Vec<u8>, body: &[u8]) {
    mothership_proto::frame::put(out, tag::ERROR, |out| out.extend_from_slice(body));
}

/// A NoticeResponse that names a place, with the place that `own` has for it; `None` if it names none.
pub(crate) fn placed_notice(body: &[u8], own: impl Fn(usize) -> Option<usize>) -> Option<Vec<u8>> {
    place_of(body)?;
    let body = placed(body, own);
    let mut out = Vec::with_capacity(body.len() + 8);
    mothership_proto::frame::put(&mut out, tag::NOTICE, |out| out.extend_from_slice(&body));
    Some(out)
}

/// The place that a report names in the text that its server has.
pub(crate) fn place_of(body: &[u8]) -> Option<usize> {
    let mut fields = body.split(|byte| *byte == 0);
    let place = fields.find_map(|field| field.strip_prefix(b"P"))?;
    std::str::from_utf8(place).ok()?.parse().ok()
}

/// An ErrorResponse whose message names a statement as servers know it, with the client's name; `None` if it does not.
pub(crate) fn named_as_client(body: &[u8], all: &Names) -> Option<Vec<u8>> {
    const OURS: &[u8] = names::OURS.as_bytes();
    let start = body.windows(OURS.len()).position(|part| part == OURS)?;
    let digits = &body[start + OURS.len()..];
    let length = digits.iter().position(|byte| !byte.is_ascii_hexdigit())?;
    let id = u64::from_str_radix(std::str::from_utf8(&digits[..length]).ok()?, 16).ok()?;
    let name = all.name_of(id)?;
    Some([&body[..start], name, &digits[length..]].concat())
}

/// Writes a server's FATAL as an ERROR: it ends the server's connection, not the
/// client's. All other fields stay.
pub(crate) fn put_as_error(out: &mut Vec<u8>, body: &[u8]) {
    put_changed(out, body, |code, _| {
        let severity = matches!(code, b'S' | b'V');
        severity.then(|| Severity::Error.word().as_bytes().to_vec())
    });
}

/// Writes an ErrorResponse with other texts in the fields for which `change` has one.
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
