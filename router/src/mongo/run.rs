//! Runs one command with the driver, once: what it asks MongoDB, and what comes of it.

use super::outcome::{Step, report};
use mongodb::bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};
use mongodb::error::Error;
use mongodb::options::{
    Collation, CollectionOptions, ReturnDocument, UpdateModifications, WriteConcern,
};
use mongodb::{ClientSession, Database, SessionCursor};
use mothership_documents::field::{Field, field};
use mothership_documents::translate::{Change, Command, Conflict, Output, Upserted};
use mothership_documents::{Collection, Fault};
use mothership_proto::report::Report;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// What a command has given.
pub(super) enum Answer {
    /// Rows, as they come.
    Cursor(Box<SessionCursor<RawDocumentBuf>>),
    /// These rows.
    Rows(Vec<RawDocumentBuf>),
    /// So it is called when it is done.
    Done(String),
}

/// A result of the driver's.
pub(super) type Done<T> = Result<T, Error>;

type Documents = mongodb::Collection<RawDocumentBuf>;

/// Why one attempt has failed.
pub(super) enum Failure {
    /// The driver says so, perhaps of one row.
    Driver(Error, Option<Step>),
    Told(Report),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Driver(error, None)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        Failure::Told(report(fault))
    }
}

/// Of one row of a command.
fn at(step: Step) -> impl Fn(Error) -> Failure {
    move |error| Failure::Driver(error, Some(step))
}

/// What a command runs with.
pub(super) struct Run<'r> {
    /// The database.
    pub database: &'r Database,
    /// The declared collections.
    pub collections: &'r [Arc<Collection>],
    /// The session, with the transaction that is open there.
    pub session: &'r mut ClientSession,
    /// How long a read may take.
    pub time: Option<Duration>,
    /// Who must have a write that is no part of a transaction.
    pub concern: Option<WriteConcern>,
}

