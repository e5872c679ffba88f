//! Makes the shop's tables and fills them, through the router as any client would.

use super::error::DemoError;
use super::events;
use super::progress::Progress;
use super::rows::Shop;
use super::shop::Table;
use bytes::Bytes;
use futures_util::SinkExt;
use std::time::Duration;
use tokio_postgres::{Client, CopyInSink, SimpleQueryMessage};

/// Rows go out in portions of about so many bytes: enough for one system call to be worth it.
const PORTION: usize = 32 * 1024;
/// One statement, or one portion of rows to be taken: long, for slow disks, but not for ever.
const STEP_LIMIT: Duration = Duration::from_secs(120);

/// Makes all tables. Not cancel safe: tables that are made stay.
pub(super) async fn make_tables(client: &Client) -> Result<(), DemoError> {
    for table in Table::ALL {
        for sql in table.definition() {
            within(&format!("{sql:.60}…"), client.batch_execute(&sql)).await?;
        }
    }
    Ok(())
}

/// Fills all tables. Not cancel safe: tables that are filled stay so.
pub(super) async fn fill(client: &Client, shop: &Shop) -> Result<(), DemoError> {
    let count = |table: Table| (table, shop.count(table));
    let counts = Table::ALL.map(count);
    let mut progress = Progress::new(counts.iter().map(|(_, rows)| rows).sum());
    for (table, rows) in counts {
        progress.begin(table.name());
        let copied = copy(client, shop, table, &mut progress).await?;
        if copied != rows {
            let (table, sent, found) = (table.name(), rows, copied);
            return Err(DemoError::Rows { table, sent, found });
        }
        progress.end();
    }
    Ok(())
}

/// Fills the table of events, whose collection is empty. Not cancel safe: what is inserted stays.
pub(super) async fn fill_events(client: &Client, shop: &Shop) -> Result<(), DemoError> {
    let mut progress = Progress::new(events::count(shop));
    progress.begin(events::COLLECTION);
    for (rows, sql) in events::inserts(*shop) {
        let insert = async { client.simple_query(&sql).await.map(|told| inserted(&told)) };
        let inserted = within("INSERT INTO events", insert).await?;
        if inserted != rows {
            let (table, sent, found) = (events::COLLECTION, rows, inserted);
            return Err(DemoError::Rows { table, sent, found });
        }
        progress.add(rows);
    }
    progress.end();
    Ok(())
}

/// How many rows the command tag says.
fn inserted(told: &[SimpleQueryMessage]) -> u64 {
    let tag = told.iter().find_map(|message| match message {
        SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
        _ => None,
    });
    tag.unwrap_or_default()
}

async fn copy(
    client: &Client,
    shop: &Shop,
    table: Table,
    progress: &mut Progress,
) -> Result<u64, DemoError> {
    let sql = format!("COPY {} FROM STDIN", table.name());
    let sink: CopyInSink<Bytes> = within(&sql, client.copy_in(&sql)).await?;
    tokio::pin!(sink);
    let (mut portion, mut rows) = (Vec::with_capacity(PORTION + 1024), 0);
    for step in 1..=shop.steps(table) {
        rows += shop.write(table, step, &mut portion);
        if portion.len() < PORTION && step < shop.steps(table) {
            continue;
        }
        let full = Bytes::from(std::mem::take(&mut portion));
        match within(&sql, sink.send(full)).await {
            Ok(()) => {}
            Err(stalled @ DemoError::Stalled { .. }) => return Err(stalled),
            // The stream was closed on us; why, is what the end of the COPY says.
            Err(_) => break,
        }
        progress.add(std::mem::take(&mut rows));
    }
    within(&sql, sink.finish()).await
}

/// Waits for one step, but not for ever.
async fn within<T>(
    doing: &str,
    step: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, DemoError> {
    let doing = || doing.to_owned();
    match tokio::time::timeout(STEP_LIMIT, step).await {
        Ok(done) => done.map_err(|cause| DemoError::Statement {
            doing: doing(),
            cause,
        }),
        Err(_) => Err(DemoError::Stalled {
            doing: doing(),
            limit: STEP_LIMIT,
        }),
    }
}
