//! The columns of a definition: their types as keys, and the primary key.

use mothership_shardmap::KeyType;
use sqlparser::ast::{
    ColumnDef, ColumnOption, CreateTable, DataType, TableConstraint, TimezoneInfo,
};

use crate::expr::cast_oid;
use crate::names::{Names, folded, same_family};
use crate::refuse::{Reason, Refusal};
use mothership_catalog::Name;

use super::constraint::plain_columns;
use super::path_of;

pub(super) fn key_column(
    names: &Names<'_>,
    column: &ColumnDef,
    declared: KeyType,
    table: &Name,
) -> Result<(), Refusal> {
    let refusal = || about_column(Reason::KeyType, table, &folded(&column.name));
    let actual = type_of(names, &column.data_type).ok_or_else(refusal)?;
    if !same_family(actual, declared) {
        return Err(refusal());
    }
    // Of a table that is there PostgreSQL says that it is.
    if actual != declared && names.catalog.relation(table).is_none() {
        return Err(about_column(
            Reason::KeyTypeOther,
            table,
            &folded(&column.name),
        ));
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
pub(super) fn type_of(names: &Names<'_>, data_type: &DataType) -> Option<KeyType> {
    use DataType as T;
    if let Some(oid) = cast_oid(data_type) {
        return KeyType::from_oid(oid);
    }
    if let Some(serial) = serial(data_type) {
        return Some(serial);
    }
    match data_type {
        T::Varchar(_) | T::CharacterVarying(_) | T::CharVarying(_) => Some(KeyType::Varchar),
        T::Numeric(_) | T::Decimal(_) => Some(KeyType::Numeric),
        T::Custom(name, _) => {
            let path = path_of(name);
            let last = path.last()?;
            if let Some(oid) = mothership_catalog::types::builtin_oid(last) {
                return KeyType::from_oid(oid);
            }
            let found = names.catalog.types.iter().find(|(n, _)| n.name == *last)?;
            KeyType::from_oid(names.catalog.base_type(found.1.oid))
        }
        T::Timestamp(_, zone) => match zone {
            TimezoneInfo::WithTimeZone | TimezoneInfo::Tz => Some(KeyType::TimestampTz),
            _ => Some(KeyType::Timestamp),
        },
        _ => None,
    }
}

/// The integer type of a `serial` column.
pub(super) fn serial(data_type: &DataType) -> Option<KeyType> {
    let DataType::Custom(name, _) = data_type else {
        return None;
    };
    match path_of(name).last()?.as_str() {
        "serial" | "serial4" => Some(KeyType::Int4),
        "bigserial" | "serial8" => Some(KeyType::Int8),
        "smallserial" | "serial2" => Some(KeyType::Int2),
        _ => None,
    }
}

/// The primary key, as far as its types are known.
pub(super) fn primary_key_of(create: &CreateTable) -> Vec<(String, KeyType)> {
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
            columns = plain_columns(&key.columns);
        }
    }
    let typed = columns.iter().map_while(|name| {
        let column = create.columns.iter().find(|c| folded(&c.name) == *name)?;
        let key_type = cast_oid(&column.data_type)
            .and_then(KeyType::from_oid)
            .or_else(|| serial(&column.data_type))
            .or(match &column.data_type {
                DataType::Varchar(_) | DataType::CharacterVarying(_) => Some(KeyType::Varchar),
                _ => None,
            })?;
        Some((name.clone(), key_type))
    });
    typed.collect()
}

/// A refusal about a column of a table that may not exist yet.
pub(super) fn about_column(reason: Reason, table: &Name, column: &str) -> Refusal {
    let detail = format!("table \"{}\", column \"{column}\"", table.name);
    Refusal::about(reason, detail)
}
