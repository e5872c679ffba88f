//! The router's schema in each database that takes part: the decision table with its functions, and the record of which
//! shard the database is (`model/owned`).
//!
//! Everything belongs to the control role. Clients may call `decide`, which writes
//! the decision of the backend that they are connected to and of no other, and
//! `backend`, which says which one that is. A client that calls `decide` by itself
//! makes a row that no transaction refers to; recovery deletes it.
//!
//! [`install`] may run on many routers at once and again and again; [`check`] says
//! what is missing. SQL here sees any search_path: names and operators are
//! qualified (CVE-2018-1058), functions pin their own.
//!
//! The owner of a database may make a schema of that name before the router does. So every
//! message of the control role that names something in the schema begins with [`guard`]: the
//! schema, all in it and the right to add to it are the control role's or a superuser's alone,
//! which strangers cannot change between the look and the use. Who comes first among routers is
//! said by PostgreSQL's unique indexes. An advisory lock keeps them out of each other's way, and routers of older
//! releases rely on it; everybody may hold it, so it is waited for a second and not relied on.

use super::text::transaction;
use crate::config::Name;
use mothership_sql::quote;
use std::fmt;
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

/// The version that this release installs.
pub const VERSION: i32 = 3;

/// This release can work with what that version installs: who may not bring it up to date goes on.
const ENOUGH: i32 = 1;

/// The changes from each version to the next one: `STEPS[0]` makes version 1. What
/// was released is never changed; `@` stands for the quoted name of the schema. The last
/// word of a step says the oldest release that may work with it, as a version.
const STEPS: [(&str, i32); VERSION as usize] = [
    (include_str!("schema/1.sql"), 1),
    (include_str!("schema/2.sql"), 1),
    (include_str!("schema/3.sql"), 1),
];

/// "moth" and "ship" as numbers: whoever installs holds this advisory lock if it can be had soon.
const LOCK: (i32, i32) = (0x6d6f_7468, 0x7368_6970);

/// How long it is waited for, in milliseconds.
const LOCK_WAIT: u128 = 1_000;

/// Attempts to install beside others who do the same.
const ATTEMPTS: usize = 5;

/// Why the schema cannot be installed.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The name has characters that read otherwise in some encoding or under some setting of a client.
    #[error("schema name \"{0}\" has other characters than a-z, A-Z, 0-9, \"_\" and \"-\"")]
    Name(Name),
    /// Somebody else made a schema of that name.
    #[error("schema \"{schema}\" belongs to role \"{owner}\"")]
    Foreign {
        /// The schema.
        schema: Name,
        /// Its owner.
        owner: String,
    },
    /// A later release has changed it so that this one must not use it.
    #[error("the schema needs a release that knows its version {needs}, this one knows {VERSION}")]
    TooNew {
        /// What it needs.
        needs: String,
    },
    /// The server is a replica.
    #[error("the server is in recovery")]
    Replica,
    /// The server said no, or cannot be reached.
    #[error("install the decision table")]
    Server(#[from] tokio_postgres::Error),
}

