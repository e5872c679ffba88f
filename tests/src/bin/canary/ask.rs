//! Requests that leave nothing behind: simple, multi-statement, extended,
//! prepared, pipelined; errors, notices, EXPLAIN, large answers, cursors, portals.

use crate::session::{Fault, Session, check, wrong};
use mothership_tests::message::{self, Format};
use rand::RngExt;
use rand::rngs::StdRng;

const TEXT: u32 = 25;
const INT4: u32 = 23;
const INT8: u32 = 20;
const IDLE: &str = "ReadyForQuery I";
const ONE: &str = "CommandComplete SELECT 1";

/// SELECT of literals, alone or several with an error behind.
pub async fn simple(s: &mut Session, rng: &mut StdRng) -> Result<(), Fault> {
    let m = s.mark;
    let n: u16 = rng.random();
    let row = format!("DataRow {m} {n}");
    let sql = format!("SELECT '{m}' AS a, {n} AS b");
    s.expect(&sql, &["RowDescription a b", &row, ONE, IDLE])
        .await?;
    let sql = format!("SELECT '{m}' AS {m}; ; VALUES ('{m}', {n}); SELECT '{m}'::int4; SELECT 5");
    let names = format!("RowDescription {m}");
    let one = format!("DataRow {m}");
    let error = format!("Error 22P02 invalid input syntax for type integer: \"{m}\"");
    let lines = [
        &names,
        &one,
        ONE,
        "RowDescription column1 column2",
        &row,
        ONE,
        &error,
        IDLE,
    ];
    match rng.random() {
        true => s.expect(&sql, &lines).await,
        false => {
            // In pieces of any size.
            let size = rng.random_range(1..40);
            s.send_pieces(&message::query(&sql), size).await?;
            let frames = s.until_ready(1).await?;
            check(&sql, &frames, &lines)
        }
    }
}

/// Parameters in binary and both Describes.
pub async fn extended(s: &mut Session, rng: &mut StdRng) -> Result<(), Fault> {
    let mark = s.mark.to_string();
    let number = (s.mark.0 as i64).to_be_bytes();
    let values = [Some(mark.as_bytes()), Some(number.as_slice()), None];
    let mut messages = vec![message::parse(
        "",
        "SELECT $1::text AS a, $2::int8 AS b, $3::text AS c",
        &[TEXT, INT8, TEXT],
    )];
    let described = rng.random();
    if described {
        messages.push(message::describe_statement(""));
    }
    messages.push(message::bind(
        "",
        "",
        Format::Binary,
        &values,
        Format::Binary,
    ));
    if described {
        messages.push(message::describe_portal(""));
    }
    messages.extend([message::execute("", 0), message::sync()]);
    s.send(&messages.concat()).await?;
    let frames = s.until_ready(1).await?;
    let kinds: Vec<u8> = frames.iter().map(|frame| frame.kind).collect();
    let expected: &[u8] = if described { b"1tT2TDCZ" } else { b"12DCZ" };
    if kinds != expected {
        return Err(wrong("binary parameters", &frames));
    }
    let row = frames[expected.len() - 3].row();
    let own = [Some(mark.clone().into_bytes()), Some(number.to_vec()), None];
    match row == own {
        true => Ok(()),
        false => Err(Fault::Foreign(format!("{row:?} in place of {own:?}"))),
    }
}

/// Named statements: all sessions use the same names, each with texts of its own.
pub async fn prepared(s: &mut Session, rng: &mut StdRng) -> Result<(), Fault> {
    let which = rng.random_range(0..s.prepared.len());
    let name = format!("s{which}");
    let n: u16 = rng.random();
    let m = s.mark;
    let mut messages = Vec::new();
    let mut lines = Vec::new();
    if !s.prepared[which] {
        // The last one has the same text in all sessions.
        let sql = match which {
            3 => "SELECT $1::text AS a".to_owned(),
            _ => format!("SELECT '{m}' || $1 || '{which}' AS a"),
        };
        messages.push(message::parse(&name, &sql, &[TEXT]));
        lines.push("ParseComplete".to_owned());
        s.prepared[which] = true;
    }
    let value = if which == 3 {
        format!("{m}{n}")
    } else {
        n.to_string()
    };
    for _ in 0..rng.random_range(1..3) {
        let values = [Some(value.as_bytes())];
        messages.push(message::bind(
            "",
            &name,
            Format::Text,
            &values,
            Format::Text,
        ));
        messages.push(message::execute("", 0));
        let row = if which == 3 {
            value.clone()
        } else {
            format!("{m}{n}{which}")
        };
        lines.extend(["BindComplete".into(), format!("DataRow {row}"), ONE.into()]);
    }
    if rng.random_ratio(1, 5) {
        s.prepared[which] = false;
        messages.push(message::close_statement(&name));
        messages.push(message::bind(
            "",
            &name,
            Format::Text,
            &[None],
            Format::Text,
        ));
        lines.push("CloseComplete".into());
        lines.push(format!(
            "Error 26000 prepared statement \"{name}\" does not exist"
        ));
    }
    messages.push(message::sync());
    lines.push(IDLE.into());
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    s.exchange(&format!("prepared {name}"), &messages, &lines)
        .await
}

/// PREPARE, EXECUTE and DEALLOCATE as statements.
pub async fn prepared_by_sql(s: &mut Session) -> Result<(), Fault> {
    let m = s.mark;
    let prepare = format!("PREPARE mine (text) AS SELECT '{m}' || $1 AS a");
    s.expect(&prepare, &["CommandComplete PREPARE", IDLE])
        .await?;
    let row = format!("DataRow {m}x");
    s.expect("EXECUTE mine('x')", &["RowDescription a", &row, ONE, IDLE])
        .await?;
    s.expect("DEALLOCATE mine", &["CommandComplete DEALLOCATE", IDLE])
        .await
}

