//! Constraints that shards can enforce for the whole table, each for its own rows.

use mothership_shardmap::{Placement, Sharded};
use sqlparser::ast::{
    ColumnDef, ColumnOption, CreateTable, ExcludeConstraintOperator, Expr, ForeignKeyConstraint,
    Ident, IndexColumn, ReferentialAction, TableConstraint,
};

use crate::PlanContext;
use crate::grammar;
use crate::names::{Names, Place, Resolved, folded};
use crate::refuse::{Reason, Refusal};
use mothership_catalog::{Action, Name, Relation};

use super::column::about_column;
use super::create::{Future, future};
use super::path_of;

pub(super) fn contains_key(
    columns: &[String],
    sharded: &Sharded,
    table: &Name,
    reason: Reason,
) -> Result<(), Refusal> {
    let missing = sharded
        .columns
        .iter()
        .find(|(name, _)| !columns.contains(name));
    match missing {
        None => Ok(()),
        Some((name, _)) => Err(about_column(reason, table, name)),
    }
}

/// The plain columns of an index, without its expressions.
pub(super) fn plain_columns(columns: &[IndexColumn]) -> Vec<String> {
    let plain = columns
        .iter()
        .filter_map(|column| match &column.column.expr {
            Expr::Identifier(ident) => Some(folded(ident)),
            _ => None,
        });
    plain.collect()
}

/// Whether an exclusion constraint compares by `=`.
fn is_equality(operator: &ExcludeConstraintOperator) -> bool {
    match operator {
        ExcludeConstraintOperator::Token(token) => token == "=",
        ExcludeConstraintOperator::PGOperator(path) => {
            path.iter().map(String::as_str).eq(["pg_catalog", "="])
        }
    }
}

struct Foreign {
    columns: Vec<String>,
    target: Vec<String>,
    target_columns: Vec<String>,
    on_update: Action,
    on_delete: Action,
    /// The columns that ON DELETE sets; none stands for all.
    delete_sets: Vec<String>,
}

fn action_of(action: Option<ReferentialAction>) -> Action {
    use ReferentialAction as R;
    match action {
        None | Some(R::NoAction | R::Restrict) => Action::Nothing,
        Some(R::Cascade) => Action::Cascade,
        Some(R::SetNull | R::SetDefault) => Action::Set,
    }
}

fn foreign_of(key: &ForeignKeyConstraint, own: Option<&Ident>) -> Foreign {
    // Behind the columns of the other table stand those that ON DELETE sets, which the parser does not know.
    let referred = |sets: bool| -> Vec<String> {
        let columns = key.referred_columns.iter();
        let columns = columns.filter(|name| (name.quote_style == Some(grammar::MARK)) == sets);
        columns.map(folded).collect()
    };
    Foreign {
        columns: match own {
            Some(column) => vec![folded(column)],
            None => key.columns.iter().map(folded).collect(),
        },
        target: path_of(&key.foreign_table),
        target_columns: referred(false),
        on_update: action_of(key.on_update),
        on_delete: action_of(key.on_delete),
        delete_sets: referred(true),
    }
}

/// The constraints that a definition makes.
#[derive(Default)]
pub(super) struct Constraints {
    /// The columns of each primary or unique key.
    keys: Vec<Vec<String>>,
    /// Those of the primary key.
    primary: Option<Vec<String>>,
    foreign: Vec<Foreign>,
    /// The columns that each exclusion constraint compares by equality.
    exclusions: Vec<Vec<String>>,
    /// What the parser has no other word for.
    other: bool,
}

impl Constraints {
    pub(super) fn of(create: &CreateTable) -> Constraints {
        let mut all = Constraints::default();
        create.columns.iter().for_each(|c| all.add_column(c));
        create.constraints.iter().for_each(|c| all.add(c));
        all
    }

