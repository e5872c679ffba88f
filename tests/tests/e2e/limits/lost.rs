//! A server connection that is lost in the middle of a statement: what has become of the
//! statement is known of a read, and of nothing else.

use super::stage::{LIMIT, Stage};
use mothership_tests::proxy::{End, Proxy};
use mothership_tests::{message, poll_until};

/// With tables declared the catalog is known, and what it says of functions.
const DECLARED: &str = "[[table]]\nname = \"t\"\nkey = \"a\"\nkey_type = \"int4\"";

#[test]
fn the_outcome_of_a_read_is_known_and_that_of_a_function_is_not() {
    for is_planned in [false, true] {
        let mut way = None;
        let more = if is_planned { DECLARED } else { "" };
        // The control role asks through the same way: a lost probe is none of a server that is gone.
        let sections =
            format!("[listen]\nport = @port@\nworkers = 1\n[balance]\ndown_after = 100\n{more}");
        let stage = Stage::through(&sections, |server| way.insert(Proxy::to(server)).port());
        let way = way.unwrap();
        stage.shards.sql(
            0,
            "CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE log (a int)",
        );
        stage.shards.sql(0, "INSERT INTO t VALUES (1)");
        for (name, volatility) in [("writes", "VOLATILE"), ("reads", "STABLE")] {
            stage.shards.sql(
                0,
                &format!(
                    "CREATE FUNCTION {name}() RETURNS int LANGUAGE plpgsql {volatility} AS \
                     $$ BEGIN PERFORM pg_sleep(60); RETURN 1; END $$"
                ),
            );
        }
        // The tokens of a text do not say whether a function writes; the catalog does.
        let stable = if is_planned { "08006" } else { "08007" };
        for (sql, expected) in [
            ("SELECT pg_sleep(60) FROM pg_class", "08006"),
            (
                "SELECT count(lower(relname) || pg_sleep(60)) FROM pg_class",
                "08006",
            ),
            ("SELECT writes()", "08007"),
            ("SELECT 1 FROM pg_class WHERE public.writes() = 1", "08007"),
            ("SELECT reads()", stable),
        ] {
            for extended in [false, true] {
                let mut wire = stage.wire();
                match extended {
                    false => wire.send(&message::query(sql)),
                    true => wire.send_all(&[
                        message::parse("", sql, &[]),
                        message::bind_text(&[]),
                        message::execute("", 0),
                        message::sync(),
                    ]),
                }
                let quoted = sql.replace('\'', "''");
                let running = format!(
                    "FROM pg_stat_activity WHERE query = '{quoted}' AND wait_event = 'PgSleep'"
                );
                let runs = || {
                    stage
                        .shards
                        .sql(0, &format!("SELECT count(*) {running}"))
                        .trim()
                        == "1"
                };
                assert!(poll_until(LIMIT, runs), "{sql} does not run");
                way.cut(End::Finish);
                let frames = wire.until_ready();
                let error = frames.iter().find(|frame| frame.kind == b'E').unwrap();
                assert_eq!(
                    error.sqlstate(),
                    expected,
                    "{sql}, planned: {is_planned}, extended: {extended}"
                );
                let end = format!("SELECT pg_terminate_backend(pid) {running}");
                stage.shards.sql(0, &end);
                let goes_on = poll_until(LIMIT, || {
                    let answer = wire.query("SELECT 1");
                    answer.iter().all(|frame| frame.kind != b'E')
                });
                assert!(goes_on, "{sql}");
            }
        }
    }
}
