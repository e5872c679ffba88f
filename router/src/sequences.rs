//! Gets the values of sequences for columns of sharded tables.
//!
//! Each such sequence counts on the home shard alone; sequences of the same name on other shards are not used. So
//! values are unique over all shards and routers, and keep increment, bounds and cycle. The router takes values in
//! blocks. After a change of definitions it throws away what it took before, because the change may have been a
//! `setval` or an ALTER SEQUENCE. What is thrown away is a gap, as in PostgreSQL. Near the end of a sequence a block is
//! shorter.

use crate::control::{Control, ControlError};
use crate::topology::Topology;
use futures_util::TryStreamExt;
use mothership_catalog::Name;
use mothership_pool::endpoint::Address;
use mothership_proto::report::{Report, sqlstate};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;

/// The database, by the name that clients use, and the sequence.
type Key = (String, Name);

/// The values that this process has taken, by sequence.
#[derive(Debug, Default)]
pub struct Sequences {
    known: Mutex<HashMap<Key, Arc<Cached>>>,
    /// Which role may use which sequence: the epoch of the definitions and the time of the answer.
    allowed: Mutex<HashMap<(Key, String), (u64, Instant)>>,
}

/// A grant may change past this router, so the router asks again after this time what a role may use.
const ASKED_AGAIN: Duration = Duration::from_secs(10);

/// The values that were taken from one sequence.
#[derive(Debug, Default)]
struct Cached {
    block: Mutex<Block>,
    /// Held by the task that takes more values.
    turn: tokio::sync::Mutex<()>,
}

/// Values, and the reason why there are no more.
type Taken = (Vec<i64>, Option<SequenceError>);

/// Values, and the epoch of the definitions when they were asked for.
#[derive(Debug, Default)]
struct Block {
    epoch: u64,
    values: VecDeque<i64>,
}

impl Block {
    /// Takes `count` values, if there are enough of `epoch`.
    fn take(&mut self, epoch: u64, count: usize) -> Option<Vec<i64>> {
        if self.epoch != epoch {
            self.values.clear();
            self.epoch = epoch;
        }
        (self.values.len() >= count).then(|| self.values.drain(..count).collect())
    }

    /// Keeps values that were asked for at `epoch`, and takes up to `count` of them.
    fn refill(&mut self, epoch: u64, values: Vec<i64>, count: usize) -> Vec<i64> {
        if self.epoch != epoch {
            self.values.clear();
            self.epoch = epoch;
        }
        self.values.extend(values);
        self.values.drain(..count.min(self.values.len())).collect()
    }
}

/// Why the router got no values.
#[derive(Debug, thiserror::Error)]
pub enum SequenceError {
    /// No connection to the home shard.
    #[error("values of sequence {sequence}")]
    Control {
        /// Of which.
        sequence: Name,
        /// Why.
        #[source]
        cause: ControlError,
    },
    /// The home shard returned an error.
    #[error("values of sequence {sequence}")]
    Server {
        /// Of which.
        sequence: Name,
        /// Why.
        #[source]
        cause: tokio_postgres::Error,
    },
    /// It took too long. Somebody may hold a lock on the sequence.
    #[error("values of sequence {sequence} took longer than {limit:?} at {address}")]
    TimedOut {
        /// Of which.
        sequence: Name,
        /// Where.
        address: Address,
        /// How long was waited.
        limit: Duration,
    },
}

impl SequenceError {
    /// The error for the client. If the server reported one about the sequence, the client gets that one.
    pub fn report(&self) -> Report {
        let hint = "The values come from the sequence of that name on the home shard, by the control role.";
        let chain = crate::log::Chain(self).to_string();
        match self {
            SequenceError::Server { cause, .. } => match cause.as_db_error() {
                Some(said) => {
                    let code = said.code().code().to_owned();
                    Report::error(code, said.message().to_owned()).hint(hint)
                }
                None => unavailable(chain).hint(hint),
            },
            SequenceError::Control { .. } | SequenceError::TimedOut { .. } => {
                unavailable(chain).hint(hint)
            }
        }
    }
}

