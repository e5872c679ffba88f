//! What holds for the session, or only so long as its transaction, where several shards take part: what clients are
//! told beside one PostgreSQL.

use super::stage::{Stage, one_each, say, segment, send};
use mothership_tests::message::{self, Format};
use mothership_tests::{Shards, Wire};

/// What a client sends up to an answer.
pub type Request = Vec<Vec<u8>>;

/// Requests one after the other on a router and on a plain PostgreSQL must be answered alike, and leave the same.
pub fn assert_alike(stage: &Stage, cases: &[&[Request]]) {
    let plain = Shards::new(1);
    plain.sql(
        0,
        "CREATE TABLE items (id int8 PRIMARY KEY, v int8, note text)",
    );
    for case in cases {
        let wires = [Wire::login(&plain.endpoint(0)), stage.wire()];
        let told = wires.map(|mut wire| -> Vec<Vec<String>> {
            case.iter().map(|one| send(&mut wire, one)).collect()
        });
        let sent: Vec<_> = case.iter().flatten().map(|m| m.escape_ascii()).collect();
        assert_eq!(
            told[1],
            told[0],
            "{}",
            sent.iter().map(|m| format!("{m}\n")).collect::<String>()
        );
        let stored = plain.sql(0, "SELECT id FROM items ORDER BY id");
        let stored: Vec<i64> = stored.lines().map(|id| id.parse().unwrap()).collect();
        assert_eq!(stage.ids("items"), stored);
        stage.assert_nothing_open();
        plain.sql(0, "TRUNCATE items");
        stage.shards.sql_all("TRUNCATE items");
    }
    stage.assert_nothing_prepared();
}

/// A simple query.
pub fn query(sql: &str) -> Request {
    vec![message::query(sql)]
}

/// Simple queries.
pub fn queries<const N: usize>(texts: [&str; N]) -> [Request; N] {
    texts.map(query)
}

/// A row for each of these keys.
pub fn insert(ids: &[i64]) -> String {
    let rows: Vec<String> = ids.iter().map(|id| format!("({id})")).collect();
    format!("INSERT INTO items (id) VALUES {}", rows.join(", "))
}

#[test]
fn notifications_go_ahead_of_ready() {
    let [a, b, c] = one_each();
    let (first, second, all) = (insert(&[a]), insert(&[b]), insert(&[a, b, c]));
    let text = format!("BEGIN; {first}; {second}; NOTIFY x; COMMIT; SELECT 7");
    let whole = format!("LISTEN x; {all}; NOTIFY x; SELECT 7");
    assert_alike(
        &Stage::new(),
        &[
            &queries([
                "LISTEN x",
                "BEGIN",
                &first,
                &second,
                "NOTIFY x, 'a'",
                "NOTIFY x, 'b'",
                "COMMIT",
                "SELECT 7",
            ]),
            &queries(["LISTEN x", &text]),
            &queries([&whole]),
            &queries([
                "LISTEN x", "BEGIN", &all, "NOTIFY x", "ROLLBACK", "SELECT 7",
            ]),
            &[
                query("LISTEN x"),
                segment(["BEGIN", &all, "NOTIFY x", "COMMIT"]),
                segment(["NOTIFY x", &all]),
            ],
        ],
    );
}

#[test]
fn statements_whose_close_was_skipped_are_known() {
    let stage = Stage::on_one_core_with("[pool]\nprepared_statements = 3\n");
    let texts = (0..10).map(|at| match at % 2 {
        0 => format!("SELECT {at}"),
        _ => format!("SELECT count(*) + {at} FROM items"),
    });
    let texts: Vec<String> = texts.collect();
    let parsed = texts
        .iter()
        .enumerate()
        .map(|(at, sql)| message::parse(&format!("s{at}"), sql, &[]));
    let parsed: Request = parsed.chain([message::sync()]).collect();
    let run = |at: usize| {
        let name = format!("s{}", at % 10);
        let bind = message::bind("", &name, Format::Text, &[], Format::Text);
        [bind, message::execute("", 0)].concat()
    };
    let fails = || segment(["SELECT 1 / 0"]).into_iter().take(3);
    let failing = (0..60).map(|turn| -> Request {
        let failed: Vec<_> = fails().take(if turn % 3 == 0 { 3 } else { 0 }).collect();
        let run = [
            vec![run(turn * 7)],
            failed,
            vec![run(turn * 7 + 2 + turn % 2)],
        ];
        run.concat().into_iter().chain([message::sync()]).collect()
    });
    let failing: Vec<Request> = [parsed.clone()].into_iter().chain(failing).collect();
    let block = (0..40).map(|turn| vec![run(turn * 3), run(turn * 7), message::sync()]);
    let block: Vec<Request> = [parsed, query("BEGIN")]
        .into_iter()
        .chain(block)
        .chain([query("COMMIT")])
        .collect();
    assert_alike(&stage, &[&failing, &block]);
}

