//! Portals and cursors have one name space, whichever shard has them and whichever protocol has opened them. Beside one
//! PostgreSQL.

use super::alike::{Request, assert_alike, insert, queries, query};
use super::stage::{Stage, one_each, say, segment, send};
use mothership_tests::message::{self, Format};
use mothership_tests::{Shards, Wire};

/// Messages of a pipeline, ended by Sync.
fn pipeline(parts: &[Request]) -> Request {
    parts
        .concat()
        .into_iter()
        .chain([message::sync()])
        .collect()
}

/// A portal of a statement.
fn bind(portal: &str, sql: &str) -> Request {
    let bind = message::bind(portal, "", Format::Text, &[], Format::Text);
    vec![message::parse("", sql, &[]), bind]
}

fn execute(portal: &str) -> Request {
    vec![message::execute(portal, 0)]
}

fn describe(portal: &str) -> Request {
    vec![message::describe_portal(portal)]
}

fn close(portal: &str) -> Request {
    vec![message::close_portal(portal)]
}

/// A statement through the unnamed portal.
fn run(sql: &str) -> Request {
    [bind("", sql), execute("")].concat()
}

fn declare(name: &str, sql: &str) -> String {
    format!("DECLARE {name} CURSOR FOR {sql}")
}

fn hold(name: &str, sql: &str) -> String {
    format!("DECLARE {name} CURSOR WITH HOLD FOR {sql}")
}

fn on(id: i64) -> String {
    format!("SELECT id FROM items WHERE id = {id}")
}

/// Statements that live in each way that there is: on one shard, on several, and in the router.
fn every_way() -> Vec<String> {
    let [a, b, c] = one_each();
    let more = [
        "SELECT id FROM items ORDER BY id",
        "SELECT count(*) FROM items",
        "SELECT i.id FROM items i JOIN items j ON j.v = i.v ORDER BY 1",
        "UPDATE items SET v = v RETURNING 1",
        "UPDATE items SET v = v",
        "UPDATE items SET v = i.v FROM items j, items i WHERE j.id = i.v",
        "EXPLAIN (COSTS OFF) SELECT 1",
        "SET LOCAL work_mem = '1MB'",
        "SAVEPOINT z",
        "DEALLOCATE ALL",
    ];
    [on(a), on(b), on(c)]
        .into_iter()
        .chain(more.map(str::to_owned))
        .collect()
}

/// Runs each case in a block with a row on each shard, and rolls back; one client for all of them. What is in `before`
/// is done once.
fn assert_alike_in_blocks(stage: &Stage, before: &[Request], cases: Vec<Vec<Request>>) {
    let plain = Shards::new(1);
    plain.sql(
        0,
        "CREATE TABLE items (id int8 PRIMARY KEY, v int8, note text)",
    );
    let all = insert(&one_each());
    let mut wires = [Wire::login(&plain.endpoint(0)), stage.wire()];
    for wire in &mut wires {
        for request in before {
            send(wire, request);
        }
    }
    for case in cases {
        let begun = queries(["BEGIN", &all]).into_iter();
        let case: Vec<Request> = begun.chain(case).chain([query("ROLLBACK")]).collect();
        let told = wires.each_mut().map(|wire| -> Vec<Vec<String>> {
            case.iter().map(|request| send(wire, request)).collect()
        });
        let sent = case.iter().flatten();
        let sent: Vec<String> = sent.map(|m| m.escape_ascii().to_string()).collect();
        assert_eq!(told[1], told[0], "{}", sent.join("\n"));
    }
    stage.assert_nothing_open();
}

#[test]
fn a_name_that_is_open_is_taken_on_every_shard() {
    let [a, b, _] = one_each();
    let cases = every_way().into_iter().flat_map(|sql| {
        let bound = || pipeline(&[bind("x", &sql)]);
        [
            vec![bound(), pipeline(&[bind("x", &on(a))])],
            vec![bound(), query(&declare("x", &on(b)))],
            vec![query(&declare("x", &on(a))), bound()],
            vec![pipeline(&[run(&declare("x", &on(a))), bind("x", &sql)])],
            vec![query("SAVEPOINT s"), bound(), query("RELEASE s"), bound()],
        ]
    });
    let mut cases: Vec<Vec<Request>> = cases.collect();
    let queries = [on(a), on(b), "SELECT id FROM items ORDER BY id".to_owned()];
    for sql in &queries {
        cases.push(vec![
            query(&declare("c", &on(a))),
            query(&declare("c", sql)),
        ]);
    }
    assert_alike_in_blocks(&Stage::new(), &[], cases);
}

