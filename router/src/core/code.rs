//! Code that a statement runs without saying so, and that may leave something in its session: behind functions, operators,
//! casts, types, domains, rules, triggers, defaults, indexes, generated columns, policies.
//!
//! A question to the home shard ([`NAMES`]) gives the names behind which there is such code; most databases have none,
//! and then nothing is looked for. What is named keeps its connection from then on, as after code that cannot be seen: a
//! client's own settings, locks and tables reach nobody else. Only code that is proven to leave nothing counts as clean,
//! so a body that builds statements when it runs does not, nor does one in a language that is not read.

use super::Core;
use crate::log::Chain;
use crate::statements::shapes::Shaped;
use crate::topology::Topology;
use mothership_catalog::lasting::{BY_NUMBER, MAINTAINS, body_may_leave};
use mothership_sql::lexer::{Kind as Token, Lexer};
use mothership_sql::name;
use mothership_sql::shape::Literal;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What the home shard is asked: bodies that have to be read, whether there is such code, and the names of what it is
/// behind. In most databases there is none, and to plan the last question would take longer than the others together.
const BODIES: &str = include_str!("bodies.sql");
const IS_THERE: &str = concat!(
    include_str!("seeds.sql"),
    "SELECT EXISTS (SELECT FROM seeds)"
);
const NAMES: &str = concat!(include_str!("seeds.sql"), include_str!("code.sql"));

/// Extensions whose code leaves nothing in a session. Their functions in C keep no state that SQL can see, but for
/// pg_trgm's `set_limit`, which the question names.
const KNOWN: [&str; 36] = [
    "amcheck",
    "bloom",
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "dict_int",
    "dict_xsyn",
    "earthdistance",
    "file_fdw",
    "fuzzystrmatch",
    "hstore",
    "intagg",
    "intarray",
    "isn",
    "lo",
    "ltree",
    "pageinspect",
    "pg_buffercache",
    "pg_freespacemap",
    "pg_prewarm",
    "pg_stat_statements",
    "pg_trgm",
    "pg_visibility",
    "pgcrypto",
    "pgrowlocks",
    "pgstattuple",
    "plpgsql",
    "postgres_fdw",
    "seg",
    "sslinfo",
    "tcn",
    "tsm_system_rows",
    "tsm_system_time",
    "unaccent",
    "uuid-ossp",
];

/// A question that has failed is asked again after so long.
const PAUSE: Duration = Duration::from_secs(1);

/// The names of one database behind which there is code that may leave something.
#[derive(Clone, Debug, Default)]
pub struct Code {
    /// Which reading it is, of all in this process.
    pub number: u64,
    /// Definitions as they were.
    pub epoch: u64,
    /// When it was asked for; none where nothing can be asked.
    pub read: Option<Instant>,
    /// Anything may run such code: it is behind a cast or an operator of PostgreSQL's own types, or nothing is known.
    all: bool,
    /// Definitions run it: an event trigger does.
    definitions: bool,
    /// It is behind operator classes, access methods or the like: a definition may take them up without a name that is
    /// looked for.
    pub unnamed: bool,
    /// Functions and aggregates, which count where they are called.
    functions: HashSet<String>,
    /// Relations and types, which count wherever they are named.
    names: HashSet<String>,
    operators: HashSet<String>,
    /// Some name is not ASCII, so that its bytes depend on the encoding.
    foreign: bool,
}

/// Whether changes of definitions put code behind names that had none, or may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behind {
    /// Nothing has changed.
    #[default]
    Same,
    /// They did not, by what was known of all code at this epoch.
    AsOf(u64),
    /// They did, or may have.
    Changed,
}

impl Behind {
    /// Of two changes.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Same, other) | (other, Self::Same) => other,
            (one, other) if one == other => one,
            _ => Self::Changed,
        }
    }

    /// Whether it has to be asked anew, if the epoch is this one when they take effect.
    pub fn is_asked(self, epoch: u64) -> bool {
        match self {
            Self::Same => false,
            Self::AsOf(known) => known != epoch,
            Self::Changed => true,
        }
    }
}

impl Code {
    fn of(rows: impl Iterator<Item = (String, String)>) -> Self {
        let mut code = Self::default();
        for (kind, name) in rows {
            code.foreign |= !name.is_ascii();
            match &*kind {
                "function" => drop(code.functions.insert(name)),
                "relation" | "type" => drop(code.names.insert(name)),
                "operator" => drop(code.operators.insert(name)),
                "definitions" => code.definitions = true,
                "unnamed" => code.unnamed = true,
                _ => code.all = true,
            }
        }
        code
    }

