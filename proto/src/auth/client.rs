//! Logs a client in: we are the server.
//!
//! ```text
//! start ── trust ───────────────────────────────────────────────► Done
//!   ├── password ── PasswordMessage ── [Derive] ────────────────► Done
//!   ├── md5 ─────── PasswordMessage ────────────────────────────► Done
//!   └── [Derive] ── SASLInitialResponse ── SASLResponse ────────► Done
//! ```
//!
//! Whoever cannot be let in walks the same path with a stand-in secret and fails at its end
//! with the same words (S3, S11). Any other message anywhere ends the login (S2).
//! The client's keys are recovered from a SCRAM proof, so that servers with the same verifier
//! can be logged in to on the client's behalf. That, and stand-ins, pgwire's SCRAM server
//! does not have; see `keys`.

mod error;

pub use error::{AuthError, Reason};

use bytes::BufMut;
use subtle::ConstantTimeEq;

use super::{
    keys::{Derivation, Password, ScramKeys},
    md5::Md5Hash,
    scram::{
        AuthMessage, ClientFinal, ClientFirst, GS2_END_POINT, Malformed, SCRAM_SHA_256,
        SCRAM_SHA_256_PLUS, ServerFirst, Verifier, binding, nonce_text,
    },
    secret::{LookedUp, Secret, SecretKind, StandIn},
};
use crate::frame::{put, put_str, take, take_i32, take_str};

/// Body of a PasswordMessage with a clear text password, at most: PostgreSQL's `PG_MAX_AUTH_TOKEN_LENGTH`.
pub const MAX_PASSWORD_BODY: usize = 65_535;
/// Body of a SASL message, at most: PostgreSQL's `PG_MAX_SASL_MESSAGE_LENGTH`.
pub const MAX_SASL_BODY: usize = 1_024;
/// `md5`, 32 digits and a NUL.
const MAX_MD5_BODY: usize = 36;

/// How a client must prove who he is, as in pg_hba.conf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Not at all; but he must exist.
    Trust,
    /// Password in clear text.
    Password,
    /// md5, or SCRAM where the secret is a SCRAM verifier, like PostgreSQL does.
    Md5,
    /// SCRAM-SHA-256, and -PLUS where a certificate's hash is given.
    Scram,
    /// He may not come in.
    Reject,
}

/// The random bytes of one login. Never used for a second one.
#[derive(Clone)]
pub struct Nonces {
    /// Our part of the SCRAM nonce.
    pub scram: [u8; 18],
    /// The salt of an md5 request.
    pub md5: [u8; 4],
}

impl Nonces {
    /// From the thread's cryptographic generator.
    pub fn fresh() -> Self {
        Self {
            scram: rand::random(),
            md5: rand::random(),
        }
    }
}

/// What to do next.
#[derive(Debug)]
pub enum LoginStep {
    /// Send what was appended, and wait for the next message.
    Continue,
    /// Run this where it disturbs nobody, then call [`ClientLogin::on_derived`].
    Derive(Derivation),
    /// Logged in. AuthenticationOk has been appended.
    Done(Box<Authenticated>),
}

/// A client who is who he says he is.
#[derive(Debug)]
pub struct Authenticated {
    /// The name under which he proved it; pools are keyed by no other (S3).
    pub user: String,
    /// What he proved it with, for logging in to servers on his behalf.
    pub proof: Proof,
}

/// What a login left in our hands.
#[derive(Debug)]
pub enum Proof {
    /// Nothing was asked.
    Trusted,
    /// The password that he sent.
    Password(Password),
    /// Only that he knows it.
    Md5,
    /// Keys that every server with the same verifier accepts.
    Scram(ScramKeys),
}

/// The login of one client, from AuthenticationRequest to AuthenticationOk.
#[derive(Debug)]
pub struct ClientLogin {
    user: String,
    method: Method,
    stand_in: StandIn,
    scram_nonce: String,
    md5_salt: [u8; 4],
    certificate_hash: Option<Vec<u8>>,
    state: State,
}

