//! The settings that roles and databases begin with, as far as the router must know them: a server of PostgreSQL has them
//! of itself (manual, ALTER ROLE and ALTER DATABASE), one of MongoDB has none. Pure: the question, and what its answer says.

use crate::rests::{self, IdleSettings};
use mothership_sql::quote;
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
/// connection, and whether a role or a database says so. The view does not show the role, which both may set as well, nor an
/// application's own settings (`app.tenant`): of these it has what roles and databases say, the most special of them first,
/// and NULL for one of an extension that the session may not set.
const BEGINS: &str = "SELECT pg_catalog.json_object_agg(name, value) FROM (\
    SELECT name, pg_catalog.json_build_array(reset_val, \
        source OPERATOR(pg_catalog.=) ANY ('{global,database,user,\"database user\"}')) AS value FROM pg_catalog.pg_settings \
    WHERE context OPERATOR(pg_catalog.=) 'user' OR context OPERATOR(pg_catalog.=) 'superuser' \
    AND pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'on' \
    UNION ALL SELECT 'role', pg_catalog.json_build_array(pg_catalog.current_setting('role'), true) \
    UNION ALL SELECT o.name, pg_catalog.json_build_array(o.value, true) FROM (\
        SELECT DISTINCT ON (w.name) w.name, CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_settings p \
                WHERE pg_catalog.lower(p.name COLLATE pg_catalog.\"C\") OPERATOR(pg_catalog.=) w.name) \
                THEN NULL ELSE w.value END AS value FROM (\
            SELECT s.setrole, s.setdatabase, \
                pg_catalog.lower(pg_catalog.split_part(c.setting, '=', 1) COLLATE pg_catalog.\"C\") AS name, \
                pg_catalog.substr(c.setting, pg_catalog.strpos(c.setting, '=') OPERATOR(pg_catalog.+) 1) AS value \
            FROM pg_catalog.pg_db_role_setting s CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) c(setting) \
            WHERE s.setrole OPERATOR(pg_catalog.=) ANY (ARRAY[0::pg_catalog.oid, (SELECT r.oid \
                FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) @role@::pg_catalog.name)]) \
            AND s.setdatabase OPERATOR(pg_catalog.=) ANY (ARRAY[0::pg_catalog.oid, (SELECT d.oid \
                FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())])) w \
        WHERE pg_catalog.strpos(w.name, '.') OPERATOR(pg_catalog.>) 0 \
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_settings p \
            WHERE pg_catalog.lower(p.name COLLATE pg_catalog.\"C\") OPERATOR(pg_catalog.=) w.name \
            AND (p.context OPERATOR(pg_catalog.=) 'user' OR p.context OPERATOR(pg_catalog.=) 'superuser' \
                AND pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'on')) \
        ORDER BY w.name, w.setrole OPERATOR(pg_catalog.<>) 0::pg_catalog.oid DESC, \
            w.setdatabase OPERATOR(pg_catalog.<>) 0::pg_catalog.oid DESC) o) s";

/// The question of what a session of this role begins with, for [`Begins::read`]. By then it may be another one's session.
pub fn begins(role: &str) -> String {
    BEGINS.replace("@role@", &quote::literal(role))
}

/// What a session began with: for each setting its value, and whether a role or a database says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begins {
    settings: BTreeMap<String, (Option<String>, bool)>,
    rests: IdleSettings,
}

impl Begins {
    /// The answer to [`begins`]. `None` if it is no answer.
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
    ///
    /// A setting that an application has made up is there only if a role or a database says it. Nobody can take it from a
    /// connection that has begun with it, and a session that began without it has it then (see docs/pooling.md).
    pub fn kept(&self, now: &Self, is_set: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let differs = |(name, (value, own)): (&String, &(Option<String>, bool))| {
            let is_made_up = name.contains('.');
            let (other, others) = match now.settings.get(name) {
                // An extension is there that does not let the session set it.
                Some((None, _)) if is_made_up => return None,
                Some((other, others)) => (other, *others),
                None if is_made_up && *own => (&None, true),
                None => return None,
            };
            let name = name.to_ascii_lowercase();
            let counts = *own || others || is_set(&name);
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
        let zone = [own("timezone", "UTC")];
        assert_eq!(old.kept(&hidden, |name| name == "timezone"), zone);
        let of_application = read(r#"{"TimeZone": ["UTC", false], "app.tenant": ["7", true]}"#);
        let own = |value: &str| ("app.tenant".to_owned(), value.to_owned());
        assert_eq!(of_application.kept(&hidden, |_| false), [own("7")]);
        assert_eq!(hidden.kept(&of_application, |_| false), []);
        let locked = read(r#"{"TimeZone": ["UTC", false], "app.tenant": [null, true]}"#);
        assert_eq!(of_application.kept(&locked, |_| true), []);
        assert_eq!(locked.kept(&of_application, |_| true), []);
        // It is shown by connections that have loaded what reads it, and by no other.
        let loaded = read(r#"{"TimeZone": ["Asia/Tokyo", false], "plpgsql.x": ["1", false]}"#);
        assert_eq!(loaded.kept(&hidden, |_| true), []);
        assert_eq!(hidden.kept(&loaded, |_| true), []);
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
