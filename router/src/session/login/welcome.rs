//! What a session begins with and what a server says of it after login. The answer is asked once for each kind of
//! startup settings, and said again to those who come after.

use crate::commit::steps::Reply;
use crate::core::{ClientNumber, Who};
use crate::defaults::{self, Begins};
use crate::log::client_text;
use crate::session::settings::{Settings, Value};
use crate::session::told::Told;
use crate::session::{Halt, Session};
use foldhash::HashMap;
use mothership_pool::connection::{Parameters, remember};
use mothership_proto::backend::{self, TxStatus};
use mothership_proto::report::{Report, sqlstate};
use mothership_proto::startup::{Protocol, put_backend_key};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// What the answer to a login depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WelcomeKey {
    database: Arc<str>,
    user: Arc<str>,
    settings: Settings,
    /// Definitions as they were: ALTER ROLE and ALTER DATABASE change what a session begins with.
    epoch: u64,
    /// The last change of what its role and database begin with that is known.
    altered: u64,
}

/// What a session begins with: that of the last one, for clients of one program come one after the other, and keep lists
/// in common.
#[derive(Clone, Debug)]
pub struct Welcome {
    /// What a server reports.
    told: Told,
    /// The same as messages.
    messages: Arc<[u8]>,
    /// Its settings, with its own name for itself.
    settings: Arc<Settings>,
    /// What roles and databases begin with, where the startup packet sets nothing else: name and value.
    defaults: Vec<(String, String)>,
    /// All that it begins with.
    begins: Option<Arc<Begins>>,
}

/// Answers for new clients, on one core.
#[derive(Debug, Default)]
pub struct Welcomes {
    known: RefCell<Known>,
    /// Those of all cores: a login needs no connection, which others may wait for, because it came to another core.
    of_all: Arc<Mutex<Known>>,
    /// Those that somebody asks a server for, and what wakes who needs the same.
    asked: RefCell<HashMap<WelcomeKey, Rc<Notify>>>,
}

/// That an answer is asked for, until this is dropped.
struct Asker<'a> {
    welcomes: &'a Welcomes,
    key: WelcomeKey,
}

/// Startup settings are the clients' own words, so there is a bound to how many are kept.
#[derive(Debug, Default)]
pub struct Known(HashMap<WelcomeKey, Welcome>);

/// Clients have few kinds of startup settings, or a new one each time.
const WELCOMES: usize = 1_000;

impl Known {
    fn remember(&mut self, key: WelcomeKey, welcome: Welcome) {
        self.0.retain(|other, _| other.epoch == key.epoch);
        if self.0.len() >= WELCOMES {
            // What is in use is asked for anew once, which costs a login a round trip.
            self.0.clear();
        }
        self.0.insert(key, welcome);
    }
}

impl Welcome {
    /// The same with lists of its own: cores that counted the users of one list would wait for each other.
    fn apart(&self) -> Self {
        Self {
            told: Told::new(Arc::new(self.told.list().to_vec())),
            messages: self.messages.to_vec().into(),
            settings: Arc::new(Settings::clone(&self.settings)),
            defaults: self.defaults.clone(),
            begins: self.begins.clone(),
        }
    }
}

impl Welcomes {
    /// Those of a core, which also has what the others know.
    pub fn of(all: &Arc<Mutex<Known>>) -> Self {
        Self {
            of_all: Arc::clone(all),
            ..Self::default()
        }
    }

    fn get(&self, key: &WelcomeKey) -> Option<Welcome> {
        let known = self.known.borrow().0.get(key).cloned();
        known.or_else(|| {
            let of_another = self.all().0.get(key).map(Welcome::apart)?;
            let mut known = self.known.borrow_mut();
            known.remember(key.clone(), of_another.clone());
            Some(of_another)
        })
    }

    /// One of equal lists: there are few different ones.
    fn share(&self, begins: Begins) -> Arc<Begins> {
        let all = self.all();
        let known = all.0.values().filter_map(|welcome| welcome.begins.as_ref());
        let equal = known.into_iter().find(|known| ***known == begins);
        equal.map_or_else(|| Arc::new(begins.clone()), Arc::clone)
    }

