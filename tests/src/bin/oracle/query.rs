//! Queries: set operations, CTEs, VALUES, ORDER BY and LIMIT; and whole statements of them.

use crate::expr::{Atom, Ctx, Gen};
use crate::schema::Relation;
use crate::statement::{Effect, Order, Ranked, Statement};
use crate::values::Ty;

/// A query with the columns that it gives.
#[derive(Debug, Clone)]
pub struct Rel {
    pub sql: String,
    pub columns: Vec<(String, Ty)>,
    /// The expressions of the columns, where an ORDER BY may repeat them.
    pub outputs: Option<Vec<String>>,
    /// In whose place an ORDER BY may use other expressions than output columns.
    pub inner: Option<Ctx>,
    /// One table, rows as they are: may be locked.
    pub plain: bool,
    /// How many bytes before the end of the text another output column may be put.
    pub room: usize,
}

/// One key of an ORDER BY.
struct SortKey {
    /// As the statement writes it.
    text: String,
    /// What it is of a row of the answer, or an expression that the answer does not show.
    of: Sorted,
    /// Direction and place of nulls.
    how: &'static str,
}

enum Sorted {
    /// By a column of the answer, in the form that follows the column's name.
    Column(usize, &'static str),
    Expression(String),
}

/// The ORDER BY of a statement.
struct Sorting {
    keys: Vec<SortKey>,
    /// Nothing that is visible is left open.
    total: bool,
}

/// What a query may be.
#[derive(Clone, Copy)]
pub struct Wanted<'w> {
    pub types: Option<&'w [Ty]>,
    /// Columns must have names of their own.
    pub named: bool,
    /// All columns must have equality.
    pub comparable: bool,
    pub level: u32,
}

