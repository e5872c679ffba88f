//! Runs a command with PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE of a
//! fresh endpoint, the one that the tests use, and ends with its exit status.
//! DIRECT_PORT is the server's own port, for comparing.

use mothership_tests::endpoint;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: with-endpoint COMMAND [ARGUMENT...]");
        return ExitCode::from(2);
    };
    let server = endpoint();
    let status = Command::new(&program)
        .args(arguments)
        .envs(server.env())
        .env("DIRECT_PORT", server.shards.endpoint(0).port.to_string())
        .status();
    match status {
        Ok(status) => ExitCode::from(status.code().and_then(|c| c.try_into().ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("{}: {error}", program.display());
            ExitCode::from(127)
        }
    }
}
