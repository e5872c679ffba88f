//! The settings that roles and databases begin with, as far as the router must know them: a server of PostgreSQL has them
//! of itself (manual, ALTER ROLE and ALTER DATABASE), one of MongoDB has none. Pure: the question, and what its answer says.

use std::collections::BTreeMap;

/// One row with one text: what RESET goes back to on a connection, whatever was set there, by name in JSON. The search
/// path, and of the settings by which documents are read, written and shown those that differ from PostgreSQL's own.
pub const QUESTION: &str = "SELECT pg_catalog.json_object_agg(name, reset_val) FROM pg_catalog.pg_settings \
    WHERE name OPERATOR(pg_catalog.=) 'search_path' \
    OR name OPERATOR(pg_catalog.=) 'client_encoding' AND reset_val OPERATOR(pg_catalog.<>) 'UTF8' \
    OR reset_val OPERATOR(pg_catalog.<>) boot_val AND name OPERATOR(pg_catalog.=) ANY (\
    '{array_nulls,bytea_output,default_transaction_isolation,default_transaction_read_only,extra_float_digits,\
    lock_timeout,statement_timeout,transform_null_equals}')";

/// What a server without roles of its own answers.
pub const OF_POSTGRESQL: &str = r#"{"search_path": "\"$user\", public"}"#;

/// The answer as names and values; with `has_documents` all of it, else only what statements are planned by. `None` if it
/// is no answer.
pub fn read(answer: &str, has_documents: bool) -> Option<Vec<(String, String)>> {
    let mut said: BTreeMap<String, String> = serde_json::from_str(answer).ok()?;
    said.retain(|name, _| has_documents || name == "search_path");
    Some(said.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_documents_need_is_read_where_there_are_some() {
        let path = ("search_path".to_owned(), "\"$user\", public".to_owned());
        assert_eq!(read(OF_POSTGRESQL, true), Some(vec![path.clone()]));
        let answer = OF_POSTGRESQL.replace('}', r#", "array_nulls" : "off"}"#);
        assert_eq!(read(&answer, false), Some(vec![path.clone()]));
        let nulls = ("array_nulls".to_owned(), "off".to_owned());
        assert_eq!(read(&answer, true), Some(vec![nulls, path]));
        assert_eq!(read("", true), None);
    }
}