fn unavailable(detail: String) -> Report {
    let message = "no values could be taken from a sequence";
    Report::error(sqlstate::CANNOT_CONNECT_NOW, message).detail(detail)
}

impl Sequences {
    fn of(&self, database: &str, sequence: &Name) -> Arc<Cached> {
        let mut known = self.known.lock().expect("nobody panics while holding it");
        let key = (database.to_owned(), sequence.clone());
        Arc::clone(known.entry(key).or_default())
    }

    /// Whether a role may take values of a sequence, by the same rule as nextval.
    ///
    /// # Errors
    /// If the home shard does not answer.
    pub async fn may_use(
        &self,
        (definitions, control): (&AtomicU64, &Control),
        topology: &Topology,
        (database, sequence): (&str, &Name),
        role: &str,
    ) -> Result<bool, SequenceError> {
        let epoch = definitions.load(Ordering::SeqCst);
        let key = ((database.to_owned(), sequence.clone()), role.to_owned());
        let known = {
            let allowed = self.allowed.lock().expect("nobody panics while holding it");
            allowed.get(&key).copied()
        };
        if known.is_some_and(|(of, when)| of == epoch && when.elapsed() < ASKED_AGAIN) {
            return Ok(true);
        }
        let limit = topology.config.control.timeout;
        let asked = tokio::time::timeout(
            limit,
            is_allowed(control, topology, (database, sequence), role),
        );
        let says = asked.await.unwrap_or_else(|_| {
            Err(SequenceError::TimedOut {
                sequence: sequence.clone(),
                address: topology
                    .likely_primary(topology.home)
                    .endpoint
                    .address
                    .clone(),
                limit,
            })
        })?;
        if says {
            let mut allowed = self.allowed.lock().expect("nobody panics while holding it");
            allowed.retain(|_, (of, when)| *of == epoch && when.elapsed() < ASKED_AGAIN);
            allowed.insert(key, (epoch, Instant::now()));
        }
        Ok(says)
    }

    /// The next values of a sequence, in its order. If the call is dropped, values may be lost.
    ///
    /// # Errors
    /// If the home shard returns none.
    pub async fn next(
        &self,
        (definitions, control): (&AtomicU64, &Control),
        topology: &Topology,
        (database, sequence): (&str, &Name),
        count: usize,
    ) -> Result<Vec<i64>, SequenceError> {
        let cached = self.of(database, sequence);
        let kept = || {
            let epoch = definitions.load(Ordering::SeqCst);
            let mut block = cached.block.lock().expect("nobody panics while holding it");
            block.take(epoch, count)
        };
        if let Some(values) = kept() {
            return Ok(values);
        }
        let limit = topology.config.control.timeout;
        let more = async {
            let _turn = cached.turn.lock().await;
            if let Some(values) = kept() {
                return Ok(values);
            }
            // A change of definitions from here on makes these values invalid.
            let epoch = definitions.load(Ordering::SeqCst);
            let (values, ended) = ask(control, topology, (database, sequence), count).await?;
            let mut block = cached.block.lock().expect("nobody panics while holding it");
            let values = block.refill(epoch, values, count);
            match ended {
                // These values are used up, as they would be in PostgreSQL before it reports the end.
                Some(error) if values.len() < count => Err(error),
                _ => Ok(values),
            }
        };
        match tokio::time::timeout(limit, more).await {
            Ok(values) => values,
            Err(_) => Err(SequenceError::TimedOut {
                sequence: sequence.clone(),
                address: topology
                    .likely_primary(topology.home)
                    .endpoint
                    .address
                    .clone(),
                limit,
            }),
        }
    }
}

