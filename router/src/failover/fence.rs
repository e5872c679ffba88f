//! A primary that is about to be replaced refuses writes, whoever sends them.
//!
//! A router holds back what its own clients begin. Another router, or whoever comes past both, would go on writing what
//! the new primary does not have. So transactions on the old one become read-only, by `default_transaction_read_only`
//! in its `postgresql.auto.conf`, and sessions that may not have heard of that are ended. COMMIT PREPARED passes even
//! so: what it does is done again on the new primary, where the transaction is prepared still.

use super::switchover::{AGAIN, ENDING, SwitchoverError, connect, of};
use crate::topology::{Server, Topology};
use mothership_shardmap::ShardId;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

const SETTING: &str = "default_transaction_read_only";

/// Those who were there before `$1`, but the one that asks. Of sessions of others a role without `pg_read_all_stats` sees
/// hardly more than that they have a database: they count, so that what cannot be seen is not taken for gone.
const OTHERS: &str = "FROM pg_catalog.pg_stat_activity \
    WHERE CASE WHEN backend_type IS NULL THEN datid IS NOT NULL \
      ELSE backend_type OPERATOR(pg_catalog.=) 'client backend' END \
    AND pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid() \
    AND COALESCE(backend_start OPERATOR(pg_catalog.<=) $1::pg_catalog.text::pg_catalog.timestamptz, true)";

/// Has a server of a shard refuse writes, ordered by `client`, which is connected to it. Transactions of others may end
/// within `patience`, then they are broken off.
///
/// # Errors
/// When that cannot be, or is not certain; [`lift`] is called for then.
pub(super) async fn erect(
    client: &Client,
    topology: &Topology,
    (shard, server): (ShardId, &Server),
    patience: Duration,
) -> Result<(), SwitchoverError> {
    let wrong = of(server);
    client
        .batch_execute(&format!("ALTER SYSTEM SET {SETTING} = on"))
        .await
        .map_err(&wrong)?;
    reload(client).await.map_err(&wrong)?;
    let since = heard(topology, shard, server).await?;
    let count = |of_them: &str| format!("SELECT pg_catalog.count({of_them}) {OTHERS}");
    let working = format!("{} AND xact_start IS NOT NULL", count("*"));
    let end = count("pg_catalog.pg_terminate_backend(pid)");
    for (ask, limit, ends) in [(&working, patience, false), (&end, ENDING, true)] {
        let begun = Instant::now();
        loop {
            let left = client.query_one(ask, &[&since]).await.map_err(&wrong)?;
            if left.get::<_, i64>(0) == 0 {
                break;
            }
            if begun.elapsed() >= limit {
                if ends {
                    return Err(SwitchoverError::Busy);
                }
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
    Ok(())
}

/// Waits until new sessions have read the setting; from when on they have.
async fn heard(
    topology: &Topology,
    shard: ShardId,
    server: &Server,
) -> Result<String, SwitchoverError> {
    let ask = format!(
        "SELECT backend_start::pg_catalog.text FROM pg_catalog.pg_stat_activity \
         WHERE pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() \
         AND pg_catalog.current_setting('{SETTING}') OPERATOR(pg_catalog.=) 'on'"
    );
    let begun = Instant::now();
    loop {
        let new = connect(topology, shard, server).await?;
        if let Some(row) = new.query_opt(&ask, &[]).await.map_err(of(server))? {
            return Ok(row.get(0));
        }
        if begun.elapsed() >= ENDING {
            let address = server.endpoint.address.to_string();
            let cause = format!("it has not read {SETTING} within {ENDING:?}");
            return Err(SwitchoverError::Server { address, cause });
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The server takes writes again.
pub(super) async fn lift(client: &Client, server: &Server) -> Result<(), SwitchoverError> {
    let wrong = of(server);
    client
        .batch_execute(&format!("ALTER SYSTEM RESET {SETTING}"))
        .await
        .map_err(&wrong)?;
    reload(client).await.map_err(&wrong)
}

async fn reload(client: &Client) -> Result<(), tokio_postgres::Error> {
    client
        .batch_execute("SELECT pg_catalog.pg_reload_conf()")
        .await
}