impl Gen<'_> {
    /// A whole SELECT statement.
    pub fn statement(mut self) -> Statement {
        if self.chance(40) {
            // Short ones, too: their plans differ more.
            self.budget = self.pick(&[1, 1, 2]);
        }
        let named = self.chance(70);
        let wanted = Wanted {
            types: None,
            named,
            comparable: false,
            level: 0,
        };
        let rel = self.query(wanted, &[]);
        let sorting = self.sorting(&rel);
        let (order_by, order) = (sorting.clause(), sorting.order());
        let mut text = format!("{}{order_by}", rel.sql);
        let mut ranked = sorting.ranked(&rel);
        let limited = if sorting.total || matches!(order, Order::Columns(_)) {
            40
        } else {
            4
        };
        // PostgreSQL 15 gives WITH TIES to the subquery, too, that finds min or max without a group, and fails with 21000.
        let extreme = ["min(", "max("].iter().any(|call| text.contains(call));
        if self.chance(limited) && (sorting.total || !extreme) {
            if let Some((limit, offset)) = self.limit(sorting.total, &order_by) {
                ranked.offset = offset;
                text += &limit;
                if rel.plain && sorting.total && self.chance(30) {
                    text += &self.row_lock("row lock with LIMIT");
                }
            }
        } else if rel.plain && self.chance(30) {
            text += &self.row_lock("row lock");
        }
        Statement {
            text,
            values: self.values,
            features: self.features,
            order,
            effect: Effect::Reads,
            floats: self.floats,
            ranked: Some(ranked),
        }
    }

    /// FOR UPDATE and the like.
    pub fn row_lock(&mut self, feature: &'static str) -> String {
        self.has(feature);
        let strength = self.pick(&["UPDATE", "SHARE", "NO KEY UPDATE", "KEY SHARE"]);
        let waits = self.pick(&["", "", " NOWAIT", " SKIP LOCKED"]);
        format!(" FOR {strength}{waits}")
    }

    /// LIMIT and the like with the rows left out at the start; not determined ones only in forms
    /// that give a certain number of rows.
    pub fn limit(&mut self, determined: bool, order_by: &str) -> Option<(String, usize)> {
        let n = self.pick(&[0, 1, 2, 3, 5, 10]);
        if !determined && !order_by.is_empty() && self.chance(60) {
            // Peers come all or not at all, so that this is determined again.
            self.has("WITH TIES");
            return Some((format!(" FETCH FIRST {} ROWS WITH TIES", n.max(1)), 0));
        }
        if !determined && self.chance(70) {
            return None;
        }
        self.has("LIMIT");
        let count = format!("{n}");
        let limit = match self.below(7) {
            0 => format!(" FETCH FIRST {n} ROWS ONLY"),
            1 => " LIMIT ALL".to_owned(),
            2 => format!(" LIMIT {}", self.literal_int8(&count)),
            _ => format!(" LIMIT {n}"),
        };
        let (offset, skipped) = match self.chance(30) {
            true => {
                self.has("OFFSET");
                let skipped = self.below(4);
                (format!(" OFFSET {skipped}"), skipped)
            }
            false => (String::new(), 0),
        };
        let text = match limit.starts_with(" FETCH") {
            true => format!("{offset}{limit}"),
            false => format!("{limit}{offset}"),
        };
        Some((text, skipped))
    }

    pub fn literal_int8(&mut self, text: &str) -> String {
        self.put(crate::statement::Value {
            ty: Ty::Int8,
            text: Some(text.to_owned()),
            inline: text.to_owned(),
            parameter: true,
            cast: false,
        })
    }

    /// An ORDER BY or none.
    fn sorting(&mut self, rel: &Rel) -> Sorting {
        let mut sorting = Sorting {
            keys: Vec::new(),
            total: false,
        };
        if self.chance(45) {
            return sorting;
        }
        self.has("ORDER BY");
        let sortable: Vec<usize> = (0..rel.columns.len())
            .filter(|at| rel.columns[*at].1.ordered())
            .collect();
        for _ in 0..=self.below(2) {
            let (text, of) = if let Some(ctx) = &rel.inner
                && self.chance(25)
            {
                let ty = self.some_type(ctx);
                self.has("ORDER BY expression");
                let text = self.sort_expr(ctx, ty);
                (text.clone(), Sorted::Expression(text))
            } else if !sortable.is_empty() {
                let at = self.pick(&sortable);
                self.sort_column(rel, at)
            } else {
                continue;
            };
            let how = self.pick(&[
                "",
                "",
                "",
                " ASC",
                " DESC",
                " DESC",
                " NULLS FIRST",
                " DESC NULLS LAST",
                " USING <",
                " USING >",
            ]);
            sorting.keys.push(SortKey { text, of, how });
        }
        let whole = rel.whole_order().filter(|_| self.chance(65));
        sorting.total = whole.is_some();
        sorting.keys.extend(whole.into_iter().flatten());
        sorting
    }

    /// A column of the answer as a sort key, by name or place, or text by another collation.
    fn sort_column(&mut self, rel: &Rel, at: usize) -> (String, Sorted) {
        let (name, ty) = &rel.columns[at];
        let text = match (rel.unambiguous(at), self.below(3)) {
            (true, 0 | 1) => name.clone(),
            _ => (at + 1).to_string(),
        };
        match &rel.inner {
            // A place is no expression.
            Some(ctx) if *ty == Ty::Text && self.chance(30) => {
                self.has("ORDER BY COLLATE");
                let text = self.expr(ctx, Ty::Text, 0);
                let text = format!("({text} || '') COLLATE \"en-x-icu\"");
                (text.clone(), Sorted::Expression(text))
            }
            _ => (text, Sorted::Column(at, "")),
        }
    }

    /// A query of any form.
    pub fn query(&mut self, wanted: Wanted, outer: &[Atom]) -> Rel {
        self.budget -= 1;
        let cte = wanted.level < 2 && self.budget > 1 && self.chance(12);
        if !cte {
            return self.body(wanted, outer);
        }
        let known = self.ctes.len();
        let mut with = Vec::new();
        let mut recursive = "";
        for _ in 0..=self.below(2) {
            let name = self.name("c");
            if self.chance(25) {
                self.has("recursive CTE");
                recursive = "RECURSIVE ";
                with.push(self.recursive(&name));
                continue;
            }
            self.has("CTE");
            let rel = self.query(
                Wanted {
                    types: None,
                    named: true,
                    comparable: false,
                    level: wanted.level + 1,
                },
                &[],
            );
            let kept = self.pick(&["", "", "MATERIALIZED ", "NOT MATERIALIZED "]);
            with.push(format!("{name} AS {kept}({})", rel.sql));
            self.ctes.push(Relation {
                name,
                columns: rel.columns,
            });
        }
        let body = self.body(wanted, outer);
        self.ctes.truncate(known);
        Rel {
            sql: format!("WITH {recursive}{} {}", with.join(", "), body.sql),
            ..body
        }
    }

    /// A recursive CTE that ends.
    pub fn recursive(&mut self, name: &str) -> String {
        let (relation, key) = self.relation();
        let ty = self.pick(&relation.columns).1;
        let ty = if ty.ordered() { ty } else { Ty::Int4 };
        let (from, atoms) = self.one_table(&relation, key);
        let ctx = Ctx {
            atoms,
            level: 9,
            ..Ctx::default()
        };
        let mut inner = ctx.clone();
        inner.atoms.push(Atom {
            sql: format!("{name}.v"),
            ty,
            key: false,
        });
        let first = self.expr(&ctx, ty, 1);
        let limit = self.below(3) + 1;
        let union = self.pick(&["UNION", "UNION ALL"]);
        let columns = vec![("n".to_owned(), Ty::Int4), ("v".to_owned(), ty)];
        let start = match self.chance(50) {
            true => format!("SELECT 1, {first} FROM {from}"),
            false => format!("SELECT 1, {}", Self::typed(&self.literal(ty), ty)),
        };
        let step = match self.chance(50) {
            true => {
                let (on, v) = (self.predicate(&inner, 0), self.expr(&inner, ty, 0));
                format!(
                    "SELECT {name}.n + 1, {v} FROM {name} JOIN {from} ON {on} WHERE {name}.n < {limit}"
                )
            }
            false => format!("SELECT {name}.n + 1, {name}.v FROM {name} WHERE {name}.n < {limit}"),
        };
        self.ctes.push(Relation {
            name: name.to_owned(),
            columns,
        });
        let start = match ty {
            // The type of the first part decides, with its modifier and collation.
            Ty::Char | Ty::Varchar | Ty::Icu | Ty::Nondet | Ty::Pos => {
                let cast = format!("::{}", ty.name());
                start.replacen(&first, &format!("({first}){cast}"), 1)
            }
            _ => start,
        };
        format!("{name} (n, v) AS ({start} {union} {step})")
    }

    pub fn typed(sql: &str, ty: Ty) -> String {
        format!("({sql})::{}", ty.name())
    }

    pub fn body(&mut self, wanted: Wanted, outer: &[Atom]) -> Rel {
        if self.budget > 1 && self.chance(12) {
            return self.set_operation(wanted, outer);
        }
        if self.chance(3) {
            return self.values_or_nothing(wanted, outer);
        }
        if wanted.types.is_none()
            && self.chance(6)
            && let Some(rel) = self.grouped(wanted.level)
        {
            return rel;
        }
        if wanted.types.is_none() && self.chance(3) {
            let (relation, _) = self.relation();
            if !wanted.comparable || relation.columns.iter().all(|(_, ty)| ty.ordered()) {
                self.has("TABLE");
                return Rel {
                    sql: format!("TABLE {}", relation.name),
                    columns: relation.columns,
                    inner: None,
                    outputs: None,
                    plain: false,
                    room: 0,
                };
            }
        }
        self.select(wanted, outer)
    }

    /// A SELECT without FROM, or VALUES.
    pub fn values_or_nothing(&mut self, wanted: Wanted, outer: &[Atom]) -> Rel {
        let types = match wanted.types {
            Some(types) => types.to_vec(),
            None => (0..=self.below(2)).map(|_| self.common_type()).collect(),
        };
        let ctx = Ctx {
            outer: outer.to_vec(),
            level: wanted.level,
            ..Ctx::default()
        };
        let one = |gen_: &mut Self, ty: Ty| {
            let sql = gen_.expr(&ctx, ty, 1);
            Self::typed(&sql, ty)
        };
        if self.chance(50) {
            self.has("VALUES");
            let mut rows = Vec::new();
            for _ in 0..=self.below(3) {
                let row: Vec<String> = types.iter().map(|ty| one(self, *ty)).collect();
                rows.push(format!("({})", row.join(", ")));
            }
            let names = (1..=types.len()).map(|at| format!("column{at}"));
            return Rel {
                sql: format!("VALUES {}", rows.join(", ")),
                columns: names.zip(types).collect(),
                inner: None,
                outputs: None,
                plain: false,
                room: 0,
            };
        }
        self.has("SELECT without FROM");
        let mut columns = Vec::new();
        let mut outputs = Vec::new();
        for ty in types {
            let name = self.name("o");
            outputs.push(format!("{} AS {name}", one(self, ty)));
            columns.push((name, ty));
        }
        Rel {
            sql: format!("SELECT {}", outputs.join(", ")),
            columns,
            inner: None,
            outputs: None,
            plain: false,
            room: 0,
        }
    }

    pub fn set_operation(&mut self, wanted: Wanted, outer: &[Atom]) -> Rel {
        self.has("set operation");
        let types = match wanted.types {
            Some(types) => types.to_vec(),
            None => (0..=self.below(2)).map(|_| self.common_type()).collect(),
        };
        let all = !types.iter().all(|ty| ty.ordered());
        let arm = Wanted {
            types: Some(&types),
            named: true,
            comparable: false,
            level: wanted.level + 1,
        };
        let first = self.query(arm, outer);
        let mut sql = format!("({})", first.sql);
        for _ in 0..=self.below(2) {
            let mut op = self.pick(&[
                "UNION",
                "UNION ALL",
                "INTERSECT",
                "EXCEPT",
                "INTERSECT ALL",
                "EXCEPT ALL",
            ]);
            if all {
                op = "UNION ALL";
            }
            let next = self.query(arm, outer);
            sql = format!("{sql} {op} ({})", next.sql);
        }
        Rel {
            sql,
            columns: first.columns,
            inner: None,
            outputs: None,
            plain: false,
            room: 0,
        }
    }
}

