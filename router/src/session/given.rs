//! Statements that servers know by the names that the client has given.
//!
//! A session that keeps its server connections to itself needs no names of the router's own: where no tables are
//! declared, what it prepares is prepared on its server as it stands, under the client's name. So `pg_prepared_statements`
//! shows what PostgreSQL would show, and a function that runs EXECUTE finds its statement. A connection that has such
//! names is closed in the end and serves nobody else. Where tables are declared, or the name may be read in another way
//! by a server, a statement has a name of the router's own, as in every other pool mode.

use super::state::Phase;
use super::{Attached, Halt, Session};
use crate::statements::names::{OURS, Prepared};
use mothership_proto::ledger::Audience;
use mothership_shardmap::ShardId;
use mothership_sql::name::NAME_LIMIT;
use std::rc::Rc;

impl Session {
    /// A statement that is about to be prepared by this name, as servers are to know it.
    pub(super) fn given(&self, name: &[u8], statement: Rc<Prepared>) -> Rc<Prepared> {
        match text_of(name).filter(|_| self.gives_names()) {
            Some(name) => self.core.interner.given(&statement, name),
            None => statement,
        }
    }

    /// Whether servers are to know a statement by this name.
    pub(super) fn gives(&self, name: &[u8]) -> bool {
        self.gives_names() && text_of(name).is_some()
    }

    pub(super) fn gives_names(&self) -> bool {
        self.is_session_mode() && self.known.model.is_none()
    }

    /// Whether a server has a statement by the client's name, and it may be run by that. Where tables are declared since,
    /// it may not: a function may have given the name to another one, which nobody has placed.
    pub(super) fn is_there_as_given(&self, statement: &Prepared) -> bool {
        let id = statement.id;
        statement.is_given()
            && self.known.model.is_none()
            && self.servers.iter().any(|s| has(s, id))
    }

    /// The client has dropped a statement: so do the servers that know it by the client's name.
    pub(super) async fn forget_given(&mut self, statement: &Prepared) -> Result<(), Halt> {
        let id = statement.id;
        let Some(name) = &statement.given else {
            return Ok(());
        };
        let shards: Vec<ShardId> = self
            .servers
            .iter()
            .filter(|s| has(s, id))
            .map(|s| s.shard)
            .collect();
        for shard in shards {
            let at = self.attach(shard).await?;
            let segment = self.state.phase == Phase::Segment;
            let attached = &mut self.servers[at];
            if attached.inbox.preparing.contains(&id) {
                // It is noted when the server has confirmed it, which must not be after it is gone.
                attached.lease.flush();
                self.settle(at).await?;
            }
            let Attached { lease, inbox, .. } = &mut self.servers[at];
            lease.notes.prepared.remove(id);
            inbox.in_segment |= segment;
            lease.request(Audience::Router, |send| send.forget(name.as_bytes(), id));
            if !segment {
                lease.flush();
                self.settle(at).await?;
            }
        }
        Ok(())
    }

    /// The client has dropped all of them, and what code of its own has prepared.
    pub(super) async fn forget_all_given(&mut self) -> Result<(), Halt> {
        let wholly = self.gives_names();
        for at in self.servers.ids() {
            let Some(attached) = self.servers.get(at) else {
                break;
            };
            let given = attached.lease.notes.prepared.has_given();
            if !(given || wholly) || !self.topology.is_postgres(attached.shard) {
                continue;
            }
            self.tell(at, "DEALLOCATE ALL").await?;
            if let Some(attached) = self.servers.get_mut(at) {
                attached.lease.notes.prepared.clear();
            }
        }
        Ok(())
    }
}

/// Whether a server has the statement of this number, or was told to prepare it.
fn has(attached: &Attached, id: u64) -> bool {
    attached.lease.notes.prepared.has(id) || attached.inbox.preparing.contains(&id)
}

/// A name that every server reads in one way, in SQL and in messages, and that is none of the router's own.
fn text_of(name: &[u8]) -> Option<&str> {
    let plain = (1..=NAME_LIMIT).contains(&name.len()) && name.is_ascii();
    let name = std::str::from_utf8(name).ok()?;
    (plain && !name.contains('"') && !name.starts_with(OURS)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_may_be_read_in_two_ways_stays_with_the_router() {
        for (name, serves) in [
            ("s1", true),
            ("A name; with 'all'", true),
            (&*"n".repeat(63), true),
            // PostgreSQL cuts it.
            (&*"n".repeat(64), false),
            ("", false),
            ("quo\"ted", false),
            // Its bytes depend on client_encoding.
            ("ä", false),
            ("__mothership_1f", false),
            ("__mothership_arguments", false),
        ] {
            assert_eq!(text_of(name.as_bytes()).is_some(), serves, "{name}");
        }
    }
}
