//! One verifier for all clusters: the password in a statement about a role is replaced
//! by what PostgreSQL would keep of it, so that all keep the same.
//!
//! Which hash that is, the session's own servers say (`password_encryption`). The
//! password is in no message and no log line.

use super::servers::AttachedId;
use super::{Halt, Session};
use mothership_proto::auth::{Password, Verifier};
use mothership_proto::backend::{row_values, tag};
use mothership_proto::ledger::Event;
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::Encoding;
use mothership_sql::password::RolePassword;
use std::num::NonZeroU32;

/// As PostgreSQL's `SCRAM_DEFAULT_SALT_LEN` and `SCRAM_DEFAULT_ITERATIONS`.
const SALT: usize = 16;
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("is not 0");

/// From this version on the count is a setting (`scram_iterations`).
const ITERATIONS_ARE_A_SETTING: u32 = 16;

impl Session {
    /// The statement as it is sent to the servers at `places`, with the verifier in place of the password; None to
    /// send it as it is. Waits for answers of these servers.
    pub(super) async fn with_one_verifier(
        &mut self,
        sql: &[u8],
        places: &[AttachedId],
    ) -> Result<Option<Vec<u8>>, Halt> {
        let (place, password) = match RolePassword::of(sql, self.standard_strings()) {
            RolePassword::Settled => return Ok(None),
            RolePassword::Plain(place, password) => (place, password),
            RolePassword::Unclear => return Err(unclear().into()),
        };
        // It is hashed as the servers' encoding has it.
        if !password.is_ascii() && self.state.text_context().encoding != Encoding::Utf8 {
            return Err(unclear().into());
        }
        let mut scram = None;
        for &at in places {
            scram = self.hashing(at).await?.or(scram);
        }
        let Some(iterations) = scram else {
            return Ok(None);
        };
        let salt: [u8; SALT] = rand::random();
        let password = Password::new(password.to_vec());
        let made = move || Verifier::from_password(&password, &salt, iterations);
        let verifier = tokio::task::spawn_blocking(made).await.ok().flatten();
        let verifier = verifier.ok_or_else(unclear)?.to_text();
        let text = [
            &sql[..place.start],
            b"'",
            verifier.as_bytes(),
            b"'",
            &sql[place.end..],
        ];
        Ok(Some(text.concat()))
    }

    /// How often the server at `at` repeats the hash of SCRAM; None if it would make another one. An error of the
    /// question (a failed transaction) is left to the statement.
    async fn hashing(&mut self, at: AttachedId) -> Result<Option<NonZeroU32>, Halt> {
        let told = self
            .state
            .told
            .list()
            .iter()
            .find(|(n, _)| n == b"server_version");
        let version = told.and_then(|(_, v)| std::str::from_utf8(v).ok());
        let major = version.and_then(|v| v.split(|c: char| !c.is_ascii_digit()).next());
        let asks = major
            .and_then(|m| m.parse::<u32>().ok())
            .is_some_and(|major| major >= ITERATIONS_ARE_A_SETTING);
        // SHOW takes no snapshot: a transaction that has not begun to read stays so.
        let question: &[u8] = match asks {
            true => b"SHOW password_encryption; SHOW scram_iterations",
            false => b"SHOW password_encryption",
        };
        self.servers.send_router_query(at, question, false);
        let mut answers: Vec<Vec<u8>> = Vec::new();
        self.each_message(at, |frame, reply, _| {
            if frame.tag() == tag::DATA_ROW
                && let Ok(values) = row_values(frame.body())
            {
                answers.extend(values.into_iter().flatten().map(<[u8]>::to_vec));
            }
            matches!(reply.event, Event::Ready(_))
        })
        .await?;
        let scram = answers.first().is_some_and(|a| a == b"scram-sha-256");
        let count = answers.get(1).and_then(|a| std::str::from_utf8(a).ok());
        let count = count.and_then(|c| c.parse().ok()).unwrap_or(ITERATIONS);
        Ok(scram.then_some(count))
    }
}

fn unclear() -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "password of a role cannot be made the same on all clusters",
    )
    .detail("it is written in a form or an encoding that the router does not read")
    .hint("Write it as one plain string constant, or give the SCRAM verifier itself, as psql's \\password does.")
}
