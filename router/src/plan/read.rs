//! Plans of queries.

use sqlparser::ast::Statement;
use sqlparser::tokenizer::Token;

use super::condition::Cond;
use super::functions::Call;
use super::misread;
use super::names::{Names, fold};
use super::parse::{self, Parsed};
use super::query::{Ctes, Local};
use super::refuse::{Reason, Refusal};
use super::scope::{Analysis, Source};
use super::{KeyedBy, LeafBy, Merge, Plan, PlanContext, Role, Scatter, Single, Target};
use crate::catalog::{LeafBound, Strategy};

/// Plans SELECT, VALUES, TABLE and WITH.
pub fn plan(names: &Names<'_>, sql: &str, context: &PlanContext) -> Result<Plan, Refusal> {
    if !names.mentions(sql) && !runs_sql(names, sql) {
        return Ok(elsewhere(names, sql, context));
    }
    let parsed = parsed(sql, context)?;
    let Statement::Query(query) = &parsed.statement else {
        return Err(Refusal::new(Reason::NotUnderstood));
    };
    let mut analysis = Analysis::new(names, context);
    analysis.placeholders.clone_from(&parsed.placeholders);
    let output = analysis.query(query, None, &Ctes::default())?;
    explained(&analysis, names, &parsed)?;
    finish(&analysis, output.local, None)
}

/// Parses a statement that may touch declared tables, and makes sure that the parser's tokens are PostgreSQL's.
pub fn parsed(sql: &str, context: &PlanContext) -> Result<Parsed, Refusal> {
    if misread::has_unclear_tokens(sql, context.standard_conforming_strings) {
        return Err(Refusal::new(Reason::NotUnderstood));
    }
    let parsed = parse::query_or_write(sql)?;
    if !misread::same_tokens(sql, &parsed, context.standard_conforming_strings) {
        return Err(Refusal::new(Reason::NotUnderstood));
    }
    Ok(parsed)
}

/// A statement without declared tables: the home shard. Whether a replica may
/// answer is asked of the parser; whatever it does not know goes to the primary.
fn elsewhere(names: &Names<'_>, sql: &str, context: &PlanContext) -> Plan {
    let mut unknown = Vec::new();
    let role = match parsed(sql, context) {
        Ok(Parsed {
            statement: Statement::Query(query),
            placeholders,
            ..
        }) => {
            let mut analysis = Analysis::new(names, context);
            analysis.placeholders = placeholders;
            match analysis.query(&query, None, &Ctes::default()) {
                Ok(_) => {
                    unknown.extend(analysis.seen.unknown.iter().cloned());
                    role(&analysis, true)
                }
                Err(refusal) => Role::Primary(refusal.reason.text().message.to_owned()),
            }
        }
        Ok(_) => Role::Primary("not a plain query".to_owned()),
        Err(refusal) => Role::Primary(refusal.reason.text().message.to_owned()),
    };
    Plan::Single(Single {
        target: Target::Home,
        role,
        fallback: None,
        otherwise: Refusal::new(Reason::SeveralShards),
        unknown,
    })
}

/// Whether a built-in function in the text may run SQL that the text does not show.
fn runs_sql(names: &Names<'_>, sql: &str) -> bool {
    let lower = sql.to_ascii_lowercase();
    names.anything_declared()
        && crate::catalog::types::words(&lower).any(super::functions::is_opaque)
}

/// Every identifier that could name a declared table must have been understood as something.
pub fn explained(
    analysis: &Analysis<'_>,
    names: &Names<'_>,
    parsed: &Parsed,
) -> Result<(), Refusal> {
    for token in &parsed.tokens {
        let Token::Word(word) = &token.token else {
            continue;
        };
        let name = fold(&word.value, word.quote_style.is_some());
        let unexplained = names.mentions(&name) && !analysis.explained.contains(&token.span.start);
        if unexplained {
            return Err(Refusal::about(
                Reason::NotUnderstood,
                format!("near \"{name}\""),
            ));
        }
    }
    Ok(())
}

