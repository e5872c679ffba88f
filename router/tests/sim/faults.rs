//! Faults and their end, the failover manager, and replication. When a primary is gone for some time and all replicas can
//! be asked, the manager promotes the replica with the longest log. A primary that comes back before that stays the
//! primary.

use crate::server::Server;
use crate::world::{Event, FAULT, FAULTS, SERVERS, World};
use mothership_pool::connection::Farewell;
use rand::RngExt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server stops. Its connections end with or without an error.
    Crash,
    /// The router cannot reach the server. Other servers can.
    Unreached,
    /// Nobody can reach the server.
    Isolated,
    /// The server, if it is a replica, replays nothing.
    Paused,
    /// The server resets most client connections when they send something. It still answers probes.
    Resets,
}

impl World {
    pub fn fault(&mut self) {
        if self.at >= FAULTS {
            return;
        }
        let next = self.rng.random_range(100..900);
        self.after(next, Event::Fault);
        let shard = self.rng.random_range(0..self.shards.len());
        let server = match self.rng.random_bool(0.4) {
            true => self.real_primary(shard),
            false => self.rng.random_range(0..SERVERS),
        };
        let fault = match self.rng.random_range(0..100) {
            0..35 => Fault::Crash,
            35..50 => Fault::Unreached,
            50..65 => Fault::Isolated,
            65..80 => Fault::Paused,
            _ => Fault::Resets,
        };
        self.say(|_| format!("fault: {shard}.{server} {fault:?}"));
        let of = &mut self.shards[shard].servers[server];
        match fault {
            Fault::Crash if !of.alive => return,
            Fault::Crash => self.crash(shard, server),
            Fault::Unreached => of.reached = false,
            Fault::Isolated => {
                of.reached = false;
                of.isolated = true;
            }
            Fault::Paused => of.paused = true,
            Fault::Resets => of.resets = true,
        }
        let delay = match fault {
            // A quick restart: the server is back before the next probe.
            Fault::Crash if self.rng.random_bool(0.5) => self.rng.random_range(1..60),
            _ => self.rng.random_range(200..FAULT),
        };
        self.after(delay, Event::Heal(shard, server, fault));
    }

    pub fn heal(&mut self, shard: usize, server: usize, fault: Fault) {
        self.say(|_| format!("healed: {shard}.{server} {fault:?}"));
        let of = &mut self.shards[shard].servers[server];
        match fault {
            Fault::Crash => self.start(shard, server),
            Fault::Unreached | Fault::Isolated => {
                of.reached = true;
                of.isolated = false;
            }
            Fault::Paused => of.paused = false,
            Fault::Resets => of.resets = false,
        }
    }

    /// The server stops and all its connections end. The router hears of it once it can reach the server.
    fn crash(&mut self, shard: usize, server: usize) {
        self.counts.crashes += 1;
        let of = &mut self.shards[shard].servers[server];
        of.stop();
        if !of.is_primary {
            of.replayed = self
                .rng
                .random_range(of.restart.min(of.replayed)..=of.replayed);
        }
        self.unplug(shard, server);
    }

    fn unplug(&mut self, shard: usize, server: usize) {
        let farewell = match self.rng.random_range(0..4) {
            0 => Some(Farewell::Ended),
            1 => Some(Farewell::Crash),
            _ => None,
        };
        let all = self.connections.iter();
        let all = all.filter(|(_, c)| (c.shard, c.server) == (shard, server));
        let all: Vec<u64> = all.map(|(number, _)| *number).collect();
        // The news that a connection has ended may come late.
        let late = match self.rng.random_range(0..4) {
            0 => self.rng.random_range(20..200),
            _ => 0,
        };
        for connection in all {
            let delay = late + self.travel();
            self.after(delay, Event::Cut(connection, farewell));
        }
        let delay = late + self.travel();
        self.after(delay, Event::Unplugged(shard, server));
    }

    fn start(&mut self, shard: usize, server: usize) {
        let newest = self.newest(shard);
        let of = &mut self.shards[shard].servers[server];
        of.alive = true;
        // A primary that was replaced meanwhile does not know it, and answers as a primary.
        let replaced = of.is_primary && of.timeline < newest;
        of.ready = !of.is_primary || replaced;
    }

    fn newest(&self, shard: usize) -> u32 {
        let servers = self.shards[shard].servers.iter();
        servers.map(|s| s.timeline).max().unwrap_or(0)
    }

