//! Functions that an expression calls implicitly: the functions of operators and casts, and the CHECK constraints of domains.
//!
//! The router refuses to create an operator, cast or domain on a function that reads tables, and to give such a function
//! the name of one that is used so ([`replaces_bound`]). But somebody may do so past the router. Then the router refuses
//! every statement that contains the operator's symbol or the domain's name. With such a cast it refuses every statement,
//! because casts can be implicit. Usually the catalog has no such operator, cast or domain, and the check costs nothing.

use std::collections::BTreeSet;

use mothership_catalog::types::{may_name, words};
use mothership_catalog::{Name, TypeKind};
use mothership_sql::cursor::Cursor;
use mothership_sql::effect::Verb;
use mothership_sql::keywords;
use mothership_sql::lexer::{Kind, Lexer};

use super::names::{Names, Reach, named};
use super::{PlanContext, utility};

/// What may run such code.
#[derive(Debug, Default)]
pub struct ImplicitCalls {
    /// Symbols of operators.
    operators: BTreeSet<String>,
    /// Some operator has a symbol for which the grammar has words: BETWEEN, IN, LIKE, ORDER BY and the like.
    by_words: bool,
    /// Names of domains.
    domains: BTreeSet<String>,
    /// The same of those that only a qualified name means.
    domains_apart: Vec<Name>,
    /// Some cast does.
    casts: bool,
}

/// Symbols of the operators that clauses and words stand for.
pub const OF_WORDS: [&str; 14] = [
    "=", "<>", "<", ">", "<=", ">=", "~~", "!~~", "~~*", "!~~*", "~", "!~", "+", "-",
];

/// Whether a definition gives a function that may reach tables the name of one that casts, operators or domains call:
/// whoever may make functions could stop the statements of everybody else that way.
pub fn replaces_bound(names: &Names<'_>, sql: &str, verb: Verb, context: &PlanContext) -> bool {
    let strings = context.standard_conforming_strings;
    let reaches = match verb {
        Verb::Create => {
            let bodies = utility::string_values(sql, strings).unwrap_or_default();
            let mut bodies = bodies.iter();
            utility::may_reach_declared(names, sql, context)
                || bodies.any(|body| names.code_reach(body) > Reach::Nothing)
        }
        // RENAME TO.
        Verb::Alter => names.named_reach(sql) > Reach::Nothing,
        _ => false,
    };
    if !reaches {
        return false;
    }
    let catalog = &names.catalog;
    let operators = catalog.operators.values().flatten();
    let bound: BTreeSet<&str> = operators
        .chain(&catalog.cast_functions)
        .map(String::as_str)
        .collect();
    let checks = catalog.types.values().filter_map(|info| match &info.kind {
        TypeKind::Domain { checks, .. } => Some(checks.to_lowercase()),
        TypeKind::Enum(_) | TypeKind::Other => None,
    });
    let checks: Vec<String> = checks.collect();
    let is_bound = |name: &str| {
        bound.contains(name)
            || checks
                .iter()
                .any(|code| words(code).any(|word| word == name))
    };
    // The name that the function gets stands behind its kind, and behind RENAME TO.
    let mut c = Cursor::new(sql.as_bytes(), strings);
    let places: &[&str] = match verb {
        Verb::Create => &["function", "procedure", "aggregate"],
        _ => &["to"],
    };
    while !c.at_end() && !c.eat_any(places) {
        c.bump();
    }
    if c.at_end() {
        return false;
    }
    let path = c.path();
    let name = path.as_ref().and_then(|path| path.last()?.as_str());
    name.is_none_or(is_bound)
}

impl ImplicitCalls {
    /// Looks at all operators, casts and domains of a catalog.
    pub fn of(names: &Names<'_>) -> ImplicitCalls {
        let reaches = |function: &String| names.reach_of_any(function) > Reach::Nothing;
        let operators = names.catalog.operators.iter();
        let operators = operators.filter(|(_, functions)| functions.iter().any(reaches));
        let operators: BTreeSet<String> = operators.map(|(symbol, _)| symbol.clone()).collect();
        let types = names.catalog.types.iter();
        let domains = types.filter(|(_, info)| match &info.kind {
            TypeKind::Domain { checks, .. } => names.code_reach(checks) > Reach::Nothing,
            TypeKind::Enum(_) | TypeKind::Other => false,
        });
        let domains = domains.map(|(name, _)| name.clone());
        let (domains, domains_apart): (Vec<Name>, Vec<Name>) =
            domains.partition(|name| names.apart().may_mean(name));
        ImplicitCalls {
            by_words: operators.iter().any(|one| OF_WORDS.contains(&one.as_str())),
            operators,
            domains: domains.into_iter().map(|name| name.name).collect(),
            domains_apart,
            casts: names.catalog.cast_functions.iter().any(reaches),
        }
    }

    /// Whether a statement may use one of these operators, domains or casts.
    pub fn may_be_used_by(&self, sql: &str, standard_conforming_strings: bool) -> bool {
        if self.casts || self.by_words {
            return true;
        }
        let lower = keywords::lower(sql);
        let is_named = |domain: &Name| {
            may_name(&lower, &domain.schema.to_ascii_lowercase()) && may_name(&lower, &domain.name)
        };
        if self.domains_apart.iter().any(is_named) {
            return true;
        }
        if self.operators.is_empty() && self.domains.is_empty() {
            return false;
        }
        let mut tokens = Lexer::new(sql.as_bytes(), standard_conforming_strings);
        tokens.any(|token| {
            let text = sql.get(token.start..token.end).unwrap_or_default();
            match token.kind {
                Kind::Operator => self.operators.contains(text),
                Kind::UnicodeIdent => true,
                kind => named(kind, text).is_some_and(|name| self.domains.contains(&name)),
            }
        })
    }
}
