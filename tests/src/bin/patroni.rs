//! Behind the router a real Patroni cluster of three servers, synchronous, with etcd: what clients see when its leader
//! changes, by the router's order, by Patroni's own, or because it dies.
//!
//! Beside the clients somebody writes to every server directly, all the time: when the first such write succeeds on
//! the new leader, Patroni has done its part, and what comes later is the router's.
//! CLIENTS, ROUNDS and SCALE come from the environment; see `make patroni`.

#![allow(clippy::unwrap_used)] // A proof that cannot go on has nothing better than to say where.

use mothership_tests::message::V3_0;
use mothership_tests::patroni::{self, Patroni};
use mothership_tests::proof::{self, Verdict, number};
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Endpoint, Router, Wire, binaries, poll_until};
use std::collections::BTreeMap;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const NODES: usize = 3;
/// Whatever takes longer will not happen.
const LONG: Duration = Duration::from_secs(180);
/// How long each load runs.
const SECONDS: u64 = 25;
const MODES: [&str; 3] = ["simple", "extended", "prepared"];

fn main() -> ExitCode {
    if let Some(missing) = patroni::missing() {
        println!("SKIP patroni: {missing} is not installed (Debian: patroni, etcd-server)");
        return ExitCode::SUCCESS;
    }
    let mut stage = Stage::new(number("SCALE", 4));
    let clients = number("CLIENTS", 32);
    let mut verdict = Verdict::default();
    let mut figures = Figures::default();
    for round in 0..number("ROUNDS", 5) {
        let mode = MODES[usize::try_from(round).unwrap() % MODES.len()];
        println!("     round {round}, {mode}");
        stage.ordered_switchover(clients, mode, &mut verdict, &mut figures);
        stage.reads_while_patroni_switches(clients, mode, &mut verdict);
        stage.writes_while_patroni_switches(clients, &mut verdict, &mut figures);
        stage.leader_dies(clients, &mut verdict, &mut figures);
    }
    stage.claim_history(&mut verdict);
    stage.routers_start_beside_a_lone_leader(&mut verdict);
    figures.print();
    verdict.exit()
}

/// Listener, roles and the shard, with these settings of its own.
fn config(patroni: &Patroni, window: &str, of_shard: &str) -> String {
    let config = format!(
        "[listen]\naddress = [\"127.0.0.1\"]\nport = @port@\n\
         [control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         [failover]\nwindow = \"{window}\"\n\
         [console]\nadmin_users = [\"{USER}\"]\n\
         [[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n"
    );
    let shard = proof::shards_at(&[patroni.ports()], "tls = \"disable\"");
    config + &shard.replace("name = \"s1\"\n", &format!("name = \"s1\"\n{of_shard}"))
}

/// Cluster and router, and what clients were told so far.
struct Stage {
    router: Router,
    patroni: Patroni,
    acknowledged: i64,
    unknown: i64,
}

