//! The password in CREATE and ALTER ROLE, USER and GROUP.
//!
//! A server makes a SCRAM verifier of a plain password with a salt of its own, so
//! that two clusters would have different ones. Here is where the password stands in
//! the text; what is made of it is decided elsewhere.

use std::ops::Range;

use mothership_proto::auth::Verifier;
use zeroize::Zeroizing;

use super::lexer::{Kind, Lexer, Token};
use super::name;

/// What a statement says of a role's password.
#[derive(PartialEq, Eq)]
pub enum RolePassword {
    /// Nothing, or that there is none; or it is hashed already. Any server keeps the same.
    Settled,
    /// A password: its text, and where the constant stands that says it, in bytes.
    Plain(Range<usize>, Zeroizing<Vec<u8>>),
    /// One in a form that is not read here.
    Unclear,
}

impl RolePassword {
    /// Reads one statement. `standard_conforming_strings` is the session's setting.
    pub fn of(sql: &[u8], standard_conforming_strings: bool) -> RolePassword {
        let mut tokens = Lexer::new(sql, standard_conforming_strings);
        let mut word = |wanted: &[&str]| tokens.next().is_some_and(|t| is_word(t, sql, wanted));
        if !word(&["create", "alter"]) || !word(&["role", "user", "group"]) {
            return RolePassword::Settled;
        }
        let mut found = RolePassword::Settled;
        let mut after_password = false;
        for (place, token) in tokens.enumerate() {
            // CREATE USER MAPPING has options of other servers.
            if place == 0 && is_word(token, sql, &["mapping"]) {
                return RolePassword::Settled;
            }
            if after_password && token.kind.is_string() {
                let one = of_constant(token, sql, standard_conforming_strings);
                if one != RolePassword::Settled {
                    // PostgreSQL takes one of them only; which is for it to say.
                    if found != RolePassword::Settled {
                        return RolePassword::Unclear;
                    }
                    found = one;
                }
            }
            after_password = is_word(token, sql, &["password"]);
        }
        found
    }
}

impl std::fmt::Debug for RolePassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RolePassword::Settled => f.write_str("Settled"),
            RolePassword::Plain(place, _) => write!(f, "Plain({place:?}, ..)"),
            RolePassword::Unclear => f.write_str("Unclear"),
        }
    }
}

fn is_word(token: Token, sql: &[u8], wanted: &[&str]) -> bool {
    let text = token.text(sql);
    token.kind == Kind::Word
        && wanted
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word.as_bytes()))
}

fn of_constant(token: Token, sql: &[u8], standard_conforming_strings: bool) -> RolePassword {
    let Some(constant) = name::string(token, sql, standard_conforming_strings) else {
        return RolePassword::Unclear;
    };
    let end = constant.end;
    let password = Zeroizing::new(constant.value.into_owned());
    if password.is_empty() || std::str::from_utf8(&password).is_ok_and(is_hashed) {
        return RolePassword::Settled;
    }
    RolePassword::Plain(token.start..end, password)
}

/// As PostgreSQL's `get_password_type`: an md5 hash has small letters only.
fn is_hashed(password: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
    let md5 = password
        .strip_prefix("md5")
        .is_some_and(|rest| rest.len() == 32 && rest.bytes().all(hex));
    md5 || Verifier::parse(password).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(sql: &str) -> String {
        match RolePassword::of(sql.as_bytes(), true) {
            RolePassword::Plain(place, password) => {
                format!(
                    "{} {}",
                    &sql[place],
                    String::from_utf8(password.to_vec()).unwrap()
                )
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_plain_password_is_found_in_every_form_and_a_hashed_one_is_left_alone() {
        for (sql, expected) in [
            ("CREATE ROLE a PASSWORD 'x'", "'x' x"),
            (
                "create user a with login encrypted password 'it''s' valid until 'infinity'",
                "'it''s' it's",
            ),
            ("ALTER GROUP a PASSWORD E'\\x41\\n'", "E'\\x41\\n' A\n"),
            ("ALTER ROLE a PASSWORD $q$o'k$q$;", "$q$o'k$q$ o'k"),
            (
                "ALTER ROLE a /* PASSWORD 'no' */ PASSWORD\n'yes'",
                "'yes' yes",
            ),
            ("ALTER ROLE a PASSWORD 'on'\n  'e'", "'on'\n  'e' one"),
            ("CREATE ROLE password PASSWORD 'x'", "'x' x"),
            ("CREATE ROLE \"password\" LOGIN", "Settled"),
            ("ALTER ROLE a PASSWORD NULL", "Settled"),
            ("ALTER ROLE a PASSWORD ''", "Settled"),
            (
                "ALTER ROLE a PASSWORD 'md5a3556571e93b0d20722ba62be61e8c2d'",
                "Settled",
            ),
            (
                "ALTER ROLE a PASSWORD 'md5A3556571E93B0D20722BA62BE61E8C2D'",
                "'md5A3556571E93B0D20722BA62BE61E8C2D' md5A3556571E93B0D20722BA62BE61E8C2D",
            ),
            (
                "ALTER ROLE a PASSWORD 'SCRAM-SHA-256$4096:c2FsdA==$nope'",
                "'SCRAM-SHA-256$4096:c2FsdA==$nope' SCRAM-SHA-256$4096:c2FsdA==$nope",
            ),
            ("ALTER ROLE a SET work_mem TO '1'", "Settled"),
            (
                "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'b', password 'c')",
                "Settled",
            ),
            ("COMMENT ON ROLE a IS 'password'", "Settled"),
            ("ALTER ROLE a PASSWORD U&'\\0078'", "U&'\\0078' x"),
            (
                "ALTER ROLE a PASSWORD U&'!0078' UESCAPE '!' LOGIN",
                "U&'!0078' UESCAPE '!' x",
            ),
            ("ALTER ROLE a PASSWORD U&'\\00'", "Unclear"),
            ("ALTER ROLE a PASSWORD 'x' PASSWORD 'y'", "Unclear"),
        ] {
            assert_eq!(shown(sql), expected, "{sql}");
        }
    }

    #[test]
    fn what_is_shown_of_it_does_not_contain_it() {
        let found = RolePassword::of(b"ALTER ROLE a PASSWORD 'sesame'", true);
        assert_eq!(format!("{found:?}"), "Plain(22..30, ..)");
    }
}
