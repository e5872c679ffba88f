//! What a client must know of its settings where no server tells it.
//!
//! Servers report settings by ParameterStatus, and the router passes on what is news to the client. Two things no server
//! reports. RESET takes a server to its own default, but the session to what its startup packet or its role said; servers
//! are brought there before the next statement. And when the router itself ends a transaction, or makes it fail, no answer
//! of a server goes to the client. A client that believes in another `client_encoding` or `standard_conforming_strings`
//! than is in force writes other values than it means. So the router tells it, ahead of ReadyForQuery.

use super::state::State;
use crate::statements::settings::Change;
use crate::statements::step::Kind;
use mothership_pool::connection::Parameters;
use mothership_pool::wire::Wire;
use mothership_proto::backend;
use mothership_sql::effect::DiscardWhat;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is reported of a server, and not of a session, in small letters.
const OF_SERVERS: [&[u8]; 4] = [
    b"in_hot_standby",
    b"integer_datetimes",
    b"server_encoding",
    b"server_version",
];

/// The name of a setting in small letters.
type Name = Vec<u8>;

/// What the open transaction has done to settings that are reported, and what the client must be told of them.
#[derive(Debug, Default)]
pub struct Unreported {
    /// What the client knew before the first change.
    before: Option<Arc<Parameters>>,
    /// What was changed, for the session or for the transaction.
    changed: BTreeSet<Name>,
    /// What of it was changed for the session.
    session: BTreeSet<Name>,
    /// What of it the request at hand has changed.
    at_hand: BTreeSet<Name>,
    /// What is in force now.
    now: InForce,
    /// What servers have reported since to the router alone, which brings them to the session's settings.
    unheard: BTreeMap<Name, Vec<u8>>,
    /// The savepoints that were set since.
    savepoints: Vec<Savepoint>,
    /// What the client must know of the end or the failure of a transaction, where the router and no server tells it.
    undone: BTreeMap<Name, Vec<u8>>,
    /// What RESET has left of a transaction that has ended.
    reset: BTreeMap<Name, Vec<u8>>,
}

/// Settings that are what the session began with, and that a server has otherwise.
#[derive(Clone, Debug, Default)]
struct InForce {
    /// Those of the session, with their values.
    reset: BTreeMap<Name, Vec<u8>>,
    /// What SET LOCAL has set. Without a value it is as servers say.
    local: BTreeMap<Name, Option<Vec<u8>>>,
}

/// A savepoint, and what the client knew when it was set.
#[derive(Debug)]
struct Savepoint {
    name: String,
    known: Arc<Parameters>,
    now: InForce,
    /// What was changed before it in the same request. Servers report settings at the end of a request only, so nobody
    /// knows what they were.
    unsure: BTreeSet<Name>,
}

fn lower(name: &[u8]) -> Name {
    name.to_ascii_lowercase()
}

/// What a server may report when a setting changes.
fn reported_by(setting: &str) -> Vec<Name> {
    let name = lower(setting.as_bytes());
    match &name[..] {
        b"role" | b"session_authorization" => {
            vec![b"is_superuser".to_vec(), b"session_authorization".to_vec()]
        }
        _ => vec![name],
    }
}

/// What a list says of these settings.
fn values<'l>(
    list: &'l Parameters,
    which: impl Fn(&Name) -> bool + 'l,
) -> impl Iterator<Item = (Name, Vec<u8>)> + 'l {
    let named = list.iter().map(|(name, value)| (lower(name), value));
    let found = named.filter(move |(name, _)| which(name));
    found.map(|(name, value)| (name, value.clone()))
}

impl Unreported {
    /// What is in force for the client, where it may have heard otherwise or nothing.
    fn expected(&self) -> BTreeMap<Name, Vec<u8>> {
        let heard = |name: &Name| Some((name.clone(), self.unheard.get(name)?.clone()));
        let mut expected: BTreeMap<_, _> = self.changed.iter().filter_map(heard).collect();
        expected.extend(self.now.reset.clone());
        for (name, value) in &self.now.local {
            match value.as_ref().or(self.unheard.get(name)) {
                Some(value) => drop(expected.insert(name.clone(), value.clone())),
                None => drop(expected.remove(name)),
            }
        }
        expected
    }

