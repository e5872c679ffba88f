//! The few bytes of framing that startup and login need.
//!
//! Reading never panics and never allocates by a claimed length. The decoders of
//! `pgwire` are not used for it, because they panic on short bodies; tests use
//! pgwire and postgres-protocol as second opinions on what is written here.

use bytes::BufMut;

/// Appends a typed message whose body `body` writes; the length is filled in afterwards.
///
/// Everything written with this is bounded far below `i32::MAX` by its caller.
pub(crate) fn put_message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.put_u8(tag);
    put_counted(out, body);
}

/// Appends a message without a type byte, as the packets before login are.
pub(crate) fn put_counted(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - start).expect("login messages are far below 4 GiB");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends a C string. An embedded NUL would end it early, so it must not contain one.
pub(crate) fn put_cstr(out: &mut Vec<u8>, text: &str) {
    debug_assert!(!text.contains('\0'));
    out.put_slice(text.as_bytes());
    out.put_u8(0);
}

/// Appends a FATAL ErrorResponse. NULs in the text are dropped: they would end the field.
pub(crate) fn put_fatal(out: &mut Vec<u8>, sqlstate: &str, message: &str, hint: Option<&str>) {
    put_message(out, b'E', |out| {
        let fields = [
            (b'S', "FATAL"),
            (b'V', "FATAL"),
            (b'C', sqlstate),
            (b'M', message),
        ];
        for (code, text) in fields.into_iter().chain(hint.map(|hint| (b'H', hint))) {
            out.put_u8(code);
            out.extend(text.bytes().filter(|&byte| byte != 0));
            out.put_u8(0);
        }
        out.put_u8(0);
    });
}

/// Reads from the front of a body. Every method answers `None` where the bytes do not suffice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    /// The next four bytes as a signed number, most significant first.
    pub(crate) fn i32(&mut self) -> Option<i32> {
        let bytes = self.take(4)?;
        Some(i32::from_be_bytes(bytes.try_into().ok()?))
    }

    /// The bytes before the next NUL, which is consumed too.
    pub(crate) fn cstr(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|&byte| byte == 0)?;
        let text = self.take(end)?;
        self.take(1)?;
        Some(text)
    }

    /// Whether everything has been read.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
