//! Groups of one table, whose plans differ by how their parts meet: keys of GROUP BY, what aggregates count only once,
//! HAVING and DISTINCT. Short ones, so that a case has nothing else by which the whole would be read differently.

use crate::expr::{Atom, Ctx, Gen};
use crate::query::Rel;
use crate::values::Ty;

impl Gen<'_> {
    /// One grouped SELECT of a table or view, if that has columns that can be grouped by.
    pub fn grouped(&mut self, level: u32) -> Option<Rel> {
        let (relation, key) = self.relation();
        let (from, atoms) = self.one_table(&relation, key);
        let rows = Ctx {
            atoms,
            level,
            ..Ctx::default()
        };
        let mut tail = String::new();
        if self.chance(30) {
            tail += &format!(" WHERE {}", self.predicate(&rows, 0));
        }
        let sortable: Vec<Atom> = rows
            .atoms
            .iter()
            .filter(|a| a.ty.ordered())
            .cloned()
            .collect();
        if sortable.is_empty() {
            return None;
        }
        self.has("grouped table");
        let mut by: Vec<Atom> = Vec::new();
        for _ in 0..self.pick(&[0, 0, 1, 1, 2]) {
            let column = self.column(&sortable);
            if !by.iter().any(|other| other.sql == column.sql) {
                by.push(column);
            }
        }
        if !by.is_empty() {
            self.has("GROUP BY");
            let texts: Vec<&str> = by.iter().map(|column| column.sql.as_str()).collect();
            tail += &format!(" GROUP BY {}", texts.join(", "));
        }
        let ctx = Ctx {
            atoms: by
                .iter()
                .map(|column| Atom {
                    key: false,
                    ..column.clone()
                })
                .collect(),
            rows: Some(Box::new(rows.clone())),
            level,
            ..Ctx::default()
        };
        let (mut outputs, mut columns, mut exprs) = (Vec::new(), Vec::new(), Vec::new());
        for column in &by {
            if self.chance(50) {
                exprs.push((column.sql.clone(), column.ty));
            }
        }
        for _ in 0..=self.below(2) {
            let (sql, ty) = self.plain_aggregate(&sortable);
            exprs.push(match self.below(12) {
                0 => {
                    // It is of the query whose columns it names.
                    self.has("aggregate of the query around");
                    (format!("(SELECT {sql})"), ty)
                }
                1 => {
                    self.has("aggregate as a column");
                    let alias = sortable[0].sql.split('.').next().unwrap_or_default();
                    (format!("{alias}.count"), Ty::Int8)
                }
                _ => (sql, ty),
            });
        }
        if self.chance(60) {
            self.has("HAVING of an aggregate");
            tail += &format!(" HAVING {}", self.size_of_group(&sortable));
            if self.chance(25) {
                tail += &format!(" AND {}", self.size_of_group(&sortable));
            }
        }
        for (sql, ty) in &exprs {
            let name = self.name("o");
            outputs.push(format!("{sql} AS {name}"));
            columns.push((name, *ty));
        }
        let comparable = columns.iter().all(|(_, ty)| ty.ordered());
        let word = match comparable && self.chance(15) {
            true => {
                self.has("DISTINCT");
                "DISTINCT "
            }
            false => "",
        };
        let texts = exprs.into_iter().map(|(sql, _)| sql).collect();
        let rel = self.finish(from, outputs, columns, tail, word, ctx, false);
        Some(Rel {
            outputs: word.is_empty().then_some(texts),
            ..rel
        })
    }

    /// A column, the shard key as often as all others.
    fn column(&mut self, columns: &[Atom]) -> Atom {
        let keys: Vec<Atom> = columns.iter().filter(|atom| atom.key).cloned().collect();
        match !keys.is_empty() && self.chance(50) {
            true => self.pick(&keys),
            false => self.pick(columns),
        }
    }

    /// An aggregate of a bare column, and its type.
    fn plain_aggregate(&mut self, columns: &[Atom]) -> (String, Ty) {
        let column = self.column(columns);
        let distinct = self.pick(&["", "DISTINCT "]);
        if !distinct.is_empty() {
            self.has("aggregate DISTINCT");
        }
        let of = &column.sql;
        match (self.below(6), column.ty) {
            (0, _) => ("count(*)".to_owned(), Ty::Int8),
            (1, Ty::Int2 | Ty::Int4) => (format!("sum({distinct}{of})"), Ty::Int8),
            (1 | 2, Ty::Int8 | Ty::Numeric) => (format!("sum({distinct}{of})"), Ty::Numeric),
            (3, ty) if ty.has_extremes() => {
                self.has("choice");
                let name = self.pick(&["min", "max"]);
                (format!("{name}({distinct}{of})"), ty)
            }
            (4, Ty::Text) => {
                self.has("aggregate DISTINCT");
                (format!("string_agg(DISTINCT {of}, '+')"), Ty::Text)
            }
            (4, Ty::Int4) => (format!("array_agg({distinct}{of} ORDER BY {of})"), Ty::Ints),
            _ => (format!("count({distinct}{of})"), Ty::Int8),
        }
    }

    /// A condition on how much a group holds: what is true of it all and not of each of its parts, or the other way.
    fn size_of_group(&mut self, columns: &[Atom]) -> String {
        let column = self.column(columns);
        let counted = match self.below(4) {
            0 => format!("count({})", column.sql),
            1 => format!("count(DISTINCT {})", column.sql),
            _ => "count(*)".to_owned(),
        };
        let operator = self.pick(&[">", ">=", "<", "<=", "=", "<>"]);
        format!("{counted} {operator} {}", self.below(5))
    }
}