#[test]
fn a_name_that_was_closed_is_free() {
    let [a, b, _] = one_each();
    let again = |id: i64| pipeline(&[bind("x", &on(id)), execute("x")]);
    let cases = every_way().into_iter().flat_map(|sql| {
        let bound = || pipeline(&[bind("x", &sql)]);
        let text = format!("CLOSE x; {}; FETCH x", declare("x", &on(a)));
        [
            vec![bound(), pipeline(&[close("x")]), again(a)],
            vec![
                bound(),
                query("CLOSE x"),
                again(b),
                query("CLOSE x"),
                query("CLOSE x"),
            ],
            vec![pipeline(&[
                bind("x", &sql),
                close("x"),
                bind("x", &on(b)),
                execute("x"),
            ])],
            vec![pipeline(&[
                bind("x", &sql),
                run("CLOSE x"),
                bind("x", &on(b)),
                execute("x"),
            ])],
            vec![bound(), query(&text)],
            vec![bound(), query("CLOSE ALL"), pipeline(&[execute("x")])],
            vec![
                query("SAVEPOINT s"),
                bound(),
                query("ROLLBACK TO s"),
                again(b),
            ],
            vec![
                bound(),
                query("COMMIT"),
                pipeline(&[execute("x")]),
                again(a),
                query("DELETE FROM items"),
            ],
            vec![
                bound(),
                query("SELECT 1 / 0"),
                query("CLOSE x"),
                pipeline(&[close("x")]),
                query("ROLLBACK"),
                again(b),
            ],
        ]
    });
    assert_alike_in_blocks(&Stage::new(), &[], cases.collect());
}

#[test]
fn each_protocol_finds_what_the_other_has_opened() {
    let [a, b, c] = one_each();
    let some = |portal: &str| vec![message::execute(portal, 1)];
    let queries = [
        on(a),
        on(b),
        on(c),
        "SELECT id FROM items ORDER BY id".to_owned(),
    ];
    let declared = queries.iter().flat_map(|sql| {
        let opened = || query(&declare("c", sql));
        [
            vec![
                opened(),
                pipeline(&[describe("c"), some("c")]),
                query("FETCH 1 FROM c"),
                pipeline(&[execute("c"), execute("c")]),
                pipeline(&[close("c"), close("c")]),
                query("FETCH c"),
            ],
            vec![pipeline(&[
                run(&declare("c", sql)),
                run("FETCH c"),
                run("CLOSE c"),
                bind("c", &on(b)),
                execute("c"),
            ])],
            vec![
                opened(),
                query("SELECT 1 / 0"),
                pipeline(&[execute("c")]),
                pipeline(&[describe("c")]),
            ],
            vec![
                opened(),
                pipeline(&[
                    vec![
                        message::parse("f", "FETCH 1 FROM c", &[]),
                        message::describe_statement("f"),
                    ],
                    vec![message::bind("", "f", Format::Text, &[], Format::Text)],
                    describe(""),
                    execute(""),
                    vec![message::close_statement("f")],
                ]),
            ],
        ]
    });
    let bound = queries[..3].iter().map(|sql| {
        vec![
            pipeline(&[bind("x", sql)]),
            query("FETCH x"),
            query("MOVE 1 IN x"),
            pipeline(&[execute("x"), describe("x")]),
            query("CLOSE x"),
            query("FETCH x"),
        ]
    });
    assert_alike_in_blocks(&Stage::new(), &[], declared.chain(bound).collect());
}

#[test]
fn the_unnamed_portal_is_the_last_that_was_bound() {
    let [a, b, c] = one_each();
    let cases = [a, b, c].map(|first| {
        [
            vec![
                pipeline(&[bind("", &on(first))]),
                query(&on(b)),
                pipeline(&[execute("")]),
            ],
            vec![
                pipeline(&[bind("", &on(first)), describe("")]),
                pipeline(&[
                    vec![message::execute("", 1)],
                    bind("", &on(b)),
                    describe(""),
                    execute(""),
                ]),
                pipeline(&[close("")]),
                pipeline(&[execute("")]),
            ],
            vec![
                query("SAVEPOINT s"),
                pipeline(&[bind("", &on(first))]),
                pipeline(&[run("ROLLBACK TO s"), bind("", &on(b)), execute("")]),
            ],
        ]
    });
    assert_alike_in_blocks(&Stage::new(), &[], cases.into_iter().flatten().collect());
}

