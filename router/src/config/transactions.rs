//! Transactions over several shards, the catalog, and the router's own logins.

use std::num::NonZeroU32;
use std::time::Duration;

use super::names::Name;
use super::secret::Secret;
use super::section::settings;
use super::units::ByteSize;
use super::value::nonzero;
use mothership_shardmap::Label;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

settings! {
    /// Transactions that write on several shards.
    pub struct Transactions {
        /// Commit them in two phases. When false a transaction may write on one shard only.
        reload two_phase: bool = true;
        /// The router's part in the names of prepared transactions; a random one is drawn at start when it is not set.
        restart router_id: Option<Label>;
        /// Schema of the decision table, in each database that takes part.
        restart schema: Name = Name::new("mothership").expect("a short name without zero bytes");
        /// Preparing one shard may take so long before the transaction is undone.
        reload prepare_timeout: Duration = SECOND * 10, Duration::from_millis(10)..=HOUR;
        /// Statements on a shard whose transaction is in doubt wait so long, then fail with 57P03.
        reload doubt_timeout: Duration = SECOND * 10, Duration::from_millis(10)..=HOUR;
        /// When a statement has waited for a lock so long in a deadlock over several shards, one of those in it fails with
        /// 40P01.
        reload deadlock_timeout: Duration = SECOND, Duration::from_millis(10)..=HOUR;
        /// Transactions that another router left behind are looked for this often.
        reload recovery_interval: Duration = SECOND * 2, Duration::from_millis(10)..=HOUR;
        /// Transactions in doubt that are remembered; above this number new ones over several shards are refused.
        reload in_doubt: NonZeroU32 = nonzero(10_000), nonzero(1)..=nonzero(1_000_000);
    }
}

settings! {
    /// What the router knows of tables, types and functions.
    pub struct Catalog {
        /// How old it may be. It is read again at half of this age, without anybody waiting, and after DDL that went through the router.
        reload refresh_interval: Duration = SECOND * 60, Duration::from_millis(100)..=(HOUR * 24);
        /// Reading it from one shard may take so long.
        reload timeout: Duration = SECOND * 10, Duration::from_millis(10)..=HOUR;
        /// Relations of one database; statements on a database with more are refused.
        reload relations: NonZeroU32 = nonzero(200_000), nonzero(1)..=nonzero(10_000_000);
        /// Definitions of one database on one shard, as they are read; statements on a database with more are refused.
        reload size: ByteSize = ByteSize::mib(256), ByteSize::mib(1)..=ByteSize::mib(65_536);
    }
}

settings! {
    /// Values that the router takes from sequences for columns of sharded tables.
    pub struct Sequences {
        /// So many are taken from the home shard at once and kept for the next rows. What is kept when the router ends,
        /// or when definitions change, is a gap.
        reload block: NonZeroU32 = nonzero(100), nonzero(1)..=nonzero(100_000);
    }
}

settings! {
    /// The role of the router's own questions: health, lag, catalog, recovery, passwords. No
    /// client's setting is ever applied to these connections.
    pub struct Control {
        /// A role on every server. To finish prepared transactions of others it is a superuser or may SET ROLE to each owner.
        restart user: Name = Name::new("postgres").expect("a short name without zero bytes");
        /// Its password, where the servers want one.
        reload password: Option<Secret>;
        /// The database for questions that concern the whole server.
        restart database: Name = Name::new("postgres").expect("a short name without zero bytes");
        /// The most such connections to one server and database.
        reload connections: NonZeroU32 = nonzero(2), nonzero(1)..=nonzero(100);
        /// One question may take so long.
        reload timeout: Duration = SECOND * 5, Duration::from_millis(10)..=HOUR;
    }
}
