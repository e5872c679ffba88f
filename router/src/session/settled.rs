//! A prepared statement and settings that have changed since it was parsed.
//!
//! PostgreSQL has read its literals by the settings of that moment, and they stay what they are. Where the statement is
//! not known yet, a server is brought to those settings, parses it, and is brought back.

use super::servers::AttachedId;
use super::{Halt, Session};
use crate::statements::names::{Meaning, Origin, Prepared};
use crate::statements::settings::Settings;
use crate::statements::step::steps;
use mothership_proto::report::{Report, sqlstate};
use std::rc::Rc;
use std::sync::Arc;

/// How a server was brought to the settings of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SettingsApplied {
    /// It has them.
    Not,
    /// Within a savepoint, which takes them back.
    InSavepoint,
    /// By SET.
    Set,
}

/// The savepoint of the router's own.
const SAVEPOINT: &str = "\"__mothership_settings\"";

impl Session {
    /// The statement of a name, for the settings that hold now.
    ///
    /// # Errors
    /// Where it would be placed by other settings than those that its literals were read by, or PostgreSQL would read
    /// them by those of the first run after a change of the search path or the role, which is not followed.
    pub(super) fn as_it_runs(&self, statement: &Rc<Prepared>) -> Result<Rc<Prepared>, Halt> {
        if self.is_there_as_given(statement) {
            // Its server sees to what settings do to it, as PostgreSQL does for everybody.
            return Ok(Rc::clone(statement));
        }
        let statement = &self.with_fixed_types(statement);
        let now = self.environment();
        // Where tables are declared since, it needs a name that nobody else can give away.
        let misnamed = statement.is_given() && self.known.model.is_some();
        if now.number == statement.used_in && !misnamed {
            return Ok(Rc::clone(statement));
        }
        let kinds = statement.literal_kinds;
        let differs = !kinds.mean_the_same(&now, &statement.environment);
        let anew = now.anew != statement.environment.anew;
        if (self.known.model.is_some() || anew) && differs {
            return Err(read_by_others().into());
        }
        // What a session has for itself on its servers nobody else gets.
        let own = statement.is_given() || !self.state.pins.is_empty();
        if own && !misnamed {
            return Ok(Rc::clone(statement));
        }
        Ok(self.core.interner.elsewhere(statement, now.number))
    }

    /// A statement with the types of parameters that it was prepared with, if definitions or the search path have changed
    /// since: a server would find the types anew, and maybe others. As it is if nobody knows them.
    pub(super) fn with_fixed_types(&self, statement: &Rc<Prepared>) -> Rc<Prepared> {
        let changed = statement.epoch != self.epoch()
            || self.environment().anew != statement.environment.anew;
        let known = statement.parameter_types.get().filter(|_| changed);
        let Some(types) = known.filter(|_| !statement.is_given()) else {
            return Rc::clone(statement);
        };
        self.core.interner.fixed(statement, types, || {
            let body = match (&statement.origin, statement.steps.as_slice()) {
                (Origin::Prepare(_), [step]) => step.span.of(&statement.sql),
                _ => &statement.sql,
            };
            let strings = self.standard_strings();
            let meaning = match self.shaped(body) {
                Some(shaped) => Meaning::from(shaped),
                None => Meaning::from(steps(body, strings)),
            };
            (body.into(), meaning)
        })
    }

    /// Brings a server to the settings by which the literals of a statement were read.
    pub(super) async fn bring_as_parsed(
        &mut self,
        at: AttachedId,
        statement: &Rc<Prepared>,
    ) -> Result<SettingsApplied, Halt> {
        let now = self.environment();
        let then = &statement.environment;
        if statement.literal_kinds.mean_the_same(&now, then) {
            return Ok(SettingsApplied::Not);
        }
        let in_force = Arc::clone(self.state.in_force());
        let mut wanted = Settings::clone(&in_force);
        now.literals.iter().for_each(|s| wanted.remove(&s.name));
        for setting in &then.literals {
            wanted.set(&setting.name, setting.value.clone());
        }
        if self.servers[at].inbox.in_block {
            let sets = wanted.sql_from(&in_force);
            self.tell(at, &format!("SAVEPOINT {SAVEPOINT};{sets}"))
                .await?;
            return Ok(SettingsApplied::InSavepoint);
        }
        self.bring_to(at, &Arc::new(wanted)).await?;
        Ok(SettingsApplied::Set)
    }

    /// Brings it back.
    pub(super) async fn bring_as_it_was(
        &mut self,
        at: AttachedId,
        brought: SettingsApplied,
    ) -> Result<(), Halt> {
        match brought {
            SettingsApplied::Not => Ok(()),
            SettingsApplied::InSavepoint => {
                let back =
                    format!("ROLLBACK TO SAVEPOINT {SAVEPOINT};RELEASE SAVEPOINT {SAVEPOINT}");
                self.tell(at, &back).await
            }
            SettingsApplied::Set => self.bring_settings(at).await,
        }
    }
}

fn read_by_others() -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "the settings have changed since this statement was prepared",
    )
    .detail("it has literals that may mean something else under other settings")
    .hint("Prepare it again, or give the values as parameters.")
}
