//! What a write reaches beside the table that it names: partitions and children, and the rows that foreign keys change
//! in other tables.
//!
//! Pure. PostgreSQL does all of it on the server where it begins, out of the statement's sight.

use std::collections::HashMap;

use crate::catalog::{Action, Catalog, ForeignKey, Name, Relation};

use super::names::{Names, Place};
use super::refuse::{Reason, Refusal};

/// Which tables are parts of others, and which refer to them.
#[derive(Default)]
pub struct Kin<'a> {
    children: HashMap<&'a Name, Vec<&'a Relation>>,
    referring: HashMap<&'a Name, Vec<(&'a Relation, &'a ForeignKey)>>,
}

impl<'a> Kin<'a> {
    /// Looks at every relation once.
    pub fn of(catalog: &'a Catalog) -> Kin<'a> {
        let mut kin = Kin::default();
        for relation in catalog.relations.values() {
            if let Some(parent) = &relation.parent {
                kin.children.entry(parent).or_default().push(relation);
            }
            for key in &relation.foreign_keys {
                let referring = kin.referring.entry(&key.target).or_default();
                referring.push((relation, key));
            }
        }
        kin
    }
}

/// What is done to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Events {
    /// INSERT.
    pub insert: bool,
    /// UPDATE.
    pub update: bool,
    /// DELETE.
    pub delete: bool,
    /// TRUNCATE.
    pub truncate: bool,
}

impl Events {
    /// INSERT alone.
    pub const INSERT: Events = Events::of(true, false, false);
    /// UPDATE alone.
    pub const UPDATE: Events = Events::of(false, true, false);
    /// DELETE alone.
    pub const DELETE: Events = Events::of(false, false, true);
    /// All that MERGE may do.
    pub const ANY: Events = Events::of(true, true, true);
    /// TRUNCATE alone.
    pub const TRUNCATE: Events = Events {
        truncate: true,
        ..Events::of(false, false, false)
    };

    const fn of(insert: bool, update: bool, delete: bool) -> Events {
        Events {
            insert,
            update,
            delete,
            truncate: false,
        }
    }

    /// Both.
    pub fn and(self, other: Events) -> Events {
        Events {
            insert: self.insert || other.insert,
            update: self.update || other.update,
            delete: self.delete || other.delete,
            truncate: self.truncate || other.truncate,
        }
    }
}

/// A write of a table.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// What it does.
    pub events: Events,
    /// The columns that an UPDATE sets, if that is certain.
    pub set: Option<Vec<String>>,
}

impl From<Events> for Change {
    fn from(events: Events) -> Change {
        Change { events, set: None }
    }
}

/// A table that a write reaches, and what happens to its rows there.
pub type Reached<'a> = (&'a Relation, Events);

/// What a key's action does to the rows that refer to one that is changed.
fn follows(key: &ForeignKey, events: Events) -> Events {
    let mut found = Events::default();
    if events.update && key.on_update != Action::Nothing {
        found = found.and(Events::UPDATE);
    }
    match key.on_delete {
        Action::Cascade if events.delete => found.and(Events::DELETE),
        Action::Set if events.delete => found.and(Events::UPDATE),
        _ => found,
    }
}

impl<'a> Names<'a> {
    /// All tables that a write reaches, the one that it names first. `truncates` also what refers to them.
    ///
    /// # Errors
    /// When a foreign key would set the shard key of rows there.
    pub fn reached(
        &self,
        written: &'a Relation,
        change: &Change,
        truncates: bool,
    ) -> Result<Vec<Reached<'a>>, Refusal> {
        let mut reached: Vec<Reached<'a>> = vec![(written, change.events)];
        let mut open = reached.clone();
        // Columns are known of the statement's own UPDATE; a trigger may set others.
        let set = change.set.as_ref();
        let set = set.filter(|_| !written.triggers.iter().any(|t| t.may_change_row));
        while let Some((relation, mut events)) = open.pop() {
            if relation.partitioning.is_some() && events.update {
                // A row goes from one partition to another one.
                events = events.and(Events::ANY);
            }
            let mut next: Vec<Reached<'a>> = Vec::new();
            let children = self.kin.children.get(&relation.name);
            next.extend(children.into_iter().flatten().map(|child| (*child, events)));
            let referring = self.kin.referring.get(&relation.name);
            for (other, key) in referring.into_iter().flatten() {
                if truncates {
                    next.push((other, events));
                    continue;
                }
                let stays = |set: &Vec<String>| !key.target_columns.iter().any(|c| set.contains(c));
                let of_written = relation.name == written.name && set.is_some_and(stays);
                let events = Events {
                    update: events.update && !of_written,
                    ..events
                };
                self.keeps_shard_key(relation, (other, key), events)?;
                next.push((other, follows(key, events)));
            }
            for (relation, events) in next {
                let known = reached
                    .iter_mut()
                    .find(|(known, _)| known.name == relation.name);
                match known {
                    _ if events == Events::default() => {}
                    Some((_, known)) if known.and(events) == *known => {}
                    Some((_, known)) => {
                        *known = known.and(events);
                        open.push((relation, *known));
                    }
                    None => {
                        reached.push((relation, events));
                        open.push((relation, events));
                    }
                }
            }
        }
        Ok(reached)
    }

    /// Refuses an action that sets the shard key of rows where they are.
    fn keeps_shard_key(
        &self,
        target: &Relation,
        (relation, key): (&Relation, &ForeignKey),
        events: Events,
    ) -> Result<(), Refusal> {
        let Place::Sharded(keyed) = self.place(&relation.name) else {
            return Ok(());
        };
        let position = |column: &String| {
            let mut columns = keyed.sharded.columns.iter();
            columns.position(|(name, _)| name == column)
        };
        let of_key = |columns: &[String]| columns.iter().any(|c| position(c).is_some());
        // A key that is another one's, which has stayed on its shard.
        let follows = |column: &String, target_column: &String| match self.place(&target.name) {
            Place::Sharded(theirs) => {
                let at = position(column);
                let theirs = at.and_then(|at| theirs.sharded.columns.get(at));
                at.is_none() || theirs.is_some_and(|(name, _)| name == target_column)
            }
            _ => position(column).is_none(),
        };
        let mut pairs = key.columns.iter().zip(&key.target_columns);
        let updated = match key.on_update {
            Action::Nothing => false,
            Action::Cascade => !pairs.all(|(column, target)| follows(column, target)),
            Action::Set => of_key(&key.columns),
        };
        let set = match key.delete_sets.as_slice() {
            [] => &key.columns,
            listed => listed,
        };
        let deleted = key.on_delete == Action::Set && of_key(set);
        if events.update && updated || events.delete && deleted {
            return Err(Refusal::of_table(Reason::ForeignKeyAction, &relation.name));
        }
        Ok(())
    }
}
