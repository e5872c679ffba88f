//! Tables that were partitions of declared ones and are not any longer: they keep their rows on all shards.
//!
//! No declaration names them, and no catalog remembers what they were. What is left of it are their columns, which a
//! partition shares with its parent, and that they lie on every shard. With exactly these columns a table lives as the
//! partitioned one does. Where the columns of one are among those of the other the parent may have been changed since,
//! or the table may never have been a part of it: then it is certain only that it must not be taken for one of the home
//! shard. A declaration by name or pattern goes before all this.

use std::collections::{BTreeSet, HashMap};

use mothership_shardmap::{Declared, Placement, ShardMap};

use mothership_catalog::{Catalog, Name, Relation, RelationKind};

/// Where such a table lives.
#[derive(Debug, Clone)]
pub enum Left {
    /// As the tables do of which it may have been a part.
    As(Placement),
    /// It may have been a part of one, or not.
    Unclear,
}

type Columns<'c> = BTreeSet<(&'c str, u32)>;

/// A table that has or had parts, and where it lives.
struct PartitionedTable<'c> {
    placement: Placement,
    columns: Columns<'c>,
    /// Those that every part has, whatever became of the others: the shard key and what it is partitioned by.
    lasting: Columns<'c>,
    /// What inherits from a table that is not partitioned may have any key.
    is_partitioned: bool,
}

impl PartitionedTable<'_> {
    /// Whether a table with this primary key may have been a part: whatever is unique in a sharded table, and in its
    /// parts, has the shard key in it.
    fn may_have_part_with(&self, key: &[String]) -> bool {
        match &self.placement {
            Placement::Sharded(sharded) if self.is_partitioned => {
                let mut columns = sharded.columns.iter();
                sharded.allow_unenforced_unique || columns.all(|(name, _)| key.contains(name))
            }
            Placement::Home | Placement::Reference | Placement::Sharded(_) => true,
        }
    }
}

/// All of them, by name. `placement` says where a table lives that is no part of another one.
pub fn left(
    catalog: &Catalog,
    map: &ShardMap,
    placement: impl Fn(&Relation) -> Placement,
) -> HashMap<Name, Left> {
    let tables = || {
        catalog
            .relations
            .values()
            .filter(|r| r.kind == RelationKind::Table)
    };
    let roots = || tables().filter(|r| r.parent.is_none());
    let with_parts = roots().filter(|r| r.partitioning.is_some() || r.has_children);
    let wholes: Vec<PartitionedTable<'_>> = with_parts
        .filter_map(|relation| whole(relation, placement(relation)))
        .collect();
    if wholes.is_empty() {
        return HashMap::new();
    }
    let candidates = roots().filter(|relation| {
        let Name { schema, name } = &relation.name;
        let undeclared = matches!(map.declared(schema, name), Declared::Home | Declared::Auto);
        undeclared && catalog.everywhere.contains(&relation.name)
    });
    let found = candidates.filter_map(|relation| {
        let own = match placement(relation) {
            Placement::Home => None,
            // What has a primary key by which the map divides it may have been divided by that from the beginning.
            own => Some((own, relation.keys.iter().find(|key| key.primary)?)),
        };
        let one = match &own {
            None => of(&columns(relation), wholes.iter()),
            Some((own, key)) => {
                let other = wholes
                    .iter()
                    .filter(|whole| whole.may_have_part_with(&key.columns))
                    .filter(|whole| !same_place(own, &whole.placement));
                of(&columns(relation), other).map(|_| Left::Unclear)
            }
        };
        Some((relation.name.clone(), one?))
    });
    found.collect()
}

fn whole(relation: &Relation, placement: Placement) -> Option<PartitionedTable<'_>> {
    let columns = columns(relation);
    let of_key: Vec<&str> = match &placement {
        Placement::Home => return None,
        Placement::Reference => Vec::new(),
        Placement::Sharded(sharded) => sharded.columns.iter().map(|(n, _)| n.as_str()).collect(),
    };
    let partitioned_by = relation.partitioning.iter().flat_map(|p| &p.columns);
    let lasts = |name: &str| of_key.contains(&name) || partitioned_by.clone().any(|c| c == name);
    let lasting: Columns<'_> = columns
        .iter()
        .filter(|(name, _)| lasts(name))
        .copied()
        .collect();
    Some(PartitionedTable {
        is_partitioned: relation.partitioning.is_some(),
        lasting,
        columns,
        placement,
    })
}

fn columns(relation: &Relation) -> Columns<'_> {
    let columns = relation.columns.iter();
    columns.map(|c| (c.name.as_str(), c.type_oid)).collect()
}

