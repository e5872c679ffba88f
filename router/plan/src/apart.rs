//! Functions, domains and relations that an unqualified name cannot mean, because the search path has none of their schemas.
//!
//! A planner takes a name for whatever is called so, in any schema. That is always safe, because code may change the
//! search path. But whoever owns a schema could then stop the statements of everybody else, with a function that is called
//! `lower` and reads tables, or a table that is called `begin`, which is a word of all code. So a statement that is refused is planned again, by a planner for which unqualified names mean
//! nothing in the schemas that are not on the search path ([`super::Planner::without`]). What is there counts only where
//! the text has the name of the schema, too.
//!
//! That is true as long as the path stays as it is. A statement that may change it is not planned again, and a function
//! that may change it counts as one that may reach anything.
//! <https://www.postgresql.org/docs/current/ddl-schemas.html#DDL-SCHEMAS-PATH>

use std::collections::{BTreeSet, HashMap};

use foldhash::HashSet;
use mothership_catalog::types::{may_name, words};
use mothership_catalog::{Catalog, Function, FunctionKind, Name, TypeKind};
use mothership_shardmap::ShardMap;

use super::context::{PlanContext, Temporary};
use super::names::{MAX_NAME, Names, Reach};

/// What is in schemas that the search path does not have. Empty where a name may mean what is in any schema.
#[derive(Debug, Default)]
pub(super) struct Apart {
    /// The schemas.
    schemas: Vec<String>,
    /// What in them is a relation, or a function that may reach one: by its own name, the place of its schema and how far
    /// it reaches.
    reaching: HashMap<String, Vec<(usize, Reach)>>,
    /// How far functions of any schema may reach, by their own names.
    any: HashMap<String, Reach>,
    /// See [`Leading::functions`].
    leading: HashSet<String>,
}

/// Those of the schemas whose names a text has.
pub(super) struct Named<'n> {
    apart: &'n Apart,
    schemas: Vec<usize>,
}

impl Named<'_> {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.schemas.is_empty()
    }

    /// Whether this is one of them.
    pub(super) fn has(&self, schema: &str) -> bool {
        let mut named = self.schemas.iter();
        named.any(|at| self.apart.schemas[*at] == schema)
    }

    /// How far what is called `word` may reach in these schemas.
    pub(super) fn reach(&self, word: &str) -> Reach {
        if self.is_empty() {
            return Reach::Nothing;
        }
        let reaching = self.apart.reaching.get(word).into_iter().flatten();
        let named = reaching.filter(|(schema, _)| self.schemas.contains(schema));
        let reach = named.map(|(_, reach)| *reach).max();
        reach.unwrap_or(Reach::Nothing)
    }
}

impl Apart {
    /// What is in these schemas. `names` are those of all schemas.
    pub(super) fn new(schemas: &BTreeSet<String>, names: &Names<'_>) -> Apart {
        let mut reaching: HashMap<String, Vec<(usize, Reach)>> = HashMap::new();
        for (at, schema) in schemas.iter().enumerate() {
            for (name, reach) in names.reaching_in(schema) {
                reaching
                    .entry(name.to_owned())
                    .or_default()
                    .push((at, reach));
            }
        }
        Apart {
            schemas: schemas.iter().cloned().collect(),
            reaching,
            any: names.all_reach().clone(),
            leading: names.leading().functions.clone(),
        }
    }

    /// Whether there are such schemas. Declared tables may be in them alone.
    pub(super) fn is_given(&self) -> bool {
        !self.schemas.is_empty()
    }

    /// Whether an unqualified name may mean this function, domain or relation.
    pub(super) fn may_mean(&self, name: &Name) -> bool {
        !self.schemas.contains(&name.schema) || !is_plain(&name.name)
    }

