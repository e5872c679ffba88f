//! FOR UPDATE and the like over several shards: what is locked, how strongly, for how long, and what comes of rows that
//! another transaction changes meanwhile.

use super::stage::{LIMIT, Stage, extended, keys_of, lines, one, one_each, say, segment, send};
use mothership_tests::{Wire, message, poll_until};

fn stage() -> Stage {
    let stage = Stage::new();
    stage.fill(1..=12);
    stage
}

/// The first column of the rows, which the simple query gives without an error.
fn ids(wire: &mut Wire, sql: &str) -> Vec<i64> {
    let rows = wire.rows(sql);
    rows.iter().map(|row| row[0].parse().unwrap()).collect()
}

fn sorted(mut ids: Vec<i64>) -> Vec<i64> {
    ids.sort_unstable();
    ids
}

#[test]
fn rows_of_several_shards_are_locked_until_the_transaction_ends() {
    let stage = stage();
    let (mut holder, mut other) = (stage.wire(), stage.wire());
    say(&mut holder, "BEGIN");
    let sql = "SELECT id FROM items WHERE id <= 9 FOR UPDATE";
    assert_eq!(sorted(ids(&mut holder, sql)), Vec::from_iter(1..=9));
    let free = "SELECT id FROM items FOR UPDATE SKIP LOCKED";
    assert_eq!(sorted(ids(&mut other, free)), [10, 11, 12]);
    let in_order = "SELECT id FROM items ORDER BY v DESC FOR SHARE SKIP LOCKED";
    assert_eq!(ids(&mut other, in_order), [12, 11, 10]);
    for sql in [
        "SELECT id FROM items FOR UPDATE NOWAIT",
        "SELECT id FROM items ORDER BY id FOR KEY SHARE NOWAIT",
    ] {
        for answer in [
            say(&mut other, sql),
            send(&mut other, &extended(sql, &[], &[])),
        ] {
            let error = answer.iter().find(|line| line.starts_with("Error "));
            assert!(error.is_some_and(|e| e.contains("55P03")), "{answer:?}");
            assert!(
                !answer
                    .iter()
                    .any(|line| line.starts_with("CommandComplete"))
            );
        }
    }
    say(&mut holder, "COMMIT");
    assert_eq!(ids(&mut other, free).len(), 12);
    // Alone, it has let go of them at its end.
    assert_eq!(ids(&mut holder, free).len(), 12);
    stage.assert_nothing_open();
}

#[test]
fn a_lock_is_as_strong_as_it_was_written_where_rows_are_merged_too() {
    let stage = stage();
    let (mut holder, mut other) = (stage.wire(), stage.wire());
    for (held, let_by, kept) in [
        ("NO KEY UPDATE", "KEY SHARE", "SHARE"),
        ("KEY SHARE", "NO KEY UPDATE", "UPDATE"),
        ("SHARE", "KEY SHARE", "NO KEY UPDATE"),
    ] {
        for order in ["", " ORDER BY id"] {
            say(&mut holder, "BEGIN");
            let sql = format!("SELECT id FROM items{order} FOR {held} OF items");
            assert_eq!(ids(&mut holder, &sql).len(), 12);
            let ask = |strength| format!("SELECT id FROM items{order} FOR {strength} SKIP LOCKED");
            assert_eq!(ids(&mut other, &ask(let_by)).len(), 12, "{held} {let_by}");
            assert_eq!(ids(&mut other, &ask(kept)).len(), 0, "{held} {kept}");
            say(&mut holder, "ROLLBACK");
        }
    }
}

#[test]
fn of_joined_tables_those_are_locked_that_it_names() {
    let stage = stage();
    let (mut holder, mut other) = (stage.wire(), stage.wire());
    for id in one_each() {
        let sql = format!("INSERT INTO accounts VALUES ({id}, 1)");
        assert!(say(&mut other, &sql)[0].starts_with("CommandComplete"));
    }
    say(&mut holder, "BEGIN");
    let sql = "SELECT a.id FROM items i JOIN accounts a USING (id) FOR UPDATE OF a";
    assert_eq!(sorted(ids(&mut holder, sql)), sorted(one_each().to_vec()));
    let free = |table| format!("SELECT id FROM {table} FOR UPDATE SKIP LOCKED");
    assert_eq!(ids(&mut other, &free("accounts")), Vec::<i64>::new());
    assert_eq!(ids(&mut other, &free("items")).len(), 12);
    say(&mut holder, "COMMIT");
    // A row of a reference table lies on every shard: who locks one copy has not locked the others.
    let both = "SELECT i.id FROM items i JOIN kinds k ON i.v = k.id FOR UPDATE";
    let answer = say(&mut holder, both);
    assert!(answer[0].contains("0A000"), "{answer:?}");
    let ours = format!("{both} OF i");
    assert_eq!(say(&mut holder, &ours)[1], "CommandComplete SELECT 0");
}

