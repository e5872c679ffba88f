//! Names that PostgreSQL chooses for indexes, constraints and sequences, where the home shard would choose others.
//!
//! What has no name in a statement gets one that is free, with a number behind it if need be. On the home shard it may be
//! taken by something that the other shards do not have. Then shards would call one thing by different names, and what
//! names it afterwards would change it on some of them. See `ChooseIndexName` and `ChooseConstraintName` in PostgreSQL.

use std::collections::BTreeSet;

use sqlparser::ast::{
    AlterColumnOperation, AlterTableOperation, ColumnDef, ColumnOption, CreateIndex, CreateTable,
    Expr, Ident, IndexColumn, Statement, TableConstraint,
};

use crate::names::{MAX_NAME, Names, Resolved, fold, folded};
use crate::refuse::{Reason, Refusal, refuse};
use crate::{Ddl, DdlPlace, Plan, PlanContext, parse};
use mothership_catalog::types::words;
use mothership_catalog::{Name, Relation, RelationKind};
use mothership_sql::cursor::Cursor;

use super::actions::{Action, Alteration, action};
use super::column::serial;
use super::create::{name_of_new, parent_of};
use super::path_of;
use super::stem::{Stem, clipped};

/// Refuses a statement for which shards would choose different names.
pub(super) fn same_names(
    names: &Names<'_>,
    sql: &str,
    plan: &Plan,
    context: &PlanContext,
) -> Result<(), Refusal> {
    let Plan::Ddl(Ddl {
        place: DdlPlace::AllShards,
        ..
    }) = plan
    else {
        return Ok(());
    };
    let (stems, own) = stems(names, sql, context);
    let taken = stems.iter().find_map(|stem| stem.taken(names, own));
    match taken {
        None => Ok(()),
        Some(name) => Err(Refusal::about(
            Reason::NameChosen,
            format!("name \"{name}\""),
        )),
    }
}

/// The stems of a statement, and how many names of a table it may take itself.
fn stems(names: &Names<'_>, sql: &str, context: &PlanContext) -> (Vec<Stem>, usize) {
    match parse::statement(sql).map(|parsed| parsed.statement) {
        Ok(Statement::CreateTable(create)) => {
            let stems = of_table(names, &create, context);
            let own = stems.len();
            (stems, own)
        }
        Ok(Statement::CreateIndex(create)) => (of_index(names, &create, context), 1),
        _ => match parent_of(sql, context) {
            Some((own, parent)) => (of_unread_part(names, &own, &parent, context), 0),
            None => of_alteration(names, sql, context),
        },
    }
}

/// The same of CREATE STATISTICS without a name, which has one of the table and its columns.
pub(super) fn same_statistics(
    names: &Names<'_>,
    sql: &str,
    plan: &Plan,
    context: &PlanContext,
) -> Result<(), Refusal> {
    let Plan::Ddl(Ddl {
        place: DdlPlace::AllShards,
        ..
    }) = plan
    else {
        return Ok(());
    };
    let Some(table) = of_unnamed_statistics(sql, context) else {
        return Ok(());
    };
    let Resolved::Relation(table, _) = names.resolve(&table, context) else {
        return refuse(Reason::DdlNotUnderstood);
    };
    let stem = Stem::any(&table.name, "stat");
    let mut known = names.catalog.statistics.iter();
    let taken = known.find(|(name, of)| {
        name.schema == table.name.schema && stem.may_be(&name.name) && names.is_only_at_home(of)
    });
    match taken {
        None => Ok(()),
        Some((name, _)) => Err(Refusal::about(
            Reason::NameChosen,
            format!("name \"{}\"", name.name),
        )),
    }
}

/// The table in `CREATE STATISTICS [(kinds)] ON ... FROM table`.
fn of_unnamed_statistics(sql: &str, context: &PlanContext) -> Option<Vec<String>> {
    let mut c = Cursor::new(sql.as_bytes(), context.standard_conforming_strings);
    c.eat_all(&["create", "statistics"]).then_some(())?;
    c.group();
    c.eat("on").then_some(())?;
    while !c.eat("from") {
        if c.group().is_none() {
            c.bump()?;
        }
    }
    let path = c.path()?;
    let names = path.iter().map(|name| name.as_str().map(str::to_owned));
    names.collect()
}