#[test]
fn tables_are_locked_in_blocks_only() {
    let all = insert(&one_each());
    let lock = "LOCK TABLE items";
    let text = format!("{lock}; {all}");
    assert_alike(
        &Stage::new(),
        &[
            &queries([lock, "SELECT 7"]),
            &queries(["lock table items in share mode nowait"]),
            &queries([&text]),
            &queries(["SELECT 7; LOCK TABLE items; SELECT 8"]),
            &queries(["BEGIN", lock, "COMMIT"]),
            &queries(["BEGIN; LOCK TABLE items; COMMIT", lock]),
            &[segment([lock]), segment(["SELECT 7"])],
            &[segment(["SELECT 7", lock]), query("SELECT 8")],
            &[segment([&all, lock])],
            &[segment(["SELECT 7", "BEGIN", lock, "COMMIT"])],
        ],
    );
}

#[test]
fn a_text_is_read_by_the_encoding_in_which_it_came() {
    let stage = Stage::new();
    for (before, sql, is_done) in [
        (
            "",
            "SET client_encoding = latin1; SELECT count(*) FROM items WHERE note = 'ü'",
            false,
        ),
        (
            "",
            "BEGIN; SET LOCAL client_encoding = latin1; SELECT length('ü')",
            false,
        ),
        (
            "SET client_encoding = latin1",
            "RESET ALL; SELECT count(*) FROM items WHERE note = 'ü'",
            false,
        ),
        (
            "BEGIN; SET client_encoding = latin1",
            "ROLLBACK; SELECT count(*) FROM items WHERE note = 'ü'",
            false,
        ),
        (
            "BEGIN; SET LOCAL client_encoding = latin1",
            "COMMIT; SELECT count(*) FROM items WHERE note = 'ü'",
            false,
        ),
        (
            "BEGIN; SAVEPOINT s; SET client_encoding = latin1",
            "ROLLBACK TO s; SELECT count(*) FROM items WHERE note = 'ü'",
            false,
        ),
        (
            "",
            "SET client_encoding = latin1; SELECT count(*) FROM items WHERE note = 'u'",
            true,
        ),
        (
            "",
            "SELECT count(*) FROM items WHERE note = 'ü'; SET client_encoding = latin1",
            true,
        ),
        // What is in force already, as at the head of a dump.
        (
            "",
            "SET client_encoding = 'UTF-8'; SELECT count(*) FROM items WHERE note = 'ü'",
            true,
        ),
        (
            "SET client_encoding = latin1",
            "SET client_encoding = 'Latin1'; SELECT count(*) FROM items WHERE note = 'ü'",
            true,
        ),
    ] {
        let mut wire = stage.wire();
        if !before.is_empty() {
            say(&mut wire, before);
        }
        let said = say(&mut wire, sql);
        let refused = said.iter().any(|line| line.starts_with("Error 0A000"));
        assert_eq!(!refused, is_done, "{before}; {sql}: {said:?}");
    }
}

#[test]
fn locks_of_tables_wait_as_their_modes_say() {
    let stage = Stage::new();
    let lock = |table: &str, mode: &str| format!("LOCK TABLE {table} IN {mode} MODE");
    let empty = |table: &str| format!("TRUNCATE {table}");
    for (held, asked, waits) in [
        (
            lock("items", "ACCESS SHARE"),
            lock("items", "ACCESS SHARE"),
            false,
        ),
        (
            lock("items", "ROW EXCLUSIVE"),
            lock("items", "ROW EXCLUSIVE"),
            false,
        ),
        (lock("items", "SHARE"), lock("items", "SHARE"), false),
        (lock("items", "SHARE"), lock("items", "ROW EXCLUSIVE"), true),
        (lock("items", "EXCLUSIVE"), lock("items", "EXCLUSIVE"), true),
        (
            lock("items", "ACCESS EXCLUSIVE"),
            lock("items", "ACCESS SHARE"),
            true,
        ),
        (
            lock("items", "EXCLUSIVE"),
            lock("accounts", "EXCLUSIVE"),
            false,
        ),
        (
            lock("items", "EXCLUSIVE"),
            "UPDATE kinds SET name = name".to_owned(),
            false,
        ),
        (empty("items"), empty("items"), true),
        (empty("items"), empty("accounts"), false),
        (
            empty("items"),
            "UPDATE kinds SET name = name".to_owned(),
            false,
        ),
    ] {
        let (mut one, mut two) = (stage.wire(), stage.wire());
        say(&mut two, "SET lock_timeout = '300ms'");
        let first = say(&mut one, &format!("BEGIN; {held}"));
        assert!(first[1].starts_with("CommandComplete"), "{held}: {first:?}");
        let second = say(&mut two, &format!("BEGIN; {asked}"));
        let expected = match waits {
            true => "Error 55P03",
            false => "CommandComplete",
        };
        assert!(
            second[1].starts_with(expected),
            "{held}, {asked}: {second:?}"
        );
    }
    // Whoever is second waits for the first, on the shard that is asked first, and no two for each other.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut wire = stage.wire();
                for _ in 0..10 {
                    let text = "BEGIN; LOCK TABLE items IN EXCLUSIVE MODE; COMMIT";
                    let said = say(&mut wire, text);
                    assert_eq!(said[1], "CommandComplete LOCK TABLE", "{said:?}");
                }
            });
        }
    });
}

