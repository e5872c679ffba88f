//! Tables of documents as PostgreSQL knows them: on the home shard each has a table of the same columns and keys, and
//! never a row.
//!
//! So `\d`, information_schema and every program that reads catalogs find it, a statement's types are PostgreSQL's own,
//! and what is computed of gathered rows is parsed against real columns. A constraint that no row meets says where the
//! rows are, to whoever would store one there. The table follows the configuration: it is made anew when its
//! declaration is another one, with the owner and the rights that it had.
//!
//! Who may read and write the documents, its owner and its rights say, as for any table: `plan::rights` heeds them.

use crate::commit::text::transaction;
use mothership_catalog::decode::default_kind;
use mothership_catalog::{Catalog, Collation, Handed, Key, Name, Relation, Rights};
use mothership_documents::{Collection, Column, Filled, REMARK, Unique};
use mothership_sql::quote;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

/// "moth" and "docs" as numbers: whoever makes such tables holds this advisory lock.
const LOCK: (i32, i32) = (0x6d6f_7468, 0x646f_6373);

/// Follows in those that nobody has rights on by himself.
const OWN_RIGHTS: &str = "rights are its own; ";

/// [`mothership_documents::VERSION`] as a number.
const VERSION_NUMBER: u32 = 150_000;

/// Why such a table cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DocumentsError {
    /// Somebody else made a table of that name.
    #[error("table {schema}.{table} exists and was not made for documents: it would hide them")]
    Taken {
        /// Its schema.
        schema: String,
        /// Its name.
        table: String,
    },
    /// The server said no, or cannot be reached.
    #[error("make the tables of documents")]
    Server(#[from] tokio_postgres::Error),
}

