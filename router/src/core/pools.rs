//! The pools of one core: made when first asked for, forgotten when nobody uses them.

use super::notes::Notes;
use super::{Core, Life, Mail};
use crate::proofs::Proof;
use crate::topology::{PoolKey, Server, Topology};
use mothership_pool::open::Opener;
use mothership_pool::pool::Pool;
use mothership_proto::auth::{Credentials, Password};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

impl Core {
    /// The pool of a server, user and database; made when first asked for. `None` if
    /// there are as many as may be, and all are in use.
    pub fn pool(
        &self,
        topology: &Topology,
        server: &Server,
        key: PoolKey,
        max: u32,
        credentials: &Credentials,
    ) -> Option<Rc<Pool<Notes>>> {
        if let Some(pool) = self.pools.borrow().get(&key) {
            return Some(Rc::clone(pool));
        }
        let most = topology.config.limits.pools.get() as usize;
        if self.pools.borrow().len() >= most && !self.forget_a_pool() {
            return None;
        }
        let queue = topology.config.pool.queue_length;
        let limit = self.shared.limit(&key, (max, queue), most);
        // A session may have begun with a password that has changed since.
        let newest = match topology.password_of(&key.user) {
            Some(_) => None,
            None => self.shared.proofs.newest(&key.user),
        };
        let credentials = newest.unwrap_or_else(|| credentials.clone());
        let opener = Opener::new(
            Arc::clone(&server.endpoint),
            key.user.clone(),
            key.database.clone(),
            credentials,
            server.login.clone(),
            topology.open_settings(),
            Rc::clone(&self.keys),
        );
        let pool = Pool::new(opener, limit, topology.pool_settings(max));
        pool.set_outer(self.shared.outer(topology, &key));
        tokio::task::spawn_local(pool.give_way());
        if self.shared.gates.read().pauses(topology, &key) {
            pool.pause();
        }
        self.pools.borrow_mut().insert(key, Rc::clone(&pool));
        Some(pool)
    }

    /// A client has proven itself to be this role of the servers. If that is news, all
    /// pools of the role log in with it from now on, those of this core when this returns.
    pub fn renew_proof(&self, topology: &Topology, role: &str, proof: Proof) {
        let most = topology.config.auth.cache_entries.get() as usize;
        if !self.shared.proofs.renew(role, proof, most) {
            return;
        }
        self.use_proof(role);
        let cores = self.shared.mail.iter().enumerate();
        for (_, core) in cores.filter(|(index, _)| *index != self.index) {
            let role = role.to_owned();
            // A core that has ended has no pools.
            let _ = core.send(Mail::Ask(Box::new(move |core| core.use_proof(&role))));
        }
    }

    /// Pools of a role that is passed through log in with its newest proof.
    fn use_proof(&self, role: &str) {
        if self.shared.topology().password_of(role).is_some() {
            return;
        }
        let Some(credentials) = self.shared.proofs.newest(role) else {
            return;
        };
        for (key, pool) in self.pools() {
            if key.user == role {
                pool.set_credentials(credentials.clone());
            }
        }
    }

    /// Closes the pool that nobody has used for the longest time.
    fn forget_a_pool(&self) -> bool {
        let pools = self.pools.borrow();
        let unused = |pool: &Pool<Notes>| {
            let figures = pool.figures();
            figures.active + figures.opening + figures.waiting == 0
        };
        let oldest = pools
            .iter()
            .filter(|(_, pool)| unused(pool))
            .min_by_key(|(_, pool)| pool.last_used())
            .map(|(key, _)| key.clone());
        drop(pools);
        oldest.is_some_and(|key| self.forget(&key))
    }

    /// False if there was no such pool.
    fn forget(&self, key: &PoolKey) -> bool {
        let pool = self.pools.borrow_mut().remove(key);
        self.forgotten.set(self.forgotten.get() + 1);
        pool.is_some()
    }

    /// How many pools this core has forgotten since it began.
    pub fn forgotten_pools(&self) -> u64 {
        self.forgotten.get()
    }

    /// Every pool of this core.
    pub fn pools(&self) -> Vec<(PoolKey, Rc<Pool<Notes>>)> {
        let pools = self.pools.borrow();
        pools
            .iter()
            .map(|(key, pool)| (key.clone(), Rc::clone(pool)))
            .collect()
    }

    /// Closes what lies idle for too long and forgets pools that nobody uses.
    pub fn maintain(&self) {
        let is_alone = self.life.get() != Life::HandedOver;
        let topology = self.shared.topology();
        let now = std::time::Instant::now();
        self.metrics.roll(now);
        let cores = self.shared.mail.len() as u32;
        let forget = topology.config.pool.forget_timeout.unwrap_or(Duration::MAX);
        for (key, pool) in self.pools() {
            let rested = now.saturating_duration_since(pool.last_used());
            let figures = pool.figures();
            let unused = figures.active + figures.opening + figures.waiting == 0;
            if unused && rested >= forget {
                self.forget(&key);
                continue;
            }
            let min = topology.pool_min(&key).div_ceil(cores);
            pool.reap(now, if is_alone { min } else { 0 });
        }
    }

    /// Frees what nobody uses at the moment: connections that rest, with what is known of their statements, and buffers.
    pub fn free_idle(&self) {
        for (_, pool) in self.pools() {
            pool.close_idle();
        }
        self.scratch.borrow_mut().clear();
        self.lists.borrow_mut().clear();
    }

    /// Closes all connections of this core to a database that nobody uses at the moment.
    pub fn leave_database(&self, database: &str) {
        for (key, pool) in self.pools() {
            if key.database == database {
                pool.close_idle();
            }
        }
        self.control.leave_database(database);
    }

    /// Applies a new configuration to the pools that exist.
    pub fn reload(&self) {
        let topology = self.shared.topology();
        self.welcomes.forget();
        self.control.forget();
        for (key, pool) in self.pools() {
            if topology.server(key.endpoint).is_none() {
                // What is on loan from it is closed by whoever gives it back last.
                self.forget(&key);
                continue;
            }
            let max = topology.pool_max(&key);
            let queue = topology.config.pool.queue_length;
            self.shared.limit(&key, (max, queue), usize::MAX / 2);
            pool.set_outer(self.shared.outer(&topology, &key));
            pool.opener().set_settings(topology.open_settings());
            if let Some(password) = topology.password_of(&key.user) {
                let password = Password::new(password.reveal().as_bytes());
                pool.set_credentials(Credentials::Password(password));
            }
            let mut settings = topology.pool_settings(max);
            if self.life.get() == Life::HandedOver {
                settings.min = 0;
                settings.idle_timeout = settings.idle_timeout.min(GIVEN_UP);
            }
            pool.set_settings(settings);
        }
    }
}

/// Connections that lie idle for so long are closed when another process serves whoever is new: it needs them.
const GIVEN_UP: Duration = Duration::from_secs(1);
