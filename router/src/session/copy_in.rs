//! COPY FROM STDIN over several shards: the client's rows divided by their key.

use super::dispatch::Many;
use super::knowledge::Knowledge;
use super::many::Merging;
use super::servers::AttachedId;
use super::{End, Halt, Servers, Session, too_long, unexpected_in_copy, violation};
use crate::statements::errors::put_changed;
use mothership_copy::{CopyOptions, Filler, KeyColumn, LineMap, Piece, RowKey, Rules, Splitter};
use mothership_plan::{Refusal, Split, SplitRows};
use mothership_proto::backend;
use mothership_proto::frame::{self, FrameError, Next};
use mothership_proto::frontend::{self, tag};
use mothership_proto::ledger::Event;
use mothership_proto::report::{Fields, Report, sqlstate};
use mothership_shardmap::ShardId;

/// Lines remembered for each shard, to turn its line numbers into the client's.
const LINES: u32 = 1024;

impl Servers {
    fn end_copy(&mut self, places: &[AttachedId], failed: Option<&[u8]>) {
        for &at in places {
            let lease = &mut self[at].lease;
            if !lease.ledger().is_copy_in() {
                continue;
            }
            lease.end_copy(failed);
        }
    }
}

impl Knowledge {
    /// Whether PostgreSQL refuses a row without a key wherever it is stored: nothing gives it one before.
    fn refuses_null(&self, split: &Split) -> bool {
        let model = self.model.as_ref();
        let relation = model.and_then(|model| model.catalog().relation(&split.table));
        relation.is_some_and(|relation| {
            let mut key = split.sharded.0.columns.iter();
            let required = |name: &str| relation.column(name).is_some_and(|(_, c)| c.not_null);
            relation.triggers.is_empty() && key.all(|(name, _)| required(name))
        })
    }
}

impl Session {
    /// The COPY was sent to the servers at `places`, in the order of their shards.
    pub(super) async fn copy_many(
        &mut self,
        sql: &[u8],
        many: &Many,
        places: &[AttachedId],
    ) -> Result<Vec<u8>, Halt> {
        let split = many.copy.as_deref();
        let filler = many.filler.as_deref();
        let own_columns = filler.map(Filler::columns);
        let mut merging = Merging::new(&many.merge, places.len());
        let mut started = 0;
        for (leg, &at) in places.iter().enumerate() {
            let mut began = false;
            self.each_message(at, |frame, reply, client| {
                if reply.event == Event::CopyIn {
                    began = true;
                    if leg == 0 {
                        match own_columns {
                            Some(columns) => {
                                client.with_output(|out| backend::put_copy_in_text(out, columns));
                            }
                            None => client.send(frame.bytes),
                        }
                    }
                    return true;
                }
                merging.take(leg, frame, reply.event, client)
            })
            .await?;
            started += usize::from(began);
        }
        if started < places.len() {
            // Some shard refused: the others are told to stop.
            self.servers
                .end_copy(places, Some(b"COPY failed on another shard"));
            return self.copy_results(places, merging, None, None).await;
        }
        let outcome = self.divide(sql, (split, filler), places).await;
        match &outcome {
            Ok((_, None)) => self.servers.end_copy(places, None),
            Ok((_, Some(report))) | Err(Halt::Fail(report)) => {
                self.servers
                    .end_copy(places, Some(report.message.as_bytes()));
            }
            Err(_) => return outcome.map(|_| Vec::new()),
        }
        match outcome {
            Ok((lines, given_up)) => {
                let lines = split.map(|split| Lines {
                    table: &split.table.name,
                    map: &lines,
                    filler,
                });
                self.copy_results(places, merging, lines, given_up).await
            }
            Err(halt) => {
                // The router's own reason is told, not what the shards say about it.
                for (leg, &at) in places.iter().enumerate() {
                    if !self.servers[at].lease.ledger().is_empty() {
                        self.collect(leg, at, &mut merging).await?;
                    }
                }
                Err(halt)
            }
        }
    }

    /// The answers of all shards. Of several errors the one that comes first in the client's rows is told, with the
    /// number of the line there, if the rows of this table were divided. If the client has given up, that is told unless
    /// a line before was wrong.
    async fn copy_results(
        &mut self,
        places: &[AttachedId],
        mut merging: Merging,
        lines: Option<Lines<'_>>,
        given_up: Option<Report>,
    ) -> Result<Vec<u8>, Halt> {
        // One that came before any row is the first, also where no shard has more to say.
        let mut errors: Vec<(Option<u64>, Vec<u8>)> = Vec::new();
        errors.extend(merging.error.take().map(|body| (None, body)));
        for (leg, &at) in places.iter().enumerate() {
            if self.servers[at].lease.ledger().is_empty() {
                continue;
            }
            self.collect(leg, at, &mut merging).await?;
            let error = merging.error.take();
            errors.extend(error.map(|body| match &lines {
                Some(lines) => lines.of_client(&body, leg),
                None => (None, body),
            }));
        }
        if let Some(report) = given_up {
            let code =
                |body: &[u8]| Fields::read(body).code == Some(sqlstate::QUERY_CANCELED.as_bytes());
            errors.retain(|(_, body)| !code(body));
            if errors.is_empty() {
                return Err(report.into());
            }
        }
        let first = |(line, _): &(Option<u64>, Vec<u8>)| line.unwrap_or(u64::MAX);
        merging.error = errors.into_iter().min_by_key(first).map(|(_, body)| body);
        self.finish_many(merging)
    }

