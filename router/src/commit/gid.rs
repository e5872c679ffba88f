//! The name of a prepared transaction, which leads to its decision.
//!
//! `ms1:ROUTER:ID:DECIDER:OWN:SYSTEM:DATABASE:PID:STARTED`: which router made it,
//! the transaction, the names of the deciding and of its own shard (for humans, and
//! because names are unique per cluster while shards may be databases of one), and
//! the backend that decides: system identifier, database oid, process id, start in
//! microseconds. Whoever finds the name can ask that database for the decision, and
//! its server whether the backend is still there. Numbers are in base 36.
//!
//! Where MongoDB decides, the end is `SYSTEM:SESSION`: a number of the database, and
//! the session whose transaction decides, so that it can be ended by whoever asks.
//!
//! Pure. See PREPARE TRANSACTION: a name has less than 200 bytes.

use crate::config::Label;
use std::fmt;

/// The longest name that PostgreSQL takes (`GIDSIZE` - 1), in bytes.
pub const MAX_BYTES: usize = 199;

const MARK: &str = "ms1";
/// Whether a name belongs to the routers: no client may prepare or finish a transaction by it, well formed or not.
pub fn is_reserved(name: &[u8]) -> bool {
    let rest = name.strip_prefix(MARK.as_bytes());
    rest.is_some_and(|rest| rest.first() == Some(&b':'))
}

/// Digits of 2^128 - 1 in base 36: all ids have as many.
const ID_DIGITS: usize = 25;

/// A random number that names a transaction over several shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub u128);

impl TransactionId {
    /// A new one. Random, so that no client can guess whose turn it is.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Reads what [`fmt::Display`] wrote.
    pub fn parse_uuid(text: &str) -> Option<Self> {
        let plain = text.len() == 36 && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let whole = plain && digits.len() == 32;
        whole
            .then(|| u128::from_str_radix(&digits, 16).ok())
            .flatten()
            .map(Self)
    }
}

impl fmt::Display for TransactionId {
    /// As PostgreSQL shows a uuid.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        let parts = [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ];
        f.write_str(&parts.join("-"))
    }
}

/// One database of one cluster, whatever the configuration calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// `system_identifier` of `pg_control_system()`; of MongoDB the number that its database was given.
    pub system: u64,
    /// `oid` of `pg_database`; 0 of MongoDB.
    pub database: u32,
}

/// Who decides, never to be confused with a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backend {
    /// A backend process of PostgreSQL.
    Process {
        /// The database that it works in.
        place: Place,
        /// Its process id.
        pid: i32,
        /// When it started, in microseconds since 1970.
        started: i64,
    },
    /// A session of MongoDB.
    Session {
        /// The number of the database that it works in.
        system: u64,
        /// Its UUID.
        session: u128,
    },
}

impl Backend {
    /// Reads what the function `backend()` of the decision schema says; of MongoDB it is
    /// `session`, the number of the database, and the UUID.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let mut next = || parts.next();
        let first = next()?;
        let backend = match first {
            "session" => Self::Session {
                system: next()?.parse().ok()?,
                session: TransactionId::parse_uuid(next()?)?.0,
            },
            system => Self::Process {
                place: Place {
                    // PostgreSQL has no unsigned bigint: large ones look negative.
                    system: system.parse::<i64>().ok()?.cast_unsigned(),
                    database: next()?.parse().ok()?,
                },
                pid: next()?.parse().ok().filter(|pid| *pid > 0)?,
                started: next()?.parse().ok().filter(|started| *started > 0)?,
            },
        };
        parts.next().is_none().then_some(backend)
    }

    /// The database that it works in.
    pub fn place(self) -> Place {
        match self {
            Self::Process { place, .. } => place,
            Self::Session { system, .. } => Place {
                system,
                database: 0,
            },
        }
    }
}

/// What a name says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gid {
    /// The router that prepared it.
    pub router: Label,
    /// The transaction.
    pub id: TransactionId,
    /// The shard that decides.
    pub decider: Label,
    /// The shard on which this part is prepared.
    pub own: Label,
    /// The backend that decides.
    pub backend: Backend,
}

impl Gid {
    /// Reads a name. `None` when it is not exactly one of ours: others use prepared transactions too.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let mut next = || parts.next();
        if next()? != MARK {
            return None;
        }
        let (router, id) = (Label::new(next()?)?, TransactionId(number(next()?)?));
        let (decider, own) = (Label::new(next()?)?, Label::new(next()?)?);
        let (system, second) = (number(next()?)?.try_into().ok()?, number(next()?)?);
        let backend = match (next(), next()) {
            (None, _) => Backend::Session {
                system,
                session: second,
            },
            (Some(pid), started) => Backend::Process {
                place: Place {
                    system,
                    database: second.try_into().ok()?,
                },
                pid: number(pid)?.try_into().ok()?,
                started: number(started?)?.try_into().ok()?,
            },
        };
        let gid = Self {
            router,
            id,
            decider,
            own,
            backend,
        };
        // One name has one form: zeros before a number, or capitals, are not ours.
        (gid.to_string() == text).then_some(gid)
    }
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{MARK}:{}:{:0>ID_DIGITS$}:{}:{}",
            self.router,
            digits(self.id.0),
            self.decider,
            self.own,
        )?;
        match self.backend {
            Backend::Process {
                place,
                pid,
                started,
            } => write!(
                f,
                ":{}:{}:{}:{}",
                digits(place.system.into()),
                digits(place.database.into()),
                digits(pid.unsigned_abs().into()),
                digits(started.unsigned_abs().into()),
            ),
            Backend::Session { system, session } => {
                write!(f, ":{}:{}", digits(system.into()), digits(session))
            }
        }
    }
}