/// Installs the schema in the database of `client`, a connection of the control
/// role, or brings it up to date. Says whether anything had to be done. Waits for
/// others who do the same at most `wait`. Cancel safe: one message is one transaction.
///
/// # Errors
/// [`SchemaError`]; nothing is changed then.
pub async fn install(client: &Client, schema: &Name, wait: Duration) -> Result<bool, SchemaError> {
    plain(schema)?;
    let name = quote::identifier(schema.as_str());
    let (class, object) = LOCK;
    let mut sql = format!(
        "{}; SET LOCAL client_min_messages = warning; SET LOCAL default_table_access_method = heap; \
         SET LOCAL default_tablespace = ''; SET LOCAL lock_timeout = {}; \
         DO $mothership_lock$ BEGIN \
           PERFORM pg_catalog.pg_advisory_xact_lock({class}, {object}); \
         EXCEPTION WHEN lock_not_available THEN NULL; \
         END $mothership_lock$; \
         SET LOCAL lock_timeout = {}; \
         DO $mothership_schema$ BEGIN \
           IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n \
               WHERE n.nspname OPERATOR(pg_catalog.=) '{}'::pg_catalog.name) THEN \
             CREATE SCHEMA {name}; \
           END IF; \
         END $mothership_schema$; {}; ",
        transaction(wait.as_millis()),
        LOCK_WAIT.min(wait.as_millis()).max(1),
        wait.as_millis(),
        schema.as_str(),
        guard(schema)
    );
    for (index, (step, needs)) in STEPS.iter().enumerate() {
        let step = step.replace('@', &name);
        sql.push_str(&one_step(schema, index + 1, &step, *needs));
    }
    let mut attempt = 0;
    loop {
        let version = match installed(client, schema).await? {
            Some(version) if version >= VERSION => return Ok(attempt > 0),
            version => version,
        };
        attempt += 1;
        match client.batch_execute(&sql).await {
            // A superuser has made it for the control role.
            Err(error)
                if version >= Some(ENOUGH)
                    && error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) =>
            {
                return Ok(false);
            }
            Err(error) if attempt < ATTEMPTS && is_of_another(&error) => {}
            done => done?,
        }
    }
}

/// Whether somebody else has made the same meanwhile: what is there is looked at again.
fn is_of_another(error: &tokio_postgres::Error) -> bool {
    let codes = [
        SqlState::UNIQUE_VIOLATION,
        SqlState::DUPLICATE_SCHEMA,
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_FUNCTION,
    ];
    error.code().is_some_and(|code| codes.contains(code))
}

/// Whether nobody but the control role and superusers has a part in the schema, as SQL; its tables are plain ones.
/// False if there is no schema of that name.
fn is_ours(schema: &Name) -> String {
    let trusted = |role: &str| {
        format!(
            "({role} OPERATOR(pg_catalog.=) me.oid OR EXISTS (SELECT FROM pg_catalog.pg_roles su \
               WHERE su.oid OPERATOR(pg_catalog.=) {role} AND su.rolsuper))"
        )
    };
    format!(
        "EXISTS (SELECT FROM pg_catalog.pg_namespace n, pg_catalog.pg_roles me \
          WHERE n.nspname OPERATOR(pg_catalog.=) '{}'::pg_catalog.name \
          AND me.rolname OPERATOR(pg_catalog.=) CURRENT_USER AND {} \
          AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(n.nspacl) g \
            WHERE g.privilege_type OPERATOR(pg_catalog.=) 'CREATE' AND NOT {}) \
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace OPERATOR(pg_catalog.=) n.oid \
            AND NOT ({} AND (c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['i', 't']::pg_catalog.\"char\"[]) \
              OR c.relkind OPERATOR(pg_catalog.=) 'r'::pg_catalog.\"char\" AND NOT c.relhasrules \
                AND NOT c.relhastriggers AND NOT c.relrowsecurity AND NOT c.relhassubclass))) \
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc p \
            WHERE p.pronamespace OPERATOR(pg_catalog.=) n.oid AND NOT {}))",
        schema.as_str(),
        trusted("n.nspowner"),
        trusted("g.grantee"),
        trusted("c.relowner"),
        trusted("p.proowner"),
    )
}

/// What a message of the control role begins with that names something in the schema: an error, unless all of it
/// [is ours](is_ours). What follows in the message is not even looked up then.
pub(crate) fn guard(schema: &Name) -> String {
    format!(
        "DO $mothership_guard$ BEGIN IF NOT {} THEN \
           RAISE EXCEPTION 'schema \"{}\" is not the control role''s alone' \
             USING ERRCODE = 'insufficient_privilege'; \
         END IF; END $mothership_guard$",
        is_ours(schema),
        schema.as_str()
    )
}