impl Run<'_> {
    /// Runs the command; `returning` is what a write has for its client.
    ///
    /// # Errors
    /// The driver's, or the fault that the command is to be told.
    pub async fn command(self, command: &Command, returning: &[Output]) -> Result<Answer, Failure> {
        let returns = !returning.is_empty();
        match command {
            Command::Empty => Ok(Answer::Rows(Vec::new())),
            Command::Find { .. } => self.find(command).await,
            Command::Aggregate {
                collection,
                pipeline,
                if_empty,
            } => self.aggregate(collection, pipeline, if_empty).await,
            Command::Insert {
                collection,
                documents,
                ignore,
                behind,
            } => {
                let stored = self.insert(collection, documents, *ignore).await?;
                inserted(stored, behind.as_ref(), returns)
            }
            Command::Upsert {
                collection,
                rows,
                behind,
                ..
            } => {
                let stored = self.upsert(collection, rows).await?;
                inserted(stored.into(), behind.as_ref(), returns)
            }
            Command::Update {
                collection,
                filter,
                change,
                single,
            } => {
                let of = self.of(collection);
                match returns {
                    true => self.update_returning(&of, filter, change, *single).await,
                    false => self.update(&of, filter, change, *single).await,
                }
            }
            Command::Move {
                collection,
                filter,
                change,
            } => {
                let row = moved(&self.of(collection), (filter, change), self.session).await?;
                Ok(match returns {
                    true => Answer::Rows(row.into_iter().collect()),
                    false => Answer::Done(format!("UPDATE {}", usize::from(row.is_some()))),
                })
            }
            Command::Delete {
                collection,
                filter,
                single,
            } => {
                let of = self.of(collection);
                match returns {
                    true => self.delete_returning(&of, filter).await,
                    false => self.delete(&of, filter, *single).await,
                }
            }
            Command::Fail {
                collection,
                filter,
                fault,
            } => self.fail(collection, filter, fault).await,
        }
    }

    /// A collection that is written.
    fn of(&self, name: &str) -> Documents {
        let concern = self.concern.clone();
        let options = CollectionOptions::builder().write_concern(concern).build();
        self.database.collection_with_options(name, options)
    }

    async fn find(self, command: &Command) -> Result<Answer, Failure> {
        let Command::Find {
            collection,
            filter,
            projection,
            sort,
            skip,
            limit,
            single: _,
        } = command
        else {
            return Ok(Answer::Rows(Vec::new()));
        };
        let rows: Documents = self.database.collection(collection);
        let mut find = rows
            .find(filter.clone())
            .projection((**projection).clone())
            .collation(bytes())
            .skip(*skip);
        if !sort.is_empty() {
            // Servers before MongoDB 6.0 would refuse to sort more than 100 MB.
            find = find.sort(sort.clone()).allow_disk_use(true);
        }
        if let Some(time) = self.time {
            find = find.max_time(time);
        }
        if let Some(limit) = limit {
            find = find.limit(i64::try_from(*limit).unwrap_or(i64::MAX));
        }
        let cursor = find.session(self.session).await?;
        Ok(Answer::Cursor(Box::new(cursor)))
    }

    async fn aggregate(
        self,
        collection: &str,
        pipeline: &[Document],
        if_empty: &Option<Document>,
    ) -> Result<Answer, Failure> {
        let rows: Documents = self.database.collection(collection);
        let aggregate = rows.aggregate(pipeline.to_vec()).collation(bytes());
        // Servers before MongoDB 6.0 would refuse to group more than 100 MB.
        let mut aggregate = aggregate.allow_disk_use(true);
        if let Some(time) = self.time {
            aggregate = aggregate.max_time(time);
        }
        let cursor = aggregate.session(&mut *self.session).await?;
        let mut cursor = cursor.with_type::<RawDocumentBuf>();
        let Some(only) = if_empty else {
            return Ok(Answer::Cursor(Box::new(cursor)));
        };
        let mut rows = Vec::new();
        while cursor.advance(self.session).await? {
            rows.push(cursor.current().to_owned());
        }
        if rows.is_empty() {
            rows.push(raw(only)?);
        }
        Ok(Answer::Rows(rows))
    }

    /// Inserts the documents, without those whose keys are there if `ignore` says so; which it stored.
    async fn insert<'d>(
        self,
        collection: &str,
        documents: &'d [RawDocumentBuf],
        ignore: Option<Conflict>,
    ) -> Result<Cow<'d, [RawDocumentBuf]>, Failure> {
        let of = self.of(collection);
        let Some(conflict) = ignore else {
            insert(&of, documents, self.session).await?;
            return Ok(Cow::Borrowed(documents));
        };
        let declared = self.collections.iter();
        let declared = declared.clone().find(|one| one.collection == collection);
        let unique = declared.map(|one| (&**one, conflict));
        let new = insert_new(&of, documents, unique, self.session).await?;
        Ok(Cow::Owned(new))
    }

    async fn upsert(
        self,
        collection: &str,
        rows: &[Upserted],
    ) -> Result<Vec<RawDocumentBuf>, Failure> {
        let of = self.of(collection);
        let mut stored = Vec::with_capacity(rows.len());
        for (number, row) in rows.iter().enumerate() {
            stored.push(upsert(&of, (number, row), self.session).await?);
        }
        Ok(stored)
    }

    async fn update(
        self,
        of: &Documents,
        filter: &Document,
        change: &Change,
        single: bool,
    ) -> Result<Answer, Failure> {
        let (filter, change) = (filter.clone(), modifications(change));
        let update = match single {
            true => of.update_one(filter, change),
            false => of.update_many(filter, change),
        };
        let done = update.collation(bytes()).session(self.session).await?;
        Ok(Answer::Done(format!("UPDATE {}", done.matched_count)))
    }

    async fn update_returning(
        self,
        of: &Documents,
        filter: &Document,
        change: &Change,
        single: bool,
    ) -> Result<Answer, Failure> {
        let rows = match single {
            true => {
                let found = of.find_one_and_update(filter.clone(), modifications(change));
                let found = found.return_document(ReturnDocument::After);
                let found = found.collation(bytes());
                found.session(self.session).await?.into_iter().collect()
            }
            false => {
                let ids = ids(of, filter, self.session).await?;
                let by_id = doc! { "_id": { "$in": ids } };
                let done = of.update_many(by_id.clone(), modifications(change));
                done.collation(bytes()).session(&mut *self.session).await?;
                found(of, by_id, self.session).await?
            }
        };
        Ok(Answer::Rows(rows))
    }

    async fn delete(
        self,
        of: &Documents,
        filter: &Document,
        single: bool,
    ) -> Result<Answer, Failure> {
        let filter = filter.clone();
        let delete = match single {
            true => of.delete_one(filter),
            false => of.delete_many(filter),
        };
        let done = delete.collation(bytes()).session(self.session).await?;
        Ok(Answer::Done(format!("DELETE {}", done.deleted_count)))
    }

    async fn delete_returning(self, of: &Documents, filter: &Document) -> Result<Answer, Failure> {
        let rows = found(of, filter.clone(), self.session).await?;
        let ids: Vec<Bson> = rows.iter().filter_map(|row| id(row)).collect();
        let done = of.delete_many(doc! { "_id": { "$in": ids } });
        done.collation(bytes()).session(self.session).await?;
        Ok(Answer::Rows(rows))
    }

    /// Tells the fault if a document matches. PostgreSQL adds the row, as far as the client may read it; here that is not
    /// known.
    async fn fail(
        self,
        collection: &str,
        filter: &Document,
        fault: &Fault,
    ) -> Result<Answer, Failure> {
        let of = self.of(collection);
        let found = of.find_one(filter.clone()).collation(bytes());
        match found.session(&mut *self.session).await? {
            None => Ok(Answer::Done("UPDATE 0".to_owned())),
            Some(_) => Err(fault.clone().into()),
        }
    }
}

