//! pgbench's tables, sharded over three PostgreSQL servers, and what must hold of
//! them after any load: for `make tpcb` and `make crash`.
//!
//! Accounts, tellers and branches go by their own ids, history by account: nearly
//! every TPC-B transaction writes on several shards.

use crate::proof::{self, Verdict, on_all};
use crate::shared::{PASSWORD, USER};
use crate::{Endpoint, Fleet, Router, binaries};
use std::collections::BTreeMap;
use std::process::Command;

const TABLES: &str = r#"
[[table]]
name = "pgbench_accounts"
key = "aid"
key_type = "int4"
[[table]]
name = "pgbench_tellers"
key = "tid"
key_type = "int4"
[[table]]
name = "pgbench_branches"
key = "bid"
key_type = "int4"
[[table]]
name = "pgbench_history"
key = "aid"
key_type = "int4"
"#;

/// Three shards and a router.
#[derive(Debug)]
pub struct Bench {
    /// The router, ended before its servers.
    pub router: Router,
    /// The shards.
    pub fleet: Fleet,
}

impl Bench {
    /// With tables of this scale, made and filled by pgbench through the router.
    pub fn new(scale: u64) -> Bench {
        let fleet = Fleet::new(3, 0);
        let router = Router::start(&proof::config(&fleet, "", "", TABLES));
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
