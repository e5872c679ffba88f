//! The environment of a session: everything by which PostgreSQL analyses and plans its statements. It is part of the
//! identity of each statement that clients share on a server connection (ADR 27).
//!
//! PostgreSQL reads a literal of a date, a time, an interval or an array when it parses the statement, by the settings
//! of that moment. It plans the statement at its first run, by the settings of that run. So two clients share a
//! statement only if all their settings are equal. Exempt are settings that matter for neither ([`HARMLESS`]; a test
//! changes every setting of PostgreSQL). Pure.

use super::settings::{Setting, Settings};
use foldhash::HashMap;
use mothership_sql::lexer::{Kind, Lexer};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// Settings that PostgreSQL uses neither to analyse nor to plan a statement, nor in anything that it computes ahead for
/// a plan.
const HARMLESS: [&str; 17] = [
    "application_name",
    "client_connection_check_interval",
    "client_min_messages",
    "deadlock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "log_min_duration_statement",
    "log_min_messages",
    "mothership.max_lag",
    "mothership.plan",
    "statement_timeout",
    "synchronous_commit",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "transaction_timeout",
];

/// If one of these settings changes, PostgreSQL itself analyses or plans a statement again (plancache.c).
const ANALYSED_ANEW: [&str; 5] = [
    "role",
    "row_security",
    "search_path",
    "session_authorization",
    "session_replication_role",
];

/// The settings by which a session's statements are analysed. On one core, equal environments have one number.
#[derive(Debug, Default)]
pub struct Environment {
    /// Its number; 0 for statements that no server keeps.
    pub number: u64,
    /// The settings by which literals are read, and after whose change PostgreSQL does not read them again.
    pub literals: Vec<Setting>,
    /// The settings after whose change PostgreSQL analyses the statement again.
    pub anew: Vec<Setting>,
}

/// The owner of an environment: what, apart from settings, has to be equal as well.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The database.
    pub database: Arc<str>,
    /// The user on the servers.
    pub user: Arc<str>,
    /// Which defaults of roles and databases its session began with.
    pub begins: u64,
    /// Set if a list of settings does not say what holds in the session, because it has temporary objects or has run
    /// code that cannot be followed: the session, and a count of its own.
    pub alone: Option<(u64, u64)>,
}

/// The key by which an environment is found.
type Key = (Owner, Vec<Setting>);

/// The environments of one core.
#[derive(Debug, Default)]
pub struct Environments {
    known: RefCell<HashMap<Key, Rc<Environment>>>,
    next: Cell<u64>,
}

/// The most environments that are known at a time. A forgotten one gets another number when it comes again, and then
/// less is shared.
const MAX_ENVIRONMENTS: usize = 4_096;

impl Environments {
    /// The environment of a session with these settings in force. `lasting` are the settings that outlive the
    /// transaction. `kept` are those with which the session began: they count only if they have changed.
    pub fn of(
        &self,
        owner: Owner,
        in_force: &Settings,
        lasting: &Settings,
        kept: &Settings,
    ) -> Rc<Environment> {
        // A setting of the application's own that SET LOCAL sets would make another environment in each transaction, so
        // it does not count.
        let own = |setting: &&Setting| setting.name.contains('.');
        let counts = |setting: &&Setting| {
            let begun = kept.get(&setting.name) == Some(&setting.value);
            !begun && !HARMLESS.contains(&&*setting.name)
        };
        let system = in_force.iter().filter(|s| !own(s));
        let all = system.chain(lasting.iter().filter(own)).filter(counts);
        let mut settings: Vec<Setting> = all.cloned().collect();
        settings.sort_by(|a, b| a.name.cmp(&b.name));
        let mut known = self.known.borrow_mut();
        let key = (owner, settings);
        if let Some(found) = known.get(&key) {
            return Rc::clone(found);
        }
        if known.len() >= MAX_ENVIRONMENTS {
            known.retain(|_, environment| Rc::strong_count(environment) > 1);
            if known.len() >= MAX_ENVIRONMENTS {
                known.clear();
            }
        }
        self.next.set(self.next.get() + 1);
        let read = |s: &&Setting| !s.name.contains('.') && !ANALYSED_ANEW.contains(&&*s.name);
        let literals = key.1.iter().filter(read).cloned().collect();
        let anew = |s: &&Setting| ANALYSED_ANEW.contains(&&*s.name);
        let new = Rc::new(Environment {
            number: self.next.get(),
            literals,
            anew: key.1.iter().filter(anew).cloned().collect(),
        });
        known.insert(key, Rc::clone(&new));
        new
    }
}

/// Whether the meaning of a text depends on settings, apart from those by which names are looked up. It does if the
/// text has a literal that may be a date, a time, an interval or an array or that has a backslash, or a word that is
/// read differently under some setting.
pub fn reads_settings(sql: &[u8], strings: bool) -> bool {
    const WORDS: [&str; 5] = ["today", "tomorrow", "yesterday", "now", "allballs"];
    Lexer::new(sql, strings).any(|token| {
        let text = token.text(sql);
        match token.kind {
            Kind::Word => {
                text.eq_ignore_ascii_case(b"null")
                    || text.len() >= 3 && text[..3].eq_ignore_ascii_case(b"xml")
            }
            kind if kind.is_string() => {
                if means_the_same(text) {
                    return false;
                }
                let lower = String::from_utf8_lossy(text).to_ascii_lowercase();
                text.iter()
                    .any(|b| b.is_ascii_digit() || matches!(b, b'{' | b'\\' | b'$' | b'<'))
                    || !text.is_ascii()
                    || WORDS.iter().any(|word| lower.contains(word))
            }
            Kind::UnicodeString => true,
            _ => false,
        }
    })
}