impl Stage {
    fn new(scale: u64) -> Stage {
        let patroni = Patroni::start(NODES);
        let urls = format!("patroni = {:?}\n", patroni.urls());
        let mut config = config(&patroni, "3min", &urls);
        for (table, key) in [
            ("accounts", "aid"),
            ("tellers", "tid"),
            ("branches", "bid"),
            ("history", "aid"),
        ] {
            config += &format!(
                "[[table]]\nname = \"pgbench_{table}\"\nkey = \"{key}\"\nkey_type = \"int4\"\n"
            );
        }
        let stage = Stage {
            router: Router::start(&config),
            patroni,
            acknowledged: 0,
            unknown: 0,
        };
        stage.wait_whole();
        let done = stage
            .pgbench()
            .args(["-i", "-q", "-s", &scale.to_string()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "pgbench -i: {said}");
        let leader = stage.patroni.endpoint(stage.patroni.leader().unwrap());
        Wire::login(&leader).query("CREATE TABLE direct (at timestamptz)");
        stage
    }

    fn endpoint(&self) -> Endpoint {
        self.router.endpoint(USER, PASSWORD, "postgres")
    }

    fn pgbench(&self) -> Command {
        let mut command = Command::new(binaries().program("pgbench"));
        command.envs(self.endpoint().env());
        command
    }

    /// Waits until Patroni has all in order, and the router has seen it.
    fn wait_whole(&self) {
        self.patroni.wait_whole();
        let seen = poll_until(LONG, || {
            let servers = proof::console(&self.router, "SHOW ENDPOINTS");
            let primaries = servers.iter().filter(|s| s["role"] == "primary").count();
            let up = servers.iter().all(|server| server["health"] == "up");
            up && primaries == 1 && servers.len() == NODES
        });
        assert!(
            seen,
            "{:#?}",
            proof::console(&self.router, "SHOW ENDPOINTS")
        );
    }

    /// The leader, and the one that can take its place.
    fn old_and_new(&self) -> (usize, usize) {
        self.wait_whole();
        let from = self.patroni.leader().unwrap();
        (from, self.patroni.synchronous().unwrap())
    }

    /// What is ordered through the console costs nobody anything.
    fn ordered_switchover(
        &mut self,
        clients: u64,
        mode: &str,
        verdict: &mut Verdict,
        figures: &mut Figures,
    ) {
        let (from, to) = self.old_and_new();
        let bench = self.bench("tpcb-like", clients, mode);
        let (load, direct) = (Load::start(&self.endpoint(), 1), self.direct());
        load.wait_for_commits();
        let mut console = Wire::login(&self.router.endpoint(USER, PASSWORD, "mothership"));
        let port = self.patroni.ports()[to];
        let frames = console.query(&format!("SWITCHOVER s1 '127.0.0.1:{port}'"));
        let refused = frames.iter().any(|frame| frame.kind == b'E');
        verdict.claim(!refused, "SWITCHOVER: Patroni did it", refused_or(&frames));
        load.wait_for_commits();
        let done = self.ended(bench, verdict, "SWITCHOVER, TPC-B", clients, mode);
        self.acknowledged += done;
        let now = self.patroni.leader();
        verdict.claim(
            now == Some(to),
            "SWITCHOVER: the leader is another",
            format!("{from} -> {now:?}"),
        );
        let (told, direct) = (load.stop(), direct.stop());
        self.count(&told);
        verdict.claim(
            told.failures.is_empty(),
            "SWITCHOVER: no error for one more client",
            told.in_words(),
        );
        figures.note("SWITCHOVER", &told, &direct);
    }

    /// Reads that are outside of transactions see nothing of it.
    fn reads_while_patroni_switches(&mut self, clients: u64, mode: &str, verdict: &mut Verdict) {
        let (from, to) = self.old_and_new();
        let bench = self.bench("select-only", clients, mode);
        let load = Load::start(&self.endpoint(), 1);
        load.wait_for_commits();
        self.patroni.patronictl_switchover(from, to);
        load.wait_for_commits();
        self.ended(bench, verdict, "patronictl, pgbench -S", clients, mode);
        let told = load.stop();
        self.count(&told);
        claim_errors(verdict, "patronictl, a writer beside pgbench -S", &told);
    }

    /// Writers lose what was open.
    fn writes_while_patroni_switches(
        &mut self,
        clients: u64,
        verdict: &mut Verdict,
        figures: &mut Figures,
    ) {
        let (from, to) = self.old_and_new();
        let (load, direct) = (Load::start(&self.endpoint(), clients), self.direct());
        load.wait_for_commits();
        self.patroni.patronictl_switchover(from, to);
        load.wait_for_commits();
        let (told, direct) = (load.stop(), direct.stop());
        self.count(&told);
        claim_errors(verdict, "patronictl, TPC-B", &told);
        figures.note("patronictl", &told, &direct);
    }

    /// The same when nobody has said anything before.
    fn leader_dies(&mut self, clients: u64, verdict: &mut Verdict, figures: &mut Figures) {
        let (from, _) = self.old_and_new();
        let (load, direct) = (Load::start(&self.endpoint(), clients), self.direct());
        load.wait_for_commits();
        self.patroni.kill9(from);
        let another = || self.patroni.leader().is_some_and(|leader| leader != from);
        assert!(poll_until(LONG, another), "{}", self.patroni.logs());
        load.wait_for_commits();
        self.patroni.start_node(from);
        let (told, direct) = (load.stop(), direct.stop());
        self.count(&told);
        claim_errors(verdict, "kill -9, TPC-B", &told);
        figures.note("kill -9", &told, &direct);
    }

    fn count(&mut self, told: &Told) {
        self.acknowledged += i64::try_from(told.commits.len()).unwrap();
        // 08006 says that it was not committed.
        let unknown =
            |f: &&Failure| f.statement == "COMMIT" && f.sqlstate.as_deref() != Some("08006");
        let at_commit = told.failures.iter().filter(unknown);
        self.unknown += i64::try_from(at_commit.count()).unwrap();
    }

    fn bench(&self, script: &str, clients: u64, mode: &str) -> Child {
        let mut command = self.pgbench();
        command.args(["-n", "-b", script, "-M", mode, "-j", "2"]);
        command.args(["-c", &clients.to_string(), "-T", &SECONDS.to_string()]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        mothership_tests::cluster::spawn_tied(command, libc::SIGKILL).unwrap()
    }

    /// Waits for pgbench and claims that nothing failed; how many transactions there were.
    fn ended(
        &self,
        mut bench: Child,
        verdict: &mut Verdict,
        what: &str,
        clients: u64,
        mode: &str,
    ) -> i64 {
        let ended = poll_until(LONG, || bench.try_wait().unwrap().is_some());
        assert!(ended, "pgbench does not end");
        let out = bench.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        let line = |name: &str| {
            let found = said.lines().find_map(|line| line.strip_prefix(name));
            found.map(|rest| rest.trim().to_owned()).unwrap_or_default()
        };
        let failed = line("number of failed transactions:");
        let done = line("number of transactions actually processed:");
        let fine = out.status.success() && failed.starts_with("0 ");
        let claim = format!("{what}: no error for {clients} clients, {mode}");
        verdict.claim(
            fine,
            &claim,
            format!("{done} transactions, {failed} failed"),
        );
        if !fine {
            println!("{}", String::from_utf8_lossy(&out.stderr));
            println!("{}", self.router.log());
        }
        done.parse().unwrap_or(0)
    }

    fn direct(&self) -> Load {
        let servers = (0..NODES).map(|node| self.patroni.endpoint(node));
        Load::directly(servers.collect())
    }

    /// A router that starts then cannot know by the servers whether there is a newer primary somewhere. The last act:
    /// the cluster is not whole afterwards.
    fn routers_start_beside_a_lone_leader(&mut self, verdict: &mut Verdict) {
        let (leader, _) = self.old_and_new();
        let others = (0..NODES).filter(|node| *node != leader);
        others.for_each(|node| self.patroni.kill9(node));
        let urls = format!("patroni = {:?}\n", self.patroni.urls());
        for (of_shard, what, expected) in [
            ("", "no write without confirmation", Some("57P03")),
            ("trust_single = true\n", "a write with trust_single", None),
            (&*urls, "a write when Patroni confirms it", None),
        ] {
            let window = if expected.is_some() { "2s" } else { "3min" };
            let router = Router::start(&config(&self.patroni, window, of_shard));
            let endpoint = router.endpoint(USER, PASSWORD, "postgres");
            let mut wire = Wire::connect(endpoint.port);
            wire.set_limit(LONG);
            // Without a primary there is nobody who knows what a login needs, either.
            let state = match wire.try_login(&endpoint, V3_0, &[]) {
                Err(refused) => Some(refused.sqlstate()),
                Ok(_) => {
                    // Else it waits for a standby until Patroni has found out that there is none, which Patroni sometimes
                    // does not.
                    wire.query("SET synchronous_commit TO local");
                    let frames = wire.query("INSERT INTO direct VALUES (now())");
                    let error = frames.iter().find(|frame| frame.kind == b'E');
                    error.map(|error| error.sqlstate())
                }
            };
            let claim = format!("a router that starts beside a lone leader: {what}");
            verdict.claim(state.as_deref() == expected, &claim, format!("{state:?}"));
        }
    }

    /// Synchronous replicas lose nothing that was acknowledged.
    fn claim_history(&self, verdict: &mut Verdict) {
        self.wait_whole();
        let leader = self.patroni.endpoint(self.patroni.leader().unwrap());
        let frames = Wire::login(&leader).query("SELECT count(*) FROM pgbench_history");
        let row = frames.iter().find(|frame| frame.kind == b'D').unwrap();
        let rows: i64 = row.row_text()[0].parse().unwrap();
        let fits = self.acknowledged <= rows && rows <= self.acknowledged + self.unknown;
        let figure = format!(
            "{} acknowledged, {} unknown, {rows} rows",
            self.acknowledged, self.unknown
        );
        verdict.claim(fits, "no transaction is lost or made up", figure);
    }
}

fn refused_or(frames: &[mothership_tests::Frame]) -> String {
    let error = frames.iter().find(|frame| frame.kind == b'E');
    error.map_or("done".to_owned(), |error| format!("{error:?}"))
}

/// Errors end what was open when the leader went, and nothing else.
fn claim_errors(verdict: &mut Verdict, what: &str, told: &Told) {
    let (_, resumed) = told.longest_pause();
    let mut of_client: BTreeMap<usize, usize> = BTreeMap::new();
    for failure in &told.failures {
        *of_client.entry(failure.client).or_default() += 1;
    }
    let good = told.failures.iter().all(|failure| {
        let state = failure.sqlstate.as_deref().unwrap_or_default();
        let class = state.starts_with("08") || state.starts_with("57P");
        class && failure.statement != "BEGIN" && failure.begun < resumed
    });
    let once = of_client.values().all(|count| *count == 1);
    let claim =
        format!("{what}: at most one error for each client, of class 08 or 57P, in what was open");
    verdict.claim(good && once, &claim, told.in_words());
    if !(good && once) {
        for failure in &told.failures {
            let before = resumed.saturating_duration_since(failure.begun);
            let (client, statement, text) = (failure.client, failure.statement, &failure.text);
            println!(
                "     client {client}, {statement}, begun {before:.2?} before the end of the pause: {text}"
            );
        }
    }
}

/// Writers that note what they are told.
struct Load {
    stop: Arc<AtomicBool>,
    commits: Arc<AtomicUsize>,
    thread: JoinHandle<Told>,
}

/// What writers were told.
#[derive(Debug, Default)]
struct Told {
    commits: Vec<Instant>,
    failures: Vec<Failure>,
}

/// A transaction that failed.
#[derive(Debug)]
struct Failure {
    client: usize,
    /// The first word of what was answered with the error.
    statement: &'static str,
    /// None: the connection ended without a word.
    sqlstate: Option<String>,
    text: String,
    begun: Instant,
}

impl Load {
    /// TPC-B by so many clients, which go on after an error.
    fn start(endpoint: &Endpoint, clients: u64) -> Load {
        let clients = (0..clients).map(|_| endpoint.clone()).collect();
        Load::run(clients, true)
    }

    /// Small writes to these servers; those that refuse are asked again and again.
    fn directly(servers: Vec<Endpoint>) -> Load {
        Load::run(servers, false)
    }

    fn run(endpoints: Vec<Endpoint>, tpcb: bool) -> Load {
        let (stop, commits) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&commits));
        let thread = std::thread::spawn(move || {
            let told = Arc::new(Mutex::new(Told::default()));
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(async {
                let mut writers = Vec::new();
                for (number, endpoint) in endpoints.into_iter().enumerate() {
                    let writer = Writer {
                        number,
                        endpoint,
                        tpcb,
                        stop: Arc::clone(&stopped),
                        commits: Arc::clone(&counted),
                        told: Arc::clone(&told),
                    };
                    writers.push(tokio::spawn(writer.write()));
                }
                for writer in writers {
                    writer.await.unwrap();
                }
            });
            Arc::into_inner(told).unwrap().into_inner().unwrap()
        });
        Load {
            stop,
            commits,
            thread,
        }
    }

