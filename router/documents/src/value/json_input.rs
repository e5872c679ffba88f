//! Texts of `jsonb` as BSON.
//!
//! What is stored is PostgreSQL's normal form: keys in its order, each once, so that equal values are equal documents.
//! Numbers keep their text: the first of Int32, Int64, Double and Decimal128 that has it is taken.

use bson::{Bson, Document};

use super::json::{VERSION, normalized, too_deep};
use super::numeric::{self, Number, Numeric};
use super::{Fault, text};

/// How deep values may be.
const MAX_DEPTH: usize = 64;

/// The value of a text.
pub(super) fn parse(text: &str) -> Result<Bson, Fault> {
    let mut rest = Rest(text);
    let value = rest.value(0)?;
    rest.skip_space();
    if !rest.0.is_empty() {
        return Err(rest.expected("end of input"));
    }
    match value {
        // Read back it would be NULL.
        Bson::Null => Err(Fault::new(
            "0A000",
            "a jsonb null cannot be stored in MongoDB: it is NULL there",
        )),
        value => Ok(value),
    }
}

/// The value of a binary form; see `jsonb_recv` of PostgreSQL's `jsonb.c`.
pub(super) fn from_binary(bytes: &[u8]) -> Result<Bson, Fault> {
    match bytes {
        [] => Err(super::wire::insufficient()),
        [VERSION, json @ ..] => parse(text::check(json)?),
        [version, ..] => Err(Fault::new(
            "XX000",
            format!("unsupported jsonb version number {version}"),
        )),
    }
}

fn malformed(detail: impl Into<String>) -> Fault {
    Fault::new("22P02", "invalid input syntax for type json").detail(detail)
}