/// Whether a string, with its quotes, is a number too short for a date, or a span of time such as `1 day` without a sign:
/// no type reads those by settings.
fn means_the_same(string: &[u8]) -> bool {
    const UNITS: [&str; 13] = [
        "microsecond",
        "millisecond",
        "second",
        "sec",
        "minute",
        "min",
        "hour",
        "day",
        "week",
        "month",
        "year",
        "decade",
        "century",
    ];
    /// A date or a time has more digits.
    const FEW: usize = 3;
    let inner = string.strip_prefix(b"'").and_then(|s| s.strip_suffix(b"'"));
    let Some(inner) = inner.and_then(|inner| std::str::from_utf8(inner).ok()) else {
        return false;
    };
    let is_number = |word: &str| {
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        let points = word.bytes().filter(|b| *b == b'.').count();
        digits > 0 && digits <= FEW && points < 2 && digits + points == word.len()
    };
    let is_unit = |word: &str| {
        let word = word.to_ascii_lowercase();
        let word = word.strip_suffix('s').unwrap_or(&word);
        UNITS.contains(&word)
    };
    let words: Vec<&str> = inner.split_ascii_whitespace().collect();
    match words.as_slice() {
        // Which character is the point of money depends on lc_monetary.
        [one] => !one.contains('.') && is_number(one.strip_prefix(['-', '+']).unwrap_or(one)),
        words => {
            words.len() % 2 == 0
                && !words.is_empty()
                && words
                    .chunks(2)
                    .all(|pair| is_number(pair[0]) && is_unit(pair[1]))
        }
    }
}

/// An environment and what it was found by. So the next statement finds it without comparing the settings.
#[derive(Debug)]
pub struct KeptEnvironment {
    /// The settings in force.
    pub in_force: Arc<Settings>,
    /// Those that outlive the transaction.
    pub lasting: Arc<Settings>,
    /// The value of [`Owner::alone`].
    pub alone: Option<(u64, u64)>,
    /// The environment.
    pub environment: Rc<Environment>,
}

#[cfg(test)]
mod tests {
    use super::super::settings::Value;
    use super::*;

    fn settings(list: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (name, value) in list {
            settings.set(name, Value::Text((*value).into()));
        }
        settings
    }

    fn owner() -> Owner {
        Owner {
            database: "app".into(),
            user: "alice".into(),
            begins: 0,
            alone: None,
        }
    }

    #[test]
    fn what_analysis_may_read_makes_another_environment() {
        let all = Environments::default();
        let none = settings(&[]);
        let number = |list: &[(&str, &str)]| {
            let own = settings(list);
            all.of(owner(), &own, &own, &none).number
        };
        let plain = number(&[]);
        assert_eq!(
            number(&[("application_name", "x"), ("statement_timeout", "5s")]),
            plain
        );
        let iso = number(&[("datestyle", "ISO, DMY"), ("timezone", "UTC")]);
        assert_ne!(iso, plain);
        assert_eq!(
            number(&[("timezone", "UTC"), ("datestyle", "ISO, DMY")]),
            iso
        );
        assert_ne!(number(&[("app.tenant", "7")]), plain);
        let local = settings(&[("app.tenant", "7")]);
        assert_eq!(all.of(owner(), &local, &none, &none).number, plain);
        let local = settings(&[("timezone", "UTC")]);
        assert_ne!(all.of(owner(), &local, &none, &none).number, plain);
        for other in [
            Owner {
                database: "other".into(),
                ..owner()
            },
            Owner {
                user: "bob".into(),
                ..owner()
            },
            Owner {
                begins: 1,
                ..owner()
            },
            Owner {
                alone: Some((1, 1)),
                ..owner()
            },
        ] {
            assert_ne!(all.of(other, &none, &none, &none).number, plain);
        }
        let path = settings(&[("search_path", "a"), ("timezone", "UTC"), ("a.b", "1")]);
        let literals = &all.of(owner(), &path, &path, &none).literals;
        assert_eq!(
            literals.iter().map(|s| &*s.name).collect::<Vec<_>>(),
            ["timezone"]
        );
    }

    #[test]
    fn texts_without_such_literals_mean_the_same_under_all_settings() {
        for sql in [
            "select a from t where b = $1 and c = 'open'",
            "select 5",
            "select now() - interval '1 day' - '2 hours 30 minutes'",
            "select a = '15' or a = '-20' or a = ''",
        ] {
            assert!(!reads_settings(sql.as_bytes(), true), "{sql}");
        }
        for sql in [
            "select '01/02/2020'::date",
            "select 'Today'::date",
            "select a = NULL",
            "select '{a}'::text[]",
            "select XMLPARSE(document $1)",
            "select E'a\\tb'",
            "select interval '-1 day 2 hours'",
            "select '20200102'::timestamptz",
            "select '0405'::timetz",
            "select '2020.100'::date",
            "select '1 mar 2020'::date",
            "select '1 2'::interval",
            "select '1.2.3'::date",
            "select '1.5'::money",
        ] {
            assert!(reads_settings(sql.as_bytes(), true), "{sql}");
        }
    }
}
