//! Queries: SELECT in its clauses, set operations, CTEs, and what stands in FROM.

use crate::expr::{Atom, Ctx, Gen};
use crate::schema::{Kind, Relation};
use crate::statement::{Effect, Order, Statement};
use crate::values::{ALL, Ty};

/// A query with the columns that it gives.
#[derive(Debug, Clone)]
pub struct Rel {
    pub sql: String,
    pub columns: Vec<(String, Ty)>,
    /// The expressions of the columns, where an ORDER BY may repeat them.
    outputs: Option<Vec<String>>,
    /// In whose place an ORDER BY may use other expressions than output columns.
    inner: Option<Ctx>,
    /// One table, rows as they are: may be locked.
    plain: bool,
}

/// What a query may be.
#[derive(Clone, Copy)]
struct Wanted<'w> {
    types: Option<&'w [Ty]>,
    /// Columns must have names of their own.
    named: bool,
    /// All columns must have equality.
    comparable: bool,
    level: u32,
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
        let (order_by, order, total) = self.order(&rel);
        let mut text = format!("{}{order_by}", rel.sql);
        let mut unlimited = None;
        let limited = if total || matches!(order, Order::Columns(_)) {
            40
        } else {
            4
        };
        if self.chance(limited) {
            if let Some(limit) = self.limit(total, &order_by) {
                if !total {
                    unlimited = Some(text.clone());
                }
                text += &limit;
            }
        } else if rel.plain && self.chance(6) {
            self.has("row lock");
            text += self.pick(&[" FOR UPDATE", " FOR SHARE", " FOR NO KEY UPDATE"]);
        }
        Statement {
            text,
            values: self.values,
            features: self.features,
            order,
            effect: Effect::Reads,
            floats: self.floats,
            unlimited,
        }
    }

    /// LIMIT and its kin; not determined ones only in forms that give a certain number of rows.
    fn limit(&mut self, determined: bool, order_by: &str) -> Option<String> {
        let n = self.pick(&[0, 1, 2, 3, 5, 10]);
        if !determined && !order_by.is_empty() && self.chance(60) {
            // Peers come all or not at all, so that this is determined again.
            self.has("WITH TIES");
            return Some(format!(" FETCH FIRST {} ROWS WITH TIES", n.max(1)));
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
        let offset = match self.chance(30) {
            true => {
                self.has("OFFSET");
                format!(" OFFSET {}", self.below(4))
            }
            false => String::new(),
        };
        Some(match limit.starts_with(" FETCH") {
            true => format!("{offset}{limit}"),
            false => format!("{limit}{offset}"),
        })
    }

    fn literal_int8(&mut self, text: &str) -> String {
        self.put(crate::statement::Value {
            ty: Ty::Int8,
            text: Some(text.to_owned()),
            inline: text.to_owned(),
            parameter: true,
            cast: false,
        })
    }

    /// ORDER BY, what it promises, and whether nothing that is visible is left open.
    fn order(&mut self, rel: &Rel) -> (String, Order, bool) {
        if self.chance(45) {
            return (String::new(), Order::None, false);
        }
        self.has("ORDER BY");
        let sortable: Vec<usize> = (0..rel.columns.len())
            .filter(|at| rel.columns[*at].1.ordered())
            .collect();
        let (mut items, mut order) = (Vec::new(), Vec::new());
        let mut hidden = false;
        for _ in 0..=self.below(2) {
            if let Some(ctx) = &rel.inner
                && self.chance(25)
            {
                let ty = self.some_type(ctx);
                self.has("ORDER BY expression");
                items.push(self.sort_expr(ctx, ty));
                hidden = true;
            } else if !sortable.is_empty() {
                let at = self.pick(&sortable);
                let (name, ty) = &rel.columns[at];
                items.push(match (rel.unambiguous(at), self.below(3)) {
                    (true, 0 | 1) => name.clone(),
                    _ => (at + 1).to_string(),
                });
                if *ty == Ty::Text && rel.inner.is_some() && self.chance(10) {
                    self.has("ORDER BY COLLATE");
                    // A position is no expression.
                    let Some(ctx) = &rel.inner else { continue };
                    let text = self.expr(ctx, Ty::Text, 0);
                    *items.last_mut().expect("just put") =
                        format!("({text} || '') COLLATE \"en-x-icu\"");
                    hidden = true;
                } else {
                    order.push(at);
                }
            } else {
                continue;
            }
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
            *items.last_mut().expect("just put") += how;
        }
        let whole = rel.whole_order().filter(|_| self.chance(65));
        let total = whole.is_some();
        if let Some(whole) = whole {
            items.extend(whole);
            order.extend(0..rel.columns.len());
        }
        if items.is_empty() {
            return (String::new(), Order::None, false);
        }
        let promise = match hidden {
            true => Order::Hidden,
            false => Order::Columns(order),
        };
        (format!(" ORDER BY {}", items.join(", ")), promise, total)
    }

    /// A query of any form.
    fn query(&mut self, wanted: Wanted, outer: &[Atom]) -> Rel {
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
    fn recursive(&mut self, name: &str) -> String {
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

    fn typed(sql: &str, ty: Ty) -> String {
        format!("({sql})::{}", ty.name())
    }

    fn body(&mut self, wanted: Wanted, outer: &[Atom]) -> Rel {
        if self.budget > 1 && self.chance(12) {
            return self.set_operation(wanted, outer);
        }
        if self.chance(3) {
            return self.values_or_nothing(wanted, outer);
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
                };
            }
        }
        self.select(wanted, outer)
    }

    /// A SELECT without FROM, or VALUES.
    fn values_or_nothing(&mut self, wanted: Wanted, outer: &[Atom]) -> Rel {
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
        }
    }

    fn set_operation(&mut self, wanted: Wanted, outer: &[Atom]) -> Rel {
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
        }
    }

    /// A type that columns are likely to have.
    fn common_type(&mut self) -> Ty {
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
        if self.chance(12) && !self.schema.views.is_empty() {
            let views = &self.schema.views;
            self.has("view");
            return (self.pick(views), vec![0]);
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

    fn one_table(&mut self, relation: &Relation, key: Vec<usize>) -> (String, Vec<Atom>) {
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

    fn aliased(
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
    fn entry(
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

    fn key_or_value(&mut self, ty: Ty) -> String {
        match crate::values::KEYS.contains(&ty) {
            true => self.key_literal(ty),
            false => self.literal(ty),
        }
    }

    /// ORDER BY and LIMIT below the top, so that the rows are determined.
    fn inner_limit(&mut self, rel: &mut Rel) {
        if let Some(all) = rel.whole_order()
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
        }
    }

    /// FROM and its columns.
    fn from(&mut self, level: u32, outer: &[Atom]) -> (String, Vec<Atom>, bool) {
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

    fn on(&mut self, kind: &str, left: &[Atom], right: &[Atom]) -> String {
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

    fn select(&mut self, wanted: Wanted, outer: &[Atom]) -> Rel {
        let (from, atoms, single) = self.from(wanted.level, outer);
        let rows = Ctx {
            atoms,
            outer: outer.to_vec(),
            level: wanted.level,
            ..Ctx::default()
        };
        let mut tail = String::new();
        if self.chance(60) {
            self.has("WHERE");
            let depth = self.pick(&[0, 0, 1, 2]);
            let mut condition = self.predicate(&rows, depth);
            if self.chance(25)
                && let Some(key) = self.key_condition(&rows)
            {
                condition = format!("{key} AND ({condition})");
            }
            tail += &format!(" WHERE {condition}");
        }
        let grouped = self.chance(28);
        let mut ctx = match grouped {
            true => self.group(&rows, &mut tail),
            false => rows,
        };
        let distinct = self.chance(if grouped { 4 } else { 12 });
        let comparable = wanted.comparable || distinct;
        ctx.windows = self.chance(12);
        let types = self.output_types(wanted, &ctx, comparable);
        let mut outputs = Vec::new();
        let mut exprs = Vec::new();
        let mut columns = Vec::new();
        let star = !grouped && wanted.types.is_none() && single && !wanted.named && self.chance(12);
        if grouped && wanted.types.is_none() && self.chance(15) {
            self.named_keys(&ctx, &mut tail, &mut outputs, &mut columns);
            exprs.extend(
                ctx.atoms
                    .iter()
                    .take(columns.len())
                    .map(|atom| atom.sql.clone()),
            );
        }
        for ty in types {
            let sql = self.expr(&ctx, ty, 2);
            let sql = match ty {
                // As an output it is to be of exactly this type, also where it is null or unknown.
                Ty::Pos | Ty::Varchar | Ty::Char => format!("({sql})::{}", ty.name()),
                _ => sql,
            };
            exprs.push(sql.clone());
            let (name, text) = match wanted.named || self.chance(60) {
                true => {
                    let name = self.name("o");
                    let text = format!("{sql} AS {name}");
                    (name, text)
                }
                false => (String::new(), sql),
            };
            outputs.push(text);
            columns.push((name, ty));
        }
        if star {
            self.has("SELECT *");
            outputs = vec!["*".to_owned()];
            columns = ctx
                .atoms
                .iter()
                .map(|atom| (String::new(), atom.ty))
                .collect();
        }
        if distinct && columns.iter().any(|(_, ty)| !ty.ordered()) {
            return self.finish(from, outputs, columns, tail, "", ctx, single && !grouped);
        }
        if distinct && !grouped && !star && !ctx.windows && wanted.level > 0 && self.chance(30) {
            // Its ORDER BY is part of it, so what is sorted anew is around it.
            self.has("DISTINCT ON");
            let all: Vec<String> = (1..=columns.len()).map(|at| at.to_string()).collect();
            let sql = format!(
                "SELECT * FROM (SELECT DISTINCT ON (1) {} FROM {from}{tail} ORDER BY {}) AS {}",
                outputs.join(", "),
                all.join(", "),
                self.name("d")
            );
            return Rel {
                sql,
                columns,
                inner: None,
                outputs: None,
                plain: false,
            };
        }
        let word = match distinct {
            true => {
                self.has("DISTINCT");
                "DISTINCT "
            }
            false => "",
        };
        let known = match star {
            true => ctx.atoms.iter().map(|atom| atom.sql.clone()).collect(),
            false => exprs,
        };
        let repeatable = word.is_empty().then_some(known);
        let rel = self.finish(from, outputs, columns, tail, word, ctx, single && !grouped);
        Rel {
            outputs: repeatable,
            ..rel
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the clauses of one SELECT")]
    fn finish(
        &mut self,
        from: String,
        outputs: Vec<String>,
        columns: Vec<(String, Ty)>,
        tail: String,
        distinct: &str,
        ctx: Ctx,
        plain: bool,
    ) -> Rel {
        let windows = self.features.contains("window");
        Rel {
            sql: format!("SELECT {distinct}{} FROM {from}{tail}", outputs.join(", ")),
            columns,
            plain: plain
                && distinct.is_empty()
                && !windows
                && from.starts_with(['t', 'u', 'w', 'r', 'q', 'h']),
            outputs: None,
            inner: distinct.is_empty().then_some(ctx),
        }
    }

    /// The keys of a plain GROUP BY as outputs, and there named by their places or names.
    fn named_keys(
        &mut self,
        ctx: &Ctx,
        tail: &mut String,
        outputs: &mut Vec<String>,
        columns: &mut Vec<(String, Ty)>,
    ) {
        let is_key = |atom: &&Atom| !atom.sql.starts_with("grouping(");
        let keys: Vec<Atom> = ctx.atoms.iter().filter(is_key).cloned().collect();
        let texts: Vec<&str> = keys.iter().map(|key| key.sql.as_str()).collect();
        let clause = format!(" GROUP BY {}", texts.join(", "));
        if keys.is_empty() || keys.len() != ctx.atoms.len() || !tail.contains(&clause) {
            return;
        }
        self.has("GROUP BY place or name");
        let mut by = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let name = self.name("o");
            outputs.push(format!("{} AS {name}", key.sql));
            by.push(if self.chance(50) {
                (at + 1).to_string()
            } else {
                name.clone()
            });
            columns.push((name, key.ty));
        }
        *tail = tail.replacen(&clause, &format!(" GROUP BY {}", by.join(", ")), 1);
    }

    fn output_types(&mut self, wanted: Wanted, ctx: &Ctx, comparable: bool) -> Vec<Ty> {
        if let Some(types) = wanted.types {
            return types.to_vec();
        }
        let count = self.below(4) + 1;
        let mut types = Vec::new();
        for _ in 0..count {
            let reach = ctx.types();
            let ty = match (reach.is_empty(), self.below(10)) {
                (false, 0..7) => self.pick(&reach),
                (_, 7) => Ty::Int8,
                (_, 8) => Ty::Numeric,
                _ => self.common_type(),
            };
            types.push(if comparable && !ty.ordered() {
                Ty::Text
            } else {
                ty
            });
        }
        types
    }

    /// GROUP BY and HAVING, and what stands above them.
    fn group(&mut self, rows: &Ctx, tail: &mut String) -> Ctx {
        let mut keys: Vec<Atom> = Vec::new();
        for _ in 0..self.below(3) {
            let ty = self.some_type(&Ctx {
                outer: Vec::new(),
                ..rows.clone()
            });
            let columns: Vec<Atom> = rows
                .atoms
                .iter()
                .filter(|atom| atom.ty == ty)
                .cloned()
                .collect();
            let atom = match columns.is_empty() || self.chance(20) {
                true => {
                    let inner = Ctx {
                        outer: Vec::new(),
                        level: 9,
                        ..rows.clone()
                    };
                    Atom {
                        sql: format!(
                            "coalesce({}, {})",
                            self.expr(&inner, ty, 1),
                            self.literal(ty)
                        ),
                        ty,
                        key: false,
                    }
                }
                false => Atom {
                    key: false,
                    ..self.pick(&columns)
                },
            };
            if !keys.iter().any(|key| key.sql == atom.sql) {
                keys.push(atom);
            }
        }
        let texts: Vec<String> = keys.iter().map(|key| key.sql.clone()).collect();
        let mut atoms = keys.clone();
        if !keys.is_empty() {
            self.has("GROUP BY");
            let list = texts.join(", ");
            let by = match self.below(10) {
                0 => format!("ROLLUP ({list})"),
                1 => format!("CUBE ({list})"),
                2 => format!("GROUPING SETS (({list}), ({}), ())", texts[0]),
                3 => format!("DISTINCT {list}, {}", texts[0]),
                _ => list,
            };
            if by.starts_with(['R', 'C', 'G']) && by.contains("(") && !by.starts_with("CASE") {
                self.has("grouping sets");
                atoms.push(Atom {
                    sql: format!("grouping({})", texts[0]),
                    ty: Ty::Int4,
                    key: false,
                });
            }
            *tail += &format!(" GROUP BY {by}");
        } else {
            self.has("ungrouped aggregate");
            if self.chance(30) {
                *tail += " GROUP BY ()";
            }
        }
        let ctx = Ctx {
            atoms,
            outer: rows.outer.clone(),
            rows: Some(Box::new(rows.clone())),
            windows: false,
            level: rows.level,
        };
        // Without an aggregate or a key it would be no grouped query at all.
        let needed = keys.is_empty();
        if self.chance(25) {
            self.has("HAVING");
            *tail += &format!(" HAVING {}", self.predicate(&ctx, 1));
        } else if needed {
            *tail += " HAVING count(*) >= 0";
        }
        ctx
    }

    /// What a subquery may use of the queries around: plain columns, because of a grouped
    /// query's expressions PostgreSQL knows no more down there that they are grouped by.
    fn seen_from_below(ctx: &Ctx) -> Vec<Atom> {
        let plain = |atom: &&Atom| {
            atom.sql
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_'))
        };
        ctx.atoms
            .iter()
            .chain(&ctx.outer)
            .filter(plain)
            .cloned()
            .collect()
    }

    /// A subquery that gives one value at most.
    pub fn scalar_subquery(&mut self, ctx: &Ctx, ty: Ty) -> String {
        if !ty.ordered() {
            return self.literal(ty);
        }
        let types = [ty];
        let wanted = Wanted {
            types: Some(&types),
            named: true,
            comparable: true,
            level: ctx.level + 1,
        };
        let correlated = if self.chance(50) {
            Self::seen_from_below(ctx)
        } else {
            Vec::new()
        };
        let rel = self.query(wanted, &correlated);
        match rel.whole_order() {
            Some(all) => format!("({} ORDER BY {} LIMIT 1)", rel.sql, all.join(", ")),
            None => {
                let d = self.name("d");
                let text = format!("{d}.x::text COLLATE \"C\"");
                format!(
                    "(SELECT {d}.x FROM ({}) AS {d} (x) ORDER BY 1, {text} LIMIT 1)",
                    rel.sql
                )
            }
        }
    }

    /// A condition on `a` with a subquery.
    pub fn subquery_condition(&mut self, ctx: &Ctx, ty: Ty, a: &str) -> String {
        let correlated = if self.chance(60) {
            Self::seen_from_below(ctx)
        } else {
            Vec::new()
        };
        let types = [ty];
        let wanted = Wanted {
            types: Some(&types),
            named: true,
            comparable: false,
            level: ctx.level + 1,
        };
        let rel = self.query(wanted, &correlated);
        match self.below(6) {
            0 => format!("EXISTS ({})", rel.sql),
            1 => format!("NOT EXISTS ({})", rel.sql),
            2 | 3 => format!("{a} IN ({})", rel.sql),
            4 => format!("{a} NOT IN ({})", rel.sql),
            _ => {
                let op = self.pick(&["= ANY", "<> ALL", "> ALL", "< ANY"]);
                format!("{a} {op} ({})", rel.sql)
            }
        }
    }
}

impl Rel {
    /// An ORDER BY that leaves nothing open that could be seen: what is equal and not the
    /// same is sorted by its text.
    fn whole_order(&self) -> Option<Vec<String>> {
        if !self.columns.iter().all(|(_, ty)| ty.ordered()) {
            return None;
        }
        let mut items: Vec<String> = (1..=self.columns.len()).map(|at| at.to_string()).collect();
        let inexact = (0..self.columns.len()).filter(|at| !self.columns[*at].1.is_exact());
        for at in inexact {
            let sql = &self.outputs.as_ref()?[at];
            items.push(format!("({sql})::text COLLATE \"C\""));
        }
        Some(items)
    }

    /// Whether a name of the output is one and can be meant by nothing else.
    fn unambiguous(&self, at: usize) -> bool {
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
