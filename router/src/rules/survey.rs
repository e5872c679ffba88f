//! What a catalog says about rules: which relations and functions lead to the tables
//! that they name, and which functions may do anything.
//!
//! Made once for a catalog and a set of rules. Bodies of functions and definitions of
//! views are read as words, blind to SQL, so that a name that stands in them is never
//! missed. Operators, casts and constraints of domains lead where their functions do. What
//! triggers, rules (CREATE RULE), policies and defaults do behind a statement is not looked at.

use super::facts::{Facts, Path};
use super::kinds::Kinds;
use super::{RequestFacts, RuleMatch, RuleSet};
use crate::config::{StatementKind, TablePattern};
use mothership_catalog::types::{without_quotes, words};
use mothership_catalog::{Catalog, Function, Name, TypeKind, Volatility, is_system_schema};
use mothership_plan::{About, OPERATORS_OF_WORDS, is_opaque};
use mothership_sql::functions::{Trait, special};
use std::collections::HashSet;

/// PostgreSQL cuts identifiers after this many bytes.
const MAX_NAME: usize = 63;

/// What of a session the meaning of names depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The effective search path.
    pub search_path: Vec<String>,
    /// The session has set it; else the role or database may have another one.
    pub is_path_known: bool,
    /// There may be temporary objects, or others that the open transaction has made.
    pub is_hidden: bool,
    /// The open transaction has changed more than tables.
    pub is_redefined: bool,
}

/// A catalog as the rules see it.
#[derive(Debug, Default)]
pub struct Survey {
    /// Functions that may do anything, by name alone.
    doing: HashSet<String>,
    /// Functions whose reads cannot be seen.
    dark: HashSet<String>,
    /// Relations that call those: views.
    doing_relations: HashSet<Name>,
    dark_relations: HashSet<Name>,
    /// Operators of such functions.
    dark_operators: HashSet<String>,
    /// A cast is made by one, and need not be written.
    has_dark_cast: bool,
    /// For each rule what leads to its tables.
    leads: Vec<Leads>,
}

#[derive(Debug, Default)]
struct Leads {
    relations: HashSet<Name>,
    functions: HashSet<String>,
    /// Operators of those, and domains that they check.
    operators: HashSet<String>,
    domains: HashSet<String>,
    /// A cast is made by one, and need not be written.
    has_cast: bool,
    words: HashSet<String>,
    /// Names that are no single words.
    odd: Vec<String>,
}

impl Leads {
    fn touch(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        if words(&name).next() == Some(name.as_str()) {
            self.words.insert(name);
            return;
        }
        // A text has its quotes doubled, perhaps twice.
        let name = without_quotes(&name).into_owned();
        if !self.odd.contains(&name) {
            self.odd.push(name);
        }
    }

    fn mentioned(&self, text: &str) -> bool {
        let lower = text.to_ascii_lowercase();
        lower.contains("u&\"")
            || words(&lower).any(|word| word.len() > MAX_NAME || self.words.contains(word))
            || !self.odd.is_empty() && {
                let unquoted = without_quotes(&lower);
                self.odd.iter().any(|name| unquoted.contains(name.as_str()))
            }
    }
}

impl Survey {
    /// Reads a catalog for these rules.
    pub fn new(rules: &RuleSet, catalog: &Catalog) -> Self {
        let mut survey = Survey::default();
        survey.find_code(catalog);
        survey.dark_operators = operators_of(catalog, &survey.dark);
        survey.has_dark_cast = has_cast_of(catalog, &survey.dark);
        survey.leads = rules
            .rules()
            .map(|rule| leads(&rule.when.tables, catalog))
            .collect();
        survey
    }

    /// Functions and views that may do anything, or read what is not to be seen.
    fn find_code(&mut self, catalog: &Catalog) {
        loop {
            let before = (self.doing.len(), self.dark.len());
            let views = (self.doing_relations.len(), self.dark_relations.len());
            for (name, overloads) in &catalog.functions {
                if overloads.iter().any(|f| self.may_do(f)) {
                    self.doing.insert(name.name.clone());
                }
                if overloads.iter().any(|f| self.is_dark(f)) {
                    self.dark.insert(name.name.clone());
                }
            }
            for relation in catalog.relations.values() {
                let Some(definition) = &relation.definition else {
                    continue;
                };
                let lower = definition.to_ascii_lowercase();
                if self.calls_doing(&lower) {
                    self.doing_relations.insert(relation.name.clone());
                    self.doing.insert(relation.name.name.clone());
                }
                if self.calls_dark(&lower) {
                    self.dark_relations.insert(relation.name.clone());
                    self.dark.insert(relation.name.name.clone());
                }
            }
            let after = (self.doing.len(), self.dark.len());
            if before == after && views == (self.doing_relations.len(), self.dark_relations.len()) {
                return;
            }
        }
    }

