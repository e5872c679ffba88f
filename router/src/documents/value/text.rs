//! Texts: UTF-8 without zero bytes.

use bson::RawBsonRef;

use super::{Fault, mismatch};

/// Bytes that PostgreSQL takes for a text; see `report_invalid_encoding` of its `mbutils.c`.
pub(super) fn check(bytes: &[u8]) -> Result<&str, Fault> {
    let zero = memchr_zero(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) if zero == bytes.len() => Ok(text),
        Ok(_) => Err(invalid_sequence(&bytes[zero..])),
        Err(error) => Err(invalid_sequence(&bytes[error.valid_up_to().min(zero)..])),
    }
}

fn memchr_zero(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len())
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

/// A stored string; BSON allows zero bytes in it, PostgreSQL does not.
pub(super) fn read(value: RawBsonRef<'_>) -> Result<&str, Fault> {
    let text = value.as_str().ok_or_else(|| mismatch(value, "String"))?;
    check(text.as_bytes())
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
