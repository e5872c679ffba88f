//! Code of users that the router sees in the catalog only: functions, triggers, and DO around a statement.

use crate::expr::{Ctx, Gen};
use crate::query::Wanted;
use crate::schema::{Schema, Table};
use crate::statement::{Effect, Order, Statement};
use crate::values::Ty;
use std::collections::BTreeSet;

/// The strings that DO and CREATE FUNCTION take.
const QUOTE: &str = "$code$";

impl Gen<'_> {
    /// CREATE FUNCTION of one number, which may read tables.
    pub fn function(mut self, name: &str) -> String {
        self.exact = true;
        self.budget = 1;
        let (body, volatility) = match self.chance(40) {
            true => {
                let ctx = Ctx::default();
                let added = self.expr(&ctx, Ty::Int8, 1);
                (format!("v % 1000 + ({added}) % 1000"), "IMMUTABLE")
            }
            false => {
                let types = [Ty::Int8];
                let wanted = Wanted {
                    types: Some(&types),
                    named: true,
                    comparable: false,
                    level: 1,
                };
                let rel = self.query(wanted, &[]);
                let column = &rel.columns[0].0;
                (
                    format!(
                        "(SELECT coalesce(max(q.{column} % 1000), 0) + v % 1000 FROM ({}) AS q)",
                        rel.sql
                    ),
                    self.pick(&["STABLE", "STABLE", "VOLATILE"]),
                )
            }
        };
        let (language, body) = match self.chance(50) {
            true => ("sql", format!("SELECT {body}")),
            false => ("plpgsql", format!("BEGIN RETURN {body}; END")),
        };
        let text = format!(
            "CREATE FUNCTION {name}(v int8) RETURNS int8 LANGUAGE {language} {volatility} AS {QUOTE} {body} {QUOTE}"
        );
        self.of_text(text).inline()
    }

    fn of_text(self, text: String) -> Statement {
        Statement {
            text,
            values: self.values,
            features: BTreeSet::new(),
            order: Order::None,
            effect: Effect::Reads,
            floats: false,
            ranked: None,
        }
    }

    /// A call of one of the functions of the world.
    pub fn call(&mut self, argument: &str) -> Option<String> {
        if self.schema.functions.is_empty() || !self.chance(8) {
            return None;
        }
        self.has("function of a user");
        let name = self.pick(&self.schema.functions);
        Some(format!("{name}({argument})"))
    }
}

/// The statements that give a table a trigger which changes or drops rows before they are stored. `None` if it has no column
/// that it may change.
pub fn trigger(table: &Table, drops: bool) -> Option<[String; 2]> {
    let columns = table.relation.columns.iter().enumerate();
    let mut free = columns.filter(|(at, _)| !table.key.contains(at) && !table.unique.contains(at));
    let (_, (column, ty)) = free.find(|(_, (_, ty))| matches!(ty, Ty::Int4 | Ty::Text))?;
    let name = table.name();
    let body = match (drops, ty) {
        (true, _) => format!("IF NEW.{column} IS NULL THEN RETURN NULL; END IF;"),
        (false, Ty::Int4) => format!("NEW.{column} := coalesce(NEW.{column}, 7);"),
        (false, _) => format!("NEW.{column} := upper(NEW.{column});"),
    };
    Some([
        format!(
            "CREATE FUNCTION changes_{name}() RETURNS trigger LANGUAGE plpgsql AS {QUOTE} BEGIN {body} RETURN NEW; END {QUOTE}"
        ),
        format!(
            "CREATE TRIGGER changes BEFORE INSERT OR UPDATE ON {name} FOR EACH ROW EXECUTE FUNCTION changes_{name}()"
        ),
    ])
}

/// The same statement within DO.
pub fn within_do(statement: Statement) -> Statement {
    let mut features = statement.features;
    features.insert("DO");
    Statement {
        text: format!("DO {QUOTE} BEGIN {}; END {QUOTE}", statement.text),
        features,
        ..statement
    }
}

impl Schema {
    /// A function that both sides have made.
    pub fn add_function(&mut self, name: String) {
        self.functions.push(name);
    }
}