#[test]
fn rows_are_locked_where_they_lie_though_another_server_sorts_them() {
    let stage = stage();
    let (mut holder, mut other) = (stage.wire(), stage.wire());
    // Shards could sort by none of these for the router.
    let by_record =
        "SELECT id, v FROM items WHERE id <= 9 ORDER BY ROW(-v, id) FOR NO KEY UPDATE OF items";
    let by_collation = "SELECT i.id FROM items AS i WHERE i.id <= 9 ORDER BY i.id::text COLLATE \"en-x-icu\" DESC FOR SHARE OF i NOWAIT";
    for sql in [by_record, by_collation] {
        say(&mut holder, "BEGIN");
        assert_eq!(ids(&mut holder, sql), [9, 8, 7, 6, 5, 4, 3, 2, 1]);
        let free = "SELECT id FROM items FOR UPDATE SKIP LOCKED";
        assert_eq!(sorted(ids(&mut other, free)), [10, 11, 12]);
        let weak = "SELECT id FROM items ORDER BY ROW(id) FOR KEY SHARE SKIP LOCKED";
        assert_eq!(ids(&mut other, weak), Vec::from_iter(1..=12));
        say(&mut holder, "COMMIT");
        assert_eq!(ids(&mut other, free).len(), 12);
    }
    // Nothing is locked for what could not be sorted or has no rows of its own.
    for (sql, code) in [
        (
            "SELECT id FROM items ORDER BY ROW(id) LIMIT 1 FOR UPDATE",
            "0A000",
        ),
        (
            "SELECT generate_series(1, v) FROM items ORDER BY ROW(1) FOR UPDATE",
            "0A000",
        ),
        (
            "SELECT v, count(*) FROM items GROUP BY v ORDER BY ROW(v) FOR UPDATE",
            "0A000",
        ),
        (
            "SELECT i.id FROM items i JOIN kinds k ON i.v = k.id ORDER BY ROW(i.id) FOR UPDATE OF i",
            "0A000",
        ),
        (
            "SELECT i.id FROM items i ORDER BY ROW(i.id) FOR UPDATE OF items",
            "42P01",
        ),
    ] {
        let answer = say(&mut holder, sql);
        assert!(answer[0].contains(code), "{sql}: {answer:?}");
    }
    stage.assert_nothing_open();
    stage.assert_nothing_prepared();
}

/// The answer to a statement that waits for what `change` has changed, until that commits.
fn after(stage: &Stage, change: &str, sql: &str) -> Vec<String> {
    let (mut changer, mut waiter) = (stage.wire(), stage.wire());
    say(&mut changer, "BEGIN");
    let changed = say(&mut changer, change);
    assert!(changed[0].starts_with("CommandComplete"), "{changed:?}");
    waiter.send(&message::query(sql));
    let waits = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let waiting = || stage.shards.sql_all(waits).iter().any(|n| n != "0");
    assert!(poll_until(LIMIT, waiting), "it does not wait");
    say(&mut changer, "COMMIT");
    lines(&waiter.until_ready())
}

#[test]
fn rows_that_another_transaction_changes_are_as_they_are_then_and_in_order_or_an_error() {
    let stage = stage();
    let sql = "SELECT v FROM items ORDER BY v FOR UPDATE";
    // The last one of its shard, so that it still is.
    let answer = after(&stage, "UPDATE items SET v = 25 WHERE id = 12", sql);
    assert_eq!(answer[12], "DataRow 25", "{answer:?}");
    assert_eq!(answer[13], "CommandComplete SELECT 12");
    // The first one becomes the last: PostgreSQL would let it stand where it was sorted.
    let first = keys_of(1, 2)[0];
    let change = format!("UPDATE items SET v = 100 WHERE id = {first}");
    let answer = after(&stage, &change, sql);
    let error = answer.iter().find(|line| line.starts_with("Error "));
    assert!(error.is_some_and(|e| e.contains("40001")), "{answer:?}");
    // It is no longer among them.
    let few = "SELECT v FROM items WHERE v < 50 ORDER BY v FOR UPDATE";
    let answer = after(&stage, "UPDATE items SET v = 60 WHERE id = 12", few);
    assert_eq!(answer.last().unwrap(), "ReadyForQuery I");
    assert_eq!(answer[answer.len() - 2], "CommandComplete SELECT 10");
    stage.assert_nothing_open();
    stage.assert_nothing_prepared();
}

