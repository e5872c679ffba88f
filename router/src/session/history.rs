//! What a transaction has done so far that each of its servers must be told: savepoints
//! and settings, in the order in which they were given.
//!
//! Pure. A server has been told the first so many; before it works again it is told the
//! rest ([`super::attach`]). Order matters twice: `SET` after `SET LOCAL` wins and the
//! other way round, and going back to a savepoint must undo the same on every server.

use crate::statements::settings::{Change, Settings};
use mothership_sql::effect::{Statement, analyse};
use std::sync::Arc;

/// One thing that the transaction has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionEvent {
    /// SAVEPOINT.
    Savepoint(String),
    /// SET TRANSACTION, SET CONSTRAINTS, SET LOCAL: a statement that is repeated as it is.
    Local(String),
    /// Settings that outlive the transaction.
    Session {
        /// The changes in order.
        changes: Vec<Change>,
        /// What holds for the session after them.
        after: Arc<Settings>,
    },
}

/// The events of the open transaction.
#[derive(Clone, Debug, Default)]
pub struct History {
    events: Vec<TransactionEvent>,
}

impl History {
    /// The events in order.
    pub fn events(&self) -> &[TransactionEvent] {
        &self.events
    }

    /// What held for the session after the first `told` events, if it was changed by them and
    /// more events followed.
    pub fn settings_between(&self, told: usize) -> Option<&Arc<Settings>> {
        let (known, rest) = self.events.split_at_checked(told)?;
        let changed = known.iter().rev().find_map(|event| match event {
            TransactionEvent::Session { after, .. } => Some(after),
            TransactionEvent::Savepoint(_) | TransactionEvent::Local(_) => None,
        });
        changed.filter(|_| !rest.is_empty())
    }

    /// The bytes of the statements that hold for the transaction only.
    pub fn local_bytes(&self) -> usize {
        let local = |event: &TransactionEvent| match event {
            TransactionEvent::Local(sql) => sql.len(),
            TransactionEvent::Savepoint(_) | TransactionEvent::Session { .. } => 0,
        };
        self.events.iter().map(local).sum()
    }

    /// True if the savepoint is set.
    pub fn has_savepoint(&self, name: &str) -> bool {
        self.place(name).is_some()
    }

    /// SAVEPOINT.
    pub fn savepoint(&mut self, name: &str) {
        self.events
            .push(TransactionEvent::Savepoint(name.to_owned()));
    }

    /// ROLLBACK TO: the savepoint stays, what came after it is undone.
    pub fn rollback_to(&mut self, name: &str) {
        if let Some(at) = self.place(name) {
            self.events.truncate(at + 1);
        }
    }

    /// RELEASE: the savepoint and those after it are forgotten, the rest stays but what ends with them.
    pub fn release(&mut self, name: &str) {
        let Some(at) = self.place(name) else { return };
        let mut number = 0;
        self.events.retain(|event| {
            number += 1;
            number <= at
                || !(matches!(event, TransactionEvent::Savepoint(_))
                    || event.is_of_subtransaction())
        });
    }

    /// A statement that holds for the transaction only.
    pub fn local(&mut self, sql: &str) {
        self.events.push(TransactionEvent::Local(sql.to_owned()));
    }

    /// Settings of the session were changed; `after` holds now.
    pub fn session(&mut self, changes: &[Change], after: &Arc<Settings>) {
        self.events.push(TransactionEvent::Session {
            changes: changes.to_vec(),
            after: Arc::clone(after),
        });
    }

    /// The transaction has ended.
    pub fn clear(&mut self) {
        self.events.clear();
    }

    /// The last savepoint that is set: how many events were done before it, and its name.
    pub fn last_savepoint(&self) -> Option<(usize, &str)> {
        let events = self.events.iter().enumerate().rev();
        let mut savepoints = events.filter_map(|(at, event)| match event {
            TransactionEvent::Savepoint(name) => Some((at, name.as_str())),
            TransactionEvent::Local(_) | TransactionEvent::Session { .. } => None,
        });
        savepoints.next()
    }

    /// How many events were done before the savepoint.
    pub fn place(&self, name: &str) -> Option<usize> {
        let is = |event: &TransactionEvent| matches!(event, TransactionEvent::Savepoint(known) if known == name);
        self.events.iter().rposition(is)
    }
}