fn plain(schema: &Name) -> Result<(), SchemaError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match schema.as_str().bytes().all(plain) {
        true => Ok(()),
        false => Err(SchemaError::Name(schema.clone())),
    }
}

/// A step that does nothing where it was done before. The body is run by EXECUTE,
/// so that it is not looked at before.
fn one_step(schema: &Name, version: usize, body: &str, needs: i32) -> String {
    let name = quote::identifier(schema.as_str());
    let before = version - 1;
    format!(
        "DO $mothership_step$ \
         DECLARE found int := 0; \
         BEGIN \
           IF pg_catalog.to_regclass('{name}.installed') IS NOT NULL THEN \
             SELECT version INTO found FROM {name}.installed FOR UPDATE; \
           END IF; \
           IF found = {before} THEN \
             EXECUTE $mothership_body${body}$mothership_body$; \
             UPDATE {name}.installed SET version = {version}, needs = {needs}; \
           END IF; \
         END $mothership_step$; "
    )
}

/// The installed version, if there is one that this release may use and the control role may trust.
async fn installed(client: &Client, schema: &Name) -> Result<Option<i32>, SchemaError> {
    plain(schema)?;
    // Schema, table and functions must all be of the control role, or of a superuser.
    let sql = format!(
        "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.pg_get_userbyid(n.nspowner), \
           n.nspowner OPERATOR(pg_catalog.=) me.oid OR o.rolsuper, \
           (SELECT c.oid FROM pg_catalog.pg_class c \
             WHERE c.relnamespace OPERATOR(pg_catalog.=) n.oid \
             AND c.relname OPERATOR(pg_catalog.=) 'installed'::pg_catalog.name \
             AND c.relkind OPERATOR(pg_catalog.=) 'r'::pg_catalog.\"char\"), \
           (SELECT pg_catalog.pg_get_userbyid(x.owner) FROM ( \
               SELECT relowner FROM pg_catalog.pg_class \
                 WHERE relnamespace OPERATOR(pg_catalog.=) n.oid \
               UNION ALL SELECT proowner FROM pg_catalog.pg_proc \
                 WHERE pronamespace OPERATOR(pg_catalog.=) n.oid) x (owner) \
             WHERE x.owner OPERATOR(pg_catalog.<>) me.oid AND NOT COALESCE((SELECT a.rolsuper \
               FROM pg_catalog.pg_roles a WHERE a.oid OPERATOR(pg_catalog.=) x.owner), false) \
             LIMIT 1) \
         FROM pg_catalog.pg_roles me \
         LEFT JOIN pg_catalog.pg_namespace n ON n.nspname OPERATOR(pg_catalog.=) '{}'::pg_catalog.name \
         LEFT JOIN pg_catalog.pg_roles o ON o.oid OPERATOR(pg_catalog.=) n.nspowner \
         WHERE me.rolname OPERATOR(pg_catalog.=) CURRENT_USER",
        schema.as_str()
    );
    let rows = rows(client.simple_query(&sql).await?);
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    if row.get(0) == Some("t") {
        return Err(SchemaError::Replica);
    }
    let foreign = match (row.get(1), row.get(2), row.get(4)) {
        (None, ..) => return Ok(None),
        (Some(owner), Some("t"), None) => return look(client, schema, row.get(3), owner).await,
        (Some(_), Some("t"), Some(other)) => other,
        (Some(owner), ..) => owner,
    };
    Err(SchemaError::Foreign {
        schema: schema.clone(),
        owner: foreign.into(),
    })
}

async fn look(
    client: &Client,
    schema: &Name,
    table: Option<&str>,
    owner: &str,
) -> Result<Option<i32>, SchemaError> {
    if table.is_none() {
        return Ok(None);
    }
    let sql = format!(
        "{}; SELECT version, needs FROM {}.installed",
        guard(schema),
        quote::identifier(schema.as_str())
    );
    let rows = rows(client.simple_query(&sql).await?);
    let number = |index| rows.first()?.get(index)?.parse::<i32>().ok();
    match (number(0), number(1)) {
        (Some(version), Some(needs)) if needs <= VERSION => Ok(Some(version)),
        (Some(_), Some(needs)) => Err(SchemaError::TooNew {
            needs: needs.to_string(),
        }),
        // A table of that name without a version is not ours.
        _ => Err(SchemaError::Foreign {
            schema: schema.clone(),
            owner: owner.into(),
        }),
    }
}