#[test]
fn an_error_of_the_order_fails_the_transaction_and_nothing_stays_locked() {
    let stage = stage();
    let (mut changer, mut waiter, mut other) = (stage.wire(), stage.wire(), stage.wire());
    say(&mut changer, "BEGIN");
    let first = keys_of(1, 2)[0];
    say(
        &mut changer,
        &format!("UPDATE items SET v = 100 WHERE id = {first}"),
    );
    say(&mut waiter, "BEGIN");
    waiter.send(&message::query("SELECT v FROM items ORDER BY v FOR UPDATE"));
    let waits = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let waiting = || stage.shards.sql_all(waits).iter().any(|n| n != "0");
    assert!(poll_until(LIMIT, waiting), "it does not wait");
    say(&mut changer, "COMMIT");
    let answer = lines(&waiter.until_ready());
    assert_eq!(answer.last().unwrap(), "ReadyForQuery E", "{answer:?}");
    let refused = say(&mut waiter, "SELECT v FROM items");
    assert!(refused[0].contains("25P02"), "{refused:?}");
    say(&mut waiter, "ROLLBACK");
    let free = "SELECT id FROM items FOR UPDATE NOWAIT";
    assert_eq!(ids(&mut other, free).len(), 12);
}

/// PostgreSQL gives back at once what was locked behind the last savepoint, also to those who wait for it already.
#[test]
fn who_waits_goes_on_when_a_block_fails_behind_a_savepoint() {
    let stage = stage();
    let (mut holder, mut waiter) = (stage.wire(), stage.wire());
    let waits = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let waiting = || stage.shards.sql_all(waits).iter().any(|n| n != "0");
    for statements in [1, 2, 5] {
        say(&mut holder, "BEGIN");
        say(&mut holder, "SAVEPOINT s");
        for _ in 0..statements {
            say(&mut holder, "UPDATE items SET v = v + 1");
        }
        waiter.send(&message::query("UPDATE items SET v = v WHERE id = 1"));
        assert!(poll_until(LIMIT, waiting), "it does not wait");
        let failed = say(&mut holder, "UPDATE items SET v = 1 / (v - v)");
        assert!(failed[0].contains("22012"), "{failed:?}");
        let answer = lines(&waiter.until_ready());
        assert_eq!(answer[0], "CommandComplete UPDATE 1", "{statements}");
        say(&mut holder, "ROLLBACK TO s");
        say(&mut holder, "UPDATE items SET v = v + 0");
        let ended = say(&mut holder, "COMMIT");
        assert_eq!(ended[0], "CommandComplete COMMIT");
    }
}

/// The first column of the rows that a statement gives without an error in the extended protocol.
fn ids_extended(wire: &mut Wire, sql: &str, values: &[&str]) -> Vec<i64> {
    let answer = send(wire, &extended(sql, &[], values));
    let error = answer.iter().find(|line| line.starts_with("Error"));
    assert!(error.is_none(), "{sql}: {answer:?}");
    let rows = answer
        .iter()
        .filter_map(|line| line.strip_prefix("DataRow "));
    rows.map(|row| row.parse().unwrap()).collect()
}

