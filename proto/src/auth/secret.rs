//! What is known about a user who wants to log in.
//!
//! Where it comes from (a users section, a server's pg_authid) is not known here.

use std::num::NonZeroU32;

use zeroize::Zeroizing;

use super::{
    keys::{Derivation, Key, Password, hmac},
    md5::Md5Hash,
    scram::Verifier,
};

/// The iteration count of PostgreSQL's own verifiers.
pub const DEFAULT_ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("4096 is not zero");

/// The result of looking a user up.
#[derive(Clone, Debug)]
pub enum LookedUp {
    /// The user exists and has this secret.
    Known(Secret),
    /// The user exists without a password: only `trust` lets him in.
    NoPassword,
    /// The user's password is no longer valid (`VALID UNTIL`): only `trust` lets him in (S5).
    Expired,
    /// Nobody of this name: nothing lets him in, not even `trust` (S3).
    Unknown,
}

/// A user's secret as we have it.
#[derive(Clone, Debug)]
pub enum Secret {
    /// The password itself.
    Plain {
        /// It.
        password: Password,
        /// Made of it beforehand by [`Secret::prepared`], so that a SCRAM login needs no PBKDF2.
        /// Without it such a login is slower than that of a user who does not exist.
        verifier: Option<Verifier>,
    },
    /// `md5...` of pg_authid.
    Md5(Md5Hash),
    /// `SCRAM-SHA-256$...` of pg_authid.
    Scram(Verifier),
}

impl Secret {
    /// Reads a password as `CREATE ROLE ... PASSWORD` reads it: a SCRAM verifier or md5 hash
    /// if it has their form, else a password. `None` for an empty one (S20).
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let hash = Verifier::parse(text)
            .map(Self::Scram)
            .or_else(|| Md5Hash::parse(text).map(Self::Md5));
        Some(hash.unwrap_or_else(|| Self::Plain {
            password: Password::new(text),
            verifier: None,
        }))
    }

    /// The same secret with its verifier, for a plain password; to be made once, where the
    /// configuration is read. Costs one PBKDF2.
    pub fn prepared(self, user: &str, stand_in: &StandIn) -> Self {
        match self {
            Self::Plain {
                password,
                verifier: None,
            } => {
                let keys = stand_in.derivation(user, password.clone()).run();
                Self::Plain {
                    password,
                    verifier: Some(Verifier::from_keys(&keys)),
                }
            }
            other => other,
        }
    }

    /// Whether both are the same in the same form. A password and its hash are not.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Plain { password, .. },
                Self::Plain {
                    password: known, ..
                },
            ) => password.matches(known),
            (Self::Md5(hash), Self::Md5(known)) => hash.matches(known),
            (Self::Scram(verifier), Self::Scram(known)) => verifier.is_same(known),
            _ => false,
        }
    }

    /// Which of the three it is.
    pub fn kind(&self) -> SecretKind {
        match self {
            Self::Plain { .. } => SecretKind::Plain,
            Self::Md5(_) => SecretKind::Md5,
            Self::Scram(_) => SecretKind::Scram,
        }
    }
}

/// The three forms of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKind {
    /// A password in clear text.
    Plain,
    /// An md5 hash.
    Md5,
    /// A SCRAM verifier.
    Scram,
}

/// How a user looks who does not exist or has no usable secret: like one who does (S11).
///
/// His salt depends on his name and on a secret of this process, so that it is the same at
/// every try and tells nothing; like PostgreSQL's mock authentication nonce.
#[derive(Clone)]
pub struct StandIn {
    secret: Zeroizing<Key>,
    iterations: NonZeroU32,
    kind: SecretKind,
}

impl StandIn {
    /// `secret` is random and lives as long as the process, longer if the salts of prepared
    /// plain passwords shall survive a restart; `kind` and `iterations` are those that most
    /// users of this router have.
    pub fn new(secret: Key, iterations: NonZeroU32, kind: SecretKind) -> Self {
        Self {
            secret: Zeroizing::new(secret),
            iterations,
            kind,
        }
    }

    /// What he seems to have.
    pub fn kind(&self) -> SecretKind {
        self.kind
    }

    /// The derivation of a password with the salt that this user's name gets.
    pub fn derivation(&self, user: &str, password: Password) -> Derivation {
        Derivation::new(password, &self.bytes("salt", user)[..16], self.iterations)
    }

    /// A verifier that no password fits.
    pub(crate) fn verifier(&self, user: &str) -> Verifier {
        Verifier {
            salt: self.bytes("salt", user)[..16].to_vec(),
            iterations: self.iterations,
            stored_key: self.bytes("stored", user),
            server_key: self.bytes("server", user),
        }
    }

    /// A hash that no password fits.
    pub(crate) fn md5(&self, user: &str) -> Md5Hash {
        Md5Hash::from_password(&Password::new(self.bytes("md5", user)), user)
    }

    /// A password that nobody will send.
    pub(crate) fn password(&self, user: &str) -> Password {
        Password::new(self.bytes("password", user))
    }

    fn bytes(&self, purpose: &str, user: &str) -> Key {
        hmac(
            &self.secret[..],
            &[purpose.as_bytes(), &[0], user.as_bytes()],
        )
    }
}

impl std::fmt::Debug for StandIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StandIn")
            .field("iterations", &self.iterations)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}