/// CREATE TABLE. Of a table that is there none is chosen.
fn of_table(names: &Names<'_>, create: &CreateTable, context: &PlanContext) -> Vec<Stem> {
    let Some(table) = name_of_new(names, &path_of(&create.name), context) else {
        return Vec::new();
    };
    if names.catalog.relation(&table).is_some() {
        return Vec::new();
    }
    let columns: Vec<String> = create.columns.iter().map(|c| folded(&c.name)).collect();
    let own = create
        .columns
        .iter()
        .flat_map(|c| of_column(&table, c, &columns));
    let constraints = create.constraints.iter();
    let constraints = constraints.flat_map(|c| of_constraint(&table, c, &columns));
    let mut stems: Vec<Stem> = own.chain(constraints).collect();
    if let Some(parent) = create.partition_of.as_ref().map(path_of)
        && let Resolved::Relation(parent, _) = names.resolve(&parent, context)
    {
        stems.extend(of_part(names, &table, parent));
    }
    stems
}

/// CREATE TABLE ... PARTITION OF that is not read any further: it may have constraints of its own.
fn of_unread_part(
    names: &Names<'_>,
    own: &[String],
    parent: &[String],
    context: &PlanContext,
) -> Vec<Stem> {
    let table = name_of_new(names, own, context);
    let Some(table) = table.filter(|table| names.catalog.relation(table).is_none()) else {
        return Vec::new();
    };
    let words = ["pkey", "key", "excl", "check", "fkey", "seq"];
    let mut stems: Vec<Stem> = words.iter().map(|word| Stem::any(&table, word)).collect();
    if let Resolved::Relation(parent, _) = names.resolve(parent, context) {
        stems.extend(of_part(names, &table, parent));
    }
    stems
}

/// What a partition gets for the indexes of its parent.
fn of_part(names: &Names<'_>, part: &Name, parent: &Relation) -> Vec<Stem> {
    let is_known = |index: &Name| parent.keys.iter().any(|key| key.name == index.name);
    let mut indexes = names.catalog.indexes.iter();
    let others = indexes.any(|(index, table)| *table == parent.name && !is_known(index));
    let keys = parent.keys.iter().flat_map(|key| match key.primary {
        true => vec![Stem::of(part, "", "pkey")],
        // A unique index is no constraint, and what it includes is not known.
        false => vec![Stem::any(part, "key"), Stem::any(part, "idx")],
    });
    let excluded = parent.exclusions.iter().map(|_| Stem::any(part, "excl"));
    let others = others.then(|| Stem::any(part, "idx"));
    keys.chain(excluded).chain(others).collect()
}

/// CREATE INDEX. The indexes of partitions have no names in it.
fn of_index(names: &Names<'_>, create: &CreateIndex, context: &PlanContext) -> Vec<Stem> {
    let Resolved::Relation(table, _) = names.resolve(&path_of(&create.table_name), context) else {
        return Vec::new();
    };
    let of = |table: &Relation| of_keys(&table.name, &create.columns, &create.include, "idx");
    let own = create.name.is_none().then(|| of(table));
    let own = own.into_iter().flatten();
    own.chain(parts(names, table).flat_map(of)).collect()
}

/// The partitions of a table, and theirs.
fn parts<'a>(names: &Names<'a>, table: &Relation) -> impl Iterator<Item = &'a Relation> + use<'a> {
    let mut found: Vec<&'a Relation> = names.parts_of(&table.name).to_vec();
    let mut at = 0;
    while let Some(part) = found.get(at) {
        let more = names.parts_of(&part.name);
        // A broken catalog may have a circle.
        let new = more
            .iter()
            .filter(|m| !found.iter().any(|f| f.name == m.name));
        let new: Vec<&'a Relation> = new.copied().collect();
        found.extend(new);
        at += 1;
    }
    found.into_iter()
}