/// What of a text is still to be read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn value(&mut self, depth: usize) -> Result<Bson, Fault> {
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        self.skip_space();
        match self.0.as_bytes().first() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Bson::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Bson, Fault> {
        self.advance(1);
        let mut entries = Vec::new();
        if self.eat('}') {
            return Ok(Bson::Document(Document::new()));
        }
        loop {
            self.skip_space();
            if !self.0.starts_with('"') {
                return Err(self.expected("string"));
            }
            let key = self.string()?;
            if !self.eat(':') {
                return Err(self.expected("\":\""));
            }
            entries.push((key, self.value(depth + 1)?));
            if self.eat('}') {
                break;
            }
            if !self.eat(',') {
                return Err(self.expected("\",\" or \"}\""));
            }
        }
        for (key, _) in &entries {
            check_key(key)?;
        }
        Ok(Bson::Document(normalized(entries).into_iter().collect()))
    }

    fn array(&mut self, depth: usize) -> Result<Bson, Fault> {
        self.advance(1);
        let mut elements = Vec::new();
        if self.eat(']') {
            return Ok(Bson::Array(elements));
        }
        loop {
            elements.push(self.value(depth + 1)?);
            if self.eat(']') {
                return Ok(Bson::Array(elements));
            }
            if !self.eat(',') {
                return Err(self.expected("\",\" or \"]\""));
            }
        }
    }

    fn word(&mut self) -> Result<Bson, Fault> {
        let token = self.token();
        let value = match token {
            "true" => Bson::Boolean(true),
            "false" => Bson::Boolean(false),
            "null" => Bson::Null,
            _ => return Err(self.expected("JSON value")),
        };
        self.advance(token.len());
        Ok(value)
    }

    /// See `json_lex_number` of PostgreSQL's `jsonapi.c`.
    fn number(&mut self) -> Result<Bson, Fault> {
        let bytes = self.0.as_bytes();
        let digits = |from: usize| {
            let after = bytes.get(from..).unwrap_or_default();
            after
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count()
        };
        let start = usize::from(bytes[0] == b'-');
        let whole = digits(start);
        let mut end = start + whole;
        let mut valid = whole == 1 || whole > 1 && bytes[start] != b'0';
        if bytes.get(end) == Some(&b'.') {
            let fraction = digits(end + 1);
            valid &= fraction > 0;
            end += 1 + fraction;
        }
        if let Some(b'e' | b'E') = bytes.get(end) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + sign);
            valid &= exponent > 0;
            end += 1 + sign + exponent;
        }
        // What looks like a part of the number makes it none.
        valid &= !bytes.get(end).is_some_and(|byte| is_word(*byte));
        if !valid {
            return Err(malformed(format!("Token \"{}\" is invalid.", self.token())));
        }
        let number = numeric::parse(&self.0[..end])?;
        self.advance(end);
        Ok(stored(number))
    }

    fn string(&mut self) -> Result<String, Fault> {
        self.advance(1);
        let mut string = String::new();
        loop {
            let plain = self.0.find(|c| matches!(c, '"' | '\\' | '\0'..='\x1f'));
            let (before, _) = self.0.split_at(plain.unwrap_or(self.0.len()));
            string.push_str(before);
            self.advance(before.len());
            match self.0.as_bytes().first() {
                None => return Err(ended()),
                Some(b'"') => {
                    self.advance(1);
                    return Ok(string);
                }
                Some(b'\\') => string.push(self.escape()?),
                Some(control) => {
                    return Err(malformed(format!(
                        "Character with value 0x{control:02x} must be escaped."
                    )));
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        self.advance(1);
        let letter = self.0.chars().next().ok_or_else(ended)?;
        self.advance(letter.len_utf8());
        Ok(match letter {
            '"' | '\\' | '/' => letter,
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => self.unicode()?,
            _ => {
                return Err(malformed(format!(
                    "Escape sequence \"\\{letter}\" is invalid."
                )));
            }
        })
    }

    fn unicode(&mut self) -> Result<char, Fault> {
        let lonely = || malformed("Unicode low surrogate must follow a high surrogate.");
        let code = match self.four_digits()? {
            high @ 0xd800..=0xdbff => {
                let low = match self.0.strip_prefix("\\u") {
                    Some(_) => {
                        self.advance(2);
                        self.four_digits()?
                    }
                    None => return Err(lonely()),
                };
                match low {
                    0xdc00..=0xdfff => 0x10000 + ((high & 0x3ff) << 10 | (low & 0x3ff)),
                    0xd800..=0xdbff => {
                        return Err(malformed(
                            "Unicode high surrogate must not follow a high surrogate.",
                        ));
                    }
                    _ => return Err(lonely()),
                }
            }
            0 => {
                return Err(Fault::new("22P05", "unsupported Unicode escape sequence")
                    .detail("\\u0000 cannot be converted to text."));
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(lonely)
    }

    fn four_digits(&mut self) -> Result<u32, Fault> {
        let digits = self
            .0
            .bytes()
            .take(4)
            .take_while(u8::is_ascii_hexdigit)
            .count();
        if digits < 4 && self.0.len() == digits {
            return Err(ended());
        }
        if digits < 4 {
            return Err(malformed(
                "\"\\u\" must be followed by four hexadecimal digits.",
            ));
        }
        let code = u32::from_str_radix(&self.0[..4], 16).unwrap_or_default();
        self.advance(4);
        Ok(code)
    }

    /// What an error names.
    fn token(&self) -> &'a str {
        let word = self.0.bytes().take_while(|byte| is_word(*byte)).count();
        let first = self.0.chars().next().map_or(0, char::len_utf8);
        &self.0[..word.max(first)]
    }

    fn expected(&mut self, what: &str) -> Fault {
        self.skip_space();
        let token = self.token();
        let is_token = match token.as_bytes().first() {
            None => return ended(),
            Some(b'{' | b'}' | b'[' | b']' | b':' | b',' | b'"' | b'-' | b'0'..=b'9') => true,
            _ => matches!(token, "true" | "false" | "null"),
        };
        if !is_token {
            return malformed(format!("Token \"{token}\" is invalid."));
        }
        malformed(format!("Expected {what}, but found \"{token}\"."))
    }

    fn eat(&mut self, c: char) -> bool {
        self.skip_space();
        let eaten = self.0.starts_with(c);
        self.advance(usize::from(eaten));
        eaten
    }

    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn advance(&mut self, bytes: usize) {
        self.0 = &self.0[bytes..];
    }
}

/// See `JSON_ALPHANUMERIC_CHAR` of PostgreSQL's `jsonapi.c`.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn ended() -> Fault {
    malformed("The input string ended unexpectedly.")
}

/// Fields of such names can be stored, but neither be asked for nor be set.
fn check_key(key: &str) -> Result<(), Fault> {
    if key.is_empty() || key.starts_with('$') || key.contains('.') {
        return Err(Fault::new(
            "0A000",
            format!("the key \"{key}\" cannot be stored in MongoDB"),
        )
        .detail("Keys are not empty, do not begin with \"$\" and have no \".\" in them."));
    }
    Ok(())
}

/// The smallest type that has the number and its scale.
fn stored(number: Numeric) -> Bson {
    let whole = match number.scale() {
        0 => number.whole().and_then(|whole| i64::try_from(whole).ok()),
        _ => None,
    };
    if let Some(whole) = whole {
        return i32::try_from(whole).map_or(Bson::Int64(whole), Bson::Int32);
    }
    let double = Number::Decimal(number).to_double();
    match double {
        Ok(double) if Number::Double(double).to_numeric() == number => Bson::Double(double),
        _ => number.to_bson(),
    }
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, doc};

    use super::*;

    fn shown(text: &str) -> String {
        let document = RawDocumentBuf::try_from(&doc! {"v": parse(text).unwrap()}).unwrap();
        let mut out = Vec::new();
        super::super::json::put(document.get("v").unwrap().unwrap(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn texts_come_back_in_normal_form() {
        for (text, normal) in [
            (
                "{\"b\":1,\"aa\":2,\"a\":{\"z\":null},\"a\":3}",
                "{\"a\": 3, \"b\": 1, \"aa\": 2}",
            ),
            (" [ ] ", "[]"),
            ("{}", "{}"),
            (
                "[1.50,1e2,-0,-0.0,1.0,0.1,1e23]",
                "[1.50, 100, 0, 0.0, 1.0, 0.1, 100000000000000000000000]",
            ),
            (
                "\"\\u00e9\\/\\u001f\\ud83d\\ude00\\n\"",
                "\"é/\\u001f😀\\n\"",
            ),
            ("true", "true"),
        ] {
            assert_eq!(shown(text), normal);
        }
    }

    #[test]
    fn numbers_take_the_smallest_type_that_keeps_them() {
        assert_eq!(parse("-2147483648"), Ok(Bson::Int32(i32::MIN)));
        assert_eq!(parse("1e2"), Ok(Bson::Int32(100)));
        assert_eq!(parse("2147483648"), Ok(Bson::Int64(2_147_483_648)));
        assert_eq!(parse("0.1"), Ok(Bson::Double(0.1)));
        for text in ["1.50", "0.12345678901234567890", "9223372036854775808"] {
            assert_eq!(parse(text), Ok(Bson::Decimal128(text.parse().unwrap())));
        }
        let long = "1.2345678901234567890123456789012345";
        assert_eq!(parse(long).unwrap_err().sqlstate, "22003");
    }

    #[test]
    fn what_cannot_be_stored_is_refused() {
        for (sqlstate, texts) in [
            (
                "22P02",
                &[
                    "",
                    "{",
                    "[1",
                    "[1,]",
                    "{\"a\"}",
                    "{a:1}",
                    "{\"a\":1,}",
                    "01",
                    "1.",
                    "-",
                    "1e",
                    ".5",
                    "1a",
                    "tru",
                    "nulll",
                    "1 2",
                    "\"",
                    "\"\\x\"",
                    "\"\n\"",
                    "\"\\ud800\"",
                    "\"\\udc00\"",
                    "\"\\ud800\\u0041\"",
                    "\"\\u12\"",
                    "'a'",
                ][..],
            ),
            ("22P05", &["\"\\u0000\""]),
            (
                "0A000",
                &["null", "{\"\":1}", "{\"$a\":1}", "[{\"a.b\":1}]"],
            ),
        ] {
            for text in texts {
                assert_eq!(parse(text).unwrap_err().sqlstate, sqlstate, "{text}");
            }
        }
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(parse(&nested(100_000)).unwrap_err().sqlstate, "54001");
    }

    #[test]
    fn binary_forms_begin_with_their_version() {
        assert_eq!(from_binary(b"\x01[1]"), parse("[1]"));
        assert_eq!(
            from_binary(b"\x02[1]").unwrap_err().message,
            "unsupported jsonb version number 2"
        );
        assert_eq!(from_binary(b"").unwrap_err().sqlstate, "08P01");
    }
}