    pub(super) fn add_column(&mut self, column: &ColumnDef) {
        for option in &column.options {
            match &option.option {
                ColumnOption::PrimaryKey(_) => {
                    self.keys.push(vec![folded(&column.name)]);
                    self.primary = self.keys.last().cloned();
                }
                ColumnOption::Unique(_) => self.keys.push(vec![folded(&column.name)]),
                ColumnOption::ForeignKey(key) => {
                    self.foreign.push(foreign_of(key, Some(&column.name)));
                }
                _ => {}
            }
        }
    }

    pub(super) fn add(&mut self, constraint: &TableConstraint) {
        match constraint {
            TableConstraint::PrimaryKey(primary) => {
                self.keys.push(plain_columns(&primary.columns));
                self.primary = self.keys.last().cloned();
            }
            TableConstraint::Unique(unique) => self.keys.push(plain_columns(&unique.columns)),
            TableConstraint::ForeignKey(key) => self.foreign.push(foreign_of(key, None)),
            TableConstraint::Check(_) => {}
            TableConstraint::Exclude(exclude) => {
                let equal = exclude
                    .elements
                    .iter()
                    .filter(|element| is_equality(&element.operator));
                let equal: Vec<IndexColumn> = equal.map(|element| element.column.clone()).collect();
                self.exclusions.push(plain_columns(&equal));
            }
            _ => self.other = true,
        }
    }

    /// ADD UNIQUE or PRIMARY KEY USING INDEX. PostgreSQL refuses an index that is not unique, of plain columns and of this
    /// table; these have no key here.
    pub(super) fn add_index(&mut self, relation: &Relation, index: &str) {
        let key = relation.keys.iter().find(|key| key.name == index);
        self.keys.extend(key.map(|key| key.columns.clone()));
    }

    /// Refuses foreign keys that cannot be enforced.
    pub(super) fn check_foreign(
        &self,
        names: &Names<'_>,
        own: &Future,
        context: &PlanContext,
    ) -> Result<(), Refusal> {
        let mut foreign = self.foreign.iter();
        let primary = self.primary.as_deref();
        foreign.try_for_each(|foreign| foreign_key(names, foreign, (own, primary), context))
    }

    /// Refuses what must be unique over all shards, unless that is allowed.
    pub(super) fn check_unique(&self, sharded: &Sharded, table: &Name) -> Result<(), Refusal> {
        if sharded.allow_unenforced_unique {
            return Ok(());
        }
        for key in &self.keys {
            contains_key(key, sharded, table, Reason::UnenforcedUnique)?;
        }
        for columns in &self.exclusions {
            contains_key(columns, sharded, table, Reason::UnenforcedExclude)?;
        }
        if self.other {
            return Err(Refusal::of_table(Reason::DdlNotUnderstood, table));
        }
        Ok(())
    }
}

