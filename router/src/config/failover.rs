//! What happens to requests while a shard has no primary.

use std::time::Duration;

use super::section::settings;
use super::units::ByteSize;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

settings! {
    /// While a shard has no primary, requests that need one wait: for the next primary to be found, or for the last
    /// one to be back.
    pub struct Failover {
        /// A request waits so long, then it fails with 57P03.
        reload window: Duration = SECOND * 30, Duration::from_millis(10)..=HOUR;
        /// Requests that may wait at a time, of all clients. One more fails with 53300 at once.
        reload requests: u32 = 1_000, 0..=1_000_000;
        /// What the requests that wait may take in memory together. One that would be too much fails with 53300.
        reload size: ByteSize = ByteSize::mib(64), ByteSize::kib(0)..=ByteSize::mib(64 << 10);
        /// SWITCHOVER lets open transactions end for so long; those that have not ended then are lost, with 08006.
        reload drain: Duration = SECOND * 5, Duration::from_millis(0)..=HOUR;
        /// After a server has been down for so long, connections to it that have not ended are closed: who waits for
        /// an answer on one is told that it is lost.
        reload silence: Option<Duration> = Some(SECOND * 15), Duration::from_millis(10)..=HOUR;
    }
}
