//! Databases in which nobody may be: PostgreSQL drops, renames, moves and copies a database only while no session is in
//! it. Connections that the router keeps there for nobody are not sessions of a client, so they are closed first.

use super::Session;
use crate::core::Core;
use crate::statements::names::Prepared;
use std::rc::Rc;
use std::sync::Arc;

/// Whether a role may do any of it to a database: its owner, a superuser among them, and whoever makes databases.
const MAY: &str = "SELECT pg_catalog.pg_has_role(r.oid, d.datdba, 'USAGE') OR r.rolcreatedb \
    FROM pg_catalog.pg_database d, pg_catalog.pg_roles r \
    WHERE d.datname OPERATOR(pg_catalog.=) $1::pg_catalog.text AND r.rolname OPERATOR(pg_catalog.=) $2::pg_catalog.text";

impl Session {
    /// Closes what lies idle in a database that a statement wants to be empty, if the client's role may have it so.
    /// Sessions of clients stay: PostgreSQL names them in its error, as it does without a router.
    pub(super) async fn leave_databases(&self, statement: &Prepared) {
        let names = statement
            .steps
            .iter()
            .filter_map(|step| step.empties.as_deref());
        for name in names {
            // PostgreSQL has the last word on whoever may not.
            if !Box::pin(self.may_empty(name)).await {
                continue;
            }
            let name: Arc<str> = name.into();
            self.core.shared.leave_alone(&name);
            let leave = move |core: &Rc<Core>| core.leave_database(&name);
            self.core.shared.ask(leave).await;
        }
    }

    /// Asks the home shard, by the role that the client logged in with.
    async fn may_empty(&self, database: &str) -> bool {
        let control = &self.topology.config.control;
        let topology = &self.topology;
        let lent = self
            .core
            .control
            .lend(topology, topology.home, control.database.as_str());
        let Ok(client) = lent.await else {
            return false;
        };
        let role = &*self.entry.who.names.server_user;
        let of: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&database, &role];
        let asked = client.ask(client.query(MAY, &of));
        let rows = tokio::time::timeout(control.timeout, asked).await;
        let Ok(Ok(rows)) = rows else {
            return false;
        };
        rows.iter()
            .any(|row| row.try_get::<_, bool>(0).is_ok_and(|may| may))
    }
}