impl Rel {
    /// An ORDER BY that leaves nothing open that could be seen: what is equal and not the
    /// same is sorted by its text.
    fn whole_order(&self) -> Option<Vec<SortKey>> {
        if !self.columns.iter().all(|(_, ty)| ty.ordered()) {
            return None;
        }
        let key = |text, at, form| SortKey {
            text,
            of: Sorted::Column(at, form),
            how: "",
        };
        let places = 0..self.columns.len();
        let mut keys: Vec<SortKey> = places
            .clone()
            .map(|at| key((at + 1).to_string(), at, ""))
            .collect();
        for at in places.filter(|at| !self.columns[*at].1.is_exact()) {
            let sql = &self.outputs.as_ref()?[at];
            // Text of a collation keeps it; all else has the database's when it becomes text.
            let form = match self.columns[at].1 {
                Ty::Nondet => "::text COLLATE \"C\"",
                _ => "::text",
            };
            keys.push(key(format!("({sql}){form}"), at, form));
        }
        Some(keys)
    }

    /// The keys of [`Rel::whole_order`] as the statement writes them.
    pub fn whole_order_by(&self) -> Option<Vec<String>> {
        let keys = self.whole_order()?;
        Some(keys.into_iter().map(|key| key.text).collect())
    }

    /// Whether a name of the output is one and can be meant by nothing else.
    pub fn unambiguous(&self, at: usize) -> bool {
        let name = &self.columns[at].0;
        !name.is_empty()
            && self
                .columns
                .iter()
                .filter(|(other, _)| other == name)
                .count()
                == 1
    }
}

