//! Tables whose rows are documents: columns, fields and keys as they are written.

use std::sync::Arc;

use super::names::Name;
use super::section::settings;
use super::tables::WrittenTable;
use super::value::{At, words};
use mothership_documents::{Collection, Column, Filled, Kind, Nulls, Unique};

settings! {
    /// A column of a table of kind "documents".
    pub struct WrittenColumn {
        /// Its name in SQL.
        restart name: At<Name>;
        /// Its type: bool, int2, int4, int8, float4, float8, numeric, text, varchar(n), uuid, bytea, timestamptz(3), timestamp(3), both also without (3), date, jsonb, objectid, or one of these with `[]`.
        restart sql_type: At<String>;
        /// The field of the document, such as `_id` or `address.city`; the column's name when it is not set.
        restart path: Option<At<String>>;
        /// This column holds all fields that no other column holds, as a jsonb object. You cannot combine it with `path`, `not_null` or `default`.
        restart rest: bool = false;
        /// NULL is an error.
        restart not_null: bool = false;
        /// What an INSERT stores that does not name it: `now()`, `gen_random_uuid()`, `objectid()`, or a constant in PostgreSQL's text form.
        restart default: Option<At<String>>;
    }
}

settings! {
    /// A unique key of a table of kind "documents". The first is its primary key. MongoDB must have the index.
    pub struct WrittenUnique {
        /// The name of the constraint in SQL.
        restart name: At<Name>;
        /// Its columns.
        restart columns: Vec<At<Name>>;
        /// The name of the index; MongoDB's own name for such an index when it is not set.
        restart index: Option<String>;
    }
}

words! {
    /// How NULL is written; either is read as NULL.
    pub enum NullsWord {
        /// As null.
        Store = "store",
        /// The field is left out.
        Omit = "omit",
    }
}

