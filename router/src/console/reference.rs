//! `docs/console.md`, made from the tables of commands and columns.

use super::command::{ACTS, Role, SHOWS, Show, Takes};
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

What is shown is gathered from all workers, each at a moment of its own.

";

/// The page as Markdown.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("## Commands\n\nAll of them need `admin_users`.\n\n| Command | |\n|---|---|\n");
    for act in ACTS {
        let takes = match act.takes {
            Takes::Nothing => "",
            Takes::MaybeDatabase => " [database]",
            Takes::Database => " database",
            Takes::Client => " id",
            Takes::Shard => " shard",
            Takes::ShardAndServer => " shard [address]",
            Takes::Manner => " [WAIT_FOR_SERVERS \\| WAIT_FOR_CLIENTS]",
        };
        let _ = writeln!(page, "| `{}`{takes} | {} |", act.word, act.about);
    }
    page.push_str("\n## PgBouncer's tables\n");
    SHOWS
        .iter()
        .filter(|s| s.is_pgbouncers)
        .for_each(|s| section(s, &mut page));
    page.push_str("\n`SHOW HELP` lists the commands in a notice.\n\n## Tables of our own\n");
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
