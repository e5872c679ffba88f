//! Maps that are right, and what is said about those that are wrong.

use super::*;
use crate::{Cut, Declared, Directory, KeyBytes, NoOwner, ShardSet, Sharded, TextContext};

fn int8(value: i128) -> KeyBytes {
    KeyType::Int8.from_integer(value).unwrap()
}

fn by(columns: &[(&str, KeyType)], strategy: StrategyDecl, group: Option<&str>) -> TableDecl {
    TableDecl::Sharded(ShardedDecl {
        columns: columns
            .iter()
            .map(|(name, key_type)| (name.to_string(), *key_type))
            .collect(),
        strategy,
        group: group.map(str::to_owned),
        allow_unenforced_unique: false,
    })
}

fn hash(column: &str, key_type: KeyType, group: Option<&str>) -> TableDecl {
    by(&[(column, key_type)], StrategyDecl::Hash, group)
}

fn three() -> ShardMapBuilder {
    let mut builder = ShardMapBuilder::new(1);
    builder.shard("s1").shard("s2").shard("s3");
    builder
}

fn sharded(map: &ShardMap, name: &str) -> Arc<Sharded> {
    match map.declared("public", name) {
        Declared::Placement(Placement::Sharded(sharded)) => Arc::clone(sharded),
        other => panic!("{name}: {other:?}"),
    }
}

#[track_caller]
fn refused(builder: &ShardMapBuilder, expected: &[&str]) {
    let errors = builder.build().unwrap_err();
    let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(messages, expected);
    assert!(errors.iter().all(|error| error.hint().ends_with('.')));
}

#[test]
fn exact_names_go_before_patterns_and_patterns_before_the_default() {
    let mut builder = three();
    builder
        .default_tables(DefaultTables::Auto)
        .table("tenant_*", "*", hash("tenant_id", KeyType::Uuid, None))
        .table("tenant_*", "countries", TableDecl::Reference)
        .table("tenant_1", "settings", TableDecl::Home);
    let map = builder.build().unwrap();
    let placement = |schema, name| map.placement(schema, name, &[] as &[(&str, _)]);
    assert!(matches!(placement("tenant_1", "settings"), Placement::Home));
    assert!(matches!(
        placement("tenant_2", "settings"),
        Placement::Sharded(_)
    ));
    assert!(
        matches!(placement("tenant_2", "countries"), Placement::Sharded(_)),
        "the first one"
    );
    assert!(matches!(map.declared("public", "settings"), Declared::Auto));
    assert!(matches!(
        map.declared("pg_catalog", "pg_class"),
        Declared::Home
    ));
    assert!(
        matches!(placement("public", "log"), Placement::Home),
        "no primary key"
    );
    assert!(matches!(
        three().build().unwrap().declared("public", "t"),
        Declared::Home
    ));
}

#[test]
fn auto_tables_are_colocated_with_hash_tables_of_the_same_key_type() {
    let mut builder = three();
    builder.table("public", "orders", hash("customer_id", KeyType::Int8, None));
    let map = builder.build().unwrap();
    let auto = |key_type| match map.auto_placement(&[("id", key_type), ("x", KeyType::Text)]) {
        Placement::Sharded(sharded) => sharded,
        other => panic!("{other:?}"),
    };
    assert_eq!(auto(KeyType::Int8).group, sharded(&map, "orders").group);
    assert_ne!(auto(KeyType::Int4).group, auto(KeyType::Int8).group);
    assert_eq!(
        auto(KeyType::Int8).columns,
        [("id".to_owned(), KeyType::Int8)]
    );
    assert_eq!(map.group_name(auto(KeyType::Uuid).group), "hash(uuid)");
    assert_eq!(
        auto(KeyType::Int8).owner(&[int8(7)]),
        sharded(&map, "orders").owner(&[int8(7)])
    );
}

#[test]
fn every_slot_has_exactly_one_owner() {
    let mut builder = three();
    builder.slots("s2", 0..=99).slots("s1", 100..=16_383);
    let map = builder.build().unwrap();
    assert_eq!(map.slots().shards(), &ShardSet::all(2));
    assert_eq!(map.slots().owner(crate::Slot(99)), ShardId(1));

    builder.slots("s3", 90..=110);
    refused(
        &builder,
        &["slot 90 belongs to shard \"s2\" and to shard \"s3\""],
    );

    let mut builder = three();
    builder
        .slots("s1", 0..=10)
        .slots("s2", 20..=16_383)
        .slots("s9", 11..=19);
    refused(
        &builder,
        &[
            "shard \"s9\", used by slots, is not declared",
            "slots 11 to 19 belong to no shard",
        ],
    );

    let mut builder = three();
    builder.slots("s1", 0..=16_383).slots("s2", 9..=16_384);
    refused(
        &builder,
        &["slots 9 to 16384 of shard \"s2\" are not a range of slots"],
    );
}