#[test]
fn a_limit_locks_the_first_rows_of_all_and_no_others() {
    let stage = stage();
    let (mut holder, mut next, mut other) = (stage.wire(), stage.wire(), stage.wire());
    let free = "SELECT id FROM items FOR UPDATE SKIP LOCKED";
    let first = "SELECT id FROM items ORDER BY v LIMIT 3 FOR UPDATE SKIP LOCKED";
    for _ in 0..2 {
        say(&mut holder, "BEGIN");
        say(&mut next, "BEGIN");
        assert_eq!(ids(&mut holder, first), [1, 2, 3]);
        assert_eq!(sorted(ids(&mut other, free)), Vec::from_iter(4..=12));
        let two = "SELECT id FROM items ORDER BY v LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED";
        assert_eq!(ids_extended(&mut next, two, &["2"]), [4, 5]);
        assert_eq!(sorted(ids(&mut other, free)), Vec::from_iter(6..=12));
        // Its own locks are in nobody's way but others'.
        assert_eq!(ids(&mut next, first), [4, 5, 6]);
        // PostgreSQL locks what OFFSET leaves out.
        let later = "SELECT id FROM items WHERE v > 0 ORDER BY v DESC OFFSET 1 LIMIT 2 FOR UPDATE SKIP LOCKED";
        assert_eq!(ids(&mut holder, later), [11, 10]);
        assert_eq!(sorted(ids(&mut other, free)), [7, 8, 9]);
        let all = "SELECT id FROM items ORDER BY v FETCH FIRST 100 ROWS ONLY FOR SHARE SKIP LOCKED";
        assert_eq!(ids(&mut other, all), [7, 8, 9]);
        say(&mut holder, "ROLLBACK");
        say(&mut next, "COMMIT");
        assert_eq!(ids(&mut other, free).len(), 12);
    }
    stage.assert_nothing_open();
    stage.assert_nothing_prepared();
}

// As SQLAlchemy writes the parameters of a queue.
#[test]
fn a_limit_may_be_cast_to_an_integer() {
    let stage = stage();
    let (mut holder, mut other) = (stage.wire(), stage.wire());
    let queue =
        "SELECT id FROM items WHERE v > $1::int ORDER BY v LIMIT $2::int FOR UPDATE SKIP LOCKED";
    let later = "PREPARE later AS SELECT id FROM items WHERE v > $1 + 9 ORDER BY v LIMIT 9 FOR UPDATE SKIP LOCKED";
    let mut third = stage.wire();
    say(&mut third, later);
    say(&mut holder, "BEGIN");
    assert_eq!(ids_extended(&mut holder, queue, &["4", "3"]), [3, 4, 5]);
    assert_eq!(ids_extended(&mut other, queue, &["4", "3"]), [6, 7, 8]);
    for sql in [
        "SELECT id FROM items ORDER BY v LIMIT CAST($1 AS bigint) OFFSET $2::smallint FOR UPDATE SKIP LOCKED",
        "SELECT id FROM items ORDER BY v LIMIT $1::int8 OFFSET $2::integer FOR NO KEY UPDATE SKIP LOCKED",
    ] {
        assert_eq!(ids_extended(&mut other, sql, &["2", "1"]), [2, 6], "{sql}");
    }
    let literal = "SELECT id FROM items ORDER BY v LIMIT 2::int FOR UPDATE SKIP LOCKED";
    assert_eq!(ids(&mut other, literal), [1, 2]);
    for body in [
        queue,
        "SELECT id FROM items WHERE v > $1 ORDER BY v LIMIT $2 FOR UPDATE SKIP LOCKED",
    ] {
        say(&mut other, &format!("PREPARE queue (int, int) AS {body}"));
        assert_eq!(ids(&mut other, "EXECUTE queue (4, 2 + 2)"), [6, 7, 8, 9]);
        assert_eq!(ids(&mut other, "EXECUTE queue (4, 4)"), [6, 7, 8, 9]);
        assert_eq!(
            ids_extended(&mut other, "EXECUTE queue (4, 2)", &[]),
            [6, 7]
        );
        say(&mut other, "BEGIN");
        assert_eq!(ids(&mut other, "EXECUTE queue (4, 3)"), [6, 7, 8]);
        assert_eq!(ids(&mut third, "EXECUTE later (4)"), [9, 10, 11, 12]);
        say(&mut other, "ROLLBACK");
        say(&mut other, "DEALLOCATE queue");
    }
    let taken = "UPDATE items SET note = 'taken' WHERE id IN \
        (SELECT id FROM items ORDER BY v LIMIT $1::int FOR UPDATE SKIP LOCKED) RETURNING id";
    let taken = ids_extended(&mut other, taken, &["3"]);
    assert_eq!(sorted(taken), [1, 2, 6]);
    say(&mut holder, "ROLLBACK");
    stage.assert_nothing_open();
}