    /// Whether no statement runs such code.
    pub fn is_clean(&self) -> bool {
        !self.all
            && !self.definitions
            && self.functions.is_empty()
            && self.names.is_empty()
            && self.operators.is_empty()
    }

    /// Whether there is such code behind relations or types that had none before.
    pub fn is_behind_more_than(&self, before: &Code) -> bool {
        self.all && !before.all || !self.names.is_subset(&before.names)
    }

    /// Whether a text may run such code, or a parameter of these declared types. The text may change definitions, and may
    /// only name functions and not call any.
    pub fn is_run_by(
        &self,
        sql: &[u8],
        strings: bool,
        types: &[u8],
        (defines, calls): (bool, bool),
    ) -> bool {
        /// Types from here on are those of users.
        const FIRST_OF_USERS: u32 = 16_384;
        if self.is_clean() {
            return false;
        }
        if self.all || (self.definitions && defines) {
            return true;
        }
        let of_users = |oid: &[u8]| {
            oid.try_into()
                .is_ok_and(|b| u32::from_be_bytes(b) >= FIRST_OF_USERS)
        };
        if types.chunks(4).any(of_users) || (self.foreign && !sql.is_ascii()) {
            return true;
        }
        self.is_named_by(sql, (strings, calls), &[])
    }

    /// The same of a text of a known shape without declared types, which defines nothing.
    pub fn is_run_by_shape(&self, shaped: &Shaped, sql: &[u8], strings: bool) -> bool {
        if self.is_clean() {
            return false;
        }
        if self.all || (self.foreign && !sql.is_ascii()) {
            return true;
        }
        let sql = shaped.span.of(sql);
        let of_shape = || self.is_named_by(sql, (strings, true), &shaped.literals);
        let texts = shaped.literals.iter();
        let mut texts = texts.filter(|literal| !literal.kind.is_number());
        let by = (self.number, strings);
        shaped.entry.names_code.get(by, of_shape)
            || texts.any(|literal| self.is_named_by(literal.span.of(sql), (strings, true), &[]))
    }

    /// Whether a text names such code, other than in these literals.
    fn is_named_by(&self, sql: &[u8], (strings, calls): (bool, bool), but: &[Literal]) -> bool {
        let mut but = but.iter().map(|literal| literal.span.start).peekable();
        let mut tokens = Lexer::new(sql, strings).peekable();
        let (mut behind_dot, mut begins) = (false, true);
        while let Some(token) = tokens.next() {
            let maintains = |name: &str| token.kind == Token::Word && MAINTAINS.contains(&name);
            let first = std::mem::replace(&mut begins, token.kind == Token::Semicolon);
            let called = behind_dot || tokens.peek().is_some_and(|next| next.kind == Token::LParen);
            behind_dot = token.kind == Token::Dot;
            if but.next_if_eq(&token.start).is_some() {
                continue;
            }
            let text = token.text(sql);
            let runs = match token.kind {
                Token::Word | Token::QuotedIdent => {
                    let name = name::identifier(token, sql, b'\\');
                    let name = name.as_ref().and_then(|name| name.as_str());
                    name.is_none_or(|name| {
                        self.names.contains(name)
                            || called && calls && self.functions.contains(name)
                            || called && BY_NUMBER.contains(&name)
                            || first && maintains(name)
                    })
                }
                // Which character escapes in it stands behind it.
                Token::UnicodeIdent | Token::UnicodeString => true,
                Token::Operator => {
                    std::str::from_utf8(text).is_ok_and(|text| self.operators.contains(text))
                }
                kind if kind.is_string() => {
                    let constant = name::string(token, sql, strings);
                    self.is_named_in(&constant.map(|constant| constant.value))
                }
                _ => false,
            };
            if runs {
                return true;
            }
        }
        false
    }

    /// Whether a string has a name in it, which a function may look up.
    fn is_named_in(&self, text: &Option<std::borrow::Cow<'_, [u8]>>) -> bool {
        let Some(text) = text else {
            // It is no string of characters, or is broken.
            return false;
        };
        let is_part =
            |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$') || !b.is_ascii();
        let words = text.split(|b| !is_part(b)).filter(|word| !word.is_empty());
        let mut words = words.filter_map(|word| std::str::from_utf8(word).ok());
        words.any(|word| {
            word.len() > name::NAME_LIMIT
                || self.names.contains(word)
                || self.names.contains(&word.to_ascii_lowercase())
        })
    }
}