/// A foreign key is enforceable if the referenced rows are on every shard that may refer to them. `primary` are the columns
/// of the primary key that its table gets with it.
fn foreign_key(
    names: &Names<'_>,
    foreign: &Foreign,
    (own, primary): (&Future, Option<&[String]>),
    context: &PlanContext,
) -> Result<(), Refusal> {
    let refusal = || Refusal::of_table(Reason::UnenforcedForeignKey, &own.name);
    let itself = future(names, &foreign.target, &[], context).is_ok_and(|f| f.name == own.name);
    let target = match names.resolve(&foreign.target, context) {
        Resolved::Relation(relation, place) => Some((relation, place)),
        _ if itself => None,
        Resolved::Unknown(_) if own.is_home() => return Ok(()),
        _ => return Err(refusal()),
    };
    let Placement::Sharded(mine) = &own.placement else {
        return match (&own.placement, target.map(|(_, place)| place)) {
            (_, None) => Ok(()),
            // Reference tables are at home too, and everywhere.
            (Placement::Home, Some(Place::Home | Place::Reference)) => Ok(()),
            (Placement::Reference, Some(Place::Reference)) => Ok(()),
            _ => Err(refusal()),
        };
    };
    let is_key = |column: &String| mine.columns.iter().any(|(name, _)| name == column);
    let of_key = |columns: &[String]| columns.iter().any(is_key);
    let deleted = match foreign.delete_sets.as_slice() {
        [] => &foreign.columns,
        listed => listed,
    };
    let rewrites = Refusal::of_table(Reason::ForeignKeyAction, &own.name);
    if foreign.on_update == Action::Set && of_key(&foreign.columns)
        || foreign.on_delete == Action::Set && of_key(deleted)
    {
        return Err(rewrites);
    }
    let theirs = match &target {
        None => mine.clone(),
        Some((_, Place::Reference)) => {
            return match foreign.on_update == Action::Cascade && of_key(&foreign.columns) {
                true => Err(rewrites),
                false => Ok(()),
            };
        }
        Some((_, Place::Home)) => return Err(refusal()),
        Some((_, Place::Sharded(keyed))) => keyed.sharded.clone(),
    };
    let target_columns = if foreign.target_columns.is_empty() {
        let known =
            target.and_then(|(r, _)| r.keys.iter().find(|k| k.primary).map(|k| k.columns.clone()));
        let made = primary.filter(|_| itself).map(<[String]>::to_vec);
        known.or(made).ok_or_else(refusal)?
    } else {
        foreign.target_columns.clone()
    };
    // Both whole shard keys, position by position, must be among the columns that are compared. ON UPDATE CASCADE then
    // gives a key the value of another one, which has stayed on its shard.
    let pairs: Vec<(&String, &String)> = foreign.columns.iter().zip(&target_columns).collect();
    let enforced = mine.group == theirs.group
        && mine.columns.len() == theirs.columns.len()
        && mine
            .columns
            .iter()
            .zip(&theirs.columns)
            .all(|((a, _), (b, _))| pairs.contains(&(a, b)));
    if enforced { Ok(()) } else { Err(refusal()) }
}

/// What `CREATE TABLE` would refuse of the tables that are there already, as long as it is of consequence. Partitions are
/// left to their parents.
pub fn unenforced(names: &Names<'_>) -> Vec<(Name, Refusal)> {
    let context = PlanContext::default();
    let mut all = Vec::new();
    let relations = names.catalog.relations.values();
    for relation in relations.filter(|r| r.parent.is_none()) {
        let mut found = |refusal| all.push((relation.name.clone(), refusal));
        let constraint = |reason, name: &str| {
            let table = &relation.name.name;
            Refusal::about(
                reason,
                format!("constraint \"{name}\" of table \"{table}\""),
            )
        };
        let place = names.place(&relation.name);
        if let Place::Sharded(keyed) = &place {
            if !keyed.routable {
                found(Refusal::of_table(Reason::KeyType, &relation.name));
            }
            // A shard that has all rows keeps them unique by itself.
            let is_divided = keyed.sharded.shards.len() > 1;
            if is_divided && !keyed.sharded.allow_unenforced_unique {
                let keys = relation.keys.iter().map(|k| (k, Reason::UnenforcedUnique));
                let excludes = relation.exclusions.iter();
                let excludes = excludes.map(|k| (k, Reason::UnenforcedExclude));
                for (key, reason) in keys.chain(excludes) {
                    if contains_key(&key.columns, &keyed.sharded, &relation.name, reason).is_err() {
                        found(constraint(reason, &key.name));
                    }
                }
            }
        }
        let own = Future::existing(relation, &place);
        for key in &relation.foreign_keys {
            let foreign = Foreign {
                columns: key.columns.clone(),
                target: vec![key.target.schema.clone(), key.target.name.clone()],
                target_columns: key.target_columns.clone(),
                on_update: key.on_update,
                on_delete: key.on_delete,
                delete_sets: key.delete_sets.clone(),
            };
            if let Err(refusal) = foreign_key(names, &foreign, (&own, None), &context) {
                found(constraint(refusal.reason, &key.name));
            }
        }
    }
    all
}
