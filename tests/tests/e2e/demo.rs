//! `mothership demo` as somebody types it: the real binary, a small shop, a folder of its own.

use mothership_tests::cluster::free_port;
use mothership_tests::mongo::mongod;
use mothership_tests::{Endpoint, Folder, binaries, connect, poll_until, router};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

/// A demo in the background. Dropped, it is ended with all that it started, and its folder goes.
struct Demo {
    state: PathBuf,
    port: u16,
    mongod: Option<PathBuf>,
    // Behind the demo, so that it is removed after it.
    _folder: Folder,
}

impl Demo {
    /// Where no mongod can be found.
    fn new() -> Demo {
        let folder = Folder::new("demo");
        Demo {
            state: folder.path().join("state"),
            port: free_port().unwrap(),
            mongod: None,
            _folder: folder,
        }
    }

    /// With a mongod. `None`, said loudly, where none can be had.
    fn with_mongod() -> Option<Demo> {
        let Some(mongod) = mongod() else {
            // Not by a macro, whose output the harness would keep to itself.
            let _ = writeln!(std::io::stderr(), "SKIP mongo: no mongod can be had");
            return None;
        };
        let mut demo = Demo::new();
        demo.mongod = Some(mongod);
        Some(demo)
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(router::binary());
        command.arg("demo").args(options);
        command.arg("--state").arg(&self.state);
        command.args(["--port", &self.port.to_string()]);
        command.env_remove("MAKELEVEL").stdin(Stdio::null());
        match &self.mongod {
            Some(mongod) => command.env("MONGOD_BIN", mongod),
            None => without_mongod(&mut command),
        };
        command
    }

    /// Runs it to its end.
    fn run(&self, options: &[&str]) -> Output {
        self.command(options).output().unwrap()
    }

    /// Runs it to its successful end; what it printed.
    fn told(&self, options: &[&str]) -> String {
        let output = self.run(options);
        let (out, error) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{options:?}: {out}{error}");
        out
    }

    /// Runs it to its failure; what it said.
    fn refused(&self, options: &[&str]) -> String {
        let output = self.run(options);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
        text(&output.stderr)
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint {
            host: "127.0.0.1".into(),
            port: self.port,
            user: "demo".into(),
            password: String::new(),
            database: "demo".into(),
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.run(&["--clean"]);
    }
}

/// Takes away what leads to a mongod; PostgreSQL's programs are named, because they may be in the same folder.
fn without_mongod(command: &mut Command) -> &mut Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).filter(|folder| !folder.join("mongod").exists());
    command
        .env_remove("MONGOD_BIN")
        .env("PATH", std::env::join_paths(folders).unwrap())
        .env("PG_BIN", binaries().folder())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Servers and routers that work below a folder, and mongods that were given one there.
fn processes_in(folder: &Path) -> Vec<String> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = pids.filter_map(|pid| {
        let working = std::fs::read_link(pid.path().join("cwd")).ok()?;
        let line = text(&std::fs::read(pid.path().join("cmdline")).ok()?);
        let mut words = line.split('\0').skip_while(|word| *word != "--dbpath");
        let has_data = words
            .nth(1)
            .is_some_and(|data| Path::new(data).starts_with(folder));
        (has_data || working.starts_with(folder)).then_some(line)
    });
    lines.collect()
}

/// The counts in a line of the report: `orders  s1  12 = 3 + 4 + 5`.
fn counts(report: &str, table: &str) -> Vec<Vec<u64>> {
    let (_, report) = report.split_once("Rows on each shard").unwrap();
    let lines = report
        .lines()
        .skip_while(|line| !line.starts_with(&format!("  {table} ")));
    let of_table = |(index, line): &(usize, &str)| *index == 0 || line.starts_with("    ");
    let lines = lines.enumerate().take_while(of_table);
    let numbers = lines.map(|(_, line)| {
        let words = line.split_whitespace();
        words
            .filter_map(|word| word.replace(',', "").parse().ok())
            .collect()
    });
    numbers.collect()
}

