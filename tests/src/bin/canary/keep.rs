//! Requests that leave something: rows on several shards, transactions, COPY,
//! settings, temporary tables, notifications.

use crate::session::{Fault, KEYS, Session, check, has_origin, wrong};
use mothership_tests::message;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IteratorRandom, SliceRandom};

const IDLE: &str = "ReadyForQuery I";
const WITHIN: &str = "ReadyForQuery T";
const FAILED: &str = "ReadyForQuery E";
const BEGUN: [&str; 2] = ["CommandComplete BEGIN", WITHIN];

/// Keys of the session that have no row, in any order.
fn free(s: &Session, rng: &mut StdRng) -> Vec<i64> {
    let all = s.first_key..s.first_key + KEYS;
    let mut keys: Vec<i64> = all.filter(|key| !s.rows.contains_key(key)).collect();
    keys.shuffle(rng);
    keys
}

fn list(keys: impl IntoIterator<Item = i64>) -> String {
    let keys: Vec<String> = keys.into_iter().map(|key| key.to_string()).collect();
    keys.join(", ")
}

/// Inserts, updates, deletes and counts rows of several shards, each by itself.
pub async fn rows(s: &mut Session, rng: &mut StdRng) -> Result<(), Fault> {
    let mut new = free(s, rng);
    new.truncate(rng.random_range(1..4));
    if !new.is_empty() {
        let values: Vec<String> = new
            .iter()
            .map(|key| format!("({key}, '{}', 0)", s.mark))
            .collect();
        let sql = format!(
            "INSERT INTO marks (id, mark, n) VALUES {}",
            values.join(", ")
        );
        let done = format!("CommandComplete INSERT 0 {}", new.len());
        s.expect(&sql, &[&done, IDLE]).await?;
        s.rows.extend(new.into_iter().map(|key| (key, 0)));
    }
    read(s).await?;
    let some = s.rows.keys().copied().sample(rng, 3);
    let update = format!(
        "UPDATE marks SET n = n + 1 WHERE id IN ({})",
        list(some.clone())
    );
    let done = format!("CommandComplete UPDATE {}", some.len());
    s.expect(&update, &[&done, IDLE]).await?;
    for key in some {
        *s.rows.get_mut(&key).expect("chosen of them") += 1;
    }
    one(s, rng).await?;
    if s.rows.len() > 6 {
        let gone = s.rows.keys().copied().sample(rng, 4);
        let sql = format!("DELETE FROM marks WHERE id IN ({})", list(gone.clone()));
        s.expect(&sql, &["CommandComplete DELETE 4", IDLE]).await?;
        s.rows.retain(|key, _| !gone.contains(key));
    }
    Ok(())
}

/// All keys of the session, over all shards: its rows as it knows them, and no other.
pub async fn read(s: &mut Session) -> Result<(), Fault> {
    let keys = s.first_key..s.first_key + KEYS;
    let sql = format!(
        "SELECT id, mark, n FROM marks WHERE id IN ({})",
        list(keys.clone())
    );
    let frames = s.query(&sql).await?;
    let found = frames.iter().filter(|frame| frame.kind == b'D');
    let mut found: Vec<Vec<String>> = found.map(|frame| frame.row_text()).collect();
    found.sort_by_key(|row| row[0].parse::<i64>().ok());
    let own = s.rows.iter();
    let own: Vec<Vec<String>> = own
        .map(|(key, n)| vec![key.to_string(), s.mark.to_string(), n.to_string()])
        .collect();
    if found != own || frames.last().is_none_or(|f| f.to_string() != IDLE) {
        return Err(wrong(&format!("{sql}, which must find {own:?}"), &frames));
    }
    let sql = format!("SELECT count(*) FROM marks WHERE id IN ({})", list(keys));
    let row = format!("DataRow {}", s.rows.len());
    s.expect(
        &sql,
        &[
            "RowDescription count",
            &row,
            "CommandComplete SELECT 1",
            IDLE,
        ],
    )
    .await
}

/// A row by its key, by the extended protocol.
async fn one(s: &mut Session, rng: &mut StdRng) -> Result<(), Fault> {
    let Some((key, n)) = s.rows.iter().choose(rng).map(|(key, n)| (*key, *n)) else {
        return Ok(());
    };
    let messages = [
        message::parse("", "SELECT mark, n FROM marks WHERE id = $1", &[]),
        message::bind_text(&[&key.to_string()]),
        message::execute("", 0),
        message::sync(),
    ];
    let row = format!("DataRow {} {n}", s.mark);
    let lines = [
        "ParseComplete",
        "BindComplete",
        &row,
        "CommandComplete SELECT 1",
        IDLE,
    ];
    s.exchange("a row by its key", &messages, &lines).await
}