    /// Waits until there were some more.
    fn wait_for_commits(&self) {
        let enough = self.commits.load(Ordering::Relaxed) + 50;
        let so = poll_until(LONG, || self.commits.load(Ordering::Relaxed) >= enough);
        assert!(so, "no commits");
    }

    fn stop(self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        let mut told = self.thread.join().unwrap();
        told.commits.sort();
        told
    }
}

/// One client of a load.
struct Writer {
    number: usize,
    endpoint: Endpoint,
    tpcb: bool,
    stop: Arc<AtomicBool>,
    commits: Arc<AtomicUsize>,
    told: Arc<Mutex<Told>>,
}

impl Writer {
    async fn write(self) {
        let pause = Duration::from_millis(5);
        let mut client = None;
        while !self.stop.load(Ordering::Relaxed) {
            let connected = match client.take() {
                Some(client) => client,
                None => match self.connect().await {
                    Ok(client) => client,
                    Err(error) => {
                        // At the router a login waits, and does not fail.
                        self.fail("login", &error, Instant::now());
                        tokio::time::sleep(pause).await;
                        continue;
                    }
                },
            };
            let begun = Instant::now();
            for (statement, sql) in self.transaction() {
                if let Err(error) = connected.simple_query(&sql).await {
                    self.fail(statement, &error, begun);
                    if statement != "COMMIT" && !connected.is_closed() {
                        let _ = connected.simple_query("ROLLBACK").await;
                    }
                    break;
                }
                if matches!(statement, "COMMIT" | "direct") {
                    self.told.lock().unwrap().commits.push(Instant::now());
                    self.commits.fetch_add(1, Ordering::Relaxed);
                }
            }
            if !self.tpcb {
                tokio::time::sleep(pause).await;
            }
            client = Some(connected).filter(|client| !client.is_closed());
        }
    }

