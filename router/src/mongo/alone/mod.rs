//! The home shard where there is no shard of PostgreSQL: the router stands for it itself.
//!
//! A session has settings and transactions here, and may ask what needs no table: constants, settings, who and where it
//! is. Statements on documents are described as members of their replica sets describe them, which carry them out.
//! Everything else needs PostgreSQL, and is refused
//! ([ADR 25](../../../../docs/adr/0025-without-postgresql-the-router-stands-for-the-home-shard.md)).

mod parameters;

use super::conversation::{self, Party};
use super::member::Running;
use super::outcome::Stop;
use super::settings::Settings;
use super::text::{Setting, Task, not_for_documents, of_the_router, task};
use mongodb::bson::{Bson, DateTime};
use mothership_documents::VERSION;
use mothership_documents::translate::{Call, NotTranslated, Output, Source, Value, values};
use mothership_documents::{Collection, Kind, Precision};
use mothership_plan::parse_plainly;
use mothership_plan::visit::any_relation;
use mothership_pool::endpoint::Interpreter;
use mothership_pool::wire::{Pipe, pipe};
use mothership_proto::backend;
use mothership_proto::report::{Report, sqlstate};
use mothership_proto::startup::Startup;
use mothership_sql::effect::{self, SetValue, Statement, Target};
use mothership_sql::name::Name;
use parameters::{ALL, Parameter, is_custom, parameter, unknown};
use sqlparser::ast;
use std::io;
use std::sync::Arc;

/// Who answers for the home shard.
#[derive(Debug)]
pub struct Alone {
    collections: Arc<[Arc<Collection>]>,
}

impl Alone {
    /// With these tables of documents.
    pub fn new(collections: Arc<[Arc<Collection>]>) -> Alone {
        Alone { collections }
    }
}

impl Interpreter for Alone {
    fn dial(&self) -> io::Result<Pipe> {
        let (near, far) = pipe();
        let collections = Arc::clone(&self.collections);
        tokio::spawn(conversation::hold(
            far,
            Party::Nobody,
            collections,
            Running::default(),
        ));
        Ok(near)
    }
}

/// Whose session it is, and what was told of its settings.
pub(super) struct Session {
    user: String,
    database: String,
    /// Those of the tables.
    schemas: Vec<String>,
    told: Vec<String>,
}

/// What a statement asks here.
pub(super) fn task_of(
    sql: &str,
    types: &[u32],
    collections: &[Arc<Collection>],
) -> Result<Task, Stop> {
    match of_the_router(sql) {
        // Clients ask it as well, and want to see the value.
        None | Some(Task::Set(..)) => {}
        Some(own) => return Ok(own),
    }
    let text = |name: &Name<'_>| name.as_str().unwrap_or_default().to_owned();
    match effect::analyse(sql.as_bytes(), true).statement {
        Statement::Show(name) => {
            let name = text(&name);
            let call = Value::Call(Call {
                name: parameter(&name).map_or(name.clone(), |known| known.name.to_owned()),
                function: "current_setting".to_owned(),
                arguments: vec![Bson::String(name)],
            });
            return Ok(Task::Values(Arc::new([call]), "SHOW"));
        }
        Statement::Set {
            name,
            value: SetValue::Given { span, .. },
            scope,
        } if name == "search_path" => {
            let names = String::from_utf8_lossy(span.of(sql.as_bytes()));
            let change = Setting::One {
                name: "search_path".to_owned(),
                value: Some(parameters::path(&names)),
                is_local: scope == effect::Scope::Local,
            };
            return Ok(Task::Set(vec![change], "SET"));
        }
        Statement::SetRole {
            role: Target::Role(role),
            ..
        } if role != "none" => return Err(needs_postgresql(Some("the role of another user"))),
        Statement::SetSessionAuthorization {
            role: Target::Role(_),
            ..
        } => return Err(needs_postgresql(Some("the role of another user"))),
        Statement::Unlisten(_) => return Ok(Task::Set(Vec::new(), "UNLISTEN")),
        Statement::Close(None) => return Ok(Task::Set(Vec::new(), "CLOSE CURSOR ALL")),
        Statement::Select => {
            let asked = parse_plainly(sql).ok().map(|parsed| values(&parsed));
            match asked {
                Some(Ok(Some(values))) => {
                    if let Some(call) = values.iter().find_map(unknown_call) {
                        let why = format!("function {}()", call.function);
                        return Err(needs_postgresql(Some(&why)));
                    }
                    return Ok(Task::Values(values.into(), "SELECT 1"));
                }
                Some(Err(NotTranslated::Because(why))) => return Err(needs_postgresql(Some(&why))),
                Some(Ok(None)) | None => {}
            }
        }
        _ => {}
    }
    task(sql, types, collections).map_err(|stop| match stop {
        Stop::Report(report) if not_for_documents(&report) => missing_table(sql, collections)
            .unwrap_or_else(|| needs_postgresql(report.detail.as_deref())),
        stop => stop,
    })
}