/// A transaction over shards with a savepoint and an error, committed or rolled back.
pub async fn transaction(s: &mut Session, rng: &mut StdRng) -> Result<(), Fault> {
    let new = free(s, rng);
    let [a, b, ..] = new.as_slice() else {
        let all = s.rows.keys().copied().collect::<Vec<_>>();
        let sql = format!("DELETE FROM marks WHERE id IN ({})", list(all.clone()));
        let done = format!("CommandComplete DELETE {}", all.len());
        s.rows.clear();
        return s.expect(&sql, &[&done, IDLE]).await;
    };
    let m = s.mark;
    let insert = |key: i64| format!("INSERT INTO marks (id, mark, n) VALUES ({key}, '{m}', 1)");
    let inserted = ["CommandComplete INSERT 0 1", WITHIN];
    s.expect("BEGIN", &BEGUN).await?;
    s.expect(&insert(*a), &inserted).await?;
    if rng.random() {
        let saved = ["CommandComplete SAVEPOINT", WITHIN];
        s.expect("SAVEPOINT here", &saved).await?;
        let double = "Error 23505 duplicate key value violates unique constraint \"marks_pkey\"";
        s.expect(&insert(*a), &[double, FAILED]).await?;
        let refused = "Error 25P02 current transaction is aborted, \
            commands ignored until end of transaction block";
        s.expect("SELECT 1", &[refused, FAILED]).await?;
        let back = ["CommandComplete ROLLBACK", WITHIN];
        s.expect("ROLLBACK TO here", &back).await?;
    }
    s.expect(&insert(*b), &inserted).await?;
    let row = format!("DataRow {m}");
    let sql = format!("SELECT mark FROM marks WHERE id IN ({a}, {b})");
    let found = [
        "RowDescription mark",
        &row,
        &row,
        "CommandComplete SELECT 2",
        WITHIN,
    ];
    s.expect(&sql, &found).await?;
    match rng.random_ratio(2, 3) {
        true => {
            s.expect("COMMIT", &["CommandComplete COMMIT", IDLE])
                .await?;
            s.rows.extend([(*a, 1), (*b, 1)]);
        }
        false => {
            s.expect("ROLLBACK", &["CommandComplete ROLLBACK", IDLE])
                .await?;
        }
    }
    read(s).await
}

/// Rows of a table that is not declared, and of one that every shard has.
pub async fn elsewhere(s: &mut Session, rng: &mut StdRng) -> Result<(), Fault> {
    let table = if rng.random_ratio(1, 3) {
        "tags"
    } else {
        "notes"
    };
    let (m, key) = (s.mark, s.first_key);
    let sql = format!("INSERT INTO {table} (id, mark) VALUES ({key}, '{m}')");
    s.expect(&sql, &["CommandComplete INSERT 0 1", IDLE])
        .await?;
    let row = format!("DataRow {m}");
    let sql = format!("SELECT mark FROM {table} WHERE id = {key}");
    let found = [
        "RowDescription mark",
        &row,
        "CommandComplete SELECT 1",
        IDLE,
    ];
    s.expect(&sql, &found).await?;
    let sql = format!("DELETE FROM {table} WHERE id = {key}");
    s.expect(&sql, &["CommandComplete DELETE 1", IDLE]).await
}

/// COPY in, divided over shards, done or failed, and out.
pub async fn copy(s: &mut Session, rng: &mut StdRng) -> Result<(), Fault> {
    let mut new = free(s, rng);
    new.truncate(rng.random_range(1..5));
    let sql = "COPY marks (id, mark, n) FROM STDIN";
    let mut data = String::new();
    new.iter()
        .for_each(|key| data += &format!("{key}\t{}\t2\n", s.mark));
    s.send(&message::query(sql)).await?;
    let first = s.frame().await?;
    if first.kind != b'G' {
        return Err(wrong(sql, &[first]));
    }
    let size = rng.random_range(5..60);
    let mut pieces: Vec<Vec<u8>> = data
        .as_bytes()
        .chunks(size)
        .map(message::copy_data)
        .collect();
    let given_up = rng.random_ratio(1, 4);
    pieces.push(match given_up {
        true => message::copy_fail(&s.mark.to_string()),
        false => message::copy_done(),
    });
    s.send(&pieces.concat()).await?;
    let frames = s.until_ready(1).await?;
    let told = match given_up {
        true => format!("Error 57014 COPY from stdin failed: {}", s.mark),
        false => format!("CommandComplete COPY {}", new.len()),
    };
    check(sql, &frames, &[&told, IDLE])?;
    if !given_up {
        s.rows.extend(new.into_iter().map(|key| (key, 2)));
    }
    read(s).await?;
    if let Some((key, n)) = s.rows.iter().next() {
        let sql = format!("COPY (SELECT mark, n FROM marks WHERE id = {key}) TO STDOUT");
        let row = format!("CopyData {}\t{n}", s.mark);
        let lines = [
            "CopyOutResponse",
            &row,
            "CopyDone",
            "CommandComplete COPY 1",
            IDLE,
        ];
        s.expect(&sql, &lines).await?;
    }
    match s.rows.len() > 8 {
        true => transaction(s, rng).await,
        false => Ok(()),
    }
}

