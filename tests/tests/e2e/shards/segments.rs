//! A segment that the router has whole goes to its server in one piece; one that comes with anything else is served
//! message by message. Clients see the same.

use super::stage::{LIMIT, Stage, extended, keys_of, lines, one_each, plain, say};
use mothership_tests::message::{self, Format};
use mothership_tests::{Wire, poll_until};

/// How a segment is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sent {
    /// In one piece, and alone.
    Whole,
    /// Behind a message that does nothing, so that it is nothing special.
    Led,
    /// Each byte in a packet.
    Slowly,
}

/// The answer to a segment, without that to what leads it.
fn answer(wire: &mut Wire, messages: &[Vec<u8>], sent: Sent) -> Vec<String> {
    let bytes = messages.concat();
    let leader = message::close_portal("nothing");
    match sent {
        Sent::Whole => wire.send(&bytes),
        Sent::Led => wire.send(&[leader, bytes].concat()),
        Sent::Slowly => wire.send_slowly(&bytes),
    }
    let mut answer = lines(&wire.until_ready());
    if sent == Sent::Led {
        assert_eq!(answer.remove(0), "CloseComplete", "{answer:?}");
    }
    answer
}

/// The same with a Describe of the portal.
fn described(sql: &str, types: &[u32], values: &[&str]) -> Vec<Vec<u8>> {
    let mut messages = extended(sql, types, values);
    messages.insert(2, message::describe_portal(""));
    messages
}

/// Each statement of a conversation, as one segment.
fn conversation() -> Vec<Vec<Vec<u8>>> {
    const INT8: u32 = 20;
    let [a, b, c] = one_each();
    let [first, second] = [keys_of(1, 9)[7], keys_of(1, 9)[8]];
    let by_key = "SELECT id, v, note FROM items WHERE id = $1";
    let mut all = Vec::new();
    for key in [a, b, c] {
        let add = "INSERT INTO items (id, v, note) VALUES ($1, $2, 'new') RETURNING v";
        all.push(described(add, &[INT8, INT8], &[&key.to_string(), "7"]));
        all.push(extended(by_key, &[], &[&key.to_string()]));
        all.push(described(by_key, &[INT8], &[&key.to_string()]));
        // It is there already.
        all.push(described(add, &[INT8, INT8], &[&key.to_string(), "8"]));
    }
    let a = a.to_string();
    let bind =
        |values: &[Option<&[u8]>], format| message::bind("", "", format, values, Format::Text);
    let run = |bind: Vec<u8>, rows| vec![bind, message::execute("", rows), message::sync()];
    // The unnamed statement stays after its segment.
    all.push(run(bind(&[Some(a.as_bytes())], Format::Text), 0));
    all.push(run(bind(&[None], Format::Text), 0));
    all.push(run(
        bind(&[Some(&[0, 0, 0, 0, 0, 0, 0, 1])], Format::Binary),
        0,
    ));
    all.push(run(bind(&[Some(b"x")], Format::Text), 0));
    all.push(run(bind(&[], Format::Text), 0));
    for sql in [
        "UPDATE items SET v = v + 1 WHERE id = $1",
        "DELETE FROM items WHERE id = $1 AND v < 0",
        "SELECT 1 / (id - id) FROM items WHERE id = $1",
        "SELECT nothing FROM items WHERE id = $1",
        "SELECT $1 FROM nowhere",
        "SELEC $1",
        "SELECT set_config('app.x', $1, false)",
        "SELECT id FROM items WHERE v = $1 ORDER BY id LIMIT 1 OFFSET 2",
    ] {
        all.push(described(sql, &[], &[&a]));
    }
    for sql in [
        "SELECT count(*) FROM items",
        "SELECT 1",
        "",
        "SET application_name = 'segments'",
        "SHOW application_name",
        "BEGIN",
        "SELECT v FROM items WHERE v > 0",
        "INSERT INTO kinds VALUES (1, 'one')",
        "SAVEPOINT s",
        "ROLLBACK TO s",
        "COMMIT",
        "SELECT name FROM kinds",
        "SELECT 1; SELECT 2",
        "PREPARE p AS SELECT 1",
        "EXPLAIN (ROUTE) SELECT v FROM items WHERE id = 1",
        "SELECT count(pg_advisory_lock(1))",
        "SELECT pg_advisory_unlock(1)",
        "DISCARD ALL",
    ] {
        all.push(described(sql, &[], &[]));
    }
    // A row limit, and a named statement.
    let two = format!("SELECT id FROM items WHERE id IN ({first}, {second})");
    let fill = format!("INSERT INTO items (id) VALUES ({first}), ({second})");
    all.push(described(&fill, &[], &[]));
    let mut limited = described(&two, &[], &[]);
    limited[3] = message::execute("", 1);
    all.push(limited);
    all.push(vec![message::parse("n", by_key, &[]), message::sync()]);
    let named = |value: &str| {
        let values = [Some(value.as_bytes())];
        let bind = message::bind("", "n", Format::Text, &values, Format::Text);
        let mut messages = run(bind, 0);
        messages.insert(1, message::describe_portal(""));
        messages
    };
    all.push(named(&a));
    all.push(named(&second.to_string()));
    all.push(named("y"));
    all.push(vec![message::close_statement("n"), message::sync()]);
    all.push(named(&a));
    all
}

