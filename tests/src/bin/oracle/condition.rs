//! Conditions, those on shard keys among them.

use crate::expr::{Atom, Ctx, Gen};
use crate::values::Ty;

impl Gen<'_> {
    /// A condition.
    pub fn predicate(&mut self, ctx: &Ctx, depth: u32) -> String {
        if depth > 0 {
            match self.below(10) {
                0 | 1 => {
                    return format!(
                        "({} AND {})",
                        self.predicate(ctx, depth - 1),
                        self.predicate(ctx, depth - 1)
                    );
                }
                2 => {
                    return format!(
                        "({} OR {})",
                        self.predicate(ctx, depth - 1),
                        self.predicate(ctx, depth - 1)
                    );
                }
                3 => return format!("(NOT {})", self.predicate(ctx, depth - 1)),
                4 => {
                    let is = self.pick(&[
                        "IS TRUE",
                        "IS NOT TRUE",
                        "IS FALSE",
                        "IS NOT FALSE",
                        "IS UNKNOWN",
                    ]);
                    return format!("({} {is})", self.predicate(ctx, depth - 1));
                }
                _ => {}
            }
        }
        if self.chance(35)
            && let Some(condition) = self.key_condition(ctx)
        {
            return condition;
        }
        let ty = self.some_type(ctx);
        let a = self.expr(ctx, ty, depth.min(1));
        let op = self.pick(&["=", "=", "<>", "<", "<=", ">", ">="]);
        match self.below(17) {
            0..5 => format!("{a} {op} {}", self.expr(ctx, ty, depth.min(1))),
            5 => format!("{a} {op} {}", self.literal(ty)),
            6 => {
                let is = self.pick(&["IS NULL", "IS NOT NULL"]);
                format!("{a} {is}")
            }
            7 => {
                let is = self.pick(&["IS DISTINCT FROM", "IS NOT DISTINCT FROM"]);
                format!("({a} {is} {})", self.expr(ctx, ty, 0))
            }
            8 => {
                let between = self.pick(&["BETWEEN", "NOT BETWEEN", "BETWEEN SYMMETRIC"]);
                format!(
                    "({a} {between} {} AND {})",
                    self.literal(ty),
                    self.literal(ty)
                )
            }
            9 | 10 => {
                let within = self.pick(&["IN", "NOT IN"]);
                let values: Vec<String> = (0..3).map(|_| self.expr(ctx, ty, 0)).collect();
                format!("({a} {within} ({}))", values.join(", "))
            }
            11 => match ctx.types().contains(&Ty::Text) {
                true => {
                    let like = self.pick(&["LIKE", "NOT LIKE", "ILIKE", "~"]);
                    let pattern = self.pick(&["'a%'", "'%b'", "'_'", "'%'"]);
                    format!("({} {like} {pattern})", self.expr(ctx, Ty::Text, 0))
                }
                false => format!("{a} {op} {}", self.literal(ty)),
            },
            12 => {
                let (other, list) = (self.some_type(ctx), self.literal(ty));
                let (b, c) = (self.expr(ctx, other, 0), self.literal(other));
                let op = self.pick(&["=", "<", ">=", "<>"]);
                self.has("row comparison");
                format!("(({a}, {b}) {op} ({list}, {c}))")
            }
            13..16 if ctx.level < 2 && self.budget > 0 => {
                self.has("subquery condition");
                self.subquery_condition(ctx, ty, &a)
            }
            16 => match self.below(9) {
                0 => format!(
                    "{} @> {}",
                    self.expr(ctx, Ty::Jsonb, 0),
                    self.literal(Ty::Jsonb)
                ),
                1 => format!(
                    "{} && {}",
                    self.expr(ctx, Ty::Ints, 0),
                    self.literal(Ty::Ints)
                ),
                2 => format!(
                    "{} @> {}",
                    self.expr(ctx, Ty::Span, 0),
                    self.expr(ctx, Ty::Int4, 0)
                ),
                3 => format!("starts_with({}, 'a')", self.expr(ctx, Ty::Text, 0)),
                4 => {
                    let op = self.pick(&["&&", "@>", "<@"]);
                    format!(
                        "({} {op} {})",
                        self.expr(ctx, Ty::Texts, 0),
                        self.literal(Ty::Texts)
                    )
                }
                5 => {
                    let like = self.pick(&["LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE"]);
                    let pattern = self.pick(&["'A!%' ESCAPE '!'", "'%B' ESCAPE ''", "'x_%'"]);
                    format!("({} {like} {pattern})", self.expr(ctx, Ty::Text, 0))
                }
                _ => self.json_condition(ctx),
            },
            _ => format!("{a} {op} {}", self.expr(ctx, ty, 0)),
        }
    }

    /// A condition on what is in JSON.
    fn json_condition(&mut self, ctx: &Ctx) -> String {
        self.has("json condition");
        let json = self.expr(ctx, Ty::Jsonb, 0);
        let key = self.pick(&["a", "b", "k", "l", "x"]);
        let text = self.pick(&["1", "1.0", "[1, 2]", "x", "a", "true", "{\"a\": 1}"]);
        match self.below(9) {
            0 => format!("({json} ->> '{key}' = '{text}')"),
            1 => format!("({json} #>> '{{{key}}}' IN ('{text}', '1', NULL))"),
            2 => format!("({json} -> '{key}' ->> 'a' = '{text}')"),
            3 => format!("({json} ? '{key}')"),
            4 => format!("({json} ?| ARRAY['{key}', 'x'])"),
            5 => format!("({json} -> '{key}' @> {})", self.literal(Ty::Jsonb)),
            6 => format!("({json} -> '{key}' = {})", self.literal(Ty::Jsonb)),
            7 => {
                let is = self.pick(&["IS NOT NULL", "IS NULL", "LIKE '[%'", "ILIKE 'X'", "<> 'x'"]);
                format!("({json} ->> '{key}' {is})")
            }
            _ => format!("({} <@ {json})", self.literal(Ty::Jsonb)),
        }
    }

    /// A condition on a shard key, which may name its shards.
    pub fn key_condition(&mut self, ctx: &Ctx) -> Option<String> {
        let keys: Vec<&Atom> = ctx.atoms.iter().filter(|atom| atom.key).collect();
        if keys.is_empty() {
            return None;
        }
        let key = self.pick(&keys).clone();
        let (k, ty) = (&key.sql, key.ty);
        self.has("key condition");
        let one = |gen_: &mut Self| gen_.key_literal(ty);
        Some(match self.below(14) {
            0..5 => format!("{k} = {}", one(self)),
            5 => format!("{} = {k}", one(self)),
            6 => format!("{k} IN ({}, {}, {})", one(self), one(self), one(self)),
            7 => format!("{k} = ANY (ARRAY[{}, {}])", one(self), one(self)),
            8 => format!("({k} = {} OR {k} = {})", one(self), one(self)),
            9 => format!("{k} BETWEEN {} AND {}", one(self), one(self)),
            10 => {
                let (low, high) = (self.pick(&["<", "<="]), self.pick(&[">", ">="]));
                format!("({k} {high} {} AND {k} {low} {})", one(self), one(self))
            }
            11 => format!("({k} IS NOT DISTINCT FROM {})", one(self)),
            12 => format!("({k} IS NULL OR {k} = {})", one(self)),
            _ => format!("NOT ({k} <> {})", one(self)),
        })
    }
}
