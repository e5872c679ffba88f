//! The secret half of a cancel key. The number beside it says whose it is ([`super::ClientNumber`]).

use mothership_proto::startup::Protocol;
use subtle::ConstantTimeEq;

/// A secret that nobody can guess. The short one needs no allocation: every client has one.
#[derive(Clone)]
pub enum CancelSecret {
    /// Protocol 3.0.
    Short([u8; 4]),
    /// Protocol 3.2, which allows up to 256 bytes.
    Long(Box<[u8; 32]>),
}

impl CancelSecret {
    /// A new one for a client that speaks this protocol.
    pub fn random(protocol: Protocol) -> Self {
        if protocol.has_long_cancel_keys() {
            Self::Long(Box::new(rand::random()))
        } else {
            Self::Short(rand::random())
        }
    }

    /// As the client is told it.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(bytes) => bytes,
            Self::Long(bytes) => &bytes[..],
        }
    }

    /// Whether somebody knows it. The time that this takes does not tell where the two differ.
    pub fn is(&self, tried: &[u8]) -> bool {
        self.bytes().ct_eq(tried).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_bytes_of_a_secret_are_the_secret() {
        for (secret, length) in [
            (CancelSecret::Short(rand::random()), 4),
            (CancelSecret::Long(Box::new(rand::random())), 32),
        ] {
            let mut bytes = secret.bytes().to_vec();
            assert_eq!(bytes.len(), length);
            assert!(secret.is(&bytes));
            assert!(!secret.is(&bytes[1..]) && !secret.is(&[]));
            bytes[length - 1] ^= 1;
            assert!(!secret.is(&bytes));
        }
    }
}
