//! A read that definitions have overtaken: they changed while it waited for locks on its tables.
//!
//! PostgreSQL analyses a statement once it has these locks, so that one that waits for ALTER TABLE is answered by the
//! table as it is then. The router plans a statement over several shards before they make it wait. By what they know
//! afterwards the statement may fail, although nothing is wrong with it, or it may need another plan: rows of a view that
//! has become an aggregate are no answer as they come. If it is all of its transaction, and the client has seen nothing
//! of its answer, the router runs the request once more, planned anew.
//!
//! Only while a client of this router changes definitions is a request taken here.

use super::repeat::Again;
use super::state::{Block, Phase};
use super::{End, Session, primary};
use crate::core::clock::Doing;
use crate::statements::names::Prepared;
use crate::statements::step::Kind;
use mothership_proto::frame::{self, Next};
use mothership_proto::frontend::{self, tag};
use mothership_proto::report::Fields;
use mothership_proto::segment::{self, Segment};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A request runs so often at most.
const MAX_RUNS: u8 = 4;

/// Whoever changes definitions has told the shards, and tells the router so much later at most.
const LATE: Duration = Duration::from_millis(250);

/// The pause between two looks whether that has happened.
const PAUSE: Duration = Duration::from_millis(1);

/// What a statement fails with if what its plan knows of tables is no longer so: objects, columns and types that are
/// not there (class 42), and what servers or the router say of answers and values of another form.
fn is_of_definitions(code: &[u8]) -> bool {
    code.starts_with(b"42") || matches!(code, b"0A000" | b"08P01" | b"22P03" | b"XX000")
}

/// Whether one of these messages is an error of this kind.
fn fails_by_definitions(mut messages: &[u8]) -> bool {
    while let Ok(Next::Whole(message)) = frame::next(messages, usize::MAX) {
        if message.tag() == mothership_proto::backend::tag::ERROR {
            return Fields::read(message.body())
                .code
                .is_some_and(is_of_definitions);
        }
        messages = &messages[message.bytes.len()..];
    }
    false
}

impl Session {
    /// Takes the request at the beginning of the input, if it has arrived in full and is a read that definitions may
    /// overtake. False if it is another one; then nothing was taken.
    pub(super) async fn take_overtaken(&mut self) -> Result<bool, End> {
        if !self.core.shared.is_changing() || !self.is_free() {
            return Ok(false);
        }
        // What is read by a client that has only just come is planned by what others know.
        let known = self.is_up_to_date() || self.knows_model();
        let Some(length) = self.read_alone().filter(|_| known) else {
            return Ok(false);
        };
        let mut bytes = self.core.take_scratch();
        bytes.extend_from_slice(&self.client.input()[..length]);
        self.client.consume(length);
        self.entry.pulse.begin(Doing::Running);
        for run in 1.. {
            let epoch = self.epoch();
            self.client.hold();
            let ran = self.run_held(&bytes).await;
            let again = ran.is_ok()
                && run < MAX_RUNS
                && self.is_between_requests()
                && self.client.held().is_some()
                && self.was_overtaken(&bytes, epoch).await;
            if !again {
                self.client.release();
                self.core.give_scratch(bytes);
                ran?;
                break;
            }
            self.client.discard();
            self.state.tally.repeats();
        }
        Ok(true)
    }

    /// Whether definitions have changed since `epoch`, when the request began, and it has failed by that, or would go
    /// another way now.
    async fn was_overtaken(&mut self, request: &[u8], epoch: u64) -> bool {
        let fails = self.client.held_bytes().is_some_and(fails_by_definitions);
        let used = self.known.model.clone();
        if fails {
            return self.change_is_over(epoch).await;
        }
        // A shard that has told the rows may have committed the change before the router has heard of it.
        let begun = Instant::now();
        while self.core.shared.is_committing_change() && begun.elapsed() < LATE {
            tokio::time::sleep(PAUSE).await;
        }
        let Some(used) = used.filter(|used| used.epoch < self.epoch()) else {
            return false;
        };
        if self.refresh_model().await.is_err() {
            return false;
        }
        let plans = [Some(used), self.known.model.clone()].map(|model| {
            let (_, statement) = self.request_at(request)?;
            let sql = statement.steps.first()?.span.of(&statement.sql);
            let plan = self.plan(&statement, 0, std::str::from_utf8(sql).ok()?, &model?);
            plan.ok().map(|plan| plan.to_string())
        });
        plans[0] != plans[1]
    }

    /// Whether the request has been answered, and left no transaction open.
    fn is_between_requests(&self) -> bool {
        self.state.phase == Phase::Idle
            && self.state.block == Block::None
            && !self.transaction.implicit
            && !self.state.skipping
    }

    /// The length of the request that comes next, if it is one statement that only reads.
    fn read_alone(&self) -> Option<usize> {
        let (length, statement) = self.request_at(self.client.input())?;
        let [step] = statement.steps.as_slice() else {
            return None;
        };
        let reads = matches!(step.kind, Kind::Plain)
            && !step.changes_schema
            && !self.known.may_write(&statement.steps)
            && self.can_be_undone(&statement.sql, &statement.steps);
        reads.then_some(length)
    }

    /// The request at the beginning of these messages, if it has arrived in full and runs one text: its length and the text.
    fn request_at(&self, messages: &[u8]) -> Option<(usize, Rc<Prepared>)> {
        let limit = self.topology.config.limits.client_message.bytes();
        match *messages.first()? {
            tag::QUERY => {
                let Ok(Next::Whole(message)) = frame::next(messages, limit) else {
                    return None;
                };
                let statement = self.queried(frontend::query(message.body()).ok()?);
                Some((message.bytes.len(), statement))
            }
            tag::PARSE | tag::BIND => {
                let length = segment::length(messages, limit)?;
                let segment = Segment::read(&messages[..length])?;
                let statement = match &segment.parse {
                    Some(parse) => self.statement(parse),
                    None => Rc::clone(self.state.names.get(segment.bind.statement)?),
                };
                Some((length, statement))
            }
            _ => None,
        }
    }

    /// Serves the messages of a request.
    async fn run_held(&mut self, mut messages: &[u8]) -> Result<(), End> {
        while let Ok(Next::Whole(message)) = frame::next(messages, usize::MAX) {
            let length = message.bytes.len();
            self.state.tally.took(message.tag(), length);
            self.request.again = Again::Never;
            self.request.buffers = primary::buffers(length);
            let result = self.on_frame(message.tag(), message.body(), None).await;
            self.request.buffers = 0;
            self.taken(result).await?;
            messages = &messages[length..];
        }
        Ok(())
    }

    /// Whether definitions have changed since `epoch`. If they are being changed, that is waited for, but not for long.
    async fn change_is_over(&self, epoch: u64) -> bool {
        let begun = Instant::now();
        while self.epoch() == epoch {
            if !self.core.shared.is_changing() || begun.elapsed() > LATE {
                return false;
            }
            tokio::time::sleep(PAUSE).await;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mothership_proto::report::Report;

    #[test]
    fn only_errors_about_definitions_are_forgotten() {
        let told = |codes: &[&'static str]| {
            let mut messages = b"N\0\0\0\x05\0".to_vec();
            for code in codes {
                Report::error(code, "it fails").put(&mut messages);
            }
            fails_by_definitions(&messages)
        };
        assert!(told(&["08P01"]) && told(&["42703", "57014"]));
        assert!(!told(&[]) && !told(&["57014"]) && !told(&["40001", "42703"]));
    }
}
