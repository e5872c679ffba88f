//! Closes a client's connection with a FATAL error.

use super::Shared;
use mothership_pool::wire::Wire;
use mothership_proto::report::{Report, sqlstate};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Sends the error as FATAL and closes the connection. Counts clients that were refused with 53300.
pub async fn say_goodbye(shared: &Shared, mut client: Wire, report: Report) {
    if report.code == sqlstate::TOO_MANY_CONNECTIONS {
        shared.shed_clients.fetch_add(1, Ordering::Relaxed);
    }
    client.with_output(|out| report.into_fatal().put(out));
    Box::pin(finish(client)).await;
}

/// Sends what is queued and waits up to a second for the client to close, so that the last message is not lost.
pub async fn finish(client: Wire) {
    // A client that is gone or does not read does not matter: the connection is closed anyway.
    let _ = tokio::time::timeout(Duration::from_secs(1), client.finish()).await;
}
