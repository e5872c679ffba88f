//! Memory and time of others.

use crate::stage::{SOON, Stage, Victim, WAIT, client, error, soon};
use mothership_tests::Wire;
use rand::RngExt;
use std::time::{Duration, Instant};

/// Rows of strangers in the decision table: what they cannot write any more may be there of an older release.
pub fn decisions(stage: &mut Stage) -> Result<String, String> {
    let database = stage.database_with_accounts();
    let router = stage.router("", "[transactions]\nrecovery_interval = \"100ms\"\n");
    let mut alice = client(&router, "alice", &database);
    alice.query("SELECT count(*) FROM accounts");
    let own = "pg_backend_pid(), (SELECT (extract(epoch FROM a.backend_start) * 1000000)::int8 \
               FROM pg_stat_get_activity(pg_backend_pid()) a)";
    let length = stage.rng.random_range(1_000_000..20_000_000);
    for names in [
        format!("repeat('x,', {length})"),
        "'a b'".to_owned(),
        "E's1\\n'".to_owned(),
    ] {
        let sql = format!("SELECT mothership.decide(gen_random_uuid(), {own}, {names})");
        if error(&alice.query(&sql)).is_none() {
            return Err(format!("a client decides with {names}"));
        }
    }
    let rows = stage.rng.random_range(20..60);
    let fill = |count: u32, length: u32, age: &str| {
        stage.at_home(
            &database,
            &format!(
                "INSERT INTO mothership.decision SELECT gen_random_uuid(), 1, n, true, repeat('x,', {length}), \
                 now() - interval '{age}' FROM generate_series(1, {count}) n"
            ),
        )
    };
    fill(rows, length / 4, "1 minute");
    fill(500, 30_000, "8 days");
    let victim = Victim::begin(&router, &database);
    let left = "SELECT count(*) FROM mothership.decision";
    let gone = soon(|| stage.at_home(&database, left) == rows.to_string());
    std::thread::sleep(Duration::from_secs(1));
    let said = victim.end().was_spared(WAIT, 300)?;
    let left = stage.at_home(&database, left);
    match gone && left == rows.to_string() {
        true => Ok(format!("{rows} rows of {length} bytes; {said}")),
        false => Err(format!("{left} rows are left and not {rows}")),
    }
}

/// Statements of a megabyte, in every form that planning could take long for.
pub fn statements(stage: &mut Stage) -> Result<String, String> {
    let database = stage.database_with_accounts();
    let router = stage.router("", "");
    let size = stage.rng.random_range(900_000..1_000_000usize);
    let many = |piece: &str, between: &str| {
        let count = size / (piece.len() + between.len());
        vec![piece; count].join(between)
    };
    let from = "SELECT n FROM accounts";
    let forms = [
        ("sort keys", format!("{from} ORDER BY {}", many("1", ","))),
        ("groups", format!("{from} GROUP BY {}", many("n", ","))),
        (
            "columns",
            format!("SELECT {} FROM accounts", many("n", ",")),
        ),
        ("list", format!("{from} WHERE id IN ({})", many("7", ","))),
        (
            "rows in a list",
            format!("{from} WHERE (id, n) IN ({})", many("(1,2)", ",")),
        ),
        (
            "alternatives",
            format!("{from} WHERE {}", many("id = 1", " OR ")),
        ),
        (
            "conditions",
            format!("{from} WHERE {}", many("id > 1", " AND ")),
        ),
        ("arms", many("SELECT 1", " UNION ALL ")),
        (
            "rows",
            format!("INSERT INTO accounts VALUES {}", many("(1,2)", ",")),
        ),
        (
            "entries",
            format!("SELECT 1 FROM {}", many("accounts a", ",")),
        ),
        (
            "joins",
            format!(
                "SELECT 1 FROM accounts {}",
                many("JOIN accounts USING (id)", " ")
            ),
        ),
        (
            "parentheses",
            format!("SELECT {}1{}", "(".repeat(size / 2), ")".repeat(size / 2)),
        ),
        (
            "cases",
            format!(
                "SELECT CASE {} END FROM accounts",
                many("WHEN n = 1 THEN 2", " ")
            ),
        ),
        (
            "common tables",
            format!("WITH {} SELECT 1", many("a AS (SELECT 1)", ",")),
        ),
        (
            "windows",
            format!(
                "SELECT sum(n) OVER (ORDER BY {}) FROM accounts",
                many("n", ",")
            ),
        ),
        (
            "arguments",
            format!("SELECT coalesce({}) FROM accounts", many("n", ",")),
        ),
        (
            "array",
            format!("{from} WHERE id = ANY (ARRAY[{}])", many("1", ",")),
        ),
        (
            "copied columns",
            format!("COPY accounts ({}) FROM STDIN", many("n", ",")),
        ),
        (
            "casts",
            format!("SELECT n{} FROM accounts", many("::int", "")),
        ),
        (
            "parameters",
            format!("{from} WHERE id IN ({})", many("$1", ",")),
        ),
        (
            "explained",
            format!("EXPLAIN {from} WHERE {}", many("id > 1", " AND ")),
        ),
        (
            "prepared",
            format!("PREPARE p AS {from} WHERE {}", many("id > 1", " AND ")),
        ),
        ("executed", format!("EXECUTE p ({})", many("1", ","))),
        (
            "declared",
            format!(
                "DECLARE c CURSOR WITH HOLD FOR {from} ORDER BY {}",
                many("n", ",")
            ),
        ),
        (
            "copied",
            format!("COPY ({from} WHERE id IN ({})) TO STDOUT", many("7", ",")),
        ),
        (
            "made",
            format!("CREATE TABLE x AS {from} WHERE {}", many("id > 1", " OR ")),
        ),
        (
            "shown",
            format!("CREATE VIEW x AS {from} WHERE {}", many("id > 1", " AND ")),
        ),
        (
            "merged",
            format!(
                "MERGE INTO accounts USING (VALUES {}) v (a, b) ON id = a WHEN MATCHED THEN DELETE",
                many("(1,2)", ",")
            ),
        ),
        (
            "done",
            format!("DO $$ BEGIN {} END $$", many("PERFORM 1;", " ")),
        ),
        ("settings", format!("SET search_path TO {}", many("a", ","))),
        ("statements", many("SELECT 1;", " ")),
    ];
    let before = router.resident_bytes() >> 20;
    let victim = Victim::begin(&router, &database);
    let mut attacker = client(&router, "alice", &database);
    attacker.set_limit(Duration::from_secs(120));
    let mut told = Vec::new();
    for (name, sql) in &forms {
        let begun = Instant::now();
        let code = error(&attacker.query(sql)).unwrap_or_else(|| "ok".to_owned());
        told.push(format!(
            "{name} {code} {:.1} s, others {:.2}",
            begun.elapsed().as_secs_f64(),
            victim.so_far().as_secs_f64(),
        ));
    }
    let said = victim.end().was_spared(WAIT, before + 500);
    println!("     {}", told.join(", "));
    said.map(|said| format!("{} forms of {size} bytes; {said}", forms.len()))
}