/// Takes several values. Each one is taken for good when its row arrives, even if the query fails later.
const TAKE: &str = "SELECT pg_catalog.nextval(s.seqrelid::pg_catalog.regclass) \
    FROM pg_catalog.pg_sequence s, pg_catalog.generate_series(1::pg_catalog.int8, $2::pg_catalog.int8) \
    WHERE s.seqrelid OPERATOR(pg_catalog.=) pg_catalog.to_regclass($1)";

/// The same check as in `nextval_internal` in PostgreSQL's `sequence.c`.
const ALLOWED: &str = "SELECT pg_catalog.has_sequence_privilege($1::pg_catalog.text::pg_catalog.name, \
    pg_catalog.to_regclass($2)::pg_catalog.oid, 'USAGE, UPDATE')";

async fn is_allowed(
    control: &Control,
    topology: &Topology,
    (database, sequence): (&str, &Name),
    role: &str,
) -> Result<bool, SequenceError> {
    let home = topology.home;
    let there = topology.database_on(database, home);
    let client = control.lend(topology, home, &there).await;
    let client = client.map_err(|cause| SequenceError::Control {
        sequence: sequence.clone(),
        cause,
    })?;
    let sequence_name = sequence.quoted();
    let of: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&role, &sequence_name];
    let row = client.ask(client.query_one(ALLOWED, &of)).await;
    let says = row.and_then(|row| row.try_get::<_, Option<bool>>(0));
    // If the sequence does not exist, nextval reports it.
    says.map(|says| says.unwrap_or(true))
        .map_err(|cause| SequenceError::Server {
            sequence: sequence.clone(),
            cause,
        })
}

/// Asks for a block of values, at least `count`. Near the end of the sequence returns what is left, and the error that
/// ended it.
async fn ask(
    control: &Control,
    topology: &Topology,
    (database, sequence): (&str, &Name),
    count: usize,
) -> Result<Taken, SequenceError> {
    let home = topology.home;
    let there = topology.database_on(database, home);
    let client = control
        .lend(topology, home, &there)
        .await
        .map_err(|cause| SequenceError::Control {
            sequence: sequence.clone(),
            cause,
        })?;
    let name = sequence.quoted();
    let block = i64::from(topology.config.sequences.block.get());
    let wanted = i64::try_from(count).unwrap_or(i64::MAX).max(block);
    let of: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&name, &wanted];
    let mut values = Vec::new();
    let asked = client.ask(async {
        let rows = client.query_raw(TAKE, of).await?;
        let mut rows = std::pin::pin!(rows);
        while let Some(row) = rows.try_next().await? {
            values.push(row.try_get(0)?);
        }
        Ok(())
    });
    let cause = asked.await.err();
    let ends = |cause: &tokio_postgres::Error| {
        cause.code() == Some(&SqlState::SEQUENCE_GENERATOR_LIMIT_EXCEEDED)
    };
    let why = cause.map(|cause| {
        let ends = ends(&cause);
        let sequence = sequence.clone();
        (ends, SequenceError::Server { sequence, cause })
    });
    match why {
        Some((false, error)) => Err(error),
        Some((true, error)) => Ok((values, Some(error))),
        None => Ok((values, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_given_once_and_never_after_a_change() {
        let mut block = Block::default();
        assert_eq!(block.take(1, 2), None);
        assert_eq!(block.refill(1, vec![5, 7, 9], 2), [5, 7]);
        assert_eq!(block.take(1, 2), None);
        assert_eq!(block.take(1, 1), Some(vec![9]));
        assert_eq!(block.refill(1, vec![11, 13], 1), [11]);
        // The value that is left was asked for before the change.
        assert_eq!(block.take(2, 1), None);
        assert_eq!(block.refill(2, vec![1, 2, 3], 2), [1, 2]);
        // Another task learned of the change while these were on their way.
        assert_eq!(block.refill(1, vec![20, 21], 1), [20]);
        assert_eq!(block.take(2, 1), None);
    }
}