/// A secret of one kind, and whether it may let anybody in.
#[derive(Debug)]
struct Expected<T> {
    secret: T,
    doom: Option<Reason>,
}

impl<T> Expected<T> {
    /// The end of every path: right and not doomed. Both are known by now, so nothing is saved
    /// for a user who does not exist.
    fn judge(&self, right: bool) -> Result<(), Reason> {
        match self.doom {
            Some(reason) => Err(reason),
            None if right => Ok(()),
            None => Err(Reason::WrongPassword),
        }
    }
}

#[derive(Debug)]
enum State {
    New(LookedUp),
    Plain(Expected<Password>),
    PlainMd5(Expected<Md5Hash>),
    PlainVerifier(Expected<Verifier>),
    PlainDeriving {
        expected: Expected<Verifier>,
        sent: Password,
    },
    Md5(Expected<Md5Hash>),
    ScramDeriving,
    ScramFirst(Expected<Verifier>),
    ScramFinal(Box<ScramFinal>),
    Over,
}

/// Between our server-first and the client's proof.
#[derive(Debug)]
struct ScramFinal {
    expected: Expected<Verifier>,
    client_first: String,
    server_first: String,
    nonce: String,
    binding: String,
}

impl ClientLogin {
    /// A login of `user` (as the StartupMessage has it) by `method`.
    pub fn new(
        user: &str,
        method: Method,
        looked_up: LookedUp,
        stand_in: &StandIn,
        nonces: &Nonces,
    ) -> Self {
        Self {
            user: user.into(),
            method,
            stand_in: stand_in.clone(),
            scram_nonce: nonce_text(&nonces.scram),
            md5_salt: nonces.md5,
            certificate_hash: None,
            state: State::New(looked_up),
        }
    }

    /// Offers channel binding: `hash` is our certificate's `tls-server-end-point` hash. Only
    /// where the client's connection is TLS, and then always, or a downgrade goes unseen.
    pub fn with_certificate_hash(mut self, hash: &[u8]) -> Self {
        self.certificate_hash = Some(hash.into());
        self
    }

    /// Bytes that the body of the next message may have. Longer ones need not be read (S7).
    pub fn max_body(&self) -> usize {
        match self.state {
            State::Plain(_) | State::PlainMd5(_) | State::PlainVerifier(_) => MAX_PASSWORD_BODY,
            State::Md5(_) => MAX_MD5_BODY,
            State::ScramFirst(_) | State::ScramFinal(_) => MAX_SASL_BODY,
            _ => 0,
        }
    }

    /// Appends the AuthenticationRequest.
    ///
    /// # Errors
    /// The method is `reject`, or `trust` for an unknown user.
    pub fn start(&mut self, out: &mut Vec<u8>) -> Result<LoginStep, AuthError> {
        let State::New(looked_up) = std::mem::replace(&mut self.state, State::Over) else {
            return Err(AuthError::OutOfOrder);
        };
        match self.method {
            Method::Reject => Err(AuthError::Rejected {
                user: self.user.clone(),
            }),
            Method::Trust if matches!(looked_up, LookedUp::Unknown) => {
                Err(self.failed(Reason::Unknown))
            }
            Method::Trust => Ok(self.done(Proof::Trusted, out)),
            Method::Password => self.start_password(looked_up, out),
            Method::Md5 => self.start_md5(looked_up, out),
            Method::Scram => self.start_scram(looked_up, out),
        }
    }