impl TransactionEvent {
    /// The statements that do it on a server which has done all before it.
    pub fn sql(&self) -> String {
        match self {
            Self::Savepoint(name) => format!("SAVEPOINT \"{}\"", name.replace('"', "\"\"")),
            Self::Local(sql) => sql.clone(),
            Self::Session { changes, after } => after.sql_of(changes),
        }
    }

    /// Whether it ends with the subtransaction that does it, be that released. So does READ ONLY, unlike other settings;
    /// what else SET TRANSACTION may say is refused there, or nothing new.
    fn is_of_subtransaction(&self) -> bool {
        let Self::Local(sql) = self else {
            return false;
        };
        match analyse(sql.as_bytes(), true).statement {
            Statement::SetTransaction(_) => true,
            Statement::Set { name, .. } | Statement::Reset(name) => name == "transaction_read_only",
            _ => false,
        }
    }

    /// Whether it takes the snapshot of another transaction, which only the server has that exported it.
    pub fn is_snapshot(&self) -> bool {
        let Self::Local(sql) = self else {
            return false;
        };
        // Whatever strings mean, the first words are the same.
        let statement = analyse(sql.as_bytes(), true).statement;
        matches!(statement, Statement::SetTransactionSnapshot(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statements::settings::{Setting, Value};

    fn set(name: &str, value: &str) -> Change {
        Change::Set(Setting {
            name: name.into(),
            value: Value::Statement(format!("SET {name} = {value}")),
        })
    }

    fn after(changes: &[(&str, &str)]) -> Arc<Settings> {
        let mut settings = Settings::default();
        for (name, value) in changes {
            settings.set(name, Value::Statement(format!("SET {name} = {value}")));
        }
        Arc::new(settings)
    }

    fn told(history: &History) -> Vec<String> {
        history.events().iter().map(TransactionEvent::sql).collect()
    }

    #[test]
    fn deeds_are_told_in_their_order() {
        let mut history = History::default();
        history.session(&[set("a", "1")], &after(&[("a", "1")]));
        history.local("SET LOCAL a = 2");
        history.savepoint("s");
        history.session(&[set("a", "1")], &after(&[("a", "1")]));
        history.session(&[set("a", "3")], &after(&[("a", "3")]));
        assert_eq!(
            told(&history),
            [
                "SET a = 1;",
                "SET LOCAL a = 2",
                "SAVEPOINT \"s\"",
                "SET a = 1;",
                "SET a = 3;"
            ]
        );
        history.rollback_to("s");
        assert_eq!(
            told(&history),
            ["SET a = 1;", "SET LOCAL a = 2", "SAVEPOINT \"s\""]
        );
    }

    #[test]
    fn a_reset_goes_back_to_what_the_session_began_with() {
        let mut history = History::default();
        history.session(&[Change::Reset("a".into())], &after(&[]));
        history.local("SET LOCAL b = 1");
        history.session(&[Change::Reset("b".into())], &after(&[("b", "0")]));
        history.local("SET LOCAL b = 1");
        history.session(&[Change::RESET_ALL], &after(&[("b", "0")]));
        assert_eq!(
            told(&history),
            [
                "RESET \"a\";",
                "SET LOCAL b = 1",
                "SET b = 0;",
                "SET LOCAL b = 1",
                "RESET ALL;SET b = 0;"
            ]
        );
    }

    #[test]
    fn released_savepoints_leave_what_was_done_after_them() {
        let mut history = History::default();
        history.savepoint("s");
        history.local("SET LOCAL a = 1");
        history.savepoint("t");
        history.local("SET LOCAL a = 2");
        history.savepoint("s");
        history.release("t");
        assert_eq!(
            told(&history),
            ["SAVEPOINT \"s\"", "SET LOCAL a = 1", "SET LOCAL a = 2"]
        );
        assert!(history.has_savepoint("s") && !history.has_savepoint("t"));
        history.release("s");
        assert_eq!(told(&history), ["SET LOCAL a = 1", "SET LOCAL a = 2"]);
    }

    #[test]
    fn released_savepoints_end_read_only() {
        let mut history = History::default();
        history.local("SET TRANSACTION READ WRITE");
        history.savepoint("s");
        history.local("SET TRANSACTION READ ONLY");
        history.local("SET LOCAL a = 1");
        history.local("SET CONSTRAINTS ALL DEFERRED");
        history.local("set transaction_read_only = on");
        history.release("s");
        assert_eq!(
            told(&history),
            [
                "SET TRANSACTION READ WRITE",
                "SET LOCAL a = 1",
                "SET CONSTRAINTS ALL DEFERRED"
            ]
        );
    }
}