/// The answer to a statement, which has to come.
async fn within<T>(sql: &str, answer: impl Future<Output = Result<T, tokio_postgres::Error>>) -> T {
    let answer = tokio::time::timeout(SOON, answer).await;
    let answer = answer.unwrap_or_else(|_| panic!("{sql}: no answer within {SOON:?}"));
    answer.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
}

#[tokio::test]
async fn a_shop_is_filled_used_stopped_started_again_and_removed() {
    let demo = Demo::new();
    let first = demo.told(&["--detach", "--rows", "3000", "--seed", "7"]);
    assert!(first.contains("made from seed 7"), "{first}");
    let missing = "\nThere is no table of events, whose rows would be in MongoDB: no mongod is in PATH; \
                   install one, or set MONGOD_BIN to its path, and start again";
    assert!(first.contains(missing), "{first}");
    assert!(first.contains("3. SELECT count(*) FROM orders;"), "{first}");
    assert!(
        first.contains(&format!("psql -h 127.0.0.1 -p {} -U demo demo", demo.port)),
        "{first}"
    );

    // Each sharded table is spread over all shards and all of their partitions.
    for table in ["customers", "orders", "order_items"] {
        let shards = counts(&first, table);
        assert_eq!(shards.len(), 3, "{table} {shards:?}\n{first}");
        for shard in &shards {
            assert_eq!(shard.len(), 4, "{table} {shards:?}");
            assert!(shard.iter().all(|rows| *rows > 0), "{table} {shards:?}");
            assert_eq!(shard[0], shard[1..].iter().sum::<u64>());
        }
    }
    assert_eq!(counts(&first, "products"), [[20], [20], [20]]);
    assert_eq!(counts(&first, "settings"), [[6]]);
    let all = |report: &str, table| {
        counts(report, table)
            .iter()
            .map(|shard| shard[0])
            .sum::<u64>()
    };

    let client = connect(&demo.endpoint()).await;
    let count = async |sql: &str| {
        let row = within(sql, client.query_one(sql, &[])).await;
        u64::try_from(row.get::<_, i64>(0)).unwrap()
    };
    for table in ["customers", "orders", "order_items", "products"] {
        let counted = count(&format!("SELECT count(*) FROM {table}")).await;
        let told = match table {
            "products" => 20,
            _ => all(&first, table),
        };
        assert_eq!(counted, told, "{table}");
    }
    let joined = "SELECT count(*) FROM orders o \
                  JOIN order_items i ON i.customer_id = o.customer_id AND i.order_id = o.order_id";
    assert_eq!(count(joined).await, all(&first, "order_items"));
    assert_eq!(
        count("SELECT count(*) FROM customers WHERE customer_id = 5").await,
        1
    );
    for id in 1..=12 {
        let sql = format!("UPDATE customers SET city = 'Oslo' WHERE customer_id = {id}");
        let begin = if id % 2 == 1 { "BEGIN" } else { "" };
        let end = if id % 2 == 0 { "COMMIT" } else { "" };
        for sql in [begin, &sql, end].into_iter().filter(|sql| !sql.is_empty()) {
            within(sql, client.batch_execute(sql)).await;
        }
    }
    let in_oslo = "SELECT count(*) FROM customers WHERE city = 'Oslo'";
    let oslo = count(in_oslo).await;
    assert!(oslo >= 12);
    drop(client);

    let again = demo.refused(&["--detach"]);
    assert!(again.contains("a demo is running with"), "{again}");
    assert_eq!(demo.told(&["--stop"]), "The demo has ended.\n");
    assert_eq!(processes_in(&demo.state), [""; 0]);
    let other = demo.refused(&["--seed", "8"]);
    assert!(
        other.contains("was made with --rows 3000 --seed 7"),
        "{other}"
    );

    let began = Instant::now();
    let warm = demo.told(&["--detach"]);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(60), "a warm start took {took:?}");
    assert!(!warm.contains("Filling"), "{warm}");
    assert_eq!(counts(&warm, "order_items"), counts(&first, "order_items"));
    let client = connect(&demo.endpoint()).await;
    let row = within(in_oslo, client.query_one(in_oslo, &[])).await;
    assert_eq!(row.get::<_, i64>(0), i64::try_from(oslo).unwrap());
    drop(client);

    assert!(demo.told(&["--clean"]).starts_with("Removed "));
    assert!(!demo.state.exists());
}

