//! SCRAM-SHA-256: verifiers, messages and proofs, the same for both sides.
//!
//! Pure arithmetic over RFC 5802 and RFC 7677; who sends what when is in `client` and
//! `server`. Messages are parsed where they must be in the RFC's order, by slices of the
//! original text, since the signatures are over that text.
//! See <https://www.postgresql.org/docs/current/sasl-authentication.html>.

use std::{fmt, num::NonZeroU32};

use base64::{Engine, engine::general_purpose::STANDARD};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::keys::{Derivation, Key, Password, ScramKeys, hmac, sha256, xor};

/// The mechanism without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The one kind of channel binding that PostgreSQL knows, as a GS2 header.
pub(crate) const GS2_END_POINT: &str = "p=tls-server-end-point,,";

/// What pg_authid keeps: checks a password without knowing it.
#[derive(Clone)]
pub struct Verifier {
    pub(crate) salt: Vec<u8>,
    pub(crate) iterations: NonZeroU32,
    pub(crate) stored_key: Key,
    pub(crate) server_key: Key,
}

impl Verifier {
    /// Makes the verifier of a password; `None` for an empty one (S20). Costs one PBKDF2: not
    /// for an event loop.
    pub fn from_password(password: &Password, salt: &[u8], iterations: NonZeroU32) -> Option<Self> {
        if password.is_empty() {
            return None;
        }
        Some(Self::from_keys(
            &Derivation::new(password.clone(), salt, iterations).run(),
        ))
    }

    /// The verifier that these keys satisfy.
    pub fn from_keys(keys: &ScramKeys) -> Self {
        Self {
            salt: keys.salt.clone(),
            iterations: keys.iterations,
            stored_key: keys.stored_key(),
            server_key: *keys.server_key,
        }
    }

    /// Reads `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.
    pub fn parse(text: &str) -> Option<Self> {
        let (salted, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = salted.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        Some(Self {
            salt: STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?,
            iterations: iterations.parse().ok()?,
            stored_key: decode_key(stored_key)?,
            server_key: decode_key(server_key)?,
        })
    }

    /// The text that pg_authid keeps and `ALTER ROLE ... PASSWORD` takes. A secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        let encode = |bytes: &[u8]| STANDARD.encode(bytes);
        let (salt, stored, server) = (
            encode(&self.salt),
            encode(&self.stored_key),
            encode(&self.server_key),
        );
        Zeroizing::new(format!(
            "SCRAM-SHA-256${}:{salt}${stored}:{server}",
            self.iterations
        ))
    }

    /// The work of checking a password in clear text against this verifier.
    pub fn derivation(&self, password: Password) -> Derivation {
        Derivation::new(password, self.salt.clone(), self.iterations)
    }

    /// Whether these keys satisfy it, in constant time.
    pub fn accepts(&self, keys: &ScramKeys) -> bool {
        (keys.stored_key().ct_eq(&self.stored_key) & keys.server_key.ct_eq(&self.server_key)).into()
    }

    /// Whether both are the same; the keys are compared in constant time.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let public = self.salt == other.salt && self.iterations == other.iterations;
        let keys =
            self.stored_key.ct_eq(&other.stored_key) & self.server_key.ct_eq(&other.server_key);
        public & bool::from(keys)
    }

    /// Checks a proof and, if it is right, recovers the client's keys from it.
    pub(crate) fn check(&self, proof: &Key, auth_message: &AuthMessage<'_>) -> Option<ScramKeys> {
        let mut client_key = Zeroizing::new(*proof);
        xor(&mut client_key, &auth_message.sign(&self.stored_key));
        let right: bool = sha256(&client_key[..]).ct_eq(&self.stored_key).into();
        right.then(|| ScramKeys {
            salt: self.salt.clone(),
            iterations: self.iterations,
            client_key,
            server_key: Zeroizing::new(self.server_key),
        })
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.stored_key.zeroize();
        self.server_key.zeroize();
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

/// The text that both sides sign.
pub(crate) struct AuthMessage<'a> {
    /// client-first-message-bare.
    pub(crate) client_first: &'a str,
    /// server-first-message.
    pub(crate) server_first: &'a str,
    /// client-final-message-without-proof.
    pub(crate) client_final: &'a str,
}

impl AuthMessage<'_> {
    pub(crate) fn sign(&self, key: &Key) -> Key {
        let [first, answer, last] =
            [self.client_first, self.server_first, self.client_final].map(str::as_bytes);
        hmac(key, &[first, b",", answer, b",", last])
    }

    /// ClientKey XOR ClientSignature.
    pub(crate) fn prove(&self, keys: &ScramKeys) -> Key {
        let mut proof = *keys.client_key;
        xor(&mut proof, &self.sign(&keys.stored_key()));
        proof
    }
}

