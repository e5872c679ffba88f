//! Logs in to a server: we are the client.
//!
//! ```text
//! start ── AuthenticationRequest ─┬─ Ok ──────────────────────────────────────┬─► ... ReadyForQuery ─► Ready
//!                                 ├─ cleartext, md5 ── Ok ────────────────────┤
//!                                 └─ SASL ── Continue ── [Derive] ── Final ── Ok
//! ```
//!
//! The server may be hostile, or somebody may stand in between: everything it sends has a cap
//! (S8), it must prove that it knows the verifier, and what the settings require is required
//! before the first secret byte is sent (S25).

mod error;

pub use error::{Asked, ServerLoginError};

use bytes::BufMut;

use super::{
    exchange::{Answered, Challenged, DEFAULT_MAX_ITERATIONS, GS2_NONE, Opened},
    keys::{Derivation, Password, ScramKeys},
    md5::Md5Hash,
    report::ServerReport,
    scram::{GS2_END_POINT, SCRAM_SHA_256, SCRAM_SHA_256_PLUS},
};
use crate::{
    frame::{put, put_str, take, take_i32, take_str},
    startup::{MAX_CANCEL_KEY, Protocol, outgoing::put_startup},
};

/// Body of a message before ReadyForQuery, at most; real ones have some hundred bytes.
pub const MAX_LOGIN_BODY: usize = 65_536;
/// Bytes of all messages before ReadyForQuery together, at most.
pub const MAX_LOGIN_BYTES: usize = 262_144;
/// Notices that are kept; further ones are dropped.
pub const MAX_NOTICES: usize = 16;

/// Whom to become, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The newest version to ask for. Servers before PostgreSQL 9.3 know only 3.0.
    pub protocol: Protocol,
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// Settings that the session begins with, chosen by us.
    pub parameters: Vec<(String, String)>,
}

/// What we can prove.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Nothing: the server must trust us.
    None,
    /// The password: fits every method.
    Password(Password),
    /// The stored md5 hash: fits md5 only.
    Md5(Md5Hash),
    /// Keys of a client's login: fit SCRAM with the same verifier only.
    Scram(ScramKeys),
}

/// What a login must not fall below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginRules {
    /// Only SCRAM will do: not even being trusted.
    pub require_scram: bool,
    /// Only SCRAM bound to the TLS channel will do.
    pub require_channel_binding: bool,
    /// The `tls-server-end-point` hash of the server's certificate, where the connection is TLS.
    pub certificate_hash: Option<Vec<u8>>,
    /// The highest iteration count that is derived.
    pub max_iterations: u32,
}

impl Default for LoginRules {
    fn default() -> Self {
        Self {
            require_scram: false,
            require_channel_binding: false,
            certificate_hash: None,
            max_iterations: DEFAULT_MAX_ITERATIONS,
        }
    }
}

/// What to do next.
#[derive(Debug)]
pub enum ServerStep {
    /// Send what was appended, if anything, and wait for the next message.
    Continue,
    /// Look it up in a `KeyCache` or run it where it disturbs nobody, then call [`ServerLogin::on_derived`].
    Derive(Derivation),
    /// The session is ready for queries.
    Ready(Box<ServerSession>),
}

/// A session that has just begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSession {
    /// The version spoken.
    pub protocol: Protocol,
    /// The server's process; 0 if it gave none.
    pub pid: i32,
    /// Cancel key of 4 to 256 bytes; empty if the server gave none and cannot be asked to cancel.
    pub key: Vec<u8>,
    /// Reported settings, the last value of each. Bytes that are not UTF-8 are replaced.
    pub parameters: Vec<(String, String)>,
    /// What the server remarked.
    pub notices: Vec<ServerReport>,
}

impl ServerSession {
    fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            pid: 0,
            key: Vec::new(),
            parameters: Vec::new(),
            notices: Vec::new(),
        }
    }
}

/// One login to one server, from StartupMessage to ReadyForQuery.
#[derive(Debug)]
pub struct ServerLogin {
    target: Target,
    credentials: Credentials,
    rules: LoginRules,
    nonce: [u8; 18],
    bytes_left: usize,
    session: ServerSession,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    /// StartupMessage is sent.
    Asked {
        negotiated: bool,
    },
    ScramFirst(Opened),
    ScramDeriving(Challenged),
    ScramFinal(Answered),
    /// A password is sent, or the server has proved itself: only AuthenticationOk may follow.
    Proved,
    /// Logged in.
    Settling,
    Over,
}

impl ServerLogin {
    /// A login with a nonce that is random and never used again.
    pub fn new(
        target: Target,
        credentials: Credentials,
        rules: LoginRules,
        nonce: [u8; 18],
    ) -> Self {
        let session = ServerSession::new(target.protocol);
        Self {
            target,
            credentials,
            rules,
            nonce,
            bytes_left: MAX_LOGIN_BYTES,
            session,
            state: State::New,
        }
    }

