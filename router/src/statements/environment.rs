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

/// Kinds of literals, by what they are read by. PostgreSQL reads a literal when it parses the statement, by the settings
/// of that moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiteralKinds(u8);

impl LiteralKinds {
    const NONE: LiteralKinds = LiteralKinds(0);
    const ALL: LiteralKinds = LiteralKinds(u8::MAX);
    /// Dates, times and intervals.
    const TIMES: LiteralKinds = LiteralKinds(1);
    const MONEY: LiteralKinds = LiteralKinds(1 << 1);
    const ARRAYS: LiteralKinds = LiteralKinds(1 << 2);
    /// The word NULL, which may be one side of `=`.
    const NULLS: LiteralKinds = LiteralKinds(1 << 3);
    const XML: LiteralKinds = LiteralKinds(1 << 4);
    /// Strings in which a backslash may mean something.
    const STRINGS: LiteralKinds = LiteralKinds(1 << 5);
    /// Characters that are not ASCII.
    const ENCODED: LiteralKinds = LiteralKinds(1 << 6);

    const fn and(self, other: LiteralKinds) -> LiteralKinds {
        LiteralKinds(self.0 | other.0)
    }

    fn shares(self, other: LiteralKinds) -> bool {
        self.0 & other.0 != 0
    }

    /// The kinds that PostgreSQL reads by a setting. A setting that is not named here says something of plans, output or
    /// locks, and nothing of literals.
    fn read_by(setting: &str) -> LiteralKinds {
        match setting {
            "datestyle" | "intervalstyle" | "timezone" | "timezone_abbreviations" => {
                LiteralKinds::TIMES
            }
            "lc_monetary" => LiteralKinds::MONEY,
            "array_nulls" => LiteralKinds::ARRAYS,
            "transform_null_equals" => LiteralKinds::NULLS,
            "xmlbinary" | "xmloption" => LiteralKinds::XML,
            "backslash_quote" | "escape_string_warning" | "standard_conforming_strings" => {
                LiteralKinds::STRINGS
            }
            "client_encoding" => LiteralKinds::ENCODED,
            _ => LiteralKinds::NONE,
        }
    }

    /// The kinds of a text's literals. Types are not known here, so a string counts as each type that it may be of.
    pub fn of(sql: &[u8], strings: bool) -> LiteralKinds {
        let tokens = Lexer::new(sql, strings);
        tokens.fold(LiteralKinds::NONE, |all, token| {
            all.and(LiteralKinds::of_token(token.kind, token.text(sql)))
        })
    }

    fn of_token(kind: Kind, text: &[u8]) -> LiteralKinds {
        const WORDS: [&str; 5] = ["today", "tomorrow", "yesterday", "now", "allballs"];
        let when = |is: bool, kinds: LiteralKinds| if is { kinds } else { LiteralKinds::NONE };
        let encoded = when(!text.is_ascii(), LiteralKinds::ENCODED);
        let own = match kind {
            Kind::UnicodeString => LiteralKinds::ALL,
            Kind::Word if text.eq_ignore_ascii_case(b"null") => LiteralKinds::NULLS,
            Kind::Word => {
                let xml = text
                    .get(..3)
                    .is_some_and(|w| w.eq_ignore_ascii_case(b"xml"));
                when(xml, LiteralKinds::XML)
            }
            // What is behind a backslash may be any character.
            kind if kind.is_string() && text.contains(&b'\\') => LiteralKinds::ALL,
            kind if kind.is_string() => {
                let lower = String::from_utf8_lossy(text).to_ascii_lowercase();
                let digits = text.iter().any(u8::is_ascii_digit);
                let time = digits || WORDS.iter().any(|word| lower.contains(word));
                let money = digits || text.contains(&b'$') || !text.is_ascii();
                LiteralKinds::XML
                    .and(when(time && !is_no_time(text), LiteralKinds::TIMES))
                    .and(when(money, LiteralKinds::MONEY))
                    .and(when(text.contains(&b'{'), LiteralKinds::ARRAYS))
            }
            _ => LiteralKinds::NONE,
        };
        own.and(encoded)
    }

    /// Whether literals of these kinds mean the same in two environments.
    pub fn mean_the_same(self, one: &Environment, other: &Environment) -> bool {
        let read = |s: &&Setting| self.shares(LiteralKinds::read_by(&s.name));
        let (one, other) = (one.literals.iter(), other.literals.iter());
        one.filter(read).eq(other.filter(read))
    }
}

