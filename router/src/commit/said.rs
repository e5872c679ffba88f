//! What the first server of a transaction over several shards says of it: how it is isolated, and since when it runs.

/// What a server says of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// It is SERIALIZABLE.
    pub serializable: bool,
    /// Its `now()`, in UTC.
    pub now: String,
}

impl Said {
    /// What the server is asked, behind the call that takes the mark.
    pub const QUESTION: &str = "pg_catalog.concat_ws('|', pg_catalog.current_setting('transaction_isolation'), \
        pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.now()), 'YYYY-MM-DD HH24:MI:SS.US'))";

    /// Reads the answer. `None` if it is no answer.
    pub fn read(row: &str) -> Option<Self> {
        let (isolation, now) = row.split_once('|')?;
        Some(Self {
            serializable: isolation == "serializable",
            now: now.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_read() {
        let said = |serializable| Said {
            serializable,
            now: "2026-11-21 01:02:03.000004".into(),
        };
        let read = |isolation: &str| Said::read(&format!("{isolation}|2026-11-21 01:02:03.000004"));
        assert_eq!(read("serializable"), Some(said(true)));
        assert_eq!(read("repeatable read"), Some(said(false)));
        assert_eq!(Said::read(""), None);
    }
}
