//! What a statement that the router refuses is to PostgreSQL. Where PostgreSQL has an error of its own for the text, that
//! is the client's answer: a word that is wrong is no missing feature.

use super::allowed::failed_transaction;
use super::simple::let_others_run;
use super::state::{Block, Phase};
use super::{Halt, Session};
use crate::log::Chain;
use crate::statements::errors::put_error;
use crate::statements::names::Prepared;
use crate::statements::step::{Kind, Step};
use mothership_plan::{Plan, Reason};
use mothership_proto::backend::tag;
use mothership_proto::ledger::{Audience, Event};
use mothership_proto::report::{Fields, Report, sqlstate};
use mothership_shardmap::ShardId;
use std::rc::Rc;
use std::sync::Arc;
use tokio_postgres::error::SqlState;

/// Whether a transaction ends before the last of these statements.
fn ends_before_last(steps: &[Step]) -> bool {
    let before = steps.split_last().map_or(steps, |(_, before)| before);
    before.iter().any(|step| {
        matches!(
            step.kind,
            Kind::Commit { .. } | Kind::Rollback { .. } | Kind::PrepareTransaction
        )
    })
}

impl Session {
    /// The error that PostgreSQL has for a text which the router has refused by `halt`, told to the client; `halt` if it
    /// has none. `types` are those that Parse has declared.
    pub(super) async fn judged(&mut self, halt: Halt, sql: &[u8], types: &[u8]) -> Halt {
        let Halt::Fail(report) = &halt else {
            return halt;
        };
        let refused = report.code == sqlstate::FEATURE_NOT_SUPPORTED;
        if !refused || !self.topology.config.has_postgres() {
            return halt;
        }
        // Tables of documents are not there.
        let only_grammar = self.topology.postgres < self.topology.shards.len();
        let home = self.topology.home;
        match self.error_of_server(home, sql, types).await {
            Some(body) if is_about_text(&body, only_grammar) => self.failed_by(&body),
            Some(body) if !only_grammar && says_absent(&body) => {
                match self.is_absent_elsewhere(sql, types).await {
                    true => self.failed_by(&body),
                    false => halt,
                }
            }
            _ => halt,
        }
    }

    /// Whether no other shard has what the home shard lacks for this text.
    async fn is_absent_elsewhere(&mut self, sql: &[u8], types: &[u8]) -> bool {
        let home = self.topology.home;
        let shards = self.topology.postgres_shards();
        let in_block =
            !self.transaction.implicit && matches!(self.state.block, Block::Begun | Block::Open);
        for shard in shards.filter(|shard| *shard != home) {
            let joined = |s: &super::Attached| s.shard == shard && s.inbox.in_block;
            if in_block && !self.servers.iter().any(joined) {
                // The home shard's part of the transaction has failed by now: no other shard can join it.
                return false;
            }
            // The one that was asked before has answered, and skips the rest of a segment.
            self.servers.active = None;
            let error = self.error_of_server(shard, sql, types).await;
            if !error.is_some_and(|body| says_absent(&body)) {
                return false;
            }
        }
        true
    }

    /// Fails if a text of several statements has one that is wrong, before the first of them runs, as PostgreSQL does.
    /// It is asked only if the router cannot read one of them.
    pub(super) async fn check_grammar(
        &mut self,
        sql: &[u8],
        statement: &std::rc::Rc<Prepared>,
    ) -> Result<(), Halt> {
        if self.known.model.is_none()
            || statement.steps.len() < 2
            || !self.topology.config.has_postgres()
        {
            return Ok(());
        }
        let unread = |plan: &Plan| matches!(plan, Plan::Refuse(refusal) if refusal.reason == Reason::NotUnderstood);
        let mut asks = false;
        for at in 0..statement.steps.len() {
            let_others_run(at).await;
            let plan = self.plan_by_known(statement, at)?;
            asks |= plan.is_some_and(|(plan, _)| unread(plan.as_ref()));
        }
        if !asks {
            return match ends_before_last(&statement.steps) {
                true => self.check_syntax_apart(sql).await,
                false => Ok(()),
            };
        }
        if self.state.block.is_nowhere() {
            // A server that joins would take the end of the block for that of its own transaction.
            return Err(failed_transaction().into());
        }
        match self.error_of_server(self.topology.home, sql, &[]).await {
            Some(body) if is_about_text(&body, true) => Err(self.failed_by(&body)),
            _ => Ok(()),
        }
    }