#[test]
fn a_limit_without_an_order_locks_so_many_rows() {
    let stage = stage();
    let (mut holder, mut other) = (stage.wire(), stage.wire());
    let free = "SELECT id FROM items FOR UPDATE SKIP LOCKED";
    for (limit, locked) in [("0", 0), ("1", 1), ("5", 5), ("9 OFFSET 2", 11), ("50", 12)] {
        for lock in ["", " NOWAIT", " SKIP LOCKED"] {
            let sql = format!("SELECT id FROM items LIMIT {limit} FOR UPDATE{lock}");
            say(&mut holder, "BEGIN");
            let simple = ids(&mut holder, &sql);
            assert_eq!(ids(&mut other, free).len(), 12 - locked, "{sql}");
            say(&mut holder, "ROLLBACK; BEGIN");
            assert_eq!(ids_extended(&mut holder, &sql, &[]).len(), simple.len());
            assert_eq!(ids(&mut other, free).len(), 12 - locked, "{sql}");
            say(&mut holder, "ROLLBACK");
        }
    }
    // In order, a row that is not wanted would be an error where somebody has it.
    let answer = say(
        &mut holder,
        "SELECT id FROM items ORDER BY v LIMIT 1 FOR UPDATE NOWAIT",
    );
    assert!(answer[0].contains("0A000"), "{answer:?}");
    // A thousand rows are chosen one by one, and no more.
    let answer = say(
        &mut holder,
        "SELECT id FROM items ORDER BY v LIMIT 1001 FOR UPDATE",
    );
    assert!(answer[0].contains("0A000"), "{answer:?}");
    stage.assert_nothing_open();
}

#[test]
fn a_limited_lock_leaves_savepoints_portals_and_errors_as_they_are() {
    let stage = stage();
    let (mut holder, mut other) = (stage.wire(), stage.wire());
    let free = "SELECT id FROM items FOR UPDATE SKIP LOCKED";
    let first = "SELECT id FROM items ORDER BY v LIMIT 2 FOR UPDATE";
    say(&mut holder, "BEGIN");
    say(&mut holder, "SAVEPOINT a");
    assert_eq!(ids(&mut holder, first), [1, 2]);
    assert_eq!(ids(&mut other, free).len(), 10);
    say(&mut holder, "ROLLBACK TO a");
    assert_eq!(ids(&mut other, free).len(), 12);
    // A portal that is fetched in parts has locked all of its rows by the first.
    let answer = send(
        &mut holder,
        &[
            message::parse("", first, &[]),
            message::bind_text(&[]),
            message::execute("", 1),
            message::execute("", 5),
            message::sync(),
        ],
    );
    let shown = ["DataRow 1", "PortalSuspended", "DataRow 2"];
    assert_eq!(answer[2..5], shown, "{answer:?}");
    assert_eq!(answer[5], "CommandComplete SELECT 1");
    assert_eq!(ids(&mut other, free).len(), 10);
    // An error of one row.
    let broken = "SELECT 1 / (v - v) FROM items ORDER BY v LIMIT 2 FOR UPDATE";
    let answer = say(&mut holder, broken);
    assert!(
        answer.iter().any(|line| line.contains("22012")),
        "{answer:?}"
    );
    assert_eq!(answer.last().unwrap(), "ReadyForQuery E");
    say(&mut holder, "ROLLBACK TO a");
    assert_eq!(ids(&mut holder, first), [1, 2]);
    say(&mut holder, "COMMIT");
    // Without a block its locks end with it.
    assert_eq!(ids(&mut holder, first), [1, 2]);
    assert_eq!(ids_extended(&mut holder, first, &[]), [1, 2]);
    assert_eq!(ids(&mut other, free).len(), 12);
    stage.assert_nothing_open();
    stage.assert_nothing_prepared();
}