impl Sorting {
    /// As the statement ends with it.
    fn clause(&self) -> String {
        let items: Vec<String> = self
            .keys
            .iter()
            .map(|key| format!("{}{}", key.text, key.how))
            .collect();
        match items.is_empty() {
            true => String::new(),
            false => format!(" ORDER BY {}", items.join(", ")),
        }
    }

    /// What it promises of the rows that are seen.
    fn order(&self) -> Order {
        let columns: Option<Vec<usize>> = self
            .keys
            .iter()
            .map(|key| match &key.of {
                Sorted::Column(at, _) => Some(*at),
                Sorted::Expression(_) => None,
            })
            .collect();
        match columns {
            Some(columns) if columns.is_empty() => Order::None,
            Some(columns) => Order::Columns(columns),
            None => Order::Hidden,
        }
    }

    /// The query with each row's rank as its last column.
    fn ranked(&self, rel: &Rel) -> Ranked {
        let (head, tail) = rel.sql.split_at(rel.sql.len() - rel.room);
        let (mut text, mut hidden, mut by) = (head.to_owned(), 0, Vec::new());
        for key in &self.keys {
            let of = match &key.of {
                Sorted::Column(at, form) => format!("c{at}{form}"),
                Sorted::Expression(sql) => {
                    text += &format!(", {sql}");
                    hidden += 1;
                    format!("k{hidden}")
                }
            };
            by.push(format!("{of}{}", key.how));
        }
        let seen: Vec<String> = (0..rel.columns.len()).map(|at| format!("c{at}")).collect();
        let sorted = (1..=hidden).map(|at| format!("k{at}"));
        let all: Vec<String> = seen.iter().cloned().chain(sorted).collect();
        let order_by = match by.is_empty() {
            true => String::new(),
            false => format!("ORDER BY {}", by.join(", ")),
        };
        Ranked {
            text: format!(
                "SELECT {}, dense_rank() OVER ({order_by}) FROM ({text}{tail}) AS ranked ({})",
                seen.join(", "),
                all.join(", ")
            ),
            offset: 0,
        }
    }
}