/// ALTER TABLE.
fn of_alteration(names: &Names<'_>, sql: &str, context: &PlanContext) -> (Vec<Stem>, usize) {
    let strings = context.standard_conforming_strings;
    let read = Alteration::of(sql, strings);
    let table = read.as_ref().map(|read| names.resolve(&read.path, context));
    let (Some(read), Some(Resolved::Relation(table, _))) = (read, table) else {
        return (Vec::new(), 0);
    };
    if table.kind != RelationKind::Table {
        return (Vec::new(), 0);
    }
    let each = read
        .actions
        .iter()
        .flat_map(|text| match action(text, strings) {
            Action::Join(other) => match names.resolve(&other, context) {
                // The one is a part of the other.
                Resolved::Relation(other, _) => {
                    let mut stems = of_part(names, &other.name, table);
                    for part in parts(names, other) {
                        stems.extend(of_part(names, &part.name, table));
                    }
                    stems
                }
                _ => Vec::new(),
            },
            Action::Other => match parse::statement(&read.alone(text)).map(|p| p.statement) {
                Ok(Statement::AlterTable(alter)) => {
                    let operations = alter.operations.iter();
                    operations
                        .flat_map(|o| of_operation(names, table, o))
                        .collect()
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        });
    let stems: Vec<Stem> = each.collect();
    // Each partition takes no more.
    let own = stems.iter().filter(|stem| stem.table == table.name).count();
    let own = own.max(read.actions.len());
    (stems, own)
}

fn of_operation(names: &Names<'_>, table: &Relation, operation: &AlterTableOperation) -> Vec<Stem> {
    use AlterTableOperation as Op;
    let columns: Vec<String> = table.columns.iter().map(|c| c.name.clone()).collect();
    let own: Vec<Stem> = match operation {
        Op::AddConstraint { constraint, .. } => of_constraint(&table.name, constraint, &columns),
        Op::AddColumn {
            column_def,
            if_not_exists,
            ..
        } => {
            let name = folded(&column_def.name);
            match *if_not_exists && columns.contains(&name) {
                true => Vec::new(),
                false => {
                    let columns: Vec<String> = columns.iter().cloned().chain([name]).collect();
                    of_column(&table.name, column_def, &columns)
                }
            }
        }
        Op::AlterColumn {
            column_name,
            op: AlterColumnOperation::AddGenerated { .. },
        } => vec![Stem::of(&table.name, &folded(column_name), "seq")],
        _ => Vec::new(),
    };
    let indexes = keys_of(operation, &table.name, &columns);
    let of_parts = parts(names, table).flat_map(|part| {
        let indexes = indexes.iter().cloned();
        indexes.map(|stem| Stem {
            table: part.name.clone(),
            ..stem
        })
    });
    let of_parts: Vec<Stem> = of_parts.collect();
    own.into_iter().chain(of_parts).collect()
}

/// The indexes that an operation makes, which partitions get with names of their own whatever theirs is.
fn keys_of(operation: &AlterTableOperation, table: &Name, columns: &[String]) -> Vec<Stem> {
    use AlterTableOperation as Op;
    let unnamed: Vec<Stem> = match operation {
        Op::AddConstraint { constraint, .. } => {
            let mut constraint = constraint.clone();
            match &mut constraint {
                TableConstraint::PrimaryKey(key) => key.name = None,
                TableConstraint::Unique(key) => key.name = None,
                _ => {}
            }
            of_constraint(table, &constraint, columns)
        }
        Op::AddColumn { column_def, .. } => {
            let mut column = column_def.clone();
            column.options.iter_mut().for_each(|o| o.name = None);
            of_column(table, &column, columns)
        }
        _ => Vec::new(),
    };
    let is_index = |stem: &Stem| matches!(stem.word, "pkey" | "key" | "excl");
    unnamed.into_iter().filter(is_index).collect()
}

fn of_column(table: &Name, column: &ColumnDef, columns: &[String]) -> Vec<Stem> {
    let name = folded(&column.name);
    let serial = serial(&column.data_type).map(|_| Stem::of(table, &name, "seq"));
    let options = column.options.iter().flat_map(|option| {
        let named = option.name.is_some();
        match &option.option {
            ColumnOption::Generated {
                generation_expr: None,
                ..
            } => vec![Stem::of(table, &name, "seq")],
            ColumnOption::PrimaryKey(_) if !named => vec![Stem::of(table, "", "pkey")],
            ColumnOption::Unique(_) if !named => vec![Stem::of(table, &name, "key")],
            ColumnOption::ForeignKey(_) if !named => vec![Stem::of(table, &name, "fkey")],
            ColumnOption::Check(check) if !named => of_check(table, &check.expr, columns),
            _ => Vec::new(),
        }
    });
    serial.into_iter().chain(options).collect()
}

fn of_constraint(table: &Name, constraint: &TableConstraint, columns: &[String]) -> Vec<Stem> {
    match constraint {
        TableConstraint::PrimaryKey(key) if key.name.is_none() => {
            vec![Stem::of(table, "", "pkey")]
        }
        TableConstraint::Unique(key) if key.name.is_none() => {
            of_keys(table, &key.columns, &key.include, "key")
        }
        TableConstraint::ForeignKey(key) if key.name.is_none() => {
            let columns: Vec<String> = key.columns.iter().map(folded).collect();
            vec![Stem::of(table, &joined(&columns), "fkey")]
        }
        TableConstraint::Check(check) if check.name.is_none() => {
            of_check(table, &check.expr, columns)
        }
        _ => Vec::new(),
    }
}

/// A check is called by its column if it has one, and else by the table.
fn of_check(table: &Name, check: &Expr, columns: &[String]) -> Vec<Stem> {
    let check = check.to_string().to_ascii_lowercase();
    let columns = columns.iter().map(String::as_str);
    let columns = columns.filter(|c| check.contains(&c.to_ascii_lowercase()));
    let columns = columns.chain([""]);
    columns.map(|c| Stem::of(table, c, "check")).collect()
}

/// The stems of an index: its columns by name, and of an expression all that PostgreSQL may call it by.
fn of_keys(
    table: &Name,
    columns: &[IndexColumn],
    include: &[Ident],
    word: &'static str,
) -> Vec<Stem> {
    let each = columns.iter().map(|column| match &column.column.expr {
        Expr::Identifier(ident) => Some(vec![folded(ident)]),
        expr => called(expr),
    });
    let included = include.iter().map(|ident| Some(vec![folded(ident)]));
    let mut lists: Option<Vec<Vec<String>>> = Some(vec![Vec::new()]);
    for names in each.chain(included) {
        lists = lists.zip(names).and_then(|(lists, names)| {
            let longer = lists.iter().flat_map(|list| {
                names
                    .iter()
                    .map(|name| [list.as_slice(), std::slice::from_ref(name)].concat())
            });
            (lists.len() * names.len() <= MAX_LISTS).then(|| longer.collect())
        });
    }
    match lists {
        Some(lists) => {
            let lists = lists.iter().map(|list| joined(&different(list)));
            lists
                .map(|columns| Stem::of(table, &columns, word))
                .collect()
        }
        None => vec![Stem::any(table, word)],
    }
}

/// So many names are tried one by one for an index of several expressions.
const MAX_LISTS: usize = 1000;

/// What `FigureIndexColname` calls expressions by that does not stand in them.
const CALLED: [&str; 22] = [
    "array",
    "bit",
    "bool",
    "bpchar",
    "btrim",
    "case",
    "date_part",
    "expr",
    "float4",
    "float8",
    "int2",
    "int4",
    "int8",
    "is_normalized",
    "ltrim",
    "numeric",
    "pg_collation_for",
    "row",
    "rtrim",
    "timestamptz",
    "timezone",
    "varchar",
];

/// What an expression may be called by: one of its words, or one of these.
fn called(expr: &Expr) -> Option<Vec<String>> {
    let text = expr.to_string();
    let text = (!text.contains('"')).then(|| text.to_ascii_lowercase())?;
    let own: BTreeSet<&str> = words(&text).chain(CALLED).collect();
    Some(
        own.into_iter()
            .map(|word| fold(word, true).into_owned())
            .collect(),
    )
}

/// `ChooseIndexColumnNames`: one that was there before gets a number.
fn different(names: &[String]) -> Vec<String> {
    let mut different: Vec<String> = Vec::new();
    for name in names {
        let numbered = (1..).map(|n: usize| {
            let number = n.to_string();
            let end = clipped(name, MAX_NAME - number.len());
            format!("{}{number}", &name[..end])
        });
        let mut all = std::iter::once(name.clone()).chain(numbered);
        different.extend(all.find(|name| !different.contains(name)));
    }
    different
}

/// `ChooseIndexNameAddition`: columns with a line between them, and no more than are looked at.
fn joined(columns: &[String]) -> String {
    let mut all = String::new();
    for column in columns {
        if !all.is_empty() {
            all.push('_');
        }
        all += column;
        if all.len() > MAX_NAME {
            break;
        }
    }
    all
}
