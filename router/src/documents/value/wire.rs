//! Reading binary forms, and writing what is short.

use std::fmt::Display;
use std::io::Write;

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

/// Adds what Rust writes as PostgreSQL does.
pub(super) fn put_display(value: impl Display, out: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{value}");
}
