//! What servers say after login: asked once for each kind of startup settings, and said again to those who come after.

use crate::defaults::Begins;
use crate::statements::reported_parameters::ReportedParameters;
use crate::statements::settings::Settings;
use foldhash::HashMap;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// What the answer to a login depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WelcomeKey {
    /// By the name of its client.
    pub database: Arc<str>,
    /// The role on the servers.
    pub user: Arc<str>,
    /// Without the application's name.
    pub settings: Settings,
    /// Definitions as they were: ALTER ROLE and ALTER DATABASE change what a session begins with.
    pub epoch: u64,
    /// The last change of what its role and database begin with that is known.
    pub altered: u64,
}

/// What a session begins with: that of the last one, for clients of one program come one after the other, and keep lists
/// in common.
#[derive(Clone, Debug)]
pub struct Welcome {
    /// What a server reports.
    pub told: ReportedParameters,
    /// The same as messages.
    pub messages: Arc<[u8]>,
    /// Its settings, with its own name for itself.
    pub settings: Arc<Settings>,
    /// What roles and databases begin with, where the startup packet sets nothing else: name and value.
    pub defaults: Vec<(String, String)>,
    /// All that it begins with.
    pub begins: Option<Arc<Begins>>,
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
pub struct Asker<'a> {
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
            told: ReportedParameters::new(Arc::new(self.told.list().to_vec())),
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

    /// What is known for this kind.
    pub fn get(&self, key: &WelcomeKey) -> Option<Welcome> {
        let known = self.known.borrow().0.get(key).cloned();
        known.or_else(|| {
            let of_another = self.all().0.get(key).map(Welcome::apart)?;
            let mut known = self.known.borrow_mut();
            known.remember(key.clone(), of_another.clone());
            Some(of_another)
        })
    }

    /// One of equal lists: there are few different ones.
    pub fn share(&self, begins: Begins) -> Arc<Begins> {
        let all = self.all();
        let known = all.0.values().filter_map(|welcome| welcome.begins.as_ref());
        let equal = known.into_iter().find(|known| ***known == begins);
        equal.map_or_else(|| Arc::new(begins.clone()), Arc::clone)
    }

    fn all(&self) -> MutexGuard<'_, Known> {
        self.of_all.lock().expect("nobody panics while holding it")
    }

    /// What wakes when somebody has ended to ask for the same; `None` if nobody asks.
    pub fn asked(&self, key: &WelcomeKey) -> Option<Rc<Notify>> {
        self.asked.borrow().get(key).cloned()
    }

    /// Notes that somebody asks, until the result is dropped.
    pub fn ask(&self, key: &WelcomeKey) -> Asker<'_> {
        let mut asked = self.asked.borrow_mut();
        // If the first asker fails, several of those who waited ask. Some already wait on the bell that is there.
        asked.entry(key.clone()).or_default();
        Asker {
            welcomes: self,
            key: key.clone(),
        }
    }

    /// The last one had another name.
    pub fn replace(&self, key: &WelcomeKey, welcome: Welcome) {
        if let Some(known) = self.known.borrow_mut().0.get_mut(key) {
            *known = welcome;
        }
    }

    /// Keeps an answer for all cores.
    pub fn remember(&self, key: WelcomeKey, welcome: Welcome) {
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
            told: ReportedParameters::new(Arc::new(vec![(b"a".to_vec(), b"b".to_vec())])),
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

    #[test]
    fn who_waits_is_woken_also_where_several_ask_for_the_same() {
        let welcomes = Welcomes::default();
        let key = WelcomeKey {
            database: "app".into(),
            user: "u".into(),
            settings: Settings::default(),
            epoch: 0,
            altered: 0,
        };
        let first = welcomes.ask(&key);
        let bell = welcomes.asked(&key).unwrap();
        let waiting = bell.notified();
        let second = welcomes.ask(&key);
        drop(first);
        let mut waiting = std::pin::pin!(waiting);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(waiting.as_mut().poll(&mut cx).is_ready());
        drop(second);
        assert!(welcomes.asked(&key).is_none());
    }
}
