//! What stands in FROM: tables, views, CTEs, queries, lists and functions, and how they
//! are joined.

use crate::expr::{Atom, Ctx, Gen};
use crate::query::{Rel, Wanted};
use crate::schema::{Kind, Relation};
use crate::values::{ALL, Ty};

impl Gen<'_> {
    /// A type that columns are likely to have.
    pub fn common_type(&mut self) -> Ty {
        if self.chance(25) {
            return self.pick(&ALL);
        }
        let relations: Vec<Relation> = self.schema.relations().cloned().collect();
        let relation = self.pick(&relations);
        self.pick(&relation.columns).1
    }

    /// A table, view or CTE; and the place of its first key column.
    pub fn relation(&mut self) -> (Relation, Vec<usize>) {
        if !self.ctes.is_empty() && self.chance(55) {
            return (self.pick(&self.ctes.clone()), Vec::new());
        }
        if self.chance(self.schema.share_of_views()) && !self.schema.views.is_empty() {
            let too_deep = |name: &str| {
                let mut views = self.schema.random_views.iter();
                views.any(|view| view.relation.name == name && view.depth > self.reach)
            };
            let views = self.schema.views.iter();
            let views: Vec<Relation> = views
                .filter(|view| !too_deep(&view.name))
                .cloned()
                .collect();
            self.has("view");
            let view = self.pick(&views);
            self.reads_view(&view.name);
            return (view, vec![0]);
        }
        let tables = &self.schema.tables;
        let table = self.pick(tables);
        match table.kind {
            Kind::Sharded => self.has("sharded table"),
            Kind::Reference => self.has("reference table"),
            Kind::Home => self.has("home table"),
        }
        let key = if table.key.is_empty() {
            vec![0]
        } else {
            table.key.clone()
        };
        (table.relation, key)
    }

    pub fn one_table(&mut self, relation: &Relation, key: Vec<usize>) -> (String, Vec<Atom>) {
        let alias = self.name("t");
        let only = if self.chance(3) && self.schema.tables.iter().any(|t| t.name() == relation.name)
        {
            "ONLY "
        } else {
            ""
        };
        let (sql, atoms) = Self::aliased(
            format!("{only}{}", relation.name),
            &alias,
            &relation.columns,
            &key,
        );
        (sql, atoms)
    }

    pub fn aliased(
        sql: String,
        alias: &str,
        columns: &[(String, Ty)],
        key: &[usize],
    ) -> (String, Vec<Atom>) {
        let atoms = columns.iter().enumerate().map(|(at, (name, ty))| Atom {
            sql: format!("{alias}.{name}"),
            ty: *ty,
            key: key.contains(&at),
        });
        (format!("{sql} AS {alias}"), atoms.collect())
    }

    /// One entry of FROM: its text and columns. `lateral`: columns that it may use.
    pub fn entry(
        &mut self,
        level: u32,
        lateral: Option<&[Atom]>,
        outer: &[Atom],
    ) -> (String, Vec<Atom>) {
        match self.below(20) {
            0..3 if level < 2 && self.budget > 0 => {
                let mut reach = outer.to_vec();
                let mut word = "";
                if let Some(left) = lateral
                    && self.chance(40)
                {
                    self.has("LATERAL");
                    word = "LATERAL ";
                    reach.extend_from_slice(left);
                }
                self.has("derived table");
                let wanted = Wanted {
                    types: None,
                    named: true,
                    comparable: false,
                    level: level + 1,
                };
                let mut rel = self.query(wanted, &reach);
                self.inner_limit(&mut rel);
                let alias = self.name("d");
                Self::aliased(format!("{word}({})", rel.sql), &alias, &rel.columns, &[])
            }
            3 => {
                self.has("VALUES in FROM");
                let types: Vec<Ty> = (0..=self.below(2)).map(|_| self.common_type()).collect();
                let mut rows = Vec::new();
                for _ in 0..3 {
                    let row: Vec<String> = types
                        .iter()
                        .map(|ty| Self::typed(&self.key_or_value(*ty), *ty))
                        .collect();
                    rows.push(format!("({})", row.join(", ")));
                }
                let alias = self.name("v");
                let columns: Vec<(String, Ty)> = types
                    .iter()
                    .enumerate()
                    .map(|(at, ty)| (format!("x{at}"), *ty))
                    .collect();
                let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
                let (sql, atoms) = Self::aliased(
                    format!("(VALUES {})", rows.join(", ")),
                    &alias,
                    &columns,
                    &[],
                );
                (format!("{sql} ({})", names.join(", ")), atoms)
            }
            4 => {
                self.has("function in FROM");
                let alias = self.name("f");
                let ints =
                    lateral.and_then(|left| left.iter().find(|atom| atom.ty == Ty::Ints).cloned());
                let (call, ty) = match ints {
                    Some(array) => (format!("unnest({})", array.sql), Ty::Int4),
                    None => match self.below(2) {
                        0 => ("generate_series(1, 4)".to_owned(), Ty::Int4),
                        _ => (
                            format!(
                                "unnest(ARRAY[{}, {}])",
                                self.literal(Ty::Text),
                                self.literal(Ty::Text)
                            ),
                            Ty::Text,
                        ),
                    },
                };
                let ordinality = self.chance(30);
                let mut columns = vec![("x".to_owned(), ty)];
                let mut names = "x";
                let mut with = "";
                if ordinality {
                    self.has("WITH ORDINALITY");
                    columns.push(("o".to_owned(), Ty::Int8));
                    (names, with) = ("x, o", " WITH ORDINALITY");
                }
                let (sql, atoms) = Self::aliased(format!("{call}{with}"), &alias, &columns, &[]);
                (format!("{sql} ({names})"), atoms)
            }
            _ => {
                let (relation, key) = self.relation();
                self.one_table(&relation, key)
            }
        }
    }

    pub fn key_or_value(&mut self, ty: Ty) -> String {
        match crate::values::KEYS.contains(&ty) {
            true => self.key_literal(ty),
            false => self.literal(ty),
        }
    }

    /// ORDER BY and LIMIT below the top, so that the rows are determined.
    pub fn inner_limit(&mut self, rel: &mut Rel) {
        if let Some(all) = rel.whole_order_by()
            && self.chance(25)
        {
            self.has("LIMIT in subquery");
            let direction = self.pick(&["", " DESC"]);
            rel.sql = format!(
                "{} ORDER BY {}{direction} LIMIT {}",
                rel.sql,
                all.join(", "),
                self.below(5) + 1
            );
            if rel.plain && self.chance(30) {
                rel.sql += &self.row_lock("row lock in subquery");
            }
        }
    }

    /// FROM and its columns.
    pub fn from(&mut self, level: u32, outer: &[Atom]) -> (String, Vec<Atom>, bool) {
        let (mut sql, mut atoms) = self.entry(level, None, outer);
        let more = match self.below(10) {
            0..5 => 0,
            5..8 => 1,
            8 => 2,
            _ => {
                if level == 0 {
                    3
                } else {
                    1
                }
            }
        };
        for _ in 0..more {
            let kind = self.pick(&[
                "JOIN",
                "JOIN",
                "LEFT JOIN",
                "LEFT JOIN",
                "RIGHT JOIN",
                "FULL JOIN",
                "CROSS JOIN",
                ",",
            ]);
            let may_see = matches!(kind, "JOIN" | "LEFT JOIN" | "CROSS JOIN" | ",");
            let (right, columns) = self.entry(level, may_see.then_some(&atoms), outer);
            self.has(match kind {
                "JOIN" => "inner join",
                "LEFT JOIN" => "left join",
                "RIGHT JOIN" => "right join",
                "FULL JOIN" => "full join",
                _ => "cross join",
            });
            let joined = match kind {
                // A comma binds less than JOIN does; further entries are joined to all of it.
                "," => format!("({sql} CROSS JOIN {right})"),
                "CROSS JOIN" => format!("{sql} CROSS JOIN {right}"),
                kind => format!("{sql} {kind} {right} {}", self.on(kind, &atoms, &columns)),
            };
            sql = joined;
            atoms.extend(columns);
        }
        if more > 0 && self.chance(8) && !sql.starts_with('(') && !sql.contains("LATERAL") {
            // The same with a comma where it may be.
            self.has("comma join");
            let (right, columns) = self.entry(level, None, outer);
            sql = format!("{sql}, {right}");
            atoms.extend(columns);
        }
        (sql, atoms, more == 0)
    }

    pub fn on(&mut self, kind: &str, left: &[Atom], right: &[Atom]) -> String {
        let mut pairs: Vec<(Atom, Atom)> = Vec::new();
        for l in left.iter().filter(|l| l.ty.ordered()) {
            for r in right.iter().filter(|r| r.ty == l.ty) {
                let often = if l.key && r.key { 4 } else { 1 };
                pairs.extend(std::iter::repeat_n((l.clone(), r.clone()), often));
            }
        }
        let ctx = Ctx {
            atoms: [left, right].concat(),
            level: 9,
            ..Ctx::default()
        };
        if pairs.is_empty() {
            return match kind {
                "FULL JOIN" => "ON true".to_owned(),
                _ => format!("ON {}", self.predicate(&ctx, 0)),
            };
        }
        let (l, r) = self.pick(&pairs);
        let name = |atom: &Atom| atom.sql.rsplit('.').next().unwrap_or_default().to_owned();
        let column = name(&l);
        let once = |atoms: &[Atom]| atoms.iter().filter(|atom| name(atom) == column).count() == 1;
        if name(&r) == column && once(left) && once(right) && self.chance(25) {
            self.has("USING");
            return format!("USING ({column})");
        }
        let mut on = vec![format!("{} = {}", l.sql, r.sql)];
        // Both columns of a composite key, more often than not.
        let k2 = |atoms: &[Atom]| {
            atoms
                .iter()
                .find(|atom| atom.key && name(atom) == "k2")
                .cloned()
        };
        if let (Some(l), Some(r)) = (k2(left), k2(right))
            && self.chance(60)
        {
            on.push(format!("{} = {}", l.sql, r.sql));
        }
        if kind != "FULL JOIN" && self.chance(25) {
            on.push(self.predicate(&ctx, 0));
        }
        format!("ON {}", on.join(" AND "))
    }
}
