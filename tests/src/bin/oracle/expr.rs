//! Expressions of a wanted type over columns that are in scope.
//!
//! A small typed grammar: whoever asks for a type gets text that PostgreSQL takes
//! for it, with few exceptions. Where an operation can fail for some values it is
//! written so that it cannot (`x % 1000`, `nullif(y, 0)`), because which rows an
//! error meets first is nobody's promise.

use crate::schema::{Relation, Schema};
use crate::statement::{Value, mark};
use crate::values::{ALL, Ty};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeSet;

/// Something that has a type and may stand in an expression.
#[derive(Debug, Clone)]
pub struct Atom {
    pub sql: String,
    pub ty: Ty,
    /// Values to compare it with, beside those of the type.
    pub key: bool,
}

/// What may stand in an expression.
#[derive(Debug, Clone, Default)]
pub struct Ctx {
    pub atoms: Vec<Atom>,
    /// Columns of the queries around.
    pub outer: Vec<Atom>,
    /// The rows below a GROUP BY: aggregates are over these.
    pub rows: Option<Box<Ctx>>,
    pub windows: bool,
    /// How many levels of subqueries there are around.
    pub level: u32,
}

impl Ctx {
    /// All types that a column in reach has, each as often as there are columns of it.
    pub fn types(&self) -> Vec<Ty> {
        self.atoms.iter().map(|atom| atom.ty).collect()
    }
}

/// What is being generated.
pub struct Gen<'a> {
    pub rng: StdRng,
    pub schema: &'a Schema,
    pub values: Vec<Value>,
    pub features: BTreeSet<&'static str>,
    /// CTEs in reach.
    pub ctes: Vec<Relation>,
    pub floats: bool,
    /// Nothing whose last digits depend on the order of the rows: it may be stored.
    pub exact: bool,
    /// Views of more depth are not read.
    pub reach: usize,
    names: usize,
    /// How many queries may still be nested.
    pub budget: i32,
}

impl<'a> Gen<'a> {
    pub fn new(seed: u64, schema: &'a Schema) -> Gen<'a> {
        Gen {
            rng: StdRng::seed_from_u64(seed),
            schema,
            values: Vec::new(),
            features: BTreeSet::new(),
            ctes: Vec::new(),
            floats: false,
            exact: false,
            reach: usize::MAX,
            names: 0,
            budget: 5,
        }
    }

    pub fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of.choose(&mut self.rng)
            .expect("something to choose from")
            .clone()
    }

    pub fn has(&mut self, feature: &'static str) {
        self.features.insert(feature);
    }

    /// A name that nothing else has.
    pub fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// A value, sometimes null.
    pub fn literal(&mut self, ty: Ty) -> String {
        if self.chance(3) {
            return self.value(ty, None);
        }
        let text = self.pick(ty.pool());
        self.value(ty, Some(text))
    }

    /// A value that a key may have.
    pub fn key_literal(&mut self, ty: Ty) -> String {
        if self.chance(4) {
            return self.literal(ty);
        }
        let pool = ty.key_pool();
        let text = self.pick(&pool[..pool.len().min(18)]);
        self.value(ty, Some(&text))
    }

    fn value(&mut self, ty: Ty, text: Option<&str>) -> String {
        let bare = text.and_then(|text| ty.bare(text));
        let inline = match bare {
            Some(bare) if self.chance(70) => bare,
            _ => Value::cast_inline(ty, text),
        };
        self.put(Value {
            ty,
            text: text.map(str::to_owned),
            inline,
            parameter: true,
            cast: ty.oid() == 0,
        })
    }

    pub fn put(&mut self, mut value: Value) -> String {
        value.parameter &= self.chance(60);
        value.cast |= self.chance(40);
        self.values.push(value);
        mark(self.values.len() - 1)
    }