#[test]
#[ignore = "long"]
fn what_a_killed_first_start_leaves_is_made_anew_or_removed() {
    let demo = Demo::with_mongod().unwrap_or_else(Demo::new);
    let mut first = demo.command(&["--rows", "3000"]);
    let mut first = first
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let data = demo.state.join("s1/primary/data");
    let member = demo.state.join("docs/m3/data");
    let is_made = || data.exists() && (demo.mongod.is_none() || member.exists());
    assert!(poll_until(SOON, is_made), "no server is being made");
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(demo.state.exists());
    let left = data.join("left");
    std::fs::write(&left, "").unwrap();
    // Interrupted in its turn, the second start removes all of it.
    let mut second = demo.command(&["--rows", "3000"]);
    let second = second
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The folder itself may be there again at the next look.
    // It may wait for 20 seconds for what the first one has left running before it kills that.
    let is_anew = poll_until(SOON * 3, || !left.exists());
    let pid = second.id().try_into().unwrap();
    // SAFETY: kill touches no memory; the child is ours and unreaped.
    unsafe { libc::kill(pid, libc::SIGINT) };
    let second = second.wait_with_output().unwrap();
    assert!(is_anew, "nothing is made anew: {second:?}");
    assert!(
        text(&second.stdout).starts_with("An earlier first start"),
        "{second:?}"
    );
    assert_eq!(text(&second.stderr), "stopped before the demo was ready\n");
    assert!(!demo.state.exists());
    assert_eq!(processes_in(&demo.state), [""; 0]);
}

/// What `psql` prints for a statement.
fn psql(demo: &Demo, sql: &str) -> Output {
    let mut command = Command::new(binaries().program("psql"));
    command.args(["-X", "-A", "-t", "-h", "127.0.0.1", "-U", "demo", "-c", sql]);
    command.args(["-p", &demo.port.to_string(), "demo"]);
    command.output().unwrap()
}