    fn may_do(&self, function: &Function) -> bool {
        if !function.is_readable() {
            return is_foreign(function);
        }
        let body = code_of(function);
        let begins =
            |word: &str| WRITING.contains(&word) || (word == "into" && function.language == "sql");
        function.body.is_empty()
            || function.is_dynamic()
            || (function.volatility == Volatility::Volatile && words(&body).any(begins))
            || self.calls_doing(&body)
    }

    fn is_dark(&self, function: &Function) -> bool {
        if !function.is_readable() {
            return is_foreign(function);
        }
        let body = code_of(function);
        function.body.is_empty() || function.is_dynamic() || self.calls_dark(&body)
    }

    fn calls_doing(&self, lower: &str) -> bool {
        words(lower).any(|word| {
            self.doing.iter().any(|f| f.eq_ignore_ascii_case(word))
                || is_opaque(word)
                || matches!(
                    special(word.as_bytes()),
                    Some(Trait::Writes | Trait::Sequence)
                )
        })
    }

    fn calls_dark(&self, lower: &str) -> bool {
        words(lower)
            .any(|word| self.dark.iter().any(|f| f.eq_ignore_ascii_case(word)) || is_opaque(word))
    }

    /// What a statement is for these rules.
    pub fn request(
        &self,
        rules: &RuleSet,
        catalog: &Catalog,
        facts: &Facts,
        scope: &Scope,
    ) -> RequestFacts {
        let (mut kinds, mut perhaps) = (facts.kinds, facts.perhaps);
        let found: Vec<Meaning> = facts
            .relations
            .iter()
            .map(|path| meaning(path, catalog, scope))
            .collect();
        let doing = facts.calls.iter().any(|c| calls(c, &self.doing))
            || found.iter().any(|m| m.among(&self.doing_relations));
        if doing {
            kinds = kinds.without(StatementKind::Read);
            perhaps = Kinds::all();
        }
        let dark = facts.unclear
            || facts.names.iter().any(|name| self.dark.contains(name))
            || self.has_dark_cast
            || uses(facts, &self.dark_operators)
            || facts.calls.iter().any(is_temporary)
            || found.iter().any(|m| m.among(&self.dark_relations));
        let tables = rules.rules().zip(&self.leads).map(|(rule, leads)| {
            if rule.when.tables.is_empty() {
                return RuleMatch::Yes;
            }
            let named = self.named(&rule.when.tables, leads, facts, &found, scope);
            if named == RuleMatch::No && (dark || self.may_hide(rule, facts, &found, scope)) {
                return RuleMatch::Perhaps;
            }
            named
        });
        RequestFacts {
            exempt: facts.exempt,
            kinds,
            perhaps,
            tables: tables.collect(),
            shapes: super::shapes(facts, rules),
        }
    }

    fn named(
        &self,
        patterns: &[TablePattern],
        leads: &Leads,
        facts: &Facts,
        found: &[Meaning],
        scope: &Scope,
    ) -> RuleMatch {
        if facts.calls.iter().any(|c| calls(c, &leads.functions)) {
            return RuleMatch::Yes;
        }
        if let Some(code) = &facts.code {
            return match leads.mentioned(code) {
                true => RuleMatch::Yes,
                false if runs_text(code, &self.dark) => RuleMatch::Perhaps,
                false => RuleMatch::No,
            };
        }
        let of_schema = |schema: &String| leads.relations.iter().any(|r| r.schema == *schema);
        let unnamed = || {
            let named =
                |name: &String| leads.functions.contains(name) || leads.domains.contains(name);
            leads.has_cast || uses(facts, &leads.operators) || facts.names.iter().any(named)
        };
        let mut fit = match facts.schemas.iter().any(of_schema) || unnamed() {
            true => RuleMatch::Perhaps,
            false => RuleMatch::No,
        };
        for (path, meaning) in facts.relations.iter().zip(found) {
            fit = fit.max(match meaning {
                Meaning::Relation(name) if leads.relations.contains(name) => RuleMatch::Yes,
                // The role's own path may lead elsewhere than ours.
                Meaning::Relation(_) if path.schema.is_none() && !scope.is_path_known => {
                    match leads.relations.iter().any(|r| r.name == path.name) {
                        true => RuleMatch::Perhaps,
                        false => RuleMatch::No,
                    }
                }
                Meaning::Relation(_) | Meaning::System => RuleMatch::No,
                Meaning::Unknown => {
                    let schemas = match &path.schema {
                        Some(schema) => std::slice::from_ref(schema),
                        None => &scope.search_path,
                    };
                    let matches =
                        |schema: &String| patterns.iter().any(|p| p.matches(schema, &path.name));
                    let elsewhere = path.schema.is_none()
                        && !scope.is_path_known
                        && leads.relations.iter().any(|r| r.name == path.name);
                    match schemas.iter().any(matches) {
                        true => RuleMatch::Yes,
                        false if elsewhere => RuleMatch::Perhaps,
                        false => RuleMatch::No,
                    }
                }
            });
        }
        fit
    }

