//! Functions that an expression calls implicitly: the functions of operators and casts, and the CHECK constraints of domains.
//!
//! The router refuses to create an operator, cast or domain on a function that reads tables, and to give such a function
//! the name of one that is used so ([`replaces_bound`]). But somebody may do so past the router. Then the router refuses
//! every statement that contains the operator's symbol or the domain's name, or that makes a row with such a domain.
//! Clauses and words stand for some operators: for one of these the router refuses every statement, unless only values of
//! users' types can be its operands: then it refuses those that may have such a value. If PostgreSQL has the same operator
//! of the same types, that one is meant until the schema of the other is named. Casts can be implicit: where there is such
//! a cast, the router refuses every statement that may have a value of its types, and every statement of all if both types
//! are PostgreSQL's own. Usually the catalog has no such operator, cast or domain, and the check costs nothing.

use std::collections::BTreeSet;

use mothership_catalog::types::{may_name, words};
use mothership_catalog::{BoundFunction, DefaultKind, Name, Relation, RelationKind, TypeKind};
use mothership_sql::cursor::Cursor;
use mothership_sql::effect::Verb;
use mothership_sql::keywords;
use mothership_sql::lexer::{Kind, Lexer};

use super::names::{Names, Reach, named};
use super::{PlanContext, Temporary, utility};

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
    /// Relations with a column of such a domain: a value of their type has one.
    rows: BTreeSet<String>,
    /// Some cast of PostgreSQL's own types does.
    casts: bool,
    /// Names in lower case behind which there may be a value that other casts make or take.
    cast_values: BTreeSet<String>,
    /// The same of operators with a symbol for which the grammar has words, and the schemas of those that PostgreSQL's own
    /// hide.
    operator_values: BTreeSet<String>,
    /// Some operator is hidden by PostgreSQL's own.
    hidden: bool,
    /// Symbols of operators that may take such a value: all of users, if there are such casts.
    cast_operators: BTreeSet<String>,
}

/// Types from here on are those of users.
const FIRST_OF_USERS: u32 = 16_384;

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
    let bound = bound(names);
    let checks = catalog.types.values().filter_map(|info| match &info.kind {
        TypeKind::Domain { checks, .. } => Some(checks.to_lowercase()),
        TypeKind::Enum(_) | TypeKind::Other => None,
    });
    let checks: Vec<String> = checks.collect();
    // What such a function calls may not be there yet: PL/pgSQL looks for it when it runs.
    let mut called: BTreeSet<String> = checks
        .iter()
        .flat_map(|code| words(code).map(str::to_owned))
        .chain(bound.iter().map(|name| name.to_string()))
        .collect();
    loop {
        let before = called.len();
        let bodies = catalog.functions.iter();
        let bodies = bodies.filter(|(name, _)| called.contains(&name.name.to_lowercase()));
        let code = bodies.flat_map(|(_, overloads)| overloads.iter());
        let code: Vec<String> = code
            .flat_map(|f| [f.body.to_lowercase(), f.defaults.to_lowercase()])
            .collect();
        called.extend(code.iter().flat_map(|code| words(code)).map(str::to_owned));
        if called.len() == before {
            break;
        }
    }
    let is_bound = |name: &str| bound.contains(name) || called.contains(&name.to_lowercase());
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

/// The functions of operators and casts.
fn bound<'n>(names: &'n Names<'_>) -> BTreeSet<&'n str> {
    let operators = names.catalog.operators.values();
    operators
        .flat_map(|functions| functions.keys())
        .chain(names.catalog.cast_functions.keys())
        .map(String::as_str)
        .collect()
}