/// Why only the primary may answer, or that a replica may too.
pub fn role(analysis: &Analysis<'_>, reads_only: bool) -> Role {
    let seen = &analysis.seen;
    let primary = |why: &str| Role::Primary(why.to_owned());
    if !reads_only || seen.writes {
        return primary("writes");
    }
    if seen.locks {
        return primary("locks rows");
    }
    if let Some((call, name)) = seen
        .calls
        .iter()
        .rev()
        .find(|(call, _)| **call > Call::Time)
    {
        return Role::Primary(match call {
            Call::Server => format!("{name}() belongs to one server"),
            _ => format!("{name}() is not proven to only read"),
        });
    }
    if seen.not_on_replicas {
        return primary("a table that replicas do not have");
    }
    if seen.catalogs {
        return primary("reads catalogs");
    }
    if !seen.unknown.is_empty() {
        return primary("a table that is not known");
    }
    // Nothing is gained from a replica, and such a statement must run exactly once.
    let table =
        |i: &super::scope::Instance<'_>| !matches!(i.source, Source::Rows | Source::Derived);
    if !analysis.instances.iter().any(table) {
        return primary("no table");
    }
    Role::Replica
}

/// The plan of a statement that has been walked. `target` is the instance that it writes to, if it writes.
pub fn finish(
    analysis: &Analysis<'_>,
    local: Local,
    target: Option<usize>,
) -> Result<Plan, Refusal> {
    let role = role(analysis, target.is_none());
    let sharded: Vec<usize> = analysis.sharded().map(|(index, _, _)| index).collect();
    let home = analysis.instances.iter().find_map(|i| match &i.source {
        Source::Home(name) => Some(name.clone()),
        _ => None,
    });
    let unknown: Vec<String> = analysis.seen.unknown.iter().cloned().collect();
    let worst = analysis
        .seen
        .calls
        .iter()
        .next_back()
        .filter(|(call, _)| **call > Call::Volatile);
    if let Some((Call::Anything, name)) = worst {
        return Err(Refusal::about(
            Reason::FunctionUnproven,
            format!("function {name}()"),
        ));
    }
    let otherwise = Refusal::new(Reason::SeveralShards);
    if sharded.is_empty() {
        let reference = analysis
            .instances
            .iter()
            .any(|i| matches!(i.source, Source::Reference(_)));
        let anywhere = reference
            && home.is_none()
            && worst.is_none()
            && target.is_none()
            && !analysis.seen.writes
            && !analysis.seen.locks
            && !analysis.seen.calls.contains_key(&Call::Volatile);
        let target = if anywhere {
            Target::AnyShard
        } else {
            Target::Home
        };
        return Ok(Plan::Single(Single {
            target,
            role,
            fallback: None,
            otherwise,
            unknown,
        }));
    }
    if let Some(name) = home {
        return Err(Refusal::about(
            Reason::HomeAndSharded,
            format!("table \"{name}\""),
        ));
    }
    if let Some((call, name)) = worst {
        let reason = if *call == Call::Home {
            Reason::FunctionUnproven
        } else {
            Reason::FunctionOfServer
        };
        return Err(Refusal::about(reason, format!("function {name}()")));
    }
    let keyed: Vec<KeyedBy> = sharded
        .iter()
        .filter_map(|i| keyed_by(analysis, *i))
        .collect();
    let pinned = keyed
        .iter()
        .all(|k| k.cond.is_point(k.sharded.columns.len()));
    let listed = keyed.iter().all(|k| k.cond != Cond::Any);
    match merge(analysis, local, &sharded, target) {
        Ok((merge, root)) => {
            // The root's keys are those of every row; the other instances follow it.
            let root = sharded.iter().position(|i| *i == root).unwrap_or(0);
            let mut keyed = keyed;
            keyed.swap(0, root);
            if pinned {
                let fallback = Some(merge);
                return Ok(Plan::Single(Single {
                    target: Target::Keys(keyed),
                    role,
                    fallback,
                    otherwise,
                    unknown,
                }));
            }
            keyed.truncate(1);
            Ok(Plan::Scatter(Scatter {
                target: Target::Keys(keyed),
                role,
                merge,
            }))
        }
        Err(refusal) if pinned || listed => {
            let otherwise = if pinned { otherwise } else { refusal };
            let target = Target::Keys(keyed);
            Ok(Plan::Single(Single {
                target,
                role,
                fallback: None,
                otherwise,
                unknown,
            }))
        }
        Err(refusal) => Err(about_table(analysis, &sharded, refusal)),
    }
}

