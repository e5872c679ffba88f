//! What a write reaches beside the table that it names: partitions and children, and the rows that foreign keys change
//! in other tables.
//!
//! Pure. PostgreSQL does all of it on the server where it begins, out of the statement's sight.

use std::collections::{BTreeMap, HashMap};

use mothership_catalog::types::{may_name, words};
use mothership_catalog::{
    Action, Catalog, DefaultKind, Events, ForeignKey, Function, Name, Relation, Trigger, TypeKind,
};

use super::fired::keeps_key;
use super::functions::{is_of_one_server, is_opaque};
use super::names::{Names, Place, Reach};
use super::refuse::{Reason, Refusal};

/// Which tables are parts of others, and which refer to them.
#[derive(Default)]
pub struct TableLinks<'a> {
    children: HashMap<&'a Name, Vec<&'a Relation>>,
    referring: HashMap<&'a Name, Vec<(&'a Relation, &'a ForeignKey)>>,
}

impl<'a> TableLinks<'a> {
    /// Looks at every relation once.
    pub fn of(catalog: &'a Catalog) -> TableLinks<'a> {
        let mut links = TableLinks::default();
        for relation in catalog.relations.values() {
            if let Some(parent) = &relation.parent {
                links.children.entry(parent).or_default().push(relation);
            }
            for key in &relation.foreign_keys {
                let referring = links.referring.entry(&key.target).or_default();
                referring.push((relation, key));
            }
        }
        links
    }

    /// What is a part of a table.
    pub fn children_of(&self, table: &Name) -> &[&'a Relation] {
        self.children.get(table).map_or(&[], Vec::as_slice)
    }
}

/// A write of a table.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// What it does.
    pub events: Events,
    /// The columns that an UPDATE sets, if that is certain.
    pub set: Option<Vec<String>>,
    /// COPY stores the rows, which no rule rewrites.
    pub is_copy: bool,
}

