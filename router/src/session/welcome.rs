//! What a session begins with and what a server says of it after login.

use super::servers::AttachedId;
use super::state::State;
use super::{Halt, Servers, Session};
use crate::commit::steps::Reply;
use crate::core::welcomes::{Welcome, WelcomeKey};
use crate::core::{ClientNumber, LoginNames};
use crate::defaults::{self, Begins};
use crate::log::client_text;
use crate::statements::reported_parameters::ReportedParameters;
use crate::statements::settings::{Settings, Value};
use crate::statements::step::refusal;
use mothership_pool::connection::{Parameters, remember};
use mothership_proto::backend::{self, TxStatus};
use mothership_proto::report::{Report, sqlstate};
use mothership_proto::startup::{Protocol, put_backend_key};
use std::rc::Rc;
use std::sync::Arc;

impl Servers {
    fn says_no_beginning(&mut self, at: AttachedId) -> Halt {
        if let Some(attached) = self.get_mut(at) {
            attached.lease.doubt();
        }
        let message = "server did not say what a session begins with";
        Report::error(sqlstate::CONNECTION_FAILURE, message).into()
    }
}

impl State {
    /// What roles and databases begin with is set on every server: those of MongoDB have none,
    /// and what a statement is planned by and what it runs by must be one, also after ALTER ROLE.
    fn begin_with(&mut self, defaults: &[(String, String)]) {
        for (name, value) in defaults {
            let value = Value::Text(value.clone());
            self.settings.begin_with(name, value);
        }
    }
}

impl Session {
    /// Says what a server says after login. `None` if the session has ended.
    pub(crate) async fn welcome(
        mut self: Box<Self>,
        protocol: Protocol,
        number: ClientNumber,
    ) -> Option<Box<Self>> {
        // What it begins with is what connections have that are opened from now on.
        self.login.beginning.seen = self.core.see_altered();
        let home = self.home_database();
        let altered = &self.core.shared.altered;
        self.login.beginning.of = altered.last(&self.entry.who.names.server_user, &home);
        let mut settings = Settings::clone(self.state.settings.startup());
        settings.remove("application_name");
        let key = WelcomeKey {
            database: Arc::clone(&self.entry.who.names.database),
            user: Arc::clone(&self.entry.who.names.server_user),
            settings,
            epoch: self.epoch(),
            altered: self.login.beginning.of,
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
                self.leave(super::End::Told(report)).await;
                return None;
            }
            Err(_) => return None,
        }
        // A role or a database may say it, and the startup packet by a name of its own.
        let encoding = self.state.told.value(b"client_encoding");
        let encoding = encoding.map(String::from_utf8_lossy);
        let refused = encoding.and_then(|name| refusal("client_encoding", &name));
        if let Some(report) = refused {
            self.leave(super::End::Told(report.into_fatal())).await;
            return None;
        }
        self.state.told.begin();
        self.login.note_temporary(&mut self.state);
        self.note_rests();
        let most = self.topology.config.limits.metric_labels.get() as usize;
        let seen = Rc::clone(&self.entry.seen);
        let LoginNames { database, user, .. } = &*self.entry.who.names;
        self.state.tally = self.core.metrics.tally(database, user, seen, most);
        if let Some(Value::Text(name)) = self.state.settings.startup().get("application_name") {
            self.state.tally.application_name(name.as_bytes());
        }
        let secret = self.entry.secret.clone();
        self.client.with_output(|out| {
            put_backend_key(out, protocol, number.encode(), secret.bytes())
                .expect("the secret was made for this protocol");
            backend::put_ready(out, TxStatus::Idle);
        });
        if self.topology.config.logging.connections {
            let who = &self.entry.who;
            let most = self.topology.config.limits.log_text.get() as usize;
            tracing::info!(
                session = self.entry.who.number,
                user = %client_text(&who.names.user, most),
                database = %client_text(&who.names.database, most),
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
            let question = defaults::begins(&self.entry.who.names.server_user);
            let said = self.ask_beginning(at, &question).await?;
            let begins = Begins::read(&said).map(|begins| self.core.welcomes.share(begins));
            self.begin_as(&begins);
            welcome.begins = begins;
        }
        if self.topology.declared || !config.rules.is_empty() {
            let has_documents = !config.collections().is_empty();
            let said = self.ask_beginning(at, defaults::QUESTION).await?;
            let Some(said) = defaults::read(&said, has_documents) else {
                return Err(self.servers.says_no_beginning(at));
            };
            self.state.begin_with(&said);
            welcome.defaults = said;
        }
        welcome.settings = Arc::clone(self.state.settings.startup());
        Ok(welcome)
    }

    /// The only text of the only row of a question about what sessions begin with.
    async fn ask_beginning(&mut self, at: AttachedId, question: &str) -> Result<String, Halt> {
        let limit = self.topology.config.control.timeout;
        self.servers
            .send_router_query(at, question.as_bytes(), false);
        match tokio::time::timeout(limit, self.private_reply(at)).await {
            Ok((Reply::Done { row: Some(row), .. }, _)) => Ok(row),
            _ => Err(self.servers.says_no_beginning(at)),
        }
    }

    /// Notes what the session begins with. A role is set on every server, as if the startup packet had said so: SET ROLE
    /// NONE leaves it, and RESET ROLE and DISCARD ALL go back to it.
    fn begin_as(&mut self, begins: &Option<Arc<Begins>>) {
        self.login.beginning.begins.clone_from(begins);
        let role = begins.as_ref().and_then(|begins| begins.role());
        if let Some(role) = role {
            let role = Value::Text(role.to_owned());
            self.state.settings.begin_with("role", role);
        }
    }

    /// Says what another server said to a client with the same settings.
    fn repeat(&mut self, key: &WelcomeKey, mut welcome: Welcome) {
        self.state.begin_with(&welcome.defaults);
        self.begin_as(&welcome.begins);
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
                    welcome.told = ReportedParameters::new(list);
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