/// The settings by which a session's statements are analysed. On one core, equal environments have one number.
#[derive(Debug, Default)]
pub struct Environment {
    /// Its number; 0 for statements that no server keeps.
    pub number: u64,
    /// The settings by which literals are read, in the order of their names. PostgreSQL does not read a literal again when
    /// one of them changes.
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
        let read = |s: &&Setting| LiteralKinds::read_by(&s.name) != LiteralKinds::NONE;
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

/// Whether a string, with its quotes, is a number too short for a date, or a span of time such as `1 day` without a sign:
/// no type of dates and times reads those by settings.
fn is_no_time(string: &[u8]) -> bool {
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
        let path = settings(&[
            ("search_path", "a"),
            ("timezone", "UTC"),
            ("a.b", "1"),
            ("work_mem", "5MB"),
        ]);
        let literals = &all.of(owner(), &path, &path, &none).literals;
        assert_eq!(
            literals.iter().map(|s| &*s.name).collect::<Vec<_>>(),
            ["timezone"]
        );
    }

    #[test]
    fn a_literal_is_read_by_settings_of_its_kind() {
        use LiteralKinds as K;
        let string = K::XML;
        for (sql, kinds) in [
            ("select a from t where b = $1 and c = 5", K::NONE),
            ("select a from t where c = 'open'", string),
            (
                "select interval '1 day' - '2 hours 30 minutes'",
                string.and(K::MONEY),
            ),
            (
                "select a = '15' or a = '-20' or a = ''",
                string.and(K::MONEY),
            ),
            ("select a = NULL", K::NULLS),
            ("update t set a = null where b is not null", K::NULLS),
            ("select XMLPARSE(document $1)", K::XML),
            ("select '{a}'::text[]", string.and(K::ARRAYS)),
            ("select 'Today'::date", string.and(K::TIMES)),
            (
                "select '01/02/2020'::date",
                string.and(K::TIMES).and(K::MONEY),
            ),
            (
                "select interval '-1 day 2 hours'",
                string.and(K::TIMES).and(K::MONEY),
            ),
            (
                "select '20200102'::timestamptz",
                string.and(K::TIMES).and(K::MONEY),
            ),
            ("select '0405'::timetz", string.and(K::TIMES).and(K::MONEY)),
            (
                "select '2020.100'::date",
                string.and(K::TIMES).and(K::MONEY),
            ),
            (
                "select '1 mar 2020'::date",
                string.and(K::TIMES).and(K::MONEY),
            ),
            ("select '1 2'::interval", string.and(K::TIMES).and(K::MONEY)),
            ("select '1.2.3'::date", string.and(K::TIMES).and(K::MONEY)),
            ("select '1.5'::money", string.and(K::TIMES).and(K::MONEY)),
            ("select '$ five'", string.and(K::MONEY)),
            ("select 'é'", string.and(K::MONEY).and(K::ENCODED)),
            ("select \"é\" from t", K::ENCODED),
            ("select E'a\\tb'", K::ALL),
            ("select U&'a'", K::ALL),
        ] {
            assert_eq!(K::of(sql.as_bytes(), true), kinds, "{sql}");
        }
    }

    #[test]
    fn other_settings_change_no_literal() {
        let all = Environments::default();
        let none = settings(&[]);
        let of = |list: &[(&str, &str)]| {
            let own = settings(list);
            all.of(owner(), &own, &own, &none)
        };
        let plain = of(&[]);
        let nulls = LiteralKinds::of(b"select a = null", true);
        let dates = LiteralKinds::of(b"select '01/02/2020'::date", true);
        for (changed, same_nulls, same_dates) in [
            (("work_mem", "5MB"), true, true),
            (("jit", "off"), true, true),
            (("timezone", "UTC"), true, false),
            (("transform_null_equals", "on"), false, true),
        ] {
            let other = of(&[changed]);
            assert_eq!(
                nulls.mean_the_same(&plain, &other),
                same_nulls,
                "{changed:?}"
            );
            assert_eq!(
                dates.mean_the_same(&plain, &other),
                same_dates,
                "{changed:?}"
            );
        }
    }
}
