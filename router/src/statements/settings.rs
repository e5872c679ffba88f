//! The settings that a session has changed, and how a server connection gets them.
//!
//! PostgreSQL keeps SET per backend; here a session meets many backends. So the
//! router keeps each session's settings as an ordered list, and before a
//! connection serves the session it is brought from the list that it carries to
//! the list that the session wants. Pure: lists in, SQL out.
//!
//! Changes inside a transaction are undone with it, as PostgreSQL does it (manual,
//! SET): [`SessionSettings`] keeps what holds at its start and at each savepoint.

use crate::rare::Rare;
use crate::rests::{self, IdleSettings};
use mothership_sql::date_style::DateStyle;
use mothership_sql::duration::duration;
use mothership_sql::effect::{SetValue, Statement, Target, analyse};
use mothership_sql::quote::push_literal;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// How one setting is brought to a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// The router's own `SET name ...` for a SET of the client's: it reads the same under every setting, and a client's
    /// text would not ([`super::step`], replay).
    Statement(String),
    /// A value as set_config takes it: the startup packet and set_config itself.
    Text(String),
}

/// One setting with its name in PostgreSQL's folded spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Setting {
    /// The name, lower case.
    pub name: String,
    /// The value.
    pub value: Value,
}

impl Setting {
    /// The value, if it is one word, text or number, however it was set.
    fn text(&self) -> Option<Cow<'_, str>> {
        match &self.value {
            Value::Text(text) => Some(Cow::Borrowed(text)),
            Value::Statement(sql) => match analyse(sql.as_bytes(), true).statement {
                Statement::Set {
                    value: SetValue::Given { text, .. },
                    ..
                } => Some(Cow::Owned(text?.as_str()?.to_owned())),
                Statement::SetRole {
                    role: Target::Role(name),
                    ..
                }
                | Statement::SetSessionAuthorization {
                    role: Target::Role(name),
                    ..
                } => Some(Cow::Owned(name.as_str()?.to_owned())),
                _ => None,
            },
        }
    }

    /// Whether it leaves the role that was taken, and takes none.
    pub fn is_no_role(&self) -> bool {
        self.name == ROLE && self.text().is_some_and(|role| role == NO_ROLE)
    }
}

/// Settings in the order in which they were last set.
///
/// Order matters: a role may be allowed what the next one is not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Settings {
    list: Vec<Setting>,
    /// What SET LOCAL ... TO DEFAULT set last. RESET ALL passes over what is in force from no SET, and the session's
    /// value below shows again when the transaction ends (PostgreSQL, guc.c: ResetAllOptions).
    defaulted: Vec<String>,
    /// What they say of how long the session may rest: looked at after each request, and so not read each time.
    rests: IdleSettings,
}

const DATE_STYLE: &str = "datestyle";

/// What a value of DateStyle says, be it one word or a list.
fn date_style(value: &Value) -> Option<DateStyle> {
    match value {
        Value::Text(text) => DateStyle::read(text),
        Value::Statement(sql) => match analyse(sql.as_bytes(), true).statement {
            Statement::Set {
                value: SetValue::Given { span, .. },
                ..
            } => DateStyle::read(std::str::from_utf8(span.of(sql.as_bytes())).ok()?),
            _ => None,
        },
    }
}

/// Names that change what later statements may do.
const ROLES: [&str; 2] = ["session_authorization", ROLE];

const ROLE: &str = "role";

/// The value of `role` that is no role (PostgreSQL, `variable.c`: `check_role`).
const NO_ROLE: &str = "none";

