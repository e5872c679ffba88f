//! What a client proves, and against what: carries the messages between it and the machine in `proto::auth`.

use super::Refused;
use crate::core::{Core, SessionIdentity};
use crate::proofs;
use crate::topology::Topology;
use mothership_pool::wire::Wire;
use mothership_proto::auth::{
    Authenticated, ClientLogin, Credentials, LoginStep, LookedUp, Method, Secret,
};
use mothership_proto::frame::{self, HEADER, Next};
use mothership_proto::report::{Report, sqlstate};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What is known of the user's password, and since when.
pub(super) async fn look_up(
    core: &Core,
    topology: &Topology,
    user: &str,
    method: Method,
) -> Result<(Instant, LookedUp), Refused> {
    let now = Instant::now();
    if let Some(entry) = topology.config.user(user) {
        if let Some(secret) = topology.secrets.get(entry.name.value.as_str()) {
            return Ok((now, LookedUp::Known(secret.clone())));
        }
        if method == Method::Trust {
            return Ok((now, LookedUp::NoPassword));
        }
    }
    if !(topology.config.auth.passthrough && topology.config.has_postgres()) {
        return Ok((now, LookedUp::Unknown));
    }
    let changes = core.shared.role_changes.load(Ordering::Relaxed);
    // Boxed, because it may open a connection, which is large.
    Box::pin(core.control.verifier(topology, user, changes))
        .await
        .map_err(|error| {
            tracing::error!(error = %crate::log::Chain(&error), "could not ask for a verifier");
            Report::fatal(
                sqlstate::CANNOT_CONNECT_NOW,
                "could not look up the password of a user",
            )
            .hint("The router's log has the reason.")
            .into()
        })
}

/// Carries the messages of the proof.
pub(super) async fn prove(
    core: &Core,
    topology: &Topology,
    client: &mut Wire,
    login: &mut ClientLogin,
) -> Result<Authenticated, Refused> {
    let longest = topology.config.limits.login_message.bytes();
    let mut out = Vec::new();
    let mut step = login.start(&mut out).map_err(Refused::Auth)?;
    loop {
        match step {
            LoginStep::Done(authenticated) => {
                client.send(&out);
                return Ok(*authenticated);
            }
            LoginStep::Derive(derivation) => {
                let _check = core.shared.password_checks.enter().await;
                let fallback = derivation.clone();
                let derived = tokio::task::spawn_blocking(move || derivation.run()).await;
                let keys = derived.unwrap_or_else(|_| fallback.run());
                step = login.on_derived(keys, &mut out).map_err(Refused::Auth)?;
            }
            LoginStep::Continue => {
                client.send(&out);
                out.clear();
                step = next_step(client, login, longest, &mut out).await?;
            }
        }
    }
}

async fn next_step(
    client: &mut Wire,
    login: &mut ClientLogin,
    longest: usize,
    out: &mut Vec<u8>,
) -> Result<LoginStep, Refused> {
    loop {
        let limit = login.max_body().min(longest) + HEADER;
        match frame::next(client.input(), limit) {
            Ok(Next::Whole(frame)) => {
                let length = frame.bytes.len();
                let step = login.on_message(frame.tag(), frame.body(), out);
                client.consume(length);
                return step.map_err(Refused::Auth);
            }
            Ok(Next::Partial { tag, .. }) if tag.is_none_or(|tag| tag == b'p') => {
                if client.fill().await? == 0 {
                    return Err(Refused::Gone);
                }
            }
            Ok(Next::Partial { tag, .. }) => {
                let step = login.on_message(tag.unwrap_or(0), b"", out);
                return step.map_err(Refused::Auth);
            }
            Err(_) => {
                let message = "invalid message length";
                return Err(Report::fatal(sqlstate::PROTOCOL_VIOLATION, message).into());
            }
        }
    }
}

/// What the client has proven, if it is passed through to the servers as what it is.
pub(super) fn passed_through(
    topology: &Topology,
    (who, credentials): (&SessionIdentity, Option<&Credentials>),
    against: Option<(Instant, Secret)>,
) -> Option<proofs::Proof> {
    let role = &who.names.server_user;
    // What is in the configuration was proven to the router, not to the servers; and the
    // proof of one role is none of another.
    if who.names.user != *role || topology.password_of(role).is_some() {
        return None;
    }
    let (asked, against) = against?;
    Some(proofs::Proof {
        against,
        asked,
        credentials: credentials?.clone(),
    })
}
