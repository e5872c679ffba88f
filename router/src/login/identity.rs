//! Who a client is and how it is served, by its startup packet, its proof and the configuration.

use super::Accepted;
use crate::config::PoolMode;
use crate::statements::settings::{Settings, Value};
use crate::topology::Topology;
use mothership_proto::auth::{Credentials, Password, Proof};
use mothership_proto::report::Report;
use mothership_proto::startup::Startup;
use std::sync::Arc;

/// The settings of the startup packet. PostgreSQL cleans application_name instead
/// of refusing it.
pub(super) fn startup_settings(startup: &Startup) -> Result<Settings, Report> {
    let mut settings = Settings::default();
    for (name, value) in &startup.settings {
        let name = name.to_ascii_lowercase();
        // To a server the login says it once more, and that is what counts.
        if name == "session_authorization" {
            continue;
        }
        if let Some(report) = crate::statements::step::refusal(&name, value) {
            return Err(report);
        }
        let value = match name.as_str() {
            "application_name" => clean(value),
            _ => value.clone(),
        };
        settings.set(&name, Value::Text(value));
    }
    Ok(settings)
}

fn clean(name: &str) -> String {
    let ascii = name.bytes().map(|b| {
        if (32..=126).contains(&b) {
            char::from(b)
        } else {
            '?'
        }
    });
    ascii.take(mothership_proto::startup::MAX_NAME).collect()
}

/// Its role on the servers. `user` is the name that it shares with others of the same.
pub(super) fn server_user(topology: &Topology, user: &Arc<str>) -> Arc<str> {
    let configured = topology.config.user(user);
    match configured.and_then(|configured| configured.server_user.as_ref()) {
        Some(role) => role.as_str().into(),
        None => Arc::clone(user),
    }
}

/// When its sessions give their servers back. None if there is no such database.
pub(super) fn pool_mode(topology: &Topology, startup: &Startup) -> Option<PoolMode> {
    let config = &topology.config;
    let database = config.database(&startup.database)?;
    let of_user = config.user(&startup.user).and_then(|user| user.pool_mode);
    Some(of_user.or(database.pool_mode).unwrap_or(config.pool.mode))
}

/// What opens connections on its behalf; none if the servers must trust us.
pub(super) fn credentials(topology: &Topology, accepted: &Accepted) -> Option<Box<Credentials>> {
    let Accepted { startup, proof, .. } = accepted;
    let user = topology.config.user(&startup.user);
    let configured = user.and_then(|u| u.server_password.as_ref().or(u.password.as_ref()));
    let credentials = match (configured, proof) {
        (Some(password), _) => {
            let password = Password::new(password.reveal().as_bytes());
            Some(Credentials::Password(password))
        }
        (None, Proof::Scram(keys)) => Some(Credentials::Scram(keys.clone())),
        (None, Proof::Password(password)) => Some(Credentials::Password(password.clone())),
        (None, Proof::Trusted | Proof::Md5) => None,
    };
    credentials.map(Box::new)
}