    /// Fails if the text has an error of syntax, by a connection that has no part in the transaction. What a COMMIT in the
    /// middle of a text has made durable cannot be undone when a later statement turns out to be wrong. The server reads the
    /// whole text before it says that it has several statements.
    async fn check_syntax_apart(&mut self, sql: &[u8]) -> Result<(), Halt> {
        let Ok(text) = std::str::from_utf8(sql) else {
            return Ok(());
        };
        if !self.standard_strings() {
            // The connection reads it otherwise.
            return Ok(());
        }
        let (core, topology) = (Rc::clone(&self.core), Arc::clone(&self.topology));
        let database = self.home_database();
        let unchecked = |why: String| {
            let message = format!("the text could not be checked for errors of syntax: {why}");
            Report::error(sqlstate::CONNECTION_FAILURE, message)
                .hint("Nothing of it has run; send it again.")
        };
        let asked = async {
            let lent = core.control.lend(&topology, topology.home, &database).await;
            let lent = lent.map_err(|error| unchecked(Chain(&error).to_string()))?;
            Ok::<_, Report>(lent.ask(async { lent.prepare(text).await }).await)
        };
        let asked = tokio::time::timeout(topology.config.control.timeout, asked).await;
        let read = asked.unwrap_or_else(|_| Err(unchecked("no answer in time".to_owned())))?;
        let Err(error) = read else {
            return Ok(());
        };
        match error.as_db_error() {
            // It can be read, and is no single statement.
            Some(said) if *said.code() == SqlState::SYNTAX_ERROR && said.position().is_none() => {
                Ok(())
            }
            Some(said) if said.position().is_some() => {
                let code = said.code().code().to_owned();
                Err(Report::error(code, said.message().to_owned()).into())
            }
            _ => Err(unchecked(Chain(&error).to_string()).into()),
        }
    }

    /// Tells the client an error of a server about its text, which makes its transaction fail.
    fn failed_by(&mut self, body: &[u8]) -> Halt {
        if self.state.phase == Phase::Segment {
            return self.failed_in_segment(body);
        }
        let written = self.request.written.as_deref();
        let changed = self.state.error_for_client(body, written);
        let body = changed.as_deref().unwrap_or(body);
        self.client.with_output(|out| put_error(out, body));
        self.state.note_failure();
        if !self.transaction.implicit && matches!(self.state.block, Block::Open | Block::Begun) {
            self.state.block = Block::Failed;
        }
        Halt::Failed
    }

    /// What a server of this shard says against a text that it is to parse. Its transaction has failed then; so does that
    /// of the client, one way or the other.
    async fn error_of_server(
        &mut self,
        shard: ShardId,
        sql: &[u8],
        types: &[u8],
    ) -> Option<Vec<u8>> {
        let in_segment = self.state.phase == Phase::Segment;
        if in_segment {
            self.settle_active().await.ok()?;
        }
        if !has_constant(sql) {
            // It is parsed and never runs, so that no code of it can leave anything.
            self.state.end_unseen(!self.servers.is_empty());
        }
        let at = self.attach(shard).await.ok()?;
        let attached = &mut self.servers[at];
        attached.inbox.in_segment |= in_segment;
        let types = attached.inbox.types_on_shard(types);
        attached.lease.request(Audience::Router, |send| {
            send.parse(sql, &types);
            send.flush_or_sync(in_segment);
        });
        let mut error = None;
        let collected = self.each_message(at, |frame, reply, _| match (reply.event, frame.tag()) {
            (Event::Failed, _) => {
                error = Some(frame.body().to_vec());
                in_segment
            }
            (_, tag::PARSE_COMPLETE) => in_segment,
            (event, _) => matches!(event, Event::Ready(_)),
        });
        collected.await.ok()?;
        error
    }
}

/// Whether a text may have a string in it. To parse it may run code: a constant is read by the input function of its type,
/// which checks the domains within it.
pub(super) fn has_constant(sql: &[u8]) -> bool {
    sql.iter().any(|byte| matches!(byte, b'\'' | b'$'))
}

/// What a server says of tables, functions, schemas and other objects that it does not have, or has as something else.
const ABSENT: [&[u8]; 5] = [b"42P01", b"42883", b"42704", b"42809", b"3F000"];

fn says_absent(body: &[u8]) -> bool {
    let fields = Fields::read(body);
    !fields.is_fatal() && ABSENT.contains(&fields.code.unwrap_or_default())
}

/// Whether an error says that something is wrong with the text, and not with the moment.
fn is_about_text(body: &[u8], only_grammar: bool) -> bool {
    let fields = Fields::read(body);
    let code = fields.code.unwrap_or_default();
    if fields.is_fatal() {
        return false;
    }
    match only_grammar {
        // That there are several statements has no place.
        true => code == b"42601" && crate::statements::errors::place_of(body).is_some(),
        // Which objects there are the home shard cannot say for others.
        false if ABSENT.contains(&code) => false,
        false => code.starts_with(b"42") || code.starts_with(b"22"),
    }
}