fn answer(demo: &Demo, sql: &str) -> String {
    let output = psql(demo, sql);
    assert!(output.status.success(), "{sql}: {}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

/// The statement of the report's five that joins customers with their events.
fn join_of_events(report: &str) -> &str {
    let mut lines = report.lines();
    let join = lines.find(|line| line.contains("JOIN events"));
    let join = join.unwrap_or_else(|| panic!("{report}"));
    join.split_once(". ").unwrap().1
}

const COUNT_OF_EVENTS: &str = "SELECT count(*) FROM events";

#[test]
#[ignore = "long"]
fn customers_are_joined_with_their_events_in_mongodb() {
    let Some(demo) = Demo::with_mongod() else {
        return;
    };
    let first = demo.told(&["--detach", "--rows", "9000", "--seed", "7"]);
    assert!(!first.contains("There is no table of events"), "{first}");
    let made = counts(&first, "events")[0][0].to_string();
    assert_eq!(answer(&demo, COUNT_OF_EVENTS), made);

    // The statement that the report shows, and the same put together from its two halves.
    let join = join_of_events(&first);
    let joined = answer(&demo, join);
    assert!(!joined.is_empty(), "{join}");
    let norwegians = "SELECT customer_id, name FROM customers WHERE country = 'Norway'";
    let norwegians = answer(&demo, norwegians);
    let reviews = "SELECT customer_id, happened_at, details->>'text' FROM events \
                   WHERE kind = 'review' ORDER BY happened_at DESC";
    let reviews = answer(&demo, reviews);
    let pairs = reviews.lines().filter_map(|review| {
        let (customer, rest) = review.split_once('|')?;
        let named = |line: &&str| line.split('|').next() == Some(customer);
        let (_, name) = norwegians.lines().find(named)?.split_once('|')?;
        Some(format!("{name}|{rest}"))
    });
    let pairs: Vec<String> = pairs.take(5).collect();
    assert_eq!(joined.lines().collect::<Vec<_>>(), pairs);
    let lost = "SELECT count(*) FROM events e LEFT JOIN customers c ON c.customer_id = e.customer_id \
                WHERE c.customer_id IS NULL";
    assert_eq!(answer(&demo, lost), "0");
    let one_more = "INSERT INTO events (event_id, customer_id, kind) VALUES (1, 1, 'call')";
    answer(&demo, one_more);

    // All of it dies at once; what was acknowledged is there after the next start, at other ports.
    let holder = std::fs::read_to_string(demo.state.join("mothership-demo.lock")).unwrap();
    let pid: i32 = holder.split_whitespace().next().unwrap().parse().unwrap();
    // SAFETY: kill touches no memory; the process holds the lock of our demo.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    let again = demo.told(&["--detach"]);
    assert!(!again.contains("rows in"), "{again}");
    let (was, is) = (made.parse::<u64>().unwrap(), counts(&again, "events")[0][0]);
    assert_eq!(was + 1, is);
    assert_eq!(answer(&demo, COUNT_OF_EVENTS), is.to_string());
    assert_eq!(demo.told(&["--stop"]), "The demo has ended.\n");
    assert_eq!(processes_in(&demo.state), [""; 0]);

    // Its table of events would look empty.
    let mut without = demo.command(&["--detach"]);
    let without = without
        .env("MONGOD_BIN", "/nowhere/mongod")
        .output()
        .unwrap();
    let refused = text(&without.stderr);
    assert!(refused.contains("has its events in MongoDB"), "{refused}");
    assert!(
        refused.contains("MONGOD_BIN=/nowhere/mongod is no program"),
        "{refused}"
    );
    assert_eq!(processes_in(&demo.state), [""; 0]);

    assert!(demo.told(&["--clean"]).starts_with("Removed "));
    assert!(!demo.state.exists());
}

#[test]
#[ignore = "long"]
fn a_shop_without_events_gets_them_as_soon_as_there_is_a_mongod() {
    let Some(mut demo) = Demo::with_mongod() else {
        return;
    };
    let mongod = demo.mongod.take();
    let without = demo.told(&["--detach", "--rows", "3000"]);
    assert!(without.contains("There is no table of events"), "{without}");
    assert_eq!(text(&psql(&demo, COUNT_OF_EVENTS).stdout), "");
    answer(&demo, "CREATE TABLE events (note text)");
    demo.told(&["--stop"]);
    demo.mongod = mongod;
    // A table of somebody's own is not hidden.
    let taken = demo.told(&["--detach"]);
    assert!(
        taken.contains("the shop has a table \"events\" of yours"),
        "{taken}"
    );
    assert_eq!(answer(&demo, COUNT_OF_EVENTS), "0");
    answer(&demo, "DROP TABLE events");
    demo.told(&["--stop"]);
    let with = demo.told(&["--detach"]);
    let events = counts(&with, "events")[0][0];
    assert!(events > 100, "{with}");
    assert_eq!(answer(&demo, COUNT_OF_EVENTS), events.to_string());
}

#[test]
fn what_makes_a_start_impossible_is_said_and_nothing_is_left() {
    let demo = Demo::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, demo.port)).unwrap();
    let taken = demo.refused(&[]);
    assert!(
        taken.contains(&format!("port {} on 127.0.0.1 is taken", demo.port)),
        "{taken}"
    );
    assert!(!demo.state.exists());
    drop(listener);

    let without = demo
        .command(&[])
        .env("PG_BIN", "/nowhere")
        .output()
        .unwrap();
    assert_eq!(
        text(&without.stderr),
        "PG_BIN=/nowhere has no initdb and postgres\n"
    );
    assert!(!demo.state.exists());
}

#[test]
fn a_folder_that_is_not_the_demos_own_is_left_alone() {
    let demo = Demo::new();
    std::fs::create_dir(&demo.state).unwrap();
    let letter = demo.state.join("letter");
    std::fs::write(&letter, "dear").unwrap();
    for options in [&[][..], &["--detach"], &["--clean"]] {
        let refused = demo.refused(options);
        assert!(refused.contains("is not a folder of the demo"), "{refused}");
    }
    assert_eq!(std::fs::read_to_string(letter).unwrap(), "dear");
}