/// Names in lower case behind which there may be a value of one of these types: the types themselves, functions of users,
/// of which it is not known what they return, and relations, but for tables of PostgreSQL's own types whose definitions
/// name none of those.
fn values_of<'t>(names: &Names<'_>, types: impl Iterator<Item = &'t String>) -> BTreeSet<String> {
    // A type of arrays begins with an underscore.
    let types = types.map(|name| name.trim_start_matches('_').to_lowercase());
    let mut values: BTreeSet<String> = types.collect();
    if values.is_empty() {
        return values;
    }
    let functions = names.catalog.functions.keys();
    values.extend(functions.map(|name| name.name.to_lowercase()));
    let operators = &names.catalog.operators;
    let has_value = |code: &str| {
        let lower = code.to_lowercase();
        // PostgreSQL prints these without the operator that they call.
        let hides = |word: &str| matches!(word, "case" | "distinct" | "nullif");
        words(&lower).any(hides)
            || values.iter().any(|name| may_name(&lower, name))
            || operators.keys().any(|symbol| lower.contains(&**symbol))
    };
    let is_plain = |relation: &Relation| {
        let checks = relation.checks.iter().map(|check| &*check.expression);
        let columns = relation.columns.iter();
        let computed = columns.filter_map(|column| column.generated.as_deref());
        let defaults = relation
            .columns
            .iter()
            .filter_map(|column| match &column.default {
                DefaultKind::Constant(code)
                | DefaultKind::Stable(code)
                | DefaultKind::Volatile(code) => Some(&**code),
                DefaultKind::None | DefaultKind::Sequence(_) => None,
            });
        let mut columns = relation.columns.iter();
        let is_simple = !relation.has_children
            && relation.exclusions.is_empty()
            && relation.triggers.is_empty()
            && !relation.has_rules
            && relation.row_security.is_none()
            && columns.all(|column| column.type_oid < FIRST_OF_USERS);
        match relation.kind {
            RelationKind::Sequence => true,
            RelationKind::Table => {
                let codes = checks.chain(computed).chain(defaults);
                is_simple && !codes.chain([&*relation.key_code]).any(has_value)
            }
            RelationKind::View | RelationKind::MaterializedView | RelationKind::ForeignTable => {
                false
            }
        }
    };
    let relations = names.catalog.relations.values();
    let relations = relations.filter(|relation| !is_plain(relation));
    let relations: Vec<String> = relations
        .map(|relation| relation.name.name.to_lowercase())
        .collect();
    values.extend(relations);
    values
}

impl ImplicitCalls {
    /// Looks at all operators, casts and domains of a catalog.
    pub fn of(names: &Names<'_>) -> ImplicitCalls {
        let reaches = |function: &String| names.reach_of_any(function) > Reach::Nothing;
        let operators = names.catalog.operators.iter();
        let operators: Vec<(&String, &BoundFunction)> = operators
            .flat_map(|(symbol, functions)| functions.iter().map(move |of| (symbol, of)))
            .filter(|(_, (function, _))| reaches(function))
            .map(|(symbol, (_, bound))| (symbol, bound))
            .collect();
        let of_words = operators
            .iter()
            .filter(|(symbol, _)| OF_WORDS.contains(&symbol.as_str()));
        let of_words: Vec<&BoundFunction> = of_words.map(|(_, bound)| *bound).collect();
        let hidden = || operators.iter().flat_map(|(_, bound)| &bound.hidden_in);
        let is_met = |bound: &BoundFunction| bound.of_builtin || !bound.types.is_empty();
        let types = names.catalog.types.iter();
        // A domain may be over another one, and what a composite type is made of is not known.
        let domains = types.filter(|(name, info)| match &info.kind {
            // The type of a table's rows.
            TypeKind::Other if names.catalog.relation(name).is_some() => false,
            TypeKind::Domain { checks, .. } if names.code_reach(checks) > Reach::Nothing => true,
            TypeKind::Domain { .. } | TypeKind::Other => {
                info.oid != 0 && names.type_reach(info.oid) > Reach::Nothing
            }
            TypeKind::Enum(_) => false,
        });
        let domains: Vec<Name> = domains.map(|(name, _)| name.clone()).collect();
        let has_domain = |type_name: &str| {
            let type_name = type_name.to_lowercase();
            let mut domains = domains.iter();
            domains.any(|domain| may_name(&type_name, &domain.name.to_lowercase()))
        };
        let rows = names.catalog.relations.values().filter(|relation| {
            let mut columns = relation.columns.iter();
            !domains.is_empty()
                && columns.any(|column| {
                    column.type_oid >= FIRST_OF_USERS
                        && (has_domain(&column.type_name)
                            || names.type_reach(column.type_oid) > Reach::Nothing)
                })
        });
        let rows = rows.map(|relation| relation.name.name.to_lowercase());
        let rows = rows.collect();
        let casts = names.catalog.cast_functions.iter();
        let casts = casts.filter(|(function, _)| reaches(function));
        let casts: Vec<_> = casts.map(|(_, cast)| cast).collect();
        let (domains, domains_apart): (Vec<Name>, Vec<Name>) = domains
            .into_iter()
            .partition(|name| names.apart().may_mean(name));
        ImplicitCalls {
            by_words: of_words.iter().any(|bound| bound.of_builtin),
            operators: operators
                .iter()
                .filter(|(symbol, bound)| is_met(bound) && !OF_WORDS.contains(&symbol.as_str()))
                .map(|(symbol, _)| (*symbol).clone())
                .collect(),
            operator_values: values_of(
                names,
                of_words
                    .iter()
                    .flat_map(|bound| &bound.types)
                    .chain(hidden()),
            ),
            hidden: hidden().next().is_some(),
            domains: domains.into_iter().map(|name| name.name).collect(),
            domains_apart,
            rows,
            casts: casts.iter().any(|cast| cast.of_builtin),
            cast_operators: match casts.is_empty() {
                true => BTreeSet::new(),
                false => names.catalog.operators.keys().cloned().collect(),
            },
            cast_values: values_of(names, casts.iter().flat_map(|cast| &cast.types)),
        }
    }

