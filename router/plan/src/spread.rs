//! How far views and functions reach: over declared tables they touch them, and so on until nothing is new.
//!
//! Anybody may make thousands of functions of which each calls another one. So a function that reaches farther than was
//! known has only those looked at again whose code has its name.

use std::collections::HashMap;

use foldhash::HashSet;
use mothership_catalog::types::words;
use mothership_catalog::{Function, Name, Relation, RelationKind};

use super::apart::is_plain;
use super::defines::changes_all_shards;
use super::names::{Names, Place, Reach, runs_texts};

/// The functions that are still to be looked at.
struct Open<'a> {
    functions: Vec<(&'a Name, &'a [Function])>,
    /// The places of those whose code has a name, by the name.
    callers: HashMap<&'a str, Vec<usize>>,
    places: Vec<usize>,
    is_open: Vec<bool>,
}

impl<'a> Open<'a> {
    /// All of those that unqualified names may mean.
    fn of(names: &Names<'a>) -> Open<'a> {
        let functions = names.catalog.functions.iter();
        let functions = functions.map(|(name, functions)| (name, functions.as_slice()));
        let functions: Vec<_> = functions
            .filter(|(name, _)| names.apart.may_mean(name))
            .collect();
        let mut callers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, (_, overloads)) in functions.iter().enumerate() {
            for code in overloads.iter().flat_map(|f| [&f.body, &f.defaults]) {
                let lower = code.to_ascii_lowercase();
                let called = words(&lower).filter_map(|word| names.named.get_key_value(word));
                for (name, _) in called {
                    let of_name = callers.entry(name).or_default();
                    if of_name.last() != Some(&at) {
                        of_name.push(at);
                    }
                }
            }
        }
        let mut open = Open {
            is_open: vec![false; functions.len()],
            places: Vec::new(),
            functions,
            callers,
        };
        open.all();
        open
    }

    fn all(&mut self) {
        // The first one is taken first.
        for at in (0..self.functions.len()).rev() {
            self.one(at);
        }
    }

    fn one(&mut self, at: usize) {
        if !std::mem::replace(&mut self.is_open[at], true) {
            self.places.push(at);
        }
    }

    /// Those that may call a function.
    fn callers_of(&mut self, name: &str) {
        if !is_plain(name) {
            return self.all();
        }
        for at in self.callers.get(name).cloned().unwrap_or_default() {
            self.one(at);
        }
    }

    fn next(&mut self) -> Option<(&'a Name, &'a [Function])> {
        let at = self.places.pop()?;
        self.is_open[at] = false;
        Some(self.functions[at])
    }
}

impl<'a> Names<'a> {
    /// Looks at all views, policies and functions, and again at what names something that was found.
    pub(super) fn spread(&mut self) {
        let functions = self.catalog.functions.values().flatten();
        let readable = functions.filter(|function| function.is_readable());
        let defining = readable.filter(|function| {
            changes_all_shards(&function.body) || self.changes_view(&function.body)
        });
        // By their places: code is read for this once.
        let defining: HashSet<*const Function> = defining.map(std::ptr::from_ref).collect();
        let mut open = Open::of(self);
        loop {
            let mut changed = self.spread_to_relations();
            if changed {
                open.all();
            }
            while let Some((name, functions)) = open.next() {
                if self.raise(name, functions, &defining) {
                    changed = true;
                    open.callers_of(&name.name);
                }
            }
            let far = self.far(&self.far);
            if far.len() > self.far.len() {
                changed = true;
                open.all();
            }
            self.far = far;
            if !changed {
                return;
            }
        }
    }

    /// Views over what touches declared tables, and tables with policies over it. True if there are new ones.
    fn spread_to_relations(&mut self) -> bool {
        let mut changed = false;
        for relation in self.catalog.relations.values() {
            if let Some(definition) = &relation.definition
                && (self.mentions_known(definition) || runs_texts(definition))
                && !self.keeps_copies(relation)
            {
                changed |= self.touch_if_meant(&relation.name);
            }
            // Who reads a table asks its policies, wherever it lives.
            let mut policies = relation.row_security.iter().flatten();
            if policies.any(|policy| self.mentions_known(&policy.expression)) {
                changed |= self.touch_if_meant(&relation.name);
            }
        }
        changed
    }

    /// Whether a relation is a materialized view that reads nothing but tables of the home shard and reference tables, which
    /// the home shard has as well: it is a table of the home shard.
    fn keeps_copies(&self, relation: &Relation) -> bool {
        let Some(definition) = relation
            .definition
            .as_ref()
            .filter(|_| relation.kind == RelationKind::MaterializedView)
        else {
            return false;
        };
        let lower = definition.to_ascii_lowercase();
        let is_copied = |word: &str| {
            let all = self.catalog.relations.keys();
            let mut places = all
                .filter(|name| name.name == word)
                .map(|name| self.place(name));
            places
                .next()
                .is_some_and(|place| matches!(place, Place::Reference))
                && places.all(|place| matches!(place, Place::Reference))
        };
        !runs_texts(definition)
            && words(&lower).all(|word| !self.mentions_known(word) || is_copied(word))
    }

    /// Looks at the functions of one name. True if they reach farther than was known.
    fn raise(
        &mut self,
        name: &Name,
        functions: &[Function],
        defining: &HashSet<*const Function>,
    ) -> bool {
        let reaches = functions.iter().map(|f| {
            if let Some(reach) = self.apart.reach_by_own_path(&name.name, f) {
                return reach;
            }
            let defaults = self.code_reach(&f.defaults);
            let reach = match defining.contains(&std::ptr::from_ref(f)) {
                true => Reach::Anything,
                false => self.function_reach(f),
            };
            defaults.max(reach)
        });
        let reach = reaches.max().unwrap_or(Reach::Nothing);
        let known = self.reach_in.get(name).copied();
        let is_raised = reach > known.unwrap_or(Reach::Nothing);
        if is_raised {
            self.reach_in.insert(name.clone(), reach);
            let of_name = self.reach.entry(name.name.clone()).or_insert(reach);
            *of_name = reach.max(*of_name);
        }
        let touches = reach == Reach::Anything && self.touch(&name.name);
        is_raised || touches
    }
}
