//! Cancels, which may hit nobody but who asked, and connections that end at any byte.

use crate::session::{Fault, ROLE, Session, check, dial, greeting, wrong};
use crate::world::World;
use mothership_tests::frame::Frame;
use mothership_tests::message::{self, SSL_REQUEST};
use rand::RngExt;
use rand::rngs::StdRng;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// A cancel that came too early for its statement is sent again after this.
const AGAIN: Duration = Duration::from_millis(400);

/// Sends a cancel request and waits until it has been taken.
async fn cancel(world: &World, key: &(u32, Vec<u8>)) -> Result<(), Fault> {
    let mut stream = dial(world.port).await?;
    // It may be closed before all is read; what counts is that it is closed.
    let _ = stream.write_all(&message::cancel(key.0, &key.1)).await;
    let until = Instant::now() + world.limit;
    let mut rest = [0; 16];
    let closed = timeout_at(until, stream.read(&mut rest)).await;
    match closed {
        Err(_) => Err(Fault::Hang("a cancel request is not taken".into())),
        Ok(Ok(1..)) => Err(Fault::Order("a cancel request is answered".into())),
        Ok(_) => Ok(()),
    }
}

/// What is allowed to happen to a statement that its own client cancels.
fn judge(sql: &str, frames: &[Frame], done: &[&str]) -> Result<bool, Fault> {
    let begins_well = matches!(frames, [.., error, ready]
        if error.kind == b'E' && error.sqlstate() == "57014" && ready.to_string() == "ReadyForQuery I");
    let before = frames.len().saturating_sub(2);
    // What came before the error is the beginning of the right answer.
    let prefix = before <= 1 && frames[..before].iter().all(|f| f.to_string() == done[0]);
    match begins_well && prefix {
        true => Ok(true),
        false => check(sql, frames, done).map(|()| false),
    }
}

/// A long statement is cancelled for certain.
pub async fn sleeper(s: &mut Session, world: &World, rng: &mut StdRng) -> Result<(), Fault> {
    let sql = format!("SELECT '{}' AS a, pg_sleep(600) AS b", s.mark);
    s.send(&message::query(&sql)).await?;
    sleep(Duration::from_millis(rng.random_range(0..30))).await;
    let mut asked = 0;
    let frames = loop {
        cancel(world, &s.key).await?;
        asked += 1;
        match timeout(AGAIN, s.until_ready(1)).await {
            Ok(frames) => break frames?,
            // All that arrives before the error arrives with it.
            Err(_) if asked < 100 => continue,
            Err(_) => return Err(Fault::Hang(format!("{asked} cancels of {sql}"))),
        }
    };
    if !judge(&sql, &frames, &["RowDescription a b"])? {
        return Err(wrong(&sql, &frames));
    }
    settle(s, asked).await
}

/// A short statement is cancelled, or is not.
pub async fn racer(s: &mut Session, world: &World, rng: &mut StdRng) -> Result<(), Fault> {
    let sql = format!("SELECT '{}' AS a FROM pg_sleep(0.004)", s.mark);
    s.send(&message::query(&sql)).await?;
    sleep(Duration::from_millis(rng.random_range(0..8))).await;
    cancel(world, &s.key).await?;
    let frames = s.until_ready(1).await?;
    let row = format!("DataRow {}", s.mark);
    let done = [
        "RowDescription a",
        &row,
        "CommandComplete SELECT 1",
        "ReadyForQuery I",
    ];
    let hit = judge(&sql, &frames, &done)?;
    world.count(if hit { "race: cancelled" } else { "race: done" });
    settle(s, 1).await
}

/// Signals are not in step with answers, in PostgreSQL either: each own cancel may still hit one statement of
/// its own session.
async fn settle(s: &mut Session, cancels: usize) -> Result<(), Fault> {
    let row = format!("DataRow {}", s.mark);
    let done = [
        "RowDescription a",
        &row,
        "CommandComplete SELECT 1",
        "ReadyForQuery I",
    ];
    let sql = format!("SELECT '{}' AS a", s.mark);
    for _ in 0..=cancels {
        let frames = s.query(&sql).await?;
        if !judge(&sql, &frames, &done)? {
            return Ok(());
        }
    }
    Err(Fault::Foreign("more cancels than were asked for".into()))
}

