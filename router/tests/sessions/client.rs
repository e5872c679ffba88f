//! A simulated client: what it asks, what it must be answered, and what it knows of its own rows.
//!
//! A client writes rows with ids of its own range only, so that it always knows what it must read; where it was not told
//! how a write ended, both are right, but all of the write or nothing of it.

use crate::engine::{Key, Row};
use crate::world::World;
use mothership::core::Core;
use mothership::login;
use mothership_pool::wire::{Pipe, Wire, pipe};
use mothership_proto::backend;
use mothership_proto::frame::{self, Next};
use mothership_proto::frontend::{self, Target};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// No answer takes longer, whatever happens.
const LONGEST: Duration = Duration::from_secs(20);
/// Ids of one range.
pub const RANGE: i64 = 1_000;

/// A row before a write and after it; which of both is there, nobody was told.
pub type Doubt = (Key, Option<Row>, Option<Row>);

/// Rows as one client knows them.
#[derive(Default)]
pub struct Ledger {
    /// They are there and look like this.
    pub sure: BTreeMap<Key, Row>,
    /// Of each of these writes all has happened or nothing: rows before and after.
    pub maybe: Vec<Vec<Doubt>>,
}

impl Ledger {
    fn doubts(&self, key: &Key) -> bool {
        self.maybe.iter().flatten().any(|(known, ..)| known == key)
    }
}

/// What came back for one statement.
#[derive(Debug)]
enum Reply {
    Rows(Vec<Vec<Option<String>>>),
    Done(String),
    Empty,
    Error {
        code: String,
        #[allow(dead_code)] // It is shown where a reply is not what it must be.
        message: String,
    },
}

/// The connection has ended, perhaps with a last word.
#[derive(Debug)]
struct Lost;

type Exchanged = Result<(Vec<Reply>, u8), Lost>;

/// A savepoint: its name, what the block had changed before it, and `app.n` then, of the session and by SET LOCAL.
type Saved = (
    String,
    BTreeMap<Key, Option<Row>>,
    Option<String>,
    Option<String>,
);

/// A transaction block as its client sees it.
#[derive(Default)]
struct Block {
    /// The rows that it has changed.
    pending: BTreeMap<Key, Option<Row>>,
    savepoints: Vec<Saved>,
    failed: bool,
    /// `app.n` before it, and by SET LOCAL within.
    before: Option<String>,
    local: Option<String>,
}

pub struct Client {
    world: Rc<World>,
    core: Rc<Core>,
    rng: SmallRng,
    number: i64,
    /// The first id of its range.
    base: i64,
    next: i64,
    pub ledger: Ledger,
    line: Option<Line>,
    block: Option<Block>,
    /// What it has set `app.n` to.
    setting: Option<String>,
    /// It has asked for a cancel, which may still come.
    cancelled: bool,
}

/// A client's connection.
struct Line {
    stream: Pipe,
    input: Vec<u8>,
    key: Vec<u8>,
    /// Names of statements that it has prepared, with their texts.
    prepared: BTreeSet<String>,
}

/// How a statement is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Simple,
    Unnamed,
    Named,
}

/// A statement with its parameters: in a simple query they are written into the text.
#[derive(Clone, Debug)]
struct Asked {
    sql: String,
    values: Vec<i64>,
}

impl Asked {
    fn new(sql: impl Into<String>, values: &[i64]) -> Asked {
        Asked {
            sql: sql.into(),
            values: values.to_vec(),
        }
    }

    fn plain(&self) -> String {
        let mut sql = self.sql.clone();
        for (at, value) in self.values.iter().enumerate().rev() {
            sql = sql.replace(&format!("${}", at + 1), &value.to_string());
        }
        sql
    }
}

impl Client {
    pub fn new(world: &Rc<World>, core: &Rc<Core>, number: i64, seed: u64) -> Client {
        Client {
            world: Rc::clone(world),
            core: Rc::clone(core),
            rng: SmallRng::seed_from_u64(seed),
            number,
            base: number * 100 * RANGE,
            next: 0,
            ledger: Ledger::default(),
            line: None,
            block: None,
            setting: None,
            cancelled: false,
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn below(&mut self, most: usize) -> usize {
        self.rng.random_range(0..most)
    }

    /// Does so many things, then leaves.
    pub async fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            if self.world.has_failed() {
                return;
            }
            self.world.pause().await;
            if self.line.is_none() && self.connect().await.is_err() {
                continue;
            }
            if self.step().await.is_err() {
                self.drop_line();
            }
        }
        if let Some(mut line) = self.line.take() {
            if self.chance(50) {
                let _ = line.stream.write_all(b"X\0\0\0\x04").await;
            }
            self.block = None;
        }
    }