    /// An atom of this type, or a value.
    fn leaf(&mut self, ctx: &Ctx, ty: Ty) -> String {
        if self.chance(80) {
            let own: Vec<&Atom> = ctx.atoms.iter().filter(|atom| atom.ty == ty).collect();
            if !own.is_empty() && (ctx.outer.is_empty() || self.chance(75)) {
                return self.pick(&own).sql.clone();
            }
            let outer: Vec<&Atom> = ctx.outer.iter().filter(|atom| atom.ty == ty).collect();
            if !outer.is_empty() {
                self.has("correlated");
                return self.pick(&outer).sql.clone();
            }
            if !own.is_empty() {
                return self.pick(&own).sql.clone();
            }
        }
        self.literal(ty)
    }

    /// A type for something that is to be compared: one that columns have, if it may be ordered.
    pub fn some_type(&mut self, ctx: &Ctx) -> Ty {
        let types: Vec<Ty> = ctx.types().into_iter().filter(|ty| ty.ordered()).collect();
        if types.is_empty() || self.chance(8) {
            let all: Vec<Ty> = ALL.into_iter().filter(|ty| ty.ordered()).collect();
            return self.pick(&all);
        }
        self.pick(&types)
    }

    /// An expression of this type.
    pub fn expr(&mut self, ctx: &Ctx, ty: Ty, depth: u32) -> String {
        if ctx.rows.is_some()
            && self.chance(60)
            && let Some(aggregate) = self.aggregate(ctx, ty)
        {
            return aggregate;
        }
        if ctx.windows
            && self.chance(60)
            && let Some(window) = self.window(ctx, ty)
        {
            return window;
        }
        if depth == 0 || self.chance(30) {
            return self.leaf(ctx, ty);
        }
        if self.chance(22) {
            return self.of_any_type(ctx, ty, depth - 1);
        }
        self.of_type(ctx, ty, depth - 1)
    }

    /// What any type has: CASE, COALESCE, subqueries.
    fn of_any_type(&mut self, ctx: &Ctx, ty: Ty, depth: u32) -> String {
        let a = self.expr(ctx, ty, depth);
        match self.below(7) {
            0 | 1 => {
                self.has("CASE");
                let (when, b) = (self.predicate(ctx, depth), self.expr(ctx, ty, depth));
                format!("CASE WHEN {when} THEN {a} ELSE {b} END")
            }
            2 if ty.ordered() => {
                let other = self.some_type(ctx);
                let (of, is) = (self.expr(ctx, other, 0), self.literal(other));
                self.has("CASE");
                format!("CASE {of} WHEN {is} THEN {a} END")
            }
            3 if ty.ordered() => format!("nullif({a}, {})", self.expr(ctx, ty, depth)),
            4 if ty.ordered() => {
                self.has("choice");
                let name = self.pick(&["greatest", "least"]);
                format!("{name}({a}, {})", self.expr(ctx, ty, depth))
            }
            5 | 6 if ctx.level < 2 && self.budget > 0 => {
                self.has("scalar subquery");
                self.scalar_subquery(ctx, ty)
            }
            _ => format!("coalesce({a}, {})", self.expr(ctx, ty, depth)),
        }
    }

