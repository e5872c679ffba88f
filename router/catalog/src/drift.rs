//! How the catalogs of shards differ where they should not.
//!
//! Undeclared tables live on the home shard only, so the caller says which relations
//! must be on every shard. Object ids differ by nature and are not compared.

use std::collections::BTreeSet;
use std::fmt;

use super::{Catalog, Name, Relation, TypeKind};

/// A difference between the first catalog and another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The position of the other catalog.
    pub shard: usize,
    /// What differs.
    pub what: Difference,
}

/// What may differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// A relation is missing on one side.
    Relation(Name),
    /// Its columns differ.
    Columns(Name),
    /// Its unique keys or exclusion constraints differ.
    Keys(Name),
    /// Its partitions differ.
    Partitions(Name),
    /// Its triggers, rules or policies differ.
    Rules(Name),
    /// A view's definition differs.
    Definition(Name),
    /// A type is missing or differs; the order of enum labels counts.
    Type(Name),
    /// A function is missing or differs.
    Function(Name),
    /// An extension is missing or has another version.
    Extension(String),
    /// The servers' major versions differ.
    Version,
    /// Encodings or collations of the databases differ.
    TextOrder,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told("the first shard", &format!("shard {}", self.shard)))
    }
}

impl Drift {
    /// The difference in words, with the shards called so.
    pub fn told(&self, first: &str, other: &str) -> String {
        match &self.what {
            Difference::Relation(n) => format!("relation {n} is not on both {first} and {other}"),
            Difference::Columns(n) => format!("columns of {n} differ on {other}"),
            Difference::Keys(n) => format!("unique constraints of {n} differ on {other}"),
            Difference::Partitions(n) => format!("partitions of {n} differ on {other}"),
            Difference::Rules(n) => format!("triggers, rules or policies of {n} differ on {other}"),
            Difference::Definition(n) => format!("the definition of {n} differs on {other}"),
            Difference::Type(n) => format!("type {n} differs on {other}"),
            Difference::Function(n) => format!("function {n} differs on {other}"),
            Difference::Extension(n) => format!("extension {n} differs on {other}"),
            Difference::Version => format!("the major version differs on {other}"),
            Difference::TextOrder => {
                format!("encoding, collation or its version differs on {other}")
            }
        }
    }

    /// The relation that differs, if it is one.
    pub fn relation(&self) -> Option<&Name> {
        match &self.what {
            Difference::Relation(n)
            | Difference::Columns(n)
            | Difference::Keys(n)
            | Difference::Partitions(n)
            | Difference::Rules(n)
            | Difference::Definition(n) => Some(n),
            Difference::Type(_)
            | Difference::Function(_)
            | Difference::Extension(_)
            | Difference::Version
            | Difference::TextOrder => None,
        }
    }
}

/// Compares every catalog with the first, for the relations that `everywhere` names, and for types, functions and
/// extensions.
pub fn drift(catalogs: &[Catalog], everywhere: impl Fn(&Relation) -> bool) -> Vec<Drift> {
    let Some((first, others)) = catalogs.split_first() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (index, other) in others.iter().enumerate() {
        let mut add = |what| {
            found.push(Drift {
                shard: index + 1,
                what,
            })
        };
        compare(first, other, &everywhere, &mut add);
    }
    found
}