    /// The connection is gone, and what its transaction did with it. From now on it writes other rows.
    fn drop_line(&mut self) {
        self.line = None;
        self.block = None;
        self.setting = None;
        self.cancelled = false;
    }

    fn me(&self) -> String {
        format!("m{}", self.base)
    }

    fn say(&self, what: impl FnOnce() -> String) {
        self.world.say(|| format!("c{} {}", self.number, what()));
    }

    fn fails(&self, why: impl Into<String>) {
        self.world
            .fails(format!("client {}: {}", self.number, why.into()));
    }

    async fn connect(&mut self) -> Result<(), Lost> {
        self.base += RANGE;
        self.next = 0;
        let (near, far) = pipe();
        let core = Rc::clone(&self.core);
        tokio::task::spawn_local(login::serve(core, Wire::pipe(near), None));
        let mut line = Line {
            stream: far,
            input: Vec::new(),
            key: Vec::new(),
            prepared: BTreeSet::new(),
        };
        let mut packet = 196_608_i32.to_be_bytes().to_vec();
        packet.extend(b"user\0u\0database\0d\0\0");
        let length = i32::try_from(packet.len() + 4).unwrap();
        line.stream
            .write_all(&length.to_be_bytes())
            .await
            .map_err(|_| Lost)?;
        line.stream.write_all(&packet).await.map_err(|_| Lost)?;
        loop {
            let (kind, body) = self.next_message(&mut line).await?;
            match kind {
                b'K' => line.key = body,
                b'Z' => break,
                b'E' => return Err(Lost),
                _ => {}
            }
        }
        self.line = Some(line);
        let me = self.me();
        let (replies, _) = self.simple(&format!("SET app.me = '{me}'")).await?;
        match replies.as_slice() {
            [Reply::Done(_)] => Ok(()),
            // Without it nothing could be said of what it reads.
            _ => {
                self.line = None;
                Err(Lost)
            }
        }
    }

    async fn next_message(&self, line: &mut Line) -> Result<(u8, Vec<u8>), Lost> {
        loop {
            match frame::next(&line.input, 1 << 24) {
                Ok(Next::Whole(frame)) => {
                    let message = (frame.tag(), frame.body().to_vec());
                    let length = frame.bytes.len();
                    line.input.drain(..length);
                    return Ok(message);
                }
                Ok(Next::Partial { .. }) => {
                    let read = line.stream.read_buf(&mut line.input);
                    match tokio::time::timeout(LONGEST, read).await {
                        Ok(Ok(n)) if n > 0 => {}
                        Ok(_) => return Err(Lost),
                        Err(_) => {
                            self.fails("waits for ever");
                            return Err(Lost);
                        }
                    }
                }
                Err(error) => {
                    self.fails(format!("got what is no message: {error}"));
                    return Err(Lost);
                }
            }
        }
    }

