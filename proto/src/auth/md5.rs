//! PostgreSQL's two md5 hashes: the one that is stored and the one that is sent.
//!
//! Offered because old clusters still have them, and no safer for being here.

use std::fmt;

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::keys::Password;

/// `md5` and 32 hex digits, as pg_authid keeps it: md5 of password and user name.
///
/// Whoever has it can log in with it, so it is a secret.
#[derive(Clone)]
pub struct Md5Hash(Zeroizing<String>);

impl Md5Hash {
    /// Hashes a password for a user.
    pub fn from_password(password: &Password, user: &str) -> Self {
        Self(tagged_hex(&[password.bytes(), user.as_bytes()]))
    }

    /// Reads what pg_authid has.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("md5")?;
        let is_hash = hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| Self(Zeroizing::new(format!("md5{}", hex.to_ascii_lowercase()))))
    }

    /// What is sent in answer to a server's salt.
    pub fn answer(&self, salt: [u8; 4]) -> Zeroizing<String> {
        tagged_hex(&[&self.0.as_bytes()[3..], &salt])
    }

    /// Whether both are the same, in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }

    /// Whether this is the hash of no password at all, which never logs anybody in (S20).
    pub fn is_of_empty_password(&self, user: &str) -> bool {
        self.matches(&Self::from_password(&Password::new(""), user))
    }
}

impl fmt::Debug for Md5Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Hash(..)")
    }
}

fn tagged_hex(parts: &[&[u8]]) -> Zeroizing<String> {
    let mut hash = Md5::new();
    parts.iter().for_each(|part| hash.update(part));
    let mut text = Zeroizing::new(String::with_capacity(35));
    text.push_str("md5");
    for byte in hash.finalize() {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text
}
