//! The decisions of transactions over several servers, as documents: what [`Question`]s ask is done here.
//!
//! What is said of an outcome is said by the majority of the members, so that no failover takes it back.

use super::outcome::{Stop, is_duplicate, is_forbidden, is_there, stop};
use super::work::{KILLED, Worker, durably};
use crate::commit::gid::TransactionId;
use crate::commit::question::Question;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, doc};
use mongodb::error::Error;
use mongodb::options::{CollectionOptions, ReadConcern, ReturnDocument};
use mongodb::{Client, Collection, Database};
use mothership_proto::report::{Report, sqlstate};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

/// The `_id` of the document that gives a database its number.
const NUMBER: &str = "number";

type Row = Vec<Option<String>>;

/// The collections of decisions in the databases of one member, the numbers of these databases as far as they have been
/// asked for, and the collections that are known to be there.
#[derive(Clone)]
pub(super) struct Decisions {
    name: String,
    numbers: Arc<Mutex<HashMap<String, i64>>>,
    made: Arc<Mutex<HashSet<(String, String)>>>,
}

impl Decisions {
    /// Those of this schema.
    pub fn new(schema: &str) -> Decisions {
        Decisions {
            name: format!("{schema}.decision"),
            numbers: Arc::default(),
            made: Arc::default(),
        }
    }

    /// What the collection is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The collection of a database.
    pub fn of(&self, client: &Client, database: &str) -> Collection<Document> {
        let options = CollectionOptions::builder()
            .read_concern(ReadConcern::majority())
            .write_concern(durably())
            .build();
        let database = client.database(database);
        database.collection_with_options(&self.name, options)
    }

    /// The number of a database, given to it if it has none. The collection is there afterwards: in a transaction
    /// whose snapshot is older than a collection nothing can be written to it.
    pub async fn number(&self, client: &Client, database: &str) -> Result<i64, Error> {
        if let Some(number) = self.known().get(database) {
            return Ok(*number);
        }
        let decisions = self.of(client, database);
        let new = i64::from(rand::random::<u32>()) << 31 | i64::from(rand::random::<u32>() >> 1);
        let given = decisions
            .find_one_and_update(
                doc! { "_id": NUMBER },
                doc! { "$setOnInsert": { "number": new } },
            )
            .upsert(true)
            .return_document(ReturnDocument::After)
            .await?;
        let given = given.and_then(|given| given.get_i64("number").ok());
        let number = given.ok_or_else(|| Error::custom("the database has no number"))?;
        self.known().insert(database.to_owned(), number);
        Ok(number)
    }

    /// Sees to it that a collection is there before a transaction begins that may insert into it: of two transactions
    /// that would make it, one could not commit.
    pub async fn make(&self, database: &Database, collection: &str) {
        let name = (database.name().to_owned(), collection.to_owned());
        if self.made().contains(&name) {
            return;
        }
        let create = database.run_command(doc! { "create": collection });
        match tokio::time::timeout(KILLED, create).await {
            Ok(Ok(_)) => drop(self.made().insert(name)),
            // Who may make none need not try again.
            Ok(Err(error)) if is_there(&error) || is_forbidden(&error) => {
                self.made().insert(name);
            }
            // The transaction itself may make it, or say what is wrong.
            Ok(Err(error)) => tracing::debug!(%error, "a collection is not made"),
            Err(_) => {}
        }
    }