/// A client-first-message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClientFirst<'a> {
    /// Up to and with the second comma: `n,,`, `y,,` or `p=...,,`.
    pub(crate) gs2: &'a str,
    pub(crate) bare: &'a str,
    pub(crate) nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, Malformed> {
        let header = text.match_indices(',').nth(1).map(|(at, _)| at + 1);
        let (gs2, bare) = text.split_at(header.ok_or(Malformed("channel binding flag"))?);
        match gs2 {
            "n,," | "y,," | GS2_END_POINT => {}
            _ if gs2.starts_with("p=") => return Err(Malformed("channel binding type")),
            _ if gs2.contains(",a=") => return Err(Malformed("authorization identity")),
            _ => return Err(Malformed("channel binding flag")),
        }
        let mut attributes = bare.split(',');
        // The name was given in the StartupMessage; this one is ignored, like PostgreSQL does.
        attribute(attributes.next(), 'n')?;
        let nonce = nonce(attributes.next())?;
        attributes.try_for_each(extension)?;
        Ok(Self { gs2, bare, nonce })
    }
}

/// A client-final-message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClientFinal<'a> {
    pub(crate) binding: &'a str,
    pub(crate) nonce: &'a str,
    pub(crate) without_proof: &'a str,
    pub(crate) proof: Key,
}

impl<'a> ClientFinal<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, Malformed> {
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Malformed("proof"))?;
        let mut attributes = without_proof.split(',');
        let binding = attribute(attributes.next(), 'c')?;
        let nonce = nonce(attributes.next())?;
        attributes.try_for_each(extension)?;
        let proof = decode_key(proof).ok_or(Malformed("proof"))?;
        Ok(Self {
            binding,
            nonce,
            without_proof,
            proof,
        })
    }
}

/// A server-first-message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ServerFirst<'a> {
    pub(crate) nonce: &'a str,
    pub(crate) salt: Vec<u8>,
    pub(crate) iterations: u32,
}

impl<'a> ServerFirst<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, Malformed> {
        let mut attributes = text.split(',');
        let nonce = nonce(attributes.next())?;
        let salt = attribute(attributes.next(), 's')?;
        let salt = STANDARD
            .decode(salt)
            .ok()
            .filter(|salt| !salt.is_empty())
            .ok_or(Malformed("salt"))?;
        let count = attribute(attributes.next(), 'i')?;
        let digits = count.bytes().all(|byte| byte.is_ascii_digit());
        let iterations = count
            .parse()
            .ok()
            .filter(|_| digits)
            .ok_or(Malformed("iteration count"))?;
        attributes.try_for_each(extension)?;
        Ok(Self {
            nonce,
            salt,
            iterations,
        })
    }

    pub(crate) fn write(client_nonce: &str, server_nonce: &str, verifier: &Verifier) -> String {
        let salt = STANDARD.encode(&verifier.salt);
        format!(
            "r={client_nonce}{server_nonce},s={salt},i={}",
            verifier.iterations
        )
    }
}

/// Reads the signature of a server-final-message.
pub(crate) fn parse_server_final(text: &str) -> Result<Key, Malformed> {
    let mut attributes = text.split(',');
    let signature = decode_key(attribute(attributes.next(), 'v')?).ok_or(Malformed("signature"))?;
    attributes.try_for_each(extension)?;
    Ok(signature)
}

/// What the attribute `c` must be: the header of client-first and the hash of the certificate.
pub(crate) fn binding(gs2: &str, certificate_hash: &[u8]) -> String {
    let data = if gs2 == GS2_END_POINT {
        certificate_hash
    } else {
        &[]
    };
    STANDARD.encode([gs2.as_bytes(), data].concat())
}

/// Random bytes as text that may stand in a nonce.
pub(crate) fn nonce_text(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Part of a SCRAM message that is missing or not as the RFC has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed SCRAM message: {0}")]
pub struct Malformed(pub &'static str);

fn attribute(part: Option<&str>, name: char) -> Result<&str, Malformed> {
    let value = part.and_then(|part| part.strip_prefix(name)?.strip_prefix('='));
    value.ok_or(Malformed("attributes"))
}

/// Printable ASCII without commas, and not nothing.
fn nonce(part: Option<&str>) -> Result<&str, Malformed> {
    let nonce = attribute(part, 'r')?;
    let printable = !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic());
    if printable {
        Ok(nonce)
    } else {
        Err(Malformed("nonce"))
    }
}

/// Optional attributes after the known ones are skipped; `m=` would be mandatory and is not among them.
fn extension(part: &str) -> Result<(), Malformed> {
    let named =
        matches!(part.as_bytes(), [name, b'=', ..] if name.is_ascii_alphabetic() && *name != b'm');
    if named {
        Ok(())
    } else {
        Err(Malformed("extension"))
    }
}

fn decode_key(text: &str) -> Option<Key> {
    // A longer text cannot be a key, so it is not decoded at all.
    if text.len() > 44 {
        return None;
    }
    Zeroizing::new(STANDARD.decode(text).ok()?)
        .as_slice()
        .try_into()
        .ok()
}