    /// Whether an object of this session that no catalog has may stand before a table.
    fn may_hide(
        &self,
        rule: &crate::config::Rule,
        facts: &Facts,
        found: &[Meaning],
        scope: &Scope,
    ) -> bool {
        use crate::config::StatementKind::{Ddl, Write};
        let kinds: Kinds = rule.when.kinds.iter().copied().collect();
        // Such a rule was asked when the object was made.
        let asked = kinds.is_empty() || kinds.has(Ddl) || kinds.has(Write);
        let unknown = || {
            let both = facts.relations.iter().zip(found);
            both.into_iter()
                .any(|(path, meaning)| is_unknown(path, meaning, facts))
        };
        let names_something = !facts.relations.is_empty() || !facts.calls.is_empty();
        (scope.is_hidden && !asked && facts.by_place && names_something)
            || (scope.is_redefined && facts.by_place && unknown())
    }

    /// Whether the statement names a relation that the catalog does not have.
    pub fn names_unknown(catalog: &Catalog, facts: &Facts, scope: &Scope) -> bool {
        facts.by_place
            && facts
                .relations
                .iter()
                .any(|path| is_unknown(path, &meaning(path, catalog, scope), facts))
    }
}

/// What a statement is about, for a rule that keeps it on a shard.
pub fn about(catalog: Option<&Catalog>, facts: &Facts, scope: &Scope) -> About {
    if is_without_tables(catalog, facts, scope) {
        About::NoTables
    } else if facts.exempt || facts.is_of_session() {
        About::Session
    } else {
        About::Rows
    }
}

/// Whether a statement needs no rows of any table, so that it may run on any shard: it
/// only reads, and names nothing but what belongs to each server, and calls no function
/// of users.
fn is_without_tables(catalog: Option<&Catalog>, facts: &Facts, scope: &Scope) -> bool {
    use crate::config::StatementKind::{Read, Select};
    let empty = Catalog::default();
    let catalog_or_empty = catalog.unwrap_or(&empty);
    let plain = facts.kinds == Kinds::NONE.with(Select).with(Read) && facts.perhaps.is_empty();
    let own = |path: &Path| match meaning(path, catalog_or_empty, scope) {
        Meaning::System => true,
        Meaning::Relation(_) => false,
        Meaning::Unknown => path.schema.is_none() && facts.ctes.contains(&path.name),
    };
    let user = |path: &Path| {
        path.schema.as_deref() != Some("pg_catalog")
            && catalog_or_empty
                .functions_named(&path.name)
                .next()
                .is_some()
    };
    plain && !facts.unclear && facts.relations.iter().all(own) && !facts.calls.iter().any(user)
}

/// What a name stands for.
#[derive(Debug)]
enum Meaning {
    Relation(Name),
    System,
    Unknown,
}

impl Meaning {
    fn among(&self, set: &HashSet<Name>) -> bool {
        matches!(self, Meaning::Relation(name) if set.contains(name))
    }
}

fn is_unknown(path: &Path, meaning: &Meaning, facts: &Facts) -> bool {
    matches!(meaning, Meaning::Unknown)
        && !(path.schema.is_none() && facts.ctes.contains(&path.name))
}

fn meaning(path: &Path, catalog: &Catalog, scope: &Scope) -> Meaning {
    let known = |name: Name| {
        let table = catalog.indexes.get(&name);
        let found = catalog.relation(&name).map(|r| &r.name).or(table);
        found.cloned()
    };
    let found = match &path.schema {
        Some(schema) if is_system_schema(schema) => return Meaning::System,
        Some(schema) => known(Name::new(schema.clone(), path.name.clone())),
        None => scope
            .search_path
            .iter()
            .find_map(|schema| known(Name::new(schema.clone(), path.name.clone()))),
    };
    match found {
        Some(name) => Meaning::Relation(name),
        None if path.schema.is_none() && path.name.starts_with("pg_") => Meaning::System,
        None => Meaning::Unknown,
    }
}

