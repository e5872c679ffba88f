//! Statements that hold others, and those that no parser here looks into.

use super::gather::Gather;
use super::names::Names;
use super::refuse::{Reason, Refusal, not_understood, refuse};
use super::{Plan, PlanContext, Role, Single, Target, Touches};
use crate::catalog::types::words;
use crate::sql::effect::Statement;
use crate::sql::lexer::{Kind, Lexer};
use std::sync::Arc;

/// The home shard's primary.
pub fn home(why: &str) -> Plan {
    Plan::Single(Single {
        target: Target::Home,
        role: Role::Primary(why.to_owned()),
        fallback: None,
        gather: None,
        otherwise: Refusal::new(Reason::SeveralShards),
        unknown: Vec::new(),
        touches: Touches::Anything,
    })
}

/// EXPLAIN and cursors take statements of one shard only.
pub fn only_single(plan: Plan, reason: Reason) -> Result<Plan, Refusal> {
    match plan {
        Plan::Single(single) => {
            let otherwise = Refusal {
                reason,
                detail: single.otherwise.detail.clone(),
            };
            Ok(Plan::Single(Single {
                otherwise,
                fallback: None,
                gather: None,
                touches: Touches::Anything,
                ..single
            }))
        }
        Plan::Split(mut split) => {
            if let super::SplitRows::Values { whole, .. } = &mut split.rows {
                *whole = Some(Refusal::new(reason));
                split.touches = Touches::Anything;
                return Ok(Plan::Split(split));
            }
            refuse(reason)
        }
        // Over one shard, by its keys, it is untouched.
        Plan::Scatter(scatter) => match scatter.target {
            Target::Keys(keyed) if keyed.iter().all(|k| k.cond != super::condition::Cond::Any) => {
                Ok(Plan::Single(Single {
                    target: Target::Keys(keyed),
                    role: scatter.role,
                    fallback: None,
                    gather: None,
                    otherwise: Refusal::new(reason),
                    unknown: Vec::new(),
                    touches: Touches::Anything,
                }))
            }
            _ => refuse(reason),
        },
        Plan::Gather(gather) => {
            let listed = gather
                .keyed
                .iter()
                .all(|k| k.cond != super::condition::Cond::Any);
            if !listed || gather.home {
                return refuse(reason);
            }
            Ok(Plan::Single(Single {
                target: Target::Keys(gather.keyed.clone()),
                role: gather.role.clone(),
                fallback: None,
                gather: None,
                otherwise: Refusal::new(reason),
                unknown: Vec::new(),
                touches: Touches::Anything,
            }))
        }
        Plan::Fill(_) => refuse(reason),
        Plan::Refuse(refusal) => Err(refusal),
        Plan::Local(_) | Plan::Ddl(_) => Ok(plan),
    }
}

/// DECLARE up to its query. PostgreSQL lets a cursor go backwards where its plan can; rows that have been gathered always can.
pub fn declaration(statement: &Statement<'_>) -> Option<String> {
    let Statement::Declare {
        name,
        hold,
        scroll,
        binary,
        query: _,
    } = statement
    else {
        return None;
    };
    let binary = if *binary { "BINARY " } else { "" };
    let scroll = match scroll {
        Some(false) => "NO SCROLL",
        Some(true) | None => "SCROLL",
    };
    let hold = if *hold { " WITH HOLD" } else { "" };
    let name = super::parens::quoted(name.as_str()?);
    Some(format!("DECLARE {name} {binary}{scroll} CURSOR{hold} FOR "))
}

/// A cursor lives in a transaction, and FETCH must find it where it was declared.
pub fn cursor(plan: Plan) -> Result<Plan, Refusal> {
    match plan {
        Plan::Single(single) => Ok(Plan::Single(Single {
            role: Role::Primary("a cursor".to_owned()),
            touches: Touches::Anything,
            ..single
        })),
        Plan::Gather(gather) => Ok(Plan::Gather(Arc::new(Gather {
            role: Role::Primary("a cursor".to_owned()),
            ..(*gather).clone()
        }))),
        plan => Ok(plan),
    }
}

/// Whether a text that cannot be parsed names declared tables in string constants only,
/// and calls nothing that takes such a string for SQL: psql's `\d orders` asks the
/// catalog, which the home shard can answer.
pub fn names_nothing_declared(names: &Names<'_>, sql: &str, context: &PlanContext) -> bool {
    let mut rest = String::with_capacity(sql.len());
    for token in Lexer::new(sql.as_bytes(), context.standard_conforming_strings) {
        let text = sql.get(token.start..token.end).unwrap_or("u&\"");
        match token.kind {
            Kind::String | Kind::EscapeString => rest.push_str("''"),
            // Anything else that quotes may quote more than a string.
            kind if kind.is_string() => return false,
            _ => rest.push_str(text),
        }
        rest.push(' ');
    }
    let lower = rest.to_ascii_lowercase();
    !names.mentions(&rest) && !words(&lower).any(super::functions::is_opaque)
}

/// CALL and DO.
pub fn code(names: &Names<'_>, sql: &str) -> Result<Plan, Refusal> {
    let lower = sql.to_ascii_lowercase();
    let dynamic =
        words(&lower).any(|w| w == "execute") || words(&lower).any(super::functions::is_opaque);
    if names.mentions(sql) || (names.anything_declared() && dynamic) {
        return refuse(Reason::CodeUnproven);
    }
    Ok(home("code"))
}

/// What is no statement that we know: PostgreSQL will most likely refuse it.
pub fn unclear(names: &Names<'_>, sql: &str) -> Result<Plan, Refusal> {
    if names.mentions(sql) {
        return not_understood();
    }
    Ok(home("not understood"))
}
