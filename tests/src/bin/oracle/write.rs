//! Statements that change rows. Which rows they leave behind is determined: what is
//! joined for a change is joined by something unique.

use crate::expr::{Atom, Ctx, Gen};
use crate::schema::{Kind, Table};
use crate::statement::{Effect, Order, Statement};
use rand::seq::SliceRandom;

impl Gen<'_> {
    /// A statement that writes.
    pub fn write(mut self) -> Statement {
        let tables = self.schema.tables.iter().cloned();
        let (sharded, others): (Vec<Table>, Vec<Table>) =
            tables.partition(|table| table.kind == Kind::Sharded);
        let target = match others.is_empty() || self.chance(78) {
            true => self.pick(&sharded),
            false => self.pick(&others),
        };
        self.has(match target.kind {
            Kind::Sharded => "write sharded",
            Kind::Reference => "write reference",
            Kind::Home => "write home",
        });
        self.budget = 2;
        self.exact = true;
        let text = match self.below(27) {
            0..7 => self.insert(&target),
            7 | 8 => self.insert_select(&target),
            9..14 => self.update(&target),
            14 | 15 => self.delete(&target),
            16 | 17 => self.joined(&target, false),
            18 | 19 => self.joined(&target, true),
            20..23 => self.merge(&target),
            _ => self.modifying_cte(&target),
        };
        let written = match self.features.contains("two writes") {
            true => self
                .schema
                .tables
                .iter()
                .map(|t| t.name().to_owned())
                .collect(),
            false => vec![target.name().to_owned()],
        };
        Statement {
            text,
            values: self.values,
            features: self.features,
            order: Order::None,
            effect: Effect::Writes(written),
            floats: false,
            ranked: None,
        }
    }

    fn atoms(table: &Table, alias: &str) -> Vec<Atom> {
        let columns = table.relation.columns.iter().enumerate();
        columns
            .map(|(at, (name, ty))| Atom {
                sql: format!("{alias}.{name}"),
                ty: *ty,
                key: table.key.contains(&at),
            })
            .collect()
    }

    pub fn ctx(table: &Table, level: u32) -> Ctx {
        Ctx {
            atoms: Self::atoms(table, table.name()),
            level,
            ..Ctx::default()
        }
    }

    /// Columns to insert: always those that are needed, others by chance.
    fn columns(&mut self, table: &Table) -> Vec<usize> {
        let needed = |at: &usize| table.key.contains(at) || table.unique.contains(at);
        let mut columns: Vec<usize> = (0..table.relation.columns.len())
            .filter(|at| needed(at) || self.chance(70))
            .collect();
        if self.chance(40) {
            columns.shuffle(&mut self.rng);
        }
        columns
    }

    fn names(table: &Table, columns: &[usize]) -> String {
        let names: Vec<&str> = columns
            .iter()
            .map(|at| table.relation.columns[*at].0.as_str())
            .collect();
        names.join(", ")
    }

    fn stored(&mut self, table: &Table, at: usize) -> String {
        let ty = table.relation.columns[at].1;
        if table.key.contains(&at) || table.unique.contains(&at) {
            return self.key_literal(ty);
        }
        match self.below(12) {
            0 => "DEFAULT".to_owned(),
            1 => "NULL".to_owned(),
            _ => self.literal(ty),
        }
    }

    fn insert(&mut self, table: &Table) -> String {
        self.has("INSERT");
        let (listed, returning) = (self.listed(table), self.returning(table));
        listed + &returning
    }

    /// INSERT of a VALUES list.
    fn listed(&mut self, table: &Table) -> String {
        let columns = self.columns(table);
        let rows = self.pick(&[1, 1, 1, 2, 3, 6]);
        if rows > 1 {
            self.has("INSERT of several rows");
        }
        let mut lines = Vec::new();
        for _ in 0..rows {
            let values: Vec<String> = columns.iter().map(|at| self.stored(table, *at)).collect();
            lines.push(format!("({})", values.join(", ")));
        }
        let conflict = self.conflict(table, &columns);
        format!(
            "INSERT INTO {} ({}) VALUES {}{conflict}",
            table.name(),
            Self::names(table, &columns),
            lines.join(", ")
        )
    }

    fn conflict(&mut self, table: &Table, columns: &[usize]) -> String {
        if table.unique.is_empty() || self.chance(50) {
            return String::new();
        }
        self.has("ON CONFLICT");
        let target = Self::names(table, &table.unique);
        let free: Vec<usize> = columns
            .iter()
            .copied()
            .filter(|at| !table.unique.contains(at) && !table.key.contains(at))
            .collect();
        if free.is_empty() || self.chance(50) {
            return match self.chance(50) {
                true => " ON CONFLICT DO NOTHING".to_owned(),
                false => format!(" ON CONFLICT ({target}) DO NOTHING"),
            };
        }
        let at = self.pick(&free);
        let name = &table.relation.columns[at].0;
        let condition = match self.chance(30) {
            true => {
                let ctx = Self::ctx(table, 9);
                format!(" WHERE {}", self.predicate(&ctx, 0))
            }
            false => String::new(),
        };
        let both = Ctx {
            atoms: [
                Self::atoms(table, table.name()),
                Self::atoms(table, "excluded"),
            ]
            .concat(),
            level: 9,
            ..Ctx::default()
        };
        let set = match self.chance(60) {
            true => self.assignments(table, &both),
            false => None,
        };
        let set = match set {
            Some(set) => {
                self.has("ON CONFLICT with what is computed");
                set
            }
            None => format!("{name} = excluded.{name}"),
        };
        format!(" ON CONFLICT ({target}) DO UPDATE SET {set}{condition}")
    }

    fn returning(&mut self, table: &Table) -> String {
        if self.chance(55) {
            return String::new();
        }
        self.has("RETURNING");
        if self.chance(40) {
            return format!(" RETURNING {}.*", table.name());
        }
        let ctx = Self::ctx(table, 9);
        let ty = self.pick(&table.relation.columns).1;
        format!(
            " RETURNING {}, {} AS z",
            self.pick(&ctx.atoms).sql,
            self.expr(&ctx, ty, 1)
        )
    }

    fn insert_select(&mut self, table: &Table) -> String {
        self.has("INSERT SELECT");
        let same: Vec<Table> = self
            .schema
            .tables
            .iter()
            .filter(|source| {
                // Of rows that conflict with each other any may be the one that is stored.
                let stays_unique = |at: &usize| {
                    let column = &source.relation.columns[*at];
                    let mut unique = table.unique.iter();
                    unique.any(|own| table.relation.columns[*own] == *column)
                };
                !source.unique.is_empty()
                    && match table.unique.is_empty() {
                        true => source.relation.columns[0].1 == table.relation.columns[0].1,
                        false => source.unique.iter().all(stays_unique),
                    }
            })
            .cloned()
            .collect();
        let columns = self.columns(table);
        let mut values = Vec::new();
        let source = if same.is_empty() {
            table.clone()
        } else {
            self.pick(&same)
        };
        let ctx = Ctx {
            atoms: Self::atoms(&source, "s"),
            level: 9,
            ..Ctx::default()
        };
        for at in &columns {
            let (name, ty) = &table.relation.columns[*at];
            let needed = table.key.contains(at) || table.unique.contains(at);
            let there = source
                .relation
                .columns
                .iter()
                .any(|column| column == &(name.clone(), *ty));
            values.push(match (needed, there) {
                (true, true) => format!("s.{name}"),
                (true, false) => self.key_literal(*ty),
                (false, _) => self.expr(&ctx, *ty, 1),
            });
        }
        let condition = match self.key_condition(&ctx) {
            Some(condition) if self.chance(60) => condition,
            _ => self.predicate(&ctx, 0),
        };
        let conflict = if table.unique.is_empty() {
            ""
        } else {
            " ON CONFLICT DO NOTHING"
        };
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} AS s WHERE {condition}{conflict}",
            table.name(),
            Self::names(table, &columns),
            values.join(", "),
            self.source(&source)
        )
    }

    /// `column = expression` for some columns that are not in a key.
    fn assignments(&mut self, table: &Table, ctx: &Ctx) -> Option<String> {
        let free: Vec<usize> = (0..table.relation.columns.len())
            .filter(|at| !table.key.contains(at) && !table.unique.contains(at))
            .collect();
        if free.is_empty() {
            return None;
        }
        let mut chosen = vec![self.pick(&free)];
        let second = self.pick(&free);
        if second != chosen[0] && self.chance(40) {
            chosen.push(second);
        }
        let mut set = Vec::new();
        for at in chosen {
            let (name, ty) = &table.relation.columns[at];
            let value = match self.chance(8) {
                true => "DEFAULT".to_owned(),
                false => self.expr(ctx, *ty, 1),
            };
            set.push(format!("{name} = {value}"));
        }
        Some(set.join(", "))
    }

    fn condition(&mut self, table: &Table, ctx: &Ctx) -> String {
        let key = match self.chance(75) {
            true => self.key_condition(&Ctx {
                atoms: Self::atoms(table, table.name()),
                ..Ctx::default()
            }),
            false => None,
        };
        match key {
            Some(key) if self.chance(70) => key,
            Some(key) => format!("{key} AND ({})", self.predicate(ctx, 1)),
            None => self.predicate(ctx, 1),
        }
    }

    fn update(&mut self, table: &Table) -> String {
        self.has("UPDATE");
        let ctx = Self::ctx(table, 1);
        if self.chance(25) && !table.key.is_empty() {
            self.has("UPDATE of the key");
            let at = self.pick(&table.key);
            let (name, ty) = table.relation.columns[at].clone();
            let (to, condition) = (self.key_literal(ty), self.condition(table, &ctx));
            let more = match self.chance(40) {
                true => self.assignments(table, &ctx),
                false => None,
            };
            let more = more.map_or(String::new(), |set| format!(", {set}"));
            let returning = self.returning(table);
            return format!(
                "UPDATE {} SET {name} = {to}{more} WHERE {condition}{returning}",
                table.name()
            );
        }
        let Some(set) = self.assignments(table, &ctx) else {
            return self.delete(table);
        };
        let (condition, returning) = (self.condition(table, &ctx), self.returning(table));
        format!(
            "UPDATE {} SET {set} WHERE {condition}{returning}",
            table.name()
        )
    }

    fn delete(&mut self, table: &Table) -> String {
        self.has("DELETE");
        let ctx = Self::ctx(table, 1);
        let (condition, returning) = (self.condition(table, &ctx), self.returning(table));
        format!("DELETE FROM {} WHERE {condition}{returning}", table.name())
    }

    /// A table whose unique columns are of the types and names of the target's key; and the condition that joins them.
    pub fn partner(&mut self, table: &Table) -> Option<(Table, String)> {
        let fits = |other: &&Table| {
            !other.unique.is_empty()
                && other.name() != table.name()
                && other.unique.iter().all(|at| {
                    let column = &other.relation.columns[*at];
                    table.relation.columns.contains(column)
                })
        };
        let others: Vec<Table> = self.schema.tables.iter().filter(fits).cloned().collect();
        if others.is_empty() {
            return None;
        }
        let other = self.pick(&others);
        let on: Vec<String> = other
            .unique
            .iter()
            .map(|at| {
                let name = &other.relation.columns[*at].0;
                format!("{}.{name} = s.{name}", table.name())
            })
            .collect();
        Some((other, on.join(" AND ")))
    }

    /// UPDATE FROM or DELETE USING.
    fn joined(&mut self, table: &Table, delete: bool) -> String {
        let Some((other, on)) = self.partner(table) else {
            return self.update(table);
        };
        let ctx = Ctx {
            atoms: [Self::atoms(table, table.name()), Self::atoms(&other, "s")].concat(),
            level: 9,
            ..Ctx::default()
        };
        let condition = self.condition(table, &ctx);
        let (name, other_name) = (table.name(), self.source(&other));
        if delete {
            self.has("DELETE USING");
            let returning = self.returning(table);
            return format!(
                "DELETE FROM {name} USING {other_name} AS s WHERE {on} AND {condition}{returning}"
            );
        }
        let Some(set) = self.assignments(table, &ctx) else {
            return self.delete(table);
        };
        self.has("UPDATE FROM");
        let returning = self.returning(table);
        format!(
            "UPDATE {name} SET {set} FROM {other_name} AS s WHERE {on} AND ({condition}){returning}"
        )
    }

    fn merge(&mut self, table: &Table) -> String {
        let Some((other, on)) = self.partner(table) else {
            return self.insert(table);
        };
        let both = Ctx {
            atoms: [Self::atoms(table, table.name()), Self::atoms(&other, "s")].concat(),
            level: 9,
            ..Ctx::default()
        };
        let Some(set) = self.assignments(table, &both) else {
            return self.delete(table);
        };
        self.has("MERGE");
        let unique = |at: &usize| table.key.contains(at) || table.unique.contains(at);
        let needed: Vec<usize> = (0..table.relation.columns.len()).filter(unique).collect();
        let from = needed.iter().map(|at| {
            let column = &table.relation.columns[*at];
            match other.relation.columns.contains(column) {
                true => format!("s.{}", column.0),
                false => "NULL".to_owned(),
            }
        });
        let from: Vec<String> = from.collect();
        let restrict = match self.chance(60) {
            true => match self.key_condition(&Ctx {
                atoms: Self::atoms(table, table.name()),
                ..Ctx::default()
            }) {
                Some(key) => format!(" AND {key}"),
                None => String::new(),
            },
            false => String::new(),
        };
        let matched = match self.below(3) {
            0 => "DELETE".to_owned(),
            1 => "DO NOTHING".to_owned(),
            _ => format!("UPDATE SET {set}"),
        };
        let also = |generator: &mut Self, ctx: &Ctx| match generator.chance(25) {
            true => format!(" AND ({})", generator.predicate(ctx, 0)),
            false => String::new(),
        };
        let of_source = Ctx {
            atoms: Self::atoms(&other, "s"),
            level: 9,
            ..Ctx::default()
        };
        let source = match self.chance(30) {
            true => format!(
                "(SELECT * FROM {} AS s WHERE {})",
                self.source(&other),
                self.predicate(&of_source, 0)
            ),
            false => self.source(&other),
        };
        let first = also(self, &both);
        let mut clauses = format!("WHEN MATCHED{first} THEN {matched}");
        if self.chance(70) {
            clauses += &format!(
                " WHEN NOT MATCHED{} THEN INSERT ({}) VALUES ({})",
                also(self, &of_source),
                Self::names(table, &needed),
                from.join(", ")
            );
        }
        format!(
            "MERGE INTO {} USING {source} AS s ON {on}{restrict} {clauses}",
            table.name()
        )
    }

    fn modifying_cte(&mut self, table: &Table) -> String {
        self.has("modifying CTE");
        let ctx = Self::ctx(table, 9);
        let condition = self.condition(table, &ctx);
        let change = match self.assignments(table, &ctx) {
            _ if self.chance(30) => {
                self.has("INSERT within WITH");
                self.listed(table)
            }
            Some(set) if self.chance(50) => {
                format!("UPDATE {} SET {set} WHERE {condition}", table.name())
            }
            _ => format!("DELETE FROM {} WHERE {condition}", table.name()),
        };
        // What returns nothing is not read.
        if self.chance(10) {
            return format!("WITH d AS ({change}) {}", self.beside(table, false));
        }
        let returning = match self.below(3) {
            0 => {
                let ty = self.pick(&table.relation.columns).1;
                format!("*, {} AS z", self.expr(&ctx, ty, 1))
            }
            _ => "*".to_owned(),
        };
        format!(
            "WITH d AS ({change} RETURNING {returning}) {}",
            self.beside(table, true)
        )
    }

    /// What stands behind a write of `table` within WITH, which is called d.
    fn beside(&mut self, table: &Table, reads: bool) -> String {
        let name = table.name();
        if !reads {
            return format!("SELECT count(*) FROM {name}");
        }
        let column = self.pick(&table.relation.columns).0;
        match self.below(10) {
            0 => "SELECT count(*) FROM d".to_owned(),
            1 => "SELECT * FROM d".to_owned(),
            2 => "SELECT 1".to_owned(),
            // The table is seen as it was.
            3 => format!("SELECT count(*), (SELECT count(*) FROM {name}) FROM d"),
            4 => format!(
                "SELECT count(d.{column}), count(s.{column}) FROM d FULL JOIN {name} AS s ON d.{column}::text = s.{column}::text"
            ),
            _ => match self.partner(table) {
                Some((other, _)) => {
                    self.has("two writes");
                    let stores = other.key.iter().all(|at| other.unique.contains(at));
                    if stores && self.chance(40) {
                        let names = Self::names(&other, &other.unique);
                        return format!(
                            "INSERT INTO {} ({names}) SELECT {names} FROM d ON CONFLICT DO NOTHING",
                            other.name()
                        );
                    }
                    let column = self.pick(&other.relation.columns).0;
                    format!(
                        "DELETE FROM {} AS s USING d WHERE s.{column}::text = d.{}::text",
                        other.name(),
                        table.relation.columns[0].0
                    )
                }
                None => "SELECT * FROM d".to_owned(),
            },
        }
    }
}
