//! The client's part of SCRAM-SHA-256, whatever protocol carries its messages: PostgreSQL's and MongoDB's do.
//!
//! ```text
//! Opened ── client-first ── server-first ── Challenged ── [Derivation] ── client-final ── Answered ── server-final ─► ()
//! ```
//!
//! See RFC 5802, section 5. The server may be hostile: what it sends has a cap, and it must prove that it knows the
//! verifier.

use std::num::NonZeroU32;

use subtle::ConstantTimeEq;

use super::{
    keys::{Derivation, Key, Password, ScramKeys},
    scram::{AuthMessage, Malformed, ServerFirst, binding, nonce_text, parse_server_final},
};

/// Bytes of a SCRAM message of the server, at most. PostgreSQL's have about 100.
pub const MAX_SCRAM_MESSAGE: usize = 4_096;
/// PBKDF2 iterations that we are willing to pay for, unless a setting says otherwise.
pub const DEFAULT_MAX_ITERATIONS: u32 = 1_000_000;
/// The GS2 header of a client without channel binding.
pub const GS2_NONE: &str = "n,,";

/// Why an exchange ends before its end. Close the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// A message that is not one.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The server's nonce does not begin with ours, or adds nothing.
    #[error("server sent a wrong SCRAM nonce")]
    Nonce,
    /// None, or more than we are willing to pay for.
    #[error("server asks for {asked} SCRAM iterations; allowed are 1 to {most}")]
    Iterations {
        /// Its count.
        asked: u32,
        /// The most that is allowed.
        most: u32,
    },
    /// The server does not know the verifier: it is not the server it claims to be.
    #[error("server could not prove that it knows the password")]
    Signature,
}

/// It has begun: the first message may be sent.
#[derive(Debug)]
pub struct Opened {
    gs2: &'static str,
    bare: String,
    nonce: String,
}

impl Opened {
    /// An exchange as this user; where the protocol has told the name elsewhere, it is empty. The nonce is random and
    /// never used again.
    pub fn new(gs2: &'static str, user: &str, nonce: [u8; 18]) -> Opened {
        let nonce = nonce_text(&nonce);
        let user = user.replace('=', "=3D").replace(',', "=2C");
        Opened {
            gs2,
            bare: format!("n={user},r={nonce}"),
            nonce,
        }
    }

    /// client-first-message.
    pub fn message(&self) -> String {
        format!("{}{}", self.gs2, self.bare)
    }

    /// Takes server-first-message.
    ///
    /// # Errors
    /// It is malformed, its nonce is wrong, or its count of iterations is 0 or above `most_iterations`.
    pub fn challenged(
        self,
        message: &[u8],
        most_iterations: u32,
    ) -> Result<Challenged, ExchangeError> {
        let message = text(message)?;
        let first = ServerFirst::parse(message)?;
        if first.nonce.len() <= self.nonce.len() || !first.nonce.starts_with(&self.nonce) {
            return Err(ExchangeError::Nonce);
        }
        let iterations = NonZeroU32::new(first.iterations)
            .filter(|count| count.get() <= most_iterations)
            .ok_or(ExchangeError::Iterations {
                asked: first.iterations,
                most: most_iterations,
            })?;
        Ok(Challenged {
            server_nonce: first.nonce.to_owned(),
            salt: first.salt,
            iterations,
            server_first: message.to_owned(),
            opened: self,
        })
    }
}

/// The server has said for which salt and count it wants a proof.
#[derive(Debug)]
pub struct Challenged {
    opened: Opened,
    server_first: String,
    server_nonce: String,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

impl Challenged {
    /// The work of making the proof's keys of a password.
    pub fn derivation(&self, password: &Password) -> Derivation {
        Derivation::new(password.clone(), self.salt.clone(), self.iterations)
    }

    /// Whether keys are of the salt and count that the server wants.
    pub fn fits(&self, keys: &ScramKeys) -> bool {
        keys.salt == self.salt && keys.iterations == self.iterations
    }

    /// client-final-message. The hash is that of the server's certificate, if the exchange is bound to it, or empty.
    /// The server refuses the proof if the keys were derived with another salt or count.
    pub fn prove(self, keys: &ScramKeys, certificate_hash: &[u8]) -> (String, Answered) {
        let Opened { gs2, bare, .. } = &self.opened;
        let without_proof = format!(
            "c={},r={}",
            binding(gs2, certificate_hash),
            self.server_nonce
        );
        let signed = AuthMessage {
            client_first: bare,
            server_first: &self.server_first,
            client_final: &without_proof,
        };
        let proof = nonce_text(&signed.prove(keys));
        let answered = Answered {
            signature: signed.sign(&keys.server_key),
        };
        (format!("{without_proof},p={proof}"), answered)
    }
}

/// The proof is sent.
#[derive(Debug)]
pub struct Answered {
    signature: Key,
}

impl Answered {
    /// Checks server-final-message, by which the server proves that it knows the verifier.
    ///
    /// # Errors
    /// It does not, or this is no such message.
    pub fn check(&self, message: &[u8]) -> Result<(), ExchangeError> {
        let theirs = parse_server_final(text(message)?)?;
        match bool::from(theirs.ct_eq(&self.signature)) {
            true => Ok(()),
            false => Err(ExchangeError::Signature),
        }
    }
}

fn text(message: &[u8]) -> Result<&str, Malformed> {
    if message.len() > MAX_SCRAM_MESSAGE {
        return Err(Malformed("length"));
    }
    std::str::from_utf8(message).map_err(|_| Malformed("encoding"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7677_is_what_comes_out() {
        let nonce = "rOprNGfwEbeRWgbNEkqO";
        let opened = Opened {
            gs2: GS2_NONE,
            bare: format!("n=user,r={nonce}"),
            nonce: nonce.to_owned(),
        };
        assert_eq!(opened.message(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let first = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let challenged = opened.challenged(first, 4_096).expect("it is a challenge");
        let keys = challenged.derivation(&Password::new("pencil")).run();
        assert!(challenged.fits(&keys));
        let (last, answered) = challenged.prove(&keys, &[]);
        assert_eq!(
            last,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        let word = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(answered.check(word), Ok(()));
        let other = b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(answered.check(other), Err(ExchangeError::Signature));
    }

    #[test]
    fn a_name_may_have_the_signs_that_part_attributes() {
        let opened = Opened::new(GS2_NONE, "a=b,c", [2; 18]);
        assert!(opened.message().starts_with("n,,n=a=3Db=2Cc,r="));
    }
}
