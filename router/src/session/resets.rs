//! What is in force in a transaction, and what it goes back to.
//!
//! Two things differ from a plain list of settings. What SET LOCAL ... TO DEFAULT has set is in force from no SET, so
//! RESET ALL passes over it, and the session's own value shows again after the transaction (PostgreSQL, guc.c:
//! ResetAllOptions). And a server that runs a RESET goes back to its own default, a session to what its startup packet
//! said: servers are told so before the next statement.

use super::state::State;
use crate::statements::settings::{Change, Setting, Settings, local_sql};
use crate::statements::step::Kind;
use mothership_sql::effect::DiscardWhat;
use std::borrow::Cow;
use std::sync::Arc;

impl State {
    /// The settings in force, those of the transaction included.
    pub fn in_force(&self) -> &Arc<Settings> {
        self.local.as_deref().unwrap_or(&self.settings).current()
    }

    /// A kind of statement with what it does where things stand now.
    pub fn as_done<'a>(&self, kind: &'a Kind) -> Cow<'a, Kind> {
        match (kind, &self.local) {
            (Kind::Settings(changes), Some(local)) if changes.contains(&Change::RESET_ALL) => {
                let passes_over = local.current().defaulted().to_vec();
                Cow::Owned(Kind::Settings(vec![Change::ResetAll { passes_over }]))
            }
            _ => Cow::Borrowed(kind),
        }
    }

    /// The same as servers do it: what the startup packet says was set there, so RESET ALL does not pass over it.
    pub fn on_servers<'a>(&self, done: &'a Kind) -> Cow<'a, Kind> {
        match done {
            Kind::Settings(changes) => match &changes[..] {
                [Change::ResetAll { passes_over }] if !passes_over.is_empty() => {
                    let startup = self.settings.startup();
                    let mut passes_over = passes_over.clone();
                    passes_over.retain(|name| startup.get(name).is_none());
                    Cow::Owned(Kind::Settings(vec![Change::ResetAll { passes_over }]))
                }
                _ => Cow::Borrowed(done),
            },
            _ => Cow::Borrowed(done),
        }
    }

    /// True for what takes a server to its own default where the session goes back to its startup packet's: it must be
    /// brought there before the next statement.
    pub fn leaves_startup(&self, kind: &Kind) -> bool {
        let startup = self.settings.startup();
        let leaves = |change: &Change| match change {
            Change::Set(_) => false,
            Change::Reset(name) => startup.get(name).is_some(),
            Change::ResetAll { .. } | Change::DiscardAll => !startup.is_empty(),
        };
        match kind {
            Kind::Settings(changes) | Kind::LocalConfig(Some(changes)) => {
                changes.iter().any(leaves)
            }
            Kind::SetLocal(change, _) => leaves(change),
            Kind::Discard(DiscardWhat::All) => !startup.is_empty(),
            _ => false,
        }
    }

    /// What its servers are to be told after a statement that leaves the startup packet's value in force for the
    /// transaction.
    pub fn restore_startup(&mut self, done: &Kind) {
        let (Some(local), true) = (&self.local, self.leaves_startup(done)) else {
            return;
        };
        let startup = self.settings.startup();
        let defaulted = local.current().defaulted().iter();
        let restored = defaulted.filter_map(|name| {
            let value = startup.get(name)?.clone();
            let name = name.clone();
            Some(Change::Set(Setting { name, value }))
        });
        let restored: Vec<_> = restored.collect();
        if !restored.is_empty() {
            self.history.local(&local_sql(&restored));
        }
    }

    /// Changes what is in force until the transaction ends.
    pub(super) fn apply_local(&mut self, changes: &[Change]) {
        let local = self
            .local
            .get_or_insert_with(|| Box::new(self.settings.clone()));
        changes.iter().for_each(|change| local.apply_local(change));
    }
}
