//! UPDATE and DELETE of documents as a residue says: its rows are read whole, then MongoDB is told of each, then the client
//! of what RETURNING shows.

use super::conflict::Conflict;
use super::fetch::too_much;
use super::residue::without_position;
use super::write::{Run, formatted, same_columns};
use super::{GatherWork, Value};
use crate::session::dispatch::refused;
use crate::session::many::Held;
use crate::session::servers::AttachedId;
use crate::session::state::Phase;
use crate::session::{Halt, Session};
use mothership_merge::Arrays;
use mothership_plan::Refusal;
use mothership_plan::gather::{self, Change, DocumentWrite};
use mothership_plan::refuse::Reason;
use mothership_proto::backend::{self, Column, tag};
use mothership_proto::ledger::{Audience, Event};
use mothership_proto::report::{Fields, Report, sqlstate};
use std::collections::HashSet;

/// So many changes go ahead of their answers.
const TOGETHER: usize = 500;

/// What a residue has computed.
struct Computed {
    columns: Vec<Column>,
    /// Rows as they came, behind tag and length.
    rows: Vec<Box<[u8]>>,
}

/// What has come of telling MongoDB.
#[derive(Default)]
struct ChangeOutcome {
    changed: u64,
    failed: Option<Vec<u8>>,
}

impl Session {
    /// Runs the residue on the server `at`, and changes documents as it says. The command is returned and not written.
    pub(super) async fn change(
        &mut self,
        at: AttachedId,
        work: &GatherWork,
        change: &Change,
        run: &Run<'_>,
    ) -> Result<Vec<u8>, Halt> {
        let computed = self.compute(at, work, change, run).await?;
        let returned = &run.described.columns;
        let shown = computed.columns.get(change.bound..).unwrap_or_default();
        if !same_columns(shown, returned) {
            let said = "its columns would have other names or types";
            return Err(super::residue::wrong_statement(&work.plan, said).into());
        }
        let changed = self.tell_documents(work, change, &computed).await?;
        let rows: Vec<Box<[u8]>> = match returned.is_empty() {
            true => Vec::new(),
            false => {
                let behind = computed.rows.iter().map(|row| behind(row, change.bound));
                behind.collect::<Option<_>>().ok_or_else(malformed)?
            }
        };
        let command = change.command.tag(changed).into_bytes();
        Ok(self.shown(run, rows, command))
    }

    /// Stores rows in MongoDB as `sql` says, on the server `place`, and has PostgreSQL compute at `at` what RETURNING
    /// shows of them. `own` is what the one is to know of the client's values, and `run` what the other is.
    pub(super) async fn store_shown(
        &mut self,
        (at, shown): (AttachedId, &str),
        work: &GatherWork,
        (place, sql, arrays): (AttachedId, &str, &[Vec<u8>]),
        (own, run): (&Run<'_>, &Run<'_>),
    ) -> Result<Vec<u8>, Halt> {
        let inbox = &mut self.servers[place].inbox;
        inbox.wrote = true;
        inbox.may_write = true;
        let stored = self.rows_of(place, work, (sql, arrays), own, &[1]).await?;
        let elements: Vec<u32> = stored.columns.iter().map(|c| c.type_oid).collect();
        let mut arrays = Arrays::new(&elements);
        for row in &stored.rows {
            arrays.add(row).map_err(|_| malformed())?;
        }
        let shown = self.with_times(run.sql, shown, true).await?;
        let arrays = arrays.finish();
        let computed = self
            .rows_of(at, work, (&shown, &arrays), run, run.formats)
            .await?;
        let command = format!("INSERT 0 {}", stored.rows.len()).into_bytes();
        Ok(self.shown(run, computed.rows, command))
    }

    /// Gives the client the rows of RETURNING, or keeps them for it. The command is returned.
    fn shown(&mut self, run: &Run<'_>, rows: Vec<Box<[u8]>>, command: Vec<u8>) -> Vec<u8> {
        let returned = &run.described.columns;
        if run.describes && !returned.is_empty() {
            let columns = formatted(returned, run.formats);
            self.client
                .with_output(|out| backend::put_columns(out, &columns));
        }
        match run.held {
            Some(held) => {
                let kept: Held = (rows.into_iter().map(framed).collect(), command.clone());
                held.replace(Some(kept));
            }
            None => self.client.with_output(|out| {
                for row in &rows {
                    out.extend_from_slice(&framed(row.clone()));
                }
            }),
        }
        command
    }

