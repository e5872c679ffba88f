//! From an accepted socket to a logged-in session: first packets, TLS, login, and
//! what a server says at its beginning.
//!
//! The whole login has one deadline. What decides is elsewhere: first packets in
//! `proto::startup`, proofs in `proto::auth`; this file carries their bytes.

use super::settings::{SessionSettings, Settings, Value};
use super::state::State;
use super::{Halt, Identity, Session};
use crate::config::{AuthMethod, ClientTls, PoolMode};
use crate::console::{self, Door};
use crate::core::{ClientNumber, Core, Entry, Life, Mail, Topology, Who};
use crate::sql::encoding::safe_encoding;
use mothership_pool::wire::{Address, Wire};
use mothership_proto::auth::{
    AuthError, Authenticated, ClientLogin, Credentials, LoginStep, LookedUp, Method, Nonces,
    Password, Proof, Secret,
};
use mothership_proto::backend::{self, TxStatus};
use mothership_proto::frame::{self, HEADER, Next};
use mothership_proto::report::{Report, sqlstate};
use mothership_proto::startup::{FirstPacket, Protocol, Startup, StartupError, put_backend_key};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What the answer to a login depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WelcomeKey {
    database: String,
    user: String,
    settings: Settings,
}

/// What a server reports at the beginning of a session.
pub type Welcome = Vec<(Vec<u8>, Vec<u8>)>;

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
    Told(Box<Report>),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        tracing::debug!(error = %error, "client left during login");
        Self::Gone
    }
}

impl From<Report> for Refused {
    fn from(report: Report) -> Self {
        Self::Told(Box::new(report))
    }
}

/// Serves a connection that was just accepted, to its end.
pub async fn serve(core: Rc<Core>, client: Wire) {
    let shared = Arc::clone(&core.shared);
    let topology = shared.topology();
    let listen = &topology.config.listen;
    let most = listen.max_logins.get();
    let _login = match Counted::try_new(&shared.logins, most) {
        Some(login) => login,
        None => {
            return say_goodbye(
                client,
                too_many("logins are under way", "listen.max_logins"),
            )
            .await;
        }
    };
    let mut client = client;
    let login = tokio::time::timeout(listen.login_timeout, log_in(&core, &topology, &mut client));
    let refused = match login.await {
        Ok(Ok(accepted)) => {
            drop(_login);
            return accepted.run(core, topology, client).await;
        }
        Ok(Err(refused)) => refused,
        // PostgreSQL says nothing to a client that does not finish its login.
        Err(_) => Refused::Gone,
    };
    match refused {
        Refused::Gone => {}
        Refused::Startup(error) => {
            client.with_output(|out| error.put(out));
            finish(client).await;
        }
        Refused::Auth(error) => {
            tracing::info!(error = %error, "login failed");
            client.with_output(|out| error.put(out));
            finish(client).await;
        }
        Refused::Told(report) => say_goodbye(client, *report).await,
    }
}

fn disabled(database: &str) -> Report {
    let message = format!("database \"{database}\" is not currently accepting connections");
    // object_not_in_prerequisite_state, as for datallowconn.
    Report::fatal("55000", message).detail("It was disabled in the console.")
}

fn too_many(what: &str, setting: &str) -> Report {
    Report::fatal(
        sqlstate::TOO_MANY_CONNECTIONS,
        format!("sorry, too many {what} already"),
    )
    .hint(format!("The setting is {setting}."))
}

/// Tells the client why and closes.
pub(crate) async fn say_goodbye(mut client: Wire, report: Report) {
    client.with_output(|out| report.into_fatal().put(out));
    finish(client).await;
}

async fn finish(client: Wire) {
    // The client may not read, or be gone: it has been told, that is all.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), client.finish()).await;
}

/// A client whose proof was accepted.
struct Accepted {
    startup: Startup,
    proof: Proof,
    /// Let into the console by the operating system's word.
    is_peer: bool,
}