#[test]
fn what_has_no_rows_runs_once() {
    let cases = every_way().into_iter().map(|sql| {
        vec![pipeline(&[
            bind("x", &sql),
            execute("x"),
            execute("x"),
            vec![message::execute("x", 1)],
        ])]
    });
    let stage = Stage::new();
    assert_alike_in_blocks(&stage, &[], cases.collect());
    let twice = |sql: &str| -> Vec<Request> {
        vec![
            pipeline(&[bind("x", sql), execute("x"), execute("x")]),
            query("ROLLBACK"),
        ]
    };
    assert_alike(&stage, &[&twice("BEGIN"), &twice("VACUUM items")]);
}

#[test]
fn cursors_that_hold_keep_their_names() {
    let [a, b, c] = one_each();
    let stage = Stage::new();
    let all = insert(&[a, b, c]);
    let other = || pipeline(&[bind("h", &on(b)), execute("h")]);
    let mut cases = Vec::new();
    for sql in [on(a), on(b), "SELECT id FROM items ORDER BY id".to_owned()] {
        let (held, again) = (hold("h", &sql), hold("h", &on(b)));
        let within = hold("d", &sql);
        let texts = format!("BEGIN; {held}; COMMIT; SELECT 1 / 0");
        let undone = format!("{held}; SELECT 1 / 0");
        for requests in [
            vec![query(&held), other(), query(&again), query("FETCH h")],
            vec![
                query("BEGIN"),
                query(&held),
                query("COMMIT"),
                other(),
                query("FETCH h"),
            ],
            vec![
                query("BEGIN"),
                query(&held),
                query("ROLLBACK"),
                other(),
                query("FETCH h"),
            ],
            vec![
                query("BEGIN"),
                query(&held),
                query("COMMIT AND CHAIN"),
                other(),
                query("ROLLBACK"),
                query("FETCH h"),
            ],
            vec![
                query("BEGIN"),
                query("SAVEPOINT s"),
                query(&within),
                query("ROLLBACK TO s"),
                query("FETCH d"),
                query("ROLLBACK TO s"),
                query(&within),
                query("COMMIT"),
                query("FETCH d"),
            ],
            vec![query(&texts), other(), query("FETCH h")],
            vec![query(&undone), query(&again), query("FETCH h")],
            vec![query(&held), query("CLOSE h"), other()],
            vec![
                query(&held),
                pipeline(&[close("h"), bind("h", &on(b)), execute("h")]),
            ],
            vec![pipeline(&[run(&held), bind("h", &on(b))]), query("FETCH h")],
            vec![
                query(&held),
                query(&hold("i", &on(c))),
                pipeline(&[execute("h"), execute("i")]),
                pipeline(&[run("MOVE FIRST IN h"), run("MOVE BACKWARD 1 IN i")]),
            ],
        ] {
            let before = [query(&all)].into_iter();
            let case = before.chain(requests).chain([query("DISCARD ALL")]);
            cases.push(case.collect::<Vec<Request>>());
        }
    }
    let cases: Vec<&[Request]> = cases.iter().map(Vec::as_slice).collect();
    assert_alike(&stage, &cases);
}