    /// What was changed since the last savepoint, or since the transaction began, is undone.
    fn undo(&mut self) {
        let none = BTreeSet::new();
        let (known, unsure) = match self.savepoints.last() {
            Some(last) => (Some(&last.known), &last.unsure),
            None => (self.before.as_ref(), &none),
        };
        if let Some(known) = known {
            let undone = |name: &Name| self.changed.contains(name) && !unsure.contains(name);
            self.undone.extend(values(known, undone));
        }
        let last = self.savepoints.last();
        self.now = last.map(|last| last.now.clone()).unwrap_or_default();
        // That was before.
        self.unheard.clear();
    }
}

impl State {
    /// A statement has ended well that may change settings.
    pub(super) fn note_reported(&mut self, kind: &Kind) {
        let (changes, is_local) = match kind {
            Kind::Settings(changes) => (&changes[..], false),
            Kind::LocalConfig(Some(changes)) => (&changes[..], true),
            Kind::SetLocal(change, _) => (std::slice::from_ref(change), true),
            Kind::Discard(DiscardWhat::All) => (&[Change::DiscardAll][..], false),
            _ => return,
        };
        for change in changes {
            let mut names = self.changed_by(change);
            // Of others nobody tells the client anything.
            let is_reported = |name: &Name| {
                let mut list = self.told.list().iter();
                list.any(|(known, _)| known.eq_ignore_ascii_case(name))
            };
            names.retain(is_reported);
            if !names.is_empty() {
                self.note_change();
            }
            for name in names {
                let began_with = match change {
                    Change::Set(_) => None,
                    Change::Reset(_) | Change::ResetAll { .. } | Change::DiscardAll => {
                        self.began_with(&name)
                    }
                };
                let unreported = self.unreported.made();
                unreported.undone.remove(&name);
                unreported.reset.remove(&name);
                unreported.changed.insert(name.clone());
                unreported.at_hand.insert(name.clone());
                if is_local {
                    unreported.now.local.insert(name, began_with);
                    continue;
                }
                unreported.session.insert(name.clone());
                unreported.now.local.remove(&name);
                match began_with {
                    Some(value) => drop(unreported.now.reset.insert(name, value)),
                    None => drop(unreported.now.reset.remove(&name)),
                }
            }
        }
    }

    fn changed_by(&self, change: &Change) -> Vec<Name> {
        let passed_over: &[String] = match change {
            Change::Set(setting) => return reported_by(&setting.name),
            Change::Reset(name) => return reported_by(name),
            Change::ResetAll { passes_over } => passes_over,
            Change::DiscardAll => &[],
        };
        let of_session = |name: &Name| {
            let passed = |other: &String| other.as_bytes().eq_ignore_ascii_case(name);
            !OF_SERVERS.contains(&&**name) && !passed_over.iter().any(passed)
        };
        let all = values(self.told.list(), of_session);
        all.map(|(name, _)| name).collect()
    }

    /// What the client was told of a setting at its login, if it goes back there and not to what a server says.
    fn began_with(&self, name: &Name) -> Option<Vec<u8>> {
        let mut startup = self.settings.startup().iter();
        let is_said = startup.any(|said| said.name.as_bytes().eq_ignore_ascii_case(name));
        let mut first = values(self.told.first(), |known| known == name);
        first.next().filter(|_| is_said).map(|(_, value)| value)
    }

    /// SAVEPOINT.
    pub(super) fn note_reported_at(&mut self, savepoint: &str) {
        let known = self.believed();
        if let Some(unreported) = self.unreported.get_mut() {
            unreported.savepoints.push(Savepoint {
                name: savepoint.to_owned(),
                known,
                now: unreported.now.clone(),
                unsure: unreported.at_hand.clone(),
            });
        }
    }

