//! Checks whether the role has the privileges for a statement on MongoDB documents.
//!
//! PostgreSQL checks privileges when it runs a statement; MongoDB does not know them. The plan is returned unchanged if the
//! role certainly has the table privileges that a statement of this kind needs, on every document table that the query
//! string may name. Otherwise the home shard runs EXPLAIN on the statement first. For EXPLAIN, PostgreSQL checks the same
//! privileges as for execution, including column privileges and those of view owners.
//!
//! Names are searched in the raw query string, as `names` does. A false match only costs one unnecessary EXPLAIN.

use super::names::Names;
use super::refuse::{Reason, Refusal};
use super::{Guarded, Plan, PlanContext, Temporary, copy};
use mothership_catalog::types::{may_name, words};
use mothership_catalog::{Name, TablePrivileges};
use mothership_sql::effect::{self, Direction, Statement};
use mothership_sql::lexer::{Kind, Lexer};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Returns the plan unchanged if the role certainly has the privileges. Otherwise returns a `Plan::Guarded`: the home shard
/// first runs EXPLAIN. Refuses tables with row security.
pub fn with_privilege_check(
    names: &Names<'_>,
    sql: &str,
    context: &PlanContext,
    plan: Plan,
) -> Plan {
    // A Fill is planned again after its values have been written in; the check is done then.
    if names.documents.is_empty()
        || matches!(
            plan,
            Plan::Refuse(_) | Plan::Local(_) | Plan::Ddl(_) | Plan::Fill(_)
        )
    {
        return plan;
    }
    let lower = sql.to_lowercase();
    // An identifier with Unicode escapes (U&"...") may be any name.
    let any_name = lower.contains("u&\"");
    let tables: Vec<&Name> = names
        .documents
        .keys()
        .filter(|table| any_name || may_mention(&lower, &table.name))
        .collect();
    let may_read_view = any_name
        || names
            .over_documents
            .iter()
            .any(|view| may_mention(&lower, view));
    if tables.is_empty() && !may_read_view {
        return plan;
    }
    let Some(question) = check_sql(names, sql, context) else {
        return plan;
    };
    let has_policies = |table: &&Name| {
        let relation = names.catalog.relation(table);
        relation.is_some_and(|relation| relation.row_security.is_some())
    };
    let may_be_read = |table: &&Name| may_read_view || tables.contains(table);
    let mut read = names.documents.keys().filter(may_be_read);
    if let Some(table) = read.find(has_policies) {
        return Plan::Refuse(Refusal::of_table(Reason::DocumentsRowSecurity, table));
    }
    let rights = &names.catalog.rights;
    let needed = required_privileges(&lower, sql, context);
    let certain = !may_read_view
        && context.temporary != Temporary::Unclear
        && tables
            .iter()
            .all(|table| rights.are_certain(table, &context.role, needed));
    if certain || *rights == mothership_catalog::Rights::Everybody {
        return plan;
    }
    Plan::Guarded(Guarded {
        plan: Arc::new(plan),
        question,
    })
}

/// The lower-case names of views that may read document tables, directly or through other views.
pub fn views_over_documents(names: &Names<'_>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if names.documents.is_empty() {
        return found;
    }
    loop {
        let before = found.len();
        for relation in names.catalog.relations.values() {
            let Some(definition) = &relation.definition else {
                continue;
            };
            let lower = definition.to_lowercase();
            let reads = names
                .documents
                .keys()
                .any(|table| may_mention(&lower, &table.name))
                || found.iter().any(|view: &String| may_mention(&lower, view));
            if reads {
                found.insert(relation.name.name.to_lowercase());
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// Whether the lower-case query string may contain this name.
fn may_mention(lower: &str, name: &str) -> bool {
    may_name(lower, &name.to_lowercase())
}

/// The privileges that a statement with these words may need: rather too many than too few. A word in a string or a name
/// counts, too. SELECT is always one of them, because WHERE, RETURNING and ON CONFLICT read rows.
fn required_privileges(lower: &str, sql: &str, context: &PlanContext) -> TablePrivileges {
    let has = |wanted: &[&str]| words(lower).any(|word| wanted.contains(&word));
    let strings = context.standard_conforming_strings;
    let copied_in = matches!(
        effect::analyse(sql.as_bytes(), strings).statement,
        Statement::Copy {
            direction: Direction::In,
            ..
        }
    );
    TablePrivileges {
        select: true,
        insert: copied_in || has(&["insert", "merge"]),
        // SELECT ... FOR UPDATE and FOR SHARE also need the UPDATE privilege.
        update: has(&["update", "share", "merge"]),
        delete: has(&["delete", "merge"]),
    }
}

/// The EXPLAIN statement with which the home shard checks the privileges. `None` for statements of other kinds: the planner
/// refuses those that name a document table (`ddl::documents`), and CREATE TABLE AS checks the views that it reads
/// (`gather::views`).
fn check_sql(names: &Names<'_>, sql: &str, context: &PlanContext) -> Option<Arc<str>> {
    let strings = context.standard_conforming_strings;
    let statement = effect::analyse(sql.as_bytes(), strings).statement;
    let text: Cow<'_, str> = match statement {
        Statement::Select
        | Statement::Insert
        | Statement::Update
        | Statement::Delete
        | Statement::Merge => Cow::Borrowed(sql),
        Statement::Explain { inner, .. } => {
            return check_sql(names, sql.get(inner.start..inner.end)?, context);
        }
        // EXECUTE is planned with the whole text of its PREPARE. Check the body.
        Statement::Prepare { body, .. } => {
            return check_sql(names, sql.get(body.start..body.end)?, context);
        }
        Statement::Declare { query, .. } => Cow::Borrowed(sql.get(query.start..query.end)?),
        Statement::Copy {
            direction: Direction::Out,
            source,
            ..
        } => Cow::Owned(copy::rows_of(sql, &source).ok()?),
        Statement::Copy {
            direction: Direction::In,
            source,
            ..
        } => Cow::Owned(copy::insert_of(names, sql, &source, context)?),
        _ => return None,
    };
    let unbound = without_parameters(&text, context);
    Some(format!("EXPLAIN (COSTS OFF) {unbound}").into())
}

/// The query string with each parameter replaced by NULL, cast to the type that Parse declared for the parameter.
fn without_parameters(sql: &str, context: &PlanContext) -> String {
    let mut made = String::with_capacity(sql.len());
    let mut at = 0;
    for token in Lexer::new(sql.as_bytes(), context.standard_conforming_strings) {
        if token.kind != Kind::Param {
            continue;
        }
        let (Some(before), Some(number)) = (
            sql.get(at..token.start),
            sql.get(token.start + 1..token.end),
        ) else {
            continue;
        };
        made.push_str(before);
        let number: usize = number.parse().unwrap_or_default();
        let declared = context.parameter_types.get(number.wrapping_sub(1));
        match declared.and_then(|oid| mothership_catalog::types::builtin_name(*oid)) {
            Some(name) => {
                made.push_str("(NULL::pg_catalog.");
                made.push_str(name);
                made.push(')');
            }
            None => made.push_str(" NULL "),
        }
        at = token.end;
    }
    made.push_str(sql.get(at..).unwrap_or_default());
    made
}
