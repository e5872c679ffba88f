//! Statements over several shards that take the same locks: they never wait for each other where one PostgreSQL would
//! not, and what is undone for that leaves no trace.

use super::stage::{Stage, extended, lines, one_each, say, send};
use mothership_tests::{Wire, message, poll_until};
use std::time::Duration;

/// Nobody is ended as long as these tests run: what goes on was undone and runs again.
const NEVER: &str = "[transactions]\ndeadlock_timeout = \"1h\"\n";
const LONG: Duration = Duration::from_secs(30);

/// How many hold the lock of whoever writes reference tables, on a server.
const COPIES_HELD: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted \
    AND classid = 1836020840 AND objid = 1668247673 \
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Runs what `script` says in several clients at a time, each so often; the errors that they were told.
fn together(stage: &Stage, clients: usize, times: usize, script: &[&[Vec<u8>]]) -> Vec<String> {
    let run = |mut wire: Wire| {
        wire.set_limit(LONG);
        let mut told = Vec::new();
        for _ in 0..times {
            for messages in script {
                let answer = send(&mut wire, messages);
                told.extend(answer.into_iter().filter(|line| line.starts_with("Error")));
            }
        }
        told
    };
    let run = &run;
    std::thread::scope(|scope| {
        let wires: Vec<Wire> = (0..clients).map(|_| stage.wire()).collect();
        let running: Vec<_> = wires
            .into_iter()
            .map(|wire| scope.spawn(move || run(wire)))
            .collect();
        let told: Vec<Vec<String>> = running.into_iter().map(|one| one.join().unwrap()).collect();
        told.concat()
    })
}