/// Something that stands in the way of transactions over several shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nothing can be prepared (`max_prepared_transactions`), which needs a restart of the server.
    Prepared,
    /// The server is a replica.
    Primary,
    /// PL/pgSQL is not installed.
    Language,
    /// The control role cannot make its schema in this database.
    Create,
    /// The schema cannot be used: why.
    Schema(String),
    /// It is installed by nobody yet, which is no fault: it will be.
    Installed,
    /// The control role does not see when backends of others started: recovery cannot forget aborts.
    Activity,
    /// The control role can finish what these roles have prepared neither as a superuser nor by SET ROLE; ten of them.
    Owners(Vec<String>),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepared => f.write_str(
                "max_prepared_transactions is 0: set it to at least max_connections and restart",
            ),
            Self::Primary => f.write_str("the server is in recovery"),
            Self::Language => f.write_str("language plpgsql is missing: CREATE EXTENSION plpgsql"),
            Self::Create => f.write_str(
                "the control role may not create its schema: GRANT CREATE ON DATABASE to it",
            ),
            Self::Schema(why) => f.write_str(why),
            Self::Installed => f.write_str("the decision table is not installed yet"),
            Self::Activity => {
                f.write_str("the control role does not see other backends: GRANT pg_read_all_stats")
            }
            Self::Owners(roles) => write!(
                f,
                "the control role cannot SET ROLE to {}: make it a member, or a superuser",
                roles.join(", ")
            ),
        }
    }
}

/// Says what is missing in the database of `client`, a connection of the control role. Changes nothing.
///
/// # Errors
/// The server said no, or cannot be reached.
pub async fn check(client: &Client, schema: &Name) -> Result<Vec<Missing>, tokio_postgres::Error> {
    let mut missing = Vec::new();
    match installed(client, schema).await {
        Ok(Some(_)) => {}
        Ok(None) => missing.push(Missing::Installed),
        Err(SchemaError::Server(error)) => return Err(error),
        Err(SchemaError::Replica) => missing.push(Missing::Primary),
        Err(other) => missing.push(Missing::Schema(other.to_string())),
    }
    let rows_of = rows(client.simple_query(RIGHTS).await?);
    let Some(row) = rows_of.first() else {
        return Ok(missing);
    };
    let says = |index| row.get(index) == Some("t");
    let findings = [
        (row.get(0) == Some("0"), Missing::Prepared),
        (!says(1), Missing::Language),
        (
            !says(2) && missing.contains(&Missing::Installed),
            Missing::Create,
        ),
        (!says(3), Missing::Activity),
    ];
    missing.extend(
        findings
            .into_iter()
            .filter(|(is, _)| *is)
            .map(|(_, what)| what),
    );
    if says(4) {
        return Ok(missing);
    }
    // From version 16 on a member may be kept from SET ROLE.
    let right = match row.get(5).and_then(|v| v.parse::<i32>().ok()) {
        Some(version) if version >= 160_000 => "SET",
        _ => "MEMBER",
    };
    let roles = rows(client.simple_query(&OWNERS.replace("RIGHT", right)).await?);
    let roles: Vec<String> = roles
        .iter()
        .filter_map(|row| Some(row.get(0)?.into()))
        .collect();
    if !roles.is_empty() {
        missing.push(Missing::Owners(roles));
    }
    Ok(missing)
}