    /// Takes the client's rows until CopyDone, and returns which lines they were, or until CopyFail, which is returned too.
    /// Fails with the reason for the client.
    /// Without a split every shard gets all of them.
    async fn divide(
        &mut self,
        sql: &[u8],
        (split, filler): (Option<&Split>, Option<&Filler>),
        places: &[AttachedId],
    ) -> Result<(LineMap, Option<Report>), Halt> {
        let splitter = split.map(|split| self.splitter(sql, split));
        // Even if the rows cannot be divided they must be read to their end.
        let (mut splitter, mut failed) = match splitter {
            Some(Ok(splitter)) => (Some(splitter), None),
            Some(Err(report)) => (None, Some(report)),
            None => (None, None),
        };
        let mut given_up = None;
        let mut rows = Rows::new(places.len(), filler);
        rows.refuses_null = split.is_some_and(|split| self.known.refuses_null(split));
        let limit = self.topology.config.limits.client_message.bytes();
        let buffer = self.topology.config.limits.copy_buffer.bytes();
        loop {
            let (message, length) = self.copy_message(limit).await?;
            let body = &self.client.input()[frame::HEADER..length];
            match message {
                tag::COPY_DATA => {
                    if let (Some(divider), Some(split), None) = (&mut splitter, split, &failed) {
                        let fed = divider
                            .feed(body, |piece| rows.add(piece, split, places, &self.servers));
                        failed = fed.err().map(|e| e.report()).or_else(|| rows.failed.take());
                    } else if split.is_none() {
                        for waiting in &mut rows.waiting {
                            waiting.extend_from_slice(body);
                        }
                    }
                }
                tag::COPY_DONE => {
                    if let (Some(divider), Some(split), None) = (&mut splitter, split, &failed) {
                        let fed =
                            divider.finish(|piece| rows.add(piece, split, places, &self.servers));
                        failed = fed.err().map(|e| e.report()).or_else(|| rows.failed.take());
                    }
                }
                // A line that was wrong before came first.
                tag::COPY_FAIL => given_up = Some(copy_failed(body)),
                // Ignored during COPY, as PostgreSQL does.
                tag::FLUSH | tag::SYNC => {}
                tag::TERMINATE => return Err(End::Gone.into()),
                other => return Err(End::Told(unexpected_in_copy(other)).into()),
            }
            self.client.consume(length);
            if !self.send_rows(&mut rows, places, buffer).await {
                failed.get_or_insert_with(|| {
                    Report::error(sqlstate::CONNECTION_FAILURE, "server connection was lost")
                });
            }
            if !matches!(message, tag::COPY_DATA | tag::FLUSH | tag::SYNC) {
                return match failed {
                    None => Ok((rows.lines, given_up)),
                    Some(report) => Err(Halt::Fail(report)),
                };
            }
        }
    }

    /// The kind and the length of the client's next message, when all of it is there.
    async fn copy_message(&mut self, limit: usize) -> Result<(u8, usize), End> {
        loop {
            match frame::next(self.client.input(), limit) {
                Ok(Next::Whole(frame)) => return Ok((frame.tag(), frame.bytes.len())),
                Ok(Next::Partial { .. }) => match self.client.fill().await {
                    Ok(n) if n > 0 => {}
                    _ => return Err(End::Gone),
                },
                Err(FrameError::TooLong { length, limit, .. }) => {
                    return Err(End::Told(too_long(length, limit)));
                }
                Err(FrameError::Invalid { .. }) => {
                    return Err(End::Told(violation("invalid message length")));
                }
            }
        }
    }

    /// Sends the shards the rows that wait for them, and waits while one has more than `buffer` bytes to take. False if a
    /// server is lost.
    async fn send_rows(
        &mut self,
        rows: &mut Rows<'_>,
        places: &[AttachedId],
        buffer: usize,
    ) -> bool {
        let mut well = true;
        for (&at, waiting) in places.iter().zip(&mut rows.waiting) {
            let lease = &mut self.servers[at].lease;
            if !waiting.is_empty() {
                lease.copy_data(waiting);
                waiting.clear();
            }
            well &= lease.unsent() <= buffer || lease.drained(buffer / 2).await.is_ok();
        }
        well
    }

