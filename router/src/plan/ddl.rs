//! Changes of definitions, TRUNCATE, LOCK and maintenance: where they are done.
//!
//! Objects live where their statements run: sharded and reference tables, schemas,
//! types, functions and grants on every shard; undeclared tables with their indexes
//! and views at home; roles, databases and tablespaces once per cluster. A constraint that no
//! shard could enforce for the whole table is refused.

use sqlparser::ast::{
    AlterTableOperation, ColumnDef, ColumnOption, CreateIndex, CreateTable, Expr,
    ForeignKeyConstraint, Ident, IndexColumn, ObjectName, Statement, TableConstraint,
};

use mothership_shardmap::{KeyType, Placement, Sharded};

use super::expr::cast_oid;
use super::names::{Names, Place, Resolved, fold, same_family};
use super::refuse::{Reason, Refusal};
use super::{Ddl, DdlPlace, Merge, Plan, PlanContext, Role, Scatter, Target, parse, utility};
use crate::catalog::{Name, RelationKind};
use crate::config::KnownTable;
use crate::sql::effect::{Object, Other, Verb};
use crate::sql::lexer::{Kind, Lexer};

fn ddl(place: DdlPlace, transactional: bool, why: &str) -> Plan {
    Plan::Ddl(Ddl {
        place,
        transactional,
        why: why.to_owned(),
    })
}

fn refuse<T>(reason: Reason) -> Result<T, Refusal> {
    Err(Refusal::new(reason))
}

/// Plans CREATE, ALTER, DROP, COMMENT, GRANT and their kin.
pub fn plan(
    names: &Names<'_>,
    sql: &str,
    verb: Verb,
    object: Object,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let words = Words::of(sql, context.standard_conforming_strings);
    let concurrently = words.has("concurrently");
    if matches!(verb, Verb::Create) && words.creates_temporary() {
        return temporary(names, sql, &words);
    }
    match object {
        Object::Role => Ok(ddl(
            DdlPlace::OncePerCluster,
            true,
            "roles belong to the cluster",
        )),
        Object::Database | Object::Tablespace | Object::System => Ok(ddl(
            DdlPlace::OncePerCluster,
            false,
            "belongs to the cluster",
        )),
        Object::Schema | Object::Routine | Object::Extension => {
            Ok(ddl(DdlPlace::AllShards, true, "the same on all shards"))
        }
        Object::Type => {
            // A new label cannot be used in the transaction that adds it.
            let adds_value = words.has("add") && words.has("value");
            Ok(ddl(
                DdlPlace::AllShards,
                !adds_value,
                "the same on all shards",
            ))
        }
        Object::Publication | Object::Subscription => {
            if names.mentions(sql) {
                return refuse(Reason::DdlNotUnderstood);
            }
            Ok(ddl(DdlPlace::Home, true, "replication of the home shard"))
        }
        Object::Sequence => sequence(names, sql, context),
        Object::View | Object::MaterializedView => view(names, sql, verb, object, context),
        Object::Table if matches!(verb, Verb::Create | Verb::Alter | Verb::Drop) => {
            table(names, sql, verb, context)
        }
        Object::Index => index(names, sql, verb, concurrently, context),
        _ => by_tables(names, sql, context),
    }
}

/// Temporary objects belong to the session's server, which is at home.
fn temporary(names: &Names<'_>, sql: &str, words: &Words) -> Result<Plan, Refusal> {
    // A list of columns reads nothing, whatever its names look like.
    let reads = ["as", "like", "inherits", "select", "execute", "owned"];
    let may_read = reads.iter().any(|word| words.has(word));
    if may_read && names.mentions(sql) {
        return refuse(Reason::CreateFromSharded);
    }
    Ok(utility::home("a temporary object"))
}

