//! Random conditions on key columns, as text.
//!
//! Each is written once and rendered twice: with parameters for the planner, and
//! with a literal of the same type in their place for PostgreSQL, whose answer is
//! the truth. Values come from small pools, so that conditions meet rows often.

use std::collections::HashMap;

use mothership_shardmap::KeyType;
use rand::rngs::StdRng;
use rand::{Rng, RngExt};

/// The texts of values that columns hold and conditions name, and their binary forms.
pub struct Pools {
    /// For each key type.
    pub texts: HashMap<KeyType, Vec<String>>,
    /// By type name and text, what the type's send function gives. Without an entry, the type refuses the text.
    pub binary: HashMap<(&'static str, String), Vec<u8>>,
}

/// A column that conditions may name.
#[derive(Clone)]
pub struct Column {
    /// As it is written.
    pub name: String,
    /// Its type.
    pub key_type: KeyType,
    /// Chosen more often than others.
    pub is_key: bool,
}

/// A parameter of a condition.
pub struct Param {
    /// What the client declares in Parse, 0 for nothing.
    pub declared: u32,
    /// The bytes of Bind.
    pub value: Option<Vec<u8>>,
    /// The format of Bind.
    pub format: i16,
    /// A literal that PostgreSQL takes for the same value of the same type.
    literal: String,
}

/// A condition with marks where its parameters stand.
pub struct Condition {
    marked: String,
    /// The parameters from `$1` on.
    pub params: Vec<Param>,
}

impl Condition {
    /// As the planner sees it.
    pub fn with_parameters(&self) -> String {
        self.rendered(|number, _| format!("${number}"))
    }

    /// As PostgreSQL is asked.
    pub fn with_literals(&self) -> String {
        self.rendered(|_, param| param.literal.clone())
    }

    fn rendered(&self, shown: impl Fn(usize, &Param) -> String) -> String {
        let params = self.params.iter().enumerate();
        params.fold(self.marked.clone(), |text, (index, param)| {
            text.replace(&mark(index), &shown(index + 1, param))
        })
    }
}

fn mark(index: usize) -> String {
    format!("\u{1}{index}\u{2}")
}

/// Types whose values PostgreSQL compares with a column's, the column's own first.
pub fn relatives(key_type: KeyType) -> &'static [KeyType] {
    use KeyType::*;
    match key_type {
        Int2 => &[Int2, Int4, Int8, Numeric],
        Int4 => &[Int4, Int2, Int8, Numeric],
        Int8 => &[Int8, Int4, Int2, Numeric],
        Numeric => &[Numeric, Int4, Int8, Int2],
        Text => &[Text, Varchar],
        Varchar => &[Varchar, Text],
        Date => &[Date, Timestamp, TimestampTz],
        Timestamp => &[Timestamp, Date, TimestampTz],
        TimestampTz => &[TimestampTz, Timestamp, Date],
        Uuid => &[Uuid],
        Bool => &[Bool],
        Bytea => &[Bytea],
    }
}

/// Casts that may change the value, or that lead to a comparison in another type.
pub fn strange_casts(key_type: KeyType) -> &'static [&'static str] {
    use KeyType::*;
    match key_type {
        Int2 | Int4 | Int8 => &["float8", "float4", "numeric(6,1)"],
        Numeric => &["float8", "float4", "numeric(6,1)", "numeric(20,0)"],
        Text | Varchar => &["varchar(2)", "char(3)", "bpchar", "name", "\"char\""],
        Timestamp | TimestampTz | Date => &["timestamp(0)", "timestamptz(0)", "timestamptz(3)"],
        Uuid | Bool | Bytea => &[],
    }
}

/// Writes one condition over the columns.
pub fn condition(rng: &mut StdRng, pools: &Pools, columns: &[Column]) -> Condition {
    let depth = *pick(rng, &[0, 1, 1, 2, 2, 3]);
    let mut writer = Writer {
        rng,
        pools,
        columns,
        params: Vec::new(),
    };
    let marked = writer.predicate(depth);
    Condition {
        marked,
        params: writer.params,
    }
}

pub fn pick<'a, T>(rng: &mut impl Rng, list: &'a [T]) -> &'a T {
    &list[rng.random_range(0..list.len())]
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