/// What an INSERT has for its client, unless the row behind those that it stored is at fault.
fn inserted(
    stored: Cow<'_, [RawDocumentBuf]>,
    behind: Option<&Fault>,
    returns: bool,
) -> Result<Answer, Failure> {
    match (behind, returns) {
        (Some(fault), _) => Err(fault.clone().into()),
        (None, false) => Ok(Answer::Done(format!("INSERT 0 {}", stored.len()))),
        (None, true) => Ok(Answer::Rows(stored.into_owned())),
    }
}

/// Texts are compared by their bytes, also in a collection that has a collation of its own.
fn bytes() -> Collation {
    Collation::builder().locale("simple").build()
}

fn modifications(change: &Change) -> UpdateModifications {
    match change {
        Change::Operators(operators) => UpdateModifications::Document(operators.clone()),
        Change::Pipeline(stages) => UpdateModifications::Pipeline(stages.clone()),
    }
}

async fn insert(
    of: &Documents,
    documents: &[RawDocumentBuf],
    session: &mut ClientSession,
) -> Done<()> {
    match documents {
        [] => {}
        [one] => drop(of.insert_one(one).session(session).await?),
        several => drop(of.insert_many(several).session(session).await?),
    }
    Ok(())
}

/// Inserts those whose keys are not there yet, and returns them. A key that another transaction inserts in between is a
/// conflict of the two, and all begins anew.
async fn insert_new(
    of: &Documents,
    documents: &[RawDocumentBuf],
    declared: Option<(&Collection, Conflict)>,
    session: &mut ClientSession,
) -> Result<Vec<RawDocumentBuf>, Failure> {
    let mut stored = Vec::new();
    for (number, document) in documents.iter().enumerate() {
        let mut is_there = false;
        if let Some((collection, conflict)) = declared {
            let keys = collection.unique.iter().enumerate();
            let keys = keys.filter(|(at, _)| match conflict {
                Conflict::Any => true,
                Conflict::Key(key) => key == *at,
            });
            for (_, key) in keys {
                let columns = key.columns.iter().map(|at| &collection.columns[*at]);
                let mut filter = Document::new();
                for column in columns {
                    filter.insert(column.field(), value_at(document, &column.path));
                }
                // NULL is like no other.
                let has_null = filter.values().any(|value| *value == Bson::Null);
                if !has_null {
                    let find = of.find_one(filter).collation(bytes());
                    is_there |= find.session(&mut *session).await?.is_some();
                }
            }
        }
        if !is_there {
            let inserted = of.insert_one(document).session(&mut *session).await;
            inserted.map_err(at(Step::Inserted(number)))?;
            stored.push(document.clone());
        }
    }
    Ok(stored)
}

fn value_at(document: &RawDocument, path: &[String]) -> Bson {
    match field(document, path) {
        // It was made here, so that it can be read.
        Field::Value(value) => Bson::try_from(value).unwrap_or(Bson::Null),
        Field::Missing | Field::Blocked(_) => Bson::Null,
    }
}