impl Settings {
    /// No setting.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The settings in order.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.list.iter()
    }

    /// How many there are, and the bytes of their names and values.
    pub fn size(&self) -> (usize, usize) {
        let bytes = self.iter().map(|setting| {
            let (Value::Statement(value) | Value::Text(value)) = &setting.value;
            setting.name.len() + value.len()
        });
        (self.list.len(), bytes.sum())
    }

    /// The value of a setting.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.list.iter().find(|s| s.name == name).map(|s| &s.value)
    }

    /// The same of a setting whose value is one word, text or number, however it was set.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.list.iter().find(|s| s.name == name)?.text()
    }

    /// The role that is set. A role of none may be set, too: over one that the session began with.
    pub fn role(&self) -> Option<Cow<'_, str>> {
        self.text(ROLE).filter(|role| role != NO_ROLE)
    }

    /// Sets one back to what the session began with.
    fn reset(&mut self, name: &str, startup: &Self) {
        self.remove(name);
        if let Some(value) = startup.get(name) {
            self.set(name, value.clone());
        }
    }

    /// How long something may take by a setting; `None` without a limit.
    pub fn limit(&self, name: &str) -> Option<Duration> {
        duration(&self.text(name)?).filter(|limit| !limit.is_zero())
    }

    /// What they say of how long the session may rest.
    pub fn rests(&self) -> IdleSettings {
        self.rests
    }

    fn read_rests(&mut self) {
        let said = |name| self.text(name).and_then(|text| rests::millis(&text));
        self.rests = IdleSettings {
            idle: said(rests::IDLE),
            in_transaction: said(rests::IN_TRANSACTION),
        };
    }

    /// Sets one; it becomes the last.
    pub fn set(&mut self, name: &str, value: Value) {
        self.remove(name);
        self.list.push(Setting {
            name: name.to_owned(),
            value,
        });
        if matches!(name, rests::IDLE | rests::IN_TRANSACTION) {
            self.read_rests();
        }
        // SET SESSION AUTHORIZATION takes no role, whatever the session began with.
        if name == "session_authorization" {
            self.remove(ROLE);
        }
    }

    /// Removes one.
    pub fn remove(&mut self, name: &str) {
        self.list.retain(|s| s.name != name);
        self.defaulted.retain(|defaulted| defaulted != name);
        match name {
            rests::IDLE => self.rests.idle = None,
            rests::IN_TRANSACTION => self.rests.in_transaction = None,
            _ => {}
        }
    }

    /// The value that a SET gives. DateStyle has two parts, and a SET of one leaves the other as it was.
    fn whole(&self, setting: &Setting) -> Value {
        let before = || date_style(self.get(DATE_STYLE)?);
        let merged = || Some(date_style(&setting.value)?.over(before()?).text());
        match setting.name == DATE_STYLE {
            true => merged().map_or_else(|| setting.value.clone(), Value::Text),
            false => setting.value.clone(),
        }
    }

    /// What RESET ALL passes over while these are in force.
    pub fn defaulted(&self) -> &[String] {
        &self.defaulted
    }

    /// RESET ALL: what is left are those that it passes over, and the roles, which it does not touch.
    fn reset_all(&mut self, passes_over: &[String]) {
        let stays = |s: &Setting| ROLES.contains(&s.name.as_str()) || passes_over.contains(&s.name);
        self.list.retain(stays);
        self.read_rests();
    }

    /// The statements that bring a connection from `have` to `self`; empty if
    /// there is nothing to do.
    pub fn sql_from(&self, have: &Settings) -> String {
        let mut sql = String::new();
        let is_role = |setting: &&Setting| ROLES.contains(&setting.name.as_str());
        let differs = |a: &Settings, b: &Settings| {
            let mut others = a.iter().filter(|setting| !is_role(setting));
            others.any(|setting| b.get(&setting.name) != Some(&setting.value))
        };
        let roles_differ = ROLES.iter().any(|role| self.get(role) != have.get(role));
        let has_role = have.iter().any(|setting| is_role(&setting));
        // Back to the login role first: it may undo and redo everything, and the role may not.
        let leaves_role = roles_differ || has_role && (differs(self, have) || differs(have, self));
        if leaves_role {
            sql.push_str("RESET SESSION AUTHORIZATION;RESET ROLE;");
        }
        for old in have.iter().filter(|setting| !is_role(setting)) {
            let wanted = self.get(&old.name);
            // The part that this session has not set is the server's own, not the last client's.
            let is_partial = old.name == DATE_STYLE && wanted != Some(&old.value);
            if wanted.is_none() || is_partial {
                push_reset(&mut sql, &old.name);
            }
        }
        for setting in self.iter() {
            let same = have.get(&setting.name) == Some(&setting.value);
            if !same || (is_role(&setting) && leaves_role) {
                push_set(&mut sql, setting);
            }
        }
        sql
    }

    /// The statements that make `changes` on a server, after which `self` holds there.
    /// Other than [`Settings::sql_from`] it repeats what seems to hold already: a SET
    /// LOCAL in between may hide it.
    pub fn sql_of(&self, changes: &[Change]) -> String {
        let mut sql = String::new();
        for change in changes {
            let name = match change {
                Change::Set(setting) => {
                    push_set(&mut sql, setting);
                    continue;
                }
                Change::Reset(name) => name,
                Change::ResetAll { .. } | Change::DiscardAll => {
                    sql.push_str("RESET ALL;");
                    self.iter()
                        .filter(|s| !ROLES.contains(&s.name.as_str()))
                        .filter(|s| !change.passes_over().contains(&s.name))
                        .for_each(|s| push_set(&mut sql, s));
                    continue;
                }
            };
            match self.list.iter().find(|s| s.name == *name) {
                Some(setting) => push_set(&mut sql, setting),
                None => push_reset(&mut sql, name),
            }
        }
        sql
    }
}