/// Messages that are begun and not finished, more than there is memory for.
pub fn messages(stage: &mut Stage) -> Result<String, String> {
    let database = stage.database_with_accounts();
    let router = stage.router("", "[limits]\nmemory = \"512MiB\"\n");
    let victim = Victim::begin(&router, &database);
    let clients = stage.rng.random_range(3..6);
    let mut held: Vec<Wire> = Vec::new();
    for _ in 0..clients {
        let length: u32 = stage.rng.random_range(180_000_000..260_000_000);
        let kind = *[b'Q', b'P', b'B', b'd']
            .get(stage.rng.random_range(0..4))
            .unwrap();
        let mut wire = client(&router, "alice", &database);
        let mut sent = wire
            .try_send(&[&[kind][..], &length.to_be_bytes()].concat())
            .is_ok();
        let piece = vec![b'x'; 1_000_000];
        for _ in 0..length / 1_000_000 {
            sent = sent && wire.try_send(&piece).is_ok();
        }
        held.push(wire);
    }
    let said = victim.end().was_spared(WAIT, 512).inspect_err(|_| {
        let log = router.log();
        let memory = log.lines().filter(|line| line.contains("memory"));
        memory.for_each(|line| println!("     {line}"));
    })?;
    // Whoever comes now is let in.
    let mut late = client(&router, "bob", &database);
    match error(&late.query("SELECT n FROM accounts WHERE id = 1")) {
        None => Ok(format!("{clients} clients; {said}")),
        Some(code) => Err(format!("somebody else is told {code}")),
    }
}

/// One message is begun and goes on and on.
pub fn deadline(stage: &mut Stage) -> Result<String, String> {
    let database = stage.database_with_accounts();
    let router = stage.router("message_timeout = \"2s\"", "");
    let mut slow = client(&router, "alice", &database);
    slow.send(&[&[b'Q'][..], &1_000_000u32.to_be_bytes()].concat());
    let begun = Instant::now();
    let mut pieces = 0;
    let pause = Duration::from_millis(stage.rng.random_range(20..100));
    while begun.elapsed() < SOON && slow.try_send(b"x").is_ok() {
        pieces += 1;
        std::thread::sleep(pause);
    }
    let took = begun.elapsed();
    // What was read before is nobody's answer.
    match took < Duration::from_secs(10) && took > Duration::from_secs(1) {
        true => Ok(format!("{pieces} pieces in {took:?}")),
        false => Err(format!("{pieces} pieces went on for {took:?}")),
    }
}
