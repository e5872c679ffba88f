//! Close, of statements and of portals.

use crate::session::state::Place;
use crate::session::{Halt, Session, malformed};
use mothership_proto::backend;
use mothership_proto::frontend::{self, Target};
use mothership_proto::ledger::{Audience, Owed};

impl Session {
    pub(in crate::session) async fn on_close(&mut self, body: &[u8]) -> Result<(), Halt> {
        self.begin_segment().await?;
        self.flush_held().await?;
        let (target, name) = frontend::target(body).map_err(malformed)?;
        match target {
            Target::Statement => {
                self.state.names.close(name);
                self.answer(backend::CLOSE_COMPLETE);
            }
            Target::Portal => match self.state.portals.remove(name).map(|p| p.place) {
                Some(Place::Shard(shard)) => self.close_portal(shard, name),
                Some(Place::Many(portal)) => {
                    self.settle_active().await?;
                    for (shard, _) in &portal.many.legs {
                        if let Some(attached) = self.servers.iter_mut().find(|s| s.shard == *shard)
                        {
                            attached
                                .lease
                                .wire
                                .with_output(|out| frontend::put_close(out, Target::Portal, name));
                            attached.lease.ledger.push(Owed::Close(Audience::Router));
                        }
                    }
                    self.client.send(backend::CLOSE_COMPLETE);
                }
                Some(
                    Place::Here | Place::Explained(_) | Place::Explaining(_) | Place::Gathered(_),
                )
                | None => self.close_nothing(),
            },
        }
        Ok(())
    }

    fn close_portal(&mut self, shard: usize, name: &[u8]) {
        match self.servers.iter().position(|s| s.shard == shard) {
            Some(at) if self.active == Some(at) => {
                let lease = &mut self.servers[at].lease;
                lease
                    .wire
                    .with_output(|out| frontend::put_close(out, Target::Portal, name));
                lease.ledger.push(Owed::Close(Audience::Client));
            }
            _ => self.close_nothing(),
        }
    }

    fn close_nothing(&mut self) {
        if self
            .active
            .is_some_and(|at| !self.servers[at].lease.ledger.is_empty())
        {
            self.state.names.close_nothing();
            self.answer(backend::CLOSE_COMPLETE);
        } else {
            self.client.send(backend::CLOSE_COMPLETE);
        }
    }
}