/// The declaration of a table, or each thing that is wrong with it: where, what, and what would be right.
pub(crate) fn collection(
    table: &WrittenTable,
) -> Result<Arc<Collection>, Vec<(usize, String, String)>> {
    let mut wrong = Vec::new();
    let name = &table.name.value;
    if !name.is_exact() {
        let what = format!("`{name}` of kind \"documents\" is a pattern");
        wrong.push((table.name.offset, what, "name one table".to_owned()));
    }
    if table.column.is_empty() {
        let what = format!("table `{name}` of kind \"documents\" has no columns");
        let fix = "add a [[table.column]] for each, with `name` and `sql_type`";
        wrong.push((table.name.offset, what, fix.to_owned()));
    }
    let mut columns: Vec<Column> = Vec::new();
    for written in &table.column {
        match column(written, &columns) {
            Ok(column) => columns.push(column),
            Err(mistake) => wrong.push(mistake),
        }
    }
    let mut unique = Vec::new();
    for written in &table.unique {
        match key(written, &columns) {
            Ok(key) => unique.push(key),
            Err(mistake) => wrong.push(mistake),
        }
    }
    if unique.is_empty() && wrong.is_empty() {
        let at_id = columns.iter().position(|column| column.path == ["_id"]);
        match at_id {
            Some(column) => unique.push(Unique {
                name: format!("{}_pkey", name.table),
                index: "_id_".to_owned(),
                columns: vec![column],
            }),
            None => {
                let what = format!("table `{name}` has no column with the path `_id`");
                let fix = "declare one: MongoDB keeps it unique, and it becomes the primary key";
                wrong.push((table.name.offset, what, fix.to_owned()));
            }
        }
    }
    if let Some(mistake) = unkept_id(table, &columns, &unique).filter(|_| wrong.is_empty()) {
        wrong.push(mistake);
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    for column in unique.first().into_iter().flat_map(|key| &key.columns) {
        columns[*column].not_null = true;
    }
    Ok(Arc::new(Collection {
        schema: name.schema.clone(),
        table: name.table.clone(),
        collection: table
            .collection
            .clone()
            .unwrap_or_else(|| name.table.clone()),
        columns,
        unique,
        owner: table.owner.clone(),
        nulls: match table.nulls {
            NullsWord::Store => Nulls::Store,
            NullsWord::Omit => Nulls::Omit,
        },
    }))
}

type Mistake = (usize, String, String);

/// MongoDB keeps `_id` unique alone, whatever else is in a key: a row that SQL would take is a duplicate there.
fn unkept_id(table: &WrittenTable, columns: &[Column], unique: &[Unique]) -> Option<Mistake> {
    let id = columns.iter().position(|column| column.path == ["_id"])?;
    if unique.iter().any(|key| key.columns == [id]) {
        return None;
    }
    let name = &columns[id].name;
    let written = table
        .column
        .iter()
        .find(|one| one.name.value.as_str() == name);
    let what = format!(
        "column `{name}` has the path `_id`, which MongoDB keeps unique by itself, and no unique key is of this column alone"
    );
    let fix = "make it the primary key or a [[table.unique]] by itself, or give it another path";
    let offset = written.map_or(table.name.offset, |one| one.name.offset);
    Some((offset, what, fix.to_owned()))
}

/// What may be not as it seems in a declaration that is right.
pub(super) fn warnings(collection: &Collection) -> Vec<String> {
    let nullable = |key: &Unique| {
        let mut columns = key.columns.iter().map(|at| &collection.columns[*at]);
        let column = columns.find(|column| !column.not_null)?;
        Some(format!(
            "unique key \"{}\" has column \"{}\", which may be NULL, and MongoDB takes NULLs for equal where they are \
             stored; declare `nulls` = \"omit\", or the column `not_null`",
            key.name, column.name
        ))
    };
    match collection.nulls {
        Nulls::Store => collection.unique.iter().filter_map(nullable).collect(),
        Nulls::Omit => Vec::new(),
    }
}

fn column(written: &WrittenColumn, before: &[Column]) -> Result<Column, Mistake> {
    let name = written.name.value.as_str().to_owned();
    if before.iter().any(|column| column.name == name) {
        let what = format!("there are two columns `{name}`");
        return Err((written.name.offset, what, "keep one of them".to_owned()));
    }
    let kind = Kind::from_name(&written.sql_type.value).ok_or_else(|| {
        let what = format!(
            "column `{name}` has the type {:?}, which documents do not have",
            written.sql_type.value
        );
        let fix = "bool, int2, int4, int8, float4, float8, numeric, text, varchar(n), uuid, bytea, timestamptz(3), timestamp(3), both also without (3), date, jsonb, objectid, or an array of one";
        (written.sql_type.offset, what, fix.to_owned())
    })?;
    if written.rest {
        return rest(written, kind, before);
    }
    let (text, offset) = match &written.path {
        Some(path) => (path.value.clone(), path.offset),
        None => (name.clone(), written.name.offset),
    };
    let path: Vec<String> = text.split('.').map(str::to_owned).collect();
    let odd = |part: &String| {
        let number = part.bytes().all(|byte| byte.is_ascii_digit());
        part.is_empty() || part.starts_with('$') || part.contains('\0') || number
    };
    if path.iter().any(odd) {
        let what = format!("column `{name}` has the path {text:?}");
        let fix = "names of fields joined by dots, none of them empty, a number, or with `$` at its beginning";
        return Err((offset, what, fix.to_owned()));
    }
    let clashes = |other: &&Column| {
        let shorter = other.path.len().min(path.len());
        !other.is_rest() && other.path[..shorter] == path[..shorter]
    };
    if let Some(other) = before.iter().find(clashes) {
        let what = format!(
            "the fields of columns `{}` and `{name}` overlap",
            other.name
        );
        let fix = "give each column a field of its own, none inside of another's";
        return Err((offset, what, fix.to_owned()));
    }
    if path == ["_id"] && matches!(kind, Kind::Array(_)) {
        let what = format!("column `{name}` is an array and has the path `_id`");
        return Err((offset, what, "MongoDB takes no array there".to_owned()));
    }
    let default = written.default.as_ref();
    let default = default
        .map(|default| filled(default, &kind, &name))
        .transpose()?;
    Ok(Column {
        // MongoDB has no document without it.
        not_null: written.not_null || path == ["_id"],
        name,
        kind,
        path,
        default,
    })
}

/// The column of all other fields: an object in every row, so that it is never NULL.
fn rest(written: &WrittenColumn, kind: Kind, before: &[Column]) -> Result<Column, Mistake> {
    let name = written.name.value.as_str().to_owned();
    if kind != Kind::Jsonb {
        let what = format!(
            "column `{name}` has all other fields and the type {}",
            kind.sql_name()
        );
        return Err((written.sql_type.offset, what, "write `jsonb`".to_owned()));
    }
    let default = written.default.as_ref().map(|default| default.offset);
    let path = written.path.as_ref().map(|path| path.offset);
    let not_null = written.not_null.then_some(written.name.offset);
    if let Some(offset) = path.or(default).or(not_null) {
        let what =
            format!("column `{name}` has all other fields, and a `path`, `default` or `not_null`");
        let fix =
            "leave these out: it is an object in every row, empty where there are no other fields";
        return Err((offset, what, fix.to_owned()));
    }
    if let Some(other) = before.iter().find(|column| column.is_rest()) {
        let what = format!(
            "columns `{}` and `{name}` both have all other fields",
            other.name
        );
        return Err((written.name.offset, what, "keep one of them".to_owned()));
    }
    Ok(Column {
        name,
        kind,
        path: Vec::new(),
        not_null: true,
        default: Some(Filled::Constant("{}".to_owned())),
    })
}

fn filled(default: &At<String>, kind: &Kind, column: &str) -> Result<Filled, Mistake> {
    let fits = |fits: bool, filled: Filled| match fits {
        true => Ok(filled),
        false => {
            let what = format!(
                "column `{column}` of type {} has the default {}",
                kind.sql_name(),
                default.value
            );
            Err((default.offset, what, "it is of another type".to_owned()))
        }
    };
    match default.value.trim() {
        "now()" => fits(
            matches!(kind, Kind::Timestamptz(_) | Kind::Timestamp(_)),
            Filled::Now,
        ),
        "gen_random_uuid()" => fits(*kind == Kind::Uuid, Filled::Uuid),
        "objectid()" => fits(*kind == Kind::ObjectId, Filled::ObjectId),
        _ => fits(
            mothership_documents::takes(kind, &default.value),
            Filled::Constant(default.value.clone()),
        ),
    }
}

/// Whether MongoDB has several entries for one value in an index. There is no array at `_id`.
fn has_parts(column: &Column) -> bool {
    match column.kind {
        Kind::Array(_) => true,
        Kind::Jsonb => column.path != ["_id"],
        _ => false,
    }
}

fn key(written: &WrittenUnique, columns: &[Column]) -> Result<Unique, Mistake> {
    let name = written.name.value.as_str().to_owned();
    let mut positions = Vec::with_capacity(written.columns.len());
    for column in &written.columns {
        let found = columns
            .iter()
            .position(|known| known.name == column.value.as_str());
        match found {
            Some(position) if has_parts(&columns[position]) => {
                let what = format!(
                    "unique key `{name}` names `{}`, which is {}",
                    column.value,
                    columns[position].kind.sql_name()
                );
                let fix =
                    "name columns of other types: MongoDB would keep the elements of arrays unique";
                return Err((column.offset, what, fix.to_owned()));
            }
            Some(position) if !positions.contains(&position) => positions.push(position),
            _ => {
                let what = format!("unique key `{name}` names `{}`", column.value);
                let fix = "name columns of the table, each once";
                return Err((column.offset, what, fix.to_owned()));
            }
        }
    }
    if positions.is_empty() {
        let what = format!("unique key `{name}` has no columns");
        return Err((written.name.offset, what, "name at least one".to_owned()));
    }
    let own = || {
        let fields: Vec<String> = positions.iter().map(|at| columns[*at].field()).collect();
        match fields.as_slice() {
            [field] if field == "_id" => "_id_".to_owned(),
            // As `createIndex` names an ascending index.
            fields => fields
                .iter()
                .map(|field| format!("{field}_1"))
                .collect::<Vec<_>>()
                .join("_"),
        }
    };
    Ok(Unique {
        index: written.index.clone().unwrap_or_else(own),
        name,
        columns: positions,
    })
}
