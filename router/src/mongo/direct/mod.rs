//! Reads of a few documents, on a connection of the router's own.
//!
//! Whatever may come in one answer, and stands outside of transactions and snapshots: a find by a key, or with a small
//! limit. The driver can do it, too, and does wherever this cannot; but for each command it asks two tasks of its own and
//! copies what it knows of the set, which costs more than all the rest of such a read
//! ([ADR 24](../../../../docs/adr/0024-reads-of-a-few-documents-go-past-the-driver.md)). Reads may be asked twice, so that
//! what is not certain here is asked of the driver once more.

mod command;

mod message;

pub(super) use command::{Asked, ending};

use command::{Answer, SaslStep};
use mongodb::bson::{RawDocument, RawDocumentBuf};
use mothership_documents::translate::Command;
use mothership_pool::open::{OpenSettings, connect_tcp};
use mothership_pool::wire::Wire;
use mothership_proto::auth::exchange::{DEFAULT_MAX_ITERATIONS, GS2_NONE, Opened};
use mothership_proto::auth::{ExchangeError, KeyCache, Password};
use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::timeout;

/// How such connections to a member are made.
pub struct DirectOptions {
    /// Host and port.
    address: (String, u16),
    /// Encryption; none without it.
    tls: Option<Arc<ClientConfig>>,
    /// Who logs in, if anybody does.
    user: Option<(String, Password)>,
    settings: OpenSettings,
    keys: Mutex<KeyCache>,
    /// The user logs in by what only the driver knows.
    is_closed: AtomicBool,
}

impl DirectOptions {
    /// To a member at this address, as this user with his password, with the same limits as to a server of PostgreSQL.
    pub fn new(
        address: (&str, u16),
        tls: Option<Arc<ClientConfig>>,
        user: Option<(&str, &str)>,
        settings: OpenSettings,
    ) -> DirectOptions {
        DirectOptions {
            address: (address.0.to_owned(), address.1),
            tls,
            user: user.map(|(user, password)| (user.to_owned(), Password::new(password))),
            settings,
            // One user with one verifier.
            keys: Mutex::new(KeyCache::new(1)),
            is_closed: AtomicBool::new(false),
        }
    }

    async fn open(&self) -> Result<Connection, Unopened> {
        let opening = timeout(self.settings.timeout, self.open_unlimited());
        opening.await.map_err(|_| Unopened::TimedOut)?
    }

    async fn open_unlimited(&self) -> Result<Connection, Unopened> {
        let (host, port) = &self.address;
        let mut wire = connect_tcp(host, *port, &self.settings).await?;
        if let Some(tls) = &self.tls {
            let name = ServerName::try_from(host.clone())?;
            wire.connect_tls(Arc::clone(tls), name).await?;
        }
        let mut connection = Connection { wire, number: 0 };
        let user = self.user.as_ref().map(|(user, _)| user.as_str());
        let is_known = |hello: &RawDocument| {
            accepted(hello)?;
            Ok::<bool, Unopened>(command::knows_mechanism(hello))
        };
        let is_known = connection.ask(&command::hello(user), is_known).await??;
        let Some((user, password)) = &self.user else {
            return Ok(connection);
        };
        if !is_known {
            self.is_closed.store(true, Ordering::Relaxed);
            return Err(Unopened::Mechanism);
        }
        self.log_in(&mut connection, user, password).await?;
        Ok(connection)
    }

