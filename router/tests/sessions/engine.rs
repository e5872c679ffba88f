//! What a simulated server stores and computes: two columns and a key, transactions, prepared transactions, and the
//! router's table of decisions. Where PostgreSQL would wait for a lock, this one fails with 40001 at once.

use crate::sql::{Asked, Column, Condition, Expr, Said, Select, Statement, Value};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// An error of a statement: its SQLSTATE and its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError(pub &'static str, pub String);

fn error<T>(code: &'static str, message: impl Into<String>) -> Result<T, SqlError> {
    Err(SqlError(code, message.into()))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub v: i64,
    pub w: String,
}

/// A table and a row's id.
pub type Key = (String, i64);
/// Of a decision: transaction, process and its start.
type Decider = [String; 3];

/// What one shard has committed, and what is locked there.
#[derive(Default)]
pub struct Shard {
    pub number: usize,
    pub tables: BTreeMap<String, BTreeMap<i64, Row>>,
    pub prepared: BTreeMap<String, Work>,
    /// With whether it commits.
    pub decisions: BTreeMap<Decider, (bool, String)>,
    /// Rows that a transaction has changed or locked.
    pub locks: BTreeMap<Key, u64>,
    /// Decisions of transactions that are open.
    deciding: BTreeSet<Decider>,
    /// Processes, with their starts.
    pub alive: BTreeSet<(i32, i64)>,
    next: u64,
}

/// What a transaction has done so far.
#[derive(Clone, Debug, Default)]
pub struct Work {
    owner: u64,
    pub writes: BTreeMap<Key, Option<Row>>,
    decision: Option<(Decider, String)>,
}

type Settings = BTreeMap<String, String>;

/// An open transaction.
pub struct Transaction {
    work: Work,
    /// The session's settings before it.
    before: Settings,
    local: Settings,
    savepoints: Vec<(String, Work, Settings, Settings)>,
}

/// Where a session is.
#[derive(Default)]
pub enum Tx {
    #[default]
    Idle,
    /// A transaction that a message has begun and its end commits.
    Implicit(Transaction),
    Block(Transaction),
    Failed(Transaction),
}

/// A session of a server.
pub struct Backend {
    pub pid: i32,
    pub started: i64,
    shard: Rc<RefCell<Shard>>,
    session: Settings,
    pub tx: Tx,
}

/// What a statement answers.
#[derive(Clone, Debug)]
pub enum Answer {
    Empty,
    Rows {
        columns: Vec<(String, u32)>,
        rows: Vec<Vec<Value>>,
        command: String,
    },
    Done(String),
    CopyIn(String),
}

impl Shard {
    pub fn new(number: usize) -> Rc<RefCell<Shard>> {
        let mut shard = Shard {
            number,
            ..Shard::default()
        };
        for table in ["t", "r", "h"] {
            shard.tables.insert(table.to_owned(), BTreeMap::new());
        }
        Rc::new(RefCell::new(shard))
    }

    fn commit(&mut self, work: Work) {
        for ((table, id), row) in work.writes {
            let table = self.tables.get_mut(&table).expect("it was found before");
            match row {
                Some(row) => drop(table.insert(id, row)),
                None => drop(table.remove(&id)),
            }
        }
        if let Some((decider, participants)) = work.decision {
            self.deciding.remove(&decider);
            self.decisions.insert(decider, (true, participants));
        }
        self.locks.retain(|_, owner| *owner != work.owner);
    }

    fn undo(&mut self, work: &Work) {
        if let Some((decider, _)) = &work.decision {
            self.deciding.remove(decider);
        }
        self.locks.retain(|_, owner| *owner != work.owner);
    }

    /// Another one's row, or this one's from now on.
    fn lock(&mut self, key: &Key, owner: u64) -> Result<(), SqlError> {
        match *self.locks.entry(key.clone()).or_insert(owner) == owner {
            true => Ok(()),
            false => error(
                "40001",
                "could not serialize access due to concurrent update",
            ),
        }
    }
}

