//! From an accepted socket to a logged-in session: first packets, TLS, login, and
//! what a server says at its beginning.
//!
//! The whole login has one deadline. What decides is elsewhere: first packets in
//! `proto::startup`, proofs in `proto::auth`; this file carries their bytes.

mod first_packets;

mod proof;

mod identity;

use crate::config::{AuthMethod, ClientTls};
use crate::console::{self, Door};
use crate::core::goodbye::{finish, say_goodbye};
use crate::core::place::{Counted, OfAll, Place, join_crowds};
use crate::core::{CancelSecret, ClientNumber, Core, Entry, LoginNames, SessionIdentity};
use crate::log::client_text;
use crate::pressure::{Shut, few_descriptors};
use crate::session::{Client, Session};
use crate::topology::Topology;
use mothership_pool::wire::{Address, Wire, common_name};
use mothership_proto::auth::{AuthError, ClientLogin, LookedUp, Method, Nonces, Proof, Secret};
use mothership_proto::report::{Report, sqlstate};
use mothership_proto::startup::{Startup, StartupError};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use first_packets::{cancel_only, deliver_cancel, first_packets};
use identity::{credentials, pool_mode, server_user, startup_settings};
use proof::{look_up, passed_through, prove};

/// Why a login ended.
#[derive(Debug)]
enum Refused {
    /// The client is gone, or was served (a cancel request).
    Gone,
    /// The first packet cannot be understood.
    Startup(StartupError),
    /// The proof failed.
    Auth(AuthError),
    /// Anything else, in the client's words.
    Told(Report),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        tracing::debug!(error = %error, "client left during login");
        Self::Gone
    }
}

impl From<Report> for Refused {
    fn from(report: Report) -> Self {
        Self::Told(report)
    }
}

/// Logins over the unix socket that may be under way beyond `listen.max_logins`: whoever administers the machine gets in
/// while strangers keep all other places.
const LOCAL_LOGINS: u32 = 16;

/// How long a connection in the reserve of descriptors may take to say who it is: it is kept for administrators, and not
/// for who says nothing.
const RESERVE_PATIENCE: Duration = Duration::from_secs(2);

/// How long one that cannot even be asked who it is may take to read that.
const RESERVE_GOODBYE: Duration = Duration::from_millis(200);

/// How long one that came when all places for logins were taken may take to ask for a cancel.
const FULL_PATIENCE: Duration = Duration::from_millis(500);

/// Serves a connection that was just accepted; its session goes on by itself.
pub async fn serve(core: Rc<Core>, client: Wire, shut: Option<Shut>) {
    let shared = Arc::clone(&core.shared);
    if shut == Some(Shut::All) {
        let told = Box::pin(say_goodbye(&shared, client, few_descriptors()));
        // Its descriptor is needed; if it is not told, it is disconnected all the same.
        let _ = tokio::time::timeout(RESERVE_GOODBYE, told).await;
        return;
    }
    let topology = shared.topology();
    let listen = &topology.config.listen;
    let most = match client.peer() {
        Ok(Address::Unix(_)) => listen.max_logins.get().saturating_add(LOCAL_LOGINS),
        _ => listen.max_logins.get(),
    };
    let Some(login) = Counted::try_new(&shared.logins, most) else {
        return Box::pin(turn_away(&core, &topology, client)).await;
    };
    let begun = tokio::time::Instant::now();
    let deadline = begun + listen.login_timeout;
    let patience = match shut {
        Some(_) => deadline.min(begun + RESERVE_PATIENCE),
        None => deadline,
    };
    let mut client = client;
    let first = first_packets(&core, &topology, &mut client);
    match tokio::time::timeout_at(patience, first).await {
        // What follows is large. Who only holds a connection open does not come so far.
        Ok(Ok(startup)) => {
            let shut = shut.is_some();
            let startup = Box::new(startup);
            Box::pin(go_on(
                core, topology, client, startup, shut, deadline, login,
            ))
            .await;
        }
        Ok(Err(refused)) => Box::pin(refuse(&core, &topology, client, refused)).await,
        // PostgreSQL says nothing to a client that does not finish its login.
        Err(_) => {}
    }
}

/// Tells a connection that too many logins are under way, unless it asks for a cancel: PostgreSQL takes that when it is
/// full, too.
async fn turn_away(core: &Core, topology: &Topology, mut client: Wire) {
    let first = cancel_only(&mut client);
    match tokio::time::timeout(FULL_PATIENCE, first).await {
        Ok(Some((pid, secret))) => deliver_cancel(core, topology, &client, pid, &secret).await,
        // It may be a cancel in TLS, or one whose bytes are slow.
        Ok(None) | Err(_) => {
            let report = too_many("logins are under way", "listen.max_logins");
            say_goodbye(&core.shared, client, report).await;
        }
    }
}