/// Cancels with keys of nobody, of a session that is gone, and of one that does nothing.
pub async fn stray(
    s: &mut Session,
    world: &World,
    stale: &Option<(u32, Vec<u8>)>,
) -> Result<(), Fault> {
    cancel(world, &world.stray_key()).await?;
    let (pid, mut key) = s.key.clone();
    key[0] ^= 1;
    cancel(world, &(pid, key)).await?;
    if let Some(stale) = stale {
        cancel(world, stale).await?;
    }
    cancel(world, &s.key).await?;
    settle(s, 1).await
}

/// What a session was about to say when it was cut.
fn last_words(s: &Session, rng: &mut StdRng) -> Vec<u8> {
    let m = s.mark;
    let key = s.first_key;
    let insert = |key: i64| {
        let sql = format!(
            "INSERT INTO marks (id, mark, n) VALUES ({key}, '{m}', 3) ON CONFLICT DO NOTHING"
        );
        message::query(&sql)
    };
    let both = [insert(key), insert(key + 1)].concat();
    let begun = [message::query("BEGIN"), both.clone()].concat();
    match rng.random_range(0..8) {
        0 => message::query(&format!("SELECT '{m}', pg_sleep(0.1)")),
        1 => [begun, message::query("COMMIT")].concat(),
        2 => begun,
        3 => {
            let data = format!("{}\t{m}\t4\n", key + 2);
            let copy = message::query("COPY marks (id, mark, n) FROM STDIN");
            [copy, message::copy_data(data.as_bytes())].concat()
        }
        4 => {
            let one = [
                message::parse("", "SELECT $1::text", &[25]),
                message::bind_text(&[&m.to_string()]),
                message::execute("", 0),
            ];
            [one.concat().repeat(5), message::sync()].concat()
        }
        5 => message::query(&format!(
            "SELECT repeat('{m}', 1000) FROM generate_series(1, 40)"
        )),
        6 => [
            message::query(&format!("SET canary.mark = '{m}'")),
            message::query(&format!("SET application_name = '{m}'")),
            both,
        ]
        .concat(),
        _ => [
            message::parse("s1", &format!("SELECT '{m}' || $1"), &[25]),
            message::flush(),
            message::parse("s1", "SELECT 1", &[]),
            message::sync(),
        ]
        .concat(),
    }
}

/// The session ends at any byte of what it has to say, by FIN or RST, at once or while the answers come.
pub async fn cut(mut s: Session, rng: &mut StdRng) {
    let words = last_words(&s, rng);
    let at = match rng.random_ratio(1, 3) {
        true => words.len(),
        false => rng.random_range(0..=words.len()),
    };
    let reset = rng.random();
    let patience = Duration::from_millis(rng.random_range(0..15));
    s.send_blindly(&words[..at]).await;
    if rng.random() {
        sleep(patience).await;
    }
    s.cut(reset);
}

/// A login that ends at any byte, with or without a request for encryption.
pub async fn cut_login(world: &World, rng: &mut StdRng) -> Result<(), Fault> {
    let (mark, _) = world.next_session();
    let mut words = match rng.random() {
        true => message::request(SSL_REQUEST),
        false => Vec::new(),
    };
    // A handshake that never comes to be is one of the cases.
    words.extend(greeting(mark));
    words.extend(message::query(&format!("SELECT '{mark}' AS {ROLE}")));
    let mut stream = dial(world.port).await?;
    let _ = stream
        .write_all(&words[..rng.random_range(0..=words.len())])
        .await;
    let patience = Duration::from_millis(rng.random_range(0..10));
    if rng.random() {
        sleep(patience).await;
    }
    if rng.random() {
        let _ = stream.set_zero_linger();
    }
    Ok(())
}