impl Backend {
    pub fn new(shard: &Rc<RefCell<Shard>>, pid: i32) -> Backend {
        let started = i64::from(pid) * 1_000;
        shard.borrow_mut().alive.insert((pid, started));
        Backend {
            pid,
            started,
            shard: Rc::clone(shard),
            session: Settings::new(),
            tx: Tx::Idle,
        }
    }

    /// `I`, `T` or `E`, as ReadyForQuery says it.
    pub fn status(&self) -> u8 {
        match self.tx {
            Tx::Idle => b'I',
            Tx::Implicit(_) | Tx::Block(_) => b'T',
            Tx::Failed(_) => b'E',
        }
    }

    pub fn startup(&mut self, name: &str, value: &str) {
        self.session.insert(name.to_owned(), value.to_owned());
    }

    fn begin(&mut self) -> Transaction {
        let mut shard = self.shard.borrow_mut();
        shard.next += 1;
        Transaction {
            work: Work {
                owner: shard.next,
                ..Work::default()
            },
            before: self.session.clone(),
            local: Settings::new(),
            savepoints: Vec::new(),
        }
    }

    /// A message ends that is a transaction of its own, if none is open.
    pub fn end_implicit(&mut self) {
        match std::mem::take(&mut self.tx) {
            Tx::Implicit(transaction) => self.shard.borrow_mut().commit(transaction.work),
            tx => self.tx = tx,
        }
    }

    /// A statement has failed.
    pub fn fail(&mut self) {
        self.tx = match std::mem::take(&mut self.tx) {
            Tx::Implicit(transaction) => {
                self.roll_back(transaction);
                Tx::Idle
            }
            Tx::Block(transaction) => Tx::Failed(transaction),
            tx => tx,
        };
    }

    fn roll_back(&mut self, transaction: Transaction) {
        self.shard.borrow_mut().undo(&transaction.work);
        self.session = transaction.before;
    }

    /// The session ends.
    pub fn leave(&mut self) {
        match std::mem::take(&mut self.tx) {
            Tx::Idle => {}
            Tx::Implicit(t) | Tx::Block(t) | Tx::Failed(t) => self.roll_back(t),
        }
        let me = (self.pid, self.started);
        self.shard.borrow_mut().alive.remove(&me);
    }

    fn transaction(&mut self) -> &mut Transaction {
        if matches!(self.tx, Tx::Idle) {
            self.tx = Tx::Implicit(self.begin());
        }
        match &mut self.tx {
            Tx::Implicit(transaction) | Tx::Block(transaction) | Tx::Failed(transaction) => {
                transaction
            }
            Tx::Idle => unreachable!("it has just begun"),
        }
    }

    fn setting(&self, name: &str) -> Value {
        let local = match &self.tx {
            Tx::Implicit(t) | Tx::Block(t) | Tx::Failed(t) => t.local.get(name),
            Tx::Idle => None,
        };
        let known = local.or_else(|| self.session.get(name));
        known.map_or(Value::Null, |value| Value::Text(value.clone()))
    }

    fn set(&mut self, name: &str, value: Option<&str>, local: bool) {
        let transaction = self.transaction();
        match (local, value) {
            (true, Some(value)) => {
                let value = value.to_owned();
                transaction.local.insert(name.to_owned(), value);
            }
            (_, value) => {
                transaction.local.remove(name);
                match value {
                    Some(value) => drop(self.session.insert(name.to_owned(), value.to_owned())),
                    None => drop(self.session.remove(name)),
                }
            }
        }
    }

