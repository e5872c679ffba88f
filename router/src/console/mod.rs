//! The admin console: a database of the router's own, made like PgBouncer's, so that
//! programs made for PgBouncer work unchanged.
//!
//! A client of it logs in like any other; [`door`] says whether it may come in and
//! as what. [`command`] understands what it says, [`show`] makes tables, [`act`]
//! does what changes something, [`conversation`] carries the messages. What runs on
//! other cores is seen through [`view`], by asking them.

pub mod command;

pub mod columns;

pub mod table;

pub mod view;

pub mod show;

mod act;

mod servers;

mod conversation;

pub mod reference;

use crate::config;
use crate::core::Core;
use command::Role;
use mothership_pool::wire::{Address, Wire};
use mothership_proto::report::{Report, sqlstate};
use mothership_proto::startup::Startup;
use std::rc::Rc;

/// The user of the console's pool, and the one who needs no password on the unix
/// socket, as in PgBouncer.
pub const POOL_USER: &str = "pgbouncer";

/// Whether a client talks to the console.
pub enum Door {
    /// It wants another database.
    Elsewhere,
    /// It may come in, as this.
    Open(Role),
    /// It may not.
    Closed(Report),
}

/// True if the client needs no password: it comes over the unix socket, as
/// `pgbouncer`, from the router's own user of the operating system.
pub fn is_peer(console: &config::Console, client: &Wire, startup: &Startup) -> bool {
    // First what is known without asking the kernel: every login comes here.
    let may_be =
        console.peer && startup.user == POOL_USER && is_console(console, &startup.database);
    // SAFETY: geteuid cannot fail and touches no memory.
    let own = || unsafe { libc::geteuid() };
    let is_unix = || matches!(client.peer(), Ok(Address::Unix(_)));
    may_be && is_unix() && client.peer_uid() == Some(own())
}

/// Whether this is the name of the console's database.
pub fn is_console(console: &config::Console, database: &str) -> bool {
    console
        .databases
        .iter()
        .any(|name| name.as_str() == database)
}

/// What becomes of a client that has proved who it is.
pub fn door(console: &config::Console, startup: &Startup, is_peer: bool) -> Door {
    if !is_console(console, &startup.database) {
        return Door::Elsewhere;
    }
    let is_in = |users: &[config::Name]| users.iter().any(|user| user.as_str() == startup.user);
    if is_peer || is_in(&console.admin_users) {
        Door::Open(Role::Admin)
    } else if is_in(&console.stats_users) {
        Door::Open(Role::Stats)
    } else {
        let message = format!("permission denied for database \"{}\"", startup.database);
        let report = Report::fatal(sqlstate::INSUFFICIENT_PRIVILEGE, message);
        Door::Closed(report.hint("The settings are console.admin_users and console.stats_users."))
    }
}

/// Serves the console to a client that has just logged in, to its end.
pub async fn serve(core: Rc<Core>, client: Wire, startup: &Startup, role: Role) {
    conversation::converse(core, client, startup, role).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(toml: &str) -> config::Console {
        let text =
            format!("{toml}\n[[shard]]\nname = \"s1\"\n[[shard.server]]\naddress = \"h:1\"\n");
        let path = std::path::Path::new("t.toml");
        let config = config::Config::parse(path, &text, &config::Process);
        config.unwrap_or_else(|e| panic!("{e}")).console
    }

    fn startup(user: &str, database: &str) -> Startup {
        let mut bytes = Vec::new();
        let body = format!("user\0{user}\0database\0{database}\0\0");
        bytes.extend((body.len() as u32 + 8).to_be_bytes());
        bytes.extend(0x0003_0000_u32.to_be_bytes());
        bytes.extend(body.as_bytes());
        match mothership_proto::startup::FirstPacket::parse(&bytes) {
            Ok(Some((mothership_proto::startup::FirstPacket::Startup(startup), _))) => startup,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_its_users_come_in() {
        let console = console("[console]\nadmin_users = [\"a\"]\nstats_users = [\"s\", \"a\"]");
        let open = |user, database, peer| match door(&console, &startup(user, database), peer) {
            Door::Elsewhere => "elsewhere",
            Door::Open(Role::Admin) => "admin",
            Door::Open(Role::Stats) => "stats",
            Door::Closed(report) => {
                assert_eq!(report.code, sqlstate::INSUFFICIENT_PRIVILEGE);
                "closed"
            }
        };
        for (user, database, peer, expected) in [
            ("a", "mothership", false, "admin"),
            ("a", "pgbouncer", false, "admin"),
            ("s", "pgbouncer", false, "stats"),
            ("n", "pgbouncer", false, "closed"),
            ("A", "pgbouncer", false, "closed"),
            ("pgbouncer", "pgbouncer", false, "closed"),
            ("pgbouncer", "pgbouncer", true, "admin"),
            ("a", "shop", false, "elsewhere"),
            ("a", "PgBouncer", false, "elsewhere"),
        ] {
            assert_eq!(
                open(user, database, peer),
                expected,
                "{user} {database} {peer}"
            );
        }
    }
}