fn push_reset(sql: &mut String, name: &str) {
    sql.push_str("RESET ");
    push_name(sql, name);
    sql.push(';');
}

fn push_set(sql: &mut String, setting: &Setting) {
    match &setting.value {
        Value::Statement(text) => sql.push_str(text),
        Value::Text(value) => {
            sql.push_str("SELECT pg_catalog.set_config(");
            push_literal(sql, &setting.name);
            sql.push(',');
            push_literal(sql, value);
            sql.push_str(",false)");
        }
    }
    sql.push(';');
}

/// The statement that makes `changes` for the transaction only.
pub fn local_sql(changes: &[Change]) -> String {
    let mut sql = String::from("SELECT ");
    let mut separator = "";
    for change in changes {
        let (name, value) = match change {
            Change::Set(setting) => (&setting.name, Some(&setting.value)),
            Change::Reset(name) => (name, None),
            Change::ResetAll { .. } | Change::DiscardAll => continue,
        };
        sql.push_str(separator);
        sql.push_str("pg_catalog.set_config(");
        push_literal(&mut sql, name);
        sql.push(',');
        match value {
            Some(Value::Text(text) | Value::Statement(text)) => push_literal(&mut sql, text),
            None => sql.push_str("NULL"),
        }
        sql.push_str(",true)");
        separator = ",";
    }
    sql
}

/// A setting's name, each part quoted: `a.b` is two identifiers.
pub fn push_name(sql: &mut String, name: &str) {
    for (i, part) in name.split('.').enumerate() {
        if i > 0 {
            sql.push('.');
        }
        sql.push('"');
        sql.push_str(&part.replace('"', "\"\""));
        sql.push('"');
    }
}

/// What a statement that succeeded did to the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// SET, set_config(..., false), SET ROLE, SET SESSION AUTHORIZATION.
    Set(Setting),
    /// RESET name, SET name TO DEFAULT.
    Reset(String),
    /// RESET ALL.
    ResetAll {
        /// What it leaves as it is, because SET LOCAL ... TO DEFAULT is in force.
        passes_over: Vec<String>,
    },
    /// DISCARD ALL: RESET ALL and RESET SESSION AUTHORIZATION.
    DiscardAll,
}

impl Change {
    /// RESET ALL where nothing is passed over.
    pub const RESET_ALL: Self = Self::ResetAll {
        passes_over: Vec::new(),
    };

    fn passes_over(&self) -> &[String] {
        match self {
            Self::ResetAll { passes_over } => passes_over,
            _ => &[],
        }
    }
}

thread_local! {
    /// One for all: sessions and connections begin with it at every turn.
    static NO_SETTINGS: Arc<Settings> = Arc::default();
}