    /// Takes a message of the client: its type byte and what follows its length.
    ///
    /// # Errors
    /// The login failed, or the message does not belong here. Send [`AuthError::put`] and close.
    pub fn on_message(
        &mut self,
        tag: u8,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<LoginStep, AuthError> {
        let longest = self.max_body();
        let state = std::mem::replace(&mut self.state, State::Over);
        if tag != b'p' || longest == 0 {
            let expects_sasl = matches!(state, State::ScramFirst(_) | State::ScramFinal(_));
            return Err(AuthError::Unexpected {
                tag,
                expected: if expects_sasl { "SASL" } else { "password" },
            });
        }
        if body.len() > longest {
            return Err(AuthError::TooLong {
                bytes: body.len(),
                longest,
            });
        }
        match state {
            State::Plain(expected) => {
                let sent = self.password(body)?;
                let right = expected.secret.matches(&sent);
                self.judged(expected.judge(right), Proof::Password(sent), out)
            }
            State::PlainMd5(expected) => {
                let sent = self.password(body)?;
                let right = expected
                    .secret
                    .matches(&Md5Hash::from_password(&sent, &self.user));
                self.judged(expected.judge(right), Proof::Password(sent), out)
            }
            State::PlainVerifier(expected) => {
                let sent = self.password(body)?;
                let derivation = expected.secret.derivation(sent.clone());
                self.state = State::PlainDeriving { expected, sent };
                Ok(LoginStep::Derive(derivation))
            }
            State::Md5(expected) => {
                let sent = self.password(body)?;
                let answer = expected.secret.answer(self.md5_salt);
                let right = sent.bytes().ct_eq(answer.as_bytes()).into();
                self.judged(expected.judge(right), Proof::Md5, out)
            }
            State::ScramFirst(expected) => self.scram_first(expected, body, out),
            State::ScramFinal(exchange) => self.scram_final(*exchange, body, out),
            State::New(_) | State::PlainDeriving { .. } | State::ScramDeriving | State::Over => {
                Err(AuthError::OutOfOrder)
            }
        }
    }

    /// Takes the keys that [`LoginStep::Derive`] asked for.
    ///
    /// # Errors
    /// They do not fit, or nobody asked for them.
    pub fn on_derived(
        &mut self,
        keys: ScramKeys,
        out: &mut Vec<u8>,
    ) -> Result<LoginStep, AuthError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::PlainDeriving { expected, sent } => {
                let right = expected.secret.accepts(&keys);
                self.judged(expected.judge(right), Proof::Password(sent), out)
            }
            State::ScramDeriving => Ok(self.offer_scram(
                Expected {
                    secret: Verifier::from_keys(&keys),
                    doom: None,
                },
                out,
            )),
            _ => Err(AuthError::OutOfOrder),
        }
    }

    fn start_password(
        &mut self,
        looked_up: LookedUp,
        out: &mut Vec<u8>,
    ) -> Result<LoginStep, AuthError> {
        let (secret, doom) = self.secret(looked_up);
        self.state = match secret {
            Secret::Plain { password, .. } => State::Plain(Expected {
                secret: password,
                doom,
            }),
            Secret::Md5(hash) => State::PlainMd5(Expected { secret: hash, doom }),
            Secret::Scram(verifier) => State::PlainVerifier(Expected {
                secret: verifier,
                doom,
            }),
        };
        put(out, b'R', |out| out.put_u32(3));
        Ok(LoginStep::Continue)
    }

    fn start_md5(
        &mut self,
        looked_up: LookedUp,
        out: &mut Vec<u8>,
    ) -> Result<LoginStep, AuthError> {
        let (secret, doom) = self.secret(looked_up);
        let hash = match secret {
            Secret::Plain { password, .. } => Md5Hash::from_password(&password, &self.user),
            Secret::Md5(hash) => hash,
            Secret::Scram(verifier) => {
                return Ok(self.offer_scram(
                    Expected {
                        secret: verifier,
                        doom,
                    },
                    out,
                ));
            }
        };
        self.state = State::Md5(Expected { secret: hash, doom });
        put(out, b'R', |out| {
            out.put_u32(5);
            out.put_slice(&self.md5_salt);
        });
        Ok(LoginStep::Continue)
    }

    fn start_scram(
        &mut self,
        looked_up: LookedUp,
        out: &mut Vec<u8>,
    ) -> Result<LoginStep, AuthError> {
        let (secret, doom) = self.secret(looked_up);
        let verifier = match secret {
            Secret::Scram(verifier)
            | Secret::Plain {
                verifier: Some(verifier),
                ..
            } => verifier,
            Secret::Plain {
                password,
                verifier: None,
            } if doom.is_none() => {
                self.state = State::ScramDeriving;
                return Ok(LoginStep::Derive(
                    self.stand_in.derivation(&self.user, password),
                ));
            }
            // Doomed: an empty password, or a hash that is of no use here.
            Secret::Plain { .. } | Secret::Md5(_) => self.stand_in.verifier(&self.user),
        };
        let expected = Expected {
            secret: verifier,
            doom,
        };
        Ok(self.offer_scram(expected, out))
    }

    /// The secret to ask for, and why the login is doomed, if it is. The stand-in is made for
    /// everybody, so that making it does not show in the time.
    fn secret(&self, looked_up: LookedUp) -> (Secret, Option<Reason>) {
        let stand_in = self.stand_in_secret();
        match looked_up {
            // Nothing can be proved against an md5 hash: a doomed exchange, like PostgreSQL does.
            LookedUp::Known(Secret::Md5(_)) if self.method == Method::Scram => {
                (stand_in, Some(Reason::NoScramSecret))
            }
            LookedUp::Known(secret) => {
                let doom = self.is_of_empty_password(&secret);
                (secret, doom.then_some(Reason::EmptyPassword))
            }
            LookedUp::NoPassword => (stand_in, Some(Reason::NoPassword)),
            LookedUp::Expired => (stand_in, Some(Reason::Expired)),
            LookedUp::Unknown => (stand_in, Some(Reason::Unknown)),
        }
    }

    fn stand_in_secret(&self) -> Secret {
        match (self.method, self.stand_in.kind()) {
            (Method::Scram, _) | (_, SecretKind::Scram) => {
                Secret::Scram(self.stand_in.verifier(&self.user))
            }
            (_, SecretKind::Md5) => Secret::Md5(self.stand_in.md5(&self.user)),
            (_, SecretKind::Plain) => Secret::Plain {
                password: self.stand_in.password(&self.user),
                verifier: None,
            },
        }
    }

    fn is_of_empty_password(&self, secret: &Secret) -> bool {
        match secret {
            Secret::Plain { password, .. } => password.is_empty(),
            Secret::Md5(hash) => hash.is_of_empty_password(&self.user),
            // It would take a PBKDF2 to see; neither PostgreSQL nor we make such verifiers.
            Secret::Scram(_) => false,
        }
    }

    fn offer_scram(&mut self, expected: Expected<Verifier>, out: &mut Vec<u8>) -> LoginStep {
        self.state = State::ScramFirst(expected);
        put(out, b'R', |out| {
            out.put_u32(10);
            if self.certificate_hash.is_some() {
                put_str(out, SCRAM_SHA_256_PLUS.as_bytes());
            }
            put_str(out, SCRAM_SHA_256.as_bytes());
            out.put_u8(0);
        });
        LoginStep::Continue
    }

    fn scram_first(
        &mut self,
        expected: Expected<Verifier>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<LoginStep, AuthError> {
        let (mechanism, data) = initial_response(body).ok_or(Malformed("SASL initial response"))?;
        let plus = match mechanism {
            b"SCRAM-SHA-256" => false,
            b"SCRAM-SHA-256-PLUS" if self.certificate_hash.is_some() => true,
            _ => return Err(AuthError::Mechanism),
        };
        // RFC 4422 would let a client wait for an empty challenge first; none is known to do it.
        let data = data.ok_or(Malformed("no initial response"))?;
        let first = ClientFirst::parse(ascii(data)?)?;
        match (first.gs2, plus) {
            (GS2_END_POINT, true) | ("n,,", false) => {}
            // He could have bound the channel and believes that we cannot: somebody is in between.
            ("y,,", false) if self.certificate_hash.is_some() => return Err(AuthError::Downgrade),
            ("y,,", false) => {}
            _ => return Err(AuthError::Malformed(Malformed("channel binding flag"))),
        }
        let server_first = ServerFirst::write(first.nonce, &self.scram_nonce, &expected.secret);
        put(out, b'R', |out| {
            out.put_u32(11);
            out.put_slice(server_first.as_bytes());
        });
        self.state = State::ScramFinal(Box::new(ScramFinal {
            client_first: first.bare.into(),
            nonce: format!("{}{}", first.nonce, self.scram_nonce),
            binding: binding(
                first.gs2,
                self.certificate_hash.as_deref().unwrap_or_default(),
            ),
            server_first,
            expected,
        }));
        Ok(LoginStep::Continue)
    }

    fn scram_final(
        &mut self,
        exchange: ScramFinal,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<LoginStep, AuthError> {
        let last = ClientFinal::parse(ascii(body)?)?;
        if last.nonce != exchange.nonce {
            return Err(AuthError::Malformed(Malformed("nonce")));
        }
        if !bool::from(last.binding.as_bytes().ct_eq(exchange.binding.as_bytes())) {
            // As in PostgreSQL: where no channel was bound, it is a message that should not be.
            return Err(match exchange.binding.as_str() {
                "biws" | "eSws" => AuthError::Malformed(Malformed("channel binding")),
                _ => AuthError::ChannelBinding,
            });
        }
        let auth_message = AuthMessage {
            client_first: &exchange.client_first,
            server_first: &exchange.server_first,
            client_final: last.without_proof,
        };
        let verifier = &exchange.expected.secret;
        let signature = auth_message.sign(&verifier.server_key);
        let keys = verifier.check(&last.proof, &auth_message);
        exchange
            .expected
            .judge(keys.is_some())
            .map_err(|reason| self.failed(reason))?;
        let keys = keys.ok_or_else(|| self.failed(Reason::WrongPassword))?;
        put(out, b'R', |out| {
            out.put_u32(12);
            out.put_slice(b"v=");
            out.put_slice(nonce_text(&signature).as_bytes());
        });
        Ok(self.done(Proof::Scram(keys), out))
    }

    /// Reads a PasswordMessage: one C string, and not an empty one.
    fn password(&self, body: &[u8]) -> Result<Password, AuthError> {
        let mut reader = body;
        match take_str(&mut reader) {
            Some(b"") if reader.is_empty() => Err(self.failed(Reason::EmptyPassword)),
            Some(password) if reader.is_empty() => Ok(Password::new(password)),
            _ => Err(AuthError::PasswordPacket),
        }
    }

    fn judged(
        &mut self,
        verdict: Result<(), Reason>,
        proof: Proof,
        out: &mut Vec<u8>,
    ) -> Result<LoginStep, AuthError> {
        verdict.map_err(|reason| self.failed(reason))?;
        Ok(self.done(proof, out))
    }

    fn done(&mut self, proof: Proof, out: &mut Vec<u8>) -> LoginStep {
        put(out, b'R', |out| out.put_u32(0));
        LoginStep::Done(Box::new(Authenticated {
            user: self.user.clone(),
            proof,
        }))
    }

    fn failed(&self, reason: Reason) -> AuthError {
        AuthError::Failed {
            user: self.user.clone(),
            reason,
        }
    }
}

/// Mechanism and data of a SASLInitialResponse.
fn initial_response(body: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let mut reader = body;
    let mechanism = take_str(&mut reader)?;
    let data = match take_i32(&mut reader)? {
        -1 => None,
        length => Some(take(&mut reader, usize::try_from(length).ok()?)?),
    };
    reader.is_empty().then_some((mechanism, data))
}

fn ascii(bytes: &[u8]) -> Result<&str, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed("encoding"))?;
    if text.contains('\0') {
        Err(Malformed("length"))
    } else {
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