    /// Sends messages and takes all that comes up to ReadyForQuery. Now and then it leaves in the middle.
    async fn exchange(&mut self, messages: &[u8], copied: &[u8], described: bool) -> Exchanged {
        let Some(mut line) = self.line.take() else {
            return Err(Lost);
        };
        let mut sent = messages.len();
        let leaves = self.world.faulty() && self.rng.random_range(0..400) < 2;
        if leaves && self.chance(50) {
            sent = self.below(sent);
            self.say(|| format!("leaves behind {sent} bytes"));
        }
        line.stream
            .write_all(&messages[..sent])
            .await
            .map_err(|_| Lost)?;
        if leaves {
            for _ in 0..self.below(6) {
                self.world.pause().await;
            }
            self.say(|| "leaves".to_owned());
            return Err(Lost);
        }
        if self.world.faulty() && !self.cancelled && self.rng.random_range(0..100) < 4 {
            self.cancel(&line.key);
        }
        let mut replies = Vec::new();
        let mut rows: Option<Vec<Vec<Option<String>>>> = None;
        let mut failed = false;
        loop {
            let (kind, body) = self.next_message(&mut line).await?;
            match kind {
                b'T' if rows.is_none() && !failed => rows = Some(Vec::new()),
                b'n' => {}
                b'D' if !failed => {
                    let Some(rows) = &mut rows else {
                        self.fails("got a row without its columns");
                        return Err(Lost);
                    };
                    let values = backend::row_values(&body).map_err(|_| Lost)?;
                    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                    rows.push(values.into_iter().map(|value| value.map(text)).collect());
                }
                b'C' if !failed => {
                    let command = backend::command(&body).map_err(|_| Lost)?;
                    let command = String::from_utf8_lossy(command).into_owned();
                    replies.push(match rows.take() {
                        Some(rows) => {
                            if command != format!("SELECT {}", rows.len()) {
                                self.fails(format!("got {} rows and {command}", rows.len()));
                            }
                            Reply::Rows(rows)
                        }
                        None => Reply::Done(command),
                    });
                }
                b's' if !failed => {
                    replies.push(Reply::Rows(rows.replace(Vec::new()).unwrap_or_default()));
                }
                b'I' if !failed => replies.push(Reply::Empty),
                b'E' => {
                    let field = |wanted: u8| {
                        let mut fields = body.split(|byte| *byte == 0);
                        let found = fields.find(|field| field.first() == Some(&wanted));
                        found.map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
                    };
                    let code = field(b'C').unwrap_or_default();
                    let message = field(b'M').unwrap_or_default();
                    self.say(|| format!("is told {code} {message}"));
                    if failed {
                        self.fails(format!("got a second error: {code} {message}"));
                        return Err(Lost);
                    }
                    if matches!(field(b'V').as_deref(), Some("FATAL" | "PANIC")) {
                        return Err(Lost);
                    }
                    if code == "57014" && !self.cancelled {
                        self.fails("is cancelled, and did not ask for it");
                    }
                    if code.starts_with("XX") {
                        self.fails(format!("got {code} {message}"));
                    }
                    rows = None;
                    failed = true;
                    replies.push(Reply::Error { code, message });
                }
                b'G' => {
                    let mut rest = copied;
                    while !rest.is_empty() {
                        let most = 1 + self.below(rest.len());
                        let (now, later) = rest.split_at(most);
                        let mut message = Vec::new();
                        frame::put(&mut message, b'd', |body| body.extend(now));
                        line.stream.write_all(&message).await.map_err(|_| Lost)?;
                        rest = later;
                    }
                    let end: &[u8] = b"c\0\0\0\x04";
                    line.stream.write_all(end).await.map_err(|_| Lost)?;
                }
                b'1' | b'2' | b'3' | b't' if described => {}
                b'N' | b'S' | b'A' => {}
                b'Z' => {
                    if rows.as_ref().is_some_and(|rows| !rows.is_empty()) {
                        self.fails("got rows without their end");
                    }
                    let status = *body.first().unwrap_or(&b'?');
                    self.line = Some(line);
                    return Ok((replies, status));
                }
                other => {
                    self.fails(format!(
                        "got {:?} (failed {failed}, rows {})",
                        char::from(other),
                        rows.is_some()
                    ));
                    return Err(Lost);
                }
            }
        }
    }

    /// Asks for a cancel of what it does, by another connection.
    fn cancel(&mut self, key: &[u8]) {
        self.cancelled = true;
        self.say(|| "asks for a cancel".to_owned());
        let (core, world) = (Rc::clone(&self.core), Rc::clone(&self.world));
        let mut packet = 16_i32.to_be_bytes().to_vec();
        packet.extend(80_877_102_i32.to_be_bytes());
        packet.extend(key);
        tokio::task::spawn_local(async move {
            world.pause().await;
            let (near, mut far) = pipe();
            tokio::task::spawn_local(login::serve(core, Wire::pipe(near), None));
            let _ = far.write_all(&packet).await;
            let mut rest = Vec::new();
            let _ = far.read_to_end(&mut rest).await;
        });
    }

    async fn simple(&mut self, sql: &str) -> Exchanged {
        self.simple_with(sql, b"").await
    }

    async fn simple_with(&mut self, sql: &str, copied: &[u8]) -> Exchanged {
        self.say(|| sql.to_owned());
        let mut messages = Vec::new();
        frontend::put_query(&mut messages, sql.as_bytes());
        self.exchange(&messages, copied, false).await
    }

