//! MERGE: as a join of source and target, with rows to be stored.
//!
//! A row of the source that finds none in the target may be inserted, so each of them must be seen by exactly one
//! shard then: by that of its own key, if the shards have the source's rows where the target's are, else by that of
//! the key that it is joined by and stored with, where its row is brought (`merge_gathered`).

use mothership_sql::quote;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use sqlparser::ast::{
    BinaryOperator, Expr, Ident, Merge as MergeStatement, MergeAction, MergeClause,
    MergeClauseKind, MergeInsertKind, MergeUpdateKind, Query, SelectItem, SetExpr, TableFactor,
    TableWithJoins, Values,
};
use sqlparser::tokenizer::Token;

use crate::condition::Cond;
use crate::dialect;
use crate::expr::{ExprContext, Level, chain, is_default, strip};
use crate::gather::{self, Ending, Gather, Root};
use crate::names::{Keyed, Place, fold, folded};
use crate::parens;
use crate::parse::{self, Parsed};
use crate::query::{Ctes, From, Kind, Local, Tree};
use crate::refuse::{Reason, Refusal, not_understood};
use crate::scope::{Analysis, Node, Scopes, Source};
use crate::{MaxChars, SameSharded};
use mothership_catalog::{Events, Relation};

use super::update::hides_target;
use super::{Written, rows};

/// What walking a MERGE gave beside its target.
pub(super) struct Merged {
    /// The instance of its source.
    source: usize,
    /// That and all below it.
    below: Range<usize>,
    /// Whether rows of the source that find none do anything.
    outer: bool,
    /// Columns that its ON finds equal.
    equal: Vec<(Node, Node)>,
    /// Of each INSERT, the columns that it takes the key from.
    inserts: Vec<Vec<Option<Node>>>,
}

impl Merged {
    /// Whether rows of the source that find none do anything.
    pub(super) fn outer(&self) -> bool {
        self.outer
    }

    /// The instances that each row of the whole is one of.
    pub(super) fn roots(&self, analysis: &Analysis<'_>, target: usize) -> Vec<usize> {
        let sharded = analysis.sharded().map(|(index, _, _)| index);
        match self.outer {
            true => sharded.filter(|index| self.below.contains(index)).collect(),
            false => vec![target],
        }
    }
}