    fn splitter(&self, sql: &[u8], split: &Split) -> Result<Splitter, Report> {
        let SplitRows::Copy {
            key_positions,
            columns,
            ..
        } = &split.rows
        else {
            return Err(Report::error(
                sqlstate::INTERNAL_ERROR,
                "rows of COPY were not planned",
            ));
        };
        let options = CopyOptions::parse(sql, self.standard_strings()).map_err(|e| e.report())?;
        let relation = self
            .known
            .model
            .as_ref()
            .and_then(|w| w.catalog().relation(&split.table));
        let key = split.sharded.0.columns.iter().zip(key_positions).map(
            |((name, key_type), position)| KeyColumn {
                name: name.clone(),
                position: *position,
                key_type: *key_type,
                typmod: relation
                    .and_then(|r| r.column(name))
                    .map_or(-1, |(_, c)| c.typmod),
            },
        );
        let version = self
            .known
            .model
            .as_ref()
            .map_or(0, |w| w.catalog().server_version);
        let rules = Rules {
            columns: *columns,
            key: key.collect(),
            context: self.state.text_context(),
            major_version: (version / 10_000) as u16,
            row_limit: self.topology.config.limits.copy_row.bytes(),
        };
        Splitter::new(&options, rules).map_err(|e| e.report())
    }
}

/// The client's CopyFail as PostgreSQL tells it.
fn copy_failed(body: &[u8]) -> Report {
    let reason = frontend::copy_fail(body).unwrap_or_default();
    let reason = String::from_utf8_lossy(reason);
    let message = format!("COPY from stdin failed: {reason}");
    Report::error(sqlstate::QUERY_CANCELED, message)
}

/// Rows on their way to their shards.
struct Rows<'f> {
    /// What is added to each.
    filler: Option<&'f Filler>,
    waiting: Vec<Vec<u8>>,
    lines: LineMap,
    failed: Option<Report>,
    /// No shard takes a row without a key.
    refuses_null: bool,
}

impl<'f> Rows<'f> {
    fn new(shards: usize, filler: Option<&'f Filler>) -> Self {
        Self {
            filler,
            waiting: vec![Vec::new(); shards],
            lines: LineMap::new(shards, LINES),
            failed: None,
            refuses_null: false,
        }
    }

    fn add(&mut self, piece: Piece<'_>, split: &Split, places: &[AttachedId], servers: &Servers) {
        match piece {
            Piece::Header(header) => {
                for (leg, waiting) in self.waiting.iter_mut().enumerate() {
                    waiting.extend_from_slice(header.bytes);
                    self.lines.header(leg, &header);
                }
            }
            Piece::Trailer(bytes) => {
                for waiting in &mut self.waiting {
                    waiting.extend_from_slice(bytes);
                }
            }
            Piece::Row(row) => {
                let leg = match row.key {
                    RowKey::Values(key) => {
                        let owner = mothership_plan::route::owner(&split.sharded.0, key);
                        owner
                            .map_err(|r| super::dispatch::refused(&r))
                            .and_then(|shard| leg_of(shard, places, servers))
                    }
                    // The server says it in its own words.
                    RowKey::Refused { .. } => Ok(0),
                    RowKey::Null { .. } if self.refuses_null => Ok(0),
                    RowKey::Null { column } => {
                        Err(about(mothership_plan::Reason::InsertNullKey, split, column))
                    }
                    RowKey::Unsure { column } => {
                        Err(about(mothership_plan::Reason::InsertKey, split, column))
                    }
                };
                match leg {
                    Ok(leg) => {
                        match self.filler {
                            Some(filler) => filler.put(&row, &mut self.waiting[leg]),
                            None => self.waiting[leg].extend_from_slice(row.bytes),
                        }
                        self.lines.row(leg, &row);
                    }
                    Err(report) => {
                        self.failed.get_or_insert(report);
                    }
                }
            }
        }
    }
}

/// The client's rows, as errors of shards name them.
struct Lines<'a> {
    table: &'a str,
    map: &'a LineMap,
    filler: Option<&'a Filler>,
}

impl Lines<'_> {
    /// A shard's error with the client's number of the line that it is about, and that number.
    fn of_client(&self, body: &[u8], leg: usize) -> (Option<u64>, Vec<u8>) {
        let mut line = None;
        let mut message = Vec::new();
        put_changed(&mut message, body, |code, text| {
            let context = std::str::from_utf8(text).ok().filter(|_| code == b'W')?;
            let (corrected, found) = self.map.correct_context(leg, self.table, context);
            line = found;
            Some(match self.filler {
                Some(filler) => filler.without_tail(&corrected).into_bytes(),
                None => corrected.into_bytes(),
            })
        });
        // Behind the tag and the length.
        (line, message.split_off(5))
    }
}

fn leg_of(shard: ShardId, places: &[AttachedId], servers: &Servers) -> Result<usize, Report> {
    let found = places.iter().position(|&at| servers[at].shard == shard);
    found.ok_or_else(|| {
        Report::error(
            sqlstate::INTERNAL_ERROR,
            "a row belongs to a shard that takes no part",
        )
    })
}

fn about(reason: mothership_plan::Reason, split: &Split, column: usize) -> Report {
    let name = split
        .sharded
        .0
        .columns
        .get(column)
        .map_or("", |(name, _)| name);
    super::dispatch::refused(&Refusal::about(
        reason,
        format!("column \"{name}\" of table \"{}\"", split.table.name),
    ))
}