#[test]
fn a_pipeline_without_a_block_has_names_as_well() {
    let [a, b, _] = one_each();
    let all = query(&insert(&one_each()));
    let add = |id: i64| format!("UPDATE items SET v = id WHERE id = {id} RETURNING v");
    let cases: Vec<Vec<Request>> = [
        vec![pipeline(&[
            bind("x", &on(a)),
            bind("y", &on(b)),
            bind("x", &on(b)),
        ])],
        vec![pipeline(&[
            bind("x", &add(a)),
            execute("x"),
            bind("y", &add(b)),
            execute("y"),
            bind("y", &on(a)),
        ])],
        vec![pipeline(&[
            bind("x", &add(a)),
            bind("y", &add(b)),
            run("FETCH x"),
            run("FETCH y"),
            run("CLOSE x"),
        ])],
        vec![pipeline(&[
            bind("x", &on(a)),
            bind("y", &on(b)),
            close("x"),
            bind("x", &on(b)),
            execute("x"),
            execute("y"),
        ])],
        vec![
            [
                bind("x", &on(a)),
                bind("y", &on(b)),
                query("FETCH x; FETCH y"),
            ]
            .concat(),
            pipeline(&[execute("y")]),
        ],
        vec![pipeline(&[
            run("SELECT 7"),
            run(&on(b)),
            run(&declare("c", "SELECT 1")),
            run("FETCH c"),
        ])],
        vec![pipeline(&[
            run("SELECT 7"),
            run("BEGIN"),
            run(&declare("c", &on(b))),
            run("FETCH c"),
            run("COMMIT"),
        ])],
        vec![pipeline(&[run(&on(b)), run("VACUUM items")])],
        vec![pipeline(&[run("VACUUM items"), run(&on(b))])],
    ]
    .into_iter()
    .map(|case| {
        let before = [all.clone()].into_iter();
        before
            .chain(case)
            .chain([query("SELECT sum(v) FROM items")])
            .collect()
    })
    .collect();
    let cases: Vec<&[Request]> = cases.iter().map(Vec::as_slice).collect();
    assert_alike(&Stage::new(), &cases);
}

#[test]
fn cursors_of_functions_are_found_where_they_are() {
    let [a, b, _] = one_each();
    let opens = "CREATE OR REPLACE FUNCTION opens() RETURNS refcursor LANGUAGE plpgsql AS \
        $$ DECLARE c refcursor := 'fc'; BEGIN OPEN c FOR SELECT 7; RETURN c; END $$";
    let stage = Stage::new();
    let opened = || [query(&on(a)), query(&on(b)), query("SELECT opens()")].into_iter();
    let cases = [
        vec![query("FETCH fc"), query("CLOSE fc"), query("FETCH fc")],
        vec![
            pipeline(&[describe("fc"), execute("fc")]),
            pipeline(&[bind("fc", &on(a))]),
        ],
        vec![pipeline(&[close("fc")]), query("FETCH fc")],
        vec![
            query("FETCH fc; FETCH fc; CLOSE fc"),
            pipeline(&[run("FETCH fc")]),
        ],
        vec![pipeline(&[
            run("FETCH fc"),
            run("CLOSE fc"),
            bind("fc", &on(a)),
            execute("fc"),
        ])],
        vec![
            query("SAVEPOINT u"),
            query("FETCH fc"),
            query("ROLLBACK TO u"),
            query("MOVE BACKWARD ALL IN fc"),
        ],
        vec![pipeline(&[execute("none")])],
        vec![pipeline(&[describe("none")])],
        vec![pipeline(&[close("none")]), query("CLOSE none")],
    ];
    let cases = cases.map(|case| opened().chain(case).collect());
    assert_alike_in_blocks(&stage, &[query(opens)], cases.into());
}

#[test]
fn a_second_begin_is_warned_of_once() {
    let [a, b, c] = one_each();
    let all = insert(&[a, b, c]);
    let (first, second) = (on(a), on(b));
    let warned = |sql: &str| -> Vec<Request> {
        queries(["BEGIN", &first, &second, sql, &all, "ROLLBACK"]).into()
    };
    assert_alike(
        &Stage::new(),
        &[
            &warned("BEGIN"),
            &warned("BEGIN READ ONLY"),
            &warned("START TRANSACTION"),
            &[segment([
                "BEGIN", &first, &second, "BEGIN", &all, "ROLLBACK",
            ])],
        ],
    );
}

/// No server has all of its rows, and what it does to the session would not be followed.
#[test]
fn fetch_of_a_portal_over_shards_is_refused() {
    let stage = Stage::new();
    for sql in [
        "SELECT id FROM items ORDER BY id",
        "SELECT count(*) FROM items",
        "UPDATE items SET v = 1 RETURNING id",
        "SELECT pg_advisory_lock(7)",
        "SELECT set_config('work_mem', '1MB', true)",
    ] {
        let mut wire = stage.wire();
        wire.query("BEGIN");
        send(&mut wire, &pipeline(&[bind("x", sql)]));
        for text in ["FETCH x", "MOVE x"] {
            let said = say(&mut wire, text);
            let refused = said[0].starts_with("Error 0A000") || said[0].starts_with("Error 25P02");
            assert!(refused, "{sql}: {said:?}");
        }
    }
}