    async fn connect(&self) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let config: tokio_postgres::Config = self.endpoint.conninfo().parse().unwrap();
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }

    fn transaction(&self) -> Vec<(&'static str, String)> {
        if !self.tpcb {
            return vec![("direct", "INSERT INTO direct VALUES (now())".into())];
        }
        let random = |most: i32| rand::random_range(1..=most);
        let (aid, tid, bid, delta) = (random(100_000), random(10), 1, random(5_000));
        vec![
            ("BEGIN", "BEGIN".into()),
            (
                "UPDATE",
                format!(
                    "UPDATE pgbench_accounts SET abalance = abalance + {delta} WHERE aid = {aid}"
                ),
            ),
            (
                "SELECT",
                format!("SELECT abalance FROM pgbench_accounts WHERE aid = {aid}"),
            ),
            (
                "UPDATE",
                format!(
                    "UPDATE pgbench_tellers SET tbalance = tbalance + {delta} WHERE tid = {tid}"
                ),
            ),
            (
                "UPDATE",
                format!(
                    "UPDATE pgbench_branches SET bbalance = bbalance + {delta} WHERE bid = {bid}"
                ),
            ),
            (
                "INSERT",
                format!(
                    "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES ({tid}, {bid}, {aid}, {delta}, CURRENT_TIMESTAMP)"
                ),
            ),
            ("COMMIT", "COMMIT".into()),
        ]
    }

    fn fail(&self, statement: &'static str, error: &tokio_postgres::Error, begun: Instant) {
        if self.tpcb {
            self.told.lock().unwrap().failures.push(Failure {
                client: self.number,
                statement,
                sqlstate: error.code().map(|code| code.code().to_owned()),
                text: format!("{error:?}"),
                begun,
            });
        }
    }
}