impl<'n> Analysis<'n> {
    pub(super) fn merge<'q>(
        &mut self,
        merge: &'q MergeStatement,
        ctes: &Ctes<'q>,
    ) -> Result<Written, Refusal> {
        if !dialect::knows_merge(merge) {
            return not_understood();
        }
        let MergeStatement {
            table,
            source,
            on,
            clauses,
            ..
        } = merge;
        let TableFactor::Table { name, .. } = table else {
            return not_understood();
        };
        if hides_target(ctes, name) {
            return not_understood();
        }
        let (relation, place) = self.target(name, &Events::ANY.into())?;
        let mut from = From {
            complete: true,
            ..From::default()
        };
        let (target_tree, _) = self.factor(table, &mut from, None, ctes)?;
        let first = self.instances.len();
        let (source_tree, _) = self.factor(source, &mut from, None, ctes)?;
        let ([target], [source]) = (&target_tree.instances()[..], &source_tree.instances()[..])
        else {
            return not_understood();
        };
        let mut merged = Merged {
            source: *source,
            below: first..self.instances.len(),
            outer: clauses.iter().any(minds_absence),
            equal: Vec::new(),
            inserts: Vec::new(),
        };
        let target = *target;
        let mut level = Level::default();
        let mut here = from.here(None, ctes, &mut level);
        self.walk(on, &mut here)?;
        merged.equal = self.equal_columns(on, &here.scopes);
        for clause in clauses {
            if let Some(predicate) = &clause.predicate {
                self.walk(predicate, &mut here)?;
            }
            match (&clause.clause_kind, &clause.action) {
                (MergeClauseKind::NotMatchedByTarget | MergeClauseKind::NotMatchedBySource, _) => {
                    return not_understood();
                }
                (_, MergeAction::Delete { .. } | MergeAction::DoNothing { .. }) => {}
                (_, MergeAction::Update(update)) => {
                    let MergeUpdateKind::Set(assignments) = &update.kind else {
                        return not_understood();
                    };
                    if update.update_predicate.is_some() || update.delete_predicate.is_some() {
                        return not_understood();
                    }
                    for assignment in assignments {
                        self.walk(&assignment.value, &mut here)?;
                        if !self.assigned(assignment, relation, &place)?.is_empty() {
                            return Err(Refusal::of_table(Reason::KeyUpdate, &relation.name));
                        }
                    }
                }
                (_, MergeAction::Insert(insert)) => {
                    if insert.insert_predicate.is_some() {
                        return not_understood();
                    }
                    let MergeInsertKind::Values(values) = &insert.kind else {
                        return not_understood();
                    };
                    let positions = self.insert_columns(&insert.columns, relation)?;
                    let key = self.merge_insert(values, relation, &place, &positions, &mut here)?;
                    merged.inserts.push(key);
                }
            }
        }
        let subquery = here.level.unmovable_subquery.take();
        // Rows of the source that find none do nothing, or stay as those of an outer join do.
        let (tree, condition) = match merged.outer {
            true => (
                Tree::Join {
                    kind: Kind::Left,
                    left: Box::new(source_tree),
                    right: Box::new(target_tree),
                    on: Some(&**on),
                    pairs: Vec::new(),
                },
                None,
            ),
            false => (target_tree.and(source_tree), Some(&**on)),
        };
        from.tree = Some(tree);
        let scope = from.scope.clone();
        let scopes = Scopes {
            scope: &scope,
            outer: None,
        };
        let obstacle = self.conditions(&from, condition, &scopes);
        let refusal = subquery.or(from.obstacle.clone()).or(obstacle);
        let local = match refusal {
            None => Local::Rows,
            Some(_) => Local::No(Refusal::new(Reason::Merge)),
        };
        Ok(Written {
            target,
            local,
            rows: None,
            positions: None,
            merged: Some(merged),
        })
    }

    /// Columns that a condition finds equal, each pair in both orders.
    fn equal_columns(&self, on: &Expr, scopes: &Scopes<'_>) -> Vec<(Node, Node)> {
        let mut found = Vec::new();
        if self.names.catalog.compares_otherwise {
            return found;
        }
        for conjunct in chain(on, &BinaryOperator::And) {
            let Expr::BinaryOp {
                left,
                op: BinaryOperator::Eq,
                right,
            } = strip(conjunct)
            else {
                continue;
            };
            let pairs: Vec<(&Expr, &Expr)> = match (strip(left), strip(right)) {
                (Expr::Tuple(a), Expr::Tuple(b)) if a.len() == b.len() => a.iter().zip(b).collect(),
                pair => vec![pair],
            };
            for (a, b) in pairs {
                if let (Some(a), Some(b)) = (self.node(a, scopes), self.node(b, scopes)) {
                    found.extend([(a, b), (b, a)]);
                }
            }
        }
        found
    }

    /// Walks an INSERT of a MERGE; the columns that it takes the key from.
    fn merge_insert(
        &mut self,
        values: &Values,
        relation: &'n Relation,
        place: &Place,
        positions: &[usize],
        here: &mut ExprContext<'_>,
    ) -> Result<Vec<Option<Node>>, Refusal> {
        let [row] = values.rows.as_slice() else {
            return not_understood();
        };
        for expr in &row.content {
            self.walk(expr, here)?;
        }
        self.omitted_defaults(relation, place, (positions, Some(values)), |_| false)?;
        let Place::Sharded(keyed) = place else {
            return Ok(Vec::new());
        };
        let stored = self.add_relation(relation, place.clone())?;
        self.stored.insert(stored, MaxChars::default());
        let mut nodes = Vec::new();
        for column in keyed.columns.iter().flatten() {
            let at = positions.iter().position(|p| p == column);
            let expr = at.and_then(|at| row.content.get(at));
            let expr = expr
                .filter(|e| !is_default(e))
                .ok_or_else(|| Refusal::of_table(Reason::InsertWithoutKey, &relation.name))?;
            let plain =
                relation.columns[*column].typmod == -1 && relation.columns[*column].not_null;
            let node = self.node(expr, &here.scopes);
            nodes.push(node);
            // What is stored may be cut, or null where an outer join found none.
            if let Some(node) = node.filter(|_| plain) {
                self.equate(node, (stored, *column), &[stored], true);
            } else if let Some(scalar) = self.scalar(expr).filter(|_| plain) {
                self.facts.push((stored, Cond::equals(*column, scalar)));
            }
        }
        Ok(nodes)
    }
}

