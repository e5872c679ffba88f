//! Makes statements known to servers, under our names: when a client parses them, and anew on a server that has not seen
//! them.

use crate::core::Lease;
use crate::core::lists::Describing;
use crate::session::servers::AttachedId;
use crate::session::settled::SettingsApplied;
use crate::session::{Halt, Servers, Session};
use crate::statements::names::{Origin, Prepared};
use crate::topology::Topology;
use mothership_proto::frontend::{Parse, Target};
use mothership_proto::ledger::Audience;
use mothership_proto::report::{Report, sqlstate};
use std::rc::Rc;

/// The portal of the router's own statements within a segment.
const OWN_PORTAL: &[u8] = b"mothership";

impl Servers {
    /// Drops the least recently used statement of a connection that has too many.
    pub(in crate::session) fn make_room(&mut self, topology: &Topology, at: AttachedId) {
        let limit = topology.config.pool.prepared_statements as usize;
        let attached = &mut self[at];
        let pending = attached.inbox.preparing.len();
        let Some(id) = attached
            .lease
            .notes
            .prepared
            .surplus(limit.saturating_sub(pending + 1))
        else {
            return;
        };
        forget(&mut attached.lease, id);
    }

    pub(super) fn send_parse(
        &mut self,
        topology: &Topology,
        at: AttachedId,
        statement: &Rc<Prepared>,
        named: bool,
        to: Audience,
    ) {
        let Origin::Parse(types) = &statement.origin else {
            debug_assert!(false, "only what was parsed is parsed again");
            return;
        };
        self.make_room(topology, at);
        let attached = &mut self[at];
        attached.inbox.in_segment = true;
        let name = if named { statement.server_name() } else { "" };
        let types = attached.inbox.types_on_shard(types);
        let parse = Parse {
            name: name.as_bytes(),
            sql: &statement.sql,
            types: &types,
        };
        attached
            .lease
            .request(to, |send| send.parse_numbered(&parse, statement.id));
        if named {
            attached.inbox.preparing.push(statement.id);
            if statement.parameter_types.get().is_none() && statement.has_open_types() {
                let asks = Describing::Types(Rc::clone(statement));
                attached.inbox.describing.push_back(asks);
                attached.lease.request(Audience::Router, |send| {
                    send.describe(Target::Statement, name.as_bytes());
                });
            }
        }
    }
}

impl Session {
    /// Makes a statement of the client known to this server, if it is not yet.
    pub(in crate::session) async fn ensure_prepared(
        &mut self,
        at: AttachedId,
        statement: &Rc<Prepared>,
    ) -> Result<(), Halt> {
        let attached = &mut self.servers[at];
        if attached.lease.notes.prepared.touch(statement.id)
            || attached.inbox.preparing.contains(&statement.id)
        {
            return Ok(());
        }
        match &statement.origin {
            Origin::Parse(_) => self.parse_again(at, statement, true).await,
            _ => {
                self.servers.make_room(&self.topology, at);
                let brought = self.bring_as_parsed(at, statement).await?;
                let text = statement.definition();
                self.run_quietly(at, &text).await?;
                self.servers[at].lease.notes.prepared.insert(statement.id);
                self.bring_as_it_was(at, brought).await
            }
        }
    }

    /// Runs a statement of the router inside of the client's segment and waits.
    pub(in crate::session) async fn run_quietly(
        &mut self,
        at: AttachedId,
        sql: &[u8],
    ) -> Result<(), Halt> {
        if self.servers[at].lease.ledger().is_skipping() {
            // The client has heard the error, and the server reads nothing before the Sync.
            return Err(Halt::Failed);
        }
        self.servers[at].inbox.in_segment = true;
        put_quietly(&mut self.servers[at].lease, sql);
        self.settle(at).await
    }

    /// Parses a known statement on another server. If the server describes it
    /// otherwise than the first one did, the client's idea of its columns is wrong:
    /// PostgreSQL says so for a plan that outlived a change of its table.
    async fn parse_again(
        &mut self,
        at: AttachedId,
        statement: &Rc<Prepared>,
        named: bool,
    ) -> Result<(), Halt> {
        let brought = self.bring_as_parsed(at, statement).await?;
        self.servers
            .send_parse(&self.topology, at, statement, named, Audience::Router);
        if brought != SettingsApplied::Not {
            self.servers[at].lease.flush();
            self.settle(at).await?;
            self.bring_as_it_was(at, brought).await?;
        }
        if statement.described.get().is_none() {
            return Ok(());
        }
        let name = if named { statement.server_name() } else { "" };
        let attached = &mut self.servers[at];
        attached.inbox.changed = false;
        attached
            .inbox
            .describing
            .push_back(Describing::Statement(Rc::clone(statement)));
        attached.lease.request(Audience::Router, |send| {
            send.describe(Target::Statement, name.as_bytes());
            send.flush();
        });
        self.settle(at).await?;
        let attached = &mut self.servers[at];
        if std::mem::take(&mut attached.inbox.changed) {
            // The next run fails as well.
            match named {
                true => forget(&mut attached.lease, statement.id),
                false => attached.lease.unnamed = None,
            }
            return Err(Report::error(
                sqlstate::FEATURE_NOT_SUPPORTED,
                "cached plan must not change result type",
            )
            // asyncpg tells this case from others by the routine.
            .routine("RevalidateCachedQuery")
            .into());
        }
        Ok(())
    }

    /// Sees to it that a statement which goes to several shards has the columns that its client was told, after a change of
    /// definitions. Servers that prepare it themselves are asked then; these may get other texts.
    pub(in crate::session) async fn check_described(
        &mut self,
        statement: &Rc<Prepared>,
    ) -> Result<(), Halt> {
        let epoch = self.epoch();
        if statement.described.get().is_none() || statement.described_in.get() == epoch {
            return Ok(());
        }
        self.flush_held().await?;
        self.settle_active().await?;
        let home = self.topology.home;
        self.join_segment(Some(home), false).await?;
        let at = self.attach_to_describe(home).await?;
        self.parse_again(at, statement, false).await?;
        statement.described_in.set(epoch);
        Ok(())
    }

    /// The statement of a name, known to the server `at`, and its name there.
    pub(in crate::session) async fn on_server(
        &mut self,
        at: AttachedId,
        name: &[u8],
        statement: &Rc<Prepared>,
    ) -> Result<String, Halt> {
        if let Some(runs) = &statement.runs {
            self.ensure_prepared(at, &runs.body).await?;
        }
        if !name.is_empty() {
            self.ensure_prepared(at, statement).await?;
            return Ok(statement.server_name().to_owned());
        }
        if self.servers[at].lease.unnamed != Some(statement.id) {
            self.parse_again(at, statement, false).await?;
        }
        Ok(String::new())
    }
}

/// Closes a statement on a connection.
fn forget(lease: &mut Lease, id: u64) {
    lease.notes.prepared.remove(id);
    let name = crate::statements::names::server_name(id);
    lease.request(Audience::Router, |send| send.forget(name.as_bytes(), id));
}

/// Sends a statement of the router's own within a segment. Its answers are owed to the router.
pub(in crate::session) fn put_quietly(lease: &mut Lease, sql: &[u8]) {
    lease.request(Audience::Router, |send| {
        send.parse(sql, &[]);
        // The unnamed portal may be the client's, bound and not executed yet.
        send.plain_bind(OWN_PORTAL, b"");
        send.execute(OWN_PORTAL, 0);
        send.close(Target::Portal, OWN_PORTAL);
        send.flush();
    });
}
