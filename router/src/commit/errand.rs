//! Errands of the control role: a connection is lent, a few messages are sent, and
//! the connection goes back only if all of them went well.
//!
//! Here is what a commit has done by the control role ([`perform`]); recovery uses
//! the same.

use super::doubt::Site;
use super::gid::Gid;
use super::schema::rows;
use super::steps::{Act, Reply, Step};
use super::text;
use mothership_sql::quote;
use std::future::Future;
use std::ops::Deref;
use std::time::Duration;
use tokio_postgres::{Client, SimpleQueryRow};

/// Why there is no connection to a site.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(pub String);

/// Lends connections of the control role to the primaries of sites.
pub trait Servers {
    /// A connection; dropped, it goes back.
    type Lent: Deref<Target = Client>;
    /// Lends one. It ends within some time limit.
    fn lend(&self, site: &Site) -> impl Future<Output = Result<Self::Lent, Unreachable>>;
    /// Closes a connection that must not be used again.
    fn discard(&self, lent: Self::Lent);
    /// Whether the site is one of MongoDB, which is asked other questions: see [`super::question`].
    fn has_documents(&self, site: &Site) -> bool;
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("no connection: {0}")]
    Unreachable(#[from] Unreachable),
    #[error("{0}")]
    Server(#[from] tokio_postgres::Error),
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("it is in recovery")]
    Replica,
    #[error("its answer makes no sense")]
    Strange,
}

impl Trouble {
    pub(super) fn sqlstate(&self) -> Option<&str> {
        let Self::Server(error) = self else {
            return None;
        };
        let error = error.as_db_error()?;
        // A FATAL is no answer: what it interrupted may be done or not.
        (error.severity() == "ERROR").then(|| error.code().code())
    }

    fn reply(&self) -> Reply {
        match self.sqlstate() {
            Some(sqlstate) => Reply::Refused {
                sqlstate: sqlstate.into(),
                idle: true,
            },
            None => Reply::Lost,
        }
    }
}

/// A connection on loan that is closed unless all went well, also when whoever waits for it gives up.
struct Loan<'s, S: Servers> {
    servers: &'s S,
    lent: Option<S::Lent>,
}

impl<S: Servers> Loan<'_, S> {
    async fn ask(&self, sql: &str) -> Result<Vec<SimpleQueryRow>, Trouble> {
        let client = self
            .lent
            .as_ref()
            .expect("it is lent until it is given back");
        Ok(rows(client.simple_query(sql).await?))
    }

    fn give_back(mut self) {
        drop(self.lent.take());
    }
}

impl<S: Servers> Drop for Loan<'_, S> {
    fn drop(&mut self) {
        if let Some(lent) = self.lent.take() {
            self.servers.discard(lent);
        }
    }
}

/// Runs messages one after the other on one connection to a site; answers the rows of the last one.
pub(super) async fn ask<S: Servers>(
    servers: &S,
    site: &Site,
    limit: Duration,
    messages: &[&str],
) -> Result<Vec<SimpleQueryRow>, Trouble> {
    let work = async {
        let lent = Some(servers.lend(site).await?);
        let loan = Loan { servers, lent };
        let mut rows = Vec::new();
        for sql in messages {
            rows = loan.ask(sql).await?;
        }
        loan.give_back();
        Ok(rows)
    };
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(Trouble::Late(limit)),
    }
}

/// Runs a step of a commit that wants the control role. Takes at most `limit`.
pub async fn perform<S: Servers>(servers: &S, site: &Site, limit: Duration, step: &Step) -> Reply {
    match (step.act, &step.gid) {
        (Act::Finish(commit), Some(gid)) => match finish(servers, site, limit, gid, commit).await {
            Ok(()) => Reply::Done {
                tag: finished_tag(commit).into(),
                row: None,
            },
            Err(trouble) => trouble.reply(),
        },
        _ => match ask(servers, site, limit, &[&step.sql]).await {
            Ok(rows) => Reply::Done {
                tag: "SELECT 1".into(),
                row: rows.last().and_then(|row| Some(row.get(0)?.to_owned())),
            },
            Err(trouble) => trouble.reply(),
        },
    }
}

fn finished_tag(commit: bool) -> &'static str {
    match commit {
        true => "COMMIT PREPARED",
        false => "ROLLBACK PREPARED",
    }
}

/// Finishes something prepared, as its owner if need be.
pub(super) async fn finish<S: Servers>(
    servers: &S,
    site: &Site,
    limit: Duration,
    gid: &Gid,
    commit: bool,
) -> Result<(), Trouble> {
    let owner = format!(
        "{}; SELECT p.owner FROM pg_prepared_xacts p, pg_roles me \
         WHERE p.gid = '{gid}' AND me.rolname = CURRENT_USER AND NOT me.rolsuper AND p.owner <> CURRENT_USER",
        reading(limit)
    );
    let finish = text::finish(gid, commit);
    let found = ask(servers, site, limit, &[&owner]).await?;
    match found.first().and_then(|row| row.get(0)) {
        None => ask(servers, site, limit, &[&finish]).await?,
        Some(owner) => {
            let role = format!("SET ROLE {}", quote::identifier(owner));
            ask(servers, site, limit, &[&role, &finish, "RESET ROLE"]).await?
        }
    };
    Ok(())
}

/// What every message begins with that only reads.
pub(super) fn reading(limit: Duration) -> String {
    format!(
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY; \
         SET LOCAL statement_timeout = {}; SET LOCAL search_path = pg_catalog, pg_temp",
        limit.as_millis()
    )
}

/// The databases of a cluster in which something is prepared under our names, of a
/// connection to any of them: a router that passes database names through looks
/// there, besides the databases that its clients have used.
///
/// # Errors
/// The server said no, or cannot be reached.
pub async fn databases(client: &Client) -> Result<Vec<String>, tokio_postgres::Error> {
    let sql = "SELECT p.database FROM pg_catalog.pg_prepared_xacts p \
        WHERE pg_catalog.starts_with(p.gid, 'ms1:') GROUP BY 1 ORDER BY 1";
    let rows = rows(client.simple_query(sql).await?);
    Ok(rows
        .iter()
        .filter_map(|row| Some(row.get(0)?.to_owned()))
        .collect())
}

/// A column of a row, read.
pub(super) fn field<T: std::str::FromStr>(
    row: &SimpleQueryRow,
    index: usize,
) -> Result<T, Trouble> {
    let text = row.get(index).ok_or(Trouble::Strange)?;
    text.parse().map_err(|_| Trouble::Strange)
}
