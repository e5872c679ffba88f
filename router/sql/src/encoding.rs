//! Which client encodings may be lexed as bytes.
//!
//! PostgreSQL converts a statement to the server's encoding before it lexes it,
//! and a server encoding never has ASCII bytes inside a character. We lex what
//! the client sent. In a few client-only encodings the second byte of a character
//! may be `\`, `'`, `"`, `$` or a letter, so the same bytes mean something else.
//! See <https://www.postgresql.org/docs/current/multibyte.html>.

/// Client encodings of which every byte of a multi-byte character is >= 0x80,
/// lower case and without punctuation, as [`safe_encoding`] compares them.
const SAFE: &[&str] = &[
    "utf8",
    "unicode",
    "sqlascii",
    "euccn",
    "eucjp",
    "eucjis2004",
    "euckr",
    "euctw",
    "iso88591",
    "iso88592",
    "iso88593",
    "iso88594",
    "iso88595",
    "iso88596",
    "iso88597",
    "iso88598",
    "iso88599",
    "iso885910",
    "iso885913",
    "iso885914",
    "iso885915",
    "iso885916",
    "koi8",
    "koi8r",
    "koi8u",
    "latin1",
    "latin2",
    "latin3",
    "latin4",
    "latin5",
    "latin6",
    "latin7",
    "latin8",
    "latin9",
    "latin10",
    "muleinternal",
    "tcvn",
    "tcvn5712",
    "abc",
    "vscii",
    "win",
    "win866",
    "win874",
    "win1250",
    "win1251",
    "win1252",
    "win1253",
    "win1254",
    "win1255",
    "win1256",
    "win1257",
    "win1258",
    "windows866",
    "windows874",
    "windows1250",
    "windows1251",
    "windows1252",
    "windows1253",
    "windows1254",
    "windows1255",
    "windows1256",
    "windows1257",
    "windows1258",
];

/// Whether text in the client encoding `name` can be lexed byte by byte.
///
/// The name is compared as PostgreSQL compares it: ASCII letters and digits only,
/// without case. SJIS, BIG5, GBK, UHC, GB18030, JOHAB, SHIFT_JIS_2004 and names that
/// we do not know are not safe; the session must refuse or pin such clients.
pub fn safe_encoding(name: &str) -> bool {
    SAFE.iter().any(|safe| same(safe, name))
}

/// Compares a cleaned-up name with one as the client wrote it.
fn same(clean: &str, written: &str) -> bool {
    let letters = written
        .bytes()
        .filter(u8::is_ascii_alphanumeric)
        .map(|b| b.to_ascii_lowercase());
    letters.eq(clean.bytes())
}

#[cfg(test)]
mod tests {
    use super::safe_encoding;

    #[test]
    fn encodings_with_ascii_second_bytes_are_refused() {
        for name in [
            "SJIS",
            "shift_jis",
            "BIG5",
            "Gbk",
            "UHC",
            "GB18030",
            "johab",
            "SHIFT_JIS_2004",
            "win949",
            "WIN936",
            "",
            "'",
            "utf16",
        ] {
            assert!(!safe_encoding(name), "{name}");
        }
        for name in [
            "UTF8",
            "utf-8",
            "UTF_8",
            "Unicode",
            "LATIN1",
            "latin-1",
            "iso_8859-1",
            "EUC_JP",
            "EUC_JIS_2004",
            "WIN1252",
            "windows-1251",
            "SQL_ASCII",
            "KOI8-R",
        ] {
            assert!(safe_encoding(name), "{name}");
        }
    }
}
