//! The rows of an INSERT's query, divided by the shards that own their keys.

use super::GatherWork;
use super::fetch::too_much;
use crate::session::dispatch::refused;
use mothership_catalog::types::builtin_name;
use mothership_merge::Arrays;
use mothership_plan::condition::Scalar;
use mothership_plan::gather::Store;
use mothership_plan::refuse::Reason;
use mothership_plan::route::{owner, stored_key};
use mothership_plan::{Params, Refusal, TextContext};
use mothership_proto::backend;
use mothership_proto::report::{Report, sqlstate};
use mothership_shardmap::ShardId;
use std::collections::BTreeMap;

/// The rows of a query on their way to the shards that own them.
pub(super) struct Dividing<'s> {
    store: &'s Store,
    /// The types of the query's columns, and what they are called.
    pub elements: Vec<u32>,
    names: Vec<String>,
    pub shards: BTreeMap<ShardId, Arrays>,
    /// For each row the shard that stores it, where one does.
    pub order: Vec<ShardId>,
    rows_left: u64,
    bytes_left: usize,
    pub wrong: Option<Report>,
}

impl<'s> Dividing<'s> {
    pub(super) fn new(store: &'s Store, (rows_left, bytes_left): &(u64, usize)) -> Self {
        Dividing {
            store,
            elements: Vec::new(),
            names: Vec::new(),
            shards: BTreeMap::new(),
            order: Vec::new(),
            rows_left: *rows_left,
            bytes_left: *bytes_left,
            wrong: None,
        }
    }

    pub(super) fn columns(&mut self, body: &[u8]) {
        let columns = backend::columns(body).unwrap_or_default();
        let names = columns
            .iter()
            .zip(&self.store.columns)
            .map(|(found, wanted)| match found.type_oid == wanted.oid {
                true => Some(wanted.name.clone()),
                // The binary form of XML is not what is stored.
                false => builtin_name(found.type_oid)
                    .filter(|name| *name != "xml")
                    .map(str::to_owned),
            });
        match names.collect::<Option<Vec<_>>>() {
            Some(names) if columns.len() == self.store.columns.len() => {
                self.elements = columns.iter().map(|c| c.type_oid).collect();
                self.names = names;
            }
            _ => {
                let detail = "its columns are not those of the table";
                self.wrong = Some(refused(&Refusal::about(Reason::InsertSelect, detail)));
            }
        }
    }

    pub(super) fn row(&mut self, body: &[u8], all: &[ShardId], context: &TextContext) {
        if self.wrong.is_some() {
            return;
        }
        if let Err(report) = self.place(body, all, context) {
            self.wrong = Some(report);
            self.shards.clear();
        }
    }

    fn place(&mut self, body: &[u8], all: &[ShardId], context: &TextContext) -> Result<(), Report> {
        let shards: Vec<ShardId> = match &self.store.sharded {
            None => all.to_vec(),
            Some(sharded) if self.store.documents && self.store.key.is_empty() => {
                let only = sharded.0.shards.single();
                only.into_iter().collect()
            }
            Some(sharded) => {
                let malformed =
                    |_| Report::error(sqlstate::INTERNAL_ERROR, "server sent a malformed message");
                let values = backend::row_values(body).map_err(malformed)?;
                let scalars: Vec<Scalar> = self
                    .store
                    .key
                    .iter()
                    .map(|at| Scalar::Param {
                        number: u16::try_from(*at + 1).unwrap_or(0),
                        as_type: self.elements.get(*at).copied().unwrap_or(0),
                    })
                    .collect();
                let params = Params {
                    formats: &[1],
                    values: &values,
                    ..Params::NONE
                };
                let key = stored_key(
                    &scalars,
                    &sharded.0,
                    &self.store.max_chars,
                    &params,
                    context,
                );
                let key = match key {
                    Err(refusal) if self.store.nulls.refuses(&refusal) => {
                        return Err(refused(&refusal));
                    }
                    Err(_) => None,
                    // It was not read as a value of the key's type.
                    Ok(None) => return Err(refused(&Refusal::new(Reason::InsertKey))),
                    Ok(key) => key,
                };
                let owner = key.map(|key| owner(&sharded.0, &key));
                let shard = owner.transpose().map_err(|refusal| refused(&refusal))?;
                let first = all.first().copied();
                shard.or(first).into_iter().collect()
            }
        };
        if let [shard] = shards.as_slice() {
            self.order.push(*shard);
        }
        let mut added = 0;
        for shard in shards {
            let arrays = self.shards.entry(shard);
            let arrays = arrays.or_insert_with(|| Arrays::new(&self.elements));
            let taken = arrays.add(body);
            added = taken
                .map_err(|error| Report::error(sqlstate::INTERNAL_ERROR, error.to_string()))?;
        }
        let rows = self.rows_left.checked_sub(1);
        self.rows_left = rows.ok_or_else(|| too_much("rows", "limits.gathered_rows"))?;
        let bytes = self.bytes_left.checked_sub(added);
        self.bytes_left = bytes.ok_or_else(|| too_much("bytes", "limits.gathered_size"))?;
        Ok(())
    }

    /// The INSERT of one shard's rows; its arrays are the parameters behind the statement's own.
    pub(super) fn statement(&self, work: &GatherWork, given: usize) -> String {
        let before = given.min(work.plan.parameters);
        let lists = self.names.iter().zip(&self.store.columns).enumerate();
        let lists = lists.map(|(at, (name, column))| column.unnested(before + at + 1, name));
        let lists: Vec<String> = lists.collect();
        format!("{}SELECT {}{}", work.head, lists.join(", "), work.tail)
    }
}