/// A session's settings through its transactions.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// From the startup packet: what RESET goes back to.
    startup: Arc<Settings>,
    current: Arc<Settings>,
    /// What held when the transaction began.
    before: Option<Arc<Settings>>,
    /// What held at each savepoint, innermost last.
    savepoints: Rare<Vec<(String, Arc<Settings>)>>,
}

/// An empty list, the same one for everybody on this thread.
pub fn no_settings() -> Arc<Settings> {
    NO_SETTINGS.with(Arc::clone)
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self::carried(no_settings())
    }
}

impl SessionSettings {
    /// The settings of a new session.
    pub fn new(startup: Settings) -> Self {
        let startup = Arc::new(startup);
        Self {
            current: Arc::clone(&startup),
            startup,
            before: None,
            savepoints: Rare::default(),
        }
    }

    /// The settings of a connection: they have no startup packet to go back to.
    pub fn carried(settings: Arc<Settings>) -> Self {
        Self {
            startup: NO_SETTINGS.with(Arc::clone),
            current: settings,
            before: None,
            savepoints: Rare::default(),
        }
    }

    /// The connection was brought to these settings.
    pub fn bring_to(&mut self, settings: &Arc<Settings>) {
        self.current = Arc::clone(settings);
    }

    /// The session begins with this, unless its startup packet says otherwise.
    pub fn begin_with(&mut self, name: &str, value: Value) {
        if self.startup.get(name).is_none() {
            Arc::make_mut(&mut self.startup).set(name, value);
            self.current = Arc::clone(&self.startup);
        }
    }

    /// The session has this from its beginning, unless its startup packet or itself has said otherwise.
    pub fn keep(&mut self, name: &str, value: &Value) {
        let add = |list: &mut Arc<Settings>| {
            if list.get(name).is_none() {
                Arc::make_mut(list).set(name, value.clone());
            }
        };
        add(&mut self.startup);
        add(&mut self.current);
        self.before.iter_mut().for_each(add);
        let savepoints = self.savepoints.get_mut().into_iter().flatten();
        savepoints.map(|(_, list)| list).for_each(add);
    }

    /// The session begins with these, which are equal to its own: several keep one list so.
    pub fn begin_as(&mut self, equal: &Arc<Settings>) {
        self.startup = Arc::clone(equal);
        self.current = Arc::clone(equal);
    }

    /// What holds now.
    pub fn current(&self) -> &Arc<Settings> {
        &self.current
    }

