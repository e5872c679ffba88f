//! OP_MSG: the message in which MongoDB's protocol has commands, and what they answer.
//!
//! Pure. See <https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/>.

use mongodb::bson::RawDocument;

/// The longest message that a server takes or sends (`maxMessageSizeBytes`).
const LONGEST: usize = 48_000_000;
/// Length, number, the number that is answered, and what kind of message it is: four 32-bit integers, least byte first.
const HEADER: usize = 16;
const OP_MSG: i32 = 2013;
/// Behind the header: flags, and the kind of the only section.
const BEFORE_BODY: usize = HEADER + 4 + 1;
/// A checksum of four bytes ends the message.
const CHECKSUM: u32 = 1;

/// A message that is none, or not an answer. Close the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(&'static str);

/// Appends a command with its number.
pub(super) fn put(out: &mut Vec<u8>, number: i32, command: &RawDocument) {
    let body = command.as_bytes();
    // A command of the router's has no more than one statement of the client's, whose length is limited.
    let length = (BEFORE_BODY + body.len()) as i32;
    for word in [length, number, 0, OP_MSG, 0] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.push(0);
    out.extend_from_slice(body);
}

/// The answer to the command of this number, and how long its message is; `None` until all of it is there.
///
/// # Errors
/// It is no answer to it.
pub(super) fn answer(
    input: &[u8],
    number: i32,
) -> Result<Option<(&RawDocument, usize)>, Malformed> {
    let word = |at: usize| {
        let bytes = input.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let Some(length) = word(0).map(|length| length as usize) else {
        return Ok(None);
    };
    if !(BEFORE_BODY..=LONGEST).contains(&length) {
        return Err(Malformed("its length"));
    }
    let Some(message) = input.get(..length) else {
        return Ok(None);
    };
    if word(8) != Some(number as u32) {
        return Err(Malformed("the number that it answers"));
    }
    if word(12) != Some(OP_MSG as u32) {
        return Err(Malformed("its kind"));
    }
    let end = match word(HEADER) {
        Some(0) => length,
        Some(CHECKSUM) => length - 4,
        _ => return Err(Malformed("its flags")),
    };
    match message.get(BEFORE_BODY - 1..end) {
        Some([0, body @ ..]) => {
            let body = RawDocument::from_bytes(body).map_err(|_| Malformed("its document"))?;
            Ok(Some((body, length)))
        }
        _ => Err(Malformed("its section")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::rawdoc;

    /// What a server sends to answer the command of this number.
    fn sent(number: i32, flags: u32, body: &RawDocument) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, 77, body);
        out[8..12].copy_from_slice(&number.to_le_bytes());
        out[HEADER..HEADER + 4].copy_from_slice(&flags.to_le_bytes());
        out
    }

    #[test]
    fn an_answer_is_there_when_all_of_it_is() {
        let body = rawdoc! { "ok": 1.0, "text": "ä" };
        let message = sent(5, 0, &body);
        for end in 0..message.len() {
            assert_eq!(answer(&message[..end], 5), Ok(None), "{end} bytes");
        }
        let mut more = message.clone();
        more.extend_from_slice(b"of the next");
        assert_eq!(answer(&more, 5), Ok(Some((&*body, message.len()))));
        let mut checked = sent(5, CHECKSUM, &body);
        checked.extend_from_slice(&[1, 2, 3, 4]);
        let length = checked.len();
        checked[..4].copy_from_slice(&(length as i32).to_le_bytes());
        assert_eq!(answer(&checked, 5), Ok(Some((&*body, length))));
    }

    #[test]
    fn what_is_no_answer_is_malformed() {
        let good = sent(5, 0, &rawdoc! { "ok": 1.0 });
        let with = |at: usize, bytes: &[u8]| {
            let mut message = good.clone();
            message[at..at + bytes.len()].copy_from_slice(bytes);
            answer(&message, 5).map(drop)
        };
        let cases = [
            (with(0, &[20, 0, 0, 0]), "its length"),
            (with(0, &[0, 0, 0, 0x7f]), "its length"),
            (with(0, &[0xff, 0xff, 0xff, 0xff]), "its length"),
            (with(8, &[6]), "the number that it answers"),
            (with(12, &[1]), "its kind"),
            // More would come.
            (with(HEADER, &[2]), "its flags"),
            (with(HEADER, &[CHECKSUM as u8]), "its document"),
            (with(BEFORE_BODY - 1, &[1]), "its section"),
            (with(BEFORE_BODY, &[200]), "its document"),
        ];
        for (answer, what) in cases {
            assert_eq!(answer, Err(Malformed(what)));
        }
    }
}
