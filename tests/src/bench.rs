//! pgbench's tables, sharded over three PostgreSQL servers, and what must hold of
//! them after any load: for `make tpcb`, `make crash` and `make restarts`.
//!
//! Accounts, tellers and branches go by their own ids, history by account: nearly
//! every TPC-B transaction writes on several shards. For comparing they can lie on
//! one shard, declared and planned in the same way.

use crate::proof::{self, Verdict, on_all};
use crate::shared::{PASSWORD, USER};
use crate::{Endpoint, Fleet, Router, binaries, poll_until};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

/// How long transactions may stay open when nobody is there for them any longer.
const SOON: Duration = Duration::from_secs(60);

const KEYS: [(&str, &str); 4] = [
    ("accounts", "aid"),
    ("tellers", "tid"),
    ("branches", "bid"),
    ("history", "aid"),
];

/// Where the rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// On the shards of their own ids.
    ByIds,
    /// All on the second of three shards.
    OneShard,
}

impl Spread {
    fn tables(self) -> String {
        let (mut text, strategy) = match self {
            Spread::ByIds => (String::new(), ""),
            Spread::OneShard => {
                let one = "[[strategy]]\nname = \"one\"\nkind = \"range\"\nkey_type = \"int4\"\n\
                    [[strategy.range]]\nshard = \"s2\"\n";
                (one.to_owned(), "strategy = \"one\"\n")
            }
        };
        for (table, key) in KEYS {
            text += &format!(
                "[[table]]\nname = \"pgbench_{table}\"\nkey = \"{key}\"\nkey_type = \"int4\"\n{strategy}"
            );
        }
        text
    }
}

/// Three shards and a router.
#[derive(Debug)]
pub struct Bench {
    /// The router, ended before its servers.
    pub router: Router,
    /// The shards.
    pub fleet: Fleet,
}

/// CPU time of the processes behind the clients.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    /// The router's.
    pub router: Duration,
    /// All servers', with their sessions.
    pub servers: Duration,
}

impl Bench {
    /// With tables of this scale, made and filled by pgbench through the router.
    pub fn new(scale: u64, spread: Spread) -> Bench {
        let fleet = Fleet::new(3, 0);
        let router = Router::start(&proof::config(&fleet, "", "", &spread.tables()));
        let bench = Bench { router, fleet };
        let mut initialise = bench.pgbench();
        initialise.args(["-i", "-q", "-s", &scale.to_string()]);
        let done = initialise.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "pgbench -i: {said}");
        let rows = on_all(&bench.fleet, "SELECT count(*) FROM pgbench_accounts");
        println!("     accounts on the shards: {}", rows.join(", "));
        bench
    }

    fn endpoint(&self) -> Endpoint {
        self.router.endpoint(USER, PASSWORD, "postgres")
    }

    /// pgbench with the router's address.
    pub fn pgbench(&self) -> Command {
        let mut command = Command::new(binaries().program("pgbench"));
        command.envs(self.endpoint().env());
        command
    }

    /// The rows of history, over all shards.
    pub fn history(&self) -> i64 {
        proof::sum(&self.fleet, "SELECT count(*) FROM pgbench_history")
    }

    /// Waits until the shards have noticed that nobody is there for what was open: no transaction is. What waits
    /// for a row that somebody has prepared notices only after recovery.
    pub fn wait_quiet(&self) {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' \
            AND pid <> pg_backend_pid() AND xact_start IS NOT NULL";
        let closed = poll_until(SOON, || proof::sum(&self.fleet, open) == 0);
        assert!(closed, "transactions stay open");
    }

    /// CPU that the router and the servers have used so far.
    pub fn cpu(&self) -> Cpu {
        let servers = self.fleet.shards.iter().filter_map(|s| s.primary.pid());
        Cpu {
            router: proof::cpu_of_family(self.router.pid()),
            servers: servers.map(proof::cpu_of_family).sum(),
        }
    }

    /// Claims that every balance is the sum of what history says of it, over all shards.
    pub fn claim_balances(&self, verdict: &mut Verdict) {
        let mut totals = Vec::new();
        for (table, key, balance) in [
            ("accounts", "aid", "abalance"),
            ("tellers", "tid", "tbalance"),
            ("branches", "bid", "bbalance"),
        ] {
            let balances = self.sums(&format!(
                "SELECT {key}, {balance} FROM pgbench_{table} WHERE {balance} <> 0"
            ));
            let told = self.sums(&format!(
                "SELECT {key}, sum(delta) FROM pgbench_history GROUP BY {key} HAVING sum(delta) <> 0"
            ));
            totals.push(balances.values().sum::<i64>());
            let figure = format!(
                "{} balances, {} in all",
                balances.len(),
                totals[totals.len() - 1]
            );
            let claim = format!("balances of {table} agree with history");
            verdict.claim(balances == told, &claim, figure);
        }
        let equal = totals.windows(2).all(|pair| pair[0] == pair[1]);
        verdict.claim(equal, "sums of balances agree", format!("{totals:?}"));
    }

    /// Numbers by key, of all shards together; zeros are left out.
    fn sums(&self, sql: &str) -> BTreeMap<i64, i64> {
        let mut sums = BTreeMap::new();
        for text in on_all(&self.fleet, sql) {
            for line in text.lines() {
                let (key, number) = line.split_once('|').unwrap();
                *sums.entry(key.parse().unwrap()).or_default() += number.parse::<i64>().unwrap();
            }
        }
        sums.retain(|_, sum| *sum != 0);
        sums
    }
}