/// Statements of other kinds go where the tables are that they name: GRANT, COMMENT, triggers, policies.
fn by_tables(names: &Names<'_>, sql: &str, context: &PlanContext) -> Result<Plan, Refusal> {
    let words = Words::of(sql, context.standard_conforming_strings);
    match places_named(names, &words, context)? {
        Named::Declared => Ok(ddl(DdlPlace::AllShards, true, "names tables on all shards")),
        Named::Home => Ok(ddl(DdlPlace::Home, true, "names tables of the home shard")),
        Named::Both => refuse(Reason::MixedTables),
        Named::None if names.mentions(sql) => refuse(Reason::DdlNotUnderstood),
        Named::None => Ok(ddl(DdlPlace::AllShards, true, "the same on all shards")),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    None,
    Home,
    Declared,
    Both,
}

impl Named {
    fn and(self, other: Named) -> Named {
        match (self, other) {
            (Named::None, n) | (n, Named::None) => n,
            (a, b) if a == b => a,
            _ => Named::Both,
        }
    }
}

/// Where the relations live that the words of a statement may name. Words that name none are left out.
fn places_named(names: &Names<'_>, words: &Words, context: &PlanContext) -> Result<Named, Refusal> {
    let mut found = Named::None;
    for path in words.paths() {
        found = found.and(match names.resolve(path, context) {
            Resolved::Relation(relation, place) => match place {
                Place::Sharded(_) | Place::Reference => Named::Declared,
                Place::Home
                    if relation.kind == RelationKind::View
                        && names.mentions(&relation.name.name) =>
                {
                    Named::Declared
                }
                Place::Home => Named::Home,
            },
            Resolved::Missing(_) => Named::Declared,
            Resolved::Unclear => return refuse(Reason::NameUnclear),
            Resolved::System | Resolved::Temporary | Resolved::Unknown(_) => Named::None,
        });
    }
    Ok(found)
}

fn sequence(names: &Names<'_>, sql: &str, context: &PlanContext) -> Result<Plan, Refusal> {
    let words = Words::of(sql, context.standard_conforming_strings);
    // Sequences owned by columns of declared tables exist wherever their tables do.
    let known = words.paths().any(|path| {
        matches!(names.resolve(path, context), Resolved::Relation(r, _) if r.kind == RelationKind::Sequence)
    });
    if names.mentions(sql) && !known {
        return Ok(ddl(
            DdlPlace::AllShards,
            true,
            "a sequence of a table on all shards",
        ));
    }
    Ok(ddl(DdlPlace::Home, true, "sequences live at home"))
}

/// A view lives where all the tables live that it reads.
fn view(
    names: &Names<'_>,
    sql: &str,
    verb: Verb,
    object: Object,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let words = Words::of(sql, context.standard_conforming_strings);
    let named = places_named(names, &words, context)?;
    if object == Object::MaterializedView
        && names.mentions(sql)
        && matches!(verb, Verb::Create | Verb::Refresh)
    {
        return refuse(Reason::CreateFromSharded);
    }
    match named {
        Named::Both => refuse(Reason::ViewMixed),
        Named::Declared => Ok(ddl(DdlPlace::AllShards, true, "reads tables on all shards")),
        _ if names.mentions(sql) => refuse(Reason::DdlNotUnderstood),
        _ => Ok(ddl(DdlPlace::Home, true, "a view of the home shard")),
    }
}

// ---- Tables

fn table(names: &Names<'_>, sql: &str, verb: Verb, context: &PlanContext) -> Result<Plan, Refusal> {
    if verb == Verb::Drop {
        return drop_objects(names, sql, context);
    }
    let parsed = parse::statement(sql);
    if verb == Verb::Alter {
        return match parsed.map(|p| p.statement) {
            Ok(Statement::AlterTable(alter)) => alter_table(names, sql, &alter, context),
            _ => alter_unparsed(names, sql, context),
        };
    }
    match parsed.map(|p| p.statement) {
        Ok(Statement::CreateTable(create)) => create_table(names, sql, &create, context),
        // Undeclared tables may have any grammar; but it must be certain which table it is.
        _ => {
            let words = Words::of(sql, context.standard_conforming_strings);
            match words.path_after(&["table", "exists"]) {
                Some(name)
                    if !names.mentions(sql) && future(names, &name, &[], context)?.is_home() =>
                {
                    Ok(ddl(DdlPlace::Home, true, "a table of the home shard"))
                }
                _ => refuse(Reason::DdlNotUnderstood),
            }
        }
    }
}

fn drop_objects(names: &Names<'_>, sql: &str, context: &PlanContext) -> Result<Plan, Refusal> {
    let words = Words::of(sql, context.standard_conforming_strings);
    match places_named(names, &words, context)? {
        Named::Both => refuse(Reason::MixedTables),
        Named::Declared => Ok(ddl(DdlPlace::AllShards, true, "drops tables on all shards")),
        _ if names.mentions(sql) => refuse(Reason::DdlNotUnderstood),
        _ => Ok(ddl(DdlPlace::Home, true, "a table of the home shard")),
    }
}

/// A placement, or a home that is not declared.
struct Future {
    name: Name,
    placement: Placement,
}

impl Future {
    fn is_home(&self) -> bool {
        matches!(self.placement, Placement::Home)
    }
}

/// Where a table to be created will live. An unqualified name goes to the first schema of the path.
fn future(
    names: &Names<'_>,
    path: &[String],
    primary_key: &[(String, KeyType)],
    context: &PlanContext,
) -> Result<Future, Refusal> {
    let Some(name) = name_of_new(names, path, context) else {
        return refuse(Reason::DdlNotUnderstood);
    };
    if names.is_pending(&name.schema, &name.name) {
        return Err(about(Reason::KeyTypeUnknown, &name, ""));
    }
    let placement = names.future_place(&name, primary_key);
    Ok(Future { name, placement })
}

fn name_of_new(names: &Names<'_>, path: &[String], context: &PlanContext) -> Option<Name> {
    match path {
        [name] => {
            let mut path = context.search_path.iter();
            let schema = path.find(|s| names.catalog.schemas.contains(*s));
            let schema = schema.or(context.search_path.first());
            let schema = schema.map_or("public", String::as_str);
            Some(Name::new(schema, name))
        }
        [.., schema, name] => Some(Name::new(schema, name)),
        [] => None,
    }
}

fn path_of(name: &ObjectName) -> Vec<String> {
    name.0
        .iter()
        .filter_map(|p| p.as_ident())
        .map(folded)
        .collect()
}

fn folded(ident: &Ident) -> String {
    fold(&ident.value, ident.quote_style.is_some())
}

/// The name and columns of a table that a CREATE TABLE makes, as far as they stand in the statement; `None` for a
/// type that cannot be a key.
pub fn created(names: &Names<'_>, sql: &str, context: &PlanContext) -> Option<KnownTable> {
    let Ok(Statement::CreateTable(create)) = parse::statement(sql).map(|p| p.statement) else {
        return None;
    };
    // Their columns are not all in the statement.
    if create.query.is_some() || create.like.is_some() || create.inherits.is_some() {
        return None;
    }
    let columns = create.columns.iter();
    let columns = columns.map(|c| (folded(&c.name), type_of(names, &c.data_type)));
    let Name { schema, name } = name_of_new(names, &path_of(&create.name), context)?;
    Some(KnownTable {
        schema,
        name,
        columns: columns.collect(),
    })
}

fn create_table(
    names: &Names<'_>,
    sql: &str,
    create: &CreateTable,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let path = path_of(&create.name);
    // A partition lives with its parent.
    let parent = create.partition_of.as_ref().map(path_of);
    if let Some(parent) = parent {
        return match names.resolve(&parent, context) {
            Resolved::Relation(_, Place::Home) => {
                Ok(ddl(DdlPlace::Home, true, "a partition of a home table"))
            }
            Resolved::Relation(..) => Ok(ddl(DdlPlace::AllShards, true, "a partition")),
            _ => refuse(Reason::DdlNotUnderstood),
        };
    }
    let primary_key = primary_key_of(create);
    let future = future(names, &path, &primary_key, context)?;
    if create.query.is_some() || create.like.is_some() || create.inherits.is_some() {
        return match (future.is_home(), names.mentions(sql)) {
            (true, false) => Ok(ddl(DdlPlace::Home, true, "a table of the home shard")),
            _ => refuse(Reason::CreateFromSharded),
        };
    }
    let (keys, foreign_keys, excludes) = constraints_of(create)?;
    for foreign in &foreign_keys {
        foreign_key(names, foreign, &future, context)?;
    }
    let sharded = match &future.placement {
        Placement::Home => return Ok(ddl(DdlPlace::Home, true, "a table of the home shard")),
        Placement::Reference => return Ok(ddl(DdlPlace::AllShards, true, "a reference table")),
        Placement::Sharded(sharded) => sharded,
    };
    for (name, key_type) in &sharded.columns {
        let column = create.columns.iter().find(|c| folded(&c.name) == *name);
        let column = column.ok_or_else(|| about(Reason::KeyMissing, &future.name, name))?;
        key_column(names, column, *key_type, &future.name)?;
    }
    if !sharded.allow_unenforced_unique {
        for key in &keys {
            contains_key(key, sharded, &future.name, Reason::UnenforcedUnique)?;
        }
        if excludes {
            return Err(about(Reason::UnenforcedExclude, &future.name, ""));
        }
    }
    Ok(ddl(DdlPlace::AllShards, true, "a sharded table"))
}

fn about(reason: Reason, table: &Name, column: &str) -> Refusal {
    let column = if column.is_empty() {
        String::new()
    } else {
        format!(", column \"{column}\"")
    };
    Refusal::about(reason, format!("table \"{}\"{column}", table.name))
}

fn contains_key(
    columns: &[String],
    sharded: &Sharded,
    table: &Name,
    reason: Reason,
) -> Result<(), Refusal> {
    let missing = sharded
        .columns
        .iter()
        .find(|(name, _)| !columns.contains(name));
    match missing {
        None => Ok(()),
        Some((name, _)) => Err(about(reason, table, name)),
    }
}

fn key_column(
    names: &Names<'_>,
    column: &ColumnDef,
    declared: KeyType,
    table: &Name,
) -> Result<(), Refusal> {
    let refusal = || about(Reason::KeyType, table, &folded(&column.name));
    let actual = type_of(names, &column.data_type).ok_or_else(refusal)?;
    if !same_family(actual, declared) {
        return Err(refusal());
    }
    for option in &column.options {
        match &option.option {
            ColumnOption::Collation(name) => {
                // The catalog knows the collations of existing columns only.
                let bytewise = path_of(name)
                    .last()
                    .is_some_and(|n| matches!(n.as_str(), "C" | "POSIX" | "default"));
                if !bytewise {
                    return Err(refusal());
                }
            }
            ColumnOption::Generated {
                generation_expr: Some(_),
                ..
            } => return Err(refusal()),
            _ => {}
        }
    }
    Ok(())
}

/// The key type of a column definition; modifiers do not matter here.
fn type_of(names: &Names<'_>, data_type: &sqlparser::ast::DataType) -> Option<KeyType> {
    use sqlparser::ast::DataType as T;
    if let Some(oid) = cast_oid(data_type) {
        return KeyType::from_oid(oid);
    }
    match data_type {
        T::Varchar(_) | T::CharacterVarying(_) | T::CharVarying(_) => Some(KeyType::Varchar),
        T::Numeric(_) | T::Decimal(_) => Some(KeyType::Numeric),
        T::Custom(name, _) => {
            let path = path_of(name);
            let last = path.last()?;
            match last.as_str() {
                "serial" | "serial4" => return Some(KeyType::Int4),
                "bigserial" | "serial8" => return Some(KeyType::Int8),
                "smallserial" | "serial2" => return Some(KeyType::Int2),
                _ => {}
            }
            if let Some(oid) = crate::catalog::types::builtin_oid(last) {
                return KeyType::from_oid(oid);
            }
            let found = names.catalog.types.iter().find(|(n, _)| n.name == *last)?;
            KeyType::from_oid(names.catalog.base_type(found.1.oid))
        }
        T::Timestamp(_, zone) => match zone {
            sqlparser::ast::TimezoneInfo::WithTimeZone | sqlparser::ast::TimezoneInfo::Tz => {
                Some(KeyType::TimestampTz)
            }
            _ => Some(KeyType::Timestamp),
        },
        _ => None,
    }
}

fn primary_key_of(create: &CreateTable) -> Vec<(String, KeyType)> {
    let mut columns: Vec<String> = Vec::new();
    for column in &create.columns {
        if column
            .options
            .iter()
            .any(|o| matches!(o.option, ColumnOption::PrimaryKey(_)))
        {
            columns.push(folded(&column.name));
        }
    }
    for constraint in &create.constraints {
        if let TableConstraint::PrimaryKey(key) = constraint {
            columns = index_columns(&key.columns).unwrap_or_default();
        }
    }
    let typed = columns.iter().map_while(|name| {
        let column = create.columns.iter().find(|c| folded(&c.name) == *name)?;
        let key_type = cast_oid(&column.data_type)
            .and_then(KeyType::from_oid)
            .or(match &column.data_type {
                sqlparser::ast::DataType::Custom(n, _) => {
                    match path_of(n).last().map(String::as_str) {
                        Some("serial" | "serial4") => Some(KeyType::Int4),
                        Some("bigserial" | "serial8") => Some(KeyType::Int8),
                        Some("smallserial" | "serial2") => Some(KeyType::Int2),
                        _ => None,
                    }
                }
                sqlparser::ast::DataType::Varchar(_)
                | sqlparser::ast::DataType::CharacterVarying(_) => Some(KeyType::Varchar),
                _ => None,
            })?;
        Some((name.clone(), key_type))
    });
    typed.collect()
}

/// The plain columns of an index; None if an expression takes part.
fn index_columns(columns: &[IndexColumn]) -> Option<Vec<String>> {
    columns
        .iter()
        .map(|column| match &column.column.expr {
            Expr::Identifier(ident) => Some(folded(ident)),
            _ => None,
        })
        .collect()
}

struct Foreign {
    columns: Vec<String>,
    target: Vec<String>,
    target_columns: Vec<String>,
}

fn foreign_of(key: &ForeignKeyConstraint, own: Option<&Ident>) -> Foreign {
    Foreign {
        columns: match own {
            Some(column) => vec![folded(column)],
            None => key.columns.iter().map(folded).collect(),
        },
        target: path_of(&key.foreign_table),
        target_columns: key.referred_columns.iter().map(folded).collect(),
    }
}

/// Unique keys, foreign keys, and whether there is an exclusion constraint.
#[allow(clippy::type_complexity)]
fn constraints_of(create: &CreateTable) -> Result<(Vec<Vec<String>>, Vec<Foreign>, bool), Refusal> {
    let (mut keys, mut foreign, mut excludes) = (Vec::new(), Vec::new(), false);
    for column in &create.columns {
        for option in &column.options {
            match &option.option {
                ColumnOption::PrimaryKey(_) | ColumnOption::Unique(_) => {
                    keys.push(vec![folded(&column.name)])
                }
                ColumnOption::ForeignKey(key) => foreign.push(foreign_of(key, Some(&column.name))),
                _ => {}
            }
        }
    }
    for constraint in &create.constraints {
        collect(constraint, &mut keys, &mut foreign, &mut excludes)?;
    }
    Ok((keys, foreign, excludes))
}

fn collect(
    constraint: &TableConstraint,
    keys: &mut Vec<Vec<String>>,
    foreign: &mut Vec<Foreign>,
    excludes: &mut bool,
) -> Result<(), Refusal> {
    match constraint {
        TableConstraint::PrimaryKey(key) => {
            keys.push(index_columns(&key.columns).unwrap_or_default())
        }
        TableConstraint::Unique(key) => keys.push(index_columns(&key.columns).unwrap_or_default()),
        TableConstraint::ForeignKey(key) => foreign.push(foreign_of(key, None)),
        TableConstraint::Check(_) => {}
        // EXCLUDE and what takes an index of another name.
        _ => *excludes = true,
    }
    Ok(())
}

/// A foreign key is enforceable if the referenced rows are on every shard that may refer to them.
fn foreign_key(
    names: &Names<'_>,
    foreign: &Foreign,
    own: &Future,
    context: &PlanContext,
) -> Result<(), Refusal> {
    let refusal = || {
        Refusal::about(
            Reason::UnenforcedForeignKey,
            format!("table \"{}\"", own.name.name),
        )
    };
    let itself = future(names, &foreign.target, &[], context).is_ok_and(|f| f.name == own.name);
    let target = match names.resolve(&foreign.target, context) {
        Resolved::Relation(relation, place) => Some((relation, place)),
        _ if itself => None,
        Resolved::Unknown(_) if own.is_home() => return Ok(()),
        _ => return Err(refusal()),
    };
    let Placement::Sharded(mine) = &own.placement else {
        return match (&own.placement, target.map(|(_, place)| place)) {
            (_, None) => Ok(()),
            // Reference tables are at home too, and everywhere.
            (Placement::Home, Some(Place::Home | Place::Reference)) => Ok(()),
            (Placement::Reference, Some(Place::Reference)) => Ok(()),
            _ => Err(refusal()),
        };
    };
    let theirs = match &target {
        None => mine.clone(),
        Some((_, Place::Reference)) => return Ok(()),
        Some((_, Place::Home)) => return Err(refusal()),
        Some((_, Place::Sharded(keyed))) => keyed.sharded.clone(),
    };
    let target_columns = if foreign.target_columns.is_empty() {
        let primary =
            target.and_then(|(r, _)| r.keys.iter().find(|k| k.primary).map(|k| k.columns.clone()));
        primary.ok_or_else(refusal)?
    } else {
        foreign.target_columns.clone()
    };
    // Both whole shard keys, position by position, must be among the columns that are compared.
    let pairs: Vec<(&String, &String)> = foreign.columns.iter().zip(&target_columns).collect();
    let enforced = mine.group == theirs.group
        && mine.columns.len() == theirs.columns.len()
        && mine
            .columns
            .iter()
            .zip(&theirs.columns)
            .all(|((a, _), (b, _))| pairs.contains(&(a, b)));
    if enforced { Ok(()) } else { Err(refusal()) }
}

fn alter_table(
    names: &Names<'_>,
    sql: &str,
    alter: &sqlparser::ast::AlterTable,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let path = path_of(&alter.name);
    let (relation, place) = match names.resolve(&path, context) {
        Resolved::Relation(relation, place) => (relation, place),
        Resolved::Missing(name) => return Err(about(Reason::NotInCatalog, &name, "")),
        _ if names.mentions(sql) => return refuse(Reason::DdlNotUnderstood),
        _ => return Ok(ddl(DdlPlace::Home, true, "a table of the home shard")),
    };
    let placement = match &place {
        Place::Home => Placement::Home,
        Place::Reference => Placement::Reference,
        Place::Sharded(keyed) => Placement::Sharded(keyed.sharded.clone()),
    };
    let own = Future {
        name: relation.name.clone(),
        placement,
    };
    for operation in &alter.operations {
        alter_operation(names, operation, &own, context)?;
    }
    match own.placement {
        Placement::Home => Ok(ddl(DdlPlace::Home, true, "a table of the home shard")),
        _ => Ok(ddl(DdlPlace::AllShards, true, "a table on all shards")),
    }
}

fn alter_operation(
    names: &Names<'_>,
    operation: &AlterTableOperation,
    own: &Future,
    context: &PlanContext,
) -> Result<(), Refusal> {
    use AlterTableOperation as Op;
    let sharded = match &own.placement {
        Placement::Sharded(sharded) => Some(sharded),
        _ => None,
    };
    let is_key = |ident: &Ident| {
        sharded.is_some_and(|s| s.columns.iter().any(|(name, _)| *name == folded(ident)))
    };
    let key_change = |ident: &Ident| Err(about(Reason::KeyChange, &own.name, &folded(ident)));
    let enforce = |keys: Vec<Vec<String>>, foreign: Vec<Foreign>, excludes: bool| {
        for foreign in &foreign {
            foreign_key(names, foreign, own, context)?;
        }
        if let Some(sharded) = sharded.filter(|s| !s.allow_unenforced_unique) {
            for key in &keys {
                contains_key(key, sharded, &own.name, Reason::UnenforcedUnique)?;
            }
            if excludes {
                return Err(about(Reason::UnenforcedExclude, &own.name, ""));
            }
        }
        Ok(())
    };
    match operation {
        Op::AddConstraint { constraint, .. } => {
            let (mut keys, mut foreign, mut excludes) = (Vec::new(), Vec::new(), false);
            collect(constraint, &mut keys, &mut foreign, &mut excludes)?;
            enforce(keys, foreign, excludes)
        }
        Op::AddColumn { column_def, .. } => {
            let (mut keys, mut foreign) = (Vec::new(), Vec::new());
            for option in &column_def.options {
                match &option.option {
                    ColumnOption::PrimaryKey(_) | ColumnOption::Unique(_) => {
                        keys.push(vec![folded(&column_def.name)])
                    }
                    ColumnOption::ForeignKey(key) => {
                        foreign.push(foreign_of(key, Some(&column_def.name)))
                    }
                    ColumnOption::Default(expr) if !own.is_home() && !is_plain_default(expr) => {
                        // Rows that are there already get it at once, on each shard its own.
                        return Err(about(
                            Reason::DdlNotUnderstood,
                            &own.name,
                            &folded(&column_def.name),
                        ));
                    }
                    _ => {}
                }
            }
            enforce(keys, foreign, false)
        }
        Op::DropColumn { column_names, .. } => match column_names.iter().find(|c| is_key(c)) {
            Some(column) => key_change(column),
            None => Ok(()),
        },
        Op::RenameColumn {
            old_column_name, ..
        } if is_key(old_column_name) => key_change(old_column_name),
        Op::AlterColumn { column_name, op } if is_key(column_name) => {
            use sqlparser::ast::AlterColumnOperation as Column;
            match op {
                Column::SetNotNull | Column::SetDefault { .. } | Column::DropDefault => Ok(()),
                _ => key_change(column_name),
            }
        }
        Op::RenameColumn { .. }
        | Op::AlterColumn { .. }
        | Op::DropConstraint { .. }
        | Op::RenameConstraint { .. }
        | Op::ValidateConstraint { .. }
        | Op::OwnerTo { .. }
        | Op::EnableTrigger { .. }
        | Op::DisableTrigger { .. }
        | Op::EnableRowLevelSecurity
        | Op::DisableRowLevelSecurity
        | Op::ForceRowLevelSecurity
        | Op::NoForceRowLevelSecurity => Ok(()),
        // A declaration is by name, so a renamed table would change its place.
        _ if own.is_home() => Ok(()),
        _ => Err(about(Reason::DdlNotUnderstood, &own.name, "")),
    }
}

/// A default that gives the same value on every shard.
fn is_plain_default(expr: &Expr) -> bool {
    match expr {
        Expr::Value(_) | Expr::TypedString(_) => true,
        Expr::Nested(e) | Expr::Cast { expr: e, .. } | Expr::UnaryOp { expr: e, .. } => {
            is_plain_default(e)
        }
        _ => false,
    }
}

/// ALTER TABLE with grammar that the parser does not know: only where no declared table is concerned, or
/// where its words show that partitions are attached or detached.
fn alter_unparsed(names: &Names<'_>, sql: &str, context: &PlanContext) -> Result<Plan, Refusal> {
    let words = Words::of(sql, context.standard_conforming_strings);
    let partitions = (words.has("attach") || words.has("detach")) && words.has("partition");
    match places_named(names, &words, context)? {
        Named::Declared if partitions => Ok(ddl(
            DdlPlace::AllShards,
            !words.has("concurrently"),
            "partitions of a table on all shards",
        )),
        Named::Declared | Named::Both => refuse(Reason::DdlNotUnderstood),
        _ if names.mentions(sql) => refuse(Reason::DdlNotUnderstood),
        _ => Ok(ddl(
            DdlPlace::Home,
            !words.has("concurrently"),
            "a table of the home shard",
        )),
    }
}

// ---- Indexes

fn index(
    names: &Names<'_>,
    sql: &str,
    verb: Verb,
    concurrently: bool,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let transactional = !concurrently;
    if verb != Verb::Create {
        let words = Words::of(sql, context.standard_conforming_strings);
        let place = indexed_place(names, &words, context)?;
        return Ok(ddl(place, transactional, "an index"));
    }
    let Ok(Statement::CreateIndex(create)) = parse::statement(sql).map(|p| p.statement) else {
        let words = Words::of(sql, context.standard_conforming_strings);
        return match places_named(names, &words, context)? {
            Named::Declared | Named::Both => refuse(Reason::DdlNotUnderstood),
            _ if names.mentions(sql) => refuse(Reason::DdlNotUnderstood),
            _ => Ok(ddl(
                DdlPlace::Home,
                transactional,
                "an index of a home table",
            )),
        };
    };
    create_index(names, sql, &create, transactional, context)
}

/// Where the indexes live that a statement names. One that is not known may be on any shard: then
/// PostgreSQL says on each whether it exists.
fn indexed_place(
    names: &Names<'_>,
    words: &Words,
    context: &PlanContext,
) -> Result<DdlPlace, Refusal> {
    let mut found = Named::None;
    for path in words.paths() {
        let table = match path.as_slice() {
            [name] => context
                .search_path
                .iter()
                .find_map(|s| names.catalog.indexes.get(&Name::new(s, name))),
            [.., schema, name] => names.catalog.indexes.get(&Name::new(schema, name)),
            [] => None,
        };
        found = found.and(match table.map(|t| names.place(t)) {
            None => Named::None,
            Some(Place::Home) => Named::Home,
            Some(_) => Named::Declared,
        });
    }
    match found {
        Named::Both => refuse(Reason::MixedTables),
        Named::Declared => Ok(DdlPlace::AllShards),
        Named::None if names.anything_declared() => Ok(DdlPlace::AllShards),
        Named::Home | Named::None => Ok(DdlPlace::Home),
    }
}

fn create_index(
    names: &Names<'_>,
    sql: &str,
    create: &CreateIndex,
    transactional: bool,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    match names.resolve(&path_of(&create.table_name), context) {
        Resolved::Relation(relation, Place::Sharded(keyed)) => {
            if create.unique && !keyed.sharded.allow_unenforced_unique {
                let columns = index_columns(&create.columns).unwrap_or_default();
                contains_key(
                    &columns,
                    &keyed.sharded,
                    &relation.name,
                    Reason::UnenforcedUnique,
                )?;
            }
            Ok(ddl(
                DdlPlace::AllShards,
                transactional,
                "an index of a sharded table",
            ))
        }
        Resolved::Relation(_, Place::Reference) => Ok(ddl(
            DdlPlace::AllShards,
            transactional,
            "an index of a reference table",
        )),
        Resolved::Missing(name) => Err(about(Reason::NotInCatalog, &name, "")),
        Resolved::Unclear => refuse(Reason::NameUnclear),
        Resolved::Relation(_, Place::Home) => Ok(ddl(
            DdlPlace::Home,
            transactional,
            "an index of a home table",
        )),
        _ if names.mentions(sql) => refuse(Reason::DdlNotUnderstood),
        _ => Ok(ddl(
            DdlPlace::Home,
            transactional,
            "an index of a home table",
        )),
    }
}

/// What `CREATE TABLE` would refuse of the tables that are there already. Partitions are left to their parents.
pub fn unenforced(names: &Names<'_>) -> Vec<(Name, Refusal)> {
    let context = PlanContext::default();
    let mut all = Vec::new();
    for relation in names
        .catalog
        .relations
        .values()
        .filter(|r| r.parent.is_none())
    {
        let mut found = Vec::new();
        let place = names.place(&relation.name);
        if let Place::Sharded(keyed) = &place {
            if !keyed.routable {
                found.push(about(Reason::KeyType, &relation.name, ""));
            }
            if !keyed.sharded.allow_unenforced_unique {
                let keys = relation.keys.iter().map(|k| (k, Reason::UnenforcedUnique));
                let excludes = relation
                    .exclusions
                    .iter()
                    .map(|k| (k, Reason::UnenforcedExclude));
                for (key, reason) in keys.chain(excludes) {
                    if contains_key(&key.columns, &keyed.sharded, &relation.name, reason).is_err() {
                        found.push(Refusal::about(
                            reason,
                            format!(
                                "constraint \"{}\" of table \"{}\"",
                                key.name, relation.name.name
                            ),
                        ));
                    }
                }
            }
        }
        let placement = match place {
            Place::Home => Placement::Home,
            Place::Reference => Placement::Reference,
            Place::Sharded(keyed) => Placement::Sharded(keyed.sharded.clone()),
        };
        let own = Future {
            name: relation.name.clone(),
            placement,
        };
        for key in &relation.foreign_keys {
            let foreign = Foreign {
                columns: key.columns.clone(),
                target: vec![key.target.schema.clone(), key.target.name.clone()],
                target_columns: key.target_columns.clone(),
            };
            if foreign_key(names, &foreign, &own, &context).is_err() {
                found.push(Refusal::about(
                    Reason::UnenforcedForeignKey,
                    format!(
                        "constraint \"{}\" of table \"{}\"",
                        key.name, relation.name.name
                    ),
                ));
            }
        }
        all.extend(
            found
                .into_iter()
                .map(|refusal| (relation.name.clone(), refusal)),
        );
    }
    all
}

// ---- Rows and locks of whole tables

/// TRUNCATE: where its tables are.
pub fn truncate(names: &Names<'_>, sql: &str, context: &PlanContext) -> Result<Plan, Refusal> {
    let words = Words::of(sql, context.standard_conforming_strings);
    match places_named(names, &words, context)? {
        Named::Both => refuse(Reason::MixedTables),
        Named::Declared => Ok(Plan::Scatter(Scatter {
            target: Target::AllShards,
            role: Role::Primary("writes".to_owned()),
            merge: Merge::First,
        })),
        _ if names.mentions(sql) => refuse(Reason::DdlNotUnderstood),
        _ => Ok(utility::home("writes")),
    }
}

/// LOCK TABLE: where its tables are.
pub fn lock(names: &Names<'_>, sql: &str, context: &PlanContext) -> Result<Plan, Refusal> {
    truncate(names, sql, context)
}

/// ANALYZE, VACUUM and their kin.
pub fn maintenance(
    names: &Names<'_>,
    sql: &str,
    what: Other,
    context: &PlanContext,
) -> Result<Plan, Refusal> {
    let words = Words::of(sql, context.standard_conforming_strings);
    let transactional = match what {
        Other::Vacuum => false,
        Other::Reindex => {
            !words.has("concurrently") && !words.has("database") && !words.has("system")
        }
        Other::Load => return Ok(utility::home("a library of this session")),
        Other::Checkpoint => return Ok(ddl(DdlPlace::OncePerCluster, false, "the cluster")),
        Other::Analyze | Other::Cluster => true,
    };
    match places_named(names, &words, context)? {
        Named::Home => Ok(ddl(
            DdlPlace::Home,
            transactional,
            "tables of the home shard",
        )),
        Named::Both => refuse(Reason::MixedTables),
        Named::Declared | Named::None => {
            Ok(ddl(DdlPlace::AllShards, transactional, "on all shards"))
        }
    }
}

// ---- Words

/// The dotted names in a text, keywords among them, outside of strings and comments.
struct Words {
    paths: Vec<Vec<String>>,
}

impl Words {
    fn of(sql: &str, standard_conforming_strings: bool) -> Words {
        let mut paths: Vec<Vec<String>> = Vec::new();
        let mut after_dot = false;
        for token in Lexer::new(sql.as_bytes(), standard_conforming_strings) {
            let text = sql.get(token.start..token.end).unwrap_or_default();
            let name = match token.kind {
                Kind::Word => Some(fold(text, false)),
                Kind::QuotedIdent => {
                    let inner = text
                        .get(1..text.len().saturating_sub(1))
                        .unwrap_or_default();
                    Some(fold(&inner.replace("\"\"", "\""), true))
                }
                _ => None,
            };
            match (name, after_dot) {
                (Some(name), true) => match paths.last_mut() {
                    Some(path) => path.push(name),
                    None => paths.push(vec![name]),
                },
                (Some(name), false) => paths.push(vec![name]),
                (None, _) => {}
            }
            after_dot = token.kind == Kind::Dot;
        }
        Words { paths }
    }

    fn paths(&self) -> impl Iterator<Item = &Vec<String>> {
        self.paths.iter()
    }

    fn has(&self, word: &str) -> bool {
        self.paths
            .iter()
            .any(|path| matches!(path.as_slice(), [one] if one == word))
    }

    /// CREATE [OR REPLACE] [GLOBAL | LOCAL] TEMP ...
    fn creates_temporary(&self) -> bool {
        let skip = ["create", "or", "replace", "global", "local"];
        let first = self
            .paths
            .iter()
            .find(|path| !matches!(path.as_slice(), [w] if skip.contains(&w.as_str())));
        let word = first
            .is_some_and(|path| matches!(path.as_slice(), [w] if w == "temp" || w == "temporary"));
        word || self
            .paths
            .iter()
            .any(|path| path.len() > 1 && path[0].starts_with("pg_temp"))
    }

    /// The name that follows the last of some leading words.
    fn path_after(&self, words: &[&str]) -> Option<Vec<String>> {
        let head = self.paths.iter().take(8);
        let at = head.clone().rposition_of(words)?;
        self.paths.get(at + 1).cloned()
    }
}

trait Rposition {
    fn rposition_of(self, words: &[&str]) -> Option<usize>;
}

impl<'a, I: Iterator<Item = &'a Vec<String>>> Rposition for I {
    fn rposition_of(self, words: &[&str]) -> Option<usize> {
        let is =
            |path: &Vec<String>| matches!(path.as_slice(), [one] if words.contains(&one.as_str()));
        self.enumerate()
            .filter(|(_, path)| is(path))
            .map(|(at, _)| at)
            .last()
    }
}