fn number(text: &str) -> Option<u128> {
    u128::from_str_radix(text, 36).ok()
}

fn digits(mut number: u128) -> String {
    let mut digits = Vec::new();
    loop {
        let digit = (number % 36) as u32;
        digits.push(char::from_digit(digit, 36).expect("a remainder by 36 is a digit"));
        number /= 36;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn label(text: &str) -> Label {
        Label::new(text).unwrap()
    }

    fn gid() -> Gid {
        Gid {
            router: label("r1"),
            id: TransactionId(255),
            decider: label("shard-a"),
            own: label("shard_b"),
            backend: Backend::Process {
                place: Place {
                    system: 7_400_000_000_000_000_000,
                    database: 16_384,
                },
                pid: 4_711,
                started: 1_760_000_000_000_000,
            },
        }
    }

    #[test]
    fn a_name_is_read_as_it_was_written() {
        let text = gid().to_string();
        assert_eq!(
            text,
            "ms1:r1:0000000000000000000000073:shard-a:shard_b:1k7zd2l6lxwjk:cn4:3mv:hbv8u65a0w"
        );
        assert_eq!(Gid::parse(&text), Some(gid()));
    }

    #[test]
    fn a_session_of_mongodb_has_a_name_too() {
        let backend = Backend::Session {
            system: 35,
            session: u128::MAX,
        };
        assert_eq!(
            Backend::parse("session 35 ffffffff-ffff-ffff-ffff-ffffffffffff"),
            Some(backend)
        );
        assert_eq!(
            backend.place(),
            Place {
                system: 35,
                database: 0
            }
        );
        let gid = Gid { backend, ..gid() };
        let text = gid.to_string();
        assert_eq!(
            text,
            "ms1:r1:0000000000000000000000073:shard-a:shard_b:z:f5lxx1zz5pnorynqglhzmsp33"
        );
        assert_eq!(Gid::parse(&text), Some(gid));
        for wrong in [
            "session",
            "session 35",
            "session 35 1",
            "session -1 ffffffff-ffff-ffff-ffff-ffffffffffff",
            "session 35 ffffffff-ffff-ffff-ffff-ffffffffffff 1",
        ] {
            assert_eq!(Backend::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_longest_name_is_short_enough() {
        let long = label(&"x".repeat(40));
        let longest = Gid {
            router: long.clone(),
            id: TransactionId(u128::MAX),
            decider: long.clone(),
            own: long,
            backend: Backend::Process {
                place: Place {
                    system: u64::MAX,
                    database: u32::MAX,
                },
                pid: i32::MAX,
                started: i64::MAX,
            },
        };
        let text = longest.to_string();
        assert!(text.len() <= MAX_BYTES, "{} bytes", text.len());
        assert_eq!(Gid::parse(&text), Some(longest));
    }

    #[test]
    fn foreign_names_are_refused() {
        let ours = gid().to_string();
        let foreign = [
            String::new(),
            "ms1".into(),
            "citus_0_1234_5_6".into(),
            "__pgdog_2pc_17_0".into(),
            ours.replacen("ms1", "ms2", 1),
            ours.replacen("ms1", "MS1", 1),
            ours.replacen(":cn4:", ":0cn4:", 1),
            ours.replacen(":cn4:", ":CN4:", 1),
            ours.replacen(":cn4:", ":+cn4:", 1),
            ours.replacen(":cn4:", ":zzzzzzzz:", 1),
            ours.replacen(":r1:", ":r 1:", 1),
            ours.replacen(":0000", ":000", 1),
            format!("{ours}:"),
            format!("{ours} "),
        ];
        for text in foreign {
            assert_eq!(Gid::parse(&text), None, "{text}");
        }
    }

    #[test]
    fn a_backend_is_read_as_its_server_tells_it() {
        let told = Backend::parse("-1 16384 77 1760000000000000").unwrap();
        let place = Place {
            system: u64::MAX,
            database: 16_384,
        };
        let started = 1_760_000_000_000_000;
        let expected = Backend::Process {
            place,
            pid: 77,
            started,
        };
        assert_eq!(told, expected);
        for wrong in [
            "",
            "1 2 3",
            "1 2 3 4 5",
            "1 2 0 4",
            "1 2 3 -4",
            "1 -2 3 4",
            " 1 2 3 4",
        ] {
            assert_eq!(Backend::parse(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_short_and_reads_back(
            labels in proptest::array::uniform3("[a-zA-Z0-9_-]{1,40}"),
            id: u128, session: u128, system: u64, database: u32, pid in 1..=i32::MAX, started in 1..=i64::MAX,
        ) {
            let [router, decider, own] = labels.map(|text| label(&text));
            let process = Backend::Process { place: Place { system, database }, pid, started };
            for backend in [process, Backend::Session { system, session }] {
                let (router, decider, own) = (router.clone(), decider.clone(), own.clone());
                let gid = Gid { router, id: TransactionId(id), decider, own, backend };
                let text = gid.to_string();
                prop_assert!(text.len() <= MAX_BYTES);
                prop_assert_eq!(Gid::parse(&text), Some(gid));
            }
        }

        #[test]
        fn any_text_is_judged_without_harm(text in "(ms1:)?[a-z0-9:_é-]{0,220}") {
            if let Some(gid) = Gid::parse(&text) {
                prop_assert_eq!(gid.to_string(), text);
            }
        }

        #[test]
        fn an_id_reads_back_as_uuid(id: u128) {
            let id = TransactionId(id);
            prop_assert_eq!(TransactionId::parse_uuid(&id.to_string()), Some(id));
        }
    }
}
