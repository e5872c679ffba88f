//! Which fragments leave out rows of which others: where the values of a column that matter are among those of a
//! column that was fetched (`Link`), other rows need not be fetched.
//!
//! Every row that a source leaves out does not matter, so what is left of it still has every value that does.

use mothership_sql::quote;
use std::collections::BTreeMap;
use std::fmt;

use mothership_shardmap::KeyType;

use crate::scope::{Analysis, Node};

use super::Fragment;
use super::fragment::Made;
use super::notes::Read;
use super::partial::Pushed;

/// How a fragment gets smaller.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Narrowing {
    /// It has conditions: its text ends in those of its WHERE, if it may have more. Else each of its rows is fetched.
    pub filtered: bool,
    /// By which keys, in no order.
    pub by: Vec<Keys>,
}

/// Values that others have fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct Keys {
    /// The column that can have no others, as SQL.
    pub column: String,
    /// The type of the values.
    pub base: String,
    /// The fragment that has them.
    pub from: usize,
    /// Which of its columns.
    pub at: usize,
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fragment, column) = (self.from + 1, self.at + 1);
        write!(f, "{} of {fragment}.{column}", self.column)
    }
}

/// Where values of columns are fetched.
#[derive(Default)]
pub struct Sources {
    /// The fragment and its column that have all values of a column that matter, and their type.
    columns: BTreeMap<Node, (usize, usize, String)>,
    /// The fragments that may leave out more rows, with their instances and the names of these.
    narrowed: Vec<(usize, usize, String)>,
}

impl Sources {
    /// The rows of a table.
    pub fn table(&mut self, fragment: usize, reads: &[Read<'_>], made: &Made<'_>) {
        let columns = || made.positions.iter().zip(&made.columns).enumerate();
        for read in reads.iter().filter(|read| read.view.is_none()) {
            for (at, (position, column)) in columns() {
                let found = (fragment, at, column.handed.base.clone());
                self.columns.insert((read.instance, *position), found);
            }
        }
        // What is read twice may be narrowed otherwise for each.
        if let [read] = reads
            && read.view.is_none()
        {
            let name = made.alias.clone();
            self.narrowed.push((fragment, read.instance, name));
        }
    }

    /// Groups that the shards have made.
    pub(super) fn groups(&mut self, fragment: usize, pushed: &Pushed) {
        for (node, at) in &pushed.nodes {
            let base = pushed.columns[*at].handed.base.clone();
            self.columns.insert(*node, (fragment, *at, base));
        }
    }

    /// Tells each fragment of the others.
    pub fn narrow(&self, analysis: &Analysis<'_>, fragments: &mut [Fragment]) {
        for (fragment, instance, name) in &self.narrowed {
            let columns = &analysis.instances[*instance].columns;
            for (position, column) in columns.iter().enumerate() {
                let node = (*instance, position);
                for source in analysis.sources_of(node, false) {
                    let Some((from, at, base)) = self.columns.get(&source) else {
                        continue;
                    };
                    if from != fragment && is_exchanged(analysis, node, source) {
                        fragments[*fragment].narrowing.by.push(Keys {
                            column: format!(
                                "{}.{}",
                                quote::identifier(name),
                                quote::identifier(&column.name)
                            ),
                            base: base.clone(),
                            from: *from,
                            at: *at,
                        });
                    }
                }
            }
        }
    }
}

/// Whether PostgreSQL compares two columns as their binary forms compare, whatever the statement says.
pub fn is_exchanged(analysis: &Analysis<'_>, a: Node, b: Node) -> bool {
    match (analysis.key_type(a), analysis.key_type(b)) {
        (Some(a), Some(b)) if a.is_integer() && b.is_integer() => true,
        (Some(a), Some(b)) => a == b && matches!(a, KeyType::Uuid | KeyType::Date),
        _ => false,
    }
}