impl Core {
    /// Asks the home shard for the names of a database, and puts them in force.
    pub async fn read_code(&self, database: &str) -> Arc<Code> {
        let topology = self.shared.topology();
        let begun = Instant::now();
        // What changes from here on may be missing.
        let epoch = self.shared.code_epoch.load(Ordering::SeqCst);
        // Nothing was defined through this router since: what was known serves until it can be asked again.
        let serves = |known: &Arc<Code>| known.epoch == epoch && !known.all;
        let answer = match topology.primary(topology.home) {
            // Nobody waits for a primary to learn what is known.
            Err(why) if self.known_code(database).as_ref().is_some_and(serves) => {
                Err(why.to_string())
            }
            _ => {
                let asked = self.ask_code(&topology, database);
                let answer = tokio::time::timeout(topology.config.catalog.timeout, asked).await;
                answer.unwrap_or_else(|_| Err("no answer in time".to_owned()))
            }
        };
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let code = match answer {
            Ok(code) => Code {
                number,
                epoch,
                read: Some(begun),
                ..code
            },
            Err(error) => {
                let known = self.known_code(database).filter(serves);
                if known.is_none() {
                    tracing::warn!(
                        database,
                        error,
                        "it is not known which code of users leaves something in sessions: all keep their connections"
                    );
                }
                let most = topology.config.catalog.refresh_interval;
                let old = most.saturating_sub(PAUSE);
                let unknown = || Code {
                    all: true,
                    ..Code::default()
                };
                Code {
                    number,
                    epoch,
                    read: Some(begun.checked_sub(old).unwrap_or(begun)),
                    ..known.map_or_else(unknown, |known| Code::clone(&known))
                }
            }
        };
        let code = Arc::new(code);
        let mut known = self
            .shared
            .code
            .lock()
            .expect("nobody panics while holding it");
        known.insert(database.to_owned(), Arc::clone(&code));
        code
    }

    /// What is known, however old.
    pub fn known_code(&self, database: &str) -> Option<Arc<Code>> {
        let known = self.shared.code.lock();
        let known = known.expect("nobody panics while holding it");
        known.get(database).cloned()
    }

    async fn ask_code(&self, topology: &Topology, database: &str) -> Result<Code, String> {
        if !topology.config.has_postgres() {
            return Ok(Code::default());
        }
        let on_home = topology.database_on(database, topology.home);
        let lent = self.control.lend(topology, topology.home, &on_home).await;
        let client = lent.map_err(|error| Chain(&error).to_string())?;
        let limit = topology.config.catalog.timeout.as_millis();
        let begin = format!(
            "BEGIN READ ONLY; SET LOCAL search_path = pg_catalog, pg_temp; \
             SET LOCAL statement_timeout = {limit}; SET LOCAL plan_cache_mode = force_generic_plan"
        );
        let schema = topology.config.transactions.schema.as_str();
        let known: Vec<&str> = KNOWN.to_vec();
        let asked = async {
            client.batch_execute(&begin).await?;
            let bodies = client.prepare_once(BODIES).await?;
            let bodies = client.query(&bodies, &[&schema, &known]).await?;
            let leave = bodies.iter().filter_map(|row| {
                let is_sql: bool = row.try_get(1).ok()?;
                let body: Option<String> = row.try_get(2).ok()?;
                let leaves = body.is_none_or(|body| body_may_leave(&body, is_sql));
                leaves.then(|| row.try_get(0).ok()).flatten()
            });
            let leave: Vec<i64> = leave.collect();
            let is_there = client.prepare_once(IS_THERE).await?;
            let is_there = client
                .query_one(&is_there, &[&schema, &known, &leave])
                .await?;
            let rows = match is_there.try_get(0)? {
                false => Vec::new(),
                true => {
                    let names = client.prepare_once(NAMES).await?;
                    client.query(&names, &[&schema, &known, &leave]).await?
                }
            };
            client.batch_execute("COMMIT").await?;
            Ok::<_, tokio_postgres::Error>(rows)
        };
        match client.ask(asked).await {
            Ok(rows) => {
                Ok(Code::of(rows.iter().filter_map(|row| {
                    Some((row.try_get(0).ok()?, row.try_get(1).ok()?))
                })))
            }
            Err(error) => Err(Chain(&error).to_string()),
        }
    }

