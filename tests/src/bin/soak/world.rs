//! Servers, the way to each, two routers and the bank.

use mothership_tests::bank::{self, Bank, Judgement, Terms};
use mothership_tests::proof::{self, Verdict};
use mothership_tests::proxy::Proxy;
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Fleet, Router, poll_until};
use std::time::Duration;

/// Shards, each with two standbys.
pub const SHARDS: usize = 3;
const STANDBYS: usize = 2;
const ACCOUNTS: usize = 300;
/// An answer that takes longer is called a hang.
const PATIENCE: Duration = Duration::from_secs(60);
/// From the end of a fault until all shards are written again.
const SOON: Duration = Duration::from_secs(45);

/// What faults happen to.
pub struct World {
    /// Closed first.
    pub bank: Bank,
    /// Both serve the same shards.
    pub routers: Vec<Router>,
    /// The way to each server, by its port.
    pub ways: Vec<Proxy>,
    /// The servers.
    pub fleet: Fleet,
}

impl World {
    /// Starts all of it.
    pub fn begin(clients: usize, seed: u64, is_async: bool) -> World {
        let mut fleet = Fleet::new(SHARDS, STANDBYS);
        if !is_async {
            for shard in &mut fleet.shards {
                shard.wait_for_standbys();
            }
        }
        bank::make_role(&fleet);
        let mut ways = Vec::new();
        let mut ports = Vec::new();
        for shard in &fleet.shards {
            let servers = shard.replicas.iter().chain([&shard.primary]);
            let to: Vec<Proxy> = servers.map(|server| Proxy::to(server.port())).collect();
            ports.push(to.iter().map(Proxy::port).collect());
            ways.extend(to);
        }
        let config = config(&ports);
        let routers: Vec<Router> = (0..2).map(|_| Router::start(&config)).collect();
        let terms = Terms {
            clients,
            accounts: ACCOUNTS,
            seed,
            patience: PATIENCE,
        };
        let both: Vec<&Router> = routers.iter().collect();
        let bank = Bank::open_at(&both, &fleet, "postgres", terms);
        let world = World {
            bank,
            routers,
            ways,
            fleet,
        };
        assert!(world.goes_on(), "the bank: {}", world.bank.figures());
        world
    }

    /// Whether every shard is written again, and transfers over shards end.
    pub fn goes_on(&self) -> bool {
        let shards = (0..SHARDS).all(|shard| self.bank.serves(shard, 4, SOON));
        shards && self.bank.goes_on(20, SOON)
    }

    /// Holds transfers until nothing is under way, and looks at what the servers have.
    pub fn judge(&self, is_async: bool, verdict: &mut Verdict) -> Judgement {
        let held = self.bank.hold(PATIENCE + SOON);
        verdict.claim(held, "transfers end", self.bank.figures());
        let finished = poll_until(SOON, || proof::prepared(&self.fleet) == 0);
        let quiet = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'bank' AND xact_start IS NOT NULL";
        let quiet = poll_until(SOON, || proof::sum(&self.fleet, quiet) == 0);
        // What a server had received and not yet done may have come after that look.
        let finished = finished && poll_until(SOON, || proof::prepared(&self.fleet) == 0);
        let left = proof::prepared(&self.fleet);
        verdict.claim(finished && quiet, "nothing is left prepared", left);
        let judgement = self.bank.judge(&self.fleet);
        match is_async {
            false => verdict.claim(judgement.is_right(), "the bank is right", &judgement),
            true => println!("asynchronous: {judgement}"),
        }
        self.bank.release();
        judgement
    }

    /// What somebody needs who looks for a fault.
    pub fn print_state(&self) {
        for (number, router) in self.routers.iter().enumerate() {
            println!(
                "router {number}: {:#?}",
                proof::console(router, "SHOW ENDPOINTS")
            );
            println!("{:#?}", proof::console(router, "SHOW CLIENTS"));
        }
    }

    /// The way to a server.
    pub fn way(&self, shard: usize, port: u16) -> &Proxy {
        let of_shard = &self.ways[shard * (STANDBYS + 1)..][..=STANDBYS];
        let found = of_shard.iter().find(|way| way.target() == port);
        found.expect("every server has a way to it")
    }
}

fn config(ports: &[Vec<u16>]) -> String {
    format!(
        "[listen]\naddress = [\"127.0.0.1\"]\nport = @port@\n\
         [control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         [console]\nadmin_users = [\"{USER}\"]\n\
         [pool]\nmin = 0\n\
         [failover]\nsilence = \"5s\"\n\
         [transactions]\nrecovery_interval = \"2s\"\n\
         {}{}[[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n{}",
        bank::user(),
        proof::shards_at(ports, "tls = \"disable\""),
        bank::TABLES,
    )
}
