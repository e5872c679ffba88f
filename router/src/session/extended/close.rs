//! Close, of statements and of portals.

use crate::session::portals::{Open, Place};
use crate::session::{Halt, Session, malformed};
use mothership_proto::backend;
use mothership_proto::frontend::{self, Target};
use mothership_proto::ledger::Audience;
use mothership_shardmap::ShardId;

impl Session {
    pub(in crate::session) async fn on_close(&mut self, body: &[u8]) -> Result<(), Halt> {
        self.begin_segment().await?;
        self.flush_held().await?;
        let (target, name) = frontend::target(body).map_err(malformed)?;
        match target {
            Target::Statement => {
                let statement = self.state.names.get(name).cloned();
                self.state.names.close(name);
                if let Some(statement) = statement.filter(|statement| statement.is_given()) {
                    self.forget_given(&statement).await?;
                }
                self.answer(backend::CLOSE_COMPLETE);
            }
            Target::Portal => self.close_portal(name).await?,
        }
        Ok(())
    }

    async fn close_portal(&mut self, name: &[u8]) -> Result<(), Halt> {
        if !name.is_empty() {
            self.settle_names().await?;
        }
        let place = self.state.portals.portal(name).map(|p| p.place.clone());
        let shard = match &place {
            Some(Place::Shard(shard)) => Some(*shard),
            Some(_) => None,
            None => self.state.portals.get(name).and_then(Open::shard),
        };
        if self.state.portals.is_held(name) {
            // Behind an error its server would skip the Close, and still have the cursor.
            self.settle_active().await?;
        }
        self.state.portals.close(name);
        match (place, shard) {
            (_, Some(shard)) => return self.close_on_server(shard, name).await,
            (Some(Place::Many(portal)), None) => {
                self.settle_active().await?;
                self.servers.send_closes(&self.state, name, portal.shards());
                self.client.send(backend::CLOSE_COMPLETE);
            }
            (Some(_), None) => self.close_nothing(),
            // It may be a function's, and then it is closed as well.
            (None, None) if !name.is_empty() => match self.servers.only() {
                None if self.servers.is_empty() => self.close_nothing(),
                Some(only) => return self.close_on_server(only.shard, name).await,
                None => {
                    let shards: Vec<ShardId> = self.servers.iter().map(|s| s.shard).collect();
                    self.settle_active().await?;
                    self.servers
                        .send_closes(&self.state, name, shards.into_iter());
                    self.client.send(backend::CLOSE_COMPLETE);
                }
            },
            (None, None) => self.close_nothing(),
        }
        Ok(())
    }

    async fn close_on_server(&mut self, shard: ShardId, name: &[u8]) -> Result<(), Halt> {
        if !self.servers.iter().any(|s| s.shard == shard) {
            self.close_nothing();
            return Ok(());
        }
        let at = self.attach(shard).await?;
        let lease = &mut self.servers[at].lease;
        lease.request(Audience::Client, |send| send.close(Target::Portal, name));
        Ok(())
    }

    fn close_nothing(&mut self) {
        if self
            .servers
            .active
            .is_some_and(|at| !self.servers[at].lease.ledger().is_empty())
        {
            self.state.names.close_nothing();
            self.answer(backend::CLOSE_COMPLETE);
        } else {
            self.client.send(backend::CLOSE_COMPLETE);
        }
    }
}
