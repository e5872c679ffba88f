//! Views whose rows no shard can compute alone become subqueries of the statement, as PostgreSQL's rewriter makes them.
//!
//! A view is exactly its definition as a subquery in FROM, so what may be done with the one may be done with the other.
//! Two things are the view's own: whoever reads it needs rights on the view, which is asked of the home shard (`Opened`),
//! and row security of the tables below is that of the view's owner, so there must be none. The places of a view's words
//! are moved behind those of the statement, so that each place means one thing.

use mothership_sql::quote;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Ident, ObjectName, Query, SelectItem, SelectItemQualifiedWildcardKind, Statement,
    TableAlias, TableFactor,
};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use crate::names::folded;
use crate::parens;
use crate::parse::{self, Parsed, Size};
use crate::refuse::{Reason, Refusal};
use crate::scope::Analysis;
use crate::visit::{Change, change};
use mothership_catalog::{Handed, Name};

use super::fragment::{Fetched, is_named};
use super::notes::{Computed, Read, View, place_of};
use super::{BOOL, Fragment, Holders, Narrowing, named};

/// Views within views are followed so deep.
pub const MAX_DEPTH: u64 = 8;

/// Further than any line of a statement.
const LINES: u64 = 1 << 32;

/// A view of the client's text that has become a subquery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The view.
    pub view: Name,
    /// The columns that the text names.
    columns: Vec<String>,
}

impl Opened {
    /// What fails where PostgreSQL would not let the client read the view, and gives no row; with the one column that it
    /// has. Rights are those of the tree of ranges, whatever is left of it when it runs.
    pub fn fragment(&self) -> (Fragment, Fetched) {
        let columns = self.columns.iter();
        let columns: Vec<String> = columns
            .map(|name| format!("v.{}", quote::identifier(name)))
            .collect();
        let named = match columns.is_empty() {
            true => String::new(),
            false => format!(" AND ROW({}) IS NULL", columns.join(", ")),
        };
        let Name { schema, name } = &self.view;
        let fragment = Fragment {
            table: self.view.clone(),
            sql: format!(
                "SELECT true FROM {}.{} AS v WHERE false{named}",
                quote::identifier(schema),
                quote::identifier(name)
            ),
            of: Holders::Home,
            elements: vec![BOOL],
            types: vec!["boolean".to_owned()],
            narrowing: Narrowing {
                filtered: true,
                by: Vec::new(),
            },
            writes: false,
            locks: None,
        };
        let column = Fetched {
            name: "__mothership_row".to_owned(),
            known: String::new(),
            handed: Handed::plain("boolean"),
        };
        (fragment, column)
    }
}

/// The statement with its views that shards cannot compute as subqueries; `None` if it has none, or if one of them must
/// stay. `depth` counts how often that was done. Beside a write within WITH all views become subqueries: what it
/// changes is told from what is read by the tables.
pub fn expanded(
    analysis: &Analysis<'_>,
    query: &Query,
    parsed: &Parsed,
    depth: u64,
) -> Option<Parsed> {
    let all = analysis.seen.writes;
    let views = of(analysis, |view, sharded| {
        all || view.computed == Computed::Together && sharded
    });
    expand(
        (analysis, parsed, depth),
        views,
        Statement::Query(Box::new(query.clone())),
    )
}

/// The same of a write, whose views of tables of the home shard and of copies become subqueries, too: it runs where
/// they are not, or where nothing may be read.
pub fn expanded_write(analysis: &Analysis<'_>, parsed: &Parsed, depth: u64) -> Option<Parsed> {
    let all = analysis.seen.writes;
    let views = of(analysis, |view, sharded| {
        all || !(view.computed == Computed::Apart && sharded)
    });
    expand((analysis, parsed, depth), views, parsed.statement.clone())
}

/// Why shards may not compute a statement apart: a view of it asks for the time, which would be another on each.
pub fn hide_time(analysis: &Analysis<'_>) -> Option<Refusal> {
    let mut views = analysis.notes.reads.iter().filter_map(|read| read.view);
    let timed = views.find(|view| view.timed)?;
    Some(Refusal::about(
        Reason::TimeHidden,
        format!("view \"{}\"", timed.relation.name.name),
    ))
}

/// The views of a statement, by their places. `wanted` is told of one whether it reads sharded tables.
fn of<'n>(
    analysis: &Analysis<'n>,
    wanted: impl Fn(&View<'n>, bool) -> bool,
) -> HashMap<Location, View<'n>> {
    let mut views: HashMap<Location, View<'_>> = HashMap::new();
    for read in &analysis.notes.reads {
        if let Some(view) = read.view
            && wanted(&view, analysis.reads_sharded(read.instance))
        {
            views.insert(read.place, view);
        }
    }
    views
}