#[test]
fn portals_end_with_a_failure_and_with_their_savepoint() {
    let [a, b, c] = one_each();
    let bind = |portal: &str, sql: &str| -> Request {
        vec![
            message::parse("", sql, &[]),
            message::bind(portal, "", Format::Text, &[], Format::Text),
            message::flush(),
        ]
    };
    let bound = |portals: &[(&str, &str)]| -> Request {
        let binds = portals.iter().flat_map(|(portal, sql)| bind(portal, sql));
        binds.chain([message::sync()]).collect()
    };
    let execute = |portal: &str| vec![message::execute(portal, 1), message::sync()];
    let describe = |portal: &str| vec![message::describe_portal(portal), message::sync()];
    let insert_all = insert(&[a, b, c]);
    let on_one = |id: i64| format!("SELECT id FROM items WHERE id = {id}");
    let fails = format!("INSERT INTO items (id) VALUES ({b}), ({b})");
    let moved = format!("UPDATE items SET v = 1 WHERE id = {a}");
    let portals: &[(&str, &str)] = &[
        ("all", "SELECT count(*) FROM items"),
        ("rows", "SELECT id FROM items ORDER BY id"),
        ("one", &on_one(a)),
        ("two", &on_one(b)),
        ("write", &moved),
        ("writes", "UPDATE items SET v = 2"),
    ];
    let names = || portals.iter().map(|(name, _)| *name);
    let begun = [query("BEGIN"), query(&insert_all)];
    let failed = [bound(portals), query(&fails)];
    let failed: Vec<Request> = begun.iter().chain(&failed).cloned().collect();
    let described = names().map(describe);
    let executed = names().map(execute);
    let after: Vec<Request> = failed
        .iter()
        .cloned()
        .chain(described)
        .chain(executed)
        .collect();
    // A portal of before the savepoint is there still.
    let (before, within) = portals.split_at(2);
    let savepoints = |ends: &[&str]| -> Vec<Request> {
        let begun = begun.iter().cloned();
        let set = [
            bound(before),
            query("SAVEPOINT s"),
            query("SAVEPOINT t"),
            bound(within),
        ];
        let ends = ends.iter().map(|sql| query(sql));
        let left = ["rows", "all", "writes", "two", "write"].map(execute);
        let left = left
            .into_iter()
            .flat_map(|one| [one, query("ROLLBACK TO s")]);
        begun
            .chain(set)
            .chain(ends)
            .chain(left)
            .chain([query("ROLLBACK")])
            .collect()
    };
    assert_alike(
        &Stage::new(),
        &[
            &after,
            &savepoints(&["ROLLBACK TO t"]),
            &savepoints(&["ROLLBACK TO s"]),
            &savepoints(&["RELEASE t", "ROLLBACK TO s"]),
            &savepoints(&["RELEASE t", "SAVEPOINT u", "ROLLBACK TO u"]),
            &savepoints(&[&fails, "ROLLBACK TO t"]),
        ],
    );
}