#[test]
fn shards_and_tables_are_named_once_and_home_exists() {
    refused(&ShardMapBuilder::new(1), &["there are no shards"]);
    let mut builder = three();
    builder.shard("s2").home("s4");
    builder
        .table("a", "b", TableDecl::Home)
        .table("a", "b", TableDecl::Reference);
    refused(
        &builder,
        &[
            "shard \"s2\" is declared twice",
            "shard \"s4\", used by home, is not declared",
            "table \"a.b\" is declared twice",
        ],
    );
    assert_eq!(three().home("s2").build().unwrap().home(), ShardId(1));
}

#[test]
fn colocated_tables_have_the_same_key_types_and_strategy() {
    let group = Some("shop");
    let mut builder = three();
    builder
        .table("public", "customers", hash("id", KeyType::Int8, group))
        .table(
            "public",
            "orders",
            hash("customer_id", KeyType::Int8, group),
        );
    let map = builder.build().unwrap();
    assert_eq!(
        sharded(&map, "customers").group,
        sharded(&map, "orders").group
    );
    assert_eq!(map.group_name(sharded(&map, "orders").group), "shop");

    let postgres = StrategyDecl::Postgres {
        remainders: vec!["s1".to_owned()],
    };
    builder
        .table("public", "items", hash("customer_id", KeyType::Text, group))
        .table(
            "public",
            "notes",
            by(&[("id", KeyType::Int8)], postgres, group),
        );
    refused(
        &builder,
        &[
            "table \"public.items\" has key types (text), but table \"public.customers\" of its group \"shop\" has (int8)",
            "table \"public.notes\" is not divided like table \"public.customers\" of its group \"shop\"",
        ],
    );
}

#[test]
fn wrong_keys_and_entries_are_named() {
    let at = |value| vec![Cut::Value(int8(value))];
    let id = [("id", KeyType::Int8)];
    let range = |ranges: Vec<(Vec<Cut>, Vec<Cut>, &str)>| {
        let ranges = ranges
            .into_iter()
            .map(|(from, to, shard)| (from, to, shard.to_owned()));
        by(
            &id,
            StrategyDecl::Range {
                ranges: ranges.collect(),
                default: None,
            },
            None,
        )
    };
    let list = |keys: Vec<Vec<KeyBytes>>| {
        let keys = keys.into_iter().map(|key| (key, "s1".to_owned())).collect();
        by(
            &id,
            StrategyDecl::List {
                keys,
                default: None,
            },
            None,
        )
    };
    let postgres = StrategyDecl::Postgres { remainders: vec![] };
    let foreign = Directory::new([(vec![int8(1)], ShardId(3))], ShardSet::empty());
    let directory = StrategyDecl::Directory(Arc::new(foreign));
    for (table, expected) in [
        (
            by(&[], StrategyDecl::Hash, None),
            "table \"p.t\" is sharded but has no key column",
        ),
        (
            by(&[id[0], id[0]], StrategyDecl::Hash, None),
            "column \"id\" is twice in the key of table \"p.t\"",
        ),
        (
            range(vec![(at(1), at(1), "s1")]),
            "range 0 of table \"p.t\" is empty",
        ),
        (
            range(vec![(at(1), at(5), "s1"), (at(4), at(9), "s2")]),
            "ranges 0 and 1 of table \"p.t\" overlap",
        ),
        (
            range(vec![(at(1), at(5), "s7")]),
            "shard \"s7\", used by p.t, is not declared",
        ),
        (
            range(vec![(vec![], at(5), "s1")]),
            "entry 0 of table \"p.t\" has 0 values for a key of 1 columns",
        ),
        (range(vec![]), "table \"p.t\" names no shard to live on"),
        (
            list(vec![vec![int8(1)], vec![int8(1)]]),
            "entries 0 and 1 of table \"p.t\" are the same key",
        ),
        (
            list(vec![vec![int8(1), int8(2)]]),
            "entry 0 of table \"p.t\" has 2 values for a key of 1 columns",
        ),
        (
            by(&id, postgres, None),
            "table \"p.t\" names no shard to live on",
        ),
        (
            by(&id, directory, None),
            "shard \"3\", used by p.t, is not declared",
        ),
    ] {
        refused(three().table("p", "t", table), &[expected]);
    }
}

/// One table for each strategy, by an int8.
fn all_strategies() -> ShardMap {
    let id = [("id", KeyType::Int8)];
    let at = |value| vec![Cut::Value(int8(value))];
    let range = StrategyDecl::Range {
        ranges: vec![
            (vec![Cut::Min], at(0), "s1".into()),
            (at(0), at(1000), "s2".into()),
        ],
        default: Some("s3".into()),
    };
    let list = StrategyDecl::List {
        keys: vec![(vec![int8(5)], "s2".into())],
        default: Some("s1".into()),
    };
    let owners = (-3000..=3000).map(|i: i128| (vec![int8(i)], ShardId(i.rem_euclid(3) as u16)));
    let directory = StrategyDecl::Directory(Arc::new(Directory::new(owners, ShardSet::empty())));
    let remainders = ["s1", "s2", "s3", "s1"].map(str::to_owned).to_vec();
    let mut builder = three();
    builder
        .table("public", "hash", by(&id, StrategyDecl::Hash, None))
        .table("public", "range", by(&id, range, None))
        .table("public", "list", by(&id, list, None))
        .table("public", "directory", by(&id, directory, None))
        .table(
            "public",
            "postgres",
            by(&id, StrategyDecl::Postgres { remainders }, None),
        );
    builder.build().unwrap()
}

