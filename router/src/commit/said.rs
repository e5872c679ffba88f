//! What the router asks the first server of a transaction over several shards: the isolation level, and when the transaction
//! began.

/// What the first server reports about the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The transaction is SERIALIZABLE.
    pub serializable: bool,
    /// The transaction's `now()`, as text in UTC.
    pub now: String,
}

impl Said {
    /// The expression that the server evaluates. In the select list it stands before the call that takes the mark.
    pub const QUESTION: &str = "pg_catalog.concat_ws('|', pg_catalog.current_setting('transaction_isolation'), \
        pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.now()), 'YYYY-MM-DD HH24:MI:SS.US'))";

    /// Parses the answer. `None` if it has another form.
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
    fn the_answer_is_parsed() {
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
