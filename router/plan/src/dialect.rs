//! What PostgreSQL has of the statements that the parser knows: clauses of other
//! databases are not understood.
//!
//! Every field of a node is named here, so that a new one in the parser does not
//! pass unseen. Whoever walks or prints a statement asks first.

use sqlparser::ast::{
    Delete, Insert, Merge, Query, Select, SelectFlavor, Update, WildcardAdditionalOptions,
};

/// Whether a query has only clauses that PostgreSQL knows.
pub fn knows_query(query: &Query) -> bool {
    let Query {
        with: _,
        body: _,
        order_by: _,
        limit_clause: _,
        fetch: _,
        locks: _,
        for_clause,
        settings,
        format_clause,
        pipe_operators,
    } = query;
    for_clause.is_none()
        && settings.is_none()
        && format_clause.is_none()
        && pipe_operators.is_empty()
}

/// The same of a SELECT.
pub fn knows_select(select: &Select) -> bool {
    let Select {
        select_token: _,
        optimizer_hints,
        distinct: _,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection: _,
        exclude,
        into: _,
        from: _,
        lateral_views,
        prewhere,
        selection: _,
        connect_by,
        group_by: _,
        cluster_by,
        distribute_by,
        sort_by,
        having: _,
        named_window: _,
        qualify,
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = select;
    select_modifiers.as_ref().is_none_or(|m| !m.is_any_set())
        && optimizer_hints.is_empty()
        && top.is_none()
        && exclude.is_none()
        && lateral_views.is_empty()
        && prewhere.is_none()
        && connect_by.is_empty()
        && cluster_by.is_empty()
        && distribute_by.is_empty()
        && sort_by.is_empty()
        && qualify.is_none()
        && value_table_mode.is_none()
        && *flavor == SelectFlavor::Standard
}

/// The same of `*`.
pub fn knows_wildcard(options: &WildcardAdditionalOptions) -> bool {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias,
    } = options;
    opt_ilike.is_none()
        && opt_exclude.is_none()
        && opt_except.is_none()
        && opt_replace.is_none()
        && opt_rename.is_none()
        && opt_alias.is_none()
}

/// The same of an INSERT.
pub fn knows_insert(insert: &Insert) -> bool {
    let Insert {
        insert_token: _,
        optimizer_hints,
        or,
        ignore,
        into: _,
        table: _,
        table_alias: _,
        columns: _,
        overwrite,
        source: _,
        assignments,
        partitioned,
        after_columns,
        has_table_keyword,
        on: _,
        returning: _,
        output,
        replace_into,
        priority,
        insert_alias,
        settings,
        format_clause,
        multi_table_insert_type,
        multi_table_into_clauses,
        multi_table_when_clauses,
        multi_table_else_clause,
    } = insert;
    optimizer_hints.is_empty()
        && or.is_none()
        && !ignore
        && !overwrite
        && assignments.is_empty()
        && partitioned.is_none()
        && after_columns.is_empty()
        && !has_table_keyword
        && output.is_none()
        && !replace_into
        && priority.is_none()
        && insert_alias.is_none()
        && settings.is_none()
        && format_clause.is_none()
        && multi_table_insert_type.is_none()
        && multi_table_into_clauses.is_empty()
        && multi_table_when_clauses.is_empty()
        && multi_table_else_clause.is_none()
}

/// The same of an UPDATE.
pub fn knows_update(update: &Update) -> bool {
    let Update {
        update_token: _,
        optimizer_hints,
        table: _,
        assignments: _,
        from: _,
        selection: _,
        returning: _,
        output,
        or,
        order_by,
        limit,
    } = update;
    optimizer_hints.is_empty()
        && output.is_none()
        && or.is_none()
        && order_by.is_empty()
        && limit.is_none()
}

/// The same of a DELETE.
pub fn knows_delete(delete: &Delete) -> bool {
    let Delete {
        delete_token: _,
        optimizer_hints,
        tables,
        from: _,
        using: _,
        selection: _,
        returning: _,
        output,
        order_by,
        limit,
    } = delete;
    optimizer_hints.is_empty()
        && tables.is_empty()
        && output.is_none()
        && order_by.is_empty()
        && limit.is_none()
}

/// The same of a MERGE.
pub fn knows_merge(merge: &Merge) -> bool {
    let Merge {
        merge_token: _,
        optimizer_hints,
        into: _,
        table: _,
        source: _,
        on: _,
        clauses: _,
        output,
    } = merge;
    optimizer_hints.is_empty() && output.is_none()
}
