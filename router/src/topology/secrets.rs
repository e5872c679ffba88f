//! What the logins of configured users are measured against.

use crate::config::User;
use mothership_proto::auth::{Password, Secret, StandIn};

/// Secrets that logins are measured against, derived once.
pub fn prepare_secret(user: &User, stand_in: &StandIn) -> Option<Secret> {
    let name = user.name.value.as_str();
    if let Some(verifier) = &user.verifier {
        return Secret::parse(verifier.reveal());
    }
    let password = user.password.as_ref()?;
    let secret = Secret::Plain {
        password: Password::new(password.reveal().as_bytes()),
        verifier: None,
    };
    Some(secret.prepared(name, stand_in))
}