    /// What the client knows once it is told what is due.
    fn believed(&self) -> Arc<Parameters> {
        let list = self.told.list();
        let Some(unreported) = self.unreported.get() else {
            return Arc::clone(list);
        };
        if unreported.undone.is_empty() && unreported.reset.is_empty() {
            return Arc::clone(list);
        }
        let due = |(name, value): &(Vec<u8>, Vec<u8>)| {
            let lower = lower(name);
            let due = unreported.undone.get(&lower);
            let due = due.or_else(|| unreported.reset.get(&lower));
            (name.clone(), due.unwrap_or(value).clone())
        };
        Arc::new(list.iter().map(due).collect())
    }

    /// A setting has changed.
    fn note_change(&mut self) {
        if self.unreported.get().is_none_or(|u| u.before.is_none()) {
            let known = self.believed();
            self.unreported.made().before = Some(known);
        }
    }

    /// The client is about to be told of a setting.
    pub(super) fn note_told(&mut self, name: &[u8]) {
        self.note_change();
        self.unreported.made().unheard.remove(&lower(name));
    }

    /// A server has reported a setting to the router alone.
    pub(super) fn note_unheard(&mut self, report: &[u8]) {
        if let (Some(unreported), Ok((name, value))) =
            (self.unreported.get_mut(), backend::parameter(report))
        {
            unreported.unheard.insert(lower(name), value.to_vec());
        }
    }

    /// RELEASE, or ROLLBACK TO, which undoes what was changed since. A savepoint that is not in the list was set before the
    /// first change.
    pub(super) fn leave_reported_at(&mut self, savepoint: &str, undoes: bool) {
        let Some(unreported) = self.unreported.get_mut() else {
            return;
        };
        let mut all = unreported.savepoints.iter();
        let at = all.rposition(|set| set.name == savepoint);
        let left = at.map_or(0, |at| at + usize::from(undoes));
        unreported.savepoints.truncate(left);
        if undoes {
            unreported.undo();
        }
    }

    /// The transaction has failed.
    pub(super) fn undo_reported(&mut self) {
        if let Some(unreported) = self.unreported.get_mut() {
            unreported.undo();
        }
    }

    /// The transaction is over.
    pub(super) fn end_reported(&mut self, is_committed: bool) {
        let Some(unreported) = self.unreported.get_mut() else {
            return;
        };
        let ended = std::mem::take(unreported);
        unreported.undone = ended.undone;
        unreported.reset = ended.reset;
        let undone = |name: &Name| {
            let stays = is_committed && ended.session.contains(name);
            ended.changed.contains(name) && !stays
        };
        if let Some(known) = &ended.before {
            unreported.undone.extend(values(known, undone));
        }
        if is_committed {
            unreported.reset.extend(ended.now.reset);
        }
    }

    /// A server ends the request, and has told what became of its settings.
    pub(super) fn leave_undone_to_server(&mut self) {
        if let Some(unreported) = self.unreported.get_mut() {
            unreported.undone.clear();
        }
    }

    /// Tells the client what it must know ahead of ReadyForQuery.
    pub(super) fn put_unreported(&mut self, client: &mut Wire) {
        let Some(unreported) = self.unreported.get_mut() else {
            return;
        };
        unreported.at_hand.clear();
        let mut due = unreported.expected();
        due.append(&mut unreported.reset);
        due.append(&mut unreported.undone);
        if unreported.before.is_none() {
            self.unreported.clear();
        }
        for (name, value) in due {
            let mut known = self.told.list().iter();
            let known = known.find(|(known, _)| known.eq_ignore_ascii_case(&name));
            let Some((name, _)) = known.filter(|(_, known)| *known != value).cloned() else {
                continue;
            };
            self.told.add(&name, &value);
            if name == b"application_name" {
                self.tally.application_name(&value);
            }
            client.with_output(|out| backend::put_parameter(out, &name, &value));
        }
    }
}