    /// Runs one statement.
    pub fn run(&mut self, statement: &Statement, params: &[Value]) -> Result<Answer, SqlError> {
        if matches!(self.tx, Tx::Failed(_))
            && !matches!(
                statement,
                Statement::Commit | Statement::Rollback | Statement::RollbackTo(_)
            )
        {
            return error(
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
            );
        }
        let done = |command: &str| Ok(Answer::Done(command.to_owned()));
        match statement {
            Statement::Empty => Ok(Answer::Empty),
            Statement::Broken => error("42601", "syntax error"),
            Statement::Begin => {
                self.tx = match std::mem::take(&mut self.tx) {
                    Tx::Idle => Tx::Block(self.begin()),
                    Tx::Implicit(transaction) => Tx::Block(transaction),
                    tx => tx,
                };
                done("BEGIN")
            }
            Statement::Commit => match std::mem::take(&mut self.tx) {
                Tx::Failed(transaction) => {
                    self.roll_back(transaction);
                    done("ROLLBACK")
                }
                Tx::Implicit(transaction) | Tx::Block(transaction) => {
                    self.shard.borrow_mut().commit(transaction.work);
                    done("COMMIT")
                }
                Tx::Idle => done("COMMIT"),
            },
            Statement::Rollback => {
                match std::mem::take(&mut self.tx) {
                    Tx::Idle => {}
                    Tx::Implicit(t) | Tx::Block(t) | Tx::Failed(t) => self.roll_back(t),
                }
                done("ROLLBACK")
            }
            Statement::Savepoint(name) => {
                if !matches!(self.tx, Tx::Block(_)) {
                    return error("25P01", "SAVEPOINT can only be used in transaction blocks");
                }
                let session = self.session.clone();
                let t = self.transaction();
                let saved = (name.clone(), t.work.clone(), session, t.local.clone());
                t.savepoints.push(saved);
                done("SAVEPOINT")
            }
            Statement::RollbackTo(name) => {
                let t = self.transaction();
                let at = t.savepoints.iter().rposition(|saved| saved.0 == *name);
                let Some(at) = at else {
                    return error("3B001", format!("savepoint \"{name}\" does not exist"));
                };
                t.savepoints.truncate(at + 1);
                let (_, work, session, local) = t.savepoints[at].clone();
                let kept: BTreeSet<Key> = work.writes.keys().cloned().collect();
                let owner = work.owner;
                t.local = local;
                t.work = work;
                self.session = session;
                // What was locked since is free again.
                let mut shard = self.shard.borrow_mut();
                shard
                    .locks
                    .retain(|key, by| *by != owner || kept.contains(key));
                drop(shard);
                self.tx = match std::mem::take(&mut self.tx) {
                    Tx::Failed(transaction) => Tx::Block(transaction),
                    tx => tx,
                };
                done("ROLLBACK")
            }
            Statement::Release(name) => {
                let t = self.transaction();
                let at = t.savepoints.iter().rposition(|saved| saved.0 == *name);
                let Some(at) = at else {
                    return error("3B001", format!("savepoint \"{name}\" does not exist"));
                };
                t.savepoints.truncate(at);
                done("RELEASE")
            }
            Statement::Prepare(gid) => match std::mem::take(&mut self.tx) {
                Tx::Block(transaction) => {
                    let mut shard = self.shard.borrow_mut();
                    if shard.prepared.contains_key(gid) {
                        drop(shard);
                        self.roll_back(transaction);
                        return error("42710", "it is prepared already");
                    }
                    shard.prepared.insert(gid.clone(), transaction.work);
                    done("PREPARE TRANSACTION")
                }
                Tx::Failed(transaction) => {
                    self.roll_back(transaction);
                    done("ROLLBACK")
                }
                tx => {
                    self.tx = tx;
                    error(
                        "25P01",
                        "PREPARE TRANSACTION can only be used in transaction blocks",
                    )
                }
            },
            Statement::Finish { gid, commit } => {
                let mut shard = self.shard.borrow_mut();
                let Some(work) = shard.prepared.remove(gid) else {
                    let message =
                        format!("prepared transaction with identifier \"{gid}\" does not exist");
                    return error("42704", message);
                };
                match commit {
                    true => shard.commit(work),
                    false => shard.undo(&work),
                }
                done(match commit {
                    true => "COMMIT PREPARED",
                    false => "ROLLBACK PREPARED",
                })
            }
            Statement::Set { name, value, local } => {
                self.set(name, Some(value), *local);
                done("SET")
            }
            Statement::Reset(name) => {
                match name {
                    Some(name) => self.set(name, None, false),
                    None => {
                        self.transaction().local.clear();
                        self.session.clear();
                    }
                }
                done("RESET")
            }
            Statement::DiscardAll => {
                self.session.clear();
                done("DISCARD ALL")
            }
            Statement::Nothing(command) => done(command),
            Statement::NoRow => Ok(Answer::Rows {
                columns: Vec::new(),
                rows: Vec::new(),
                command: "SELECT 0".into(),
            }),
            Statement::SetConfig(settings) => {
                for (name, value, local) in settings {
                    self.set(name, value.as_deref(), *local);
                }
                let row = settings.iter();
                let row = row.map(|(_, value, _)| Value::Text(value.clone().unwrap_or_default()));
                let row: Vec<Value> = row.collect();
                let name = || ("set_config".to_owned(), 25);
                Ok(rows(row.iter().map(|_| name()).collect(), vec![row]))
            }
            Statement::Select(select) => self.select(select, params),
            Statement::Insert {
                table,
                rows,
                returning,
            } => {
                let mut new = Vec::new();
                for [id, v, w] in rows {
                    let Value::Int(id) = self.eval(id, None, params)? else {
                        return error("23502", "null value in column \"id\"");
                    };
                    let Value::Int(v) = self.eval(v, None, params)? else {
                        return error("23502", "null value in column \"v\"");
                    };
                    let w = match self.eval(w, None, params)? {
                        Value::Text(w) => w,
                        _ => String::new(),
                    };
                    new.push((id, Row { v, w }));
                }
                self.insert(table, &new)?;
                let command = format!("INSERT 0 {}", new.len());
                self.returned(returning, params, &new, command)
            }
            Statement::Update {
                table,
                set,
                conditions,
                returning,
            } => {
                let mut changed = Vec::new();
                for (id, row) in self.matching(table, conditions, params)? {
                    let mut new = row.clone();
                    for (column, value) in set {
                        let value = self.eval(value, Some((id, &row)), params)?;
                        match (column, value) {
                            (Column::V, Value::Int(v)) => new.v = v,
                            (Column::W, Value::Text(w)) => new.w = w,
                            _ => return error("42804", "a value of another type"),
                        }
                    }
                    self.write(table, id, Some(new.clone()))?;
                    changed.push((id, new));
                }
                let command = format!("UPDATE {}", changed.len());
                self.returned(returning, params, &changed, command)
            }
            Statement::Delete {
                table,
                conditions,
                returning,
            } => {
                let gone = self.matching(table, conditions, params)?;
                for (id, _) in &gone {
                    self.write(table, *id, None)?;
                }
                let command = format!("DELETE {}", gone.len());
                self.returned(returning, params, &gone, command)
            }
            Statement::CopyIn { table } => {
                self.transaction();
                Ok(Answer::CopyIn(table.clone()))
            }
            Statement::Decide([id, pid, started, participants]) => {
                let decider = [id.clone(), pid.clone(), started.clone()];
                if *pid != self.pid.to_string() {
                    return error("42501", "decision for another backend");
                }
                self.transaction();
                let mut shard = self.shard.borrow_mut();
                if shard.decisions.contains_key(&decider) {
                    return error("40001", "recovery has ended the transaction");
                }
                shard.deciding.insert(decider.clone());
                drop(shard);
                self.transaction().work.decision = Some((decider, participants.clone()));
                Ok(rows(
                    vec![("decide".into(), 2278)],
                    vec![vec![Value::Text(String::new())]],
                ))
            }
            Statement::Fence(decider) => {
                let mut shard = self.shard.borrow_mut();
                if shard.deciding.contains(decider) {
                    return error("55P03", "canceling statement due to lock timeout");
                }
                let abort = || (false, String::new());
                let (commits, _) = shard.decisions.entry(decider.clone()).or_insert_with(abort);
                let outcome = if *commits { "commit" } else { "abort" };
                let row = vec![Value::Text(outcome.to_owned())];
                Ok(rows(vec![("fence".into(), 25)], vec![row]))
            }
            Statement::Row(said) => {
                self.transaction();
                let row: Vec<Value> = said.iter().map(|one| Value::Text(self.say(one))).collect();
                let columns = said.iter().map(|_| ("said".to_owned(), 25)).collect();
                Ok(rows(columns, vec![row]))
            }
            Statement::Asked(asked) => Ok(self.asked(asked)),
        }
    }