    fn all(&self) -> MutexGuard<'_, Known> {
        self.of_all.lock().expect("nobody panics while holding it")
    }

    /// What wakes when somebody has ended to ask for the same; `None` if nobody asks.
    fn asked(&self, key: &WelcomeKey) -> Option<Rc<Notify>> {
        self.asked.borrow().get(key).cloned()
    }

    fn ask(&self, key: &WelcomeKey) -> Asker<'_> {
        let mut asked = self.asked.borrow_mut();
        asked.insert(key.clone(), Rc::default());
        Asker {
            welcomes: self,
            key: key.clone(),
        }
    }

    /// The last one had another name.
    fn replace(&self, key: &WelcomeKey, welcome: Welcome) {
        if let Some(known) = self.known.borrow_mut().0.get_mut(key) {
            *known = welcome;
        }
    }

    fn remember(&self, key: WelcomeKey, welcome: Welcome) {
        self.all().remember(key.clone(), welcome.apart());
        self.known.borrow_mut().remember(key, welcome);
    }

    /// Forgets all, also what other cores know: servers may answer in another way now.
    pub fn forget(&self) {
        self.all().0.clear();
        self.known.borrow_mut().0.clear();
    }
}

impl Drop for Asker<'_> {
    fn drop(&mut self) {
        let bell = self.welcomes.asked.borrow_mut().remove(&self.key);
        if let Some(bell) = bell {
            bell.notify_waiters();
        }
    }
}

impl Session {
    /// Says what a server says after login. `None` if the session has ended.
    pub(super) async fn welcome(
        mut self: Box<Self>,
        protocol: Protocol,
        number: ClientNumber,
    ) -> Option<Box<Self>> {
        // What it begins with is what connections have that are opened from now on.
        self.beginning.seen = self.core.see_altered();
        let home = self.home_database();
        let altered = &self.core.shared.altered;
        self.beginning.of = altered.last(&self.entry.who.server_user, &home);
        let mut settings = Settings::clone(self.state.settings.startup());
        settings.remove("application_name");
        let key = WelcomeKey {
            database: Arc::clone(&self.entry.who.database),
            user: Arc::clone(&self.entry.who.server_user),
            settings,
            epoch: self.epoch(),
            altered: self.beginning.of,
        };
        // Boxed, because it is large, and few logins have to.
        let found = match self.core.welcomes.get(&key) {
            Some(welcome) => Ok(Some(welcome)),
            None => Box::pin(self.find_welcome(&key)).await,
        };
        match found {
            Ok(Some(welcome)) => self.repeat(&key, welcome),
            Ok(None) => {}
            Err(Halt::Fail(report)) => {
                self.leave(crate::session::End::Told(report)).await;
                return None;
            }
            Err(_) => return None,
        }
        self.note_temporary();
        let most = self.topology.config.limits.metric_labels.get() as usize;
        let seen = Rc::clone(&self.entry.seen);
        let Who { database, user, .. } = &self.entry.who;
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
        if self.topology.config.logging.connections {
            let who = &self.entry.who;
            let most = self.topology.config.limits.log_text.get() as usize;
            tracing::info!(
                session = self.entry.who.number,
                user = %client_text(&who.user, most),
                database = %client_text(&who.database, most),
                from = who.remote.as_ref().map(|remote| format!("{remote:?}")),
                tls = who.tls,
                "client logged in"
            );
        }
        Some(self)
    }

    /// Waits for who asks for the same already: clients that come together need one connection and not one each, which
    /// would be more than may wait for one. Else asks itself, and says what it was told: then there is none to repeat.
    async fn find_welcome(&mut self, key: &WelcomeKey) -> Result<Option<Welcome>, Halt> {
        let core = Rc::clone(&self.core);
        if let Some(bell) = core.welcomes.asked(key) {
            self.while_client_waits(bell.notified()).await?;
            // Who has waited for one that failed waits for no other: that would be one after the other.
            if let Some(welcome) = core.welcomes.get(key) {
                return Ok(Some(welcome));
            }
        }
        let _asker = core.welcomes.ask(key);
        let welcome = self.ask_welcome().await?;
        self.after_request();
        core.welcomes.remember(key.clone(), welcome);
        Ok(None)
    }

