//! Recovery where MongoDB decides: the same questions, as [`Question`]s. Nothing is ever prepared there.

use super::{Backend, CHUNK, Decider, Decision, Place, Recovery, Servers, Site, TransactionId};
use super::{Duration, Trouble, field, milliseconds, names};
use crate::commit::question::Question;
use tokio_postgres::SimpleQueryRow;

/// An abort is remembered so long: no transaction lives longer in MongoDB (`transactionLifetimeLimitSeconds`, a minute
/// unless it is set), so that none can come after it that was begun before.
const ABORTED: Duration = Duration::from_secs(3_600);

impl<S: Servers> Recovery<S> {
    async fn question(
        &self,
        site: &Site,
        question: &Question,
    ) -> Result<Vec<SimpleQueryRow>, Trouble> {
        let sql = question.sql(&self.settings.schema);
        self.ask(site, &[&sql]).await
    }

    /// Which database it is, its decisions, and where to go on next time.
    pub(super) async fn documented(
        &self,
        site: &Site,
    ) -> Result<(Place, Vec<Decision>, Option<String>), Trouble> {
        let rows = self.question(site, &Question::Place).await?;
        let system = field(rows.first().ok_or(Trouble::Strange)?, 0)?;
        let from = self.cursors.get(site).and_then(|from| from.parse().ok());
        let question = Question::Decisions {
            from: from.unwrap_or(i64::MIN),
            rows: self.settings.rows,
        };
        let rows = self.question(site, &question).await?;
        let decisions = rows.iter().map(|row| read(system, row));
        let decisions = decisions.collect::<Result<_, _>>()?;
        let is_full = rows.len() >= self.settings.rows as usize;
        let last = rows.last().filter(|_| is_full).and_then(|row| row.get(5));
        let place = Place {
            system,
            database: 0,
        };
        Ok((place, decisions, last.map(str::to_owned)))
    }

    /// What MongoDB says of transactions; nothing if it does not answer. That a session is still there cannot be seen.
    pub(super) async fn documented_outcomes(
        &self,
        site: &Site,
        keys: Vec<(TransactionId, Backend)>,
    ) -> Vec<((TransactionId, Backend), Decider)> {
        let mut answers = Vec::new();
        for keys in keys.chunks(CHUNK) {
            let ids = keys.iter().map(|(id, _)| *id).collect();
            let rows = match self.question(site, &Question::Outcomes(ids)).await {
                Ok(rows) => rows,
                Err(trouble) => {
                    tracing::warn!(shard = site.shard, error = %trouble, "decisions cannot be read");
                    return answers;
                }
            };
            let outcome = |id: TransactionId| {
                let of = |row: &&SimpleQueryRow| row.get(0) == Some(&id.to_string());
                let row = rows.iter().find(of)?;
                Some(row.get(1) == Some("t"))
            };
            answers.extend(keys.iter().map(|key| {
                let seen = Decider::Seen {
                    outcome: outcome(key.0),
                    alive: true,
                };
                (*key, seen)
            }));
        }
        answers
    }

    /// Deletes decisions; says how many there were.
    pub(super) async fn forget_documented(
        &self,
        site: &Site,
        decisions: &[&Decision],
    ) -> Result<u64, Trouble> {
        let ids = decisions.iter().map(|decision| decision.id).collect();
        let rows = self.question(site, &Question::Forget(ids)).await?;
        field(rows.first().ok_or(Trouble::Strange)?, 0)
    }
}

fn read(system: u64, row: &SimpleQueryRow) -> Result<Decision, Trouble> {
    let uuid = |at: usize| row.get(at).and_then(TransactionId::parse_uuid);
    let age = milliseconds(field(row, 4)?);
    Ok(Decision {
        id: uuid(0).ok_or(Trouble::Strange)?,
        backend: Backend::Session {
            system,
            session: uuid(1).ok_or(Trouble::Strange)?.0,
        },
        committed: row.get(2) == Some("t"),
        participants: names(row.get(3)),
        age,
        alive: age < ABORTED,
    })
}