/// The login of a client that has said who it is, and what follows.
async fn go_on(
    core: Rc<Core>,
    topology: Arc<Topology>,
    mut client: Wire,
    startup: Box<Startup>,
    shut: bool,
    deadline: tokio::time::Instant,
    under_way: Counted<'_>,
) {
    let login = log_in(&core, &topology, &mut client, *startup, shut);
    match tokio::time::timeout_at(deadline, login).await {
        Ok(Ok(accepted)) => {
            drop(under_way);
            accepted.run(core, topology, client).await;
        }
        Ok(Err(refused)) => refuse(&core, &topology, client, refused).await,
        Err(_) => {}
    }
}

async fn refuse(core: &Core, topology: &Topology, mut client: Wire, refused: Refused) {
    match refused {
        Refused::Gone => {}
        Refused::Startup(error) => {
            client.with_output(|out| error.put(out));
            finish(client).await;
        }
        Refused::Auth(error) => {
            let most = topology.config.limits.log_text.get() as usize;
            let told = error.to_string();
            let reason = match &error {
                AuthError::Failed { reason, .. } => Some(reason.to_string()),
                _ => None,
            };
            tracing::info!(error = %client_text(&told, most), reason, "login failed");
            pause_after(core, topology, &client, &error).await;
            client.with_output(|out| error.put(out));
            finish(client).await;
        }
        Refused::Told(report) => say_goodbye(&core.shared, client, report).await,
    }
}

/// Makes whoever guesses passwords wait, each time longer. An unknown user waits like
/// a known one. The connection keeps its place in `listen.max_logins` meanwhile.
async fn pause_after(core: &Core, topology: &Topology, client: &Wire, error: &AuthError) {
    let AuthError::Failed { user, .. } = error else {
        return;
    };
    let limits = &topology.config.limits;
    let pause = core.shared.wrong_passwords.failed(
        client.peer().ok().as_ref().and_then(ip),
        user,
        limits.wrong_passwords.get(),
        limits.wrong_password_pause,
    );
    tokio::time::sleep(pause).await;
}

/// The address without its port; none on the unix socket.
fn ip(address: &Address) -> Option<std::net::IpAddr> {
    match address {
        Address::Tcp(address) => Some(address.ip()),
        Address::Unix(_) => None,
    }
}

fn disabled(database: &str) -> Report {
    let message = format!("database \"{database}\" is not currently accepting connections");
    // As for datallowconn.
    Report::fatal(sqlstate::NOT_IN_PREREQUISITE_STATE, message)
        .detail("It was disabled in the console.")
}

fn too_many(what: &str, setting: &str) -> Report {
    Report::fatal(
        sqlstate::TOO_MANY_CONNECTIONS,
        format!("sorry, too many {what} already"),
    )
    .hint(format!("The setting is {setting}."))
}

/// A client whose proof was accepted.
struct Accepted {
    startup: Startup,
    proof: Proof,
    /// The client's end.
    remote: Address,
    /// What the proof was measured against, and when it was looked up.
    against: Option<(Instant, Secret)>,
    /// Let into the console by the operating system's word.
    is_peer: bool,
}

async fn log_in(
    core: &Core,
    topology: &Topology,
    client: &mut Wire,
    startup: Startup,
    shut: bool,
) -> Result<Accepted, Refused> {
    if !console::is_console(&topology.config.console, &startup.database) {
        // Before anything is spent on them.
        if shut {
            return Err(few_descriptors().into());
        }
        if let Some(report) = core.shared.pressure.refuses_clients() {
            return Err(report.into());
        }
    }
    let mut out = Vec::new();
    startup.put_negotiation(&mut out);
    client.send(&out);
    let remote = client.peer()?;
    let peer = ip(&remote);
    let encrypted = client.tls().is_some();
    let config = &topology.config;
    let must_encrypt = !matches!(config.tls.mode, ClientTls::Disable | ClientTls::Allow);
    if must_encrypt && !encrypted && peer.is_some() {
        let message = "connection is not encrypted, but the router requires TLS";
        return Err(Report::fatal(sqlstate::INVALID_AUTHORIZATION, message).into());
    }
    if config.tls.mode == ClientTls::VerifyFull && peer.is_some() {
        own_certificate(client, &startup.user)?;
    }
    let method = match config
        .auth
        .method(peer, encrypted, &startup.user, &startup.database)
    {
        AuthMethod::Trust => Method::Trust,
        AuthMethod::Password => Method::Password,
        AuthMethod::Md5 => Method::Md5,
        AuthMethod::ScramSha256 => Method::Scram,
        AuthMethod::Reject => Method::Reject,
    };
    let is_peer = console::is_peer(&config.console, client, &startup);
    let (method, (asked, secret)) = if is_peer {
        (Method::Trust, (Instant::now(), LookedUp::NoPassword))
    } else {
        let secret = look_up(core, topology, &startup.user, method).await?;
        (method, secret)
    };
    let against = match &secret {
        LookedUp::Known(secret) => Some((asked, secret.clone())),
        _ => None,
    };
    let stand_in = &core.shared.stand_in;
    let mut login = ClientLogin::new(&startup.user, method, secret, stand_in, &Nonces::fresh());
    let offer = topology.tls.as_ref().filter(|_| encrypted);
    if let Some(hash) = offer.and_then(|offer| offer.certificate_hash.as_deref()) {
        login = login.with_certificate_hash(hash);
    }
    let proved = prove(core, topology, client, &mut login).await?;
    if !matches!(proved.proof, Proof::Trusted) {
        core.shared.wrong_passwords.succeeded(peer, &startup.user);
    }
    Ok(Accepted {
        startup,
        proof: proved.proof,
        remote,
        against,
        is_peer,
    })
}