#[test]
fn a_query_inside_of_a_write_locks_the_first_rows_of_all() {
    let stage = stage();
    let (mut holder, mut worker, mut other) = (stage.wire(), stage.wire(), stage.wire());
    let free = "SELECT id FROM items FOR UPDATE SKIP LOCKED";
    let first = "SELECT id FROM items WHERE v > 0 AND now() > '2020-01-01' ORDER BY v LIMIT 2 \
                 FOR UPDATE SKIP LOCKED";
    let writes = [
        format!("UPDATE items SET v = v WHERE id IN ({first}) RETURNING id"),
        format!("UPDATE items i SET v = v FROM ({first}) q WHERE q.id = i.id RETURNING i.id"),
        format!(
            "WITH n AS ({first}) UPDATE items i SET v = v FROM n WHERE n.id = i.id RETURNING i.id"
        ),
        format!("DELETE FROM items WHERE id = ANY (ARRAY({first})) RETURNING id"),
        format!(
            "WITH n AS ({first}) DELETE FROM items USING n WHERE n.id = items.id RETURNING items.id"
        ),
    ];
    for write in &writes {
        for held in ["0", "1", "2"] {
            say(&mut holder, "BEGIN");
            ids(
                &mut holder,
                &format!("SELECT id FROM items WHERE id = {held} FOR UPDATE"),
            );
            let wanted = match held {
                "0" => [1, 2],
                "1" => [2, 3],
                _ => [1, 3],
            };
            let all: Vec<i64> = (1..=12).filter(|id| held != id.to_string()).collect();
            let left: Vec<i64> = all.into_iter().filter(|id| !wanted.contains(id)).collect();
            say(&mut worker, "BEGIN");
            assert_eq!(sorted(ids(&mut worker, write)), wanted, "{write}");
            assert_eq!(sorted(ids(&mut other, free)), left, "{write}");
            say(&mut worker, "ROLLBACK; BEGIN");
            assert_eq!(
                sorted(ids_extended(&mut worker, write, &[])),
                wanted,
                "{write}"
            );
            assert_eq!(sorted(ids(&mut other, free)), left, "{write}");
            say(&mut worker, "ROLLBACK");
            say(&mut holder, "ROLLBACK");
        }
    }
    // Explained, nothing is locked; ANALYZE would lock more than the statement does.
    for sql in [first, &writes[0], &writes[2]] {
        say(&mut worker, "BEGIN");
        let explained = say(&mut worker, &format!("EXPLAIN {sql}"));
        assert!(explained[0].starts_with("RowDescription"), "{explained:?}");
        assert_eq!(ids(&mut other, free).len(), 12, "{sql}");
        let refused = say(&mut worker, &format!("EXPLAIN ANALYZE {sql}"));
        assert!(refused[0].contains("0A000"), "{sql}: {refused:?}");
        say(&mut worker, "ROLLBACK");
    }
    // What a query reads of one inside of it.
    let counted = "SELECT count(*) FROM (SELECT id FROM items WHERE v > 0 FOR UPDATE) q";
    let few = "SELECT q.id FROM (SELECT id, v FROM items ORDER BY v DESC LIMIT 3 FOR UPDATE) q ORDER BY 1";
    for (sql, rows, left) in [(counted, vec![12], 0), (few, vec![10, 11, 12], 9)] {
        say(&mut worker, "BEGIN");
        assert_eq!(ids(&mut worker, sql), rows);
        assert_eq!(ids(&mut other, free).len(), left, "{sql}");
        say(&mut worker, "ROLLBACK; BEGIN");
        assert_eq!(ids_extended(&mut worker, sql, &[]), rows);
        assert_eq!(ids(&mut other, free).len(), left, "{sql}");
        say(&mut worker, "ROLLBACK");
        // Alone, it is all of its transaction.
        assert_eq!(ids(&mut worker, sql), rows);
        assert_eq!(ids_extended(&mut worker, sql, &[]), rows);
        assert_eq!(ids(&mut other, free).len(), 12);
    }
    stage.assert_nothing_open();
    stage.assert_nothing_prepared();
}

#[test]
fn workers_of_a_queue_over_shards_take_each_job_once() {
    let stage = stage();
    let worker = &|seed: usize| {
        let mut wire = stage.wire();
        let mut taken = Vec::new();
        let next = "SELECT id FROM items ORDER BY v LIMIT 1 FOR UPDATE SKIP LOCKED";
        let at_once = format!("DELETE FROM items WHERE id IN ({next}) RETURNING id");
        let empty = "SELECT count(*) FROM items";
        while wire.rows(empty)[0][0] != "0" {
            if seed > 1 {
                taken.extend(ids(&mut wire, &at_once));
                continue;
            }
            say(&mut wire, "BEGIN");
            let job = match seed {
                0 => ids(&mut wire, next),
                _ => ids_extended(&mut wire, next, &[]),
            };
            for id in &job {
                let done = say(&mut wire, &format!("DELETE FROM items WHERE id = {id}"));
                assert_eq!(done[0], "CommandComplete DELETE 1");
            }
            let committed = say(&mut wire, "COMMIT");
            assert_eq!(committed[0], "CommandComplete COMMIT", "{committed:?}");
            taken.extend(job);
        }
        taken
    };
    let taken = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|n| scope.spawn(move || worker(n))).collect();
        let taken = workers.into_iter().map(|worker| worker.join().unwrap());
        taken.flatten().collect()
    });
    assert_eq!(sorted(taken), Vec::from_iter(1..=12));
    stage.assert_nothing_open();
    stage.assert_nothing_prepared();
}