/// Settings follow the session, and nobody else's do.
pub async fn settings(s: &mut Session, rng: &mut StdRng) -> Result<(), Fault> {
    let m = s.mark;
    let n: u16 = rng.random();
    let one = "CommandComplete SELECT 1";
    match rng.random_range(0..4) {
        0 => {
            s.application = format!("{m}-{n}");
            let sql = format!("SET application_name TO '{}'", s.application);
            s.expect(&sql, &["CommandComplete SET", IDLE]).await?;
        }
        1 => {
            s.setting = Some(format!("{m}/{n}"));
            let sql = format!("SET canary.mark = '{m}/{n}'");
            s.expect(&sql, &["CommandComplete SET", IDLE]).await?;
        }
        2 => {
            s.expect("BEGIN", &BEGUN).await?;
            let sql = format!("SET LOCAL canary.mark = '{m}+{n}'");
            s.expect(&sql, &["CommandComplete SET", WITHIN]).await?;
            let row = format!("DataRow {m}+{n}");
            let shown = [
                "RowDescription canary.mark",
                &row,
                "CommandComplete SHOW",
                WITHIN,
            ];
            s.expect("SHOW canary.mark", &shown).await?;
            s.expect("COMMIT", &["CommandComplete COMMIT", IDLE])
                .await?;
        }
        _ => {
            s.expect("BEGIN", &BEGUN).await?;
            let sql = format!("SET canary.mark = '{m}-{n}'");
            s.expect(&sql, &["CommandComplete SET", WITHIN]).await?;
            s.expect("ROLLBACK", &["CommandComplete ROLLBACK", IDLE])
                .await?;
        }
    }
    let row = format!("DataRow {}", s.application);
    let shown = [
        "RowDescription application_name",
        &row,
        "CommandComplete SHOW",
        IDLE,
    ];
    s.expect("SHOW application_name", &shown).await?;
    let sql = "SELECT current_setting('canary.mark', true) AS a, \
        current_setting('canary.origin', true) AS b";
    let frames = s.query(sql).await?;
    // PostgreSQL itself keeps an empty value of a setting that once had another.
    let unset = |value: &str| value.is_empty() || value == "∅";
    let row = frames.get(1).filter(|frame| frame.kind == b'D');
    let row = row.map(|frame| frame.row_text()).unwrap_or_default();
    let fits = row.len() == 2
        && match &s.setting {
            Some(own) => row[0] == *own,
            None => unset(&row[0]),
        }
        && match has_origin(m) {
            true => row[1] == m.to_string(),
            false => unset(&row[1]),
        }
        && frames[2].to_string() == one;
    match fits {
        true => Ok(()),
        false => Err(wrong(&format!("{sql} with {:?}", s.setting), &frames)),
    }
}

/// A temporary table pins the session; all use the same name for it.
pub async fn temporary(s: &mut Session, rng: &mut StdRng) -> Result<(), Fault> {
    let sql = format!("CREATE TEMP TABLE scratch AS SELECT '{}' AS a", s.mark);
    let one = "CommandComplete SELECT 1";
    s.expect(&sql, &[one, IDLE]).await?;
    let row = format!("DataRow {}", s.mark);
    for _ in 0..2 {
        let found = ["RowDescription a", &row, one, IDLE];
        s.expect("SELECT a FROM scratch", &found).await?;
    }
    if rng.random() {
        let done = ["CommandComplete DISCARD TEMP", IDLE];
        s.expect("DISCARD TEMP", &done).await?;
    } else {
        let done = ["CommandComplete DISCARD ALL", IDLE];
        s.expect("DISCARD ALL", &done).await?;
        s.prepared = Default::default();
        s.setting = None;
        s.application = s.mark.to_string();
    }
    let gone = "Error 42P01 relation \"scratch\" does not exist";
    s.expect("SELECT a FROM scratch", &[gone, IDLE]).await
}

/// Channels of everybody on shared servers; the session's own notification arrives, and no other.
pub async fn notify(s: &mut Session) -> Result<(), Fault> {
    let m = s.mark;
    let listen = format!("LISTEN {m}");
    s.expect(&listen, &["CommandComplete LISTEN", IDLE]).await?;
    let notify = format!("NOTIFY {m}, '{m}'");
    let mut frames = s.query(&notify).await?;
    while !frames.iter().any(|frame| frame.kind == b'A') {
        frames.push(s.frame().await?);
    }
    frames.sort_by_key(|frame| frame.kind);
    // Sorted by kind: NotificationResponse, CommandComplete, ReadyForQuery.
    check(
        &notify,
        &frames,
        &["Notification", "CommandComplete NOTIFY", IDLE],
    )?;
    let body = String::from_utf8_lossy(&frames[0].body[4..]).into_owned();
    if body != format!("{m}\0{m}\0") {
        return Err(Fault::Order(format!("notification {body:?}")));
    }
    s.expect("UNLISTEN *", &["CommandComplete UNLISTEN", IDLE])
        .await
}