/// That a table is not there which a statement names, if that is certain.
fn missing_table(sql: &str, collections: &[Arc<Collection>]) -> Option<Stop> {
    let parsed = parse_plainly(sql).ok()?;
    if matches!(&parsed, ast::Statement::Query(query) if query.with.is_some()) {
        return None;
    }
    let is_there = |name: &ast::ObjectName| {
        let parts = name.0.iter().map(|part| Some(folded(part.as_ident()?)));
        let Some(parts) = parts.collect::<Option<Vec<String>>>() else {
            return true;
        };
        let (schema, table) = match parts.as_slice() {
            [table] => (None, table),
            [schema, table] => (Some(schema), table),
            _ => return true,
        };
        let is_system = |name: &str| name.starts_with("pg_") || name == "information_schema";
        let is_declared = |one: &Arc<Collection>| {
            one.table == *table && schema.is_none_or(|schema| one.schema == *schema)
        };
        is_system(schema.unwrap_or(table)) || collections.iter().any(is_declared)
    };
    let mut missing = None;
    any_relation(&parsed, |name| {
        missing = (!is_there(name)).then(|| name.to_string().replace('"', ""));
        missing.is_some()
    });
    let name = missing?;
    let report = Report::error(
        sqlstate::UNDEFINED_TABLE,
        format!("relation \"{name}\" does not exist"),
    );
    Some(report.into())
}

fn folded(name: &ast::Ident) -> String {
    match name.quote_style {
        None => name.value.to_ascii_lowercase(),
        Some(_) => name.value.clone(),
    }
}

/// What is told where only PostgreSQL could do it.
pub(super) fn needs_postgresql(why: Option<&str>) -> Stop {
    let report = Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "there is no shard of PostgreSQL, which this statement needs",
    )
    .hint("Write it as a statement on one table of documents, or add a shard of PostgreSQL to the router's configuration.");
    match why {
        Some(why) => report.detail(why.to_owned()).into(),
        None => report.into(),
    }
}

/// A call of a function that nobody knows here.
fn unknown_call(value: &Value) -> Option<&Call> {
    match value {
        Value::Call(call) => kind(call).is_none().then_some(call),
        Value::Constant(_) => None,
    }
}

/// The type of a function's answer, of those that are known.
fn kind(call: &Call) -> Option<Kind> {
    let kind = match (call.function.as_str(), call.arguments.as_slice()) {
        ("pg_is_in_recovery", []) => Kind::Bool,
        ("now" | "current_timestamp" | "transaction_timestamp", []) => {
            Kind::Timestamptz(Precision::Micros)
        }
        (
            "version"
            | "current_schema"
            | "current_database"
            | "current_catalog"
            | "current_user"
            | "current_role"
            | "session_user"
            | "user"
            | "pg_advisory_unlock_all",
            [],
        ) => Kind::Text,
        ("current_setting", [Bson::String(_)] | [Bson::String(_), Bson::Boolean(_)]) => Kind::Text,
        (
            "set_config",
            [
                Bson::String(_),
                Bson::String(_) | Bson::Null,
                Bson::Boolean(_),
            ],
        ) => Kind::Text,
        _ => return None,
    };
    Some(kind)
}

/// The columns of an answer, before it is there.
pub(super) fn columns(values: &[Value]) -> Arc<[Output]> {
    let column = |value: &Value| match value {
        Value::Constant(output) => output.clone(),
        Value::Call(call) => output(call, Bson::Null),
    };
    values.iter().map(column).collect()
}

fn output(call: &Call, value: Bson) -> Output {
    Output {
        name: call.name.clone(),
        kind: kind(call).unwrap_or(Kind::Text),
        source: Source::Constant(value),
        as_text: false,
    }
}

impl Session {
    /// As a connection begins.
    pub fn new(startup: &Startup, collections: &[Arc<Collection>]) -> Session {
        let declared = collections.iter().map(|one| one.schema.clone());
        Session {
            user: startup.user.clone(),
            database: startup.database.clone(),
            schemas: declared.chain(["public".to_owned()]).collect(),
            told: Vec::new(),
        }
    }

