//! COPY FROM STDIN of a table with a default such as `now()`: columns that the client leaves out get one value on all
//! shards, that of the time of the transaction's first server.
//!
//! The value is asked of a server, in the type of the column and by the client's settings. It stands in each row that is
//! sent ([`Filler`]), and the column in the list of the statement. Rows of the binary format, rows that are not divided,
//! and defaults that may have another value for each row are refused.

use super::dispatch::{Many, refused};
use super::servers::AttachedId;
use super::time::times_of;
use super::{Halt, Session};
use crate::model::DatabaseModel;
use mothership_copy::{CopyOptions, Filler};
use mothership_plan::{PlanContext, Reason, Refusal, Split, SplitRows};
use mothership_proto::report::{Report, sqlstate};
use mothership_sql::fill::{Target, with_columns};
use mothership_sql::time::{Moments, Unclear, Uses, is_one_value};
use std::rc::Rc;

/// Types whose values in JSON, which no setting changes, PostgreSQL reads under every setting.
const TYPES: [&str; 5] = [
    "timestamp with time zone",
    "timestamp without time zone",
    "date",
    "time with time zone",
    "time without time zone",
];

/// A column that is left out.
pub(super) struct LeftOut {
    name: String,
    /// Its default, which asks for the time and for nothing else that may change.
    default: String,
    /// Its type.
    type_name: String,
}

/// The columns that a COPY leaves out and that its servers would fill with the time.
///
/// # Errors
/// What cannot be given one time.
pub(super) fn left_out(
    (sql, context): (&str, &PlanContext),
    strings: bool,
    model: &DatabaseModel,
    split: &Split,
) -> Result<Vec<LeftOut>, String> {
    let found = times_of((sql, Some(context)), strings, true, model)?;
    if !found.has_defaults {
        return Ok(Vec::new());
    }
    let table = &split.table.name;
    let target = Target::of(sql, strings).filter(|target| target.name == *table);
    let Some(target) = target else {
        return Err(format!("default of a column of table \"{table}\""));
    };
    let Some(listed) = target.columns else {
        return Ok(Vec::new());
    };
    let about = |column: &str| format!("default of column \"{column}\" of table \"{table}\"");
    let times = model.times();
    let defaults = times.defaults(&split.table.schema, table);
    if found.says_default {
        return Err("DEFAULT of a column that is filled with the time".to_owned());
    }
    let omitted = defaults.iter().filter(|(name, _)| !listed.contains(name));
    let relation = model.catalog().relation(&split.table);
    let mut left_out = Vec::new();
    for (name, default) in omitted {
        let column = relation.and_then(|relation| relation.column(name));
        let type_name = column.map(|(_, column)| &column.type_name);
        let fixed = Uses::of(default, true)
            .ok()
            .filter(|uses| !uses.is_empty() && !times.asks(default))
            .map(|uses| uses.fixed_plainly(default, &Moments::default()));
        match type_name {
            Some(type_name)
                if TYPES.contains(&&**type_name)
                    && fixed.is_some_and(|value| is_one_value(&value)) =>
            {
                left_out.push(LeftOut {
                    name: name.clone(),
                    default: default.clone(),
                    type_name: type_name.clone(),
                });
            }
            _ => return Err(about(name)),
        }
    }
    Ok(left_out)
}

impl LeftOut {
    /// SQL that computes the value as a text.
    fn question(&self, moments: &Moments) -> Option<String> {
        let uses = Uses::of(&self.default, true).ok()?;
        let value = uses.fixed_plainly(&self.default, moments);
        let type_name = &self.type_name;
        Some(format!(
            "COALESCE(pg_catalog.to_json(({value})::{type_name}) OPERATOR(pg_catalog.#>>) '{{}}', '')"
        ))
    }
}

impl Session {
    /// The same COPY with these times in its text and in its rows. `at` is one of its servers.
    pub(super) async fn copied(
        &mut self,
        many: &Many,
        sql: &[u8],
        at: AttachedId,
        moments: &Moments,
    ) -> Result<Many, Halt> {
        let hidden = |what: String| Halt::Fail(refused(&Refusal::about(Reason::TimeHidden, what)));
        let (Some(model), Some(split)) = (self.known.model.clone(), &many.copy) else {
            return Ok(many.clone());
        };
        let strings = self.standard_strings();
        let context = self.context();
        let text = std::str::from_utf8(sql).map_err(|_| super::dispatch::not_utf8())?;
        let left_out = left_out((text, &context), strings, &model, split).map_err(hidden)?;
        let uses = Uses::of(text, strings).map_err(|Unclear(what)| hidden(what))?;
        let mut changes = uses.plain_changes(moments);
        let mut written = uses.fixed_plainly(text, moments);
        let mut filler = None;
        if !left_out.is_empty() {
            let wrong = || hidden("a column that is filled with the time".to_owned());
            let names = || left_out.iter().map(|column| &column.name);
            let (_, change) = with_columns(text, strings, names()).ok_or_else(wrong)?;
            (written, _) = with_columns(&written, strings, names()).ok_or_else(wrong)?;
            changes.insert(0, change);
            let SplitRows::Copy { columns, .. } = &split.rows else {
                return Err(wrong());
            };
            let options = CopyOptions::parse(sql, strings).map_err(|e| Halt::Fail(e.report()))?;
            let values = self.values_left_out(&left_out, moments, at).await?;
            let is_null = values.iter().any(String::is_empty);
            let made = Filler::new(&options.format, *columns, &values);
            filler = Some(Rc::new(made.filter(|_| !is_null).ok_or_else(|| {
                hidden("a column that rows in this form cannot be given".to_owned())
            })?));
        }
        let text: Rc<[u8]> = Rc::from(written.into_bytes());
        let legs = many.legs.iter();
        let legs: Vec<_> = legs
            .map(|(shard, _)| (*shard, Some(Rc::clone(&text))))
            .collect();
        Ok(Many {
            times: Some(vec![changes; legs.len()].into()),
            legs,
            filler,
            ..many.clone()
        })
    }

    /// The values of the columns in the form in which PostgreSQL reads them.
    async fn values_left_out(
        &mut self,
        left_out: &[LeftOut],
        moments: &Moments,
        at: AttachedId,
    ) -> Result<Vec<String>, Halt> {
        let questions: Option<Vec<String>> = left_out.iter().map(|c| c.question(moments)).collect();
        let sql = format!(
            "SELECT pg_catalog.concat_ws('|', {})",
            questions.unwrap_or_default().join(", ")
        );
        let row = self.ask_row(at, &sql).await?.unwrap_or_default();
        let values: Vec<String> = row.split('|').map(str::to_owned).collect();
        match values.len() == left_out.len() {
            true => Ok(values),
            false => Err(Report::error(
                sqlstate::INTERNAL_ERROR,
                "server does not say the time of a column",
            )
            .into()),
        }
    }
}