/// Whether the client's certificate is that of the user whom it names, byte for byte, as PostgreSQL's
/// `clientcert=verify-full` without a map has it. The console's users are no exception.
fn own_certificate(client: &Wire, user: &str) -> Result<(), Report> {
    let tls = client.tls();
    let certificate = tls.as_ref().and_then(|tls| tls.peer_certificate.as_ref());
    let name = match certificate {
        Some(certificate) => common_name(certificate).map_err(|nameless| nameless.to_string()),
        None => Err("there is no certificate".to_owned()),
    };
    let why = match name {
        Ok(name) if name == user.as_bytes() => return Ok(()),
        Ok(name) => format!("it names \"{}\"", String::from_utf8_lossy(name)),
        Err(why) => why,
    };
    tracing::info!(user, why, "a client's certificate is not the user's");
    let message = format!("certificate authentication failed for user \"{user}\"");
    Err(Report::fatal(sqlstate::INVALID_AUTHORIZATION, message))
}

impl Accepted {
    /// Turns the client into a session, which serves it from then on.
    async fn run(self, core: Rc<Core>, topology: Arc<Topology>, client: Wire) {
        match console::door(&topology.config.console, &self.startup, self.is_peer) {
            Door::Elsewhere => {}
            Door::Open(role) => {
                return Box::pin(console::serve(core, client, &self.startup, role)).await;
            }
            Door::Closed(report) => return say_goodbye(&core.shared, client, report).await,
        }
        if !core.life.get().lets_in() {
            let message = "the database system is shutting down";
            let report = Report::fatal(sqlstate::CANNOT_CONNECT_NOW, message);
            return say_goodbye(&core.shared, client, report).await;
        }
        let shared = Arc::clone(&core.shared);
        if shared
            .gates
            .read()
            .disabled
            .contains(&self.startup.database)
        {
            return say_goodbye(&shared, client, disabled(&self.startup.database)).await;
        }
        let most = topology.config.listen.max_clients.get();
        let Some(of_all) = OfAll::try_new(&shared, most) else {
            return say_goodbye(&shared, client, too_many("clients", "listen.max_clients")).await;
        };
        let crowds = match join_crowds(&core, &topology, &self.startup) {
            Ok(crowds) => crowds,
            Err(report) => return say_goodbye(&shared, client, report).await,
        };
        let protocol = self.startup.protocol();
        let limits = &topology.config.limits;
        let settings = match startup_settings(&self.startup).and_then(|settings| {
            crate::session::room::check_settings(&settings, limits)?;
            Ok(settings)
        }) {
            Ok(settings) => settings,
            Err(report) => return say_goodbye(&shared, client, report).await,
        };
        let Some(pool_mode) = pool_mode(&topology, &self.startup) else {
            let message = format!("database \"{}\" does not exist", self.startup.database);
            return say_goodbye(
                &shared,
                client,
                Report::fatal(sqlstate::INVALID_CATALOG_NAME, message),
            )
            .await;
        };
        let credentials = credentials(&topology, &self);
        let who = SessionIdentity {
            number: shared.session_number(),
            names: core.login_names.share(LoginNames {
                user: Arc::clone(&crowds.user),
                server_user: server_user(&topology, &crowds.user),
                database: Arc::clone(&crowds.database),
            }),
            remote: Some(self.remote),
            local: client
                .local()
                .ok()
                .map(|local| core.local_addresses.share(local)),
            tls: client
                .tls()
                .map(|tls| format!("{}/{}", tls.version, tls.cipher).into()),
            since: std::time::Instant::now(),
            is_console: false,
        };
        let proven = (&who, credentials.as_deref());
        if let Some(proof) = passed_through(&topology, proven, self.against) {
            core.renew_proof(&topology, &who.names.server_user, proof);
        }
        let entry = Entry::new(CancelSecret::random(protocol), who);
        let Some(place) = Place::take(&core, &entry) else {
            return say_goodbye(&shared, client, too_many("clients", "listen.max_clients")).await;
        };
        let number = ClientNumber {
            process: shared.other_process.process,
            core: core.index,
            slot: place.slot,
        };
        entry.process.set(number.encode());
        let known = Client {
            wire: client,
            entry,
            credentials,
            pool_mode,
            settings,
        };
        let session = Box::new(Session::new(core, topology, known));
        // What the client takes up while it is served, given back in this order.
        let seat = (place, crowds, of_all);
        if let Some(session) = session.welcome(protocol, number).await {
            // A task of its own: that of the login is large, and clients stay.
            tokio::task::spawn_local(async move {
                session.run().await;
                drop(seat);
            });
        }
    }
}