    fn made(&self) -> MutexGuard<'_, HashSet<(String, String)>> {
        // As below.
        self.made.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, i64>> {
        // Whoever panicked while holding it left plain values.
        self.numbers.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Worker {
    /// The rows that answer a question. Of a decision the transaction must be open.
    pub async fn answer(&mut self, question: &Question) -> Result<Vec<Row>, Stop> {
        match question {
            Question::Backend => {
                let number = self.number().await.map_err(told)?;
                let session = self.own_session().await?;
                Ok(vec![one(format!("session {number} {session}"))])
            }
            Question::Place => {
                let number = self.number().await.map_err(told)?;
                Ok(vec![one(number.to_string())])
            }
            Question::Decide {
                id,
                session,
                participants,
            } => {
                self.decide(*id, *session, participants).await?;
                Ok(vec![one(String::new())])
            }
            Question::Fence { id, session } => {
                let committed = self.fence(*id, *session).await?;
                let outcome = if committed { "commit" } else { "abort" };
                Ok(vec![one(outcome.to_owned())])
            }
            Question::Decisions { from, rows } => self.all(*from, *rows).await.map_err(told),
            Question::Outcomes(ids) => self.outcomes(ids).await.map_err(told),
            Question::Forget(ids) => {
                let gone = doc! { "_id": { "$in": all(ids) } };
                let gone = self.decisions().delete_many(gone).await.map_err(told)?;
                Ok(vec![one(gone.deleted_count.to_string())])
            }
        }
    }

    async fn own_session(&mut self) -> Result<TransactionId, Stop> {
        let session = self.session().await?.id();
        let id = session.get("id").and_then(number_of);
        id.ok_or_else(|| not_ours("the session has no UUID"))
    }

    async fn decide(
        &mut self,
        id: TransactionId,
        session: u128,
        participants: &str,
    ) -> Result<(), Stop> {
        if self.own_session().await?.0 != session || !self.in_transaction {
            return Err(not_ours("decision for another session"));
        }
        // Of its transaction is how durable it is.
        let decisions = self.decisions_in_transaction();
        let session = self.session().await?;
        let decision = decision(id, session.id().get("id").cloned(), true, participants);
        let done = decisions.insert_one(decision).session(session).await;
        match done {
            Ok(_) => Ok(()),
            Err(error) if is_duplicate(&error) => Err(Report::error(
                sqlstate::SERIALIZATION_FAILURE,
                "could not commit on several shards: recovery has ended the transaction",
            )
            .hint("The transaction might succeed if retried.")
            .into()),
            Err(error) => Err(stop(&error, None)),
        }
    }

    /// Ends the session, and makes an abort the outcome unless there is one.
    async fn fence(&mut self, id: TransactionId, session: u128) -> Result<bool, Stop> {
        let session = uuid(TransactionId(session));
        let kill = doc! { "killSessions": [{ "id": session.clone() }] };
        if let Err(error) = self.client().database("admin").run_command(kill).await {
            // The abort waits for the end of a transaction that has decided, which MongoDB ends by itself.
            tracing::warn!(%error, "the session of a transaction that was left behind could not be ended");
        }
        let abort = decision(id, Some(session), false, "");
        let decisions = self.decisions();
        match decisions.insert_one(abort).await {
            Ok(_) => Ok(false),
            Err(error) if is_duplicate(&error) => {
                // It may be there on this member only, so far.
                let found = decisions
                    .find_one(doc! { "_id": uuid(id) })
                    .read_concern(ReadConcern::linearizable())
                    .await
                    .map_err(told)?;
                let committed = found.and_then(|found| found.get_bool("committed").ok());
                committed.ok_or_else(|| not_ours("the decision went away"))
            }
            Err(error) => Err(told(error)),
        }
    }

    async fn all(&self, from: i64, rows: u32) -> Result<Vec<Row>, Error> {
        let now = DateTime::now().timestamp_millis();
        let from = DateTime::from_millis(from);
        let filter = doc! { "decided": { "$gte": from } };
        let decisions = self.decisions();
        let found = decisions.find(filter).sort(doc! { "decided": 1 });
        let mut cursor = found.limit(i64::from(rows)).await?;
        let mut told = Vec::new();
        while cursor.advance().await? {
            let decision = cursor.deserialize_current()?;
            let uuid = |name: &str| decision.get(name).and_then(number_of);
            let decided = decision.get_datetime("decided");
            let decided = decided.map_or(now, |decided| decided.timestamp_millis());
            // What is none of ours has no id, and the reader says so.
            told.push(vec![
                uuid("_id").map(|id| id.to_string()),
                uuid("session").map(|session| session.to_string()),
                Some(truth(&decision)),
                Some(decision.get_str("participants").unwrap_or("").to_owned()),
                Some(now.saturating_sub(decided).to_string()),
                Some(decided.to_string()),
            ]);
        }
        Ok(told)
    }

    async fn outcomes(&self, ids: &[TransactionId]) -> Result<Vec<Row>, Error> {
        let filter = doc! { "_id": { "$in": all(ids) } };
        let mut cursor = self.decisions().find(filter).await?;
        let mut told = Vec::new();
        while cursor.advance().await? {
            let decision = cursor.deserialize_current()?;
            let id = decision.get("_id").and_then(number_of);
            told.push(vec![id.map(|id| id.to_string()), Some(truth(&decision))]);
        }
        Ok(told)
    }
}

fn decision(
    id: TransactionId,
    session: Option<Bson>,
    committed: bool,
    participants: &str,
) -> Document {
    doc! {
        "_id": uuid(id),
        "session": session,
        "committed": committed,
        "participants": participants,
        "decided": DateTime::now(),
    }
}

fn uuid(id: TransactionId) -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::Uuid,
        bytes: id.0.to_be_bytes().to_vec(),
    })
}

fn number_of(value: &Bson) -> Option<TransactionId> {
    match value {
        Bson::Binary(Binary {
            subtype: BinarySubtype::Uuid,
            bytes,
        }) => {
            let bytes = bytes.as_slice().try_into().ok()?;
            Some(TransactionId(u128::from_be_bytes(bytes)))
        }
        _ => None,
    }
}

fn all(ids: &[TransactionId]) -> Vec<Bson> {
    ids.iter().map(|id| uuid(*id)).collect()
}

fn truth(decision: &Document) -> String {
    let committed = decision.get_bool("committed").unwrap_or(false);
    if committed { "t" } else { "f" }.to_owned()
}

fn one(value: String) -> Row {
    vec![Some(value)]
}

fn told(error: Error) -> Stop {
    stop(&error, None)
}

fn not_ours(message: &'static str) -> Stop {
    Report::error(sqlstate::INTERNAL_ERROR, message).into()
}
