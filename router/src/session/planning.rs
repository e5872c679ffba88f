//! The plan of a statement, from memory or made anew, and what of the session it depends on.
//!
//! Plans are kept with the statement and with its shape, keyed by the model and by what of the session a plan depends
//! on.

use super::large::SHAPED;
use super::state::{State, Unfollowed};
use super::{Halt, Session};
use crate::model::DatabaseModel;
use crate::statements::environment::{Environment, KeptEnvironment, Owner};
use crate::statements::names::{AnalysisContext, Origin, Prepared};
use crate::statements::planned::Planned;
use crate::statements::preference;
use crate::statements::settings::{Settings, Value};
use crate::statements::shapes::{Known, Room, Shaped};
use crate::statements::temporary::TemporaryNames;
use crate::topology::Topology;
use mothership_catalog::types::builtin_oid;
use mothership_plan::{Plan, PlanContext, Temporary, TextContext};
use mothership_proto::report::{Report, sqlstate};
use mothership_sql::cursor::Cursor;
use mothership_sql::effect::{Statement, analyse};
use mothership_sql::lexer::{Kind as TokenKind, Lexer};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

/// Longer texts are planned on another thread: the clients of this core go on meanwhile. One takes a core for some
/// hundred milliseconds at most (`limits.parsed_statement`, and the bounds of `plan::parse`).
const LARGE: usize = 16 * 1024;

impl State {
    /// What the text of a key's value means in this session.
    pub(super) fn text_context(&self) -> TextContext {
        *self.told.text()
    }
}

impl Topology {
    /// Longer ones are refused, whatever is known of their shape.
    pub(super) fn check_length(&self, sql: &[u8]) -> Result<(), Halt> {
        let limit = self.config.limits.parsed_statement.bytes();
        if sql.len() > limit {
            return Err(Report::error(
                sqlstate::PROGRAM_LIMIT_EXCEEDED,
                format!(
                    "statement of {} bytes is too long to be routed to shards",
                    sql.len()
                ),
            )
            .hint("The setting is limits.parsed_statement.")
            .into());
        }
        Ok(())
    }
}

impl Session {
    /// The plan of a statement, from memory or made anew.
    pub(super) fn plan(
        &mut self,
        statement: &Prepared,
        at: usize,
        sql: &str,
        model: &Arc<DatabaseModel>,
    ) -> Result<Rc<Plan>, Halt> {
        let Some(shaped) = &statement.shaped else {
            return self.own_plan(statement, at, sql, model);
        };
        if self.state.has_own_definitions(&self.topology) {
            // Nobody else plans by them.
            return self.own_plan(statement, at, sql, model);
        }
        let context = self.context();
        if let Some(served) = &*statement.served.borrow()
            && served.is_for(model.version, &context)
        {
            return Ok(Rc::clone(&served.plan));
        }
        self.topology.check_length(sql.as_bytes())?;
        let types = statement.origin.types();
        match shaped.entry.plan(model.version, &context, types) {
            Known::Plan(known) if model.planner().is_valid_for(&known, sql) => {
                statement.serve(model.version, context, &known.plan);
                Ok(Rc::clone(&known.plan))
            }
            Known::Plan(_) | Known::Own => self.own_plan(statement, at, sql, model),
            Known::Nothing => {
                let full = full_context(&context, &statement.origin);
                let plan = Rc::new(shaped.entry.make_plan(
                    (&**model, model.version),
                    (&context, types),
                    sql,
                    &shaped.literals,
                    &full,
                ));
                statement.keep(at, model.version, context, &plan);
                // The text's own plan has no slots, and is as good.
                Ok(plan)
            }
        }
    }

    /// The text as one of its shape. `None` if it has none, or is too long.
    pub(super) fn shaped(&self, sql: &[u8]) -> Option<Shaped> {
        if sql.len() > SHAPED {
            return None;
        }
        let limits = &self.topology.config.limits;
        let room = Room {
            shapes: limits.plans.get() as usize,
            bytes: limits.plans_size.bytes(),
        };
        self.core.shapes.find(sql, self.standard_strings(), room)
    }

