//! A control connection on loan.
//!
//! Whoever asks may stop waiting: a time limit ends, a client leaves. The server goes on with the question then, perhaps
//! behind somebody's lock. The connection keeps its place in the pool until the server has stopped, so that no more than
//! `control.connections` backends of a database ever work for one core.

use deadpool_postgres::Object;
use mothership_pool::health::ControlTls;
use std::cell::Cell;
use std::ops::Deref;
use std::time::Duration;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

/// A control connection; dropped, it goes back to its pool once nothing is under way on it.
pub struct Lent {
    /// Taken when it is dropped.
    object: Option<Object>,
    state: Cell<State>,
    end: End,
}

/// What is known of the server's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has answered everything.
    Idle,
    /// It works, or nobody has read its answer.
    Asked,
    /// It has answered with an error: a transaction may be open.
    Failed,
}

/// How a question ends that nobody waits for any more.
#[derive(Clone)]
pub(super) struct End {
    /// How a cancel request is encrypted; none where the server cannot be sent one.
    pub tls: Option<ControlTls>,
    /// What the server gets to stop.
    pub limit: Duration,
}

impl Lent {
    pub(super) fn new(object: Object, end: End) -> Self {
        Lent {
            object: Some(object),
            state: Cell::new(State::Idle),
            end,
        }
    }

    /// Asks by this connection. Cancel safe: a question that is dropped is cancelled when the loan ends.
    ///
    /// # Errors
    /// Those of the question.
    pub async fn ask<T, E>(&self, question: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.state.set(State::Asked);
        let answer = question.await;
        self.state.set(match &answer {
            Ok(_) => State::Idle,
            Err(_) => State::Failed,
        });
        answer
    }

    /// The rows of a question that is asked again and again: a connection prepares it once.
    ///
    /// # Errors
    /// The server refuses it, or the connection is lost.
    pub async fn ask_prepared(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        self.ask(async {
            let statement = self.prepare_once(sql).await?;
            self.query(&statement, parameters).await
        })
        .await
    }

    /// A statement that this connection prepares once, however often it is asked for.
    ///
    /// # Errors
    /// The server refuses it, or the connection is lost.
    pub async fn prepare_once(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        self.object().prepare_cached(sql).await
    }

    fn object(&self) -> &Object {
        let object = self.object.as_ref();
        object.expect("it is there until the loan ends")
    }

    /// Closes it at once, whatever the server does. For what must not be cancelled.
    pub fn close(mut self) {
        drop(self.object.take().map(Object::take));
    }
}

impl Deref for Lent {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &Self::Target {
        self.object()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else {
            return;
        };
        let state = self.state.get();
        if state == State::Idle {
            return;
        }
        // At the end of a runtime nobody can wait: taken out of its pool it is closed.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(settle(object, state, self.end.clone()))),
            Err(_) => drop(Object::take(object)),
        }
    }
}

/// Ends what is under way; then the connection goes back, or is closed if it did not end in time.
async fn settle(object: Object, state: State, end: End) {
    let stopping = async {
        if let (State::Asked, Some(tls)) = (state, &end.tls) {
            // A server that cannot be told will notice that the connection is closed.
            let _ = object.cancel_token().cancel_query(tls.clone()).await;
        }
        // Answered only after all that was asked before. A cancel request that comes late ends it with an error.
        object.batch_execute("ROLLBACK").await
    };
    match tokio::time::timeout(end.limit, stopping).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) | Err(_) => drop(Object::take(object)),
    }
}
