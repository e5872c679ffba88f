//! A router that runs out of descriptors or memory: it refuses some, and goes on for the others.

use crate::ask::say;
use crate::world::{PLAIN, SOON, Setup, World};
use mothership_tests::message::V3_0;
use mothership_tests::proof::{self, Verdict};
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Wire, bank, poll_until};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The memory that the router may have is read in the row.
pub const MEMORY: Setup = Setup {
    more: "[limits]\nmemory = \"auto\"\n",
    ..PLAIN
};
/// For how long the router is watched without descriptors.
const WATCH: Duration = Duration::from_secs(3);
/// Memory of the router's control group.
const GROUP: u64 = 320 << 20;
/// The same as a setting, where no group can be made: `auto` leaves a tenth.
const SETTING: &str = "memory = \"288MiB\"";
/// What each of those sends who make the router grow.
const PIECE: usize = 2 << 20;
/// As many pieces as the group has room for, and some.
const PIECES: u64 = 2 * GROUP / PIECE as u64;
/// From here on the router grows slowly, so that it sees each of its levels: it looks every 50 ms.
const NEAR: u64 = GROUP / 4 * 3;
const PACE: Duration = Duration::from_millis(100);

/// 56: the last descriptors are for servers and administrators; without any it waits, and does not spin.
pub fn descriptors(world: &mut World<'_>, verdict: &mut Verdict) {
    let router = &world.router;
    let open = router.open_descriptors() as u64;
    let before = router.limit_descriptors(open + 300);
    let mut crowd: Vec<Wire> = (0..600).map(|_| Wire::connect(router.port())).collect();
    let is_told = |wire: &mut Wire| {
        let frame = wire.try_frame(Duration::from_millis(1));
        frame.is_ok_and(|frame| frame.sqlstate() == "53300")
    };
    let mut told = 0;
    poll_until(SOON, || {
        told += crowd
            .iter_mut()
            .filter_map(|wire| is_told(wire).then_some(()))
            .count();
        told > 0
    });
    let claim = "who is one too many is told so";
    verdict.claim(told > 0, claim, format!("{told} of {}", crowd.len()));
    world.claim_served(verdict);
    // Who says nothing does not keep the last descriptors for long.
    let console = router.endpoint(USER, PASSWORD, "mothership");
    let get_in = || {
        let mut wire = Wire::connect(console.port);
        wire.ask_in(&console, V3_0, &[]).is_ok()
    };
    let reached = poll_until(SOON, get_in);
    verdict.claim(reached, "the console can be reached", reached);
    drop(crowd);
    poll_until(SOON, || router.open_descriptors() as u64 <= open + 50);

    router.limit_descriptors(router.open_descriptors() as u64);
    let failed = || router.log().matches("could not be accepted").count();
    let crowd: Vec<Wire> = (0..100).map(|_| Wire::connect(router.port())).collect();
    let out = poll_until(SOON, || failed() > 0);
    verdict.claim(out, "no client can be accepted", failed());
    let (attempts, time) = (failed(), proof::cpu_of_family(router.pid()));
    // The bank works meanwhile: what it takes for that is well below a core that spins.
    std::thread::sleep(WATCH);
    let (attempts, time) = (
        failed() - attempts,
        proof::cpu_of_family(router.pid()).saturating_sub(time),
    );
    // Each core pauses for 50 ms after a failure.
    let most = 2 * 20 * WATCH.as_secs() as usize * 2;
    let figure = format!("{attempts} attempts and {time:.1?} of a processor in {WATCH:.0?}");
    verdict.claim(attempts <= most, "it does not spin", figure);
    world.claim_served(verdict);
    router.limit_descriptors(before);
    drop(crowd);
    let mut client = world.client();
    let answer = say(&mut client, "SELECT 1");
    let claim = "with descriptors it lets clients in again";
    verdict.claim(answer.rows() == ["1"], claim, answer);
}

