//! Relations whose definitions could not be read, because somebody held a lock.
//!
//! Where it is certain that they are what they were when they were read before, they are taken over from there. Any other
//! stays unread: a statement that names it is refused, and all others go on.

use super::{Catalog, Name, Relation};
use std::collections::HashMap;

/// Takes over from what was read `before` of the same shard.
pub fn carry_over(catalog: &mut Catalog, before: &Catalog) {
    let unread = unread(catalog);
    if unread.is_empty() || !names_are_kept(catalog, before) {
        return;
    }
    for name in unread {
        let (Some(now), Some(then)) = (catalog.relations.get_mut(&name), before.relation(&name))
        else {
            continue;
        };
        let same = now.oid == then.oid && !now.stamp.is_empty() && now.stamp == then.stamp;
        if same && is_alike(now, then) {
            take_over(now, then);
        }
    }
}

/// Takes over from the home shard. Plans are made by its definitions; those of other shards are only compared with them.
pub fn carry_from_home(catalog: &mut Catalog, home: &Catalog) {
    for name in unread(catalog) {
        if let (Some(now), Some(there)) = (catalog.relations.get_mut(&name), home.relation(&name))
            && is_alike(now, there)
        {
            take_over(now, there);
        }
    }
}

fn unread(catalog: &Catalog) -> Vec<Name> {
    let unread = catalog.relations.values().filter(|r| r.unread);
    unread.map(|relation| relation.name.clone()).collect()
}

fn is_alike(now: &Relation, then: &Relation) -> bool {
    !then.unread && now.kind == then.kind && now.columns == then.columns
}

fn take_over(now: &mut Relation, then: &Relation) {
    now.definition.clone_from(&then.definition);
    now.checks.clone_from(&then.checks);
    now.triggers.clone_from(&then.triggers);
    now.row_security.clone_from(&then.row_security);
    now.rules.clone_from(&then.rules);
    now.key_code.clone_from(&then.key_code);
    now.unread = false;
}

/// Whether all names that a definition could have been printed with mean the same still.
fn names_are_kept(now: &Catalog, before: &Catalog) -> bool {
    let by_oid: HashMap<u32, &Relation> = now.relations.values().map(|r| (r.oid, r)).collect();
    let is_kept = |then: &Relation| {
        by_oid.get(&then.oid).is_none_or(|now| {
            let mut columns = then.columns.iter();
            now.name == then.name && columns.all(|column| now.column(&column.name).is_some())
        })
    };
    before.relations.values().all(is_kept)
        && before
            .functions
            .keys()
            .all(|name| now.functions.contains_key(name))
        && before.types.keys().all(|name| now.types.contains_key(name))
        && before
            .operators
            .keys()
            .all(|symbol| now.operators.contains_key(symbol))
}

#[cfg(test)]
mod tests {
    use super::super::text::parse;
    use super::*;

    fn read(text: &str, held: &[&str]) -> Catalog {
        let mut catalog = parse(text).unwrap();
        for (at, relation) in catalog.relations.values_mut().enumerate() {
            relation.oid = 16_384 + u32::try_from(at).unwrap();
            relation.stamp = format!("stamp of {}", relation.name.name);
            if held.contains(&relation.name.name.as_str()) {
                relation.unread = true;
                relation.definition = None;
            }
        }
        catalog
    }

    const TABLES: &str = "table public.t\n column id bigint\nview public.v (id) as SELECT id FROM public.t\n\
                          function public.f stable sql SELECT 1";

    #[test]
    fn what_is_held_is_what_it_was_unless_anything_says_otherwise() {
        let before = read(TABLES, &[]);
        let v = Name::new("public", "v");
        let is_known = |now: &mut Catalog| {
            carry_over(now, &before);
            let v = &now.relations[&v];
            assert_eq!(v.unread, v.definition.is_none());
            !v.unread
        };
        assert!(is_known(&mut read(TABLES, &["t", "v"])));
        assert!(is_known(&mut read(
            &format!("{TABLES}\ntable public.w\n column id bigint"),
            &["v"]
        )));
        let mut other = read(TABLES, &["v"]);
        other.relations.get_mut(&v).unwrap().stamp = "other".to_owned();
        assert!(!is_known(&mut other));
        assert!(!is_known(&mut read(
            &TABLES.replace("column id", "column no"),
            &["v"]
        )));
        assert!(!is_known(&mut read(
            &TABLES.replace("public.f", "public.g"),
            &["v"]
        )));
        let mut gone = read(TABLES, &["v"]);
        gone.relations.get_mut(&v).unwrap().oid = 1;
        assert!(!is_known(&mut gone));
    }
}