#[test]
fn a_segment_in_one_piece_is_answered_as_one_in_pieces() {
    let stages = [Sent::Whole, Sent::Led, Sent::Slowly].map(|sent| (sent, Stage::new()));
    let mut wires: Vec<_> = stages.iter().map(|(_, stage)| stage.wire()).collect();
    for (at, messages) in conversation().iter().enumerate() {
        let mut answers = stages.iter().zip(&mut wires).map(|((sent, _), wire)| {
            let answer = answer(wire, messages, *sent);
            (*sent, answer)
        });
        let (_, whole) = answers.next().expect("it comes first");
        for (sent, other) in answers {
            assert_eq!(whole, other, "segment {at}, {sent:?}");
        }
    }
    let [(_, whole), others @ ..] = &stages;
    for (_, stage) in others {
        assert_eq!(whole.rows("items"), stage.rows("items"));
        assert_eq!(whole.copies("kinds"), stage.copies("kinds"));
    }
    for (_, stage) in &stages {
        stage.assert_nothing_prepared();
        stage.assert_nothing_open();
    }
}

#[test]
fn segments_one_behind_the_other_are_answered_in_order() {
    let stage = Stage::new();
    stage.fill(1..=50);
    let mut wire = stage.wire();
    let ask = |id: i64| extended("SELECT v FROM items WHERE id = $1", &[], &[&id.to_string()]);
    let all: Vec<_> = (1..=50).flat_map(ask).collect();
    wire.send_all(&all);
    for id in 1..=50 {
        let row = format!("DataRow {}", id * 2);
        let answer = lines(&wire.until_ready());
        assert_eq!(
            answer[2..],
            [&row, "CommandComplete SELECT 1", "ReadyForQuery I"],
            "{id}: {answer:?}"
        );
    }
}

#[test]
fn a_segment_that_gets_no_server_fails_and_the_next_one_does_not() {
    let stage = Stage::new();
    let [a, _, c] = one_each();
    let database = stage.shards.endpoint(2).database;
    let allow = |yes: bool| {
        let sql = format!("ALTER DATABASE \"{database}\" ALLOW_CONNECTIONS {yes}");
        stage.shards.sql(0, &sql);
    };
    let mut wire = stage.wire();
    // The catalog is known, and need not be asked for.
    assert_eq!(say(&mut wire, "SELECT count(*) FROM items")[1], "DataRow 0");
    allow(false);
    let gone = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{database}'"
    );
    assert!(poll_until(LIMIT, || stage.shards.sql(0, &gone) == "0"));
    let read = |id: i64| described("SELECT v FROM items WHERE id = $1", &[], &[&id.to_string()]);
    for sent in [Sent::Whole, Sent::Led] {
        let refused = answer(&mut wire, &read(c), sent);
        let [error, ready] = refused.as_slice() else {
            panic!("{sent:?}: {refused:?}")
        };
        let its = format!("Error 55000 database \"{database}\" is not currently accepting");
        assert!(error.starts_with(&its), "{sent:?}: {error}");
        assert_eq!(ready, "ReadyForQuery I", "{sent:?}");
        let other = answer(&mut wire, &read(a), sent);
        assert_eq!(other.last().unwrap(), "ReadyForQuery I", "{other:?}");
        assert!(!other[0].starts_with("Error"), "{sent:?}: {other:?}");
    }
    allow(true);
    let sql = format!("SELECT v FROM items WHERE id = {c}");
    let again = || !say(&mut wire, &sql)[0].starts_with("Error");
    assert!(poll_until(LIMIT, again), "the shard is back");
}

#[test]
fn a_refusal_leaves_a_server_alone_that_is_kept_and_has_no_part_in_it() {
    let stage = Stage::new();
    let mut wire = stage.wire();
    let lock = "SELECT pg_backend_pid() FROM (SELECT pg_advisory_lock(1)) AS l";
    let kept = answer(&mut wire, &extended(lock, &[], &[]), Sent::Whole);
    let refused = "SELECT id FROM items ORDER BY id LIMIT 1 FOR UPDATE NOWAIT";
    for sent in [Sent::Whole, Sent::Led] {
        let refusal = answer(&mut wire, &extended(refused, &[], &[]), sent);
        assert!(refusal[0].starts_with("Error 0A000"), "{refusal:?}");
        assert_eq!(refusal[1..], ["ReadyForQuery I"]);
        let pid = extended("SELECT pg_backend_pid()", &[], &[]);
        assert_eq!(answer(&mut wire, &pid, sent)[2], kept[2], "{sent:?}");
    }
    assert_eq!(
        say(&mut wire, "SELECT pg_advisory_unlock(1)")[1],
        "DataRow t"
    );
}

