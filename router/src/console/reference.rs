//! `docs/console.md`, made from the tables of commands and columns.

use super::command::{ACTS, Arguments, Role, SHOWS, Show};
use std::fmt::Write;

const HEAD: &str = "\
# The console

The console is a database of the router's own: `psql -p 6432 mothership`, or `pgbouncer` in its place (the setting is
`console.databases`). Its users log in like all others, with a password of theirs; `console.admin_users` may give every
command, `console.stats_users` may only look. On the unix socket the router's own user of the operating system comes in
as user `pgbouncer` without a password (`console.peer`). Nobody else is let in, and every command that changes something
is refused to users who may only look. No table shows a password, a verifier, a cancel key or a value of a statement.

Programs made for PgBouncer work unchanged: its tables have its columns with its types, and never one more. What there
is to show beside them has commands of its own. `SELECT` means SHOW. Names of databases may be quoted: `PAUSE \"My db\"`.
Several commands may stand in one query, and the extended protocol is understood too. SET of what drivers set is
accepted and ignored; settings of the router are changed in its file, followed by RELOAD.

Each table combines the data of all workers. The workers report at slightly different times.

";

const SERVERS: &str = "
## Taking servers out of use

```
mothership=> WEIGHT SERVER 'db1b.example.com:5432' 10;
mothership=> DRAIN SERVER 'db1b.example.com:5432';
mothership=> ENABLE SERVER 'db1b.example.com:5432';
mothership=> RESET SERVERS;
```

An address is that of SHOW ENDPOINTS; `:5432` may be left out. What is set by hand holds for every shard that has a
server there, is kept over RELOAD, and is gone after a restart. SHOW ENDPOINTS says what is set, since when and by whom;
`mothership_server_weight` and `mothership_server_disabled` say it to Prometheus.

A server that is disabled or draining serves no read. If it is the primary of a shard, requests that need the primary,
and logins, wait as while a shard has none ([failover.md](failover.md#what-waits)): until it is enabled, or another is the primary.
When `failover.window` is over they get 57P03 with the detail `the primary was disabled by hand`. SWITCHOVER promotes no
server that is out of use, and may be given while the primary is. Transactions that are open, and sessions that keep
their server, go on; DRAIN SERVER waits for both. What the router itself asks goes on: probes, verifiers of logins, the
catalog, and the ends of transactions over several shards.

`DISABLE x` with a single word disables the database `x`, even if the word is `server`.
";

/// The page as Markdown.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("## Commands\n\nAll of them need `admin_users`.\n\n| Command | |\n|---|---|\n");
    for act in ACTS {
        let takes = match act.takes {
            Arguments::Nothing => "",
            Arguments::MaybeDatabase => " [database]",
            Arguments::Database => " database",
            Arguments::Client => " id",
            Arguments::Shard => " shard",
            Arguments::ShardAndServer => " shard [address]",
            Arguments::Server => " address",
            Arguments::ServerAndWeight => " address weight",
            Arguments::Manner => " [WAIT_FOR_SERVERS \\| WAIT_FOR_CLIENTS]",
        };
        let _ = writeln!(page, "| `{}`{takes} | {} |", act.word, act.about);
    }
    page.push_str(SERVERS);
    page.push_str("\n## PgBouncer's tables\n");
    SHOWS
        .iter()
        .filter(|s| s.is_pgbouncers)
        .for_each(|s| section(s, &mut page));
    page.push_str("\n`SHOW HELP` lists the commands in a notice.\n\n## The router's own tables\n");
    SHOWS
        .iter()
        .filter(|s| !s.is_pgbouncers)
        .for_each(|s| section(s, &mut page));
    page
}

fn section(show: &Show, page: &mut String) {
    let columns = show.columns(true);
    let columns: Vec<String> = columns
        .iter()
        .map(|(name, kind)| format!("`{name}` {}", kind.name()))
        .collect();
    let admin = match show.needs {
        Role::Admin => " Needs `admin_users`.",
        Role::Stats => "",
    };
    let since = match columns.iter().any(|c| c.contains("client_login_count")) {
        true => "\n\nThe columns of logins are there when `console.version` is 1.26 or newer.",
        false => "",
    };
    let _ = write!(
        page,
        "\n### SHOW {}\n\n{}{admin}\n\n{}{since}\n",
        show.word,
        show.about,
        columns.join(", ")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_the_tables() {
        expect_test::expect_file!["../../../docs/console.md"].assert_eq(&reference());
    }
}
