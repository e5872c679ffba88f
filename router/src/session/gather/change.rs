//! Writes to documents as a residue says: its rows are read whole, then MongoDB is told of each, then the client of what
//! RETURNING shows.

use super::conflict::Conflict;
use super::fetch::too_much;
use super::residue::without_position;
use super::write::{Run, differs, formatted, same_columns};
use super::{GatherWork, Value};
use crate::plan::gather::{Change, Changes};
use crate::session::many::Held;
use crate::session::state::Phase;
use crate::session::{Halt, Session};
use mothership_proto::backend::{self, Column, tag};
use mothership_proto::frontend::{self, Parse};
use mothership_proto::ledger::{Audience, Event, Owed};
use mothership_proto::report::{Fields, Report, sqlstate};

/// So many changes go ahead of their answers, and so many rows are in one INSERT.
const TOGETHER: usize = 500;
/// A statement has no more parameters.
const PARAMETERS: usize = 65_535;

/// What a residue has computed.
struct Computed {
    columns: Vec<Column>,
    /// Rows as they came, behind tag and length.
    rows: Vec<Box<[u8]>>,
}

/// What has come of telling MongoDB.
#[derive(Default)]
struct Told {
    changed: u64,
    /// Of an INSERT: what its RETURNING shows.
    rows: Vec<Box<[u8]>>,
    failed: Option<Vec<u8>>,
}

/// A statement for MongoDB, and how many of its values are one change's.
struct Statement {
    sql: String,
    types: Vec<u8>,
    formats: Vec<i16>,
}

impl Session {
    /// Runs the residue on the server `at`, and changes documents as it says. The command is returned and not written.
    pub(super) async fn change(
        &mut self,
        at: usize,
        work: &GatherWork,
        change: &Change,
        run: &Run<'_>,
    ) -> Result<Vec<u8>, Halt> {
        let computed = self.compute(at, work, change, run).await?;
        let returned = &run.described.columns;
        let shown = computed.columns.get(change.bound..).unwrap_or_default();
        let shows_itself = matches!(change.changes, Changes::Insert { .. });
        if !shows_itself && !same_columns(shown, returned) {
            let said = "its columns would have other names or types";
            return Err(super::residue::wrong_statement(&work.plan, said).into());
        }
        let told = self.tell_documents(work, change, &computed, run).await?;
        let rows: Vec<Box<[u8]>> = match shows_itself {
            true => told.rows,
            false if returned.is_empty() => Vec::new(),
            false => {
                let behind = computed.rows.iter().map(|row| behind(row, change.bound));
                behind.collect::<Option<_>>().ok_or_else(malformed)?
            }
        };
        let command = match &change.changes {
            Changes::Update(_) => format!("UPDATE {}", told.changed),
            Changes::Delete(_) => format!("DELETE {}", told.changed),
            Changes::Insert { .. } => format!("INSERT 0 {}", told.changed),
        };
        let command = command.into_bytes();
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
        Ok(command)
    }

