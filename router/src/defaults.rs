//! The settings that roles and databases begin with, as far as the router must know them: a server of PostgreSQL has them
//! of itself (manual, ALTER ROLE and ALTER DATABASE), one of MongoDB has none. Pure: the question, and what its answer says.

use crate::rests::{self, IdleSettings};
use std::collections::BTreeMap;

/// One row with one text: what RESET goes back to on a connection, whatever was set there, by name in JSON. The search
/// path, and of the settings by which documents are read, written and shown those that differ from PostgreSQL's own.
pub const QUESTION: &str = "SELECT pg_catalog.json_object_agg(name, reset_val) FROM pg_catalog.pg_settings \
    WHERE name OPERATOR(pg_catalog.=) 'search_path' \
    OR name OPERATOR(pg_catalog.=) 'client_encoding' AND reset_val OPERATOR(pg_catalog.<>) 'UTF8' \
    OR reset_val OPERATOR(pg_catalog.<>) boot_val AND name OPERATOR(pg_catalog.=) ANY (\
    '{array_nulls,bytea_output,default_transaction_isolation,default_transaction_read_only,extra_float_digits,\
    lock_timeout,statement_timeout,transform_null_equals}')";

/// One row with one text: every setting that a session may have, by its name in JSON: what RESET goes back to on this
/// connection, and whether a role or a database says so. The view does not show the role, which both may set as well.
pub const BEGINS: &str = "SELECT pg_catalog.json_object_agg(name, value) FROM (\
    SELECT name, pg_catalog.json_build_array(reset_val, \
        source OPERATOR(pg_catalog.=) ANY ('{global,database,user,\"database user\"}')) AS value FROM pg_catalog.pg_settings \
    WHERE context OPERATOR(pg_catalog.=) 'user' OR context OPERATOR(pg_catalog.=) 'superuser' \
    AND pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'on' \
    UNION ALL SELECT 'role', pg_catalog.json_build_array(pg_catalog.current_setting('role'), true)) s";

/// What a session began with: for each setting its value, and whether a role or a database says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begins {
    settings: BTreeMap<String, (Option<String>, bool)>,
    rests: IdleSettings,
}

impl Begins {
    /// The answer to [`BEGINS`]. `None` if it is no answer.
    pub fn read(answer: &str) -> Option<Self> {
        let settings: BTreeMap<String, (Option<String>, bool)> =
            serde_json::from_str(answer).ok()?;
        // What the server's configuration says is about its connections, which are the router's.
        let said = |name: &str| {
            let own = settings.get(name).filter(|(_, own)| *own);
            rests::millis(own?.0.as_deref()?)
        };
        let rests = IdleSettings {
            idle: said(rests::IDLE),
            in_transaction: said(rests::IN_TRANSACTION),
        };
        Some(Self { settings, rests })
    }

    /// What roles and databases say of how long a session may rest.
    pub fn rests(&self) -> IdleSettings {
        self.rests
    }

    /// A setting's value. The name is in small letters.
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut said = self.settings.iter();
        let (_, (value, _)) = said.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        value.as_deref()
    }

    /// The role that it began with, if it is another one than that of the login.
    pub fn role(&self) -> Option<&str> {
        self.value("role").filter(|role| *role != "none")
    }

    /// Whether the search path has the schema of temporary objects.
    pub fn has_temporary_schema(&self) -> bool {
        let path = self.settings.get("search_path");
        path.is_some_and(|(path, _)| path.as_deref().is_some_and(says_temporary))
    }

    /// What a session that began with this must set where a connection has begun with `now`, if it has set what
    /// `is_set` says itself, asked by the name in small letters. What the server's configuration says is the same for both.
    pub fn kept(&self, now: &Self, is_set: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let differs = |(name, (value, own)): (&String, &(Option<String>, bool))| {
            let (other, others) = now.settings.get(name)?;
            let name = name.to_ascii_lowercase();
            let counts = *own || *others || is_set(&name);
            let value = value.clone().filter(|_| counts && value != other)?;
            Some((name, value))
        };
        self.settings.iter().filter_map(differs).collect()
    }
}

/// Whether a search path may have the schema of temporary objects.
pub fn says_temporary(path: &str) -> bool {
    path.to_ascii_lowercase().contains("pg_temp")
}

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
    fn what_a_session_began_with_is_kept_where_a_role_says_otherwise_by_now() {
        let read = |text: &str| Begins::read(text).expect("it is JSON");
        let old = read(
            r#"{"TimeZone": ["UTC", false], "work_mem": ["4096", true], "a": ["1", false], "b": ["1", false]}"#,
        );
        let new = read(
            r#"{"TimeZone": ["Asia/Tokyo", true], "work_mem": ["4096", true], "a": ["2", false], "b": ["2", false]}"#,
        );
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            old.kept(&new, |name| name == "b"),
            [own("timezone", "UTC"), own("b", "1")]
        );
        assert_eq!(old.kept(&old, |_| true), []);
        // Its own SET hides what the connection began with.
        let hidden = read(r#"{"TimeZone": ["Asia/Tokyo", false]}"#);
        let own = [own("timezone", "UTC")];
        assert_eq!(old.kept(&hidden, |name| name == "timezone"), own);
        assert_eq!(new.value("timezone"), Some("Asia/Tokyo"));
        assert_eq!(new.value("datestyle"), None);
        assert!(Begins::read("").is_none());
        let path = read(r#"{"search_path": ["PG_Temp, public", true]}"#);
        assert!(path.has_temporary_schema() && !old.has_temporary_schema());
    }

    #[test]
    fn how_long_a_session_may_rest_is_for_its_role_and_database_to_say() {
        let begins = r#"{"idle_session_timeout": ["300", true], "idle_in_transaction_session_timeout": ["9", false]}"#;
        let begins = Begins::read(begins).expect("it is JSON");
        let said = IdleSettings {
            idle: Some(300),
            in_transaction: None,
        };
        assert_eq!(begins.rests(), said);
    }

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