#[test]
fn statements_that_take_the_same_locks_never_wait_for_each_other() {
    let stage = Stage::with(NEVER);
    stage.fill(1..=9);
    say(
        &mut stage.wire(),
        "INSERT INTO kinds VALUES (1, ''), (2, '')",
    );
    say(&mut stage.wire(), "UPDATE items SET v = 0");
    let upsert = "INSERT INTO items (id, v) VALUES (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1) \
        ON CONFLICT (id) DO UPDATE SET v = items.v + 1";
    let list = "UPDATE items SET v = v + 1 WHERE id IN (1, 2, 3, 4, 5, 6)";
    let (first, second) = (
        "UPDATE items SET v = v + 1 WHERE id IN (1, 2, 3)",
        "UPDATE items SET v = v + 1 WHERE id IN (4, 5, 6)",
    );
    let copies = "UPDATE kinds SET name = name || 'x' WHERE id = 1";
    let locked = "SELECT id FROM items WHERE id <= 6 ORDER BY id FOR UPDATE";
    let query = |sql: &str| vec![message::query(sql)];
    let bound = |sql: &str| extended(sql, &[], &[]);
    let scripts: Vec<Vec<Vec<Vec<u8>>>> = vec![
        vec![query(upsert)],
        vec![bound(upsert)],
        vec![query(list), bound(list)],
        vec![query(copies), bound(copies)],
        vec![query("BEGIN"), query(first), bound(second), query("COMMIT")],
        vec![
            query("BEGIN"),
            query(locked),
            query(upsert),
            query("COMMIT"),
        ],
        vec![
            query("BEGIN"),
            bound(locked),
            bound(copies),
            query("COMMIT"),
        ],
        vec![query(locked), bound(locked)],
    ];
    for script in &scripts {
        let script: Vec<&[Vec<u8>]> = script.iter().map(|messages| &messages[..]).collect();
        assert_eq!(together(&stage, 3, 4, &script), [""; 0], "{script:?}");
    }
    // Each of the six rows was counted by 12 of each: two upserts, two lists, two parts, an upsert behind its locks.
    let counted = "SELECT min(v), max(v) FROM items WHERE id <= 6";
    assert_eq!(stage.wire().rows(counted), [["72", "72"]]);
    let copies = stage.copies("kinds");
    assert_eq!(copies[0].len(), "1|".len() + 36);
    let duplicate: Vec<String> = (10..300).map(|id| format!("({id})")).collect();
    let duplicate = format!(
        "INSERT INTO items (id) VALUES (1), {}",
        duplicate.join(", ")
    );
    let told = together(&stage, 3, 3, &[&query(&duplicate)]);
    assert_eq!(told.len(), 9);
    assert!(told.iter().all(|line| line.contains("23505")), "{told:?}");
    assert_eq!(stage.ids("items").len(), 9);
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

/// A statement over two shards waits on the first for a transaction that then goes for its row on the second.
#[test]
fn what_is_undone_leaves_no_trace() {
    let stage = Stage::with(NEVER);
    let [x, y, _] = one_each();
    stage.fill([x, y]);
    stage.shards.sql_all(
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN RAISE NOTICE ''row %'', NEW.id; RETURN NEW; END'; \
         CREATE TRIGGER tell AFTER UPDATE ON items FOR EACH ROW \
         WHEN (NEW.note = 'both') EXECUTE FUNCTION tell()",
    );
    let all = "UPDATE items SET note = 'both', v = v + 1 RETURNING id";
    let sorted = "SELECT id FROM items ORDER BY id FOR UPDATE";
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let (mut holder, mut other) = (stage.wire(), stage.wire());
    let mut counted = 0;
    for block in [false, true] {
        for (sql, prepared) in [(all, false), (all, true), (sorted, false), (sorted, true)] {
            // What was learned of the table before is forgotten.
            let fresh = stage.another_router();
            let mut wire = stage.wire_of(&fresh);
            if block {
                say(&mut wire, "BEGIN");
                say(&mut wire, "SAVEPOINT own");
            }
            say(&mut holder, "BEGIN");
            say(
                &mut holder,
                &format!("UPDATE items SET v = v WHERE id = {x}"),
            );
            match prepared {
                true => wire.send_all(&extended(sql, &[], &[])),
                false => wire.send(&message::query(sql)),
            }
            let waiting = poll_until(LONG, || stage.shards.sql_all(waits).concat().contains('1'));
            assert!(waiting, "{sql}");
            let done = say(
                &mut holder,
                &format!("UPDATE items SET v = v WHERE id = {y}"),
            );
            let done = done.iter().any(|line| line == "CommandComplete UPDATE 1");
            assert!(done, "{sql} {block}");
            say(&mut holder, "COMMIT");
            let answer = lines(&wire.until_ready());
            let rows = answer.iter().filter(|line| line.starts_with("DataRow"));
            let notices = answer.iter().filter(|line| line.starts_with("Notice"));
            let of_triggers = if sql == all { 2 } else { 0 };
            assert_eq!(
                (rows.count(), notices.count()),
                (2, of_triggers),
                "{answer:?}"
            );
            assert!(
                !answer.iter().any(|line| line.starts_with("Error")),
                "{answer:?}"
            );
            let described = answer
                .iter()
                .filter(|line| line.starts_with("RowDescription"));
            assert_eq!(described.count(), usize::from(!prepared), "{answer:?}");
            if block {
                // The savepoint of the client stands, and what comes after it goes with it.
                say(&mut wire, "ROLLBACK TO own");
                let end = say(&mut wire, "COMMIT");
                assert_eq!(end[0], "CommandComplete COMMIT");
            } else if sql == all {
                counted += 1;
            }
            let values = format!("SELECT id, v FROM items ORDER BY id = {x} DESC");
            let found = other.rows(&values);
            let expected = [x, y].map(|id| [id.to_string(), (2 * id + counted).to_string()]);
            assert_eq!(found, expected, "{sql} {block}");
        }
    }
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

/// Whether somebody waits for a lock on the home shard, or any other.
fn somebody_waits(stage: &Stage) -> bool {
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    poll_until(LONG, || {
        stage
            .shards
            .sql_all(waits)
            .iter()
            .any(|count| count.trim() != "0")
    })
}

fn ask(wire: &mut Wire, sql: &str, prepared: bool) {
    match prepared {
        true => wire.send_all(&extended(sql, &[], &[])),
        false => wire.send(&message::query(sql)),
    }
}

fn heard(wire: &mut Wire, expected: &str) {
    let answer = lines(&wire.until_ready());
    assert!(answer.iter().any(|line| line == expected), "{answer:?}");
}

#[test]
fn who_locks_rows_of_a_reference_table_waits_as_its_writers_do() {
    let stage = Stage::with(NEVER);
    say(
        &mut stage.wire(),
        "INSERT INTO kinds VALUES (1, ''), (2, ''), (3, '')",
    );
    let update = |id: i64| format!("UPDATE kinds SET name = name || 'x' WHERE id = {id}");
    let (mut writer, mut reader) = (stage.wire(), stage.wire());
    for wire in [&mut writer, &mut reader] {
        wire.set_limit(LONG);
    }
    for prepared in [false, true] {
        say(&mut writer, "BEGIN");
        say(&mut writer, &update(3));
        say(&mut reader, "BEGIN");
        // Who does not want to wait is not made to.
        let at_once = "SELECT id FROM kinds WHERE id = 2 FOR UPDATE NOWAIT";
        ask(&mut reader, at_once, prepared);
        heard(&mut reader, "CommandComplete SELECT 1");
        say(&mut reader, "ROLLBACK");
        say(&mut reader, "BEGIN");
        let locked = "SELECT id FROM kinds WHERE id = 1 FOR UPDATE";
        ask(&mut reader, locked, prepared);
        assert!(somebody_waits(&stage));
        // With the row the reader would wait for the writer below, which waits for the row.
        ask(&mut writer, &update(1), prepared);
        heard(&mut writer, "CommandComplete UPDATE 1");
        say(&mut writer, "COMMIT");
        heard(&mut reader, "CommandComplete SELECT 1");
        ask(&mut reader, &update(2), prepared);
        heard(&mut reader, "CommandComplete UPDATE 1");
        assert_eq!(say(&mut reader, "COMMIT")[0], "CommandComplete COMMIT");
    }
    assert_eq!(stage.copies("kinds"), ["1|xx", "2|xx", "3|xx"]);
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

/// A server would find this cycle by itself, a second later; and what is undone takes the lock of writers again.
#[test]
fn a_writer_of_copies_that_was_undone_holds_their_lock_again() {
    let stage = Stage::with(NEVER);
    say(
        &mut stage.wire(),
        "INSERT INTO kinds VALUES (1, ''), (2, '')",
    );
    let update = |id: i64| format!("UPDATE kinds SET name = name || 'x' WHERE id = {id}");
    for prepared in [false, true] {
        let (mut writer, mut other) = (stage.wire(), stage.wire());
        for wire in [&mut writer, &mut other] {
            wire.set_limit(LONG);
        }
        say(&mut other, "BEGIN");
        say(&mut other, "SELECT id FROM kinds WHERE id = 1 FOR SHARE");
        say(&mut writer, "BEGIN");
        ask(&mut writer, &update(1), prepared);
        assert!(somebody_waits(&stage));
        ask(&mut other, &update(2), prepared);
        heard(&mut other, "CommandComplete UPDATE 1");
        say(&mut other, "COMMIT");
        heard(&mut writer, "CommandComplete UPDATE 1");
        let locks = stage.shards.sql_all(COPIES_HELD);
        assert!(locks.iter().all(|count| count.trim() == "1"), "{locks:?}");
        assert_eq!(say(&mut writer, "COMMIT")[0], "CommandComplete COMMIT");
    }
    assert_eq!(stage.copies("kinds"), ["1|xx", "2|xx"]);
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

/// The one of a cycle whose statement holds nothing that others wait for would be undone for nothing.
#[test]
fn who_holds_rows_by_an_earlier_statement_is_not_undone_for_them() {
    let stage = Stage::with(NEVER);
    let [x, y, z] = one_each();
    stage.fill([x, y, z]);
    let (mut first, mut second) = (stage.wire(), stage.wire());
    for wire in [&mut first, &mut second] {
        wire.set_limit(LONG);
    }
    for prepared in [false, true] {
        say(&mut first, "BEGIN");
        say(
            &mut first,
            &format!("UPDATE items SET v = v + 1 WHERE id = {x}"),
        );
        say(&mut second, "BEGIN");
        let all = format!("UPDATE items SET v = v + 1 WHERE id IN ({x}, {y}, {z})");
        ask(&mut second, &all, prepared);
        assert!(somebody_waits(&stage));
        let rest = format!("UPDATE items SET v = v + 1 WHERE id IN ({y}, {z})");
        ask(&mut first, &rest, prepared);
        heard(&mut first, "CommandComplete UPDATE 2");
        say(&mut first, "COMMIT");
        heard(&mut second, "CommandComplete UPDATE 3");
        assert_eq!(say(&mut second, "COMMIT")[0], "CommandComplete COMMIT");
    }
    let values = [x, y, z].map(|id| [id.to_string(), (2 * id + 4).to_string()]);
    let mut found = stage.wire().rows("SELECT id, v FROM items");
    found.sort();
    let mut values = values.to_vec();
    values.sort();
    assert_eq!(found, values);
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

/// A statement that locks rows on all shards, while another client takes the same rows one after the other.
struct Meeting<'m> {
    /// The other client's row, on one shard.
    first: &'m str,
    sql: &'m str,
    /// And its rows on the others.
    second: &'m str,
    /// How the answer to the statement ends.
    expected: &'m str,
}

impl Meeting<'_> {
    /// The statement waits for the first row and has the rows of the other shards by then. On one PostgreSQL it has not
    /// come to those, so nobody waits for it. Around it is what `block` says; the statement's answer.
    fn play(&self, stage: &Stage, prepared: bool, block: [&[&str]; 2]) -> Vec<String> {
        // What was learned of the table before is forgotten.
        let fresh = stage.another_router();
        let (mut wire, mut other) = (stage.wire_of(&fresh), stage.wire_of(&fresh));
        for wire in [&mut wire, &mut other] {
            wire.set_limit(LONG);
        }
        let Meeting { sql, expected, .. } = self;
        let well = |answer: Vec<String>| {
            let failed = answer.iter().any(|line| line.starts_with("Error"));
            assert!(!failed, "{sql}: {answer:?}");
        };
        well(say(&mut wire, "PREPARE p AS UPDATE items SET v = v + 10"));
        well(say(&mut other, "BEGIN"));
        well(say(&mut other, self.first));
        for sql in block[0] {
            well(say(&mut wire, sql));
        }
        ask(&mut wire, sql, prepared);
        assert!(somebody_waits(stage), "{sql}");
        well(say(&mut other, self.second));
        well(say(&mut other, "COMMIT"));
        let answer = lines(&wire.until_ready());
        let ends = answer.iter().any(|line| line.starts_with(expected));
        assert!(ends, "{sql}: {answer:?}");
        for sql in block[1] {
            well(say(&mut wire, sql));
        }
        answer
    }
}

#[test]
#[ignore = "long"]
fn whatever_locks_rows_of_several_shards_gives_way() {
    let stage = Stage::with(NEVER);
    let [x, y, z] = one_each();
    stage.fill([x, y, z]);
    say(&mut stage.wire(), "UPDATE items SET v = 0");
    let keys = format!("unnest(ARRAY[{x}, {y}, {z}]::int8[])");
    let conflict = "ON CONFLICT (id) DO UPDATE SET v = items.v + excluded.v";
    let upsert = format!("INSERT INTO items (id, v) SELECT g, 10 FROM {keys} g {conflict}");
    let returning = format!("{upsert} RETURNING id");
    let read = format!(
        "INSERT INTO items (id, v) SELECT i.id, 10 FROM items i JOIN (SELECT max(id) AS most FROM items) m \
         ON i.id <= m.most {conflict}"
    );
    let within = "WITH u AS (UPDATE items SET v = v + 10 RETURNING id, v) SELECT * FROM u";
    let explained = "EXPLAIN (ANALYZE, COSTS OFF) UPDATE items SET v = v + 10";
    let locked = "SELECT sum(v) FROM (SELECT v FROM items ORDER BY id FOR UPDATE) q";
    let cases = [
        (&*upsert, "CommandComplete INSERT 0 3", 10),
        (&*returning, "CommandComplete INSERT 0 3", 10),
        (&*read, "CommandComplete INSERT 0 3", 10),
        (within, "CommandComplete SELECT 3", 10),
        ("EXECUTE p", "CommandComplete UPDATE 3", 10),
        (explained, "CommandComplete EXPLAIN", 10),
        (locked, "CommandComplete SELECT 1", 0),
    ];
    let mut sum = 0;
    for (sql, expected, added) in cases {
        // What goes in the order of shards has come to none, or to all others, when it waits.
        let places = [[x, y, z], [z, y, x]];
        let ways = [false, true].map(|way| {
            // The client's savepoint stands, and what comes after it goes with it.
            let begin: &[&str] = &["BEGIN", "SAVEPOINT own"];
            let undone: &[&str] = &["ROLLBACK TO own", "COMMIT"];
            let none: &[&str] = &[];
            [
                (way, [none, none], added),
                (way, [begin, &["COMMIT"]], added),
                (way, [begin, undone], 0),
            ]
        });
        let ways = ways.as_flattened();
        for ([waits, one, other], (prepared, block, added)) in places
            .into_iter()
            .flat_map(|keys| ways.iter().map(move |way| (keys, *way)))
        {
            let meeting = Meeting {
                first: &format!("UPDATE items SET v = v + 1 WHERE id = {waits}"),
                sql,
                second: &format!("UPDATE items SET v = v + 1 WHERE id IN ({one}, {other})"),
                expected,
            };
            let answer = meeting.play(&stage, prepared, block);
            let rows = answer.iter().filter(|line| line.starts_with("DataRow"));
            match sql {
                sql if sql == returning => {
                    let rows: Vec<&String> = rows.collect();
                    let ids = [x, y, z].map(|id| id.to_string());
                    let in_order = rows.iter().zip(&ids).all(|(row, id)| row.contains(&**id));
                    assert!(rows.len() == 3 && in_order, "{answer:?}");
                }
                sql if sql == within => assert_eq!(rows.count(), 3, "{answer:?}"),
                sql if sql == locked => assert_eq!(rows.count(), 1, "{answer:?}"),
                _ => {}
            }
            sum += 1 + added;
            let found = stage.wire().rows("SELECT DISTINCT v FROM items");
            assert_eq!(found, [[sum.to_string()]], "{sql} {prepared} {block:?}");
        }
    }
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

/// Rows that are not there yet: who inserts the same waits to see what becomes of them.
#[test]
fn an_insert_of_a_query_in_a_block_gives_way() {
    let stage = Stage::with(NEVER);
    let [x, y, z] = one_each();
    let keys = format!("unnest(ARRAY[{x}, {y}, {z}]::int8[])");
    let insert = format!("INSERT INTO items (id, v) SELECT g, 10 FROM {keys} g");
    let skips = format!("{insert} ON CONFLICT DO NOTHING");
    for (sql, expected) in [
        (skips, "CommandComplete INSERT 0 0"),
        (insert, "Error 23505"),
    ] {
        for prepared in [false, true] {
            let meeting = Meeting {
                first: &format!("INSERT INTO items (id, v) VALUES ({z}, 1)"),
                sql: &sql,
                second: &format!("INSERT INTO items (id, v) VALUES ({y}, 1), ({x}, 1)"),
                expected,
            };
            meeting.play(&stage, prepared, [&["BEGIN"], &["ROLLBACK"]]);
            let found = stage.wire().rows("SELECT sum(v), count(*) FROM items");
            assert_eq!(found, [["3", "3"]]);
            say(&mut stage.wire(), "DELETE FROM items");
        }
    }
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

/// Without the lock a writer could see a transaction on one copy that is not there yet on another.
#[test]
fn whatever_writes_copies_holds_their_lock() {
    let stage = Stage::with(NEVER);
    say(&mut stage.wire(), "INSERT INTO kinds VALUES (1, '')");
    let mut wire = stage.wire();
    for sql in [
        "UPDATE kinds SET name = name || 'x'",
        "WITH u AS (UPDATE kinds SET name = name || 'x' RETURNING id) SELECT id FROM u",
        "EXPLAIN (ANALYZE, COSTS OFF) UPDATE kinds SET name = name || 'x'",
    ] {
        for prepared in [false, true] {
            say(&mut wire, "BEGIN");
            ask(&mut wire, sql, prepared);
            let answer = lines(&wire.until_ready());
            assert!(
                answer.iter().all(|line| !line.starts_with("Error")),
                "{answer:?}"
            );
            let locks = stage.shards.sql_all(COPIES_HELD);
            assert!(
                locks.iter().all(|count| count.trim() == "1"),
                "{sql}: {locks:?}"
            );
            assert_eq!(say(&mut wire, "COMMIT")[0], "CommandComplete COMMIT");
        }
    }
    assert_eq!(stage.copies("kinds"), ["1|xxxxxx"]);
    stage.assert_nothing_open();
}

#[test]
fn a_change_of_definitions_in_a_block_gives_way() {
    let stage = Stage::with(NEVER);
    let [x, y, z] = one_each();
    stage.fill([x, y, z]);
    let update = |id: i64| format!("UPDATE items SET v = v + 1 WHERE id = {id}");
    let (mut writer, mut other) = (stage.wire(), stage.wire());
    for wire in [&mut writer, &mut other] {
        wire.set_limit(LONG);
    }
    for (sql, done) in [
        ("CREATE INDEX made ON items (v)", "CREATE INDEX"),
        ("ALTER TABLE items ADD COLUMN made int", "ALTER TABLE"),
        ("LOCK TABLE items", "LOCK TABLE"),
    ] {
        // Whichever shard the writer holds first: it holds what the other waits for, and then goes where the other was.
        for (first, second) in [(y, x), (z, x), (z, y)] {
            for prepared in [false, true] {
                say(&mut writer, "BEGIN");
                say(&mut writer, &update(first));
                say(&mut other, "BEGIN");
                ask(&mut other, sql, prepared);
                assert!(somebody_waits(&stage));
                ask(&mut writer, &update(second), prepared);
                heard(&mut writer, "CommandComplete UPDATE 1");
                say(&mut writer, "COMMIT");
                heard(&mut other, &format!("CommandComplete {done}"));
                let read = say(&mut other, "SELECT count(*) FROM items");
                assert_eq!(read[1], "DataRow 3", "{sql}");
                assert_eq!(say(&mut other, "ROLLBACK")[0], "CommandComplete ROLLBACK");
            }
        }
    }
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}
