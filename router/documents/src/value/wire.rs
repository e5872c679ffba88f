//! Reading binary forms, and writing whole numbers.

use super::Fault;

/// All of a value of fixed size.
pub(super) fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Fault> {
    let (value, rest) = bytes.split_first_chunk().ok_or_else(insufficient)?;
    match rest {
        [] => Ok(*value),
        _ => Err(too_long()),
    }
}

/// The next bytes of a value that has parts.
pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Fault> {
    let (value, rest) = bytes.split_first_chunk().ok_or_else(insufficient)?;
    *bytes = rest;
    Ok(*value)
}

/// The next bytes of a part whose length was sent before it, if there are so many.
pub(super) fn take_slice<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (value, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(value)
}

/// A value ends before its last part.
pub(super) fn insufficient() -> Fault {
    Fault::new("08P01", "insufficient data left in message")
}

/// A value goes on after its last part.
pub(super) fn too_long() -> Fault {
    Fault::new("22P03", "incorrect binary data format")
}

/// Adds a whole number.
pub(super) fn put_integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Adds a number of as many digits at least.
pub(super) fn put_padded(value: u64, width: usize, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value).as_bytes();
    out.resize(out.len() + width.saturating_sub(digits.len()), b'0');
    out.extend_from_slice(digits);
}

/// Adds the last two digits of a number, as times have them.
pub(super) fn put_two(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&two(value));
}

/// The last two digits of a number.
pub(super) fn two(value: u64) -> [u8; 2] {
    [value / 10, value].map(|digit| b'0' + (digit % 10) as u8)
}
