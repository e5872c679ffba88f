//! Passwords, the keys that PBKDF2 makes of them, and a cache for those keys.
//!
//! `SaltedPassword` itself never leaves [`Derivation::run`]: the client key and the
//! server key that follow from it are all that either side of SCRAM needs.
//! See RFC 5802, section 3. Written here rather than taken from pgwire, whose SCRAM
//! server gives out no client key and brings rustls, ring and x509 parsing with it, or
//! from postgres-protocol, whose SCRAM client derives on the spot and only from a password.

use std::{fmt, num::NonZeroU32};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A SHA-256 sized key or signature.
pub type Key = [u8; 32];

/// A password in clear text. It need not be UTF-8.
#[derive(Clone)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// Takes the bytes as they are, without a final NUL.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes. Whoever copies them must zero the copy.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// An empty password never logs anybody in (S20).
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both are the same. Hashes are compared, so that not even the length of a wrong
    /// guess shows in the time.
    pub fn matches(&self, other: &Self) -> bool {
        sha256(&self.0).ct_eq(&sha256(&other.0)).into()
    }

    /// As PostgreSQL prepares passwords for SCRAM: SASLprep where it applies, else the bytes as they are.
    fn prepared(&self) -> Zeroizing<Vec<u8>> {
        let text = std::str::from_utf8(&self.0).ok();
        match text.and_then(|text| stringprep::saslprep(text).ok()) {
            // A password of which nothing is left is not emptied either.
            Some(prepared) if !prepared.is_empty() => {
                Zeroizing::new(prepared.into_owned().into_bytes())
            }
            _ => self.0.clone(),
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// PBKDF2 that somebody has to run: some milliseconds at PostgreSQL's 4,096 iterations.
#[derive(Clone)]
pub struct Derivation {
    password: Password,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

impl Derivation {
    /// The work of turning `password` into keys for this salt and count.
    pub fn new(password: Password, salt: impl Into<Vec<u8>>, iterations: NonZeroU32) -> Self {
        Self {
            password,
            salt: salt.into(),
            iterations,
        }
    }

    /// Does the work. Not for an event loop.
    pub fn run(&self) -> ScramKeys {
        let salted = salted_password(&self.password.prepared(), &self.salt, self.iterations);
        ScramKeys {
            salt: self.salt.clone(),
            iterations: self.iterations,
            client_key: Zeroizing::new(hmac(&salted[..], &[b"Client Key"])),
            server_key: Zeroizing::new(hmac(&salted[..], &[b"Server Key"])),
        }
    }

    /// How often the hash is repeated: the cost.
    pub fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }

    fn is_same(&self, other: &Self) -> bool {
        self.salt == other.salt
            && self.iterations == other.iterations
            && self.password.matches(&other.password)
    }
}

impl fmt::Debug for Derivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Derivation")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

/// What proves a password to whoever has the verifier of the same salt and count.
///
/// Either derived from a password, or recovered from a client that logged in with SCRAM: then
/// it logs in to every server whose verifier is byte for byte the same.
#[derive(Clone)]
pub struct ScramKeys {
    pub(crate) salt: Vec<u8>,
    pub(crate) iterations: NonZeroU32,
    pub(crate) client_key: Zeroizing<Key>,
    pub(crate) server_key: Zeroizing<Key>,
}

impl ScramKeys {
    /// The salt for which the keys hold.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The count for which the keys hold.
    pub fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }

    /// H(ClientKey), which a server keeps.
    pub(crate) fn stored_key(&self) -> Key {
        sha256(&self.client_key[..])
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramKeys")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

/// Remembers the keys of the last few derivations, so that many connections of a pool derive once.
///
/// An entry is found by password, salt and count together: a changed password or a changed
/// verifier finds nothing, and nobody's keys are found with another's password.
#[derive(Debug)]
pub struct KeyCache {
    capacity: usize,
    // In the order of their last use, latest last.
    entries: Vec<(Derivation, ScramKeys)>,
}

impl KeyCache {
    /// Keeps at most `capacity` entries of about 300 bytes each.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            entries: Vec::new(),
        }
    }

    /// The keys of an earlier run of the same derivation.
    pub fn get(&mut self, derivation: &Derivation) -> Option<ScramKeys> {
        let found = self
            .entries
            .iter()
            .position(|(known, _)| known.is_same(derivation))?;
        let entry = self.entries.remove(found);
        let keys = entry.1.clone();
        self.entries.push(entry);
        Some(keys)
    }

    /// Keeps the result of a derivation, and forgets the one that was used the longest ago if there are too many.
    ///
    /// Keep only what a server or a verifier has confirmed: an attacker's guesses would drive out the rest.
    pub fn insert(&mut self, derivation: Derivation, keys: ScramKeys) {
        self.entries
            .retain(|(known, _)| !known.is_same(&derivation));
        self.entries.push((derivation, keys));
        if self.entries.len() > self.capacity {
            self.entries.remove(0);
        }
    }
}

/// PBKDF2-HMAC-SHA-256 of one block.
fn salted_password(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Zeroizing<Key> {
    let keyed = keyed(password);
    let mut first = keyed.clone();
    first.update(salt);
    first.update(&[0, 0, 0, 1]);
    let mut previous: Key = first.finalize().into_bytes().into();
    let mut sum = Zeroizing::new(previous);
    for _ in 1..iterations.get() {
        let mut next = keyed.clone();
        next.update(&previous);
        previous = next.finalize().into_bytes().into();
        xor(&mut sum, &previous);
    }
    sum
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// HMAC-SHA-256 of the parts one after the other.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = keyed(key);
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

pub(crate) fn sha256(bytes: &[u8]) -> Key {
    Sha256::digest(bytes).into()
}

pub(crate) fn xor(into: &mut Key, with: &Key) {
    into.iter_mut()
        .zip(with)
        .for_each(|(byte, other)| *byte ^= other);
}