/// Makes the tables that are missing, and those anew whose declarations have changed. `client` is a connection of the
/// control role to the home shard. Waits for others who do the same at most `wait`. Cancel safe: one message is one
/// transaction.
///
/// # Errors
/// [`DocumentsError`]; nothing is changed then.
pub async fn declare(
    client: &Client,
    collections: &[&Arc<Collection>],
    wait: Duration,
) -> Result<(), DocumentsError> {
    let schemas = schemas(client).await?;
    let mut missing = String::new();
    for collection in collections {
        let schema = &collection.schema;
        if !schemas.contains(schema) {
            // Also "public", which somebody may have dropped on that server: its table went with it, and without
            // either nothing could be planned.
            missing.push_str(&schema_definition(schema));
        }
        let remark = remark(collection);
        match found(client, collection).await? {
            Some(known) if known == remark => {}
            Some(known) if known.starts_with(REMARK) => {
                let kept = rights(client, collection, &known).await?;
                let _ = write!(missing, "DROP TABLE {}; ", name(collection));
                missing.push_str(&definition(collection, &remark));
                missing.push_str(&kept);
                missing.push_str(&owner(collection));
            }
            Some(_) => {
                return Err(DocumentsError::Taken {
                    schema: collection.schema.clone(),
                    table: collection.table.clone(),
                });
            }
            None => {
                missing.push_str(&definition(collection, &remark));
                missing.push_str(&owner(collection));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let (class, object) = LOCK;
    let sql = format!(
        "{}; SET LOCAL client_min_messages = warning; \
         SELECT pg_catalog.pg_advisory_xact_lock({class}, {object}); {missing}",
        transaction(wait.as_millis())
    );
    match client.batch_execute(&sql).await {
        // Another router was faster; what it has made is looked at when this is asked again.
        Err(error) if error.code().is_some_and(is_of_another) => Ok(()),
        done => Ok(done?),
    }
}

/// The catalog of a PostgreSQL that has these tables and nothing else, for where there is none.
pub fn catalog(collections: &[&Arc<Collection>]) -> Catalog {
    let mut catalog = Catalog {
        server_version: VERSION_NUMBER,
        text_order: "UTF8 C C c".to_owned(),
        rights: Rights::Everybody,
        ..Catalog::default()
    };
    catalog.schemas.insert("public".to_owned());
    for collection in collections {
        catalog.schemas.insert(collection.schema.clone());
        let relation = relation(&catalog, collection);
        for key in &relation.keys {
            let index = Name::new(collection.schema.clone(), key.name.clone());
            catalog.indexes.insert(index, relation.name.clone());
        }
        catalog.relations.insert(relation.name.clone(), relation);
    }
    catalog
}

fn relation(catalog: &Catalog, collection: &Collection) -> Relation {
    let name = Name::new(collection.schema.clone(), collection.table.clone());
    let column = |column: &Column| {
        let type_name = column.kind.sql_name();
        // Without its modifier, wherever that is written.
        let parts = type_name.split_once('(');
        let parts = parts.and_then(|(plain, rest)| Some((plain, rest.split_once(')')?.1)));
        let plain = parts.map_or_else(
            || type_name.clone(),
            |(plain, rest)| format!("{plain}{rest}"),
        );
        let default = filled(column);
        mothership_catalog::Column {
            name: column.name.clone(),
            type_oid: column.kind.oid(),
            handed: Handed {
                full: type_name.clone(),
                ..Handed::plain(&plain)
            },
            type_name: plain,
            typmod: column.kind.modifier(),
            collation: match column.kind.is_collatable() {
                true => Collation::Bytes,
                false => Collation::Default,
            },
            not_null: column.not_null,
            default: default_kind(catalog, default.as_deref(), ("", None)),
            generated: None,
        }
    };
    let names = |key: &Unique| {
        let columns = key.columns.iter();
        columns
            .map(|at| collection.columns[*at].name.clone())
            .collect()
    };
    let keys = collection.unique.iter().enumerate();
    Relation {
        columns: collection.columns.iter().map(column).collect(),
        keys: keys
            .map(|(place, key)| Key {
                name: key.name.clone(),
                columns: names(key),
                primary: place == 0,
            })
            .collect(),
        contained: true,
        ..Relation::table(name)
    }
}

/// Whether a definition failed because somebody else has made or removed the same meanwhile.
fn is_of_another(code: &SqlState) -> bool {
    [
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_SCHEMA,
        SqlState::UNIQUE_VIOLATION,
        SqlState::UNDEFINED_TABLE,
    ]
    .contains(code)
}

/// The schemas that are there. `IF NOT EXISTS` would not do: it asks for the right to make one first.
async fn schemas(client: &Client) -> Result<BTreeSet<String>, DocumentsError> {
    let sql = "SELECT nspname FROM pg_catalog.pg_namespace";
    let messages = client.simple_query(sql).await?;
    let names = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(names.collect())
}

/// A schema for such tables.
fn schema_definition(schema: &str) -> String {
    format!(
        "CREATE SCHEMA IF NOT EXISTS {}; ",
        quote::identifier(schema)
    )
}

/// The comment on the table of that name, empty without one.
async fn found(client: &Client, collection: &Collection) -> Result<Option<String>, DocumentsError> {
    let sql = format!(
        "SELECT pg_catalog.obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
         WHERE n.nspname OPERATOR(pg_catalog.=) {}::pg_catalog.name \
         AND c.relname OPERATOR(pg_catalog.=) {}::pg_catalog.name",
        literal(&collection.schema),
        literal(&collection.table)
    );
    let messages = client.simple_query(&sql).await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    }))
}

/// Gives the table to its owner.
fn owner(collection: &Collection) -> String {
    let owner = collection.owner.as_deref();
    let given = owner.map(|owner| {
        format!(
            "ALTER TABLE {} OWNER TO {}; ",
            name(collection),
            quote::identifier(owner)
        )
    });
    given.unwrap_or_default()
}

fn remark(collection: &Collection) -> String {
    // The definition as it would be, whoever makes it.
    let mut hasher = std::hash::DefaultHasher::new();
    definition(collection, "").hash(&mut hasher);
    collection.owner.hash(&mut hasher);
    format!("{REMARK}{OWN_RIGHTS}{:016x}", hasher.finish())
}

/// What gives the table that is made anew the rights and the owner of the one that is there, as far as the columns are
/// still declared. Its owner has granted them then.
async fn rights(
    client: &Client,
    collection: &Collection,
    known: &str,
) -> Result<String, DocumentsError> {
    let sql = format!(
        "{RIGHTS} WHERE n.nspname OPERATOR(pg_catalog.=) {}::pg_catalog.name \
         AND c.relname OPERATOR(pg_catalog.=) {}::pg_catalog.name ORDER BY k.place",
        literal(&collection.schema),
        literal(&collection.table)
    );
    let messages = client.simple_query(&sql).await?;
    let mut kept = String::new();
    for message in &messages {
        let SimpleQueryMessage::Row(row) = message else {
            continue;
        };
        let is_declared = |name: &str| collection.columns.iter().any(|c| c.name == name);
        // Routers of before granted all of it to everybody.
        let is_ours = row.get(1) == Some("t") && !known[REMARK.len()..].starts_with(OWN_RIGHTS);
        if row.get(0).is_none_or(is_declared) && !is_ours {
            kept.push_str(row.get(2).unwrap_or_default());
        }
    }
    Ok(kept)
}