    /// Whether there is nothing that calls such code.
    fn calls_nothing(&self) -> bool {
        let named = [
            &self.operators,
            &self.domains,
            &self.rows,
            &self.cast_values,
            &self.operator_values,
        ];
        named.into_iter().all(BTreeSet::is_empty) && self.domains_apart.is_empty()
    }

    /// Whether a statement may use one of these operators, domains or casts. Without a context it is code as PostgreSQL
    /// prints it, with an empty search path.
    pub fn may_be_used_by(&self, sql: &str, context: Option<&PlanContext>) -> bool {
        // PostgreSQL looks for its own operators first, unless the path itself says when.
        let is_shown = |context: &PlanContext| {
            let mut path = context.search_path.iter();
            context.temporary == Temporary::Unclear || path.any(|schema| schema == "pg_catalog")
        };
        if self.casts || self.by_words || self.hidden && context.is_some_and(is_shown) {
            return true;
        }
        if self.calls_nothing() {
            return false;
        }
        let lower = keywords::lower(sql);
        let is_named = |domain: &Name| {
            may_name(&lower, &domain.schema.to_lowercase())
                && may_name(&lower, &domain.name.to_lowercase())
        };
        if self.domains_apart.iter().any(is_named) {
            return true;
        }
        // The type of a parameter need not stand in the text.
        let has_value = |name: &String| may_name(&lower, name);
        let has_parameter = || !self.cast_values.is_empty() && lower.contains('$');
        if has_parameter() || self.cast_values.iter().any(has_value) {
            return true;
        }
        // A cast may take a parameter of any type. An operand of these types comes from something that is named, from a
        // parameter that is declared so, or from a temporary table.
        let may_bring = |context: &PlanContext| {
            let mut types = context.parameter_types.iter();
            let is_temporary = match &context.temporary {
                Temporary::None => false,
                Temporary::Perhaps(names) => {
                    let mut names = names.iter();
                    names.any(|name| may_name(&lower, &name.to_lowercase()))
                }
                Temporary::Unclear => true,
            };
            is_temporary || types.any(|oid| *oid >= FIRST_OF_USERS)
        };
        let is_brought = || !self.operator_values.is_empty() && context.is_some_and(may_bring);
        if is_brought() || self.operator_values.iter().any(has_value) {
            return true;
        }
        // A row is made of a constant, or of JSON.
        let makes_rows = || {
            lower.contains(['\'', '$'])
                || lower.contains("::")
                || words(&lower).any(|word| word == "cast" || word.contains("json"))
        };
        if self.rows.iter().any(has_value) && makes_rows() {
            return true;
        }
        let strings = context.is_none_or(|context| context.standard_conforming_strings);
        let mut tokens = Lexer::new(sql.as_bytes(), strings);
        tokens.any(|token| {
            let text = sql.get(token.start..token.end).unwrap_or_default();
            match token.kind {
                Kind::Operator => {
                    self.operators.contains(text) || self.cast_operators.contains(text)
                }
                Kind::UnicodeIdent => true,
                kind => named(kind, text).is_some_and(|name| self.domains.contains(&name)),
            }
        })
    }
}