    /// One turn of the failover manager: it promotes a replica of a primary that is gone, and turns replaced primaries into
    /// replicas.
    pub fn agent(&mut self, shard: usize) {
        let pause = self.rng.random_range(30..120);
        self.after(pause, Event::Agent(shard));
        let primary = self.real_primary(shard);
        let newest = self.newest(shard);
        let of = &self.shards[shard].servers;
        let gone = !of[primary].alive || of[primary].isolated;
        let followers: Vec<usize> = (0..SERVERS).filter(|s| !of[*s].is_primary).collect();
        let all_there = followers.iter().all(|s| of[*s].alive && !of[*s].isolated);
        // The primary's log from before its own promotion must be on another server first, or a promotion could lose it.
        let all_there = all_there && of[primary].synced >= of[primary].inherited;
        match (gone, self.shards[shard].gone) {
            (true, None) => {
                let patience = self.rng.random_range(100..1_500);
                self.shards[shard].gone = Some(self.at + patience);
            }
            (true, Some(at)) if self.at >= at && all_there && !followers.is_empty() => {
                self.promote(shard, &followers, newest);
            }
            (true, Some(_)) => {}
            (false, _) => self.shards[shard].gone = None,
        }
        for server in 0..SERVERS {
            let of = &self.shards[shard].servers[server];
            let old = of.is_primary && of.alive && !of.isolated && of.timeline < newest;
            if old && self.rng.random_bool(0.08) {
                self.rewind(shard, server);
            }
        }
    }

    /// Promotes the replica with the longest log. The old primary may still run, cut off.
    fn promote(&mut self, shard: usize, followers: &[usize], newest: u32) {
        let of = &mut self.shards[shard];
        let length = |s: &usize| of.servers[*s].log.len();
        let best = *followers
            .iter()
            .max_by_key(|s| length(s))
            .expect("there is one");
        for follower in followers {
            of.servers[*follower].upstream = best;
        }
        of.gone = None;
        let server = &mut of.servers[best];
        server.is_primary = true;
        server.timeline = newest + 1;
        server.replayed = server.log.len();
        server.synced = 0;
        server.inherited = server.log.len();
        server.paused = false;
        // It answers when another server has its whole log (see `synced`).
        server.ready = false;
        self.counts.promotions += 1;
        self.say(|_| format!("{shard}.{best} is promoted to timeline {}", newest + 1));
    }

    /// An old primary starts again as a replica of the new one.
    fn rewind(&mut self, shard: usize, server: usize) {
        let primary = self.real_primary(shard);
        let [old, new] = self.both(shard, server, primary);
        if !new.alive || new.isolated {
            return;
        }
        let common = old.common(new);
        old.stop();
        old.alive = true;
        old.ready = true;
        old.is_primary = false;
        old.upstream = primary;
        old.log.truncate(common);
        old.replayed = common;
        old.restart = common;
        self.waiting
            .retain(|w| (w.shard, w.server) != (shard, server));
        self.say(|_| format!("{shard}.{server} is rewound to {common} and follows {primary}"));
        self.unplug(shard, server);
    }

    fn both(&mut self, shard: usize, a: usize, b: usize) -> [&mut Server; 2] {
        let servers = &mut self.shards[shard].servers;
        servers.get_disjoint_mut([a, b]).expect("they are two")
    }

    /// A replica receives and replays a part of the log.
    pub fn replicate(&mut self, shard: usize, server: usize) {
        let pause = self.rng.random_range(2..25);
        self.after(pause, Event::Replicate(shard, server));
        let received = self.rng.random_range(1..12);
        let replayed = self.rng.random_range(0..10);
        let checkpoint = self.rng.random_bool(0.02);
        let upstream = self.shards[shard].servers[server].upstream;
        if upstream == server {
            return;
        }
        let [replica, source] = self.both(shard, server, upstream);
        if !replica.alive || replica.is_primary {
            return;
        }
        let connected = source.alive && source.is_primary && !source.isolated && !replica.isolated;
        if connected {
            if !replica.is_within(source) {
                // It has records that the new primary does not have: rewind it.
                let common = replica.common(source);
                replica.stop();
                replica.alive = true;
                replica.ready = true;
                replica.log.truncate(common);
                replica.replayed = replica.replayed.min(common);
                replica.restart = replica.restart.min(common);
                return self.unplug(shard, server);
            }
            replica.timeline = source.timeline;
            let from = replica.log.len();
            let until = (from + received).min(source.log.len());
            replica.log.extend_from_slice(&source.log[from..until]);
        }
        if !replica.paused {
            replica.replayed = (replica.replayed + replayed).min(replica.log.len());
        }
        if checkpoint {
            replica.restart = replica.replayed;
        }
        let position = replica.log.len();
        if connected {
            self.synced(shard, upstream, position);
        }
    }
}
