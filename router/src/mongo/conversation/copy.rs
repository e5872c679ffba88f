//! COPY FROM STDIN: the client's rows come in, and are stored in batches of one transaction.
//!
//! Messages are read here until the rows are over. After an error the client may still be sending them; they are passed
//! over, as PostgreSQL does.

use super::{Block, Conversation, now, read_only, until};
use crate::mongo::outcome::Stop;
use crate::retry::Retry;
use mothership_documents::translate::{Batch, Command, Load, Loading, Misfit};
use mothership_documents::value::Forms;
use mothership_proto::backend;
use mothership_proto::frame;
use mothership_proto::frontend::{self, tag};
use mothership_proto::report::{Report, sqlstate};
use tokio::time::Instant;

/// What is read of a message at once, so that documents are made of no more than can be stored soon.
const PIECE: usize = 64 * 1024;

/// How rows are stored.
struct Storing<'l> {
    load: &'l Load,
    forms: &'l Forms,
    /// When it has taken as long as the session lets it.
    limit: Option<Instant>,
    retry: Retry,
    /// The transaction is the COPY's own.
    has_begun: bool,
    stored: usize,
}

impl Conversation {
    /// Takes the client's rows, and returns what the command is called.
    pub(super) async fn copy_in(&mut self, load: &Load) -> Result<String, Stop> {
        if self.settings.is_read_only() {
            return Err(read_only("COPY FROM"));
        }
        let forms = self.settings.forms()?;
        self.settings.check()?;
        let worker = self.server.worker()?;
        if !worker.in_transaction {
            // Once rows come, nobody can send them again to another member.
            worker.check_primary().await?;
        }
        let time = match self.block {
            Block::None => now(),
            _ => self.now,
        };
        let mut loading = load.begin(&forms, time)?;
        let mut storing = Storing {
            load,
            forms: &forms,
            limit: self.deadline(),
            retry: self.retry(),
            has_begun: false,
            stored: 0,
        };
        frame::put(&mut self.line.output, backend::tag::COPY_IN, |body| {
            let code = u8::from(load.is_binary());
            body.push(code);
            // There are no more columns than PostgreSQL allows.
            body.extend_from_slice(&(load.columns() as u16).to_be_bytes());
            for _ in 0..load.columns() {
                body.extend_from_slice(&i16::from(code).to_be_bytes());
            }
        });
        self.take_rows(&mut loading, &mut storing).await?;
        loading.finish();
        self.store_full(&mut loading, &mut storing).await?;
        let rest = loading.rest();
        self.store(rest, &mut storing, true).await?;
        if storing.has_begun {
            self.server.end(true).await?;
        }
        Ok(format!("COPY {}", storing.stored))
    }

    /// Up to CopyDone.
    async fn take_rows(
        &mut self,
        loading: &mut Loading<'_>,
        storing: &mut Storing<'_>,
    ) -> Result<(), Stop> {
        let mut message = Vec::new();
        loop {
            self.line.flush().await.map_err(|_| Stop::Lost)?;
            let Some(come) = until(storing.limit, self.line.message(&mut message)).await else {
                return Err(self.late().await);
            };
            come.map_err(|_| Stop::Lost)?;
            let body = &message[frame::HEADER..];
            match message[0] {
                tag::COPY_DATA => {
                    for piece in body.chunks(PIECE) {
                        loading.feed(piece);
                        self.store_full(loading, storing).await?;
                    }
                }
                tag::COPY_DONE => return Ok(()),
                tag::COPY_FAIL => {
                    let reason = frontend::copy_fail(body).unwrap_or_default();
                    let reason = String::from_utf8_lossy(reason);
                    let report = Report::error(
                        sqlstate::QUERY_CANCELED,
                        format!("COPY from stdin failed: {reason}"),
                    );
                    let line = storing.load.line(loading.line() + 1);
                    return Err(report.field(b'W', line).into());
                }
                // Ignored during COPY, as PostgreSQL does.
                tag::FLUSH | tag::SYNC => {}
                _ => return Err(Stop::Lost),
            }
        }
    }

    /// Stores the batches that are full, and says what is wrong behind them.
    async fn store_full(
        &mut self,
        loading: &mut Loading<'_>,
        storing: &mut Storing<'_>,
    ) -> Result<(), Stop> {
        while let Some(batch) = loading.full() {
            self.store(batch, storing, false).await?;
        }
        Ok(loading.checked()?)
    }

    /// Stores a batch. One that is the first and the last needs no transaction around it.
    async fn store(
        &mut self,
        batch: Batch,
        storing: &mut Storing<'_>,
        is_last: bool,
    ) -> Result<(), Stop> {
        let Batch {
            documents, lines, ..
        } = batch;
        if documents.is_empty() {
            return Ok(());
        }
        storing.stored += documents.len();
        let command = Command::Insert {
            collection: storing.load.collection().to_owned(),
            documents,
            ignore: None,
            behind: None,
        };
        let worker = self.server.worker()?;
        if !worker.in_transaction && !is_last {
            worker.begin(Some(&command)).await?;
            storing.has_begun = true;
        }
        // A write by itself is not ended: nobody could say what has become of it.
        let limit = storing.limit.filter(|_| worker.in_transaction);
        let work = worker.load(&command, storing.forms, storing.retry);
        let Some(done) = until(limit, work).await else {
            return Err(self.late().await);
        };
        done.map_err(|(stop, at)| match (stop, lines.get(at)) {
            (Stop::Report(report), Some(line)) => {
                Stop::Report(report.field(b'W', storing.load.line(*line)))
            }
            (stop, _) => stop,
        })
    }
}

impl From<Misfit> for Stop {
    fn from(misfit: Misfit) -> Stop {
        match (Stop::from(*misfit.fault), misfit.context) {
            (Stop::Report(report), Some(context)) => Stop::Report(report.field(b'W', context)),
            (stop, _) => stop,
        }
    }
}
