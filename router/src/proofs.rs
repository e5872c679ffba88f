//! The newest proof of each role that is passed through to the servers.
//!
//! A pool logs in with what its first client has proven. When the role's password has
//! changed, the servers do not take that any more, so whoever has proven himself by the
//! new one brings it to all pools of the role. In goes what a login was measured
//! against and when that was asked for; out comes whether the pools must be told.

use mothership_proto::auth::{Credentials, Secret};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

/// What a client has proven.
#[derive(Clone, Debug)]
pub struct Proof {
    /// What the servers keep of the password.
    pub against: Secret,
    /// When they were asked for it: a core may know an older one for `auth.cache`.
    pub asked: Instant,
    /// What proves it to the servers.
    pub credentials: Credentials,
}

/// The newest proofs, by the roles' names.
#[derive(Debug, Default)]
pub struct Proofs {
    known: Mutex<HashMap<String, Proof>>,
}

impl Proofs {
    /// Takes a proof. True if the pools of the role must log in with it from now on: it
    /// is the first one, or the password has changed since. At most `most` roles are kept.
    pub fn renew(&self, role: &str, proof: Proof, most: usize) -> bool {
        let mut known = self.lock();
        if let Some(before) = known.get_mut(role) {
            if before.against.is_same(&proof.against) {
                before.asked = before.asked.max(proof.asked);
                return false;
            }
            if before.asked > proof.asked {
                return false;
            }
        } else if known.len() >= most {
            // Each role's next login tells its pools what they have: that is harmless.
            known.clear();
        }
        known.insert(role.to_owned(), proof);
        true
    }

    /// What proves the role's password to the servers, as far as is known.
    pub fn newest(&self, role: &str) -> Option<Credentials> {
        let known = self.lock();
        known.get(role).map(|proof| proof.credentials.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Proof>> {
        self.known.lock().expect("nobody panics while holding it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mothership_proto::auth::Password;
    use std::time::Duration;

    fn proof(password: &str, asked: Instant) -> Proof {
        Proof {
            against: Secret::parse(password).unwrap(),
            asked,
            credentials: Credentials::Password(Password::new(password)),
        }
    }

    fn newest(proofs: &Proofs, role: &str) -> Option<Vec<u8>> {
        match proofs.newest(role)? {
            Credentials::Password(password) => Some(password.bytes().to_vec()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_changed_password_is_news_and_an_older_one_is_not() {
        let proofs = Proofs::default();
        let begun = Instant::now();
        let later = |seconds| begun + Duration::from_secs(seconds);
        assert!(proofs.renew("a", proof("one", begun), 10));
        assert!(!proofs.renew("a", proof("one", later(1)), 10));
        assert!(proofs.renew("a", proof("two", later(2)), 10));
        // Another core still knew the old one.
        assert!(!proofs.renew("a", proof("one", later(1)), 10));
        assert_eq!(newest(&proofs, "a").unwrap(), b"two");
        assert!(proofs.renew("a", proof("one", later(3)), 10));
        assert_eq!(newest(&proofs, "a").unwrap(), b"one");
        assert_eq!(newest(&proofs, "b"), None);
    }

    #[test]
    fn roles_are_kept_up_to_a_bound() {
        let proofs = Proofs::default();
        for number in 0..30 {
            let role = format!("r{number}");
            assert!(proofs.renew(&role, proof(&role, Instant::now()), 10));
            assert_eq!(newest(&proofs, &role).unwrap(), role.as_bytes());
            assert!(proofs.lock().len() <= 10);
        }
    }
}