    /// True if the same settings hold in both.
    pub fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.current, &other.current) || self.current == other.current
    }

    /// What holds outside of the open transaction: what a connection must have
    /// before it joins.
    pub fn outside(&self) -> &Arc<Settings> {
        self.before.as_ref().unwrap_or(&self.current)
    }

    /// Whether the open transaction has changed them.
    pub fn has_changed(&self) -> bool {
        *self.outside() != self.current
    }

    /// What the startup packet set.
    pub fn startup(&self) -> &Arc<Settings> {
        &self.startup
    }

    /// A statement succeeded.
    pub fn apply(&mut self, change: &Change) {
        let startup = Arc::clone(&self.startup);
        let settings = Arc::make_mut(&mut self.current);
        match change {
            Change::Set(setting) => {
                settings.set(&setting.name, settings.whole(setting));
                // No role is said only over one that the session began with.
                if setting.is_no_role() && startup.get(ROLE).is_none() {
                    settings.remove(ROLE);
                }
            }
            Change::Reset(name) => {
                settings.reset(name, &startup);
                // The role goes back with it (PostgreSQL 15.18, `guc.c`: set_config_option_ext).
                if name == "session_authorization" {
                    settings.reset(ROLE, &startup);
                }
            }
            Change::ResetAll { passes_over } => {
                settings.reset_all(passes_over);
                for setting in startup.iter() {
                    let is_role = ROLES.contains(&setting.name.as_str());
                    if !is_role && !passes_over.contains(&setting.name) {
                        settings.set(&setting.name, setting.value.clone());
                    }
                }
            }
            Change::DiscardAll => *settings = (*startup).clone(),
        }
    }

    /// The same for the transaction only.
    pub fn apply_local(&mut self, change: &Change) {
        self.apply(change);
        if let Change::Reset(name) = change {
            let settings = Arc::make_mut(&mut self.current);
            settings.defaulted.push(name.clone());
        }
    }

    /// A transaction block or implicit transaction begins.
    pub fn begin(&mut self) {
        if self.before.is_none() {
            self.before = Some(Arc::clone(&self.current));
        }
    }

    /// It committed.
    pub fn commit(&mut self) {
        self.before = None;
        self.savepoints.clear();
    }

    /// It rolled back.
    pub fn rollback(&mut self) {
        if let Some(before) = self.before.take() {
            self.current = before;
        }
        self.savepoints.clear();
    }

    /// SAVEPOINT.
    pub fn savepoint(&mut self, name: &str) {
        let saved = (name.to_owned(), Arc::clone(&self.current));
        self.savepoints.made().push(saved);
    }

    /// ROLLBACK TO SAVEPOINT: the savepoint stays.
    pub fn rollback_to(&mut self, name: &str) {
        if let Some(savepoints) = self.savepoints.get_mut()
            && let Some(at) = savepoints.iter().rposition(|(n, _)| n == name)
        {
            self.current = Arc::clone(&savepoints[at].1);
            savepoints.truncate(at + 1);
        }
    }

    /// RELEASE SAVEPOINT: it and those after it are gone, the settings stay.
    pub fn release(&mut self, name: &str) {
        if let Some(savepoints) = self.savepoints.get_mut()
            && let Some(at) = savepoints.iter().rposition(|(n, _)| n == name)
        {
            savepoints.truncate(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::Text(value.into())
    }

    fn settings(list: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (name, value) in list {
            settings.set(name, text(value));
        }
        settings
    }

    #[test]
    fn equal_lists_need_no_statement() {
        let a = settings(&[("timezone", "UTC"), ("work_mem", "1MB")]);
        assert_eq!(a.sql_from(&a.clone()), "");
    }

    #[test]
    fn what_differs_is_set_and_what_is_missing_is_reset() {
        let have = settings(&[("work_mem", "1MB"), ("my.flag", "x")]);
        let want = settings(&[("work_mem", "2MB"), ("timezone", "UTC")]);
        assert_eq!(
            want.sql_from(&have),
            "RESET \"my\".\"flag\";SELECT pg_catalog.set_config(E'work_mem',E'2MB',false);\
             SELECT pg_catalog.set_config(E'timezone',E'UTC',false);"
        );
    }

    #[test]
    fn how_long_a_session_may_rest_follows_its_settings() {
        let statement = |sql: &str| Value::Statement(sql.into());
        let mut own = settings(&[("idle_session_timeout", "5min")]);
        own.set(
            rests::IN_TRANSACTION,
            statement("SET \"idle_in_transaction_session_timeout\" TO '300ms'"),
        );
        let said = |idle, in_transaction| IdleSettings {
            idle,
            in_transaction,
        };
        assert_eq!(own.rests(), said(Some(300_000), Some(300)));
        own.set(rests::IDLE, statement("SET idle_session_timeout TO 0"));
        own.remove(rests::IN_TRANSACTION);
        assert_eq!(own.rests(), said(Some(0), None));
        own.reset_all(&[rests::IDLE.to_owned()]);
        assert_eq!(own.rests(), said(Some(0), None));
        own.reset_all(&[]);
        assert_eq!(own, Settings::default());
    }

    // See: pgdog G#698, odyssey#810
    #[test]
    fn values_cannot_break_out_of_their_quotes() {
        let want = settings(&[("application_name", r"x'; DROP TABLE t; --\")]);
        assert_eq!(
            want.sql_from(&Settings::default()),
            r"SELECT pg_catalog.set_config(E'application_name',E'x''; DROP TABLE t; --\\',false);"
        );
    }

    // See: pgdog I#1341
    #[test]
    fn a_role_is_left_before_another_is_taken() {
        let have = settings(&[("role", "a"), ("work_mem", "1MB")]);
        let want = settings(&[("work_mem", "1MB")]);
        assert_eq!(
            want.sql_from(&have),
            "RESET SESSION AUTHORIZATION;RESET ROLE;"
        );
        let other = settings(&[("role", "b"), ("work_mem", "1MB")]);
        assert!(
            other
                .sql_from(&have)
                .starts_with("RESET SESSION AUTHORIZATION;RESET ROLE;")
        );
        assert!(other.sql_from(&have).contains("E'role',E'b'"));
    }

    #[test]
    fn what_a_role_may_not_change_is_changed_without_it() {
        let role = settings(&[("role", "a")]);
        let have = settings(&[("log_statement", "none"), ("role", "a")]);
        assert_eq!(
            role.sql_from(&have),
            "RESET SESSION AUTHORIZATION;RESET ROLE;RESET \"log_statement\";\
             SELECT pg_catalog.set_config(E'role',E'a',false);"
        );
        assert_eq!(
            have.sql_from(&role),
            "RESET SESSION AUTHORIZATION;RESET ROLE;\
             SELECT pg_catalog.set_config(E'log_statement',E'none',false);\
             SELECT pg_catalog.set_config(E'role',E'a',false);"
        );
        assert_eq!(have.sql_from(&have.clone()), "");
    }

    #[test]
    fn a_rolled_back_transaction_takes_its_settings_with_it() {
        let mut session = SessionSettings::new(settings(&[("timezone", "UTC")]));
        let set = |n: &str, v: &str| {
            Change::Set(Setting {
                name: n.into(),
                value: text(v),
            })
        };
        session.apply(&set("work_mem", "1MB"));
        session.begin();
        session.apply(&set("work_mem", "2MB"));
        session.savepoint("s");
        session.apply(&set("work_mem", "3MB"));
        session.rollback_to("s");
        assert_eq!(session.current().get("work_mem"), Some(&text("2MB")));
        session.release("s");
        assert_eq!(session.outside().get("work_mem"), Some(&text("1MB")));
        session.rollback();
        assert_eq!(session.current().get("work_mem"), Some(&text("1MB")));
        session.begin();
        session.apply(&Change::Reset("timezone".into()));
        session.apply(&Change::Reset("work_mem".into()));
        session.commit();
        assert_eq!(**session.current(), settings(&[("timezone", "UTC")]));
    }

    #[test]
    fn a_role_of_the_startup_packet_stays_through_reset_all_and_is_back_after_discard_all() {
        let mut session = SessionSettings::new(settings(&[("role", "a")]));
        let authorization = Change::Reset("session_authorization".into());
        for change in [Change::DiscardAll, authorization] {
            session.apply(&Change::Set(Setting {
                name: "role".into(),
                value: text("b"),
            }));
            session.apply(&Change::RESET_ALL);
            assert_eq!(session.current().get("role"), Some(&text("b")));
            session.apply(&change);
            assert_eq!(session.current().get("role"), Some(&text("a")));
        }
    }

    #[test]
    fn no_role_is_said_only_over_one_that_the_session_began_with() {
        let none = Change::Set(Setting {
            name: "role".into(),
            value: Value::Statement("SET ROLE E'none'".into()),
        });
        let begun = settings(&[("role", "a")]);
        let mut session = SessionSettings::new(begun.clone());
        session.apply(&none);
        assert_eq!(session.current().role(), None);
        assert_eq!(
            session.current().sql_from(&begun),
            "RESET SESSION AUTHORIZATION;RESET ROLE;SET ROLE E'none';"
        );
        let mut session = SessionSettings::new(Settings::default());
        session.apply(&none);
        assert!(session.current().is_empty());
    }

    #[test]
    fn reset_goes_back_to_the_startup_packet() {
        let mut session = SessionSettings::new(settings(&[("search_path", "a")]));
        session.apply(&Change::Set(Setting {
            name: "search_path".into(),
            value: Value::Statement("SET search_path TO b".into()),
        }));
        session.apply(&Change::RESET_ALL);
        assert_eq!(session.current().get("search_path"), Some(&text("a")));
    }
}
