//! Whether the process runs out of descriptors or memory, and whom that keeps out.
//!
//! It is better to refuse one more client than to have no descriptor for a server connection, and better to refuse a
//! statement than to be killed with all of them. What decides is pure; one core measures memory and tells the others by
//! a number.

use crate::config::{MemoryLimit, Share};
use mothership_proto::report::{Report, sqlstate};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// How long until memory is measured again, at first and where little of it is used.
pub const LOOK: Duration = Duration::from_millis(50);
/// The same where clients could not fill it in that time.
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// Four times the bytes that clients can send in a second: before the next measurement they fill a quarter of what is free.
const FAST: u64 = 8 << 30;
/// Of a limit by the control group, what the kernel and the page cache may have.
const KERNEL: u64 = 10;

/// After somebody was disconnected for the memory that he holds, it is measured again this much later.
pub const RELIEF: Duration = Duration::from_millis(5);
/// What a message must have brought before its client is disconnected for it, or waits for the next measurement.
pub const HOARD: u32 = 1 << 20;

/// How long until memory is measured again: less where half of it is used, because clients can send much in a moment.
pub fn pause(used: u64, limit: Option<u64>) -> Duration {
    let Some(limit) = limit else {
        return LONGEST_LOOK;
    };
    if used >= limit / 2 {
        return RELIEF;
    }
    let fills = Duration::from_millis((limit - used) / (FAST / 1000));
    fills.clamp(LOOK, LONGEST_LOOK)
}

/// Whether those must go who hold much of messages that are not whole: before anybody else is refused anything.
pub fn is_near(used: u64, limit: Option<u64>) -> bool {
    limit.is_some_and(|limit| used >= limit / 100 * 75)
}

/// How near the end of its memory the process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Not near.
    #[default]
    Calm,
    /// New clients are refused, and what lies idle is freed.
    Tight,
    /// New transactions are refused, too.
    Full,
}

/// Whom the lack of descriptors keeps out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// Everybody but administrators.
    Clients,
    /// Everybody.
    All,
}

/// What is known of it, for all cores.
#[derive(Debug, Default)]
pub struct Pressure {
    level: AtomicU8,
    used: AtomicU64,
    limit: AtomicU64,
    grown: AtomicU64,
}

impl Level {
    /// What follows on this level when `used` of `limit` bytes are used. It ends somewhat below where it began, so that it
    /// does not flap.
    pub fn next(self, used: u64, limit: u64) -> Level {
        let percent = |percent: u64| limit / 100 * percent;
        let reached = |level: Level, from: u64| {
            let slack = if self >= level { 5 } else { 0 };
            used >= percent(from - slack)
        };
        if reached(Level::Full, 95) {
            Level::Full
        } else if reached(Level::Tight, 85) {
            Level::Tight
        } else {
            Level::Calm
        }
    }
}

impl Pressure {
    /// The level at the moment.
    pub fn level(&self) -> Level {
        match self.level.load(Ordering::Relaxed) {
            0 => Level::Calm,
            1 => Level::Tight,
            _ => Level::Full,
        }
    }

    /// Bytes in use and the limit, as measured last; no limit is 0.
    pub fn memory(&self) -> (u64, u64) {
        let now = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (now(&self.used), now(&self.limit))
    }

    /// So many bytes of large messages that are not whole came since memory was measured.
    pub fn grew(&self, bytes: usize) {
        self.grown.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether the rest of a large message stays with its client until memory is measured again: a fast client sends
    /// more between two measurements than the limit leaves.
    pub fn holds_back(&self) -> bool {
        let (used, limit) = self.memory();
        limit > 0 && used + self.grown.load(Ordering::Relaxed) >= limit / 100 * 80
    }

    /// So many bytes are used now. Returns the level before and after it.
    pub fn measured(&self, used: u64, limit: Option<u64>) -> (Level, Level) {
        let before = self.level();
        let after = match limit {
            Some(limit) => before.next(used, limit),
            None => Level::Calm,
        };
        self.used.store(used, Ordering::Relaxed);
        self.limit.store(limit.unwrap_or(0), Ordering::Relaxed);
        self.grown.store(0, Ordering::Relaxed);
        self.level.store(after as u8, Ordering::Relaxed);
        (before, after)
    }

    /// What a client is told who is one too many for the memory that there is.
    pub fn refuses_clients(&self) -> Option<Report> {
        (self.level() >= Level::Tight).then(|| self.report(Report::fatal))
    }

    /// What a session is told that would begin a transaction.
    pub fn refuses_transactions(&self) -> Option<Report> {
        (self.level() == Level::Full).then(|| self.report(Report::error))
    }

    fn report(&self, make: impl Fn(&'static str, String) -> Report) -> Report {
        let (used, limit) = self.memory();
        let mib = |bytes: u64| bytes >> 20;
        make(
            sqlstate::TOO_MANY_CONNECTIONS,
            "the router is short of memory".to_owned(),
        )
        .detail(format!("it uses {} MiB of {} MiB", mib(used), mib(limit)))
        .hint("Repeat it later. The setting is limits.memory.")
    }
}

/// Whom a new connection with this descriptor cannot be: the kernel gives the lowest free number, so that it says how
/// many are in use. Of `most`, the reserve is for server connections and administrators, its last quarter for the former.
pub fn shut(descriptor: i32, most: u64, reserve: Share) -> Option<Shut> {
    let number = u64::try_from(descriptor).ok()?;
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    let reserved = reserve.of(most);
    if number >= u64::from(most - reserved / 4) {
        Some(Shut::All)
    } else if number >= u64::from(most - reserved) {
        Some(Shut::Clients)
    } else {
        None
    }
}

/// What is told who is shut out.
pub fn few_descriptors() -> Report {
    Report::fatal(
        sqlstate::TOO_MANY_CONNECTIONS,
        "sorry, too many clients already",
    )
    .detail("the router keeps its last file descriptors for server connections and administrators")
    .hint("Raise the limit of open files (ulimit -n, LimitNOFILE). The setting is limits.descriptor_reserve.")
}

/// How many descriptors the process may have.
pub fn most_descriptors() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: it writes one `rlimit`, which is there.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } {
        0 => limit.rlim_cur,
        _ => u64::MAX,
    }
}