    /// Asks a server what a session begins with, which also checks the startup packet's
    /// settings. What it reports goes to the client.
    async fn ask_welcome(&mut self) -> Result<Welcome, Halt> {
        let at = self.attach(self.topology.home).await?;
        let mut welcome = Welcome {
            told: self.state.told.clone(),
            messages: messages(self.state.told.list()),
            settings: Arc::default(),
            defaults: Vec::new(),
            begins: None,
        };
        let config = Arc::clone(&self.topology);
        let config = &config.config;
        if config.has_postgres() {
            let said = self.ask_beginning(at, defaults::BEGINS).await?;
            let begins = Begins::read(&said).map(|begins| self.core.welcomes.share(begins));
            self.beginning.begins.clone_from(&begins);
            welcome.begins = begins;
        }
        if self.topology.declared || !config.rules.is_empty() {
            let has_documents = !crate::world::documents::collections(config).is_empty();
            let said = self.ask_beginning(at, defaults::QUESTION).await?;
            let Some(said) = defaults::read(&said, has_documents) else {
                return Err(self.says_no_beginning(at));
            };
            self.begin_with(&said);
            welcome.defaults = said;
        }
        welcome.settings = Arc::clone(self.state.settings.startup());
        Ok(welcome)
    }

    /// The only text of the only row of a question about what sessions begin with.
    async fn ask_beginning(&mut self, at: usize, question: &str) -> Result<String, Halt> {
        let limit = self.topology.config.control.timeout;
        self.send_router_query(at, question.as_bytes(), false);
        match tokio::time::timeout(limit, self.private_reply(at)).await {
            Ok((Reply::Done { row: Some(row), .. }, _)) => Ok(row),
            _ => Err(self.says_no_beginning(at)),
        }
    }

    fn says_no_beginning(&mut self, at: usize) -> Halt {
        if let Some(attached) = self.servers.get_mut(at) {
            attached.lease.doubt();
        }
        let message = "server did not say what a session begins with";
        Report::error(sqlstate::CONNECTION_FAILURE, message).into()
    }

    /// What roles and databases begin with is set on every server: those of MongoDB have none,
    /// and what a statement is planned by and what it runs by must be one, also after ALTER ROLE.
    fn begin_with(&mut self, defaults: &[(String, String)]) {
        for (name, value) in defaults {
            let value = Value::Text(value.clone());
            self.state.settings.begin_with(name, value);
        }
    }

    /// Says what another server said to a client with the same settings.
    fn repeat(&mut self, key: &WelcomeKey, mut welcome: Welcome) {
        self.begin_with(&welcome.defaults);
        self.beginning.begins.clone_from(&welcome.begins);
        let own = self.state.settings.startup();
        match *welcome.settings == **own {
            true => self.state.settings.begin_as(&welcome.settings),
            false => {
                let name = match own.get("application_name") {
                    Some(Value::Text(name)) => name.as_bytes(),
                    _ => b"",
                };
                let differs = |(n, v): &(Vec<u8>, Vec<u8>)| n == b"application_name" && v != name;
                if welcome.told.list().iter().any(differs) {
                    let mut list = Arc::clone(welcome.told.list());
                    remember(Arc::make_mut(&mut list), b"application_name", name);
                    welcome.messages = messages(&list);
                    welcome.told = Told::new(list);
                }
                welcome.settings = Arc::clone(own);
                self.core.welcomes.replace(key, welcome.clone());
            }
        }
        self.client.send(&welcome.messages);
        self.state.told = welcome.told;
    }
}

/// What tells a client of all these.
fn messages(told: &Parameters) -> Arc<[u8]> {
    let mut messages = Vec::new();
    for (name, value) in told {
        backend::put_parameter(&mut messages, name, value);
    }
    messages.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn answers_for_new_clients_are_kept_up_to_a_bound() {
        let welcomes = Welcomes::default();
        let key = |number: usize| WelcomeKey {
            database: "app".into(),
            user: format!("u{number}").into(),
            settings: Settings::default(),
            epoch: 0,
            altered: 0,
        };
        let welcome = Welcome {
            told: Told::new(Arc::new(vec![(b"a".to_vec(), b"b".to_vec())])),
            messages: Arc::default(),
            settings: Arc::default(),
            defaults: Vec::new(),
            begins: None,
        };
        for number in 0..WELCOMES * 3 {
            welcomes.remember(key(number), welcome.clone());
            assert!(welcomes.get(&key(number)).is_some());
            assert!(welcomes.known.borrow().0.len() <= WELCOMES);
            assert!(welcomes.all().0.len() <= WELCOMES);
        }
        assert!(welcomes.get(&key(0)).is_none());
        // Another core knows it too, until one of them is told to forget.
        let other = Welcomes::of(&welcomes.of_all);
        let last = key(WELCOMES * 3 - 1);
        let (own, others) = (welcomes.get(&last).unwrap(), other.get(&last).unwrap());
        assert_eq!(own.told.list(), others.told.list());
        assert!(!Arc::ptr_eq(own.told.list(), others.told.list()));
        other.forget();
        assert!(other.get(&last).is_none());
    }
}