async fn log_in(core: &Core, topology: &Topology, client: &mut Wire) -> Result<Accepted, Refused> {
    let startup = first_packets(core, topology, client).await?;
    let mut out = Vec::new();
    startup.put_negotiation(&mut out);
    client.send(&out);
    let peer = match client.peer()? {
        Address::Tcp(address) => Some(address.ip()),
        Address::Unix(_) => None,
    };
    let encrypted = client.tls().is_some();
    let config = &topology.config;
    let must_encrypt = !matches!(config.tls.mode, ClientTls::Disable | ClientTls::Allow);
    if must_encrypt && !encrypted && peer.is_some() {
        let message = "connection is not encrypted, but the router requires TLS";
        return Err(Report::fatal(sqlstate::INVALID_AUTHORIZATION, message).into());
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
    let (method, secret) = if is_peer {
        (Method::Trust, LookedUp::NoPassword)
    } else {
        let secret = look_up(core, topology, &startup.user, method).await?;
        (method, secret)
    };
    let stand_in = &core.shared.stand_in;
    let mut login = ClientLogin::new(&startup.user, method, secret, stand_in, &Nonces::fresh());
    let offer = topology.tls.as_ref().filter(|_| encrypted);
    if let Some(hash) = offer.and_then(|offer| offer.certificate_hash.as_deref()) {
        login = login.with_certificate_hash(hash);
    }
    let proved = prove(client, &mut login).await?;
    Ok(Accepted {
        startup,
        proof: proved.proof,
        is_peer,
    })
}

/// Everything up to the StartupMessage.
async fn first_packets(
    core: &Core,
    topology: &Topology,
    client: &mut Wire,
) -> Result<Startup, Refused> {
    let mut asked_gss = false;
    loop {
        let parsed = FirstPacket::parse(client.input()).map_err(Refused::Startup)?;
        let Some((packet, length)) = parsed else {
            if client.fill().await? == 0 {
                return Err(Refused::Gone);
            }
            continue;
        };
        let rest = client.input().len() - length;
        match packet {
            FirstPacket::Startup(startup) => {
                client.consume(length);
                return Ok(startup);
            }
            FirstPacket::Cancel { pid, secret } => {
                let number = ClientNumber::decode(pid);
                if let Some(core) = core.shared.mail.get(number.core) {
                    // A core that has ended has nobody to cancel.
                    let _ = core.send(Mail::Cancel {
                        slot: number.slot,
                        secret: secret.to_vec(),
                    });
                }
                return Err(Refused::Gone);
            }
            // Bytes behind a request for encryption were slipped in (CVE-2021-23214).
            FirstPacket::Ssl | FirstPacket::Gss if rest > 0 => {
                let message = "received unencrypted data after an encryption request";
                return Err(Report::fatal(sqlstate::PROTOCOL_VIOLATION, message).into());
            }
            FirstPacket::Gss if !asked_gss => {
                asked_gss = true;
                client.consume(length);
                client.send(b"N");
            }
            FirstPacket::Ssl if client.tls().is_none() => {
                client.consume(length);
                match &topology.tls {
                    Some(offer) => {
                        client.send(b"S");
                        client.accept_tls(Arc::clone(&offer.config)).await?;
                    }
                    None => client.send(b"N"),
                }
            }
            FirstPacket::DirectTls if client.tls().is_none() && topology.config.tls.direct => {
                let Some(offer) = &topology.tls else {
                    return Err(Refused::Gone);
                };
                client.accept_direct_tls(Arc::clone(&offer.config)).await?;
                let alpn = client.tls().and_then(|tls| tls.alpn.as_deref());
                if alpn != Some(b"postgresql") {
                    let message = "received direct SSL connection request without ALPN protocol negotiation extension";
                    return Err(Report::fatal(sqlstate::PROTOCOL_VIOLATION, message).into());
                }
            }
            FirstPacket::Ssl | FirstPacket::Gss | FirstPacket::DirectTls => {
                let message = "unsupported frontend protocol 1234.5679: server supports 3.0 to 3.2";
                return Err(Report::fatal(sqlstate::FEATURE_NOT_SUPPORTED, message).into());
            }
        }
    }
}

/// What is known of the user's password.
async fn look_up(
    core: &Core,
    topology: &Topology,
    user: &str,
    method: Method,
) -> Result<LookedUp, Refused> {
    if let Some(entry) = topology.config.user(user) {
        if let Some(secret) = topology.secrets.get(entry.name.value.as_str()) {
            return Ok(LookedUp::Known(secret.clone()));
        }
        if method == Method::Trust {
            return Ok(LookedUp::NoPassword);
        }
    }
    if !topology.config.auth.passthrough {
        return Ok(LookedUp::Unknown);
    }
    core.control
        .verifier(topology, user)
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
async fn prove(client: &mut Wire, login: &mut ClientLogin) -> Result<Authenticated, Refused> {
    let mut out = Vec::new();
    let mut step = login.start(&mut out).map_err(Refused::Auth)?;
    loop {
        match step {
            LoginStep::Done(authenticated) => {
                client.send(&out);
                return Ok(*authenticated);
            }
            LoginStep::Derive(derivation) => {
                let fallback = derivation.clone();
                let derived = tokio::task::spawn_blocking(move || derivation.run()).await;
                let keys = derived.unwrap_or_else(|_| fallback.run());
                step = login.on_derived(keys, &mut out).map_err(Refused::Auth)?;
            }
            LoginStep::Continue => {
                client.send(&out);
                out.clear();
                step = next_step(client, login, &mut out).await?;
            }
        }
    }
}

async fn next_step(
    client: &mut Wire,
    login: &mut ClientLogin,
    out: &mut Vec<u8>,
) -> Result<LoginStep, Refused> {
    loop {
        let limit = login.max_body() + HEADER;
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

impl Accepted {
    /// Turns the client into a session and serves it.
    async fn run(self, core: Rc<Core>, topology: Arc<Topology>, client: Wire) {
        match console::door(&topology.config.console, &self.startup, self.is_peer) {
            Door::Elsewhere => {}
            Door::Open(role) => return console::serve(core, client, &self.startup, role).await,
            Door::Closed(report) => return say_goodbye(client, report).await,
        }
        if core.life.get() != Life::Serving {
            let message = "the database system is shutting down";
            let report = Report::fatal(sqlstate::CANNOT_CONNECT_NOW, message);
            return say_goodbye(client, report).await;
        }
        let shared = Arc::clone(&core.shared);
        if shared
            .gates
            .read()
            .disabled
            .contains(&self.startup.database)
        {
            return say_goodbye(client, disabled(&self.startup.database)).await;
        }
        let most = topology.config.listen.max_clients.get();
        let Some(_client) = Counted::try_new(&shared.clients, most) else {
            return say_goodbye(client, too_many("clients", "listen.max_clients")).await;
        };
        let protocol = self.startup.protocol();
        let settings = match startup_settings(&self.startup) {
            Ok(settings) => settings,
            Err(report) => return say_goodbye(client, *report).await,
        };
        let Some(identity) = identity(&topology, &self) else {
            let message = format!("database \"{}\" does not exist", self.startup.database);
            return say_goodbye(
                client,
                Report::fatal(sqlstate::INVALID_CATALOG_NAME, message),
            )
            .await;
        };
        let who = Who {
            number: shared.session_number(),
            user: identity.user.clone(),
            server_user: identity.server_user.clone(),
            database: identity.database.clone(),
            remote: client.peer().ok(),
            local: client.local().ok(),
            tls: client
                .tls()
                .map(|tls| format!("{}/{}", tls.version, tls.cipher)),
            since: std::time::Instant::now(),
            is_console: false,
        };
        let entry = Entry::new(secret(protocol), who);
        let Some(place) = Place::take(&core, &entry) else {
            return say_goodbye(client, too_many("clients", "listen.max_clients")).await;
        };
        let number = ClientNumber {
            process: 0,
            core: core.index,
            slot: place.slot,
        };
        let session = Session {
            number: entry.who.number,
            state: State::new(SessionSettings::new(settings), Vec::new()),
            servers: Vec::new(),
            active: None,
            implicit: false,
            world: None,
            context: None,
            default_path: vec!["$user".to_owned(), "public".to_owned()],
            held: None,
            core,
            topology,
            client,
            identity,
            entry,
        };
        if let Some(session) = session.welcome(protocol, number).await {
            session.run().await;
        }
    }
}

impl Session {
    /// Says what a server says after login. `None` if the session has ended.
    async fn welcome(mut self, protocol: Protocol, number: ClientNumber) -> Option<Self> {
        let mut settings = Settings::clone(self.state.settings.startup());
        settings.remove("application_name");
        let key = WelcomeKey {
            database: self.identity.database.clone(),
            user: self.identity.server_user.clone(),
            settings,
        };
        let known = self.core.welcomes.borrow().get(&key).cloned();
        match known {
            Some(welcome) => self.repeat(welcome),
            None => {
                // A server is asked, which also checks the startup packet's settings.
                match self.attach(self.topology.home).await {
                    Ok(_) => self.after_request(),
                    Err(Halt::Fail(report)) => {
                        self.leave(super::End::Told(report)).await;
                        return None;
                    }
                    Err(_) => return None,
                }
                let told = self.state.told.clone();
                self.core.welcomes.borrow_mut().insert(key, told);
            }
        }
        let most = self.topology.config.limits.metric_labels.get() as usize;
        let seen = Rc::clone(&self.entry.seen);
        let Identity { database, user, .. } = &self.identity;
        self.state.tally = self.core.metrics.tally(database, user, seen, most);
        if let Some(Value::Text(name)) = self.state.settings.startup().get("application_name") {
            self.state.tally.application_name(name.as_bytes());
        }
        let secret = self.entry.secret.clone();
        self.client.with_output(|out| {
            put_backend_key(out, protocol, number.encode(), &secret)
                .expect("the secret was made for this protocol");
            backend::put_ready(out, TxStatus::Idle);
        });
        tracing::debug!(
            session = self.number,
            user = self.identity.user,
            database = self.identity.database,
            "client logged in"
        );
        Some(self)
    }

    /// Says what another server said to a client with the same settings.
    fn repeat(&mut self, mut welcome: Welcome) {
        let name = match self.state.settings.startup().get("application_name") {
            Some(Value::Text(name)) => name.clone().into_bytes(),
            _ => Vec::new(),
        };
        for (parameter, value) in &mut welcome {
            if parameter == b"application_name" {
                value.clone_from(&name);
            }
        }
        self.client.with_output(|out| {
            for (name, value) in &welcome {
                backend::put_parameter(out, name, value);
            }
        });
        self.state.told = welcome;
    }
}

/// The settings of the startup packet. PostgreSQL cleans application_name instead
/// of refusing it.
fn startup_settings(startup: &Startup) -> Result<Settings, Box<Report>> {
    let mut settings = Settings::default();
    for (name, value) in &startup.settings {
        let name = name.to_ascii_lowercase();
        if name == "client_encoding" && !safe_encoding(value) {
            return Err(Box::new(super::step::unsafe_encoding(value)));
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

fn identity(topology: &Topology, accepted: &Accepted) -> Option<Identity> {
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

/// A cancel key that nobody can guess: 4 bytes in protocol 3.0, 32 in 3.2.
pub(crate) fn secret(protocol: Protocol) -> Vec<u8> {
    if protocol.has_long_cancel_keys() {
        rand::random::<[u8; 32]>().to_vec()
    } else {
        rand::random::<[u8; 4]>().to_vec()
    }
}

/// One more of at most `most`, while the result lives.
pub(crate) fn limited(count: &std::sync::atomic::AtomicU32, most: u32) -> Option<impl Drop + '_> {
    Counted::try_new(count, most)
}

/// One of a limited number, while it lives.
struct Counted<'a>(&'a std::sync::atomic::AtomicU32);

impl<'a> Counted<'a> {
    fn try_new(count: &'a std::sync::atomic::AtomicU32, most: u32) -> Option<Self> {
        let one_more = |n: u32| (n < most).then_some(n + 1);
        count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        Some(Self(count))
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The session's place in the core's table.
pub(crate) struct Place {
    core: Rc<Core>,
    pub(crate) slot: usize,
}

impl Place {
    /// Enters a session, if there is room for its number in a cancel key.
    pub(crate) fn take(core: &Rc<Core>, entry: &Rc<Entry>) -> Option<Self> {
        let mut sessions = core.sessions.borrow_mut();
        (sessions.len() < ClientNumber::MAX_SLOT).then(|| Self {
            slot: sessions.insert(Rc::clone(entry)),
            core: Rc::clone(core),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.core.sessions.borrow_mut().remove(self.slot);
        self.core.left.notify_one();
    }
}

/// Secrets that logins are measured against, derived once.
pub fn prepare_secret(
    user: &crate::config::User,
    stand_in: &mothership_proto::auth::StandIn,
) -> Option<Secret> {
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
