//! One SELECT: its output columns, WHERE, GROUP BY and HAVING, DISTINCT.

use crate::expr::{Atom, Ctx, Gen};
use crate::query::{Rel, Wanted};
use crate::values::Ty;

impl Gen<'_> {
    pub fn select(&mut self, wanted: Wanted, outer: &[Atom]) -> Rel {
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
        let star = !grouped && wanted.types.is_none() && single && !wanted.named && self.chance(25);
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
                room: 0,
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
    pub fn finish(
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
            room: " FROM ".len() + from.len() + tail.len(),
        }
    }

    /// The keys of a plain GROUP BY as outputs, and there named by their places or names.
    pub fn named_keys(
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

    pub fn output_types(&mut self, wanted: Wanted, ctx: &Ctx, comparable: bool) -> Vec<Ty> {
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
    pub fn group(&mut self, rows: &Ctx, tail: &mut String) -> Ctx {
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
                    let sql = format!(
                        "coalesce({}, {})",
                        self.expr(&inner, ty, 1),
                        self.literal(ty)
                    );
                    // PostgreSQL before 18 takes a constant that grouping sets make null for one, and does not sort by it.
                    if !rows.atoms.iter().any(|column| sql.contains(&column.sql)) {
                        continue;
                    }
                    Atom {
                        sql,
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
                    // All of them: an order by the keys and this has no ties.
                    sql: format!("grouping({})", texts.join(", ")),
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
        if self.chance(20) {
            // It looks at how large groups are, as the shards may divide them further.
            self.has("HAVING count");
            *tail += &format!(" HAVING count(*) > {}", self.below(4));
        } else if self.chance(25) {
            self.has("HAVING");
            *tail += &format!(" HAVING {}", self.predicate(&ctx, 1));
        } else if needed {
            *tail += " HAVING count(*) >= 0";
        }
        ctx
    }
}