async fn upsert(
    of: &Documents,
    (number, row): (usize, &Upserted),
    session: &mut ClientSession,
) -> Result<RawDocumentBuf, Failure> {
    if let Some(filter) = &row.filter {
        let found = of.find_one_and_update(filter.clone(), modifications(&row.change));
        let found = found.return_document(ReturnDocument::After);
        let found = found.collation(bytes());
        let found = found.session(&mut *session).await;
        if let Some(found) = found.map_err(at(Step::Changed(number)))? {
            return Ok(found);
        }
    }
    let inserted = of.insert_one(&row.document).session(session).await;
    inserted.map_err(at(Step::Inserted(number)))?;
    Ok(row.document.clone())
}

/// Stores a document under another `_id`, with all its fields, those without a column among them.
async fn moved(
    of: &Documents,
    (filter, change): (&Document, &Change),
    session: &mut ClientSession,
) -> Done<Option<RawDocumentBuf>> {
    let (id, others) = id_and_others(change);
    let found = match others.is_empty() {
        true => {
            let found = of.find_one(filter.clone()).collation(bytes());
            found.session(&mut *session).await?
        }
        false => {
            let found = of.find_one_and_update(filter.clone(), others);
            let found = found.return_document(ReturnDocument::After);
            found.collation(bytes()).session(&mut *session).await?
        }
    };
    let Some(found) = found else {
        return Ok(None);
    };
    let mut document = Document::try_from(&*found)?;
    let old = doc! { "_id": document.get("_id").cloned() };
    let deleted = of.delete_one(old).collation(bytes());
    deleted.session(&mut *session).await?;
    for (path, value) in id {
        put(&mut document, &path, value);
    }
    let document = RawDocumentBuf::try_from(&document)?;
    of.insert_one(&document).session(session).await?;
    Ok(Some(document))
}

/// What operators set of the `_id`, by its paths, and what they do besides.
fn id_and_others(change: &Change) -> (Document, Document) {
    let (mut id, mut others) = (Document::new(), Document::new());
    let Change::Operators(operators) = change else {
        // It is made of constants.
        return (id, others);
    };
    let is_id = |path: &str| path.split('.').next() == Some("_id");
    for (operator, fields) in operators {
        let fields = fields.as_document().into_iter().flatten();
        for (path, value) in fields {
            if is_id(path) {
                id.insert(path, value.clone());
                continue;
            }
            let rest = others.entry(operator.clone());
            if let Bson::Document(rest) = rest.or_insert_with(|| Document::new().into()) {
                rest.insert(path, value.clone());
            }
        }
    }
    (id, others)
}

/// Sets a field by its path.
fn put(document: &mut Document, path: &str, value: Bson) {
    match path.split_once('.') {
        None => drop(document.insert(path, value)),
        Some((first, rest)) => {
            let inner = document.entry(first.to_owned());
            if let Bson::Document(inner) = inner.or_insert_with(|| Document::new().into()) {
                put(inner, rest, value);
            }
        }
    }
}

async fn ids(of: &Documents, filter: &Document, session: &mut ClientSession) -> Done<Vec<Bson>> {
    let find = of.find(filter.clone()).projection(doc! { "_id": 1 });
    let mut cursor = find.collation(bytes()).session(&mut *session).await?;
    let mut ids = Vec::new();
    while let Some(found) = cursor.next(session).await {
        ids.extend(id(&found?));
    }
    Ok(ids)
}

fn id(document: &RawDocument) -> Option<Bson> {
    let found = document.get("_id").ok()??;
    Bson::try_from(found).ok()
}

async fn found(
    of: &Documents,
    filter: Document,
    session: &mut ClientSession,
) -> Done<Vec<RawDocumentBuf>> {
    let find = of.find(filter).collation(bytes());
    let mut cursor = find.session(&mut *session).await?;
    let mut rows = Vec::new();
    while let Some(found) = cursor.next(session).await {
        rows.push(found?);
    }
    Ok(rows)
}

fn raw(document: &Document) -> Result<RawDocumentBuf, Failure> {
    RawDocumentBuf::try_from(document).map_err(|error| Failure::Driver(error.into(), None))
}