/// 57: it refuses clients, then transactions, before the kernel ends it.
pub fn memory(world: &mut World<'_>, verdict: &mut Verdict) {
    let router = &world.router;
    let group = Group::make(router.pid());
    let limit = match &group {
        Ok(_) => format!("a control group of {} MiB", GROUP >> 20),
        Err(why) => {
            let config = std::fs::read_to_string(router.config_path()).unwrap();
            let config = config.replace("memory = \"auto\"", SETTING);
            std::fs::write(router.config_path(), config).unwrap();
            format!("{SETTING}, for no control group can be made: {why}")
        }
    };
    println!("   {limit}");
    // It looks at its control group when it reads its configuration.
    router.sighup();
    let key = world.key(0);
    let own = router.endpoint(bank::ROLE, "", &world.database);
    let client = || {
        let mut wire = Wire::login(&own);
        wire.set_limit(SOON);
        wire
    };
    let (mut known, mut holder) = (client(), client());
    say(&mut holder, "BEGIN");
    let read = format!("SELECT id FROM accounts WHERE id = {key}");
    say(&mut holder, &read);
    // Messages that are never whole: what has arrived of them is held.
    let claim = [b"Q".as_slice(), &(200_u32 << 20).to_be_bytes()].concat();
    let mut hogs: Vec<Wire> = (0..20).map(|_| client()).collect();
    hogs.iter_mut().for_each(|hog| hog.send(&claim));
    let piece = vec![b' '; PIECE];
    let mut grown = 0;
    let mut grow = || {
        grown += 1;
        let hog = &mut hogs[grown % 20];
        let before = router.resident_bytes();
        let sent = hog.try_send(&piece).is_ok();
        if before >= NEAR {
            poll_until(PACE * 10, || {
                router.resident_bytes() >= before + PIECE as u64 / 2
            });
            std::thread::sleep(PACE);
        }
        sent && grown as u64 <= PIECES
    };
    let newcomer = || {
        let mut wire = Wire::connect(own.port);
        let login = wire.try_login(&own, V3_0, &[]);
        login.err().map(|error| error.sqlstate())
    };
    let mut refused = newcomer();
    while refused.is_none() && grow() {
        refused = newcomer();
    }
    let figure = format!("{refused:?} at {} MiB", router.resident_bytes() >> 20);
    let right = refused.as_deref() == Some("53300");
    verdict.claim(right, "new clients are refused first", figure);
    let mut answer = say(&mut known, &read);
    let right = answer.rows() == [key.to_string()];
    verdict.claim(right, "who is in is served", &answer);
    while answer.errors().is_empty() && grow() {
        answer = say(&mut known, &read);
    }
    let right = answer.is_error(&["53300"], 'I');
    let figure = format!("{answer} at {} MiB", router.resident_bytes() >> 20);
    verdict.claim(right, "then new transactions", figure);
    let answer = say(&mut holder, &read);
    let right = answer.rows() == [key.to_string()];
    verdict.claim(right, "a transaction that is open goes on", answer);
    let shown = proof::console(router, "SHOW LISTS");
    verdict.claim(!shown.is_empty(), "the console can be reached", shown.len());
    drop(hogs);
    let served = poll_until(SOON, || say(&mut known, &read).errors().is_empty());
    verdict.claim(served, "it recovers", router.resident_bytes() >> 20);
    let let_in = poll_until(SOON, || newcomer().is_none());
    verdict.claim(let_in, "and lets clients in", let_in);
    say(&mut holder, "COMMIT");
    if let Ok(group) = &group {
        let (killed, most) = (group.killed(), group.most() >> 20);
        let figure = format!("{most} MiB at most of {} MiB", GROUP >> 20);
        verdict.claim(!killed, "the kernel has not had to end it", figure);
    }
    world.claim_served(verdict);
}

/// A control group of version 1 for the memory of one process.
struct Group {
    path: PathBuf,
    pid: u32,
}

impl Group {
    /// The reason if this process may not make one.
    fn make(pid: u32) -> Result<Group, String> {
        let all = Path::new("/sys/fs/cgroup/memory");
        let group = Group {
            path: all.join(format!("mothership-faults-{pid}")),
            pid,
        };
        let made = std::fs::create_dir(&group.path)
            .and_then(|()| group.write("memory.limit_in_bytes", &GROUP.to_string()))
            .and_then(|()| group.write("cgroup.procs", &pid.to_string()));
        made.map(|()| group).map_err(|error| error.to_string())
    }

    fn write(&self, file: &str, text: &str) -> std::io::Result<()> {
        std::fs::write(self.path.join(file), text)
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path.join(file)).unwrap_or_default()
    }

    /// Whether the kernel has ended a process of it.
    fn killed(&self) -> bool {
        let control = self.read("memory.oom_control");
        !control.lines().any(|line| line == "oom_kill 0")
    }

    /// The most that it has used.
    fn most(&self) -> u64 {
        let most = self.read("memory.max_usage_in_bytes");
        most.trim().parse().unwrap_or_default()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The router goes back to where this process is; an empty group can be removed.
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = groups.lines().find_map(|line| line.split_once(":memory:/"));
        if let Some((_, own)) = own {
            let procs = Path::new("/sys/fs/cgroup/memory")
                .join(own)
                .join("cgroup.procs");
            let _ = std::fs::write(procs, self.pid.to_string());
        }
        let _ = std::fs::remove_dir(&self.path);
    }
}