    /// Makes the plan of a large statement, if it has none yet. Of all clients one is served at a time, so that what such
    /// plans take of memory while they are made is taken once.
    ///
    /// Cancel safe: a plan that nobody waits for is thrown away.
    pub(super) async fn plan_large(&mut self, statement: &Prepared, at: usize) {
        let Some(step) = statement.steps.get(at) else {
            return;
        };
        let sql = step.span.of(&statement.sql);
        let most = self.topology.config.limits.parsed_statement.bytes();
        let (Some(model), Ok(sql)) = (self.known.model.clone(), std::str::from_utf8(sql)) else {
            return;
        };
        if sql.len() > most || !model.is_longer_with_views(sql, LARGE) {
            return;
        }
        let context = self.context();
        let is_known =
            |(n, known): &(usize, Planned)| *n == at && known.is_for(model.version, &context);
        if statement.plans.borrow().iter().any(is_known) {
            return;
        }
        let full = full_context(&context, &statement.origin);
        let shared = Arc::clone(&self.core.shared);
        let turn = shared.large_plans.acquire().await;
        let (sql, of) = (sql.to_owned(), Arc::clone(&model));
        let planned = tokio::task::spawn_blocking(move || of.plan(&sql, &full)).await;
        drop(turn);
        // A planner that panics does so again where it is reported.
        if let Ok(plan) = planned {
            statement.keep(at, model.version, context, &Rc::new(plan));
        }
    }

    /// The plan of this very text.
    pub(super) fn own_plan(
        &mut self,
        statement: &Prepared,
        at: usize,
        sql: &str,
        model: &Arc<DatabaseModel>,
    ) -> Result<Rc<Plan>, Halt> {
        let context = self.context();
        let plans = statement.plans.borrow();
        let mut known = plans.iter().filter(|(n, _)| *n == at);
        if let Some((_, known)) = known.find(|(_, known)| known.is_for(model.version, &context)) {
            return Ok(Rc::clone(&known.plan));
        }
        drop(plans);
        self.topology.check_length(sql.as_bytes())?;
        let full = full_context(&context, &statement.origin);
        let plan = Rc::new(model.plan(sql, &full));
        statement.keep(at, model.version, context, &plan);
        Ok(plan)
    }

    /// What of the session a plan depends on; the same `Rc` until that changes.
    pub(super) fn context(&mut self) -> Rc<PlanContext> {
        let settings = Arc::clone(self.state.in_force());
        let temporary = self.temporary();
        let strings = self.standard_strings();
        if let Some(kept) = &self.known.context
            && Arc::ptr_eq(&kept.settings, &settings)
            && kept.model == self.known_model().map_or(0, |model| model.version)
            && (kept.unclear_path || kept.context.temporary == temporary)
            && kept.context.standard_conforming_strings == strings
        {
            return Rc::clone(&kept.context);
        }
        let role = role(&settings).unwrap_or_else(|| self.entry.who.names.server_user.to_string());
        let path = search_path(&settings);
        // A session of before tables were declared does not say: nothing is certain.
        let unclear_path = path.is_none();
        let standard = || vec!["$user".to_owned(), "public".to_owned()];
        let model = self.known_model();
        let may_use = |schema: &String| {
            let catalog = model.as_ref().map(|model| model.catalog());
            catalog.is_none_or(|catalog| catalog.may_use(schema, &role))
        };
        let search_path = path.unwrap_or_else(standard).into_iter();
        let search_path = search_path.map(|schema| match schema == "$user" {
            true => role.clone(),
            false => schema,
        });
        let search_path = search_path.filter(may_use).collect();
        let model = model.map_or(0, |model| model.version);
        let context = self.core.share_context(PlanContext {
            search_path,
            role,
            parameter_types: Vec::new(),
            temporary: match unclear_path {
                true => Temporary::Unclear,
                false => temporary,
            },
            standard_conforming_strings: strings,
            gathers: preference::gathers(&settings),
        });
        self.known.context = Some(KeptContext {
            settings,
            model,
            unclear_path,
            context: Rc::clone(&context),
        });
        context
    }

