//! Runs a command beside a router over several shards and a plain PostgreSQL, and ends
//! with its exit status.
//!
//! PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE are the router's; DIRECT_PORT is the
//! plain server's port and ROUTER_LOG the file with what the router says. All servers are
//! clusters of their own, so that roles can be made on both sides. From the environment come
//! SHARDS (3) and TABLES, the file that declares tables; without it every table is declared
//! by its primary key when it is created (`default = "auto"`). With MONGODB, a number of members, there is one more
//! shard, `docs`, which is a replica set of so many; where no mongod can be had, nothing is run and that is said.

#![allow(clippy::unwrap_used)] // Like the tests: what cannot go on says where.

use mothership_tests::fleet::Shard;
use mothership_tests::mongo::{self, ReplicaSet};
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Fleet, Router, proof};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: with-shards COMMAND [ARGUMENT...]");
        return ExitCode::from(2);
    };
    let members = usize::try_from(proof::number("MONGODB", 0)).unwrap();
    if members > 0 && mongo::mongod().is_none() {
        println!("SKIP documents no mongod can be had");
        return ExitCode::SUCCESS;
    }
    let shards = usize::try_from(proof::number("SHARDS", 3)).unwrap();
    let mut fleet = Fleet::new(shards + 1, 0);
    let plain = fleet.shards.pop().unwrap();
    let set = (members > 0).then(|| ReplicaSet::start("docs", members).unwrap());
    let more = set.as_ref().map(shard_of).unwrap_or_default() + &tables();
    let router = Router::start(&proof::config(&fleet, "", "", &more));
    let endpoint = router.endpoint(USER, PASSWORD, "postgres");
    let status = Command::new(&program)
        .args(arguments)
        .envs(endpoint.env())
        .env(
            "DIRECT_PORT",
            Shard::endpoint(&plain.primary).port.to_string(),
        )
        .env("ROUTER_LOG", router.log_path())
        .status();
    match status {
        Ok(status) => ExitCode::from(status.code().and_then(|c| c.try_into().ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("{}: {error}", program.display());
            ExitCode::from(127)
        }
    }
}

fn shard_of(set: &ReplicaSet) -> String {
    let server = |address| format!("[[shard.server]]\naddress = \"{address}\"\n");
    let servers: String = set.addresses().into_iter().map(server).collect();
    format!("[[shard]]\nname = \"docs\"\nengine = \"mongodb\"\n{servers}")
}

fn tables() -> String {
    match std::env::var("TABLES") {
        Ok(path) if !path.is_empty() => {
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
        }
        _ => "[tables]\ndefault = \"auto\"\n".to_owned(),
    }
}
