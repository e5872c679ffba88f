//! SQL as commands of MongoDB.
//!
//! In comes a statement as parsed; out goes one command whose answer is PostgreSQL's own, or a reason why there is
//! none: then the rows are gathered and PostgreSQL answers. A statement is translated once, without the values of its
//! parameters, and bound as often as it is executed. Nothing is guessed: a node of the syntax is taken apart with all
//! its fields, and one that is not known is not translated.
//!
//! A caller has checked that the parser's tree is PostgreSQL's (`plan::misread`), and refuses sessions with settings
//! that change what texts mean (see [`Forms`]). Documents are taken to be as the table is declared: what is not makes
//! an error where it is read.

mod aggregate;
mod assigned;
mod command;
mod condition;
mod constant;
mod filter;
mod insert;
mod laid;
mod like;
mod load;
mod order;
mod prefilter;
mod scope;
mod select;
mod shown;
mod unnested;
mod update;
mod values;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use bson::Bson;
use sqlparser::ast::Statement;

use super::rest::Rest;
use super::value::Forms;
use super::{Collection, Fault, Kind};
use constant::Bound;
use scope::Parameters;

pub(super) use order::RANK;

pub use command::{Change, Command, Conflict, FieldChange, Upserted};
pub use load::{Batch, Load, Loading, Misfit};
pub use prefilter::marked;
pub use update::{NO_INT2, NO_ROOM};
pub use values::{Call, Value, values};

/// A statement that is one command, before its parameters' values are known.
#[derive(Clone, Debug)]
pub struct Translated {
    /// The types of `$1`, `$2` …, as PostgreSQL infers them; `varchar` without a length is the longest one.
    pub parameters: Vec<Kind>,
    /// The columns of the answer: of SELECT, or of RETURNING; none otherwise. Whoever executes it has them, too.
    pub columns: Arc<[Output]>,
    plan: Plan,
}

/// A column of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// The type by which its value is printed.
    pub kind: Kind,
    /// Where its value is.
    pub source: Source,
    /// `column::text`: the column has type text, and the same text.
    pub as_text: bool,
}

/// Where the value of a column of the answer is.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The fields on the way to it. For an INSERT, in the document that was made; null and missing are NULL.
    Path(Vec<String>),
    /// All fields that no column has.
    Rest(Arc<Rest>),
    /// It is the same in every row.
    Constant(Bson),
}

/// Finds the collection of a table, by its schema if that is written, and its name.
pub type Tables<'a> = &'a dyn Fn(Option<&str>, &str) -> Option<Arc<Collection>>;

/// Why a statement is no single command. Its rows may still be gathered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTranslated {
    /// What it has that MongoDB has not, or has otherwise.
    #[error("{0}")]
    Because(Cow<'static, str>),
}

/// A parameter's value, as the client sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundValue<'a> {
    /// NULL.
    Null,
    /// In its text form.
    Text(&'a str),
    /// In its binary form.
    Binary(&'a [u8]),
}

#[derive(Clone, Debug)]
enum Plan {
    Select(Box<select::Select>),
    Insert(insert::Insert),
    Update(update::Update),
    Delete(update::Delete),
}

type Result<T> = std::result::Result<T, NotTranslated>;

/// The command that fetches rows for a query that PostgreSQL answers, which asks of them again all conditions that are
/// [`marked`]. Never of a client's own statement: there would be rows too many.
pub fn fetching(
    statement: &Statement,
    table: Tables<'_>,
    parameter_oids: &[u32],
) -> Result<Translated> {
    let mut parameters = Parameters::declared(parameter_oids);
    let Statement::Query(query) = statement else {
        return Err(because("a statement that fetches no rows"));
    };
    let (columns, select) = select::fetched(query, table, &mut parameters)?;
    Ok(Translated {
        parameters: parameters.finish()?,
        columns: columns.into(),
        plan: Plan::Select(Box::new(select)),
    })
}

/// The command that a statement is. `parameter_oids` are the types that the client declared, 0 where it did not.
pub fn translate(
    statement: &Statement,
    table: Tables<'_>,
    parameter_oids: &[u32],
) -> Result<Translated> {
    let mut parameters = Parameters::declared(parameter_oids);
    let (columns, plan) = match statement {
        Statement::Query(query) => {
            let (columns, select) = select::select(query, table, &mut parameters)?;
            (columns, Plan::Select(Box::new(select)))
        }
        Statement::Insert(insert) => {
            let (columns, insert) = insert::insert(insert, table, &mut parameters)?;
            (columns, Plan::Insert(insert))
        }
        Statement::Update(update) => {
            let (columns, update) = update::update(update, table, &mut parameters)?;
            (columns, Plan::Update(update))
        }
        Statement::Delete(delete) => {
            let (columns, delete) = update::delete(delete, table, &mut parameters)?;
            (columns, Plan::Delete(delete))
        }
        _ => return Err(because("a statement of another kind")),
    };
    Ok(Translated {
        parameters: parameters.finish()?,
        columns: columns.into(),
        plan,
    })
}

impl Translated {
    /// What PostgreSQL calls the statement.
    pub fn verb(&self) -> &'static str {
        match &self.plan {
            Plan::Select(_) => "SELECT",
            Plan::Insert(_) => "INSERT",
            Plan::Update(_) => "UPDATE",
            Plan::Delete(_) => "DELETE",
        }
    }

    /// The command with its values. `now_ms` is the time of the transaction, in milliseconds since 1970; new
    /// identifiers (`gen_random_uuid()`, ObjectIds) are made here, so that two calls give different documents.
    pub fn bind(
        &self,
        given: &[BoundValue<'_>],
        forms: &Forms,
        now_ms: i64,
    ) -> std::result::Result<Command, Fault> {
        let bound = Bound {
            given,
            forms,
            now_ms,
        };
        match &self.plan {
            Plan::Select(select) => select.bind(&bound),
            Plan::Insert(insert) => insert.bind(&bound),
            Plan::Update(update) => update.bind(&bound),
            Plan::Delete(delete) => delete.bind(&bound),
        }
    }
}

impl Output {
    /// The type that the client is told.
    pub fn described(&self) -> Kind {
        match self.as_text {
            true => Kind::Text,
            false => self.kind.clone(),
        }
    }
}

fn because(reason: &'static str) -> NotTranslated {
    NotTranslated::Because(Cow::Borrowed(reason))
}