    /// Statements of one segment; each with at most so many rows, if not 0.
    async fn extended(&mut self, asked: &[(Asked, i32)], way: Way) -> Exchanged {
        let mut messages = Vec::new();
        for (one, most) in asked {
            self.say(|| format!("{way:?} {} {:?} {most}", one.sql, one.values));
            let named = way == Way::Named;
            let name = match named {
                true => {
                    format!("s{}", one.sql.len())
                        + &one.sql.replace(|c: char| !c.is_alphanumeric(), "")
                }
                false => String::new(),
            };
            let line = self.line.as_mut().ok_or(Lost)?;
            // It is prepared anew where it is not certain that it was.
            if !named || !line.prepared.contains(&name) {
                if named {
                    frontend::put_close(&mut messages, Target::Statement, name.as_bytes());
                }
                frame::put(&mut messages, b'P', |body| {
                    frame::put_str(body, name.as_bytes());
                    frame::put_str(body, one.sql.as_bytes());
                    body.extend(0_i16.to_be_bytes());
                });
            }
            let binary = self.rng.random_bool(0.5);
            let values: Vec<Vec<u8>> = one
                .values
                .iter()
                .map(|value| match binary {
                    true => value.to_be_bytes().to_vec(),
                    false => value.to_string().into_bytes(),
                })
                .collect();
            let format = i16::from(binary);
            frontend::put_bind(
                &mut messages,
                (b"", name.as_bytes()),
                values.iter().map(|value| (format, Some(value.as_slice()))),
                &[],
            );
            frontend::put_describe(&mut messages, Target::Portal, b"");
            frontend::put_execute(&mut messages, b"", *most);
            if *most > 0 {
                frontend::put_execute(&mut messages, b"", 0);
            }
        }
        frame::put(&mut messages, b'S', |_| {});
        let exchanged = self.exchange(&messages, b"", true).await;
        if let (Ok((replies, _)), Way::Named, Some(line)) = (&exchanged, way, &mut self.line) {
            let failed = replies
                .iter()
                .any(|reply| matches!(reply, Reply::Error { .. }));
            for (one, _) in asked.iter().filter(|_| !failed) {
                let name = format!("s{}", one.sql.len())
                    + &one.sql.replace(|c: char| !c.is_alphanumeric(), "");
                line.prepared.insert(name);
            }
        }
        exchanged
    }

    /// One statement, in any way.
    async fn ask(&mut self, asked: Asked) -> Exchanged {
        let way = [Way::Simple, Way::Simple, Way::Unnamed, Way::Named][self.below(4)];
        match way {
            Way::Simple => self.simple(&asked.plain()).await,
            way => self.extended(&[(asked, 0)], way).await,
        }
    }

    /// Checks ReadyForQuery, and what an error makes of a block.
    fn settle(&mut self, replies: &[Reply], status: u8) {
        let failed = replies
            .iter()
            .any(|reply| matches!(reply, Reply::Error { .. }));
        if let Some(block) = &mut self.block {
            block.failed |= failed;
        }
        let expected = match &self.block {
            None => b'I',
            Some(block) if block.failed => b'E',
            Some(_) => b'T',
        };
        if status != expected {
            let (is, should) = (char::from(status), char::from(expected));
            self.fails(format!(
                "ReadyForQuery says {is}, and it is {should}: {replies:?}"
            ));
        }
    }

    /// A row as it is for this client now.
    fn known(&self, key: &Key) -> Option<Row> {
        let pending = self.block.as_ref().and_then(|block| block.pending.get(key));
        match pending {
            Some(row) => row.clone(),
            None => self.ledger.sure.get(key).cloned(),
        }
    }

    /// Its rows of a table in its present range, as it must see them; and those of which nobody knows.
    fn own(&self, table: &str) -> BTreeMap<i64, Row> {
        let ids = self.base..self.base + self.next;
        let key = |id: i64| (table.to_owned(), id);
        ids.filter_map(|id| Some((id, self.known(&key(id))?)))
            .collect()
    }

    fn is_certain(&self, table: &str) -> bool {
        let range = self.base..self.base + RANGE;
        let mut maybe = self.ledger.maybe.iter().flatten();
        !maybe.any(|((of, id), ..)| of == table && range.contains(id))
    }

    fn new_id(&mut self) -> i64 {
        self.next += 1;
        self.base + self.next - 1
    }

    fn mark(&self, id: i64) -> String {
        format!("w{id}")
    }