/// Statements that give away what a table has given away: the column that each is about, whether it is for everybody, and
/// its text.
const RIGHTS: &str = "SELECT k.attname, k.public, k.statement FROM pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
    CROSS JOIN LATERAL (SELECT 0 AS place, NULL::pg_catalog.name AS attname, \
            g.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid AS public, \
            pg_catalog.format('GRANT %s ON TABLE %I.%I TO %s%s; ', g.privilege_type, n.nspname, c.relname, \
                CASE WHEN g.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'PUBLIC' \
                ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)::pg_catalog.text) END, \
                CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS statement \
            FROM pg_catalog.aclexplode(c.relacl) g WHERE g.grantee OPERATOR(pg_catalog.<>) c.relowner \
        UNION ALL SELECT 1, a.attname, g.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid, \
            pg_catalog.format('GRANT %s (%I) ON TABLE %I.%I TO %s%s; ', g.privilege_type, a.attname, n.nspname, c.relname, \
                CASE WHEN g.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'PUBLIC' \
                ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)::pg_catalog.text) END, \
                CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) \
            FROM pg_catalog.pg_attribute a CROSS JOIN LATERAL pg_catalog.aclexplode(a.attacl) g \
            WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND NOT a.attisdropped \
            AND g.grantee OPERATOR(pg_catalog.<>) c.relowner \
        UNION ALL SELECT 2, NULL, false, \
            pg_catalog.format('ALTER TABLE %I.%I OWNER TO %I; ', n.nspname, c.relname, \
                pg_catalog.pg_get_userbyid(c.relowner)) \
            WHERE pg_catalog.pg_get_userbyid(c.relowner) OPERATOR(pg_catalog.<>) current_user) k";

fn definition(collection: &Collection, remark: &str) -> String {
    let name = name(collection);
    let mut parts: Vec<String> = collection.columns.iter().map(column).collect();
    for (place, key) in collection.unique.iter().enumerate() {
        let columns = key.columns.iter();
        let columns: Vec<String> = columns
            .map(|at| quote::identifier(&collection.columns[*at].name))
            .collect();
        let word = if place == 0 { "PRIMARY KEY" } else { "UNIQUE" };
        parts.push(format!(
            "CONSTRAINT {} {word} ({})",
            quote::identifier(&key.name),
            columns.join(", ")
        ));
    }
    parts.push("CONSTRAINT \"rows are in MongoDB\" CHECK (false) NO INHERIT".to_owned());
    format!(
        "CREATE TABLE {name} ({}); COMMENT ON TABLE {name} IS {}; ",
        parts.join(", "),
        literal(remark)
    )
}

fn column(column: &Column) -> String {
    let mut sql = format!(
        "{} {}",
        quote::identifier(&column.name),
        column.kind.sql_name()
    );
    if column.kind.is_collatable() {
        // MongoDB compares bytes.
        sql.push_str(" COLLATE pg_catalog.\"C\"");
    }
    if let Some(default) = filled(column) {
        let _ = write!(sql, " DEFAULT {default}");
    }
    if column.not_null {
        sql.push_str(" NOT NULL");
    }
    sql
}

/// What an INSERT gives that does not name the column, in SQL.
fn filled(column: &Column) -> Option<String> {
    let function = match column.default.as_ref()? {
        Filled::Now => "pg_catalog.now()",
        Filled::Uuid => "pg_catalog.gen_random_uuid()",
        // PostgreSQL has nothing like it; that there is one is what programs ask.
        Filled::ObjectId => {
            "pg_catalog.substr(pg_catalog.md5(pg_catalog.random()::pg_catalog.text), 1, 24)"
        }
        Filled::Constant(text) => return Some(literal(text)),
    };
    Some(function.to_owned())
}

fn name(collection: &Collection) -> String {
    format!(
        "{}.{}",
        quote::identifier(&collection.schema),
        quote::identifier(&collection.table)
    )
}

/// A string constant that means the same under every setting.
fn literal(text: &str) -> String {
    let mut sql = String::new();
    quote::push_literal(&mut sql, text);
    sql
}
