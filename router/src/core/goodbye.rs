//! The last words to a client that is not served.

use super::Shared;
use mothership_pool::wire::Wire;
use mothership_proto::report::{Report, sqlstate};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Tells the client why and closes.
pub async fn say_goodbye(shared: &Shared, mut client: Wire, report: Report) {
    if report.code == sqlstate::TOO_MANY_CONNECTIONS {
        shared.shed_clients.fetch_add(1, Ordering::Relaxed);
    }
    client.with_output(|out| report.into_fatal().put(out));
    Box::pin(finish(client)).await;
}

/// Closes the connection when what was said is on its way.
pub async fn finish(client: Wire) {
    // The client may not read, or be gone: it has been told, that is all.
    let _ = tokio::time::timeout(Duration::from_secs(1), client.finish()).await;
}