    fn table(&mut self) -> &'static str {
        match self.below(10) {
            0..7 => "t",
            7..9 => "r",
            _ => "h",
        }
    }

    /// A row of its own that is there for certain, or perhaps one that is not.
    fn some_key(&mut self, table: &str) -> Key {
        let own: Vec<i64> = self.own(table).into_keys().collect();
        let certain = |id: &i64| !self.ledger.doubts(&(table.to_owned(), *id));
        let own: Vec<i64> = own.into_iter().filter(certain).collect();
        match own.len() {
            0 => (table.to_owned(), self.base + RANGE - 1),
            n => (table.to_owned(), own[self.rng.random_range(0..n)]),
        }
    }

    async fn step(&mut self) -> Result<(), Lost> {
        if self.block.is_some() {
            return self.step_in_block().await;
        }
        match self.below(100) {
            0..20 => self.read_one().await,
            20..38 => self.read_many().await,
            38..64 => self.write().await,
            64..70 => self.set().await,
            70..74 => self.copy().await,
            74..80 => self.pipeline().await,
            80..84 => self.script().await,
            _ => {
                let (replies, status) = self.ask(Asked::new("BEGIN", &[])).await?;
                if let [Reply::Done(_)] = replies.as_slice() {
                    self.block = Some(Block {
                        before: self.setting.clone(),
                        ..Block::default()
                    });
                }
                self.settle(&replies, status);
                Ok(())
            }
        }
    }

    async fn step_in_block(&mut self) -> Result<(), Lost> {
        let failed = self.block.as_ref().is_some_and(|block| block.failed);
        match self.below(100) {
            0..20 if !failed => self.read_one().await,
            20..35 if !failed => self.read_many().await,
            35..65 if !failed => self.write().await,
            65..68 if !failed => self.set().await,
            68..70 if !failed => self.copy().await,
            70..76 if !failed => self.savepoint().await,
            76..82 => self.back().await,
            82..85 if !failed => self.wrong().await,
            _ => self.end().await,
        }
    }

    async fn read_one(&mut self) -> Result<(), Lost> {
        let table = self.table();
        let key = self.some_key(table);
        let sql = format!(
            "SELECT id, v, w, current_setting('app.me', true), current_setting('app.n', true) FROM {table} WHERE id = $1"
        );
        let (replies, status) = self.ask(Asked::new(sql, &[key.1])).await?;
        self.settle(&replies, status);
        let [Reply::Rows(rows)] = replies.as_slice() else {
            return self.only_errors(&replies);
        };
        let expected: Vec<Vec<Option<String>>> = self
            .known(&key)
            .into_iter()
            .map(|row| {
                vec![
                    Some(key.1.to_string()),
                    Some(row.v.to_string()),
                    Some(row.w),
                    Some(self.me()),
                    self.setting_now(),
                ]
            })
            .collect();
        self.must_be(rows, &expected);
        Ok(())
    }

    fn setting_now(&self) -> Option<String> {
        let local = self.block.as_ref().and_then(|block| block.local.clone());
        local.or_else(|| self.setting.clone())
    }

    fn must_be(&self, got: &[Vec<Option<String>>], expected: &[Vec<Option<String>>]) {
        // A setting that was reset is empty.
        let plain = |rows: &[Vec<Option<String>>]| -> Vec<Vec<String>> {
            let row = |row: &Vec<Option<String>>| {
                row.iter().map(|v| v.clone().unwrap_or_default()).collect()
            };
            rows.iter().map(row).collect()
        };
        if plain(got) != plain(expected) {
            self.fails(format!("read {got:?}, and it is {expected:?}"));
        }
    }

    /// Nothing else came than errors.
    fn only_errors(&self, replies: &[Reply]) -> Result<(), Lost> {
        if !replies
            .iter()
            .any(|reply| matches!(reply, Reply::Error { .. }))
        {
            self.fails(format!("got {replies:?}"));
        }
        Ok(())
    }

    async fn read_many(&mut self) -> Result<(), Lost> {
        let table = self.table();
        let (low, high) = (self.base, self.base + RANGE - 1);
        let own = self.own(table);
        let certain = self.is_certain(table);
        let kind = self.below(5);
        let text = |value: i64| Some(value.to_string());
        let (sql, values, most) = match kind {
            0 => (format!("SELECT id, w, v FROM {table}"), vec![], 0),
            1 => (
                format!("SELECT count(*), max(v) FROM {table} WHERE id BETWEEN $1 AND $2"),
                vec![low, high],
                0,
            ),
            2 => (
                format!("SELECT id, v FROM {table} WHERE id BETWEEN $1 AND $2 ORDER BY id"),
                vec![low, high],
                0,
            ),
            3 => (
                format!(
                    "SELECT id, v FROM {table} WHERE id BETWEEN $1 AND $2 ORDER BY id DESC LIMIT 3"
                ),
                vec![low, high],
                0,
            ),
            _ => (
                format!("SELECT id, v FROM {table} WHERE id BETWEEN $1 AND $2 ORDER BY id"),
                vec![low, high],
                2,
            ),
        };
        let asked = Asked::new(sql, &values);
        let (replies, status) = match most {
            0 => self.ask(asked).await?,
            most => self.extended(&[(asked, most)], Way::Unnamed).await?,
        };
        self.settle(&replies, status);
        let mut rows: Vec<Vec<Option<String>>> = Vec::new();
        for reply in &replies {
            match reply {
                Reply::Rows(some) => rows.extend(some.iter().cloned()),
                // Of a portal that has no more.
                Reply::Done(command) if command == "SELECT 0" && most > 0 => {}
                _ => return self.only_errors(&replies),
            }
        }
        if most > 0
            && (replies.len() != 2 || matches!(&replies[0], Reply::Rows(rows) if rows.len() > 2))
        {
            self.fails(format!("a portal of two rows gave {replies:?}"));
        }
        let pair = |(id, row): (&i64, &Row)| vec![text(*id), text(row.v)];
        let expected: Vec<Vec<Option<String>>> = match kind {
            0 => {
                for row in &rows {
                    let id = row[0].as_deref().and_then(|id| id.parse::<i64>().ok());
                    let mark = id.map(|id| self.mark(id));
                    if row[1] != mark {
                        self.fails(format!("a row of two others: {row:?}"));
                    }
                }
                rows.retain(|row| {
                    let id = row[0].as_deref().and_then(|id| id.parse::<i64>().ok());
                    id.is_some_and(|id| (low..=high).contains(&id))
                });
                rows.sort();
                let mut all: Vec<_> = own
                    .iter()
                    .map(|(id, row)| vec![text(*id), Some(row.w.clone()), text(row.v)])
                    .collect();
                all.sort();
                all
            }
            1 => {
                let count = i64::try_from(own.len()).unwrap();
                let most = own.values().map(|row| row.v).max();
                vec![vec![text(count), most.map(|most| most.to_string())]]
            }
            3 => own.iter().rev().take(3).map(pair).collect(),
            _ => own.iter().map(pair).collect(),
        };
        if certain {
            self.must_be(&rows, &expected);
        }
        Ok(())
    }

    /// Rows with these changes of values, or none.
    fn changed(
        &self,
        keys: &[Key],
        change: impl Fn(&Row) -> Option<Row>,
    ) -> Vec<(Key, Option<Row>)> {
        let change = |key: &Key| Some((key.clone(), change(&self.known(key)?)));
        keys.iter().filter_map(change).collect()
    }

    /// A statement that writes, and what it changes.
    fn writing(&mut self) -> (Asked, Vec<(Key, Option<Row>)>) {
        let table = self.table();
        let value = self.rng.random_range(0..1_000);
        let (low, high) = (self.base, self.base + RANGE - 1);
        match self.below(10) {
            0..4 => {
                let id = self.new_id();
                let w = self.mark(id);
                let sql = format!("INSERT INTO {table} (id, v, w) VALUES ($1, $2, '{w}')");
                let row = Row { v: value, w };
                (
                    Asked::new(sql, &[id, value]),
                    vec![((table.to_owned(), id), Some(row))],
                )
            }
            4..6 => {
                let (mut rows, mut changes) = (Vec::new(), Vec::new());
                for _ in 0..2 + self.below(4) {
                    let id = self.new_id();
                    let w = self.mark(id);
                    rows.push(format!("({id}, {value}, '{w}')"));
                    changes.push(((table.to_owned(), id), Some(Row { v: value, w })));
                }
                let sql = format!("INSERT INTO {table} (id, v, w) VALUES {}", rows.join(", "));
                (Asked::new(sql, &[]), changes)
            }
            6..8 => {
                let key = self.some_key(table);
                let sql = format!("UPDATE {table} SET v = v + $1 WHERE id = $2");
                let changes = self.changed(std::slice::from_ref(&key), |row| {
                    Some(Row {
                        v: row.v + value,
                        ..row.clone()
                    })
                });
                (Asked::new(sql, &[value, key.1]), changes)
            }
            8 if self.is_certain(table) => {
                let keys: Vec<Key> = self
                    .own(table)
                    .into_keys()
                    .map(|id| (table.to_owned(), id))
                    .collect();
                let sql = format!("UPDATE {table} SET v = v + 1 WHERE id BETWEEN $1 AND $2");
                let changes = self.changed(&keys, |row| {
                    Some(Row {
                        v: row.v + 1,
                        ..row.clone()
                    })
                });
                (Asked::new(sql, &[low, high]), changes)
            }
            _ => {
                let key = self.some_key(table);
                let sql = format!("DELETE FROM {table} WHERE id = $1");
                let changes = self.changed(std::slice::from_ref(&key), |_| None);
                (Asked::new(sql, &[key.1]), changes)
            }
        }
    }

    async fn write(&mut self) -> Result<(), Lost> {
        let (asked, changes) = self.writing();
        let exchanged = self.ask(asked).await;
        self.wrote(exchanged, changes, 1)
    }

    /// A write, or several that are one transaction, has ended; so many commands must have come.
    fn wrote(
        &mut self,
        exchanged: Exchanged,
        changes: Vec<(Key, Option<Row>)>,
        commands: usize,
    ) -> Result<(), Lost> {
        let Ok((replies, status)) = exchanged else {
            self.in_doubt(changes);
            return Err(Lost);
        };
        self.settle(&replies, status);
        let error = replies.iter().find_map(|reply| match reply {
            Reply::Error { code, .. } => Some(code.as_str()),
            _ => None,
        });
        match error {
            None if replies.len() != commands => {
                self.fails(format!("{commands} statements, and {replies:?}"))
            }
            None => self.apply(changes),
            Some("08007") => self.in_doubt(changes),
            Some(_) => {}
        }
        Ok(())
    }

    fn apply(&mut self, changes: Vec<(Key, Option<Row>)>) {
        for (key, row) in changes {
            match (&mut self.block, row) {
                (Some(block), row) => drop(block.pending.insert(key, row)),
                (None, Some(row)) => drop(self.ledger.sure.insert(key, row)),
                (None, None) => drop(self.ledger.sure.remove(&key)),
            }
        }
    }

    /// Nobody knows whether these have happened. Within a block they have not, or are undone with it.
    fn in_doubt(&mut self, changes: Vec<(Key, Option<Row>)>) {
        if self.block.is_some() || changes.is_empty() {
            return;
        }
        let mut doubt: BTreeMap<Key, (Option<Row>, Option<Row>)> = BTreeMap::new();
        for (key, after) in changes {
            let before = self.ledger.sure.get(&key).cloned();
            let entry = doubt.entry(key).or_insert((before, None));
            entry.1 = after;
        }
        for key in doubt.keys() {
            self.ledger.sure.remove(key);
        }
        let doubt = doubt
            .into_iter()
            .map(|(key, (before, after))| (key, before, after));
        self.ledger.maybe.push(doubt.collect());
    }

    async fn set(&mut self) -> Result<(), Lost> {
        let value = self.rng.random_range(0..100).to_string();
        let local = self.block.is_some() && self.chance(50);
        let reset = !local && self.chance(25);
        let sql = match (local, reset) {
            (true, _) => format!("SET LOCAL app.n = '{value}'"),
            (_, true) => "RESET app.n".to_owned(),
            _ => format!("SET app.n = '{value}'"),
        };
        let (replies, status) = self.ask(Asked::new(sql, &[])).await?;
        self.settle(&replies, status);
        if !matches!(replies.as_slice(), [Reply::Done(_)]) {
            return self.only_errors(&replies);
        }
        match (&mut self.block, local) {
            (Some(block), true) => block.local = Some(value),
            (block, _) => {
                if let Some(block) = block {
                    block.local = None;
                }
                self.setting = (!reset).then_some(value);
            }
        }
        Ok(())
    }

    async fn copy(&mut self) -> Result<(), Lost> {
        let table = self.table();
        let value = self.rng.random_range(0..1_000);
        let (mut text, mut changes) = (String::new(), Vec::new());
        for _ in 0..1 + self.below(5) {
            let id = self.new_id();
            let w = self.mark(id);
            text += &format!("{id}\t{value}\t{w}\n");
            changes.push(((table.to_owned(), id), Some(Row { v: value, w })));
        }
        let sql = format!("COPY {table} (id, v, w) FROM STDIN");
        let exchanged = self.simple_with(&sql, text.as_bytes()).await;
        self.wrote(exchanged, changes, 1)
    }

    /// Several statements of one segment: they are one transaction.
    async fn pipeline(&mut self) -> Result<(), Lost> {
        let (mut asked, mut changes) = (Vec::new(), Vec::new());
        let mut touched = BTreeSet::new();
        for _ in 0..2 + self.below(3) {
            let (one, some) = self.writing();
            // What a statement does must not depend on one before it.
            if some.iter().any(|(key, _)| touched.contains(key)) {
                continue;
            }
            touched.extend(some.iter().map(|(key, _)| key.clone()));
            // Rows of a range that were just made would be changed, too.
            let is_range = one.sql.contains("BETWEEN");
            if is_range && !asked.is_empty() {
                continue;
            }
            asked.push((one, 0));
            changes.extend(some);
        }
        let count = asked.len();
        let exchanged = self.extended(&asked, Way::Unnamed).await;
        self.wrote(exchanged, changes, count)
    }

    /// The same as one text.
    async fn script(&mut self) -> Result<(), Lost> {
        let (first, mut changes) = self.writing();
        let (second, more) = self.writing();
        let is_range = second.sql.contains("BETWEEN");
        let mut text = first.plain();
        let mut count = 1;
        if !is_range
            && !more
                .iter()
                .any(|(key, _)| changes.iter().any(|(known, _)| known == key))
        {
            text = format!("{text}; {}", second.plain());
            changes.extend(more);
            count = 2;
        }
        let exchanged = self.simple(&text).await;
        self.wrote(exchanged, changes, count)
    }

    async fn savepoint(&mut self) -> Result<(), Lost> {
        let name = ["a", "b"][self.below(2)].to_owned();
        let (replies, status) = self
            .ask(Asked::new(format!("SAVEPOINT {name}"), &[]))
            .await?;
        self.settle(&replies, status);
        let setting = self.setting.clone();
        if let ([Reply::Done(_)], Some(block)) = (replies.as_slice(), &mut self.block) {
            let saved = (name, block.pending.clone(), setting, block.local.clone());
            block.savepoints.push(saved);
        }
        Ok(())
    }

    async fn back(&mut self) -> Result<(), Lost> {
        let Some((name, ..)) = self
            .block
            .as_ref()
            .and_then(|block| block.savepoints.last())
        else {
            return Ok(());
        };
        let sql = format!("ROLLBACK TO SAVEPOINT {name}");
        let (replies, status) = self.ask(Asked::new(sql, &[])).await?;
        if let ([Reply::Done(_)], Some(block)) = (replies.as_slice(), &mut self.block)
            && let Some((_, pending, setting, local)) = block.savepoints.last().cloned()
        {
            block.pending = pending;
            block.failed = false;
            block.local = local;
            self.setting = setting;
        }
        self.settle(&replies, status);
        Ok(())
    }

    /// A statement that fails.
    async fn wrong(&mut self) -> Result<(), Lost> {
        let table = self.table();
        let key = self.some_key(table);
        let there = self.known(&key).is_some();
        let sql = format!("SELECT v / 0 FROM {table} WHERE id = $1");
        let (replies, status) = self.ask(Asked::new(sql, &[key.1])).await?;
        self.settle(&replies, status);
        if there && !matches!(replies.as_slice(), [Reply::Error { .. }]) {
            self.fails(format!("divides by zero and gets {replies:?}"));
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Lost> {
        let commits = self.chance(75);
        let sql = if commits { "COMMIT" } else { "ROLLBACK" };
        let exchanged = self.ask(Asked::new(sql, &[])).await;
        let Some(mut block) = self.block.take() else {
            return Ok(());
        };
        // What stops COMMIT before it does anything leaves the block, failed.
        if let Ok((replies, b'E')) = &exchanged
            && matches!(replies.as_slice(), [Reply::Error { .. }])
        {
            block.failed = true;
            self.block = Some(block);
            return Ok(());
        }
        let changes: Vec<(Key, Option<Row>)> = block.pending.into_iter().collect();
        let Ok((replies, status)) = exchanged else {
            if commits && !block.failed {
                self.in_doubt(changes);
            }
            return Err(Lost);
        };
        // A server may be lost between the end of a statement and ReadyForQuery.
        let unknown = |reply: &Reply| matches!(reply, Reply::Error { code, .. } if code == "08007");
        if replies.iter().any(unknown) {
            if commits {
                self.in_doubt(changes);
            }
            // Which settings hold is not known either.
            return Err(Lost);
        }
        self.settle(&replies, status);
        match replies.as_slice() {
            [Reply::Done(command)] if command == "COMMIT" && !block.failed && commits => {
                self.apply(changes)
            }
            [Reply::Done(command)] if command == "ROLLBACK" && (block.failed || !commits) => {
                self.setting = block.before;
            }
            [Reply::Error { .. }] => self.setting = block.before,
            other => self.fails(format!(
                "{sql} of a block (failed {}) gets {other:?}",
                block.failed
            )),
        }
        Ok(())
    }
}

/// A row as it may be at the end.
pub fn agree(there: Option<&Row>, known: &Option<Row>) -> bool {
    there == known.as_ref()
}
