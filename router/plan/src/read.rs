//! Plans of queries.

use std::sync::Arc;

use sqlparser::ast::{Query, Statement};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::decide::{finish, home_table, of_one_server, on_one_shard, role};
use super::documents::{self, Hidden};
use super::gather::{self, Ending, Gather, Keep, Keeper, Root, views};
use super::misread;
use super::names::{Names, fold};
use super::parse::{self, Parsed};
use super::position::{is_called, may_be_name};
use super::query::{Ctes, Local};
use super::refuse::{Reason, Refusal, not_understood, refuse};
use super::scope::Analysis;
use super::setval::sets_sequence;
use super::slots::Text;
use super::sorted::SortedMerge;
use super::spelled::Spelled;
use super::touches::{Touches, touches};
use super::write;
use super::{Merge, Plan, PlanContext, Role, Scatter, Single, Target};
use mothership_sql::keywords::{self, is_reserved};

/// Why a query is gathered that could be computed otherwise.
const WISHED: &str = "mothership.plan is \"gather\"";

/// Plans SELECT, VALUES, TABLE and WITH.
pub fn plan(names: &Names<'_>, text: &Text<'_>, context: &PlanContext) -> Result<Plan, Refusal> {
    if !text.mentions(names) && !text.runs_sql(names) {
        return elsewhere(names, text, context);
    }
    let parsed = parsed(text, context)?;
    if let Some(fill) = write::filled((names, text, context), &parsed)? {
        return Ok(fill);
    }
    walked((names, text, context), parsed, &Ending::Answer, (0, None))
}

/// Plans a query whose rows are kept on one server: if several shards have them, they are gathered.
pub fn kept(
    names: &Names<'_>,
    sql: &[u8],
    context: &PlanContext,
    keep: Keep,
) -> Result<Plan, Refusal> {
    let Ok(sql) = std::str::from_utf8(sql) else {
        return not_understood();
    };
    let text = Text::whole(sql);
    if !text.mentions(names) && !text.runs_sql(names) {
        return elsewhere(names, &text, context);
    }
    let ending = Ending::Keep(Box::new(keep));
    let parsed = parsed(&text, context)?;
    walked((names, &text, context), parsed, &ending, (0, None))
}

