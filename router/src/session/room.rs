//! Whether there is room for what a statement would leave in the router: settings,
//! savepoints, cursors, prepared statements. Asked before the statement is sent, so
//! that a server never has what the router does not know.

use super::state::State;
use super::{Halt, Session};
use crate::statements::settings::{Change, Settings};
use crate::statements::step::Kind;
use crate::topology::Topology;
use mothership_proto::report::{Report, sqlstate};

impl Topology {
    /// Fails for a text that is too long for one statement.
    pub(super) fn check_text(&self, sql: &[u8]) -> Result<(), Halt> {
        let most = self.config.limits.statement.bytes();
        if sql.len() <= most {
            return Ok(());
        }
        let message = format!(
            "statement of {} bytes is over the limit of {most} bytes",
            sql.len()
        );
        let report = Report::error(sqlstate::PROGRAM_LIMIT_EXCEEDED, message);
        Err(report.hint("The setting is limits.statement.").into())
    }
}

impl State {
    /// Fails if one of these statements, which run in this order, leaves too much.
    pub(super) fn check_growth<'k>(
        &self,
        topology: &Topology,
        kinds: impl Iterator<Item = &'k Kind>,
    ) -> Result<(), Halt> {
        let limits = &topology.config.limits;
        let mut events = self.history.events().len();
        let mut cursors = self.portals.count();
        let mut settings: Option<Settings> = None;
        for kind in kinds {
            if leaves_a_deed(kind) {
                events += 1;
                let most = limits.savepoints.get() as usize;
                let what = "savepoints and changes of settings";
                within(events, most, what, "a transaction", "limits.savepoints")?;
            }
            match kind {
                Kind::Declare(name) if self.portals.get(name.as_bytes()).is_none() => {
                    cursors += 1;
                    let most = limits.client_portals.get() as usize;
                    within(
                        cursors,
                        most,
                        "cursors",
                        "a client",
                        "limits.client_portals",
                    )?;
                }
                Kind::Settings(changes) => {
                    let held =
                        settings.get_or_insert_with(|| Settings::clone(self.settings.current()));
                    for change in changes {
                        if let Change::Set(setting) = change {
                            held.set(&setting.name, setting.value.clone());
                        }
                    }
                    check_settings(held, limits)?;
                }
                Kind::SetTransaction(text) | Kind::SetLocal(_, text) => {
                    let held = self.history.local_bytes() + text.len();
                    check_texts(0, held, limits)?;
                }
                Kind::LocalConfig(Some(changes)) => {
                    let held = self.history.local_bytes();
                    check_texts(
                        0,
                        held + crate::statements::settings::local_sql(changes).len(),
                        limits,
                    )?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Session {
    /// Fails if the client may not prepare one more statement, of this name (none is
    /// the unnamed one) and text.
    pub(super) fn check_room(&self, name: &[u8], sql: &[u8]) -> Result<(), Halt> {
        let limits = &self.topology.config.limits;
        let (count, bytes) = self.state.names.size();
        if !name.is_empty() {
            let most = limits.client_statements.get() as usize;
            let what = "prepared statements";
            within(
                count + 1,
                most,
                what,
                "a client",
                "limits.client_statements",
            )?;
            let room = limits.client_statements_size.bytes();
            if bytes + name.len() + sql.len() > room {
                return Err(over_limit(
                    format!("a client's prepared statements may have {room} bytes"),
                    "limits.client_statements_size",
                )
                .into());
            }
        }
        let held = self.core.interner.held();
        let most = limits.shared_statements.get() as usize;
        let room = limits.shared_statements_size.bytes();
        if held.count < most && held.bytes < room {
            return Ok(());
        }
        // Whoever holds no more than its share pays nothing for those who do.
        let clients = self.core.sessions.borrow().len().max(1);
        let bound = || self.state.portals.bound();
        let bound_bytes: usize = bound().map(|portal| portal.statement.sql.len()).sum();
        let own = (count + bound().count(), bytes + bound_bytes);
        if held.count >= most && own.0 >= most / clients {
            return Err(over_limit(
                format!("all clients together have {most} prepared statements already"),
                "limits.shared_statements",
            )
            .into());
        }
        if held.bytes >= room && own.1 >= room / clients {
            return Err(over_limit(
                format!("the prepared statements of all clients have {room} bytes already"),
                "limits.shared_statements_size",
            )
            .into());
        }
        Ok(())
    }
}

/// True for what each server of the transaction must be told.
fn leaves_a_deed(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Savepoint(_)
            | Kind::Settings(_)
            | Kind::SetTransaction(_)
            | Kind::SetLocal(..)
            | Kind::LocalConfig(Some(_))
    )
}

/// Fails for more settings than a session may have; also asked at login.
pub fn check_settings(settings: &Settings, limits: &crate::config::Limits) -> Result<(), Report> {
    let (count, bytes) = settings.size();
    check_texts(count, bytes, limits)
}

fn check_texts(count: usize, bytes: usize, limits: &crate::config::Limits) -> Result<(), Report> {
    let most = limits.session_settings.get() as usize;
    within(
        count,
        most,
        "settings",
        "a session",
        "limits.session_settings",
    )?;
    let room = limits.session_settings_size.bytes();
    if bytes > room {
        return Err(over_limit(
            format!("a session's settings may have {room} bytes"),
            "limits.session_settings_size",
        ));
    }
    Ok(())
}

fn within(count: usize, most: usize, what: &str, whose: &str, setting: &str) -> Result<(), Report> {
    if count <= most {
        return Ok(());
    }
    Err(over_limit(
        format!("{whose} may have {most} {what}"),
        setting,
    ))
}

/// The report for what is over a configured limit.
pub(super) fn over_limit(message: String, setting: &str) -> Report {
    Report::error(sqlstate::LIMIT_EXCEEDED, message).hint(format!("The setting is {setting}."))
}