    /// Tells what the settings are that clients are told of, as far as they are others than at the last time.
    pub fn tell(&mut self, settings: &Settings, out: &mut Vec<u8>) {
        let reported = ALL.iter().filter(|one| one.is_reported);
        for (at, one) in reported.enumerate() {
            let value = self.shown(one, settings);
            if self.told.get(at) == Some(&value) {
                continue;
            }
            backend::put_parameter(out, one.name.as_bytes(), value.as_bytes());
            match self.told.get_mut(at) {
                Some(told) => *told = value,
                None => self.told.push(value),
            }
        }
    }

    /// A setting as SHOW has it.
    fn shown(&self, one: &Parameter, settings: &Settings) -> String {
        let set = settings.get(&one.name.to_ascii_lowercase());
        set.unwrap_or_else(|| one.default(&self.user)).to_owned()
    }

    /// The columns of an answer with their values.
    ///
    /// # Errors
    /// A setting is not known, or may not be what it is set to.
    pub fn answer(
        &self,
        values: &[Value],
        settings: &mut Settings,
        now: i64,
    ) -> Result<Arc<[Output]>, Stop> {
        let mut outputs = Vec::new();
        for value in values {
            outputs.push(match value {
                Value::Constant(output) => output.clone(),
                Value::Call(call) => output(call, self.said(call, settings, now)?),
            });
        }
        Ok(outputs.into())
    }

    fn said(&self, call: &Call, settings: &mut Settings, now: i64) -> Result<Bson, Stop> {
        let text = |text: &str| Bson::String(text.to_owned());
        Ok(match (call.function.as_str(), call.arguments.as_slice()) {
            ("pg_is_in_recovery", _) => Bson::Boolean(false),
            ("now" | "current_timestamp" | "transaction_timestamp", _) => {
                Bson::DateTime(DateTime::from_millis(now))
            }
            ("version", _) => text(&format!(
                "PostgreSQL {VERSION} (mothership {}, without PostgreSQL)",
                env!("CARGO_PKG_VERSION")
            )),
            ("current_schema", _) => self.schema(settings).map_or(Bson::Null, text),
            ("current_database" | "current_catalog", _) => text(&self.database),
            ("current_user" | "current_role" | "session_user" | "user", _) => text(&self.user),
            ("current_setting", [Bson::String(name)]) => self.setting(name, settings, false)?,
            ("current_setting", [Bson::String(name), Bson::Boolean(missing)]) => {
                self.setting(name, settings, *missing)?
            }
            ("set_config", [Bson::String(name), value, Bson::Boolean(is_local)]) => {
                let change = Setting::One {
                    name: name.clone(),
                    value: value.as_str().map(str::to_owned),
                    is_local: *is_local,
                };
                settings.apply(&checked(&[change])?);
                self.setting(name, settings, false)?
            }
            _ => text(""),
        })
    }

    /// The first schema of the search path that is there.
    fn schema<'s>(&'s self, settings: &'s Settings) -> Option<&'s str> {
        let path = settings.get("search_path").unwrap_or("public");
        let path = path.split(',').map(|name| name.trim().trim_matches('"'));
        let mut names = path.map(|name| match name {
            "$user" => self.user.as_str(),
            name => name,
        });
        names.find(|name| self.schemas.iter().any(|schema| schema == name))
    }

    fn setting(&self, name: &str, settings: &Settings, may_miss: bool) -> Result<Bson, Stop> {
        if let Some(one) = parameter(name) {
            return Ok(Bson::String(self.shown(one, settings)));
        }
        match settings.get(&name.to_ascii_lowercase()) {
            Some(value) => Ok(Bson::String(value.to_owned())),
            None if may_miss => Ok(Bson::Null),
            None if is_custom(name) => Err(Report::error(
                sqlstate::UNDEFINED_OBJECT,
                format!("unrecognized configuration parameter \"{name}\""),
            )
            .into()),
            None => Err(unknown(name).into()),
        }
    }
}

/// The same changes, with values as SHOW has them.
///
/// # Errors
/// A setting is not known, or may not be this.
pub(super) fn checked(changes: &[Setting]) -> Result<Vec<Setting>, Stop> {
    let check = |change: &Setting| match change {
        Setting::One {
            name,
            value: Some(value),
            is_local,
        } if !is_custom(name) => {
            let one = parameter(name).ok_or_else(|| unknown(name))?;
            Ok(Setting::One {
                name: name.clone(),
                value: Some(one.read(value)?),
                is_local: *is_local,
            })
        }
        Setting::One { name, .. } if !is_custom(name) && parameter(name).is_none() => {
            Err(unknown(name).into())
        }
        other => Ok(other.clone()),
    };
    changes.iter().map(check).collect()
}