    /// Does so soon, without anybody waiting, if nobody does.
    pub fn read_code_soon(self: &Rc<Self>, database: &str) {
        let loading = self.loading(&format!("code of {database}"));
        if loading.try_lock().is_err() {
            return;
        }
        let (core, database) = (Rc::clone(self), database.to_owned());
        tokio::task::spawn_local(async move {
            if let Ok(_one) = loading.try_lock() {
                core.read_code(&database).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statements::shapes::{Room, Shapes};

    #[test]
    fn names_are_found_wherever_they_may_run_their_code() {
        let own = |kind: &str, name: &str| (kind.to_owned(), name.to_owned());
        let code = Code::of(
            [
                own("function", "f"),
                own("relation", "Audited"),
                own("type", "positive"),
                own("operator", "<%>"),
            ]
            .into_iter(),
        );
        for sql in [
            "SELECT f(1)",
            "SELECT app.f(1)",
            "SELECT (r).f FROM r",
            "SELECT \"f\" (1)",
            "INSERT INTO \"Audited\" VALUES (1)",
            "SELECT $1::positive",
            "SELECT pg_input_is_valid('1', 'app.positive')",
            "SELECT 1 OPERATOR(app.<%>) 2",
            "SELECT 1 <%> 2",
            "SELECT U&\"\\0066\"(1)",
            "SELECT domain_in('1', 17000, -1) IS NULL",
            "VACUUM",
            "SELECT 1; analyze verbose",
            "REINDEX SCHEMA app",
        ] {
            assert!(
                code.is_run_by(sql.as_bytes(), true, &[], (false, true)),
                "{sql}"
            );
        }
        for sql in [
            "SELECT f FROM t",
            "INSERT INTO audited VALUES (1)",
            "SELECT 1 < 2, 'it is'",
            "EXPLAIN ANALYZE SELECT 1",
            "SELECT vacuum FROM t",
        ] {
            assert!(
                !code.is_run_by(sql.as_bytes(), true, &[], (false, true)),
                "{sql}"
            );
        }
        let of_users = 20_000u32.to_be_bytes();
        assert!(code.is_run_by(b"SELECT $1", true, &of_users, (false, true)));
        let none = Code::default();
        assert!(none.is_clean() && !none.is_run_by(b"SELECT f(1)", true, &of_users, (true, true)));
        let triggers = Code::of([own("definitions", "")].into_iter());
        assert!(triggers.is_run_by(b"CREATE TABLE t ()", true, &[], (true, true)));
        assert!(!triggers.is_run_by(b"SELECT 1", true, &[], (false, true)));
    }

    #[test]
    fn texts_of_one_shape_share_what_their_names_say() {
        let own = |kind: &str, name: &str| (kind.to_owned(), name.to_owned());
        let code = Code {
            number: 1,
            ..Code::of([own("relation", "audited"), own("function", "f")].into_iter())
        };
        let shapes = Shapes::default();
        let room = Room {
            shapes: 10,
            bytes: 1 << 20,
        };
        for (sql, runs) in [
            ("SELECT a FROM t WHERE b = 1", false),
            ("SELECT a FROM t WHERE b = 2", false),
            ("SELECT f(a) FROM t WHERE b = 1", true),
            ("SELECT f(a) FROM t WHERE b = 2", true),
            ("SELECT a FROM t WHERE b = 'it is'", false),
            ("SELECT a FROM t WHERE b = 'audited'", true),
            ("SELECT a FROM t WHERE b = 'it was'", false),
        ] {
            let shaped = shapes.find(sql.as_bytes(), true, room).expect(sql);
            let known = code.is_run_by_shape(&shaped, sql.as_bytes(), true);
            assert_eq!(known, runs, "{sql}");
            assert_eq!(
                code.is_run_by(sql.as_bytes(), true, &[], (false, true)),
                runs,
                "{sql}"
            );
        }
        let shaped = shapes.find(b"SELECT a FROM t WHERE b = 3", true, room);
        let of_b = Code {
            number: 2,
            ..Code::of([own("relation", "b")].into_iter())
        };
        assert!(of_b.is_run_by_shape(&shaped.unwrap(), b"SELECT a FROM t WHERE b = 3", true));
    }

    #[test]
    fn code_is_asked_for_again_unless_all_was_judged_by_what_holds() {
        let (same, old, new) = (Behind::Same, Behind::AsOf(1), Behind::AsOf(2));
        assert!(!same.is_asked(1));
        assert!(!same.and(new).is_asked(2) && !new.and(same).and(new).is_asked(2));
        assert!(old.is_asked(2), "somebody else changed it meanwhile");
        assert!(old.and(new).is_asked(2));
        assert!(new.and(Behind::Changed).and(new).is_asked(2));
    }
}
