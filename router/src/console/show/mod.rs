//! The rows of every SHOW command but HELP and those for settings of drivers, from facts that were gathered before.
//!
//! [`gather`] collects the facts; [`rows`] is pure and sees nothing but [`Facts`]. No function here may show a
//! password, a verifier, a cancel key or a statement's values (S12).

mod map;
mod plans;
mod pools;
mod settings;
mod sockets;
mod stats;
mod topology;
mod transactions;

use super::command::ShowTopic;
use super::table::{Row, row};
use super::view::ConsoleView;
use crate::commit::doubt::Site;
use crate::commit::gid::TransactionId;
use crate::commit::recover::Sweep;
use crate::core::{Shared, gates};
use crate::topology::Topology;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Everything that a table may show, gathered in one go; what two cores tell may differ by a moment.
pub struct Facts {
    /// What all cores know.
    pub view: ConsoleView,
    /// The configuration in force.
    pub topology: Arc<Topology>,
    /// What is known of each database, by the name that clients use for it.
    pub known: Vec<(String, Arc<crate::model::DatabaseModel>)>,
    /// What recovery found when it looked last.
    pub swept: Sweep,
    /// Branches that their shards have not finished and that are committed, or may be: each with the time when it was
    /// noted.
    pub doubts: Vec<(Site, TransactionId, Instant)>,
    /// What is paused or disabled.
    pub gates: gates::State,
    /// Connections that are not logged in yet.
    pub logins: u32,
    /// Cached plans of all cores; only for SHOW PLANS.
    pub plans: Vec<crate::statements::shapes::PlanView>,
    /// When the facts were gathered.
    pub now: ClockReading,
}

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct ClockReading {
    /// The clock that only goes forward.
    pub instant: Instant,
    /// The time of day.
    pub time: SystemTime,
}

impl ClockReading {
    /// Now.
    pub fn now() -> Self {
        Self {
            instant: Instant::now(),
            time: SystemTime::now(),
        }
    }

    /// The time of day of an instant, as PgBouncer prints it: `2026-11-20 08:01:30 UTC`.
    fn text(self, at: Instant) -> String {
        let ago = self.instant.saturating_duration_since(at);
        let since = self.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        utc(since.saturating_sub(ago).as_secs())
    }
}

/// Gathers the facts.
pub async fn gather(shared: &Arc<Shared>) -> Facts {
    Facts {
        view: super::view::console_view(shared).await,
        topology: shared.topology(),
        known: shared.models(),
        swept: shared.swept.borrow().clone(),
        doubts: shared.doubts.all(),
        gates: shared.gates.read().clone(),
        logins: shared.logins.load(Ordering::Relaxed),
        plans: Vec::new(),
        now: ClockReading::now(),
    }
}

/// The rows of a SHOW command.
pub fn rows(what: ShowTopic, facts: &Facts) -> Vec<Row> {
    match what {
        ShowTopic::Stats => stats::stats(facts),
        ShowTopic::StatsTotals => stats::totals_by_database(facts),
        ShowTopic::StatsAverages => stats::averages_by_database(facts),
        ShowTopic::Totals => stats::totals(facts),
        ShowTopic::Pools => pools::pools(facts),
        ShowTopic::PoolsExtended => pools::pools_extended(facts),
        ShowTopic::Databases => pools::databases(facts),
        ShowTopic::Users => pools::users(facts),
        ShowTopic::Lists => pools::lists(facts),
        ShowTopic::Mem => pools::memory(facts),
        ShowTopic::Clients => sockets::clients(facts),
        ShowTopic::Servers => sockets::servers(facts),
        ShowTopic::Sockets => sockets::sockets(facts, false),
        ShowTopic::ActiveSockets => sockets::sockets(facts, true),
        ShowTopic::Pins => sockets::pins(facts),
        ShowTopic::Config => settings::config(facts),
        ShowTopic::Version => vec![row![settings::version(facts)]],
        ShowTopic::State => settings::state(facts),
        ShowTopic::Shards => topology::shards(facts),
        ShowTopic::Map => map::map(facts),
        ShowTopic::Endpoints => topology::endpoints(facts),
        ShowTopic::Rules => topology::rules(facts),
        // This router has nothing of the kind. The tables exist, without rows, for programs that ask for them.
        ShowTopic::Peers
        | ShowTopic::PeerPools
        | ShowTopic::Fds
        | ShowTopic::DnsHosts
        | ShowTopic::DnsZones => Vec::new(),
        ShowTopic::Transactions => transactions::transactions(facts),
        ShowTopic::Plans => plans::plans(facts),
    }
}

/// True if the columns about logins are shown: PgBouncer has them since 1.26.
pub fn with_logins(console: &crate::config::Console) -> bool {
    settings::since_1_26(&console.version)
}

/// `2026-11-20 08:01:30 UTC`, by the proleptic Gregorian calendar.
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's days-to-civil: eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_of_day_are_right_around_leap_days() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