/// Several requests at once, some of them wrong, with several Syncs.
pub async fn pipeline(s: &mut Session, rng: &mut StdRng) -> Result<(), Fault> {
    let mark = s.mark.to_string();
    let mut messages = Vec::new();
    let mut lines = Vec::new();
    for _ in 0..rng.random_range(1..4) {
        let mut failed = false;
        for _ in 0..rng.random_range(1..6) {
            let wrong = rng.random_ratio(1, 8);
            let (sql, oid) = match wrong {
                true => ("SELECT $1::int4 AS a", INT4),
                false => ("SELECT $1::text AS a", TEXT),
            };
            messages.push(message::parse("", sql, &[oid]));
            messages.push(message::bind_text(&[&mark]));
            messages.push(message::execute("", 0));
            let answer = match (failed, wrong) {
                (true, _) => vec![],
                (false, false) => vec![
                    "ParseComplete".to_owned(),
                    "BindComplete".into(),
                    format!("DataRow {mark}"),
                    ONE.into(),
                ],
                (false, true) => vec![
                    "ParseComplete".to_owned(),
                    format!("Error 22P02 invalid input syntax for type integer: \"{mark}\""),
                ],
            };
            lines.extend(answer);
            failed |= wrong;
        }
        messages.push(message::sync());
        lines.push(IDLE.into());
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    s.exchange("pipeline", &messages, &lines).await
}

/// Notices and errors that functions raise, and a plan with the mark in it.
pub async fn spoken(s: &mut Session, rng: &mut StdRng) -> Result<(), Fault> {
    let m = s.mark;
    match rng.random_range(0..3) {
        0 => {
            let sql = format!("SELECT canary_say('{m}') AS a");
            let lines = [
                "RowDescription a",
                &format!("Notice 00000 {m}"),
                &format!("DataRow {m}"),
                ONE,
                IDLE,
            ];
            s.expect(&sql, &lines).await
        }
        1 => {
            let sql = format!("SELECT canary_fail('{m}') AS a");
            let lines = ["RowDescription a", &format!("Error P0001 {m}"), IDLE];
            s.expect(&sql, &lines).await
        }
        _ => {
            let sql = format!("EXPLAIN (COSTS OFF) SELECT id FROM notes WHERE mark = '{m}'");
            let frames = s.query(&sql).await?;
            let filter = format!("Filter: (mark = '{m}'::text)");
            let found = frames
                .iter()
                .any(|f| f.kind == b'D' && f.row_text()[0].contains(&filter));
            match found && frames.last().is_some_and(|f| f.transaction() == 'I') {
                true => Ok(()),
                false => Err(wrong(&sql, &frames)),
            }
        }
    }
}

/// An answer of a hundred kilobytes, read with pauses.
pub async fn large(s: &mut Session, rng: &mut StdRng) -> Result<(), Fault> {
    const ROWS: usize = 50;
    let m = s.mark;
    let sql = format!("SELECT repeat('{m}', 110) AS a FROM generate_series(1, {ROWS})");
    s.send(&message::query(&sql)).await?;
    let row = format!("DataRow {}", m.to_string().repeat(110));
    let pause = rng.random_range(0..ROWS);
    let mut frames = Vec::new();
    for at in 0..ROWS + 3 {
        if at == pause {
            tokio::task::yield_now().await;
        }
        frames.push(s.frame().await?);
    }
    let done = format!("CommandComplete SELECT {ROWS}");
    let mut lines = vec!["RowDescription a"];
    lines.extend([row.as_str()].repeat(ROWS));
    lines.extend([&done, IDLE]);
    check(&sql, &frames, &lines)
}

/// A cursor of SQL, and a portal that is executed a few rows at a time.
pub async fn cursor(s: &mut Session) -> Result<(), Fault> {
    let row = format!("DataRow {}", s.mark);
    let row = row.as_str();
    let within = "ReadyForQuery T";
    let rows = format!("SELECT '{}' AS a FROM generate_series(1, 5)", s.mark);
    let declare = format!("DECLARE c CURSOR FOR {rows}");
    s.expect("BEGIN", &["CommandComplete BEGIN", within])
        .await?;
    let declared = ["CommandComplete DECLARE CURSOR", within];
    s.expect(&declare, &declared).await?;
    let names = "RowDescription a";
    let fetched = [names, row, row, "CommandComplete FETCH 2", within];
    s.expect("FETCH 2 FROM c", &fetched).await?;
    let rest = [names, row, row, row, "CommandComplete FETCH 3", within];
    s.expect("FETCH ALL FROM c", &rest).await?;
    let messages = [
        message::parse("", &rows, &[]),
        message::bind("p", "", Format::Text, &[], Format::Text),
        message::execute("p", 2),
        message::execute("p", 2),
        message::sync(),
        message::execute("p", 0),
        message::close_portal("p"),
        message::sync(),
    ];
    let lines = [
        "ParseComplete",
        "BindComplete",
        row,
        row,
        "PortalSuspended",
        row,
        row,
        "PortalSuspended",
        within,
        row,
        ONE,
        "CloseComplete",
        within,
    ];
    s.exchange("portal", &messages, &lines).await?;
    s.expect("COMMIT", &["CommandComplete COMMIT", IDLE]).await
}