#[test]
fn discard_all_leaves_nothing_on_several_kept_servers() {
    let stage = Stage::on_one_core_with("[pool]\nmax = 1\n");
    let [a, b, c] = one_each();
    let all = insert(&[a, b, c]);
    let hold = |name: &str, id: i64| {
        format!("DECLARE {name} CURSOR WITH HOLD FOR SELECT id FROM items WHERE id = {id}")
    };
    let (first, second) = (hold("h", a), hold("i", b));
    let named = vec![
        message::parse("named", "SELECT 7", &[]),
        message::bind("", "named", Format::Text, &[], Format::Text),
        message::execute("", 0),
        message::sync(),
    ];
    let again = named[1..].to_vec();
    let mut case = vec![
        query("LISTEN x"),
        query(&all),
        query(&first),
        query(&second),
    ];
    case.extend([
        named.clone(),
        query("PREPARE p AS SELECT 8"),
        query("EXECUTE p"),
    ]);
    case.push(query("DISCARD ALL"));
    case.extend([query("EXECUTE p"), again.clone()]);
    case.extend(queries(["FETCH h", "FETCH i", "CLOSE h", "CLOSE i"]));
    case.extend([
        named,
        query("PREPARE p AS SELECT 9"),
        query("EXECUTE p"),
        again,
    ]);
    case.extend(queries([&first, "FETCH h", "NOTIFY x", "CLOSE ALL"]));
    assert_alike(&stage, &[&case]);
    // It stays on none of its servers, so that others get them.
    let mut wire = stage.wire();
    for request in &case[..8] {
        send(&mut wire, request);
    }
    assert_eq!(
        send(&mut stage.wire(), &query("DELETE FROM items")),
        ["CommandComplete DELETE 3", "ReadyForQuery I"]
    );
}

#[test]
fn read_only_ends_with_its_savepoint() {
    let [a, b, c] = one_each();
    let (first, others, all) = (insert(&[a]), insert(&[b, c]), insert(&[a, b, c]));
    let show = "SHOW transaction_read_only";
    let local = "SHOW work_mem";
    let read_only = "SET TRANSACTION READ ONLY";
    let cases: Vec<Vec<Request>> = [
        vec!["SAVEPOINT s", read_only, "RELEASE s", show, &all],
        vec![&first, "SAVEPOINT s", read_only, "RELEASE s", &others, show],
        vec![
            &all,
            "SAVEPOINT s",
            read_only,
            show,
            "RELEASE s",
            &others,
            show,
        ],
        vec![&first, "SAVEPOINT s", read_only, "RELEASE s", &others],
        vec![
            "SAVEPOINT s",
            "SET transaction_read_only = on",
            "RELEASE s",
            &all,
        ],
        vec![
            "SAVEPOINT s",
            "SET LOCAL transaction_read_only = on",
            "RELEASE s",
            &all,
        ],
        vec![
            "SAVEPOINT s",
            "SET LOCAL work_mem = '1MB'",
            "RELEASE s",
            &first,
            local,
        ],
        vec![
            &first,
            "SAVEPOINT s",
            read_only,
            "SAVEPOINT t",
            "RELEASE t",
            &others,
        ],
        vec![
            "SAVEPOINT s",
            "SAVEPOINT t",
            read_only,
            "RELEASE t",
            &first,
            show,
        ],
        vec![read_only, "SAVEPOINT s", read_only, "RELEASE s", &all],
        vec!["SAVEPOINT s", "BEGIN READ ONLY", "RELEASE s", &all],
    ]
    .into_iter()
    .map(|texts| {
        let texts = ["BEGIN"].into_iter().chain(texts).chain(["COMMIT"]);
        texts.map(query).collect()
    })
    .collect();
    let cases: Vec<&[Request]> = cases.iter().map(Vec::as_slice).collect();
    assert_alike(&Stage::new(), &cases);
}

#[test]
fn errors_over_shards_have_the_clients_names_of_statements() {
    let ways = [
        "SELECT count(*) FROM items WHERE v > $1",
        "UPDATE items SET v = v WHERE v > $1",
        "SELECT id FROM items WHERE v > $1 ORDER BY id FOR UPDATE",
        "SELECT a.id FROM items a JOIN items b ON a.v = b.id WHERE a.v > $1",
    ];
    let cases = ways.map(|sql| {
        let bind = |values: &[Option<&[u8]>]| {
            message::bind("", "parsed", Format::Text, values, Format::Text)
        };
        vec![
            query(&format!("PREPARE named (int8) AS {sql}")),
            query("EXECUTE named (1, 2)"),
            query("EXECUTE named"),
            query("EXECUTE named ('x')"),
            query("BEGIN"),
            query("EXECUTE named (1, 2)"),
            query("ROLLBACK"),
            vec![message::parse("parsed", sql, &[]), message::sync()],
            vec![bind(&[Some(b"1"), Some(b"2")]), message::sync()],
            vec![bind(&[Some(b"x")]), message::sync()],
        ]
    });
    assert_alike(&Stage::new(), &cases.each_ref().map(|case| &case[..]));
}
