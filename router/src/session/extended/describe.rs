//! Describe, of statements and of portals.

use crate::core::lists::Describing;
use crate::session::allowed::failed_transaction;
use crate::session::execute::unknown_name;
use crate::session::portals::{Open, Place, no_such_portal};
use crate::session::rules::RuleStage;
use crate::session::simple::named::no_such_statement;
use crate::session::{Halt, Session, malformed};
use mothership_proto::backend;
use mothership_proto::frontend::{self, Target};
use mothership_proto::ledger::Audience;

impl Session {
    pub(in crate::session) async fn on_describe(&mut self, body: &[u8]) -> Result<(), Halt> {
        self.begin_segment().await?;
        self.flush_held().await?;
        let (target, name) = frontend::target(body).map_err(malformed)?;
        match target {
            Target::Statement => self.describe_statement(name).await,
            Target::Portal => self.describe_portal(name).await,
        }
    }

    async fn describe_statement(&mut self, name: &[u8]) -> Result<(), Halt> {
        let Some(statement) = self.state.names.get(name).cloned() else {
            return Err(no_such_statement(name).into());
        };
        let statement = self.meant(&self.with_fixed_types(&statement))?;
        if let Some(inner) = self.state.explained_by(&statement)? {
            return self.describe_explain(&statement, inner);
        }
        if statement.step().is_some_and(|s| self.runs_here(&s.kind)) {
            self.answer(backend::NO_PARAMETERS);
            self.answer(backend::NO_DATA);
            return Ok(());
        }
        self.heed(&statement, RuleStage::Prepared).await?;
        self.check_parsed(&statement.steps)?;
        if unknown_name(&statement).is_some() {
            // What it will run, and so what it will show, is not known yet.
            self.answer(backend::NO_PARAMETERS);
            self.answer(backend::NO_DATA);
            return Ok(());
        }
        self.settle_names_for(statement.step().map(|s| &s.kind))
            .await?;
        let shard = match statement.step() {
            // The columns of FETCH are those of its cursor.
            Some(step) => self.state.cursor_shard(&step.kind)?,
            None => None,
        };
        let shard = shard.unwrap_or(self.topology.home);
        let at = self.attach_to_describe(shard).await?;
        let server_name = self.on_server(at, name, &statement).await?;
        let attached = &mut self.servers[at];
        attached.inbox.in_segment = true;
        attached
            .inbox
            .describing
            .push_back(Describing::Statement(statement));
        attached.lease.request(Audience::Client, |send| {
            send.describe(Target::Statement, server_name.as_bytes());
        });
        Ok(())
    }

    async fn describe_portal(&mut self, name: &[u8]) -> Result<(), Halt> {
        if !name.is_empty() {
            self.settle_names().await?;
            self.look_for_name(name).await?;
        }
        let place = self.state.portals.portal(name).map(|p| p.place.clone());
        // PostgreSQL shows no columns then, be they known.
        let failed = self.state.block.status() == backend::TxStatus::Failed;
        let shard = match place {
            Some(Place::Here) => {
                self.answer(backend::NO_DATA);
                return Ok(());
            }
            Some(Place::Explained(_) | Place::Explaining(_)) if failed => {
                return Err(failed_transaction().into());
            }
            Some(Place::Many(many)) if failed && many.shows => {
                return Err(failed_transaction().into());
            }
            Some(Place::Gathered(portal)) if failed && portal.columns().is_some() => {
                return Err(failed_transaction().into());
            }
            Some(Place::Explained(explained)) => {
                self.answer(explained.columns());
                return Ok(());
            }
            Some(Place::Explaining(portal)) => {
                self.settle_active().await?;
                self.client.send(&portal.columns());
                return Ok(());
            }
            Some(Place::Many(many)) => {
                self.settle_active().await?;
                match many.shows {
                    true => {
                        let columns = many.columns.as_deref().unwrap_or_default();
                        self.client
                            .with_output(|out| backend::put_columns(out, columns));
                    }
                    false => self.client.send(backend::NO_DATA),
                }
                return Ok(());
            }
            Some(Place::Gathered(portal)) => {
                self.settle_active().await?;
                match portal.columns() {
                    Some(columns) => self.client.send(&columns),
                    None => self.client.send(backend::NO_DATA),
                }
                return Ok(());
            }
            Some(Place::Shard(shard)) => shard,
            None if name.is_empty() => match self.servers.failed() {
                Some(at) => self.servers[at].shard,
                None => return Err(no_such_portal(name).into()),
            },
            // A cursor of DECLARE is a portal, too, where its rows are. One that is not there is the server's to report.
            None => match self.state.portals.get(name).and_then(Open::shard) {
                Some(shard) => shard,
                None => self.servers.shard_of_unknown(&self.topology),
            },
        };
        let at = self.attach(shard).await?;
        let attached = &mut self.servers[at];
        attached.inbox.in_segment = true;
        attached.inbox.describing.push_back(Describing::Portal);
        let lease = &mut attached.lease;
        if !failed || lease.status == backend::TxStatus::Failed {
            lease.request(Audience::Client, |send| send.describe(Target::Portal, name));
            return Ok(());
        }
        // Its server knows nothing of the failure.
        lease.request(Audience::Router, |send| {
            send.describe(Target::Portal, name);
            send.flush();
        });
        if self.described(at).await?.is_some() {
            return Err(failed_transaction().into());
        }
        self.client.send(backend::NO_DATA);
        Ok(())
    }
}