    /// Those of the schemas that a text in lower case names.
    pub(super) fn named_in(&self, lower: &str) -> Named<'_> {
        let schemas = self.schemas.iter().enumerate();
        let named = schemas.filter(|(_, schema)| may_name(lower, &schema.to_ascii_lowercase()));
        Named {
            apart: self,
            schemas: named.map(|(at, _)| at).collect(),
        }
    }

    /// Whether an unqualified name may mean something in this schema.
    pub(super) fn may_be_in(&self, schema: &str) -> bool {
        !self.schemas.iter().any(|apart| apart == schema)
    }

    /// Whether a text in lower case names what may touch declared tables in these schemas.
    pub(super) fn is_mentioned(&self, lower: &str) -> bool {
        let named = self.named_in(lower);
        !named.is_empty() && words(lower).any(|word| named.reach(word) == Reach::Anything)
    }

    /// How far a function may reach that does not look for other functions where its caller does; `None` if it does.
    pub(super) fn reach_by_own_path(&self, name: &str, function: &Function) -> Option<Reach> {
        if self.schemas.is_empty() {
            return None;
        }
        if self.leading.contains(&name.to_ascii_lowercase()) {
            return Some(Reach::Anything);
        }
        let path = function
            .search_path
            .as_ref()
            .map(|path| path.to_ascii_lowercase());
        let leaves = |path: &String| path.contains("$user") || !self.named_in(path).is_empty();
        // An aggregate keeps the functions that it was made of.
        let is_bound =
            function.kind == FunctionKind::Aggregate || path.as_ref().is_some_and(leaves);
        is_bound.then(|| self.any.get(name).copied().unwrap_or(Reach::Nothing))
    }

    /// How far functions of this name may reach in any schema; `None` if that is not known apart from what names mean.
    pub(super) fn reach_of_any(&self, name: &str) -> Option<Reach> {
        let known = || self.any.get(name).copied().unwrap_or(Reach::Nothing);
        (!self.schemas.is_empty()).then(known)
    }
}

/// What decides which schemas are apart.
#[derive(Debug)]
pub(super) struct Leading {
    /// The schemas that have functions, domains or relations.
    schemas: BTreeSet<String>,
    /// The functions that may change the search path of what runs after them, in lower case without their schemas.
    functions: HashSet<String>,
}

impl Leading {
    /// Reads all code of a catalog.
    pub(super) fn of(catalog: &Catalog, map: &ShardMap) -> Leading {
        let types = catalog.types.iter();
        let domains = types.filter(|(_, info)| matches!(info.kind, TypeKind::Domain { .. }));
        let domains = domains.map(|(name, _)| name);
        let names = catalog.functions.keys().chain(domains);
        let names = names.chain(catalog.relations.keys());
        let declared = map.tables().map(|(schema, _, _)| schema.to_owned());
        let mut bodies = Vec::new();
        for (name, functions) in &catalog.functions {
            let of_name = functions.iter().map(|function| &function.body);
            bodies.extend(
                of_name.map(|body| (name.name.to_ascii_lowercase(), body.to_ascii_lowercase())),
            );
        }
        let mut leading = Leading {
            schemas: names
                .map(|name| name.schema.clone())
                .chain(declared)
                .collect(),
            functions: HashSet::default(),
        };
        // Those that call one do so as well.
        loop {
            let (found, others): (Vec<_>, Vec<_>) = bodies
                .into_iter()
                .partition(|(_, body)| leading.may_change_path(body));
            if found.is_empty() {
                return leading;
            }
            leading
                .functions
                .extend(found.into_iter().map(|(name, _)| name));
            bodies = others;
        }
    }

    /// The schemas in which a statement can mean something only by qualified names. Empty if its search path is not certain,
    /// or may change while it runs.
    pub(super) fn apart(&self, sql: &str, context: &PlanContext) -> BTreeSet<String> {
        let others = self.schemas.iter();
        let others = others.filter(|schema| !context.search_path.contains(schema));
        let others: BTreeSet<String> = others.cloned().collect();
        let is_certain = context.temporary != Temporary::Unclear;
        match is_certain && !others.is_empty() && !self.may_change_path(&sql.to_ascii_lowercase()) {
            true => others,
            false => BTreeSet::new(),
        }
    }

    /// Whether a text in lower case may change the path: it has a word that every such text has, or calls a function that
    /// may do so.
    fn may_change_path(&self, lower: &str) -> bool {
        let changes = |word: &str| {
            matches!(
                word,
                "search_path"
                    | "set_config"
                    | "schema"
                    | "role"
                    | "authorization"
                    | "reset"
                    | "discard"
            )
        };
        lower.contains("u&\"")
            || words(lower)
                .any(|word| word.len() > MAX_NAME || changes(word) || self.functions.contains(word))
    }
}

/// Whether a name is one word in lower case.
pub(super) fn is_plain(name: &str) -> bool {
    words(name).next() == Some(name) && !name.bytes().any(|byte| byte.is_ascii_uppercase())
}
