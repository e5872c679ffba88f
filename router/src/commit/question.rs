//! What MongoDB is asked about decisions: texts, because a member of a replica set is spoken to as a server of
//! PostgreSQL, and what they say once they have come there.
//!
//! The decisions are documents of the collection `SCHEMA.decision` in the database that takes part: `_id` is the
//! transaction, `session` whose transaction decides, `committed`, `participants`, `decided` when. That `_id` is unique
//! makes an outcome final, as the primary key of the table does in PostgreSQL.

use super::gid::TransactionId;
use crate::config::Name;
use mothership_sql::quote;
use std::fmt;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Which session it is. Answers what [`super::gid::Backend::parse`] reads.
    Backend,
    /// The decision to commit, written in the transaction that is open, which is this session's.
    Decide {
        /// The transaction over several servers.
        id: TransactionId,
        /// The UUID of the session.
        session: u128,
        /// Who was prepared, as names with commas between them.
        participants: String,
    },
    /// The outcome, made final after the session was ended: answers `commit` or `abort`.
    Fence {
        /// The transaction over several servers.
        id: TransactionId,
        /// The UUID of the session.
        session: u128,
    },
    /// The number of the database.
    Place,
    /// Decisions in the order of their times: id, session, committed, participants, age in milliseconds, time in
    /// milliseconds since 1970.
    Decisions {
        /// The first time.
        from: i64,
        /// At most so many.
        rows: u32,
    },
    /// What was decided of these transactions: id and committed of those that have an outcome.
    Outcomes(Vec<TransactionId>),
    /// Forget these decisions. Answers how many there were.
    Forget(Vec<TransactionId>),
}

impl Question {
    /// The text that asks it, with the name of the schema.
    pub fn sql(&self, schema: &Name) -> String {
        format!("SELECT {}.{self}", quote::identifier(schema.as_str()))
    }

    /// Reads what [`Question::sql`] wrote: the schema's name and the question. Nothing else is one.
    pub fn read(sql: &str) -> Option<(&str, Question)> {
        let (schema, call) = sql.strip_prefix("SELECT \"")?.split_once("\".")?;
        let (name, arguments) = call.strip_suffix(')')?.split_once('(')?;
        let arguments: Vec<&str> = match arguments {
            "" => Vec::new(),
            _ => arguments
                .split(", ")
                .map(|one| one.strip_prefix('\'')?.strip_suffix('\''))
                .collect::<Option<_>>()?,
        };
        let uuid = |text: &str| TransactionId::parse_uuid(text);
        let question = match (name, arguments.as_slice()) {
            ("backend", []) => Question::Backend,
            ("place", []) => Question::Place,
            ("decide", [id, session, participants]) => Question::Decide {
                id: uuid(id)?,
                session: uuid(session)?.0,
                participants: (*participants).to_owned(),
            },
            ("fence", [id, session]) => Question::Fence {
                id: uuid(id)?,
                session: uuid(session)?.0,
            },
            ("decisions", [from, rows]) => Question::Decisions {
                from: from.parse().ok()?,
                rows: rows.parse().ok()?,
            },
            ("outcomes", ids) => {
                Question::Outcomes(ids.iter().map(|id| uuid(id)).collect::<Option<_>>()?)
            }
            ("forget", ids) => {
                Question::Forget(ids.iter().map(|id| uuid(id)).collect::<Option<_>>()?)
            }
            _ => return None,
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let is_schema = !schema.is_empty() && schema.bytes().all(is_plain);
        is_schema.then_some((schema, question))
    }
}

impl fmt::Display for Question {
    /// A call of a function, its arguments as literals of letters, digits and `-,_` alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |ids: &[TransactionId]| {
            let each: Vec<String> = ids.iter().map(|id| format!("'{id}'")).collect();
            each.join(", ")
        };
        match self {
            Self::Backend => f.write_str("backend()"),
            Self::Place => f.write_str("place()"),
            Self::Decide {
                id,
                session,
                participants,
            } => {
                let session = TransactionId(*session);
                write!(f, "decide('{id}', '{session}', '{participants}')")
            }
            Self::Fence { id, session } => {
                let session = TransactionId(*session);
                write!(f, "fence('{id}', '{session}')")
            }
            Self::Decisions { from, rows } => write!(f, "decisions('{from}', '{rows}')"),
            Self::Outcomes(ids) => write!(f, "outcomes({})", all(ids)),
            Self::Forget(ids) => write!(f, "forget({})", all(ids)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_what_is_read() {
        let schema = Name::new("mothership").unwrap();
        let ids = vec![TransactionId(3), TransactionId(u128::MAX)];
        let questions = [
            Question::Backend,
            Question::Place,
            Question::Decide {
                id: TransactionId(3),
                session: 7,
                participants: "s0,s1".into(),
            },
            Question::Fence {
                id: TransactionId(3),
                session: 7,
            },
            Question::Decisions { from: -5, rows: 9 },
            Question::Outcomes(ids.clone()),
            Question::Outcomes(Vec::new()),
            Question::Forget(ids),
        ];
        for question in questions {
            let sql = question.sql(&schema);
            assert_eq!(
                Question::read(&sql),
                Some(("mothership", question)),
                "{sql}"
            );
        }
    }

    #[test]
    fn nothing_else_is_a_question() {
        for sql in [
            "",
            "SELECT 1",
            "SELECT \"mothership\".backend",
            "SELECT \"mothership\".backend() FROM events",
            "SELECT \"mothership\".backend('a')",
            "SELECT \"mothership\".fence('x', 'y')",
            "SELECT \"a\"\"b\".backend()",
            "SELECT \"mothership\".other()",
            "select \"mothership\".backend()",
        ] {
            assert_eq!(Question::read(sql), None, "{sql}");
        }
    }
}