const RIGHTS: &str = "SELECT pg_catalog.current_setting('max_prepared_transactions'), \
    EXISTS (SELECT FROM pg_catalog.pg_language WHERE lanname OPERATOR(pg_catalog.=) 'plpgsql'::pg_catalog.name), \
    pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'), \
    pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'), \
    (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) CURRENT_USER), \
    pg_catalog.current_setting('server_version_num')";

/// Roles without login count as well: a client may have taken one on by SET ROLE.
const OWNERS: &str = "SELECT rolname FROM pg_catalog.pg_roles r \
    WHERE NOT pg_catalog.starts_with(r.rolname::pg_catalog.text, 'pg_') \
    AND (r.rolsuper OR NOT pg_catalog.pg_has_role(r.oid, 'RIGHT')) ORDER BY 1 LIMIT 10";

pub(crate) fn rows(messages: Vec<SimpleQueryMessage>) -> Vec<SimpleQueryRow> {
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    };
    messages.into_iter().filter_map(row).collect()
}

/// Whether a statement that defines something names the router's schema: as a qualifier, or behind SCHEMA.
pub fn is_named_in(sql: &str, schema: &Name) -> bool {
    let (lower, schema) = (
        sql.to_ascii_lowercase(),
        schema.as_str().to_ascii_lowercase(),
    );
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '-');
    let words: Vec<&str> = lower.split_whitespace().collect();
    let of_schemas =
        words.starts_with(&["drop", "schema"]) || words.starts_with(&["alter", "schema"]);
    lower.match_indices(&*schema).any(|(at, _)| {
        let (before, behind) = (&lower[..at], &lower[at + schema.len()..]);
        let whole = !before.ends_with(is_part) && !behind.starts_with(is_part);
        let behind = behind.strip_prefix('"').unwrap_or(behind).trim_start();
        let last = before.trim_end_matches('"').split_whitespace().next_back();
        whole && (of_schemas || behind.starts_with('.') || last == Some("schema"))
    })
}

/// Whether a statement takes away the language of the router's own functions, or its name.
pub fn takes_language(sql: &str) -> bool {
    let lower = sql.to_ascii_lowercase().replace('"', " ");
    let words: Vec<&str> = lower
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty() && *word != "procedural")
        .collect();
    let takes = words.starts_with(&["drop", "language"])
        || words.starts_with(&["drop", "extension"])
        || words.starts_with(&["alter", "language"]) && words.contains(&"rename");
    takes && words.contains(&"plpgsql")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_of_the_routers_functions_is_not_taken_away() {
        for sql in [
            "ALTER LANGUAGE plpgsql RENAME TO plx",
            "alter procedural language \"plpgsql\" rename to plx",
            "DROP LANGUAGE IF EXISTS plpgsql CASCADE",
            "DROP EXTENSION citext, plpgsql CASCADE",
        ] {
            assert!(takes_language(sql), "{sql}");
        }
        for sql in [
            "ALTER LANGUAGE plpgsql OWNER TO bob",
            "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'begin return 1; end'",
            "DROP EXTENSION citext",
            "COMMENT ON LANGUAGE plpgsql IS 'drop'",
        ] {
            assert!(!takes_language(sql), "{sql}");
        }
    }

    #[test]
    fn the_routers_schema_is_found_where_it_is_named() {
        let name = Name::new("mothership").unwrap();
        for sql in [
            "DROP TABLE IF EXISTS \"mothership\".\"decision\" CASCADE",
            "drop table mothership . decision",
            "DROP SCHEMA IF EXISTS app, Mothership",
            "ALTER TABLE t SET SCHEMA mothership",
            "CREATE FUNCTION mothership.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        ] {
            assert!(is_named_in(sql, &name), "{sql}");
        }
        for sql in [
            "CREATE ROLE mothership LOGIN",
            "CREATE TABLE mothership (id int)",
            "ALTER TABLE my_mothership.t ADD COLUMN a int",
            "DROP SCHEMA motherships",
            "GRANT SELECT ON t TO mothership",
        ] {
            assert!(!is_named_in(sql, &name), "{sql}");
        }
    }
}
