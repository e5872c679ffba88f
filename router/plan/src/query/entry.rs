//! One entry of a FROM clause: a table, a function, a subquery, each an instance
//! under its alias.

use sqlparser::ast::{FunctionArg, ObjectName, Query, TableAlias, TableFactor, TableSampleKind};

use crate::expr::{ExprContext, Level};
use crate::functions::{self, Call};
use crate::gather::notes::place_of;
use crate::refuse::{Reason, Refusal, not_understood};
use crate::scope::{Analysis, ColumnInfo, Entry, Instance, Scopes, Source};

use super::OutColumn;
use super::from::{From, Tree};
use super::local::obstacle_of;
use super::with::Ctes;

impl<'n> Analysis<'n> {
    /// One entry of a FROM clause.
    pub fn factor<'q>(
        &mut self,
        factor: &'q TableFactor,
        from: &mut From<'q>,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
    ) -> Result<(Tree<'q>, Vec<OutColumn>), Refusal> {
        let (instance, alias) = match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version: None,
                with_ordinality: _,
                partitions,
                json_path: None,
                sample,
                index_hints,
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => {
                let alias = alias.as_ref();
                match (args, sample) {
                    (Some(args), None) if args.settings.is_none() => {
                        self.table_function(name, &args.args, alias, from, outer, ctes)?
                    }
                    (Some(_), _) => return not_understood(),
                    (None, sample) => {
                        let Some(sample) = sample else {
                            return self.named_table(name, alias, from, ctes);
                        };
                        self.notes.sampled = true;
                        self.sampled(sample, outer, ctes)?;
                        let named = self.named_table(name, alias, from, ctes)?;
                        // Rows or blocks are taken independently, so samples of all shards are one of the whole. Of
                        // copies each shard would take other rows.
                        let apart = matches!(named.0, Tree::Leaf(at) if self.is_sampled_apart(at));
                        if !apart {
                            self.note(Call::Volatile, "tablesample");
                            from.obstacle = Some(Refusal::new(Reason::NotUnderstood));
                        }
                        return Ok(named);
                    }
                }
            }
            TableFactor::Derived {
                lateral,
                subquery,
                alias,
                sample: None,
            } => {
                return self.derived_table(*lateral, subquery, alias.as_ref(), from, outer, ctes);
            }
            TableFactor::Function {
                lateral: _,
                name,
                args,
                with_ordinality: _,
                alias,
            } => self.table_function(name, args, alias.as_ref(), from, outer, ctes)?,
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset: false,
                with_offset_alias: None,
                ..
            } => {
                let mut level = Level::default();
                let mut here = from.here(outer, ctes, &mut level);
                for expr in array_exprs {
                    self.walk(expr, &mut here)?;
                }
                from.hinder(level.unmovable_subquery);
                let instance = self.rows(alias.as_ref())?;
                let name = alias.as_ref().map(|alias| self.ident(&alias.name));
                (instance, name.unwrap_or_else(|| "unnest".to_owned()))
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias: None,
            } => {
                return self.joins(table_with_joins, from, outer, ctes);
            }
            _ => return not_understood(),
        };
        from.complete = false;
        from.scope.entries.push(Entry::named(&alias, instance));
        Ok((Tree::Leaf(instance), Vec::new()))
    }

    /// Whether each row of an instance is on one shard, which samples it itself.
    fn is_sampled_apart(&self, instance: usize) -> bool {
        matches!(self.instances[instance].source, Source::Sharded(..))
            && !self.is_documents(instance)
    }

    fn sampled(
        &mut self,
        sample: &TableSampleKind,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'_>,
    ) -> Result<(), Refusal> {
        let (TableSampleKind::BeforeTableAlias(sample) | TableSampleKind::AfterTableAlias(sample)) =
            sample;
        let mut level = Level::default();
        let mut here = ExprContext::around(outer, ctes, &mut level);
        // Of a method that it does not know the parser makes something else.
        match (&sample.name, &sample.quantity) {
            (Some(_), Some(quantity)) if quantity.parenthesized && quantity.unit.is_none() => {
                self.walk(&quantity.value, &mut here)?;
            }
            _ => return not_understood(),
        }
        Ok(())
    }

    /// A call in FROM: its instance and its name there.
    fn table_function(
        &mut self,
        name: &ObjectName,
        args: &[FunctionArg],
        alias: Option<&TableAlias>,
        from: &mut From<'_>,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'_>,
    ) -> Result<(usize, String), Refusal> {
        let (schema, function) = self.called(name)?;
        self.note(
            functions::call(self.names, schema.as_deref(), &function),
            &function,
        );
        let mut level = Level::default();
        let mut here = from.here(outer, ctes, &mut level);
        for arg in args {
            self.argument(arg, &mut here)?;
        }
        from.hinder(level.unmovable_subquery);
        let instance = self.rows(alias)?;
        let alias = alias.map(|alias| self.ident(&alias.name));
        Ok((instance, alias.unwrap_or(function)))
    }

    /// An instance without a table.
    fn rows(&mut self, alias: Option<&TableAlias>) -> Result<usize, Refusal> {
        let mut columns = Vec::new();
        for column in alias.iter().flat_map(|a| &a.columns) {
            columns.push(ColumnInfo {
                name: self.ident(&column.name),
                key_type: None,
            });
            if let Some(data_type) = &column.data_type {
                self.data_type(data_type)?;
            }
        }
        self.add(Instance {
            source: Source::Rows,
            columns,
            complete: false,
        })
    }

    fn named_table<'q>(
        &mut self,
        name: &'q ObjectName,
        alias: Option<&'q TableAlias>,
        from: &mut From<'q>,
        ctes: &Ctes<'q>,
    ) -> Result<(Tree<'q>, Vec<OutColumn>), Refusal> {
        // FROM ONLY t is read by the parser as a table "only" with an alias.
        if let [part] = name.0.as_slice()
            && part
                .as_ident()
                .is_some_and(|i| i.quote_style.is_none() && i.value.eq_ignore_ascii_case("only"))
        {
            return not_understood();
        }
        let parts = self.object_name(name);
        let (instance, output, view) = self.table(&parts, ctes)?;
        if output.is_none() || view.is_some() {
            self.note_read(name, instance, view);
        } else if let Some(place) = place_of(name) {
            self.notes.ctes.insert(place);
        }
        if let Some(output) = &output {
            from.hinder(obstacle_of(output));
        }
        let schema = match (alias, parts.as_slice()) {
            (None, [.., schema, _]) => Some(schema.clone()),
            (None, [_]) => self.schema_of(instance),
            _ => None,
        };
        self.finish_entry(
            instance,
            alias,
            parts.last().cloned().unwrap_or_default(),
            schema,
            from,
        )
    }

    fn schema_of(&self, instance: usize) -> Option<String> {
        match &self.instances[instance].source {
            Source::Sharded(relation, _) | Source::Reference(relation) => {
                Some(relation.name.schema.clone())
            }
            _ => None,
        }
    }

    fn derived_table<'q>(
        &mut self,
        lateral: bool,
        subquery: &'q Query,
        alias: Option<&'q TableAlias>,
        from: &mut From<'q>,
        outer: Option<&Scopes<'_>>,
        ctes: &Ctes<'q>,
    ) -> Result<(Tree<'q>, Vec<OutColumn>), Refusal> {
        let output = if lateral {
            let scopes = Scopes {
                scope: &from.scope,
                outer,
            };
            self.query(subquery, Some(&scopes), ctes)?
        } else {
            self.query(subquery, outer, ctes)?
        };
        from.hinder(obstacle_of(&output));
        let instance = self.derive(&output)?;
        self.finish_entry(instance, alias, String::new(), None, from)
    }

    /// Renames columns by the alias and makes the entry visible.
    fn finish_entry<'q>(
        &mut self,
        instance: usize,
        alias: Option<&'q TableAlias>,
        own_name: String,
        schema: Option<String>,
        from: &mut From<'q>,
    ) -> Result<(Tree<'q>, Vec<OutColumn>), Refusal> {
        let mut name = own_name;
        if let Some(alias) = alias {
            if alias.at.is_some() {
                return not_understood();
            }
            name = self.ident(&alias.name);
            for (position, column) in alias.columns.iter().enumerate() {
                let renamed = self.ident(&column.name);
                let entry = &mut self.instances[instance];
                match entry.columns.get_mut(position).filter(|_| entry.complete) {
                    Some(info) => info.name = renamed,
                    // Positions are not known: neither are the names.
                    None => {
                        entry.columns.clear();
                        entry.complete = false;
                        break;
                    }
                }
            }
        }
        from.complete &= self.instances[instance].complete;
        from.scope.entries.push(Entry {
            alias: name,
            schema,
            instance,
        });
        Ok((Tree::Leaf(instance), self.star_of(instance)))
    }

    pub(super) fn star_of(&self, instance: usize) -> Vec<OutColumn> {
        let columns = self.instances[instance].columns.iter().enumerate();
        columns
            .map(|(position, column)| OutColumn {
                name: column.name.clone(),
                node: Some((instance, position)),
                constants: None,
                key_type: column.key_type,
            })
            .collect()
    }
}
