//! What a name in a FROM clause reads: a table, a view, a CTE; and the instances
//! that stand for the rows of queries.

use std::rc::Rc;

use mothership_shardmap::KeyType;
use sqlparser::ast::Query;

use crate::condition::{Cond, Item};
use crate::decide::colocated;
use crate::expr::ExprContext;
use crate::functions::Call;
use crate::gather::notes::{Computed, View};
use crate::names::{Place, Resolved};
use crate::parse::{self, Size};
use crate::policy::{self, PolicyReads};
use crate::refuse::{Reason, Refusal, refuse};
use crate::scope::{Analysis, ColumnInfo, Instance, Link, Locks, Source, StatementFindings};
use crate::{SHORT, STACK};
use mothership_catalog::{Persistence, Relation, RelationKind};

use super::with::Ctes;
use super::{Local, Open, Output};

/// The stack that a text of [`SHORT`] needs at most.
const FOR_SHORT: usize = 1 << 20;

impl<'n> Analysis<'n> {
    /// The instance of a table, view or CTE; the output of a view or CTE as well, and which view it is.
    #[allow(clippy::type_complexity)]
    pub(super) fn table(
        &mut self,
        parts: &[String],
        ctes: &Ctes<'_>,
    ) -> Result<(usize, Option<Output>, Option<View<'n>>), Refusal> {
        if let [name] = parts
            && let Some(node) = ctes.find(name)
        {
            let node = Rc::clone(node);
            let (instance, output) = self.cte_reference(&node)?;
            return Ok((instance, output, None));
        }
        match self.names.resolve(parts, self.context) {
            Resolved::Relation(relation, place) => {
                let (instance, shown) = self.relation(relation, place)?;
                let (output, view) = shown.unzip();
                Ok((instance, output, view))
            }
            Resolved::System => {
                let name = parts.last().map(String::as_str).unwrap_or_default();
                if name == "pg_prepared_xacts" && self.is_over_shards() {
                    return Err(Refusal::new(Reason::PreparedOverShards));
                }
                self.seen.catalogs = true;
                Ok((self.add_unseen(parts.join("."))?, None, None))
            }
            Resolved::Temporary => {
                self.seen.not_on_replicas = true;
                let name = parts.last().cloned().unwrap_or_default();
                if parts.len() == 1 {
                    // Where it is gone by now, the name may be that of a table which is not known yet.
                    self.seen.unknown.insert(name.clone());
                }
                Ok((self.add_unseen(name)?, None, None))
            }
            Resolved::Unknown(name) => {
                self.seen.unknown.insert(name.clone());
                Ok((self.add_unseen(name)?, None, None))
            }
            Resolved::Missing(name) => Err(Refusal::of_table(Reason::NotInCatalog, &name)),
            Resolved::KeyGone(name, reason) => Err(Refusal::of_table(reason, &name)),
            Resolved::Unread(name) => Err(Refusal::of_table(Reason::Unread, &name)),
            Resolved::Unclear => Err(Refusal::about(Reason::NameUnclear, parts.join("."))),
        }
    }