/// Whether a clause may do something, or fail, for a row of the source that finds none.
fn minds_absence(clause: &MergeClause) -> bool {
    let idle = matches!(clause.action, MergeAction::DoNothing { .. }) && clause.predicate.is_none();
    clause.clause_kind != MergeClauseKind::Matched && !idle
}

/// MERGE whose source runs first, so that each of its rows goes to the shard of the key that it is joined by.
pub(super) fn merge_gathered(
    analysis: &Analysis<'_>,
    parsed: &Parsed,
    (merge, merged): (&MergeStatement, &Merged),
    target: usize,
    why: Refusal,
) -> Result<Gather, Refusal> {
    let Source::Sharded(relation, keyed) = &analysis.instances[target].source else {
        return Err(why);
    };
    let why = match why.reason {
        Reason::HomeAndSharded => why,
        _ => Refusal {
            reason: Reason::Merge,
            ..why
        },
    };
    let none = || why.clone();
    let elsewhere = analysis.instances.iter().enumerate().any(|(index, i)| {
        let own = index == target || merged.below.contains(&index);
        !own && matches!(i.source, Source::Home(_))
    });
    if elsewhere || !analysis.notes.rows.is_empty() {
        return Err(why);
    }
    let source = &analysis.instances[merged.source];
    let used = used(parsed);
    let shown: Vec<usize> = (0..source.columns.len())
        .filter(|at| used.contains(&source.columns[*at].name))
        .collect();
    let joined = joined(analysis, merged, (target, keyed)).ok_or_else(none)?;
    let place = |column: &usize| shown.iter().position(|at| at == column);
    let key: Option<Vec<usize>> = joined.iter().map(place).collect();
    let max_chars = keyed.columns.iter().flatten();
    let max_chars = max_chars.map(|column| rows::stored_chars(relation, *column));
    let columns = shown.iter();
    let columns = columns.map(|column| filled(analysis, (merged.source, *column)));
    let (head, tail) = parens::around_merged(merge)?;
    let names: Vec<String> = shown
        .iter()
        .map(|at| quote::identifier(&source.columns[*at].name))
        .collect();
    let alias = quote::identifier(&alias(&merge.source).ok_or_else(none)?);
    let store = gather::Store {
        shown: None,
        documents: false,
        made: 0,
        sharded: Some(SameSharded(Arc::clone(&keyed.sharded))),
        key: key.ok_or_else(none)?,
        max_chars: MaxChars(max_chars.collect::<Result<_, _>>()?),
        // What is not joined is inserted, and refused by the table.
        nulls: super::nulls(relation, keyed),
        verb: gather::Verb::Own,
        head: format!("{head}("),
        tail: format!(") AS {alias} ({}){tail}", names.join(", ")),
        columns: columns.collect::<Option<_>>().ok_or_else(none)?,
    };
    if !source.complete || is_collated(analysis, parsed, &shown, merged) {
        return Err(why);
    }
    let texts: Vec<bool> = store.columns.iter().map(|c| c.cast.is_some()).collect();
    let query = query(merge, &alias, &names).ok_or_else(none)?;
    let ending = Ending::Store(Box::new(store));
    let root = Root::Source(&query, target);
    let mut gather = gather::plan(analysis, root, parsed, ending, why)?;
    gather.residue = super::source::with_texts(gather.residue, &texts);
    Ok(gather)
}