/// Plans the query that says what documents become. `why` is said where their rows cannot be gathered.
pub fn changing(
    (names, sql, context): (&Names<'_>, &str, &PlanContext),
    ending: Ending,
    why: Refusal,
) -> Result<Plan, Refusal> {
    let text = Text::whole(sql);
    let parsed = parsed(&text, context)?;
    match walked((names, &text, context), parsed, &ending, (0, None)) {
        Ok(Plan::Gather(gather)) => {
            let gather = Arc::unwrap_or_clone(gather);
            // Only the home shard knows what the statement itself means.
            let home = true;
            Ok(Plan::Gather(Arc::new(Gather {
                home,
                why,
                ..gather
            })))
        }
        Ok(_) => Err(why),
        Err(refused) if refused.reason == Reason::Documents => Err(why),
        Err(refused) => Err(refused),
    }
}

/// Plans a parsed query. `depth` counts how often views have become part of it; for the reason `apart` shards may not
/// compute it apart.
fn walked(
    (names, text, context): (&Names<'_>, &Text<'_>, &PlanContext),
    parsed: Parsed,
    ending: &Ending,
    (depth, apart): (u64, Option<Refusal>),
) -> Result<Plan, Refusal> {
    let Statement::Query(query) = &parsed.statement else {
        return not_understood();
    };
    let mut analysis = Analysis::of(text, names, context);
    analysis.placeholders.clone_from(&parsed.placeholders);
    let output = analysis.query(query, None, &Ctes::default())?;
    explained(&analysis, names, &parsed)?;
    let finished = finish(&analysis, output.over_shards(), None);
    if analysis.seen.fires_once.is_some() {
        return on_one_shard(finished?, analysis.seen.fires_once);
    }
    let is_kept = *ending != Ending::Answer || text.gathers_documents();
    let hidden = match analysis.has_documents() {
        true => Hidden::None,
        false => names.hidden_documents(&parsed),
    };
    if analysis.has_documents() {
        // What documents become is computed on the home shard.
        let at_home = matches!(ending, Ending::Change(_)) || home_table(&analysis).is_some();
        if let Some(refusal) = of_one_server(&analysis, at_home) {
            return Err(refusal);
        }
    }
    let finished = match analysis.has_documents() {
        true => match documents::query(&analysis, (text, &parsed), is_kept, finished) {
            Err(why) => Err(why),
            Ok(Plan::Single(single)) if may_lead_apart(&single) => Ok(Plan::Single(single)),
            plan => return plan,
        },
        false if hidden == Hidden::Unclear => return refuse(Reason::Documents),
        // Only the home shard knows their table, which is empty there: nobody asks for its rows.
        false if hidden == Hidden::Unread => Err(Refusal::new(Reason::Documents)),
        false => finished,
    };
    let plan = match (finished, ending) {
        // There is no answer of theirs to merge: the rows are wanted on one server.
        (Ok(Plan::Scatter(_)), Ending::Keep(keep)) => Err(Refusal::new(keep.by.reason())),
        (Ok(_), Ending::Change(_)) => Err(Refusal::new(Reason::InsertSelect)),
        // Not even one shard of them is where the table will be.
        (Ok(Plan::Single(single)), Ending::Keep(keep))
            if keep.by == Keeper::Table && matches!(single.target, Target::Keys(_)) =>
        {
            Err(Refusal::new(keep.by.reason()))
        }
        (Ok(Plan::Single(single)), Ending::Keep(keep)) => Ok(Plan::Single(Single {
            fallback: None,
            otherwise: Refusal {
                reason: keep.by.reason(),
                ..single.otherwise
            },
            ..single
        })),
        (finished, _) => finished,
    };
    // What one server computes of all rows: views that only one server can compute have become subqueries in it.
    let gathered = |why: Refusal| match views::expanded(&analysis, query, &parsed, depth) {
        Some(parsed) => {
            let apart = Some(&why).filter(|why| why.reason == Reason::TimeHidden);
            let next = (depth + 1, apart.cloned());
            gathered_of(walked((names, text, context), parsed, ending, next)?).ok_or(why)
        }
        None => {
            let root = Root::Query(query);
            let gather = gather::plan(&analysis, root, &parsed, ending.clone(), why)?;
            let home = gather.home || hidden == Hidden::Unread;
            Ok(Arc::new(Gather { home, ..gather }))
        }
    };
    if let (Ok(Plan::Scatter(_)), Some(why)) =
        (&plan, apart.or_else(|| views::hide_time(&analysis)))
        && let Ok(gather) = gathered(why)
    {
        return Ok(Plan::Gather(gather));
    }
    if let Ok(found) = &plan
        && context.gathers
        && *ending == Ending::Answer
        && spreads(found)
        && let Ok(gather) = gathered(Refusal::about(Reason::SeveralShards, WISHED))
    {
        let gather = Gather {
            always: true,
            ..Arc::unwrap_or_clone(gather)
        };
        return Ok(Plan::Gather(Arc::new(gather)));
    }
    let plan = match plan {
        Err(why)
            if why.reason == Reason::FunctionOfServer
                && *ending == Ending::Answer
                && sets_sequence(&analysis, query, &parsed) =>
        {
            let gather = Arc::unwrap_or_clone(gathered(why)?);
            // The sequences that count are there.
            Plan::Gather(Arc::new(Gather {
                home: true,
                always: true,
                ..gather
            }))
        }
        Err(why) if gather::helps(why.reason) => {
            let reason = why.reason;
            let gather = gathered(why);
            match sorted(&analysis, query, reason, (&gather, ending)) {
                Some(scatter) => Plan::Scatter(scatter),
                None => Plan::Gather(gather?),
            }
        }
        Ok(Plan::Single(single)) if may_lead_apart(&single) => {
            let why = match analysis.has_documents() {
                // They are not sorted by columns that are added to the statement.
                true => Refusal::new(Reason::Documents),
                false => single.otherwise.clone(),
            };
            let reason = why.reason;
            let gather = gathered(why);
            match sorted(&analysis, query, reason, (&gather, ending)) {
                Some(scatter) => Plan::Scatter(scatter),
                None => Plan::Single(Single {
                    gather: gather.ok(),
                    ..single
                }),
            }
        }
        plan => plan?,
    };
    Ok(plan.touching(touches(&analysis, None, &parsed)))
}

/// Whether rows of sharded tables are what it reads, which can be gathered.
fn spreads(plan: &Plan) -> bool {
    match plan {
        Plan::Scatter(_) => true,
        Plan::Single(single) => matches!(single.target, Target::Keys(_)),
        _ => false,
    }
}

/// How a plan gathers what it reads, if it may have to.
fn gathered_of(plan: Plan) -> Option<Arc<Gather>> {
    match plan {
        Plan::Gather(gather) => Some(gather),
        Plan::Single(single) => single.gather,
        Plan::Scatter(Scatter {
            merge: Merge::Sorted(sorted),
            ..
        }) => sorted.otherwise.clone().ok(),
        Plan::Local(_)
        | Plan::Scatter(_)
        | Plan::Split(_)
        | Plan::Fill(_)
        | Plan::Ddl(_)
        | Plan::Guarded(_)
        | Plan::Refuse(_) => None,
    }
}

/// The plan of a query whose rows the shards can sort, if nothing else was in the way.
fn sorted(
    analysis: &Analysis<'_>,
    query: &Query,
    reason: Reason,
    (gather, ending): (&Result<Arc<Gather>, Refusal>, &Ending),
) -> Option<Scatter> {
    let helps = matches!(reason, Reason::OrderBy | Reason::Limit | Reason::Distinct);
    // What cannot be gathered is not for another reason than its locks, or a sample.
    let may_sort = |why: &Refusal| match why.reason {
        Reason::Locking => true,
        Reason::NotUnderstood => analysis.notes.sampled,
        _ => false,
    };
    if analysis.context.gathers && gather.is_ok() {
        return None;
    }
    if !helps || *ending != Ending::Answer || !gather.as_ref().err().is_none_or(may_sort) {
        return None;
    }
    if gather.is_ok() && views::hide_time(analysis).is_some() {
        return None;
    }
    let sorted = SortedMerge::plan(analysis, query, gather.clone())?;
    match finish(analysis, Local::Rows, None) {
        Ok(Plan::Scatter(scatter)) => Some(Scatter {
            merge: Merge::Sorted(Arc::new(sorted)),
            ..scatter
        }),
        _ => None,
    }
}

/// Whether the values of a Bind may lead to several shards, and no merge is known.
pub(super) fn may_lead_apart(single: &Single) -> bool {
    match &single.target {
        Target::Keys(keyed) if single.fallback.is_none() => match keyed.as_slice() {
            [by] => {
                let is_there = by.cond.is_point(by.sharded.columns.len());
                !is_there && by.sharded.shards.single().is_none()
            }
            _ => true,
        },
        _ => false,
    }
}

/// Parses a statement that may touch declared tables, and makes sure that the parser's tokens are PostgreSQL's.
pub fn parsed(text: &Text<'_>, context: &PlanContext) -> Result<Parsed, Refusal> {
    let strings = context.standard_conforming_strings;
    match parsed_as_it_is(text, strings) {
        Err(refusal) if refusal.reason == Reason::NotUnderstood && !text.is_masked() => {
            match Spelled::of(text.to_cut(), strings) {
                Some(spelled) => parsed_as_spelled(&spelled, strings),
                None => Err(refusal),
            }
        }
        parsed => parsed,
    }
}

fn parsed_as_it_is(text: &Text<'_>, strings: bool) -> Result<Parsed, Refusal> {
    if text.has_unclear_tokens(strings) {
        return not_understood();
    }
    let parsed = parse::query_or_write(text)?;
    if !misread::same_tokens(text.to_cut(), &parsed, strings) {
        return not_understood();
    }
    Ok(parsed)
}

fn parsed_as_spelled(text: &Spelled, strings: bool) -> Result<Parsed, Refusal> {
    if misread::has_unclear_tokens(&text.plain, strings) {
        return not_understood();
    }
    let parsed = parse::spelled(text)?;
    if !misread::same_tokens(&text.plain, &parsed, strings) {
        return not_understood();
    }
    Ok(parsed)
}

/// A statement without declared tables: the home shard. Whether a replica may
/// answer is asked of the parser; whatever it does not know goes to the primary.
fn elsewhere(names: &Names<'_>, text: &Text<'_>, context: &PlanContext) -> Result<Plan, Refusal> {
    if text.may_write() {
        text.home_triggers(names)?;
    }
    let mut unknown = Vec::new();
    let role = match parsed(text, context) {
        Ok(Parsed {
            statement: Statement::Query(query),
            placeholders,
            ..
        }) => {
            let mut analysis = Analysis::of(text, names, context);
            analysis.placeholders = placeholders;
            match analysis.query(&query, None, &Ctes::default()) {
                Ok(_) => {
                    unknown.extend(analysis.seen.unknown.iter().cloned());
                    role(&analysis, true)
                }
                Err(refusal) if refusal.reason == Reason::PreparedOverShards => {
                    return Ok(Plan::Refuse(refusal));
                }
                Err(refusal) => Role::Primary(refusal.reason.text().message.to_owned()),
            }
        }
        Ok(_) => Role::Primary("not a plain query".to_owned()),
        Err(refusal) => Role::Primary(refusal.reason.text().message.to_owned()),
    };
    Ok(Plan::Single(Single {
        target: Target::Home,
        role,
        fallback: None,
        gather: None,
        otherwise: Refusal::new(Reason::SeveralShards),
        unknown,
        locks_copies: false,
        touches: Touches::Anything,
    }))
}

/// Whether a built-in function in the text may run SQL that the text does not show.
pub fn runs_sql(names: &Names<'_>, sql: &str) -> bool {
    let lower = keywords::lower(sql);
    names.anything_declared()
        && mothership_catalog::types::words(&lower).any(super::functions::is_opaque)
}

/// Every identifier that could name a declared table must have been understood as something.
pub fn explained(
    analysis: &Analysis<'_>,
    names: &Names<'_>,
    parsed: &Parsed,
) -> Result<(), Refusal> {
    for (at, token) in parsed.tokens.iter().enumerate() {
        let Token::Word(word) = &token.token else {
            continue;
        };
        let name = fold(&word.value, word.quote_style.is_some());
        // The ORDER of ORDER BY names no table "order", but `public.order` does.
        let before = at.checked_sub(1).map(|before| &parsed.tokens[before].token);
        let qualified = before == Some(&Token::Period);
        if word.quote_style.is_none() && !qualified && is_reserved(&name) {
            continue;
        }
        if is_in_operator(&parsed.tokens, at) {
            continue;
        }
        let unexplained = names.mentions(&name) && !analysis.explained.contains(&token.span.start);
        if unexplained && word.quote_style.is_none() {
            // Patterns are of tables, and no table that is not there is called.
            let by_pattern = is_called(&parsed.tokens, at) && !names.mentions_known(&name);
            if by_pattern || !may_be_name(&parsed.tokens, at) {
                continue;
            }
        }
        if unexplained {
            return Err(Refusal::about(
                Reason::NotUnderstood,
                format!("near \"{name}\""),
            ));
        }
    }
    Ok(())
}

/// Whether a word is the schema of `OPERATOR(schema.=)`, which names no table.
fn is_in_operator(tokens: &[TokenWithSpan], at: usize) -> bool {
    let token = |back: usize| Some(&tokens[at.checked_sub(back)?].token);
    matches!(token(1), Some(Token::LParen))
        && matches!(token(2), Some(Token::Word(word))
            if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("operator"))
        && matches!(
            tokens.get(at + 1).map(|next| &next.token),
            Some(Token::Period)
        )
}