#[test]
fn an_unnamed_statement_that_failed_to_parse_for_one_client_is_there_for_another() {
    // One connection for both.
    let stage = Stage::with("[pool]\nmin = 1\nmax = 1\n");
    // Equal settings, so that nothing is said to the server in between.
    let client = || Wire::login_with(&stage.endpoint(), &[("statement_timeout", "500")]);
    let mut wire = client();
    say(&mut wire, "INSERT INTO notes VALUES (1, 'mine')");
    let sql = "SELECT body FROM notes";
    let run = [
        message::bind_text(&[]),
        message::execute("", 0),
        message::sync(),
    ];
    let row = [
        "BindComplete",
        "DataRow mine",
        "CommandComplete SELECT 1",
        "ReadyForQuery I",
    ];
    let mut holder = Wire::login(&stage.shards.endpoint(0));
    for sent in [Sent::Whole, Sent::Led] {
        let parsed = answer(&mut wire, &extended(sql, &[], &[]), sent);
        assert_eq!(parsed[1..], row, "{sent:?}");
        // Another client's Parse waits for the table until its time is over.
        holder.query("BEGIN; LOCK TABLE notes");
        let failed = answer(&mut client(), &extended(sql, &[], &[]), sent);
        assert!(failed[0].starts_with("Error 57014"), "{sent:?}: {failed:?}");
        holder.query("ROLLBACK");
        assert_eq!(answer(&mut wire, &run, sent), row, "{sent:?}");
    }
}

/// A block that failed before any server knew of it is still that block, whatever is asked of a server next.
#[test]
fn a_block_that_no_server_knows_stays_failed_whatever_is_asked_next() {
    let stage = Stage::new();
    let plain = plain();
    for asked in [
        message::describe_portal("none"),
        message::execute("none", 0),
        message::describe_statement("none"),
        message::close_portal("none"),
        message::bind("", "none", Format::Text, &[], Format::Text),
        message::parse("", "SELECT 1", &[]),
    ] {
        let mut both = [stage.wire(), Wire::login(&plain.endpoint(0))];
        let said = both.each_mut().map(|wire| {
            let mut said = say(wire, "START TRANSACTION READ WRITE");
            for messages in [message::execute("", 1), asked.clone()] {
                wire.send(&[messages, message::sync()].concat());
                said.extend(lines(&wire.until_ready()));
            }
            said.extend(say(wire, "SELECT 1"));
            said.extend(say(wire, "ROLLBACK"));
            said.extend(say(wire, "SELECT 2"));
            said
        });
        assert_eq!(said[0], said[1]);
    }
    stage.assert_nothing_open();
}

/// What a session in session mode has on several servers is undone on all of them with the pipeline or the text.
#[test]
fn what_is_set_on_several_servers_is_undone_with_its_request() {
    let stage = Stage::with("[pool]\nmode = \"session\"\n");
    let plain = plain();
    let shown = [
        "SHOW timezone",
        "SHOW search_path",
        "SELECT current_setting('app.own', true)",
    ];
    let spread =
        "SELECT count(*), min(id) FROM items WHERE note <= current_setting('app.own', true)";
    let rows = "INSERT INTO items VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c'), (4, 4, 'd'), (5, 5, 'e'), (6, 6, 'f')";
    let pipelines: [&[&str]; 7] = [
        &["SET timezone = 'Asia/Tokyo'"],
        &["SET timezone = 'Europe/Rome'", "SELECT 1/0"],
        &["SET app.own = 'a'", spread],
        &[spread, "SET app.own = 'b'", "SELECT 1/0"],
        &[
            "SET LOCAL app.own = 'c'",
            "SELECT current_setting('app.own')",
        ],
        &[
            "RESET timezone",
            "SET search_path = pg_catalog",
            "SELECT 1/0",
        ],
        &["BEGIN", "SET app.own = 'd'", "COMMIT", "SELECT 1/0"],
    ];
    let texts = [
        "SET app.own = 'e'; SELECT 1/0",
        "SET app.own = 'f'; ROLLBACK",
        "SET app.own = 'g'; SET LOCAL timezone = 'Europe/Rome'; SELECT 1",
        "DISCARD ALL; SELECT 1",
    ];
    let mut both = [stage.wire(), Wire::login(&plain.endpoint(0))];
    let said = both.each_mut().map(|wire| {
        let mut said = say(wire, rows);
        said.extend(say(wire, spread));
        let show = |wire: &mut Wire, said: &mut Vec<String>| {
            for sql in shown.into_iter().chain([spread]) {
                said.extend(say(wire, sql));
            }
        };
        for pipeline in pipelines {
            let run = |sql: &&str| {
                let bind = message::bind("", "", Format::Text, &[], Format::Text);
                [message::parse("", sql, &[]), bind, message::execute("", 0)].concat()
            };
            let run: Vec<u8> = pipeline.iter().flat_map(run).collect();
            wire.send(&[run, message::sync()].concat());
            said.push(format!("{pipeline:?}"));
            said.extend(lines(&wire.until_ready()));
            show(wire, &mut said);
        }
        for text in texts {
            said.push(text.to_owned());
            said.extend(say(wire, text));
            show(wire, &mut said);
        }
        said
    });
    assert_eq!(said[0], said[1]);
}

