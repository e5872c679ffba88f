//! Views whose rows no shard can compute alone become subqueries of the statement, as PostgreSQL's rewriter makes them.
//!
//! The places of a view's words are moved behind those of the statement, so that each place means one thing.

use std::collections::HashMap;
use std::ops::ControlFlow;

use sqlparser::ast::{Ident, Query, Statement, TableAlias, TableFactor, VisitMut, VisitorMut};
use sqlparser::tokenizer::{Location, TokenWithSpan};

use crate::catalog::Relation;
use crate::plan::parse::{self, Parsed};
use crate::plan::scope::Analysis;

use super::named;
use super::notes::place_of;

/// Views within views are followed so deep.
pub const MAX_DEPTH: u64 = 8;

/// Further than any line of a statement.
const LINES: u64 = 1 << 32;

/// The statement with its views that shards cannot compute as subqueries; `None` if it has none. `depth` counts how
/// often that was done. Row security of the tables below would ask for the view's owner, so there must be none.
pub fn expanded(
    analysis: &Analysis<'_>,
    query: &Query,
    parsed: &Parsed,
    depth: u64,
) -> Option<Parsed> {
    let views = of(analysis, |apart, sharded| !apart && sharded);
    expand(
        (analysis, parsed, depth),
        views,
        Statement::Query(Box::new(query.clone())),
    )
}

/// The same of a write, whose views of tables of the home shard and of copies become subqueries, too: it runs where
/// they are not, or where nothing may be read.
pub fn expanded_write(analysis: &Analysis<'_>, parsed: &Parsed, depth: u64) -> Option<Parsed> {
    let views = of(analysis, |apart, sharded| !(apart && sharded));
    expand((analysis, parsed, depth), views, parsed.statement.clone())
}

/// The views of a statement, by their places. `wanted` is told whether each shard may compute its own rows of one, and
/// whether it reads sharded tables.
fn of<'n>(
    analysis: &Analysis<'n>,
    wanted: impl Fn(bool, bool) -> bool,
) -> HashMap<Location, &'n Relation> {
    let mut views: HashMap<Location, &Relation> = HashMap::new();
    for read in &analysis.notes.reads {
        if let Some((view, apart)) = read.view
            && wanted(apart, analysis.reads_sharded(read.instance))
        {
            views.insert(read.place, view);
        }
    }
    views
}

fn expand(
    (analysis, parsed, depth): (&Analysis<'_>, &Parsed, u64),
    views: HashMap<Location, &Relation>,
    mut statement: Statement,
) -> Option<Parsed> {
    if depth >= MAX_DEPTH {
        return None;
    }
    let tables = analysis.names.catalog.relations.values();
    let mut secured = tables.filter(|table| table.row_security.is_some());
    if views.is_empty() || secured.next().is_some() {
        return None;
    }
    let mut expanding = Expanding {
        views,
        next: LINES * (depth + 1),
        tokens: parsed.tokens.clone(),
        failed: false,
    };
    let _ = VisitMut::visit(&mut statement, &mut expanding);
    if expanding.failed || !expanding.views.is_empty() {
        return None;
    }
    Some(Parsed {
        statement,
        tokens: expanding.tokens,
        placeholders: parsed.placeholders.clone(),
    })
}

struct Expanding<'r> {
    views: HashMap<Location, &'r Relation>,
    next: u64,
    tokens: Vec<TokenWithSpan>,
    failed: bool,
}

impl VisitorMut for Expanding<'_> {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let Some((name, alias)) = named(factor) else {
            return ControlFlow::Continue(());
        };
        let Some(view) = place_of(name).and_then(|place| self.views.remove(&place)) else {
            return ControlFlow::Continue(());
        };
        let parts = name.0.iter().filter_map(|part| part.as_ident());
        let places: Vec<Location> = parts.map(|part| part.span.start).collect();
        let definition = view.definition.as_deref().unwrap_or_default();
        let Some((query, tokens)) = parse::view_at(definition, self.next) else {
            self.failed = true;
            return ControlFlow::Break(());
        };
        self.next += 1 << 20;
        // The name is explained by its being gone.
        self.tokens
            .retain(|token| !places.contains(&token.span.start));
        self.tokens.extend(tokens);
        let alias = alias.cloned().unwrap_or_else(|| TableAlias {
            explicit: true,
            name: Ident::with_quote('"', &view.name.name),
            columns: Vec::new(),
            at: None,
        });
        *factor = TableFactor::Derived {
            lateral: false,
            subquery: query,
            alias: Some(alias),
            sample: None,
        };
        ControlFlow::Continue(())
    }
}