    /// Appends the StartupMessage. TLS, if any, is already running.
    ///
    /// # Errors
    /// The target cannot be said in a StartupMessage.
    pub fn start(&mut self, out: &mut Vec<u8>) -> Result<(), ServerLoginError> {
        if !matches!(self.state, State::New) {
            return Err(ServerLoginError::OutOfOrder);
        }
        let Target {
            protocol,
            user,
            database,
            parameters,
        } = &self.target;
        put_startup(out, *protocol, user, database, parameters)?;
        self.state = State::Asked { negotiated: false };
        Ok(())
    }

    /// Takes a message of the server: its type byte and what follows its length.
    ///
    /// # Errors
    /// The login failed, the server broke the protocol or wants less than the rules require.
    /// Close the connection.
    pub fn on_message(
        &mut self,
        tag: u8,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<ServerStep, ServerLoginError> {
        let state = std::mem::replace(&mut self.state, State::Over);
        let cost = body.len().saturating_add(5);
        self.bytes_left = self
            .bytes_left
            .checked_sub(cost)
            .ok_or(ServerLoginError::TooMuch)?;
        match (tag, state) {
            (_, State::New | State::Over) => Err(ServerLoginError::OutOfOrder),
            (b'E', _) => Err(ServerLoginError::Refused(ServerReport::parse(body))),
            (b'N', state) => {
                if self.session.notices.len() < MAX_NOTICES {
                    self.session.notices.push(ServerReport::parse(body));
                }
                self.go_on(state)
            }
            (b'v', State::Asked { negotiated: false }) => {
                self.negotiated(body)?;
                self.go_on(State::Asked { negotiated: true })
            }
            (b'S', State::Settling) => {
                self.parameter(body).ok_or(ServerLoginError::Body { tag })?;
                self.go_on(State::Settling)
            }
            (b'K', State::Settling) => {
                self.key(body).ok_or(ServerLoginError::Body { tag })?;
                self.go_on(State::Settling)
            }
            (b'Z', State::Settling) if body == b"I" => {
                let empty = ServerSession::new(self.session.protocol);
                let session = std::mem::replace(&mut self.session, empty);
                Ok(ServerStep::Ready(Box::new(session)))
            }
            (b'R', state) => {
                let mut reader = body;
                let code = take_i32(&mut reader).ok_or(ServerLoginError::Body { tag })?;
                self.authentication(code, reader, state, out)
            }
            (tag, _) => Err(ServerLoginError::Unexpected { tag }),
        }
    }

    /// Takes the keys that [`ServerStep::Derive`] asked for.
    ///
    /// # Errors
    /// Nobody asked for them. Keys for another salt are the server's to refuse.
    pub fn on_derived(
        &mut self,
        keys: &ScramKeys,
        out: &mut Vec<u8>,
    ) -> Result<ServerStep, ServerLoginError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::ScramDeriving(challenged) => Ok(self.prove(keys, challenged, out)),
            _ => Err(ServerLoginError::OutOfOrder),
        }
    }

    fn go_on(&mut self, state: State) -> Result<ServerStep, ServerLoginError> {
        self.state = state;
        Ok(ServerStep::Continue)
    }

    fn authentication(
        &mut self,
        code: i32,
        mut data: &[u8],
        state: State,
        out: &mut Vec<u8>,
    ) -> Result<ServerStep, ServerLoginError> {
        match (code, state) {
            (0, State::Asked { .. }) => {
                self.allow(Asked::Nothing)?;
                self.go_on(State::Settling)
            }
            (0, State::Proved) => self.go_on(State::Settling),
            (3, State::Asked { .. }) => {
                self.allow(Asked::Cleartext)?;
                let Credentials::Password(password) = &self.credentials else {
                    return Err(ServerLoginError::NoCredentials {
                        asked: Asked::Cleartext,
                    });
                };
                put_password(out, password.bytes());
                self.go_on(State::Proved)
            }
            (5, State::Asked { .. }) => {
                self.allow(Asked::Md5)?;
                let salt = take(&mut data, 4).and_then(|salt| salt.try_into().ok());
                let salt = salt
                    .filter(|_| data.is_empty())
                    .ok_or(ServerLoginError::Body { tag: b'R' })?;
                let hash = match &self.credentials {
                    Credentials::Password(password) => {
                        Md5Hash::from_password(password, &self.target.user)
                    }
                    Credentials::Md5(hash) => hash.clone(),
                    _ => return Err(ServerLoginError::NoCredentials { asked: Asked::Md5 }),
                };
                put_password(out, hash.answer(salt).as_bytes());
                self.go_on(State::Proved)
            }
            (10, State::Asked { .. }) => self.choose_mechanism(data, out),
            (11, State::ScramFirst(opened)) => self.challenged(opened, data, out),
            (12, State::ScramFinal(answered)) => {
                answered.check(data)?;
                self.go_on(State::Proved)
            }
            (0 | 3 | 5 | 10 | 11 | 12, _) => Err(ServerLoginError::Unexpected { tag: b'R' }),
            (code, _) => Err(ServerLoginError::Method { code }),
        }
    }

    /// Whether the rules allow to log in in this way.
    fn allow(&self, asked: Asked) -> Result<(), ServerLoginError> {
        if self.rules.require_scram || self.rules.require_channel_binding {
            return Err(ServerLoginError::Downgrade { asked });
        }
        Ok(())
    }

    fn choose_mechanism(
        &mut self,
        mut data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<ServerStep, ServerLoginError> {
        let (mut plain, mut plus) = (false, false);
        loop {
            match take_str(&mut data).ok_or(ServerLoginError::Body { tag: b'R' })? {
                b"" => break,
                name => {
                    plain |= name == SCRAM_SHA_256.as_bytes();
                    plus |= name == SCRAM_SHA_256_PLUS.as_bytes();
                }
            }
        }
        let can_bind = self.rules.certificate_hash.is_some();
        let (mechanism, gs2) = match (plus && can_bind, plain) {
            (true, _) => (SCRAM_SHA_256_PLUS, GS2_END_POINT),
            _ if self.rules.require_channel_binding => {
                return Err(ServerLoginError::Downgrade {
                    asked: Asked::Scram,
                });
            }
            (false, true) if can_bind => (SCRAM_SHA_256, "y,,"),
            (false, true) => (SCRAM_SHA_256, GS2_NONE),
            (false, false) => return Err(ServerLoginError::Mechanism),
        };
        if !matches!(
            self.credentials,
            Credentials::Password(_) | Credentials::Scram(_)
        ) {
            return Err(ServerLoginError::NoCredentials {
                asked: Asked::Scram,
            });
        }
        // The name is left out, as libpq does: the server takes that of the StartupMessage.
        let opened = Opened::new(gs2, "", self.nonce);
        let first = opened.message();
        put(out, b'p', |out| {
            put_str(out, mechanism.as_bytes());
            out.put_u32(first.len() as u32);
            out.put_slice(first.as_bytes());
        });
        self.go_on(State::ScramFirst(opened))
    }

    fn challenged(
        &mut self,
        opened: Opened,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<ServerStep, ServerLoginError> {
        let challenged = opened.challenged(data, self.rules.max_iterations)?;
        match &self.credentials {
            Credentials::Password(password) => {
                let derivation = challenged.derivation(password);
                self.state = State::ScramDeriving(challenged);
                Ok(ServerStep::Derive(derivation))
            }
            Credentials::Scram(keys) if challenged.fits(keys) => {
                let keys = keys.clone();
                Ok(self.prove(&keys, challenged, out))
            }
            Credentials::Scram(_) => Err(ServerLoginError::OtherVerifier),
            Credentials::None | Credentials::Md5(_) => Err(ServerLoginError::NoCredentials {
                asked: Asked::Scram,
            }),
        }
    }

    fn prove(&mut self, keys: &ScramKeys, challenged: Challenged, out: &mut Vec<u8>) -> ServerStep {
        let hash = self.rules.certificate_hash.as_deref().unwrap_or_default();
        let (message, answered) = challenged.prove(keys, hash);
        put(out, b'p', |out| out.put_slice(message.as_bytes()));
        self.state = State::ScramFinal(answered);
        ServerStep::Continue
    }

    /// PostgreSQL 18 answers with the whole version, some others with the minor number alone.
    fn negotiated(&mut self, body: &[u8]) -> Result<(), ServerLoginError> {
        let mut reader = body;
        let (version, options) = take_i32(&mut reader)
            .zip(take_i32(&mut reader))
            .ok_or(ServerLoginError::Body { tag: b'v' })?;
        let minor = match version {
            0..=0xffff => version,
            0x3_0000..=0x3_ffff => version - 0x3_0000,
            _ => return Err(ServerLoginError::Version { version }),
        };
        // We ask for no options, and 3.1 does not exist.
        let minor = u16::try_from(minor)
            .ok()
            .filter(|&minor| minor != 1 && minor < self.target.protocol.minor());
        match minor {
            Some(minor) if options == 0 && reader.is_empty() => {
                self.session.protocol = Protocol::negotiate(minor);
                Ok(())
            }
            _ => Err(ServerLoginError::Version { version }),
        }
    }

    fn parameter(&mut self, body: &[u8]) -> Option<()> {
        let mut reader = body;
        let (name, value) = (take_str(&mut reader)?, take_str(&mut reader)?);
        let [name, value] = [name, value].map(|text| String::from_utf8_lossy(text).into_owned());
        match self
            .session
            .parameters
            .iter_mut()
            .find(|(known, _)| *known == name)
        {
            Some(known) => known.1 = value,
            None => self.session.parameters.push((name, value)),
        }
        reader.is_empty().then_some(())
    }

    fn key(&mut self, body: &[u8]) -> Option<()> {
        let mut reader = body;
        self.session.pid = take_i32(&mut reader)?;
        self.session.key = Some(reader)
            .filter(|key| (4..=MAX_CANCEL_KEY).contains(&key.len()))?
            .into();
        Some(())
    }
}

fn put_password(out: &mut Vec<u8>, password: &[u8]) {
    put(out, b'p', |out| {
        out.put_slice(password);
        out.put_u8(0);
    });
}

#[cfg(test)]
mod tests;