/// Names the first sharded table, and the key that is missing.
fn about_table(analysis: &Analysis<'_>, sharded: &[usize], refusal: Refusal) -> Refusal {
    if refusal.detail.is_some() {
        return refusal;
    }
    let unbound = sharded
        .iter()
        .find(|i| analysis.key_condition(**i) == Cond::Any)
        .or(sharded.first());
    match unbound.map(|i| &analysis.instances[*i].source) {
        Some(Source::Sharded(relation, keyed)) => {
            let columns: Vec<&str> = keyed
                .sharded
                .columns
                .iter()
                .map(|(n, _)| n.as_str())
                .collect();
            Refusal::about(
                refusal.reason,
                format!(
                    "table \"{}\" is sharded by \"{}\"",
                    relation.name.name,
                    columns.join("\", \"")
                ),
            )
        }
        _ => refusal,
    }
}

/// How a statement over several shards is merged, and the instance whose keys say which shards.
fn merge(
    analysis: &Analysis<'_>,
    local: Local,
    sharded: &[usize],
    target: Option<usize>,
) -> Result<(Merge, usize), Refusal> {
    let merge = match local {
        Local::Rows => Merge::Concat,
        Local::Aggregates(list) => Merge::Aggregates(list),
        Local::No(refusal) => return Err(refusal),
    };
    if analysis.seen.writes {
        return Err(Refusal::new(Reason::Subquery));
    }
    if analysis.seen.locks {
        return Err(Refusal::new(Reason::Locking));
    }
    let roots: Vec<usize> = match target {
        Some(target) => vec![target],
        None => sharded.to_vec(),
    };
    let root = roots
        .into_iter()
        .find(|root| colocated(analysis, *root, sharded));
    root.map(|root| (merge, root))
        .ok_or_else(|| Refusal::new(Reason::Join))
}

/// Whether each row of every other instance is only joined to rows of `root` with the same whole key.
fn colocated(analysis: &Analysis<'_>, root: usize, sharded: &[usize]) -> bool {
    let Source::Sharded(_, key) = &analysis.instances[root].source else {
        return false;
    };
    sharded.iter().all(|other| {
        if *other == root {
            return true;
        }
        let Source::Sharded(_, theirs) = &analysis.instances[*other].source else {
            return false;
        };
        theirs.routable
            && key.routable
            && theirs.sharded.group == key.sharded.group
            && theirs.columns.len() == key.columns.len()
            && key
                .columns
                .iter()
                .zip(&theirs.columns)
                .all(|(mine, yours)| match (mine, yours) {
                    (Some(mine), Some(yours)) => analysis
                        .sources_of((*other, *yours), true)
                        .contains(&(root, *mine)),
                    _ => false,
                })
    })
}

/// What is known of the keys of one instance.
pub fn keyed_by(analysis: &Analysis<'_>, instance: usize) -> Option<KeyedBy> {
    let Source::Sharded(relation, keyed) = &analysis.instances[instance].source else {
        return None;
    };
    Some(KeyedBy {
        table: relation.name.clone(),
        sharded: keyed.sharded.clone(),
        cond: analysis.key_condition(instance),
        leaf: leaf_by(analysis, instance),
        kept: analysis
            .kept
            .iter()
            .filter(|(i, _, _)| *i == instance)
            .map(|(_, c, s)| (*c, s.clone()))
            .collect(),
        stored: analysis.stored.contains(&instance),
    })
}

/// How the leaf of a hash-partitioned table follows from the statement.
fn leaf_by(analysis: &Analysis<'_>, instance: usize) -> Option<LeafBy> {
    let Source::Sharded(relation, _) = &analysis.instances[instance].source else {
        return None;
    };
    let partitioning = relation.partitioning.as_ref()?;
    if partitioning.strategy != Strategy::Hash || partitioning.columns.is_empty() {
        return None;
    }
    let mut columns = Vec::new();
    let mut positions = Vec::new();
    for name in &partitioning.columns {
        let (position, _) = relation.column(name)?;
        columns.push((name.clone(), analysis.key_type((instance, position))?));
        positions.push(Some(position));
    }
    let leaves = partitioning.leaves.iter().map(|leaf| match leaf.bound {
        LeafBound::Hash { modulus, remainder } => Some((leaf.name.clone(), modulus, remainder)),
        LeafBound::Text(_) => None,
    });
    let leaves = leaves.collect::<Option<Vec<_>>>()?;
    let cond = analysis.condition(instance, &positions);
    cond.lists_keys(columns.len()).then_some(LeafBy {
        columns,
        cond,
        leaves,
    })
}