    /// Which temporary tables it may have.
    fn temporary(&self) -> Temporary {
        if self.state.marks.unfollowed == Unfollowed::Before {
            return Temporary::Unclear;
        }
        match &self.state.temporary {
            TemporaryNames::Among(names) if names.is_empty() => Temporary::None,
            TemporaryNames::Among(names) if !self.names_type(names) => {
                Temporary::Perhaps(names.clone())
            }
            TemporaryNames::Among(_) | TemporaryNames::Unclear { .. } => Temporary::Unclear,
        }
    }

    /// A temporary table is a type, too, and hides one of that name on its server only.
    fn names_type(&self, names: &BTreeSet<String>) -> bool {
        if names.iter().any(|name| builtin_oid(name).is_some()) {
            return true;
        }
        let types = self.known_model().map(|model| &model.catalog().types);
        types.is_some_and(|types| types.keys().any(|of| names.contains(&of.name)))
    }

    /// What a text that is parsed now means depends on this.
    pub(super) fn moment(&self) -> AnalysisContext {
        AnalysisContext {
            epoch: self.epoch(),
            environment: self.environment(),
        }
    }

    /// What of the session PostgreSQL analyses and plans by; the same `Rc` until that changes.
    pub(super) fn environment(&self) -> Rc<Environment> {
        let in_force = self.state.in_force();
        let lasting = self.state.settings.current();
        let who = &self.entry.who;
        let alone = self.state.marks.alone(self.state.pins);
        let alone = alone.map(|mark| (who.number, mark));
        let kept = self.known.kept_environment.take().filter(|kept| {
            Arc::ptr_eq(&kept.in_force, in_force)
                && Arc::ptr_eq(&kept.lasting, lasting)
                && kept.alone == alone
        });
        if let Some(kept) = kept {
            let environment = Rc::clone(&kept.environment);
            self.known.kept_environment.set(Some(kept));
            return environment;
        }
        let owner = Owner {
            database: Arc::clone(&who.names.database),
            user: Arc::clone(&who.names.server_user),
            begins: self.login.beginning.of,
            alone,
        };
        let kept = &self.login.beginning.kept;
        let environment = self.core.environments.of(owner, in_force, lasting, kept);
        self.known
            .kept_environment
            .set(Some(Box::new(KeptEnvironment {
                in_force: Arc::clone(in_force),
                lasting: Arc::clone(lasting),
                alone,
                environment: Rc::clone(&environment),
            })));
        environment
    }
}

/// The context with the parameter types that Parse declared.
fn full_context(context: &PlanContext, origin: &Origin) -> PlanContext {
    let mut full = context.clone();
    if let Origin::Parse(types) = origin {
        full.parameter_types = types
            .chunks_exact(4)
            .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
    }
    full
}

/// The context of the last statement, and what it was made of.
pub struct KeptContext {
    settings: Arc<Settings>,
    /// The version of the definitions by which the role may use schemas; 0 if none are known.
    model: u64,
    /// The settings do not say the search path: then temporary tables are unclear, whatever is known of them.
    unclear_path: bool,
    context: Rc<PlanContext>,
}

/// The role that a session has taken.
pub(super) fn role(settings: &Settings) -> Option<String> {
    let role = settings.role();
    let taken = role.or_else(|| settings.text("session_authorization"));
    taken.map(Cow::into_owned)
}

/// The search path that a session has set.
pub(super) fn search_path(settings: &Settings) -> Option<Vec<String>> {
    settings.get("search_path").map(values)
}

/// An argument of an EXECUTE.
#[derive(Clone)]
pub(super) struct Literal {
    /// Its text, or NULL.
    pub text: Option<Vec<u8>>,
    /// It is a number.
    pub number: bool,
    /// The type that it is cast to, in lower case.
    pub cast: Option<String>,
}