    fn say(&self, said: &Said) -> String {
        match said {
            Said::Text(text) => text.clone(),
            Said::Backend => format!(
                "{} 5 {} {}",
                self.shard.borrow().number + 1,
                self.pid,
                self.started
            ),
            Said::Isolation => "read committed|2026-01-01 00:00:00.000000".to_owned(),
            Said::State => "{\"names\": [], \"types\": false, \"search_path\": \"\\\"$user\\\", public\", \
                \"role\": \"u\", \"session\": \"u\", \"set_role\": \"none\", \"settings\": {}, \"asked\": {}}"
                .to_owned(),
        }
    }

    fn asked(&self, asked: &Asked) -> Answer {
        let mut shard = self.shard.borrow_mut();
        let text = |text: &str| Value::Text(text.to_owned());
        let truth = |truth: bool| text(if truth { "t" } else { "f" });
        let is_alive = |shard: &Shard, pid: &str, started: &str| {
            let pid = pid.parse::<i32>().ok();
            let started = started.parse::<i64>().ok();
            pid.zip(started).is_some_and(|me| shard.alive.contains(&me))
        };
        let found: Vec<Vec<Value>> = match asked {
            Asked::Place => vec![vec![
                text(&(shard.number + 1).to_string()),
                text("5"),
                truth(false),
                truth(true),
            ]],
            Asked::Decisions => {
                let row =
                    |([id, pid, started], (commits, participants)): (&Decider, &(bool, String))| {
                        vec![
                            text(id),
                            text(pid),
                            text(started),
                            truth(*commits),
                            text(participants),
                            text("60000"),
                            truth(!commits && is_alive(&shard, pid, started)),
                            text("2026-01-01 00:00:00+00"),
                        ]
                    };
                shard.decisions.iter().map(row).collect()
            }
            Asked::Held => {
                let row = |gid: &String| vec![text(gid), text("u"), text("5000"), truth(true)];
                shard.prepared.keys().map(row).collect()
            }
            Asked::Outcomes(keys) => {
                let row = |[number, id, pid, started]: &[String; 4]| {
                    let decider = [id.clone(), pid.clone(), started.clone()];
                    let decided = shard.decisions.get(&decider);
                    vec![
                        text(number),
                        decided.map_or(Value::Null, |(commits, _)| truth(*commits)),
                        truth(is_alive(&shard, pid, started)),
                    ]
                };
                keys.iter().map(row).collect()
            }
            Asked::Forget(keys) => {
                let before = shard.decisions.len();
                for [id, pid, started, commits] in keys {
                    let decider = [id.clone(), pid.clone(), started.clone()];
                    let same = |(known, _): &(bool, String)| known.to_string() == *commits;
                    if shard.decisions.get(&decider).is_some_and(same) {
                        shard.decisions.remove(&decider);
                    }
                }
                vec![vec![text(&(before - shard.decisions.len()).to_string())]]
            }
            Asked::Owner => Vec::new(),
        };
        let width = found.first().map_or(1, Vec::len);
        rows(vec![("column".to_owned(), 25); width], found)
    }

