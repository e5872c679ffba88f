//! Asks one shard for its catalog.

use futures_util::TryStreamExt;
use mothership_catalog::decode::{Row, Unreadable, decode};
use mothership_catalog::queries::{BEGIN, END, LARGE, LOCKED, QUERIES};
use mothership_catalog::{Catalog, Fingerprint};
use std::pin::pin;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

/// Why a catalog could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The server refused or the connection failed. May be tried again.
    #[error("read the catalog: {what}")]
    Server {
        /// Which of the queries.
        what: &'static str,
        /// What happened.
        #[source]
        cause: tokio_postgres::Error,
    },
    /// The answers are too long.
    #[error("the catalog is larger than {most} bytes (catalog.size)")]
    TooLarge {
        /// The limit.
        most: usize,
    },
    /// A row has another form than its query gives.
    #[error(transparent)]
    Row(#[from] Unreadable),
}

/// Reads the catalog of the client's database, and what tells whether it has changed since. Answers of more than `most`
/// bytes are not read. Not cancel safe: a dropped call leaves the connection in a transaction, so it must then be closed.
///
/// # Errors
/// [`LoadError`]; the connection may be in a transaction then.
pub async fn load(client: &Client, most: usize) -> Result<(Catalog, Fingerprint), LoadError> {
    let server = |what| move |cause| LoadError::Server { what, cause };
    client.batch_execute(BEGIN).await.map_err(server("begin"))?;
    prepare(client).await.map_err(server("prepare"))?;
    for (what, _) in FIRST {
        let execute = format!("EXECUTE {}", name_of(what));
        client.simple_query(&execute).await.map_err(server(what))?;
    }
    let mut answers = Vec::with_capacity(QUERIES.len());
    let mut bytes = 0;
    for (what, _) in QUERIES {
        let execute = format!("EXECUTE {}", name_of(what));
        let messages = client.simple_query_raw(&execute).await;
        let messages = messages.map_err(server(what))?;
        let mut messages = pin!(messages);
        let mut rows: Vec<Row> = Vec::new();
        while let Some(message) = messages.try_next().await.map_err(server(what))? {
            let SimpleQueryMessage::Row(row) = message else {
                continue;
            };
            let cells = (0..row.len()).map(|i| row.get(i).map(str::to_owned));
            let row: Row = cells.collect();
            bytes += row.iter().flatten().map(String::len).sum::<usize>();
            if bytes > most {
                return Err(LoadError::TooLarge { most });
            }
            rows.push(row);
        }
        answers.push(rows);
    }
    client.batch_execute(END).await.map_err(server("end"))?;
    // Beside the loop of the core: a large catalog takes a while.
    let decoded = tokio::task::spawn_blocking(move || {
        let catalog = decode(&answers)?;
        Ok((catalog, Fingerprint::of(&answers)))
    });
    decoded
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// Prepares the queries that this connection has not prepared yet: a server plans them for as long as it runs them.
/// Plans depend on the search path, so this comes behind [`BEGIN`].
async fn prepare(client: &Client) -> Result<(), tokio_postgres::Error> {
    const KNOWN: &str = "SELECT p.name FROM pg_catalog.pg_prepared_statements p";
    let known = client.simple_query(KNOWN).await?;
    let known: Vec<String> = known
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(name_of(row.get(0)?.strip_prefix(PREFIX)?)),
            _ => None,
        })
        .collect();
    let all = FIRST.iter().chain(&QUERIES);
    let unknown = all.filter_map(|(what, sql)| {
        let name = name_of(what);
        (!known.contains(&name)).then(|| format!("PREPARE {name} AS {sql};"))
    });
    let unknown: String = unknown.collect();
    match unknown.as_str() {
        "" => Ok(()),
        unknown => client.batch_execute(unknown).await,
    }
}

/// Ahead of what a query asks for it makes the name of its prepared statement.
const PREFIX: &str = "mothership ";

/// What is asked first: which definitions the others leave out.
const FIRST: [(&str, &str); 2] = [("locks", LOCKED), ("lengths", LARGE)];

fn name_of(what: &str) -> String {
    format!("\"{PREFIX}{what}\"")
}

impl LoadError {
    /// Whether somebody has locked what was to be printed, after it was looked for locks.
    pub fn is_of_a_lock(&self) -> bool {
        match self {
            Self::Server { cause, .. } => cause.code() == Some(&SqlState::LOCK_NOT_AVAILABLE),
            Self::TooLarge { .. } | Self::Row(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `MOTHERSHIP_TEST_POSTGRES` names the connection; the end-to-end tests have servers of their own.
    #[test]
    #[ignore = "needs a server: make test-planner"]
    fn the_queries_are_understood_by_a_real_server() {
        let dsn = std::env::var("MOTHERSHIP_TEST_POSTGRES").expect("MOTHERSHIP_TEST_POSTGRES");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (catalog, _) = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls)
                .await
                .unwrap();
            tokio::select! {
                done = connection => panic!("the connection ended: {done:?}"),
                catalog = load(&client, usize::MAX) => catalog.unwrap(),
            }
        });
        assert!(catalog.server_version >= 130_000 && catalog.schemas.contains("public"));
        assert!(catalog.text_order.contains("UTF8 "));
        println!("{catalog:#?}");
    }
}