    /// The rows of the residue: the values of changes in binary, those of RETURNING as the client wants them.
    async fn compute(
        &mut self,
        at: AttachedId,
        work: &GatherWork,
        change: &Change,
        run: &Run<'_>,
    ) -> Result<Computed, Halt> {
        let sql = self.with_times(run.sql, &work.residue, true).await?;
        let shown = formatted(&run.described.columns, run.formats);
        let formats = std::iter::repeat_n(1, change.bound);
        let formats = formats.chain(shown.iter().map(|column| column.format));
        let formats: Vec<i16> = formats.collect();
        let computed = self
            .rows_of(at, work, (&sql, run.arrays), run, &formats)
            .await?;
        match computed.columns.len() < change.bound {
            true => Err(malformed()),
            false => Ok(computed),
        }
    }

    /// The rows that a statement gives on the server `at`, in these formats.
    async fn rows_of(
        &mut self,
        at: AttachedId,
        work: &GatherWork,
        (sql, arrays): (&str, &[Vec<u8>]),
        run: &Run<'_>,
        formats: &[i16],
    ) -> Result<Computed, Halt> {
        self.send_statement(at, work, (sql, arrays), run, formats, true);
        let segment = self.state.phase == Phase::Segment;
        let (mut rows_left, mut bytes_left) = self.topology.fetch_limits();
        let mut computed = Computed {
            columns: Vec::new(),
            rows: Vec::new(),
        };
        let (mut parsed, mut failed, mut wrong) = (false, None, None);
        self.each_message(at, |frame, reply, _| {
            match (reply.event, frame.tag()) {
                (Event::Ready(_), _) => return true,
                (Event::Failed, _) => {
                    failed.get_or_insert_with(|| frame.body().to_vec());
                    return segment;
                }
                (Event::Parsed(_), _) => parsed = true,
                (_, tag::ROW_DESCRIPTION) => {
                    computed.columns = backend::columns(frame.body()).unwrap_or_default();
                }
                (_, tag::DATA_ROW) if wrong.is_none() => {
                    let row = frame.body();
                    match (rows_left.checked_sub(1), bytes_left.checked_sub(row.len())) {
                        (None, _) => wrong = Some(too_much("rows", "limits.gathered_rows")),
                        (_, None) => wrong = Some(too_much("bytes", "limits.gathered_size")),
                        (Some(rows), Some(bytes)) => {
                            (rows_left, bytes_left) = (rows, bytes);
                            computed.rows.push(row.into());
                        }
                    }
                }
                (_, tag::CLOSE_COMPLETE) => return segment,
                _ => {}
            }
            false
        })
        .await?;
        match (failed, wrong) {
            (Some(body), _) if parsed => Err(self.failed_with(&without_position(&body))),
            (Some(body), _) => Err(self.differs(work, &body)),
            (None, Some(report)) => Err(report.into()),
            (None, None) => Ok(computed),
        }
    }

    /// Tells MongoDB of all changes. How many rows there were.
    async fn tell_documents(
        &mut self,
        work: &GatherWork,
        change: &Change,
        computed: &Computed,
    ) -> Result<u64, Halt> {
        let Some(shard) = work.target.first() else {
            // No shard may have such a row.
            return Ok(0);
        };
        self.servers
            .check_second_set(&self.topology, *shard, true)?;
        let at = self.attach(*shard).await?;
        let inbox = &mut self.servers[at].inbox;
        inbox.wrote = true;
        inbox.may_write = true;
        let rows = computed.rows.iter().map(|row| values(row, change.bound));
        let rows: Vec<Vec<Value<'_>>> = rows.collect::<Option<_>>().ok_or_else(malformed)?;
        // What comes before a row that there may not be is done, as PostgreSQL does it: it may be wrong, too.
        let second = second_of_two(change, &rows)?;
        let done = &rows[..second.unwrap_or(rows.len())];
        let mut told = ChangeOutcome::default();
        if rows.is_empty() {
            // Who may not write is told so, even where there is nothing to do.
            let nothing = vec![vec![(1, None); change.bound]];
            let first = change.told.first().ok_or_else(malformed)?;
            self.tell_run(at, (first, computed), &nothing, &mut told)
                .await?;
        }
        for run in done.chunk_by(|a, b| chosen(change, a) == chosen(change, b)) {
            let number = run.first().and_then(|row| chosen(change, row));
            let one = &change.told[number.ok_or_else(malformed)?];
            self.tell_run(at, (one, computed), run, &mut told).await?;
        }
        match told.failed {
            Some(body) if self.transaction.conflict == Conflict::Repeats && is_conflict(&body) => {
                self.transaction.conflict = Conflict::Met;
                Err(Halt::Failed)
            }
            Some(body) => {
                let body = as_told_to(change, &without_position(&body));
                Err(self.failed_with(&body))
            }
            None if second.is_some() => Err(twice(change.command).into()),
            None if told.changed != computed.rows.len() as u64 => Err(not_one_each(change).into()),
            None => Ok(told.changed),
        }
    }