    fn select(&mut self, select: &Select, params: &[Value]) -> Result<Answer, SqlError> {
        self.transaction();
        let columns = select.items.iter();
        let columns = columns
            .map(|(item, name)| (name.clone(), item.type_oid()))
            .collect();
        let Some(table) = &select.table else {
            let row = select.items.iter();
            let row = row.map(|(item, _)| self.eval(item, None, params));
            return Ok(rows(columns, vec![row.collect::<Result<_, _>>()?]));
        };
        let mut found = self.matching(table, &select.conditions, params)?;
        if select.items.iter().any(|(item, _)| item.is_aggregate()) {
            let row = select.items.iter();
            let row = row.map(|(item, _)| self.aggregate(item, &found, params));
            return Ok(rows(columns, vec![row.collect::<Result<_, _>>()?]));
        }
        for (by, descends) in select.order.iter().rev() {
            // A number is the place of a column.
            let place = match by {
                Expr::Value(Value::Int(place)) => usize::try_from(*place).ok(),
                _ => None,
            };
            let by = place.map_or(by, |place| &select.items[place - 1].0);
            let mut keyed = Vec::new();
            for (id, row) in found {
                keyed.push((self.eval(by, Some((id, &row)), params)?, id, row));
            }
            keyed.sort_by(|a, b| match descends {
                false => a.0.cmp(&b.0),
                true => b.0.cmp(&a.0),
            });
            found = keyed.into_iter().map(|(_, id, row)| (id, row)).collect();
        }
        if let Some(limit) = &select.limit
            && let Value::Int(most) = self.eval(limit, None, params)?
        {
            found.truncate(usize::try_from(most).unwrap_or(0));
        }
        let mut all = Vec::new();
        for (id, row) in &found {
            if select.locks {
                let owner = self.transaction().work.owner;
                let key = (table.clone(), *id);
                self.shard.borrow_mut().lock(&key, owner)?;
            }
            let row = select
                .items
                .iter()
                .map(|(item, _)| self.eval(item, Some((*id, row)), params));
            all.push(row.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(rows(columns, all))
    }

    fn aggregate(
        &self,
        item: &Expr,
        found: &[(i64, Row)],
        params: &[Value],
    ) -> Result<Value, SqlError> {
        let of = |column: &Column| -> Vec<i64> {
            let value = |(id, row): &(i64, Row)| match column {
                Column::Id => *id,
                Column::V | Column::W => row.v,
            };
            found.iter().map(value).collect()
        };
        Ok(match item {
            Expr::Count => Value::Int(i64::try_from(found.len()).unwrap_or(i64::MAX)),
            Expr::Sum(_) if found.is_empty() => Value::Null,
            Expr::Sum(column) => Value::Sum(of(column).iter().sum()),
            Expr::Max(column) => of(column).into_iter().max().map_or(Value::Null, Value::Int),
            other => self.eval(other, None, params)?,
        })
    }

    fn returned(
        &mut self,
        returning: &[(Expr, String)],
        params: &[Value],
        found: &[(i64, Row)],
        command: String,
    ) -> Result<Answer, SqlError> {
        if returning.is_empty() {
            return Ok(Answer::Done(command));
        }
        let columns = returning.iter();
        let columns = columns.map(|(item, name)| (name.clone(), item.type_oid()));
        let mut all = Vec::new();
        for (id, row) in found {
            let row = returning
                .iter()
                .map(|(item, _)| self.eval(item, Some((*id, row)), params));
            all.push(row.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(Answer::Rows {
            columns: columns.collect(),
            rows: all,
            command,
        })
    }

    /// Stores rows that must be new.
    pub fn insert(&mut self, table: &str, new: &[(i64, Row)]) -> Result<(), SqlError> {
        for (id, row) in new {
            let known = self.visible(table)?;
            if known.contains_key(id) {
                let message =
                    format!("duplicate key value violates unique constraint \"{table}_pkey\"");
                return error("23505", message);
            }
            self.write(table, *id, Some(row.clone()))?;
        }
        Ok(())
    }

    fn write(&mut self, table: &str, id: i64, row: Option<Row>) -> Result<(), SqlError> {
        let key = (table.to_owned(), id);
        let owner = self.transaction().work.owner;
        self.shard.borrow_mut().lock(&key, owner)?;
        self.transaction().work.writes.insert(key, row);
        Ok(())
    }

    /// The rows of a table as this session sees them.
    fn visible(&mut self, table: &str) -> Result<BTreeMap<i64, Row>, SqlError> {
        let rows = self.shard.borrow().tables.get(table).cloned();
        let Some(mut rows) = rows else {
            return error("42P01", format!("relation \"{table}\" does not exist"));
        };
        for ((of, id), row) in &self.transaction().work.writes {
            match row {
                _ if of != table => {}
                Some(row) => drop(rows.insert(*id, row.clone())),
                None => drop(rows.remove(id)),
            }
        }
        Ok(rows)
    }

    fn matching(
        &mut self,
        table: &str,
        conditions: &[Condition],
        params: &[Value],
    ) -> Result<Vec<(i64, Row)>, SqlError> {
        let mut found = Vec::new();
        for (id, row) in self.visible(table)? {
            let mut all = true;
            for condition in conditions {
                let left = self.eval(&condition.left, Some((id, &row)), params)?;
                let mut any = false;
                for right in &condition.right {
                    let right = self.eval(right, Some((id, &row)), params)?;
                    let is_null = left == Value::Null || right == Value::Null;
                    any |= !is_null
                        && match condition.op.as_str() {
                            "=" => left == right,
                            "<>" => left != right,
                            "<" => left < right,
                            "<=" => left <= right,
                            ">" => left > right,
                            ">=" => left >= right,
                            other => return error("42883", format!("no operator {other}")),
                        };
                }
                all &= any;
            }
            if all {
                found.push((id, row));
            }
        }
        Ok(found)
    }

    fn eval(
        &self,
        expr: &Expr,
        row: Option<(i64, &Row)>,
        params: &[Value],
    ) -> Result<Value, SqlError> {
        Ok(match expr {
            Expr::Value(value) => value.clone(),
            Expr::Param(number) => match params.get(number - 1) {
                Some(value) => value.clone(),
                None => return error("42P02", format!("there is no parameter ${number}")),
            },
            Expr::Column(column) => match (row, column) {
                (None, _) => return error("42703", "there is no such column"),
                (Some((id, _)), Column::Id) => Value::Int(id),
                (Some((_, row)), Column::V) => Value::Int(row.v),
                (Some((_, row)), Column::W) => Value::Text(row.w.clone()),
            },
            Expr::Setting(name) => self.setting(name),
            Expr::Binary(op, left, right) => {
                let left = self.eval(left, row, params)?;
                let right = self.eval(right, row, params)?;
                match (left, right) {
                    (Value::Int(left), Value::Int(right)) => Value::Int(match op {
                        '+' => left + right,
                        '-' => left - right,
                        '*' => left * right,
                        _ if right == 0 => return error("22012", "division by zero"),
                        _ => left / right,
                    }),
                    _ => Value::Null,
                }
            }
            Expr::Count | Expr::Sum(_) | Expr::Max(_) => {
                return error("42803", "an aggregate is not allowed here");
            }
        })
    }
}

fn rows(columns: Vec<(String, u32)>, rows: Vec<Vec<Value>>) -> Answer {
    let command = format!("SELECT {}", rows.len());
    Answer::Rows {
        columns,
        rows,
        command,
    }
}