    async fn log_in(
        &self,
        connection: &mut Connection,
        user: &str,
        password: &Password,
    ) -> Result<(), Unopened> {
        let opened = Opened::new(GS2_NONE, user, rand::random());
        let first = connection
            .step(&command::sasl_start(&opened.message()))
            .await?;
        let challenged = opened.challenged(&first.payload, DEFAULT_MAX_ITERATIONS)?;
        let derivation = challenged.derivation(password);
        let known = self.keys().get(&derivation);
        let keys = match known {
            Some(keys) => keys,
            None => {
                let work = derivation.clone();
                let keys = tokio::task::spawn_blocking(move || work.run()).await;
                keys.map_err(io::Error::other)?
            }
        };
        let (message, answered) = challenged.prove(&keys, &[]);
        let last = connection
            .step(&command::sasl_continue(first.conversation, &message))
            .await?;
        answered.check(&last.payload)?;
        if !last.is_done {
            return Err(Unopened::NoAnswer);
        }
        self.keys().insert(derivation, keys);
        Ok(())
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, KeyCache> {
        // Every entry is written whole.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum Unopened {
    #[error("the connection is broken")]
    Broken(#[from] io::Error),
    #[error("it took too long")]
    TimedOut,
    #[error("its name cannot be that of a certificate")]
    Name(#[from] InvalidDnsNameError),
    #[error("what came is no answer")]
    NoAnswer,
    #[error("it refuses, by error {0}")]
    Refused(i32),
    #[error("the user cannot log in by SCRAM-SHA-256")]
    Mechanism,
    #[error(transparent)]
    Login(#[from] ExchangeError),
}

fn accepted(answer: &RawDocument) -> Result<(), Unopened> {
    match command::failed(answer).ok_or(Unopened::NoAnswer)? {
        None => Ok(()),
        Some((code, _)) => Err(Unopened::Refused(code)),
    }
}

/// What came of a read.
pub(super) enum Read {
    /// These are all its rows.
    Rows(Vec<RawDocumentBuf>),
    /// The server's error.
    Failed(i32, String),
    /// The driver has to ask, or to ask once more.
    ForTheDriver,
    /// The member is not there.
    Lost,
}

/// The connection for reads that a conversation has, once it needs one.
pub(super) struct Direct {
    way: Option<Arc<DirectOptions>>,
    /// Taken away while something is asked: what is given up in between leaves no connection with an answer that nobody
    /// waits for.
    connection: Option<Connection>,
}

impl Direct {
    /// No connection yet; never one without a way.
    pub fn new(way: Option<Arc<DirectOptions>>) -> Direct {
        Direct {
            way,
            connection: None,
        }
    }

    /// Reads what the command finds.
    pub async fn find(&mut self, command: &Command, asked: Asked<'_>) -> Read {
        let way = self.way.as_deref();
        let Some(way) = way.filter(|way| !way.is_closed.load(Ordering::Relaxed)) else {
            return Read::ForTheDriver;
        };
        let Some(find) = command::find(command, asked) else {
            return Read::ForTheDriver;
        };
        let idle = self.connection.take();
        let idle =
            idle.and_then(|mut connection| (!connection.wire.has_news()).then_some(connection));
        let mut connection = match idle {
            Some(connection) => connection,
            None => match way.open().await {
                Ok(connection) => connection,
                Err(Unopened::TimedOut) => return Read::Lost,
                Err(error) => {
                    tracing::debug!(%error, "no connection to MongoDB beside the driver's");
                    return Read::ForTheDriver;
                }
            },
        };
        let Ok(Some(found)) = connection.ask(&find, command::found).await else {
            return Read::ForTheDriver;
        };
        let read = match found {
            Answer::Rows(rows) => Read::Rows(rows),
            Answer::Failed(code, message) => Read::Failed(code, message),
            Answer::More(cursor, collection) => {
                // Few documents, but longer ones than one answer takes; or the index that keeps a key is not there.
                let kill = command::kill_cursor(cursor, &collection, asked.database);
                if connection.ask(&kill, |_| ()).await.is_err() {
                    return Read::ForTheDriver;
                }
                Read::ForTheDriver
            }
        };
        self.connection = Some(connection);
        read
    }
}

/// A connection, on which one command is asked after the other.
struct Connection {
    wire: Wire,
    /// Of the last command.
    number: i32,
}

impl Connection {
    /// What `read` makes of the answer to a command.
    async fn ask<T>(
        &mut self,
        command: &RawDocument,
        read: impl FnOnce(&RawDocument) -> T,
    ) -> Result<T, Unopened> {
        self.number = self.number.wrapping_add(1);
        let number = self.number;
        self.wire
            .with_output(|out| message::put(out, number, command));
        loop {
            let answer = message::answer(self.wire.input(), number);
            if let Some((answer, length)) = answer.map_err(|_| Unopened::NoAnswer)? {
                let made = read(answer);
                self.wire.consume(length);
                return Ok(made);
            }
            if self.wire.fill().await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// A step of a login.
    async fn step(&mut self, command: &RawDocument) -> Result<SaslStep, Unopened> {
        let read = |answer: &RawDocument| {
            accepted(answer)?;
            command::sasl_step(answer).ok_or(Unopened::NoAnswer)
        };
        self.ask(command, read).await?
    }
}
