//! Checks that a value of type text is one that PostgreSQL accepts: UTF-8 without zero bytes. The errors are
//! PostgreSQL's.

use bson::RawBsonRef;
use memchr::memchr;

use super::{Fault, mismatch};

/// The text in these bytes. For the error see `report_invalid_encoding` in PostgreSQL's `mbutils.c`.
pub(super) fn check(bytes: &[u8]) -> Result<&str, Fault> {
    match std::str::from_utf8(bytes) {
        Ok(text) => check_text(text),
        Err(error) => {
            let zero = memchr(0, bytes).unwrap_or(bytes.len());
            Err(invalid_sequence(&bytes[error.valid_up_to().min(zero)..]))
        }
    }
}

/// The same check for a text that is known to be UTF-8.
pub(super) fn check_text(text: &str) -> Result<&str, Fault> {
    match memchr(0, text.as_bytes()) {
        None => Ok(text),
        Some(zero) => Err(invalid_sequence(&text.as_bytes()[zero..])),
    }
}

fn invalid_sequence(from: &[u8]) -> Fault {
    let length = match from.first() {
        Some(0xc0..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf7) => 4,
        _ => 1,
    };
    let shown: Vec<String> = from
        .iter()
        .take(length)
        .map(|byte| format!("0x{byte:02x}"))
        .collect();
    Fault::new(
        "22021",
        format!(
            "invalid byte sequence for encoding \"UTF8\": {}",
            shown.join(" ")
        ),
    )
}

/// Reads a stored string. BSON allows zero bytes in a string, PostgreSQL does not.
pub(super) fn read(value: RawBsonRef<'_>) -> Result<&str, Fault> {
    let text = value.as_str().ok_or_else(|| mismatch(value, "String"))?;
    check_text(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wrong_bytes_are_named() {
        assert_eq!(check("é".as_bytes()), Ok("é"));
        for (bytes, shown) in [
            (&b"a\0b"[..], "0x00"),
            (b"\xff", "0xff"),
            (b"\xc3(", "0xc3 0x28"),
            (b"\xed\xa0\x80\0", "0xed 0xa0 0x80"),
            (b"\xf0\x9f", "0xf0 0x9f"),
        ] {
            let fault = check(bytes).unwrap_err();
            assert_eq!(fault.sqlstate, "22021");
            assert_eq!(
                fault.message,
                format!("invalid byte sequence for encoding \"UTF8\": {shown}")
            );
        }
    }
}