#[test]
fn a_limited_lock_is_part_of_its_pipeline_and_ends_with_its_timeout() {
    let stage = stage();
    let (mut holder, mut worker, mut other) = (stage.wire(), stage.wire(), stage.wire());
    let free = "SELECT id FROM items FOR UPDATE SKIP LOCKED";
    let first = "SELECT id FROM items ORDER BY v LIMIT 2 FOR UPDATE";
    let last =
        "SELECT v FROM items WHERE id IN (SELECT id FROM items ORDER BY v DESC LIMIT 1 FOR UPDATE)";
    let row = |wire: &mut Wire, id: i64| {
        let sql = format!("SELECT v FROM items WHERE id = {id}");
        wire.rows(&sql)[0][0].clone()
    };
    let v = row(&mut other, 12);
    for begun in [false, true] {
        let mut statements = vec!["UPDATE items SET v = v WHERE id = 3", first, last, first];
        if begun {
            statements.insert(0, "BEGIN");
        }
        let said = send(&mut worker, &segment(statements));
        let rows: Vec<&str> = said
            .iter()
            .filter_map(|l| l.strip_prefix("DataRow "))
            .collect();
        assert_eq!(rows, ["1", "2", &v, "1", "2"], "{said:?}");
        assert!(
            !said.iter().any(|line| line.starts_with("Error")),
            "{said:?}"
        );
        if begun {
            assert_eq!(sorted(ids(&mut other, free)), Vec::from_iter(4..=11));
            say(&mut worker, "COMMIT");
        }
        assert_eq!(ids(&mut other, free).len(), 12);
    }
    say(&mut holder, "BEGIN");
    ids(&mut holder, "SELECT id FROM items WHERE id = 1 FOR UPDATE");
    say(&mut worker, "SET lock_timeout = '40ms'");
    for sql in [first, last, &last.replace(" DESC", "")] {
        for block in [false, true] {
            for protocol in 0..2 {
                if block {
                    say(&mut worker, "BEGIN");
                }
                let said = match protocol {
                    0 => say(&mut worker, sql),
                    _ => send(&mut worker, &extended(sql, &[], &[])),
                };
                let failed = said.iter().any(|line| line.contains("55P03"));
                // The last row is on a shard of its own or not; the first is locked.
                assert_eq!(failed, !sql.contains("DESC"), "{sql}: {said:?}");
                if block {
                    let state = if failed { "E" } else { "T" };
                    assert_eq!(said.last().unwrap(), &format!("ReadyForQuery {state}"));
                    say(&mut worker, "ROLLBACK");
                }
                assert_eq!(ids(&mut other, free).len(), 11, "{sql}");
            }
        }
    }
    say(&mut holder, "ROLLBACK");
    assert_eq!(ids(&mut worker, first), [1, 2]);
    stage.assert_nothing_open();
    stage.assert_nothing_prepared();
}

