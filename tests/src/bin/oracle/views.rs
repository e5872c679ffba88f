//! Views of everything: queries of the grammar under names, over tables and over the views before them.
//!
//! A view is made once for a world, on both sides, and then read by whatever reads relations. Some show a whole table by
//! its key: the writes take their rows from these.

use crate::expr::{Ctx, Gen};
use crate::query::Wanted;
use crate::schema::{Relation, Table};
use crate::statement::{Effect, Order, Statement};
use std::collections::BTreeSet;

/// Views are nested so deep.
pub const DEEPEST: usize = 3;

/// A view that was made at random.
#[derive(Debug, Clone)]
pub struct View {
    pub relation: Relation,
    /// Its definition.
    pub text: String,
    /// 1 where it reads tables alone.
    pub depth: usize,
    /// What its definition has.
    pub features: BTreeSet<&'static str>,
    /// The table of which it shows each row once at most, with all columns.
    pub shows: Option<String>,
}

/// What a statement is said to have that reads a view whose definition has something.
const OF_DEFINITIONS: [(&str, &str); 17] = [
    ("inner join", "view: inner join"),
    ("left join", "view: left join"),
    ("right join", "view: right join"),
    ("full join", "view: full join"),
    ("cross join", "view: cross join"),
    ("comma join", "view: comma join"),
    ("LATERAL", "view: LATERAL"),
    ("derived table", "view: derived table"),
    ("CTE", "view: CTE"),
    ("recursive CTE", "view: recursive CTE"),
    ("set operation", "view: set operation"),
    ("GROUP BY", "view: GROUP BY"),
    ("ungrouped aggregate", "view: ungrouped aggregate"),
    ("DISTINCT", "view: DISTINCT"),
    ("window", "view: window"),
    ("LIMIT in subquery", "view: LIMIT"),
    ("home table", "view: home table"),
];

impl Gen<'_> {
    /// A view of this name.
    pub fn view(mut self, name: &str) -> View {
        self.reach = DEEPEST - 1;
        self.exact = true;
        self.budget = self.pick(&[1, 1, 2, 3]);
        let (text, columns, shows) = match self.chance(30) {
            true => self.view_of_a_table(),
            false => {
                let wanted = Wanted {
                    types: None,
                    named: true,
                    comparable: false,
                    level: 0,
                };
                let mut rel = self.query(wanted, &[]);
                self.inner_limit(&mut rel);
                (rel.sql, rel.columns, None)
            }
        };
        let depths = self.schema.random_views.iter();
        let read = depths.filter(|view| names(&text, &view.relation.name));
        let depth = 1 + read.map(|view| view.depth).max().unwrap_or(0);
        let statement = Statement {
            text,
            values: self.values,
            features: self.features,
            order: Order::None,
            effect: Effect::Reads,
            floats: false,
            ranked: None,
        };
        View {
            relation: Relation {
                name: name.to_owned(),
                columns,
            },
            text: statement.inline(),
            depth,
            features: statement.features,
            shows,
        }
    }

    /// All columns of a table, or of a view that shows one, and some of its rows.
    fn view_of_a_table(&mut self) -> (String, Vec<(String, crate::values::Ty)>, Option<String>) {
        let table = self.pick(&self.schema.tables);
        let from = self.source(&table);
        let columns = table.relation.columns.clone();
        let shows = Some(table.name().to_owned());
        let named = match from == table.name() {
            true => from,
            false => format!("{from} AS {}", table.name()),
        };
        let all = format!("SELECT {}.* FROM {named}", table.name());
        if self.chance(50)
            && let Some((other, on)) = self.partner(&table)
        {
            // Each row finds one at most.
            let kind = self.pick(&["JOIN", "LEFT JOIN"]);
            self.has(if kind == "JOIN" {
                "inner join"
            } else {
                "left join"
            });
            let other = self.source(&other);
            return (format!("{all} {kind} {other} AS s ON {on}"), columns, shows);
        }
        let ctx = Ctx {
            level: 1,
            ..Self::ctx(&table, 1)
        };
        let condition = self.predicate(&ctx, 1);
        (format!("{all} WHERE {condition}"), columns, shows)
    }

    /// What a write reads the rows of a table from: the table, or a view that shows it.
    pub fn source(&mut self, table: &Table) -> String {
        let reach = self.reach;
        let views = self.schema.random_views.iter();
        let views =
            views.filter(|view| view.depth <= reach && view.shows.as_deref() == Some(table.name()));
        let views: Vec<View> = views.cloned().collect();
        if views.is_empty() || self.chance(40) {
            return table.name().to_owned();
        }
        let view = self.pick(&views);
        self.reads_view(&view.relation.name);
        view.relation.name
    }

    /// Counts what a view has that the statement reads.
    pub fn reads_view(&mut self, name: &str) {
        let mut views = self.schema.random_views.iter();
        let Some(view) = views.find(|view| view.relation.name == name) else {
            return;
        };
        self.has(match view.depth {
            1 => "view of depth 1",
            2 => "view of depth 2",
            _ => "view of depth 3",
        });
        for (feature, of_view) in OF_DEFINITIONS {
            if view.features.contains(feature) {
                self.has(of_view);
            }
        }
    }
}

/// Whether a text names something.
pub fn names(text: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        !text[..at].ends_with(is_part) && !text[at + name.len()..].starts_with(is_part)
    })
}