/// Whether a function is called that no catalog has.
fn is_temporary(path: &Path) -> bool {
    let schema = path.schema.as_ref();
    schema.is_some_and(|schema| schema.starts_with("pg_temp"))
}

/// The operators that one of these functions carries out.
fn operators_of(catalog: &Catalog, functions: &HashSet<String>) -> HashSet<String> {
    let operators = catalog.operators.iter();
    let found = operators.filter(|(_, own)| own.keys().any(|name| functions.contains(name)));
    found.map(|(symbol, _)| symbol.clone()).collect()
}

fn has_cast_of(catalog: &Catalog, functions: &HashSet<String>) -> bool {
    let mut casts = catalog.cast_functions.keys();
    casts.any(|name| functions.contains(name))
}

/// Whether a statement has one of these operators, or may have: clauses and words stand for some.
fn uses(facts: &Facts, operators: &HashSet<String>) -> bool {
    let by_word = |symbol: &&str| operators.contains(*symbol);
    !operators.is_empty()
        && (OPERATORS_OF_WORDS.iter().any(by_word)
            || facts
                .operators
                .iter()
                .any(|symbol| operators.contains(symbol)))
}

fn calls(path: &Path, functions: &HashSet<String>) -> bool {
    path.schema.as_deref() != Some("pg_catalog") && functions.contains(&path.name)
}

/// Whether code runs SQL that does not stand in it.
fn runs_text(code: &str, dark: &HashSet<String>) -> bool {
    let lower = code.to_ascii_lowercase();
    words(&lower).any(|word| {
        word == "execute" || is_opaque(word) || dark.iter().any(|f| f.eq_ignore_ascii_case(word))
    })
}

/// What a call of a function runs, in lower case: its body, and the defaults of its arguments.
fn code_of(function: &Function) -> String {
    format!("{} {}", function.body, function.defaults).to_ascii_lowercase()
}

/// Code that nobody here can read, and that no well-known extension brought.
fn is_foreign(function: &Function) -> bool {
    match function.extension.as_deref() {
        Some(name) => mothership_plan::RUNS_SQL.contains(&name),
        None => function.volatility == Volatility::Volatile || function.language != "c",
    }
}

/// Words with which a statement begins that changes something.
const WRITING: &[&str] = &[
    "insert", "update", "delete", "merge", "create", "alter", "drop", "truncate", "copy", "grant",
    "revoke", "comment", "call", "do", "refresh", "reindex", "cluster", "vacuum", "analyze",
    "notify", "lock", "security", "reassign", "import", "commit", "rollback",
];

fn leads(patterns: &[TablePattern], catalog: &Catalog) -> Leads {
    let mut leads = Leads::default();
    if patterns.is_empty() {
        return leads;
    }
    for pattern in patterns.iter().filter(|p| p.is_exact()) {
        leads.touch(&pattern.table);
    }
    let matches = |name: &Name| patterns.iter().any(|p| p.matches(&name.schema, &name.name));
    for relation in catalog.relations.values().filter(|r| matches(&r.name)) {
        leads.touch(&relation.name.name);
        leads.relations.insert(relation.name.clone());
    }
    loop {
        let before = (leads.relations.len(), leads.functions.len());
        for relation in catalog.relations.values() {
            let is_new = !leads.relations.contains(&relation.name);
            let parent = relation.parent.as_ref();
            let mut add = Vec::new();
            // A partition's rows are its table's, and the other way round.
            if is_new && parent.is_some_and(|p| leads.relations.contains(p)) {
                add.push(relation.name.clone());
            }
            if let Some(parent) = parent.filter(|p| !is_new && !leads.relations.contains(*p)) {
                add.push(parent.clone());
            }
            let definition = relation.definition.as_ref();
            if is_new && definition.is_some_and(|text| leads.mentioned(text)) {
                add.push(relation.name.clone());
            }
            for name in add {
                leads.touch(&name.name);
                leads.relations.insert(name);
            }
        }
        for (name, overloads) in &catalog.functions {
            let reads = |f: &Function| f.is_readable() && leads.mentioned(&code_of(f));
            if !leads.functions.contains(&name.name) && overloads.iter().any(reads) {
                leads.touch(&name.name);
                leads.functions.insert(name.name.clone());
            }
        }
        if before == (leads.relations.len(), leads.functions.len()) {
            break;
        }
    }
    leads.operators = operators_of(catalog, &leads.functions);
    leads.has_cast = has_cast_of(catalog, &leads.functions);
    for (name, info) in &catalog.types {
        if let TypeKind::Domain { checks, .. } = &info.kind
            && leads.mentioned(checks)
        {
            leads.domains.insert(name.name.clone());
        }
    }
    leads
}