fn compare(
    a: &Catalog,
    b: &Catalog,
    everywhere: &impl Fn(&Relation) -> bool,
    add: &mut impl FnMut(Difference),
) {
    if a.server_version / 10_000 != b.server_version / 10_000 {
        add(Difference::Version);
    }
    if a.text_order != b.text_order {
        add(Difference::TextOrder);
    }
    let names: BTreeSet<&Name> = a.relations.keys().chain(b.relations.keys()).collect();
    for name in names {
        match (a.relations.get(name), b.relations.get(name)) {
            (Some(x), Some(y)) if everywhere(x) => relations(x, y, a, b, add),
            (Some(x), None) | (None, Some(x)) if everywhere(x) => {
                add(Difference::Relation(name.clone()))
            }
            _ => {}
        }
    }
    let names: BTreeSet<&Name> = a.types.keys().chain(b.types.keys()).collect();
    for name in names {
        let same = match (a.types.get(name), b.types.get(name)) {
            (Some(x), Some(y)) => same_kind(&x.kind, &y.kind),
            _ => false,
        };
        // Each table has a type of its own, which is no drift for tables of one shard.
        let of_table = a.relations.contains_key(name) || b.relations.contains_key(name);
        if !same && !of_table {
            add(Difference::Type(name.clone()));
        }
    }
    let names: BTreeSet<&Name> = a.functions.keys().chain(b.functions.keys()).collect();
    for name in names {
        if a.functions.get(name) != b.functions.get(name) {
            add(Difference::Function(name.clone()));
        }
    }
    let names: BTreeSet<&String> = a.extensions.keys().chain(b.extensions.keys()).collect();
    for name in names {
        if a.extensions.get(name) != b.extensions.get(name) {
            add(Difference::Extension(name.clone()));
        }
    }
}

fn same_kind(a: &TypeKind, b: &TypeKind) -> bool {
    match (a, b) {
        (
            TypeKind::Domain {
                base_name: x,
                typmod: m,
                default: v,
                checks: c,
                ..
            },
            TypeKind::Domain {
                base_name: y,
                typmod: n,
                default: w,
                checks: d,
                ..
            },
        ) => (x, m, v, c) == (y, n, w, d),
        (x, y) => x == y,
    }
}

fn relations(
    x: &Relation,
    y: &Relation,
    a: &Catalog,
    b: &Catalog,
    add: &mut impl FnMut(Difference),
) {
    let name = || x.name.clone();
    let columns = |relation: &Relation, catalog: &Catalog| -> Vec<_> {
        let each = relation.columns.iter().map(|c| {
            // A user type is compared by its name, a built-in one by its fixed object id too.
            let oid = if catalog.type_by_oid(c.type_oid).is_some() {
                0
            } else {
                c.type_oid
            };
            (
                c.name.clone(),
                oid,
                c.type_name.clone(),
                c.typmod,
                c.collation.clone(),
                c.not_null,
                c.generated.is_some(),
            )
        });
        each.collect()
    };
    if columns(x, a) != columns(y, b) {
        add(Difference::Columns(name()));
    }
    let keys = |relation: &Relation| -> BTreeSet<(String, Vec<String>, bool)> {
        let all = relation.keys.iter().chain(&relation.exclusions);
        all.map(|k| (k.name.clone(), k.columns.clone(), k.primary))
            .collect()
    };
    if keys(x) != keys(y) {
        add(Difference::Keys(name()));
    }
    let partitions = |relation: &Relation| {
        relation.partitioning.as_ref().map(|p| {
            let leaves: BTreeSet<String> = p
                .leaves
                .iter()
                .map(|l| format!("{:?}", (&l.name, &l.bound)))
                .collect();
            (p.strategy, p.columns.clone(), leaves)
        })
    };
    if partitions(x) != partitions(y) {
        add(Difference::Partitions(name()));
    }
    if (&x.triggers, x.has_rules, &x.row_security) != (&y.triggers, y.has_rules, &y.row_security) {
        add(Difference::Rules(name()));
    }
    if x.definition != y.definition {
        add(Difference::Definition(name()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::parse;

    #[test]
    fn what_differs_is_named_with_its_shard() {
        let a = parse("table public.t\n column id bigint\n primary key id\ntype public.m enum x y\ntable public.s")
            .unwrap();
        let b = parse("table public.t\n column id int\ntype public.m enum y x\nextension citext")
            .unwrap();
        let found = drift(&[a.clone(), a.clone(), b], |r| r.name.name == "t");
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "columns of public.t differ on shard 2",
                "unique constraints of public.t differ on shard 2",
                "type public.m differs on shard 2",
                "extension citext differs on shard 2",
            ]
        );
        let sorts_otherwise = parse("text_order UTF8 de_DE.UTF-8 de_DE.UTF-8 2.36").unwrap();
        let found = drift(&[parse("").unwrap(), sorts_otherwise], |_| true);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].what, Difference::TextOrder);
        assert_eq!(drift(&[a], |_| true), []);
    }
}
