//! Plans in words, for `mothership explain` and `EXPLAIN (ROUTE)`.

use std::fmt;

use mothership_shardmap::ShardMap;

use super::condition::Shown;
use super::context::{Params, PlanContext, TextContext};
use super::{
    Course, Ddl, DdlPlace, KeyedBy, Local, Plan, Role, Scatter, Single, Split, SplitRows, Target,
    plan,
};
use mothership_catalog::Catalog;

/// What `mothership explain` prints of a statement: lines that end with a line feed.
pub fn explain(
    sql: &str,
    catalog: &Catalog,
    map: &ShardMap,
    context: &PlanContext,
    params: &Params<'_>,
    text: &TextContext,
) -> String {
    let plan = plan(sql, catalog, map, context);
    let mut out = super::report(sql, &plan, params, map, text, None).join("\n");
    out.push('\n');
    out
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Plan::Local(Local::Empty) => f.write_str("Local empty"),
            Plan::Single(Single {
                target,
                role,
                otherwise,
                unknown,
                fallback: _,
                gather,
                locks_copies: _,
                touches: _,
            }) => {
                write!(f, "Single {target} role={role}")?;
                match gather {
                    Some(_) => f.write_str(" else=gather")?,
                    None if otherwise.reason != super::Reason::SeveralShards => {
                        write!(f, " else={otherwise}")?;
                    }
                    None => {}
                }
                if !unknown.is_empty() {
                    write!(f, " unknown={}", unknown.join(","))?;
                }
                Ok(())
            }
            Plan::Scatter(Scatter {
                target,
                role,
                merge,
                ..
            }) => {
                write!(f, "Scatter {target} merge={merge} role={role}")
            }
            Plan::Split(split) => split.fmt(f),
            Plan::Gather(gather) => gather.fmt(f),
            Plan::Fill(fill) => fill.fmt(f),
            Plan::Guarded(guarded) => write!(f, "Guarded {}", guarded.plan),
            Plan::Ddl(Ddl {
                place,
                course,
                why,
                elsewhere: _,
                times,
            }) => {
                let place = match place {
                    DdlPlace::AllShards => "all shards",
                    DdlPlace::Home => "home",
                    DdlPlace::OncePerCluster => "once per cluster",
                };
                let steps = match course {
                    Course::Transaction => "",
                    Course::StepsOutside => " step by step outside of a transaction block",
                    Course::Steps | Course::MakesIndex(_) | Course::DropsIndex => " step by step",
                };
                let timed = if times.is_empty() {
                    ""
                } else {
                    ", at one time"
                };
                write!(f, "Ddl {place}{steps}{timed} ({why})")
            }
            Plan::Refuse(refusal) => write!(f, "Refuse {refusal}"),
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key: Vec<&str> = self
            .sharded
            .0
            .columns
            .iter()
            .map(|(n, _)| n.as_str())
            .collect();
        match &self.rows {
            SplitRows::Values { rows, whole, .. } => {
                write!(f, "Split {} by {} rows=", self.table, key.join(","))?;
                for (index, row) in rows.iter().enumerate().take(8) {
                    let values: Vec<String> = row.key.iter().map(ToString::to_string).collect();
                    write!(
                        f,
                        "{}{}",
                        if index > 0 { " | " } else { "" },
                        values.join(",")
                    )?;
                }
                if rows.len() > 8 {
                    write!(f, " | ...{}", rows.len())?;
                }
                if whole.is_some() {
                    f.write_str(" one shard only")?;
                }
            }
            SplitRows::Copy {
                key_positions,
                columns,
                ..
            } => {
                write!(
                    f,
                    "Split {} by {} copy columns={key_positions:?} of {columns}",
                    self.table,
                    key.join(",")
                )?;
            }
        }
        for other in &self.others {
            write!(f, " with {other}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Home => f.write_str("home"),
            Target::AnyShard => f.write_str("any shard"),
            Target::AllShards => f.write_str("all shards"),
            Target::Keys(keyed) => {
                for (index, by) in keyed.iter().enumerate() {
                    write!(f, "{}{by}", if index > 0 { "; " } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for KeyedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self
            .sharded
            .columns
            .iter()
            .map(|(n, _)| n.clone())
            .collect();
        write!(f, "{}: {}", self.table.name, Shown(&self.cond, &names))?;
        for (column, value) in &self.kept {
            write!(f, " kept {}={value}", names[*column])?;
        }
        if let Some(leaf) = &self.leaf {
            let columns: Vec<String> = leaf.columns.iter().map(|(n, _)| n.clone()).collect();
            write!(f, " leaf by {}", columns.join(","))?;
        }
        Ok(())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Primary(why) => write!(f, "primary ({why})"),
            Role::Replica => f.write_str("replica"),
        }
    }
}
