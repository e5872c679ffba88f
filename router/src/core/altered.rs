//! What roles and databases begin with (ALTER ROLE ... SET, ALTER DATABASE ... SET), who may connect, and that it was
//! changed.
//!
//! A server checks the right to connect, and gives a connection these defaults, when it is opened. So connections of before
//! a change serve nobody who comes after it: they are closed as they are given back. A change through this router counts at
//! once; the catalog of the home shard is looked at for all others once in `balance.probe_interval`.

use super::Core;
use crate::log::Chain;
use crate::tick;
use crate::topology::Topology;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Changes that are remembered by name; beyond, what is forgotten counts for everybody.
const MAX_ENTRIES: usize = 1_000;

/// Every setting of a role, a database or both, and who may connect to a database; one text for each.
const QUESTION: &str = "SELECT u.database, u.role, \
    pg_catalog.md5(pg_catalog.string_agg(u.value, '|' ORDER BY u.kind)) FROM ( \
    SELECT COALESCE(d.datname::pg_catalog.text, '') AS database, COALESCE(r.rolname::pg_catalog.text, '') AS role, \
        s.setconfig::pg_catalog.text AS value, 1 AS kind FROM pg_catalog.pg_db_role_setting s \
    LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) s.setdatabase \
    LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) s.setrole \
    UNION ALL SELECT d.datname::pg_catalog.text, '', d.datacl::pg_catalog.text, 2 FROM pg_catalog.pg_database d \
    WHERE d.datacl IS NOT NULL) u GROUP BY u.database, u.role LIMIT 20000";

/// A role and a database; none stands for all.
type Concerned = (Option<String>, Option<String>);

/// The changes that this router knows of.
#[derive(Debug, Default)]
pub struct Altered {
    count: AtomicU64,
    /// The number of the last one for each role and database.
    last: Mutex<HashMap<Concerned, u64>>,
}

impl Altered {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Another one, for a role, a database or both; none stands for all.
    pub fn note(&self, role: Option<&str>, database: Option<&str>) {
        let mut last = self.last.lock().expect("nobody panics while holding it");
        let number = self.count.load(Ordering::Acquire) + 1;
        if last.len() >= MAX_ENTRIES {
            last.clear();
            last.insert((None, None), number);
        }
        let own = |name: Option<&str>| name.map(str::to_owned);
        last.insert((own(role), own(database)), number);
        self.count.store(number, Ordering::Release);
    }

    /// Another one of a database, under all names that it has on shards.
    pub fn note_everywhere(&self, topology: &Topology, role: Option<&str>, database: &str) {
        for name in topology.names_of(database) {
            self.note(role, Some(&name));
        }
    }

    /// The number of the last one that concerns a role in a database.
    pub fn last(&self, role: &str, database: &str) -> u64 {
        let last = self.last.lock().expect("nobody panics while holding it");
        let fits = |own: &Option<String>, name: &str| own.as_deref().is_none_or(|own| own == name);
        let concerns = last
            .iter()
            .filter(|((r, d), _)| fits(r, role) && fits(d, database));
        concerns.map(|(_, number)| *number).max().unwrap_or(0)
    }
}

impl Topology {
    /// All names, on whichever shards, of the databases that are called `name` on one: whoever changes one of them there
    /// may have done so on the others.
    pub fn names_of(&self, name: &str) -> BTreeSet<String> {
        let mut names = BTreeSet::from([name.to_owned()]);
        for database in &self.config.databases {
            let shards = self.config.shards.iter();
            let own: Vec<&str> = shards
                .map(|shard| database.name_on(&shard.name).as_str())
                .collect();
            if own.contains(&name) {
                names.extend(own.into_iter().map(str::to_owned));
            }
        }
        names
    }
}

impl Core {
    /// Sees to it that no connection of before a change is lent any more. Returns how many changes there were.
    pub fn see_altered(&self) -> u64 {
        let altered = &self.shared.altered;
        let count = altered.count();
        let before = self.altered.replace(count);
        if before != count {
            for (key, pool) in self.pools() {
                if altered.last(&key.user, &key.database) > before {
                    pool.reconnect();
                }
            }
        }
        count
    }
}

/// Looks for changes that did not come through this router.
pub async fn watch_defaults(core: Rc<Core>) {
    let mut known: Option<Defaults> = None;
    loop {
        let topology = core.shared.topology();
        if topology.config.has_postgres() {
            match ask(&core, &topology).await {
                Ok(now) => {
                    for (database, role) in known.iter().flat_map(|before| changed(before, &now)) {
                        let some = |name: &'_ str| Some(name.to_owned()).filter(|n| !n.is_empty());
                        let (role, database) = (some(role), some(database));
                        let altered = &core.shared.altered;
                        match database {
                            Some(name) => {
                                altered.note_everywhere(&topology, role.as_deref(), &name)
                            }
                            None => altered.note(role.as_deref(), None),
                        }
                    }
                    known = Some(now);
                }
                Err(error) => {
                    tracing::debug!(error, "the defaults of roles could not be looked at");
                }
            }
        }
        tokio::time::sleep_until(tick::spaced(topology.config.balance.probe_interval)).await;
    }
}

type Defaults = HashMap<(String, String), String>;

/// The databases and roles whose settings are others than before.
fn changed<'d>(
    before: &'d Defaults,
    now: &'d Defaults,
) -> impl Iterator<Item = (&'d str, &'d str)> {
    let new = now
        .iter()
        .filter(|(key, value)| before.get(*key) != Some(*value));
    let gone = before.iter().filter(|(key, _)| !now.contains_key(*key));
    new.chain(gone)
        .map(|((database, role), _)| (&**database, &**role))
}

async fn ask(core: &Core, topology: &Topology) -> Result<Defaults, String> {
    let control = &topology.config.control;
    let lent = core
        .control
        .lend(topology, topology.home, control.database.as_str());
    let client = lent.await.map_err(|error| Chain(&error).to_string())?;
    let asked = client.ask_prepared(QUESTION, &[]);
    let rows = tokio::time::timeout(control.timeout, asked).await;
    let rows = match rows {
        Ok(rows) => rows.map_err(|error| Chain(&error).to_string())?,
        Err(_) => return Err("no answer in time".to_owned()),
    };
    let text = |row: &tokio_postgres::Row, at: usize| row.try_get::<_, String>(at).ok();
    let setting = |row| Some(((text(row, 0)?, text(row, 1)?), text(row, 2)?));
    Ok(rows.iter().filter_map(setting).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_concerns_whom_it_names() {
        let altered = Altered::default();
        assert_eq!(altered.last("alice", "app"), 0);
        altered.note(Some("alice"), None);
        assert_eq!((altered.count(), altered.last("alice", "app")), (1, 1));
        assert_eq!(altered.last("bob", "app"), 0);
        altered.note(None, Some("app"));
        assert_eq!(
            (altered.last("bob", "app"), altered.last("bob", "x")),
            (2, 0)
        );
        altered.note(Some("bob"), Some("x"));
        assert_eq!(
            (altered.last("bob", "app"), altered.last("bob", "x")),
            (2, 3)
        );
        for number in 0..MAX_ENTRIES {
            altered.note(Some(&number.to_string()), None);
        }
        // What was forgotten may concern anybody.
        assert!(altered.last("carol", "y") > 3);
    }
}