fn expand(
    (analysis, parsed, depth): (&Analysis<'_>, &Parsed, u64),
    views: HashMap<Location, View<'_>>,
    mut statement: Statement,
) -> Option<Parsed> {
    if depth >= MAX_DEPTH || views.is_empty() || views.values().any(|view| view.secured) {
        return None;
    }
    let mut opened = parsed.opened.clone();
    if depth == 0 {
        // Those within them are read by their owners.
        opened.extend(all_opened(analysis, &statement, &views));
    }
    let mut expanding = Expanding {
        qualified: views.values().map(|view| &view.relation.name).collect(),
        views: views.clone(),
        next: LINES * (depth + 1),
        size: Size::of(&parsed.tokens),
        tokens: parsed.tokens.clone(),
        forms: parsed.opened_forms,
        failed: false,
    };
    let _ = change(&mut statement, &mut expanding);
    if expanding.failed || !expanding.views.is_empty() {
        return None;
    }
    Some(Parsed {
        statement,
        tokens: expanding.tokens,
        placeholders: parsed.placeholders.clone(),
        opened,
        opened_forms: expanding.forms,
    })
}

/// What settings of the session change of a definition that becomes part of its statement. A view has values; its
/// definition has their texts, as the control role's settings write them (`control::SETTINGS`).
enum Forms {
    /// Nothing: dates and intervals are read alike, whatever their styles are.
    Exact,
    /// `array_nulls` or `xmloption` may.
    AsSet,
    /// `lc_monetary` does, and nobody knows under which value the text was written.
    Unclear,
}

impl Forms {
    fn of(tokens: &[TokenWithSpan]) -> Self {
        let mut forms = Self::Exact;
        let mut before = None;
        for TokenWithSpan { token, .. } in tokens {
            match token {
                Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text)
                    if text.contains('{') && text.to_ascii_lowercase().contains("null") =>
                {
                    forms = Self::AsSet;
                }
                Token::Word(word) if before == Some(&Token::DoubleColon) => {
                    match word.value.as_str() {
                        "money" => return Self::Unclear,
                        "xml" => forms = Self::AsSet,
                        _ => {}
                    }
                }
                _ => {}
            }
            before = Some(token);
        }
        forms
    }
}

/// Each view once, with all columns that the statement may name.
fn all_opened(
    analysis: &Analysis<'_>,
    statement: &Statement,
    views: &HashMap<Location, View<'_>>,
) -> Vec<Opened> {
    let text = match statement {
        Statement::Query(query) => parens::query(query),
        statement => parens::statement(statement),
    };
    let text = text.map(|text| text.to_lowercase()).ok();
    let mut found: BTreeMap<&Name, Vec<String>> = BTreeMap::new();
    let reads = analysis.notes.reads.iter();
    for Read {
        place, instance, ..
    } in reads
    {
        let Some(view) = views.get(place) else {
            continue;
        };
        let mut rows = analysis.notes.rows.iter();
        let whole = analysis.notes.stars || rows.any(|(_, row)| row == instance);
        let known = &analysis.instances[*instance].columns;
        let columns = found.entry(&view.relation.name).or_default();
        for (at, column) in view.relation.columns.iter().enumerate() {
            let known = known.get(at).map_or(&column.name, |column| &column.name);
            let is_used = whole || text.as_ref().is_none_or(|text| is_named(text, known));
            if is_used && !columns.contains(&column.name) {
                columns.push(column.name.clone());
            }
        }
    }
    let opened = found.into_iter();
    opened
        .map(|(view, columns)| Opened {
            view: view.clone(),
            columns,
        })
        .collect()
}

struct Expanding<'r> {
    views: HashMap<Location, View<'r>>,
    /// Their names, which have no schema any more where columns are named by them.
    qualified: Vec<&'r Name>,
    next: u64,
    /// Of the statement with the definitions that are part of it.
    size: Size,
    tokens: Vec<TokenWithSpan>,
    /// Settings change what definitions mean, as [`Forms::AsSet`] says.
    forms: bool,
    failed: bool,
}

impl Expanding<'_> {
    fn is_qualified(&self, schema: &Ident, view: &Ident) -> bool {
        let (schema, view) = (folded(schema), folded(view));
        let mut names = self.qualified.iter();
        names.any(|name| name.schema == schema && name.name == view)
    }
}

impl Change for Expanding<'_> {
    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let Some((name, alias)) = named(factor) else {
            return ControlFlow::Continue(());
        };
        let Some(view) = place_of(name).and_then(|place| self.views.remove(&place)) else {
            return ControlFlow::Continue(());
        };
        let parts = name.0.iter().filter_map(|part| part.as_ident());
        let places: Vec<Location> = parts.map(|part| part.span.start).collect();
        let definition = view.relation.definition.as_deref().unwrap_or_default();
        let Some((query, tokens)) = parse::view_at(definition, self.next) else {
            self.failed = true;
            return ControlFlow::Break(());
        };
        self.size = self.size.and(Size::of(&tokens));
        if !self.size.is_affordable() {
            self.failed = true;
            return ControlFlow::Break(());
        }
        match Forms::of(&tokens) {
            Forms::Exact => {}
            Forms::AsSet => self.forms = true,
            Forms::Unclear => {
                self.failed = true;
                return ControlFlow::Break(());
            }
        }
        self.next += 1 << 20;
        // The name is explained by its being gone.
        self.tokens
            .retain(|token| !places.contains(&token.span.start));
        self.tokens.extend(tokens);
        let alias = alias.cloned().unwrap_or_else(|| TableAlias {
            explicit: true,
            name: Ident::with_quote('"', &view.relation.name.name),
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

    fn pre_visit_select(&mut self, select: &mut sqlparser::ast::Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            if let SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(ObjectName(parts)),
                _,
            ) = item
                && let [schema, view] = parts.as_slice()
                && let (Some(schema), Some(view)) = (schema.as_ident(), view.as_ident())
                && self.is_qualified(schema, view)
            {
                parts.remove(0);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(parts) = expr
            && let [schema, view, _, ..] = parts.as_slice()
            && self.is_qualified(schema, view)
        {
            parts.remove(0);
        }
        ControlFlow::Continue(())
    }
}