#[test]
fn each_strategy_finds_the_owner() {
    let map = all_strategies();
    let owner = |table: &str, key| map.owner(&sharded(&map, table), &[int8(key)]).unwrap().0;
    assert_eq!(
        [
            owner("range", -1),
            owner("range", 999),
            owner("range", 1000)
        ],
        [0, 1, 2]
    );
    assert_eq!([owner("list", 5), owner("list", 6)], [1, 0]);
    assert_eq!([owner("directory", 2), owner("directory", 501)], [2, 0]);
    // What the directory does not have may have been added since: it may be anywhere.
    let directory = sharded(&map, "directory");
    let unknown = [int8(3001)];
    assert_eq!(
        map.owner(&directory, &unknown),
        Err(NoOwner::NotInDirectory)
    );
    assert_eq!(
        map.owners_with_prefix(&directory, &unknown),
        directory.shards
    );
    for name in ["hash", "range", "list", "directory", "postgres"] {
        let table = sharded(&map, name);
        assert_eq!(table.strategy.name(), name);
        assert_eq!(
            table.owner(&[]),
            Err(NoOwner::Columns {
                expected: 1,
                got: 0
            })
        );
        assert_eq!(map.owners_with_prefix(&table, &[]), table.shards);
    }
}

#[test]
fn an_interval_never_reaches_too_few_shards_and_just_the_right_ones_if_short() {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let map = all_strategies();
    for name in ["hash", "range", "list", "directory", "postgres"] {
        let table = sharded(&map, name);
        for (from, to) in [(-5, 3), (0, 1), (7, 7), (9, 2), (990, 1010), (-3000, 3000)] {
            let truth: ShardSet = (from..=to)
                .map(|key| table.owner(&[int8(key)]).unwrap())
                .collect();
            let (low, high, before, after) = (int8(from), int8(to), int8(from - 1), int8(to + 1));
            for (lower, upper) in [
                (Included(&low), Included(&high)),
                (Included(&low), Unbounded),
                (Unbounded, Included(&high)),
                (Excluded(&before), Excluded(&after)),
            ] {
                let owners = map.owners_between(&table, lower, upper);
                assert!(
                    truth.is_subset(&owners),
                    "{name} {from}..={to}: {truth:?} {owners:?}"
                );
                assert!(owners.is_subset(&table.shards));
            }
            if to - from < 60 {
                let owners = map.owners_between(&table, Included(&low), Included(&high));
                assert_eq!(owners, truth, "{name} {from}..={to}");
            }
        }
    }
}

#[test]
fn intervals_of_text_reach_all_shards_unless_the_collation_compares_bytes() {
    use std::ops::Bound::{Included, Unbounded};
    let text = |text: &str| {
        KeyType::Text
            .from_text(text.as_bytes(), &TextContext::UTC)
            .unwrap()
    };
    let m = || vec![Cut::Value(text("m"))];
    let ranges = vec![
        (vec![Cut::Min], m(), "s1".into()),
        (m(), vec![Cut::Max], "s2".into()),
    ];
    let strategy = StrategyDecl::Range {
        ranges,
        default: None,
    };
    let mut builder = three();
    builder.table("public", "t", by(&[("k", KeyType::Text)], strategy, None));
    let table = sharded(&builder.build().unwrap(), "t");
    assert_eq!(
        table.owners_between(Included(&text("z")), Unbounded),
        table.shards
    );
    let bytewise = table.owners_between_bytewise(Included(&text("z")), Unbounded);
    assert_eq!(bytewise, ShardSet::one(ShardId(1)));
    assert_eq!(table.owner(&[text("a")]), Ok(ShardId(0)));
}

#[test]
fn a_prefix_of_a_composite_key_reaches_a_subset_or_all() {
    let columns = [("tenant", KeyType::Int8), ("id", KeyType::Int8)];
    let keys = vec![
        (vec![int8(1), int8(1)], "s1".to_owned()),
        (vec![int8(1), int8(2)], "s2".to_owned()),
        (vec![int8(2), int8(1)], "s3".to_owned()),
    ];
    let list = StrategyDecl::List {
        keys,
        default: None,
    };
    let mut builder = three();
    builder
        .table("public", "list", by(&columns, list, None))
        .table("public", "hash", by(&columns, StrategyDecl::Hash, None));
    let map = builder.build().unwrap();
    let (list, hash) = (sharded(&map, "list"), sharded(&map, "hash"));
    assert_eq!(list.owners_with_prefix(&[int8(1)]), ShardSet::all(2));
    assert_eq!(list.owners_with_prefix(&[int8(3)]), ShardSet::empty());
    assert_eq!(
        list.owners_with_prefix(&[int8(2), int8(1)]),
        ShardSet::one(ShardId(2))
    );
    assert_eq!(hash.owners_with_prefix(&[int8(1)]), map.all());
    assert_eq!(hash.owners_with_prefix(&[int8(1), int8(2)]).len(), 1);
}