    pub(super) fn relation(
        &mut self,
        relation: &'n Relation,
        place: Place,
    ) -> Result<(usize, Option<(Output, View<'n>)>), Refusal> {
        // The log of a sequence runs ahead of its values, so a standby has later ones.
        if relation.persistence != Persistence::Permanent
            || matches!(
                relation.kind,
                RelationKind::ForeignTable | RelationKind::Sequence
            )
        {
            self.seen.not_on_replicas = true;
        }
        if relation.kind == RelationKind::View {
            return self.view(relation);
        }
        self.row_security(relation, &place)?;
        Ok((self.add_relation(relation, place)?, None))
    }

    /// An instance of a table of the home shard whose columns are not known.
    fn add_unseen(&mut self, name: String) -> Result<usize, Refusal> {
        self.add(Instance {
            source: Source::Home(name),
            columns: Vec::new(),
            complete: false,
        })
    }

    /// An instance of a relation of the catalog.
    pub fn add_relation(&mut self, relation: &'n Relation, place: Place) -> Result<usize, Refusal> {
        let source = match place {
            Place::Sharded(keyed) => Source::Sharded(relation, keyed),
            Place::Reference => Source::Reference(relation),
            Place::Home => Source::Home(relation.name.to_string()),
        };
        self.add(Instance {
            source,
            columns: self.columns_of(relation),
            complete: true,
        })
    }

    /// A relation's columns as the planner sees them.
    pub fn columns_of(&self, relation: &Relation) -> Vec<ColumnInfo> {
        let info = relation.columns.iter().map(|column| ColumnInfo {
            name: column.name.clone(),
            key_type: KeyType::from_oid(self.names.catalog.base_type(column.type_oid))
                .filter(|_| column.collation.is_deterministic()),
        });
        info.collect()
    }

    /// Refuses policies that look at tables of other shards.
    pub fn row_security(&mut self, relation: &Relation, place: &Place) -> Result<(), Refusal> {
        if matches!(place, Place::Home) && !self.names.anything_declared() {
            return Ok(());
        }
        match policy::reads(relation, place, self.names, self.context) {
            PolicyReads::Nothing => Ok(()),
            PolicyReads::Copies => {
                self.seen.secured_by_copies = true;
                Ok(())
            }
            PolicyReads::Unproven => Err(Refusal::of_table(Reason::RowSecurity, &relation.name)),
        }
    }

    /// A view is its definition as a subquery: what that may not do, the view may not either.
    #[allow(clippy::type_complexity)]
    fn view(
        &mut self,
        relation: &'n Relation,
    ) -> Result<(usize, Option<(Output, View<'n>)>), Refusal> {
        self.seen.views = true;
        let definition = relation.definition.as_deref().unwrap_or_default();
        let known = |text: &str| self.names.mentions_known(text);
        let home = !known(definition) && !known(&relation.name.name);
        let unknown = || {
            Refusal::about(
                Reason::NotUnderstood,
                format!("view \"{}\"", relation.name.name),
            )
        };
        let first = self.instances.len();
        let around = std::mem::take(&mut self.seen);
        let walk = || match parse::view_at(definition, 0) {
            None => Err(unknown()),
            Some((parsed, tokens)) => {
                self.views = self.views.and(Size::of(&tokens));
                if !self.views.is_affordable() {
                    return refuse(Reason::TooComplex);
                }
                drop(tokens);
                // A view's names are qualified by pg_get_viewdef; its columns may have been renamed.
                self.in_view += 1;
                let output = self.query(&parsed, None, &Ctes::default());
                self.in_view -= 1;
                output
            }
        };
        // Views within views: each may need as much of the stack as a statement.
        let output = match definition.len() <= SHORT {
            true => stacker::maybe_grow(FOR_SHORT, STACK, walk),
            false => stacker::grow(STACK, walk),
        };
        let seen = std::mem::replace(&mut self.seen, around);
        let computed = match &output {
            Ok(output) => self.computed(first, output, &seen),
            Err(_) => Computed::Together,
        };
        let timed = seen.calls.contains_key(&Call::Time);
        self.seen.add(seen);
        let mut output = match output {
            Err(_) if home => {
                // It is certain where it is read, but not whether it only reads.
                self.note(Call::Volatile, &relation.name.name);
                return Ok((self.add_relation(relation, Place::Home)?, None));
            }
            output => output?,
        };
        let read = &self.instances[first..];
        if read
            .iter()
            .all(|instance| matches!(instance.source, Source::Derived | Source::Rows))
        {
            // What it shows could be computed anywhere, but only the home shard is sure to have the view.
            return Ok((self.add_relation(relation, Place::Home)?, None));
        }
        if output.complete && output.columns.len() == relation.columns.len() {
            for (out, column) in output.columns.iter_mut().zip(&relation.columns) {
                out.name.clone_from(&column.name);
            }
        } else {
            output.columns.clear();
            output.complete = false;
        }
        let view = View {
            relation,
            computed,
            timed,
            secured: self.secured(first),
        };
        Ok((self.derive(&output)?, Some((output, view))))
    }

    /// Who may compute the rows of a view whose instances are those from `first` on. Here is all that is known of it: a
    /// condition of the statement around it may make more of it movable, but is no part of the view.
    fn computed(&self, first: usize, output: &Output, seen: &StatementFindings) -> Computed {
        let at_home = |instance: &Instance<'_>| matches!(instance.source, Source::Home(_));
        let sharded = self.sharded().map(|(index, _, _)| index);
        let sharded: Vec<usize> = sharded.filter(|index| *index >= first).collect();
        let along_the_key = || sharded.iter().any(|root| colocated(self, *root, &sharded));
        let apart = output.sharded
            && output.local == Local::Rows
            && seen.calls.keys().all(|call| *call == Call::Harmless)
            && seen.locks == Locks::No
            && !seen.writes
            && !self.instances[first..].iter().any(at_home)
            && !(first..self.instances.len()).any(|instance| self.is_documents(instance))
            && along_the_key();
        match apart {
            true => Computed::Apart,
            false => Computed::Together,
        }
    }

    /// Whether row security guards one of the tables from `first` on, or may do so.
    fn secured(&self, first: usize) -> bool {
        let mut instances = self.instances[first..].iter();
        instances.any(|instance| {
            let relation = match &instance.source {
                Source::Sharded(relation, _) | Source::Reference(relation) => Some(*relation),
                Source::Home(name) => self.at_home(name),
                Source::Derived | Source::Rows => return false,
            };
            relation.is_none_or(|relation| relation.row_security.is_some())
        })
    }

    /// An instance that stands for a subquery's rows.
    pub fn derive(&mut self, output: &Output) -> Result<usize, Refusal> {
        let columns = output
            .columns
            .iter()
            .map(|c| ColumnInfo {
                name: c.name.clone(),
                key_type: c.key_type,
            })
            .collect();
        let instance = self.add(Instance {
            source: Source::Derived,
            columns,
            complete: output.complete,
        })?;
        for (position, column) in output.columns.iter().enumerate() {
            let here = (instance, position);
            if let Some(node) = column.node {
                self.notes.shown.insert(here, node);
                // The column's values are among its source's, whatever else the query does.
                self.links.push(Link {
                    from: node,
                    to: here,
                    by_row: true,
                });
                // Taking source rows away removes exactly their output rows.
                // A column of a query around this one is not restricted by what is asked of its copy.
                let open = match &output.open {
                    _ if node.0 < output.first_instance => false,
                    Open::All => true,
                    Open::Only(nodes) => nodes.contains(&node),
                    Open::None => false,
                };
                if open {
                    self.links.push(Link {
                        from: here,
                        to: node,
                        by_row: true,
                    });
                }
            }
            if let Some(constants) = &column.constants {
                let items = constants.iter().cloned().map(Item::One).collect();
                self.facts.push((
                    instance,
                    Cond::In {
                        column: position,
                        items,
                        nulls_match: false,
                    },
                ));
            }
        }
        if output.sharded {
            self.sharded_below.insert(instance);
        }
        Ok(instance)
    }

    /// Whether an instance is a sharded table, or a subquery over one.
    pub fn reads_sharded(&self, instance: usize) -> bool {
        matches!(self.instances[instance].source, Source::Sharded(..))
            || self.sharded_below.contains(&instance)
    }

    /// A subquery in an expression, as an instance.
    pub fn subquery(
        &mut self,
        query: &Query,
        here: &mut ExprContext<'_>,
    ) -> Result<Output, Refusal> {
        let before = self.aggregates_around;
        let output = self.query(query, Some(&here.scopes), here.ctes)?;
        // Which of the queries around it belongs to is not told apart.
        here.level.aggregates |= self.aggregates_around > before;
        if output.sharded {
            here.level.unmovable_subquery = Some(Refusal::new(Reason::Subquery));
        } else if here.level.unmovable_subquery.is_none() {
            here.level.unmovable_subquery.clone_from(&output.unstable);
        }
        let instance = self.derive(&output)?;
        self.subqueries
            .insert(std::ptr::from_ref(query) as usize, instance);
        Ok(output)
    }
}