/// The arguments of an EXECUTE, if each is a plain literal, perhaps with a cast.
pub(super) fn literals(list: &[u8]) -> Option<Vec<Literal>> {
    let mut tokens = Lexer::new(list, true).peekable();
    let mut found = Vec::new();
    while tokens.peek().is_some() {
        let mut token = tokens.next()?;
        let mut text = Vec::new();
        if token.kind == TokenKind::Operator && token.text(list) == b"-" {
            text.push(b'-');
            token = tokens
                .next()
                .filter(|t| matches!(t.kind, TokenKind::Integer | TokenKind::Decimal))?;
        }
        let negative = !text.is_empty();
        let number = matches!(token.kind, TokenKind::Integer | TokenKind::Decimal);
        let value = match token.kind {
            TokenKind::Integer | TokenKind::Decimal => {
                text.extend_from_slice(token.text(list));
                Some(text)
            }
            TokenKind::String => {
                let quoted = token.text(list);
                let inner = quoted.strip_prefix(b"'")?.strip_suffix(b"'")?;
                Some(
                    String::from_utf8(inner.to_vec())
                        .ok()?
                        .replace("''", "'")
                        .into_bytes(),
                )
            }
            TokenKind::Word if token.text(list).eq_ignore_ascii_case(b"null") => None,
            _ => return None,
        };
        let mut cast = None;
        if tokens.next_if(|t| t.kind == TokenKind::TypeCast).is_some() {
            // A minus before a cast is applied behind it.
            if negative {
                return None;
            }
            let mut name = String::new();
            while let Some(part) = tokens.next_if(|t| t.kind != TokenKind::Comma) {
                if !matches!(part.kind, TokenKind::Word) {
                    return None;
                }
                if !name.is_empty() {
                    name.push(' ');
                }
                name.push_str(&String::from_utf8_lossy(part.text(list)).to_ascii_lowercase());
            }
            // A type of a user may run code of his.
            builtin_oid(&name)?;
            cast = Some(name);
        }
        found.push(Literal {
            text: value,
            number,
            cast,
        });
        if tokens.next().is_some_and(|t| t.kind != TokenKind::Comma) {
            return None;
        }
    }
    Some(found)
}

/// The names in a setting's value: those after TO or =, or those of the bare list.
pub(super) fn values(value: &Value) -> Vec<String> {
    match value {
        Value::Text(list) => names(list.as_bytes()),
        Value::Statement(sql) => match analyse(sql.as_bytes(), true).statement {
            Statement::Set {
                value: mothership_sql::effect::SetValue::Given { span, .. },
                ..
            } => names(span.of(sql.as_bytes())),
            _ => Vec::new(),
        },
    }
}

fn names(list: &[u8]) -> Vec<String> {
    let mut c = Cursor::new(list, true);
    let mut found = Vec::new();
    while !c.at_end() {
        // `$user` without quotes is two tokens that PostgreSQL's list takes as a name.
        match c.string().or_else(|| c.name()) {
            Some(name) => found.extend(name.as_str().map(str::to_owned)),
            None => drop(c.bump()),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_path_is_read_from_every_way_to_set_it() {
        let statement = |sql: &str| values(&Value::Statement(sql.into()));
        assert_eq!(
            statement("SET search_path TO a, \"B c\", 'd'"),
            ["a", "B c", "d"]
        );
        assert_eq!(statement("set search_path = public"), ["public"]);
        assert_eq!(
            statement(r"SET search_path = U&'!0061' UESCAPE '!', E'\x62', $$c$$"),
            ["a", "b", "c"]
        );
        assert_eq!(
            values(&Value::Text("\"$user\", public".into())),
            ["$user", "public"]
        );
        assert_eq!(values(&Value::Text(String::new())), [] as [&str; 0]);
    }

    #[test]
    fn a_role_is_read_from_every_way_to_take_one() {
        let of = |changes: &[(&str, Value)]| {
            let mut settings = Settings::default();
            for (name, value) in changes {
                settings.set(name, value.clone());
            }
            role(&settings)
        };
        let said = |sql: &str| Value::Statement(sql.into());
        let text = |value: &str| Value::Text(value.into());
        let bob = || {
            (
                "session_authorization",
                said("SET SESSION AUTHORIZATION 'Bob'"),
            )
        };
        for (changes, role) in [
            (vec![], None),
            (vec![("role", said("SET ROLE alice"))], Some("alice")),
            (vec![("role", text("A b"))], Some("A b")),
            (vec![bob(), ("role", said("SET ROLE alice"))], Some("alice")),
            (vec![bob(), ("role", said("SET ROLE E'none'"))], Some("Bob")),
            (vec![bob(), ("role", text("none"))], Some("Bob")),
            (vec![("role", text("none"))], None),
        ] {
            assert_eq!(of(&changes).as_deref(), role, "{changes:?}");
        }
    }
}