    /// What only this type has.
    fn of_type(&mut self, ctx: &Ctx, ty: Ty, depth: u32) -> String {
        let of = |gen_: &mut Self, ty| gen_.expr(ctx, ty, depth);
        match ty {
            Ty::Bool => format!("({})", self.predicate(ctx, depth)),
            Ty::Int4 => match self.below(12) {
                0..3 => {
                    let op = self.pick(&["+", "-", "*"]);
                    let (a, b) = (of(self, ty), of(self, ty));
                    format!("(({a} % 1000) {op} ({b} % 1000))")
                }
                3 => format!(
                    "({} / nullif({}, 0))",
                    of(self, Ty::Int2),
                    self.leaf(ctx, Ty::Int4)
                ),
                4 => format!("length({})", of(self, Ty::Text)),
                5 => format!("abs({} % 100)", of(self, ty)),
                6 => format!("cardinality({})", of(self, Ty::Ints)),
                7 => format!("({})::int4", of(self, Ty::Int2)),
                8 => format!("({})::int4", of(self, Ty::Bool)),
                9 => format!("({} % 1000)::int4", of(self, Ty::Int8)),
                10 => format!("({}).x", self.leaf_composite(ctx)),
                _ => format!("({} & {})", of(self, ty), of(self, ty)),
            },
            Ty::Int8 => match self.below(7) {
                6 => {
                    let argument = of(self, ty);
                    self.call(&argument).unwrap_or(argument)
                }
                0 => {
                    let op = self.pick(&["+", "-", "*"]);
                    let (a, b) = (of(self, ty), of(self, ty));
                    format!("(({a} % 1000) {op} ({b} % 1000))")
                }
                1 => format!("({} | {})", of(self, ty), of(self, ty)),
                2 => format!("({})::int8", of(self, Ty::Int4)),
                3 => format!("({} % 7::int8)", of(self, ty)),
                4 => format!("({} # {})", of(self, ty), of(self, ty)),
                _ => format!(
                    "(({} % 100) + ({} % 100))",
                    of(self, Ty::Int8),
                    of(self, Ty::Int4)
                ),
            },
            Ty::Int2 => format!("({} % 100)::int2", of(self, Ty::Int4)),
            Ty::Numeric => match self.below(8) {
                0 | 1 => {
                    let op = self.pick(&["+", "-", "*"]);
                    format!("({} {op} {})", of(self, ty), of(self, ty))
                }
                2 => format!("({} / nullif({}, 0))", of(self, ty), of(self, ty)),
                3 => format!("round({}, 1)", of(self, ty)),
                4 => format!("({})::numeric", of(self, Ty::Int8)),
                5 => format!("abs({})", of(self, ty)),
                6 => format!("(- {})", of(self, ty)),
                _ => format!("trunc({})", of(self, ty)),
            },
            Ty::Float8 => match self.below(5) {
                0 => {
                    let op = self.pick(&["+", "-"]);
                    format!("({} {op} {})", of(self, ty), of(self, ty))
                }
                1 => format!("({})::float8", of(self, Ty::Int4)),
                2 => format!("({})::float8", of(self, Ty::Float4)),
                3 => format!("floor({})", of(self, ty)),
                _ => format!("abs({})", of(self, ty)),
            },
            Ty::Text => match self.below(13) {
                0 | 1 => format!("({} || {})", of(self, ty), of(self, ty)),
                2 => format!("upper({})", of(self, ty)),
                3 => format!("substr({}, 1, 2)", of(self, ty)),
                4 => format!("replace({}, 'a', 'xy')", of(self, ty)),
                5 => format!("left({}, 1)", of(self, ty)),
                6 => format!("concat({}, '-', {})", of(self, ty), of(self, Ty::Int4)),
                7 => format!("md5({})", of(self, ty)),
                8 => format!("lpad({}, 3, '*')", of(self, ty)),
                9 => format!("({}).y", self.leaf_composite(ctx)),
                10 => format!("({})::text COLLATE \"C\"", of(self, Ty::Varchar)),
                11 => format!(
                    "format('%s:%s', {}, {})",
                    of(self, Ty::Int8),
                    of(self, Ty::Date)
                ),
                _ => {
                    let other = self.some_type(ctx);
                    match other {
                        Ty::Icu | Ty::Nondet => format!("({} COLLATE \"C\")", of(self, other)),
                        other => format!("({})::text", of(self, other)),
                    }
                }
            },
            Ty::Varchar => format!("({})::varchar(5)", of(self, Ty::Text)),
            Ty::Char => format!("({})::bpchar(3)", of(self, Ty::Text)),
            Ty::Date => match self.below(2) {
                0 => format!("({} + {} % 100)", of(self, ty), of(self, Ty::Int4)),
                _ => format!("({})::date", of(self, Ty::Timestamp)),
            },
            Ty::Timestamp => match self.below(3) {
                0 => format!("date_trunc('month', {})", of(self, ty)),
                1 => format!("({})::timestamp", of(self, Ty::Date)),
                _ => format!("({} + {})", of(self, ty), of(self, Ty::Interval)),
            },
            Ty::Timestamptz => format!("({} + {})", of(self, ty), of(self, Ty::Interval)),
            Ty::Interval => match self.below(3) {
                0 => format!("({} + {})", of(self, ty), of(self, ty)),
                1 => format!("({} * 2)", of(self, ty)),
                _ => format!("justify_hours({})", of(self, ty)),
            },
            Ty::Jsonb => match self.below(5) {
                0 => format!("to_jsonb({})", self.any(ctx, depth)),
                1 => format!(
                    "jsonb_build_object('k', {}, 'l', {})",
                    self.any(ctx, depth),
                    of(self, Ty::Int4)
                ),
                2 => format!("({} -> 'a')", of(self, ty)),
                3 => format!("({})::jsonb", of(self, Ty::Json)),
                _ => format!(
                    "jsonb_build_array({}, {})",
                    self.any(ctx, depth),
                    of(self, ty)
                ),
            },
            Ty::Json => format!(
                "json_build_array({}, {})",
                self.any(ctx, depth),
                of(self, Ty::Text)
            ),
            Ty::Ints => match self.below(3) {
                0 => format!("ARRAY[{}, {}]", of(self, Ty::Int4), of(self, Ty::Int4)),
                1 => format!("array_remove({}, {})", self.flat(ctx), of(self, Ty::Int4)),
                _ => format!("({} || {})", self.flat(ctx), of(self, Ty::Int4)),
            },
            Ty::Texts => match self.below(2) {
                0 => format!("ARRAY[{}, {}]", of(self, Ty::Text), of(self, Ty::Text)),
                _ => format!("string_to_array({}, 'a')", of(self, Ty::Text)),
            },
            Ty::Moods => format!("ARRAY[{}, {}]", of(self, Ty::Mood), of(self, Ty::Mood)),
            Ty::Pair => format!("ROW({}, {})::pair", of(self, Ty::Int4), of(self, Ty::Text)),
            Ty::Pos => format!("(abs({} % 100))::pos", of(self, Ty::Int4)),
            Ty::Span => {
                let (a, b) = (of(self, Ty::Int2), of(self, Ty::Int2));
                format!("int4range(least({a}, {b}), greatest({a}, {b}))")
            }
            Ty::Bytea => format!("({} || {})", of(self, ty), of(self, ty)),
            Ty::Mood => format!("({})::text::mood", of(self, ty)),
            Ty::Time => format!("({})::time", self.finite_interval(ctx)),
            Ty::Inet => format!("set_masklen({}, 8)", of(self, ty)),
            _ => self.leaf(ctx, ty),
        }
    }

    fn finite_interval(&mut self, ctx: &Ctx) -> String {
        self.leaf(ctx, Ty::Interval)
    }

    /// One-dimensional: what elements can be put to.
    fn flat(&mut self, ctx: &Ctx) -> String {
        format!(
            "ARRAY[{}, {}]",
            self.leaf(ctx, Ty::Int4),
            self.leaf(ctx, Ty::Int4)
        )
    }

    fn leaf_composite(&mut self, ctx: &Ctx) -> String {
        self.leaf(ctx, Ty::Pair)
    }

    /// Of any type that a column has.
    fn any(&mut self, ctx: &Ctx, depth: u32) -> String {
        let ty = self.some_type(ctx);
        // What jsonb makes of infinities and of -0 is text, and right; of ordered text it is the text.
        self.expr(ctx, ty, depth)
    }
}