/// What a table with these columns was, if it may have been a part.
fn of<'c>(
    columns: &Columns<'_>,
    mut wholes: impl Iterator<Item = &'c PartitionedTable<'c>> + Clone,
) -> Option<Left> {
    let mut equal = wholes.clone().filter(|whole| whole.columns == *columns);
    if let Some(first) = equal.next() {
        return Some(
            match equal.all(|other| same_place(&first.placement, &other.placement)) {
                true => Left::As(first.placement.clone()),
                false => Left::Unclear,
            },
        );
    }
    let is_like = |whole: &PartitionedTable<'_>| {
        let among = columns.is_subset(&whole.columns) || whole.columns.is_subset(columns);
        among && !whole.lasting.is_empty() && whole.lasting.is_subset(columns)
    };
    wholes.any(is_like).then_some(Left::Unclear)
}

/// Whether rows that lie as one says are where the other looks for them.
pub fn same_place(one: &Placement, other: &Placement) -> bool {
    match (one, other) {
        (Placement::Home, Placement::Home) | (Placement::Reference, Placement::Reference) => true,
        (Placement::Sharded(one), Placement::Sharded(other)) => {
            one.group == other.group && one.columns == other.columns
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mothership_catalog::text;
    use mothership_shardmap::{
        DefaultTables, KeyType, ShardMapBuilder, ShardedDecl, StrategyDecl, TableDecl,
    };

    const CATALOG: &str = "
schema public
table public.log
  column tenant_id bigint
  column at date
  column note text
  primary key tenant_id, at
  partition by range (at)
table public.plain
  column tenant_id bigint
  column other text
table public.detached
  column note text
  column at date
  column tenant_id bigint
table public.detached_with_key
  column tenant_id bigint
  column at date
  column note text
  primary key tenant_id, at
table public.newer_with_key
  column tenant_id bigint
  column at date
  column note text
  column more text
  primary key tenant_id, at
table public.history
  column id bigint
  column tenant_id bigint
  column at date
  column note text
  primary key id
table public.same_columns_other_key
  column tenant_id bigint
  column at date
  column note text
  primary key at
table public.older
  column tenant_id bigint
  column at date
table public.newer
  column tenant_id bigint
  column at date
  column note text
  column more text
table public.other_type
  column tenant_id bigint
  column at date
  column note int
table public.without_key
  column at date
  column note text
table public.at_home
  column tenant_id bigint
  column at date
  column note text
table public.said_to_be_of_home
  column tenant_id bigint
  column at date
  column note text
";

    /// What is found where undeclared tables are divided so, and `log` by this key, or as it comes.
    fn found(default: DefaultTables, log: Option<&str>) -> Vec<String> {
        let mut catalog = text::parse(CATALOG).unwrap();
        let all = catalog
            .relations
            .keys()
            .filter(|name| name.name != "at_home");
        catalog.everywhere = all.cloned().collect();
        let mut builder = ShardMapBuilder::new(1);
        builder.shard("a").shard("b");
        let key = |column: &str| {
            TableDecl::Sharded(ShardedDecl {
                columns: vec![(column.to_owned(), KeyType::Int8)],
                strategy: StrategyDecl::Hash,
                group: None,
                allow_unenforced_unique: false,
            })
        };
        builder.default_tables(default);
        if let Some(column) = log {
            builder.table("public", "log", key(column));
        }
        builder.table("public", "plain", key("tenant_id"));
        builder.table("public", "said_to_be_of_home", TableDecl::Home);
        let map = builder.build().unwrap();
        let own = |relation: &Relation| {
            let key = relation.keys.iter().flat_map(|key| &key.columns);
            let key: Vec<(&String, KeyType)> = key.map(|name| (name, KeyType::Int8)).collect();
            map.placement(&relation.name.schema, &relation.name.name, &key)
        };
        let mut found: Vec<String> = left(&catalog, &map, own)
            .iter()
            .map(|(name, left)| match left {
                Left::As(Placement::Sharded(sharded)) => {
                    format!("{} by {}", name.name, sharded.columns[0].0)
                }
                left => format!("{} {left:?}", name.name),
            })
            .collect();
        found.sort();
        found
    }

    #[test]
    fn what_was_a_partition_is_told_by_its_columns() {
        assert_eq!(
            found(DefaultTables::Home, Some("tenant_id")),
            [
                "detached by tenant_id",
                "detached_with_key by tenant_id",
                "history Unclear",
                "newer Unclear",
                "newer_with_key Unclear",
                "older Unclear",
                "same_columns_other_key by tenant_id",
            ]
        );
    }

    #[test]
    fn what_has_a_key_of_its_own_was_no_part_of_a_table_with_another() {
        let without_key = ["detached by tenant_id", "newer Unclear", "older Unclear"];
        assert_eq!(found(DefaultTables::Auto, None), without_key);
        // What is declared lies elsewhere, and a part of it would have this key.
        assert_eq!(
            found(DefaultTables::Auto, Some("at")),
            [
                "detached by at",
                "detached_with_key Unclear",
                "newer Unclear",
                "newer_with_key Unclear",
                "older Unclear",
                "without_key Unclear",
            ]
        );
    }
}
