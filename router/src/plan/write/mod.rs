//! Plans of INSERT, UPDATE, DELETE and MERGE.
//!
//! The target of a write is an instance like any other, so the same facts say
//! where its rows are. A row to be stored is an instance as well, marked so that
//! its key must be known and not only restricted. Reference tables are written on every
//! shard, so whatever could come out differently there is refused.

mod conflict;
mod fill;
mod insert;
mod merge;
mod rows;
mod target;
mod update;

pub use insert::{omitted_default, without_key};
pub use target::home_triggers;

use sqlparser::ast::Statement;

use crate::plan::decide::finish;
use crate::plan::functions::Call;
use crate::plan::names::Names;
use crate::plan::query::{Ctes, Local};
use crate::plan::read::{explained, parsed};
use crate::plan::refuse::{Reason, Refusal, not_understood, refuse};
use crate::plan::scope::{Analysis, Source};
use crate::plan::slots::Text;
use crate::plan::touches::{Touches, touches};
use crate::plan::{Merge, Plan, PlanContext, Role, Scatter, Target, utility};

use rows::{Rows, split};

/// What walking a write gave.
struct Written {
    /// The instance that is written, or that stands for the stored rows.
    target: usize,
    /// Whether each shard may do its part.
    local: Local,
    /// The rows of a VALUES list into a sharded table.
    rows: Option<Rows>,
}

/// Plans a write.
pub fn plan(names: &Names<'_>, text: &Text<'_>, context: &PlanContext) -> Result<Plan, Refusal> {
    if !text.mentions(names) {
        text.home_triggers(names)?;
        return Ok(utility::home("writes"));
    }
    let parsed = parsed(text, context)?;
    if let Some(fill) = fill::fill(names, text, context, &parsed)? {
        return Ok(Plan::Fill(fill));
    }
    let mut analysis = Analysis::of(text, names, context);
    analysis.placeholders.clone_from(&parsed.placeholders);
    let ctes = Ctes::default();
    if let Statement::Query(query) = &parsed.statement {
        // WITH before a write.
        let output = analysis.query(query, None, &ctes)?;
        explained(&analysis, names, &parsed)?;
        return finish(&analysis, output.local, None);
    }
    let written = analysis.write(&parsed.statement, &ctes)?;
    explained(&analysis, names, &parsed)?;
    if matches!(
        analysis.instances[written.target].source,
        Source::Reference(_)
    ) {
        return everywhere(&analysis, &written);
    }
    let touches = match (&parsed.statement, &written.rows) {
        (Statement::Update(_) | Statement::Delete(_), None) | (Statement::Insert(_), Some(_)) => {
            touches(&analysis, Some(written.target), &parsed)
        }
        _ => Touches::Anything,
    };
    let plan = match written.rows {
        Some(ref rows) => split(&analysis, text.to_cut(), &parsed, rows, &written),
        None => finish(&analysis, written.local, Some(written.target)),
    };
    Ok(plan?.touching(touches))
}

/// A write of a reference table: the same on every shard, or not at all.
fn everywhere(analysis: &Analysis<'_>, written: &Written) -> Result<Plan, Refusal> {
    let refusal = |what: &str| Refusal::about(Reason::ReferenceWrite, what.to_owned());
    if let Some((_, name)) = analysis
        .seen
        .calls
        .iter()
        .find(|(call, _)| **call > Call::Harmless)
    {
        return Err(refusal(&format!("function {name}()")));
    }
    let others = analysis
        .instances
        .iter()
        .enumerate()
        .any(|(index, instance)| {
            index != written.target && !matches!(instance.source, Source::Rows)
        });
    if others || analysis.seen.writes {
        return Err(refusal("it reads other tables"));
    }
    Ok(Plan::Scatter(Scatter {
        target: Target::AllShards,
        role: Role::Primary("writes".to_owned()),
        merge: Merge::First,
    }))
}

impl<'n> Analysis<'n> {
    /// A write inside WITH, or behind it.
    pub fn nested_write<'q>(
        &mut self,
        statement: &'q Statement,
        ctes: &Ctes<'q>,
    ) -> Result<(), Refusal> {
        let written = self.write(statement, ctes)?;
        match self.instances[written.target].source {
            // On one shard only it would differ from its copies.
            Source::Reference(_) => refuse(Reason::ReferenceWrite),
            _ => Ok(()),
        }
    }

    fn write<'q>(&mut self, statement: &'q Statement, ctes: &Ctes<'q>) -> Result<Written, Refusal> {
        match statement {
            Statement::Insert(insert) => self.insert(insert, ctes),
            Statement::Update(update) => self.update(update, ctes),
            Statement::Delete(delete) => self.delete(delete, ctes),
            Statement::Merge(merge) => self.merge(merge, ctes),
            _ => not_understood(),
        }
    }
}
