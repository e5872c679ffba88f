//! The columns that a definition of a table, domain, view or index names: which of them are times, and which are texts.

use super::constants::{OF_TIME, Text};
use crate::names::Names;
use mothership_catalog::types::may_name;
use mothership_sql::lexer::Kind;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// date, time, timestamp, timestamptz, timetz, their arrays, and ranges of them.
const TIMES: [u32; 16] = [
    1082, 1083, 1114, 1184, 1266, 1182, 1183, 1115, 1185, 1270, 3908, 3910, 3912, 4533, 4534, 4535,
];

/// "char", name, text, json, bpchar, varchar, jsonb.
const TEXTS: [u32; 7] = [18, 19, 25, 114, 1042, 1043, 3802];

/// Ranges of times, by their names.
const RANGES: [&str; 6] = [
    "tsrange",
    "tstzrange",
    "daterange",
    "tsmultirange",
    "tstzmultirange",
    "datemultirange",
];

/// What is known of them.
pub(super) struct Columns {
    /// Whether one is a time, by their names in lower case: those that the definition declares and those of the tables that
    /// it may name. `value` is what a domain checks. Where two have one name, a time counts.
    times: HashMap<String, bool>,
    /// Names of columns, in the catalog, that are no texts everywhere.
    no_texts: HashSet<String>,
    /// A table that it may name has a time.
    has_times: bool,
    /// The parentheses behind CHECK and AS, the outermost ones.
    expressions: Vec<Range<usize>>,
}

impl Columns {
    /// Reads a definition once, and the columns of the tables that it may name.
    pub fn of(text: &Text<'_>, names: &Names<'_>) -> Columns {
        let mut columns = Columns {
            times: HashMap::new(),
            no_texts: HashSet::new(),
            has_times: false,
            expressions: expressions(text),
        };
        columns.declared(text, names);
        let lower = text.sql.to_lowercase();
        let catalog = names.catalog;
        for relation in catalog.relations.values() {
            if !may_name(&lower, &relation.name.name.to_lowercase()) {
                continue;
            }
            for column in &relation.columns {
                let oid = catalog.base_type(column.type_oid);
                let name = column.name.to_lowercase();
                columns.has_times |= TIMES.contains(&oid);
                if !TEXTS.contains(&oid) {
                    columns.no_texts.insert(name.clone());
                }
                *columns.times.entry(name).or_default() |= TIMES.contains(&oid);
            }
        }
        columns
    }

    /// Notes the columns that the definition itself declares: a name and a type.
    fn declared(&mut self, text: &Text<'_>, names: &Names<'_>) {
        let catalog = names.catalog;
        let own = catalog.types.iter();
        let own = own.filter(|(_, info)| TIMES.contains(&catalog.base_type(info.oid)));
        let own: HashSet<String> = own.map(|(name, _)| name.name.to_lowercase()).collect();
        let is_time =
            |name: &str| OF_TIME.contains(&name) || RANGES.contains(&name) || own.contains(name);
        for at in 1..text.tokens.len() {
            let begins = matches!(text.tokens[at - 1].kind, Kind::LParen | Kind::Comma)
                || ["add", "column", "exists"].contains(&&*text.word(at - 1));
            let is_domain = text.word(at) == "as";
            if !(begins || is_domain) || self.expression_around(at).is_some() {
                continue;
            }
            let is_qualified = text.tokens.get(at + 2).is_some_and(|t| t.kind == Kind::Dot);
            let is_retyped = text.word(at + 1) == "type";
            let kind = text.word(match (is_qualified, is_retyped) {
                (true, _) => at + 3,
                (false, true) => at + 2,
                (false, false) => at + 1,
            });
            let name = match is_domain {
                true => "value".to_owned(),
                false => text.word(at),
            };
            if !name.is_empty() && !kind.is_empty() {
                *self.times.entry(name).or_default() |= is_time(&kind);
            }
        }
    }

    /// Whether a column is a time; `None` if it is not known.
    pub fn is_of_time(&self, column: &str) -> Option<bool> {
        self.times.get(column).copied()
    }

    /// Whether all columns of this name are texts, in the tables that the definition may name.
    pub fn is_of_text(&self, column: &str) -> bool {
        !self.no_texts.contains(column)
    }

    /// Whether a table that the definition may name has a time.
    pub fn has_times(&self) -> bool {
        self.has_times
    }

    /// The tokens of the expression that a token is in: of a CHECK or a generated column.
    pub fn expression_around(&self, at: usize) -> Option<Range<usize>> {
        let before = self.expressions.partition_point(|one| one.start <= at);
        let last = self.expressions.get(before.checked_sub(1)?)?;
        last.contains(&at).then(|| last.clone())
    }
}

fn expressions(text: &Text<'_>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    for (at, token) in text.tokens.iter().enumerate() {
        match (token.kind, &mut open) {
            (Kind::LParen, Some((_, depth))) => *depth += 1,
            (Kind::LParen, None) => {
                let word = at.checked_sub(1).map(|before| text.word(before));
                if word.is_some_and(|word| matches!(&*word, "check" | "as")) {
                    open = Some((at, 1));
                }
            }
            (Kind::RParen, Some((start, depth))) => {
                *depth -= 1;
                if *depth == 0 {
                    found.push(*start..at);
                    open = None;
                }
            }
            _ => {}
        }
    }
    found
}