/// For each column of the key the column of the source that it is joined by and stored with.
fn joined(
    analysis: &Analysis<'_>,
    merged: &Merged,
    (target, keyed): (usize, &Keyed),
) -> Option<Vec<usize>> {
    let one = |(position, column): (usize, &Option<usize>)| {
        let to = (target, (*column)?);
        let equal = |at: usize| {
            let from = (merged.source, at);
            let inserted = |key: &Vec<Option<Node>>| key.get(position) == Some(&Some(from));
            merged.equal.contains(&(to, from)) && merged.inserts.iter().all(inserted)
        };
        (0..analysis.instances[merged.source].columns.len()).find(|at| equal(*at))
    };
    keyed.columns.iter().enumerate().map(one).collect()
}

/// The words of the text, as names.
fn used(parsed: &Parsed) -> HashSet<String> {
    let word = |token: &Token| match token {
        Token::Word(word) => Some(fold(&word.value, word.quote_style.is_some()).into_owned()),
        _ => None,
    };
    parsed
        .tokens
        .iter()
        .filter_map(|t| word(&t.token))
        .collect()
}

/// How a column of the source is handed over. Of what is computed only the server knows the type; it must be a plain
/// one then.
fn filled(analysis: &Analysis<'_>, node: Node) -> Option<gather::Filled> {
    Some(match analysis.origin(node) {
        Some(column) if column.handed.loses_xml => return None,
        Some(column) if column.handed.as_text => gather::Filled {
            oid: gather::TEXT,
            name: "text".to_owned(),
            cast: Some(column.handed.base.clone()),
        },
        Some(column) => gather::Filled {
            oid: column.type_oid,
            name: column.handed.base.clone(),
            cast: None,
        },
        None => gather::Filled {
            oid: 0,
            name: String::new(),
            cast: None,
        },
    })
}

/// Whether a column of the source may compare otherwise than its type does of itself, which an array does not tell.
fn is_collated(analysis: &Analysis<'_>, parsed: &Parsed, shown: &[usize], merged: &Merged) -> bool {
    let source = merged.source;
    let computed = |at: &usize| analysis.origin((source, *at)).is_none();
    let collated = |at: &usize| {
        analysis
            .origin((source, *at))
            .is_some_and(|column| column.handed.collate.is_some())
    };
    if shown.iter().any(collated) {
        return true;
    }
    let used = used(parsed);
    // What is computed of a column may compare as it does.
    let bears = |index: usize| {
        let columns = (0..analysis.instances[index].columns.len()).filter_map(|at| {
            let column = analysis.origin((index, at))?;
            Some((&analysis.instances[index].columns[at].name, column))
        });
        let collated = columns.filter(|(_, column)| column.handed.collate.is_some());
        collated.into_iter().any(|(name, _)| used.contains(name))
    };
    let unseen = |index: usize| {
        let instance = &analysis.instances[index];
        matches!(instance.source, Source::Home(_)) && !instance.complete
    };
    let unknown = used.contains("collate")
        || merged
            .below
            .clone()
            .any(|index| bears(index) || unseen(index));
    unknown && shown.iter().any(computed)
}

/// The name that the statement knows the source by.
fn alias(source: &TableFactor) -> Option<String> {
    let (TableFactor::Table { alias, .. } | TableFactor::Derived { alias, .. }) = source else {
        return None;
    };
    match (alias, source) {
        (Some(alias), _) => Some(folded(&alias.name)),
        (None, TableFactor::Table { name, .. }) => {
            let last = name.0.last()?.as_ident()?;
            Some(folded(last))
        }
        _ => None,
    }
}

/// The query of these columns of the source.
fn query(merge: &MergeStatement, alias: &str, names: &[String]) -> Option<Box<Query>> {
    let list: Vec<String> = names.iter().map(|name| format!("{alias}.{name}")).collect();
    let mut query = parse::view(&format!("SELECT {}", list.join(", ")))?;
    let SetExpr::Select(select) = &mut *query.body else {
        return None;
    };
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) = item {
            // It stands nowhere in the client's text.
            for part in parts {
                *part = Ident::with_quote('"', &part.value);
            }
        }
    }
    select.from = vec![TableWithJoins {
        relation: merge.source.clone(),
        joins: Vec::new(),
    }];
    Some(query)
}
