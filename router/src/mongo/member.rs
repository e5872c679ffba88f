//! One member of a replica set, and how it is reached.
//!
//! The driver connects to this member alone, whatever its role: the router chooses the member for a request in the same
//! code that chooses servers of PostgreSQL. Each thread has a driver's client of its own, as it has its own pools, because a client's
//! tasks belong to the runtime that made it.

use super::conversation::{self, Party};
use super::decisions::Decisions;
use super::direct::{Direct, DirectOptions};
use mongodb::Client;
use mongodb::bson::Document;
use mongodb::options::{ClientOptions, Credential, ServerAddress, Tls, TlsOptions};
use mothership_documents::Collection;
use mothership_pool::endpoint::Interpreter;
use mothership_pool::wire::{Pipe, pipe};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::ThreadId;
use std::time::Duration;

/// How the router logs in to the members of a replica set.
#[derive(Clone)]
pub struct Login {
    /// User and password. Without them the router does not authenticate.
    pub user: Option<(String, String)>,
    /// Encryption; none without it.
    pub tls: Option<Encryption>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
}

/// How connections are encrypted.
#[derive(Clone, Debug)]
pub struct Encryption {
    /// PEM file with authorities; the system's if there is none.
    pub ca: Option<PathBuf>,
    /// PEM file with the router's own certificate and key.
    pub certificate: Option<PathBuf>,
    /// Whether the driver verifies the server's certificate.
    pub verifies: bool,
}

/// A member of a replica set.
pub struct Member {
    options: ClientOptions,
    host: String,
    collections: Arc<[Arc<Collection>]>,
    decisions: Decisions,
    way: Option<Arc<DirectOptions>>,
    clients: Mutex<HashMap<ThreadId, Client>>,
    running: Running,
}

/// The open connections to this member by number, each with its secret and its session of MongoDB, so that a cancel request
/// finds them.
#[derive(Clone, Default)]
pub(super) struct Running(Arc<Mutex<HashMap<i32, Entry>>>);

/// A connection that may be cancelled.
struct Entry {
    secret: i32,
    /// The session of MongoDB's in which it works.
    session: Document,
    /// It was cancelled.
    cancelled: Arc<AtomicBool>,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mongodb {}", self.host)
    }
}

impl Member {
    /// A member at this address, with the tables whose documents it has. Decisions are in collections of this schema.
    pub fn new(
        host: &str,
        port: u16,
        login: Login,
        collections: Arc<[Arc<Collection>]>,
        schema: &str,
    ) -> Member {
        let mut options = ClientOptions::default();
        options.hosts = vec![ServerAddress::Tcp {
            host: host.to_owned(),
            port: Some(port),
        }];
        options.direct_connection = Some(true);
        options.app_name = Some("mothership".to_owned());
        // The router's pools have the limit.
        options.max_pool_size = Some(u32::from(u16::MAX));
        options.connect_timeout = Some(login.connect_timeout);
        options.server_selection_timeout = Some(login.connect_timeout);
        // The driver must not retry: only the session knows what the client has seen.
        options.retry_reads = Some(false);
        options.retry_writes = Some(false);
        options.credential = login.user.map(|(user, password)| {
            let mut credential = Credential::default();
            credential.username = Some(user);
            credential.password = Some(password);
            credential
        });
        options.tls = login.tls.map(|tls| {
            let mut encryption = TlsOptions::default();
            encryption.ca_file_path = tls.ca;
            encryption.cert_key_file_path = tls.certificate;
            encryption.allow_invalid_certificates = Some(!tls.verifies);
            Tls::Enabled(encryption)
        });
        Member {
            options,
            host: format!("{host}:{port}"),
            collections,
            decisions: Decisions::new(schema),
            way: None,
            clients: Mutex::default(),
            running: Running::default(),
        }
    }

    /// Reads of a few documents go this way, past the driver.
    pub fn with(mut self, way: DirectOptions) -> Member {
        self.way = Some(Arc::new(way));
        self
    }

    /// The client of this thread.
    pub(super) fn client(&self) -> io::Result<Client> {
        let mut clients = lock(&self.clients);
        let thread = std::thread::current().id();
        if let Some(client) = clients.get(&thread) {
            return Ok(client.clone());
        }
        let client = Client::with_options(self.options.clone()).map_err(io::Error::other)?;
        clients.insert(thread, client.clone());
        Ok(client)
    }
}

impl Interpreter for Member {
    fn dial(&self) -> io::Result<Pipe> {
        let (near, far) = pipe();
        let client = self.client()?;
        let (collections, running) = (Arc::clone(&self.collections), self.running.clone());
        let decisions = self.decisions.clone();
        let party = Party::Member {
            client,
            decisions,
            direct: Box::new(Direct::new(self.way.clone())),
        };
        tokio::spawn(conversation::hold(far, party, collections, running));
        Ok(near)
    }
}

impl Running {
    /// A connection's number and secret, and what says from then on that it was cancelled.
    pub fn enter(&self) -> (i32, i32, Arc<AtomicBool>) {
        static NEXT: AtomicI32 = AtomicI32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        let (secret, cancelled) = (rand::random(), Arc::<AtomicBool>::default());
        let entry = Entry {
            secret,
            session: Document::new(),
            cancelled: Arc::clone(&cancelled),
        };
        lock(&self.0).insert(number, entry);
        (number, secret, cancelled)
    }

    /// What it does is done in this session of MongoDB's from now on.
    pub fn works_as(&self, number: i32, session: &Document) {
        if let Some(entry) = lock(&self.0).get_mut(&number) {
            entry.session.clone_from(session);
        }
    }

    /// Marks a connection as cancelled, if the secret is right. Returns the session of MongoDB that the caller has to kill;
    /// `None` if the secret is wrong, or the connection has no session yet.
    pub fn cancel(&self, number: i32, secret: i32) -> Option<Document> {
        let running = lock(&self.0);
        let entry = running
            .get(&number)
            .filter(|entry| entry.secret == secret)?;
        entry.cancelled.store(true, Ordering::Relaxed);
        (!entry.session.is_empty()).then(|| entry.session.clone())
    }

    /// The connection has ended.
    pub fn leave(&self, number: i32) {
        lock(&self.0).remove(&number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while holding it left plain values.
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