impl Told {
    /// The longest time between two commits, and when it ended.
    fn longest_pause(&self) -> (Duration, Instant) {
        let pairs = self.commits.windows(2);
        let pauses = pairs.map(|pair| (pair[1] - pair[0], pair[1]));
        pauses.max().unwrap()
    }

    fn in_words(&self) -> String {
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for failure in &self.failures {
            let state = failure.sqlstate.as_deref().unwrap_or("no word");
            *kinds
                .entry(format!("{state} at {}", failure.statement))
                .or_default() += 1;
        }
        let (pause, _) = self.longest_pause();
        format!(
            "{} commits, longest pause {pause:.2?}, errors {kinds:?}",
            self.commits.len()
        )
    }
}

/// Times of each kind of change, in seconds.
#[derive(Default)]
struct Figures(BTreeMap<&'static str, Vec<(f64, f64)>>);

impl Figures {
    /// The pause of clients, and how much later than a direct writer they went on.
    fn note(&mut self, what: &'static str, told: &Told, direct: &Told) {
        let ((pause, resumed), (_, patroni)) = (told.longest_pause(), direct.longest_pause());
        let beyond = resumed.saturating_duration_since(patroni);
        let both = (pause.as_secs_f64(), beyond.as_secs_f64());
        self.0.entry(what).or_default().push(both);
    }

    fn print(self) {
        println!(
            "     seconds, median and worst: the pause of all clients, and how long after a direct writer they went on"
        );
        for (what, times) in self.0 {
            let (mut pauses, mut beyond): (Vec<f64>, Vec<f64>) = times.into_iter().unzip();
            pauses.sort_by(f64::total_cmp);
            beyond.sort_by(f64::total_cmp);
            let of = |times: &[f64]| {
                format!(
                    "{:.2} {:.2}",
                    times[times.len() / 2],
                    times[times.len() - 1]
                )
            };
            println!(
                "     {what} ({}): pause {}, beyond Patroni {}",
                pauses.len(),
                of(&pauses),
                of(&beyond)
            );
        }
    }
}