/// Measures the memory of the process. The file stays open: without a free descriptor it could not be opened.
#[derive(Debug)]
pub struct Meter(File);

impl Meter {
    /// None where the system has no such file.
    pub fn open() -> Option<Self> {
        File::open("/proc/self/statm").ok().map(Self)
    }

    /// Bytes in memory.
    pub fn resident(&self) -> Option<u64> {
        let mut text = [0; 128];
        let length = self.0.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(&text[..length]).ok()?;
        let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
        // SAFETY: it reads a constant of the system.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        Some(pages * u64::try_from(page).ok()?)
    }
}

/// The limit in bytes, if there is one.
pub fn limit(setting: MemoryLimit) -> Option<u64> {
    match setting {
        MemoryLimit::Off => None,
        MemoryLimit::Size(size) => Some(size.bytes() as u64),
        MemoryLimit::Auto => {
            let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
            let read = |path: &str| std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(path));
            let limit = of_group(&groups, |path| read(path).ok())?;
            Some(limit / 100 * (100 - KERNEL))
        }
    }
}

/// The limit of a control group, of version 2 or 1, by the text of `/proc/self/cgroup`. In a container the path there may
/// be that of the host, while the files at the top are the container's own.
fn of_group(groups: &str, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let mut least = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (folder, file) = match controllers {
            "" => ("", "memory.max"),
            _ if controllers.split(',').any(|c| c == "memory") => {
                ("memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let own = path.trim_start_matches('/');
        for place in [own, ""] {
            let path = [folder, place, file]
                .into_iter()
                .filter(|part| !part.is_empty());
            let text = read(&path.collect::<Vec<_>>().join("/"));
            // `max`, or a number beyond any machine, is no limit.
            let limit = text.and_then(|text| text.trim().parse::<u64>().ok());
            let limit = limit.filter(|limit| *limit < 1 << 60);
            least = [least, limit].into_iter().flatten().min();
        }
    }
    least
}

/// Gives free memory back to the system.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointer and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_ends_below_where_it_began() {
        let level = |used: u64| Level::Calm.next(used, 1000);
        assert_eq!(
            [level(849), level(850), level(950)],
            [Level::Calm, Level::Tight, Level::Full]
        );
        assert_eq!(Level::Tight.next(801, 1000), Level::Tight);
        assert_eq!(Level::Tight.next(799, 1000), Level::Calm);
        assert_eq!(Level::Full.next(901, 1000), Level::Full);
        assert_eq!(Level::Full.next(899, 1000), Level::Tight);
    }

    #[test]
    fn the_last_descriptors_are_for_administrators_and_the_very_last_for_nobody_new() {
        let shut = |number| shut(number, 200, Share::percent(20));
        assert_eq!((shut(3), shut(159)), (None, None));
        assert_eq!(
            (shut(160), shut(189)),
            (Some(Shut::Clients), Some(Shut::Clients))
        );
        assert_eq!((shut(190), shut(199)), (Some(Shut::All), Some(Shut::All)));
        assert_eq!(super::shut(5000, u64::MAX, Share::percent(20)), None);
    }

    #[test]
    fn memory_is_measured_the_more_often_the_less_is_free() {
        const GIB: u64 = 1 << 30;
        assert_eq!(pause(5 * GIB, None), LONGEST_LOOK);
        assert_eq!(pause(GIB, Some(64 * GIB)), LONGEST_LOOK);
        let between = pause(0, Some(GIB));
        assert!(LOOK < between && between < LONGEST_LOOK, "{between:?}");
        assert_eq!(pause(0, Some(GIB / 4)), LOOK);
        assert_eq!(pause(GIB, Some(2 * GIB)), RELIEF);
    }

    #[test]
    fn hoarders_go_before_anybody_is_refused() {
        assert!(!is_near(749, Some(1000)) && is_near(750, Some(1000)) && !is_near(u64::MAX, None));
        assert_eq!(Level::Calm.next(750, 1000), Level::Calm);
    }

    #[test]
    fn a_large_message_waits_for_the_next_measurement() {
        let pressure = Pressure::default();
        pressure.grew(5000);
        assert!(!pressure.holds_back(), "without a limit nothing waits");
        pressure.measured(500, Some(1000));
        assert!(!pressure.holds_back());
        pressure.grew(300);
        assert!(pressure.holds_back());
        pressure.measured(700, Some(1000));
        assert!(!pressure.holds_back());
    }

    #[test]
    fn the_smallest_limit_of_the_control_group_counts() {
        let v2 = |path: &str| match path {
            "a/b/memory.max" => Some("1000000\n".to_owned()),
            "memory.max" => Some("max\n".to_owned()),
            _ => None,
        };
        assert_eq!(of_group("0::/a/b\n", v2), Some(1_000_000));
        assert_eq!(of_group("0::/c\n", v2), None);
        let v1 = |path: &str| match path {
            "memory/x/memory.limit_in_bytes" => Some("9223372036854771712".to_owned()),
            "memory/memory.limit_in_bytes" => Some("5000".to_owned()),
            _ => None,
        };
        assert_eq!(of_group("4:cpu,cpuacct:/x\n3:memory:/x\n", v1), Some(5000));
    }
}