    /// Tells MongoDB of rows that are for one change.
    async fn tell_run(
        &mut self,
        at: AttachedId,
        (one, computed): (&gather::DocumentStatement, &Computed),
        run: &[Vec<Value<'_>>],
        told: &mut ChangeOutcome,
    ) -> Result<(), Halt> {
        let types = one.values.iter().map(|at| computed.columns[*at].type_oid);
        let types: Vec<u8> = types.flat_map(u32::to_be_bytes).collect();
        for together in run.chunks(TOGETHER) {
            let mut rows = Vec::with_capacity(together.len());
            for row in together {
                rows.push(one.values.iter().map(|at| row[*at]).collect());
            }
            self.tell_each(at, (&one.sql, &types), &rows, told).await?;
        }
        Ok(())
    }

    /// Executes a statement once for each of these values, without waiting in between.
    async fn tell_each(
        &mut self,
        at: AttachedId,
        (sql, types): (&str, &[u8]),
        rows: &[Vec<Value<'_>>],
        told: &mut ChangeOutcome,
    ) -> Result<(), Halt> {
        if told.failed.is_some() {
            return Ok(());
        }
        let segment = self.state.phase == Phase::Segment;
        let attached = &mut self.servers[at];
        attached.inbox.in_segment |= segment;
        attached.inbox.touched.add(None);
        let lease = &mut attached.lease;
        lease.request(Audience::Router, |send| {
            send.parse(sql.as_bytes(), types);
            for values in rows {
                send.bind((b"", b""), values.iter().copied(), &[]);
                send.execute(b"", 0);
            }
            send.flush_or_sync(segment);
        });
        let mut left = rows.len();
        self.each_message(at, |frame, reply, _| {
            match (reply.event, frame.tag()) {
                (Event::Ready(_), _) => return true,
                (Event::Failed, _) => {
                    told.failed.get_or_insert_with(|| frame.body().to_vec());
                    return segment;
                }
                (Event::Completed, tag::COMMAND_COMPLETE) => {
                    told.changed += count(backend::command(frame.body()).unwrap_or_default());
                    left -= 1;
                    return segment && left == 0;
                }
                _ => {}
            }
            false
        })
        .await
    }
}

/// The number of the change that a row is for.
fn chosen(change: &Change, row: &[Value<'_>]) -> Option<usize> {
    if !change.chooses {
        return Some(0);
    }
    let (_, value) = row.first()?;
    let number = i32::from_be_bytes((*value)?.try_into().ok()?);
    let number = usize::try_from(number).ok()?.checked_sub(1)?;
    (number < change.told.len()).then_some(number)
}

/// The first row that is about the same document as one before it.
///
/// # Errors
/// It depends on the order of the rows what becomes of a document.
fn second_of_two(change: &Change, rows: &[Vec<Value<'_>>]) -> Result<Option<usize>, Report> {
    if !change.chooses {
        return Ok(None);
    }
    let mut found = HashSet::new();
    let mut second = None;
    for (at, row) in rows.iter().enumerate() {
        if row.get(1).is_some_and(|(_, value)| *value == Some(&[1])) {
            let detail = "a row is stored under the key of one that is deleted";
            return Err(refused(&Refusal::about(Reason::DocumentsWrite, detail)));
        }
        let told = chosen(change, row).map(|number| &change.told[number]);
        let apart = told.map_or(&[][..], |told| &told.apart);
        let key: Vec<Value<'_>> = apart.iter().map(|at| row[*at]).collect();
        // NULL is like no other.
        let has_null = key.iter().any(|(_, value)| value.is_none());
        if !key.is_empty() && !has_null && !found.insert(key) {
            second = second.or(Some(at));
        }
    }
    Ok(second)
}

/// Two rows are about the same document; see `ExecOnConflictUpdate` and `ExecMergeMatched` of PostgreSQL's
/// `nodeModifyTable.c`.
fn twice(command: DocumentWrite) -> Report {
    let (words, hint) = match command {
        DocumentWrite::Upsert => (
            "ON CONFLICT DO UPDATE",
            "Ensure that no rows proposed for insertion within the same command have duplicate constrained values.",
        ),
        other => (
            other.verb(),
            "Ensure that not more than one source row matches any one target row.",
        ),
    };
    let message = format!("{words} command cannot affect row a second time");
    Report::error("21000", message).hint(hint)
}

/// A failure as one of the statement that the client has sent.
fn as_told_to(change: &Change, body: &[u8]) -> Vec<u8> {
    let read_only = |verb: &str| format!("cannot execute {verb} in a read-only transaction");
    let said = Fields::read(body).message.unwrap_or_default();
    let verbs = ["INSERT", "UPDATE", "DELETE"];
    match verbs.iter().any(|verb| said == read_only(verb).as_bytes()) {
        true => {
            let mut message = Vec::new();
            Report::error("25006", read_only(change.command.verb())).put(&mut message);
            // Behind the tag and the length.
            message.split_off(5)
        }
        false => body.to_vec(),
    }
}

/// Whether a write has met another one.
fn is_conflict(body: &[u8]) -> bool {
    Fields::read(body).code == Some(b"40001")
}

/// The number at the end of a command.
fn count(command: &[u8]) -> u64 {
    let text = std::str::from_utf8(command).unwrap_or_default();
    let last = text.rsplit(' ').next().unwrap_or_default();
    last.parse().unwrap_or(0)
}

/// The first values of a row, in binary.
fn values(row: &[u8], bound: usize) -> Option<Vec<Value<'_>>> {
    let values = backend::row_values(row).ok()?;
    let values = values.into_iter().take(bound).map(|value| (1, value));
    Some(values.collect())
}

/// The row without its first values.
fn behind(row: &[u8], bound: usize) -> Option<Box<[u8]>> {
    let values = backend::row_values(row).ok()?;
    let before = values.iter().take(bound);
    let before: usize = before.map(|value| 4 + value.map_or(0, <[u8]>::len)).sum();
    let count = u16::try_from(values.len().checked_sub(bound)?).ok()?;
    let rest = row.get(2 + before..)?;
    Some([&count.to_be_bytes(), rest].concat().into())
}

/// A DataRow of this body.
fn framed(body: Box<[u8]>) -> Box<[u8]> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&[tag::DATA_ROW][..], &length.to_be_bytes(), &body]
        .concat()
        .into()
}

/// The primary key of a row has not led to that row alone.
fn not_one_each(change: &Change) -> Report {
    Report::error(
        "XX001",
        format!(
            "documents of {} are not found one by one by their primary key",
            change.by.table
        ),
    )
    .detail("nothing was changed")
    .hint("mothership check-config --connect says where no index keeps the key.")
}

fn malformed() -> Halt {
    Report::error(sqlstate::INTERNAL_ERROR, "server sent a malformed message").into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_row_is_divided_into_what_is_told_and_what_is_shown() {
        let row = [
            &3_u16.to_be_bytes()[..],
            &2_i32.to_be_bytes(),
            b"ab",
            &(-1_i32).to_be_bytes(),
            &1_i32.to_be_bytes(),
            b"c",
        ]
        .concat();
        assert_eq!(values(&row, 2).unwrap(), [(1, Some(&b"ab"[..])), (1, None)]);
        let shown = [&1_u16.to_be_bytes()[..], &1_i32.to_be_bytes(), b"c"].concat();
        assert_eq!(*behind(&row, 2).unwrap(), *shown);
        assert!(behind(&row, 4).is_none());
    }

    #[test]
    fn a_command_says_how_many_rows_there_were() {
        assert_eq!(count(b"UPDATE 12"), 12);
        assert_eq!(count(b"DELETE 0"), 0);
    }
}
