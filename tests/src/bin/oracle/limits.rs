//! What documents cannot have or do, and the router has to refuse: docs/mongodb.md says why of each.

use crate::run::Answer;

/// The code and a part of the message of each refusal, and what it is counted as.
const LIMITS: [(&str, &str, &str); 9] = [
    (
        "0A000",
        "a write to documents on several replica sets is not supported",
        "a write on several replica sets",
    ),
    (
        "0A000",
        "transaction writes on more than one replica set of MongoDB",
        "a transaction that writes on several replica sets",
    ),
    // The same at COMMIT, where a statement that gathers came to both.
    (
        "0A000",
        "transaction cannot be committed on two shards that cannot be prepared",
        "a transaction that writes on several replica sets",
    ),
    (
        "0A000",
        "a transaction that works on MongoDB has no savepoints",
        "a savepoint",
    ),
    (
        "0A000",
        "transactions on MongoDB are not SERIALIZABLE",
        "SERIALIZABLE",
    ),
    ("22008", "MongoDB keeps milliseconds", "microseconds"),
    ("22008", "among its times", "an infinite time"),
    (
        "22003",
        "value overflows numeric format",
        "more digits than 34",
    ),
    (
        "0A000",
        "a jsonb null cannot be stored in MongoDB",
        "JSON's null",
    ),
];

/// The limit for which the router has refused something.
pub fn limit(answer: &Answer) -> Option<&'static str> {
    let (code, message) = answer.error.as_ref()?;
    let is_it = |(of, text, _): &&(&str, &str, &str)| {
        (code == of || code == "0A000") && message.contains(text)
    };
    LIMITS.iter().find(is_it).map(|(_, _, name)| *name)
}
