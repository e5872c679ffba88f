//! The leaf of PostgreSQL's hash partitioning, against real partitioned tables.

use std::num::NonZeroU32;

use mothership_shardmap::partition::leaf_remainder;
use mothership_shardmap::{KeyBytes, KeyType, TextContext};

use crate::cluster::{Cluster, Database, send_function, unhex};
use crate::values::{Random, seed, texts};

const VALUES: usize = 12_000;
const COMPOSITES: usize = 3_000;
const MODULI: [u32; 4] = [2, 3, 7, 16];

/// Each is a partition key; NULLs are put among the values of keys of several columns.
const KEYS: [&[KeyType]; 4] = [
    &[KeyType::Int4, KeyType::Text],
    &[KeyType::Uuid, KeyType::Date, KeyType::Numeric],
    &[KeyType::TimestampTz, KeyType::Bool],
    &[
        KeyType::Int8,
        KeyType::Int2,
        KeyType::Varchar,
        KeyType::Bytea,
        KeyType::Timestamp,
    ],
];

#[test]
fn the_leaf_is_the_one_that_postgres_chooses() {
    let seed = seed();
    let database = Cluster::shared().database("leaves");
    for key_type in KeyType::ALL {
        check(&database, seed, &[key_type], VALUES);
    }
    for key in KEYS {
        check(&database, seed, key, COMPOSITES);
    }
}

/// Loads a text per row and column, lets PostgreSQL read and distribute the rows, and compares.
fn check(database: &Database, seed: u64, key: &[KeyType], count: usize) {
    let names: Vec<&str> = key.iter().map(|key_type| key_type.name()).collect();
    let label = names.join("_");
    for (column, key_type) in key.iter().enumerate() {
        let mut random = Random::new(seed, &format!("{label}{column}"));
        database.load(
            &format!("{label}_texts_{column}"),
            &texts(&mut random, *key_type, count),
        );
    }
    database.run(&fill(&label, key));

    let each = |f: &dyn Fn(usize) -> String| (0..key.len()).map(f).collect::<Vec<_>>().join(", ");
    let hexes = each(&|i| format!("encode({}(v{i}), 'hex')", send_function(key[i])));
    let rows = database.query(
        "",
        &format!("select {hexes} from {label}_values order by id"),
    );
    assert!(rows.len() * 2 > count, "{label}: too few to be a test");
    let keys: Vec<_> = rows.iter().map(|row| read(row, key)).collect();
    for modulus in MODULI {
        let leaf = "substring(tableoid::regclass::text from '_r([0-9]+)$')";
        let leaves = database.query(
            "",
            &format!("select {leaf} from {label}_{modulus} order by id"),
        );
        assert_eq!(leaves.len(), keys.len());
        for ((keys, row), truth) in keys.iter().zip(&rows).zip(&leaves) {
            // Unsure are only numbers of thousands of digits.
            let Some(keys) = keys else { continue };
            let keys = keys.iter().zip(key);
            let values: Vec<_> = keys
                .map(|(k, key_type)| k.as_ref().map(|k| (*key_type, k)))
                .collect();
            let leaf = leaf_remainder(&values, NonZeroU32::new(modulus).unwrap());
            let truth: u32 = truth[0].as_ref().unwrap().parse().unwrap();
            assert_eq!(leaf, Some(truth), "{label} modulus {modulus}: {row:?}");
        }
    }
    let compared = keys.iter().flatten().count();
    println!("{label}: {compared} rows by {MODULI:?}");
}

/// A table of what PostgreSQL reads from the texts, and a partitioned copy of it for each modulus. A refused text is a
/// NULL, and is left out where the key is one column.
fn fill(label: &str, key: &[KeyType]) -> String {
    let each = |f: &dyn Fn(usize) -> String| (0..key.len()).map(f).collect::<Vec<_>>().join(" ");
    let list = |f: &dyn Fn(usize) -> String| (0..key.len()).map(f).collect::<Vec<_>>().join(", ");
    let reader = |i: usize| format!("read_{}", key[i].name());
    let readers = each(&|i| crate::cluster::reader(key[i].name(), &reader(i)));
    let columns = list(&|i| format!("f{i}.v v{i}"));
    let joins = each(&|i| match i {
        0 => format!("{label}_texts_0 a0"),
        _ => format!("join {label}_texts_{i} a{i} using (id)"),
    });
    let reads = each(&|i| format!("cross join lateral {}(a{i}.t) f{i}", reader(i)));
    let wanted = if key.len() == 1 {
        "f0.v is not null"
    } else {
        "true"
    };
    let mut script = format!(
        "set timezone = 'UTC'; {readers}
         create unlogged table {label}_values as select id, {columns} from {joins} {reads} where {wanted};\n"
    );
    let definitions = list(&|i| format!("v{i} {}", key[i].name()));
    let names = list(&|i| format!("v{i}"));
    for modulus in MODULI {
        let table = format!("{label}_{modulus}");
        script +=
            &format!("create table {table} (id int, {definitions}) partition by hash ({names});\n");
        for remainder in 0..modulus {
            script += &format!(
                "create unlogged table {table}_r{remainder} partition of {table}
                 for values with (modulus {modulus}, remainder {remainder});\n"
            );
        }
        script += &format!("insert into {table} select * from {label}_values;\n");
    }
    script
}

fn read(row: &[Option<String>], key: &[KeyType]) -> Option<Vec<Option<KeyBytes>>> {
    let read = |(value, key_type): (&Option<String>, &KeyType)| match value {
        None => Some(None),
        Some(hex) => key_type
            .from_binary(0, &unhex(hex), &TextContext::UTC)
            .ok()
            .map(Some),
    };
    row.iter().zip(key).map(read).collect()
}