impl From<Events> for Change {
    fn from(events: Events) -> Change {
        Change {
            events,
            ..Change::default()
        }
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
            let children = self.links.children.get(&relation.name);
            next.extend(children.into_iter().flatten().map(|child| (*child, events)));
            let referring = self.links.referring.get(&relation.name);
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

/// How far what is fired out of sight may reach.
impl<'a> Names<'a> {
    /// Refuses a write that fires anything which is not proven to stay with its row.
    ///
    /// # Errors
    /// As said, and when a foreign key would set the shard key of rows.
    pub fn check_reached(
        &self,
        written: &'a Relation,
        change: &Change,
        truncates: bool,
    ) -> Result<(), Refusal> {
        let reached = self.reached(written, change, truncates)?;
        self.check_stored(&reached)?;
        for (relation, events) in reached {
            let place = self.place(&relation.name);
            // A write is not always done as the one that it was.
            let itself = relation.name == written.name && !change.events.truncate;
            for trigger in &relation.triggers {
                let rows = Events::ANY.meets(trigger.events);
                let fired = itself && rows || trigger.events.meets(events);
                if fired && !self.is_harmless(trigger, &place) {
                    return Err(Refusal::of_table(Reason::Trigger, &relation.name));
                }
                if fired && leads_off(self.condition_reach(trigger), &place) {
                    return Err(Refusal::of_table(Reason::FunctionUnproven, &relation.name));
                }
            }
            // What a foreign key does elsewhere is rewritten as a client's statement is.
            let is_copied = change.is_copy && relation.name == written.name;
            let is_rewritten = relation.has_rules && !change.events.truncate && !is_copied;
            let leads_off = || leads_off(self.rules_reach(relation, &self.far), &place);
            if is_rewritten && (!matches!(place, Place::Home) || leads_off()) {
                return Err(Refusal::of_table(Reason::Rules, &relation.name));
            }
        }
        Ok(())
    }

    /// Refuses to store rows by functions which are not proven to touch no other tables.
    ///
    /// # Errors
    /// As said.
    pub fn check_stored(&self, reached: &[Reached<'_>]) -> Result<(), Refusal> {
        for (relation, events) in reached {
            let stored = events.insert || events.update;
            if stored && leads_off(self.stored_reach(relation), &self.place(&relation.name)) {
                return Err(Refusal::of_table(Reason::FunctionUnproven, &relation.name));
            }
        }
        Ok(())
    }

    /// The refusal of a write on several shards that fires a trigger which is fired once for all of its rows, and shows
    /// that: it sees the rows as a table, or says something.
    ///
    /// # Errors
    /// When a foreign key would set the shard key of rows.
    pub fn fires_once(
        &self,
        written: &'a Relation,
        change: &Change,
    ) -> Result<Option<Refusal>, Refusal> {
        let says = |trigger: &Trigger| {
            let functions = self.catalog.functions.get(&trigger.function);
            let mut functions = functions.into_iter().flatten();
            functions.any(|function| says_something(&function.body))
        };
        let reached = self.reached(written, change, false)?;
        let shown = reached.iter().find(|(relation, events)| {
            let is_sharded = matches!(self.place(&relation.name), Place::Sharded(_));
            let mut triggers = relation.triggers.iter();
            is_sharded
                && triggers.any(|trigger| {
                    let once = trigger.sees_all_rows || !trigger.each_row && says(trigger);
                    // A write is not always done as the one that it was.
                    once && (relation.name == written.name || trigger.events.meets(*events))
                })
        });
        Ok(shown.map(|(relation, _)| Refusal::of_table(Reason::StatementTrigger, &relation.name)))
    }

    fn condition_reach(&self, trigger: &Trigger) -> Reach {
        let condition = trigger.condition.as_ref();
        condition.map_or(Reach::Nothing, |code| self.code_reach(code))
    }

    /// How far the functions may reach that stand in an expression as PostgreSQL prints it.
    pub fn code_reach(&self, code: &str) -> Reach {
        if !self.anything_declared() {
            return Reach::Nothing;
        }
        let lower = code.to_ascii_lowercase();
        let named = self.apart().named_in(&lower);
        let called = lower.match_indices('(').filter_map(|(at, _)| {
            let before = lower.get(..at)?.trim_end();
            words(before.trim_end_matches('"')).next_back()
        });
        let known = called.map(|name| match is_opaque(name) {
            true => Reach::Anything,
            false => {
                let built_in = match is_of_one_server(name) {
                    true => Reach::Home,
                    false => Reach::Nothing,
                };
                let meant = self.reach(name).unwrap_or(built_in);
                meant.max(named.reach(name))
            }
        });
        let odd = self.odd_reach().filter(|(name, _)| may_name(&lower, name));
        known
            .chain(odd.map(|(_, reach)| reach))
            .max()
            .unwrap_or(Reach::Nothing)
    }

    /// How far what is computed for each row that is stored may reach: constraints, those of domains, and at home defaults.
    fn stored_reach(&self, relation: &Relation) -> Reach {
        let checks = relation
            .checks
            .iter()
            .map(|c| self.code_reach(&c.expression));
        let columns = relation.columns.iter().map(|column| {
            let default = match (&column.default, self.place(&relation.name)) {
                // Elsewhere those count that are not given.
                (_, Place::Sharded(_) | Place::Reference) => Reach::Nothing,
                (default, Place::Home) => self.default_reach(default),
            };
            let computed = column.generated.as_deref().unwrap_or_default();
            let computed = self.code_reach(computed);
            default.max(computed).max(self.type_reach(column.type_oid))
        });
        let keys = self.code_reach(&relation.key_code);
        let all = checks.chain(columns);
        all.max().unwrap_or(Reach::Nothing).max(keys)
    }

    /// How far the conditions and actions of a table's rules may reach. `far` are the relations that are known to lead off
    /// when they are written.
    fn rules_reach(&self, relation: &Relation, far: &BTreeMap<Name, Reason>) -> Reach {
        let rules = &relation.rules;
        if rules.is_empty() || !self.anything_declared() {
            return Reach::Nothing;
        }
        let lower = rules.to_ascii_lowercase();
        let mut others = far.keys().filter(|name| **name != relation.name);
        let leads_off = self.mentions_known(rules)
            || self.calls_unnamed(rules, None)
            || others.any(|name| is_named(&lower, &name.name));
        match leads_off {
            true => Reach::Anything,
            false => self.code_reach(rules),
        }
    }

    /// How far a default may reach.
    pub fn default_reach(&self, default: &DefaultKind) -> Reach {
        match default {
            DefaultKind::None | DefaultKind::Sequence(_) => Reach::Nothing,
            DefaultKind::Constant(code)
            | DefaultKind::Stable(code)
            | DefaultKind::Volatile(code) => self.code_reach(code),
        }
    }

    /// How far the constraints of the domains may reach that values of a type are made of.
    pub(super) fn type_reach(&self, oid: u32) -> Reach {
        let under = self.catalog.types_under(oid);
        let of = |kind: &TypeKind| match kind {
            TypeKind::Domain { checks, .. } => self.code_reach(checks),
            TypeKind::Enum(_) | TypeKind::Other => Reach::Nothing,
        };
        // Which types are in it is not known.
        if under.iter().any(|(_, kind)| **kind == TypeKind::Other) {
            let all = self.catalog.types.values().map(|info| of(&info.kind));
            return all.max().unwrap_or(Reach::Nothing);
        }
        let kinds = under.into_iter().map(|(_, kind)| of(kind));
        kinds.max().unwrap_or(Reach::Nothing)
    }

    /// How far a trigger may reach.
    pub fn trigger_reach(&self, trigger: &Trigger) -> Reach {
        let Name { schema, name } = &trigger.function;
        match self.reach_of(Some(schema), name) {
            Some(reach) => reach,
            None if trigger.function.is_system() => Reach::Nothing,
            None => Reach::Anything,
        }
    }

    fn is_harmless(&self, trigger: &Trigger, place: &Place) -> bool {
        let reach = self.trigger_reach(trigger);
        match place {
            Place::Home => reach < Reach::Anything,
            // It runs once per shard, and might see another time or chance on each.
            Place::Reference => false,
            Place::Sharded(keyed) => {
                let functions = self.catalog.functions.get(&trigger.function);
                let mut functions = functions.into_iter().flatten();
                let columns = &keyed.sharded.columns;
                let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
                let sets_key = |function: &Function| !keeps_key(function, &names, &keyed.types());
                reach == Reach::Nothing && !(trigger.may_change_row && functions.any(sets_key))
            }
        }
    }

    /// The relations of which a write may reach what is not at home, each with the reason. `known` are those that were
    /// found before.
    pub(super) fn far(&self, known: &BTreeMap<Name, Reason>) -> BTreeMap<Name, Reason> {
        let mut far = known.clone();
        for relation in self.catalog.relations.values() {
            let mut reaches = relation
                .triggers
                .iter()
                .map(|t| self.trigger_reach(t).max(self.condition_reach(t)));
            let own = reaches.any(|reach| reach == Reach::Anything);
            let stored = || match self.stored_reach(relation) {
                Reach::Anything => Some(Reason::FunctionUnproven),
                Reach::Nothing | Reach::Home => None,
            };
            let rewritten = || match self.rules_reach(relation, known) {
                Reach::Anything => Some(Reason::Rules),
                Reach::Nothing | Reach::Home => None,
            };
            let own = own.then_some(Reason::Trigger).or_else(stored);
            let own = own.or_else(rewritten);
            let through = relation.definition.as_ref().and_then(|definition| {
                let lower = definition.to_ascii_lowercase();
                let mut found = known.iter();
                let (_, reason) = found.find(|(name, _)| is_named(&lower, &name.name))?;
                Some(*reason)
            });
            if let Some(reason) = own.or(through) {
                far.entry(relation.name.clone()).or_insert(reason);
            }
            if let Some(reason) = far.get(&relation.name).copied() {
                let keys = relation.foreign_keys.iter().filter(|key| key.cascades());
                let above = relation.parent.iter().chain(keys.map(|key| &key.target));
                for above in above {
                    far.entry(above.clone()).or_insert(reason);
                }
            }
        }
        far
    }

    /// The relation of that kind that a text may name.
    pub fn far_named(&self, text: &str) -> Option<(&Name, Reason)> {
        if self.far.is_empty() {
            return None;
        }
        let lower = text.to_ascii_lowercase();
        let named = self.apart().named_in(&lower);
        let mut far = self.far.iter();
        let (name, reason) = far.find(|(name, _)| {
            let is_meant = self.apart().may_mean(name) || named.has(&name.schema);
            is_meant && is_named(&lower, &name.name)
        })?;
        Some((name, *reason))
    }
}

/// Whether what reaches so far leaves the rows that are there.
pub fn leads_off(reach: Reach, place: &Place) -> bool {
    match place {
        Place::Home => reach == Reach::Anything,
        Place::Sharded(_) | Place::Reference => reach > Reach::Nothing,
    }
}

/// Whether code of PL/pgSQL has a RAISE of another level than EXCEPTION, which fails alike wherever it is raised.
fn says_something(body: &str) -> bool {
    let lower = body.to_ascii_lowercase();
    let mut words = words(&lower).peekable();
    while let Some(word) = words.next() {
        if word == "raise" && words.peek() != Some(&"exception") {
            return true;
        }
    }
    false
}

/// Whether a text in lower case may name it.
pub(super) fn is_named(lower: &str, name: &str) -> bool {
    may_name(lower, &name.to_ascii_lowercase())
}