struct Writer<'a> {
    rng: &'a mut StdRng,
    pools: &'a Pools,
    columns: &'a [Column],
    params: Vec<Param>,
}

impl Writer<'_> {
    fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_range(0..n) == 0
    }

    fn column(&mut self) -> Column {
        let keys: Vec<&Column> = self.columns.iter().filter(|c| c.is_key).collect();
        let key = *pick(self.rng, &keys);
        match self.one_in(8) {
            true => pick(self.rng, self.columns).clone(),
            false => key.clone(),
        }
    }

    fn text_of(&mut self, key_type: KeyType) -> String {
        pick(self.rng, &self.pools.texts[&key_type]).clone()
    }

    fn param(
        &mut self,
        declared: u32,
        value: Option<Vec<u8>>,
        format: i16,
        literal: String,
    ) -> String {
        self.params.push(Param {
            declared,
            value,
            format,
            literal,
        });
        mark(self.params.len() - 1)
    }

    /// A constant to compare with a column of this type. `alone`: it is compared with the column and nothing else,
    /// so that a parameter without a type has the column's.
    fn constant(&mut self, key_type: KeyType, alone: bool) -> String {
        let text = self.text_of(key_type);
        let literal = quoted(&text);
        let own = key_type.name();
        match self.rng.random_range(0..30) {
            0..6 => literal,
            6..9 => format!("{literal}::{own}"),
            9 => format!("CAST({literal} AS {own})"),
            10 => format!("{own} {literal}"),
            11 => "NULL".to_owned(),
            12 => format!("NULL::{own}"),
            13..16 => self.bare(key_type, &text),
            16 | 17 => self.param(0, Some(text.into_bytes()), 0, literal),
            18 if alone => {
                let bytes = self.pools.binary.get(&(own, text)).cloned();
                self.param(
                    0,
                    bytes.clone(),
                    1,
                    bytes.map_or("NULL".to_owned(), |_| literal),
                )
            }
            18..22 => self.typed(key_type, key_type, text),
            22 => {
                let null = format!("NULL::{own}");
                let declared = *pick(self.rng, &[0, key_type.oid()]);
                self.param(
                    declared,
                    None,
                    0,
                    if declared == 0 {
                        "NULL".to_owned()
                    } else {
                        null
                    },
                )
            }
            23..27 => {
                let other = *pick(self.rng, relatives(key_type));
                if !self
                    .pools
                    .binary
                    .contains_key(&(other.name(), text.clone()))
                {
                    return literal;
                }
                match self.one_in(2) {
                    true => format!("{literal}::{}", other.name()),
                    false => self.typed(key_type, other, text),
                }
            }
            27 => match strange_casts(key_type) {
                [] => format!("({literal}::text)::{own}"),
                casts => {
                    let cast = *pick(self.rng, casts);
                    match self.pools.binary.contains_key(&(cast, text)) {
                        true => format!("{literal}::{cast}"),
                        false => literal,
                    }
                }
            },
            28 => format!("(SELECT {literal}::{own})"),
            _ => self.folded(key_type, &text),
        }
    }

    /// A constant where PostgreSQL would take a bare string for text: in subqueries and VALUES.
    fn own_constant(&mut self, key_type: KeyType) -> String {
        let text = self.text_of(key_type);
        match self.rng.random_range(0..8) {
            0 => format!("NULL::{}", key_type.name()),
            1..4 => self.typed(key_type, key_type, text),
            _ => format!("{}::{}", quoted(&text), key_type.name()),
        }
    }

    /// A parameter with a type, declared or by a cast.
    fn typed(&mut self, column: KeyType, key_type: KeyType, text: String) -> String {
        let name = key_type.name();
        let literal = format!("{}::{name}", quoted(&text));
        let Some(bytes) = self.pools.binary.get(&(name, text.clone())).cloned() else {
            return quoted(&text);
        };
        let (value, format) = match self.one_in(2) {
            true => (bytes, 1),
            false => (text.into_bytes(), 0),
        };
        match self.rng.random_range(0..4) {
            0 => {
                let undeclared = self.param(0, Some(value), format, literal);
                format!("{undeclared}::{name}")
            }
            1 if relatives(column).contains(&key_type) => {
                let declared = self.param(key_type.oid(), Some(value), format, literal);
                format!("CAST({declared} AS {})", column.name())
            }
            _ => self.param(key_type.oid(), Some(value), format, literal),
        }
    }

    /// A literal in the type's own manner.
    fn bare(&mut self, key_type: KeyType, text: &str) -> String {
        use KeyType::*;
        let finite = text
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.'));
        match key_type {
            Int2 | Int4 | Int8 | Numeric if finite => match self.rng.random_range(0..8) {
                0 => format!("{text}::int8"),
                1 if !text.contains('.') => format!("{text}.0"),
                2 if !text.contains('.') => format!("{text}.5"),
                3 => format!("+{text}").replace("+-", "- "),
                4 => format!("({text})::numeric"),
                5 => format!("{text}e0"),
                _ => text.to_owned(),
            },
            Bool => match text {
                "t" => pick(self.rng, &["true", "'yes'", "'on'", "'TRUE'", "'1'"]).to_string(),
                _ => pick(self.rng, &["FALSE", "'no'", "'off'", "'f'", "'0'"]).to_string(),
            },
            Text | Varchar => match self.rng.random_range(0..4) {
                0 => format!("$tag${text}$tag$"),
                1 => format!("E{}", quoted(&text.replace('\\', "\\\\"))),
                2 => format!("N{}", quoted(text)),
                _ => format!("{} || ''", quoted(text)),
            },
            Uuid => match self.rng.random_range(0..3) {
                0 => quoted(&text.to_uppercase()),
                1 => quoted(&format!("{{{text}}}")),
                _ => quoted(&text.replace('-', "")),
            },
            Bytea => format!("E{}", quoted(&text.replace('\\', "\\\\"))),
            Date => match self.rng.random_range(0..3) {
                0 => format!("{}::date + 0", quoted(text)),
                1 => quoted(&text.replace('-', "/")),
                _ => quoted(&format!(" {text} ")),
            },
            Timestamp | TimestampTz => match self.rng.random_range(0..3) {
                0 => quoted(&text.replacen(' ', "T", 1)),
                1 => quoted(&format!("{text} ")),
                _ => quoted(text),
            },
            _ => quoted(text),
        }
    }

    fn folded(&mut self, key_type: KeyType, text: &str) -> String {
        use KeyType::*;
        let small = text.parse::<i64>().ok().filter(|n| n.abs() < 10_000);
        match (key_type, small) {
            (Int2 | Int4 | Int8 | Numeric, Some(n)) => match self.rng.random_range(0..4) {
                0 => format!("({} + 1)", n - 1),
                1 => format!("({n} * 1)"),
                2 => format!("{n} - 0"),
                _ => format!("({}) / 2", 2 * n),
            },
            _ => format!("coalesce({}::{}, NULL)", quoted(text), key_type.name()),
        }
    }

    /// What stands for a column: mostly itself.
    fn operand(&mut self) -> (String, KeyType) {
        let column = self.column();
        let (name, key_type) = (column.name, column.key_type);
        let own = key_type.name();
        let written = match self.rng.random_range(0..40) {
            0 => format!("({name})"),
            1 => format!("{name}::{own}"),
            2 => format!("coalesce({name}, {})", self.constant(key_type, false)),
            3 => format!("nullif({name}, {})", self.constant(key_type, true)),
            4 => {
                let (test, other) = (self.leaf(), self.constant(key_type, false));
                format!("CASE WHEN {test} THEN {name} ELSE {other} END")
            }
            5 => format!("(SELECT {name})"),
            6 if matches!(key_type, KeyType::Int2 | KeyType::Int4 | KeyType::Numeric) => {
                format!("{name} + 0")
            }
            6 if matches!(key_type, KeyType::Text | KeyType::Varchar) => format!("{name} || ''"),
            7 => return (format!("{name}::text"), KeyType::Text),
            _ => name,
        };
        (written, key_type)
    }

    fn constants(&mut self, key_type: KeyType, most: usize) -> Vec<String> {
        let count = self.rng.random_range(1..=most);
        (0..count).map(|_| self.constant(key_type, false)).collect()
    }

    fn array_text(&mut self, key_type: KeyType) -> String {
        let count = self.rng.random_range(0..=3);
        let elements: Vec<String> = (0..count)
            .map(|_| match self.one_in(8) {
                true => "NULL".to_owned(),
                false => {
                    let text = self.text_of(key_type);
                    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
                }
            })
            .collect();
        format!("{{{}}}", elements.join(","))
    }

    fn array(&mut self, key_type: KeyType) -> String {
        let text = self.array_text(key_type);
        let own = key_type.name();
        match self.rng.random_range(0..7) {
            0 => quoted(&text),
            1 => format!("{}::{own}[]", quoted(&text)),
            2 => self.param(0, Some(text.clone().into_bytes()), 0, quoted(&text)),
            3 => {
                let literal = format!("{}::{own}[]", quoted(&text));
                let array = mothership_catalog::types::builtin_array_oid(key_type.oid());
                self.param(array.unwrap_or(0), Some(text.into_bytes()), 0, literal)
            }
            4 => {
                let literal = format!("{}::{own}[]", quoted(&text));
                let bare = self.param(0, Some(text.into_bytes()), 0, literal);
                format!("{bare}::{own}[]")
            }
            5 => format!("ARRAY[{}]::{own}[]", self.constants(key_type, 3).join(", ")),
            _ => {
                // Strings alone would be text[].
                let own = self.own_constant(key_type);
                let others = self.constants(key_type, 3).join(", ");
                format!("ARRAY[{own}, {others}]")
            }
        }
    }

    fn row(&mut self, columns: &[Column]) -> String {
        let values: Vec<String> = columns
            .iter()
            .map(|c| self.constant(c.key_type, true))
            .collect();
        format!("({})", values.join(", "))
    }

    fn leaf(&mut self) -> String {
        let not = if self.one_in(4) { "NOT " } else { "" };
        match self.rng.random_range(0..40) {
            0..14 => {
                let ops = ["=", "=", "=", "=", "=", "<>", "!=", "<", "<=", ">", ">="];
                let op = *pick(self.rng, &ops);
                let (operand, key_type) = self.operand();
                let constant = self.constant(key_type, true);
                match self.one_in(5) {
                    true => format!("{constant} {op} {operand}"),
                    false => format!("{operand} {op} {constant}"),
                }
            }
            14..18 => {
                let (operand, key_type) = self.operand();
                let mut list = self.constants(key_type, 4);
                let (other, other_type) = self.operand();
                if self.one_in(4) && other_type == key_type {
                    list.push(other);
                }
                format!("{operand} {not}IN ({})", list.join(", "))
            }
            18..20 => {
                let (operand, key_type) = self.operand();
                let symmetric = if self.one_in(5) { "SYMMETRIC " } else { "" };
                let (low, high) = (self.constant(key_type, true), self.constant(key_type, true));
                format!("{operand} {not}BETWEEN {symmetric}{low} AND {high}")
            }
            20 => format!("{} IS {not}NULL", self.operand().0),
            21..24 => {
                let (operand, key_type) = self.operand();
                let not = if self.one_in(3) { "" } else { "NOT " };
                let constant = self.constant(key_type, true);
                format!("{operand} IS {not}DISTINCT FROM {constant}")
            }
            24..28 => {
                let (operand, key_type) = self.operand();
                let array = self.array(key_type);
                let how = *pick(
                    self.rng,
                    &[
                        "= ANY", "= ANY", "= SOME", "<> ALL", "<> ANY", "= ALL", "< ANY",
                    ],
                );
                format!("{operand} {how} ({array})")
            }
            28..31 => self.rows(not),
            31 | 32 => {
                let (operand, key_type) = self.operand();
                let count = self.rng.random_range(1..=3);
                let rows: Vec<String> = (0..count)
                    .map(|_| format!("({})", self.own_constant(key_type)))
                    .collect();
                format!("{operand} {not}IN (VALUES {})", rows.join(", "))
            }
            33 => {
                let (operand, key_type) = self.operand();
                format!("{operand} = (SELECT {})", self.own_constant(key_type))
            }
            34 => {
                let (a, b) = (self.column(), self.column());
                match a.key_type == b.key_type {
                    true => format!("{} = {}", a.name, b.name),
                    false => format!("{} = {}", a.name, a.name),
                }
            }
            35 => {
                let column = self.column();
                match column.key_type {
                    KeyType::Bool => column.name,
                    KeyType::Text | KeyType::Varchar => {
                        let text = quoted(&self.text_of(KeyType::Text));
                        format!("{} {not}LIKE {text}", column.name)
                    }
                    _ => format!("{} IS NOT NULL", column.name),
                }
            }
            36 => pick(
                self.rng,
                &[
                    "true",
                    "FALSE",
                    "NULL",
                    "1 = 0",
                    "1 = 1",
                    "NULL = 1",
                    "0 < 1",
                    "'f'",
                    "NOT NULL::bool",
                ],
            )
            .to_string(),
            37 => {
                let column = self.column();
                let (a, b) = (
                    self.constant(column.key_type, true),
                    self.constant(column.key_type, true),
                );
                // Of one column: the contradictions and the way they meet NULL.
                format!("{c} = {a} AND {c} = {b}", c = column.name)
            }
            _ => {
                let column = self.column();
                let constant = self.constant(column.key_type, true);
                format!("{} = {constant}", column.name)
            }
        }
    }

    fn rows(&mut self, not: &str) -> String {
        let columns = match self.one_in(2) {
            true => vec![self.column(), self.column()],
            false => self.columns.to_vec(),
        };
        let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        let names = names.join(", ");
        let (word, first, second) = (
            if self.one_in(4) { "ROW" } else { "" },
            self.row(&columns),
            self.row(&columns),
        );
        match self.rng.random_range(0..8) {
            0..3 => format!("{word}({names}) = {word}{first}"),
            3 | 4 => format!("({names}) {not}IN ({first}, {second})"),
            5 => {
                let op = *pick(self.rng, &["<", "<=", ">", ">=", "<>"]);
                format!("({names}) {op} {first}")
            }
            6 => format!("ROW({names}) IS {not}DISTINCT FROM ROW{first}"),
            _ => {
                let rows: Vec<String> = (0..2)
                    .map(|_| {
                        let values: Vec<String> = columns
                            .iter()
                            .map(|c| self.own_constant(c.key_type))
                            .collect();
                        format!("({})", values.join(", "))
                    })
                    .collect();
                format!("({names}) IN (VALUES {})", rows.join(", "))
            }
        }
    }

    fn several(&mut self, depth: u32, word: &str) -> String {
        let count = self.rng.random_range(2..=3);
        let parts: Vec<String> = (0..count).map(|_| self.predicate(depth)).collect();
        format!("({})", parts.join(word))
    }

    fn predicate(&mut self, depth: u32) -> String {
        let Some(below) = depth.checked_sub(1) else {
            return self.leaf();
        };
        match self.rng.random_range(0..24) {
            0..8 => self.several(below, " AND "),
            8..13 => self.several(below, " OR "),
            13..16 => format!("NOT ({})", self.predicate(below)),
            16 | 17 => {
                let what = *pick(
                    self.rng,
                    &[
                        "TRUE",
                        "NOT TRUE",
                        "FALSE",
                        "NOT FALSE",
                        "UNKNOWN",
                        "NOT UNKNOWN",
                        "NULL",
                        "NOT NULL",
                    ],
                );
                format!("({}) IS {what}", self.predicate(below))
            }
            18 => {
                let (when, then, other) = (
                    self.predicate(below),
                    self.predicate(below),
                    self.predicate(below),
                );
                match self.one_in(2) {
                    true => format!("CASE WHEN {when} THEN {then} ELSE {other} END"),
                    false => format!("CASE WHEN {when} THEN {then} END"),
                }
            }
            19 => format!(
                "coalesce({}, {})",
                self.predicate(below),
                self.predicate(below)
            ),
            20 => {
                let op = *pick(
                    self.rng,
                    &[
                        "=",
                        "<>",
                        "<",
                        ">=",
                        "IS DISTINCT FROM",
                        "IS NOT DISTINCT FROM",
                    ],
                );
                format!(
                    "({}) {op} ({})",
                    self.predicate(below),
                    self.predicate(below)
                )
            }
            21 => format!("EXISTS (SELECT 1 WHERE {})", self.predicate(below)),
            22 => {
                let (operand, key_type) = self.operand();
                let constant = self.constant(key_type, true);
                let then = self.predicate(below);
                format!("CASE {operand} WHEN {constant} THEN {then} ELSE false END")
            }
            _ => self.leaf(),
        }
    }
}
