//! Aggregates and window functions of a wanted type.
//!
//! Their answers are determined: what depends on the order of rows is told one,
//! by all columns that can be sorted by.

use crate::expr::{Ctx, Gen};
use crate::values::Ty;

impl Gen<'_> {
    /// An aggregate over the rows of a grouped query, if one gives this type.
    pub fn aggregate(&mut self, ctx: &Ctx, ty: Ty) -> Option<String> {
        let rows = ctx.rows.as_deref()?;
        // An aggregate of nothing but outer columns belongs to the query around.
        let rows = Ctx {
            outer: Vec::new(),
            level: 9,
            rows: None,
            windows: false,
            ..rows.clone()
        };
        let call = self.aggregate_call(&rows, ty, true)?;
        let filter = match self.chance(20) {
            true => {
                self.has("FILTER");
                format!(" FILTER (WHERE {})", self.predicate(&rows, 0))
            }
            false => String::new(),
        };
        self.has("aggregate");
        // FILTER belongs to the call, and what is done to its value stands behind both.
        Some(
            match (call.strip_suffix("::int4"), call.strip_suffix(")[1]")) {
                (Some(call), _) => format!("({call}{filter})::int4"),
                (_, Some(call)) => format!("{call}{filter})[1]"),
                _ => format!("{call}{filter}"),
            },
        )
    }

    /// The call without what follows it; `sets`: DISTINCT, ORDER BY and WITHIN GROUP are allowed.
    fn aggregate_call(&mut self, rows: &Ctx, ty: Ty, sets: bool) -> Option<String> {
        let distinct = match sets && self.chance(15) {
            true => {
                self.has("aggregate DISTINCT");
                "DISTINCT "
            }
            false => "",
        };
        if sets && ty == Ty::Int8 && self.chance(20) {
            // The shards group by them, more finely than the statement may.
            let keys: Vec<_> = rows.atoms.iter().filter(|atom| atom.key).cloned().collect();
            if !keys.is_empty() {
                self.has("aggregate DISTINCT of a key");
                return Some(format!("count(DISTINCT {})", self.pick(&keys).sql));
            }
        }
        let of = |gen_: &mut Self, ty| gen_.expr(rows, ty, 1);
        if sets && ty.ordered() && self.chance(12) {
            self.has("ordered-set aggregate");
            let x = of(self, ty);
            return Some(match self.below(2) {
                0 => format!("mode() WITHIN GROUP (ORDER BY {x})"),
                _ => format!("percentile_disc(0.5) WITHIN GROUP (ORDER BY {x} DESC)"),
            });
        }
        if sets && matches!(ty, Ty::Int8 | Ty::Float8) && self.chance(8) {
            self.has("hypothetical-set aggregate");
            let of_type = self.some_type(rows);
            let x = of(self, of_type);
            let name = match ty {
                Ty::Int8 => self.pick(&["rank", "dense_rank"]),
                _ => self.pick(&["percent_rank", "cume_dist"]),
            };
            let sought = self.literal(of_type);
            return Some(format!("{name}({sought}) WITHIN GROUP (ORDER BY {x})"));
        }
        let extreme = ty.has_extremes() && self.chance(40);
        if extreme {
            self.has("choice");
            let name = self.pick(&["min", "max"]);
            return Some(format!("{name}({distinct}{})", of(self, ty)));
        }
        let float = |gen_: &mut Self, sql: String| {
            gen_.floats = true;
            Some(sql)
        };
        match ty {
            Ty::Int8 => Some(match self.below(8) {
                0..3 => "count(*)".to_owned(),
                3 | 4 => {
                    let any = self.some_type(rows);
                    format!("count({distinct}{})", of(self, any))
                }
                5 => format!("sum({distinct}{})", of(self, Ty::Int4)),
                6 => format!("sum({distinct}{})", of(self, Ty::Int2)),
                _ => {
                    let name = self.pick(&["bit_and", "bit_or", "bit_xor"]);
                    format!("{name}({})", of(self, ty))
                }
            }),
            Ty::Int4 if self.chance(50) => Some("count(*)::int4".to_owned()),
            Ty::Numeric => {
                let x = self.pick(&[Ty::Int8, Ty::Numeric, Ty::Int4, Ty::Int2]);
                if x == Ty::Int8 && self.chance(50) {
                    return Some(format!("sum({distinct}{})", of(self, x)));
                }
                let name =
                    self.pick(&["avg", "avg", "stddev", "var_pop", "variance", "stddev_pop"]);
                let name = if x == Ty::Numeric && self.chance(40) {
                    "sum"
                } else {
                    name
                };
                Some(format!("{name}({distinct}{})", of(self, x)))
            }
            Ty::Float4 | Ty::Float8 if self.exact => None,
            Ty::Float8 => {
                let sql = match self.below(5) {
                    0 | 1 => {
                        let name = self.pick(&["sum", "avg", "stddev", "var_pop"]);
                        format!("{name}({distinct}{})", of(self, ty))
                    }
                    2 => {
                        let name =
                            self.pick(&["corr", "covar_pop", "regr_slope", "regr_avgx", "regr_r2"]);
                        format!("{name}({}, {})", of(self, ty), of(self, ty))
                    }
                    3 if sets => format!(
                        "percentile_cont(0.3) WITHIN GROUP (ORDER BY {})",
                        of(self, ty)
                    ),
                    _ => format!("sum({distinct}{})", of(self, ty)),
                };
                float(self, sql)
            }
            Ty::Float4 => {
                let sql = format!("sum({})", of(self, ty));
                float(self, sql)
            }
            Ty::Bool => {
                let name = self.pick(&["bool_and", "bool_or", "every"]);
                Some(format!("{name}({})", of(self, ty)))
            }
            Ty::Text if sets => {
                let x = of(self, ty);
                Some(match distinct {
                    "" => format!("string_agg({x}, ',' ORDER BY {x})"),
                    _ => format!("string_agg(DISTINCT {x}, '+')"),
                })
            }
            Ty::Jsonb if sets => {
                let any = self.some_type(rows);
                let x = of(self, any);
                Some(match self.below(2) {
                    0 => format!("jsonb_agg({x} ORDER BY {x})"),
                    _ => {
                        let k = of(self, Ty::Text);
                        format!("jsonb_object_agg(coalesce({k}, ''), {x} ORDER BY {x})")
                    }
                })
            }
            Ty::Json if sets => {
                let any = self.some_type(rows);
                let x = of(self, any);
                Some(format!("json_agg({x} ORDER BY {x})"))
            }
            Ty::Ints | Ty::Texts | Ty::Moods if sets => {
                let element = match ty {
                    Ty::Ints => Ty::Int4,
                    Ty::Texts => Ty::Text,
                    _ => Ty::Mood,
                };
                let x = of(self, element);
                Some(format!("array_agg({distinct}{x} ORDER BY {x})"))
            }
            Ty::Interval => {
                let name = self.pick(&["sum", "avg"]);
                Some(format!("{name}({})", of(self, ty)))
            }
            Ty::Span => Some(format!("range_intersect_agg({})", of(self, ty))),
            _ if sets && ty.ordered() => {
                let x = of(self, ty);
                Some(format!("(array_agg({x} ORDER BY {x}))[1]"))
            }
            _ => None,
        }
    }

    /// A window function, if one gives this type.
    pub fn window(&mut self, ctx: &Ctx, ty: Ty) -> Option<String> {
        let inside = Ctx {
            windows: false,
            level: 9,
            ..ctx.clone()
        };
        let ranks = ty == Ty::Int8 && self.chance(60);
        let shifts = !ranks && self.chance(50);
        let call = if ranks {
            self.pick(&["row_number()", "rank()", "dense_rank()"])
                .to_owned()
        } else if ty == Ty::Float8 && self.chance(30) {
            self.pick(&["percent_rank()", "cume_dist()"]).to_owned()
        } else if shifts {
            let x = self.expr(&inside, ty, 0);
            let name = self.pick(&["lag", "lead", "first_value", "last_value", "nth_value"]);
            match name {
                "nth_value" => format!("nth_value({x}, 2)"),
                name => format!("{name}({x})"),
            }
        } else {
            let rows = Ctx {
                outer: Vec::new(),
                ..inside.clone()
            };
            let rows = match ctx.rows {
                // Aggregates of aggregates would need one level more.
                Some(_) => Ctx { rows: None, ..rows },
                None => rows,
            };
            let call = self.aggregate_call(&rows, ty, false)?;
            if call.ends_with("::int4") {
                return None;
            }
            call
        };
        self.has("window");
        let mut over = Vec::new();
        if self.chance(50) {
            let by = self.some_type(&inside);
            over.push(format!("PARTITION BY {}", self.sort_expr(&inside, by)));
        }
        let mut order: Vec<String> = Vec::new();
        if self.chance(60) {
            let by = self.some_type(&inside);
            let direction = self.pick(&["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]);
            order.push(self.sort_expr(&inside, by) + direction);
        }
        // What looks at single rows is determined only by a whole order.
        let peers = matches!(
            call.as_str(),
            "rank()" | "dense_rank()" | "percent_rank()" | "cume_dist()"
        );
        let frame = self.chance(35) && !ranks;
        if !peers || frame {
            order.extend(
                ctx.atoms
                    .iter()
                    .filter(|atom| atom.ty.ordered())
                    .map(|atom| atom.sql.clone()),
            );
        }
        if !order.is_empty() {
            over.push(format!("ORDER BY {}", order.join(", ")));
            if frame {
                self.has("window frame");
                let unit = self.pick(&["ROWS", "GROUPS", "RANGE"]);
                let ends: &[&str] = match unit {
                    // A distance needs a type that can be added to.
                    "RANGE" => &[
                        "UNBOUNDED PRECEDING",
                        "BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
                        "BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP",
                    ],
                    _ => &[
                        "UNBOUNDED PRECEDING",
                        "BETWEEN 1 PRECEDING AND 1 FOLLOWING",
                        "BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
                        "BETWEEN 2 PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW",
                        "BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING EXCLUDE TIES",
                    ],
                };
                let ends = self.pick(ends);
                over.push(format!("{unit} {ends}"));
            }
        }
        Some(format!("{call} OVER ({})", over.join(" ")))
    }

    /// Something to sort or group by: never a bare value, which would be a position.
    pub fn sort_expr(&mut self, ctx: &Ctx, ty: Ty) -> String {
        let columns: Vec<String> = ctx
            .atoms
            .iter()
            .filter(|atom| atom.ty == ty)
            .map(|a| a.sql.clone())
            .collect();
        if !columns.is_empty() && self.chance(70) {
            return self.pick(&columns);
        }
        format!(
            "coalesce({}, {})",
            self.expr(ctx, ty, 1),
            self.expr(ctx, ty, 0)
        )
    }
}
