//! Who a client is, by its startup packet, its proof and the configuration.

use super::Accepted;
use crate::config::PoolMode;
use crate::core::Topology;
use crate::session::Identity;
use crate::session::settings::{Settings, Value};
use crate::sql::encoding::safe_encoding;
use mothership_proto::auth::{Credentials, Password, Proof};
use mothership_proto::report::Report;
use mothership_proto::startup::Startup;

/// The settings of the startup packet. PostgreSQL cleans application_name instead
/// of refusing it.
pub(super) fn startup_settings(startup: &Startup) -> Result<Settings, Report> {
    let mut settings = Settings::default();
    for (name, value) in &startup.settings {
        let name = name.to_ascii_lowercase();
        if name == "client_encoding" && !safe_encoding(value) {
            return Err(crate::session::step::unsafe_encoding(value));
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

pub(super) fn identity(topology: &Topology, accepted: &Accepted) -> Option<Identity> {
    let Accepted { startup, proof, .. } = accepted;
    let config = &topology.config;
    let database = config.database(&startup.database)?;
    let user = config.user(&startup.user);
    let mode = user
        .and_then(|u| u.pool_mode)
        .or(database.pool_mode)
        .unwrap_or(config.pool.mode);
    let server_user = user
        .and_then(|u| u.server_user.as_ref())
        .map_or(startup.user.clone(), |name| name.as_str().to_owned());
    let configured = user.and_then(|u| u.server_password.as_ref().or(u.password.as_ref()));
    let credentials = match (configured, proof) {
        (Some(password), _) => Credentials::Password(Password::new(password.reveal().as_bytes())),
        (None, Proof::Scram(keys)) => Credentials::Scram(keys.clone()),
        (None, Proof::Password(password)) => Credentials::Password(password.clone()),
        (None, Proof::Trusted | Proof::Md5) => Credentials::None,
    };
    Some(Identity {
        user: startup.user.clone(),
        database: startup.database.clone(),
        server_user,
        credentials,
        session_mode: mode == PoolMode::Session,
        statement_mode: mode == PoolMode::Statement,
    })
}
