//! Opens one connection to a server: connect, TLS, login, within one deadline.
//!
//! The deadline covers the whole login and not just the connect, because a server
//! that stops answering half-way is as dead as one that refuses (supavisor#970).

use crate::connection::{BackendKey, MAX_SERVER_MESSAGE, Parameters, ServerConnection, remember};
use crate::endpoint::{Address, Encryption, Endpoint};
use crate::resolve::{Resolving, addresses};
use crate::wire::{Keepalive, Wire};
use mothership_proto::auth::{
    Credentials, Derivation, KeyCache, LoginRules, ScramKeys, ServerLogin, ServerLoginError,
    ServerSession, ServerStep, Target,
};
use mothership_proto::frame::{self, FrameError, Next};
use mothership_proto::frontend::put_cancel;
use mothership_proto::report::sqlstate;
use mothership_proto::startup::Protocol;
use mothership_proto::startup::outgoing::{SslAnswer, SslAnswerError, put_ssl_request, ssl_answer};
use rand::RngExt;
use std::cell::RefCell;
use std::io;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpStream, UnixStream};

/// Limits of opening.
#[derive(Clone, Debug)]
pub struct OpenSettings {
    /// From the first packet to ReadyForQuery.
    pub timeout: Duration,
    /// Age at which a connection is replaced.
    pub lifetime: Duration,
    /// It is shortened by a random part of up to this share, so that connections opened
    /// together do not end together.
    pub lifetime_jitter: f64,
    /// The longest message that is taken from a server, a row included.
    pub server_message: usize,
    /// How host names become addresses.
    pub resolving: Resolving,
    /// Unacknowledged data after which the kernel gives up.
    pub user_timeout: Option<Duration>,
    /// TCP keepalive.
    pub keepalive: Keepalive,
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The server did not take the connection.
    #[error("connect to {address}")]
    Connect {
        /// Where.
        address: Address,
        /// The system's reason.
        #[source]
        cause: io::Error,
    },
    /// The server took too long, at any step.
    #[error("login to {address} took longer than {limit:?}")]
    TimedOut {
        /// Where.
        address: Address,
        /// How long was waited.
        limit: Duration,
    },
    /// The settings demand TLS and the server offers none.
    #[error("server {address} offers no TLS")]
    NoTls {
        /// Where.
        address: Address,
    },
    /// The server's answer to SSLRequest cannot be trusted.
    #[error("TLS with {address}")]
    SslAnswer {
        /// Where.
        address: Address,
        /// What it was.
        #[source]
        cause: SslAnswerError,
    },
    /// The TLS handshake failed.
    #[error("TLS with {address}")]
    Tls {
        /// Where.
        address: Address,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The connection broke during login.
    #[error("connection to {address} broke during login")]
    Broken {
        /// Where.
        address: Address,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The server sent a message of impossible length.
    #[error("login to {address}")]
    Frame {
        /// Where.
        address: Address,
        /// What it was.
        #[source]
        cause: FrameError,
    },
    /// The server refused, or cannot be trusted.
    #[error("login to {address}")]
    Login {
        /// Where.
        address: Address,
        /// Why.
        #[source]
        cause: ServerLoginError,
    },
}

impl OpenError {
    /// Whether the server has as many connections as it takes: of all, of the role or of the database.
    pub fn has_no_room(&self) -> bool {
        let OpenError::Login {
            cause: ServerLoginError::Refused(refused),
            ..
        } = self
        else {
            return false;
        };
        refused.sqlstate.as_deref() == Some(sqlstate::TOO_MANY_CONNECTIONS)
    }
}

/// Opens the connections of one pool.
pub struct Opener<N> {
    endpoint: Arc<Endpoint>,
    user: String,
    database: String,
    credentials: RefCell<Credentials>,
    rules: LoginRules,
    settings: RefCell<OpenSettings>,
    keys: Rc<RefCell<KeyCache>>,
    notes: PhantomData<fn() -> N>,
}

impl<N: Default> Opener<N> {
    /// An opener; `keys` is the core's cache of derived SCRAM keys, so that many
    /// connections cost one derivation.
    pub fn new(
        endpoint: Arc<Endpoint>,
        user: String,
        database: String,
        credentials: Credentials,
        rules: LoginRules,
        settings: OpenSettings,
        keys: Rc<RefCell<KeyCache>>,
    ) -> Self {
        Self {
            endpoint,
            user,
            database,
            credentials: RefCell::new(credentials),
            rules,
            settings: RefCell::new(settings),
            keys,
            notes: PhantomData,
        }
    }

    /// The server.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The role that connections log in as.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database on the server.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// A newer proof of the same user: pass-through keys change with the password.
    pub fn set_credentials(&self, credentials: Credentials) {
        *self.credentials.borrow_mut() = credentials;
    }

    /// What holds for connections that are opened from now on.
    pub fn set_settings(&self, settings: OpenSettings) {
        *self.settings.borrow_mut() = settings;
    }

    /// One logged-in connection. Not cancel safe in the sense that a dropped call
    /// abandons the login, which closes the socket and does no harm.
    pub async fn open(&self) -> Result<ServerConnection<N>, OpenError> {
        let settings = self.settings.borrow().clone();
        match tokio::time::timeout(settings.timeout, self.open_unlimited(&settings)).await {
            Ok(result) => result,
            Err(_) => Err(OpenError::TimedOut {
                address: self.address(),
                limit: settings.timeout,
            }),
        }
    }

    /// What is wrong with a connection that has ended before anything was asked of it.
    pub(crate) fn broken_at_once(&self) -> OpenError {
        OpenError::Broken {
            address: self.address(),
            cause: io::ErrorKind::ConnectionAborted.into(),
        }
    }

    async fn open_unlimited(
        &self,
        settings: &OpenSettings,
    ) -> Result<ServerConnection<N>, OpenError> {
        let begun = Instant::now();
        let mut wire = connect(&self.endpoint, settings).await?;
        let session = self.log_in(&mut wire).await?;
        let share = rand::rng().random_range(0.0..=settings.lifetime_jitter.clamp(0.0, 1.0));
        let jitter = settings.lifetime.mul_f64(share);
        let key = BackendKey {
            pid: session.pid,
            secret: session.key,
        };
        let mut parameters = Parameters::new();
        for (name, value) in &session.parameters {
            remember(&mut parameters, name.as_bytes(), value.as_bytes());
        }
        let expires = Instant::now() + settings.lifetime - jitter;
        let mut connection = ServerConnection::new(wire, key, parameters, N::default(), expires);
        connection.opened = begun;
        connection.longest = settings.server_message;
        Ok(connection)
    }

    async fn log_in(&self, wire: &mut Wire) -> Result<ServerSession, OpenError> {
        let target = Target {
            protocol: Protocol::V3_0,
            user: self.user.clone(),
            database: self.database.clone(),
            parameters: Vec::new(),
        };
        let mut rules = self.rules.clone();
        rules.certificate_hash = wire.tls().and_then(|tls| tls.server_end_point.clone());
        let credentials = self.credentials.borrow().clone();
        let mut login = ServerLogin::new(target, credentials, rules, rand::random());
        let mut out = Vec::new();
        login
            .start(&mut out)
            .map_err(|cause| self.login_error(cause))?;
        loop {
            wire.send(&out);
            out.clear();
            let mut step = self.next_message(wire, &mut login, &mut out).await?;
            while let ServerStep::Derive(derivation) = step {
                let keys = self.derive(derivation).await;
                step = login
                    .on_derived(&keys, &mut out)
                    .map_err(|cause| self.login_error(cause))?;
            }
            if let ServerStep::Ready(session) = step {
                return Ok(*session);
            }
        }
    }

    async fn next_message(
        &self,
        wire: &mut Wire,
        login: &mut ServerLogin,
        out: &mut Vec<u8>,
    ) -> Result<ServerStep, OpenError> {
        loop {
            let next = frame::next(wire.input(), MAX_SERVER_MESSAGE).map_err(|cause| {
                OpenError::Frame {
                    address: self.address(),
                    cause,
                }
            })?;
            if let Next::Whole(frame) = next {
                let length = frame.bytes.len();
                let step = login.on_message(frame.tag(), frame.body(), out);
                wire.consume(length);
                return step.map_err(|cause| self.login_error(cause));
            }
            let read = wire.fill().await.and_then(some);
            read.map_err(|cause| OpenError::Broken {
                address: self.address(),
                cause,
            })?;
        }
    }

    /// PBKDF2 takes milliseconds, so it runs beside the event loop, once per salt.
    async fn derive(&self, derivation: Derivation) -> ScramKeys {
        if let Some(keys) = self.keys.borrow_mut().get(&derivation) {
            return keys;
        }
        let work = derivation.clone();
        let keys = tokio::task::spawn_blocking(move || work.run())
            .await
            .unwrap_or_else(|_| derivation.run());
        self.keys.borrow_mut().insert(derivation, keys.clone());
        keys
    }

    fn login_error(&self, cause: ServerLoginError) -> OpenError {
        OpenError::Login {
            address: self.address(),
            cause,
        }
    }

    fn address(&self) -> Address {
        self.endpoint.address.clone()
    }
}

/// Asks the server to cancel what the backend does, and waits until the server has
/// closed the connection: only then is it certain that the cancel hits nobody else.
///
/// # Errors
/// [`OpenError::TimedOut`] if that is not seen in time: the server may receive the request later. After any other error
/// it was not sent.
pub async fn cancel(
    endpoint: &Endpoint,
    key: &BackendKey,
    settings: &OpenSettings,
) -> Result<(), OpenError> {
    let request = async {
        let mut wire = connect(endpoint, settings).await?;
        wire.with_output(|out| put_cancel(out, key.pid, &key.secret));
        // The server answers nothing and closes; an error is an end too.
        while matches!(wire.fill().await, Ok(n) if n > 0) {
            let n = wire.input().len();
            wire.consume(n);
        }
        Ok(())
    };
    match tokio::time::timeout(settings.timeout, request).await {
        Ok(result) => result,
        Err(_) => Err(OpenError::TimedOut {
            address: endpoint.address.clone(),
            limit: settings.timeout,
        }),
    }
}

/// A socket to the server, under TLS where the endpoint says so.
async fn connect(endpoint: &Endpoint, settings: &OpenSettings) -> Result<Wire, OpenError> {
    let address = || endpoint.address.clone();
    let mut wire = connect_plain(endpoint, settings)
        .await
        .map_err(|cause| OpenError::Connect {
            address: address(),
            cause,
        })?;
    let (config, must) = match &endpoint.encryption {
        Encryption::Disable => return Ok(wire),
        _ if endpoint.interpreter.is_some() => return Ok(wire),
        Encryption::Prefer(config) => (config, false),
        Encryption::Require(config) => (config, true),
    };
    let Address::Tcp(host, _) = &endpoint.address else {
        // Unix sockets carry no TLS, as with libpq.
        return Ok(wire);
    };
    let tls_error = |cause| OpenError::Tls {
        address: address(),
        cause,
    };
    let name = endpoint.tls_name.as_ref().unwrap_or(host).clone();
    let name: rustls::pki_types::ServerName<'static> = name
        .try_into()
        .map_err(|e| tls_error(io::Error::other(e)))?;
    if must && endpoint.tls_direct {
        let shake = wire.connect_tls(config.clone(), name).await;
        shake.map_err(tls_error)?;
        // Without it, something that is no PostgreSQL may have answered.
        let alpn = wire.tls().and_then(|tls| tls.alpn.as_deref());
        if alpn != Some(b"postgresql") {
            let message = "the server did not agree on the protocol \"postgresql\"";
            return Err(tls_error(io::Error::other(message)));
        }
        return Ok(wire);
    }
    wire.with_output(put_ssl_request);
    let answer = loop {
        let answer = ssl_answer(wire.input()).map_err(|cause| OpenError::SslAnswer {
            address: address(),
            cause,
        })?;
        if let Some(answer) = answer {
            break answer;
        }
        let read = wire.fill().await.and_then(some);
        read.map_err(|cause| OpenError::Broken {
            address: address(),
            cause,
        })?;
    };
    wire.consume(1);
    match answer {
        SslAnswer::No if must => Err(OpenError::NoTls { address: address() }),
        SslAnswer::No => Ok(wire),
        SslAnswer::Yes => {
            let shake = wire.connect_tls(config.clone(), name).await;
            shake.map_err(tls_error)?;
            Ok(wire)
        }
    }
}

async fn connect_plain(endpoint: &Endpoint, settings: &OpenSettings) -> io::Result<Wire> {
    if let Some(interpreter) = &endpoint.interpreter {
        return Ok(Wire::pipe(interpreter.dial()?));
    }
    match &endpoint.address {
        Address::Tcp(host, port) => connect_tcp(host, *port, settings).await,
        Address::Unix(path) => Ok(Wire::unix(UnixStream::connect(path).await?)),
    }
}

/// A TCP connection, before anything is said on it.
///
/// # Errors
/// The name has no address, or nobody takes the connection.
pub async fn connect_tcp(host: &str, port: u16, settings: &OpenSettings) -> io::Result<Wire> {
    let addresses = addresses(host, port, settings.resolving).await?;
    let wire = Wire::tcp(TcpStream::connect(&addresses[..]).await?)?;
    wire.set_keepalive(settings.keepalive)?;
    if let Some(timeout) = settings.user_timeout {
        wire.set_user_timeout(timeout)?;
    }
    Ok(wire)
}

/// The end of the stream is an error where more is needed.
fn some(read: usize) -> io::Result<usize> {
    match read {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        n => Ok(n),
    }
}