/// A block that goes on within a pipeline, after it had failed, fails again by an error of the router's own.
#[test]
fn a_block_that_goes_on_in_a_pipeline_fails_again_by_an_error_of_the_router() {
    let plain = plain();
    for more in ["", "[pool]\nmode = \"session\"\n"] {
        let stage = Stage::with(more);
        let mut both = [stage.wire(), Wire::login(&plain.endpoint(0))];
        let run = |sql: &str| {
            let bind = message::bind("", "", Format::Text, &[], Format::Text);
            [message::parse("", sql, &[]), bind, message::execute("", 0)].concat()
        };
        let unknown = message::bind("", "zz", Format::Text, &[], Format::Text);
        let key = one_each()[1];
        let add =
            format!("INSERT INTO items (id, note) VALUES ({key}, 'late') ON CONFLICT DO NOTHING");
        let pipelines = [
            vec![run("ROLLBACK TO a"), run(&add), unknown.clone()],
            vec![run("ROLLBACK TO a"), message::describe_statement("zz")],
            vec![
                run("ROLLBACK TO a"),
                message::flush(),
                run(&add),
                message::describe_portal("zz"),
            ],
            vec![run("ROLLBACK TO a"), run("DEALLOCATE zz")],
            vec![run("ROLLBACK AND CHAIN"), run(&add), unknown.clone()],
            vec![run("ROLLBACK"), unknown.clone()],
            vec![run("ROLLBACK"), run("SELECT 1"), unknown.clone()],
            vec![run("ROLLBACK"), run("BEGIN"), run(&add), unknown],
        ];
        let said = both.each_mut().map(|wire| {
            let mut said = say(wire, "CREATE TEMP TABLE own (i int)");
            for pipeline in &pipelines {
                for begun in [&*add, "SELECT 1"] {
                    for sql in [
                        "DELETE FROM items",
                        "BEGIN",
                        begun,
                        "SAVEPOINT a",
                        "SELECT 1/0",
                    ] {
                        said.extend(say(wire, sql));
                    }
                    wire.send(&[pipeline.concat(), message::sync()].concat());
                    said.extend(lines(&wire.until_ready()));
                    for sql in [
                        "COMMIT",
                        "SELECT count(*) FROM items",
                        "SELECT count(*) FROM own",
                    ] {
                        said.extend(say(wire, sql));
                    }
                }
            }
            said
        });
        assert_eq!(said[0], said[1], "{more}");
    }
}

/// PostgreSQL reads a text to its end before it runs anything of it.
#[test]
fn a_text_with_a_syntax_error_behind_a_commit_does_nothing() {
    let (stage, plain) = (Stage::new(), plain());
    let mut both = [stage.wire(), Wire::login(&plain.endpoint(0))];
    let texts = [
        "INSERT INTO items (id) VALUES (1), (2), (3); COMMIT; selec 1",
        "TRUNCATE items; COMMIT; selec 1",
        "SET work_mem = '5MB'; COMMIT; SELECT FROM WHERE",
        "BEGIN; INSERT INTO items (id) VALUES (4), (5), (6); COMMIT; selec 1",
        "BEGIN; INSERT INTO items (id) VALUES (7), (8), (9); COMMIT; BEGIN; SELECT count(*) FROM items; COMMIT",
    ];
    for within in [false, true] {
        for text in texts {
            let said = both.each_mut().map(|wire| {
                let mut said = Vec::new();
                if within {
                    said.extend(say(wire, "BEGIN"));
                    said.extend(say(wire, "INSERT INTO items (id) VALUES (10), (11), (12)"));
                }
                said.extend(say(wire, text));
                for sql in [
                    "COMMIT",
                    "SELECT count(*) FROM items",
                    "SHOW work_mem",
                    "DELETE FROM items",
                ] {
                    said.extend(say(wire, sql));
                }
                said
            });
            assert_eq!(said[0], said[1], "{text}");
        }
    }
}