#[test]
fn an_error_in_a_block_gives_its_locks_back_on_all_shards() {
    let stage = stage();
    let mut other = stage.wire();
    let mut is_free = |id: i64| {
        let sql = format!("SELECT id FROM items WHERE id = {id} FOR UPDATE SKIP LOCKED");
        ids(&mut other, &sql) == [id]
    };
    // Rows of all shards, and one of each kind of error: a server's, the parser's, the router's.
    for error in [
        "SELECT 1 / 0",
        "selec 1",
        "UPDATE items SET id = 99 WHERE id = 1",
    ] {
        let mut wire = stage.wire();
        wire.query("BEGIN");
        wire.query("UPDATE items SET v = v WHERE id = 1");
        wire.query("UPDATE items SET v = v WHERE id IN (2, 3, 4, 5, 6)");
        assert!(!is_free(1) && !is_free(2), "{error}");
        let failed = wire.query(error);
        assert!(failed.iter().any(|frame| frame.kind == b'E'), "{error}");
        let free = poll_until(LIMIT, || (1..=6).all(&mut is_free));
        assert!(free, "{error}: rows are locked");
        let refused = wire.query("SELECT id FROM items WHERE id = 1");
        assert!(refused[0].to_string().contains("25P02"), "{refused:?}");
        assert_eq!(
            wire.query("COMMIT")[0].to_string(),
            "CommandComplete ROLLBACK"
        );
        assert_eq!(ids(&mut wire, "SELECT id FROM items WHERE id = 1"), [1]);
    }
    // What was locked before a savepoint stays locked, on a shard that has heard of it and on one that has not.
    let mut wire = stage.wire();
    wire.query("BEGIN");
    wire.query("UPDATE items SET v = v WHERE id IN (1, 2, 3)");
    wire.query("SAVEPOINT s");
    wire.query("UPDATE items SET v = v WHERE id = 4");
    wire.query("UPDATE items SET v = v WHERE id = 5");
    wire.query("SELECT 1 / 0");
    let free = poll_until(LIMIT, || is_free(4) && is_free(5));
    assert!(free, "rows that were locked since the savepoint are locked");
    assert!(!is_free(1) && !is_free(2) && !is_free(3));
    wire.query("ROLLBACK TO s");
    assert_eq!(
        ids(
            &mut wire,
            "SELECT id FROM items WHERE id IN (1, 4, 5) ORDER BY id"
        ),
        [1, 4, 5]
    );
    assert!(!is_free(1) && !is_free(2) && !is_free(3));
    wire.query("UPDATE items SET v = '7' WHERE id = 5");
    assert_eq!(
        wire.query("COMMIT")[0].to_string(),
        "CommandComplete COMMIT"
    );
    assert_eq!(wire.rows("SELECT v FROM items WHERE id = 5"), [["7"]]);
}

// A stranger found it: what was committed while LOCK TABLE waited was not seen behind it.
#[test]
fn a_table_is_not_locked_behind_the_snapshots_of_its_shards() {
    let stage = Stage::new();
    stage.fill(1..=6);
    let (mut first, mut other) = (stage.wire(), stage.wire());
    let database = one(&mut other, "SELECT current_database()");
    let alter = format!("ALTER DATABASE {database} SET default_transaction_isolation");
    let told = say(&mut other, &format!("{alter} TO 'repeatable read'"));
    assert!(told[0].starts_with("CommandComplete"), "{told:?}");
    let mut by_default = stage.wire();
    say(&mut other, &format!("{alter} TO DEFAULT"));
    let mut by_session = stage.wire();
    say(
        &mut by_session,
        "SET default_transaction_isolation TO 'repeatable read'",
    );
    for (wire, begin) in [
        (&mut first, "BEGIN ISOLATION LEVEL REPEATABLE READ"),
        (&mut by_default, "BEGIN"),
        (&mut by_session, "BEGIN"),
    ] {
        say(wire, begin);
        let refused = say(wire, "LOCK TABLE items IN EXCLUSIVE MODE");
        assert!(refused[0].starts_with("Error 0A000"), "{refused:?}");
        say(wire, "ROLLBACK");
    }
    // With a snapshot that is there already PostgreSQL shows the old state as well.
    say(&mut first, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    let before = one(&mut first, "SELECT sum(v) FROM items");
    say(&mut other, "UPDATE items SET v = v + 1");
    let locked = say(&mut first, "LOCK TABLE items IN EXCLUSIVE MODE");
    assert_eq!(locked[0], "CommandComplete LOCK TABLE");
    assert_eq!(one(&mut first, "SELECT sum(v) FROM items"), before);
    say(&mut first, "ROLLBACK");
    // As pg_dump does: it reads catalogs, then locks, then reads rows.
    say(
        &mut first,
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    );
    say(&mut first, "SELECT set_config('search_path', '', false)");
    let locked = say(&mut first, "LOCK TABLE public.items IN ACCESS SHARE MODE");
    assert!(locked[0].starts_with("Error 0A000"), "{locked:?}");
    say(&mut first, "ROLLBACK");
    say(
        &mut first,
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    );
    say(&mut first, "SELECT count(*) FROM pg_class");
    let locked = say(&mut first, "LOCK TABLE items IN ACCESS SHARE MODE");
    assert_eq!(locked[0], "CommandComplete LOCK TABLE");
    let before = one(&mut first, "SELECT sum(v) FROM items");
    say(&mut other, "UPDATE items SET v = v + 1");
    assert_eq!(one(&mut first, "SELECT sum(v) FROM items"), before);
    say(&mut first, "ROLLBACK");
    say(&mut first, "BEGIN");
    say(&mut first, "LOCK TABLE items IN EXCLUSIVE MODE");
    assert_ne!(one(&mut first, "SELECT sum(v) FROM items"), before);
}