    /// The rows of the residue: the values of changes in binary, those of RETURNING as the client wants them.
    async fn compute(
        &mut self,
        at: usize,
        work: &GatherWork,
        change: &Change,
        run: &Run<'_>,
    ) -> Result<Computed, Halt> {
        let sql = self.with_times(run.sql, &work.residue, true).await?;
        let shown = formatted(&run.described.columns, run.formats);
        let formats = std::iter::repeat_n(1, change.bound);
        let formats: Vec<i16> = match change.changes {
            Changes::Insert { .. } => formats.collect(),
            Changes::Update(_) | Changes::Delete(_) => formats
                .chain(shown.iter().map(|column| column.format))
                .collect(),
        };
        self.send_statement(at, work, (&sql, run.arrays), run, &formats, true);
        let segment = self.state.phase == Phase::Segment;
        let (mut rows_left, mut bytes_left) = self.fetch_limits();
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
            (Some(body), _) => Err(differs(work, &body)),
            (None, Some(report)) => Err(report.into()),
            (None, None) if computed.columns.len() < change.bound => Err(malformed()),
            (None, None) => Ok(computed),
        }
    }

    /// Tells MongoDB of all changes.
    async fn tell_documents(
        &mut self,
        work: &GatherWork,
        change: &Change,
        computed: &Computed,
        run: &Run<'_>,
    ) -> Result<Told, Halt> {
        let mut told = Told::default();
        let inserts = matches!(change.changes, Changes::Insert { .. });
        let shard = match work.target.first() {
            Some(shard) if !(inserts && computed.rows.is_empty()) => *shard,
            // There is nothing to store, or no shard may have such a row.
            _ => return Ok(told),
        };
        self.check_second_set(shard, true)?;
        let at = self.attach(shard).await?;
        let inbox = &mut self.servers[at].inbox;
        inbox.wrote = true;
        inbox.may_write = true;
        let rows: Vec<Vec<Value<'_>>> = match computed.rows.as_slice() {
            // Who may not write is told so, even where there is nothing to do.
            [] => vec![vec![(1, None); change.bound]],
            rows => {
                let values = rows.iter().map(|row| values(row, change.bound));
                values.collect::<Option<_>>().ok_or_else(malformed)?
            }
        };
        let types = computed.columns.iter().take(change.bound);
        let types: Vec<u32> = types.map(|column| column.type_oid).collect();
        match &change.changes {
            Changes::Update(sql) | Changes::Delete(sql) => {
                let statement = Statement {
                    sql: sql.clone(),
                    types: of_row(&types, 1),
                    formats: Vec::new(),
                };
                for together in rows.chunks(TOGETHER) {
                    self.tell_each(at, &statement, together, &mut told).await?;
                }
            }
            Changes::Insert { head, tail } => {
                let most = (PARAMETERS / change.bound.max(1)).clamp(1, TOGETHER);
                if rows.len() > most && tail.contains("DO UPDATE") {
                    // PostgreSQL refuses one of them that meets another one, which is seen within a statement only.
                    return Err(too_many(most).into());
                }
                for together in rows.chunks(most) {
                    let statement = Statement {
                        sql: format!("{head}VALUES {}{tail}", lists(together.len(), change.bound)),
                        types: of_row(&types, together.len()),
                        formats: run.formats.to_vec(),
                    };
                    let all = together.concat();
                    self.tell_each(at, &statement, &[all], &mut told).await?;
                }
            }
        }
        match told.failed {
            Some(body) if self.conflict == Conflict::Repeats && is_conflict(&body) => {
                self.conflict = Conflict::Met;
                Err(Halt::Failed)
            }
            Some(body) => Err(self.failed_with(&without_position(&body))),
            None => Ok(told),
        }
    }

    /// Executes a statement once for each of these values, without waiting in between.
    async fn tell_each(
        &mut self,
        at: usize,
        statement: &Statement,
        rows: &[Vec<Value<'_>>],
        told: &mut Told,
    ) -> Result<(), Halt> {
        if told.failed.is_some() {
            return Ok(());
        }
        let segment = self.state.phase == Phase::Segment;
        let attached = &mut self.servers[at];
        attached.inbox.in_segment |= segment;
        attached.inbox.touched.add(None);
        let lease = &mut attached.lease;
        lease.notes.unnamed = None;
        lease.wire.with_output(|out| {
            let parse = Parse {
                name: b"",
                sql: statement.sql.as_bytes(),
                types: &statement.types,
            };
            parse.put(out);
            for values in rows {
                let values = values.iter().copied();
                frontend::put_bind(out, (b"", b""), values, &statement.formats);
                frontend::put_execute(out, b"", 0);
            }
        });
        lease.ledger.push(Owed::Parse(0, Audience::Router));
        for _ in rows {
            lease.ledger.push(Owed::Bind(Audience::Router));
            lease.ledger.push(Owed::Execute(Audience::Router));
        }
        attached.end_asks(segment);
        let mut left = rows.len();
        self.each_message(at, |frame, reply, _| {
            match (reply.event, frame.tag()) {
                (Event::Ready(_), _) => return true,
                (Event::Failed, _) => {
                    told.failed.get_or_insert_with(|| frame.body().to_vec());
                    return segment;
                }
                (_, tag::DATA_ROW) => told.rows.push(frame.body().into()),
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

/// The types of so many rows, as Parse has them.
fn of_row(types: &[u32], rows: usize) -> Vec<u8> {
    let one: Vec<u8> = types.iter().flat_map(|oid| oid.to_be_bytes()).collect();
    one.repeat(rows)
}

/// `($1, $2), ($3, $4)`.
fn lists(rows: usize, width: usize) -> String {
    let row = |row: usize| {
        let numbers = (1..=width).map(|at| format!("${}", row * width + at));
        format!("({})", numbers.collect::<Vec<_>>().join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

fn malformed() -> Halt {
    Report::error(sqlstate::INTERNAL_ERROR, "server sent a malformed message").into()
}

fn too_many(most: usize) -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        format!("ON CONFLICT DO UPDATE of more than {most} computed documents is not supported"),
    )
    .hint("Insert fewer of them with each statement.")
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
    fn an_insert_of_many_rows_numbers_its_parameters() {
        assert_eq!(lists(2, 2), "($1, $2), ($3, $4)");
        assert_eq!(of_row(&[23, 25], 2).len(), 16);
        assert_eq!(count(b"INSERT 0 12"), 12);
    }
}
