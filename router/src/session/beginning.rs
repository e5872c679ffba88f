//! What a session began with, and keeps whatever roles and databases are altered to later.
//!
//! New connections have the new defaults. A session of before is brought to its own by SET, as if its startup packet had
//! said so: RESET goes back there too.

use super::choose::KnownPools;
use super::servers::AttachedId;
use super::state::State;
use super::{Halt, Session};
use crate::config::PoolMode;
use crate::defaults::{Begins, begins, says_temporary};
use crate::statements::settings::{Settings, Value, no_settings};
use mothership_proto::auth::Credentials;
use std::sync::Arc;

/// What a session began with.
#[derive(Debug)]
pub struct Beginning {
    /// The last change for its role and database before it began.
    pub of: u64,
    /// How many changes there were when it saw to it last that its connections have what it began with.
    pub seen: u64,
    /// The settings, if a server has said them.
    pub begins: Option<Arc<Begins>>,
    /// What is set for it since, because connections begin otherwise. Nearly no session has any of it, and all those share
    /// one empty list.
    pub kept: Arc<Settings>,
}

impl Default for Beginning {
    fn default() -> Self {
        Self {
            of: 0,
            seen: 0,
            begins: None,
            kept: no_settings(),
        }
    }
}

/// As what a session has logged in, and what it reaches by that.
pub(super) struct Login {
    /// What opens connections on its behalf; none if the servers must trust us.
    pub credentials: Option<Box<Credentials>>,
    pub pool_mode: PoolMode,
    /// What it began with.
    pub beginning: Beginning,
    /// The pools that it has used.
    pub pools: KnownPools,
}

impl Login {
    pub fn new(credentials: Option<Box<Credentials>>, pool_mode: PoolMode) -> Self {
        Self {
            credentials,
            pool_mode,
            beginning: Beginning::default(),
            pools: KnownPools::default(),
        }
    }

    /// Notes what the startup packet, or a role or a database, says of temporary objects.
    pub(super) fn note_temporary(&mut self, state: &mut State) {
        let own = state.settings.startup().get("search_path");
        let says = |value: &Value| match value {
            Value::Text(text) | Value::Statement(text) => says_temporary(text),
        };
        let begun = self.beginning.begins.as_ref();
        state.makes_temporary =
            own.is_some_and(says) || begun.is_some_and(|begun| begun.has_temporary_schema());
    }
}

impl Session {
    /// Whether connections begin with what the session began with, as far as it is known.
    pub(super) fn is_as_begun(&self) -> bool {
        self.login.beginning.seen == self.core.shared.altered.count()
    }

    /// The database of the session on the home shard.
    pub(super) fn home_database(&self) -> String {
        let name = &self.entry.who.names.database;
        self.topology.database_on(name, self.topology.home)
    }

    /// Sees to it that a connection which was opened since `altered` changes has what the session began with.
    pub(super) async fn keep_beginning(
        &mut self,
        at: AttachedId,
        altered: u64,
    ) -> Result<(), Halt> {
        let last = {
            let role = &self.entry.who.names.server_user;
            let known = &self.core.shared.altered;
            known.last(role, &self.home_database())
        };
        let concerned = last > self.login.beginning.seen;
        if concerned && let Some(began) = self.login.beginning.begins.clone() {
            self.ready_for_row(at).await?;
            let question = begins(&self.entry.who.names.server_user);
            self.ask(at, question.as_bytes()).await?;
            let answer = self.servers.get_mut(at).and_then(|s| s.inbox.row.take());
            let now = answer.and_then(|answer| Begins::read(&answer));
            let is_set = |name: &str| self.state.settings.outside().get(name).is_some();
            let kept = now.map(|now| began.kept(&now, is_set)).unwrap_or_default();
            for (name, value) in kept {
                let value = Value::Text(value);
                Arc::make_mut(&mut self.login.beginning.kept).set(&name, value.clone());
                self.state.keep_setting(&name, &value);
            }
            let outside = Arc::clone(self.state.settings.outside());
            self.bring_to(at, &outside).await?;
        }
        self.login.beginning.seen = altered;
        Ok(())
    }
}
