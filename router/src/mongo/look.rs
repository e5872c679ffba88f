//! Looks at a replica set from outside of any session: its members, and the indexes and some documents of its
//! collections.
//!
//! It only asks; what follows is decided by [`super::hello`] and [`mothership_documents`].

use super::hello::{Asked, Choice, choose};
use super::member::Member;
use mongodb::Client;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::error::{Error, ErrorKind, WriteFailure};
use mothership_documents::drift::Traits;
use mothership_documents::index::{self, Index};
use mothership_documents::{Collection, Unique};
use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// How many of the newest documents are looked at, and of the oldest, beside those that chance gives.
const AT_ENDS: i64 = 100;

/// The members of a shard, as they were when they were asked.
pub struct Seen {
    members: Vec<Arc<Member>>,
    asked: Vec<Asked>,
}

/// What MongoDB did not do.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// Nobody could be asked.
    #[error("no server is a member that can be read")]
    Nobody,
    /// Only a primary does this.
    #[error("no server is the primary")]
    NoPrimary,
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// It said no, or the connection is lost.
    #[error("{0}")]
    Refused(String),
    /// Documents have the same key.
    #[error("documents have the same values: {0}")]
    Duplicate(String),
}

/// What a collection is.
#[derive(Debug)]
pub struct Found {
    /// What it is beside a plain collection.
    pub traits: Traits,
    /// Its indexes.
    pub indexes: Vec<Index>,
}

impl Seen {
    /// Asks each member, none of them longer than `limit`.
    pub async fn ask(members: Vec<(String, Arc<Member>)>, limit: Duration) -> Seen {
        let asking = members.iter().map(async |(address, member)| {
            let hello = async {
                let client = member.client().map_err(|error| error.to_string())?;
                let admin = client.database("admin");
                let answer = admin.run_command(doc! { "hello": 1 }).await;
                answer.map_err(|error| error.kind.to_string())
            };
            let answer = tokio::time::timeout(limit, hello).await;
            Asked {
                address: address.clone(),
                answer: answer.unwrap_or_else(|_| Err(LookError::Late(limit).to_string())),
            }
        });
        Seen {
            asked: futures_util::future::join_all(asking).await,
            members: members.into_iter().map(|(_, member)| member).collect(),
        }
    }

    /// What each said.
    pub fn asked(&self) -> &[Asked] {
        &self.asked
    }

    fn readable(&self) -> Result<Client, LookError> {
        let member = choose(&self.asked).readable().ok_or(LookError::Nobody)?;
        self.client(member)
    }

    fn client(&self, member: usize) -> Result<Client, LookError> {
        let client = self.members[member].client();
        client.map_err(|error| LookError::Refused(error.to_string()))
    }

    /// A collection and its indexes; none if there is no such collection.
    ///
    /// # Errors
    /// MongoDB does not say.
    pub async fn collection(
        &self,
        database: &str,
        name: &str,
        limit: Duration,
    ) -> Result<Option<Found>, LookError> {
        let database = self.readable()?.database(database);
        let look = async {
            let mut listed = database
                .list_collections()
                .filter(doc! { "name": name })
                .await?;
            let Some(collection) = (match listed.advance().await? {
                true => Some(listed.deserialize_current()?),
                false => None,
            }) else {
                return Ok(None);
            };
            let special = match collection.collection_type {
                mongodb::results::CollectionType::Collection => None,
                other => Some(format!("{other:?}").to_lowercase()),
            };
            let locale = collection
                .options
                .collation
                .map(|collation| collation.locale);
            let traits = Traits {
                special,
                collation: locale.filter(|locale| locale != "simple"),
            };
            let mut indexes = Vec::new();
            // A view has none, and says so by an error.
            if traits.special.is_none() {
                let command = doc! { "listIndexes": name };
                let mut cursor = database.run_cursor_command(command).await?;
                while cursor.advance().await? {
                    indexes.extend(Index::read(&cursor.deserialize_current()?));
                }
            }
            Ok(Some(Found { traits, indexes }))
        };
        within(limit, look).await
    }

    /// So many documents that chance gives, and the newest and the oldest by `_id`; none of them twice.
    ///
    /// # Errors
    /// MongoDB does not give them.
    pub async fn sample(
        &self,
        database: &str,
        name: &str,
        size: NonZeroU32,
        limit: Duration,
    ) -> Result<Vec<RawDocumentBuf>, LookError> {
        let database = self.readable()?.database(database);
        let collection = database.collection::<RawDocumentBuf>(name);
        let ends = AT_ENDS.min(size.get().into());
        let any = doc! { "$sample": { "size": i64::from(size.get()) } };
        let last = |direction: i32| {
            vec![
                doc! { "$sort": { "_id": direction } },
                doc! { "$limit": ends },
            ]
        };
        let look = async {
            let (mut found, mut known) = (Vec::new(), BTreeSet::new());
            for pipeline in [last(-1), last(1), vec![any]] {
                let command = collection.aggregate(pipeline).max_time(limit);
                let mut cursor = command.with_type::<RawDocumentBuf>().await?;
                while cursor.advance().await? {
                    let document = cursor.current().to_owned();
                    // The bytes of the value, so that those of other types are others.
                    let id = document.get("_id").ok().flatten();
                    if known.insert(id.map(|id| format!("{id:?}"))) {
                        found.push(document);
                    }
                }
            }
            Ok(found)
        };
        // Each of the three has its limit at the server.
        within(limit * 4, look).await
    }

    /// Makes the index of a unique key, if there is a primary. It may take long.
    ///
    /// # Errors
    /// It is not made: see [`LookError`].
    pub async fn make(
        &self,
        database: &str,
        table: &Collection,
        unique: &Unique,
    ) -> Result<(), LookError> {
        let Choice::Primary(primary) = choose(&self.asked) else {
            return Err(LookError::NoPrimary);
        };
        let database = self.client(primary)?.database(database);
        let done = database.run_command(index::creation(table, unique)).await;
        let reply = done.map_err(|error| refused(&error))?;
        match reply.get_document("writeConcernError") {
            // It is there, but an election might undo it.
            Ok(concern) => Err(LookError::Refused(told(concern))),
            Err(_) => Ok(()),
        }
    }
}

fn told(concern: &Document) -> String {
    concern
        .get_str("errmsg")
        .unwrap_or("not replicated")
        .to_owned()
}

async fn within<T>(
    limit: Duration,
    look: impl Future<Output = Result<T, Error>>,
) -> Result<T, LookError> {
    match tokio::time::timeout(limit, look).await {
        Ok(done) => done.map_err(|error| refused(&error)),
        Err(_) => Err(LookError::Late(limit)),
    }
}

fn refused(error: &Error) -> LookError {
    let message = match &*error.kind {
        ErrorKind::Command(command) => command.message.clone(),
        ErrorKind::Write(WriteFailure::WriteError(write)) => write.message.clone(),
        kind => kind.to_string(),
    };
    match super::outcome::is_duplicate(error) {
        true => LookError::Duplicate(message),
        false => LookError::Refused(message),
    }
}
